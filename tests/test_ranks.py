"""Processes that work together: what they exchange, and how they end when one of them fails."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import yolo_lite
import yolo_lite.ranks
from tests.loopback import free_port, no_network, wait_for_port
from tests.processes import run_ranks
from yolo_lite.cli import main
from yolo_lite.errors import InputError
from yolo_lite.ranks import (
    ALONE,
    PeerError,
    PeerShortageError,
    RankError,
    Ranks,
    check_launch,
    is_first,
    process_count,
    together,
)

__all__ = ["no_network"]


def test_only_this_module_imports_torch_distributed() -> None:
    folder = Path(yolo_lite.__file__).parent
    users = [path.name for path in folder.rglob("*.py") if "torch.distributed" in path.read_text(encoding="utf-8")]
    assert users == ["ranks.py"]


def test_without_torchrun_there_is_one_process() -> None:
    with together() as ranks:
        assert ranks is ALONE
    assert (is_first(), process_count()) == (True, 1)


TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
TORCHRUN |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500", "TORCHELASTIC_RESTART_COUNT": "0"}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        *((name, "x", f"{name} must be a whole number, got 'x'; start") for name in TORCHRUN if name != "MASTER_ADDR"),
        ("RANK", "", "RANK must be a whole number, got ''"),
        ("RANK", "-1", "RANK must be a whole number, got '-1'"),
        ("RANK", "2", "RANK is 2, but WORLD_SIZE is 2: expected a number from 0 to WORLD_SIZE - 1"),
        ("WORLD_SIZE", "0", "RANK is 1, but WORLD_SIZE is 0"),
        ("LOCAL_RANK", "7", "LOCAL_RANK is 7, but LOCAL_WORLD_SIZE is 2"),
        ("MASTER_PORT", "70000", "MASTER_PORT must be a number from 1 to 65535, got 70000"),
    ],
)
@pytest.mark.parametrize("command", ["eval", "data"])
def test_a_variable_of_torchrun_that_cannot_be_used_is_named_in_one_line(
    name: str,
    text: str,
    words: str,
    command: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every process says so: with a wrong RANK, none can know whether it is the first."""
    monkeypatch.setattr(os, "environ", {**os.environ, **TORCHRUN, name: text})
    with pytest.raises(RankError, match=words), together():
        pass
    assert main([command, "--help"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: the environment variable {words}")


def test_the_variables_of_torchrun_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in TORCHRUN.items():
        monkeypatch.setenv(name, text)
    check_launch()
    assert (is_first(), process_count()) == (False, 2)
    monkeypatch.delenv("LOCAL_WORLD_SIZE")  # a script that sets the others itself
    check_launch()


def test_a_variable_of_another_program_is_no_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "private")  # without WORLD_SIZE, MASTER_ADDR and MASTER_PORT
    check_launch()
    assert (is_first(), process_count()) == (True, 1)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("total", [0, 1, 3, 7])
def test_each_image_of_a_batch_belongs_to_one_process(count: int, total: int) -> None:
    """`own` counts the images of a prefix; listing them one by one is the oracle."""
    owners = [position % count for position in range(total)]
    assert [Ranks(rank, count).own(total) for rank in range(count)] == [owners.count(rank) for rank in range(count)]


def exchanges() -> dict[str, Any]:
    entered: list[str] = []

    @contextmanager
    def folder() -> Any:
        entered.append("in")
        yield "a folder"
        entered.append("out")

    with together() as ranks:
        model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).requires_grad_(True)
        with torch.no_grad():
            for value in model.state_dict().values():
                value.fill_(ranks.rank)
        ranks.align(model)
        used, unused, only_here = (nn.Parameter(torch.zeros(3)) for _ in range(3))
        used.grad = torch.full((3,), float(ranks.rank + 1))
        if ranks.rank == 1:
            only_here.grad = torch.ones(3)
        ranks.weight = [0.75, 0.25, 0.0][ranks.rank]
        with ranks.enter(folder) as name:
            return {
                "decided": ranks.decide(lambda: ("by", os.environ["RANK"])),
                "gathered": ranks.gather("x" * 1000 * ranks.rank),
                "sum": ranks.sum([ranks.rank, 0.5]),
                "aligned": {float(value.sum()) for value in model.state_dict().values()},
                "numbers": ranks.add_gradients([used, unused, only_here], {"total": 0.25}),
                "gradients": [None if each.grad is None else each.grad.tolist() for each in (used, unused, only_here)],
                "divisor": float(ranks.divisor(torch.tensor(2.0))),
                "entered": (name, list(entered)),
            }


def test_what_three_processes_exchange() -> None:
    results = run_ranks(3, exchanges)
    for rank, result in enumerate(results):
        assert result["decided"] == ("by", "0")
        assert result["gathered"] == (["", "x" * 1000, "x" * 2000] if rank == 0 else [])
        assert result["sum"] == [3.0, 1.5]
        assert result["aligned"] == {0.0}
        assert result["numbers"] == {"total": 0.75}
        assert result["gradients"] == [[6.0] * 3, None, [1.0] * 3]
        # 2 + 2 + nothing from the stand-in, by the fraction of the images that a process has.
        assert result["divisor"] == [3.0, 1.0, 4.0][rank]
        assert result["entered"] == ("a folder", ["in"] if rank == 0 else [])


def short_of_memory() -> tuple[str, float]:
    with together() as ranks:
        if ranks.rank == 1:
            ranks.report_shortage(MemoryError())
            heard = "own"
        else:
            try:
                ranks.divisor(torch.tensor(1.0))
                heard = "nothing"
            except PeerShortageError as error:
                ranks.report_shortage(error)
                heard = "other's"
        return heard, ranks.sum([1])[0]


def test_all_processes_hear_that_one_is_short_of_memory() -> None:
    assert run_ranks(2, short_of_memory) == [("other's", 2.0), ("own", 2.0)]


def interrupted(number: signal.Signals) -> tuple[str, float]:
    """Send this process a signal while it waits for others; return what it raises, and after how many seconds."""
    sent: list[float] = []

    def send() -> None:
        time.sleep(0.3)
        sent.append(time.monotonic())
        os.kill(os.getpid(), number)

    signal.signal(number, signal.default_int_handler)
    thread = threading.Thread(target=send)
    thread.start()
    try:
        with together():
            return "came", 0.0
    except KeyboardInterrupt:
        return "stopped", time.monotonic() - sent[0]
    finally:
        thread.join()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_that_waits_for_another_can_be_stopped(number: signal.Signals) -> None:
    ((what, seconds),) = run_ranks(1, absent_others(lambda: interrupted(number)))
    assert what == "stopped"
    assert seconds < 1


def test_a_process_that_waits_for_the_store_can_be_stopped() -> None:
    """Nothing listens on the port: torchrun, or rank 0, has not begun."""
    work = with_store_of_rank_0(lambda: interrupted(signal.SIGINT))
    ((what, seconds),) = run_ranks(1, absent_others(work, rank=1))
    assert what == "stopped"
    assert seconds < 1


def absent_others(work: Any, *, rank: int = 0) -> Any:
    """Do some work in one of two processes, the other of which does not come."""

    def run() -> Any:
        os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_WORLD_SIZE="2")
        return work()

    return run


def impatient() -> Any:
    yolo_lite.ranks._PATIENCE = timedelta(seconds=0.3)
    with together():
        return "came"


@pytest.mark.parametrize(
    ("rank", "message"),
    [
        (0, "rank 0: no connection to the other processes: rank 1 has not come for 0 minutes"),
        (1, r"rank 1: no connection to the other processes: nothing has answered at 127.0.0.1:\d+ for 0 minutes: "),
    ],
)
def test_who_has_not_come_is_named(rank: int, message: str) -> None:
    (error,) = run_ranks(1, absent_others(with_store_of_rank_0(impatient), rank=rank))
    assert isinstance(error, RankError)
    assert re.match(message, str(error))


@pytest.mark.slow
def test_the_second_to_come_finds_the_first() -> None:
    """Rank 1 waits for the store of rank 0, then both compute."""

    def late() -> float:
        if is_first():
            time.sleep(1.5)
        with together() as ranks:
            return ranks.sum([1])[0]

    assert run_ranks(2, with_store_of_rank_0(late)) == [2.0, 2.0]


@pytest.mark.slow
@pytest.mark.parametrize(("number", "status", "said"), [(2, 130, "interrupted"), (15, 143, "stopped by SIGTERM")])
def test_a_command_that_waits_for_others_can_be_stopped(tmp_path: Path, number: int, status: int, said: str) -> None:
    port = free_port()
    names = {"RANK": 0, "WORLD_SIZE": 2, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 1, "MASTER_ADDR": "127.0.0.1"}
    variables = {name: str(value) for name, value in {**names, "MASTER_PORT": port}.items()}
    command = [sys.executable, "-m", "yolo_lite", "eval", "--data", str(tmp_path)]
    with subprocess.Popen(command, env={**os.environ, **variables}, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for_port(port, process)
            time.sleep(0.5)
            process.send_signal(number)
            _, written = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == status
    assert written.splitlines()[-1] == said


def failing(kind: str) -> None:
    with together() as ranks:
        ranks.sum([1])
        if ranks.rank == 1:
            if kind == "input":
                raise InputError("cannot read a.jpg")
            if kind == "system":
                raise FileNotFoundError(2, "No such file", "a.jpg")
            if kind == "bug":
                raise ZeroDivisionError("by zero")
            os.kill(os.getpid(), signal.SIGKILL)
        ranks.decide(lambda: time.sleep(0.2))
        ranks.sum([1])


@pytest.mark.parametrize(
    ("kind", "own", "message"),
    [
        ("input", RankError, "rank 1: cannot read a.jpg"),
        ("system", RankError, r"rank 1: \[Errno 2\] No such file: 'a.jpg'"),
        ("bug", ZeroDivisionError, "rank 1: ZeroDivisionError: by zero"),
    ],
)
def test_the_failure_of_one_process_ends_the_others_with_its_message(
    kind: str, own: type[Exception], message: str
) -> None:
    began = time.monotonic()
    first, second = run_ranks(2, lambda: failing(kind))
    assert isinstance(second, own)
    assert isinstance(first, PeerError)
    assert re.match(message, str(first))
    assert time.monotonic() - began < 60


def test_a_killed_process_is_named_by_the_first_to_notice() -> None:
    results = run_ranks(3, lambda: failing("kill"))
    assert results[1] is None
    assert sorted(type(results[rank]).__name__ for rank in (0, 2)) == ["PeerError", "RankError"]
    assert all("rank 1: ended without a message" in str(results[rank]) for rank in (0, 2))


def on_twins(kind: str) -> None:
    """Fail on rank 1, whose machine has the name of rank 0's."""
    if os.environ["RANK"] == "1":
        yolo_lite.ranks._this_machine = lambda: f"{socket.gethostname()} another"  # type: ignore[attr-defined]
    failing(kind)


@pytest.mark.slow
def test_another_machine_of_the_same_name_is_another_machine() -> None:
    """Its process numbers mean nothing here, and its screen is out of sight."""
    killed, _ = run_ranks(2, lambda: on_twins("kill"))
    assert str(killed).startswith("rank 0: lost the connection to another process")
    failed, _ = run_ranks(2, lambda: on_twins("input"))
    assert isinstance(failed, PeerError)
    assert failed.is_elsewhere


def test_only_what_one_process_decides_can_fail_for_all() -> None:
    def refuse() -> None:
        raise InputError("no such data")

    def work() -> None:
        with together() as ranks:
            ranks.decide(refuse)

    first, second = run_ranks(2, work)
    assert (type(first), str(first)) == (RankError, "rank 0: no such data")
    assert (type(second), str(second)) == (PeerError, "rank 0: no such data")


SILENCE = 2.0  # seconds, for the tests below


def stopping(victim: int, then: signal.Signals) -> None:
    """Let a process stop itself; another one that has noticed it kills it, or lets it go on."""
    stopped = 0
    try:
        with together(silence=SILENCE) as ranks:
            stopped = int(ranks.sum([os.getpid() if ranks.rank == victim else 0])[0])
            if ranks.rank == victim:
                os.kill(stopped, signal.SIGSTOP)
            for _ in range(2):  # the first one has reached the others while they waited
                ranks.sum([1])
    finally:
        if stopped not in (0, os.getpid()):
            os.kill(stopped, then)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1, 2])
def test_a_stopped_process_ends_the_others_and_itself_once_it_goes_on(victim: int) -> None:
    began = time.monotonic()
    results = run_ranks(3, lambda: stopping(victim, signal.SIGCONT))
    assert time.monotonic() - began < 30 * SILENCE
    for result in results:
        assert str(result).startswith(f"rank {victim}: no sign of life on {socket.gethostname()} for 2 s: ")
    observer = (victim - 1) % 3
    assert [type(result) for result in results] == [RankError if rank == observer else PeerError for rank in range(3)]


def with_store_of_rank_0(work: Any) -> Any:
    """Do some work in processes that were not started by torchrun: rank 0 has the store."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def run() -> Any:
        del os.environ["TORCHELASTIC_USE_AGENT_STORE"]
        os.environ["MASTER_PORT"] = str(port)
        return work()

    return run


@pytest.mark.slow
def test_a_stopped_process_that_has_the_store_is_noticed() -> None:
    began = time.monotonic()
    first, second = run_ranks(2, with_store_of_rank_0(lambda: stopping(0, signal.SIGKILL)))
    assert first is None
    assert isinstance(second, RankError)
    assert str(second).startswith("rank 1: lost the connection to another process: no answer from 127.0.0.1")
    assert time.monotonic() - began < 60


def suspending() -> float:
    """Let another process suspend all, one after another, for longer than they wait for a sign of life."""
    with together(silence=SILENCE) as ranks:
        numbers = [int(ranks.sum([os.getpid() if ranks.rank == rank else 0])[0]) for rank in range(ranks.count)]
        if ranks.rank == 0 and not os.fork():
            for kind in (signal.SIGSTOP, signal.SIGCONT):
                for number in numbers:
                    os.kill(number, kind)
                    time.sleep(0.3 * SILENCE)
                time.sleep(2 * SILENCE)
            os._exit(0)
        end = time.monotonic() + 5 * SILENCE
        while ranks.decide(lambda: time.monotonic() < end):
            time.sleep(0.01)
        return ranks.sum([1])[0]


@pytest.mark.slow
def test_a_job_that_was_suspended_goes_on() -> None:
    assert run_ranks(2, suspending) == [2.0, 2.0]


def busy(seconds: float, *, other: float) -> float:
    with together(silence=SILENCE) as ranks:
        ranks.sum([1])
        if ranks.rank == 1:
            ctypes.PyDLL(None).usleep(int(seconds * 1e6))  # a PyDLL keeps the interpreter to itself
        if ranks.rank == 0:
            time.sleep(other)  # without exchange
        return ranks.sum([1])[0]


@pytest.mark.slow
def test_a_busy_process_is_waited_for() -> None:
    assert run_ranks(2, lambda: busy(0.7 * SILENCE, other=2 * SILENCE)) == [2.0, 2.0]


@pytest.mark.slow
def test_a_process_that_nobody_else_can_interrupt_looks_stopped() -> None:
    """The documented limit: work in C that lets no other thread run for longer than the silence."""
    results = run_ranks(2, lambda: busy(2 * SILENCE, other=0))
    assert all("rank 1: no sign of life" in str(result) for result in results)


def waiting_for_the_store() -> float:
    with together(silence=SILENCE) as ranks:
        ranks.sum([1])
        if ranks.rank == 1:  # as nccl does until rank 0 comes
            store = yolo_lite.ranks._store()
            store.set_timeout(timedelta(seconds=2 * SILENCE))
            with pytest.raises(RuntimeError, match="imeout"):
                store.get("what nobody sets")
        return ranks.sum([1])[0]


@pytest.mark.slow
def test_a_process_that_waits_for_the_store_gives_signs_of_life() -> None:
    assert run_ranks(2, waiting_for_the_store) == [2.0, 2.0]


def lingering() -> float:
    with together(silence=SILENCE) as ranks:
        total = ranks.sum([1])[0]
        if ranks.rank == 0:
            time.sleep(2 * SILENCE)  # writes its report, as it were; rank 1 has ended
    return total


@pytest.mark.slow
def test_a_process_that_has_ended_well_is_not_missed() -> None:
    assert run_ranks(2, lingering) == [2.0, 2.0]
