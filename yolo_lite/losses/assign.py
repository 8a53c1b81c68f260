"""Assigners decide which points answer for which box, and how sure of it each should be.

Both are vectorised over the batch. A point that several boxes claim goes to the claiming box that it overlaps most,
the lowest index on ties.
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
    """For every point the box it answers for, and its target score."""

    box_index: Tensor  # int64 [B, A], position among the image's boxes; -1 for background
    target_score: Tensor  # float32 [B, A] in 0..1, for the class of that box; 0 for background


class Candidates(NamedTuple):
    """What is predicted at the A points that boxes are assigned to, without gradient."""

    scores: Tensor  # [B, A, C] in 0..1
    boxes: Tensor  # [B, A, 4] xyxy, input pixels
    points: Tensor  # [A, 2] x, y, input pixels
    strides: Tensor  # [A], input pixels between neighbouring points


class Targets(NamedTuple):
    """The boxes of a batch, padded."""

    boxes: Tensor  # float32 [B, N, 4] xyxy, input pixels
    labels: Tensor  # int64 [B, N], -1 in the padding


def task_aligned(
    candidates: Candidates, targets: Targets, *, top_k: int = 10, alpha: float = 1.0, beta: float = 6.0
) -> Assignment:
    """Give each box the points whose predictions fit it best by class and by place (TOOD, Feng et al. 2021).

    The alignment of a point with a box is score^alpha * IoU^beta (equation 2), the score being that of the box's class.
    A box claims the `top_k` points of highest positive alignment, the lower index on ties, among the points inside it.
    A box with a side below the second stride is grown to that, about its centre, when it is asked which points are
    inside, so that a tiny box still has candidates. The target score is the alignment scaled so that the best point
    of the box has the highest IoU of the box (equation 3 ff.). On the CPU the C extension, where it was built, does the
    work for exponents in halves, with the same result bit for bit.

    Args:
        candidates: the points of B images.
        targets: N boxes for each image.
        top_k: points that a box claims at most.
        alpha, beta: exponents of score and IoU.

    Returns:
        The assignment; with N = 0 everything is background.

    Raises:
        ValueError: if an exponent is negative or not finite.
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
    """Compute `task_aligned` for every pair of box and point, on any device: the definition, for at least one box."""
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

    Every point carries a square of 5 strides. On each level the `top_k` points nearest to the box's centre are
    candidates; those whose square's IoU with the box reaches the mean plus the standard deviation over the candidates,
    and that lie inside the box, answer for it; where none does, the point inside whose square overlaps it most does. The
    target score is that IoU divided by the box's highest, so a tiny
    network that predicts nothing useful yet still learns from every box. Arguments and result as for `task_aligned`,
    so that the two can be exchanged; scores and boxes are not looked at.
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
    for stride in torch.unique(
        strides
    ).tolist():  # three or four levels; waits for the device once, in the warm-up phase
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
    """Return boxes [B, N, 4] with every side at least the second smallest stride, about the same centres."""
    levels = torch.unique(strides)  # sorted
    least = levels[min(1, len(levels) - 1)]
    centres, sizes = (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
    half = torch.maximum(sizes, least) / 2
    small = (sizes < least).repeat(1, 1, 2)
    return torch.where(small, torch.cat([centres - half, centres + half], -1), boxes)


def _in_halves(exponent: float) -> bool:
    return 2 * exponent == int(2 * exponent)


def _power(values: Tensor, exponent: float) -> Tensor:
    """Raise to a power, a multiple of 1/2 by a root and squaring, of which each step is rounded alike on every device."""
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
    """Mark the k highest entries of the last dimension, the lower index on ties: bool of the same shape."""
    k = min(k, values.shape[-1])
    lowest = values.topk(k, -1).values[..., -1:]
    above, equal = values > lowest, values == lowest
    room = k - above.sum(-1, keepdim=True)
    return above | (equal & (equal.cumsum(-1) <= room))


def _resolve(claimed: Tensor, iou: Tensor) -> Tensor:
    """Return for each point the claiming box of highest IoU, the lowest index on ties, or -1: int64 [B, A]."""
    contest = torch.where(claimed, iou, -1.0)
    best = contest.amax(1, keepdim=True)
    number = torch.arange(claimed.shape[1], device=iou.device).view(1, -1, 1)
    # argmax does not promise the first of equals on every device
    first = torch.where(contest == best, number, claimed.shape[1]).amin(1)
    return torch.where(best.squeeze(1) > -1, first, -1)


def _of_own_box(values: Tensor, box_index: Tensor) -> Tensor:
    """Pick from values [B, N, A] the entry of each point's own box: [B, A], 0 for background."""
    own = values.gather(1, box_index.clamp(min=0).unsqueeze(1)).squeeze(1)
    return torch.where(box_index >= 0, own, 0.0)
