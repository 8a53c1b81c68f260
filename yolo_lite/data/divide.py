"""Divide sets by a seed: a part held out, a part drawn, percentages of each class."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from yolo_lite.errors import InputError, counted
from yolo_lite.structures.datasets import ClassificationSet, DetectionSet

DEFAULT_SHARES = "70/15/15"
HELD_OUT = 0.1  # fraction of the training images, where there is no validation split
_HOLD_OUT, _DRAW = 1, 2  # what tells the random numbers of one purpose from those of another


def hold_out(train: DetectionSet, seed: int) -> tuple[DetectionSet, DetectionSet]:
    """Set a tenth of the images aside, with an object among them where there is one.

    Returns:
        What is left to train on, and what was set aside.

    Raises:
        InputError: where there is one image only.
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
    """Draw a fraction of the images, at least one."""
    total = len(train.records)
    order = np.random.default_rng([seed, _DRAW]).permutation(total)
    return train.pick(order[: max(1, round(fraction * total))].tolist())


def parse_shares(text: str) -> tuple[float, ...]:
    """Return fractions that sum to 1 from a text such as 70/15/15 or 80/20.

    Raises:
        InputError: where it is none.
    """
    parts = text.split("/") if isinstance(text, str) else []
    if len(parts) in (2, 3) and all(part.strip().isdecimal() for part in parts):
        numbers = [int(part) for part in parts]
        if sum(numbers) == 100 and min(numbers) > 0:
            return tuple(number / 100 for number in numbers)
    raise InputError(f"--split takes percentages of train, val and test such as {DEFAULT_SHARES}, got {text!r}")


def divide_classes(data: ClassificationSet, shares: Sequence[float], *, seed: int) -> tuple[ClassificationSet, ...]:
    """Divide each class by fractions: all but the first are rounded, and get at least one image.

    Raises:
        InputError: naming a class with too few images.
    """
    order = np.random.default_rng([seed, _HOLD_OUT]).permutation(len(data.records)).tolist()
    return _divide(data, shares, order)


def hold_out_classes(
    train: ClassificationSet, classes: Sequence[str], *, seed: int
) -> tuple[ClassificationSet, ClassificationSet]:
    """Set a tenth of each class aside; which images these are does not depend on the other classes asked for.

    Args:
        train: with all its classes.
        classes: only these; none: all.
        seed: of the draw.

    Returns:
        What is left to train on, and what was set aside.
    """
    chosen = train.with_classes(train.classes.select(classes or train.class_names, source=train.source))
    order = np.random.default_rng([seed, _HOLD_OUT]).permutation(len(train.records)).tolist()
    taken = (train.classes.labels_in(chosen.classes) >= 0)[train.labels]
    position = np.cumsum(taken) - 1
    left, aside = _divide(chosen, (1 - HELD_OUT, HELD_OUT), [int(position[i]) for i in order if taken[i]])
    return left, aside


def draw_classes(train: ClassificationSet, fraction: float, *, per_class: int, seed: int) -> ClassificationSet:
    """Draw a fraction of each class, at least one image, and at most `per_class` (0: any number)."""
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
            raise InputError(f"{data.source}: the class {name} has too few images to be split")
        chosen[0] += own
    return tuple(data.pick(positions) for positions in chosen)
