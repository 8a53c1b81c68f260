"""The parity gate: an exported file must give the results of its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from yolo_lite.errors import InputError, counted
from yolo_lite.structures.results import Classification, Detections

BOX_TOLERANCE = 0.01  # pixels
SCORE_TOLERANCE = 1e-5
IOU_TOLERANCE = 1e-4


def compare_detections(expected: Detections, found: Detections) -> str | None:
    """Return the first difference between two results for one image, or None.

    Each detection must have a counterpart of the same class in the other result, with corners within 0.01 pixels and
    scores within 1e-5. Equal scores may come in any order.

    Args:
        expected: of the checkpoint.
        found: of the exported file, in the same pixels.

    Example:
        >>> cat = Detections([[0, 0, 9, 9]], [0.9], labels=[0], class_names=("cat",))
        >>> compare_detections(cat, cat) is None
        True
        >>> compare_detections(cat, cat[:0])
        'the file lacks cat 0.9000 at 0.0, 0.0, 9.0, 9.0'
    """
    partners = _partners(_rows(expected), _rows(found))
    missing, extra = np.flatnonzero(partners < 0), np.setdiff1d(np.arange(len(found)), partners)
    for detections, places, word in ((expected, missing, "lacks"), (found, extra, "adds")):
        if len(places):
            return f"the file {word} {_described(detections, int(places[0]))}"
    return None


@dataclass(frozen=True)
class Suppression:
    """What NMS was asked for.

    Attributes:
        iou_threshold: the IoU above which the lower score of two boxes of one class is dropped.
        score_threshold: the score above which boxes are reported.
        max_detections: the largest number of detections in an image.
        candidates: the number of best (point, class) pairs that have to be considered.
    """

    iou_threshold: float
    score_threshold: float
    max_detections: int
    candidates: int


def check_suppression(candidates: Detections, found: Detections, *, asked: Suppression) -> str | None:
    """Return what keeps `found` from being a result of greedy NMS over the candidates, or None.

    If scores are equal, NMS has several right results, and rounding decides about scores and overlaps at a threshold.
    A result is right for some order of equal scores if and only if

    - each of its detections is a candidate,
    - no two of them overlap too much, and
    - every other candidate overlaps too much with one of them whose score is not lower, or the result is full and its
      scores are not lower.

    Args:
        candidates: every box of the checkpoint's network above the score threshold, with each of its classes.
        found: of the exported file, in the same pixels.
        asked: the thresholds and limits of NMS.

    Example:
        >>> rows = Detections([[0, 0, 9, 9], [0, 0, 9, 8]], [1.0, 1.0], labels=[0, 0], class_names=("cat",))
        >>> asked = Suppression(iou_threshold=0.5, score_threshold=0.1, max_detections=300, candidates=2000)
        >>> check_suppression(rows, rows[:1], asked=asked), check_suppression(rows, rows[1:], asked=asked)
        (None, None)
        >>> check_suppression(rows, rows, asked=asked)
        'the file keeps cat 1.0000 at 0.0, 0.0, 9.0, 9.0 beside another that overlaps it'
    """
    full = float(found.scores.min(initial=1)) if len(found) >= asked.max_detections else -1.0
    beyond = float(candidates.scores[asked.candidates]) if len(candidates) > asked.candidates else -1.0
    optional = max(asked.score_threshold, full, beyond) + SCORE_TOLERANCE  # candidates up to this score may be missing
    for label in range(len(found.class_names)):
        ours, theirs = np.flatnonzero(found.labels == label), np.flatnonzero(candidates.labels == label)
        kept, pool = found[ours], candidates[theirs]
        partners = _partners(_rows(kept), _rows(pool))
        if (partners < 0).any():
            return f"the file adds {_described(kept, int((partners < 0).argmax()))}"
        crowded = np.triu(_overlaps(kept.boxes, kept.boxes) > asked.iou_threshold + IOU_TOLERANCE, 1).any(1)
        if crowded.any():
            return f"the file keeps {_described(kept, int(crowded.argmax()))} beside another that overlaps it"
        excused = pool.scores <= optional
        excused[partners] = True
        left = pool[np.flatnonzero(~excused)]
        suppressed = (_overlaps(left.boxes, kept.boxes) > asked.iou_threshold - IOU_TOLERANCE) & (
            kept.scores[None] >= left.scores[:, None] - SCORE_TOLERANCE
        )
        if not suppressed.any(1).all():
            return f"the file lacks {_described(left, int(suppressed.any(1).argmin()))}"
    return None


def compare_classifications(expected: Classification, found: Classification) -> str | None:
    """Return the first difference between two results for one image, or None; scores may differ by 1e-5.

    Example:
        >>> yes = Classification(np.array([0.8, 0.15, 0.05]), ("cat", "dog", "cow"))
        >>> no = Classification(np.array([0.6, 0.25, 0.15]), ("cat", "dog", "cow"))
        >>> compare_classifications(yes, no)
        'the file says cat 0.60000, the checkpoint 0.80000'
    """
    differences = np.abs(expected.scores - found.scores)
    if differences.max() <= SCORE_TOLERANCE:
        return None
    label = int(differences.argmax())
    name = expected.class_names[label]
    return f"the file says {name} {found.scores[label]:.5f}, the checkpoint {expected.scores[label]:.5f}"


def compare_points(expected: Sequence[npt.NDArray[Any]], found: Sequence[npt.NDArray[Any]]) -> str | None:
    """Return the first difference between the boxes [A, 4] and scores [A, C] of every point, or None.

    Example:
        >>> boxes, scores = np.zeros((3, 4)), np.zeros((3, 2))
        >>> compare_points([boxes, scores], [boxes, scores + 0.5])
        'the scores of point 0 differ by 0.5'
    """
    for name, ours, theirs, tolerance in zip(
        ("boxes", "scores"), expected, found, (BOX_TOLERANCE, SCORE_TOLERANCE), strict=True
    ):
        differences = np.abs(ours - theirs).max(1)
        if not (differences <= tolerance).all():
            worst = int(differences.argmax())
            return f"the {name} of point {worst} differ by {differences[worst]:.3g}"
    return None


def check_parity(names: Sequence[str], differences: Sequence[str | None], *, source: str, what: str) -> str:
    """Return a line that says how many images agree.

    Args:
        names: of the images.
        differences: of each image, or None.
        source: name of the exported file.
        what: what was compared, such as "12 detections".

    Raises:
        InputError: naming the first image that differs.

    Example:
        >>> check_parity(["a.jpg", "b.jpg"], [None, None], source="a.onnx", what="12 detections")
        'parity: 2 of 2 images agree with the checkpoint (12 detections)'
    """
    for name, difference in zip(names, differences, strict=True):
        if difference:
            raise InputError(f"{source} differs from its checkpoint on {name}: {difference}; nothing was written")
    return f"parity: {len(names)} of {counted(len(names), 'image')} agree with the checkpoint ({what})"


Rows = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]  # boxes, scores, labels


def _rows(detections: Detections) -> Rows:
    return detections.boxes, detections.scores, detections.labels


def _partners(rows: Rows, others: Rows) -> npt.NDArray[np.int64]:
    """Return for each row the place of its counterpart among the others, each used once; -1 if it has none."""
    free = np.ones(len(others[0]), bool)
    partners = np.full(len(rows[0]), -1, np.int64)
    for i, (box, score, label) in enumerate(zip(*rows, strict=True)):
        near = (
            free
            & (others[2] == label)
            & (np.abs(others[1] - score) <= SCORE_TOLERANCE)
            & (np.abs(others[0] - box).max(1, initial=0) <= BOX_TOLERANCE)
        )
        if near.any():
            partners[i] = near.argmax()
            free[partners[i]] = False
    return partners


def _overlaps(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the IoU of every pair of boxes, [N, M]; 0 if the union is empty."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    common = sides.clip(0).prod(-1)
    union = (a[:, 2:] - a[:, :2]).prod(1)[:, None] + (b[:, 2:] - b[:, :2]).prod(1) - common
    overlaps: npt.NDArray[Any] = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return overlaps


def _described(detections: Detections, i: int) -> str:
    corners = ", ".join(f"{side:.1f}" for side in detections.boxes[i])
    return f"{detections.names[i]} {detections.scores[i]:.4f} at {corners}"
