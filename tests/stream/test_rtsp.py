"""Streams of a real RTSP server, GStreamer's, on this machine."""

from __future__ import annotations

import itertools
import statistics
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.loopback import free_port, wait_for_port
from tests.stream.test_detect import SlowDetector
from yolo_lite.errors import InputError
from yolo_lite.stream.capture import Limits
from yolo_lite.stream.detect import stream_detections

PYTHON = "/usr/bin/python3"  # Debian's packages of GStreamer's bindings are for this one
FPS = 25
pytestmark = pytest.mark.slow


class RtspServer:
    """The server in a process of its own, and when it sent which frame."""

    def __init__(self, port: int = 0) -> None:
        self.port = port or free_port()
        self.url = f"rtsp://me:secret@127.0.0.1:{self.port}/yard"
        self.name = f"rtsp://127.0.0.1:{self.port}/yard"
        self.sent: list[tuple[int, float]] = []
        program = Path(__file__).with_name("rtsp_server.py")
        self.process = subprocess.Popen(
            [PYTHON, str(program), str(self.port), str(FPS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            number, sent_at = line.split()
            self.sent.append((int(number), float(sent_at)))

    def command(self, word: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def sent_at(self, level: float, now: float) -> float:
        """Return when the newest frame of this level was sent; levels repeat after a second."""
        number = round((level * 219 / 255) / 8) % 25  # from full range back to the levels of video
        return max(at for sent, at in self.sent if sent % 25 == number and at <= now)


@pytest.fixture
def server() -> Iterator[RtspServer]:
    check = "import gi; gi.require_version('GstRtspServer', '1.0'); gi.require_version('Gst', '1.0')\n"
    check += "from gi.repository import Gst; Gst.init(None); assert Gst.ElementFactory.find('x264enc')"
    if not Path(PYTHON).exists() or subprocess.run([PYTHON, "-c", check], capture_output=True).returncode:
        pytest.skip("no RTSP server: apt-get install gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-ugly")
    running = RtspServer()
    wait_for_port(running.port, running.process)
    yield running
    running.stop()


def lags(server: RtspServer, seconds: float, detection: float) -> tuple[list[float], int]:
    """Return the seconds from sending a frame to the end of its detection, and the number of dropped frames."""
    measured: list[float] = []
    results = stream_detections(SlowDetector(detection), server.url, images=True, limits=Limits(total=seconds))
    for result in results:
        assert result.image is not None
        now = time.monotonic()
        measured.append(now - server.sent_at(float(result.image.mean()), now))
        dropped = result.dropped
    return measured[10:], dropped


def test_a_consumer_at_a_third_of_the_rate_is_never_behind(server: RtspServer) -> None:
    """The lag is two frame periods and one detection; ten minutes of it, and its tail, are measured by hand."""
    detection = 3 / FPS
    measured, dropped = lags(server, 20, detection)
    assert len(measured) > 100
    assert dropped > 250
    assert statistics.median(measured) <= 2 / FPS + detection + 0.1  # for a busy machine; 0.5 with every frame
    half = len(measured) // 2
    assert statistics.mean(measured[half:]) < statistics.mean(measured[:half]) + 0.1  # it does not grow


def test_a_frozen_server_is_noticed_and_used_again(server: RtspServer) -> None:
    lines: list[tuple[float, str]] = []
    limits = Limits(read=2)
    results = stream_detections(
        SlowDetector(), server.url, limits=limits, say=lambda line: lines.append((time.monotonic(), line))
    )
    for _ in itertools.islice(results, 20):
        pass
    server.command("freeze")
    began = time.monotonic()
    threading.Timer(3.0, server.command, ["go"]).start()
    result = next(result for result in results if result.reconnects)
    assert time.monotonic() - (began + 3.0) < 30
    results.close()
    assert lines[0][1] == f"{server.name}: no frame for 2 s; trying again"
    assert lines[0][0] - began < limits.read + 10
    assert result.source == server.name


def test_a_server_that_comes_back_is_used_again(server: RtspServer) -> None:
    lines: list[str] = []
    results = stream_detections(SlowDetector(), server.url, limits=Limits(), say=lines.append)
    for _ in itertools.islice(results, 20):
        pass
    server.stop()
    again: list[RtspServer] = []
    ready: list[float] = []

    def restart() -> None:
        again.append(RtspServer(server.port))
        wait_for_port(server.port)
        ready.append(time.monotonic())

    threading.Timer(6.0, restart).start()
    assert next(result for result in results if result.reconnects)
    used = time.monotonic()
    results.close()
    again[0].stop()
    assert used - ready[0] < 30  # it has only begun to listen, and its first frame takes a while on a busy machine
    assert "trying again" in lines[0]
    assert "is back after" in lines[-1]


def test_a_wrong_path_gets_a_line(server: RtspServer) -> None:
    with pytest.raises(InputError) as caught:
        next(stream_detections(SlowDetector(), server.url.replace("yard", "door"), limits=Limits(open=3)))
    assert str(caught.value) == f"{server.name.replace('yard', 'door')} was refused by the server: 404 Not Found"
