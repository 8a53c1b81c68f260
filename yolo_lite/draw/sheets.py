"""Sheets of images with boxes, to look at many at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageDraw

from yolo_lite.draw.boxes import draw_outline
from yolo_lite.draw.colours import class_colour
from yolo_lite.draw.labels import Label, Letters
from yolo_lite.media.writers import save_image
from yolo_lite.structures.geometry import Image, Letterbox

_CELL = 320  # pixels, the side of a cell
_GAP = 4
_CAPTION = 20  # pixels, the height of a line of text above a cell


class SheetImage(NamedTuple):
    """An image of a sheet, with boxes in its pixels.

    Attributes:
        image: uint8 [H, W, 3] RGB.
        boxes: [N, 4] xyxy.
        labels: [N], for the colours.
        texts: [N], for the plates; an empty text has no plate.
        caption: a line above the image.
        wrong: positions of the boxes whose outlines are dashed.
    """

    image: Image
    boxes: npt.ArrayLike
    labels: Sequence[int]
    texts: Sequence[str]
    caption: str = ""
    wrong: frozenset[int] = frozenset()


def draw_sheet(images: Sequence[SheetImage], path: Path, *, columns: int = 4, font: Path | None = None) -> None:
    """Draw images with boxes and texts side by side into an image file.

    Each image keeps its shape and is fitted to a square of 320 pixels. If any image has a caption, every square has a
    line of text above it.

    Args:
        images: in reading order.
        path: a file whose suffix names the format.
        columns: the most images in a row.
        font: as for `draw_detections`.

    Raises:
        ValueError: if there are no images.

    Example:
        >>> cell = SheetImage(np.zeros((60, 80, 3), np.uint8), [[10, 10, 40, 40]], labels=[0], texts=["cat"])
        >>> draw_sheet([cell] * 5, Path("sheet.png"))
        >>> PillowImage.open("sheet.png").size  # 4 columns and 2 rows of 320 pixels, 4 pixels between them
        (1292, 644)
    """
    if not images:
        raise ValueError("images must be at least one, got none")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    caption = _CAPTION if any(image.caption for image in images) else 0
    letters = Letters(11, (text for image in images for text in (*image.texts, image.caption)), font=font)
    step_x, step_y = _CELL + _GAP, _CELL + _GAP + caption
    sheet = PillowImage.new("RGB", (columns * step_x - _GAP, rows * step_y - _GAP), "white")
    for number, image in enumerate(images):
        x, y = number % columns * step_x, number // columns * step_y
        if image.caption:
            line = PillowImage.new("RGB", (_CELL, caption), "white")
            letters.write(line, image.caption, corner=(3, 5), fill="black")
            sheet.paste(line, (x, y))
        sheet.paste(_cell(image, letters, (_CELL, _CELL)), (x, y + caption))
    save_image(sheet, path)


def draw_cell(cell: SheetImage, hw: tuple[int, int], *, font: Path | None = None) -> Image:
    """Return one image of a sheet with its boxes and texts, but without its caption.

    Args:
        cell: what to draw.
        hw: the size to fit it to, in pixels.
        font: as for `draw_detections`.

    Example:
        >>> cell = SheetImage(np.zeros((60, 80, 3), np.uint8), [[10, 10, 40, 40]], labels=[0], texts=["cat"])
        >>> draw_cell(cell, (120, 160)).shape
        (120, 160, 3)
    """
    return np.array(_cell(cell, Letters(11, cell.texts, font=font), hw))


def _cell(cell: SheetImage, letters: Letters, hw: tuple[int, int]) -> PillowImage.Image:
    """Fit an image to a cell and draw its boxes, the largest first, so that small ones stay visible."""
    fitted = Letterbox.fit(cell.image.shape[:2], hw)
    canvas = PillowImage.fromarray(fitted.apply(cell.image))
    draw = ImageDraw.Draw(canvas)
    boxes = fitted.boxes_to_input(cell.boxes)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    labels = []
    for i in np.argsort(-areas, kind="stable").tolist():
        colour = class_colour(int(cell.labels[i]))
        draw_outline(draw, boxes[i].tolist(), colour=colour, width=2, dashed=i in cell.wrong)
        labels.append(Label(cell.texts[i], boxes[i].tolist(), colour))
    letters.draw_labels(canvas, [label for label in reversed(labels) if label.text])
    return canvas
