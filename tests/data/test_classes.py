"""Sets by their classes, matched by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yolo_lite.data.classes import merge_sets, select_classes
from yolo_lite.errors import InputError
from yolo_lite.structures.datasets import Classes, DetectionSet
from yolo_lite.structures.records import ImageRecord


def _message(call: Callable[..., object], *arguments: Any, **options: Any) -> str:
    with pytest.raises(InputError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _set(
    *labels: list[int], names: tuple[str, ...] = ("cat", "dog", "owl"), ids: tuple[int, ...] = (4, 8, 6)
) -> DetectionSet:
    records = []
    for number, mine in enumerate(labels, 1):
        count = len(mine)
        boxes = np.arange(4.0 * count).reshape(count, 4)
        crowd = np.arange(count) % 2 == 1
        record = ImageRecord(
            Path(f"/somewhere/{number}.jpg"),
            number,
            hw=(10, 20),
            boxes=boxes,
            labels=np.array(mine, np.int64),
            crowd=crowd,
            areas=np.arange(count) + 0.5,
        )
        records.append(record)
    return DetectionSet(tuple(records), names, category_ids=ids, source="here", dropped=0)


def test_select_classes_keeps_boxes_crowd_and_areas_together() -> None:
    data = _set([0, 2, 1, 2], [1], [])
    picked = select_classes(data, ["owl", "cat"])
    assert picked.class_names == ("owl", "cat")
    assert picked.category_ids == (6, 4)
    assert [record.labels.tolist() for record in picked.records] == [[1, 0, 0], [], []]
    first = picked.records[0]
    assert first.boxes[:, 0].tolist() == [0, 4, 12]  # rows 0, 1 and 3 of 0, 4, 8, 12
    assert first.crowd.tolist() == [False, True, True]
    assert first.areas.tolist() == [0.5, 1.5, 3.5]
    assert data.records[0].labels.tolist() == [0, 2, 1, 2]


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        pytest.param(["cta"], "here has no class 'cta'; did you mean 'cat'?", id="misspelt"),
        pytest.param(["zebra"], "here has no class 'zebra'; known: cat, dog, owl", id="nothing near"),
        pytest.param(["cat", "cat"], "--classes names a class twice: cat, cat", id="twice"),
    ],
)
def test_select_classes_refuses(classes: list[str], message: str) -> None:
    assert _message(select_classes, _set([0]), classes) == message


def test_align_classes_matches_by_name() -> None:
    aligned = _set([0, 1, 2]).with_classes(Classes(("owl", "cow", "cat"), (1, 2, 3)))
    assert aligned.class_names == ("owl", "cow", "cat")
    assert aligned.category_ids == (1, 2, 3)
    assert aligned.records[0].labels.tolist() == [2, 0]  # cat is third, dog is left out, owl is first


def test_merging_one_set_returns_it() -> None:
    data = _set([0])
    assert merge_sets([data]) is data


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("crowd", "crowd", "crowd"),
        ("difficult", "difficult", "difficult"),
        ("difficult", "crowd", "crowd or difficult"),
        ("nothing marked", "difficult", "difficult"),
        ("nothing marked", "nothing marked", "crowd"),
    ],
)
def test_merging_keeps_what_ignored_boxes_are_called(first: str, second: str, expected: str) -> None:
    data = _set([0, 0])  # the second box has the mark
    parts = [
        dataclasses.replace(data.pick([]) if name == "nothing marked" else data, ignored=name)
        for name in (first, second)
    ]
    assert merge_sets(parts).ignored == expected


def test_merging_counts_what_was_dropped() -> None:
    parts = [
        DetectionSet(_set([0]).records, ("cat",), category_ids=(1,), source=name, dropped=dropped)
        for name, dropped in (("a", 2), ("b", 3))
    ]
    merged = merge_sets(parts)
    assert merged.dropped == 5
    assert merged.source == "a + b"
