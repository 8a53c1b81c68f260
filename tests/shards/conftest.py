"""A detector whose results tests can work out by hand, and images for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from yolo_lite.structures.results import Detections
from yolo_lite.structures.tiles import Tiling


class Grey:
    """Finds in each image one object: its left upper quarter, with its mean grey / 255 as score; none in black ones."""

    class_names = ("grey", "bright")
    classes: tuple[str, ...] | None = None
    image_size, max_16bit, iou_threshold, max_detections, batch_size = (32, 32), 65535, 0.6, 300, 4
    tiling: Tiling | None = None

    def __init__(self, weights: Path, score_threshold: float = 0.25) -> None:
        self.weights, self.score_threshold = weights, score_threshold
        self.batches: list[int] = []

    def __call__(self, images: Sequence[Any]) -> list[Detections]:
        self.batches.append(len(images))
        return [self.look(np.asarray(image)) for image in images]

    def look(self, image: Any) -> Detections:
        score = float(image.mean()) / 255
        is_object = score > self.score_threshold
        box = [[0, 0, image.shape[1] / 2, image.shape[0] / 2]]
        return Detections(
            box if is_object else [],
            scores=[score] if is_object else [],
            labels=[int(score > 0.75)] if is_object else [],
            class_names=self.class_names,
        )


@pytest.fixture
def grey(tmp_path: Path) -> Grey:
    """Return the detector; its weights are a file, so that jobs can tell it from others."""
    weights = tmp_path / "grey.weights"
    weights.write_bytes(b"grey")
    return Grey(weights)


def write_images(folder: Path, count: int) -> list[str]:
    """Write grey images of different sizes and return their names; every fifth is broken."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = folder / f"{number:03d}.png"
        if number % 5 == 3:
            path.write_bytes(b"broken")
        else:
            Image.new("L", (8 + number, 6), color=(number * 37) % 256).save(path)
    return [f"{number:03d}.png" for number in range(count)]
