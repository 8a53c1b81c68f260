"""Counts and times of a server, in the text format of Prometheus."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
SIZES = (1, 2, 4, 8, 16, 32)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Histogram:
    """How many values are at most each bound, their number and their sum.

    Example:
        >>> histogram = Histogram((1, 2))
        >>> for value in (1, 2, 5):
        ...     histogram.add(value)
        >>> histogram.lines("sizes", "")
        ['sizes_bucket{le="1"} 1', 'sizes_bucket{le="2"} 2', 'sizes_bucket{le="+Inf"} 3', 'sizes_sum 8', 'sizes_count 3']
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds, self._counts, self._sum = tuple(bounds), [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str, labels: str) -> list[str]:
        """Return its samples; `labels` is text such as route="/"."""
        rows, total = [], 0
        start = f"{labels}," if labels else ""
        for bound, count in zip((*map(_text, self._bounds), "+Inf"), self._counts):
            total += count
            rows.append(f'{name}_bucket{{{start}le="{bound}"}} {total}')
        block = f"{{{labels}}}" if labels else ""
        return [*rows, f"{name}_sum{block} {_text(self._sum)}", f"{name}_count{block} {total}"]


class Metrics:
    """What a server counts; safe to use from several threads.

    Example:
        >>> metrics = Metrics()
        >>> metrics.add_request("/healthz", 200, seconds=0.001)
        >>> "yolo_lite_requests_total{route=\\"/healthz\\",status=\\"200\\"} 1" in metrics.text({}).splitlines()
        True
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds: dict[str, Histogram] = {}
        self._images: Counter[str] = Counter()
        self._batches, self._batch_seconds = Histogram(SIZES), Histogram(SECONDS)

    def add_request(self, route: str, status: int, *, seconds: float) -> None:
        """Count a request that was answered."""
        with self._lock:
            self._requests[route, status] += 1
            self._seconds.setdefault(route, Histogram(SECONDS)).add(seconds)

    def add_image(self, model: str) -> None:
        """Count an image that was answered."""
        with self._lock:
            self._images[model] += 1

    def add_batch(self, count: int, seconds: float) -> None:
        """Count a batch of images, and its time in the network."""
        with self._lock:
            self._batches.add(count)
            self._batch_seconds.add(seconds)

    def text(self, gauges: Mapping[str, tuple[str, float]]) -> str:
        """Return everything; `gauges` are values of now: by name, a description and the value."""
        lines: list[str] = []
        with self._lock:
            lines += _head("requests_total", "counter", "Requests that were answered, by route and status.")
            for (route, status), count in sorted(self._requests.items()):
                lines.append(f'yolo_lite_requests_total{{route="{route}",status="{status}"}} {count}')
            lines += _head("request_seconds", "histogram", "Time from the head of a request to its answer, by route.")
            for route, histogram in sorted(self._seconds.items()):
                lines += histogram.lines("yolo_lite_request_seconds", f'route="{route}"')
            lines += _head("images_total", "counter", "Images that were answered, by network.")
            for model, count in sorted(self._images.items()):
                lines.append(f'yolo_lite_images_total{{model="{_escaped(model)}"}} {count}')
            lines += _head("batch_size", "histogram", "Images in a batch.")
            lines += self._batches.lines("yolo_lite_batch_size", "")
            lines += _head("batch_seconds", "histogram", "Time of a batch in the network.")
            lines += self._batch_seconds.lines("yolo_lite_batch_seconds", "")
        for name, (words, value) in gauges.items():
            lines += [*_head(name, "gauge", words), f"yolo_lite_{name} {_text(value)}"]
        return "\n".join([*lines, ""])


def _head(name: str, kind: str, words: str) -> list[str]:
    return [f"# HELP yolo_lite_{name} {words}", f"# TYPE yolo_lite_{name} {kind}"]


def _text(value: float) -> str:
    return repr(int(value) if value == int(value) else value)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
