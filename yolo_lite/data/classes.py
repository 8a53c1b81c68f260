"""Sets by their classes, matched by name: some of them, other labels, several sets in one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from yolo_lite.errors import InputError, some
from yolo_lite.structures.datasets import Classes, ClassificationSet, DetectionSet, ImageRecord

AnySet = TypeVar("AnySet", DetectionSet, ClassificationSet)


def select_classes(data: AnySet, names: Sequence[str]) -> AnySet:
    """Keep only some classes, in the order given. An image without an object of them stays in a detection set.

    Raises:
        InputError: for a class the set lacks, naming the nearest.
    """
    return data.with_classes(data.classes.select(names, source=data.source))


def refuse_unknown_classes(data: ClassificationSet, names: Sequence[str]) -> None:
    """Raise InputError where a set has images of a class that is not among some names."""
    present = set(data.labels.tolist())
    unknown = [name for label, name in enumerate(data.class_names) if label in present and name not in names]
    if unknown:
        raise InputError(f"{data.source} has pictures of {some(unknown)}, a class missing from train ({some(names)})")


def refuse_empty_classes(data: ClassificationSet) -> None:
    """Raise InputError where there is nothing to tell apart: one class only, or a class without an image."""
    if len(data.class_names) < 2:
        raise InputError(f"{data.source} has one class only ({some(data.class_names)}); to classify takes two or more")
    counts = np.bincount(data.labels, minlength=len(data.class_names))
    empty = [name for name, count in zip(data.class_names, counts) if not count]
    if empty:
        raise InputError(f"{data.source} has no picture of the class {some(empty)}")


def shown_classes(data: DetectionSet) -> list[str]:
    """Return the names of the classes of which a set has an object, crowd regions not counted."""
    used = {int(label) for record in data.records for label in record.labels[~record.crowd]}
    return [name for label, name in enumerate(data.class_names) if label in used]


def merge_sets(sets: Sequence[DetectionSet]) -> DetectionSet:
    """Join sets by class name; ids of images and categories are kept where no two clash, else counted from 1.

    In the images of a set that does not know a class, the absence of that class means nothing.
    """
    if len(sets) == 1:
        return sets[0]
    classes = Classes.join([data.classes for data in sets])
    records: list[ImageRecord] = []
    for data in sets:
        unknown = tuple(label for label, name in enumerate(classes.names) if name not in data.class_names)
        for record in data.with_classes(classes).records:
            records.append(dataclasses.replace(record, unlabelled=(*record.unlabelled, *unknown)))
    if len({record.image_id for record in records}) < len(records):
        records = [dataclasses.replace(record, image_id=number) for number, record in enumerate(records, 1)]
    return DetectionSet(
        tuple(records),
        classes.names,
        category_ids=classes.category_ids,
        source=" + ".join(data.source for data in sets),
        dropped=sum(data.dropped for data in sets),
        notes=tuple(dict.fromkeys(note for data in sets for note in data.notes)),
    )
