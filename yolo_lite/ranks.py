"""The processes that `torchrun` starts: which of them this is, and what they exchange.

Rank 0 decides, writes and reports; the others compute. Nothing else in the package imports torch.distributed. Without
torchrun there is one process, and every exchange returns at once.
"""

from __future__ import annotations

import functools
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from yolo_lite.checks import check_variable
from yolo_lite.errors import InputError, Stopped, counted, reason
from yolo_lite.heartbeats import SILENCE, Heartbeats

if TYPE_CHECKING:
    from torch import Tensor, nn

Value = TypeVar("Value")

_PATIENCE = timedelta(minutes=30)  # for a process that lives, but does not come; rank 0 may score for minutes
_LOOKS, _LOOK = 20, 0.1  # how often, and after how many seconds, to look whether a process of this machine has ended
_ANSWER = 10.0  # seconds for an answer of the store, which may have stopped
_NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what torchrun sets


def is_first() -> bool:
    """Return whether this is rank 0, or the only process.

    Example:
        >>> is_first()
        True
    """
    return _number("RANK", 0) == 0


def process_count() -> int:
    """Return the number of processes that torchrun started on all machines; 1 without torchrun.

    Example:
        >>> process_count()
        1
    """
    return _number("WORLD_SIZE", 1)


def local_rank() -> int:
    """Return the number of this process among those of this machine, from 0.

    Example:
        >>> local_rank()
        0
    """
    return _number("LOCAL_RANK", 0)


def local_count() -> int:
    """Return the number of processes that torchrun started on this machine; 1 without torchrun.

    Example:
        >>> local_count()
        1
    """
    return _number("LOCAL_WORLD_SIZE", 1)


def is_restarted() -> bool:
    """Return whether torchrun has started the processes again, after one of them failed.

    Example:
        >>> is_restarted()
        False
    """
    return _number("TORCHELASTIC_RESTART_COUNT", 0) > 0


def launch_id() -> str:
    """Return the name of the launch, which stays the same when torchrun restarts it; empty without torchrun.

    Example:
        >>> launch_id()
        ''
    """
    return os.environ.get("TORCHELASTIC_RUN_ID", "") if _is_launched() else ""


def _is_launched() -> bool:
    return all(name in os.environ for name in _NAMES)


def _number(name: str, usual: int) -> int:
    """Return the number in a variable of torchrun, and `usual` without torchrun.

    Raises:
        RankError: if it is no number; every process says so, as none can know that it is the first.
    """
    try:
        remedy = "start the processes with torchrun, or unset RANK"
        return check_variable(name, os.environ, usual=usual, remedy=remedy) if _is_launched() else usual
    except InputError as error:
        raise RankError(str(error)) from error


def check_launch() -> None:
    """Check the variables that torchrun sets, or others in its place, as scripts of job schedulers do.

    Raises:
        RankError: if one of them is no number, or they do not fit together.

    Example:
        >>> check_launch()
    """
    for rank, count in (("RANK", "WORLD_SIZE"), ("LOCAL_RANK", "LOCAL_WORLD_SIZE")):
        number, total = _number(rank, 0), _number(count, 1)
        if number >= total and count in os.environ:
            raise RankError(
                f"the environment variable {rank} is {number}, but {count} is {total}: expected a number from 0 to "
                f"{count} - 1; start the processes with torchrun, or unset RANK"
            )
    _number("TORCHELASTIC_RESTART_COUNT", 0)
    port = _number("MASTER_PORT", 1)
    if not 0 < port < 2**16:
        raise RankError(f"the environment variable MASTER_PORT must be a number from 1 to 65535, got {port}")


class RankError(InputError):
    """A failure of one of several processes; the message begins with its rank."""


class PeerError(InputError):
    """Another process failed first, and reports why.

    Attributes:
        is_elsewhere: that process runs on another machine, whose screen may be out of sight.
    """

    def __init__(self, message: str, *, is_elsewhere: bool = False) -> None:
        super().__init__(message)
        self.is_elsewhere = is_elsewhere


class PeerShortageError(MemoryError):
    """Another process ran out of memory in this step."""


class _LostError(RuntimeError):
    """An exchange failed, since another process has ended."""


class Ranks:
    """This process among those that work together.

    Args:
        rank: number of this process, from 0.
        count: number of processes.

    Attributes:
        weight: fraction of a micro-batch's images that this process has; 0: it has none, and its image is a stand-in,
            so that all processes take part in every exchange.

    Example:
        >>> Ranks().decide(lambda: 0.5), Ranks().gather("rows")
        (0.5, ['rows'])
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count
        self.weight = 1.0

    @property
    def is_first(self) -> bool:
        """Whether this process decides, writes and reports."""
        return self.rank == 0

    def own(self, total: int) -> int:
        """Return how many of the first `total` images of a batch are this process's: every `count`-th, from `rank` on.

        Example:
            >>> [Ranks(rank, 3).own(4) for rank in range(3)]
            [2, 1, 1]
        """
        return len(range(self.rank, total, self.count))

    def decide(self, work: Callable[[], Value]) -> Value:
        """Do some work on rank 0 alone, and return its result everywhere."""
        if self.count == 1:
            return work()
        return _broadcast(work() if self.is_first else None, is_source=self.is_first)  # type: ignore[return-value]

    @contextmanager
    def enter(self, manager: Callable[[], AbstractContextManager[Value]]) -> Iterator[Value]:
        """Enter a context on rank 0 alone, and yield its value everywhere.

        Example:
            >>> from contextlib import nullcontext
            >>> with Ranks().enter(lambda: nullcontext("folder")) as value:
            ...     value
            'folder'
        """
        if not self.is_first:
            yield self.decide(lambda: None)  # type: ignore[misc]
            return
        with manager() as value:
            self.decide(lambda: value)
            yield value

    def gather(self, value: Value) -> list[Value]:
        """Return the value of every process on rank 0, by rank; nothing elsewhere."""
        return [value] if self.count == 1 else _gather(value, self)

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums of numbers over all processes.

        Example:
            >>> Ranks().sum([1, 2.5])
            [1, 2.5]
        """
        return list(values) if self.count == 1 else _sum(values)

    def divisor(self, total: Tensor) -> Tensor:
        """Return the divisor of a loss that is a sum over a micro-batch: the total of all processes, at least 1.

        It is scaled by `weight`, so that the losses of all processes, weighted by their images, add up to that of the whole
        micro-batch.

        Args:
            total: of this process, a scalar.

        Raises:
            PeerShortageError: if another process has run out of memory.

        Example:
            >>> import torch
            >>> Ranks().divisor(torch.tensor(0.25)), Ranks().divisor(torch.tensor(3.0))
            (tensor(1.), tensor(3.))
        """
        if self.count > 1:
            total = _total(total if self.weight else total * 0)
        return total.clamp(min=1) * (self.weight or 1.0)

    def add_gradients(self, parameters: Iterable[nn.Parameter], numbers: Mapping[str, float]) -> dict[str, float]:
        """Replace each gradient by its sum over all processes, and return the sums of the numbers.

        A parameter without gradient in every process keeps none.

        Raises:
            PeerShortageError: if another process has run out of memory.

        Example:
            >>> Ranks().add_gradients([], {"total": 2.0})
            {'total': 2.0}
        """
        return dict(numbers) if self.count == 1 else _add_gradients(list(parameters), numbers)

    def can_divide(self, total: int, parts: int, *, kind: str) -> bool:
        """Return whether a batch that is too large for memory may be processed in so many micro-batches.

        On several GPUs it may not: batch normalisation is synchronised there, which a process that has run out of memory
        would leave hanging.

        Args:
            total: images of the batch, of all processes.
            parts: number of micro-batches.
            kind: of the device: cpu, cuda or mps.

        Example:
            >>> Ranks().can_divide(8, 8, kind="cuda"), Ranks(0, 2).can_divide(8, 8, kind="cpu")
            (True, False)
        """
        return parts * self.count <= total and (self.count == 1 or kind == "cpu")

    def report_shortage(self, error: BaseException) -> None:
        """Let the others know, where they next exchange something in this step, that this process ran out of memory.

        Example:
            >>> Ranks().report_shortage(MemoryError())  # there are no others
        """
        if self.count > 1 and not isinstance(error, PeerShortageError):
            with suppress(PeerShortageError):
                _exchange(0.0, is_short=True)

    def align(self, *modules: nn.Module) -> None:
        """Give each module the weights and statistics that it has on rank 0.

        Example:
            >>> Ranks().align()
        """
        if self.count > 1:
            for module in modules:
                _align(module)

    def synchronise(self, model: nn.Module) -> nn.Module:
        """Return the model with the weights of rank 0, and with batch normalisation over all processes on GPUs.

        Example:
            >>> import torch
            >>> model = torch.nn.BatchNorm2d(3)
            >>> Ranks().synchronise(model) is model
            True
        """
        self.align(model)
        if self.count == 1 or next(model.parameters()).device.type != "cuda":
            return model
        from torch import nn

        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
        return converted


ALONE = Ranks()


_heartbeats: Heartbeats | None = None  # of the `with` block of this process


@contextmanager
def together(*, silence: float = SILENCE) -> Iterator[Ranks]:
    """Connect the processes that torchrun started, for a `with` block; without torchrun yield `ALONE`.

    If a process fails in the block, all of them end. The first to fail reports why.

    Args:
        silence: seconds without a sign of life after which a process is given up.

    Raises:
        RankError: instead of an InputError of this process, or if it is the first to notice that another one has ended
            without a word, or is silent.
        PeerError: if another process has failed first.

    Example:
        >>> with together() as ranks:
        ...     ranks.count
        1
    """
    check_launch()
    if process_count() == 1:
        yield ALONE
        return
    import torch.distributed as dist

    if dist.is_initialized():  # by the caller, who ends it as well
        yield Ranks(dist.get_rank(), dist.get_world_size())
        return
    group = _Group.join()
    try:
        with group.alive(silence):
            yield Ranks(group.rank, group.count)
    except GeneratorExit:
        raise
    except BaseException as error:
        explained = group.explain(error)
        if explained is error:
            raise
        raise explained from error
    dist.destroy_process_group()


@functools.cache
def _store() -> Any:
    """Return the store of this launch, which all processes reach: torchrun has it, or else rank 0."""
    import torch.distributed as dist

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    is_mine = is_first() and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True"
    if not is_mine:
        _await_server(address, port)
    return dist.TCPStore(  # type: ignore[attr-defined]
        address,
        port,
        is_master=is_mine,
        wait_for_workers=False,  # torch would not handle signals meanwhile
        timeout=_PATIENCE,
        multi_tenant=True,
        use_libuv=os.environ.get("USE_LIBUV", "1") == "1",  # as torch's own processes have it
    )


def _await_server(address: str, port: int) -> None:
    """Wait until something listens where the processes meet; signals are handled meanwhile.

    Raises:
        RuntimeError: if nothing does for long.
    """
    until = time.monotonic() + _PATIENCE.total_seconds()
    while True:
        try:
            socket.create_connection((address, port), timeout=_ANSWER).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise RuntimeError(
                    f"nothing has answered at {address}:{port} for {_minutes()}: {reason(error)}"
                ) from error
        time.sleep(_LOOK)


def _await_process(store: Any, rank: int) -> tuple[str, int]:
    """Return the machine and the number of a process once it has come; signals are handled meanwhile.

    Raises:
        RuntimeError: if it does not come for long, or the store is gone.
    """
    until, pause = time.monotonic() + _PATIENCE.total_seconds(), 1e-3
    while not store.check([f"process/{rank}"]):
        if time.monotonic() > until:
            raise RuntimeError(f"rank {rank} has not come for {_minutes()}")
        time.sleep(pause)
        pause = min(_LOOK, 2 * pause)
    number, _, machine = store.get(f"process/{rank}").decode().partition(" ")
    return machine, int(number)


def _minutes() -> str:
    return counted(round(_PATIENCE.total_seconds() / 60), "minute")


def _own_connection() -> Any:
    """Return another connection to the store of this launch, whose requests do not wait for those of nccl and gloo."""
    import torch.distributed as dist

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    return dist.TCPStore(  # type: ignore[attr-defined]
        address, port, is_master=False, wait_for_workers=False, timeout=_PATIENCE
    )


_joins = itertools.count()  # the `with` blocks of this process, in the same order as those of the others


class _Group:
    """The connection of the processes, and a store that tells why one failed, even after it has ended."""

    def __init__(self, store: Any, *, rank: int, processes: list[tuple[str, int]]) -> None:
        self.store, self.rank, self.count = store, rank, len(processes)
        self.processes = processes  # machine and process number by rank
        self.heartbeats: Heartbeats | None = None

    @classmethod
    def join(cls) -> _Group:
        """Connect this process with the others: by gloo on CPUs, by nccl between GPUs."""
        import torch
        import torch.distributed as dist
        from torch.distributed.distributed_c10d import PrefixStore

        rank, count = _number("RANK", 0), process_count()
        # Addresses of an earlier start, or of an earlier block, must not be met again.
        prefix = f"yolo_lite/{_number('TORCHELASTIC_RESTART_COUNT', 0)}/{next(_joins)}"
        has_gpus = torch.cuda.is_available() and dist.is_nccl_available()
        backend = "cpu:gloo,cuda:nccl" if has_gpus else "gloo"
        try:
            store = PrefixStore(prefix, _store())
            store.set(f"process/{rank}", f"{os.getpid()} {_this_machine()}")
            processes = [_await_process(store, each) for each in range(count)]
            dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=_PATIENCE)
            group = cls(PrefixStore(f"{prefix}/failures", _own_connection()), rank=rank, processes=processes)
        except RuntimeError as error:
            raise RankError(f"rank {rank}: no connection to the other processes: {reason(error)}") from error
        return group

    @contextmanager
    def alive(self, silence: float) -> Iterator[None]:
        """Give signs of life, and look for those of the others, in a `with` block."""
        global _heartbeats
        self.heartbeats = _heartbeats = Heartbeats(
            self.store, self.rank, count=self.count, silence=silence, on_silence=self._give_up, hear=self._word
        )
        with _noticing():
            _heartbeats.start()
        try:
            yield
        finally:
            _heartbeats = None
            self.heartbeats.leave()

    def explain(self, error: BaseException) -> BaseException:
        """Return the error to raise in place of one that ended the work of this process, and let the others know."""
        is_of_another = isinstance(error, _LostError | Stopped)  # torchrun stops the others when one of them ends
        if not is_of_another and not isinstance(error, Exception):
            return error
        if self.heartbeats and self.heartbeats.error and (is_of_another or _is_expected(error)):
            return self.heartbeats.error
        explain = self._of_another if is_of_another else self._of_this
        return _within(_ANSWER, lambda: explain(error)) or self._unexplained(error)

    def _of_this(self, error: BaseException) -> BaseException:
        message = str(error) if _is_expected(error) else f"{type(error).__name__}: {error}"
        earlier = self._announce(self.rank, message)
        return earlier if earlier and _is_expected(error) else self._unexplained(error)

    def _of_another(self, error: BaseException) -> BaseException:
        ended = self._ended()
        if (earlier := self._word()) is not None:
            return earlier
        if ended:
            who = f"rank {ended[0]}" if len(ended) == 1 else f"ranks {', '.join(map(str, ended))}"
            return self._announce(ended[0], _ENDED) or RankError(f"{who}: {_ENDED}")
        if isinstance(error, Stopped):
            return error
        return self._announce(self.rank, _lost(error)) or self._unexplained(error)

    def _unexplained(self, error: BaseException) -> BaseException:
        """Return the error to raise if no other process has failed, or none can be asked."""
        if isinstance(error, _LostError) or _is_expected(error):
            message = _lost(error) if isinstance(error, _LostError) else str(error)
            return RankError(f"rank {self.rank}: {message}")
        return error

    def _give_up(self, rank: int, silence: float) -> Exception:
        """Announce that a process has given no sign of life; return the error that says so."""
        machine, number = self.processes[rank]
        if machine == _this_machine() and _is_gone(number):
            message = _ENDED
        else:
            name = machine.partition(" ")[0]
            message = f"no sign of life on {name} for {silence:g} s: the process is stopped, or its machine or network has failed"
        return self._announce(rank, message) or RankError(f"rank {rank}: {message}")

    def _ended(self) -> list[int]:
        """Return the ranks of this machine that have ended, as soon as there is one or another process has left word."""
        here = _this_machine()
        for _ in range(_LOOKS):
            gone = [
                rank for rank, (machine, number) in enumerate(self.processes) if machine == here and _is_gone(number)
            ]
            if gone or self._word() is not None:
                return gone
            time.sleep(_LOOK)
        return []

    def _announce(self, rank: int, message: str) -> PeerError | None:
        """Leave word why a process failed; if another process has done so before, return the error that says so."""
        try:
            if self.store.add("failures", 1) == 1:
                self.store.set("word", f"{rank} {message}")
                return None
        except RuntimeError:  # the store has ended with its process
            return None
        return self._word() or PeerError("another process failed first")

    def _word(self) -> PeerError | None:
        """Return the error that says why another process failed, if one has left word."""
        try:
            if not self.store.check(["word"]):
                return None
            rank, _, message = self.store.get("word").decode().partition(" ")
        except RuntimeError:
            return None
        is_elsewhere = self.processes[int(rank)][0] != _this_machine()
        return PeerError(f"rank {rank}: {message}", is_elsewhere=is_elsewhere)


_ENDED = (
    "ended without a message: killed, as happens when memory runs out, or crashed; torchrun reports the signal; a smaller "
    "--batch-size needs less memory"
)


def _lost(error: BaseException) -> str:
    return f"lost the connection to another process: {reason(error)}"


def _is_expected(error: BaseException) -> bool:
    return isinstance(error, InputError | OSError)


def _within(seconds: float, work: Callable[[], Value]) -> Value | None:
    """Return the result of some work, or None if it does not end in time; torchrun's signal may come meanwhile."""
    results: list[Value] = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()
    for _ in range(2):
        with suppress(KeyboardInterrupt):
            thread.join(seconds)
            break
    return results[0] if results else None


def _this_machine() -> str:
    """Return the name of this machine, with what tells it from others of the same name, and from its containers."""
    words = [socket.gethostname()]
    with suppress(OSError):  # no /proc on this system
        words.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        words.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(words)


def _is_gone(number: int) -> bool:
    """Return whether a process of this machine has ended."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    with suppress(OSError):  # no /proc on this system
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return False


@contextmanager
def _noticing() -> Iterator[None]:
    """Tell a broken connection from other errors."""
    try:
        yield
    except RuntimeError as error:
        raise _LostError(reason(error)) from error


def _wait(work: Any) -> None:
    """Wait for an exchange in small steps, so that signals are handled meanwhile, until it is known to be in vain."""
    pause = 1e-4
    is_in_vain = _heartbeats.patience() if _heartbeats else lambda: False
    while not work.is_completed():
        if is_in_vain():
            raise RuntimeError(f"no answer from {os.environ.get('MASTER_ADDR')}, where the processes meet")
        time.sleep(pause)
        pause = min(2e-3, 1.2 * pause)
    work.wait()


def _all_reduce(values: Tensor, *, is_awaited: bool = False) -> Tensor:
    """Sum a tensor over all processes, in place; on a GPU the result may arrive later, unless it is awaited."""
    import torch.distributed as dist

    with _noticing():
        if values.is_cuda and not is_awaited:
            dist.all_reduce(values)
        else:
            _wait(dist.all_reduce(values, async_op=True))
    return values


def _sum(values: Sequence[float]) -> list[float]:
    import torch

    return _all_reduce(torch.tensor(values, dtype=torch.float64)).tolist()


def _exchange(value: float, *, is_short: bool = False) -> float:
    """Return the sum of a number over all processes, unless one of them is short of memory."""
    total, short = _sum([value, float(is_short)])
    if short:
        raise PeerShortageError("another process ran out of memory")
    return total


def _total(value: Tensor) -> Tensor:
    return _all_reduce(value.clone()) if value.is_cuda else value.new_tensor(_exchange(value.item()))


def _add_gradients(parameters: list[nn.Parameter], numbers: Mapping[str, float]) -> dict[str, float]:
    """Do what `Ranks.add_gradients` does, in one exchange."""
    import torch

    trained = [parameter for parameter in parameters if parameter.requires_grad]
    device = trained[0].device
    gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in trained]
    has = [each.grad is not None for each in trained]
    beside = torch.tensor([*map(float, has), *numbers.values()], dtype=torch.float32, device=device)
    flat = torch.cat([*(gradient.float().reshape(-1) for gradient in gradients), beside])
    if not flat.is_cuda:
        _exchange(0.0)
    _all_reduce(
        flat, is_awaited=True
    )  # the numbers below are read at once; no signal would be handled while torch waits
    sizes = [*(gradient.numel() for gradient in gradients), len(trained), len(numbers)]
    *sums, shown, totals = torch.split(flat, sizes)
    for parameter, gradient, summed, there in zip(trained, gradients, sums, shown.tolist()):
        parameter.grad = gradient.copy_(summed.view_as(gradient)) if there else None
    return dict(zip(numbers, totals.tolist()))


def _align(module: nn.Module) -> None:
    import torch

    groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for value in module.state_dict().values():
        groups.setdefault((value.dtype, value.device), []).append(value)
    for group in groups.values():
        flat = torch.cat([value.reshape(-1) for value in group])
        _broadcast_tensor(flat)
        for value, copied in zip(group, torch.split(flat, [value.numel() for value in group])):
            value.copy_(copied.view_as(value))


def _broadcast_tensor(values: Tensor) -> None:
    import torch.distributed as dist

    with _noticing():
        _wait(dist.broadcast(values, 0, async_op=True))


def _broadcast(value: object, *, is_source: bool) -> object:
    """Return the object of rank 0."""
    import torch

    from yolo_lite.packing import pack, unpack

    content = pack(value) if is_source else b""
    size = torch.tensor([len(content)])
    _broadcast_tensor(size)
    buffer = torch.frombuffer(bytearray(content or bytes(int(size))), dtype=torch.uint8)
    _broadcast_tensor(buffer)
    return value if is_source else unpack(buffer.numpy().data)


def _gather(value: Value, ranks: Ranks) -> list[Value]:
    import torch
    import torch.distributed as dist

    from yolo_lite.packing import pack, unpack

    content = bytearray(pack(value))
    sizes = [int(size) for size in _sum([len(content) if rank == ranks.rank else 0 for rank in range(ranks.count)])]
    content.extend(bytes(max(sizes) - len(content)))
    buffer = torch.frombuffer(content, dtype=torch.uint8)
    parts = [torch.empty_like(buffer) for _ in sizes] if ranks.is_first else None
    with _noticing():
        _wait(dist.gather(buffer, parts, dst=0, async_op=True))
    return [unpack(part[:size].numpy().data) for part, size in zip(parts or [], sizes)]
