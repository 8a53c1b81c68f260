"""PASCAL VOC XML, and sets written in all three layouts: there and back, and against a conversion made elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from yolo_lite.cli import main
from yolo_lite.data.discover import read_split, read_splits, read_train_and_val
from yolo_lite.data.write import write_sets
from yolo_lite.errors import InputError
from yolo_lite.structures import DetectionSet, ImageRecord

OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>
<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"""


def write_xml(file: Path, *objects: str, folder: str = "images", size: str = "", name: str = "") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    filename = f"<filename>{name}</filename>" if name else ""
    file.write_text(f"<annotation><folder>{folder}</folder>{filename}{size}{''.join(objects)}</annotation>")
    return file


def one(name: str, *box: float, difficult: int = 0) -> str:
    return OBJECT.format(name=name, box=box, difficult=difficult)


def picture(file: Path, hw: tuple[int, int] = (40, 60)) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*hw, 3), len(file.stem) * 7 % 256, np.uint8)).save(file)
    return file


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Three pictures, two to train and one to validate, in PASCAL VOC's own tree."""
    root = tmp_path / "voc"
    for stem in ("000005", "000007", "000012"):
        picture(root / "JPEGImages" / f"{stem}.jpg")
    write_xml(
        root / "Annotations" / "000005.xml",
        one("dog", 3, 5, 20, 30),
        one("cat", 1, 1, 60, 40, difficult=1),
        folder="VOC2007",
    )
    write_xml(root / "Annotations" / "000007.xml", folder="VOC2007")
    write_xml(root / "Annotations" / "000012.xml", one("cat", 10, 10, 12, 14), folder="VOC2007")
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("000005\n000007\n")
    (lists / "val.txt").write_text("000012\n")
    return root


def test_corners_of_pascal_voc_itself_count_from_one(voc: Path) -> None:
    """xmin 3 is the third pixel, which begins at 2; xmax 20 is the twentieth, which ends at 20."""
    train = read_split(voc, "train")
    assert train.class_names == ("cat", "dog")
    record = train.records[0]
    assert record.boxes.tolist() == [[2, 4, 20, 30], [0, 0, 60, 40]]
    assert record.labels.tolist() == [1, 0]
    assert record.crowd.tolist() == [False, True]  # difficult: no target, ignored in evaluation
    assert (record.image_id, record.hw) == (5, (40, 60))
    assert [len(record.boxes) for record in train.records] == [2, 0]
    assert read_split(voc, "val").records[0].boxes.tolist() == [[9, 9, 12, 14]]


def test_difficult_objects_count_where_that_is_asked_for(voc: Path, tmp_path: Path) -> None:
    assert read_split(voc, "train", difficult=True).records[0].crowd.tolist() == [False, False]
    train, _, _ = read_train_and_val(voc, difficult=True)
    assert train.records[0].crowd.tolist() == [False, False]
    (tmp_path / "sets.yaml").write_text(f"train: {voc}\nval: {voc}\n")
    assert read_split(tmp_path / "sets.yaml", "train").records[0].crowd.tolist() == [False, True]
    assert read_split(tmp_path / "sets.yaml", "train", difficult=True).records[0].crowd.tolist() == [False, False]


def test_the_flag_changes_what_is_scored(voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The one cat of the training picture is difficult: without the flag there is none to score."""
    counts = []
    for flag in ([], ["--difficult"]):
        out = tmp_path / f"out{len(flag)}"
        settings = ["--image-size", "64", "--device", "cpu", "--out", str(out), *flag]
        assert main(["eval", "--data", str(voc), "--split", "train", *settings]) == 0
        rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
        counts.append((rows["cat"][1], rows["dog"][1]))
    assert counts == [("0", "1"), ("1", "1")]


def test_corners_of_other_tools_are_taken_as_written(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "a.png")
    write_xml(tmp_path / "train" / "a.xml", one("dog", 3.5, 5, 20, 30), name="C:\\photos\\a.png")
    picture(tmp_path / "valid" / "b.png")
    write_xml(tmp_path / "valid" / "b.xml", one("dog", 0, 0, 9, 9))
    train, val, _ = read_train_and_val(tmp_path)
    assert train.records[0].boxes.tolist() == [[3.5, 5, 20, 30]]
    assert val.records[0].path == tmp_path / "valid" / "b.png"


def test_real_annotations_agree_with_their_coco_json(shared_data: Path, tmp_path: Path) -> None:
    """The raccoon set has both; the JSON was made from the XML by others."""
    files = {file.stem: file for file in (shared_data / "raccoon" / "annotations_xml").glob("*.xml")}
    expected = {}
    for split in ("train", "val"):
        for record in read_split(shared_data / "raccoon", split).records:
            expected[record.path.stem] = record.boxes
    os.symlink(shared_data / "raccoon" / "images", tmp_path / "images")
    os.symlink(shared_data / "raccoon" / "annotations_xml", tmp_path / "annotations_xml")
    found = {record.path.stem: record for record in read_split(tmp_path, "train").records}
    assert set(found) == set(files) == set(expected)
    for stem, record in found.items():
        np.testing.assert_allclose(record.boxes, expected[stem], atol=1e-6)


@pytest.mark.parametrize("layout", ["coco", "yolo", "voc"])
def test_a_set_comes_back_from_every_layout(voc: Path, tmp_path: Path, layout: str) -> None:
    splits = read_splits(voc)
    notes = write_sets(splits, layout, tmp_path / "out")
    back = read_splits(tmp_path / "out")
    assert list(back) == ["train", "val"]
    for split in splits:
        assert back[split].class_names == splits[split].class_names
        for mine, theirs in zip(splits[split].records, back[split].records, strict=True):
            kept = ~mine.crowd if layout == "yolo" else np.ones(len(mine.boxes), bool)
            np.testing.assert_allclose(theirs.boxes, mine.boxes[kept], atol=1e-6)
            assert theirs.labels.tolist() == mine.labels[kept].tolist()
            assert theirs.crowd.tolist() == mine.crowd[kept].tolist()
            assert (theirs.hw, theirs.path.name) == (mine.hw, mine.path.name)
            assert theirs.path.read_bytes() == mine.path.read_bytes()
            if layout != "yolo":
                assert theirs.image_id == mine.image_id
    assert any("crowd or difficult boxes: 1 are left out" in note for note in notes) == (layout == "yolo")


def test_what_a_layout_cannot_hold_is_said(tmp_path: Path) -> None:
    record = ImageRecord(
        picture(tmp_path / "a.png"),
        7,
        (40, 60),
        np.array([[1.0, 1, 11, 11]]),
        np.array([0]),
        np.array([False]),
        np.array([60.0]),  # of a mask, less than the box
        unlabelled=(1,),
    )
    data = DetectionSet((record,), ("dog", "cat"), (18, 17), "drawn")
    (note,) = write_sets({"train": data}, "coco", tmp_path / "coco")
    assert "outlines of objects" in note
    back = read_split(tmp_path / "coco", "train")
    assert back.category_ids == (18, 17)
    assert back.records[0].areas.tolist() == [60]
    assert back.records[0].unlabelled == (1,)
    told = " ".join(write_sets({"train": data}, "voc", tmp_path / "voc"))
    for words in ("no areas", "no category ids", "labelled for some classes only: 1", "cat without objects are lost"):
        assert words in told


def test_pictures_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    nothing = (np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool), np.zeros(0))
    records = tuple(
        ImageRecord(picture(tmp_path / folder / "x.png", (20, 20 + i)), i, (20, 20 + i), *nothing)
        for i, folder in enumerate(("a", "b"), 1)
    )
    data = DetectionSet(records, ("dog",), (0,), "drawn")
    notes = write_sets({"train": data}, "coco", tmp_path / "out")
    assert any("1 picture got another name" in note for note in notes)
    written = json.loads((tmp_path / "out" / "annotations" / "instances_train.json").read_text())
    assert [image["file_name"] for image in written["images"]] == ["x.png", "x-2.png"]
    assert Image.open(tmp_path / "out" / "images" / "train" / "x-2.png").width == 22


def test_annotations_are_numbered_across_splits(voc: Path, tmp_path: Path) -> None:
    write_sets(read_splits(voc), "coco", tmp_path / "coco")
    ids = [
        one["id"]
        for split in ("train", "val")
        for one in json.loads((tmp_path / "coco" / "annotations" / f"instances_{split}.json").read_text())[
            "annotations"
        ]
    ]
    assert ids == list(range(1, len(ids) + 1))


def test_the_command_converts_and_refuses_a_full_folder(
    voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["data", "convert", "--data", str(voc), "--to", "yolo", "--out", str(tmp_path / "new")]
    assert main(command) == 0
    assert "train: 2 images, 1 box" not in capsys.readouterr().err
    assert main(command) == 2
    assert "is not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<annotation>", "is not XML"),
        ("<root/>", "begins with <root>, expected <annotation>"),
        ("<annotation><object/></annotation>", "an object has no <name>"),
        ("<annotation><object><name>dog</name></object></annotation>", "object 1 has no <bndbox>"),
        ("<annotation>" + OBJECT.format(name="dog", difficult=0, box=("a", 1, 2, 3)) + "</annotation>", "<xmin> must be a number, got 'a'"),
        ("<annotation><size><width>x</width></size></annotation>", "<width> must be a number"),
    ],
)  # fmt: skip
def test_bad_xml_is_one_clear_line(tmp_path: Path, content: str, message: str) -> None:
    picture(tmp_path / "train" / "a.png")
    (tmp_path / "train" / "a.xml").write_text(content)
    with pytest.raises(InputError) as caught:
        read_split(tmp_path, "train")
    assert message in str(caught.value)
    assert "a.xml" in str(caught.value)


def test_a_list_that_names_what_is_not_there_is_refused(voc: Path) -> None:
    (voc / "ImageSets" / "Main" / "val.txt").write_text("000012\n000099\n")
    with pytest.raises(InputError, match=r"val.txt lists 000099, without an XML file"):
        read_split(voc, "val")


def test_a_box_without_area_is_dropped_and_counted(tmp_path: Path) -> None:
    picture(tmp_path / "train" / "a.png")
    write_xml(tmp_path / "train" / "a.xml", one("dog", 5, 5, 5, 9), one("dog", 5, 5, 7, 9))
    data = read_split(tmp_path, "train")
    assert data.dropped == 1
    assert data.records[0].boxes.tolist() == [[5, 5, 7, 9]]
