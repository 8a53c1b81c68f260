"""Draw detections on pictures, and the curves of a training run."""

from __future__ import annotations

import colorsys
import functools
import io
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageDraw

from yolo_lite.errors import counted, one_line
from yolo_lite.fonts import SizedFont, fonts_for, pieces, sized
from yolo_lite.structures import Classification, Detections, GridView, Image, Letterbox

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CURVES = {"loss_total": "training", "val_loss": "validation"}


def draw_detections(image: Image, detections: Detections, *, font: Path | None = None) -> Image:
    """Return a copy of a picture (uint8 [H, W, 3] RGB) with a box, name and score for each detection.

    Boxes are in the picture's pixels. Lines and letters grow with the picture; each class keeps its colour; the best
    scores are drawn last, on top. Letters come from the font file, then DejaVu Sans, then the system's fonts.
    """
    canvas = PillowImage.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    short = min(image.shape[:2])
    width = max(2, round(short / 200))
    letters = _Letters(max(11, round(short / 28)), detections.class_names, font=font)
    for one in list(detections)[::-1]:
        colour = class_colour(int(one.labels[0]))
        left, top, right, bottom = (float(value) for value in one.boxes[0])
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=width)
        letters.draw_plate(canvas, f"{one.names[0]} {one.scores[0]:.0%}", corner=(left, top), colour=colour)
    return np.array(canvas)


def save_picture(picture: PillowImage.Image, path: Path, *, quality: int = 75) -> None:
    """Write a picture as its suffix says, encoded in memory: Pillow does not see that a disk is full.

    Raises:
        OSError: where not all of it could be written.
    """
    content = io.BytesIO()
    picture.save(content, PillowImage.registered_extensions()[path.suffix.lower()], quality=quality)
    path.write_bytes(content.getvalue())


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
    _save_figure(figure, path, dpi=100)


def plot_confusion(
    matrix: npt.NDArray[np.int64], class_names: Sequence[str], *, path: Path, font: Path | None = None
) -> None:
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
    _save_figure(figure, path, dpi=100, font=font)


def draw_classifications(
    examples: Iterable[tuple[Image, Classification, str]], path: Path, *, columns: int = 6, font: Path | None = None
) -> None:
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
    _save_figure(figure, path, dpi=100, font=font)


def draw_filters(
    image: Image, made: Mapping[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]], *, path: Path
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
    _save_figure(figure, path, dpi=90)


def draw_maps(
    name: str, maps: npt.NDArray[np.float32], *, kernels: npt.NDArray[np.float32] | None, path: Path, most: int = 32
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
    _save_figure(figure, path, dpi=90)


def draw_grids(image: Image, grids: Sequence[GridView], *, path: Path) -> None:
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
            f"{counted(len(grid.before), 'box', plural='boxes')} before suppression",
            f"{len(grid.after)} after",
        )
        for axes, title in zip(row, titles):
            axes.set(xlim=(0, width), ylim=(height, 0))
            axes.set_title(title, fontsize=10)
            axes.axis("off")
    patches = [Patch(color=np.array(class_colour(label)) / 255, label=names[label]) for label in sorted(shown)[:16]]
    if patches:
        figure.legend(handles=patches, loc="outside lower center", ncols=8)
    _save_figure(figure, path, dpi=90)


def draw_attention(
    image: Image, attention: npt.NDArray[np.float32], *, box: Sequence[float] | None, title: str, path: Path
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
    _save_figure(figure, path, dpi=90)


def _save_figure(figure: Figure, path: Path, *, dpi: int, font: Path | None = None) -> None:
    """Write a figure as its suffix says, in the way of save_picture; letters come from the fonts of draw_detections."""
    from matplotlib.text import Text

    texts = [artist for artist in figure.findobj(Text) if isinstance(artist, Text)]
    paths = fonts_for((text.get_text() for text in texts), font, outlines=True)
    if len(paths) > 1:
        for text in texts:
            text.set_fontfamily(_families(paths))
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # missing_letters says so
        figure.savefig(content, dpi=dpi, format=path.suffix[1:])
    path.write_bytes(content.getvalue())


def _families(paths: Sequence[Path]) -> list[str]:
    """Return the names by which matplotlib finds fonts."""
    from matplotlib.font_manager import FontProperties, fontManager

    known = {entry.fname for entry in fontManager.ttflist}
    for path in paths:
        if str(path) not in known:
            fontManager.addfont(path)
    return [FontProperties(fname=str(path)).get_name() for path in paths]


class _Letters:
    """Writes texts of one size on plates, each letter in the first font that has it."""

    def __init__(self, size: int, texts: Iterable[str], *, font: Path | None = None) -> None:
        self._size, self._fonts = size, _fonts_for(tuple(texts), font)

    def draw_plate(
        self, canvas: PillowImage.Image, text: str, *, corner: tuple[float, float], colour: tuple[int, int, int]
    ) -> None:
        """Write on a plate above the box, or inside it where there is no room above."""
        draw = ImageDraw.Draw(canvas)
        parts = [(part, sized(path, self._size)) for part, path in pieces(one_line(text), self._fonts)]
        left, top, right, bottom = _extent(draw, parts)
        width, height = right - left + 6, bottom - top + 6
        x = max(0.0, min(corner[0], canvas.width - width))
        y = corner[1] - height if corner[1] >= height else max(0.0, min(corner[1], canvas.height - height))
        draw.rectangle((x, y, x + width, y + height), fill=colour)
        dark = (0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]) < 140
        _write(canvas, (x + 3 - left, y + 3 - top), parts=parts, fill="white" if dark else "black")


_Parts = Sequence[tuple[str, SizedFont]]


@functools.lru_cache(64)
def _fonts_for(texts: tuple[str, ...], font: Path | None) -> tuple[Path, ...]:
    return fonts_for(texts, font)


def _extent(draw: ImageDraw.ImageDraw, parts: _Parts) -> tuple[float, float, float, float]:
    """Return the box of a text, from where it is written: of one font from its upper left, of several from its baseline."""
    if len(parts) <= 1 and all(font.scale == 1 for _, font in parts):
        return draw.textbbox((0, 0), *(parts[0][0], parts[0][1].font) if parts else ("",))
    boxes = [(_box(part, font), _advance(part, font)) for part, font in parts]
    top, bottom = min(box[1] for box, _ in boxes), max(box[3] for box, _ in boxes)
    return 0.0, top, sum(advance for _, advance in boxes), bottom


def _write(canvas: PillowImage.Image, start: tuple[float, float], *, parts: _Parts, fill: str) -> None:
    """Write a text, in the way of `_extent`."""
    draw = ImageDraw.Draw(canvas)
    if len(parts) <= 1 and all(font.scale == 1 for _, font in parts):
        for part, sized_font in parts:
            draw.text(start, part, fill=fill, font=sized_font.font)
        return
    x, y = start
    for part, sized_font in parts:
        if sized_font.scale == 1:
            draw.text((x, y), part, fill=fill, font=sized_font.font, anchor="ls", embedded_color=True)
        else:
            _paste(canvas, (x, y), text=part, sized_font=sized_font)
        x += _advance(part, sized_font)


def _paste(canvas: PillowImage.Image, start: tuple[float, float], *, text: str, sized_font: SizedFont) -> None:
    """Write letters of bitmaps, such as emoji in colour, at the one size that their font has, and shrink them."""
    left, top, right, bottom = (round(value / sized_font.scale) for value in _box(text, sized_font))
    layer = PillowImage.new("RGBA", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(layer).text((-left, -top), text, font=sized_font.font, anchor="ls", embedded_color=True)
    small = layer.resize([max(1, round(side * sized_font.scale)) for side in layer.size])
    canvas.paste(small, (round(start[0] + left * sized_font.scale), round(start[1] + top * sized_font.scale)), small)


def _box(text: str, sized_font: SizedFont) -> tuple[float, ...]:
    return tuple(value * sized_font.scale for value in sized_font.font.getbbox(text, anchor="ls"))


def _advance(text: str, sized_font: SizedFont) -> float:
    return sized_font.font.getlength(text) * sized_font.scale


class SheetPicture(NamedTuple):
    """A picture of a sheet, with boxes in its pixels."""

    image: Image
    boxes: npt.ArrayLike  # [N, 4] xyxy
    labels: Sequence[int]  # [N], for the colours
    texts: Sequence[str]  # [N], for the plates


_CELL = 320  # pixels, the side of a sheet's cells
_GAP = 4


def draw_sheet(pictures: Sequence[SheetPicture], path: Path, *, columns: int = 4, font: Path | None = None) -> None:
    """Draw pictures with boxes and texts side by side into a picture file, each fitted to a square of 320 pixels.

    Args:
        pictures: in the order of reading.
        path: its suffix says how it is written.
        columns: the most in a row.
        font: as for `draw_detections`.

    Raises:
        ValueError: if there are no pictures.
    """
    if not pictures:
        raise ValueError("pictures must be at least one, got none")
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    step = _CELL + _GAP
    letters = _Letters(11, (text for picture in pictures for text in picture.texts), font=font)
    sheet = PillowImage.new("RGB", (columns * step - _GAP, rows * step - _GAP), "white")
    for number, picture in enumerate(pictures):
        sheet.paste(_cell(picture, letters), (number % columns * step, number // columns * step))
    save_picture(sheet, path)


def _cell(picture: SheetPicture, letters: _Letters) -> PillowImage.Image:
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
        letters.draw_plate(canvas, picture.texts[i], corner=(left, top), colour=colour)
    return canvas


def plot_stats(
    counts: Mapping[str, Sequence[int]],
    class_names: Sequence[str],
    *,
    sides: Mapping[str, npt.NDArray[np.float64]],
    centres: npt.NDArray[np.float64],
    path: Path,
    font: Path | None = None,
) -> None:
    """Draw what a data set holds into a PNG: objects of each class, their sizes, and where in the picture they lie.

    Args:
        counts: for each split the objects by label.
        class_names: by label.
        sides: for each split the square roots of the objects' areas, pixels.
        centres: [N, 2] x and y of all objects' centres, as shares of the picture's width and height.
        path: of the PNG.
        font: as for `draw_detections`.
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
    _save_figure(figure, path, dpi=100, font=font)
