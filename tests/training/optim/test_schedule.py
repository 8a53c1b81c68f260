"""Optimiser groups and learning-rate curves against hand-worked values."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from yolo_lite.config.schema import TrainConfig
from yolo_lite.errors import InputError
from yolo_lite.training.optim.schedule import build_optimizer, constant, flat_cosine

CONFIG = TrainConfig(warmup_steps=10, warmup_share=0.5, flat_share=0.4, final_lr=0.1)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 1 / 11),  # the first of ten steps up
        (9, 10 / 11),
        (10, 1.0),
        (39, 1.0),  # flat until 40 of 100
        (40, 1.0),
        (70, 0.1 + 0.9 / 2),  # half-way down the cosine
        (100, 0.1),
    ],
)
def test_flat_cosine_rises_stays_and_falls(step: int, expected: float) -> None:
    assert flat_cosine(step, 100, config=CONFIG) == pytest.approx(expected)


def test_flat_cosine_never_rises_after_warm_up() -> None:
    values = [flat_cosine(step, 100, config=CONFIG) for step in range(10, 101)]
    assert all(later <= earlier for earlier, later in zip(values, values[1:], strict=False))


def test_warm_up_is_at_most_its_share_of_a_short_run() -> None:
    config = TrainConfig(warmup_steps=500, warmup_share=0.1)
    assert flat_cosine(2, 20, config=config) == 1.0  # two steps of twenty, not five hundred


def test_constant_stays_after_warm_up() -> None:
    assert [constant(step, 100, config=CONFIG) for step in (0, 10, 99)] == [pytest.approx(1 / 11), 1.0, 1.0]


def test_weight_decay_spares_biases_and_norms() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    decayed, spared = build_optimizer(model, TrainConfig(weight_decay=0.05)).param_groups
    assert [p.ndim for p in decayed["params"]] == [4]
    assert decayed["weight_decay"] == 0.05
    assert len(spared["params"]) == 3  # the convolution's bias, the norm's weight and bias
    assert spared["weight_decay"] == 0


def test_frozen_parameters_are_not_trained() -> None:
    model = nn.Linear(2, 2)
    model.weight.requires_grad_(False)
    groups = build_optimizer(model, TrainConfig()).param_groups
    assert sum(len(group["params"]) for group in groups) == 1


def test_an_unknown_optimizer_names_those_that_exist() -> None:
    with pytest.raises(InputError, match="adamw, muon, adam, sgd, rmsprop, got 'adm'"):
        build_optimizer(nn.Linear(1, 1), TrainConfig(optimizer="adm"))


def test_cosine_is_a_cosine() -> None:
    share = (55 - 40) / 60
    assert flat_cosine(55, 100, config=CONFIG) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi * share)) / 2)


def test_sgd_steps_down_a_slope() -> None:
    model = nn.Linear(1, 1)
    before = model.weight.detach().clone()
    optimizer = build_optimizer(model, TrainConfig(optimizer="sgd", weight_decay=0.0))
    model(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    assert (model.weight < before).all()
