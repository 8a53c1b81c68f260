"""The parameters of requests: their names, values and descriptions, in one table that OpenAPI is written from."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from yolo_lite.checks import MOST_OVERLAP, SMALLEST_TILE, check_overlap, check_tiles
from yolo_lite.errors import InputError, short, suggest
from yolo_lite.serve.limits import RefusedError

LONGEST = 200  # letters of a name
MOST_LABELS = 1000


@dataclass(frozen=True, eq=False)
class Parameter:
    """A parameter of the query.

    Attributes:
        name: as it is written.
        help: what it means.
        schema: the JSON schema of its value.
        read: returns the value of a text; raises InputError.
        required: whether a request must have it.
    """

    name: str
    help: str
    schema: Mapping[str, Any]
    read: Callable[[str], Any]
    required: bool = False


def _number(text: str, *, expected: str, low: float, high: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise InputError(f"must be {expected}, got {short(text)}")
    return value


def _whole(text: str, *, low: int, high: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 12 and low <= int(text) <= high):
        raise InputError(f"must be a whole number from {low} to {high}, got {short(text)}")
    return int(text)


def _name(text: str) -> str:
    if not 1 <= len(text) <= LONGEST:
        raise InputError(f"must have 1 to {LONGEST} letters, got {len(text)}")
    return text


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise InputError(f"must be class names separated by commas, got {short(text)}")
    return names


def _grid(text: str) -> str:
    if "x" not in text:
        raise InputError(f"must be rows and columns such as 2x2, got {short(text)}; a side in pixels goes with tile")
    grid, _ = check_tiles(text)
    if grid is None or text != f"{grid[0]}x{grid[1]}":
        raise InputError(f"must be rows and columns such as 2x2, got {short(text)}")
    return text


def _box(text: str) -> tuple[float, float, float, float]:
    try:
        x1, y1, x2, y2 = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"must be x1,y1,x2,y2 in pixels of the image, got {short(text)}") from None
    if not (all(abs(side) < 1e6 for side in (x1, y1, x2, y2)) and x1 < x2 and y1 < y2):
        raise InputError(f"must be the upper left and the lower right corner, got {short(text)}")
    return x1, y1, x2, y2


_TILES = "([1-9]|[1-5][0-9]|6[0-4])"  # from 1 to MOST_TILES
_SIDE = r"[0-9]+(\.[0-9]+)?"
MODEL = Parameter(
    "model",
    "Name of a network, from /v1/models; default: the first one of the task.",
    {"type": "string", "minLength": 1, "maxLength": LONGEST},
    _name,
)
SOURCE = Parameter(
    "source",
    "Name of the image in the answer; default: the file name of a multipart upload, or request.",
    {"type": "string", "minLength": 1, "maxLength": LONGEST},
    _name,
)
SCORE_THRESHOLD = Parameter(
    "score_threshold",
    "Score above which detections are reported; default: the network's own.",
    {"type": "number", "minimum": 0, "maximum": 1},
    lambda text: _number(text, expected="a number from 0 to 1", low=0, high=1),
)
DETECT = (
    MODEL,
    SOURCE,
    SCORE_THRESHOLD,
    Parameter(
        "classes",
        "Names of the only classes to report, separated by commas; default: all.",
        {"type": "string", "pattern": "[^, ]"},
        _names,
    ),
    Parameter(
        "tiles",
        "Rows and columns of tiles to look at as well, such as 2x2, for small objects; not together with tile.",
        {"type": "string", "pattern": f"^{_TILES}x{_TILES}$"},
        _grid,
    ),
    Parameter(
        "tile",
        "Side of square tiles to look at as well, in pixels of the image.",
        {"type": "integer", "minimum": SMALLEST_TILE, "maximum": 99_999},
        lambda text: _whole(text, low=SMALLEST_TILE, high=99_999),
    ),
    Parameter(
        "overlap",
        "Overlap of neighbouring tiles, as a fraction of their side; default: 0.2.",
        {"type": "number", "minimum": 0, "maximum": MOST_OVERLAP},
        lambda text: check_overlap(_number(text, expected=f"from 0 to {MOST_OVERLAP}", low=0, high=MOST_OVERLAP)),
    ),
)
CLASSIFY = (
    MODEL,
    SOURCE,
    Parameter(
        "top",
        "Number of labels to report, the highest scores first; default: 5.",
        {"type": "integer", "minimum": 1, "maximum": MOST_LABELS},
        lambda text: _whole(text, low=1, high=MOST_LABELS),
    ),
)
WHY = (
    MODEL,
    SCORE_THRESHOLD,
    Parameter(
        "box",
        "Corners x1,y1,x2,y2 of an object, in pixels of the image.",
        {"type": "string", "pattern": f"^{_SIDE},{_SIDE},{_SIDE},{_SIDE}$"},
        _box,
        required=True,
    ),
)


def read_parameters(given: Iterable[tuple[str, str]], parameters: Sequence[Parameter]) -> dict[str, Any]:
    """Return the values of the parameters of a request, by name.

    Raises:
        RefusedError: for an unknown, repeated, missing or wrong parameter (422).

    Example:
        >>> read_parameters([("top", "3")], CLASSIFY)
        {'top': 3}
        >>> read_parameters([("topp", "3")], CLASSIFY)
        Traceback (most recent call last):
        yolo_lite.serve.limits.RefusedError: There is no parameter 'topp' here; did you mean 'top'?
    """
    known = {parameter.name: parameter for parameter in parameters}
    values: dict[str, Any] = {}
    for name, text in given:
        if name not in known:
            near = suggest(name, known).rstrip("?")
            mark = "?" if near.startswith("did") else "."
            raise RefusedError(422, f"There is no parameter {short(name)} here; {near}{mark}")
        if name in values:
            raise RefusedError(422, f"The parameter {name} stands twice; leave one out.")
        try:
            values[name] = known[name].read(text)
        except InputError as error:
            raise RefusedError(422, f"{name}: {error}.") from error
    for parameter in parameters:
        if parameter.required and parameter.name not in values:
            raise RefusedError(422, f"The parameter {parameter.name} is missing: {parameter.help}")
    return values
