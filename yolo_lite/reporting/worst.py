"""The images in which a detector fails worst: each beside its ground truth, with the reasons in words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from yolo_lite.draw.inline import data_uri, fitted_hw
from yolo_lite.draw.sheets import draw_cell
from yolo_lite.errors import counted
from yolo_lite.evaluation.compare import compare_on_sheet
from yolo_lite.inspect.why import explain, reason_in_words
from yolo_lite.media.images import MAX_16BIT, read_image
from yolo_lite.metrics.errors import BACKGROUND, BOTH, CLASSIFICATION, DUPLICATE, error_kinds
from yolo_lite.metrics.matching import SetMatches
from yolo_lite.predict.detector import Detector
from yolo_lite.structures.class_names import names_in_data
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.geometry import Image
from yolo_lite.structures.records import ImageRecord
from yolo_lite.structures.results import Detections

MOST = 6  # images of each kind
_REASONS = 4  # for one image
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Failures:
    """The detections above a score threshold, and what became of the objects.

    Attributes:
        truth: the labelled images.
        matches: all detections, matched at IoU 0.5.
        score_threshold: only detections that score above it count.
        detector: explains why objects were missed; None if there is none at hand, as for a result file.
    """

    truth: DetectionSet
    matches: SetMatches
    score_threshold: float
    detector: Detector | None = None

    def above(self) -> npt.NDArray[np.bool_]:
        """Return which detections count: bool [D]."""
        above: npt.NDArray[np.bool_] = self.matches.columns.scores > self.score_threshold
        return above

    def missed(self) -> npt.NDArray[np.bool_]:
        """Return which objects have no detection: bool [N]; crowds and unlabelled classes are not counted."""
        missed: npt.NDArray[np.bool_] = self.matches.counted.copy()
        found = self.matches.objects[self.above()]
        missed[found[found >= 0]] = False
        return missed


def worst_images(
    failures: Failures, *, on_image: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """Return the section "worst" of report.json.

    Args:
        failures: what went wrong.
        on_image: called with the number of images drawn and their total.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> from yolo_lite.metrics.columns import to_columns
        >>> from yolo_lite.metrics.matching import match_set
        >>> truth = read_split("my_images", "val")
        >>> nothing = match_set(truth, to_columns(truth, []))
        >>> worst = worst_images(Failures(truth, nothing, score_threshold=0.4))
        >>> [image["missed"] for image in worst["missed"]], worst["false_alarms"]
        ([2, 2, 2], [])
    """
    records, columns = failures.truth.records, failures.matches.columns
    missed = np.bincount(records.image_of_objects[failures.missed()], minlength=len(records))
    wrong = failures.matches.wrong & failures.above()
    alarms = np.zeros(len(records))
    np.maximum.at(alarms, columns.images[wrong], columns.scores[wrong])
    by_missed, by_alarm = _largest(missed), _largest(alarms)
    total, images, names = len(by_missed) + len(by_alarm), [], records.short_names()
    for position in (*by_missed, *by_alarm):
        images.append(_image(failures, position, name=names[position]))
        on_image(len(images), total)
    return {
        "score_threshold": failures.score_threshold,
        "missed": images[: len(by_missed)],
        "false_alarms": images[len(by_missed) :],
    }


def _largest(values: npt.NDArray[Any]) -> list[int]:
    """Return the positions of the largest positive values; ties: the earlier image."""
    order = np.argsort(-values, kind="stable")[:MOST]
    return [int(position) for position in order if values[position] > 0]


def _image(failures: Failures, position: int, *, name: str) -> dict[str, Any]:
    truth, matches = failures.truth, failures.matches
    record = truth.records[position]
    found = np.arange(len(matches.columns.scores))[matches.columns.of_image(position)]
    found = found[failures.above()[found]]
    columns = matches.columns
    detections = Detections(
        columns.boxes[found].astype(np.float32),
        columns.scores[found].astype(np.float32),
        labels=columns.labels[found],
        class_names=truth.class_names,
    )
    image = read_image(record.path, failures.detector.max_16bit if failures.detector else MAX_16BIT)
    hw = fitted_hw(record.hw)
    cells = compare_on_sheet(
        image, _asked(record), detections=detections, class_names=truth.class_names, ignored=truth.ignored
    )
    wrong = found[matches.wrong[found]]
    objects = np.arange(truth.records.starts[position], truth.records.starts[position + 1])
    missed = objects[failures.missed()[objects]]
    return {
        "image": name,
        "objects": int(matches.counted[objects].sum()),
        "missed": len(missed),
        "false_alarms": len(wrong),
        "score": float(columns.scores[wrong[0]]) if len(wrong) else None,
        "truth": data_uri(draw_cell(cells[0], hw)),
        "found": data_uri(draw_cell(cells[1], hw)),
        "text": f"{name}: {counted(len(missed), 'object')} missed, {counted(len(wrong), 'false alarm')}",
        "reasons": [*_why_missed(failures, image, missed), *_why_wrong(failures, wrong)],
    }


def _asked(record: ImageRecord) -> ImageRecord:
    """Return a record without the objects of classes that the image is not labelled for."""
    kept = ~np.isin(record.labels, record.unlabelled)
    return replace(
        record,
        boxes=record.boxes[kept],
        labels=record.labels[kept],
        crowd=record.crowd[kept],
        areas=record.areas[kept],
        numbers=record.numbers[:0],
    )


@torch.inference_mode()
def _why_missed(failures: Failures, image: Image, missed: Ints) -> list[str]:
    """Return a sentence for each of the largest missed objects."""
    detector, objects = failures.detector, failures.truth.records.objects
    if detector is None or not len(missed):
        return []
    _, letterbox, raw = detector.raw(image)
    known = names_in_data(detector.class_names, failures.truth.class_names)
    unknown = torch.tensor([name not in failures.truth.class_names for name in known])
    raw = raw._replace(class_logits=raw.class_logits.masked_fill(unknown, -torch.inf))  # as in the evaluation
    largest = missed[np.argsort(-objects.areas[missed], kind="stable")]
    lines = []
    for number in largest[:_REASONS].tolist():
        name = failures.truth.class_names[objects.labels[number]]
        levels, candidates = explain(
            raw,
            detector.model.decode,
            box=letterbox.boxes_to_input([objects.boxes[number]])[0].tolist(),
            score_threshold=failures.score_threshold,
            iou_threshold=detector.iou_threshold,
        )
        reason = reason_in_words(
            levels,
            candidates,
            label=known.index(name) if name in known else -1,
            class_names=known,
            score_threshold=failures.score_threshold,
        )
        lines.append(f"Missed {name} {_place(objects.boxes[number])}: {reason}.")
    if len(missed) > _REASONS:
        lines.append(f"{len(missed) - _REASONS} more are missed.")
    return lines


def _why_wrong(failures: Failures, wrong: Ints) -> list[str]:
    """Return a sentence for each of the most confident false alarms."""
    matches, names = failures.matches, failures.truth.class_names
    columns, kinds = matches.columns, error_kinds(matches)
    lines = []
    for number in wrong[:_REASONS].tolist():
        other, own = matches.others.objects[number], matches.own.iou[number]
        name = names[matches.object_labels[other]] if other >= 0 else ""
        reasons = {
            BACKGROUND: "no labelled object is there",
            BOTH: f"it is badly placed on an object of another class, {name} (IoU {matches.others.iou[number]:.2f})",
            CLASSIFICATION: f"the object there is labelled {name} (IoU {matches.others.iou[number]:.2f})",
            DUPLICATE: f"the object there has a detection already (IoU {own:.2f})",
        }
        reason = reasons.get(int(kinds[number]), f"its box fits the object badly (IoU {own:.2f})")
        what = f"{names[columns.labels[number]]} {columns.scores[number]:.2f}"
        lines.append(f"False alarm {what} {_place(columns.boxes[number])}: {reason}.")
    if len(wrong) > _REASONS:
        lines.append(f"{counted(len(wrong) - _REASONS, 'more false alarm')} score less.")
    return lines


def _place(box: npt.NDArray[np.float64]) -> str:
    x1, y1, x2, y2 = box
    return f"of {x2 - x1:.0f} x {y2 - y1:.0f} pixels at {x1:.0f},{y1:.0f}"
