"""The cells of an explanation, in pixels of the image: on the grid that the resized image lies on."""

from __future__ import annotations

import numpy as np
import pytest

from yolo_lite import Detector
from yolo_lite.media.images import read_image
from yolo_lite.predict.files import sample_image
from yolo_lite.serve.answers import explain_images


@pytest.mark.parametrize("size", [(600, 512), (300, 512), (600, 130)])
@pytest.mark.parametrize("name", ["yolo_lite-pico-voc5", "yolo_lite-shuffle-1.5x-coco"])
def test_the_points_of_cells_are_half_strides_of_the_input(name: str, size: tuple[int, int]) -> None:
    detector = Detector(name, device="cpu", score_threshold=0.05)
    image = read_image(sample_image())[: size[0], : size[1]]
    document = explain_images(detector, [image], box=(10, 10, size[1] - 10, size[0] - 10))[0]
    assert document["candidates"]
    side, (height, width) = detector.image_size[0], size
    if detector.resize == "stretch":
        scales, offsets = (width / side, height / side), (0, 0)
    else:
        scale = max(width, height) / side
        scales, offsets = (scale, scale), ((side - width / scale) // 2, (side - height / scale) // 2)
    for candidate in document["candidates"]:
        assert candidate["cell"] == pytest.approx([candidate["stride"] * scale for scale in scales], rel=0.02)
        # Some networks put a point in the middle of its cell, others in the corner.
        halves = (np.array(candidate["point"]) / np.array(scales) + np.array(offsets)) / candidate["stride"] * 2
        assert np.abs(halves - halves.round()).max() < 0.15
