"""Curves of precision, recall and F1, against pycocotools and loops."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from tests.metrics.random_sets import NAMES, by_pycocotools, random_set, record, row, set_of
from tests.metrics.slow_matching import slow_match
from yolo_lite.metrics.coco import evaluate_coco
from yolo_lite.metrics.columns import to_columns
from yolo_lite.metrics.curves import (
    RECALLS,
    THRESHOLDS,
    Curves,
    best_threshold,
    best_thresholds,
    measure_curves,
    precision_at_recalls,
    score_curves,
)
from yolo_lite.metrics.matching import SetMatches, match_set
from yolo_lite.structures.datasets import DetectionSet

BOX, FAR = [0.0, 0, 10, 10], [50.0, 50, 60, 60]


def matched(data: DetectionSet, rows: list[dict[str, Any]]) -> SetMatches:
    return match_set(data, to_columns(data, rows))


@pytest.mark.parametrize("seed", range(8))
def test_precision_is_that_of_pycocotools(seed: int) -> None:
    data, rows = random_set(seed, images=16)
    evaluation = by_pycocotools(data, rows)
    wanted = evaluation.eval["precision"][0, :, :, 0, -1]  # [recalls, categories by id]
    made = measure_curves(matched(data, rows))
    assert made.precision.shape == (4, 101)
    assert RECALLS.tolist() == evaluation.params.recThrs.tolist()
    for label, category_id in enumerate(data.category_ids):
        column = wanted[:, evaluation.params.catIds.index(category_id)]
        assert made.precision[label] == pytest.approx(np.where(column < 0, np.nan, column), abs=1e-9, nan_ok=True)
    assert made.mean_precision == pytest.approx(wanted[:, (wanted > -1).all(0)].mean(1), abs=1e-9)
    assert np.isnan(made.precision[3]).all()  # the class without objects
    assert 0.1 < made.mean_precision.mean() < 0.9


def test_precision_worked_by_hand() -> None:
    """Right, wrong, right of three objects: precision 1 to a recall of 1/3, 2/3 to 2/3, then 0."""
    labels, right = np.zeros(3, np.int64), np.array([True, False, True])
    curve = precision_at_recalls(labels, right, objects=np.array([3]))[0]
    assert curve.tolist() == pytest.approx([1] * 34 + [2 / 3] * 33 + [0] * 34)


@pytest.mark.parametrize("seed", range(6))
def test_score_curves_are_those_of_loops(seed: int) -> None:
    data, rows = random_set(seed)
    guesses, things = slow_match(data, rows)
    judged = [guess for guess in guesses if not guess.ignored]
    made = measure_curves(matched(data, rows)).scores
    for number, threshold in enumerate(THRESHOLDS.tolist()):
        kept = [guess for guess in judged if guess.score > threshold]
        hits = sum(guess.match is not None for guess in kept)
        assert made.recall[number] == pytest.approx(hits / len(things))
        assert made.precision[number] == pytest.approx(hits / len(kept) if kept else np.nan, nan_ok=True)
        assert made.f1[number] == pytest.approx(2 * hits / (len(kept) + len(things)))
    assert np.isnan(made.precision[-5:]).all()  # no score is above 0.9


@pytest.mark.parametrize("seed", range(8))
def test_the_best_threshold_is_that_of_the_evaluation(seed: int) -> None:
    data, rows = random_set(seed)
    assert best_thresholds(matched(data, rows))[0] == evaluate_coco(data, rows).best


@pytest.mark.parametrize("seed", range(4))
def test_the_best_thresholds_of_classes_are_those_of_each_class_alone(seed: int) -> None:
    data, rows = random_set(seed)
    _, best = best_thresholds(matched(data, rows))
    for label, category_id in enumerate(data.category_ids):
        records = [
            record(
                image.image_id,
                image.boxes[image.labels == label],
                [label] * int((image.labels == label).sum()),
                crowd=image.crowd[image.labels == label].tolist(),
                unlabelled=image.unlabelled,
            )
            for image in data.records
        ]
        own = [row for row in rows if row["category_id"] == category_id]
        assert best[label] == evaluate_coco(set_of(*records), own).best
    assert best[3] is None
    assert sum(point is not None for point in best) >= 2


def test_ties_go_to_the_middle_and_equal_scores_stay_together() -> None:
    best = best_threshold(np.array([0.8, 0.6, 0.34]), np.array([True, True, False]), objects=2)
    assert best == (0.47, 1, 1, 1)  # 0.34 to 0.59 are as good
    equal = best_threshold(np.array([0.7, 0.7]), np.array([True, False]), objects=1)
    assert equal is not None
    assert equal[1:] == (pytest.approx(2 / 3), 0.5, 1)


@pytest.mark.parametrize("score", [0.5, 0.005])
def test_the_best_threshold_where_little_is_right(score: float) -> None:
    data = set_of(record(1, [BOX], [0]))
    for rows in ([], [row(FAR, score)], [row(BOX, score)], [row(BOX, score), row(FAR)]):
        best = evaluate_coco(data, rows).best
        assert best_thresholds(matched(data, rows)) == (best, [best, None, None, None])


@pytest.mark.parametrize("score", [0.0, 0.005, 0.01])
def test_scores_below_all_thresholds_have_no_best(score: float) -> None:
    """All thresholds are equally bad: the middle of the thresholds, 0.50, would report nothing either."""
    assert best_threshold(np.full(3, score), np.ones(3, bool), objects=3) is None


def test_crowds_and_unlabelled_classes_do_not_count() -> None:
    data = set_of(record(1, [BOX, FAR], [0, 0], crowd=[0, 1]), record(2, [BOX, FAR], [0, 1], unlabelled=(0,)))
    rows = [row(BOX, 0.3), row(FAR), row(BOX, image_id=2), row(FAR, image_id=2, label=1)]
    curves = measure_curves(matched(data, rows))
    assert curves.precision[:2].tolist() == [[1] * 101] * 2
    assert curves.scores.recall[[10, 50]].tolist() == [1, 0.5]


@pytest.mark.parametrize("rows", [[], [row(BOX)]], ids=["no detections", "a detection"])
def test_without_objects_nothing_is_known(rows: list[dict[str, Any]]) -> None:
    matches = matched(set_of(record(1, [], [])), rows)
    curves = measure_curves(matches)
    assert np.isnan(curves.precision).all()
    assert np.isnan(curves.mean_precision).all()
    assert np.isnan(curves.scores.recall).all()
    assert best_thresholds(matches) == (None, [None] * 4)
    assert curves.to_json(NAMES)["precision_recall"] == []


def test_without_detections_all_is_0() -> None:
    curves = measure_curves(matched(set_of(record(1, [BOX], [1])), []))
    assert curves.mean_precision.tolist() == [0] * 101
    assert curves.scores.f1.tolist() == curves.scores.recall.tolist() == [0] * 99
    assert np.isnan(curves.scores.precision).all()


def test_plain_values_name_the_classes_with_objects_and_survive_json() -> None:
    curves: Curves = measure_curves(matched(*random_set(0)))
    values = curves.to_json(NAMES)
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert set(values) == {"iou_threshold", "precision_recall", "scores"}
    assert [curve["name"] for curve in values["precision_recall"]] == ["all classes", "ant", "bee", "cat"]
    assert values["precision_recall"][1]["precision"] == curves.precision[0].tolist()
    assert values["precision_recall"][0]["recall"][:3] == [0, 0.01, 0.02]
    assert values["scores"]["score_threshold"] == [number / 100 for number in range(1, 100)]
    assert values["scores"]["precision"][-1] is None
    assert values["scores"]["f1"] == curves.scores.f1.tolist()


def test_score_curves_do_not_modify_or_need_sorted_scores() -> None:
    scores, right = np.array([0.2, 0.9, 0.5]), np.array([False, True, True])
    curves = score_curves(scores, right, objects=2)
    assert scores.tolist() == [0.2, 0.9, 0.5]
    assert curves.precision[[5, 30, 60]].tolist() == pytest.approx([2 / 3, 1, 1])
    assert curves.recall[[5, 30, 60]].tolist() == [1, 1, 0.5]
