"""Backbones turn an image into feature maps of falling resolution; each states the channels and strides it returns."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from yolo_lite.models.blocks import LEAKY, SPPF, ConvBlock, CSPBlock, ShuffleUnit


class CSPBackbone(nn.Module):
    """A stem at stride 2, then four stages; each is a 3x3 convolution of stride 2 and a CSP block.

    Args:
        stem_width: channels at stride 2.
        widths: channels of the stages at strides 4, 8, 16, 32.
        depths: bottlenecks in each stage.
    """

    def __init__(self, stem_width: int, widths: Sequence[int], *, depths: Sequence[int]) -> None:
        super().__init__()
        if len(widths) != 4 or len(depths) != 4:
            raise ValueError(f"widths and depths must have 4 entries, got {list(widths)} and {list(depths)}")
        self.stem = ConvBlock(3, stem_width, kernel=3, stride=2)
        inputs = (stem_width, *widths[:-1])
        stages = [
            nn.Sequential(ConvBlock(before, width, kernel=3, stride=2), CSPBlock(width, width, depth=depth))
            for before, width, depth in zip(inputs, widths, depths)
        ]
        stages[-1].append(SPPF(widths[-1]))
        self.stages = nn.ModuleList(stages)
        self.channels = tuple(widths[1:])
        self.strides = (8, 16, 32)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map [B, 3, H, W] to p3, p4, p5: [B, channels, H / stride, W / stride] for strides 8, 16, 32."""
        x = self.stem(x)
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return levels[1:]


class ShuffleBackbone(nn.Module):
    """ShuffleNetV2 (Ma et al. 2018) with leaky ReLU: stem and max-pooling to stride 4, then three stages.

    Args:
        stem_width: channels at strides 2 and 4.
        widths: channels of the stages at strides 8, 16, 32, even numbers.
        depths: units in each stage; the first of them halves the resolution.
    """

    def __init__(self, stem_width: int, widths: Sequence[int], *, depths: Sequence[int]) -> None:
        super().__init__()
        if len(widths) != 3 or len(depths) != 3 or any(width % 2 for width in widths):
            raise ValueError(f"widths and depths must have 3 entries, widths even, got {list(widths)}, {list(depths)}")
        self.stem = ConvBlock(3, stem_width, kernel=3, stride=2, activation=LEAKY)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.stages = nn.ModuleList(
            nn.Sequential(ShuffleUnit(before, width, stride=2), *(ShuffleUnit(width, width) for _ in range(depth - 1)))
            for before, width, depth in zip((stem_width, *widths), widths, depths)
        )
        self.channels = tuple(widths)
        self.strides = (8, 16, 32)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map [B, 3, H, W] to p3, p4, p5: [B, channels, H / stride, W / stride] for strides 8, 16, 32."""
        x = self.pool(self.stem(x))
        levels = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        return levels


class YOLOv1Backbone(nn.Module):
    """The 24 convolutions of YOLOv1 with leaky ReLU (Redmon et al. 2016, figure 3): 1024 channels at stride 64."""

    def __init__(self) -> None:
        super().__init__()
        pool = nn.MaxPool2d(2, 2)
        self.layers = nn.Sequential(
            _leaky_conv(3, 64, kernel=7, stride=2),
            pool,
            _leaky_conv(64, 192, kernel=3),
            pool,
            *_pairs(192, ((128, 256), (256, 512))),
            pool,
            *_pairs(512, ((256, 512),) * 4 + ((512, 1024),)),
            pool,
            *_pairs(1024, ((512, 1024),) * 2),
            _leaky_conv(1024, 1024, kernel=3),
            _leaky_conv(1024, 1024, kernel=3, stride=2),
            _leaky_conv(1024, 1024, kernel=3),
            _leaky_conv(1024, 1024, kernel=3),
        )
        self.channels = (1024,)
        self.strides = (64,)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map [B, 3, H, W] to one level, [B, 1024, H / 64, W / 64]."""
        return [self.layers(x)]


def _pairs(inputs: int, widths: Sequence[tuple[int, int]]) -> list[nn.Module]:
    """Return, for each pair of widths, a 1x1 convolution to the first and a 3x3 convolution to the second."""
    layers: list[nn.Module] = []
    for narrow, wide in widths:
        layers += [_leaky_conv(inputs, narrow, kernel=1), _leaky_conv(narrow, wide, kernel=3)]
        inputs = wide
    return layers


def _leaky_conv(inputs: int, outputs: int, *, kernel: int, stride: int = 1) -> ConvBlock:
    return ConvBlock(inputs, outputs, kernel=kernel, stride=stride, activation=LEAKY)
