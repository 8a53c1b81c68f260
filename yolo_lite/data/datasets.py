"""A detection set as network inputs, each made from (seed, epoch, index) alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Dataset

from yolo_lite.data.images import read_image, read_image_size
from yolo_lite.data.labelled import Labelled, fit
from yolo_lite.errors import InputError
from yolo_lite.structures import DetectionSet, ImageRecord, Sample

if TYPE_CHECKING:
    from yolo_lite.data.augment import Augmenter


class DetectionDataset(Dataset[Sample]):
    """Samples by (epoch, index).

    Args:
        records: the pictures.
        input_hw: height and width of the network's input.
        resize: "letterbox" or "stretch".
        augmenter: None for pictures as they are.
        strong_epochs: so many epochs, from the start, are augmented strongly.
        seed: of the augmentation.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        input_hw: tuple[int, int],
        resize: str,
        augmenter: Augmenter | None = None,
        strong_epochs: int = 0,
        seed: int = 0,
    ) -> None:
        self.records, self.input_hw, self.resize = records, input_hw, resize
        self.augmenter, self.strong_epochs, self.seed = augmenter, strong_epochs, seed

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        if self.augmenter is None:
            made = fit(self.load(index), self.input_hw, self.resize)
        else:
            generator = np.random.default_rng([self.seed, epoch, index])
            made = self.augmenter(self.load, index, len(self), generator, strong=epoch < self.strong_epochs)
        return Sample(
            torch.from_numpy(np.ascontiguousarray(made.image.transpose(2, 0, 1))),
            torch.from_numpy(made.boxes),
            torch.from_numpy(made.labels),
            index,
            made.unlabelled,
        )

    def load(self, index: int) -> Labelled:
        """Return a picture in original pixels with its objects; crowd boxes are left out.

        Raises:
            InputError: naming the file, where it cannot be read or is not of the size that its annotations are for.
        """
        record = self.records[index]
        image = read_image(record.path)
        if image.shape[:2] != record.hw:
            raise size_error(record, (image.shape[0], image.shape[1]))
        keep = ~record.crowd
        return Labelled(image, record.boxes[keep].astype(np.float32), record.labels[keep], record.unlabelled)


def check_pictures(data: DetectionSet) -> None:
    """Read every picture's header, so that a bad file stops a run at its start and not hours later.

    Raises:
        InputError: counting missing pictures, or naming the first that is no picture or not of the size that its
            annotations are for.
    """
    missing = [record.path for record in data.records if not record.path.is_file()]
    if missing:
        raise InputError(
            f"{data.source} lists {len(data.records):,} pictures, of which {len(missing):,} are missing; the first was "
            f"looked for at {missing[0]}"
        )
    for record in data.records:
        hw = read_image_size(record.path)
        if hw != record.hw:
            raise size_error(record, hw)


def size_error(record: ImageRecord, hw: tuple[int, int]) -> InputError:
    """Return the error for a picture whose annotations were made for another size."""
    return InputError(
        f"{record.path} is {hw[1]} x {hw[0]} (upright, as its EXIF says), but its annotations are for "
        f"{record.hw[1]} x {record.hw[0]}: the boxes would be wrong"
    )
