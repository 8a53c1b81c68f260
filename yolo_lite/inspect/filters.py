"""Classic kernels of image processing, applied to an image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from yolo_lite.ops import convolve
from yolo_lite.structures.geometry import Image

KERNELS: dict[str, list[list[float]]] = {
    "blur 3x3": [[1 / 9] * 3] * 3,
    "blur 21x21": [[1 / 441] * 21] * 21,
    "sharpen": [[0, -1, 0], [-1, 5, -1], [0, -1, 0]],
    "Laplacian": [[0, 1, 0], [1, -4, 1], [0, 1, 0]],
    "edge": [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]],
    "Sobel x": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
    "Sobel y": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
    "emboss": [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]],
}


def grey(image: Image) -> npt.NDArray[np.float32]:
    """Return the brightness of an image by the weights of ITU-R BT.601.

    Args:
        image: uint8 [H, W, 3] RGB.

    Returns:
        float32 [H, W] in 0..255.

    Example:
        >>> grey(np.array([[[255, 0, 0], [10, 10, 10]]], np.uint8)).astype(int).tolist()
        [[76, 10]]
    """
    brightness: npt.NDArray[np.float64] = image @ np.array([0.299, 0.587, 0.114])
    return brightness.astype(np.float32)


def filter_image(image: Image) -> dict[str, tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Convolve an image's brightness with each of KERNELS, with zeros around it.

    Returns:
        {name: (kernel float32 [k, k], result float32 [H, W])}; results are not clipped to 0..255.

    Example:
        >>> white = np.full((5, 5, 3), 255, np.uint8)
        >>> kernel, result = filter_image(white)["Laplacian"]
        >>> result[2, 2].round(3), result[0, 2].round(3)  # inside, and at the border
        (np.float32(0.0), np.float32(-255.0))
    """
    brightness = torch.from_numpy(grey(image))
    made = {}
    for name, rows in KERNELS.items():
        kernel = torch.tensor(rows)
        made[name] = (kernel.numpy(), convolve(brightness, kernel, padding=len(rows) // 2).numpy())
    return made
