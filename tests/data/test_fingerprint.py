"""The number that tells one set from another."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from yolo_lite.data.fingerprint import fingerprint
from yolo_lite.data.splits import read_split

CocoSet = Callable[..., Path]


def test_the_fingerprint_does_not_depend_on_the_place(coco_set: CocoSet, tmp_path: Path) -> None:
    root = coco_set({"train": 3})
    before = fingerprint(read_split(root, "train"))
    shutil.move(root, tmp_path / "other")
    assert fingerprint(read_split(tmp_path / "other", "train")) == before
    assert len(before) == 64
    assert set(before) <= set("0123456789abcdef")


@pytest.mark.parametrize("change", ["box", "label", "size", "file name", "class name", "one image fewer"])
def test_the_fingerprint_changes_with(coco_set: CocoSet, change: str) -> None:
    file = coco_set({"train": 3}) / "annotations" / "instances_train.json"
    before = fingerprint(read_split(file, "train"))
    content = json.loads(file.read_text())
    row = content["annotations"][0]
    if change == "box":
        row["bbox"][2] += 0.5
    elif change == "label":
        row["category_id"] = 10 - row["category_id"]  # 7 and 3
    elif change == "size":
        content["images"][0]["height"] += 1
    elif change == "file name":
        content["images"][0]["file_name"] = "other.png"
    elif change == "class name":
        content["categories"][0]["name"] = "circle"
    else:
        gone = content["images"].pop()["id"]
        content["annotations"] = [row for row in content["annotations"] if row["image_id"] != gone]
    file.write_text(json.dumps(content))
    assert fingerprint(read_split(file, "train")) != before
