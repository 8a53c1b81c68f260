"""An image with its objects, and the step that fits both to the network's input."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from yolo_lite.structures.geometry import Image, Letterbox


class Labelled(NamedTuple):
    """An image and its objects, in the same coordinates."""

    image: Image  # uint8 [H, W, 3] RGB
    boxes: npt.NDArray[np.floating[Any]]  # [N, 4] xyxy, pixels of the image; float32, or float64 for a reduced image
    labels: npt.NDArray[np.int64]  # [N]
    unlabelled: tuple[int, ...] = ()  # classes whose absence means nothing here


def fit(sample: Labelled, input_hw: tuple[int, int], *, resize: str) -> Labelled:
    """Fit an image and its boxes from original pixels to input pixels; boxes are clipped to the image.

    Example:
        >>> image, boxes = np.zeros((4, 8, 3), np.uint8), np.array([[0.0, 0, 8, 4]])
        >>> fit(Labelled(image, boxes, np.array([0])), (16, 16), resize="letterbox").boxes  # 16 x 8, centred
        array([[ 0.,  4., 16., 12.]], dtype=float32)
    """
    letterbox = Letterbox.fit(sample.image.shape[:2], input_hw, resize=resize)
    height, width = sample.image.shape[:2]
    boxes = letterbox.boxes_to_input(np.clip(sample.boxes, 0, [width, height, width, height]))
    return Labelled(letterbox.apply(sample.image), boxes, labels=sample.labels, unlabelled=sample.unlabelled)
