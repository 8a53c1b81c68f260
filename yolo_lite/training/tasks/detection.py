"""Training of a detector: its data, its network, its loss and its numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from yolo_lite.checkpoints.checkpoint import Checkpoint, Kind
from yolo_lite.checkpoints.transfer import Start, most_alike, transfer, transfer_backbone
from yolo_lite.config.schema import Config
from yolo_lite.data.care.boxes import unit_faults
from yolo_lite.data.fingerprint import fingerprint
from yolo_lite.data.pipeline.augment import Augmenter, colour_limits
from yolo_lite.data.pipeline.colour import draw_shifts, shift_hsv
from yolo_lite.data.pipeline.detection import DetectionDataset
from yolo_lite.data.pipeline.loader import collate_boxes, repeat_factors
from yolo_lite.data.sizes import check_images
from yolo_lite.data.splits import add_unlabelled, read_train_and_val
from yolo_lite.draw.sheets import SheetImage
from yolo_lite.errors import InputError
from yolo_lite.evaluation.compare import compare_on_sheet
from yolo_lite.evaluation.detector import detect_split
from yolo_lite.evaluation.images import EvaluationListener
from yolo_lite.evaluation.shards import detect_together
from yolo_lite.losses.criterion import Criterion, check_loss
from yolo_lite.losses.distill import teacher_loss
from yolo_lite.media.images import read_image
from yolo_lite.metrics.coco import evaluate_coco
from yolo_lite.models.build import build_detector
from yolo_lite.models.yolo import Yolo
from yolo_lite.predict.postprocess import postprocess, to_detections
from yolo_lite.ranks import ALONE, Ranks
from yolo_lite.structures.batches import Batch
from yolo_lite.structures.class_names import match_names
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.geometry import Image, Letterbox
from yolo_lite.structures.results import Detections
from yolo_lite.training.choices import enlarge
from yolo_lite.training.task import Listener, scored_positions, spread, strong_epochs
from yolo_lite.training.tasks.advice import Outcome, advice, recall_by_size
from yolo_lite.training.tasks.labels import OFF, check_labels
from yolo_lite.training.tasks.multi_scale import another_size
from yolo_lite.training.tasks.sheets import sample_on_sheet
from yolo_lite.training.tasks.teacher import Teacher, describe

SHOWN = 0.25  # score above which predictions are drawn


class DetectionTask:
    """The detection task."""

    metric = "AP"

    model: nn.Module

    def __init__(
        self,
        config: Config,
        train: DetectionSet,
        *,
        val: DetectionSet,
        device: torch.device,
        teacher: Teacher | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        check_loss(config.loss)
        self.config, self.train, self.val, self.device, self.teacher = config, train, val, device, teacher
        self.say = say
        self.class_names, self.category_ids = train.class_names, train.category_ids
        self.dataset = training_inputs(config, train, device=device)
        self.val_images = len(val.records)
        self.scored = _scored(config, val)
        self.collate: Callable[[Sequence[Any]], Any] | None = None
        self.start: Start | None = None
        self.ranks = ALONE
        self.repeats: npt.NDArray[np.float64] | None = None
        self.about: dict[str, Any] = {}
        self._last: Outcome | None = None
        self.colour = _shifts_colours(device) and any(colour_limits(config.augment))

    @classmethod
    def prepare(
        cls,
        config: Config,
        *,
        start: Checkpoint | None,
        device: torch.device,
        listener: Listener,
        ranks: Ranks = ALONE,
    ) -> DetectionTask:
        """Read the data, build the network, load the weights of `start`, and report each."""
        train, val = _read(config, listener)
        teacher = None
        if config.train.teacher:
            teacher = Teacher(config.train.teacher, train.class_names, device=device, say=listener.say)
            listener.say(describe(teacher, config.train.teacher, class_names=train.class_names))
        model = build_detector(config, len(train.class_names), seed=config.train.seed)
        given = _begin(model, config, train=train, start=start, listener=listener, ranks=ranks)
        config, line = enlarge(config, train.records)
        if line:
            listener.say(line)
        task = cls(config, train, val=val, device=device, teacher=teacher, say=listener.say)
        task.model, task.start, task.ranks = model, given, ranks
        assert task.dataset.augmenter
        listener.say(f"augmentation: {task.dataset.augmenter.describe()}")
        task.dataset.keep(config.train.cache, listener.say, on_image=listener.on_image)
        task.about = {
            "train": train.summary(),
            "val": val.summary(),
            "fingerprint": fingerprint(train),
            "val_fingerprint": fingerprint(val),
        }
        if config.train.repeat_threshold:
            shown = [record.labels[~record.crowd].tolist() for record in train.records]
            task.repeats = repeat_factors(shown, config.train.repeat_threshold)
            listener.say(f"images with rare classes are shown up to {task.repeats.max():.1f} times in an epoch")
        return task

    def loss(self, model: nn.Module, batch: Batch, *, progress: float) -> dict[str, Tensor]:
        """Return the weighted parts of the loss."""
        assert isinstance(model, Yolo)
        if self.colour:
            batch = self._with_other_colours(batch, progress)
        if self.config.augment.multi_scale:
            batch = another_size(batch, self.config.augment.multi_scale, seed=self.config.train.seed, progress=progress)
        raw = model(batch.images.contiguous(memory_format=torch.channels_last))
        criterion = Criterion(model.head, self.config.loss, divisor=self.ranks.divisor)
        parts = criterion(raw, batch, progress=progress)
        if self.teacher:
            lesson = self.teacher(batch.images, raw)
            gamma, divisor = self.config.loss.gamma, self.ranks.divisor
            parts |= teacher_loss(raw, model.decode, lesson=lesson, gamma=gamma, divisor=divisor)
        return criterion.weighted(parts)

    def _with_other_colours(self, batch: Batch, progress: float) -> Batch:
        limits, seed = colour_limits(self.config.augment), self.config.train.seed
        return batch._replace(
            images=shift_hsv(batch.images, draw_shifts(limits, seed, progress=progress, positions=batch.positions))
        )

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return pycocotools' twelve numbers on the validation set, the best F1 and the score threshold that gives it."""
        assert isinstance(model, Yolo)
        settings: dict[str, Any] = {"class_names": self.class_names, "config": self.config, "device": self.device}
        listener = EvaluationListener(say=self.say)
        rows, _ = detect_together(
            lambda part: detect_split(model, part, **settings, listener=listener),
            self.scored,
            batch_size=self.config.train.batch_size,
            ranks=self.ranks,
        )
        return self.ranks.decide(lambda: self._numbers(rows))

    def _numbers(self, rows: list[dict[str, Any]]) -> dict[str, float]:
        metrics = evaluate_coco(self.scored, rows)
        best = {"F1": metrics.best.f1, "score_threshold": metrics.best.score_threshold} if metrics.best else {}
        recall = recall_by_size(
            self.scored, rows, score_threshold=best.get("score_threshold", 1.0), settings=self.config.input
        )
        self._last = Outcome(metrics.per_class, recall)
        return {**metrics.numbers, **best}

    def advice(self, rows: Sequence[Mapping[str, float]]) -> str:
        """Return a sentence that says what would help most, judged by the last evaluation; empty without one."""
        if self._last is None:
            return ""
        counts = np.bincount(self.train.records.asked_labels(), minlength=len(self.class_names))
        objects = dict(zip(self.class_names, counts.tolist()))
        return advice(rows, self._last, objects=objects, image_size=self.config.input.image_size)

    def training_numbers(self) -> dict[str, float]:
        """Return nothing: predictions on training batches are not scored."""
        return {}

    def adopt(self, config: Config) -> None:
        """Take over a configuration in which values of the training were chosen, such as the number of epochs."""
        self.config, self.scored = config, _scored(config, self.val)
        self.dataset.strong_epochs = strong_epochs(config)

    def check(self) -> None:
        """Raise InputError for labels that are surely wrong."""
        check_labels(self.train, self.config.input.image_size)
        for where, what in unit_faults(self.val):
            raise InputError(f"{where}: {what}{OFF}")

    def overfit_batch(self, count: int) -> Batch:
        """Return a batch of `count` training images without augmentation, images with objects first."""
        plain = copy.copy(self.dataset)
        plain.augmenter = None
        has_objects = (self.train.records.counts > 0).tolist()
        order = sorted(range(len(plain)), key=lambda index: not has_objects[index])
        step = max(1, sum(has_objects) // count)
        chosen = sorted(set(order[: step * count : step]))[:count]
        return collate_boxes([plain[0, index] for index in chosen])

    def plain(self) -> DetectionTask:
        """Return the task without random changes of colour, for this process alone."""
        task = copy.copy(self)
        task.colour, task.ranks = False, ALONE
        return task

    def samples(self) -> list[SheetImage]:
        """Return training inputs of the first epoch with their targets, in the shape of the images, to be looked at."""
        positions = spread(len(self.train.records), 16)
        chosen = [self.dataset[0, index] for index in positions]
        if self.colour:
            images = self._with_other_colours(collate_boxes(chosen), 0.0).images
            chosen = [sample._replace(image=image) for sample, image in zip(chosen, images)]
        return [
            sample_on_sheet(sample, self.train, resize=self.config.input.resize, index=index)
            for sample, index in zip(chosen, positions)
        ]

    @torch.inference_mode()
    def predictions(self, model: nn.Module) -> list[SheetImage]:
        """Return validation images, each twice: with its ground truth, then with the predictions above score SHOWN."""
        assert isinstance(model, Yolo)
        images: list[SheetImage] = []
        for index in spread(len(self.val.records), 8):
            record = self.val.records[index]
            image = read_image(record.path, self.config.input.max_16bit)
            detections = self._detect(model, image)
            images += compare_on_sheet(
                image, record, detections=detections, class_names=self.val.class_names, ignored=self.val.ignored
            )
        return images

    def _detect(self, model: Yolo, image: Image) -> Detections:
        shape, settings = self.config.input, self.config.postprocess
        letterbox = Letterbox.fit((image.shape[0], image.shape[1]), shape.image_size, resize=shape.resize)
        pixels = torch.from_numpy(letterbox.apply(image)).permute(2, 0, 1).unsqueeze(0)
        raw = model(pixels.to(self.device).contiguous(memory_format=torch.channels_last))
        rows, counts = postprocess(raw, model.decode, score_threshold=SHOWN, iou_threshold=settings.iou_threshold)
        (detections,) = to_detections(rows, counts, class_names=self.class_names)
        return letterbox.undo(detections)

    def name_samples(self, batch: Batch) -> list[str]:
        """Return the file names of a batch's images."""
        return [self.train.records[index].path.name for index in batch.positions.tolist()]


def _scored(config: Config, val: DetectionSet) -> DetectionSet:
    """Return the validation images that evaluations during the run score."""
    positions = scored_positions(config, len(val.records))
    return val if positions is None else val.pick(positions)


def training_inputs(config: Config, images: DetectionSet, *, device: torch.device) -> DetectionDataset:
    """Return the training images as augmented inputs. Colours are changed here only if the device does not change them.

    Args:
        config: of the run.
        images: the training set.
        device: where the network computes.

    Example:
        >>> from yolo_lite.config.resolve import read_config
        >>> from yolo_lite.data.splits import read_split
        >>> from yolo_lite.shipped import find_config
        >>> config, data = read_config(find_config("pico")), read_split("my_images", "train")
        >>> sample = training_inputs(config, data, device=torch.device("cpu"))[0, 0]  # epoch 0, image 0
        >>> tuple(sample.image.shape) == (3, *config.input.image_size)
        True
    """
    shape = config.input
    augmenter = Augmenter(config.augment, shape.image_size, resize=shape.resize, colour=not _shifts_colours(device))
    return DetectionDataset(
        images.records,
        shape.image_size,
        resize=shape.resize,
        augmenter=augmenter,
        strong_epochs=strong_epochs(config),
        seed=config.train.seed,
        max_16bit=shape.max_16bit,
    )


def _shifts_colours(device: torch.device) -> bool:
    """Return whether the device changes colours, so that the loader need not: any device but a CPU."""
    return device.type != "cpu"


def _read(config: Config, listener: Listener) -> tuple[DetectionSet, DetectionSet]:
    """Read training and validation images, report their contents, and check that the files match their labels."""
    data = config.data
    train, val, notes = read_train_and_val(data, seed=config.train.seed)
    if data.unlabelled:
        if not config.train.teacher:
            raise InputError("--unlabelled images need a --teacher, which supplies their labels")
        labelled, train = train, add_unlabelled(train, Path(data.unlabelled))
        notes += train.notes[len(labelled.notes) :]
        notes.append(f"train: with the images of {data.unlabelled} {train.summary()}")
    for note in notes:
        listener.say(note)
    check_images(train)
    check_images(val)
    return train, val


def _begin(
    model: Yolo,
    config: Config,
    *,
    train: DetectionSet,
    start: Checkpoint | None,
    listener: Listener,
    ranks: Ranks,
) -> Start | None:
    """Load the weights of `start` into a network, freeze what the configuration freezes, and report both."""
    weights = config.train.weights
    given = None
    if start and start.kind in (Kind.CLASSIFIER, Kind.BACKBONE):
        given = transfer_backbone(model, start)
        listener.say(f"starting from {weights}: {given.summary}")
    elif start:
        if len(match_names(train.class_names, start.class_names)) < len(train.class_names):
            listener.say("finding the known class that each new class resembles most")
        else:
            listener.say("measuring how well the starting weights know the objects")
        likeness = ranks.decide(lambda: most_alike(start, train, settings=config.input, on_image=listener.on_image))
        given = transfer(model, train.class_names, checkpoint=start, likeness=likeness)
        listener.say(f"starting from {weights}: {given.summary}; from scratch: --config nano --weights none")
    if config.train.freeze == "backbone":
        if not weights:
            raise InputError("--freeze backbone needs weights to start from: random ones would stay random")
        model.freeze_backbone()
        listener.say("the backbone is frozen; neck and head are trained")
    elif config.train.freeze != "none":
        raise InputError(f"train.freeze must be none or backbone, got {config.train.freeze!r}")
    return given
