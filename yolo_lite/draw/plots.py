"""Plot results of training, confusion matrices and statistics of data sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from yolo_lite.draw.colours import hex_colour
from yolo_lite.draw.figures import new_figure, render
from yolo_lite.draw.fonts import fonts_for
from yolo_lite.errors import counted, shortened
from yolo_lite.structures.geometry import Image
from yolo_lite.structures.results import Classification

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LETTERS = 24  # of the name of a class beside a drawing
_METRICS = ("AP", "AP50", "AP75", "train_accuracy", "accuracy", "F1")


def plot_results(rows: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw a run's losses, metrics and learning rate by epoch into a PNG.

    Parts of the loss that are zero in every epoch are left out.

    Args:
        rows: one for each epoch, as results.csv has them.
        path: of the PNG.

    Example:
        >>> plot_results([{"epoch": 1, "lr": 0.1, "loss_total": 2.0, "AP": 0.1}], Path("results.png"))
    """
    losses = {name: name.removeprefix("loss_") for name in rows[-1] if name.startswith("loss_")}
    if "val_loss" in rows[-1]:
        losses = {"loss_total": "training", "val_loss": "validation"}
    losses = {name: label for name, label in losses.items() if any(row.get(name) for row in rows)}
    metrics = {name: name for name in _METRICS if any(name in row for row in rows)}
    compares = "train_accuracy" in metrics
    if compares:
        metrics |= {"train_accuracy": "training accuracy", "accuracy": "validation accuracy", "F1": "validation F1"}
    figure = new_figure(13, 4)
    left, middle, right = figure.subplots(1, 3)
    _plot_curves(left, rows, losses, title="loss" if "val_loss" in losses else "training loss", unit="loss")
    _plot_curves(middle, rows, metrics, title="accuracy" if compares else "validation", unit="from 0 to 1")
    _plot_curves(right, rows, {"lr": "lr"}, title="learning rate", unit="learning rate")
    save_figure(figure, path, dpi=100)


def _plot_curves(
    axes: Axes, rows: Sequence[Mapping[str, float]], names: Mapping[str, str], *, title: str, unit: str
) -> None:
    """Draw one curve for each column of the rows; `names` has their labels. Epochs are whole numbers."""
    for number, (name, label) in enumerate(names.items()):
        points = [(row["epoch"], row[name]) for row in rows if name in row]
        colour = hex_colour(_ON_WHITE[number % len(_ON_WHITE)])
        axes.plot(*zip(*points), marker="o", markersize=3, label=label, color=colour)
    axes.set(title=title, xlabel="epoch", ylabel=unit)
    axes.locator_params(axis="x", integer=True)
    if len({row["epoch"] for row in rows}) == 1:
        epoch = rows[0]["epoch"]
        axes.set(xlim=(epoch - 1, epoch + 1), xticks=[epoch])
    axes.grid(alpha=0.3)
    if len(names) > 1:
        axes.legend()


_ON_WHITE = (4, 0, 2, 5, 6, 1)  # labels of class colours that are seen on white: all but yellow


def plot_confusion(
    matrix: npt.NDArray[np.int64], class_names: Sequence[str], *, path: Path, font: Path | None = None
) -> None:
    """Draw a confusion matrix into a PNG, shaded by the fraction of each row.

    Args:
        matrix: [C, C], images by true class (row) and predicted class (column).
        class_names: by label.
        path: of the PNG.
        font: as for `draw_detections`.

    Example:
        >>> plot_confusion(np.array([[5, 1], [0, 4]]), ("cat", "dog"), path=Path("confusion.png"))
    """
    count, names = len(class_names), [shortened(name, width=_LETTERS) for name in class_names]
    fractions = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = min(24.0, 3 + 0.55 * count)
    figure = new_figure(side + 0.5, side)
    axes = figure.subplots()
    shades = axes.imshow(fractions, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(shades, ax=axes, shrink=0.6, label="fraction of the true class")
    axes.set(xticks=range(count), yticks=range(count), xlabel="predicted class", ylabel="true class")
    axes.set_xticklabels(names, rotation=45, ha="right", parse_math=False)
    axes.set_yticklabels(names, parse_math=False)
    if count <= 40:
        for row, column in np.ndindex(count, count):
            if matrix[row, column]:
                colour = "white" if fractions[row, column] > 0.5 else "black"
                axes.text(column, row, f"{matrix[row, column]:,}", ha="center", va="center", color=colour, fontsize=8)
    save_figure(figure, path, dpi=100, font=font)


def draw_classifications(
    examples: Iterable[tuple[Image, Classification, str]], path: Path, *, columns: int = 6, font: Path | None = None
) -> None:
    """Draw images in a grid into a PNG, each with its predicted class, and with the true one if that is another.

    Args:
        examples: image, prediction and name of the true class.
        path: of the PNG.
        columns: images in a row.
        font: as for `draw_detections`.

    Example:
        >>> wrong = Classification(np.array([0.8, 0.2]), ("cat", "dog"))
        >>> draw_classifications([(np.zeros((8, 8, 3), np.uint8), wrong, "dog")], Path("examples.png"))
    """
    chosen = list(examples)
    rows = -(-len(chosen) // columns)
    figure = new_figure(2 * columns, 2.4 * rows)
    for axes, (image, prediction, truth) in zip(figure.subplots(rows, columns, squeeze=False).flat, chosen):
        right = prediction.name == truth
        axes.imshow(image, interpolation="nearest" if max(image.shape) < 100 else None)
        called, name = (shortened(each, width=_LETTERS) for each in (prediction.name, truth))
        text = f"{called} {prediction.score:.0%}"
        title = f"\N{CHECK MARK} {text}" if right else f"\N{BALLOT X} {text}\nis {name}"
        axes.set_title(title, color=hex_colour(4 if right else 5), fontsize=9, parse_math=False)
    for axes in figure.axes:
        axes.axis("off")
    save_figure(figure, path, dpi=100, font=font)


def save_figure(figure: Figure, path: Path, *, dpi: int, font: Path | None = None) -> None:
    """Write a figure in the format of the path's suffix.

    Args:
        figure: from `new_figure`.
        path: .png, .jpg, .pdf or .svg.
        dpi: pixels in an inch.
        font: as for `draw_detections`.

    Example:
        >>> save_figure(new_figure(2, 1), Path("empty.png"), dpi=50)
    """
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
    """Draw statistics of a data set into a PNG: objects of each class, their sizes, and where in the image they lie.

    Args:
        counts: for each split the objects by label.
        class_names: by label.
        sides: for each split the square roots of the objects' areas, pixels.
        centres: [N, 2] x and y of all objects' centres, as fractions of the image's width and height.
        path: of the PNG.
        font: as for `draw_detections`.

    Example:
        >>> sides, centres = {"train": np.array([32.0, 64.0])}, np.array([[0.5, 0.5], [0.2, 0.7]])
        >>> plot_stats({"train": [1, 1]}, ("cat", "dog"), sides=sides, centres=centres, path=Path("stats.png"))
    """
    order = np.argsort([sum(of_class) for of_class in zip(*counts.values())], kind="stable")  # the most common on top
    figure = new_figure(11, max(9.0, 1 + 0.17 * len(order) * max(1.0, len(counts) / 2)))
    bars, sizes, places = figure.subplot_mosaic("BS\nBP").values()
    _plot_counts(bars, counts, class_names, order=order)
    _plot_sizes(sizes, sides)
    heat, _, _ = np.histogram2d(centres[:, 1], centres[:, 0], bins=32, range=((0, 1), (0, 1)))
    shades = places.imshow(heat, extent=(0, 1, 1, 0), cmap="viridis")
    figure.colorbar(shades, ax=places, label="objects in a cell")
    places.set(title=f"centres of {counted(len(centres), 'object')}", xlabel="x / width", ylabel="y / height")
    for axes in (bars, sizes):
        axes.grid(alpha=0.3)
        axes.legend()
    save_figure(figure, path, dpi=100, font=font)


def _plot_counts(
    axes: Axes, counts: Mapping[str, Sequence[int]], class_names: Sequence[str], *, order: npt.NDArray[np.int64]
) -> None:
    """Draw the objects of each class as bars, a row for each class and a bar for each split."""
    height = 0.8 / len(counts)
    for number, (split, of_class) in enumerate(counts.items()):
        rows = np.arange(len(order)) + 0.4 - (number + 0.5) * height
        axes.barh(rows, np.asarray(of_class)[order], height, label=split, color=hex_colour(_ON_WHITE[number]))
    axes.set(title="objects of each class", xlabel="objects", yticks=range(len(order)), ylim=(-0.6, len(order) - 0.4))
    size = 9 if len(order) < 40 else 6
    axes.set_yticklabels([class_names[label] for label in order], fontsize=size, parse_math=False)


def _plot_sizes(axes: Axes, sides: Mapping[str, npt.NDArray[np.float64]]) -> None:
    """Draw how large the objects of each split are."""
    edges = (2.0 ** np.arange(0, 12.25, 0.25)).tolist()
    for number, (split, values) in enumerate(sides.items()):
        weights = np.full(len(values), 1 / max(1, len(values)))
        colour = hex_colour(_ON_WHITE[number])
        axes.hist(values, edges, weights=weights, histtype="step", linewidth=1.5, label=split, color=colour)
    for border in (32, 96):
        axes.axvline(border, color="grey", linestyle="--", linewidth=1)
    axes.set_xscale("log", base=2)
    axes.set(title="size (dashed: small, medium, large in COCO)", xlabel="square root of the area, pixels")
    axes.set_ylabel("fraction of the objects")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
