"""YOLO label files: hand-worked lines, the place of labels, and errors that name file and line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo_lite.data.yolo_txt import label_path, read_yolo_txt
from yolo_lite.errors import InputError
from yolo_lite.structures import DetectionSet

NAMES = ("cat", "dog", "owl")


def _picture(path: Path, hw: tuple[int, int] = (100, 200)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (hw[1], hw[0])).save(path)
    return path


def _labels(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _one(folder: Path, text: str) -> DetectionSet:
    """Read one picture 200 wide and 100 high with these labels."""
    _picture(folder / "images" / "a.png")
    _labels(folder / "labels" / "a.txt", text)
    return read_yolo_txt([folder / "images"], NAMES)


# What is read


@pytest.mark.parametrize(
    ("text", "labels", "boxes"),
    [
        # x: 0.5 * 200 -/+ 0.25 * 200 / 2 = 75, 125; y: 0.5 * 100 -/+ 0.5 * 100 / 2 = 25, 75
        pytest.param("1 0.5 0.5 0.25 0.5", [1], [[75, 25, 125, 75]], id="box"),
        pytest.param("0 0.5 0.5 1 1\n2 0.25 0.25 0.5 0.5\n", [0, 2], [[0, 0, 200, 100], [0, 0, 100, 50]], id="two"),
        # x from 0.25 to 0.75 of 200, y from 0.125 to 0.5 of 100
        pytest.param("2 0.25 0.25 0.75 0.125 0.5 0.5", [2], [[50, 12.5, 150, 50]], id="triangle"),
        pytest.param("0 0.25 0.25 0.5 0.25 0.5 0.5 0.25 0.5", [0], [[50, 25, 100, 50]], id="quadrangle"),
        pytest.param("\n  1   0.5\t0.5  0.25 0.5  \n\n", [1], [[75, 25, 125, 75]], id="blanks"),
        pytest.param("1 5e-1 .5 0.25 0.5\r\n", [1], [[75, 25, 125, 75]], id="exponent and Windows line ends"),
        pytest.param("1.0 0.5 0.5 0.25 0.5", [1], [[75, 25, 125, 75]], id="class written as 1.0"),
        pytest.param("1 0 0 0.5 0.5", [1], [[-50, -25, 50, 25]], id="partly outside"),
    ],
)
def test_lines_become_boxes_in_pixels(tmp_path: Path, text: str, labels: list[int], boxes: list[list[float]]) -> None:
    data = _one(tmp_path, text)
    record = data.records[0]
    assert record.labels.tolist() == labels
    np.testing.assert_allclose(record.boxes, boxes, atol=1e-9)
    np.testing.assert_allclose(record.areas, [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in boxes], atol=1e-9)
    assert record.crowd.tolist() == [False] * len(labels)
    assert record.hw == (100, 200)
    assert (record.boxes.dtype, record.labels.dtype, record.crowd.dtype) == (np.float64, np.int64, np.bool_)


def test_labels_and_category_ids_are_the_numbers_of_the_files(tmp_path: Path) -> None:
    data = _one(tmp_path, "2 0.5 0.5 0.25 0.5")
    assert data.class_names == NAMES
    assert data.category_ids == (0, 1, 2)
    assert data.source == str(tmp_path / "images")


def test_pictures_without_labels_or_with_empty_ones_are_background(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        _picture(tmp_path / "images" / f"{name}.png")
    _labels(tmp_path / "labels" / "a.txt", "0 0.5 0.5 0.5 0.5")
    _labels(tmp_path / "labels" / "b.txt", "")
    data = read_yolo_txt([tmp_path / "images"], NAMES)
    assert [record.path.stem for record in data.records] == ["a", "b", "c"]
    assert [record.boxes.shape for record in data.records] == [(1, 4), (0, 4), (0, 4)]
    assert [record.image_id for record in data.records] == [1, 2, 3]
    assert "2 images without objects kept as background" in data.summary()


@pytest.mark.parametrize("line", ["0 0.5 0.5 0 0.5", "0 0.5 0.5 0.5 0", "0 0.1 0.1 0.1 0.5 0.1 0.9"])
def test_boxes_without_area_are_dropped_and_counted(tmp_path: Path, line: str) -> None:
    data = _one(tmp_path, f"{line}\n1 0.5 0.5 0.25 0.5\n{line}\n")
    assert data.dropped == 2
    assert data.records[0].labels.tolist() == [1]
    assert data.records[0].boxes.tolist() == [[75, 25, 125, 75]]


def test_shares_are_of_the_upright_picture(tmp_path: Path) -> None:
    """Stored 200 wide and 100 high, turned by a quarter: 100 wide and 200 high to the person who labelled it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "images").mkdir()
    Image.new("RGB", (200, 100)).save(tmp_path / "images" / "a.jpg", exif=exif)
    _labels(tmp_path / "labels" / "a.txt", "0 0.5 0.5 0.5 0.5")
    record = read_yolo_txt([tmp_path / "images"], NAMES).records[0]
    assert record.hw == (200, 100)
    assert record.boxes.tolist() == [[25, 50, 75, 150]]


# Where pictures and labels are


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        pytest.param("set/images/train/a.jpg", "set/labels/train/a.txt", id="images/train"),
        pytest.param("set/train/images/a.jpg", "set/train/labels/a.txt", id="train/images"),
        pytest.param("images/set/images/a.png", "images/set/labels/a.txt", id="only the last images"),
        pytest.param("set/a.jpeg", "set/a.txt", id="beside the picture"),
        pytest.param("set/images/images.jpg", "set/labels/images.txt", id="a picture called images"),
        pytest.param("set/my_images/a.jpg", "set/my_images/a.txt", id="a folder that only ends in images"),
        pytest.param("set/images/a.b.jpg", "set/labels/a.b.txt", id="dots in the name"),
        pytest.param("/images/a.jpg", "/labels/a.txt", id="absolute"),
    ],
)
def test_label_path(picture: str, expected: str) -> None:
    assert label_path(Path(picture)) == Path(expected)


def test_folders_are_searched_to_any_depth_in_order_and_other_files_ignored(tmp_path: Path) -> None:
    for name in ("b/z.PNG", "b/a.jpg", "a.png", "c/d/e.bmp"):
        _picture(tmp_path / "images" / name)
    _labels(tmp_path / "images" / "notes.md", "no picture")
    _labels(tmp_path / "labels" / "c" / "d" / "e.txt", "1 0.5 0.5 0.25 0.5")
    data = read_yolo_txt([tmp_path / "images"], NAMES)
    found = [str(record.path.relative_to(tmp_path / "images")) for record in data.records]
    assert found == ["a.png", "b/a.jpg", "b/z.PNG", "c/d/e.bmp"]
    assert [len(record.boxes) for record in data.records] == [0, 0, 0, 1]


def test_pictures_come_from_files_and_lists_too(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        _picture(tmp_path / "images" / f"{name}.png")
        _labels(tmp_path / "labels" / f"{name}.txt", "1 0.5 0.5 0.25 0.5")
    listing = _labels(tmp_path / "train.txt", f"images/b.png\n\n./images/a.png\n{tmp_path}/images/c.png\n")
    data = read_yolo_txt([listing, tmp_path / "images" / "c.png"], NAMES)
    assert [record.path.stem for record in data.records] == ["b", "a", "c", "c"]
    assert [record.image_id for record in data.records] == [1, 2, 3, 4]
    assert all(len(record.boxes) == 1 for record in data.records)


# What is refused


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("3 0.5 0.5 0.5 0.5", "has class 3, but the names given are for 0..2", id="class too high"),
        pytest.param("-1 0.5 0.5 0.5 0.5", "has class -1, but the names given are for 0..2", id="negative class"),
        pytest.param("cat 0.5 0.5 0.5 0.5", "must be a class number and shares", id="a name for the class"),
        pytest.param("0.5 0.5 0.5 0.5 0.5", "must be a class number and shares", id="class as a fraction"),
        pytest.param("0 0.5 0.5 0.5 x", "must be a class number and shares", id="text"),
        pytest.param("0,0.5,0.5,0.5,0.5", "must be a class number and shares", id="commas"),
        pytest.param("0 0.5 0.5 0.5 nan", "has a number that is not finite", id="NaN"),
        pytest.param("0 0.5 inf 0.5 0.5", "has a number that is not finite", id="infinite"),
        pytest.param("0 100 50 20 30", "must hold shares of the picture's size, from 0 to 1", id="pixels"),
        pytest.param("0 0.5 0.5 -0.5 0.5", "has a box of negative size: -0.5 x 0.5", id="negative width"),
        pytest.param("0 0.5 0.5 0.5 -0.25", "has a box of negative size: 0.5 x -0.25", id="negative height"),
        pytest.param("0", "after the class, got 0", id="nothing"),
        pytest.param("0 0.5 0.5 0.5", "after the class, got 3", id="three numbers"),
        pytest.param("0 0.5 0.5 0.5 0.5 0.9", "after the class, got 5", id="a score at the end"),
        pytest.param("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "after the class, got 7", id="odd polygon"),
    ],
)
def test_a_line_is_refused_with_its_file_and_number(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        _one(tmp_path, f"0 0.5 0.5 0.5 0.5\n\n{line}\n")
    assert str(caught.value).startswith(f"{tmp_path / 'labels' / 'a.txt'}: line 3 ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_labels_that_are_no_text_are_refused_with_their_file(tmp_path: Path) -> None:
    _picture(tmp_path / "images" / "a.png")
    _labels(tmp_path / "labels" / "a.txt", "").write_bytes(b"0 0.5 0.5 0.5 0.5 # caf\xe9\n")
    with pytest.raises(InputError) as caught:
        read_yolo_txt([tmp_path / "images"], NAMES)
    assert str(tmp_path / "labels" / "a.txt") in str(caught.value)


def test_no_pictures_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_yolo_txt([tmp_path, tmp_path / "absent"], NAMES)
    assert f"no pictures in {tmp_path}, {tmp_path / 'absent'}; looked for .jpg, " in str(caught.value)


def test_no_label_file_at_all_names_the_place_of_the_first(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _picture(tmp_path / "images" / f"{name}.png")
    with pytest.raises(InputError) as caught:
        read_yolo_txt([tmp_path / "images"], NAMES)
    assert f"0 of 2 pictures in {tmp_path / 'images'} have labels" in str(caught.value)
    assert str(tmp_path / "labels" / "a.txt") in str(caught.value)


def test_a_listed_picture_that_is_missing_is_named(tmp_path: Path) -> None:
    _picture(tmp_path / "a.png")
    _labels(tmp_path / "a.txt", "0 0.5 0.5 0.5 0.5")
    listing = _labels(tmp_path / "list.txt", "a.png\nb.png\n")
    with pytest.raises(InputError, match=r"b\.png does not exist"):
        read_yolo_txt([listing], NAMES)


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    _labels(tmp_path / "a.txt", "0 0.5 0.5 0.5 0.5")
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"a\.png is not a picture"):
        read_yolo_txt([tmp_path], NAMES)
