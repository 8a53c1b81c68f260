"""Detection heads turn feature maps into RawPredictions; each defines its points and how its outputs become boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yolo_lite.models.blocks import LEAKY, ConvBlock, DepthwiseSeparable
from yolo_lite.models.heads.base import Head
from yolo_lite.structures.batches import RawPredictions

CLASS_PRIOR = 0.01  # score of every class before training, low since most cells are empty (Lin et al. 2017)
CLASS_LOGIT = -math.log((1 - CLASS_PRIOR) / CLASS_PRIOR)


class AnchorFreeHead(nn.Module, Head):
    """Class logits and the distances to a box's four sides, from the centre of every cell (Tian et al. 2019).

    The head is decoupled (Ge et al. 2021): every level has one branch of 3x3 layers for the classes and another for the
    box. A distance is softplus(output) * stride: positive, and unbounded above.

    Args:
        channels: of each incoming level.
        strides: of each level, input pixels.
        classes: C.
        width: channels of the branches.
        depth: 3x3 layers in each branch.
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], *, classes: int, width: int, depth: int
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.class_branches = nn.ModuleList(_branch(count, width, depth=depth, outputs=classes) for count in channels)
        self.box_branches = nn.ModuleList(_branch(count, width, depth=depth, outputs=4) for count in channels)
        for class_branch, box_branch in zip(self.class_branches, self.box_branches):
            _set_bias(_last_layer(class_branch), CLASS_LOGIT)
            _set_bias(_last_layer(box_branch), 2.0)

    def forward(self, levels: Sequence[Tensor]) -> RawPredictions:
        """Map feature maps [B, channels, H, W] to RawPredictions with D = 4; points level by level, row by row."""
        logits, outputs, points, strides = [], [], [], []
        for level, stride, class_branch, box_branch in zip(
            levels, self.strides, self.class_branches, self.box_branches
        ):
            logits.append(class_branch(level).flatten(2).transpose(1, 2))
            outputs.append(box_branch(level).flatten(2).transpose(1, 2))
            points.append(grid_points(level, stride, offset=0.5))
            strides.append(points[-1].new_full((len(points[-1]),), stride))
        return RawPredictions(
            torch.cat(outputs, 1), torch.cat(logits, 1), points=torch.cat(points), strides=torch.cat(strides)
        )

    def class_layers(self) -> list[nn.Conv2d]:
        """Return the last layers of the class branches, whose output channels are the classes in order."""
        return [_last_layer(branch) for branch in self.class_branches]

    @staticmethod
    def decode(raw: RawPredictions, indices: Tensor) -> Tensor:
        """Return the boxes of some points.

        Args:
            raw: of B images.
            indices: int64 [B, K], positions among the A points.

        Returns:
            float32 [B, K, 4] xyxy, input pixels, not clipped to the image.

        Example:
            >>> outputs = torch.full((1, 1, 4), 1.0).expm1().log()  # softplus of these is 1: one stride to each side
            >>> points, strides = torch.tensor([[12.0, 12]]), torch.tensor([8.0])
            >>> raw = RawPredictions(outputs, torch.zeros(1, 1, 1), points=points, strides=strides)
            >>> AnchorFreeHead.decode(raw, torch.tensor([[0]])).round(decimals=3)
            tensor([[[ 4.,  4., 20., 20.]]])
        """
        outputs = raw.box_outputs.gather(1, indices.unsqueeze(-1).expand(-1, -1, 4)).float()
        distances = F.softplus(outputs) * raw.strides[indices].unsqueeze(-1)
        points = raw.points[indices]
        return torch.cat([points - distances[..., :2], points + distances[..., 2:]], -1)


class DistributionHead(nn.Module, Head):
    """Class logits, and for each side of the box a distribution over its distance (Li et al. 2020, section 3.2).

    Each level has one branch of 5x5 depthwise-separable layers for both. A side has `bins` logits. Their softmax weights
    the distances 0, 1, ... bins - 1, in strides from the cell's upper left corner.

    Args:
        channels: of each incoming level; the branches keep them.
        strides: of each level, input pixels.
        classes: C.
        depth: layers in each branch.
    """

    bins = 8

    def __init__(self, channels: Sequence[int], strides: Sequence[int], *, classes: int, depth: int) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.branches = nn.ModuleList(
            nn.Sequential(*(DepthwiseSeparable(count, count, activation=LEAKY) for _ in range(depth)))
            for count in channels
        )
        self.classes = nn.ModuleList(nn.Conv2d(count, classes, 1) for count in channels)
        self.sides = nn.ModuleList(nn.Conv2d(count, 4 * self.bins, 1) for count in channels)
        for layer in self.class_layers():
            _set_bias(layer, CLASS_LOGIT)

    def forward(self, levels: Sequence[Tensor]) -> RawPredictions:
        """Map feature maps [B, channels, H, W] to RawPredictions with D = 4 * bins, points level by level, row by row.

        The bins are those of the left side, then top, right, bottom.
        """
        logits, outputs, points, strides = [], [], [], []
        for level, stride, branch, classes, sides in zip(levels, self.strides, self.branches, self.classes, self.sides):
            features = branch(level)
            logits.append(classes(features).flatten(2).transpose(1, 2))
            outputs.append(sides(features).flatten(2).transpose(1, 2))
            points.append(grid_points(level, stride, offset=0.0))
            strides.append(points[-1].new_full((len(points[-1]),), stride))
        return RawPredictions(
            torch.cat(outputs, 1), torch.cat(logits, 1), points=torch.cat(points), strides=torch.cat(strides)
        )

    def class_layers(self) -> list[nn.Conv2d]:
        """Return the layers whose output channels are the classes in order."""
        return [layer for layer in self.classes if isinstance(layer, nn.Conv2d)]

    @classmethod
    def decode(cls, raw: RawPredictions, indices: Tensor) -> Tensor:
        """Return the boxes of some points.

        Args:
            raw: of B images.
            indices: int64 [B, K], positions among the A points.

        Returns:
            float32 [B, K, 4] xyxy, input pixels, not clipped to the image.

        Example:
            >>> points, strides = torch.tensor([[32.0, 32]]), torch.tensor([8.0])
            >>> raw = RawPredictions(torch.zeros(1, 1, 32), torch.zeros(1, 1, 1), points=points, strides=strides)
            >>> DistributionHead.decode(raw, torch.tensor([[0]]))  # all distances alike: on average 3.5 strides
            tensor([[[ 4.,  4., 60., 60.]]])
        """
        outputs = raw.box_outputs.gather(1, indices.unsqueeze(-1).expand(-1, -1, 4 * cls.bins)).float()
        probabilities = outputs.view(*outputs.shape[:-1], 4, cls.bins).softmax(-1)
        bins = torch.arange(cls.bins, dtype=torch.float32, device=outputs.device)
        distances = (probabilities * bins).sum(-1) * raw.strides[indices].unsqueeze(-1)
        points = raw.points[indices]
        return torch.cat([points - distances[..., :2], points + distances[..., 2:]], -1)


def grid_points(level: Tensor, stride: int, *, offset: float) -> Tensor:
    """Return a point for each cell of a feature map [B, C, H, W], row by row: float32 [H * W, 2] x, y in input pixels.

    `offset` is the point's position in its cell: 0 is the upper left corner, 0.5 the centre.

    Example:
        >>> grid_points(torch.zeros(1, 1, 1, 2), 8, offset=0.5)
        tensor([[ 4.,  4.],
                [12.,  4.]])
    """
    height, width = level.shape[-2:]
    y = (torch.arange(height, device=level.device, dtype=torch.float32) + offset) * stride
    x = (torch.arange(width, device=level.device, dtype=torch.float32) + offset) * stride
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], -1)


def _branch(inputs: int, width: int, *, depth: int, outputs: int) -> nn.Sequential:
    layers = [ConvBlock(inputs if i == 0 else width, width, kernel=3) for i in range(depth)]
    return nn.Sequential(*layers, nn.Conv2d(width, outputs, 1))


def _last_layer(branch: nn.Module) -> nn.Conv2d:
    *_, layer = branch.children()
    assert isinstance(layer, nn.Conv2d)
    return layer


def _set_bias(layer: nn.Conv2d, value: float) -> None:
    assert layer.bias is not None
    nn.init.constant_(layer.bias, value)
