"""The ways that tracked objects went in the last moments."""

from __future__ import annotations

from collections import deque

from yolo_lite.structures.results import Detections
from yolo_lite.tracking.lines import Point, anchor_points, tracked_ids


class Trails:
    """Keep where each object was in the last seconds.

    Args:
        seconds: how far back trails go.
        anchor: the point that stands for an object, "bottom" or "centre".

    Example:
        >>> trails = Trails()
        >>> for frame in range(3):
        ...     cat = Detections([[0, 0, 10, 20 + frame]], [0.9], labels=[0], class_names=("cat",), track_ids=[1])
        ...     points = trails.update(cat, time=frame)
        >>> points  # the point of the first frame is older than 1.5 seconds
        {1: ((5.0, 21.0), (5.0, 22.0))}
    """

    def __init__(self, *, seconds: float = 1.5, anchor: str = "bottom") -> None:
        self._seconds, self._anchor = seconds, anchor
        self._points: dict[int, deque[tuple[float, Point]]] = {}

    def update(self, detections: Detections, *, time: float) -> dict[int, tuple[Point, ...]]:
        """Add a frame, and return the points (x, y) of each track, the oldest first.

        Args:
            detections: what `Tracker.update` returns.
            time: when the frame was captured, seconds.
        """
        for number, (x, y) in zip(tracked_ids(detections), anchor_points(detections, self._anchor).tolist()):
            self._points.setdefault(number, deque()).append((time, (x, y)))
        for number in list(self._points):
            points = self._points[number]
            while points and time - points[0][0] > self._seconds:
                points.popleft()
            if not points:
                del self._points[number]
        return {number: tuple(point for _, point in points) for number, points in self._points.items()}
