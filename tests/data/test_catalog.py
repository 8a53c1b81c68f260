"""Every layout a detection set comes in, and sets that are joined."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.data.layouts import images_of, write_coco_file
from yolo_lite.cli import main
from yolo_lite.data.care.check import check_data
from yolo_lite.data.care.subset import Choice, write_subset
from yolo_lite.data.catalog import find_splits, is_detection_set
from yolo_lite.data.splits import read_split, read_splits, read_train_and_val
from yolo_lite.errors import InputError
from yolo_lite.structures.datasets import DetectionSet

CocoSet = Callable[..., Path]


def _yolo(images: Path, labels: Path, count: int, label: int = 0) -> None:
    """Write images of 40 x 20 and, for each, one box over its middle half: (10, 5, 30, 15) in pixels."""
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (40, 20)).save(images / f"{number}.png")
        (labels / f"{number}.txt").write_text(f"{label} 0.5 0.5 0.5 0.5\n")


def _message(call: Callable[..., object], *arguments: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _names(data: DetectionSet) -> Counter[str]:
    return Counter(data.class_names[label] for record in data.records for label in record.labels)


def test_coco_with_one_images_folder(coco_set: CocoSet) -> None:
    root = coco_set({"train": 3, "val": 2})
    assert sorted(find_splits(root)) == ["train", "val"]
    train, val = read_split(root, "train"), read_split(root, "val")
    assert (len(train.records), len(val.records)) == (3, 2)
    for data in (train, val):
        assert data.class_names == ("disc", "square")
        assert data.category_ids == (7, 3)
        assert all(record.path.is_file() for record in data.records)


@pytest.mark.parametrize(
    "place",
    [
        pytest.param("{name}", id="train2017/"),
        pytest.param("images/{name}", id="images/train2017/"),
        pytest.param("images/{split}", id="images/train/"),
        pytest.param("images", id="images/"),
        pytest.param(".", id="beside annotations/"),
    ],
)
def test_coco_with_split_folders_and_years(coco_set: CocoSet, place: str) -> None:
    root = coco_set({"train2017": 3, "val2017": 2})
    images = root / "images"
    (root / "images").rename(images)
    for name in ("train2017", "val2017"):
        folder = root / place.format(name=name, split=name[:-4])
        folder.mkdir(parents=True, exist_ok=True)
        for image in json.loads((root / "annotations" / f"instances_{name}.json").read_text())["images"]:
            (images / image["file_name"]).rename(folder / image["file_name"])
    assert sorted(find_splits(root)) == ["train", "val"]
    for split, count in (("train", 3), ("val", 2)):
        data = read_split(root, split)
        assert len(data.records) == count
        assert all(record.path.is_file() for record in data.records)


def test_coco_files_of_other_kinds_are_left_alone(coco_set: CocoSet) -> None:
    root = coco_set({"train": 3})
    (root / "annotations" / "captions_train.json").write_text("{}")
    (root / "annotations" / "person_keypoints_val.json").write_text("{}")
    assert list(find_splits(root)) == ["train"]


def test_a_single_annotation_file_of_any_name_is_for_training(coco_set: CocoSet) -> None:
    root = coco_set({"default": 3})
    assert list(find_splits(root)) == ["train"]
    assert len(read_split(root, "train").records) == 3


def test_a_single_file_of_a_known_split_stays_that_split(coco_set: CocoSet) -> None:
    root = coco_set({"val": 3})
    assert list(find_splits(root)) == ["val"]
    assert _message(read_train_and_val, images_of(root), seed=0) == f"{root} has no training split; found val"


def test_two_files_for_one_split_are_refused(coco_set: CocoSet) -> None:
    root = coco_set({"train2014": 2, "train2017": 2})
    assert "two files for the split 'train': train2014, train2017" in _message(find_splits, root)


@pytest.mark.parametrize("split", ["train", "val", "test", "anything"])
def test_an_annotation_file_by_itself_is_whatever_split_is_asked_for(coco_set: CocoSet, split: str) -> None:
    data = read_split(coco_set({"val": 3}) / "annotations" / "instances_val.json", split)
    assert len(data.records) == 3
    assert all(record.path.is_file() for record in data.records)


def test_roboflow_coco_folders(coco_set: CocoSet) -> None:
    root = coco_set({"train": 3, "valid": 2, "test": 1})
    for split in ("train", "valid", "test"):
        (root / split).mkdir()
        annotations = root / "annotations" / f"instances_{split}.json"
        for image in json.loads(annotations.read_text())["images"]:
            (root / "images" / image["file_name"]).rename(root / split / image["file_name"])
        annotations.rename(root / split / "_annotations.coco.json")
    (root / "annotations").rmdir()
    (root / "images").rmdir()
    assert sorted(find_splits(root)) == ["test", "train", "val"]
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        data = read_split(root, split)
        assert len(data.records) == count
        assert all(record.path.is_file() for record in data.records)


def test_roboflow_coco_in_one_folder(tmp_path: Path) -> None:
    write_coco_file(tmp_path / "_annotations.coco.json", {1: "cat"}, [(1, 1), (2, 1)])
    assert list(find_splits(tmp_path)) == ["train"]
    assert all(record.path.is_file() for record in read_split(tmp_path, "train").records)


def _label_studio(root: Path) -> None:
    """Write result.json as Label Studio does: it names images by their path below its own folder."""
    (root / "images").mkdir()
    write_coco_file(root / "result.json", {0: "cat"}, [(1, 0), (2, 0)], folder=root / "images")
    content = json.loads((root / "result.json").read_text())
    for image in content["images"]:
        image["file_name"] = f"images/{image['file_name']}"
    (root / "result.json").write_text(json.dumps(content))


def test_a_coco_export_of_label_studio(tmp_path: Path) -> None:
    _label_studio(tmp_path)
    assert is_detection_set(tmp_path)
    assert list(find_splits(tmp_path)) == ["train"]
    data = read_split(tmp_path, "train")
    assert [record.path for record in data.records] == [tmp_path / "images" / f"{number}.png" for number in (1, 2)]
    assert [record.boxes.tolist() for record in data.records] == [[[1, 2, 11, 22]]] * 2  # x, y, 10 wide, 20 high


@pytest.mark.parametrize("other", ["more.json", "MORE.JSON"])
def test_result_json_beside_another_json_file_is_refused(tmp_path: Path, other: str) -> None:
    """Which of the two holds the annotations is not for the program to guess."""
    _label_studio(tmp_path)
    (tmp_path / other).write_text("{}")
    assert not is_detection_set(tmp_path)
    message = _message(find_splits, tmp_path)
    assert message.startswith(f"{tmp_path} is not a data set: looked for ")
    assert message.endswith(f"found {', '.join(sorted(['images/', other, 'result.json']))}")


def test_result_json_is_read_only_if_no_other_layout_is_there(tmp_path: Path) -> None:
    _label_studio(tmp_path)
    (tmp_path / "labels").mkdir()
    for number in (1, 2):
        Image.new("RGB", (40, 20)).save(tmp_path / "images" / f"{number}.png")
        (tmp_path / "labels" / f"{number}.txt").write_text("1 0.5 0.5 0.5 0.5\n")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    _check_yolo(tmp_path, {"train": 2})


def _check_yolo(data: Path, splits: dict[str, int], names: tuple[str, ...] = ("cat", "dog")) -> None:
    assert sorted(find_splits(data)) == sorted(splits)
    for split, count in splits.items():
        found = read_split(data, split)
        assert found.class_names == names
        assert len(found.records) == count
        for record in found.records:
            assert record.boxes.tolist() == [[10, 5, 30, 15]]  # the middle half of 40 x 20


@pytest.mark.parametrize("by", ["folder", "file"])
@pytest.mark.parametrize(
    ("layout", "entries"),
    [
        pytest.param("{kind}/{split}", "train: images/train\nval: images/val\n", id="images/train"),
        pytest.param("{kind}/{split}", "path: .\ntrain: images/train\nval: images/val\n", id="images/train, path"),
        pytest.param("{kind}/{split}", "train: [images/train]\nval: [images/val]\n", id="images/train, lists"),
        pytest.param("{kind}/{split}", "", id="images/train, names only"),
        pytest.param("{split}/{kind}", "train: train/images\nval: valid/images\n", id="train/images"),
        pytest.param("{split}/{kind}", "train: ../train/images\nval: ../valid/images\n", id="../train/images"),
        pytest.param("{split}/{kind}", "", id="train/images, names only"),
    ],
)
def test_yolo_folders_with_data_yaml(tmp_path: Path, layout: str, entries: str, by: str) -> None:
    root = tmp_path / "set"
    valid = "val" if layout.startswith("{kind}") else "valid"
    for split, count in (("train", 3), (valid, 2)):
        places = [root / layout.format(kind=kind, split=split) for kind in ("images", "labels")]
        _yolo(places[0], places[1], count)
    (root / "data.yaml").write_text(f"{entries}nc: 2\nnames: [cat, dog]\n")
    _check_yolo(root if by == "folder" else root / "data.yaml", {"train": 3, "val": 2})


@pytest.mark.parametrize("names", ["names: [cat, dog]", "names: {0: cat, 1: dog}", "names: {1: dog, 0: cat}"])
def test_yolo_names_are_a_list_or_numbered(tmp_path: Path, names: str) -> None:
    _yolo(tmp_path / "images", tmp_path / "labels", 2)
    (tmp_path / "data.yaml").write_text(f"train: images\n{names}\n")
    _check_yolo(tmp_path, {"train": 2})


def test_yolo_flat_folders_with_classes_txt(tmp_path: Path) -> None:
    _yolo(tmp_path / "images", tmp_path / "labels", 2)
    (tmp_path / "classes.txt").write_text("cat\n\n dog \n")
    _check_yolo(tmp_path, {"train": 2})


def test_yolo_flat_folders_with_data_yaml(tmp_path: Path) -> None:
    _yolo(tmp_path / "images", tmp_path / "labels", 2)
    (tmp_path / "data.yaml").write_text("names: [cat, dog]\n")
    _check_yolo(tmp_path, {"train": 2})


@pytest.mark.parametrize("name", ["data.yaml", "data.yml", "dataset.yaml"])
def test_yolo_yaml_files_of_three_names_are_found(tmp_path: Path, name: str) -> None:
    _yolo(tmp_path / "images" / "train", tmp_path / "labels" / "train", 2)
    (tmp_path / name).write_text("train: images/train\nval: \nnames: [cat, dog]\n")
    _check_yolo(tmp_path, {"train": 2})


def test_yolo_lists_of_images(tmp_path: Path) -> None:
    _yolo(tmp_path / "images", tmp_path / "labels", 4)
    (tmp_path / "train.txt").write_text("images/0.png\nimages/1.png\nimages/2.png\n")
    (tmp_path / "val.txt").write_text("./images/3.png\n")
    (tmp_path / "data.yaml").write_text("train: train.txt\nval: val.txt\nnames: [cat, dog]\n")
    _check_yolo(tmp_path, {"train": 3, "val": 1})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("names: 5\n", "names must be a list of class names, got 5", id="number"),
        pytest.param("names: []\n", "names must be a list of class names", id="empty"),
        pytest.param("names: {0: a, 2: b}\n", "names must be numbered 0..1 without gaps, got [0, 2]", id="a gap"),
        pytest.param("names: {0: a, x: b}\n", "names must be numbered 0..1 without gaps", id="number and text"),
        pytest.param("train: absent\nnames: [a]\n", "'absent' does not exist; tried", id="no such folder"),
        pytest.param("path: absent\nnames: [a]\n", "'absent' does not exist; tried", id="no such path"),
    ],
)
def test_yolo_yaml_is_refused_with_its_file(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "data.yaml").write_text(content)
    said = _message(read_split, tmp_path / "data.yaml", "train")
    assert said.startswith(f"{tmp_path / 'data.yaml'}: ")
    assert message in said


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("names:\n  - a\n  -\n", "entry 2 of names must be a class name, got ''", id="an empty name"),
        pytest.param("names: [a, [b]]\n", "entry 2 of names must be a class name, got ['b']", id="a list as a name"),
        pytest.param("names: {0: {a: b}}\n", "entry 1 of names must be a class name", id="a mapping as a name"),
        pytest.param(
            "names: [a]\nkpt_shape: 17\n", "kpt_shape must be [number of keypoints, 2 or 3], got 17", id="one"
        ),
        pytest.param("names: [a]\nkpt_shape: [17, 4]\n", "kpt_shape must be", id="keypoints of four numbers"),
        pytest.param("names: [a]\nkpt_shape: ['17', 3]\n", "kpt_shape must be", id="text"),
    ],
)
def test_names_and_keypoints_of_yolo_yaml_are_refused_with_their_place(
    tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "data.yaml").write_text(content)
    assert f"{tmp_path / 'data.yaml'}: {message}" in _message(find_splits, tmp_path)


def test_class_names_are_the_text_that_is_written(tmp_path: Path) -> None:
    """YAML 1.1 would read each of these as something else than text."""
    _yolo(tmp_path / "images", tmp_path / "labels", 2)
    for names in ("[no, 010]", "{0: no, 1: 010}", "\n  - no\n  - 010"):
        (tmp_path / "data.yaml").write_text(f"train: images\nnames: {names}\n")
        assert read_split(tmp_path, "train").class_names == ("no", "010")
    (tmp_path / "sets.yaml").write_text("train: data.yaml\nclasses: [010, no]\n")
    assert read_split(tmp_path / "sets.yaml", "train").class_names == ("010", "no")


@pytest.mark.parametrize("by", ["kpt_shape: [2, 3]", "kpt_shape: [2, 3]\ntrain: images\n"])
def test_kpt_shape_is_that_of_every_split(tmp_path: Path, by: str) -> None:
    _yolo(tmp_path / "images", tmp_path / "labels", 2)
    for file in (tmp_path / "labels").iterdir():
        file.write_text(f"{file.read_text().strip()} 0.5 0.5 2 0.4 0.4 1\n")
    (tmp_path / "data.yaml").write_text(f"names: [cat, dog]\n{by}\n")
    _check_yolo(tmp_path, {"train": 2})
    (tmp_path / "sets.yaml").write_text("train: data.yaml\n")
    assert read_split(tmp_path / "sets.yaml", "train").records[0].boxes.tolist() == [[10, 5, 30, 15]]


@pytest.mark.parametrize("test", ["test: ../test/images", "test: test.txt", "test: [images/val, images/test]"])
def test_a_test_split_that_is_not_there_matters_only_where_it_is_asked_for(tmp_path: Path, test: str) -> None:
    for split in ("train", "val"):
        _yolo(tmp_path / "images" / split, tmp_path / "labels" / split, 3)
    (tmp_path / "data.yaml").write_text(f"train: images/train\nval: images/val\n{test}\nnames: [cat, dog]\n")
    train, val, notes = read_train_and_val(images_of(tmp_path), seed=0)
    assert (len(train.records), len(val.records)) == (3, 3)
    assert not any("test" in note.split("(")[0] for note in notes)
    assert len(read_split(tmp_path, "val").records) == 3
    assert f"{tmp_path / 'data.yaml'}: " in _message(read_split, tmp_path, "test")
    sets = read_splits(tmp_path)
    assert list(sets) == ["train", "val"]
    assert sets["train"].notes[0].startswith("the split 'test' is left out: ")
    assert [fault.harms for fault in check_data(tmp_path) if fault.split == "test"] == [False]
    assert main(["data", "convert", "--data", str(tmp_path), "--to", "coco", "--out", str(tmp_path / "out")]) == 0
    write_subset(tmp_path, tmp_path / "part", choice=Choice(images=1))
    assert "does not exist" in _message(write_subset, tmp_path, tmp_path / "other", choice=Choice(), splits=["test"])


@pytest.mark.parametrize("split", ["train", "val"])
def test_another_split_that_is_not_there_is_refused(tmp_path: Path, split: str) -> None:
    for name in ("train", "val"):
        _yolo(tmp_path / "images" / name, tmp_path / "labels" / name, 3)
    text = "train: images/train\nval: images/val\nnames: [cat, dog]\n"
    (tmp_path / "data.yaml").write_text(text.replace(f"images/{split}", "gone"))
    assert "'gone' does not exist" in _message(read_train_and_val, images_of(tmp_path), seed=0)
    assert "'gone' does not exist" in _message(read_splits, tmp_path)
    assert [fault.harms for fault in check_data(tmp_path) if "gone" in fault.what] == [True]


@pytest.mark.parametrize("written", ["images/{}.png", "images\\{}.png", "/home/me/set/images/{}.PNG"])
def test_lists_relative_to_the_root_of_the_set_are_found(tmp_path: Path, written: str) -> None:
    """As Darknet writes them: the lists in a folder of their own, the names in them relative to the set."""
    _yolo(tmp_path / "images", tmp_path / "labels", 4)
    (tmp_path / "lists").mkdir()
    for split, numbers in (("train", (0, 1, 2)), ("val", (3,))):
        lines = "".join(f"{written.format(number)}\n" for number in numbers)
        (tmp_path / "lists" / f"{split}.txt").write_text(lines)
    (tmp_path / "data.yaml").write_text("train: lists/train.txt\nval: lists/val.txt\nnames: [cat, dog]\n")
    _check_yolo(tmp_path, {"train": 3, "val": 1})
    notes = read_train_and_val(images_of(tmp_path), seed=0)[2]
    assert sum("3 image names differ from their files" in note for note in notes) == 1


@pytest.mark.parametrize(
    ("path", "entry"),
    [
        pytest.param("", "/content/set-1/{}/images", id="another machine"),
        pytest.param("", "D:\\sets\\set-1\\{}\\images", id="another machine, Windows"),
        pytest.param("", "..\\{}\\images", id="back-slashes"),
        pytest.param("path: /content/set-1\n", "{}/images", id="a root of another machine"),
        pytest.param("path: /content/set-1\n", "/content/set-1/{}/images", id="both"),
    ],
)
def test_places_of_another_machine_are_found_and_told(tmp_path: Path, path: str, entry: str) -> None:
    for split, count in (("train", 3), ("valid", 2)):
        _yolo(tmp_path / split / "images", tmp_path / split / "labels", count)
    train, val = entry.format("train"), entry.format("valid")
    (tmp_path / "data.yaml").write_text(f"{path}train: {train}\nval: {val}\nnames: [cat, dog]\n")
    _check_yolo(tmp_path, {"train": 3, "val": 2})
    notes = read_train_and_val(images_of(tmp_path), seed=0)[2]
    expected = 4 if path and entry.startswith("/") else 2  # of each split, the root and the folder, or one of them
    assert sum("was taken for" in note or "using the file's own folder" in note for note in notes) == expected


def test_a_place_of_another_machine_is_no_guess_where_only_its_last_folder_fits(tmp_path: Path) -> None:
    """Train and val would both become the one folder that is called images."""
    _yolo(tmp_path / "images", tmp_path / "labels", 3)
    text = "train: /x/train/images\nval: /x/valid/images\nnames: [cat, dog]\n"
    (tmp_path / "data.yaml").write_text(text)
    assert "'/x/train/images' does not exist" in _message(read_split, tmp_path, "train")


def test_what_macos_leaves_beside_files_makes_no_set(tmp_path: Path) -> None:
    _yolo(tmp_path / "images" / "train", tmp_path / "labels" / "train", 2)
    (tmp_path / "data.yaml").write_text("train: images/train\nnames: [cat, dog]\n")
    for path in sorted(tmp_path.rglob("*")):
        if path.is_file():
            path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    (tmp_path / "__MACOSX" / "images").mkdir(parents=True)
    (tmp_path / "__MACOSX" / "._data.xml").write_bytes(b"\0\5\x16\7")
    _check_yolo(tmp_path, {"train": 2})
    assert read_split(tmp_path, "train").notes == ()
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "._a.xml").touch()
    assert not is_detection_set(tmp_path / "empty")


def test_yolo_folders_without_names_say_what_to_write(tmp_path: Path) -> None:
    _yolo(tmp_path / "images", tmp_path / "labels", 1)
    message = _message(find_splits, tmp_path)
    assert "no class names; write 'names: [first, second]' to" in message
    assert f"{tmp_path}/data.yaml" in message


def test_an_empty_folder_says_what_was_looked_for_and_found(tmp_path: Path) -> None:
    message = _message(find_splits, tmp_path)
    assert message.startswith(f"{tmp_path} is not a data set: looked for annotations/instances_*.json (COCO)")
    for part in ("<split>/_annotations.coco.json", "images/ and labels/", "data.yaml", "found nothing"):
        assert part in message


def test_a_folder_of_other_things_lists_them(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "notes.txt").touch()
    assert _message(find_splits, tmp_path).endswith("found notes.txt, photos/")
    for number in range(10):
        (tmp_path / f"a{number}.txt").touch()
    # twelve entries, of which the first eight by name are shown
    assert _message(find_splits, tmp_path).endswith(
        "a0.txt, a1.txt, a2.txt, a3.txt, a4.txt, a5.txt, a6.txt, a7.txt and 4 more"
    )


def test_what_is_not_there_or_of_another_kind_is_refused(tmp_path: Path) -> None:
    assert "does not exist; --data takes a folder, a YAML file or a JSON file" in _message(
        find_splits, tmp_path / "absent"
    )
    (tmp_path / "a.csv").touch()
    assert "neither a folder nor a YAML or JSON file" in _message(find_splits, tmp_path / "a.csv")


def test_a_split_that_lists_no_images_is_refused(tmp_path: Path) -> None:
    write_coco_file(tmp_path / "a.json", {1: "cat"}, [])
    assert "a.json lists no images" in _message(read_split, tmp_path / "a.json", "train")


@pytest.fixture
def two_sets(tmp_path: Path) -> Path:
    """Two COCO sets whose ids clash: category 1 and images 1 and 2 mean different things in each."""
    one, two = ({1: "cat", 2: "dog"}, [(1, 1), (2, 2), (2, 1)]), ({1: "dog", 2: "owl"}, [(1, 1), (2, 2), (5, 2)])
    for name, (names, boxes) in (("one", one), ("two", two)):
        folder = tmp_path / name / "images"
        folder.mkdir(parents=True)
        for split in ("train", "val"):
            write_coco_file(tmp_path / name / "annotations" / f"instances_{split}.json", names, boxes, folder)
    return tmp_path


def test_merged_sets_are_matched_by_class_name_and_renumbered_where_ids_clash(two_sets: Path) -> None:
    (two_sets / "both.yaml").write_text("train: [one, two]\nval: one\n")
    data = read_split(two_sets / "both.yaml", "train")
    assert data.class_names == ("cat", "dog", "owl")
    # cat is 1 and dog 2 in the first set, owl 2 in the second: dog and owl clash, so all are counted from 1
    assert data.category_ids == (1, 2, 3)
    # images 1 and 2 are in both: counted from 1
    assert [record.image_id for record in data.records] == [1, 2, 3, 4, 5]
    places = [(record.path.parent.parent.name, record.path.name) for record in data.records]
    assert places == [("one", "1.png"), ("one", "2.png"), ("two", "1.png"), ("two", "2.png"), ("two", "5.png")]
    # by hand: one has cat | dog, cat; two has dog | owl | owl
    assert [record.labels.tolist() for record in data.records] == [[0], [1, 0], [1], [2], [2]]
    assert data.source.count(" + ") == 1
    # the first set knows no owl, the second no cat: there, absence means nothing
    assert [record.unlabelled for record in data.records] == [(2,), (2,), (0,), (0,), (0,)]
    only = read_split(two_sets / "both.yaml", "train", classes=["owl", "dog"])
    assert [record.unlabelled for record in only.records] == [(0,), (0,), (), (), ()]
    assert [r.image_id for r in read_split(two_sets / "both.yaml", "valid").records] == [1, 2]


def test_ids_are_kept_where_none_clash(tmp_path: Path) -> None:
    write_coco_file(tmp_path / "a" / "a.json", {10: "cat"}, [(7, 10)])
    write_coco_file(tmp_path / "b" / "b.json", {3: "dog", 10: "cat"}, [(9, 3), (8, 10)])
    (tmp_path / "both.yaml").write_text("train: [a/a.json, b/b.json]\n")
    data = read_split(tmp_path / "both.yaml", "train")
    assert data.class_names == ("cat", "dog")
    assert data.category_ids == (10, 3)
    assert [record.image_id for record in data.records] == [7, 8, 9]
    assert _names(data) == {"cat": 2, "dog": 1}
    assert all(record.path.is_file() for record in data.records)


def test_classes_of_a_yaml_file_select_and_order(two_sets: Path) -> None:
    (two_sets / "some.yaml").write_text("classes: [owl, cat]\ntrain: [one, two]\n")
    data = read_split(two_sets / "some.yaml", "train")
    assert data.class_names == ("owl", "cat")
    assert len(data.records) == 5  # images of dogs stay as background
    assert _names(data) == {"owl": 2, "cat": 2}


def test_entries_may_be_json_with_a_folder_of_images(two_sets: Path) -> None:
    text = "train:\n  - {json: one/annotations/instances_val.json, images: two/images}\nval: one\n"
    (two_sets / "a.yaml").write_text(text)
    data = read_split(two_sets / "a.yaml", "train")
    assert {record.path.parent for record in data.records} == {two_sets / "two" / "images"}


@pytest.mark.parametrize("text", ["$MY_SETS/one", "${MY_SETS}/one", "~/one"])
def test_variables_in_paths_are_expanded(
    two_sets: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("MY_SETS", str(two_sets))
    monkeypatch.setenv("HOME", str(two_sets))
    file = tmp_path_factory.mktemp("elsewhere") / "a.yaml"
    file.write_text(f"train: {text}\n")
    assert len(read_split(file, "train").records) == 2


def test_a_variable_that_is_not_set_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_SETS", raising=False)
    (tmp_path / "a.yaml").write_text("train: $MY_SETS/one\n")
    message = _message(read_split, tmp_path / "a.yaml", "train")
    assert "'$MY_SETS/one' uses a variable that is not set" in message
    assert str(tmp_path / "a.yaml") in message


def test_paths_are_relative_to_the_file_and_then_to_the_working_folder(
    two_sets: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path_factory.mktemp("elsewhere") / "a.yaml"
    file.write_text("train: one\n")
    assert "'one' does not exist; tried" in _message(read_split, file, "train")
    monkeypatch.chdir(two_sets)
    assert len(read_split(file, "train").records) == 2
    shutil.copytree(two_sets / "two", file.parent / "one")
    assert len(read_split(file, "train").records) == 3  # the one beside the file comes first


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("", "names no set; expected train:, val: or test:", id="empty"),
        pytest.param("trian: one\n", "unknown key 'trian'; expected train, val, test, classes", id="unknown key"),
        pytest.param("classes: cat\ntrain: one\n", "classes must be a list of class names, got 'cat'", id="one class"),
        pytest.param("train: {images: one}\n", "a set in 'train' is a path or {json:, images:}", id="no json"),
        pytest.param("train: {json: a, x: b}\n", "a set in 'train' is a path or {json:, images:}", id="unknown part"),
        pytest.param("train: absent\n", "'absent' does not exist; tried", id="missing"),
        pytest.param("classes: [cow]\ntrain: one\n", "has no class 'cow'", id="unknown class"),
    ],
)
def test_a_yaml_of_sets_is_refused(two_sets: Path, content: str, message: str) -> None:
    (two_sets / "a.yaml").write_text(content)
    assert message in _message(read_split, two_sets / "a.yaml", "train")


def test_a_yaml_file_that_names_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("train: a.yaml\n")
    assert "a.yaml" in _message(read_split, tmp_path / "a.yaml", "train")


def test_a_split_named_twice_in_a_yaml_file_is_refused(two_sets: Path) -> None:
    """Otherwise the first set would silently be left out."""
    (two_sets / "a.yaml").write_text("train: one\nval: one\nvalid: two\n")
    assert "val" in _message(find_splits, two_sets / "a.yaml")


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "train", "val", "classes"),
    [  # images and boxes as $YOLO_LITE_DATA/README.md counts them
        pytest.param("voc5", (1526, 3836), (191, 451), 5, id="voc5"),
        pytest.param("coco_mini", (343, 2974), (357, 3003), 80, id="coco_mini"),
        pytest.param("raccoon", (160, 173), (40, 44), 1, id="raccoon"),
    ],
)
def test_real_sets_are_recognised(
    shared_data: Path, name: str, train: tuple[int, int], val: tuple[int, int], classes: int
) -> None:
    for data, (images, boxes) in zip(read_train_and_val(images_of(shared_data / name), seed=0)[:2], (train, val)):
        assert len(data.records) == images
        assert sum(len(record.boxes) for record in data.records) + data.dropped == boxes
        assert len(data.class_names) == classes
        assert all(record.path.is_file() for record in data.records)
