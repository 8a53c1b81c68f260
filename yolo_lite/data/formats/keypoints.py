"""Distinguish boxes with keypoints from polygons: YOLO labels write both as lines of numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Shape = tuple[int, int]  # number of keypoints, and of numbers in each: x, y, and perhaps a visibility of 0, 1 or 2
_NEARLY_ALL = 0.95  # fraction of a set's lines: annotations contain slips
_ENOUGH = 0.25  # fraction of lines that cannot be outlines; a large box with few keypoints can look like one
_MOST_KEYPOINTS = 150  # of one object


def keypoint_shape(numbers: Sequence[float]) -> Shape | None:
    """Return the shape of the keypoints if a line can be a box with keypoints, else None.

    The first four numbers must then be the centre and size of a box within the image. If a keypoint has three numbers, the
    third is a visibility of 0, 1 or 2. If it has two, at least four in five keypoints lie in the box. (0, 0) stands for a
    keypoint that is not marked.

    Args:
        numbers: what follows the class in a line, as fractions of the image's width and height.

    Example:
        >>> keypoint_shape([0.5, 0.5, 0.2, 0.2, 0.5, 0.5, 2, 0.55, 0.5, 1, 0.5, 0.45, 0])
        (3, 3)
    """
    if len(numbers) < 6:
        return None
    centre, size = np.array(numbers[:2]), np.array(numbers[2:4])
    if (size <= 0).any() or (centre - size / 2 < -0.02).any() or (centre + size / 2 > 1.02).any():
        return None
    values = np.array(numbers[4:])
    for length in (3, 2):
        if len(values) % length:
            continue
        points = values.reshape(-1, length)
        if length == 3 and not np.isin(points[:, 2], (0, 1, 2)).all():
            continue
        marked = points[(points[:, :2] != 0).any(1), :2]
        inside = (np.abs(marked - centre) <= 0.6 * size).all(1)
        if (length == 3 and (len(points) > 2 or not len(marked))) or (len(marked) and inside.mean() >= 0.8):
            return len(points), length
    return None


class Polygons:
    """Lines of a set that look like polygons, collected to decide whether they are boxes with keypoints instead."""

    def __init__(self) -> None:
        self._lines = self._unlike = 0
        self._shapes: dict[Shape | None, int] = {}
        self._lengths: set[int] = set()
        self._first = ""

    def add(self, numbers: Sequence[float], shape: Shape | None, *, where: str) -> None:
        """Add a line and its `keypoint_shape`."""
        self._first = self._first or where
        self._lines += 1
        self._lengths.add(len(numbers))
        self._shapes[shape] = self._shapes.get(shape, 0) + 1
        self._unlike += shape is not None and (shape[1] == 3 or not _can_be_outline(numbers))

    def keypoints(self) -> tuple[str, int, Shape] | None:
        """Return the place of the first line, the number of lines and their keypoints; None if they are polygons.

        They are boxes with keypoints if all have the same length, nearly all can be such boxes, and enough of them make no
        sense as outlines.
        """
        shape = max(self._shapes, key=lambda shape: self._shapes[shape], default=None)
        if shape is None or len(self._lengths) > 1 or self._shapes[shape] < _NEARLY_ALL * self._lines:
            return None
        few = self._lines < 3 and shape[0] < 3  # a triangle or two
        return None if few or self._unlike < _ENOUGH * self._lines else (self._first, self._lines, shape)


def _can_be_outline(numbers: Sequence[float]) -> bool:
    """Return whether no two sides cross and the second point, perhaps a width and height, is near the others."""
    points = np.array(numbers).reshape(-1, 2)
    others = np.delete(points, 1, 0)
    low, high = others.min(0), others.max(0)
    reach = (high - low).max()
    near = (points[1] >= low - reach).all() and (points[1] <= high + reach).all()
    return bool(near) and not (len(points) <= _MOST_KEYPOINTS and _sides_cross(points))


def _sides_cross(points: npt.NDArray[np.float64]) -> bool:
    """Return whether any two sides of a polygon [N, 2] cross at a point inside both."""
    ends = np.roll(points, -1, 0)
    sides = ends - points

    def turns(to: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:  # [N, N]: left (1) or right (-1) of each side
        away = to[None] - points[:, None]
        return np.sign(sides[:, None, 0] * away[..., 1] - sides[:, None, 1] * away[..., 0])

    apart = turns(points) * turns(ends) < 0
    return bool((apart & apart.T).any())
