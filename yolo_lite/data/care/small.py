"""Recommend tiles, or a larger input, for a data set whose objects are small."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.tiles import OVERLAP

INPUT_HW = (416, 416)  # of the shipped default weights
# Of the objects of coco_mini val, the default weights find 18 % if a side is below this, otherwise 63 % (docs/detect.md).
SHORT = 16  # input pixels
FEW = 0.1  # fraction of short objects that asks for nothing
_MOST = 4  # rows and columns


class Advice(NamedTuple):
    """How many objects are short in the network's input, and what makes them larger.

    Attributes:
        short: fraction of the objects with a side below SHORT pixels in the input.
        grid: rows and columns of the tiles to use; 1: none are needed.
        short_in_tiles: that fraction in those tiles.
        image_hw: height and width of an input in which objects are about as large as in those tiles.
    """

    short: float
    grid: int
    short_in_tiles: float
    image_hw: tuple[int, int]

    def line(self, input_hw: tuple[int, int]) -> str:
        """Return the advice as a sentence, for an input of a size."""
        size = "x".join(map(str, input_hw))
        start = f"{self.short:.0%} of the objects have a side below {SHORT} pixels in an input of {size}"
        if self.grid == 1:
            return f"{start}: tiles are not needed"
        sides = sorted(set(self.image_hw), key=self.image_hw.index)
        larger = " ".join(map(str, sides))
        return f"{start}; {self.short_in_tiles:.0%} with --tiles {self.grid}x{self.grid}, or --image-size {larger}"


def advise_tiles(data: DetectionSet, input_hw: tuple[int, int] = INPUT_HW) -> Advice | None:
    """Return advice for a data set and an input of (height, width); None if it has no objects.

    The grid is the smallest, up to 4x4, in which at most a tenth of the objects are short. Crowds do not count.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> advise_tiles(read_split("my_images", "val")).line((416, 416))
        '0% of the objects have a side below 16 pixels in an input of 416x416: tiles are not needed'
    """
    records = data.records
    boxes, _, crowd, _, _ = records.objects
    if crowd.all():
        return None
    sizes_hw = records.sizes_hw[records.image_of_objects][~crowd].astype(np.float64)
    sides_hw = (boxes[:, 2:] - boxes[:, :2])[~crowd, ::-1]
    fractions = [_short(sides_hw, sizes_hw / _zoom(grid), input_hw) for grid in range(1, _MOST + 1)]
    grid = next((number for number, fraction in enumerate(fractions, 1) if fraction <= FEW), _MOST)
    height, width = (32 * round(side * _zoom(grid) / 32) for side in input_hw)
    return Advice(fractions[0], grid, fractions[grid - 1], (height, width))


def _zoom(grid: int) -> float:
    """Return how much larger objects are in a tile than in the whole image."""
    return 1 + (grid - 1) * (1 - OVERLAP)


def _short(sides_hw: npt.NDArray[np.float64], sizes_hw: npt.NDArray[np.float64], input_hw: tuple[int, int]) -> float:
    """Return the fraction of short objects in letterboxes around images or tiles of some sizes."""
    scales = (np.array(input_hw) / sizes_hw).min(1)
    return float((sides_hw.min(1) * scales < SHORT).mean())
