"""Drawings of the course: a convolution worked out in numbers, the box formula of YOLOv1, IoU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from yolo_lite.draw.colours import hex_colour
from yolo_lite.draw.figures import new_figure
from yolo_lite.draw.plots import save_figure
from yolo_lite.structures.geometry import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OBJECT, _PREDICTION = hex_colour(0), hex_colour(1)


class Matrix(NamedTuple):
    """A matrix of numbers to draw.

    Attributes:
        title: above it.
        values: [rows, columns].
        frames: (row, column, rows, columns) of parts to frame, each in a colour of its own.
    """

    title: str
    values: npt.NDArray[np.int64]
    frames: Sequence[tuple[int, int, int, int]] = ()


def draw_matrices(rows: Sequence[Sequence[Matrix]], *, path: Path) -> None:
    """Draw matrices with their numbers, row by row.

    Args:
        rows: the matrices of each row.
        path: PNG, JPEG, PDF or SVG.

    Example:
        >>> draw_matrices([[Matrix("the kernel", np.eye(3, dtype=int), [(0, 0, 1, 1)])]], path=Path("kernel.png"))
    """
    columns = max(len(row) for row in rows)
    figure = new_figure(3.6 * columns, 2.9 * len(rows))
    for axes_row, row in zip(figure.subplots(len(rows), columns, squeeze=False), rows):
        for axes, matrix in zip(axes_row, row):
            _draw_matrix(axes, matrix)
        for axes in axes_row:
            axes.axis("off")
    save_figure(figure, path, dpi=90)


def _draw_matrix(axes: Axes, matrix: Matrix) -> None:
    values = matrix.values
    most = max(1, int(abs(values).max()))
    axes.imshow(values, cmap="coolwarm", vmin=-most, vmax=most, alpha=0.5)
    for row, column in np.ndindex(*values.shape):
        axes.text(column, row, f"{values[row, column]}", ha="center", va="center", fontsize=10)
    for number, (top, left, height, width) in enumerate(matrix.frames):
        inset = 0.46 - 0.04 * number
        x, y = (left - inset, left + width - 1 + inset), (top - inset, top + height - 1 + inset)
        axes.plot(
            [x[0], x[1], x[1], x[0], x[0]],
            [y[0], y[0], y[1], y[1], y[0]],
            color=hex_colour((4, 5, 2)[number % 3]),
            lw=2,
        )
    axes.set_title(matrix.title, fontsize=10)


class BoxLesson(NamedTuple):
    """An object on a grid, and a prediction of it; all boxes xyxy in original pixels.

    Attributes:
        box: of the object.
        grid: cells along a side, 7 in YOLOv1.
        cell: (row, column) of the cell with the object's centre.
        targets: x, y, w, h, as YOLOv1 asks its network for them.
        prediction: the box that is compared with the object's.
        intersection: the box that both share; None if they do not overlap.
        iou: of the two.
    """

    box: tuple[float, float, float, float]
    grid: int
    cell: tuple[int, int]
    targets: tuple[float, float, float, float]
    prediction: tuple[float, float, float, float]
    intersection: tuple[float, float, float, float] | None
    iou: float


def draw_box_lesson(image: Image, lesson: BoxLesson, *, path: Path) -> None:
    """Draw the box formula of YOLOv1 on an image, and beside it the IoU of the object and a prediction.

    Args:
        image: uint8 [H, W, 3] RGB.
        lesson: what to draw.
        path: PNG, JPEG, PDF or SVG.

    Example:
        >>> box, inner = (8.0, 8, 40, 40), (8.0, 8, 40, 24)
        >>> lesson = BoxLesson(box, 7, (2, 2), (0.6, 0.6, 0.5, 0.5), inner, inner, 0.5)
        >>> draw_box_lesson(np.zeros((64, 64, 3), np.uint8), lesson, path=Path("box.png"))
    """
    height, width = image.shape[:2]
    figure = new_figure(13, 6.5 * height / width + 1.3)
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.imshow(image, extent=(0, width, height, 0))
        axes.set(xlim=(0, width), ylim=(height, 0))
        axes.axis("off")
        _outline(axes, lesson.box, _OBJECT, "the object")
    _draw_formula(left, lesson, (height, width))
    _outline(right, lesson.prediction, _PREDICTION, "the prediction")
    if lesson.intersection:
        x1, y1, x2, y2 = lesson.intersection
        right.fill([x1, x2, x2, x1], [y1, y1, y2, y2], color=hex_colour(3), alpha=0.4, label="the intersection")
    right.legend(loc="lower right")
    common, union = _areas(lesson)
    right.set_title(
        f"IoU = intersection / union\n= {common:,.0f} / {union:,.0f} pixels = {lesson.iou:.2f}", fontsize=11
    )
    save_figure(figure, path, dpi=90)


def _draw_formula(axes: Axes, lesson: BoxLesson, hw: tuple[int, int]) -> None:
    step_y, step_x = hw[0] / lesson.grid, hw[1] / lesson.grid
    axes.vlines(np.arange(lesson.grid + 1) * step_x, 0, hw[0], color="white", lw=0.8, alpha=0.8)
    axes.hlines(np.arange(lesson.grid + 1) * step_y, 0, hw[1], color="white", lw=0.8, alpha=0.8)
    row, column = lesson.cell
    x, y = column * step_x, row * step_y
    axes.fill([x, x + step_x, x + step_x, x], [y, y, y + step_y, y + step_y], color=hex_colour(3), alpha=0.5)
    centre = (lesson.box[0] + lesson.box[2]) / 2, (lesson.box[1] + lesson.box[3]) / 2
    axes.plot(*centre, "o", color=_OBJECT, markeredgecolor="black", markersize=8)
    tx, ty, tw, th = lesson.targets
    axes.set_title(
        f"row {row}, column {column} of {lesson.grid} x {lesson.grid} answers for the object\n"
        f"x = {tx:.2f} and y = {ty:.2f} of a cell; w = {tw:.2f} and h = {th:.2f} of the image",
        fontsize=11,
    )


def _outline(axes: Axes, box: Sequence[float], colour: str, label: str) -> None:
    x1, y1, x2, y2 = box
    axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=colour, lw=3, label=label)


def _areas(lesson: BoxLesson) -> tuple[float, float]:
    """Return the areas of intersection and union, pixels."""
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (lesson.box, lesson.prediction)]
    x1, y1, x2, y2 = lesson.intersection or (0, 0, 0, 0)
    common = (x2 - x1) * (y2 - y1)
    return common, sum(areas) - common
