"""Every fault that is planted in a good set is found, with its place, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.data.layouts import (
    LAYOUTS,
    Box,
    write_coco,
    write_coco_file,
    write_image,
    write_voc,
    write_yolo,
    write_yolo_labels,
)
from yolo_lite.cli import main
from yolo_lite.data.care.check import check_data
from yolo_lite.data.care.repair import repair
from yolo_lite.data.splits import read_split
from yolo_lite.errors import InputError

Content = dict[str, Any]


def good_set(root: Path) -> dict[str, Content]:
    """Write two images to train and one to validate, two categories, every one with an object."""
    contents: dict[str, Content] = {}
    (root / "annotations").mkdir(parents=True)
    for split, count, first in (("train", 2, 1), ("val", 1, 11)):
        (root / split).mkdir()
        images, annotations = [], []
        for number in range(first, first + count):
            pixels = np.random.default_rng(number).integers(0, 256, (40, 60, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / split / f"{number}.png")
            images.append({"id": number, "file_name": f"{number}.png", "width": 60, "height": 40})
            for category in (1, 2):
                box = [5 * category, 4, 20, 10]
                annotations.append(
                    {"id": 10 * number + category, "image_id": number, "category_id": category, "bbox": box}
                )
        categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
        contents[split] = {"images": images, "annotations": annotations, "categories": categories}
    return contents


def save(root: Path, contents: dict[str, Content]) -> None:
    for split, content in contents.items():
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def first(content: Content) -> Any:
    return content["annotations"][0]


PLANTED: list[tuple[str, Callable[[Content, Path], object], str, bool]] = [
    ("unknown image", lambda c, r: first(c).update(image_id=99), "annotation 11: belongs to image 99", True),
    ("unknown category", lambda c, r: first(c).update(category_id=7), "annotation 11: has category 7", True),
    ("no area", lambda c, r: first(c).update(bbox=[5, 5, 0, 9]), "annotation 11: has a box without area", False),
    ("negative", lambda c, r: first(c).update(bbox=[5, 5, -3, 9]), "annotation 11: has a box of negative size", True),
    (
        "outside",
        lambda c, r: first(c).update(bbox=[61, 5, 9, 9]),
        "annotation 11: lies wholly outside its image",
        True,
    ),
    ("leaving", lambda c, r: first(c).update(bbox=[50, 5, 15, 9]), "annotation 11: leaves its image", False),
    ("five numbers", lambda c, r: first(c).update(bbox=[1, 2, 3, 4, 5]), "annotation 11: has the box", True),
    ("nothing", lambda c, r: first(c).update(bbox=[]), "annotation 11: has neither a box nor a polygon", True),
    (
        "twice the box",
        lambda c, r: c["annotations"].append({**first(c), "id": 77}),
        "annotation 77: the same box",
        True,
    ),
    ("twice the id", lambda c, r: c["annotations"][1].update(id=11), "annotations: two have the id 11", True),
    ("image id", lambda c, r: c["images"].append(dict(c["images"][0])), "two images share the id 1", True),
    ("missing", lambda c, r: (r / "train" / "1.png").unlink(), "1.png does not exist", True),
    ("damaged", lambda c, r: (r / "train" / "1.png").write_bytes(b"x"), "1.png is not an image", True),
    ("size", lambda c, r: c["images"][0].update(width=61), "is 60 x 40, its annotations are for 61 x 40", True),
    ("turned", lambda c, r: c["images"][0].update(width=40, height=60), "does EXIF rotate it?", True),
    ("unused", lambda c, r: c["categories"].append({"id": 3, "name": "cow"}), "no object of cow", False),
    (
        "in both",
        lambda c, r: (r / "train" / "1.png").write_bytes((r / "val" / "11.png").read_bytes()),
        "is the same image as",
        True,
    ),
]


@pytest.mark.parametrize(
    ("plant", "message", "harms"), [case[1:] for case in PLANTED], ids=[case[0] for case in PLANTED]
)
def test_a_planted_fault_is_found(
    tmp_path: Path, plant: Callable[[Content, Path], object], message: str, harms: bool
) -> None:
    contents = good_set(tmp_path)
    plant(contents["train"], tmp_path)
    save(tmp_path, contents)
    found = [fault for fault in check_data(tmp_path) if message in f"{fault.where}: {fault.what}"]
    assert found, check_data(tmp_path)
    assert found[0].harms == harms
    assert main(["data", "check", "--data", str(tmp_path)]) == int(any(fault.harms for fault in check_data(tmp_path)))


def test_a_good_set_has_no_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path, good_set(tmp_path))
    assert check_data(tmp_path) == []
    assert main(["data", "check", "--data", str(tmp_path)]) == 0
    assert "0 faults that harm training, 0 others" in capsys.readouterr().out


def test_the_progress_of_checks_and_repairs_counts_the_images_of_each_split(tmp_path: Path) -> None:
    save(tmp_path, good_set(tmp_path))
    for look in (
        lambda told: check_data(tmp_path, told),
        lambda told: repair(tmp_path, tmp_path / "out", on_progress=told),
    ):
        counts: list[tuple[int, int]] = []
        look(lambda *count, counts=counts: counts.append(count))
        assert counts == [(0, 2), (1, 2), (0, 1)]


# Every layout

GOOD: list[Box] = [(0, 5, 4, 25, 14), (1, 10, 4, 30, 30)]
PLACES = {
    "coco": "annotation {}",
    "roboflow": "annotation {}",
    "merged": "annotation {}",
    "yolo": "line {}",
    "voc": "object {}",
}
BAD_BOXES: dict[str, tuple[Box, bool]] = {
    "lies wholly outside its image a.png of 60 x 40": ((0, 70, 5, 90, 30), True),
    "leaves its image a.png of 60 x 40": ((0, 40, 5, 80, 30), False),
    "the same box of the same class as": (GOOD[1], True),
    "is tiny: 0.5 x 0.3": ((0, 7, 7, 7.5, 7.3), False),
    "has a box without area": ((0, 7, 7, 7, 20), False),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("what", BAD_BOXES)
def test_a_bad_box_is_one_fault_with_its_place_in_every_layout(tmp_path: Path, layout: str, what: str) -> None:
    box, harms = BAD_BOXES[what]
    data = LAYOUTS[layout](tmp_path, {"train": {"a": [*GOOD, box], "b": GOOD}, "val": {"c": GOOD}})
    (fault,) = check_data(data)
    assert fault.what.startswith(what)
    assert fault.where.endswith(PLACES[layout].format(3))
    assert Path(fault.where.rpartition(": ")[0]).is_file()
    assert (fault.split, fault.harms) == ("train", harms)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_good_set_of_any_layout_has_no_fault(tmp_path: Path, layout: str) -> None:
    assert check_data(LAYOUTS[layout](tmp_path, {"train": {"a": GOOD, "b": GOOD}, "val": {"c": GOOD}})) == []


def test_a_check_goes_on_after_a_bad_line(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"train": {"a": GOOD, "b": GOOD, "c": GOOD}, "val": {"d": GOOD}})
    labels = tmp_path / "labels" / "train"
    (labels / "a.txt").write_text("7 0.5 0.5 0.2 0.2\n0 0.5 0.5 0.2 0.2\n0 x 0.5 0.2 0.2\n")
    (labels / "b.txt").write_text("1 0.5 0.5 0.2 0.2\n\n1 3 3 3 3\n1 1.5 0.5 0.2 0.2\n")
    found = {(fault.where, fault.what.split(",")[0]) for fault in check_data(tmp_path)}
    assert found == {
        (f"{labels / 'a.txt'}: line 1", "has class 7"),
        (f"{labels / 'a.txt'}: line 3", "must be a class number and fractions of the image's size"),
        (f"{labels / 'b.txt'}: line 3", "must hold fractions of the image's size"),
        (f"{labels / 'b.txt'}: line 4", "lies wholly outside its image b.png of 60 x 40 pixels: x 84 to 96"),
    }
    with pytest.raises(InputError, match="line 1 has class 7"):  # training stops at the first
        read_split(tmp_path, "train")


def test_a_check_goes_on_after_a_bad_object_and_a_bad_file(tmp_path: Path) -> None:
    write_voc(tmp_path, {"train": {"a": GOOD, "b": GOOD, "c": GOOD}})
    files = tmp_path / "Annotations"
    text = (files / "a.xml").read_text().replace("<xmin>5<", "<xmin>five<")
    (files / "a.xml").write_text(
        text.replace("<xmin>10</xmin>", "").replace("</object></ann", "</object><object/></ann")
    )
    (files / "b.xml").write_text("<annotation>")
    (files / "c.xml").write_text((files / "c.xml").read_text().replace("<name>dog</name>", ""))
    found = sorted(str(fault) for fault in check_data(tmp_path))
    assert len(found) == 5
    assert found[0] == f"{files / 'a.xml'}: object 1: <xmin> must be a number, got 'five'"
    assert found[1] == f"{files / 'a.xml'}: object 2: <xmin> must be a number, got None"
    assert found[2] == f"{files / 'a.xml'}: object 3: has no <name>"
    assert found[3].startswith(f"{files / 'b.xml'} is not XML: ")
    assert found[4] == f"{files / 'c.xml'}: object 2: has no <name>"


def test_what_belongs_to_a_bad_entry_is_no_fault_of_its_own(tmp_path: Path) -> None:
    contents = good_set(tmp_path)
    for image in contents["train"]["images"]:
        image["id"] = str(image["id"])
    for one in contents["train"]["annotations"]:
        one["image_id"] = str(one["image_id"])
    save(tmp_path, contents)
    found = [fault.what for fault in check_data(tmp_path)]
    assert len(found) == 2
    assert all(what.startswith("every image needs an integer id") for what in found)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    capsys.readouterr()
    assert main(["data", "check", "--data", *arguments]) in (0, 1)
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("layout", ["coco", "yolo"])
def test_val_that_is_train_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str], layout: str) -> None:
    names = [f"image{number:03}" for number in range(30)]
    LAYOUTS[layout](tmp_path, {"train": dict.fromkeys(names, GOOD), "val": dict.fromkeys(names, GOOD)})
    for number, name in enumerate(names, 1):
        write_image(tmp_path / "images" / "val" / f"{name}.png", number)  # as in train
    lines = printed(capsys, str(tmp_path))
    assert len(lines) == 2
    assert lines[0].startswith("harm: val: all 30 images of val are also in train; the first: ")
    assert lines[1] == "30 faults that harm training, 0 others"
    assert len(printed(capsys, str(tmp_path), "--all")) == 31


def test_a_fault_in_what_two_splits_share_is_said_once(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"train": {name: [*GOOD, (0, 70, 5, 90, 30)] for name in "abcd"}})
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\ntrain: images/train\nval: images/train\n")
    faults = check_data(tmp_path)
    assert sum("lies wholly outside" in fault.what for fault in faults) == 4
    assert sum("is the same image" in fault.what for fault in faults) == 4
    assert len(faults) == 8


def test_a_fault_of_every_box_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_yolo(tmp_path, {"train": {f"{number}": GOOD for number in range(40)}})
    for file in (tmp_path / "labels" / "train").iterdir():
        file.write_text(file.read_text().replace("0 0", "5 0").replace("1 0", "6 0"))
    lines = printed(capsys, str(tmp_path))
    assert len(lines) == 2
    assert lines[0].startswith("harm: train: all 80 have this fault; the first: ")
    assert "line 1: has class 5, but only the classes 0..1 have names" in lines[0]


def test_of_many_faults_of_one_kind_the_first_five_are_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = {f"{number}": [*GOOD, (0, 70.0 + number, 5, 90.0 + number, 30)] for number in range(9)}
    write_voc(tmp_path, {"train": {**images, "z": [*GOOD, GOOD[0]]}})
    lines = printed(capsys, str(tmp_path))
    assert sum("lies wholly outside" in line for line in lines) == 5
    assert "harm: train: ... and 4 more faults like that; --all prints them" in lines
    assert sum("the same box" in line for line in lines) == 1  # another kind is not hidden
    assert len(printed(capsys, str(tmp_path), "--all")) == 11


def test_boxes_are_not_blamed_for_a_wrong_size(tmp_path: Path) -> None:
    """Boxes of the lower and the right part would leave an image whose sides were swapped."""
    write_coco(tmp_path, {"train": {name: [(0, 40, 5, 58, 38), (1, 3, 25, 50, 39)] for name in "abcd"}})
    file = tmp_path / "annotations" / "instances_train.json"
    file.write_text(file.read_text().replace('"height": 40, "width": 60', '"height": 60, "width": 40'))
    found = [fault.what for fault in check_data(tmp_path)]
    assert len(found) == 4
    assert all("width and height are swapped" in what for what in found)


# Images listed twice


def test_an_image_listed_twice_with_a_part_of_its_boxes_each_is_harm(tmp_path: Path) -> None:
    content = good_set(tmp_path)
    train = content["train"]
    train["images"].append({**train["images"][0], "id": 50})
    train["annotations"][1]["image_id"] = 50
    save(tmp_path, content)
    (fault,) = check_data(tmp_path)
    assert fault.harms
    assert fault.where == str(tmp_path / "train" / "1.png")
    assert fault.what.startswith("is listed 2 times with different boxes (image 1, image 50)")


def test_an_image_listed_twice_with_the_same_boxes_is_a_note(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"train": {"a": GOOD, "b": GOOD}})
    (tmp_path / "train.txt").write_text("images/train/a.png\nimages/train/b.png\nimages/train/a.png\n")
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\ntrain: train.txt\n")
    (fault,) = check_data(tmp_path)
    assert (fault.harms, fault.what) == (False, "is listed 2 times")


@pytest.mark.parametrize(("second", "harms"), [(GOOD, False), (GOOD[:1], True), ([(0, 6, 4, 25, 14), GOOD[1]], False)])
def test_a_copy_of_an_image_harms_where_objects_are_missing(tmp_path: Path, second: list[Box], harms: bool) -> None:
    """Boxes of the same objects that differ by a pixel miss nothing."""
    write_voc(tmp_path, {"train": {"a": GOOD, "b": second}})
    write_image(tmp_path / "JPEGImages" / "b.png", 1)  # as a.png
    (fault,) = check_data(tmp_path)
    assert fault.harms == harms
    assert fault.what.startswith(f"is the same image as {tmp_path / 'JPEGImages' / 'a.png'}")


# Crowds, classes


def test_a_set_of_crowd_regions_only_is_harm(tmp_path: Path) -> None:
    contents = good_set(tmp_path)
    for one in contents["train"]["annotations"]:
        one["iscrowd"] = 1
    save(tmp_path, contents)
    (fault,) = [fault for fault in check_data(tmp_path) if fault.harms]
    assert fault.what.startswith("4 boxes, all of them crowd regions (COCO's iscrowd: 1, PASCAL VOC's difficult)")
    write_voc(tmp_path / "voc", {"train": {"a": GOOD}})
    file = tmp_path / "voc" / "Annotations" / "a.xml"
    file.write_text(file.read_text().replace("<bndbox>", "<difficult>1</difficult><bndbox>"))
    (fault,) = check_data(tmp_path / "voc")
    assert fault.harms
    assert fault.what.startswith("2 boxes, all of them crowd regions")


def test_a_split_without_any_object_is_harm(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"train": {"a": GOOD}, "val": {"b": []}})
    (fault,) = check_data(tmp_path)
    assert (fault.split, fault.harms, fault.what) == ("val", True, "none of its 1 image shows an object")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_class_that_only_val_shows_is_a_note(tmp_path: Path, layout: str) -> None:
    if layout == "merged":
        pytest.skip("its first set has both classes")
    data = LAYOUTS[layout](tmp_path, {"train": {"a": GOOD[:1], "b": GOOD[:1]}, "val": {"c": GOOD}})
    (fault,) = check_data(data)
    assert (fault.split, fault.harms, fault.what) == ("val", False, "shows dog, but no image of train does")


# Units


def write_as(root: Path, change: Callable[[list[float]], list[float]]) -> Path:
    """Write ten images with one box each, whose four numbers are changed."""
    boxes = [(0, 3.0 + 5 * number, 2.0 + 3 * number, 15.0 + 5 * number, 12.0 + 3 * number) for number in range(9)]
    write_coco(root, {"train": {f"{number}": [box] for number, box in enumerate(boxes)}})
    file = root / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    for one in content["annotations"]:
        one["bbox"] = change(one["bbox"])
    file.write_text(json.dumps(content))
    return file


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda box: [box[0], box[1], box[0] + box[2], box[1] + box[3]],
            "leave their image by more than rounding: they look like x1, y1, x2, y2 where x, y, width, height are expected",
            id="corners",
        ),
        pytest.param(
            lambda box: [box[0] / 60, box[1] / 40, box[2] / 60, box[3] / 40],
            "they look like fractions of the image where pixels are expected",
            id="shares",
        ),
        pytest.param(
            lambda box: [box[0] / 60, box[1] / 40, (box[0] + box[2]) / 60, (box[1] + box[3]) / 40],
            "they look like fractions of the image where pixels are expected",
            id="corners as shares",
        ),
    ],
)
def test_boxes_in_another_unit_are_one_fault_and_not_repaired(
    tmp_path: Path, change: Callable[[list[float]], list[float]], message: str
) -> None:
    file = write_as(tmp_path, change)
    (fault,) = [fault for fault in check_data(tmp_path) if fault.harms]
    assert message in fault.what
    assert fault.where == str(file)
    with pytest.raises(InputError, match="cannot be repaired: .*they look like"):
        repair(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_corners_in_yolo_txt_are_one_fault(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"train": {f"{number}": GOOD for number in range(9)}})
    for number, file in enumerate(sorted((tmp_path / "labels" / "train").iterdir())):
        corners = (0.05 + number / 12, 0.1 + number / 13, 0.25 + number / 12, 0.3 + number / 13)
        file.write_text(" ".join(["0", *(f"{share:.6f}" for share in corners)]))
    (fault,) = [fault for fault in check_data(tmp_path) if fault.harms]
    assert "they look like x1, y1, x2, y2 where centre, width and height are expected" in fault.what


def test_many_boxes_that_leave_their_image_harm_and_are_named(tmp_path: Path) -> None:
    images = {f"{number}": [GOOD[0], (1, 40.0, 5.0, 70.0, 30.0)] for number in range(4)}
    write_voc(tmp_path, {"train": images})
    faults = check_data(tmp_path)
    assert [fault.where for fault in faults] == [
        str(tmp_path / "Annotations" / f"{n}.xml") + ": object 2" for n in range(4)
    ]
    assert all(fault.harms and fault.what.startswith("leaves its image") for fault in faults)


def test_a_box_that_leaves_its_image_by_rounding_is_no_fault(tmp_path: Path) -> None:
    write_voc(tmp_path, {"train": {f"{number}": [(0, -0.5, -0.5, 60.9, 40.9), GOOD[1]] for number in range(4)}})
    assert check_data(tmp_path) == []


# 16 bits


@pytest.mark.parametrize("colour", [False, True], ids=["grey", "colour"])
@pytest.mark.parametrize(("largest", "setting"), [(4095, 4095), (3000, 4095), (1023, 1023), (60000, None)])
def test_16_bit_images_that_would_be_dark_are_a_note(
    tmp_path: Path, colour: bool, largest: int, setting: int | None
) -> None:
    write_yolo(tmp_path, {"train": {"a": GOOD, "b": GOOD}})
    wide = np.linspace(0, largest, 40 * 60).astype(np.uint16).reshape(40, 60)
    for name, pixels in (("a", wide), ("b", wide.T.reshape(40, 60))):
        three = np.repeat(pixels[..., None], 3, 2) if colour else pixels
        cv2.imwrite(str(tmp_path / "images" / "train" / f"{name}.png"), three)
    faults = check_data(tmp_path)
    if setting is None:
        assert faults == []
    else:
        (fault,) = faults
        assert not fault.harms
        assert f"2 images of 16 bits with no value above {largest:,}" in fault.what
        assert fault.what.endswith(f"--set input.max_16bit={setting}")


def test_another_unit_in_one_of_two_merged_sets_hides_no_fault_of_the_other(tmp_path: Path) -> None:
    data = LAYOUTS["merged"](tmp_path, {"train": {f"{number}": [GOOD[0], GOOD[1]] for number in range(6)}})
    file = tmp_path / "second" / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    for one in content["annotations"]:
        one["bbox"] = [side / 60 for side in one["bbox"]]
    file.write_text(json.dumps(content))
    write_yolo_labels(tmp_path / "first" / "labels" / "train" / "good.txt", [*GOOD, (0, 70, 5, 90, 30)])
    found = [fault for fault in check_data(data) if fault.harms]
    assert {fault.where.split("/")[-1] for fault in found} == {"instances_train.json", "good.txt: line 3"}


def _of_classes(root: Path, splits: dict[str, list[str]]) -> Path:
    """Write a COCO file for each split, whose images show one of its classes each."""
    for split, names in splits.items():
        numbered = dict(enumerate(names, 1))
        folder = root / "images" / split
        for number in numbered:
            write_image(folder / f"{number}.png", len(split) + 10 * number, (100, 100))
        file = root / "annotations" / f"instances_{split}.json"
        write_coco_file(file, numbered, [(number, number) for number in numbered], folder)
    return root


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_class_that_another_split_spells_differently_is_a_note(tmp_path: Path, split: str) -> None:
    faults = check_data(_of_classes(tmp_path, {"train": ["hot dog", "cat"], split: ["cat", "Hot_Dog"]}))
    note = f"1 class is spelled differently in {split} and train: Hot_Dog (known as hot dog)"
    assert [(fault.what, fault.harms) for fault in faults if "class" in fault.what] == [(note, False)]


@pytest.mark.parametrize(("split", "harms"), [("val", True), ("test", False)])
def test_a_class_that_could_be_several_of_train_is_named(tmp_path: Path, split: str, harms: bool) -> None:
    """Training refuses such a validation split; a test split matters only where it is scored."""
    faults = check_data(_of_classes(tmp_path, {"train": ["cat", "CAT"], split: ["Cat"]}))
    (fault,) = (fault for fault in faults if "could be" in fault.what)
    assert fault.what.startswith(f"the class 'Cat' of {split} could be 'cat' or 'CAT' of train; give")
    assert fault.harms == harms
