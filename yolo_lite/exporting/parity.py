"""The parity gate: an exported file must give the results of its checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from yolo_lite.errors import InputError, counted
from yolo_lite.structures.results import Classification, Detections

BOX_TOLERANCE = 0.01  # pixels
SCORE_TOLERANCE = 1e-5


def compare_detections(
    expected: Detections, found: Detections, *, iou_threshold: float, score_threshold: float, most: int = 300
) -> str | None:
    """Return the first difference between two results for one image, or None.

    Each detection must have one of the same class in the other result, with corners within 0.01 pixels and scores
    within 1e-5. Detections whose score lies at the threshold, or whose overlap with a better one lies at the IoU
    threshold, may differ: rounding decides there.

    Args:
        expected: of the checkpoint.
        found: of the exported file, in the same pixels.
        iou_threshold: of NMS.
        score_threshold: of detections.
        most: the largest number of detections in an image; rounding decides about the last of so many.

    Example:
        >>> cat = Detections([[0, 0, 9, 9]], [0.9], labels=[0], class_names=("cat",))
        >>> compare_detections(cat, cat, iou_threshold=0.6, score_threshold=0.1) is None
        True
        >>> compare_detections(cat, cat[:0], iou_threshold=0.6, score_threshold=0.1)
        'the file lacks cat 0.9000 at 0.0, 0.0, 9.0, 9.0'
    """
    for one, other, words in ((expected, found, "lacks"), (found, expected, "adds")):
        free = np.ones(len(other), bool)
        for i in range(len(one)):
            near = (
                free
                & (other.labels == one.labels[i])
                & (np.abs(other.scores - one.scores[i]) <= SCORE_TOLERANCE)
                & (np.abs(other.boxes - one.boxes[i]).max(1, initial=0) <= BOX_TOLERANCE)
            )
            if near.any():
                free[near.argmax()] = False
            elif not (
                (len(one) == most and one.scores[i] <= one.scores[-1] + SCORE_TOLERANCE)
                or _is_tie(one, i, other, iou_threshold=iou_threshold, score_threshold=score_threshold)
            ):
                corners = ", ".join(f"{side:.1f}" for side in one.boxes[i])
                return f"the file {words} {one.names[i]} {one.scores[i]:.4f} at {corners}"
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
    for name, difference in zip(names, differences):
        if difference:
            raise InputError(f"{source} differs from its checkpoint on {name}: {difference}; nothing was written")
    return f"parity: {len(names)} of {counted(len(names), 'image')} agree with the checkpoint ({what})"


def _is_tie(one: Detections, i: int, other: Detections, *, iou_threshold: float, score_threshold: float) -> bool:
    """Return whether rounding may decide about a detection: its score, or its overlap with a better one."""
    if one.scores[i] <= score_threshold + SCORE_TOLERANCE:
        return True
    low = np.maximum(other.boxes[:, :2], one.boxes[i, :2])
    high = np.minimum(other.boxes[:, 2:], one.boxes[i, 2:])
    common = (high - low).clip(0).prod(1)
    areas = (other.boxes[:, 2:] - other.boxes[:, :2]).prod(1)
    union = areas + (one.boxes[i, 2:] - one.boxes[i, :2]).prod() - common
    iou = common / np.maximum(union, 1e-9)
    near = (other.labels == one.labels[i]) & (np.abs(iou - iou_threshold) < 1e-4)
    return bool(near.any())
