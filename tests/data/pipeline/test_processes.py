"""Processes that load: what comes back is what was made, and nothing that befalls a process is waited for without end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from yolo_lite.data.pipeline import processes
from yolo_lite.data.pipeline.processes import Keys, LoadingProcesses, ShortageError
from yolo_lite.errors import InputError

ROOM = 1 << 20


class Things(NamedTuple):
    """Tensors of all kinds that batches may hold."""

    large: Tensor
    small: Tensor
    empty: Tensor
    turned: Tensor
    nothing: Tensor | None
    process: Tensor


def load(keys: Keys, tell: Callable[[], None]) -> Things:
    """Make what depends on the keys alone, but for the process that made it."""
    generator = torch.Generator().manual_seed(keys[0][1])
    pixels = torch.randint(0, 256, (2, 40, 50, 3), dtype=torch.uint8, generator=generator)
    return Things(
        pixels.permute(0, 3, 1, 2),
        torch.tensor([[key] for key in keys]),
        torch.zeros(0, 4),
        torch.arange(12.0).view(3, 4).t()[::2],
        None,
        torch.tensor(os.getpid()),
    )


def alike(one: Things, other: Things) -> bool:
    pairs = list(zip(one, other))[:-1]
    return all(a is b is None or (torch.equal(a, b) and a.dtype == b.dtype) for a, b in pairs)


@pytest.fixture(params=["fork", "spawn"])
def start(request: pytest.FixtureRequest) -> Iterator[str]:
    """Start processes in either way, as Linux does and as macOS and Windows do."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method(request.param, force=True)
    yield request.param
    multiprocessing.set_start_method(before, force=True)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a second instead of minutes."""
    monkeypatch.setattr(processes, "_SECONDS", 0.1)
    monkeypatch.setattr(processes, "_LOOKS", 10)


@pytest.mark.slow
def test_batches_come_back_as_they_were_made_and_in_order(start: str) -> None:
    order = [[(0, index)] for index in range(11)]
    loading = LoadingProcesses(load, 2, room=ROOM)
    found = list(loading.batches(order))
    assert all(alike(load(keys, lambda: None), batch) for keys, batch in zip(order, found, strict=True))
    assert found[3].large.stride() == load(order[3], lambda: None).large.stride()
    makers = {int(batch.process) for batch in found}
    assert len(makers) == 2
    assert os.getpid() not in makers
    again = list(loading.batches(order))  # the same processes serve the next pass
    assert {int(batch.process) for batch in again} == makers
    assert all(alike(one, other) for one, other in zip(found, again))


def test_kept_batches_are_not_overwritten_by_later_ones() -> None:
    """Shared memory holds two batches of a process; here all twelve are kept and compared at the end."""
    order = [[(0, index)] for index in range(12)]
    found = list(LoadingProcesses(load, 1, room=ROOM).batches(order))
    assert all(alike(load(keys, lambda: None), batch) for keys, batch in zip(order, found))


def test_what_finds_no_room_in_shared_memory_comes_all_the_same() -> None:
    order = [[(0, index)] for index in range(3)]
    for room in (0, 8000):  # the large tensor has 12,000 bytes, and rooms are whole pages
        found = list(LoadingProcesses(load, 1, room=room).batches(order))
        assert all(alike(load(keys, lambda: None), batch) for keys, batch in zip(order, found))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="handles are counted as Linux lists them")
def test_no_file_of_shared_memory_and_no_handle_is_used_for_a_batch() -> None:
    loading = LoadingProcesses(load, 2, room=ROOM)
    before, shared = len(os.listdir("/proc/self/fd")), set(os.listdir("/dev/shm"))
    kept = []
    for batch in loading.batches([[(0, index)] for index in range(9)]):
        kept.append(batch)
        assert len(os.listdir("/proc/self/fd")) == before
        assert {name for name in os.listdir("/dev/shm") if name.startswith("torch")} <= shared


def failing(error: Callable[[], Exception]) -> processes.Load:
    def load_or_fail(keys: Keys, tell: Callable[[], None]) -> Things:
        if keys[0][1] == 2:
            raise error()
        return load(keys, tell)

    return load_or_fail


def unreadable() -> Exception:
    return InputError("photo.jpg is damaged")


def handles() -> Exception:
    try:
        try:
            raise OSError(24, "Too many open files")
        except OSError as error:
            raise InputError("cannot read photo.jpg: Too many open files") from error
    except InputError as error:
        return error


class Odd(Exception):
    """An error that cannot be rebuilt from its text."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (unreadable, InputError, "^photo.jpg is damaged$"),
        (handles, ShortageError, "Too many open files"),
        (MemoryError, MemoryError, "^$"),
        (lambda: Odd(1, 2), RuntimeError, "^Odd: 1 and 2$"),
    ],
)
def test_an_error_in_a_process_is_raised_in_the_one_that_asks(
    error: Callable[[], Exception], kind: type[Exception], text: str
) -> None:
    loading = LoadingProcesses(failing(error), 2, room=ROOM)
    batches = loading.batches([[(0, index)] for index in range(6)])
    assert alike(next(batches), load([(0, 0)], lambda: None))
    next(batches)
    with pytest.raises(kind, match=text) as caught:
        next(batches)
    if kind is RuntimeError:
        assert "raise error()" in str(caught.value.__cause__)  # where it happened, for the one who reports the bug
    assert not loading.close.alive


def children(loading: LoadingProcesses) -> list[int]:
    return [process.pid or 0 for process in loading._processes]


def test_a_killed_process_is_told_with_its_signal_and_the_remedy() -> None:
    loading = LoadingProcesses(load, 2, room=ROOM)
    batches = loading.batches([[(0, index)] for index in range(100)])
    next(batches)
    os.kill(children(loading)[1], signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(InputError, match=r"^a loading process was killed \(signal 9\).*train.workers=0") as caught:
        list(batches)
    assert time.monotonic() - began < 60
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_a_process_that_is_stopped_is_not_waited_for_without_end(impatient: None) -> None:
    loading = LoadingProcesses(load, 2, room=ROOM)
    pids = children(loading)
    batches = loading.batches([[(0, index)] for index in range(100)])
    next(batches)
    os.kill(pids[0], signal.SIGSTOP)
    with pytest.raises(InputError, match=rf"pid {pids[0]}\) has loaded nothing for 1 seconds.*train.workers=0"):
        list(batches)
    assert not any(alive(pid) for pid in pids)


def slow(keys: Keys, tell: Callable[[], None]) -> Things:
    """Take longer than is waited for, but say after each sample that it is done."""
    for _ in range(2):
        time.sleep(1.1)
        tell()
    return load(keys, tell)


@pytest.mark.slow
def test_a_slow_process_that_makes_progress_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_SECONDS", 0.2)
    monkeypatch.setattr(processes, "_LOOKS", 8)
    (batch,) = LoadingProcesses(slow, 1, room=ROOM).batches([[(0, 5)]])
    assert alike(batch, load([(0, 5)], lambda: None))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_processes_end_with_the_last_reference() -> None:
    loading = LoadingProcesses(load, 2, room=ROOM)
    pids = children(loading)
    assert all(alive(pid) for pid in pids)
    del loading
    assert not any(alive(pid) for pid in pids)


ORPHANS = """
import os, sys, time
from tests.data.pipeline.test_processes import ROOM, load
from yolo_lite.data.pipeline.processes import LoadingProcesses
first, second = (LoadingProcesses(load, 2, room=ROOM) for _ in range(2))
print(*(process.pid for one in (first, second) for process in one._processes), flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_processes_end_when_the_one_that_asks_is_killed() -> None:
    """Those that began later hold a copy of the pipes of the earlier ones, which must not keep these alive."""
    root = Path(__file__).parents[3]
    process = subprocess.Popen([sys.executable, "-c", ORPHANS], stdout=subprocess.PIPE, cwd=root, text=True)
    assert process.stdout
    pids = [int(word) for word in process.stdout.readline().split()]
    assert len(pids) == 4
    process.kill()
    process.wait()
    deadline = time.monotonic() + 60
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(alive(pid) for pid in pids)


def test_a_pass_that_is_left_early_leaves_nothing_for_the_next_one() -> None:
    loading: Any = LoadingProcesses(load, 2, room=ROOM)
    for _ in loading.batches([[(0, index)] for index in range(50)]):
        break
    assert not loading.close.alive


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no signals to hold back")
def test_signals_to_the_whole_group_leave_processes_to_the_one_that_asks(tmp_path: Path) -> None:
    """A child process of this test stands for the command line; all signals go to its whole group."""
    code = (
        "import os, signal, sys, torch\n"
        "from typing import NamedTuple\n"
        "from yolo_lite.data.pipeline.processes import LoadingProcesses\n"
        "class One(NamedTuple):\n"
        "    value: torch.Tensor\n"
        "seen = []\n"
        "for name in ('SIGINT', 'SIGTERM', 'SIGHUP'):\n"
        "    signal.signal(getattr(signal, name), lambda number, frame: seen.append(number))\n"
        "processes = LoadingProcesses(lambda keys, tell: One(torch.tensor(keys)), 2, room=0)\n"
        "for name in ('SIGINT', 'SIGTERM', 'SIGHUP'):\n"
        "    os.killpg(0, getattr(signal, name))\n"
        "print(sum(int(batch.value.sum()) for batch in processes.batches([[(0, i)] for i in range(20)])), len(seen))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, start_new_session=True
    )
    assert (done.stdout, done.stderr) == ("190 3\n", "")
