"""Images to classify by their classes, matched by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.data.class_folders import (
    count_classes,
    refusal,
    write_folders,
)
from tests.data.layouts import images_of
from yolo_lite.data.classes import refuse_unknown_classes, select_classes
from yolo_lite.data.splits import read_classes_to_score, read_classes_to_train
from yolo_lite.structures.datasets import Classes, ClassificationSet, ClassRecord


def test_only_the_classes_asked_for_are_kept_in_their_order(tmp_path: Path) -> None:
    root = write_folders(
        tmp_path, {f"{s}/{name}": n for s in ("train", "val") for n, name in enumerate(("ape", "cat", "dog"), 2)}
    )
    train, val, _ = read_classes_to_train(images_of(root, ["dog", "ape"]), seed=0)
    for data in (train, val):
        assert data.class_names == ("dog", "ape")
        assert count_classes(data) == {"dog": 4, "ape": 2}
        assert all(data.class_names[record.label] == Path(record.name).parts[-2] for record in data.records)
    assert count_classes(read_classes_to_score(images_of(root, ["cat"]), "val", seed=0)[1]) == {"cat": 3}


def _set(*labels: int, names: tuple[str, ...] = ("cat", "dog", "owl")) -> ClassificationSet:
    pixels = [np.full((4, 4), number, np.uint8) for number in range(len(labels))]
    records = tuple(ClassRecord(f"{n}.png", image, label) for n, (image, label) in enumerate(zip(pixels, labels)))
    return ClassificationSet(records, names, "here")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        pytest.param(["cta"], "here has no class 'cta'; did you mean 'cat'?", id="misspelt"),
        pytest.param(["zebra"], "here has no class 'zebra'; known: cat, dog, owl", id="nothing near"),
        pytest.param(["cat", "cat"], "--classes names a class twice: cat, cat", id="twice"),
    ],
)
def test_select_classes_refuses(classes: list[str], message: str) -> None:
    assert refusal(select_classes, _set(0, 1, 2), classes) == message


def test_align_classes_matches_by_name() -> None:
    data = _set(0, 1, 2, 0)
    aligned = data.with_classes(Classes.numbered(("owl", "cow", "cat")))
    assert aligned.class_names == ("owl", "cow", "cat")
    assert [(record.name, record.label) for record in aligned.records] == [("0.png", 2), ("2.png", 0), ("3.png", 2)]
    assert [record.label for record in data.records] == [0, 1, 2, 0]  # not modified
    assert "here has images of dog, a class missing from train (owl, cow, cat)" in refusal(
        refuse_unknown_classes, data, ("owl", "cow", "cat")
    )


def test_a_class_without_images_need_not_be_known() -> None:
    refuse_unknown_classes(_set(0, 2), ("owl", "cat"))
    aligned = _set(0, 2).with_classes(Classes.numbered(("owl", "cat")))
    assert [record.label for record in aligned.records] == [1, 0]


def test_validation_may_spell_the_classes_differently(tmp_path: Path) -> None:
    folders = {"train/hot dog": 2, "train/Cat": 3, "train/owl": 2, "val/Hot_Dog": 1, "val/cat": 2, "val/owl": 1}
    root = write_folders(tmp_path, folders)
    train, val, notes = read_classes_to_train(images_of(root), seed=0)
    assert train.class_names == val.class_names == ("Cat", "hot dog", "owl")
    assert count_classes(val) == {"Cat": 2, "hot dog": 1, "owl": 1}
    note = "2 classes are spelled differently in val and train: cat (known as Cat), Hot_Dog (known as hot dog)"
    assert notes[0] == note
    _, val, notes = read_classes_to_train(images_of(root, ["owl", "Cat"]), seed=0)
    assert count_classes(val) == {"Cat": 2, "owl": 1}
    assert notes[0] == "1 class is spelled differently in val and train: cat (known as Cat)"


def test_a_class_of_validation_that_could_be_several_is_refused(tmp_path: Path) -> None:
    root = write_folders(tmp_path, {"train/a-b": 2, "train/A b": 2, "train/owl": 2, "val/a_b": 1, "val/owl": 1})
    message = "the class 'a_b' of val could be 'A b' or 'a-b' of train"
    assert refusal(read_classes_to_train, images_of(root), seed=0).startswith(message)


def test_another_class_of_validation_is_still_refused(tmp_path: Path) -> None:
    root = write_folders(tmp_path, {"train/cat": 2, "train/dog": 2, "val/Cat": 1, "val/fox": 1})
    message = refusal(read_classes_to_train, images_of(root), seed=0)
    assert message == f"{root}/val has images of fox, a class missing from train (cat, dog)"
