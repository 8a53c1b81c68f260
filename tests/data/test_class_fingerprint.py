"""The number that tells one set of images to classify from another."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.data.class_folders import (
    TWO,
    CocoSet,
    Pixels,
    pack,
    refusal,
    write_folders,
)
from tests.data.layouts import write_mnist
from yolo_lite.data.class_catalog import read_class_splits
from yolo_lite.data.fingerprint import fingerprint
from yolo_lite.structures.datasets import ClassificationSet, ClassRecord


def _set(*labels: int, names: tuple[str, ...] = ("cat", "dog", "owl")) -> ClassificationSet:
    pixels = [np.full((4, 4), number, np.uint8) for number in range(len(labels))]
    records = tuple(ClassRecord(f"{n}.png", image, label) for n, (image, label) in enumerate(zip(pixels, labels)))
    return ClassificationSet(records, names, "here")


def _cifar(root: Path) -> Path:
    """Write two batches of 15 and a test batch of 10; labels 0..9 in turn."""
    root.mkdir(parents=True, exist_ok=True)
    for name, count, seed in (("data_batch_1", 15, 1), ("data_batch_2", 15, 2), ("test_batch", 10, 3)):
        content = b""
        for number, image in enumerate(_colours(count, seed)):  # a label, then all of red, of green, of blue
            content += bytes([number % 10]) + b"".join(image[:, :, channel].tobytes() for channel in range(3))
        (root / f"{name}.bin").write_bytes(content)
    return root


def _colours(count: int, seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)


@pytest.mark.parametrize("form", ["folder", "tar", "mnist", "cifar", "detection"])
def test_the_fingerprint_does_not_depend_on_the_place(tmp_path: Path, coco_set: CocoSet, form: str) -> None:
    if form == "mnist":
        path = write_mnist(tmp_path / "set")
    elif form == "cifar":
        path = _cifar(tmp_path / "set")
    elif form == "detection":
        path = coco_set({"train": 3})
    else:
        path = pack(write_folders(tmp_path / "set", TWO), form)
    before = fingerprint(read_class_splits(path)[0]["train"])
    (tmp_path / "far" / "away").mkdir(parents=True)
    moved = tmp_path / "far" / "away" / f"other{path.suffix}"
    shutil.move(path, moved)
    assert fingerprint(read_class_splits(moved)[0]["train"]) == before
    assert len(before) == 64
    assert set(before) <= set("0123456789abcdef")


@pytest.mark.parametrize("change", ["label", "class name", "pixels", "box", "file name", "one fewer", "order"])
def test_the_fingerprint_changes_with(change: str) -> None:
    data = _set(0, 1, 2)
    first, *rest = data.records
    changed = {
        "label": (dataclasses.replace(first, label=1), *rest),
        "pixels": (dataclasses.replace(first, content=first.content + np.uint8(1)), *rest),
        "box": (dataclasses.replace(first, box=(0.0, 0.0, 2.0, 2.0)), *rest),
        "file name": (dataclasses.replace(first, content=b"bytes", name="other.png"), *rest),
        "one fewer": tuple(rest),
        "order": (*rest, first),
    }.get(change, data.records)
    names = ("cat", "dog", "elk") if change == "class name" else data.class_names
    if change == "file name":
        data = dataclasses.replace(data, records=(dataclasses.replace(first, content=b"bytes"), *rest))
    assert fingerprint(ClassificationSet(changed, names, "here")) != fingerprint(data)


def test_the_fingerprint_of_files_heeds_their_size(tmp_path: Path) -> None:
    root = write_folders(tmp_path, TWO)
    before = fingerprint(read_class_splits(root)[0]["train"])
    with (root / "train" / "cat" / "000.png").open("ab") as file:
        file.write(b"\0")
    assert fingerprint(read_class_splits(root)[0]["train"]) != before


def test_the_fingerprint_of_a_missing_file_is_refused(tmp_path: Path) -> None:
    """An annotation file may name images that are not there."""
    record = ClassRecord("gone.png", tmp_path / "gone.png", 0)
    assert f"{tmp_path}/gone.png does not exist" in refusal(
        fingerprint, ClassificationSet((record,), ("cat", "dog"), "here")
    )
