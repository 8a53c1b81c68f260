"""Draw boxes with their labels, and sheets of images with boxes."""

from __future__ import annotations

import colorsys
import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageDraw

from yolo_lite.draw.fonts import SizedFont, fonts_for, pieces, sized
from yolo_lite.errors import one_line
from yolo_lite.media.writers import save_image
from yolo_lite.structures.geometry import Image, Letterbox
from yolo_lite.structures.results import Detections


def draw_detections(image: Image, detections: Detections, *, font: Path | None = None) -> Image:
    """Return a copy of an image (uint8 [H, W, 3] RGB) with a box, name and score for each detection.

    Boxes are in the image's pixels. Lines and letters grow with the image; each class keeps its colour; the best
    scores are drawn last, on top. Letters come from the font file, then DejaVu Sans, then the system's fonts.
    """
    canvas = PillowImage.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    short = min(image.shape[:2])
    width = max(2, round(short / 200))
    letters = _Letters(max(11, round(short / 28)), detections.class_names, font=font)
    for detection in list(detections)[::-1]:
        colour = class_colour(int(detection.labels[0]))
        left, top, right, bottom = (float(value) for value in detection.boxes[0])
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=width)
        letters.draw_plate(canvas, f"{detection.names[0]} {detection.scores[0]:.0%}", corner=(left, top), colour=colour)
    return np.array(canvas)


def class_colour(label: int) -> tuple[int, int, int]:
    """Return a class's colour: hues a golden angle apart, so that neighbours differ."""
    red, green, blue = colorsys.hsv_to_rgb((0.33 + label * 0.618034) % 1, 0.85, 0.95)
    return round(red * 255), round(green * 255), round(blue * 255)


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
        text, sized_font = parts[0] if parts else ("", None)
        return draw.textbbox((0, 0), text, font=sized_font and sized_font.font)
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


class SheetImage(NamedTuple):
    """An image of a sheet, with boxes in its pixels."""

    image: Image
    boxes: npt.ArrayLike  # [N, 4] xyxy
    labels: Sequence[int]  # [N], for the colours
    texts: Sequence[str]  # [N], for the plates


_CELL = 320  # pixels, the side of a sheet's cells
_GAP = 4


def draw_sheet(images: Sequence[SheetImage], path: Path, *, columns: int = 4, font: Path | None = None) -> None:
    """Draw images with boxes and texts side by side into an image file, each fitted to a square of 320 pixels.

    Args:
        images: in the order of reading.
        path: its suffix says how it is written.
        columns: the most in a row.
        font: as for `draw_detections`.

    Raises:
        ValueError: if there are no images.
    """
    if not images:
        raise ValueError("images must be at least one, got none")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    step = _CELL + _GAP
    letters = _Letters(11, (text for image in images for text in image.texts), font=font)
    sheet = PillowImage.new("RGB", (columns * step - _GAP, rows * step - _GAP), "white")
    for number, image in enumerate(images):
        sheet.paste(_cell(image, letters), (number % columns * step, number // columns * step))
    save_image(sheet, path)


def _cell(cell: SheetImage, letters: _Letters) -> PillowImage.Image:
    """Fit an image to a cell and draw its boxes, the largest first, so that it hides no other's text."""
    fitted = Letterbox.fit(cell.image.shape[:2], (_CELL, _CELL))
    canvas = PillowImage.fromarray(fitted.apply(cell.image))
    draw = ImageDraw.Draw(canvas)
    boxes = fitted.boxes_to_input(cell.boxes)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    for i in np.argsort(-areas, kind="stable").tolist():
        left, top, right, bottom = boxes[i].tolist()
        colour = class_colour(int(cell.labels[i]))
        draw.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=2)
        letters.draw_plate(canvas, cell.texts[i], corner=(left, top), colour=colour)
    return canvas
