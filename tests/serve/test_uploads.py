"""Threads for images: what nobody waits for any more is neither worked on nor kept in memory."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("python_multipart")

from yolo_lite.serve.engine import Engine
from yolo_lite.serve.limits import Limits
from yolo_lite.serve.uploads import Uploads
from yolo_lite.structures.geometry import Image


@pytest.fixture
def uploads() -> Iterator[Uploads]:
    engine = Engine(queue=4)
    uploads = Uploads(engine, Limits())
    yield uploads
    uploads.close()
    engine.close()


def test_an_image_that_waits_for_a_thread_is_dropped_with_its_request(uploads: Uploads) -> None:
    """Its bytes count no longer, so a crowd of clients that hang up must not fill the memory."""
    gate, called = threading.Event(), list[Image]()

    async def scenario() -> None:
        busy = [asyncio.ensure_future(uploads.in_pool(partial(gate.wait, 30))) for _ in range(64)]
        image = np.zeros((9, 9, 3), np.uint8)
        ghost = weakref.ref(image)
        waiting = asyncio.ensure_future(uploads.in_pool(partial(called.append, image)))
        del image
        await asyncio.sleep(0.05)
        assert ghost() is not None
        waiting.cancel()
        await asyncio.wait((waiting,))
        del waiting
        assert ghost() is None
        gate.set()
        assert all(await asyncio.gather(*busy))

    asyncio.run(scenario())
    assert called == []
