"""Plot results of training, confusion matrices and statistics of data sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from yolo_lite.draw.figures import new_figure, render
from yolo_lite.draw.fonts import fonts_for
from yolo_lite.errors import counted
from yolo_lite.structures.geometry import Image
from yolo_lite.structures.results import Classification

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CURVES = {"loss_total": "training", "val_loss": "validation"}


def plot_results(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw a run's losses, metrics and learning rate by epoch into a PNG."""
    epochs = [row["epoch"] for row in rows]
    losses = [name for name in rows[-1] if name.startswith("loss_")]
    if "val_loss" in rows[-1]:
        losses = ["loss_total", "val_loss"]
    metrics = [
        name for name in ("AP", "AP50", "AP75", "train_accuracy", "accuracy", "F1") if any(name in row for row in rows)
    ]
    first = "loss" if "val_loss" in losses else "training loss"
    panels = (
        (first, losses),
        ("accuracy" if "train_accuracy" in metrics else "validation", metrics),
        ("learning rate", ["lr"]),
    )
    figure = new_figure(13, 4)
    for axes, (title, names) in zip(figure.subplots(1, 3), panels):
        for name in names:
            points = [(epoch, row[name]) for epoch, row in zip(epochs, rows) if name in row]
            xs, ys = zip(*points)
            axes.plot(xs, ys, marker="o", markersize=3, label=_CURVES.get(name, name.removeprefix("loss_")))
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        if len(names) > 1:
            axes.legend()
    save_figure(figure, path, dpi=100)


def plot_confusion(
    matrix: npt.NDArray[np.int64], class_names: Sequence[str], *, path: Path, font: Path | None = None
) -> None:
    """Draw a confusion matrix [C, C] into a PNG: rows what images are, columns what they were called, shaded by row."""
    count = len(class_names)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = min(24.0, 3 + 0.55 * count)
    figure = new_figure(side + 0.5, side)
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
    save_figure(figure, path, dpi=100, font=font)


def draw_classifications(
    examples: Iterable[tuple[Image, Classification, str]], path: Path, *, columns: int = 6, font: Path | None = None
) -> None:
    """Draw images in a grid into a PNG, each with what it was called and, in red, what it is where that was wrong."""
    chosen = list(examples)
    rows = -(-len(chosen) // columns)
    figure = new_figure(2 * columns, 2.4 * rows)
    for axes, (image, found, truth) in zip(figure.subplots(rows, columns, squeeze=False).flat, chosen):
        right = found.name == truth
        axes.imshow(image, interpolation="nearest" if max(image.shape) < 100 else None)
        said = f"{found.name} {found.score:.0%}"
        text, colour = (said, "green") if right else (f"{said}\nis {truth}", "red")
        axes.set_title(text, color=colour, fontsize=9, parse_math=False)
    for axes in figure.axes:
        axes.axis("off")
    save_figure(figure, path, dpi=100, font=font)


def save_figure(figure: Figure, path: Path, *, dpi: int, font: Path | None = None) -> None:
    """Write a figure as its suffix says, in the way of save_image; letters come from the fonts of draw_detections."""
    content = render(figure, path.suffix, dpi=dpi, fonts=lambda texts: fonts_for(texts, font, outlines=True))
    path.write_bytes(content)


def plot_stats(
    counts: Mapping[str, Sequence[int]],
    class_names: Sequence[str],
    *,
    sides: Mapping[str, npt.NDArray[np.float64]],
    centres: npt.NDArray[np.float64],
    path: Path,
    font: Path | None = None,
) -> None:
    """Draw what a data set holds into a PNG: objects of each class, their sizes, and where in the image they lie.

    Args:
        counts: for each split the objects by label.
        class_names: by label.
        sides: for each split the square roots of the objects' areas, pixels.
        centres: [N, 2] x and y of all objects' centres, as shares of the image's width and height.
        path: of the PNG.
        font: as for `draw_detections`.
    """
    order = np.argsort([sum(of_class) for of_class in zip(*counts.values())], kind="stable")  # the most common on top
    figure = new_figure(11, max(9.0, 1 + 0.17 * len(order) * max(1.0, len(counts) / 2)))
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
    save_figure(figure, path, dpi=100, font=font)
