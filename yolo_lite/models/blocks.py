"""The convolution blocks that every part of the network is made of."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from yolo_lite.ops.depthwise import depthwise, depthwise_fits
from yolo_lite.ops.gradients import compact_gradient
from yolo_lite.ops.norm_silu import BatchNorm, norm_silu

Activation = Callable[[], nn.Module]
SILU: Activation = partial(nn.SiLU, inplace=True)
LEAKY: Activation = partial(nn.LeakyReLU, 0.1, inplace=True)


class DepthwiseConv2d(nn.Conv2d):
    """A convolution that filters each channel by itself.

    In training on a CPU the C extension computes the gradients if it can (`ops.depthwise`). Otherwise the layer computes
    in float32 even under autocast to bf16, since oneDNN's backward pass of depthwise layers is about four times slower
    in bf16.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C, ceil(H / stride), ceil(W / stride)]."""
        if input.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(input)
        if self.training and self._is_plain():
            x = input.bfloat16() if _autocast_to_bfloat16() else input
            if depthwise_fits(x, self.weight, stride=self.stride[0]):
                return depthwise(x, self.weight, bias=self.bias, stride=self.stride[0])
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())

    def _is_plain(self) -> bool:
        """Return whether the layer has no dilation, and a border of zeros that keeps the size at stride 1."""
        settings = (self.dilation, self.padding_mode, self.stride[0])
        return settings == ((1, 1), "zeros", self.stride[1]) and self.padding == (self.kernel_size[0] // 2,) * 2


def _autocast_to_bfloat16() -> bool:
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


class ConvBlock(nn.Sequential):
    """Convolution, batch normalisation, activation: [B, in, H, W] -> [B, out, ceil(H / stride), ceil(W / stride)]."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: Activation | None = SILU,
    ) -> None:
        convolution = DepthwiseConv2d if groups == inputs == outputs else nn.Conv2d
        layers: list[nn.Module] = [
            convolution(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        if activation:
            layers.append(activation())
        super().__init__(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers in turn; in training, normalisation and SiLU run as one operation, to save time and memory."""
        norm = self[1] if len(self) == 3 and isinstance(self[2], nn.SiLU) else None
        if isinstance(norm, nn.BatchNorm2d) and norm.training:
            return _norm_silu(norm, self[0](x))
        for layer in self:
            x = layer(x)
        return x


def _norm_silu(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    mean, variance, count, momentum = norm.running_mean, norm.running_var, norm.num_batches_tracked, norm.momentum
    assert mean is not None
    assert variance is not None
    assert count is not None
    assert momentum is not None
    count.add_(1)
    settings = BatchNorm(
        norm.weight, norm.bias, running_mean=mean, running_var=variance, momentum=momentum, eps=norm.eps
    )
    return norm_silu(x, settings)


class DepthwiseSeparable(nn.Sequential):
    """A k x k convolution on each channel by itself, then a 1x1 across channels (Howard et al. 2017)."""

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int = 5, stride: int = 1, activation: Activation | None = SILU
    ) -> None:
        super().__init__(
            ConvBlock(inputs, inputs, kernel=kernel, stride=stride, groups=inputs, activation=activation),
            ConvBlock(inputs, outputs, activation=activation),
        )


class Bottleneck(nn.Module):
    """Two 3x3 layers with a shortcut around them (He et al. 2016)."""

    def __init__(self, channels: int, shortcut: bool = True) -> None:
        super().__init__()
        self.first = ConvBlock(channels, channels, kernel=3)
        self.second = ConvBlock(channels, channels, kernel=3)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape [B, C, H, W]."""
        y: Tensor = self.second(self.first(x))
        return x + y if self.shortcut else y


class CSPBlock(nn.Module):
    """Half of the channels pass through bottlenecks, and the last 1x1 sees the result of each of them.

    Cross-stage partial network (Wang et al. 2019) with the aggregation of all stages of ELAN (Wang et al. 2022).
    """

    def __init__(self, inputs: int, outputs: int, *, depth: int, shortcut: bool = True) -> None:
        super().__init__()
        hidden = outputs // 2
        self.split = ConvBlock(inputs, 2 * hidden)
        self.steps = nn.ModuleList(Bottleneck(hidden, shortcut) for _ in range(depth))
        self.merge = ConvBlock((2 + depth) * hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, H, W]."""
        parts = list(self.split(x).chunk(2, 1))
        for step in self.steps:
            parts.append(step(parts[-1]))
        merged: Tensor = self.merge(torch.cat(parts, 1))
        return merged


class SPPF(nn.Module):
    """Maxima over 5x5, 9x9 and 13x13 around each cell, by pooling 5x5 once, twice and three times.

    Spatial pyramid pooling (He et al. 2014) in its sequential form: two 5x5 pools see what one 9x9 sees.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // 2
        self.reduce = ConvBlock(channels, hidden)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.merge = ConvBlock(4 * hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape [B, C, H, W]."""
        parts = [self.reduce(x)]
        for _ in range(3):
            parts.append(self.pool(parts[-1]))
        merged: Tensor = self.merge(torch.cat(parts, 1))
        return merged


class ShuffleUnit(nn.Module):
    """Half of the channels stay as they are, the others go through 1x1, 3x3 depthwise, 1x1; then both are interleaved.

    ShuffleNetV2 (Ma et al. 2018, figure 3 c and d). With stride 2, both branches have layers and see all channels.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        half = outputs // 2
        before = half if stride == 1 else inputs
        self.main = nn.Sequential(
            ConvBlock(before, half, activation=LEAKY),
            ConvBlock(half, half, kernel=3, stride=stride, groups=half, activation=None),
            ConvBlock(half, half, activation=LEAKY),
        )
        self.side = None
        if stride != 1:
            self.side = nn.Sequential(
                ConvBlock(inputs, inputs, kernel=3, stride=stride, groups=inputs, activation=None),
                ConvBlock(inputs, half, activation=LEAKY),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, ceil(H / stride), ceil(W / stride)]."""
        if self.side is None:
            passing, used = x.chunk(2, 1)
        else:
            passing, used = compact_gradient(self.side(x)), x
        return interleave(passing, compact_gradient(self.main(used)))


def interleave(a: Tensor, b: Tensor) -> Tensor:
    """Return channels a0, b0, a1, b1 ... of two maps [B, C, H, W]: [B, 2C, H, W], channels last in memory.

    Example:
        >>> interleave(torch.tensor([0, 2]).view(1, 2, 1, 1), torch.tensor([1, 3]).view(1, 2, 1, 1)).flatten()
        tensor([0, 1, 2, 3])
    """
    return torch.stack([a.permute(0, 2, 3, 1), b.permute(0, 2, 3, 1)], -1).flatten(-2).permute(0, 3, 1, 2)


class GhostModule(nn.Module):
    """A 1x1 layer makes half of the output; a 3x3 depthwise layer makes the other half from it (Han et al. 2020)."""

    def __init__(self, inputs: int, outputs: int, *, activation: Activation | None) -> None:
        super().__init__()
        half = outputs // 2
        self.primary = ConvBlock(inputs, half, activation=activation)
        self.cheap = ConvBlock(half, half, kernel=3, groups=half, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, H, W]."""
        primary = self.primary(x)
        return torch.cat([primary, self.cheap(primary)], 1)


class GhostBottleneck(nn.Module):
    """Two ghost modules, the second without activation, beside a 5x5 depthwise-separable shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = GhostModule(inputs, outputs, activation=LEAKY)
        self.second = GhostModule(outputs, outputs, activation=None)
        self.shortcut = DepthwiseSeparable(inputs, outputs, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, H, W]."""
        y: Tensor = self.second(self.first(x)) + self.shortcut(x)
        return y


def fuse(model: nn.Module) -> nn.Module:
    """Fold batch normalisations into the convolutions before them, in place, and return the model.

    This concerns every nn.Sequential that begins with these two layers. In evaluation mode the results stay the same up
    to rounding, and a third fewer operations are launched.

    Example:
        >>> [type(layer).__name__ for layer in fuse(ConvBlock(3, 8))]
        ['Conv2d', 'SiLU']
    """
    for module in model.modules():
        if not isinstance(module, nn.Sequential) or len(module) < 2:
            continue
        convolution, norm = module[0], module[1]
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            module[0] = _folded(convolution, norm)
            del module[1]
    return model


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    training = convolution.training
    fused: nn.Conv2d = nn.utils.fusion.fuse_conv_bn_eval(convolution.eval(), norm.eval())
    return fused.train(training).requires_grad_()  # torch's new bias does not require a gradient
