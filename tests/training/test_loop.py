"""The training loop on a task without boxes: it fits a line, names bad samples and goes on where it stopped."""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from yolo_lite.config.schema import TrainConfig
from yolo_lite.data.pipeline.loader import EpochSampler, build_loader
from yolo_lite.errors import InputError
from yolo_lite.training import loop
from yolo_lite.training.state import State


class Pairs(NamedTuple):
    x: Tensor  # [B, 1]
    y: Tensor  # [B, 1]


class Line:
    """y = 3 x - 1 for 32 points; a sample is its number."""

    metric = "closeness"

    def __init__(self, bad: int | None = None) -> None:
        self.bad, self.batches = bad, 0

    def __len__(self) -> int:
        return 32

    def __getitem__(self, key: tuple[int, int]) -> tuple[float, float]:
        x = key[1] / 16 - 1
        return (float("nan") if key[1] == self.bad else x), 3 * x - 1

    def loss(self, model: nn.Module, batch: Pairs, progress: float) -> dict[str, Tensor]:
        assert 0 <= progress < 1
        self.batches += 1
        return {"square": (model(batch.x) - batch.y).square().mean(), "small": 1e-6 * model(batch.x).abs().mean()}

    def training_numbers(self) -> dict[str, float]:
        counted, self.batches = self.batches, 0
        return {"batches": counted}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        return {"closeness": -float((model(torch.ones(1, 1)) - 2).abs())}

    def name_samples(self, batch: Pairs) -> list[str]:
        return [f"x={value:.3f}" for value in batch.x.flatten().tolist()]


def pairs(samples: list[tuple[float, float]]) -> Pairs:
    x, y = torch.tensor(samples).T
    return Pairs(x[:, None], y[:, None])


def run(
    config: TrainConfig, task: Line, stop_after: int | None = None, start: dict[str, Any] | None = None
) -> tuple[State, list[bool]]:
    torch.manual_seed(5)
    model = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.1), nn.Linear(8, 1))
    sampler = EpochSampler(len(task), 8, shuffle=True, seed=config.seed)
    loader: Any = build_loader(task, sampler, workers=0, device=torch.device("cpu"), collate=pairs)  # type: ignore[arg-type]
    state = State.new(model, config, steps=len(sampler) * config.epochs)
    if start:
        state.restore(start)
    bests: list[bool] = []

    class Stop(Exception):
        pass

    def on_epoch(state: State, best: bool) -> None:
        bests.append(best)
        if state.epoch == stop_after:
            raise Stop

    with contextlib.suppress(Stop):
        for best in loop.epochs(task, state, loader=loader, on_step=lambda report: None):
            on_epoch(state, best)
    return state, bests


CONFIG = TrainConfig(epochs=40, lr=0.02, weight_decay=0.0)


def test_the_loop_fits_a_line() -> None:
    state, _ = run(CONFIG, Line())
    assert state.rows[-1]["loss_square"] < 0.2 * state.rows[0]["loss_square"]
    assert len(state.rows) == 40


def test_total_is_the_sum_of_the_parts() -> None:
    row = run(TrainConfig(epochs=1), Line())[0].rows[0]
    assert row["loss_total"] == pytest.approx(row["loss_square"] + row["loss_small"])


@pytest.mark.parametrize("keep_start", [0.0, 0.4])
def test_resuming_ends_bit_for_bit_as_an_unbroken_run(keep_start: float) -> None:
    config = TrainConfig(epochs=6, lr=0.01, keep_start=keep_start)
    whole, _ = run(config, Line())
    part, _ = run(config, Line(), stop_after=2)
    rest, _ = run(config, Line(), start=part.to_plain())
    for mine, theirs in zip(rest.to_plain()["ema"].values(), whole.to_plain()["ema"].values(), strict=True):
        assert torch.equal(mine, theirs)
    assert rest.rows == whole.rows
    assert not torch.equal(part.model[0].weight, whole.model[0].weight)  # type: ignore[index]


def test_evaluation_comes_every_k_epochs_and_at_the_end() -> None:
    state, _ = run(TrainConfig(epochs=5, evaluate_every=2), Line())
    assert ["closeness" in row for row in state.rows] == [False, True, False, True, True]


def test_best_marks_the_highest_so_far() -> None:
    state, bests = run(TrainConfig(epochs=6, lr=0.01), Line())
    values = [row["closeness"] for row in state.rows]
    assert bests == [value > max(values[:i], default=-float("inf")) for i, value in enumerate(values)]


def test_a_loss_that_is_not_finite_names_the_batch() -> None:
    with pytest.raises(InputError, match=r"not finite .*square nan.*x=nan") as caught:
        run(TrainConfig(epochs=1), Line(bad=7))
    assert str(caught.value).count("x=") == 8  # the whole batch


def test_an_unknown_schedule_names_those_that_exist() -> None:
    with pytest.raises(InputError, match="flat_cosine, cosine, steps, constant, got 'cos'"):
        run(TrainConfig(schedule="cos"), Line())


def test_gradients_are_clipped() -> None:
    model = nn.Linear(1, 1)
    state = State.new(model, TrainConfig(optimizer="sgd", lr=1.0, weight_decay=0.0, clip_norm=0.5), steps=10)
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    loop.train_step(Line(), state, batch=Pairs(torch.full((4, 1), 100.0), torch.zeros(4, 1)), progress=0.0)
    moved = torch.cat([p.detach().flatten() for p in model.parameters()]) - before
    assert float(moved.norm()) <= 0.5 * 1.9 + 1e-4  # Nesterov's first step is (1 + momentum 0.9) times the gradient


def test_training_numbers_are_those_of_one_epoch() -> None:
    """32 points in batches of 8 are four batches an epoch; what was tried before the first does not count."""
    task = Line()
    task.batches = 60
    state, _ = run(TrainConfig(epochs=3), task)
    assert [row["batches"] for row in state.rows] == [4, 4, 4]
