"""Repaired COCO files read without harm; the original stays; where harm would remain, nothing is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.data.care.test_check import GOOD, Content, first, good_set, printed, save
from tests.data.layouts import write_yolo
from yolo_lite.cli import main
from yolo_lite.data.care.check import check_data
from yolo_lite.data.care.repair import repair
from yolo_lite.data.splits import read_split
from yolo_lite.errors import InputError


def test_repairs_have_no_harm_left_and_the_original_stays(tmp_path: Path) -> None:
    contents = good_set(tmp_path)
    train = contents["train"]
    first(train).update(bbox=[50, 5, 15, 9])
    train["annotations"] += [
        {"id": 90, "image_id": 99, "category_id": 1, "bbox": [1, 1, 2, 2]},
        {"id": 91, "image_id": 1, "category_id": 9, "bbox": [1, 1, 2, 2]},
        {"id": 92, "image_id": 1, "category_id": 1, "bbox": [100, 1, 2, 2]},
        {**train["annotations"][1], "id": 93},
    ]
    save(tmp_path, contents)
    before = (tmp_path / "annotations" / "instances_train.json").read_bytes()
    assert main(["data", "check", "--data", str(tmp_path), "--fix", str(tmp_path / "new" / "annotations")]) == 1
    assert (tmp_path / "annotations" / "instances_train.json").read_bytes() == before
    for split in ("train", "val"):
        (tmp_path / "new" / split).symlink_to(tmp_path / split)
    assert check_data(tmp_path / "new") == []
    repaired = read_split(tmp_path / "new", "train")
    assert sum(len(record.boxes) for record in repaired.records) == 4
    assert repaired.records[0].boxes[0].tolist() == [50, 5, 60, 14]
    assert main(["data", "check", "--data", str(tmp_path), "--fix", str(tmp_path / "new" / "annotations")]) == 2


def test_repair_is_for_coco_json(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"train": {"a": GOOD}})
    with pytest.raises(InputError, match="repairs COCO JSON only"):
        repair(tmp_path, tmp_path / "out")


def add_root(content: Content) -> None:
    """Add what Roboflow writes as category 0 of a project that is called as one of its classes."""
    for one in content["categories"]:
        one["supercategory"] = "cat"
    content["categories"].insert(0, {"id": 0, "name": "cat", "supercategory": "none"})


REPAIRED: list[tuple[str, Callable[[Content], object], int]] = [
    ("root category", add_root, 1),
    ("unused category of the same name", lambda c: c["categories"].append({"id": 3, "name": "cat"}), 1),
    ("sizes of 0", lambda c: [one.update(width=0, height=0) for one in c["images"]], 0),
    ("no sizes", lambda c: [(one.pop("width"), one.pop("height")) for one in c["images"]], 0),
    ("image listed twice", lambda c: (c["images"].append({**c["images"][0], "id": 50}), c["annotations"][1].update(image_id=50)), 2),
    ("iscrowd is text", lambda c: first(c).update(iscrowd="false"), 1),
    ("negative", lambda c: first(c).update(bbox=[5, 5, -3, 9]), 1),
    ("text", lambda c: first(c).update(bbox=["5", "5", "3", "9"]), 1),
    ("twice", lambda c: c["annotations"].append({**first(c), "id": 77}), 1),
    ("outside", lambda c: first(c).update(bbox=[61, 5, 9, 9]), 1),
    ("leaving", lambda c: first(c).update(bbox=[50, 5, 15, 9]), 1),
    ("size", lambda c: c["images"][0].update(width=61), 3),
    ("two images of one id", lambda c: c["images"].append(dict(c["images"][0])), 1),
    ("ids twice", lambda c: c["annotations"][1].update(id=11), 0),
]  # fmt: skip


@pytest.mark.parametrize(("plant", "changed"), [case[1:] for case in REPAIRED], ids=[case[0] for case in REPAIRED])
def test_every_fault_that_fix_names_is_gone_afterwards(
    tmp_path: Path, plant: Callable[[Content], object], changed: int
) -> None:
    contents = good_set(tmp_path)
    plant(contents["train"])
    save(tmp_path, contents)
    assert repair(tmp_path, tmp_path / "new" / "annotations")["train"] == changed
    for split in ("train", "val"):
        (tmp_path / "new" / split).symlink_to(tmp_path / split)
    assert [fault for fault in check_data(tmp_path / "new") if fault.harms] == []
    assert sum(len(record.boxes) for record in read_split(tmp_path / "new", "train").records) >= 2


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (lambda c: c["categories"][1].update(name="cat"), "two categories share the id 2 or the name 'cat'"),
        (lambda c: [one.update(iscrowd=1) for one in c["annotations"]], "all of them crowd regions"),
        (lambda c: [one.update(width=40, height=60) for one in c["images"]], "no image with an object would be left"),
    ],
    ids=["two categories in use", "crowds", "every size is wrong"],
)
def test_fix_writes_nothing_where_harm_would_remain(
    tmp_path: Path, plant: Callable[[Content], object], message: str
) -> None:
    contents = good_set(tmp_path)
    plant(contents["train"])
    save(tmp_path, contents)
    with pytest.raises(InputError, match=f"instances_train.json cannot be repaired: .*{message}"):
        repair(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_fix_says_what_it_leaves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path, good_set(tmp_path))
    (tmp_path / "train" / "1.png").write_bytes((tmp_path / "val" / "11.png").read_bytes())
    assert "not repaired: 1 image in two splits" in "\n".join(
        printed(capsys, str(tmp_path), "--fix", str(tmp_path / "out"))
    )
