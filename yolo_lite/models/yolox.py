"""YOLOX (Ge et al. 2021): backbone, neck and head, so that its published weights can be used."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yolo_lite.models.blocks import ConvBlock
from yolo_lite.models.heads.anchor_free import CLASS_LOGIT, grid_points
from yolo_lite.models.heads.base import Head
from yolo_lite.structures.batches import RawPredictions

_EPS, _MOMENTUM = 1e-3, 0.03  # of every batch normalisation


class DepthwiseBlock(nn.Module):
    """A 3x3 depthwise convolution, then a 1x1 across channels, each with batch normalisation and SiLU."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1) -> None:
        super().__init__()
        self.dconv = ConvBlock(inputs, inputs, kernel=3, stride=stride, groups=inputs)
        self.pconv = ConvBlock(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, ceil(H / stride), ceil(W / stride)]."""
        y: Tensor = self.pconv(self.dconv(x))
        return y


class Focus(nn.Module):
    """Stacks the pixels of even and odd rows and columns as channels, then a 3x3 convolution.

    The order is (even row, even column), (odd, even), (even, odd), (odd, odd).
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.conv = ConvBlock(12, outputs, kernel=3)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, 3, H, W] to [B, outputs, H / 2, W / 2]."""
        parts = [x[..., row::2, column::2] for column in (0, 1) for row in (0, 1)]
        features: Tensor = self.conv(torch.cat(parts, 1))
        return features


class YoloxBottleneck(nn.Module):
    """A 1x1 and a 3x3 block, with a shortcut around both or none."""

    def __init__(self, channels: int, *, shortcut: bool, depthwise: bool) -> None:
        super().__init__()
        self.conv1 = ConvBlock(channels, channels)
        self.conv2 = _block(channels, channels, depthwise=depthwise)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape [B, C, H, W]."""
        y: Tensor = self.conv2(self.conv1(x))
        return x + y if self.shortcut else y


class CSPLayer(nn.Module):
    """Half of the channels pass through bottlenecks; a 1x1 joins both halves (Wang et al. 2019)."""

    def __init__(self, inputs: int, outputs: int, *, depth: int, shortcut: bool, depthwise: bool) -> None:
        super().__init__()
        hidden = outputs // 2
        self.conv1, self.conv2 = ConvBlock(inputs, hidden), ConvBlock(inputs, hidden)
        self.conv3 = ConvBlock(2 * hidden, outputs)
        self.m = nn.Sequential(*(YoloxBottleneck(hidden, shortcut=shortcut, depthwise=depthwise) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, H, W]."""
        joined: Tensor = self.conv3(torch.cat([self.m(self.conv1(x)), self.conv2(x)], 1))
        return joined


class SPPBottleneck(nn.Module):
    """Maxima over 5x5, 9x9 and 13x13 around each cell, beside the features themselves (He et al. 2014)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // 2
        self.conv1, self.conv2 = ConvBlock(channels, hidden), ConvBlock(4 * hidden, channels)
        self.m = nn.ModuleList(nn.MaxPool2d(kernel, 1, kernel // 2) for kernel in (5, 9, 13))

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape [B, C, H, W]."""
        x = self.conv1(x)
        merged: Tensor = self.conv2(torch.cat([x, *(pool(x) for pool in self.m)], 1))
        return merged


class YoloxBackbone(nn.Module):
    """CSPDarknet: Focus, then four stages that halve the resolution.

    Args:
        stem_width: channels at stride 2.
        widths: channels of the stages at strides 4, 8, 16, 32.
        depths: bottlenecks in each stage.
        depthwise: whether 3x3 convolutions are depthwise-separable, as in YOLOX-nano.

    Example:
        >>> backbone = YoloxBackbone(8, (16, 32, 64, 128), depths=(1, 1, 1, 1), depthwise=True)
        >>> [tuple(level.shape) for level in backbone(torch.zeros(1, 3, 64, 64))]
        [(1, 32, 8, 8), (1, 64, 4, 4), (1, 128, 2, 2)]
    """

    def __init__(self, stem_width: int, widths: Sequence[int], *, depths: Sequence[int], depthwise: bool) -> None:
        super().__init__()
        if len(widths) != 4 or len(depths) != 4 or any(width % 2 for width in widths):
            raise ValueError(f"widths and depths must have 4 entries, widths even, got {list(widths)}, {list(depths)}")
        self.stem = Focus(stem_width)
        before = (stem_width, *widths[:-1])
        for number, (inputs, width, depth) in enumerate(zip(before, widths, depths), 2):
            last = number == 5
            stage = [_block(inputs, width, stride=2, depthwise=depthwise)]
            if last:
                stage.append(SPPBottleneck(width))
            stage.append(CSPLayer(width, width, depth=depth, shortcut=not last, depthwise=depthwise))
            self.add_module(f"dark{number}", nn.Sequential(*stage))
        _set_norms(self)
        self.channels = tuple(widths[1:])
        self.strides = (8, 16, 32)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map [B, 3, H, W] to maps at strides 8, 16 and 32."""
        x = self.get_submodule("stem")(x)
        levels = []
        for number in range(2, 6):
            x = self.get_submodule(f"dark{number}")(x)
            levels.append(x)
        return levels[1:]


class YoloxPAFPN(nn.Module):
    """Path aggregation (Liu et al. 2018) over three levels, which keep their widths.

    Args:
        channels: of the three levels.
        strides: of the three levels, input pixels.
        depth: bottlenecks in each CSP layer.
        depthwise: as in the backbone.
    """

    def __init__(self, channels: Sequence[int], strides: Sequence[int], *, depth: int, depthwise: bool) -> None:
        super().__init__()
        if len(channels) != 3:
            raise ValueError(f"neck yolox takes three levels, got {len(channels)}")
        p3, p4, p5 = channels

        def csp(inputs: int, outputs: int) -> CSPLayer:
            return CSPLayer(inputs, outputs, depth=depth, shortcut=False, depthwise=depthwise)

        self.lateral_conv0, self.reduce_conv1 = ConvBlock(p5, p4), ConvBlock(p4, p3)
        self.C3_p4, self.C3_p3 = csp(2 * p4, p4), csp(2 * p3, p3)
        self.bu_conv2 = _block(p3, p3, stride=2, depthwise=depthwise)
        self.bu_conv1 = _block(p4, p4, stride=2, depthwise=depthwise)
        self.C3_n3, self.C3_n4 = csp(2 * p3, p4), csp(2 * p4, p5)
        _set_norms(self)
        self.channels, self.strides = tuple(channels), tuple(strides)

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """Map three maps, fine to coarse, to three of the same shapes."""
        fine, middle, coarse = levels
        coarse = self.lateral_conv0(coarse)
        merged = self.C3_p4(torch.cat([F.interpolate(coarse, scale_factor=2.0), middle], 1))
        middle = self.reduce_conv1(merged)
        p3 = self.C3_p3(torch.cat([F.interpolate(middle, scale_factor=2.0), fine], 1))
        p4 = self.C3_n3(torch.cat([self.bu_conv2(p3), middle], 1))
        p5 = self.C3_n4(torch.cat([self.bu_conv1(p4), coarse], 1))
        return [p3, p4, p5]


class YoloxHead(nn.Module, Head):
    """A decoupled head with objectness: on each level a branch for classes and one for the box and its objectness.

    A score is objectness times class probability. Its logit is what `forward` returns, so that every other part of the
    package treats the head like any other. Points are the centres of cells.

    Args:
        channels: of each level.
        strides: of each level, input pixels.
        classes: C.
        width: channels of the branches.
        depthwise: as in the backbone.
    """

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], *, classes: int, width: int, depthwise: bool
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)

        def branch() -> nn.Sequential:
            return nn.Sequential(*(_block(width, width, depthwise=depthwise) for _ in range(2)))

        self.stems = nn.ModuleList(ConvBlock(count, width) for count in channels)
        self.cls_convs = nn.ModuleList(branch() for _ in channels)
        self.reg_convs = nn.ModuleList(branch() for _ in channels)
        self.cls_preds = nn.ModuleList(nn.Conv2d(width, classes, 1) for _ in channels)
        self.reg_preds = nn.ModuleList(nn.Conv2d(width, 4, 1) for _ in channels)
        self.obj_preds = nn.ModuleList(nn.Conv2d(width, 1, 1) for _ in channels)
        for layer in (*self.class_layers(), *self.obj_preds):
            assert isinstance(layer, nn.Conv2d)
            assert layer.bias is not None
            nn.init.constant_(layer.bias, CLASS_LOGIT)
        _set_norms(self)

    def forward(self, levels: Sequence[Tensor]) -> RawPredictions:
        """Map feature maps [B, channels, H, W] to RawPredictions with D = 4; points level by level, row by row."""
        logits, outputs, points, strides = [], [], [], []
        for number, (level, stride) in enumerate(zip(levels, self.strides)):
            features = self.stems[number](level)
            classes = self.cls_preds[number](self.cls_convs[number](features))
            box_features = self.reg_convs[number](features)
            objectness = self.obj_preds[number](box_features)
            logits.append(joint_logits(classes, objectness).flatten(2).transpose(1, 2))
            outputs.append(self.reg_preds[number](box_features).flatten(2).transpose(1, 2))
            points.append(grid_points(level, stride, offset=0.5))
            strides.append(points[-1].new_full((len(points[-1]),), stride))
        return RawPredictions(
            torch.cat(outputs, 1), torch.cat(logits, 1), points=torch.cat(points), strides=torch.cat(strides)
        )

    def class_layers(self) -> list[nn.Conv2d]:
        """Return the layers whose output channels are the classes in order."""
        return [layer for layer in self.cls_preds if isinstance(layer, nn.Conv2d)]

    @staticmethod
    def decode(raw: RawPredictions, indices: Tensor) -> Tensor:
        """Return the boxes of some points.

        The outputs are the offset of the centre from the cell's upper left corner, and the logarithms of width and
        height, all in strides.

        Args:
            raw: predictions for B images.
            indices: int64 [B, K], positions among the A points.

        Returns:
            float32 [B, K, 4] xyxy, input pixels, not clipped to the image.
        """
        outputs = raw.box_outputs.gather(1, indices.unsqueeze(-1).expand(-1, -1, 4)).float()
        strides = raw.strides[indices].unsqueeze(-1)
        centres = raw.points[indices] + (outputs[..., :2] - 0.5) * strides
        halves = outputs[..., 2:].clamp(max=_LARGEST).exp() * strides / 2
        return torch.cat([centres - halves, centres + halves], -1)


_LARGEST = 10.0  # logarithm of a side in strides; a larger output would overflow


def joint_logits(a: Tensor, b: Tensor) -> Tensor:
    """Return the logits of sigmoid(a) * sigmoid(b), float32, without overflow.

    Example:
        >>> a, b = torch.tensor([0.0, 3.0]), torch.tensor([0.0, -2.0])
        >>> product = joint_logits(a, b).sigmoid()
        >>> torch.allclose(product, a.sigmoid() * b.sigmoid())
        True
    """
    a, b = a.float(), b.float()
    # 1 / (s(a) s(b)) - 1 = exp(-a) + exp(-b) + exp(-a - b)
    return -torch.logaddexp(torch.logaddexp(-a, -b), -(a + b))


def _block(inputs: int, outputs: int, *, depthwise: bool, stride: int = 1) -> nn.Module:
    """Return a 3x3 block."""
    if depthwise:
        return DepthwiseBlock(inputs, outputs, stride=stride)
    return ConvBlock(inputs, outputs, kernel=3, stride=stride)


def _set_norms(module: nn.Module) -> None:
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.eps, norm.momentum = _EPS, _MOMENTUM
