"""Detections as rows of a COCO result file, worked by hand."""

from __future__ import annotations

import json

from yolo_lite.structures.results import Detections
from yolo_lite.structures.rows import to_rows


def test_to_rows_gives_corner_and_size_and_the_original_category() -> None:
    found = Detections([[10, 20, 60, 90], [0, 0, 1.5, 2]], [0.75, 0.5], labels=[1, 0], class_names=("cat", "dog"))
    rows = to_rows(found, 77, category_ids=(18, 3))
    assert rows == [
        {"image_id": 77, "category_id": 3, "bbox": [10, 20, 50, 70], "score": 0.75},
        {"image_id": 77, "category_id": 18, "bbox": [0, 0, 1.5, 2], "score": 0.5},
    ]
    assert json.loads(json.dumps(rows)) == rows
    assert to_rows(Detections([], [], labels=[], class_names=("cat", "dog")), 77, category_ids=(18, 3)) == []


def test_rows_of_tracked_objects_have_track_ids() -> None:
    tracked = Detections([[0, 0, 9, 9]], [0.9], labels=[0], class_names=["cat"], track_ids=[5])
    assert [row["track_id"] for row in to_rows(tracked, 1, category_ids=[3])] == [5]
