"""A fixture that lets tests of servers on this machine connect to them; conftest.py of their folder imports it."""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

_connect = socket.socket.connect


def connect_here(self: socket.socket, address: Any) -> None:
    """Connect a socket to a place on this machine; any other is an error of the test."""
    if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "localhost", "::1"):
        raise AssertionError(f"a test tried to reach the network: {address}")
    _connect(self, address)


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tests connect to this machine only."""
    monkeypatch.setattr(socket.socket, "connect", connect_here)


def free_port() -> int:
    """Return a port of this machine that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[Any] | None = None, *, log: Path | None = None) -> None:
    """Wait a minute at most until something listens on a port of this machine, or the process for it has ended."""
    until = time.monotonic() + 60
    while time.monotonic() < until and not (process and process.poll() is not None):
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    said = log.read_text(errors="replace")[-2000:] if log else ""
    raise AssertionError(f"nothing listens on port {port}; its process: {process and process.poll()}; {said}")
