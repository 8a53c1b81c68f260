"""What `detect` writes on request, for images and videos, and which lines it prints about it."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo_lite.cli import main
from yolo_lite.media.images import read_image
from yolo_lite.media.writers import VideoWriter

Capture = pytest.CaptureFixture[str]
ALL = ["--save-txt", "labels", "--save-csv", "objects.csv", "--save-crops", "crops", "--save-json", "rows.json"]


@pytest.fixture(autouse=True)
def folder(finished_run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder with three images and a broken one, and a film of them."""
    monkeypatch.chdir(tmp_path)
    Path("in").mkdir()
    for name in ("0001.png", "0002.png", "0003.png"):
        shutil.copy(finished_run[1] / "images" / name, "in")
    with VideoWriter(Path("film.mp4"), 10.0, hw=(96, 128)) as writer:
        for path in sorted(Path("in").iterdir()):
            writer.write(read_image(path))
    Path("in/0004.png").write_text("not an image")


def detect(finished_run: tuple[Path, Path], *flags: str) -> int:
    return main(["detect", "--weights", str(finished_run[0] / "best.pt"), "--device", "cpu", *flags])


def rows() -> list[dict[str, str]]:
    with Path("objects.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("batch_size", ["1", "8"])
def test_every_result_tells_of_the_same_objects(
    finished_run: tuple[Path, Path], capsys: Capture, batch_size: str
) -> None:
    assert detect(finished_run, "--source", "in", *ALL, "--no-images", "--batch-size", batch_size) == 0
    found = json.loads(Path("rows.json").read_text())
    assert len(found) >= 6
    assert [row["image"] for row in rows()] == [row["file_name"] for row in found]
    assert [float(row["x1"]) for row in rows()] == pytest.approx([row["bbox"][0] for row in found], abs=1e-3)
    assert [float(row["score"]) for row in rows()] == pytest.approx([row["score"] for row in found], abs=1e-6)
    for name in ("0001", "0002", "0003"):
        mine = [row["bbox"] for row in found if row["file_name"] == f"{name}.png"]
        lines = [line.split() for line in Path(f"labels/{name}.txt").read_text().splitlines()]
        assert [float(line[3]) * 128 for line in lines] == pytest.approx([box[2] for box in mine], abs=1e-3)
        crops = sorted(Path("crops").glob(f"{name}-*.png"), key=lambda path: path.stem.rpartition("-")[2])
        assert len(crops) == len(mine)
        for crop, (_, _, width, height) in zip(crops, mine):
            with Image.open(crop) as image:
                assert np.all(np.array(image.size) - [width, height] < 2)
    printed = capsys.readouterr().out.splitlines()
    assert "6 objects in 3 images, 1 skipped" in printed[-5]
    assert printed[-4:] == ["labels: labels", "crops: crops", "table: objects.csv", "rows: rows.json"]
    assert not Path("runs").exists()


def test_a_video_gives_results_by_frame(finished_run: tuple[Path, Path], capsys: Capture) -> None:
    assert detect(finished_run, "--source", "film.mp4", *ALL, "--no-images", "--txt-scores") == 0
    found = json.loads(Path("rows.json").read_text())
    assert [int(row["frame"]) for row in rows()] == [row["image_id"] for row in found]
    assert {row["image"] for row in rows()} == {"film.mp4"}
    names = sorted(path.name for path in Path("labels").iterdir())
    assert names == ["classes.txt", "film-000000.txt", "film-000001.txt", "film-000002.txt"]
    scores = [line.split()[5] for name in names[1:] for line in Path("labels", name).read_text().splitlines()]
    assert [float(score) for score in scores] == pytest.approx([row["score"] for row in found], abs=1e-6)
    assert len(list(Path("crops").glob("film-00000?-*.jpg"))) == len(found)
    assert "3 frames" in capsys.readouterr().out.splitlines()
    assert not list(Path().rglob("runs"))


@pytest.mark.parametrize("source", ["in", "film.mp4"])
def test_quiet_prints_errors_and_the_summary(finished_run: tuple[Path, Path], capsys: Capture, source: str) -> None:
    Path("in/notes.txt").write_text("left out")
    assert detect(finished_run, "--source", source, "--quiet", "--out", "out", "--save-csv", "objects.csv") == 0
    out, error = capsys.readouterr()
    summary = (
        "6 objects in 3 images, 1 skipped; annotated: out/" if source == "in" else "3 frames; annotated: out/film.mp4"
    )
    assert out.splitlines() == [summary, "table: objects.csv"]
    assert error.splitlines()[:1] == (["skipped: " + error[9:].splitlines()[0]] if source == "in" else [])
    assert "note" not in error


@pytest.mark.parametrize("flags", [["--quiet"], []], ids=["quiet", "usual"])
def test_quiet_has_no_lines_of_progress_either(
    finished_run: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: Capture, flags: list[str]
) -> None:
    """Where standard error is no terminal, about a line a minute tells of progress; here it comes at once."""
    monkeypatch.setattr("yolo_lite.cli.progress._SILENCE", 0.0)
    monkeypatch.setattr("yolo_lite.cli.progress._LOOK", 0.001)
    assert detect(finished_run, "--source", "film.mp4", "--no-images", *flags) == 0
    assert bool(capsys.readouterr().err) == (not flags)


def test_annotated_copies_are_the_same_beside_other_results(finished_run: tuple[Path, Path]) -> None:
    assert detect(finished_run, "--source", "in", "--out", "plain") == 0
    assert detect(finished_run, "--source", "in", "--out", "out", *ALL) == 0
    assert [path.name for path in sorted(Path("out").iterdir())] == ["0001.png", "0002.png", "0003.png"]
    for path in Path("plain").iterdir():
        assert path.read_bytes() == Path("out", path.name).read_bytes()


def test_labels_are_a_data_set_again(finished_run: tuple[Path, Path], capsys: Capture) -> None:
    Path("in/0004.png").unlink()
    Path("set").mkdir()
    shutil.move("in", "set/images")
    assert detect(finished_run, "--source", "set/images", "--save-txt", "set/labels", "--no-images") == 0
    Path("set/data.yaml").write_text(f"names: {Path('set/labels/classes.txt').read_text().split()}")
    capsys.readouterr()
    assert main(["data", "stats", "--data", "set"]) == 0
    assert "3 images, 0 of them without objects" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--save-txt in", "in is not empty; choose a new folder"),
        ("--save-crops film.mp4", "film.mp4 is a file"),
        ("--save-csv objects.txt", "--save-csv takes a file name that ends in .csv, got objects.txt"),
        ("--save-csv film.mp4/a.csv", "film.mp4 is a file"),
        ("--save-json in", "--save-json takes a file name that ends in .json"),
        ("--txt-scores", "add --save-txt FOLDER"),
        ("--no-images --out out", "leave out one"),
        ("--save-txt a --save-crops a", "choose two folders"),
    ],
)
def test_results_that_cannot_be_written_are_refused_in_one_line(
    finished_run: tuple[Path, Path], capsys: Capture, flags: str, words: str
) -> None:
    before = sorted(Path().rglob("*"))
    assert detect(finished_run, "--source", "in", *flags.split()) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert words in error
    assert sorted(Path().rglob("*")) == before


def test_an_image_that_is_read_in_parts_has_results_and_no_copy(
    finished_run: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    with Image.open("in/0001.png") as image:
        image.convert("RGB").resize((512, 384)).save("large.tif")
    monkeypatch.setattr("yolo_lite.media.images.MAX_PIXELS", 128 * 96)
    flags = ["--source", "large.tif", "in/0002.png", "--tile", "256", "--out", "out", *ALL]
    assert detect(finished_run, *flags) == 0
    assert "note: large.tif is too large for an annotated copy" in capsys.readouterr().err
    assert [path.name for path in Path("out").iterdir()] == ["0002.png"]
    names = [path.name for path in Path("crops").glob("**/large-*.jpg")]
    assert len(names) == len(Path(next(Path("labels").glob("**/large.txt"))).read_text().splitlines()) >= 1


def test_one_folder_may_hold_several_results(finished_run: tuple[Path, Path]) -> None:
    flags = ["--save-csv", "out/t.csv", "--save-json", "out/r.json", "--save-txt", "out", "--out", "out"]
    assert detect(finished_run, "--source", "in/0002.png", *flags) == 0
    assert sorted(path.name for path in Path("out").iterdir()) == [
        "0002.png",
        "0002.txt",
        "classes.txt",
        "r.json",
        "t.csv",
    ]
