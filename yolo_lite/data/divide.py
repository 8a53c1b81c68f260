"""Divide sets by a seed: hold a part out, draw a fraction, or split each class by percentages."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from yolo_lite.errors import InputError, counted
from yolo_lite.structures.datasets import ClassificationSet, DetectionSet

DEFAULT_SHARES = "70/15/15"
HELD_OUT = 0.1  # fraction of the training images to set aside if there is no validation split
_HOLD_OUT, _DRAW = 1, 2  # part of the seed, so that the two purposes get different random numbers


def hold_out(train: DetectionSet, seed: int) -> tuple[DetectionSet, DetectionSet]:
    """Set a tenth of the images aside, at least one of them with an object if there is any.

    Returns:
        The remaining training set, and the images set aside.

    Raises:
        InputError: if there are fewer than two images.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> train, aside = hold_out(read_split("my_images", "train"), seed=0)
        >>> len(train.records), len(aside.records)
        (5, 1)
    """
    total = len(train.records)
    if total < 2:
        raise InputError(f"{train.source} has {total} image and no validation split: nothing to validate on")
    with_objects = np.unique(train.records.image_of_objects[~train.records.objects.crowd]).tolist()
    order = np.random.default_rng([seed, _HOLD_OUT]).permutation(total).tolist()
    count = max(1, round(HELD_OUT * total))
    aside = set(order[:count])
    if with_objects and not aside & set(with_objects):
        aside = {*order[: count - 1], with_objects[0]}
    return train.pick(set(range(total)) - aside), train.pick(aside)


def draw(train: DetectionSet, fraction: float, *, seed: int) -> DetectionSet:
    """Draw a fraction of the images, at least one.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> len(draw(read_split("my_images", "train"), 0.5, seed=0).records)
        3
    """
    total = len(train.records)
    order = np.random.default_rng([seed, _DRAW]).permutation(total)
    return train.pick(order[: max(1, round(fraction * total))].tolist())


def parse_shares(text: str) -> tuple[float, ...]:
    """Return fractions that sum to 1 from a text such as 70/15/15 or 80/20.

    Raises:
        InputError: if the text is not two or three percentages above 0 that sum to 100.

    Example:
        >>> parse_shares("80/20")
        (0.8, 0.2)
    """
    parts = text.split("/") if isinstance(text, str) else []
    if len(parts) in (2, 3) and all(part.strip().isdecimal() for part in parts):
        numbers = [int(part) for part in parts]
        if sum(numbers) == 100 and min(numbers) > 0:
            return tuple(number / 100 for number in numbers)
    raise InputError(f"--shares takes percentages of train, val and test such as {DEFAULT_SHARES}, got {text!r}")


def divide_classes(data: ClassificationSet, shares: Sequence[float], *, seed: int) -> tuple[ClassificationSet, ...]:
    """Divide each class by fractions. All parts but the first are rounded, and get at least one image.

    Raises:
        InputError: if a class has too few images; the message names it.

    Example:
        >>> from yolo_lite.data.class_catalog import read_class_splits
        >>> splits, _ = read_class_splits("my_classes")
        >>> [len(part.records) for part in divide_classes(splits["train"], (0.75, 0.25), seed=0)]
        [6, 2]
    """
    order = np.random.default_rng([seed, _HOLD_OUT]).permutation(len(data.records)).tolist()
    return _divide(data, shares, order)


def hold_out_classes(
    train: ClassificationSet, classes: Sequence[str], *, seed: int
) -> tuple[ClassificationSet, ClassificationSet]:
    """Set a tenth of each class aside. Which images these are does not depend on the other classes chosen.

    Args:
        train: the set with all its classes.
        classes: the classes to keep; empty for all.
        seed: seed of the draw.

    Returns:
        The remaining training set, and the images set aside.

    Example:
        >>> from yolo_lite.data.class_catalog import read_class_splits
        >>> splits, _ = read_class_splits("my_classes")
        >>> [len(part.records) for part in hold_out_classes(splits["train"], [], seed=0)]
        [6, 2]
    """
    chosen = train.with_classes(train.classes.select(classes or train.class_names, source=train.source))
    order = np.random.default_rng([seed, _HOLD_OUT]).permutation(len(train.records)).tolist()
    taken = (train.classes.labels_in(chosen.classes) >= 0)[train.labels]
    position = np.cumsum(taken) - 1
    left, aside = _divide(chosen, (1 - HELD_OUT, HELD_OUT), [int(position[i]) for i in order if taken[i]])
    return left, aside


def draw_classes(train: ClassificationSet, fraction: float, *, per_class: int, seed: int) -> ClassificationSet:
    """Draw a fraction of each class: at least one image, and at most `per_class` (0: no limit).

    Example:
        >>> from yolo_lite.data.class_catalog import read_class_splits
        >>> splits, _ = read_class_splits("my_classes")
        >>> len(draw_classes(splits["train"], 0.5, per_class=0, seed=0).records)
        4
    """
    order = np.random.default_rng([seed, _DRAW]).permutation(len(train.records))
    labels = train.labels[order]
    chosen: list[int] = []
    for label in range(len(train.class_names)):
        own = order[labels == label].tolist()
        count = max(1, round(fraction * len(own)))
        chosen += own[: min(count, per_class) if per_class else count]
    return train.pick(chosen)


def _divide(data: ClassificationSet, shares: Sequence[float], drawn: Sequence[int]) -> tuple[ClassificationSet, ...]:
    order = np.array(drawn, np.int64)
    chosen: list[list[int]] = [[] for _ in shares]
    labels = data.labels[order]
    for label, name in enumerate(data.class_names):
        own = order[labels == label].tolist()
        total = len(own)
        if total < len(shares):
            raise InputError(
                f"{data.source}: the class {name} has {counted(total, 'image')}, too few to split in {len(shares)}"
            )
        for part, share in list(enumerate(shares))[:0:-1]:
            count = max(1, round(share * total))
            chosen[part] += own[:count]
            own = own[count:]
        if not own:
            raise InputError(f"{data.source}: the class {name} has too few images to split")
        chosen[0] += own
    return tuple(data.pick(positions) for positions in chosen)
