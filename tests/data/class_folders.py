"""Folders and archives of images to classify, drawn for tests."""

from __future__ import annotations

import io
import tarfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from yolo_lite.errors import InputError
from yolo_lite.structures.datasets import ClassificationSet

Pixels = npt.NDArray[np.uint8]
CocoSet = Callable[..., Path]
FORMS = ("folder", "tar", "tar.gz", "tgz")


TWO = {"train/cat": 3, "train/dog": 2, "val/cat": 1, "val/dog": 2, "test/cat": 2, "test/dog": 1}


def fill(folder: str, number: int) -> tuple[int, int, int]:
    """Return a colour that tells one image of `write_folders` from every other."""
    return sum(folder.encode()) % 251, len(folder), number


def write_folders(root: Path, counts: Mapping[str, int]) -> Path:
    """Write so many images of 6 x 5 pixels, each of one colour, into every folder."""
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.new("RGB", (6, 5), fill(folder, number)).save(root / folder / f"{number:03d}.png")
    return root


def pack(root: Path, form: str, inside: str = ".") -> Path:
    """Return the folder itself, or an archive with its content; `inside` is the folder that the archive has around it."""
    if form == "folder":
        return root
    file = root.parent / f"packed.{form}"
    with tarfile.open(file, "w" if form == "tar" else "w:gz") as archive:
        archive.add(root, inside)
    return file


def write_tar(file: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(file, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file


def png(value: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 5), (value, value, value)).save(buffer, "PNG")
    return buffer.getvalue()


def count_classes(data: ClassificationSet) -> dict[str, int]:
    return dict(Counter(data.class_names[record.label] for record in data.records))


def names_of(data: ClassificationSet) -> list[str]:
    return [record.name for record in data.records]


def refusal(call: Callable[..., object], *arguments: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)
