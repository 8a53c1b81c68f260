"""Precision, recall and F1 along the score: curves at one IoU, and the best score thresholds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from yolo_lite.metrics.matching import SetMatches
from yolo_lite.metrics.resampling import RECALLS

THRESHOLDS = np.arange(1, 100) / 100


class OperatingPoint(NamedTuple):
    """Precision and recall at one score threshold, at IoU 0.5.

    Precision is the fraction of the detections that are correct, recall the fraction of the objects that are detected.
    F1 is their harmonic mean (van Rijsbergen 1979).
    """

    score_threshold: float  # only detections that score above it count
    f1: float
    precision: float
    recall: float


class ScoreCurves(NamedTuple):
    """F1, precision and recall if only detections that score above a threshold count; NaN where they are undefined."""

    f1: npt.NDArray[np.float64]  # [99], by THRESHOLDS
    precision: npt.NDArray[np.float64]  # [99]
    recall: npt.NDArray[np.float64]  # [99]


@dataclass(frozen=True, eq=False)
class Curves:
    """The curves of a detector.

    Attributes:
        precision: float64 [C, 101], the precision of each class at RECALLS; NaN for a class without objects.
        scores: curves of all classes together.
        iou_threshold: the least IoU of a correct detection.
    """

    precision: npt.NDArray[np.float64]
    scores: ScoreCurves
    iou_threshold: float

    @property
    def mean_precision(self) -> npt.NDArray[np.float64]:
        """Return the mean precision of the classes with objects: float64 [101], NaN without objects."""
        measured = self.precision[~np.isnan(self.precision[:, 0])]
        return measured.mean(0) if len(measured) else np.full(len(RECALLS), np.nan)

    def to_json(self, class_names: Sequence[str]) -> dict[str, Any]:
        """Return all curves as a dictionary of plain values; classes without objects are left out.

        Example:
            >>> curves = Curves(np.ones((1, 101)), score_curves(np.ones(1), np.ones(1, bool), objects=1), iou_threshold=0.5)
            >>> [curve["name"] for curve in curves.to_json(["cat"])["precision_recall"]]
            ['all classes', 'cat']
        """
        rows = [("all classes", self.mean_precision), *zip(class_names, self.precision)]
        recalls = RECALLS.round(2).tolist()
        return {
            "iou_threshold": self.iou_threshold,
            "precision_recall": [
                {"name": name, "recall": recalls, "precision": row.tolist()}
                for name, row in rows
                if not np.isnan(row[0])
            ],
            "scores": {
                "score_threshold": THRESHOLDS.tolist(),
                **{
                    name: [None if np.isnan(value) else value for value in values.tolist()]
                    for name, values in self.scores._asdict().items()
                },
            },
        }


def measure_curves(matches: SetMatches) -> Curves:
    """Return the curves of a detector's matched detections.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> from yolo_lite.metrics.columns import to_columns
        >>> from yolo_lite.metrics.matching import match_set
        >>> data = read_split("my_images", "val")
        >>> float(measure_curves(match_set(data, to_columns(data, []))).mean_precision.max())  # nothing is detected
        0.0
    """
    order = matches.order[~matches.ignored[matches.order]]
    right, objects = matches.objects >= 0, matches.object_counts
    precision = precision_at_recalls(matches.columns.labels[order], right[order], objects=objects)
    scores = score_curves(matches.columns.scores[order], right[order], objects=int(objects.sum()))
    return Curves(precision, scores, iou_threshold=matches.iou_threshold)


def precision_at_recalls(
    labels: npt.NDArray[np.int64], right: npt.NDArray[np.bool_], *, objects: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    """Return the precision of each class at 101 recalls, whose mean is COCO's average precision at one IoU.

    The precision at a recall is the highest precision at that recall or a higher one, 0 if neither is reached.

    Args:
        labels: int64 [D], of detections by falling score; ignored detections are left out.
        right: bool [D].
        objects: int64 [C], the number of objects of each class.

    Returns:
        float64 [C, 101]; NaN for a class without objects.

    Example:
        >>> precision_at_recalls(np.array([0, 0]), np.array([True, False]), objects=np.array([2]))[0, [0, 50, 51, 100]]
        array([1., 1., 0., 0.])
    """
    order = np.argsort(labels, kind="stable")
    right, ends = right[order], np.searchsorted(labels[order], np.arange(len(objects) + 1))
    curves = np.full((len(objects), len(RECALLS)), np.nan)
    for label in np.flatnonzero(objects):
        hits = np.cumsum(right[ends[label] : ends[label + 1]])
        precision = hits / np.arange(1, len(hits) + 1)
        highest = np.maximum.accumulate(precision[::-1])[::-1]
        curves[label] = np.append(highest, 0)[np.searchsorted(hits / objects[label], RECALLS)]
    return curves


def score_curves(scores: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], *, objects: int) -> ScoreCurves:
    """Return F1, precision and recall of the detections that score above each of THRESHOLDS.

    Args:
        scores: [D].
        right: [D], whether each detection is correct; ignored detections are left out.
        objects: number of objects.

    Example:
        >>> curves = score_curves(np.array([0.9, 0.4]), np.array([True, False]), objects=1)
        >>> curves.precision[[10, 60]].tolist(), curves.recall[[60, 95]].tolist()
        ([0.5, 1.0], [1.0, 0.0])
    """
    kept = _above(scores)
    hits = _above(scores[right])
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN
        return ScoreCurves(2 * hits / (kept + objects), precision=hits / kept, recall=hits / np.int64(objects))


def _above(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return how many scores lie above each of THRESHOLDS."""
    return len(scores) - np.searchsorted(np.sort(scores), THRESHOLDS, side="right")


def best_threshold(
    scores: npt.NDArray[np.float64], right: npt.NDArray[np.bool_], *, objects: int
) -> OperatingPoint | None:
    """Return the score threshold of two decimals with the highest F1 (ties: the middle one).

    Args:
        scores: [D].
        right: [D], whether each detection is correct; ignored detections are left out.
        objects: number of objects.

    Returns:
        None if there are no objects, or no detection that scores above 0.01 is correct.

    Example:
        >>> best_threshold(np.array([0.8, 0.3]), np.array([True, False]), objects=1)
        OperatingPoint(score_threshold=0.55, f1=1.0, precision=1.0, recall=1.0)
    """
    if not objects:
        return None
    curves = score_curves(scores, right, objects=objects)
    if not curves.f1.any():
        return None
    equal = np.flatnonzero(curves.f1 == curves.f1.max())
    best = int(equal[len(equal) // 2])
    return OperatingPoint(
        float(THRESHOLDS[best]),
        float(curves.f1[best]),
        precision=float(np.nan_to_num(curves.precision[best])),
        recall=float(curves.recall[best]),
    )


def best_thresholds(matches: SetMatches) -> tuple[OperatingPoint | None, list[OperatingPoint | None]]:
    """Return the best score threshold for all classes together, and the best of each class alone.

    `_asdict()` of a result has the keys of the sections "threshold" in report.json.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> from yolo_lite.metrics.columns import to_columns
        >>> from yolo_lite.metrics.matching import match_set
        >>> data = read_split("my_images", "val")
        >>> rows = [{"image_id": 8, "category_id": 3, "bbox": [10, 20, 30, 40], "score": 0.5}]
        >>> best_thresholds(match_set(data, to_columns(data, rows)))  # the only detection is wrong
        (None, [None, None])
    """
    judged = ~matches.ignored
    scores, labels, right = matches.columns.scores[judged], matches.columns.labels[judged], matches.objects[judged] >= 0
    counts = matches.object_counts
    order = np.argsort(labels, kind="stable")
    parts = np.split(order, np.searchsorted(labels[order], np.arange(1, matches.class_count)))
    overall = best_threshold(scores, right, objects=int(counts.sum()))
    return overall, [best_threshold(scores[k], right[k], objects=int(count)) for k, count in zip(parts, counts)]
