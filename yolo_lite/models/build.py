"""From a configuration to a network: the one place where parts are chosen by name."""

from __future__ import annotations

import torch
from torch import nn

from yolo_lite.config import Config, ModelConfig
from yolo_lite.errors import InputError
from yolo_lite.models.backbone import CSPBackbone
from yolo_lite.models.heads import AnchorFreeHead
from yolo_lite.models.neck import PAN
from yolo_lite.models.yolo import Yolo

BACKBONES = {"csp": lambda model: CSPBackbone(model.stem_width, model.widths, model.depths)}
NECKS = {"pan": lambda model, channels: PAN(channels, model.neck_width)}
HEADS = {
    "anchor_free": lambda model, channels, strides, classes: AnchorFreeHead(
        channels, strides, classes, model.head_width, model.head_depth
    )
}


def build_detector(config: Config, classes: int, seed: int = 0) -> Yolo:
    """Build the network that the configuration names, with weights drawn by the seed.

    The global random state is left as it was.

    Raises:
        InputError: for a part that does not exist, naming those that do.
    """
    model = config.model
    for kind, parts in (("backbone", BACKBONES), ("neck", NECKS), ("head", HEADS)):
        name = getattr(model, kind)
        if name not in parts:
            raise InputError(f"model.{kind} must be one of {', '.join(sorted(parts))}, got {name!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return _assemble(config, model, classes)


def _assemble(config: Config, model: ModelConfig, classes: int) -> Yolo:
    try:
        backbone = BACKBONES[model.backbone](model)
    except ValueError as error:
        raise InputError(f"model.{error}") from error
    neck = NECKS[model.neck](model, backbone.channels)
    head = HEADS[model.head](model, neck.channels, backbone.strides, classes)
    detector = Yolo(backbone, neck, head, config.input.mean, config.input.std)
    for module in detector.modules():
        if isinstance(module, nn.Conv2d) and module.bias is None:
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")  # He et al. 2015
    return detector
