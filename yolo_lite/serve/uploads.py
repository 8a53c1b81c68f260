"""The way of an uploaded image: its body within the limits, its pixels, its turn in the engine, and the answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from yolo_lite.cores import usable_cores
from yolo_lite.errors import counted
from yolo_lite.serve.bodies import Body, collector
from yolo_lite.serve.engine import Engine, OverdueError, Place, Work
from yolo_lite.serve.exchange import Message, Receive
from yolo_lite.serve.images import decode_checked
from yolo_lite.serve.limits import BODIES, IMAGES, STALL, Budget, Limits, RefusedError, Share
from yolo_lite.structures.geometry import Image

Result = TypeVar("Result")
Hw = tuple[int, int]


class GoneError(Exception):
    """The client has closed the connection before it had its answer."""


@dataclass(frozen=True, eq=False)
class Upload:
    """An image that was sent and decoded.

    Attributes:
        image: uint8 [H, W, 3] RGB.
        source: its name.
        captured_at: seconds since 1970 when its request arrived.
    """

    image: Image
    source: str
    captured_at: float

    @property
    def hw(self) -> Hw:
        """Height and width."""
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True, eq=False)
class Task:
    """What a request wants.

    Attributes:
        work: for the engine.
        answer: returns the bytes of the answer, for the upload and the result of the work.
        source: name of the image; empty: that of the upload.
        max_16bit: the value of a 16-bit image that becomes white.
        check: called with (height, width) before the image is decoded; may raise RefusedError.
    """

    work: Work
    answer: Callable[[Upload, Any], bytes]
    source: str = ""
    max_16bit: int = 65535
    check: Callable[[Hw], object] = lambda hw: None


class Uploads:
    """Takes uploaded images through the engine, each within the limits.

    Args:
        engine: runs the networks.
        limits: of a request.
    """

    def __init__(self, engine: Engine, limits: Limits) -> None:
        self._engine, self._limits = engine, limits
        again = "try again in a second."
        self._bodies = Budget(BODIES * limits.max_bytes, f"Too many uploads are arriving; {again}")
        self._pixels = Budget(IMAGES * limits.max_pixels, f"Too many large images are waiting; {again}")
        self._pool = ThreadPoolExecutor(max(2, usable_cores()), thread_name_prefix="images")

    async def answer(self, receive: Receive, headers: Mapping[str, str], *, task: Task) -> bytes:
        """Read an image, run it through the engine, and return the answer.

        Args:
            receive: returns the next part of the body.
            headers: of the request, by their names in small letters.
            task: what the request wants.

        Raises:
            RefusedError: if the image cannot be accepted, or its answer takes too long.
            GoneError: if the client has gone.
        """
        self._engine.check_open()
        captured_at, seconds = time.time(), self._limits.seconds
        with self._bodies.share() as bytes_held, self._pixels.share() as pixels_held:
            body = await self._read(receive, headers, bytes_held)
            deadline = time.monotonic() + seconds
            with self._engine.admit() as place:
                held = (bytes_held, pixels_held)
                run = self._run(place, task, body, captured_at=captured_at, deadline=deadline, held=held)
                try:
                    return await _until_gone(run, receive, seconds=seconds)
                except OverdueError as error:
                    message = (
                        f"The answer took longer than {seconds:g} s, the limit of this server; try a smaller image."
                    )
                    raise RefusedError(504, message) from error

    async def in_pool(self, function: Callable[[], Result], *, held: Sequence[Share] = ()) -> Result:
        """Return the result of a function that a thread for images runs.

        Args:
            function: called once, or never if this is cancelled before a thread is free.
            held: what is held until the thread has finished.
        """
        call = _Call(function)
        future = self._pool.submit(call)
        for share in held:
            share.follow(future)
        try:
            return await asyncio.wrap_future(future)
        finally:
            call.drop()
            del future  # an error in it would refer to itself, and keep the memory of its request

    def close(self, *, wait: bool = True) -> None:
        """End the threads; if `wait` is false, drop what they have not begun."""
        self._pool.shutdown(wait=wait, cancel_futures=not wait)

    async def _run(
        self, place: Place, task: Task, body: Body, *, captured_at: float, deadline: float, held: tuple[Share, Share]
    ) -> bytes:
        _, pixels_held = held

        def check(hw: Hw) -> None:
            task.check(hw)
            pixels_held.take(hw[0] * hw[1])

        decode = partial(decode_checked, body.content, self._limits.max_pixels, max_16bit=task.max_16bit, check=check)
        image = await self.in_pool(decode, held=held)
        upload = Upload(image, task.source or body.name or "request", captured_at)
        turn = place.submit(task.work, image, deadline=deadline)
        pixels_held.follow(turn)
        try:
            result = await asyncio.wrap_future(turn)
        finally:
            del turn  # as above
        return await self.in_pool(partial(task.answer, upload, result), held=(pixels_held,))

    async def _read(self, receive: Receive, headers: Mapping[str, str], held: Share) -> Body:
        """Read a body; what is in memory is taken from the budget."""
        limits, size = self._limits, 0
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise RefusedError(415, "A compressed body is not accepted; send the image without Content-Encoding.")
        self._check_size(int(headers.get("content-length", 0)))
        parts = collector(headers.get("content-type", ""))
        deadline = time.monotonic() + limits.seconds
        while True:
            message = await _next(receive, deadline)
            chunk = message.get("body", b"")
            size += len(chunk)
            self._check_size(size)
            held.take(len(chunk))
            parts.feed(chunk)
            if not message.get("more_body", False):
                return parts.finish()

    def _check_size(self, size: int) -> None:
        if size > self._limits.max_bytes:
            most = counted(self._limits.max_bytes, "byte")
            raise RefusedError(413, f"The body has more than {most}, the limit of this server; send a smaller file.")


class _Call(Generic[Result]):
    """A function that waits for a thread; what it works on is not kept in memory if nobody waits for it any more."""

    def __init__(self, function: Callable[[], Result]) -> None:
        self._function: Callable[[], Result] | None = function

    def __call__(self) -> Result:
        function = self._function
        if function is None:
            raise GoneError
        return function()

    def drop(self) -> None:
        """Let go of the function."""
        self._function = None


async def _until_gone(work: Coroutine[Any, Any, Result], receive: Receive, *, seconds: float) -> Result:
    """Return what a coroutine returns; cancel it if the client closes the connection, or after some seconds.

    Raises:
        GoneError: if the client has gone.
        OverdueError: if the time is over.
    """
    running, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnect(receive))
    try:
        await asyncio.wait((running, gone), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            return running.result()
        if gone.done():
            gone.result()
            raise GoneError
        raise OverdueError
    finally:
        gone.cancel()
        if running.cancel():
            await asyncio.wait((running,))  # it takes its image out of the queue
        del running


async def _disconnect(receive: Receive) -> None:
    """Wait until the client has gone; the body must have been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _next(receive: Receive, deadline: float) -> Message:
    """Return the next part of a body; raise RefusedError (408) if it is too slow."""
    left = min(STALL, deadline - time.monotonic())
    try:
        message = await asyncio.wait_for(receive(), max(0.0, left))
    except asyncio.TimeoutError as error:
        raise RefusedError(408, "The body of the request arrived too slowly; send it again.") from error
    if message["type"] == "http.disconnect":
        raise GoneError
    return message
