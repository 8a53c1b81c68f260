"""What a classifier's outputs cost, against loops over plain numbers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from yolo_lite.losses.classification import (
    binary_cross_entropy,
    classification_loss,
    cross_entropy,
    margin_loss,
    squared_error,
)
from yolo_lite.models.classifiers.build import LOSSES

EXTREME = {"cross_entropy": 1e4, "mse": 1e4, "binary": 1e4, "margin": 1.0}  # the largest output of each that occurs


def drawn(seed: int, batch: int = 7, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Draw logits and labels; every class is among the labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (batch,), generator=generator)
    labels[:classes] = torch.arange(classes)
    return torch.randn(batch, classes, generator=generator) * 2, labels


def outputs_for(name: str, seed: int) -> tuple[Tensor, Tensor]:
    """Draw what a network with that loss returns, and labels."""
    logits, labels = drawn(seed)
    if name == "binary":
        return logits[:, :1], labels % 2
    return (logits.sigmoid(), labels) if name == "margin" else (logits, labels)


def slow_softmax(row: list[float]) -> list[float]:
    powers = [math.exp(value) for value in row]
    return [power / sum(powers) for power in powers]


def slow_cross_entropy(outputs: Tensor, labels: Tensor, smoothing: float = 0.0) -> float:
    """Target: 1 - smoothing for the label, and smoothing / C more for every class (Szegedy et al. 2016, section 7)."""
    total = 0.0
    for row, label in zip(outputs.tolist(), labels.tolist()):
        for c, share in enumerate(slow_softmax(row)):
            total -= ((1 - smoothing) * (c == label) + smoothing / len(row)) * math.log(share)
    return total / len(labels)


def slow_squared_error(outputs: Tensor, labels: Tensor) -> float:
    squares = [
        (share - (c == label)) ** 2
        for row, label in zip(outputs.tolist(), labels.tolist())
        for c, share in enumerate(slow_softmax(row))
    ]
    return sum(squares) / len(squares)


def slow_binary(outputs: Tensor, labels: Tensor) -> float:
    total = 0.0
    for (logit,), label in zip(outputs.tolist(), labels.tolist()):
        second = 1 / (1 + math.exp(-logit))
        total -= math.log(second if label == 1 else 1 - second)
    return total / len(labels)


def slow_margin(outputs: Tensor, labels: Tensor) -> float:
    """Equation 4: T max(0, m+ - |v|)^2 + lambda (1 - T) max(0, |v| - m-)^2, with 0.9, 0.1 and 0.5."""
    total = 0.0
    for row, label in zip(outputs.tolist(), labels.tolist()):
        for c, length in enumerate(row):
            total += max(0.0, 0.9 - length) ** 2 if c == label else 0.5 * max(0.0, length - 0.1) ** 2
    return total / len(labels)


SLOW = {"cross_entropy": slow_cross_entropy, "mse": slow_squared_error, "binary": slow_binary, "margin": slow_margin}


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
def test_cross_entropy_agrees_with_a_loop(smoothing: float, seed: int) -> None:
    outputs, labels = drawn(seed)
    wanted = slow_cross_entropy(outputs, labels, smoothing)
    assert cross_entropy(outputs, labels, smoothing=smoothing).item() == pytest.approx(wanted, rel=1e-5)
    assert classification_loss(outputs, labels, name="cross_entropy", smoothing=smoothing).item() == pytest.approx(
        wanted, rel=1e-5
    )


def test_cross_entropy_is_not_smoothed_unless_told() -> None:
    outputs, labels = drawn(3)
    assert cross_entropy(outputs, labels).item() == pytest.approx(slow_cross_entropy(outputs, labels), rel=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_squared_error_agrees_with_a_loop(seed: int) -> None:
    outputs, labels = drawn(seed)
    assert squared_error(outputs, labels).item() == pytest.approx(slow_squared_error(outputs, labels), rel=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_binary_cross_entropy_agrees_with_a_loop(seed: int) -> None:
    outputs, labels = outputs_for("binary", seed)
    assert set(labels.tolist()) == {0, 1}
    assert binary_cross_entropy(outputs, labels).item() == pytest.approx(slow_binary(outputs, labels), rel=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_margin_loss_agrees_with_a_loop(seed: int) -> None:
    lengths, labels = outputs_for("margin", seed)
    right = lengths.gather(1, labels[:, None])[:, 0]
    assert bool((lengths < 0.1).any()) or bool((right > 0.9).any())  # something costs nothing
    assert bool((right < 0.9).any())
    assert margin_loss(lengths, labels).item() == pytest.approx(slow_margin(lengths, labels), rel=1e-5)


def test_the_margin_loss_worked_by_hand() -> None:
    """Label 0 of three: 0.9 - 0.5 missing, squared 0.16; 0.4 - 0.1 too much, squared and halved 0.045; 0.05 is fine.

    In the second image nothing is missing: 0.95 is long enough and 0.1 is not longer than 0.1. The mean is 0.205 / 2.
    """
    lengths = torch.tensor([[0.5, 0.4, 0.05], [0.1, 0.95, 0.0]])
    assert margin_loss(lengths, torch.tensor([0, 1])).item() == pytest.approx(0.1025, rel=1e-5)


def test_a_network_that_knows_nothing_pays_what_is_known() -> None:
    """Equal logits of four classes: log 4; squares (3/4)^2 and three times (1/4)^2, 12/16 over four; one logit 0: log 2."""
    labels = torch.tensor([0, 3])
    assert cross_entropy(torch.zeros(2, 4), labels).item() == pytest.approx(math.log(4))
    assert cross_entropy(torch.zeros(2, 4), labels, smoothing=0.3).item() == pytest.approx(math.log(4))
    assert squared_error(torch.zeros(2, 4), labels).item() == pytest.approx(3 / 16)
    assert binary_cross_entropy(torch.zeros(2, 1), torch.tensor([0, 1])).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_of_a_name_is_the_one_that_is_meant(name: str) -> None:
    outputs, labels = outputs_for(name, 4)
    found = classification_loss(outputs, labels, name=name)
    assert found.shape == ()
    assert found.item() == pytest.approx(SLOW[name](outputs, labels), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_is_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    """The slow loop gets the rounded outputs, so that only the computation differs."""
    outputs, labels = outputs_for(name, 5)
    rounded = outputs.to(dtype)
    found = classification_loss(rounded, labels, name=name)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(SLOW[name](rounded.float(), labels), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_the_order_of_images_does_not_matter(name: str) -> None:
    outputs, labels = outputs_for(name, 6)
    before = outputs.clone(), labels.clone()
    turned = classification_loss(outputs.flip(0), labels.flip(0), name=name)
    assert classification_loss(outputs, labels, name=name).item() == pytest.approx(turned.item(), rel=1e-6)
    assert torch.equal(outputs, before[0])
    assert torch.equal(labels, before[1])


@pytest.mark.parametrize("name", LOSSES)
def test_a_step_down_the_gradient_costs_less(name: str) -> None:
    outputs, labels = outputs_for(name, 7)
    outputs.requires_grad_()
    loss = classification_loss(outputs, labels, name=name)
    (gradient,) = torch.autograd.grad(loss, outputs)
    assert bool(gradient.isfinite().all())
    assert classification_loss(outputs - 0.01 * gradient, labels, name=name) < loss


@pytest.mark.parametrize("sign", [-1, 0, 1])
@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradient_are_finite_for_extreme_outputs(name: str, sign: int) -> None:
    columns = 1 if name == "binary" else 3
    outputs = torch.zeros(4, columns)
    outputs[:, 0] = sign * EXTREME[name]
    outputs.requires_grad_()
    loss = classification_loss(outputs, torch.tensor([0, 1, 0, 1]), name=name)
    (gradient,) = torch.autograd.grad(loss, outputs)
    assert bool(loss.isfinite())
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("name", LOSSES)
def test_being_right_and_sure_costs_next_to_nothing(name: str) -> None:
    labels = torch.tensor([1, 0, 1])
    sure = torch.eye(2)[labels] * (1 if name == "margin" else 40)
    outputs = torch.tensor([[40.0], [-40], [40]]) if name == "binary" else sure
    assert 0 <= classification_loss(outputs, labels, name=name).item() < 1e-6
    assert classification_loss(outputs, 1 - labels, name=name).item() > 0.5
