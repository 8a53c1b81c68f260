"""YOLOv1's heads: each cell answers for the object whose centre lies in it (Redmon et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from yolo_lite.errors import InputError
from yolo_lite.models.blocks import LEAKY
from yolo_lite.models.heads.base import Head
from yolo_lite.structures.batches import RawPredictions

VALUES = 5  # of a box: x, y in its cell, square roots of width, height as fractions of the image, confidence
_START = (0.5, 0.5, 0.4, 0.4, 0.0)  # these values before training


class GridHead(nn.Module, Head):
    """A 1x1 convolution that predicts several boxes and C class probabilities in each cell of the coarsest level.

    Outputs are linear, as in the paper. A point stands for one box of one cell. Points follow each other cell by cell,
    row by row, with the boxes of a cell side by side. A point has VALUES + C outputs: those of the box, then the class
    probabilities of the cell. Its score for a class is confidence times probability.

    Args:
        channels: of each incoming level; only the last level is used.
        strides: of each level, input pixels.
        classes: C.
        boxes: boxes in each cell.
    """

    loss = "yolov1"

    def __init__(self, channels: Sequence[int], strides: Sequence[int], *, classes: int, boxes: int) -> None:
        super().__init__()
        self.strides, self.boxes_per_cell = (strides[-1],), boxes
        self.boxes = nn.Conv2d(channels[-1], boxes * VALUES, 1)
        self.classes = nn.Conv2d(channels[-1], classes, 1)
        assert self.boxes.bias is not None
        self.boxes.bias.data.copy_(torch.tensor(_START * boxes))

    def forward(self, levels: Sequence[Tensor]) -> RawPredictions:
        """Map the last level [B, channels, H, W] to RawPredictions with A = H * W * boxes, D = VALUES + C."""
        level = levels[-1]
        return grid_predictions(
            self.boxes(level), self.classes(level), stride=self.strides[0], boxes=self.boxes_per_cell
        )

    def class_layers(self) -> list[nn.Conv2d]:
        """Return the layer whose output channels are the classes in order."""
        return [self.classes]

    def cell_probabilities(self, raw: RawPredictions) -> Tensor:
        """Return the class probabilities of each point's cell: float32 [B, A, C]."""
        return grid_probabilities(raw)

    @staticmethod
    def decode(raw: RawPredictions, indices: Tensor) -> Tensor:
        """Return the boxes of some points: float32 [B, K, 4] xyxy, input pixels, not clipped to the image."""
        return decode_grid(raw, indices)


class DenseGridHead(nn.Module, Head):
    """Two fully connected layers with the outputs of a GridHead, as in the paper: every cell sees the whole image.

    Args:
        channels, strides, classes, boxes: as for GridHead.
        cells: S, cells along each side; every input must be S * stride pixels high and wide.
    """

    loss = "yolov1"

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], *, classes: int, boxes: int, cells: int
    ) -> None:
        super().__init__()
        self.strides, self.boxes_per_cell, self.cells = (strides[-1],), boxes, cells
        self.hidden = nn.Sequential(nn.Flatten(), nn.Linear(channels[-1] * cells**2, 4096), LEAKY(), nn.Dropout(0.5))
        self.boxes = nn.Linear(4096, cells**2 * boxes * VALUES)
        self.classes = nn.Linear(4096, cells**2 * classes)
        self.boxes.bias.data.copy_(torch.tensor(_START * boxes).repeat_interleave(cells**2))

    def forward(self, levels: Sequence[Tensor]) -> RawPredictions:
        """Map the last level [B, channels, S, S] to RawPredictions laid out like those of a GridHead.

        Raises:
            InputError: for an image of another size.
        """
        level = levels[-1]
        if tuple(level.shape[-2:]) != (self.cells, self.cells):
            side = self.cells * self.strides[0]
            raise InputError(
                f"a fully connected head takes {side} x {side} pixels only, "
                f"got {level.shape[-2] * self.strides[0]} x {level.shape[-1] * self.strides[0]}"
            )
        hidden = self.hidden(level)
        box_map, class_map = (
            layer(hidden).view(level.shape[0], -1, self.cells, self.cells) for layer in (self.boxes, self.classes)
        )
        return grid_predictions(box_map, class_map, stride=self.strides[0], boxes=self.boxes_per_cell)

    def class_layers(self) -> list[nn.Linear]:
        """Return the layer whose outputs are the classes in order, each with one output for every cell."""
        return [self.classes]

    def cell_probabilities(self, raw: RawPredictions) -> Tensor:
        """Return the class probabilities of each point's cell: float32 [B, A, C]."""
        return grid_probabilities(raw)

    @staticmethod
    def decode(raw: RawPredictions, indices: Tensor) -> Tensor:
        """Return the boxes of some points: float32 [B, K, 4] xyxy, input pixels, not clipped to the image."""
        return decode_grid(raw, indices)


def grid_predictions(box_map: Tensor, class_map: Tensor, *, stride: int, boxes: int) -> RawPredictions:
    """Lay out maps [B, boxes * VALUES, H, W] and [B, C, H, W] as RawPredictions; points are upper left corners of cells.

    Example:
        >>> box_map = torch.tensor([0.5, 0.5, 1.0, 1.0, 0.8]).view(1, 5, 1, 1)  # the last one is the confidence
        >>> class_map = torch.tensor([1.0, 0.5]).view(1, 2, 1, 1)
        >>> grid_predictions(box_map, class_map, stride=64, boxes=1).class_logits.sigmoid()
        tensor([[[0.8000, 0.4000]]])
    """
    height, width = box_map.shape[-2:]
    values = box_map.flatten(2).transpose(1, 2).reshape(box_map.shape[0], -1, VALUES)  # [B, A, VALUES]
    classes = class_map.flatten(2).transpose(1, 2).repeat_interleave(boxes, 1)  # [B, A, C]
    scores = values[..., 4:5].clamp(0, 1) * classes.clamp(0, 1)
    y = torch.arange(height, device=box_map.device).repeat_interleave(width)
    x = torch.arange(width, device=box_map.device).repeat(height)
    points = (torch.stack([x, y], -1) * stride).float().repeat_interleave(boxes, 0)
    logits = torch.logit(scores.float(), 1e-6)
    return RawPredictions(
        torch.cat([values, classes], -1), logits, points=points, strides=points.new_full((len(points),), stride)
    )


def decode_grid(raw: RawPredictions, indices: Tensor) -> Tensor:
    """Return the boxes of some points of a grid.

    Args:
        raw: predictions for B images, as grid_predictions returns them.
        indices: int64 [B, K], positions among the A points.

    Returns:
        float32 [B, K, 4] xyxy, input pixels, not clipped to the image.

    Example:
        >>> box_map = torch.tensor([0.5, 0.5, 0.5, 1.0, 0.8]).view(1, 5, 1, 1)  # a quarter of the width, all of the height
        >>> decode_grid(grid_predictions(box_map, torch.ones(1, 1, 1, 1), stride=64, boxes=1), torch.tensor([[0]]))
        tensor([[[24.,  0., 40., 64.]]])
    """
    values = raw.box_outputs.shape[-1]  # whole rows, since OpenVINO cannot gather from a part of them
    outputs = raw.box_outputs.gather(1, indices.unsqueeze(-1).expand(-1, -1, values))[..., :4].float()
    stride = raw.strides[indices].unsqueeze(-1)
    centre = raw.points[indices] + outputs[..., :2] * stride
    half = outputs[..., 2:].square() * (raw.points.amax(0) + raw.strides[0]) / 2
    return torch.cat([centre - half, centre + half], -1)


def grid_probabilities(raw: RawPredictions) -> Tensor:
    """Return the class probabilities of each point's cell, clipped to 0..1 since the network may exceed it: float32 [B, A, C].

    Example:
        >>> class_map = torch.tensor([1.2, 0.5]).view(1, 2, 1, 1)
        >>> grid_probabilities(grid_predictions(torch.zeros(1, 5, 1, 1), class_map, stride=64, boxes=1))
        tensor([[[1.0000, 0.5000]]])
    """
    return raw.box_outputs[..., VALUES:].float().clamp(0, 1)
