"""Turn a detection set into network inputs, each determined by (seed, epoch, index) alone."""

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

_SPARE = 2  # a JPEG is decoded at no less than this many times its working size: measured, see read_image_shrunk


class DetectionDataset(Dataset[Sample]):
    """Samples by (epoch, index).

    With an augmenter, images larger than it can use are reduced first, cached or not, so that both give the same bits.

    Args:
        records: the images; they are packed, so that loading processes share them with the main process.
        input_hw: height and width of the network's input.
        resize: "letterbox" or "stretch".
        augmenter: None for images as they are.
        strong_epochs: number of epochs, from the start, with strong augmentation.
        seed: seed of the augmentation.
        max_16bit: as for `read_image`.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> dataset = DetectionDataset(read_split("my_images", "val").records, (32, 64), resize="stretch")
        >>> sample = dataset[0, 2]  # in epoch 0, the third image
        >>> tuple(sample.image.shape), tuple(sample.boxes.shape)
        ((3, 32, 64), (2, 4))
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
        """Decode every image now and cache it in RAM, if `choice` (auto, ram or none) and the free memory allow.

        The arguments are those of `keep_images`.

        Raises:
            InputError: as for `keep_images` and `load`.
        """
        sizes = [self.working_size((height, width)) for height, width in self.records.sizes_hw.tolist()]
        self.kept = keep_images(self.decode, sizes, choice=choice, say=say, on_image=on_image)

    def load(self, index: int) -> Labelled:
        """Return an image with its objects but no crowds, in original pixels or reduced to its working size.

        Boxes are float32 in original pixels, or unrounded float64 for a reduced image. The pixels are read-only.

        Raises:
            InputError: if the file cannot be read or is not of its annotated size; the message names it.
        """
        record = self.records[index]
        image = self.decode(index) if self.kept is None else self.kept[index]
        keep = ~record.crowd
        boxes: npt.NDArray[np.floating[Any]] = record.boxes[keep].astype(np.float32)
        hw = (image.shape[0], image.shape[1])
        if hw != record.hw:
            # Not rounded, so that fitting them to the input gives bit for bit what the original boxes would give.
            boxes = boxes * np.array(Letterbox(record.hw, hw, content_hw=hw, offset_xy=(0, 0)).scale_xy * 2)
        return Labelled(image, boxes, labels=record.labels[keep], unlabelled=record.unlabelled)

    def decode(self, index: int) -> Image:
        """Read an image from its file, at its working size; raises the errors of `load`."""
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
        """Return the (height, width) to which an image is reduced: its own size if there is no augmenter."""
        if self.augmenter is None:
            return original_hw
        reduced = Letterbox.fit(original_hw, self.augmenter.working_hw, resize=self.resize).content_hw
        smaller = reduced[0] <= original_hw[0] and reduced[1] <= original_hw[1]
        return reduced if smaller else original_hw
