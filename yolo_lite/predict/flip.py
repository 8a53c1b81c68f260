"""Test-time augmentation: predictions for an image and for its mirror image, together."""

from __future__ import annotations

import torch
from torch import Tensor

from yolo_lite.models.yolo import Yolo
from yolo_lite.predict.postprocess import Decode
from yolo_lite.structures.batches import RawPredictions


def predict(model: Yolo, images: Tensor, *, tta: bool) -> tuple[RawPredictions, Decode]:
    """Return a network's predictions, and the function that decodes their boxes.

    Args:
        model: in evaluation mode.
        images: uint8 [B, 3, H, W].
        tta: also predict for the images mirrored left to right. The boxes found there are mirrored back, and
            `postprocess` merges both sets by NMS. This takes about twice as long.

    Returns:
        Predictions for A points, or 2 A points with `tta`.

    Example:
        >>> from yolo_lite.predict.detector import Detector
        >>> model = Detector("yolo_lite-pico-voc5", device="cpu").model
        >>> images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
        >>> [len(predict(model, images, tta=tta)[0].points) for tta in (False, True)]
        [84, 168]
    """
    raw = model(images)
    if not tta:
        return raw, model.decode
    mirrored = model(images.flip(-1))
    width = images.shape[-1]
    left, top, right, bottom = _all_boxes(model, mirrored).unbind(-1)
    boxes = torch.cat([_all_boxes(model, raw), torch.stack([width - right, top, width - left, bottom], -1)], 1)
    points = mirrored.points * mirrored.points.new_tensor([-1, 1]) + mirrored.points.new_tensor([width, 0])
    both = RawPredictions(
        boxes,
        torch.cat([raw.class_logits, mirrored.class_logits], 1),
        points=torch.cat([raw.points, points]),
        strides=torch.cat([raw.strides, mirrored.strides]),
    )
    return both, _decoded


def _all_boxes(model: Yolo, raw: RawPredictions) -> Tensor:
    """Return the boxes of all points, float32 [B, A, 4]."""
    every = torch.arange(len(raw.points), device=raw.points.device).expand(len(raw.class_logits), -1)
    return model.decode(raw, every).float()


def _decoded(raw: RawPredictions, indices: Tensor) -> Tensor:
    """Return boxes that are decoded already."""
    return raw.box_outputs.gather(1, indices.unsqueeze(-1).expand(-1, -1, 4))
