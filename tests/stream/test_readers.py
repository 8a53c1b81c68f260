"""Reading in threads: the newest frame, reconnection and its times, fair turns; with a clock that the tests move."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from yolo_lite.errors import InputError
from yolo_lite.media.sources import EndsEarlyError
from yolo_lite.stream.addresses import Camera
from yolo_lite.stream.capture import Limits
from yolo_lite.stream.clock import Clock
from yolo_lite.stream.readers import FileReader, LiveReader, Shared, take_turns
from yolo_lite.structures.frames import Frame
from yolo_lite.structures.geometry import Image

CAMERA = Camera(0, "camera 0")
LIMITS = Limits(open=5, read=2)


def image(level: int) -> Image:
    return np.full((2, 2, 3), level, np.uint8)


class FakeClock(Clock):
    """A clock that only tests and captures move."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1e9 + self.now

    def wait(self, event: threading.Event, seconds: float) -> None:
        self.now += seconds


class FakeCapture:
    """Gives frames of the listed levels; None: the source is silent for the time limit; then the connection ends."""

    def __init__(self, clock: FakeClock, levels: Sequence[int | None], *, finite: bool = False) -> None:
        self.finite, self.closed, self._clock, self._levels = finite, False, clock, iter(levels)

    def read(self) -> Image | None:
        level = next(self._levels, -1)
        if level is None:
            self._clock.now += LIMITS.read
        return None if level is None or level < 0 else image(level)

    def close(self) -> None:
        self.closed = True


class Site:
    """A camera whose successive connections are scripted: an error, or what it then sends."""

    def __init__(self, *connections: list[int | None] | str) -> None:
        self.clock, self.lines, self.attempts = FakeClock(), list[str](), list[float]()
        self.captures: list[FakeCapture] = []
        self._connections = iter(connections)
        self.shared = Shared(clock=self.clock, say=self.lines.append, open=self._open)

    def _open(self, address: object, limits: Limits) -> FakeCapture:
        self.attempts.append(self.clock.now)
        connection = next(self._connections, "cannot reach camera 0")
        if isinstance(connection, str):
            raise InputError(connection)
        self.captures.append(FakeCapture(self.clock, connection))
        return self.captures[-1]

    def reader(self, **settings: bool) -> LiveReader:
        return LiveReader(CAMERA, self.shared, limits=LIMITS, **settings)

    def run(self, reader: LiveReader, steps: int) -> None:
        """Do what the thread of the reader does."""
        for _ in range(steps):
            wait = reader.step()
            self.clock.now += wait


def take(site: Site, reader: LiveReader) -> Frame | None:
    with site.shared.bell:
        return reader.take()


def test_only_the_newest_frame_is_kept_and_the_others_are_counted() -> None:
    site = Site([1, 2, 3, 4, 5])
    reader = site.reader()
    site.run(reader, 4)  # connects and reads three frames
    frame = take(site, reader)
    assert frame is not None
    assert (frame.number, frame.image.max(), frame.dropped, frame.live) == (2, 3, 2, True)
    assert (frame.time, frame.captured_at) == (100.0, 1e9 + 100.0)
    assert take(site, reader) is None
    site.run(reader, 2)
    frame = take(site, reader)
    assert frame is not None
    assert (frame.number, frame.dropped) == (4, 3)


def test_every_frame_is_kept_if_that_is_asked_for() -> None:
    site = Site([1, 2, 3])
    reader = site.reader(every_frame=True)
    site.run(reader, 4)
    levels = [frame.image.max() for _ in range(3) if (frame := take(site, reader))]
    assert (levels, reader.dropped) == ([1, 2, 3], 0)


def test_a_lost_source_is_connected_again_with_growing_waits() -> None:
    refusal = "cannot reach camera 0"
    site = Site([1], *[refusal] * 6, [2])
    reader = site.reader()
    site.run(reader, 3 + 6 + 2)
    waits = np.diff(site.attempts)
    assert waits.tolist() == [0.5, 1, 2, 3, 3, 3, 3]  # the longest lets a source that comes back be used within 5 s
    assert site.captures[0].closed
    assert site.lines == ["camera 0: the connection ended; trying again", "camera 0 is back after 15.5 s"]
    frame = take(site, reader)
    assert frame is not None
    assert (frame.number, frame.image.max(), frame.reconnects) == (1, 2, 1)


def test_waits_begin_anew_after_a_frame() -> None:
    site = Site([1], "cannot reach camera 0", [2], "cannot reach camera 0", [3])
    site.run(site.reader(), 3 + 1 + 3 + 1 + 2)
    assert np.diff(site.attempts).tolist() == [0.5, 1, 0.5, 1]


def test_a_source_that_connects_without_frames_is_not_asked_ever_faster() -> None:
    site = Site([1], [], [], [], [], [])
    site.run(site.reader(), 3 + 8)
    assert np.diff(site.attempts).tolist() == [0.5, 1, 2, 3]
    assert site.lines == ["camera 0: the connection ended; trying again"]


def test_a_frozen_source_is_noticed_at_its_limit() -> None:
    site = Site([1, None], [2])
    site.run(site.reader(), 3)
    assert site.lines == ["camera 0: no frame for 2 s; trying again"]
    assert site.clock.now == 100 + LIMITS.read + 0.5  # and the first wait


def test_what_comes_at_the_time_limit_is_no_frame() -> None:
    """FFmpeg returns the part of a frame that it has when the time is over."""
    site = Site([1, 2], [3])
    reader = site.reader()
    site.run(reader, 2)
    read = site.captures[0].read
    site.captures[0].read = lambda: (read(), setattr(site.clock, "now", site.clock.now + LIMITS.read))[0]  # type: ignore[method-assign]
    site.run(reader, 3)
    frame = take(site, reader)
    assert frame is not None
    assert (frame.image.max(), frame.number, frame.dropped) == (3, 1, 1)
    assert site.lines[0] == "camera 0: no frame for 2 s; trying again"


def test_the_first_connection_must_succeed_unless_the_reader_is_patient() -> None:
    with pytest.raises(InputError, match="cannot reach camera 0"):
        Site().reader().step()
    site = Site("cannot reach camera 0", [1])
    site.run(site.reader(patient=True), 3)
    assert site.lines == ["cannot reach camera 0; trying again", "camera 0 is back after 0.5 s"]


def frames(name: str, count: int, error: InputError | None = None) -> Iterator[Frame]:
    for number in range(count):
        yield Frame(name, number, 0.0, 0.0, image(number))
    if error:
        raise error


def test_sources_take_fair_turns() -> None:
    shared = Shared()
    readers = [FileReader(name, frames(name, 6), shared=shared) for name in "abc"]
    for reader in readers:  # full before the first is taken
        reader.step(), reader.step(), reader.step()
    order = [frame.source for frame in take_turns(readers, shared, limit=9)]
    assert order[:9] == list("abcabcabc")
    assert sorted(order) == sorted("abc" * 6)


def test_all_frames_of_files_come_in_order_however_slow_the_consumer_is() -> None:
    shared = Shared()
    numbers = [frame.number for frame in take_turns([FileReader("a", frames("a", 50), shared=shared)], shared, limit=9)]
    assert numbers == list(range(50))


def test_an_error_of_the_only_source_is_raised_after_its_frames() -> None:
    shared = Shared()
    turns = take_turns(
        [FileReader("a", frames("a", 3, EndsEarlyError("a ends early")), shared=shared)], shared, limit=9
    )
    assert [next(turns).number for _ in range(3)] == [0, 1, 2]
    with pytest.raises(EndsEarlyError, match="a ends early"):
        next(turns)


def test_other_sources_go_on_after_an_error() -> None:
    shared = Shared()
    readers = [
        FileReader("a", frames("a", 0, InputError("a is damaged")), shared=shared),
        FileReader("b", frames("b", 20), shared=shared),
    ]
    got: list[int] = []
    with pytest.raises(InputError, match="a is damaged"):
        got.extend(frame.number for frame in take_turns(readers, shared, limit=9))
    assert got == list(range(20))


def test_a_bug_in_a_reader_ends_the_stream() -> None:
    class Broken(FileReader):
        def step(self) -> float:
            raise RuntimeError("no such thing")

    shared = Shared()
    with pytest.raises(InputError, match="a cannot be read: no such thing"):
        list(take_turns([Broken("a", iter(()), shared=shared)], shared, limit=9))


def test_the_end_waits_for_a_source_that_is_silent() -> None:
    """A thread inside OpenCV must not outlive the stream: the process would crash at its end."""
    lines: list[str] = []
    shared = Shared(open=lambda address, limits: Silent(), say=lines.append)
    before = threading.active_count()
    assert list(take_turns([LiveReader(CAMERA, shared, limits=Limits(read=0.3))], shared, limit=0.05)) == []
    assert threading.active_count() == before
    assert lines == []  # nothing is tried again


class Silent:
    """Returns nothing, after its time limit."""

    finite = False

    def read(self) -> None:
        time.sleep(0.3)

    def close(self) -> None:
        pass


def test_a_stream_ends_at_its_time_limit_and_stops_its_threads() -> None:
    site = Site(*[list(range(1, 200))] * 99)
    shared = Shared(say=site.lines.append, open=site.shared.open)  # with real time
    before = threading.active_count()
    reader = LiveReader(CAMERA, shared, limits=LIMITS)
    assert all(frame.live for frame in take_turns([reader], shared, limit=0.1))
    assert threading.active_count() == before
    assert all(capture.closed for capture in site.captures)
