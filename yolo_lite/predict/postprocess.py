"""Turn raw predictions into detections: choose the best candidates by logit, decode their boxes, suppress duplicates."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from yolo_lite.ops import nms_padded
from yolo_lite.structures.batches import RawPredictions
from yolo_lite.structures.results import Detections

Decode = Callable[[RawPredictions, Tensor], Tensor]  # a head's method: (raw, indices [B, K]) -> xyxy [B, K, 4]
CANDIDATES = 2000  # largest number of (point, class) pairs of an image that enter the suppression


def postprocess(
    raw: RawPredictions,
    decode: Decode,
    *,
    score_threshold: float,
    iou_threshold: float,
    max_detections: int = 300,
    allowed: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose detections from raw predictions; the arguments fix every shape, so nothing waits for the device.

    One point may yield detections of several classes. Candidates are ranked by logit, which orders them as the sigmoid
    does, and only the first CANDIDATES are decoded.

    Args:
        raw: the predictions for B images.
        decode: the method of the head that decodes boxes.
        score_threshold: the score above which detections are reported.
        iou_threshold: the IoU above which the lower score of two boxes of one class is dropped.
        max_detections: K; at most CANDIDATES detections are ever found.
        allowed: bool [C]; classes that are False are left out before ranking.

    Returns:
        detections: float32 [B, K, 6]: x1, y1, x2, y2 in input pixels, score, label; by descending score, then zeros.
        counts: int32 [B], the number of detections in each image.

    Example:
        >>> from yolo_lite.predict.detector import Detector
        >>> detector = Detector("yolo_lite-pico-voc5", device="cpu")
        >>> raw = detector.raw("photo.jpg")[2]
        >>> rows, counts = postprocess(raw, detector.model.decode, score_threshold=0.5, iou_threshold=0.6)
        >>> rows.shape, counts.shape
        (torch.Size([1, 300, 6]), torch.Size([1]))
    """
    points, classes = raw.class_logits.shape[1:]
    logits = raw.class_logits.float()
    if allowed is not None:
        logits = logits.masked_fill(~allowed.to(logits.device), float("-inf"))
    logits, flat = logits.flatten(1).topk(min(CANDIDATES, points * classes), dim=1)
    boxes = decode(raw, flat // max(classes, 1)).float()
    labels = flat % max(classes, 1)
    scores = logits.sigmoid().masked_fill(
        logits == float("-inf"), float("-inf")
    )  # so that no threshold lets a masked class pass
    indices, counts = nms_padded(
        boxes,
        scores,
        labels=labels,
        iou_threshold=iou_threshold,
        score_threshold=score_threshold,
        max_detections=max_detections,
    )
    rows = torch.cat([boxes, scores.unsqueeze(-1), labels.unsqueeze(-1).float()], -1)
    rows = F.pad(rows, (0, 0, 0, 1))  # a last row of zeros, for places without a detection
    places = torch.where(indices < 0, rows.shape[1] - 1, indices)
    return rows.gather(1, places.unsqueeze(-1).expand(-1, -1, 6)), counts


def to_detections(rows: Tensor, counts: Tensor, *, class_names: Sequence[str]) -> list[Detections]:
    """Return the result of `postprocess` as one Detections per image, in input pixels.

    Example:
        >>> rows = torch.tensor([[[0, 0, 10, 20, 0.5, 1], [0, 0, 0, 0, 0, 0]]])  # one image, room for two detections
        >>> to_detections(rows, torch.tensor([1]), class_names=["cat", "dog"])[0].names
        ['dog']
    """
    names = tuple(class_names)
    found = []
    for row, count in zip(rows.cpu().numpy(), counts.cpu().tolist()):
        row = row[:count]
        found.append(Detections(row[:, :4], row[:, 4], labels=row[:, 5].astype("int64"), class_names=names))
    return found
