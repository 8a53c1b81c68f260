"""The tracker on two real videos, against ground truth that was made by hand."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from tests.tracking.truth import true_tracks
from yolo_lite import Detector, Tracker
from yolo_lite.media.sources import open_video
from yolo_lite.metrics.tracking import score_tracks
from yolo_lite.structures.results import Detections
from yolo_lite.tracking.lines import CountLine


def test_the_ground_truth_is_whole() -> None:
    """Four cars and six people, in frames that follow each other, with boxes inside the image of 768 x 432."""
    for name, tracks, boxes in (("car-detection.mp4", 4, 179), ("one-by-one-person-detection.mp4", 6, 1080)):
        frames = true_tracks(name, ("car", "person"))
        ids = np.concatenate([frame.track_ids for frame in frames if frame.track_ids is not None])
        assert (len(set(ids.tolist())), len(ids)) == (tracks, boxes)
        for number in range(1, tracks + 1):
            there = [at for at, frame in enumerate(frames) if number in _ids(frame)]
            assert there == list(range(there[0], there[-1] + 1))
        corners = np.concatenate([frame.boxes for frame in frames])
        assert corners.min() >= 0
        assert corners[:, 2].max() <= 768
        assert corners[:, 3].max() <= 432
        assert (corners[:, :2] < corners[:, 2:]).all()


def test_the_true_tracks_survive_the_tracker() -> None:
    """With the true boxes as detections, at the video's frame rate and at half of it, no number is lost or changed."""
    for name, fps in (("car-detection.mp4", 12.5), ("one-by-one-person-detection.mp4", 10.0)):
        for step in (1, 2):
            truth = true_tracks(name, ("car", "person"))[::step]
            tracker = Tracker(score_threshold=0.5)
            tracked = [tracker.update(frame, time=number * step / fps) for number, frame in enumerate(truth)]
            scores = score_tracks(truth, tracked)
            assert (scores.switches, scores.false_positives, scores.correct) == (0, 0, scores.tracks)
            assert scores.misses == 2 * scores.tracks  # before the third detection


def test_the_cars_are_counted_over_a_line() -> None:
    """Two drive down and two up, as one sees in the video."""
    line = CountLine((0, 216), (768, 216), anchor="centre")
    for frame in true_tracks("car-detection.mp4", ("car",)):
        line.update(frame)
    assert line.counts == {"down": {"car": 2}, "up": {"car": 2}}


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "label", "threshold", "correct", "least"),
    [
        # Least MOTA: a little below the 0.975 and 0.598 of docs/stream.md.
        ("one-by-one-person-detection.mp4", "person", None, 6, 0.96),
        ("car-detection.mp4", "car", 0.2, 3, 0.57),
    ],
)
def test_tracks_of_real_videos(
    shared_data: Path, name: str, label: str, threshold: float | None, correct: int, least: float
) -> None:
    """No number changes, most tracks are right, and matching takes at most 5 % of the time of detection."""
    detector = Detector(score_threshold=threshold, classes=[label], device="cpu")
    truth = true_tracks(name, detector.class_names)
    video = open_video(shared_data / "videos" / name)
    start, tracked = time.process_time(), [result.detections for result in detector.track(video)]
    whole = time.process_time() - start
    scores = score_tracks(truth, tracked)
    assert scores.switches == 0
    assert scores.correct >= correct
    assert scores.mota >= least
    assert len({number for frame in tracked for number in _ids(frame)}) == scores.tracks
    start, tracker = time.process_time(), Tracker(score_threshold=0.36)
    for number, frame in enumerate(tracked):
        tracker.update(frame, time=number / 10)
    assert time.process_time() - start < 0.05 * whole


def _ids(frame: Detections) -> list[int]:
    return [] if frame.track_ids is None else [int(number) for number in frame.track_ids]
