"""Functions of tensors around the C extension for the CPU (kernels/native.c)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

MISSING = ""  # why the extension is missing; empty if it was built
try:
    from yolo_lite import _native
except ImportError as error:
    MISSING = f"the C extension was not built when yolo_lite was installed ({error})"


def nms_padded_native(
    boxes: Tensor,
    scores: Tensor,
    *,
    labels: Tensor | None,
    iou_threshold: float,
    score_threshold: float,
    max_detections: int,
) -> tuple[Tensor, Tensor]:
    """Suppress over a batch on the CPU; arguments and result are those of nms_padded_torch, with labels int64 or None.

    Example:
        >>> from yolo_lite.ops.nms_torch import nms_padded_torch
        >>> suppress = nms_padded_torch if MISSING else nms_padded_native
        >>> boxes, scores = torch.tensor([[[0.0, 0, 9, 9], [0, 0, 9, 10]]]), torch.tensor([[0.8, 0.9]])
        >>> suppress(boxes, scores, labels=None, iou_threshold=0.5, score_threshold=0.0, max_detections=2)
        (tensor([[ 1, -1]]), tensor([1], dtype=torch.int32))
    """
    indices = torch.empty(len(scores), max_detections, dtype=torch.int64, device="cpu")
    counts = torch.empty(len(scores), dtype=torch.int32, device="cpu")
    _native.nms_padded(
        _array(boxes),
        _array(scores),
        None if labels is None else _array(labels),
        iou_threshold,
        score_threshold,
        indices.numpy(),
        counts.numpy(),
    )
    return indices, counts


class Objects(NamedTuple):
    """The ground truth that points are assigned to, N boxes for each of B images."""

    boxes: Tensor  # float32 [B, N, 4]
    labels: Tensor  # int64 [B, N], negative in the padding
    grown: Tensor  # float32 [B, N, 4], the boxes that candidates must lie inside


def task_aligned_native(
    scores: Tensor, boxes: Tensor, *, points: Tensor, objects: Objects, top_k: int, exponents: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Assign points to boxes on the CPU, looking only at the points inside a box.

    Args:
        scores: float32 [B, A, C]; boxes: predicted, float32 [B, A, 4]; points: float32 [A, 2].
        objects: the ground truth.
        top_k: as for losses.assign.task_aligned.
        exponents: alpha and beta of that function, multiples of 1/2.

    Returns:
        box_index int64 [B, A], -1 for background, and target_score float32 [B, A].

    Example:
        >>> boxes = torch.tensor([[[0.0, 0, 16, 16]]])
        >>> scores, points = torch.full((1, 1, 1), 0.5), torch.tensor([[4.0, 4]])
        >>> objects = Objects(boxes, torch.tensor([[0]]), grown=boxes)
        >>> if not MISSING:  # the prediction equals the box: a target score of 1
        ...     index, score = task_aligned_native(scores, boxes, points=points, objects=objects, top_k=1, exponents=(1, 6))
        ...     assert (index.item(), score.item()) == (0, 1.0)
    """
    box_index = torch.empty(scores.shape[:2], dtype=torch.int64, device="cpu")
    target_score = torch.empty(scores.shape[:2], dtype=torch.float32, device="cpu")
    _native.task_aligned(
        _array(scores),
        _array(boxes),
        _array(points),
        _array(objects.grown),
        _array(objects.boxes),
        _array(objects.labels),
        top_k,
        round(2 * exponents[0]),
        round(2 * exponents[1]),
        box_index.numpy(),
        target_score.numpy(),
    )
    return box_index, target_score


class Statistics(NamedTuple):
    """Mean and biased variance of each channel of a batch, float32 [C]."""

    mean: Tensor
    variance: Tensor


def norm_silu_pays() -> bool:
    """Return whether the extension's norm_silu uses all threads that torch does; with a single one it would be slower.

    Example:
        >>> norm_silu_pays() and bool(MISSING)  # never without the extension
        False
    """
    return not MISSING and (bool(_native.PARALLEL) or torch.get_num_threads() == 1)


def norm_silu_forward_native(x: Tensor, weight: Tensor, *, bias: Tensor, eps: float, y: Tensor) -> Statistics:
    """Write the batch-normalised and activated x into y, both float32 or bfloat16 [B, C, H, W], channels last in memory.

    Example:
        >>> x, weight, bias = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1), torch.ones(1), torch.zeros(1)
        >>> if not MISSING:
        ...     statistics = norm_silu_forward_native(x, weight, bias=bias, eps=0.0, y=torch.empty_like(x))
        ...     assert (statistics.mean.item(), statistics.variance.item()) == (2.0, 1.0)
    """
    mean, variance = torch.empty_like(weight), torch.empty_like(weight)
    _native.norm_silu_forward(
        _rows(x),
        x.dtype == torch.bfloat16,
        _array(weight),
        _array(bias),
        eps,
        torch.get_num_threads(),
        _rows(y),
        mean.numpy(),
        variance.numpy(),
    )
    return Statistics(mean, variance)


def norm_silu_backward_native(
    x: Tensor, dy: Tensor, *, weight: Tensor, bias: Tensor, statistics: Statistics, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients with respect to x, weight and bias; arguments are as in the forward pass, dy is like y.

    Example:
        >>> x, weight, bias = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1), torch.ones(1), torch.zeros(1)
        >>> statistics, dy = Statistics(torch.tensor([2.0]), torch.tensor([1.0])), torch.zeros_like(x)
        >>> if not MISSING:  # no gradient arrives, so none leaves
        ...     dx, *_ = norm_silu_backward_native(x, dy, weight=weight, bias=bias, statistics=statistics, eps=0.0)
        ...     assert not dx.any()
    """
    dx, d_weight, d_bias = torch.empty_like(x), torch.empty_like(weight), torch.empty_like(bias)
    _native.norm_silu_backward(
        _rows(x),
        _rows(dy),
        x.dtype == torch.bfloat16,
        _array(weight),
        _array(bias),
        statistics.mean.numpy(),
        statistics.variance.numpy(),
        eps,
        torch.get_num_threads(),
        _rows(dx),
        d_weight.numpy(),
        d_bias.numpy(),
    )
    return dx, d_weight, d_bias


def depthwise_pays() -> bool:
    """Return whether the extension's depthwise_backward runs on this processor, and on all threads that torch uses.

    Example:
        >>> depthwise_pays() and bool(MISSING)  # never without the extension
        False
    """
    return not MISSING and bool(_native.DEPTHWISE) and (bool(_native.PARALLEL) or torch.get_num_threads() == 1)


def depthwise_backward_native(x: Tensor, dy: Tensor, *, weight: Tensor, stride: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of a depthwise convolution, padded by half of its kernel, with respect to x, weight and bias.

    Args:
        x: float32 or bfloat16 [B, C, H, W], channels last in memory, as dy [B, C, ceil(H / stride), ceil(W / stride)].
        dy: gradient with respect to the result.
        weight: float32 [C, 1, k, k], with k 3 or 5.
        stride: 1 or 2.

    Example:
        >>> x, weight = torch.full((1, 1, 1, 1), 3.0), torch.full((1, 1, 3, 3), 5.0)
        >>> if depthwise_pays():
        ...     dx, d_weight, d_bias = depthwise_backward_native(x, torch.ones_like(x), weight=weight, stride=1)
        ...     assert (dx.item(), d_weight[0, 0, 1, 1].item(), d_bias.item()) == (5.0, 3.0, 1.0)
    """
    dx, d_weight, d_bias = torch.empty_like(x), torch.empty(weight.shape), torch.empty(len(weight))
    _native.depthwise_backward(
        _pixels(x),
        _pixels(dy),
        x.dtype == torch.bfloat16,
        _array(weight[:, 0]),
        stride,
        torch.get_num_threads(),
        _pixels(dx),
        d_weight[:, 0].numpy(),
        d_bias.numpy(),
    )
    return dx, d_weight, d_bias


def _rows(x: Tensor) -> Any:
    """Return the memory of a channels-last map [B, C, H, W] as an array [B * H * W, C]; bfloat16 as the int16 of its bits."""
    return _pixels(x).reshape(-1, x.shape[1])


def _pixels(x: Tensor) -> Any:
    """Return the memory of a channels-last map as an array [B, H, W, C]; bfloat16 as the int16 of its bits."""
    pixels = x.detach().permute(0, 2, 3, 1)
    return (pixels.view(torch.int16) if x.dtype == torch.bfloat16 else pixels).numpy()


def _array(tensor: Tensor) -> Any:
    """Return the tensor's memory as a NumPy array, copied only if it is not contiguous."""
    if tensor.requires_grad:
        tensor = tensor.detach()
    return tensor.contiguous().numpy()
