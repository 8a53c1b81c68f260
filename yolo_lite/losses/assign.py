"""Assigners decide which points answer for which box, and which score each of them should reach.

Both work on a whole batch at once. If several boxes claim a point, it goes to the box that its prediction overlaps most
(ties: the lowest index).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from yolo_lite.ops import backend, box_iou, points_in_boxes
from yolo_lite.ops.native import Objects, task_aligned_native


class Assignment(NamedTuple):
    """The box that each point answers for, and the target score of each point."""

    box_index: Tensor  # int64 [B, A], position among the image's boxes; -1 for background
    target_score: Tensor  # float32 [B, A] in 0..1, for the class of that box; 0 for background


class Candidates(NamedTuple):
    """The predictions at the A points that boxes are assigned to, without gradient."""

    scores: Tensor  # [B, A, C] in 0..1
    boxes: Tensor  # [B, A, 4] xyxy, input pixels
    points: Tensor  # [A, 2] x, y, input pixels
    strides: Tensor  # [A], input pixels between neighbouring points


class Targets(NamedTuple):
    """The ground-truth boxes of a batch, padded to N for each image."""

    boxes: Tensor  # float32 [B, N, 4] xyxy, input pixels
    labels: Tensor  # int64 [B, N], -1 in the padding


def task_aligned(
    candidates: Candidates, targets: Targets, *, top_k: int = 10, alpha: float = 1.0, beta: float = 6.0
) -> Assignment:
    """Give each box the points whose predictions fit it best in class and position (TOOD, Feng et al. 2021).

    A point's alignment with a box is score^alpha * IoU^beta, with the score of the box's class (equation 2). Of the
    points inside it, a box claims the `top_k` with the highest positive alignment (ties: the lower index). For this,
    sides shorter than the second stride are grown to it, so that a tiny box has candidates too. The target score is the
    alignment, scaled so that a box's best point gets the box's highest IoU (equation 3 ff.). The C extension, if built,
    computes the same bits on the CPU for exponents that are multiples of 1/2.

    Args:
        candidates: predictions for B images.
        targets: N boxes for each image; with N = 0 every point is background.
        top_k: the most points that a box claims.
        alpha, beta: exponents of score and IoU.

    Raises:
        ValueError: if an exponent is negative or not finite.

    Example:
        >>> boxes = torch.tensor([[[0.0, 0, 16, 16], [0, 0, 16, 8], [16, 0, 32, 16]]])  # IoU 1, 1/2 and 0
        >>> points, strides = torch.tensor([[4.0, 4], [12, 4], [20, 4]]), torch.tensor([8.0, 8, 8])
        >>> candidates = Candidates(torch.full((1, 3, 1), 0.5), boxes, points=points, strides=strides)
        >>> targets = Targets(torch.tensor([[[0.0, 0, 16, 16]]]), torch.tensor([[0]]))
        >>> [values.tolist() for values in task_aligned(candidates, targets, alpha=1, beta=1)]
        [[[0, 0, -1]], [[1.0, 0.5, 0.0]]]
    """
    if not (0 <= alpha < math.inf and 0 <= beta < math.inf):
        raise ValueError(f"alpha and beta must be at least 0 and finite, got {alpha} and {beta}")
    if targets.boxes.shape[1] == 0:
        return _background(candidates.scores)
    if backend(candidates.scores.device) == "native" and _in_halves(alpha) and _in_halves(beta):
        grown = _grown(targets.boxes, candidates.strides).float()
        objects = Objects(targets.boxes.float(), targets.labels.long(), grown=grown)
        box_index, target_score = task_aligned_native(
            candidates.scores.float(),
            candidates.boxes.float(),
            points=candidates.points.float(),
            objects=objects,
            top_k=top_k,
            exponents=(alpha, beta),
        )
        return Assignment(box_index, target_score)
    return task_aligned_torch(candidates, targets, top_k=top_k, alpha=alpha, beta=beta)


def task_aligned_torch(
    candidates: Candidates, targets: Targets, *, top_k: int, alpha: float, beta: float
) -> Assignment:
    """Compute `task_aligned` for every pair of box and point, on any device; this is the definition, for N >= 1.

    Example:
        >>> boxes, points = torch.tensor([[[0.0, 0, 16, 8]]]), torch.tensor([[4.0, 4]])
        >>> candidates = Candidates(torch.full((1, 1, 1), 0.5), boxes, points=points, strides=torch.tensor([8.0]))
        >>> targets = Targets(torch.tensor([[[0.0, 0, 16, 16]]]), torch.tensor([[0]]))
        >>> task_aligned_torch(candidates, targets, top_k=10, alpha=1, beta=6).target_score.tolist()  # the IoU
        [[0.5]]
    """
    scores, boxes = candidates.scores.float(), candidates.boxes.float()
    grown = _grown(targets.boxes, candidates.strides)
    real = targets.labels >= 0  # [B, N]
    inside = points_in_boxes(candidates.points, grown) & real.unsqueeze(-1)  # [B, N, A]
    iou = box_iou(targets.boxes, boxes)
    class_scores = scores.transpose(1, 2).gather(
        1, targets.labels.clamp(min=0).unsqueeze(-1).expand(-1, -1, scores.shape[1])
    )
    alignment = _power(class_scores, alpha) * _power(iou, beta)
    alignment = torch.where(inside & (alignment > 0) & (iou >= 0), alignment, 0.0)  # NaN compares false
    claimed = _top(alignment, top_k) & (alignment > 0)
    box_index = _resolve(claimed, iou)
    best_alignment = (alignment * claimed).amax(-1, keepdim=True)
    best_iou = torch.where(claimed, iou, 0.0).amax(-1, keepdim=True)
    scaled = alignment / best_alignment.clamp(min=torch.finfo(alignment.dtype).tiny) * best_iou
    return Assignment(box_index, _of_own_box(scaled, box_index))


def static(candidates: Candidates, targets: Targets, *, top_k: int = 9) -> Assignment:
    """Give each box points by geometry alone, whatever is predicted (after ATSS, Zhang et al. 2020).

    Every point carries a square of 5 x 5 strides. On each level the `top_k` points nearest to the box's centre are its
    candidates. A candidate inside the box answers for it if its square's IoU with the box reaches the mean plus the
    standard deviation over the candidates. If no candidate does, the point inside whose square overlaps the box most
    answers. The target score is that IoU divided by the highest of the box, so even an untrained network learns from
    every box. Arguments and result are those of `task_aligned`; predicted scores and boxes are ignored.

    Example:
        >>> points, strides = torch.tensor([[20.0, 20], [28, 28], [36, 36]]), torch.full((3,), 8.0)
        >>> candidates = Candidates(torch.zeros(1, 3, 1), torch.zeros(1, 3, 4), points=points, strides=strides)
        >>> targets = Targets(torch.tensor([[[8.0, 8, 48, 48]]]), torch.tensor([[0]]))  # centre 28, 28
        >>> static(candidates, targets).box_index.tolist()
        [[-1, 0, -1]]
    """
    if targets.boxes.shape[1] == 0:
        return _background(candidates.scores)
    points, strides = candidates.points, candidates.strides
    real = (targets.labels >= 0).unsqueeze(-1)
    inside = points_in_boxes(points, _grown(targets.boxes, strides)) & real  # [B, N, A]
    half = 2.5 * strides.unsqueeze(-1)
    iou = box_iou(targets.boxes, torch.cat([points - half, points + half], -1))
    centres = (targets.boxes[..., :2] + targets.boxes[..., 2:]) / 2
    nearness = -(centres.unsqueeze(-2) - points).square().sum(-1)
    nearest = torch.zeros_like(inside)
    # Three or four levels. Reading them waits for the device, once a step while this assigner is in use.
    for stride in torch.unique(strides).tolist():
        level = strides == stride
        nearest[..., level] = _top(nearness[..., level], top_k)
    count = nearest.sum(-1, keepdim=True)
    mean = (iou * nearest).sum(-1, keepdim=True) / count
    deviation = (((iou - mean).square() * nearest).sum(-1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
    claimed = nearest & inside & (iou >= mean + deviation) & (iou > 0)
    lonely = ~claimed.any(-1, keepdim=True)
    claimed |= lonely & inside & (iou > 0) & _top(iou.masked_fill(~inside, -1), 1)
    box_index = _resolve(claimed, iou)
    scaled = iou / (iou * claimed).amax(-1, keepdim=True).clamp(min=1e-9)
    return Assignment(box_index, _of_own_box(scaled, box_index))


ASSIGNERS: dict[str, Callable[..., Assignment]] = {"static": static, "task_aligned": task_aligned}


def _background(scores: Tensor) -> Assignment:
    shape = scores.shape[:2]
    return Assignment(
        torch.full(shape, -1, dtype=torch.int64, device=scores.device), torch.zeros(shape, device=scores.device)
    )


def _grown(boxes: Tensor, strides: Tensor) -> Tensor:
    """Return boxes [B, N, 4] with the same centres, grown until no side is shorter than the second smallest stride."""
    levels = torch.unique(strides)  # sorted
    least = levels[min(1, len(levels) - 1)]
    centres, sizes = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    half = torch.maximum(sizes, least) / 2
    small = (sizes < least).repeat(1, 1, 2)
    return torch.where(small, torch.cat([centres - half, centres + half], -1), boxes)


def _in_halves(exponent: float) -> bool:
    return 2 * exponent == int(2 * exponent)


def _power(values: Tensor, exponent: float) -> Tensor:
    """Raise to a power. Multiples of 1/2 take a root and squarings, whose every step rounds alike on all devices."""
    if not _in_halves(exponent):
        return values.pow(exponent)
    whole = exponent == int(exponent)
    result = torch.ones_like(values) if whole else values.double().sqrt().float()  # in float32 MKL may be off by a bit
    first, left = whole, int(exponent)
    while left:
        if left & 1:
            result, first = (values if first else result * values), False
        left >>= 1
        values = values * values
    return result


def _top(values: Tensor, k: int) -> Tensor:
    """Mark the k highest entries of the last dimension (ties: the lower index): bool of the same shape."""
    k = min(k, values.shape[-1])
    lowest = values.topk(k, -1).values[..., -1:]
    above, equal = values > lowest, values == lowest
    room = k - above.sum(-1, keepdim=True)
    return above | (equal & (equal.cumsum(-1) <= room))


def _resolve(claimed: Tensor, iou: Tensor) -> Tensor:
    """Return each point's claiming box of highest IoU (ties: the lowest index), or -1 if none: int64 [B, A]."""
    contest = torch.where(claimed, iou, -1.0)
    best = contest.amax(1, keepdim=True)
    number = torch.arange(claimed.shape[1], device=iou.device).view(1, -1, 1)
    # argmax does not promise the first of several equal maxima on every device
    first = torch.where(contest == best, number, claimed.shape[1]).amin(1)
    return torch.where(best.squeeze(1) > -1, first, -1)


def _of_own_box(values: Tensor, box_index: Tensor) -> Tensor:
    """Return the entry of values [B, N, A] for each point's own box: [B, A], 0 for background."""
    own = values.gather(1, box_index.clamp(min=0).unsqueeze(1)).squeeze(1)
    return torch.where(box_index >= 0, own, 0.0)
