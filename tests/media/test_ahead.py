"""Threads before and after the network: order, bounds, errors in their place, and an end that leaves no thread behind."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from functools import partial

import numpy as np
import numpy.typing as npt
import pytest

from yolo_lite.errors import InputError, Stopped
from yolo_lite.media.ahead import ROOM, Behind, Depth, in_order, read_ahead

LONG = 30  # seconds; only a failing test waits so long


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("images")] == []


def frame(number: int) -> npt.NDArray[np.uint8]:
    return np.full((1, 1, 3), number, np.uint8)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("depth", [1, 4, 50])
def test_results_come_in_order_and_no_more_items_are_taken_than_may_wait(depth: int, threads: int) -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    for position, result in enumerate(in_order(lambda number: number**2, items(), depth=Depth(depth), threads=threads)):
        assert result == position**2
        assert len(taken) == min(20, position + depth + 1)
    assert position == 19


def test_a_late_result_keeps_its_place() -> None:
    """The first call returns only after the second has."""
    second = threading.Event()

    def work(number: int) -> int:
        assert second.wait(LONG) if number == 0 else True
        if number == 1:
            second.set()
        return number

    assert list(in_order(work, range(6), depth=Depth(4), threads=2)) == list(range(6))


def test_work_goes_on_while_the_caller_is_busy() -> None:
    finished = [threading.Event() for _ in range(4)]
    results = in_order(lambda number: finished[number].set(), range(4), depth=Depth(2))
    next(results)
    assert all(event.wait(LONG) for event in finished[:3])  # the caller has asked for the first only
    assert not finished[3].is_set()  # not taken yet
    results.close()


def test_an_error_of_a_call_comes_in_place_of_its_result() -> None:
    results = in_order(lambda number: 6 // (3 - number), range(9), depth=Depth(4))
    assert [next(results) for _ in range(3)] == [2, 3, 6]
    with pytest.raises(ZeroDivisionError):
        next(results)


@pytest.mark.parametrize("error", [InputError("bad"), KeyboardInterrupt(), Stopped(15), MemoryError()], ids=repr)
def test_an_error_of_the_items_comes_after_the_results_of_all_earlier_ones(error: BaseException) -> None:
    def items() -> Iterator[int]:
        yield from range(3)
        raise error

    seen = []
    with pytest.raises(type(error)) as caught:
        for result in in_order(str, items(), depth=Depth(8)):
            seen.append(result)
    assert seen == ["0", "1", "2"]
    assert caught.value is error


def test_closing_drops_calls_that_have_not_begun() -> None:
    begun, go = [], threading.Event()

    def work(number: int) -> None:
        begun.append(number)
        assert number == 0 or go.wait(LONG)

    results = in_order(work, range(100), depth=Depth(10))
    next(results)
    threading.Timer(0.05, go.set).start()  # while `close` waits for the call that runs
    results.close()
    assert begun in ([0], [0, 1])


def test_nothing_is_begun_before_the_first_result_is_asked_for() -> None:
    in_order(pytest.fail, ["began"], depth=Depth(2)).close()


def test_frames_are_read_ahead_in_order() -> None:
    read: list[int] = []

    def frames() -> Iterator[npt.NDArray[np.uint8]]:
        for number in range(30):
            read.append(number)
            yield frame(number)

    for position, image in enumerate(read_ahead(frames(), depth=Depth(4))):
        assert int(image[0, 0, 0]) == position
        assert len(read) <= position + 5
    assert position == 29


def test_an_error_of_a_video_comes_after_its_frames() -> None:
    def frames() -> Iterator[npt.NDArray[np.uint8]]:
        yield from map(frame, range(5))
        raise InputError("ends early")

    seen = []
    with pytest.raises(InputError, match="ends early"):
        for image in read_ahead(frames(), depth=Depth(3)):
            seen.append(int(image[0, 0, 0]))
    assert seen == [0, 1, 2, 3, 4]


def test_a_video_is_closed_when_reading_stops() -> None:
    closed = []

    def frames() -> Iterator[npt.NDArray[np.uint8]]:
        try:
            yield from map(frame, range(100))
        finally:
            closed.append(True)

    film = frames()
    ahead = read_ahead(film, depth=Depth(3))
    next(ahead)
    ahead.close()
    assert closed == [True]


def test_large_images_shorten_the_queue() -> None:
    depth = Depth(8)
    for hw, images in [((480, 640), 8), ((3000, 4000), 7), ((4000, 6000), 3), ((9000, 9500), 1), ((13000, 13700), 1)]:
        image = np.broadcast_to(np.uint8(0), (*hw, 3))  # takes no memory
        assert depth.fit(image) is image
        assert depth.images == images
        assert images == 1 or images * image.nbytes <= ROOM


def test_calls_behind_are_made_in_order_and_all_before_the_end() -> None:
    made: list[int] = []
    with Behind(Depth(3)) as behind:
        for number in range(20):
            behind.call(partial(made.append, number))
            assert len(made) >= number - 2  # no more than three wait
    assert made == list(range(20))


def test_a_result_behind_can_be_waited_for() -> None:
    with Behind(Depth(3)) as behind:
        assert behind.call(threading.get_ident).result() != threading.get_ident()


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Stopped(15), GeneratorExit()], ids=repr)
def test_stopping_makes_the_calls_that_wait(stop: BaseException) -> None:
    made: list[int] = []
    go = threading.Event()
    with pytest.raises(type(stop)), Behind(Depth(9)) as behind:
        behind.call(lambda: go.wait(LONG))
        for number in range(5):
            behind.call(partial(made.append, number))
        go.set()
        raise stop
    assert made == [0, 1, 2, 3, 4]


def test_ctrl_c_while_calls_are_waited_for_drops_none_of_them() -> None:
    made: list[int] = []
    full, go = threading.Event(), threading.Event()

    def interrupt(number: int, frame: object) -> None:
        go.set()
        raise KeyboardInterrupt

    def work() -> None:
        assert full.wait(LONG)
        os.kill(os.getpid(), signal.SIGINT)
        go.wait(LONG)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt), Behind(Depth(3)) as behind:
            behind.call(work)
            for number in range(9):
                behind.call(partial(made.append, number))
                if number == 1:
                    full.set()  # three calls wait, so that the next one is held up
    finally:
        signal.signal(signal.SIGINT, before)
    assert made[:2] == [0, 1]
    assert made == list(range(len(made)))


def test_an_error_behind_is_raised_once_and_drops_what_waits() -> None:
    made: list[int] = []
    go = threading.Event()

    def fail() -> None:
        go.wait(LONG)
        raise InputError("the disk is full")

    with pytest.raises(InputError, match="the disk is full"), Behind(Depth(2)) as behind:
        behind.call(fail)
        behind.call(partial(made.append, 1))
        go.set()
        for number in range(2, 9):
            behind.call(partial(made.append, number))
    assert made in ([], [1])  # the call after it may have begun


def test_an_error_of_the_last_call_is_raised_at_the_end() -> None:
    with pytest.raises(ZeroDivisionError), Behind(Depth(4)) as behind:
        behind.call(lambda: 1 // 0)
