"""Score a detector, or a file of detections, on a data set."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from yolo_lite.checkpoints.checkpoint import build_from_checkpoint, load_checkpoint
from yolo_lite.checks import (
    check_class_names,
    check_path,
    check_share,
    check_side_lengths,
    check_split,
    check_whole,
    shown,
)
from yolo_lite.config.schema import DataConfig, check_image_size
from yolo_lite.data.classes import shown_classes
from yolo_lite.data.formats.coco import read_json
from yolo_lite.data.pipeline.detection import DetectionDataset
from yolo_lite.data.pipeline.loader import EpochSampler, build_loader
from yolo_lite.data.sizes import check_pictures
from yolo_lite.data.splits import read_split, read_split_or_held_out
from yolo_lite.device import explain_out_of_memory, pick_device, place
from yolo_lite.errors import InputError, counted, some
from yolo_lite.media.images import MAX_16BIT
from yolo_lite.metrics.coco import CocoMetrics, check_rows, evaluate_coco, to_rows
from yolo_lite.models.yolo import Yolo
from yolo_lite.predict.postprocess import CANDIDATES, postprocess, to_detections
from yolo_lite.shipped import find_weights
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.geometry import Letterbox

Progress = Callable[[int, int], None]  # (done, in all)
OnRows = Callable[[list[dict[str, Any]], int, int], None]  # (result rows of a batch, images done, in all)


@dataclass(frozen=True)
class EvaluationSettings:
    """How detections are chosen and batched for scoring."""

    score_threshold: float = 0.001
    iou_threshold: float = 0.7
    max_detections: int = 300
    batch_size: int = 16
    workers: int = -1  # see data/pipeline/loader.py


@dataclass
class Timing:
    """Seconds spent on each part of an evaluation."""

    images: int = 0
    load: float = 0.0
    forward: float = 0.0
    postprocess: float = 0.0

    def rates(self) -> dict[str, float]:
        """Return images a second, for each part alone and for all together."""
        parts = {"load": self.load, "forward": self.forward, "postprocess": self.postprocess}
        parts["all"] = sum(parts.values())
        return {name: self.images / seconds if seconds else math.inf for name, seconds in parts.items()}


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found: metrics, COCO result rows, times, and the settings that belong beside the numbers."""

    metrics: CocoMetrics
    rows: list[dict[str, Any]]
    settings: Mapping[str, Any]
    timing: Timing | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values for metrics.json; what could not be measured is null."""
        numbers = {name: None if math.isnan(value) else value for name, value in self.metrics.numbers.items()}
        per_class = {
            name: {"AP": None if math.isnan(ap) else ap, "AP50": None if math.isnan(ap50) else ap50, "boxes": boxes}
            for name, (ap, ap50, boxes) in self.metrics.per_class.items()
        }
        rates = self.timing.rates() if self.timing else None
        return {
            "metrics": numbers,
            "intervals": {
                name: [None if math.isnan(end) else end for end in ends]
                for name, ends in self.metrics.intervals.items()
            },
            "per_class": per_class,
            "best_f1": self.metrics.best._asdict() if self.metrics.best else None,
            "settings": dict(self.settings),
            "images_per_second": rates,
            "notes": list(self.notes),
        }


def evaluate(
    weights: str | Path,
    data: str | Path,
    *,
    split: str = "val",
    image_size: tuple[int, int] | int | None = None,
    device: str | torch.device = "auto",
    classes: Sequence[str] | None = None,
    settings: EvaluationSettings = EvaluationSettings(),
    on_progress: Progress | None = None,
    difficult: bool = False,
    resamples: int = 0,
    on_resample: Progress | None = None,
    on_rows: OnRows | None = None,
) -> Evaluation:
    """Score a checkpoint on one split of a data set with pycocotools.

    Classes are matched by name. Those of the weights that the data lacks are left out before candidates are ranked;
    those of the data that the weights lack have AP 0, and a note says so.

    Where the data has no validation split, the pictures that training sets aside by the seed of the weights are scored.

    Args:
        weights: a file or the bare name of a shipped one.
        data: a folder or YAML file; see data/catalog.py.
        image_size: (height, width) of the input, or one number for both; None for what the checkpoint was trained at.
        device: auto, cpu, cuda or mps.
        classes: score only these classes of the data.
        difficult: score PASCAL VOC's difficult objects as others, instead of ignoring them.
        resamples: how many sets of pictures are drawn for the intervals of AP and AP50; 0: no intervals.
        on_progress, on_resample: called with how many batches, and how many of these sets, are done, and of how many.
        on_rows: called after each batch with its COCO result rows, how many images are done, and of how many.

    Raises:
        InputError: where anything given cannot be used.
    """
    settings = _checked(settings)
    resamples = check_whole(resamples, "resamples", minimum=0)
    data, split = check_path(data, "data"), check_split(split)
    source = find_weights(check_path(weights, "weights"))
    checkpoint = load_checkpoint(source)
    classes = check_class_names(classes, checkpoint.class_names)
    where = pick_device(device)
    model = place(build_from_checkpoint(checkpoint, source), where)
    truth, held_out = read_split_or_held_out(
        DataConfig(path=str(data), classes=tuple(classes or ()), difficult=difficult),
        split,
        seed=int(checkpoint.about.get("seed", 0)),
        trained_on=checkpoint.about.get("data", ""),
    )
    check_pictures(truth)
    input_hw = checkpoint.config.input.image_size if image_size is None else check_side_lengths(image_size)
    check_image_size(input_hw, name="image_size")
    notes = [*held_out, *truth.notes, *class_notes(checkpoint.class_names, truth.class_names)]
    if not shown_classes(truth):
        notes.append(f"{truth.source} holds no object to find, only background or crowd regions, so there is no AP")
    rows, timing = detect_split(
        model,
        checkpoint.class_names,
        truth=truth,
        input_hw=input_hw,
        resize=checkpoint.config.input.resize,
        device=where,
        settings=settings,
        on_progress=on_progress,
        on_rows=on_rows,
        max_16bit=checkpoint.config.input.max_16bit,
        say=notes.append,
    )
    told = {
        "weights": str(source),
        "data": str(data),
        "split": split,
        "image_size": list(input_hw),
        "resize": checkpoint.config.input.resize,
        "score_threshold": settings.score_threshold,
        "iou_threshold": settings.iou_threshold,
        "max_detections": settings.max_detections,
        "device": str(where),
    }
    return Evaluation(
        evaluate_coco(truth, rows, resamples=resamples, on_resample=on_resample),
        rows,
        settings=told,
        timing=timing,
        notes=tuple(notes),
    )


def _checked(settings: EvaluationSettings) -> EvaluationSettings:
    """Return the settings as numbers; raise InputError where one cannot be used."""
    if not isinstance(settings, EvaluationSettings):
        raise InputError(f"settings must be EvaluationSettings(score_threshold=...), got {shown(settings)}")
    return EvaluationSettings(
        check_share(settings.score_threshold, "score_threshold"),
        check_share(settings.iou_threshold, "iou_threshold"),
        max_detections=check_whole(settings.max_detections, "max_detections"),
        batch_size=check_whole(settings.batch_size, "batch_size"),
        workers=check_whole(settings.workers, "workers", minimum=-1),
    )


def evaluate_detections(
    detections: str | Path,
    data: str | Path,
    *,
    split: str = "val",
    classes: Sequence[str] | None = None,
    difficult: bool = False,
    resamples: int = 0,
    on_resample: Progress | None = None,
) -> Evaluation:
    """Score a COCO result file from any detector; with `classes`, only its rows of these classes.

    `difficult`, `resamples` and `on_resample` as for `evaluate`.

    Raises:
        InputError: where the file, or a row of it, is not a detection of this data set.
    """
    classes, detections = check_class_names(classes), Path(check_path(detections, "detections"))
    resamples = check_whole(resamples, "resamples", minimum=0)
    whole = read_split(check_path(data, "data"), check_split(split), difficult=difficult)
    rows = check_rows(read_json(detections), whole, source=detections)
    truth = read_split(data, split, classes=classes, difficult=difficult) if classes else whole
    rows = [row for row in rows if row["category_id"] in truth.category_ids]
    settings = {"detections": str(detections), "data": str(data), "split": split}
    return Evaluation(
        evaluate_coco(truth, rows, resamples=resamples, on_resample=on_resample), rows, settings, notes=whole.notes
    )


def detect_split(
    model: Yolo,
    class_names: Sequence[str],
    *,
    truth: DetectionSet,
    input_hw: tuple[int, int],
    resize: str,
    device: torch.device,
    settings: EvaluationSettings,
    on_progress: Progress | None = None,
    on_rows: OnRows | None = None,
    max_16bit: int = MAX_16BIT,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[list[dict[str, Any]], Timing]:
    """Run a model over a split and return COCO rows with the category ids of the data, and where the time went;
    `say` takes a line where loading has to go on without processes."""
    dataset = DetectionDataset(truth.records, input_hw, resize=resize, max_16bit=max_16bit)
    sampler = EpochSampler(len(dataset), settings.batch_size, shuffle=False)
    loader = build_loader(dataset, sampler, workers=settings.workers, device=device, say=say)
    allowed = torch.tensor([name in truth.class_names for name in class_names])
    ids = category_ids_for(class_names, truth)
    timing = Timing()
    rows: list[dict[str, Any]] = []
    started = time.perf_counter()
    for number, batch in enumerate(loader, 1):
        timing.load += time.perf_counter() - started
        with _timed(timing, "forward", device), torch.inference_mode(), _memory(settings, input_hw):
            images = batch.images.to(device).contiguous(memory_format=torch.channels_last)
            raw = model(images)
        with _timed(timing, "postprocess", device), torch.inference_mode(), _memory(settings, input_hw):
            most = min(settings.max_detections, CANDIDATES)
            kept, counts = postprocess(
                raw,
                model.decode,
                score_threshold=settings.score_threshold,
                iou_threshold=settings.iou_threshold,
                max_detections=most,
                allowed=allowed,
            )
            before = len(rows)
            for index, detections in zip(
                batch.positions.tolist(), to_detections(kept, counts, class_names=class_names)
            ):
                record = truth.records[index]
                original = Letterbox.fit(record.hw, input_hw, resize=resize).undo(detections)
                rows += to_rows(original, record.image_id, category_ids=ids)
        timing.images += len(batch.images)
        if on_rows:
            on_rows(rows[before:], timing.images, len(dataset))
        if on_progress:
            on_progress(number, len(sampler))
        started = time.perf_counter()
    loader.close()
    return rows, timing


def category_ids_for(class_names: Sequence[str], truth: DetectionSet) -> list[int]:
    """Return, for each class of the weights, the data's id of that name; -1 where the data lacks it."""
    known = dict(zip(truth.class_names, truth.category_ids))
    return [known.get(name, -1) for name in class_names]


def class_notes(of_weights: Sequence[str], of_data: Sequence[str]) -> list[str]:
    """Say which classes only one side has.

    Raises:
        InputError: where no class is on both sides.
    """
    lacking = [name for name in of_data if name not in of_weights]
    masked = [name for name in of_weights if name not in of_data]
    if len(lacking) == len(of_data):
        raise InputError(
            f"weights and data share no class: the weights know {some(of_weights)}; the data has {some(of_data)}"
        )
    notes = []
    if lacking:
        notes.append(
            f"{len(lacking)} of {counted(len(of_data), 'class', plural='classes')} of the data are unknown to the weights "
            f"and count as AP 0: {some(lacking)}"
        )
    if masked:
        notes.append(
            f"{len(masked)} of {counted(len(of_weights), 'class', plural='classes')} of the weights are not in the data and are "
            f"left out: {some(masked)}"
        )
    return notes


@contextmanager
def _timed(timing: Timing, part: str, device: torch.device) -> Iterator[None]:
    started = time.perf_counter()
    yield
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # or the time would be booked where the result is first read
    setattr(timing, part, getattr(timing, part) + time.perf_counter() - started)


@contextmanager
def _memory(settings: EvaluationSettings, input_hw: tuple[int, int]) -> Iterator[None]:
    size = " x ".join(str(side) for side in input_hw)
    with explain_out_of_memory(f"use a smaller --batch-size (now {settings.batch_size}) or --image-size (now {size})"):
        yield
