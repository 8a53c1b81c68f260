"""A server on a real port of this machine, and a client that says exactly what goes over the wire."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
pytest.importorskip("python_multipart")

from tests.loopback import no_network, wait_for_port
from yolo_lite.media.writers import encode_image
from yolo_lite.serve.application import Access, Application
from yolo_lite.serve.limits import Limits
from yolo_lite.serve.models import Choices, Model, Models, open_models
from yolo_lite.structures.results import Classification, Detections

__all__ = ["no_network"]
NETWORK = "yolo_lite-shuffle-coco"


class Answer(NamedTuple):
    """An answer of the server."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The sentence that explains a refusal."""
        document = self.document
        assert set(document) == {"error"}
        return str(document["error"])


class Server:
    """A running server."""

    def __init__(self, port: int, application: Application) -> None:
        self.port, self.application = port, application

    def ask(
        self, method: str, path: str, *, body: Any = None, headers: dict[str, str] | None = None, seconds: float = 30
    ) -> Answer:
        """Send a request over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request(method, path, body=body, headers=headers or {})
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def send(self, text: bytes, *, seconds: float = 30) -> bytes:
        """Send bytes, and return all that comes back until the server closes the connection; nothing after a reset."""
        with self.connect(seconds) as connection, suppress(ConnectionError):
            connection.sendall(text)
            return read_all(connection)
        return b""

    def connect(self, seconds: float = 30) -> socket.socket:
        """Open a connection."""
        return socket.create_connection(("127.0.0.1", self.port), seconds)


def read_all(connection: socket.socket) -> bytes:
    """Return what arrives until the other side closes the connection."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


@contextmanager
def running(
    models: Models, limits: Limits | None = None, access: Access | None = None, **settings: Any
) -> Iterator[Server]:
    """Run a server in a thread."""
    from yolo_lite.serve import server

    application = Application(models, limits, access=access, **settings)
    bound = server.bind("127.0.0.1", 0)
    thread = threading.Thread(target=server.serve, args=(application, bound), daemon=True)
    thread.start()
    try:
        port = bound.getsockname()[1]
        wait_for_port(port)
        yield Server(port, application)
    finally:
        application.engine.stop()
        thread.join(60)
        bound.close()
        assert not thread.is_alive(), "the server did not stop"


class Stub:
    """A detector that needs no network: what it finds is the mean colour of the image, after some seconds."""

    class_names = ("thing", "other")
    image_size, score_threshold, iou_threshold, max_detections = (32, 32), 0.3, 0.6, 300
    max_16bit, tiling, batch_size = 65535, None, 8

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.begun = threading.Event()
        self.batches: list[int] = []
        self.failures: list[BaseException] = []

    def adjusted(self, **settings: Any) -> Stub:
        return self

    def __call__(self, images: list[Any]) -> list[Detections]:
        self.begun.set()
        assert self.gate.wait(60)
        self.batches.append(len(images))
        if self.failures:
            raise self.failures.pop(0)
        return [self.find(image) for image in images]

    @classmethod
    def find(cls, image: Any) -> Detections:
        height, width = image.shape[:2]
        return Detections([[0, 0, width, height]], [image.mean() / 255], labels=[0], class_names=cls.class_names)


class StubClassifier:
    """A classifier that needs no network."""

    class_names, max_16bit, batch_size = ("dark", "light"), 65535, 8

    class input:
        image_size = (32, 32)

    def __call__(self, images: list[Any]) -> list[Classification]:
        return [Classification([1 - image.mean() / 255, image.mean() / 255], self.class_names) for image in images]


@pytest.fixture
def stub() -> Stub:
    return Stub()


def stub_models(stub: Stub, sizes: tuple[int, ...] = (1, 2, 4, 8)) -> Models:
    """Return the stub as the only network, with a classifier beside it."""
    detector: Any = stub
    classifier: Any = StubClassifier()
    return Models(
        [
            Model("stub", detector, "detect", backend="onnxruntime", device="cpu", batch_sizes=sizes),
            Model("light", classifier, "classify", backend="onnxruntime", device="cpu", batch_sizes=sizes),
        ]
    )


@pytest.fixture
def start(stub: Stub) -> Iterator[Callable[..., Server]]:
    """Return a function that runs a server with the stub, with limits and access."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def begin(access: Access | None = None, **limits: Any) -> Server:
            return stack.enter_context(running(stub_models(stub), Limits(**limits), access))

        yield begin
        stub.gate.set()


@pytest.fixture(scope="module")  # other modules replace the clock, by which its loop sleeps
def real() -> Iterator[Server]:
    """Run a server with a real checkpoint."""
    from yolo_lite.predict.files import sample_image

    models = open_models([NETWORK], Choices(device="cpu"))
    with running(models, samples=[sample_image()]) as server:
        yield server


def grey(value: int, hw: tuple[int, int] = (24, 32)) -> bytes:
    """Return a PNG of one grey."""
    return encode_image(np.full((*hw, 3), value, np.uint8), ".png")


@pytest.fixture(scope="session")
def photo() -> bytes:
    from yolo_lite.predict.files import sample_image

    path: Path = sample_image()
    return path.read_bytes()
