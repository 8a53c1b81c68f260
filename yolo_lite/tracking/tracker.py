"""Follow objects from frame to frame: `Tracker` gives each a number that it keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from yolo_lite.checks import check_number, check_share
from yolo_lite.errors import InputError
from yolo_lite.structures.results import Detections
from yolo_lite.tracking.assignment import assign
from yolo_lite.tracking.kalman import Motion, correct, predict, start

LOW_SCORES = 0.4  # fraction of the score threshold down to which a detection may continue a track

_CONFIRMED = 3.0  # detections after which a track gets its number; those below the score threshold count half
_CONFIRM_SECONDS = 0.1  # at least, from the first of them to the last
_TRIAL_SECONDS = 0.3  # that a track without a number may go undetected, or one frame if that is longer
_STRONG_OVERLAP, _WEAK_OVERLAP = 0.1, 0.4  # least IoU with a detection above, and below, the score threshold
_WIDEST = 0.35  # largest widening of a box on each side, in sides of the box
_ROUNDING = 1e-6  # seconds

Places = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class _Tracks:
    """T tracks: `ids` are 0 until they are confirmed; times are in seconds."""

    motion: Motion
    ids: Places
    labels: Places
    hits: npt.NDArray[np.float64]
    first: npt.NDArray[np.float64]
    last: npt.NDArray[np.float64]

    @classmethod
    def begin(cls, boxes: npt.ArrayLike, labels: npt.ArrayLike, *, time: float) -> _Tracks:
        motion, count = start(boxes), len(np.asarray(labels))
        times = np.full(count, time)
        return cls(
            motion,
            np.zeros(count, np.int64),
            np.asarray(labels, np.int64),
            hits=np.ones(count),
            first=times,
            last=times.copy(),
        )

    def parts(self) -> list[npt.NDArray[Any]]:
        return [*self.motion, self.ids, self.labels, self.hits, self.first, self.last]

    @classmethod
    def of_parts(cls, parts: list[npt.NDArray[Any]]) -> _Tracks:
        return cls(Motion(*parts[:6]), *parts[6:])

    def pick(self, index: Mask | Places) -> _Tracks:
        return self.of_parts([part[index] for part in self.parts()])

    def join(self, other: _Tracks) -> _Tracks:
        return self.of_parts([np.concatenate(pair) for pair in zip(self.parts(), other.parts())])

    def __len__(self) -> int:
        return len(self.ids)


class Tracker:
    """Number the objects of a video: call `update` with the detections of each frame.

    Detections above the score threshold are matched with tracks first, by the overlap with the place where a Kalman
    filter expects them. Tracks that stay without one are matched with weaker detections, which are often the same
    object half hidden. A detection above the threshold that fits no track begins a new one. It gets its number, from
    1, at the third detection; weak ones count half. All times are in seconds, so results hardly depend on the frame rate.

    Args:
        score_threshold: the score above which a detection may begin a track; the threshold that you would use without
            tracking. Let the detector report scores down to 0.4 of it.
        buffer: seconds that an object may stay undetected before its track ends.

    Raises:
        InputError: if a setting cannot be used.

    Example:
        >>> tracker = Tracker(score_threshold=0.4)
        >>> for frame in range(4):  # a cat that walks to the right, at 10 frames a second
        ...     cat = Detections([[5 * frame, 0, 5 * frame + 40, 30]], [0.8], labels=[0], class_names=("cat",))
        ...     print(tracker.update(cat, time=frame / 10).track_ids.tolist())
        []
        []
        [1]
        [1]

    Source: Zhang et al. 2022, "ByteTrack: Multi-Object Tracking by Associating Every Detection Box"; boxes are widened
    before they are compared as in Yang et al. 2023, "Hard to Track Objects with Irregular Motions and Similar
    Appearances?", here by the uncertainty of the filter.
    """

    def __init__(self, *, score_threshold: float, buffer: float = 1.5) -> None:
        self.score_threshold = check_share(score_threshold, "score_threshold")
        self.buffer = check_number(buffer, "buffer")
        if self.buffer < 0:
            raise InputError(f"buffer must be at least 0 seconds, got {self.buffer:g}")
        self.low_threshold = LOW_SCORES * self.score_threshold
        self._tracks = _Tracks.begin(np.zeros((0, 4)), [], time=0.0)
        self._time = -math.inf
        self._issued = 0

    def update(self, detections: Detections, *, time: float) -> Detections:
        """Return the detections that belong to confirmed tracks, with `track_ids`.

        Args:
            detections: all objects detected in a frame, weak ones included; none if nothing was detected.
            time: when the frame was captured, seconds from any beginning.

        Raises:
            InputError: if the time is not later than that of the frame before.
        """
        now = check_number(time, "time")
        if now <= self._time:
            raise InputError(f"time must be later than that of the frame before ({self._time:g} s), got {now:g} s")
        self._end(now)
        if len(self._tracks):
            self._tracks = replace(self._tracks, motion=predict(self._tracks.motion, now - self._time))
        self._time = now
        strong = detections.scores > self.score_threshold
        weak = ~strong & (detections.scores > self.low_threshold)
        track_of = np.full(len(detections), -1)
        for tracks in (self._tracks.ids > 0, self._tracks.ids == 0):
            self._match(detections, strong, track_of=track_of, tracks=tracks, overlap=_STRONG_OVERLAP)
            self._match(detections, weak, track_of=track_of, tracks=tracks, overlap=_WEAK_OVERLAP)
        self._correct(detections, track_of)
        self._confirm(track_of[track_of >= 0])
        ids = np.where(track_of >= 0, self._ids_at(track_of), 0)
        self._begin(detections, strong & (track_of < 0))
        kept = np.flatnonzero(ids)
        return replace(detections[kept], track_ids=ids[kept])

    def _ids_at(self, track_of: Places) -> Places:
        return self._tracks.ids[track_of] if len(self._tracks) else np.zeros(len(track_of), np.int64)

    def _match(self, detections: Detections, chosen: Mask, *, track_of: Places, tracks: Mask, overlap: float) -> None:
        """Match free detections with free tracks, and write the positions of the tracks into `track_of`."""
        taken = np.zeros(len(self._tracks), bool)
        taken[track_of[track_of >= 0]] = True
        rows, columns = np.flatnonzero(tracks & ~taken), np.flatnonzero(chosen & (track_of < 0))
        if not (len(rows) and len(columns)):
            return
        costs = 1 - _widened_iou(self._tracks.motion.pick(rows), detections.boxes[columns].astype(np.float64))
        costs[self._tracks.labels[rows][:, None] != detections.labels[columns]] = np.inf
        pairs = assign(costs, limit=1 - overlap)
        track_of[columns[pairs[:, 1]]] = rows[pairs[:, 0]]

    def _correct(self, detections: Detections, track_of: Places) -> None:
        seen = np.flatnonzero(track_of >= 0)
        if not len(seen):
            return
        at = track_of[seen]
        better = correct(self._tracks.motion.pick(at), detections.boxes[seen])
        for part, new in zip(self._tracks.motion, better):
            part[at] = new
        self._tracks.hits[at] += np.where(detections.scores[seen] > self.score_threshold, 1.0, 0.5)
        self._tracks.last[at] = self._time

    def _confirm(self, seen: Places) -> None:
        """Number the tracks that were detected often enough; those that began first, and then the best, come first."""
        tracks = self._tracks
        for at in np.sort(seen).tolist():
            long = self._time - tracks.first[at] >= _CONFIRM_SECONDS - _ROUNDING
            if not tracks.ids[at] and tracks.hits[at] >= _CONFIRMED and long:
                self._issued += 1
                tracks.ids[at] = self._issued

    def _begin(self, detections: Detections, chosen: Mask) -> None:
        new = _Tracks.begin(detections.boxes[chosen], detections.labels[chosen], time=self._time)
        self._tracks = self._tracks.join(new)

    def _end(self, now: float) -> None:
        """Drop the tracks that have gone undetected for too long."""
        tracks = self._tracks
        gaps = now - tracks.last
        on_trial = (gaps <= _TRIAL_SECONDS + _ROUNDING) | (tracks.last == self._time)
        self._tracks = tracks.pick((gaps <= self.buffer + _ROUNDING) & ((tracks.ids > 0) | on_trial))


def _widened_iou(motion: Motion, boxes: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the IoU [T, N] of expected and detected boxes, both widened by the uncertainty of the expected place.

    The uncertainty grows with the time since the last detection, so the gate widens at low frame rates.
    """
    margins = np.sqrt(motion.value_variances[:, :2])
    margins = np.minimum(margins, _WIDEST * motion.sides[:, None])[:, None]  # [T, 1, 2]
    expected = motion.boxes()[:, None]  # [T, 1, 4]
    low = np.maximum(expected[..., :2], boxes[:, :2]) - margins
    high = np.minimum(expected[..., 2:], boxes[:, 2:]) + margins
    common = (high - low).clip(0).prod(2)
    own = (expected[..., 2:] - expected[..., :2] + 2 * margins).prod(2)
    other = (boxes[:, 2:] - boxes[:, :2] + 2 * margins).prod(2)
    overlap: npt.NDArray[np.float64] = common / np.maximum(own + other - common, 1e-9)
    return overlap
