"""Training of a classifier: its data, its network, its loss and its numbers."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from yolo_lite.checkpoints.checkpoint import Checkpoint
from yolo_lite.checkpoints.transfer import Start, transfer_backbone, transfer_classes
from yolo_lite.config.schema import Config
from yolo_lite.data.fingerprint import fingerprint
from yolo_lite.data.pipeline.augment import ClassAugmenter
from yolo_lite.data.pipeline.classification import ClassDataset, collate_classes
from yolo_lite.data.pipeline.loader import repeat_factors
from yolo_lite.data.splits import read_classes_to_train, read_crops_to_train
from yolo_lite.draw.sheets import SheetImage
from yolo_lite.errors import InputError
from yolo_lite.evaluation.classifier import classify_split
from yolo_lite.evaluation.shards import Part, classify_together
from yolo_lite.losses.classification import classification_loss
from yolo_lite.metrics.classification import classification_report
from yolo_lite.models.classifiers.build import ClassifierNet, build_classifier
from yolo_lite.models.classifiers.course import PRETRAINED, imagenet_weights
from yolo_lite.ranks import ALONE, Ranks
from yolo_lite.structures.batches import ClassBatch
from yolo_lite.structures.datasets import ClassificationSet
from yolo_lite.training.task import Listener, scored_positions, spread, strong_epochs

_LARGER = 4  # times the batch size of training, to evaluate


class ClassificationTask:
    """The classification task."""

    metric = "accuracy"

    model: nn.Module

    def __init__(
        self,
        config: Config,
        train: ClassificationSet,
        *,
        val: ClassDataset,
        device: torch.device,
        listener: Listener = Listener(),
    ) -> None:
        self.config, self.train, self.val, self.device, self.say = config, train, val, device, listener.say
        augmenter = ClassAugmenter(config.augment, config.input.channels)
        listener.say(f"augmentation: {augmenter.describe()}")
        self.dataset = _inputs(config, train, augmenter=augmenter, listener=listener)
        self.collate: Callable[[Sequence[Any]], Any] | None = collate_classes
        self.class_names, self.category_ids = train.class_names, tuple(range(len(train.class_names)))
        self.start: Start | None = None
        self.ranks = ALONE
        self.repeats: npt.NDArray[np.float64] | None = None
        self.about: dict[str, Any] = {}
        self.val_images = len(val)
        self._seen, self._right = 0, torch.zeros((), dtype=torch.int64, device=device)

    @classmethod
    def prepare(
        cls,
        config: Config,
        *,
        start: Checkpoint | None,
        device: torch.device,
        listener: Listener,
        ranks: Ranks = ALONE,
    ) -> ClassificationTask:
        """Read the data, build the network, load the weights of `start`, and report each."""
        train, val = _read(config, listener)
        model = build_classifier(config, len(train.class_names), seed=config.train.seed)
        given = _begin(model, config, class_names=train.class_names, start=start, listener=listener)
        inputs = _inputs(config, val, augmenter=None, listener=listener)
        task = cls(config, train, val=inputs, device=device, listener=listener)
        task.model, task.start, task.ranks = model, given, ranks
        task.about = {
            "train": train.summary(),
            "val": val.summary(),
            "fingerprint": fingerprint(train),
            "val_fingerprint": fingerprint(val),
        }
        if config.train.repeat_threshold:
            labels = [[record.label] for record in train.records]
            task.repeats = repeat_factors(labels, config.train.repeat_threshold)
            listener.say(f"images of rare classes are shown up to {task.repeats.max():.1f} times in an epoch")
        return task

    def loss(self, model: nn.Module, batch: ClassBatch, *, progress: float) -> dict[str, Tensor]:
        """Return the one part of the loss."""
        outputs = model(batch.images.contiguous(memory_format=torch.channels_last))
        settings = self.config.classifier
        with torch.no_grad():  # stays on the device, so that nothing waits for it
            if self.ranks.weight:  # the batch is no stand-in
                self._right += (predicted_labels(outputs, settings.loss) == batch.labels).sum()
                self._seen += len(batch.labels)
        return {
            "class": classification_loss(outputs, batch.labels, name=settings.loss, smoothing=settings.label_smoothing)
        }

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return accuracy, macro F1 and the loss on the validation set."""
        assert isinstance(model, ClassifierNet)
        train = self.config.train
        larger = dataclasses.replace(train, batch_size=train.batch_size * _LARGER)
        config = dataclasses.replace(self.config, train=larger)
        positions = scored_positions(self.config, self.val_images)
        outputs, labels = classify_together(
            lambda part: classify_split(model, part, config=config, device=self.device, say=self.say),
            self.val if positions is None else Part(self.val, np.array(positions)),
            batch_size=larger.batch_size,
            ranks=self.ranks,
        )
        return self.ranks.decide(lambda: self._numbers(model, outputs, labels))

    def _numbers(self, model: ClassifierNet, outputs: Tensor, labels: Tensor) -> dict[str, float]:
        called = model.scores(outputs).argmax(1)
        report = classification_report(labels.numpy(), called.numpy(), class_names=self.train.class_names)
        loss = classification_loss(outputs, labels, name=self.config.classifier.loss)
        return {"accuracy": report.accuracy, "F1": report.macro.f1, "val_loss": float(loss)}

    def training_numbers(self) -> dict[str, float]:
        """Return the accuracy on the training batches since the last call, and reset it.

        Each batch counts as the network saw it: augmented, with dropout, before the step that learns from it.
        """
        seen, right = self.ranks.sum([self._seen, int(self._right)])
        self._seen, self._right = 0, torch.zeros_like(self._right)
        return {"train_accuracy": right / seen} if seen else {}

    def advice(self, rows: Sequence[Mapping[str, float]]) -> str:
        """Return nothing: there is no advice on classifiers yet."""
        return ""

    def adopt(self, config: Config) -> None:
        """Take over a configuration in which values of the training were chosen, such as the number of epochs."""
        self.config = config
        self.dataset.strong_epochs = strong_epochs(config)

    def check(self) -> None:
        """Accept all labels: any class is possible."""

    def overfit_batch(self, count: int) -> ClassBatch:
        """Return a batch of `count` training images without augmentation."""
        plain = copy.copy(self.dataset)
        plain.augmenter = None
        step = max(1, len(plain) // count)
        return collate_classes([plain[0, index] for index in range(0, len(plain), step)[:count]])

    def plain(self) -> ClassificationTask:
        """Return the task for this process alone; it changes no batch at random."""
        task = copy.copy(self)
        task.ranks = ALONE
        return task

    def samples(self) -> list[SheetImage]:
        """Return training inputs of the first epoch with their classes, to be looked at."""
        names = self.train.class_names
        chosen = (self.dataset[0, index] for index in spread(len(self.train.records), 16))
        return [_with_caption(sample.image, names[sample.label]) for sample in chosen]

    @torch.inference_mode()
    def predictions(self, model: nn.Module) -> list[SheetImage]:
        """Return validation inputs with the predicted class, right or wrong."""
        assert isinstance(model, ClassifierNet)
        images, names = [], self.train.class_names
        for index in spread(len(self.val), 16):
            sample = self.val[0, index]
            batch = sample.image.unsqueeze(0).to(self.device).contiguous(memory_format=torch.channels_last)
            scores = model.scores(model(batch))[0]
            label = int(scores.argmax())
            text = f"{names[label]} {scores[label]:.0%}"
            right = label == sample.label
            caption = f"\N{CHECK MARK} {text}" if right else f"\N{BALLOT X} {text}, is {names[sample.label]}"
            images.append(_with_caption(sample.image, caption))
        return images

    def name_samples(self, batch: ClassBatch) -> list[str]:
        """Return the names of a batch's images."""
        return [self.train.records[index].name for index in batch.positions.tolist()]


def predicted_labels(outputs: Tensor, loss: str) -> Tensor:
    """Return the most likely class of each row of outputs.

    Args:
        outputs: [B, C], or [B, 1] for the "binary" loss, whose only output is for the second class.
        loss: as in `ClassifierConfig`.

    Returns:
        int64 [B].

    Example:
        >>> predicted_labels(torch.tensor([[0.1, 2.0], [3.0, -1.0]]), "cross_entropy").tolist()
        [1, 0]
        >>> predicted_labels(torch.tensor([[0.1], [-0.5]]), "binary").tolist()
        [1, 0]
    """
    return (outputs.reshape(-1) > 0).long() if loss == "binary" else outputs.argmax(1)


def _with_caption(image: Tensor, caption: str) -> SheetImage:
    """Return an image, uint8 [channels, H, W], for a sheet."""
    pixels = image.permute(1, 2, 0).numpy()
    pixels = np.repeat(pixels, 3, 2) if pixels.shape[2] == 1 else pixels
    return SheetImage(pixels, np.zeros((0, 4)), labels=[], texts=[], caption=caption)


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
        on_image=listener.on_image,
        max_16bit=shape.max_16bit,
    )


def _read(config: Config, listener: Listener) -> tuple[ClassificationSet, ClassificationSet]:
    """Read training and validation images, and report their contents."""
    data, seed = config.data, config.train.seed
    if data.crops:
        train, val, notes = read_crops_to_train(data, seed=seed)
    else:
        train, val, notes = read_classes_to_train(data, seed=seed)
    for note in notes:
        listener.say(note)
    return train, val


def _begin(
    model: ClassifierNet,
    config: Config,
    *,
    class_names: tuple[str, ...],
    start: Checkpoint | None,
    listener: Listener,
) -> Start | None:
    """Load the weights of `start`, or ImageNet's if they are on this disk, and report which."""
    given = None
    if start:
        given = transfer_backbone(model, start)
        if start.is_classifier:
            classes = transfer_classes(model, class_names, checkpoint=start)
            given = Start(f"{given.summary}; {classes.summary}", given.fresh | classes.fresh, known=classes.known)
        listener.say(f"starting from {config.train.weights}: {given.summary}")
    elif config.classifier.model in PRETRAINED:
        stored = imagenet_weights(config.classifier.model) if config.input.channels == 3 else None
        listener.say(
            f"starting from {stored}"
            if stored
            else "this disk has no ImageNet weights for this network and these images: training from scratch"
        )
    if config.train.freeze != "none":
        raise InputError("train.freeze is for detectors; a classifier has classifier.freeze (--freeze)")
    if config.classifier.freeze:
        listener.say("the backbone is frozen; only the last layer is trained")
    return given
