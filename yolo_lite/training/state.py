"""Everything that changes during training, and that `--resume` restores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from yolo_lite.config.schema import TrainConfig
from yolo_lite.ranks import ALONE, Ranks
from yolo_lite.training.optim.ema import EMA
from yolo_lite.training.optim.schedule import SCHEDULES, build_optimizer


def is_over(config: TrainConfig, *, epoch: int, best_epoch: int) -> bool:
    """Return whether a run ends after an epoch: all are done, or `patience` is used up.

    Args:
        config: settings of the training.
        epoch: how many epochs are done.
        best_epoch: the best of them, counted from 1.

    Example:
        >>> [is_over(TrainConfig(epochs=9, patience=3), epoch=epoch, best_epoch=2) for epoch in (4, 5, 9)]
        [False, True, True]
    """
    seen = epoch if epoch >= config.epochs else epoch - epoch % config.evaluate_every
    waited = seen - best_epoch  # epochs that were not evaluated do not count
    return epoch >= config.epochs or bool(config.patience and seen and waited >= config.patience)


@dataclass
class State:
    """The state of a run.

    Attributes:
        model: the network in training.
        ema: the moving average of its weights.
        optimizer: its optimiser.
        config: the settings of the training.
        precision: fp32 or bf16.
        parts: number of micro-batches in a batch; it grows if memory runs out.
        epoch: the next epoch to run, counted from 0.
        rows: the numbers of each finished epoch.
        best: the highest value of the task's metric so far; -inf before the first evaluation.
        best_epoch: the epoch that reached it, counted from 1.
        best_checkpoint: the content of best.pt, see folder.py; None in runs of older versions.
        ranks: the processes that train together; no checkpoint depends on them.
    """

    model: nn.Module
    ema: EMA
    optimizer: torch.optim.Optimizer
    config: TrainConfig
    precision: str = "fp32"
    parts: int = 1
    epoch: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)
    best: float = -math.inf
    best_epoch: int = 0
    best_checkpoint: Mapping[str, Any] | None = field(default_factory=dict)
    ranks: Ranks = ALONE

    @classmethod
    def new(
        cls,
        model: nn.Module,
        config: TrainConfig,
        *,
        steps: int,
        precision: str = "fp32",
        fresh: Mapping[str, Tensor] | None = None,
        ranks: Ranks = ALONE,
    ) -> State:
        """Return the state at the start of a run of so many steps; `fresh` is passed on to `EMA`."""
        ema = EMA(model, config.ema_decay, steps=steps, share=config.ema_share, keep=config.keep_start, fresh=fresh)
        optimizer = build_optimizer(model, config)
        parts = config.accumulate
        return cls(model, ema, optimizer=optimizer, config=config, precision=precision, parts=parts, ranks=ranks)

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return next(self.model.parameters()).device

    def finished(self) -> bool:
        """Return whether all epochs are done, or `patience` is used up."""
        return is_over(self.config, epoch=self.epoch, best_epoch=self.best_epoch)

    def learning_rate(self, step: int, steps: int) -> float:
        """Return the learning rate at a step of the whole run; `steps` is the length of an epoch."""
        return self.config.lr * SCHEDULES[self.config.schedule](step, steps * self.config.epochs, config=self.config)

    def share(self) -> None:
        """Give all processes the weights and statistics of rank 0, which alone keeps the average up to date."""
        self.ranks.align(self.model, self.ema.model)

    def to_plain(self) -> dict[str, Any]:
        """Return the state as tensors and plain values, for a checkpoint."""
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
        """Restore the state that `to_plain` returned."""
        self.model.load_state_dict(plain["model"])
        self.ema.restore(
            plain["ema"], updates=plain["ema_updates"], start=plain["ema_start"], fresh=plain.get("ema_fresh")
        )
        self.optimizer.load_state_dict(plain["optimizer"])
        self.parts = plain.get("parts", 1)  # absent in older runs
        self.epoch, self.rows, self.best = plain["epoch"], list(plain["rows"]), plain["best"]
        self.best_epoch = plain.get("best_epoch", plain["epoch"])  # absent as well
        self.best_checkpoint = plain.get("best_checkpoint")
