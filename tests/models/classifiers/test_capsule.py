"""Capsules: squashing, reading maps as vectors, and routing, against loops over plain numbers."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from yolo_lite.models.classifiers.capsule import Capsules, PrimaryCapsules, squash

Array = npt.NDArray[np.float64]


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Draw the same weights every time."""
    torch.manual_seed(0)


def slow_squash(vector: Array) -> Array:
    """Equation 1: |s|^2 / (1 + |s|^2) times s / |s|."""
    length = math.sqrt(sum(value * value for value in vector))
    return vector * 0 if length == 0 else length**2 / (1 + length**2) * vector / length


def slow_routing(x: Array, weight: Array, rounds: int = 3) -> tuple[Array, Array]:
    """Procedure 1 for one image, capsule by capsule; return the lengths [J] and the last coupling [I, J]."""
    (count, _), outputs = x.shape, len(weight)
    votes = {(i, j): x[i] @ weight[j, i] for i in range(count) for j in range(outputs)}  # equation 2
    logits = np.zeros((count, outputs))
    for _ in range(rounds):
        coupling = np.array([[math.exp(b) / sum(map(math.exp, row)) for b in row] for row in logits])  # equation 3
        above = [slow_squash(sum(coupling[i, j] * votes[i, j] for i in range(count))) for j in range(outputs)]
        for (i, j), vote in votes.items():
            logits[i, j] += vote @ above[j]
    return np.array([math.sqrt(v @ v) for v in above]), coupling


@pytest.mark.parametrize("scale", [1e-3, 0.1, 1.0, 30.0])
def test_squash_agrees_with_the_plain_formula(scale: float) -> None:
    x = torch.randn(3, 5, 8) * scale
    before = x.clone()
    wanted = np.apply_along_axis(slow_squash, -1, x.double().numpy())
    torch.testing.assert_close(squash(x).double(), torch.from_numpy(wanted), rtol=1e-4, atol=1e-12)
    assert torch.equal(x, before)


def test_squash_worked_by_hand() -> None:
    """Length 5: 25 / 26 of the direction (0.6, 0.8). Length 1 becomes a half."""
    found = squash(torch.tensor([[3.0, -4], [0, 1]]))
    torch.testing.assert_close(found, torch.tensor([[0.6 * 25 / 26, -0.8 * 25 / 26], [0, 0.5]]))


def test_squash_keeps_zero_and_has_a_finite_gradient_there() -> None:
    x = torch.zeros(2, 4, requires_grad=True)
    y = squash(x)
    assert y.tolist() == [[0.0] * 4] * 2
    y.sum().backward()
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


def test_squashed_vectors_are_shorter_than_1_in_the_order_of_their_lengths() -> None:
    lengths = torch.tensor([1e-2, 0.5, 1, 2, 10, 100])
    found = squash(lengths[:, None] * torch.tensor([0.6, 0.8])).norm(dim=-1)
    assert bool((found[1:] > found[:-1]).all())
    assert float(found[-1]) < 1


@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels last"])
def test_primary_capsules_read_channels_as_vectors(memory: torch.memory_format) -> None:
    """Of 3 kinds of length 4 on 2 x 3 places, capsule 6 k + 3 y + x has the channels 4 k .. 4 k + 3 at (y, x)."""
    layer = PrimaryCapsules(2, 3, length=4, kernel=3, stride=2)
    image = torch.randn(2, 2, 5, 7)
    maps = layer.convolution(image).detach().double().numpy()
    assert maps.shape == (2, 12, 2, 3)
    found = layer(image.contiguous(memory_format=memory))
    assert found.shape == (2, 18, 4)
    for b in range(2):
        for kind in range(3):
            for y in range(2):
                for x in range(3):
                    wanted = slow_squash(maps[b, 4 * kind : 4 * kind + 4, y, x])
                    capsule = found[b, 6 * kind + 3 * y + x].detach().double().numpy()
                    np.testing.assert_allclose(capsule, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scale", [0.3, 1.0, 5.0])
def test_routing_agrees_with_a_loop(scale: float) -> None:
    """The scale makes the votes agree little or much: with 5, some capsules below give themselves to one class."""
    layer = Capsules(6, 4, outputs=3, output_length=5)
    nn.init.normal_(layer.weight)
    x = torch.randn(4, 6, 4) * scale
    before = x.clone()
    found = layer(x)
    assert found.shape == (4, 3)
    assert torch.equal(x, before)
    couplings = []
    for b in range(4):
        lengths, coupling = slow_routing(x[b].double().numpy(), layer.weight.detach().double().numpy())
        np.testing.assert_allclose(found[b].detach().numpy(), lengths, rtol=1e-4, atol=1e-5)
        couplings.append(coupling.max())
    if scale == 5:
        assert max(couplings) > 0.9


@pytest.mark.parametrize("rounds", [1, 2, 4])
def test_three_rounds_are_not_fewer_or_more(rounds: int) -> None:
    """The loop with another number of rounds gives something else, so that the comparison above can fail."""
    layer = Capsules(6, 4, outputs=3, output_length=5)
    nn.init.normal_(layer.weight)
    x = torch.randn(1, 6, 4)
    other, _ = slow_routing(x[0].double().numpy(), layer.weight.detach().double().numpy(), rounds)
    assert np.abs(layer(x)[0].detach().numpy() - other).max() > 1e-3


def last_round(layer: Capsules, x: Tensor, coupling: Tensor) -> Tensor:
    """Return the lengths for a coupling [B, I, J] that is given."""
    summed = torch.einsum("bij,bil,jilo->bjo", coupling, x, layer.weight)
    squared = summed.square().sum(-1)
    return squared / (1 + squared)


def test_only_the_last_round_is_learnt_through() -> None:
    """The gradient is that of the last round with the coupling held fixed, which the loop provides."""
    layer = Capsules(6, 4, outputs=3, output_length=5).double()
    nn.init.normal_(layer.weight)
    x = torch.randn(2, 6, 4, dtype=torch.float64)
    weight = layer.weight.detach().numpy()
    coupling = torch.from_numpy(np.stack([slow_routing(one.numpy(), weight)[1] for one in x]))
    cost = torch.randn(2, 3, dtype=torch.float64)
    (found,) = torch.autograd.grad((layer(x) * cost).sum(), layer.weight)
    (wanted,) = torch.autograd.grad((last_round(layer, x, coupling) * cost).sum(), layer.weight)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("scale", [0.0, 1.0, 100.0])
def test_lengths_are_from_0_to_1_and_gradients_finite(scale: float) -> None:
    layer = Capsules(6, 4, outputs=3, output_length=5)
    x = (torch.randn(4, 6, 4) * scale).requires_grad_()
    lengths = layer(x)
    assert bool((lengths >= 0).all())
    assert bool((lengths <= 1).all())
    for gradient in torch.autograd.grad(lengths.sum(), [x, layer.weight]):
        assert bool(gradient.isfinite().all())


def test_images_are_routed_apart() -> None:
    layer = Capsules(6, 4, outputs=3, output_length=5)
    x = torch.randn(3, 6, 4)
    torch.testing.assert_close(layer(x)[1:2], layer(x[1:2]))
