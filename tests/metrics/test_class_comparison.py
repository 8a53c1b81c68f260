"""Comparison of classifiers: against drawing single images, and how often chance looks like a difference."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from yolo_lite.metrics.class_comparison import compare_calls, percentile_interval, resample_classes, swap_classes
from yolo_lite.metrics.classification import classification_report

Labels = npt.NDArray[np.int64]
NAMES = ("cat", "dog", "owl")


def guesses(truth: Labels, accuracy: float, generator: np.random.Generator, classes: int = 3) -> Labels:
    """Return predictions of which about this fraction is right."""
    right = generator.random(len(truth)) < accuracy
    return np.where(right, truth, generator.integers(0, classes, len(truth)))


@pytest.fixture
def labels() -> tuple[Labels, Labels, Labels]:
    generator = np.random.default_rng(4)
    truth = generator.choice(3, 300, p=[0.6, 0.3, 0.1])
    return truth, guesses(truth, 0.6, generator), guesses(truth, 0.75, generator)


def test_resamples_vary_as_if_images_were_drawn_one_by_one(labels: tuple[Labels, Labels, Labels]) -> None:
    """An oracle that draws images and asks scikit-learn; both are random, so moments are compared."""
    metrics = pytest.importorskip("sklearn.metrics")
    truth, a, b = labels
    generator, drawn = np.random.default_rng(1), []
    for _ in range(200):
        chosen = generator.integers(0, len(truth), len(truth))
        scores = [metrics.f1_score(truth[chosen], called[chosen], average=None) for called in (a, b)]
        accuracy = [float((truth[chosen] == called[chosen]).mean()) for called in (a, b)]
        drawn.append([*accuracy, *(score.mean() for score in scores), *np.concatenate(scores)])
    expected = np.array(drawn)
    sides = resample_classes(truth, a, b, classes=3, resamples=4000)
    columns = [
        *(side.accuracy for side in sides),
        *(side.macro_f1 for side in sides),
        *np.hstack([s.f1 for s in sides]).T,
    ]
    got = np.stack(columns, axis=1)
    assert got.mean(0) == pytest.approx(expected.mean(0), abs=0.01)
    assert got.std(0) == pytest.approx(expected.std(0), rel=0.2)
    pairs = np.corrcoef(got[:, 0], got[:, 1])[0, 1], np.corrcoef(expected[:, 0], expected[:, 1])[0, 1]
    assert pairs[0] == pytest.approx(pairs[1], abs=0.2)  # both classifiers see the same images


def test_swaps_keep_the_sum_and_center_on_no_difference(labels: tuple[Labels, Labels, Labels]) -> None:
    truth, a, b = labels
    first, second = swap_classes(a, b, truth=truth, classes=3, resamples=2000)
    total = (a == truth).mean() + (b == truth).mean()
    assert first.accuracy + second.accuracy == pytest.approx(np.full(2000, total))
    assert (second.accuracy - first.accuracy).mean() == pytest.approx(0, abs=0.005)
    different = int(((a == truth) != (b == truth)).sum())  # each of these goes to either side like a coin
    assert (second.accuracy - first.accuracy).std() == pytest.approx(np.sqrt(different) / len(truth), rel=0.1)


def test_differences_have_the_values_of_the_reports(labels: tuple[Labels, Labels, Labels]) -> None:
    truth, a, b = labels
    result = compare_calls(a, b, truth=truth, class_names=NAMES)
    reports = [classification_report(truth, called, class_names=NAMES) for called in (a, b)]
    numbers = [(each.accuracy, each.macro.f1, *(each.per_class[name].f1 for name in NAMES)) for each in reports]
    rows = (*result.overall, *result.classes)
    assert [row.name for row in rows] == ["accuracy", "macro F1", *NAMES]
    assert [(row.a, row.b) for row in rows] == list(zip(*numbers))
    assert all(row.low < row.b - row.a < row.high for row in rows)


def test_the_p_value_of_accuracy_is_that_of_a_sign_test(labels: tuple[Labels, Labels, Labels]) -> None:
    """Only images that a single classifier gets right count (McNemar 1947); coins give the exact value."""
    truth, a, b = labels
    only_a, only_b = int(((a == truth) & (b != truth)).sum()), int(((b == truth) & (a != truth)).sum())
    n, distance = only_a + only_b, abs(only_a - only_b)
    exact = sum(math.comb(n, k) for k in range(n + 1) if abs(2 * k - n) >= distance) / 2**n
    assert 0.05 < exact < 0.5
    p = compare_calls(a, b, truth=truth, class_names=NAMES, resamples=4000).overall[0].p
    assert p == pytest.approx(exact, abs=0.03)


def test_a_classifier_never_differs_from_itself(labels: tuple[Labels, Labels, Labels]) -> None:
    truth, a, _ = labels
    for row in (*(result := compare_calls(a, a, truth=truth, class_names=NAMES)).overall, *result.classes):
        assert (row.low, row.high, row.p) == (0, 0, 1)


def test_equally_good_classifiers_rarely_look_different() -> None:
    """In 200 pairs, 5 % may have a p-value below 0.05, plus three standard errors; intervals miss 0 as rarely."""
    generator = np.random.default_rng(7)
    significant, missed = 0, 0
    for _ in range(200):
        truth = generator.integers(0, 3, 150)
        a, b = (guesses(truth, 0.7, generator) for _ in range(2))
        accuracy = compare_calls(a, b, truth=truth, class_names=NAMES, resamples=200).overall[0]
        significant += accuracy.p < 0.05
        missed += not accuracy.low <= 0 <= accuracy.high
    assert 0 < significant <= 19
    assert 0 < missed <= 22


def test_classes_without_images_count_as_in_the_report() -> None:
    truth, called = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 1])
    report = classification_report(truth, called, class_names=NAMES)
    (samples,) = resample_classes(truth, called, classes=3)
    assert np.isnan(samples.f1[:, 2]).all()  # owl: neither true nor called
    low, high = percentile_interval(samples.macro_f1)
    assert low <= report.macro.f1 <= high <= 2 / 3  # owl counts as 0
    owl = compare_calls(called, called, truth=truth, class_names=NAMES).classes[2]
    assert (owl.a, owl.b) == (0, 0)
    assert np.isnan([owl.low, owl.high]).all()


def test_a_class_without_images_counts_as_0_in_every_swap() -> None:
    """Only B calls an owl, once, and no image shows one; the macro F1 is then the mean of three classes on both sides."""
    truth, a = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1])
    b = np.array([2, 0, 1, 1])
    first, second = swap_classes(a, b, truth=truth, classes=3, resamples=50)
    macro = [classification_report(truth, called, class_names=NAMES).macro.f1 for called in (a, b)]
    assert np.unique(np.round(first.macro_f1, 9)) == pytest.approx(sorted(macro))
    assert first.macro_f1 + second.macro_f1 == pytest.approx(np.full(50, sum(macro)))


def test_many_combinations_are_drawn_in_steps(
    labels: tuple[Labels, Labels, Labels], monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, a, b = labels
    monkeypatch.setattr("yolo_lite.metrics.class_comparison._AT_ONCE", 100)
    assert resample_classes(truth, a, b, classes=3, resamples=57)[1].f1.shape == (57, 3)
    assert swap_classes(a, b, truth=truth, classes=3, resamples=57)[1].f1.shape == (57, 3)


@pytest.mark.parametrize("columns", [([], []), ([0, 1], [0])])
def test_bad_labels_are_refused(columns: tuple[list[int], list[int]]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        resample_classes(*columns, classes=2)
