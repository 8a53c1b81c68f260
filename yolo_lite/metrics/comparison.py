"""Whether one detector is better than another on the same images, or was only luckier."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from yolo_lite.metrics.coco import CocoMetrics
from yolo_lite.metrics.resampling import (
    Floats,
    Interval,
    RankedClass,
    difference_interval,
    draw_halves,
    images_with_objects,
    resample,
)

_ROUNDING = 1e-12


class Difference(NamedTuple):
    """A number of two detectors, A and B, on the same images.

    Attributes:
        name: AP, AP50, or the class whose AP it is.
        a: the number of A.
        b: the number of B.
        low: lower end of the 95 % interval of b - a; NaN if fewer than two images have objects.
        high: upper end.
        p: how often detectors that are equally good differ by as much or more.
    """

    name: str
    a: float
    b: float
    low: float
    high: float
    p: float


class Comparison(NamedTuple):
    """The differences between two detectors overall, AP and AP50, and for each class, AP."""

    overall: tuple[Difference, ...]
    classes: tuple[Difference, ...]
    resamples: int


def compare(
    a: CocoMetrics,
    b: CocoMetrics,
    *,
    images: int,
    resamples: int = 1000,
    on_resample: Callable[[int, int], None] = lambda done, total: None,
) -> Comparison:
    """Compare two detectors that were scored on the same images.

    The intervals come from the same random halves of the images for both. The p-values come from a randomisation test
    (Fisher 1935): were the detectors equally good, their detections in each image could be swapped. The test swaps them
    in random images and counts how often the difference is at least as large as the real one.

    Args:
        a: the metrics of A.
        b: the metrics of B, with the same classes.
        images: number of images.
        resamples: number of halves, and of random swaps.
        on_resample: called with the number of resamples done and the total, for both parts together.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> from yolo_lite.metrics.coco import evaluate_coco
        >>> nothing = evaluate_coco(read_split("my_images", "val"), [])
        >>> compare(nothing, nothing, images=3, resamples=10).overall[0]
        Difference(name='AP', a=0.0, b=0.0, low=0.0, high=0.0, p=1.0)
    """
    total = 4 * resamples
    halves = draw_halves(images, resamples)
    halves_a = resample(a.ranked, halves, on_resample=lambda done, _: on_resample(done, total))
    halves_b = resample(b.ranked, halves, on_resample=lambda done, _: on_resample(resamples + done, total))
    both = [_merge(*pair) for pair in zip(a.ranked, b.ranked)]
    swapped = _draw_swaps(images, resamples)
    swapped_a = resample(both, swapped, on_resample=lambda done, _: on_resample(2 * resamples + done, total))
    swapped_b = resample(both, 1 - swapped, on_resample=lambda done, _: on_resample(3 * resamples + done, total))
    parts = (halves_a, halves_b, swapped_a, swapped_b)
    overall = tuple(
        _difference(name, (a.numbers[name], b.numbers[name]), drawn=drawn, classes=a.ranked)
        for name in ("AP", "AP50")
        for drawn in [[part.overall()[name] for part in parts]]
    )
    classes = tuple(
        _difference(name, (ap, b.per_class[name][0]), drawn=drawn, classes=[a.ranked[label]])
        for label, (name, (ap, _, _)) in enumerate(a.per_class.items())
        for drawn in [[part.ap[:, label] for part in parts]]
    )
    return Comparison(overall, classes, resamples)


def _difference(
    name: str, numbers: tuple[float, float], *, drawn: Sequence[Floats], classes: Sequence[RankedClass]
) -> Difference:
    """Return a difference from the numbers of A and B in the same halves, and on both sides of the swaps."""
    ends = Interval(math.nan, math.nan)
    if images_with_objects(classes) > 1:
        images = len(classes[0].objects)
        ends = difference_interval(*numbers, halves_a=drawn[0], halves_b=drawn[1], images=images)
    return Difference(name, *numbers, *ends, p=p_value(numbers[1] - numbers[0], drawn[3] - drawn[2]))


def p_value(value: float, swapped: Floats) -> float:
    """Return the two-sided p-value of a difference; NaN if it is unknown.

    Args:
        value: the difference.
        swapped: float64 [R], the differences after random swaps. The real one counts as one more of them.

    Example:
        >>> p_value(0.2, np.array([0.1, -0.2, 0.0]))  # two of four are as large
        0.5
    """
    known = swapped[~np.isnan(swapped)]
    if math.isnan(value):
        return math.nan
    return float((1 + (np.abs(known) >= abs(value) - _ROUNDING).sum()) / (1 + len(known)))


def _draw_swaps(images: int, resamples: int) -> npt.NDArray[np.int64]:
    """Draw with seed 0 in which images the detections are swapped: int64 [2 M, R], first for those of A, then of B."""
    kept = np.random.default_rng(0).integers(0, 2, (images, resamples))
    return np.concatenate([kept, 1 - kept])


def _merge(a: RankedClass, b: RankedClass) -> RankedClass:
    """Return one ranking of the detections of both; the images of B are numbered after those of A.

    Equal scores are ordered by image, whoever detected: as in the ranking of each detector, and in that of each swap.
    """
    scores = np.concatenate([a.scores, b.scores])
    order = np.lexsort((np.concatenate([a.images, b.images]), -scores))
    return RankedClass(
        np.concatenate([a.images, b.images + len(a.objects)])[order],
        scores[order],
        right=np.concatenate([a.right, b.right], axis=1)[:, order],
        counted=np.concatenate([a.counted, b.counted], axis=1)[:, order],
        objects=np.concatenate([a.objects, b.objects]),
    )
