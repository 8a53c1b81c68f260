"""Measure how far a slow consumer of an RTSP stream is behind: python -m tests.stream.measure_lag SECONDS."""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

from tests.loopback import wait_for_port
from tests.stream.test_detect import SlowDetector
from tests.stream.test_rtsp import FPS, RtspServer
from yolo_lite.stream.capture import Limits
from yolo_lite.stream.detect import stream_detections

DETECTION = 3 / FPS


def megabytes() -> float:
    """Return the memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def main(seconds: float) -> None:
    """Print the lag from sending a frame to the end of its detection, and how it and the memory changed."""
    server = RtspServer()
    wait_for_port(server.port)
    lags: list[float] = []
    memory: list[float] = []
    for result in stream_detections(SlowDetector(DETECTION), server.url, images=True, limits=Limits(total=seconds)):
        assert result.image is not None
        now = time.monotonic()
        lags.append(now - server.sent_at(float(result.image.mean()), now))
        memory += [megabytes()] * (len(lags) % 100 == 50)
        del server.sent[:-100]
    server.stop()
    lags = lags[10:]
    percentiles = statistics.quantiles(lags, n=100)
    third = len(lags) // 3
    print(f"{seconds:g} s, {FPS} frames/s, detection {DETECTION:g} s: {len(lags):,} frames, {result.dropped:,} dropped")
    print(
        f"lag: median {percentiles[49]:.3f}, 95 % {percentiles[94]:.3f}, 99 % {percentiles[98]:.3f}, most {max(lags):.3f} s"
    )
    print(f"two frame periods and a detection: {2 / FPS + DETECTION:.3f} s")
    print(
        f"median of the first and the last third: {statistics.median(lags[:third]):.3f}, {statistics.median(lags[-third:]):.3f} s"
    )
    print(f"memory at first and at last: {memory[0]:.1f}, {memory[-1]:.1f} MB")


if __name__ == "__main__":
    main(float(sys.argv[1]))
