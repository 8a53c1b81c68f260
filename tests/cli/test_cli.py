"""The command line: the whole way from labelled images to boxes, and one clear line for everything that is wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import yolo_lite
from tests.conftest import SMALL
from yolo_lite.cli import COMMANDS, main
from yolo_lite.errors import Stopped

MakeSet = Callable[..., Path]
SET = ["--weights", "none", *(part for item in SMALL for part in ("--set", item))]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let runs/ land in the test's own folder."""
    monkeypatch.chdir(tmp_path)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run a command that must fail with one line on stderr; return the line."""
    capsys.readouterr()
    assert main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    return lines[0]


def test_train_eval_detect(coco_set: MakeSet, capsys: pytest.CaptureFixture[str]) -> None:
    data = coco_set({"train": 10, "val": 4})
    assert main(["train", "--data", str(data), "--epochs", "2", "--fraction", "0.8", "--out", "run", *SET]) == 0
    told = capsys.readouterr().out
    assert "10 images, 20 boxes, 2 classes" in told
    assert "epoch 2: loss" in told
    assert f"yolo-lite eval --weights run/best.pt --data {data}" in told
    assert (
        main(["eval", "--weights", "run/best.pt", "--data", str(data), "--save-json", "rows.json", "--out", "e"]) == 0
    )
    told = capsys.readouterr().out
    assert "score threshold 0.001, iou threshold 0.7, max detections 300" in told
    assert "images/s:" in told
    metrics = json.loads(Path("e/metrics.json").read_text())
    assert set(metrics["per_class"]) == {"disc", "square"}
    again = ["eval", "--detections", "rows.json", "--data", str(data), "--resamples", "20", "--out", "again"]
    assert main(again) == 0
    scored = json.loads(Path("again/metrics.json").read_text())
    assert scored["metrics"] == metrics["metrics"]
    low, high = scored["intervals"]["AP50"]
    assert 0 <= low <= high <= 1
    assert f"({low:.3f} to {high:.3f})" in capsys.readouterr().out
    source = str(data / "images" / "*.png")
    command = [
        "detect",
        "--weights",
        "run/best.pt",
        "--source",
        source,
        "--score-threshold",
        "0",
        "--max-detections",
        "3",
    ]
    assert main([*command, "--save-json", "found.json"]) == 0
    told = capsys.readouterr().out
    assert "42 objects in 14 images; annotated: runs/detect-1/" in told  # three of each, at threshold 0
    assert len(list(Path("runs/detect-1").glob("*.png"))) == 14
    assert len(json.loads(Path("found.json").read_text())) == 42


def test_detect_prints_a_line_for_each_object(
    finished_run: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    image = finished_run[1] / "images" / "0002.png"
    assert main(["detect", "--weights", str(finished_run[0] / "best.pt"), "--source", str(image), "--out", "out"]) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 3
    assert all(line.startswith("0002.png: ") for line in lines[:2])
    assert lines[2] == "2 objects in 1 image; annotated: out/0002.png"


def test_a_folder_run_skips_a_bad_image_and_counts_it(
    finished_run: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished_run[1] / "images", "in")
    Path("in/0003.png").write_text("not an image")
    assert main(["detect", "--weights", str(finished_run[0] / "best.pt"), "--source", "in", "--out", "out"]) == 0
    captured = capsys.readouterr()
    assert "7 images, 1 skipped" in captured.out
    assert captured.err.startswith("skipped: in/0003.png is not an image")


def stop_after(monkeypatch: pytest.MonkeyPatch, batches: int, stop: BaseException) -> None:
    """Raise in the batch after so many, as a signal that comes while the network computes."""
    from yolo_lite.models.yolo import Yolo

    left, forward = [batches], Yolo.forward

    def stopping(self: Yolo, images: torch.Tensor) -> object:
        if not left[0]:
            raise stop
        left[0] -= 1
        return forward(self, images)

    monkeypatch.setattr(Yolo, "forward", stopping)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Stopped(15)], ids=["Ctrl-C", "SIGTERM"])
def test_stopped_detection_keeps_what_is_finished(
    finished_run: tuple[Path, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    stop: BaseException,
) -> None:
    stop_after(monkeypatch, 2, stop)
    command = ["detect", "--weights", str(finished_run[0] / "best.pt"), "--source", str(finished_run[1] / "images")]
    assert main([*command, "--batch-size", "3", "--save-json", "rows.json"]) in (130, 143)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == [
        "finished 6 of 8 images: 12 objects in 6 images; annotated: runs/detect-1/",
        "rows: rows.json",
    ]
    written = sorted(file.name for file in Path("runs/detect-1").iterdir())
    assert written == [f"000{number}.png" for number in range(1, 7)]
    assert sorted({row["file_name"] for row in json.loads(Path("rows.json").read_text())}) == written


def test_a_stopped_video_is_playable_and_its_rows_are_kept(
    finished_run: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from yolo_lite.media import sources
    from yolo_lite.media.images import read_image
    from yolo_lite.media.writers import VideoWriter

    with VideoWriter(Path("film.mp4"), 10.0, hw=(96, 128)) as writer:
        for file in sorted((finished_run[1] / "images").iterdir()):
            writer.write(read_image(file))
    stop_after(monkeypatch, 2, KeyboardInterrupt())
    command = ["detect", "--weights", str(finished_run[0] / "best.pt"), "--source", "film.mp4", "--batch-size", "2"]
    assert main([*command, "--score-threshold", "0.005", "--save-json", "rows.json"]) == 130
    assert "finished 4 of 8 frames; annotated: runs/detect-1/film.mp4\nrows: rows.json" in capsys.readouterr().out
    assert sum(1 for _ in sources.read_frames(sources.open_video(Path("runs/detect-1/film.mp4")))) == 4
    assert {row["image_id"] for row in json.loads(Path("rows.json").read_text())} <= {0, 1, 2, 3}


def test_detection_stopped_at_once_leaves_nothing(
    finished_run: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("rows.json").write_text('[{"older": 1}]')
    stop_after(monkeypatch, 0, KeyboardInterrupt())
    command = ["detect", "--weights", str(finished_run[0] / "best.pt"), "--source", str(finished_run[1] / "images")]
    assert main([*command, "--save-json", "rows.json"]) == 130
    assert "finished 0 of 8 images" in capsys.readouterr().out
    assert [(path.name, path.read_text()) for path in Path().iterdir()] == [("rows.json", '[{"older": 1}]')]


def test_a_stopped_evaluation_keeps_its_rows(
    finished_run: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(monkeypatch, 2, KeyboardInterrupt())
    command = [
        "eval",
        "--weights",
        str(finished_run[0] / "best.pt"),
        "--data",
        str(finished_run[1]),
        "--batch-size",
        "3",
    ]
    assert main([*command, "--save-json", "rows.json"]) == 130
    assert "finished 6 of 8 images; rows: rows.json, incomplete" in capsys.readouterr().out
    assert {row["image_id"] for row in json.loads(Path("rows.json").read_text())} == {1, 2, 3, 4, 5, 6}
    assert not Path("runs").exists()


@pytest.mark.slow
def test_the_folder_of_a_run_is_claimed_while_it_works(
    finished_run: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second run that starts meanwhile gets the next one, although nothing is written to the first yet."""
    from yolo_lite.models.yolo import Yolo

    forward, seen = Yolo.forward, []

    def look(self: Yolo, images: torch.Tensor) -> object:
        seen.append(sorted(path.name for path in Path("runs").iterdir()))
        if len(seen) == 1:
            assert main(["detect", "--weights", weights, "--source", image]) == 0
        return forward(self, images)

    monkeypatch.setattr(Yolo, "forward", look)
    weights, image = str(finished_run[0] / "best.pt"), str(finished_run[1] / "images" / "0001.png")
    assert main(["detect", "--weights", weights, "--source", image]) == 0
    assert seen[:2] == [["detect-1"], ["detect-1", "detect-2"]]
    assert main(["eval", "--weights", weights, "--data", str(finished_run[1])]) == 0
    assert seen[2] == ["detect-1", "detect-2", "eval-1"]
    assert sorted(str(path) for path in Path("runs").rglob("*.*")) == [
        "runs/detect-1/0001.png",
        "runs/detect-2/0001.png",
        "runs/eval-1/metrics.json",
    ]


def test_several_sources_are_told_apart(finished_run: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    """As a shell passes an unquoted pattern on; of two files with one name the folders are said."""
    for folder in ("a", "b"):
        Path("shots", folder).mkdir(parents=True)
        shutil.copy(finished_run[1] / "images" / "0001.png", Path("shots", folder, "x.png"))
    Path("shots/notes.txt").write_text("not an image")
    command = ["detect", "--weights", str(finished_run[0] / "best.pt"), "--save-json", "rows.json", "--source"]
    assert main([*command, "shots/a/x.png", "shots/b", "shots/notes.txt"]) == 0
    captured = capsys.readouterr()
    assert [line.split(": ")[0] for line in captured.out.splitlines()[:4]] == [*["a/x.png"] * 2, *["b/x.png"] * 2]
    assert captured.err.startswith("skipped: shots/notes.txt is not an image")
    assert {row["file_name"] for row in json.loads(Path("rows.json").read_text())} == {"a/x.png", "b/x.png"}


def test_a_line_break_in_a_name_breaks_no_line(
    finished_run: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in").mkdir()
    for name in ("two\nlines.png", "bad\none.png"):
        shutil.copy(finished_run[1] / "images" / "0002.png", Path("in", name))
    Path("in/bad\none.png").write_text("not an image")
    assert main(["detect", "--weights", str(finished_run[0] / "best.pt"), "--source", "in", "--out", "out"]) == 0
    captured = capsys.readouterr()
    assert [line.split(": ")[0] for line in captured.out.splitlines()[:-1]] == ["two\\nlines.png"] * 2
    assert captured.err.startswith("skipped: in/bad\\none.png is not an image")
    assert captured.err.count("\n") == 1


def test_letters_that_no_font_has_are_noted_once(
    finished_run: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from yolo_lite.checkpoints.checkpoint import load_checkpoint, save_checkpoint
    from yolo_lite.draw import fonts

    monkeypatch.setattr(fonts, "_system_fonts", lambda: ())
    fonts._search.cache_clear()
    checkpoint = load_checkpoint(finished_run[0] / "best.pt")
    save_checkpoint(Path("named.pt"), dataclasses.replace(checkpoint, class_names=("猫", "кошка")))
    command = ["detect", "--weights", "named.pt", "--source", str(finished_run[1] / "images")]
    assert main(command) == 0
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 1
    assert notes[0].startswith("note: no font on this machine has 猫: ")
    assert notes[0].endswith("or name one with --font")
    assert main([*command, "--classes", "кошка"]) == 0
    assert not capsys.readouterr().err
    Path("no.ttf").write_bytes(b"no font")
    with pytest.raises(SystemExit) as stop:
        main([*command, "--font", "no.ttf"])
    assert stop.value.code == 2
    assert "no.ttf cannot be read as a font" in capsys.readouterr().err


def test_a_folder_of_nothing_readable_fails(
    finished_run: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in").mkdir()
    for name in ("a.jpg", "b.jpg"):
        Path("in", name).write_bytes(b"")
    assert main(["detect", "--weights", str(finished_run[0] / "best.pt"), "--source", "in"]) == 2
    assert "error: none of 2 images could be read" in capsys.readouterr().err


@pytest.mark.slow
def test_the_suggested_eval_works_without_a_validation_split(
    coco_set: MakeSet, capsys: pytest.CaptureFixture[str]
) -> None:
    data = coco_set({"train": 20})
    command = [
        "train",
        "--data",
        str(data),
        "--epochs",
        "1",
        "--seed",
        "3",
        "--classes",
        "square",
        "--out",
        "my run",
        *SET,
    ]
    assert main(command) == 0
    suggested = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("  yolo-lite eval"))
    assert suggested == f"  yolo-lite eval --weights 'my run/best.pt' --data {data} --classes square"
    assert main([*shlex.split(suggested)[1:], "--out", "e"]) == 0
    told = capsys.readouterr().out
    assert "has no split 'val': scored on the 2 images set aside by seed 3" in told
    scored = json.loads(Path("e/metrics.json").read_text())
    assert list(scored["per_class"]) == ["square"]


def test_training_interrupted_at_once_keeps_nothing_and_says_so(
    coco_set: MakeSet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object, **settings: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("yolo_lite.training.loop.train_step", interrupt)
    assert main(["train", "--data", str(coco_set()), *SET]) == 130
    assert "no epoch was finished, so nothing was saved" in capsys.readouterr().out
    assert not Path("runs").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "repeat",
    [
        pytest.param(True, id="the same line and --resume"),
        pytest.param(False, id="--resume alone"),
    ],
)
def test_interrupted_training_resumes_from_the_command_line(
    coco_set: MakeSet, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, repeat: bool
) -> None:
    import yolo_lite.cli.runs as cli

    data = coco_set()
    whole_line = cli.epoch_line

    def interrupt(row: dict[str, float], best: bool) -> str:
        if row["epoch"] == 1:
            raise KeyboardInterrupt
        return whole_line(row, best)

    monkeypatch.setattr(cli, "epoch_line", interrupt)
    command = ["train", "--data", str(data), "--epochs", "2", "--fraction", "0.5", *SET]
    assert main(command) == 130
    assert "finished epochs are saved; continue with: yolo-lite train --resume" in capsys.readouterr().out
    monkeypatch.setattr(cli, "epoch_line", whole_line)
    Path("runs/train-9").mkdir()  # newer, but nothing to resume
    assert "was started with train.epochs 2, not 9" in refused(capsys, "train", "--resume", "--epochs", "9")
    assert "elsewhere does not exist" in refused(capsys, "train", "--resume", "--data", "elsewhere")
    assert "started with data.fraction 0.5, not 0.7" in refused(capsys, "train", "--resume", "--fraction", "0.7")
    assert "started with data.difficult false, not true" in refused(capsys, "train", "--resume", "--difficult")
    same = [*command, "--resume"] if repeat else ["train", "--resume"]
    assert main(same) == 0
    told = capsys.readouterr().out
    assert "resuming runs/train-1 after epoch 1 of 2" in told
    assert "done: best weights in runs/train-1/best.pt" in told


def png_header(width: int, height: int) -> bytes:
    """Make the start of a PNG that claims a size it does not have."""
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"\0" * 100)
    chunks = [
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in (head, data)
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def write_bad_images(folder: Path) -> None:
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    Image.fromarray(noise).save(folder / "whole.jpg", quality=95)
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("I am not an image\n" * 20)
    (folder / "cut.jpg").write_bytes((folder / "whole.jpg").read_bytes()[:2000])
    (folder / "bomb.png").write_bytes(png_header(60_000, 60_000))
    (folder / "film.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42" + b"\x00" * 400)
    (folder / "void").mkdir()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("bad/none.jpg", "bad/none.jpg does not exist"),
        ("bad/empty.jpg", "bad/empty.jpg is empty (0 bytes)"),
        ("bad/text.jpg", "bad/text.jpg is not an image that can be read"),
        ("bad/cut.jpg", "bad/cut.jpg is damaged or cut short"),
        ("bad/bomb.png", "bad/bomb.png has more than 178,956,970 pixels"),
        ("bad/film.mp4", "bad/film.mp4 cannot be read as a video"),
        ("bad/void", "no images in the folder bad/void"),
        ("bad/*.tiff", "no images match bad/*.tiff"),
    ],
)
def test_bad_sources_get_one_line(
    finished_run: tuple[Path, Path], capsys: pytest.CaptureFixture[str], source: str, message: str
) -> None:
    write_bad_images(Path("bad"))
    weights = str(finished_run[0] / "best.pt")
    assert message in refused(capsys, "detect", "--weights", weights, "--source", source, "--out", "out")
    assert not Path("out").exists()


def test_a_video_that_ends_early_is_annotated_and_fails(
    finished_run: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from yolo_lite.media import sources
    from yolo_lite.media.writers import VideoWriter

    writer = VideoWriter(Path("film.mp4"), 10.0, hw=(96, 128))
    for value in range(30):
        writer.write(np.full((96, 128, 3), value * 8, np.uint8))
    writer.close()
    video = sources.open_video(Path("film.mp4"))
    longer = sources.Video(video.path, video.fps, hw=video.hw, frames=100)
    monkeypatch.setattr(sources, "open_video", lambda path: longer)
    assert main(["detect", "--weights", str(finished_run[0] / "best.pt"), "--source", "film.mp4", "--out", "out"]) == 1
    captured = capsys.readouterr()
    assert "film.mp4 ends early: 30 of 100 frames could be read" in captured.err
    assert "30 frames; annotated: out/film.mp4" in captured.out
    assert sum(1 for _ in sources.read_frames(video)) == 30


BOX = [10, 10, 20, 20]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": [float("nan"), 0, 5, 5]}, "annotation 1 has the box [nan, 0, 5, 5]"),
        ({"bbox": [float("inf"), 0, 5, 5]}, "annotation 1 has the box [inf, 0, 5, 5]"),
        ({"bbox": [10, 10, -5, 5]}, "annotation 1 has a box of negative size: width -5, height 5"),
        ({"category_id": 99}, "annotation 1 has category 99"),
    ],
    ids=["nan", "inf", "inverted", "category"],
)
def test_a_bad_annotation_names_file_and_id(
    coco_set: MakeSet, capsys: pytest.CaptureFixture[str], change: dict[str, object], message: str
) -> None:
    data = coco_set()
    file = data / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"][0].update(change)
    file.write_text(json.dumps(content))
    line = refused(capsys, "train", "--data", str(data), "--out", "run", *SET)
    assert f"{file}: {message}" in line


def test_data_that_is_none_is_refused_before_training(capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    line = refused(capsys, "train", "--data", "empty")
    assert "empty is not a data set: looked for" in line
    assert line.endswith("found nothing")
    Path("txt/images").mkdir(parents=True)
    Path("txt/labels").mkdir()
    Path("txt/data.yaml").write_text("names: [a]\n")
    Image.new("RGB", (8, 8)).save("txt/images/a.png")
    assert "0 of 1 image in txt/images have labels" in refused(capsys, "train", "--data", "txt")
    assert "train needs --data" in refused(capsys, "train")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "train.lrr=1"], "unknown key 'train.lrr'; did you mean 'train.lr'?"),
        (["--image-size", "100"], "--image-size must be multiples of 32, got 100 x 100 (height x width); try 96 96"),
        (["--image-size", "64", "64", "64"], "--image-size takes one side, or height and width"),
        (["--classes", "disk"], "did you mean 'disc'?"),
        (["--fraction", "2"], "--fraction must be above 0 and at most 1"),
        (["--weights", "nothing.pt"], "nothing.pt does not exist; shipped weights:"),
        (["--config", "huge"], "huge does not exist; shipped configs:"),
        (["--set", "train.epochs=-1"], "'train.epochs' must be at least 0, got -1"),
        (["--out", "file/run"], "cannot create the folder file/run"),
        (["--device", "gpu"], "the device must be one of auto, cpu, cuda, mps"),
        (["--resume", "--out", "none"], "none/last.pt does not exist"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_bad_settings_get_one_line(
    coco_set: MakeSet, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    Path("file").write_text("")
    assert message in refused(capsys, "train", "--data", str(coco_set()), *arguments)
    assert not Path("runs").exists()


NUMBERS = {
    "train": "epochs batch-size seed accumulate image-size",
    "classify train": "epochs batch-size seed accumulate image-size per-class",
    "classify eval": "batch-size",
    "classify predict": "batch-size",
    "tune --task detect": "epochs batch-size seed image-size trials",
    "detect": "batch-size image-size max-detections",
    "eval": "batch-size image-size max-detections resamples",
    "bench train": "batch-size image-size workers steps",
    "bench model": "num-classes",
    "data show": "image-size seed images",
    "data subset": "images per-class seed",
    "inspect model": "image-size num-classes",
    "inspect grid": "image-size",
}


@pytest.mark.parametrize(
    ("command", "flag"), [(command, flag) for command, flags in NUMBERS.items() for flag in flags.split()]
)
def test_a_bad_number_is_blamed_on_its_own_flag(capsys: pytest.CaptureFixture[str], command: str, flag: str) -> None:
    for value in ["-2", "1.5", "many", ""] + ["0"] * (flag not in ("seed", "workers")):
        with pytest.raises(SystemExit) as stopped:
            main([*command.split(), f"--{flag}={value}"])
        assert stopped.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"error: argument --{flag}: expected ")
        assert f"got {value!r}" in line


def test_an_unknown_key_in_a_file_is_named(coco_set: MakeSet, capsys: pytest.CaptureFixture[str]) -> None:
    Path("my.yaml").write_text("train:\n  lrr: 0.1\n")
    line = refused(capsys, "train", "--data", str(coco_set()), "--config", "my.yaml")
    assert line == "error: my.yaml: unknown key 'train.lrr'; did you mean 'train.lr'?"


def test_weights_that_are_not_ours_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": {"a": torch.zeros(2)}}, "foreign.pt")
    line = refused(capsys, "detect", "--weights", "foreign.pt")
    assert "foreign.pt holds weights, but not of yolo_lite" in line
    Path("text.yaml").write_text("augment: none\n")
    assert "text.yaml is not a yolo_lite checkpoint" in refused(capsys, "detect", "--weights", "text.yaml")


def test_an_output_under_a_regular_file_is_refused(
    finished_run: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("file").write_text("")
    weights, image = str(finished_run[0] / "best.pt"), str(finished_run[1] / "images" / "0001.png")
    command = ("detect", "--weights", weights, "--source", image)
    assert "cannot create the folder file/out" in refused(capsys, *command, "--out", "file/out")
    assert "cannot create the folder file" in refused(capsys, *command, "--save-json", "file/rows.json")
    assert Path("file").read_text() == ""


def test_rows_never_replace_anything_but_rows(
    finished_run: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    weights, data = str(finished_run[0] / "best.pt"), finished_run[1]
    image = data / "images" / "0001.png"
    before = image.read_bytes()
    command = ("detect", "--weights", weights, "--source", str(image), "--out", "out")
    assert "takes a file name that ends in .json" in refused(capsys, *command, "--save-json", str(image))
    assert image.read_bytes() == before
    truth = data / "annotations" / "instances_val.json"
    command = ("eval", "--weights", weights, "--data", str(data), "--out", "e")
    assert "is not a list of result rows" in refused(capsys, *command, "--save-json", str(truth))
    assert json.loads(truth.read_text())["images"]


def test_an_annotated_image_never_replaces_a_neighbour_of_its_source(
    finished_run: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in").mkdir()
    Image.new("RGB", (64, 64)).save("in/p.bmp")
    Image.new("RGB", (64, 64), "red").save("in/p.jpg")
    before = Path("in/p.jpg").read_bytes()
    command = ("detect", "--weights", str(finished_run[0] / "best.pt"), "--source", "in/p.bmp", "--out", "in")
    assert "would replace in/p.jpg; choose another --out" in refused(capsys, *command)
    assert Path("in/p.jpg").read_bytes() == before


@pytest.mark.slow
def test_one_of_everything_is_told_in_the_singular(coco_set: MakeSet, capsys: pytest.CaptureFixture[str]) -> None:
    data = coco_set({"train": 12}, objects=1)
    command = ["train", "--data", str(data), "--epochs", "1", "--classes", "square", "--out", "run", *SET]
    assert main(command) == 0
    assert main([*command[:-1], command[-1], "--resume"]) == 2
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert "train: 11 images, " in text  # what is left to train on once one is set aside
    assert "1 training image is set aside by seed 0: 1 image, " in text
    assert "has finished its 1 epoch;" in text
    assert (
        main(["detect", "--weights", "run/best.pt", "--source", str(data / "images" / "0001.png"), "--out", "o"]) == 0
    )
    assert main(["data", "check", "--data", str(data)]) == 0
    text += capsys.readouterr().out
    wrong = re.findall(r"(?<![\d.,/])1 (?:images|boxes|classes|epochs|images|objects|faults|steps|threads)\b", text)
    assert not wrong, text


@pytest.mark.slow
def test_an_annotation_file_trained_on_is_scored_on_what_was_held_out(
    coco_set: MakeSet, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(coco_set({"train": 20}) / "annotations" / "instances_train.json")
    assert main(["train", "--data", file, "--epochs", "1", "--out", "run", *SET]) == 0
    capsys.readouterr()
    assert main(["eval", "--weights", "run/best.pt", "--data", file, "--out", "e"]) == 0
    assert "scored on the 2 images set aside by seed 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", ["detect --source", "eval --data d --report", "eval --data d --detections", "inspect why --image"]
)
def test_an_empty_value_is_refused(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As a path, it would be the current folder."""
    with pytest.raises(SystemExit) as stop:
        main([*words.split(), ""])
    assert stop.value.code == 2
    assert "got an empty text" in capsys.readouterr().err


def test_broken_result_files_are_refused(coco_set: MakeSet, capsys: pytest.CaptureFixture[str]) -> None:
    data = str(coco_set())
    Path("rows.json").write_text("[{]")
    assert "rows.json is not valid JSON (line 1" in refused(capsys, "eval", "--detections", "rows.json", "--data", data)
    row = {"image_id": 9, "category_id": 7, "bbox": [0, 0, float("inf"), 1], "score": 0.5}
    Path("rows.json").write_text(json.dumps([row]))
    line = refused(capsys, "eval", "--detections", "rows.json", "--data", data)
    assert "rows.json: row 0 must have a box of four finite numbers" in line
    Path("rows.json").write_text(json.dumps([{**row, "image_id": 999}]))
    assert "is for image 999" in refused(capsys, "eval", "--detections", "rows.json", "--data", data)


def test_full_memory_is_one_line(
    finished_run: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from yolo_lite.models.yolo import Yolo

    def full(self: Yolo, images: torch.Tensor) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(Yolo, "forward", full)
    line = refused(capsys, "eval", "--weights", str(finished_run[0] / "best.pt"), "--data", str(finished_run[1]))
    assert "ran out of memory; use a smaller --batch-size (now 16) or --image-size (now 96 x 128)" in line


def test_show_without_windows_says_how_to_get_them(
    finished_run: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import cv2

    def headless(*arguments: object) -> None:
        raise cv2.error("The function is not implemented")

    monkeypatch.setattr(cv2, "imshow", headless)
    image = str(finished_run[1] / "images" / "0001.png")
    line = refused(capsys, "detect", "--weights", str(finished_run[0] / "best.pt"), "--source", image, "--show")
    assert "pip install opencv-python" in line


def test_version_prints_the_environment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"yolo-lite {yolo_lite.__version__}\npython ")
    assert f"torch {torch.__version__.split('+')[0]}" in told


def test_version_reports_both_packages_in_one_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    both = "yolo-lite and yolo-lite-runtime are both installed, and share files: uninstall both, install one"
    assert main(["--version"]) == 0
    assert both not in capsys.readouterr().out
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.1.0")
    assert main(["--version"]) == 0
    assert both in capsys.readouterr().out


def test_a_missing_package_is_named_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    code = "import sys; sys.modules['torch'] = None; from yolo_lite.cli import main; sys.exit(main(['detect']))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    line = "error: detect needs torch, which is not installed: pip install torch\n"
    assert (result.returncode, result.stderr) == (2, line)


def test_no_command_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "train" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [[], *([command] for command in COMMANDS), ["classify", "train"], ["inspect", "cam"], ["bench", "ops"]],
    ids=" ".join,
)
def test_help_imports_its_own_command_only(words: list[str]) -> None:
    """And none of what takes long to import."""
    code = f"import sys; from yolo_lite.cli import main\ntry: main({[*words, '--help']})\nexcept SystemExit: pass\n"
    code += (
        "print([name for name in sys.modules if name in ('torch', 'numpy', 'cv2') or name.startswith('yolo_lite.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("usage: yolo-lite")
    loaded = set(re.findall(r"'([\w.]+)'", done.stdout.splitlines()[-1]))
    assert not loaded & {"torch", "numpy", "cv2"}
    assert not {f"yolo_lite.cli.{command}" for command in COMMANDS if command not in (*words, "train")} & loaded


@pytest.mark.parametrize("name", ["train", "detect", "eval"])
def test_tools_run_as_scripts_and_help_loads_no_torch(name: str) -> None:
    tool = Path(__file__).parents[2] / "tools" / f"{name}.py"
    code = f"import sys, runpy; sys.argv = ['{name}.py', '--help']\ntry: runpy.run_path({str(tool)!r}, run_name='__main__')\n"
    code += "except SystemExit as stop: assert stop.code == 0, stop.code\nassert 'torch' not in sys.modules"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "--weights" in result.stdout


@pytest.mark.slow
def test_bench_prints_a_table(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import yolo_lite.bench.model as bench

    settings = ["model.widths=[8, 8, 16, 16]", "model.neck_width=16", "model.head_width=8", "input.image_size=64"]
    from yolo_lite.config.resolve import config_to_dict, override_config, read_config

    plain = config_to_dict(override_config(read_config(None), [*settings, "train.batch_size=2"]))
    Path("tiny.yaml").write_text(json.dumps(plain))  # JSON is YAML
    real = bench.bench_model
    monkeypatch.setattr(bench, "bench_model", lambda *a, **k: real(*a, **k, sizes=(64,), repeats=2))
    assert main(["bench", "model", "--config", "tiny.yaml", "--num-classes", "3", "--device", "cpu"]) == 0
    told = capsys.readouterr().out
    assert "64 x 64" in told
    assert "training, 64 x 64, batch 2" in told


@pytest.mark.slow
def test_bench_ops_compares_with_torchvision(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import yolo_lite.bench.ops as bench
    from yolo_lite.ops import backend
    from yolo_lite.ops.native import depthwise_pays

    monkeypatch.setattr(bench, "TOTALS", (40,))
    monkeypatch.setattr(bench, "ASSIGNMENTS", ((2, 3, 64),))
    monkeypatch.setattr(bench, "MAPS", ((2, 5, 6, 7),))
    monkeypatch.setattr(bench, "DEPTHWISE", (((2, 5, 7, 6), 3, 2),))
    assert main(["bench", "ops", "--device", "cpu", "--num-classes", "3"]) == 0
    told = capsys.readouterr().out
    assert f"backend {backend('cpu')}" in told
    rows = [line.split() for line in told.splitlines() if line.split()[1:2] == ["40"]]
    assert [row[0] for row in rows] == ["1", "8"]
    assert ("plain torch" in told) == (backend("cpu") == "native")
    maps = [line for line in told.splitlines() if line.split()[:4] == ["2", "5", "6", "7"]]
    assert [line.split()[4] for line in maps] == (["float32", "bfloat16"] if backend("cpu") == "native" else [])
    layers = [line.split()[4:7] for line in told.splitlines() if line.split()[:4] == ["2", "5", "7", "6"]]
    assert layers == ([["3", "2", "float32"], ["3", "2", "bfloat16"]] if depthwise_pays() else [])


def test_bench_ops_measures_nothing_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    import yolo_lite.bench.ops as bench

    real = bench.nms_padded
    monkeypatch.setattr(bench, "TOTALS", (40,))
    monkeypatch.setattr(bench, "nms_padded", lambda *a, **k: [part.clone().fill_(1) for part in real(*a, **k)])
    with pytest.raises(RuntimeError, match="keeps other boxes than torchvision in image 0"):
        main(["bench", "ops", "--device", "cpu"])
    monkeypatch.setattr(bench, "norm_silu", lambda *a, **k: 1.2 * bench._torch_norm_silu(*a, **k))
    with pytest.raises(RuntimeError, match="gradient differs from torch's"):
        next(bench.bench_norm())
    monkeypatch.setattr(bench, "depthwise", lambda *a, **k: 1.2 * bench._torch_depthwise(*a, **k))
    with pytest.raises(RuntimeError, match="gradient differs from torch's"):
        next(bench.bench_depthwise())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chosen", "policy"),
    [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE"), ({"GOMP_SPINCOUNT": "77"}, "SPINCOUNT = '77'")],
    ids=["by itself", "as the user says", "as the user says in another way"],
)
def test_threads_that_wait_sleep(chosen: dict[str, str], policy: str) -> None:
    """What the library of threads that torch brings says of itself while it is loaded."""
    script = "import sys; from yolo_lite.cli import main; main(['--version']); assert 'torch' not in sys.modules; import torch"
    names = {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}
    own = {name: value for name, value in os.environ.items() if name not in names}
    environment = {**own, **chosen, "OMP_DISPLAY_ENV": "VERBOSE"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    if "GOMP" not in done.stderr:
        pytest.skip("another library of threads")
    assert re.search(policy if "=" in policy else f"OMP_WAIT_POLICY = '{policy}'", done.stderr)


@pytest.mark.parametrize("command", ["detect", "eval", "card", "inspect why", "inspect grid", "inspect cam"])
def test_help_states_the_default_weights(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    words = " ".join(capsys.readouterr().out.split()).replace("- ", "-")  # lines are broken after hyphens, too
    assert "default: the shipped yolo_lite-shuffle-1.5x-coco" in words
