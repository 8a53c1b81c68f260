"""Why one object was found or missed: the cells that could see it, their scores, and the fate of their boxes."""

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
    from yolo_lite.media.images import ImageInput

Decode = Callable[[RawPredictions, Tensor], Tensor]
MIN_IOU = 0.5  # least IoU at which a prediction counts as one of the object


class LevelReport(NamedTuple):
    """One grid: how many of its points lie in the box, and the best of their predictions."""

    stride: int
    points: int  # distinct points: the boxes of a YOLOv1 or Darknet cell share one
    score: float  # highest of any class, 0 if there is no point
    label: int
    iou: float  # highest overlap of a predicted box with the object


class CandidateReport(NamedTuple):
    """One prediction for the object, and its fate."""

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
    detector: Detector, image: ImageInput, *, box: Sequence[float]
) -> tuple[list[LevelReport], list[CandidateReport]]:
    """Report which cells could see one object of an image, and the fate of their predictions.

    Args:
        detector: its thresholds decide.
        image: as for a call of the detector.
        box: of the object, xyxy, original pixels.

    Returns:
        Reports in input pixels, as from `explain`.

    Example:
        >>> levels, candidates = explain_object(Detector(device="cpu"), "photo.jpg", box=(0, 0, 300, 300))
        >>> [level.stride for level in levels]
        [8, 16, 32, 64]
    """
    _, letterbox, raw = detector.raw(image)
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
    """Follow the predictions for one object through thresholds and NMS.

    Args:
        raw: predictions for one image.
        decode: the head's own.
        box: of the object, xyxy, input pixels.
        score_threshold: of detections.
        iou_threshold: of NMS within each class.
        most: the number of candidates at most, the highest scores first.

    Returns:
        A report for each grid, and one for each candidate: a class of a point whose box overlaps the object with an IoU
        of at least MIN_IOU.

    Example:
        >>> detector = Detector(device="cpu")
        >>> _, _, raw = detector.raw("photo.jpg")
        >>> decode, whole = detector.model.decode, (0, 0, 416, 416)
        >>> levels, _ = explain(raw, decode, box=whole, score_threshold=0.4, iou_threshold=0.6)
        >>> [level.points for level in levels]  # every point lies in the whole input
        [2704, 676, 169, 49]
    """
    target = torch.tensor([list(box)], dtype=torch.float32)
    boxes = decode(raw, torch.arange(len(raw.points)).unsqueeze(0))[0].float()
    scores = raw.class_logits[0].float().sigmoid()
    overlaps = box_iou(target, boxes)[0]
    inside = ((raw.points >= target[0, :2]) & (raw.points <= target[0, 2:])).all(1)
    levels = [
        _level(int(stride), raw.points, chosen=inside & (raw.strides == stride), scores=scores, overlaps=overlaps)
        for stride in torch.unique(raw.strides)
    ]
    point, label = (scores > score_threshold).nonzero(as_tuple=True)
    kept = batched_nms(boxes[point], scores[point, label], idxs=label, iou_threshold=iou_threshold)
    scene = _Scene(boxes, scores, points=point[kept], labels=label[kept], threshold=score_threshold)
    near = (overlaps >= MIN_IOU).nonzero().flatten()
    _, order = scores[near].flatten().topk(min(most, scores[near].numel()))
    classes = scores.shape[1]
    candidates = [
        _candidate(raw, scene, point=int(near[flat // classes]), label=flat % classes, overlaps=overlaps)
        for flat in order.tolist()
    ]
    return levels, candidates


def reason_in_words(
    levels: Sequence[LevelReport],
    candidates: Sequence[CandidateReport],
    *,
    label: int,
    class_names: Sequence[str],
    score_threshold: float,
) -> str:
    """Say in a clause why an object was missed.

    Args:
        levels: from `explain`.
        candidates: from `explain`.
        label: the object's, in `class_names`; -1 if the network does not know its class.
        class_names: those of the network.
        score_threshold: the one that was used.

    Example:
        >>> seen = CandidateReport(0, 0.2, iou=0.7, stride=8, point=(4, 4), box=(), fate="below", by=-1, by_score=0, by_iou=0)
        >>> reason_in_words([], [seen], label=0, class_names=["cat"], score_threshold=0.4)
        'the best prediction for it, cat 0.20 with IoU 0.70, is not above the score threshold 0.4'
    """
    if label < 0:
        return "the network does not know its class"
    if not candidates:
        if not any(level.points for level in levels):
            return "no cell has its centre inside the object, which is too small for the input"
        return f"no prediction overlaps it with an IoU of {MIN_IOU:g} or more"
    kept = next((seen for seen in candidates if seen.fate == "kept"), None)
    own = next((seen for seen in candidates if seen.label == label), None)
    if kept is not None and kept.label != label:
        return f"it was detected as {class_names[kept.label]} {kept.score:.2f}"
    if kept is not None:
        return f"its detection, {class_names[label]} {kept.score:.2f}, belongs to another object that it fits better"
    seen = own or candidates[0]
    what = f"{class_names[seen.label]} {seen.score:.2f} with IoU {seen.iou:.2f}"
    if seen.fate == "suppressed":
        return (
            f"its prediction, {what}, was suppressed by one of score {seen.by_score:.2f} "
            f"that overlaps it with IoU {seen.by_iou:.2f}"
        )
    return f"the best prediction for it, {what}, is not above the score threshold {score_threshold:g}"


class _Scene(NamedTuple):
    """All predictions for one image, and which of them are detections."""

    boxes: Tensor  # [A, 4] xyxy, input pixels
    scores: Tensor  # [A, C]
    points: Tensor  # int64 [K], of the detections
    labels: Tensor  # int64 [K]
    threshold: float  # of a detection's score


def _candidate(raw: RawPredictions, scene: _Scene, *, point: int, label: int, overlaps: Tensor) -> CandidateReport:
    fate, by, by_score, by_iou = _fate(scene, point, label=label)
    return CandidateReport(
        label,
        float(scene.scores[point, label]),
        iou=float(overlaps[point]),
        stride=int(raw.strides[point]),
        point=(float(raw.points[point, 0]), float(raw.points[point, 1])),
        box=tuple(scene.boxes[point].tolist()),
        fate=fate,
        by=by,
        by_score=by_score,
        by_iou=by_iou,
    )


def _level(stride: int, points: Tensor, *, chosen: Tensor, scores: Tensor, overlaps: Tensor) -> LevelReport:
    count = len(torch.unique(points[chosen], dim=0))
    if not count:
        return LevelReport(stride, 0, score=0.0, label=0, iou=0.0)
    best = scores[chosen].flatten().argmax()
    score = float(scores[chosen].flatten()[best])
    return LevelReport(stride, count, score=score, label=int(best % scores.shape[1]), iou=float(overlaps[chosen].max()))


def _fate(scene: _Scene, point: int, *, label: int) -> tuple[str, int, float, float]:
    """Return the fate of a candidate, and the kept detection of its class that overlaps it most."""
    boxes, scores, score = scene.boxes, scene.scores, float(scene.scores[point, label])
    if score <= scene.threshold:
        return "below", -1, 0.0, 0.0
    rivals = (scene.labels == label).nonzero().flatten()
    if (scene.points[rivals] == point).any():
        return "kept", -1, 0.0, 0.0
    iou = box_iou(boxes[point : point + 1], boxes[scene.points[rivals]])[0]
    higher = scores[scene.points[rivals], label] >= score
    by = int(iou.masked_fill(~higher, -1).argmax())
    winner = int(rivals[by])
    return "suppressed", winner, float(scores[scene.points[winner], label]), float(iou[by])
