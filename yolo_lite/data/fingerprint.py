"""Compute a fingerprint that identifies a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from yolo_lite.errors import InputError
from yolo_lite.structures.datasets import ClassificationSet, ClassRecord, DetectionSet
from yolo_lite.structures.records import ImageRecord


def fingerprint(data: DetectionSet | ClassificationSet) -> str:
    """Return a sha256 of class names, file names and labels: equal for equal sets, wherever they are stored.

    For a detection set, image sizes, boxes and unlabelled classes count too. For images to classify, their boxes count, and
    file sizes, or the pixels of images in memory.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> train, val = read_split("my_images", "train"), read_split("my_images", "val")
        >>> fingerprint(train) == fingerprint(read_split("my_images", "train")), fingerprint(train) == fingerprint(val)
        (True, False)
    """
    digest = hashlib.sha256("\n".join(data.class_names).encode())
    for record in data.records:
        for part in _labelled_image(record) if isinstance(record, ImageRecord) else _image_of_class(record):
            digest.update(part)
    return digest.hexdigest()


def _labelled_image(record: ImageRecord) -> Iterator[bytes]:
    text = f"\n{record.path.name} {record.hw} {record.labels.tolist()} {record.boxes.tolist()}"
    yield text.encode(errors="surrogateescape")
    if record.unlabelled:
        yield f" {record.unlabelled}".encode()


def _image_of_class(record: ClassRecord) -> Iterator[bytes]:
    content = record.content
    name = (
        "" if isinstance(content, np.ndarray) else Path(record.name).name
    )  # an array's name has the data folder in it
    yield f"\n{name} {record.label} {record.box} ".encode(errors="surrogateescape")
    if isinstance(content, Path):
        try:
            yield str(content.stat().st_size).encode()
        except FileNotFoundError as error:
            raise InputError(f"{content} does not exist") from error
    else:
        yield content if isinstance(content, bytes) else content.tobytes()
