"""The detector: it normalises pixels, then applies backbone, neck and head.

**Patches, cells, points.** YOLO looks once: no window slides over the image. The backbone halves the resolution again
and again, until one vector of features stands for each patch of 8 x 8, 16 x 16 or 32 x 32 input pixels. The patches of
each size form a grid. At 320 x 320 the three grids have 40 x 40, 20 x 20 and 10 x 10 cells, 2,100 in all. The vector of
a cell depends on much more than its own patch (its receptive field), and the neck adds information from the other
grids. For every cell the head predicts which classes are there, and how far the object's sides lie to the left, above,
to the right of and below the cell's centre. In training the assigner (losses/assign.py) decides which cells should
answer for an object. A trained network usually finds an object in several neighbouring cells, of which suppression
(ops/nms.py) keeps the best.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from yolo_lite.models.heads.base import Head
from yolo_lite.structures.batches import RawPredictions


class Yolo(nn.Module):
    """A detector: backbone, neck and head in a row, applied to pixels.

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
        """Freeze the backbone's weights, and the statistics of its normalisations.

        Example:
            >>> from yolo_lite.config.schema import Config
            >>> from yolo_lite.models.build import build_detector
            >>> model = build_detector(Config(), 2)
            >>> model.freeze_backbone()
            >>> {name.partition(".")[0] for name, parameter in model.named_parameters() if parameter.requires_grad} == {"neck", "head"}
            True
        """
        self.frozen = True
        self.backbone.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Yolo:
        """Switch to training or evaluation mode; a frozen backbone stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> RawPredictions:
        """Predict classes and boxes at every point of images.

        Args:
            images: uint8 or float [B, 3, H, W] RGB, 0..255, height and width multiples of 32.

        Example:
            >>> from yolo_lite.config.schema import Config
            >>> from yolo_lite.models.build import build_detector
            >>> raw = build_detector(Config(), classes=2).eval()(torch.zeros(1, 3, 64, 64))
            >>> [int((raw.strides == stride).sum()) for stride in (8, 16, 32)]  # points of the three grids
            [64, 16, 4]
        """
        x = (images.to(self.mean.dtype) - self.mean).div_(self.std)
        return self.head(self.neck(self.backbone(x)))

    def decode(self, raw: RawPredictions, indices: Tensor) -> Tensor:
        """Return the boxes of the points `indices` [B, K]: float32 [B, K, 4] xyxy, input pixels.

        Example:
            >>> from yolo_lite.config.schema import Config
            >>> from yolo_lite.models.build import build_detector
            >>> model = build_detector(Config(), classes=2).eval()
            >>> model.decode(model(torch.zeros(1, 3, 64, 64)), torch.tensor([[0, 5, 83]])).shape
            torch.Size([1, 3, 4])
        """
        return self.head.decode(raw, indices)
