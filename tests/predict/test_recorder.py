"""Recorded streams play at the speed of the world."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from yolo_lite.errors import InputError
from yolo_lite.media.sources import open_video, read_frames
from yolo_lite.predict.recorder import FPS, LONGEST_GAP, Recorder
from yolo_lite.structures.frames import DetectedFrame
from yolo_lite.structures.results import Detections

NOTHING = Detections([], scores=[], labels=[], class_names=("x",))


def frame(source: str, time: float, level: int, hw: tuple[int, int] = (48, 64)) -> DetectedFrame:
    return DetectedFrame(source, 0, time, 1e9, NOTHING, image_hw=hw, image=np.full((*hw, 3), level, np.uint8))


def levels(path: Path) -> list[int]:
    """Return the grey levels of a video, in steps of 50."""
    return [50 * round(float(image.mean()) / 50) for image in read_frames(open_video(path))]


def test_frames_are_repeated_and_left_out_as_their_times_ask(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        for time, level in ((10.0, 0), (10.0 + 4 / FPS, 100), (10.0 + 4.2 / FPS, 150), (10.0 + 6 / FPS, 200)):
            recorder.write(frame("camera 0", time, level))
    assert levels(recorder.paths["camera 0"]) == [0, 0, 0, 0, 100, 150, 200]


def test_a_long_pause_is_cut_out(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder:
        recorder.write(frame("camera 0", 0.0, 0))
        recorder.write(frame("camera 0", LONGEST_GAP + 3600, 100))
        recorder.write(frame("camera 0", LONGEST_GAP + 3600 + 1 / FPS, 200))
    assert levels(recorder.paths["camera 0"]) == [0, 0, 100, 200]


def test_each_source_has_a_video_with_a_safe_name(tmp_path: Path) -> None:
    with Recorder(tmp_path, suffix=".webm") as recorder:
        for source in ("rtsp://10.0.0.7:554/yard?a=1", "../shots/film.mp4", "shots/film.mp4", "///"):
            recorder.write(frame(source, 0.0, 100))
    assert [path.name for path in recorder.paths.values()] == [
        *("rtsp_10.0.0.7_554_yard_a_1.webm", "film.webm", "film-2.webm", "stream.webm")
    ]
    assert sorted(tmp_path.iterdir()) == sorted(recorder.paths.values())


def test_the_videos_are_kept_if_ctrl_c_ends_the_block(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Recorder(tmp_path) as recorder:
        recorder.write(frame("camera 0", 0.0, 100))
        raise KeyboardInterrupt
    assert levels(recorder.paths["camera 0"]) == [100]


def test_frames_without_images_get_a_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pass images=True to stream"), Recorder(tmp_path) as recorder:
        recorder.write(DetectedFrame("camera 0", 0, 0.0, 1e9, NOTHING, image_hw=(48, 64)))


def test_images_are_refused(tmp_path: Path) -> None:
    with Recorder(tmp_path) as recorder, pytest.raises(InputError, match="1.jpg is an image; only videos"):
        recorder.write(replace(frame("1.jpg", 0.0, 0), still=True))
    assert not list(tmp_path.iterdir())
