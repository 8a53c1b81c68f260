"""The detector's loss: soft-target cross-entropy for classes, CIoU and L1 for boxes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from yolo_lite.losses.assign import Assignment, Targets
from yolo_lite.ops import paired_iou
from yolo_lite.structures import Batch, RawPredictions

Decode = Callable[[RawPredictions, Tensor], Tensor]
Assign = Callable[[Tensor, Tensor, Tensor, Tensor, Targets], Assignment]


def detection_loss(
    raw: RawPredictions, batch: Batch, decode: Decode, assign: Assign, box_kind: str = "ciou"
) -> dict[str, Tensor]:
    """Return the unweighted parts of the loss, each a scalar divided by the sum of target scores (at least 1).

    - "class": binary cross-entropy of every class at every point, with the assigner's score as soft target (TOOD, Feng
      et al. 2021).
    - "box": target score * (1 - CIoU) at the assigned points (Zheng et al. 2020).
    - "l1": target score * mean absolute difference of the four sides, in strides of the point.

    Args:
        raw: of the batch's B pictures, with gradient.
        batch: boxes and labels in input pixels.
        decode: the head's own.
        assign: one of losses/assign.py, its settings bound.
        box_kind: a kind of ops.box_iou.
    """
    every = torch.arange(len(raw.points), device=raw.points.device).expand(len(batch.images), -1)
    boxes = decode(raw, every)  # [B, A, 4]
    logits = raw.class_logits.float()
    targets = Targets(batch.boxes, batch.labels)
    with torch.no_grad():
        assignment = assign(logits.sigmoid(), boxes, raw.points, raw.strides, targets)
        class_targets = _class_targets(assignment, targets, logits)
        total = assignment.target_score.sum().clamp(min=1)
    classes = F.binary_cross_entropy_with_logits(logits, class_targets, reduction="sum")
    # How many points are assigned decides the shape below: on CUDA this waits for the device, once a step.
    picture, point = (assignment.box_index >= 0).nonzero(as_tuple=True)
    weight = assignment.target_score[picture, point]
    predicted = boxes[picture, point]
    wanted = targets.boxes[picture, assignment.box_index[picture, point]]
    overlap = paired_iou(predicted, wanted, box_kind)
    difference = (predicted - wanted).abs().mean(-1) / raw.strides[point]
    return {
        "class": classes / total,
        "box": (weight * (1 - overlap)).sum() / total,
        "l1": (weight * difference).sum() / total,
    }


def _class_targets(assignment: Assignment, targets: Targets, logits: Tensor) -> Tensor:
    """Put each point's target score at the class of its box: float32 [B, A, C], zero elsewhere."""
    result = torch.zeros_like(logits)
    if targets.labels.shape[1] == 0:
        return result
    label = targets.labels.gather(1, assignment.box_index.clamp(min=0)).clamp(min=0)  # [B, A]
    return result.scatter_(2, label.unsqueeze(-1), assignment.target_score.unsqueeze(-1))
