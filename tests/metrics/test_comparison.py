"""Comparisons of two detectors: worked cases, and how often equally good ones seem to differ."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from tests.metrics.simulated import simulate, whole_ap
from yolo_lite.metrics.coco import CocoMetrics
from yolo_lite.metrics.comparison import compare, p_value
from yolo_lite.metrics.resampling import RankedClass
from yolo_lite.structures.verdicts import LEAST_RESAMPLES, SIGNIFICANT


def _metrics(classes: list[RankedClass], images: int) -> CocoMetrics:
    per_class = {f"class {label}": (whole_ap([ranked], images), 0.0, 1) for label, ranked in enumerate(classes)}
    ap = whole_ap(classes, images)
    return CocoMetrics({"AP": ap, "AP50": ap}, per_class, ranked=tuple(classes))


def _sure(images: int, right: list[bool]) -> RankedClass:
    """Return one detection in each image, and an object in each."""
    marks = np.array([right])
    return RankedClass(
        np.arange(images),
        np.full(images, 0.5),
        right=marks,
        counted=np.ones_like(marks),
        objects=np.ones(images, np.int64),
    )


def test_the_p_value_counts_all_swaps_of_a_worked_case() -> None:
    """A finds all four objects, B none: of 16 swaps only the two without mixture differ as much."""
    images = 4
    a, b = _metrics([_sure(images, [True] * 4)], images), _metrics([_sure(images, [False] * 4)], images)
    assert (a.numbers["AP"], b.numbers["AP"]) == (1.0, 0.0)
    result = compare(a, b, images=images, resamples=4000)
    assert result.overall[0].p == pytest.approx(2 / 16, abs=0.02)
    assert result.classes[0].name == "class 0"
    assert result.classes[0].p == result.overall[0].p
    assert result.classes[0][1:3] == (1.0, 0.0)
    assert result.overall[0].low == pytest.approx(-1)
    assert result.overall[0].high == pytest.approx(-1)


def test_a_detector_against_itself() -> None:
    [ranked] = simulate(0, images=40, classes=3, rate=0.5, detectors=1)
    metrics = _metrics(ranked, 40)
    for difference in (*compare(metrics, metrics, images=40, resamples=50).overall,):
        assert (difference.low, difference.high, difference.p) == (0, 0, 1)


def test_the_sign_turns_when_the_detectors_change_places() -> None:
    first, second = (_metrics(ranked, 60) for ranked in simulate(3, images=60, classes=2, rate=1.0, detectors=2))
    forth = compare(first, second, images=60, resamples=100).overall[0]
    back = compare(second, first, images=60, resamples=100).overall[0]
    assert forth.low == pytest.approx(-back.high)
    assert forth.high == pytest.approx(-back.low)
    assert forth.low <= forth.high
    assert abs(forth.p - back.p) < 0.02


def test_a_class_without_objects_has_no_difference() -> None:
    [ranked] = simulate(0, images=20, classes=1, rate=1.0, detectors=1)
    empty = ranked[0]._replace(objects=np.zeros(20, np.int64), right=np.zeros_like(ranked[0].right))
    metrics = _metrics([ranked[0], empty], 20)
    assert math.isnan(metrics.per_class["class 1"][0])
    assert np.isnan(compare(metrics, metrics, images=20, resamples=20).classes[1][1:]).all()


def test_a_class_whose_objects_lie_in_one_image_has_no_interval() -> None:
    """B finds the only object and A does not: other images could show anything."""
    a, b = _sure(6, [False] * 6), _sure(6, [True] + [False] * 5)
    a, b = (ranked._replace(objects=np.eye(6, dtype=np.int64)[0]) for ranked in (a, b))
    difference = compare(_metrics([a], 6), _metrics([b], 6), images=6, resamples=50).classes[0]
    assert difference.b > difference.a
    assert np.isnan([difference.low, difference.high]).all()
    assert difference.p == 1


def test_equal_scores_are_ranked_by_image_in_swaps_too() -> None:
    """The detectors differ in the first image alone: every swap differs as much, so the p-value is 1."""
    images = 6
    a, b = _sure(images, [False] * images), _sure(images, [True] + [False] * (images - 1))
    assert {
        compare(_metrics([x], images), _metrics([y], images), images=images, resamples=60).overall[0].p
        for x, y in ((a, b), (b, a))
    } == {1}


def test_an_unknown_value_has_no_p_value() -> None:
    assert math.isnan(p_value(math.nan, np.zeros(3)))
    assert p_value(0.1, np.array([math.nan, 0.0])) == 0.5


@pytest.mark.slow
@pytest.mark.parametrize(("images", "classes", "rate"), [(300, 1, 2.0), (30, 2, 1.0)])
def test_equally_good_detectors_rarely_differ_significantly(images: int, classes: int, rate: float) -> None:
    sets, significant = 400, 0
    for seed in range(sets):
        a, b = (
            dataclasses.replace(_metrics(ranked, images), per_class={})
            for ranked in simulate(seed, images=images, classes=classes, rate=rate, detectors=2)
        )
        significant += compare(a, b, images=images, resamples=200).overall[0].p <= 0.05
    assert significant / sets <= 0.07


def test_the_fewest_resamples_rarely_call_a_doubtful_difference_real() -> None:
    """Count hits among swaps, each with the chance of the true p: 0.1 is doubtful, 0.02 is clear."""

    def real(resamples: int, chance: float) -> float:
        hits = [k for k in range(resamples + 1) if (1 + k) / (1 + resamples) <= SIGNIFICANT]
        return sum(math.comb(resamples, k) * chance**k * (1 - chance) ** (resamples - k) for k in hits)

    assert real(20, 0.1) > 0.1
    assert real(LEAST_RESAMPLES, 0.1) < 0.05
    assert real(20, 0.02) < 0.7
    assert real(LEAST_RESAMPLES, 0.02) > 0.9
