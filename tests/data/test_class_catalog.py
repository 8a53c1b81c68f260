"""Every form that images to classify come in, joined, and real ones."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from tests.data.class_folders import (
    FORMS,
    CocoSet,
    count_classes,
    names_of,
    pack,
    refusal,
    write_folders,
)
from tests.data.layouts import images_of
from yolo_lite.data.class_catalog import read_class_splits
from yolo_lite.data.pipeline.classification import read_record
from yolo_lite.data.splits import read_classes_to_score, read_classes_to_train


@pytest.fixture
def joined(tmp_path: Path) -> Path:
    """Return a folder with a folder of cats and dogs, and a tar of dogs and owls."""
    write_folders(
        tmp_path / "one", {f"{s}/{name}": n for s in ("train", "val", "test") for n, name in ((2, "cat"), (3, "dog"))}
    )
    other = write_folders(
        tmp_path / "other", {f"{s}/{name}": n for s in ("train", "val") for n, name in ((4, "dog"), (5, "owl"))}
    )
    pack(other, "tar").rename(tmp_path / "two.tar")
    shutil.rmtree(other)
    return tmp_path


def _yaml(folder: Path, content: str) -> Path:
    (folder / "a.yaml").write_text(content)
    return folder / "a.yaml"


@pytest.mark.parametrize(
    ("content", "names", "train"),
    [
        pytest.param("train: one", ("cat", "dog"), {"cat": 2, "dog": 3}, id="one"),
        pytest.param("train: [one, two.tar]", ("cat", "dog", "owl"), {"cat": 2, "dog": 7, "owl": 5}, id="two"),
        pytest.param(
            "classes: [owl, cat]\ntrain: [one, two.tar]", ("owl", "cat"), {"owl": 5, "cat": 2}, id="only some classes"
        ),
        pytest.param(
            "train: [one, {data: two.tar, classes: [owl]}]",
            ("cat", "dog", "owl"),
            {"cat": 2, "dog": 3, "owl": 5},
            id="only some of one set",
        ),
        pytest.param("train: [{data: one, split: test}]", ("cat", "dog"), {"cat": 2, "dog": 3}, id="another split"),
    ],
)
def test_sets_are_joined_by_class_name(
    joined: Path, content: str, names: tuple[str, ...], train: dict[str, int]
) -> None:
    splits, _ = read_class_splits(_yaml(joined, content))
    data = splits["train"]
    assert list(splits) == ["train"]
    assert data.class_names == names
    assert count_classes(data) == train
    assert all(data.class_names[record.label] == Path(record.name).parts[-2] for record in data.records)
    if "split: test" in content:
        assert {Path(name).parts[-3] for name in names_of(data)} == {"test"}


def test_a_joined_file_is_trained_on_and_scored(joined: Path) -> None:
    file = _yaml(joined, "train: [one, two.tar]\nvalidation: two.tar\ntest: {data: one, split: test}\n")
    train, val, _ = read_classes_to_train(images_of(file), seed=0)
    assert train.class_names == val.class_names == ("cat", "dog", "owl")
    assert count_classes(val) == {"dog": 4, "owl": 5}
    name, test = read_classes_to_score(images_of(file), seed=0)
    assert (name, count_classes(test)) == ("test", {"cat": 2, "dog": 3})


def test_a_test_set_that_is_not_there_matters_only_where_it_is_scored(joined: Path) -> None:
    file = _yaml(joined, "train: [one, two.tar]\nval: two.tar\ntest: gone.tar\n")
    train, val, _ = read_classes_to_train(images_of(file), seed=0)
    assert (len(train.records), len(val.records)) == (14, 9)
    assert read_classes_to_score(images_of(file), "val", seed=0)[0] == "val"
    for split in (None, "test"):
        assert "'gone.tar' does not exist" in refusal(read_classes_to_score, images_of(file), split, seed=0)


def test_the_test_split_of_a_detection_set_matters_only_where_it_is_scored(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("a", "b"):
            image = tmp_path / "images" / split / f"{name}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 40)).save(image)
            (tmp_path / "labels" / split).mkdir(parents=True, exist_ok=True)
            (tmp_path / "labels" / split / f"{name}.txt").write_text("0 .5 .5 .5 .5\n1 .5 .5 .4 .4\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\ntest: gone\nnames: [no, 010]\n")
    train, val, _ = read_classes_to_train(images_of(tmp_path), seed=0)
    assert train.class_names == val.class_names == ("no", "010")
    assert "'gone' does not exist" in refusal(read_classes_to_score, images_of(tmp_path), seed=0)


def test_classes_of_a_yaml_file_are_the_text_that_is_written(tmp_path: Path) -> None:
    """YAML 1.1 would turn them into True, 8 and 750."""
    write_folders(tmp_path / "one", {"train/yes": 1, "train/010": 2, "train/12:30": 3})
    file = _yaml(tmp_path, "classes: [yes, 010, 12:30]\ntrain: {data: one, classes: [12:30, yes, 010]}\n")
    assert count_classes(read_class_splits(file)[0]["train"]) == {"yes": 1, "010": 2, "12:30": 3}
    file = _yaml(tmp_path, "classes: [yes, []]\ntrain: one\n")
    assert "entry 2 of classes must be a class name, got []" in refusal(read_class_splits, file)


@pytest.mark.parametrize("form", FORMS)
def test_images_of_any_name_are_read_and_the_rest_is_counted(tmp_path: Path, form: str) -> None:
    root = write_folders(
        tmp_path / "set", {f"{s}/{name}": 1 for s in ("train", "val", "test") for name in ("cat", "dog")}
    )
    for name, kind in (("a.jfif", "JPEG"), ("b", "PNG"), ("c.photo", "WEBP")):
        Image.new("RGB", (6, 5)).save(root / "train" / "cat" / name, kind)
    for name in ("d.heic", "e.mp4", "f.dng", "notes.txt", "._a.jfif", "._b.jpg", "Thumbs.db"):
        (root / "train" / "cat" / name).write_bytes(b"\0\5\x16\7 no image")
    (root / "train" / "._cat").write_bytes(b"\0\5\x16\7")
    (root / "__MACOSX" / "train" / "owl").mkdir(parents=True)
    (root / "__MACOSX" / "train" / "owl" / "._a.jpg").write_bytes(b"\0\5\x16\7")
    packed = pack(root, form)
    train, _, notes = read_classes_to_train(images_of(packed), seed=0)
    assert count_classes(train) == {"cat": 4, "dog": 1}
    told = [note for note in notes if "left out" in note]
    assert told == [
        f"left out of {packed}: 1 file that cannot be read as an image (d.heic), 1 video (e.mp4), "
        "1 camera raw file (f.dng)"
    ]
    assert read_classes_to_score(images_of(packed), seed=0)[1].notes == tuple(told)


def test_linked_folders_of_a_class_are_read_and_links_that_lead_back_end(tmp_path: Path) -> None:
    write_folders(tmp_path / "elsewhere", {"cats": 2, "cats/more": 3})
    write_folders(tmp_path / "set", {"train/dog": 4})
    (tmp_path / "set" / "train" / "cat").symlink_to(tmp_path / "elsewhere" / "cats")
    (tmp_path / "elsewhere" / "cats" / "up").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "train" / "dog" / "itself").symlink_to(tmp_path / "set" / "train" / "dog")
    splits, _ = read_class_splits(tmp_path / "set")
    assert count_classes(splits["train"]) == {"cat": 5, "dog": 4}


def test_a_joined_detection_set_is_cut_out(coco_set: CocoSet, tmp_path: Path) -> None:
    root = coco_set({"train": 4, "val": 4})
    file = _yaml(tmp_path, f"train: [{{data: {root.name}, classes: [disc]}}, more]\n")
    write_folders(tmp_path / "more", {"train/square": 2, "train/disc": 1})
    rows = json.loads((root / "annotations" / "instances_train.json").read_text())["annotations"]
    discs = sum(row["category_id"] == 7 for row in rows)
    assert discs
    assert count_classes(read_class_splits(file)[0]["train"]) == {"disc": discs + 1, "square": 2}


def test_joined_sets_without_splits_are_divided_once(joined: Path) -> None:
    """Train, val and test of one unsplit folder must not overlap, with any seed."""
    write_folders(joined / "loose", {"cat": 20, "dog": 20})
    file = _yaml(joined, "train: loose\nval: loose\ntest: loose\n")
    for seed in (0, 1):
        splits, _ = read_class_splits(file, "60/20/20", seed=seed)
        assert [len(splits[split].records) for split in ("train", "val", "test")] == [24, 8, 8]
        assert len({name for data in splits.values() for name in names_of(data)}) == 40


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("", "names no set; expected train:, val: or test:", id="empty"),
        pytest.param("classes: [cat, dog]\n", "names no set; expected train:, val: or test:", id="classes only"),
        pytest.param("trian: one\n", "unknown key 'trian'; expected train, val, test, classes", id="unknown key"),
        pytest.param("train: {images: one}\n", "a set in 'train' is a path or {data:, classes:, split:}", id="no data"),
        pytest.param("train: {data: one, x: 1}\n", "is a path or {data:, classes:, split:}, got", id="unknown part"),
        pytest.param("train: absent\n", "'absent' does not exist; tried", id="missing"),
        pytest.param("test: two.tar\n", "two.tar has no split 'test'; found train, val", id="no such split"),
        pytest.param("train: {data: one, split: x}\n", "one has no split 'x'", id="unknown split"),
        pytest.param("train: {data: one, classes: [cow]}\n", "has no class 'cow'", id="unknown class"),
        pytest.param("train: [\n", "is not valid YAML", id="no YAML"),
        pytest.param("- one\n", "must hold 'key: value' lines, got list", id="a list"),
        pytest.param(
            "classes: cat\ntrain: one\n", "classes must be a list of class names, got 'cat'", id="classes a word"
        ),
        pytest.param("classes: 3\ntrain: one\n", "classes must be a list of class names, got 3", id="classes a number"),
        pytest.param(
            "train: {data: one, classes: cat}\n", "classes must be a list of class names", id="classes of one set"
        ),
        pytest.param("train: one\nval: one\nvalid: one\n", "two entries for the split 'val'", id="a split twice"),
        pytest.param("train: []\n", "a.yaml", id="no set"),
        pytest.param("train: a.yaml\n", "itself", id="itself"),
    ],
)
def test_a_yaml_of_sets_is_refused(joined: Path, content: str, message: str) -> None:
    found = refusal(read_classes_to_train, images_of(_yaml(joined, content)), seed=0)
    assert message in found
    assert "a.yaml" in found or str(joined) in found


def test_a_class_in_no_joined_set_is_named(joined: Path) -> None:
    file = _yaml(joined, "classes: [cat, dog, cow]\ntrain: one\n")
    assert "has no image of the class cow" in refusal(read_classes_to_train, images_of(file), seed=0)


@pytest.mark.shared_data
def test_mnist_is_read(shared_data: Path) -> None:
    """Sizes, and how many of each digit the test set has, as published."""
    splits, _ = read_class_splits(shared_data / "mnist")
    assert {split: len(data.records) for split, data in splits.items()} == {"train": 60_000, "test": 10_000}
    assert splits["train"].class_names == tuple("0123456789")
    counts = count_classes(splits["test"])
    assert [counts[name] for name in "0123456789"] == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert read_record(splits["test"].records[0]).shape == (28, 28, 3)


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "sizes", "classes", "hw"),
    [  # as $YOLO_LITE_DATA/README.md counts them
        pytest.param(
            "cats_dogs/cats_dogs.tar", {"train": 1200, "val": 400, "test": 400}, ("cat", "dog"), None, id="cats_dogs"
        ),
        pytest.param(
            "smiles/smiles.tar.gz", {"train": 10532, "test": 2633}, ("not_smiling", "smiling"), (64, 64), id="smiles"
        ),
    ],
)
def test_real_archives_are_read(
    shared_data: Path, name: str, sizes: dict[str, int], classes: tuple[str, ...], hw: tuple[int, int] | None
) -> None:
    splits, notes = read_class_splits(shared_data / name)
    assert {split: len(data.records) for split, data in splits.items()} == sizes
    assert notes == []
    for data in splits.values():
        assert data.class_names == classes
        assert len(count_classes(data)) == 2
        image = read_record(data.records[0])
        assert image.shape[2] == 3
        assert hw is None or image.shape[:2] == hw
    if "cats_dogs" in name:
        assert all(set(count_classes(data).values()) == {len(data.records) // 2} for data in splits.values())


@pytest.mark.shared_data
def test_a_real_detection_set_is_cut_out(shared_data: Path) -> None:
    """Boxes of the annotation file with both sides of at least 8 pixels; this set has no crowds."""
    content = json.loads((next((shared_data / "voc5" / "annotations").glob("*val*.json"))).read_text())
    large = [row for row in content["annotations"] if min(row["bbox"][2:]) >= 8]
    assert not any(row.get("iscrowd") for row in content["annotations"])
    names = {row["id"]: row["name"] for row in content["categories"]}
    splits, _ = read_class_splits(shared_data / "voc5")
    assert count_classes(splits["val"]) == dict(Counter(names[row["category_id"]] for row in large))
