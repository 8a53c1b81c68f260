"""The loss of a student against a teacher that predicts on the same images."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from yolo_lite.losses.detection import Divisor, at_least_one
from yolo_lite.ops import paired_iou
from yolo_lite.structures.batches import RawPredictions

Decode = Callable[[RawPredictions, Tensor], Tensor]
_LEAST = 0.01  # lowest score of a teacher's box that the student learns


class Lesson(NamedTuple):
    """A teacher's predictions at each of a student's A points, without gradient.

    Attributes:
        scores: float32 [B, A, K], scores of the K classes that both know.
        boxes: float32 [B, A, 4] xyxy, input pixels.
        classes: int64 [K], the student's labels of these classes.
        known: bool [A], whether the teacher has a cell at this point too.
    """

    scores: Tensor
    boxes: Tensor
    classes: Tensor
    known: Tensor


def teacher_loss(
    raw: RawPredictions, decode: Decode, *, lesson: Lesson, gamma: float = 0.0, divisor: Divisor = at_least_one
) -> dict[str, Tensor]:
    """Return the unweighted parts of the loss, each divided by the sum of the teacher's best scores (at least 1).

    - "teach_class": the Kullback-Leibler divergence of the student's scores from the teacher's (cross-entropy with soft
      targets, Hinton et al. 2015, less the teacher's own entropy), times |student - teacher|^gamma.
    - "teach_box": the teacher's best score * (1 - CIoU) with its box, over the points whose best score exceeds 0.01.

    Args:
        raw: the student's predictions, with gradient.
        decode: the `decode` of the student's head.
        lesson: the teacher's predictions for the same images.
        gamma: the exponent of the student's own loss, so that labels and teacher are weighted alike.
        divisor: turns the sum of the teacher's best scores into the divisor.

    Example:
        >>> from yolo_lite.models.heads.anchor_free import AnchorFreeHead
        >>> points, strides = torch.tensor([[4.0, 4]]), torch.tensor([8.0])
        >>> raw = RawPredictions(torch.zeros(1, 1, 4), torch.zeros(1, 1, 1), points=points, strides=strides)
        >>> boxes = AnchorFreeHead.decode(raw, torch.tensor([[0]]))  # both predict this box, both with a score of 1/2
        >>> lesson = Lesson(torch.full((1, 1, 1), 0.5), boxes, classes=torch.tensor([0]), known=torch.tensor([True]))
        >>> {name: abs(round(value.item(), 4)) for name, value in teacher_loss(raw, AnchorFreeHead.decode, lesson=lesson).items()}
        {'teach_class': 0.0, 'teach_box': 0.0}
    """
    every = torch.arange(len(raw.points), device=raw.points.device).expand(len(raw.class_logits), -1)
    boxes = decode(raw, every)
    logits = raw.class_logits.float()[..., lesson.classes]
    weight = lesson.scores.amax(-1) * lesson.known  # [B, A]
    total = divisor(weight.sum())
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
    """Return the teacher's points in the same cell of the same grid, for each of the student's points.

    Returns:
        int64 [A, most], positions among the teacher's points, padded with -1; all -1 for a grid that the teacher lacks.

    Example:
        >>> centres, corners = torch.tensor([[4.0, 4], [12, 4]]), torch.tensor([[8.0, 0], [0, 0]])  # two cells, stride 8
        >>> student, teacher = (
        ...     RawPredictions(torch.zeros(1, 2, 4), torch.zeros(1, 2, 1), points=points, strides=torch.tensor([8.0, 8]))
        ...     for points in (centres, corners)
        ... )
        >>> same_cells(student, teacher).tolist()
        [[1], [0]]
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
