"""The detections of a whole set as arrays, instead of one dictionary for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from yolo_lite.structures.datasets import DetectionSet


class Columns(NamedTuple):
    """The detections in all images of a set, sorted by image, and by falling score within an image.

    Attributes:
        images: int64 [D], the position of each detection's image in the records of the set.
        labels: int64 [D].
        boxes: float64 [D, 4] xyxy, original pixels.
        scores: float64 [D].
        areas: float64 [D], width times height as the rows give them; the corners may be rounded.
        starts: int64 [M + 1], where the detections of each image begin; the last is D.
    """

    images: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]
    areas: npt.NDArray[np.float64]
    starts: npt.NDArray[np.int64]

    def of_image(self, position: int) -> slice:
        """Return where the detections in one image lie."""
        return slice(int(self.starts[position]), int(self.starts[position + 1]))


def to_columns(data: DetectionSet, rows: Sequence[Mapping[str, Any]]) -> Columns:
    """Return COCO result rows as arrays; rows of classes that are unlabelled in their image are left out.

    Args:
        data: the set; the image ids and category ids of the rows are its own.
        rows: as `to_rows` returns them. Detections with equal scores keep their order.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> data = read_split("my_images", "val")
        >>> rows = [{"image_id": 8, "category_id": 3, "bbox": [10, 20, 30, 40], "score": 0.5}]
        >>> columns = to_columns(data, rows)
        >>> columns.images.tolist(), columns.boxes.tolist(), columns.starts.tolist()
        ([1], [[10.0, 20.0, 40.0, 60.0]], [0, 0, 1, 1])
    """
    positions = {image_id: position for position, image_id in enumerate(data.records.image_ids.tolist())}
    label_of = {category_id: label for label, category_id in enumerate(data.category_ids)}
    images = np.array([positions[row["image_id"]] for row in rows], np.int64)
    labels = np.array([label_of[row["category_id"]] for row in rows], np.int64)
    boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    areas = boxes[:, 2] * boxes[:, 3]
    boxes[:, 2:] += boxes[:, :2]
    scores = np.array([row["score"] for row in rows], np.float64)
    order = np.lexsort((-scores, images))
    unlabelled = data.records.unlabelled
    for number, classes in enumerate(unlabelled.choices):
        if classes:
            choice = unlabelled.choice[images[order]]
            order = order[(choice != number) | ~np.isin(labels[order], classes)]
    starts = np.searchsorted(images[order], np.arange(len(data.records) + 1))
    return Columns(
        images[order], labels[order], boxes=boxes[order], scores=scores[order], areas=areas[order], starts=starts
    )
