"""Objects of a detection set as images to classify."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.data.class_folders import (
    CocoSet,
    count_classes,
    refusal,
)
from tests.data.layouts import images_of
from yolo_lite.data.class_catalog import read_class_splits
from yolo_lite.data.crops import MIN_CROP, cut_objects
from yolo_lite.data.pipeline.classification import read_record
from yolo_lite.data.splits import read_classes_to_score, read_classes_to_train
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.records import ImageRecord


def test_each_box_of_a_detection_set_is_an_image(coco_set: CocoSet) -> None:
    """A square of the drawn set fills its box with one colour; a disc fills pi / 4 of it."""
    root = coco_set({"train": 6, "val": 4})
    splits, notes = read_class_splits(root)
    assert notes == [f"{root} is a detection set: each box is cut out"]
    for split in ("train", "val"):
        content = json.loads((root / "annotations" / f"instances_{split}.json").read_text())
        sizes = sorted((row["category_id"], *row["bbox"][2:]) for row in content["annotations"])
        found = []
        for record in splits[split].records:
            part = read_record(record)
            name = splits[split].class_names[record.label]
            found.append(({"disc": 7, "square": 3}[name], part.shape[1], part.shape[0]))
            share = (part == [40, 80, 220] if name == "square" else part == [220, 40, 40]).all(2).mean()
            assert share == pytest.approx(1 if name == "square" else np.pi / 4, abs=0.04)
        assert sorted(found) == sizes
        assert {"disc", "square"} == set(count_classes(splits[split]))  # both are in the data


def test_crowds_and_boxes_too_small_are_left_out() -> None:
    side = float(MIN_CROP)
    boxes = np.array([[0, 0, side, side], [5, 5, 5 + side - 0.5, 40], [5, 5, 40, 5 + side - 0.5], [1, 2, 30, 40]])
    boxes = np.concatenate([boxes, [[1, 2, 33, 44]]])
    crowd = np.array([False, False, False, True, False])
    record = ImageRecord(
        Path("a.png"), 1, hw=(50, 60), boxes=boxes, labels=np.array([0, 1, 0, 1, 1]), crowd=crowd, areas=np.ones(5)
    )
    made = cut_objects(DetectionSet((record,), ("cat", "dog"), category_ids=(1, 2), source="here")).records
    assert [(one.label, one.box, one.content) for one in made] == [
        (0, (0, 0, side, side), Path("a.png")),
        (1, (1, 2, 33, 44), Path("a.png")),
    ]
    assert [one.name for one in made] == ["a.png at x 0-8, y 0-8", "a.png at x 1-33, y 2-44"]


def test_one_annotation_file_is_a_detection_set_too(coco_set: CocoSet) -> None:
    root = coco_set({"train": 10})
    file = root / "annotations" / "instances_train.json"
    splits, _ = read_class_splits(file)
    assert list(splits) == ["train"]
    assert len(splits["train"].records) == 20


def test_a_detection_set_without_a_known_split_is_refused(coco_set: CocoSet) -> None:
    """Neither train, val nor test: a message, no StopIteration."""
    root = coco_set({"spring": 2, "autumn": 2})
    for call in (read_classes_to_train, read_classes_to_score):
        assert str(root) in refusal(call, images_of(root), seed=0)
