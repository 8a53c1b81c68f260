"""Optimisers and learning rates against numbers worked by hand, and a loop that stops when nothing gets better."""

from __future__ import annotations

import contextlib
import math
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from yolo_lite.config.schema import TrainConfig
from yolo_lite.data.pipeline.loader import EpochSampler, build_loader
from yolo_lite.training import loop
from yolo_lite.training.optim.schedule import SCHEDULES, at_epochs, build_optimizer, cosine
from yolo_lite.training.state import State


def steps_of(config: TrainConfig, gradients: list[float]) -> list[float]:
    """Return how far a single bias, which no weight decay touches, has moved after each of these gradients."""
    model = nn.Linear(1, 1)
    model.weight.requires_grad_(False)
    optimizer = build_optimizer(model, config)
    start, places = float(model.bias.detach()), []
    for gradient in gradients:
        model.bias.grad = torch.tensor([gradient])
        optimizer.step()
        places.append(float(model.bias.detach()) - start)
    return places


def test_sgd_looks_ahead_along_its_momentum() -> None:
    """Nesterov as torch writes it: v = m v + g, step = g + m v; here m = 0.5 and g = 1: v = 1, 1.5; steps 1.5, 1.75."""
    config = TrainConfig(optimizer="sgd", momentum=0.5, lr=0.1)
    assert steps_of(config, [1.0, 1.0]) == pytest.approx([-0.15, -0.325], abs=1e-6)


def test_sgd_without_momentum_only_follows_the_slope() -> None:
    assert steps_of(TrainConfig(optimizer="sgd", momentum=0, lr=0.1), [1.0, -3.0]) == pytest.approx(
        [-0.1, 0.2], abs=1e-6
    )


def test_rmsprop_divides_by_the_running_size_of_the_slope() -> None:
    """With alpha 0.99 the mean square is 0.01 g^2, then 0.0199 g^2: g over its root is 10, then 7.08881; g = 2 drops out.

    With momentum 0.5 the second step adds half of the first: 5 + 7.08881.
    """
    plain = TrainConfig(optimizer="rmsprop", momentum=0, lr=0.01)
    assert steps_of(plain, [2.0, 2.0]) == pytest.approx([-0.1, -0.1708881], abs=1e-6)
    rolling = TrainConfig(optimizer="rmsprop", momentum=0.5, lr=0.01)
    assert steps_of(rolling, [2.0, 2.0]) == pytest.approx([-0.1, -0.2208881], abs=1e-6)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adams_first_step_is_the_rate_whatever_the_slope(name: str) -> None:
    for slope in (1e-3, 50.0):
        assert steps_of(TrainConfig(optimizer=name, lr=0.01), [slope]) == pytest.approx([-0.01], rel=1e-3)


CONFIG = TrainConfig(warmup_steps=10, warmup_share=0.5, final_lr=0.1)


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 1 / 11),  # the first of ten steps up
        (9, 10 / 11),
        (10, 1.0),  # no flat part: it begins to fall at once
        (40, 0.1 + 0.9 * 0.75),  # a third of 90 steps: (1 + cos 60 degrees) / 2 = 0.75
        (55, 0.1 + 0.9 / 2),  # half-way
        (100, 0.1),
    ],
)
def test_cosine_rises_and_falls_at_once(step: int, expected: float) -> None:
    assert cosine(step, 100, config=CONFIG) == pytest.approx(expected)


def test_cosine_always_falls_after_warm_up() -> None:
    values = [cosine(step, 100, config=CONFIG) for step in range(10, 101)]
    assert all(later < earlier for earlier, later in zip(values, values[1:], strict=False))


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.5), (1, 1.0), (39, 1.0), (40, 0.2), (79, 0.2), (80, 0.04), (99, 0.04)],
)
@pytest.mark.parametrize("milestones", [(4, 8), (8, 4)])
def test_steps_multiply_after_each_milestone(step: int, expected: float, milestones: tuple[int, ...]) -> None:
    """Ten epochs of ten steps and one step of warm-up: epoch 5 begins with step 40, epoch 9 with step 80."""
    config = TrainConfig(epochs=10, warmup_steps=1, warmup_share=1, milestones=milestones, step_factor=0.2)
    assert at_epochs(step, 100, config=config) == pytest.approx(expected)


def test_steps_without_milestones_stay() -> None:
    assert {at_epochs(step, 50, config=TrainConfig(warmup_steps=0)) for step in range(50)} == {1.0}


def test_no_schedule_leaves_the_range_of_the_rate() -> None:
    config = TrainConfig(epochs=7, milestones=(2, 5), warmup_steps=3, warmup_share=0.3)
    for name, schedule in SCHEDULES.items():
        for steps in (1, 2, 7, 70):
            assert all(0 < schedule(step, steps, config=config) <= 1 for step in range(steps)), (name, steps)


class Pairs(NamedTuple):
    x: Tensor  # [B, 1]


class Told:
    """A task whose metric is read from a list, one for each evaluation."""

    metric = "told"

    def __init__(self, values: list[float]) -> None:
        self.values = iter(values)

    def loss(self, model: nn.Module, batch: Pairs, progress: float) -> dict[str, Tensor]:
        return {"square": model(batch.x).square().mean()}

    def training_numbers(self) -> dict[str, float]:
        return {}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        return {"told": next(self.values)}

    def name_samples(self, batch: Pairs) -> list[str]:
        return []


class Ones:
    def __len__(self) -> int:
        return 8

    def __getitem__(self, key: tuple[int, int]) -> float:
        return 1.0


class Interrupt(Exception):
    pass


def follow(
    values: list[float], stop_after: int | None = None, start: dict[str, Any] | None = None, **settings: Any
) -> tuple[State, list[int]]:
    """Train on nothing of interest; return the state and the epochs whose weights were saved as the best."""
    config = TrainConfig(**{"epochs": 10, **settings})
    sampler = EpochSampler(8, 4, shuffle=True)
    loader: Any = build_loader(
        Ones(), sampler, workers=0, device=torch.device("cpu"), collate=lambda rows: Pairs(torch.tensor(rows)[:, None])
    )  # type: ignore[arg-type]
    state = State.new(nn.Linear(1, 1), config, steps=2 * config.epochs)
    if start:
        state.restore(start)
    saved: list[int] = []

    def on_epoch(state: State, best: bool) -> None:
        if best:
            saved.append(state.epoch)
        if state.epoch == stop_after:
            raise Interrupt

    with contextlib.suppress(Interrupt):
        for best in loop.epochs(Told(values), state, loader=loader, on_step=lambda report: None):
            on_epoch(state, best)
    return state, saved


RISES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]


@pytest.mark.parametrize(
    ("values", "patience", "of", "epochs", "best_epoch", "saved"),
    [
        (RISES, 1, 10, 10, 10, list(range(1, 11))),
        ([0.5, 0.4, 0.3, *RISES], 0, 10, 10, 10, [1, 8, 9, 10]),  # 0: never; epochs 4 to 10 are 0.1 to 0.7
        ([0.5, 0.4, 0.6, 0.5, 0.4, 0.9], 2, 10, 5, 3, [1, 3]),  # one worse epoch is borne, two are not
        ([0.5, 0.4, 0.3, 0.6, 0.1, 0.1, 0.1, 0.9], 3, 10, 7, 4, [1, 4]),
        ([0.5, 0.5, 0.5, 0.9], 2, 10, 3, 1, [1, 2, 3]),  # as good is no better, though the later weights are kept
        ([0.0, 0.0, 0.0, 0.9], 3, 4, 4, 4, [1, 2, 3, 4]),  # from nothing at all
        ([math.nan, 0.2, 0.1, 0.1], 2, 10, 4, 2, [1, 2]),
    ],
    ids=["rises", "no patience", "two", "three", "ties", "zeros", "nan first"],
)
def test_training_stops_after_so_many_epochs_without_a_better_one(
    values: list[float], patience: int, of: int, epochs: int, best_epoch: int, saved: list[int]
) -> None:
    state, kept = follow(values, patience=patience, epochs=of)
    assert (state.epoch, state.best_epoch, kept) == (epochs, best_epoch, saved)
    assert len(state.rows) == epochs


@pytest.mark.parametrize(
    ("values", "epochs", "best_epoch"),
    [
        ([0.1, 0.2, 0.3, 0.4], 20, 20),  # better each time it is looked at
        ([0.2, 0.1, 0.3], 10, 5),  # at the second look five epochs have brought nothing
    ],
)
def test_epochs_that_were_not_looked_at_do_not_use_up_patience(
    values: list[float], epochs: int, best_epoch: int
) -> None:
    """Looked at after every fifth epoch, with a patience of 3: only a look can say that nothing got better."""
    state, saved = follow(values, patience=3, evaluate_every=5, epochs=20)
    assert state.epoch == epochs
    assert saved[-1:] == [best_epoch]
    assert "told" in state.rows[-1]  # it ends with an epoch that was looked at


def test_a_resumed_run_stops_where_the_unbroken_one_does() -> None:
    values = [0.5, 0.6, 0.4, 0.3, 0.2, 0.9]
    whole, _ = follow(values, patience=3)
    part, _ = follow(values, stop_after=4, patience=3)
    rest, _ = follow(values[4:], start=part.to_plain(), patience=3)
    assert whole.epoch == rest.epoch == 5
    assert whole.best_epoch == rest.best_epoch == 2
    assert rest.best == 0.6


def test_a_state_that_was_stored_before_patience_came_is_still_restored() -> None:
    """Such a last.pt has everything but the epoch that was the best."""
    plain = follow([0.5, 0.6], stop_after=2)[0].to_plain()
    del plain["best_epoch"]
    state, _ = follow([0.7], start=plain, epochs=3)
    assert (state.epoch, state.best) == (3, 0.7)


def test_finished_says_what_the_loop_does() -> None:
    """By hand: nothing begun; patience of 2 not yet, then used up; all epochs done."""
    config = TrainConfig(epochs=5, patience=2)
    state = State.new(nn.Linear(1, 1), config, steps=5)
    said = []
    for epoch, best_epoch in ((0, 0), (2, 1), (3, 1), (4, 3), (5, 5)):
        state.epoch, state.best_epoch = epoch, best_epoch
        said.append(state.finished())
    assert said == [False, False, True, False, True]
    state.epoch, state.best_epoch = 4, 1
    state.config = TrainConfig(epochs=5)
    assert not state.finished()


def test_a_finished_state_trains_no_further() -> None:
    state, _ = follow([0.5, 0.4, 0.3], patience=2)
    again, saved = follow([], start=state.to_plain(), patience=2)  # an evaluation would find the list empty
    assert again.epoch == 3
    assert not saved
