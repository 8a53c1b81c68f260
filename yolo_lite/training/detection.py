"""Training a detector: what the loop needs to know of boxes, and how data, network and weights are brought together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from yolo_lite.checkpoints.checkpoint import Checkpoint
from yolo_lite.checkpoints.transfer import most_alike, transfer, transfer_backbone
from yolo_lite.config.schema import Config
from yolo_lite.data.discover import add_unlabelled, fingerprint, read_train_and_val
from yolo_lite.data.pipeline.augment import Augmenter, colour_limits
from yolo_lite.data.pipeline.colour import draw_shifts, shift_hsv
from yolo_lite.data.pipeline.detection import DetectionDataset
from yolo_lite.data.pipeline.loader import collate_boxes, repeat_factors
from yolo_lite.data.sizes import check_pictures
from yolo_lite.draw.boxes import SheetPicture
from yolo_lite.errors import InputError
from yolo_lite.evaluation.detector import EvaluationSettings, detect_split
from yolo_lite.losses.criterion import Criterion, check_loss
from yolo_lite.losses.distill import teacher_loss
from yolo_lite.metrics.coco import evaluate_coco
from yolo_lite.models.build import build_detector
from yolo_lite.models.yolo import Yolo
from yolo_lite.predict.postprocess import postprocess, to_detections
from yolo_lite.structures.batches import Batch
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.training.task import Listener, Prepared, Run, spread, strong_epochs
from yolo_lite.training.teacher import Teacher, describe

SHOWN = 0.25  # score above which predictions are drawn


class DetectionTask:
    """What the loop needs to know of detection."""

    metric = "AP"

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
        self.colour = _shifts_colours(device) and any(colour_limits(config.augment))

    def loss(self, model: nn.Module, batch: Batch, *, progress: float) -> dict[str, Tensor]:
        """Return the weighted parts; a dynamic assigner judges badly while the network knows nothing, so it waits."""
        assert isinstance(model, Yolo)
        if self.colour:
            batch = self._with_other_colours(batch, progress)
        if self.config.augment.multi_scale:
            batch = _another_size(
                batch, self.config.augment.multi_scale, seed=self.config.train.seed, progress=progress
            )
        raw = model(batch.images.contiguous(memory_format=torch.channels_last))
        criterion = Criterion(model.head, self.config.loss)
        parts = criterion(raw, batch, progress=progress)
        if self.teacher:
            lesson = self.teacher(batch.images, raw)
            parts |= teacher_loss(raw, model.decode, lesson=lesson, gamma=self.config.loss.gamma)
        return criterion.weighted(parts)

    def _with_other_colours(self, batch: Batch, progress: float) -> Batch:
        limits, seed = colour_limits(self.config.augment), self.config.train.seed
        return batch._replace(
            images=shift_hsv(batch.images, draw_shifts(limits, seed, progress=progress, positions=batch.positions))
        )

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return pycocotools' twelve numbers on the validation set, the best F1 and the score threshold that gives it."""
        assert isinstance(model, Yolo)
        shape, train = self.config.input, self.config.train
        rows, _ = detect_split(
            model,
            self.train.class_names,
            truth=self.val,
            input_hw=shape.image_size,
            resize=shape.resize,
            device=self.device,
            settings=EvaluationSettings(batch_size=train.batch_size, workers=train.workers),
            max_16bit=shape.max_16bit,
            say=self.say,
        )
        metrics = evaluate_coco(self.val, rows)
        best = {"F1": metrics.best.f1, "score_threshold": metrics.best.score_threshold} if metrics.best else {}
        return {**metrics.numbers, **best}

    def samples(self, dataset: Dataset[Any]) -> list[SheetPicture]:
        """Return training inputs of the first epoch with their targets, to be looked at."""
        chosen = [dataset[0, index] for index in spread(len(self.train.records))]
        if self.colour:
            images = self._with_other_colours(collate_boxes(chosen), 0.0).images
            chosen = [one._replace(image=image) for one, image in zip(chosen, images)]
        names = self.train.class_names
        return [
            SheetPicture(
                one.image.permute(1, 2, 0).numpy(),
                one.boxes.numpy(),
                labels=one.labels.tolist(),
                texts=[names[i] for i in one.labels],
            )
            for one in chosen
        ]

    @torch.inference_mode()
    def predictions(self, model: nn.Module) -> list[SheetPicture]:
        """Return validation inputs with what the model finds in them, scores above SHOWN."""
        assert isinstance(model, Yolo)
        shape = self.config.input
        dataset = DetectionDataset(self.val.records, shape.image_size, resize=shape.resize, max_16bit=shape.max_16bit)
        pictures = []
        for index in spread(len(dataset)):
            image = dataset[0, index].image
            raw = model(image.unsqueeze(0).to(self.device).contiguous(memory_format=torch.channels_last))
            rows, counts = postprocess(raw, model.decode, score_threshold=SHOWN, iou_threshold=0.6)
            (found,) = to_detections(rows, counts, class_names=self.train.class_names)
            texts = [f"{name} {score:.0%}" for name, score in zip(found.names, found.scores)]
            pictures.append(
                SheetPicture(image.permute(1, 2, 0).numpy(), found.boxes, labels=found.labels.tolist(), texts=texts)
            )
        return pictures

    def name_samples(self, batch: Batch) -> list[str]:
        """Return the file names of a batch's pictures."""
        return [self.train.records[index].path.name for index in batch.positions.tolist()]


def training_inputs(config: Config, pictures: DetectionSet, *, device: torch.device) -> DetectionDataset:
    """Return the training pictures as inputs, augmented; in their colours only where the device does not do that."""
    shape = config.input
    augmenter = Augmenter(config.augment, shape.image_size, resize=shape.resize, colour=not _shifts_colours(device))
    return DetectionDataset(
        pictures.records,
        shape.image_size,
        resize=shape.resize,
        augmenter=augmenter,
        strong_epochs=strong_epochs(config),
        seed=config.train.seed,
        max_16bit=shape.max_16bit,
    )


def _shifts_colours(device: torch.device) -> bool:
    """Say whether colours are changed by the device: any but a CPU, which is not kept waiting by the loader."""
    return device.type != "cpu"


def _another_size(batch: Batch, share: float, *, seed: int, progress: float) -> Batch:
    """Bring a batch to another input size, multiples of 32, drawn from seed and progress alone."""
    factor = np.random.default_rng([seed, round(progress * 2**40), 4]).uniform(1 - share, 1 + share)
    height, width = batch.images.shape[-2:]
    new = _scaled((height, width), factor)
    if new == (height, width):
        return batch
    images = F.interpolate(batch.images.float(), new, mode="bilinear", antialias=True)
    scale = batch.boxes.new_tensor([new[1] / width, new[0] / height] * 2)
    return batch._replace(images=images, boxes=batch.boxes * scale)


def smallest_size(config: Config) -> tuple[int, int]:
    """Return height and width of the smallest input that a run trains on."""
    size, share = config.input.image_size, config.augment.multi_scale
    return _scaled(size, 1 - share) if share and config.classifier.model == "none" else size


def _scaled(hw: tuple[int, int], factor: float) -> tuple[int, int]:
    return max(32, round(hw[0] * factor / 32) * 32), max(32, round(hw[1] * factor / 32) * 32)


def prepare_detection(run: Run, start: Checkpoint | None, *, device: torch.device, listener: Listener) -> Prepared:
    """Read the data, build the network, begin with the weights of `start`, and say so."""
    config = run.config
    train_set, val_set, notes = read_train_and_val(
        run.data, run.classes, fraction=run.fraction, seed=config.train.seed, difficult=run.difficult
    )
    if run.unlabelled:
        if not config.train.teacher:
            raise InputError("--unlabelled pictures need a --teacher, who says what there is in them")
        labelled, train_set = train_set, add_unlabelled(train_set, Path(run.unlabelled))
        notes += train_set.notes[len(labelled.notes) :]
        notes.append(f"train: with the pictures of {run.unlabelled} {train_set.summary()}")
    for note in notes:
        listener.say(note)
    teacher = None
    if config.train.teacher:
        teacher = Teacher(config.train.teacher, train_set.class_names, device=device, say=listener.say)
        listener.say(describe(teacher, config.train.teacher, class_names=train_set.class_names))
    check_pictures(train_set)
    check_pictures(val_set)
    model = build_detector(config, len(train_set.class_names), seed=config.train.seed)
    taken = None
    if start and (start.is_classifier or "until" in start.about):  # the latter: a part of a network of Darknet
        taken = transfer_backbone(model, start)
        listener.say(f"starting from {run.weights}: {taken.summary}")
    elif start:
        if set(train_set.class_names) - set(start.class_names):
            listener.say("looking for the known class that each new one resembles")
        likeness = most_alike(start, train_set, settings=config.input, on_image=listener.on_picture)
        taken = transfer(model, train_set.class_names, checkpoint=start, likeness=likeness)
        listener.say(f"starting from {run.weights}: {taken.summary}; from scratch: --config nano --weights none")
    if config.train.freeze == "backbone":
        if run.weights is None:
            raise InputError("--freeze backbone needs weights to start from: random ones would stay random")
        model.freeze_backbone()
        listener.say("the backbone stays as it is; neck and head are trained")
    elif config.train.freeze != "none":
        raise InputError(f"train.freeze must be none or backbone, got {config.train.freeze!r}")
    dataset = training_inputs(config, train_set, device=device)
    assert dataset.augmenter
    listener.say(f"augmentation: {dataset.augmenter.describe()}")
    dataset.keep(config.train.cache, listener.say, on_picture=listener.on_picture)
    about = {
        "train": train_set.summary(),
        "val": val_set.summary(),
        "fingerprint": fingerprint(train_set),
        "val_fingerprint": fingerprint(val_set),
    }
    task = DetectionTask(config, train_set, val=val_set, device=device, teacher=teacher, say=listener.say)
    repeats = None
    if config.train.repeat_threshold:
        shown = [record.labels[~record.crowd].tolist() for record in train_set.records]
        repeats = repeat_factors(shown, config.train.repeat_threshold)
        listener.say(f"pictures with rare classes are shown up to {repeats.max():.1f} times in an epoch")
    return Prepared(
        task,
        model,
        dataset=dataset,
        collate=None,
        class_names=train_set.class_names,
        category_ids=train_set.category_ids,
        about=about,
        repeats=repeats,
        start=taken,
    )
