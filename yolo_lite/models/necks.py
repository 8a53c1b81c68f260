"""Necks mix feature maps: all maps leave with the same number of channels, each informed by all others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yolo_lite.models.blocks import LEAKY, ConvBlock, CSPBlock, DepthwiseSeparable, GhostBottleneck


class NoNeck(nn.Identity):
    """The backbone's feature maps, unchanged."""

    def __init__(self, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        self.channels, self.strides = tuple(channels), tuple(strides)


class PAN(nn.Module):
    """Path aggregation (Liu et al. 2018): coarse to fine, so that small objects get context, then fine to coarse.

    A 1x1 convolution first brings every level to the same width; CSP blocks merge the levels.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], *, width: int) -> None:
        super().__init__()
        _check_levels(strides)
        self.strides = tuple(strides)
        self.lateral = nn.ModuleList(ConvBlock(count, width) for count in channels)
        steps = len(channels) - 1
        self.down_path = nn.ModuleList(CSPBlock(2 * width, width, depth=1) for _ in range(steps))
        self.shrink = nn.ModuleList(ConvBlock(width, width, kernel=3, stride=2) for _ in range(steps))
        self.up_path = nn.ModuleList(CSPBlock(2 * width, width, depth=1) for _ in range(steps))
        self.channels = (width,) * len(channels)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Map feature maps, fine to coarse, to the same number of maps of the same sizes, [B, width, H, W]."""
        levels = [lateral(level) for lateral, level in zip(self.lateral, levels)]
        coarse = levels[-1]
        informed = [coarse]  # coarse to fine
        for merge, level in zip(self.down_path, levels[-2::-1]):
            coarse = merge(torch.cat([level, F.interpolate(coarse, scale_factor=2.0, mode="nearest")], 1))
            informed.append(coarse)
        fine = informed.pop()
        results = [fine]
        for shrink, merge, level in zip(self.shrink, self.up_path, informed[::-1]):
            fine = merge(torch.cat([shrink(fine), level], 1))
            results.append(fine)
        return results


class GhostPAN(nn.Module):
    """Path aggregation by ghost bottlenecks (Han et al. 2020), with one coarser level than the backbone has.

    Bilinear enlargement leads from coarse to fine, 5x5 depthwise-separable layers of stride 2 lead back. The extra level
    is the sum of two such layers, one on the backbone's coarsest level and one on the neck's.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], *, width: int) -> None:
        super().__init__()
        _check_levels(strides)
        if width % 2:
            raise ValueError(f"neck_width must be even for ghost_pan, got {width}")
        steps = len(channels) - 1
        self.lateral = nn.ModuleList(ConvBlock(count, width, activation=LEAKY) for count in channels)
        self.down_path = nn.ModuleList(GhostBottleneck(2 * width, width) for _ in range(steps))
        self.shrink = nn.ModuleList(DepthwiseSeparable(width, width, stride=2, activation=LEAKY) for _ in range(steps))
        self.up_path = nn.ModuleList(GhostBottleneck(2 * width, width) for _ in range(steps))
        self.extra_in = DepthwiseSeparable(width, width, stride=2, activation=LEAKY)
        self.extra_out = DepthwiseSeparable(width, width, stride=2, activation=LEAKY)
        self.channels = (width,) * (len(channels) + 1)
        self.strides = (*strides, 2 * strides[-1])

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Map feature maps, fine to coarse, to maps [B, width, H, W] of the same sizes and one of half the last size."""
        levels = [lateral(level) for lateral, level in zip(self.lateral, levels)]
        coarse = levels[-1]
        informed = [coarse]  # coarse to fine
        for merge, level in zip(self.down_path, levels[-2::-1]):
            large = F.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
            coarse = merge(torch.cat([large, level], 1))
            informed.append(coarse)
        fine = informed.pop()
        results = [fine]
        for shrink, merge, level in zip(self.shrink, self.up_path, informed[::-1]):
            fine = merge(torch.cat([shrink(fine), level], 1))
            results.append(fine)
        return [*results, self.extra_in(levels[-1]) + self.extra_out(fine)]


def _check_levels(strides: Sequence[int]) -> None:
    if any(coarse != 2 * fine for fine, coarse in zip(strides, strides[1:])):
        raise ValueError(f"neck needs maps each half as large as the one before, got the strides {list(strides)}")
