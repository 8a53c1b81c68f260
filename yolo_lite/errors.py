"""The one error that is meant for the person at the keyboard, and the turns of phrase of its messages."""

from __future__ import annotations

import difflib
import errno
import reprlib
import unicodedata
from collections.abc import Iterable, Sequence


class InputError(ValueError):
    """Something that the user gave cannot be used: the message names it, what was expected, and what to do.

    The command line prints it as a single line and exits with 2; any other exception is a bug and keeps its traceback.
    """


class DivergedError(InputError):
    """The loss or its gradient is no longer a finite number, which of a search for settings ends one trial only."""


class Stopped(KeyboardInterrupt):
    """The process was asked to end by a signal."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


def some(names: Sequence[str]) -> str:
    """List the first eight names, none in more than 80 characters, and count the rest."""
    return ", ".join(map(_cut, names[:8])) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def suggest(name: str, known: Iterable[str]) -> str:
    """Return "did you mean 'x'?" for the nearest of the known names, or "it knows x, y ..." where none is near."""
    known = list(known)
    near = difflib.get_close_matches(_cut(name), known, 1)
    return f"did you mean {near[0]!r}?" if near else f"known: {some(known) or 'none'}"


def counted(number: int, noun: str, *, plural: str | None = None) -> str:
    """Return a number with its noun in agreement: "1 epoch", "2 epochs", "1,200 boxes" (give "boxes" as the plural).

    Example:
        >>> counted(1, "box", plural="boxes"), counted(1200, "box", plural="boxes")
        ('1 box', '1,200 boxes')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def are(number: int) -> str:
    """Return the verb that agrees with a number: "is" for 1, else "are"."""
    return "is" if number == 1 else "are"


def short(value: object) -> str:
    """Return a value as it would be written in Python, cut so that it fits into a line, however long or deeply nested.

    Example:
        >>> print(short([1, [2, [3, [4, [5]]]]]))
        [1, [2, [3, [...]]]]
    """
    return _cut(_SHORT.repr(value), 200)


def printable(text: str) -> str:
    """Return a text with everything escaped that a terminal would obey instead of showing.

    These are control characters, escape sequences, marks that turn the direction of writing, and lone surrogates. New
    lines and tabs stay, so escape a name before you put it into a line.

    Example:
        >>> print(printable("cat" + chr(27) + "[2J"))
        cat\\x1b[2J
    """
    return "".join(character if _is_harmless(character) else ascii(character)[1:-1] for character in text)


def one_line(text: str) -> str:
    """Return a text as `printable` does, with new lines escaped too, so that a name cannot look like a line of its own.

    Example:
        >>> print(one_line("cat" + chr(10) + "done"))
        cat\\ndone
    """
    return printable(text).replace("\n", "\\n")


def is_memory_full(error: BaseException) -> bool:
    """Say whether an error means that main memory is full, in the words of whichever library met it."""
    if isinstance(error, InputError):
        return False
    number = error.errno if isinstance(error, OSError) else None
    return isinstance(error, MemoryError) or number == errno.ENOMEM or any(words in str(error) for words in _FULL)


_FULL = (
    "can't allocate memory",  # torch
    "Cannot allocate memory",  # the system, through torch
    "could not create a primitive",  # oneDNN
    "could not execute a primitive",
    "Insufficient memory",  # OpenCV
    "out of memory error",  # Pillow
    "std::bad_alloc",
    "MemoryError",  # of a process that loads images
    "failed to map segment from shared object",  # while a library is loaded
    "can't start new thread",
    "error return without exception set",  # C code that did not say why
)


def is_text(value: str) -> bool:
    """Say whether a text can be written to a file; names of files that are not UTF-8 can, as Python reads them."""
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def reason(error: BaseException) -> str:
    """Return why something failed in one line: the system's own words for an OSError, else the error's message."""
    words = error.strerror if isinstance(error, OSError) and error.errno and error.strerror else str(error)
    return " ".join(printable(words).split()) or type(error).__name__


def _cut(text: str, most: int = 80) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


class _Short(reprlib.Repr):
    """Python's own short form, which nothing makes slow or fail."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxdict, self.maxstring = 3, 6, 60

    def repr_int(self, x: int, level: int) -> str:
        """Write a number; one of thousands of digits, which Python refuses to write, by its length."""
        return super().repr_int(x, level) if x.bit_length() < 4096 else f"a number of {x.bit_length():,} bits"

    def repr_instance(self, x: object, level: int) -> str:
        """Write a plain value; of anything else the kind."""
        plain = isinstance(x, bool | float | complex | bytes | type | None)
        return super().repr_instance(x, level) if plain else f"<{type(x).__name__}>"


_SHORT = _Short()


def _is_harmless(character: str) -> bool:
    return character in "\n\t" or (unicodedata.category(character) not in ("Cc", "Cs") and character not in _TURNS)


_TURNS = frozenset(map(chr, (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))))
