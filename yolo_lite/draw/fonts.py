"""Fonts that have the letters of a text: DejaVu Sans, which comes with matplotlib, then the system's.

Without matplotlib, Pillow's own font takes the place of DejaVu Sans, and Pillow looks into the fonts.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from PIL import ImageFont

from yolo_lite.draw.figures import open_font, system_fonts
from yolo_lite.errors import InputError, some

PillowFont = ImageFont.FreeTypeFont | ImageFont.ImageFont
_STYLES = ("bold", "italic", "oblique", "serif", "mono", "condensed", "light", "thin", "black")
_BITMAP_SIZES = (109, 136, 160, 128, 96, 64, 48, 40, 32, 20)  # pixels; the first is that of Noto Color Emoji


class SizedFont(NamedTuple):
    """A font, and the factor by which its letters are scaled. Bitmap fonts, such as colour emoji, have one size only."""

    font: PillowFont
    scale: float = 1.0


@functools.cache
def base_font() -> Path | None:
    """Return DejaVu Sans, which knows most alphabets, or None if matplotlib, which carries it, is not installed.

    Example:
        >>> base_font().name
        'DejaVuSans.ttf'
    """
    package = importlib.util.find_spec("matplotlib")
    file = Path((package and package.origin) or "").parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    return file if file.is_file() else None


def check_font(path: Path) -> Path:
    """Return the path of a font file.

    Raises:
        InputError: if it cannot be read as a font.

    Example:
        >>> check_font(base_font()).suffix
        '.ttf'
    """
    try:
        if not path.is_file():
            raise OSError("no such file")
        _open(path)
        os.fspath(path).encode()  # Pillow opens no other names
    except (OSError, RuntimeError, UnicodeError) as error:
        raise InputError(f"{path} cannot be read as a font ({error}); give a .ttf, .otf or .ttc file") from error
    return path


def fonts_for(texts: Iterable[str], chosen: Path | None = None, *, outlines: bool = False) -> tuple[Path, ...]:
    """Return the fonts to search for each letter, in this order: the chosen one, DejaVu Sans, the system's.

    Args:
        texts: what is to be written.
        chosen: a font file to try first.
        outlines: leave out bitmap fonts, which matplotlib cannot draw.

    Example:
        >>> fonts_for(["cat", "кот"]) == (base_font(),)  # has both alphabets
        True
    """
    base = base_font()
    own = tuple(path for path in (chosen, base) if path)
    letters = frozenset(letter for letter in "".join(texts) if not letter.isascii() and _is_drawn(letter))
    return own + _search(frozenset(letter for letter in letters if not font_of(letter, own)), outlines)


def font_of(letter: str, fonts: Sequence[Path]) -> Path | None:
    """Return the first of several fonts that has a letter, or None.

    Example:
        >>> font_of("a", [base_font()]).name
        'DejaVuSans.ttf'
    """
    return next((path for path in fonts if _has(path, letter)), None)


def missing_letters(texts: Iterable[str], chosen: Path | None = None) -> str | None:
    """Return a line that names the letters that no font here has, or None if there are none.

    Example:
        >>> missing_letters(["cat", "кот"]) is None
        True
    """
    texts = list(texts)
    fonts = fonts_for(texts, chosen)
    letters = dict.fromkeys(letter for letter in "".join(texts) if not letter.isascii() and _is_drawn(letter))
    missing = [letter for letter in letters if not font_of(letter, fonts)]
    if not missing:
        return None
    return (
        f"no font on this machine has {some(missing)}: drawings show empty boxes in their place; install a font that has "
        "them, such as Noto Sans CJK for Chinese, Japanese and Korean, or Symbola for emoji"
    )


@functools.cache
def sized(path: Path | None, size: int) -> SizedFont:
    """Open a font at a height in pixels; without a path, Pillow's own font.

    Example:
        >>> sized(base_font(), 12).scale
        1.0
    """
    if path is None:
        return SizedFont(ImageFont.load_default(size))
    for height in (size, *_BITMAP_SIZES):  # the latter for a font of bitmaps
        try:
            return SizedFont(ImageFont.truetype(str(path), height), size / height)
        except (OSError, UnicodeError):
            continue
    return sized(base_font(), size)


def pieces(text: str, fonts: Sequence[Path]) -> list[tuple[str, Path | None]]:
    """Split a text into pieces with one font each. Marks and joiners stay with the letter before them.

    Example:
        >>> pieces("cat", [base_font()]) == [("cat", base_font())]
        True
    """
    cut: list[tuple[str, Path | None]] = []
    first = fonts[0] if fonts else None
    has_latin = first in (None, base_font())  # spares an import of matplotlib
    for letter in text:
        last = cut[-1][1] if cut else first
        if cut and letter != " " and not _is_drawn(letter):
            path = last
        else:
            path = first if letter.isascii() and has_latin else font_of(letter, fonts) or first
        if cut and path == last:
            cut[-1] = (cut[-1][0] + letter, path)
        else:
            cut.append((letter, path))
    return cut


def _is_drawn(letter: str) -> bool:
    """Return whether a character is a letter or symbol, not a mark, joiner, space or control character."""
    category = unicodedata.category(letter)
    return category[0] in "LNPS" or category in ("Mc", "Cn", "Co")


@functools.cache
def _search(letters: frozenset[str], outlines: bool) -> tuple[Path, ...]:
    """Return a few of the system's fonts that together have every letter that any of them has."""
    chosen: list[Path] = []
    left = set(letters)
    for path in _system_fonts() if left else ():
        try:
            face = _open(path)
        except (OSError, RuntimeError):
            continue
        has = {letter for letter in left if face.get_char_index(ord(letter))}
        if has and (face.scalable or not outlines):
            chosen.append(path)
            left -= has
        if not left:
            break
    return tuple(chosen)


@functools.cache
def _system_fonts() -> tuple[Path, ...]:
    """Return the system's font files, upright sans-serif ones of normal weight first."""
    try:
        fonts = system_fonts()
    except ImportError:  # without matplotlib
        folders = [Path(folder).expanduser() for folder in _FOLDERS]
        fonts = [path for folder in folders for path in folder.rglob("*.[ot]t[fc]")]
    return tuple(sorted(fonts, key=lambda path: (sum(style in path.name.lower() for style in _STYLES), str(path))))


_FOLDERS = (  # of fonts: Linux, macOS, Windows
    *("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts"),
    *("/System/Library/Fonts", "/Library/Fonts", "~/Library/Fonts", "C:/Windows/Fonts"),
)


@functools.cache
def _has(path: Path, letter: str) -> bool:
    try:
        return bool(_open(path).get_char_index(ord(letter)))
    except (OSError, RuntimeError):
        return False


@functools.lru_cache(16)
def _open(path: Path) -> _Face:
    try:
        return open_font(path)
    except ImportError:  # without matplotlib
        return _PillowFace(path)


class _Face(Protocol):
    """A font file, as far as the search for letters needs it."""

    @property
    def scalable(self) -> bool | int:
        """Whether letters are outlines, not bitmaps."""

    def get_char_index(self, codepoint: int, /) -> int:
        """Return the number of a letter in the font; 0 if the font lacks it."""


class _PillowFace:
    """A font file in Pillow, which does not tell what a font lacks: its drawing of a missing letter does."""

    def __init__(self, path: Path) -> None:
        for size in (16, *_BITMAP_SIZES):
            try:
                self._font = ImageFont.truetype(str(path), size)
            except (OSError, UnicodeError):
                continue
            self.scalable = size == 16
            self._missing = self._drawing(_NO_LETTER)
            return
        raise OSError("no font")

    def get_char_index(self, codepoint: int, /) -> int:
        return int(self._drawing(codepoint) != self._missing)

    def _drawing(self, codepoint: int) -> tuple[tuple[int, int], bytes]:
        mask = self._font.getmask(chr(codepoint))
        return mask.size, bytes(mask)


_NO_LETTER = 0x10FFFF  # stands for no letter, by Unicode's definition
