"""Read Darknet's .weights files into the networks of models/darknet, and write them as checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from yolo_lite.checkpoints.checkpoint import Checkpoint, check_new, save_checkpoint
from yolo_lite.config.schema import Config, InputConfig, ModelConfig, check_image_size
from yolo_lite.errors import InputError, are, counted
from yolo_lite.files import decode_text, make_folder, read_bytes
from yolo_lite.models.build import build_detector, outline_detector
from yolo_lite.models.darknet.cfg import CfgError
from yolo_lite.models.darknet.head import DarknetHead
from yolo_lite.models.darknet.layers import DarknetBackbone, DarknetConnected, DarknetConv, DarknetLocal
from yolo_lite.models.limits import AtMost

_ROOM = 2**24  # values; a smaller network may be built whatever the size of its .weights
_MOST_TEXT = 2**20  # bytes of a .cfg or .names file


def load_darknet(cfg: Path, weights: Path, *, names: Path | None = None, resize: str = "stretch") -> Checkpoint:
    """Read a network of Darknet as a checkpoint.

    Args:
        cfg: the .cfg file.
        weights: the .weights file.
        names: a file with a class name on each line; None for "class 0", "class 1" ...
        resize: "stretch", as in AlexeyAB's Darknet, or "letterbox", as in Redmon's.

    Raises:
        InputError: if a section is not known or does not fit (it names section and line), or if the .weights file has
            too few or too many values (it gives their number).

    Example:
        >>> cfg, weights = Path("one_layer.cfg"), Path("one_layer.weights")
        >>> layers = "[convolutional]\\nfilters=6\\nstride=32\\n[yolo]\\nmask=0\\nanchors=9,9\\nclasses=1\\n"
        >>> _ = cfg.write_text("[net]\\nheight=32\\nwidth=32\\n" + layers)
        >>> _ = weights.write_bytes(bytes(16 + 4 * (6 + 6 * 3)))  # a header, 6 biases and 6 x 3 weights
        >>> load_darknet(cfg, weights).class_names
        ('class 0',)
    """
    text = _read_text(cfg)
    try:
        return _build(text, weights, cfg=cfg, names=names, resize=resize)
    except CfgError as error:
        raise InputError(f"{cfg}: {error}") from None


def convert_darknet(
    cfg: Path, weights: Path, *, out: Path, names: Path | None = None, resize: str = "stretch", until: int | None = None
) -> Checkpoint:
    """Write a network of Darknet as a checkpoint, or, with `until`, its layers up to that one as a start for training.

    Such a start uses the layers as its backbone (the last one at each stride of 8, 16 and 32), with the neck and head of
    yolo_lite-n and random weights there. Layers are counted from 0 after [net].

    Raises:
        InputError: as in load_darknet, or if no layer has one of these strides, or if `out` exists.

    Example:
        >>> cfg, weights = Path("to_convert.cfg"), Path("to_convert.weights")
        >>> layers = "[convolutional]\\nfilters=6\\nstride=32\\n[yolo]\\nmask=0\\nanchors=9,9\\nclasses=1\\n"
        >>> _ = cfg.write_text("[net]\\nheight=32\\nwidth=32\\n" + layers)
        >>> _ = weights.write_bytes(bytes(16 + 4 * (6 + 6 * 3)))  # a header, 6 biases and 6 x 3 weights
        >>> convert_darknet(cfg, weights, out=Path("converted.pt")).kind.name
        'DARKNET'
    """
    check_new(out)
    checkpoint = load_darknet(cfg, weights, names=names, resize=resize)
    check_image_size(checkpoint.config.input.image_size)
    if until is not None:
        checkpoint = _as_backbone(checkpoint, until)
    make_folder(out.parent)
    save_checkpoint(out, checkpoint)
    return checkpoint


def fill(backbone: DarknetBackbone, content: bytes, *, source: Path) -> None:
    """Copy the values of a .weights file into the layers, in Darknet's order.

    Raises:
        InputError: if their number is not that of the layers.

    Example:
        >>> cfg = "[net]\\nheight=32\\nwidth=32\\n[convolutional]\\nfilters=1"  # a bias and three weights
        >>> backbone = DarknetBackbone(cfg, levels=[0])
        >>> fill(backbone, bytes(16) + np.arange(4, dtype="<f4").tobytes(), source=Path("a.weights"))
        >>> backbone.layers[0][0].weight.flatten().tolist()
        [1.0, 2.0, 3.0]
    """
    values, transposed = _values(content, source)
    needed = sum(tensor.numel() for layer in backbone.layers for tensor, _ in _targets(layer, transposed))
    if len(values) != needed:
        what = (
            f"{counted(needed - len(values), 'value')} {are(needed - len(values))} missing"
            if len(values) < needed
            else f"{counted(len(values) - needed, 'value')} {are(len(values) - needed)} left over"
        )
        raise InputError(
            f"{source} does not fit the cfg: it holds {counted(len(values), 'value')}, the layers {needed:,}; {what}"
        )
    place = 0
    with torch.no_grad():
        for layer in backbone.layers:
            for tensor, arrange in _targets(layer, transposed):
                part = torch.from_numpy(values[place : place + tensor.numel()].copy())
                tensor.copy_(part.view(tensor.shape[::-1]).t() if arrange == "transposed" else part.view(tensor.shape))
                place += tensor.numel()


def _build(text: str, weights: Path, *, cfg: Path, names: Path | None, resize: str) -> Checkpoint:
    content = _read_bytes(weights)
    most = _ROOM + len(content)  # four times as many values as the file holds
    with AtMost(most, draw=False):
        backbone = DarknetBackbone(text)
    head = DarknetHead(text, backbone.channels, strides=backbone.strides)
    classes = head.fixed_classes
    class_names = _read_names(names, classes)
    fill(backbone, content, source=weights)
    input_config = InputConfig(image_size=backbone.input_hw, resize=resize, mean=(0.0, 0.0, 0.0), std=(255.0,) * 3)
    model = ModelConfig(backbone="darknet", neck="none", head="darknet", darknet=text)
    config = Config(name=cfg.stem, model=model, input=input_config)
    detector = outline_detector(config, classes, values=most)
    state = {f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}
    state |= {name: tensor for name, tensor in detector.state_dict().items() if name in ("mean", "std")}
    about = {
        "converted_from": [cfg.name, weights.name],
        "sha256": {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in (cfg, weights)},
    }
    return Checkpoint(config, class_names, category_ids=tuple(range(classes)), weights=state, about=about)


def _as_backbone(whole: Checkpoint, until: int) -> Checkpoint:
    backbone = DarknetBackbone(whole.config.model.darknet)
    if not 0 <= until < len(backbone.layers):
        raise InputError(f"--until must be a layer from 0 to {len(backbone.layers) - 1}, got {until}")
    at = {backbone.input_hw[0] // max(1, shape[1]): i for i, shape in enumerate(backbone.shapes[: until + 1])}
    lacking = [stride for stride in (8, 16, 32) if stride not in at]
    if lacking:
        raise InputError(f"up to layer {until} no map has the stride {lacking[0]}; choose a later layer with --until")
    levels = tuple(at[stride] for stride in (8, 16, 32))
    model = ModelConfig(backbone="darknet", darknet=whole.config.model.darknet, darknet_levels=levels)
    config = Config(name=f"{whole.config.name}-start", model=model, input=whole.config.input)
    detector = build_detector(config, len(whole.class_names))
    state = detector.state_dict()
    for name, tensor in state.items():
        if name.startswith("backbone."):
            tensor.copy_(whole.weights[name])
    return Checkpoint(
        config, whole.class_names, category_ids=whole.category_ids, weights=state, about={**whole.about, "until": until}
    )


def _targets(layer: nn.Module, transposed: bool) -> Iterator[tuple[Tensor, str]]:
    """Yield the tensors of a layer in the order of a .weights file, each with its layout there ("" or "transposed")."""
    if isinstance(layer, DarknetConv):
        convolution, norm = layer[0], layer[1]
        assert isinstance(convolution, nn.Conv2d)
        yield from ((tensor, "") for tensor in _norm_first(convolution, norm))
        yield convolution.weight, ""
    elif isinstance(layer, DarknetConnected):
        linear, norm = layer[1], layer[2]
        assert isinstance(linear, nn.Linear)
        layout = "transposed" if transposed else ""
        if isinstance(norm, nn.BatchNorm1d):
            yield norm.bias, ""
            yield linear.weight, layout
            yield from (
                (tensor, "") for tensor in (norm.weight, norm.running_mean, norm.running_var) if tensor is not None
            )
        else:
            yield linear.bias, ""
            yield linear.weight, layout
    elif isinstance(layer, DarknetLocal):
        yield layer.bias, ""
        yield layer.weight, ""


def _norm_first(convolution: nn.Conv2d, norm: nn.Module) -> Iterator[Tensor]:
    tensors: tuple[Tensor | None, ...]
    if isinstance(norm, nn.BatchNorm2d):
        tensors = (norm.bias, norm.weight, norm.running_mean, norm.running_var)
    else:
        tensors = (convolution.bias,)
    yield from (tensor for tensor in tensors if tensor is not None)


def _values(content: bytes, source: Path) -> tuple[np.ndarray[tuple[int], np.dtype[np.float32]], bool]:
    """Return the values after the header, and whether dense layers are stored transposed.

    The header is three int32 (major, minor, revision) and the count of images seen, int64 since version 0.2.
    """
    if len(content) < 16:
        raise InputError(f"{source} is not a .weights file of Darknet: {counted(len(content), 'byte')}")
    major, minor, _ = np.frombuffer(content, "<i4", 3).tolist()
    if not (0 <= major <= 2000 and 0 <= minor <= 2000):
        raise InputError(f"{source} is not a .weights file of Darknet: its version would be {major}.{minor}")
    head = 20 if major * 10 + minor >= 2 and major < 1000 and minor < 1000 else 16
    if len(content) < head:
        raise InputError(f"{source} is not a .weights file of Darknet: {counted(len(content), 'byte')}")
    if (len(content) - head) % 4:
        raise InputError(f"{source} is cut short: {counted(len(content), 'byte')} are not a header and float32 values")
    return np.frombuffer(content, "<f4", offset=head), major > 1000 or minor > 1000


def _read_names(names: Path | None, classes: int) -> tuple[str, ...]:
    if names is None:
        return tuple(f"class {label}" for label in range(classes))
    lines = [line.strip() for line in _read_text(names).splitlines() if line.strip()]
    if len(lines) != classes:
        raise InputError(f"{names} names {counted(len(lines), 'class', plural='classes')}, but the cfg has {classes}")
    if len(set(lines)) < len(lines):
        raise InputError(f"{names} names a class twice")
    return tuple(lines)


def _read_bytes(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(f"{path} does not exist")
    return read_bytes(path)


def _read_text(path: Path) -> str:
    if path.is_file() and path.stat().st_size > _MOST_TEXT:
        raise InputError(f"{path} is not a text file of Darknet: it has {path.stat().st_size:,} bytes")
    return decode_text(_read_bytes(path), str(path))
