"""Training a classifier: what the loop needs to know of classes, and how data, network and weights are brought together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from yolo_lite.checkpoints.checkpoint import Checkpoint
from yolo_lite.checkpoints.transfer import Start, transfer_backbone, transfer_classes
from yolo_lite.config.schema import Config
from yolo_lite.data.fingerprint import fingerprint
from yolo_lite.data.pipeline.augment import ClassAugmenter
from yolo_lite.data.pipeline.classification import ClassDataset, collate_classes
from yolo_lite.data.pipeline.loader import repeat_factors
from yolo_lite.data.splits import read_classes_to_train, read_crops_to_train
from yolo_lite.draw.boxes import SheetPicture
from yolo_lite.errors import InputError
from yolo_lite.evaluation.classifier import classify_split
from yolo_lite.losses.classification import classification_loss
from yolo_lite.metrics.classification import classification_report
from yolo_lite.models.classifiers.build import ClassifierNet, build_classifier
from yolo_lite.models.classifiers.course import imagenet_weights
from yolo_lite.structures.batches import ClassBatch
from yolo_lite.structures.datasets import ClassificationSet
from yolo_lite.training.task import Listener, Prepared, Run, spread, strong_epochs

_LARGER = 4  # times the batch size of training, to evaluate


class ClassificationTask:
    """What the loop needs to know of classification."""

    metric = "accuracy"

    def __init__(
        self,
        config: Config,
        train: ClassificationSet,
        *,
        val: ClassDataset,
        device: torch.device,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.config, self.train, self.val, self.device, self.say = config, train, val, device, say

    def loss(self, model: nn.Module, batch: ClassBatch, *, progress: float) -> dict[str, Tensor]:
        """Return the one part of the loss."""
        outputs = model(batch.images.contiguous(memory_format=torch.channels_last))
        settings = self.config.classifier
        return {
            "class": classification_loss(outputs, batch.labels, name=settings.loss, smoothing=settings.label_smoothing)
        }

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return accuracy, macro F1 and the loss on the validation set."""
        assert isinstance(model, ClassifierNet)
        train = self.config.train
        outputs, labels = classify_split(
            model,
            self.val,
            batch_size=train.batch_size * _LARGER,
            workers=train.workers,
            device=self.device,
            say=self.say,
        )
        called = model.scores(outputs).argmax(1)
        report = classification_report(labels.numpy(), called.numpy(), class_names=self.train.class_names)
        loss = classification_loss(outputs, labels, name=self.config.classifier.loss)
        return {"accuracy": report.accuracy, "F1": report.macro.f1, "val_loss": float(loss)}

    def samples(self, dataset: Dataset[Any]) -> list[SheetPicture]:
        """Return training inputs of the first epoch with their classes, to be looked at."""
        chosen = (dataset[0, index] for index in spread(len(self.train.records)))
        return [_labelled(one.image, one.label, self.train.class_names[one.label]) for one in chosen]

    @torch.inference_mode()
    def predictions(self, model: nn.Module) -> list[SheetPicture]:
        """Return validation inputs with what the model calls them."""
        assert isinstance(model, ClassifierNet)
        pictures, names = [], self.train.class_names
        for index in spread(len(self.val)):
            one = self.val[0, index]
            batch = one.image.unsqueeze(0).to(self.device).contiguous(memory_format=torch.channels_last)
            scores = model.scores(model(batch))[0]
            called = int(scores.argmax())
            truth = "" if called == one.label else f", is {names[one.label]}"
            pictures.append(_labelled(one.image, called, f"{names[called]} {scores[called]:.0%}{truth}"))
        return pictures

    def name_samples(self, batch: ClassBatch) -> list[str]:
        """Return the names of a batch's pictures."""
        return [self.train.records[index].name for index in batch.positions.tolist()]


def _labelled(image: Tensor, label: int, text: str) -> SheetPicture:
    """Return a picture, uint8 [channels, H, W], with its class."""
    pixels = image.permute(1, 2, 0).numpy()
    pixels = np.repeat(pixels, 3, 2) if pixels.shape[2] == 1 else pixels
    return SheetPicture(pixels, [[0, 0, pixels.shape[1], pixels.shape[0]]], labels=[label], texts=[text])


def _inputs(
    config: Config, data: ClassificationSet, *, augmenter: ClassAugmenter | None, listener: Listener
) -> ClassDataset:
    shape = config.input
    return ClassDataset(
        data.records,
        shape.image_size,
        channels=shape.channels,
        resize=shape.resize,
        augmenter=augmenter,
        strong_epochs=strong_epochs(config) if augmenter else 0,
        seed=config.train.seed,
        cache=config.train.cache,
        on_picture=listener.on_picture,
        max_16bit=shape.max_16bit,
    )


def prepare_classification(run: Run, start: Checkpoint | None, *, device: torch.device, listener: Listener) -> Prepared:
    """Read the data, build the network, begin with the weights of `start`, and say so."""
    config, seed = run.config, run.config.train.seed
    if run.crops:
        train_set, val_set, notes = read_crops_to_train(run.images(), seed=seed)
    else:
        train_set, val_set, notes = read_classes_to_train(run.images(), seed=seed)
    for note in notes:
        listener.say(note)
    model = build_classifier(config, len(train_set.class_names), seed=seed)
    taken = None
    if start:
        taken = transfer_backbone(model, start)
        if start.is_classifier:
            classes = transfer_classes(model, train_set.class_names, checkpoint=start)
            taken = Start(f"{taken.summary}; {classes.summary}", taken.fresh | classes.fresh, classes.known)
        listener.say(f"starting from {run.weights}: {taken.summary}")
    elif config.classifier.model == "resnet50":
        stored = imagenet_weights() if config.input.channels == 3 else None
        listener.say(
            f"starting from {stored}"
            if stored
            else "no ImageNet weights of torchvision for such pictures on this disk: from scratch"
        )
    if config.train.freeze != "none":
        raise InputError("train.freeze is for detectors; of a classifier it is classifier.freeze (--freeze)")
    if config.classifier.freeze:
        listener.say("the backbone stays as it is; only the last layer is trained")
    augmenter = ClassAugmenter(config.augment, config.input.channels)
    listener.say(f"augmentation: {augmenter.describe()}")
    dataset = _inputs(config, train_set, augmenter=augmenter, listener=listener)
    val_dataset = _inputs(config, val_set, augmenter=None, listener=listener)
    task = ClassificationTask(config, train_set, val=val_dataset, device=device, say=listener.say)
    about = {
        "train": train_set.summary(),
        "val": val_set.summary(),
        "fingerprint": fingerprint(train_set),
        "val_fingerprint": fingerprint(val_set),
    }
    ids = tuple(range(len(train_set.class_names)))
    repeats = None
    if config.train.repeat_threshold:
        repeats = repeat_factors([[record.label] for record in train_set.records], config.train.repeat_threshold)
        listener.say(f"pictures of rare classes are shown up to {repeats.max():.1f} times in an epoch")
    return Prepared(
        task,
        model,
        dataset=dataset,
        collate=collate_classes,
        class_names=train_set.class_names,
        category_ids=ids,
        about=about,
        repeats=repeats,
        start=taken,
    )
