"""Images that a set lists more than once: told apart from repetition on purpose, and made one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.data.layouts import HW, Box, write_image, write_yolo
from yolo_lite.cli import main
from yolo_lite.data.repeats import join_repeats, repeats, same_objects
from yolo_lite.data.splits import read_split, read_splits
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.records import ImageRecord

FIRST: Box = (0, 5, 4, 25, 14)
SECOND: Box = (1, 30, 4, 50, 30)


def record(name: str, *boxes: Box, unlabelled: tuple[int, ...] = (), number: int = 1) -> ImageRecord:
    corners = np.array([box[1:] for box in boxes], np.float64).reshape(-1, 4)
    labels = np.array([box[0] for box in boxes], np.int64)
    areas = (corners[:, 2:] - corners[:, :2]).prod(1)
    return ImageRecord(
        Path(name),
        number,
        hw=HW,
        boxes=corners,
        labels=labels,
        crowd=np.zeros(len(boxes), np.bool_),
        areas=areas,
        unlabelled=unlabelled,
    )


def collection(*records: ImageRecord) -> DetectionSet:
    return DetectionSet(records, ("cat", "dog"), category_ids=(0, 1), source="here")


def test_repeats_are_found_by_file_however_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    paths = [tmp_path / "a.png", tmp_path / "b.png", tmp_path / "link" / "a.png", tmp_path / "x" / ".." / "b.png"]
    (tmp_path / "x").mkdir()
    assert repeats(collection(*(record(str(path)) for path in paths))) == [(0, 2), (1, 3)]


@pytest.mark.parametrize(
    ("other", "unlabelled", "same"),
    [
        ((SECOND, FIRST), (), True),
        (((0, 6, 4, 25, 14), SECOND), (), True),
        ((FIRST,), (), False),
        ((FIRST,), (1,), True),
        ((), (), False),
        (((1, *FIRST[1:]), SECOND), (), False),
        ((FIRST, (1, 31, 20, 50, 40)), (), False),
    ],
    ids=["another order", "a pixel", "one missing", "one not labelled", "none", "another class", "another place"],
)
def test_records_mark_the_same_objects_or_not(other: tuple[Box, ...], unlabelled: tuple[int, ...], same: bool) -> None:
    first, second = record("a", FIRST, SECOND), record("a", *other, unlabelled=unlabelled)
    assert same_objects(first, second) == same_objects(second, first) == same


def test_joined_records_have_every_box_once() -> None:
    data = collection(record("a", FIRST, number=7), record("b", FIRST), record("a", FIRST, SECOND, number=9))
    joined = join_repeats(data, repeats(data))
    assert [one.path.name for one in joined.records] == ["a", "b"]
    assert joined.records[0].image_id == 7
    assert joined.records[0].boxes.tolist() == [list(FIRST[1:]), list(SECOND[1:])]
    assert joined.records[0].labels.tolist() == [0, 1]
    assert joined.notes == (
        "1 image that here lists more than once is taken once, with the boxes of all entries; the first is a",
    )
    assert join_repeats(data, []) is data


def test_a_joined_record_says_nothing_of_a_class_only_where_no_entry_does() -> None:
    data = collection(record("a", FIRST, unlabelled=(1,)), record("a", SECOND, unlabelled=(0,)))
    assert join_repeats(data, [(0, 1)]).records[0].unlabelled == ()


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """Two lines of train.txt lead to one image, whose labels are the same file."""
    root = write_yolo(tmp_path / "set", {"train": {"a": [FIRST, SECOND], "b": [FIRST]}})
    (root / "train.txt").write_text("images/train/a.png\nimages/train/b.png\nimages/train/a.png\n")
    (root / "data.yaml").write_text("names: [cat, dog]\ntrain: train.txt\n")
    return root


def test_training_keeps_an_image_that_is_listed_twice_on_purpose(listed: Path) -> None:
    assert [one.path.stem for one in read_split(listed, "train").records] == ["a", "b", "a"]


def test_conversion_takes_it_once_and_says_so(listed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = listed.parent / "out"
    assert main(["data", "convert", "--data", str(listed), "--to", "coco", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "note: train: 1 image that" in told
    assert "train: 2 images, 3 boxes" in told
    assert sorted(file.name for file in (out / "images" / "train").iterdir()) == ["a.png", "b.png"]


def test_training_and_conversion_join_parts(tmp_path: Path) -> None:
    """A JSON file lists one image under two ids, each with a part of its objects."""
    write_image(tmp_path / "images" / "train" / "a.png", 1)
    content = {"images": [{"id": i, "file_name": "a.png"} for i in (1, 2)], "categories": [{"id": 1, "name": "cat"}]}
    content["annotations"] = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [x, 4, 10, 10]} for i, x in ((1, 5), (2, 40))
    ]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train.json").write_text(str(content).replace("'", '"'))
    for data in (read_split(tmp_path, "train"), read_splits(tmp_path)["train"]):
        (one,) = data.records
        assert one.boxes.tolist() == [[5, 4, 15, 14], [40, 4, 50, 14]]
        assert [one.place(i).rpartition(": ")[2] for i in (0, 1)] == ["annotation 1", "annotation 2"]
        assert "1 image that" in data.notes[0]
