"""How right a classifier is: confusion matrix, precision, recall, F1, accuracy and their averages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class ClassScores:
    """Of one class, or averaged over all. What cannot be computed, because nothing was or should be called so, is 0."""

    precision: float  # of the images that were called so, the share that are
    recall: float  # of the images that are, the share that were called so
    f1: float  # harmonic mean of both
    support: int  # images that are


@dataclass(frozen=True, eq=False)
class ClassificationReport:
    """What scikit-learn's classification_report says, and the confusion matrix it comes from.

    Attributes:
        confusion: int64 [C, C]; row: what an image is, column: what it was called.
        accuracy: share of images called what they are.
        per_class: by name.
        macro: the mean over the classes.
        weighted: the mean weighted by support.
    """

    confusion: npt.NDArray[np.int64]
    accuracy: float
    per_class: dict[str, ClassScores]
    macro: ClassScores
    weighted: ClassScores

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "accuracy": self.accuracy,
            "classes": {name: asdict(scores) for name, scores in self.per_class.items()},
            "macro": asdict(self.macro),
            "weighted": asdict(self.weighted),
            "confusion": self.confusion.tolist(),
        }


def confusion_matrix(truth: npt.ArrayLike, called: npt.ArrayLike, *, classes: int) -> npt.NDArray[np.int64]:
    """Count images by what they are (row) and what they were called (column): int64 [classes, classes]."""
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (np.asarray(truth, np.int64), np.asarray(called, np.int64)), 1)
    return matrix


def classification_report(
    truth: npt.ArrayLike, called: npt.ArrayLike, *, class_names: Sequence[str]
) -> ClassificationReport:
    """Compare labels.

    Args:
        truth: int [N], what the images are.
        called: int [N], what they were called.
        class_names: by label.

    Raises:
        ValueError: where there is no image, or the two differ in length.
    """
    truth, called = np.asarray(truth), np.asarray(called)
    if truth.shape != called.shape or truth.ndim != 1 or not len(truth):
        raise ValueError(
            f"truth and called must be [N] with N at least 1, got {list(truth.shape)}, {list(called.shape)}"
        )
    if min(truth.min(), called.min()) < 0 or max(truth.max(), called.max()) >= len(class_names):
        raise ValueError(f"labels must be in 0..{len(class_names) - 1}")
    matrix = confusion_matrix(truth, called, classes=len(class_names))
    right, support, named = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    precision, recall = _ratio(right, named), _ratio(right, support)
    f1 = _ratio(2 * right, named + support)
    columns = np.stack([precision, recall, f1])  # [3, C]
    per_class = {name: _scores(columns[:, i], support[i]) for i, name in enumerate(class_names)}
    total = support.sum()
    macro, weighted = _scores(columns.mean(1), total), _scores(columns @ support / total, total)
    return ClassificationReport(matrix, float(right.sum() / total), per_class=per_class, macro=macro, weighted=weighted)


def _scores(values: npt.NDArray[np.float64], support: np.int64) -> ClassScores:
    precision, recall, f1 = values.tolist()
    return ClassScores(precision, recall, f1=f1, support=int(support))


def _ratio(part: npt.NDArray[np.int64], whole: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
