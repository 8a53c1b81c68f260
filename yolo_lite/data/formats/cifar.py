"""Read CIFAR-10's binary version."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from yolo_lite.data.formats.archive import Content, content_bytes
from yolo_lite.errors import InputError, counted
from yolo_lite.files import decode_text
from yolo_lite.structures.datasets import ClassificationSet

_BYTES = 1 + 3 * 32 * 32  # per image: its label, then its red, green and blue values


def cifar_splits(path: Path, files: Mapping[PurePosixPath, Content]) -> dict[str, ClassificationSet]:
    """Return the splits that batches of CIFAR-10 hold; none if there are no such files.

    Raises:
        InputError: if the files are pickles or damaged, or a label has no name.

    Example:
        >>> batch = bytes([3]) + bytes(3 * 32 * 32)  # a label, then a black image
        >>> splits = cifar_splits(Path("cifar"), {PurePosixPath("data_batch_1.bin"): batch})
        >>> splits["train"].records[0].label, splits["train"].class_names[3]
        (3, 'class 3')
    """
    batches = {
        name: content for name, content in files.items() if re.fullmatch(r"(data|test)_batch(_\d)?\.bin", name.name)
    }
    if not batches:
        if any(re.fullmatch(r"data_batch_\d", name.name) for name in files):
            raise InputError(
                f"{path} holds CIFAR-10 as Python pickles, which could run code; get the binary version (.bin)"
            )
        return {}
    names = _class_names(path, files)
    parts: dict[str, list[npt.NDArray[np.uint8]]] = {}
    for name, content in batches.items():
        split = "test" if name.name.startswith("test") else "train"
        parts.setdefault(split, []).append(_rows(path / name, content))
    rows = {split: np.concatenate(several) for split, several in parts.items()}
    for split, values in rows.items():
        if values[:, 0].max() >= len(names):
            classes = counted(len(names), "class", plural="classes")
            raise InputError(f"{path}: a label of {split} is {values[:, 0].max()}, but there are {classes}")
    return {
        split: ClassificationSet.from_arrays(
            values[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1),
            values[:, 0],
            class_names=names,
            source=f"{path} {split}",
        )
        for split, values in rows.items()
    }


def _class_names(path: Path, files: Mapping[PurePosixPath, Content]) -> list[str]:
    names = [f"class {label}" for label in range(10)]
    for name, content in files.items():
        if name.name == "batches.meta.txt":
            text = decode_text(content_bytes(content), str(path / name))
            names = [line.strip() for line in text.splitlines() if line.strip()] or names
    return names


def _rows(file: Path, content: Content) -> npt.NDArray[np.uint8]:
    raw = content_bytes(content)
    if not raw or len(raw) % _BYTES:
        raise InputError(
            f"{file} is not a batch of CIFAR-10: its size of {counted(len(raw), 'byte')} is not a multiple of {_BYTES:,}"
        )
    return np.frombuffer(raw, np.uint8).reshape(-1, _BYTES)
