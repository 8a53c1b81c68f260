"""Gradients of depthwise convolutions by the C extension, against loops and against torch in double precision."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.ops.test_native import SOURCES, sanitized
from yolo_lite.models import blocks
from yolo_lite.models.blocks import DepthwiseConv2d, GhostBottleneck, ShuffleUnit
from yolo_lite.ops import native
from yolo_lite.ops.depthwise import depthwise, depthwise_fits

compiled = pytest.mark.skipif(not native.depthwise_pays(), reason=native.MISSING or "no AVX2")
LAYERS = list(itertools.product((3, 5), (1, 2)))  # kernel and stride
layers = pytest.mark.parametrize(("kernel", "stride"), LAYERS)
types = pytest.mark.parametrize(
    ("dtype", "close"), [(torch.float32, 2e-6), (torch.bfloat16, 4e-3)], ids=["fp32", "bf16"]
)


def drawn(shape: tuple[int, ...], kernel: int, stride: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return x, channels last in memory, the weight in float32, and a gradient, channels first."""
    generator = torch.Generator().manual_seed(kernel * sum(shape) + stride)
    x = torch.randn(shape, generator=generator).to(dtype).contiguous(memory_format=torch.channels_last)
    dy = torch.randn(*shape[:2], *(-(-side // stride) for side in shape[2:]), generator=generator).to(dtype)
    return x, torch.randn(shape[1], 1, kernel, kernel, generator=generator), dy


def gradients(x: Tensor, weight: Tensor, dy: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    assert depthwise_fits(x, weight, stride=stride)
    x, weight, bias = (tensor.detach().requires_grad_() for tensor in (x, weight, torch.ones(len(weight))))
    depthwise(x, weight, bias=bias, stride=stride).backward(dy)
    assert x.grad is not None
    assert weight.grad is not None
    assert bias.grad is not None
    assert (x.grad.dtype, weight.grad.dtype, bias.grad.dtype) == (x.dtype, torch.float32, torch.float32)
    total = dy.double().sum((0, 2, 3))
    assert ((bias.grad - total).abs() <= 1e-6 * dy.double().abs().sum((0, 2, 3))).all() or not total.isfinite().all()
    return x.grad, weight.grad


def by_loops(x: Tensor, weight: Tensor, dy: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Return the gradients by following each product of the convolution, in Python's floats."""
    maps, used, given = (tensor.double().tolist() for tensor in (x, weight.to(x.dtype), dy))
    padding = weight.shape[-1] // 2
    dx, d_weight = x.double().zero_().tolist(), weight.double().zero_().tolist()
    for image, channel, row, column in itertools.product(*map(range, dy.shape)):
        slope = given[image][channel][row][column]
        for i, j in itertools.product(range(weight.shape[-1]), repeat=2):
            y, z = row * stride + i - padding, column * stride + j - padding
            if 0 <= y < x.shape[2] and 0 <= z < x.shape[3]:
                dx[image][channel][y][z] += slope * used[channel][0][i][j]
                d_weight[channel][0][i][j] += slope * maps[image][channel][y][z]
    return torch.tensor(dx, dtype=torch.float64).view(x.shape), torch.tensor(d_weight, dtype=torch.float64)


def by_torch(x: Tensor, weight: Tensor, dy: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Return torch's gradients in float64, of the weight rounded to the type of x."""
    x, weight = x.double().requires_grad_(), weight.to(x.dtype).double().requires_grad_()
    F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=len(weight)).backward(dy.double())
    assert x.grad is not None
    assert weight.grad is not None
    return x.grad, weight.grad


def worst(found: Tensor, wanted: Tensor) -> float:
    return float((found.double() - wanted).abs().max() / wanted.abs().max())


@compiled
@layers
@types
@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1, 1), (2, 3, 1, 4), (1, 8, 5, 3), (2, 13, 6, 7), (1, 9, 2, 2), (2, 2, 9, 12)],
    ids=str,
)
def test_equals_loops_over_every_product(
    shape: tuple[int, ...], kernel: int, stride: int, dtype: torch.dtype, close: float
) -> None:
    x, weight, dy = drawn(shape, kernel, stride, dtype)
    (dx, d_weight), wanted = gradients(x, weight, dy, stride), by_loops(x, weight, dy, stride)
    assert worst(dx, wanted[0]) < close
    assert worst(d_weight, wanted[1]) < 2e-6  # summed in float32 and not rounded to bfloat16


@compiled
@layers
@types
@pytest.mark.parametrize(
    "shape", [(2, 24, 31, 30), (3, 58, 13, 17), (1, 116, 20, 20), (16, 16, 5, 5), (2, 7, 97, 83)], ids=str
)
def test_equals_torch_in_double_precision(
    shape: tuple[int, ...], kernel: int, stride: int, dtype: torch.dtype, close: float
) -> None:
    x, weight, dy = drawn(shape, kernel, stride, dtype)
    (dx, d_weight), wanted = gradients(x, weight, dy, stride), by_torch(x, weight, dy, stride)
    assert worst(dx, wanted[0]) < close
    assert worst(d_weight, wanted[1]) < 2e-6
    result = depthwise(x, weight, stride=stride)
    exact = F.conv2d(x.double(), weight.to(dtype).double(), stride=stride, padding=kernel // 2, groups=shape[1])
    assert result.dtype == dtype
    assert worst(result, exact) < close


@compiled
def test_bfloat16_keeps_nan_and_rounds_halves_to_even() -> None:
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1] = torch.tensor([0.0, 1.0, 2.0**-8])  # a slope, and half a unit for its right neighbour
    single = torch.tensor([1.0, torch.nan, 1.0078125, torch.inf, -2.5], dtype=torch.bfloat16).view(5, 1, 1, 1)
    x = torch.ones_like(single)
    assert torch.equal(gradients(x, weight, single, 1)[0].view(torch.int16), single.view(torch.int16))
    x = torch.zeros(1, 1, 1, 2, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    for slope, even in ((1.0, 1.0), (1.0078125, 1.015625)):
        dy = torch.tensor([[[[1.0, slope]]]], dtype=torch.bfloat16)
        assert gradients(x, weight, dy, 1)[0][0, 0, 0, 1].item() == even


@compiled
@layers
@types
def test_the_same_bits_again_and_with_any_number_of_threads(
    kernel: int, stride: int, dtype: torch.dtype, close: float
) -> None:
    x, weight, dy = drawn((8, 40, 61, 67), kernel, stride, dtype)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 1, 2, 5, 40):
            torch.set_num_threads(threads)
            results.append(gradients(x, weight, dy, stride))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert torch.equal(results[0][0], other[0])
        assert torch.equal(results[0][1], other[1])


@compiled
@layers
def test_channels_are_computed_apart(kernel: int, stride: int) -> None:
    x, weight, dy = drawn((2, 11, 8, 9), kernel, stride, torch.float32)
    together = gradients(x, weight, dy, stride)
    for channel in (0, 7, 8, 10):
        part = x[:, channel : channel + 1].contiguous(memory_format=torch.channels_last)
        alone = gradients(part, weight[channel : channel + 1], dy[:, channel : channel + 1], stride)
        assert torch.equal(alone[0], together[0][:, channel : channel + 1])
        assert torch.equal(alone[1], together[1][channel : channel + 1])


@compiled
def test_gradients_in_other_layouts_and_types_are_the_same_gradient() -> None:
    x, weight, dy = drawn((2, 12, 6, 5), 3, 1, torch.float32)
    wanted = gradients(x, weight, dy, 1)
    wide = torch.stack([dy, dy], -1).permute(0, 2, 3, 1, 4).flatten(3)[..., ::2].permute(0, 3, 1, 2)
    assert wide.stride(1) == 2
    for other in (dy.contiguous(memory_format=torch.channels_last), wide):
        assert all(torch.equal(one, two) for one, two in zip(gradients(x, weight, other, 1), wanted))
    ones = torch.ones(()).expand(dy.shape)
    assert worst(gradients(x, weight, ones, 1)[0], by_torch(x, weight, ones, 1)[0]) < 2e-6


@compiled
def test_gradcheck_by_finite_differences() -> None:
    x, weight, dy = drawn((2, 9, 4, 5), 5, 2, torch.float32)
    dx, d_weight = gradients(x, weight, dy, 2)

    def total(x: Tensor, weight: Tensor) -> float:
        return float((F.conv2d(x, weight, stride=2, padding=2, groups=9) * dy.double()).sum())

    exact = [x.double(), weight.double()]
    for which, found, place in [(0, dx, (1, 8, 3, 4)), (0, dx, (0, 0, 0, 1)), (1, d_weight, (8, 0, 4, 0))]:
        up, down = ([tensor.clone() for tensor in exact] for _ in range(2))
        up[which][place] += 1e-4
        down[which][place] -= 1e-4
        assert float(found[place]) == pytest.approx((total(*up) - total(*down)) / 2e-4, abs=1e-4)


@compiled
def test_gradients_of_gradients_are_refused() -> None:
    x, weight, _ = drawn((1, 8, 4, 4), 3, 1, torch.float32)
    x.requires_grad_()
    (dx,) = torch.autograd.grad(depthwise(x, weight).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        dx.sum().backward()


# What the extension does not take


def refuse(*arguments: object, **named: object) -> None:
    raise AssertionError("the extension was asked")


@compiled
def test_fits_only_what_the_extension_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weight, _ = drawn((2, 6, 8, 4), 3, 1, torch.float32)
    assert depthwise_fits(x, weight)
    assert depthwise_fits(x.bfloat16(), weight, stride=2)
    assert not depthwise_fits(x, weight[:1])
    assert not depthwise_fits(x, weight.repeat(1, 2, 1, 1))
    for other in (x.contiguous(), x.double(), x.half(), x[:0], x[:, :, :0], x.to("meta")):
        assert not depthwise_fits(other, weight), (other.dtype, other.shape)
    for other in (weight.double(), weight.bfloat16(), torch.ones(6, 1, 7, 7), torch.ones(6, 1, 3, 5)):
        assert not depthwise_fits(x, other), (other.dtype, other.shape)
    assert not depthwise_fits(x, weight, stride=3)
    large = torch.zeros(1, 6, 120, 120).contiguous(memory_format=torch.channels_last)
    assert not depthwise_fits(large, weight)
    assert depthwise_fits(large, torch.ones(6, 1, 5, 5))
    assert depthwise_fits(large.bfloat16(), weight)
    monkeypatch.setenv("YOLO_LITE_OPS", "torch")
    assert not depthwise_fits(x, weight)


@compiled
@pytest.mark.parametrize(
    "settings",
    [
        {"dilation": 2, "padding": 2},
        {"padding": 0},
        {"padding": "same"},
        {"padding_mode": "reflect"},
        {"stride": (1, 2)},
        {"kernel_size": (3, 5), "padding": (1, 2)},
        {"kernel_size": 1, "padding": 0},
    ],
    ids=str,
)
def test_layers_of_other_kinds_are_left_to_torch(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yolo_lite.ops.depthwise.depthwise_backward_native", refuse)
    layer = DepthwiseConv2d(6, 6, **{"kernel_size": 3, "padding": 1, "groups": 6, "bias": False} | settings)
    x = drawn((2, 6, 8, 9), 3, 1, torch.float32)[0].requires_grad_()
    y = layer(x)
    assert torch.equal(y, nn.Conv2d.forward(layer, x))
    y.sum().backward()


def plain_layer() -> tuple[DepthwiseConv2d, Tensor]:
    torch.manual_seed(5)
    layer = DepthwiseConv2d(10, 10, 5, stride=2, padding=2, groups=10)
    return layer, drawn((2, 10, 9, 11), 5, 2, torch.float32)[0]


@compiled
def test_a_layer_in_training_uses_the_extension_and_keeps_its_parameters() -> None:
    layer, x = plain_layer()
    reference = copy.deepcopy(layer)
    y, wanted = layer(x), nn.Conv2d.forward(reference, x)
    assert type(y.grad_fn).__name__ == "_DepthwiseBackward"
    assert torch.equal(y, wanted)
    for result in (y, wanted):
        result.square().sum().backward()
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(parameter.grad, reference.get_parameter(name).grad, rtol=1e-5, atol=1e-4)
    assert list(layer.state_dict()) == ["weight", "bias"]


@compiled
def test_evaluation_compilation_tracing_and_function_transforms_use_torchs_convolution(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("yolo_lite.ops.depthwise._Depthwise.apply", refuse)
    layer, x = plain_layer()
    wanted = nn.Conv2d.forward(layer, x)
    with pytest.raises(AssertionError, match="was asked"):
        layer(x)
    with torch.no_grad():
        assert torch.equal(layer(x), wanted)
    assert torch.equal(copy.deepcopy(layer).eval()(x), wanted)
    assert torch.equal(torch.jit.trace(layer, x, check_trace=False)(x), wanted)
    assert torch.equal(torch.export.export(layer, (x,)).module()(x), wanted)
    each = torch.vmap(layer)(x[None])
    torch.testing.assert_close(each[0], wanted)

    def loss(weight: Tensor) -> Tensor:
        result: Tensor = torch.func.functional_call(layer, {"weight": weight}, x)
        return result.square().sum()

    slope = torch.func.grad(loss)(layer.weight.detach())
    torch.testing.assert_close(slope, torch.autograd.grad(wanted.square().sum(), layer.weight)[0])


@compiled
def test_a_layer_under_autocast_computes_in_bfloat16_and_its_gradient_is_float32() -> None:
    layer, x = plain_layer()
    x = x.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    assert layer.weight.grad is not None
    assert x.grad is not None
    assert (layer.weight.grad.dtype, x.grad.dtype) == (torch.float32, torch.float32)
    rounded = x.detach().bfloat16()
    dx, d_weight = by_torch(rounded, layer.weight.detach(), (2 * y.detach().float()).bfloat16(), 2)
    assert worst(layer.weight.grad, d_weight) < 2e-6
    assert worst(x.grad, dx) < 4e-3
    with torch.autocast("cpu", torch.float16):
        assert layer(x).dtype == torch.float32


@compiled
def test_hooks_and_frozen_weights_work() -> None:
    layer, x = plain_layer()
    seen: list[torch.Size] = []
    layer.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    layer.register_full_backward_hook(lambda module, to_inputs, to_outputs: seen.append(to_inputs[0].shape))
    layer.requires_grad_(False)
    layer(x.requires_grad_()).sum().backward()
    assert seen == [(2, 10, 5, 6), x.shape]
    assert layer.weight.grad is None
    assert layer(x.detach()).grad_fn is None


@compiled
def test_a_network_gets_the_gradients_that_torch_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(7)
    network = nn.Sequential(ShuffleUnit(16, 48, stride=2), ShuffleUnit(48, 48), GhostBottleneck(48, 32)).to(
        memory_format=torch.channels_last
    )
    x = torch.randn(2, 16, 20, 20).contiguous(memory_format=torch.channels_last)
    found: list[dict[str, Tensor]] = []
    used: list[bool] = []
    for fits in (depthwise_fits, lambda *arguments, **named: False):

        def watched(*arguments: Any, fits: Any = fits, **named: Any) -> bool:
            used.append(fits(*arguments, **named))
            return used[-1]

        monkeypatch.setattr(blocks, "depthwise_fits", watched)
        network.zero_grad()
        network(x).square().mean().backward()
        found.append({name: value.grad.clone() for name, value in network.named_parameters() if value.grad is not None})
    assert used == [True] * 6 + [False] * 6
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-3, atol=1e-6, msg=name)


# The extension itself, called with what it must refuse


def call(**changes: Any) -> None:
    arguments: dict[str, Any] = {
        "x": np.zeros((2, 5, 6, 9), np.float32),
        "dy": np.zeros((2, 3, 3, 9), np.float32),
        "bfloat16": False,
        "weight": np.zeros((9, 3, 3), np.float32),
        "stride": 2,
        "threads": 1,
        "dx": np.zeros((2, 5, 6, 9), np.float32),
        "d_weight": np.zeros((9, 3, 3), np.float32),
        "d_bias": np.zeros(9, np.float32),
    } | changes
    native._native.depthwise_backward(*arguments.values())


EMPTY = np.zeros((0, 5, 6, 9), np.float32)


@compiled
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.zeros((2, 5, 6, 9))}, "x must be float32"),
        ({"bfloat16": True}, "x must be int16"),
        ({"x": np.zeros((2, 5, 6, 18), np.float32)[..., ::2]}, "x must be a C-contiguous array"),
        ({"x": np.zeros((5, 6, 9), np.float32)}, "x must have 4 dimensions"),
        ({"x": EMPTY, "dx": EMPTY, "dy": EMPTY[:, :3, :3].copy()}, "x must not be empty"),
        ({"dy": np.zeros((2, 5, 6, 9), np.float32)}, "dy must have length 3 in dimension 1, got 5"),
        ({"weight": np.zeros((8, 3, 3), np.float32)}, "weight must have length 9"),
        ({"weight": np.zeros((9, 7, 7), np.float32), "d_weight": np.zeros((9, 7, 7), np.float32)}, "3x3 or 5x5"),
        ({"weight": np.zeros((9, 3, 5), np.float32), "d_weight": np.zeros((9, 3, 5), np.float32)}, "3x3 or 5x5"),
        ({"stride": 3}, "stride must be 1 or 2"),
        ({"stride": 0}, "stride must be 1 or 2"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"dx": np.zeros((2, 5, 6, 8), np.float32)}, "dx must have length 9"),
        ({"d_weight": np.zeros((9, 5, 5), np.float32)}, "d_weight must have length 3"),
        ({"d_bias": np.zeros(8, np.float32)}, "d_bias must have length 9"),
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
    for n, h, w, c in [(1, 1, 1, 1), (2, 3, 5, 3), (1, 9, 2, 8), (3, 6, 7, 17), (1, 20, 21, 24), (2, 1, 30, 7)]:
        for kernel in (3, 5):
            for stride in (1, 2):
                for kind in (np.float32, np.int16):
                    def map_of(*shape):
                        bits = generator.normal(0, 1, shape).astype(np.float32).view(np.int32)
                        return bits.view(np.float32) if kind == np.float32 else (bits >> 16).astype(np.int16)
                    x, dx = map_of(n, h, w, c), map_of(n, h, w, c)
                    dy = map_of(n, -(-h // stride), -(-w // stride), c)
                    weight = generator.normal(0, 1, (c, kernel, kernel)).astype(np.float32)
                    d_weight, d_bias = np.full_like(weight, np.nan), np.full(c, np.nan, np.float32)
                    module.depthwise_backward(x, dy, kind == np.int16, weight, stride, 2, dx, d_weight, d_bias)
                    assert np.isfinite(d_weight).all() and np.isfinite(d_bias).all()
    return "finished"
"""


@pytest.mark.slow
@compiled
def test_the_sanitizers_find_nothing(tmp_path: Path) -> None:
    result = sanitized(tmp_path, SOURCES, EXERCISE)
    assert result.stdout.strip() == "finished", result.stderr
    assert "depthwise" not in result.stderr
    assert "runtime error" not in result.stderr
