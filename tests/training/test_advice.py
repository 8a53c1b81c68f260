"""The sentence at the end of a run: what would help most."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from yolo_lite import train
from yolo_lite.config.schema import InputConfig
from yolo_lite.data.splits import read_split
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.records import ImageRecord
from yolo_lite.training.task import Listener
from yolo_lite.training.tasks.advice import Outcome, Recall, advice, recall_by_size

FLAT = [{"epoch": float(epoch), "AP": 0.5} for epoch in range(1, 11)]
ALL_FOUND = Recall(50, 50, larger=50, larger_found=50)
EQUAL = {"cat": (0.5, 0.8, 20), "dog": (0.5, 0.8, 20), "fox": (0.5, 0.8, 20)}
MANY = {"cat": 100, "dog": 100, "fox": 100}
SIZE = (416, 416)


def test_nothing_is_said_where_nothing_stands_out() -> None:
    assert advice(FLAT, Outcome(EQUAL, ALL_FOUND), objects=MANY, image_size=SIZE) == ""


def test_a_rising_curve_asks_for_epochs() -> None:
    rows = [{"epoch": float(epoch), **({"AP": 0.05 * epoch} if epoch % 2 == 0 else {})} for epoch in range(1, 11)]
    line = advice(rows, Outcome(EQUAL, ALL_FOUND), objects=MANY, image_size=SIZE)
    assert line == "most to gain: more epochs; AP rose by 0.200 over the last 4 epochs (--epochs 20)"


def test_a_rise_within_one_epoch_is_in_the_singular() -> None:
    rows = [{"epoch": 1.0, "AP": 0.3}, {"epoch": 2.0, "AP": 0.4}]
    line = advice(rows, Outcome(EQUAL, ALL_FOUND), objects=MANY, image_size=SIZE)
    assert line == "most to gain: more epochs; AP rose by 0.100 over the last epoch (--epochs 4)"


@pytest.mark.parametrize("rows", [[], [{"epoch": 1.0, "AP": 0.5}], [{"epoch": 1.0, "AP": float("nan")}]])
def test_a_short_curve_says_nothing(rows: list[dict[str, float]]) -> None:
    assert advice(rows, Outcome(EQUAL, ALL_FOUND), objects=MANY, image_size=SIZE) == ""


def test_small_objects_that_are_missed_ask_for_a_larger_input() -> None:
    recall = Recall(60, 15, larger=40, larger_found=36)
    line = advice(FLAT, Outcome(EQUAL, recall), objects=MANY, image_size=SIZE)
    assert line.startswith(
        "most to gain: a larger input; 25% of the objects below 24 x 24 input pixels are found, and 90%"
    )
    assert "--image-size 640" in line
    assert advice(FLAT, Outcome(EQUAL, recall), objects=MANY, image_size=(640, 640)) == ""  # it is large already
    rare = Recall(12, 0, larger=2000, larger_found=2000)  # all of them found would add 0.6 % of the objects
    assert advice(FLAT, Outcome(EQUAL, rare), objects=MANY, image_size=SIZE) == ""
    few = recall._replace(small=9, small_found=0)
    assert advice(FLAT, Outcome(EQUAL, few), objects=MANY, image_size=SIZE) == ""


def test_a_rare_class_that_is_missed_asks_for_images() -> None:
    per_class = {**EQUAL, "fox": (0.1, 0.2, 4)}
    line = advice(FLAT, Outcome(per_class, ALL_FOUND), objects={**MANY, "fox": 12}, image_size=SIZE)
    assert line.startswith("most to gain: more images of fox; it has 12 training objects (median of the classes: 100)")
    assert advice(FLAT, Outcome(per_class, ALL_FOUND), objects=MANY, image_size=SIZE) == ""  # rare it is not
    easy = {**EQUAL, "fox": (0.9, 1.0, 4)}
    assert advice(FLAT, Outcome(easy, ALL_FOUND), objects={**MANY, "fox": 12}, image_size=SIZE) == ""


def test_the_greatest_gain_wins() -> None:
    rising = [{"epoch": 5.0, "AP": 0.4}, {"epoch": 10.0, "AP": 0.5}]
    for small_found, expected in ((40, "more epochs"), (10, "a larger input")):
        recall = Recall(50, small_found, larger=50, larger_found=50)
        assert expected in advice(rising, Outcome(EQUAL, recall), objects=MANY, image_size=SIZE)


def _scene() -> DetectionSet:
    """Return one image of 200 x 100 with a small and a large cat, a large dog, a crowd of cats, and an unlabelled fox."""
    boxes = np.array(
        [[0, 0, 10, 10], [20, 20, 80, 80], [100, 20, 160, 80], [0, 90, 9, 99], [180, 0, 190, 10]], np.float64
    )
    record = ImageRecord(
        Path("scene.jpg"),
        image_id=7,
        hw=(100, 200),
        boxes=boxes,
        labels=np.array([0, 0, 1, 0, 2]),
        crowd=np.array([False, False, False, True, False]),
        areas=np.full(5, 1.0),
        unlabelled=(2,),
    )
    return DetectionSet([record], ("cat", "dog", "fox"), category_ids=(11, 12, 13), source=Path("scene.json"))


def _row(category: int, score: float, box: list[float]) -> dict[str, object]:
    x1, y1, x2, y2 = box
    return {"image_id": 7, "category_id": category, "score": score, "bbox": [x1, y1, x2 - x1, y2 - y1]}


@pytest.mark.parametrize(
    ("size", "resize", "small"),
    [
        ((100, 200), "letterbox", 1),
        ((200, 400), "letterbox", 1),
        ((320, 640), "letterbox", 0),
        ((160, 640), "stretch", 1),
    ],
)
def test_objects_are_counted_by_their_side_in_input_pixels(size: tuple[int, int], resize: str, small: int) -> None:
    """The small cat has a side of 10 original pixels; stretched to 160 x 640, of 10 x sqrt(1.6 x 3.2) = 22.6."""
    settings = dataclasses.replace(InputConfig(), image_size=size, resize=resize)
    recall = recall_by_size(_scene(), [], score_threshold=0.3, settings=settings)
    assert recall == Recall(small, 0, larger=3 - small, larger_found=0)


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([_row(11, 0.9, [0, 0, 10, 10]), _row(11, 0.9, [20, 20, 80, 80]), _row(12, 0.9, [100, 20, 160, 80])], (1, 2)),
        ([_row(12, 0.9, [20, 20, 80, 80])], (0, 0)),  # a dog where the cat is
        ([_row(11, 0.3, [20, 20, 80, 80])], (0, 0)),  # no higher than the threshold
        ([_row(11, 0.31, [20, 20, 80, 50])], (0, 1)),  # an IoU of exactly one half
        ([_row(11, 0.9, [20, 20, 80, 49])], (0, 0)),
    ],
)
def test_an_object_is_found_by_a_detection_of_its_class(rows: list[dict[str, object]], found: tuple[int, int]) -> None:
    settings = dataclasses.replace(InputConfig(), image_size=(100, 200))
    recall = recall_by_size(_scene(), rows, score_threshold=0.3, settings=settings)
    assert (recall.small_found, recall.larger_found) == found


@pytest.mark.slow
def test_a_run_ends_with_the_sentence(
    coco_set: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task passes on what its last evaluation says."""
    given: list[Outcome] = []

    def sentence(rows: object, outcome: Outcome, **about: object) -> str:
        given.append(outcome)
        return f"most to gain: {about}"

    monkeypatch.setattr("yolo_lite.training.tasks.detection.advice", sentence)
    said: list[str] = []
    settings = {"train.epochs": 1, "train.preflight": False, "input.image_size": [64, 64]}
    root = coco_set({"train": 12, "val": 4})
    train(root, settings=settings, out=tmp_path / "run", device="cpu", listener=Listener(said.append))
    counts = {
        name: sum((record.labels == label).sum() for record in read_split(root, "train").records)
        for label, name in enumerate(read_split(root, "train").class_names)
    }
    assert said[-1] == f"most to gain: { {'objects': {k: int(v) for k, v in counts.items()}, 'image_size': (64, 64)} }"
    (outcome,) = given
    assert outcome.recall.small + outcome.recall.larger == sum(len(r.labels) for r in read_split(root, "val").records)
    assert outcome.per_class.keys() == counts.keys()
