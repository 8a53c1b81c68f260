"""Labels choose places that hide neither each other nor small objects."""

from __future__ import annotations

import numpy as np
import pytest

from yolo_lite.draw.labels import place_plate

HW = (100, 200)


def _overlap(plate: tuple[float, ...], box: tuple[float, ...]) -> float:
    """Return the pixels that two boxes share, counted one by one."""
    grid_y, grid_x = np.mgrid[0 : HW[0], 0 : HW[1]] + 0.5
    inside = [(grid_x > b[0]) & (grid_x < b[2]) & (grid_y > b[1]) & (grid_y < b[3]) for b in (plate, box)]
    return float((inside[0] & inside[1]).sum())


def _plate(
    box: tuple[float, ...], *, plates: list[tuple[float, ...]], boxes: list[tuple[float, ...]]
) -> tuple[float, ...]:
    x, y = place_plate((40, 10), box, image_hw=HW, plates=plates, boxes=boxes)
    return (x, y, x + 40, y + 10)


def test_a_label_stands_above_its_box() -> None:
    assert _plate((50, 30, 120, 80), plates=[], boxes=[(50, 30, 120, 80)]) == (50, 20, 90, 30)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        pytest.param((50, 4, 120, 80), (50, 80, 90, 90), id="no room above: below"),
        pytest.param((50, 0, 120, 100), (120, 0, 160, 10), id="full height: beside"),
        pytest.param((180, 30, 200, 80), (160, 20, 200, 30), id="at the right edge: shifted inside"),
    ],
)
def test_a_label_without_room_above_stands_elsewhere(box: tuple[float, ...], expected: tuple[float, ...]) -> None:
    assert _plate(box, plates=[], boxes=[box]) == expected


def test_a_box_of_the_whole_image_has_its_label_inside() -> None:
    box = (0, 0, 200, 100)
    assert _plate(box, plates=[], boxes=[box]) == (0, 0, 40, 10)


def test_a_label_avoids_a_small_object_and_covers_a_large_one() -> None:
    """Above the box lies a small object of 40 x 10, and everything lies in one large object."""
    small, large, box = (50.0, 20.0, 90.0, 30.0), (0.0, 0.0, 200.0, 100.0), (50.0, 30.0, 120.0, 80.0)
    plate = _plate(box, plates=[], boxes=[large, box, small])
    assert _overlap(plate, small) == 0
    assert _overlap(plate, box) == 0


@pytest.mark.parametrize("seed", range(5))
def test_labels_do_not_cover_each_other_where_there_is_room(seed: int) -> None:
    """Six boxes of 40 x 20: their labels need 2,400 of the 20,000 pixels."""
    generator = np.random.default_rng(seed)
    corners = generator.integers(0, (160, 80), (6, 2)).tolist()
    boxes = [(x, y, x + 40, y + 20) for x, y in corners]
    plates: list[tuple[float, ...]] = []
    for box in boxes:
        plate = _plate(box, plates=plates, boxes=boxes)
        assert plate[0] >= 0
        assert plate[1] >= 0
        assert plate[2] <= HW[1]
        assert plate[3] <= HW[0]
        assert all(_overlap(plate, other) == 0 for other in plates)
        plates.append(plate)


def test_a_label_larger_than_the_image_begins_at_its_corner() -> None:
    assert place_plate((300, 10), (5, 50, 20, 60), image_hw=(100, 100), plates=[], boxes=[])[0] == 0
