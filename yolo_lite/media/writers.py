"""Write annotated images and videos, COCO result rows and tables; an unfinished file is never left behind."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from PIL import Image as PillowImage

from yolo_lite.errors import InputError, counted, reason
from yolo_lite.files import check_can_create, make_folder, temporary, write_atomically
from yolo_lite.media.opencv import for_opencv, quiet_cv2, silent_stderr
from yolo_lite.media.sources import EndsEarlyError
from yolo_lite.structures.geometry import Image
from yolo_lite.structures.results import Classification

if TYPE_CHECKING:
    from typing_extensions import Self

VIDEO_CODECS = {".mp4": "mp4v", ".webm": "VP90"}  # by suffix; browsers play only the second


class VideoWriter:
    """Write a video in a `with` block: under a temporary name, and renamed at the end of the block.

    The file is kept, with all frames so far and playable, if the input video ends early (EndsEarlyError), or if Ctrl-C,
    another signal to stop, or the end of a generator leaves the block. Any other error removes it.

    Args:
        path: the file; its suffix chooses the codec (see VIDEO_CODECS).
        fps: frames a second; rounded if the codec cannot represent it exactly.
        hw: height and width of the frames.

    Raises:
        InputError: if the file cannot be written; at the end, if not every frame can be read back.

    Example:
        >>> with VideoWriter(Path("black.mp4"), 25, hw=(48, 64)) as writer:
        ...     writer.write(np.zeros((48, 64, 3), np.uint8))
        >>> Path("black.mp4").is_file()
        True
    """

    def __init__(self, path: Path, fps: float, *, hw: tuple[int, int]) -> None:
        cv2 = quiet_cv2()
        self.path, self.part, self.frames, self._hw = path, temporary(path), 0, hw
        _try_to_write(self.part, path)
        codec = cv2.VideoWriter.fourcc(*VIDEO_CODECS[path.suffix])
        rate = _writable_fps(fps)
        with silent_stderr():  # FFmpeg warns that WebM has no such tag, and then writes the file correctly
            self._writer = cv2.VideoWriter(for_opencv(self.part), codec, rate, (hw[1], hw[0]))
        if not self._writer.isOpened():
            self.discard()
            raise InputError(
                f"cannot write {path}: this OpenCV cannot encode {hw[1]} x {hw[0]} pixels at {rate:g} frames a second as "
                f"{VIDEO_CODECS[path.suffix]}"
            )

    def write(self, frame: Image) -> None:
        """Append a frame, uint8 [H, W, 3] RGB; a frame of another size is stretched to the size of the video.

        Raises:
            InputError: if the disk is full.
        """
        if frame.shape[:2] != self._hw:  # OpenCV would drop such a frame silently
            frame = quiet_cv2().resize(frame, self._hw[::-1])
        self._writer.write(frame[..., ::-1].copy())
        self.frames += 1
        if self.frames % _CHECK_EVERY == 0 and shutil.disk_usage(self.part.parent).free < _FULL:
            raise InputError(f"cannot write {self.path}: no space left on the disk")

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stopped = kind is not None and not issubclass(kind, Exception)
        if kind is None or ((stopped or issubclass(kind, EndsEarlyError)) and self.frames):
            self.close()
        else:
            self.discard()

    def close(self) -> None:
        """Finish the file, check that all frames can be read back (OpenCV reports no failure), and rename it.

        Raises:
            InputError: if frames are missing, or the file cannot be renamed.
        """
        try:
            self._writer.release()
            readable = _count_frames(self.part) if self.frames else 0
            if readable < self.frames:
                raise InputError(
                    f"cannot write {self.path}: {self._failure(readable)}; free disk space and start again"
                )
            os.replace(self.part, self.path)
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {reason(error)}") from error
        finally:
            self.discard()

    def discard(self) -> None:
        """Stop writing and remove the temporary file."""
        self._writer.release()
        self.part.unlink(missing_ok=True)

    def _failure(self, readable: int) -> str:
        """Return why frames are missing: the system's reason if the file still cannot grow."""
        some = f"{readable:,} of {counted(self.frames, 'frame')} can be read back"
        try:
            with self.part.open("ab") as file:
                file.write(bytes(_PROBE))
        except OSError as error:
            return f"no space left for it ({reason(error)}); {some}"
        return f"there was no space left on the disk for a time; {some}"


_CHECK_EVERY = 25  # frames
_FULL = 4096  # free bytes: the last block of the file system
_PROBE = 2**20  # bytes: more than the encoder buffers
_LOWEST_FPS = 0.01  # OpenCV treats lower values as 0
_MOST_UNITS = 65535  # largest number of time units in a second that MPEG-4 Part 2 can store


def _try_to_write(part: Path, path: Path) -> None:
    """Raise InputError with the system's reason if a file cannot be created: OpenCV reports none."""
    try:
        part.open("wb").close()
    except OSError as error:
        raise InputError(f"cannot write {path}: {reason(error)}") from error


def _writable_fps(fps: float) -> float:
    """Round a frame rate so that MPEG-4 can store the numerator of the decimal fraction that OpenCV writes."""
    digits = next((digits for digits in (3, 2, 1) if fps * 10**digits <= _MOST_UNITS), 0)
    return max(_LOWEST_FPS, round(fps, digits))


def _count_frames(path: Path) -> int:
    cv2 = quiet_cv2()
    capture = cv2.VideoCapture(for_opencv(path))
    try:
        return sum(1 for _ in iter(capture.grab, False))
    finally:
        capture.release()


def write_image(path: Path, image: Image) -> None:
    """Write an image, uint8 [H, W, 3] RGB, in the format of the path's suffix.

    Raises:
        InputError: if the file cannot be written.

    Example:
        >>> write_image(Path("red.png"), np.array([[[255, 0, 0]]], np.uint8))
        >>> PillowImage.open("red.png").getpixel((0, 0))
        (255, 0, 0)
    """
    write_atomically(path, lambda part: part.write_bytes(encode_image(image, path.suffix)))


def encode_image(image: Image, suffix: str, *, quality: int = 92) -> bytes:
    """Return the content of the file that `write_image` writes under a name with this suffix.

    Example:
        >>> encode_image(np.zeros((4, 4, 3), np.uint8), ".png")[1:4]
        b'PNG'
    """
    return _encode(PillowImage.fromarray(image), suffix, quality=quality)


def check_rows_path(path: Path) -> None:
    """Raise InputError if result rows cannot be written to a path, or would replace a file of another kind.

    Example:
        >>> check_rows_path(Path("photo.jpg"))
        Traceback (most recent call last):
        yolo_lite.errors.InputError: --save-json takes a file name that ends in .json, got photo.jpg
    """
    check_can_create(path.parent)
    if path.suffix.lower() != ".json" or path.is_dir():
        raise InputError(f"--save-json takes a file name that ends in .json, got {path}")
    if path.is_file() and not path.read_bytes()[:64].lstrip().startswith(b"["):
        raise InputError(f"{path} exists and is not a list of result rows; choose another file for --save-json")


class GrowingFile:
    """A text file that is written piece by piece in a `with` block to save memory, and renamed at its end.

    If an error ends the block, the pieces so far are kept, unless `append` was never called or the disk is full.

    Args:
        path: the file; its folder is created if it is missing.
        start: text at its beginning.
        end: text at its end.

    Attributes:
        kept: whether the finished file exists under its own name.

    Example:
        >>> with GrowingFile(Path("list.txt"), start="[", end="]") as file:
        ...     file.append("1")
        >>> Path("list.txt").read_text()
        '[1]'
    """

    def __init__(self, path: Path, *, start: str = "", end: str = "") -> None:
        make_folder(path.parent)
        self.path, self.part, self._end = path, temporary(path), end
        self._begun = self.kept = False
        try:
            self._file = self.part.open("w", encoding="utf-8", errors="surrogateescape", newline="")
            self._file.write(start)
        except OSError as error:
            raise InputError(f"cannot write {path}: {reason(error)}") from error

    def append(self, text: str) -> None:
        """Append a text, which may be empty, in one call: Ctrl-C cannot leave only some rows of an image.

        Raises:
            InputError: if the file cannot be written.
        """
        try:
            self._file.write(text)
        except OSError as error:
            self._begun = False  # the file ends in the middle of a piece
            raise InputError(f"cannot write {self.path}: {reason(error)}") from error
        self._begun = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._file:
                self._file.write(self._end)
            if kind is None or self._begun:
                os.replace(self.part, self.path)
                self.kept = True
        except OSError as failure:
            raise InputError(f"cannot write {self.path}: {reason(failure)}") from failure
        finally:
            self.part.unlink(missing_ok=True)


class JsonRows(GrowingFile):
    """A JSON list, written row by row in a `with` block; see `GrowingFile`.

    Example:
        >>> with JsonRows(Path("rows.json")) as rows:
        ...     rows.write([{"image_id": 1, "score": 0.5}])
        >>> json.loads(Path("rows.json").read_text())
        [{'image_id': 1, 'score': 0.5}]
    """

    def __init__(self, path: Path) -> None:
        check_rows_path(path)
        super().__init__(path, start="[", end="\n]\n")
        self._separator = "\n"

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Append the rows of one or more images; the list may be empty.

        Raises:
            InputError: if the file cannot be written.
        """
        text = ",\n".join(json.dumps(row) for row in rows)
        self.append(self._separator + text if text else "")
        if text:
            self._separator = ",\n"


def write_predictions(path: Path, rows: Iterable[tuple[str, Classification]], *, class_names: Sequence[str]) -> None:
    """Write a CSV file with a row for each image: its name, class and score, then the score of every class.

    Example:
        >>> answer = Classification(np.array([0.75, 0.25], np.float32), ("cat", "dog"))
        >>> write_predictions(Path("answers.csv"), [("a.jpg", answer)], class_names=("cat", "dog"))
        >>> print(Path("answers.csv").read_text())
        file,class,score,cat,dog
        a.jpg,cat,0.7500,0.7500,0.2500
        <BLANKLINE>
    """
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "class", "score", *class_names])
        for name, answer in rows:
            writer.writerow([name, answer.name, f"{answer.score:.4f}", *(f"{score:.4f}" for score in answer.scores)])


def save_image(image: PillowImage.Image, path: Path, *, quality: int = 75) -> None:
    """Write an image in the format of the path's suffix.

    The image is encoded in memory first, because Pillow does not notice that a disk is full.

    Raises:
        OSError: if the file could not be written completely.

    Example:
        >>> save_image(PillowImage.new("RGB", (2, 1)), Path("tiny.jpg"), quality=90)
        >>> PillowImage.open("tiny.jpg").size
        (2, 1)
    """
    path.write_bytes(_encode(image, path.suffix, quality=quality))


def _encode(image: PillowImage.Image, suffix: str, *, quality: int) -> bytes:
    content = io.BytesIO()
    image.save(content, PillowImage.registered_extensions()[suffix.lower()], quality=quality)
    return content.getvalue()
