"""From a configuration to a network: the one place where parts are chosen by name."""

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
    """What a backbone or neck says of the feature maps that it returns, fine to coarse."""

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each map."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Of each map, input pixels."""


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


# Networks that few runs need are imported when one is built. Any: a module that is Levels too, for which Python has no type.
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
    """Build the network that the configuration names, with weights drawn by the seed.

    The global random state is left as it was.

    Raises:
        InputError: for a part that does not exist, naming those that do, or a network that is too large.
    """
    if config.model.backbone == "darknet":  # whose layers are tried while they are built, which takes long
        _check_parts(config.model)
    else:
        outline_detector(config, classes)
    with torch.random.fork_rng(devices=[]), AtMost():
        torch.manual_seed(seed)
        return _assemble(config, config.model, classes)


def outline_detector(config: Config, classes: int, *, values: int = MOST_VALUES) -> Yolo:
    """Build the network with at most so many values, which are whatever lies in memory, to be filled from a file.

    Raises:
        InputError: as build_detector does.
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
