"""Labels on images: letters in fonts that have them, on plates that keep clear of each other and of small objects."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageDraw

from yolo_lite.draw.colours import is_dark
from yolo_lite.draw.fonts import SizedFont, fonts_for, pieces, sized
from yolo_lite.errors import one_line

_LARGEST = 0.25  # fraction of the image that one label may cover; a larger one is left out
_PLATE_COST = 100.0  # an overlap with another label counts this much more than one with an object
_OUTSIDE_COST = 0.3  # a place inside the box must keep clear of this part of an object to be better than one outside

Box = Sequence[float]  # xyxy, pixels of the image


class Label(NamedTuple):
    """The text of one box."""

    text: str
    box: Box
    colour: tuple[int, int, int]


def place_plate(
    size: tuple[float, float], box: Box, *, image_hw: tuple[int, int], plates: npt.ArrayLike, boxes: npt.ArrayLike
) -> tuple[float, float]:
    """Return the upper left corner for the label of a box.

    Candidates are above the box, below it, beside it, and inside its corners, in this order. The label goes where it
    hides least: other labels count most, then objects, each by the part of it that would be hidden.

    Args:
        size: width and height of the label, pixels.
        box: xyxy, pixels of the image.
        image_hw: height and width of the image; the label stays inside if it fits.
        plates: [P, 4] xyxy, the labels that have their place.
        boxes: [N, 4] xyxy, all boxes of the image, this one included.

    Example:
        >>> place_plate((40, 10), (20, 30, 80, 90), image_hw=(100, 100), plates=[], boxes=[(20, 30, 80, 90)])
        (20.0, 20.0)
        >>> place_plate((40, 10), (20, 5, 80, 60), image_hw=(100, 100), plates=[], boxes=[(20, 5, 80, 60)])
        (20.0, 60.0)
    """
    width, height = size
    left, top, right, bottom = (float(value) for value in box)
    most_x, most_y = max(0.0, image_hw[1] - width), max(0.0, image_hw[0] - height)
    wanted = [
        *((x, y) for y in (top - height, bottom) for x in (left, right - width)),
        *((x, y) for x in (right, left - width) for y in (top, bottom - height)),
        *((x, y) for y in (top, bottom - height) for x in (left, right - width)),
    ]
    best, least = (0.0, 0.0), float("inf")
    for number, (x, y) in enumerate(wanted):
        corner = min(max(x, 0.0), most_x), min(max(y, 0.0), most_y)
        plate = np.array([corner[0], corner[1], corner[0] + width, corner[1] + height])
        cost = _PLATE_COST * _hidden(plates, plate).sum() + _hidden(boxes, plate).sum()
        cost += 0.001 * number + (0.0 if number < 8 else _OUTSIDE_COST)
        if cost < least - 1e-9:
            best, least = corner, cost
    return best


def _hidden(boxes: npt.ArrayLike, plate: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the fraction [N] of each box that a plate hides."""
    others = np.asarray(boxes, np.float64).reshape(-1, 4)
    sides = np.minimum(others[:, 2:], plate[2:]) - np.maximum(others[:, :2], plate[:2])
    areas = np.maximum((others[:, 2:] - others[:, :2]).prod(1), 1.0)
    hidden: npt.NDArray[np.float64] = sides.clip(0).prod(1) / areas
    return hidden


class Letters:
    """Writes texts of one size, each letter in the first font that has it.

    Args:
        size: height in pixels.
        texts: everything that will be written, so that fonts are searched for once.
        font: a font file to try first.

    Example:
        >>> canvas = PillowImage.new("RGB", (80, 20))
        >>> Letters(11, ["cat"]).write(canvas, "cat", corner=(2, 2), fill="white")
        >>> canvas.getbbox() is None  # is it still empty?
        False
    """

    def __init__(self, size: int, texts: Iterable[str], *, font: Path | None = None) -> None:
        self._size, self._fonts = size, _fonts_for(tuple(texts), font)
        self._margin = max(3, size // 4)  # pixels between the letters and the edge of their plate

    def draw_labels(self, canvas: PillowImage.Image, labels: Sequence[Label], *, fixed: Sequence[Label] = ()) -> None:
        """Write each label on a plate in its colour; earlier ones choose their place first and are drawn on top.

        A label that would cover more than a quarter of the image is left out. The places of `fixed` labels, which come
        first, do not depend on the others, so they stay where they are from frame to frame.
        """
        hw, boxes = (canvas.height, canvas.width), [label.box for label in (*fixed, *labels)]
        sizes = [self._plate_size(canvas, label.text) for label in (*fixed, *labels)]
        most = _LARGEST * hw[0] * hw[1]
        shown = [(label, size) for label, size in zip((*fixed, *labels), sizes) if size[0] * size[1] <= most]
        plates: list[tuple[float, float, float, float]] = []
        for number, (label, (width, height)) in enumerate(shown):
            others = boxes if number >= len(fixed) else boxes[: len(fixed)]
            x, y = place_plate((width, height), label.box, image_hw=hw, plates=plates, boxes=others)
            plates.append((x, y, x + width, y + height))
        draw = ImageDraw.Draw(canvas)
        for (label, _), plate in reversed(list(zip(shown, plates))):
            draw.rectangle(plate, fill=label.colour)
            fill = "white" if is_dark(label.colour) else "black"
            self.write(canvas, label.text, corner=(plate[0] + self._margin, plate[1] + self._margin), fill=fill)

    def write(self, canvas: PillowImage.Image, text: str, *, corner: tuple[float, float], fill: str) -> None:
        """Write a text in one line, the upper left corner of its letters at `corner`."""
        parts = self._parts(text)
        left, top, _, _ = _extent(ImageDraw.Draw(canvas), parts)
        _write(canvas, (corner[0] - left, corner[1] - top), parts=parts, fill=fill)

    def _plate_size(self, canvas: PillowImage.Image, text: str) -> tuple[float, float]:
        left, top, right, bottom = _extent(ImageDraw.Draw(canvas), self._parts(text))
        return right - left + 2 * self._margin, bottom - top + 2 * self._margin

    def _parts(self, text: str) -> list[tuple[str, SizedFont]]:
        return [(part, sized(path, self._size)) for part, path in pieces(one_line(text), self._fonts)]


_Parts = Sequence[tuple[str, SizedFont]]


@functools.lru_cache(64)
def _fonts_for(texts: tuple[str, ...], font: Path | None) -> tuple[Path, ...]:
    return fonts_for(texts, font)


def _extent(draw: ImageDraw.ImageDraw, parts: _Parts) -> tuple[float, float, float, float]:
    """Return the box of a text relative to where `_write` starts: its upper left corner, or its baseline for several fonts."""
    if len(parts) <= 1 and all(font.scale == 1 for _, font in parts):
        text, sized_font = parts[0] if parts else ("", None)
        return draw.textbbox((0, 0), text, font=sized_font and sized_font.font)
    boxes = [(_box(part, font), _advance(part, font)) for part, font in parts]
    top, bottom = min(box[1] for box, _ in boxes), max(box[3] for box, _ in boxes)
    return 0.0, top, sum(advance for _, advance in boxes), bottom


def _write(canvas: PillowImage.Image, start: tuple[float, float], *, parts: _Parts, fill: str) -> None:
    """Write a text from the point that `_extent` measures from."""
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
    """Write letters of a bitmap font, such as colour emoji, at the one size that the font has, then shrink them."""
    left, top, right, bottom = (round(value / sized_font.scale) for value in _box(text, sized_font))
    layer = PillowImage.new("RGBA", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(layer).text((-left, -top), text, font=sized_font.font, anchor="ls", embedded_color=True)
    small = layer.resize([max(1, round(side * sized_font.scale)) for side in layer.size])
    canvas.paste(small, (round(start[0] + left * sized_font.scale), round(start[1] + top * sized_font.scale)), small)


def _box(text: str, sized_font: SizedFont) -> tuple[float, ...]:
    return tuple(value * sized_font.scale for value in sized_font.font.getbbox(text, anchor="ls"))


def _advance(text: str, sized_font: SizedFont) -> float:
    return sized_font.font.getlength(text) * sized_font.scale
