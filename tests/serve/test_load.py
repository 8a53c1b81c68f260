"""A server in a process of its own under load: whose answer is whose, how memory grows, and whom bad clients harm."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from yolo_lite.bench.serve import _resident, _serving, several_sizes
from yolo_lite.media.images import read_image
from yolo_lite.predict.detector import Detector
from yolo_lite.predict.files import sample_image
from yolo_lite.runtime import Detector as ExportedDetector

pytestmark = pytest.mark.slow
CHECKPOINT, BATCHED = "yolo_lite-pico-voc5", "yolo_lite-shuffle-coco"
THRESHOLDS = (0.05, 0.1, 0.2)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Return eight images of eight sizes."""
    return several_sizes([sample_image()], tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module", params=["checkpoint", "exported"])
def weights(request: pytest.FixtureRequest) -> str:
    return CHECKPOINT if request.param == "checkpoint" else str(request.getfixturevalue("pico"))


@contextmanager
def serving(weights: str, *words: str) -> Iterator[tuple[int, int]]:
    """Run the command, and yield its port and its process id."""
    with _serving(["serve", "--port", "0", "--threads", "1", "--weights", weights, *words]) as server:
        yield server.port, server.pid


class Answer(NamedTuple):
    """What a client compares."""

    source: str
    image_size: list[int]
    detections: list[dict[str, Any]]


class Client:
    """A client with one connection."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.connection.close()

    def detect(self, image: bytes, *, source: str = "a", score_threshold: float = 0.1) -> Answer:
        path = f"/v1/detect?source={source}&score_threshold={score_threshold}"
        self.connection.request("POST", path, body=image)
        answer = self.connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        document = json.loads(body)
        return Answer(document["source"], document["image_size"], document["detections"])


def direct_answers(weights: str, files: Sequence[Path]) -> dict[tuple[int, float], tuple[list[int], list[Any]]]:
    """Return size and detections of each image at each threshold, as direct calls give them."""
    answers = {}
    for threshold in THRESHOLDS:
        detector: Any = (
            ExportedDetector(weights, score_threshold=threshold, threads=1)
            if weights.endswith(".onnx")
            else Detector(weights, "cpu", score_threshold=threshold)
        )
        for number, file in enumerate(files):
            image = read_image(file)
            found = json.loads(json.dumps(detector(image).to_dict()["detections"]))
            answers[number, threshold] = ([image.shape[1], image.shape[0]], found)
    return answers


@pytest.mark.parametrize("weights", [BATCHED, CHECKPOINT])
def test_eight_clients_get_the_answers_of_their_own_images_and_settings(weights: str, files: list[Path]) -> None:
    """The oracle is the detector in this process; every image has another size, and every request its own name.

    Images share batches in the first network, and none in the second, whose results depend on the batch.
    """
    expected = direct_answers(weights, files)
    assert len({str(answer) for answer in expected.values()}) > 20  # of 24: a mix-up would show
    contents = [file.read_bytes() for file in files]
    start = threading.Barrier(8)

    def ask(client: int, port: int) -> int:
        wrong = 0
        with Client(port) as connection:
            start.wait(60)
            for turn in range(50):
                image, threshold = (client + turn) % 8, THRESHOLDS[turn // 8 % 3]
                name = f"client-{client}-{turn}"
                got = connection.detect(contents[image], source=name, score_threshold=threshold)
                wrong += got != Answer(name, *expected[image, threshold])
        return wrong

    with serving(weights) as (port, _), ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(ask, range(8), [port] * 8)) == 0
        images, batches = batches_of(port)
    assert images >= 392  # a batch is counted after its answers, so the last one may be missing
    assert (batches < 300) == (weights == BATCHED)
    assert batches <= images


def batches_of(port: int) -> tuple[float, float]:
    """Return how many images a server has worked on, and in how many batches, as its metrics say."""
    with Client(port) as client:
        client.connection.request("GET", "/metrics")
        lines = client.connection.getresponse().read().decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return float(values["yolo_lite_batch_size_sum"]), float(values["yolo_lite_batch_size_count"])


def test_memory_reaches_a_plateau(weights: str, files: list[Path]) -> None:
    """The largest batches of the largest images may come after 100 requests; a leak would go on after 1,000."""
    contents = [file.read_bytes() for file in files]

    def ask(port: int, client: int, total: int) -> None:
        with Client(port) as connection:
            for turn in range(total):
                connection.detect(contents[(client + turn) % 8])

    with serving(weights) as (port, pid), ThreadPoolExecutor(8) as pool:
        if not _resident(pid):
            pytest.skip("this system does not tell how much memory a process has")
        list(pool.map(ask, [port] * 8, range(8), [13] * 4 + [12] * 4))
        early = _resident(pid)
        list(pool.map(ask, [port] * 8, range(8), [112] * 4 + [113] * 4))
        middle = _resident(pid)
        list(pool.map(ask, [port] * 8, range(8), [125] * 8))
        assert _resident(pid) <= 1.05 * middle
        assert _resident(pid) <= 1.2 * early


HEAD = "POST /v1/detect HTTP/1.1\r\nHost: localhost\r\n"


def test_bad_clients_do_not_delay_a_good_one(weights: str, files: list[Path]) -> None:
    """One that waited for a slow client would wait five seconds, which is when a body counts as stalled."""
    contents, over = [file.read_bytes() for file in files], threading.Event()
    seconds = []
    with ExitStack() as stack:
        port, _ = stack.enter_context(serving(weights))
        bad = [*[_half_open_head] * 20, *[_half_open_body] * 20, *[_dripping] * 20, *[_oversized] * 4]
        ready = threading.Barrier(len(bad) + 1)
        threads = [threading.Thread(target=each, args=(port, ready, over), daemon=True) for each in bad]
        for thread in threads:
            thread.start()
        stack.callback(over.set)
        with Client(port) as good:
            ready.wait(60)
            expected = None
            for turn in range(24):
                started = time.monotonic()
                got = good.detect(contents[turn % 8]).detections
                seconds.append(time.monotonic() - started)
                expected = expected or got
                assert (got == expected) == (turn % 8 == 0)
        over.set()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
    assert max(seconds) < 4, sorted(seconds)


def _half_open_head(port: int, ready: threading.Barrier, over: threading.Event) -> None:
    """Send half of a head, and nothing more; the server may hang up."""
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(HEAD.encode()[:-5])
        ready.wait(60)
        over.wait(60)


def _half_open_body(port: int, ready: threading.Barrier, over: threading.Event) -> None:
    """Send a head and the first bytes of a body, and nothing more."""
    with socket.create_connection(("127.0.0.1", port), 30) as connection:
        connection.sendall(f"{HEAD}Content-Length: 100000\r\n\r\nabc".encode())
        ready.wait(60)
        over.wait(60)


def _dripping(port: int, ready: threading.Barrier, over: threading.Event) -> None:
    """Send a byte of a body five times a second."""
    with socket.create_connection(("127.0.0.1", port), 30) as connection, suppress(OSError):
        connection.sendall(f"{HEAD}Content-Length: 100000\r\n\r\n".encode())
        ready.wait(60)
        while not over.wait(0.2):
            connection.sendall(b"x")


def _oversized(port: int, ready: threading.Barrier, over: threading.Event) -> None:
    """Send too much again and again, without saying how much it will be; every answer must be 413."""
    ready.wait(60)
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    statuses = set()
    while not over.is_set():
        with socket.create_connection(("127.0.0.1", port), 30) as connection:
            with suppress(OSError):
                connection.sendall(f"{HEAD}Transfer-Encoding: chunked\r\n\r\n".encode())
                for _ in range(400):  # 26 MB
                    connection.sendall(chunk)
            with suppress(OSError):
                statuses.add(connection.recv(12))
    assert statuses <= {b"HTTP/1.1 413", b""}, statuses
