"""Necks: feature maps in, feature maps of one width out, each informed by all the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yolo_lite.models.blocks import ConvBlock, CSPBlock, DepthwiseSeparable


class PAN(nn.Module):
    """Path aggregation (Liu et al. 2018): coarse to fine, so that small objects get context, then back again.

    Every level is first brought to one width by a 1x1; merging is by CSP blocks of 5x5 depthwise layers.
    """

    def __init__(self, channels: Sequence[int], width: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(ConvBlock(count, width) for count in channels)
        steps = len(channels) - 1
        self.down_path = nn.ModuleList(CSPBlock(2 * width, width, 1, depthwise=True) for _ in range(steps))
        self.shrink = nn.ModuleList(DepthwiseSeparable(width, width, stride=2) for _ in range(steps))
        self.up_path = nn.ModuleList(CSPBlock(2 * width, width, 1, depthwise=True) for _ in range(steps))
        self.channels = (width,) * len(channels)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Map feature maps, fine to coarse, to as many of the same sizes, [B, width, H, W]."""
        levels = [lateral(level) for lateral, level in zip(self.lateral, levels)]
        coarse = levels[-1]
        informed = [coarse]  # coarse to fine
        for merge, level in zip(self.down_path, levels[-2::-1]):
            coarse = merge(torch.cat([level, F.interpolate(coarse, level.shape[-2:], mode="nearest")], 1))
            informed.append(coarse)
        fine = informed.pop()
        results = [fine]
        for shrink, merge, level in zip(self.shrink, self.up_path, informed[::-1]):
            fine = merge(torch.cat([shrink(fine), level], 1))
            results.append(fine)
        return results
