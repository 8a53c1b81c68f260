"""Measure `yolo-lite serve` on this machine: requests against direct calls of the same detector, in one run."""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import NamedTuple, TypeVar

import numpy as np

from yolo_lite.bench.clients import SECONDS, plan
from yolo_lite.bench.peers import Peer, child_environment
from yolo_lite.checks import check_whole
from yolo_lite.errors import InputError
from yolo_lite.media.images import read_image
from yolo_lite.media.writers import write_image
from yolo_lite.structures.geometry import Image

_LEAST = 8  # images of different sizes
EARLY = 100  # requests after which memory is measured first
_TURNS = 4  # of each round, in which every image is sent alone
_LISTENS = "listening on http://127.0.0.1:"

Side = TypeVar("Side")


@dataclass(frozen=True)
class Load:
    """What is sent to the server.

    Attributes:
        clients: that send at once.
        requests: of each client.
        memory_requests: sent first, to see how much memory grows; 0: none.
        rounds: into which the requests are divided; direct calls take turns with them.

    Raises:
        InputError: if a number is too small.

    Example:
        >>> Load(memory_requests=50)
        Traceback (most recent call last):
        yolo_lite.errors.InputError: memory_requests must be above 100, after which memory is measured first, got 50
    """

    clients: int = 8
    requests: int = 50
    memory_requests: int = 0
    rounds: int = 5

    def __post_init__(self) -> None:
        for name in ("clients", "requests", "rounds"):
            check_whole(getattr(self, name), name)
        if self.memory_requests and self.memory_requests <= EARLY:
            raise InputError(
                f"memory_requests must be above {EARLY}, after which memory is measured first, "
                f"got {self.memory_requests}"
            )


@dataclass(frozen=True)
class ServeReport:
    """The figures that `bench serve` prints.

    Attributes:
        server: what the server says about its detector.
        images: number of images; each has another size.
        direct_ms: of reading, decoding and detecting in one image by a direct call: the mean over the images of the
            medians over the rounds.
        http_ms: of the same by a request, one after the other.
        direct_rate: images per second of direct calls with batches, as the median of the rounds.
        http_rate: images per second of all clients together, as the median of the rounds.
        ratio: of the two in one round, as the median of the rounds.
        cpu_ms: CPU time of an image in the two, as medians of the rounds; NaN where the system does not tell. A machine
            that is busy with other programs changes it less than the rates.
        answers: number of answers that were compared with those of direct calls.
        wrong: how many of these differ.
        memory: bytes of the server after 100 and after all memory_requests; None: not measured.
    """

    server: str
    images: int
    direct_ms: float
    http_ms: float
    direct_rate: float
    http_rate: float
    ratio: float
    cpu_ms: tuple[float, float]
    answers: int
    wrong: int
    memory: tuple[int, int] | None

    @property
    def overhead_ms(self) -> float:
        """Milliseconds that a request takes longer than a direct call."""
        return self.http_ms - self.direct_ms


def bench_serve(
    weights: str,
    images: Sequence[Path],
    *,
    load: Load | None = None,
    device: str = "auto",
    batch_size: int = 8,
    threads: int = 0,
    say: Callable[[str], object] = lambda line: None,
) -> ServeReport:
    """Measure a server in a process of its own, with clients in another and direct calls in a third.

    Requests and direct calls take turns, after a warm-up. Every answer is compared with that of a direct call. Fewer
    than eight images are completed with crops of different sizes, so that an answer to another request would show.

    Args:
        weights: a checkpoint, an exported file, or the name of a shipped checkpoint; a detector.
        images: files that can be read.
        load: what is sent.
        device, batch_size, threads: of the server and of the direct calls; 0 threads: as many as they choose.
        say: receives progress.

    Raises:
        InputError: if the server cannot start or refuses an image, or the weights are no detector.

    Example:
        >>> load = Load(clients=2, requests=1, rounds=1)
        >>> report = bench_serve("yolo_lite-pico-voc5", [Path("photo.jpg")], load=load)  # doctest: +SKIP
        >>> report.images, report.wrong  # doctest: +SKIP
        (8, 0)
    """
    load = load or Load()
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        files = [str(file.absolute()) for file in several_sizes(images, Path(folder))]
        direct = stack.enter_context(Peer("yolo_lite.bench.direct_calls"))
        say("opening the detector for direct calls")
        answers = direct.ask(
            "open", files=files, weights=weights, device=device, batch_size=batch_size, threads=threads
        )
        say("starting the server")
        words = _words(weights, device, batch_size=batch_size, threads=threads, clients=load.clients)
        server = stack.enter_context(_serving(words))
        clients = stack.enter_context(Peer("yolo_lite.bench.clients"))
        clients.ask("open", port=server.port, files=files, answers=answers)
        return _measure(direct, clients, server=server, load=load, count=len(files), say=say)


def several_sizes(images: Sequence[Path], folder: Path, *, least: int = _LEAST) -> list[Path]:
    """Return images, and crops of them if they are few, so that there are some of different sizes.

    Args:
        images: files that can be read.
        folder: where the crops are written, as JPEG files.
        least: number of images to have.

    Raises:
        InputError: if an image cannot be read, or there is none.

    Example:
        >>> files = several_sizes([Path("photo.jpg")], Path("."), least=3)
        >>> len({read_image(file).shape for file in files})
        3
    """
    if not images:
        raise InputError("there are no images to send; name some with --source")
    files, generator = list(images), np.random.default_rng(0)
    while len(files) < least:
        path = folder / f"crop-{len(files)}.jpg"
        write_image(path, _crop(read_image(images[len(files) % len(images)]), generator))
        files.append(path)
    return files


def _crop(image: Image, generator: np.random.Generator) -> Image:
    """Return a part of an image, at least half as wide and high."""
    height, width = image.shape[:2]
    sides = [int(generator.integers(side // 2, side + 1)) or 1 for side in (height, width)]
    y, x = (int(generator.integers(0, all - side + 1)) for all, side in zip((height, width), sides))
    return np.ascontiguousarray(image[y : y + sides[0], x : x + sides[1]])


@dataclass(frozen=True)
class _Server:
    port: int
    pid: int
    line: str


def _words(weights: str, device: str, *, batch_size: int, threads: int, clients: int) -> list[str]:
    exported = weights.lower().endswith((".onnx", ".xml"))
    words = ["serve", "--port", "0", "--weights", weights, "--batch-size", str(batch_size)]
    words += [] if exported else ["--device", device]
    words += ["--threads", str(threads)] if threads else []
    # Many clients wait long for their turn, and none is to be refused.
    return [*words, "--queue", str(max(32, 2 * clients)), "--seconds", f"{SECONDS:g}"]


@contextmanager
def _serving(words: Sequence[str]) -> Iterator[_Server]:
    """Run `yolo-lite serve` until the block ends."""
    with TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "yolo_lite", *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=child_environment(),
        )
        try:
            assert process.stdout
            lines: list[str] = []
            for line in process.stdout:
                if line.startswith(_LISTENS):
                    port = int(line.removeprefix(_LISTENS).split()[0])
                    yield _Server(port, process.pid, line=lines[0] if lines else "")
                    return
                lines.append(line.strip())
            errors.seek(0)
            last = (errors.read().strip().splitlines() or ["it said nothing"])[-1]
            raise InputError(f"the server did not start: {last.removeprefix('error: ')}")
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.communicate(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


def _measure(
    direct: Peer, clients: Peer, *, server: _Server, load: Load, count: int, say: Callable[[str], object]
) -> ServeReport:
    checked = _Checked()
    memory = _memory(clients, server, load=load, checked=checked, say=say) if load.memory_requests else None
    alone: list[tuple[list[float], list[float]]] = []
    rounds: list[tuple[_Rate, _Rate]] = []
    sizes = [load.clients * size for size in _divide(load.requests, load.rounds)]
    for number, total in enumerate([2 * load.clients, *sizes]):
        say(f"round {number} of {len(sizes)}" if number else "warming up")
        pairs = [_alone(direct, clients, flip=turn % 2 == 1, checked=checked) for turn in range(_TURNS)]
        order = list(chain.from_iterable(plan(total, load.clients, images=count)))
        pair = _by_turns(
            partial(_batched, direct, order),
            partial(_together, clients, total, load=load, server=server, checked=checked),
            flip=number % 2 == 1,
        )
        if number:
            alone += pairs
            rounds.append(pair)
    direct_ms, http_ms = (statistics.mean(map(statistics.median, zip(*side))) for side in zip(*alone))
    many_direct, many_http = (_Rate(*map(statistics.median, zip(*side))) for side in zip(*rounds))
    return ServeReport(
        server.line,
        images=count,
        direct_ms=direct_ms,
        http_ms=http_ms,
        direct_rate=many_direct.images_per_second,
        http_rate=many_http.images_per_second,
        ratio=statistics.median(http.images_per_second / calls.images_per_second for calls, http in rounds),
        cpu_ms=(many_direct.cpu_ms, many_http.cpu_ms),
        answers=checked.answers,
        wrong=checked.wrong,
        memory=memory,
    )


class _Rate(NamedTuple):
    images_per_second: float
    cpu_ms: float  # of an image


@dataclass
class _Checked:
    """How many answers were compared with those of direct calls, and how many differ."""

    answers: int = 0
    wrong: int = 0

    def add(self, answers: int, wrong: int) -> None:
        """Count some answers."""
        self.answers += answers
        self.wrong += wrong


def _by_turns(direct: Callable[[], Side], http: Callable[[], Side], *, flip: bool) -> tuple[Side, Side]:
    """Return the results of both; which goes first changes, so that a machine that gets slower favours neither."""
    if flip:
        late = http()
        return direct(), late
    return direct(), http()


def _alone(direct: Peer, clients: Peer, *, flip: bool, checked: _Checked) -> tuple[list[float], list[float]]:
    """Return milliseconds of each image, by direct calls and by requests, one after the other."""

    def by_http() -> list[float]:
        answer = clients.ask("single")
        checked.add(len(answer["ms"]), answer["wrong"])
        milliseconds: list[float] = answer["ms"]
        return milliseconds

    return _by_turns(partial(direct.ask, "single"), by_http, flip=flip)


def _batched(direct: Peer, order: Sequence[int]) -> _Rate:
    spent = direct.ask("batched", images=order)
    return _Rate(len(order) / spent["seconds"], spent["cpu"] / len(order) * 1e3)


def _together(clients: Peer, total: int, *, load: Load, server: _Server, checked: _Checked) -> _Rate:
    before = _cpu_seconds(server.pid)
    answer = clients.ask("together", total=total, clients=load.clients)
    checked.add(total, answer["wrong"])
    return _Rate(total / answer["seconds"], (_cpu_seconds(server.pid) - before) / total * 1e3)


def _memory(
    clients: Peer, server: _Server, *, load: Load, checked: _Checked, say: Callable[[str], object]
) -> tuple[int, int] | None:
    """Return the server's bytes after the first requests and after all; None where the system does not tell."""
    say(f"sending {load.memory_requests:,} requests to see how memory grows")
    used = []
    for total in (EARLY, load.memory_requests - EARLY):
        checked.add(total, clients.ask("together", total=total, clients=load.clients)["wrong"])
        used.append(_resident(server.pid))
    return (used[0], used[1]) if all(used) else None


def _resident(pid: int) -> int:
    """Return the bytes of memory that a process has; 0 where the system does not tell."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS")), 0)


def _cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used; NaN where the system does not tell."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return math.nan
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _divide(total: int, parts: int) -> list[int]:
    """Return so many almost equal parts of a number, or fewer, none of them 0."""
    parts = min(parts, total)
    return [total // parts + (number < total % parts) for number in range(parts)]
