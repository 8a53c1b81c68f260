"""One thread that owns the networks: it takes what waits in a queue, in batches of equal settings."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from yolo_lite.errors import counted
from yolo_lite.serve.limits import RETRY, RefusedError
from yolo_lite.structures.geometry import Image

WAIT = 0.005  # seconds that a batch waits for more images, at most
_RETURN = 0.1  # seconds after a batch in which its clients are likely to send again


class OverdueError(Exception):
    """The time limit of a request ended before its turn came."""


@dataclass(frozen=True, eq=False)
class Work:
    """How an image is worked on.

    Attributes:
        run: returns a result for each image of a list, uint8 [H, W, 3] RGB.
        key: images of equal keys may share a batch.
        sizes: of batches, ascending and beginning with 1.
    """

    run: Callable[[list[Image]], Sequence[Any]]
    key: Hashable
    sizes: tuple[int, ...] = (1,)


@dataclass(frozen=True, eq=False)
class _Job:
    work: Work
    image: Image
    deadline: float
    future: Future[Any] = field(default_factory=Future)


class Place:
    """A place among the requests that an engine works on at once; a `with` block gives it back."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._job: _Job | None = None

    def submit(self, work: Work, image: Image, *, deadline: float) -> Future[Any]:
        """Put an image into the queue, and return the future of its result.

        Args:
            work: what is done with it.
            image: uint8 [H, W, 3] RGB.
            deadline: by the monotonic clock; the future ends with OverdueError if its turn comes later.
        """
        self._job = _Job(work, image, deadline)
        return self._engine._submit(self._job)

    def __enter__(self) -> Place:
        return self

    def __exit__(self, *error: object) -> None:
        job, self._job = self._job, None
        self._engine._release(job)


class Engine:
    """The queue, and the thread that works on it.

    An error in a batch of several images is looked for image by image, so that it fails only its own request.

    Args:
        queue: the most requests that have a place at once.
        wait: seconds that a batch waits for images that are on their way.
        on_batch: called with the number of images and the seconds of each batch.
        warm_up: called by the thread before its first batch, so that it has the memory that it will need; an error is
            left to the requests.

    Example:
        >>> engine = Engine(queue=2)
        >>> work = Work(lambda images: [image.shape for image in images], key="shapes")
        >>> with engine.admit() as place:
        ...     place.submit(work, np.zeros((2, 3, 3), np.uint8), deadline=time.monotonic() + 9).result()
        (2, 3, 3)
        >>> engine.close()
    """

    def __init__(
        self,
        *,
        queue: int,
        wait: float = WAIT,
        on_batch: Callable[[int, float], object] = lambda count, seconds: None,
        warm_up: Callable[[], object] = lambda: None,
    ) -> None:
        self.queue = queue
        self._wait, self._on_batch, self._warm_up = wait, on_batch, warm_up
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._places = self._preparing = 0  # requests with a place; those that have not submitted an image yet
        self._last, self._ended = 1, 0.0  # images in the last batch, and when it ended
        self._stopping = self._closed = False
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def places(self) -> int:
        """How many requests have a place."""
        return self._places

    @property
    def waiting(self) -> int:
        """How many images wait in the queue."""
        return len(self._jobs)

    @property
    def is_stopping(self) -> bool:
        """Whether no further request is accepted."""
        return self._stopping

    @property
    def is_alive(self) -> bool:
        """Whether the thread works."""
        return self._thread.is_alive()

    def check_open(self) -> None:
        """Raise RefusedError if no place is free: 429, or 503 after `stop`."""
        if self._stopping:
            raise RefusedError(503, "The server is stopping; send the request to another one.", headers=RETRY)
        if self._places >= self.queue:
            full = f"{counted(self.queue, 'request')} are being worked on, the most that this server accepts at once"
            raise RefusedError(429, f"{full}; try again in a second.", headers=RETRY)

    def admit(self) -> Place:
        """Return a place; raise RefusedError as `check_open` does."""
        with self._changed:
            self.check_open()
            self._places += 1
            self._preparing += 1
        return Place(self)

    def stop(self) -> None:
        """Accept no further request; those that have a place are finished."""
        self._stopping = True

    def close(self, *, wait: bool = True) -> None:
        """Stop, finish what waits in the queue, and end the thread; if `wait` is false, drop what waits, and return."""
        with self._changed:
            self._stopping = self._closed = True
            if not wait:
                self._jobs.clear()
            self._changed.notify_all()
        if wait:
            self._thread.join()

    def _submit(self, job: _Job) -> Future[Any]:
        with self._changed:
            self._preparing -= 1
            self._jobs.append(job)
            self._changed.notify_all()
        return job.future

    def _release(self, job: _Job | None) -> None:
        """Give a place back; an image that nobody waits for any more leaves the queue."""
        with self._changed:
            self._places -= 1
            self._preparing -= job is None
            if job is not None and job.future.done():
                with suppress(ValueError):
                    self._jobs.remove(job)
            self._changed.notify_all()

    def _work(self) -> None:
        with suppress(Exception):
            self._warm_up()
        while batch := self._next_batch():
            started = time.monotonic()
            ready = [job for job in batch if _is_due(job, started)]
            if ready:
                _run(ready)
                self._last, self._ended = len(ready), time.monotonic()
                self._on_batch(len(ready), self._ended - started)
            del batch, ready  # the images must not stay in memory until the next batch

    def _next_batch(self) -> list[_Job]:
        """Return the jobs at the head of the queue that share its settings; none once the engine is closed."""
        with self._changed:
            alike: list[_Job] = []
            while not alike:  # what is waited for may leave the queue meanwhile
                while not self._jobs:
                    if self._closed:
                        return []
                    self._changed.wait()
                work = self._jobs[0].work
                until = time.monotonic() + self._wait
                while len(self._alike(work)) < work.sizes[-1] and self._are_more_coming():
                    if not self._changed.wait(until - time.monotonic()):
                        break
                alike = self._alike(work)
            batch = alike[: max(size for size in work.sizes if size <= len(alike))]
            for job in batch:
                self._jobs.remove(job)
            return batch

    def _alike(self, work: Work) -> list[_Job]:
        if len(work.sizes) == 1:
            return [job for job in self._jobs if job.work is work]
        return [job for job in self._jobs if job.work.key == work.key][: work.sizes[-1]]

    def _are_more_coming(self) -> bool:
        """Return whether waiting makes sense: a request alone must not wait."""
        returning = self._last > 1 and time.monotonic() - self._ended < _RETURN  # clients that send their next image
        return not self._closed and (self._preparing > 0 or returning)


def _is_due(job: _Job, now: float) -> bool:
    """Return whether somebody still waits for a job; end one that is too late."""
    if not job.future.set_running_or_notify_cancel():
        return False
    if now > job.deadline:
        job.future.set_exception(OverdueError())
        return False
    return True


def _run(jobs: Sequence[_Job]) -> None:
    """Give each job its result or its error."""
    try:
        results = list(jobs[0].work.run([job.image for job in jobs]))
        if len(results) != len(jobs):
            raise RuntimeError(f"{counted(len(jobs), 'image')} gave {counted(len(results), 'result')}")
    except BaseException as error:  # whatever it is, the thread must live on
        if len(jobs) == 1:
            _fail(jobs[0], error)
        else:
            for place in range(len(jobs)):
                _run(jobs[place : place + 1])
        jobs = ()  # the error, which refers to this frame, must not refer to itself
        return
    for job, result in zip(jobs, results):
        with suppress(InvalidStateError):
            job.future.set_result(result)


def _fail(job: _Job, error: BaseException) -> None:
    with suppress(InvalidStateError):
        job.future.set_exception(error)
