"""Turn images to classify into network inputs, each determined by (seed, epoch, index) alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from yolo_lite.data.pipeline.cache import may_keep
from yolo_lite.data.pipeline.loader import reading_threads, stack_images
from yolo_lite.errors import InputError
from yolo_lite.media.images import MAX_16BIT, decode_image, read_image
from yolo_lite.media.inputs import to_input
from yolo_lite.structures.batches import ClassBatch, ClassSample
from yolo_lite.structures.datasets import ClassRecord
from yolo_lite.structures.geometry import Image

if TYPE_CHECKING:
    from yolo_lite.data.pipeline.augment import ClassAugmenter

CACHE_LIMIT = 1 << 30  # bytes of input pixels that "auto" caches at most


class ClassDataset(Dataset[ClassSample]):
    """Samples by (epoch, index).

    Images are fitted to the input first and augmented afterwards, so that they can be cached at the input's size.

    Args:
        records: the images.
        input_hw: height and width of the network's input.
        channels: 3, or 1 for grey.
        resize: "letterbox" or "stretch".
        augmenter: None for images as they are.
        strong_epochs: number of epochs, from the start, with full augmentation.
        seed: seed of the augmentation.
        cache: cache images in RAM: "auto" up to CACHE_LIMIT if they fit, "ram" always, "none" never.
        on_image: called with the number of images cached so far and the total.
        max_16bit: as for `read_image`.

    Raises:
        InputError: if "ram" is chosen but does not fit, or an image to be cached cannot be read; the message names it.

    Example:
        >>> black = ClassRecord("black", np.zeros((4, 8), np.uint8), label=1)
        >>> dataset = ClassDataset([black], (16, 16), channels=3, resize="stretch")
        >>> tuple(dataset[0, 0].image.shape), dataset[0, 0].label  # epoch 0, image 0
        ((3, 16, 16), 1)
    """

    def __init__(
        self,
        records: Sequence[ClassRecord],
        input_hw: tuple[int, int],
        *,
        channels: int,
        resize: str,
        augmenter: ClassAugmenter | None = None,
        strong_epochs: int = 0,
        seed: int = 0,
        cache: str = "auto",
        on_image: Callable[[int, int], None] = lambda done, total: None,
        max_16bit: int = MAX_16BIT,
    ) -> None:
        self.max_16bit = max_16bit
        self.records, self.input_hw, self.channels, self.resize = records, input_hw, channels, resize
        self.augmenter, self.strong_epochs, self.seed = augmenter, strong_epochs, seed
        self.kept: npt.NDArray[np.uint8] | None = None
        need = len(records) * channels * input_hw[0] * input_hw[1]
        if may_keep(cache, len(records), need=need, say=lambda line: None) and (cache == "ram" or need <= CACHE_LIMIT):
            self.kept = self._keep(on_image)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: tuple[int, int]) -> ClassSample:
        epoch, index = key
        image = self.load(index) if self.kept is None else self.kept[index]
        if self.augmenter is not None:
            generator = np.random.default_rng([self.seed, epoch, index])
            image = self.augmenter(image, generator, strong=epoch < self.strong_epochs)
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)
        return ClassSample(pixels, self.records[index].label, index)

    def load(self, index: int) -> npt.NDArray[np.uint8]:
        """Return an image at the input's size: uint8 [H, W, channels]."""
        return to_input(
            read_record(self.records[index], self.max_16bit), self.input_hw, channels=self.channels, resize=self.resize
        )

    def _keep(self, on_image: Callable[[int, int], None]) -> npt.NDArray[np.uint8]:
        """Return all images at the input's size; several threads read the files, each file once for all its parts."""
        total, done = len(self.records), 0
        kept = np.empty((total, *self.input_hw, self.channels), np.uint8)

        def kind(index: int) -> Path | int:
            content = self.records[index].content
            return content if isinstance(content, Path) else index // 100

        def store(group: list[int]) -> int:
            image: Image | None = None
            for index in group:
                record = self.records[index]
                if image is None or not isinstance(record.content, Path):
                    image = _decode(record, self.max_16bit)
                kept[index] = to_input(_cut(record, image), self.input_hw, channels=self.channels, resize=self.resize)
            return len(group)

        groups = [list(group) for _, group in itertools.groupby(range(total), kind)]
        with ThreadPoolExecutor(reading_threads()) as threads:
            for count in threads.map(store, groups):
                done += count
                on_image(done, total)
        return kept


def read_record(record: ClassRecord, max_16bit: int = MAX_16BIT) -> Image:
    """Return the pixels of a record: uint8 [H, W, 3] RGB; `max_16bit` as for `read_image`.

    Raises:
        InputError: if the image cannot be read, or the box lies outside it; the message names the image.

    Example:
        >>> grey = np.full((2, 2), 7, np.uint8)
        >>> read_record(ClassRecord("grey", grey, label=0))[0, 0].tolist()
        [7, 7, 7]
    """
    return _cut(record, _decode(record, max_16bit))


def _decode(record: ClassRecord, max_16bit: int) -> Image:
    content = record.content
    if isinstance(content, Path):
        return read_image(content, max_16bit)
    if isinstance(content, bytes):
        return decode_image(content, record.name, max_16bit=max_16bit)
    return np.repeat(content[..., None], 3, -1) if content.ndim == 2 else content


def _cut(record: ClassRecord, image: Image) -> Image:
    if record.box is None:
        return image
    left, top, right, bottom = (max(0, round(side)) for side in record.box)
    part = image[top:bottom, left:right]
    if not part.size:
        raise InputError(f"{record.name} lies outside its image of {image.shape[1]} x {image.shape[0]} pixels")
    return part


def collate_classes(samples: Sequence[ClassSample]) -> ClassBatch:
    """Stack samples into a batch.

    Example:
        >>> samples = [ClassSample(torch.zeros(3, 4, 4), label, position) for position, label in enumerate([1, 0])]
        >>> batch = collate_classes(samples)
        >>> tuple(batch.images.shape), batch.labels
        ((2, 3, 4, 4), tensor([1, 0]))
    """
    return ClassBatch(
        stack_images([sample.image for sample in samples]),
        torch.tensor([sample.label for sample in samples]),
        torch.tensor([sample.position for sample in samples]),
    )
