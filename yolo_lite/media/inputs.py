"""Make a network's input of an image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from yolo_lite.structures.geometry import Image, Letterbox


def to_input(image: Image, input_hw: tuple[int, int], *, channels: int, resize: str) -> npt.NDArray[np.uint8]:
    """Fit an image, uint8 [H, W, 3] RGB, to the network's input: uint8 [H, W, channels]; one channel means grey.

    Example:
        >>> to_input(np.zeros((4, 8, 3), np.uint8), (16, 16), channels=1, resize="letterbox").shape
        (16, 16, 1)
    """
    import cv2

    fitted = Letterbox.fit((image.shape[0], image.shape[1]), input_hw, resize=resize).apply(image)
    return cv2.cvtColor(fitted, cv2.COLOR_RGB2GRAY)[..., None] if channels == 1 else fitted
