"""What report.json of a detector holds: every number that the page shows."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from yolo_lite.data.fingerprint import fingerprint
from yolo_lite.errors import InputError
from yolo_lite.evaluation.detector import Evaluation
from yolo_lite.metrics.calibration import measure_detection_calibration
from yolo_lite.metrics.columns import to_columns
from yolo_lite.metrics.comparison import Comparison, compare
from yolo_lite.metrics.confusion import detector_confusion
from yolo_lite.metrics.curves import OperatingPoint, best_thresholds, measure_curves
from yolo_lite.metrics.errors import measure_errors
from yolo_lite.metrics.matching import SetMatches, match_set
from yolo_lite.predict.detector import Detector
from yolo_lite.reporting.page import FORMAT, VERSION
from yolo_lite.reporting.worst import Failures, worst_images
from yolo_lite.structures.datasets import DetectionSet

Progress = Callable[[int, int], None]
LOWEST_SCORE = 0.05  # of detections whose calibration is measured
_UNSURE = 0.25  # the threshold of a detector without one correct detection
_SIZES = ("small", "medium", "large")
_LIMITS = (32, 96)  # pixels, the sides of squares between these sizes in COCO


def detector_report(
    evaluation: Evaluation,
    *,
    card: str | None = None,
    detector: Detector | None = None,
    on_image: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Return what report.json holds about one detector, without robustness and comparison.

    Args:
        evaluation: of any detector or result file.
        card: the model card.
        detector: explains why objects were missed; its thresholds and image size are those of the evaluation.
        on_image: called with the number of example images drawn and their total.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> from yolo_lite.metrics.coco import evaluate_coco
        >>> truth = read_split("my_images", "val")
        >>> nothing = Evaluation(evaluate_coco(truth, []), [], truth=truth, settings={"data": "my_images", "split": "val"})
        >>> report = detector_report(nothing)
        >>> report["title"], report["data"]["objects"], report["threshold"]
        ('detections on my_images, val', 6, None)
    """
    truth = evaluation.truth
    matches = match_set(truth, to_columns(truth, evaluation.rows))
    overall, of_classes = best_thresholds(matches)
    threshold = overall.score_threshold if overall else _UNSURE
    failures = Failures(truth, matches, score_threshold=threshold, detector=detector)
    calibration = measure_detection_calibration(matches, lowest_score=LOWEST_SCORE).to_json()
    return {
        **_summary(evaluation),
        "data": _data(truth, matches),
        "card": card,
        "speed": _finite(evaluation.timing.rates()) if evaluation.timing else None,
        "notes": list(evaluation.notes),
        "threshold": {**overall._asdict(), "stored": False} if overall else None,
        "per_class": _per_class(evaluation, matches, of_classes, threshold=threshold),
        "errors": measure_errors(matches).to_json(),
        "curves": measure_curves(matches).to_json(truth.class_names),
        "confusion": {
            "iou_threshold": matches.iou_threshold,
            "score_threshold": threshold,
            "names": [*truth.class_names, "(background)"],
            "counts": detector_confusion(matches, score_threshold=threshold).tolist(),
        },
        "sizes": _sizes(evaluation),
        "calibration": {"iou_threshold": matches.iou_threshold, "lowest_score": LOWEST_SCORE, **calibration},
        "worst": worst_images(failures, on_image=on_image),
        "robustness": None,
        "comparison": None,
    }


def _summary(evaluation: Evaluation) -> dict[str, Any]:
    """Return the first entries of the report: what was measured, and the numbers over all classes."""
    metrics = evaluation.metrics
    return {
        "format": FORMAT,
        "version": VERSION,
        "task": "detect",
        "title": _title(evaluation.settings),
        "headline": [_headline(name, metrics.numbers[name], metrics.intervals.get(name)) for name in ("AP", "AP50")],
        "resamples": int(evaluation.settings.get("resamples", 0)) or None,
        "numbers": {name: _known(value) for name, value in metrics.numbers.items()},
        "settings": dict(evaluation.settings),
        "evaluator": f"pycocotools {version('pycocotools')}: mean over IoU 0.50 to 0.95, at most 100 detections of a "
        "class in an image",
    }


def comparison_section(
    a: Evaluation, b: Evaluation, *, resamples: int, on_resample: Progress = lambda done, total: None
) -> dict[str, Any]:
    """Return the section "comparison" of report.json: two detectors on the same images.

    Raises:
        InputError: if they were scored on different images or classes.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> from yolo_lite.metrics.coco import evaluate_coco
        >>> truth = read_split("my_images", "val")
        >>> nothing = Evaluation(evaluate_coco(truth, []), [], truth=truth, settings={"data": "my_images", "split": "val"})
        >>> comparison_section(nothing, nothing, resamples=10)["overall"][0]["p"]
        1.0
    """
    if fingerprint(a.truth) != fingerprint(b.truth):
        raise InputError(
            "the two detectors were scored on different images or labels; score both on the same data, and divide it into "
            "train and val if it has no validation split, because each detector then sets its own images aside"
        )
    name_a, name_b = scored_names(a.settings, b.settings)
    result = compare(a.metrics, b.metrics, images=len(a.truth.records), resamples=resamples, on_resample=on_resample)
    return {
        "a": name_a,
        "b": name_b,
        "images": len(a.truth.records),
        "resamples": resamples,
        **_differences(result),
        **_changed_images(a, b),
    }


def _differences(result: Comparison) -> dict[str, list[dict[str, Any]]]:
    return {
        part: [
            {
                "name": each.name,
                "difference": _known(each.b - each.a),
                **_finite({key: value for key, value in each._asdict().items() if key != "name"}),
            }
            for each in differences
        ]
        for part, differences in (("overall", result.overall), ("classes", result.classes))
    }


def _changed_images(a: Evaluation, b: Evaluation, most: int = 10) -> dict[str, list[dict[str, Any]]]:
    """Return the images in which B finds more than A, and fewer; false alarms count against a detector."""
    found, false, objects = [], [], np.zeros(0, np.int64)
    for evaluation in (a, b):
        matches = match_set(evaluation.truth, to_columns(evaluation.truth, evaluation.rows))
        point, columns, images = evaluation.metrics.best, matches.columns, len(evaluation.truth.records)
        above = columns.scores > (point.score_threshold if point else _UNSURE)
        found.append(np.bincount(columns.images[above & (matches.objects >= 0)], minlength=images))
        false.append(np.bincount(columns.images[above & matches.wrong], minlength=images))
        objects = np.bincount(evaluation.truth.records.image_of_objects[matches.counted], minlength=images)
    gain = (found[1] - found[0]) - (false[1] - false[0])
    names = a.truth.records.short_names()
    best, worst = np.argsort(-gain, kind="stable")[:most], np.argsort(gain, kind="stable")[:most]

    def image(position: int) -> dict[str, Any]:
        return {
            "image": names[position],
            "objects": int(objects[position]),
            "a": int(found[0][position]),
            "b": int(found[1][position]),
            "false_a": int(false[0][position]),
            "false_b": int(false[1][position]),
        }

    return {
        "better": [image(int(position)) for position in best if gain[position] > 0],
        "worse": [image(int(position)) for position in worst if gain[position] < 0],
    }


def _title(settings: Mapping[str, Any]) -> str:
    return f"{scored_name(settings)} on {Path(str(settings['data'])).resolve().name}, {settings['split']}"


def scored_name(settings: Mapping[str, Any]) -> str:
    """Return the name of what was scored: that of the folder too if the file is called best.pt, as in every run.

    Example:
        >>> scored_name({"weights": "runs/train-1/best.pt"}), scored_name({"detections": "theirs.json"})
        ('train-1/best', 'theirs')
    """
    path = Path(_source(settings))
    return f"{path.parent.name}/{path.stem}" if path.stem in ("best", "last") and path.parent.name else path.stem


def scored_names(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[str, str]:
    """Return the names of two detectors or classifiers; whole paths if different files have the same name.

    Example:
        >>> scored_names({"weights": "a/cat.pt"}, {"weights": "a/cat.onnx"})
        ('a/cat.pt', 'a/cat.onnx')
    """
    names, sources = (scored_name(a), scored_name(b)), (_source(a), _source(b))
    return sources if names[0] == names[1] and sources[0] != sources[1] else names


def _source(settings: Mapping[str, Any]) -> str:
    return str(settings.get("weights") or settings.get("detections") or "detections")


def _headline(name: str, value: float, ends: tuple[float, float] | None) -> dict[str, Any]:
    low, high = ends or (math.nan, math.nan)
    return {"name": name, "value": _known(value), "low": _known(low), "high": _known(high)}


def _data(truth: DetectionSet, matches: SetMatches) -> dict[str, Any]:
    return {
        "source": truth.source,
        "images": len(truth.records),
        "objects": int(matches.counted.sum()),
        "crowds": int(truth.records.objects.crowd.sum()),
        "ignored": truth.ignored,
        "classes": len(truth.class_names),
        "fingerprint": fingerprint(truth),
        "summary": truth.summary(),
    }


def _per_class(
    evaluation: Evaluation,
    matches: SetMatches,
    thresholds: Sequence[OperatingPoint | None],
    *,
    threshold: float,
) -> list[dict[str, Any]]:
    columns = matches.columns
    above = (columns.scores > threshold) & ~matches.ignored
    detections = np.bincount(columns.labels[above], minlength=matches.class_count).tolist()
    rows = []
    for label, (name, (ap, ap50, objects)) in enumerate(evaluation.metrics.per_class.items()):
        low, high = evaluation.metrics.class_intervals.get(name, {}).get("AP", (math.nan, math.nan))
        best = thresholds[label]
        rows.append(
            {
                "name": name,
                "objects": objects,
                "detections": detections[label],
                **_finite({"AP": ap, "AP_low": low, "AP_high": high, "AP50": ap50}),
                "threshold": best._asdict() if best else None,
            }
        )
    return rows


def _sizes(evaluation: Evaluation) -> dict[str, Any]:
    """Return the AP for small, medium and large objects, and how many there are; an object's own area decides.

    As in pycocotools, an area that is exactly a limit belongs to both sizes.
    """
    objects, asked = evaluation.truth.records.objects, evaluation.truth.records.asked()
    ends, classes = [0.0, *(side**2 for side in _LIMITS), math.inf], len(evaluation.truth.class_names)
    inside = [asked & (low <= objects.areas) & (objects.areas <= high) for low, high in itertools.pairwise(ends)]
    counts = np.stack([np.bincount(objects.labels[mask], minlength=classes) for mask in inside], axis=1)
    numbers = evaluation.metrics.numbers
    rows: list[tuple[str, Sequence[float], list[int]]] = [
        ("all classes", [numbers[f"AP{size}"] for size in _SIZES], counts.sum(0).tolist())
    ]
    rows += [(name, aps, of.tolist()) for (name, aps), of in zip(evaluation.metrics.by_size.items(), counts)]
    return {
        "names": list(_SIZES),
        "limits": list(_LIMITS),
        "classes": [{"name": name, "AP": [_known(ap) for ap in aps], "objects": of} for name, aps, of in rows],
    }


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: _known(value) for name, value in values.items()}


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
