"""Detect in files: annotated pictures or a video, and COCO result rows, written whole or not at all."""

from __future__ import annotations

import errno
import importlib.util
import itertools
import json
import os
import re
import unicodedata
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from PIL import Image as PillowImage

from yolo_lite.data.images import read_image
from yolo_lite.data.sources import Video, VideoWriter, relative_names
from yolo_lite.engine.predict import Detector
from yolo_lite.errors import InputError, reason
from yolo_lite.files import check_can_create, file_name, identity, make_folder, temporary, write_atomically
from yolo_lite.metrics.coco import to_rows
from yolo_lite.structures import Detections, Image
from yolo_lite.visualize import draw_detections, save_picture

Show = Callable[[Image], None]  # puts an annotated picture on the screen


class DetectedPicture(NamedTuple):
    """What was found in a picture and where the annotated one was written, or why that could not be done.

    `name` is the path from the folder that all pictures have in common, which tells those of one file name apart.
    """

    path: Path
    detections: Detections | None = None
    annotated: Path | None = None
    error: InputError | None = None
    name: str = ""


def detect_pictures(
    detector: Detector,
    pictures: Sequence[Path],
    *,
    out: Path,
    json_file: JsonRows | None = None,
    show: Show | None = None,
    font: Path | None = None,
) -> Iterator[DetectedPicture]:
    """Detect in pictures, a batch at a time, and write each annotated one into a folder; for `font` see `draw_detections`.

    Yields:
        One DetectedPicture for each; one that cannot be read, or whose annotated copy the folder cannot hold, has an
        error instead of detections.

    Raises:
        InputError: where the folder cannot be written to, or an output would take the place of a source.
    """
    outputs = _Outputs(pictures, out)
    targets = {path: outputs.choose(path) for path in pictures}
    names, ids = relative_names(pictures), image_ids(pictures)
    for start in range(0, len(pictures), detector.batch_size):
        read: dict[Path, Image] = {}
        for path in pictures[start : start + detector.batch_size]:
            try:
                read[path] = read_image(path, detector.max_16bit)
            except InputError as error:
                yield DetectedPicture(path, error=error, name=names[path])
        for (path, image), detections in zip(read.items(), detector(list(read.values()))):
            annotated = draw_detections(image, detections, font=font)
            make_folder(out)
            if max(image.shape) > _MOST_OF_JPEG and targets[path].suffix == ".jpg":
                targets[path] = outputs.choose(path, ".png")
            try:
                write_picture(targets[path], annotated)
            except InputError as error:
                if not _is_of_this_name(error):
                    raise
                yield DetectedPicture(path, error=error, name=names[path])
                continue
            if show:
                show(annotated)
            if json_file:
                rows = to_rows(detections, ids[path], category_ids=detector.category_ids)
                json_file.write([{**row, "file_name": names[path]} for row in rows])
            yield DetectedPicture(path, detections, targets[path], name=names[path])


_MOST_OF_JPEG = 65_500  # pixels of a side, as libjpeg has it


def _is_of_this_name(error: InputError) -> bool:
    """Tell whether a file could not be written for its name alone, so that others can be."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)


def detect_video(
    detector: Detector,
    video: Video,
    *,
    target: Path,
    json_file: JsonRows | None = None,
    show: Show | None = None,
    font: Path | None = None,
) -> Generator[Detections, None, None]:
    """Detect in a video and write it annotated; in JSON rows `image_id` is the frame's number, from 0.

    For `font` see `draw_detections`.

    Yields:
        What was found in each frame. The file has its name only once the last was taken; where the video ends early,
        or no further frame is asked for, it holds the frames so far.

    Raises:
        InputError: where the output cannot be written or would replace the source.
        EndsEarlyError: where the video ends early.
    """
    make_folder(target.parent)
    _Outputs([video.path], target.parent).check(target, "video")
    with VideoWriter(target, video.fps, hw=video.hw) as writer:
        for number, (frame, detections) in enumerate(detector.stream(video)):
            annotated = draw_detections(frame, detections, font=font)
            writer.write(annotated)
            if show:
                show(annotated)
            if json_file:
                rows = to_rows(detections, number, category_ids=detector.category_ids)
                json_file.write([{**row, "file_name": video.path.name} for row in rows])
            yield detections


def image_ids(pictures: Sequence[Path]) -> dict[Path, int]:
    """Number pictures for result rows: by the digits of a name that is a number, else by the next free number from 1."""
    ids: dict[Path, int] = {}
    taken: set[int] = set()
    for path in pictures:
        if re.fullmatch(r"\d{1,18}", path.stem, re.ASCII) and int(path.stem) not in taken:
            ids[path] = int(path.stem)
            taken.add(ids[path])
    free = (number for number in itertools.count(1) if number not in taken)
    for path in pictures:
        if path not in ids:
            ids[path] = next(free)
    return ids


def sample_picture() -> Path:
    """Return the photograph of Grace Hopper that matplotlib carries."""
    package = importlib.util.find_spec("matplotlib")
    path = Path((package and package.origin) or "").parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"
    if not path.is_file():
        raise InputError("matplotlib's sample photograph is not installed here; name a picture with --source")
    return path


def write_picture(path: Path, image: Image) -> None:
    """Write a picture, uint8 [H, W, 3] RGB, as its suffix says."""
    write_atomically(path, lambda part: save_picture(PillowImage.fromarray(image), part, quality=92))


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
        """Append the rows of a picture, a frame or several, which may be none."""
        text = ",\n".join(json.dumps(row) for row in rows)
        try:
            if text:
                self._file.write(self._separator + text)  # all at once, or Ctrl-C would leave some rows of a picture
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


class _Outputs:
    """Choose for each picture a file in a folder that no other picture gets, and that is no source or beside one."""

    def __init__(self, pictures: Sequence[Path], out: Path) -> None:
        self._out = out
        self._taken: set[str] = set()
        self._numbers: dict[tuple[str, str], int] = {}
        self._sources = {identity(path) for path in pictures}
        folders = {os.path.dirname(place(path)) for path in pictures for place in (os.path.abspath, os.path.realpath)}
        self._beside = identity(out) in {identity(Path(folder)) for folder in folders}

    def choose(self, path: Path, suffix: str = "") -> Path:
        """Return a picture's output: PNG stays PNG, all others become JPEG, unless the suffix is given."""
        suffix = suffix or (".png" if path.suffix.lower() == ".png" else ".jpg")
        name = self._free(path.stem, suffix)
        self.check(self._out / name, "picture")
        return self._out / name

    def check(self, target: Path, what: str) -> None:
        """Raise InputError where a file would replace a source, or what lies beside one: no result of an earlier run."""
        there = identity(target)
        if there and (self._beside or there in self._sources):
            raise InputError(f"the annotated {what} would replace {target}; choose another --out")

    def _free(self, stem: str, suffix: str) -> str:
        """Return stem, or stem-2, stem-3 ..., whichever is the first that is free, whatever its case."""
        while True:
            number = self._numbers[stem, suffix] = self._numbers.get((stem, suffix), 0) + 1
            name = file_name(stem, (f"-{number}" if number > 1 else "") + suffix)
            key = unicodedata.normalize("NFC", name).casefold()
            if key not in self._taken:
                self._taken.add(key)
                return name
