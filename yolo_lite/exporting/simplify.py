"""Rearrange a trained detector for export: the same results up to rounding, from fewer and faster operations.

ONNX Runtime keeps feature maps in blocks of 16 channels where it can. It leaves the blocks, and copies the maps, where
channels are shuffled, or where their number does not fit. Zero channels make the numbers fit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from yolo_lite.models.backbones import CSPBackbone, ShuffleBackbone
from yolo_lite.models.blocks import ShuffleUnit, fuse
from yolo_lite.models.yolo import Yolo

_BLOCK = 16  # channels that ONNX Runtime keeps together on a CPU with AVX-512; 8 on others


def simplify(model: Yolo) -> Yolo:
    """Fold what can be folded into convolutions, and rearrange the channels of a ShuffleNetV2, in place.

    Example:
        >>> from yolo_lite.predict.detector import Detector
        >>> model, images = Detector("yolo_lite-shuffle-coco", device="cpu").model, torch.rand(1, 3, 64, 64) * 255
        >>> before = model(images).class_logits
        >>> bool(((simplify(model)(images).class_logits - before).abs() < 1e-3).all())
        True
    """
    fuse(model)
    backbone = model.backbone
    if isinstance(backbone, ShuffleBackbone | CSPBackbone):
        _fold_std(backbone.stem[0], model)
    if isinstance(backbone, ShuffleBackbone):
        width = _rounded(_conv(backbone.stem).out_channels)
        backbone.stem[0] = _padded(_conv(backbone.stem), outputs=width)
        for number, stage in enumerate(backbone.stages):
            assert isinstance(stage, nn.Sequential)
            backbone.stages[number] = ShuffleStage(stage, inputs=width)
            width = 0
    return model.eval()


class ShuffleStage(nn.Module):
    """A stage of ShuffleNetV2 that picks channels where the original interleaves all of them, and then splits them.

    Args:
        stage: ShuffleUnits, the first of stride 2, fused.
        inputs: the number of channels that enter, with zero channels at the end; 0 for those of the stage.
    """

    passing: Tensor
    used: Tensor

    def __init__(self, stage: nn.Sequential, *, inputs: int = 0) -> None:
        super().__init__()
        units = [unit for unit in stage if isinstance(unit, ShuffleUnit)]
        half = _conv(units[0].main[2]).out_channels
        width = _rounded(half)
        for unit in units:
            _widen(unit.main, inputs=inputs if unit is units[0] else width, width=width)
        if inputs:
            _widen_side(units[0], inputs)
        self.units = nn.ModuleList(units)
        order = torch.arange(2 * half).view(2, half).t().flatten()  # 0, half, 1, half + 1 ...
        spare = order[-1:].expand(width - half)  # these meet weights of zero
        self.register_buffer("passing", order[:half].contiguous())
        self.register_buffer("used", torch.cat([order[half:], spare]))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, ceil(H / 2), ceil(W / 2)], channels in the order of the original."""
        first, *others = self.units
        assert isinstance(first, ShuffleUnit)
        assert first.side is not None
        both = torch.cat([first.side(x), first.main(x)], 1)
        for unit in others:
            assert isinstance(unit, ShuffleUnit)
            made = unit.main(both.index_select(1, self.used))
            both = torch.cat([both.index_select(1, self.passing), made], 1)
        # Not one more selection: OpenVINO 2026.4 computes nonsense if one permutes all channels between convolutions.
        return both.view(both.shape[0], 2, -1, *both.shape[2:]).transpose(1, 2).flatten(1, 2)


def _widen(main: nn.Sequential, *, inputs: int, width: int) -> None:
    """Give the branch 1x1, 3x3 depthwise, 1x1 a number of channels inside; 0 inputs: as many as it has."""
    first, middle, last = (block for block in main if isinstance(block, nn.Sequential))
    first[0] = _padded(_conv(first), inputs=inputs, outputs=width)
    middle[0] = _padded_depthwise(_conv(middle), width)
    last[0] = _padded(_conv(last), inputs=width)


def _widen_side(unit: ShuffleUnit, inputs: int) -> None:
    assert unit.side is not None
    filters, mix = (block for block in unit.side if isinstance(block, nn.Sequential))
    filters[0] = _padded_depthwise(_conv(filters), inputs)
    mix[0] = _padded(_conv(mix), inputs=inputs)


def _fold_std(convolution: nn.Module, model: Yolo) -> None:
    """Divide the first weights by the standard deviation instead of the pixels; the border of zeros stays exact."""
    assert isinstance(convolution, nn.Conv2d)
    with torch.no_grad():
        convolution.weight /= model.std
        model.std.fill_(1)


def _padded(convolution: nn.Conv2d, *, inputs: int = 0, outputs: int = 0) -> nn.Conv2d:
    """Return a convolution with more channels, whose weights are zero; 0 stands for as many as it has."""
    old = convolution.weight.shape
    wide = _like(convolution, inputs=inputs or old[1], outputs=outputs or old[0], groups=1)
    with torch.no_grad():
        wide.weight[: old[0], : old[1]] = convolution.weight
    return wide


def _padded_depthwise(convolution: nn.Conv2d, width: int) -> nn.Conv2d:
    wide = _like(convolution, inputs=width, outputs=width, groups=width)
    with torch.no_grad():
        wide.weight[: convolution.out_channels] = convolution.weight
    return wide


def _like(convolution: nn.Conv2d, *, inputs: int, outputs: int, groups: int) -> nn.Conv2d:
    """Return a convolution of zeros with the bias, kernel, stride and padding of another."""
    kernel, stride, padding = (
        (int(sides[0]), int(sides[1])) for sides in (convolution.kernel_size, convolution.stride, convolution.padding)
    )
    wide = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=padding, groups=groups)
    assert wide.bias is not None
    assert convolution.bias is not None
    with torch.no_grad():
        wide.weight.zero_()
        wide.bias.zero_()
        wide.bias[: convolution.out_channels] = convolution.bias
    return wide.eval()


def _conv(block: nn.Module) -> nn.Conv2d:
    assert isinstance(block, nn.Sequential)
    assert isinstance(block[0], nn.Conv2d)
    return block[0]


def _rounded(channels: int) -> int:
    return -(-channels // _BLOCK) * _BLOCK
