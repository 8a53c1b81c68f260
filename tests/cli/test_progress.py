"""Bars: what a terminal shows, which a file or a pipe does not."""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Iterable

import pytest

from yolo_lite.cli import progress, runs
from yolo_lite.cli.screen import screens
from yolo_lite.training.loop import StepReport


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


Capture = pytest.CaptureFixture[str]


def _shown(monkeypatch: pytest.MonkeyPatch, screen: io.StringIO, calls: Iterable[tuple[int, int]]) -> str:
    """Return what is on the screen once the work took long enough for a bar."""
    monkeypatch.setattr("sys.stderr", screen)
    clock = iter(range(10_000))
    monkeypatch.setattr("tqdm.std.time", lambda: next(clock))  # each look at it a second later
    monkeypatch.setattr("tqdm.std.tqdm.monitor_interval", 0)
    with progress.bar("images") as on_progress:
        for done, total in calls:
            on_progress(done, total)
        return screen.getvalue()


def test_a_terminal_shows_how_much_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    text = _shown(monkeypatch, _Terminal(), [(1, 4), (2, 4), (3, 4)])
    assert "3/4" in text
    assert "images" in text


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
    with runs.train_progress([]) as (_, on_step, _):
        for epochs, steps in ((2, 3), (1, 9)):
            for epoch in range(epochs):
                for step in range(1, steps + 1):
                    on_step(
                        StepReport(
                            epoch,
                            epochs,
                            step=step,
                            steps=steps,
                            losses={"total": 0.5},
                            images_per_second=40.0,
                            parts=1,
                        )
                    )
        text = screen.getvalue()
    assert "6/6" in text
    assert "1/9" in text.rpartition("6/6")[2]
    assert "9/9" in text
    assert "7/6" not in text


def test_a_file_gets_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _shown(monkeypatch, io.StringIO(), [(1, 2), (2, 2)]) == ""


class Clock:
    """A clock that stands until it is told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(progress, "_now", lambda: self.now)
        monkeypatch.setattr(progress, "_last_line", [self.now])

    def on(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def _watch(clock: Clock, seconds: float) -> None:
    """Let time pass as `heartbeat` does: a look at the clock every few seconds."""
    started = clock.now
    while clock.now - started < seconds:
        clock.on(progress._LOOK)
        progress.beat("train", 1000.0)


def test_a_file_gets_a_line_of_how_far_training_is_every_minute(capsys: Capture, clock: Clock) -> None:
    with runs.train_progress([]) as (_, on_step, _):
        for step in range(1, 121):  # 120 steps of 2 s each
            clock.on(2)
            on_step(
                StepReport(
                    0, 2, step=step, steps=300, losses={"total": 2.5, "box": 1.25}, images_per_second=8.0, parts=1
                )
            )
            progress.beat("train", 1000.0)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4  # of 240 s: after 50, 100, 150 and 200
    assert lines[0] == "epoch 1/2: 25 of 600 steps, total 2.500 box 1.250, 8 images/s, 2.0 s each, 19 min 10 s left"


def test_a_step_of_many_minutes_is_no_silence(capsys: Capture, clock: Clock) -> None:
    with progress.bar("images") as on_progress:
        on_progress(1, 3)
        _watch(clock, 300)
    assert len(capsys.readouterr().err.splitlines()) >= 5


def test_work_that_is_not_counted_is_heard_of_too(capsys: Capture, clock: Clock) -> None:
    _watch(clock, 100)
    assert capsys.readouterr().err.splitlines() == ["train: running for 50 s", "train: running for 1 min 40 s"]


def test_whoever_writes_anyway_gets_no_more_lines(capsys: Capture, clock: Clock) -> None:
    with screens():
        for number in range(20):
            print(f"row {number}")
            _watch(clock, 30)
    assert capsys.readouterr().out.splitlines() == [f"row {number}" for number in range(20)]
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_no_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", _Terminal())
    before = threading.active_count()
    with progress.heartbeat("train"):
        assert threading.active_count() == before


def test_the_heart_beats_by_itself_and_stops(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_SILENCE", 0.0)
    monkeypatch.setattr(progress, "_LOOK", 0.01)
    with progress.heartbeat("eval"):
        until = time.monotonic() + 60
        text = ""
        while not text and time.monotonic() < until:
            time.sleep(0.01)
            text = capsys.readouterr().err
    assert text.startswith("eval: running for 0 s\n")
    assert "heartbeat" not in [thread.name for thread in threading.enumerate()]


def test_a_line_is_written_above_the_bar(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    terminal = _Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr("sys.stdout", terminal)
    with screens(), progress.bar("images") as on_progress:
        on_progress(1, 4)
        clock.on(10)
        print("skipped: a.jpg")
        text = terminal.getvalue()
    assert "skipped: a.jpg\n" in text
    assert text.index("skipped") < text.rindex("1/4")
    assert text[text.index("skipped") - 1] == "\r"


def test_names_in_bars_are_escaped(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    terminal = _Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    shown = progress.Progress("frames", 10)
    shown.update(1, "a\x1b[2J\nb", details="c\x07")
    clock.on(10)
    shown.show()
    line = shown.line()
    shown.close()
    for text in (terminal.getvalue(), line):
        assert "\x1b[2J" not in text
        assert "\x07" not in text
        assert "a\\x1b[2J\\nb: " in text


@pytest.mark.parametrize(
    ("total", "text"), [(0, "30 frames, 2.9 frames/s"), (90, "30 of 90 frames, 2.9 frames/s, 21 s left")]
)
def test_the_number_of_frames_may_be_unknown(capsys: Capture, clock: Clock, total: int, text: str) -> None:
    items = progress.counting(range(31), "frames", total=total)
    for number in range(31):
        next(items)
        if number == 1:  # the first is done, and 29 more in 10 s
            clock.on(10)
    assert progress._running[-1].line() == text
    items.close()  # type: ignore[attr-defined]
    assert not progress._running


def test_without_tqdm_a_terminal_shows_a_line_that_is_blanked_at_the_end(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    terminal = _Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    for done in progress.counting(range(1, 5), "frames", total=4, title="film.mp4"):
        clock.on(1)
        assert ("3 of 4 frames" in terminal.getvalue()) == (done == 4)
    *_, shown, blanks, end = terminal.getvalue().split("\r")
    assert shown.startswith("film.mp4: 4 of 4 frames, 1.0 frames/s, 0 s left")
    assert (blanks, end) == (" " * len(shown), "")


def test_without_tqdm_a_file_gets_no_bar(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setitem(sys.modules, "tqdm", None)
    for _ in progress.counting(range(4), "frames", total=4):
        clock.on(1)
    assert screen.getvalue() == ""
