"""Random changes to training images: mosaic by our own code, the rest by albumentations.

Every change draws from the sample's own generator, so an image looks the same whichever process makes it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from yolo_lite.config.schema import AugmentConfig
from yolo_lite.data.pipeline.labelled import Labelled, fit
from yolo_lite.structures.geometry import PAD_VALUE, Image, Letterbox

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # otherwise its import looks for a newer version online
import albumentations as A
import cv2

_GREY = (PAD_VALUE, PAD_VALUE, PAD_VALUE)
_FINE_SCALE = (0.9, 1.1)  # in the last epochs: close to what the network will see in use


class Augmenter:
    """Make training inputs; see AugmentConfig for every setting.

    Args:
        config: `augment` of the configuration.
        input_hw: height and width of the network's input.
        resize: "letterbox" or "stretch".
        colour: also change colours; False if the training device does it (data/pipeline/colour.py).

    Example:
        >>> from yolo_lite.data.pipeline.detection import DetectionDataset
        >>> from yolo_lite.data.splits import read_split
        >>> dataset = DetectionDataset(read_split("my_images", "train").records, (64, 64), resize="letterbox")
        >>> augment = Augmenter(AugmentConfig(), (64, 64), resize="letterbox")
        >>> augment(dataset.load, 0, len(dataset), np.random.default_rng(0), True).image.shape
        (64, 64, 3)
    """

    def __init__(self, config: AugmentConfig, input_hw: tuple[int, int], *, resize: str, colour: bool = True) -> None:
        self.config, self.input_hw, self.resize, self.colour = config, input_hw, resize, colour
        low, high = config.scale
        fine = max(low, min(_FINE_SCALE[0], high)), min(high, max(_FINE_SCALE[1], low))
        self._after_mosaic = _pipeline(config, None, colour)  # a mosaic has already scaled and shifted its images
        self._strong, self._fine = _pipeline(config, config.scale, colour), _pipeline(config, fine, colour)

    @property
    def working_hw(self) -> tuple[int, int]:
        """Height and width to which an image may be reduced beforehand, because more of its pixels are never used."""
        factor = (
            max(1.0, self.config.scale[1]) if self.config.mosaic else 1.0
        )  # only a mosaic enlarges the image itself
        return math.ceil(self.input_hw[0] * factor), math.ceil(self.input_hw[1] * factor)

    def __call__(
        self, load: Callable[[int], Labelled], index: int, total: int, generator: np.random.Generator, strong: bool
    ) -> Labelled:
        """Make the input of one sample.

        Args:
            load: returns an image of the set, in original pixels or reduced to `working_hw`.
            index: position of the image.
            total: number of images, from which a mosaic draws three more.
            generator: the only source of randomness.
            strong: use mosaic and the full range of scales; False near the end of training.

        Returns:
            Image of size `input_hw`, boxes in input pixels, clipped; boxes mostly outside are dropped.
        """
        if strong and generator.random() < self.config.mosaic:
            others = generator.integers(0, total, 3).tolist()
            sample = mosaic(
                [load(i) for i in (index, *others)],
                self.input_hw,
                scale=self.config.scale,
                generator=generator,
                resize=self.resize,
            )
            pipeline = self._after_mosaic
        else:
            sample = fit(load(index), self.input_hw, resize=self.resize)
            pipeline = self._strong if strong else self._fine
        if pipeline is None:
            return sample
        pipeline.set_random_seed(int(generator.integers(2**31)))
        result = pipeline(image=sample.image, bboxes=sample.boxes, labels=sample.labels)
        return Labelled(
            result["image"],
            np.asarray(result["bboxes"], np.float32).reshape(-1, 4),
            labels=np.asarray(result["labels"], np.int64).reshape(-1),
            unlabelled=sample.unlabelled,
        )

    def describe(self) -> str:
        """Describe the whole pipeline in one line."""
        c = self.config
        steps = [f"{self.resize} to {self.input_hw[0]} x {self.input_hw[1]}"]
        if c.mosaic:
            steps.insert(0, f"mosaic of four (p {c.mosaic:g})")
        steps += _geometry_words(c) + _colour_words(c, "" if self.colour else " (by the device)")
        if c.multi_scale:
            steps.append(f"input size ±{c.multi_scale:.0%}, another at each step")
        if c.off_last and (c.mosaic or c.scale != (1, 1)):
            steps.append(f"no mosaic and little scaling in the last {c.off_last:.0%} of epochs")
        return "; ".join(steps) if len(steps) > 1 else f"none ({steps[0]})"


class ClassAugmenter:
    """Make training inputs of images to classify: scale, shift (uncovered parts mirror the rest), colour, flip.

    Args:
        config: `augment` of the configuration; mosaic and min_visibility have no effect here.
        channels: 3, or 1 for grey, which varies in brightness only.

    Example:
        >>> augment = ClassAugmenter(AugmentConfig(flip=1), channels=1)
        >>> image = np.arange(4, dtype=np.uint8).reshape(1, 4, 1)
        >>> augment(image, np.random.default_rng(0), strong=False).ravel()  # not strong: it flips only
        array([3, 2, 1, 0], dtype=uint8)
    """

    def __init__(self, config: AugmentConfig, channels: int) -> None:
        self.config = config
        self.coloured = channels == 3
        colour = _colour(config) if channels == 3 else _brightness(config)
        affine = []
        if config.scale != (1, 1) or config.translate:
            affine.append(_affine(config, config.scale, border_mode=cv2.BORDER_REFLECT_101))
        flip = [A.HorizontalFlip(p=config.flip)] if config.flip else []
        self._strong = A.Compose([*affine, *colour, *flip]) if affine or colour or flip else None
        self._fine = A.Compose(flip) if flip else None

    def __call__(
        self, image: npt.NDArray[np.uint8], generator: np.random.Generator, strong: bool
    ) -> npt.NDArray[np.uint8]:
        """Return a changed copy of an input, uint8 [H, W, channels]; if not `strong`, near the end of training, only flip it."""
        pipeline = self._strong if strong else self._fine
        if pipeline is None:
            return image
        pipeline.set_random_seed(int(generator.integers(2**31)))
        changed: npt.NDArray[np.uint8] = pipeline(image=image)["image"]
        return changed.reshape(image.shape)

    def describe(self) -> str:
        """Describe the whole pipeline in one line."""
        words = _geometry_words(self.config) + _colour_words(self.config)
        if not self.coloured:
            c = self.config
            words = (
                _geometry_words(c)
                + ([f"value ±{c.value:g}"] if c.value else [])
                + ([f"flip (p {c.flip:g})"] if c.flip else [])
            )
        return "; ".join(words) or "none"


def mosaic(
    samples: list[Labelled],
    input_hw: tuple[int, int],
    *,
    scale: tuple[float, float],
    generator: np.random.Generator,
    resize: str = "letterbox",
) -> Labelled:
    """Arrange four images around a random point (Bochkovskiy et al. 2020).

    The point lies in the middle half of the input. Each image is fitted to the input, scaled by a factor of its own, and
    touches the point with a corner. Parts outside its quarter are cut off, and boxes are clipped. Boxes that keep less than
    a tenth of their area are dropped.

    Args:
        samples: four images with their objects.
        input_hw: height and width of the result.
        scale: smallest and largest factor.
        generator: the only source of randomness.
        resize: "letterbox" or "stretch".

    Example:
        >>> white = Labelled(np.full((8, 8, 3), 255, np.uint8), np.array([[0.0, 0, 8, 8]]), np.array([3]))
        >>> made = mosaic([white] * 4, (16, 16), scale=(1, 1), generator=np.random.default_rng(0))
        >>> made.image.shape, made.labels
        ((16, 16, 3), array([3, 3, 3, 3]))
    """
    height, width = input_hw
    x, y = (int(generator.uniform(0.25, 0.75) * side) for side in (width, height))
    canvas: Image = np.full((height, width, 3), PAD_VALUE, np.uint8)
    all_boxes, all_labels = [], []
    quarters = ((0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height))
    for sample, (left, top, right, bottom) in zip(samples, quarters):
        room_hw, touches = (bottom - top, right - left), (left == 0, top == 0)
        tile = _scaled(sample, input_hw, resize=resize, factor=generator.uniform(*scale), room_hw=room_hw, ends=touches)
        h, w = tile.image.shape[:2]
        dx = right - w if left == 0 else left  # x of the tile's upper left corner on the canvas
        dy = bottom - h if top == 0 else top
        x1, y1, x2, y2 = max(left, dx), max(top, dy), min(right, dx + w), min(bottom, dy + h)
        canvas[y1:y2, x1:x2] = tile.image[y1 - dy : y2 - dy, x1 - dx : x2 - dx]
        moved = tile.boxes + np.array([dx, dy, dx, dy], np.float32)
        clipped = np.clip(moved, [x1, y1, x1, y1], [x2, y2, x2, y2]).astype(np.float32)
        keep = _areas(clipped) > 0.1 * _areas(moved)
        all_boxes.append(clipped[keep])
        all_labels.append(sample.labels[keep])
    unlabelled = tuple(sorted({label for sample in samples for label in sample.unlabelled}))
    return Labelled(canvas, np.concatenate(all_boxes), labels=np.concatenate(all_labels), unlabelled=unlabelled)


def _scaled(
    sample: Labelled,
    input_hw: tuple[int, int],
    *,
    resize: str,
    factor: float,
    room_hw: tuple[int, int],
    ends: tuple[bool, bool],
) -> Labelled:
    """Fit an image to the input, without a border, times a factor; parts beyond its room are cut off first.

    `ends` tells for x and y whether the image's end or its beginning is kept. Whole pixels of the image are cut off, and the
    factor is adjusted by less than half a pixel at the far side of the room; the boxes follow it.
    """
    hw = sample.image.shape[:2]
    full = [max(1, round(side * factor)) for side in Letterbox.fit(hw, input_hw, resize=resize).content_hw]
    kept = [min(old, math.ceil(room * old / new)) for old, new, room in zip(hw, full, room_hw)]
    height, width = (max(1, round(part * new / old)) for part, new, old in zip(kept, full, hw))
    x, y = (old - part if end else 0 for old, part, end in zip(hw[::-1], kept[::-1], ends))
    mapping = Letterbox((kept[0], kept[1]), (height, width), content_hw=(height, width), offset_xy=(0, 0))
    boxes = mapping.boxes_to_input(sample.boxes - np.array([x, y, x, y]))
    return Labelled(mapping.apply(sample.image[y : y + kept[0], x : x + kept[1]]), boxes, sample.labels)


def _areas(boxes: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _geometry_words(c: AugmentConfig) -> list[str]:
    if c.scale == (1, 1) and not c.translate:
        return []
    return [f"scale {c.scale[0]:g} to {c.scale[1]:g}, shift up to {c.translate:g}"]


def _colour_words(c: AugmentConfig, where: str = "") -> list[str]:
    words = []
    if c.hue or c.saturation or c.value:
        words.append(f"hue ±{c.hue:g}, saturation ±{c.saturation:g}, value ±{c.value:g}{where}")
    return [*words, f"flip (p {c.flip:g})"] if c.flip else words


def _affine(config: AugmentConfig, scale: tuple[float, float], **border: object) -> A.Affine:
    shift = (-config.translate, config.translate)
    return A.Affine(scale=scale, keep_ratio=True, translate_percent={"x": shift, "y": shift}, p=1, **border)


def colour_limits(config: AugmentConfig) -> tuple[float, float, float]:
    """Return the largest shifts of hue, saturation and value in OpenCV's steps: 180 for hue, 255 for the others.

    Example:
        >>> colour_limits(AugmentConfig(hue=0.1, saturation=0.2, value=0.4))
        (18.0, 51.0, 102.0)
    """
    return config.hue * 180, config.saturation * 255, config.value * 255


def _colour(config: AugmentConfig) -> list[A.BasicTransform]:
    limits = colour_limits(config)
    return [A.HueSaturationValue(*((-limit, limit) for limit in limits), p=1)] if any(limits) else []


def _brightness(config: AugmentConfig) -> list[A.BasicTransform]:
    return [A.RandomBrightnessContrast(config.value, 0, p=1)] if config.value else []


def _pipeline(config: AugmentConfig, scale: tuple[float, float] | None, colour: bool) -> A.Compose | None:
    """Build albumentations' part, or None for nothing; scale None leaves the geometry unchanged but for the flip."""
    steps = []
    if scale is not None and (scale != (1, 1) or config.translate):
        steps.append(_affine(config, scale, fill=_GREY))
    if colour:
        steps += _colour(config)
    if config.flip:
        steps.append(A.HorizontalFlip(p=config.flip))
    if not steps:
        return None
    boxes = A.BboxParams(
        format="pascal_voc",
        clip=True,
        min_visibility=config.min_visibility,
        filter_invalid_bboxes=True,
        label_fields=["labels"],
    )
    if not any(isinstance(step, A.DualTransform) for step in steps):
        steps.append(A.NoOp())  # otherwise albumentations warns that no step moves boxes, which is fine here
    return A.Compose(steps, bbox_params=boxes)
