"""Count what a detection set holds: objects of each class, their sizes and places."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from yolo_lite.structures.datasets import DetectionSet

SMALL, LARGE = 32.0**2, 96.0**2  # COCO's limits of area, square pixels


class ClassStats(NamedTuple):
    """Counts for one class of a split, or for all of them.

    Crowd boxes (PASCAL VOC: difficult ones) are not objects and are counted separately. An object is small if its annotated
    area is below 32 x 32 pixels, large above 96 x 96, else medium.
    """

    name: str
    objects: int
    images: int  # number of images that show one
    median_wh: tuple[float, float] | None  # medians of the boxes' widths and heights, original pixels; None if no boxes
    small: int
    medium: int
    large: int
    crowd: int


class SplitStats(NamedTuple):
    """Counts for a split; objects are in the order of the records."""

    classes: tuple[ClassStats, ...]  # by label
    total: ClassStats
    images: int
    empty: int  # images without any box
    sides: npt.NDArray[np.float64]  # [N], square roots of the objects' areas, original pixels
    centres: npt.NDArray[np.float64]  # [N, 2], x and y of the boxes' centres, as fractions of width and height


def split_stats(data: DetectionSet) -> SplitStats:
    """Count the objects of a split.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> stats = split_stats(read_split("my_images", "val"))
        >>> stats.images, stats.total.objects, [counts.name for counts in stats.classes]
        (3, 6, ['disc', 'square'])
    """
    records = data.records
    boxes, labels, crowd, areas, _ = records.objects
    image = records.image_of_objects
    sizes_wh = records.sizes_hw[image, ::-1].astype(np.float64)
    everything = np.ones(len(boxes), np.bool_)
    per_class = [
        _count(name, labels == label, boxes=boxes, crowd=crowd, areas=areas, image=image)
        for label, name in enumerate(data.class_names)
    ]
    return SplitStats(
        tuple(per_class),
        _count("total", everything, boxes=boxes, crowd=crowd, areas=areas, image=image),
        images=len(records),
        empty=int((records.counts == 0).sum()),
        sides=np.sqrt(areas[~crowd]),
        centres=((boxes[:, :2] + boxes[:, 2:]) / 2 / sizes_wh)[~crowd],
    )


def _count(
    name: str,
    selected: npt.NDArray[np.bool_],
    *,
    boxes: npt.NDArray[np.float64],
    crowd: npt.NDArray[np.bool_],
    areas: npt.NDArray[np.float64],
    image: npt.NDArray[np.int64],
) -> ClassStats:
    objects = selected & ~crowd
    width, height = (boxes[objects, 2:] - boxes[objects, :2]).T
    small, large = int((areas[objects] < SMALL).sum()), int((areas[objects] > LARGE).sum())
    count = int(objects.sum())
    median = (float(np.median(width)), float(np.median(height))) if count else None
    shown = len(np.unique(image[objects]))
    return ClassStats(
        name,
        count,
        images=shown,
        median_wh=median,
        small=small,
        medium=count - small - large,
        large=large,
        crowd=int((selected & crowd).sum()),
    )
