"""Train on inputs whose size changes from step to step."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F

from yolo_lite.config.schema import Config
from yolo_lite.structures.batches import Batch


def another_size(batch: Batch, fraction: float, *, seed: int, progress: float) -> Batch:
    """Resize a batch to another input size, a multiple of 32, drawn from seed and progress alone.

    Args:
        batch: in input pixels.
        fraction: sizes are drawn from 1 - fraction to 1 + fraction times the present one.
        seed: of the run.
        progress: fraction of the steps done.

    Example:
        >>> from yolo_lite.data.pipeline.loader import collate_boxes
        >>> from yolo_lite.structures.batches import Sample
        >>> boxes, labels = torch.tensor([[0.0, 0, 64, 32]]), torch.tensor([0])
        >>> batch = collate_boxes([Sample(torch.zeros(3, 64, 64, dtype=torch.uint8), boxes, labels, 0)])
        >>> other = another_size(batch, 0.5, seed=0, progress=0.1)
        >>> other.images.shape[-2:], other.boxes.tolist()
        (torch.Size([32, 32]), [[[0.0, 0.0, 32.0, 16.0]]])
    """
    factor = np.random.default_rng([seed, round(progress * 2**40), 4]).uniform(1 - fraction, 1 + fraction)
    height, width = batch.images.shape[-2:]
    new = _scaled((height, width), factor)
    if new == (height, width):
        return batch
    images = F.interpolate(batch.images.float(), new, mode="bilinear", antialias=True)
    scale = batch.boxes.new_tensor([new[1] / width, new[0] / height] * 2)
    return batch._replace(images=images, boxes=batch.boxes * scale)


def smallest_size(config: Config) -> tuple[int, int]:
    """Return height and width of the smallest input that a run trains on.

    Example:
        >>> from yolo_lite.config.schema import AugmentConfig, InputConfig
        >>> smallest_size(Config(input=InputConfig(image_size=(320, 320)), augment=AugmentConfig(multi_scale=0.25)))
        (256, 256)
    """
    size, fraction = config.input.image_size, config.augment.multi_scale
    return _scaled(size, 1 - fraction) if fraction and config.task == "detect" else size


def _scaled(hw: tuple[int, int], factor: float) -> tuple[int, int]:
    return max(32, round(hw[0] * factor / 32) * 32), max(32, round(hw[1] * factor / 32) * 32)
