"""Where pictures to look at come from: a file, a folder, a pattern or a video; and how an annotated video is written."""

from __future__ import annotations

import contextlib
import glob
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from yolo_lite.data.folders import VIDEO_SUFFIXES, is_apple_double, left_out, listed, sort_out, walk
from yolo_lite.data.images import IMAGE_SUFFIXES, RAW_SUFFIXES, count_frames, is_image
from yolo_lite.errors import InputError, reason
from yolo_lite.files import temporary
from yolo_lite.structures import Image

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


def find_source(source: str, *, say: Callable[[str], object] = lambda line: None) -> list[Path] | Video:
    """Return the pictures that a file, folder (not its subfolders) or pattern means, sorted; or the video.

    The content of a file says what it is where its suffix does not. An animation (GIF) by itself is a video; of one in a
    folder, the first frame is taken.

    Args:
        source: a path, or a pattern with *, ? or [.
        say: called with a line where something in the folder is left out.

    Raises:
        InputError: where nothing is there, saying what was looked for.
    """
    path = Path(source)
    if path.is_dir():
        return _of_folder(path, say)
    if path.exists():
        if is_video(path):
            return open_video(path)
        _refuse_other_files(path)
        return [path]
    if any(letter in source for letter in "*?["):
        return _of_pattern(source, say)
    raise InputError(f"{source} does not exist; --source takes a picture, folder, pattern or video")


def _refuse_other_files(path: Path) -> None:
    """Raise InputError for a file of an unknown suffix whose content is no image; an empty one is named in reading."""
    known = path.suffix.lower() in (*IMAGE_SUFFIXES, *RAW_SUFFIXES)
    if not known and path.is_file() and os.access(path, os.R_OK) and path.stat().st_size and not is_image(path):
        raise InputError(
            f"{path} is neither an image nor a video that can be read; looked for {', '.join(IMAGE_SUFFIXES)} and others "
            f"that Pillow reads, and for {', '.join(VIDEO_SUFFIXES)}"
        )


def is_video(path: Path) -> bool:
    """Say whether a file is a video, by its suffix, or by its first bytes where that is the suffix of nothing known."""
    suffix = path.suffix.lower()
    if suffix == ".gif":
        return count_frames(path) > 1
    if suffix in VIDEO_SUFFIXES or suffix in (*IMAGE_SUFFIXES, *RAW_SUFFIXES):
        return suffix in VIDEO_SUFFIXES
    return path.is_file() and not is_image(path) and _begins_as_video(path)


def _begins_as_video(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(400)
    except OSError:
        return False
    if head[4:8] == b"ftyp":  # MP4, MOV, 3GP; also HEIC, which is a picture
        return head[8:12] not in _PICTURE_BRANDS
    packets = len(head) > 376 and (head[0] == head[188] == 0x47 or head[4] == head[196] == 0x47)  # TS, M2TS
    return head.startswith(_VIDEO_HEADS) or (head[:4] == b"RIFF" and head[8:12] == b"AVI ") or packets


_PICTURE_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis", b"crx ")
_VIDEO_HEADS = (b"\x1a\x45\xdf\xa3", b"FLV", b"OggS", b"\x30\x26\xb2\x75", b"\0\0\1\xba", b"\0\0\1\xb3")  # Matroska ...


def _of_folder(folder: Path, say: Callable[[str], object]) -> list[Path]:
    entries = listed(folder)
    folders = {path: path.is_dir() for path in entries}
    pictures, others = sort_out(path for path in entries if not folders[path])
    notes = left_out(folder, others, [path for path in entries if folders[path]])
    if not pictures:
        raise InputError("; ".join([f"no pictures in the folder {folder}; {_LOOKED_FOR}", *notes]))
    for note in notes:
        say(note)
    return pictures


def _of_pattern(pattern: str, say: Callable[[str], object]) -> list[Path]:
    """Return the images that match; one that is reached twice, over a link that leads back up, is taken once."""
    found: dict[tuple[str, str], Path] = {}
    for path in sorted(map(Path, _matches(pattern)), key=lambda path: (len(path.parts), path)):
        if path.is_file() and not is_apple_double(path.name):
            found.setdefault((os.path.realpath(path.parent), path.name), path)
    pictures, others = sort_out(sorted(found.values()))
    notes = left_out(f"what matches {pattern}", others)
    if not pictures:
        raise InputError("; ".join([f"no pictures match {pattern}; {_LOOKED_FOR}", *notes]))
    for note in notes:
        say(note)
    return pictures


def _matches(pattern: str) -> list[str]:
    """Return what glob does with `recursive`, but go into no folder twice: links that lead back up have no end there."""
    if pattern == "**" or pattern.endswith("/**"):
        pattern += "/*"
    above, stars, below = pattern.partition("**/")
    if not stars or (above and not above.endswith("/")):
        return glob.glob(pattern)
    tops = [Path(name) for name in glob.glob(above)] if above else [Path()]
    folders = [folder for top in tops if top.is_dir() for folder in (top, *walk(top)[1])]
    return [name for folder in folders for name in _matches(os.path.join(glob.escape(str(folder)), below))]


_LOOKED_FOR = f"looked for {', '.join(IMAGE_SUFFIXES)} and others that Pillow reads (videos are taken one at a time)"


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
            f"{video.path} ends early: {count} of {video.frames} frames could be read; is the file complete?"
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
    if path.is_file():  # OpenCV does not say why it cannot open one
        try:
            path.open("rb").close()
        except OSError as error:
            raise InputError(f"cannot read {path}: {reason(error)}") from error
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
