"""What a file must pass before it gets its name: the results of its checkpoint, or nearly its average precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import torch

from yolo_lite.errors import InputError, counted
from yolo_lite.exporting.graph import RawDetector
from yolo_lite.exporting.parity import (
    SCORE_TOLERANCE,
    Suppression,
    check_parity,
    check_suppression,
    compare_classifications,
    compare_detections,
    compare_points,
)
from yolo_lite.exporting.program import Program
from yolo_lite.media.images import read_image
from yolo_lite.predict.classifier import Classifier
from yolo_lite.predict.detector import Detector
from yolo_lite.predict.files import sample_image
from yolo_lite.predict.postprocess import CANDIDATES
from yolo_lite.runtime import Classifier as ExportedClassifier
from yolo_lite.runtime import Detector as ExportedDetector
from yolo_lite.runtime.session import Session
from yolo_lite.structures.geometry import Image
from yolo_lite.structures.results import Detections

MOST_LOST = 0.003  # of the AP, by weights of reduced precision
OnImage = Callable[[int, int], None]  # images done, images in total
Gate = Callable[[Image], tuple[str | None, int]]  # the difference on an image, and the number of results compared


def open_session(file: Path) -> Session:
    """Open a file of any format that has just been written.

    Example:
        >>> from yolo_lite import export
        >>> open_session(export("yolo_lite-pico-voc5", "opened.onnx", image_size=64, check=False)).info.task
        'detect'
    """
    return Session(file, engine=Program(file) if file.suffix == ".pt2" else None)


def check_same_results(file: Path, source: Path, *, images: Iterable[Path] | None, name: str, on_image: OnImage) -> str:
    """Run the checkpoint and the file on real images, and return a line about them.

    Args:
        file: the exported file.
        source: the checkpoint.
        images: None: the sample photograph, whole and in three other shapes.
        name: of the exported file in messages.
        on_image: takes the number of images compared and their total.

    Raises:
        InputError: if there are no images, or the results differ.

    Example:
        >>> from yolo_lite import export
        >>> from yolo_lite.shipped import find_weights
        >>> path, source = Path("same.onnx"), find_weights("yolo_lite-pico-voc5")
        >>> path = export(source, path, image_size=64, check=False)
        >>> line = check_same_results(path, source, images=None, name="same.onnx", on_image=lambda done, total: None)
        >>> line[:48]
        'parity: 4 of 4 images agree with the checkpoint '
    """
    session = open_session(file)
    samples = _photographs() if images is None else {path.name: path for path in images}
    if not samples:
        raise InputError("there are no images to compare the results on; choose other --data")
    compare, what = _gate(session, source)
    differences: list[str | None] = []
    total = 0
    for sample in samples.values():
        image = read_image(sample, session.info.max_16bit) if isinstance(sample, Path) else sample
        difference, count = compare(image)
        differences.append(difference)
        total += count
        on_image(len(differences), len(samples))
    return check_parity(list(samples), differences, source=name, what=what(total))


def check_same_accuracy(
    file: Path, source: Path, *, data: str | Path, name: str, on_image: OnImage, most_lost: float = MOST_LOST
) -> str:
    """Score the checkpoint and the file on the validation images of a data set, and return a line with both APs.

    Both are scored at the file's size and thresholds.

    Args:
        file: the exported file, of reduced precision.
        source: the checkpoint.
        data: folder, YAML file or annotation file.
        name: of the exported file in messages.
        on_image: takes the number of images scored, by both together, and their total.
        most_lost: the most by which the file's AP may be lower.

    Raises:
        InputError: if the file loses more, or the checkpoint finds nothing.

    Example:
        >>> source = Path("missing.pt")
        >>> check_same_accuracy(Path("missing.onnx"), source, data="my_images", name="a", on_image=print)
        Traceback (most recent call last):
        yolo_lite.errors.InputError: missing.onnx does not exist
    """
    from yolo_lite.evaluation.detector import evaluate
    from yolo_lite.evaluation.exported import evaluate_exported
    from yolo_lite.evaluation.images import EvaluationListener

    info = Session(file).info
    settings = {
        "input.image_size": list(info.image_size),
        "evaluate.score_threshold": info.lowest_score,
        "evaluate.iou_threshold": info.iou_threshold,
        "evaluate.max_detections": info.max_detections,
    }
    first = EvaluationListener(on_rows=lambda rows, done, total: on_image(done, 2 * total))
    second = EvaluationListener(on_rows=lambda rows, done, total: on_image(total + done, 2 * total))
    before = evaluate(source, data, settings=settings, device="cpu", listener=first).metrics.numbers["AP"]
    if math.isnan(before) or before <= 0:
        raise InputError(
            f"the checkpoint finds nothing on the validation images of {data}, so AP says nothing about {name}"
        )
    after = evaluate_exported(file, data, listener=second).metrics.numbers["AP"]
    return check_accuracy(before, after, source=name, most_lost=most_lost)


def check_accuracy(before: float, after: float, *, source: str, most_lost: float = MOST_LOST) -> str:
    """Return a line with the AP of a checkpoint and of its exported file.

    Raises:
        InputError: if the file loses more than `most_lost`.

    Example:
        >>> check_accuracy(0.3441, 0.3437, source="a.onnx")
        'accuracy: AP 0.3437, checkpoint 0.3441 (a loss of up to 0.003 is accepted)'
    """
    if not before - after <= most_lost:
        raise InputError(
            f"{source} has AP {after:.4f}, its checkpoint {before:.4f}: the loss is above {most_lost:g}; nothing was "
            "written; export without --fp16"
        )
    return f"accuracy: AP {after:.4f}, checkpoint {before:.4f} (a loss of up to {most_lost:g} is accepted)"


def _gate(session: Session, source: Path) -> tuple[Gate, Callable[[int], str]]:
    """Return the comparison for a file, and what says how many results it compared."""
    if session.info.task == "classify":
        return _classification_gate(session, source), lambda total: "softmax scores"
    if session.info.raw:
        return _point_gate(session, source), lambda total: counted(total, "point")
    return detection_gate(session, source), lambda total: counted(total, "detection")


def _classification_gate(session: Session, source: Path) -> Gate:
    expected, exported = Classifier(source, "cpu"), ExportedClassifier(session)
    return lambda image: (compare_classifications(expected(image), exported(image)), 1)


def _point_gate(session: Session, source: Path) -> Gate:
    detector = Detector(source, "cpu", image_size=session.info.image_size)
    model = RawDetector(detector.model).eval()

    def compare(image: Image) -> tuple[str | None, int]:
        inputs = detector.raw(image)[0][None]
        with torch.no_grad():
            expected = [part[0].numpy() for part in model(torch.from_numpy(inputs))]
        return compare_points(expected, [part[0] for part in session.run(inputs)]), len(expected[0])

    return compare


def detection_gate(session: Session, source: Path) -> Gate:
    """Return a function that compares the detections of a file and of its checkpoint on an image.

    If the results differ, the file's must still be a result of NMS over the checkpoint's boxes: equal scores may be
    taken in another order.

    Example:
        >>> from yolo_lite import export
        >>> from yolo_lite.shipped import find_weights
        >>> source = find_weights("yolo_lite-pico-voc5")
        >>> session = Session(export(source, "gate.onnx", image_size=64, check=False))
        >>> detection_gate(session, source)(np.zeros((64, 64, 3), np.uint8))
        (None, 0)
    """
    info = session.info
    expected = Detector(source, "cpu", image_size=info.image_size, score_threshold=info.lowest_score)
    exported = ExportedDetector(session, score_threshold=info.lowest_score)
    asked = Suppression(info.iou_threshold, info.lowest_score, info.max_detections, candidates=CANDIDATES)

    def compare(image: Image) -> tuple[str | None, int]:
        wanted = expected(image)
        difference = compare_detections(wanted, exported(image))
        if difference:
            inputs, candidates = _candidates(expected, image, info.lowest_score)
            boxes, scores, labels, counts = (part[0] for part in session.run(inputs[None]))
            rows = slice(0, int(counts))
            found = Detections(boxes[rows], scores[rows], labels=labels[rows], class_names=info.class_names)
            difference = check_suppression(candidates, found, asked=asked)
        return difference, len(wanted)

    return compare


def _candidates(detector: Detector, image: Image, score_threshold: float) -> tuple[Image, Detections]:
    """Return the input made from an image, and every box above a score, in input pixels, with each of its classes."""
    inputs = detector.raw(image)[0]
    with torch.no_grad():
        boxes, scores = (part[0].numpy() for part in RawDetector(detector.model).eval()(torch.from_numpy(inputs[None])))
    points, labels = np.nonzero(scores > score_threshold - SCORE_TOLERANCE)
    order = np.argsort(-scores[points, labels], kind="stable")
    points, labels = points[order], labels[order]
    return inputs, Detections(boxes[points], scores[points, labels], labels=labels, class_names=detector.class_names)


def _photographs() -> dict[str, Image | Path]:
    """Return the sample photograph in several shapes, by name."""
    name, photo = sample_image().name, read_image(sample_image())
    height, width = photo.shape[:2]
    return {
        name: photo,
        f"{name}, upper half": photo[: height // 2],
        f"{name}, left half": photo[:, : width // 2],
        f"{name}, mirrored": np.ascontiguousarray(photo[:, ::-1]),
    }
