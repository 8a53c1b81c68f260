"""Turn the weights of NanoDet-Plus-m into a checkpoint."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yolo_lite.checkpoints.checkpoint import Checkpoint, check_new, half, save_checkpoint
from yolo_lite.checkpoints.convert.ncnn import Convolution, read_convolutions
from yolo_lite.config.resolve import read_config
from yolo_lite.config.schema import Config, check_image_size
from yolo_lite.errors import InputError
from yolo_lite.files import make_folder
from yolo_lite.models.blocks import ConvBlock
from yolo_lite.models.build import build_detector
from yolo_lite.models.yolo import Yolo
from yolo_lite.shipped import find_config
from yolo_lite.version import VERSION

COCO_CLASSES = (
    "person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant, stop sign, "
    "parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack, umbrella, "
    "handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, "
    "surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, "
    "broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, "
    "mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, "
    "teddy bear, hair drier, toothbrush"
)
_MISSING_IDS = {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}  # numbers in 1..90 that COCO 2017 does not use


def convert_nanodet(
    param: Path, weights: Path, *, out: Path, image_size: int = 416, resize: str = "letterbox"
) -> Checkpoint:
    """Convert NanoDet-Plus-m or -m-1.5x from ncnn's two files to a checkpoint of yolo_lite-shuffle or -shuffle-1.5x.

    Args:
        param: the .param file; weights: the .bin file; out: the checkpoint to write, in half precision.
        image_size: the side in pixels that the weights were trained for.
        resize: how images are brought to that size: letterbox or stretch.

    Raises:
        InputError: if a file is missing, damaged or of another network (it names layer and byte), if `out` exists, or if
            image_size is not a multiple of 32.

    Example:
        >>> param, weights = Path("empty.param"), Path("empty.bin")
        >>> _ = param.write_text("7767517\\n0 0"), weights.write_bytes(b"")
        >>> convert_nanodet(param, weights, out=Path("nanodet.pt"))
        Traceback (most recent call last):
        yolo_lite.errors.InputError: empty.param is not NanoDet-Plus-m: it has 0 convolutions, expected 110
    """
    check_new(out)
    check_image_size((image_size, image_size))
    convolutions = read_convolutions(param, weights)
    variant, original = _variant(convolutions)
    base = read_config(find_config(variant))
    config = dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, norm="none"),
        input=dataclasses.replace(base.input, image_size=(image_size, image_size), resize=resize),
    )
    model = load_nanodet(config, convolutions, source=param)
    names = tuple(COCO_CLASSES.split(", "))
    ids = coco_category_ids()
    about = {
        "source": f"{original}, https://github.com/RangiLyu/nanodet, trained on COCO 2017 train",
        "licence": "Apache-2.0",
        "param_sha256": hashlib.sha256(param.read_bytes()).hexdigest(),
        "bin_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "changed": "layers renamed, class and distance outputs split, colour channels reordered from BGR to RGB",
        "yolo_lite": VERSION,
    }
    checkpoint = Checkpoint(config, names, category_ids=ids, weights=half(model.state_dict()), about=about)
    make_folder(out.parent)
    save_checkpoint(out, checkpoint)
    return checkpoint


def _variant(convolutions: list[Convolution]) -> tuple[str, str]:
    """Return the name of our configuration for a network of NanoDet, and the network's own name."""
    widths = {len(convolution.weight) for convolution in convolutions}
    return ("shuffle-1.5x", "NanoDet-Plus-m-1.5x") if 88 in widths else ("shuffle", "NanoDet-Plus-m")


def coco_category_ids() -> tuple[int, ...]:
    """Return the category ids of COCO 2017 by label.

    Example:
        >>> coco_category_ids()[:13]  # 12 is missing
        (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14)
    """
    return tuple(number for number in range(1, 91) if number not in _MISSING_IDS)


def load_nanodet(config: Config, convolutions: list[Convolution], *, source: Path) -> Yolo:
    """Build the network and fill it from NanoDet-Plus-m's convolutions, in their order; batch norms are folded in.

    Raises:
        InputError: if a layer does not fit; it names the first one.

    Example:
        >>> load_nanodet(read_config(find_config("shuffle")), [], source=Path("a.param"))
        Traceback (most recent call last):
        yolo_lite.errors.InputError: a.param is not NanoDet-Plus-m: it has 0 convolutions, expected 110
    """
    model = build_detector(config, len(COCO_CLASSES.split(", "))).eval()
    targets = list(_in_nanodet_order(model))
    if len(convolutions) != len(targets):
        raise InputError(
            f"{source} is not NanoDet-Plus-m: it has {len(convolutions)} convolutions, expected {len(targets)}"
        )
    for number, (target, stored) in enumerate(zip(targets, convolutions)):
        layers = list(target) if isinstance(target, ConvBlock) else target
        parts = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
        first = parts[0]
        weight, bias = torch.from_numpy(stored.weight), torch.from_numpy(stored.bias)
        slope = layers[-1].negative_slope if isinstance(layers[-1], nn.LeakyReLU) else None
        expected = (first.stride[0], first.padding[0], first.groups, slope)
        wanted = [sum(layer.out_channels for layer in parts), *first.weight.shape[1:]]
        got = (stored.stride, stored.padding, stored.groups, stored.slope)
        if expected != got or wanted != list(weight.shape):
            raise InputError(
                f"{source} is not NanoDet-Plus-m: layer {stored.name} has weights {list(weight.shape)} and stride, "
                f"padding, groups, slope {got}; expected {wanted} and {expected}"
            )
        if number == 0:
            weight = weight.flip(1)  # BGR to RGB
        with torch.no_grad():
            start = 0
            for layer in parts:
                end = start + layer.out_channels
                layer.weight.copy_(weight[start:end])
                assert layer.bias is not None
                layer.bias.copy_(bias[start:end])
                start = end
    return model


def _in_nanodet_order(model: Yolo) -> Iterator[ConvBlock | list[nn.Module]]:
    """Yield our blocks in the order of NanoDet-Plus-m's file; the head's last blocks are pairs of layers."""
    network: Any = model  # torch types every part of a module as a Module without parts of its own
    backbone, neck, head = network.backbone, network.neck, network.head
    yield backbone.stem
    for stage in backbone.stages:
        first, *others = stage
        yield from (first.side[0], first.main[0], first.main[1], first.side[1], first.main[2])
        for unit in others:
            yield from unit.main

    def ghost(block: Any) -> Iterator[ConvBlock]:
        for module in (block.first, block.second):
            yield module.primary
            yield module.cheap
        yield from block.shortcut

    *finer, coarsest = neck.lateral
    yield coarsest
    for lateral, merge in zip(finer[::-1], neck.down_path):
        yield lateral
        yield from ghost(merge)
    for shrink, merge in zip(neck.shrink, neck.up_path):
        yield from shrink
        yield from ghost(merge)
    yield from neck.extra_in
    yield from neck.extra_out
    levels = list(zip(head.branches, head.classes, head.sides))
    for branch, _, _ in levels[:-1]:
        yield from branch[0]
    yield from levels[-1][0][0]
    for branch, classes, sides in levels[::-1]:
        yield from branch[1]
        yield [classes, sides]
