"""Work with sets by class name: select classes, check them, merge several sets."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from yolo_lite.errors import InputError, some
from yolo_lite.structures.class_names import alike, names_in_data, spelling_notes
from yolo_lite.structures.datasets import Classes, ClassificationSet, DetectionSet
from yolo_lite.structures.records import Records

AnySet = TypeVar("AnySet", DetectionSet, ClassificationSet)


def select_classes(data: AnySet, names: Sequence[str]) -> AnySet:
    """Keep only some classes, in the given order. A detection set keeps images without an object of these classes.

    Raises:
        InputError: if the set lacks a class; the message suggests the nearest name.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> squares = select_classes(read_split("my_images", "train"), ["square"])
        >>> squares.class_names, len(squares.records)
        (('square',), 6)
    """
    return data.with_classes(data.classes.select(names, source=data.source))


def spell_as_in_training(
    val: AnySet, class_names: Sequence[str], *, chosen: Sequence[str] = (), split: str = "val"
) -> tuple[AnySet, list[str]]:
    """Give the classes of a validation split the names that they have in the training split.

    Names belong together as in `names_in_data`. A class that training does not know keeps its name.

    Args:
        val: the validation split.
        class_names: all classes of the training split.
        chosen: those of them that are used; empty for all. Names that resemble none of these are left alone.
        split: what messages call the validation split.

    Returns:
        The validation split, and a list with a note if there is a class that it spells differently.

    Raises:
        InputError: if a class could be several of the training split.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> val, notes = spell_as_in_training(read_split("my_images", "val"), ["Square", "disc"])
        >>> val.class_names, notes
        (('disc', 'Square'), ['1 class is spelled differently in val and train: square (known as Square)'])
    """
    known = alike(class_names, chosen) if chosen else class_names
    parts = (split, "train")
    spelled = names_in_data(known, val.class_names, parts=parts)
    in_training = dict(zip(spelled, known))
    names = tuple(in_training.get(name, name) for name in val.class_names)
    return dataclasses.replace(val, class_names=names), spelling_notes(known, val.class_names, parts=parts)


def refuse_unknown_classes(data: ClassificationSet, names: Sequence[str]) -> None:
    """Raise InputError if a set has images of a class that is not among `names`.

    Example:
        >>> pixels, labels = np.zeros((2, 8, 8), np.uint8), np.array([0, 1], np.uint8)
        >>> pets = ClassificationSet.from_arrays(pixels, labels, class_names=["cat", "dog"], source="pets")
        >>> refuse_unknown_classes(pets, ["cat"])
        Traceback (most recent call last):
        ...
        yolo_lite.errors.InputError: pets has images of dog, a class missing from train (cat)
    """
    present = set(data.labels.tolist())
    unknown = [name for label, name in enumerate(data.class_names) if label in present and name not in names]
    if unknown:
        raise InputError(f"{data.source} has images of {some(unknown)}, a class missing from train ({some(names)})")


def refuse_empty_classes(data: ClassificationSet) -> None:
    """Raise InputError if a set has fewer than two classes, or a class without an image.

    Example:
        >>> pixels, labels = np.zeros((2, 8, 8), np.uint8), np.array([0, 0], np.uint8)
        >>> pets = ClassificationSet.from_arrays(pixels, labels, class_names=["cat", "dog"], source="pets")
        >>> refuse_empty_classes(pets)
        Traceback (most recent call last):
        ...
        yolo_lite.errors.InputError: pets has no image of the class dog
    """
    if len(data.class_names) < 2:
        raise InputError(f"{data.source} has one class only ({some(data.class_names)}); a classifier needs two or more")
    counts = np.bincount(data.labels, minlength=len(data.class_names))
    empty = [name for name, count in zip(data.class_names, counts) if not count]
    if empty:
        raise InputError(f"{data.source} has no image of the class {some(empty)}")


def shown_classes(data: DetectionSet) -> list[str]:
    """Return the names of the classes that have at least one object in a set; crowd regions do not count.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> shown_classes(read_split("my_images", "train"))
        ['disc', 'square']
    """
    objects = data.records.objects
    counts = np.bincount(objects.labels[~objects.crowd], minlength=len(data.class_names))
    return [name for name, count in zip(data.class_names, counts) if count]


def merge_sets(sets: Sequence[DetectionSet]) -> DetectionSet:
    """Join sets by class name. Image and category ids are kept unless two clash; then they count from 1.

    If a set does not know a class, the absence of that class from its images means nothing.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> both = merge_sets([read_split("my_images", "train"), read_split("my_images", "val")])
        >>> len(both.records), both.class_names
        (9, ('disc', 'square'))
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
        ignored=" or ".join(sorted({data.ignored for data in sets if data.records.objects.crowd.any()})) or "crowd",
    )
