"""Measures for classifiers: confusion matrix, accuracy, and precision, recall and F1 with their averages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class ClassScores:
    """The scores of one class, or their averages; a score whose denominator is 0 counts as 0.

    Attributes:
        precision: fraction of the images predicted as this class that belong to it.
        recall: fraction of the images of this class that are predicted as it.
        f1: harmonic mean of precision and recall.
        support: number of images of this class.
    """

    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True, eq=False)
class ClassificationReport:
    """The numbers of scikit-learn's classification_report, and the confusion matrix.

    Attributes:
        confusion: int64 [C, C]; the row is the true class of an image, the column its predicted class.
        accuracy: fraction of the images whose class is predicted correctly.
        per_class: scores by class name.
        macro: mean over the classes.
        weighted: mean over the classes, weighted by support.
    """

    confusion: npt.NDArray[np.int64]
    accuracy: float
    per_class: dict[str, ClassScores]
    macro: ClassScores
    weighted: ClassScores

    def to_json(self) -> dict[str, Any]:
        """Return all numbers as a dictionary of plain values.

        Example:
            >>> report = classification_report([0, 1], [0, 1], class_names=["cat", "dog"])
            >>> report.to_json()["macro"]
            {'precision': 1.0, 'recall': 1.0, 'f1': 1.0, 'support': 2}
        """
        return {
            "accuracy": self.accuracy,
            "classes": {name: asdict(scores) for name, scores in self.per_class.items()},
            "macro": asdict(self.macro),
            "weighted": asdict(self.weighted),
            "confusion": self.confusion.tolist(),
        }


def confusion_matrix(truth: npt.ArrayLike, called: npt.ArrayLike, *, classes: int) -> npt.NDArray[np.int64]:
    """Count images by true class (row) and predicted class (column): int64 [classes, classes].

    Example:
        >>> confusion_matrix([0, 0, 1], [0, 1, 1], classes=2).tolist()
        [[1, 1], [0, 1]]
    """
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (np.asarray(truth, np.int64), np.asarray(called, np.int64)), 1)
    return matrix


def classification_report(
    truth: npt.ArrayLike, called: npt.ArrayLike, *, class_names: Sequence[str]
) -> ClassificationReport:
    """Compare predicted labels with true labels.

    Args:
        truth: int [N], the true labels.
        called: int [N], the predicted labels.
        class_names: by label.

    Raises:
        ValueError: if there are no labels, the two differ in length, or a label has no name.

    Example:
        >>> report = classification_report([0, 0, 1, 1], [0, 1, 1, 1], class_names=["cat", "dog"])
        >>> report.accuracy, report.per_class["cat"].recall
        (0.75, 0.5)
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
