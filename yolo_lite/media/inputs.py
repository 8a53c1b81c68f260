"""From the images that a caller hands over to the inputs of a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from yolo_lite.media.images import to_rgb
from yolo_lite.structures.geometry import Image, Letterbox
from yolo_lite.structures.resize import to_grey

Result = TypeVar("Result")


def run_in_batches(
    images: Any,
    run: Callable[[list[Image]], list[Result]],
    *,
    batch_size: int,
    max_16bit: int,
    read: Callable[[Any, int], Image] = to_rgb,
) -> Result | list[Result]:
    """Read one image, or each of a list, and return the result for it, or a list of results.

    Args:
        images: an image as `to_rgb` takes it, or a list or tuple of these.
        run: returns one result for each image, uint8 [H, W, 3] RGB.
        batch_size: the most images that `run` gets at once.
        max_16bit: as for `read_image`.
        read: returns an image of any accepted type as pixels, from the image and `max_16bit`.

    Raises:
        InputError: if an image cannot be read, or is of the wrong type.

    Example:
        >>> black = np.zeros((2, 3, 3), np.uint8)
        >>> run_in_batches([black] * 3, lambda batch: [len(batch)] * len(batch), batch_size=2, max_16bit=65535)
        [2, 2, 1]
    """
    if not isinstance(images, list | tuple):
        return run([read(images, max_16bit)])[0]
    results: list[Result] = []
    for start in range(0, len(images), batch_size):
        results += run([read(image, max_16bit) for image in images[start : start + batch_size]])
    return results


def to_input(image: Image, input_hw: tuple[int, int], *, channels: int, resize: str) -> npt.NDArray[np.uint8]:
    """Fit an image, uint8 [H, W, 3] RGB, to the network's input: uint8 [H, W, channels]; one channel means grey.

    Example:
        >>> to_input(np.zeros((4, 8, 3), np.uint8), (16, 16), channels=1, resize="letterbox").shape
        (16, 16, 1)
    """
    fitted = Letterbox.fit((image.shape[0], image.shape[1]), input_hw, resize=resize).apply(image)
    return to_grey(fitted)[..., None] if channels == 1 else fitted
