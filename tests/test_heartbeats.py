"""Signs of life: who is missed and who is not, with counters in a dictionary in place of a store."""

from __future__ import annotations

import threading
import time
from collections import defaultdict

import pytest

from yolo_lite.heartbeats import Heartbeats, Stillness

SILENCE = 1.5


@pytest.mark.parametrize(
    ("values", "times", "expected"),
    [
        ([7, 7, 7], [100, 101, 103], [0, 1, 3]),
        ([7, 8, 9], [100, 101, 103], [0, 0, 0]),
        ([7, 7, 8, 8], [0, 4, 5, 6], [0, 4, 0, 1]),
        ([7, 7, 7, 7], [0, 3, 1003, 1004], [0, 3, 8, 9]),  # the observer was suspended for 1,000 s: 5 of them count
        ([7, 7, 8], [0, 1000, 1001], [0, 5, 0]),
        ([0, 0], [1000, 1001], [0, 1]),
    ],
)
def test_how_long_a_value_stands_still(values: list[int], times: list[float], expected: list[float]) -> None:
    """The expected seconds are counted by hand; the longest step is 5 s."""
    stillness = Stillness(5)
    assert [stillness.see(value, now) for value, now in zip(values, times)] == expected


class Numbers:
    """Counters in memory; a process that is to be silent is stopped at its next count."""

    def __init__(self) -> None:
        self.values: dict[str, int] = defaultdict(int)
        self.silent: set[str] = set()
        self.lock = threading.Lock()

    def add(self, name: str, amount: int, /) -> int:
        while amount and name in self.silent:
            time.sleep(0.01)
        with self.lock:
            self.values[name] += amount
            return self.values[name]


@pytest.fixture
def numbers() -> Numbers:
    return Numbers()


def processes(numbers: Numbers, count: int) -> list[Heartbeats]:
    """Return as many, each with a list of whom it gave up as its error."""

    def error(rank: int, silence: float) -> Exception:
        return TimeoutError(rank, silence)

    return [
        Heartbeats(numbers, rank, count=count, silence=SILENCE, on_silence=error, hear=lambda: None)
        for rank in range(count)
    ]


def given_up(beats: list[Heartbeats]) -> list[int | None]:
    return [each.error.args[0] if each.error else None for each in beats]


def leave(beats: list[Heartbeats], numbers: Numbers) -> None:
    numbers.silent.clear()
    for each in beats:
        each.leave()


@pytest.mark.slow
def test_processes_that_live_are_not_given_up(numbers: Numbers) -> None:
    beats = processes(numbers, 3)
    for each in beats:
        each.start()
    time.sleep(3 * SILENCE)
    assert given_up(beats) == [None] * 3
    assert all(numbers.values[f"rank_{rank}"] > 10 for rank in range(3))  # they did count
    leave(beats, numbers)


@pytest.mark.slow
@pytest.mark.parametrize(("silent", "expected"), [(1, [1, None, None]), (0, [None, None, 0]), (2, [None, 2, None])])
def test_a_silent_process_is_given_up_by_the_one_before_it(
    silent: int, expected: list[int | None], numbers: Numbers
) -> None:
    beats = processes(numbers, 3)
    for each in beats:
        each.start()
    time.sleep(0.2 * SILENCE)
    numbers.silent = {f"rank_{silent}"}
    time.sleep(0.6 * SILENCE)
    assert given_up(beats) == [None] * 3  # it might only be busy
    time.sleep(1.2 * SILENCE)
    assert given_up(beats) == expected
    leave(beats, numbers)


@pytest.mark.slow
def test_a_process_that_has_left_is_not_missed_and_the_next_one_is_observed_instead(numbers: Numbers) -> None:
    beats = processes(numbers, 3)
    for each in beats:
        each.start()
    time.sleep(0.2 * SILENCE)
    beats[1].leave()
    time.sleep(2 * SILENCE)
    assert given_up(beats) == [None] * 3
    numbers.silent = {"rank_2"}
    time.sleep(2 * SILENCE)
    assert given_up(beats) == [2, None, None]
    leave(beats, numbers)


@pytest.mark.slow
def test_a_process_that_has_not_begun_is_not_missed(numbers: Numbers) -> None:
    beats = processes(numbers, 2)
    beats[0].start()
    time.sleep(2 * SILENCE)
    assert given_up(beats) == [None, None]
    beats[1].start()
    time.sleep(2 * SILENCE)
    assert given_up(beats) == [None, None]
    leave(beats, numbers)


@pytest.mark.slow
def test_a_process_that_waits_gives_up_counters_that_do_not_answer(numbers: Numbers) -> None:
    beats = processes(numbers, 1)
    beats[0].start()
    is_in_vain = beats[0].patience()
    began = time.monotonic()
    while time.monotonic() - began < 2 * SILENCE:  # they answer
        assert not is_in_vain()
        time.sleep(0.01)
    numbers.silent = {"rank_0"}
    began = time.monotonic()
    while not is_in_vain():
        time.sleep(0.01)
    assert 0.9 * SILENCE < time.monotonic() - began < 10 * SILENCE
    leave(beats, numbers)


def test_the_failure_of_another_process_is_heard(numbers: Numbers) -> None:
    beats = Heartbeats(
        numbers, 0, count=2, silence=SILENCE, on_silence=TimeoutError, hear=lambda: ValueError("rank 1: bad image")
    )
    beats.start()
    time.sleep(0.3 * SILENCE)
    assert str(beats.error) == "rank 1: bad image"
    assert beats.patience()()
    beats.leave()
