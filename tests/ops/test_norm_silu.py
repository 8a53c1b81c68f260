"""Batch normalisation and SiLU in one, against torch in double precision."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.ops.test_native import SOURCES, sanitized
from yolo_lite.models.blocks import ConvBlock
from yolo_lite.ops import native
from yolo_lite.ops.norm_silu import BatchNorm, norm_silu

compiled = pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)
EPS, MOMENTUM = 1e-3, 0.1
SHAPES = [
    (2, 1, 1, 1),  # two values in all
    (2, 3, 5, 7),
    (1, 16, 64, 64),
    (3, 48, 17, 13),  # rows of 96 elements, the last of a block shorter
    (2, 128, 9, 9),
    (1, 130, 20, 20),  # more channels than one piece
    (1, 700, 3, 3),
    (2, 40000, 1, 1),  # more channels than a block has elements
    (4, 7, 97, 83),  # blocks of unequal length
]


def drawn(shape: tuple[int, ...], dtype: torch.dtype, offset: float = 0.0) -> tuple[Tensor, ...]:
    """Return x, weight, bias, running mean, running variance and a gradient."""
    generator = torch.Generator().manual_seed(math.prod(shape))
    x, dy = (torch.randn(shape, generator=generator).to(dtype) for _ in range(2))
    channels = shape[1]
    weight, bias, mean = (torch.randn(channels, generator=generator) for _ in range(3))
    x = (x * 2 + offset).to(dtype).contiguous(memory_format=torch.channels_last)
    return x, weight, bias, mean, torch.rand(channels, generator=generator) + 0.5, dy


def run(arguments: tuple[Tensor, ...], exact: bool = False) -> dict[str, Tensor]:
    """Return the result, the running statistics and the gradients; `exact`: by torch's layers in float64."""
    x, weight, bias, mean, var, dy = (tensor.double() if exact else tensor.clone() for tensor in arguments)
    for tensor in (x, weight, bias):
        tensor.requires_grad_()
    if exact:
        y = F.silu(F.batch_norm(x, mean, var, weight, bias, True, MOMENTUM, EPS))
    else:
        y = norm_silu(x, BatchNorm(weight, bias, running_mean=mean, running_var=var, momentum=MOMENTUM, eps=EPS))
    y.backward(dy)
    grads = {"dx": x.grad, "d_weight": weight.grad, "d_bias": bias.grad}
    assert all(grad is not None for grad in grads.values())
    return {"y": y.detach(), "mean": mean, "var": var} | grads  # type: ignore[operator]


def worst(found: Tensor, wanted: Tensor) -> float:
    difference = (found.detach().double() - wanted).abs().max()
    return float(difference.detach() / wanted.detach().abs().max().clamp(min=1e-3))


@compiled
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-5), (torch.bfloat16, 8e-3)], ids=["fp32", "bf16"])
def test_equals_torch_in_double_precision(shape: tuple[int, ...], dtype: torch.dtype, close: float) -> None:
    arguments = drawn(shape, dtype)
    found, wanted = run(arguments), run(arguments, exact=True)
    if math.prod(shape) == 2:  # of two values of a channel the normalised are +1 and -1: dx is 0 but for eps
        wanted["dx"], found["dx"] = wanted["dx"] + 1, found["dx"].float() + 1
    for name in ("y", "dx"):
        assert found[name].dtype in (dtype, torch.float32)
        assert worst(found[name], wanted[name]) < close, name
    for name in ("mean", "var", "d_weight", "d_bias"):  # computed and kept in float32 in both cases
        assert found[name].dtype == torch.float32
        assert worst(found[name], wanted[name]) < 1e-5, name


@compiled
def test_keeps_its_precision_where_the_mean_is_a_thousand_times_the_spread() -> None:
    arguments = drawn((4, 20, 40, 40), torch.float32, offset=2000.0)
    found, wanted = run(arguments), run(arguments, exact=True)
    assert (
        worst(found["var"], wanted["var"]) < 1e-5
    )  # the mean of squares less the square of the mean would be off by 0.1
    assert worst(found["y"], wanted["y"]) < 1e-3


@compiled
def test_at_the_far_ends_silu_is_zero_or_the_number_itself() -> None:
    x = torch.tensor([[-1.0], [1.0]]).view(2, 1, 1, 1)
    for size in (1.0, 30.0, 41.0, 100.0, 1e4, 3e38):
        zero, one = torch.zeros(1), torch.ones(1)
        weight = torch.full((1,), size)
        norm = BatchNorm(weight, zero, running_mean=zero.clone(), running_var=one.clone(), momentum=MOMENTUM, eps=0.0)
        y = norm_silu(x.clone(), norm)
        wanted = F.silu(torch.tensor([-size, size], dtype=torch.float64))
        torch.testing.assert_close(y.flatten().double(), wanted, rtol=1e-6, atol=size * 5e-18)


@compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_spoils_its_channel_and_no_other(dtype: torch.dtype, value: float) -> None:
    arguments = drawn((2, 3, 5, 7), dtype)
    arguments[0][1, 1, 2, 3] = value
    found = run(arguments)
    for name, tensor in found.items():
        channels = tensor.transpose(0, 1) if tensor.ndim == 4 else tensor
        assert [bool(channel.isfinite().all()) for channel in channels] == [True, False, True], name


@compiled
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_threads_do_not_change_a_bit(dtype: torch.dtype) -> None:
    arguments = drawn((4, 24, 61, 67), dtype)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(run(arguments))
    finally:
        torch.set_num_threads(before)
    for name, value in results[0].items():
        assert all(torch.equal(value, other[name]) for other in results[1:]), name


def test_layouts_and_types_that_the_extension_does_not_take_go_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise AssertionError("the extension was asked")

    monkeypatch.setattr("yolo_lite.ops.norm_silu.norm_silu_forward_native", refuse)
    rows = drawn((2, 6, 8, 4), torch.float32)
    contiguous = (rows[0].contiguous(), *rows[1:])
    double = tuple(tensor.double() for tensor in rows)
    monkeypatch.setattr("yolo_lite.ops.norm_silu.norm_silu_pays", lambda: True)
    monkeypatch.setenv("YOLO_LITE_OPS", "torch")
    wanted = run(rows, exact=True)
    assert worst(run(rows)["dx"], wanted["dx"]) < 1e-5
    monkeypatch.delenv("YOLO_LITE_OPS")
    for arguments in (contiguous, double):
        assert worst(run(arguments)["dx"], wanted["dx"]) < 1e-5


def test_one_thread_of_several_is_left_unused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolo_lite.ops.norm_silu.norm_silu_pays", lambda: False)
    arguments = drawn((2, 6, 8, 4), torch.float32)
    monkeypatch.setattr("yolo_lite.ops.norm_silu.norm_silu_forward_native", None)
    assert worst(run(arguments)["y"], run(arguments, exact=True)["y"]) < 1e-5


def test_one_value_a_channel_is_refused_as_by_torch() -> None:
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        run(drawn((1, 4, 1, 1), torch.float32))


def test_a_gradient_in_another_layout_is_the_same_gradient() -> None:
    arguments = drawn((2, 12, 6, 5), torch.float32)
    assert not arguments[-1].is_contiguous(memory_format=torch.channels_last)
    expanded = (*arguments[:-1], torch.ones(()).expand(arguments[-1].shape))
    for each in (arguments, expanded):
        assert worst(run(each)["dx"], run(each, exact=True)["dx"]) < 1e-5


def test_gradcheck_by_finite_differences() -> None:
    x, weight, bias, mean, var, dy = drawn((3, 4, 3, 3), torch.float32)
    found = run((x, weight, bias, mean, var, dy))

    def total(x: Tensor) -> float:
        y = F.silu(F.batch_norm(x.double(), None, None, weight.double(), bias.double(), True, 0, EPS))
        return float((y * dy.double()).sum())

    for place in [(0, 0, 0, 0), (1, 2, 1, 2), (2, 3, 2, 1)]:
        up, down = x.double().clone(), x.double().clone()
        up[place] += 1e-5
        down[place] -= 1e-5
        assert float(found["dx"][place]) == pytest.approx((total(up) - total(down)) / 2e-5, abs=2e-5)


# As a part of a network


def block_and_reference() -> tuple[ConvBlock, ConvBlock]:
    torch.manual_seed(3)
    block = ConvBlock(3, 20, kernel=3).to(memory_format=torch.channels_last)
    for parameter in (block[1].weight, block[1].bias):
        nn.init.normal_(parameter)
    return block, copy.deepcopy(block)


def test_a_block_trains_as_its_layers_one_by_one_do() -> None:
    block, reference = block_and_reference()
    x = torch.randn(4, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    for _ in range(3):
        y, wanted = block(x), reference[2](reference[1](reference[0](x)))
        torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-5)
        for result in (y, wanted):
            result.square().mean().backward()
    for (name, value), other in zip(block.state_dict().items(), reference.state_dict().values()):
        torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-5, msg=name)
    for (name, one), two in zip(block.named_parameters(), reference.parameters()):
        torch.testing.assert_close(one.grad, two.grad, rtol=1e-3, atol=1e-5, msg=name)
    assert int(block[1].num_batches_tracked) == 3


def test_a_block_in_evaluation_uses_the_running_statistics() -> None:
    block, reference = block_and_reference()
    x = torch.randn(4, 3, 16, 16)
    before = copy.deepcopy(block.state_dict())
    assert torch.equal(block.eval()(x), nn.Sequential(*reference).eval()(x))
    assert all(torch.equal(value, before[name]) for name, value in block.state_dict().items())


@compiled
def test_a_block_under_autocast_computes_and_keeps_bfloat16() -> None:
    block, reference = block_and_reference()
    x = torch.randn(4, 3, 16, 16).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        y = block(x)
    assert y.dtype == torch.bfloat16
    y.float().square().mean().backward()
    wanted = reference(x)
    wanted.square().mean().backward()
    assert worst(y, wanted.double()) < 0.02
    assert worst(block[0].weight.grad, reference[0].weight.grad.double()) < 0.05


# The extension itself, called with what it must refuse


def call(**changes: Any) -> None:
    arguments: dict[str, Any] = {
        "x": np.zeros((6, 4), np.float32),
        "bfloat16": False,
        "weight": np.zeros(4, np.float32),
        "bias": np.zeros(4, np.float32),
        "eps": 1e-3,
        "threads": 1,
        "y": np.zeros((6, 4), np.float32),
        "means": np.zeros(4, np.float32),
        "variances": np.zeros(4, np.float32),
    } | changes
    native._native.norm_silu_forward(*arguments.values())


@compiled
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.zeros((6, 4))}, "x must be float32"),
        ({"x": np.zeros((6, 4), np.int16)}, "x must be float32"),
        ({"bfloat16": True}, "x must be int16"),
        ({"x": np.zeros((6, 8), np.float32)[:, ::2]}, "x must be a C-contiguous array"),
        ({"x": np.zeros((0, 4), np.float32), "y": np.zeros((0, 4), np.float32)}, "at least one row"),
        ({"x": np.zeros((6, 0), np.float32)}, "weight must have length 0"),
        ({"weight": np.zeros(5, np.float32)}, "weight must have length 4 in dimension 0, got 5"),
        ({"y": np.zeros((5, 4), np.float32)}, "y must have length 6"),
        ({"variances": np.zeros(3, np.float32)}, "variances must have length 4"),
        ({"threads": 0}, "threads must be at least 1"),
    ],
    ids=str,
)
def test_the_extension_refuses_what_does_not_fit(changes: dict[str, Any], message: str) -> None:
    call()
    with pytest.raises(ValueError, match=message):
        call(**changes)


EXERCISE = """
import numpy as np

def exercise(module):
    generator = np.random.default_rng(0)
    for rows, channels in [(1, 1), (2, 3), (1000, 3), (9, 128), (7, 129), (3, 700), (2, 33000), (5000, 16), (257, 130)]:
        for kind in (np.float32, np.int16):
            def map_of(scale):
                bits = (generator.normal(0, scale, (rows, channels)).astype(np.float32)).view(np.int32)
                return bits.view(np.float32) if kind == np.float32 else (bits >> 16).astype(np.int16)
            def row():
                return generator.normal(0, 2, channels).astype(np.float32)
            x, y, dx = map_of(100), map_of(1), map_of(1)
            weight, bias, mean, variance = row(), row(), row(), row()
            d_weight, d_bias = row(), row()
            narrow = kind == np.int16
            module.norm_silu_forward(x, narrow, weight, bias, 1e-3, 2, y, mean, variance)
            module.norm_silu_backward(x, y, narrow, weight, bias, mean, variance, 1e-3, 2, dx, d_weight, d_bias)
            assert np.isfinite(mean).all() and (variance >= 0).all() and np.isfinite(d_weight).all()
    return "finished"
"""


@pytest.mark.slow
def test_the_sanitizers_find_nothing(tmp_path: Path) -> None:
    result = sanitized(tmp_path, SOURCES, EXERCISE)
    assert result.stdout.strip() == "finished", result.stderr
    assert "norm_silu" not in result.stderr
    assert "runtime error" not in result.stderr
