"""What training and evaluation read: the images set aside, the fraction drawn, what is refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.data.layouts import images_of, write_coco_file
from yolo_lite.data.splits import read_split_or_held_out, read_train_and_val
from yolo_lite.errors import InputError
from yolo_lite.structures.datasets import DetectionSet

CocoSet = Callable[..., Path]


def _message(call: Callable[..., object], *arguments: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _names(data: DetectionSet) -> Counter[str]:
    return Counter(data.class_names[label] for record in data.records for label in record.labels)


def test_train_and_val_are_the_two_splits_and_the_notes_say_so(coco_set: CocoSet) -> None:
    root = coco_set({"train": 8, "val": 4})
    train, val, notes = read_train_and_val(images_of(root), seed=0)
    assert (len(train.records), len(val.records)) == (8, 4)
    assert train.class_names == val.class_names
    assert [note.split(":")[0] for note in notes] == ["train", "val"]
    assert "8 images, 16 boxes, 2 classes" in notes[0]
    assert "4 images, 8 boxes, 2 classes" in notes[1]
    assert str(root) in notes[0]


def test_without_a_validation_split_a_tenth_is_set_aside_by_the_seed(coco_set: CocoSet) -> None:
    root = coco_set({"train": 40}, hw=(24, 32), objects=1)
    held = []
    for seed in (0, 0, 1, 2, 3):
        train, val, notes = read_train_and_val(images_of(root), seed=seed)
        assert (len(train.records), len(val.records)) == (36, 4)  # a tenth of 40
        ids = {record.image_id for record in train.records}, {record.image_id for record in val.records}
        assert ids[0] | ids[1] == set(range(1, 41))
        assert not ids[0] & ids[1]
        assert any("4 training images are set aside" in note and f"seed {seed}" in note for note in notes)
        held.append(frozenset(ids[1]))
    assert held[0] == held[1]
    assert len(set(held)) > 2


def test_the_images_set_aside_in_training_are_those_that_are_scored_later(coco_set: CocoSet) -> None:
    root = coco_set({"train": 20}, hw=(24, 32), objects=1)
    for seed in (0, 1):
        _, val, _ = read_train_and_val(images_of(root), seed=seed)
        held, notes = read_split_or_held_out(images_of(root), "validation", seed=seed)
        assert [record.path for record in held.records] == [record.path for record in val.records]
        assert "scored on the 2 images set aside" in notes[0]
        assert f"seed {seed}" in notes[0]


def test_a_split_that_exists_is_read_as_it_is(coco_set: CocoSet) -> None:
    root = coco_set({"train": 5, "val": 3})
    for split, count in (("train", 5), ("val", 3)):
        data, notes = read_split_or_held_out(images_of(root), split, seed=0)
        assert len(data.records) == count
        assert notes == []
    assert "has no split 'test'" in _message(read_split_or_held_out, images_of(root), "test", seed=0)


def test_at_least_one_image_with_an_object_is_set_aside(tmp_path: Path) -> None:
    """Two of twelve images show an object: one must be validated on, the other trains."""
    images = [{"id": i, "file_name": f"{i}.png", "height": 10, "width": 10} for i in range(1, 13)]
    rows = [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 2, 2]} for i in (4, 9)]
    content = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    for seed in range(10):
        train, val, _ = read_train_and_val(images_of(tmp_path / "a.json"), seed=seed)
        assert len(val.records) == 1  # 1.2 rounded
        assert _names(val) == {"cat": 1}
        assert _names(train) == {"cat": 1}


def test_setting_aside_never_takes_the_only_image_with_objects_from_training(tmp_path: Path) -> None:
    """There is then nothing to train on or nothing to validate on: an error, or all of it in training."""
    images = [{"id": i, "file_name": f"{i}.png", "height": 10, "width": 10} for i in (1, 2)]
    rows = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 2, 2]}]
    content = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    for seed in range(4):
        try:
            train, _, _ = read_train_and_val(images_of(tmp_path / "a.json"), seed=seed)
        except InputError:
            continue
        assert _names(train) == {"cat": 1}


def _crowded(root: Path, crowd: dict[str, list[int]]) -> Path:
    """Write two splits of three images with a box each, which are crowd regions or not."""
    for split, marks in crowd.items():
        images = [{"id": i, "file_name": f"{split}{i}.png", "height": 10, "width": 10} for i in range(len(marks))]
        rows = [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 2, 2], "iscrowd": mark}
            for i, mark in enumerate(marks)
        ]
        content = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "cat"}]}
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("crowd", [{"train": [1, 1, 1], "val": [0]}, {"train": [0, 0, 0], "val": [1, 1]}])
def test_a_split_of_crowd_regions_only_is_refused(tmp_path: Path, crowd: dict[str, list[int]]) -> None:
    split = "train" if crowd["train"][0] else "val"
    message = _message(read_train_and_val, images_of(_crowded(tmp_path, crowd)), seed=0)
    assert f"instances_{split}.json: {len(crowd[split])} boxes, all of them crowd regions" in message
    assert "set iscrowd to 0" in message


def test_difficult_objects_only_are_refused_unless_they_count(tmp_path: Path) -> None:
    for name in "abc":
        Image.new("RGB", (40, 20)).save(tmp_path / f"{name}.png")
        (tmp_path / f"{name}.xml").write_text(
            "<annotation><object><name>cat</name><difficult>1</difficult><bndbox><xmin>1</xmin><ymin>1</ymin>"
            "<xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
        )
    assert "pass --difficult to use difficult objects" in _message(read_train_and_val, images_of(tmp_path), seed=0)
    train, val, _ = read_train_and_val(images_of(tmp_path, difficult=True), seed=0)
    assert (len(train.records), len(val.records)) == (2, 1)


def test_an_image_with_a_crowd_region_only_is_not_the_one_set_aside(tmp_path: Path) -> None:
    root = _crowded(tmp_path, {"train": [1, 0, 1, 1, 0, 1]})
    for seed in range(10):
        for data in read_train_and_val(images_of(root), seed=seed)[:2]:
            assert any((~record.crowd).any() for record in data.records)


def test_a_class_that_no_training_image_shows_is_said(tmp_path: Path) -> None:
    names = {1: "cat", 2: "dog"}
    write_coco_file(tmp_path / "annotations" / "instances_train.json", names, [(1, 1), (2, 1)])
    write_coco_file(tmp_path / "annotations" / "instances_val.json", names, [(3, 1), (3, 2)])
    _, _, notes = read_train_and_val(images_of(tmp_path), seed=0)
    assert notes[-1] == "val: no training image shows dog, so their AP says nothing about the training"


def test_a_root_category_is_said_in_training(tmp_path: Path) -> None:
    for split, image in (("train", 1), ("valid", 2)):
        file = tmp_path / split / "_annotations.coco.json"
        write_coco_file(file, {0: "cat", 1: "cat"}, [(image, 1)])
        content = json.loads(file.read_text())
        for one, above in zip(content["categories"], ("none", "cat")):
            one["supercategory"] = above
        file.write_text(json.dumps(content))
    train, val, notes = read_train_and_val(images_of(tmp_path), seed=0)
    assert train.class_names == val.class_names == ("cat",)
    assert sum("the category 'cat' (id 0) is left out" in note for note in notes) == 2


def test_images_without_any_object_are_set_aside_as_well(tmp_path: Path) -> None:
    """Training refuses such a set; to score it on what would be set aside is no error of its own."""
    _crowded(tmp_path, {"train": [1] * 12})
    data, _ = read_split_or_held_out(images_of(tmp_path), "val", seed=0)
    assert len(data.records) == 1


def test_one_image_is_too_few_to_set_any_aside(coco_set: CocoSet) -> None:
    assert "has 1 image and no validation split" in _message(
        read_train_and_val, images_of(coco_set({"train": 1})), seed=0
    )


@pytest.mark.parametrize(
    ("fraction", "count"),
    [(1.0, 40), (0.5, 20), (0.25, 10), (0.01, 1)],
    ids=["all", "half", "quarter", "at least one"],
)
def test_fraction_draws_from_the_training_images_only(coco_set: CocoSet, fraction: float, count: int) -> None:
    root = coco_set({"train": 40, "val": 3}, hw=(24, 32), objects=1)
    train, val, notes = read_train_and_val(images_of(root, fraction=fraction), seed=5)
    assert (len(train.records), len(val.records)) == (count, 3)
    assert len({record.image_id for record in train.records}) == count
    again, _, _ = read_train_and_val(images_of(root, fraction=fraction), seed=5)
    assert [record.image_id for record in again.records] == [record.image_id for record in train.records]
    if fraction < 1:
        assert any(f"{fraction:g} of it, drawn by seed 5" in note for note in notes)
        other, _, _ = read_train_and_val(images_of(root, fraction=fraction), seed=6)
        assert [record.image_id for record in other.records] != [record.image_id for record in train.records]


@pytest.mark.parametrize("fraction", [0, -0.5, 1.5, float("nan")])
def test_a_fraction_outside_its_range_is_refused(coco_set: CocoSet, fraction: float) -> None:
    message = _message(read_train_and_val, images_of(coco_set({"train": 2}), fraction=fraction), seed=0)
    assert "--fraction must be above 0 and at most 1" in message


def test_classes_select_for_both_splits(coco_set: CocoSet) -> None:
    root = coco_set({"train": 8, "val": 4})
    both, both_val, _ = read_train_and_val(images_of(root), seed=0)
    train, val, _ = read_train_and_val(images_of(root, ["square"]), seed=0)
    for part, whole in ((train, both), (val, both_val)):
        assert part.class_names == ("square",)
        assert part.category_ids == (3,)
        assert len(part.records) == len(whole.records)
        assert _names(part) == {"square": _names(whole)["square"]}


def test_labels_of_validation_are_those_of_training_whatever_the_order_of_their_files(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    write_coco_file(tmp_path / "annotations" / "instances_train.json", {1: "cat", 2: "dog"}, [(1, 1), (2, 2)], images)
    names = {5: "dog", 6: "owl", 7: "cat"}
    write_coco_file(tmp_path / "annotations" / "instances_val.json", names, [(1, 5), (2, 6), (3, 7)], images)
    _, val, _ = read_train_and_val(images_of(tmp_path), seed=0)
    assert val.class_names == ("cat", "dog")
    assert val.category_ids == (1, 2)
    assert [record.labels.tolist() for record in val.records] == [[1], [], [0]]  # dog, owl (left out), cat


def _two_files(root: Path, train: list[str], val: list[str]) -> Path:
    """Write two COCO files; image N of each shows the N-th of its classes, whose ids count from 1 and from 5."""
    for split, names, first in (("train", train, 1), ("val", val, 5)):
        numbered = dict(enumerate(names, first))
        objects = [(image, category) for image, category in enumerate(numbered, 1)]
        write_coco_file(root / "annotations" / f"instances_{split}.json", numbered, objects)
    return root


def test_validation_may_spell_the_classes_differently(tmp_path: Path) -> None:
    root = _two_files(tmp_path, ["cell phone", "T-shirt", "cat"], ["cat", "t_shirt", "Cell_Phone", "owl"])
    train, val, notes = read_train_and_val(images_of(root), seed=0)
    assert train.class_names == val.class_names == ("cell phone", "T-shirt", "cat")
    assert val.category_ids == (1, 2, 3)
    assert [record.labels.tolist() for record in val.records] == [[2], [1], [0], []]  # an owl is in no training image
    assert notes[-2:] == [
        "2 classes are spelled differently in val and train: Cell_Phone (known as cell phone), t_shirt (known as T-shirt)",
        "val: the classes owl are not in train and are left out",
    ]


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        (["cat", "CAT"], ["Cat"], "the class 'Cat' of val could be 'cat' or 'CAT' of train"),
        (["cat"], ["Cat", "CAT"], "the class 'Cat' or 'CAT' of val could be 'cat' of train"),
    ],
)
def test_a_class_of_validation_that_could_be_several_is_refused(
    tmp_path: Path, train: list[str], val: list[str], message: str
) -> None:
    root = _two_files(tmp_path, [*train, "owl"], [*val, "owl"])
    advice = "; give the classes of val the names that they have in train"
    assert _message(read_train_and_val, images_of(root), seed=0) == message + advice
    assert _message(read_train_and_val, images_of(root, train[:1]), seed=0) == message + advice
    assert read_train_and_val(images_of(root, ["owl"]), seed=0)[1].class_names == ("owl",)


def test_a_class_that_was_not_chosen_keeps_its_images(tmp_path: Path) -> None:
    """*Cat* of validation is *Cat* of training, even if only *cat* is trained."""
    root = _two_files(tmp_path, ["cat", "Cat"], ["Cat", "cat"])
    _, val, _ = read_train_and_val(images_of(root, ["cat"]), seed=0)
    assert [record.labels.tolist() for record in val.records] == [[], [0]]
    root = _two_files(tmp_path, ["cat", "Cat"], ["Cat"])
    assert "none of 1 image shows" in _message(read_train_and_val, images_of(root, ["cat"]), seed=0)


def test_nothing_to_validate_on_is_refused(tmp_path: Path) -> None:
    write_coco_file(tmp_path / "annotations" / "instances_train.json", {1: "cat"}, [(1, 1)])
    write_coco_file(tmp_path / "annotations" / "instances_val.json", {1: "dog"}, [(1, 1)])
    message = _message(read_train_and_val, images_of(tmp_path), seed=0)
    assert "instances_val.json" in message
    assert "object" in message


def test_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    write_coco_file(tmp_path / "annotations" / "instances_train.json", {1: "cat", 2: "dog"}, [(1, 1)])
    message = _message(read_train_and_val, images_of(tmp_path, ["dog"]), seed=0)
    assert "none of 1 image shows an object of dog" in message
