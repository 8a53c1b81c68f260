"""Clients that are slow, never finish, send too much or nonsense: they are answered, and block nobody else."""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.serve.conftest import Server, Stub, grey, read_all
from yolo_lite.media.writers import encode_image
from yolo_lite.serve import exchange, server, uploads

Start = Callable[..., Server]


def head(length: int | None = None, *lines: str, path: str = "/v1/detect") -> bytes:
    """Return the head of a request."""
    rows = [f"POST {path} HTTP/1.1", "Host: localhost", *lines]
    rows += [] if length is None else [f"Content-Length: {length}"]
    return "\r\n".join([*rows, "", ""]).encode()


def status_of(answer: bytes) -> int:
    return int(answer.split()[1])


def error_of(answer: bytes) -> str:
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["error"])


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until something is true; fail after a minute."""
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until, "it did not come true in time"
        time.sleep(0.01)


def read_one(connection: socket.socket) -> bytes:
    """Return one answer, by its Content-Length."""
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65536)
    top, _, body = answer.partition(b"\r\n\r\n")
    (length,) = (int(line.split(b":")[1]) for line in top.lower().splitlines() if line.startswith(b"content-length"))
    while len(body) < length:
        body += connection.recv(65536)
    return top + b"\r\n\r\n" + body


# Too much


def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(start: Start) -> None:
    running = start(max_bytes=1000)
    with running.connect() as connection:
        connection.sendall(head(1001))
        answer = read_one(connection)
    assert status_of(answer) == 413
    assert "more than 1,000 bytes, the limit of this server" in error_of(answer)
    assert b"connection: close" in answer


def test_a_body_without_length_is_refused_once_it_is_too_large(start: Start) -> None:
    running = start(max_bytes=1000)

    def chunks() -> Iterator[bytes]:
        for _ in range(300):
            yield b"x" * 10_000

    answer = running.ask("POST", "/v1/detect", body=chunks())  # an iterator is sent in chunks
    assert (answer.status, answer.headers["connection"]) == (413, "close")


def test_the_limits_themselves_are_allowed(start: Start) -> None:
    image = grey(5, (20, 50))
    running = start(max_bytes=len(image), max_pixels=1000)
    assert running.ask("POST", "/v1/detect", body=image).status == 200
    assert running.ask("POST", "/v1/detect", body=image + b"x").status == 413
    assert running.ask("POST", "/v1/detect", body=grey(5, (20, 51))[: len(image)]).status == 413


def test_pixels_are_counted_in_the_header_before_any_is_decoded(start: Start) -> None:
    """A PNG of a few bytes that says 50,000 x 50,000 pixels, and a whole one above the limit."""
    running = start(max_pixels=10_000)
    bomb = _png(50_000, 50_000)
    for body in (bomb, grey(1, (101, 100)), encode_image(np.zeros((101, 100, 3), np.uint8), ".jpg")):
        started = time.process_time()
        answer = running.ask("POST", "/v1/detect", body=body)
        assert (answer.status, "pixels" in answer.error) == (413, True)
        assert time.process_time() - started < 1


def _png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_client_that_sends_everything_first_still_sees_why_it_was_refused(start: Start) -> None:
    """http.client sends 8 MB before it reads: without reading on for a moment, it would see a broken connection."""
    answer = start(max_bytes=1000).ask("POST", "/v1/detect", body=b"x" * 8_000_000)
    assert (answer.status, "limit" in answer.error) == (413, True)


def test_a_client_that_asks_before_it_sends_is_told(start: Start) -> None:
    running = start(max_bytes=5000)
    with running.connect() as connection:
        connection.sendall(head(5001, "Expect: 100-continue"))
        answer = read_all(connection)
    assert (status_of(answer), answer.count(b"HTTP/1.1")) == (413, 1)  # and no 100 before or after it
    image = grey(3)
    with running.connect() as connection:
        connection.sendall(head(len(image), "Expect: 100-continue", "Connection: close"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 100")
        connection.sendall(image)
        assert status_of(read_all(connection)) == 200


# Keep-alive


def test_a_connection_is_used_again_after_a_refusal_whose_body_was_read(start: Start) -> None:
    with start().connect() as connection:
        for body, status in ((b"text", 415), (grey(1)[:-40], 422), (grey(1), 200)):
            connection.sendall(head(len(body)) + body)
            assert status_of(read_one(connection)) == status


def test_a_connection_ends_after_a_refusal_whose_body_was_not_read(start: Start) -> None:
    """Otherwise the rest of the body would be taken for the next request."""
    hidden = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = start().send(head(len(hidden), path="/v1/detect?nix=1") + hidden)
    assert (status_of(answer), answer.count(b"HTTP/1.1"), b'"models"' in answer) == (422, 1, False)


def test_requests_in_a_row_without_waiting_are_answered_in_order(start: Start) -> None:
    image = grey(1)
    first, last = head(len(image), path="/v1/classify") + image, head(len(image), "Connection: close") + image
    answer = start().send(first + last)
    assert answer.count(b"HTTP/1.1 200") == 2
    assert answer.index(b'"labels"') < answer.index(b'"detections"')


# Nonsense


@pytest.mark.parametrize(
    "text",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # the beginning of TLS
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/detect HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
        b"POST /v1/detect HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 2_000_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",  # no Host
    ],
    ids=lambda text: repr(text[:20]),
)
def test_what_is_not_http_is_refused(start: Start, text: bytes) -> None:
    running = start()
    answer = running.send(text)
    assert not answer or status_of(answer) in (400, 403)
    assert not answer or error_of(answer)
    assert running.ask("GET", "/healthz").status == 200


# Slow and half-open


def test_a_body_that_stalls_is_refused(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "STALL", 0.3)
    monkeypatch.setattr(exchange, "LINGER", 0.1)
    with start().connect() as connection:
        connection.sendall(head(1000) + b"x" * 10)
        answer = read_all(connection)
    assert (status_of(answer), "too slowly" in error_of(answer)) == (408, True)


def test_a_body_that_drips_is_refused_after_the_time_limit(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "LINGER", 0.1)
    with start(seconds=0.6).connect() as connection:
        connection.sendall(head(1000))
        connection.settimeout(0.1)
        answer, until = b"", time.monotonic() + 60
        while not answer and time.monotonic() < until:
            connection.sendall(b"x")
            try:
                answer = connection.recv(65536)
            except TimeoutError:
                continue
    assert status_of(answer) == 408


def test_a_head_that_never_ends_is_cut_off(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.3)
    running = start()
    for text in (b"", b"POST /v1/de", head(5)[:-2]):
        with running.connect(60) as connection:
            connection.sendall(text)
            with suppress(ConnectionResetError):
                assert read_all(connection) == b""


def test_a_kept_connection_whose_next_head_never_ends_is_cut_off(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.3)
    with start().connect(5) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert status_of(read_one(connection)) == 200
        connection.sendall(b"GET /heal")
        with suppress(ConnectionResetError):
            assert read_all(connection) == b""


def test_slow_and_half_open_clients_do_not_block_others(start: Start) -> None:
    running = start(queue=4)
    with ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(running.connect()).sendall(head(500_000) + b"x" * 1000)
        for _ in range(60):
            stack.enter_context(running.connect()).sendall(b"POST /v1/detect HT")
        for _ in range(5):
            started = time.monotonic()
            assert running.ask("POST", "/v1/detect", body=grey(1)).status == 200
            assert time.monotonic() - started < 25  # a body may take 30 s


def test_clients_that_go_away_leave_nothing_behind(start: Start, stub: Stub) -> None:
    running = start(queue=4, max_bytes=10_000)
    uploads_left = running.application._uploads._bodies.left
    image = grey(1)
    for sent in (b"", head(5000), head(5000) + b"x" * 4000, head(len(image)) + image, head(len(image)) + image[:-1]):
        for _ in range(5):
            with running.connect() as connection:
                connection.sendall(sent)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # ends with a reset
    engine, until = running.application.engine, time.monotonic() + 60
    while running.ask("POST", "/v1/detect", body=image).status == 429 and time.monotonic() < until:
        time.sleep(0.05)
    while time.monotonic() < until and (engine.places or running.application._uploads._bodies.left != uploads_left):
        time.sleep(0.05)
    assert (engine.places, engine.waiting, running.application._uploads._bodies.left) == (0, 0, uploads_left)
    assert running.ask("POST", "/v1/detect", body=image).status == 200


@pytest.mark.parametrize("linger", [b"", struct.pack("ii", 1, 0)], ids=["closed", "reset"])
def test_nothing_is_worked_on_for_clients_that_hang_up(
    linger: bytes, start: Start, stub: Stub, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "yolo_lite")
    running = start()
    uploads, engine, image = running.application._uploads, running.application.engine, grey(1, (20, 30))
    bytes_left, pixels_left = uploads._bodies.left, uploads._pixels.left
    stub.gate.clear()
    with ExitStack() as stack:
        for number in range(8):
            connection = stack.enter_context(running.connect())
            connection.sendall(head(len(image)) + image)
            if linger:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            if not number:
                assert stub.begun.wait(60)  # the others wait for the end of this batch
        wait_until(lambda: engine.waiting == 7)
        assert _gauges(running) == (8, 7)
        assert pixels_left - uploads._pixels.left == 8 * 600
    wait_until(lambda: _gauges(running) == (0, 0))
    assert pixels_left - uploads._pixels.left == 600  # of the image that is still being worked on
    stub.gate.set()
    wait_until(lambda: (uploads._bodies.left, uploads._pixels.left) == (bytes_left, pixels_left))
    assert running.ask("POST", "/v1/detect", body=image).status == 200
    assert stub.batches == [1, 1]
    assert 'requests_total{route="/v1/detect",status="499"} 8' in running.ask("GET", "/metrics").body.decode()
    assert caplog.messages == ["POST /v1/detect 499: the client closed the connection"] * 8


def _gauges(running: Server) -> tuple[int, int]:
    """Return how many requests are in progress, and how many images wait, as /metrics says."""
    lines = running.ask("GET", "/metrics").body.decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return int(values["yolo_lite_requests_in_progress"]), int(values["yolo_lite_queue_length"])


def test_a_client_that_hangs_up_leaves_a_batch_to_the_others(start: Start, stub: Stub) -> None:
    running = start()
    stub.gate.clear()
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(running.ask, "POST", "/v1/detect", body=grey(9))
        assert stub.begun.wait(60)
        with running.connect() as connection:
            connection.sendall(head(len(grey(1))) + grey(1))
            wait_until(lambda: running.application.engine.waiting == 1)
            others = [pool.submit(running.ask, "POST", "/v1/detect", body=grey(value)) for value in (51, 102)]
            wait_until(lambda: running.application.engine.waiting == 3)
        wait_until(lambda: running.application.engine.waiting == 2)
        stub.gate.set()
        answers = [future.result(60) for future in (first, *others)]
    assert [answer.document["detections"][0]["score"] for answer in answers] == pytest.approx([9 / 255, 0.2, 0.4])
    assert stub.batches == [1, 2]


def test_a_client_that_sends_its_next_request_at_once_is_not_taken_for_one_that_hung_up(
    start: Start, stub: Stub
) -> None:
    stub.gate.clear()
    with start().connect() as connection:
        connection.sendall(head(len(grey(1))) + grey(1))
        assert stub.begun.wait(60)
        connection.sendall(head(len(grey(2)), "Connection: close") + grey(2))
        time.sleep(0.1)
        stub.gate.set()
        assert read_all(connection).count(b"HTTP/1.1 200") == 2


@pytest.mark.slow
def test_a_client_that_reads_no_answer_to_many_requests_is_cut_off(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first answers fill the buffers of the system, and the next head waits for room."""
    monkeypatch.setattr(server, "_FLUSH", 0.5)
    running = start()
    with running.connect(20) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)
        time.sleep(2)
        with suppress(ConnectionError):  # the rest of what was sent before, or a reset
            while connection.recv(1_000_000):
                pass


def test_a_client_that_does_not_read_its_answer_blocks_nobody(start: Start) -> None:
    running = start()
    image = encode_image(np.random.default_rng(0).integers(0, 255, (1500, 1500, 3), np.uint8), ".png")
    with ExitStack() as stack:
        for _ in range(3):
            connection = stack.enter_context(running.connect())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.sendall(head(len(image), "Accept: image/jpeg") + image)
        started = time.monotonic()
        assert running.ask("POST", "/v1/detect", body=grey(1)).status == 200
        assert time.monotonic() - started < 25  # an answer may take 30 s


# Full, late, stopping


def test_a_full_queue_refuses_with_the_time_to_wait(start: Start, stub: Stub) -> None:
    running = start(queue=3)
    stub.gate.clear()
    with ThreadPoolExecutor(3) as pool:
        accepted = [pool.submit(running.ask, "POST", "/v1/detect", body=grey(9)) for _ in range(3)]
        until = time.monotonic() + 60
        while running.application.engine.places < 3 and time.monotonic() < until:
            time.sleep(0.01)
        answer = running.ask("POST", "/v1/detect", body=grey(1))
        assert (answer.status, answer.headers["retry-after"]) == (429, "1")
        assert "3 requests are being worked on" in answer.error
        assert running.ask("GET", "/healthz").status == 200
        stub.gate.set()
        assert [future.result().status for future in accepted] == [200, 200, 200]
    assert running.ask("POST", "/v1/detect", body=grey(1)).status == 200


def test_too_many_large_images_at_once_are_refused(start: Start, stub: Stub) -> None:
    """Four images of the largest size fit; the place in the queue would be free, but not the memory."""
    running = start(max_pixels=1000)
    stub.gate.clear()
    large = grey(9, (25, 40))
    with ThreadPoolExecutor(4) as pool:
        accepted = [pool.submit(running.ask, "POST", "/v1/detect", body=large) for _ in range(4)]
        until = time.monotonic() + 60
        while running.application._uploads._pixels.left and time.monotonic() < until:
            time.sleep(0.01)
        answer = running.ask("POST", "/v1/detect", body=grey(1))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert "large images" in answer.error
        stub.gate.set()
        assert [future.result().status for future in accepted] == [200] * 4
    assert running.application._uploads._pixels.left == 4000


def test_an_answer_that_takes_too_long_is_refused(start: Start, stub: Stub) -> None:
    running = start(seconds=0.4)
    stub.gate.clear()
    started = time.monotonic()
    answer = running.ask("POST", "/v1/detect", body=grey(1))
    assert (answer.status, "longer than 0.4 s" in answer.error) == (504, True)
    assert time.monotonic() - started < 15
    pixels = running.application._uploads._pixels
    assert pixels.left == 4 * 50_000_000 - 24 * 32  # the image is still being worked on
    stub.gate.set()
    wait_until(lambda: pixels.left == 4 * 50_000_000)
    assert running.application.engine.places == 0
    assert running.ask("POST", "/v1/detect", body=grey(1)).status == 200


def test_a_server_that_stops_finishes_what_it_accepted_and_refuses_the_rest(start: Start, stub: Stub) -> None:
    running = start()
    stub.gate.clear()
    stub.begun.clear()
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(running.ask, "POST", "/v1/detect", body=grey(255))
        assert stub.begun.wait(60)
        running.application.engine.stop()
        answer = running.ask("GET", "/healthz")
        assert (answer.status, answer.document) == (503, {"status": "stopping"})
        answer = running.ask("POST", "/v1/detect", body=grey(1))
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert "stopping" in answer.error
        stub.gate.set()
        assert accepted.result(60).status == 200
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            running.connect(1).close()
            time.sleep(0.05)
        except OSError:
            return
    raise AssertionError("the server still listens")


@pytest.mark.slow
def test_a_server_stops_within_twice_the_time_limit_whatever_clients_do(start: Start, stub: Stub) -> None:
    """One answer takes too long, and after it another client still does not read."""
    running = start(seconds=2)
    stub.gate.clear()
    with running.connect() as deaf, ThreadPoolExecutor(1) as pool:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 200)
        late = pool.submit(running.ask, "POST", "/v1/detect", body=grey(1))
        assert stub.begun.wait(60)
        running.application.engine.stop()
        started = time.monotonic()
        assert late.result(60).status == 504
        stub.gate.set()
        wait_until(lambda: not running.application.engine.is_alive)
    assert time.monotonic() - started < 2 * 2 + 1 + 20  # the last part for a busy machine


# Odd files


def _odd_files(folder: Path) -> list[tuple[str, bytes]]:
    """Return broken and unsuitable files, by a name that says what is wrong."""
    noise = np.random.default_rng(1).integers(0, 255, (40, 50, 3), np.uint8)
    whole = {kind: encode_image(noise, f".{kind}") for kind in ("png", "jpg", "webp", "tif", "bmp")}
    files = [(f"half a {kind}", content[: len(content) // 2]) for kind, content in whole.items()]
    files += [(f"head of a {kind}", content[:20]) for kind, content in whole.items()]
    png, jpg = whole["png"], whole["jpg"]
    files += [
        ("zeros", bytes(1000)),
        ("text", b"hello " * 100),
        ("html", b"<html><img src=x></html>"),
        ("svg", b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>'),
        ("pdf", b"%PDF-1.4\n%%EOF"),
        ("zip", b"PK\x03\x04" + bytes(100)),
        ("eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"),
        ("bomb", _png(60_000, 60_000)),
        ("no pixels", _png(0, 0)),
        ("jpg with flipped bytes", bytes(byte ^ 0x55 for byte in jpg[:2]) + jpg[2:]),
        ("png with a wrong checksum", png[:40] + bytes([png[40] ^ 1]) + png[41:]),
        ("dng", b"II*\x00\x08\x00\x00\x00" + bytes(200)),
        ("video", b"\x00\x00\x00\x18ftypmp42" + bytes(500)),
        ("tga", bytes([0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 4, 0, 24, 0]) + bytes(48)),
    ]
    deep = folder / "deep.tif"
    Image.fromarray(np.zeros((9, 9), np.float32)).save(deep)
    return [*files, ("floating-point pixels", deep.read_bytes())]


def test_every_odd_file_is_refused_at_the_cost_of_less_than_a_second(start: Start, tmp_path: Path) -> None:
    running = start()
    for name, content in _odd_files(tmp_path):
        started = time.process_time()
        answer = running.ask("POST", "/v1/detect", body=content)
        seconds = time.process_time() - started
        assert answer.status in (400, 413, 415, 422), (name, answer)
        assert seconds < 1, (name, seconds)
        assert answer.error.count(". ") <= 1, (name, answer.error)
    assert running.ask("POST", "/v1/detect", body=grey(1)).status == 200


# The process


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], int]]]:
    """Return a function that starts the command, and returns it with its port once it listens."""
    with ExitStack() as stack:

        def begin(*words: str) -> tuple[subprocess.Popen[str], int]:
            command = [sys.executable, "-m", "yolo_lite", "serve", "--port", "0", *words]
            started = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
            )  # fmt: skip
            stack.callback(started.wait)
            stack.callback(started.kill)
            assert started.stdout
            for line in started.stdout:
                if line.startswith("listening on http://127.0.0.1:"):
                    return started, int(line.split()[2].rpartition(":")[2])
            raise AssertionError(started.stderr.read() if started.stderr else "")

        yield begin


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [
        (signal.SIGTERM, 143, "stopped by SIGTERM"),
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGHUP, 129, "stopped by SIGHUP"),
    ],
)
@pytest.mark.slow
def test_a_signal_ends_the_server_with_the_status_of_other_commands(
    process: Any, number: signal.Signals, status: int, word: str
) -> None:
    started, port = process("--weights", "yolo_lite-pico-voc5", "--batch-size", "1", "--device", "cpu")
    running = Server(port, None)  # type: ignore[arg-type]
    assert running.ask("POST", "/v1/detect", body=grey(100)).status == 200
    answers: list[int] = []

    def ask() -> None:
        try:
            answers.append(running.ask("POST", "/v1/detect", body=grey(1, (900, 900))).status)
        except OSError:
            answers.append(0)

    clients = [threading.Thread(target=ask) for _ in range(6)]
    for client in clients:
        client.start()
    time.sleep(0.05)
    started.send_signal(number)
    out, error = started.communicate(timeout=120)
    for client in clients:
        client.join()
    assert (started.returncode, error.strip().splitlines()) == (status, [word])
    assert set(answers) <= {200, 503, 0}
    assert out == ""
