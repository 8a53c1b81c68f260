"""How far chance may have moved an average precision: the bootstrap over images (Efron 1979), alone or in pairs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
RECALLS = np.linspace(0, 1, 101)  # at which COCO reads the precision
_AT_ONCE = 64  # resamples; more take more memory and no less time


class RankedClass(NamedTuple):
    """The detections of one class in all images of a set, the highest scores first, after matching.

    Attributes:
        images: int64 [D], the position of each detection's image, by rising image id.
        scores: float64 [D].
        right: bool [T, D], for each IoU threshold whether the detection belongs to an object.
        counted: bool [T, D]; a detection in a crowd is not counted: it is neither right nor wrong.
        objects: int64 [M], the number of objects in each image, without crowds.
    """

    images: npt.NDArray[np.int64]
    scores: Floats
    right: npt.NDArray[np.bool_]
    counted: npt.NDArray[np.bool_]
    objects: npt.NDArray[np.int64]


class Resampled(NamedTuple):
    """The AP of each class in each resample; NaN where a resample has no object of the class.

    Attributes:
        ap: float64 [R, C], the mean over all IoU thresholds.
        ap50: float64 [R, C], that at the first threshold.
    """

    ap: Floats
    ap50: Floats

    def overall(self) -> dict[str, Floats]:
        """Return AP and AP50 of each resample: float64 [R], the mean over the classes with objects.

        Example:
            >>> Resampled(np.array([[0.5, np.nan]]), np.array([[0.8, np.nan]])).overall()["AP"]
            array([0.5])
        """
        return {"AP": _mean_of_rows(self.ap), "AP50": _mean_of_rows(self.ap50)}


class Interval(NamedTuple):
    """A 95 % interval; both ends are NaN if nothing could be measured."""

    low: float
    high: float


class Difference(NamedTuple):
    """A number of two detectors on the same images.

    Attributes:
        a: that of the first.
        b: that of the second.
        low: lower end of the 95 % interval of b - a.
        high: upper end.
        p: how probable a difference of this size or more is if the two are equally good, two-sided.
    """

    a: float
    b: float
    low: float
    high: float
    p: float


def draw_images(images: int, resamples: int) -> npt.NDArray[np.int64]:
    """Draw images with replacement, with seed 0; return how often each is drawn: int64 [M, R].

    Example:
        >>> draw_images(3, 2).sum(0).tolist()
        [3, 3]
    """
    generator = np.random.default_rng(0)
    draws = np.zeros((images, resamples), np.int64)
    for column in draws.T:
        column += np.bincount(generator.integers(0, images, images), minlength=images)
    return draws


def resample(
    classes: Sequence[RankedClass],
    draws: npt.NDArray[np.int64],
    *,
    on_resample: Callable[[int, int], None] | None = None,
) -> Resampled:
    """Return the AP of each class in each resample, as pycocotools would accumulate it.

    A detection of an image that is drawn w times counts w times. The matching of detections and objects in one image
    does not depend on other images, so only the counts along the ranking change. Copies of a detection follow each
    other; those of two images with equal scores are ordered by image id.

    Args:
        classes: the ranking of each class.
        draws: int64 [M, R], as from `draw_images`.
        on_resample: called with the number of resamples done and the total.

    Example:
        >>> right = np.array([[True, False]])  # one IoU threshold, two detections, one in each of two images
        >>> images, scores, objects = np.array([0, 1]), np.array([0.9, 0.8]), np.array([1, 1])
        >>> ranked = RankedClass(images, scores, right=right, counted=np.ones_like(right), objects=objects)
        >>> resample([ranked], np.array([[1, 2], [1, 0]])).ap50.round(3).tolist()  # each once; the first twice
        [[0.505], [1.0]]
    """
    resamples = draws.shape[1]
    thresholds = len(classes[0].right) if classes else 1
    values = np.full((len(classes), thresholds, resamples), np.nan)
    for start in range(0, resamples, _AT_ONCE):
        part = np.ascontiguousarray(draws[:, start : start + _AT_ONCE])
        for number, ranked in enumerate(classes):
            values[number, :, start : start + _AT_ONCE] = _average_precision(ranked, part)
        if on_resample:
            on_resample(min(start + _AT_ONCE, resamples), resamples)
    return Resampled(values.mean(1).T, values[:, 0].T)


def _average_precision(ranked: RankedClass, draws: npt.NDArray[np.int64]) -> Floats:
    """Return the AP for each IoU threshold and resample: float64 [T, R].

    Precision is highest where a run of right detections ends, so only right detections have to be looked at. Each
    contributes its precision at all recalls that it is the first to reach.
    """
    objects = ranked.objects @ draws  # [R]
    values = np.zeros((len(ranked.right), draws.shape[1]))
    drawn = draws[ranked.images]  # [D, R]
    seen = np.cumsum(drawn, axis=0)
    for threshold, (right, counted) in enumerate(zip(ranked.right, ranked.counted)):
        places, ignored = np.flatnonzero(right & counted), np.flatnonzero(~counted)
        if not len(places):
            continue
        hits = np.cumsum(drawn[places], axis=0)
        ranks = seen[places]
        if len(ignored):
            before = np.concatenate([np.zeros((1, draws.shape[1]), np.int64), np.cumsum(drawn[ignored], axis=0)])
            ranks = ranks - before[np.searchsorted(ignored, places)]
        precision = hits / (ranks + np.spacing(1))  # the same tiny term as in pycocotools
        precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        reached = np.searchsorted(RECALLS, (hits / np.maximum(objects, 1)).ravel(), side="right").reshape(hits.shape)
        values[threshold] = (precision * np.diff(reached, axis=0, prepend=0)).sum(0) / len(RECALLS)
    values[:, objects == 0] = np.nan
    return values


def interval(values: Floats) -> Interval:
    """Return the 2.5 and 97.5 percentiles of the values, without NaN.

    Example:
        >>> interval(np.linspace(0, 1, 1001))
        Interval(low=0.025, high=0.975)
    """
    measured = values[~np.isnan(values)]
    if not measured.size:
        return Interval(math.nan, math.nan)
    low, high = np.percentile(measured, [2.5, 97.5])
    return Interval(float(low), float(high))


def difference(a: float, b: float, *, resampled_a: Floats, resampled_b: Floats) -> Difference:
    """Compare two numbers by their values in the same resamples.

    The p-value is twice the smaller fraction of resamples in which the difference has the other sign, or none. One
    resample is added to both counts, so that it is never 0.

    Args:
        a: the number of the first detector.
        b: that of the second.
        resampled_a: float64 [R].
        resampled_b: float64 [R], from the same draws.

    Example:
        >>> a = np.array([0.3, 0.4, 0.5])
        >>> difference(0.4, 0.5, resampled_a=a, resampled_b=a + 0.1).p  # 1 of 4, on both sides
        0.5
    """
    values = resampled_b - resampled_a
    values = values[~np.isnan(values)]
    fewer, more = int((values <= 0).sum()), int((values >= 0).sum())
    p = min(1.0, 2 * (min(fewer, more) + 1) / (len(values) + 1))
    return Difference(a, b, *interval(values), p=p)


def _mean_of_rows(values: Floats) -> Floats:
    """Return the mean of each row without NaN; NaN for a row that has nothing else."""
    known = ~np.isnan(values)
    count = known.sum(1)
    means = np.full(len(values), np.nan)
    np.divide(np.where(known, values, 0).sum(1), count, out=means, where=count > 0)
    return means
