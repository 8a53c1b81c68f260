"""How far the choice of images may have moved the numbers of a classifier, and whether another one is better.

Intervals come from the bootstrap over images (Efron 1979), p-values from a randomisation test (Fisher 1935).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from yolo_lite.metrics.classification import classification_report
from yolo_lite.metrics.comparison import Comparison, Difference, p_value
from yolo_lite.metrics.resampling import Floats, Interval

Labels = npt.NDArray[np.int64]
RESAMPLES = 1000
_AT_ONCE = 1 << 22  # counts that are kept in memory


class ClassSamples(NamedTuple):
    """The numbers of a classifier in each resample.

    Attributes:
        accuracy: float64 [R].
        macro_f1: float64 [R], the mean over the classes.
        f1: float64 [R, C]; NaN where a resample has no image of the class, and none is called it.
    """

    accuracy: Floats
    macro_f1: Floats
    f1: Floats


def resample_classes(
    truth: npt.ArrayLike, *called: npt.ArrayLike, classes: int, resamples: int = RESAMPLES, seed: int = 0
) -> list[ClassSamples]:
    """Draw as many images as there are, with replacement, again and again; return the numbers of each classifier.

    All classifiers get the same resamples. Images with the same true and predicted classes cannot be told apart, so it
    is drawn how often each such combination occurs (a multinomial distribution), and not image by image.

    The numbers are those of `classification_report`, with one exception: a class that is absent from a resample is left
    out of the macro F1 there. A class without any image in the whole set counts as 0, as in the report.

    Args:
        truth: int [N], the true labels.
        called: int [N] for each classifier, the predicted labels.
        classes: number of classes.
        resamples: number of resamples R.
        seed: seed of the draws.

    Raises:
        ValueError: if there are no labels, or they differ in number.

    Example:
        >>> samples, same = resample_classes([0, 1, 1, 1], [0, 1, 1, 0], [0, 1, 1, 0], classes=2)
        >>> samples.accuracy.shape, bool((samples.macro_f1 == same.macro_f1).all())
        ((1000,), True)
    """
    (true, *calls), counts = _combinations(truth, *called)
    generator, parts = np.random.default_rng(seed), []
    for size in _steps(resamples, len(counts)):
        draws = generator.multinomial(counts.sum(), counts / counts.sum(), size=size)
        parts.append([_numbers(draws, true, labels, classes) for labels in calls])
    return [_join([part[number] for part in parts], true) for number in range(len(calls))]


def swap_classes(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    *,
    truth: npt.ArrayLike,
    classes: int,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[ClassSamples, ClassSamples]:
    """Swap the predictions of two classifiers in random images, again and again; return the numbers of both sides.

    Were the two equally good, the swaps would change nothing but chance: a randomisation test compares the real
    difference with those after swaps. The arguments are those of `resample_classes`.

    Example:
        >>> a, b = swap_classes([0, 1, 1, 0], [0, 0, 1, 1], truth=[0, 1, 1, 1], classes=2)
        >>> sorted({float(value) for value in b.accuracy - a.accuracy})  # two images differ, with one mistake each
        [-0.5, 0.0, 0.5]
    """
    (true, first, second), counts = _combinations(truth, a, b)
    both, called = np.tile(true, 2), (np.concatenate([first, second]), np.concatenate([second, first]))
    generator = np.random.default_rng(seed)
    parts: list[list[tuple[Floats, Floats]]] = []
    for size in _steps(resamples, len(counts)):
        kept = generator.binomial(counts, 0.5, size=(size, len(counts)))
        draws = np.concatenate([kept, counts - kept], axis=1)
        parts.append([_numbers(draws, both, labels, classes) for labels in called])
    side_a, side_b = (_join([part[side] for part in parts], true) for side in (0, 1))
    return side_a, side_b


def _combinations(*columns: npt.ArrayLike) -> tuple[Labels, Labels]:
    """Return the different combinations of labels, int64 [L, K], and how often each occurs, int64 [K]."""
    labels = np.stack([np.asarray(column, np.int64) for column in columns])
    if labels.ndim != 2 or not labels.shape[1]:
        raise ValueError(f"labels must be [N] with N at least 1, got {list(labels.shape[1:])}")
    combinations, counts = np.unique(labels, axis=1, return_counts=True)
    return combinations, counts.astype(np.int64)


def _steps(resamples: int, combinations: int) -> list[int]:
    """Divide a number of resamples into steps that fit into memory."""
    step = max(1, _AT_ONCE // combinations)
    return [min(step, resamples - start) for start in range(0, resamples, step)]


def _numbers(draws: Labels, truth: Labels, called: Labels, classes: int) -> tuple[Floats, Floats]:
    """Return accuracy [R] and F1 [R, C] from how often each combination of labels is drawn, int64 [R, K]."""
    hit = truth == called
    right = _sum_by_label(draws[:, hit], truth[hit], classes)
    both = _sum_by_label(draws, truth, classes) + _sum_by_label(draws, called, classes)
    f1 = np.divide(2 * right, both, out=np.full(right.shape, np.nan), where=both > 0)
    return right.sum(1) / draws.sum(1), f1


def _sum_by_label(draws: Labels, labels: Labels, classes: int) -> Labels:
    """Return the sums [R, C] of the columns [R, K] with the same label [K]."""
    sums = np.zeros((len(draws), classes), np.int64)
    if labels.size:
        order = np.argsort(labels, kind="stable")
        present, starts = np.unique(labels[order], return_index=True)
        sums[:, present] = np.add.reduceat(draws[:, order], starts, axis=1)
    return sums


def _join(parts: Sequence[tuple[Floats, Floats]], truth: Labels) -> ClassSamples:
    """Return the numbers of all steps; a class without images in the set counts as 0, called or not."""
    accuracy, f1 = (np.concatenate(values) for values in zip(*parts))
    counted = np.where(np.isin(np.arange(f1.shape[1]), truth), f1, 0.0)
    known = ~np.isnan(counted)
    return ClassSamples(accuracy, np.where(known, counted, 0).sum(1) / known.sum(1), f1=f1)


def percentile_interval(values: Floats) -> Interval:
    """Return the 2.5 and 97.5 percentiles of the values, without NaN.

    Example:
        >>> percentile_interval(np.linspace(0, 1, 1001))
        Interval(low=0.025, high=0.975)
    """
    known = values[~np.isnan(values)]
    if not known.size:
        return Interval(math.nan, math.nan)
    low, high = np.percentile(known, [2.5, 97.5])
    return Interval(float(low), float(high))


def compare_calls(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    *,
    truth: npt.ArrayLike,
    class_names: Sequence[str],
    resamples: int = RESAMPLES,
) -> Comparison:
    """Compare the predictions of two classifiers for the same images: accuracy, macro F1, and the F1 of each class.

    Args:
        a: int [N], the labels that the first classifier predicts.
        b: int [N], those of the second.
        truth: int [N], the true labels.
        class_names: by label.
        resamples: number of resamples for the intervals, and of random swaps for the p-values.

    Example:
        >>> compare_calls([0, 0, 1, 1], [0, 0, 1, 1], truth=[0, 0, 1, 1], class_names=("cat", "dog")).overall[0]
        Difference(name='accuracy', a=1.0, b=1.0, low=0.0, high=0.0, p=1.0)
    """
    size = {"classes": len(class_names), "resamples": resamples}
    drawn = resample_classes(truth, a, b, **size)
    swapped = swap_classes(a, b, truth=truth, **size)
    reports = [classification_report(truth, called, class_names=class_names) for called in (a, b)]
    classes = [
        _difference(name, [report.per_class[name].f1 for report in reports], drawn_f1, swapped_f1)
        for name, drawn_f1, swapped_f1 in zip(
            class_names, *(zip(*(part.f1.T for part in pair)) for pair in (drawn, swapped))
        )
    ]
    overall = (
        _difference(
            "accuracy",
            [report.accuracy for report in reports],
            [part.accuracy for part in drawn],
            [part.accuracy for part in swapped],
        ),
        _difference(
            "macro F1",
            [report.macro.f1 for report in reports],
            [part.macro_f1 for part in drawn],
            [part.macro_f1 for part in swapped],
        ),
    )
    return Comparison(overall, tuple(classes), resamples)


def _difference(name: str, values: Sequence[float], drawn: Sequence[Floats], swapped: Sequence[Floats]) -> Difference:
    a, b = values
    p = p_value(b - a, swapped[1] - swapped[0])
    return Difference(name, a, b, *percentile_interval(drawn[1] - drawn[0]), p=p)
