"""The frames of a stream: as they were captured, and with what was detected in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from yolo_lite.structures.geometry import Image
from yolo_lite.structures.results import Detections


@dataclass(frozen=True, eq=False)
class Frame:
    """A captured frame.

    Attributes:
        source: name of its source, without passwords.
        number: position in the source, from 0; dropped frames are counted.
        time: seconds; of a live source by the monotonic clock, of a video from its beginning, of images 0.
        captured_at: when it was read: seconds since 1970 in UTC.
        image: uint8 [H, W, 3] RGB.
        dropped: number of frames of the source that were dropped before it.
        reconnects: how often the source has been connected again.
        live: whether it came from a camera or a server that does not wait.
        still: whether it is an image by itself, not a frame of a video.
    """

    source: str
    number: int
    time: float
    captured_at: float
    image: Image
    dropped: int = 0
    reconnects: int = 0
    live: bool = False
    still: bool = False


@dataclass(frozen=True, eq=False)
class DetectedFrame:
    """The detections in a frame of a stream; small unless the image was asked for.

    Attributes:
        source, number, time, captured_at, dropped, reconnects, live, still: as in `Frame`.
        detections: in original pixels.
        image_hw: height and width of the frame.
        image: the frame, uint8 [H, W, 3] RGB, or None.
        lag: seconds from capture to detections; 0 for files, which wait for the detector.
        line_counts: objects that crossed each count line so far: by name of the line, then by direction.
        zone_counts: by name of the zone: inside, the objects in it now, and entries, how many came in so far.
    """

    source: str
    number: int
    time: float
    captured_at: float
    detections: Detections
    image_hw: tuple[int, int]
    image: Image | None = None
    dropped: int = 0
    reconnects: int = 0
    live: bool = False
    still: bool = False
    lag: float = 0.0
    line_counts: Mapping[str, Mapping[str, int]] | None = None
    zone_counts: Mapping[str, Mapping[str, int]] | None = None
