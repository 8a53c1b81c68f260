"""Small images as text that a page can hold."""

from __future__ import annotations

import base64

from yolo_lite.media.writers import encode_image
from yolo_lite.structures.geometry import Image

LONGEST = 480  # pixels, the longer side of an image in a page
_QUALITY = 80  # of its JPEG file: a page holds dozens


def fitted_hw(hw: tuple[int, int], longest: int = LONGEST) -> tuple[int, int]:
    """Return the size (height, width) of an image whose longer side is reduced to `longest`.

    Example:
        >>> fitted_hw((960, 1280)), fitted_hw((100, 50))
        ((360, 480), (100, 50))
    """
    scale = min(1.0, longest / max(hw))
    return max(1, round(hw[0] * scale)), max(1, round(hw[1] * scale))


def data_uri(image: Image) -> str:
    """Return an image, uint8 [H, W, 3] RGB, as the text of a JPEG file that a page can show.

    Example:
        >>> import numpy as np
        >>> data_uri(np.zeros((8, 8, 3), np.uint8))[:30]
        'data:image/jpeg;base64,/9j/4AA'
    """
    return "data:image/jpeg;base64," + base64.b64encode(encode_image(image, ".jpg", quality=_QUALITY)).decode()
