"""`yolo-lite detect` with streams: messages, limits, records, and its end by Ctrl-C."""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from tests.loopback import no_network
from tests.messages.test_frame import VALIDATOR
from tests.stream.conftest import Server, numbered, serve
from yolo_lite.cli import main
from yolo_lite.media.images import read_image
from yolo_lite.media.sources import open_video, read_frames
from yolo_lite.media.writers import VideoWriter

__all__ = ["no_network", "serve"]
Capture = pytest.CaptureFixture[str]
Run = Callable[..., int]


@pytest.fixture
def detect(finished_run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs `detect` with trained weights in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: main(["detect", "--weights", str(finished_run[0] / "best.pt"), *words])


def documents(text: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in text.splitlines()]


def test_messages_of_images_follow_the_schema(detect: Run, finished_run: tuple[Path, Path], capsys: Capture) -> None:
    assert detect("--source", str(finished_run[1] / "images"), "--to", "jsonl:-") == 0
    captured = capsys.readouterr()
    found = documents(captured.out)
    assert len(found) == 8
    for document in found:
        jsonschema.validate(document, VALIDATOR.schema)
    assert [Path(str(document["source"])).name for document in found] == [f"000{n}.png" for n in range(1, 9)]
    assert captured.err.splitlines() == ["16 objects in 8 frames", "jsonl:-: 8 of 8 messages delivered"]
    assert not Path("runs").exists()


def test_a_live_source_ends_after_a_number_of_frames(
    detect: Run, serve: Callable[..., Server], capsys: Capture
) -> None:
    url = serve().url.replace("http://", "http://me:secret@")
    words = ["--source", url, "--frames", "5", "--to", "jsonl:a.jsonl", "--save-json", "rows.json", "--save-video"]
    assert detect(*words, "--out", "out") == 0
    captured = capsys.readouterr()
    assert [document["frame"] for document in documents(Path("a.jsonl").read_text())] != []
    lines = captured.out.splitlines()
    assert "5 frames" in lines[-2]
    assert "frames/s, lag at most" in lines[-3]
    assert "dropped, 0 reconnects in 5 frames" in lines[-3]
    assert lines[-1] == "jsonl:a.jsonl: 5 of 5 messages delivered"
    (film,) = Path("out").iterdir()
    assert list(read_frames(open_video(film)))
    assert isinstance(json.loads(Path("rows.json").read_text()), list)
    for text in (captured.out, captured.err, Path("a.jsonl").read_text(), film.name, Path("rows.json").read_text()):
        assert "secret" not in text


def test_a_live_source_ends_after_a_time(detect: Run, serve: Callable[..., Server], capsys: Capture) -> None:
    began = time.monotonic()
    assert detect("--source", serve().url, "--time", "1s") == 0
    assert time.monotonic() - began < 60
    assert "frames/s" in capsys.readouterr().out


def test_images_come_from_standard_input(detect: Run, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(numbered(1) * 3))))  # type: ignore[arg-type]
    assert detect("--source", "-", "--to", "jsonl:-") == 0
    assert [(found["source"], found["frame"]) for found in documents(capsys.readouterr().out)] == [
        ("stdin", number) for number in range(3)
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--source", "rtsp://me:secret@127.0.0.1:1/x"], "cannot reach rtsp://127.0.0.1:1/x: Connection refused"),
        (["--source", "missing.txt"], "missing.txt does not exist; a list has"),
        (["--source", "99"], "camera 99 cannot be opened"),
        (["--to", "kafka://host"], "kafka://host names no topic"),
        (["--to", "mqtt://127.0.0.1:1/x"], "mqtt://127.0.0.1:1/x: the broker cannot be reached"),
        (["--to", "jsonl:/dev/full"], "cannot write /dev/full: No space left on device"),
        (["--frames", "0"], "expected a whole number of at least 1"),
        (["--source", "missing.jpg", "--to", "jsonl:a.jsonl"], "missing.jpg does not exist"),
        (["--to", "jsonl:a.jsonl", "--to", "jsonl:./a.jsonl"], "jsonl:./a.jsonl is named twice"),
        (["--to", "jsonl:a.jsonl", "--track"], "--track follows objects in videos and live sources; leave the image"),
        (["--save-video"], "--save-video records videos and live sources; leave the image"),
        (["--source", "0", "--save-video", "--no-images"], "--save-video writes annotated videos, which --no-images"),
        (["--source", "0", "--out", "out"], "which streams write with --save-video alone"),
        (["--source", "0", "--time", "soon"], "--time takes a duration"),
    ],
)
def test_bad_input_gets_one_line(detect: Run, words: list[str], message: str, capsys: Capture) -> None:
    try:
        status = detect(*words)
    except SystemExit as end:
        status = int(str(end.code))
    assert status == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (error,) = printed.err.splitlines()
    assert error.startswith("error: ")
    assert message in error
    assert "secret" not in error


def test_tracks_and_counts_are_in_messages_and_records(
    detect: Run, finished_run: tuple[Path, Path], capsys: Capture
) -> None:
    with VideoWriter(Path("film.mp4"), 10.0, hw=(96, 128)) as writer:
        for _ in range(8):
            writer.write(read_image(finished_run[1] / "images" / "0002.png"))
    words = [
        "--source",
        "film.mp4",
        "--count-line",
        "0,0.5,1,0.5",
        "--to",
        "jsonl:a.jsonl",
        "--save-video",
        "--out",
        "o",
    ]
    assert detect(*words) == 0
    found = documents(Path("a.jsonl").read_text())
    for document in found:
        VALIDATOR.validate(document)
    last = found[-1]
    assert sorted(row["track_id"] for row in last["detections"]) == [1, 2]  # type: ignore[index, attr-defined]
    assert last["line_counts"] == {"line 1": {"down": 0, "up": 0}}
    assert len(list(read_frames(open_video(Path("o/film.mp4"))))) >= 8
    assert "film.mp4: 2 tracks" in capsys.readouterr().out


def test_other_results_are_written_for_streams_too(
    detect: Run, finished_run: tuple[Path, Path], capsys: Capture
) -> None:
    words = ["--to", "jsonl:a.jsonl", "--save-csv", "a.csv", "--save-txt", "labels", "--save-crops", "crops", "--quiet"]
    assert detect("--source", str(finished_run[1] / "images" / "0002.png"), *words) == 0
    assert len(Path("a.csv").read_text().splitlines()) == 3
    assert len(list(Path("labels").rglob("0002*.txt"))) == 1
    assert len(list(Path("crops").rglob("0002*.png"))) == 2
    captured = capsys.readouterr()
    assert "2 objects in 1 frame" in captured.out
    assert captured.err == ""


def test_a_stop_ends_with_whole_outputs(
    detect: Run, serve: Callable[..., Server], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from yolo_lite.cli.commands import live

    count = itertools.count(1)

    def add(self: object, result: object) -> None:
        if next(count) == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(live._Tally, "add", add)
    words = ["--to", "jsonl:a.jsonl", "--save-json", "rows.json", "--save-video", "--out", "out"]
    assert detect("--source", serve().url, *words) == 130
    assert len(documents(Path("a.jsonl").read_text())) == 4
    assert capsys.readouterr().out.splitlines()[-1] == "jsonl:a.jsonl: 4 of 4 messages delivered"
    assert isinstance(json.loads(Path("rows.json").read_text()), list)
    assert len(list(Path("out").iterdir())) == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("read ")]


def test_messages_change_no_other_result(detect: Run, finished_run: tuple[Path, Path], capsys: Capture) -> None:
    """Names, ids and label files of images in two folders are the same with --to and without it."""
    for name in ("a/7.png", "b/7.png", "b/film.png"):
        Path(name).parent.mkdir(exist_ok=True)
        shutil.copy(finished_run[1] / "images" / "0002.png", name)
    words = ["--source", "a", str(Path("b").resolve()), "--no-images", "--quiet"]
    for number, to in enumerate([[], ["--to", "jsonl:m.jsonl"]]):
        results = ["--save-json", f"{number}/r.json", "--save-csv", f"{number}/t.csv", "--save-txt", f"{number}/labels"]
        assert detect(*words, *results, "--save-crops", f"{number}/crops", *to) == 0
        assert f"rows: {number}/r.json" in capsys.readouterr().out.splitlines()
    plain, sent = ({p.relative_to(n): p for p in Path(n).rglob("*.*") if p.is_file()} for n in ("0", "1"))
    assert plain.keys() == sent.keys()
    assert {row["image_id"] for row in json.loads(Path("1/r.json").read_text())} == {1, 2, 7}
    assert len(plain) > 9
    assert [path for path in plain if plain[path].read_bytes() != sent[path].read_bytes()] == []


def test_quiet_tells_of_images_that_were_skipped(detect: Run, finished_run: tuple[Path, Path], capsys: Capture) -> None:
    """A shell's pattern may match a text as well, which is then no list of sources."""
    for name in ("broken.png", "notes.txt"):
        Path(name).write_text("not an image")
    image = str(finished_run[1] / "images" / "0002.png")
    assert detect("--source", image, "broken.png", "notes.txt", "--to", "jsonl:a.jsonl", "--quiet") == 0
    captured = capsys.readouterr()
    assert [line.split()[:3] for line in captured.err.splitlines()] == [
        ["note:", "skipped:", name] for name in ("broken.png", "notes.txt")
    ]
    assert captured.out.splitlines() == ["2 objects in 1 frame", "jsonl:a.jsonl: 1 of 1 message delivered"]


def test_a_video_that_ends_early_gives_1_as_without_messages(
    detect: Run, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with VideoWriter(Path("film.mp4"), 10.0, hw=(96, 128)) as writer:
        for _ in range(5):
            writer.write(np.zeros((96, 128, 3), np.uint8))
    longer = replace(open_video(Path("film.mp4")), frames=100)
    monkeypatch.setattr("yolo_lite.media.sources.open_video", lambda path: longer)
    assert detect("--source", "film.mp4", "--to", "jsonl:a.jsonl") == 1
    captured = capsys.readouterr()
    assert "error: film.mp4 ends early" in captured.err
    assert captured.out.splitlines()[-1] == "jsonl:a.jsonl: 5 of 5 messages delivered"


def test_every_frame_changes_nothing_for_files(detect: Run, finished_run: tuple[Path, Path]) -> None:
    image = finished_run[1] / "images" / "0002.png"
    assert detect("--source", str(image), "--every-frame", "--out", "out") == 0
    assert Path("out/0002.png").is_file()


@pytest.mark.slow
def test_ctrl_c_ends_with_whole_outputs(serve: Callable[..., Server], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "yolo_lite", "detect", "--weights", "yolo_lite-pico-voc5", "--source", serve().url]
    command += ["--to", "jsonl:a.jsonl", "--save-json", "rows.json", "--save-video", "--out", "out"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    run = subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    messages = tmp_path / "a.jsonl"
    for _ in range(300):
        if messages.exists() and messages.read_text().count("\n") > 5:
            break
        time.sleep(0.1)
    run.send_signal(signal.SIGINT)
    out, error = run.communicate(timeout=120)
    assert (run.returncode, error.splitlines()[-1]) == (130, "interrupted")
    found = documents(messages.read_text())
    assert out.splitlines()[-1] == f"jsonl:a.jsonl: {len(found)} of {len(found)} messages delivered"
    assert json.loads((tmp_path / "rows.json").read_text()) is not None
    (film,) = (tmp_path / "out").iterdir()
    assert list(read_frames(open_video(film)))
