"""State dicts as YOLOX writes them, laid out from the description of its networks and not from our modules."""

from __future__ import annotations

import torch
from torch import Tensor


def yolox_state(
    stem: int, base: int, *, head: int, depthwise: bool, classes: int = 80, seed: int = 0
) -> dict[str, Tensor]:
    """Return random tensors under the names of YOLOX's files (Ge et al. 2021; darknet, yolo_pafpn, yolo_head).

    Args:
        stem: channels after Focus; the stages have 2, 4, 8 and 16 times as many.
        base: bottlenecks of the first stage and of the neck's layers; the middle stages have three times as many.
        head: channels of the head's branches.
        depthwise: whether 3x3 layers are split, as in YOLOX-nano.
        classes: of the head.
        seed: of the values.
    """
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}

    def put(name: str, *shape: int, low: float = -0.3) -> None:
        state[name] = torch.rand(shape, generator=generator) * 0.6 + low

    def conv(name: str, inputs: int, outputs: int, kernel: int = 1, groups: int = 1) -> None:
        put(f"{name}.conv.weight", outputs, inputs // groups, kernel, kernel)
        for part, low in (("weight", 0.7), ("bias", -0.3), ("running_mean", -0.3), ("running_var", 0.7)):
            put(f"{name}.bn.{part}", outputs, low=low)
        state[f"{name}.bn.num_batches_tracked"] = torch.tensor(1000)

    def wide(name: str, inputs: int, outputs: int) -> None:
        if depthwise:
            conv(f"{name}.dconv", inputs, inputs, 3, groups=inputs)
            conv(f"{name}.pconv", inputs, outputs)
        else:
            conv(name, inputs, outputs, 3)

    def csp(name: str, inputs: int, outputs: int, count: int) -> None:
        conv(f"{name}.conv1", inputs, outputs // 2)
        conv(f"{name}.conv2", inputs, outputs // 2)
        conv(f"{name}.conv3", outputs, outputs)
        for number in range(count):
            conv(f"{name}.m.{number}.conv1", outputs // 2, outputs // 2)
            wide(f"{name}.m.{number}.conv2", outputs // 2, outputs // 2)

    body = "backbone.backbone"
    conv(f"{body}.stem.conv", 12, stem, 3)
    for stage, count in ((2, base), (3, 3 * base), (4, 3 * base), (5, base)):
        width = stem * 2 ** (stage - 1)
        wide(f"{body}.dark{stage}.0", width // 2, width)
        if stage == 5:
            conv(f"{body}.dark5.1.conv1", width, width // 2)
            conv(f"{body}.dark5.1.conv2", 2 * width, width)
        csp(f"{body}.dark{stage}.{2 if stage == 5 else 1}", width, width, count)
    p3, p4, p5 = 4 * stem, 8 * stem, 16 * stem
    conv("backbone.lateral_conv0", p5, p4)
    csp("backbone.C3_p4", 2 * p4, p4, base)
    conv("backbone.reduce_conv1", p4, p3)
    csp("backbone.C3_p3", 2 * p3, p3, base)
    wide("backbone.bu_conv2", p3, p3)
    csp("backbone.C3_n3", 2 * p3, p4, base)
    wide("backbone.bu_conv1", p4, p4)
    csp("backbone.C3_n4", 2 * p4, p5, base)
    for level, width in enumerate((p3, p4, p5)):
        conv(f"head.stems.{level}", width, head)
        for branch in ("cls_convs", "reg_convs"):
            wide(f"head.{branch}.{level}.0", head, head)
            wide(f"head.{branch}.{level}.1", head, head)
        for name, outputs in (("cls_preds", classes), ("reg_preds", 4), ("obj_preds", 1)):
            put(f"head.{name}.{level}.weight", outputs, head, 1, 1)
            put(f"head.{name}.{level}.bias", outputs)
    return state
