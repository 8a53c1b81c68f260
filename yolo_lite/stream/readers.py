"""Read sources in threads: the newest frame of a live source, every frame of a recording; lost ones are connected again."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace

from yolo_lite.errors import InputError
from yolo_lite.stream.addresses import Camera, Network
from yolo_lite.stream.capture import Capture, Limits, open_capture
from yolo_lite.stream.clock import Clock
from yolo_lite.structures.frames import Frame
from yolo_lite.structures.geometry import Image

FIRST_WAIT, LONGEST_WAIT = 0.5, 3.0  # seconds between two attempts to connect; doubled after each
ROOM = 8  # frames of a source that may wait if every one is kept
_LOOK = 0.2  # seconds between two looks at the time limit of the stream
_PATIENCE = 2.0  # seconds that the end of a stream waits for a thread, beyond the time limits of its source
Say = Callable[[str], object]
Open = Callable[[Camera | Network, Limits], Capture]


@dataclass(frozen=True)
class Shared:
    """What the readers of a stream have in common.

    Attributes:
        bell: notified after each change; must be held to look at a reader.
        clock: the time.
        say: called with a line when a source is lost, when it is back, and if it fails while others go on.
        open: opens a live source.
    """

    bell: threading.Condition = field(default_factory=threading.Condition)
    clock: Clock = field(default_factory=Clock)
    say: Say = lambda line: None
    open: Open = open_capture


class Reader(ABC):
    """A source that a thread reads. Its state may be looked at while the bell is held.

    Attributes:
        name: name of the source.
        dropped: number of frames that were replaced by newer ones before anybody took them.
        reconnects: how often the source has been connected again.
        ended: whether no frame will come any more.
        error: why it has ended, if that was a failure.
        patience: seconds that `join` waits.
    """

    def __init__(self, name: str, shared: Shared) -> None:
        self.name, self.dropped, self.reconnects, self.patience = name, 0, 0, _PATIENCE
        self.ended = self.newest = False
        self.error: InputError | None = None
        self._frames: deque[Frame] = deque()
        self._shared, self._bell, self._stopped = shared, shared.bell, threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"read {name}", daemon=True)

    def start(self) -> None:
        """Start to read."""
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stopped.set()
        with self._bell:
            self._bell.notify_all()

    def join(self) -> None:
        """Wait for the end of the thread: calls of OpenCV cannot be interrupted, but have time limits."""
        if self._thread.ident:
            self._thread.join(self.patience)

    def take(self) -> Frame | None:
        """Return the next frame, if it is there; the bell must be held."""
        frame = self._frames.popleft() if self._frames else None
        self._bell.notify_all()
        return frame

    @property
    def finished(self) -> bool:
        """Whether the last frame has been taken; the bell must be held."""
        return self.ended and not self._frames

    @abstractmethod
    def step(self) -> float:
        """Do the next piece of work, and return how many seconds to wait before the next."""

    def release(self) -> None:  # noqa: B027  # most hold nothing
        """Release the source at the end of the thread."""

    def offer(self, frame: Frame) -> None:
        """Hand over a frame: in place of an older one, or, if all are kept, as soon as there is room."""
        with self._bell:
            while len(self._frames) >= ROOM and not self.newest and not self._stopped.is_set():
                self._bell.wait()
            if self.newest:
                self.dropped += len(self._frames)
                self._frames.clear()
            self._frames.append(replace(frame, dropped=self.dropped))
            self._bell.notify_all()

    def _run(self) -> None:
        try:
            while not self._stopped.is_set() and not self.ended:
                wait = self.step()
                if wait:
                    self._shared.clock.wait(self._stopped, wait)
        except InputError as error:
            self.error = error
        except Exception as error:  # a bug or full memory: it must end the stream, not only this thread
            logging.getLogger(__name__).exception("reading %s failed", self.name)
            self.error = InputError(f"{self.name} cannot be read: {error}")
        finally:
            self.release()
            with self._bell:
                self.ended = True
                self._bell.notify_all()


class FileReader(Reader):
    """Frames of files or of standard input, every one of them."""

    def __init__(self, name: str, frames: Iterator[Frame], *, shared: Shared) -> None:
        super().__init__(name, shared)
        self._source = frames

    def step(self) -> float:
        """Read a frame."""
        frame = next(self._source, None)
        if frame is None:
            self.ended = True
        else:
            self.offer(frame)
        return 0.0

    def release(self) -> None:
        """Close the files."""
        if isinstance(self._source, Generator):
            self._source.close()


class LiveReader(Reader):
    """A camera or a video in the network; if it is lost, it is connected again until the reader is closed.

    Args:
        address: the source.
        shared: what all readers of the stream have in common.
        limits: time limits for connecting and for the next frame.
        every_frame: whether to keep every frame, so that the source waits, or falls behind; False: only the newest.
        patient: whether to try again if the very first attempt to connect fails.
    """

    def __init__(
        self,
        address: Camera | Network,
        shared: Shared,
        *,
        limits: Limits,
        every_frame: bool = False,
        patient: bool = False,
    ) -> None:
        super().__init__(address.name, shared)
        self.patience += max(limits.open, limits.read)
        self._address, self._limits, self._every_frame, self._patient = address, limits, every_frame, patient
        self._capture: Capture | None = None
        self._wait_next, self._number = FIRST_WAIT, 0
        self._lost_at: float | None = None  # when the source was lost, by the monotonic clock

    def step(self) -> float:
        """Connect, or read a frame."""
        if self._capture is None:
            return self._connect()
        began = self._shared.clock.monotonic()
        image = self._capture.read()
        waited = self._shared.clock.monotonic() - began
        if self._capture.finite:
            if image is None:
                self.ended = True
            else:
                self._keep(image)
            return 0.0
        # At the time limit FFmpeg may hand out what it has of a frame, and would fail only at the next call.
        if waited >= self._limits.read:
            return self._lose(f"no frame for {self._limits.read:g} s")
        if image is None:
            return self._lose("the connection ended")
        self._keep(image)
        return 0.0

    def release(self) -> None:
        """Release the source."""
        if self._capture is not None:
            self._capture.close()
            self._capture = None

    def _connect(self) -> float:
        try:
            self._capture = self._shared.open(self._address, self._limits)
        except InputError as error:
            if self._lost_at is None and self._number == 0 and not self._patient:
                raise
            if self._lost_at is None:
                self._lost_at = self._shared.clock.monotonic()
                again = " Trying again" if str(error).endswith("?") else "; trying again"
                self._shared.say(f"{error}{again}")
            return self._next_wait()
        self.newest = not (self._every_frame or self._capture.finite)
        return 0.0

    def _keep(self, image: Image) -> None:
        now = self._shared.clock.monotonic()
        if self._lost_at is not None:
            if self._number:
                self.reconnects += 1
            self._shared.say(f"{self.name} is back after {now - self._lost_at:.1f} s")
            self._lost_at = None
        self._wait_next = FIRST_WAIT
        frame = Frame(
            self.name,
            self._number,
            now,
            self._shared.clock.wall(),
            image=image,
            reconnects=self.reconnects,
            live=self._capture is not None and not self._capture.finite,
        )
        self._number += 1
        self.offer(frame)

    def _lose(self, why: str) -> float:
        self.release()
        if self._lost_at is None and not self._stopped.is_set():
            self._lost_at = self._shared.clock.monotonic()
            self._shared.say(f"{self.name}: {why}; trying again")
        return self._next_wait()

    def _next_wait(self) -> float:
        wait, self._wait_next = self._wait_next, min(LONGEST_WAIT, 2 * self._wait_next)
        return wait


def take_turns(readers: Sequence[Reader], shared: Shared, *, limit: float) -> Generator[Frame, None, None]:
    """Start readers and yield their frames: each in turn among those that have one, until all have ended.

    Args:
        readers: the readers, which are closed at the end.
        shared: what they have in common.
        limit: seconds after which the stream ends.

    Raises:
        InputError: the first error of a reader; while others go on, it is raised after their last frame.

    Example:
        >>> shared, black = Shared(), np.zeros((2, 2, 3), np.uint8)
        >>> readers = [FileReader(name, iter([Frame(name, 0, 0.0, 0.0, black)]), shared=shared) for name in ("a", "b")]
        >>> sorted(frame.source for frame in take_turns(readers, shared, limit=9))
        ['a', 'b']
    """
    bell, clock = shared.bell, shared.clock
    end, turn = clock.monotonic() + limit, 0
    failures: dict[str, InputError] = {}
    try:
        for reader in readers:
            reader.start()
        while clock.monotonic() < end:
            with bell:
                order = [(turn + step) % len(readers) for step in range(len(readers))]
                turn, frame = next(((i + 1, frame) for i in order if (frame := readers[i].take())), (turn, None))
                active = [reader for reader in readers if not reader.finished]
                if frame is None and active:
                    bell.wait(min(_LOOK, end - clock.monotonic()))
            for reader in readers:
                if reader.error and reader.finished and reader.name not in failures:
                    failures[reader.name] = reader.error
                    if any(other is not reader for other in active):
                        shared.say(str(reader.error))
            if frame is not None:
                yield frame
            elif not active:
                break
    finally:
        for reader in readers:
            reader.stop()
        for reader in readers:
            reader.join()
    for error in failures.values():
        raise error
