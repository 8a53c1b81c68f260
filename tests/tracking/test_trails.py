"""Trails: what they keep, and for how long."""

from __future__ import annotations

from tests.tracking.test_lines import at
from yolo_lite.tracking.trails import Trails


def test_points_are_kept_for_the_last_seconds() -> None:
    trails = Trails(seconds=1.0)
    for number in range(20):
        points = trails.update(at((number, 50)), time=number / 10)
    assert points == {1: tuple((float(x), 50.0) for x in range(9, 20))}


def test_the_trail_of_a_lost_object_fades_and_is_forgotten() -> None:
    trails = Trails(seconds=1.0)
    trails.update(at((1, 50)), time=0.0)
    trails.update(at((2, 50)), time=0.5)
    assert trails.update(at(), time=1.2) == {1: ((2.0, 50.0),)}
    assert trails.update(at(), time=1.6) == {}


def test_each_track_has_its_own_trail() -> None:
    trails = Trails(anchor="centre")
    trails.update(at((1, 50), (100, 60)), time=0)
    assert trails.update(at((2, 50), (99, 60)), time=0.1) == {
        1: ((1.0, 40.0), (2.0, 40.0)),
        2: ((100.0, 50.0), (99.0, 50.0)),
    }
