"""Optimisers by name, and learning rate schedules as functions of the step."""

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
    """Build the optimiser of `train.optimizer`; weight decay spares biases and normalisation layers.

    Raises:
        InputError: if the optimiser or schedule does not exist; the message lists those that do.

    Example:
        >>> optimizer = build_optimizer(nn.Linear(2, 3), TrainConfig(weight_decay=0.05))
        >>> [(len(group["params"]), group["weight_decay"]) for group in optimizer.param_groups]  # weight, bias
        [(1, 0.05), (1, 0.0)]
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    normed = {id(m.weight) for m in model.modules() if isinstance(m, nn.Conv2d) and m.bias is None and m.groups == 1}
    kernels = [p for p in trained if config.optimizer == "muon" and id(p) in normed]
    chosen = {id(p) for p in kernels}
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.ndim > 1 and id(p) not in chosen], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if kernels:  # the norm that follows undoes their scale, so only the direction of a step counts
        groups.append({"params": kernels, "weight_decay": config.weight_decay, "muon": True})
    if config.optimizer not in OPTIMIZERS:
        raise InputError(f"train.optimizer must be one of {', '.join(OPTIMIZERS)}, got {config.optimizer!r}")
    if config.schedule not in SCHEDULES:  # checked here, before anything slow
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
    """Return the factor on lr at a step: a linear warm-up, a plateau, then a cosine down to `final_lr`.

    Example:
        >>> config = TrainConfig(warmup_steps=0, flat_share=0.5, final_lr=0.0)
        >>> [round(flat_cosine(step, 100, config=config), 2) for step in (0, 50, 75, 100)]
        [1.0, 1.0, 0.5, 0.0]
    """
    warmup = _warmup(steps, config)
    start = max(warmup, round(config.flat_share * steps))
    if step < start:
        return constant(step, steps, config=config)
    return _fall(step - start, steps - start, config)


def cosine(step: int, steps: int, *, config: TrainConfig) -> float:
    """Return the factor on lr at a step: a linear warm-up, then a cosine down to `final_lr`.

    Source: Loshchilov and Hutter 2017, without restarts.

    Example:
        >>> config = TrainConfig(warmup_steps=0, final_lr=0.0)
        >>> [round(cosine(step, 100, config=config), 2) for step in (0, 50, 100)]
        [1.0, 0.5, 0.0]
    """
    warmup = _warmup(steps, config)
    return constant(step, steps, config=config) if step < warmup else _fall(step - warmup, steps - warmup, config)


def at_epochs(step: int, steps: int, *, config: TrainConfig) -> float:
    """Return the factor on lr at a step: a linear warm-up, then times `step_factor` after each epoch of `milestones`.

    Example:
        >>> config = TrainConfig(epochs=10, warmup_steps=0, milestones=(5, 8), step_factor=0.1)
        >>> [round(at_epochs(step, 100, config=config), 2) for step in (0, 49, 50, 80)]  # 10 steps an epoch
        [1.0, 1.0, 0.1, 0.01]
    """
    passed = sum(step >= epoch * steps / config.epochs for epoch in config.milestones)
    return constant(step, steps, config=config) * config.step_factor**passed


def constant(step: int, steps: int, *, config: TrainConfig) -> float:
    """Return the factor on lr at a step: a linear warm-up, then 1.

    Example:
        >>> config = TrainConfig(warmup_steps=3, warmup_share=1.0)
        >>> [constant(step, 100, config=config) for step in range(5)]
        [0.25, 0.5, 0.75, 1.0, 1.0]
    """
    return min(1.0, (step + 1) / (_warmup(steps, config) + 1))


def _warmup(steps: int, config: TrainConfig) -> int:
    return min(config.warmup_steps, round(config.warmup_share * steps))


def _fall(step: int, steps: int, config: TrainConfig) -> float:
    fraction = step / max(1, steps)
    return config.final_lr + (1 - config.final_lr) * (1 + math.cos(math.pi * fraction)) / 2


SCHEDULES = {"flat_cosine": flat_cosine, "cosine": cosine, "steps": at_epochs, "constant": constant}
