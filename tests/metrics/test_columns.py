"""Detections as arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from yolo_lite.metrics.columns import to_columns
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.records import ImageRecord

_NONE = np.zeros(0)


def _set(*unlabelled: tuple[int, ...]) -> DetectionSet:
    """Return a set of three images without objects, with the ids 30, 20 and 10."""
    records = [
        ImageRecord(
            Path(f"{image_id}.jpg"),
            image_id,
            hw=(90, 90),
            boxes=np.zeros((0, 4)),
            labels=_NONE.astype(np.int64),
            crowd=_NONE.astype(bool),
            areas=_NONE,
            unlabelled=classes,
        )
        for image_id, classes in zip((30, 20, 10), unlabelled or ((), (), ()))
    ]
    return DetectionSet(records, ("cat", "dog"), category_ids=(18, 3), source="drawn")


def _row(image_id: int, category_id: int, score: float) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": category_id, "bbox": [1, 2, 30, 40], "score": score}


def test_columns_are_sorted_by_image_and_by_falling_score() -> None:
    rows = [_row(10, 18, 0.1), _row(30, 3, 0.2), _row(10, 3, 0.9), _row(30, 18, 0.2)]
    columns = to_columns(_set(), rows)
    assert columns.images.tolist() == [0, 0, 2, 2]
    assert columns.labels.tolist() == [1, 0, 1, 0]  # equal scores keep their order
    assert columns.scores.tolist() == [0.2, 0.2, 0.9, 0.1]
    assert columns.boxes[0].tolist() == [1, 2, 31, 42]
    assert columns.areas.tolist() == [1200, 1200, 1200, 1200]
    assert columns.starts.tolist() == [0, 2, 2, 4]
    assert columns.scores[columns.of_image(2)].tolist() == [0.9, 0.1]


def test_classes_that_an_image_is_not_labelled_for_are_left_out() -> None:
    rows = [_row(image_id, category_id, 0.5) for image_id in (30, 20, 10) for category_id in (18, 3)]
    columns = to_columns(_set((), (0,), ()), rows)
    assert list(zip(columns.images.tolist(), columns.labels.tolist())) == [(0, 0), (0, 1), (1, 1), (2, 0), (2, 1)]


def test_no_detections() -> None:
    columns = to_columns(_set(), [])
    assert columns.boxes.shape == (0, 4)
    assert columns.starts.tolist() == [0, 0, 0, 0]
