"""The names that splits go by."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from yolo_lite.data.entries import canonical_split
from yolo_lite.data.splits import read_split
from yolo_lite.errors import InputError

CocoSet = Callable[..., Path]


def _message(call: Callable[..., object], *arguments: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *((name, "train") for name in ("train", "training", "Train", "train2017", "train_2014", "train-2014")),
        *((name, "val") for name in ("val", "valid", "validation", "VAL", "val2017", "validation_2012")),
        *((name, "test") for name in ("test", "testing", "test2017")),
        ("2017", ""),
        ("minitrain", "minitrain"),
    ],
)
def test_canonical_split(name: str, split: str) -> None:
    assert canonical_split(name) == split


@pytest.mark.parametrize("written", ["val", "valid", "validation", "val2017"])
@pytest.mark.parametrize("asked", ["val", "valid", "validation", "val2017"])
def test_the_names_of_validation_are_one_split(coco_set: CocoSet, written: str, asked: str) -> None:
    root = coco_set({"train": 1, written: 2})
    assert len(read_split(root, asked).records) == 2


def test_a_split_that_does_not_exist_says_which_do(coco_set: CocoSet) -> None:
    root = coco_set({"train": 1, "val": 1})
    assert _message(read_split, root, "test") == f"{root} has no split 'test'; found train, val"
