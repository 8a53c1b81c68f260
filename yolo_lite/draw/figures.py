"""The one module that imports matplotlib, when something is drawn with it: figures, and fonts as it reads them."""

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
    """Return an empty figure of a size in inches, whose axes make room for each other."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def legend_patch(colour: Sequence[int], label: str) -> Patch:
    """Return what stands for a colour, R, G, B in 0..255, in a legend."""
    from matplotlib.patches import Patch

    return Patch(color=[value / 255 for value in colour], label=label)


def render(figure: Figure, suffix: str, *, dpi: int, fonts: Callable[[Iterable[str]], Sequence[Path]]) -> bytes:
    """Return a figure as the content of a file with a suffix such as ".png"; `fonts` finds fonts for its texts."""
    from matplotlib.text import Text

    texts = [artist for artist in figure.findobj(Text) if isinstance(artist, Text)]
    paths = fonts(text.get_text() for text in texts)
    if len(paths) > 1:
        for text in texts:
            text.set_fontfamily(_families(paths))
    content = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # missing_letters says so
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
    """Return the font files of the system."""
    from matplotlib.font_manager import findSystemFonts

    return [Path(name) for name in findSystemFonts()]


def open_font(path: Path) -> FT2Font:
    """Open a font file.

    Raises:
        OSError, RuntimeError: where it cannot be read as a font.
    """
    from matplotlib.ft2font import FT2Font

    return FT2Font(str(path))
