"""Reports as report.json has them, drawn from a seed: of both tasks, any number of classes, and with nothing measured."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from yolo_lite.predict.files import sample_image

WORDS = ("person", "bicycle", "car", "motorcycle", "aeroplane", "bus", "train", "truck", "boat", "traffic light")
ODD_NAMES = (
    "קטר קיטור ישן",  # from right to left
    "消防栓と自転車の駐輪場",
    "a class whose name is far too long for any column of any table of any report ever written",
    '"><script>alert(1)</script>',  # long enough to stand in an attribute as well
    "<b>&amp;</b>\"'",
)
KINDS = ("Gaussian noise", "motion blur", "defocus", "JPEG", "fog", "brightness", "contrast", "rain", "pixelation")
STYLES = ("oil painting", "watercolour", "pencil sketch", "posterised")
_KEPT = ("format", "version", "task", "title")
ERRORS = ("classification", "localisation", "both", "duplicate", "background", "missed")
COCO_NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def class_names(count: int) -> list[str]:
    """Return names: odd ones first, then everyday ones with numbers."""
    plain = [WORDS[place % len(WORDS)] + (f" {place // len(WORDS)}" * (place >= len(WORDS))) for place in range(count)]
    return [*ODD_NAMES, *plain][:count] if count >= 10 else plain


def photo(seed: int, *, side: int = 160) -> str:
    """Return the sample photograph with a box in it, as a data address."""
    rng = np.random.default_rng(seed)
    with Image.open(sample_image()) as opened:
        image = opened.convert("RGB")
    image.thumbnail((side, side))
    left, top = rng.integers(0, side // 4, 2).tolist()
    ImageDraw.Draw(image).rectangle((left, top, left + side // 3, top + side // 3), outline=(230, 159, 0), width=2)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=70)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def detection_report(classes: int = 20, *, seed: int = 0, side: int = 160) -> dict[str, Any]:
    """Return a detector's report in which everything was measured; the third class has no object."""
    rng = np.random.default_rng(seed)
    names = class_names(classes)
    objects = np.maximum(1, rng.exponential(60, classes)).astype(int)
    objects[2] = 0
    ap = np.clip(rng.normal(0.4, 0.18, classes), 0.01, 0.97)
    return {
        **_opening(classes, int(objects.sum())),
        "per_class": [_class_row(name, int(n), float(a), rng) for name, n, a in zip(names, objects, ap)],
        "errors": _errors(rng),
        "curves": _curves(names, ap, rng),
        "confusion": _confusion(names, objects, rng),
        "sizes": _sizes(names, objects, ap, rng),
        "calibration": _calibration(rng, {"iou_threshold": 0.5, "lowest_score": 0.05}),
        "worst": _worst(side),
        "robustness": _robustness(rng, side),
        "comparison": _comparison(names, rng, ("AP", "AP50")),
    }


def classification_report(classes: int = 10, *, seed: int = 0, side: int = 96) -> dict[str, Any]:
    """Return a classifier's report in which everything was measured."""
    rng = np.random.default_rng(seed)
    names = class_names(classes)
    counts = rng.poisson(0.4, (classes, classes)) + np.diag(rng.integers(20, 60, classes))
    right, truth, called = np.diag(counts), counts.sum(1), counts.sum(0)
    precision, recall = right / called, right / truth
    f1 = 2 * right / (truth + called)
    accuracy = float(right.sum() / counts.sum())
    comparison = _comparison(names, rng, ("accuracy", "macro F1"))
    changes = [{"image": f"{i}.png", "truth": names[0], "a": names[1], "b": names[0]} for i in range(3)]
    return {
        "format": "yolo_lite report",
        "version": 1,
        "task": "classify",
        "title": f"A classifier on a drawn set of {classes} classes, val",
        "headline": [
            {"name": "accuracy", "value": accuracy, "low": accuracy - 0.021, "high": accuracy + 0.019},
            {"name": "macro F1", "value": float(f1.mean()), "low": None, "high": None},
        ],
        "resamples": 1000,
        "settings": {"weights": "classifier.pt", "data": "drawn", "split": "val", "image_size": [32, 32]},
        "data": {
            "source": "a drawn set",
            "images": int(counts.sum()),
            "classes": classes,
            "fingerprint": "2c26b46b68ff",
        },
        "card": None,
        "notes": [],
        "per_class": [
            {"name": name, "images": int(n), "precision": float(p), "recall": float(r), "f1": float(f)}
            for name, n, p, r, f in zip(names, truth, precision, recall, f1)
        ],
        "confusion": {"names": names, "counts": counts.tolist()},
        "calibration": _calibration(rng, {}),
        "worst": [
            {
                "image": f"{i}.png",
                "truth": names[0],
                "called": names[-1],
                "score": 0.99 - i / 50,
                "shown": photo(i, side=side),
            }
            for i in range(6)
        ],
        "comparison": {**comparison, "better": changes, "worse": changes[:1]},
    }


def unmeasured(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report whose parts are all null."""
    return {key: value if key in _KEPT else None for key, value in report.items()}


def without_numbers(value: Any) -> Any:
    """Return a report in which every number is null and all else is as it was."""
    if isinstance(value, Mapping):
        return {key: entry if key == "version" else without_numbers(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [without_numbers(entry) for entry in value]
    return None if isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool)) else value


def without_values(value: Any, *, depth: int = 0) -> Any:
    """Return a report in which all texts and numbers below the first level are null."""
    if isinstance(value, Mapping):
        return {
            key: without_values(entry, depth=depth + 1) if depth or key not in _KEPT else entry
            for key, entry in value.items()
        }
    return [without_values(entry, depth=depth + 1) for entry in value] if isinstance(value, list) else None


def emptied(value: Any) -> Any:
    """Return a report in which every list is empty and all else is as it was."""
    if isinstance(value, Mapping):
        return {key: emptied(entry) for key, entry in value.items()}
    return [] if isinstance(value, list) else value


def _opening(classes: int, objects: int) -> dict[str, Any]:
    """Return what a report says about the whole set."""
    return {
        "format": "yolo_lite report",
        "version": 1,
        "task": "detect",
        "title": f"yolo_lite-nano on a drawn set of {classes} classes, val",
        "headline": [
            {"name": "AP", "value": 0.3441, "low": 0.3203, "high": 0.3698},
            {"name": "AP50", "value": 0.5123, "low": 0.4831, "high": 0.5402},
        ],
        "resamples": 1000,
        "numbers": {name: 0.3 + 0.01 * place for place, name in enumerate(COCO_NAMES)},
        "settings": {
            "weights": "yolo_lite-nano.pt",
            "data": "drawn",
            "split": "val",
            "image_size": [416, 416],
            "resize": "letterbox",
            "score_threshold": 0.001,
            "iou_threshold": 0.6,
            "max_detections": 100,
            "flip": False,
        },
        "evaluator": "pycocotools 2.0.8: IoU 0.50 to 0.95, at most 100 detections in an image",
        "data": {
            "source": "a drawn set",
            "images": 357,
            "objects": objects,
            "crowds": 12,
            "classes": classes,
            "fingerprint": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "summary": "357 images; 12 crowd regions, in which nothing is a false alarm",
        },
        "card": "# nano\n\nTrained on <b>drawn</b> images.\n\nLicence: Apache-2.0",
        "speed": {"all": 25.14, "load": 210.0, "forward": 31.2, "postprocess": 410.7},
        "notes": ["12 crowd regions are ignored: detections inside them are neither right nor wrong.", ODD_NAMES[3]],
        "threshold": {"score_threshold": 0.36, "f1": 0.661, "precision": 0.73, "recall": 0.604, "stored": False},
    }


def _class_row(name: str, objects: int, ap: float, rng: np.random.Generator) -> dict[str, Any]:
    if not objects:
        nothing = dict.fromkeys(("AP", "AP_low", "AP_high", "AP50", "threshold"))
        return {"name": name, "objects": 0, "detections": int(rng.integers(9)), **nothing}
    width = 0.9 / np.sqrt(objects)
    precision, recall = rng.uniform(0.5, 0.9, 2).tolist()
    return {
        "name": name,
        "objects": objects,
        "detections": int(objects * rng.uniform(0.6, 1.4)),
        "AP": ap,
        "AP_low": max(ap - width, 0.0),
        "AP_high": min(ap + width, 1.0),
        "AP50": min(1.0, ap * 1.4),
        "threshold": {
            "score_threshold": rng.uniform(0.2, 0.6),
            "f1": 2 * precision * recall / (precision + recall),
            "precision": precision,
            "recall": recall,
        },
    }


def _errors(rng: np.random.Generator) -> dict[str, Any]:
    lost = (0.031, 0.044, 0.006, 0.002, 0.061, 0.118)
    kinds = [{"kind": kind, "count": int(rng.integers(10, 900)), "lost": value} for kind, value in zip(ERRORS, lost)]
    return {"iou_threshold": 0.5, "background_iou": 0.1, "AP50": 0.5123, "kinds": kinds}


def _curves(names: list[str], ap: Any, rng: np.random.Generator) -> dict[str, Any]:
    recall = np.linspace(0, 1, 101)
    lines = []
    for name, area in zip(["all classes", *names], [float(ap.mean()), *ap.tolist()]):
        reach = min(1.0, 0.3 + area)
        precision = np.where(recall <= reach, 1 - (recall / reach) ** (1 + 4 * area) * rng.uniform(0.3, 0.9), 0.0)
        lines.append({"name": name, "recall": recall.tolist(), "precision": precision.tolist()})
    scores = np.linspace(0.01, 0.99, 99)
    precision, recalls = 0.3 + 0.65 * scores**0.6, 0.9 * (1 - scores**1.5)
    best = {
        "score_threshold": scores.tolist(),
        "f1": (2 * precision * recalls / (precision + recalls)).tolist(),
        "precision": [*precision[:-3].tolist(), None, None, None],
        "recall": recalls.tolist(),
    }
    return {"iou_threshold": 0.5, "precision_recall": lines, "scores": best}


def _confusion(names: list[str], objects: Any, rng: np.random.Generator) -> dict[str, Any]:
    size = len(names) + 1
    counts = np.zeros((size, size), int)
    for label, total in enumerate(objects.tolist()):
        counts[label] = rng.multinomial(
            total, rng.dirichlet(np.r_[np.full(size - 1, 0.02), 1.2]) * 0.4 + _at(size, label)
        )
    counts[-1, :-1] = rng.poisson(9, size - 1)
    counts[-1, -1] = 0
    return {
        "iou_threshold": 0.5,
        "score_threshold": 0.36,
        "names": [*names, "(background)"],
        "counts": counts.tolist(),
    }


def _at(size: int, label: int) -> Any:
    fractions = np.zeros(size)
    fractions[label] = 0.6
    return fractions


def _sizes(names: list[str], objects: Any, ap: Any, rng: np.random.Generator) -> dict[str, Any]:
    rows: list[dict[str, Any]] = [{"name": "all classes", "AP": [0.121, 0.352, 0.533], "objects": [900, 800, 700]}]
    for name, total, area in zip(names, objects.tolist(), ap.tolist()):
        small, medium = total // 3, total // 3
        values = [min(area * factor, 1.0) if total else None for factor in (0.4, 1.0, 1.3)]
        values[0] = values[0] if rng.uniform() < 0.8 else None
        rows.append({"name": name, "AP": values, "objects": [small, medium, total - small - medium]})
    return {"names": ["small", "medium", "large"], "limits": [32, 96], "classes": rows}


def _calibration(rng: np.random.Generator, conditions: dict[str, Any]) -> dict[str, Any]:
    bins = []
    for place in range(10):
        score = (place + 0.5) / 10
        count = int(5000 * 0.6**place) if place != 8 else 0
        known = {"score": score, "precision": max(0.0, score - 0.1 + rng.normal(0, 0.02))}
        bins.append({"low": place / 10, "high": (place + 1) / 10, "count": count, **(known if count else _NO_BIN)})
    return {**conditions, "error": 0.071, "count": sum(int(each["count"]) for each in bins), "bins": bins}


_NO_BIN = {"score": None, "precision": None}


def _worst(side: int) -> dict[str, Any]:
    reasons = [
        "person at 10,20,60,90: the best prediction (person 0.21) is below the score threshold 0.36",
        "<i>car</i> at 5,5,20,20: no prediction overlaps it by more than 0.12",
    ]
    rows = [
        {
            "image": f"000000{place}.jpg",
            "objects": 7,
            "missed": 4 - place,
            "false_alarms": place,
            "score": 0.91 if place else None,
            "truth": photo(place, side=side),
            "found": photo(place + 50, side=side),
            "text": f"000000{place}.jpg with 7 objects",
            "reasons": reasons[: 2 - place],
        }
        for place in range(3)
    ]
    return {"score_threshold": 0.36, "missed": rows, "false_alarms": rows[1:]}


def _robustness(rng: np.random.Generator, side: int) -> dict[str, Any]:
    corruptions = []
    for kind in KINDS:
        slope = rng.uniform(0.03, 0.28)
        for strength in (1, 2, 3):
            relative = max(0.0, 1 - slope * strength)
            scores = {"AP": 0.344 * relative, "AP50": 0.512 * relative}
            corruptions.append({"kind": kind, "strength": strength, **scores, "relative": relative})
    styles = [
        {"kind": kind, "strength": None, "AP": 0.2, "AP50": 0.3, "relative": rng.uniform(0.3, 0.9)} for kind in STYLES
    ]
    example = {"kind": "fog", "strength": 3, "image": "a.jpg", "lost": 4, "text": "a.jpg in fog"}
    return {
        "images": 357,
        "clean": {"AP": 0.344, "AP50": 0.512},
        "strengths": [1, 2, 3],
        "corruptions": corruptions,
        "styles": styles,
        "notes": ["357 of 5,000 images were drawn for this test."],
        "examples": [{**example, "clean": photo(1, side=side), "changed": photo(2, side=side)}] * 2,
    }


def _comparison(names: list[str], rng: np.random.Generator, metrics: tuple[str, str]) -> dict[str, Any]:
    def row(name: str, difference: float, width: float) -> dict[str, Any]:
        p = math.erfc(abs(difference) / width * 1.96 / math.sqrt(2))
        ends = {"low": difference - width, "high": difference + width, "p": p}
        return {"name": name, "a": 0.344, "b": 0.344 + difference, "difference": difference, **ends}

    image = {"image": "a.jpg", "a": 3, "b": 5, "objects": 6, "false_a": 1, "false_b": 0}
    classes = [row(name, float(rng.normal(0.01, 0.05)), 0.06) for name in names]
    classes[-1] = {**dict.fromkeys(classes[-1]), "name": names[-1]}
    return {
        "a": "yolo_lite-nano",
        "b": "yolo_lite-shuffle-1.5x",
        "images": 357,
        "resamples": 1000,
        "overall": [row(metrics[0], 0.021, 0.015), row(metrics[1], 0.01, 0.02)],
        "classes": classes,
        "better": [image] * 3,
        "worse": [{**image, "a": 5, "b": 3}],
    }
