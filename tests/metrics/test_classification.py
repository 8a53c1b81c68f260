"""The report of a classifier, against scikit-learn's and cases counted by hand."""

from __future__ import annotations

import json

import numpy as np
import numpy.typing as npt
import pytest
import sklearn.metrics

from yolo_lite.metrics.classification import ClassScores, classification_report, confusion_matrix

NAMES = ("ant", "bee", "cat", "dog", "elk")


def drawn(seed: int, present: tuple[int, ...], called: tuple[int, ...], count: int = 60) -> tuple[npt.NDArray, ...]:
    """Draw labels from `present` and answers from `called`, about half of which are right where they can be."""
    generator = np.random.default_rng(seed)
    truth, guess = generator.choice(present, count), generator.choice(called, count)
    return truth, np.where((generator.random(count) < 0.5) & np.isin(truth, called), truth, guess)


def assert_same(found: ClassScores, wanted: dict[str, float]) -> None:
    """Compare with one entry of scikit-learn's report."""
    assert found.precision == pytest.approx(wanted["precision"], abs=1e-12)
    assert found.recall == pytest.approx(wanted["recall"], abs=1e-12)
    assert found.f1 == pytest.approx(wanted["f1-score"], abs=1e-12)
    assert found.support == wanted["support"]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    ("present", "called"),
    [
        pytest.param((0, 1, 2, 3, 4), (0, 1, 2, 3, 4), id="all"),
        pytest.param((0, 1, 2, 3, 4), (0, 1, 2, 4), id="one never called"),
        pytest.param((0, 1, 3, 4), (0, 1, 2, 3, 4), id="one never present"),
        pytest.param((1, 2, 3), (1, 2, 3), id="the first and last neither"),
        pytest.param((0, 1), (2, 3), id="nothing right"),
        pytest.param((4,), (4,), id="a single class"),
    ],
)
def test_the_report_is_scikit_learns(present: tuple[int, ...], called: tuple[int, ...], seed: int) -> None:
    truth, answers = drawn(seed, present, called)
    assert set(truth) == set(present)
    assert set(answers) == set(called)
    labels = list(range(5))
    wanted = sklearn.metrics.classification_report(
        truth, answers, labels=labels, target_names=NAMES, output_dict=True, zero_division=0
    )
    found = classification_report(truth, answers, class_names=NAMES)
    assert list(found.per_class) == list(NAMES)
    for name in NAMES:
        assert_same(found.per_class[name], wanted[name])
    assert_same(found.macro, wanted["macro avg"])
    assert_same(found.weighted, wanted["weighted avg"])
    assert found.accuracy == pytest.approx(wanted["accuracy"], abs=1e-12)
    assert np.array_equal(found.confusion, sklearn.metrics.confusion_matrix(truth, answers, labels=labels))


def test_the_confusion_matrix_agrees_with_a_loop() -> None:
    truth, called = drawn(3, (0, 1, 2), (0, 2, 3))
    wanted = [[0] * 5 for _ in range(5)]
    for row, column in zip(truth, called):
        wanted[row][column] += 1
    found = confusion_matrix(truth, called, classes=5)
    assert found.dtype == np.int64
    assert found.tolist() == wanted


def test_the_report_worked_by_hand() -> None:
    """Two cats and three dogs; both cats and one dog are called cat, one dog is called dog, one elk.

    Cat: 2 of 3 calls right, 2 of 2 found, F1 = 2 * 2/3 / (5/3) = 0.8. Dog: 1 of 1 and 1 of 3, F1 = 0.5. Elk: called
    once, never there: 0 and 0. Macro: (2/3 + 1 + 0) / 3, (1 + 1/3 + 0) / 3, 1.3 / 3; weighted by 2, 3 and 0 of 5.
    """
    found = classification_report([0, 0, 1, 1, 1], [0, 0, 0, 1, 2], class_names=["cat", "dog", "elk"])
    assert found.confusion.tolist() == [[2, 0, 0], [1, 1, 1], [0, 0, 0]]
    assert found.accuracy == pytest.approx(3 / 5)
    for scores, wanted in (
        (found.per_class["cat"], (2 / 3, 1, 0.8, 2)),
        (found.per_class["dog"], (1, 1 / 3, 0.5, 3)),
        (found.per_class["elk"], (0, 0, 0, 0)),
        (found.macro, (5 / 9, 4 / 9, 1.3 / 3, 5)),
        (found.weighted, ((4 / 3 + 3) / 5, (2 + 1) / 5, (1.6 + 1.5) / 5, 5)),
    ):
        assert (scores.precision, scores.recall, scores.f1, scores.support) == pytest.approx(wanted)


def test_one_image_is_enough() -> None:
    found = classification_report([1], [1], class_names=["cat", "dog"])
    assert found.accuracy == 1
    assert found.per_class == {"cat": ClassScores(0, 0, f1=0, support=0), "dog": ClassScores(1, 1, f1=1, support=1)}
    assert found.macro == ClassScores(0.5, 0.5, f1=0.5, support=1)
    assert found.weighted == ClassScores(1, 1, f1=1, support=1)


def test_the_recall_weighted_by_support_is_the_accuracy() -> None:
    found = classification_report(*drawn(4, (0, 1, 2, 3, 4), (1, 2, 3)), class_names=NAMES)
    assert found.weighted.recall == pytest.approx(found.accuracy)
    assert 0 < found.accuracy < 1


def test_labels_are_not_modified_and_may_be_lists_or_small_integers() -> None:
    truth, called = drawn(5, (0, 1, 2), (0, 1, 2))
    before = truth.copy(), called.copy()
    found = classification_report(truth, called, class_names=NAMES)
    assert np.array_equal(truth, before[0])
    assert np.array_equal(called, before[1])
    assert classification_report(truth.tolist(), called.tolist(), class_names=NAMES).to_json() == found.to_json()
    assert (
        classification_report(truth.astype(np.uint8), called.astype(np.int32), class_names=NAMES).to_json()
        == found.to_json()
    )


def test_the_plain_values_survive_json() -> None:
    found = classification_report(*drawn(6, (0, 1, 2), (0, 1, 4)), class_names=NAMES)
    values = json.loads(json.dumps(found.to_json()))
    assert values == found.to_json()
    assert set(values) == {"accuracy", "classes", "macro", "weighted", "confusion"}
    assert values["accuracy"] == found.accuracy
    assert values["confusion"] == found.confusion.tolist()
    assert {name: ClassScores(**scores) for name, scores in values["classes"].items()} == found.per_class
    assert (ClassScores(**values["macro"]), ClassScores(**values["weighted"])) == (found.macro, found.weighted)


@pytest.mark.parametrize(
    ("truth", "called"),
    [
        pytest.param([], [], id="no image"),
        pytest.param([0, 1], [0], id="different lengths"),
        pytest.param([[0], [1]], [[0], [1]], id="two dimensions"),
    ],
)
def test_labels_that_do_not_fit_are_refused(truth: npt.ArrayLike, called: npt.ArrayLike) -> None:
    with pytest.raises(ValueError, match=r"truth and called must be \[N\] with N at least 1, got \["):
        classification_report(truth, called, class_names=NAMES)
