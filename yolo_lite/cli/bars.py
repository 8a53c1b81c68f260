"""Bars that show how much of a piece of work is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm


@contextmanager
def bar(unit: str) -> Iterator[Callable[[int, int], None]]:
    """Yield what shows, each time it is called with (done, of how many), a bar; on a terminal, after half a second."""
    from tqdm import tqdm

    shown: list[tqdm[Any]] = []

    def on_progress(done: int, total: int) -> None:
        if not shown:
            shown.append(tqdm(total=total, unit=f" {unit}", leave=False, delay=0.5, disable=None))
        shown[0].update(done - shown[0].n)
        if done >= total:
            shown.pop().close()

    try:
        yield on_progress
    finally:
        while shown:
            shown.pop().close()
