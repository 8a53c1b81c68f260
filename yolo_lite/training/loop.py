"""The training loop: it knows models, batches and numbers, but nothing about boxes or classes.

Of several processes (yolo_lite/ranks.py) each computes on its images of every batch. The gradients are summed after the
backward pass: micro-batches, and halving them when memory runs out, then need nothing else.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from yolo_lite.data.pipeline.loader import BatchLoader
from yolo_lite.device import is_out_of_memory
from yolo_lite.errors import DivergedError, InputError, counted
from yolo_lite.training.state import State
from yolo_lite.training.task import Objective, StepReport


def epochs(
    task: Objective, state: State, *, loader: BatchLoader, on_step: Callable[[StepReport], None]
) -> Iterator[bool]:
    """Train from `state.epoch` to the last epoch, or until `patience` epochs in a row bring no improvement.

    Args:
        task: computes the losses and the validation metrics.
        state: state of the run; it is modified.
        loader: batches in the order of its sampler, whose epoch is set here.
        on_step: called after every step.

    Yields:
        After each epoch, whether it is the best so far; its numbers are the last of `state.rows`.

    Raises:
        InputError: if the loss is not finite; the message names the images of the batch.

    Example:
        >>> from yolo_lite.data.pipeline.loader import EpochSampler, build_loader
        >>> from yolo_lite.training.recipe import TASKS, plan
        >>> from yolo_lite.training.task import Listener
        >>> config = plan("my_classes", config="mnist_small", settings={"train.epochs": 1}).config
        >>> task = TASKS["classify"](config, start=None, device=torch.device("cpu"), listener=Listener())
        >>> loading = {"workers": 0, "device": torch.device("cpu"), "collate": task.collate}
        >>> loader = build_loader(task.dataset, EpochSampler(8, 4, shuffle=True), **loading)  # 8 images in 2 steps
        >>> state = State.new(task.model, config.train, steps=2)
        >>> list(epochs(task, state, loader=loader, on_step=lambda report: None))
        [True]
    """
    steps, config, count = len(loader.sampler), state.config, loader.sampler.in_batch
    while not state.finished():
        # Dropout and the like draw from this generator, so that a resumed run draws the same numbers.
        torch.manual_seed((config.seed * 1_000_003 + state.epoch + state.ranks.rank * 7_919) % 2**63)
        loader.sampler.epoch = state.epoch
        state.model.train()
        task.training_numbers()  # discard what was counted before the epoch
        sums: dict[str, float] = {}
        started, images = time.perf_counter(), 0
        for step, batch in enumerate(loader, 1):
            done = state.epoch * steps + step - 1
            for group in state.optimizer.param_groups:
                group["lr"] = state.learning_rate(done, steps)
            progress = done / (steps * config.epochs)
            losses = train_step(task, state, batch=to_device(batch, state.device), progress=progress, total=count)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value
            images += count
            rate = images / (time.perf_counter() - started)
            on_step(_report(state, step, steps=steps, sums=sums, images_per_second=rate))
        yield _finish(task, state, losses={f"loss_{name}": value / steps for name, value in sums.items()}, steps=steps)


def _report(state: State, step: int, *, steps: int, sums: dict[str, float], images_per_second: float) -> StepReport:
    """Return the report of a step, which is counted from 1 within its epoch."""
    means = {name: value / step for name, value in sums.items()}
    return StepReport(
        state.epoch,
        state.config.epochs,
        step=step,
        steps=steps,
        losses=means,
        images_per_second=images_per_second,
        parts=state.parts,
    )


def _finish(task: Objective, state: State, *, losses: dict[str, float], steps: int) -> bool:
    """Count an epoch as done, evaluate if it is due, and return whether it is the best so far."""
    state.epoch += 1
    state.share()
    row = {"epoch": float(state.epoch), "lr": state.learning_rate(steps * state.epoch - 1, steps), **losses}
    row.update(task.training_numbers())
    best = False
    if state.epoch % state.config.evaluate_every == 0 or state.epoch == state.config.epochs:
        numbers = task.evaluate(state.ema.model)
        row.update(numbers)
        value = numbers[task.metric]
        best = value >= state.best or state.best == -math.inf  # ties: the later epoch
        if value > state.best or state.best == -math.inf:
            state.best_epoch = state.epoch
        state.best = max(state.best, 0.0 if math.isnan(value) else value)
    state.rows.append(row)
    return best


def train_step(
    task: Objective, state: State, *, batch: Any, progress: float, total: int | None = None
) -> dict[str, float]:
    """Take one step and return the parts of the loss, with their sum as "total".

    The batch is processed in `state.parts` micro-batches; their number doubles if memory runs out. Batch normalisation
    and the normalisation of the loss see one micro-batch at a time.
    `batch` has the samples of this process, and `total` is the number of those of all processes (None: of this one).

    Example:
        >>> from yolo_lite.training.recipe import TASKS, plan
        >>> from yolo_lite.training.task import Listener
        >>> config = plan("my_classes", config="mnist_small").config
        >>> task = TASKS["classify"](config, start=None, device=torch.device("cpu"), listener=Listener())
        >>> batch, state = task.overfit_batch(8), State.new(task.model, config.train, steps=10)
        >>> losses = [train_step(task, state, batch=batch, progress=0.0)["total"] for _ in range(10)]
        >>> losses[-1] < losses[0]
        True
    """
    total, ranks = total or len(batch[0]), state.ranks
    may_divide = ranks.can_divide(total, 2 * state.parts, kind=state.device.type)
    # Statistics that forward passes update.
    buffers = [(buffer, buffer.clone()) for buffer in state.model.buffers()] if may_divide else []
    while True:
        state.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, float] = {}
        try:
            for part, fraction in _divide(batch, state, total=total):
                with autocast(state.device, state.precision):
                    losses = task.loss(state.model, part, progress=progress)
                for name, value in _backward(losses, fraction, task=task, part=part).items():
                    sums[name] = sums.get(name, 0.0) + fraction * value
            sums = ranks.add_gradients(state.model.parameters(), sums)
            break
        except ValueError as error:
            if not is_single_value(error):
                raise
            raise _single_value(len(batch[0]), state.parts) from error
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or not ranks.can_divide(total, 2 * state.parts, kind=state.device.type):
                raise
            ranks.report_shortage(error)
            state.parts *= 2
            for buffer, before in buffers:
                buffer.copy_(before)
    clip_norm = state.config.clip_norm
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), clip_norm if clip_norm > 0 else math.inf)
    if not math.isfinite(norm):  # waits for the device: one bad step would spoil all weights and their average for good
        raise _not_finite("gradient is not finite", task, batch)
    state.optimizer.step()
    if ranks.is_first:
        state.ema.update()
    return sums


SINGLE_VALUE = "batch normalisation cannot learn from a single value per channel"


def _single_value(images: int, parts: int) -> InputError:
    batch = f"{counted(images, 'image')} in {counted(parts, 'micro-batch', plural='micro-batches')}"
    return InputError(f"{SINGLE_VALUE} ({batch}); use a larger --batch-size or --image-size")


def is_single_value(error: ValueError) -> bool:
    """Return whether torch's batch normalisation raised this error because it saw one value per channel.

    Example:
        >>> try:
        ...     torch.nn.BatchNorm1d(3)(torch.zeros(1, 3))
        ... except ValueError as error:
        ...     print(is_single_value(error))
        True
    """
    return "more than 1 value per channel" in str(error)


def _divide(batch: Any, state: State, *, total: int) -> Iterator[tuple[Any, float]]:
    """Yield this process's part of each micro-batch, with its fraction of the images of all processes.

    The micro-batches are those of a single process. Where this one has no image of a micro-batch, it computes on a
    stand-in with fraction 0.
    """
    ranks, parts = state.ranks, state.parts
    edges = [round(total * i / parts) for i in range(parts + 1)]
    for start, stop in zip(edges, edges[1:]):
        if start == stop:  # fewer images than micro-batches
            continue
        first, last = ranks.own(start), ranks.own(stop)
        ranks.weight = (last - first) / (stop - start)
        part = batch if parts == 1 else batch.part(first, last) if first < last else batch.part(0, 1)
        yield part, (last - first) / total


def _backward(losses: dict[str, Tensor], fraction: float, *, task: Objective, part: Any) -> dict[str, float]:
    """Add the gradients of a micro-batch; return the parts of its loss, with their sum as "total"."""
    total = torch.stack(list(losses.values())).sum()
    values = torch.stack([*losses.values(), total.detach()]).tolist()  # waits for the device, once per micro-batch
    if not math.isfinite(values[-1]):
        parts = ", ".join(f"{name} {value:g}" for name, value in zip(losses, values))
        raise _not_finite(f"loss is not finite ({parts})", task, part)
    (total * fraction).backward()  # type: ignore[no-untyped-call]
    return dict(zip([*losses, "total"], values))


def _not_finite(what: str, task: Objective, batch: Any) -> DivergedError:
    return DivergedError(
        f"the {what} on the images {', '.join(task.name_samples(batch))}; check these images and their labels, or lower "
        "the learning rate (--set train.lr=...)"
    )


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Return a context in which the network computes in bf16, or one that changes nothing.

    Example:
        >>> with autocast(torch.device("cpu"), "bf16"):
        ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
        torch.bfloat16
    """
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def to_device(batch: Any, device: torch.device) -> Any:
    """Return a NamedTuple of tensors with its tensors on the device; entries that are None stay None.

    Example:
        >>> from yolo_lite.structures.batches import ClassBatch
        >>> batch = ClassBatch(torch.zeros(1), labels=torch.zeros(1), positions=torch.zeros(1))
        >>> to_device(batch, torch.device("meta")).images.device
        device(type='meta')
    """
    return batch._make(None if part is None else part.to(device, non_blocking=True) for part in batch)
