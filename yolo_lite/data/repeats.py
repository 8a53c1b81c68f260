"""Find images that a set lists more than once, perhaps with different boxes each time, and merge their entries."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from yolo_lite.errors import counted
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.records import ImageRecord, Records

_SAME = 0.5  # intersection over union of boxes that mark the same object
Group = tuple[int, ...]  # positions of the records of one image


def repeats(data: DetectionSet) -> list[Group]:
    """Return, for each image with several records, the positions of these records.

    Example:
        >>> from yolo_lite.data.classes import merge_sets
        >>> from yolo_lite.data.splits import read_split
        >>> data = read_split("my_images", "val")
        >>> repeats(merge_sets([data, data]))
        [(0, 3), (1, 4), (2, 5)]
    """
    real_folder = functools.cache(os.path.realpath)
    groups: dict[tuple[str, str], list[int]] = {}
    for position, (folder, name) in enumerate(data.records.paths.parts()):
        groups.setdefault((real_folder(folder), name), []).append(position)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def same_objects(first: ImageRecord, second: ImageRecord) -> bool:
    """Return whether two records of one image mark the same objects, even if their boxes differ slightly.

    Classes for which one of the records is unlabelled are ignored.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> first, second, *_ = read_split("my_images", "train").records
        >>> same_objects(first, first), same_objects(first, second)
        (True, False)
    """
    passed_over = set(first.unlabelled) | set(second.unlabelled)
    return _marks(first, second, passed_over) and _marks(second, first, passed_over)


def _marks(first: ImageRecord, second: ImageRecord, passed_over: set[int]) -> bool:
    """Return whether each box of the second record overlaps a box of its class in the first."""
    for box, label in zip(second.boxes, second.labels.tolist()):
        if label not in passed_over and not (_overlaps(first.boxes[first.labels == label], box) >= _SAME).any():
            return False
    return True


def _overlaps(boxes: npt.NDArray[np.float64], box: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the intersection over union of boxes [N, 4] with one box: [N]."""
    shared = np.clip(np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2]), 0, None).prod(1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod() - shared
    return np.asarray(shared / union, np.float64)


def box_keys(record: ImageRecord) -> list[tuple[float, ...]]:
    """Return for each box a key that identifies it: its corners to a hundredth of a pixel, and its label.

    Example:
        >>> box = {"boxes": np.array([[0, 0, 2.004, 3]]), "labels": np.array([1]), "areas": np.array([6.0])}
        >>> box_keys(ImageRecord(Path("a.jpg"), 1, hw=(9, 9), crowd=np.array([False]), **box))
        [(0.0, 0.0, 2.0, 3.0, 1.0)]
    """
    corners = record.boxes.round(2).tolist()
    return [(*box, float(label)) for box, label in zip(corners, record.labels)]


def join_repeats(data: DetectionSet, groups: Sequence[Group]) -> DetectionSet:
    """Merge each group of records into one that holds every box once; a line in `notes` reports it.

    Example:
        >>> from yolo_lite.data.classes import merge_sets
        >>> from yolo_lite.data.splits import read_split
        >>> data = read_split("my_images", "val")
        >>> twice = merge_sets([data, data])
        >>> len(twice.records), len(join_repeats(twice, repeats(twice)).records)
        (6, 3)
    """
    if not groups:
        return data
    joined = {group[0]: _join([data.records[i] for i in group]) for group in groups}
    left_out = {i for group in groups for i in group[1:]}
    records = Records.pack(joined.get(i, record) for i, record in enumerate(data.records) if i not in left_out)
    verb = "is" if len(groups) == 1 else "are"
    note = (
        f"{counted(len(groups), 'image')} that {data.source} lists more than once {verb} taken once, with the boxes of all "
        f"entries; the first is {data.records[groups[0][0]].path}"
    )
    return dataclasses.replace(data, records=records, notes=(*data.notes, note))


def _join(records: Sequence[ImageRecord]) -> ImageRecord:
    boxes: dict[tuple[float, ...], tuple[int, int]] = {}
    for number, record in enumerate(records):
        for position, key in enumerate(box_keys(record)):
            boxes.setdefault(key, (number, position))
    first = records[0]
    chosen = list(boxes.values())
    one_file = all(record.labels_file == first.labels_file for record in records)
    known = one_file and all(len(record.numbers) == len(record.boxes) for record in records)
    return dataclasses.replace(
        first,
        boxes=np.array([records[n].boxes[i] for n, i in chosen], np.float64).reshape(-1, 4),
        labels=np.array([records[n].labels[i] for n, i in chosen], np.int64),
        crowd=np.array([records[n].crowd[i] for n, i in chosen], np.bool_),
        areas=np.array([records[n].areas[i] for n, i in chosen], np.float64),
        numbers=np.array([records[n].numbers[i] for n, i in chosen] if known else [], np.int64),
        unlabelled=tuple(label for label in first.unlabelled if all(label in record.unlabelled for record in records)),
    )
