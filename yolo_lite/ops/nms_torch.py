"""Exact greedy non-maximum suppression in plain torch: the definition that every faster backend must equal.

The boxes are visited in order of score, in blocks of 64. Each block is first compared with the boxes kept so far. Inside
the block every box starts as kept, and the rule "kept unless an earlier kept box overlaps it" is applied until nothing
changes. Each round settles at least the next box in order, so at most 64 rounds give exactly the greedy answer.

Before it calls a backend, ops.nms.nms_padded checks the arguments, and rounds score_threshold down to float32. It rounds
iou_threshold, too, unless the boxes are float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 64


def nms_padded_torch(
    boxes: Tensor,
    scores: Tensor,
    *,
    labels: Tensor | None,
    iou_threshold: float,
    score_threshold: float,
    max_detections: int,
) -> tuple[Tensor, Tensor]:
    """Suppress over a batch; return indices int64 [B, max_detections], padded with -1, and counts int32 [B].

    Args:
        boxes: float32 or float64 [B, N, 4]; overlaps are computed in this dtype.
        scores: float32 [B, N]; labels: integer [B, N], or None if all boxes compete.

    Example:
        >>> boxes, scores = torch.tensor([[[0.0, 0, 9, 9], [0, 0, 9, 10]]]), torch.tensor([[0.8, 0.9]])
        >>> nms_padded_torch(boxes, scores, labels=None, iou_threshold=0.5, score_threshold=0.0, max_detections=2)
        (tensor([[ 1, -1]]), tensor([1], dtype=torch.int32))
    """
    batch, total = scores.shape
    if labels is None:
        labels = torch.zeros(1, 1, dtype=torch.int64, device=boxes.device).expand(batch, total)
    candidate, order = _ranked(scores, score_threshold)
    order_boxes = boxes.gather(1, order.unsqueeze(-1).expand(-1, -1, 4))
    order_labels = labels.gather(1, order)
    kept_boxes = boxes.new_zeros(batch, max_detections + 1, 4)  # the last slot takes the boxes beyond the limit
    kept_labels = labels.new_zeros(batch, max_detections + 1)
    indices = order.new_full((batch, max_detections + 1), -1)
    counts = torch.zeros(batch, dtype=torch.int64, device=boxes.device)
    for start in range(0, total, BLOCK):
        block = slice(start, start + BLOCK)
        alive = candidate[:, block] & (counts < max_detections).unsqueeze(1)
        if not alive.any():  # waits for the device; the CUDA kernel needs no such check
            break
        most = int(counts.max())
        now_boxes, now_labels = order_boxes[:, block], order_labels[:, block]
        by_kept = _suppresses(
            kept_boxes[:, :most], kept_labels[:, :most], b=now_boxes, b_labels=now_labels, iou_threshold=iou_threshold
        )
        alive &= ~by_kept.any(1)  # free slots hold boxes without area, which suppress nothing
        inside = _suppresses(now_boxes, now_labels, b=now_boxes, b_labels=now_labels, iou_threshold=iou_threshold)
        keep = _settled(alive, inside.triu(1))
        position = counts.unsqueeze(1) + keep.cumsum(1) - 1
        position = torch.where(keep & (position < max_detections), position, max_detections)
        indices.scatter_(1, position, order[:, block])
        kept_boxes.scatter_(1, position.unsqueeze(-1).expand(-1, -1, 4), now_boxes)
        kept_labels.scatter_(1, position, now_labels)
        counts = (counts + keep.sum(1)).clamp(max=max_detections)
    return indices[:, :max_detections].contiguous(), counts.int()


def _ranked(scores: Tensor, score_threshold: float) -> tuple[Tensor, Tensor]:
    """Return whether the box of each rank takes part, bool [B, N], and the position of that box, int64 [B, N]."""
    keys = torch.where(scores > score_threshold, scores, float("-inf"))  # NaN compares false
    keys, order = torch.sort(keys + 0.0, dim=1, descending=True, stable=True)  # + 0.0 makes -0.0 equal 0.0
    return keys > float("-inf"), order


def _settled(alive: Tensor, suppresses: Tensor) -> Tensor:
    """Return which boxes of a block are kept, bool [B, N]; `suppresses` [B, N, N] is true for later boxes only."""
    keep = alive
    while True:
        settled = alive & ~(suppresses & keep.unsqueeze(-1)).any(1)
        if torch.equal(settled, keep):
            return keep
        keep = settled


def _suppresses(a: Tensor, a_labels: Tensor, *, b: Tensor, b_labels: Tensor, iou_threshold: float) -> Tensor:
    """Return whether a[i] suppresses b[j], by the same label and a rounded IoU > threshold: bool [B, I, J].

    An empty or NaN union needs no guard: NaN compares false, so nothing is suppressed.
    """
    a_x1, a_y1, a_x2, a_y2 = a.unsqueeze(2).unbind(-1)  # [B, I, 1]
    b_x1, b_y1, b_x2, b_y2 = b.unsqueeze(1).unbind(-1)  # [B, 1, J]
    width = (torch.minimum(a_x2, b_x2) - torch.maximum(a_x1, b_x1)).clamp(min=0)
    height = (torch.minimum(a_y2, b_y2) - torch.maximum(a_y1, b_y1)).clamp(min=0)
    intersection = width * height
    union = (a_x2 - a_x1) * (a_y2 - a_y1) + (b_x2 - b_x1) * (b_y2 - b_y1) - intersection
    return (intersection / union > iou_threshold) & (a_labels.unsqueeze(2) == b_labels.unsqueeze(1))
