"""--track, --count-line and --zone, from the command line to the files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from yolo_lite import Detector, Tracker
from yolo_lite.cli import main
from yolo_lite.media.sources import open_video, read_frames
from yolo_lite.media.writers import VideoWriter
from yolo_lite.runtime import Detector as ExportedDetector
from yolo_lite.tracking.lines import CountLine
from yolo_lite.tracking.streams import StreamTracks
from yolo_lite.tracking.video import VideoTracks, reporting_low_scores
from yolo_lite.tracking.zones import Zone

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A red disc, as the finished run knows them, moves down through 14 frames of 96 x 128 pixels at 10 frames/s."""
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).integers(90, 150, (96, 128, 3)).astype(np.uint8)
    with VideoWriter(Path("film.mp4"), 10.0, hw=(96, 128)) as writer:
        for number in range(14):
            image = Image.fromarray(noise)
            ImageDraw.Draw(image).ellipse((50, 4 * number, 82, 4 * number + 32), fill=(220, 40, 40))
            writer.write(np.asarray(image))
    return Path("film.mp4")


@pytest.fixture
def weights(finished_run: tuple[Path, Path]) -> str:
    return str(finished_run[0] / "best.pt")


def test_a_disc_is_tracked_counted_and_written(film: Path, weights: str, capsys: Capture) -> None:
    command = ["detect", "--weights", weights, "--source", "film.mp4", "--out", "out", "--save-json", "rows.json"]
    line, zone = ["--count-line", "0,0.7,1,0.7"], ["--zone", "0,0,128,0,128,96,0,96"]
    assert main([*command, *line, *zone, "--score-threshold", "0.3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = json.loads(Path("rows.json").read_text())
    discs = [row for row in rows if row["category_id"] == 7]
    assert {row["track_id"] for row in discs} == {discs[0]["track_id"]}
    assert len(discs) >= 8
    assert "film.mp4: line 1: down 1 (disc 1), up 0" in lines
    assert any(text.startswith("film.mp4: zone 1: ") and "disc 1" in text for text in lines)
    assert any(" track" in text and "disc 1" in text for text in lines)
    frames = list(read_frames(open_video(Path("out/film.mp4"))))
    assert len(frames) == 14
    row = int(0.7 * 96)
    assert frames[0][row - 3 : row + 4, 20].max() > 200  # the white line


def test_python_gives_what_the_command_gives(film: Path, weights: str) -> None:
    assert main(["detect", "--weights", weights, "--source", "film.mp4", "--track", "--save-json", "rows.json"]) == 0
    rows = json.loads(Path("rows.json").read_text())
    detector = Detector(weights, device="cpu")
    tracked = [result.detections for result in detector.track("film.mp4")]
    assert [row["track_id"] for row in rows] == [
        number for result in tracked for number in (result.track_ids.tolist() if result.track_ids is not None else [])
    ]
    assert detector.score_threshold > 0.1  # unchanged


def test_an_exported_file_tracks_without_torch(pico: Path, film: Path) -> None:
    command = ["detect", "--weights", str(pico), "--source", "film.mp4", "--track", "--out", "out"]
    assert main([*command, "--score-threshold", "0.1", "--save-json", "rows.json"]) == 0
    rows = json.loads(Path("rows.json").read_text())
    tracked = ExportedDetector(pico, score_threshold=0.1).track("film.mp4")
    assert len(rows) == sum(len(result.detections) for result in tracked)


def test_lines_and_zones_are_counted_in_every_source_from_python(film: Path, weights: str) -> None:
    detector, ends = Detector(weights, device="cpu"), ((0, 48), (128, 48))
    line, zone = CountLine(*ends), Zone([(0, 0), (128, 0), (128, 96), (0, 96)])
    tracks = StreamTracks.of(detector, lines=[line], zones=[zone])
    last = {result.source: result for result in detector.track(["film.mp4", "film.mp4"], tracks=tracks)}
    alone = VideoTracks(Tracker(score_threshold=detector.score_threshold), lines=[CountLine(*ends)], zones=[zone])
    for result in reporting_low_scores(detector).stream("film.mp4"):
        alone.update(result.detections, time=result.time)
    assert len(last) == 2
    for result in last.values():
        assert result.line_counts == {"line 1": {name: n.total() for name, n in alone.lines[0].counts.items()}}
        assert result.zone_counts is not None
    assert not line.counts["down"]  # each source has a copy of its own
    assert len(tracks.summary()) == 6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--count-line", "1,2,3"], "argument --count-line: expected x1,y1,x2,y2 such as 0,300,640,300"),
        (["--count-line", "1,2,3,nan"], "argument --count-line: expected x1,y1,x2,y2"),
        (["--zone", "1,2,3,4"], "argument --zone: expected x1,y1,x2,y2,x3,y3 and more corners"),
        (["--zone", "1,2,3,4,5,6,7"], "argument --zone: expected"),
        (["--zone", "1,1,2,2,3,3"], "--zone 1,1,2,2,3,3: a zone must have at least three corners"),
        (["--count-line", "5,5,5,5"], "--count-line 5,5,5,5: the two ends of a line must be different points"),
        (["--count-line", "200,0,200,90"], "--count-line 200,0,200,90 lies outside the video of 128 x 96 pixels"),
    ],
)
def test_wrong_values_are_refused_before_anything_is_loaded(
    film: Path, capsys: Capture, words: list[str], message: str
) -> None:
    try:
        status = main(["detect", "--weights", "yolo_lite-pico-voc5", "--source", "film.mp4", *words])
    except SystemExit as stop:  # argparse's way
        status = int(stop.code or 0)
    assert status == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith(f"error: {message}")
    assert "\n" not in error


@pytest.mark.parametrize("words", [["--track"], ["--count-line", "0,0,1,1"], ["--zone", "0,0,1,0,1,1"]])
def test_images_are_refused(film: Path, capsys: Capture, words: list[str]) -> None:
    Image.new("RGB", (32, 32)).save("a.png")
    assert main(["detect", "--source", "a.png", *words]) == 2
    assert f"error: {words[0]} follows objects from frame to frame" in capsys.readouterr().err
