"""Folders of classes, in folders and archives."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

from tests.data.class_folders import (
    FORMS,
    TWO,
    count_classes,
    fill,
    names_of,
    pack,
    png,
    refusal,
    write_folders,
    write_tar,
)
from tests.data.layouts import images_of
from yolo_lite.data.class_catalog import read_class_splits
from yolo_lite.data.pipeline.classification import read_record
from yolo_lite.data.splits import read_classes_to_score, read_classes_to_train


@pytest.mark.parametrize("form", FORMS)
def test_images_of_a_split_are_those_in_its_folders(tmp_path: Path, form: str) -> None:
    """Every image has a colour of its own, worked out from its folder and number."""
    path = pack(write_folders(tmp_path / "set", TWO), form)
    splits, notes = read_class_splits(path)
    assert sorted(splits) == ["test", "train", "val"]
    assert notes == []
    for split, data in splits.items():
        assert data.class_names == ("cat", "dog")
        expected = [
            (label, fill(f"{split}/{name}", number))
            for label, name in enumerate(("cat", "dog"))
            for number in range(TWO[f"{split}/{name}"])
        ]
        found = []
        for record in data.records:
            image = read_record(record)
            assert image.shape == (5, 6, 3)
            assert (image == image[0, 0]).all()
            found.append((record.label, tuple(image[0, 0].tolist())))
        assert sorted(found) == sorted(expected)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("inside", [".", "set", "a/b/set"])
def test_folders_around_the_whole_set_are_passed_over(tmp_path: Path, form: str, inside: str) -> None:
    root = write_folders(tmp_path / "set" / inside, TWO)
    path = tmp_path / "set" if form == "folder" else pack(root, form, inside)
    assert count_classes(read_class_splits(path)[0]["train"]) == {"cat": 3, "dog": 2}
    shutil.rmtree(tmp_path / "set" / inside)
    write_folders(tmp_path / "set" / inside, {"cat": 10, "dog": 10})
    path = tmp_path / "set" if form == "folder" else pack(root, form, inside)
    assert sum(len(data.records) for data in read_class_splits(path)[0].values()) == 20


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val", "val2017"])
def test_validation_goes_by_many_names(tmp_path: Path, name: str) -> None:
    root = write_folders(tmp_path, {"train/cat": 1, "train/dog": 1, f"{name}/cat": 1, f"{name}/dog": 2})
    assert count_classes(read_class_splits(root)[0]["val"]) == {"cat": 1, "dog": 2}


def test_a_record_of_a_folder_is_named_by_its_file(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "set", TWO)
    assert names_of(read_class_splits(root)[0]["val"]) == [
        str(root / name) for name in ("val/cat/000.png", "val/dog/000.png", "val/dog/001.png")
    ]


def test_a_record_of_an_archive_is_named_by_its_place_there(tmp_path: Path) -> None:
    """A message about a damaged image must name a member that is there."""
    path = pack(write_folders(tmp_path / "set", TWO), "tar")
    assert names_of(read_class_splits(path)[0]["val"]) == [
        f"{path}/{name}" for name in ("val/cat/000.png", "val/dog/000.png", "val/dog/001.png")
    ]


def test_nothing_is_unpacked(tmp_path: Path) -> None:
    path = pack(write_folders(tmp_path / "set", TWO), "tar.gz")
    shutil.rmtree(tmp_path / "set")
    read_classes_to_train(images_of(path), seed=0)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_hidden_files_and_files_of_other_kinds_are_left_alone(tmp_path: Path, form: str) -> None:
    root = write_folders(tmp_path / "set", {**TWO, "__MACOSX/train/cat": 2, "train/.cache": 1})
    (root / "train" / "cat" / "._000.png").write_bytes(b"of a Mac")
    (root / "train" / "cat" / "notes.txt").write_text("notes")
    (root / "labels.csv").write_text("cat")
    splits, _ = read_class_splits(pack(root, form))
    assert count_classes(splits["train"]) == {"cat": 3, "dog": 2}
    assert splits["train"].class_names == ("cat", "dog")


def test_images_deeper_in_the_folder_of_a_class_belong_to_it(tmp_path: Path) -> None:
    root = write_folders(tmp_path, {"train/cat/young/black": 2, "train/cat": 1, "train/dog": 1})
    assert count_classes(read_class_splits(root)[0]["train"]) == {"cat": 3, "dog": 1}


def test_links_in_an_archive_are_left_alone(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {f"train/{name}/{n}.png": png() for name in ("cat", "dog") for n in range(2)})
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("train/cat/secret.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert count_classes(read_class_splits(path)[0]["train"]) == {"cat": 2, "dog": 2}


@pytest.mark.parametrize("form", ["folder", "tar"])
@pytest.mark.parametrize("split", ["test", "val"])
def test_a_set_to_score_only_needs_no_folder_for_training(tmp_path: Path, form: str, split: str) -> None:
    """Its one folder is a split, not a class."""
    path = pack(write_folders(tmp_path / "set", {f"{split}/cat": 2, f"{split}/dog": 3}), form)
    name, data = read_classes_to_score(images_of(path), seed=0)
    assert name == split
    assert count_classes(data) == {"cat": 2, "dog": 3}
    assert f"{path} has no training split; found {split}" in refusal(read_classes_to_train, images_of(path), seed=0)


def test_folders_of_test_and_val_are_not_taken_for_two_classes(tmp_path: Path) -> None:
    root = write_folders(tmp_path, {f"{split}/{name}": 10 for split in ("test", "val") for name in ("cat", "dog")})
    assert "has no training split" in refusal(read_classes_to_train, images_of(root), seed=0)


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_a_class_folder_without_an_image_is_named(tmp_path: Path, form: str) -> None:
    root = write_folders(tmp_path / "set", {**TWO, "train/owl": 0})
    (root / "train" / "owl" / "notes.txt").write_text("none yet")
    path = pack(root, form)
    message = refusal(read_class_splits, path)
    assert f"{path}/train: the class folder owl holds no image (looked for .jpg" in message


def test_a_class_folder_without_an_image_is_named_where_there_are_no_splits(tmp_path: Path) -> None:
    root = write_folders(tmp_path, {"cat": 9, "dog": 9, "owl": 0})
    assert f"{root}: the class folder owl holds no image" in refusal(read_class_splits, root)


@pytest.mark.parametrize("counts", [{"train/cat": 2, "val/cat": 2}, {"cat": 9}], ids=["with splits", "without"])
def test_one_class_only_is_refused(tmp_path: Path, counts: dict[str, int]) -> None:
    message = refusal(read_classes_to_train, images_of(write_folders(tmp_path, counts)), seed=0)
    assert str(tmp_path) in message
    assert "has one class only (cat); a classifier needs two or more" in message


def test_a_class_missing_from_train_is_named(tmp_path: Path) -> None:
    root = write_folders(tmp_path, {**TWO, "val/owl": 1})
    message = refusal(read_classes_to_train, images_of(root), seed=0)
    assert message == f"{root}/val has images of owl, a class missing from train (cat, dog)"


def test_a_class_missing_from_val_keeps_its_label(tmp_path: Path) -> None:
    root = write_folders(tmp_path, {"train/ape": 1, "train/cat": 1, "train/dog": 1, "val/cat": 1, "val/dog": 2})
    train, val, _ = read_classes_to_train(images_of(root), seed=0)
    assert train.class_names == val.class_names == ("ape", "cat", "dog")
    assert [record.label for record in val.records] == [1, 2, 2]


def test_two_folders_for_one_split_are_refused(tmp_path: Path) -> None:
    root = write_folders(tmp_path, {**TWO, "validation/cat": 1})
    assert f"{root} has two folders for the split 'val': test, train, val, validation" in refusal(
        read_class_splits, root
    )


@pytest.mark.parametrize("place", ["train", "."])
def test_images_outside_the_folders_of_classes_are_named(tmp_path: Path, place: str) -> None:
    root = write_folders(tmp_path, {"train/cat": 1, "train/dog": 1} if place == "train" else {"cat": 9, "dog": 9})
    (root / place / "stray.png").write_bytes(png())
    message = refusal(read_class_splits, root)
    assert f"{root / place} has images outside the class folders" in message
    assert "stray.png" in message


def test_an_empty_validation_folder_is_refused(tmp_path: Path) -> None:
    root = write_folders(tmp_path, {"train/cat": 2, "train/dog": 2, "val": 0})
    assert f"{root / 'val'}: no image of the classes cat, dog to validate on" in refusal(
        read_classes_to_train, images_of(root), seed=0
    )


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_no_image_at_all_is_refused(tmp_path: Path, form: str) -> None:
    root = tmp_path / "set"
    (root / "train" / "cat").mkdir(parents=True)
    path = pack(root, form)
    assert f"{path} holds no images in folders of classes" in refusal(read_class_splits, path)


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert f"{tmp_path}/nothing does not exist; --data takes" in refusal(read_class_splits, tmp_path / "nothing")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(b"PK\3\4")
    message = refusal(read_class_splits, tmp_path / "set.zip")
    assert f"{tmp_path}/set.zip is neither a folder nor a .tar, .tar.gz or .yaml file" in message
