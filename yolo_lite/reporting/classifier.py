"""What report.json says about a classifier, alone or against a second."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolo_lite.checkpoints.card import model_card
from yolo_lite.checkpoints.checkpoint import build_classifier_from_checkpoint, load_checkpoint
from yolo_lite.data.fingerprint import fingerprint
from yolo_lite.data.pipeline.classification import read_record
from yolo_lite.draw.inline import data_uri, fitted_hw
from yolo_lite.errors import InputError, are, counted, some
from yolo_lite.evaluation.classifier import ClassEvaluation
from yolo_lite.metrics.calibration import measure_calibration
from yolo_lite.metrics.class_comparison import RESAMPLES, compare_calls, percentile_interval, resample_classes
from yolo_lite.metrics.comparison import Difference
from yolo_lite.metrics.resampling import Floats
from yolo_lite.reporting.contents import scored_name, scored_names
from yolo_lite.reporting.page import FORMAT, VERSION
from yolo_lite.shipped import find_weights
from yolo_lite.structures.class_names import names_in_data
from yolo_lite.structures.datasets import ClassificationSet, ClassRecord
from yolo_lite.structures.geometry import Image, resize_image

_WORST = 12
_LISTED = 12  # images that got better, and as many that got worse
_LONGEST = 240  # pixels, the longer side of a wrongly classified image


def classifier_report(evaluation: ClassEvaluation, *, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Return what report.json holds for a classifier; "comparison" is None.

    Args:
        evaluation: as `evaluate_classifier` returns it, of weights that still exist.
        resamples: number of resamples for the intervals.

    Example:
        >>> from yolo_lite.training.recipe import train_classifier
        >>> from yolo_lite.evaluation.classifier import evaluate_classifier
        >>> short = {"train.epochs": 1, "train.preflight": False}
        >>> run = train_classifier("my_classes", config="mnist_small", settings=short, out="reported", device="cpu")
        >>> report = classifier_report(evaluate_classifier(run / "best.pt", "my_classes", device="cpu"))
        >>> report["task"], [number["name"] for number in report["headline"]], report["data"]["images"]
        ('classify', ['accuracy', 'macro F1'], 4)
    """
    truth, called = _labels(evaluation)
    names, report = evaluation.class_names, evaluation.report
    (samples,) = resample_classes(truth, called, classes=len(names), resamples=resamples)
    settings = evaluation.settings
    data = ClassificationSet(evaluation.records, names, source=str(settings["data"]))
    return {
        "format": FORMAT,
        "version": VERSION,
        "task": "classify",
        "title": f"{scored_name(settings)} on {Path(data.source).resolve().name}, {settings['split']}",
        "headline": [
            _headline("accuracy", report.accuracy, samples.accuracy),
            _headline("macro F1", report.macro.f1, samples.macro_f1),
        ],
        "resamples": resamples,
        "settings": dict(settings),
        "data": {
            "source": data.source,
            "images": len(data.records),
            "classes": len(names),
            "fingerprint": fingerprint(data),
            "summary": data.summary(),
        },
        "card": model_card(str(settings["weights"])),
        "notes": list(evaluation.notes),
        "per_class": [
            {"name": name, "images": each.support, "precision": each.precision, "recall": each.recall, "f1": each.f1}
            for name, each in report.per_class.items()
        ],
        "confusion": {"names": list(names), "counts": report.confusion.tolist()},
        "calibration": measure_calibration(evaluation.scores.max(1), called == truth).to_json(),
        "worst": _worst(evaluation),
        "comparison": None,
    }


def compare_classifiers(a: ClassEvaluation, b: ClassEvaluation, *, resamples: int = RESAMPLES) -> dict[str, Any]:
    """Return the section "comparison" of report.json: the second classifier minus the first, on the same images.

    Accuracy, macro F1 and the F1 of each class are compared on the same resamples of the images. Of the images that only
    one of the two gets right, those are listed whose score for the true class changed most.

    Args:
        a: evaluation of the first classifier.
        b: that of the second.
        resamples: number of resamples.

    Raises:
        InputError: if the two know different classes, or were scored on different images.

    Example:
        >>> from yolo_lite.metrics.classification import classification_report
        >>> report = classification_report([0, 1], [0, 1], class_names=("cat", "dog"))
        >>> records = tuple(ClassRecord(f"{i}.png", Path(f"{i}.png"), label=i) for i in (0, 1))
        >>> scores, names = np.array([[0.9, 0.1], [0.2, 0.8]], np.float32), ("cat", "dog")
        >>> same = ClassEvaluation(report, records, scores=scores, class_names=names, settings={"weights": "a.pt"})
        >>> compare_classifiers(same, same)["overall"][0]
        {'name': 'accuracy', 'a': 1.0, 'b': 1.0, 'low': 0.0, 'high': 0.0, 'p': 1.0, 'difference': 0.0}
    """
    b = dataclasses.replace(b, class_names=names_in_data(b.class_names, a.class_names))
    _check_classes((str(a.settings["weights"]), a.class_names), (str(b.settings["weights"]), b.class_names))
    truth, called = _labels(a)
    scores = _scores_on_same_images(a, b)
    other = scores.argmax(1)
    gain = np.take_along_axis(scores - a.scores, truth[:, None], axis=1)[:, 0]  # of the true class
    name_a, name_b = scored_names(a.settings, b.settings)
    comparison = compare_calls(called, other, truth=truth, class_names=a.class_names, resamples=resamples)

    def changed(better: bool) -> list[dict[str, str]]:
        right, wrong = (other, called) if better else (called, other)
        order = np.argsort(-gain if better else gain, kind="stable")
        chosen = order[(right == truth)[order] & (wrong != truth)[order]][:_LISTED]
        return [_changed_image(a, index, called=(called[index], other[index])) for index in chosen.tolist()]

    return {
        "a": name_a,
        "b": name_b,
        "images": len(truth),
        "resamples": resamples,
        "overall": [_difference(each) for each in comparison.overall],
        "classes": [_difference(each) for each in comparison.classes],
        "better": changed(better=True),
        "worse": changed(better=False),
    }


def _changed_image(a: ClassEvaluation, index: int, *, called: tuple[int, int]) -> dict[str, str]:
    record, names = a.records[index], a.class_names
    return {
        "image": _short_name(record.name),
        "truth": names[record.label],
        "a": names[called[0]],
        "b": names[called[1]],
    }


def _labels(evaluation: ClassEvaluation) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return true and predicted labels."""
    truth = np.array([record.label for record in evaluation.records], np.int64)
    return truth, evaluation.scores.argmax(1).astype(np.int64)


def _headline(name: str, value: float, samples: Floats) -> dict[str, Any]:
    low, high = percentile_interval(samples)
    return {"name": name, "value": value, "low": _or_none(low), "high": _or_none(high)}


def _worst(evaluation: ClassEvaluation) -> list[dict[str, Any]]:
    """Return the mistakes with the highest scores."""
    truth, called = _labels(evaluation)
    wrong = np.flatnonzero(called != truth)
    scores = evaluation.scores[wrong, called[wrong]]
    names = evaluation.class_names
    return [
        {
            "image": _short_name(evaluation.records[index].name),
            "truth": names[truth[index]],
            "called": names[called[index]],
            "score": float(evaluation.scores[index, called[index]]),
            "shown": _shown(read_record(evaluation.records[index], evaluation.max_16bit)),
        }
        for index in wrong[np.argsort(-scores, kind="stable")][:_WORST].tolist()
    ]


def _shown(image: Image) -> str:
    return data_uri(resize_image(image, fitted_hw(image.shape[:2], _LONGEST)))


def _short_name(name: str) -> str:
    """Return file and folder of an image, because files in two folders of classes often have the same name."""
    return "/".join(Path(name).parts[-2:])


def check_comparable(a: str | Path, b: str | Path) -> None:
    """Raise InputError unless two checkpoints are classifiers that know the same classes; scoring them would be in vain.

    Example:
        >>> check_comparable("yolo_lite-pico-voc5", "yolo_lite-n-voc5")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        yolo_lite.errors.InputError: ...pico-voc5.pt is a detector (yolo_lite-pico), not a classifier; use it with detect and eval
    """
    names_a, names_b = map(_names_of_classifier, (a, b))
    _check_classes((str(a), names_a), (str(b), names_in_data(names_b, names_a)))


def _names_of_classifier(weights: str | Path) -> tuple[str, ...]:
    source = find_weights(str(weights))
    checkpoint = load_checkpoint(source)
    build_classifier_from_checkpoint(checkpoint, source)
    return checkpoint.class_names


def _check_classes(a: tuple[str, Sequence[str]], b: tuple[str, Sequence[str]]) -> None:
    """Raise InputError unless two classifiers, each a name and its classes, know the same classes."""
    first, second = set(a[1]), set(b[1])
    if first == second:
        return
    lacking = [
        f"{weights} lacks {some(sorted(names))}"
        for weights, names in ((a[0], second - first), (b[0], first - second))
        if names
    ]
    raise InputError(
        f"two classifiers can be compared only if they know the same classes, but {' and '.join(lacking)}; "
        "compare classifiers that were trained on the same classes"
    )


def _scores_on_same_images(a: ClassEvaluation, b: ClassEvaluation) -> npt.NDArray[np.float32]:
    """Return the scores of b in the order of the images and classes of a."""
    position = {_identity(record): index for index, record in enumerate(b.records)}
    index = [position.get(_identity(record), -1) for record in a.records]
    shared = len(index) - index.count(-1)
    different = len(a.records) + len(b.records) - 2 * shared
    if different:
        raise InputError(
            f"the two classifiers were scored on different images: {counted(different, 'image')} "
            f"{are(different)} not in both splits, because each divides a folder without splits as in its own training; "
            "divide the folder into train, val and test"
        )
    labels = [b.class_names.index(name) for name in a.class_names]
    scores: npt.NDArray[np.float32] = b.scores[index][:, labels]
    return scores


def _identity(record: ClassRecord) -> tuple[str, object]:
    return record.name, record.box


def _difference(each: Difference) -> dict[str, Any]:
    numbers = {**each._asdict(), "difference": each.b - each.a}
    return {key: _or_none(value) if isinstance(value, float) else value for key, value in numbers.items()}


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
