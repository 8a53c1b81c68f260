"""Measure training on real images: the time of each part of a step, the speed of the loader, and the memory."""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from yolo_lite.config.schema import Config, DataConfig
from yolo_lite.data.pipeline.loader import BatchLoader, EpochSampler, build_loader
from yolo_lite.data.sizes import check_images
from yolo_lite.data.splits import read_train_and_val
from yolo_lite.device import explain_out_of_memory, keep_freed_memory, now, pick_precision, place
from yolo_lite.models.build import build_detector
from yolo_lite.structures.batches import Batch
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.training.loop import to_device, train_step
from yolo_lite.training.state import State
from yolo_lite.training.tasks.detection import DetectionTask, training_inputs

WARM_UP = 5  # steps before the measurement begins


@dataclass(frozen=True)
class StepTimes:
    """Median milliseconds of the parts of a training step.

    Attributes:
        precision: "fp32" or "bf16".
        wait: waiting for the loader and for the copy to the device.
        forward: the network and the loss.
        backward: the gradients and their norm.
        update: the optimiser and the moving average of the weights.
        images_per_second: speed over all steps, waiting included.
        device_bytes: peak memory of tensors on the device; 0 on the CPU.
    """

    precision: str
    wait: float
    forward: float
    backward: float
    update: float
    images_per_second: float
    device_bytes: int


@dataclass(frozen=True)
class TrainReport:
    """The figures that `bench train` prints.

    Attributes:
        parameters: number of parameters of the network.
        summary: one line on the training images.
        processes: number of processes that load images.
        fill_seconds: time to decode the images that are kept in memory; 0 if none are.
        loader_images_per_second: speed of the loader while nothing else runs.
        steps: the times of a step, for each precision.
        peak_bytes: peak memory of this process, and of the largest process that loads images (shared memory counts in
            both); 0 if the system does not report it.
    """

    parameters: int
    summary: str
    processes: int
    fill_seconds: float
    loader_images_per_second: float
    steps: tuple[StepTimes, ...]
    peak_bytes: tuple[int, int]


def bench_train(
    config: Config, data: str | Path, *, device: torch.device, steps: int, say: Callable[[str], None]
) -> TrainReport:
    """Measure steps of training from random weights, in fp32, and in bf16 if the device supports it natively.

    Args:
        config: all settings of the run.
        data: the data set, as for training.
        device: the device to train on.
        steps: number of steps after a warm-up, and of batches of the loader alone.
        say: called with a line about the images in memory.

    Raises:
        InputError: as training with these arguments does.

    Example:
        >>> from yolo_lite.config.resolve import override_config
        >>> small = {"input.image_size": 64, "train.batch_size": 2, "train.workers": 0, "train.cache": "none"}
        >>> config, cpu = override_config(Config(), small), torch.device("cpu")
        >>> bench_train(config, "my_images", device=cpu, steps=1, say=print).summary
        '6 images, 12 boxes, 2 classes'
    """
    keep_freed_memory()
    images = read_train_and_val(DataConfig(path=str(data)), seed=config.train.seed)[0]
    check_images(images)
    dataset = training_inputs(config, images, device=device)
    started = time.perf_counter()
    dataset.keep(config.train.cache, say)
    filled = time.perf_counter() - started if dataset.kept else 0.0
    sampler = EpochSampler(len(dataset), config.train.batch_size, shuffle=True, seed=config.train.seed)
    loader = build_loader(dataset, sampler, workers=config.train.workers, device=device, say=say)
    batches = _endless(loader, sampler)
    alone = _loader_rate(batches, steps)
    processes = loader.processes  # 0 if the system had too few file handles for them
    precisions = dict.fromkeys(["fp32", pick_precision("auto", device)])
    with explain_out_of_memory("use a smaller --batch-size or --image-size"):
        reports = tuple(
            _time_steps(config, images, batches=batches, device=device, precision=name, steps=steps)
            for name in precisions
        )
    parameters = sum(part.numel() for part in build_detector(config, len(images.class_names)).parameters())
    del batches, loader  # this ends the processes; the system reports the memory of ended processes only
    return TrainReport(
        parameters,
        images.summary(),
        processes=processes,
        fill_seconds=filled,
        loader_images_per_second=alone,
        steps=reports,
        peak_bytes=_peak_bytes(),
    )


class _TimedTask(DetectionTask):
    """The detection task, with a time stamp after each loss."""

    def __init__(self, config: Config, images: DetectionSet, *, device: torch.device) -> None:
        super().__init__(config, images, val=images, device=device)
        self.times: list[float] = []

    def loss(self, model: nn.Module, batch: Batch, *, progress: float) -> dict[str, Tensor]:
        parts = super().loss(model, batch, progress=progress)
        self.times.append(now(self.device))
        return parts


def _time_steps(
    config: Config,
    training_set: DetectionSet,
    *,
    batches: Iterator[Any],
    device: torch.device,
    precision: str,
    steps: int,
) -> StepTimes:
    """Run steps exactly as training does, with a time stamp after each part."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    model = place(build_detector(config, len(training_set.class_names), seed=config.train.seed).train(), device)
    task = _TimedTask(config, training_set, device=device)
    state = State.new(model, config.train, steps=1000, precision=precision)
    state.optimizer.register_step_pre_hook(lambda *_: task.times.append(now(device)))
    rows, images, began = [], 0, 0.0
    for step in range(WARM_UP + steps):
        started = now(device)
        began = started if step == WARM_UP else began
        batch = to_device(next(batches), device)
        task.times = [now(device)]
        train_step(task, state, batch=batch, progress=0.5)
        if step >= WARM_UP:
            moments = [started, task.times[0], task.times[-2], task.times[-1], now(device)]
            rows.append([1000 * (after - before) for before, after in itertools.pairwise(moments)])
            images += len(batch.images)
    rate = images / (now(device) - began)
    used = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    wait, forward, backward, update = (statistics.median(column) for column in zip(*rows))
    return StepTimes(
        precision, wait, forward=forward, backward=backward, update=update, images_per_second=rate, device_bytes=used
    )


def _endless(loader: BatchLoader, sampler: EpochSampler) -> Iterator[Any]:
    for sampler.epoch in itertools.count():
        yield from loader


def _loader_rate(batches: Iterator[Any], count: int) -> float:
    """Return the images per second of the loader alone."""
    for _ in range(WARM_UP):
        next(batches)
    started = time.perf_counter()
    images = sum(len(next(batches).images) for _ in range(count))
    return images / (time.perf_counter() - started)


def _peak_bytes() -> tuple[int, int]:
    try:
        import resource
    except ImportError:  # on Windows
        return 0, 0
    unit = 1 if sys.platform == "darwin" else 1024
    own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own * unit, children * unit
