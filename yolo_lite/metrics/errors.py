"""What the errors of a detector cost, by kind: TIDE (Bolya, Foley, Hays and Hoffman 2020)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from yolo_lite.metrics.curves import precision_at_recalls
from yolo_lite.metrics.matching import SetMatches

KINDS = ("classification", "localisation", "both", "duplicate", "background", "missed")
CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND, MISSED = range(len(KINDS))


@dataclass(frozen=True, eq=False)
class Errors:
    """The errors of a detector.

    Attributes:
        average_precision: mean over the classes with objects at `iou_threshold`; NaN if no class has objects.
        counts: number of errors by kind: of objects for "missed", of detections for the others.
        lost: what each kind costs in average precision. The costs do not add up to what is missing to 1.
        iou_threshold: the least IoU of a correct detection.
        background_iou: the least IoU of a badly placed detection; below it, a detection shows background.
    """

    average_precision: float
    counts: Mapping[str, int]
    lost: Mapping[str, float]
    iou_threshold: float
    background_iou: float

    def to_json(self) -> dict[str, Any]:
        """Return the section "errors" of report.json; unknown values are None.

        Example:
            >>> counts, lost = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0.0)
            >>> Errors(1.0, counts, lost, iou_threshold=0.5, background_iou=0.1).to_json()["kinds"][0]
            {'kind': 'classification', 'count': 0, 'lost': 0.0}
        """
        return {
            "iou_threshold": self.iou_threshold,
            "background_iou": self.background_iou,
            "AP50": _or_none(self.average_precision),
            "kinds": [{"kind": kind, "count": self.counts[kind], "lost": _or_none(self.lost[kind])} for kind in KINDS],
        }


def measure_errors(matches: SetMatches, *, background_iou: float = 0.1) -> Errors:
    """Return how many errors of each kind a detector makes, and the average precision (AP) that each kind costs.

    Each wrong detection has one kind, the first that fits. "Covers" means the IoU of a correct detection, "touches" at
    least `background_iou`. Crowds, and classes that are unlabelled in an image, are no objects here.

    1. duplicate: it covers an object of its class, which a detection with a higher score has taken.
    2. classification: it covers an object of another class.
    3. localisation: it touches an object of its class.
    4. both: it touches an object of another class.
    5. background: it touches nothing.

    A detection of kind 2 has a target: the object of another class that it overlaps most (ties: the later object). The
    target of a detection of kind 3 is the object of its own class that it overlaps most. A target may have a correct
    detection already. An object is missed if it has no correct detection and is no target.

    The cost of a kind is the AP without errors of this kind alone, minus the AP:

    - classification, localisation: each detection of the kind becomes a correct detection of its target, with its own
      score. An object then keeps only the detection with the highest score, whether that was corrected or was correct
      from the start; its others are left out (ties: the first row is kept).
    - both, duplicate, background: the detections of the kind are left out.
    - missed: the missed objects are not counted as objects. A class whose objects are all missed then has an AP of 1 if
      it has no detections, and of 0 otherwise.

    Source: Bolya et al. 2020, sections 2.2 and 2.3. The order of the kinds, ties, and the last rule are ours: the paper
    leaves them open.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> from yolo_lite.metrics.columns import to_columns
        >>> from yolo_lite.metrics.matching import match_set
        >>> data = read_split("my_images", "val")
        >>> errors = measure_errors(match_set(data, to_columns(data, [])))  # nothing is detected
        >>> errors.counts["missed"], errors.lost["missed"]
        (6, 1.0)
    """
    kinds = error_kinds(matches, background_iou=background_iou)
    targets = np.where(kinds == CLASSIFICATION, matches.others.objects, matches.own.objects)
    targets[(kinds != CLASSIFICATION) & (kinds != LOCALISATION)] = -1
    missed = matches.missed
    missed[targets[targets >= 0]] = False
    judged = _Judged(matches.columns.labels, matches.objects >= 0, ~matches.ignored, objects=matches.object_counts)
    fixed = [
        _corrected(matches, judged, np.where(kinds == kind, targets, -1)) for kind in (CLASSIFICATION, LOCALISATION)
    ]
    fixed += [judged._replace(kept=judged.kept & (kinds != kind)) for kind in (BOTH, DUPLICATE, BACKGROUND)]
    left = matches.object_counts - np.bincount(matches.object_labels[missed], minlength=matches.class_count)
    fixed.append(judged._replace(objects=left))
    plain = _average_precision(matches, judged)
    counts = [*np.bincount(kinds[kinds >= 0], minlength=MISSED).tolist(), int(missed.sum())]
    return Errors(
        plain,
        dict(zip(KINDS, counts)),
        {kind: _average_precision(matches, case) - plain for kind, case in zip(KINDS, fixed)},
        iou_threshold=matches.iou_threshold,
        background_iou=background_iou,
    )


def error_kinds(matches: SetMatches, *, background_iou: float = 0.1) -> npt.NDArray[np.int64]:
    """Return the kind of error of each detection, by the rules of `measure_errors`.

    Returns:
        int64 [D], positions in KINDS; -1 for detections that are correct or ignored.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> from yolo_lite.metrics.columns import to_columns
        >>> from yolo_lite.metrics.matching import match_set
        >>> data = read_split("my_images", "val")
        >>> rows = [{"image_id": 8, "category_id": 3, "bbox": [0, 0, 2, 2], "score": 0.5}]
        >>> KINDS[error_kinds(match_set(data, to_columns(data, rows)))[0]]
        'background'
    """
    least, own, others = min(matches.iou_threshold, 1 - 1e-10), matches.own.iou, matches.others.iou
    cases = [own >= least, others >= least, own >= background_iou, others >= background_iou]
    kinds = np.select(cases, [DUPLICATE, CLASSIFICATION, LOCALISATION, BOTH], BACKGROUND)
    return np.where(matches.wrong, kinds, -1)


class _Judged(NamedTuple):
    """Detections and objects as average precision sees them."""

    labels: npt.NDArray[np.int64]  # [D]
    right: npt.NDArray[np.bool_]  # [D]
    kept: npt.NDArray[np.bool_]  # [D]
    objects: npt.NDArray[np.int64]  # [C], number of objects


def _corrected(matches: SetMatches, judged: _Judged, targets: npt.NDArray[np.int64]) -> _Judged:
    """Make detections with a target correct; only the first detection of each object is kept."""
    objects = np.where(targets >= 0, targets, matches.objects)
    claims = np.flatnonzero(objects >= 0)
    _, first = np.unique(objects[claims], return_index=True)
    right = np.zeros(len(objects), bool)
    right[claims[first]] = True
    labels = np.where(right, matches.object_labels[objects], judged.labels) if len(claims) else judged.labels
    return judged._replace(labels=labels, right=right, kept=judged.kept & (right | (objects < 0)))


def _average_precision(matches: SetMatches, judged: _Judged) -> float:
    """Return the mean over the classes that have objects."""
    order = matches.order[judged.kept[matches.order]]
    labels = judged.labels[order]
    values = precision_at_recalls(labels, judged.right[order], objects=judged.objects).mean(1)
    gone = judged.objects == 0
    values[gone] = np.bincount(labels, minlength=matches.class_count)[gone] == 0
    values = values[matches.object_counts > 0]
    return float(values.mean()) if len(values) else math.nan


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
