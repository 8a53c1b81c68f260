"""Non-maximum suppression: exact, greedy, class-aware, over a whole batch, with an output of fixed size.

The meaning, the same on every device:

- A box takes part if its score is greater than `score_threshold`; NaN and -inf scores never do.
- Boxes are taken by descending score, the lower index first on equal scores (-0.0 equals 0.0).
- A box is suppressed if an earlier kept box of the same label overlaps it with IoU strictly greater than
  `iou_threshold`. The IoU is computed in float32; the threshold is a real number, as in torchvision's CPU op. In float32
  3/5 is 0.60000002, which is greater than 0.6, while 1/2 is not greater than 0.5.
- If boxes are float64, or integers of 32 or 64 bits, the IoU is computed in float64, so that metres in UTM or degrees of
  longitude keep all their digits. In float64 3/5 equals 0.6. Scores of these dtypes are compared as float64.
- Coordinates may be negative. A box with NaN is kept and suppresses no other. The same holds for two boxes whose union
  is empty.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from yolo_lite.ops.backends import backend
from yolo_lite.ops.boxes import working_dtype
from yolo_lite.ops.cuda import nms_padded_cuda
from yolo_lite.ops.native import nms_padded_native
from yolo_lite.ops.nms_torch import nms_padded_torch
from yolo_lite.ops.register import register


def nms_padded(
    boxes: Tensor,
    scores: Tensor,
    *,
    labels: Tensor | None,
    iou_threshold: float,
    score_threshold: float = -math.inf,
    max_detections: int = 300,
) -> tuple[Tensor, Tensor]:
    """Keep the best boxes of each image in a batch, by the rules at the top of this module.

    Args:
        boxes: [B, N, 4] xyxy in any one unit.
        scores: [B, N].
        labels: integer [B, N], or None if all boxes compete.
        iou_threshold: in 0..1.
        score_threshold: boxes at or below it are left out.
        max_detections: K, the most boxes kept for an image.

    Returns:
        indices: int64 [B, K], positions in N by descending score, then -1.
        counts: int32 [B], the number of kept boxes.

    Raises:
        ValueError: if the shape, dtype, device or range of an argument is wrong; it names the argument.

    Example:
        >>> boxes = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]]])  # IoU of the first two: 0.9
        >>> nms_padded(boxes, torch.tensor([[0.8, 0.9, 0.7]]), labels=None, iou_threshold=0.5, max_detections=3)
        (tensor([[ 1,  2, -1]]), tensor([2], dtype=torch.int32))
    """
    _check(boxes, scores, labels=labels, max_detections=max_detections)
    if not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold must be from 0 to 1, got {iou_threshold}")
    if not score_threshold <= math.inf:  # torch.compile cannot follow math.isnan
        raise ValueError("score_threshold must be a number, got nan")
    chosen: tuple[Tensor, Tensor] = _op(boxes, scores, labels, iou_threshold, score_threshold, max_detections)
    return chosen


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """Suppress among boxes of the same label, with the signature of torchvision.ops.batched_nms.

    Args:
        boxes: [N, 4] xyxy; scores: [N]; idxs: integer [N], the label of each box; iou_threshold: in 0..1.

    Returns:
        int64 [K], positions of the kept boxes by descending score; empty for N = 0.

    Example:
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 8]])
        >>> batched_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), idxs=torch.tensor([0, 0, 1]), iou_threshold=0.5)
        tensor([0, 2])
    """
    if boxes.ndim != 2 or scores.ndim != 1 or idxs.ndim != 1:
        raise ValueError(
            f"boxes, scores and idxs must be [N, 4], [N] and [N], got {list(boxes.shape)}, {list(scores.shape)} and "
            f"{list(idxs.shape)}"
        )
    indices, counts = nms_padded(
        boxes[None], scores[None], labels=idxs[None], iou_threshold=iou_threshold, max_detections=len(boxes)
    )
    return indices[0, : int(counts[0])]


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Suppress among all boxes, whatever their labels, with the signature of torchvision.ops.nms (see batched_nms).

    Example:
        >>> boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9], [20, 0, 30, 10]])
        >>> nms(boxes, torch.tensor([0.8, 0.9, 0.7]), iou_threshold=0.5)
        tensor([1, 2])
    """
    return batched_nms(
        boxes,
        scores,
        idxs=torch.zeros(scores.shape, dtype=torch.int64, device=boxes.device),
        iou_threshold=iou_threshold,
    )


def _check(boxes: Tensor, scores: Tensor, *, labels: Tensor | None, max_detections: int) -> None:
    if boxes.ndim != 3 or boxes.shape[-1] != 4:
        raise ValueError(f"boxes must be [B, N, 4], got {list(boxes.shape)}")
    for name, tensor in (("scores", scores), ("labels", labels)):
        if tensor is not None and tensor.shape != boxes.shape[:2]:
            raise ValueError(f"{name} must be {list(boxes.shape[:2])} like boxes, got {list(tensor.shape)}")
        if tensor is not None and tensor.device != boxes.device:
            raise ValueError(f"{name} must be on {boxes.device} like boxes, got {tensor.device}")
    if labels is not None and (labels.is_floating_point() or labels.dtype == torch.bool):
        raise ValueError(f"labels must be integers, got {labels.dtype}")
    if max_detections < 0:
        raise ValueError(f"max_detections must not be negative, got {max_detections}")


def _nms_padded(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor | None,
    iou_threshold: float,
    score_threshold: float,
    max_detections: int,
) -> tuple[Tensor, Tensor]:
    """Compute the op on the device of the tensors; torch.library calls this."""
    batch, total = scores.shape
    if batch == 0 or total == 0 or max_detections == 0:
        indices = torch.full((batch, max_detections), -1, dtype=torch.int64, device=boxes.device)
        return indices, torch.zeros(batch, dtype=torch.int32, device=boxes.device)
    compute = _BACKENDS[backend(boxes.device)]
    labels = None if labels is None else labels.long()
    dtype = working_dtype(boxes)
    if dtype == torch.float32:
        iou_threshold = _float32_floor(iou_threshold)
    scores, score_threshold = _float32_scores(scores, score_threshold)
    return compute(
        boxes.to(dtype),
        scores,
        labels=labels,
        iou_threshold=iou_threshold,
        score_threshold=score_threshold,
        max_detections=max_detections,
    )


def _float32_scores(scores: Tensor, score_threshold: float) -> tuple[Tensor, float]:
    """Return float32 scores and a threshold that select and order the boxes exactly like the given ones."""
    if working_dtype(scores) == torch.float32:
        return scores.float(), _float32_floor(score_threshold)
    scores = scores.double()
    ascending, order = scores.sort(dim=1)
    steps = F.pad((ascending[:, 1:] > ascending[:, :-1]).long(), (1, 0))
    ranks = torch.empty_like(scores).scatter_(1, order, steps.cumsum(1).double())  # equal scores share a rank
    return ranks.float().masked_fill(~(scores > score_threshold), -math.inf), -math.inf


@lru_cache
def _float32_floor(value: float) -> float:
    """Return the largest float32 that is not above `value`: x > value and x > floor agree for every float32 x."""
    single = torch.tensor(value, dtype=torch.float32, device="cpu")
    if float(single) > value:
        single = torch.nextafter(single, torch.full_like(single, -math.inf))
    return float(single)


def _shapes(
    boxes: Tensor, scores: Tensor, labels: Tensor | None, iou: float, score: float, max_detections: int
) -> tuple[Tensor, Tensor]:
    """Describe the result to torch.compile and torch.export."""
    indices = boxes.new_empty((boxes.shape[0], max_detections), dtype=torch.int64)
    return indices, boxes.new_empty((boxes.shape[0],), dtype=torch.int32)


def _mapped(
    info: Any,
    in_dims: tuple[int | None, ...],
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor | None,
    iou_threshold: float,
    score_threshold: float,
    max_detections: int,
) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
    """Fold the dimension that torch.vmap maps over into the batch; images do not influence each other."""
    size = info.batch_size

    def first(tensor: Tensor, dim: int | None) -> Tensor:
        return tensor.expand(size, *tensor.shape) if dim is None else tensor.movedim(dim, 0)

    boxes, scores = first(boxes, in_dims[0]), first(scores, in_dims[1])
    labels = None if labels is None else first(labels, in_dims[2]).flatten(0, 1)
    batch = boxes.shape[1]
    indices, counts = _op(
        boxes.flatten(0, 1), scores.flatten(0, 1), labels, iou_threshold, score_threshold, max_detections
    )
    return (indices.view(size, batch, max_detections), counts.view(size, batch)), (0, 0)


_BACKENDS = {"cuda": nms_padded_cuda, "native": nms_padded_native, "torch": nms_padded_torch}
_op = register(
    "nms_padded(Tensor boxes, Tensor scores, Tensor? labels, float iou_threshold, float score_threshold, "
    "SymInt max_detections) -> (Tensor, Tensor)",
    _nms_padded,
    shapes=_shapes,
    mapped=_mapped,
)
