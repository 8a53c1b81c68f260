"""The intersection over union and its relatives, of every pair or of matching rows."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from yolo_lite.ops.boxes import box_area, check_boxes

KINDS = ("iou", "giou", "diou", "ciou")


def box_iou(boxes1: Tensor, boxes2: Tensor, kind: str = "iou", eps: float = 1e-7) -> Tensor:
    """Return the overlap of every pair of boxes.

    Args:
        boxes1: [..., N, 4] xyxy in any one unit, with x1 <= x2 and y1 <= y2.
        boxes2: [..., M, 4] xyxy in the same unit.
        kind: "iou", in 0..1; "giou", in -1..1, falls with the empty part of the enclosing box (Rezatofighi et al. 2019,
            equation 4); "diou" falls with the distance of the centres (Zheng et al. 2020, equation 7); "ciou" also
            with the difference of aspect ratios (same paper, equations 8 to 11).
        eps: keeps the denominators of diou and ciou from zero.

    Returns:
        float32 [..., N, M]; a pair whose union is empty has IoU 0, never NaN.

    Raises:
        ValueError: if an input is not [..., 4] or the kind is unknown.
    """
    check_boxes(boxes1, "boxes1")
    check_boxes(boxes2, "boxes2")
    return _iou(boxes1.unsqueeze(-2), boxes2.unsqueeze(-3), kind, eps)


def paired_iou(boxes1: Tensor, boxes2: Tensor, kind: str = "iou", eps: float = 1e-7) -> Tensor:
    """Return the overlap of boxes1[i] with boxes2[i]: float32 [...] from two [..., 4]; kinds as in box_iou.

    Differentiable; as Zheng et al. 2020 prescribe, the weight alpha of ciou's aspect term gets no gradient.
    """
    check_boxes(boxes1, "boxes1")
    check_boxes(boxes2, "boxes2")
    return _iou(boxes1, boxes2, kind, eps)


def _iou(a: Tensor, b: Tensor, kind: str, eps: float) -> Tensor:
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    a, b = a.float(), b.float()
    size = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0)
    intersection = size[..., 0] * size[..., 1]
    union = box_area(a) + box_area(b) - intersection
    empty = union == 0
    iou = torch.where(empty, 0.0, intersection / torch.where(empty, 1.0, union))
    if kind == "iou":
        return iou
    hull = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])  # enclosing width, height
    if kind == "giou":
        hull_area = hull[..., 0] * hull[..., 1]
        no_hull = hull_area == 0
        return iou - torch.where(no_hull, 0.0, (hull_area - union) / torch.where(no_hull, 1.0, hull_area))
    diagonal = hull[..., 0] ** 2 + hull[..., 1] ** 2 + eps
    x_distance = (a[..., 0] + a[..., 2]) / 2 - (b[..., 0] + b[..., 2]) / 2
    y_distance = (a[..., 1] + a[..., 3]) / 2 - (b[..., 1] + b[..., 3]) / 2
    diou = iou - (x_distance**2 + y_distance**2) / diagonal
    if kind == "diou":
        return diou
    v = (4 / math.pi**2) * (_aspect_angle(a) - _aspect_angle(b)) ** 2
    with torch.no_grad():
        alpha = v / (1 - iou + v + eps)
    return diou - alpha * v


def _aspect_angle(boxes: Tensor) -> Tensor:
    """arctan(w / h) as atan2, which is finite, with a finite gradient, where the height is 0."""
    return torch.atan2(boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1])
