"""Detect in files, and write annotated images or an annotated video, and COCO result rows."""

from __future__ import annotations

import errno
import importlib.util
import itertools
import os
import re
import unicodedata
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from yolo_lite.draw.boxes import draw_detections
from yolo_lite.draw.tracks import draw_tracks
from yolo_lite.errors import InputError
from yolo_lite.files import file_name, identity, make_folder, write_atomically
from yolo_lite.media.ahead import Behind, Depth, in_order
from yolo_lite.media.detections import Detected, Output
from yolo_lite.media.images import read_image
from yolo_lite.media.sources import Video, relative_names
from yolo_lite.media.windows import Windows, read_in_parts
from yolo_lite.media.writers import VideoWriter, encode_image
from yolo_lite.shipped import shipped
from yolo_lite.structures.frames import DetectedFrame
from yolo_lite.structures.geometry import Image
from yolo_lite.structures.results import Detections
from yolo_lite.structures.tiles import Tiling
from yolo_lite.tracking.video import Overlay, VideoTracks

Show = Callable[[Image], None]  # puts an annotated image on the screen


class AnyDetector(Protocol):
    """What detecting in files asks of a detector: that of a checkpoint, or of an exported file."""

    batch_size: int
    max_16bit: int
    tiling: Tiling | None

    def __call__(self, images: list[Any]) -> list[Detections]:
        """Return the detections in each image."""

    def stream(self, source: Video, *, images: bool) -> Iterator[DetectedFrame]:
        """Yield the detections in each frame of a video, with the frames if these are asked for."""


class DetectedImage(NamedTuple):
    """The detections in an image and the path of its annotated copy, or the error if there are none.

    `name` is the path relative to the deepest folder that contains all images, so that it is unique.
    """

    path: Path
    detections: Detections | None = None
    annotated: Path | None = None
    error: InputError | None = None
    name: str = ""


def detect_images(
    detector: AnyDetector,
    images: Sequence[Path],
    *,
    out: Path | None,
    outputs: Sequence[Output] = (),
    show: Show | None = None,
    font: Path | None = None,
) -> Generator[DetectedImage, None, None]:
    """Detect in images, a batch at a time, and write an annotated copy of each into a folder.

    While the network looks at a batch, threads read the next one, and draw and encode the copies of the one before.
    A copy is stored when its image is yielded, never earlier.

    Args:
        detector, images: the detector, and the image files.
        out: the folder, which is created if it is missing; None: no annotated copies.
        outputs: receive each image with its detections, such as `LabelFiles`.
        show: called with every annotated image.
        font: as for `draw_detections`.

    Yields:
        One DetectedImage for each image. It has an error instead of detections if the image cannot be read, or if its
        copy cannot have such a name.

    Raises:
        InputError: if the folder cannot be written to, or an output would replace a source.

    Example:
        >>> from yolo_lite.predict.detector import Detector
        >>> detector = Detector("yolo_lite-pico-voc5", device="cpu")
        >>> results = detect_images(detector, [Path("photo.jpg")], out=Path("annotated"))
        >>> [result.annotated.name for result in results]
        ['photo.jpg']
    """
    files, names, ids = _Outputs(images, out), relative_names(images), image_ids(images)
    targets = files.choose_all(images)
    drawn = _drawn(detector, images, targets=targets, font=font, show=show is not None, keep=bool(outputs))
    with closing(drawn) as copies:
        for path, copy in copies:
            error = copy if isinstance(copy, InputError) else files.store(path, copy)
            if isinstance(copy, InputError) or error:
                yield DetectedImage(path, error=error, name=names[path])
                continue
            if show and copy.annotated is not None:
                show(copy.annotated)
            for output in outputs:
                assert copy.image is not None  # kept for these
                output.write(Detected(names[path], copy.image, copy.detections, image_id=ids[path]))
            yield DetectedImage(path, copy.detections, targets[path] if copy.content else None, name=names[path])


class _Found(NamedTuple):
    """An image and the detections in it."""

    image: Image
    detections: Detections


class _Copy(NamedTuple):
    """The detections in an image, the content of its annotated copy, and the copy and the image if they are needed."""

    detections: Detections
    content: bytes
    suffix: str
    annotated: Image | None
    image: Image | None


def _drawn(
    detector: AnyDetector,
    images: Sequence[Path],
    *,
    targets: dict[Path, Path],
    font: Path | None,
    show: bool,
    keep: bool,
) -> Generator[tuple[Path, _Copy | InputError], None, None]:
    """Yield the annotated copy of each image, drawn and encoded in a thread, or the error if it cannot be read."""

    def draw(item: tuple[Path, _Found | InputError]) -> tuple[Path, _Copy | InputError]:
        path, found = item
        if isinstance(found, InputError):
            return path, found
        image = found.image if keep else None
        if isinstance(found.image, Windows) or (not show and path not in targets):
            return path, _Copy(found.detections, b"", "", None, image)
        annotated = draw_detections(found.image, found.detections, font=font)
        suffix = ".png" if max(annotated.shape) > _MOST_OF_JPEG or path not in targets else targets[path].suffix
        content = encode_image(annotated, suffix) if path in targets else b""
        return path, _Copy(found.detections, content, suffix, annotated if show else None, image)

    depth = Depth(detector.batch_size)
    with (
        closing(_found(detector, images, depth=depth)) as found,
        closing(in_order(draw, found, depth=depth)) as copies,
    ):
        yield from copies


def _found(
    detector: AnyDetector, images: Sequence[Path], *, depth: Depth
) -> Generator[tuple[Path, _Found | InputError], None, None]:
    """Yield each image with its detections, or the error if it cannot be read; the errors of a batch come first."""

    def read(path: Path) -> Image | InputError:
        try:
            image = (read_in_parts if detector.tiling else read_image)(path, detector.max_16bit)
            return depth.fit(image)  # type: ignore[arg-type]
        except InputError as error:
            return error

    with closing(in_order(read, images, depth=depth)) as readable:
        for start in range(0, len(images), detector.batch_size):
            batch: dict[Path, Image] = {}
            for path, image in zip(images[start : start + detector.batch_size], readable):
                if isinstance(image, InputError):
                    yield path, image
                else:
                    batch[path] = image
            for (path, image), detections in zip(batch.items(), detector(list(batch.values()))):
                yield path, _Found(image, detections)


_MOST_OF_JPEG = 65_500  # libjpeg's largest side in pixels


def _is_of_this_name(error: InputError) -> bool:
    """Return whether a file could not be written because of its name alone, so that other files can be."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)


def detect_video(
    detector: AnyDetector,
    video: Video,
    *,
    target: Path | None,
    outputs: Sequence[Output] = (),
    show: Show | None = None,
    font: Path | None = None,
    tracks: VideoTracks | None = None,
) -> Generator[Detections, None, None]:
    """Detect in a video and write an annotated copy.

    While the network looks at a batch of frames, threads read the next one, and draw and encode the one before.

    Args:
        detector, video: the detector, and the opened video.
        target: the file of the annotated copy, .mp4 or .webm; None: no copy.
        outputs, show, font: as for `detect_images`.
        tracks: follows the objects; the detector should then be `reporting_low_scores`.

    Yields:
        The detections in each frame, or only the tracked ones. The copy gets its name at the end, and holds the frames
        so far if the video ends early or the caller stops.

    Raises:
        InputError: if the copy cannot be written, up to a batch of frames later, or would replace the source.
        EndsEarlyError: if the video ends early.

    Example:
        >>> from yolo_lite.media.sources import open_video
        >>> from yolo_lite.predict.detector import Detector
        >>> with VideoWriter(Path("dim.mp4"), 10, hw=(48, 64)) as writer:
        ...     writer.write(np.zeros((48, 64, 3), np.uint8))
        >>> detector, video = Detector("yolo_lite-pico-voc5", device="cpu"), open_video(Path("dim.mp4"))
        >>> [len(found) for found in detect_video(detector, video, target=Path("dim_annotated.mp4"))]
        [0]
    """
    depth = Depth(detector.batch_size)
    with _writer(video, target) as writer, Behind(depth) as behind:
        annotate = partial(_annotate, writer, font=font, show=show is not None)
        for result in detector.stream(video, images=True):
            assert result.image is not None
            detections = tracks.update(result.detections, time=result.time) if tracks else result.detections
            overlay = tracks.overlay if tracks else None
            annotated = behind.call(partial(annotate, depth.fit(result.image), detections, overlay))
            if show and (image := annotated.result()) is not None:
                show(image)
            for output in outputs:
                output.write(Detected(video.path.name, result.image, detections, result.number))
            yield detections


def _writer(video: Video, target: Path | None) -> AbstractContextManager[VideoWriter | None]:
    """Return what writes the annotated copy of a video, if there will be one."""
    if target is None:
        return nullcontext()
    make_folder(target.parent)
    _Outputs([video.path], target.parent).check(target, "video")
    return VideoWriter(target, video.fps, hw=video.hw)


def _annotate(
    writer: VideoWriter | None,
    frame: Image,
    detections: Detections,
    overlay: Overlay | None,
    *,
    font: Path | None,
    show: bool,
) -> Image | None:
    """Append the annotated copy of a frame to a video, if there is one, and return it if it will be shown."""
    if writer is None and not show:
        return None
    if overlay is None:
        annotated = draw_detections(frame, detections, font=font)
    else:
        annotated = draw_tracks(frame, detections, overlay=overlay, font=font)
    if writer:
        writer.write(annotated)
    return annotated if show else None


def image_ids(images: Sequence[Path]) -> dict[Path, int]:
    """Return an id for each image in result rows: its file name if that is a number, or else the next free number.

    Example:
        >>> list(image_ids([Path("000007.jpg"), Path("cat.jpg"), Path("dog.jpg")]).values())
        [7, 1, 2]
    """
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
    """Return the path of the photograph of Grace Hopper that comes with matplotlib, and with yolo-lite-runtime.

    Raises:
        InputError: if the photograph is not installed.

    Example:
        >>> sample_image().name
        'grace_hopper.jpg'
    """
    package = importlib.util.find_spec("matplotlib")
    path = Path((package and package.origin) or "").parent / "mpl-data" / "sample_data" / "grace_hopper.jpg"
    path = shipped("weights", ".jpg").get(path.stem, path)
    if not path.is_file():
        raise InputError("matplotlib's sample photograph is not installed here; name an image with --source")
    return path


class _Outputs:
    """Choose a separate output file for each image, one that replaces neither a source nor a file beside a source."""

    def __init__(self, images: Sequence[Path], out: Path | None) -> None:
        self._out = out
        self.targets: dict[Path, Path] = {}  # by image, once chosen
        self._taken: set[str] = set()
        self._numbers: dict[tuple[str, str], int] = {}
        self._sources = {identity(path) for path in images}
        folders = {os.path.dirname(place(path)) for path in images for place in (os.path.abspath, os.path.realpath)}
        self._beside = out is not None and identity(out) in {identity(Path(folder)) for folder in folders}

    def store(self, path: Path, copy: _Copy) -> InputError | None:
        """Write the copy of an image, if it has one, or return the error if the folder cannot hold a file of its name."""
        if self._out is None or not copy.content:
            return None
        make_folder(self._out)
        if copy.suffix != self.targets[path].suffix:
            self.choose(path, copy.suffix)
        try:
            write_atomically(self.targets[path], lambda part: part.write_bytes(copy.content))
        except InputError as error:
            if not _is_of_this_name(error):
                raise
            return error
        return None

    def choose_all(self, images: Sequence[Path]) -> dict[Path, Path]:
        """Choose the output file of every image, if there is a folder; return them by image."""
        for path in images if self._out else ():
            self.choose(path)
        return self.targets

    def choose(self, path: Path, suffix: str = "") -> None:
        """Choose the output file of an image: PNG for PNG and JPEG for all others, unless a suffix is given."""
        suffix = suffix or (".png" if path.suffix.lower() == ".png" else ".jpg")
        assert self._out is not None
        name = self._free(path.stem, suffix)
        self.check(self._out / name, "image")
        self.targets[path] = self._out / name

    def check(self, target: Path, what: str) -> None:
        """Raise InputError if a file would replace a source, or a file beside one; earlier results may be replaced."""
        there = identity(target)
        if there and (self._beside or there in self._sources):
            raise InputError(f"the annotated {what} would replace {target}; choose another --out")

    def _free(self, stem: str, suffix: str) -> str:
        """Return the first free name of stem, stem-2, stem-3 ..., with upper and lower case taken as equal."""
        while True:
            number = self._numbers[stem, suffix] = self._numbers.get((stem, suffix), 0) + 1
            name = file_name(stem, (f"-{number}" if number > 1 else "") + suffix)
            key = unicodedata.normalize("NFC", name).casefold()
            if key not in self._taken:
                self._taken.add(key)
                return name
