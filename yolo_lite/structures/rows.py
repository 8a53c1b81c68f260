"""Detections as the rows of COCO result files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from yolo_lite.structures.results import Detections


def to_rows(detections: Detections, image_id: int, *, category_ids: Sequence[int]) -> list[dict[str, Any]]:
    """Return COCO result rows, with image_id, category_id, bbox (xywh in original pixels) and score.

    Tracked objects have their track_id as well.

    Example:
        >>> detections = Detections([[10, 20, 40, 60]], scores=[0.5], labels=[0], class_names=["disc"])
        >>> to_rows(detections, 1, category_ids=[7])
        [{'image_id': 1, 'category_id': 7, 'bbox': [10.0, 20.0, 30.0, 40.0], 'score': 0.5}]
    """
    boxes = detections.boxes.astype(np.float64)
    sizes = boxes[:, 2:] - boxes[:, :2]
    rows = [
        {
            "image_id": image_id,
            "category_id": category_ids[label],
            "bbox": [float(value) for value in (*box[:2], *size)],
            "score": float(score),
        }
        for box, size, label, score in zip(boxes, sizes, detections.labels, detections.scores)
    ]
    ids = [] if detections.track_ids is None else detections.track_ids.tolist()
    return [{**row, "track_id": number} for row, number in zip(rows, ids)] if ids else rows
