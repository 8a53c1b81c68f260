"""Classify images with trained weights."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import numpy as np
import torch

from yolo_lite.checkpoints.checkpoint import build_classifier_from_checkpoint, load_checkpoint
from yolo_lite.checks import check_path, check_whole
from yolo_lite.device import explain_out_of_memory, pick_device, place
from yolo_lite.media.inputs import run_in_batches, to_input
from yolo_lite.shipped import find_weights
from yolo_lite.structures.geometry import Image
from yolo_lite.structures.results import Classification

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

    ImageInput = str | os.PathLike[str] | Image | PillowImage


class Classifier:
    """A trained classifier: call it with an image to get a `Classification`.

    Args:
        weights: a file, or the bare name of a shipped file.
        device: auto, cpu, cuda or mps, or a torch device.
        batch_size: number of images in a list that are processed together.

    Raises:
        InputError: if the weights, the device or a setting cannot be used.

    Example:
        >>> from yolo_lite import train_classifier
        >>> quick = {"input.image_size": 32, "train.epochs": 1, "train.preflight": False, "train.workers": 0}
        >>> run = train_classifier("my_classes", config="lenet", out="lenet_run", settings=quick, device="cpu")
        >>> Classifier(run / "best.pt", device="cpu")("my_classes/val/disc/disc-000.png").class_names
        ('disc', 'square')
    """

    def __init__(
        self, weights: str | os.PathLike[str], device: str | torch.device = "auto", *, batch_size: int = 64
    ) -> None:
        self.weights = find_weights(check_path(weights, "weights"))
        self.checkpoint = load_checkpoint(self.weights)
        self.class_names = self.checkpoint.class_names
        self.input = self.checkpoint.config.input
        self.max_16bit = self.input.max_16bit
        self.device = pick_device(device)
        self.model = place(build_classifier_from_checkpoint(self.checkpoint, self.weights), self.device)
        self.batch_size = check_whole(batch_size, "batch_size")

    @overload
    def __call__(self, images: ImageInput) -> Classification: ...

    @overload
    def __call__(self, images: list[ImageInput] | tuple[ImageInput, ...]) -> list[Classification]: ...

    def __call__(
        self, images: ImageInput | list[ImageInput] | tuple[ImageInput, ...]
    ) -> Classification | list[Classification]:
        """Classify one image, or each image of a list.

        Args:
            images: a path; a NumPy array uint8 [H, W, 3] in RGB order; a PIL image; or a list of these.

        Returns:
            The scores of every class; for a list, one Classification for each image.

        Raises:
            InputError: if an image cannot be read, or is of the wrong type; the message names the file, or the type.
        """
        return run_in_batches(images, self._classify, batch_size=self.batch_size, max_16bit=self.max_16bit)

    @torch.inference_mode()
    def _classify(self, images: Sequence[Image]) -> list[Classification]:
        if not images:
            return []
        size, channels, resize = self.input.image_size, self.input.channels, self.input.resize
        inputs = np.stack([to_input(image, size, channels=channels, resize=resize) for image in images])
        batch = torch.from_numpy(inputs).to(self.device).permute(0, 3, 1, 2)
        with explain_out_of_memory(f"use a smaller batch_size (now {self.batch_size})"):
            scores = self.model.scores(self.model(batch)).cpu().numpy()
        return [Classification(row, self.class_names) for row in scores]
