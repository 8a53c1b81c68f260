"""Score a classifier on a data set."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from yolo_lite.checkpoints.checkpoint import Checkpoint, build_classifier_from_checkpoint, load_checkpoint
from yolo_lite.checks import check_path, check_split
from yolo_lite.config.resolve import check_settings, override_config
from yolo_lite.config.schema import Config, DataConfig, InputConfig, TrainConfig
from yolo_lite.data.pipeline.classification import ClassDataset, collate_classes, read_record
from yolo_lite.data.pipeline.loader import EpochSampler, build_loader
from yolo_lite.data.splits import read_classes_to_score
from yolo_lite.device import explain_out_of_memory, pick_device, place
from yolo_lite.errors import InputError, some
from yolo_lite.evaluation.shards import Inputs, check_same, classify_together
from yolo_lite.media.images import MAX_16BIT
from yolo_lite.metrics.classification import ClassificationReport, classification_report
from yolo_lite.models.classifiers.build import ClassifierNet
from yolo_lite.ranks import Ranks, together
from yolo_lite.shipped import find_weights
from yolo_lite.structures.class_names import names_in_data, spelling_notes
from yolo_lite.structures.datasets import Classes, ClassificationSet, ClassRecord
from yolo_lite.structures.geometry import Image
from yolo_lite.structures.results import Classification

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage

    ImageInput = str | os.PathLike[str] | Image | PillowImage


@dataclass(frozen=True, eq=False)
class ClassEvaluation:
    """The result of an evaluation.

    Attributes:
        report: the metrics.
        records: the images, in the order of the rows of `scores`.
        scores: float32 [N, C], the score of each image for each class.
        class_names: names by label, as the data spells them.
        settings: the conditions of the measurement.
        max_16bit: as for `read_image`.
        notes: remarks for the user, a line each.
    """

    report: ClassificationReport
    records: tuple[ClassRecord, ...]
    scores: np.ndarray[Any, np.dtype[np.float32]]
    class_names: tuple[str, ...]
    settings: Mapping[str, Any]
    max_16bit: int = MAX_16BIT
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values for metrics.json: those of the report, the settings and the notes.

        Example:
            >>> report = classification_report(np.array([0, 1]), np.array([0, 0]), class_names=("cat", "dog"))
            >>> scores = np.array([[0.9, 0.1], [0.8, 0.2]], np.float32)
            >>> evaluation = ClassEvaluation(report, (), scores=scores, class_names=("cat", "dog"), settings={})
            >>> evaluation.to_json()["accuracy"]
            0.5
        """
        return {**self.report.to_json(), "settings": dict(self.settings), "notes": list(self.notes)}

    def examples(self, count: int) -> Iterator[tuple[Image, Classification, str]]:
        """Yield up to `count` images with their classification and their true class; half are wrong if there are enough.

        The wrong ones come first, by falling score. The right ones are the first of the set.

        Example:
            >>> from yolo_lite.data.splits import read_classes_to_score
            >>> _, data = read_classes_to_score(DataConfig(path="my_classes"), "val", seed=0)  # 2 discs, 2 squares
            >>> scores, names = np.array([[0.9, 0.1], [0.8, 0.2]], np.float32), ("disc", "square")
            >>> report = classification_report(np.array([0, 1]), scores.argmax(1), class_names=names)
            >>> given = {"scores": scores, "class_names": names, "settings": {}}
            >>> evaluation = ClassEvaluation(report, (data.records[0], data.records[2]), **given)
            >>> [(called.name, truth) for _, called, truth in evaluation.examples(2)]
            [('disc', 'square'), ('disc', 'disc')]
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
    settings: Mapping[str, object] | None = None,
    device: str | torch.device = "auto",
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> ClassEvaluation:
    """Score a classifier on one split of a data set.

    Classes are matched by name; case, underscores, hyphens and spaces do not matter, and a note names the classes that are
    spelled differently. The processes that torchrun started divide the images, and all of them return the same result.

    Args:
        weights: checkpoint file, or the bare name of a shipped one.
        data: folder, archive or YAML file; see data/catalog.py.
        split: train, val or test; None: test if there is one, otherwise val.
        settings: by key. `data.classes` selects images of these classes; `data.shares` divides a folder without splits
            (default: as in training). Also `train.batch_size` (default: 64) and `train.workers`.
        device: auto, cpu, cuda or mps.
        on_batch: called after each batch with the number of batches done and their total.

    Raises:
        InputError: if an argument cannot be used, or the data has a class that the weights do not know.

    Example:
        >>> from yolo_lite.training.recipe import train_classifier
        >>> short = {"train.epochs": 1, "train.preflight": False}
        >>> run = train_classifier("my_classes", config="mnist_small", settings=short, out="to_score", device="cpu")
        >>> evaluation = evaluate_classifier(run / "best.pt", "my_classes", split="val", device="cpu")
        >>> evaluation.report.confusion.sum(1).tolist()  # validation images of disc and square
        [2, 2]
    """
    with together() as ranks:
        data, split = check_path(data, "data"), None if split is None else check_split(split)
        source = find_weights(check_path(weights, "weights"))
        checkpoint = load_checkpoint(source)
        config = _config(checkpoint, settings)
        where = pick_device(device)
        model = place(build_classifier_from_checkpoint(checkpoint, source), where)
        name, truth = _read(checkpoint, dataclasses.replace(config.data, path=str(data)), split)
        names = truth.class_names
        check_same(source, truth, ranks=ranks)
        notes = list(truth.notes)
        listener = (notes.append, on_batch if ranks.is_first else _silent)
        scores = _scores(model, truth, device=where, config=config, listener=listener, ranks=ranks)
    labels = np.array([record.label for record in truth.records])
    conditions = {"weights": str(source), "data": data, "split": name, "images": len(labels), "device": str(where)}
    report, limit = classification_report(labels, scores.argmax(1), class_names=names), config.input.max_16bit
    about: dict[str, Any] = {"settings": conditions, "max_16bit": limit, "notes": tuple(notes)}
    return ClassEvaluation(report, truth.records, scores=scores, class_names=names, **about)


def _read(checkpoint: Checkpoint, data: DataConfig, split: str | None) -> tuple[str, ClassificationSet]:
    """Return the split to score and its images, with the classes of the weights as the data spells them."""
    name, truth = read_classes_to_score(data, split, seed=int(checkpoint.about.get("seed", 0)))
    return name, _known_classes(truth, checkpoint.class_names)


def _silent(done: int, total: int) -> None:
    """Ignore progress: rank 0 reports it."""


def _scores(
    model: ClassifierNet,
    truth: ClassificationSet,
    *,
    config: Config,
    device: torch.device,
    listener: tuple[Callable[[str], None], Callable[[int, int], None]],
    ranks: Ranks,
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return the scores of a set's images in every process: float32 [N, C]."""
    say, on_batch = listener
    outputs, _ = classify_together(
        lambda part: classify_split(model, part, config=config, device=device, say=say, on_batch=on_batch),
        inputs_of(truth, config.input),
        batch_size=config.train.batch_size,
        ranks=ranks,
    )
    scores: np.ndarray[Any, np.dtype[np.float32]] = ranks.decide(lambda: model.scores(outputs).numpy())
    return scores


def _config(checkpoint: Checkpoint, settings: Mapping[str, object] | None) -> Config:
    """Return the configuration for scoring: that of the weights with `settings`, but default data and batch size."""
    own = dataclasses.replace(checkpoint.config, data=DataConfig(), train=TrainConfig())
    shares = checkpoint.about.get("split", own.data.shares)
    return override_config(
        own, {"train.batch_size": BATCH_SIZE, "data.shares": shares, **check_settings(settings, _KEYS)}
    )


_KEYS = ("data.classes", "data.shares", "input.max_16bit", "train.batch_size", "train.workers")
BATCH_SIZE = 64  # images, unless train.batch_size is set


def inputs_of(data: ClassificationSet, shape: InputConfig) -> ClassDataset:
    """Return the images of a set as inputs of that shape, without augmentation.

    Example:
        >>> from yolo_lite.data.splits import read_classes_to_score
        >>> _, data = read_classes_to_score(DataConfig(path="my_classes"), "val", seed=0)
        >>> dataset = inputs_of(data, InputConfig(image_size=(32, 48)))
        >>> len(dataset), tuple(dataset[0, 0].image.shape)  # the sample at (epoch, index)
        (4, (3, 32, 48))
    """
    return ClassDataset(
        data.records, shape.image_size, channels=shape.channels, resize=shape.resize, max_16bit=shape.max_16bit
    )


def _known_classes(truth: ClassificationSet, class_names: Sequence[str]) -> ClassificationSet:
    """Return a set with the classes of the weights; raise InputError if it has another class, or no images.

    A note names the classes that it spells differently.
    """
    known = names_in_data(class_names, truth.class_names)
    unknown = [name for name in truth.class_names if name not in known]
    if unknown:
        noun = "class" if len(unknown) == 1 else "classes"
        raise InputError(
            f"{truth.source} has the {noun} {some(unknown)}, but the weights know only {some(class_names)}; "
            "select the classes to score with --classes"
        )
    notes = (*truth.notes, *spelling_notes(class_names, truth.class_names))
    aligned = dataclasses.replace(truth.with_classes(Classes.numbered(known)), notes=notes)
    if not aligned.records:
        raise InputError(f"{aligned.source} has no images to score")
    return aligned


@torch.inference_mode()
def classify_split(
    model: ClassifierNet,
    dataset: Inputs,
    *,
    config: Config,
    device: torch.device,
    say: Callable[[str], None] = lambda line: None,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Tensor, Tensor]:
    """Run a model in evaluation mode over a data set.

    Returns:
        Its outputs, float32 [N, C], and the labels, int64 [N], both on the CPU.

    Example:
        >>> from yolo_lite.data.splits import read_classes_to_score
        >>> from yolo_lite.models.classifiers.build import build_classifier
        >>> from yolo_lite.training.plan import plan
        >>> config = plan("my_classes", config="mnist_small").config
        >>> dataset = inputs_of(read_classes_to_score(config.data, "val", seed=0)[1], config.input)
        >>> model = build_classifier(config, 2).eval()
        >>> outputs, labels = classify_split(model, dataset, config=config, device=torch.device("cpu"))
        >>> tuple(outputs.shape), labels.tolist()
        ((4, 2), [0, 0, 1, 1])
    """
    train = config.train
    sampler = EpochSampler(len(dataset), train.batch_size, shuffle=False)
    workers = 0 if dataset.kept is not None else train.workers
    loader = build_loader(dataset, sampler, workers=workers, device=device, collate=collate_classes, say=say)
    outputs, labels = [], []
    with explain_out_of_memory(f"use a smaller --batch-size (now {train.batch_size})"):
        for number, batch in enumerate(loader, 1):
            images = batch.images.to(device).contiguous(memory_format=torch.channels_last)
            outputs.append(model(images).float().cpu())
            labels.append(batch.labels)
            on_batch(number, len(sampler))
    loader.close()
    return torch.cat(outputs), torch.cat(labels)
