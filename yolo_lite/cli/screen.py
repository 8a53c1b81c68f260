"""Where the command line writes: names are shown as they are and never obeyed, and a reader may go away."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from yolo_lite.cli import progress
from yolo_lite.errors import one_line


class WriteError(OSError):
    """Standard output or standard error takes no more: its reader has gone, or its disk is full."""


class Screen:
    """A text stream that escapes what a terminal would obey. What is written at once is one line, and may end with one.

    Names of files and classes come from anywhere, so a new line inside a text is escaped as well: print several lines
    one by one.
    """

    def __init__(self, inner: TextIO) -> None:
        self.inner = inner
        self._begins_line = True

    def write(self, text: str) -> int:
        """Write a text, escaped; a bar gives way to it."""
        line, ends_line = text.rstrip("\n"), text.endswith("\n")
        with _explained(), progress.aside(begins_line=self._begins_line, ends_line=ends_line):
            self.inner.write(one_line(line) + text[len(line) :])
            self._begins_line = ends_line or (self._begins_line and not text)
        return len(text)

    def flush(self) -> None:
        """Hand everything over to the system."""
        with _explained():
            self.inner.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def note(line: str) -> None:
    """Print a line that is no result, such as what is left out of a folder, on standard error."""
    print(f"note: {line}", file=sys.stderr)


@contextmanager
def screens() -> Iterator[None]:
    """Escape what is written to standard output and standard error, and write every line at once, also into a file."""
    before = sys.stdout, sys.stderr
    for stream in before:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
    # A program may be started without them: then they are None, and print does nothing.
    sys.stdout, sys.stderr = (cast(TextIO, Screen(stream)) if stream else stream for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def write_no_more() -> None:
    """Send to nowhere what a broken stream still holds, or Python would complain of it at the end."""
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
