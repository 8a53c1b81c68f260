"""Named optimisers, and learning rates as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from yolo_lite.config import TrainConfig
from yolo_lite.errors import InputError

Factory = Callable[[list[dict[str, Any]], float], torch.optim.Optimizer]


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Build the named optimiser; weight decay acts on weights of two dimensions and more, not on biases and norms."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer not in OPTIMIZERS:
        raise InputError(f"train.optimizer must be one of {', '.join(OPTIMIZERS)}, got {config.optimizer!r}")
    return OPTIMIZERS[config.optimizer](groups, config.lr)


OPTIMIZERS: dict[str, Factory] = {
    "adamw": lambda groups, lr: torch.optim.AdamW(groups, lr=lr),
    "sgd": lambda groups, lr: torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True),
}


def flat_cosine(step: int, steps: int, config: TrainConfig) -> float:
    """Rise in a line, stay flat, then fall along a cosine to `final_lr`: the factor on lr at a step of so many."""
    warmup = min(config.warmup_steps, round(config.warmup_share * steps))
    if step < warmup:
        return (step + 1) / (warmup + 1)
    start = max(warmup, round(config.flat_share * steps))
    if step < start:
        return 1.0
    share = (step - start) / max(1, steps - start)
    return config.final_lr + (1 - config.final_lr) * (1 + math.cos(math.pi * share)) / 2


def constant(step: int, steps: int, config: TrainConfig) -> float:
    """Rise in a line, then stay."""
    warmup = min(config.warmup_steps, round(config.warmup_share * steps))
    return min(1.0, (step + 1) / (warmup + 1))


SCHEDULES = {"flat_cosine": flat_cosine, "constant": constant}
