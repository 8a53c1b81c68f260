"""Signs of life of several processes: notice one that neither answers nor ends, as when its machine has lost power."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

SILENCE = (
    120.0  # seconds; reading a large JSON file takes up to a minute, in which no other thread of the process can run
)
_BEATS = 24  # of each process in this time
_LEFT = -(2**40)  # brings a count below 0, for good


class Counters(Protocol):
    """Whole numbers by name that all processes share, such as torch's TCPStore; each begins at 0."""

    def add(self, name: str, amount: int, /) -> int:
        """Add to a number, and return it."""


class Stillness:
    """How long a value has not changed, as far as its observer was there to see it.

    A pause of the observer counts as one step at most. So a job that was suspended and continued blames nobody, and the
    clocks of two machines are never compared.

    Args:
        step: longest time that counts between two looks, in seconds.

    Example:
        >>> stillness = Stillness(5)
        >>> [stillness.see(value, now) for value, now in [(1, 0), (1, 4), (1, 100), (2, 101), (2, 102)]]
        [0.0, 4.0, 9.0, 0.0, 1.0]
    """

    def __init__(self, step: float) -> None:
        self._step = step
        self._value: int | None = None
        self._at = self._still = 0.0

    def see(self, value: int, now: float) -> float:
        """Return for how many seconds the value has been this one, at a time by this process's clock."""
        self._still = self._still + min(now - self._at, self._step) if value == self._value else 0.0
        self._value, self._at = value, now
        return self._still


class Heartbeats:
    """A thread that counts in this process's name, and observes whether the count of the next rank rises.

    The last rank observes the first. A process that has not begun to count, or has left, is not missed. The thread ends
    once it has something to report, or if the counters are gone.

    Args:
        counters: where the processes count. The thread has them for itself: another thread's request could wait long.
        rank: number of this process.
        count: number of processes.
        silence: after how many seconds a process is given up.
        on_silence: called in the thread with the rank that is given up, and `silence`; returns the error that says so.
        hear: called in the thread at every beat; returns the error of another process that has failed.

    Attributes:
        error: what the thread reports.

    Example:
        >>> class Numbers(dict):
        ...     def add(self, name, amount):
        ...         self[name] = self.get(name, 0) + amount
        ...         return self[name]
        >>> numbers = Numbers(rank_1=1)  # rank 1 never counts again
        >>> beats = Heartbeats(
        ...     numbers, 0, count=2, silence=0.1, on_silence=TimeoutError, hear=lambda: None
        ... )
        >>> beats.start()
        >>> while not beats.error:
        ...     time.sleep(0.01)
        >>> beats.error, beats.leave()
        (TimeoutError(1, 0.1), None)
    """

    def __init__(
        self,
        counters: Counters,
        rank: int,
        *,
        count: int,
        silence: float,
        on_silence: Callable[[int, float], Exception],
        hear: Callable[[], Exception | None],
    ) -> None:
        self.silence = silence
        self.error: Exception | None = None
        self._counters, self._rank, self._count = counters, rank, count
        self._on_silence, self._hear = on_silence, hear
        self._pause = silence / _BEATS
        self._turns = 0  # of the thread's loop
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeats", daemon=True)

    def start(self) -> None:
        """Begin to count and to observe."""
        self._counters.add(_name(self._rank), 1)  # at once, or a process that fails right away would not be missed
        self._thread.start()

    def leave(self) -> None:
        """Let the others know that this process is no longer to be missed, and end the thread."""
        self._end.set()
        self._thread.join(self._pause)  # not for longer: the counters may never answer

    def patience(self) -> Callable[[], bool]:
        """Return a function to call again and again while this process waits: whether to wait no longer.

        It returns true once the thread has an error to report, and if the thread has waited for its counters so long that
        nobody can be expected to answer.

        Example:
            >>> beats = Heartbeats({}, 0, count=1, silence=0.01, on_silence=ValueError, hear=lambda: None)
            >>> is_over = beats.patience()  # its thread was never started
            >>> is_over(), time.sleep(0.02), is_over(), [is_over() for _ in range(99) if not time.sleep(0.001)][-1]
            (False, None, False, True)
        """
        stillness = Stillness(self._pause)

        def is_over() -> bool:
            still = stillness.see(self._turns, time.monotonic())
            return self.error is not None or still > self.silence

        return is_over

    def _run(self) -> None:
        with suppress(RuntimeError):  # the counters are gone
            self._observe()
            self._counters.add(_name(self._rank), _LEFT)

    def _observe(self) -> None:
        """Count and look, in turns, until this process leaves or there is something to report."""
        other, stillness = self._next(self._rank), Stillness(2 * self._pause)
        while not self._end.wait(self._pause) and self.error is None:
            self._counters.add(_name(self._rank), 1)
            count = self._counters.add(_name(other), 0) if other != self._rank else 0
            self._turns += 1
            if count < 0:
                other, stillness = self._next(other), Stillness(2 * self._pause)
            elif count > 0 and stillness.see(count, time.monotonic()) > self.silence:
                self.error = self._on_silence(other, self.silence)
            self.error = self.error or self._hear()

    def _next(self, rank: int) -> int:
        return (rank + 1) % self._count


def _name(rank: int) -> str:
    return f"rank_{rank}"
