"""The detector: pixels are normalised, then backbone, neck and head.

**Patches, cells, points.** YOLO looks once: no window slides over the image. The backbone halves its resolution again
and again until one vector of features stands for each patch of 8 x 8, 16 x 16 or 32 x 32 input pixels. Laid side by
side the patches are three grids; at 320 x 320 these have 40 x 40, 20 x 20 and 10 x 10 cells, 2,100 in all. The vector of a
cell has seen much more than its own patch (its receptive field), and the neck adds what the other grids saw. For every
cell the head says which classes are here, and how far left, up, right and down of the cell's centre the object's sides
are. In training the assigner (losses/assign.py) decides which cells should answer for an object; afterwards several
neighbours usually find it, and suppression (ops/nms.py) keeps the best.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from yolo_lite.models.heads.base import Head
from yolo_lite.structures.batches import RawPredictions


class Yolo(nn.Module):
    """Backbone, neck and head in a row, fed with pixels.

    Args:
        backbone, neck, head: built by models/build.py.
        mean: of R, G, B in 0..255, subtracted from the pixels.
        std: of R, G, B; the pixels are then divided by it.
    """

    head: Head
    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: nn.Module, neck: nn.Module, *, head: Head, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        super().__init__()
        self.backbone, self.neck, self.head = backbone, neck, head
        self.frozen = False
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1))

    def freeze_backbone(self) -> None:
        """Leave the backbone as it is from now on, the statistics of its norms too."""
        self.frozen = True
        self.backbone.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Yolo:
        """As every module; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> RawPredictions:
        """Look at images.

        Args:
            images: uint8 or float [B, 3, H, W] RGB, 0..255, height and width multiples of 32.
        """
        x = (images.to(self.mean.dtype) - self.mean).div_(self.std)
        return self.head(self.neck(self.backbone(x)))

    def decode(self, raw: RawPredictions, indices: Tensor) -> Tensor:
        """Return the boxes [B, K, 4] of the points `indices` [B, K], by the head's rule."""
        return self.head.decode(raw, indices)
