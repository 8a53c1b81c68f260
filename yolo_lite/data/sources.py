"""Where pictures to look at come from: a file, a folder, a pattern or a video; and how an annotated video is written."""

from __future__ import annotations

import contextlib
import glob
import math
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from yolo_lite.data.images import IMAGE_SUFFIXES
from yolo_lite.errors import InputError, counted
from yolo_lite.files import temporary
from yolo_lite.structures import Image

VIDEO_SUFFIXES = (".mp4", ".webm", ".avi", ".mov", ".mkv", ".m4v", ".mpg", ".mpeg", ".wmv")
VIDEO_CODECS = {".mp4": "mp4v", ".webm": "VP90"}  # what is written; browsers play the second
_USUAL_FPS = 25.0


@dataclass(frozen=True)
class Video:
    """A video file that could be opened.

    Attributes:
        fps: frames a second; 25 where the file does not say.
        hw: height and width of the upright frames.
        frames: how many there are, as the file says; 0 where it does not.
    """

    path: Path
    fps: float
    hw: tuple[int, int]
    frames: int


def find_source(source: str) -> list[Path] | Video:
    """Return the pictures that a file, folder (not its subfolders) or pattern means, sorted; or the video.

    Raises:
        InputError: where nothing is there, saying what was looked for.
    """
    path = Path(source)
    if path.is_dir():
        pictures = sorted(
            file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES and file.name[0] != "."
        )
        if not pictures:
            raise InputError(
                f"no pictures in the folder {path}; looked for {', '.join(IMAGE_SUFFIXES)} (videos are taken one at a time)"
            )
        return pictures
    if path.exists():
        return open_video(path) if path.suffix.lower() in VIDEO_SUFFIXES else [path]
    if any(letter in source for letter in "*?["):
        found = sorted(Path(name) for name in glob.glob(source, recursive=True))
        pictures = [file for file in found if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file()]
        if not pictures:
            raise InputError(
                f"no pictures match {source}; looked for {', '.join(IMAGE_SUFFIXES)} (videos are taken one at a time)"
            )
        return pictures
    raise InputError(f"{source} does not exist; --source takes a picture, folder, pattern or video")


def open_video(path: Path) -> Video:
    """Read a video's header; raise InputError where it is no video."""
    capture = _capture(path)
    cv2 = _quiet_cv2()
    try:
        fps = capture.get(cv2.CAP_PROP_FPS)
        opened, frame = capture.read()
        if not opened:
            raise InputError(f"{path} has no frame that can be decoded")
        frames = int(max(0, capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        good = math.isfinite(fps) and 0 < fps <= 1000
        return Video(path, fps if good else _USUAL_FPS, (frame.shape[0], frame.shape[1]), frames)
    finally:
        capture.release()


def read_frames(video: Video) -> Iterator[Image]:
    """Decode one frame after another, uint8 [H, W, 3] RGB; never more than one is held.

    Raises:
        EndsEarlyError: at the end, if clearly fewer frames came than the file says it has.
    """
    capture = _capture(video.path)
    cv2 = _quiet_cv2()
    count = 0
    try:
        while True:
            good, frame = capture.read()
            if not good:
                break
            count += 1
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()
    if count < video.frames - max(2, video.frames // 50):  # headers count a frame or two that decoders never give
        raise EndsEarlyError(
            f"{video.path} ends early: {count} of {counted(video.frames, 'frame')} could be read; is the file complete?"
        )


class EndsEarlyError(InputError):
    """A video has fewer frames than it says; those that it has were read."""


def batches(frames: Iterator[Image], size: int) -> Iterator[list[Image]]:
    """Gather frames into lists of `size`; a last, shorter one comes before the error of a video that ends early."""
    gathered: list[Image] = []
    early = None
    while True:
        try:
            frame = next(frames, None)
        except EndsEarlyError as error:
            frame, early = None, error
        if frame is not None:
            gathered.append(frame)
        if gathered and (frame is None or len(gathered) == size):
            yield gathered
            gathered = []
        if frame is None:
            break
    if early:
        raise early


class VideoWriter:
    """Write an annotated video under a temporary name, in a `with` block; it gets its own name at the end of it.

    Any error but the early end of the video that is read removes it.

    Args:
        path: its suffix chooses the codec; see VIDEO_CODECS.
        fps: frames a second.
        hw: height and width of the frames.
    """

    def __init__(self, path: Path, fps: float, hw: tuple[int, int]) -> None:
        cv2 = _quiet_cv2()
        self.path, self.part = path, temporary(path)
        codec = cv2.VideoWriter.fourcc(*VIDEO_CODECS[path.suffix])
        with _silent_stderr():  # FFmpeg remarks there that WebM has no such tag, and then does what was asked
            self._writer = cv2.VideoWriter(str(self.part), codec, fps, (hw[1], hw[0]))
        if not self._writer.isOpened():
            self.discard()
            raise InputError(
                f"cannot write {path}: this OpenCV has no {VIDEO_CODECS[path.suffix]} encoder, or the folder is closed"
            )

    def write(self, frame: Image) -> None:
        """Append a frame, uint8 [H, W, 3] RGB."""
        self._writer.write(frame[..., ::-1].copy())

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None or issubclass(kind, EndsEarlyError):
            self.close()
        else:
            self.discard()

    def close(self) -> None:
        """Finish the file and give it its name."""
        self._writer.release()
        os.replace(self.part, self.path)

    def discard(self) -> None:
        """Leave nothing."""
        self._writer.release()
        self.part.unlink(missing_ok=True)


def _capture(path: Path) -> Any:
    cv2 = _quiet_cv2()
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes)")
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        capture.release()
        raise InputError(f"{path} cannot be read as a video: damaged, cut short, or a codec that OpenCV lacks")
    return capture


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Send what native code writes to stderr to nowhere, for a moment."""
    sys.stderr.flush()
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def _quiet_cv2() -> Any:
    """Import OpenCV so that it does not add lines of its own to an error that is explained anyway."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    import cv2

    cv2.utils.logging.setLogLevel(0)
    return cv2
