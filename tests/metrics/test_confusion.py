"""A detector's confusion matrix, against loops and cases counted by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.metrics.random_sets import box_iou, perfect_rows, random_set, record, row, set_of
from tests.metrics.slow_matching import slow_match
from yolo_lite.metrics.columns import to_columns
from yolo_lite.metrics.confusion import detector_confusion
from yolo_lite.metrics.matching import match_set
from yolo_lite.structures.datasets import DetectionSet

BOX, FAR = [0.0, 0, 10, 10], [50.0, 50, 60, 60]
MISS = 4  # the background: set_of has four classes


def confusion_of(
    data: DetectionSet, rows: list[dict[str, Any]], *, score_threshold: float = 0.0
) -> npt.NDArray[np.int64]:
    return detector_confusion(match_set(data, to_columns(data, rows)), score_threshold=score_threshold)


def cells(matrix: npt.NDArray[np.int64]) -> dict[tuple[int, int], int]:
    """Return the cells that are not 0."""
    return {(int(i), int(j)): int(matrix[i, j]) for i, j in zip(*np.nonzero(matrix))}


def slow_confusion(data: DetectionSet, rows: list[dict[str, Any]], score_threshold: float) -> list[list[int]]:
    """Count with loops; here the rows are dropped before they are matched."""
    guesses, things = slow_match(data, [row for row in rows if row["score"] > score_threshold])
    counts = [[0] * 5 for _ in range(5)]
    taken = {thing for thing in things if thing.taken}
    for thing in taken:
        counts[thing.label][thing.label] += 1
    for guess in sorted(guesses, key=lambda guess: guess.rank):
        if guess.match or guess.ignored:
            continue
        best, chosen = 0.5, None
        for thing in guess.things:
            if not thing.crowd and thing not in taken and box_iou(guess.box, thing.box) >= best:
                best, chosen = box_iou(guess.box, thing.box), thing
        if chosen:
            taken.add(chosen)
        counts[chosen.label if chosen else MISS][guess.label] += 1
    for thing in things:
        if thing not in taken:
            counts[thing.label][MISS] += 1
    return counts


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(8))
def test_the_matrix_is_that_of_loops(seed: int, threshold: float) -> None:
    data, rows = random_set(seed, images=12, confused=0.8)
    matrix = confusion_of(data, rows, score_threshold=threshold)
    assert matrix.dtype == np.int64
    assert matrix.tolist() == slow_confusion(data, rows, threshold)


def test_the_random_sets_hold_every_kind_of_cell() -> None:
    total = sum(confusion_of(*random_set(seed, images=12, confused=0.8), score_threshold=0.3) for seed in range(8))
    assert total[:3, :3].trace() > 20
    assert total[:3, :3].sum() - total[:3, :3].trace() > 20
    assert total[:3, MISS].min() > 10
    assert total[MISS, :3].min() > 10


@pytest.mark.parametrize("seed", range(4))
def test_rows_add_up_to_objects_and_columns_to_detections(seed: int) -> None:
    data, rows = random_set(seed)
    matches = match_set(data, to_columns(data, rows))
    matrix = detector_confusion(matches, score_threshold=0.4)
    assert matrix[:-1].sum(1).tolist() == np.bincount(data.records.asked_labels(), minlength=4).tolist()
    kept = matches.columns.labels[~matches.ignored & (matches.columns.scores > 0.4)]
    assert matrix[:, :-1].sum(0).tolist() == np.bincount(kept, minlength=4).tolist()
    assert matrix[-1, -1] == 0


def test_the_ground_truth_is_on_the_diagonal() -> None:
    data, _ = random_set(2, objects=14)
    matrix = confusion_of(data, perfect_rows(data))
    assert matrix.trace() == matrix.sum() == len(data.records.asked_labels())


def test_cells_counted_by_hand() -> None:
    """An ant is found, a bee is called cat, a cat is missed, and a bee is seen where nothing is."""
    data = set_of(record(1, [BOX, FAR, [20, 20, 40, 40]], [0, 1, 2]))
    rows = [row(BOX), row(FAR, label=2), row([80, 80, 90, 90], label=1)]
    assert cells(confusion_of(data, rows)) == {(0, 0): 1, (1, 2): 1, (2, MISS): 1, (MISS, 1): 1}


def test_a_correct_detection_comes_before_a_wrong_one_with_a_higher_score() -> None:
    data = set_of(record(1, [BOX], [0]))
    assert cells(confusion_of(data, [row(BOX, 0.9, label=1), row(BOX, 0.3)])) == {(0, 0): 1, (MISS, 1): 1}
    assert cells(confusion_of(data, [row(BOX, 0.9, label=1), row(BOX, 0.3)], score_threshold=0.3)) == {(0, 1): 1}


def test_the_higher_score_chooses_first_among_wrong_classes() -> None:
    data = set_of(record(1, [BOX, [0, 0, 10, 9]], [0, 0]))
    rows = [row(BOX, 0.8, label=1), row(BOX, 0.9, label=2), row(BOX, 0.7, label=3)]
    assert cells(confusion_of(data, rows)) == {(0, 2): 1, (0, 1): 1, (MISS, 3): 1}
    assert cells(confusion_of(data, rows[:2], score_threshold=0.8)) == {(0, 2): 1, (0, MISS): 1}


def test_a_duplicate_and_a_badly_placed_box_are_background() -> None:
    data = set_of(record(1, [BOX], [0]))
    assert cells(confusion_of(data, [row(BOX), row(BOX, 0.5)])) == {(0, 0): 1, (MISS, 0): 1}
    assert cells(confusion_of(data, [row([0, 0, 10, 4])])) == {(0, MISS): 1, (MISS, 0): 1}


def test_crowds_and_unlabelled_classes_do_not_count() -> None:
    data = set_of(record(1, [BOX, FAR], [0, 0], crowd=[0, 1]), record(2, [BOX, FAR], [0, 1], unlabelled=(0,)))
    rows = [row(BOX), row(FAR), row(FAR, label=1), row(BOX, image_id=2), row(FAR, image_id=2, label=2)]
    assert cells(confusion_of(data, rows)) == {(0, 0): 1, (MISS, 1): 1, (1, 2): 1}


def test_nothing_to_count() -> None:
    empty = set_of(record(1, [], []))
    assert cells(confusion_of(empty, [])) == {}
    assert cells(confusion_of(empty, [row(BOX)])) == {(MISS, 0): 1}
    assert cells(confusion_of(set_of(record(1, [BOX], [2])), [])) == {(2, MISS): 1}
