"""Detections are matched as pycocotools matches them."""

from __future__ import annotations

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from yolo_lite.metrics.matching import match_detections
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
