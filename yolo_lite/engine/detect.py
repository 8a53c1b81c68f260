"""Detect in files: annotated pictures or a video, and COCO result rows, written whole or not at all."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from PIL import Image as PillowImage

from yolo_lite.data.images import read_image
from yolo_lite.data.sources import EndsEarlyError, Video, VideoWriter
from yolo_lite.engine.predict import Detector
from yolo_lite.errors import InputError
from yolo_lite.files import check_can_create, make_folder, temporary, write_atomically
from yolo_lite.metrics.coco import to_rows
from yolo_lite.structures import Detections, Image
from yolo_lite.visualize import draw_detections

Show = Callable[[Image], None]  # puts an annotated picture on the screen


class DetectedPicture(NamedTuple):
    """What was found in a picture and where the annotated one was written, or why it could not be read."""

    path: Path
    detections: Detections | None = None
    annotated: Path | None = None
    error: InputError | None = None


def detect_pictures(
    detector: Detector,
    pictures: Sequence[Path],
    out: Path,
    json_file: JsonRows | None = None,
    show: Show | None = None,
) -> Iterator[DetectedPicture]:
    """Detect in pictures, a batch at a time, and write each annotated one into a folder.

    Yields:
        One DetectedPicture for each, unreadable ones included.

    Raises:
        InputError: where the folder cannot be written to, or an output would take the place of a source.
    """
    targets = _output_names(pictures, out)
    ids = image_ids(pictures)
    for start in range(0, len(pictures), detector.batch_size):
        read: dict[Path, Image] = {}
        for path in pictures[start : start + detector.batch_size]:
            try:
                read[path] = read_image(path, detector.max_16bit)
            except InputError as error:
                yield DetectedPicture(path, error=error)
        for (path, image), detections in zip(read.items(), detector(list(read.values()))):
            annotated = draw_detections(image, detections)
            make_folder(out)
            write_picture(targets[path], annotated)
            if json_file:
                rows = to_rows(detections, ids[path], detector.category_ids)
                json_file.write([{**row, "file_name": path.name} for row in rows])
            if show:
                show(annotated)
            yield DetectedPicture(path, detections, targets[path])


def detect_video(
    detector: Detector,
    video: Video,
    target: Path,
    json_file: JsonRows | None = None,
    show: Show | None = None,
) -> Iterator[Detections]:
    """Detect in a video and write it annotated; in JSON rows `image_id` is the frame's number, from 0.

    Yields:
        What was found in each frame. The file has its name only once the last was taken; where the video ends early,
        it holds the frames that could be read.

    Raises:
        InputError: where the output cannot be written or would replace the source.
        EndsEarlyError: where the video ends early.
    """
    make_folder(target.parent)
    if target.exists() and target.parent.samefile(video.path.parent):
        raise InputError(f"the annotated video would replace {target}; choose another --out")
    with VideoWriter(target, video.fps, video.hw) as writer:
        for number, (frame, detections) in enumerate(detector.stream(video)):
            annotated = draw_detections(frame, detections)
            writer.write(annotated)
            if json_file:
                rows = to_rows(detections, number, detector.category_ids)
                json_file.write([{**row, "file_name": video.path.name} for row in rows])
            if show:
                show(annotated)
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
    write_atomically(path, lambda part: PillowImage.fromarray(image).save(part, quality=92))


def check_rows_path(path: Path) -> None:
    """Raise InputError where result rows would replace something else than result rows, or have no place."""
    check_can_create(path.parent)
    if path.suffix.lower() != ".json" or path.is_dir():
        raise InputError(f"--save-json takes a file name that ends in .json, got {path}")
    if path.is_file() and not path.read_bytes()[:64].lstrip().startswith(b"["):
        raise InputError(f"{path} is there and holds no list of result rows; choose another file for --save-json")


class JsonRows:
    """A JSON list that is written row by row, so that memory stays flat, and gets its name when it is complete."""

    def __init__(self, path: Path) -> None:
        check_rows_path(path)
        make_folder(path.parent)
        self.path, self.part = path, temporary(path)
        try:
            self._file = self.part.open("w", encoding="utf-8")
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error
        self._separator = "[\n"

    def write(self, rows: Sequence[dict[str, Any]]) -> None:
        """Append rows."""
        for row in rows:
            self._file.write(self._separator + json.dumps(row))
            self._separator = ",\n"

    def __enter__(self) -> JsonRows:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._file:
                self._file.write("[]\n" if self._separator == "[\n" else "\n]\n")
            if kind is None or issubclass(kind, EndsEarlyError):
                os.replace(self.part, self.path)
        finally:
            self.part.unlink(missing_ok=True)


def _output_names(pictures: Sequence[Path], out: Path) -> dict[Path, Path]:
    """Give every picture a file name of its own in the folder: PNG stays PNG, all others become JPEG."""
    targets: dict[Path, Path] = {}
    taken: set[str] = set()
    sources = {path.resolve() for path in pictures}
    folders = {path.parent for path in sources}
    for path in pictures:
        suffix = ".png" if path.suffix.lower() == ".png" else ".jpg"
        names = itertools.chain([path.stem], (f"{path.stem}-{number}" for number in itertools.count(2)))
        name = next(name for name in names if (name + suffix).lower() not in taken)
        taken.add((name + suffix).lower())
        targets[path] = out / (name + suffix)
        beside = targets[path].exists() and out.resolve() in folders  # somebody's picture, not a result of before
        if beside or targets[path].resolve() in sources:
            raise InputError(f"the annotated picture would replace {targets[path]}; choose another --out")
    return targets
