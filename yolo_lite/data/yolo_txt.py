"""Read YOLO labels: a text file for each picture, a line for each object, relative to the picture's size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from yolo_lite.data.images import IMAGE_SUFFIXES, read_image_size
from yolo_lite.errors import InputError, counted
from yolo_lite.files import read_text
from yolo_lite.structures import DetectionSet, ImageRecord


def read_yolo_txt(images: Sequence[Path], class_names: Sequence[str]) -> DetectionSet:
    """Read the labels of pictures.

    A line is "class cx cy width height" or "class x1 y1 x2 y2 x3 y3 ..." (a polygon, which becomes its box), all but
    the class as shares of the picture's width and height. A picture without a label file, or with an empty one, shows
    no objects. Labels and category ids are the class numbers of the files.

    Args:
        images: folders of pictures (searched to any depth), picture files, or text files that list pictures.

    Raises:
        InputError: where no picture or not one label file is found, or a line cannot be what was meant.
    """
    source = ", ".join(str(path) for path in images)
    pictures = [picture for path in images for picture in _pictures(path)]
    if not pictures:
        raise InputError(f"no pictures in {source}; looked for {', '.join(IMAGE_SUFFIXES)}")
    if not any(label_path(picture).is_file() for picture in pictures):
        raise InputError(
            f"0 of {counted(len(pictures), 'picture')} in {source} have labels; looked for files such as "
            f"{label_path(pictures[0])}"
        )
    records, dropped = [], 0
    for number, picture in enumerate(pictures, 1):
        record, without_area = _record(picture, number, len(class_names))
        records.append(record)
        dropped += without_area
    return DetectionSet(tuple(records), tuple(class_names), tuple(range(len(class_names))), source, dropped)


def label_path(picture: Path) -> Path:
    """Return where a picture's labels are: images/ becomes labels/ (the last such folder), else beside the picture."""
    parts = list(picture.parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return Path(*parts).with_suffix(".txt")


def _pictures(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.name[0] != ".")
    if path.suffix == ".txt" and path.is_file():
        lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
        return [path.parent / line for line in lines]
    return [path] if path.is_file() else []


def _record(picture: Path, number: int, classes: int) -> tuple[ImageRecord, int]:
    height, width = read_image_size(picture)
    file = label_path(picture)
    lines = read_text(file).splitlines() if file.is_file() else []
    labels, boxes = [], []
    for line_number, line in enumerate(lines, 1):
        if line.strip():
            label, box = _parse(line.split(), classes, f"{file}: line {line_number}")
            labels.append(label)
            boxes.append(box)
    array = np.array(boxes, np.float64).reshape(-1, 4) * [width, height, width, height]
    sizes = array[:, 2:] - array[:, :2]
    good = (sizes > 0).all(1)
    return (
        ImageRecord(
            picture,
            number,
            (height, width),
            array[good],
            np.array(labels, np.int64)[good],
            np.zeros(int(good.sum()), np.bool_),
            sizes[good].prod(1),
        ),
        int((~good).sum()),
    )


def _parse(words: list[str], classes: int, where: str) -> tuple[int, list[float]]:
    """Return the label and the box as xyxy shares of the picture."""
    try:
        label, numbers = int(words[0].removesuffix(".0")), [float(word) for word in words[1:]]  # some tools write 3.0
    except ValueError:
        raise InputError(
            f"{where} must be a class number and shares of the picture's size, got {' '.join(words)!r}"
        ) from None
    if not 0 <= label < classes:
        raise InputError(f"{where} has class {label}, but the names given are for 0..{classes - 1}")
    if not all(math.isfinite(number) for number in numbers):
        raise InputError(f"{where} has a number that is not finite: {' '.join(words)!r}")
    if any(abs(number) > 2 for number in numbers):
        raise InputError(f"{where} must hold shares of the picture's size, from 0 to 1, got {' '.join(words)!r}")
    if len(numbers) == 4:
        x, y, width, height = numbers
        if width < 0 or height < 0:
            raise InputError(f"{where} has a box of negative size: {width:g} x {height:g}")
        return label, [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    if len(numbers) >= 6 and len(numbers) % 2 == 0:
        return label, [min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])]
    raise InputError(
        f"{where} must have 4 numbers (a box) or 6 and more (a polygon) after the class, got {len(numbers)}"
    )
