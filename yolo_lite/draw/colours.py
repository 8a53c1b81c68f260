"""Colours of classes, which colour-blind people can tell apart."""

from __future__ import annotations

_PALETTE = (  # Okabe and Ito 2008, "Color Universal Design", without black
    (230, 159, 0),  # orange
    (86, 180, 233),  # sky blue
    (0, 158, 115),  # bluish green
    (240, 228, 66),  # yellow
    (0, 114, 178),  # blue
    (213, 94, 0),  # vermilion
    (204, 121, 167),  # reddish purple
)


def class_colour(label: int) -> tuple[int, int, int]:
    """Return the colour (R, G, B in 0..255) of a class, which depends on its label alone.

    The first seven classes have the palette of Okabe and Ito. Later ones repeat it in lighter and darker tones.

    Example:
        >>> class_colour(0), class_colour(7)
        ((230, 159, 0), (241, 202, 115))
    """
    cycle, position = divmod(label, len(_PALETTE))
    depth, target = (0.0, 255) if cycle == 0 else (0.2 + 0.5 * _halving(-(-cycle // 2)), 255 if cycle % 2 else 0)
    red, green, blue = (round(value + depth * (target - value)) for value in _PALETTE[position])
    return red, green, blue


def track_colour(number: int) -> tuple[int, int, int]:
    """Return the colour of the track with a number; after 42 tracks the colours repeat.

    Example:
        >>> track_colour(1) == track_colour(43) == class_colour(0)
        True
    """
    return class_colour((number - 1) % 42)


def hex_colour(label: int) -> str:
    """Return the colour of a class as "#rrggbb".

    Example:
        >>> hex_colour(0)
        '#e69f00'
    """
    return "#{:02x}{:02x}{:02x}".format(*class_colour(label))


def is_dark(colour: tuple[int, int, int]) -> bool:
    """Return whether white letters read better than black ones on a colour.

    Example:
        >>> is_dark((0, 114, 178)), is_dark((240, 228, 66))
        (True, False)
    """
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] < 140


def _halving(number: int) -> float:
    """Return a number of van der Corput's sequence in base 2 (1/2, 1/4, 3/4, ...), which fills 0..1 evenly."""
    value, step = 0.0, 0.5
    while number:
        value += step * (number & 1)
        number, step = number >> 1, step / 2
    return value
