"""Record annotated frames of streams as videos that play at the speed of the world."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from yolo_lite.draw.boxes import draw_detections
from yolo_lite.draw.tracks import draw_tracks
from yolo_lite.errors import InputError
from yolo_lite.files import file_name, make_folder
from yolo_lite.media.detections import flat_name
from yolo_lite.media.writers import VideoWriter
from yolo_lite.structures.frames import DetectedFrame
from yolo_lite.structures.geometry import Image
from yolo_lite.tracking.video import Overlay

FPS = 25.0
LONGEST_GAP = 10.0  # seconds that one frame may stand still; a longer pause of a source is cut out


class Recorder:
    """Write a video for each source, in a `with` block; a frame is repeated or left out as its time asks.

    Args:
        folder: where the videos go, named after their sources.
        suffix: .mp4 or .webm.
        font: as for `draw_detections`.

    Attributes:
        paths: the videos, by source.

    Raises:
        InputError: if a video cannot be written.

    Example:
        >>> from yolo_lite.structures.results import Detections
        >>> nothing, black = Detections([], scores=[], labels=[], class_names=["cat"]), np.zeros((48, 64, 3), np.uint8)
        >>> with Recorder(Path("recorded")) as recorder:
        ...     for number in range(2):
        ...         recorder.write(DetectedFrame("camera 0", number, number / 2, 1e9, nothing, (48, 64), image=black))
        >>> recorder.paths["camera 0"].name
        'camera_0.mp4'
    """

    def __init__(self, folder: Path, *, suffix: str = ".mp4", font: Path | None = None) -> None:
        self.paths: dict[str, Path] = {}
        self._folder, self._suffix, self._font = folder, suffix, font
        self._stack, self._tracks = ExitStack(), dict[str, _Track]()

    def write(self, frame: DetectedFrame, *, overlay: Overlay | None = None) -> None:
        """Append a frame to the video of its source, with its tracks if there is an overlay.

        Raises:
            InputError: if the frame is an image by itself.
        """
        if frame.still:
            raise InputError(f"{frame.source} is an image; only videos and live sources are recorded")
        image = annotated(frame, overlay=overlay, font=self._font)
        track = self._tracks.get(frame.source)
        if track is None:
            track = self._tracks[frame.source] = self._begin(frame)
        track.add(image, frame.time)

    def _begin(self, frame: DetectedFrame) -> _Track:
        make_folder(self._folder)
        stem = flat_name(frame.source if "://" in frame.source else Path(frame.source).stem)
        taken = set(self.paths.values())
        names = (
            file_name(stem or "stream", f"{end}{self._suffix}") for end in ("", *(f"-{n}" for n in range(2, 10_000)))
        )
        path = next(path for name in names if (path := self._folder / name) not in taken)
        writer = self._stack.enter_context(VideoWriter(path, FPS, hw=frame.image_hw))
        self.paths[frame.source] = path
        return _Track(writer, frame.time)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


def annotated(frame: DetectedFrame, *, overlay: Overlay | None = None, font: Path | None = None) -> Image:
    """Return a frame with its detections drawn, and with its tracks if there is an overlay.

    Example:
        >>> from yolo_lite.structures.results import Detections
        >>> nothing, black = Detections([], scores=[], labels=[], class_names=["cat"]), np.zeros((48, 64, 3), np.uint8)
        >>> annotated(DetectedFrame("camera 0", 0, 0.0, 1e9, nothing, (48, 64), image=black)).shape
        (48, 64, 3)
    """
    if frame.image is None:
        raise InputError("frames are drawn only if they have images; pass images=True to stream")
    if overlay is None:
        return draw_detections(frame.image, frame.detections, font=font)
    return draw_tracks(frame.image, frame.detections, overlay=overlay, font=font)


class _Track:
    """A video, and the time of its first frame."""

    def __init__(self, writer: VideoWriter, began: float) -> None:
        self._writer, self._began = writer, began
        self._last: Image | None = None

    def add(self, image: Image, time: float) -> None:
        """Write the frame at its time, and the one before it up to then."""
        due = max(0, round((time - self._began) * FPS))
        gap = due - self._writer.frames
        if gap > LONGEST_GAP * FPS:
            self._began += (gap - 1) / FPS
            due = self._writer.frames + 1
        while self._last is not None and self._writer.frames < due:
            self._writer.write(self._last)
        if due >= self._writer.frames:
            self._writer.write(image)
        self._last = image
