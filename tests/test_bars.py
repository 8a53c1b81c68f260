"""Bars: what a terminal shows, which a file or a pipe does not."""

from __future__ import annotations

import io
from collections.abc import Iterable

import pytest

from yolo_lite.cli import bars
from yolo_lite.cli import train as cli_train
from yolo_lite.engine.loop import StepReport


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _shown(monkeypatch: pytest.MonkeyPatch, screen: io.StringIO, calls: Iterable[tuple[int, int]]) -> str:
    """Return what is on the screen once the work took long enough for a bar."""
    monkeypatch.setattr("sys.stderr", screen)
    clock = iter(range(10_000))
    monkeypatch.setattr("tqdm.std.time", lambda: next(clock))  # each look at it a second later
    monkeypatch.setattr("tqdm.std.tqdm.monitor_interval", 0)
    with bars.bar("pictures") as on_progress:
        for done, total in calls:
            on_progress(done, total)
        return screen.getvalue()


def test_a_terminal_shows_how_much_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    text = _shown(monkeypatch, _Terminal(), [(1, 4), (2, 4), (3, 4)])
    assert "3/4" in text
    assert "pictures" in text


def test_the_bar_goes_when_all_is_done_and_comes_again_for_more(monkeypatch: pytest.MonkeyPatch) -> None:
    text = _shown(monkeypatch, _Terminal(), [(1, 2), (2, 2)])
    *_, last, end = text.split("\r")
    assert (last.strip(), end) == ("", "")  # its line is blanked
    assert len(last) > 10
    more = _shown(monkeypatch, _Terminal(), [(1, 2), (2, 2), (1, 5), (2, 5)])
    assert "2/5" in more


def test_the_bar_of_a_run_begins_anew_after_that_of_its_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = _Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    clock = iter(range(10_000))
    monkeypatch.setattr("tqdm.std.time", lambda: next(clock))
    monkeypatch.setattr("tqdm.std.tqdm.monitor_interval", 0)
    with cli_train._train_progress([]) as (_, on_step, _):
        for epochs, steps in ((2, 3), (1, 9)):
            for epoch in range(epochs):
                for step in range(1, steps + 1):
                    on_step(StepReport(epoch, epochs, step, steps, {"total": 0.5}, 40.0, 1))
        text = screen.getvalue()
    assert "6/6" in text
    assert "1/9" in text.rpartition("6/6")[2]
    assert "9/9" in text
    assert "7/6" not in text


def test_a_file_gets_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _shown(monkeypatch, io.StringIO(), [(1, 2), (2, 2)]) == ""
