"""Preflight before a long training: can the network overfit eight images, and if not, why?"""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

from yolo_lite.config.schema import Config, TrainConfig
from yolo_lite.errors import DivergedError, InputError, counted, some
from yolo_lite.training.budget import duration
from yolo_lite.training.loop import SINGLE_VALUE, is_single_value, to_device, train_step
from yolo_lite.training.state import State
from yolo_lite.training.task import Task
from yolo_lite.training.tasks.labels import OFF
from yolo_lite.training.tasks.multi_scale import smallest_size

IMAGES = 8
STEPS = 60  # at most, over all attempts
_FEWEST = 9  # steps of an attempt whose loss falls
_COLD = 2  # steps that may take longer than the others
_FIRST = 30  # steps at the run's own learning rate
_FALL = 0.85  # fraction of the first loss that the last ones should stay below
_SLOW = 0.98  # fraction that they must stay below: a small learning rate may be intended


def check_batch_norm(task: Task, config: Config) -> None:
    """If the smallest micro-batch of the run is a single image, pass one through a copy of the network.

    Raises:
        InputError: if batch normalisation would see a single value per channel; the message names the remedy.

    Example:
        >>> from yolo_lite.training.recipe import TASKS, plan
        >>> from yolo_lite.training.task import Listener
        >>> config = plan("my_classes", config="mnist_small", settings={"train.batch_size": 1}).config
        >>> task = TASKS["classify"](config, start=None, device=torch.device("cpu"), listener=Listener())
        >>> check_batch_norm(task, config)  # 28 x 28 pixels give enough values
    """
    train, total = config.train, len(task.dataset)  # type: ignore[arg-type]
    total = total if task.repeats is None else round(task.repeats.sum())
    if smallest_part(min(train.batch_size, total), train.accumulate * task.ranks.count) > 1:
        return
    size = smallest_size(config)
    model = copy.deepcopy(task.model).train()
    device = next(model.parameters()).device
    image = torch.zeros(1, *size, config.input.channels, dtype=torch.uint8, device=device).permute(0, 3, 1, 2)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            model(image)
    except ValueError as error:
        if not is_single_value(error):
            raise
        dense = "1, 1])" in str(error)
        raise InputError(_single_value(config, total, size=size, dense=dense, processes=task.ranks.count)) from error


def _single_value(config: Config, total: int, *, size: tuple[int, int], dense: bool, processes: int) -> str:
    """Return the error for micro-batches of one image; `dense`: a larger image size would help as well."""
    train = config.train
    flag = "--set pretrain.batch_size=" if config.data.crops else "--batch-size"
    parts = f" (now {train.batch_size}, with --accumulate {train.accumulate})" if train.accumulate > 1 else ""
    remedy = f"use {flag} {2 * train.accumulate * processes} or more{parts or f' (now {train.batch_size})'}"
    remedy = "add training images" if total == 1 else remedy
    larger = ", or a larger image size" if dense else ""  # a dense layer has one value per channel at any size
    smallest = " (the smallest size that augment.multi_scale draws)" if config.augment.multi_scale else ""
    return (
        f"{SINGLE_VALUE}, and one image of {size[0]} x {size[1]} pixels{smallest} gives no more than that; "
        f"{remedy}{larger}"
    )


def smallest_part(batch: int, parts: int) -> int:
    """Return the number of images in the smallest micro-batch if a batch is divided into so many.

    Example:
        >>> smallest_part(7, 3)  # 2 + 3 + 2 images
        2
    """
    if parts >= batch:
        return 1
    edges = [round(batch * i / parts) for i in range(parts + 1)]
    return min(stop - start for start, stop in zip(edges, edges[1:]))


def check_it_learns(task: Task, config: Config, *, precision: str, ends: float = math.inf) -> str:
    """Train a copy of the network on eight images without augmentation, for at most STEPS steps.

    The random numbers of the run are not touched.

    Args:
        task: of the run.
        config: of the run.
        precision: fp32 or bf16.
        ends: when the time limit of the run is over, by time.perf_counter.

    Returns:
        A line that reports how the loss fell.

    Raises:
        InputError: if it did not fall; the message names the likely cause: learning rate, part of the loss, or labels.
            Also if the time limit is too short, as soon as that is known.

    Example:
        >>> from yolo_lite.training.recipe import TASKS, plan
        >>> from yolo_lite.training.task import Listener
        >>> config = plan("my_classes", config="mnist_small").config
        >>> task = TASKS["classify"](config, start=None, device=torch.device("cpu"), listener=Listener())
        >>> check_it_learns(task, config, precision="fp32").split(" fell ")[0]
        'preflight: the loss on 8 images'
    """
    task.check()
    device = next(task.model.parameters()).device
    batch = to_device(task.overfit_batch(IMAGES), device)
    seen = counted(len(batch[0]), "image")
    minutes = config.train.minutes
    attempt = functools.partial(
        _attempt, task, batch, precision=precision, watch=lambda took: _check_time(took, ends, minutes)
    )
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(config.train.seed)
        own, parts = attempt(config=config.train, steps=_FIRST)
        if _fell(own):
            return f"preflight: the loss on {seen} fell from {_range(own)} in {counted(len(own), 'step')}"
        if _fell(own, _SLOW):
            return f"preflight: the loss on {seen} fell slowly, from {_range(own)} in {counted(len(own), 'step')}"
        _try_other_rates(attempt, config.train, own=own, seen=seen)
    stuck = [name for name, values in parts.items() if name != "total" and values and not _fell(values)]
    zero = "every part of it is 0: no weight of the loss is above 0"
    still = f"parts that do not fall: {some(stuck)}" if any(own) else zero
    raise InputError(
        f"preflight: the loss on {seen} goes from {_range(own)} in {counted(len(own), 'step')}, and no other learning "
        f"rate helps; {still}. Look at these images and their labels: {', '.join(task.name_samples(batch))}{OFF}"
    )


def _try_other_rates(attempt: Callable[..., Any], train: TrainConfig, *, own: list[float], seen: str) -> None:
    """Raise InputError if the loss falls with a smaller or a larger learning rate; `own` has its values with the run's."""
    slower = dataclasses.replace(train, lr=train.lr / 30)
    faster = dataclasses.replace(train, lr=max(30 * train.lr, 1e-3))
    for other, word in ((slower, "high"), (faster, "low")):
        losses, _ = attempt(config=other, steps=(STEPS - _FIRST) // 2)
        if _fell(losses) or _falls_faster(losses, own):
            raise InputError(
                f"preflight: in {counted(len(own), 'step')} with the learning rate {train.lr:g}, the loss on "
                f"{seen} goes from {_range(own)}; with {other.lr:g}, it goes from {_range(losses)}: "
                f"train.lr is too {word}{OFF}"
            )


def _attempt(
    task: Task,
    batch: Any,
    *,
    config: TrainConfig,
    steps: int,
    precision: str,
    watch: Callable[[Sequence[float]], None],
) -> tuple[list[float], dict[str, list[float]]]:
    """Train for at most so many steps; return the total losses and those of each part.

    The attempt ends early if the loss has clearly fallen, or is no longer finite. `watch` takes the seconds of each step
    so far.
    """
    state = State.new(copy.deepcopy(task.model), config, steps=steps, precision=precision)
    # Micro-batches have the size of the run's.
    state.parts = max(1, len(batch[0]) // max(1, config.batch_size // config.accumulate))
    state.model.train()
    plain = task.plain()
    parts: dict[str, list[float]] = {}
    took: list[float] = []
    for step in range(steps):
        began = time.perf_counter()
        for group in state.optimizer.param_groups:
            group["lr"] = config.lr * min(1.0, (step + 1) / 5)
        try:
            losses = train_step(plain, state, batch=batch, progress=0.0)
        except DivergedError:
            parts.setdefault("total", []).append(float("inf"))
            break
        for name, value in losses.items():
            parts.setdefault(name, []).append(value)
        took.append(time.perf_counter() - began)
        watch(took)
        if step >= _FEWEST - 1 and parts["total"][-1] < _FALL**2 * parts["total"][0] and _fell(parts["total"]):
            break
    return parts["total"], parts


def _check_time(took: Sequence[float], ends: float, minutes: float) -> None:
    """Raise InputError if the time limit will be over before the loss can have fallen."""
    now, missing = time.perf_counter(), max(0, _FEWEST - len(took)) if len(took) > _COLD else 0
    if now + missing * min(took) > ends:
        passed, needed = 60 * minutes - (ends - now) - sum(took), sum(took) + missing * min(took)
        raise InputError(
            f"--time {duration(60 * minutes)} is too short: {passed:.1f} s had passed before the preflight, which takes at least "
            f"{needed:.0f} s here; allow more time, or use --no-preflight"
        )


def _fell(losses: list[float], fraction: float = _FALL) -> bool:
    """Return whether the last losses are below that fraction of the first; a loss that starts at 0 cannot fall."""
    if len(losses) < 4:
        return False
    return statistics.fmean(losses[-3:]) < fraction * losses[0]


def _falls_faster(losses: list[float], own: list[float]) -> bool:
    """Return whether the losses fall by 3 % while those at the run's own learning rate hardly move, or rise."""
    return losses[-1] < 0.97 * losses[0] and own[-1] > 0.995 * own[0]


def _range(losses: list[float]) -> str:
    return f"{losses[0]:.3g} to {losses[-1]:.3g}"
