"""How a detector's grids fit the boxes of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.geometry import Letterbox


class GridFit(NamedTuple):
    """How many boxes the grids can serve at one input size.

    Attributes:
        boxes: their number, without crowds.
        below_cell: fraction with a side shorter than a cell of the finest grid.
        unserved: fraction that contains no point of any grid.
        sides: float32 [N], geometric mean of width and height, input pixels.
    """

    boxes: int
    below_cell: float
    unserved: float
    sides: npt.NDArray[np.float32]


def grid_fit(
    data: DetectionSet,
    input_hw: tuple[int, int],
    *,
    resize: str,
    points: npt.NDArray[np.float32],
    strides: Sequence[int],
) -> GridFit:
    """Compare boxes with grids.

    Args:
        data: boxes in original pixels.
        input_hw: height and width of the input.
        resize: "letterbox" or "stretch".
        points: float32 [A, 2] x, y, input pixels, of all grids.
        strides: of the grids, input pixels.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> points = np.array([[x, y] for y in range(4, 96, 8) for x in range(4, 128, 8)], np.float32)
        >>> fit = grid_fit(read_split("my_images", "val"), (96, 128), resize="letterbox", points=points, strides=[8])
        >>> fit.unserved
        0.0
    """
    sides, below, unserved = [], 0, 0
    finest = min(strides)
    for record in data.records:
        boxes = Letterbox.fit(record.hw, input_hw, resize=resize).boxes_to_input(record.boxes[~record.crowd])
        sizes = boxes[:, 2:] - boxes[:, :2]
        sides.append(np.sqrt(sizes.prod(1).clip(min=0)))
        below += int((sizes.min(1, initial=np.inf) < finest).sum())
        for x1, y1, x2, y2 in boxes:
            inside = (points[:, 0] >= x1) & (points[:, 0] <= x2) & (points[:, 1] >= y1) & (points[:, 1] <= y2)
            unserved += not inside.any()
    every = np.concatenate(sides) if sides else np.zeros(0, np.float32)
    count = max(1, len(every))
    return GridFit(len(every), below / count, unserved=unserved / count, sides=every.astype(np.float32))


def crowded_out(data: DetectionSet, input_hw: tuple[int, int], *, resize: str, stride: int) -> int:
    """Count the boxes that YOLOv1 cannot learn, because a larger box has its centre in the same cell.

    Args:
        data: boxes in original pixels.
        input_hw: height and width of the input.
        resize: "letterbox" or "stretch".
        stride: side of a cell, input pixels.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> crowded_out(read_split("my_images", "val"), (96, 128), resize="letterbox", stride=128) > 0  # one cell
        True
    """
    lost = 0
    for record in data.records:
        boxes = Letterbox.fit(record.hw, input_hw, resize=resize).boxes_to_input(record.boxes[~record.crowd])
        cells = ((boxes[:, :2] + boxes[:, 2:]) / 2 / stride).astype(np.int64)
        cells = np.minimum(cells, [input_hw[1] // stride - 1, input_hw[0] // stride - 1])
        lost += len(cells) - len(np.unique(cells, axis=0))
    return lost
