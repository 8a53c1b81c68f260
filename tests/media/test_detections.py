"""Label files, tables and crops: what they hold, under which name, and what is never replaced or half written."""

from __future__ import annotations

import csv
import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as PillowImage

from yolo_lite.data.formats.yolo import read_yolo_txt
from yolo_lite.errors import InputError
from yolo_lite.media.detections import Crops, Detected, LabelFiles, Output, Table
from yolo_lite.structures.conversions import to_columns
from yolo_lite.structures.results import Detections

NAMES = ("cat", "hot/dog")


def detected(name: str, boxes: list[list[float]], *, frame: int | None = None, labels: Any = None) -> Detected:
    """Return an image of noise, 40 x 80 pixels, with boxes of descending scores."""
    image = np.random.default_rng(3).integers(0, 255, (40, 80, 3)).astype(np.uint8)
    scores = [0.9 - 0.1 * number for number in range(len(boxes))]
    labels = [number % 2 for number in range(len(boxes))] if labels is None else labels
    return Detected(name, image, Detections(boxes, scores, labels=labels, class_names=NAMES), frame)


BOXES: list[list[float]] = [[10, 4, 30.5, 24.25], [0, 0, 80, 40], [79.5, 39.25, 80, 40]]


def test_our_own_reader_of_labels_gives_the_boxes_back(tmp_path: Path) -> None:
    """The reader shares no code with the writer."""
    (tmp_path / "images" / "a").mkdir(parents=True)
    labels = LabelFiles(tmp_path / "labels")
    for name, boxes in (("a/1.jpg", BOXES), ("2.jpg", []), ("a/3.jpg", BOXES[1:])):
        item = detected(name, boxes)
        labels.write(item)
        PillowImage.fromarray(item.image).save(tmp_path / "images" / name)
    assert (tmp_path / "labels" / "classes.txt").read_text() == "cat\nhot/dog\n"
    data = read_yolo_txt([tmp_path / "images"], NAMES)
    found = {record.path.name: record.boxes for record in data.records}
    assert np.allclose(found["1.jpg"], BOXES, atol=1e-4)
    assert np.allclose(found["3.jpg"], BOXES[1:], atol=1e-4)
    assert (tmp_path / "labels" / "2.txt").read_text() == ""


def test_scores_are_a_sixth_number(tmp_path: Path) -> None:
    LabelFiles(tmp_path / "labels", with_scores=True).write(detected("1.jpg", [[20, 10, 60, 30]]))
    assert (tmp_path / "labels" / "1.txt").read_text() == "0 0.5 0.5 0.5 0.5 0.9\n"


def test_names_stay_apart_and_inside_the_folder(tmp_path: Path) -> None:
    """Equal stems, other cases, a name that is taken by classes.txt, a path upwards, an address of a stream."""
    labels = LabelFiles(tmp_path / "labels")
    for name in (
        "1.jpg",
        "1.png",
        "1.JPG",
        "A.jpg",
        "a.jpg",
        "classes.png",
        "../../b.jpg",
        "/c.jpg",
        "rtsp://cam:8554/d",
    ):
        labels.write(detected(name, []))
    for frame in (0, 12):
        labels.write(detected("film.mp4", [], frame=frame))
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.txt"))
    stems = [
        "1",
        "1-2",
        "1-3",
        "A",
        "a-2",
        "b",
        "c",
        "classes",
        "classes-2",
        "film-000000",
        "film-000012",
        "rtsp_cam_8554_d",
    ]
    assert written == sorted(f"labels/{stem}.txt" for stem in stems)


def test_a_table_has_a_row_for_each_object(tmp_path: Path) -> None:
    path = tmp_path / "new" / "objects.csv"
    with Table(path) as table:
        table.write(detected("a,b\n.jpg", BOXES))
        table.write(detected("none.jpg", []))
        table.write(detected("film.mp4", BOXES[:1], frame=7))
    with path.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["image", "frame", "class_name", "label", "score", "x1", "y1", "x2", "y2"]
    assert [row[:4] for row in rows] == [
        ["a,b\n.jpg", "", "cat", "0"],
        ["a,b\n.jpg", "", "hot/dog", "1"],
        ["a,b\n.jpg", "", "cat", "0"],
        ["film.mp4", "7", "cat", "0"],
    ]
    exact = detected("", BOXES).detections
    numbers = np.array([[float(value) for value in row[4:]] for row in rows[:3]], np.float32)
    assert np.array_equal(numbers, np.column_stack([exact.scores, exact.boxes]))


def test_columns_give_every_float_again() -> None:
    boxes = np.random.default_rng(0).random((100, 4)).astype(np.float32) * 3000
    scores = np.sort(np.random.default_rng(1).random(100).astype(np.float32))[::-1]
    found = to_columns(Detections(boxes, scores, labels=[0] * 100, class_names=NAMES))
    assert np.array_equal(np.array(found["score"], np.float32), scores)
    assert np.array_equal(np.array(found["y2"], np.float32), boxes[:, 3])


def test_crops_hold_the_pixels_of_their_boxes(tmp_path: Path) -> None:
    item = detected("a/photo.png", BOXES)
    crops = Crops(tmp_path / "crops")
    crops.write(item)
    crops.write(detected("film.mp4", BOXES[:1], frame=3))
    folder = tmp_path / "crops"
    names = ["a/photo-cat-1.png", "a/photo-hot_dog-2.png", "a/photo-cat-3.png", "film-000003-cat-1.jpg"]
    assert sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*")) == sorted(names)
    for name, (top, bottom, left, right) in zip(names, [(4, 25, 10, 31), (0, 40, 0, 80), (39, 40, 79, 80)]):
        assert np.array_equal(np.array(PillowImage.open(folder / name)), item.image[top:bottom, left:right])


OUTPUTS: list[Callable[[Path], Output]] = [LabelFiles, Crops, Table]


@pytest.mark.parametrize("make", OUTPUTS[:2])
def test_a_folder_with_files_is_refused(tmp_path: Path, make: Callable[[Path], Output]) -> None:
    (tmp_path / "1.txt").write_text("0 0.5 0.5 1 1\n")
    with pytest.raises(InputError, match="is not empty; choose a new folder"):
        make(tmp_path)


@pytest.mark.parametrize("name", ["objects.txt", "notes.csv", "folder.csv", "missing/file.csv/a.csv"])
def test_a_table_replaces_tables_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.csv").write_text("name,age\n")
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "missing").mkdir()
    (tmp_path / "missing" / "file.csv").write_text("")
    with pytest.raises(InputError):
        Table(tmp_path / name)
    assert (tmp_path / "notes.csv").read_text() == "name,age\n"
    for _ in range(2):
        with Table(tmp_path / "new.csv") as table:
            table.write(detected("1.jpg", BOXES))
    assert (tmp_path / "new.csv").read_text().count("\n") == 4


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize(("make", "name"), list(zip(OUTPUTS, ["labels", "crops", "a.csv"])))
def test_a_folder_that_is_not_writable_is_refused_at_once(
    tmp_path: Path, make: Callable[[Path], Output], name: str
) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="is not writable"):
        make(tmp_path / name)


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, which fails as a full disk does."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("make", "name"), list(zip(OUTPUTS, ["labels", "crops", "a.csv"])))
def test_a_full_disk_is_one_error_and_leaves_no_half_file(
    tmp_path: Path, make: Callable[[Path], Output], name: str
) -> None:
    reason = os.strerror(errno.EFBIG)
    boxes: list[list[float]] = [[x, 0, x + 40, 40] for x in range(8)]
    with full_disk(100), pytest.raises(InputError, match=f"^cannot write .*{reason}"):
        output: Any = make(tmp_path / name)
        with output if name == "a.csv" else full_disk(100):
            output.write(detected("1.png", boxes))
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.name for path in left] in ([], ["classes.txt"])


def test_what_was_written_before_an_error_is_kept(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Table(tmp_path / "a.csv") as table:
        table.write(detected("1.jpg", BOXES))
        raise RuntimeError
    assert (tmp_path / "a.csv").read_text().count("\n") == 4
    with pytest.raises(RuntimeError), Table(tmp_path / "b.csv"):
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


def test_frames_of_several_sources_have_files_of_their_own(tmp_path: Path) -> None:
    """Equal stems of two videos, one video twice, and addresses that differ after their last dot alone."""
    labels = LabelFiles(tmp_path / "labels")
    names = ["a.mp4", "a.avi", "a.mp4 (2)", "rtsp://10.0.0.7", "rtsp://10.0.0.8", "http://10.0.0.9/v?token=***"]
    for frame in range(2):
        for name in names:
            labels.write(detected(name, BOXES, frame=frame))
    stems = ["a", "a-2", "a-3", "http_10.0.0.9_v_token", "rtsp_10.0.0.7", "rtsp_10.0.0.8"]
    expected = [f"{stem}-00000{frame}.txt" for stem in stems for frame in range(2)]
    assert sorted(path.name for path in (tmp_path / "labels").iterdir()) == sorted(["classes.txt", *expected])
