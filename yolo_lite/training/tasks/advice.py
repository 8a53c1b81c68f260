"""What would help a detector most after its training, judged by its last evaluation and by its curve."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from yolo_lite.config.schema import InputConfig
from yolo_lite.ops import box_iou
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.geometry import Letterbox

SMALL_SIDE = 24  # input pixels: below it, an object covers less than 3 x 3 cells of the finest grid of stride 8
LEAST = 0.01  # the smallest gain that is worth a sentence, in AP or recall
LARGEST = 640  # input size up to which a larger one is proposed
FEW = 10  # objects in a group from which on its recall says something


class Recall(NamedTuple):
    """Objects of the validation set that are found, at IoU 0.5 and the best score threshold.

    Attributes:
        small: number of objects whose side (square root of the area) is below SMALL_SIDE input pixels.
        small_found: how many of them are found.
        larger: number of the others.
        larger_found: how many of them are found.
    """

    small: int
    small_found: int
    larger: int
    larger_found: int


def recall_by_size(
    data: DetectionSet, rows: Sequence[Mapping[str, Any]], *, score_threshold: float, settings: InputConfig
) -> Recall:
    """Count the objects that a detection of their class covers with an IoU of at least 0.5.

    Args:
        data: the validation set.
        rows: result rows of all its images.
        score_threshold: rows that score no higher are ignored.
        settings: of the input.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> recall_by_size(read_split("my_images", "val"), [], score_threshold=0.5, settings=InputConfig())
        Recall(small=0, small_found=0, larger=6, larger_found=0)
    """
    found = _boxes_of(rows, score_threshold)
    counts = {True: [0, 0], False: [0, 0]}
    for record in data.records:
        x, y = Letterbox.fit(record.hw, settings.image_size, resize=settings.resize).scale_xy
        for box, label, crowd in zip(record.boxes, record.labels.tolist(), record.crowd.tolist()):
            if crowd or label in record.unlabelled:
                continue
            side = math.sqrt(max(0.0, x * y * float((box[2] - box[0]) * (box[3] - box[1]))))
            boxes = found.get((record.image_id, data.category_ids[label]))
            is_found = boxes is not None and bool((box_iou(torch.tensor(box[None]), boxes) >= 0.5).any())
            counts[side < SMALL_SIDE][0] += 1
            counts[side < SMALL_SIDE][1] += is_found
    return Recall(*counts[True], *counts[False])


def _boxes_of(rows: Sequence[Mapping[str, Any]], score_threshold: float) -> dict[tuple[int, int], Tensor]:
    """Return the boxes (xyxy) of the rows above a score, by image and category."""
    boxes: dict[tuple[int, int], list[list[float]]] = {}
    for row in rows:
        if row["score"] > score_threshold:
            x, y, width, height = row["bbox"]
            boxes.setdefault((row["image_id"], row["category_id"]), []).append([x, y, x + width, y + height])
    return {key: torch.tensor(value, dtype=torch.float64) for key, value in boxes.items()}


class Outcome(NamedTuple):
    """What the last evaluation of a run tells about the classes and the sizes of objects.

    Attributes:
        per_class: (AP, AP50, number of objects) by class name.
        recall: of small and larger objects.
    """

    per_class: Mapping[str, tuple[float, float, int]]
    recall: Recall


def advice(
    rows: Sequence[Mapping[str, float]], outcome: Outcome, *, objects: Mapping[str, int], image_size: tuple[int, int]
) -> str:
    """Return one sentence that says what would help most; empty if nothing stands out.

    Three shortages are compared by what making them good could add: too few epochs (the rise of AP over the last 30 % of
    the epochs), too small an input (by how much fewer small objects are found, times their fraction), and too few objects of
    one class (its distance to the mean AP of the others, divided by the number of classes).

    Args:
        rows: one for each epoch, as results.csv has them.
        outcome: of the last evaluation.
        objects: number of training objects of each class.
        image_size: height and width of the network's input.

    Example:
        >>> rows = [{"epoch": 5, "AP": 0.2}, {"epoch": 10, "AP": 0.3}]
        >>> outcome = Outcome({}, Recall(0, 0, larger=9, larger_found=8))
        >>> advice(rows, outcome, objects={}, image_size=(416, 416))
        'most to gain: more epochs; AP rose by 0.100 over the last 5 epochs (--epochs 20)'
    """
    gains = [_of_epochs(rows), _of_size(outcome.recall, image_size), _of_class(outcome.per_class, objects)]
    gain, sentence = max(gains, key=lambda pair: pair[0])
    return f"most to gain: {sentence}" if gain >= LEAST else ""


def _of_epochs(rows: Sequence[Mapping[str, float]]) -> tuple[float, str]:
    scored = [(int(row["epoch"]), row["AP"]) for row in rows if not math.isnan(row.get("AP", math.nan))]
    if not scored:
        return 0.0, ""
    last, ap = scored[-1]
    earlier = [pair for pair in scored if pair[0] <= 0.7 * last]
    if not earlier:
        return 0.0, ""
    epoch, before = earlier[-1]
    span = "epoch" if last - epoch == 1 else f"{last - epoch} epochs"
    return ap - before, f"more epochs; AP rose by {ap - before:.3f} over the last {span} (--epochs {2 * last})"


def _of_size(recall: Recall, image_size: tuple[int, int]) -> tuple[float, str]:
    if min(recall.small, recall.larger) < FEW or max(image_size) >= LARGEST:
        return 0.0, ""
    small, larger = recall.small_found / recall.small, recall.larger_found / recall.larger
    gain = (larger - small) * recall.small / (recall.small + recall.larger)
    return gain, (
        f"a larger input; {small:.0%} of the objects below {SMALL_SIDE} x {SMALL_SIDE} input pixels are found, and "
        f"{larger:.0%} of the others (--image-size {LARGEST})"
    )


def _of_class(per_class: Mapping[str, tuple[float, float, int]], objects: Mapping[str, int]) -> tuple[float, str]:
    """Return the gain of the class with the lowest AP among those with less than half the median number of objects."""
    aps = {name: ap for name, (ap, _, _) in per_class.items() if not math.isnan(ap)}
    usual = float(np.median([objects.get(name, 0) for name in aps])) if len(aps) > 1 else 0.0
    rare = [name for name in aps if objects.get(name, 0) < usual / 2]
    if not rare:
        return 0.0, ""
    worst = min(rare, key=lambda name: aps[name])
    others = float(np.mean([ap for name, ap in aps.items() if name != worst]))
    count = objects.get(worst, 0)
    return (others - aps[worst]) / len(aps), (
        f"more images of {worst}; it has {count:,} training objects (median of the classes: {usual:,.0f}), and an AP of "
        f"{aps[worst]:.3f} (mean of the others: {others:.3f})"
    )
