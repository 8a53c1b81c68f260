"""Before a long training: can the network overfit eight images? If not, what is wrong?"""

from __future__ import annotations

import copy
import dataclasses
import functools
import statistics
from typing import Any

import torch

from yolo_lite.config.schema import Config, TrainConfig
from yolo_lite.errors import DivergedError, InputError, counted, some
from yolo_lite.training.loop import SINGLE_VALUE, is_single_value, to_device, train_step
from yolo_lite.training.state import State
from yolo_lite.training.task import Task
from yolo_lite.training.tasks.labels import OFF
from yolo_lite.training.tasks.multi_scale import smallest_size

IMAGES = 8
STEPS = 60  # at most, all attempts together
_FIRST = 30  # of these for the run's own learning rate
_FALL = 0.85  # of the loss that it starts with: what it should come down to
_SLOW = 0.98  # what it must come down to: a small learning rate may be meant so


def check_batch_norm(task: Task, config: Config) -> None:
    """Put the smallest micro-batch that the run will see through a copy of the network, where it is one image.

    Raises:
        InputError: where batch normalisation would find a single value of some channel in it, and what to do.
    """
    train, total = config.train, len(task.dataset)  # type: ignore[arg-type]
    total = total if task.repeats is None else round(task.repeats.sum())
    if smallest_part(min(train.batch_size, total), train.accumulate) > 1:
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
        raise InputError(_single_value(config, total, size=size, dense="1, 1])" in str(error))) from error


def _single_value(config: Config, total: int, *, size: tuple[int, int], dense: bool) -> str:
    """Say what to do where an image of that size is a whole micro-batch; `dense`: a larger image would do as well."""
    train = config.train
    flag = "--set pretrain.batch_size=" if config.data.crops else "--batch-size"
    parts = f" (now {train.batch_size}, with --accumulate {train.accumulate})" if train.accumulate > 1 else ""
    remedy = f"use {flag} {2 * train.accumulate} or more{parts or f' (now {train.batch_size})'}"
    remedy = "add training images" if total == 1 else remedy
    larger = ", or a larger image size" if dense else ""  # a dense layer has one value at any size
    varied = ", the smallest that augment.multi_scale makes," if config.augment.multi_scale else ""
    return (
        f"{SINGLE_VALUE}, which is all that one image of {size[0]} x {size[1]} pixels{varied} leaves; {remedy}{larger}"
    )


def smallest_part(batch: int, parts: int) -> int:
    """Return the number of images in the smallest of the parts in which a batch goes through the network."""
    if parts >= batch:
        return 1
    edges = [round(batch * i / parts) for i in range(parts + 1)]
    return min(stop - start for start, stop in zip(edges, edges[1:]))


def check_it_learns(task: Task, config: Config, *, precision: str) -> str:
    """Train a copy on eight images as they are, at most STEPS steps, with random numbers of its own.

    Returns:
        A line that says how the loss fell.

    Raises:
        InputError: where it does not, naming what seems wrong: learning rate, a part of the loss, or the labels.
    """
    task.check()
    device = next(task.model.parameters()).device
    batch = to_device(task.overfit_batch(IMAGES), device)
    seen = counted(len(batch[0]), "image")
    attempt = functools.partial(_attempt, task, batch, precision=precision)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(config.train.seed)
        own, parts = attempt(config=config.train, steps=_FIRST)
        if _fell(own):
            return f"preflight: the loss on {seen} fell from {_range(own)} in {counted(len(own), 'step')}"
        if _fell(own, _SLOW):
            return f"preflight: the loss on {seen} fell slowly, from {_range(own)} in {counted(len(own), 'step')}"
        slower = dataclasses.replace(config.train, lr=config.train.lr / 30)
        faster = dataclasses.replace(config.train, lr=max(30 * config.train.lr, 1e-3))
        for other, word in ((slower, "high"), (faster, "low")):
            losses, _ = attempt(config=other, steps=(STEPS - _FIRST) // 2)
            if _fell(losses) or _falls_faster(losses, own):
                raise InputError(
                    f"preflight: with the learning rate {config.train.lr:g} the loss on {seen} goes from "
                    f"{_range(own)} in {counted(len(own), 'step')}, with {other.lr:g} from {_range(losses)}: train.lr "
                    f"is too {word}{OFF}"
                )
    stuck = [name for name, values in parts.items() if name != "total" and values and not _fell(values)]
    still = "every part of it is 0: no weight of the loss is above 0" if not any(own) else f"{some(stuck)} stays"
    raise InputError(
        f"preflight: the loss on {seen} goes from {_range(own)} in {counted(len(own), 'step')}, and no other learning "
        f"rate helps; {still}. Look at these images and their labels: {', '.join(task.name_samples(batch))}{OFF}"
    )


def _attempt(
    task: Task, batch: Any, *, config: TrainConfig, steps: int, precision: str
) -> tuple[list[float], dict[str, list[float]]]:
    """Return the losses of so many steps, fewer where it soon falls or is no longer finite, and those of each part."""
    state = State.new(copy.deepcopy(task.model), config, steps=steps, precision=precision)
    state.parts = max(
        1, len(batch[0]) // max(1, config.batch_size // config.accumulate)
    )  # as large as those of the run
    state.model.train()
    plain = task.plain()
    parts: dict[str, list[float]] = {}
    for step in range(steps):
        for group in state.optimizer.param_groups:
            group["lr"] = config.lr * min(1.0, (step + 1) / 5)
        try:
            losses = train_step(plain, state, batch=batch, progress=0.0)
        except DivergedError:
            parts.setdefault("total", []).append(float("inf"))
            break
        for name, value in losses.items():
            parts.setdefault(name, []).append(value)
        if step >= 8 and parts["total"][-1] < _FALL**2 * parts["total"][0] and _fell(parts["total"]):
            break
    return parts["total"], parts


def _fell(losses: list[float], share: float = _FALL) -> bool:
    """Say whether the last losses are below that share of the first; a loss that begins at 0 has nowhere to fall."""
    if len(losses) < 4:
        return False
    return statistics.fmean(losses[-3:]) < share * losses[0]


def _falls_faster(losses: list[float], own: list[float]) -> bool:
    """Say whether the losses fall by 3 % while the run's own hardly move, or rise."""
    return losses[-1] < 0.97 * losses[0] and own[-1] > 0.995 * own[0]


def _range(losses: list[float]) -> str:
    return f"{losses[0]:.3g} to {losses[-1]:.3g}"
