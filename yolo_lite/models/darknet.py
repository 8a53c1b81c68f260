"""Darknet's networks (Redmon 2013-2018, Bochkovskiy et al. 2020), built from the text of a .cfg file.

A file is a list of sections, each a layer that takes the one before unless it says otherwise. The layers up to the
outputs are the backbone here; the sections that say what outputs mean (detection, region, yolo) are the head.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yolo_lite.errors import InputError, counted, short
from yolo_lite.models.blocks import DepthwiseConv2d
from yolo_lite.structures import RawPredictions

_EPS = 1e-6  # of batch normalisation
_CLASSES = {"detection": 1, "region": 20, "yolo": 20}  # unless the section says otherwise
_OUTPUTS = tuple(_CLASSES)
_MOST = 1_000_000  # of any whole number in a .cfg file
_MOST_KERNEL = 1024  # pixels: of a kernel, its step and its border
_MOST_SECTIONS, _MOST_SOURCES = 2000, 100
_MOST_VALUES = 2**29  # of a layer's map
MOST_PIXELS = 16_384  # along a side of the input
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "leaky": partial(nn.LeakyReLU, 0.1),
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "swish": nn.SiLU,
    "mish": nn.Mish,
    "logistic": nn.Sigmoid,
}


@dataclass(frozen=True)
class Section:
    """One [name] of a .cfg file with its options.

    Attributes:
        name: in lower case.
        line: where it begins, counted from 1.
        options: by key, as written.
    """

    name: str
    line: int
    options: Mapping[str, str] = field(default_factory=dict)

    def number(self, key: str, default: int | None = None, *, minimum: int = -_MOST, maximum: int = _MOST) -> int:
        """Return a whole number; raise InputError where it is none, is out of bounds, or is missing without a default."""
        text = self.options.get(key)
        if text is None and default is not None:
            return default
        try:
            value = int(text or "")
        except ValueError as error:
            raise self.error(f"{key} must be a whole number, got {short(text)}") from error
        if value < minimum:
            raise self.error(f"{key} must be at least {minimum:,}, got {short(value)}")
        if value > maximum:
            raise self.error(f"{key} must be at most {maximum:,}, got {short(value)}")
        return value

    def numbers(self, key: str) -> list[float]:
        """Return a list of numbers, separated by commas; empty where the key is missing."""
        text = self.options.get(key, "")
        try:
            values = [float(part) for part in text.split(",") if part.strip()]
        except ValueError as error:
            raise self.error(f"{key} must be numbers with commas between them, got {short(text)}") from error
        if not all(abs(value) <= _MOST for value in values):
            raise self.error(f"{key} must be numbers of at most {_MOST:,}, got {short(text)}")
        if len(values) > _MOST:
            raise self.error(f"{key} has {len(values):,} numbers")
        return values

    def error(self, what: str) -> InputError:
        """Return an error that names the section and its line."""
        return InputError(f"the cfg's [{short(self.name)[1:-1]}] at line {self.line}: {what}")


def parse_cfg(text: str) -> list[Section]:
    """Split a .cfg file into sections, the first of which is [net].

    Raises:
        InputError: naming the line that is neither a [section], a key=value, a comment (# or ;) nor empty.
    """
    sections: list[Section] = []
    options: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#")[0].split(";")[0].strip()
        if not line:
            continue
        if line.startswith("[") and line.endswith("]"):
            options = {}
            sections.append(Section(line[1:-1].strip().lower(), number, options))
        elif "=" in line and sections:
            key, value = line.split("=", 1)
            options[key.strip()] = value.strip()
        else:
            raise InputError(f"the cfg's line {number} is neither a [section] nor key=value: {line[:60]!r}")
    if not sections or sections[0].name not in ("net", "network"):
        raise InputError("the cfg does not begin with a [net] section; is it a file of Darknet?")
    if len(sections) > _MOST_SECTIONS:
        raise InputError(f"the cfg has {len(sections):,} sections, more than {_MOST_SECTIONS:,}")
    return sections


class DarknetBackbone(nn.Module):
    """The layers of a .cfg file, in order; what comes out are the maps that the output sections read.

    Args:
        cfg: the file's text.
        levels: positions of layers (counted from 0, [net] left out) whose maps are returned instead; nothing after the
            last of them is built.

    Raises:
        InputError: naming section and line, for what is unknown or does not fit.
    """

    def __init__(self, cfg: str, levels: Sequence[int] = ()) -> None:
        super().__init__()
        net, *sections = parse_cfg(cfg)
        self.input_hw = (
            net.number("height", 416, minimum=1, maximum=MOST_PIXELS),
            net.number("width", 416, minimum=1, maximum=MOST_PIXELS),
        )
        if net.number("channels", 3) != 3:
            raise net.error("channels must be 3")
        outputs = [i - 1 for i, section in enumerate(sections) if section.name in _OUTPUTS]
        self.levels = tuple(levels) or tuple(outputs)
        if not self.levels:
            raise InputError(f"the cfg has no output section ({', '.join(_OUTPUTS)})")
        if min(self.levels) < 0:
            raise sections[0].error("there is no layer before it whose output it could read")
        if max(self.levels) >= len(sections):
            raise InputError(f"the cfg has {counted(len(sections), 'layer')}, there is no layer {max(self.levels)}")
        every = sections
        sections = sections[: max(self.levels) + 1]
        shapes: list[tuple[int, int, int]] = []  # (channels, height, width), after each layer
        self.layers = nn.ModuleList()
        for section in sections:
            before = shapes[-1] if shapes else (3, *self.input_hw)
            layer = _build(section, before, shapes)
            self.layers.append(layer)
            shapes.append(_shape_after(section, layer, before=before, shapes=shapes))
            if not 0 < math.prod(shapes[-1]) <= _MOST_VALUES:
                raise section.error(f"makes maps of {' x '.join(map(str, shapes[-1]))} (channels, height, width)")
        self.shapes = shapes
        self._kept: set[int] = {
            i for layer in self.layers if isinstance(layer, Route | Shortcut) for i in layer.sources
        }
        self._kept |= set(self.levels)
        self._bound = any(isinstance(layer, DarknetConnected | DarknetLocal) for layer in self.layers)
        self.channels = tuple(shapes[i][0] for i in self.levels)  # of a vector, all of its values
        self.strides = tuple(self._stride(i, every[i + 1 : i + 2]) for i in self.levels)

    def _stride(self, level: int, after: Sequence[Section]) -> int:
        """Return how many input pixels a cell of a map spans; of a vector, those of the [detection] cells it stands for."""
        vector = bool(after) and after[0].name == "detection"
        return max(1, self.input_hw[0] // (after[0].number("side", 7, minimum=1) if vector else self.shapes[level][1]))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map [B, 3, H, W] to the maps of `levels`.

        Raises:
            InputError: for a picture of another size than the cfg's, where a layer is bound to places.
        """
        if self._bound and tuple(x.shape[-2:]) != self.input_hw:
            raise InputError(
                f"a network with connected or local layers takes {self.input_hw[0]} x {self.input_hw[1]} pixels only, "
                f"got {x.shape[-2]} x {x.shape[-1]}"
            )
        kept: dict[int, Tensor] = {}
        for number, layer in enumerate(self.layers):
            x = layer(x, kept) if isinstance(layer, Route | Shortcut) else layer(x)
            if number in self._kept:
                kept[number] = x
        return [kept[i] for i in self.levels]


class DarknetConv(nn.Sequential):
    """Convolution, batch normalisation where wanted, activation."""

    def __init__(self, section: Section, inputs: int) -> None:
        filters, groups = section.number("filters", 1), section.number("groups", 1)
        size, stride = (section.number(key, 1, maximum=_MOST_KERNEL) for key in ("size", "stride"))
        for key, expected in (("dilation", 1), ("stride_x", stride), ("stride_y", stride)):
            if section.number(key, expected) != expected:
                raise section.error(f"{key}={section.options[key]} is not supported")
        padding = (
            size // 2 if section.number("pad", 0) else section.number("padding", 0, minimum=0, maximum=_MOST_KERNEL)
        )
        if min(filters, size, stride, groups) < 1 or inputs % groups or filters % groups:
            raise section.error(
                f"filters {filters}, size {size}, stride {stride}, groups {groups} do not fit {inputs} channels"
            )
        norm = bool(section.number("batch_normalize", 0))
        kind = DepthwiseConv2d if groups == inputs == filters else nn.Conv2d
        layers: list[nn.Module] = [kind(inputs, filters, size, stride, padding, groups=groups, bias=not norm)]
        if norm:
            layers.append(nn.BatchNorm2d(filters, eps=_EPS))
        super().__init__(*layers, _activation(section, "logistic"))


class DarknetConnected(nn.Sequential):
    """A fully connected layer over all channels and places, batch normalisation where wanted, activation."""

    def __init__(self, section: Section, inputs: int) -> None:
        outputs = section.number("output", 1, minimum=1)
        norm = bool(section.number("batch_normalize", 0))
        layers: list[nn.Module] = [nn.Flatten(), nn.Linear(inputs, outputs, bias=not norm)]
        if norm:
            layers.append(nn.BatchNorm1d(outputs, eps=_EPS))
        super().__init__(*layers, _activation(section, "logistic"), nn.Unflatten(1, (outputs, 1, 1)))


class DarknetLocal(nn.Module):
    """A convolution with weights of its own at every place."""

    def __init__(self, section: Section, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.filters = section.number("filters", 1, minimum=1)
        self.size, self.stride = (section.number(key, 1, minimum=1, maximum=_MOST_KERNEL) for key in ("size", "stride"))
        self.padding = self.size // 2 if section.number("pad", 0) else 0
        channels, *hw = shape
        self.hw = tuple((side + 2 * self.padding - self.size) // self.stride + 1 for side in hw)
        places = self.hw[0] * self.hw[1]
        if places < 1 or min(self.hw) < 1:
            raise section.error(f"a kernel of {self.size} does not fit {hw[0]} x {hw[1]}")
        self.weight = nn.Parameter(torch.zeros(places, self.filters, channels * self.size**2))
        self.bias = nn.Parameter(torch.zeros(self.filters, places))
        self.activation = _activation(section, "logistic")

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, filters, h, w]."""
        patches = F.unfold(x, self.size, padding=self.padding, stride=self.stride)  # [B, C k k, places]
        result = torch.einsum("pfk,bkp->bfp", self.weight, patches) + self.bias
        activated: Tensor = self.activation(result.view(len(x), self.filters, *self.hw))
        return activated


class DarknetPool(nn.Module):
    """Maxima; the border that Darknet adds is uneven: half of `padding` (rounded down) above and left, the rest below and right."""

    def __init__(self, section: Section) -> None:
        super().__init__()
        self.stride = section.number("stride", 1, minimum=1, maximum=_MOST_KERNEL)
        self.size = section.number("size", self.stride, minimum=1, maximum=_MOST_KERNEL)
        self.padding = section.number("padding", self.size - 1, minimum=0, maximum=_MOST_KERNEL)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C, (H + padding - size) // stride + 1, ...]."""
        before = self.padding // 2
        border = []
        for side in (x.shape[-1], x.shape[-2]):
            count = (side + self.padding - self.size) // self.stride + 1
            border += [before, max(0, (count - 1) * self.stride + self.size - side - before)]
        return F.max_pool2d(F.pad(x, border, value=float("-inf")), self.size, self.stride)


class Route(nn.Module):
    """Maps of earlier layers side by side, or one of several groups of their channels."""

    def __init__(self, sources: Sequence[int], groups: int, *, group: int) -> None:
        super().__init__()
        self.sources, self.groups, self.group = tuple(sources), groups, group

    def forward(self, x: Tensor, kept: Mapping[int, Tensor]) -> Tensor:
        """Ignore what came before; take what was kept."""
        parts = [kept[i].chunk(self.groups, 1)[self.group] for i in self.sources]
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]


class Shortcut(nn.Module):
    """The sum with maps of earlier layers, then the activation."""

    def __init__(self, sources: Sequence[int], activation: nn.Module) -> None:
        super().__init__()
        self.sources, self.activation = tuple(sources), activation

    def forward(self, x: Tensor, kept: Mapping[int, Tensor]) -> Tensor:
        """Keep the shape [B, C, H, W]."""
        for source in self.sources:
            x = x + kept[source]
        result: Tensor = self.activation(x)
        return result


class Reorg(nn.Module):
    """Space to depth, in the order in which Darknet does it.

    It reads its input as if this had stride^2 times fewer channels of a stride times larger map, and spreads each
    stride x stride of that over the channels.
    """

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C stride^2, H / stride, W / stride]."""
        batch, channels, height, width = x.shape
        s = self.stride
        large = x.reshape(batch, channels // s**2, height, s, width, s)
        return large.permute(0, 3, 5, 1, 2, 4).reshape(batch, channels * s**2, height // s, width // s)


class DarknetSoftmax(nn.Module):
    """Softmax over all values, or over each of several groups of them."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape [B, C, H, W]."""
        return x.reshape(len(x), self.groups, -1).softmax(-1).view_as(x)


class DarknetHead(nn.Module):
    """What a network's outputs mean: a list of [detection], [region] and [yolo] sections, each with its map.

    box_outputs are boxes already: centre x, y, width, height in input pixels. A point is the upper left corner of a
    cell; anchors of a cell follow each other.

    Args:
        cfg: the file's text.
        channels: of the maps, to check against.
        strides: of the maps, input pixels.
    """

    BINS = 0

    def __init__(self, cfg: str, channels: Sequence[int], *, strides: Sequence[int]) -> None:
        super().__init__()
        self.sections = [section for section in parse_cfg(cfg) if section.name in _OUTPUTS]
        self.strides = tuple(strides)
        if not self.sections:
            raise InputError(f"the cfg has no output section ({', '.join(_OUTPUTS)})")
        counts = {section.number("classes", _CLASSES[section.name], minimum=1) for section in self.sections}
        if len(counts) > 1:
            raise self.sections[-1].error(f"the outputs have different numbers of classes: {sorted(counts)}")
        self.classes = counts.pop()
        if len(self.sections) != len(channels):
            raise InputError(
                f"the cfg has {len(self.sections)} output sections, but {len(channels)} maps come before them"
            )
        for section, count in zip(self.sections, channels):
            if (section.name == "region" and "map" in section.options) or "tree" in section.options:
                raise section.error("a tree of classes (YOLO9000) is not supported")
            expected = _values(section, self.classes)
            if count != expected:
                raise section.error(f"needs {counted(expected, 'value')} from the layer before, which gives {count}")
            _anchors(section)
            _stretch(section)

    def forward(self, levels: Sequence[Tensor]) -> RawPredictions:
        """Map the maps that the sections read to RawPredictions with D = 4."""
        parts = [
            _READERS[section.name](section, level.float(), stride)
            for section, level, stride in zip(self.sections, levels, self.strides)
        ]
        boxes, scores, points, strides = (list(part) for part in zip(*parts))
        logits = torch.logit(torch.cat(scores, 1).clamp(0, 1), 1e-7)
        return RawPredictions(torch.cat(boxes, 1), logits, points=torch.cat(points), strides=torch.cat(strides))

    @staticmethod
    def class_layers() -> list[nn.Conv2d]:
        """Return nothing: no layer's output channels are the classes."""
        return []

    @staticmethod
    def decode(raw: RawPredictions, indices: Tensor) -> Tensor:
        """Return the boxes of some points: float32 [B, K, 4] xyxy, input pixels, not clipped to the picture."""
        chosen = raw.box_outputs.gather(1, indices.unsqueeze(-1).expand(-1, -1, 4))
        centre, half = chosen[..., :2], chosen[..., 2:] / 2
        return torch.cat([centre - half, centre + half], -1)


Part = tuple[Tensor, Tensor, Tensor, Tensor]  # boxes [B, A, 4], scores [B, A, C], points [A, 2], strides [A]


def _values(section: Section, classes: int) -> int:
    number, coords = section.number("num", 1, minimum=1), section.number("coords", 4, minimum=4, maximum=4)
    if section.name == "detection":
        return section.number("side", 7, minimum=1) ** 2 * (classes + number * (1 + coords))
    anchors = len(section.numbers("mask")) if "mask" in section.options else number
    return anchors * (coords + 1 + classes)


def _anchors(section: Section) -> list[tuple[float, float]]:
    """Return (width, height) of the anchors that a section uses; none of a [detection].

    Raises:
        InputError: where there are not as many as num or mask ask for.
    """
    if section.name == "detection":
        return []
    flat = section.numbers("anchors")
    pairs = list(zip(flat[::2], flat[1::2]))
    number = section.number("num", 1)
    if "mask" in section.options:
        mask = [int(i) for i in section.numbers("mask")]
        if not mask or len(flat) % 2 or min(mask) < 0 or max(mask) >= len(pairs):
            raise section.error(f"mask {short(mask)} asks for other than the {counted(len(pairs), 'anchor')} given")
        return [pairs[i] for i in mask]
    if len(flat) != 2 * number:
        raise section.error(f"num is {number}, but the anchors are {counted(len(flat), 'number')}")
    return pairs


def _stretch(section: Section) -> float:
    text = section.options.get("scale_x_y", "1")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= _MOST:
        raise section.error(f"scale_x_y must be a number, got {short(text)}")
    return value


def _anchored(level: Tensor, anchors: Sequence[tuple[float, float]]) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs [B, H, W, anchors, values], the cells' corners [H, W, 1, 2] in cells, and the anchors [anchors, 2]."""
    batch, _, height, width = level.shape
    outputs = level.view(batch, len(anchors), -1, height, width).permute(0, 3, 4, 1, 2)
    y, x = torch.meshgrid(
        torch.arange(height, device=level.device), torch.arange(width, device=level.device), indexing="ij"
    )
    corners = torch.stack([x, y], -1).unsqueeze(2).float()
    return outputs, corners, torch.tensor(anchors, device=level.device)


def _part(centres: Tensor, sizes: Tensor, *, scores: Tensor, corners: Tensor, stride: int) -> Part:
    """Lay out what is [B, H, W, anchors, ...] by point; centres are in cells, sizes in pixels."""
    boxes = torch.cat([centres * stride, sizes], -1).flatten(1, 3)
    anchors = centres.shape[3]
    points = (corners * stride).expand(-1, -1, anchors, -1).reshape(-1, 2)
    return boxes, scores.flatten(1, 3), points, points.new_full((len(points),), float(stride))


def _read_yolo(section: Section, level: Tensor, stride: int) -> Part:
    """YOLOv3 and v4: anchors in input pixels, each class by itself (Redmon and Farhadi 2018)."""
    outputs, corners, anchors = _anchored(level, _anchors(section))
    stretch = _stretch(section)
    raw = bool(section.number("new_coords", 0))  # the layer before has brought all values to 0..1
    values = outputs if raw else outputs.sigmoid()
    centres = values[..., :2] * stretch - (stretch - 1) / 2 + corners
    sizes = (outputs[..., 2:4] * 2).square() * anchors if raw else outputs[..., 2:4].exp() * anchors
    return _part(centres, sizes, scores=values[..., 4:5] * values[..., 5:], corners=corners, stride=stride)


def _read_region(section: Section, level: Tensor, stride: int) -> Part:
    """YOLOv2: anchors in cells, one distribution over the classes (Redmon and Farhadi 2017)."""
    outputs, corners, anchors = _anchored(level, _anchors(section))
    centres = outputs[..., :2].sigmoid() + corners
    sizes = outputs[..., 2:4].exp() * anchors * stride
    classes = outputs[..., 5:].softmax(-1) if section.number("softmax", 0) else outputs[..., 5:].sigmoid()
    return _part(centres, sizes, scores=outputs[..., 4:5].sigmoid() * classes, corners=corners, stride=stride)


def _read_detection(section: Section, level: Tensor, stride: int) -> Part:
    """YOLOv1: one vector with all class probabilities, then all confidences, then all boxes (Redmon et al. 2016)."""
    side, number, classes = (
        section.number("side", 7),
        section.number("num", 1),
        section.number("classes", _CLASSES["detection"]),
    )
    cells = side * side
    probabilities, confidences, boxes = torch.split(
        level.flatten(1), [cells * classes, cells * number, cells * number * 4], 1
    )
    probabilities = probabilities.view(-1, side, side, 1, classes)
    if section.number("softmax", 0):
        probabilities = probabilities.softmax(-1)
    outputs = boxes.view(-1, side, side, number, 4)
    _, corners, _ = _anchored(level.new_zeros(1, 1, side, side), [(0.0, 0.0)])
    sizes = (outputs[..., 2:].square() if section.number("sqrt", 0) else outputs[..., 2:]) * side * stride
    scores = confidences.view(-1, side, side, number, 1) * probabilities
    return _part(outputs[..., :2] + corners, sizes, scores=scores, corners=corners, stride=stride)


_READERS: dict[str, Callable[[Section, Tensor, int], Part]] = {
    "yolo": _read_yolo,
    "region": _read_region,
    "detection": _read_detection,
}


def _build(section: Section, before: tuple[int, int, int], shapes: Sequence[tuple[int, int, int]]) -> nn.Module:
    """Return the layer of a section.

    Args:
        before: (channels, height, width) of what it takes.
        shapes: of all layers before it.
    """
    channels = before[0]
    if section.name == "convolutional":
        return DarknetConv(section, channels)
    if section.name == "connected":
        return DarknetConnected(section, channels * before[1] * before[2])
    if section.name == "local":
        return DarknetLocal(section, before)
    if section.name == "maxpool":
        return DarknetPool(section)
    if section.name == "avgpool":
        return nn.AdaptiveAvgPool2d(1)
    if section.name == "upsample":
        return nn.Upsample(scale_factor=section.number("stride", 2, minimum=1, maximum=_MOST_KERNEL), mode="nearest")
    if section.name == "reorg":
        stride = section.number("stride", 1, minimum=1, maximum=_MOST_KERNEL)
        if section.number("reverse", 0) or channels % stride**2 or before[1] % stride or before[2] % stride:
            raise section.error(
                f"reverse=1, or a stride that {channels} x {before[1]} x {before[2]} cannot be divided by"
            )
        return Reorg(stride)
    if section.name == "softmax":
        return DarknetSoftmax(section.number("groups", 1, minimum=1))
    if section.name in ("route", "shortcut"):
        return _joining(section, shapes)
    if section.name in ("dropout", "cost", *_OUTPUTS):
        return nn.Identity()
    raise section.error(f"this kind of layer is not supported; known: {', '.join(_KINDS)}")


_KINDS = (
    *("convolutional", "connected", "local", "maxpool", "avgpool", "upsample", "reorg", "softmax"),
    *("route", "shortcut", "dropout", "cost", *_OUTPUTS),
)


def _joining(section: Section, shapes: Sequence[tuple[int, int, int]]) -> nn.Module:
    """Return a route or shortcut; positions that are negative count back from the section."""
    key = "layers" if section.name == "route" else "from"
    sources = [int(i) if i >= 0 else len(shapes) + int(i) for i in section.numbers(key)]
    if not 0 < len(sources) <= _MOST_SOURCES or min(sources) < 0 or max(sources) >= len(shapes):
        raise section.error(f"{key} must be layers before it, got {short(section.options.get(key))}")
    if section.name == "route":
        if len({shapes[i][1:] for i in sources}) > 1:
            raise section.error(
                f"layers of different sizes: {', '.join(f'{h} x {w}' for _, h, w in (shapes[i] for i in sources[:8]))}"
            )
        groups, group = section.number("groups", 1), section.number("group_id", 0)
        if groups < 1 or not 0 <= group < groups or any(shapes[i][0] % groups for i in sources):
            raise section.error(f"group {group} of {groups} of {short([shapes[i][0] for i in sources])} channels")
        return Route(sources, groups, group=group)
    if section.options.get("weights_type", "none") != "none":
        raise section.error("weights_type is not supported")
    if any(shapes[i] != shapes[-1] for i in sources):
        raise section.error(f"adds {shapes[sources[0]]} to {shapes[-1]} (channels, height, width)")
    return Shortcut(sources, _activation(section, "linear"))


@torch.no_grad()
def _shape_after(
    section: Section, layer: nn.Module, *, before: tuple[int, int, int], shapes: Sequence[tuple[int, int, int]]
) -> tuple[int, int, int]:
    """Return (channels, height, width) after a layer, by trying it on tensors that hold no values."""
    layer.eval()
    try:
        with torch.device("meta"):
            given = torch.empty(1, *before)
            if isinstance(layer, Route | Shortcut):
                kept = {i: torch.empty(1, *shapes[i]) for i in layer.sources}
                after = layer(given, kept)
            else:
                after = copy.deepcopy(layer).to("meta")(given)
    except RuntimeError as error:
        raise section.error(f"does not fit what comes before, {before} (channels, height, width)") from error
    finally:
        layer.train()
    return tuple(after.shape[1:])


def _activation(section: Section, default: str) -> nn.Module:
    name = section.options.get("activation", default)
    if name not in ACTIVATIONS:
        raise section.error(f"the activation {short(name)} is not supported; known: {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()
