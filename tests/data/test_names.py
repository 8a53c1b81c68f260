"""Images whose names are spelled otherwise in annotations: found where exactly one fits, else the likely one is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.data.layouts import images_of
from yolo_lite.cli import main
from yolo_lite.data import names
from yolo_lite.data.care.check import check_data
from yolo_lite.data.care.repair import repair
from yolo_lite.data.care.subset import Choice, write_subset
from yolo_lite.data.names import find_images, is_file, likely_image
from yolo_lite.data.sizes import check_images
from yolo_lite.data.splits import read_split, read_split_or_held_out, read_train_and_val
from yolo_lite.errors import InputError
from yolo_lite.evaluation.detector import evaluate_detections


def _touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


NFD, NFC = "cafe\u0301.jpg", "caf\u00e9.jpg"


@pytest.mark.parametrize(
    ("written", "there"),
    [
        pytest.param("a\\b.jpg", "a/b.jpg", id="back-slash"),
        pytest.param(".\\b.jpg", "b.jpg", id="back-slash after a dot"),
        pytest.param("my%20shot%2B1.jpg", "my shot+1.jpg", id="percent"),
        pytest.param("caf%C3%A9.jpg", NFC, id="percent, UTF-8"),
        pytest.param(NFC, NFD, id="composed for decomposed"),
        pytest.param(NFD, NFC, id="decomposed for composed"),
        pytest.param(f"A/{NFC}", f"a/{NFD}", id="accents and case in a folder"),
        pytest.param("b.JPG", "b.jpg", id="suffix in capitals"),
        pytest.param("b.jpg", "b.Jpg", id="suffix on disk in capitals"),
        pytest.param("IMG_1.jpg", "img_1.jpg", id="name in capitals"),
        pytest.param("/home/me/export/images/01.jpg", "01.jpg", id="another machine"),
        pytest.param("C:\\Users\\me\\export\\01.JPG", "01.jpg", id="another machine, Windows"),
        pytest.param("\\\\server\\share\\a\\01.jpg", "a/01.jpg", id="a share"),
        pytest.param("images/train/01.jpg", "01.jpg", id="relative to a folder above"),
        pytest.param("01.jpg", "cam/deep/01.jpg", id="in a sub-folder"),
    ],
)
def test_a_name_is_read_as_it_is_meant(tmp_path: Path, written: str, there: str) -> None:
    _touch(tmp_path / "own" / there, tmp_path / "own" / "other.jpg")
    paths, notes = find_images([written, "other.jpg", written], [tmp_path / "own", tmp_path])
    assert paths == [tmp_path / "own" / there, tmp_path / "own" / "other.jpg", tmp_path / "own" / there]
    (note,) = notes
    assert note.startswith("1 image name differs from its file: ")
    assert str(tmp_path / "own" / there) in note


def test_a_name_that_is_a_file_is_that_file_and_no_word_is_said(tmp_path: Path) -> None:
    _touch(tmp_path / "a%20b.jpg", tmp_path / "a b.jpg", tmp_path / "c.JPG", tmp_path / "c.jpg")
    names = ["a%20b.jpg", "a b.jpg", "c.JPG", "c.jpg"]
    assert find_images(names, [tmp_path]) == ([tmp_path / name for name in names], [])


@pytest.mark.parametrize(
    ("written", "there"),
    [
        pytest.param(["b.jpg"], ["b.JPG", "b.Jpg"], id="two that differ in case"),
        pytest.param(["01.jpg"], ["cam_a/01.jpg", "cam_b/01.jpg"], id="two sub-folders"),
        pytest.param(["cam_c/01.jpg"], ["cam_a/01.jpg"], id="another sub-folder"),
        pytest.param(["01.jpg"], ["val/01.jpg"], id="the folder of another split"),
        pytest.param(["/x/a/01.jpg", "/x/b/01.jpg"], ["01.jpg"], id="two names for one file"),
        pytest.param(["b/01.jpg"], ["01.png"], id="another kind of image"),
        pytest.param(["2.jpg"], ["1.jpg", "3.jpg"], id="only others"),
    ],
)
def test_a_name_that_could_mean_several_or_none_is_not_guessed(
    tmp_path: Path, written: list[str], there: list[str]
) -> None:
    _touch(*(tmp_path / name for name in there))
    paths, notes = find_images(written, [tmp_path])
    assert not any(path.is_file() for path in paths)
    assert notes == []


def test_an_image_that_another_name_means_as_it_stands_is_not_taken_twice(tmp_path: Path) -> None:
    _touch(tmp_path / "01.jpg")
    paths, _ = find_images(["01.jpg", "cam_b/01.jpg"], [tmp_path])
    assert paths == [tmp_path / "01.jpg", tmp_path / "cam_b" / "01.jpg"]


def test_further_folders_come_last_and_are_told(tmp_path: Path) -> None:
    _touch(tmp_path / "lists" / "images" / "1.jpg", tmp_path / "images" / "1.jpg", tmp_path / "images" / "2.jpg")
    paths, notes = find_images(["images/1.jpg", "images/2.jpg"], [tmp_path / "lists"], roots=[tmp_path])
    assert paths == [tmp_path / "lists" / "images" / "1.jpg", tmp_path / "images" / "2.jpg"]
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("missing", "there", "expected"),
    [
        pytest.param("01.jpg", ["01.png"], "01.png", id="another suffix"),
        pytest.param("images\\my%2001.jpg", ["my 01.png"], "my 01.png", id="another suffix and spelling"),
        pytest.param("raccoon_01.jpg", ["racoon_01.jpg", "racoon_02.jpg"], "racoon_01.jpg", id="misspelt"),
        pytest.param("01.jpg", ["a/01.jpg", "b/01.jpg"], "a/01.jpg or {}/b/01.jpg", id="several"),
        pytest.param("gone/deep/01.jpg", ["01.jpg"], "01.jpg", id="folders that are not there"),
        pytest.param("shot_2.jpg", ["shot_1.jpg", "shot_3.jpg"], None, id="another number"),
        pytest.param("x.jpg", ["completely different.jpg"], None, id="nothing like it"),
    ],
)
def test_the_likely_file_is_named(tmp_path: Path, missing: str, there: list[str], expected: str | None) -> None:
    _touch(*(tmp_path / name for name in there))
    told = likely_image(tmp_path / missing)
    assert told == (f"; did you mean {tmp_path}/{expected.format(tmp_path)}?" if expected else "")


# Whole sets


def _coco(root: Path, spelled: str, there: str = "images/train/shot {}.jpg", images: int = 4) -> Path:
    """Write a COCO set whose file names are spelled by one pattern and its files by another."""
    for split in ("train", "val"):
        entries, boxes = [], []
        for number in range(1, images + 1):
            path = root / there.replace("train", split).format(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (60, 40), (40 * number, 0, 255 * (split == "val"))).save(path)
            name = spelled.replace("train", split).format(number)
            entries.append({"id": number, "file_name": name, "width": 60, "height": 40})
            boxes.append({"id": number, "image_id": number, "category_id": 1, "bbox": [number, 1, 9, 9], "iscrowd": 0})
        content = {"images": entries, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


SPELLINGS = ["images\\train\\shot {}.jpg", "shot%20{}.jpg", "/home/me/set/train/shot {}.JPG", "D:\\set\\shot {}.jpg"]


@pytest.mark.slow
@pytest.mark.parametrize("spelled", SPELLINGS)
def test_a_set_from_elsewhere_is_trained_on_checked_and_converted(
    tmp_path: Path, spelled: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = _coco(tmp_path / "set", spelled)
    train, val, notes = read_train_and_val(images_of(root), seed=0)
    check_images(train)
    check_images(val)
    assert [record.path.name for record in train.records] == [f"shot {number}.jpg" for number in range(1, 5)]
    assert {record.path.parent.name for record in val.records} == {"val"}
    assert sum("4 image names differ from their files" in note for note in notes) == 2  # each split's, once
    faults = check_data(root)
    assert not any(fault.harms for fault in faults)
    assert sum("image names differ from their files" in fault.what for fault in faults) == 2
    for command in (
        ["convert", "--to", "yolo", "--out", str(tmp_path / "out")],
        ["stats", "--out", f"{tmp_path}/s.png"],
    ):
        assert main(["data", command[0], "--data", str(root), *command[1:]]) == 0
        assert capsys.readouterr().out.count("note: train: 4 image names differ from their files") == 1
    assert len(read_split(tmp_path / "out", "train").records) == 4


@pytest.mark.parametrize("spelled", SPELLINGS)
def test_parts_and_repaired_copies_of_a_set_from_elsewhere(tmp_path: Path, spelled: str) -> None:
    root = _coco(tmp_path / "set", spelled)
    lines = write_subset(root, tmp_path / "part", choice=Choice(images=2))
    assert any("image names differ from their files" in line for line in lines)
    part = read_split(tmp_path / "part", "train")
    check_images(part)
    assert part.notes == ()
    assert repair(root, tmp_path / "fixed") == {"train": 0, "val": 0}
    images = json.loads((tmp_path / "fixed" / "instances_train.json").read_text())["images"]
    assert len(images) == 4


def test_a_set_from_elsewhere_is_scored_with_a_word_about_it(tmp_path: Path) -> None:
    root = _coco(tmp_path, "shot%20{}.jpg")
    note = "4 image names differ from their files"
    assert read_split_or_held_out(images_of(root), "val", seed=0)[1][0].startswith(note)
    (tmp_path / "annotations" / "instances_val.json").unlink()
    assert read_split_or_held_out(images_of(root), "val", seed=0)[1][0].startswith(note)  # set aside from train
    (tmp_path / "rows.json").write_text("[]")
    assert evaluate_detections(tmp_path / "rows.json", root, split="train").notes[0].startswith(note)


def test_a_missing_image_names_the_likely_file(tmp_path: Path) -> None:
    data = read_split(_coco(tmp_path, "shot {}.jpeg"), "train")
    with pytest.raises(InputError, match=r"4 are missing; the first .*shot 1\.jpeg; did you mean .*shot 1\.jpg\?"):
        check_images(data)
    faults = [fault.what for fault in check_data(tmp_path) if fault.split == "train" and fault.harms]
    assert sum("did you mean" in what for what in faults) == 1  # said of the first: looking for it takes time


@pytest.mark.parametrize(
    "name", ["x" * 300 + ".jpg", "x" * 300 + "/a.jpg", "q\0/b.jpg", "/q\0/b.jpg", "\udcff.jpg", "", "..", "/"]
)
def test_names_that_no_file_can_have_are_missing(tmp_path: Path, name: str) -> None:
    _touch(tmp_path / "zebra.png")
    paths, notes = find_images([name], [tmp_path])
    assert not is_file(paths[0])
    assert (likely_image(paths[0]), notes) == ("", [])


def test_a_folder_of_very_many_files_is_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An annotation file in a home folder must not have all of it read, and what was not seen cannot be ruled out."""
    monkeypatch.setattr(names, "_MOST_FILES", 3)
    _touch(*(tmp_path / f"{number}.JPG" for number in range(3)))
    assert not is_file(find_images(["1.jpg"], [tmp_path])[0][0])
    (tmp_path / "2.JPG").unlink()
    assert is_file(find_images(["1.jpg"], [tmp_path])[0][0])
