"""Figures and fonts of matplotlib. No other module imports it, and this one only when it draws."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.ft2font import FT2Font
    from matplotlib.patches import Patch


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure whose parts make room for each other.

    Args:
        width: inches.
        height: inches.

    Example:
        >>> new_figure(4, 3).get_size_inches().tolist()
        [4.0, 3.0]
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def legend_patch(colour: Sequence[int], label: str) -> Patch:
    """Return a legend's entry for a colour.

    Args:
        colour: R, G, B in 0..255.
        label: the text beside it.

    Example:
        >>> legend_patch((255, 0, 0), "cat").get_label()
        'cat'
    """
    from matplotlib.patches import Patch

    return Patch(color=[value / 255 for value in colour], label=label)


def render(figure: Figure, suffix: str, *, dpi: int, fonts: Callable[[Iterable[str]], Sequence[Path]]) -> bytes:
    """Return a figure as the content of a file.

    Args:
        figure: from `new_figure`.
        suffix: names the format, such as ".png".
        dpi: pixels in an inch.
        fonts: finds fonts for the figure's texts.

    Example:
        >>> render(new_figure(2, 1), ".png", dpi=50, fonts=lambda texts: [])[1:4]
        b'PNG'
    """
    from matplotlib.text import Text

    texts = [artist for artist in figure.findobj(Text) if isinstance(artist, Text)]
    paths = fonts(text.get_text() for text in texts)
    if len(paths) > 1:
        for text in texts:
            text.set_fontfamily(_families(paths))
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # missing_letters names them
        figure.savefig(content, dpi=dpi, format=suffix[1:])
    return content.getvalue()


def _families(paths: Sequence[Path]) -> list[str]:
    """Return the names by which matplotlib finds fonts."""
    from matplotlib.font_manager import FontProperties, fontManager

    known = {entry.fname for entry in fontManager.ttflist}
    for path in paths:
        if str(path) not in known:
            fontManager.addfont(path)
    return [FontProperties(fname=str(path)).get_name() for path in paths]


def system_fonts() -> list[Path]:
    """Return the font files of the system.

    Example:
        >>> all(path.suffix for path in system_fonts())
        True
    """
    from matplotlib.font_manager import findSystemFonts

    return [Path(name) for name in findSystemFonts()]


def open_font(path: Path) -> FT2Font:
    """Open a font file.

    Raises:
        OSError, RuntimeError: if it cannot be read as a font.

    Example:
        >>> from yolo_lite.draw.fonts import base_font
        >>> open_font(base_font()).family_name
        'DejaVu Sans'
    """
    from matplotlib.ft2font import FT2Font

    return FT2Font(str(path))
