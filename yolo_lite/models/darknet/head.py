"""A detection head for Darknet's output sections (detection, region, yolo)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from yolo_lite.errors import counted, short
from yolo_lite.models.darknet.cfg import OUTPUTS, CfgError, Section, parse_cfg
from yolo_lite.models.heads.base import Head
from yolo_lite.structures.batches import RawPredictions

CLASSES = {"detection": 1, "region": 20, "yolo": 20}  # by default


class DarknetHead(nn.Module, Head):
    """A head without weights: its [detection], [region] and [yolo] sections each decode one map of the network.

    The `box_outputs` are boxes already: centre x, y, width, height in input pixels. A point is the upper left corner of
    a cell; the anchors of a cell follow each other.

    Args:
        cfg: the file's text.
        channels: of the maps, checked against the sections.
        strides: of the maps, input pixels.
    """

    fixed_classes: int

    def __init__(self, cfg: str, channels: Sequence[int], *, strides: Sequence[int]) -> None:
        super().__init__()
        self.sections = [section for section in parse_cfg(cfg) if section.name in OUTPUTS]
        self.strides = tuple(strides)
        if not self.sections:
            raise CfgError(f"the cfg has no output section ({', '.join(OUTPUTS)})")
        counts = {section.number("classes", CLASSES[section.name], minimum=1) for section in self.sections}
        if len(counts) > 1:
            raise self.sections[-1].error(f"the outputs have different numbers of classes: {sorted(counts)}")
        self.fixed_classes = counts.pop()
        if len(self.sections) != len(channels):
            raise CfgError(
                f"the cfg has {len(self.sections)} output sections, but {len(channels)} maps come before them"
            )
        for section, count in zip(self.sections, channels):
            if (section.name == "region" and "map" in section.options) or "tree" in section.options:
                raise section.error("a tree of classes (YOLO9000) is not supported")
            expected = _values(section, self.fixed_classes)
            if count != expected:
                raise section.error(f"needs {counted(expected, 'value')} from the layer before, but that has {count}")
            _anchors(section)
            _stretch(section)

    def forward(self, levels: Sequence[Tensor]) -> RawPredictions:
        """Turn the maps, one for each section, into RawPredictions with D = 4."""
        parts = [
            _READERS[section.name](section, level.float(), stride)
            for section, level, stride in zip(self.sections, levels, self.strides)
        ]
        boxes, scores, points, strides = (list(part) for part in zip(*parts))
        logits = torch.logit(torch.cat(scores, 1).clamp(0, 1), 1e-7)
        return RawPredictions(torch.cat(boxes, 1), logits, points=torch.cat(points), strides=torch.cat(strides))

    @staticmethod
    def class_layers() -> list[nn.Conv2d]:
        """Return an empty list: no layer's output channels are the classes."""
        return []

    @staticmethod
    def decode(raw: RawPredictions, indices: Tensor) -> Tensor:
        """Return the boxes of some points: float32 [B, K, 4] xyxy, input pixels, not clipped to the image."""
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
    """Return (width, height) of the anchors that a section uses; a [detection] has none.

    Raises:
        CfgError: if their number differs from `num`, or `mask` names an anchor that does not exist.
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
    return section.real("scale_x_y", 1)


def _anchored(level: Tensor, anchors: Sequence[tuple[float, float]]) -> tuple[Tensor, Tensor, Tensor]:
    """Return outputs [B, H, W, anchors, values], the corners of the cells [H, W, 1, 2] in cells, and anchors [anchors, 2]."""
    batch, _, height, width = level.shape
    outputs = level.view(batch, len(anchors), -1, height, width).permute(0, 3, 4, 1, 2)
    y, x = torch.meshgrid(
        torch.arange(height, device=level.device), torch.arange(width, device=level.device), indexing="ij"
    )
    corners = torch.stack([x, y], -1).unsqueeze(2).float()
    return outputs, corners, torch.tensor(anchors, device=level.device)


def _part(centres: Tensor, sizes: Tensor, *, scores: Tensor, corners: Tensor, stride: int) -> Part:
    """Lay out centres (in cells), sizes (in pixels) and scores, all [B, H, W, anchors, ...], point by point."""
    boxes = torch.cat([centres * stride, sizes], -1).flatten(1, 3)
    anchors = centres.shape[3]
    points = (corners * stride).expand(-1, -1, anchors, -1).reshape(-1, 2)
    return boxes, scores.flatten(1, 3), points, points.new_full((len(points),), float(stride))


def _read_yolo(section: Section, level: Tensor, stride: int) -> Part:
    """YOLOv3 and v4: anchors in input pixels, independent classes (Redmon and Farhadi 2018)."""
    outputs, corners, anchors = _anchored(level, _anchors(section))
    stretch = _stretch(section)
    raw = bool(section.number("new_coords", 0))  # the layer before has mapped all values to 0..1
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
    side, number = section.number("side", 7), section.number("num", 1)
    classes = section.number("classes", CLASSES["detection"])
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
