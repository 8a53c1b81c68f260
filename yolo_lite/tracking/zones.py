"""Count tracked objects inside a zone, and how long they stay."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from yolo_lite.checks import check_number, shown
from yolo_lite.errors import InputError
from yolo_lite.structures.results import Detections
from yolo_lite.tracking.lines import Points, Recent, anchor_points, check_anchor, check_point, margins, tracked_ids

_PATIENCE = 0.5  # seconds that an undetected object still counts as present


class Zone:
    """Count the objects inside a polygon.

    An object is inside if its anchor is. At the border it keeps its state until the anchor is 5 % of the box's height
    beyond it. An object that is first seen inside has entered as well.

    Args:
        points: at least three corners (x, y), pixels; the last is joined to the first.
        anchor: the point that stands for an object, "bottom" (the middle of its lower edge) or "centre".

    Attributes:
        entries: how often objects of each class name entered.
        dwell: by track id, the seconds spent inside so far; of more than 1,000 tracks the oldest are left out.

    Raises:
        InputError: if there are fewer than three points, or they lie on a line.

    Example:
        >>> zone = Zone([(0, 0), (100, 0), (100, 100), (0, 100)])
        >>> for frame, x in enumerate((80, 90, 120, 150)):  # a cat that leaves
        ...     cat = Detections([[x - 10, 40, x + 10, 60]], [0.9], labels=[0], class_names=("cat",), track_ids=[1])
        ...     zone.update(cat, time=frame / 10)
        >>> dict(zone.entries), zone.dwell[1], dict(zone.present)
        ({'cat': 1}, 0.1, {})
    """

    def __init__(self, points: Sequence[Sequence[float]], *, anchor: str = "bottom") -> None:
        self.points = tuple(check_point(point, "a corner of a zone") for point in points)
        corners = np.array(self.points).reshape(-1, 2)
        if len(corners) < 3 or np.linalg.matrix_rank(corners - corners[0]) < 2:
            raise InputError(f"a zone must have at least three corners that are not on one line, got {shown(points)}")
        self.anchor = check_anchor(anchor)
        self.entries: Counter[str] = Counter()
        self.dwell: Recent = Recent()
        self._inside: Recent = Recent()  # by track: whether it is inside, when it was last seen, and its class name
        self._time = -math.inf

    def update(self, detections: Detections, *, time: float) -> None:
        """Take in the next frame.

        Args:
            detections: what `Tracker.update` returns.
            time: when the frame was captured, seconds.
        """
        now = check_number(time, "time")
        if now <= self._time:
            raise InputError(f"time must be later than that of the frame before ({self._time:g} s), got {now:g} s")
        self._time = now
        points, away = anchor_points(detections, self.anchor), margins(detections)
        names = detections.names
        for row, number in enumerate(tracked_ids(detections)):
            was_inside, last, _ = self._inside.get(number, (False, now, ""))
            is_inside = contains(self.points, points[row])
            if number in self._inside and distance(self.points, points[row]) <= away[row]:
                is_inside = was_inside
            if is_inside and not was_inside:
                self.entries[names[row]] += 1
            if is_inside:
                self.dwell[number] = self.dwell.get(number, 0.0) + (now - last if was_inside else 0.0)
            self._inside[number] = is_inside, now, names[row]

    @property
    def present(self) -> Counter[str]:
        """The number of objects of each class name that are inside now, or were when last seen half a second ago."""
        return Counter(
            name for is_inside, last, name in self._inside.values() if is_inside and self._time - last <= _PATIENCE
        )

    @property
    def mean_dwell(self) -> float:
        """The mean seconds that a track spent inside; 0 if there was none."""
        return sum(self.dwell.values()) / len(self.dwell) if self.dwell else 0.0


def contains(points: Sequence[Sequence[float]], point: Points) -> bool:
    """Return whether a point is inside a polygon, by the even-odd rule.

    Example:
        >>> contains([(0, 0), (4, 0), (0, 4)], np.array([1, 1])), contains([(0, 0), (4, 0), (0, 4)], np.array([3, 3]))
        (True, False)
    """
    x, y = point
    corners = np.asarray(points, np.float64)
    before = np.roll(corners, 1, axis=0)
    straddles = (corners[:, 1] > y) != (before[:, 1] > y)
    heights = np.where(straddles, before[:, 1] - corners[:, 1], 1.0)
    crossings = corners[:, 0] + (y - corners[:, 1]) / heights * (before[:, 0] - corners[:, 0])
    return bool((straddles & (x < crossings)).sum() % 2)


def distance(points: Sequence[Sequence[float]], point: Points) -> float:
    """Return the distance of a point from the border of a polygon.

    Example:
        >>> distance([(0, 0), (4, 0), (0, 4)], np.array([1, 1]))
        1.0
    """
    corners = np.asarray(points, np.float64)
    edges = np.roll(corners, -1, axis=0) - corners
    lengths = np.maximum((edges**2).sum(1), 1e-12)
    fractions = (((point - corners) * edges).sum(1) / lengths).clip(0, 1)
    gaps = point - (corners + fractions[:, None] * edges)
    return float(np.sqrt((gaps**2).sum(1)).min())
