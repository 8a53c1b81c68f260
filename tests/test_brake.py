"""The example that brakes: synthetic approaches, whose time to contact is known."""

from __future__ import annotations

import importlib.util
import io
import json
import math
import time
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from yolo_lite.media.sources import open_video


def example(name: str) -> Any:
    """Return a program of docs/examples as a module."""
    path = Path(__file__).parents[1] / "docs" / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


brake = example("brake")


def heights(distance: float, speed: float, frames: int = 10, fps: float = 10) -> deque[tuple[float, float]]:
    """Return time and height of an object of 1.5 m that a camera with a focal length of 800 pixels sees."""
    return deque((n / fps, 800 * 1.5 / (distance - speed * n / fps)) for n in range(frames))


@pytest.mark.parametrize(("distance", "speed"), [(40, 10), (20, 10), (30, 5)])
def test_the_time_to_contact_is_near_the_true_value(distance: float, speed: float) -> None:
    truth = distance / speed - 0.9  # at the last frame
    assert brake.seconds_to_contact(heights(distance, speed)) == pytest.approx(truth, rel=0.1)


def test_objects_that_stay_or_leave_are_never_reached() -> None:
    assert brake.seconds_to_contact(heights(20, 0)) > 1e6
    assert brake.seconds_to_contact(heights(20, -5)) == math.inf


def message(number: int, found: list[tuple[int, float]], left: float = 100) -> str:
    rows = [
        {"class_name": "car", "label": 2, "score": 0.9, "box": [left, 460 - height, left + 100, 460]}
        for _, height in found
    ]
    tracked = [{**row, "track_id": track} if track >= 0 else row for row, (track, _) in zip(rows, found)]
    head = {"schema_version": 1, "source": "camera 0", "frame": number, "captured_at": time.time(), "time": number / 10}
    return json.dumps({**head, "image_size": [640, 480], "dropped": 0, "detections": tracked}) + "\n"


def test_it_brakes_once_for_an_approach(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Car 7 comes nearer from 40 m at 10 m/s; car 8 stays; an object without a track does not count."""
    near, far = heights(40, 10, frames=38), heights(40, 0, frames=38)
    lines = [message(n, [(7, near[n][1]), (8, far[n][1]), (-1, near[n][1])]) for n in range(38)]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(lines)))
    brake.main("-")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("BRAKE car 7: contact in ")
    left = float(line.split("contact in ")[1].split(" s;")[0])
    assert 1.7 < left <= 2.0
    assert line.endswith(" ms after capture")


def test_what_comes_into_view_is_no_approach(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    near = heights(40, 10, frames=38)
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(message(n, [(7, near[n][1])], left=1) for n in range(38))))
    brake.main("-")
    assert capsys.readouterr().out == ""


def test_the_video_of_an_approach_has_three_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example("approach").main()
    video = open_video(Path("approach.mp4"))
    assert (video.fps, video.hw, video.frames) == (25, (480, 640), 75)


@pytest.mark.parametrize("address", ["mqtt://127.0.0.1:1883/frames", "kafka://127.0.0.1:9092", "frames.jsonl"])
def test_an_address_that_is_not_kafka_ends_in_one_line(address: str) -> None:
    with pytest.raises(SystemExit, match=r"expected kafka://host:port/topic, or - for standard input, got"):
        list(brake.messages(address))
