"""What the writers of all layouts share: the names of images, and what a layout has no place for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from yolo_lite.errors import counted
from yolo_lite.files import write_atomically
from yolo_lite.structures.datasets import DetectionSet

Names = Mapping[tuple[str, int], str]  # of the file of each image, by split and image id


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


def lost_in_text(sets: Iterable[DetectionSet], layout: str) -> list[str]:
    """Say what of some sets is lost in a layout of boxes and class names alone."""
    sets = list(sets)
    notes = []
    masks = count_masks(sets)
    if masks:
        notes.append(
            f"{layout} has no areas: those of {counted(masks, 'object')}, of their masks, become width times height"
        )
    if any(data.category_ids != tuple(range(len(data.category_ids))) for data in sets):
        notes.append(f"{layout} has no category ids of its own: classes are numbered anew")
    partly = sum(int((data.records.unlabelled.counts() > 0).sum()) for data in sets)
    if partly:
        notes.append(
            f"{layout} cannot say that an image is labelled for some classes only: {counted(partly, 'image')} "
            "without that"
        )
    return notes


def count_masks(sets: Iterable[DetectionSet]) -> int:
    """Count the objects whose area is not that of their box."""
    count = 0
    for data in sets:
        objects = data.records.objects
        sizes = (objects.boxes[:, 2:] - objects.boxes[:, :2]).prod(1)
        count += int((~np.isclose(objects.areas, sizes, rtol=1e-6)).sum())
    return count
