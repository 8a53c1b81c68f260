"""Write what is found: annotated images and videos, and COCO result rows, whole or not at all."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from PIL import Image as PillowImage

from yolo_lite.errors import InputError, counted, reason
from yolo_lite.files import check_can_create, make_folder, temporary, write_atomically
from yolo_lite.media.opencv import for_opencv, quiet_cv2, silent_stderr
from yolo_lite.media.sources import EndsEarlyError
from yolo_lite.structures.geometry import Image

VIDEO_CODECS = {".mp4": "mp4v", ".webm": "VP90"}  # what is written; browsers play the second


class VideoWriter:
    """Write an annotated video under a temporary name, in a `with` block; it gets its own name at the end of it.

    The frames that were written keep their file, whole and playable, where the video that is read ends early, or where
    the block is left by Ctrl-C, another signal to stop, or the end of a generator. Any other error removes it.

    Args:
        path: its suffix chooses the codec; see VIDEO_CODECS.
        fps: frames a second; rounded where the codec cannot hold it exactly.
        hw: height and width of the frames.

    Raises:
        InputError: where the file cannot be written, or at the end, where not every frame can be read back.
    """

    def __init__(self, path: Path, fps: float, *, hw: tuple[int, int]) -> None:
        cv2 = quiet_cv2()
        self.path, self.part, self.frames, self._hw = path, temporary(path), 0, hw
        _try_to_write(self.part, path)
        codec = cv2.VideoWriter.fourcc(*VIDEO_CODECS[path.suffix])
        rate = _writable_fps(fps)
        with silent_stderr():  # FFmpeg remarks there that WebM has no such tag, and then does what was asked
            self._writer = cv2.VideoWriter(for_opencv(self.part), codec, rate, (hw[1], hw[0]))
        if not self._writer.isOpened():
            self.discard()
            raise InputError(
                f"cannot write {path}: this OpenCV cannot encode {hw[1]} x {hw[0]} pixels at {rate:g} frames a second as "
                f"{VIDEO_CODECS[path.suffix]}"
            )

    def write(self, frame: Image) -> None:
        """Append a frame, uint8 [H, W, 3] RGB; one of another size than the file's is stretched to it."""
        if frame.shape[:2] != self._hw:  # which OpenCV would leave out without a word
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
        """Finish the file and give it its name, once all its frames have been read back: OpenCV reports no failure."""
        try:
            self._writer.release()
            readable = _count_frames(self.part) if self.frames else 0
            if readable < self.frames:
                raise InputError(f"cannot write {self.path}: {self._failure(readable)}; make room and start again")
            os.replace(self.part, self.path)
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {reason(error)}") from error
        finally:
            self.discard()

    def discard(self) -> None:
        """Leave nothing."""
        self._writer.release()
        self.part.unlink(missing_ok=True)

    def _failure(self, readable: int) -> str:
        """Say why frames are missing: the system's words where the file still cannot grow."""
        some = f"{readable:,} of {counted(self.frames, 'frame')} can be read back"
        try:
            with self.part.open("ab") as file:
                file.write(bytes(_PROBE))
        except OSError as error:
            return f"no space left for it ({reason(error)}); {some}"
        return f"there was no space left on the disk for a time; {some}"


_CHECK_EVERY = 25  # frames
_FULL = 4096  # free bytes: the file system's last block
_PROBE = 2**20  # bytes: more than the encoder holds back
_LOWEST_FPS = 0.01  # what OpenCV does not take for 0
_MOST_UNITS = 65535  # of MPEG-4 Part 2, in a second


def _try_to_write(part: Path, path: Path) -> None:
    """Raise InputError with the system's reason where a file cannot be created: OpenCV gives none."""
    try:
        part.open("wb").close()
    except OSError as error:
        raise InputError(f"cannot write {path}: {reason(error)}") from error


def _writable_fps(fps: float) -> float:
    """Round a rate so that OpenCV, which writes it as a decimal fraction, needs a numerator that MPEG-4 can hold."""
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
    """Write an image, uint8 [H, W, 3] RGB, as its suffix says."""
    write_atomically(path, lambda part: save_image(PillowImage.fromarray(image), part, quality=92))


def check_rows_path(path: Path) -> None:
    """Raise InputError where result rows would replace something else than result rows, or have no place."""
    check_can_create(path.parent)
    if path.suffix.lower() != ".json" or path.is_dir():
        raise InputError(f"--save-json takes a file name that ends in .json, got {path}")
    if path.is_file() and not path.read_bytes()[:64].lstrip().startswith(b"["):
        raise InputError(f"{path} is there and holds no list of result rows; choose another file for --save-json")


class JsonRows:
    """A JSON list that is written row by row, so that memory stays flat, and gets its name at the end of a `with` block.

    Whatever ends the block, the rows so far are kept, unless `write` was not called yet or the disk is full.

    Attributes:
        kept: the file has its name.
    """

    def __init__(self, path: Path) -> None:
        check_rows_path(path)
        make_folder(path.parent)
        self.path, self.part = path, temporary(path)
        try:
            self._file = self.part.open("w", encoding="utf-8")
            self._file.write("[")
        except OSError as error:
            raise InputError(f"cannot write {path}: {reason(error)}") from error
        self._separator = "\n"
        self._begun = self.kept = False

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Append the rows of an image, a frame or several, which may be none."""
        text = ",\n".join(json.dumps(row) for row in rows)
        try:
            if text:
                self._file.write(self._separator + text)  # all at once, or Ctrl-C would leave some rows of an image
                self._separator = ",\n"
        except OSError as error:
            self._begun = False  # what the file holds now is no list
            raise InputError(f"cannot write {self.path}: {reason(error)}") from error
        self._begun = True

    def __enter__(self) -> JsonRows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._file:
                self._file.write("\n]\n")
            if kind is None or self._begun:
                os.replace(self.part, self.path)
                self.kept = True
        except OSError as failure:
            raise InputError(f"cannot write {self.path}: {reason(failure)}") from failure
        finally:
            self.part.unlink(missing_ok=True)


def save_image(image: PillowImage.Image, path: Path, *, quality: int = 75) -> None:
    """Write an image as its suffix says, encoded in memory: Pillow does not see that a disk is full.

    Raises:
        OSError: where not all of it could be written.
    """
    content = io.BytesIO()
    image.save(content, PillowImage.registered_extensions()[path.suffix.lower()], quality=quality)
    path.write_bytes(content.getvalue())
