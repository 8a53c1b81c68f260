"""Random sets for the tests of metrics, with the cases that are easy to get wrong."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.records import ImageRecord

NAMES, CATEGORY_IDS = ("ant", "bee", "cat", "never there"), (44, 2, 90, 5)


def record(
    image_id: int, boxes: Any, labels: list[int], *, crowd: list[int] | None = None, unlabelled: tuple[int, ...] = ()
) -> ImageRecord:
    """Return a record with boxes xyxy, none of them a crowd by default."""
    array = np.array(boxes, np.float64).reshape(-1, 4)
    return ImageRecord(
        Path(f"{image_id}.jpg"),
        image_id,
        hw=(100, 100),
        boxes=array,
        labels=np.array(labels, np.int64),
        crowd=np.array(crowd or [0] * len(array), bool),
        areas=(array[:, 2:] - array[:, :2]).prod(1),
        unlabelled=unlabelled,
    )


def row(box: Any, score: float = 0.9, *, label: int = 0, image_id: int = 1) -> dict[str, Any]:
    """Return a result row for a box xyxy."""
    x1, y1, x2, y2 = box
    bbox = [x1, y1, x2 - x1, y2 - y1]
    return {"image_id": image_id, "category_id": CATEGORY_IDS[label], "bbox": bbox, "score": score}


def set_of(*records: ImageRecord) -> DetectionSet:
    """Return a set with the four classes in NAMES."""
    return DetectionSet(records, NAMES, category_ids=CATEGORY_IDS, source="drawn")


def random_set(
    seed: int, *, images: int = 8, objects: int = 7, confused: float = 0.3
) -> tuple[DetectionSet, list[dict[str, Any]]]:
    """Return a set and rows near its objects.

    Corners are whole numbers, so that overlaps are equal or hit a threshold. Scores have one decimal. Image ids have
    gaps and are not in order, about a seventh of the objects are crowds, and some images are not labelled for "bee". The
    last image and the last class have no objects. A fraction `confused` of the rows near an object has any class.
    """
    generator = np.random.default_rng(seed)
    records, rows = [], []
    for image_id in (generator.permutation(images) * 7 + 1).tolist():
        count = int(generator.integers(0, objects + 1)) if len(records) < images - 1 else 0
        corners = generator.integers(0, 30, (count, 2))
        boxes = np.hstack([corners, corners + generator.integers(4, 30, (count, 2))])
        labels = generator.integers(0, 3, count).tolist()
        crowd = (generator.random(count) < 0.15).astype(int).tolist()
        unlabelled = (1,) if generator.random() < 0.25 else ()
        records.append(record(image_id, boxes, labels, crowd=crowd, unlabelled=unlabelled))
        for _ in range(int(generator.integers(0, 4 * objects))):
            box, label = _near(generator, boxes, labels, confused)
            rows.append(row(box, int(generator.integers(1, 10)) / 10, label=label, image_id=image_id))
    return set_of(*records), rows


def _near(
    generator: np.random.Generator, boxes: npt.NDArray[Any], labels: list[int], confused: float
) -> tuple[list[int], int]:
    """Return a box near one of the boxes, mostly with its label, or a box anywhere."""
    if not labels or generator.random() < 0.2:
        x, y, width, height = generator.integers(1, 30, 4).tolist()
        return [x, y, x + width, y + height], int(generator.integers(0, 4))
    chosen = int(generator.integers(0, len(labels)))
    x1, y1, x2, y2 = (boxes[chosen] + generator.integers(-4, 5, 4)).tolist()
    label = labels[chosen] if generator.random() >= confused else int(generator.integers(0, 4))
    return [x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)], label


def perfect_rows(data: DetectionSet) -> list[dict[str, Any]]:
    """Return the ground truth as rows with a score of 1, without crowds and unlabelled classes."""
    return [
        row(box, 1.0, label=label, image_id=image.image_id)
        for image in data.records
        for box, label, crowd in zip(image.boxes.tolist(), image.labels.tolist(), image.crowd)
        if not crowd and label not in image.unlabelled
    ]


def by_pycocotools(data: DetectionSet, rows: list[dict[str, Any]]) -> COCOeval:
    """Return pycocotools' evaluation; annotation ids count all objects from 1, detection ids all rows from 1."""
    truth, annotations, number = COCO(), [], 0
    left_out = {(image.image_id, CATEGORY_IDS[label]) for image in data.records for label in image.unlabelled}
    for image in data.records:
        for box, label, crowd, area in zip(image.boxes.tolist(), image.labels.tolist(), image.crowd, image.areas):
            number += 1
            part = {"id": number, "image_id": image.image_id, "category_id": CATEGORY_IDS[label], "area": float(area)}
            bbox = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            if (image.image_id, CATEGORY_IDS[label]) not in left_out:
                annotations.append({**part, "bbox": bbox, "iscrowd": int(crowd)})
    truth.dataset = {
        "images": [{"id": image.image_id} for image in data.records],
        "annotations": annotations,
        "categories": [{"id": category_id} for category_id in CATEGORY_IDS],
    }
    found = COCO()
    found.dataset = {
        **truth.dataset,
        "annotations": [
            {**row, "id": number, "area": row["bbox"][2] * row["bbox"][3]}
            for number, row in enumerate(rows, 1)
            if (row["image_id"], row["category_id"]) not in left_out
        ],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        found.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def box_iou(first: Any, second: Any) -> float:
    """Return the IoU of two boxes xyxy."""
    width = max(0, min(first[2], second[2]) - max(first[0], second[0]))
    height = max(0, min(first[3], second[3]) - max(first[1], second[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (first, second)]
    return width * height / (sum(areas) - width * height)


def inside(box: Any, crowd: Any) -> float:
    """Return the fraction of a box xyxy that lies in a crowd."""
    width = max(0, min(box[2], crowd[2]) - max(box[0], crowd[0]))
    height = max(0, min(box[3], crowd[3]) - max(box[1], crowd[1]))
    return width * height / ((box[2] - box[0]) * (box[3] - box[1]))
