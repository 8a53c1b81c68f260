"""Count tracked objects that cross a line."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from yolo_lite.checks import check_number, shown
from yolo_lite.errors import InputError
from yolo_lite.structures.results import Detections

ANCHORS = ("bottom", "centre")

_MARGIN = 0.05  # of the box's height: an object this close to a border is on neither side of it yet
_REMEMBERED = 1000  # tracks; of more, those that were seen longest ago are forgotten

Point = tuple[float, float]
Points = npt.NDArray[np.float64]


def anchor_points(detections: Detections, anchor: str = "bottom") -> Points:
    """Return the point [N, 2] (x, y) that stands for each object.

    Args:
        detections: the objects.
        anchor: "bottom", the middle of the lower edge, where an object touches the ground; or "centre" of the box.

    Example:
        >>> person = Detections([[0, 0, 10, 40]], [0.9], labels=[0], class_names=("person",))
        >>> anchor_points(person).tolist(), anchor_points(person, "centre").tolist()
        ([[5.0, 40.0]], [[5.0, 20.0]])
    """
    boxes = detections.boxes.astype(np.float64)
    y = boxes[:, 3] if check_anchor(anchor) == "bottom" else (boxes[:, 1] + boxes[:, 3]) / 2
    return np.stack([(boxes[:, 0] + boxes[:, 2]) / 2, y], 1)


def check_anchor(anchor: str) -> str:
    """Return an anchor; raise InputError if there is none of this name.

    Example:
        >>> check_anchor("bottom")
        'bottom'
    """
    if anchor not in ANCHORS:
        raise InputError(f"anchor must be {' or '.join(ANCHORS)}, got {shown(anchor)}")
    return anchor


def margins(detections: Detections) -> Points:
    """Return how far each object [N] must be beyond a border to count as on the other side, so that jitter counts once.

    Example:
        >>> margins(Detections([[0, 0, 10, 40]], [0.9], labels=[0], class_names=("person",))).tolist()
        [2.0]
    """
    return _MARGIN * (detections.boxes[:, 3] - detections.boxes[:, 1]).astype(np.float64)


class Recent(OrderedDict[int, Any]):
    """A value for each track; only the thousand that were set last are kept, so that a stream may go on for ever.

    Example:
        >>> recent = Recent()
        >>> for number in range(1200):
        ...     recent[number] = "seen"
        >>> len(recent), 199 in recent
        (1000, False)
    """

    def __setitem__(self, key: int, value: Any) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)
        if len(self) > _REMEMBERED:
            self.popitem(last=False)


def tracked_ids(detections: Detections) -> list[int]:
    """Return the track ids of detections.

    Raises:
        InputError: if they have none.

    Example:
        >>> tracked_ids(Detections([[0, 0, 9, 9]], [0.9], labels=[0], class_names=("cat",), track_ids=[4]))
        [4]
    """
    if detections.track_ids is None:
        raise InputError("these detections have no track_ids; pass what Tracker.update returns")
    return [int(number) for number in detections.track_ids]


class CountLine:
    """Count the objects that cross a line, by direction and class.

    An object counts when its anchor has moved to the other side, across the line between its two ends. Small movements
    around the line do not count: the anchor must be 5 % of the box's height beyond it.

    Args:
        start, end: (x, y), pixels. Their order makes no difference.
        anchor: the point that stands for an object, "bottom" (the middle of its lower edge) or "centre".

    Attributes:
        directions: names of the two directions: ("down", "up") for a line that is more horizontal than vertical, as
            on the screen, else ("right", "left").
        counts: by direction, the number of crossings of each class name.

    Raises:
        InputError: if a point is not two numbers, or both are the same.

    Example:
        >>> line = CountLine((0, 50), (100, 50))
        >>> for y in (20, 40, 60, 80):  # the lower edge of a cat that walks down
        ...     line.update(Detections([[10, y - 20, 30, y]], [0.9], labels=[0], class_names=("cat",), track_ids=[1]))
        >>> {direction: dict(counts) for direction, counts in line.counts.items()}
        {'down': {'cat': 1}, 'up': {}}
    """

    def __init__(self, start: Sequence[float], end: Sequence[float], *, anchor: str = "bottom") -> None:
        self.start, self.end, self.anchor = check_point(start, "start"), check_point(end, "end"), anchor
        if self.start == self.end:
            raise InputError(f"the two ends of a line must be different points, got {self.start} twice")
        check_anchor(anchor)
        dx, dy = self.end[0] - self.start[0], self.end[1] - self.start[1]
        is_flat = abs(dx) >= abs(dy)
        self.directions = ("down", "up") if is_flat else ("right", "left")
        sign = (1 if dx > 0 else -1) if is_flat else (-1 if dy > 0 else 1)
        length = np.hypot(dx, dy)
        self._normal = sign * np.array([-dy, dx]) / length  # of length 1, towards the first direction
        self.counts: dict[str, Counter[str]] = {direction: Counter() for direction in self.directions}
        self._places: Recent = Recent()  # by track: where it was last clearly on one side

    def update(self, detections: Detections) -> None:
        """Count the crossings since the last frame; `detections` are what `Tracker.update` returns."""
        points, away = anchor_points(detections, self.anchor), margins(detections)
        sides = (points - np.array(self.start)) @ self._normal
        for row, number in enumerate(tracked_ids(detections)):
            if abs(sides[row]) <= away[row]:
                continue
            before = self._places.get(number)
            if before is not None and before[1] * sides[row] < 0 and self._meets(before[0], points[row]):
                direction = self.directions[0] if sides[row] > 0 else self.directions[1]
                self.counts[direction][detections.names[row]] += 1
            self._places[number] = points[row], sides[row]

    def _meets(self, before: Points, after: Points) -> bool:
        """Return whether the way from one side to the other passes between the ends of the line."""
        start, along = np.array(self.start), np.array(self.end) - np.array(self.start)
        near, far = (before - start) @ self._normal, (after - start) @ self._normal
        place = before + (after - before) * (near / (near - far))
        return bool(0 <= (place - start) @ along <= along @ along)


def check_point(value: Any, name: str) -> Point:
    """Return a point as two numbers (x, y); raise InputError for anything else.

    Example:
        >>> check_point([3, 4], "start")
        (3.0, 4.0)
    """
    numbers = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(numbers, Sequence) or isinstance(numbers, str | bytes) or len(numbers) != 2:
        raise InputError(f"{name} must be a point (x, y), got {shown(value)}")
    return check_number(numbers[0], name), check_number(numbers[1], name)
