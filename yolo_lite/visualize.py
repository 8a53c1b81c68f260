"""Draw detections on pictures, and the curves of a training run."""

from __future__ import annotations

import colorsys
import functools
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from yolo_lite.errors import counted, one_line
from yolo_lite.structures import Classification, Detections, GridView, Image, Letterbox

_CURVES = {"loss_total": "training", "val_loss": "validation"}


def draw_detections(image: Image, detections: Detections) -> Image:
    """Return a copy of a picture (uint8 [H, W, 3] RGB) with a box, name and score for each detection.

    Boxes are in the picture's pixels. Lines and letters grow with the picture; each class keeps its colour; the best
    scores are drawn last, on top.
    """
    canvas = PillowImage.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    short = min(image.shape[:2])
    width = max(2, round(short / 200))
    font = _font(max(11, round(short / 28)))
    for one in list(detections)[::-1]:
        colour = class_colour(int(one.labels[0]))
        left, top, right, bottom = (float(value) for value in one.boxes[0])
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=width)
        _draw_label(draw, f"{one.names[0]} {one.scores[0]:.0%}", (left, top), colour, font, image.shape[:2])
    return np.array(canvas)


def class_colour(label: int) -> tuple[int, int, int]:
    """Return a class's colour: hues a golden angle apart, so that neighbours differ."""
    red, green, blue = colorsys.hsv_to_rgb((0.33 + label * 0.618034) % 1, 0.85, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


def plot_results(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw a run's losses, metrics and learning rate by epoch into a PNG."""
    from matplotlib.figure import Figure

    epochs = [row["epoch"] for row in rows]
    losses = [name for name in rows[-1] if name.startswith("loss_")]
    if "val_loss" in rows[-1]:
        losses = ["loss_total", "val_loss"]
    metrics = [name for name in ("AP", "AP50", "AP75", "accuracy", "F1") if any(name in row for row in rows)]
    first = "loss" if "val_loss" in losses else "training loss"
    panels = ((first, losses), ("validation", metrics), ("learning rate", ["lr"]))
    figure = Figure(figsize=(13, 4), layout="constrained")
    for axes, (title, names) in zip(figure.subplots(1, 3), panels):
        for name in names:
            points = [(epoch, row[name]) for epoch, row in zip(epochs, rows) if name in row]
            axes.plot(*zip(*points), marker="o", markersize=3, label=_CURVES.get(name, name.removeprefix("loss_")))
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        if len(names) > 1:
            axes.legend()
    figure.savefig(path, dpi=100)


def plot_confusion(matrix: npt.NDArray[np.int64], class_names: Sequence[str], path: Path) -> None:
    """Draw a confusion matrix [C, C] into a PNG: rows what pictures are, columns what they were called, shaded by row."""
    from matplotlib.figure import Figure

    count = len(class_names)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = min(24.0, 3 + 0.55 * count)
    figure = Figure(figsize=(side + 0.5, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xticks=range(count), yticks=range(count), xlabel="called", ylabel="is")
    axes.set_xticklabels(class_names, rotation=45, ha="right", parse_math=False)
    axes.set_yticklabels(class_names, parse_math=False)
    if count <= 40:
        for row, column in np.ndindex(count, count):
            if matrix[row, column]:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, f"{matrix[row, column]:,}", ha="center", va="center", color=colour, fontsize=8)
    figure.savefig(path, dpi=100)


def draw_classifications(examples: Iterable[tuple[Image, Classification, str]], path: Path, columns: int = 6) -> None:
    """Draw pictures in a grid into a PNG, each with what it was called and, in red, what it is where that was wrong."""
    from matplotlib.figure import Figure

    chosen = list(examples)
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(2 * columns, 2.4 * rows), layout="constrained")
    for axes, (image, found, truth) in zip(figure.subplots(rows, columns, squeeze=False).flat, chosen):
        right = found.name == truth
        axes.imshow(image, interpolation="nearest" if max(image.shape) < 100 else None)
        said = f"{found.name} {found.score:.0%}"
        text, colour = (said, "green") if right else (f"{said}\nis {truth}", "red")
        axes.set_title(text, color=colour, fontsize=9, parse_math=False)
    for axes in figure.axes:
        axes.axis("off")
    figure.savefig(path, dpi=100)


def draw_filters(
    image: Image, made: Mapping[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]], path: Path
) -> None:
    """Draw a picture, its channels, and each kernel beside what it made of the picture, into a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 2.6 * (1 + -(-len(made) // 2))), layout="constrained")
    axes = figure.subplots(1 + -(-len(made) // 2), 4)
    axes[0, 0].imshow(image)
    axes[0, 0].set_title("the picture")
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
    for one in figure.axes:
        one.axis("off")
    figure.savefig(path, dpi=90)


def draw_maps(
    name: str, maps: npt.NDArray[np.float32], kernels: npt.NDArray[np.float32] | None, path: Path, most: int = 32
) -> None:
    """Draw up to `most` kernels [outputs, inputs, k, k] of a layer, in colour where they see three channels, and its maps."""
    from matplotlib.figure import Figure

    shown = min(most, len(maps))
    rows = -(-shown // 8)
    blocks = 2 if kernels is not None and kernels.shape[-1] > 1 else 1
    figure = Figure(figsize=(10, 1.35 * rows * blocks + 0.6), layout="constrained")
    figure.suptitle(f"{name}: {'kernels, then ' if blocks == 2 else ''}maps, {shown} of {len(maps)}")
    axes = figure.subplots(rows * blocks, 8, squeeze=False)
    if blocks == 2 and kernels is not None:
        for one, kernel in zip(axes[:rows].flat, kernels[:shown]):
            scaled = (kernel - kernel.min()) / max(float(np.ptp(kernel)), 1e-9)
            one.imshow(scaled.transpose(1, 2, 0) if len(scaled) == 3 else scaled.mean(0), cmap="gray")
    for one, values in zip(axes[-rows:].flat, maps[:shown]):
        one.imshow(values, cmap="viridis")
    for one in figure.axes:
        one.axis("off")
    figure.savefig(path, dpi=90)


def draw_grids(image: Image, grids: Sequence[GridView], path: Path) -> None:
    """Draw what a detector's grids make of a picture: a row for each, with cells, classes, boxes before and after NMS.

    Args:
        image: the network's input, uint8 [H, W, 3].
        grids: as introspect/grid.py makes them.
        path: PNG, JPEG, PDF or SVG.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    height, width = image.shape[:2]
    figure = Figure(figsize=(15, 4.1 * len(grids) * height / width + 0.6), layout="constrained")
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
        for axes, found in ((row[2], grid.before), (row[3], grid.after)):
            for (x1, y1, x2, y2), score, label in zip(found.boxes.tolist(), found.scores.tolist(), found.labels):
                colour = np.array(class_colour(int(label))) / 255
                axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=colour, lw=0.4 + 3 * score)
        titles = (
            f"{rows} x {columns} cells of {grid.stride} pixels, {counted(int(grid.responsible.sum()), 'responsible cell')}",
            "likeliest class of each cell",
            f"{counted(len(grid.before), 'box', 'boxes')} before suppression",
            f"{len(grid.after)} after",
        )
        for axes, title in zip(row, titles):
            axes.set(xlim=(0, width), ylim=(height, 0))
            axes.set_title(title, fontsize=10)
            axes.axis("off")
    patches = [Patch(color=np.array(class_colour(label)) / 255, label=names[label]) for label in sorted(shown)[:16]]
    if patches:
        figure.legend(handles=patches, loc="outside lower center", ncols=8)
    figure.savefig(path, dpi=90)


def draw_attention(
    image: Image, attention: npt.NDArray[np.float32], box: Sequence[float] | None, title: str, path: Path
) -> None:
    """Draw a picture, and beside it the same under a map [h, w], from 0 to 1, of where a network looked.

    Args:
        image: the network's input, uint8 [H, W, 3] or, of one channel, [H, W, 1].
        attention: over the whole picture.
        box: xyxy, input pixels, drawn on both; None for none.
        title: above the map.
        path: PNG, JPEG, PDF or SVG.
    """
    from matplotlib.figure import Figure

    height, width = image.shape[:2]
    figure = Figure(figsize=(10, 5 * height / width + 0.6), layout="constrained")
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
    figure.savefig(path, dpi=90)


def _draw_label(
    draw: ImageDraw.ImageDraw,
    text: str,
    corner: tuple[float, float],
    colour: tuple[int, int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    image_hw: tuple[int, ...],
) -> None:
    """Write on a plate above the box, or inside it where there is no room above."""
    text = one_line(text)  # control characters are no glyphs, and some make the font engine fail
    left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
    width, height = right - left + 6, bottom - top + 6
    x = max(0.0, min(corner[0], image_hw[1] - width))
    y = corner[1] - height if corner[1] >= height else max(0.0, min(corner[1], image_hw[0] - height))
    draw.rectangle((x, y, x + width, y + height), fill=colour)
    dark = (0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]) < 140
    draw.text((x + 3 - left, y + 3 - top), text, fill="white" if dark else "black", font=font)


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Return DejaVu Sans, which matplotlib carries and which knows most alphabets; else Pillow's own."""
    package = importlib.util.find_spec("matplotlib")
    if package and package.origin:
        file = Path(package.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if file.is_file():
            return ImageFont.truetype(str(file), size)
    return ImageFont.load_default(size)


class SheetPicture(NamedTuple):
    """A picture of a sheet, with boxes in its pixels."""

    image: Image
    boxes: npt.ArrayLike  # [N, 4] xyxy
    labels: Sequence[int]  # [N], for the colours
    texts: Sequence[str]  # [N], for the plates


_CELL = 320  # pixels, the side of a sheet's cells
_GAP = 4


def draw_sheet(pictures: Sequence[SheetPicture], path: Path, columns: int = 4) -> None:
    """Draw pictures with boxes and texts side by side into a picture file, each fitted to a square of 320 pixels.

    Raises:
        ValueError: if there are no pictures.
    """
    if not pictures:
        raise ValueError("pictures must be at least one, got none")
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    step = _CELL + _GAP
    sheet = PillowImage.new("RGB", (columns * step - _GAP, rows * step - _GAP), "white")
    for number, picture in enumerate(pictures):
        sheet.paste(_cell(picture), (number % columns * step, number // columns * step))
    sheet.save(path)


def _cell(picture: SheetPicture) -> PillowImage.Image:
    """Fit a picture to a cell and draw its boxes, the largest first, so that it hides no other's text."""
    fitted = Letterbox.fit(picture.image.shape[:2], (_CELL, _CELL))
    canvas = PillowImage.fromarray(fitted.apply(picture.image))
    draw = ImageDraw.Draw(canvas)
    boxes = fitted.boxes_to_input(picture.boxes)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    for i in np.argsort(-areas, kind="stable").tolist():
        left, top, right, bottom = boxes[i].tolist()
        colour = class_colour(int(picture.labels[i]))
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=2)
        _draw_label(draw, picture.texts[i], (left, top), colour, _font(11), (_CELL, _CELL))
    return canvas


def plot_stats(
    counts: Mapping[str, Sequence[int]],
    class_names: Sequence[str],
    sides: Mapping[str, npt.NDArray[np.float64]],
    centres: npt.NDArray[np.float64],
    path: Path,
) -> None:
    """Draw what a data set holds into a PNG: objects of each class, their sizes, and where in the picture they lie.

    Args:
        counts: for each split the objects by label.
        class_names: by label.
        sides: for each split the square roots of the objects' areas, pixels.
        centres: [N, 2] x and y of all objects' centres, as shares of the picture's width and height.
        path: of the PNG.
    """
    from matplotlib.figure import Figure

    order = np.argsort([sum(of_class) for of_class in zip(*counts.values())], kind="stable")  # the most common on top
    figure = Figure(figsize=(11, max(9.0, 1 + 0.17 * len(order) * max(1.0, len(counts) / 2))), layout="constrained")
    bars, sizes, places = figure.subplot_mosaic("BS\nBP").values()
    height = 0.8 / len(counts)
    for number, (split, of_class) in enumerate(counts.items()):
        rows = np.arange(len(order)) + 0.4 - (number + 0.5) * height
        bars.barh(rows, np.asarray(of_class)[order], height, label=split)
    bars.set(title="objects", yticks=range(len(order)), ylim=(-0.6, len(order) - 0.4))
    size = 9 if len(order) < 40 else 6
    bars.set_yticklabels([class_names[label] for label in order], fontsize=size, parse_math=False)
    edges = (2.0 ** np.arange(0, 12.25, 0.25)).tolist()
    for split, values in sides.items():
        weights = np.full(len(values), 1 / max(1, len(values)))
        sizes.hist(values, edges, weights=weights, histtype="step", linewidth=1.5, label=split)
    for border in (32, 96):
        sizes.axvline(border, color="grey", linestyle="--", linewidth=1)
    sizes.set_xscale("log", base=2)
    sizes.set(title="size (lines: COCO's borders)", xlabel="root of the area, pixels", ylabel="share of objects")
    sizes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    heat, _, _ = np.histogram2d(centres[:, 1], centres[:, 0], bins=32, range=((0, 1), (0, 1)))
    places.imshow(heat, extent=(0, 1, 1, 0), cmap="viridis")
    places.set(title=f"centres of {counted(len(centres), 'object')}")
    for axes in (bars, sizes):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=100)
