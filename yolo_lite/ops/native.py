"""The C extension for the CPU, where it was built: kernels/native.c behind tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

MISSING = ""  # why it is not there
try:
    from yolo_lite.ops import _native
except ImportError as error:
    MISSING = f"the C extension was not built when yolo_lite was installed ({error})"


def nms_padded_native(
    boxes: Tensor,
    scores: Tensor,
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


def task_aligned_native(
    scores: Tensor,
    boxes: Tensor,
    points: Tensor,
    grown: Tensor,
    targets: Tensor,
    labels: Tensor,
    top_k: int,
    alpha: float,
    beta: float,
) -> tuple[Tensor, Tensor]:
    """Assign points to boxes on the CPU, touching only the points inside a box.

    Args:
        scores: float32 [B, A, C]; boxes: predicted, float32 [B, A, 4]; points: float32 [A, 2].
        grown: float32 [B, N, 4], inside which a target's candidates lie; targets: float32 [B, N, 4].
        labels: int64 [B, N], negative in the padding.
        top_k, alpha, beta: as for losses.assign.task_aligned, the exponents in multiples of 1/2.

    Returns:
        box_index int64 [B, A], -1 for background, and target_score float32 [B, A].
    """
    box_index = torch.empty(scores.shape[:2], dtype=torch.int64, device="cpu")
    target_score = torch.empty(scores.shape[:2], dtype=torch.float32, device="cpu")
    _native.task_aligned(
        _array(scores),
        _array(boxes),
        _array(points),
        _array(grown),
        _array(targets),
        _array(labels),
        top_k,
        round(2 * alpha),
        round(2 * beta),
        box_index.numpy(),
        target_score.numpy(),
    )
    return box_index, target_score


def _array(tensor: Tensor) -> Any:
    """Return the tensor's memory as a NumPy array, copied only where it is not contiguous."""
    if tensor.requires_grad:
        tensor = tensor.detach()
    return tensor.contiguous().numpy()
