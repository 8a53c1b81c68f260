"""Boxes of run-length encoded masks, against masks in pixels and pycocotools."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from yolo_lite.data.formats.rle import rle_box


def runs_of(pixels: np.ndarray) -> list[int]:
    """Count runs one pixel after the other, down the columns, background first."""
    runs, current = [0], 0
    for pixel in pixels.T.ravel().tolist():
        if pixel != current:
            runs.append(0)
            current = pixel
        runs[-1] += 1
    return runs


def box_of(pixels: np.ndarray) -> list[float]:
    rows, columns = np.nonzero(pixels)
    if not len(rows):
        return [0, 0, 0, 0]
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("seed", range(40))
def test_the_box_is_that_of_the_pixels_in_both_forms(seed: int) -> None:
    """Sizes from one pixel up, masks from empty to full; counts above 32 take several characters of COCO's text."""
    generator = np.random.default_rng(seed)
    height, width = generator.integers(1, 60, 2)
    pixels = (generator.random((height, width)) < generator.choice([0.0, 0.01, 0.5, 1.0])).astype(np.uint8)
    if seed % 2:  # one solid part instead
        y, x = generator.integers(0, height), generator.integers(0, width)
        pixels = np.zeros_like(pixels)
        pixels[y : y + 20, x : x + 20] = 1
    text = coco_mask.encode(np.asfortranarray(pixels))["counts"].decode()
    expected = box_of(pixels)
    assert rle_box({"size": [int(height), int(width)], "counts": runs_of(pixels)}) == expected
    assert rle_box({"size": [int(height), int(width)], "counts": text}) == expected


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"size": [4, 5]}, "counts must be run lengths"),
        ({"counts": [20]}, "size must be"),
        ({"size": [4, 5.0], "counts": [20]}, "size must be"),
        ({"size": [0, 5], "counts": [0]}, "size must be"),
        ({"size": [4, 5], "counts": [5, -2, 17]}, "counts must be run lengths"),
        ({"size": [4, 5], "counts": [5, 2]}, "runs cover 7 pixels, its size is 5 x 4"),
        ({"size": [4, 5], "counts": [5, "2", 13]}, "counts must be run lengths"),
        ({"size": [10**9, 10**9], "counts": [10**18]}, "runs cover"),
        ({"size": [4, 5], "counts": "5P"}, "end in the middle"),
        ({"size": [4, 5], "counts": "5 \x80"}, "not COCO's text"),
        ({"size": [4, 5], "counts": "o" * 10_000}, "not COCO's text"),
        ({"size": [4, 5], "counts": None}, "counts must be"),
    ],
)
def test_what_is_no_mask_is_refused(mask: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rle_box(mask)
