"""Draw detections on an image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw

from yolo_lite.draw.colours import class_colour, track_colour
from yolo_lite.draw.labels import Label, Letters
from yolo_lite.structures.geometry import Image
from yolo_lite.structures.results import Detections

_ARROWS = "\N{DOWNWARDS ARROW}\N{UPWARDS ARROW}\N{LEFTWARDS ARROW}\N{RIGHTWARDS ARROW}"  # in fixed labels


def draw_detections(image: Image, detections: Detections, *, font: Path | None = None) -> Image:
    """Return a copy of an image with a box, name and score for each detection.

    Lines and letters grow with the image, and each class keeps its colour. Tracked objects have their track id beside
    the name, and a colour for each track. Boxes of higher scores lie on top. Their
    labels choose their places first, and keep clear of each other and of small objects if there is room.

    Args:
        image: uint8 [H, W, 3] RGB.
        detections: boxes in the image's pixels.
        font: a font file to try first. Letters that it lacks come from DejaVu Sans, then from the system's fonts.

    Returns:
        uint8 [H, W, 3] RGB.

    Example:
        >>> black = np.zeros((60, 80, 3), np.uint8)
        >>> cat = Detections([[10, 20, 50, 40]], [0.9], labels=[0], class_names=("cat",))
        >>> draw_detections(black, cat)[39, 30].tolist()  # a point on the lower edge
        [230, 159, 0]
    """
    canvas = PillowImage.fromarray(image)
    draw_on_canvas(canvas, detections, font=font)
    return np.array(canvas)


def draw_on_canvas(
    canvas: PillowImage.Image, detections: Detections, *, font: Path | None = None, fixed: Sequence[Label] = ()
) -> None:
    """Draw what `draw_detections` draws on an RGB image of Pillow.

    Args:
        canvas: changed in place.
        detections: boxes in the image's pixels.
        font: as for `draw_detections`.
        fixed: other labels, without outlines, which lie on top and whose places do not depend on the detections.

    Example:
        >>> canvas = PillowImage.new("RGB", (80, 60))
        >>> cat = Detections([[10, 20, 50, 40]], [0.9], labels=[0], class_names=("cat",), track_ids=[2])
        >>> draw_on_canvas(canvas, cat)
        >>> canvas.getpixel((30, 39))  # the colour of track 2
        (86, 180, 233)
    """
    draw = ImageDraw.Draw(canvas)
    labels = _labels(detections)
    for label in reversed(labels):
        draw_outline(draw, label.box, colour=label.colour, width=line_width(canvas.size))
    texts = (*detections.class_names, *(_ARROWS if fixed else ""))
    Letters(letter_size(canvas.size), texts, font=font).draw_labels(canvas, labels, fixed=fixed)


def _labels(detections: Detections) -> list[Label]:
    """Return name and score of each detection, and between them the number of its track if it has one."""
    rows = zip(detections.names, detections.scores.tolist(), detections.boxes.tolist(), detections.labels.tolist())
    if detections.track_ids is None:
        return [Label(f"{name} {score:.0%}", box, class_colour(label)) for name, score, box, label in rows]
    ids = detections.track_ids.tolist()
    return [
        Label(f"{name} {number} {score:.0%}", box, track_colour(number))
        for (name, score, box, _), number in zip(rows, ids)
    ]


def draw_outline(
    draw: ImageDraw.ImageDraw,
    box: Sequence[float],
    *,
    colour: tuple[int, int, int],
    width: int,
    dashed: bool = False,
) -> None:
    """Draw the outline of a box (xyxy, pixels) just inside its edges.

    Example:
        >>> canvas = PillowImage.new("L", (8, 8))
        >>> draw_outline(ImageDraw.Draw(canvas), (1, 2, 7, 6), colour=255, width=1)
        >>> canvas.getbbox()
        (1, 2, 7, 6)
    """
    left, top, right, bottom = box
    right, bottom = max(left, right - 1), max(top, bottom - 1)
    if not dashed:
        draw.rectangle((left, top, right, bottom), outline=colour, width=width)
        return
    dash, step = 4 * width, 7 * width
    for x in np.arange(left, right, step):
        for y in (top, bottom - width + 1):
            draw.rectangle((x, y, min(x + dash, right), y + width - 1), fill=colour)
    for y in np.arange(top, bottom, step):
        for x in (left, right - width + 1):
            draw.rectangle((x, y, x + width - 1, min(y + dash, bottom)), fill=colour)


def line_width(size: tuple[int, int]) -> int:
    """Return the width of lines for an image of a size in pixels.

    Example:
        >>> line_width((640, 480)), line_width((3840, 2160))
        (2, 11)
    """
    return max(1 if min(size) < 100 else 2, round(min(size) / 200))


def letter_size(size: tuple[int, int]) -> int:
    """Return the height of letters for an image of a size in pixels.

    Example:
        >>> letter_size((640, 480)), letter_size((3840, 2160))
        (17, 77)
    """
    short = min(size)
    return max(min(11, max(7, round(short / 8))), round(short / 28))
