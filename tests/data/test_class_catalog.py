"""Every form that pictures to classify come in, how they are divided, and what is refused."""

from __future__ import annotations

import dataclasses
import gzip
import io
import json
import pickle
import shutil
import struct
import tarfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from tests.data.layouts import images_of
from yolo_lite.data.class_catalog import read_class_splits
from yolo_lite.data.classes import refuse_unknown_classes, select_classes
from yolo_lite.data.crops import MIN_CROP, cut_objects
from yolo_lite.data.divide import parse_shares
from yolo_lite.data.fingerprint import fingerprint
from yolo_lite.data.formats import archive as unpack
from yolo_lite.data.pipeline.classification import read_record
from yolo_lite.data.splits import read_classes_to_score, read_classes_to_train
from yolo_lite.errors import InputError
from yolo_lite.structures.datasets import Classes, ClassificationSet, ClassRecord, DetectionSet
from yolo_lite.structures.records import ImageRecord

Pixels = npt.NDArray[np.uint8]
CocoSet = Callable[..., Path]
TWO = {"train/cat": 3, "train/dog": 2, "val/cat": 1, "val/dog": 2, "test/cat": 2, "test/dog": 1}
FORMS = ("folder", "tar", "tar.gz", "tgz")


def _fill(folder: str, number: int) -> tuple[int, int, int]:
    """Return a colour that tells one picture of `_folders` from every other."""
    return sum(folder.encode()) % 251, len(folder), number


def _folders(root: Path, counts: Mapping[str, int]) -> Path:
    """Write so many pictures of 6 x 5 pixels, each of one colour, into every folder."""
    for folder, count in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.new("RGB", (6, 5), _fill(folder, number)).save(root / folder / f"{number:03d}.png")
    return root


def _pack(root: Path, form: str, inside: str = ".") -> Path:
    """Return the folder itself, or an archive with its content; `inside` is the folder that the archive has around it."""
    if form == "folder":
        return root
    file = root.parent / f"packed.{form}"
    with tarfile.open(file, "w" if form == "tar" else "w:gz") as archive:
        archive.add(root, inside)
    return file


def _tar(file: Path, members: Mapping[str, bytes]) -> Path:
    with tarfile.open(file, "w") as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return file


def _png(value: int = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 5), (value, value, value)).save(buffer, "PNG")
    return buffer.getvalue()


def _counts(data: ClassificationSet) -> dict[str, int]:
    return dict(Counter(data.class_names[record.label] for record in data.records))


def _names(data: ClassificationSet) -> list[str]:
    return [record.name for record in data.records]


def _message(call: Callable[..., object], *arguments: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# Folders and archives


@pytest.mark.parametrize("form", FORMS)
def test_pictures_of_a_split_are_those_in_its_folders(tmp_path: Path, form: str) -> None:
    """Every picture has a colour of its own, worked out from its folder and number."""
    path = _pack(_folders(tmp_path / "set", TWO), form)
    splits, notes = read_class_splits(path)
    assert sorted(splits) == ["test", "train", "val"]
    assert notes == []
    for split, data in splits.items():
        assert data.class_names == ("cat", "dog")
        expected = [
            (label, _fill(f"{split}/{name}", number))
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
    root = _folders(tmp_path / "set" / inside, TWO)
    path = tmp_path / "set" if form == "folder" else _pack(root, form, inside)
    assert _counts(read_class_splits(path)[0]["train"]) == {"cat": 3, "dog": 2}
    shutil.rmtree(tmp_path / "set" / inside)
    _folders(tmp_path / "set" / inside, {"cat": 10, "dog": 10})
    path = tmp_path / "set" if form == "folder" else _pack(root, form, inside)
    assert sum(len(data.records) for data in read_class_splits(path)[0].values()) == 20


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val", "val2017"])
def test_validation_goes_by_many_names(tmp_path: Path, name: str) -> None:
    root = _folders(tmp_path, {"train/cat": 1, "train/dog": 1, f"{name}/cat": 1, f"{name}/dog": 2})
    assert _counts(read_class_splits(root)[0]["val"]) == {"cat": 1, "dog": 2}


def test_a_record_of_a_folder_is_named_by_its_file(tmp_path: Path) -> None:
    root = _folders(tmp_path / "set", TWO)
    assert _names(read_class_splits(root)[0]["val"]) == [
        str(root / name) for name in ("val/cat/000.png", "val/dog/000.png", "val/dog/001.png")
    ]


def test_a_record_of_an_archive_is_named_by_its_place_there(tmp_path: Path) -> None:
    """A message about a damaged picture must name a member that is there."""
    path = _pack(_folders(tmp_path / "set", TWO), "tar")
    assert _names(read_class_splits(path)[0]["val"]) == [
        f"{path}/{name}" for name in ("val/cat/000.png", "val/dog/000.png", "val/dog/001.png")
    ]


def test_nothing_is_unpacked(tmp_path: Path) -> None:
    path = _pack(_folders(tmp_path / "set", TWO), "tar.gz")
    shutil.rmtree(tmp_path / "set")
    read_classes_to_train(images_of(path), seed=0)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_hidden_files_and_files_of_other_kinds_are_left_alone(tmp_path: Path, form: str) -> None:
    root = _folders(tmp_path / "set", {**TWO, "__MACOSX/train/cat": 2, "train/.cache": 1})
    (root / "train" / "cat" / "._000.png").write_bytes(b"of a Mac")
    (root / "train" / "cat" / "notes.txt").write_text("notes")
    (root / "labels.csv").write_text("cat")
    splits, _ = read_class_splits(_pack(root, form))
    assert _counts(splits["train"]) == {"cat": 3, "dog": 2}
    assert splits["train"].class_names == ("cat", "dog")


def test_pictures_deeper_in_the_folder_of_a_class_belong_to_it(tmp_path: Path) -> None:
    root = _folders(tmp_path, {"train/cat/young/black": 2, "train/cat": 1, "train/dog": 1})
    assert _counts(read_class_splits(root)[0]["train"]) == {"cat": 3, "dog": 1}


def test_links_in_an_archive_are_left_alone(tmp_path: Path) -> None:
    path = _tar(tmp_path / "a.tar", {f"train/{name}/{n}.png": _png() for name in ("cat", "dog") for n in range(2)})
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("train/cat/secret.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    assert _counts(read_class_splits(path)[0]["train"]) == {"cat": 2, "dog": 2}


@pytest.mark.parametrize("form", ["folder", "tar"])
@pytest.mark.parametrize("split", ["test", "val"])
def test_a_set_to_score_only_needs_no_folder_for_training(tmp_path: Path, form: str, split: str) -> None:
    """Its one folder is a split, not a class."""
    path = _pack(_folders(tmp_path / "set", {f"{split}/cat": 2, f"{split}/dog": 3}), form)
    name, data = read_classes_to_score(images_of(path), seed=0)
    assert name == split
    assert _counts(data) == {"cat": 2, "dog": 3}
    assert f"{path} has no training split; found {split}" in _message(read_classes_to_train, images_of(path), seed=0)


def test_folders_of_test_and_val_are_not_taken_for_two_classes(tmp_path: Path) -> None:
    root = _folders(tmp_path, {f"{split}/{name}": 10 for split in ("test", "val") for name in ("cat", "dog")})
    assert "has no training split" in _message(read_classes_to_train, images_of(root), seed=0)


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_a_class_folder_without_a_picture_is_named(tmp_path: Path, form: str) -> None:
    root = _folders(tmp_path / "set", {**TWO, "train/owl": 0})
    (root / "train" / "owl" / "notes.txt").write_text("none yet")
    path = _pack(root, form)
    message = _message(read_class_splits, path)
    assert f"{path}/train: the class folder owl holds no picture (looked for .jpg" in message


def test_a_class_folder_without_a_picture_is_named_where_there_are_no_splits(tmp_path: Path) -> None:
    root = _folders(tmp_path, {"cat": 9, "dog": 9, "owl": 0})
    assert f"{root}: the class folder owl holds no picture" in _message(read_class_splits, root)


@pytest.mark.parametrize("counts", [{"train/cat": 2, "val/cat": 2}, {"cat": 9}], ids=["with splits", "without"])
def test_one_class_only_is_refused(tmp_path: Path, counts: dict[str, int]) -> None:
    message = _message(read_classes_to_train, images_of(_folders(tmp_path, counts)), seed=0)
    assert str(tmp_path) in message
    assert "has one class only (cat); to classify takes two or more" in message


def test_a_class_missing_from_train_is_named(tmp_path: Path) -> None:
    root = _folders(tmp_path, {**TWO, "val/owl": 1})
    message = _message(read_classes_to_train, images_of(root), seed=0)
    assert message == f"{root}/val has pictures of owl, a class missing from train (cat, dog)"


def test_a_class_missing_from_val_keeps_its_label(tmp_path: Path) -> None:
    root = _folders(tmp_path, {"train/ape": 1, "train/cat": 1, "train/dog": 1, "val/cat": 1, "val/dog": 2})
    train, val, _ = read_classes_to_train(images_of(root), seed=0)
    assert train.class_names == val.class_names == ("ape", "cat", "dog")
    assert [record.label for record in val.records] == [1, 2, 2]


def test_two_folders_for_one_split_are_refused(tmp_path: Path) -> None:
    root = _folders(tmp_path, {**TWO, "validation/cat": 1})
    assert f"{root} has two folders for the split 'val': test, train, val, validation" in _message(
        read_class_splits, root
    )


@pytest.mark.parametrize("place", ["train", "."])
def test_pictures_outside_the_folders_of_classes_are_named(tmp_path: Path, place: str) -> None:
    root = _folders(tmp_path, {"train/cat": 1, "train/dog": 1} if place == "train" else {"cat": 9, "dog": 9})
    (root / place / "stray.png").write_bytes(_png())
    message = _message(read_class_splits, root)
    assert f"{root / place} has pictures outside the folders of classes" in message
    assert "stray.png" in message


def test_an_empty_validation_folder_is_refused(tmp_path: Path) -> None:
    root = _folders(tmp_path, {"train/cat": 2, "train/dog": 2, "val": 0})
    assert f"{root / 'val'}: no picture of the classes cat, dog to validate on" in _message(
        read_classes_to_train, images_of(root), seed=0
    )


@pytest.mark.parametrize("form", ["folder", "tar"])
def test_no_picture_at_all_is_refused(tmp_path: Path, form: str) -> None:
    root = tmp_path / "set"
    (root / "train" / "cat").mkdir(parents=True)
    path = _pack(root, form)
    assert f"{path} holds no pictures in folders of classes" in _message(read_class_splits, path)


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert f"{tmp_path}/nothing does not exist; --data takes" in _message(read_class_splits, tmp_path / "nothing")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(b"PK\3\4")
    message = _message(read_class_splits, tmp_path / "set.zip")
    assert f"{tmp_path}/set.zip is neither a folder nor a .tar, .tar.gz or .yaml file" in message


# Archives that are damaged or mean harm


@pytest.mark.parametrize("name", ["../x.png", "/x.png", "train/../../x.png", "train/cat/.."])
def test_an_archive_with_a_path_that_climbs_out_is_refused(tmp_path: Path, name: str) -> None:
    good = {f"train/{kind}/1.png": _png() for kind in ("cat", "dog")}
    path = _tar(tmp_path / "a.tar", {**good, name: _png()})
    with tarfile.open(path) as archive:
        assert name in archive.getnames()  # as it is, not tidied by the writer
    assert f"{path} holds {name!r}, a path that leads out of the archive" in _message(read_class_splits, path)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_a_tar_gz_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    """Of noise, so that the packed file ends with pictures and not with tar's zeros."""
    generator = np.random.default_rng(0)
    members = {
        f"train/{name}/{n}.png": generator.bytes(3000) for name in ("cat", "dog") for n in range(5)
    }  # never decoded
    whole = _tar(tmp_path / "whole.tar", members).read_bytes()
    packed = gzip.compress(whole)
    path = tmp_path / "a.tar.gz"
    path.write_bytes(packed)
    assert len(read_class_splits(path)[0]["train"].records) == 10
    path.write_bytes(packed[: int(len(packed) * share)])
    assert f"{path} is damaged, cut short or no tar file" in _message(read_class_splits, path)


@pytest.mark.parametrize(
    "size",
    [
        pytest.param(0, id="empty"),
        pytest.param(300, id="in the first header"),
        pytest.param(3 * 1024 + 700, id="in a picture"),
        pytest.param(3 * 1024 + 200, id="in a later header"),
    ],
)
def test_a_tar_cut_short_is_refused(tmp_path: Path, size: int) -> None:
    """Each member takes 1024 bytes: a header of 512, and a picture of under 512 filled up with zeros."""
    assert len(_png()) <= 512
    path = _tar(tmp_path / "a.tar", {f"train/{name}/{n}.png": _png() for name in ("cat", "dog") for n in range(3)})
    path.write_bytes(path.read_bytes()[:size])
    assert f"{path} is damaged, cut short or no tar file" in _message(read_class_splits, path)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz"])
def test_what_only_has_the_name_of_an_archive_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"<html>404 not found</html>" * 100)
    message = _message(read_class_splits, tmp_path / name)
    assert f"{tmp_path / name} is damaged, cut short or no tar file" in message


def test_an_archive_too_large_for_the_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _tar(tmp_path / "a.tar", {f"train/{name}/1.png": _png() for name in ("cat", "dog")})
    monkeypatch.setattr(unpack, "MOST", path.stat().st_size)
    assert len(read_class_splits(path)[0]["train"].records) == 2
    monkeypatch.setattr(unpack, "MOST", 2 * len(_png()) - 1)
    assert "unpack it and name the folder" in _message(read_class_splits, path)


# Division by the seed


@pytest.mark.parametrize(
    ("shares", "expected"),
    [  # of 40 cats and 20 dogs
        pytest.param("70/15/15", {"train": (28, 14), "val": (6, 3), "test": (6, 3)}, id="70/15/15"),
        pytest.param("80/20", {"train": (32, 16), "val": (8, 4)}, id="80/20"),
        pytest.param("50/25/25", {"train": (20, 10), "val": (10, 5), "test": (10, 5)}, id="50/25/25"),
        pytest.param("98/1/1", {"train": (38, 18), "val": (1, 1), "test": (1, 1)}, id="at least one of each"),
    ],
)
def test_a_folder_of_classes_is_divided_class_by_class(
    tmp_path: Path, shares: str, expected: dict[str, tuple[int, int]]
) -> None:
    root = _folders(tmp_path, {"cat": 40, "dog": 20})
    splits, notes = read_class_splits(root, shares)
    assert {split: tuple(_counts(data).values()) for split, data in splits.items()} == expected
    names = [name for data in splits.values() for name in _names(data)]
    assert len(set(names)) == len(names) == 60
    assert notes == [f"{root} has no splits: {shares} of each class by seed 0"]


def test_the_division_depends_on_the_seed_alone(tmp_path: Path) -> None:
    root = _folders(tmp_path, {"cat": 20, "dog": 20})
    drawn = [frozenset(_names(read_class_splits(root, seed=seed)[0]["test"])) for seed in (0, 0, 1, 2)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3


def test_an_archive_is_divided_as_its_folder_is(tmp_path: Path) -> None:
    root = _folders(tmp_path / "set", {"cat": 20, "dog": 20})
    one, other = (read_class_splits(_pack(root, form))[0] for form in ("folder", "tar"))
    for split in ("train", "val", "test"):
        assert [Path(name).parts[-2:] for name in _names(one[split])] == [
            Path(name).parts[-2:] for name in _names(other[split])
        ]


def test_a_class_of_too_few_pictures_to_be_divided_is_named(tmp_path: Path) -> None:
    root = _folders(tmp_path, {"cat": 20, "dog": 2})
    assert f"{root}: the class dog has 2 pictures, too few to split in 3" in _message(read_class_splits, root)


def test_a_class_that_would_leave_nothing_to_train_on_is_named(tmp_path: Path) -> None:
    """Of 3 pictures 50 % are 2 (1.5 rounded to even), and 49 % are 1."""
    root = _folders(tmp_path, {"cat": 100, "dog": 3})
    assert f"{root}: the class dog has too few pictures to be split" in _message(read_class_splits, root, "1/50/49")


@pytest.mark.parametrize(
    ("text", "shares"),
    [("70/15/15", (0.7, 0.15, 0.15)), ("80/20", (0.8, 0.2)), ("1/1/98", (0.01, 0.01, 0.98)), ("50 / 50", (0.5, 0.5))],
)
def test_shares_are_read_as_percentages(text: str, shares: tuple[float, ...]) -> None:
    assert parse_shares(text) == pytest.approx(shares)


@pytest.mark.parametrize(
    "text",
    ["", "/", "70", "100", "100/0", "70/15", "70/15/16", "70/15/10/5", "0.7/0.3", "-10/110", "a/b", "70,15,15", "²/98"],
)
def test_a_split_that_is_no_percentages_is_refused(text: str) -> None:
    message = _message(parse_shares, text)
    assert message == f"--split takes percentages of train, val and test such as 70/15/15, got {text!r}"


def test_a_bad_split_is_refused_where_data_is_read(tmp_path: Path) -> None:
    root = _folders(tmp_path, {"cat": 9, "dog": 9})
    assert "--split takes percentages" in _message(read_classes_to_train, images_of(root, shares="70/15"), seed=0)


# Training, validation and scoring


def _train_only(root: Path) -> Path:
    return _folders(root, {"train/cat": 40, "train/dog": 20, "train/owl": 30})


def test_without_a_validation_split_a_tenth_of_each_class_is_set_aside(tmp_path: Path) -> None:
    root = _train_only(tmp_path)
    held = []
    for seed in (0, 0, 1):
        train, val, notes = read_classes_to_train(images_of(root), seed=seed)
        assert _counts(train) == {"cat": 36, "dog": 18, "owl": 27}
        assert _counts(val) == {"cat": 4, "dog": 2, "owl": 3}
        assert not set(_names(train)) & set(_names(val))
        assert notes[0] == f"val: no such split, so 9 training pictures are set aside by seed {seed}"
        held.append(_names(val))
    assert held[0] == held[1] != held[2]


def test_the_notes_say_what_is_trained_and_validated_on(tmp_path: Path) -> None:
    root = _folders(tmp_path, TWO)
    assert read_classes_to_train(images_of(root), seed=0)[2] == [
        f"train: 5 pictures, 2 classes: cat (3), dog (2) ({root}/train)",
        f"val: 3 pictures, 2 classes: cat (1), dog (2) ({root}/val)",
    ]


def test_a_test_split_is_left_alone_in_training(tmp_path: Path) -> None:
    train, val, _ = read_classes_to_train(images_of(_folders(tmp_path, TWO)), seed=0)
    assert not [name for name in _names(train) + _names(val) if "/test/" in name]


@pytest.mark.parametrize("split", [None, "val", "validation"])
def test_the_pictures_set_aside_in_training_are_those_that_are_scored(tmp_path: Path, split: str | None) -> None:
    root = _train_only(tmp_path)
    for seed in (0, 1):
        for classes in (None, ["owl", "cat"]):
            _, val, _ = read_classes_to_train(images_of(root, classes or ()), seed=seed)
            name, scored = read_classes_to_score(images_of(root, classes or ()), split, seed=seed)
            assert name == "val"
            assert _names(scored) == _names(val)
            assert scored.class_names == val.class_names


def test_no_training_picture_is_scored_when_only_some_classes_are_asked_for(tmp_path: Path) -> None:
    """Train on three classes, score two of them: what is scored must still be what was set aside."""
    root = _train_only(tmp_path)
    train, _, _ = read_classes_to_train(images_of(root), seed=0)
    _, scored = read_classes_to_score(images_of(root, ["cat", "dog"]), seed=0)
    assert not set(_names(train)) & set(_names(scored))


def test_a_class_that_is_not_asked_for_may_have_one_picture(tmp_path: Path) -> None:
    root = _folders(tmp_path, {"train/cat": 10, "train/dog": 10, "train/owl": 1})
    train, val, _ = read_classes_to_train(images_of(root, ["cat", "dog"]), seed=0)
    assert (_counts(train), _counts(val)) == ({"cat": 9, "dog": 9}, {"cat": 1, "dog": 1})
    assert _names(read_classes_to_score(images_of(root, ["cat", "dog"]), seed=0)[1]) == _names(val)


def test_pictures_set_aside_do_not_depend_on_how_much_is_trained_on(tmp_path: Path) -> None:
    root = _train_only(tmp_path)
    _, whole, _ = read_classes_to_train(images_of(root), seed=0)
    parts: list[dict[str, Any]] = [{"fraction": 0.5}, {"per_class": 3}]
    for options in parts:
        assert _names(read_classes_to_train(images_of(root, **options), seed=0)[1]) == _names(whole)


@pytest.mark.parametrize(
    ("present", "split", "expected"),
    [
        pytest.param(("train", "val", "test"), None, "test", id="test comes first"),
        pytest.param(("train", "val"), None, "val", id="then val"),
        pytest.param(("train", "test"), None, "test", id="test without val"),
        pytest.param(("train", "val", "test"), "val", "val", id="val asked for"),
        pytest.param(("train", "val", "test"), "validation", "val", id="by another name"),
        pytest.param(("train", "val", "test"), "train", "train", id="train asked for"),
    ],
)
def test_which_split_is_scored(tmp_path: Path, present: tuple[str, ...], split: str | None, expected: str) -> None:
    root = _folders(tmp_path, {f"{one}/{name}": 2 for one in present for name in ("cat", "dog")})
    name, data = read_classes_to_score(images_of(root), split, seed=0)
    assert name == expected
    assert {Path(one).parts[-3] for one in _names(data)} == {expected}


def test_a_split_that_is_not_there_is_refused(tmp_path: Path) -> None:
    root = _folders(tmp_path, {"train/cat": 2, "train/dog": 2})
    assert f"{root} has no split 'test'; found train" in _message(
        read_classes_to_score, images_of(root), "test", seed=0
    )


@pytest.mark.parametrize(
    ("fraction", "per_class", "counts"),
    [  # of 40 cats, 20 dogs and 10 owls
        pytest.param(1.0, 0, (40, 20, 10), id="all"),
        pytest.param(0.5, 0, (20, 10, 5), id="half of each class"),
        pytest.param(0.001, 0, (1, 1, 1), id="at least one of each"),
        pytest.param(1.0, 15, (15, 15, 10), id="at most so many"),
        pytest.param(0.5, 8, (8, 8, 5), id="both"),
        pytest.param(1.0, 1, (1, 1, 1), id="one of each"),
    ],
)
def test_a_part_of_training_is_drawn_class_by_class(
    tmp_path: Path, fraction: float, per_class: int, counts: tuple[int, int, int]
) -> None:
    sizes = {"cat": 40, "dog": 20, "owl": 10}
    root = _folders(tmp_path, {**{f"train/{k}": v for k, v in sizes.items()}, "val/cat": 1, "val/dog": 1, "val/owl": 3})
    how: dict[str, Any] = {"fraction": fraction, "per_class": per_class}
    train, val, notes = read_classes_to_train(images_of(root, **how), seed=5)
    assert tuple(_counts(train).values()) == counts
    assert _counts(val) == {"cat": 1, "dog": 1, "owl": 3}
    assert len(set(_names(train))) == sum(counts)
    assert _names(read_classes_to_train(images_of(root, **how), seed=5)[0]) == _names(train)
    part = sum(counts) < 70
    assert ("train: a part is drawn by seed 5" in notes) == part
    assert (_names(read_classes_to_train(images_of(root, **how), seed=6)[0]) != _names(train)) == part


@pytest.mark.parametrize("fraction", [0, -0.5, 1.5, float("nan")])
def test_a_fraction_outside_its_range_is_refused(tmp_path: Path, fraction: float) -> None:
    message = _message(read_classes_to_train, images_of(_folders(tmp_path, TWO), fraction=fraction), seed=0)
    assert f"--fraction must be above 0 and at most 1, got {fraction}" in message


def test_a_negative_count_per_class_is_refused(tmp_path: Path) -> None:
    """As the end of a slice it would leave out the last picture of each class, unsaid."""
    assert "--per-class" in _message(read_classes_to_train, images_of(_folders(tmp_path, TWO), per_class=-1), seed=0)


# Classes


def test_only_the_classes_asked_for_are_kept_in_their_order(tmp_path: Path) -> None:
    root = _folders(
        tmp_path, {f"{s}/{name}": n for s in ("train", "val") for n, name in enumerate(("ape", "cat", "dog"), 2)}
    )
    train, val, _ = read_classes_to_train(images_of(root, ["dog", "ape"]), seed=0)
    for data in (train, val):
        assert data.class_names == ("dog", "ape")
        assert _counts(data) == {"dog": 4, "ape": 2}
        assert all(data.class_names[record.label] == Path(record.name).parts[-2] for record in data.records)
    assert _counts(read_classes_to_score(images_of(root, ["cat"]), "val", seed=0)[1]) == {"cat": 3}


def _set(*labels: int, names: tuple[str, ...] = ("cat", "dog", "owl")) -> ClassificationSet:
    pixels = [np.full((4, 4), number, np.uint8) for number in range(len(labels))]
    records = tuple(ClassRecord(f"{n}.png", image, label) for n, (image, label) in enumerate(zip(pixels, labels)))
    return ClassificationSet(records, names, "here")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        pytest.param(["cta"], "here has no class 'cta'; did you mean 'cat'?", id="misspelt"),
        pytest.param(["zebra"], "here has no class 'zebra'; known: cat, dog, owl", id="nothing near"),
        pytest.param(["cat", "cat"], "--classes names a class twice: cat, cat", id="twice"),
    ],
)
def test_select_classes_refuses(classes: list[str], message: str) -> None:
    assert _message(select_classes, _set(0, 1, 2), classes) == message


def test_align_classes_matches_by_name() -> None:
    data = _set(0, 1, 2, 0)
    aligned = data.with_classes(Classes.numbered(("owl", "cow", "cat")))
    assert aligned.class_names == ("owl", "cow", "cat")
    assert [(record.name, record.label) for record in aligned.records] == [("0.png", 2), ("2.png", 0), ("3.png", 2)]
    assert [record.label for record in data.records] == [0, 1, 2, 0]  # not modified
    assert "here has pictures of dog, a class missing from train (owl, cow, cat)" in _message(
        refuse_unknown_classes, data, ("owl", "cow", "cat")
    )


def test_a_class_without_pictures_need_not_be_known() -> None:
    refuse_unknown_classes(_set(0, 2), ("owl", "cat"))
    aligned = _set(0, 2).with_classes(Classes.numbered(("owl", "cat")))
    assert [record.label for record in aligned.records] == [1, 0]


# MNIST's idx files


def _idx(values: npt.NDArray[np.uint8]) -> bytes:
    """Write the format as its page describes it: 0, 0, 8 for unsigned bytes, the dimensions, their sizes, the values."""
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def _digits(count: int, seed: int) -> tuple[Pixels, Pixels]:
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (count, 5, 7)).astype(np.uint8)
    return images, (np.arange(count) % 3).astype(np.uint8)


def _mnist(root: Path, packed: bool = True, dash: str = "-") -> Path:
    """Write 30 training and 6 test pictures of 5 x 7 pixels, labels 0, 1, 2 in turn."""
    root.mkdir(parents=True, exist_ok=True)
    for name, count, seed in (("train", 30, 0), ("t10k", 6, 1)):
        images, labels = _digits(count, seed)
        for kind, values in ((f"images{dash}idx3", images), (f"labels{dash}idx1", labels)):
            content = _idx(values)
            file = root / f"{name}-{kind}-ubyte{'.gz' if packed else ''}"
            file.write_bytes(gzip.compress(content) if packed else content)
    return root


@pytest.mark.parametrize("form", ["folder", "tar", "tar.gz"])
@pytest.mark.parametrize(("packed", "dash"), [(True, "-"), (False, "-"), (False, ".")], ids=["gz", "plain", "dotted"])
def test_idx_files_return_the_pixels_that_were_written(tmp_path: Path, form: str, packed: bool, dash: str) -> None:
    path = _pack(_mnist(tmp_path / "mnist", packed, dash), form)
    splits, _ = read_class_splits(path)
    assert sorted(splits) == ["test", "train"]
    for split, count, seed in (("train", 30, 0), ("test", 6, 1)):
        images, labels = _digits(count, seed)
        data = splits[split]
        assert data.class_names == ("0", "1", "2")
        assert [record.label for record in data.records] == labels.tolist()
        for record, image in zip(data.records, images):
            np.testing.assert_array_equal(read_record(record), np.stack([image] * 3, -1))


def test_a_tenth_of_idx_training_is_set_aside(tmp_path: Path) -> None:
    train, val, _ = read_classes_to_train(images_of(_mnist(tmp_path)), seed=0)
    assert _counts(train) == {"0": 9, "1": 9, "2": 9}
    assert _counts(val) == {"0": 1, "1": 1, "2": 1}
    assert read_classes_to_score(images_of(tmp_path), seed=0)[0] == "test"


_GOOD = _idx(np.zeros((30, 5, 7), np.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "is no idx file of bytes in 3 dimensions", id="empty"),
        pytest.param(b"\0\0\x0d\3" + _GOOD[4:], "is no idx file of bytes in 3 dimensions", id="of floats"),
        pytest.param(_idx(np.zeros(30, np.uint8)), "is no idx file of bytes in 3 dimensions", id="labels for images"),
        pytest.param(b"\1" + _GOOD[1:], "is no idx file of bytes in 3 dimensions", id="wrong magic"),
        pytest.param(_GOOD[:9], "is no idx file of bytes in 3 dimensions", id="header cut short"),
        pytest.param(_GOOD[:-1], "should hold 1,050 values, but holds 1,049: cut short?", id="a byte short"),
        pytest.param(_GOOD + b"\0", "should hold 1,050 values, but holds 1,051", id="a byte more"),
        pytest.param(
            _GOOD[:4] + struct.pack(">3I", 1 << 31, 1 << 31, 4), "values, but holds 0", id="sizes beyond 64 bits"
        ),
        pytest.param(_GOOD[:4] + struct.pack(">3I", 30, 0, 7), "train-images", id="pictures of no height"),
    ],
)
@pytest.mark.parametrize("packed", [True, False], ids=["gz", "plain"])
def test_a_wrong_idx_file_is_refused(tmp_path: Path, content: bytes, message: str, packed: bool) -> None:
    root = _mnist(tmp_path, packed)
    file = root / f"train-images-idx3-ubyte{'.gz' if packed else ''}"
    file.write_bytes(gzip.compress(content) if packed else content)
    found = _message(read_class_splits, root)
    assert str(file) in found
    assert message in found


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_packed_idx_file_cut_short_is_refused(tmp_path: Path, share: float) -> None:
    file = _mnist(tmp_path) / "train-images-idx3-ubyte.gz"
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    message = _message(read_class_splits, tmp_path)
    assert str(file) in message


def test_a_packed_idx_file_that_is_not_packed_is_refused(tmp_path: Path) -> None:
    file = _mnist(tmp_path) / "train-images-idx3-ubyte.gz"
    file.write_bytes(b"<html>404</html>")
    assert f"{file} is damaged or cut short" in _message(read_class_splits, tmp_path)


def test_labels_that_do_not_match_the_pictures_in_count_are_refused(tmp_path: Path) -> None:
    file = _mnist(tmp_path, packed=False) / "train-labels-idx1-ubyte"
    file.write_bytes(_idx(np.zeros(29, np.uint8)))
    assert _message(read_class_splits, tmp_path) == (
        f"{tmp_path}: train-images-idx3-ubyte has 30 pictures, but 29 labels"
    )


@pytest.mark.parametrize(("gone", "left"), [("images-idx3", "labels-idx1"), ("labels-idx1", "images-idx3")])
def test_idx_files_without_their_other_half_are_refused(tmp_path: Path, gone: str, left: str) -> None:
    (_mnist(tmp_path) / f"train-{gone}-ubyte.gz").unlink()
    message = _message(read_class_splits, tmp_path)
    assert message == f"{tmp_path} has train-{left}-ubyte.gz but no {gone[:6]} that go with it"


def test_test_pictures_alone_can_be_scored_but_not_trained_on(tmp_path: Path) -> None:
    for file in _mnist(tmp_path).glob("train*"):
        file.unlink()
    assert len(read_classes_to_score(images_of(tmp_path), seed=0)[1].records) == 6
    assert f"{tmp_path} has no training split; found test" in _message(
        read_classes_to_train, images_of(tmp_path), seed=0
    )


# CIFAR-10


def _cifar(root: Path) -> Path:
    """Write two batches of 15 and a test batch of 10; labels 0..9 in turn."""
    root.mkdir(parents=True, exist_ok=True)
    for name, count, seed in (("data_batch_1", 15, 1), ("data_batch_2", 15, 2), ("test_batch", 10, 3)):
        content = b""
        for number, image in enumerate(_colours(count, seed)):  # a label, then all of red, of green, of blue
            content += bytes([number % 10]) + b"".join(image[:, :, channel].tobytes() for channel in range(3))
        (root / f"{name}.bin").write_bytes(content)
    return root


def _colours(count: int, seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3)).astype(np.uint8)


@pytest.mark.parametrize("form", ["folder", "tar.gz"])
def test_cifars_names_may_have_a_byte_order_mark_but_no_other_encoding(tmp_path: Path, form: str) -> None:
    names = ["Flügel", *(f"class {number}" for number in range(1, 10))]
    root = _cifar(tmp_path / "good")
    (root / "batches.meta.txt").write_text("\n".join(names), encoding="utf-8-sig")
    assert read_class_splits(_pack(root, form, "good"))[0]["train"].class_names[0] == "Flügel"
    root = _cifar(tmp_path / "bad")
    (root / "batches.meta.txt").write_text("\n".join(names[::-1]), encoding="latin-1")
    with pytest.raises(InputError, match=r"batches\.meta\.txt: line 10 is not UTF-8 text"):
        read_class_splits(_pack(root, form, "bad"))


@pytest.mark.parametrize("form", ["folder", "tar.gz"])
@pytest.mark.parametrize("named", [True, False])
def test_cifar_batches_return_the_pixels_that_were_written(tmp_path: Path, form: str, named: bool) -> None:
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    root = _cifar(tmp_path / "cifar-10-batches-bin")
    if named:
        (root / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    splits, _ = read_class_splits(_pack(root, form, "cifar-10-batches-bin"))
    train = np.concatenate([_colours(15, 1), _colours(15, 2)])
    for split, images, labels in (
        ("train", train, [*range(10), *range(5)] * 2),
        ("test", _colours(10, 3), list(range(10))),
    ):
        data = splits[split]
        assert data.class_names == tuple(names if named else [f"class {label}" for label in range(10)])
        assert [record.label for record in data.records] == labels
        for record, image in zip(data.records, images):
            np.testing.assert_array_equal(read_record(record), image)


@pytest.mark.parametrize("content", [b"", b"\0" * 3072, b"\0" * 3074])
def test_a_cifar_batch_of_a_wrong_length_is_refused(tmp_path: Path, content: bytes) -> None:
    file = _cifar(tmp_path) / "data_batch_2.bin"
    file.write_bytes(content)
    assert _message(read_class_splits, tmp_path) == (
        f"{file} is no batch of CIFAR-10: {len(content):,} bytes are no multiple of 3,073"
    )


def test_a_cifar_label_beyond_the_classes_is_refused(tmp_path: Path) -> None:
    (_cifar(tmp_path) / "test_batch.bin").write_bytes(bytes([10]) + b"\0" * 3072)
    assert f"{tmp_path}: a label of test is 10, but there are 10 classes" in _message(read_class_splits, tmp_path)


class _Trap:
    """Unpickled, it would raise at once."""

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise AssertionError('a pickle was opened')",)


@pytest.mark.parametrize("form", ["folder", "tar.gz"])
def test_cifar_pickles_are_not_opened(tmp_path: Path, form: str) -> None:
    root = tmp_path / "cifar-10-batches-py"
    root.mkdir()
    (root / "data_batch_1").write_bytes(pickle.dumps(_Trap()))
    path = _pack(root, form, "cifar-10-batches-py")
    assert _message(read_class_splits, path) == (
        f"{path} holds CIFAR-10 as Python pickles, which could run code; get the binary version (.bin)"
    )


# Detection sets


def test_each_box_of_a_detection_set_is_a_picture(coco_set: CocoSet) -> None:
    """A square of the drawn set fills its box with one colour; a disc fills pi / 4 of it."""
    root = coco_set({"train": 6, "val": 4})
    splits, notes = read_class_splits(root)
    assert notes == [f"{root} is a detection set: each box is cut out"]
    for split in ("train", "val"):
        content = json.loads((root / "annotations" / f"instances_{split}.json").read_text())
        sizes = sorted((row["category_id"], *row["bbox"][2:]) for row in content["annotations"])
        found = []
        for record in splits[split].records:
            part = read_record(record)
            name = splits[split].class_names[record.label]
            found.append(({"disc": 7, "square": 3}[name], part.shape[1], part.shape[0]))
            share = (part == [40, 80, 220] if name == "square" else part == [220, 40, 40]).all(2).mean()
            assert share == pytest.approx(1 if name == "square" else np.pi / 4, abs=0.04)
        assert sorted(found) == sizes
        assert {"disc", "square"} == set(_counts(splits[split]))  # both are in the data


def test_crowds_and_boxes_too_small_are_left_out() -> None:
    side = float(MIN_CROP)
    boxes = np.array([[0, 0, side, side], [5, 5, 5 + side - 0.5, 40], [5, 5, 40, 5 + side - 0.5], [1, 2, 30, 40]])
    boxes = np.concatenate([boxes, [[1, 2, 33, 44]]])
    crowd = np.array([False, False, False, True, False])
    record = ImageRecord(
        Path("a.png"), 1, hw=(50, 60), boxes=boxes, labels=np.array([0, 1, 0, 1, 1]), crowd=crowd, areas=np.ones(5)
    )
    made = cut_objects(DetectionSet((record,), ("cat", "dog"), category_ids=(1, 2), source="here")).records
    assert [(one.label, one.box, one.content) for one in made] == [
        (0, (0, 0, side, side), Path("a.png")),
        (1, (1, 2, 33, 44), Path("a.png")),
    ]
    assert [one.name for one in made] == ["a.png at x 0-8, y 0-8", "a.png at x 1-33, y 2-44"]


def test_one_annotation_file_is_a_detection_set_too(coco_set: CocoSet) -> None:
    root = coco_set({"train": 10})
    file = root / "annotations" / "instances_train.json"
    splits, _ = read_class_splits(file)
    assert list(splits) == ["train"]
    assert len(splits["train"].records) == 20


def test_a_detection_set_without_a_known_split_is_refused(coco_set: CocoSet) -> None:
    """Neither train, val nor test: a message, no StopIteration."""
    root = coco_set({"spring": 2, "autumn": 2})
    for call in (read_classes_to_train, read_classes_to_score):
        assert str(root) in _message(call, images_of(root), seed=0)


# Joined sets


@pytest.fixture
def joined(tmp_path: Path) -> Path:
    """Return a folder with a folder of cats and dogs, and a tar of dogs and owls."""
    _folders(
        tmp_path / "one", {f"{s}/{name}": n for s in ("train", "val", "test") for n, name in ((2, "cat"), (3, "dog"))}
    )
    other = _folders(
        tmp_path / "other", {f"{s}/{name}": n for s in ("train", "val") for n, name in ((4, "dog"), (5, "owl"))}
    )
    _pack(other, "tar").rename(tmp_path / "two.tar")
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
    assert _counts(data) == train
    assert all(data.class_names[record.label] == Path(record.name).parts[-2] for record in data.records)
    if "split: test" in content:
        assert {Path(name).parts[-3] for name in _names(data)} == {"test"}


def test_a_joined_file_is_trained_on_and_scored(joined: Path) -> None:
    file = _yaml(joined, "train: [one, two.tar]\nvalidation: two.tar\ntest: {data: one, split: test}\n")
    train, val, _ = read_classes_to_train(images_of(file), seed=0)
    assert train.class_names == val.class_names == ("cat", "dog", "owl")
    assert _counts(val) == {"dog": 4, "owl": 5}
    name, test = read_classes_to_score(images_of(file), seed=0)
    assert (name, _counts(test)) == ("test", {"cat": 2, "dog": 3})


def test_a_test_set_that_is_not_there_matters_only_where_it_is_scored(joined: Path) -> None:
    file = _yaml(joined, "train: [one, two.tar]\nval: two.tar\ntest: gone.tar\n")
    train, val, _ = read_classes_to_train(images_of(file), seed=0)
    assert (len(train.records), len(val.records)) == (14, 9)
    assert read_classes_to_score(images_of(file), "val", seed=0)[0] == "val"
    for split in (None, "test"):
        assert "'gone.tar' does not exist" in _message(read_classes_to_score, images_of(file), split, seed=0)


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
    assert "'gone' does not exist" in _message(read_classes_to_score, images_of(tmp_path), seed=0)


def test_classes_of_a_yaml_file_are_the_text_that_is_written(tmp_path: Path) -> None:
    """YAML 1.1 would turn them into True, 8 and 750."""
    _folders(tmp_path / "one", {"train/yes": 1, "train/010": 2, "train/12:30": 3})
    file = _yaml(tmp_path, "classes: [yes, 010, 12:30]\ntrain: {data: one, classes: [12:30, yes, 010]}\n")
    assert _counts(read_class_splits(file)[0]["train"]) == {"yes": 1, "010": 2, "12:30": 3}
    file = _yaml(tmp_path, "classes: [yes, []]\ntrain: one\n")
    assert "entry 2 of classes must be a class name, got []" in _message(read_class_splits, file)


@pytest.mark.parametrize("form", FORMS)
def test_images_of_any_name_are_read_and_the_rest_is_counted(tmp_path: Path, form: str) -> None:
    root = _folders(tmp_path / "set", {f"{s}/{name}": 1 for s in ("train", "val", "test") for name in ("cat", "dog")})
    for name, kind in (("a.jfif", "JPEG"), ("b", "PNG"), ("c.photo", "WEBP")):
        Image.new("RGB", (6, 5)).save(root / "train" / "cat" / name, kind)
    for name in ("d.heic", "e.mp4", "f.dng", "notes.txt", "._a.jfif", "._b.jpg", "Thumbs.db"):
        (root / "train" / "cat" / name).write_bytes(b"\0\5\x16\7 no image")
    (root / "train" / "._cat").write_bytes(b"\0\5\x16\7")
    (root / "__MACOSX" / "train" / "owl").mkdir(parents=True)
    (root / "__MACOSX" / "train" / "owl" / "._a.jpg").write_bytes(b"\0\5\x16\7")
    packed = _pack(root, form)
    train, _, notes = read_classes_to_train(images_of(packed), seed=0)
    assert _counts(train) == {"cat": 4, "dog": 1}
    told = [note for note in notes if "left out" in note]
    assert told == [
        f"left out of {packed}: 1 file that cannot be read as an image (d.heic), 1 video (e.mp4), "
        "1 camera raw file (f.dng)"
    ]
    assert read_classes_to_score(images_of(packed), seed=0)[1].notes == tuple(told)


def test_linked_folders_of_a_class_are_read_and_links_that_lead_back_end(tmp_path: Path) -> None:
    _folders(tmp_path / "elsewhere", {"cats": 2, "cats/more": 3})
    _folders(tmp_path / "set", {"train/dog": 4})
    (tmp_path / "set" / "train" / "cat").symlink_to(tmp_path / "elsewhere" / "cats")
    (tmp_path / "elsewhere" / "cats" / "up").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "train" / "dog" / "itself").symlink_to(tmp_path / "set" / "train" / "dog")
    splits, _ = read_class_splits(tmp_path / "set")
    assert _counts(splits["train"]) == {"cat": 5, "dog": 4}


def test_a_joined_detection_set_is_cut_out(coco_set: CocoSet, tmp_path: Path) -> None:
    root = coco_set({"train": 4, "val": 4})
    file = _yaml(tmp_path, f"train: [{{data: {root.name}, classes: [disc]}}, more]\n")
    _folders(tmp_path / "more", {"train/square": 2, "train/disc": 1})
    rows = json.loads((root / "annotations" / "instances_train.json").read_text())["annotations"]
    discs = sum(row["category_id"] == 7 for row in rows)
    assert discs
    assert _counts(read_class_splits(file)[0]["train"]) == {"disc": discs + 1, "square": 2}


def test_joined_sets_without_splits_are_divided_once(joined: Path) -> None:
    """Train, val and test of one unsplit folder must not overlap, with any seed."""
    _folders(joined / "loose", {"cat": 20, "dog": 20})
    file = _yaml(joined, "train: loose\nval: loose\ntest: loose\n")
    for seed in (0, 1):
        splits, _ = read_class_splits(file, "60/20/20", seed=seed)
        assert [len(splits[split].records) for split in ("train", "val", "test")] == [24, 8, 8]
        assert len({name for data in splits.values() for name in _names(data)}) == 40


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
    found = _message(read_classes_to_train, images_of(_yaml(joined, content)), seed=0)
    assert message in found
    assert "a.yaml" in found or str(joined) in found


def test_a_class_in_no_joined_set_is_named(joined: Path) -> None:
    file = _yaml(joined, "classes: [cat, dog, cow]\ntrain: one\n")
    assert "has no picture of the class cow" in _message(read_classes_to_train, images_of(file), seed=0)


# Fingerprint


@pytest.mark.parametrize("form", ["folder", "tar", "mnist", "cifar", "detection"])
def test_the_fingerprint_does_not_depend_on_the_place(tmp_path: Path, coco_set: CocoSet, form: str) -> None:
    if form == "mnist":
        path = _mnist(tmp_path / "set")
    elif form == "cifar":
        path = _cifar(tmp_path / "set")
    elif form == "detection":
        path = coco_set({"train": 3})
    else:
        path = _pack(_folders(tmp_path / "set", TWO), form)
    before = fingerprint(read_class_splits(path)[0]["train"])
    (tmp_path / "far" / "away").mkdir(parents=True)
    moved = tmp_path / "far" / "away" / f"other{path.suffix}"
    shutil.move(path, moved)
    assert fingerprint(read_class_splits(moved)[0]["train"]) == before
    assert len(before) == 64
    assert set(before) <= set("0123456789abcdef")


@pytest.mark.parametrize("change", ["label", "class name", "pixels", "box", "file name", "one fewer", "order"])
def test_the_fingerprint_changes_with(change: str) -> None:
    data = _set(0, 1, 2)
    first, *rest = data.records
    changed = {
        "label": (dataclasses.replace(first, label=1), *rest),
        "pixels": (dataclasses.replace(first, content=first.content + np.uint8(1)), *rest),
        "box": (dataclasses.replace(first, box=(0.0, 0.0, 2.0, 2.0)), *rest),
        "file name": (dataclasses.replace(first, content=b"bytes", name="other.png"), *rest),
        "one fewer": tuple(rest),
        "order": (*rest, first),
    }.get(change, data.records)
    names = ("cat", "dog", "elk") if change == "class name" else data.class_names
    if change == "file name":
        data = dataclasses.replace(data, records=(dataclasses.replace(first, content=b"bytes"), *rest))
    assert fingerprint(ClassificationSet(changed, names, "here")) != fingerprint(data)


def test_the_fingerprint_of_files_heeds_their_size(tmp_path: Path) -> None:
    root = _folders(tmp_path, TWO)
    before = fingerprint(read_class_splits(root)[0]["train"])
    with (root / "train" / "cat" / "000.png").open("ab") as file:
        file.write(b"\0")
    assert fingerprint(read_class_splits(root)[0]["train"]) != before


def test_the_fingerprint_of_a_missing_file_is_refused(tmp_path: Path) -> None:
    """An annotation file may name pictures that are not there."""
    record = ClassRecord("gone.png", tmp_path / "gone.png", 0)
    assert f"{tmp_path}/gone.png does not exist" in _message(
        fingerprint, ClassificationSet((record,), ("cat", "dog"), "here")
    )


# Real sets


@pytest.mark.shared_data
def test_mnist_is_read(shared_data: Path) -> None:
    """Sizes, and how many of each digit the test set has, as published."""
    splits, _ = read_class_splits(shared_data / "mnist")
    assert {split: len(data.records) for split, data in splits.items()} == {"train": 60_000, "test": 10_000}
    assert splits["train"].class_names == tuple("0123456789")
    counts = _counts(splits["test"])
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
        assert len(_counts(data)) == 2
        image = read_record(data.records[0])
        assert image.shape[2] == 3
        assert hw is None or image.shape[:2] == hw
    if "cats_dogs" in name:
        assert all(set(_counts(data).values()) == {len(data.records) // 2} for data in splits.values())


@pytest.mark.shared_data
def test_a_real_detection_set_is_cut_out(shared_data: Path) -> None:
    """Boxes of the annotation file with both sides of at least 8 pixels; this set has no crowds."""
    content = json.loads((next((shared_data / "voc5" / "annotations").glob("*val*.json"))).read_text())
    large = [row for row in content["annotations"] if min(row["bbox"][2:]) >= 8]
    assert not any(row.get("iscrowd") for row in content["annotations"])
    names = {row["id"]: row["name"] for row in content["categories"]}
    splits, _ = read_class_splits(shared_data / "voc5")
    assert _counts(splits["val"]) == dict(Counter(names[row["category_id"]] for row in large))
