"""Follow the objects of one video: its tracker, count lines and zones, and what is drawn of them."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, Protocol, TypeVar

from yolo_lite.errors import InputError, counted
from yolo_lite.structures.results import Detections
from yolo_lite.tracking.lines import CountLine, Point
from yolo_lite.tracking.tracker import LOW_SCORES, Tracker
from yolo_lite.tracking.trails import Trails
from yolo_lite.tracking.zones import Zone


class HasThreshold(Protocol):
    """What tracking asks of a detector."""

    score_threshold: float


AnyDetector = TypeVar("AnyDetector", bound=HasThreshold)


def reporting_low_scores(detector: AnyDetector) -> AnyDetector:
    """Return a detector with the same network that also reports the weak detections which continue tracks.

    An exported file returns no scores below its own lowest one.

    Example:
        >>> from yolo_lite import Detector
        >>> detector = Detector("yolo_lite-pico-voc5", device="cpu", score_threshold=0.5)
        >>> reporting_low_scores(detector).score_threshold, detector.score_threshold
        (0.2, 0.5)
    """
    lower = copy.copy(detector)
    lower.score_threshold = max(LOW_SCORES * detector.score_threshold, getattr(detector, "lowest_score", 0.0))
    return lower


class Overlay(NamedTuple):
    """What is drawn of the tracks of one frame.

    Attributes:
        trails: by track id, the points (x, y) of its way, the oldest first.
        lines: the two ends of each count line, and a text.
        zones: the corners of each zone, and a text.
    """

    trails: dict[int, tuple[Point, ...]]
    lines: tuple[tuple[Point, Point, str], ...] = ()
    zones: tuple[tuple[tuple[Point, ...], str], ...] = ()


class VideoTracks:
    """The tracks of one video, with count lines and zones.

    Args:
        tracker: receives the detections of each frame.
        lines, zones: count the tracked objects.

    Example:
        >>> tracks = VideoTracks(Tracker(score_threshold=0.5), lines=[CountLine((0, 70), (99, 70))])
        >>> for frame in range(6):  # a cat that walks down
        ...     box = [10, 15 * frame, 30, 15 * frame + 20]
        ...     cat = Detections([box], [0.9], labels=[0], class_names=("cat",))
        ...     tracked = tracks.update(cat, time=frame / 10)
        >>> tracked.track_ids.tolist(), tracks.summary()
        ([1], ['1 track (cat 1)', 'line 1: down 1 (cat 1), up 0'])
    """

    def __init__(self, tracker: Tracker, *, lines: Sequence[CountLine] = (), zones: Sequence[Zone] = ()) -> None:
        self.tracker, self.lines, self.zones = tracker, tuple(lines), tuple(zones)
        self.overlay = Overlay({})
        self._trails = Trails()
        self._objects: Counter[str] = Counter()
        self._highest = 0

    def update(self, detections: Detections, *, time: float) -> Detections:
        """Return the tracked objects of the next frame; lines, zones and `overlay` are up to date then.

        Args:
            detections: all objects detected in the frame, weak ones included.
            time: when the frame was captured, seconds.
        """
        tracked = self.tracker.update(detections, time=time)
        self._count(tracked)
        for line in self.lines:
            line.update(tracked)
        for zone in self.zones:
            zone.update(tracked, time=time)
        self.overlay = Overlay(
            self._trails.update(tracked, time=time),
            lines=tuple(
                (line.start, line.end, f"line {number}: {_arrows(line)}") for number, line in enumerate(self.lines, 1)
            ),
            zones=tuple(
                (zone.points, f"zone {number}: {zone.present.total()}") for number, zone in enumerate(self.zones, 1)
            ),
        )
        return tracked

    def _count(self, tracked: Detections) -> None:
        """Count the tracks that are new in this frame; numbers grow."""
        ids = [] if tracked.track_ids is None else tracked.track_ids.tolist()
        self._objects.update(name for name, number in zip(tracked.names, ids) if number > self._highest)
        self._highest = max([self._highest, *ids])

    def summary(self) -> list[str]:
        """Return lines of text: the number of tracks, then for each count line and zone its counts so far."""
        return [
            f"{counted(self._objects.total(), 'track')}{_classes(self._objects)}",
            *(f"line {number}: {_directions(line)}" for number, line in enumerate(self.lines, 1)),
            *(
                f"zone {number}: {counted(zone.entries.total(), 'entry', plural='entries')}{_classes(zone.entries)}, "
                f"{zone.mean_dwell:.1f} s inside on average"
                for number, zone in enumerate(self.zones, 1)
            ),
        ]


_ARROWS = {"down": "\N{DOWNWARDS ARROW}", "up": "\N{UPWARDS ARROW}"}
_ARROWS |= {"right": "\N{RIGHTWARDS ARROW}", "left": "\N{LEFTWARDS ARROW}"}


def _arrows(line: CountLine) -> str:
    return "  ".join(f"{_ARROWS[direction]} {counts.total()}" for direction, counts in line.counts.items())


def _directions(line: CountLine) -> str:
    return ", ".join(f"{direction} {counts.total()}{_classes(counts)}" for direction, counts in line.counts.items())


def _classes(counts: dict[str, int]) -> str:
    """Return counts by class in brackets, the most common first, or nothing."""
    order = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return f" ({', '.join(f'{name} {count:,}' for name, count in order)})" if order else ""


def in_pixels(numbers: Sequence[float], hw: tuple[int, int], *, name: str) -> list[Point]:
    """Return the points of a line or zone in pixels of the video.

    Args:
        numbers: x1, y1, x2, y2 ...: pixels, or fractions of width and height if all are from 0 to 1.
        hw: height and width of the video.
        name: what they are called in a message.

    Raises:
        InputError: if every point lies outside the video.

    Example:
        >>> in_pixels([0, 0.5, 1, 0.5], (480, 640), name="--count-line")
        [(0.0, 240.0), (640.0, 240.0)]
    """
    scale = (float(hw[1]), float(hw[0])) if all(0 <= number <= 1 for number in numbers) else (1.0, 1.0)
    points = [(x * scale[0], y * scale[1]) for x, y in zip(numbers[::2], numbers[1::2])]
    x, y = zip(*points)
    if max(x) < 0 or min(x) > hw[1] or max(y) < 0 or min(y) > hw[0]:
        text = ",".join(f"{number:g}" for number in numbers)
        raise InputError(f"{name} {text} lies outside the video of {hw[1]} x {hw[0]} pixels")
    return points
