"""How well tracks agree with the true ones: MOTA, IDF1, identity switches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from yolo_lite.errors import InputError, counted
from yolo_lite.structures.results import Detections
from yolo_lite.tracking.assignment import assign

_CORRECT = 0.5  # fraction of a true track that one track must cover


class TrackScores(NamedTuple):
    """What became of the true tracks of a video.

    Attributes:
        mota: 1 - (misses + false_positives + switches) / objects; at most 1, may be below 0.
        idf1: F1 of the boxes whose track is the one that fits their true track best, 0 to 1.
        switches: how often a true track goes on under another number than before.
        false_positives: tracked boxes without an object.
        misses: objects without a tracked box.
        objects: true boxes in all frames.
        correct: true tracks of which one track, of no other object, covers at least half.
        tracks: true tracks.
    """

    mota: float
    idf1: float
    switches: int
    false_positives: int
    misses: int
    objects: int
    correct: int
    tracks: int


def score_tracks(
    truth: Sequence[Detections], tracked: Sequence[Detections], *, iou_threshold: float = 0.5
) -> TrackScores:
    """Compare tracks with the true ones, frame by frame.

    A box belongs to an object if it has its class and overlaps it enough. Without objects or boxes a value is 1.

    Args:
        truth: the objects of each frame with their `track_ids`; scores are not used.
        tracked: the result of `Tracker.update` for each frame.
        iou_threshold: the least overlap.

    Raises:
        InputError: if the numbers of frames differ, or a frame has no `track_ids`.

    Example:
        >>> frame = Detections([[0, 0, 9, 9]], [1.0], labels=[0], class_names=("cat",), track_ids=[7])
        >>> scores = score_tracks([frame] * 4, [frame] * 3 + [frame[:0]])  # not tracked in the last of four frames
        >>> scores.mota, scores.misses, round(scores.idf1, 3)
        (0.75, 1, 0.857)

    Source: Bernardin and Stiefelhagen 2008, "Evaluating Multiple Object Tracking Performance" (MOTA);
    Ristani et al. 2016, "Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking" (IDF1).
    """
    if len(truth) != len(tracked):
        raise InputError(f"tracks must have {counted(len(truth), 'frame')} like the truth, got {len(tracked)}")
    tally = _Tally(iou_threshold)
    for objects, boxes in zip(truth, tracked):
        tally.add(objects, boxes)
    lengths, sizes = _lengths(truth, "truth"), _lengths(tracked, "tracked")
    total, count = sum(lengths.values()), sum(sizes.values())
    matched = _identities(lengths, sizes, tally.together)
    return TrackScores(
        mota=1 - (tally.misses + tally.false_positives + tally.switches) / max(total, 1),
        idf1=2 * sum(matched.values()) / (total + count) if total + count else 1.0,
        switches=tally.switches,
        false_positives=tally.false_positives,
        misses=tally.misses,
        objects=total,
        correct=sum(frames >= _CORRECT * lengths[number] for number, frames in matched.items()),
        tracks=len(lengths),
    )


class _Tally:
    """Counts of the frames so far; `together` has, by true and tracked id, the frames in which they overlap."""

    def __init__(self, iou_threshold: float) -> None:
        self.switches = self.false_positives = self.misses = 0
        self.together: dict[tuple[int, int], int] = {}
        self._iou_threshold = iou_threshold
        self._partner: dict[int, int] = {}  # by true id, the id under which it was last tracked

    def add(self, objects: Detections, boxes: Detections) -> None:
        true_ids, ids = _ids(objects, "truth"), _ids(boxes, "tracked")
        overlap = _overlap(objects, boxes)
        for row, column in np.argwhere(overlap >= self._iou_threshold).tolist():
            both = true_ids[row], ids[column]
            self.together[both] = self.together.get(both, 0) + 1
        before = [(self._partner.get(number), ids) for number in true_ids]
        pairs = _pairs(overlap, self._iou_threshold, before=before)
        for row, column in pairs:
            self.switches += self._partner.get(true_ids[row], ids[column]) != ids[column]
            self._partner[true_ids[row]] = ids[column]
        self.misses += len(objects) - len(pairs)
        self.false_positives += len(boxes) - len(pairs)


def _ids(detections: Detections, name: str) -> list[int]:
    if detections.track_ids is None:
        raise InputError(f"every frame of {name} must have track_ids; Tracker.update sets them")
    return [int(number) for number in detections.track_ids]


def _lengths(frames: Sequence[Detections], name: str) -> dict[int, int]:
    """Return the number of boxes of each track."""
    lengths: dict[int, int] = {}
    for frame in frames:
        for number in _ids(frame, name):
            lengths[number] = lengths.get(number, 0) + 1
    return lengths


def _pairs(
    overlap: npt.NDArray[np.float64], iou_threshold: float, *, before: list[tuple[int | None, list[int]]]
) -> list[tuple[int, int]]:
    """Return the (object, box) pairs of a frame: pairs of the frame before stay, the others overlap as much as possible.

    `before` has for each object the id of its last partner, and the ids of this frame.
    """
    kept = [
        (row, ids.index(number))
        for row, (number, ids) in enumerate(before)
        if number in ids and overlap[row, ids.index(number)] >= iou_threshold
    ]
    rows = [row for row in range(overlap.shape[0]) if row not in {pair[0] for pair in kept}]
    columns = [column for column in range(overlap.shape[1]) if column not in {pair[1] for pair in kept}]
    allowed = overlap[np.ix_(rows, columns)]
    # Each pair is worth more than all overlap together, so as many pairs as possible are made.
    costs = np.where(allowed >= iou_threshold, -float(len(rows) + 1) - allowed, 0.0)
    return kept + [(rows[row], columns[column]) for row, column in assign(costs, limit=0.0).tolist()]


def _identities(lengths: dict[int, int], sizes: dict[int, int], together: dict[tuple[int, int], int]) -> dict[int, int]:
    """Return for each true track the frames it shares with its own track, in the assignment that shares most."""
    true_ids, ids = sorted(lengths), sorted(sizes)
    shared = np.array([[together.get((row, column), 0) for column in ids] for row in true_ids], float)
    pairs = assign(-shared.reshape(len(true_ids), len(ids)), limit=0.0)
    return {true_ids[row]: int(shared[row, column]) for row, column in pairs.tolist()}


def _overlap(objects: Detections, boxes: Detections) -> npt.NDArray[np.float64]:
    """Return the IoU [N, M] of objects and boxes; 0 if their classes differ."""
    first, second = objects.boxes.astype(np.float64), boxes.boxes.astype(np.float64)
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = (high - low).clip(0).prod(2)
    areas = [(each[:, 2:] - each[:, :2]).prod(1) for each in (first, second)]
    union = areas[0][:, None] + areas[1] - common
    overlap: npt.NDArray[np.float64] = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    overlap[objects.labels[:, None] != boxes.labels] = 0
    return overlap
