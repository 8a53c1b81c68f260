"""Named optimisers, and learning rates as a function of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from yolo_lite.config.schema import TrainConfig
from yolo_lite.errors import InputError
from yolo_lite.training.optim.muon import Muon

Factory = Callable[[list[dict[str, Any]], float, float], torch.optim.Optimizer]


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Build the named optimiser; weight decay acts on weights of two dimensions and more, not on biases and norms.

    Raises:
        InputError: for an optimiser or schedule that does not exist, naming those that do.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    normed = {id(m.weight) for m in model.modules() if isinstance(m, nn.Conv2d) and m.bias is None and m.groups == 1}
    kernels = [p for p in trained if config.optimizer == "muon" and id(p) in normed]
    chosen = {id(p) for p in kernels}
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1 and id(p) not in chosen], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if kernels:  # their scale is undone by the norm that follows: of a step only the direction counts
        groups.append({"params": kernels, "weight_decay": config.weight_decay, "muon": True})
    if config.optimizer not in OPTIMIZERS:
        raise InputError(f"train.optimizer must be one of {', '.join(OPTIMIZERS)}, got {config.optimizer!r}")
    if config.schedule not in SCHEDULES:  # here, because this comes before anything that takes long
        raise InputError(f"train.schedule must be one of {', '.join(SCHEDULES)}, got {config.schedule!r}")
    return OPTIMIZERS[config.optimizer](groups, config.lr, config.momentum)


OPTIMIZERS: dict[str, Factory] = {
    "adamw": lambda groups, lr, momentum: torch.optim.AdamW(groups, lr=lr, fused=True),
    "muon": lambda groups, lr, momentum: Muon(groups, lr=lr, fused=True),
    "adam": lambda groups, lr, momentum: torch.optim.Adam(groups, lr=lr),
    "sgd": lambda groups, lr, momentum: torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0),
    "rmsprop": lambda groups, lr, momentum: torch.optim.RMSprop(groups, lr=lr, momentum=momentum),
}


def flat_cosine(step: int, steps: int, *, config: TrainConfig) -> float:
    """Rise in a line, stay flat, then fall along a cosine to `final_lr`: the factor on lr at a step of so many."""
    warmup = _warmup(steps, config)
    start = max(warmup, round(config.flat_share * steps))
    if step < start:
        return constant(step, steps, config=config)
    return _fall(step - start, steps - start, config)


def cosine(step: int, steps: int, *, config: TrainConfig) -> float:
    """Rise in a line, then fall along a cosine to `final_lr` (Loshchilov and Hutter 2017, without restarts)."""
    warmup = _warmup(steps, config)
    return constant(step, steps, config=config) if step < warmup else _fall(step - warmup, steps - warmup, config)


def at_epochs(step: int, steps: int, *, config: TrainConfig) -> float:
    """Rise in a line, then multiply by `step_factor` after each epoch of `milestones`."""
    passed = sum(step >= epoch * steps / config.epochs for epoch in config.milestones)
    return constant(step, steps, config=config) * config.step_factor**passed


def constant(step: int, steps: int, *, config: TrainConfig) -> float:
    """Rise in a line, then stay."""
    return min(1.0, (step + 1) / (_warmup(steps, config) + 1))


def _warmup(steps: int, config: TrainConfig) -> int:
    return min(config.warmup_steps, round(config.warmup_share * steps))


def _fall(step: int, steps: int, config: TrainConfig) -> float:
    share = step / max(1, steps)
    return config.final_lr + (1 - config.final_lr) * (1 + math.cos(math.pi * share)) / 2


SCHEDULES = {"flat_cosine": flat_cosine, "cosine": cosine, "steps": at_epochs, "constant": constant}
