"""Draw detections on pictures, and the curves of a training run."""

from __future__ import annotations

import colorsys
import functools
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageDraw, ImageFont

from yolo_lite.structures import Classification, Detections, Image

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


def _draw_label(
    draw: ImageDraw.ImageDraw,
    text: str,
    corner: tuple[float, float],
    colour: tuple[int, int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    image_hw: tuple[int, ...],
) -> None:
    """Write on a plate above the box, or inside it where there is no room above."""
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
