"""Detect in files: annotated images or a video, and COCO result rows."""

from __future__ import annotations

import errno
import importlib.util
import itertools
import os
import re
import unicodedata
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from yolo_lite.draw.boxes import draw_detections
from yolo_lite.errors import InputError
from yolo_lite.files import file_name, identity, make_folder
from yolo_lite.media.images import read_image
from yolo_lite.media.sources import Video, relative_names
from yolo_lite.media.writers import JsonRows, VideoWriter, write_image
from yolo_lite.metrics.coco import to_rows
from yolo_lite.predict.detector import Detector
from yolo_lite.structures.geometry import Image
from yolo_lite.structures.results import Detections

Show = Callable[[Image], None]  # puts an annotated image on the screen


class DetectedImage(NamedTuple):
    """What was found in an image and where the annotated one was written, or why that could not be done.

    `name` is the path from the folder that all images have in common, which tells those of one file name apart.
    """

    path: Path
    detections: Detections | None = None
    annotated: Path | None = None
    error: InputError | None = None
    name: str = ""


def detect_images(
    detector: Detector,
    images: Sequence[Path],
    *,
    out: Path,
    json_file: JsonRows | None = None,
    show: Show | None = None,
    font: Path | None = None,
) -> Iterator[DetectedImage]:
    """Detect in images, a batch at a time, and write each annotated one into a folder; for `font` see `draw_detections`.

    Yields:
        One DetectedImage for each; one that cannot be read, or whose annotated copy the folder cannot hold, has an
        error instead of detections.

    Raises:
        InputError: where the folder cannot be written to, or an output would take the place of a source.
    """
    outputs = _Outputs(images, out)
    targets = {path: outputs.choose(path) for path in images}
    names, ids = relative_names(images), image_ids(images)
    for start in range(0, len(images), detector.batch_size):
        read: dict[Path, Image] = {}
        for path in images[start : start + detector.batch_size]:
            try:
                read[path] = read_image(path, detector.max_16bit)
            except InputError as error:
                yield DetectedImage(path, error=error, name=names[path])
        for (path, image), detections in zip(read.items(), detector(list(read.values()))):
            annotated = draw_detections(image, detections, font=font)
            make_folder(out)
            if max(image.shape) > _MOST_OF_JPEG and targets[path].suffix == ".jpg":
                targets[path] = outputs.choose(path, ".png")
            try:
                write_image(targets[path], annotated)
            except InputError as error:
                if not _is_of_this_name(error):
                    raise
                yield DetectedImage(path, error=error, name=names[path])
                continue
            if show:
                show(annotated)
            if json_file:
                rows = to_rows(detections, ids[path], category_ids=detector.category_ids)
                json_file.write([{**row, "file_name": names[path]} for row in rows])
            yield DetectedImage(path, detections, targets[path], name=names[path])


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


def image_ids(images: Sequence[Path]) -> dict[Path, int]:
    """Number images for result rows: by the digits of a name that is a number, else by the next free number from 1."""
    ids: dict[Path, int] = {}
    taken: set[int] = set()
    for path in images:
        if re.fullmatch(r"\d{1,18}", path.stem, re.ASCII) and int(path.stem) not in taken:
            ids[path] = int(path.stem)
            taken.add(ids[path])
    free = (number for number in itertools.count(1) if number not in taken)
    for path in images:
        if path not in ids:
            ids[path] = next(free)
    return ids


def sample_image() -> Path:
    """Return the photograph of Grace Hopper that matplotlib carries."""
    package = importlib.util.find_spec("matplotlib")
    path = Path((package and package.origin) or "").parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"
    if not path.is_file():
        raise InputError("matplotlib's sample photograph is not installed here; name an image with --source")
    return path


class _Outputs:
    """Choose for each image a file in a folder that no other image gets, and that is no source or beside one."""

    def __init__(self, images: Sequence[Path], out: Path) -> None:
        self._out = out
        self._taken: set[str] = set()
        self._numbers: dict[tuple[str, str], int] = {}
        self._sources = {identity(path) for path in images}
        folders = {os.path.dirname(place(path)) for path in images for place in (os.path.abspath, os.path.realpath)}
        self._beside = identity(out) in {identity(Path(folder)) for folder in folders}

    def choose(self, path: Path, suffix: str = "") -> Path:
        """Return an image's output: PNG stays PNG, all others become JPEG, unless the suffix is given."""
        suffix = suffix or (".png" if path.suffix.lower() == ".png" else ".jpg")
        name = self._free(path.stem, suffix)
        self.check(self._out / name, "image")
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
