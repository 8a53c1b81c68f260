"""Classify: a picture in, a Classification out; and how right a classifier is on a data set."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import torch

from yolo_lite.checks import check_class_names, check_path, check_split, check_whole
from yolo_lite.data.class_dataset import ClassDataset, read_record, to_input
from yolo_lite.data.class_sets import DEFAULT_SHARES, align_classes, read_classes_to_score
from yolo_lite.data.images import MAX_16BIT
from yolo_lite.engine.checkpoint import build_classifier_from_checkpoint, load_checkpoint
from yolo_lite.engine.classification_task import classify_split
from yolo_lite.engine.device import explain_out_of_memory, pick_device, place
from yolo_lite.engine.predict import to_rgb
from yolo_lite.engine.weights import find_weights
from yolo_lite.errors import InputError, some
from yolo_lite.metrics.classification import ClassificationReport, classification_report
from yolo_lite.structures import Classification, ClassRecord, Image

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

    Picture = str | os.PathLike[str] | Image | PillowImage


class Classifier:
    """A trained classifier, ready for pictures.

    Args:
        weights: a file or the bare name of a shipped one.
        device: auto, cpu, cuda or mps.
        batch_size: so many pictures of a list are looked at together.

    Raises:
        InputError: where weights, device or a setting cannot be used.
    """

    def __init__(
        self, weights: str | os.PathLike[str], device: str | torch.device = "auto", *, batch_size: int = 64
    ) -> None:
        self.weights = find_weights(check_path(weights, "weights"))
        self.checkpoint = load_checkpoint(self.weights)
        self.class_names = self.checkpoint.class_names
        self.input = self.checkpoint.config.input
        self.device = pick_device(device)
        self.model = place(build_classifier_from_checkpoint(self.checkpoint, self.weights), self.device)
        self.batch_size = check_whole(batch_size, "batch_size")

    @overload
    def __call__(self, pictures: Picture) -> Classification: ...

    @overload
    def __call__(self, pictures: list[Picture] | tuple[Picture, ...]) -> list[Classification]: ...

    def __call__(
        self, pictures: Picture | list[Picture] | tuple[Picture, ...]
    ) -> Classification | list[Classification]:
        """Classify one picture or each of a list.

        Args:
            pictures: a path; a NumPy array uint8 [H, W, 3] in RGB order; a PIL image; or a list of these.

        Raises:
            InputError: naming the file that cannot be read, or saying what an array should be.
        """
        if not isinstance(pictures, list | tuple):
            return self._classify([to_rgb(pictures, self.input.max_16bit)])[0]
        found: list[Classification] = []
        for start in range(0, len(pictures), self.batch_size):
            batch = pictures[start : start + self.batch_size]
            found += self._classify([to_rgb(picture, self.input.max_16bit) for picture in batch])
        return found

    @torch.inference_mode()
    def _classify(self, images: Sequence[Image]) -> list[Classification]:
        if not images:
            return []
        size, channels, resize = self.input.image_size, self.input.channels, self.input.resize
        inputs = np.stack([to_input(image, size, channels=channels, resize=resize) for image in images])
        batch = torch.from_numpy(inputs).to(self.device).permute(0, 3, 1, 2)
        with explain_out_of_memory(f"use a smaller batch_size (now {self.batch_size})"):
            scores = self.model.scores(self.model(batch)).cpu().numpy()
        return [Classification(row, self.class_names) for row in scores]


@dataclass(frozen=True, eq=False)
class ClassEvaluation:
    """What an evaluation found.

    Attributes:
        report: the numbers.
        records: the pictures, in the order of the rows of `scores`.
        scores: float32 [N, C] of each picture and class.
        class_names: by label.
        settings: what belongs beside the numbers.
        max_16bit: as for `read_image`.
        notes: what is worth a line.
    """

    report: ClassificationReport
    records: tuple[ClassRecord, ...]
    scores: np.ndarray[Any, np.dtype[np.float32]]
    class_names: tuple[str, ...]
    settings: Mapping[str, Any]
    max_16bit: int = MAX_16BIT
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values for metrics.json."""
        return {**self.report.to_json(), "settings": dict(self.settings), "notes": list(self.notes)}

    def examples(self, count: int) -> Iterator[tuple[Image, Classification, str]]:
        """Yield up to `count` pictures with what they were called and what they are: half of them wrong, if there are so many.

        The wrong ones come first, those of the highest score at their head; the right ones are the first of the set.
        """
        called = self.scores.argmax(1)
        truth = np.array([record.label for record in self.records])
        wrong = np.flatnonzero(called != truth)
        wrong = wrong[np.argsort(-self.scores[wrong, called[wrong]], kind="stable")]
        right = np.flatnonzero(called == truth)
        half = max(count // 2, count - len(right))
        chosen = [*wrong[:half], *right[: count - len(wrong[:half])]]
        for index in chosen:
            record = self.records[index]
            yield (
                read_record(record, self.max_16bit),
                Classification(self.scores[index], self.class_names),
                self.class_names[record.label],
            )


def evaluate_classifier(
    weights: str | Path,
    data: str | Path,
    *,
    split: str | None = None,
    device: str | torch.device = "auto",
    classes: Sequence[str] | None = None,
    shares: str | None = None,
    batch_size: int = 64,
    workers: int = -1,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> ClassEvaluation:
    """Score a classifier on one split of a data set.

    Args:
        weights: a file or the bare name of a shipped one.
        data: a folder, archive or YAML file; see data/class_sets.py.
        split: None for test where there is one, else val.
        device: auto, cpu, cuda or mps.
        classes: score pictures of these classes only.
        shares: how a folder without splits is divided; None for how it was in training. The seed is that of the training.
        on_progress: called with how many batches are done, and of how many.

    Raises:
        InputError: where anything given cannot be used, or the data has a class that the weights do not know.
    """
    batch_size, workers = check_whole(batch_size, "batch_size"), check_whole(workers, "workers", minimum=-1)
    data, split = check_path(data, "data"), None if split is None else check_split(split)
    source = find_weights(check_path(weights, "weights"))
    checkpoint = load_checkpoint(source)
    classes = check_class_names(classes, checkpoint.class_names)
    where = pick_device(device)
    model = place(build_classifier_from_checkpoint(checkpoint, source), where)
    about = checkpoint.about
    divided = shares or about.get("split", DEFAULT_SHARES)
    name, truth = read_classes_to_score(data, split, classes=classes, shares=divided, seed=int(about.get("seed", 0)))
    unknown = [one for one in truth.class_names if one not in checkpoint.class_names]
    if unknown:
        raise InputError(
            f"{truth.source} has the class {some(unknown)}, which the weights do not know ({some(checkpoint.class_names)}); "
            "name those to score with --classes"
        )
    truth = align_classes(truth, checkpoint.class_names)
    if not truth.records:
        raise InputError(f"{truth.source} has no pictures to score")
    shape = checkpoint.config.input
    dataset = ClassDataset(
        truth.records, shape.image_size, channels=shape.channels, resize=shape.resize, max_16bit=shape.max_16bit
    )
    notes = list(truth.notes)
    with explain_out_of_memory(f"use a smaller --batch-size (now {batch_size})"):
        outputs, labels = classify_split(
            model,
            dataset,
            batch_size=batch_size,
            workers=workers,
            device=where,
            say=notes.append,
            on_progress=on_progress,
        )
    scores = model.scores(outputs).numpy()
    report = classification_report(labels.numpy(), scores.argmax(1), class_names=checkpoint.class_names)
    told = {"weights": str(source), "data": str(data), "split": name, "pictures": len(labels), "device": str(where)}
    return ClassEvaluation(
        report,
        truth.records,
        scores=scores,
        class_names=checkpoint.class_names,
        settings=told,
        max_16bit=shape.max_16bit,
        notes=tuple(notes),
    )


def write_predictions(path: Path, rows: Iterable[tuple[str, Classification]], *, class_names: Sequence[str]) -> None:
    """Write a CSV file: a picture's name, its class and score, then the score of every class."""
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "class", "score", *class_names])
        for name, one in rows:
            writer.writerow([name, one.name, f"{one.score:.4f}", *(f"{score:.4f}" for score in one.scores)])
