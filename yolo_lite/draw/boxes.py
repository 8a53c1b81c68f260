"""Draw detections on an image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw

from yolo_lite.checks import check_path
from yolo_lite.draw.colours import class_colour, track_colour
from yolo_lite.draw.labels import Label, Letters
from yolo_lite.errors import InputError
from yolo_lite.files import identity
from yolo_lite.media.images import to_rgb
from yolo_lite.media.writers import write_image
from yolo_lite.structures.geometry import Image
from yolo_lite.structures.results import Detections

if TYPE_CHECKING:
    from yolo_lite.media.images import ImageInput

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


def draw_on(image: ImageInput, detections: Detections, *, font: Path | None = None) -> Image:
    """Do what `draw_detections` does for a path, an RGB array or a PIL image.

    Example:
        >>> cat = Detections([[10, 20, 50, 40]], [0.9], labels=[0], class_names=("cat",))
        >>> draw_on("photo.jpg", cat).shape
        (600, 512, 3)
    """
    return draw_detections(to_rgb(image), detections, font=font)


def save_drawing(
    path: str | os.PathLike[str], image: ImageInput, *, detections: Detections, font: Path | None = None
) -> None:
    """Draw detections on an image and write it to a file; its suffix chooses the format.

    Raises:
        InputError: if the suffix is unknown, the file cannot be written, or it would replace the image.

    Example:
        >>> cat = Detections([[10, 20, 50, 40]], [0.9], labels=[0], class_names=("cat",))
        >>> save_drawing("photo.jpg", "photo.jpg", detections=cat)
        Traceback (most recent call last):
        yolo_lite.errors.InputError: photo.jpg is the image itself, which would be replaced; choose another path
    """
    target = Path(check_path(path, "path"))
    if target.suffix.lower() not in (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"):
        raise InputError(f"an image is written as .png, .jpg, .bmp, .webp or .tif, got {target}")
    if isinstance(image, str | os.PathLike) and identity(target) == identity(Path(image)) is not None:
        raise InputError(f"{target} is the image itself, which would be replaced; choose another path")
    write_image(target, draw_on(image, detections, font=font))


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
