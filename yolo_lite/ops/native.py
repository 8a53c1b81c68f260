"""The C extension for the CPU, where it was built: kernels/native.c behind tensors."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

MISSING = ""  # why it is not there
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
    """Suppress over a batch on the CPU; arguments and result as for torch_nms.nms_padded_torch, labels int64 or None."""
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
    """What points are assigned to, N boxes for each of B images."""

    boxes: Tensor  # float32 [B, N, 4]
    labels: Tensor  # int64 [B, N], negative in the padding
    grown: Tensor  # float32 [B, N, 4], inside which the candidates of a box lie


def task_aligned_native(
    scores: Tensor, boxes: Tensor, *, points: Tensor, objects: Objects, top_k: int, exponents: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """Assign points to boxes on the CPU, touching only the points inside a box.

    Args:
        scores: float32 [B, A, C]; boxes: predicted, float32 [B, A, 4]; points: float32 [A, 2].
        objects: what they are assigned to.
        top_k: as for losses.assign.task_aligned.
        exponents: alpha and beta there, in multiples of 1/2.

    Returns:
        box_index int64 [B, A], -1 for background, and target_score float32 [B, A].
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
    """Say whether the extension's norm_silu uses all threads that torch does: from one alone it would be slower."""
    return not MISSING and (bool(_native.PARALLEL) or torch.get_num_threads() == 1)


def norm_silu_forward_native(x: Tensor, weight: Tensor, *, bias: Tensor, eps: float, y: Tensor) -> Statistics:
    """Write the batch-normalised and activated x into y, both float32 or bfloat16 [B, C, H, W], channels last in memory."""
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
    """Return the gradients with respect to x, weight and bias; arguments as those of the forward pass, dy like y."""
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


def _rows(x: Tensor) -> Any:
    """Return the memory of a channels-last map [B, C, H, W] as an array [B * H * W, C]; bfloat16 as the int16 of its bits."""
    rows = x.detach().permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    return (rows.view(torch.int16) if x.dtype == torch.bfloat16 else rows).numpy()


def _array(tensor: Tensor) -> Any:
    """Return the tensor's memory as a NumPy array, copied only where it is not contiguous."""
    if tensor.requires_grad:
        tensor = tensor.detach()
    return tensor.contiguous().numpy()
