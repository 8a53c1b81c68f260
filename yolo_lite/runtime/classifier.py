"""Classify with an exported network, without torch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import numpy as np

from yolo_lite.checks import check_path, check_whole
from yolo_lite.errors import InputError
from yolo_lite.media.inputs import run_in_batches, to_input
from yolo_lite.runtime.session import Session
from yolo_lite.shipped import find_exported
from yolo_lite.structures.geometry import Image
from yolo_lite.structures.results import Classification

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

    ImageInput = str | os.PathLike[str] | Image | PillowImage


class Classifier:
    """An exported classifier: call it with an image to get a `Classification`, as with a checkpoint.

    Args:
        weights: a file that `yolo-lite export` wrote, or an open `Session`.
        batch_size: number of images in a list that are processed together.
        threads: 0 for as many as ONNX Runtime chooses.

    Raises:
        InputError: if the file or a setting cannot be used.

    Example:
        >>> Classifier("missing.onnx")
        Traceback (most recent call last):
        yolo_lite.errors.InputError: missing.onnx does not exist
    """

    def __init__(self, weights: str | os.PathLike[str] | Session, *, batch_size: int = 64, threads: int = 0) -> None:
        if not isinstance(weights, Session):
            weights = Session(
                find_exported(check_path(weights, "weights")), threads=check_whole(threads, "threads", minimum=0)
            )
        self.weights, self._session = weights.path, weights
        self.info = self._session.info
        if self.info.task != "classify":
            raise InputError(f"{self.weights} is a detector, expected a classifier")
        self.class_names, self.max_16bit = self.info.class_names, self.info.max_16bit
        self.batch_size = min(check_whole(batch_size, "batch_size"), self._session.batch or 2**31)

    @overload
    def __call__(self, images: ImageInput) -> Classification: ...

    @overload
    def __call__(self, images: list[ImageInput] | tuple[ImageInput, ...]) -> list[Classification]: ...

    def __call__(
        self, images: ImageInput | list[ImageInput] | tuple[ImageInput, ...]
    ) -> Classification | list[Classification]:
        """Classify one image or each image of a list.

        Args:
            images: a path; a NumPy array uint8 [H, W, 3] in RGB order; a PIL image; or a list of these.

        Raises:
            InputError: if an image cannot be read, or is of the wrong type.
        """
        return run_in_batches(images, self._classify, batch_size=self.batch_size, max_16bit=self.max_16bit)

    def _classify(self, images: Sequence[Image]) -> list[Classification]:
        info = self.info
        inputs = [to_input(image, info.image_size, channels=info.channels, resize=info.resize) for image in images]
        (scores,) = self._session.run(np.stack(inputs))
        return [Classification(row, self.class_names) for row in scores]
