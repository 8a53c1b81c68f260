"""Sets by their classes, matched by name: some of them, other labels, several sets in one."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from yolo_lite.errors import InputError, some
from yolo_lite.structures.datasets import Classes, ClassificationSet, DetectionSet
from yolo_lite.structures.records import Records

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
        raise InputError(f"{data.source} has images of {some(unknown)}, a class missing from train ({some(names)})")


def refuse_empty_classes(data: ClassificationSet) -> None:
    """Raise InputError where there is nothing to tell apart: one class only, or a class without an image."""
    if len(data.class_names) < 2:
        raise InputError(f"{data.source} has one class only ({some(data.class_names)}); to classify takes two or more")
    counts = np.bincount(data.labels, minlength=len(data.class_names))
    empty = [name for name, count in zip(data.class_names, counts) if not count]
    if empty:
        raise InputError(f"{data.source} has no image of the class {some(empty)}")


def shown_classes(data: DetectionSet) -> list[str]:
    """Return the names of the classes of which a set has an object, crowd regions not counted."""
    objects = data.records.objects
    counts = np.bincount(objects.labels[~objects.crowd], minlength=len(data.class_names))
    return [name for name, count in zip(data.class_names, counts) if count]


def merge_sets(sets: Sequence[DetectionSet]) -> DetectionSet:
    """Join sets by class name; ids of images and categories are kept where no two clash, else counted from 1.

    In the images of a set that does not know a class, the absence of that class means nothing.
    """
    if len(sets) == 1:
        return sets[0]
    classes = Classes.join([data.classes for data in sets])
    parts = []
    for data in sets:
        unknown = tuple(label for label, name in enumerate(classes.names) if name not in data.class_names)
        parts.append(data.with_classes(classes).records.without_classes(unknown))
    records = Records.join(parts)
    if len(np.unique(records.image_ids)) < len(records):
        records = dataclasses.replace(records, image_ids=np.arange(1, len(records) + 1))
    return DetectionSet(
        records,
        classes.names,
        category_ids=classes.category_ids,
        source=" + ".join(data.source for data in sets),
        dropped=sum(data.dropped for data in sets),
        notes=tuple(dict.fromkeys(note for data in sets for note in data.notes)),
    )
