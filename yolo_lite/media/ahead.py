"""Work in threads before and after the network: in order, and never far ahead of it or behind it."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from types import TracebackType
from typing import TypeVar

from yolo_lite.structures.geometry import Image

Item = TypeVar("Item")
Result = TypeVar("Result")

ROOM = 256_000_000  # bytes of images that may wait before the network, and again behind it


class Depth:
    """The number of images that may wait at each side of the network: `most`, or fewer if they are large.

    Attributes:
        images: the number, at least 1.

    Example:
        >>> depth = Depth(8)
        >>> depth.images
        8
        >>> _ = depth.fit(np.zeros((4000, 6000, 3), np.uint8))  # 72 MB
        >>> depth.images
        3
    """

    def __init__(self, most: int) -> None:
        self._most = self.images = most

    def fit(self, image: Image) -> Image:
        """Adapt the number to the size of an image that was read, so that such images fill at most ROOM bytes."""
        self.images = max(1, min(self._most, ROOM // max(1, image.nbytes)))
        return image


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], *, depth: Depth, threads: int = 1
) -> Generator[Result, None, None]:
    """Yield `work(item)` for each item, in order, while threads work on the items after it.

    Items are taken in the caller's thread: result k is yielded after item k + `depth.images` was taken. An error that
    `work` raises comes in place of its result. An error that `items` raises, Ctrl-C included, comes after the results
    of all earlier items. When the generator is closed, calls that have not begun are dropped, and it waits for the others.

    Example:
        >>> list(in_order(str.upper, ["a", "b", "c"], depth=Depth(2)))
        ['A', 'B', 'C']
    """
    source = iter(items)
    waiting: deque[Future[Result]] = deque()
    failure: BaseException | None = None
    pool = ThreadPoolExecutor(threads, thread_name_prefix="images")
    try:
        while failure is None:
            try:
                waiting.append(pool.submit(work, next(source)))
            except StopIteration:
                break
            except BaseException as error:  # raised below, in its place
                failure = error
            while len(waiting) > depth.images:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
        if failure is not None:
            raise failure
    finally:
        pool.shutdown(cancel_futures=True)


def read_ahead(frames: Iterator[Image], *, depth: Depth) -> Generator[Image, None, None]:
    """Yield the frames of a video, or other images, which a thread reads ahead; errors come in their place.

    Example:
        >>> grey = np.full((2, 2, 3), 128, np.uint8)
        >>> len(list(read_ahead(iter([grey] * 3), depth=Depth(2))))
        3
    """

    def read(number: int) -> Image | None:
        frame = next(frames, None)
        return None if frame is None else depth.fit(frame)

    try:
        with closing(in_order(read, itertools.count(), depth=depth)) as ahead:
            for frame in ahead:
                if frame is None:
                    break
                yield frame
    finally:
        if isinstance(frames, Generator):
            frames.close()


class Behind:
    """Calls functions one after another in a thread, in a `with` block that ends when all have returned.

    The block is left only after the last call, also after Ctrl-C. The first error of a call is raised by a later
    `call`, or at the end of the block; calls that have not begun by then are dropped.

    Args:
        depth: how many calls may wait; `call` blocks while there are more.

    Example:
        >>> numbers = []
        >>> with Behind(Depth(2)) as behind:
        ...     for number in range(5):
        ...         _ = behind.call(lambda number=number: numbers.append(number))
        >>> numbers
        [0, 1, 2, 3, 4]
    """

    def __init__(self, depth: Depth) -> None:
        self._depth = depth
        self._waiting: deque[Future[object]] = deque()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="images")

    def call(self, work: Callable[[], Result]) -> Future[Result]:
        """Call a function after all earlier ones, and return where its result will be."""
        while len(self._waiting) >= self._depth.images:
            self._wait()
        future = self._pool.submit(work)
        self._waiting.append(future)  # type: ignore[arg-type]
        return future

    def __enter__(self) -> Behind:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while self._waiting:
                self._wait()
        finally:
            self._pool.shutdown(cancel_futures=True)

    def _wait(self) -> None:
        """Wait for the earliest call; if it fails, wait for no other and raise its error."""
        try:
            self._waiting[0].result()
        except Exception:  # of the call; Ctrl-C comes in this thread, and drops none
            self._waiting.clear()
            raise
        self._waiting.popleft()
