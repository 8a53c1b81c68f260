"""From raw predictions to detections: the best candidates by logit, their boxes decoded, then suppression."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from yolo_lite.ops import nms_padded
from yolo_lite.structures.batches import RawPredictions
from yolo_lite.structures.results import Detections

Decode = Callable[[RawPredictions, Tensor], Tensor]  # a head's own: (raw, indices [B, K]) -> xyxy [B, K, 4]
CANDIDATES = 2000  # (point, class) pairs an image that enter the suppression


def postprocess(
    raw: RawPredictions,
    decode: Decode,
    *,
    score_threshold: float,
    iou_threshold: float,
    max_detections: int = 300,
    allowed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose detections; every shape is fixed by the arguments, so nothing waits for the device.

    A point may yield several classes. Candidates are ranked by logit (the sigmoid keeps the order), and only those
    that rank among the first CANDIDATES are decoded.

    Args:
        raw: of B images.
        decode: the head's own.
        score_threshold: detections score above it.
        iou_threshold: of the suppression within each class.
        max_detections: K; more than CANDIDATES are never found.
        allowed: bool [C]; classes that are False are left out before ranking.

    Returns:
        detections: float32 [B, K, 6]: x1, y1, x2, y2 in input pixels, score, label; by descending score, then zeros.
        counts: int32 [B].
    """
    points, classes = raw.class_logits.shape[1:]
    logits = raw.class_logits.float()
    if allowed is not None:
        logits = logits.masked_fill(~allowed.to(logits.device), float("-inf"))
    logits, flat = logits.flatten(1).topk(min(CANDIDATES, points * classes), dim=1)
    boxes = decode(raw, flat // max(classes, 1)).float()
    labels = flat % max(classes, 1)
    scores = logits.sigmoid().masked_fill(logits == float("-inf"), float("-inf"))  # masked even below threshold 0
    indices, counts = nms_padded(
        boxes,
        scores,
        labels=labels,
        iou_threshold=iou_threshold,
        score_threshold=score_threshold,
        max_detections=max_detections,
    )
    rows = torch.cat([boxes, scores.unsqueeze(-1), labels.unsqueeze(-1).float()], -1)
    rows = F.pad(rows, (0, 0, 0, 1))  # a last row of zeros, for the places that stay empty
    places = torch.where(indices < 0, rows.shape[1] - 1, indices)
    return rows.gather(1, places.unsqueeze(-1).expand(-1, -1, 6)), counts


def to_detections(rows: Tensor, counts: Tensor, *, class_names: Sequence[str]) -> list[Detections]:
    """Return what `postprocess` chose as one Detections an image, in input pixels."""
    names = tuple(class_names)
    found = []
    for row, count in zip(rows.cpu().numpy(), counts.cpu().tolist()):
        row = row[:count]
        found.append(Detections(row[:, :4], row[:, 4], labels=row[:, 5].astype("int64"), class_names=names))
    return found
