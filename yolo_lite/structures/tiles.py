"""Divide images into overlapping tiles, and merge what was detected in the tiles and in the whole image."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from yolo_lite.checks import SMALLEST_TILE, check_overlap, check_tiles
from yolo_lite.errors import InputError
from yolo_lite.structures.geometry import Image
from yolo_lite.structures.results import Detections

OVERLAP = 0.2
# Chosen on coco_mini val with 2x2 tiles: AP falls by less than 0.002 with NEAR 0.01 or 0.04, LONG 0.4 or 0.6, SMALL 1 / 24.
NEAR = 0.02  # a box ends at a border of its tile if it is nearer to it than this fraction of the tile's side
LONG = 0.5  # a box is long if a side is more than this fraction of the tile's
SMALL = 1 / 16  # a box is small if its area is that of a square with this fraction of the image's sides
AGREE = 0.75  # IoU above which two boxes show the same object equally well

REDUCED = 2048  # pixels: the longer side of a large image when it is looked at as a whole
Place = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels of the image


class LargeImage(Protocol):
    """An image that is too large for memory, such as `media.windows.Windows`."""

    shape: tuple[int, int, int]

    def __getitem__(self, index: tuple[slice, slice]) -> Image:
        """Return a part, uint8 [H, W, 3] RGB."""

    def reduced(self, most: int) -> Image:
        """Return the whole image, with a longer side of at most so many pixels."""


class Tiling:
    """How images are divided into tiles of equal size.

    Args:
        tiles: rows and columns such as "2x2", or the side of square tiles in pixels of the image.
        overlap: the smallest overlap of neighbouring tiles, as a fraction of their side.

    Raises:
        InputError: if the tiles or the overlap make no sense.

    Example:
        >>> tiling = Tiling("1x2", overlap=0.5)
        >>> tiling.places((100, 300))  # the whole image, then the tiles
        [(0, 0, 300, 100), (0, 0, 200, 100), (100, 0, 300, 100)]
        >>> str(Tiling(640))
        '640 pixels, overlap 0.2'
    """

    def __init__(self, tiles: str | int, *, overlap: float = OVERLAP) -> None:
        self.grid, self.side = check_tiles(tiles)
        self.overlap = check_overlap(overlap)

    def __str__(self) -> str:
        tiles = "x".join(map(str, self.grid)) if self.grid else f"{self.side} pixels"
        return f"{tiles}, overlap {self.overlap:g}"

    def places(self, hw: tuple[int, int]) -> list[Place]:
        """Return where the whole image and its tiles lie, as x1, y1, x2, y2; one place if a tile holds the image.

        The tiles cover the image, and differ in no side. None has a side below 32 pixels unless the image has one:
        a small image gets fewer tiles than the grid names.

        Example:
            >>> Tiling(640).places((480, 640))
            [(0, 0, 640, 480)]
        """
        (tops, height), (lefts, width) = (self._spans(length, axis) for axis, length in enumerate(hw))
        tiles = [(left, top, left + width, top + height) for top in tops for left in lefts]
        whole = (0, 0, hw[1], hw[0])
        return [whole] if tiles == [whole] else [whole, *tiles]

    def count(self, hw: tuple[int, int]) -> int:
        """Return the number of places without making them.

        Example:
            >>> tiling = Tiling("1x2", overlap=0.5)
            >>> tiling.count((100, 300)) == len(tiling.places((100, 300)))
            True
        """
        (rows, _), (columns, _) = (self._division(length, axis) for axis, length in enumerate(hw))
        return 1 if rows == columns == 1 else 1 + rows * columns

    def _spans(self, length: int, axis: int) -> tuple[list[int], int]:
        """Return the starts of the tiles along one side of an image, and their length."""
        count, size = self._division(length, axis)
        last = length - size
        return [last * number // max(1, count - 1) for number in range(count)], size

    def _division(self, length: int, axis: int) -> tuple[int, int]:
        """Return the number of tiles along one side of an image, and their length."""
        new = 1 - self.overlap  # the part of a tile that the one before does not hold
        if self.grid:
            shortest = min(length, SMALLEST_TILE)
            count = self.grid[axis]
            while count > 1 and length / (1 + (count - 1) * new) < shortest:
                count -= 1
            size = math.ceil(length / (1 + (count - 1) * new))
        else:
            size = min(self.side, length)
            count = 1 + math.ceil((length - size) / (size * new) - 1e-9)
        return count, size


def tiling_of(tiles: str | None, tile: int | None, *, overlap: float | None = None) -> Tiling | None:
    """Return the tiling that settings name: a grid, or the side of a tile, and their overlap; None without both.

    Raises:
        InputError: if a value makes no sense, or both are given.

    Example:
        >>> str(tiling_of("2x2", None)), str(tiling_of(None, 640, overlap=0.5)), tiling_of("", 0)
        ('2x2, overlap 0.2', '640 pixels, overlap 0.5', None)
    """
    if tiles and tile:
        raise InputError(f"either a grid of tiles ({tiles}) or the side of a tile ({tile}) can be used, not both")
    chosen = tiles or tile
    return Tiling(chosen, overlap=OVERLAP if overlap is None else overlap) if chosen else None


def check_tiling(value: Any) -> Tiling | None:
    """Return tiles as a `Tiling`: from "2x2", a side in pixels, a `Tiling`, or None.

    Raises:
        InputError: for anything else.

    Example:
        >>> str(check_tiling("2x3"))
        '2x3, overlap 0.2'
    """
    return value if value is None or isinstance(value, Tiling) else Tiling(value)


def detect_in_tiles(
    images: Sequence[Image | LargeImage],
    detect: Callable[[list[Image]], list[Detections]],
    *,
    tiling: Tiling | None,
    batch_size: int,
    iou_threshold: float,
    max_detections: int,
) -> list[Detections]:
    """Detect in the tiles of images and in the whole images, and merge the results.

    Boxes that end where a tile was cut out of the image are dropped: another tile, or the whole image, shows more of
    the object. For the same reason large boxes are left to the whole image, and small ones to the tiles. The others are
    merged by NMS among boxes of one class. An image of a single tile keeps the detections of the whole image.

    Args:
        images: uint8 [H, W, 3] RGB, or images that are read in parts.
        detect: returns the detections in each image of a list, in its own pixels.
        tiling: how the images are divided; None: not at all.
        batch_size: the largest number of tiles that `detect` gets at once.
        iou_threshold: the IoU above which the lower score of two boxes of one class is dropped.
        max_detections: the largest number of detections in an image.

    Returns:
        Detections in original pixels for each image.

    Example:
        >>> def detect(crops):  # sees one cat, which fills what it looks at
        ...     return [Detections([[0, 0, *crop.shape[1::-1]]], [0.9], labels=[0], class_names=["cat"]) for crop in crops]
        >>> image = np.zeros((64, 128, 3), np.uint8)
        >>> settings = {"batch_size": 8, "iou_threshold": 0.5, "max_detections": 300}
        >>> detect_in_tiles([image], detect, tiling=Tiling("1x2"), **settings)[0].boxes.tolist()
        [[0.0, 0.0, 128.0, 64.0]]
    """
    if tiling is None:
        return detect([image for image in images if isinstance(image, np.ndarray)])
    places = [tiling.places((image.shape[0], image.shape[1])) for image in images]
    crops = [(image, place) for image, several in zip(images, places) for place in several]
    parts: list[Detections] = []
    for start in range(0, len(crops), batch_size):
        some = crops[start : start + batch_size]
        pixels = [_crop(image, place) for image, place in some]
        parts += [_scaled(*each) for each in zip(detect(pixels), pixels, (place for _, place in some))]
    results: list[Detections] = []
    for several in places:
        own, parts = parts[: len(several)], parts[len(several) :]
        if len(several) > 1:
            own = [merge_tiles(own, several, iou_threshold=iou_threshold, max_detections=max_detections)]
        results += own
    return results


def _crop(image: Image | LargeImage, place: Place) -> Image:
    x1, y1, x2, y2 = place
    if not isinstance(image, np.ndarray) and (y2 - y1, x2 - x1) == image.shape[:2]:
        return image.reduced(REDUCED)
    return np.ascontiguousarray(image[y1:y2, x1:x2])


def _scaled(detections: Detections, pixels: Image, place: Place) -> Detections:
    """Return what was detected in the pixels of a place, in pixels of the image: they differ in a reduced image."""
    scale_xy = (place[2] - place[0]) / pixels.shape[1], (place[3] - place[1]) / pixels.shape[0]
    if scale_xy == (1, 1):
        return detections
    boxes = (detections.boxes * np.array(scale_xy * 2)).astype(np.float32)
    return Detections(boxes, detections.scores, labels=detections.labels, class_names=detections.class_names)


def merge_tiles(
    parts: Sequence[Detections], places: Sequence[Place], *, iou_threshold: float, max_detections: int
) -> Detections:
    """Merge the detections in the whole image and in its tiles, each in its own pixels; `places` begins with the whole.

    A box that NMS keeps becomes the mean of the boxes that agree with it, weighed by their squared scores: an object
    that is seen at several scales is located better than in any of them.

    Source: S. Gidaris and N. Komodakis, "Object detection via a multi-region & semantic segmentation-aware CNN model",
    2015 (box voting).

    Example:
        >>> whole = Detections([[10, 10, 20, 20]], [0.5], labels=[0], class_names=["cat"])
        >>> tile = Detections([[4, 10, 14, 20], [0, 10, 6, 20]], [0.9, 0.8], labels=[0, 0], class_names=["cat"])
        >>> merged = merge_tiles([whole, tile], [(0, 0, 100, 50), (6, 0, 100, 50)], iou_threshold=0.5, max_detections=9)
        >>> merged.boxes.tolist()  # in the tile, the first is the same cat, and the second is cut
        [[10.0, 10.0, 20.0, 20.0]]
    """
    moved = [part.boxes + np.array(place[:2] * 2, np.float32) for part, place in zip(parts, places)]
    counted = [np.flatnonzero(_counts(each.astype(np.float64), place, places)) for each, place in zip(moved, places)]
    boxes = np.concatenate([each[rows] for each, rows in zip(moved, counted)])
    scores = np.concatenate([part.scores[rows] for part, rows in zip(parts, counted)])
    labels = np.concatenate([part.labels[rows] for part, rows in zip(parts, counted)])
    chosen = suppress(boxes, scores, labels=labels, iou_threshold=iou_threshold)[:max_detections]
    return Detections(
        _voted(boxes, scores, labels=labels, chosen=chosen).astype(np.float32),
        scores[chosen],
        labels=labels[chosen],
        class_names=parts[0].class_names,
    )


def _counts(boxes: npt.NDArray[np.float64], place: Place, places: Sequence[Place]) -> npt.NDArray[np.bool_]:
    """Return which boxes of a place, in pixels of the image, are not better seen in another place.

    A tile's boxes do not count if they end at a border that is not a border of the image, or are longer than half of
    the tile. The whole image's do not count if they are small and would count in a tile.
    """
    whole = places[0]
    if place != whole:
        return _suits(boxes, place, whole)
    small = (boxes[:, 2:] - boxes[:, :2]).prod(1) < SMALL**2 * (whole[2] * whole[3])
    seen: npt.NDArray[np.bool_] = np.any([_suits(boxes, tile, whole) for tile in places[1:]], axis=0)
    counts: npt.NDArray[np.bool_] = ~(small & seen)
    return counts


def _suits(boxes: npt.NDArray[np.float64], tile: Place, whole: Place) -> npt.NDArray[np.bool_]:
    """Return which boxes lie in a tile, not near a border at which it was cut out, and are not long for it."""
    corners, cut = np.array(tile), np.array(tile) != whole
    sides = corners[2:] - corners[:2]
    bounds = corners + np.concatenate([NEAR * sides, -NEAR * sides])
    low, high = np.where(cut, bounds, [-np.inf, -np.inf, np.inf, np.inf]).reshape(2, 2)
    suits: npt.NDArray[np.bool_] = (
        (boxes[:, :2] >= low) & (boxes[:, 2:] <= high) & (boxes[:, 2:] - boxes[:, :2] <= LONG * sides)
    ).all(1)
    return suits


def _voted(
    boxes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    *,
    labels: npt.NDArray[np.int64],
    chosen: npt.NDArray[np.int64],
) -> npt.NDArray[np.float64]:
    """Return the chosen boxes, each replaced by the mean of all boxes of its class that overlap it by more than AGREE."""
    exact, weights = boxes.astype(np.float64), scores.astype(np.float64) ** 2
    result = exact[chosen]
    for row, position in enumerate(chosen):
        same = np.flatnonzero(labels == labels[position])
        agreeing = same[_overlaps(boxes[position : position + 1], boxes[same], AGREE)]
        if len(agreeing) > 1:
            result[row] = np.average(exact[agreeing], axis=0, weights=weights[agreeing])
    return result


def suppress(
    boxes: npt.NDArray[np.float32],
    scores: npt.NDArray[np.float32],
    *,
    labels: npt.NDArray[np.int64],
    iou_threshold: float,
) -> npt.NDArray[np.int64]:
    """Return the positions of the boxes that greedy NMS keeps, by descending score: the rules of `ops.nms`, in NumPy.

    Example:
        >>> boxes = np.float32([[0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]])
        >>> suppress(boxes, np.float32([0.8, 0.9, 0.7]), labels=np.array([0, 0, 0]), iou_threshold=0.5).tolist()
        [1, 2]
    """
    kept: list[npt.NDArray[np.int64]] = []
    order = np.argsort(-scores, kind="stable")
    for label in np.unique(labels):
        waiting = order[labels[order] == label]
        while len(waiting):
            best, waiting = waiting[:1], waiting[1:]
            kept.append(best)
            waiting = waiting[~_overlaps(boxes[best], boxes[waiting], iou_threshold)]
    if not kept:
        return np.zeros(0, np.int64)
    chosen = np.sort(np.concatenate(kept))
    return chosen[np.argsort(-scores[chosen], kind="stable")]


def _overlaps(
    box: npt.NDArray[np.float32], boxes: npt.NDArray[np.float32], iou_threshold: float
) -> npt.NDArray[np.bool_]:
    """Return which boxes [N, 4] overlap a box [1, 4] by more than a threshold; float32, as in `ops.nms`."""
    sides = np.minimum(box[:, 2:], boxes[:, 2:]) - np.maximum(box[:, :2], boxes[:, :2])
    intersection = sides.clip(0).prod(1)
    areas, area = ((each[:, 2:] - each[:, :2]).prod(1) for each in (boxes, box))
    with np.errstate(divide="ignore", invalid="ignore"):  # a union without area: NaN suppresses nothing
        iou = intersection / (area + areas - intersection)
    suppressed: npt.NDArray[np.bool_] = iou.astype(np.float64) > iou_threshold
    return suppressed
