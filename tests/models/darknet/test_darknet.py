"""Darknet's networks, against a small interpreter of .cfg files in plain loops.

The interpreter draws the values of each layer in the order in which a .weights file holds them, so that it yields both a
file and what a network with these weights must give.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from yolo_lite.checkpoints.checkpoint import build_from_checkpoint
from yolo_lite.checkpoints.convert.darknet import fill, load_darknet
from yolo_lite.errors import InputError
from yolo_lite.models.darknet.cfg import parse_cfg
from yolo_lite.models.darknet.head import DarknetHead
from yolo_lite.models.darknet.layers import DarknetBackbone
from yolo_lite.models.limits import AtMost

Array = npt.NDArray[np.float64]
Options = dict[str, str]


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "linear": lambda x: x,
    "leaky": lambda x: np.where(x > 0, x, x / 10),
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.minimum(np.maximum(x, 0), 6),
    "swish": lambda x: x * sigmoid(x),
    "mish": lambda x: x * np.tanh(np.log(1 + np.exp(x))),
    "logistic": sigmoid,
}


class Interpreter:
    """Run a .cfg file on one image with weights drawn by the seed.

    Attributes:
        maps: after each layer, [C, H, W].
        rows: of each output section cell by cell, anchors innermost: centre x, y, width, height in input pixels, scores.
        content: the bytes of the .weights file.
    """

    def __init__(self, cfg: str, image: Array, seed: int = 0, version: tuple[int, int] = (0, 2)) -> None:
        self.generator, self.drawn = np.random.default_rng(seed), b""
        self.transposed = max(version) > 1000
        self.maps: list[Array] = []
        self.rows: list[list[float]] = []
        (_, net), *layers = read(cfg)
        self.hw = (int(net["height"]), int(net["width"]))
        x = image
        for kind, options in layers:
            x = getattr(self, kind)(x, options)
            self.maps.append(x)
        long = version[0] * 10 + version[1] >= 2 and not self.transposed
        self.content = struct.pack("<3i", *version, 5) + struct.pack("<q" if long else "<i", 12800) + self.drawn

    def draw(self, *shape: int, low: float = -1.0, high: float = 1.0) -> Array:
        values = self.generator.uniform(low, high, shape).astype("<f4")
        self.drawn += values.tobytes()
        return values.astype(np.float64)

    def weights(self, *shape: int, inputs: int) -> Array:
        reach = 2 / math.sqrt(inputs)  # keeps what comes out about as large as what goes in
        return self.draw(*shape, low=-reach, high=reach)

    def normalise(self, x: Array, count: int) -> Array:
        scales, means, variances = self.draw(count), self.draw(count), self.draw(count, low=0.2, high=2)
        x = np.stack([scales[f] * (x[f] - means[f]) / math.sqrt(variances[f] + 1e-6) for f in range(count)])
        return x

    def convolutional(self, x: Array, o: Options) -> Array:
        filters, size, stride = (int(o.get(key, 1)) for key in ("filters", "size", "stride"))
        groups, norm = int(o.get("groups", 1)), o.get("batch_normalize", "0") == "1"
        pad = size // 2 if o.get("pad", "0") == "1" else int(o.get("padding", 0))
        biases = self.draw(filters)
        norms = (self.draw(filters), self.draw(filters), self.draw(filters, low=0.2, high=2)) if norm else None
        part = len(x) // groups
        weights = self.weights(filters, part, size, size, inputs=part * size * size)
        wide = np.zeros((len(x), x.shape[1] + 2 * pad, x.shape[2] + 2 * pad))
        wide[:, pad : pad + x.shape[1], pad : pad + x.shape[2]] = x
        height, width = ((side + 2 * pad - size) // stride + 1 for side in x.shape[1:])
        y = np.zeros((filters, height, width))
        for f in range(filters):
            first = f // (filters // groups) * part
            for i in range(height):
                for j in range(width):
                    top, left = i * stride, j * stride
                    patch = wide[first : first + part, top : top + size, left : left + size]
                    y[f, i, j] = (patch * weights[f]).sum()
            if norms:
                y[f] = norms[0][f] * (y[f] - norms[1][f]) / math.sqrt(norms[2][f] + 1e-6)
            y[f] += biases[f]
        return ACTIVATIONS[o.get("activation", "logistic")](y)

    def connected(self, x: Array, o: Options) -> Array:
        outputs, flat = int(o.get("output", 1)), x.flatten()
        biases = self.draw(outputs)
        shape = (len(flat), outputs) if self.transposed else (outputs, len(flat))
        weights = self.weights(*shape, inputs=len(flat))
        y = np.zeros(outputs)
        for n in range(outputs):
            y[n] = sum(flat[i] * (weights[i, n] if self.transposed else weights[n, i]) for i in range(len(flat)))
        if o.get("batch_normalize", "0") == "1":
            y = self.normalise(y, outputs)
        return ACTIVATIONS[o.get("activation", "logistic")](y + biases).reshape(outputs, 1, 1)

    def local(self, x: Array, o: Options) -> Array:
        filters, size, stride = (int(o.get(key, 1)) for key in ("filters", "size", "stride"))
        pad = size // 2 if o.get("pad", "0") == "1" else 0
        wide = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
        height, width = ((side + 2 * pad - size) // stride + 1 for side in x.shape[1:])
        biases = self.draw(filters, height, width)
        weights = self.weights(height * width, filters, len(x), size, size, inputs=len(x) * size * size)
        y = np.zeros((filters, height, width))
        for i in range(height):
            for j in range(width):
                patch = wide[:, i * stride : i * stride + size, j * stride : j * stride + size]
                for f in range(filters):
                    y[f, i, j] = (patch * weights[i * width + j, f]).sum() + biases[f, i, j]
        return ACTIVATIONS[o.get("activation", "logistic")](y)

    def maxpool(self, x: Array, o: Options) -> Array:
        stride = int(o.get("stride", 1))
        size = int(o.get("size", stride))
        padding = int(o.get("padding", size - 1))
        height, width = ((side + padding - size) // stride + 1 for side in x.shape[1:])
        y = np.full((len(x), height, width), -np.inf)
        for i in range(height):
            for j in range(width):
                for di in range(size):
                    for dj in range(size):
                        row, column = i * stride + di - padding // 2, j * stride + dj - padding // 2
                        if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
                            y[:, i, j] = np.maximum(y[:, i, j], x[:, row, column])
        return y

    def avgpool(self, x: Array, o: Options) -> Array:
        return np.array([channel.sum() / channel.size for channel in x]).reshape(-1, 1, 1)

    def _source(self, place: str) -> Array:
        number = int(place)
        return self.maps[number if number >= 0 else len(self.maps) + number]

    def route(self, x: Array, o: Options) -> Array:
        parts = []
        groups, group = int(o.get("groups", 1)), int(o.get("group_id", 0))
        for place in o["layers"].split(","):
            source = self._source(place)
            share = len(source) // groups
            parts += [source[group * share + k] for k in range(share)]
        return np.stack(parts)

    def shortcut(self, x: Array, o: Options) -> Array:
        for place in o["from"].split(","):
            x = x + self._source(place)
        return ACTIVATIONS[o.get("activation", "linear")](x)

    def upsample(self, x: Array, o: Options) -> Array:
        s = int(o.get("stride", 2))
        y = np.zeros((len(x), x.shape[1] * s, x.shape[2] * s))
        for i in range(y.shape[1]):
            for j in range(y.shape[2]):
                y[:, i, j] = x[:, i // s, j // s]
        return y

    def reorg(self, x: Array, o: Options) -> Array:
        """Follow reorg_cpu of Darknet's blas.c index by index."""
        s = int(o.get("stride", 1))
        (c, h, w), flat = x.shape, x.flatten()
        y, out_c = np.zeros(flat.size), c // s**2
        for k in range(c):
            for j in range(h):
                for i in range(w):
                    offset = k // out_c
                    row, column = j * s + offset // s, i * s + offset % s
                    y[i + w * (j + h * k)] = flat[column + w * s * (row + h * s * (k % out_c))]
        return y.reshape(c * s * s, h // s, w // s)

    def softmax(self, x: Array, o: Options) -> Array:
        parts = [_softmax(part) for part in np.split(x.flatten(), int(o.get("groups", 1)))]
        return np.concatenate(parts).reshape(x.shape)

    def dropout(self, x: Array, o: Options) -> Array:
        return x

    def cost(self, x: Array, o: Options) -> Array:
        return x

    def detection(self, x: Array, o: Options) -> Array:
        side, number, classes = (int(o[key]) for key in ("side", "num", "classes"))
        values, cells = x.flatten(), side * side
        for cell in range(cells):
            chances = values[cell * classes : (cell + 1) * classes]
            chances = _softmax(chances) if o.get("softmax") == "1" else chances
            for n in range(number):
                sure = values[cells * classes + cell * number + n]
                at = cells * (classes + number) + (cell * number + n) * 4
                power = 2 if o.get("sqrt") == "1" else 1
                size = [values[at + 2 + k] ** power * self.hw[1 - k] for k in (0, 1)]
                centre = (
                    (values[at] + cell % side) / side * self.hw[1],
                    (values[at + 1] + cell // side) / side * self.hw[0],
                )
                self._row(*centre, *size, sure * chances)
        return x

    def region(self, x: Array, o: Options) -> Array:
        anchors = [float(value) for value in o["anchors"].split(",")]
        number, step = int(o["num"]), self.hw[0] / x.shape[1]
        for n, i, j, v in self._cells(x, number):
            chances = _softmax(v[5:]) if o.get("softmax") == "1" else sigmoid(v[5:])
            x_centre, y_centre = (j + sigmoid(v[0])) * step, (i + sigmoid(v[1])) * step
            sides = [math.exp(v[2 + k]) * anchors[2 * n + k] * step for k in (0, 1)]
            self._row(x_centre, y_centre, *sides, sigmoid(v[4]) * chances)
        return x

    def yolo(self, x: Array, o: Options) -> Array:
        anchors = [float(value) for value in o["anchors"].split(",")]
        mask = [int(value) for value in o["mask"].split(",")] if "mask" in o else list(range(len(anchors) // 2))
        stretch, step = float(o.get("scale_x_y", 1)), self.hw[0] / x.shape[1]
        for n, i, j, v in self._cells(x, len(mask)):
            pair = anchors[2 * mask[n] : 2 * mask[n] + 2]
            if o.get("new_coords") == "1":
                sides = [v[2 + k] ** 2 * 4 * pair[k] for k in (0, 1)]
            else:
                sides = [math.exp(v[2 + k]) * pair[k] for k in (0, 1)]
                v = sigmoid(v)
            x_centre, y_centre = ((c + v[k] * stretch - (stretch - 1) / 2) * step for k, c in ((0, j), (1, i)))
            self._row(x_centre, y_centre, *sides, v[4] * v[5:])
        return x

    def _cells(self, x: Array, number: int) -> list[tuple[int, int, int, Array]]:
        each = len(x) // number
        return [
            (n, i, j, x[n * each : (n + 1) * each, i, j])
            for i in range(x.shape[1])
            for j in range(x.shape[2])
            for n in range(number)
        ]

    def _row(self, x: float, y: float, width: float, height: float, scores: Array) -> None:
        self.rows.append([x, y, width, height, *(min(max(score, 0.0), 1.0) for score in scores.tolist())])


def _softmax(values: Array) -> Array:
    return np.exp(values) / np.exp(values).sum()


def read(cfg: str) -> list[tuple[str, Options]]:
    sections: list[tuple[str, Options]] = []
    for line in cfg.split("\n"):
        if line.startswith("["):
            sections.append((line[1:-1], {}))
        elif "=" in line:
            key, value = line.split("=")
            sections[-1][1][key.strip()] = value.strip()
    return sections


def sections(*texts: str, hw: tuple[int, int] = (12, 16)) -> str:
    """Return a .cfg file of layers written in short: "name key=value key=value"."""
    lines = [f"[net]\nheight={hw[0]}\nwidth={hw[1]}\n"]
    for text in texts:
        name, *options = text.split()
        lines.append("\n".join([f"[{name}]", *options, ""]))
    return "\n".join(lines)


def image(hw: tuple[int, int], seed: int = 7) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (3, *hw)).astype(np.uint8)


def last_map(cfg: str, oracle: Interpreter, pixels: npt.NDArray[np.uint8]) -> Array:
    """Fill the package's network with the oracle's weights and return the map of its last layer."""
    backbone = DarknetBackbone(cfg, levels=(len(oracle.maps) - 1,))
    fill(backbone, oracle.content, source=Path("drawn.weights"))
    with torch.no_grad():
        (level,) = backbone.eval()(torch.from_numpy(pixels / 255).float()[None])
    assert backbone.channels == (level.shape[1],)
    assert backbone.shapes[-1] == tuple(level.shape[1:])
    return np.asarray(level[0].double())


CONV = "convolutional filters=4 size=3 pad=1 activation=linear"
LAYERS = {
    "conv: defaults are one filter, 1x1, logistic": ["convolutional"],
    "conv: pad": ["convolutional filters=5 size=3 pad=1 activation=linear"],
    "conv: no pad": ["convolutional filters=5 size=3 activation=linear"],
    "conv: padding": ["convolutional filters=5 size=3 padding=2 activation=linear"],
    "conv: pad outweighs padding": ["convolutional filters=5 size=3 pad=1 padding=2 activation=linear"],
    "conv: stride 2": ["convolutional filters=5 size=3 pad=1 stride=2 activation=linear"],
    "conv: stride 3 of 5x5": ["convolutional filters=2 size=5 pad=1 stride=3 activation=linear"],
    "conv: even kernel": ["convolutional filters=2 size=2 pad=1 activation=linear"],
    "conv: norm": ["convolutional batch_normalize=1 filters=4 size=3 pad=1 activation=leaky"],
    "conv: groups": [CONV, "convolutional filters=6 size=3 pad=1 groups=2 activation=linear"],
    "conv: depthwise": [CONV, "convolutional filters=4 size=3 pad=1 groups=4 activation=linear"],
    "conv: depthwise, norm": [CONV, "convolutional batch_normalize=1 filters=4 size=5 pad=1 groups=4 activation=relu"],
    "maxpool: 2 by 2": [CONV, "maxpool size=2 stride=2"],
    "maxpool: size is stride unless told": [CONV, "maxpool stride=2"],
    "maxpool: 2 by 2, odd map": ["convolutional filters=3 size=2 activation=linear", "maxpool size=2 stride=2"],
    "maxpool: 2, stride 1": [CONV, "maxpool size=2 stride=1"],
    "maxpool: 3, stride 2": [CONV, "maxpool size=3 stride=2"],
    "maxpool: 3, stride 3": [CONV, "maxpool size=3 stride=3"],
    "maxpool: 5, stride 1": [CONV, "maxpool size=5 stride=1"],
    "maxpool: 9, stride 1": [CONV, "maxpool size=9 stride=1"],
    "maxpool: 13, stride 1": [CONV, "maxpool size=13 stride=1"],
    "maxpool: padding 0": [CONV, "maxpool size=3 stride=2 padding=0"],
    "maxpool: padding 4": [CONV, "maxpool size=5 stride=2 padding=4"],
    "avgpool": [CONV, "avgpool"],
    "route: one": [CONV, "convolutional filters=2", "route layers=-2"],
    "route: two": [CONV, "convolutional filters=2", "route layers=-1,0"],
    "route: four": [CONV, "maxpool size=3", "maxpool size=5", CONV, "route layers=3,-3,1,-4"],
    "route: first half": [CONV, "route layers=-1 groups=2 group_id=0"],
    "route: second half": [CONV, "route layers=-1 groups=2 group_id=1"],
    "route: groups of two": [CONV, "convolutional filters=6", "route layers=-1,-2 groups=2 group_id=1"],
    "shortcut": [CONV, CONV, "shortcut from=-2"],
    "shortcut: leaky": [CONV, CONV, "shortcut from=0 activation=leaky"],
    "shortcut: of two": [CONV, CONV, CONV, "shortcut from=-2,-3 activation=linear"],
    "upsample": [CONV, "upsample stride=2"],
    "upsample: 2 unless told": [CONV, "upsample"],
    "upsample: 3": [CONV, "upsample stride=3"],
    "reorg": [CONV, "reorg stride=2"],
    "reorg: 8 channels": ["convolutional filters=8 size=3 pad=1 activation=linear", "reorg stride=2"],
    "reorg: 4": ["convolutional filters=16 size=3 pad=1 activation=linear", "reorg stride=4"],
    "reorg: 1": [CONV, "reorg"],
    "softmax": [CONV, "avgpool", "softmax"],
    "softmax: of a map": [CONV, "softmax groups=1"],
    "softmax: groups": [CONV, "avgpool", "softmax groups=2"],
    "connected": ["maxpool stride=4", "connected output=6 activation=leaky"],
    "connected: defaults are one output, logistic": ["maxpool stride=4", "connected"],
    "connected: norm": ["maxpool stride=4", "connected output=6 batch_normalize=1 activation=linear"],
    "connected: two": ["maxpool stride=4", "connected output=6 activation=relu", "connected output=3"],
    "local": ["maxpool stride=2", "local filters=3 size=3 stride=1 pad=1 activation=leaky"],
    "local: no pad, stride 2": ["maxpool stride=2", "local filters=2 size=3 stride=2"],
    "dropout and cost do nothing": [CONV, "dropout probability=.5", "cost type=sse"],
}
LAYERS |= {
    f"conv: {name}": [f"convolutional batch_normalize=1 filters=4 size=3 pad=1 activation={name}"]
    for name in ACTIVATIONS
}


@pytest.mark.parametrize("layers", [pytest.param(layers, id=name) for name, layers in LAYERS.items()])
def test_a_layer_agrees_with_plain_loops(layers: list[str]) -> None:
    cfg, pixels = sections(*layers), image((12, 16))
    oracle = Interpreter(cfg, pixels / 255)
    found = last_map(cfg, oracle, pixels)
    assert oracle.maps[-1].shape == found.shape
    assert oracle.maps[-1].std() > 0 or oracle.maps[-1].size == 1
    np.testing.assert_allclose(found, oracle.maps[-1], atol=2e-5, rtol=1e-5)


def test_relu6_really_cuts() -> None:
    """The drawn weights seldom reach 6: give a 1x1 layer weights that do."""
    cfg = sections("convolutional filters=1 activation=relu6")
    backbone = DarknetBackbone(cfg, levels=(0,))
    fill(backbone, struct.pack("<3iq4f", 0, 2, 0, 0, -1, 8, 0, 0), source=Path("drawn.weights"))
    x = torch.zeros(1, 3, 12, 16)
    x[0, 0, 0, :4] = torch.tensor([0.0, 0.5, 0.875, 1.0])  # 8 x - 1
    assert backbone(x)[0][0, 0, 0, :4].tolist() == [0, 3, 6, 6]


# Darknet's uneven border on [1, 2, 3]: padding of size - 1, half of it (rounded down) before, the rest after.
@pytest.mark.parametrize(
    ("options", "row"),
    [
        pytest.param("size=2 stride=1", [2, 3, 3], id="2: after"),
        pytest.param("size=2 stride=2", [2, 3], id="2 by 2: the last has one value"),
        pytest.param("size=3 stride=1", [2, 3, 3], id="3: before and after"),
        pytest.param("size=4 stride=1", [3, 3, 3], id="4: one before, two after"),
        pytest.param("size=2 stride=2 padding=0", [2], id="no border"),
    ],
)
def test_the_border_of_maxpool_worked_by_hand(options: str, row: list[int]) -> None:
    backbone = DarknetBackbone(sections(f"maxpool {options}", hw=(3, 3)), levels=(0,))
    given = torch.tensor([1.0, 2, 3]).expand(1, 3, 3, 3) - 10  # a border of zeros would win
    assert (backbone(given)[0][0, 0, 0] + 10).tolist() == row


def test_reorg_worked_by_hand() -> None:
    """Four channels of 2 x 2 with stride 2 are read as one of 4 x 4; its upper left of each 2 x 2 are channels 0 to 3."""
    backbone = DarknetBackbone(sections("convolutional filters=4", "reorg stride=2", hw=(2, 2)), levels=(1,))
    given = torch.arange(16.0).view(1, 4, 2, 2)
    found = backbone.layers[1](given).flatten().tolist()
    assert found == [0, 2, 8, 10, 1, 3, 9, 11, 4, 6, 12, 14, 5, 7, 13, 15]


V1 = sections(
    "convolutional batch_normalize=1 filters=6 size=7 stride=2 pad=1 activation=leaky",
    "maxpool size=2 stride=2",
    "convolutional batch_normalize=1 filters=8 size=3 stride=2 pad=1 activation=leaky",
    "local size=3 stride=1 pad=1 filters=4 activation=leaky",
    "dropout probability=.5",
    "connected output=52 activation=linear",
    "detection classes=3 coords=4 rescore=1 side=2 num=2 softmax=0 sqrt=1 jitter=.2",
    hw=(32, 32),
)
V2 = sections(
    "convolutional batch_normalize=1 filters=4 size=3 pad=1 stride=2 activation=leaky",
    "maxpool size=2 stride=2",
    "convolutional batch_normalize=1 filters=8 size=3 pad=1 activation=leaky",
    "maxpool size=2 stride=2",
    "convolutional batch_normalize=1 filters=6 size=3 pad=1 activation=leaky",
    "route layers=-3",
    "convolutional batch_normalize=1 filters=4 size=1 pad=1 activation=leaky",
    "reorg stride=2",
    "route layers=-1,-4",
    "convolutional filters=16 size=1 pad=1 activation=linear",
    "region anchors=1.08,1.19,3.42,4.41 bias_match=1 classes=3 coords=4 num=2 softmax=1",
    hw=(32, 64),
)
ANCHORS = "anchors=5,6,9,8,12,20,30,24"
V3 = sections(
    "convolutional batch_normalize=1 filters=4 size=3 pad=1 stride=2 activation=leaky",
    "convolutional batch_normalize=1 filters=6 size=3 pad=1 stride=2 activation=leaky",
    "convolutional batch_normalize=1 filters=3 size=1 activation=leaky",
    "convolutional batch_normalize=1 filters=6 size=3 pad=1 activation=leaky",
    "shortcut from=-3 activation=linear",
    "convolutional batch_normalize=1 filters=8 size=3 pad=1 stride=2 activation=leaky",
    "convolutional filters=16 size=1 activation=linear",
    f"yolo mask=2,3 {ANCHORS} classes=3 num=4",
    "route layers=-3",
    "convolutional batch_normalize=1 filters=4 size=1 activation=leaky",
    "upsample stride=2",
    "route layers=-1,4",
    "convolutional filters=16 size=1 activation=linear",
    f"yolo mask=0,1 {ANCHORS} classes=3 num=4",
    hw=(32, 64),
)
V4 = sections(
    "convolutional batch_normalize=1 filters=8 size=3 pad=1 stride=2 activation=mish",
    "convolutional batch_normalize=1 filters=8 size=3 pad=1 stride=2 activation=mish",
    "route layers=-1 groups=2 group_id=1",
    "convolutional batch_normalize=1 filters=4 size=3 pad=1 activation=mish",
    "route layers=-1,-3",
    "convolutional batch_normalize=1 filters=4 size=1 activation=swish",
    "maxpool size=5 stride=1",
    "route layers=-2",
    "maxpool size=9 stride=1",
    "route layers=-4",
    "maxpool size=13 stride=1",
    "route layers=-1,-3,-5,-6",
    "convolutional filters=16 size=1 activation=linear",
    f"yolo mask=1,0 {ANCHORS} classes=3 num=4 scale_x_y=1.05",
    "route layers=11",
    "convolutional batch_normalize=1 filters=6 size=3 pad=1 stride=2 activation=relu6",
    "convolutional filters=16 size=1 activation=logistic",
    f"yolo mask=2,3 {ANCHORS} classes=3 num=4 scale_x_y=2.0 new_coords=1",
    hw=(32, 32),
)
NETWORKS = {
    "v1": V1,
    "v1 softmax, no sqrt": V1.replace("softmax=0", "softmax=1").replace("sqrt=1", "sqrt=0"),
    "v2": V2,
    "v2 without softmax": V2.replace("softmax=1", "softmax=0"),
    "v3": V3,
    "v3 without masks": V3.replace("mask=2,3\n", "")
    .replace("mask=0,1\n", "")
    .replace("num=4", "num=2")
    .replace(ANCHORS, "anchors=5,6,9,8"),
    "v4": V4,
}


@pytest.mark.parametrize("cfg", [pytest.param(cfg, id=name) for name, cfg in NETWORKS.items()])
def test_a_network_from_file_agrees_with_plain_loops(cfg: str, tmp_path: Path) -> None:
    net = dict(read(cfg))["net"]
    pixels = image((int(net["height"]), int(net["width"])))
    oracle = Interpreter(cfg, pixels / 255, seed=1)
    (tmp_path / "net.cfg").write_text(cfg)
    (tmp_path / "net.weights").write_bytes(oracle.content)
    model = build_from_checkpoint(load_darknet(tmp_path / "net.cfg", tmp_path / "net.weights"), tmp_path)
    with torch.no_grad():
        raw = model(torch.from_numpy(pixels)[None])
    rows = np.array(oracle.rows)
    assert raw.box_outputs.shape == (1, len(rows), 4)
    assert rows[:, 4:].std() > 0.01
    np.testing.assert_allclose(raw.box_outputs[0], rows[:, :4], rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(raw.class_logits[0].sigmoid(), rows[:, 4:], atol=2e-5)
    boxes = model.decode(raw, torch.arange(len(rows))[None])[0]
    corners = np.concatenate([rows[:, :2] - rows[:, 2:4] / 2, rows[:, :2] + rows[:, 2:4] / 2], 1)
    np.testing.assert_allclose(boxes, corners, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("version", [(0, 1), (0, 2), (0, 99), (1, 0), (2, 5), (1001, 0), (0, 1001)], ids=str)
@pytest.mark.parametrize("norm", [0, 1])
def test_every_version_of_the_file_is_read(version: tuple[int, int], norm: int) -> None:
    """Up to 0.1 the count of images has 4 bytes; above 1000 too, and dense layers are stored transposed (Redmon)."""
    cfg = sections("maxpool stride=4", f"connected output=5 batch_normalize={norm}", "connected output=4")
    pixels = image((12, 16))
    oracle = Interpreter(cfg, pixels / 255, version=version)
    values = 5 + 36 * 5 + 15 * norm + 4 + 5 * 4
    assert len(oracle.content) == 12 + (8 if version in [(0, 2), (0, 99), (1, 0), (2, 5)] else 4) + 4 * values
    np.testing.assert_allclose(last_map(cfg, oracle, pixels), oracle.maps[-1], atol=1e-5)


def test_points_are_the_upper_left_corners_of_cells() -> None:
    backbone = DarknetBackbone(V3)
    head = DarknetHead(V3, backbone.channels, strides=backbone.strides)
    assert (backbone.channels, backbone.strides) == ((16, 16), (8, 4))
    raw = head(backbone(torch.zeros(1, 3, 32, 64)))
    coarse = [[8 * j, 8 * i] for i in range(4) for j in range(8) for _ in range(2)]
    fine = [[4 * j, 4 * i] for i in range(8) for j in range(16) for _ in range(2)]
    assert raw.points.tolist() == coarse + fine
    assert raw.strides.tolist() == [8] * 64 + [4] * 256


def test_a_network_without_dense_layers_takes_other_sizes() -> None:
    backbone = DarknetBackbone(V3)
    head = DarknetHead(V3, backbone.channels, strides=backbone.strides)
    raw = head(backbone(torch.zeros(2, 3, 96, 32)))
    assert raw.box_outputs.shape == (2, 2 * (12 * 4 + 24 * 8), 4)


def test_levels_name_the_maps_that_are_wanted() -> None:
    backbone = DarknetBackbone(V3, levels=(0, 5))
    assert len(backbone.layers) == 6
    assert (backbone.channels, backbone.strides) == ((4, 8), (2, 8))
    assert [tuple(level.shape) for level in backbone(torch.zeros(1, 3, 32, 64))] == [(1, 4, 16, 32), (1, 8, 4, 8)]


def test_a_cfg_is_split_into_sections() -> None:
    text = "# a comment\n[net]\nwidth = 32 # inline\n\n; another\n[Convolutional]\nfilters=4\nactivation = leaky\n"
    net, layer = parse_cfg(text)
    assert (net.name, net.line, dict(net.options)) == ("net", 2, {"width": "32"})
    assert (layer.name, layer.line) == ("convolutional", 6)
    assert layer.number("filters") == 4
    assert layer.number("size", 1) == 1
    assert layer.numbers("anchors") == []


def build(cfg: str) -> None:
    """Build backbone and head, as load_darknet does before it looks at weights."""
    with AtMost(draw=False):
        backbone = DarknetBackbone(cfg)
    DarknetHead(cfg, backbone.channels, strides=backbone.strides)


GOOD = sections("convolutional filters=16 size=3 pad=1 stride=2", f"yolo mask=0,1 {ANCHORS} classes=3 num=4")


def test_the_cfg_that_is_spoilt_below_is_good() -> None:
    build(GOOD)


def inserted(text: str) -> str:
    """Return the good file with layers before its output, "name key=value" separated by |."""
    return sections(
        "convolutional filters=16 size=3 pad=1 stride=2", *text.split("|"), f"yolo mask=0,1 {ANCHORS} classes=3 num=4"
    )


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        pytest.param("", r"does not begin with a \[net\] section", id="empty"),
        pytest.param(GOOD.replace("[net]", "[nut]"), r"does not begin with a \[net\]", id="no net"),
        pytest.param("width=3\n" + GOOD, r"line 1 is neither a \[section\] nor key=value: 'width=3'", id="key first"),
        pytest.param(GOOD.replace("size=3", "size 3"), "line 7 is neither .*: 'size 3'", id="no key=value"),
        pytest.param(
            GOOD.replace("size=3", "size=big"), r"\[convolutional\] at line 5: size must be a whole", id="text"
        ),
        pytest.param(GOOD.replace("size=3", "size="), "size must be a whole number, got ''", id="no number"),
        pytest.param(inserted("lstm output=3"), r"\[lstm\] at line 11: this kind of layer is not supp", id="section"),
        pytest.param(
            GOOD.replace("stride=2", "stride=2\nactivation=snake"), "'snake' is not supported; known: linear", id="act"
        ),
        pytest.param(GOOD.split("[yolo]")[0], r"no output section \(detection, region, yolo\)", id="no output"),
        pytest.param(GOOD.replace("height=12", "height=12\nchannels=1"), r"\[net\].*channels must be 3", id="grey"),
        pytest.param(inserted("route layers=1"), "layers must be layers before it, got '1'", id="route itself"),
        pytest.param(inserted("route layers=7"), "layers must be layers before it, got '7'", id="route later"),
        pytest.param(inserted("route layers=-2"), "layers must be layers before it, got '-2'", id="route too far"),
        pytest.param(inserted("route"), "layers must be layers before it, got None", id="route nothing"),
        pytest.param(inserted("route layers=a,b"), "layers must be numbers with commas", id="route text"),
        pytest.param(inserted("route layers=nan"), r"\[route\] at line 11: layers must be", id="route nan"),
        pytest.param(inserted("route layers=1e999"), r"\[route\] at line 11: layers must be", id="route inf"),
        pytest.param(inserted("route layers=-1 groups=3"), r"group 0 of 3 of \[16\] channels", id="route groups"),
        pytest.param(inserted("route layers=-1 groups=2 group_id=2"), "group 2 of 2", id="route group"),
        pytest.param(
            inserted("maxpool stride=2|route layers=-1,-2"), "different sizes: 3 x 4, 6 x 8", id="route sizes"
        ),
        pytest.param(
            inserted("maxpool stride=2|shortcut from=-2"), r"adds \(16, 6, 8\) to \(16, 3, 4\)", id="shortcut"
        ),
        pytest.param(inserted("shortcut from=5"), "from must be layers before it, got '5'", id="shortcut from"),
        pytest.param(
            inserted("convolutional filters=16|shortcut from=-2 weights_type=per_feature"),
            "weights_type",
            id="weighted",
        ),
        pytest.param(inserted("convolutional filters=3 groups=5"), "groups 5 do not fit 16 channels", id="groups"),
        pytest.param(inserted("convolutional filters=0"), "filters 0, size 1", id="no filters"),
        pytest.param(inserted("convolutional stride=0"), "stride 0", id="conv stride 0"),
        pytest.param(inserted("convolutional size=9"), r"does not fit what comes before, \(16, 6, 8\)", id="kernel"),
        pytest.param(inserted("local size=9"), "a kernel of 9 does not fit 6 x 8", id="local kernel"),
        pytest.param(inserted("reorg stride=4"), "a stride that 16 x 6 x 8 cannot be divided by", id="reorg"),
        pytest.param(inserted("reorg stride=2 reverse=1"), "reverse=1", id="reorg back"),
        pytest.param(inserted("softmax groups=5"), "does not fit what comes before", id="softmax"),
        pytest.param(GOOD.replace("filters=16", "filters=15"), "needs 16 values .*, but that has 15", id="channels"),
        pytest.param(GOOD.replace("classes=3", "classes=4"), "needs 18 values .*, but that has 16", id="classes"),
        pytest.param(GOOD + "[yolo]\nclasses=4\nmask=0\n", r"different numbers of classes: \[3, 4\]", id="two counts"),
        pytest.param(GOOD.replace("classes=3", "classes=3\ntree=x"), "YOLO9000", id="tree"),
        pytest.param(V1.replace("side=2", "side=-2"), "side must be at least 1, got -2", id="side below 0"),
        pytest.param(
            inserted(f"convolutional filters={10**18}"), "filters must be at most 1,000,000, got 10", id="10^18"
        ),
        pytest.param(
            inserted(f"convolutional filters={'9' * 5000}"), "filters must be a whole number, got '99", id="digits"
        ),
        pytest.param(inserted("convolutional filters=1000000 size=1001"), "the network is too large", id="kernels"),
        pytest.param(inserted("connected output=10000|connected output=1000000"), "network is too large", id="dense"),
        pytest.param(
            inserted("upsample stride=1000|upsample stride=1000"), "makes maps of 16 x 6000 x 8000", id="maps"
        ),
        pytest.param(inserted("maxpool size=100000 stride=1"), "size must be at most 1,024", id="pool"),
        pytest.param(inserted("route layers=" + "-1," * 5000), "layers must be layers before it, got '-1", id="routes"),
        pytest.param(inserted("|".join(["dropout"] * 3000)), "has 3,003 sections, more than 2,000", id="sections"),
        pytest.param(GOOD.replace("width=", "width=-"), "width must be at least 1, got -", id="width below 0"),
        pytest.param(
            GOOD.replace("mask=0,1", "mask="), "needs 0 values from the layer before, but that has 16", id="no mask"
        ),
        pytest.param(V1.replace("side=2", "side=3"), "needs 117 values .*, but that has 52", id="detection side"),
    ],
)
def test_a_cfg_that_cannot_be_used_is_refused_in_one_line(cfg: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as refused:
        build(cfg)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "layer",
    [
        *("maxpool stride=0", "maxpool size=0 stride=1", "local stride=0", "local size=0", "reorg stride=0"),
        *("upsample stride=0", "softmax groups=0", "connected output=-1", "connected output=0", "local filters=-1"),
    ],
)
def test_a_number_below_one_where_it_means_nothing_is_refused_with_section_and_line(layer: str) -> None:
    with pytest.raises(InputError, match=rf"\[{layer.split()[0]}\] at line 11"):
        build(inserted(layer))


@pytest.mark.parametrize("option", ["dilation=2", "stride_x=2", "stride_y=2"])
def test_an_option_that_would_change_the_result_is_refused_not_ignored(option: str) -> None:
    with pytest.raises(InputError, match=rf"\[convolutional\] at line 11: {option.split('=')[0]}.* is not supported"):
        build(inserted(f"convolutional filters=16 size=3 pad=1 {option}"))


def test_an_output_without_a_layer_before_it_is_refused() -> None:
    with pytest.raises(InputError, match=r"\[yolo\] at line 5"):
        build(sections(f"yolo mask=0,1 {ANCHORS} classes=3 num=4"))


# These have as many values as the layer before gives, so that only the anchors are wrong. They are refused when the network
# is built: a checkpoint that fails at its first image must not be written.
@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        pytest.param(GOOD.replace("mask=0,1", "mask=0,4"), r"mask \[0, 4\] asks for .*the 4 anchors", id="mask"),
        pytest.param(GOOD.replace("mask=0,1", "mask=-1,0"), r"mask \[-1, 0\]", id="negative mask"),
        pytest.param(GOOD.replace(ANCHORS, "anchors=1,2,3"), "other than the 1 anchor given", id="odd number"),
        pytest.param(GOOD.replace(ANCHORS + "\n", ""), "anchors", id="none"),
        pytest.param(GOOD.replace(ANCHORS, "anchors=a,b"), "anchors must be numbers", id="text"),
        pytest.param(GOOD.replace("mask=0,1\n", "").replace("num=4", "num=2"), "anchors", id="more than num"),
        pytest.param(GOOD + "scale_x_y=wide\n", "scale_x_y must be a number, got 'wide'", id="scale_x_y"),
        pytest.param(V2.replace("1.08,1.19,", ""), "num is 2, but the anchors are 2 numbers", id="region"),
    ],
)
def test_anchors_that_do_not_fit_are_refused_when_the_network_is_built(cfg: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build(cfg)


def test_a_detection_section_has_one_class_unless_told() -> None:
    """Darknet's parse_detection: classes is 1 by default, num 1, side 7; 49 cells of 1 + 1 + 4 values."""
    cfg = sections("connected output=294 activation=linear", "detection coords=4", hw=(28, 28))
    backbone = DarknetBackbone(cfg)
    head = DarknetHead(cfg, backbone.channels, strides=backbone.strides)
    assert head.fixed_classes == 1
    assert head(backbone(torch.zeros(1, 3, 28, 28))).class_logits.shape == (1, 49, 1)
