"""Batches: in which order, by which processes, and how samples become tensors."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from yolo_lite.errors import InputError, is_memory_full
from yolo_lite.structures import Batch, Sample


class EpochSampler(Sampler[list[tuple[int, int]]]):
    """Batches of (epoch, index); the order depends on (seed, epoch) alone.

    Set `epoch` before each pass. Shuffled passes leave out an incomplete last batch, unless it is the only one.

    Args:
        total: how many samples there are.
        batch_size: of each batch.
        shuffle: in an order drawn for each pass.
        seed: of that order.
        steps: so many batches at most; 0: all.
        repeats: how often each sample is to come in a shuffled pass, on average; None: once.
    """

    def __init__(
        self,
        total: int,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        steps: int = 0,
        repeats: npt.NDArray[np.float64] | None = None,
    ) -> None:
        self.total, self.batch_size, self.shuffle, self.seed = total, batch_size, shuffle, seed
        self.steps, self.repeats = steps, repeats
        self.epoch = 0

    def __len__(self) -> int:
        count = self.total if self.repeats is None else round(self.repeats.sum())
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
            yield [(self.epoch, index) for index in order[i * self.batch_size : (i + 1) * self.batch_size]]


def _repeated(repeats: npt.NDArray[np.float64], generator: np.random.Generator) -> list[int]:
    """Return each position as often as it is to come, rounded up or down by chance so that the total is always the same."""
    edges = np.concatenate([[0.0], np.cumsum(repeats)])
    edges *= round(edges[-1]) / edges[-1]
    counts = np.diff(np.floor(edges + generator.random()))
    return [index for index, count in enumerate(counts.astype(int).tolist()) for _ in range(count)]


def repeat_factors(pictures: Sequence[Iterable[int]], threshold: float) -> npt.NDArray[np.float64]:
    """Return how often each picture is to be shown, so that rare classes are seen more often (Gupta et al. 2019, LVIS).

    A class that is in the share f of the pictures asks for max(1, sqrt(threshold / f)); a picture follows the rarest of
    its classes.

    Args:
        pictures: for each the labels of what it shows.
        threshold: share of the pictures below which a class counts as rare.
    """
    shown: dict[int, int] = {}
    for labels in pictures:
        for label in set(labels):
            shown[label] = shown.get(label, 0) + 1
    wanted = {label: max(1.0, math.sqrt(threshold * len(pictures) / count)) for label, count in shown.items()}
    return np.array([max((wanted[label] for label in labels), default=1.0) for labels in pictures])


def build_loader(
    dataset: Dataset[Any],
    sampler: EpochSampler,
    workers: int,
    device: torch.device,
    collate: Callable[[Sequence[Any]], Any] | None = None,
) -> DataLoader[Any]:
    """Load batches with as many processes as `loading_processes` says; `collate` makes them of samples, by default a Batch."""
    workers = loading_processes(workers, device)
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=collate or collate_boxes,
        pin_memory=device.type == "cuda",
        worker_init_fn=_start_worker if workers else None,
        persistent_workers=workers > 0,
    )


def loading_processes(workers: int, device: torch.device) -> int:
    """Return how many processes load: 0 for the one that asks, and never more than cores that it may use.

    -1 leaves the choice to what computes: a CPU needs its cores for itself, a GPU is kept waiting by a few.
    """
    if workers < 0:
        room = shared_memory()
        fit = _BESIDE_GPU if room is None else max(_BESIDE_CPU, min(_BESIDE_GPU, room // _A_PROCESS))
        workers = _BESIDE_CPU if device.type == "cpu" else fit
    return min(workers, usable_cores())


_BESIDE_CPU, _BESIDE_GPU = 2, 8
_A_PROCESS = 1 << 26  # bytes of shared memory: two batches of 16 at 640 x 640 wait in it, and half as much again


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def shared_memory(folder: str = "/dev/shm") -> int | None:
    """Return the free bytes of the memory through which processes hand over batches; None where there is no such limit."""
    try:
        room = os.statvfs(folder)
    except (AttributeError, OSError):  # Windows; another system
        return None
    return room.f_bavail * room.f_frsize


def each_batch(loader: DataLoader[Any]) -> Iterator[Any]:
    """Yield batches; an InputError of a loading process comes out as it was, without that process' traceback.

    Raises:
        InputError: also where a process was killed, or there is no shared memory left for its batches.
    """
    try:
        yield from loader
    except RuntimeError as error:
        if is_memory_full(error) or not any(words in str(error) for words in ("DataLoader worker", "shared memory")):
            raise
        raise InputError(
            f"a loading process ended or found no room ({str(error).splitlines()[0]}); give more shared memory (docker run "
            "--shm-size=2g), or load with fewer processes: --set train.workers=1"
        ) from error
    except InputError as error:
        text = str(error)
        if not text.startswith("Caught InputError"):
            raise
        raise InputError(text.rpartition("InputError: ")[2].strip()) from None


def collate_boxes(samples: Sequence[Sample]) -> Batch:
    """Stack samples of one size; boxes are padded to the longest list, labels in the padding are -1."""
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
        labels,
        torch.tensor([sample.position for sample in samples]),
        torch.tensor(pairs, dtype=torch.int64).view(-1, 2),
    )


def stack_images(images: Sequence[Tensor]) -> Tensor:
    """Stack pictures [channels, H, W], views of such with the channels last, into one [B, channels, H, W] of that order.

    It is the order in which they were decoded and in which the network wants them: nothing is turned around.
    """
    return torch.stack([image.permute(1, 2, 0) for image in images]).permute(0, 3, 1, 2)


def _start_worker(worker: int) -> None:
    import cv2

    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    for name in ("SIGINT", "SIGHUP"):  # the main process's to handle; it then ends the workers
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
