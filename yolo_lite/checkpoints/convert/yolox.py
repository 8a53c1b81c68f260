"""Turn YOLOX's weights into checkpoints: the project's own .pth files, or YOLOX-nano in ncnn's format."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from yolo_lite.checkpoints.checkpoint import Checkpoint, check_new, half, save_checkpoint
from yolo_lite.checkpoints.contents import check_fit
from yolo_lite.checkpoints.convert.nanodet import COCO_CLASSES, coco_category_ids
from yolo_lite.checkpoints.convert.ncnn import read_convolutions
from yolo_lite.config.schema import Config, InputConfig, ModelConfig, check_image_size
from yolo_lite.errors import InputError, is_memory_full, reason
from yolo_lite.files import make_folder
from yolo_lite.models.build import build_detector, outline_detector
from yolo_lite.models.yolo import Yolo
from yolo_lite.models.yolox import YoloxHead
from yolo_lite.version import VERSION

SIZES = {(16, 1): "nano", (24, 1): "tiny", (32, 1): "s", (48, 2): "m", (64, 3): "l", (80, 4): "x"}  # stem width, depth
_INPUT_SIDES = {"nano": 416, "tiny": 416}  # the others are for 640
_NOT_YOLOX = "is not a file of YOLOX"


def convert_yolox(weights: Path, *, out: Path, image_size: int | None = None, legacy: bool = False) -> Checkpoint:
    """Write a .pth file of YOLOX as a checkpoint.

    Args:
        weights: the .pth file. Only tensors and plain values are ever loaded from it.
        out: the checkpoint to write, in half precision.
        image_size: the side of the input; None for 416 (nano, tiny) or 640.
        legacy: for files of release 0.1.0, whose input is RGB normalised with ImageNet's mean and deviation.

    Raises:
        InputError: if the file is missing, damaged or of another network, naming the layer, or `out` exists.

    Example:
        >>> torch.save({"model": {}}, "empty.pth")
        >>> convert_yolox(Path("empty.pth"), out=Path("yolox.pt"))
        Traceback (most recent call last):
        yolo_lite.errors.InputError: empty.pth is not a file of YOLOX: the layer backbone.backbone.stem.conv.conv is missing
    """
    check_new(out)
    state = _read_state(weights)
    model, classes = _structure(state, source=weights)
    side = image_size or _INPUT_SIDES.get(_size(model), 640)
    config = _config(model, side, legacy=legacy)
    network = outline_detector(config, classes)
    renamed = {_our_name(name): value for name, value in state.items()}
    renamed |= {name: value for name, value in network.state_dict().items() if name in ("mean", "std")}
    if not legacy:
        renamed["backbone.stem.conv.0.weight"] = _rgb(renamed["backbone.stem.conv.0.weight"])
    check_fit(renamed, network, what="weights", source=weights)
    about = {
        "source": f"YOLOX-{_size(model)}, https://github.com/Megvii-BaseDetection/YOLOX",
        "licence": "Apache-2.0",
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }
    return _save(config, renamed, classes=classes, about=about, out=out, legacy=legacy)


def convert_yolox_ncnn(param: Path, weights: Path, *, out: Path, image_size: int = 416) -> Checkpoint:
    """Write YOLOX-nano from ncnn's two files, of release 0.1.0, as a checkpoint.

    Args:
        param: the .param file.
        weights: the .bin file.
        out: the checkpoint to write, in half precision.
        image_size: the side of the input.

    Raises:
        InputError: if a file is missing, damaged or of another network, naming the layer, or `out` exists.

    Example:
        >>> convert_yolox_ncnn(Path("nano.param"), Path("nano.bin"), out=Path("nano.pt"))
        Traceback (most recent call last):
        ...
        yolo_lite.errors.InputError: cannot read nano.bin: No such file or directory
    """
    check_new(out)
    model = ModelConfig(
        backbone="yolox",
        stem_width=16,
        widths=(32, 64, 128, 256),
        depths=(1, 3, 3, 1),
        neck="yolox",
        head="yolox",
        head_width=64,
        depthwise=True,
        norm="none",
    )
    config = _config(model, image_size, legacy=True)
    network = _load_ncnn(config, param, weights=weights)
    about = {
        "source": "YOLOX-nano, https://github.com/Megvii-BaseDetection/YOLOX",
        "licence": "Apache-2.0",
        "param_sha256": hashlib.sha256(param.read_bytes()).hexdigest(),
        "bin_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
    }
    return _save(config, network.state_dict(), classes=80, about=about, out=out, legacy=True)


def _load_ncnn(config: Config, param: Path, *, weights: Path) -> Yolo:
    """Build YOLOX-nano and fill it from the convolutions of ncnn's files, into which batch normalisation is folded.

    Raises:
        InputError: for the first layer that does not fit.
    """
    convolutions = read_convolutions(param, weights)
    network = build_detector(config, 80).eval()
    targets = list(_in_yolox_order(network))
    if len(targets) != len(convolutions):
        raise InputError(f"{param} is not YOLOX-nano: it has {len(convolutions)} convolutions, expected {len(targets)}")
    for target, stored in zip(targets, convolutions):
        expected = list(target.weight.shape), target.stride[0], target.groups
        got = list(stored.weight.shape), stored.stride, stored.groups
        if expected != got:
            raise InputError(
                f"{param} is not YOLOX-nano: layer {stored.name} has weights, stride and groups {got}; "
                f"expected {expected}"
            )
        assert target.bias is not None
        with torch.no_grad():
            target.weight.copy_(torch.from_numpy(stored.weight))
            target.bias.copy_(torch.from_numpy(stored.bias))
    return network


def _structure(state: Mapping[str, Tensor], *, source: Path) -> tuple[ModelConfig, int]:
    """Return the network that a state dict of YOLOX is for, and its number of classes.

    Raises:
        InputError: naming the first layer that is missing.
    """

    def width(name: str) -> int:
        tensor = state.get(f"{name}.weight")
        if tensor is None or tensor.ndim != 4:
            raise InputError(f"{source} {_NOT_YOLOX}: the layer {name} is missing")
        return int(tensor.shape[0])

    def depth(stage: str) -> int:
        return len({name.split(".m.")[1].split(".")[0] for name in state if name.startswith(f"{stage}.m.")})

    body = "backbone.backbone"
    stages = [f"{body}.dark2.1", f"{body}.dark3.1", f"{body}.dark4.1", f"{body}.dark5.2"]
    model = ModelConfig(
        backbone="yolox",
        stem_width=width(f"{body}.stem.conv.conv"),
        widths=tuple(width(f"{stage}.conv3.conv") for stage in stages),
        depths=tuple(depth(stage) for stage in stages),
        neck="yolox",
        head="yolox",
        head_width=width("head.stems.0.conv"),
        depthwise=f"{body}.dark2.0.dconv.conv.weight" in state,
    )
    return model, width("head.cls_preds.0")


def _read_state(path: Path) -> dict[str, Tensor]:
    """Read the state dict of a .pth file; no code in it is ever run."""
    if not path.is_file():
        raise InputError(f"{path} does not exist" if not path.exists() else f"{path} is a folder, expected a .pth file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"cannot read {path}: {reason(error)}") from error
    except Exception as error:  # torch raises whatever it was doing when a foreign file ceased to make sense
        if is_memory_full(error):
            raise
        raise InputError(f"{path} {_NOT_YOLOX}, or is damaged (files that could run code are never loaded)") from error
    state = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise InputError(f"{path} {_NOT_YOLOX}: expected its tensors under the key 'model'")
    for name, value in state.items():
        if value.is_floating_point() and not value.isfinite().all():
            raise InputError(f"{path}: {name} has values that are not finite")
    return dict(state)


def _our_name(name: str) -> str:
    """Return our name of a tensor of YOLOX."""
    name = re.sub(r"^backbone\.(?!backbone\.)", "neck.", name)
    name = re.sub(r"^backbone\.backbone\.", "backbone.", name)
    return re.sub(r"\.bn\.(\w+)$", r".1.\1", re.sub(r"\.conv\.weight$", ".0.weight", name))


def _config(model: ModelConfig, side: int, *, legacy: bool) -> Config:
    check_image_size((side, side))
    input_config = InputConfig(image_size=(side, side), resize="corner")
    if not legacy:
        input_config = dataclasses.replace(input_config, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    return Config(name=f"yolox-{_size(model)}", model=model, input=input_config)


def _size(model: ModelConfig) -> str:
    return SIZES.get((model.stem_width, model.depths[0]), "custom")


def _rgb(weight: Tensor) -> Tensor:
    """Reorder the input channels of Focus, 4 patches of B, G, R, to R, G, B."""
    outputs, _, height, width = weight.shape
    return weight.view(outputs, 4, 3, height, width).flip(2).reshape(weight.shape)


def _save(
    config: Config, weights: Mapping[str, Tensor], *, classes: int, about: dict[str, Any], out: Path, legacy: bool
) -> Checkpoint:
    coco = classes == 80
    names = tuple(COCO_CLASSES.split(", ")) if coco else tuple(f"class {label}" for label in range(classes))
    ids = coco_category_ids() if coco else tuple(range(classes))
    about["changed"] = "layers renamed" + ("" if legacy else ", colour channels reordered from BGR to RGB")
    if coco:
        about["source"] += ", trained on COCO 2017 train"
    about["yolo_lite"] = VERSION
    checkpoint = Checkpoint(config, names, category_ids=ids, weights=half(weights), about=about)
    make_folder(out.parent)
    save_checkpoint(out, checkpoint)
    return checkpoint


def _in_yolox_order(network: Yolo) -> Iterator[nn.Conv2d]:
    """Yield the convolutions in the order in which YOLOX computes them."""
    parts: Any = network  # for torch every part of a module is a Module, without parts of its own
    backbone, neck, head = parts.backbone, parts.neck, parts.head

    def inside(module: nn.Module) -> Iterator[nn.Conv2d]:
        yield from (layer for layer in module.modules() if isinstance(layer, nn.Conv2d))

    def csp(layer: Any) -> Iterator[nn.Conv2d]:
        for module in (layer.conv1, layer.conv2, layer.m, layer.conv3):
            yield from inside(module)

    yield from inside(backbone.stem)
    for stage in (backbone.dark2, backbone.dark3, backbone.dark4, backbone.dark5):
        *before, last = stage
        for module in before:
            yield from inside(module)
        yield from csp(last)
    for name in ["lateral_conv0", "C3_p4", "reduce_conv1", "C3_p3", "bu_conv2", "C3_n3", "bu_conv1", "C3_n4"]:
        module = getattr(neck, name)
        yield from csp(module) if hasattr(module, "conv3") else inside(module)
    assert isinstance(head, YoloxHead)
    for number in range(len(head.strides)):
        for branch in (head.stems, head.cls_convs, head.cls_preds, head.reg_convs, head.reg_preds, head.obj_preds):
            yield from inside(branch[number])
