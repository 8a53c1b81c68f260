"""A server of MJPEG on this machine, and connections to it."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.loopback import no_network

__all__ = ["no_network"]


def numbered(number: int) -> bytes:
    """Return a JPEG file whose grey level is 10 times a number below 25."""
    content = io.BytesIO()
    Image.new("RGB", (64, 48), (10 * (number % 25),) * 3).save(content, "JPEG", quality=95)
    return content.getvalue()


def number_of(image: np.ndarray) -> int:
    """Return the number, below 25, of an image that `numbered` made."""
    return round(float(image.mean()) / 10)


class Server(ThreadingHTTPServer):
    """Sends numbered frames as MJPEG, `fps` a second; `frozen` makes it silent, `status` refuses."""

    daemon_threads, allow_reuse_address = True, True

    def __init__(self, port: int = 0, fps: float = 50.0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.fps, self.frozen, self.status, self.body = fps, threading.Event(), 200, b""
        self.sent_at: list[float] = []  # of each frame, by the monotonic clock
        self.closed = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}/video"
        threading.Thread(target=lambda: self.serve_forever(0.02), daemon=True).start()

    def stop(self) -> None:
        """Close all connections and stop listening."""
        self.closed.set()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.send_response(self.server.status)
        self.send_header(
            "Content-Type", "text/html" if self.server.body else "multipart/x-mixed-replace; boundary=frame"
        )
        self.end_headers()
        if self.server.body or self.server.status != 200:
            self.wfile.write(self.server.body)
            return
        began, number = time.monotonic(), 0
        while not self.server.closed.is_set():
            if self.server.frozen.is_set():
                self.server.closed.wait(0.02)
                continue
            content = numbered(number)
            self.server.sent_at.append(time.monotonic())
            try:
                self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + content + b"\r\n")
            except OSError:
                return
            number += 1
            self.server.closed.wait(max(0.0, began + number / self.server.fps - time.monotonic()))

    def log_message(self, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """Return a function that starts a server; all are stopped at the end."""
    servers: list[Server] = []

    def start(**settings: Any) -> Server:
        servers.append(Server(**settings))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
