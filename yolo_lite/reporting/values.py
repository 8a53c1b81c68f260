"""Numbers as a report writes them; a number that was not measured is an en dash."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from yolo_lite.reporting.markup import Html, element

DASH = "\N{EN DASH}"
_MINUS = "\N{MINUS SIGN}"
_SPACE = "\N{NO-BREAK SPACE}"
LEVEL = f"95{_SPACE}%"  # of every interval


def number(value: object) -> float | None:
    """Return a finite number, or None for null, text, NaN and infinity.

    Example:
        >>> number(0.5), number(None), number(float("nan")), number("0.5")
        (0.5, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def numbers(values: object) -> list[float | None]:
    """Return a list of numbers and None; anything that is no list is an empty one.

    Example:
        >>> numbers([1, None, 0.5]), numbers(None)
        ([1.0, None, 0.5], [])
    """
    return [number(value) for value in values] if isinstance(values, Sequence) and not isinstance(values, str) else []


def measured(values: Iterable[float | None]) -> list[float]:
    """Return the numbers that were measured.

    Example:
        >>> measured([0.1, None])
        [0.1]
    """
    return [value for value in values if value is not None]


def decimal(value: object, *, places: int = 3, signed: bool = False) -> str:
    """Return a number with its decimals, or a dash.

    Example:
        >>> decimal(0.34449), decimal(None), decimal(0.5, places=2), decimal(0.01, signed=True)
        ('0.344', '–', '0.50', '+0.010')
    """
    finite = number(value)
    if finite is None:
        return DASH
    text = f"{finite:+,.{places}f}" if signed else f"{finite:,.{places}f}"
    if not any(digit in text for digit in "123456789"):
        text = text.lstrip("+-")
    return text.replace("-", _MINUS)


def percent(value: object) -> str:
    """Return a fraction in percent, or a dash; what is neither none nor all never reads as 0 % or 100 %.

    Example:
        >>> [percent(value).replace("\\xa0", " ") for value in (0.614, 0.999, 0.001, 1, None)]
        ['61 %', '> 99 %', '< 1 %', '100 %', '–']
    """
    fraction = number(value)
    if fraction is None:
        return DASH
    if 0 < fraction < 0.005:
        return f"<{_SPACE}1{_SPACE}%"
    if 0.995 <= fraction < 1:
        return f">{_SPACE}99{_SPACE}%"
    return f"{100 * fraction:.0f}{_SPACE}%".replace("-", _MINUS)


def whole(value: object) -> str:
    """Return a count with commas between thousands, or a dash.

    Example:
        >>> whole(12345), whole(None)
        ('12,345', '–')
    """
    return decimal(value, places=0)


def counted(value: object, noun: str, *, plural: str = "") -> str:
    """Return a count with its noun.

    Example:
        >>> counted(1, "image"), counted(2512, "object"), counted(2, "class", plural="classes")
        ('1 image', '2,512 objects', '2 classes')
    """
    return f"{whole(value)} {noun if number(value) == 1 else plural or noun + 's'}"


def probability(value: object) -> str:
    """Return a p-value: "p = 0.012", "p < 0.001", or "p not measured".

    Example:
        >>> probability(0.0123), probability(0), probability(None)
        ('p = 0.012', 'p < 0.001', 'p not measured')
    """
    p = number(value)
    if p is None:
        return "p not measured"
    return f"p = {p:.3f}" if p >= 0.001 else "p < 0.001"


def interval(low: object, high: object, *, signed: bool = False) -> str:
    """Return "0.320 to 0.370", or a dash if either end is unknown.

    Example:
        >>> interval(0.32, 0.37), interval(None, 0.37)
        ('0.320 to 0.370', '–')
    """
    if number(low) is None or number(high) is None:
        return DASH
    return f"{decimal(low, signed=signed)} to {decimal(high, signed=signed)}"


def word(value: object) -> str:
    """Return a text from the data, or a dash for null.

    Example:
        >>> word("fog"), word(None)
        ('fog', '–')
    """
    return DASH if value is None else str(value)


def cell_text(text: str) -> str | Html:
    """Return a text for a table; a dash says in words what it means.

    Example:
        >>> cell_text("0.344"), cell_text("–")
        ('0.344', '<span class="none" title="not measured">–</span>')
    """
    return element("span", text, class_="none", title="not measured") if text == DASH else text
