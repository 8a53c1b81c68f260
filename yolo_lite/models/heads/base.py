"""The interface of a detection head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from yolo_lite.structures.batches import RawPredictions


class Head(Protocol):
    """A module that maps feature maps to RawPredictions, and knows how to decode and train them.

    Heads inherit from it, after nn.Module, and override only what differs.

    Attributes:
        strides: of the grids, input pixels.
        loss: the loss that trains the head: "assigned" (losses/detection.py) or "yolov1" (losses/yolov1.py).
        bins: distances in the distribution of each side of a box; 0 for a head that predicts distances directly.
        boxes_per_cell: boxes that share the class probabilities of a cell; 0 if each point has its own classes.
        fixed_classes: the number of classes, if a file fixes it; None if it depends on the data.
    """

    strides: tuple[int, ...]
    loss: str = "assigned"
    bins: int = 0
    boxes_per_cell: int = 0
    fixed_classes: int | None = None

    def __call__(self, levels: Sequence[Tensor]) -> RawPredictions:
        """Map feature maps [B, channels, H, W], one for each stride, to predictions."""

    def decode(self, raw: RawPredictions, indices: Tensor) -> Tensor:
        """Return the boxes of some points.

        Args:
            raw: predictions for B images.
            indices: int64 [B, K], positions among the A points.

        Returns:
            float32 [B, K, 4] xyxy, input pixels, not clipped to the image.
        """

    def class_layers(self) -> Sequence[nn.Conv2d | nn.Linear]:
        """Return the layers whose outputs are the classes in order; empty if there are none."""

    def cell_probabilities(self, raw: RawPredictions) -> Tensor:
        """Return the probability of each class at each point, without the confidence of boxes: float32 [B, A, C]."""
        return raw.class_logits.float().sigmoid()
