"""Drawn images of one shape each, in folders of classes, and the settings with which a test learns them in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

SIDE = 32
QUICK: dict[str, Any] = {
    "input.image_size": SIDE,
    "augment": "none",
    "train.batch_size": 8,
    "train.workers": 0,
    "train.precision": "fp32",
}
NARROW: dict[str, Any] = {"model.stem_width": 8, "model.widths": [8, 16, 24, 32], "model.depths": [1, 1, 1, 1]}


def draw_shape(generator: np.random.Generator, name: str) -> Image.Image:
    """Draw a disc, a square or a bar, bright on dark noise: nothing but its outline tells which."""
    noise = generator.integers(0, 60, (SIDE, SIDE)).astype(np.uint8)
    image = Image.fromarray(noise).convert("RGB")
    side = int(generator.integers(14, 22))
    x, y = (int(value) for value in generator.integers(1, SIDE - side - 1, 2))
    height = 5 if name == "bar" else side
    draw = ImageDraw.Draw(image)
    shape = draw.ellipse if name == "disc" else draw.rectangle
    shape((x, y, x + side - 1, y + height - 1), fill=(int(generator.integers(170, 255)),) * 3)
    return image


def write_class_set(root: Path, splits: Mapping[str, Mapping[str, int]], seed: int = 0) -> Path:
    """Write so many images as root/split/class/class-000.png; a split with an empty name lies at the top."""
    generator = np.random.default_rng(seed)
    for split, counts in splits.items():
        for name, count in counts.items():
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                draw_shape(generator, name).save(folder / f"{name}-{number:03d}.png")
    return root
