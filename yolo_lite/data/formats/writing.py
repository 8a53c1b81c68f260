"""What the writers of all layouts share: text files, and notes about what a layout cannot store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from yolo_lite.errors import counted
from yolo_lite.files import write_atomically
from yolo_lite.structures.datasets import DetectionSet

Names = Mapping[tuple[str, int], str]  # file name of each image, by split and image id


def write_text(path: Path, text: str) -> None:
    """Write a text file completely or not at all.

    Example:
        >>> write_text(Path("names.txt"), "cat")
        >>> Path("names.txt").read_text()
        'cat'
    """
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def lost_in_text(sets: Iterable[DetectionSet], layout: str) -> list[str]:
    """Return notes about what some sets lose in a layout of boxes and class names only.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> lost_in_text([read_split("my_images", "val")], "YOLO txt")
        ['YOLO txt has no category ids of its own: classes are renumbered']
    """
    sets = list(sets)
    notes = []
    masks = count_masks(sets)
    if masks:
        notes.append(f"{layout} has no areas: the mask areas of {counted(masks, 'object')} become width times height")
    if any(data.category_ids != tuple(range(len(data.category_ids))) for data in sets):
        notes.append(f"{layout} has no category ids of its own: classes are renumbered")
    partly = sum(int((data.records.unlabelled.counts() > 0).sum()) for data in sets)
    if partly:
        notes.append(
            f"{layout} cannot mark an image as labelled for some classes only: {counted(partly, 'image')} lost that mark"
        )
    return notes


def count_masks(sets: Iterable[DetectionSet]) -> int:
    """Count the objects whose area differs from that of their box.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> count_masks([read_split("my_images", "val")])
        0
    """
    count = 0
    for data in sets:
        objects = data.records.objects
        sizes = (objects.boxes[:, 2:] - objects.boxes[:, :2]).prod(1)
        count += int((~np.isclose(objects.areas, sizes, rtol=1e-6)).sum())
    return count
