"""A detection set as network inputs, each made from (seed, epoch, index) alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from yolo_lite.data.pipeline.cache import KeptImages, keep_images
from yolo_lite.data.pipeline.labelled import Labelled, fit
from yolo_lite.data.sizes import size_error
from yolo_lite.media.images import MAX_16BIT, read_image_shrunk
from yolo_lite.structures.batches import Sample
from yolo_lite.structures.geometry import Image, Letterbox, resize_image
from yolo_lite.structures.records import ImageRecord, Records

if TYPE_CHECKING:
    from yolo_lite.data.pipeline.augment import Augmenter

_SPARE = 2  # a JPEG is decoded no smaller than so many times its working size: measured, see read_image_shrunk


class DetectionDataset(Dataset[Sample]):
    """Samples by (epoch, index).

    With an augmenter, images larger than it can make use of are reduced before anything else, whether or not they
    are kept in memory, so that both give the same bits.

    Args:
        records: the images; loading processes share them with the one that asks, since they are packed.
        input_hw: height and width of the network's input.
        resize: "letterbox" or "stretch".
        augmenter: None for images as they are.
        strong_epochs: so many epochs, from the start, are augmented strongly.
        seed: of the augmentation.
        max_16bit: as for `read_image`.
    """

    def __init__(
        self,
        records: Sequence[ImageRecord],
        input_hw: tuple[int, int],
        *,
        resize: str,
        augmenter: Augmenter | None = None,
        strong_epochs: int = 0,
        seed: int = 0,
        max_16bit: int = MAX_16BIT,
    ) -> None:
        self.max_16bit = max_16bit
        self.records = records if isinstance(records, Records) else Records.pack(records)
        self.input_hw, self.resize = input_hw, resize
        self.augmenter, self.strong_epochs, self.seed = augmenter, strong_epochs, seed
        self.kept: KeptImages | None = None

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        if self.augmenter is None:
            made = fit(self.load(index), self.input_hw, resize=self.resize)
        else:
            generator = np.random.default_rng([self.seed, epoch, index])
            made = self.augmenter(self.load, index, len(self), generator, strong=epoch < self.strong_epochs)
        return Sample(
            torch.from_numpy(np.require(made.image, requirements=["C", "W"])).permute(2, 0, 1),
            torch.from_numpy(made.boxes),
            labels=torch.from_numpy(made.labels),
            position=index,
            unlabelled=made.unlabelled,
        )

    def keep(
        self,
        choice: str,
        say: Callable[[str], None],
        *,
        on_image: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        """Decode every image now and keep it in memory, as `choice` (auto, ram or none) and the room there allow.

        Arguments are those of `keep_images`.

        Raises:
            InputError: as `keep_images` and `load` do.
        """
        sizes = [self.working_size((height, width)) for height, width in self.records.sizes_hw.tolist()]
        self.kept = keep_images(self.decode, sizes, choice=choice, say=say, on_image=on_image)

    def load(self, index: int) -> Labelled:
        """Return an image in original pixels, or reduced to its working size, with its objects but those of crowds.

        Boxes are float32 in original pixels, unrounded float64 of a reduced image. The pixels may not be written to.

        Raises:
            InputError: naming the file, where it cannot be read or is not of the size that its annotations are for.
        """
        record = self.records[index]
        image = self.decode(index) if self.kept is None else self.kept[index]
        keep = ~record.crowd
        boxes: npt.NDArray[np.floating[Any]] = record.boxes[keep].astype(np.float32)
        hw = (image.shape[0], image.shape[1])
        if hw != record.hw:
            # Not rounded: fitted to the input they then are, bit for bit, what the original boxes would have become.
            boxes = boxes * np.array(Letterbox(record.hw, hw, content_hw=hw, offset_xy=(0, 0)).scale_xy * 2)
        return Labelled(image, boxes, labels=record.labels[keep], unlabelled=record.unlabelled)

    def decode(self, index: int) -> Image:
        """Read an image from its file, at its working size; raises as `load` does."""
        record = self.records[index]
        height, width = self.working_size(record.hw)
        image, divisor = read_image_shrunk(
            record.path,
            min(record.hw[0] // (height * _SPARE), record.hw[1] // (width * _SPARE)),
            max_16bit=self.max_16bit,
        )
        hw = (image.shape[0] * divisor, image.shape[1] * divisor)
        if hw != record.hw:
            raise size_error(record, hw)
        return image if image.shape[:2] == (height, width) else resize_image(image, (height, width))

    def working_size(self, original_hw: tuple[int, int]) -> tuple[int, int]:
        """Return the (height, width) to which an image is reduced; without an augmenter that is its own."""
        if self.augmenter is None:
            return original_hw
        reduced = Letterbox.fit(original_hw, self.augmenter.working_hw, resize=self.resize).content_hw
        smaller = reduced[0] <= original_hw[0] and reduced[1] <= original_hw[1]
        return reduced if smaller else original_hw
