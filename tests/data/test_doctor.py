"""Every fault that is planted in a good set is found, with its place, and nothing else; repairs read without a fault."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from yolo_lite.cli import main
from yolo_lite.data.discover import read_split
from yolo_lite.data.doctor import check_data, repair
from yolo_lite.errors import InputError

Content = dict[str, Any]


def good_set(root: Path) -> dict[str, Content]:
    """Write two pictures to train and one to validate, two categories, every one with an object."""
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
        "annotation 11: lies wholly outside its picture",
        True,
    ),
    ("leaving", lambda c, r: first(c).update(bbox=[50, 5, 15, 9]), "annotation 11: leaves its picture", False),
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
    ("damaged", lambda c, r: (r / "train" / "1.png").write_bytes(b"x"), "1.png is not a picture", True),
    ("size", lambda c, r: c["images"][0].update(width=61), "is 60 x 40, its annotations are for 61 x 40", True),
    ("turned", lambda c, r: c["images"][0].update(width=40, height=60), "does EXIF turn it?", True),
    ("unused", lambda c, r: c["categories"].append({"id": 3, "name": "cow"}), "no object of cow", False),
    (
        "in both",
        lambda c, r: (r / "train" / "1.png").write_bytes((r / "val" / "11.png").read_bytes()),
        "is the same picture as",
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


def test_the_progress_of_checks_and_repairs_counts_the_pictures_of_each_split(tmp_path: Path) -> None:
    save(tmp_path, good_set(tmp_path))
    for look in (lambda told: check_data(tmp_path, told), lambda told: repair(tmp_path, tmp_path / "out", told)):
        counts: list[tuple[int, int]] = []
        look(lambda *count, counts=counts: counts.append(count))
        assert counts == [(0, 2), (1, 2), (0, 1)]


def test_other_layouts_are_checked_as_far_as_they_can_be_read(tmp_path: Path) -> None:
    for name in ("images", "labels"):
        (tmp_path / name / "train").mkdir(parents=True)
    (tmp_path / "data.yaml").write_text("names: [cat]\n")
    Image.new("RGB", (20, 20)).save(tmp_path / "images" / "train" / "a.png")
    (tmp_path / "labels" / "train" / "a.txt").write_text("7 0.5 0.5 0.1 0.1\n")
    (fault,) = check_data(tmp_path)
    assert fault.harms
    assert "has class 7" in fault.what
    with pytest.raises(InputError, match="repairs COCO JSON only"):
        repair(tmp_path, tmp_path / "out")
