"""Why one object was found, or was not: the cells that could see it, their scores, and what became of their boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from yolo_lite.checks import check_box
from yolo_lite.ops import batched_nms, box_iou
from yolo_lite.predict.detector import Detector
from yolo_lite.structures.batches import RawPredictions

if TYPE_CHECKING:
    from yolo_lite.media.images import Picture

Decode = Callable[[RawPredictions, Tensor], Tensor]
MIN_IOU = 0.5  # with which a prediction counts as one of the object


class LevelReport(NamedTuple):
    """One grid: how many of its points lie in the box, and the best of what these say."""

    stride: int
    points: int  # different ones: the boxes of a YOLOv1 or Darknet cell share theirs
    score: float  # highest of any class, 0 where there is no point
    label: int
    iou: float  # highest overlap of a predicted box with the object


class CandidateReport(NamedTuple):
    """One prediction of the object, and what became of it."""

    label: int
    score: float
    iou: float  # with the object
    stride: int
    point: tuple[float, float]  # x, y, input pixels
    box: tuple[float, ...]  # xyxy, input pixels
    fate: str  # "kept", "below" (the score threshold), "suppressed"
    by: int  # position, among all candidates kept, of the one that suppressed it; -1
    by_score: float
    by_iou: float  # of the two boxes


@torch.inference_mode()
def explain_object(
    detector: Detector, picture: Picture, *, box: Sequence[float]
) -> tuple[list[LevelReport], list[CandidateReport]]:
    """Say which cells could see one object of an image, and what became of its predictions.

    Args:
        detector: whose thresholds count.
        picture: as for a call of the detector.
        box: of the object, xyxy, original pixels.

    Returns:
        Reports in input pixels, as from `explain`.
    """
    _, letterbox, raw = detector.raw(picture)
    return explain(
        raw,
        detector.model.decode,
        box=letterbox.boxes_to_input([check_box(box)])[0].tolist(),
        score_threshold=detector.score_threshold,
        iou_threshold=detector.iou_threshold,
    )


def explain(
    raw: RawPredictions,
    decode: Decode,
    *,
    box: Sequence[float],
    score_threshold: float,
    iou_threshold: float,
    most: int = 10,
) -> tuple[list[LevelReport], list[CandidateReport]]:
    """Follow the predictions of one object through thresholds and suppression.

    Args:
        raw: of one picture.
        decode: the head's own.
        box: of the object, xyxy, input pixels.
        score_threshold: of detections.
        iou_threshold: of the suppression within each class.
        most: so many candidates at most, the highest scores first.

    Returns:
        A report for each grid, and one for each candidate: a class of a point whose box overlaps the object with at least
        MIN_IOU.
    """
    target = torch.tensor([list(box)], dtype=torch.float32)
    boxes = decode(raw, torch.arange(len(raw.points)).unsqueeze(0))[0].float()
    scores = raw.class_logits[0].float().sigmoid()
    overlaps = box_iou(target, boxes)[0]
    inside = ((raw.points >= target[0, :2]) & (raw.points <= target[0, 2:])).all(1)
    levels = [
        _level(int(stride), raw.points, mine=inside & (raw.strides == stride), scores=scores, overlaps=overlaps)
        for stride in torch.unique(raw.strides)
    ]
    point, label = (scores > score_threshold).nonzero(as_tuple=True)
    kept = batched_nms(boxes[point], scores[point, label], idxs=label, iou_threshold=iou_threshold)
    near = (overlaps >= MIN_IOU).nonzero().flatten()
    best, order = scores[near].flatten().topk(min(most, scores[near].numel()))
    classes = scores.shape[1]
    found = []
    for score, flat in zip(best.tolist(), order.tolist()):
        at, of = int(near[flat // classes]), flat % classes
        fate, by, by_score, by_iou = _fate(
            at,
            of,
            score=score,
            threshold=score_threshold,
            boxes=boxes,
            scores=scores,
            points=point[kept],
            labels=label[kept],
        )
        place = (float(raw.points[at, 0]), float(raw.points[at, 1]))
        sides = tuple(boxes[at].tolist())
        found.append(
            CandidateReport(
                of,
                score,
                iou=float(overlaps[at]),
                stride=int(raw.strides[at]),
                point=place,
                box=sides,
                fate=fate,
                by=by,
                by_score=by_score,
                by_iou=by_iou,
            )
        )
    return levels, found


def _level(stride: int, points: Tensor, *, mine: Tensor, scores: Tensor, overlaps: Tensor) -> LevelReport:
    count = len(torch.unique(points[mine], dim=0))
    if not count:
        return LevelReport(stride, 0, score=0.0, label=0, iou=0.0)
    best = scores[mine].flatten().argmax()
    score = float(scores[mine].flatten()[best])
    return LevelReport(stride, count, score=score, label=int(best % scores.shape[1]), iou=float(overlaps[mine].max()))


def _fate(
    at: int, of: int, *, score: float, threshold: float, boxes: Tensor, scores: Tensor, points: Tensor, labels: Tensor
) -> tuple[str, int, float, float]:
    """Return what became of a candidate, and of those kept in its class the one that overlaps it most."""
    if score <= threshold:
        return "below", -1, 0.0, 0.0
    rivals = (labels == of).nonzero().flatten()
    if (points[rivals] == at).any():
        return "kept", -1, 0.0, 0.0
    iou = box_iou(boxes[at : at + 1], boxes[points[rivals]])[0]
    higher = scores[points[rivals], of] >= score
    by = int(iou.masked_fill(~higher, -1).argmax())
    winner = int(rivals[by])
    return "suppressed", winner, float(scores[points[winner], of]), float(iou[by])
