"""Read MNIST's idx files."""

from __future__ import annotations

import gzip
import io
import math
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from yolo_lite.data.formats.archive import DAMAGED, Content, Unpacked, content_bytes
from yolo_lite.errors import InputError, counted, reason
from yolo_lite.structures.datasets import ClassificationSet

_NAME = re.compile(r"(?:.*[-_.])?(train|t10k|test|val)[-_.](images|labels)[-_.]idx[13][-_.]ubyte(?:\.gz)?")
_SPLITS = {"train": "train", "t10k": "test", "test": "test", "val": "val"}
_DIMENSIONS = {"images": 3, "labels": 1}
_Part = tuple[PurePosixPath, Content]


def mnist_splits(path: Path, files: Mapping[PurePosixPath, Content]) -> dict[str, ClassificationSet]:
    """Return the splits that idx files hold; none if there are no such files.

    Raises:
        InputError: if images have no labels or labels no images, or a file is not what its name promises.

    Example:
        >>> images = bytes([0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2, *range(4)])  # one of 2 x 2 pixels
        >>> labels = bytes([0, 0, 8, 1, 0, 0, 0, 1, 7])
        >>> names = [PurePosixPath(f"train-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1")]
        >>> mnist_splits(Path("mnist"), dict(zip(names, (images, labels))))["train"].records[0].label
        7
    """
    parts: dict[str, dict[str, _Part]] = {}
    for name, content in files.items():
        match = _NAME.fullmatch(name.name)
        if match:
            parts.setdefault(_SPLITS[match[1]], {})[match[2]] = (name, content)
    arrays = {split: _images_and_labels(path, pair) for split, pair in parts.items()}
    count = max((int(labels.max(initial=0)) for _, labels in arrays.values()), default=0) + 1
    names = [str(label) for label in range(count)]
    return {
        split: ClassificationSet.from_arrays(images, labels, class_names=names, source=f"{path} {split}")
        for split, (images, labels) in arrays.items()
    }


def _images_and_labels(path: Path, parts: Mapping[str, _Part]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    for kind in _DIMENSIONS:
        if kind not in parts:
            raise InputError(f"{path} has {next(iter(parts.values()))[0]} but no matching {kind}")
    images, labels = (_read(path, parts[kind], dimensions) for kind, dimensions in _DIMENSIONS.items())
    if len(images) != len(labels):
        raise InputError(
            f"{path}: {parts['images'][0]} has {counted(len(images), 'image')}, but {counted(len(labels), 'label')}"
        )
    return images, labels


def _read(path: Path, part: _Part, dimensions: int) -> npt.NDArray[np.uint8]:
    """Read an idx file of bytes: 0, 0, 8, the number of dimensions, the size of each (big-endian), then the values."""
    name, content = part
    raw = content_bytes(content)
    if name.suffix == ".gz":
        try:
            with Unpacked(gzip.GzipFile(fileobj=io.BytesIO(raw)), len(raw), source=path / name) as unpacked:
                raw = unpacked.read()
        except DAMAGED as error:
            raise InputError(f"{path / name} is damaged or cut short ({reason(error)})") from error
    head = 4 + 4 * dimensions
    if raw[:4] != bytes((0, 0, 8, dimensions)) or len(raw) < head:
        raise InputError(f"{path / name} is not an idx file of bytes in {dimensions} dimensions")
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    expected = math.prod(shape)
    if shape[0] and not expected:
        raise InputError(f"{path / name} holds images of no size: {shape}")
    if len(raw) - head != expected:
        raise InputError(
            f"{path / name} should hold {counted(expected, 'value')}, but holds {len(raw) - head:,}: cut short?"
        )
    return np.frombuffer(raw, np.uint8, offset=head).reshape(shape)
