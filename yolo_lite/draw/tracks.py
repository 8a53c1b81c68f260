"""Draw tracked objects: boxes with numbers, their trails, count lines and zones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageDraw

from yolo_lite.draw.boxes import draw_on_canvas, line_width
from yolo_lite.draw.colours import track_colour
from yolo_lite.draw.labels import Label
from yolo_lite.structures.geometry import Image
from yolo_lite.structures.results import Detections
from yolo_lite.tracking.lines import Point
from yolo_lite.tracking.video import Overlay

_WHITE, _BLACK = (255, 255, 255), (0, 0, 0)
_SHADE = (255, 255, 255, 50)  # of zones: white that hides a fifth of what is below


def draw_tracks(image: Image, detections: Detections, *, overlay: Overlay, font: Path | None = None) -> Image:
    """Return a copy of an image with tracked objects, their trails, count lines and zones.

    Each track keeps its colour. Lines and zones are white with black edges, and their counts lie on top.

    Args:
        image: uint8 [H, W, 3] RGB.
        detections: with `track_ids`, boxes in the image's pixels.
        overlay: trails, lines and zones of this frame, as `VideoTracks.overlay` has them.
        font: as for `draw_detections`.

    Returns:
        uint8 [H, W, 3] RGB.

    Example:
        >>> black = np.zeros((60, 80, 3), np.uint8)
        >>> cat = Detections([[10, 20, 50, 40]], [0.9], labels=[0], class_names=("cat",), track_ids=[2])
        >>> drawn = draw_tracks(black, cat, overlay=Overlay({2: ((30.0, 58.0), (30.0, 40.0))}))
        >>> drawn[39, 20].tolist(), drawn[50, 30].tolist()  # a point on the lower edge, and one on the trail
        ([86, 180, 233], [86, 180, 233])
    """
    canvas = PillowImage.fromarray(image)
    width = line_width(canvas.size)
    shades = ImageDraw.Draw(canvas, "RGBA")
    for corners, _ in overlay.zones:
        shades.polygon(list(corners), fill=_SHADE)
    draw = ImageDraw.Draw(canvas)
    for corners, _ in overlay.zones:
        _draw_border(draw, [*corners, corners[0]], width=max(1, width // 2))
    for start, end, _ in overlay.lines:
        _draw_border(draw, [start, end], width=width)
    for number, points in overlay.trails.items():
        if len(points) > 1:
            draw.line(list(points), fill=track_colour(number), width=width + 1, joint="curve")
    draw_on_canvas(canvas, detections, font=font, fixed=_counts(overlay))
    return np.array(canvas)


def _draw_border(draw: ImageDraw.ImageDraw, points: Sequence[Point], *, width: int) -> None:
    """Draw a white line with black edges, which is seen on any ground."""
    draw.line(points, fill=_BLACK, width=width + 2 * max(1, width // 2), joint="curve")
    draw.line(points, fill=_WHITE, width=width, joint="curve")


def _counts(overlay: Overlay) -> list[Label]:
    """Return the text of each line beside its middle, and that of each zone beside its highest corner."""
    middles = [((start[0] + end[0]) / 2, (start[1] + end[1]) / 2, text) for start, end, text in overlay.lines]
    corners = [(*min(points, key=lambda point: (point[1], point[0])), text) for points, text in overlay.zones]
    return [Label(text, (x, y, x, y), _WHITE) for x, y, text in (*middles, *corners)]
