"""Shape, parameters, operations and receptive field of every layer of a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class Field(NamedTuple):
    """What one value of a map sees of the input, along one side.

    The value at position i sees the pixels from i * jump + low to i * jump + high, both included. Pixels beyond the
    border of the image are padding. With `whole`, the value sees everything.
    """

    jump: float
    low: float
    high: float
    whole: bool = False

    @property
    def size(self) -> float:
        """Pixels along the side; infinite for everything."""
        return float("inf") if self.whole else self.high - self.low + 1


PIXEL = Field(1, 0, 0)


class LayerReport(NamedTuple):
    """One layer. Pairs are (height, width)."""

    name: str  # its path in the network
    kind: str
    shape: tuple[int, ...]  # of its output, without the batch
    parameters: int
    flops: int  # two for each multiply-add; 0 for layers that do not multiply
    kernel: tuple[int, int] | None
    stride: tuple[int, int] | None
    padding: tuple[int, int] | None
    field: tuple[Field, Field] | None  # along y and x


def summarise(model: nn.Module, channels: int, *, input_hw: tuple[int, int]) -> list[LayerReport]:
    """Run a network on an empty image and report each layer that contains no other layers, in the order of computation.

    The receptive field of sums and concatenations is the union of their parts. For bilinear upsampling it is an upper
    bound. Batch normalisation, activations and dropout are left out: they change neither shape nor field.

    Args:
        model: takes uint8 [1, channels, H, W].
        channels: of the image.
        input_hw: its height and width.

    Example:
        >>> from yolo_lite.config.resolve import read_config
        >>> from yolo_lite.models.classifiers.build import build_classifier
        >>> from yolo_lite.shipped import find_config
        >>> lenet = build_classifier(read_config(find_config("lenet")), 10)
        >>> [(report.shape, report.parameters) for report in summarise(lenet, 1, input_hw=(32, 32))][:2]
        [((6, 28, 28), 156), ((6, 28, 28), 0)]
    """
    reports: list[LayerReport] = []
    training = model.training
    with ExitStack() as stack, FieldMode() as fields, torch.no_grad():
        for name, module in model.named_modules():
            if not any(module.children()) and not isinstance(module, _SILENT):
                hook = module.register_forward_hook(_reporter(name, reports, fields))
                stack.callback(hook.remove)
        model.eval()(torch.zeros(1, channels, *input_hw, dtype=torch.uint8))
    model.train(training)
    return reports


def format_flops(flops: int) -> str:
    """Return a number of operations with the unit that suits it: GFLOPs, MFLOPs, kFLOPs or FLOPs.

    Example:
        >>> format_flops(45_600_000), format_flops(90)
        ('45.6 MFLOPs', '90 FLOPs')
    """
    for unit, size, decimals in (("G", 1e9, 2), ("M", 1e6, 1), ("k", 1e3, 1)):
        if flops >= 0.99995 * size:  # below, the smaller unit shows at most 999.9
            return f"{flops / size:.{decimals}f} {unit}FLOPs"
    return f"{flops} FLOPs"


class FieldMode(TorchFunctionMode):
    """Follows receptive fields through torch's functions while it is active; `of` returns them."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[
            int, tuple[Tensor, tuple[Field, Field]]
        ] = {}  # the tensor is kept, so that its id stays its own

    def of(self, tensor: Tensor) -> tuple[Field, Field] | None:
        """Return the fields along y and x of a map's values; None if it does not come from an image."""
        return self._known[id(tensor)][1] if id(tensor) in self._known else None

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute as usual, then note what the result sees."""
        kwargs = dict(kwargs or {})
        result = function(*args, **kwargs)
        given = [self.of(tensor) for tensor in _tensors([*args, *kwargs.values()])]
        seen = [pair for pair in given if pair is not None]
        first = next(iter(_tensors(args)), None)
        if (
            not seen
            and isinstance(result, Tensor)
            and first is not None
            and first.dtype == torch.uint8
            and first.ndim == 4
        ):
            seen = [(PIXEL, PIXEL)]  # the image itself, about to be normalised
        if seen:
            joined = (_join([y for y, _ in seen]), _join([x for _, x in seen]))
            for tensor in _tensors([result]):
                self._known[id(tensor)] = (tensor, _after(function, joined, args=args, kwargs=kwargs, result=tensor))
        return result


_SILENT = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.Dropout,
    nn.Identity,
    nn.ReLU,
    nn.ReLU6,
    nn.SiLU,
    nn.LeakyReLU,
    nn.Mish,
    nn.Sigmoid,
)


def _reporter(name: str, reports: list[LayerReport], fields: FieldMode) -> Callable[..., None]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        parameters = sum(parameter.numel() for parameter in module.parameters())
        kernel, stride, padding = (_pair(getattr(module, key, None)) for key in ("kernel_size", "stride", "padding"))
        shape = tuple(output.shape[1:])
        field, flops = fields.of(output), _flops(module, output)
        kind = type(module).__name__
        reports.append(
            LayerReport(
                name,
                kind,
                shape=shape,
                parameters=parameters,
                flops=flops,
                kernel=kernel,
                stride=stride,
                padding=padding,
                field=field,
            )
        )

    return hook


def _flops(module: nn.Module, output: Tensor) -> int:
    if isinstance(module, nn.Conv2d | nn.Linear):
        return 2 * output[0].numel() * module.weight[0].numel()
    return 0


def _after(
    function: Callable[..., Any], fields: tuple[Field, Field], *, args: Any, kwargs: Mapping[str, Any], result: Tensor
) -> tuple[Field, Field]:
    """Return what the values of a function's result see."""
    if function in (torch.conv2d, F.conv2d):
        names = ("input", "weight", "bias", "stride", "padding", "dilation")
        given = {**dict(zip(names, args)), **kwargs}
        sides = tuple(given["weight"].shape[-2:])
        stride, padding, dilation = (
            _pair(given.get(key, default)) for key, default in (("stride", 1), ("padding", 0), ("dilation", 1))
        )
        return _slide(fields, sides, stride=stride or (1, 1), padding=padding or (0, 0), dilation=dilation or (1, 1))
    if function in _POOLS:
        given = {**dict(zip(("input", "kernel_size", "stride", "padding"), args)), **kwargs}
        sides = _pair(given["kernel_size"]) or (1, 1)
        return _slide(
            fields,
            sides,
            stride=_pair(given.get("stride")) or sides,
            padding=_pair(given.get("padding", 0)) or (0, 0),
            dilation=(1, 1),
        )
    if function is F.pad and len(args[1]) == 4:
        left, _, top, _ = args[1]
        return _shift(fields[0], top), _shift(fields[1], left)
    if function is F.interpolate:
        ratios = [result.shape[-2 + i] / args[0].shape[-2 + i] for i in range(2)]
        spread = 1.0 if kwargs.get("mode") == "bilinear" else 0.0
        return _enlarge(fields[0], ratios[0], spread), _enlarge(fields[1], ratios[1], spread)
    if function in (
        F.linear,
        torch.adaptive_avg_pool1d,
        F.adaptive_avg_pool2d,
        Tensor.mean,
        torch.einsum,
        torch._C._nn.linear,
    ):
        return Field(1, 0, high=0, whole=True), Field(1, 0, high=0, whole=True)
    return fields


_POOLS = (F.max_pool2d, F.avg_pool2d, torch.max_pool2d, torch._C._nn.avg_pool2d)


def _slide(
    fields: tuple[Field, Field],
    sides: tuple[int, ...],
    *,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[Field, Field]:
    """Return the fields after a kernel that slides: position i takes i * stride - padding ... + dilation * (side - 1)."""
    new = []
    for field, side, step, border, gap in zip(fields, sides, stride, padding, dilation):
        low = field.low - border * field.jump
        high = field.high + (gap * (side - 1) - border) * field.jump
        new.append(Field(field.jump * step, low, high=high, whole=field.whole))
    return new[0], new[1]


def _shift(field: Field, before: int) -> Field:
    return field._replace(low=field.low - before * field.jump, high=field.high - before * field.jump)


def _enlarge(field: Field, ratio: float, spread: float) -> Field:
    """Return the field after enlargement: position i takes a cell at or below i / ratio, or, bilinearly, its neighbours too."""
    behind = (1 - 1 / ratio) * field.jump if ratio > 1 else 0.0
    return Field(
        field.jump / ratio,
        field.low - behind - spread * field.jump,
        high=field.high + spread * field.jump,
        whole=field.whole,
    )


def _join(fields: list[Field]) -> Field:
    """Return what several maps see together; whichever is coarsest says how far apart the values are."""
    low, high = min(field.low for field in fields), max(field.high for field in fields)
    return Field(max(field.jump for field in fields), low, high=high, whole=any(field.whole for field in fields))


def _tensors(values: Any) -> list[Tensor]:
    tensors = []
    for value in values:
        if isinstance(value, Tensor):
            tensors.append(value)
        elif isinstance(value, list | tuple):
            tensors += _tensors(value)
    return tensors


def _pair(value: Any) -> tuple[int, int] | None:
    if isinstance(value, int):
        return value, value
    if isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(side, int) for side in value):
        return value[0], value[1]
    return None
