"""What a video's tracks, lines and zones add up to."""

from __future__ import annotations

import numpy as np
import pytest

from yolo_lite import Detector
from yolo_lite.errors import InputError
from yolo_lite.structures.results import Detections
from yolo_lite.tracking.lines import CountLine
from yolo_lite.tracking.tracker import Tracker
from yolo_lite.tracking.video import VideoTracks, in_pixels, reporting_low_scores
from yolo_lite.tracking.zones import Zone


def moving(number: int) -> Detections:
    """Return a person who walks down and a car that drives to the left, in frame `number` of 40."""
    boxes = [[20, 5 * number, 40, 5 * number + 40], [400 - 8 * number, 100, 460 - 8 * number, 140]]
    return Detections(boxes, [0.9, 0.8], labels=[0, 1], class_names=("person", "car"))  # type: ignore[arg-type]


def test_lines_zones_and_trails_follow_the_tracks() -> None:
    tracks = VideoTracks(
        Tracker(score_threshold=0.5),
        lines=[CountLine((0, 150), (500, 150)), CountLine((250, 0), (250, 300))],
        zones=[Zone([(200, 100), (300, 100), (300, 200), (200, 200)])],
    )
    inside = 0
    for number in range(40):
        tracked = tracks.update(moving(number), time=number / 10)
        assert tracked.track_ids is not None
        inside += bool(tracks.zones[0].present)
        assert (tracks.overlay.trails.keys() == {1, 2}) == (number >= 2)
    # the car's centre is 430 - 8 n: within 200..300, with the margin, from frame 17 to 29; then half a second of patience
    assert tracks.lines[0].counts == {"down": {"person": 1}, "up": {}}
    assert tracks.lines[1].counts == {"right": {}, "left": {"car": 1}}
    assert inside in range(12, 15)
    assert tracks.summary() == [
        "2 tracks (car 1, person 1)",
        "line 1: down 1 (person 1), up 0",
        "line 2: right 0, left 1 (car 1)",
        f"zone 1: 1 entry (car 1), {tracks.zones[0].mean_dwell:.1f} s inside on average",
    ]
    assert len(tracks.overlay.trails[1]) == 16  # 1.5 seconds and both ends
    assert [text for *_, text in tracks.overlay.lines] == ["line 1: ↓ 1  ↑ 0", "line 2: → 0  ← 1"]
    assert [text for _, text in tracks.overlay.zones] == ["zone 1: 0"]


def test_without_objects_there_is_nothing_to_report() -> None:
    assert VideoTracks(Tracker(score_threshold=0.5)).summary() == ["0 tracks"]


@pytest.mark.parametrize(
    ("numbers", "points"),
    [
        ((0.5, 0.25, 1, 1), [(320, 120), (640, 480)]),
        ((0, 0, 640, 1), [(0, 0), (640, 1)]),
        ((0, 0, 1, 1.5), [(0, 0), (1, 1.5)]),
        ((-10, 5, 700, 5), [(-10, 5), (700, 5)]),
    ],
    ids=["fractions", "pixels", "small pixels", "beyond the edges"],
)
def test_coordinates_are_pixels_unless_all_are_fractions(
    numbers: tuple[float, ...], points: list[tuple[float, float]]
) -> None:
    assert in_pixels(numbers, (480, 640), name="--count-line") == points


@pytest.mark.parametrize("numbers", [(700, 0, 700, 480), (0, 500, 640, 600), (-5, -5, -1, 400)])
def test_points_outside_the_video_are_refused(numbers: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="--count-line .* lies outside the video of 640 x 480 pixels"):
        in_pixels(numbers, (480, 640), name="--count-line")


def test_a_detector_that_reports_low_scores_shares_its_network(finished_run: tuple[object, object]) -> None:
    detector = Detector(str(finished_run[0]) + "/best.pt", device="cpu", score_threshold=0.5)
    lower = reporting_low_scores(detector)
    assert lower.model is detector.model
    assert (lower.score_threshold, detector.score_threshold) == (pytest.approx(0.2), 0.5)
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3)).astype(np.uint8)
    assert len(lower(noise)) >= len(detector(noise))
