"""Blocks, backbone and neck: shapes, and what each block computes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from yolo_lite.models.backbones import CSPBackbone
from yolo_lite.models.blocks import SPPF, Bottleneck, ConvBlock, CSPBlock, DepthwiseConv2d, DepthwiseSeparable, fuse
from yolo_lite.models.necks import PAN


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Draw the same weights every time."""
    torch.manual_seed(0)


@pytest.mark.parametrize("hw", [(8, 12), (7, 5), (1, 1)], ids=str)
@pytest.mark.parametrize(
    ("block", "channels", "stride"),
    [
        pytest.param(lambda: ConvBlock(6, 10), 10, 1, id="ConvBlock 1x1"),
        pytest.param(lambda: ConvBlock(6, 10, kernel=3, stride=2), 10, 2, id="ConvBlock 3x3 stride 2"),
        pytest.param(lambda: ConvBlock(6, 6, kernel=5, stride=2, groups=6), 6, 2, id="ConvBlock depthwise stride 2"),
        pytest.param(lambda: DepthwiseConv2d(6, 6, 3, 2, 1, groups=6), 6, 2, id="DepthwiseConv2d stride 2"),
        pytest.param(lambda: DepthwiseSeparable(6, 10), 10, 1, id="DepthwiseSeparable"),
        pytest.param(lambda: DepthwiseSeparable(6, 10, stride=2), 10, 2, id="DepthwiseSeparable stride 2"),
        pytest.param(lambda: Bottleneck(6), 6, 1, id="Bottleneck"),
        pytest.param(lambda: Bottleneck(6, shortcut=False), 6, 1, id="Bottleneck without short cut"),
        pytest.param(lambda: CSPBlock(6, 10, depth=2), 10, 1, id="CSPBlock"),
        pytest.param(lambda: CSPBlock(6, 10, depth=0), 10, 1, id="CSPBlock without bottlenecks"),
        pytest.param(lambda: SPPF(6), 6, 1, id="SPPF"),
    ],
)
def test_blocks_have_the_promised_shape(
    block: type[nn.Module], channels: int, stride: int, hw: tuple[int, int]
) -> None:
    x = torch.randn(2, 6, *hw)
    before = x.clone()
    y = block()(x)
    assert y.shape == (2, channels, -(-hw[0] // stride), -(-hw[1] // stride))  # rounded up
    assert bool(y.isfinite().all())
    assert torch.equal(x, before)


def test_a_conv_block_is_convolution_normalisation_and_silu() -> None:
    """A 1x1 of weight 2 in evaluation mode: fresh statistics are mean 0 and variance 1, so y = s(2x / sqrt(1 + 1e-5))."""
    block = ConvBlock(1, 1).eval()
    nn.init.constant_(block[0].weight, 2.0)  # type: ignore[arg-type]
    x = torch.tensor([-1.0, 0.0, 0.5, 3.0]).view(1, 1, 2, 2)
    z = 2 * x / (1 + 1e-5) ** 0.5
    torch.testing.assert_close(block(x), z / (1 + (-z).exp()))


def test_a_convolution_in_a_block_has_no_bias() -> None:
    assert all(module.bias is None for module in CSPBlock(6, 10, depth=2).modules() if isinstance(module, nn.Conv2d))


def test_a_depthwise_layer_keeps_channels_apart() -> None:
    block = DepthwiseConv2d(4, 4, 3, padding=1, groups=4)
    x = torch.randn(1, 4, 6, 6)
    changed = x.clone()
    changed[:, 2] += 1
    difference = (block(x) - block(changed)).abs().amax((0, 2, 3))
    assert difference[2] > 0
    assert difference[[0, 1, 3]].tolist() == [0, 0, 0]


def test_a_depthwise_layer_agrees_with_a_loop() -> None:
    layer = DepthwiseConv2d(2, 2, 3, stride=2, padding=1, groups=2, bias=False)
    x = torch.randn(1, 2, 5, 5)
    y = layer(x)
    padded, weight = torch.zeros(2, 7, 7), layer.weight.detach()
    padded[:, 1:6, 1:6] = x[0]
    for c in range(2):
        for row in range(3):
            for column in range(3):
                patch = padded[c, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
                assert y[0, c, row, column].item() == pytest.approx(float((patch * weight[c, 0]).sum()), abs=1e-5)


def test_a_depthwise_layer_is_computed_in_float32_under_autocast_on_cpus() -> None:
    layer, x = DepthwiseConv2d(4, 4, 3, padding=1, groups=4), torch.randn(1, 4, 6, 6)
    plain = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        cast = layer(x)
        assert layer(x.bfloat16()).dtype == torch.float32
        assert ConvBlock(4, 4)[0](x).dtype == torch.bfloat16  # a dense layer is not
        with torch.no_grad():
            assert layer(x).dtype == torch.bfloat16  # there is no backward pass that would be slow
    assert cast.dtype == torch.float32
    assert torch.equal(cast, plain)


def test_only_the_depthwise_conv_block_uses_the_depthwise_layer() -> None:
    assert isinstance(ConvBlock(6, 6, kernel=5, groups=6)[0], DepthwiseConv2d)
    assert not isinstance(ConvBlock(6, 6, kernel=3)[0], DepthwiseConv2d)


def test_a_short_cut_adds_the_input() -> None:
    block = Bottleneck(6).eval()
    x = torch.randn(2, 6, 5, 7)
    with_cut = block(x)
    block.shortcut = False
    torch.testing.assert_close(with_cut, x + block(x))


def test_sppf_takes_maxima_over_5_9_and_13_cells() -> None:
    """With both convolutions taken out, the channels are the input and its maxima, found here by a loop."""
    block = SPPF(2)
    block.reduce, block.merge = nn.Identity(), nn.Identity()  # type: ignore[assignment]
    x = torch.randn(1, 1, 15, 17)
    y = block(x)
    assert y.shape == (1, 4, 15, 17)
    assert torch.equal(y[:, :1], x)
    for channel, reach in enumerate((2, 4, 6), start=1):
        for row in range(15):
            for column in range(17):
                window = x[0, 0, max(0, row - reach) : row + reach + 1, max(0, column - reach) : column + reach + 1]
                assert y[0, channel, row, column] == window.max()


def test_csp_merges_every_stage_of_its_path() -> None:
    """With doubling steps and no convolutions, 4 channels a b c d give a b, c d, 2c 2d, 4c 4d."""

    class Double(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * x

    block = CSPBlock(4, 4, depth=2)
    block.split, block.merge = nn.Identity(), nn.Identity()  # type: ignore[assignment]
    block.steps = nn.ModuleList([Double(), Double()])
    x = torch.tensor([1.0, 3.0, 5.0, 7.0]).view(1, 4, 1, 1)
    assert block(x).flatten().tolist() == [1, 3, 5, 7, 10, 14, 20, 28]


@pytest.mark.parametrize("hw", [(64, 64), (64, 96), (32, 160)], ids=str)
def test_the_backbone_returns_three_levels(hw: tuple[int, int]) -> None:
    backbone = CSPBackbone(4, (6, 8, 10, 12), depths=(1, 1, 2, 1))
    assert backbone.channels == (8, 10, 12)
    assert backbone.strides == (8, 16, 32)
    levels = backbone(torch.randn(2, 3, *hw))
    wanted = [(2, width, hw[0] // stride, hw[1] // stride) for width, stride in ((8, 8), (10, 16), (12, 32))]
    assert [tuple(level.shape) for level in levels] == wanted


@pytest.mark.parametrize(("widths", "depths"), [((6, 8, 10), (1, 1, 1, 1)), ((6, 8, 10, 12), (1, 1))], ids=["3", "2"])
def test_the_backbone_needs_four_stages(widths: tuple[int, ...], depths: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"widths and depths must have 4 entries, got \[6, 8, 10.*\] and \[1, 1"):
        CSPBackbone(4, widths, depths=depths)


def test_the_neck_keeps_sizes_and_brings_levels_to_one_width() -> None:
    neck = PAN((8, 10, 12), (8, 16, 32), width=6)
    assert neck.channels == (6, 6, 6)
    levels = [torch.randn(2, 8, 8, 12), torch.randn(2, 10, 4, 6), torch.randn(2, 12, 2, 3)]
    assert [tuple(level.shape) for level in neck(levels)] == [(2, 6, 8, 12), (2, 6, 4, 6), (2, 6, 2, 3)]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_neck_takes_any_number_of_levels(count: int) -> None:
    levels = [torch.randn(2, 5 + i, 2 ** (4 - i), 2 ** (4 - i)) for i in range(count)]
    shapes = [
        tuple(level.shape)
        for level in PAN([5 + i for i in range(count)], [2**i for i in range(count)], width=6)(levels)
    ]
    assert shapes == [(2, 6, 2 ** (4 - i), 2 ** (4 - i)) for i in range(count)]


def test_every_level_of_the_neck_is_informed_by_all_others() -> None:
    neck = PAN((4, 4, 4), (8, 16, 32), width=6).eval()
    levels = [torch.randn(1, 4, size, size, requires_grad=True) for size in (8, 4, 2)]
    for level in neck(levels):
        gradients = torch.autograd.grad(level.square().sum(), levels, retain_graph=True)
        assert all(float(gradient.abs().sum()) > 0 for gradient in gradients)


def test_fusing_changes_nothing_but_the_number_of_layers() -> None:
    """Norms with drawn statistics, so that folding them has something to do."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(
        ConvBlock(3, 8, kernel=3, stride=2), DepthwiseSeparable(8, 8), CSPBlock(8, 16, depth=2), SPPF(16)
    ).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.bias.data, module.running_mean, module.running_var):
                assert tensor is not None
                tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    images = torch.rand(2, 3, 32, 48, generator=generator)
    with torch.no_grad():
        before = model(images)
        fuse(model)
        after = model(images)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)
    assert len(model.state_dict()) == len(fuse(model).state_dict())  # a second time does nothing
