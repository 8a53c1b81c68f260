"""Corrupted and painted copies of images, to measure how well a detector bears them.

Boxes stay as they are, because no change moves anything, except for zoom blur: it smears objects away from the middle, by
half of its factor on average. Blurs, blocks and brush strokes grow with the shorter side of the image. Noise, JPEG and rain
work on single pixels, whatever the size.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from yolo_lite.errors import suggest
from yolo_lite.structures.geometry import Image

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # otherwise its import looks for a newer version online
import albumentations as A
import cv2

STRENGTHS = (1, 2, 3)
_STREAK = 64  # pixels, more than the longest streak of rain
_CANVAS = 960  # pixels, the largest shorter side that is painted: strokes on larger images are no finer
_SIDE = 480  # pixels, the shorter side for which the sizes below are stated


class Change(NamedTuple):
    """A corruption of one strength, or a style."""

    kind: str
    strength: int | None = None  # 1 (weak) to 3 (strong); None: a style

    def __str__(self) -> str:
        return self.kind if self.strength is None else f"{self.kind} {self.strength}"


def change_image(image: Image, change: Change, *, seed: int = 0, position: int = 0) -> Image:
    """Return a changed copy of an image.

    The result depends on the arguments alone. The three strengths of a corruption draw the same random numbers: the same
    fog gets thicker, and the same motion longer.

    Args:
        image: uint8 [H, W, 3] RGB of any size; it stays as it is.
        change: one of `CHANGES`.
        seed: seed of the random numbers.
        position: number of the image, so that each image gets random numbers of its own.

    Returns:
        uint8 [H, W, 3] RGB, of the same size.

    Raises:
        ValueError: if there is no such change.

    Example:
        >>> image = np.full((48, 64, 3), 200, np.uint8)
        >>> change_image(image, Change("darkness", 1))[0, 0].tolist()  # half of the light
        [100, 100, 100]
        >>> change_image(image, Change("fog", 4))
        Traceback (most recent call last):
        ValueError: strength of fog must be 1, 2 or 3, got 4
    """
    kind, strength = change
    if kind in _STYLES and strength is None:
        changed = _paint(image, _STYLES[kind])
    elif kind not in _CORRUPTIONS:
        raise ValueError(f"there is no change {str(change)!r}; {suggest(kind, [*_CORRUPTIONS, *_STYLES])}")
    elif strength not in STRENGTHS:
        raise ValueError(f"strength of {kind} must be 1, 2 or 3, got {strength}")
    else:
        generator = np.random.default_rng([seed, position, zlib.crc32(kind.encode())])
        changed = _CORRUPTIONS[kind](image, strength - 1, generator)
    return np.ascontiguousarray(changed, np.uint8)


def _paint(image: Image, style: Callable[[Image], Image]) -> Image:
    """Apply a style; a large image is reduced for it, which saves time and memory, and enlarged again."""
    height, width = image.shape[:2]
    scale = _CANVAS / min(height, width)
    if scale >= 1:
        return style(image)
    small = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    painted: Image = cv2.resize(style(small), (width, height), interpolation=cv2.INTER_LINEAR)
    return painted


def _run(transform: A.BasicTransform, image: Image, generator: np.random.Generator) -> Image:
    pipeline = A.Compose([transform])
    pipeline.set_random_seed(int(generator.integers(2**31)))
    changed: Image = pipeline(image=image)["image"]
    return changed


def _pixels(image: Image, size: float, *, least: int = 1) -> int:
    """Return a size that is stated for a shorter side of 480 pixels, scaled to this image."""
    shorter: int = min(image.shape[:2])
    return max(least, round(size * shorter / _SIDE))


def _rounded(values: npt.NDArray[np.floating[npt.NBitBase]]) -> Image:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _gaussian_noise(image: Image, level: int, generator: np.random.Generator) -> Image:
    spread = (0.06, 0.14, 0.28)[level]  # of the full range
    return _run(A.GaussNoise(std_range=(spread, spread), p=1), image, generator)


def _sensor_noise(image: Image, level: int, generator: np.random.Generator) -> Image:
    """Add the grain of a camera at a high ISO: in hue and in lightness."""
    grain = (0.4, 0.7, 1.2)[level]
    noise = A.ISONoise(color_shift=(grain / 10, grain / 10), intensity=(grain, grain), p=1)
    return _run(noise, image, generator)


def _defocus(image: Image, level: int, generator: np.random.Generator) -> Image:
    radius = _pixels(image, (3, 6, 10)[level])
    return _run(A.Defocus(radius=(radius, radius), alias_blur=(0.1, 0.1), p=1), image, generator)


def _motion(image: Image, level: int, generator: np.random.Generator) -> Image:
    """Blur along a line of any direction, whose middle is the pixel."""
    length = 2 * _pixels(image, (4, 9, 17)[level]) + 1
    blur = A.MotionBlur(blur_limit=(length, length), allow_shifted=False, direction_range=(0, 0), p=1)
    return _run(blur, image, generator)


def _zoom(image: Image, level: int, generator: np.random.Generator) -> Image:
    factor = (1.06, 1.12, 1.25)[level]
    return _run(A.ZoomBlur(max_factor=(factor, factor), step_factor=(0.01, 0.01), p=1), image, generator)


def _jpeg(image: Image, level: int, generator: np.random.Generator) -> Image:
    quality = (25, 12, 5)[level]
    return _run(A.ImageCompression(quality_range=(quality, quality), p=1), image, generator)


def _pixelation(image: Image, level: int, generator: np.random.Generator) -> Image:
    block = _pixels(image, (2, 4, 8)[level], least=2 + level)
    height, width = image.shape[:2]
    small = cv2.resize(image, (-(-width // block), -(-height // block)), interpolation=cv2.INTER_AREA)
    blocks: Image = cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)
    return blocks


def _fog(image: Image, level: int, generator: np.random.Generator) -> Image:
    """Mix the image with light grey; random values on ever finer grids make the fog uneven."""
    height, width = image.shape[:2]
    clouds = np.zeros((height, width), np.float32)
    for cells in (2, 4, 8, 16):
        grid = generator.random((cells + 1, cells + 1), dtype=np.float32)
        clouds += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) / cells
    clouds = (clouds - clouds.min()) / max(float(np.ptp(clouds)), 1e-6)
    thickness = (0.35, 0.6, 0.85)[level] * (0.7 + 0.3 * clouds[..., None])
    return _rounded(image * (1 - thickness) + 225 * thickness)


def _rain(image: Image, level: int, generator: np.random.Generator) -> Image:
    kind, light = (("drizzle", 0.85), ("heavy", 0.7), ("torrential", 0.55))[level]
    height, width = image.shape[:2]
    room = ((0, max(0, _STREAK - height)), (0, max(0, _STREAK - width)), (0, 0))  # a streak must fit in
    rain = A.RandomRain(rain_type=kind, brightness_coefficient=light, p=1)
    return _run(rain, np.pad(image, room, "edge"), generator)[:height, :width]


def _brightness(image: Image, level: int, generator: np.random.Generator) -> Image:
    return _expose(image, (1.5, 2.2, 3.5)[level], generator)


def _darkness(image: Image, level: int, generator: np.random.Generator) -> Image:
    return _expose(image, (0.5, 0.25, 0.1)[level], generator)


def _expose(image: Image, light: float, generator: np.random.Generator) -> Image:
    return _run(A.MultiplicativeNoise(multiplier=(light, light), p=1), image, generator)


def _low_contrast(image: Image, level: int, generator: np.random.Generator) -> Image:
    """Move all values towards the mean of the image."""
    kept = (0.55, 0.3, 0.15)[level]
    change = A.RandomBrightnessContrast(
        brightness_limit=(1 - kept, 1 - kept), contrast_limit=(kept - 1, kept - 1), brightness_by_max=False, p=1
    )
    return _run(change, image, generator)


def _oil(image: Image) -> Image:
    """Give each pixel the mean colour of the commonest of ten grey levels around it."""
    levels, side = 10, 2 * _pixels(image, 5) + 1
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    level = (grey.astype(np.uint16) * levels // 256).astype(np.uint8)
    most, painted = np.full(grey.shape, -1, np.float32), np.zeros(image.shape, np.float32)
    for number in np.unique(level):
        inside = (level == number).astype(np.float32)
        count = cv2.boxFilter(inside, -1, (side, side), normalize=False)
        colours = cv2.boxFilter(image * inside[..., None], -1, (side, side), normalize=False)
        more = count > most
        most[more], painted[more] = count[more], colours[more]
    return _rounded(painted / most.clip(1)[..., None])


def _watercolour(image: Image) -> Image:
    """Smooth areas, darken their borders, and let white paper shine through."""
    wash = cv2.edgePreservingFilter(image, flags=cv2.RECURS_FILTER, sigma_s=_pixels(image, 60), sigma_r=0.5)
    inked = cv2.stylization(image, sigma_s=_pixels(image, 60), sigma_r=0.6)
    return _rounded(255 - 0.8 * (255 - cv2.addWeighted(wash, 0.65, inked, 0.35, 0).astype(np.float32)))


def _sketch(image: Image) -> Image:
    """Draw in pencil: white paper, and strokes where the image is darker than its surroundings."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    around = cv2.GaussianBlur(grey, (0, 0), _pixels(image, 8))
    lines = np.minimum((grey + 24.0) / (around + 24.0), 1) ** 2.5  # 24: the noise of dark areas leaves no strokes
    return np.repeat(_rounded(255 * lines)[..., None], 3, axis=2)


def _poster(image: Image) -> Image:
    """Leave four values of each colour."""
    values = np.rint(np.arange(256) / 85) * 85
    return values.astype(np.uint8)[image]


_CORRUPTIONS: Mapping[str, Callable[[Image, int, np.random.Generator], Image]] = {
    "Gaussian noise": _gaussian_noise,
    "sensor noise": _sensor_noise,
    "defocus blur": _defocus,
    "motion blur": _motion,
    "zoom blur": _zoom,
    "JPEG compression": _jpeg,
    "pixelation": _pixelation,
    "fog": _fog,
    "rain": _rain,
    "brightness": _brightness,
    "darkness": _darkness,
    "low contrast": _low_contrast,
}
_STYLES: Mapping[str, Callable[[Image], Image]] = {
    "oil painting": _oil,
    "watercolour": _watercolour,
    "pencil sketch": _sketch,
    "posterised": _poster,
}
CORRUPTIONS, STYLES = tuple(_CORRUPTIONS), tuple(_STYLES)
CHANGES = (*(Change(kind, strength) for kind in CORRUPTIONS for strength in STRENGTHS), *map(Change, STYLES))
