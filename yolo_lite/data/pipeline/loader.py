"""Load batches: their order, the processes that load them, and how samples become tensors."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from yolo_lite.cores import usable_cores
from yolo_lite.data.pipeline.processes import Load, LoadingProcesses, ShortageError, is_scarce
from yolo_lite.ranks import ALONE, Ranks, local_count
from yolo_lite.structures.batches import Batch, Sample

Say = Callable[[str], None]


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index); their order depends on (seed, epoch) alone.

    Set `epoch` before each pass. A shuffled pass leaves out an incomplete last batch, unless it is the only one.

    Args:
        total: number of samples.
        batch_size: number of samples in a batch.
        shuffle: draw a new order for each pass.
        seed: seed of that order.
        steps: maximum number of batches; 0 for all.
        repeats: how often each sample appears in a shuffled pass, on average; None for once.
        ranks: of several processes each gets its samples of every batch; one without any gets the first as a stand-in.

    Example:
        >>> list(EpochSampler(3, 2, shuffle=False))
        [[(0, 0), (0, 1)], [(0, 2)]]
        >>> list(EpochSampler(3, 2, shuffle=False, ranks=Ranks(1, 2)))  # the second of two processes
        [[(0, 1)], [(0, 2)]]
    """

    def __init__(
        self,
        total: int,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int = 0,
        steps: int = 0,
        repeats: npt.NDArray[np.float64] | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.total, self.batch_size, self.shuffle, self.seed = total, batch_size, shuffle, seed
        self.steps, self.repeats, self.ranks = steps, repeats, ranks
        self.epoch = 0

    @property
    def in_pass(self) -> int:
        """Number of samples in a pass over all, repeats included."""
        return self.total if self.repeats is None else round(self.repeats.sum())

    @property
    def in_batch(self) -> int:
        """Number of samples in each batch of a shuffled pass, of all processes."""
        return min(self.batch_size, self.in_pass)

    def __len__(self) -> int:
        count = self.in_pass
        whole = count // self.batch_size if self.shuffle and count >= self.batch_size else -(-count // self.batch_size)
        return min(whole, self.steps) if self.steps else whole

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = list(range(self.total))
        if self.shuffle:
            generator = np.random.default_rng([self.seed, self.epoch, 3])
            if self.repeats is not None:
                order = _repeated(self.repeats, generator)
            order = generator.permutation(order).tolist()
        for i in range(len(self)):
            batch = order[i * self.batch_size : (i + 1) * self.batch_size]
            own = batch[self.ranks.rank :: self.ranks.count] or batch[:1]
            yield [(self.epoch, index) for index in own]


def _repeated(repeats: npt.NDArray[np.float64], generator: np.random.Generator) -> list[int]:
    """Return each position as often as it appears, rounded up or down at random so that the total is always the same."""
    edges = np.concatenate([[0.0], np.cumsum(repeats)])
    edges *= round(edges[-1]) / edges[-1]
    counts = np.diff(np.floor(edges + generator.random()))
    return [index for index, count in enumerate(counts.astype(int).tolist()) for _ in range(count)]


def repeat_factors(images: Sequence[Iterable[int]], threshold: float) -> npt.NDArray[np.float64]:
    """Return how often to show each image, so that rare classes are seen more often (Gupta et al. 2019, LVIS).

    A class in the fraction f of the images asks for max(1, sqrt(threshold / f)); an image follows its rarest class.

    Args:
        images: for each image, the labels of its objects.
        threshold: fraction of the images below which a class counts as rare.

    Returns:
        float64 [number of images], each at least 1.

    Example:
        >>> repeat_factors([[0], [0], [0], [0, 1]], threshold=0.5).round(2)  # class 1: sqrt(0.5 / 0.25)
        array([1.  , 1.  , 1.  , 1.41])
    """
    shown: dict[int, int] = {}
    for labels in images:
        for label in set(labels):
            shown[label] = shown.get(label, 0) + 1
    wanted = {label: max(1.0, math.sqrt(threshold * len(images) / count)) for label, count in shown.items()}
    return np.array([max((wanted[label] for label in labels), default=1.0) for labels in images])


class BatchLoader:
    """Batches in a sampler's order, loaded by other processes, or by this one if `processes` is 0.

    The samples are the same, bit for bit. If the other processes run out of handles or memory, this process loads the
    remaining batches itself, and reports it once.

    Args:
        load: makes a batch of its keys, as for `LoadingProcesses`.
        sampler: the order; its epoch is set before each pass.
        processes: number of loading processes.
        pin: put batches into pinned memory, for a GPU.
        say: called with the report.
    """

    def __init__(self, load: Load, sampler: EpochSampler, *, processes: int, pin: bool, say: Say) -> None:
        self.load, self.sampler, self.processes, self.pin, self.say = load, sampler, processes, pin, say
        self._started: LoadingProcesses | None = None

    def __iter__(self) -> Iterator[Any]:
        order, done = list(self.sampler), 0
        if self.processes and order:
            try:
                for batch in self._start(order[0]).batches(order):
                    done += 1
                    yield batch
                return
            except ShortageError as error:
                self.processes, self._started = 0, None
                self.say(f"loading in the main process, because loading processes ran out of resources: {error}")
        for keys in order[done:]:
            batch = self.load(keys, lambda: None)
            yield batch._make(part if part is None else part.pin_memory() for part in batch) if self.pin else batch

    def close(self) -> None:
        """End the processes now. Losing the last reference ends them too, but a signal that arrives then is lost."""
        if self._started is not None:
            self._started.close()

    def _start(self, keys: list[tuple[int, int]]) -> LoadingProcesses:
        """Return the processes, which outlive a pass; the first sample shows how much memory a batch takes."""
        if self._started is None or not self._started.close.alive:
            first = self.load(keys[:1], lambda: None)
            size = sum(part.nbytes + _SPARE for part in first if part is not None)
            self._started = LoadingProcesses(self.load, self.processes, room=size * len(keys), pin=self.pin)
        return self._started


_SPARE = 64  # bytes per tensor, for alignment


@dataclass(frozen=True)
class _Load:
    """Make a batch of the samples of a data set."""

    dataset: Dataset[Any]
    collate: Callable[[Sequence[Any]], Any]

    def __call__(self, keys: Sequence[Any], tell: Callable[[], None]) -> Any:
        samples = []
        for key in keys:
            samples.append(self.dataset[key])
            tell()
        return self.collate(samples)


def build_loader(
    dataset: Dataset[Any],
    sampler: EpochSampler,
    *,
    workers: int,
    device: torch.device,
    collate: Callable[[Sequence[Any]], Any] | None = None,
    say: Say = lambda line: None,
) -> BatchLoader:
    """Build a loader with as many processes as `loading_processes` returns.

    Args:
        dataset: samples by (epoch, index).
        sampler: their order.
        workers: see `loading_processes`.
        device: the device that computes.
        collate: makes a batch of samples; None for `collate_boxes`.
        say: called with a line if loading has to continue without processes.

    Example:
        >>> from yolo_lite.data.pipeline.detection import DetectionDataset
        >>> from yolo_lite.data.splits import read_split
        >>> dataset = DetectionDataset(read_split("my_images", "train").records, (32, 32), resize="stretch")
        >>> sampler = EpochSampler(len(dataset), 4, shuffle=False)
        >>> loader = build_loader(dataset, sampler, workers=0, device=torch.device("cpu"))
        >>> [tuple(batch.images.shape) for batch in loader]
        [(4, 3, 32, 32), (2, 3, 32, 32)]
    """
    load = _Load(dataset, collate or collate_boxes)
    return BatchLoader(load, sampler, processes=loading_processes(workers, device), pin=device.type == "cuda", say=say)


def loading_processes(workers: int, device: torch.device) -> int:
    """Return the number of loading processes: 0 to load in the main process, never more than the usable cores.

    -1 lets the device decide: a CPU needs its cores for itself, a GPU would wait for too few processes. Processes that
    torchrun started on this machine then divide its cores.

    Example:
        >>> loading_processes(0, torch.device("cpu"))
        0
    """
    if workers < 0:
        workers = min(_BESIDE_CPU if device.type == "cpu" else _BESIDE_GPU, max(1, usable_cores() // local_count()))
    return min(workers, usable_cores())


_BESIDE_CPU, _BESIDE_GPU = 2, 8


def reading_threads() -> int:
    """Return how many threads read files at once: one for each core, fewer if few files may be open.

    Example:
        >>> 1 <= reading_threads() <= 32
        True
    """
    free = _free_handles()
    return max(1, min(32, usable_cores(), 32 if free is None else free // _HANDLES))


_HANDLES = 3  # per thread, with some to spare for the rest of the process


def _free_handles() -> int | None:
    """Return how many more files this process may open; None if there is no limit or it is unknown."""
    try:
        import resource

        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return None if most == resource.RLIM_INFINITY else most - len(os.listdir("/proc/self/fd"))
    except ImportError:  # Windows
        return None
    except OSError as error:  # no /proc on this system, or no handle left to read it
        return 0 if is_scarce(error) else None


def collate_boxes(samples: Sequence[Sample]) -> Batch:
    """Stack samples of one size; boxes are padded to the longest list, with label -1.

    Example:
        >>> image = torch.zeros(3, 4, 4, dtype=torch.uint8)
        >>> samples = [Sample(image, torch.ones(n, 4), torch.full((n,), 7), position=n) for n in (1, 2)]
        >>> collate_boxes(samples).labels
        tensor([[ 7, -1],
                [ 7,  7]])
    """
    most = max(len(sample.boxes) for sample in samples)
    boxes = torch.zeros(len(samples), most, 4)
    labels = torch.full((len(samples), most), -1, dtype=torch.int64)
    for i, sample in enumerate(samples):
        boxes[i, : len(sample.boxes)] = sample.boxes
        labels[i, : len(sample.labels)] = sample.labels
    pairs = [(i, label) for i, sample in enumerate(samples) for label in sample.unlabelled]
    return Batch(
        stack_images([sample.image for sample in samples]),
        boxes,
        labels=labels,
        positions=torch.tensor([sample.position for sample in samples]),
        unlabelled=torch.tensor(pairs, dtype=torch.int64).view(-1, 2),
    )


def stack_images(images: Sequence[Tensor]) -> Tensor:
    """Stack images [channels, H, W] into [B, channels, H, W], with the channels last in memory.

    The images come from the decoder that way, and the network wants them that way, so nothing has to be transposed.

    Example:
        >>> stacked = stack_images([torch.zeros(2, 4, 3).permute(2, 0, 1)] * 5)
        >>> tuple(stacked.shape), stacked.is_contiguous(memory_format=torch.channels_last)
        ((5, 3, 2, 4), True)
    """
    return torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)
