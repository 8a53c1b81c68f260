"""Draw what networks compute: filters, maps, grids, attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from yolo_lite.draw.colours import class_colour
from yolo_lite.draw.figures import legend_patch, new_figure
from yolo_lite.draw.plots import save_figure
from yolo_lite.errors import counted
from yolo_lite.structures.geometry import Image
from yolo_lite.structures.results import GridView


def draw_filters(
    image: Image, made: Mapping[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]], *, path: Path
) -> None:
    """Draw an image, its channels, and each kernel beside what it made of the image, into a PNG."""
    figure = new_figure(12, 2.6 * (1 + -(-len(made) // 2)))
    axes = figure.subplots(1 + -(-len(made) // 2), 4)
    axes[0, 0].imshow(image)
    axes[0, 0].set_title("the image")
    for channel, (name, colours) in enumerate((("red", "Reds_r"), ("green", "Greens_r"), ("blue", "Blues_r"))):
        axes[0, channel + 1].imshow(image[..., channel], cmap=colours, vmin=0, vmax=255)
        axes[0, channel + 1].set_title(f"{name} channel")
    cells = axes[1:].reshape(-1, 2)
    for (left, right), (name, (kernel, result)) in zip(cells, made.items()):
        left.imshow(kernel, cmap="coolwarm", vmin=-abs(kernel).max(), vmax=abs(kernel).max())
        if len(kernel) <= 5:
            for row, column in np.ndindex(*kernel.shape):
                left.text(column, row, f"{kernel[row, column]:.2g}", ha="center", va="center", fontsize=9)
        left.set_title(name)
        shown = result if kernel.sum() > 0.5 else np.abs(result)
        right.imshow(np.clip(shown, 0, 255), cmap="gray", vmin=0, vmax=255)
    for cell in figure.axes:
        cell.axis("off")
    save_figure(figure, path, dpi=90)


def draw_maps(
    name: str, maps: npt.NDArray[np.float32], *, kernels: npt.NDArray[np.float32] | None, path: Path, most: int = 32
) -> None:
    """Draw up to `most` kernels [outputs, inputs, k, k] of a layer, in colour where they see three channels, and its maps."""
    shown = min(most, len(maps))
    rows = -(-shown // 8)
    blocks = 2 if kernels is not None and kernels.shape[-1] > 1 else 1
    figure = new_figure(10, 1.35 * rows * blocks + 0.6)
    figure.suptitle(f"{name}: {'kernels, then ' if blocks == 2 else ''}maps, {shown} of {len(maps)}")
    axes = figure.subplots(rows * blocks, 8, squeeze=False)
    if blocks == 2 and kernels is not None:
        for cell, kernel in zip(axes[:rows].flat, kernels[:shown]):
            scaled = (kernel - kernel.min()) / max(float(np.ptp(kernel)), 1e-9)
            cell.imshow(scaled.transpose(1, 2, 0) if len(scaled) == 3 else scaled.mean(0), cmap="gray")
    for cell, values in zip(axes[-rows:].flat, maps[:shown]):
        cell.imshow(values, cmap="viridis")
    for cell in figure.axes:
        cell.axis("off")
    save_figure(figure, path, dpi=90)


def draw_grids(image: Image, grids: Sequence[GridView], *, path: Path) -> None:
    """Draw what a detector's grids make of an image: a row for each, with cells, classes, boxes before and after NMS.

    Args:
        image: the network's input, uint8 [H, W, 3].
        grids: as inspect/grid.py makes them.
        path: PNG, JPEG, PDF or SVG.
    """
    height, width = image.shape[:2]
    figure = new_figure(15, 4.1 * len(grids) * height / width + 0.6)
    shown: set[int] = set()
    names: tuple[str, ...] = ()
    for row, grid in zip(figure.subplots(len(grids), 4, squeeze=False), grids):
        rows, columns = grid.labels.shape
        extent = (0, columns * grid.stride, rows * grid.stride, 0)
        for axes in row:
            axes.imshow(image, extent=(0, width, height, 0))
        marked = np.zeros((rows, columns, 4))
        marked[grid.responsible] = (1, 0.85, 0, 0.45)
        row[0].imshow(marked, extent=extent)
        row[0].vlines(np.arange(columns + 1) * grid.stride, 0, rows * grid.stride, color="white", lw=0.5, alpha=0.6)
        row[0].hlines(np.arange(rows + 1) * grid.stride, 0, columns * grid.stride, color="white", lw=0.5, alpha=0.6)
        classes = np.array([class_colour(int(label)) for label in grid.labels.flat]) / 255
        row[1].imshow(np.dstack([classes.reshape(rows, columns, 3), 0.8 * grid.shares**0.5]), extent=extent)
        shown.update(grid.labels[grid.shares > 0.2].tolist(), grid.after.labels.tolist())
        names = grid.after.class_names
        for axes, detections in ((row[2], grid.before), (row[3], grid.after)):
            for (x1, y1, x2, y2), score, label in zip(
                detections.boxes.tolist(), detections.scores.tolist(), detections.labels
            ):
                colour = np.array(class_colour(int(label))) / 255
                axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=colour, lw=0.4 + 3 * score)
        titles = (
            f"{rows} x {columns} cells of {grid.stride} pixels, {counted(int(grid.responsible.sum()), 'responsible cell')}",
            "likeliest class of each cell",
            f"{counted(len(grid.before), 'box', plural='boxes')} before suppression",
            f"{len(grid.after)} after",
        )
        for axes, title in zip(row, titles):
            axes.set(xlim=(0, width), ylim=(height, 0))
            axes.set_title(title, fontsize=10)
            axes.axis("off")
    patches = [legend_patch(class_colour(label), names[label]) for label in sorted(shown)[:16]]
    if patches:
        figure.legend(handles=patches, loc="outside lower center", ncols=8)
    save_figure(figure, path, dpi=90)


def draw_attention(
    image: Image, attention: npt.NDArray[np.float32], *, box: Sequence[float] | None, title: str, path: Path
) -> None:
    """Draw an image, and beside it the same under a map [h, w], from 0 to 1, of where a network looked.

    Args:
        image: the network's input, uint8 [H, W, 3] or, of one channel, [H, W, 1].
        attention: over the whole image.
        box: xyxy, input pixels, drawn on both; None for none.
        title: above the map.
        path: PNG, JPEG, PDF or SVG.
    """
    height, width = image.shape[:2]
    figure = new_figure(10, 5 * height / width + 0.6)
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.imshow(image if image.shape[2] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=255)
        axes.axis("off")
        if box is not None:
            x1, y1, x2, y2 = box
            axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color="white", lw=1.5)
    heat = right.imshow(
        attention, cmap="inferno", alpha=0.65, extent=(0, width, height, 0), interpolation="bilinear", vmin=0, vmax=1
    )
    for axes in (left, right):
        axes.set(xlim=(0, width), ylim=(height, 0))
    left.set_title("the input", fontsize=10)
    right.set_title(title, fontsize=10, parse_math=False)
    figure.colorbar(heat, ax=(left, right), shrink=0.8)
    save_figure(figure, path, dpi=90)
