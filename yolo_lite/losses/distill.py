"""What a student still has to learn from a teacher that has looked at the same images."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from yolo_lite.ops import paired_iou
from yolo_lite.structures.batches import RawPredictions

Decode = Callable[[RawPredictions, Tensor], Tensor]
_LEAST = 0.01  # score of a box that is worth learning


class Lesson(NamedTuple):
    """What a teacher says at each of a student's A points, without gradient.

    Attributes:
        scores: float32 [B, A, K] of the K classes that both know.
        boxes: float32 [B, A, 4] xyxy, input pixels.
        classes: int64 [K], which classes of the student these are.
        known: bool [A], where the teacher has a cell too.
    """

    scores: Tensor
    boxes: Tensor
    classes: Tensor
    known: Tensor


def teacher_loss(raw: RawPredictions, decode: Decode, *, lesson: Lesson, gamma: float = 0.0) -> dict[str, Tensor]:
    """Return the unweighted parts of the loss, each divided by the sum of the teacher's best scores (at least 1).

    - "teach_class": how far the student's scores are from the teacher's (Kullback-Leibler divergence: cross-entropy with
      soft targets, Hinton et al. 2015, less the teacher's own entropy), times |student - teacher|^gamma.
    - "teach_box": the teacher's best score * (1 - CIoU) with its box, where that score is above 0.01.

    Args:
        raw: of the student, with gradient.
        decode: the student's own.
        lesson: for the same images.
        gamma: of the student's own loss, so that labels and lessons weigh alike.
    """
    every = torch.arange(len(raw.points), device=raw.points.device).expand(len(raw.class_logits), -1)
    boxes = decode(raw, every)
    logits = raw.class_logits.float()[..., lesson.classes]
    weight = lesson.scores.amax(-1) * lesson.known  # [B, A]
    total = weight.sum().clamp(min=1)
    own = torch.special.entr(lesson.scores) + torch.special.entr(1 - lesson.scores)
    surprise = F.binary_cross_entropy_with_logits(logits, lesson.scores, reduction="none") - own
    if gamma:
        surprise = surprise * (logits.sigmoid() - lesson.scores).abs() ** gamma
    surprise = surprise * lesson.known.unsqueeze(-1)
    image, point = (weight > _LEAST).nonzero(as_tuple=True)
    overlap = paired_iou(boxes[image, point], lesson.boxes[image, point], kind="ciou")
    return {
        "teach_class": surprise.sum() / total,
        "teach_box": (weight[image, point] * (1 - overlap)).sum() / total,
    }


def same_cells(student: RawPredictions, teacher: RawPredictions) -> Tensor:
    """Return for each of the student's points the teacher's points in the same cell of the same grid.

    Returns:
        int64 [A, most], positions among the teacher's points, -1 where there are fewer (none: a grid it lacks).
    """
    cells: dict[tuple[int, int, int], list[int]] = {}
    for index, cell in enumerate(_cells(teacher)):
        cells.setdefault(cell, []).append(index)
    matches = [cells.get(cell, []) for cell in _cells(student)]
    most = max(1, max(map(len, matches)))
    return torch.tensor([[*points, *[-1] * (most - len(points))] for points in matches])


def _cells(raw: RawPredictions) -> list[tuple[int, int, int]]:
    places = (raw.points / raw.strides.unsqueeze(-1)).floor().long().tolist()
    return [(int(stride), x, y) for stride, (x, y) in zip(raw.strides.tolist(), places)]
