"""Draw what networks compute: filters, maps, grids, attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolo_lite.draw.colours import class_colour
from yolo_lite.draw.figures import legend_patch, new_figure
from yolo_lite.draw.plots import save_figure
from yolo_lite.errors import counted
from yolo_lite.structures.geometry import Image
from yolo_lite.structures.results import Detections, GridView


def draw_filters(
    image: Image, made: Mapping[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]], *, path: Path
) -> None:
    """Draw an image, its channels, and each kernel beside its result.

    Args:
        image: uint8 [H, W, 3] RGB.
        made: by the kernel's name the kernel [k, k] and its result [H, W], as `filter_image` returns them.
        path: PNG, JPEG, PDF or SVG.

    Example:
        >>> image, kernel = np.zeros((8, 8, 3), np.uint8), np.full((3, 3), 1 / 9, np.float32)
        >>> draw_filters(image, {"blur": (kernel, np.zeros((8, 8), np.float32))}, path=Path("filters.png"))
    """
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
        signed = kernel.sum() <= 0.5
        right.imshow(np.clip(np.abs(result) if signed else result, 0, 255), cmap="gray", vmin=0, vmax=255)
        right.set_title(f"{name}: size of the result" if signed else f"{name}: the result", fontsize=9)
    for cell in figure.axes:
        cell.axis("off")
    save_figure(figure, path, dpi=90)


def draw_maps(
    name: str, maps: npt.NDArray[np.float32], *, kernels: npt.NDArray[np.float32] | None, path: Path, most: int = 32
) -> None:
    """Draw the first kernels of a layer and the maps that they produce, numbered from 0.

    Kernels for three channels are drawn in colour, others as the mean over their inputs. Each kernel and each map has
    its own scale, from its lowest value (dark) to its highest (bright).

    Args:
        name: of the layer.
        maps: [outputs, H, W].
        kernels: [outputs, inputs, k, k], or None. Kernels of 1 x 1 are not drawn.
        path: PNG, JPEG, PDF or SVG.
        most: the number of kernels and maps, at most.

    Example:
        >>> draw_maps("conv1", np.zeros((2, 8, 8)), kernels=np.ones((2, 3, 3, 3)), path=Path("maps.png"))
    """
    shown = min(most, len(maps))
    columns = min(8, shown)
    rows = -(-shown // columns)
    blocks = 2 if kernels is not None and kernels.shape[-1] > 1 else 1
    figure = new_figure(10, 1.6 * rows * blocks + 0.8)
    parts = "kernels (top) and maps" if blocks == 2 else "maps"
    figure.suptitle(f"{name}: {parts}, {shown} of {len(maps)}; each from its lowest (dark) to its highest value")
    axes = figure.subplots(rows * blocks, columns, squeeze=False)
    if blocks == 2 and kernels is not None:
        for number, (cell, kernel) in enumerate(zip(axes[:rows].flat, kernels[:shown])):
            scaled = (kernel - kernel.min()) / max(float(np.ptp(kernel)), 1e-9)
            cell.imshow(scaled.transpose(1, 2, 0) if len(scaled) == 3 else scaled.mean(0), cmap="gray")
            cell.set_title(f"kernel {number}", fontsize=8)
    for number, (cell, values) in enumerate(zip(axes[-rows:].flat, maps[:shown])):
        cell.imshow(values, cmap="viridis")
        cell.set_title(f"map {number}", fontsize=8)
    for cell in figure.axes:
        cell.axis("off")
    save_figure(figure, path, dpi=90)


def draw_patches(
    name: str, patches: Mapping[int, Sequence[Image]], *, values: Mapping[int, Sequence[float]], path: Path
) -> None:
    """Draw the patches that each channel of a layer responds to most, the strongest at the upper left.

    Args:
        name: of the layer.
        patches: by channel, up to nine patches, uint8 [h, w, 3].
        values: by channel, the responses to these patches.
        path: PNG, JPEG, PDF or SVG.

    Example:
        >>> patch = np.zeros((5, 5, 3), np.uint8)
        >>> draw_patches("conv1", {0: [patch] * 9}, values={0: [1.5] * 9}, path=Path("patches.png"))
    """
    columns = min(4, len(patches))
    rows = -(-len(patches) // columns)
    figure = new_figure(2.4 * columns, 2.7 * rows + 0.5)
    figure.suptitle(f"{name}: the patches that each channel responds to most")
    blocks = figure.subfigures(rows, columns, squeeze=False).flat
    for block, (channel, images) in zip(blocks, patches.items()):
        strongest, weakest = values[channel][0], values[channel][-1]
        block.suptitle(f"channel {channel}: {strongest:.2g} to {weakest:.2g}", fontsize=9)
        cells = block.subplots(3, 3).flat
        for cell, image in zip(cells, images):
            cell.imshow(image, interpolation="nearest")
    for cell in figure.axes:
        cell.axis("off")
    save_figure(figure, path, dpi=90)


def draw_grids(image: Image, grids: Sequence[GridView], *, path: Path) -> None:
    """Draw a detector's grids on an image, a row for each: cells, classes, boxes before and after NMS.

    Args:
        image: the network's input, uint8 [H, W, 3].
        grids: as `grids_of` returns them.
        path: PNG, JPEG, PDF or SVG.

    Example:
        >>> from yolo_lite.structures.results import Detections
        >>> nothing = Detections([], [], labels=[], class_names=("cat",))
        >>> grid = GridView(32, np.zeros((2, 2), int), np.zeros((2, 2)), np.zeros((2, 2), bool), nothing, nothing)
        >>> draw_grids(np.zeros((64, 64, 3), np.uint8), [grid], path=Path("grid.png"))
    """
    height, width = image.shape[:2]
    figure = new_figure(15, 4.1 * len(grids) * height / width + 0.6)
    shown: set[int] = set()
    names: tuple[str, ...] = ()
    for row, grid in zip(figure.subplots(len(grids), 4, squeeze=False), grids):
        for axes in row:
            axes.imshow(image, extent=(0, width, height, 0))
        _draw_cells(row, grid)
        shown.update(grid.labels[grid.scores > 0.2].tolist(), grid.after.labels.tolist())
        names = grid.after.class_names
        for axes, detections in ((row[2], grid.before), (row[3], grid.after)):
            _draw_outlines(axes, detections)
        for axes, title in zip(row, _titles(grid)):
            axes.set(xlim=(0, width), ylim=(height, 0))
            axes.set_title(title, fontsize=10)
            axes.axis("off")
    patches = [legend_patch(class_colour(label), names[label]) for label in sorted(shown)[:16]]
    if patches:
        figure.legend(handles=patches, loc="outside lower center", ncols=8)
    save_figure(figure, path, dpi=90)


def _draw_cells(row: Sequence[Any], grid: GridView) -> None:
    """Mark the responsible cells in the first panel, and colour all cells by their likeliest class in the second."""
    rows, columns = grid.labels.shape
    width, height = columns * grid.stride, rows * grid.stride
    marked = np.zeros((rows, columns, 4))
    marked[grid.responsible] = (1, 0.85, 0, 0.45)
    row[0].imshow(marked, extent=(0, width, height, 0))
    row[0].vlines(np.arange(columns + 1) * grid.stride, 0, height, color="white", lw=0.5, alpha=0.6)
    row[0].hlines(np.arange(rows + 1) * grid.stride, 0, width, color="white", lw=0.5, alpha=0.6)
    classes = np.array([class_colour(int(label)) for label in grid.labels.flat]) / 255
    colours = np.dstack([classes.reshape(rows, columns, 3), 0.8 * grid.scores**0.5])
    row[1].imshow(colours, extent=(0, width, height, 0))


def _draw_outlines(axes: Any, detections: Detections) -> None:
    for (x1, y1, x2, y2), score, label in zip(detections.boxes.tolist(), detections.scores.tolist(), detections.labels):
        colour = np.array(class_colour(int(label))) / 255
        axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=colour, lw=0.4 + 3 * score)


def _titles(grid: GridView) -> list[str]:
    rows, columns = grid.labels.shape
    cells = f"{rows} x {columns} cells of {grid.stride} pixels"
    return [
        f"{cells}, {counted(int(grid.responsible.sum()), 'responsible cell')}",
        "likeliest class of each cell (stronger colour: likelier)",
        f"{counted(len(grid.before), 'box', plural='boxes')} before NMS",
        f"{counted(len(grid.after), 'box', plural='boxes')} after NMS",
    ]


def draw_attention(
    image: Image, attention: npt.NDArray[np.float32], *, box: Sequence[float] | None, title: str, path: Path
) -> None:
    """Draw an image, and beside it the same image under a map of where a network looked.

    Args:
        image: the network's input, uint8 [H, W, 3], or [H, W, 1] if it has one channel.
        attention: [h, w] from 0 to 1, over the whole image.
        box: xyxy, input pixels, drawn on both images, or None.
        title: above the map.
        path: PNG, JPEG, PDF or SVG.

    Example:
        >>> black = np.zeros((32, 32, 3), np.uint8)
        >>> draw_attention(black, np.eye(4, dtype=np.float32), box=None, title="cat", path=Path("cam.png"))
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
    figure.colorbar(heat, ax=(left, right), shrink=0.8, label="how much a place counts (1: the most)")
    save_figure(figure, path, dpi=90)
