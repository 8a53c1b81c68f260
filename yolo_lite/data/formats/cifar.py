"""Read CIFAR-10 in its binary version."""

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

_BYTES = 1 + 3 * 32 * 32  # of an image: its label, then red, green and blue


def cifar_splits(path: Path, files: Mapping[PurePosixPath, Content]) -> dict[str, ClassificationSet]:
    """Return the splits that batches of CIFAR-10 hold; none where there are no such files.

    Raises:
        InputError: where the files are pickles or damaged, or a label has no name.
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
        raise InputError(f"{file} is no batch of CIFAR-10: {counted(len(raw), 'byte')} are no multiple of {_BYTES:,}")
    return np.frombuffer(raw, np.uint8).reshape(-1, _BYTES)
