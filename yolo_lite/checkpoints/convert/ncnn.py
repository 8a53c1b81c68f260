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
MOST_LAYERS = 10_000
_MOST_TEXT = 2**24  # bytes of a .param file
MOST_WEIGHTS = 2**28  # a number above it is not a size but a damaged file


@dataclass(frozen=True)
class Layer:
    """One line of the .param file: type, name, names of what it takes and gives, parameters by number."""

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
    slope: float | None  # of the leaky ReLU that follows, None where there is no activation
    weight: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]


def read_layers(path: Path) -> list[Layer]:
    """Read a .param file.

    Raises:
        InputError: naming the line that is not as it should be.
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
        InputError: naming layer and byte where the files are cut short, damaged, or hold what is not known here.
    """
    try:
        data = weights.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {weights}: {error.strerror}") from error
    found, place = [], 0
    for layer in read_layers(param):
        if layer.kind not in ("Convolution", "ConvolutionDepthWise"):
            if layer.kind in ("InnerProduct", "Deconvolution", "BatchNorm", "Scale", "PReLU", "Embed", "MemoryData"):
                raise InputError(
                    f"{param}: layer {layer.name} is of type {layer.kind}, whose weights are not read here"
                )
            continue
        convolution, place = _convolution(layer, param, path=weights, data=data, place=place)
        found.append(convolution)
    if place != len(data):
        raise InputError(
            f"{weights}: {counted(len(data) - place, 'byte')} {are(len(data) - place)} left after the last layer, at byte {place}"
        )
    return found


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


def _convolution(layer: Layer, param: Path, *, path: Path, data: bytes, place: int) -> tuple[Convolution, int]:
    """Take one convolution from the bytes at `place`; return it and the place after it."""

    def number(key: int, default: int) -> int:
        text = layer.parameters.get(key, str(default))
        try:
            value = int(text)
            if abs(value) > MOST_WEIGHTS:
                raise ValueError
            return value
        except ValueError as error:
            where = f"{param}: layer {layer.name}"
            raise InputError(
                f"{where}: {key}={short(text)[1:-1]} is not a whole number up to {MOST_WEIGHTS:,}"
            ) from error

    def take(kind: str, count: int, what: str) -> npt.NDArray[np.float32]:
        nonlocal place
        size = count * np.dtype(kind).itemsize
        if place + size > len(data):
            raise InputError(
                f"{path}: layer {layer.name}: {what} need {counted(size, 'byte')} from byte {place} on, the file ends at "
                f"{len(data)}: is it cut short, or of another .param?"
            )
        values = np.frombuffer(data, kind, count, place).astype(np.float32)
        place += size
        return values

    outputs, kernel, total, groups = number(0, 0), number(1, 0), number(6, 0), number(7, 1)
    for key, allowed in ((11, kernel), (13, number(3, 1)), (14, number(4, 0)), (2, 1), (12, 1)):
        if number(key, allowed) != allowed:
            raise InputError(f"{param}: layer {layer.name}: only square, undilated convolutions are read, got {key}=")
    per_output = total // max(outputs, 1)
    if min(outputs, kernel, total, groups) < 1 or total > MOST_WEIGHTS or per_output * outputs != total:
        raise InputError(
            f"{param}: layer {layer.name}: {counted(total, 'weight')} do not fit {counted(outputs, 'output')}"
        )
    if per_output % kernel**2 or outputs % groups:
        raise InputError(f"{param}: layer {layer.name}: {total} weights do not fit a {kernel} x {kernel} kernel")
    start = place
    tag = struct.unpack("<I", data[place : place + 4])[0] if place + 4 <= len(data) else None
    place += 4
    if tag == HALF_TAG:
        weight = take("<f2", total, "the weights")
        place += -total * 2 % 4
    elif tag == SINGLE_TAG:
        weight = take("<f4", total, "the weights")
    else:
        told = "the file ends" if tag is None else f"the tag is 0x{tag:08X}, neither single nor half precision"
        raise InputError(f"{path}: layer {layer.name}, byte {start}: {told}")
    bias = take("<f4", outputs, "the biases") if number(5, 0) else np.zeros(outputs, np.float32)
    if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
        raise InputError(f"{path}: layer {layer.name}, from byte {start}: weights that are not finite")
    activation = number(9, 0)
    if activation not in (0, 2):
        raise InputError(f"{param}: layer {layer.name}: activation 9={activation} is not read, only leaky ReLU (2)")
    slope = _slope(layer, param) if activation else None
    shaped = weight.reshape(outputs, per_output // kernel**2, kernel, kernel)
    return Convolution(
        layer.name, number(3, 1), padding=number(4, 0), groups=groups, slope=slope, weight=shaped, bias=bias
    ), place


def _slope(layer: Layer, param: Path) -> float:
    """Return the slope from "-23310=1,0.1": an array of one number."""
    count, _, text = layer.parameters.get(-23310, "").partition(",")
    try:
        if int(count) != 1:
            raise ValueError
        return float(text)
    except ValueError as error:
        raise InputError(f"{param}: layer {layer.name}: expected the slope as -23310=1,0.1") from error
