"""The moving average against its recurrence written out."""

from __future__ import annotations

import math

import torch
from torch import nn

from yolo_lite.training.optim.ema import EMA


def test_ema_follows_its_recurrence() -> None:
    model = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        model.weight.fill_(0.0)
    ema = EMA(model, decay=0.9, steps=10_000, share=0.02)  # share 0.02 of 10,000 is longer than the horizon of 0.9
    expected = 0.0
    for step in range(1, 30):
        with torch.no_grad():
            model.weight.fill_(float(step))
        ema.update()
        decay = 0.9 * (1 - math.exp(-step / 10))  # the horizon 1 / (1 - 0.9) is 10 steps
        expected = decay * expected + (1 - decay) * step
        assert math.isclose(float(ema.model.weight), expected, rel_tol=1e-5)


def test_a_share_of_the_start_stays_in_the_average() -> None:
    """With keep k the average is k times the start plus (1 - k) times the average without it."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
    plain, kept = EMA(model, 0.9, steps=1000, share=0.1), EMA(model, 0.9, steps=1000, share=0.1, keep=0.3)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    for _ in range(12):
        model(torch.randn(4, 2, 5, 5))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += torch.randn_like(parameter)
        plain.update()
        kept.update()
    for name, value in kept.model.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.3 * start[name] + 0.7 * plain.model.state_dict()[name])
    assert kept.model[1].num_batches_tracked == 12
    assert not torch.equal(start["0.weight"], model[0].weight)


def test_rows_that_the_start_knows_nothing_of_are_averaged_as_without_a_start() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 4)
    rows, others = torch.tensor([1, 3]), torch.tensor([0, 2])
    plain, kept = (
        EMA(model, 0.9, steps=1000, share=0.1),
        EMA(model, 0.9, steps=1000, share=0.1, keep=0.4, fresh={"weight": rows}),
    )
    whole = EMA(model, 0.9, steps=1000, share=0.1, keep=0.4)
    for _ in range(12):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += torch.randn_like(parameter)
        for ema in (plain, kept, whole):
            ema.update()
    assert torch.equal(kept.model.weight[rows], plain.model.weight[rows])
    assert torch.equal(kept.model.weight[others], whole.model.weight[others])
    assert not torch.allclose(kept.model.weight[others], plain.model.weight[others])
    assert torch.equal(kept.model.bias, whole.model.bias)


def test_a_short_run_gets_a_short_horizon() -> None:
    assert EMA(nn.Linear(1, 1), decay=0.9998, steps=1000, share=0.02).decay == 1 - 1 / 20


def test_counters_are_copied_and_buffers_averaged() -> None:
    model = nn.BatchNorm1d(2).train()
    ema = EMA(model, 0.9, steps=1000, share=0.1)
    model(torch.randn(8, 2, generator=torch.Generator().manual_seed(0)) + 5)
    ema.update()
    assert ema.model.num_batches_tracked == model.num_batches_tracked == 1
    assert (ema.model.running_mean > 0).all()
    assert (ema.model.running_mean < model.running_mean).all()


def test_the_average_is_in_evaluation_mode_and_never_trained() -> None:
    ema = EMA(nn.Sequential(nn.Linear(1, 1), nn.Dropout()).train(), 0.9, steps=100, share=0.1)
    assert not ema.model.training
    assert not any(parameter.requires_grad for parameter in ema.model.parameters())
