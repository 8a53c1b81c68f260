"""CIFAR-10's batches."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.class_folders import (
    Pixels,
    pack,
    refusal,
)
from yolo_lite.data.class_catalog import read_class_splits
from yolo_lite.data.pipeline.classification import read_record
from yolo_lite.errors import InputError


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


@pytest.mark.parametrize("form", ["folder", "tar.gz"])
def test_cifars_names_may_have_a_byte_order_mark_but_no_other_encoding(tmp_path: Path, form: str) -> None:
    names = ["Flügel", *(f"class {number}" for number in range(1, 10))]
    root = _cifar(tmp_path / "good")
    (root / "batches.meta.txt").write_text("\n".join(names), encoding="utf-8-sig")
    assert read_class_splits(pack(root, form, "good"))[0]["train"].class_names[0] == "Flügel"
    root = _cifar(tmp_path / "bad")
    (root / "batches.meta.txt").write_text("\n".join(names[::-1]), encoding="latin-1")
    with pytest.raises(InputError, match=r"batches\.meta\.txt: line 10 is not UTF-8 text"):
        read_class_splits(pack(root, form, "bad"))


@pytest.mark.parametrize("form", ["folder", "tar.gz"])
@pytest.mark.parametrize("named", [True, False])
def test_cifar_batches_return_the_pixels_that_were_written(tmp_path: Path, form: str, named: bool) -> None:
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    root = _cifar(tmp_path / "cifar-10-batches-bin")
    if named:
        (root / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    splits, _ = read_class_splits(pack(root, form, "cifar-10-batches-bin"))
    train = np.concatenate([_colours(15, 1), _colours(15, 2)])
    for split, images, labels in (
        ("train", train, [*range(10), *range(5)] * 2),
        ("test", _colours(10, 3), list(range(10))),
    ):
        data = splits[split]
        assert data.class_names == tuple(names if named else [f"class {label}" for label in range(10)])
        assert [record.label for record in data.records] == labels
        for record, image in zip(data.records, images):
            np.testing.assert_array_equal(read_record(record), image)


@pytest.mark.parametrize("content", [b"", b"\0" * 3072, b"\0" * 3074])
def test_a_cifar_batch_of_a_wrong_length_is_refused(tmp_path: Path, content: bytes) -> None:
    file = _cifar(tmp_path) / "data_batch_2.bin"
    file.write_bytes(content)
    assert refusal(read_class_splits, tmp_path) == (
        f"{file} is not a batch of CIFAR-10: its size of {len(content):,} bytes is not a multiple of 3,073"
    )


def test_a_cifar_label_beyond_the_classes_is_refused(tmp_path: Path) -> None:
    (_cifar(tmp_path) / "test_batch.bin").write_bytes(bytes([10]) + b"\0" * 3072)
    assert f"{tmp_path}: a label of test is 10, but there are 10 classes" in refusal(read_class_splits, tmp_path)


class _Trap:
    """Unpickled, it would raise at once."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise AssertionError('a pickle was opened')",)


@pytest.mark.parametrize("form", ["folder", "tar.gz"])
def test_cifar_pickles_are_not_opened(tmp_path: Path, form: str) -> None:
    root = tmp_path / "cifar-10-batches-py"
    root.mkdir()
    (root / "data_batch_1").write_bytes(pickle.dumps(_Trap()))
    path = pack(root, form, "cifar-10-batches-py")
    assert refusal(read_class_splits, path) == (
        f"{path} holds CIFAR-10 as Python pickles, which could run code; get the binary version (.bin)"
    )
