"""Classes divided by percentages and a seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.class_folders import (
    count_classes,
    names_of,
    pack,
    refusal,
    write_folders,
)
from tests.data.layouts import images_of
from yolo_lite.data.class_catalog import read_class_splits
from yolo_lite.data.divide import parse_shares
from yolo_lite.data.splits import read_classes_to_train


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
    root = write_folders(tmp_path, {"cat": 40, "dog": 20})
    splits, notes = read_class_splits(root, shares)
    assert {split: tuple(count_classes(data).values()) for split, data in splits.items()} == expected
    names = [name for data in splits.values() for name in names_of(data)]
    assert len(set(names)) == len(names) == 60
    assert notes == [f"{root} has no splits: seed 0 divides each class {shares}"]


def test_the_division_depends_on_the_seed_alone(tmp_path: Path) -> None:
    root = write_folders(tmp_path, {"cat": 20, "dog": 20})
    drawn = [frozenset(names_of(read_class_splits(root, seed=seed)[0]["test"])) for seed in (0, 0, 1, 2)]
    assert drawn[0] == drawn[1]
    assert len(set(drawn)) == 3


def test_an_archive_is_divided_as_its_folder_is(tmp_path: Path) -> None:
    root = write_folders(tmp_path / "set", {"cat": 20, "dog": 20})
    one, other = (read_class_splits(pack(root, form))[0] for form in ("folder", "tar"))
    for split in ("train", "val", "test"):
        assert [Path(name).parts[-2:] for name in names_of(one[split])] == [
            Path(name).parts[-2:] for name in names_of(other[split])
        ]


def test_a_class_of_too_few_images_to_be_divided_is_named(tmp_path: Path) -> None:
    root = write_folders(tmp_path, {"cat": 20, "dog": 2})
    assert f"{root}: the class dog has 2 images, too few to split in 3" in refusal(read_class_splits, root)


def test_a_class_that_would_leave_nothing_to_train_on_is_named(tmp_path: Path) -> None:
    """Of 3 images 50 % are 2 (1.5 rounded to even), and 49 % are 1."""
    root = write_folders(tmp_path, {"cat": 100, "dog": 3})
    assert f"{root}: the class dog has too few images to split" in refusal(read_class_splits, root, "1/50/49")


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
    message = refusal(parse_shares, text)
    assert message == f"--shares takes percentages of train, val and test such as 70/15/15, got {text!r}"


def test_a_bad_split_is_refused_where_data_is_read(tmp_path: Path) -> None:
    root = write_folders(tmp_path, {"cat": 9, "dog": 9})
    assert "--shares takes percentages" in refusal(read_classes_to_train, images_of(root, shares="70/15"), seed=0)
