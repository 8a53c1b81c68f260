"""What callers of the Python interface pass: taken as it is meant, or refused with what to pass instead."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from yolo_lite.errors import InputError, some


def check_whole(value: Any, name: str, *, minimum: int = 1) -> int:
    """Return a whole number as an int; NumPy's and torch's count as well, texts and truth values do not.

    Raises:
        InputError: for anything else, or a number below the minimum.
    """
    try:
        if isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool"):
            raise TypeError
        number = operator.index(value)
    except (TypeError, RuntimeError):  # RuntimeError: a tensor of several values
        raise InputError(f"{name} must be a whole number of at least {minimum}, got {shown(value)}") from None
    if number < minimum:
        raise InputError(f"{name} must be at least {minimum}, got {number}")
    return number


def check_number(value: Any, name: str) -> float:
    """Return a finite number as a float, NumPy's too.

    Raises:
        InputError: for texts, truth values and anything that is no single number.
    """
    try:
        if isinstance(value, bool | str | bytes):
            raise TypeError
        number = float(value)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{name} must be a number, got {shown(value)}") from None
    if not math.isfinite(number):
        raise InputError(f"{name} must be a finite number, got {number}")
    return number


def check_share(value: Any, name: str) -> float:
    """Return a number from 0 to 1; raise InputError for anything else."""
    if isinstance(value, float) and math.isnan(value):
        raise InputError(f"{name} must be from 0 to 1, got nan")
    number = check_number(value, name)
    if not 0 <= number <= 1:
        raise InputError(f"{name} must be from 0 to 1, got {value}")
    return number


def check_side_lengths(value: Any, name: str = "image_size") -> tuple[int, int]:
    """Return (height, width) from a number, which counts for both, or a pair; raise InputError for anything else."""
    sides = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(sides, Sequence) and not isinstance(sides, str | bytes):
        if len(sides) != 2:
            raise InputError(f"{name} must be one number or (height, width), got {shown(value)}")
        return check_whole(sides[0], name), check_whole(sides[1], name)
    if not hasattr(sides, "__index__"):
        raise InputError(f"{name} must be one number such as 320, or (height, width), got {shown(value)}")
    side = check_whole(sides, name)
    return side, side


def check_class_names(value: Any, known: Sequence[str] = ()) -> tuple[str, ...] | None:
    """Return class names as a tuple, or None for all classes.

    Args:
        value: names, or None.
        known: the names that there are, as far as they are known, for the message.

    Raises:
        InputError: for a single text, for numbers, and for no names at all.
    """
    if value is None:
        return None
    example = f"['{known[0] if known else 'person'}']"
    if isinstance(value, str):
        raise InputError(f"classes must be a list of names, got the text {value!r}; pass {[value]!r}")
    if isinstance(value, bytes | Mapping) or not isinstance(value, Iterable) or getattr(value, "ndim", 1) != 1:
        raise InputError(f"classes must be a list of names such as {example}, got {shown(value)}")
    names = tuple(value)
    if not names:
        raise InputError("classes names no class; leave it out (None) for all of them")
    for name in names:
        if not isinstance(name, str):
            there = f" of {some(known)}" if known else ""
            raise InputError(
                f"classes must be names{there}, not numbers or the like: got {shown(name)}; pass {example}"
            )
    if isinstance(value, set | frozenset):
        names = tuple(sorted(names))  # their own order differs from run to run
    return tuple(str(name) for name in names)


def check_split(value: Any) -> str:
    """Return the name of a split; raise InputError for anything but a text."""
    if not isinstance(value, str):
        raise InputError(f"split must be train, val or test, got {shown(value)}")
    return value


def check_box(value: Any, name: str = "box") -> list[float]:
    """Return a box, x1, y1, x2, y2, as four numbers; raise InputError for anything else."""
    sides = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(sides, Sequence) or isinstance(sides, str | bytes) or len(sides) != 4:
        raise InputError(f"{name} must be four numbers x1, y1, x2, y2, got {shown(value)}")
    return [check_number(side, name) for side in sides]


def check_path(value: Any, name: str) -> str:
    """Return a path, or the bare name of something shipped, as text; raise InputError for anything else."""
    try:
        path = os.fspath(value)
    except TypeError:
        raise InputError(f"{name} must be a path or a name, got {shown(value)}") from None
    if not isinstance(path, str):
        raise InputError(f"{name} must be a path of text, got {shown(path)}; pass os.fsdecode of it")
    if not path:
        raise InputError(f"{name} must be a path or a name, got an empty text")
    return path


def shown(value: Any) -> str:
    """Return a value for a message: as Python writes it, on one line, or its type where that is long."""
    text = " ".join(repr(value).split())
    return text if len(text) < 80 else f"a {type(value).__name__}"
