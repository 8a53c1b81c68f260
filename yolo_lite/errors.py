"""The one error that is meant for the person at the keyboard, and the turns of phrase of its messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class InputError(ValueError):
    """Something that the user gave cannot be used: the message names it, what was expected, and what to do.

    The command line prints it as a single line and exits with 2; any other exception is a bug and keeps its traceback.
    """


class DivergedError(InputError):
    """The loss or its gradient is no longer a finite number, which of a search for settings ends one trial only."""


def some(names: Sequence[str]) -> str:
    """List the first eight names and count the rest."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def suggest(name: str, known: Iterable[str]) -> str:
    """Return "did you mean 'x'?" for the nearest of the known names, or "it knows x, y ..." where none is near."""
    known = list(known)
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"known: {some(known) or 'none'}"
