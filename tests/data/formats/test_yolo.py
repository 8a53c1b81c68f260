"""YOLO label files: hand-worked lines, the place of labels, and errors that name file and line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo_lite.data.formats.yolo import label_path, read_yolo_txt
from yolo_lite.errors import InputError
from yolo_lite.structures.datasets import DetectionSet

NAMES = ("cat", "dog", "owl")


def _image(path: Path, hw: tuple[int, int] = (100, 200)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (hw[1], hw[0])).save(path)
    return path


def _labels(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def _one(folder: Path, text: str) -> DetectionSet:
    """Read one image 200 wide and 100 high with these labels."""
    _image(folder / "images" / "a.png")
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


def test_images_without_labels_or_with_empty_ones_are_background(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        _image(tmp_path / "images" / f"{name}.png")
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


def test_shares_are_of_the_upright_image(tmp_path: Path) -> None:
    """Stored 200 wide and 100 high, turned by a quarter: 100 wide and 200 high to the person who labelled it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "images").mkdir()
    Image.new("RGB", (200, 100)).save(tmp_path / "images" / "a.jpg", exif=exif)
    _labels(tmp_path / "labels" / "a.txt", "0 0.5 0.5 0.5 0.5")
    record = read_yolo_txt([tmp_path / "images"], NAMES).records[0]
    assert record.hw == (200, 100)
    assert record.boxes.tolist() == [[25, 50, 75, 150]]


# Where images and labels are


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        pytest.param("set/images/train/a.jpg", "set/labels/train/a.txt", id="images/train"),
        pytest.param("set/train/images/a.jpg", "set/train/labels/a.txt", id="train/images"),
        pytest.param("images/set/images/a.png", "images/set/labels/a.txt", id="only the last images"),
        pytest.param("set/a.jpeg", "set/a.txt", id="beside the image"),
        pytest.param("set/images/images.jpg", "set/labels/images.txt", id="an image called images"),
        pytest.param("set/my_images/a.jpg", "set/my_images/a.txt", id="a folder that only ends in images"),
        pytest.param("set/images/a.b.jpg", "set/labels/a.b.txt", id="dots in the name"),
        pytest.param("/images/a.jpg", "/labels/a.txt", id="absolute"),
    ],
)
def test_label_path(image: str, expected: str) -> None:
    assert label_path(Path(image)) == Path(expected)


def test_folders_are_searched_to_any_depth_in_order_and_other_files_ignored(tmp_path: Path) -> None:
    for name in ("b/z.PNG", "b/a.jpg", "a.png", "c/d/e.bmp"):
        _image(tmp_path / "images" / name)
    _labels(tmp_path / "images" / "notes.md", "no image")
    _labels(tmp_path / "labels" / "c" / "d" / "e.txt", "1 0.5 0.5 0.25 0.5")
    data = read_yolo_txt([tmp_path / "images"], NAMES)
    found = [str(record.path.relative_to(tmp_path / "images")) for record in data.records]
    assert found == ["a.png", "b/a.jpg", "b/z.PNG", "c/d/e.bmp"]
    assert [len(record.boxes) for record in data.records] == [0, 0, 0, 1]


def test_images_come_from_files_and_lists_too(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        _image(tmp_path / "images" / f"{name}.png")
        _labels(tmp_path / "labels" / f"{name}.txt", "1 0.5 0.5 0.25 0.5")
    listing = _labels(tmp_path / "train.txt", f"images/b.png\n\n./images/a.png\n{tmp_path}/images/c.png\n")
    data = read_yolo_txt([listing, tmp_path / "images" / "c.png"], NAMES)
    assert [record.path.stem for record in data.records] == ["b", "a", "c", "c"]
    assert [record.image_id for record in data.records] == [1, 2, 3, 4]
    assert all(len(record.boxes) == 1 for record in data.records)


def test_labels_are_found_whatever_the_case_of_their_suffix_and_the_spelling_of_accents(tmp_path: Path) -> None:
    for name in ("a", "cafe\u0301", "b"):  # NFD, as macOS writes it
        _image(tmp_path / "images" / f"{name}.png")
    _labels(tmp_path / "labels" / "a.TXT", "1 0.5 0.5 0.25 0.5")
    _labels(tmp_path / "labels" / "caf\u00e9.Txt", "2 0.5 0.5 0.25 0.5")  # NFC
    _labels(tmp_path / "labels" / "b.TXT", "0 0.5 0.5 0.25 0.5")
    _labels(tmp_path / "labels" / "b.txt", "2 0.5 0.5 0.25 0.5")  # the usual name comes first
    data = read_yolo_txt([tmp_path / "images"], NAMES)
    assert {record.path.stem: record.labels.tolist() for record in data.records} == {
        "a": [1],
        "cafe\u0301": [2],
        "b": [2],
    }
    assert data.notes == ()


def test_label_files_without_an_image_are_told(tmp_path: Path) -> None:
    for name in ("train/a", "train/sub/b", "val/c"):
        _image(tmp_path / "images" / f"{name}.png")
        _labels(tmp_path / "labels" / f"{name}.txt", "1 0.5 0.5 0.25 0.5")
    _labels(tmp_path / "labels" / "train" / "x.txt", "1 0.5 0.5 0.25 0.5")
    _labels(tmp_path / "labels" / "train" / "gone" / "y.TXT", "")
    _labels(tmp_path / "labels" / "train" / "classes.txt", "cat\ndog\nowl\n")
    _labels(tmp_path / "labels" / "train" / "._a.txt", "\0\5\x16\7")
    expected = "2 label files without an image are left out: y.TXT, x.txt"
    assert read_yolo_txt([tmp_path / "images" / "train"], NAMES).notes == (expected,)
    listing = _labels(tmp_path / "train.txt", "images/train/a.png\n")  # b and c are there, though not in the list
    assert read_yolo_txt([listing], NAMES).notes == ("1 label file without an image is left out: x.txt",)
    assert read_yolo_txt([tmp_path / "images" / "val"], NAMES).notes == ()


def test_linked_sub_folders_are_read_and_links_that_lead_back_end(tmp_path: Path) -> None:
    _image(tmp_path / "images" / "train" / "a.png")
    _image(tmp_path / "elsewhere" / "b.png")
    _image(tmp_path / "elsewhere" / "deep" / "c.png")
    (tmp_path / "images" / "train" / "cam").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "deep" / "up").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images" / "train" / "self").symlink_to(tmp_path / "images" / "train" / "self")
    (tmp_path / "images" / "train" / "root").symlink_to(tmp_path / "images")
    for name in ("a", "cam/b", "cam/deep/c"):
        _labels(tmp_path / "labels" / "train" / f"{name}.txt", "1 0.5 0.5 0.25 0.5")
    data = read_yolo_txt([tmp_path / "images" / "train"], NAMES)
    found = [str(record.path.relative_to(tmp_path / "images" / "train")) for record in data.records]
    assert found == ["a.png", "cam/b.png", "cam/deep/c.png"]
    assert all(len(record.boxes) == 1 for record in data.records)


def test_what_is_an_image_by_its_content_is_read_and_the_rest_counted(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    for name, form in (("a.jfif", "JPEG"), ("b.jpe", "JPEG"), ("c", "PNG"), ("d.tga", "TGA"), ("e.image", "WEBP")):
        _image(folder / "x.png")
        Image.new("RGB", (200, 100)).save(folder / name, form)
    (folder / "x.png").unlink()
    for name in ("f.heic", "g.mp4", "h.MOV", "i.dng", "notes.txt", "._a.jpg", "Thumbs.db"):
        (folder / name).write_bytes(b"\0\5\x16\7 no image")
    _labels(tmp_path / "labels" / "c.txt", "1 0.5 0.5 0.25 0.5")
    data = read_yolo_txt([folder], NAMES)
    assert [record.path.name for record in data.records] == ["a.jfif", "b.jpe", "c", "d.tga", "e.image"]
    (note,) = data.notes
    assert note == (
        f"left out of {folder}: 1 file that cannot be read as an image (f.heic), 2 videos (g.mp4, h.MOV), "
        "1 camera raw file (i.dng)"
    )


# Keypoints


def _poses(count: int, keypoints: int, numbers: int, seed: int = 0) -> list[tuple[list[float], list[float]]]:
    """Draw boxes within the image and keypoints within the boxes: each line's numbers, and its box in pixels."""
    generator = np.random.default_rng(seed)
    poses = []
    for _ in range(count):
        size = generator.uniform(0.05, 0.9, 2)
        centre = generator.uniform(size / 2, 1 - size / 2)
        points = np.concatenate(
            [centre + size * generator.uniform(-0.5, 0.5, (keypoints, 2)), generator.integers(0, 3, (keypoints, 1))], 1
        )
        line = [*centre, *size, *points[:, :numbers].ravel()]
        poses.append((line, [*((centre - size / 2) * (200, 100)), *((centre + size / 2) * (200, 100))]))
    return poses


def _lines(rows: Iterable[Sequence[float]]) -> str:
    return "".join(f"0 {' '.join(f'{number:.6f}' for number in row)}\n" for row in rows)


SHAPES = [(4, 3), (4, 2), (17, 2), (17, 3), (5, 3), (2, 3), (1, 2)]


@pytest.mark.parametrize(("keypoints", "numbers"), SHAPES)
def test_boxes_are_read_from_lines_with_keypoints(tmp_path: Path, keypoints: int, numbers: int) -> None:
    poses = _poses(20, keypoints, numbers)
    _image(tmp_path / "images" / "a.png")
    _labels(tmp_path / "labels" / "a.txt", _lines(line for line, _ in poses) + "2 0.5 0.5 0.25 0.5\n")
    data = read_yolo_txt([tmp_path / "images"], NAMES, keypoints=(keypoints, numbers))
    np.testing.assert_allclose(data.records[0].boxes[:-1], [box for _, box in poses], atol=1e-3)
    assert data.records[0].boxes[-1].tolist() == [75, 25, 125, 75]  # an object without keypoints
    assert data.notes == ("the keypoints of 20 objects are not used",)
    _labels(tmp_path / "labels" / "a.txt", _lines([[*poses[0][0], 0.5]]))
    with pytest.raises(InputError, match=rf"a\.txt: line 1 must have 4 numbers .*{4 + keypoints * numbers} with its"):
        read_yolo_txt([tmp_path / "images"], NAMES, keypoints=(keypoints, numbers))


@pytest.mark.parametrize(("keypoints", "numbers"), SHAPES)
def test_keypoints_that_nobody_told_of_are_never_taken_for_polygons(
    tmp_path: Path, keypoints: int, numbers: int
) -> None:
    """Visibilities of 0 and 1 look like shares, so that no single number is out of range."""
    rows = [line for line, _ in _poses(20, keypoints, numbers)]
    if numbers == 3:
        rows = [[*row[:4], *(min(value, 1) for value in row[4:])] for row in rows]
    with pytest.raises(InputError, match=rf"write 'kpt_shape: \[{keypoints}, {numbers}\]' to data\.yaml") as caught:
        _one(tmp_path, _lines(rows))
    assert "a.txt: line 1" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("corners", [3, 4, 5, 8, 14])
def test_polygons_are_polygons(tmp_path: Path, corners: int) -> None:
    """Stars around a centre never cross themselves; rectangles that are turned have four corners each."""
    generator = np.random.default_rng(corners)
    rows = []
    for _ in range(40):
        angles = np.sort(generator.uniform(0, 2 * np.pi, corners))
        radii = generator.uniform(0.01, 0.3) * generator.uniform(0.5, 1, corners)
        points = generator.uniform(0.1, 0.9, 2) + radii[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
        rows.append(points.clip(0, 1).ravel().tolist())
    data = _one(tmp_path, _lines(rows))
    expected = [[min(row[::2]), min(row[1::2]), max(row[::2]), max(row[1::2])] for row in rows]
    np.testing.assert_allclose(data.records[0].boxes, np.array(expected) * [200, 100, 200, 100], atol=1e-3)


def test_a_polygon_may_leave_its_image_by_a_pixel(tmp_path: Path) -> None:
    assert len(_one(tmp_path, "0 0.5 0.5 1.004 0.5 0.7 1.009").records[0].boxes) == 1


def test_that_there_are_no_keypoints_can_be_said(tmp_path: Path) -> None:
    _one(tmp_path, "0 0.5 0.5 0.25 0.5")
    _labels(tmp_path / "labels" / "a.txt", _lines(line for line, _ in _poses(20, 4, 2)))
    assert len(read_yolo_txt([tmp_path / "images"], NAMES, keypoints=(0, 2)).records[0].boxes) == 20


# Names in lists


@pytest.mark.parametrize(
    "written",
    ["images\\train\\a b.png", "images/train/a%20b.png", "images/train/a b.PNG", "/home/me/set/images/train/a b.png"],
)
def test_listed_names_of_another_system_are_found(tmp_path: Path, written: str) -> None:
    _image(tmp_path / "images" / "train" / "a b.png")
    _labels(tmp_path / "labels" / "train" / "a b.txt", "1 0.5 0.5 0.25 0.5")
    listing = _labels(tmp_path / "train.txt", f"{written}\nimages/train/._a b.png\n")
    data = read_yolo_txt([listing], NAMES)
    assert [record.path for record in data.records] == [tmp_path / "images" / "train" / "a b.png"]
    assert len(data.records[0].boxes) == 1
    (note,) = data.notes
    assert note.startswith("1 image name differs from its file: ")


# What is refused


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("3 0.5 0.5 0.5 0.5", "has class 3, but only the classes 0..2 have names", id="class too high"),
        pytest.param("-1 0.5 0.5 0.5 0.5", "has class -1, but only the classes 0..2 have names", id="negative class"),
        pytest.param("cat 0.5 0.5 0.5 0.5", "must be a class number and fractions", id="a name for the class"),
        pytest.param("0.5 0.5 0.5 0.5 0.5", "must be a class number and fractions", id="class as a fraction"),
        pytest.param("0 0.5 0.5 0.5 x", "must be a class number and fractions", id="text"),
        pytest.param("0,0.5,0.5,0.5,0.5", "must be a class number and fractions", id="commas"),
        pytest.param("0 0.5 0.5 0.5 nan", "has a number that is not finite", id="NaN"),
        pytest.param("0 0.5 inf 0.5 0.5", "has a number that is not finite", id="infinite"),
        pytest.param("0 100 50 20 30", "must hold fractions of the image's size, from 0 to 1", id="pixels"),
        pytest.param("0 0.5 0.5 -0.5 0.5", "has a box of negative size: -0.5 x 0.5", id="negative width"),
        pytest.param("0 0.5 0.5 0.5 -0.25", "has a box of negative size: 0.5 x -0.25", id="negative height"),
        pytest.param("0", "after the class, got 0", id="nothing"),
        pytest.param("0 0.5 0.5 0.5", "after the class, got 3", id="three numbers"),
        pytest.param("0 0.5 0.5 0.5 0.5 0.9", "after the class, got 5", id="a score at the end"),
        pytest.param("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "after the class, got 7", id="odd polygon"),
        pytest.param(
            "0 0.1 0.1 0.2 0.2 1.02 0.3", "must be a polygon in fractions", id="a point outside, to the right"
        ),
        pytest.param("0 0.1 0.1 0.2 -0.02 0.3 0.3", "must be a polygon in fractions", id="a point outside, above"),
        pytest.param("0 .5 .5 .4 .4 .4 .4 2 .6 .6 2", "a box with 2 keypoints of 3 numbers", id="keypoints, all seen"),
        pytest.param(
            "0 .5 .5 .4 .4 .4 .4 1 .6 .6 0 .5 .5 1", "write 'kpt_shape: [3, 3]' to data.yaml", id="an odd number"
        ),
    ],
)
def test_a_line_is_refused_with_its_file_and_number(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        _one(tmp_path, f"0 0.5 0.5 0.5 0.5\n\n{line}\n")
    assert str(caught.value).startswith(f"{tmp_path / 'labels' / 'a.txt'}: line 3 ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_labels_that_are_no_text_are_refused_with_their_file(tmp_path: Path) -> None:
    _image(tmp_path / "images" / "a.png")
    _labels(tmp_path / "labels" / "a.txt", "").write_bytes(b"0 0.5 0.5 0.5 0.5 # caf\xe9\n")
    with pytest.raises(InputError) as caught:
        read_yolo_txt([tmp_path / "images"], NAMES)
    assert str(tmp_path / "labels" / "a.txt") in str(caught.value)


def test_no_images_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        read_yolo_txt([tmp_path, tmp_path / "absent"], NAMES)
    assert f"no images in {tmp_path}, {tmp_path / 'absent'}; looked for .jpg, " in str(caught.value)


def test_no_label_file_at_all_names_the_place_of_the_first(tmp_path: Path) -> None:
    for name in ("a", "b"):
        _image(tmp_path / "images" / f"{name}.png")
    with pytest.raises(InputError) as caught:
        read_yolo_txt([tmp_path / "images"], NAMES)
    assert f"0 of 2 images in {tmp_path / 'images'} have labels" in str(caught.value)
    assert str(tmp_path / "labels" / "a.txt") in str(caught.value)


def test_a_listed_image_that_is_missing_is_named(tmp_path: Path) -> None:
    _image(tmp_path / "a.png")
    _labels(tmp_path / "a.txt", "0 0.5 0.5 0.5 0.5")
    listing = _labels(tmp_path / "list.txt", "a.png\nb.png\n")
    with pytest.raises(InputError) as caught:
        read_yolo_txt([listing], NAMES)
    assert f"{listing} lists 2 images, 1 of them missing; the first, 'b.png', was looked for at" in str(caught.value)


def test_a_damaged_image_is_named(tmp_path: Path) -> None:
    _labels(tmp_path / "a.txt", "0 0.5 0.5 0.5 0.5")
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"a\.png is not an image"):
        read_yolo_txt([tmp_path], NAMES)
