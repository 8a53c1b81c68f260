"""Train on inputs whose size changes from step to step."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F

from yolo_lite.config.schema import Config
from yolo_lite.structures.batches import Batch


def another_size(batch: Batch, share: float, *, seed: int, progress: float) -> Batch:
    """Bring a batch to another input size, multiples of 32, drawn from seed and progress alone."""
    factor = np.random.default_rng([seed, round(progress * 2**40), 4]).uniform(1 - share, 1 + share)
    height, width = batch.images.shape[-2:]
    new = _scaled((height, width), factor)
    if new == (height, width):
        return batch
    images = F.interpolate(batch.images.float(), new, mode="bilinear", antialias=True)
    scale = batch.boxes.new_tensor([new[1] / width, new[0] / height] * 2)
    return batch._replace(images=images, boxes=batch.boxes * scale)


def smallest_size(config: Config) -> tuple[int, int]:
    """Return height and width of the smallest input that a run trains on."""
    size, share = config.input.image_size, config.augment.multi_scale
    return _scaled(size, 1 - share) if share and config.task == "detect" else size


def _scaled(hw: tuple[int, int], factor: float) -> tuple[int, int]:
    return max(32, round(hw[0] * factor / 32) * 32), max(32, round(hw[1] * factor / 32) * 32)
