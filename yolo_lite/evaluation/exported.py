"""Score an exported detector on a split of a data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from yolo_lite.checks import check_path, check_split
from yolo_lite.config.schema import Config
from yolo_lite.data.sizes import check_images
from yolo_lite.data.splits import read_split
from yolo_lite.errors import InputError
from yolo_lite.evaluation.detector import (
    Evaluation,
    category_ids_for,
    class_notes,
    emptiness_notes,
    evaluation_config,
    resample_notes,
)
from yolo_lite.evaluation.images import EvaluationListener, detect_records
from yolo_lite.metrics.coco import evaluate_coco
from yolo_lite.runtime import Detector
from yolo_lite.runtime.info import ExportInfo
from yolo_lite.runtime.session import Session
from yolo_lite.structures.class_names import names_in_data
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.tiles import tiling_of

EXPORTED = (".onnx", ".xml", ".pt2")  # of these, .pt2 cannot be scored, and the error says so
_FIXED = {
    "input.image_size": "--image-size",
    "evaluate.iou_threshold": "--iou-threshold",
    "evaluate.tta": "--tta",
}
_ABOVE = "evaluate.score_threshold"


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
            `evaluate.tiles`, `evaluate.tile`, `evaluate.overlap`, `evaluate.resamples` and `train.batch_size`.
        listener: receives the news of the evaluation.

    Raises:
        InputError: if an argument cannot be used.

    Example:
        >>> evaluate_exported("missing.onnx", "my_images")
        Traceback (most recent call last):
        yolo_lite.errors.InputError: missing.onnx does not exist
    """
    listener = listener or EvaluationListener()
    detector, truth, notes, config = open_exported(weights, data, split=split, settings=settings)
    rows, timing = detect_records(
        detector,
        truth.records,
        ids=category_ids_for(names_in_data(detector.class_names, truth.class_names), truth),
        batch_size=detector.batch_size,
        max_16bit=detector.max_16bit,
        listener=listener,
    )
    notes += resample_notes(config.evaluate.resamples)
    metrics = evaluate_coco(truth, rows, resamples=config.evaluate.resamples, on_resample=listener.on_resample)
    about = {"weights": str(weights), "data": str(data), "split": split, **_conditions(detector)}
    about |= {"resamples": config.evaluate.resamples} if config.evaluate.resamples else {}
    return Evaluation(metrics, rows, truth=truth, settings=about, timing=timing, notes=tuple(notes))


class OpenExported(NamedTuple):
    """An exported detector, the data that it is scored on, notes about both, and the configuration."""

    detector: Detector
    truth: DetectionSet
    notes: list[str]
    config: Config


def open_exported(
    weights: str | Path, data: str | Path, *, split: str, settings: Mapping[str, object] | None
) -> OpenExported:
    """Open an exported detector and a split to score it on; arguments and errors are those of `evaluate_exported`.

    Example:
        >>> open_exported("pico.onnx", "my_images", split="val", settings={"evaluate.iou_threshold": 0.5})
        Traceback (most recent call last):
        yolo_lite.errors.InputError: --iou-threshold is fixed in an exported file; leave it out, or score the checkpoint
    """
    chosen = dict(settings or {})
    info = check_exported(weights, chosen)
    config = evaluation_config(Config(), chosen)
    truth = read_split(
        check_path(data, "data"), check_split(split), classes=config.data.classes, difficult=config.data.difficult
    )
    check_images(truth)
    notes = [*truth.notes, *class_notes(info.class_names, truth.class_names), *emptiness_notes(truth)]
    return OpenExported(_opened(weights, config, info=info, truth=truth, given=chosen), truth, notes, config)


def check_exported(weights: str | Path, settings: Mapping[str, object] | None = None) -> ExportInfo:
    """Return what an exported file says about itself.

    Raises:
        InputError: if it cannot be read, or a setting is fixed in it.

    Example:
        >>> check_exported("pico.onnx", {"evaluate.tta": True})
        Traceback (most recent call last):
        yolo_lite.errors.InputError: --tta is fixed in an exported file; leave it out, or score the checkpoint
    """
    for key, flag in _FIXED.items():
        if (settings or {}).get(key):
            raise InputError(f"{flag} is fixed in an exported file; leave it out, or score the checkpoint")
    return Session(weights).info


def _opened(
    weights: str | Path, config: Config, *, info: ExportInfo, truth: DetectionSet, given: Mapping[str, object]
) -> Detector:
    """Open a detector for the classes that file and data have in common."""
    asked, names = config.evaluate, names_in_data(info.class_names, truth.class_names)
    return Detector(
        weights,
        score_threshold=asked.score_threshold if _ABOVE in given else info.lowest_score,
        max_detections=min(asked.max_detections, info.max_detections),
        classes=[known for known, name in zip(info.class_names, names) if name in truth.class_names],
        tiles=tiling_of(asked.tiles, asked.tile, overlap=asked.overlap),
        batch_size=config.train.batch_size,
    )


def _conditions(detector: Detector) -> dict[str, Any]:
    """Return the conditions that belong beside the metrics."""
    return {
        "image_size": list(detector.image_size),
        "resize": detector.resize,
        "score_threshold": detector.score_threshold,
        "iou_threshold": detector.iou_threshold,
        "max_detections": detector.max_detections,
        **({"tiles": str(detector.tiling)} if detector.tiling else {}),
        "device": "cpu",
    }
