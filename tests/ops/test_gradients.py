"""Gradients whose channels lie next to each other in memory."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from yolo_lite.models import blocks
from yolo_lite.models.blocks import ShuffleUnit
from yolo_lite.ops.gradients import compact_gradient, is_transformed


def test_the_gradient_is_copied_if_it_has_gaps() -> None:
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    seen: list[Tensor] = []
    before = 1 * x
    before.register_hook(seen.append)
    slopes = torch.randn(2, 4, 5, 3, 2)
    for wrap in (compact_gradient, lambda x: x):
        (torch.stack([wrap(before).permute(0, 2, 3, 1)] * 2, -1) * slopes)[..., 0].sum().backward(retain_graph=True)
    assert torch.equal(seen[0], slopes[..., 0].permute(0, 3, 1, 2))
    assert torch.equal(seen[0], seen[1])
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_every_leaky_relu_of_a_unit_gets_a_compact_gradient_and_no_number_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(3)
    network = nn.Sequential(ShuffleUnit(8, 24, stride=2), ShuffleUnit(24, 24)).to(memory_format=torch.channels_last)
    x = torch.randn(2, 8, 10, 12).contiguous(memory_format=torch.channels_last)
    steps: list[int] = []

    def watch(module: nn.Module, given: object, y: Tensor) -> None:
        y.register_hook(lambda gradient: steps.append(gradient.stride(1)))

    for module in network.modules():
        if isinstance(module, nn.LeakyReLU):
            module.register_forward_hook(watch)
    found: list[list[Tensor]] = []
    for wrap in (compact_gradient, lambda x: x):
        monkeypatch.setattr(blocks, "compact_gradient", wrap)
        trained = copy.deepcopy(network)
        trained(x).square().sum().backward()
        found.append([parameter.grad for parameter in trained.parameters() if parameter.grad is not None])
    assert steps[:5] == [1] * 5
    assert 2 in steps[5:]  # without it
    assert len(found[0]) == len(list(network.parameters()))
    assert all(torch.equal(one, two) for one, two in zip(*found))


def test_nothing_is_added_where_there_is_no_gradient_or_a_transform_is_at_work() -> None:
    x = torch.ones(1, 2, 1, 1)
    assert compact_gradient(x) is x
    assert compact_gradient(x.to("meta").requires_grad_()).grad_fn is None
    with torch.no_grad():
        assert compact_gradient(x * 1) is not None
    assert torch.func.grad(lambda x: compact_gradient(x).sum())(x).flatten().tolist() == [1, 1]
    assert torch.vmap(compact_gradient)(x.requires_grad_()).shape == x.shape
    states: list[bool] = []
    torch.jit.trace(lambda x: states.append(is_transformed()) or x * 1, x, check_trace=False)
    assert states == [True]
    assert not is_transformed()
