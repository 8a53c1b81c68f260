"""Tracks of several sources at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from yolo_lite.errors import InputError
from yolo_lite.structures.frames import DetectedFrame
from yolo_lite.structures.results import Detections
from yolo_lite.tracking.lines import CountLine
from yolo_lite.tracking.streams import StreamTracks
from yolo_lite.tracking.tracker import Tracker
from yolo_lite.tracking.video import VideoTracks
from yolo_lite.tracking.zones import Zone


def cat(source: str, number: int, y: float) -> DetectedFrame:
    found = Detections([[10, y, 30, y + 20]], [0.9], labels=[0], class_names=("cat",))
    return DetectedFrame(source, number, number / 10, 1e9, found, image_hw=(100, 100))


def test_sources_are_tracked_apart_and_lines_are_counted_for_each() -> None:
    sizes: list[tuple[int, int]] = []

    def begin(hw: tuple[int, int]) -> VideoTracks:
        sizes.append(hw)
        return VideoTracks(Tracker(score_threshold=0.5), lines=[CountLine((0, 60), (99, 60))])

    tracks = StreamTracks(begin)
    for number in range(8):
        down, still = tracks.update(cat("a", number, 10.0 * number)), tracks.update(cat("b", number, 50))
    assert sizes == [(100, 100)] * 2
    assert [
        frame.detections.track_ids.tolist() for frame in (down, still) if frame.detections.track_ids is not None
    ] == [
        [1],
        [1],
    ]
    assert down.line_counts == {"line 1": {"down": 1, "up": 0}}
    assert still.line_counts == {"line 1": {"down": 0, "up": 0}}
    assert [line.partition(":")[0] for line in tracks.summary()] == ["a", "a", "b", "b"]


def test_without_lines_nothing_is_counted() -> None:
    tracks = StreamTracks(lambda hw: VideoTracks(Tracker(score_threshold=0.5)))
    frame = tracks.update(cat("a", 0, 10))
    assert (frame.line_counts, frame.zone_counts) == (None, None)


def test_zones_are_counted_for_each_source() -> None:
    """One cat walks into the lower half and stays, another one stands in the upper half."""
    half = [(0, 50), (100, 50), (100, 100), (0, 100)]
    tracks = StreamTracks(lambda hw: VideoTracks(Tracker(score_threshold=0.5), zones=[Zone(half)]))
    for number in range(8):
        inside, outside = tracks.update(cat("a", number, 10.0 * number)), tracks.update(cat("b", number, 5))
    assert inside.zone_counts == {"zone 1": {"inside": 1, "entries": 1}}
    assert outside.zone_counts == {"zone 1": {"inside": 0, "entries": 0}}


def test_images_are_refused() -> None:
    tracks = StreamTracks(lambda hw: VideoTracks(Tracker(score_threshold=0.5)))
    with pytest.raises(InputError, match=r"^1\.jpg is an image; objects are followed in videos and live sources only$"):
        tracks.update(replace(cat("1.jpg", 0, 10), still=True))
