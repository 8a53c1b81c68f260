"""An image with its objects, and how both are brought to the network's input."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from yolo_lite.structures.geometry import Image, Letterbox


class Labelled(NamedTuple):
    """An image and its objects in one frame."""

    image: Image  # uint8 [H, W, 3] RGB
    boxes: npt.NDArray[np.floating[Any]]  # [N, 4] xyxy, pixels of the image; float32, but float64 of a reduced image
    labels: npt.NDArray[np.int64]  # [N]
    unlabelled: tuple[int, ...] = ()  # classes whose absence means nothing here


def fit(sample: Labelled, input_hw: tuple[int, int], *, resize: str) -> Labelled:
    """Bring an image and its boxes from original pixels to input pixels; boxes are clipped to the image."""
    letterbox = Letterbox.fit(sample.image.shape[:2], input_hw, resize=resize)
    height, width = sample.image.shape[:2]
    boxes = letterbox.boxes_to_input(np.clip(sample.boxes, 0, [width, height, width, height]))
    return Labelled(letterbox.apply(sample.image), boxes, labels=sample.labels, unlabelled=sample.unlabelled)
