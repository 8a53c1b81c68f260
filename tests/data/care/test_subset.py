"""Subsets against plain loops over the JSON: what is chosen, that nothing of it is lost, and that the rest is not needed."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from yolo_lite.data.care.check import check_data
from yolo_lite.data.care.convert import write_sets
from yolo_lite.data.care.subset import Choice, choose, write_subset
from yolo_lite.data.splits import read_split, read_splits
from yolo_lite.errors import InputError

Content = dict[str, Any]
NAMES = {7: "cat", 3: "dog", 20: "owl", 4: "yak"}  # of which no image shows a yak


def crowded(count: int = 60, seed: int = 0) -> Content:
    """Return a file of images without files: many cats, some dogs, few owls, crowds, and keys that nobody knows."""
    generator = np.random.default_rng(seed)
    images, annotations = [], []
    for image_id in range(100, 100 + count):
        images.append({"id": image_id, "file_name": f"{image_id}.png", "width": 40, "height": 30, "shot": "über"})
        for category, likely in ((7, 0.8), (3, 0.3), (20, 0.07)):
            for _ in range(int(generator.integers(1, 3)) if generator.random() < likely else 0):
                outline = [[0.1, 2, 10.25, 2, 10.25, 12]]
                row = {"id": 5000 - len(annotations), "image_id": image_id, "category_id": category, "area": 51.5}
                crowd = int(generator.random() < 0.1)
                more = {"bbox": [0.1, 2, 10.15, 10], "segmentation": outline, "iscrowd": crowd, "by": {"who": None}}
                annotations.append({**row, **more})
    categories = [{"id": i, "name": name, "supercategory": "animal"} for i, name in NAMES.items()]
    head = {"info": {"year": 2017, "note": "ä"}, "licenses": [{"id": 1, "url": "http://x"}], "extra": [1, 2.5, None]}
    return {**head, "images": images, "annotations": annotations, "categories": categories}


def save(root: Path, contents: dict[str, Content], images: bool = True) -> Path:
    (root / "annotations").mkdir(parents=True)
    for split, content in contents.items():
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
        (root / split).mkdir()
        for image in content["images"] if images else []:
            Image.new("RGB", (40, 30), (image["id"] % 256, 0, 0)).save(root / split / image["file_name"])
    return root


def written(out: Path, split: str = "train") -> Content:
    content: Content = json.loads((out / "annotations" / f"instances_{split}.json").read_text())
    return content


def shows(content: Content) -> dict[int, set[str]]:
    """Return what each image shows, by a loop."""
    shown: dict[int, set[str]] = {}
    for image in content["images"]:
        shown[image["id"]] = set()
        for one in content["annotations"]:
            if one["image_id"] == image["id"] and one["iscrowd"] == 0:
                shown[image["id"]].add(NAMES[one["category_id"]])
    return shown


def images_of(content: Content) -> Counter[str]:
    return Counter(name for names in shows(content).values() for name in names)


def ids(content: Content) -> list[int]:
    return [image["id"] for image in content["images"]]


# What is chosen


@pytest.mark.parametrize("count", [1, 7, 60, 1000])
def test_images_are_so_many_with_all_their_annotations_in_the_order_of_the_file(count: int) -> None:
    whole = crowded()
    part, notes = choose(whole, Choice(images=count))
    assert len(part["images"]) == min(count, 60)
    assert part["images"] == [one for one in whole["images"] if one["id"] in ids(part)]
    assert part["annotations"] == [one for one in whole["annotations"] if one["image_id"] in ids(part)]
    assert part["categories"] == whole["categories"]
    assert any("1,000 are asked for, but there are only 60 images" in note for note in notes) == (count == 1000)
    assert notes[-1].startswith(f"{min(count, 60)} of 60 images, {len(part['annotations'])} of ")


def test_the_seed_draws_and_a_smaller_number_is_part_of_a_larger() -> None:
    whole = crowded()
    before = copy.deepcopy(whole)
    draws = [ids(choose(whole, Choice(images=10, seed=seed))[0]) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert set(draws[0]) < set(ids(choose(whole, Choice(images=20, seed=0))[0]))
    assert whole == before


@pytest.mark.parametrize("per_class", [1, 3, 10, 500])
@pytest.mark.parametrize("seed", [0, 1])
def test_per_class_shows_each_in_so_many_images_or_all_it_has(per_class: int, seed: int) -> None:
    whole = crowded()
    there = images_of(whole)
    assert there["owl"] < 10 < there["dog"] < there["cat"]  # both cases are in the data
    part, notes = choose(whole, Choice(per_class=per_class, seed=seed))
    has = images_of(part)
    for name in ("cat", "dog", "owl"):
        assert has[name] >= min(per_class, there[name])
    assert all(shows(part).values())  # none without an object
    short = [name for name in NAMES.values() if there[name] < per_class]
    told = ", ".join(f"{name} ({there[name]})" for name in short)
    assert notes[0] == f"shown in fewer than {per_class} image{'s' * (per_class != 1)}: {told}"
    assert part == choose(whole, Choice(per_class=per_class, seed=seed))[0]


def test_per_class_takes_no_image_that_it_does_not_need() -> None:
    """Of the class that chooses last there is an image too many only where another class brought it."""
    part, _ = choose(crowded(300), Choice(per_class=5))
    assert images_of(part)["owl"] == 5
    assert len(part["images"]) <= 15


def test_per_class_within_a_number_of_images_says_what_is_short() -> None:
    part, notes = choose(crowded(), Choice(images=4, per_class=4))
    assert len(part["images"]) == 4
    assert images_of(part)["owl"] == min(4, images_of(crowded())["owl"])  # the rarest chooses first
    assert any(note.startswith("4 images are too few for ") for note in notes)


def test_classes_keep_their_images_annotations_and_ids() -> None:
    whole = crowded()
    part, notes = choose(whole, Choice(classes=("owl", "dog")))
    expected = [image_id for image_id, names in shows(whole).items() if names & {"dog", "owl"}]
    assert ids(part) == expected
    assert [one["id"] for one in part["categories"]] == [3, 20]
    assert part["annotations"] == [
        one for one in whole["annotations"] if one["image_id"] in expected and one["category_id"] in (3, 20)
    ]
    _, notes = choose(whole, Choice(images=60, classes=("owl", "dog")))
    assert notes[0] == f"60 are asked for, but there are only {len(expected)} images that show owl, dog: all are taken"


def test_classes_per_class_count_only_these() -> None:
    part, _ = choose(crowded(), Choice(classes=("dog",), per_class=3))
    assert images_of(part) == {"dog": 3}
    assert len(part["images"]) == 3


def test_a_crowd_alone_shows_nothing() -> None:
    whole = crowded(1)
    whole["annotations"] = [{"id": 1, "image_id": 100, "category_id": 20, "bbox": [1, 1, 2, 2], "iscrowd": 1}]
    assert choose(whole, Choice(classes=("owl",)))[0]["images"] == []
    assert choose(whole, Choice(images=1))[0]["annotations"] == whole["annotations"]


# What is written


def test_coco_json_is_kept_key_by_key(tmp_path: Path) -> None:
    whole = {"train2017": crowded(20), "val2017": crowded(8, seed=1)}
    root = save(tmp_path / "set", whole)
    lines = write_subset(root, tmp_path / "out", choice=Choice())
    for split in ("train", "val"):
        assert written(tmp_path / "out", split) == whole[f"{split}2017"]
        assert list(written(tmp_path / "out", split)) == list(whole[f"{split}2017"])
        for image in whole[f"{split}2017"]["images"]:
            original = root / f"{split}2017" / image["file_name"]
            assert (tmp_path / "out" / "images" / split / image["file_name"]).samefile(original)
    assert lines[0].startswith("train: 20 of 20 images")
    for split, data in read_splits(tmp_path / "out").items():
        assert [record.areas.tolist() for record in data.records] == [
            record.areas.tolist() for record in read_splits(root)[split].records
        ]


def test_an_image_that_is_listed_in_parts_keeps_all_its_annotations(tmp_path: Path) -> None:
    """Whichever entry is drawn; one annotation that both entries have is there once."""
    content = crowded(3)
    content["annotations"] = [
        {
            "id": n,
            "image_id": image,
            "category_id": 7,
            "bbox": [x, 2, 9, 9],
            "area": 81,
            "iscrowd": 0,
            "segmentation": [],
        }
        for n, (image, x) in enumerate([(100, 1), (100, 12), (101, 3), (102, 4), (103, 12), (103, 24)])
    ]
    content["images"].append({**content["images"][0], "id": 103})
    root = save(tmp_path / "set", {"train": content})
    for seed in range(6):
        lines = write_subset(root, tmp_path / str(seed), choice=Choice(images=2, seed=seed))
        assert "more than once is taken once, with the annotations of all entries" in lines[0]
        part = written(tmp_path / str(seed))
        lefts = {i: [a["bbox"][0] for a in part["annotations"] if a["image_id"] == i] for i in ids(part)}
        assert len(lefts) == 2
        assert all(lefts[i] == {100: [1, 12, 24], 101: [3], 102: [4]}[i] for i in lefts)


def test_only_the_splits_that_are_named_and_copies(tmp_path: Path) -> None:
    root = save(tmp_path / "set", {"train": crowded(5), "val": crowded(4)})
    done: list[tuple[int, int]] = []
    write_subset(
        root,
        tmp_path / "out",
        choice=Choice(2),
        splits=["valid"],
        link=False,
        on_progress=lambda *counts: done.append(counts),
    )
    assert list(read_splits(tmp_path / "out")) == ["val"]
    (first, _) = (tmp_path / "out" / "images" / "val").iterdir()
    assert first.stat().st_nlink == 1
    assert done == [(1, 2), (2, 2)]


def test_only_chosen_images_need_to_exist(tmp_path: Path) -> None:
    whole = crowded()
    root = save(tmp_path / "set", {"train": whole}, images=False)
    chosen = ids(choose(whole, Choice(3))[0])
    for image_id in chosen:
        Image.new("RGB", (40, 30), (image_id, 0, 0)).save(root / "train" / f"{image_id}.png")
    write_subset(root, tmp_path / "out", choice=Choice(3))
    assert [fault for fault in check_data(tmp_path / "out") if fault.harms and "same box" not in fault.what] == []
    (root / "train" / f"{chosen[1]}.png").unlink()
    with pytest.raises(InputError, match=rf"1 of 3 chosen images of .* is missing; .*train/{chosen[1]}\.png"):
        write_subset(root, tmp_path / "other", choice=Choice(3))
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("layout", ["yolo", "voc"])
def test_other_layouts_become_coco(tmp_path: Path, layout: str) -> None:
    whole = save(tmp_path / "set", {"train": crowded(12), "val": crowded(6, seed=3)})
    write_sets(read_splits(whole), layout, out=tmp_path / layout)
    write_subset(tmp_path / layout, tmp_path / "out", choice=Choice(classes=("dog",)))
    before = read_splits(tmp_path / layout)
    for split, data in read_splits(tmp_path / "out").items():
        assert data.class_names == ("dog",)
        label = before[split].class_names.index("dog")
        assert data.category_ids == (before[split].category_ids[label],)
        expected = {
            r.image_id: r.boxes[r.labels == label].tolist()
            for r in before[split].records
            if ((r.labels == label) & ~r.crowd).any()
        }
        assert {record.image_id: record.boxes.tolist() for record in data.records} == expected
        assert all(record.path.is_file() for record in data.records)


def test_a_list_of_sets_loses_outlines_and_says_so(tmp_path: Path) -> None:
    save(tmp_path / "set", {"train": crowded(6)})
    (tmp_path / "sets.yaml").write_text("train: set\n")
    lines = write_subset(tmp_path / "sets.yaml", tmp_path / "out", choice=Choice(2))
    assert any("outlines of objects" in line for line in lines)
    assert {one["area"] for one in written(tmp_path / "out")["annotations"]} == {51.5}


def test_labelled_classes_stay_true(tmp_path: Path) -> None:
    whole = crowded(4)
    for image in whole["images"]:
        image["labelled_classes"] = ["cat", "dog"]
    write_subset(save(tmp_path / "set", {"train": whole}), tmp_path / "out", choice=Choice(classes=("cat", "owl")))
    data = read_split(tmp_path / "out", "train")
    assert {record.unlabelled for record in data.records} == {(1,)}


def test_names_that_lead_elsewhere_stay_inside(tmp_path: Path) -> None:
    whole = crowded(3)
    root = save(tmp_path / "set", {"train": whole})
    other = tmp_path / "other" / "deep"
    other.mkdir(parents=True)
    names = [str(other / "a.png"), "../../other/deep/b.png", "sub/c.png"]
    (root / "train" / "sub").mkdir()
    for image, name in zip(whole["images"], names):
        Image.new("RGB", (40, 30)).save(root / "train" / name)
        image["file_name"] = name
    (root / "annotations" / "instances_train.json").write_text(json.dumps(whole))
    write_subset(root, tmp_path / "out", choice=Choice())
    inside = [image["file_name"] for image in written(tmp_path / "out")["images"]]
    assert inside == [str(other / "a.png").lstrip("/"), "other/deep/b.png", "sub/c.png"]
    assert all(record.path.is_file() for record in read_split(tmp_path / "out", "train").records)
    assert sorted(path.name for path in other.iterdir()) == ["a.png", "b.png"]


def test_a_split_without_the_class_is_left_out_and_said(tmp_path: Path) -> None:
    val = crowded(3)
    val["annotations"] = []
    root = save(tmp_path / "set", {"train": crowded(20), "val": val})
    lines = write_subset(root, tmp_path / "out", choice=Choice(classes=("cat",)))
    assert list(read_splits(tmp_path / "out")) == ["train"]
    assert "val: nothing to take, the split is left out" in lines


# What is refused


def unknown_image(content: Content) -> None:
    content["annotations"][0]["image_id"] = 9


def unknown_category(content: Content) -> None:
    content["annotations"][0]["category_id"] = 9


def same_image_id(content: Content) -> None:
    content["images"][1]["id"] = content["images"][0]["id"]


def no_lists(content: Content) -> None:
    del content["annotations"]


def no_name(content: Content) -> None:
    del content["categories"][0]["name"]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (unknown_image, r"instances_train.json: annotation 5000 has the image_id 9, which the file does not list"),
        (unknown_category, r"annotation 5000 has the category_id 9, which the file does not list"),
        (same_image_id, r"cannot be divided: two images share an id"),
        (no_lists, r"cannot be divided: needs a list of mappings named annotations"),
        (no_name, r"cannot be divided: every category needs a name"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, spoil: Any, message: str) -> None:
    whole = crowded(5)
    spoil(whole)
    with pytest.raises(InputError, match=message):
        write_subset(save(tmp_path / "set", {"train": whole}), tmp_path / "out", choice=Choice(2))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("choice", "splits", "message"),
    [
        (Choice(classes=("dgo",)), [], r"has no class 'dgo'; did you mean 'dog'\?"),
        (Choice(classes=("yak",)), [], r"no image shows yak; nothing is written"),
        (Choice(), ["test"], r"has no split 'test'; found train"),
    ],
    ids=["unknown class", "class without images", "unknown split"],
)
def test_what_is_not_there_is_refused(tmp_path: Path, choice: Choice, splits: list[str], message: str) -> None:
    root = save(tmp_path / "set", {"train": crowded(5)})
    with pytest.raises(InputError, match=message):
        write_subset(root, tmp_path / "out", choice=choice, splits=splits)
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    root = save(tmp_path / "set", {"train": crowded(5)})
    write_subset(root, tmp_path / "out", choice=Choice(2))
    with pytest.raises(InputError, match="is not empty; choose another --out"):
        write_subset(root, tmp_path / "out", choice=Choice(2))
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file; choose another --out"):
        write_subset(root, tmp_path / "file", choice=Choice(2))


def test_two_images_of_one_place_are_refused(tmp_path: Path) -> None:
    whole = crowded(2)
    root = save(tmp_path / "set", {"train": whole})
    Image.new("RGB", (40, 30)).save(root / "100.png")
    whole["images"][1]["file_name"] = "../100.png"
    (root / "annotations" / "instances_train.json").write_text(json.dumps(whole))
    with pytest.raises(InputError, match="would both become"):
        write_subset(root, tmp_path / "out", choice=Choice())


# Real data


@pytest.mark.shared_data
def test_coco_mini_keeps_every_class_and_what_the_originals_say(shared_data: Path, tmp_path: Path) -> None:
    write_subset(shared_data / "coco_mini", tmp_path / "out", choice=Choice(per_class=3), link=False)
    for split in ("train", "val"):
        source = json.loads((shared_data / "coco_mini" / "annotations" / f"instances_{split}2017.json").read_text())
        part = written(tmp_path / "out", split)
        rows = {one["id"]: one for one in source["annotations"]}
        assert all(rows[one["id"]] == one for one in part["annotations"])
        there, has = (
            Counter(
                c for _, c in {(a["image_id"], a["category_id"]) for a in content["annotations"] if not a["iscrowd"]}
            )
            for content in (source, part)
        )
        assert all(has[category] >= min(3, count) for category, count in there.items())
        assert len(part["images"]) < len(source["images"])


# As large as COCO

IMAGES, BOXES = 118_000, 860_000
MEASURED = """
import resource, sys
from yolo_lite.cli import main
status = main(sys.argv[1:])
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # KiB on Linux
sys.exit(status)
"""
LISTED = """
import sys
from pathlib import Path
from yolo_lite.data.formats.coco import read_json
from yolo_lite.data.care.subset import Choice, choose
for image in choose(read_json(Path(sys.argv[1])), Choice(per_class=10, seed=5))[0]["images"]:
    print(image["file_name"])
"""  # in a process of its own, since a child's peak memory counts from that of its parent


def write_large(root: Path) -> None:
    """Write a file of COCO's numbers, with outlines of 25 points (it has about 500 bytes an annotation), line by line."""
    generator = np.random.default_rng(0)
    (root / "annotations").mkdir(parents=True)
    outlines = [json.dumps([generator.uniform(0, 400, 50).round(2).tolist()]) for _ in range(200)]
    of = [int(category) for category in 80 * generator.random(BOXES) ** 2]
    with (root / "annotations" / "instances_train2017.json").open("w") as file:
        file.write('{"info": {"year": 2017}, "images": [')
        for i in range(IMAGES):
            name = f'"file_name": "{i:012d}.jpg", "height": 480, "width": 640, "license": 3'
            address = f'"coco_url": "http://images/{i:012d}.jpg", "date_captured": "2013-11-21 01:34:01"'
            file.write(f'{", " if i else ""}{{"id": {i}, {name}, {address}}}')
        file.write('], "annotations": [')
        for i, category in enumerate(of):
            place = f'"image_id": {i * 7919 % IMAGES}, "category_id": {category}, "id": {i}'
            shape = f'"segmentation": {outlines[i % 200]}, "area": 5124.25, "iscrowd": 0, "bbox": [{i % 300}.5, 20.25, 98.75, 61.5]'
            file.write(f"{', ' if i else ''}{{{shape}, {place}}}")
        file.write('], "categories": [')
        file.write(", ".join(f'{{"id": {i}, "name": "class {i}"}}' for i in range(80)))
        file.write("]}")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss differs")
def test_a_file_as_large_as_coco_needs_less_than_four_gigabytes(tmp_path: Path) -> None:
    """The images of the draw are made once it is known; every other one stays missing."""
    write_large(tmp_path / "set")
    listing = [sys.executable, "-c", LISTED, str(tmp_path / "set" / "annotations" / "instances_train2017.json")]
    chosen = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split()
    (tmp_path / "set" / "train2017").mkdir()
    Image.new("RGB", (640, 480)).save(tmp_path / "one.jpg")
    for name in chosen:
        os.link(tmp_path / "one.jpg", tmp_path / "set" / "train2017" / name)
    command = ["data", "subset", "--data", "set", "--per-class", "10", "--seed", "5", "--out", "out"]
    run = subprocess.run(
        [sys.executable, "-c", MEASURED, *command], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert run.returncode == 0, run.stderr
    assert f"{len(chosen):,} of 118,000 images" in run.stdout
    assert int(run.stdout.split("peak ")[1]) < 4 * 1024**2
    assert len(read_split(tmp_path / "out", "train").records) == len(chosen)
