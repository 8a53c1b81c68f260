"""Score a detector on corrupted and painted copies of the images of a split."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from yolo_lite.checkpoints.checkpoint import build_from_checkpoint, load_checkpoint
from yolo_lite.checks import check_path, check_split
from yolo_lite.data.pipeline.corrupt import CHANGES, STRENGTHS, Change, change_image
from yolo_lite.device import pick_device, place
from yolo_lite.draw.boxes import draw_detections
from yolo_lite.draw.inline import data_uri, fitted_hw
from yolo_lite.errors import InputError, counted
from yolo_lite.evaluation.detector import category_ids_for, evaluation_config, image_detector, read_truth
from yolo_lite.evaluation.exported import EXPORTED, open_exported
from yolo_lite.evaluation.images import Progress
from yolo_lite.media.ahead import Depth, in_order
from yolo_lite.media.images import read_image
from yolo_lite.metrics.coco import CocoMetrics, evaluate_coco
from yolo_lite.metrics.matching import match_detections
from yolo_lite.shipped import find_weights
from yolo_lite.structures.class_names import names_in_data
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.geometry import Image, resize_image
from yolo_lite.structures.records import ImageRecord
from yolo_lite.structures.results import Detections
from yolo_lite.structures.rows import to_rows

MOST_IMAGES = 500
_EXAMPLES = 6


class Subject(NamedTuple):
    """A detector and what it is scored on.

    Attributes:
        detect: returns the detections in a batch of images, uint8 [H, W, 3] RGB, in original pixels.
        truth: the split.
        class_names: those of the detector, by label, as the split spells them.
        batch_size: the most images that `detect` gets at once.
        max_16bit: as for `read_image`.
    """

    detect: Callable[[list[Any]], list[Detections]]
    truth: DetectionSet
    class_names: Sequence[str]
    batch_size: int
    max_16bit: int


class ChangeScore(NamedTuple):
    """AP and AP50 after one change, and AP as a fraction of that of the images as they are; NaN if not measurable."""

    change: Change
    ap: float
    ap50: float
    relative: float


class ChangedImage(NamedTuple):
    """An image in which a change hides objects.

    Attributes:
        change: the change.
        image: the file's name, with its folder if several files have the name.
        lost: number of objects that were detected before the change, less those detected after it.
        clean: the image with its detections, as a data URI of a JPEG file.
        changed: the same after the change.
        text: a description of both, for people who do not see them.
    """

    change: Change
    image: str
    lost: int
    clean: str
    changed: str
    text: str


@dataclass(frozen=True)
class Robustness:
    """How well a detector bears corruptions and styles.

    Attributes:
        images: number of images.
        ap: AP on the images as they are.
        ap50: AP50 on them.
        scores: one for each of `CHANGES`, in that order.
        examples: the images with the most objects lost, each of another kind.
        notes: remarks for the user, a line each.
    """

    images: int
    ap: float
    ap50: float
    scores: tuple[ChangeScore, ...]
    examples: tuple[ChangedImage, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values for metrics.json and report.json; numbers that could not be measured are None.

        Example:
            >>> score = ChangeScore(Change("fog", 1), ap=0.3, ap50=0.5, relative=0.75)
            >>> Robustness(8, ap=0.4, ap50=0.6, scores=(score,)).to_json()["corruptions"]
            [{'kind': 'fog', 'strength': 1, 'AP': 0.3, 'AP50': 0.5, 'relative': 0.75}]
        """
        rows = [
            {
                "kind": kind,
                "strength": strength,
                "AP": _or_none(score.ap),
                "AP50": _or_none(score.ap50),
                "relative": _or_none(score.relative),
            }
            for score in self.scores
            for kind, strength in [score.change]
        ]
        return {
            "images": self.images,
            "clean": {"AP": _or_none(self.ap), "AP50": _or_none(self.ap50)},
            "strengths": list(STRENGTHS),
            "corruptions": [row for row in rows if row["strength"] is not None],
            "styles": [row for row in rows if row["strength"] is None],
            "examples": [
                {
                    **example.change._asdict(),
                    **{key: value for key, value in example._asdict().items() if key != "change"},
                }
                for example in self.examples
            ],
            "notes": list(self.notes),
        }


def evaluate_robustness(
    weights: str | Path,
    data: str | Path,
    *,
    split: str = "val",
    settings: Mapping[str, object] | None = None,
    device: str | torch.device = "auto",
    on_batch: Progress = lambda done, total: None,
) -> Robustness:
    """Score a detector on a split as it is, and after each corruption and style.

    Images are changed in their original pixels, before they are resized. From a large split 500 images are drawn.

    Args:
        weights: checkpoint file, bare name of a shipped one, or a file that `yolo-lite export` wrote.
        data: as for `evaluate`.
        split: val, train or test.
        settings: as for `evaluate`, or `evaluate_exported`.
        device: auto, cpu, cuda or mps; an exported file ignores it.
        on_batch: called after each batch of one change with the number of batches done and their total.

    Raises:
        InputError: if an argument cannot be used.

    Example:
        >>> evaluate_robustness("yolo_lite-pico-voc5", "missing")
        Traceback (most recent call last):
        yolo_lite.data.catalog.NoDataSetError: missing does not exist; --data takes a folder, a YAML file or a JSON file
    """
    data, split, weights = check_path(data, "data"), check_split(split), check_path(weights, "weights")
    if Path(weights).suffix.lower() in EXPORTED:
        detector, truth, *_ = open_exported(weights, data, split=split, settings=settings)
        names = names_in_data(detector.class_names, truth.class_names)
        subject = Subject(detector, truth, names, detector.batch_size, detector.max_16bit)
    else:
        subject = _open_checkpoint(weights, data, split=split, settings=settings, device=device)
    return score_changes(subject, on_batch=on_batch)


def _open_checkpoint(
    weights: str, data: str, *, split: str, settings: Mapping[str, object] | None, device: str | torch.device
) -> Subject:
    source = find_weights(weights)
    checkpoint = load_checkpoint(source)
    config = evaluation_config(checkpoint.config, settings)
    where = pick_device(device)
    model = place(build_from_checkpoint(checkpoint, source), where)
    truth, _ = read_truth(data, split, checkpoint=checkpoint, config=config)
    names = names_in_data(checkpoint.class_names, truth.class_names)
    detect = image_detector(model, truth, class_names=names, config=config, device=where)
    return Subject(detect, truth, names, config.train.batch_size, config.input.max_16bit)


def score_changes(
    subject: Subject,
    *,
    most: int = MOST_IMAGES,
    seed: int = 0,
    on_batch: Progress = lambda done, total: None,
) -> Robustness:
    """Score a detector on at most `most` images of its split as they are, and after each change.

    Every image is read once. All changes of a batch of images follow each other, so memory does not depend on the
    number of images, except for the detections.

    Args:
        subject: the detector and the split.
        most: number of images that are drawn at random from a larger split.
        seed: seed of that choice and of the changes.
        on_batch: as for `evaluate_robustness`.

    Raises:
        InputError: if no image has an object to find.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> truth = read_split("my_images", "val")
        >>> nothing = Detections([], [], labels=[], class_names=truth.class_names)
        >>> blind = Subject(lambda images: [nothing] * len(images), truth, truth.class_names, 2, 65535)
        >>> result = score_changes(blind, most=2)
        >>> result.images, result.ap, result.notes
        (2, 0.0, ('2 of 3 images, drawn at random, were corrupted',))
    """
    truth, total = subject.truth, len(subject.truth.records)
    positions = np.arange(total)
    notes: tuple[str, ...] = ()
    if total > most:
        positions = np.sort(np.random.default_rng(seed).choice(total, most, replace=False))
        notes = (f"{most:,} of {counted(total, 'image')}, drawn at random, were corrupted",)
    drawn = Drawn(subject._replace(truth=truth.pick(positions.tolist())), positions, seed=seed)
    if not drawn.subject.truth.records.asked().any():
        raise InputError(
            f"no image of {truth.source} has an object to find, so there is no AP that changes could lower"
        )
    clean, *changed = _detect_all(drawn, on_batch)
    whole, *metrics = (_score(drawn.subject, detected) for detected in (clean, *changed))
    ap = whole.numbers["AP"]
    scores = tuple(
        ChangeScore(change, after.numbers["AP"], ap50=after.numbers["AP50"], relative=_ratio(after.numbers["AP"], ap))
        for change, after in zip(CHANGES, metrics)
    )
    examples = _examples(drawn, clean, changed, threshold=whole.best.score_threshold) if whole.best else ()
    return Robustness(len(positions), ap, ap50=whole.numbers["AP50"], scores=scores, examples=examples, notes=notes)


class Drawn(NamedTuple):
    """The images to change: a detector with a set of them, their positions in the whole split, and the seed."""

    subject: Subject
    positions: npt.NDArray[np.int64]
    seed: int

    def read(self, index: int) -> Image:
        """Return an image in original pixels."""
        return read_image(self.subject.truth.records[index].path, self.subject.max_16bit)

    def change(self, image: Image, change: Change | None, *, index: int) -> Image:
        """Return the image of that index after a change; None: as it is."""
        if change is None:
            return image
        return change_image(image, change, seed=self.seed, position=int(self.positions[index]))


def _detect_all(drawn: Drawn, on_batch: Progress) -> list[list[Detections]]:
    """Return the detections in every image, first as they are and then after each change.

    A thread changes the next images while the network computes.
    """
    total, size = len(drawn.positions), drawn.subject.batch_size
    detected: list[list[Detections]] = [[] for _ in range(1 + len(CHANGES))]
    batches = math.ceil(total / size) * len(detected)
    depth, done = Depth(size), 0

    def change(item: tuple[Image, Change | None, int]) -> Image:
        image, kind, index = item
        return depth.fit(drawn.change(image, kind, index=index))

    with closing(in_order(change, _items(drawn, size), depth=depth)) as images:
        for start in range(0, total, size):
            for of_change in detected:
                of_change += drawn.subject.detect(list(islice(images, min(size, total - start))))
                done += 1
                on_batch(done, batches)
    return detected


def _items(drawn: Drawn, size: int) -> Iterator[tuple[Image, Change | None, int]]:
    """Yield every image of a batch for one change after the other, then those of the next batch."""
    total = len(drawn.positions)
    for start in range(0, total, size):
        indices = range(start, min(start + size, total))
        images = [drawn.read(index) for index in indices]
        for change in (None, *CHANGES):
            for image, index in zip(images, indices):
                yield image, change, index


def _score(subject: Subject, detected: Sequence[Detections]) -> CocoMetrics:
    ids, image_ids = category_ids_for(subject.class_names, subject.truth), subject.truth.records.image_ids.tolist()
    rows = [
        row
        for detections, image_id in zip(detected, image_ids)
        for row in to_rows(detections, image_id, category_ids=ids)
    ]
    return evaluate_coco(subject.truth, rows)


def _examples(
    drawn: Drawn, clean: Sequence[Detections], changed: Sequence[Sequence[Detections]], *, threshold: float
) -> tuple[ChangedImage, ...]:
    """Return the images that lose most objects whose score is above the threshold: one of a kind, each once."""
    before = _count_found(drawn.subject, clean, threshold)
    lost = np.stack([before - _count_found(drawn.subject, detected, threshold) for detected in changed])
    examples: list[ChangedImage] = []
    kinds: set[str] = set()
    shown: set[int] = set()
    names = drawn.subject.truth.records.short_names()
    for place_ in np.argsort(-lost, axis=None, kind="stable"):
        number, index = divmod(int(place_), lost.shape[1])
        change, name = CHANGES[number], names[index]
        if lost[number, index] < 1 or len(examples) == _EXAMPLES:
            break
        if change.kind in kinds or index in shown:
            continue
        kinds.add(change.kind)
        shown.add(index)
        pair = [_above(clean[index], threshold), _above(changed[number][index], threshold)]
        words = f"{name}: {counted(int(before[index]), 'object')} detected, {before[index] - lost[number, index]} after {change}"
        image = drawn.read(index)
        as_it_is, after = map(_drawn, (image, drawn.change(image, change, index=index)), pair)
        examples.append(ChangedImage(change, name, int(lost[number, index]), as_it_is, after, words))
    return tuple(examples)


def _above(detections: Detections, threshold: float) -> Detections:
    return detections[detections.scores > threshold]


def _count_found(subject: Subject, detected: Sequence[Detections], threshold: float) -> npt.NDArray[np.int64]:
    """Return the number of objects in each image that a detection above the threshold covers, at an IoU of 0.5."""
    names = list(subject.class_names)
    labels = np.array([names.index(name) if name in names else -1 for name in subject.truth.class_names])

    def count(record: ImageRecord, detections: Detections) -> int:
        asked = ~np.isin(record.labels, record.unlabelled) | record.crowd
        matches = match_detections(
            _above(detections, threshold),
            record.boxes[asked],
            labels=labels[record.labels[asked]],
            crowd=record.crowd[asked],
        )
        return int((matches.objects >= 0).sum())

    return np.array([count(*pair) for pair in zip(subject.truth.records, detected)], np.int64)


def _drawn(image: Image, detections: Detections) -> str:
    """Return an image with its detections, as a data URI of at most 480 pixels in width and height."""
    hw = fitted_hw(image.shape[:2])
    scale = hw[0] / image.shape[0], hw[1] / image.shape[1]
    boxes = detections.boxes * np.array([scale[1], scale[0]] * 2, np.float32)
    return data_uri(draw_detections(resize_image(image, hw), replace(detections, boxes=boxes)))


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole > 0 else math.nan


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
