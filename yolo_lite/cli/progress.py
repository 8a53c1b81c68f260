"""Progress: a bar on a terminal; in a file or a pipe, where a bar would be noise, about one plain line a minute."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, TypeVar

from yolo_lite.errors import one_line

Item = TypeVar("Item")

_SILENCE = 50.0  # seconds after which a line is due
_LOOK = 5.0  # seconds between two looks at the clock
_DELAY = 0.5  # seconds before a bar appears


class Progress:
    """Work whose progress is counted, with a bar on a terminal.

    Args:
        unit: what is counted, in the plural: "images".
        total: how many there are; 0: unknown.
        done: how many are done already.
    """

    def __init__(self, unit: str, total: int, *, done: int = 0) -> None:
        self.unit, self.total, self.done, self.title, self.details = unit, total, done, "", ""
        self._started, self._first = _now(), (0.0, -1)
        screen = getattr(
            sys.stderr, "inner", sys.stderr
        )  # the bar's own control characters must reach the terminal unescaped
        self._bar = self._new_bar(screen)
        _running.append(self)

    def _new_bar(self, screen: TextIO) -> Any:
        try:
            from tqdm import tqdm
        except ImportError:
            return _LineBar(self, screen)
        settings: dict[str, Any] = {"leave": False, "delay": _DELAY, "disable": None, "file": screen}
        return tqdm(total=self.total or None, initial=self.done, unit=f" {self.unit}", **settings)

    def update(self, done: int, title: str = "", *, details: str = "") -> None:
        """Set how many are done, with a title before the numbers and details after them."""
        self.done, self.title, self.details = done, one_line(title), one_line(details)
        if self._first[1] < 0:  # speed is measured from here: the time before may have been preparation
            self._first = _now(), done
        self._bar.set_description_str(f"{self.title}: " if title else "", refresh=False)
        self._bar.set_postfix_str(self.details, refresh=False)
        self._bar.update(done - self._bar.n)

    def line(self) -> str:
        """Return a line with the progress, the speed and the time left."""
        seconds, done = _now() - self._first[0], self.done - self._first[1]
        parts = [f"{self.done:,}{f' of {self.total:,}' if self.total else ''} {self.unit}"]
        parts += [self.details] * bool(self.details)
        if self._first[1] >= 0 and done > 0 and seconds > 0:
            rate = done / seconds
            parts.append(f"{rate:.1f} {self.unit}/s" if rate >= 1 else f"{1 / rate:.1f} s each")
            if self.total:
                parts.append(f"{_duration((self.total - self.done) / rate)} left")
        return (f"{self.title}: " if self.title else "") + ", ".join(parts)

    def hide(self) -> None:
        """Remove the bar from the screen for now."""
        self._bar.clear()

    def show(self) -> None:
        """Draw the bar again."""
        if _now() - self._started >= _DELAY:
            self._bar.refresh()

    def close(self) -> None:
        """Remove the bar from the screen for good."""
        self._bar.close()
        if self in _running:
            _running.remove(self)


class _LineBar:
    """The part of tqdm's bar that is used here, for an environment without tqdm: a line that is written anew."""

    def __init__(self, progress: Progress, screen: TextIO) -> None:
        self._progress, self._screen, self.n, self._next = progress, screen, progress.done, _now() + _DELAY
        self._width = 0 if screen.isatty() else -1  # of the line on the screen; -1: no terminal

    def set_description_str(self, text: str, *, refresh: bool) -> None:
        """Do nothing: the line has the title."""

    set_postfix_str = set_description_str

    def update(self, count: int) -> None:
        """Count, and write the line if the last time was a while ago."""
        self.n += count
        if _now() >= self._next:
            self._next = _now() + _REDRAW
            self.refresh()

    def refresh(self) -> None:
        """Write the line."""
        if self._width >= 0:
            line = self._progress.line()[:_WIDEST]
            self._screen.write("\r" + line.ljust(self._width))
            self._screen.flush()
            self._width = len(line)

    def clear(self) -> None:
        """Blank the line."""
        if self._width > 0:
            self._screen.write("\r" + " " * self._width + "\r")
            self._screen.flush()
            self._width = 0

    close = clear


_REDRAW = 0.1  # seconds
_WIDEST = 78  # letters of a line, so that it does not wrap


@contextmanager
def bar(unit: str) -> Iterator[Callable[[int, int], None]]:
    """Yield a function that shows a bar when called with (done, total); the bar appears after half a second."""
    shown: list[Progress] = []

    def on_progress(done: int, total: int) -> None:
        if not shown:
            shown.append(Progress(unit, total))
        shown[0].update(done)
        if done >= total:
            shown.pop().close()

    try:
        yield on_progress
    finally:
        while shown:
            shown.pop().close()


def counting(items: Iterable[Item], unit: str, *, total: int, title: str = "") -> Iterator[Item]:
    """Yield the items and show how many are done."""
    progress = Progress(unit, total)
    try:
        for done, item in enumerate(items, 1):
            yield item
            progress.update(done, title)
    finally:
        progress.close()


@contextmanager
def aside(*, begins_line: bool, ends_line: bool) -> Iterator[None]:
    """Hide all bars while something else is written, and draw them again once its line is complete."""
    if begins_line:
        for progress in _running:
            progress.hide()
    yield
    _last_line[0] = _now()
    if ends_line:
        for progress in _running:
            progress.show()


@contextmanager
def heartbeat(command: str) -> Iterator[None]:
    """If standard error is not a terminal, write a line whenever nothing was written for almost a minute."""
    if sys.stderr is None or sys.stderr.isatty():
        yield
        return
    started, over = _now(), threading.Event()
    _last_line[0] = started

    def look() -> None:
        with suppress(OSError, ValueError):  # the reader has gone: the command itself will notice
            while not over.wait(_LOOK):
                beat(command, started)

    thread = threading.Thread(target=look, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def beat(command: str, started: float) -> None:
    """Write a line of progress if nothing was written for almost a minute."""
    now = _now()
    if now - _last_line[0] >= _SILENCE:
        _last_line[0] = now
        still = f"{command}: running for {_duration(now - started)}"
        sys.stderr.write((_running[-1].line() if _running else still) + "\n")


def _duration(seconds: float) -> str:
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole % 60} s"


_now = time.monotonic  # the clock of everything here
_running: list[Progress] = []  # the innermost is last
_last_line = [0.0]  # time of the last output
