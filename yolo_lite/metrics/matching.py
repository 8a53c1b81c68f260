"""Which detection belongs to which object, in one image or in a whole set."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from yolo_lite.metrics.columns import Columns
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.paths import ranges
from yolo_lite.structures.records import Records
from yolo_lite.structures.results import Detections

MOST_DETECTIONS = 100  # of one class in one image, as COCO's evaluation counts them
_CHUNK = 2**16  # pairs of boxes that are compared at once; more take longer, as they do not fit the CPU's cache


class Matches(NamedTuple):
    """What became of the detections and the objects of one image.

    Attributes:
        objects: int64 [N], for each detection the position of its object, or -1.
        ignored: bool [N], detections without an object that lie in a crowd: neither right nor wrong.
        missed: bool [M], objects without a detection, apart from crowds.
    """

    objects: npt.NDArray[np.int64]
    ignored: npt.NDArray[np.bool_]
    missed: npt.NDArray[np.bool_]

    @property
    def wrong(self) -> npt.NDArray[np.bool_]:
        """Return which detections [N] belong to no object."""
        return (self.objects < 0) & ~self.ignored


class Pairs(NamedTuple):
    """Overlapping pairs of a detection and an object, sorted by detection, then by rising overlap, then by object.

    Attributes:
        detections: int64 [P], positions.
        objects: int64 [P], positions.
        overlap: float64 [P], the IoU; for a crowd, the fraction of the detection inside it.
    """

    detections: npt.NDArray[np.int64]
    objects: npt.NDArray[np.int64]
    overlap: npt.NDArray[np.float64]

    @classmethod
    def sort(
        cls, detections: npt.NDArray[np.int64], objects: npt.NDArray[np.int64], *, overlap: npt.NDArray[np.float64]
    ) -> Pairs:
        """Sort pairs whose objects rise for each detection."""
        return cls(detections, objects, overlap).take(np.lexsort((overlap, detections)))

    def take(self, index: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Pairs:
        """Return the pairs that an index or a mask chooses."""
        return Pairs(self.detections[index], self.objects[index], self.overlap[index])

    def nearest(self, count: int) -> Nearest:
        """Return the object that overlaps each of `count` detections most; ties go to the later object."""
        last = self.take(np.diff(self.detections, append=-1) != 0)
        nearest = Nearest(np.full(count, -1), np.zeros(count))
        nearest.objects[last.detections] = last.objects
        nearest.iou[last.detections] = last.overlap
        return nearest


class Nearest(NamedTuple):
    """The object that overlaps each detection most, among objects of some classes."""

    objects: npt.NDArray[np.int64]  # [D], positions; -1 where no object overlaps
    iou: npt.NDArray[np.float64]  # [D]


@dataclass(frozen=True, eq=False)
class SetMatches:
    """What became of the D detections and the N objects of a set; objects are numbered as in `Records.objects`.

    Attributes:
        columns: the detections.
        objects: int64 [D], for each detection the position of its object, or -1.
        ignored: bool [D], detections that are neither right nor wrong. They have no object and lie in a crowd of their
            class, or are not among the first MOST_DETECTIONS of their class in their image.
        own: the object of its own class that overlaps each detection most; crowds and unlabelled classes are left out.
        others: the same for objects of other classes.
        other_pairs: all pairs of different classes whose IoU reaches the threshold.
        counted: bool [N], objects that evaluation counts: no crowds, and no unlabelled classes.
        object_labels: int64 [N].
        order: int64 [D], positions of the detections by falling score, equal scores by image id as in pycocotools.
        class_count: number of classes C.
        iou_threshold: the least IoU of a match.
    """

    columns: Columns
    objects: npt.NDArray[np.int64]
    ignored: npt.NDArray[np.bool_]
    own: Nearest
    others: Nearest
    other_pairs: Pairs
    counted: npt.NDArray[np.bool_]
    object_labels: npt.NDArray[np.int64]
    order: npt.NDArray[np.int64]
    class_count: int
    iou_threshold: float

    @property
    def wrong(self) -> npt.NDArray[np.bool_]:
        """Return which detections [D] belong to no object and are not ignored."""
        return (self.objects < 0) & ~self.ignored

    @property
    def missed(self) -> npt.NDArray[np.bool_]:
        """Return which counted objects [N] have no detection."""
        missed: npt.NDArray[np.bool_] = self.counted.copy()
        missed[self.objects[self.objects >= 0]] = False
        return missed

    @property
    def object_counts(self) -> npt.NDArray[np.int64]:
        """Return the number of counted objects of each class: int64 [C]."""
        return np.bincount(self.object_labels[self.counted], minlength=self.class_count)


def match_detections(
    detections: Detections,
    boxes: npt.ArrayLike,
    *,
    labels: npt.ArrayLike,
    crowd: npt.ArrayLike,
    iou_threshold: float = 0.5,
) -> Matches:
    """Match the detections of one image with its objects, as COCO's evaluation does at one IoU.

    The detection with the highest score chooses first. It takes the free object of its class that overlaps it most, if
    the IoU reaches the threshold. Ties go to the later object.

    Args:
        detections: boxes in the pixels of `boxes`, by falling score.
        boxes: [M, 4] xyxy, the ground truth.
        labels: [M].
        crowd: [M], whether a box marks a region of uncounted objects.
        iou_threshold: the least overlap. With a crowd, the overlap is the fraction of the detection inside it.

    Example:
        >>> found = Detections([[0, 0, 10, 10], [0, 0, 9, 10]], [0.9, 0.8], labels=[0, 0], class_names=("cat",))
        >>> match_detections(found, [[0, 0, 10, 10]], labels=[0], crowd=[False]).wrong.tolist()  # a duplicate is wrong
        [False, True]
    """
    truth = np.asarray(boxes, np.float64).reshape(-1, 4)
    classes, crowds = np.asarray(labels, np.int64).reshape(-1), np.asarray(crowd, bool).reshape(-1)
    found = np.asarray(detections.boxes, np.float64)[:, None]
    overlap = _overlap(_Boxes(found, _areas(found)), _Boxes(truth, _areas(truth)), crowds)  # [N, M]
    near = (overlap >= iou_threshold) & (detections.labels[:, None] == classes)
    rows, columns = np.nonzero(near & ~crowds)
    pairs = Pairs.sort(rows, columns, overlap=overlap[rows, columns])
    objects = choose_objects(pairs, groups=np.asarray(detections.labels, np.int64), free=~crowds)
    missed = ~crowds
    missed[objects[objects >= 0]] = False
    return Matches(objects, (objects < 0) & (near & crowds).any(1), missed)


def match_set(data: DetectionSet, columns: Columns, *, iou_threshold: float = 0.5) -> SetMatches:
    """Match the detections of a set with its objects, as COCO's evaluation does at one IoU for objects of all sizes.

    Each image is matched as `match_detections` does it, with the first 100 detections of each class.

    Args:
        data: the ground truth.
        columns: the detections, as `to_columns` returns them.
        iou_threshold: the least IoU of a match.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> from yolo_lite.metrics.columns import to_columns
        >>> data = read_split("my_images", "val")
        >>> match_set(data, to_columns(data, [])).missed.tolist()  # three images with two objects each
        [True, True, True, True, True, True]
    """
    records, classes = data.records, len(data.class_names)
    least, counted, count = min(iou_threshold, 1 - 1e-10), records.asked(), len(columns.labels)
    groups = columns.images * classes + columns.labels
    surplus = _ranks(groups) >= MOST_DETECTIONS
    pairs = _overlapping(columns, records, counted)
    own = columns.labels[pairs.detections] == records.objects.labels[pairs.objects]
    crowd, near = ~counted[pairs.objects], pairs.overlap >= least
    candidates = pairs.take(own & near & ~crowd & ~surplus[pairs.detections])
    objects = choose_objects(candidates, groups=groups, free=counted)
    ignored = surplus
    ignored[pairs.detections[crowd & near]] = True
    ignored[objects >= 0] = False
    by_id = np.empty(len(records), np.int64)
    by_id[np.argsort(records.image_ids)] = np.arange(len(records))
    return SetMatches(
        columns,
        objects,
        ignored,
        own=pairs.take(own & ~crowd).nearest(count),
        others=pairs.take(~own).nearest(count),
        other_pairs=pairs.take(~own & near),
        counted=counted,
        object_labels=records.objects.labels,
        order=np.lexsort((by_id[columns.images], -columns.scores)),
        class_count=classes,
        iou_threshold=iou_threshold,
    )


def choose_objects(
    pairs: Pairs, *, groups: npt.NDArray[np.int64], free: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Let the detections of each group choose, one after another, their best object that is still free.

    The first detections of all groups choose at the same time, then the second ones, and so on.

    Args:
        pairs: the choices; groups have no objects in common.
        groups: int64 [D], the group of each detection, not negative.
        free: bool [N], the objects that may be chosen.

    Returns:
        int64 [D], the object of each detection, or -1.

    Example:
        >>> pairs = Pairs(np.array([0, 0, 1]), np.array([4, 2, 2]), np.array([0.6, 0.8, 0.9]))
        >>> choose_objects(pairs, groups=np.array([0, 0, 0]), free=np.ones(5, bool)).tolist()
        [2, -1, -1]
    """
    chosen, free = np.full(len(groups), -1), free.copy()
    first = np.diff(pairs.detections, prepend=-1) != 0
    turns = _ranks(groups[pairs.detections[first]])[np.cumsum(first) - 1]  # [P]
    pairs, turns = pairs.take(order := np.argsort(turns, kind="stable")), turns[order]
    starts = np.searchsorted(turns, np.arange(turns.max(initial=-1) + 2))
    for start, stop in itertools.pairwise(starts.tolist()):
        detections, objects = pairs.detections[start:stop], pairs.objects[start:stop]
        possible = free[objects]
        detections, objects = detections[possible], objects[possible]
        best = np.diff(detections, append=-1) != 0  # the last of each detection overlaps most
        chosen[detections[best]] = objects[best]
        free[objects[best]] = False
    return chosen


def _ranks(groups: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return how many entries of the same group precede each entry: int64 [D]."""
    order = np.argsort(groups, kind="stable")
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    ranks = np.empty(len(groups), np.int64)
    ranks[order] = np.arange(len(groups)) - np.repeat(starts, np.diff(starts, append=len(groups)))
    return ranks


def _overlapping(columns: Columns, records: Records, counted: npt.NDArray[np.bool_]) -> Pairs:
    """Return all pairs that overlap: with counted objects, and with crowds of the detection's class."""
    none = Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    parts = [_compare(columns, records, counted, images) for images in _chunks(columns, records)]
    return Pairs(*(np.concatenate(column) for column in zip(none, *parts)))


def _chunks(columns: Columns, records: Records) -> Iterator[slice]:
    """Divide the images of a set into runs with about _CHUNK pairs of a detection and an object each."""
    until = np.cumsum(np.diff(columns.starts) * records.counts)
    starts = np.flatnonzero(np.diff(until // _CHUNK, prepend=-1)).tolist()
    for start, stop in itertools.pairwise([*starts, len(records)]):
        yield slice(start, stop)


def _compare(columns: Columns, records: Records, counted: npt.NDArray[np.bool_], images: slice) -> Pairs:
    chosen = np.arange(columns.starts[images.start], columns.starts[images.stop])
    objects, _ = ranges(records.starts, columns.images[chosen])
    detections = np.repeat(chosen, records.counts[columns.images[chosen]])
    crowd = records.objects.crowd[objects] & (columns.labels[detections] == records.objects.labels[objects])
    kept = crowd | counted[objects]
    detections, objects, crowd = detections[kept], objects[kept], crowd[kept]
    truth = records.objects.boxes[objects]
    areas = _areas(truth)
    truth[:, 2:] = truth[:, :2] + (
        truth[:, 2:] - truth[:, :2]
    )  # rounded as in pycocotools, which adds width and height
    found = _Boxes(columns.boxes[detections], columns.areas[detections])
    overlap = _overlap(found, _Boxes(truth, areas), crowd)
    touching = overlap > 0
    return Pairs.sort(detections[touching], objects[touching], overlap=overlap[touching])


class _Boxes(NamedTuple):
    corners: npt.NDArray[np.float64]  # [..., 4] xyxy
    areas: npt.NDArray[np.float64]  # [...]


def _overlap(detections: _Boxes, truth: _Boxes, crowds: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return the IoU [...]; for a crowd, the intersection over the area of the detection."""
    high = np.minimum(detections.corners[..., 2:], truth.corners[..., 2:])
    sides = (high - np.maximum(detections.corners[..., :2], truth.corners[..., :2])).clip(0)
    common = sides[..., 0] * sides[..., 1]
    union = np.where(crowds, detections.areas, detections.areas + truth.areas - common)
    overlap: npt.NDArray[np.float64] = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return overlap


def _areas(boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    areas: npt.NDArray[np.float64] = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    return areas
