"""Labelled images as their annotations describe them, one split at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from yolo_lite.errors import counted

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class ImageRecord:
    """One labelled picture as its annotations describe it.

    Attributes:
        path: the picture's file.
        image_id: the data set's own number for it, unique in the set.
        hw: (height, width) in original pixels.
        boxes: float64 [N, 4] xyxy, original pixels.
        labels: int64 [N].
        crowd: bool [N]; a crowd box marks a region of uncounted objects: no training target, ignored in evaluation.
        areas: float64 [N], the annotated areas (of the mask, where there is one), by which COCO sorts sizes.
        unlabelled: classes whose objects are not all marked, so that absence means nothing: training asks nothing of them
            here beyond the boxes given, evaluation leaves them out.
        labels_file: where the boxes are written; None where nobody wrote them.
        numbers: int64 [N], the line of each box in a text file, its object in an XML file, or its annotation's id in a
            JSON file (-1 where it has none); empty where that is not known.
    """

    path: Path
    image_id: int
    hw: tuple[int, int]
    boxes: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    crowd: npt.NDArray[np.bool_]
    areas: npt.NDArray[np.float64]
    unlabelled: tuple[int, ...] = ()
    labels_file: Path | None = None
    numbers: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def place(self, index: int) -> str:
        """Say where a box is written: its file, and the line, object or annotation there."""
        if self.labels_file is None or index >= len(self.numbers):
            return f"{self.path}: box {index + 1}"
        noun = {".txt": "line", ".xml": "object"}.get(self.labels_file.suffix.lower(), "annotation")
        number = int(self.numbers[index])
        return f"{self.labels_file}: {noun} {number if number >= 0 else '(without id)'}"


@dataclass(frozen=True)
class DetectionSet:
    """One split of a data set: records, class names by label, and the category id that each class had originally."""

    records: tuple[ImageRecord, ...]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    source: str  # where it was read from
    dropped: int = 0  # annotations without area, left out
    notes: tuple[str, ...] = ()  # what was read in another way than it is written, or left out: one line each

    def summary(self) -> str:
        """Say in one line what was found."""
        boxes = sum(len(record.boxes) for record in self.records)
        empty = sum(not len(record.boxes) for record in self.records)
        crowd = sum(int(record.crowd.sum()) for record in self.records)
        partly = sum(bool(record.unlabelled) for record in self.records)
        unknown = sum(
            len(record.unlabelled) == len(self.class_names) and not len(record.boxes) for record in self.records
        )
        text = f"{counted(len(self.records), 'image')}, {counted(boxes, 'box', plural='boxes')}"
        text += f", {counted(len(self.class_names), 'class', plural='classes')}"
        if empty > unknown:
            text += f"; {counted(empty - unknown, 'image')} without objects kept as background"
        if crowd:
            text += f"; {counted(crowd, 'crowd box', plural='crowd boxes')} ignored in training"
        if partly > unknown:
            text += f"; {counted(partly - unknown, 'image')} labelled for some classes only"
        if unknown:
            text += f"; {counted(unknown, 'image')} without labels"
        if self.dropped:
            text += f"; {counted(self.dropped, 'box', plural='boxes')} without area dropped"
        return text


@dataclass(frozen=True)
class ClassRecord:
    """One picture, or a part of one, with the class it belongs to.

    Attributes:
        name: what messages call it: its path, or its place in an archive.
        content: a picture's file, the bytes of one, or its pixels, uint8 [H, W] grey or [H, W, 3] RGB.
        label: position in the class names.
        box: xyxy, original pixels, of the part that is meant; None for the whole picture.
    """

    name: str
    content: Path | bytes | npt.NDArray[np.uint8]
    label: int
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class ClassificationSet:
    """One split of a set of pictures to classify."""

    records: tuple[ClassRecord, ...]
    class_names: tuple[str, ...]
    source: str
    notes: tuple[str, ...] = ()  # what was done in reading it: one line each

    def summary(self) -> str:
        """Say in one line what was found."""
        counts = np.bincount([record.label for record in self.records], minlength=len(self.class_names))
        told = ", ".join(f"{name} ({count:,})" for name, count in list(zip(self.class_names, counts))[:12])
        more = f" and {len(self.class_names) - 12} more" if len(self.class_names) > 12 else ""
        return f"{counted(len(self.records), 'picture')}, {counted(len(self.class_names), 'class', plural='classes')}: {told}{more}"
