"""PASCAL VOC XML, and sets written in all three layouts: there and back, and against a conversion made elsewhere."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.layouts import images_of
from yolo_lite.cli import main
from yolo_lite.data.care.check import check_data
from yolo_lite.data.care.convert import write_sets
from yolo_lite.data.splits import read_split, read_splits, read_train_and_val
from yolo_lite.errors import InputError
from yolo_lite.evaluation.detector import emptiness_notes
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.records import ImageRecord

OBJECT = """<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>
<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"""


def write_xml(file: Path, *objects: str, folder: str = "images", size: str = "", name: str = "") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    filename = f"<filename>{name}</filename>" if name else ""
    file.write_text(f"<annotation><folder>{folder}</folder>{filename}{size}{''.join(objects)}</annotation>")
    return file


def one(name: str, *box: float, difficult: int = 0) -> str:
    return OBJECT.format(name=name, box=box, difficult=difficult)


def image(file: Path, hw: tuple[int, int] = (40, 60)) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*hw, 3), len(file.stem) * 7 % 256, np.uint8)).save(file)
    return file


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Three images, two to train and one to validate, in PASCAL VOC's own tree."""
    root = tmp_path / "voc"
    for stem in ("000005", "000007", "000012"):
        image(root / "JPEGImages" / f"{stem}.jpg")
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


def test_difficult_objects_are_called_so_and_not_crowds(voc: Path, tmp_path: Path) -> None:
    assert read_split(voc, "train").summary().endswith("; 1 difficult box ignored in training")
    (tmp_path / "sets.yaml").write_text(f"train: {voc}\nval: {voc}\n")
    assert read_split(tmp_path / "sets.yaml", "train").summary().endswith("; 1 difficult box ignored in training")
    assert "ignored" not in read_split(voc, "train", difficult=True).summary()
    only = read_split(voc, "train", classes=["cat"])
    (note,) = emptiness_notes(only)
    assert note.endswith(
        "no objects to find, only background or difficult boxes, so there is no AP; --difficult includes them"
    )


def test_difficult_objects_count_where_that_is_asked_for(voc: Path, tmp_path: Path) -> None:
    assert read_split(voc, "train", difficult=True).records[0].crowd.tolist() == [False, False]
    train, _, _ = read_train_and_val(images_of(voc, difficult=True), seed=0)
    assert train.records[0].crowd.tolist() == [False, False]
    (tmp_path / "sets.yaml").write_text(f"train: {voc}\nval: {voc}\n")
    assert read_split(tmp_path / "sets.yaml", "train").records[0].crowd.tolist() == [False, True]
    assert read_split(tmp_path / "sets.yaml", "train", difficult=True).records[0].crowd.tolist() == [False, False]


def test_the_flag_changes_what_is_scored(voc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The one cat of the training image is difficult: without the flag there is none to score."""
    counts = []
    for flag in ([], ["--difficult"]):
        out = tmp_path / f"out{len(flag)}"
        settings = ["--image-size", "64", "--device", "cpu", "--out", str(out), *flag]
        assert main(["eval", "--data", str(voc), "--split", "train", *settings]) == 0
        rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line}
        counts.append((rows["cat"][1], rows["dog"][1]))
    assert counts == [("0", "1"), ("1", "1")]


def test_corners_of_other_tools_are_taken_as_written(tmp_path: Path) -> None:
    image(tmp_path / "train" / "a.png")
    write_xml(tmp_path / "train" / "a.xml", one("dog", 3.5, 5, 20, 30), name="C:\\photos\\a.png")
    image(tmp_path / "valid" / "b.png")
    write_xml(tmp_path / "valid" / "b.xml", one("dog", 0, 0, 9, 9))
    train, val, _ = read_train_and_val(images_of(tmp_path), seed=0)
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
    notes = write_sets(splits, layout, out=tmp_path / "out")
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
    assert any("crowd or difficult boxes: 1 is left out" in note for note in notes) == (layout == "yolo")


def test_what_a_layout_cannot_hold_is_said(tmp_path: Path) -> None:
    record = ImageRecord(
        image(tmp_path / "a.png"),
        7,
        hw=(40, 60),
        boxes=np.array([[1.0, 1, 11, 11]]),
        labels=np.array([0]),
        crowd=np.array([False]),
        areas=np.array([60.0]),  # of a mask, less than the box
        unlabelled=(1,),
    )
    data = DetectionSet((record,), ("dog", "cat"), category_ids=(18, 17), source="drawn")
    (note,) = write_sets({"train": data}, "coco", out=tmp_path / "coco")
    assert "outlines of objects" in note
    back = read_split(tmp_path / "coco", "train")
    assert back.category_ids == (18, 17)
    assert back.records[0].areas.tolist() == [60]
    assert back.records[0].unlabelled == (1,)
    told = " ".join(write_sets({"train": data}, "voc", out=tmp_path / "voc"))
    for words in ("no areas", "no category ids", "labelled for some classes only: 1", "without objects are lost (cat)"):
        assert words in told


def test_images_of_one_name_are_kept_apart(tmp_path: Path) -> None:
    nothing = (np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, bool), np.zeros(0))
    records = tuple(
        ImageRecord(image(tmp_path / folder / "x.png", (20, 20 + i)), i, (20, 20 + i), *nothing)
        for i, folder in enumerate(("a", "b"), 1)
    )
    data = DetectionSet(records, ("dog",), category_ids=(0,), source="drawn")
    notes = write_sets({"train": data}, "coco", out=tmp_path / "out")
    assert any("1 image renamed" in note for note in notes)
    written = json.loads((tmp_path / "out" / "annotations" / "instances_train.json").read_text())
    assert [image["file_name"] for image in written["images"]] == ["x.png", "x-2.png"]
    assert Image.open(tmp_path / "out" / "images" / "train" / "x-2.png").width == 22


def test_annotations_are_numbered_across_splits(voc: Path, tmp_path: Path) -> None:
    write_sets(read_splits(voc), "coco", out=tmp_path / "coco")
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


ENTITIES = (
    '<!DOCTYPE a [<!ENTITY e0 "x">' + "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 10)) + "]>"
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<annotation>", "is not XML"),
        ("<root/>", "begins with <root>, expected <annotation>"),
        ("<annotation><object/></annotation>", "object 1 has no <name>"),
        ("<annotation><object><name>dog</name></object></annotation>", "object 1 has no <bndbox>"),
        ("<annotation>" + OBJECT.format(name="dog", difficult=0, box=("a", 1, 2, 3)) + "</annotation>", "<xmin> must be a number, got 'a'"),
        ("<annotation><size><width>x</width></size></annotation>", "<width> must be a number"),
        ("<annotation><size><width>1e300</width></size></annotation>", "<width> must be a number, got '1e300'"),
        ("<annotation>" + OBJECT.format(name="x" * 5000, difficult=0, box=(0, 1, 2, 3)) + "</annotation>", "has 5,000 characters"),
        ("<" + "x" * 10**6 + "/>", "begins with <xxx"),
        ("<annotation>" * 10**6, "is not XML"),
        (ENTITIES + "<annotation><filename>&e9;</filename></annotation>", "is not XML: limit on input amplification"),
        ('<!DOCTYPE a [<!ENTITY e SYSTEM "a.xml">]><annotation><folder>&e;</folder></annotation>', "is not XML: undefined entity"),
        ("<annotation>" + " " * 2**24 + "</annotation>", "is too large for the annotation of one image"),
    ],
)  # fmt: skip
def test_bad_xml_is_one_clear_line(tmp_path: Path, content: str, message: str) -> None:
    image(tmp_path / "train" / "a.png")
    (tmp_path / "train" / "a.xml").write_text(content)
    with pytest.raises(InputError) as caught:
        read_split(tmp_path, "train")
    assert message in str(caught.value)
    assert "a.xml" in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("suffix", [".jpg", ".JPG", ".jfif", ""])
def test_an_image_with_the_annotations_own_name_comes_before_what_the_annotation_says(
    tmp_path: Path, suffix: str
) -> None:
    """After a renaming, <filename> names the image of another annotation."""
    for number, stem in enumerate(("01", "02", "03"), 1):
        image(tmp_path / "JPEGImages" / f"{stem}.jpg").rename(tmp_path / "JPEGImages" / f"{stem}{suffix}")
        stale = {"01": "02.jpg", "02": f"01{suffix}", "03": "gone.jpg"}[stem]
        write_xml(tmp_path / "Annotations" / f"{stem}.xml", one("dog", number, 1, 30, 30), name=stale)
    data = read_split(tmp_path, "train")
    assert [record.path.stem for record in data.records] == ["01", "02", "03"]
    assert [record.boxes[0, 0] for record in data.records] == [1, 2, 3]
    told = [note for note in data.notes if "another image in <filename>" in note]
    assert len(told) == 1
    # where 01 says 02.jpg, there is such an image only if that is its suffix
    assert told[0].startswith("2 XML files name " if suffix == ".jpg" else "1 XML file names ")
    notes = read_train_and_val(images_of(tmp_path), seed=0)[2]
    assert sum("another image in <filename>" in note for note in notes) == 1


def test_of_images_that_differ_in_suffix_the_one_that_is_written_is_taken(tmp_path: Path) -> None:
    image(tmp_path / "train" / "a.jpg")
    image(tmp_path / "train" / "a.png")
    write_xml(tmp_path / "train" / "a.xml", one("dog", 1, 1, 9, 9), name="a.png")
    data = read_split(tmp_path, "train")
    assert [record.path.name for record in data.records] == ["a.png"]
    assert data.notes == ("1 image has no XML file and is left out: a.jpg",)


def test_what_the_annotation_says_is_taken_where_no_image_has_its_name(tmp_path: Path) -> None:
    image(tmp_path / "JPEGImages" / "shot one.JPG")
    write_xml(tmp_path / "Annotations" / "0001.xml", one("dog", 1, 1, 9, 9), name="C:\\data\\Shot%20one.jpg")
    data = read_split(tmp_path, "train")
    assert data.records[0].path == tmp_path / "JPEGImages" / "shot one.JPG"
    assert data.notes[0].startswith("1 image name differs from its file: ")


@pytest.mark.parametrize("own", ["a", "b"])
def test_two_annotations_of_one_image_are_a_fault(
    tmp_path: Path, own: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)  # long paths would be cut in the message
    image(Path("set", "JPEGImages", "a.jpg"))
    for stem in (own, "c"):
        write_xml(Path("set", "Annotations", f"{stem}.xml"), one("dog", 1, 1, 9, 9), name="a.jpg")
    with pytest.raises(InputError, match=r"1 image has more than one XML file; the first is .*a\.jpg: .*c\.xml"):
        read_train_and_val(images_of(Path("set")), seed=0)
    assert main(["data", "check", "--data", "set"]) == 1
    assert "harm: " in capsys.readouterr().out


@pytest.mark.parametrize(
    "box", [(20, 5, 3, 30), (3, 30, 20, 5), (20, 30, 3, 5)], ids=["left and right", "top and bottom", "both"]
)
def test_swapped_corners_are_put_in_order_and_told(voc: Path, box: tuple[int, ...]) -> None:
    write_xml(voc / "Annotations" / "000007.xml", one("cat", 1, 1, 5, 5), one("dog", *box), folder="VOC2007")
    data = read_split(voc, "train")
    assert data.records[1].boxes.tolist() == [[0, 0, 5, 5], [2, 4, 20, 30]]  # of PASCAL VOC itself: from 1
    assert data.dropped == 0
    (note,) = data.notes
    assert note.startswith("1 object has its corners swapped; they are put in order; the first is ")
    assert note.endswith("000007.xml: object 2")


def test_annotations_in_sub_folders_and_hidden_ones(tmp_path: Path) -> None:
    """Two images of one name, in folders of the same names as the annotations'; AppleDouble files beside them."""
    for number, cam in enumerate(("cam_a", "cam_b"), 1):
        image(tmp_path / "JPEGImages" / cam / "01.jpg")
        write_xml(tmp_path / "Annotations" / cam / "01.xml", one("dog", number, 1, 30, 30), name="01.jpg")
        (tmp_path / "Annotations" / cam / "._01.xml").write_bytes(b"\0\5\x16\7")
        (tmp_path / "JPEGImages" / cam / "._01.jpg").write_bytes(b"\0\5\x16\7")
    (tmp_path / "._data.xml").write_bytes(b"\0\5\x16\7")
    data = read_split(tmp_path, "train")
    assert [(record.path.parent.name, record.boxes[0, 0]) for record in data.records] == [("cam_a", 1), ("cam_b", 2)]
    assert data.notes == ()


def test_a_missing_annotation_of_a_test_list_matters_only_to_that_split(
    voc: Path,
) -> None:
    """PASCAL VOC's lists name images whose annotations were never published."""
    (voc / "ImageSets" / "Main" / "test.txt").write_text("000099\n")
    assert len(read_train_and_val(images_of(voc), seed=0)[0].records) == 2
    with pytest.raises(InputError, match=r"test\.txt lists 000099, without an XML file"):
        read_split(voc, "test")
    splits = read_splits(voc)
    assert list(splits) == ["train", "val"]
    assert splits["train"].notes[0].startswith("the split 'test' is left out: ")
    assert [fault.harms for fault in check_data(voc) if fault.split == "test"] == [False]


@pytest.mark.parametrize(
    ("stem", "line"),
    [
        ("my shot 1", "my shot 1"),
        ("my shot 1", "my shot 1  1"),
        ("my shot 1", "my shot 1 -1"),
        ("my shot 1", "my shot 1.JPG"),
        ("caf\u00e9", "cafe\u0301 1"),
        ("sub/a", "sub/a"),
    ],
)
def test_lists_name_annotations_in_several_ways(tmp_path: Path, stem: str, line: str) -> None:
    """Names with spaces; per-class lists with 1 or -1; names of images; accents as macOS takes them apart."""
    image(tmp_path / "JPEGImages" / f"{stem}.jpg")
    write_xml(tmp_path / "Annotations" / f"{stem}.xml", one("dog", 1, 1, 9, 9))
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text(f"{line}\n", encoding="utf-8")
    assert read_split(tmp_path, "train").records[0].path == tmp_path / "JPEGImages" / f"{stem}.jpg"


def test_a_list_that_names_what_is_not_there_is_refused(voc: Path) -> None:
    (voc / "ImageSets" / "Main" / "val.txt").write_text("000012\n000099\n")
    with pytest.raises(InputError, match=r"val\.txt lists 000099, without an XML file"):
        read_split(voc, "val")


def test_a_box_without_area_is_dropped_and_counted(tmp_path: Path) -> None:
    image(tmp_path / "train" / "a.png")
    write_xml(tmp_path / "train" / "a.xml", one("dog", 5, 5, 5, 9), one("dog", 5, 5, 7, 9))
    data = read_split(tmp_path, "train")
    assert data.dropped == 1
    assert data.records[0].boxes.tolist() == [[5, 5, 7, 9]]


@pytest.mark.parametrize(
    ("text", "expected"), [("1", True), ("true", True), ("0", False), ("false", False), ("", False)]
)
def test_difficult_is_a_truth_in_digits_or_words(tmp_path: Path, text: str, expected: bool) -> None:
    image(tmp_path / "train" / "a.png")
    write_xml(tmp_path / "train" / "a.xml", one("dog", 1, 2, 20, 30).replace(">0</difficult>", f">{text}</difficult>"))
    assert read_split(tmp_path, "train").records[0].crowd.tolist() == [expected]


def test_any_other_difficult_is_refused(tmp_path: Path) -> None:
    image(tmp_path / "train" / "a.png")
    write_xml(tmp_path / "train" / "a.xml", one("dog", 1, 2, 20, 30).replace(">0</difficult>", ">maybe</difficult>"))
    with pytest.raises(InputError, match="a.xml: object 1: <difficult> must be 0 or 1, got 'maybe'"):
        read_split(tmp_path, "train")


@pytest.mark.parametrize("names", [("a b", "c  d 1"), ("x 1", "x -1"), ("a.b c", "d")], ids=str)
@pytest.mark.parametrize("layout", ["coco", "yolo", "voc"])
def test_images_with_spaces_in_their_names_can_be_read_back(
    tmp_path: Path, names: tuple[str, ...], layout: str
) -> None:
    for name in names:
        image(tmp_path / "set" / "train" / f"{name}.png")
        write_xml(tmp_path / "set" / "train" / f"{name}.xml", one("dog", 1, 2, 20, 30))
    write_sets(read_splits(tmp_path / "set"), layout, out=tmp_path / "out")
    back = read_split(tmp_path / "out", "train")
    assert sorted(record.path.stem for record in back.records) == sorted(names)
    assert all(record.boxes.round(6).tolist() == [[1, 2, 20, 30]] for record in back.records)


def test_lists_of_one_class_have_a_mark_behind_the_name(voc: Path) -> None:
    (voc / "ImageSets" / "Main" / "train.txt").write_text("000005  1\n000007 -1\n")
    assert [record.path.stem for record in read_split(voc, "train").records] == ["000005", "000007"]


@pytest.mark.parametrize("layout", ["coco", "yolo", "voc"])
@pytest.mark.parametrize("wrong", [(60, 40), (41, 60)], ids=["swapped", "another"])
def test_a_conversion_checks_sizes_and_writes_nothing(tmp_path: Path, layout: str, wrong: tuple[int, int]) -> None:
    image(tmp_path / "images" / "a.png")
    entry = {"id": 1, "file_name": "a.png", "height": wrong[0], "width": wrong[1]}
    row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 20, 30]}
    content = {"images": [entry], "annotations": [row], "categories": [{"id": 1, "name": "dog"}]}
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"a.png is 60 x 40 .* but its annotations are for"):
        write_sets(read_splits(tmp_path), layout, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("box", "message"),
    [([30, 20, 50, 35], "look like x1, y1, x2, y2"), ([0.5, 0.5, 0.3, 0.2], "look like fractions of the image")],
    ids=["corners", "shares"],
)
def test_a_conversion_refuses_boxes_of_another_unit_or_order(tmp_path: Path, box: list[float], message: str) -> None:
    rows = []
    for number in range(1, 5):
        image(tmp_path / "images" / f"{number}.png")
        rows.append({"id": number, "image_id": number, "category_id": 1, "bbox": box})
    images = [{"id": row["id"], "file_name": f"{row['id']}.png", "height": 40, "width": 60} for row in rows]
    content = {"images": images, "annotations": rows, "categories": [{"id": 1, "name": "dog"}]}
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"instances_train.json: .*{message}.* boxes would be wrong"):
        write_sets(read_splits(tmp_path), "yolo", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_conversion_names_a_missing_image_and_writes_nothing(voc: Path) -> None:
    sets = read_splits(voc)
    (voc / "JPEGImages" / "000012.jpg").unlink()
    with pytest.raises(InputError, match="lists 1 image, of which 1 is missing"):
        write_sets(sets, "coco", out=voc / "out")
    assert not (voc / "out").exists()


def test_a_conversion_on_a_full_disk_names_what_it_could_not_write(voc: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: Path, target: Path) -> None:
        target.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source))  # as shutil does

    sets = read_splits(voc)
    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(InputError, match=r"^cannot write .*/out/.*\.jpg: No space left on device$") as caught:
        write_sets(sets, "coco", out=voc.parent / "out", link=False)
    assert ".part" not in str(caught.value)
    assert not (voc.parent / "out").exists()


def test_two_files_for_one_image_are_found_by_the_check(tmp_path: Path) -> None:
    """Each XML file names the image and has one of its two objects; where reading refuses that, so does the check."""
    image(tmp_path / "train" / "a.png")
    for stem, box in (("a", (1, 2, 20, 30)), ("b", (30, 2, 50, 30))):
        write_xml(tmp_path / "train" / f"{stem}.xml", one("dog", *box), name="a.png")
    assert any(fault.harms for fault in check_data(tmp_path))


def test_sizes_of_0_are_converted_as_the_images_are(tmp_path: Path) -> None:
    image(tmp_path / "images" / "a.png")
    row = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [6, 4, 30, 20]}
    content = {"images": [{"id": 1, "file_name": "a.png", "height": 0, "width": 0}], "annotations": [row]}
    content["categories"] = [{"id": 1, "name": "dog"}]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(content))
    assert main(["data", "convert", "--data", str(tmp_path), "--to", "yolo", "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "labels" / "train" / "a.txt").read_text() == "0 0.35 0.35 0.5 0.5\n"
