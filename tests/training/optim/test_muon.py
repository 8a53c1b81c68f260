"""Muon: orthogonal steps, AdamW for the rest, and a state that can be stored."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from yolo_lite.config.resolve import override_config
from yolo_lite.config.schema import Config
from yolo_lite.models.blocks import ConvBlock, DepthwiseSeparable
from yolo_lite.training.optim import muon
from yolo_lite.training.optim.muon import MOMENTUM, Muon, orthogonal
from yolo_lite.training.optim.schedule import build_optimizer


@pytest.mark.parametrize("shape", [(4, 20, 50), (4, 50, 20), (1, 32, 32), (2, 16, 27), (1, 64, 576)], ids=str)
def test_singular_values_come_near_one_and_vectors_stay(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(shape) * torch.tensor([1e-4, 1.0, 30.0, 2.0][: shape[0]]).view(-1, 1, 1)
    u, values, vh = torch.linalg.svd(matrices, full_matrices=False)
    strong = values > 0.1 * values[:, :1]
    found = orthogonal(matrices)
    assert found.dtype == torch.float32
    turned = u.transpose(1, 2) @ found @ vh.transpose(1, 2)  # diagonal if the vectors are the same
    diagonal = turned.diagonal(dim1=1, dim2=2)
    assert float(diagonal[strong].min()) > 0.6
    assert float(diagonal.max()) < 1.3
    assert float((turned - torch.diag_embed(diagonal)).abs().max()) < 1e-4


@pytest.mark.parametrize("weakest", [1.0, 1e-2, 1e-5, 0.0], ids="weakest {}".format)
def test_five_steps_are_those_of_the_publication(weakest: float) -> None:
    """Its own loop over whole matrices, in float64; also where directions differ by far in strength, or one is missing."""
    generator = torch.Generator().manual_seed(0)
    u, _, vh = torch.linalg.svd(torch.randn(3, 24, 60, generator=generator, dtype=torch.float64), full_matrices=False)
    values = torch.linspace(1, 0, 24, dtype=torch.float64) * (1 - weakest) + weakest
    matrices = u * values @ vh
    x = matrices / matrices.flatten(1).norm(dim=1).view(-1, 1, 1)
    for _ in range(5):
        square = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    torch.testing.assert_close(orthogonal(matrices.float()).double(), x, rtol=0, atol=1e-4)
    torch.testing.assert_close(orthogonal(matrices.float().mT).mT.double(), x, rtol=0, atol=1e-4)


def test_products_are_exact_whatever_the_program_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounded to TF32, steps along weak directions would be several times too long."""
    seen: list[str] = []
    monkeypatch.setattr(
        muon, "orthogonal", lambda matrices: (seen.append(torch.get_float32_matmul_precision()), matrices)[1]
    )
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        (parameter,) = kernels(1)
        parameter.grad = torch.ones_like(parameter)
        Muon([{"params": [parameter], "muon": True}], lr=0.01).step()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert seen == ["highest"]


def test_no_gradient_makes_no_step() -> None:
    assert torch.equal(orthogonal(torch.zeros(2, 3, 4)), torch.zeros(2, 3, 4))


def kernels(count: int = 3) -> list[nn.Parameter]:
    torch.manual_seed(1)
    return [nn.Parameter(torch.randn(16, 8, 3, 3)) for _ in range(count)]


def test_a_step_is_the_orthogonal_momentum_at_adamws_size() -> None:
    (parameter,), before = kernels(1), kernels(1)[0].detach().clone()
    optimizer = Muon([{"params": [parameter], "muon": True, "weight_decay": 0.1}], lr=0.01)
    gradient = torch.randn_like(before)
    parameter.grad = gradient.clone()
    optimizer.step()
    step = (parameter.detach() - before * (1 - 0.01 * 0.1)) / 0.01
    assert float(step.square().mean().sqrt()) == pytest.approx(0.2, rel=0.15)
    u, _, vh = torch.linalg.svd(gradient.view(16, -1), full_matrices=False)
    exact = (u @ vh).flatten()
    assert float(torch.cosine_similarity(-step.flatten(), exact, 0)) > 0.97
    second = torch.randn_like(before)
    momentum = (gradient * (1 - MOMENTUM)).lerp(second, 1 - MOMENTUM)
    before = parameter.detach().clone()
    parameter.grad = second.clone()
    optimizer.step()
    u, _, vh = torch.linalg.svd(second.lerp(momentum, MOMENTUM).view(16, -1), full_matrices=False)
    step = parameter.detach() - before * (1 - 0.01 * 0.1)
    assert float(torch.cosine_similarity(-step.flatten(), (u @ vh).flatten(), 0)) > 0.97


def test_what_is_not_muons_is_stepped_as_by_adamw_to_the_bit() -> None:
    mine, theirs, other = kernels(), kernels(), kernels(1)
    muon = Muon(
        [{"params": mine, "weight_decay": 0.05}, {"params": other, "weight_decay": 0.05, "muon": True}], lr=0.01
    )
    adamw = torch.optim.AdamW([{"params": theirs, "weight_decay": 0.05}], lr=0.01)
    for number in range(3):
        torch.manual_seed(number)
        for one, two in zip(mine, theirs):
            one.grad = torch.randn_like(one)
            two.grad = one.grad.clone()
        other[0].grad = torch.randn_like(other[0])
        muon.step()
        adamw.step()
    assert all(torch.equal(one, two) for one, two in zip(mine, theirs))


def test_a_stored_state_goes_on_as_if_it_had_not_stopped() -> None:
    def optimizer_of(parameters: list[nn.Parameter]) -> Muon:
        return Muon([{"params": parameters[:1]}, {"params": parameters[1:], "muon": True}], lr=0.01)

    def steps(parameters: list[nn.Parameter], optimizer: Muon, numbers: range) -> None:
        for number in numbers:
            torch.manual_seed(number)
            for parameter in parameters:
                parameter.grad = torch.randn_like(parameter)
            optimizer.step()

    whole = kernels()
    steps(whole, optimizer_of(whole), range(5))
    broken = kernels()
    first = optimizer_of(broken)
    steps(broken, first, range(2))
    later, second = copy.deepcopy(broken), None
    second = optimizer_of(later)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    steps(later, second, range(2, 5))
    assert all(torch.equal(one, two) for one, two in zip(whole, later))


def test_muon_gets_the_kernels_under_a_norm_and_no_other() -> None:
    model = nn.Sequential(ConvBlock(3, 16, kernel=3), DepthwiseSeparable(16, 20), nn.Conv2d(20, 5, 1))
    model[0][0].weight.requires_grad_(True)
    optimizer = build_optimizer(model, override_config(Config(), ["train.optimizer=muon"]).train)
    assert isinstance(optimizer, Muon)
    chosen = [p for group in optimizer.param_groups if group.get("muon") for p in group["params"]]
    assert {id(p) for p in chosen} == {id(model[0][0].weight), id(model[1][1][0].weight)}
    every = [p for group in optimizer.param_groups for p in group["params"]]
    assert sorted(map(id, every)) == sorted(map(id, model.parameters()))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays[id(model[2].bias)] == decays[id(model[0][1].weight)] == 0
    assert decays[id(model[2].weight)] == decays[id(chosen[0])] == 0.05
    plain = build_optimizer(model, Config().train)
    assert not any(group.get("muon") for group in plain.param_groups)


def test_directions_that_gradients_hardly_show_are_learnt_sooner_than_by_adamw() -> None:
    """Least squares with inputs whose directions differ a thousandfold in strength."""
    torch.manual_seed(0)
    basis = torch.linalg.qr(torch.randn(32, 32))[0]
    inputs = torch.randn(256, 32) @ (basis * torch.logspace(0, -1.5, 32)) @ basis.T
    wanted = torch.randn(24, 32)
    left = {}
    for name, build in (("muon", Muon), ("adamw", torch.optim.AdamW)):
        weight = nn.Parameter(torch.zeros(24, 32))
        optimizer = build([{"params": [weight], "muon": True, "weight_decay": 0.0}], lr=0.05)
        for _ in range(150):
            loss = (inputs @ (weight - wanted).T).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        left[name] = float((weight.detach() - wanted).square().mean())
    assert left["muon"] < 0.8 * left["adamw"], left
