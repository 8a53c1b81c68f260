"""Uploads: forms cost little to read, and what nobody waits for any more is neither worked on nor kept in memory."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import suppress
from functools import partial

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("python_multipart")

from yolo_lite.serve.bodies import collector
from yolo_lite.serve.engine import Engine
from yolo_lite.serve.limits import Limits, RefusedError
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


@pytest.mark.parametrize("part", [b"\r\n", b"a", b"\r", b"A: b\r\n", b"\r\n--x"])
@pytest.mark.parametrize("start", [b"", b"--xyz\r\n", b"--xyz\r\nContent-Disposition: form-data; name=image\r\n\r\n"])
def test_no_form_keeps_the_server_busy(start: bytes, part: bytes) -> None:
    """python-multipart 0.0.18 took half a second for four million bytes of line ends before the first boundary."""
    form, content = collector("multipart/form-data; boundary=xyz"), start + part * (4_000_000 // len(part))
    began = time.process_time()
    with suppress(RefusedError):
        for place in range(0, len(content), 65_536):
            form.feed(content[place : place + 65_536])
    assert time.process_time() - began < 0.25
