"""Detections are matched as pycocotools matches them."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tests.metrics.random_sets import by_pycocotools, perfect_rows, random_set, record, row, set_of
from tests.metrics.slow_matching import slow_match
from yolo_lite.metrics import matching
from yolo_lite.metrics.columns import to_columns
from yolo_lite.metrics.matching import Pairs, SetMatches, choose_objects, match_detections, match_set
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.results import Detections


def _scene(seed: int) -> tuple[Detections, np.ndarray, np.ndarray, np.ndarray]:
    """Return detections near twelve objects of three classes, two of them crowds, on a grid of whole pixels."""
    generator = np.random.default_rng(seed)
    corners = generator.integers(0, 60, (12, 2))
    boxes = np.hstack([corners, corners + generator.integers(10, 40, (12, 2))]).astype(float)
    labels, crowd = generator.integers(0, 3, 12), np.arange(12) < 2
    chosen = generator.integers(0, 12, 30)
    moved = boxes[chosen] + generator.integers(-4, 5, (30, 4))
    scores = np.sort(generator.permutation(1000)[:30] / 1000)[::-1]
    mixed = np.where(generator.random(30) < 0.8, labels[chosen], generator.integers(0, 3, 30))
    return Detections(moved, scores, labels=mixed, class_names=("a", "b", "c")), boxes, labels, crowd


@pytest.mark.parametrize("seed", range(20))
def test_matches_are_those_of_pycocotools(seed: int) -> None:
    detections, boxes, labels, crowd = _scene(seed)
    matches = match_detections(detections, boxes, labels=labels, crowd=crowd)
    taken, ignored, missed = _oracle(detections, boxes, labels, crowd)
    assert matches.objects.tolist() == taken
    assert matches.ignored.tolist() == ignored
    assert matches.missed.tolist() == missed


def test_the_scenes_hold_every_case() -> None:
    """Right, wrong and ignored detections and missed objects all occur in the scenes above."""
    totals = np.zeros(4, int)
    for seed in range(20):
        detections, boxes, labels, crowd = _scene(seed)
        matches = match_detections(detections, boxes, labels=labels, crowd=crowd)
        totals += [(matches.objects >= 0).sum(), matches.wrong.sum(), matches.ignored.sum(), matches.missed.sum()]
    assert (totals > 5).all()


def _dataset(
    boxes: np.ndarray, labels: np.ndarray, others: list[dict[str, float]]
) -> dict[str, list[dict[str, object]]]:
    """Return annotations of one image, numbered from 1, with other entries of each."""
    annotations: list[dict[str, object]] = [
        {
            "id": number,
            "image_id": 1,
            "category_id": int(label),
            "bbox": [*box[:2], *(box[2:] - box[:2])],
            "area": 1.0,
            **other,
        }
        for number, (box, label, other) in enumerate(zip(boxes, labels, others), 1)
    ]
    return {"images": [{"id": 1}], "categories": [{"id": i} for i in range(3)], "annotations": annotations}


def _oracle(
    detections: Detections, boxes: np.ndarray, labels: np.ndarray, crowd: np.ndarray
) -> tuple[list[int], list[bool], list[bool]]:
    truth, found = COCO(), COCO()
    truth.dataset = _dataset(boxes, labels, [{"iscrowd": int(many)} for many in crowd])
    scores = [{"score": float(score)} for score in detections.scores]
    found.dataset = _dataset(detections.boxes.astype(float), detections.labels, scores)
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.params.iouThrs, evaluation.params.areaRng = np.array([0.5]), [[0, 1e10]]
        evaluation.params.areaRngLbl = ["all"]
        evaluation.evaluate()
    taken, ignored, missed = [-1] * len(detections), [False] * len(detections), [not many for many in crowd.tolist()]
    for part in filter(None, evaluation.evalImgs):
        for number, match, ignore in zip(part["dtIds"], part["dtMatches"][0], part["dtIgnore"][0]):
            if match and not crowd[int(match) - 1]:
                taken[number - 1] = int(match) - 1
                missed[int(match) - 1] = False
            ignored[number - 1] = bool(ignore)
    return taken, ignored, missed


def test_an_image_without_objects_has_only_wrong_detections() -> None:
    found = Detections([[0, 0, 4, 4]], [0.5], labels=[0], class_names=("a",))
    matches = match_detections(found, [], labels=[], crowd=[])
    assert matches.wrong.tolist() == [True]
    assert matches.missed.tolist() == []


def test_an_image_without_detections_misses_all_but_crowds() -> None:
    nothing = Detections([], [], labels=[], class_names=("a",))
    matches = match_detections(nothing, [[0, 0, 4, 4], [1, 1, 9, 9]], labels=[0, 0], crowd=[False, True])
    assert matches.missed.tolist() == [True, False]
    assert matches.wrong.tolist() == []


# Sets


def _numbers(data: DetectionSet, rows: list[dict[str, Any]]) -> list[int]:
    """Return the row of each detection in `to_columns`."""
    position = {image_id: i for i, image_id in enumerate(data.records.image_ids.tolist())}
    unlabelled = {(image.image_id, data.category_ids[label]) for image in data.records for label in image.unlabelled}
    kept = [i for i, row in enumerate(rows) if (row["image_id"], row["category_id"]) not in unlabelled]
    return sorted(kept, key=lambda i: (position[rows[i]["image_id"]], -rows[i]["score"]))


@pytest.mark.parametrize("seed", range(10))
def test_matches_of_a_set_are_those_of_pycocotools(seed: int) -> None:
    data, rows = random_set(seed)
    evaluation = by_pycocotools(data, rows)
    images, areas = len(data.records), len(evaluation.params.areaRng)
    objects, ignored = {}, {}
    for category in range(len(data.class_names)):
        for part in filter(None, evaluation.evalImgs[category * areas * images :][:images]):
            for number, match, ignore in zip(part["dtIds"], part["dtMatches"][0], part["dtIgnore"][0]):
                objects[number - 1] = -1 if ignore else int(match) - 1
                ignored[number - 1] = bool(ignore)
    matches = match_set(data, to_columns(data, rows))
    numbers = _numbers(data, rows)
    assert matches.objects.tolist() == [objects[i] for i in numbers]
    assert matches.ignored.tolist() == [ignored[i] for i in numbers]


def test_the_random_sets_hold_crowds_and_unlabelled_classes_with_detections_in_them() -> None:
    ignored = left_out = 0
    for seed in range(10):
        data, rows = random_set(seed)
        ignored += match_set(data, to_columns(data, rows)).ignored.sum()
        left_out += len(rows) - len(_numbers(data, rows))
    assert ignored > 10
    assert left_out > 10


@pytest.mark.parametrize("seed", range(10))
def test_nearest_objects_are_those_of_a_loop(seed: int) -> None:
    data, rows = random_set(seed)
    guesses, things = slow_match(data, rows)
    guesses.sort(key=lambda guess: _numbers(data, rows).index(guess.number))
    matches = match_set(data, to_columns(data, rows))
    assert matches.objects.tolist() == [guess.match.position if guess.match else -1 for guess in guesses]
    assert matches.ignored.tolist() == [guess.ignored for guess in guesses]
    for nearest, own in ((matches.own, True), (matches.others, False)):
        expected = [guess.best(own=own) for guess in guesses]
        assert nearest.iou.tolist() == pytest.approx([iou for iou, _ in expected], abs=1e-15)
        assert nearest.objects.tolist() == [thing.position if thing else -1 for _, thing in expected]
    assert np.flatnonzero(matches.missed).tolist() == [thing.position for thing in things if not thing.taken]
    assert np.flatnonzero(matches.counted).tolist() == [thing.position for thing in things]
    assert matches.object_counts.sum() == len(things)
    order = [_numbers(data, rows).index(guess.number) for guess in sorted(guesses, key=lambda guess: guess.rank)]
    assert matches.order.tolist() == order


def test_a_set_is_matched_as_its_images_are() -> None:
    data, rows = random_set(3, images=12)
    columns = to_columns(data, rows)
    matches = match_set(data, columns)
    for position, image in enumerate(data.records):
        here, first = columns.of_image(position), int(data.records.starts[position])
        found = Detections(
            columns.boxes[here], columns.scores[here], labels=columns.labels[here], class_names=data.class_names
        )
        part = match_detections(found, image.boxes, labels=image.labels, crowd=image.crowd)
        assert np.where(part.objects < 0, -1, part.objects + first).tolist() == matches.objects[here].tolist()
        assert part.ignored.tolist() == matches.ignored[here].tolist()


def _values(matches: SetMatches) -> list[Any]:
    """Return the columns of matches, except the detections."""
    flat: list[Any] = []
    for field in dataclasses.fields(matches)[1:]:
        value = getattr(matches, field.name)
        flat += value if isinstance(value, tuple) else [value]
    return [value.tolist() if isinstance(value, np.ndarray) else value for value in flat]


@pytest.mark.parametrize("size", [1, 50, 333])
def test_the_size_of_a_chunk_changes_nothing(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    data, rows = random_set(4, images=20)
    columns = to_columns(data, rows)
    whole = _values(match_set(data, columns))
    monkeypatch.setattr(matching, "_CHUNK", size)
    assert _values(match_set(data, columns)) == whole


def test_the_101st_detection_of_a_class_in_an_image_is_ignored() -> None:
    box = [0.0, 0, 10, 10]
    data = set_of(record(1, [box], [0]), record(2, [box], [0]))
    rows = [row([50, 50, 60, 60], 0.9 - i / 1000) for i in range(100)]
    for others, wrong in ((rows, 100), (rows[1:], 99)):
        found = [*others, row(box, 0.1), row(box, 0.1, image_id=2), row(box, 0.1, label=1)]
        matches = match_set(data, to_columns(data, found))
        first = matches.objects[: len(others) + 1]
        assert (first >= 0).any() == (others is not rows)
        assert matches.ignored.sum() == (others is rows)
        assert matches.wrong.sum() == wrong + 1  # and the detection of another class
        assert matches.missed.tolist() == [others is rows, False]


def test_objects_are_matched_with_themselves() -> None:
    data, _ = random_set(5, objects=14)
    matches = match_set(data, to_columns(data, perfect_rows(data)))
    assert not matches.wrong.any()
    assert not matches.ignored.any()
    assert not matches.missed.any()
    assert (matches.own.iou == 1).all()


def test_the_iou_threshold_of_a_set() -> None:
    data = set_of(record(1, [[0, 0, 10, 10]], [0]))
    columns = to_columns(data, [row([0, 0, 10, 6])])
    assert match_set(data, columns, iou_threshold=0.6).objects.tolist() == [0]
    assert match_set(data, columns, iou_threshold=0.61).objects.tolist() == [-1]


@pytest.mark.parametrize("rows", [[], [row([0, 0, 9, 9])]], ids=["no detections", "a detection"])
def test_a_set_without_objects(rows: list[dict[str, Any]]) -> None:
    data = set_of(record(1, [], []), record(2, [], []))
    matches = match_set(data, to_columns(data, rows))
    assert matches.wrong.tolist() == [True] * len(rows)
    assert matches.own.objects.tolist() == matches.others.objects.tolist() == [-1] * len(rows)
    assert matches.missed.shape == (0,)
    assert matches.object_counts.tolist() == [0, 0, 0, 0]


def test_groups_choose_at_the_same_time() -> None:
    """Detections 0 and 2 are of one group, 1 and 3 of another; 2 finds its better object taken."""
    pairs = Pairs(np.array([0, 1, 2, 2, 3]), np.array([5, 1, 4, 5, 1]), np.array([0.6, 0.7, 0.8, 0.9, 1.0]))
    groups, free = np.array([8, 2, 8, 2]), np.ones(6, bool)
    assert choose_objects(pairs, groups=groups, free=free).tolist() == [5, 1, 4, -1]
    assert free.all()
    free[1] = False
    assert choose_objects(pairs, groups=groups, free=free).tolist() == [5, -1, 4, -1]
