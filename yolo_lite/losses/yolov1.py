"""YOLOv1's loss (Redmon et al. 2016, equation 3): squared errors on a grid of cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from yolo_lite.ops import paired_iou
from yolo_lite.structures.batches import Batch, RawPredictions

Decode = Callable[[RawPredictions, Tensor], Tensor]
_VALUES = 5  # outputs of a box before the class probabilities


class Responsibility(NamedTuple):
    """Which predictor answers for which object; K objects, those that share a cell with a larger one left out."""

    image: Tensor  # int64 [K]
    box: Tensor  # int64 [K], position among the image's boxes
    point: Tensor  # int64 [K], position among the A points
    iou: Tensor  # float32 [K], of the predicted box with the object


def yolov1_loss(raw: RawPredictions, batch: Batch, *, decode: Decode, boxes_per_cell: int) -> dict[str, Tensor]:
    """Return the unweighted parts of the loss, each a sum of squares divided by the number of images.

    - "coord": of x, y (in cells), and square roots of width and height (shares of the image), where responsible.
    - "object": of the confidence against the IoU with the object, where responsible.
    - "no_object": of the confidence of every other predictor, against 0.
    - "class": of the class probabilities of each cell in which an object's centre lies.

    In images that are labelled for some classes only, "no_object" is left out, since what is there may be an object.

    Args:
        raw: of a GridHead, with gradient.
        batch: boxes and labels in input pixels.
        decode: the head's own.
        boxes_per_cell: predictors of a cell.
    """
    outputs = raw.box_outputs.float()
    with torch.no_grad():
        every = torch.arange(len(raw.points), device=raw.points.device).expand(len(outputs), -1)
        answers = responsible(decode(raw, every), raw, batch=batch, boxes_per_cell=boxes_per_cell)
    values = outputs[answers.image, answers.point]  # [K, 5 + C]
    wanted = batch.boxes[answers.image, answers.box].float()
    labels = batch.labels[answers.image, answers.box]
    stride, size = raw.strides[0], raw.points.amax(0) + raw.strides[0]
    centres = ((wanted[:, :2] + wanted[:, 2:]) / 2 - raw.points[answers.point]) / stride
    roots = ((wanted[:, 2:] - wanted[:, :2]).clamp(min=0) / size).sqrt()
    free = torch.ones_like(outputs[..., 4])
    free[answers.image, answers.point] = 0
    if batch.unlabelled is not None and len(batch.unlabelled):
        free[batch.unlabelled[:, 0]] = 0
    probabilities = values[:, _VALUES:]
    truth = F.one_hot(labels, probabilities.shape[1]).to(probabilities)
    sums = {
        "coord": (values[:, :4] - torch.cat([centres, roots], 1)).square().sum(),
        "object": (values[:, 4] - answers.iou).square().sum(),
        "no_object": (free * outputs[..., 4].square()).sum(),
        "class": (probabilities - truth).square().sum(),
    }
    return {name: value / len(outputs) for name, value in sums.items()}


def responsible(boxes: Tensor, raw: RawPredictions, *, batch: Batch, boxes_per_cell: int) -> Responsibility:
    """Find the predictors that answer for objects.

    An object belongs to the cell in which its centre lies (on a border: to the cell on the right or below, at the
    image's end to the last). Of several in a cell the largest stays, of equals the first, since a cell has one set of
    class probabilities. Of the cell's predictors the one with the highest IoU answers; where every IoU is 0, the one
    whose x, y, width and height are nearest (as Darknet does).

    Args:
        boxes: predicted, [B, A, 4] xyxy, input pixels, without gradient.
        raw: their points and strides.
        batch: N objects an image.
        boxes_per_cell: predictors of a cell.
    """
    stride = raw.strides[0]
    grid = ((raw.points.amax(0) + stride) / stride).long()  # cells along x and y
    targets = batch.boxes.float()
    cell_xy = (((targets[..., :2] + targets[..., 2:]) / 2) / stride).floor().long().clamp(min=0)
    cell_xy = torch.minimum(cell_xy, grid - 1)
    cell = cell_xy[..., 1] * grid[0] + cell_xy[..., 0]  # [B, N]
    here = F.one_hot(cell, int(grid.prod())).bool() & (batch.labels >= 0).unsqueeze(-1)  # [B, N, cells]
    sides = targets[..., 2:] - targets[..., :2]
    areas = (sides[..., 0] * sides[..., 1]).unsqueeze(-1).masked_fill(~here, -1.0)
    largest = here & (areas == areas.amax(1, keepdim=True)) if areas.shape[1] else here
    chosen = largest & (largest.cumsum(1) == 1)
    image, box, place = chosen.nonzero(as_tuple=True)
    cells = boxes.view(len(boxes), -1, boxes_per_cell, 4)  # [B, cells, boxes, 4]
    rivals = cells[image, place]  # [K, boxes, 4]
    wanted = targets[image, box].unsqueeze(1).expand_as(rivals)
    overlaps = paired_iou(rivals.reshape(-1, 4), wanted.reshape(-1, 4)).view(-1, boxes_per_cell)
    distances = (_centre_and_size(rivals) - _centre_and_size(wanted)).square().sum(-1)
    best, by_overlap = overlaps.max(1)
    winner = torch.where(best > 0, by_overlap, distances.argmin(1))
    return Responsibility(image, box, point=place * boxes_per_cell + winner, iou=best)


def _centre_and_size(boxes: Tensor) -> Tensor:
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], -1)
