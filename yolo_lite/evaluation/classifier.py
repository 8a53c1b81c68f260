"""How right a classifier is on a data set."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from yolo_lite.checkpoints.checkpoint import build_classifier_from_checkpoint, load_checkpoint
from yolo_lite.checks import check_class_names, check_path, check_split, check_whole
from yolo_lite.config.schema import DataConfig
from yolo_lite.data.divide import DEFAULT_SHARES
from yolo_lite.data.pipeline.classification import ClassDataset, collate_classes, read_record
from yolo_lite.data.pipeline.loader import EpochSampler, build_loader
from yolo_lite.data.splits import read_classes_to_score
from yolo_lite.device import explain_out_of_memory, pick_device, place
from yolo_lite.errors import InputError, some
from yolo_lite.media.images import MAX_16BIT
from yolo_lite.metrics.classification import ClassificationReport, classification_report
from yolo_lite.models.classifiers.build import ClassifierNet
from yolo_lite.shipped import find_weights
from yolo_lite.structures.datasets import Classes, ClassRecord
from yolo_lite.structures.geometry import Image
from yolo_lite.structures.results import Classification

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

    Picture = str | os.PathLike[str] | Image | PillowImage


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
        data: a folder, archive or YAML file; see data/class_catalog.py.
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
    images = DataConfig(path=str(data), classes=tuple(classes or ()), shares=divided)
    name, truth = read_classes_to_score(images, split, seed=int(about.get("seed", 0)))
    unknown = [one for one in truth.class_names if one not in checkpoint.class_names]
    if unknown:
        raise InputError(
            f"{truth.source} has the class {some(unknown)}, which the weights do not know ({some(checkpoint.class_names)}); "
            "name those to score with --classes"
        )
    truth = truth.with_classes(Classes.numbered(checkpoint.class_names))
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


@torch.inference_mode()
def classify_split(
    model: ClassifierNet,
    dataset: ClassDataset,
    *,
    batch_size: int,
    workers: int,
    device: torch.device,
    say: Callable[[str], None] = lambda line: None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Tensor, Tensor]:
    """Run a model in evaluation mode over a data set; return its outputs [N, C], float32, and the labels [N], on the CPU;
    `say` takes a line where loading has to go on without processes.
    """
    sampler = EpochSampler(len(dataset), batch_size, shuffle=False)
    workers = 0 if dataset.kept is not None else workers
    loader = build_loader(dataset, sampler, workers=workers, device=device, collate=collate_classes, say=say)
    outputs, labels = [], []
    for number, batch in enumerate(loader, 1):
        images = batch.images.to(device).contiguous(memory_format=torch.channels_last)
        outputs.append(model(images).float().cpu())
        labels.append(batch.labels)
        on_progress(number, len(sampler))
    loader.close()
    return torch.cat(outputs), torch.cat(labels)
