"""The detector's loss: soft-target cross-entropy for classes, CIoU and L1 (and distribution focal loss) for boxes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from yolo_lite.losses.assign import Assignment, Candidates, Targets
from yolo_lite.ops import paired_iou
from yolo_lite.structures.batches import Batch, RawPredictions

Divisor = Callable[[Tensor], Tensor]  # takes the total of some scores, a scalar; returns what the loss is divided by


def at_least_one(total: Tensor) -> Tensor:
    """Return the total of some scores as the divisor of a loss, but at least 1.

    Example:
        >>> at_least_one(torch.tensor(0.25))
        tensor(1.)
    """
    return total.clamp(min=1)


class AssignedHead(Protocol):
    """What this loss needs of a head.

    Attributes:
        bins: distances in the distribution of each side of a box; 0 for a head that predicts distances themselves.
    """

    bins: int

    def decode(self, raw: RawPredictions, indices: Tensor) -> Tensor:
        """Return the boxes [B, K, 4] of the points `indices` [B, K]: xyxy, input pixels."""


class Assigner(Protocol):
    """An assigner of losses/assign.py with its settings bound."""

    def __call__(self, candidates: Candidates, targets: Targets) -> Assignment:
        """Return which point answers for which box."""


def detection_loss(
    raw: RawPredictions,
    batch: Batch,
    *,
    head: AssignedHead,
    assign: Assigner,
    box_kind: str = "ciou",
    gamma: float = 0.0,
    divisor: Divisor = at_least_one,
) -> dict[str, Tensor]:
    """Return the unweighted parts of the loss, each a scalar divided by the sum of target scores (at least 1).

    - "class": binary cross-entropy of every class at every point, with the target score as soft target (TOOD, Feng et
      al. 2021), times |score - target|^gamma (quality focal loss, Li et al. 2020, equation 5).
    - "box": target score * (1 - CIoU) at the assigned points (Zheng et al. 2020).
    - "l1": target score * mean absolute difference of the four sides, in strides of the point.
    - "dfl", only for heads with distance bins: target score * distribution focal loss (Li et al. 2020, equation 6).

    Args:
        raw: predictions for the batch's B images, with gradient.
        batch: boxes and labels in input pixels.
        head: the head that made the predictions.
        assign: an assigner of losses/assign.py with its settings bound.
        box_kind: the kind of overlap, as for ops.box_iou.
        gamma: 0 is plain cross-entropy; with 2, points that are nearly right count for little.
        divisor: turns the sum of target scores into the divisor.

    Example:
        >>> from yolo_lite.config.schema import Config
        >>> from yolo_lite.losses.assign import static
        >>> from yolo_lite.models.build import build_detector
        >>> images, boxes = torch.zeros(1, 3, 64, 64), torch.tensor([[[8.0, 8, 48, 48]]])
        >>> batch, model = Batch(images, boxes, labels=torch.tensor([[0]]), positions=torch.tensor([0])), build_detector(Config(), 2)
        >>> sorted(detection_loss(model(images), batch, head=model.head, assign=static))
        ['box', 'class', 'l1']
    """
    every = torch.arange(len(raw.points), device=raw.points.device).expand(len(batch.images), -1)
    boxes = head.decode(raw, every)  # [B, A, 4]
    logits = raw.class_logits.float()
    targets = Targets(batch.boxes, batch.labels)
    with torch.no_grad():
        assignment = assign(Candidates(logits.sigmoid(), boxes, points=raw.points, strides=raw.strides), targets)
        class_targets = _class_targets(assignment, targets, logits)
        total = divisor(assignment.target_score.sum())
        asked = _asked(batch, class_targets)
    classes = F.binary_cross_entropy_with_logits(logits, class_targets, asked, reduction="none")
    if gamma:
        classes = classes * (logits.sigmoid() - class_targets).abs() ** gamma
    sums = _box_sums(raw, boxes, targets=targets, assignment=assignment, box_kind=box_kind, bins=head.bins)
    return {name: value / total for name, value in {"class": classes.sum(), **sums}.items()}


def _box_sums(
    raw: RawPredictions, boxes: Tensor, *, targets: Targets, assignment: Assignment, box_kind: str, bins: int
) -> dict[str, Tensor]:
    """Return the parts of the loss about boxes, summed over the assigned points."""
    # How many points are assigned decides the shape below: on CUDA this waits for the device, once a step.
    image, point = (assignment.box_index >= 0).nonzero(as_tuple=True)
    weight = assignment.target_score[image, point]
    predicted = boxes[image, point]
    wanted = targets.boxes[image, assignment.box_index[image, point]]
    overlap = paired_iou(predicted, wanted, kind=box_kind)
    difference = (predicted - wanted).abs().mean(-1) / raw.strides[point]
    sums = {"box": (weight * (1 - overlap)).sum(), "l1": (weight * difference).sum()}
    if bins:
        outputs = raw.box_outputs[image, point].float().view(-1, 4, bins)
        origin, stride = raw.points[point], raw.strides[point].unsqueeze(-1)
        distances = torch.cat([origin - wanted[:, :2], wanted[:, 2:] - origin], -1) / stride
        sums["dfl"] = (weight * distribution_focal_loss(outputs, distances).mean(-1)).sum()
    return sums


def distribution_focal_loss(logits: Tensor, distances: Tensor) -> Tensor:
    """Return the cross-entropy against the two bins around a distance, weighted by nearness (Li et al. 2020, equation 6).

    Args:
        logits: [..., bins]; bin i stands for distance i.
        distances: [...], in bins; a distance beyond the last bin counts as that bin.

    Returns:
        float32 [...].

    Example:
        >>> logits = torch.tensor([[0.5, 0.25, 0.25]]).log()
        >>> round(distribution_focal_loss(logits, torch.tensor([0.5])).item(), 4)  # (log 2 + log 4) / 2
        1.0397
    """
    bins = logits.shape[-1]
    distances = distances.clamp(0, bins - 1)
    lower = distances.floor().clamp(max=bins - 2)
    upper = (distances - lower).unsqueeze(-1)  # weight of the upper bin
    place = lower.long().unsqueeze(-1)
    surprise = -logits.log_softmax(-1)
    return (surprise.gather(-1, place) * (1 - upper) + surprise.gather(-1, place + 1) * upper).squeeze(-1)


def _class_targets(assignment: Assignment, targets: Targets, logits: Tensor) -> Tensor:
    """Return each point's target score at the class of its box, zero elsewhere: float32 [B, A, C]."""
    result = torch.zeros_like(logits)
    if targets.labels.shape[1] == 0:
        return result
    label = targets.labels.gather(1, assignment.box_index.clamp(min=0)).clamp(min=0)  # [B, A]
    return result.scatter_(2, label.unsqueeze(-1), assignment.target_score.unsqueeze(-1))


def _asked(batch: Batch, class_targets: Tensor) -> Tensor | None:
    """Return weights float32 [B, A, C]: 0 for a class without object that its image is not labelled for, else 1 (None: all 1)."""
    if batch.unlabelled is None or not len(batch.unlabelled):
        return None
    unlabelled = class_targets.new_zeros(len(batch.images), 1, class_targets.shape[-1])
    unlabelled[batch.unlabelled[:, 0], 0, batch.unlabelled[:, 1]] = 1
    return 1 - unlabelled * (class_targets == 0)
