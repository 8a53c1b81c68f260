"""Before a long training: does the network learn eight pictures by heart? If not, what is wrong?"""

from __future__ import annotations

import copy
import dataclasses
import statistics
from typing import Any

import numpy as np
import torch

from yolo_lite.config.schema import Config, TrainConfig
from yolo_lite.data.care.boxes import many_leave, unit_faults
from yolo_lite.data.pipeline.loader import collate_boxes
from yolo_lite.errors import DivergedError, InputError, counted, some
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.training import loop
from yolo_lite.training.detection import DetectionTask, smallest_size
from yolo_lite.training.task import Prepared

PICTURES = 8
STEPS = 60  # at most, all attempts together
_FIRST = 30  # of these for the run's own learning rate
_FALL = 0.85  # of the loss that it starts with: what it should come down to
_SLOW = 0.98  # what it must come down to: a small learning rate may be meant so
_TINY = 2.0  # input pixels
_OFF = " (--no-preflight trains all the same)"


def check_labels(data: DetectionSet, input_hw: tuple[int, int]) -> None:
    """Look for labels that cannot be meant so, before any step is taken.

    Raises:
        InputError: saying which boxes and what to do.
    """
    boxes = [record.boxes[~record.crowd] for record in data.records]
    every = np.concatenate(boxes) if boxes else np.zeros((0, 4))
    if not len(every):
        return
    for where, what in unit_faults(data):
        raise InputError(f"{where}: {what}{_OFF}")
    leaving = many_leave(data)
    if leaving:
        raise InputError(f"{data.source}: {leaving}; data check names them{_OFF}")
    scales = np.concatenate(
        [np.full(len(one), max(input_hw) / max(record.hw)) for one, record in zip(boxes, data.records)]
    )
    tiny = ((every[:, 2:] - every[:, :2]).min(1) * scales < _TINY).mean()
    if tiny > 0.5:
        raise InputError(
            f"{data.source}: {tiny:.0%} of its boxes have a side of less than {_TINY:g} pixels in an input of "
            f"{input_hw[0]} x {input_hw[1]}: wrong units, or a larger --image-size is needed{_OFF}"
        )
    if len(data.records) >= PICTURES and len(np.unique(every.round(1), axis=0)) == 1:
        raise InputError(
            f"{data.source}: all {counted(len(every), 'box', plural='boxes')} are the same, {every[0].tolist()}{_OFF}"
        )
    labels = np.concatenate([record.labels[~record.crowd] for record in data.records])
    used = np.unique(labels)
    if len(data.class_names) > 1 and len(used) == 1 and len(data.class_names) - len(used) > 1:
        unused = [name for label, name in enumerate(data.class_names) if label not in used]
        raise InputError(
            f"{data.source}: every one of {counted(len(labels), 'box', plural='boxes')} is called {data.class_names[used[0]]}, none "
            f"{some(unused)}: "
            f"are the class ids what they should be? (--classes {data.class_names[used[0]]} if so){_OFF}"
        )


def check_batch_norm(prepared: Prepared, config: Config, *, batch: str = "--batch-size") -> None:
    """Put the smallest part of a batch that the run will see through a copy of the network, where it is one picture.

    Args:
        prepared: with its network.
        config: of the run.
        batch: what sets the batch size, for the message.

    Raises:
        InputError: where batch normalisation would find a single value of some channel in it, and what to do.
    """
    train, total = config.train, len(prepared.dataset)  # type: ignore[arg-type]
    total = total if prepared.repeats is None else round(prepared.repeats.sum())
    if smallest_part(min(train.batch_size, total), train.accumulate) > 1:
        return
    size = smallest_size(config)
    model = copy.deepcopy(prepared.model).train()
    device = next(model.parameters()).device
    picture = torch.zeros(1, *size, config.input.channels, dtype=torch.uint8, device=device).permute(0, 3, 1, 2)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            model(picture)
    except ValueError as error:
        if not loop.is_single_value(error):
            raise
        parts = f" (now {train.batch_size}, with --accumulate {train.accumulate})" if train.accumulate > 1 else ""
        remedy = f"use {batch} {2 * train.accumulate} or more{parts or f' (now {train.batch_size})'}"
        remedy = "add training pictures" if total == 1 else remedy
        larger = ", or a larger image size" if "1, 1])" in str(error) else ""  # a dense layer has one value at any size
        varied = ", the smallest that augment.multi_scale makes," if config.augment.multi_scale else ""
        raise InputError(
            f"{loop.SINGLE_VALUE}, which is all that one picture of {size[0]} x {size[1]} pixels{varied} leaves; "
            f"{remedy}{larger}"
        ) from error


def smallest_part(batch: int, parts: int) -> int:
    """Return the number of pictures in the smallest of the parts in which a batch goes through the network."""
    if parts >= batch:
        return 1
    edges = [round(batch * i / parts) for i in range(parts + 1)]
    return min(stop - start for start, stop in zip(edges, edges[1:]))


def preflight(prepared: Prepared, config: Config, *, device: torch.device, precision: str) -> str:
    """Train a copy on eight pictures as they are, at most STEPS steps, with random numbers of its own.

    Returns:
        A line that says how the loss fell.

    Raises:
        InputError: where it does not, naming what seems wrong: learning rate, a part of the loss, or the labels.
    """
    if isinstance(prepared.task, DetectionTask):
        check_labels(prepared.task.train, config.input.image_size)
        for where, what in unit_faults(prepared.task.val):
            raise InputError(f"{where}: {what}{_OFF}")
        as_they_are = copy.copy(prepared.task)
        as_they_are.colour = False
        prepared = prepared._replace(task=as_they_are)
    batch = loop.to_device(_eight(prepared), device)
    seen = counted(len(batch[0]), "picture")
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(config.train.seed)
        own, parts = _attempt(prepared, config.train, batch=batch, steps=_FIRST, device=device, precision=precision)
        if _fell(own):
            return f"preflight: the loss on {seen} fell from {_told(own)} in {counted(len(own), 'step')}"
        if _fell(own, _SLOW):
            return f"preflight: the loss on {seen} fell slowly, from {_told(own)} in {counted(len(own), 'step')}"
        slower = dataclasses.replace(config.train, lr=config.train.lr / 30)
        faster = dataclasses.replace(config.train, lr=max(30 * config.train.lr, 1e-3))
        left = (STEPS - _FIRST) // 2
        for other, word in ((slower, "high"), (faster, "low")):
            losses, _ = _attempt(prepared, other, batch=batch, steps=left, device=device, precision=precision)
            if _fell(losses) or _falls_faster(losses, own):
                raise InputError(
                    f"preflight: with the learning rate {config.train.lr:g} the loss on {seen} goes from "
                    f"{_told(own)} in {counted(len(own), 'step')}, with {other.lr:g} from {_told(losses)}: train.lr is too {word}{_OFF}"
                )
    names = ", ".join(prepared.task.name_samples(batch))
    stuck = [name for name, values in parts.items() if name != "total" and values and not _fell(values)]
    still = "every part of it is 0: no weight of the loss is above 0" if not any(own) else f"{some(stuck)} stays"
    raise InputError(
        f"preflight: the loss on {seen} goes from {_told(own)} in {counted(len(own), 'step')}, and no other learning "
        f"rate helps; {still}. Look at these pictures and their labels: {names}{_OFF}"
    )


def _eight(prepared: Prepared) -> Any:
    """Return a batch of pictures without augmentation, those with objects first."""
    plain: Any = copy.copy(prepared.dataset)
    plain.augmenter = None
    order = sorted(range(len(plain)), key=lambda i: not len(getattr(plain.records[i], "labels", (0,))))
    step = max(1, sum(1 for i in order if len(getattr(plain.records[i], "labels", (0,)))) // PICTURES)
    chosen = sorted(set(order[: step * PICTURES : step]))[:PICTURES]
    return (prepared.collate or collate_boxes)([plain[0, index] for index in chosen])


def _attempt(
    prepared: Prepared, train: TrainConfig, *, batch: Any, steps: int, device: torch.device, precision: str
) -> tuple[list[float], dict[str, list[float]]]:
    """Return the losses of so many steps, fewer where it soon falls or is no longer finite, and those of each part."""
    state = loop.new_state(copy.deepcopy(prepared.model), train, steps=steps)
    state.parts = max(1, len(batch[0]) // max(1, train.batch_size // train.accumulate))  # as large as those of the run
    state.model.train()
    parts: dict[str, list[float]] = {}
    for step in range(steps):
        for group in state.optimizer.param_groups:
            group["lr"] = train.lr * min(1.0, (step + 1) / 5)
        try:
            losses = loop.train_step(
                prepared.task, state, batch=batch, clip_norm=train.clip_norm, progress=0.0, precision=precision
            )
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


def _told(losses: list[float]) -> str:
    return f"{losses[0]:.3g} to {losses[-1]:.3g}"
