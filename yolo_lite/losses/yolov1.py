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
    """The predictor that answers for each of K objects; an object that shares a cell with a larger one is left out."""

    image: Tensor  # int64 [K], position in the batch
    box: Tensor  # int64 [K], position among the image's boxes
    point: Tensor  # int64 [K], position among the A points
    iou: Tensor  # float32 [K], IoU of the predicted box with the object


def yolov1_loss(raw: RawPredictions, batch: Batch, *, decode: Decode, boxes_per_cell: int) -> dict[str, Tensor]:
    """Return the unweighted parts of the loss, each a sum of squares divided by the number of images.

    - "coord": errors of x and y (in cells) and of the square roots of width and height (as fractions of the image), of
      the responsible predictors.
    - "object": errors of their confidence, whose target is the IoU with the object.
    - "no_object": the confidence of every other predictor, whose target is 0.
    - "class": errors of the class probabilities, in each cell that holds an object's centre.

    Images that are labelled for some classes only don't count in "no_object", since they may show unlabelled objects.

    Args:
        raw: predictions of a GridHead, with gradient.
        batch: boxes and labels in input pixels.
        decode: the head's `decode`.
        boxes_per_cell: predictors in each cell.

    Example:
        >>> from yolo_lite.models.heads.grid import decode_grid, grid_predictions
        >>> box_map = torch.tensor([0.5, 0.5, 0.5, 0.5, 1.0]).view(1, 5, 1, 1)  # the middle quarter of the image, confidence 1
        >>> raw = grid_predictions(box_map, torch.ones(1, 1, 1, 1), stride=64, boxes=1)
        >>> boxes, labels = torch.tensor([[[24.0, 24, 40, 40]]]), torch.tensor([[0]])
        >>> batch = Batch(torch.zeros(1, 3, 64, 64), boxes, labels=labels, positions=torch.tensor([0]))
        >>> {name: value.item() for name, value in yolov1_loss(raw, batch, decode=decode_grid, boxes_per_cell=1).items()}
        {'coord': 0.0, 'object': 0.0, 'no_object': 0.0, 'class': 0.0}
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

    An object belongs to the cell that holds its centre. A centre on a border belongs to the cell on the right or below,
    or to the last cell at the image's edge. A cell has one set of class probabilities, so only the largest of its
    objects stays (ties: the first). The cell's predictor with the highest IoU answers. If every IoU is 0, it is the one
    whose x, y, width and height are nearest, as in Darknet.

    Args:
        boxes: predicted boxes [B, A, 4] xyxy, input pixels, without gradient.
        raw: the predictions, for their points and strides.
        batch: N objects for each image.
        boxes_per_cell: predictors in each cell.

    Example:
        >>> predicted = torch.tensor([[[0.0, 0, 64, 64], [24, 24, 40, 40]]])  # two predictors of the only cell
        >>> points, strides = torch.zeros(2, 2), torch.tensor([64.0, 64])
        >>> raw = RawPredictions(torch.zeros(1, 2, 6), torch.zeros(1, 2, 1), points=points, strides=strides)
        >>> objects, labels = torch.tensor([[[24.0, 24, 40, 32]]]), torch.tensor([[0]])
        >>> batch = Batch(torch.zeros(1, 3, 64, 64), objects, labels=labels, positions=torch.tensor([0]))
        >>> answers = responsible(predicted, raw, batch=batch, boxes_per_cell=2)
        >>> answers.point, answers.iou
        (tensor([1]), tensor([0.5000]))
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
