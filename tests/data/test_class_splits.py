"""What the training and evaluation of a classifier read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.data.class_folders import (
    TWO,
    count_classes,
    names_of,
    refusal,
    write_folders,
)
from tests.data.layouts import images_of
from yolo_lite.data.splits import read_classes_to_score, read_classes_to_train


def _train_only(root: Path) -> Path:
    return write_folders(root, {"train/cat": 40, "train/dog": 20, "train/owl": 30})


def test_without_a_validation_split_a_tenth_of_each_class_is_set_aside(tmp_path: Path) -> None:
    root = _train_only(tmp_path)
    held = []
    for seed in (0, 0, 1):
        train, val, notes = read_classes_to_train(images_of(root), seed=seed)
        assert count_classes(train) == {"cat": 36, "dog": 18, "owl": 27}
        assert count_classes(val) == {"cat": 4, "dog": 2, "owl": 3}
        assert not set(names_of(train)) & set(names_of(val))
        assert notes[0] == f"val: no such split, so 9 training images are set aside by seed {seed}"
        held.append(names_of(val))
    assert held[0] == held[1] != held[2]


def test_the_notes_say_what_is_trained_and_validated_on(tmp_path: Path) -> None:
    root = write_folders(tmp_path, TWO)
    assert read_classes_to_train(images_of(root), seed=0)[2] == [
        f"train: 5 images, 2 classes: cat (3), dog (2) ({root}/train)",
        f"val: 3 images, 2 classes: cat (1), dog (2) ({root}/val)",
    ]


def test_a_test_split_is_left_alone_in_training(tmp_path: Path) -> None:
    train, val, _ = read_classes_to_train(images_of(write_folders(tmp_path, TWO)), seed=0)
    assert not [name for name in names_of(train) + names_of(val) if "/test/" in name]


@pytest.mark.parametrize("split", [None, "val", "validation"])
def test_the_images_set_aside_in_training_are_those_that_are_scored(tmp_path: Path, split: str | None) -> None:
    root = _train_only(tmp_path)
    for seed in (0, 1):
        for classes in (None, ["owl", "cat"]):
            _, val, _ = read_classes_to_train(images_of(root, classes or ()), seed=seed)
            name, scored = read_classes_to_score(images_of(root, classes or ()), split, seed=seed)
            assert name == "val"
            assert names_of(scored) == names_of(val)
            assert scored.class_names == val.class_names


def test_no_training_image_is_scored_when_only_some_classes_are_asked_for(tmp_path: Path) -> None:
    """Train on three classes, score two of them: what is scored must still be what was set aside."""
    root = _train_only(tmp_path)
    train, _, _ = read_classes_to_train(images_of(root), seed=0)
    _, scored = read_classes_to_score(images_of(root, ["cat", "dog"]), seed=0)
    assert not set(names_of(train)) & set(names_of(scored))


def test_a_class_that_is_not_asked_for_may_have_one_image(tmp_path: Path) -> None:
    root = write_folders(tmp_path, {"train/cat": 10, "train/dog": 10, "train/owl": 1})
    train, val, _ = read_classes_to_train(images_of(root, ["cat", "dog"]), seed=0)
    assert (count_classes(train), count_classes(val)) == ({"cat": 9, "dog": 9}, {"cat": 1, "dog": 1})
    assert names_of(read_classes_to_score(images_of(root, ["cat", "dog"]), seed=0)[1]) == names_of(val)


def test_images_set_aside_do_not_depend_on_how_much_is_trained_on(tmp_path: Path) -> None:
    root = _train_only(tmp_path)
    _, whole, _ = read_classes_to_train(images_of(root), seed=0)
    parts: list[dict[str, Any]] = [{"fraction": 0.5}, {"per_class": 3}]
    for options in parts:
        assert names_of(read_classes_to_train(images_of(root, **options), seed=0)[1]) == names_of(whole)


@pytest.mark.parametrize(
    ("present", "split", "expected"),
    [
        pytest.param(("train", "val", "test"), None, "test", id="test comes first"),
        pytest.param(("train", "val"), None, "val", id="then val"),
        pytest.param(("train", "test"), None, "test", id="test without val"),
        pytest.param(("train", "val", "test"), "val", "val", id="val asked for"),
        pytest.param(("train", "val", "test"), "validation", "val", id="by another name"),
        pytest.param(("train", "val", "test"), "train", "train", id="train asked for"),
    ],
)
def test_which_split_is_scored(tmp_path: Path, present: tuple[str, ...], split: str | None, expected: str) -> None:
    root = write_folders(tmp_path, {f"{one}/{name}": 2 for one in present for name in ("cat", "dog")})
    name, data = read_classes_to_score(images_of(root), split, seed=0)
    assert name == expected
    assert {Path(one).parts[-3] for one in names_of(data)} == {expected}


def test_a_split_that_is_not_there_is_refused(tmp_path: Path) -> None:
    root = write_folders(tmp_path, {"train/cat": 2, "train/dog": 2})
    assert f"{root} has no split 'test'; found train" in refusal(read_classes_to_score, images_of(root), "test", seed=0)


@pytest.mark.parametrize(
    ("fraction", "per_class", "counts"),
    [  # of 40 cats, 20 dogs and 10 owls
        pytest.param(1.0, 0, (40, 20, 10), id="all"),
        pytest.param(0.5, 0, (20, 10, 5), id="half of each class"),
        pytest.param(0.001, 0, (1, 1, 1), id="at least one of each"),
        pytest.param(1.0, 15, (15, 15, 10), id="at most so many"),
        pytest.param(0.5, 8, (8, 8, 5), id="both"),
        pytest.param(1.0, 1, (1, 1, 1), id="one of each"),
    ],
)
def test_a_part_of_training_is_drawn_class_by_class(
    tmp_path: Path, fraction: float, per_class: int, counts: tuple[int, int, int]
) -> None:
    sizes = {"cat": 40, "dog": 20, "owl": 10}
    root = write_folders(
        tmp_path, {**{f"train/{k}": v for k, v in sizes.items()}, "val/cat": 1, "val/dog": 1, "val/owl": 3}
    )
    how: dict[str, Any] = {"fraction": fraction, "per_class": per_class}
    train, val, notes = read_classes_to_train(images_of(root, **how), seed=5)
    assert tuple(count_classes(train).values()) == counts
    assert count_classes(val) == {"cat": 1, "dog": 1, "owl": 3}
    assert len(set(names_of(train))) == sum(counts)
    assert names_of(read_classes_to_train(images_of(root, **how), seed=5)[0]) == names_of(train)
    part = sum(counts) < 70
    assert ("train: a part is drawn by seed 5" in notes) == part
    assert (names_of(read_classes_to_train(images_of(root, **how), seed=6)[0]) != names_of(train)) == part


@pytest.mark.parametrize("fraction", [0, -0.5, 1.5, float("nan")])
def test_a_fraction_outside_its_range_is_refused(tmp_path: Path, fraction: float) -> None:
    message = refusal(read_classes_to_train, images_of(write_folders(tmp_path, TWO), fraction=fraction), seed=0)
    assert f"--fraction must be above 0 and at most 1, got {fraction}" in message


def test_a_negative_count_per_class_is_refused(tmp_path: Path) -> None:
    """As the end of a slice it would leave out the last image of each class, unsaid."""
    assert "--per-class" in refusal(
        read_classes_to_train, images_of(write_folders(tmp_path, TWO), per_class=-1), seed=0
    )
