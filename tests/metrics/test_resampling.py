"""Intervals and comparisons: the resampled AP against pycocotools, and what they promise in simulation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from pycocotools.cocoeval import Params

from tests.metrics.simulated import simulate, whole_ap
from yolo_lite.metrics.resampling import (
    RECALLS,
    RankedClass,
    difference_interval,
    draw_halves,
    interval,
    resample,
)

_IOUS = np.arange(10) * 0.05 + 0.5


def _written_out(ranked: RankedClass, draw: Sequence[int]) -> list[float]:
    """Return the AP for each IoU threshold by writing each drawn copy out, and COCO's definition in loops."""
    objects = sum(count * int(number) for count, number in zip(draw, ranked.objects))
    values = []
    for right, counted in zip(ranked.right.tolist(), ranked.counted.tolist()):
        hits, points = 0, []
        seen = 0
        for image, is_right, counts in zip(ranked.images.tolist(), right, counted):
            for _ in range(draw[image] if counts else 0):
                seen, hits = seen + 1, hits + is_right
                points.append((hits / objects if objects else 0, hits / seen))
        best = [max((p for r, p in points if r >= recall), default=0.0) for recall in RECALLS]
        values.append(sum(best) / 101 if objects else math.nan)
    return values


def _random_class(generator: np.random.Generator, images: int) -> RankedClass:
    count = int(generator.integers(0, 40))
    objects = generator.integers(0, 4, images)
    quality = generator.random(count)
    right = (quality > _IOUS[:, None]) & (np.cumsum(quality > 0.5) <= objects.sum())
    return RankedClass(
        generator.integers(0, images, count),
        np.sort(generator.random(count))[::-1],
        right=right,
        counted=generator.random(right.shape) > 0.1,
        objects=objects,
    )


def test_recalls_are_those_of_pycocotools() -> None:
    assert np.array_equal(RECALLS, Params(iouType="bbox").recThrs)


@pytest.mark.parametrize("seed", range(5))
def test_resampled_precision_is_that_of_sets_that_are_written_out(seed: int) -> None:
    generator = np.random.default_rng(seed)
    images = 7
    classes = [_random_class(generator, images) for _ in range(4)]
    draws = generator.integers(0, 3, (images, 70))  # more than are done at once
    draws[:, 0] = 0
    made = resample(classes, draws)
    for number, ranked in enumerate(classes):
        for place in (0, 1, 69):
            expected = _written_out(ranked, draws[:, place].tolist())
            assert made.ap50[place, number] == pytest.approx(expected[0], abs=1e-12, nan_ok=True)
            assert made.ap[place, number] == pytest.approx(np.mean(expected), abs=1e-12, nan_ok=True)
    assert np.isnan(made.overall()["AP"][0])


def test_halves_are_halves_and_differ() -> None:
    draws = draw_halves(7, 50)
    assert set(draws.sum(0).tolist()) == {3}
    assert len({tuple(column) for column in draws.T.tolist()}) > 20
    assert np.array_equal(draws, draw_halves(7, 50))


def test_an_interval_of_a_mean_has_the_length_that_theory_gives() -> None:
    """The standard error of a mean is known, and a mean has no bias."""
    for images in (5, 100, 101):  # halves of an odd set are smaller than the other part
        values = np.random.default_rng(images).uniform(0.2, 0.8, images)
        halves = (values @ draw_halves(images, 4000)) / (images // 2)
        low, high = interval(float(values.mean()), halves, images=images)
        assert (high - low) / 2 == pytest.approx(1.96 * values.std(ddof=1) / math.sqrt(images), rel=0.04)
        assert (high + low) / 2 == pytest.approx(values.mean(), abs=0.003)


@pytest.mark.parametrize("images", [0, 1])
def test_too_few_images_have_no_interval(images: int) -> None:
    assert np.isnan(interval(0.5, np.full(10, 0.5), images=images)).all()


def test_a_difference_lies_between_minus_1_and_1() -> None:
    a, b = np.tile([0.2, 1.0], 20), np.tile([0.4, 0.0], 20)
    low, high = difference_interval(0.9, 0.1, halves_a=a, halves_b=b, images=6)
    assert low == -1
    assert low < high < 1
    assert np.isnan(difference_interval(0.9, 0.1, halves_a=a, halves_b=b, images=1)).all()


# Simulation


@pytest.mark.slow
@pytest.mark.parametrize(("images", "classes", "rate", "sets"), [(300, 1, 2.0, 1000), (300, 20, 0.1, 400)])
def test_intervals_hold_the_truth_95_times_in_100(images: int, classes: int, rate: float, sets: int) -> None:
    [population] = simulate(10**6, images=40_000, classes=classes, rate=rate, detectors=1)
    truth, draws = whole_ap(population, 40_000), draw_halves(images, 200)
    held = 0
    for seed in range(sets):
        [ranked] = simulate(seed, images=images, classes=classes, rate=rate, detectors=1)
        halves = resample(ranked, draws).overall()["AP"]
        low, high = interval(whole_ap(ranked, images), halves, images=images)
        held += low <= truth <= high
    assert 0.93 <= held / sets <= 0.97
