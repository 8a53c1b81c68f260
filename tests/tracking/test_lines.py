"""Count lines on ways that are worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from yolo_lite.errors import InputError
from yolo_lite.structures.results import Detections
from yolo_lite.tracking.lines import CountLine, Recent, anchor_points

NAMES = ("person", "car")


def at(*points: tuple[float, float], first: int = 1, label: int = 0, height: float = 20) -> Detections:
    """Return boxes 10 wide whose bottom centres are the points, with the ids first, first + 1 ..."""
    boxes = np.array([(x - 5, y - height, x + 5, y) for x, y in points]).reshape(-1, 4)
    count = len(points)
    return Detections(
        boxes, [0.9] * count, labels=[label] * count, class_names=NAMES, track_ids=np.arange(first, first + count)
    )


def crossed(line: CountLine, way: Sequence[tuple[float, float]]) -> tuple[int, ...]:
    for point in way:
        line.update(at(point))
    return tuple(line.counts[direction].total() for direction in line.directions)


FLAT = ((0, 50), (100, 50))


@pytest.mark.parametrize("ends", [FLAT, FLAT[::-1]], ids=["left to right", "right to left"])
@pytest.mark.parametrize(
    ("way", "down", "up"),
    [
        pytest.param([(50, 40), (50, 60)], 1, 0, id="down"),
        pytest.param([(50, 60), (50, 40)], 0, 1, id="up"),
        pytest.param([(50, 40), (50, 60), (50, 40)], 1, 1, id="there and back"),
        pytest.param([(50, 40), (50, 45)], 0, 0, id="not reached"),
        pytest.param([(150, 40), (150, 60)], 0, 0, id="past the end"),
        # from (90, 30) to (130, 70) the way meets the height of the line at x = 110, beyond its end
        pytest.param([(90, 30), (130, 70)], 0, 0, id="around the end"),
        # from (80, 30) to (110, 70) at x = 95, before its end
        pytest.param([(80, 30), (110, 70)], 1, 0, id="just before the end"),
        pytest.param([(50, 40), (50, 50), (50, 60)], 1, 0, id="a stop on the line"),
        pytest.param([(50, 40), (50, 50), (50, 40)], 0, 0, id="touched"),
        # 5 % of a box 20 high is 1: from 49.5 to 50.5 and back is jitter
        pytest.param([(50, 40), *[(50, 49.5), (50, 50.5)] * 20], 0, 0, id="jitter on the line"),
        pytest.param([(50, 40), (50, 52), *[(50, 49.5), (50, 50.5)] * 9, (50, 60)], 1, 0, id="jitter after it"),
        pytest.param([(50, 50), (50, 60)], 0, 0, id="first seen on the line"),
        pytest.param([], 0, 0, id="nothing"),
    ],
)
def test_a_flat_line_counts(
    ends: tuple[tuple[float, float], tuple[float, float]], way: list[tuple[float, float]], down: int, up: int
) -> None:
    line = CountLine(*ends)
    assert line.directions == ("down", "up")
    assert crossed(line, way) == (down, up)


@pytest.mark.parametrize("ends", [((50, 0), (50, 100)), ((50, 100), (50, 0))], ids=["downwards", "upwards"])
def test_an_upright_line_counts_right_and_left(ends: tuple[tuple[float, float], tuple[float, float]]) -> None:
    line = CountLine(*ends)
    assert line.directions == ("right", "left")
    assert crossed(line, [(40, 50), (60, 50), (40, 50), (60, 50)]) == (2, 1)


def test_a_slanted_line_counts_on_its_own_two_sides() -> None:
    """From (0, 0) to (100, 40): at x = 50 the line is at y = 20."""
    assert crossed(CountLine((0, 0), (100, 40)), [(50, 10), (50, 30)]) == (1, 0)
    assert crossed(CountLine((100, 40), (0, 0)), [(50, 30), (50, 10)]) == (0, 1)


def test_a_crossing_during_a_gap_counts() -> None:
    line = CountLine(*FLAT)
    line.update(at((50, 40)))
    for _ in range(5):
        line.update(at())
    line.update(at((50, 60)))
    assert line.counts["down"] == {"person": 1}


def test_classes_and_tracks_are_counted_apart() -> None:
    line = CountLine(*FLAT)
    for y in (40, 60):
        line.update(at((20, y), (40, y)))
        line.update(at((60, 100 - y), first=7, label=1))
    assert line.counts == {"down": {"person": 2}, "up": {"car": 1}}


def test_two_tracks_on_two_sides_are_no_crossing() -> None:
    line = CountLine(*FLAT)
    line.update(at((50, 40), first=1))
    line.update(at((50, 60), first=2))
    assert line.counts == {"down": {}, "up": {}}


def test_the_anchor_may_be_the_centre() -> None:
    """A box 20 high from y 35 to 55: its lower edge is below the line at 50, its centre at 45 is not."""
    bottom, centre = CountLine(*FLAT), CountLine(*FLAT, anchor="centre")
    for y in (40, 55):
        for line in (bottom, centre):
            line.update(at((50, y)))
    assert (bottom.counts["down"].total(), centre.counts["down"].total()) == (1, 0)
    np.testing.assert_allclose(anchor_points(at((50, 55)), "centre"), [[50, 45]])


def test_what_is_kept_of_a_stream_is_limited() -> None:
    recent = Recent()
    for number in range(5000):
        recent[number] = number
        recent[0] = number  # is seen again and again, so it stays
    assert len(recent) == 1000
    assert 0 in recent
    assert 4001 in recent
    assert 4000 not in recent


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        (((0, 0), (0, 0)), "must be different points"),
        (((0,), (1, 1)), r"start must be a point \(x, y\)"),
        (((0, 0), "ab"), r"end must be a point \(x, y\)"),
        (((0, 0), (float("inf"), 1)), "end must be a finite number"),
    ],
)
def test_wrong_ends_are_refused(ends: tuple[tuple[float, float], tuple[float, float]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CountLine(*ends)


def test_a_wrong_anchor_and_untracked_detections_are_refused() -> None:
    with pytest.raises(InputError, match="anchor must be bottom or centre, got 'top'"):
        CountLine((0, 0), (1, 1), anchor="top")
    untracked = Detections([[0, 0, 1, 1]], [0.5], labels=[0], class_names=NAMES)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="have no track_ids"):
        CountLine((0, 0), (1, 1)).update(untracked)
