"""Clients of `yolo-lite serve`, in a process of their own, so that they do not share Python's lock with the server."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from yolo_lite.bench.peers import answer_calls
from yolo_lite.errors import InputError, one_line

SECONDS = 120.0  # after which an answer counts as lost
_HEADERS = {"Content-Type": "application/octet-stream"}


def plan(total: int, clients: int, *, images: int) -> list[list[int]]:
    """Return which images each client sends, one after the other; neighbours never send the same one at once.

    Args:
        total: number of requests of all clients.
        clients: number of clients.
        images: number of images.

    Example:
        >>> plan(7, 2, images=3)
        [[0, 1, 2, 0], [1, 2, 0]]
    """
    return [
        [(client + turn) % images for turn in range((total - client + clients - 1) // clients)]
        for client in range(clients)
    ]


def comparable(body: bytes) -> str:
    """Return the part of an answer that depends on the image alone: its size and its detections.

    Example:
        >>> comparable(b'{"source":"a","captured_at":7.5,"time":0.0,"image_size":[4,3],"dropped":0,"detections":[]}')
        '"image_size":[4,3],"dropped":0,"detections":[]}'
    """
    _, key, end = body.partition(b'"image_size"')
    return (key + end).decode("ascii")


class Clients:
    """Clients that know the image they send, and the answer it must get.

    Args:
        port: of the server on this machine.
        files: images.
        answers: for each image, what `comparable` returns.
    """

    def __init__(self, port: int, files: Sequence[str], *, answers: Sequence[str]) -> None:
        self._port, self._files, self._answers = port, [Path(file) for file in files], answers

    def single(self) -> dict[str, Any]:
        """Send each image once, one after the other; return milliseconds of each, and how many answers are wrong."""
        with _Connection(self._port) as connection:
            timed = [_timed(connection, file) for file in self._files]
        wrong = sum(comparable(body) != answer for (_, body), answer in zip(timed, self._answers))
        return {"ms": [ms for ms, _ in timed], "wrong": wrong}

    def together(self, total: int, clients: int) -> dict[str, Any]:
        """Send images from several clients at once; return the seconds, and how many answers are wrong.

        Args:
            total: number of requests.
            clients: number of clients, each with a connection of its own.

        Raises:
            InputError: if a client cannot connect, or the server refuses.
        """
        turns = plan(total, clients, images=len(self._files))
        ready = threading.Barrier(clients + 1, timeout=SECONDS)

        def send(connection: _Connection, images: list[int]) -> int:
            ready.wait()
            bodies = [(image, connection.ask(self._files[image].read_bytes())) for image in images]
            return sum(comparable(body) != self._answers[image] for image, body in bodies)

        with ExitStack() as stack:
            # All connect before the first thread starts: threads would wait at the barrier for one that cannot.
            connections = [stack.enter_context(_Connection(self._port)) for _ in range(clients)]
            pool = stack.enter_context(ThreadPoolExecutor(clients))
            running = [pool.submit(send, *each) for each in zip(connections, turns)]
            ready.wait()
            started = time.perf_counter()
            wrong = sum(future.result() for future in running)
            return {"seconds": time.perf_counter() - started, "wrong": wrong}


class _Connection:
    """A connection that stays open between requests."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)

    def __enter__(self) -> _Connection:
        try:
            self._connection.connect()
        except OSError as error:
            raise self._failed("no connection to the server", error) from error
        return self

    def __exit__(self, *error: object) -> None:
        self._connection.close()

    def ask(self, image: bytes) -> bytes:
        """Send an image and return the answer; raise InputError if the server refuses, or ends the connection."""
        try:
            self._connection.request("POST", "/v1/detect", body=image, headers=_HEADERS)
            answer = self._connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._failed("no answer from the server", error) from error
        if answer.status != 200:
            raise InputError(f"the server answered {answer.status}: {_reason(body)}")
        return body

    def _failed(self, what: str, error: Exception) -> InputError:
        reason = one_line(getattr(error, "strerror", None) or str(error) or type(error).__name__)
        return InputError(f"{what} on port {self._port}: {reason}; check that it runs, or use fewer clients")


def _timed(connection: _Connection, file: Path) -> tuple[float, bytes]:
    started = time.perf_counter()
    body = connection.ask(file.read_bytes())
    return (time.perf_counter() - started) * 1e3, body


def _reason(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return repr(body[:200])


def main() -> None:
    """Answer the calls of `bench serve`.

    Example:
        >>> main()  # doctest: +SKIP
    """
    opened: list[Clients] = []

    def open(port: int, files: list[str], answers: list[str]) -> None:
        opened[:] = [Clients(port, files, answers=answers)]

    answer_calls(
        {
            "open": open,
            "single": lambda: opened[0].single(),
            "together": lambda **values: opened[0].together(**values),
        }
    )


if __name__ == "__main__":
    main()
