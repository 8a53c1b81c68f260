"""COCO's average precision, computed by pycocotools from the rows of COCO result files."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from yolo_lite.errors import InputError
from yolo_lite.metrics.curves import OperatingPoint, best_threshold
from yolo_lite.metrics.resampling import (
    Floats,
    Interval,
    RankedClass,
    Resampled,
    draw_halves,
    images_with_objects,
    interval,
    resample,
)
from yolo_lite.structures.datasets import DetectionSet

if TYPE_CHECKING:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

NAMES = (
    "AP", "AP50", "AP75", "APsmall", "APmedium", "APlarge", "AR1", "AR10", "AR100", "ARsmall", "ARmedium", "ARlarge",
)  # fmt: skip


@dataclass(frozen=True)
class CocoMetrics:
    """pycocotools' twelve numbers, the AP of each class, and the best score threshold.

    Attributes:
        numbers: values in 0..1 by the names in NAMES; NaN if there is nothing to measure (pycocotools gives -1).
        per_class: (AP, AP50, number of ground-truth boxes) by class name; crowd boxes are not counted.
        intervals: the 95 % intervals of AP and AP50, from random halves of the set; empty unless requested. They are NaN
            if fewer than two images have objects.
        best: the score threshold with the highest F1; None if nothing above 0.01 is correct.
        class_intervals: the same intervals by class name; empty unless requested.
        by_size: AP by class name for small, medium and large objects, in COCO's sense; NaN without such objects.
        ranked: the matched detections by class, in the order of `per_class`.
    """

    numbers: Mapping[str, float]
    per_class: Mapping[str, tuple[float, float, int]]
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    best: OperatingPoint | None = None
    class_intervals: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    by_size: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)
    ranked: tuple[RankedClass, ...] = field(default=(), repr=False)


def evaluate_coco(
    data: DetectionSet,
    rows: Sequence[Mapping[str, Any]],
    *,
    resamples: int = 0,
    on_resample: Callable[[int, int], None] | None = None,
) -> CocoMetrics:
    """Evaluate result rows against the ground truth of a set.

    Args:
        data: the ground truth; a class is left out in images that are not labelled for it.
        rows: result rows as `to_rows` returns them, with the category ids of `data`.
        resamples: number of random halves of the set that the intervals are made from; 0: no intervals.
        on_resample: called after each sample with the number done and the total.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> evaluate_coco(read_split("my_images", "val"), []).numbers["AP"]  # nothing is detected
        0.0
    """
    left_out = {(record.image_id, data.category_ids[i]) for record in data.records for i in record.unlabelled}
    rows = [row for row in rows if (row["image_id"], row["category_id"]) not in left_out]
    evaluation = _measure(data, rows)
    numbers = {name: _or_nan(float(value)) for name, value in zip(NAMES, evaluation.stats)}
    precision = evaluation.eval["precision"]  # [IoU thresholds, recalls, classes, areas, most detections]
    order = {category_id: position for position, category_id in enumerate(evaluation.params.catIds)}
    counts = np.bincount(data.records.asked_labels(), minlength=len(data.class_names))
    ranked = _rank(evaluation)
    ranked = tuple(ranked[order[category_id]] for category_id in data.category_ids)
    per_class, by_size = {}, {}
    for label, (name, category_id) in enumerate(zip(data.class_names, data.category_ids)):
        of_class = precision[:, :, order[category_id], :, -1]  # [IoU thresholds, recalls, areas]
        per_class[name] = (_mean(of_class[..., 0]), _mean(of_class[0, :, 0]), int(counts[label]))
        by_size[name] = (_mean(of_class[..., 1]), _mean(of_class[..., 2]), _mean(of_class[..., 3]))
    intervals: dict[str, Interval] = {}
    class_intervals: dict[str, dict[str, Interval]] = {}
    if resamples:
        halves = resample(ranked, draw_halves(len(data.records), resamples), on_resample=on_resample)
        intervals = {name: _interval(numbers[name], drawn, classes=ranked) for name, drawn in halves.overall().items()}
        class_intervals = _class_intervals(per_class, halves, ranked)
    return CocoMetrics(
        numbers,
        per_class,
        intervals=intervals,
        best=_best_point(ranked),
        class_intervals=class_intervals,
        by_size=by_size,
        ranked=ranked,
    )


def _measure(data: DetectionSet, rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return the COCOeval of result rows, which has counted and averaged."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints tables as it goes
        truth = _ground_truth(data)
        detections = truth.loadRes([dict(row) for row in rows]) if rows else COCO()
        if not rows:
            detections.dataset = {**truth.dataset, "annotations": []}
            detections.createIndex()
        evaluation = COCOeval(truth, detections, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def _class_intervals(
    per_class: Mapping[str, tuple[float, float, int]], halves: Resampled, ranked: Sequence[RankedClass]
) -> dict[str, dict[str, Interval]]:
    return {
        name: {
            "AP": _interval(ap, halves.ap[:, label], classes=ranked[label : label + 1]),
            "AP50": _interval(ap50, halves.ap50[:, label], classes=ranked[label : label + 1]),
        }
        for label, (name, (ap, ap50, _)) in enumerate(per_class.items())
    }


def _interval(value: float, halves: Floats, *, classes: Sequence[RankedClass]) -> Interval:
    """Return the interval of a number of some classes; NaN if halves cannot show how far it varies."""
    if images_with_objects(classes) < 2:
        return Interval(math.nan, math.nan)
    return interval(value, halves, images=len(classes[0].objects))


def _best_point(classes: Sequence[RankedClass]) -> OperatingPoint | None:
    """Return the best score threshold over all classes together; pycocotools decides what is correct at IoU 0.5."""
    scores = np.concatenate([np.zeros(0), *(ranked.scores[ranked.counted[0]] for ranked in classes)])
    right = np.concatenate([np.zeros(0, bool), *(ranked.right[0][ranked.counted[0]] for ranked in classes)])
    return best_threshold(scores, right, objects=sum(int(ranked.objects.sum()) for ranked in classes))


def _rank(evaluation: COCOeval) -> tuple[RankedClass, ...]:
    """Return the ranking of each class, for objects of all sizes and the largest number of detections."""
    params = evaluation.params
    images, areas, most = len(params.imgIds), len(params.areaRng), params.maxDets[-1]
    classes = []
    for category in range(len(params.catIds)):
        matches = evaluation.evalImgs[category * areas * images :][:images]
        known = [(position, match) for position, match in enumerate(matches) if match is not None]
        objects = np.zeros(images, np.int64)
        for position, match in known:
            objects[position] = (np.asarray(match["gtIgnore"]) == 0).sum()
        columns = [
            (
                np.full(len(match["dtScores"][:most]), position),
                np.asarray(match["dtScores"][:most], np.float64),
                np.asarray(match["dtMatches"])[:, :most] > 0,
                np.asarray(match["dtIgnore"])[:, :most] == 0,
            )
            for position, match in known
            if match["dtScores"]
        ]
        if not columns:
            none = np.zeros((len(params.iouThrs), 0), bool)
            empty = RankedClass(np.zeros(0, np.int64), np.zeros(0), right=none, counted=none, objects=objects)
            classes.append(empty)
            continue
        positions, scores, right, counted = (np.concatenate(column, axis=-1) for column in zip(*columns))
        order = np.argsort(-scores, kind="stable")
        ranked = RankedClass(
            positions[order], scores[order], right=right[:, order], counted=counted[:, order], objects=objects
        )
        classes.append(ranked)
    return tuple(classes)


def check_rows(content: Any, data: DetectionSet, *, source: Path) -> list[dict[str, Any]]:
    """Check result rows that were read from the file `source`, and return them.

    Raises:
        InputError: if a row is not a detection, its image or category is not in `data`, or its score is not between 0 and
            1; the message names the file and the row.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> check_rows([{"image_id": 1}], read_split("my_images", "val"), source=Path("rows.json"))
        Traceback (most recent call last):
        yolo_lite.errors.InputError: rows.json: row 0 needs image_id, category_id, bbox and score, got {'image_id': 1}
    """
    rows = check_result_list(content, source)
    images, categories = set(data.records.image_ids.tolist()), set(data.category_ids)
    for number, row in enumerate(rows):
        where = f"{source}: row {number}"
        if not isinstance(row, dict) or not {"image_id", "category_id", "bbox", "score"} <= row.keys():
            raise InputError(f"{where} needs image_id, category_id, bbox and score, got {row!r:.80}")
        if not isinstance(row["image_id"], int) or row["image_id"] not in images:
            raise InputError(f"{where} is for image {row['image_id']!r}, which {data.source} does not list")
        if not isinstance(row["category_id"], int) or row["category_id"] not in categories:
            raise InputError(f"{where} has category {row['category_id']!r}, which {data.source} does not list")
        numbers = [*row["bbox"], row["score"]] if isinstance(row["bbox"], list) else []
        good = len(numbers) == 5 and all(isinstance(value, int | float) and abs(value) < 1e9 for value in numbers)
        if not good or min(numbers[2:4]) < 0:
            raise InputError(
                f"{where} must have a box of four finite numbers x, y, width, height and a score, got {row['bbox']!r} and "
                f"{row['score']!r}"
            )
    _check_scores(rows, source)
    return rows


def check_result_list(content: Any, source: Path) -> list[Any]:
    """Return the content of a JSON file; raise InputError unless it is a list, as that of every COCO result file is.

    Example:
        >>> check_result_list({}, Path("rows.json"))
        Traceback (most recent call last):
        yolo_lite.errors.InputError: rows.json is not a COCO result file: expected a list of detections
    """
    if not isinstance(content, list):
        raise InputError(f"{source} is not a COCO result file: expected a list of detections")
    return content


def _check_scores(rows: Sequence[Mapping[str, Any]], source: Path) -> None:
    """Raise InputError for scores that no threshold between 0 and 1 divides, such as percentages."""
    scores = [row["score"] for row in rows]
    if scores and not 0 <= min(scores) <= max(scores) <= 1:
        raise InputError(
            f"{source} has scores from {min(scores):g} to {max(scores):g}; scores must lie between 0 and 1, so divide them "
            "by the largest possible score"
        )


def _ground_truth(data: DetectionSet) -> COCO:
    from pycocotools.coco import COCO

    truth = COCO()
    annotations: list[dict[str, Any]] = []
    for record in data.records:
        for box, label, crowd, area in zip(record.boxes, record.labels, record.crowd, record.areas):
            if label in record.unlabelled:
                continue
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": record.image_id,
                    "category_id": data.category_ids[label],
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "area": float(area),
                    "iscrowd": int(crowd),
                }
            )
    truth.dataset = {
        "images": [{"id": image_id} for image_id in data.records.image_ids.tolist()],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in zip(data.category_ids, data.class_names)],
    }
    truth.createIndex()
    return truth


def _mean(precision: Any) -> float:
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else math.nan


def _or_nan(value: float) -> float:
    return math.nan if value < 0 else value
