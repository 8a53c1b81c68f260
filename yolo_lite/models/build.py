"""Build a detector from its configuration; this is the only place where parts are chosen by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import nn

from yolo_lite.config.schema import Config, ModelConfig
from yolo_lite.errors import InputError, reason
from yolo_lite.models.backbones import CSPBackbone, ShuffleBackbone, YOLOv1Backbone
from yolo_lite.models.blocks import fuse
from yolo_lite.models.heads.anchor_free import AnchorFreeHead, DistributionHead
from yolo_lite.models.heads.base import Head
from yolo_lite.models.limits import MOST_VALUES, AtMost
from yolo_lite.models.necks import PAN, GhostPAN, NoNeck
from yolo_lite.models.yolo import Yolo


class Levels(Protocol):
    """The part of a backbone or neck that the next part needs: a description of its feature maps, fine to coarse."""

    @property
    def channels(self) -> tuple[int, ...]:
        """The number of channels of each map."""

    @property
    def strides(self) -> tuple[int, ...]:
        """The stride of each map, in input pixels."""


def _darknet_backbone(model: ModelConfig) -> nn.Module:
    from yolo_lite.models.darknet.layers import DarknetBackbone

    return DarknetBackbone(model.darknet, model.darknet_levels)


def _darknet_head(model: ModelConfig, levels: Levels, classes: int) -> Head:
    from yolo_lite.models.darknet.head import DarknetHead

    return DarknetHead(model.darknet, levels.channels, strides=levels.strides)


def _grid_head(model: ModelConfig, levels: Levels, classes: int) -> Head:
    from yolo_lite.models.heads.grid import GridHead

    return GridHead(levels.channels, levels.strides, classes=classes, boxes=model.boxes_per_cell)


def _dense_grid_head(model: ModelConfig, levels: Levels, classes: int) -> Head:
    from yolo_lite.models.heads.grid import DenseGridHead

    return DenseGridHead(
        levels.channels, levels.strides, classes=classes, boxes=model.boxes_per_cell, cells=model.cells
    )


def _yolox_backbone(model: ModelConfig) -> nn.Module:
    from yolo_lite.models.yolox import YoloxBackbone

    return YoloxBackbone(model.stem_width, model.widths, depths=model.depths, depthwise=model.depthwise)


def _yolox_neck(model: ModelConfig, levels: Levels) -> nn.Module:
    from yolo_lite.models.yolox import YoloxPAFPN

    return YoloxPAFPN(levels.channels, levels.strides, depth=model.depths[0], depthwise=model.depthwise)


def _yolox_head(model: ModelConfig, levels: Levels, classes: int) -> Head:
    from yolo_lite.models.yolox import YoloxHead

    return YoloxHead(
        levels.channels, levels.strides, classes=classes, width=model.head_width, depthwise=model.depthwise
    )


# Modules that few runs need are imported only when they are used. Backbones and necks are typed as Any, since Python has
# no type for an nn.Module that is a Levels as well.
BACKBONES: dict[str, Callable[[ModelConfig], Any]] = {
    "csp": lambda model: CSPBackbone(model.stem_width, model.widths, depths=model.depths),
    "shuffle": lambda model: ShuffleBackbone(model.stem_width, model.widths, depths=model.depths),
    "darknet": _darknet_backbone,
    "yolov1": lambda model: YOLOv1Backbone(),
    "yolox": _yolox_backbone,
}
NECKS: dict[str, Callable[[ModelConfig, Levels], Any]] = {
    "none": lambda model, levels: NoNeck(levels.channels, levels.strides),
    "pan": lambda model, levels: PAN(levels.channels, levels.strides, width=model.neck_width),
    "ghost_pan": lambda model, levels: GhostPAN(levels.channels, levels.strides, width=model.neck_width),
    "yolox": _yolox_neck,
}
HEADS: dict[str, Callable[[ModelConfig, Levels, int], Head]] = {
    "anchor_free": lambda model, levels, classes: AnchorFreeHead(
        levels.channels, levels.strides, classes=classes, width=model.head_width, depth=model.head_depth
    ),
    "distribution": lambda model, levels, classes: DistributionHead(
        levels.channels, levels.strides, classes=classes, depth=model.head_depth
    ),
    "darknet": _darknet_head,
    "grid": _grid_head,
    "dense_grid": _dense_grid_head,
    "yolox": _yolox_head,
}
NORMS = ("batch", "none")


def build_detector(config: Config, classes: int, *, seed: int = 0) -> Yolo:
    """Build the detector that a configuration describes, with random weights that depend on the seed alone.

    The global random state does not change.

    Raises:
        InputError: if the network is too large, or a part does not exist; the message lists the parts that do.

    Example:
        >>> model = build_detector(Config(), classes=2).eval()  # yolo_lite-n
        >>> model(torch.zeros(1, 3, 32, 32)).class_logits.shape  # 16 + 4 + 1 cells at strides 8, 16 and 32
        torch.Size([1, 21, 2])
    """
    if config.model.backbone == "darknet":  # an outline would take long: Darknet's layers are tried when they are built
        _check_parts(config.model)
    else:
        outline_detector(config, classes)
    with torch.random.fork_rng(devices=[]), AtMost():
        torch.manual_seed(seed)
        return _assemble(config, config.model, classes)


def outline_detector(config: Config, classes: int, *, values: int = MOST_VALUES) -> Yolo:
    """Build the detector without setting its weights, for example to fill them from a file.

    Args:
        config: describes the network.
        classes: how many it detects.
        values: the most values (weights, biases and statistics) that the network may have.

    Raises:
        InputError: as in build_detector.

    Example:
        >>> outline_detector(Config(), 2, values=1000)
        Traceback (most recent call last):
        yolo_lite.errors.InputError: the network is too large: it has more than 1,000 values
    """
    _check_parts(config.model)
    with AtMost(values, draw=False):
        return _assemble(config, config.model, classes)


def _check_parts(model: ModelConfig) -> None:
    for kind, parts in (("backbone", BACKBONES), ("neck", NECKS), ("head", HEADS)):
        name = getattr(model, kind)
        if name not in parts:
            raise InputError(f"model.{kind} must be one of {', '.join(sorted(parts))}, got {name!r}")
    if model.norm not in NORMS:
        raise InputError(f"model.norm must be one of {', '.join(NORMS)}, got {model.norm!r}")


def _assemble(config: Config, model: ModelConfig, classes: int) -> Yolo:
    try:
        backbone = BACKBONES[model.backbone](model)
        neck = NECKS[model.neck](model, backbone)
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"model.{reason(error)}") from error
    head = HEADS[model.head](model, neck, classes)
    detector = Yolo(backbone, neck, head=head, mean=config.input.mean, std=config.input.std)
    for module in detector.modules():
        if isinstance(module, nn.Conv2d) and module.bias is None:
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")  # He et al. 2015
    if model.norm == "none":
        fuse(detector)
    return detector
