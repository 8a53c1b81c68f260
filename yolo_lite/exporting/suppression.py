"""NMS in plain torch operators, with shapes that torch.export can trace: what a .pt2 file holds in place of `ops.nms`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._higher_order_ops.while_loop import while_loop


def suppress(
    boxes: Tensor, scores: Tensor, *, labels: Tensor, iou_threshold: float, score_threshold: float, max_detections: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Keep the best boxes of each image, as `ops.nms_padded` does, and return them in rows.

    "Kept unless an earlier kept box overlaps it" is applied to all candidates until nothing changes. Each round settles
    at least the next candidate in order, so the loop ends, and its end is the result of greedy NMS.

    Args:
        boxes: float32 [B, N, 4] xyxy, with N >= 2.
        scores: float32 [B, N], descending in each image.
        labels: int64 [B, N].
        iou_threshold: the IoU above which the later box of a class is dropped.
        score_threshold: the score above which a box takes part.
        max_detections: K.

    Returns:
        boxes [B, K, 4], scores [B, K], labels int64 [B, K], each padded with zeros, and counts int32 [B].

    Example:
        >>> boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]]])  # IoU of the first two: 0.9
        >>> scores, labels = torch.tensor([[0.9, 0.8, 0.7]]), torch.zeros(1, 3, dtype=torch.int64)
        >>> rows = suppress(boxes, scores, labels=labels, iou_threshold=0.5, score_threshold=0.1, max_detections=2)
        >>> rows[1], rows[3]
        (tensor([[0.9000, 0.7000]]), tensor([2], dtype=torch.int32))
    """
    candidate = scores > float32_floor(score_threshold)
    # Pairs are costly, so only as many boxes as any image has above the threshold; int() would fix their number.
    total: Any = candidate.sum(1).max().clamp(min=2).item()
    torch._check(total >= 2)
    torch._check(total <= scores.shape[1])
    parts = (part[:, :total] for part in (boxes, scores, labels, candidate))
    boxes, scores, labels, candidate = (part.clone(memory_format=torch.contiguous_format) for part in parts)
    kept = _settled(candidate, _suppresses(boxes, labels, iou_threshold=float32_floor(iou_threshold)))
    rank = kept.cumsum(1) - 1
    place = torch.where(kept & (rank < max_detections), rank, max_detections)  # the last place takes all others

    def laid_out(values: Tensor) -> Tensor:
        room = values.new_zeros(values.shape[0], max_detections + 1)
        return room.scatter(1, place, values)[:, :max_detections]

    sides = torch.stack([laid_out(side) for side in boxes.unbind(-1)], -1)
    return sides, laid_out(scores), laid_out(labels), kept.sum(1).clamp(max=max_detections).int()


def float32_floor(value: float) -> float:
    """Return the largest float32 that is not above a number, so that x > value stays the same for every float32 x.

    Example:
        >>> float32_floor(0.25), float32_floor(0.05) < 0.05 < float(np.float32(0.05))
        (0.25, True)
    """
    single = np.float32(value)
    return float(single if float(single) <= value else np.nextafter(single, np.float32(-math.inf)))


def _settled(candidate: Tensor, suppresses: Tensor) -> Tensor:
    """Return which boxes are kept, bool [B, N]; `suppresses` [B, N, N] is true for later boxes only."""

    def survivors(kept: Tensor) -> Tensor:
        return candidate & ~(suppresses & kept.unsqueeze(-1)).any(1)

    def is_unsettled(kept: Tensor, before: Tensor) -> Tensor:
        return (kept != before).any()

    def next_round(kept: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        return survivors(kept), kept.clone()

    repeat: Any = while_loop  # torch gives it no types
    kept: Tensor = repeat(is_unsettled, next_round, (survivors(candidate), candidate.clone()))[0]
    return kept


def _suppresses(boxes: Tensor, labels: Tensor, *, iou_threshold: float) -> Tensor:
    """Return whether box i suppresses box j > i, by the same label and an IoU > threshold: bool [B, N, N]."""
    x1, y1, x2, y2 = boxes.unbind(-1)
    width = (_pairs(torch.minimum, x2) - _pairs(torch.maximum, x1)).clamp(min=0)
    height = (_pairs(torch.minimum, y2) - _pairs(torch.maximum, y1)).clamp(min=0)
    areas = (x2 - x1) * (y2 - y1)
    common = width * height
    union = _pairs(torch.add, areas) - common
    overlap = (common / union > iou_threshold) & _pairs(torch.eq, labels)  # NaN compares false
    return overlap.triu(1)


def _pairs(combine: Callable[[Tensor, Tensor], Tensor], values: Tensor) -> Tensor:
    """Return combine(values[i], values[j]) of every pair in an image: [B, N, N]."""
    return combine(values.unsqueeze(2), values.unsqueeze(1))
