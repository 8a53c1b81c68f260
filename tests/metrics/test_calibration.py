"""Calibration, against loops and cases worked by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tests.metrics.random_sets import random_set, record, row, set_of
from tests.metrics.slow_matching import slow_match
from yolo_lite.metrics.calibration import measure_calibration, measure_detection_calibration
from yolo_lite.metrics.columns import to_columns
from yolo_lite.metrics.matching import match_set


def test_bins_are_those_of_a_loop() -> None:
    generator = np.random.default_rng(0)
    scores = generator.integers(0, 101, 300) / 100  # many lie on an edge
    right = generator.random(300) < scores**2
    made = measure_calibration(scores, right)
    error = 0.0
    for number, part in enumerate(made.bins):
        low, high = number / 10, (number + 1) / 10
        inside = [i for i in range(300) if low <= scores[i] < high or (number == 9 and scores[i] == 1)]
        assert (part.low, part.high, part.count) == (low, high, len(inside))
        mean, precision = sum(scores[inside]) / len(inside), sum(right[inside]) / len(inside)
        assert part.score == pytest.approx(mean)
        assert part.precision == pytest.approx(precision)
        error += abs(precision - mean) * len(inside) / 300
    assert made.error == pytest.approx(error)
    assert made.error > 0.05
    assert made.count == sum(part.count for part in made.bins) == 300


def test_the_error_worked_by_hand() -> None:
    """0.1 off for two of three predictions, 0.4 off for the third: (2 * 0.1 + 0.4) / 3 = 0.2."""
    made = measure_calibration([0.35, 0.45, 0.6], [False, True, True], bins=2)
    assert [(part.count, part.precision) for part in made.bins] == [(2, 0.5), (1, 1.0)]
    assert made.error == pytest.approx(0.2)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibrated_scores_have_a_small_error_and_confident_ones_a_large_one(bins: int) -> None:
    generator = np.random.default_rng(1)
    scores = generator.random(20000)
    right = generator.random(20000) < scores
    assert measure_calibration(scores, right, bins=bins).error < 0.02
    assert measure_calibration(scores, np.zeros(20000, bool), bins=bins).error == pytest.approx(scores.mean())


def test_scores_outside_0_to_1_are_in_the_outer_bins() -> None:
    made = measure_calibration([-3.0, 1.0, 7.0], [True, True, True], bins=2)
    assert [part.count for part in made.bins] == [1, 2]


def test_without_predictions_nothing_is_known() -> None:
    made = measure_calibration([], [])
    assert math.isnan(made.error)
    assert made.count == 0
    values = made.to_json()
    assert values["error"] is None
    assert values["bins"][9] == {"low": 0.9, "high": 1.0, "count": 0, "score": None, "precision": None}


def test_plain_values_survive_json() -> None:
    values = measure_calibration([0.2, 0.9], [True, True]).to_json()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert set(values) == {"error", "count", "bins"}
    assert values["bins"][2] == {"low": 0.2, "high": 0.3, "count": 1, "score": 0.2, "precision": 1.0}


def test_scores_and_answers_must_fit() -> None:
    with pytest.raises(ValueError, match=r"scores and right must be \[N\], got \[2\] and \[1\]"):
        measure_calibration([0.1, 0.2], [True])


# Detections


@pytest.mark.parametrize("lowest", [0.05, 0.3])
@pytest.mark.parametrize("seed", range(3))
def test_detections_are_judged_as_they_are_matched(seed: int, lowest: float) -> None:
    data, rows = random_set(seed)
    judged = [guess for guess in slow_match(data, rows)[0] if not guess.ignored and guess.score > lowest]
    made = measure_detection_calibration(match_set(data, to_columns(data, rows)), lowest_score=lowest)
    wanted = measure_calibration([guess.score for guess in judged], [guess.match is not None for guess in judged])
    assert made.error == pytest.approx(wanted.error)
    assert [part.count for part in made.bins] == [part.count for part in wanted.bins]
    assert [part.precision for part in made.bins] == pytest.approx(
        [part.precision for part in wanted.bins], nan_ok=True
    )


def test_detections_in_crowds_do_not_count() -> None:
    data = set_of(record(1, [[0, 0, 10, 10], [50, 50, 90, 90]], [0, 0], crowd=[0, 1]))
    rows = [row([0, 0, 10, 10], 0.75), row([60, 60, 70, 70], 0.95), row([20, 20, 30, 30], 0.05)]
    made = measure_detection_calibration(match_set(data, to_columns(data, rows)))
    assert (made.count, made.error) == (1, 0.25)
    more = measure_detection_calibration(match_set(data, to_columns(data, rows)), lowest_score=0.04)
    assert (more.count, more.error) == (2, pytest.approx((0.25 + 0.05) / 2))
