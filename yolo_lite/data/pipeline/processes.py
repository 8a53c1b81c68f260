"""Processes that load batches for the main process, and how their batches come back.

Forked processes return a batch in memory that was shared before they began; others return it through a pipe. Neither
needs /dev/shm or a file handle for each tensor, so low limits on these do not stop a run.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import mmap
import multiprocessing
import os
import signal
import time
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, NamedTuple

import torch
import torch.multiprocessing  # spawned processes then share the tensors of a data set instead of copying them
from torch import Tensor

from yolo_lite.errors import InputError, reason

Keys = list[tuple[int, int]]
Load = Callable[[Keys, Callable[[], None]], Any]

_AHEAD = 2  # batches requested from each process at once
_LARGE = 1 << 14  # bytes from which a tensor goes through shared memory
_ALIGNED = 64  # tensors in shared memory begin at multiples of this many bytes
_SECONDS, _LOOKS = 5.0, 36  # length and number of polls that one sample may take: three minutes
_FAREWELL = 1.0  # seconds that processes get to end by themselves before they are killed
_SCARCE = (errno.EMFILE, errno.ENFILE)
_FEWER = "--set train.workers=0, which --resume takes too"


class ShortageError(Exception):
    """Handles, memory or processes ran out; the main process does without them if it loads batches itself."""


class LoadingProcesses:
    """Processes that load batches in turn; `close` ends them, and so does losing the last reference.

    Args:
        load: makes a batch, a NamedTuple of tensors or None, of its keys; calls its second argument after each sample.
        count: number of processes.
        room: bytes of shared memory for each batch; a tensor that does not fit goes through the pipe.
        pin: put the batches into pinned memory, from which a GPU copies while it computes.

    Raises:
        ShortageError: if there are not enough handles, memory or processes.
    """

    def __init__(self, load: Load, count: int, *, room: int, pin: bool = False) -> None:
        self._pin, self._room = pin, -(-room // mmap.PAGESIZE) * mmap.PAGESIZE
        self._pipes: list[Connection[Any, Any]] = []
        self._processes: list[BaseProcess] = []
        self.close = weakref.finalize(self, _end, os.getpid(), self._pipes, self._processes)
        context = multiprocessing.get_context()
        try:
            forks = context.get_start_method() == "fork"
            self._memory = mmap.mmap(-1, self._room * count * _AHEAD) if forks and self._room else None
            for _ in range(count):
                near_end, far_end = context.Pipe()
                self._pipes.append(near_end)
                copies = tuple(self._pipes) if forks else ()
                with far_end:  # each end stays open in one process only, so that the other side notices its death
                    process = context.Process(target=_serve, args=(far_end, copies, load, self._memory), daemon=True)
                    with _signals_held_back():
                        process.start()
                self._processes.append(process)
        except OSError as error:
            self.close()
            raise ShortageError(reason(error)) from error

    def batches(self, order: Sequence[Keys]) -> Iterator[Any]:
        """Yield the batch of each list of keys, in order. Leaving early ends the processes.

        Raises:
            ShortageError: if a process runs out of handles.
            InputError: if a sample raises it, a process was killed, or one makes no progress.
        """
        ahead = _AHEAD * len(self._pipes)
        received = 0
        try:
            for turn in range(min(ahead, len(order))):
                self._ask(turn, order)
            for turn in range(len(order)):
                batch = self._unpack(self._receive(turn), turn)
                received += 1
                if turn + ahead < len(order):
                    self._ask(turn + ahead, order)
                yield batch
        finally:
            if received < len(order):
                self.close()

    def _ask(self, turn: int, order: Sequence[Keys]) -> None:
        number = turn % len(self._pipes)
        try:
            self._pipes[number].send((order[turn], self._place(turn), self._room))
        except OSError:
            raise _killed(self._processes[number]) from None

    def _place(self, turn: int) -> int:
        """Return the place of a batch in the shared memory; it is free again once the batch has been received."""
        return turn % (_AHEAD * len(self._pipes)) * self._room

    def _receive(self, turn: int) -> _Packed:
        """Wait for a batch. Polls are counted, not seconds: a suspended machine or Ctrl-Z is not a lack of progress."""
        number, looks = turn % len(self._pipes), 0
        pipe, process = self._pipes[number], self._processes[number]
        while looks < _LOOKS:
            try:
                if not pipe.poll(_SECONDS):
                    looks += 1
                    continue
                answer = pipe.recv()
            except (EOFError, OSError):
                raise _killed(process) from None
            if isinstance(answer, _Failed):
                answer.raise_()
            if answer is not None:
                packed: _Packed = answer
                return packed
            looks = 0
        raise InputError(
            f"a loading process (pid {process.pid}) has loaded nothing for {_SECONDS * _LOOKS:.0f} seconds: it is stopped, or "
            f"the disk does not answer; check both, or load in the main process: {_FEWER}"
        )

    def _unpack(self, packed: _Packed, turn: int) -> Any:
        return packed.kind(*(part and self._tensor(part, self._place(turn)) for part in packed.parts))

    def _tensor(self, part: _Part, place: int) -> Tensor:
        if part.total == 0:
            return torch.empty_strided(part.shape, part.stride, dtype=part.dtype)
        if part.content is not None:
            pixels = torch.frombuffer(bytearray(part.content), dtype=part.dtype)
            pixels = pixels.pin_memory() if self._pin else pixels
        else:
            assert self._memory is not None
            shared = torch.frombuffer(self._memory, dtype=part.dtype, count=part.total, offset=place + part.start)
            pixels = torch.empty(part.total, dtype=part.dtype, pin_memory=self._pin).copy_(shared)
        return pixels.as_strided(part.shape, part.stride)


class _Part(NamedTuple):
    """A tensor in transit: its layout, and its bytes or where they begin in the batch's shared memory."""

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    dtype: torch.dtype
    total: int
    start: int
    content: bytes | None


class _Packed(NamedTuple):
    """A batch in transit."""

    kind: Callable[..., Any]
    parts: list[_Part | None]


class _Failed(NamedTuple):
    """The error that came instead of a batch, and whether a lack of handles caused it."""

    error: Exception
    trace: str
    scarce: bool

    def raise_(self) -> None:
        """Raise the error in the main process."""
        if self.scarce:
            raise ShortageError(reason(self.error))
        if isinstance(self.error, InputError):
            raise self.error
        raise self.error from RuntimeError(f"in a loading process:\n{self.trace}")


def is_scarce(error: BaseException | None) -> bool:
    """Return whether an error, or one that caused it, means that no more files can be opened.

    Example:
        >>> is_scarce(OSError(errno.EMFILE, "too many open files")), is_scarce(ValueError())
        (True, False)
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _SCARCE:
            return True
        error = error.__cause__ or error.__context__
    return False


def _serve(
    pipe: Connection[Any, Any], copies: Sequence[Connection[Any, Any]], load: Load, memory: mmap.mmap | None
) -> None:
    """Load the batches asked for until the main process is gone."""
    _settle()
    for copy in copies:
        copy.close()
    asker = multiprocessing.parent_process()
    last_sign = time.monotonic()

    def tell() -> None:
        nonlocal last_sign
        if time.monotonic() - last_sign > 1:  # a sign of life during long waits, and no extra work otherwise
            pipe.send(None)
            last_sign = time.monotonic()

    try:
        while True:
            while not pipe.poll(_SECONDS):
                if asker and not asker.is_alive():  # a sibling may hold the other end of the pipe
                    return
            keys, place, room = pipe.recv()
            try:
                answer: object = _pack(load(keys, tell), memory, place=place, room=room)
            except Exception as error:
                answer = _Failed(_sendable(error), traceback.format_exc(), is_scarce(error))
            pipe.send(answer)
    except (EOFError, OSError):
        return


def _settle() -> None:
    """Use one thread, and ignore signals that reach the whole process group: the main process ends its children.

    Objects of the main process are excluded from garbage collection: it would write to each of them, and so copy the memory
    that forked processes share.
    """
    import cv2

    gc.freeze()
    for number in _OF_GROUPS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _OF_GROUPS)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


_OF_GROUPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Hold signals back from a new process until it ignores them: until then it would react like the main process."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_GROUPS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _pack(batch: Any, memory: mmap.mmap | None, *, place: int, room: int) -> _Packed:
    parts: list[_Part | None] = []
    start = 0
    for tensor in batch:
        if tensor is None:
            parts.append(None)
            continue
        tensor = tensor if _is_dense(tensor) else tensor.contiguous()
        flat = tensor.as_strided((tensor.numel(),), (1,))
        about = (tuple(tensor.shape), tensor.stride(), tensor.dtype, tensor.numel())
        if memory is None or not _LARGE <= flat.nbytes <= room - start:
            parts.append(_Part(*about, 0, flat.numpy().tobytes()))
            continue
        torch.frombuffer(memory, dtype=flat.dtype, count=len(flat), offset=place + start).copy_(flat)
        parts.append(_Part(*about, start, None))
        start += -(-flat.nbytes // _ALIGNED) * _ALIGNED
    return _Packed(type(batch), parts)


def _is_dense(tensor: Tensor) -> bool:
    """Return whether a tensor's numbers fill one block of memory, in any order."""
    filled = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape)):
        if size > 1 and stride != filled:
            return False
        filled *= size
    return True


def _sendable(error: Exception) -> Exception:
    """Return an error of a type that the main process knows and can distinguish from a bug."""
    if isinstance(error, InputError | MemoryError):
        return InputError(str(error)) if isinstance(error, InputError) else MemoryError(str(error))
    return RuntimeError(str(error) if isinstance(error, RuntimeError) else f"{type(error).__name__}: {error}")


def _killed(process: BaseProcess) -> InputError:
    process.join(_SECONDS)
    code = process.exitcode
    ending = f"was killed (signal {-code})" if code is not None and code < 0 else f"has ended (exit {code})"
    return InputError(
        f"a loading process {ending}, as happens when memory runs out; close other programs, use a smaller --batch-size, or, in "
        f"training, load in the main process: {_FEWER}"
    )


def _end(owner: int, pipes: Sequence[Connection[Any, Any]], processes: Sequence[BaseProcess]) -> None:
    """Close the pipes, which ends the processes; kill those that remain. In a forked process this does nothing."""
    if os.getpid() != owner:
        return
    for pipe in pipes:
        pipe.close()
    deadline = time.monotonic() + _FAREWELL
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
