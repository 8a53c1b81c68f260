"""Cut objects and pieces of background out of a detection set, as images to classify."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from yolo_lite.structures.datasets import ClassificationSet, ClassRecord, DetectionSet
from yolo_lite.structures.records import ImageRecord

MIN_CROP = 8  # pixels; a box with a shorter side shows too little
BACKGROUND = "(background)"  # class of the pieces without an object
MOST_COVERED = 0.2  # fraction of a piece of background that an object may fill
_TRIES = 20  # per object of an image

Array = npt.NDArray[np.float64]


def cut_objects(data: DetectionSet) -> ClassificationSet:
    """Return the objects of a detection set, without crowds and objects with a side under MIN_CROP pixels.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> objects = cut_objects(read_split("my_images", "val"))
        >>> len(objects.records), objects.class_names
        (6, ('disc', 'square'))
    """
    records = tuple(
        _piece(record, box, int(label))
        for record in data.records
        for box, label, crowd in zip(record.boxes, record.labels, record.crowd)
        if not crowd and min(box[2] - box[0], box[3] - box[1]) >= MIN_CROP
    )
    return ClassificationSet(records, data.class_names, data.source)


def with_background(data: DetectionSet, *, seed: int) -> ClassificationSet:
    """Return the objects of a detection set as `cut_objects` does, and pieces of its background as one more class.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> with_background(read_split("my_images", "val"), seed=0).class_names
        ('disc', 'square', '(background)')
    """
    objects = cut_objects(data)
    pieces = background_pieces(data, len(data.class_names), seed=seed)
    return ClassificationSet((*objects.records, *pieces), (*data.class_names, BACKGROUND), data.source)


def background_pieces(data: DetectionSet, label: int, *, seed: int) -> tuple[ClassRecord, ...]:
    """Return pieces of the images of a detection set that show no object, about as many as there are objects.

    Each piece has the shape of some object of the set, scaled by 0.5 to 1.5. No box, crowds included, covers more than
    MOST_COVERED of it, or has more than that fraction of its own area in it. An image yields fewer pieces if twenty tries
    per object find too few, and none if some classes are not marked in it. The seed determines everything.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> pieces = background_pieces(read_split("my_images", "val"), 2, seed=0)
        >>> {piece.label for piece in pieces}
        {2}
    """
    sides = [box[2:] - box[:2] for record in data.records for box in record.boxes[~record.crowd]]
    pieces = []
    for number, record in enumerate(data.records):
        if not record.unlabelled:  # else there may be objects that nobody marked
            generator = np.random.default_rng([seed, number, 5])
            pieces += [_piece(record, box, label) for box in _empty_places(record, sides, generator)]
    return tuple(pieces)


def _empty_places(record: ImageRecord, sides: list[Array], generator: np.random.Generator) -> list[Array]:
    """Draw boxes in an image that hold next to nothing of an object: one per object, at least one."""
    height, width = record.hw
    wanted = max(1, int((~record.crowd).sum()))
    places: list[Array] = []
    for _ in range(_TRIES * wanted):
        size = np.minimum(sides[generator.integers(len(sides))] * generator.uniform(0.5, 1.5), (width, height))
        corner = generator.uniform(0, 1, 2) * (np.array([width, height]) - size)
        box = np.concatenate([corner, corner + size])
        if min(size) < MIN_CROP or _covered(box, record.boxes) > MOST_COVERED:
            continue
        places.append(box)
        if len(places) == wanted:
            break
    return places


def _covered(box: Array, boxes: Array) -> float:
    """Return the largest fraction of a box that another covers, or of another that it covers."""
    if not len(boxes):
        return 0.0
    shared = np.clip(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0, None).prod(-1)
    areas = np.minimum((boxes[:, 2:] - boxes[:, :2]).prod(-1), (box[2:] - box[:2]).prod())
    return float((shared / np.maximum(areas, 1e-9)).max())


def _piece(record: ImageRecord, box: Array, label: int) -> ClassRecord:
    sides = (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
    where = f"x {box[0]:.0f}-{box[2]:.0f}, y {box[1]:.0f}-{box[3]:.0f}"
    return ClassRecord(f"{record.path} at {where}", record.path, label=label, box=sides)
