"""Follow the objects of each source of a stream."""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace

from yolo_lite.errors import InputError
from yolo_lite.structures.frames import DetectedFrame
from yolo_lite.tracking.lines import CountLine
from yolo_lite.tracking.tracker import Tracker
from yolo_lite.tracking.video import HasThreshold, Overlay, VideoTracks
from yolo_lite.tracking.zones import Zone


class StreamTracks:
    """The tracks of every source of a stream, each with lines and zones of its own.

    Args:
        begin: returns the tracks of a new source for the height and width of its frames.

    Example:
        >>> from yolo_lite.structures.results import Detections
        >>> from yolo_lite.tracking.tracker import Tracker
        >>> tracks = StreamTracks(lambda hw: VideoTracks(Tracker(score_threshold=0.5)))
        >>> cat = Detections([[10, 10, 30, 40]], [0.9], labels=[0], class_names=("cat",))
        >>> for number in range(6):
        ...     frame = tracks.update(DetectedFrame("camera 0", number, number / 10, 1e9, cat, image_hw=(48, 64)))
        >>> frame.detections.track_ids.tolist()
        [1]
    """

    def __init__(self, begin: Callable[[tuple[int, int]], VideoTracks]) -> None:
        self._begin, self._tracks = begin, dict[str, VideoTracks]()

    @classmethod
    def of(cls, detector: HasThreshold, *, lines: Sequence[CountLine] = (), zones: Sequence[Zone] = ()) -> StreamTracks:
        """Return tracks with the thresholds of a detector, and with copies of lines and zones for every source.

        Example:
            >>> from yolo_lite import Detector
            >>> detector = Detector("yolo_lite-pico-voc5", device="cpu")
            >>> StreamTracks.of(detector, lines=[CountLine((0, 70), (99, 70))]).summary()  # no source yet
            []
        """
        return cls(
            lambda hw: VideoTracks(
                Tracker(score_threshold=detector.score_threshold),
                lines=copy.deepcopy(lines),
                zones=copy.deepcopy(zones),
            )
        )

    def update(self, frame: DetectedFrame) -> DetectedFrame:
        """Return a frame with its tracked objects alone, and with the counts of lines and zones, if there are any.

        Raises:
            InputError: if the frame is an image by itself.
        """
        if frame.still:
            raise InputError(f"{frame.source} is an image; objects are followed in videos and live sources only")
        tracks = self._tracks.get(frame.source)
        if tracks is None:
            tracks = self._tracks[frame.source] = self._begin(frame.image_hw)
        tracked = tracks.update(frame.detections, time=frame.time)
        lines = {
            f"line {number}": {direction: counts.total() for direction, counts in line.counts.items()}
            for number, line in enumerate(tracks.lines, 1)
        }
        zones = {
            f"zone {number}": {"inside": zone.present.total(), "entries": zone.entries.total()}
            for number, zone in enumerate(tracks.zones, 1)
        }
        return replace(frame, detections=tracked, line_counts=lines or None, zone_counts=zones or None)

    def overlay(self, source: str) -> Overlay:
        """Return what is drawn of the tracks in the latest frame of a source."""
        return self._tracks[source].overlay

    def summary(self) -> list[str]:
        """Return lines of text about the tracks, lines and zones of each source."""
        return [f"{source}: {text}" for source, tracks in self._tracks.items() for text in tracks.summary()]


def track_frames(
    frames: Generator[DetectedFrame, None, None], tracks: StreamTracks
) -> Generator[DetectedFrame, None, None]:
    """Yield frames with their tracked objects alone; `frames` is closed at the end.

    Example:
        >>> from yolo_lite import Detector
        >>> list(track_frames((frame for frame in []), StreamTracks.of(Detector("yolo_lite-pico-voc5", device="cpu"))))
        []
    """
    with closing(frames):
        for frame in frames:
            yield tracks.update(frame)
