"""An image with its ground truth beside the same image with what a detector found."""

from __future__ import annotations

import numpy as np

from yolo_lite.draw.sheets import SheetImage
from yolo_lite.errors import counted
from yolo_lite.metrics.matching import Matches, match_detections
from yolo_lite.structures.geometry import Image
from yolo_lite.structures.records import ImageRecord
from yolo_lite.structures.results import Detections

_CROSS = "\N{BALLOT X}"


def compare_on_sheet(
    image: Image,
    record: ImageRecord,
    *,
    detections: Detections,
    class_names: tuple[str, ...],
    ignored: str = "crowd",
) -> tuple[SheetImage, SheetImage]:
    """Return an image with its ground truth, and the same with what was found.

    Missed objects and wrong detections, judged at an IoU of 0.5, have a dashed outline and a cross.

    Args:
        image: uint8 [H, W, 3] RGB, original pixels.
        record: its ground truth.
        detections: in original pixels.
        class_names: the names that the record's labels stand for.
        ignored: what the data calls objects that do not count; see `DetectionSet`.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> data = read_split("my_images", "val")
        >>> record, black = data.records[0], np.zeros((96, 128, 3), np.uint8)
        >>> nothing = Detections([], [], labels=[], class_names=data.class_names)
        >>> truth, found = compare_on_sheet(black, record, detections=nothing, class_names=data.class_names)
        >>> found.caption
        'predictions: 0 right, 0 wrong'
    """
    matches = match_detections(detections, record.boxes, labels=record.labels, crowd=record.crowd)
    names = [class_names[label] for label in record.labels]
    return _truth(image, record, matches, names=names, ignored=ignored), _found(image, detections, matches)


def _truth(image: Image, record: ImageRecord, matches: Matches, *, names: list[str], ignored: str) -> SheetImage:
    texts = [
        f"{name} ({ignored})" if crowd else f"{_CROSS} {name}" if missed else name
        for name, crowd, missed in zip(names, record.crowd, matches.missed)
    ]
    total, missed = int((~record.crowd).sum()), int(matches.missed.sum())
    return SheetImage(
        image,
        record.boxes,
        labels=record.labels.tolist(),
        texts=texts,
        caption=f"{record.path.name[-24:]}: {counted(total, 'object')}, {missed} missed",
        wrong=frozenset(np.flatnonzero(matches.missed).tolist()),
    )


def _found(image: Image, detections: Detections, matches: Matches) -> SheetImage:
    texts = [
        f"{_CROSS} {name} {score:.0%}" if wrong else f"{name} {score:.0%}"
        for name, score, wrong in zip(detections.names, detections.scores, matches.wrong)
    ]
    right = int((matches.objects >= 0).sum())
    return SheetImage(
        image,
        detections.boxes,
        labels=detections.labels.tolist(),
        texts=texts,
        caption=f"predictions: {right} right, {int(matches.wrong.sum())} wrong",
        wrong=frozenset(np.flatnonzero(matches.wrong).tolist()),
    )
