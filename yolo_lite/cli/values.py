"""Parse and check the values of flags, before a command starts its work."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from yolo_lite.checks import check_overlap, check_tiles
from yolo_lite.cli.screen import note
from yolo_lite.errors import InputError
from yolo_lite.files import check_can_create, claim_folder, give_back, gone_if_empty
from yolo_lite.shipped import DEFAULT_WEIGHTS, find_weights, is_full, shipped

SHARES = "70/15/15"


def prepare(args: argparse.Namespace) -> None:
    """Check the values of the flags, and replace them by what they mean.

    `image_size` becomes (height, width), and `time` becomes minutes. A command whose network may be a classifier sets
    `any_size`, and calls `check_sides` itself if the network turns out to be a detector.

    Raises:
        InputError: for a value that no command could use, before anything slow is imported.
    """
    given = {name: value for name, value in vars(args).items() if value is not None}
    if "image_size" in given:
        args.image_size = sides(args.image_size)
        if not getattr(args, "any_size", False):
            check_sides(args.image_size)
    check_tiling(given)
    if "time" in given:
        args.time = parse_minutes(args.time)
    if "shares" in given:
        check_shares(args.shares)
    if not 0 < given.get("fraction", 1.0) <= 1:
        raise InputError(f"--fraction must be above 0 and at most 1, got {args.fraction:g}")
    if given.get("weights", "none") != "none" and not getattr(args, "resume", False):
        find_weights(args.weights)
    for name in given.keys() & {"out", "report"}:
        check_can_create(Path(given[name]))
    if "out_file" in given:
        check_can_create(args.out_file.parent)


def text(text: str) -> str:
    """Return a text that is not empty."""
    if not text:
        raise argparse.ArgumentTypeError("expected a value, got an empty text (an unset variable?)")
    return text


def path(text_: str) -> Path:
    """Return a path; an empty text, which would be the current folder, is refused."""
    return Path(text(text_))


def names(text: str) -> list[str]:
    """Return names from a text such as person,car."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError("expected class names separated by commas")
    return names


def positive(text: str) -> int:
    """Return a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def is_exported(weights: str | None) -> bool:
    """Return whether weights, or the shipped ones for None, are an exported file, by their suffix."""
    if not is_full() and (weights or DEFAULT_WEIGHTS) in shipped("weights", ".onnx"):
        return True
    return weights is not None and weights.lower().endswith((".onnx", ".xml"))


def batch(text: str) -> str:
    """Return "dynamic", or a whole number of at least 1."""
    if text != "dynamic" and (not text.isdecimal() or int(text) < 1):
        raise argparse.ArgumentTypeError(f"expected dynamic or a whole number of at least 1, got {text!r}")
    return text


def seed(text: str) -> int:
    """Return a whole number from 0 to 2**53."""
    if not text.isdecimal() or int(text) > 2**53:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 2**53, got {text!r}")
    return int(text)


def workers(text: str) -> int:
    """Return a whole number of at least -1."""
    if not text.removeprefix("-").isdecimal() or int(text) < -1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, or -1 for auto, got {text!r}")
    return int(text)


def unit(text: str) -> float:
    """Return a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text!r}")
    return value


def seconds(text: str) -> float:
    """Return a number of seconds above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 86_400:
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0, got {text!r}")
    return value


def port(text: str) -> int:
    """Return a port, from 0 to 65535."""
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"expected a port from 0 to 65535, got {text!r}")
    return int(text)


def font_file(text: str) -> Path:
    """Return the path of a font that can be read."""
    from yolo_lite.draw.fonts import check_font

    try:
        return check_font(Path(text))
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def sides(numbers: Sequence[int]) -> tuple[int, int]:
    """Return (height, width) from the one or two numbers of --image-size."""
    if len(numbers) > 2:
        raise InputError(f"--image-size takes one side, or height and width, got {len(numbers)} numbers")
    return numbers[0], numbers[-1]


def check_sides(size: tuple[int, int] | None) -> None:
    """Raise InputError if --image-size is given but does not suit a detector: it takes multiples of 32."""
    from yolo_lite.config.schema import check_image_size

    if size:
        check_image_size(size, name="--image-size")


def check_tiling(given: Mapping[str, Any]) -> None:
    """Raise InputError if the flags about tiles make no sense, alone or together."""
    if "tiles" in given and "tile" in given:
        raise InputError("--tiles names a grid and --tile the side of a tile; leave one out")
    if "overlap" in given and not ("tiles" in given or "tile" in given):
        raise InputError("--overlap is the overlap of tiles; add --tiles 2x2 or --tile 640")
    if "tiles" in given and "x" not in given["tiles"]:
        raise InputError(f"--tiles takes rows and columns such as 2x2, got {given['tiles']!r}; a side goes with --tile")
    checks: Mapping[str, Callable[[Any], object]] = {
        "tiles": check_tiles,
        "tile": check_tiles,
        "overlap": check_overlap,
    }
    for name, check in checks.items():
        try:
            if name in given:
                check(given[name])
        except InputError as error:
            raise InputError(f"--{name}: {error}") from error


def check_shares(text: str) -> None:
    """Raise InputError unless a text holds percentages such as 70/15/15 or 80/20."""
    parts = [part.strip() for part in text.split("/")]
    numbers = [int(part) for part in parts if part.isdecimal()]
    if len(numbers) != len(parts) or len(numbers) not in (2, 3) or sum(numbers) != 100 or min(numbers) == 0:
        raise InputError(f"--shares takes percentages of train, val and test such as {SHARES}, got {text!r}")


def parse_minutes(text: str) -> float:
    """Return the minutes that a text such as 20m, 1h30m, 90s or 45 (minutes) means.

    Raises:
        InputError: for any other text, and for a duration of zero.
    """
    number = r"(\d+(?:\.\d+)?)"
    plain = re.fullmatch(number, text.strip())
    match = re.fullmatch(f"(?:{number}h)?(?:{number}m)?(?:{number}s)?", f"{text.strip()}m" if plain else text.strip())
    hours, minutes, seconds = (float(part or 0) for part in match.groups()) if match else (0.0, 0.0, 0.0)
    total = 60 * hours + minutes + seconds / 60
    if not total:
        raise InputError(f"--time takes a duration such as 20m, 1h30m or 90s, got {text!r}")
    return total


def parse_box(text: str) -> tuple[float, float, float, float]:
    """Return the corners (x1, y1, x2, y2) that --box names."""
    try:
        x1, y1, x2, y2 = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"--box takes x1,y1,x2,y2 such as 10,20,110,220, got {text!r}") from error
    if not (x1 < x2 and y1 < y2):
        raise InputError(f"--box takes the upper left and the lower right corner, got {text!r}")
    return x1, y1, x2, y2


def line(text: str) -> tuple[float, ...]:
    """Return the four numbers of a line such as 0,300,640,300."""
    return _coordinates(text, "x1,y1,x2,y2 such as 0,300,640,300", fits=lambda count: count == 4)


def zone(text: str) -> tuple[float, ...]:
    """Return the numbers of the corners of a zone such as 0,300,640,300,640,480."""
    usual = "x1,y1,x2,y2,x3,y3 and more corners such as 0,300,640,300,640,480,0,480"
    return _coordinates(text, usual, fits=lambda count: count >= 6 and count % 2 == 0)


def _coordinates(text: str, expected: str, *, fits: Callable[[int], bool]) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not fits(len(numbers)) or not all(map(math.isfinite, numbers)):
        raise argparse.ArgumentTypeError(f"expected {expected} (pixels, or fractions from 0 to 1), got {text!r}")
    return numbers


@contextmanager
def output_folder(given: str | None, kind: str) -> Iterator[Path]:
    """Yield the folder of --out, or a new runs/KIND-N; one that the command creates is removed again if it stays empty."""
    if given:
        with gone_if_empty(Path(given)):
            yield Path(given)
        return
    folder = claim_folder(kind)
    try:
        yield folder
    finally:
        give_back(folder)


def note_missing_letters(class_names: Iterable[str], font: Path | None) -> None:
    """Print which letters of the class names are missing from --font and the system's fonts."""
    from yolo_lite.draw.fonts import missing_letters

    line = missing_letters(class_names, font)
    if line:
        note(f"{line}; or name one with --font")
