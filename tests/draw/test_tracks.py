"""Drawings of tracks, read back pixel by pixel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from yolo_lite.draw.boxes import draw_detections
from yolo_lite.draw.colours import class_colour, track_colour
from yolo_lite.draw.labels import Letters
from yolo_lite.draw.tracks import draw_tracks
from yolo_lite.structures.results import Detections
from yolo_lite.tracking.video import Overlay


def grey(hw: tuple[int, int] = (200, 300)) -> npt.NDArray[np.uint8]:
    return np.full((*hw, 3), 40, np.uint8)


def cats(*boxes: tuple[int, int, int, int], ids: tuple[int, ...]) -> Detections:
    scores = np.linspace(0.9, 0.5, len(boxes))
    return Detections(
        np.array(boxes, float).reshape(-1, 4),
        scores,
        labels=[0] * len(boxes),
        class_names=("cat",),
        track_ids=np.array(ids, int),
    )


def has(image: npt.NDArray[np.uint8], colour: tuple[int, int, int]) -> bool:
    return bool((image == colour).all(-1).any())


def test_each_track_has_its_colour_and_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    monkeypatch.setattr(Letters, "write", lambda self, canvas, text, **place: texts.append(text))
    drawn = draw_detections(grey(), cats((20, 60, 80, 120), (150, 60, 210, 120), ids=(3, 12)))
    assert sorted(texts) == ["cat 12 50%", "cat 3 90%"]
    assert (drawn[119, 25:75] == track_colour(3)).all()
    assert (drawn[119, 155:205] == track_colour(12)).all()
    assert track_colour(3) != track_colour(12)


def test_42_tracks_have_42_colours() -> None:
    assert len({track_colour(number) for number in range(1, 43)}) == 42
    assert track_colour(1) == track_colour(43) == class_colour(0)


def test_untracked_detections_are_drawn_as_before() -> None:
    tracked = cats((20, 60, 80, 120), ids=(1,))
    plain = Detections(tracked.boxes, tracked.scores, labels=tracked.labels, class_names=("cat",))
    np.testing.assert_array_equal(draw_tracks(grey(), plain, overlay=Overlay({})), draw_detections(grey(), plain))


def test_a_trail_has_the_colour_of_its_track() -> None:
    drawn = draw_tracks(grey(), cats(ids=()), overlay=Overlay({5: ((50.0, 20.0), (50.0, 180.0)), 6: ((9.0, 9.0),)}))
    assert (drawn[25:175, 50] == track_colour(5)).all()
    assert not has(drawn, track_colour(6))  # one point is no way


def test_a_line_is_white_with_black_edges_and_its_counts_beside_its_middle() -> None:
    line = ((20.0, 100.0), (280.0, 100.0), "line 1: 4")
    drawn = draw_tracks(grey(), cats(ids=()), overlay=Overlay({}, lines=(line,)))
    assert has(drawn[96:104, 30:31], (255, 255, 255))
    assert has(drawn[96:104, 30:31], (0, 0, 0))
    assert (drawn[:80] == 40).all()
    plate = np.argwhere((drawn[80:97] == 255).all(-1))  # above the line
    assert 150 <= plate[:, 1].min() < 160
    assert len(plate) > 100


def test_a_zone_is_lighter_inside_and_has_a_border() -> None:
    corners = ((50.0, 50.0), (150.0, 50.0), (150.0, 150.0), (50.0, 150.0))
    drawn = draw_tracks(grey(), cats(ids=()), overlay=Overlay({}, zones=((corners, "zone 1: 2"),)))
    assert (drawn[100, 100] > 40).all()
    assert (drawn[100, 200] == 40).all()
    assert has(drawn[98:102, 46:54], (255, 255, 255))
    assert (drawn[30:49, 52:60] == 255).all(-1).any()  # the plate above the upper left corner


def test_counts_stay_in_place_whatever_moves() -> None:
    """The plate is where it was although an object comes below it; the object's own label makes room."""
    line = ((20.0, 100.0), (280.0, 100.0), "line 1: 4")
    empty = draw_tracks(grey(), cats(ids=()), overlay=Overlay({}, lines=(line,)))
    busy = draw_tracks(grey(), cats((140, 60, 260, 180), ids=(1,)), overlay=Overlay({}, lines=(line,)))
    plate = (empty[80:96] == 255).all(-1)
    assert plate.any()
    assert (busy[80:96][plate] == 255).all()


@pytest.mark.parametrize("hw", [(180, 320), (60, 80), (2160, 3840)], ids=str)
def test_every_size_of_image_can_be_drawn_and_the_input_stays(hw: tuple[int, int]) -> None:
    image = grey(hw)
    height, width = hw
    overlay = Overlay(
        {1: ((0.0, 0.0), (width / 2, height / 2))},
        lines=(((0.0, height / 2), (float(width), height / 2), "line 1: ↓ 2  ↑ 3"),),
        zones=((((0.0, 0.0), (width / 3, 0.0), (0.0, height / 3)), "zone 1: 0"),),
    )
    drawn = draw_tracks(image, cats((0, 0, width // 2, height // 2), ids=(1,)), overlay=overlay)
    assert (drawn.shape, drawn.dtype) == (image.shape, np.uint8)
    assert (image == 40).all()
