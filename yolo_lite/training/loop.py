"""The training loop: it knows models, batches and numbers, and nothing of boxes.

What is trained comes in as a `Task`; a classifier is another one.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from yolo_lite.config.schema import TrainConfig
from yolo_lite.data.pipeline.loader import EpochSampler
from yolo_lite.device import is_out_of_memory
from yolo_lite.errors import DivergedError, InputError, counted
from yolo_lite.training.optim.ema import EMA
from yolo_lite.training.optim.schedule import SCHEDULES, build_optimizer


class Task(Protocol):
    """What the loop asks of the thing that is trained."""

    metric: str  # the name, among those that `evaluate` returns, by which the best epoch is chosen: higher is better

    def loss(self, model: nn.Module, batch: Any, *, progress: float) -> dict[str, Tensor]:
        """Return the weighted parts of the loss, whose sum is minimised; progress is the share of steps done."""

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return named numbers of a model in evaluation mode."""

    def name_samples(self, batch: Any) -> list[str]:
        """Name the samples of a batch, for error messages."""


@dataclass(frozen=True)
class StepReport:
    """What a progress bar shows after each step; epochs are counted from 0."""

    epoch: int
    epochs: int
    step: int
    steps: int  # of an epoch
    losses: Mapping[str, float]  # means over the epoch so far
    images_per_second: float
    parts: int  # in which a batch goes through the network


@dataclass
class State:
    """Everything that changes during training; what `--resume` restores."""

    model: nn.Module
    ema: EMA
    optimizer: torch.optim.Optimizer
    parts: int = 1  # in which a batch goes through the network; more where memory runs out
    epoch: int = 0  # the next one to run
    rows: list[dict[str, float]] = field(default_factory=list)  # one for each finished epoch
    best: float = -math.inf
    best_epoch: int = 0
    best_checkpoint: Mapping[str, Any] | None = field(default_factory=dict)  # see saving.py; None in older runs

    def to_plain(self) -> dict[str, Any]:
        """Return tensors and plain values for a checkpoint."""
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.model.state_dict(),
            "ema_updates": self.ema.updates,
            "ema_start": self.ema.start,
            "ema_fresh": self.ema.fresh,
            "optimizer": self.optimizer.state_dict(),
            "parts": self.parts,
            "epoch": self.epoch,
            "rows": self.rows,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "best_checkpoint": self.best_checkpoint,
        }

    def restore(self, plain: Mapping[str, Any]) -> None:
        """Go back to what `to_plain` returned."""
        self.model.load_state_dict(plain["model"])
        self.ema.model.load_state_dict(plain["ema"])
        self.ema.updates = plain["ema_updates"]
        self.ema.start = {name: plain["ema_start"][name].to(value.device) for name, value in self.ema.start.items()}
        self.ema.fresh = dict(plain.get("ema_fresh", {}))  # older runs have none
        self.optimizer.load_state_dict(plain["optimizer"])
        self.parts = plain.get("parts", 1)  # older runs have none
        self.epoch, self.rows, self.best = plain["epoch"], list(plain["rows"]), plain["best"]
        self.best_epoch = plain.get("best_epoch", plain["epoch"])  # nor these
        self.best_checkpoint = plain.get("best_checkpoint")

    def finished(self, config: TrainConfig) -> bool:
        """Say whether all epochs are done, or `patience` is used up."""
        seen = self.epoch if self.epoch >= config.epochs else self.epoch - self.epoch % config.evaluate_every
        waited = seen - self.best_epoch  # epochs that were not evaluated do not count
        return self.epoch >= config.epochs or bool(config.patience and seen and waited >= config.patience)


def new_state(model: nn.Module, config: TrainConfig, *, steps: int, fresh: Mapping[str, Tensor] | None = None) -> State:
    """Return the state at the start of a run of so many steps; `fresh` as for `EMA`."""
    ema = EMA(model, config.ema_decay, steps=steps, share=config.ema_share, keep=config.keep_start, fresh=fresh)
    return State(model, ema, optimizer=build_optimizer(model, config), parts=config.accumulate)


def run(
    task: Task,
    state: State,
    *,
    loader: Iterable[Any],
    sampler: EpochSampler,
    config: TrainConfig,
    device: torch.device,
    precision: str,
    on_step: Callable[[StepReport], None],
    on_epoch: Callable[[State, bool], None],
) -> None:
    """Train from `state.epoch` to the end, or until `patience` epochs in a row brought nothing better.

    Args:
        loader: batches in the order of `sampler`, whose epoch is set here.
        precision: "fp32" or "bf16".
        on_step: called after every step.
        on_epoch: called after every epoch with the state and whether it is the best so far; saves checkpoints.

    Raises:
        InputError: if the loss is not finite, naming the pictures of the batch.
    """
    steps = len(sampler)
    while not state.finished(config):
        torch.manual_seed(
            (config.seed * 1_000_003 + state.epoch) % 2**63
        )  # dropout and the like, so that resuming repeats them
        losses = _run_epoch(
            task,
            state,
            loader=loader,
            sampler=sampler,
            config=config,
            device=device,
            precision=precision,
            on_step=on_step,
        )
        state.epoch += 1
        row = {
            "epoch": float(state.epoch),
            "lr": _lr(state, config, step=steps * state.epoch - 1, steps=steps),
            **losses,
        }
        best = False
        if state.epoch % config.evaluate_every == 0 or state.epoch == config.epochs:
            numbers = task.evaluate(state.ema.model)
            row.update(numbers)
            value = numbers[task.metric]
            best = value >= state.best or state.best == -math.inf  # of equals the later, which has learnt for longer
            if value > state.best or state.best == -math.inf:
                state.best_epoch = state.epoch
            state.best = max(state.best, 0.0 if math.isnan(value) else value)
        state.rows.append(row)
        on_epoch(state, best)


def _run_epoch(
    task: Task,
    state: State,
    *,
    loader: Iterable[Any],
    sampler: EpochSampler,
    config: TrainConfig,
    device: torch.device,
    precision: str,
    on_step: Callable[[StepReport], None],
) -> dict[str, float]:
    sampler.epoch = state.epoch
    steps, total = len(sampler), len(sampler) * config.epochs
    sums: dict[str, float] = {}
    state.model.train()
    started, images = time.perf_counter(), 0
    for step, batch in enumerate(loader):
        done = state.epoch * steps + step
        for group in state.optimizer.param_groups:
            group["lr"] = _lr(state, config, step=done, steps=steps)
        batch = to_device(batch, device)
        parts = train_step(
            task, state, batch=batch, clip_norm=config.clip_norm, progress=done / total, precision=precision
        )
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + value
        images += len(batch[0])
        rate = images / (time.perf_counter() - started)
        means = {name: value / (step + 1) for name, value in sums.items()}
        on_step(
            StepReport(
                state.epoch,
                config.epochs,
                step=step + 1,
                steps=steps,
                losses=means,
                images_per_second=rate,
                parts=state.parts,
            )
        )
    return {f"loss_{name}": value / steps for name, value in sums.items()}


def train_step(
    task: Task, state: State, *, batch: Any, clip_norm: float, progress: float, precision: str
) -> dict[str, float]:
    """Take one step and return the parts of the loss, with their sum as "total".

    The batch goes through the network in `state.parts` parts, which are doubled where memory runs out; batch
    normalisation and what the loss is divided by are those of a part.
    """
    while True:
        state.optimizer.zero_grad(set_to_none=True)
        try:
            losses = _backward(task, state, batch=batch, progress=progress, precision=precision)
            break
        except ValueError as error:
            if not is_single_value(error):
                raise
            told = f"{counted(len(batch[0]), 'image')} went through it in {counted(state.parts, 'part')}"
            raise InputError(f"{SINGLE_VALUE} ({told}); use a larger --batch-size or --image-size") from error
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or 2 * state.parts > len(batch[0]):
                raise
            state.parts *= 2
    norm = nn.utils.clip_grad_norm_(state.model.parameters(), clip_norm if clip_norm > 0 else math.inf)
    if not math.isfinite(norm):  # waits for the device: a bad step would spoil every weight and the average for good
        raise _not_finite("gradient is not finite", task, batch)
    state.optimizer.step()
    state.ema.update()
    return losses


SINGLE_VALUE = "batch normalisation cannot learn from a single value per channel"


def is_single_value(error: ValueError) -> bool:
    """Say whether an error is that of torch's batch normalisation, which finds no spread in one value of a channel."""
    return "more than 1 value per channel" in str(error)


def _backward(task: Task, state: State, *, batch: Any, progress: float, precision: str) -> dict[str, float]:
    """Add up the gradients of a batch, part by part, and return the means of its losses."""
    device, count = next(state.model.parameters()).device, len(batch[0])
    edges = [round(count * i / state.parts) for i in range(state.parts + 1)]
    sums: dict[str, float] = {}
    for start, stop in zip(edges, edges[1:]):
        if start == stop:
            continue  # fewer samples than parts
        part, share = (batch, 1.0) if state.parts == 1 else (batch.part(start, stop), (stop - start) / count)
        with autocast(device, precision):
            losses = task.loss(state.model, part, progress=progress)
        total = torch.stack(list(losses.values())).sum()
        values = torch.stack([*losses.values(), total.detach()]).tolist()  # waits for the device, once a part
        if not math.isfinite(values[-1]):
            told = ", ".join(f"{name} {value:g}" for name, value in zip(losses, values))
            raise _not_finite(f"loss is not finite ({told})", task, part)
        (total * share).backward()  # type: ignore[no-untyped-call]
        for name, value in zip([*losses, "total"], values):
            sums[name] = sums.get(name, 0.0) + share * value
    return sums


def _not_finite(what: str, task: Task, batch: Any) -> DivergedError:
    return DivergedError(
        f"the {what} on the pictures {', '.join(task.name_samples(batch))}; look at these and their boxes, or lower the "
        "learning rate (--set train.lr=...)"
    )


def autocast(device: torch.device, precision: str) -> contextlib.AbstractContextManager[Any]:
    """Return the context in which the network computes in bf16, or one that changes nothing."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


def to_device(batch: Any, device: torch.device) -> Any:
    """Return a NamedTuple of tensors on the device."""
    return type(batch)(*(None if part is None else part.to(device, non_blocking=True) for part in batch))


def _lr(state: State, config: TrainConfig, *, step: int, steps: int) -> float:
    return config.lr * SCHEDULES[config.schedule](step, steps * config.epochs, config=config)
