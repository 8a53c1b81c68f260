"""Zones, on polygons whose inside is known by other means."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.tracking.test_lines import at
from yolo_lite.errors import InputError
from yolo_lite.tracking.zones import Zone, contains, distance

SQUARE = [(100, 100), (200, 100), (200, 200), (100, 200)]
ARROW = [(20, 10), (180, 60), (30, 190), (70, 80)]  # not convex
CROSSED = [(10, 10), (190, 190), (190, 10), (10, 190)]  # its edges cross


@pytest.mark.parametrize("corners", [SQUARE, SQUARE[::-1], ARROW, CROSSED], ids=["square", "back", "arrow", "crossed"])
def test_points_are_inside_where_pillow_fills_the_polygon(corners: list[tuple[int, int]]) -> None:
    canvas = Image.new("1", (220, 220))
    ImageDraw.Draw(canvas).polygon(corners, fill=1)
    filled = np.array(canvas)
    for x, y in np.random.default_rng(0).integers(0, 220, (400, 2)).tolist():
        if distance(corners, np.array([x, y])) > 1.5:  # Pillow rounds at the border
            assert contains(corners, np.array([x, y])) == bool(filled[y, x]), (x, y)


def test_the_distance_is_that_of_many_points_on_the_border() -> None:
    corners = np.array(ARROW, float)
    steps = np.linspace(0, 1, 2000)[:, None]
    border = np.concatenate([a + steps * (b - a) for a, b in zip(corners, np.roll(corners, -1, axis=0))])
    for point in np.random.default_rng(1).uniform(0, 220, (50, 2)):
        assert distance(ARROW, point) == pytest.approx(np.linalg.norm(border - point, axis=1).min(), abs=0.1)


def test_presence_entries_and_dwell_of_a_visit_worked_by_hand() -> None:
    """Outside at 0 and 1 s, inside at 2, 3 and 5 s, outside at 6 s: one entry, 3 seconds from first to last."""
    zone = Zone(SQUARE)
    present = []
    for time, x in [(0, 50), (1, 80), (2, 120), (3, 150), (5, 180), (6, 230)]:
        zone.update(at((x, 150)), time=time)
        present.append(zone.present.total())
    assert present == [0, 0, 1, 1, 1, 0]
    assert zone.entries == {"person": 1}
    assert dict(zone.dwell) == {1: 3.0}
    assert zone.mean_dwell == 3.0


def test_dwell_does_not_depend_on_the_frame_rate() -> None:
    dwell = []
    for fps in (5, 60):
        zone = Zone(SQUARE)
        for number in range(4 * fps + 1):
            zone.update(at((150, 150)), time=number / fps)
        dwell.append(zone.dwell[1])
    assert dwell == pytest.approx([4.0, 4.0])


def test_a_track_that_begins_inside_has_entered_and_a_second_visit_counts_again() -> None:
    zone = Zone(SQUARE)
    for time, x in enumerate((150, 250, 150)):
        zone.update(at((x, 150)), time=time)
    assert zone.entries == {"person": 2}


def test_jitter_on_the_border_is_one_entry() -> None:
    """5 % of a box 20 high is 1 pixel."""
    zone = Zone(SQUARE)
    for time, x in enumerate([90, 102, *[99.5, 100.5] * 20]):
        zone.update(at((x, 150)), time=time)
    assert zone.entries == {"person": 1}
    assert zone.present == {"person": 1}


def test_an_undetected_object_stays_present_for_half_a_second() -> None:
    zone = Zone(SQUARE)
    zone.update(at((150, 150)), time=0.0)
    present = []
    for time in (0.3, 0.5, 0.6):
        zone.update(at(), time=time)
        present.append(zone.present.total())
    assert present == [1, 1, 0]


def test_classes_are_counted_apart() -> None:
    zone = Zone(SQUARE)
    both = at((120, 150), (150, 150))
    zone.update(both, time=0)
    zone.update(at((180, 150), first=9, label=1), time=0.1)
    assert zone.present == {"person": 2, "car": 1}
    assert zone.entries == {"person": 2, "car": 1}


@pytest.mark.parametrize(
    ("corners", "message"),
    [
        ([(0, 0), (1, 1)], "at least three corners"),
        ([(0, 0), (1, 1), (2, 2)], "not on one line"),
        ([(0, 0), (1, 1), (2,)], "a corner of a zone must be a point"),
        ([], "at least three corners"),
    ],
)
def test_wrong_corners_are_refused(corners: list[tuple[float, ...]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Zone(corners)


def test_time_must_grow() -> None:
    zone = Zone(SQUARE)
    zone.update(at(), time=1)
    with pytest.raises(InputError, match="time must be later"):
        zone.update(at(), time=1)
