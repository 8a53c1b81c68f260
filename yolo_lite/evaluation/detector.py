"""Score a detector, or a COCO result file, on a data set."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from yolo_lite.checkpoints.checkpoint import Checkpoint, build_from_checkpoint, load_checkpoint
from yolo_lite.checks import check_path, check_split, check_whole
from yolo_lite.config.resolve import check_settings, override_config
from yolo_lite.config.schema import Config, DataConfig, EvaluateConfig, TrainConfig
from yolo_lite.data.classes import shown_classes
from yolo_lite.data.formats.coco import read_json
from yolo_lite.data.pipeline.detection import DetectionDataset
from yolo_lite.data.pipeline.loader import EpochSampler, build_loader
from yolo_lite.data.sizes import check_images
from yolo_lite.data.splits import read_split, read_split_or_held_out
from yolo_lite.device import explain_out_of_memory, pick_device, place
from yolo_lite.errors import InputError, are, counted, some
from yolo_lite.evaluation.images import SILENT, EvaluationListener, Timing, detect_records
from yolo_lite.evaluation.shards import check_same, detect_together
from yolo_lite.metrics.coco import CocoMetrics, check_rows, evaluate_coco
from yolo_lite.metrics.resampling import Interval
from yolo_lite.models.yolo import Yolo
from yolo_lite.predict.flip import predict
from yolo_lite.predict.postprocess import CANDIDATES, Decode, postprocess, to_detections
from yolo_lite.ranks import Ranks, together
from yolo_lite.shipped import find_weights
from yolo_lite.structures.batches import RawPredictions
from yolo_lite.structures.class_names import names_in_data, spelling_notes
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.geometry import Image, Letterbox
from yolo_lite.structures.results import Detections, with_area
from yolo_lite.structures.rows import to_rows
from yolo_lite.structures.tiles import Tiling, detect_in_tiles, tiling_of
from yolo_lite.structures.verdicts import LEAST_RESAMPLES


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation: metrics, COCO result rows, times, and the conditions of the measurement."""

    metrics: CocoMetrics
    rows: list[dict[str, Any]]
    truth: DetectionSet
    settings: Mapping[str, Any]
    timing: Timing | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values for metrics.json; numbers that could not be measured are None.

        Example:
            >>> truth = read_split("my_images", "val")
            >>> metrics = evaluate_coco(truth, [])  # no detections
            >>> Evaluation(metrics, [], truth=truth, settings={"split": "val"}).to_json()["metrics"]["AP"]
            0.0
        """
        numbers = {name: None if math.isnan(value) else value for name, value in self.metrics.numbers.items()}
        per_class: dict[str, dict[str, Any]] = {
            name: {"AP": None if math.isnan(ap) else ap, "AP50": None if math.isnan(ap50) else ap50, "boxes": boxes}
            for name, (ap, ap50, boxes) in self.metrics.per_class.items()
        }
        for name, intervals in self.metrics.class_intervals.items():
            per_class[name]["intervals"] = _plain(intervals)
        rates = self.timing.rates() if self.timing else {}
        return {
            "metrics": numbers,
            "intervals": _plain(self.metrics.intervals),
            "per_class": per_class,
            "best_f1": self.metrics.best._asdict() if self.metrics.best else None,
            "settings": dict(self.settings),
            "images_per_second": {name: rate if math.isfinite(rate) else None for name, rate in rates.items()} or None,
            "notes": list(self.notes),
        }


def _plain(intervals: Mapping[str, Interval]) -> dict[str, list[float | None]]:
    """Return intervals as lists of two numbers; None if unknown."""
    return {name: [None if math.isnan(end) else end for end in ends] for name, ends in intervals.items()}


def evaluate(
    weights: str | Path,
    data: str | Path,
    *,
    split: str = "val",
    settings: Mapping[str, object] | None = None,
    device: str | torch.device = "auto",
    listener: EvaluationListener = SILENT,
) -> Evaluation:
    """Score a checkpoint on one split of a data set with pycocotools.

    Classes are matched by name; case, underscores, hyphens and spaces do not matter, and a note names the classes that are
    spelled differently. Classes that only the weights have are ignored before candidates are ranked. Classes
    that only the data has get AP 0 and a note. If the data has no validation split, the images that training sets aside
    with the seed of the weights are scored.

    The processes that torchrun started divide the images, and all of them return the same metrics; only rank 0 has the rows.

    Args:
        weights: checkpoint file, or the bare name of a shipped one.
        data: folder, YAML file or annotation file; see data/catalog.py.
        split: val, train or test.
        settings: by key: `data.classes`, `data.difficult`, `input.image_size` (default: that of the weights), the
            section `evaluate`, `train.batch_size` and `train.workers`.
        device: auto, cpu, cuda or mps.
        listener: receives the news of the evaluation.

    Raises:
        InputError: if an argument cannot be used.

    Example:
        >>> from yolo_lite.training.recipe import train
        >>> short = {"train.epochs": 1, "train.preflight": False, "train.workers": 0, "input.image_size": [64, 64]}
        >>> run = train("my_images", settings=short, out="scored", device="cpu")
        >>> metrics = evaluate(run / "best.pt", "my_images", device="cpu").metrics
        >>> 0.0 <= metrics.numbers["AP"] <= metrics.numbers["AP50"] <= 1.0
        True
    """
    with together() as ranks:
        data, split = check_path(data, "data"), check_split(split)
        source, checkpoint, config = _open(weights, settings)
        where = pick_device(device)
        model = place(build_from_checkpoint(checkpoint, source), where)
        truth, notes = read_truth(data, split, checkpoint=checkpoint, config=config)
        check_same(source, truth, ranks=ranks)
        notes += resample_notes(config.evaluate.resamples)
        heard = dataclasses.replace(listener, say=notes.append)
        names = names_in_data(checkpoint.class_names, truth.class_names)
        machine = (where, ranks)
        rows, timing = _detect(model, truth, class_names=names, machine=machine, config=config, listener=heard)
        resamples, heard_by = config.evaluate.resamples, listener.on_resample
        metrics = ranks.decide(lambda: evaluate_coco(truth, rows, resamples=resamples, on_resample=heard_by))
        about = {"weights": str(source), "data": str(data), "split": split, **_conditions(config), "device": str(where)}
        return Evaluation(metrics, rows, truth=truth, settings=about, timing=timing, notes=tuple(notes))


def _open(weights: str | Path, settings: Mapping[str, object] | None) -> tuple[Path, Checkpoint, Config]:
    """Return the file of some weights, what it holds, and the configuration for scoring it."""
    source = find_weights(check_path(weights, "weights"))
    checkpoint = load_checkpoint(source)
    return source, checkpoint, evaluation_config(checkpoint.config, settings)


def _detect(
    model: Yolo,
    truth: DetectionSet,
    *,
    class_names: Sequence[str],
    machine: tuple[torch.device, Ranks],
    config: Config,
    listener: EvaluationListener,
) -> tuple[list[dict[str, Any]], Timing]:
    """Detect in a split on all processes; these report their rows only once rank 0 has all of them."""
    device, ranks = machine
    if ranks.count == 1:
        heard = listener
    else:
        heard = dataclasses.replace(listener if ranks.is_first else SILENT, on_rows=SILENT.on_rows, say=listener.say)
    rows, timing = detect_together(
        lambda part: detect_split(model, part, class_names=class_names, config=config, device=device, listener=heard),
        truth,
        batch_size=config.train.batch_size,
        ranks=ranks,
    )
    if ranks.count > 1 and ranks.is_first:
        listener.on_rows(rows, timing.images, len(truth.records))
    return rows, timing


def read_truth(data: str, split: str, *, checkpoint: Checkpoint, config: Config) -> tuple[DetectionSet, list[str]]:
    """Read the ground truth for scoring a checkpoint, and notes about it.

    Raises:
        InputError: if the data or an image cannot be used, or data and weights have no class in common.

    Example:
        >>> stored = load_checkpoint(find_weights("yolo_lite-pico-voc5"))
        >>> drawn = dataclasses.replace(stored, class_names=("disc", "square"))  # as if it had learnt these classes
        >>> truth, notes = read_truth("my_images", "val", checkpoint=drawn, config=Config())
        >>> len(truth.records), notes
        (3, [])
    """
    truth, held_out = read_split_or_held_out(
        dataclasses.replace(config.data, path=data),
        split,
        seed=int(checkpoint.about.get("seed", 0)),
        trained_on=checkpoint.about.get("data", ""),
    )
    check_images(truth)
    notes = [*held_out, *truth.notes, *class_notes(checkpoint.class_names, truth.class_names)]
    return truth, [*notes, *emptiness_notes(truth)]


def emptiness_notes(truth: DetectionSet) -> list[str]:
    """Return a note if a set has no objects to find, so that it has no AP.

    Example:
        >>> data = read_split("my_images", "val")
        >>> emptiness_notes(data), len(emptiness_notes(data.pick([])))
        ([], 1)
    """
    if shown_classes(truth):
        return []
    only = f"only background or {truth.ignored} boxes" if truth.records.objects.crowd.any() else "only background"
    remedy = "; --difficult includes them" if "difficult" in only else ""
    return [f"{truth.source} has no objects to find, {only}, so there is no AP{remedy}"]


def resample_notes(resamples: int) -> list[str]:
    """Return a note if the intervals are made from few resamples.

    Example:
        >>> resample_notes(0), resample_notes(20), resample_notes(1000)
        ([], ['intervals from 20 resamples are rough; use at least 100'], [])
    """
    if not 0 < resamples < LEAST_RESAMPLES:
        return []
    return [f"intervals from {counted(resamples, 'resample')} are rough; use at least {LEAST_RESAMPLES}"]


def evaluation_config(config: Config, settings: Mapping[str, object] | None) -> Config:
    """Return the configuration for scoring: that of the weights with `settings`, but default data and batch size.

    Raises:
        InputError: for a setting that cannot be used in an evaluation.

    Example:
        >>> evaluation_config(Config(), {"evaluate.iou_threshold": 0.5}).evaluate.iou_threshold
        0.5
    """
    own = dataclasses.replace(config, data=DataConfig(), train=TrainConfig())
    changed = override_config(own, check_settings(settings, _KEYS))
    check_whole(changed.train.batch_size, "train.batch_size")  # 0 leaves the choice to a training
    return changed


_KEYS = (
    *("evaluate", "data.classes", "data.difficult", "input.image_size", "input.resize", "input.max_16bit"),
    *("train.batch_size", "train.workers"),
)


def _conditions(config: Config) -> dict[str, Any]:
    """Return the conditions that belong beside the metrics."""
    return {
        "image_size": list(config.input.image_size),
        "resize": config.input.resize,
        "score_threshold": config.evaluate.score_threshold,
        "iou_threshold": config.evaluate.iou_threshold,
        "max_detections": config.evaluate.max_detections,
        **({"resamples": config.evaluate.resamples} if config.evaluate.resamples else {}),
        **({"tta": True} if config.evaluate.tta else {}),
        **({"tiles": str(tiling)} if (tiling := _tiling(config.evaluate)) else {}),
    }


def evaluate_detections(
    detections: str | Path,
    data: str | Path,
    *,
    split: str = "val",
    settings: Mapping[str, object] | None = None,
    listener: EvaluationListener = SILENT,
) -> Evaluation:
    """Score the COCO result file of any detector; `data.classes` selects the rows of these classes.

    Only `data.classes`, `data.difficult` and `evaluate.resamples` of the `settings` are used.

    Raises:
        InputError: if the file cannot be read, or one of its rows does not belong to this data set.

    Example:
        >>> import json
        >>> truth = json.loads(Path("my_images/annotations/instances_val.json").read_text())
        >>> keys = ("image_id", "category_id", "bbox")
        >>> rows = [{**{key: box[key] for key in keys}, "score": 0.9} for box in truth["annotations"]]
        >>> _ = Path("perfect.json").write_text(json.dumps(rows))
        >>> round(evaluate_detections("perfect.json", "my_images").metrics.numbers["AP"], 3)
        1.0
    """
    rows, whole, config = read_rows(detections, data, split=split, settings=settings)
    classes, difficult = config.data.classes, config.data.difficult
    truth = read_split(data, split, classes=classes, difficult=difficult) if classes else whole
    rows = [row for row in rows if row["category_id"] in truth.category_ids]
    resamples = config.evaluate.resamples
    about: dict[str, Any] = {"detections": str(detections), "data": str(data), "split": split}
    about |= {"resamples": resamples} if resamples else {}
    metrics = evaluate_coco(truth, rows, resamples=resamples, on_resample=listener.on_resample)
    notes = (*whole.notes, *resample_notes(resamples))
    return Evaluation(metrics, rows, truth=truth, settings=about, notes=notes)


def read_rows(
    detections: str | Path, data: str | Path, *, split: str, settings: Mapping[str, object] | None = None
) -> tuple[list[dict[str, Any]], DetectionSet, Config]:
    """Return the rows of a COCO result file, the split with all its classes that they belong to, and the configuration.

    Arguments and errors are those of `evaluate_detections`.

    Example:
        >>> _ = Path("foreign.json").write_text('[{"image_id": 99, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5}]')
        >>> read_rows("foreign.json", "my_images", split="val")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        yolo_lite.errors.InputError: foreign.json: row 0 is for image 99, which ... does not list
    """
    source = Path(check_path(detections, "detections"))
    config = evaluation_config(Config(), settings)
    truth = read_split(check_path(data, "data"), check_split(split), difficult=config.data.difficult)
    return check_rows(read_json(source), truth, source=source), truth, config


def detect_split(
    model: Yolo,
    truth: DetectionSet,
    *,
    class_names: Sequence[str],
    config: Config,
    device: torch.device,
    listener: EvaluationListener = SILENT,
) -> tuple[list[dict[str, Any]], Timing]:
    """Run a model over a split; return COCO rows with the category ids of the data, and the time of each part.

    Example:
        >>> from yolo_lite.config.resolve import read_config
        >>> from yolo_lite.models.build import build_detector
        >>> truth, cpu = read_split("my_images", "val"), torch.device("cpu")
        >>> config = override_config(Config(), {"input.image_size": [64, 64], "train.workers": 0})
        >>> model = build_detector(config, 2).eval()
        >>> rows, timing = detect_split(model, truth, class_names=truth.class_names, config=config, device=cpu)
        >>> timing.images, {row["category_id"] for row in rows} <= {3, 7}
        (3, True)
    """
    if _tiling(config.evaluate):
        return _detect_in_tiles(model, truth, class_names=class_names, config=config, device=device, listener=listener)
    shape, batch_size = config.input, config.train.batch_size
    dataset = DetectionDataset(truth.records, shape.image_size, resize=shape.resize, max_16bit=shape.max_16bit)
    sampler = EpochSampler(len(dataset), batch_size, shuffle=False)
    loader = build_loader(dataset, sampler, workers=config.train.workers, device=device, say=listener.say)
    allowed, ids = _allowed(class_names, truth), category_ids_for(class_names, truth)
    timing = Timing()
    rows: list[dict[str, Any]] = []
    started = time.perf_counter()
    for number, batch in enumerate(loader, 1):
        timing.load += time.perf_counter() - started
        with _timed(timing, "forward", device), torch.inference_mode(), _memory(config):
            images = batch.images.to(device).contiguous(memory_format=torch.channels_last)
            raw, decode = predict(model, images, tta=config.evaluate.tta)
        with _timed(timing, "postprocess", device), torch.inference_mode(), _memory(config):
            found = _choose(raw, decode, config=config.evaluate, allowed=allowed, class_names=class_names)
            before = len(rows)
            for index, detections in zip(batch.positions.tolist(), found):
                record = truth.records[index]
                original = Letterbox.fit(record.hw, shape.image_size, resize=shape.resize).undo(detections)
                rows += to_rows(original, record.image_id, category_ids=ids)
        timing.images += len(batch.images)
        listener.on_rows(rows[before:], timing.images, len(dataset))
        listener.on_batch(number, len(sampler))
        started = time.perf_counter()
    loader.close()
    return rows, timing


def _allowed(class_names: Sequence[str], truth: DetectionSet) -> Tensor:
    return torch.tensor([name in truth.class_names for name in class_names])


def _tiling(config: EvaluateConfig) -> Tiling | None:
    return tiling_of(config.tiles, config.tile, overlap=config.overlap)


def _detect_in_tiles(
    model: Yolo,
    truth: DetectionSet,
    *,
    class_names: Sequence[str],
    config: Config,
    device: torch.device,
    listener: EvaluationListener,
) -> tuple[list[dict[str, Any]], Timing]:
    """Do what `detect_split` does, in tiles; the images stay at full size until they are cut."""
    return detect_records(
        image_detector(model, truth, class_names=class_names, config=config, device=device),
        truth.records,
        ids=category_ids_for(class_names, truth),
        batch_size=config.train.batch_size,
        max_16bit=config.input.max_16bit,
        listener=listener,
    )


def image_detector(
    model: Yolo, truth: DetectionSet, *, class_names: Sequence[str], config: Config, device: torch.device
) -> Callable[[list[Image]], list[Detections]]:
    """Return a function that detects in a batch of images as `detect_split` does: uint8 [H, W, 3] RGB, original pixels.

    Example:
        >>> from yolo_lite.models.build import build_detector
        >>> truth, cpu = read_split("my_images", "val"), torch.device("cpu")
        >>> config = override_config(Config(), {"input.image_size": [64, 64]})
        >>> model, names = build_detector(config, 2).eval(), truth.class_names
        >>> detect = image_detector(model, truth, class_names=names, config=config, device=cpu)
        >>> len(detect([np.zeros((48, 64, 3), np.uint8)]))
        1
    """
    chosen, allowed = config.evaluate, _allowed(class_names, truth)

    @torch.inference_mode()
    def detect(images: list[Image]) -> list[Detections]:
        letterboxes = [
            Letterbox.fit((image.shape[0], image.shape[1]), config.input.image_size, resize=config.input.resize)
            for image in images
        ]
        inputs = np.stack([letterbox.apply(image) for letterbox, image in zip(letterboxes, images)])
        with _memory(config):
            batch = torch.from_numpy(inputs).to(device).permute(0, 3, 1, 2)  # channels last in memory
            raw, decode = predict(model, batch, tta=chosen.tta)
            detected = _choose(raw, decode, config=chosen, allowed=allowed, class_names=class_names)
        return [letterbox.undo(detections) for letterbox, detections in zip(letterboxes, detected)]

    tiling = _tiling(chosen)
    if not tiling:
        return detect
    return lambda images: detect_in_tiles(
        images,
        lambda parts: [with_area(detections) for detections in detect(parts)],
        tiling=tiling,
        batch_size=config.train.batch_size,
        iou_threshold=chosen.iou_threshold,
        max_detections=chosen.max_detections,
    )


def _choose(
    raw: RawPredictions, decode: Decode, *, config: EvaluateConfig, allowed: Tensor, class_names: Sequence[str]
) -> list[Detections]:
    kept, counts = postprocess(
        raw,
        decode,
        score_threshold=config.score_threshold,
        iou_threshold=config.iou_threshold,
        max_detections=min(config.max_detections, CANDIDATES),
        allowed=allowed,
    )
    return to_detections(kept, counts, class_names=class_names)


def category_ids_for(class_names: Sequence[str], truth: DetectionSet) -> list[int]:
    """Return the category id in the data for each class of the weights; -1 if the data lacks it.

    Example:
        >>> category_ids_for(["dog", "square", "disc"], read_split("my_images", "val"))
        [-1, 3, 7]
    """
    known = dict(zip(truth.class_names, truth.category_ids))
    return [known.get(name, -1) for name in class_names]


def class_notes(of_weights: Sequence[str], of_data: Sequence[str]) -> list[str]:
    """Return notes about classes that data and weights spell differently, and about those that only one of them has.

    Raises:
        InputError: if they have no class in common, or a class of the data could be several of the weights.

    Example:
        >>> class_notes(["cat", "dog"], ["dog", "cat"])
        []
        >>> print(*class_notes(["cat", "dog"], ["dog"]))
        1 of 2 classes of the weights is not in the data and is ignored: cat
    """
    known = names_in_data(of_weights, of_data)
    lacking = [name for name in of_data if name not in known]
    masked = [name for name in known if name not in of_data]
    if len(lacking) == len(of_data):
        raise InputError(
            f"weights and data have no class in common: the weights know {some(of_weights)}; the data has "
            f"{some(of_data)}; train on this data first"
        )
    notes = spelling_notes(of_weights, of_data)
    if lacking:
        notes.append(
            f"{len(lacking)} of {counted(len(of_data), 'class', plural='classes')} of the data {are(len(lacking))} unknown "
            f"to the weights and {'counts' if len(lacking) == 1 else 'count'} with AP 0: {some(lacking)}"
        )
    if masked:
        notes.append(
            f"{len(masked)} of {counted(len(of_weights), 'class', plural='classes')} of the weights {are(len(masked))} not in "
            f"the data and {are(len(masked))} ignored: {some(masked)}"
        )
    return notes


@contextmanager
def _timed(timing: Timing, part: str, device: torch.device) -> Iterator[None]:
    started = time.perf_counter()
    yield
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # otherwise the time would count where the result is first read
    setattr(timing, part, getattr(timing, part) + time.perf_counter() - started)


@contextmanager
def _memory(config: Config) -> Iterator[None]:
    size = " x ".join(str(side) for side in config.input.image_size)
    batch_size = config.train.batch_size
    with explain_out_of_memory(f"use a smaller --batch-size (now {batch_size}) or --image-size (now {size})"):
        yield
