"""The convolution blocks that every part of the network is made of."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DepthwiseConv2d(nn.Conv2d):
    """A convolution of each channel by itself, computed in float32 on CPUs even where autocast asks for bf16.

    oneDNN's backward pass of depthwise layers is about four times slower in bf16 than in float32.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C, ceil(H / stride), ceil(W / stride)]."""
        if input.device.type != "cpu":
            return super().forward(input)
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float())


class ConvBlock(nn.Sequential):
    """Convolution, batch normalisation, SiLU: [B, in, H, W] -> [B, out, ceil(H / stride), ceil(W / stride)]."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        convolution = DepthwiseConv2d if groups == inputs == outputs else nn.Conv2d
        super().__init__(
            convolution(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.SiLU(inplace=True),
        )


class DepthwiseSeparable(nn.Sequential):
    """A k x k convolution on each channel by itself, then a 1x1 across channels (Howard et al. 2017)."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 5, stride: int = 1) -> None:
        super().__init__(ConvBlock(inputs, inputs, kernel, stride, groups=inputs), ConvBlock(inputs, outputs))


class Bottleneck(nn.Module):
    """Two layers with a short cut around them (He et al. 2016); dense 3x3, or 5x5 depthwise-separable."""

    def __init__(self, channels: int, depthwise: bool = False, shortcut: bool = True) -> None:
        super().__init__()
        self.first = ConvBlock(channels, channels, 1 if depthwise else 3)
        self.second = DepthwiseSeparable(channels, channels) if depthwise else ConvBlock(channels, channels, 3)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape [B, C, H, W]."""
        y: Tensor = self.second(self.first(x))
        return x + y if self.shortcut else y


class CSPBlock(nn.Module):
    """Half of the channels pass through bottlenecks, and every stage of that path is kept for the last 1x1.

    Cross-stage partial network (Wang et al. 2019) with the aggregation of all stages of ELAN (Wang et al. 2022).
    """

    def __init__(self, inputs: int, outputs: int, depth: int, depthwise: bool = False, shortcut: bool = True) -> None:
        super().__init__()
        hidden = outputs // 2
        self.split = ConvBlock(inputs, 2 * hidden)
        self.steps = nn.ModuleList(Bottleneck(hidden, depthwise, shortcut) for _ in range(depth))
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


def fuse(model: nn.Module) -> nn.Module:
    """Fold every batch normalisation into the convolution before it, in place, and return the model.

    For a network in evaluation mode that will not be trained again: the results stay the same up to rounding, with a
    third fewer operations to start.
    """
    for module in model.modules():
        if isinstance(module, ConvBlock) and len(module) == 3:
            convolution, normalisation = module[0], module[1]
            assert isinstance(convolution, nn.Conv2d)
            assert isinstance(normalisation, nn.BatchNorm2d)
            module[0] = nn.utils.fusion.fuse_conv_bn_eval(convolution, normalisation)
            del module[1]
    return model
