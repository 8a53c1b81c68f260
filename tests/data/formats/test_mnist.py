"""MNIST's idx files."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from tests.data.class_folders import (
    count_classes,
    pack,
    refusal,
)
from tests.data.layouts import draw_digits, idx_bytes, images_of, write_mnist
from yolo_lite.data.class_catalog import read_class_splits
from yolo_lite.data.pipeline.classification import read_record
from yolo_lite.data.splits import read_classes_to_score, read_classes_to_train


@pytest.mark.parametrize("form", ["folder", "tar", "tar.gz"])
@pytest.mark.parametrize(("packed", "dash"), [(True, "-"), (False, "-"), (False, ".")], ids=["gz", "plain", "dotted"])
def test_idx_files_return_the_pixels_that_were_written(tmp_path: Path, form: str, packed: bool, dash: str) -> None:
    path = pack(write_mnist(tmp_path / "mnist", packed, dash), form)
    splits, _ = read_class_splits(path)
    assert sorted(splits) == ["test", "train"]
    for split, count, seed in (("train", 30, 0), ("test", 6, 1)):
        images, labels = draw_digits(count, seed)
        data = splits[split]
        assert data.class_names == ("0", "1", "2")
        assert [record.label for record in data.records] == labels.tolist()
        for record, image in zip(data.records, images):
            np.testing.assert_array_equal(read_record(record), np.stack([image] * 3, -1))


def test_a_tenth_of_idx_training_is_set_aside(tmp_path: Path) -> None:
    train, val, _ = read_classes_to_train(images_of(write_mnist(tmp_path)), seed=0)
    assert count_classes(train) == {"0": 9, "1": 9, "2": 9}
    assert count_classes(val) == {"0": 1, "1": 1, "2": 1}
    assert read_classes_to_score(images_of(tmp_path), seed=0)[0] == "test"


_GOOD = idx_bytes(np.zeros((30, 5, 7), np.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "is not an idx file of bytes in 3 dimensions", id="empty"),
        pytest.param(b"\0\0\x0d\3" + _GOOD[4:], "is not an idx file of bytes in 3 dimensions", id="of floats"),
        pytest.param(
            idx_bytes(np.zeros(30, np.uint8)), "is not an idx file of bytes in 3 dimensions", id="labels for images"
        ),
        pytest.param(b"\1" + _GOOD[1:], "is not an idx file of bytes in 3 dimensions", id="wrong magic"),
        pytest.param(_GOOD[:9], "is not an idx file of bytes in 3 dimensions", id="header cut short"),
        pytest.param(_GOOD[:-1], "should hold 1,050 values, but holds 1,049: cut short?", id="a byte short"),
        pytest.param(_GOOD + b"\0", "should hold 1,050 values, but holds 1,051", id="a byte more"),
        pytest.param(
            _GOOD[:4] + struct.pack(">3I", 1 << 31, 1 << 31, 4), "values, but holds 0", id="sizes beyond 64 bits"
        ),
        pytest.param(_GOOD[:4] + struct.pack(">3I", 30, 0, 7), "train-images", id="images of no height"),
    ],
)
@pytest.mark.parametrize("packed", [True, False], ids=["gz", "plain"])
def test_a_wrong_idx_file_is_refused(tmp_path: Path, content: bytes, message: str, packed: bool) -> None:
    root = write_mnist(tmp_path, packed)
    file = root / f"train-images-idx3-ubyte{'.gz' if packed else ''}"
    file.write_bytes(gzip.compress(content) if packed else content)
    found = refusal(read_class_splits, root)
    assert str(file) in found
    assert message in found


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_packed_idx_file_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    file = write_mnist(tmp_path) / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    message = refusal(read_class_splits, tmp_path)
    assert str(file) in message


def test_a_packed_idx_file_that_is_not_packed_is_refused(tmp_path: Path) -> None:
    file = write_mnist(tmp_path) / "train-images-idx3-ubyte.gz"
    file.write_bytes(b"<html>404</html>")
    assert f"{file} is damaged or cut short" in refusal(read_class_splits, tmp_path)


def test_labels_that_do_not_match_the_images_in_count_are_refused(tmp_path: Path) -> None:
    file = write_mnist(tmp_path, packed=False) / "train-labels-idx1-ubyte"
    file.write_bytes(idx_bytes(np.zeros(29, np.uint8)))
    assert refusal(read_class_splits, tmp_path) == (f"{tmp_path}: train-images-idx3-ubyte has 30 images, but 29 labels")


@pytest.mark.parametrize(("gone", "left"), [("images-idx3", "labels-idx1"), ("labels-idx1", "images-idx3")])
def test_idx_files_without_their_other_half_are_refused(tmp_path: Path, gone: str, left: str) -> None:
    (write_mnist(tmp_path) / f"train-{gone}-ubyte.gz").unlink()
    message = refusal(read_class_splits, tmp_path)
    assert message == f"{tmp_path} has train-{left}-ubyte.gz but no matching {gone[:6]}"


def test_test_images_alone_can_be_scored_but_not_trained_on(tmp_path: Path) -> None:
    for file in write_mnist(tmp_path).glob("train*"):
        file.unlink()
    assert len(read_classes_to_score(images_of(tmp_path), seed=0)[1].records) == 6
    assert f"{tmp_path} has no training split; found test" in refusal(
        read_classes_to_train, images_of(tmp_path), seed=0
    )
