"""Score an exported detector on a split, without torch in the network."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yolo_lite.checks import check_path, check_split
from yolo_lite.config.schema import Config
from yolo_lite.data.classes import shown_classes
from yolo_lite.data.splits import read_split
from yolo_lite.errors import InputError
from yolo_lite.evaluation.detector import (
    Evaluation,
    EvaluationListener,
    Timing,
    category_ids_for,
    class_notes,
    evaluation_config,
)
from yolo_lite.media.images import read_image
from yolo_lite.metrics.coco import evaluate_coco, to_rows
from yolo_lite.runtime import Detector

_FIXED = {
    "input.image_size": "--image-size",
    "evaluate.iou_threshold": "--iou-threshold",
    "evaluate.tta": "--tta",
}


def evaluate_exported(
    weights: str | Path,
    data: str | Path,
    *,
    split: str = "val",
    settings: Mapping[str, object] | None = None,
    listener: EvaluationListener | None = None,
) -> Evaluation:
    """Score an exported detector on one split of a data set with pycocotools, as `evaluate` scores a checkpoint.

    Detections with scores below the file's own threshold are missing, so AP is a little lower than that of the
    checkpoint, which is measured from a score of 0.001.

    Args:
        weights: a file that `yolo-lite export` wrote.
        data: folder, YAML file or annotation file.
        split: val, train or test.
        settings: by key: `data.classes`, `data.difficult`, `evaluate.score_threshold`, `evaluate.max_detections`,
            `evaluate.resamples` and `train.batch_size`.
        listener: receives the news of the evaluation.

    Raises:
        InputError: if an argument cannot be used.

    Example:
        >>> evaluate_exported("missing.onnx", "my_images")
        Traceback (most recent call last):
        yolo_lite.errors.InputError: missing.onnx does not exist
    """
    chosen, listener = dict(settings or {}), listener or EvaluationListener()
    for key, flag in _FIXED.items():
        if chosen.get(key):
            raise InputError(f"{flag} is fixed in an exported file; leave it out, or score the checkpoint")
    config = evaluation_config(Config(), chosen)
    above, most = chosen.get("evaluate.score_threshold"), chosen.get("evaluate.max_detections")
    lowest = Detector(weights).info.lowest_score
    detector = Detector(
        weights,
        score_threshold=float(str(above)) if above is not None else lowest,
        max_detections=int(str(most)) if most is not None else None,
        batch_size=config.train.batch_size,
    )
    truth = read_split(
        check_path(data, "data"), check_split(split), classes=config.data.classes, difficult=config.data.difficult
    )
    notes = [*truth.notes, *class_notes(detector.class_names, truth.class_names)]
    if not shown_classes(truth):
        notes.append(f"{truth.source} has no objects to find, only background or crowd regions, so there is no AP")
    names = [name for name in detector.class_names if name in truth.class_names]
    detector = Detector(
        weights,
        score_threshold=detector.score_threshold,
        max_detections=detector.max_detections,
        classes=names,
        batch_size=detector.batch_size,
    )
    rows, timing = _detect(
        detector, truth.records, ids=category_ids_for(detector.class_names, truth), listener=listener
    )
    about = {
        "weights": str(weights),
        "data": str(data),
        "split": split,
        "image_size": list(detector.image_size),
        "resize": detector.resize,
        "score_threshold": detector.score_threshold,
        "iou_threshold": detector.iou_threshold,
        "max_detections": detector.max_detections,
        "device": "onnxruntime, cpu",
    }
    metrics = evaluate_coco(truth, rows, resamples=config.evaluate.resamples, on_resample=listener.on_resample)
    return Evaluation(metrics, rows, settings=about, timing=timing, notes=tuple(notes))


def _detect(
    detector: Detector, records: Any, *, ids: list[int], listener: EvaluationListener
) -> tuple[list[dict[str, Any]], Timing]:
    timing = Timing()
    rows: list[dict[str, Any]] = []
    starts = range(0, len(records), detector.batch_size)
    for number, start in enumerate(starts, 1):
        batch = [records[index] for index in range(start, min(start + detector.batch_size, len(records)))]
        began = time.perf_counter()
        images: list[Any] = [read_image(record.path, detector.max_16bit) for record in batch]
        loaded = time.perf_counter()
        found = detector(images)
        timing.load += loaded - began
        timing.forward += time.perf_counter() - loaded
        timing.images += len(batch)
        before = len(rows)
        for record, detections in zip(batch, found):
            rows += to_rows(detections, record.image_id, category_ids=ids)
        listener.on_rows(rows[before:], timing.images, len(records))
        listener.on_batch(number, len(starts))
    return rows, timing
