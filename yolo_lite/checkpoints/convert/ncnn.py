"""Read ncnn's two files: the .param text (layers in order of execution) and the .bin (weights of its convolutions)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from yolo_lite.errors import InputError, are, counted, short
from yolo_lite.files import read_text

MAGIC = "7767517"
HALF_TAG, SINGLE_TAG = 0x01306B47, 0
_SIGMOID = 4  # the number of an activation
MOST_LAYERS = 10_000
_MOST_TEXT = 2**24  # bytes of a .param file
MOST_WEIGHTS = 2**28  # a larger number means that the file is damaged


@dataclass(frozen=True)
class Layer:
    """One line of the .param file: type, name, names of inputs and outputs, parameters by number."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: dict[int, str]


@dataclass(frozen=True)
class Convolution:
    """A convolution with its weights: float32 [out, in / groups, k, k], and its bias, float32 [out]."""

    name: str
    stride: int
    padding: int
    groups: int
    slope: float | None  # of the leaky ReLU that follows; None without activation
    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]


def read_layers(path: Path) -> list[Layer]:
    """Read a .param file.

    Raises:
        InputError: if a line is wrong; it names the line.

    Example:
        >>> text = "7767517\\n1 2\\nConvolution first 1 1 in out 0=1 1=1 6=3"  # 1 output, 1 x 1, 3 weights
        >>> _ = Path("layers.param").write_text(text)
        >>> read_layers(Path("layers.param"))[0].parameters
        {0: '1', 1: '1', 6: '3'}
    """
    lines = _text(path).splitlines()
    if not lines or lines[0].strip() != MAGIC:
        raise InputError(f"{path} is not an ncnn .param file: its first line must be {MAGIC}")
    counts = lines[1].split() if len(lines) > 1 else []
    if len(counts) != 2 or not all(count.isdecimal() and len(count) < 10 for count in counts):
        raise InputError(f"{path}, line 2: expected the numbers of layers and blobs, got {short(lines[1:2])}")
    layers = [
        _layer(line.split(), f"{path}, line {number}") for number, line in enumerate(lines[2:], 3) if line.strip()
    ]
    if len(layers) > MOST_LAYERS:
        raise InputError(f"{path} has {counted(len(layers), 'layer')}, more than {MOST_LAYERS:,}")
    if len(layers) != int(counts[0]):
        raise InputError(
            f"{path} announces {counted(int(counts[0]), 'layer')} and holds {len(layers)}: is it cut short?"
        )
    return layers


def read_convolutions(param: Path, weights: Path) -> list[Convolution]:
    """Read the convolutions of a network, in order of execution.

    Raises:
        InputError: if the files are cut short, damaged, or hold an unknown layer; it names layer and byte.

    Example:
        >>> text = "7767517\\n1 2\\nConvolution first 1 1 in out 0=1 1=1 6=3"  # 1 output, 1 x 1, 3 weights
        >>> _ = Path("net.param").write_text(text)
        >>> _ = Path("net.bin").write_bytes(np.array([0, 1, 2, 3], "<f4").tobytes())  # first a tag, 0: float32
        >>> read_convolutions(Path("net.param"), Path("net.bin"))[0].weight.flatten().tolist()
        [1.0, 2.0, 3.0]
    """
    try:
        data = weights.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {weights}: {error.strerror}") from error
    file, convolutions = _Weights(weights, data), []
    for layer in read_layers(param):
        if layer.kind not in ("Convolution", "ConvolutionDepthWise"):
            if layer.kind in ("InnerProduct", "Deconvolution", "BatchNorm", "Scale", "PReLU", "Embed", "MemoryData"):
                raise InputError(
                    f"{param}: layer {layer.name} is of type {layer.kind}, whose weights are not read here"
                )
            continue
        convolutions.append(_convolution(layer, param, file=file))
    left = len(data) - file.place
    if left:
        raise InputError(
            f"{weights}: {counted(left, 'byte')} {are(left)} left after the last layer, at byte {file.place}"
        )
    return convolutions


def _text(path: Path) -> str:
    if path.is_file() and path.stat().st_size > _MOST_TEXT:
        raise InputError(f"{path} is not an ncnn .param file: it has {path.stat().st_size:,} bytes")
    return read_text(path)


def _layer(words: list[str], where: str) -> Layer:
    try:
        kind, name, inputs, outputs = words[0][:80], words[1][:80], int(words[2]), int(words[3])
        names, pairs = words[4 : 4 + inputs + outputs], words[4 + inputs + outputs :]
        parameters = {int(key): value for key, value in (pair.split("=", 1) for pair in pairs)}
    except (ValueError, IndexError) as error:
        raise InputError(f"{where}: expected a layer's type, name, counts, blobs and key=value pairs") from error
    if min(inputs, outputs) < 0 or len(names) != inputs + outputs:
        raise InputError(f"{where}: layer {name} announces {short(inputs + outputs)} blobs and names {len(names)}")
    return Layer(kind, name, inputs=tuple(names[:inputs]), outputs=tuple(names[inputs:]), parameters=parameters)


class _Weights:
    """A .bin file, read from front to back.

    Attributes:
        place: position of the next byte.
    """

    def __init__(self, path: Path, data: bytes) -> None:
        self.path, self.data, self.place = path, data, 0

    def take(self, kind: str, count: int, *, what: str) -> npt.NDArray[np.float32]:
        """Return the next values of a type; `what` names them in the error if the file is too short."""
        size = count * np.dtype(kind).itemsize
        if self.place + size > len(self.data):
            raise InputError(
                f"{self.path}: {what} need {counted(size, 'byte')} from byte {self.place} on, the file ends at "
                f"{len(self.data)}: is it cut short, or of another .param?"
            )
        values = np.frombuffer(self.data, kind, count, self.place).astype(np.float32)
        self.place += size
        return values

    def take_tagged(self, count: int, layer: str) -> npt.NDArray[np.float32]:
        """Return the next values; a tag before them gives their precision, single or half."""
        start, self.place = self.place, self.place + 4
        tag = struct.unpack("<I", self.data[start : self.place])[0] if self.place <= len(self.data) else None
        if tag == HALF_TAG:
            values = self.take("<f2", count, what=f"layer {layer}: the weights")
            self.place += -count * 2 % 4
            return values
        if tag == SINGLE_TAG:
            return self.take("<f4", count, what=f"layer {layer}: the weights")
        fault = "the file ends" if tag is None else f"the tag is 0x{tag:08X}, neither single nor half precision"
        raise InputError(f"{self.path}: layer {layer}, byte {start}: {fault}")


def _convolution(layer: Layer, param: Path, *, file: _Weights) -> Convolution:
    """Take the weights of one convolution from the file."""
    outputs, kernel, total, groups = (
        _number(layer, param, key=key, default=default) for key, default in ((0, 0), (1, 0), (6, 0), (7, 1))
    )
    stride, padding = (_number(layer, param, key=key, default=default) for key, default in ((3, 1), (4, 0)))
    for key, allowed in ((11, kernel), (13, stride), (14, padding), (2, 1), (12, 1)):
        if _number(layer, param, key=key, default=allowed) != allowed:
            raise InputError(f"{param}: layer {layer.name}: only square, undilated convolutions are read, got {key}=")
    per_output = total // max(outputs, 1)
    if min(outputs, kernel, total, groups) < 1 or total > MOST_WEIGHTS or per_output * outputs != total:
        raise InputError(
            f"{param}: layer {layer.name}: {counted(total, 'weight')} do not fit {counted(outputs, 'output')}"
        )
    if per_output % kernel**2 or outputs % groups:
        raise InputError(f"{param}: layer {layer.name}: {total} weights do not fit a {kernel} x {kernel} kernel")
    start = file.place
    weight = file.take_tagged(total, layer.name)
    bias = np.zeros(outputs, np.float32)
    if _number(layer, param, key=5, default=0):
        bias = file.take("<f4", outputs, what=f"layer {layer.name}: the biases")
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise InputError(f"{file.path}: layer {layer.name}, from byte {start}: weights that are not finite")
    slope = _slope(layer, param)
    shaped = weight.reshape(outputs, per_output // kernel**2, kernel, kernel)
    return Convolution(layer.name, stride, padding=padding, groups=groups, slope=slope, weight=shaped, bias=bias)


def _number(layer: Layer, param: Path, *, key: int, default: int) -> int:
    """Return a parameter as a whole number."""
    text = layer.parameters.get(key, str(default))
    try:
        value = int(text)
        if abs(value) > MOST_WEIGHTS:
            raise ValueError
        return value
    except ValueError as error:
        where = f"{param}: layer {layer.name}"
        raise InputError(f"{where}: {key}={short(text)[1:-1]} is not a whole number up to {MOST_WEIGHTS:,}") from error


def _slope(layer: Layer, param: Path) -> float | None:
    """Return the slope of the leaky ReLU from "-23310=1,0.1", an array of one number; None without an activation."""
    activation = _number(layer, param, key=9, default=0)
    if activation == _SIGMOID:  # of an output layer; heads apply it themselves
        return None
    if activation not in (0, 2):
        raise InputError(f"{param}: layer {layer.name}: activation 9={activation} is not read, only leaky ReLU (2)")
    if not activation:
        return None
    count, _, text = layer.parameters.get(-23310, "").partition(",")
    try:
        if int(count) != 1:
            raise ValueError
        return float(text)
    except ValueError as error:
        raise InputError(f"{param}: layer {layer.name}: expected the slope as -23310=1,0.1") from error
