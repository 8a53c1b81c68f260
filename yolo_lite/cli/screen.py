"""Output of the command line: control characters in names are escaped, and a closed pipe is no crash."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from yolo_lite.cli import progress
from yolo_lite.errors import one_line, shortened, text_width

_WIDEST = 40  # letters of a name in a table


class WriteError(OSError):
    """Standard output or standard error cannot be written: its reader has gone, or the disk is full."""


class Screen:
    """A text stream that escapes control characters, which a terminal would obey.

    File and class names may contain anything, so a line break inside a text is escaped as well; only one at its end
    stays. Print several lines one by one.
    """

    def __init__(self, inner: TextIO) -> None:
        self.inner = inner
        self._begins_line = True

    def write(self, text: str) -> int:
        """Write a text, escaped, and hide the progress bars meanwhile."""
        line, ends_line = text.rstrip("\n"), text.endswith("\n")
        with _explained(), progress.aside(begins_line=self._begins_line, ends_line=ends_line):
            self.inner.write(one_line(line) + text[len(line) :])
            self._begins_line = ends_line or (self._begins_line and not text)
        return len(text)

    def flush(self) -> None:
        """Flush the underlying stream."""
        with _explained():
            self.inner.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def note(line: str) -> None:
    """Print a remark, such as which files of a folder are skipped, on standard error."""
    print(f"note: {line}", file=sys.stderr)


def name_column(names: Sequence[str]) -> list[str]:
    """Return names as a column of a table: each on one line, cut to 40 letters, and padded to the width of the widest."""
    cut = [shortened(one_line(name).replace("\t", " "), width=_WIDEST) for name in names]
    width = max(map(text_width, cut), default=0)
    return [name + " " * (width - text_width(name)) for name in cut]


@contextmanager
def screens(*, is_silent: bool = False) -> Iterator[None]:
    """Escape all output on standard output and standard error, and flush every line, even into a file.

    If it is silent, nothing is written but what goes to `error_screen`.
    """
    before = sys.stdout, sys.stderr
    for stream in before:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
    # A program may be started without these streams: they are None then, and print does nothing.
    sys.stdout, sys.stderr = (cast(TextIO, Screen(stream)) if stream else stream for stream in before)
    _errors.append(sys.stderr)
    if is_silent:
        sys.stdout = sys.stderr = cast(TextIO, Screen(io.StringIO()))
    try:
        yield
    finally:
        _errors.pop()
        sys.stdout, sys.stderr = before


_errors: list[TextIO] = []  # where errors go; the innermost is last


def error_screen() -> TextIO:
    """Return the stream for errors, which are written even if everything else is silent."""
    return _errors[-1] if _errors else sys.stderr


def write_no_more() -> None:
    """Discard what a broken stream still holds; otherwise Python reports an error at exit."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        try:
            stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), stream.fileno())


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WriteError(error.errno, error.strerror) from error
