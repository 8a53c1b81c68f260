"""Check the arguments of the Python interface, and explain what to pass instead of a wrong one."""

from __future__ import annotations

import math
import operator
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from yolo_lite.errors import InputError, short, some


def check_whole(value: Any, name: str, *, minimum: int = 1) -> int:
    """Return a whole number as an int; numbers of NumPy and torch are accepted, texts and truth values are not.

    Raises:
        InputError: if the value is not a whole number, or is below the minimum.

    Example:
        >>> check_whole(np.int64(8), "batch_size")
        8
        >>> check_whole(2.5, "batch_size")
        Traceback (most recent call last):
        yolo_lite.errors.InputError: batch_size must be a whole number of at least 1, got 2.5
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


def check_variable(
    name: str, environment: Mapping[str, str], *, usual: int | None = None, remedy: str = "correct or unset it"
) -> int:
    """Return the whole number of at least 0 that an environment variable holds.

    Args:
        name: of the variable.
        environment: the variables by name, such as os.environ.
        usual: the number if the variable is not set; None: it must be set.
        remedy: what to do about any other text.

    Raises:
        InputError: if the text is no such number.

    Example:
        >>> check_variable("RANK", {"RANK": "3"}), check_variable("RANK", {}, usual=0)
        (3, 0)
        >>> check_variable("RANK", {"RANK": "-1"})
        Traceback (most recent call last):
        yolo_lite.errors.InputError: the environment variable RANK must be a whole number, got '-1'; correct or unset it
    """
    if name not in environment and usual is not None:
        return usual
    text = environment.get(name, "")
    if not text.isdecimal() or len(text) > _MOST_DIGITS:
        raise InputError(f"the environment variable {name} must be a whole number, got {short(text)}; {remedy}")
    return int(text)


_MOST_DIGITS = 18  # of a number that fits into 64 bits


def check_number(value: Any, name: str) -> float:
    """Return a finite number as a float; numbers of NumPy and torch are accepted.

    Raises:
        InputError: if the value is a text, a truth value, not finite, or not a single number.

    Example:
        >>> check_number(2, "lr")
        2.0
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
    """Return a number from 0 to 1; raise InputError for anything else.

    Example:
        >>> check_share(1.5, "iou_threshold")
        Traceback (most recent call last):
        yolo_lite.errors.InputError: iou_threshold must be from 0 to 1, got 1.5
    """
    if isinstance(value, float) and math.isnan(value):
        raise InputError(f"{name} must be from 0 to 1, got nan")
    number = check_number(value, name)
    if not 0 <= number <= 1:
        raise InputError(f"{name} must be from 0 to 1, got {value}")
    return number


def check_side_lengths(value: Any, name: str = "image_size") -> tuple[int, int]:
    """Return (height, width) from one number for both, or from a pair; raise InputError for anything else.

    Example:
        >>> check_side_lengths(320), check_side_lengths([320, 640])
        ((320, 320), (320, 640))
    """
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
        value: the class names, or None.
        known: all existing class names, if they are known, for the message.

    Raises:
        InputError: if the value is a single text, has no names, or has items other than texts.

    Example:
        >>> check_class_names(["person", "car"])
        ('person', 'car')
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
        raise InputError("classes is empty; leave it out (None) for all classes")
    for name in names:
        if not isinstance(name, str):
            there = f" ({some(known)})" if known else ""
            raise InputError(
                f"classes must be a list of names{there}, got the item {shown(name)}; pass names such as {example}"
            )
    if isinstance(value, set | frozenset):
        names = tuple(sorted(names))  # the order of a set differs from run to run
    return tuple(str(name) for name in names)


def check_split(value: Any) -> str:
    """Return the name of a split; raise InputError if it is not a text.

    Example:
        >>> check_split("val")
        'val'
    """
    if not isinstance(value, str):
        raise InputError(f"split must be train, val or test, got {shown(value)}")
    return value


def check_box(value: Any, name: str = "box") -> list[float]:
    """Return a box as a list of four numbers, x1, y1, x2, y2; raise InputError for anything else.

    Example:
        >>> check_box((0, 0, 10, 20))
        [0.0, 0.0, 10.0, 20.0]
    """
    sides = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(sides, Sequence) or isinstance(sides, str | bytes) or len(sides) != 4:
        raise InputError(f"{name} must be four numbers x1, y1, x2, y2, got {shown(value)}")
    return [check_number(side, name) for side in sides]


def check_path(value: Any, name: str) -> str:
    """Return a path, or the bare name of a shipped file, as text; raise InputError for anything else.

    Example:
        >>> check_path(Path("runs/best.pt"), "weights")
        'runs/best.pt'
    """
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
    """Return a value for a message: its Python form on one line, or only its type if that is long.

    Example:
        >>> shown([1, 2]), shown(list(range(100)))
        ('[1, 2]', 'a list')
    """
    text = " ".join(repr(value).split())
    return text if len(text) < 80 else f"a {type(value).__name__}"


SMALLEST_TILE = 32  # pixels: the shortest side of a tile
MOST_TILES = 64  # rows or columns of a grid of tiles
MOST_OVERLAP = 0.9  # of neighbouring tiles, as a fraction of their side


def check_overlap(value: Any) -> float:
    """Return the overlap of neighbouring tiles, a fraction of their side; raise InputError for anything else.

    Example:
        >>> check_overlap(1)
        Traceback (most recent call last):
        yolo_lite.errors.InputError: overlap must be from 0 to 0.9, a fraction of a tile's side, got 1
    """
    number = check_number(value, "overlap")
    if not 0 <= number <= MOST_OVERLAP:
        raise InputError(f"overlap must be from 0 to {MOST_OVERLAP}, a fraction of a tile's side, got {number:g}")
    return number


def check_tiles(value: Any) -> tuple[tuple[int, int] | None, int]:
    """Return rows and columns of tiles, or None and the side of a tile; raise InputError for anything else.

    Example:
        >>> check_tiles("2x3"), check_tiles(640)
        (((2, 3), 0), (None, 640))
        >>> check_tiles(8)
        Traceback (most recent call last):
        yolo_lite.errors.InputError: the side of tiles must be at least 32 pixels, got 8; a grid is written as 2x2
    """
    text = value if isinstance(value, str) else ""
    match = re.fullmatch(r"([0-9]{1,9})x([0-9]{1,9})", text)
    if match:
        rows, columns = int(match[1]), int(match[2])
        if not (1 <= rows <= MOST_TILES and 1 <= columns <= MOST_TILES):
            raise InputError(f"tiles must have 1 to {MOST_TILES} rows and columns, got {text}")
        return (rows, columns), 0
    if isinstance(value, bool) or not (re.fullmatch("[0-9]{1,9}", text) or hasattr(value, "__index__")):
        raise InputError(
            f"tiles must be rows and columns such as 2x2, or the side of a tile in pixels, got {shown(value)}"
        )
    side = int(text) if text else check_whole(value, "tiles", minimum=-(2**62))
    if side < SMALLEST_TILE:
        raise InputError(
            f"the side of tiles must be at least {SMALLEST_TILE} pixels, got {side}; a grid is written as 2x2"
        )
    return None, side
