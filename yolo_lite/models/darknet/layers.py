"""Darknet's layers (Redmon 2013-2018, Bochkovskiy et al. 2020), and the backbone made of those before the outputs."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yolo_lite.errors import InputError, counted, short
from yolo_lite.models.blocks import DepthwiseConv2d
from yolo_lite.models.darknet.cfg import OUTPUTS, CfgError, Section, parse_cfg

_EPS = 1e-6  # of batch normalisation
_MOST_KERNEL = 1024  # pixels, for the size, stride and padding of a kernel
_MOST_VALUES = 2**29  # in a layer's map
_MOST_PIXELS = 16_384  # along a side of the input
_MOST_SOURCES = 100  # layers that a route or shortcut joins
Shape = tuple[int, int, int]  # channels, height, width
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "linear": nn.Identity,
    "leaky": partial(nn.LeakyReLU, 0.1),
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "swish": nn.SiLU,
    "mish": nn.Mish,
    "logistic": nn.Sigmoid,
}


class DarknetBackbone(nn.Module):
    """The layers of a .cfg file, in order; it returns the maps that the output sections read.

    Args:
        cfg: the file's text.
        levels: positions of the layers whose maps are returned instead, counted from 0 after [net]. Later layers are not
            built.

    Raises:
        InputError: if something is unknown or does not fit; it names section and line.
    """

    def __init__(self, cfg: str, levels: Sequence[int] = ()) -> None:
        super().__init__()
        net, *sections = parse_cfg(cfg)
        self.input_hw = (
            net.number("height", 416, minimum=1, maximum=_MOST_PIXELS),
            net.number("width", 416, minimum=1, maximum=_MOST_PIXELS),
        )
        if net.number("channels", 3) != 3:
            raise net.error("channels must be 3")
        outputs = [i - 1 for i, section in enumerate(sections) if section.name in OUTPUTS]
        self.levels = tuple(levels) or tuple(outputs)
        if not self.levels:
            raise CfgError(f"the cfg has no output section ({', '.join(OUTPUTS)})")
        if min(self.levels) < 0:
            raise sections[0].error("there is no layer before it whose output it could read")
        if max(self.levels) >= len(sections):
            raise CfgError(f"the cfg has {counted(len(sections), 'layer')}, there is no layer {max(self.levels)}")
        every = sections
        sections = sections[: max(self.levels) + 1]
        shapes: list[Shape] = []  # after each layer
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
        self.channels = tuple(shapes[i][0] for i in self.levels)  # for a vector, the number of its values
        self.strides = tuple(self._stride(i, every[i + 1 : i + 2]) for i in self.levels)

    def _stride(self, level: int, after: Sequence[Section]) -> int:
        """Return how many input pixels a cell spans; if the layer is a vector, a cell of the [detection] that reads it."""
        vector = bool(after) and after[0].name == "detection"
        return max(1, self.input_hw[0] // (after[0].number("side", 7, minimum=1) if vector else self.shapes[level][1]))

    def forward(self, x: Tensor) -> list[Tensor]:
        """Map [B, 3, H, W] to the maps of `levels`.

        Raises:
            InputError: if the image has another size than the cfg's and a connected or local layer needs that size.
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
    """Convolution, batch normalisation if the section asks for it, activation."""

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
        layers: list[nn.Module] = [
            kind(inputs, filters, size, stride=stride, padding=padding, groups=groups, bias=not norm)
        ]
        if norm:
            layers.append(nn.BatchNorm2d(filters, eps=_EPS))
        super().__init__(*layers, _activation(section, "logistic"))


class DarknetConnected(nn.Sequential):
    """A fully connected layer over all channels and places, batch normalisation if asked for, activation."""

    def __init__(self, section: Section, inputs: int) -> None:
        outputs = section.number("output", 1, minimum=1)
        norm = bool(section.number("batch_normalize", 0))
        layers: list[nn.Module] = [nn.Flatten(), nn.Linear(inputs, outputs, bias=not norm)]
        if norm:
            layers.append(nn.BatchNorm1d(outputs, eps=_EPS))
        super().__init__(*layers, _activation(section, "logistic"), nn.Unflatten(1, (outputs, 1, 1)))


class DarknetLocal(nn.Module):
    """A convolution with separate weights at every place."""

    def __init__(self, section: Section, shape: Shape) -> None:
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
        activated: Tensor = self.activation(result.view(x.shape[0], self.filters, *self.hw))
        return activated


class DarknetPool(nn.Module):
    """Max-pooling with Darknet's uneven border: half of `padding` (rounded down) above and left, the rest below and right."""

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
    """The maps of earlier layers, concatenated, or one of several groups of their channels."""

    def __init__(self, sources: Sequence[int], groups: int, *, group: int) -> None:
        super().__init__()
        self.sources, self.groups, self.group = tuple(sources), groups, group

    def forward(self, x: Tensor, kept: Mapping[int, Tensor]) -> Tensor:
        """Concatenate kept maps [B, C, H, W]; the input itself is ignored."""
        parts = [kept[i].chunk(self.groups, 1)[self.group] for i in self.sources]
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]


class Shortcut(nn.Module):
    """The sum of the input and earlier maps, then the activation."""

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
    """Space to depth, with Darknet's order of values.

    The input is read as a map with stride^2 times fewer channels, but stride times as high and wide. Each block of
    stride x stride of that map is then spread over the channels.
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
        return x.reshape(x.shape[0], self.groups, -1).softmax(-1).view_as(x)


def _build(section: Section, before: Shape, shapes: Sequence[Shape]) -> nn.Module:
    """Return a section's layer, whose input has the shape `before`; `shapes` are those of all earlier layers."""
    if section.name not in _LAYERS:
        raise section.error(f"this kind of layer is not supported; known: {', '.join(_LAYERS)}")
    return _LAYERS[section.name](section, before, shapes)


def _upsample(section: Section, before: Shape, shapes: Sequence[Shape]) -> nn.Module:
    return nn.Upsample(scale_factor=section.number("stride", 2, minimum=1, maximum=_MOST_KERNEL), mode="nearest")


def _reorg(section: Section, before: Shape, shapes: Sequence[Shape]) -> nn.Module:
    channels, height, width = before
    stride = section.number("stride", 1, minimum=1, maximum=_MOST_KERNEL)
    if section.number("reverse", 0) or channels % stride**2 or height % stride or width % stride:
        raise section.error(f"reverse=1, or a stride that {channels} x {height} x {width} cannot be divided by")
    return Reorg(stride)


def _joining(section: Section, before: Shape, shapes: Sequence[Shape]) -> nn.Module:
    """Return a route or shortcut; negative positions count back from the section."""
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


_LAYERS: dict[str, Callable[[Section, Shape, Sequence[Shape]], nn.Module]] = {
    "convolutional": lambda section, before, shapes: DarknetConv(section, before[0]),
    "connected": lambda section, before, shapes: DarknetConnected(section, math.prod(before)),
    "local": lambda section, before, shapes: DarknetLocal(section, before),
    "maxpool": lambda section, before, shapes: DarknetPool(section),
    "avgpool": lambda section, before, shapes: nn.AdaptiveAvgPool2d(1),
    "upsample": _upsample,
    "reorg": _reorg,
    "softmax": lambda section, before, shapes: DarknetSoftmax(section.number("groups", 1, minimum=1)),
    "route": _joining,
    "shortcut": _joining,
    **dict.fromkeys(("dropout", "cost", *OUTPUTS), lambda section, before, shapes: nn.Identity()),
}


@torch.no_grad()
def _shape_after(section: Section, layer: nn.Module, *, before: Shape, shapes: Sequence[Shape]) -> Shape:
    """Return (channels, height, width) after a layer, by applying it to tensors without values."""
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
