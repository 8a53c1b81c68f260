"""The loss that a head is trained with, and the weight of each of its parts."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from yolo_lite.config.schema import LossConfig
from yolo_lite.errors import InputError
from yolo_lite.losses.assign import ASSIGNERS, static
from yolo_lite.losses.detection import AssignedHead, Assigner, Divisor, at_least_one, detection_loss
from yolo_lite.losses.yolov1 import yolov1_loss
from yolo_lite.ops.iou import KINDS
from yolo_lite.structures.batches import Batch, RawPredictions


class TrainedHead(AssignedHead, Protocol):
    """What a criterion needs of a head.

    Attributes:
        loss: "assigned" or "yolov1".
        boxes_per_cell: boxes in a cell; only heads trained with "yolov1" use it.
    """

    loss: str
    boxes_per_cell: int


class Criterion:
    """The loss that a head asks for, with the settings of a run.

    Args:
        head: of the network that is trained.
        settings: the section `loss` of the configuration.
        divisor: as for `detection_loss`.

    Attributes:
        weights: the factor of every part that a detector's loss can have, the teacher's parts included.

    Raises:
        InputError: for an assigner or a kind of overlap that does not exist.
    """

    def __init__(self, head: TrainedHead, settings: LossConfig, *, divisor: Divisor = at_least_one) -> None:
        check_loss(settings)
        self.head, self.settings, self.divisor = head, settings, divisor
        self.weights = loss_weights(settings)
        self.assign: Assigner = ASSIGNERS[settings.assigner]
        if self.assign is not static:
            self.assign = functools.partial(self.assign, top_k=settings.top_k, alpha=settings.alpha, beta=settings.beta)

    def __call__(self, raw: RawPredictions, batch: Batch, *, progress: float) -> dict[str, Tensor]:
        """Return the unweighted parts of the loss.

        An assigner that relies on predictions is of little use to an untrained network, so the static one comes first.

        Args:
            raw: predictions for the batch, with gradient.
            batch: boxes and labels in input pixels.
            progress: fraction of the training that is done, 0 to 1.
        """
        if self.head.loss == "yolov1":
            return yolov1_loss(raw, batch, decode=self.head.decode, boxes_per_cell=self.head.boxes_per_cell)
        assign = static if progress < self.settings.static_share else self.assign
        return detection_loss(
            raw,
            batch,
            head=self.head,
            assign=assign,
            box_kind=self.settings.box,
            gamma=self.settings.gamma,
            divisor=self.divisor,
        )

    def weighted(self, parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return parts of the loss, each multiplied by its weight.

        Example:
            >>> from yolo_lite.models.heads.anchor_free import AnchorFreeHead
            >>> head = AnchorFreeHead([8], [8], classes=1, width=8, depth=1)
            >>> Criterion(head, LossConfig(box_weight=5.0)).weighted({"box": torch.tensor(0.5)})
            {'box': tensor(2.5000)}
        """
        return {name: self.weights[name] * value for name, value in parts.items()}


def check_loss(settings: LossConfig) -> None:
    """Raise InputError for an assigner or a kind of overlap that does not exist.

    Example:
        >>> check_loss(LossConfig(box="l2"))
        Traceback (most recent call last):
        yolo_lite.errors.InputError: loss.box must be one of iou, giou, diou, ciou, got 'l2'
    """
    if settings.assigner not in ASSIGNERS:
        raise InputError(f"loss.assigner must be one of {', '.join(ASSIGNERS)}, got {settings.assigner!r}")
    if settings.box not in KINDS:
        raise InputError(f"loss.box must be one of {', '.join(KINDS)}, got {settings.box!r}")


def loss_weights(settings: LossConfig) -> dict[str, float]:
    """Return the weight of every part that a detector's loss can have, by the part's name.

    Example:
        >>> loss_weights(LossConfig(box_weight=7.5))["box"]
        7.5
    """
    return {
        "class": settings.class_weight,
        "box": settings.box_weight,
        "l1": settings.l1_weight,
        "dfl": settings.dfl_weight,
        "coord": settings.coord_weight,
        "object": settings.object_weight,
        "no_object": settings.no_object_weight,
        "teach_class": settings.teach_class_weight,
        "teach_box": settings.teach_box_weight,
    }
