"""What one request may cost, and the error of a request that is refused."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from yolo_lite.checks import check_number, check_whole
from yolo_lite.errors import InputError

STALL = 5.0  # seconds without a byte after which a body counts as stalled
MOST_PLACES = 101  # parts that one request may look at: the whole image and its tiles
BODIES = 16  # bodies of the largest size that are held in memory at once
RETRY = {"Retry-After": "1"}  # header of an answer to a request that may be sent again
IMAGES = 4  # decoded images of the largest size that are held in memory at once


@dataclass(frozen=True)
class Limits:
    """Limits of a request.

    Attributes:
        max_bytes: of its body.
        max_pixels: of its image, by the header.
        seconds: for the body to arrive, and again for the answer.
        queue: requests in progress or waiting at once.

    Raises:
        InputError: if a limit is not positive.

    Example:
        >>> Limits(queue=0)
        Traceback (most recent call last):
        yolo_lite.errors.InputError: queue must be at least 1, got 0
    """

    max_bytes: int = 20_000_000
    max_pixels: int = 50_000_000
    seconds: float = 30.0
    queue: int = 32

    def __post_init__(self) -> None:
        for name in ("max_bytes", "max_pixels", "queue"):
            check_whole(getattr(self, name), name)
        if check_number(self.seconds, "seconds") <= 0:
            raise InputError(f"seconds must be above 0, got {self.seconds:g}")


class RefusedError(InputError):
    """A request is refused: the status of HTTP, one sentence, and headers of the answer."""

    def __init__(self, status: int, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})


class Budget:
    """An amount of something, such as bytes, that all requests share; safe to use from several threads.

    Example:
        >>> budget = Budget(10, "busy")
        >>> with budget.share() as share:
        ...     share.take(7)
        ...     share.take(4)
        Traceback (most recent call last):
        yolo_lite.serve.limits.RefusedError: busy
        >>> budget.left
        10
    """

    def __init__(self, total: int, message: str) -> None:
        self.left, self.message, self.lock = total, message, threading.Lock()

    def share(self) -> Share:
        """Return the share of one request, empty so far; a `with` block gives it back."""
        return Share(self)


class Share:
    """What one request has taken from a budget.

    It is given back at the end of a `with` block, or later: when a thread lets go of what it works on for the request.
    """

    def __init__(self, budget: Budget) -> None:
        self._budget, self._taken = budget, 0
        self._begun: list[Future[Any]] = []

    def take(self, amount: int) -> None:
        """Take some; raise RefusedError (503) if less than that is left."""
        with self._budget.lock:
            if amount > self._budget.left:
                raise RefusedError(503, self._budget.message, headers=RETRY)
            self._budget.left -= amount
            self._taken += amount

    def follow(self, work: Future[Any]) -> None:
        """Remember what holds the share until it is done or cancelled, even if nobody waits for it any more."""
        self._begun.append(work)

    def __enter__(self) -> Share:
        return self

    def __exit__(self, *error: object) -> None:
        self._release(None)

    def _release(self, work: Future[Any] | None) -> None:
        """Give back what was taken once nothing is being worked on."""
        running = next((each for each in self._begun if not each.done()), None)
        if running is not None:
            running.add_done_callback(self._release)
            return
        self._begun.clear()
        with self._budget.lock:
            self._budget.left += self._taken
            self._taken = 0
