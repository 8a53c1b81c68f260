"""Counts against a plain loop over the annotations."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.care.test_subset import crowded
from yolo_lite.data.care.stats import split_stats
from yolo_lite.data.splits import read_split
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.records import ImageRecord


def _read(path: Path, content: dict[str, Any]) -> DetectionSet:
    path.write_text(json.dumps(content))
    return read_split(path, "train")


def test_counts_agree_with_a_loop_over_the_json(tmp_path: Path) -> None:
    content = crowded(80)
    generator = np.random.default_rng(1)
    for one in content["annotations"]:
        one["bbox"] = [1, 1, float(generator.integers(1, 30)), float(generator.integers(1, 20))]
        one["area"] = float(generator.uniform(1, 20_000))
    found = split_stats(_read(tmp_path / "a.json", content))
    for category, stats in zip(content["categories"], found.classes):
        widths, heights, sizes, images, crowd = [], [], defaultdict(int), set(), 0
        for one in content["annotations"]:
            if one["category_id"] == category["id"] and one["iscrowd"]:
                crowd += 1
            elif one["category_id"] == category["id"]:
                widths.append(one["bbox"][2])
                heights.append(one["bbox"][3])
                images.add(one["image_id"])
                sizes["small" if one["area"] < 1024 else "large" if one["area"] > 9216 else "medium"] += 1
        assert (stats.name, stats.objects, stats.images, stats.crowd) == (
            category["name"], len(widths), len(images), crowd,
        )  # fmt: skip
        assert (stats.small, stats.medium, stats.large) == (sizes["small"], sizes["medium"], sizes["large"])
        if widths:
            assert stats.median_wh == (statistics.median(widths), statistics.median(heights))
    assert found.classes[3].median_wh is None  # no yak
    for name in ("objects", "small", "medium", "large", "crowd"):
        assert getattr(found.total, name) == sum(getattr(one, name) for one in found.classes)
    marked = {one["image_id"] for one in content["annotations"]}
    assert (found.images, found.empty) == (80, 80 - len(marked))
    assert found.empty
    assert found.total.crowd


@pytest.mark.parametrize(
    ("area", "size"),
    [(1023, "small"), (1024, "medium"), (9216, "medium"), (9217, "large")],
)
def test_borders_of_size(area: float, size: str) -> None:
    total = split_stats(_one(area=area)).total
    assert {name: getattr(total, name) for name in ("small", "medium", "large")} == {
        **dict.fromkeys(("small", "medium", "large"), 0),
        size: 1,
    }


def test_sides_and_centres_are_those_of_objects() -> None:
    """The box 10..30 x 0..40 in an image 100 wide and 80 high has its centre at a fifth and a quarter."""
    found = split_stats(_one(area=400))
    assert found.sides.tolist() == [20]
    np.testing.assert_allclose(found.centres, [[0.2, 0.25]])
    crowd = split_stats(_one(area=400, crowd=True))
    assert (crowd.sides.shape, crowd.centres.shape) == ((0,), (0, 2))
    assert (crowd.total.objects, crowd.total.images, crowd.total.crowd, crowd.empty) == (0, 0, 1, 0)


def test_no_images_are_no_objects() -> None:
    found = split_stats(DetectionSet((), ("cat",), category_ids=(1,), source="nowhere"))
    assert (found.images, found.empty, found.total.objects, found.classes[0].median_wh) == (0, 0, 0, None)


def _one(area: float, crowd: bool = False) -> DetectionSet:
    record = ImageRecord(
        Path("a.png"),
        1,
        hw=(80, 100),
        boxes=np.array([[10.0, 0, 30, 40]]),
        labels=np.array([0]),
        crowd=np.array([crowd]),
        areas=np.array([float(area)]),
    )
    return DetectionSet((record,), ("cat",), category_ids=(1,), source="drawn")
