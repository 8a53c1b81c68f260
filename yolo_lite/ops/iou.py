"""The intersection over union (IoU) and its relatives, for every pair of boxes or for matching rows."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from yolo_lite.ops.backends import backend
from yolo_lite.ops.boxes import box_area, check_boxes, working_dtype
from yolo_lite.ops.cuda import box_iou_cuda
from yolo_lite.ops.register import register, register_gradient

KINDS = ("iou", "giou", "diou", "ciou")


def box_iou(boxes1: Tensor, boxes2: Tensor, *, kind: str = "iou", eps: float = 1e-7) -> Tensor:
    """Return the overlap of every pair of boxes.

    Args:
        boxes1: [..., N, 4] xyxy in any one unit, with x1 <= x2 and y1 <= y2. If boxes1 or boxes2 are float64 or integers
            of 32 or 64 bits (map coordinates, say), the computation is in float64, otherwise in float32.
        boxes2: [..., M, 4] xyxy in the same unit.
        kind: "iou", in 0..1; "giou", in -1..1, falls with the empty part of the enclosing box (Rezatofighi et al. 2019,
            equation 4); "diou" falls with the distance of the centres (Zheng et al. 2020, equation 7); "ciou" also
            with the difference of aspect ratios (same paper, equations 8 to 11).
        eps: keeps the denominators of diou and ciou from zero.

    Returns:
        float32 [..., N, M]; a pair whose union is empty has IoU 0, never NaN.

    Raises:
        ValueError: if an input is not [..., 4], the kind is unknown, or the devices differ.

    Example:
        >>> box_iou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2], [0, 0, 2, 1]]))
        tensor([[0.3333, 0.5000]])
    """
    check_boxes(boxes1, "boxes1")
    check_boxes(boxes2, "boxes2")
    _check_kind(kind)
    if boxes1.is_cuda and not torch.compiler.is_compiling():  # torch.compile fuses the definition by itself
        if boxes2.device != boxes1.device:
            raise ValueError(f"boxes2 must be on {boxes1.device} like boxes1, got {boxes2.device}")
        overlaps: Tensor = _op(boxes1, boxes2, kind, eps)
        return overlaps
    return _iou(boxes1.unsqueeze(-2), boxes2.unsqueeze(-3), kind=kind, eps=eps)


def paired_iou(boxes1: Tensor, boxes2: Tensor, *, kind: str = "iou", eps: float = 1e-7) -> Tensor:
    """Return the overlap of boxes1[i] with boxes2[i]: float32 [...] from two [..., 4]; kinds as in box_iou.

    It is differentiable. As Zheng et al. 2020 prescribe, the weight alpha of ciou's aspect term gets no gradient.

    Example:
        >>> paired_iou(torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2]]), torch.tensor([[0.0, 0, 2, 2], [2, 0, 4, 2]]))
        tensor([1., 0.])
    """
    check_boxes(boxes1, "boxes1")
    check_boxes(boxes2, "boxes2")
    _check_kind(kind)
    return _iou(boxes1, boxes2, kind=kind, eps=eps)


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")


def _iou(a: Tensor, b: Tensor, *, kind: str, eps: float) -> Tensor:
    dtype = working_dtype(a, b)
    return _overlap(a.to(dtype), b.to(dtype), kind=kind, eps=eps).float()


def _overlap(a: Tensor, b: Tensor, *, kind: str, eps: float) -> Tensor:
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
    """Return arctan(w / h), or 0 for a box that is a point; atan2 and its gradient are finite even if the height is 0.

    A point's height may be -0.0 (from 0.0 to -0.0), and atan2(0, -0.0) is pi, twice the angle of any box. Adding 0.0 would
    help, but compilers remove it.
    """
    width, height = boxes[..., 2] - boxes[..., 0], boxes[..., 3] - boxes[..., 1]
    return torch.where((width == 0) & (height == 0), 0.0, torch.atan2(width, height))


def _box_iou(boxes1: Tensor, boxes2: Tensor, kind: str, eps: float) -> Tensor:
    """Compute the op on the device of the boxes; torch.library calls this."""
    if not boxes1.is_cuda or backend(boxes1.device) != "cuda":
        return _iou(boxes1.unsqueeze(-2), boxes2.unsqueeze(-3), kind=kind, eps=eps)
    shape = _pairs_shape(boxes1, boxes2)
    # the kernel has one leading dimension
    leading, batch = shape[:-2], math.prod(shape[:-2])
    dtype = working_dtype(boxes1, boxes2)
    a, b = (boxes.to(dtype).expand(*leading, -1, -1).reshape(batch, boxes.shape[-2], 4) for boxes in (boxes1, boxes2))
    angles = (_aspect_angle(a), _aspect_angle(b)) if kind == "ciou" else (None, None)
    return box_iou_cuda(a, b, angles1=angles[0], angles2=angles[1], kind=KINDS.index(kind), eps=eps).view(shape)


def _pairs_shape(boxes1: Tensor, boxes2: Tensor) -> tuple[int, ...]:
    broadcast: Any = torch.broadcast_shapes  # torch leaves it without types
    return (*broadcast(boxes1.shape[:-2], boxes2.shape[:-2]), boxes1.shape[-2], boxes2.shape[-2])


def _shapes(boxes1: Tensor, boxes2: Tensor, kind: str, eps: float) -> Tensor:
    """Describe the result to torch.compile and torch.export."""
    return boxes1.new_empty(_pairs_shape(boxes1, boxes2), dtype=torch.float32)


def _remember(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.settings = inputs[2:]


def _gradient(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """Compute the definition once more, so that gradients flow through it."""
    with torch.enable_grad():
        boxes1, boxes2 = (tensor.detach().requires_grad_() for tensor in ctx.saved_tensors)
        kind, eps = ctx.settings
        overlaps = _iou(boxes1.unsqueeze(-2), boxes2.unsqueeze(-3), kind=kind, eps=eps)
        first, second = torch.autograd.grad(overlaps, (boxes1, boxes2), gradient)
    return first, second, None, None


def _mapped(
    info: Any, in_dims: tuple[int | None, ...], boxes1: Tensor, boxes2: Tensor, kind: str, eps: float
) -> tuple[Tensor, int]:
    """Make the dimension that torch.vmap maps over the first one."""
    rank = max(tensor.ndim - (dim is not None) for tensor, dim in zip((boxes1, boxes2), in_dims))
    folded = []
    for tensor, dim in zip((boxes1, boxes2), in_dims):
        if dim is not None:
            tensor = tensor.movedim(dim, 0)
            while tensor.ndim <= rank:  # as broadcasting would
                tensor = tensor.unsqueeze(1)
        folded.append(tensor)
    first, second = folded
    return _op(first, second, kind, eps), 0


_op = register(
    "box_iou(Tensor boxes1, Tensor boxes2, str kind, float eps) -> Tensor", _box_iou, shapes=_shapes, mapped=_mapped
)
register_gradient("box_iou", _gradient, remember=_remember)
