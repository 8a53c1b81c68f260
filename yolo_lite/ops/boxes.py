"""Box formats and areas. Formats: xyxy (two corners), xywh (upper left corner and size), cxcywh (centre and size)."""

from __future__ import annotations

import torch
from torch import Tensor


def box_area(boxes: Tensor) -> Tensor:
    """Return the areas [...] of xyxy boxes [..., 4], (x2 - x1) * (y2 - y1), in the dtype of the boxes.

    Example:
        >>> box_area(torch.tensor([[1, 2, 4, 6]]))
        tensor([12])
    """
    check_boxes(boxes, "boxes")
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def xyxy_to_xywh(boxes: Tensor) -> Tensor:
    """Return xyxy boxes [..., 4] as upper left corner and size.

    Example:
        >>> xyxy_to_xywh(torch.tensor([1, 2, 4, 6]))
        tensor([1, 2, 3, 4])
    """
    check_boxes(boxes, "boxes")
    return torch.cat([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], -1)


def xywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Return boxes [..., 4], given as upper left corner and size, as two corners.

    Example:
        >>> xywh_to_xyxy(torch.tensor([1, 2, 3, 4]))
        tensor([1, 2, 4, 6])
    """
    check_boxes(boxes, "boxes")
    return torch.cat([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], -1)


def xyxy_to_cxcywh(boxes: Tensor) -> Tensor:
    """Return xyxy boxes [..., 4] as centre and size.

    Example:
        >>> xyxy_to_cxcywh(torch.tensor([1.0, 2, 4, 6]))
        tensor([2.5000, 4.0000, 3.0000, 4.0000])
    """
    check_boxes(boxes, "boxes")
    return torch.cat([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], -1)


def cxcywh_to_xyxy(boxes: Tensor) -> Tensor:
    """Return boxes [..., 4], given as centre and size, as two corners.

    Example:
        >>> cxcywh_to_xyxy(torch.tensor([2.5, 4, 3, 4]))
        tensor([1., 2., 4., 6.])
    """
    check_boxes(boxes, "boxes")
    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], -1)


def points_in_boxes(points: Tensor, boxes: Tensor) -> Tensor:
    """Return which points lie strictly inside which boxes.

    Args:
        points: [A, 2] x, y.
        boxes: [..., N, 4] xyxy in the same unit.

    Returns:
        bool [..., N, A].

    Example:
        >>> points_in_boxes(torch.tensor([[5, 5], [10, 5], [20, 5]]), torch.tensor([[0, 0, 10, 10]]))  # the second is on a side
        tensor([[ True, False, False]])
    """
    check_boxes(boxes, "boxes")
    x, y = points[:, 0], points[:, 1]
    x1, y1, x2, y2 = boxes.unsqueeze(-1).unbind(-2)  # each [..., N, 1]
    return (x > x1) & (x < x2) & (y > y1) & (y < y2)


def working_dtype(*boxes: Tensor) -> torch.dtype:
    """Return the dtype in which overlaps are computed: float64 for coordinates that float32 may not hold, else float32.

    Such coordinates are float64, and integers of 32 or 64 bits. Apple's GPUs lack float64 and always use float32.

    Example:
        >>> working_dtype(torch.tensor([[0.0, 0, 1, 1]])), working_dtype(torch.tensor([[0, 0, 1, 1]]))
        (torch.float32, torch.float64)
    """
    if any(tensor.dtype in _WIDE for tensor in boxes) and boxes[0].device.type != "mps":
        return torch.float64
    return torch.float32


_WIDE = (torch.float64, torch.int32, torch.int64, torch.uint32, torch.uint64)


def check_boxes(boxes: Tensor, name: str) -> None:
    """Raise ValueError, naming the argument, unless its shape is [..., 4].

    Example:
        >>> check_boxes(torch.zeros(2, 5), "boxes")
        Traceback (most recent call last):
        ValueError: boxes must be [..., 4], got [2, 5]
    """
    if boxes.ndim < 1 or boxes.shape[-1] != 4:
        raise ValueError(f"{name} must be [..., 4], got {list(boxes.shape)}")
