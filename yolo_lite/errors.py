"""The error that users see, and helpers for the wording of its messages."""

from __future__ import annotations

import difflib
import errno
import reprlib
import unicodedata
from collections.abc import Iterable, Sequence


class InputError(ValueError):
    """An input from the user cannot be used; the message names it, what was expected, and what to do.

    The command line prints the message on a single line and exits with status 2. Any other exception is a bug and keeps
    its traceback.

    Example:
        >>> from yolo_lite import Detector
        >>> try:
        ...     Detector("no_such_file.pt")
        ... except InputError as error:
        ...     print(str(error).partition(";")[0])
        no_such_file.pt does not exist
    """


class DivergedError(InputError):
    """The loss or its gradient is no longer finite; in a search for settings, this ends only the current trial."""


class Stopped(KeyboardInterrupt):
    """A signal asked the process to stop."""

    def __init__(self, signal: int) -> None:
        super().__init__(signal)
        self.signal = signal


def some(names: Sequence[str]) -> str:
    """Return a text with the first eight names, each cut at 80 characters, and the number of the others.

    Example:
        >>> some(["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"])
        'a, b, c, d, e, f, g, h and 2 more'
    """
    return ", ".join(map(_cut, names[:8])) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def suggest(name: str, known: Iterable[str]) -> str:
    """Return "did you mean 'x'?" with the most similar known name, or a list of known names if none is similar.

    Example:
        >>> suggest("persn", ["person", "car"]), suggest("zebra", ["person", "car"])
        ("did you mean 'person'?", 'known: person, car')
    """
    known = list(known)
    near = difflib.get_close_matches(_cut(name), known, 1)
    return f"did you mean {near[0]!r}?" if near else f"known: {some(known) or 'none'}"


def counted(number: int, noun: str, *, plural: str | None = None) -> str:
    """Return a number and its noun, in the plural if needed; pass a plural that does not just add an "s".

    Example:
        >>> counted(1, "box", plural="boxes"), counted(1200, "box", plural="boxes")
        ('1 box', '1,200 boxes')
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def are(number: int) -> str:
    """Return the verb that agrees with a number: "is" for 1, otherwise "are".

    Example:
        >>> are(1), are(2)
        ('is', 'are')
    """
    return "is" if number == 1 else "are"


def short(value: object) -> str:
    """Return a value as Python code, shortened to fit on one line, however long or deeply nested it is.

    Example:
        >>> print(short([1, [2, [3, [4, [5]]]]]))
        [1, [2, [3, [...]]]]
    """
    return _cut(_SHORT.repr(value), 200)


def printable(text: str) -> str:
    """Return a text with everything escaped that a terminal would interpret instead of displaying.

    That is control characters, escape sequences, marks that change the writing direction, and lone surrogates. Line
    breaks and tabs stay; use `one_line` for a name inside a line.

    Example:
        >>> print(printable("cat" + chr(27) + "[2J"))
        cat\\x1b[2J
    """
    return "".join(character if _is_harmless(character) else ascii(character)[1:-1] for character in text)


def one_line(text: str) -> str:
    """Return a text as `printable` does, but escape line breaks too, so that a name cannot imitate a separate line.

    Example:
        >>> print(one_line("cat" + chr(10) + "done"))
        cat\\ndone
    """
    return printable(text).replace("\n", "\\n")


def shortened(text: str, *, width: int) -> str:
    """Return a text cut to a width in letters; wide characters, such as Chinese ones, count as two.

    Example:
        >>> shortened("traffic light", width=8), shortened("car", width=8)
        ('traffic…', 'car')
    """
    if text_width(text) <= width:
        return text
    kept = ""
    for letter in text:
        if text_width(kept) + text_width(letter) > width - 1:
            break
        kept += letter
    return kept.rstrip() + "\N{HORIZONTAL ELLIPSIS}"


def text_width(text: str) -> int:
    """Return the width of a text in letters: a wide letter, such as a Chinese one, counts as two, an accent as none.

    Example:
        >>> text_width("cat"), text_width(chr(0x732B))
        (3, 2)
    """
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return len(text) + wide - sum(unicodedata.combining(letter) > 0 for letter in text)


def is_memory_full(error: BaseException) -> bool:
    """Return whether an error means that main memory is full, whichever library reports it.

    Example:
        >>> is_memory_full(MemoryError()), is_memory_full(ValueError("bad value"))
        (True, False)
    """
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
    "MemoryError",  # in a process that loads images
    "failed to map segment from shared object",  # while a library is loaded
    "can't start new thread",
    "error return without exception set",  # C code that gave no reason
)


def is_text(value: str) -> bool:
    """Return whether a text can be written to a file.

    A file name that is not UTF-8 can be, in the form that Python gives it.

    Example:
        >>> is_text("caf\u00e9"), is_text(chr(0xD800))  # a lone surrogate
        (True, False)
    """
    try:
        value.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


def reason(error: BaseException) -> str:
    """Return the reason of a failure on one line: the system's words for an OSError, otherwise the error's message.

    Example:
        >>> reason(FileNotFoundError(errno.ENOENT, "No such file or directory", "photo.png"))
        'No such file or directory'
    """
    words = error.strerror if isinstance(error, OSError) and error.errno and error.strerror else str(error)
    return " ".join(printable(words).split()) or type(error).__name__


def _cut(text: str, most: int = 80) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."


class _Short(reprlib.Repr):
    """Python's short form, made safe: no value makes it slow or raises an error."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxdict, self.maxstring = 3, 6, 60

    def repr_int(self, x: int, level: int) -> str:
        """Return a number, or only its length if it has thousands of digits, which Python refuses to convert."""
        return super().repr_int(x, level) if x.bit_length() < 4096 else f"a number of {x.bit_length():,} bits"

    def repr_instance(self, x: object, level: int) -> str:
        """Return a plain value, or the type of any other object."""
        plain = isinstance(x, bool | float | complex | bytes | type | None)
        return super().repr_instance(x, level) if plain else f"<{type(x).__name__}>"


_SHORT = _Short()


def _is_harmless(character: str) -> bool:
    return character in "\n\t" or (unicodedata.category(character) not in ("Cc", "Cs") and character not in _TURNS)


_TURNS = frozenset(map(chr, (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))))
