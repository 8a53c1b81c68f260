"""Boxes with keypoints against polygons, on drawn sets: neither is taken for the other."""

from __future__ import annotations

import numpy as np
import pytest

from yolo_lite.data.formats.keypoints import Polygons, keypoint_shape


def _found(rows: list[list[float]]) -> tuple[str, int, tuple[int, int]] | None:
    polygons = Polygons()
    for number, row in enumerate(rows):
        polygons.add(row, keypoint_shape(row), where=f"line {number}")
    return polygons.keypoints()


def _pose(generator: np.random.Generator, count: int, length: int, sizes: tuple[float, float]) -> list[float]:
    size = generator.uniform(*sizes, 2)
    centre = generator.uniform(size / 2, 1 - size / 2)
    points = centre + size * generator.uniform(-0.5, 0.5, (count, 2))
    seen = generator.integers(0, 2, (count, 1))  # 0 and 1 look like shares too
    return [*centre, *size, *np.concatenate([points * (seen > 0 if length == 3 else 1), seen], 1)[:, :length].ravel()]


@pytest.mark.parametrize("sizes", [(0.02, 0.1), (0.1, 0.6), (0.5, 0.95)], ids=["small", "medium", "large"])
@pytest.mark.parametrize("shape", [(4, 2), (5, 2), (17, 2), (4, 3), (6, 3), (18, 3)])
def test_boxes_with_keypoints_are_recognised(shape: tuple[int, int], sizes: tuple[float, float]) -> None:
    for seed in range(20):
        generator = np.random.default_rng(seed)
        rows = [_pose(generator, *shape, sizes) for _ in range(12)]
        assert _found(rows) == ("line 0", 12, shape)


@pytest.mark.parametrize("corners", [3, 4, 5, 6, 10, 20])
@pytest.mark.parametrize("radius", [0.02, 0.1, 0.4])
def test_polygons_are_left_alone(corners: int, radius: float) -> None:
    """A point moves round a centre: sides never cross. Sets of one object and of many, with four corners turned boxes."""
    for seed in range(20):
        generator = np.random.default_rng(seed)
        rows = []
        for _ in range(12):
            angles = np.sort(generator.uniform(0, 2 * np.pi, corners))
            if corners == 4:
                angles = generator.uniform(0, np.pi) + np.pi / 2 * np.arange(4)
            around = radius * generator.uniform(0.6, 1) * np.stack([np.cos(angles), np.sin(angles)], 1)
            rows.append((generator.uniform(0.2, 0.8, 2) + around).clip(0, 1).ravel().tolist())
        assert _found(rows) is None
        assert _found(rows[:1]) is None


@pytest.mark.parametrize(
    "numbers",
    [
        pytest.param([0, 0, 1, 0, 1, 1, 0, 1, 0, 0], id="the whole image, closed"),
        pytest.param([0.5, 0.5, 0.2, 0.2], id="a box"),
        pytest.param([0.9, 0.9, 0.5, 0.5, 0.9, 0.9], id="a box that would leave the image"),
        pytest.param([0.5, 0.5, 0.0, 0.2, 0.5, 0.5], id="a box without area"),
        pytest.param([0.5, 0.5, 0.2, 0.2, 0.9, 0.9], id="a keypoint far from the box"),
    ],
)
def test_what_cannot_be_a_box_with_keypoints(numbers: list[float]) -> None:
    assert keypoint_shape(numbers) is None


def test_keypoints_that_nobody_marked_count_as_such() -> None:
    assert keypoint_shape([0.5, 0.5, 0.2, 0.2, 0, 0, 0, 0.45, 0.45, 2]) == (2, 3)
    assert keypoint_shape([0.5, 0.5, 0.2, 0.2, 0, 0, 0, 0, 0, 0]) == (2, 3)


def test_lines_of_several_lengths_are_polygons() -> None:
    generator = np.random.default_rng(0)
    assert _found([_pose(generator, count, 2, (0.1, 0.6)) for count in (4, 5, 6, 4, 5)]) is None
    assert _found([]) is None
