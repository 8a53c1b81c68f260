"""What the other parts of the package ask of a detection head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn

from yolo_lite.structures.batches import RawPredictions


class Head(Protocol):
    """A module that maps feature maps to RawPredictions, and says how these are read and trained.

    Heads inherit from it, after nn.Module, so that they state only where they differ.

    Attributes:
        strides: of the grids, input pixels.
        loss: what the head is trained with: "assigned" (losses/detection.py) or "yolov1" (losses/yolov1.py).
        bins: distances in the distribution of each side of a box; 0 for a head that predicts distances themselves.
        boxes_per_cell: boxes that share the class probabilities of a cell; 0 for a head whose points stand alone.
        fixed_classes: the number of classes that a file fixes for the head; None where the data decides.
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
        """Return the layers whose outputs are the classes in order; empty where there are none."""

    def cell_probabilities(self, raw: RawPredictions) -> Tensor:
        """Return how likely each class is at each point, whatever the point's boxes score: float32 [B, A, C]."""
        return raw.class_logits.float().sigmoid()
