"""The comparisons of the parity gate, against every result that greedy NMS could give."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest

from yolo_lite.exporting.parity import Suppression, check_suppression, compare_detections, compare_points
from yolo_lite.structures.results import Detections

Row = tuple[float, float, float, float, float, int]


def detections(*rows: Row) -> Detections:
    values = np.array(sorted(rows, key=lambda row: -row[4]), np.float32).reshape(-1, 6)
    return Detections(values[:, :4], values[:, 4], labels=values[:, 5].astype(np.int64), class_names=("cat", "dog"))


CAT: Row = (10, 10, 50, 50, 0.9, 0)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        pytest.param([CAT], None, id="the same"),
        pytest.param([(10.005, 10, 50, 50, 0.900005, 0)], None, id="rounding"),
        pytest.param([(10.05, 10, 50, 50, 0.9, 0)], "lacks cat 0.9000", id="another box"),
        pytest.param([(10, 10, 50, 50, 0.9001, 0)], "lacks cat 0.9000", id="another score"),
        pytest.param([(10, 10, 50, 50, 0.9, 1)], "lacks cat 0.9000", id="another class"),
        pytest.param([CAT, (80, 80, 90, 90, 0.5, 1)], "adds dog 0.5000", id="one more"),
        pytest.param([CAT, CAT], "adds cat 0.9000", id="the same twice"),
        pytest.param([], "lacks cat 0.9000", id="nothing"),
    ],
)
def test_comparison_sees_every_kind_of_difference(found: list[Row], message: str | None) -> None:
    difference = compare_detections(detections(CAT), detections(*found))
    assert difference is None if message is None else message in str(difference)


def iou(a: Row, b: Row) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


def greedy(rows: list[Row], asked: Suppression) -> frozenset[int]:
    """Return the positions that greedy NMS keeps if equal scores are taken in the order of the rows: a plain loop."""
    kept: list[int] = []
    for i in sorted(range(len(rows)), key=lambda i: -rows[i][4]):
        beaten = any(rows[i][5] == rows[j][5] and iou(rows[i], rows[j]) > asked.iou_threshold for j in kept)
        if rows[i][4] > asked.score_threshold and not beaten and len(kept) < asked.max_detections:
            kept.append(i)
    return frozenset(kept)


@pytest.mark.parametrize("most", [300, 3])
@pytest.mark.parametrize("seed", [0, 1, 3, 4, 5, 6])
def test_what_is_accepted_is_what_some_order_of_equal_scores_gives(seed: int, most: int) -> None:
    """Try every subset of six boxes with two different scores against the results of all 720 orders."""
    generator = np.random.default_rng(seed)
    asked = Suppression(0.3, 0.2, max_detections=most, candidates=2000)
    rows: list[Row] = []
    for _ in range(6):
        x, y = generator.integers(0, 12, 2).tolist()
        rows.append((x, y, x + 16, y + 16, float(generator.choice([0.5, 0.75])), int(generator.random() < 0.2)))
    right = set()
    for order in permutations(range(6)):
        right.add(frozenset(order[place] for place in greedy([rows[i] for i in order], asked)))
    assert len(right) > 1  # the order matters
    candidates = detections(*rows)
    for size in range(7):
        for subset in combinations(range(6), size):
            found = detections(*(rows[i] for i in subset))
            assert (check_suppression(candidates, found, asked=asked) is None) == (frozenset(subset) in right)


def test_boxes_that_are_no_candidates_are_never_accepted() -> None:
    asked = Suppression(0.5, 0.1, max_detections=300, candidates=2000)
    moved = (10.5, 10, 50.5, 50, 0.9, 0)
    assert "adds cat 0.9000 at 10.5" in str(check_suppression(detections(CAT), detections(moved), asked=asked))
    assert "adds" in str(check_suppression(detections(CAT), detections((10, 10, 50, 50, 0.8, 0)), asked=asked))
    assert "lacks cat" in str(check_suppression(detections(CAT), detections(), asked=asked))


def test_rounding_decides_at_the_thresholds() -> None:
    asked = Suppression(0.5, 0.1, max_detections=300, candidates=2000)
    half = (10, 10, 50, 30, 0.5, 0)  # IoU 0.5 with the cat
    weak = (70, 10, 90, 30, 0.100001, 0)
    candidates = detections(CAT, half, weak)
    for found in ([CAT], [CAT, half], [CAT, weak], [CAT, half, weak]):
        assert check_suppression(candidates, detections(*found), asked=asked) is None
    smaller = (10, 10, 50, 26, 0.5, 0)  # IoU 0.4
    assert "lacks cat 0.5000" in str(check_suppression(detections(CAT, smaller), detections(CAT), asked=asked))


def test_candidates_beyond_the_limit_may_be_missing() -> None:
    far = [(20.0 * i, 0.0, 20.0 * i + 10, 10.0, 0.9 - 0.1 * i, 0) for i in range(4)]
    for limit, accepted in ((2, True), (3, False), (4, False)):
        asked = Suppression(0.5, 0.1, max_detections=300, candidates=limit)
        assert (check_suppression(detections(*far), detections(*far[:2]), asked=asked) is None) == accepted


def test_points_are_compared_by_box_and_by_score() -> None:
    boxes, scores = np.zeros((5, 4)), np.zeros((5, 2))
    moved, other = boxes.copy(), scores.copy()
    moved[3, 1], other[2, 1] = 0.02, 1e-4
    assert compare_points([boxes, scores], [boxes + 0.005, scores + 1e-6]) is None
    assert compare_points([boxes, scores], [moved, scores]) == "the boxes of point 3 differ by 0.02"
    assert compare_points([boxes, scores], [boxes, other]) == "the scores of point 2 differ by 0.0001"
    assert "boxes of point" in str(compare_points([boxes, scores], [boxes * np.nan, scores]))
