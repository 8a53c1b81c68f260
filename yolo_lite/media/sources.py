"""Find images and videos, and read the frames of videos."""

from __future__ import annotations

import contextlib
import glob
import math
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from yolo_lite.errors import InputError, counted, reason
from yolo_lite.media.folders import VIDEO_SUFFIXES, is_apple_double, left_out, listed, sort_out, walk
from yolo_lite.media.images import IMAGE_SUFFIXES, RAW_SUFFIXES, count_frames, is_image
from yolo_lite.media.opencv import for_opencv, quiet_cv2
from yolo_lite.structures.geometry import Image

_USUAL_FPS = 25.0


@dataclass(frozen=True)
class Video:
    """A video file that could be opened.

    Attributes:
        fps: frames a second; 25 where the file does not say.
        hw: height and width of the upright frames.
        frames: how many there are to see, as the file says; 0 where it does not.
    """

    path: Path
    fps: float
    hw: tuple[int, int]
    frames: int


def find_source(source: str, *, say: Callable[[str], object] = lambda line: None) -> list[Path] | Video:
    """Return the images that a file, folder (not its subfolders) or pattern means, sorted; or the video.

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
    raise InputError(f"{source} does not exist; --source takes an image, folder, pattern or video")


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
    if head[4:8] == b"ftyp":  # MP4, MOV, 3GP; also HEIC, which is an image
        return head[8:12] not in _IMAGE_BRANDS
    packets = len(head) > 376 and (head[0] == head[188] == 0x47 or head[4] == head[196] == 0x47)  # TS, M2TS
    return head.startswith(_VIDEO_HEADS) or (head[:4] == b"RIFF" and head[8:12] == b"AVI ") or packets


_IMAGE_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis", b"crx ")
_VIDEO_HEADS = (b"\x1a\x45\xdf\xa3", b"FLV", b"OggS", b"\x30\x26\xb2\x75", b"\0\0\1\xba", b"\0\0\1\xb3")  # Matroska ...


def _of_folder(folder: Path, say: Callable[[str], object]) -> list[Path]:
    entries = listed(folder)
    folders = {path: path.is_dir() for path in entries}
    images, others = sort_out(path for path in entries if not folders[path])
    notes = left_out(folder, others, folders=[path for path in entries if folders[path]])
    if not images:
        raise InputError("; ".join([f"no images in the folder {folder}; {_LOOKED_FOR}", *notes]))
    for note in notes:
        say(note)
    return images


def _of_pattern(pattern: str, say: Callable[[str], object]) -> list[Path]:
    """Return the images that match; one that is reached twice, over a link that leads back up, is taken once."""
    files: dict[tuple[str, str], Path] = {}
    for path in sorted(map(Path, _matches(pattern)), key=lambda path: (len(path.parts), path)):
        if path.is_file() and not is_apple_double(path.name):
            files.setdefault((os.path.realpath(path.parent), path.name), path)
    images, others = sort_out(sorted(files.values()))
    notes = left_out(f"what matches {pattern}", others)
    if not images:
        raise InputError("; ".join([f"no images match {pattern}; {_LOOKED_FOR}", *notes]))
    for note in notes:
        say(note)
    return images


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


def find_sources(sources: Sequence[str], *, say: Callable[[str], object] = lambda line: None) -> list[Path] | Video:
    """Return the images that several files, folders and patterns mean, each once, in the order given; or the one video.

    A shell that expands a pattern also names folders without images, links that lead nowhere and other files. These
    are returned as they are, so that each is reported where it cannot be read. Of an animation among others, the first
    frame is taken.

    Args:
        sources: each as for `find_source`.
        say: as for `find_source`.

    Raises:
        InputError: where a file does not exist, or a video is among others.
    """
    if len(sources) == 1:
        return find_source(sources[0], say=say)
    images: dict[str, Path] = {}
    for source in sources:
        try:
            files = find_source(source, say=say)
        except InputError:
            if not os.path.lexists(source):
                raise
            files = [Path(source)]
        if isinstance(files, Video) and is_image(files.path):
            files = [files.path]
        if isinstance(files, Video):
            raise InputError(
                f"{source} is a video, and a video is taken alone; leave it out of --source, or all others"
            )
        for image in files:
            images.setdefault(os.path.abspath(image), image)
    return list(images.values())


def relative_names(files: Sequence[Path]) -> dict[Path, str]:
    """Return each file's path from the deepest folder that holds them all, with slashes: alone in it, its name."""
    whole = [os.path.abspath(file) for file in files]
    try:
        root = os.path.commonpath([os.path.dirname(path) for path in whole])
        return {file: Path(os.path.relpath(path, root)).as_posix() for file, path in zip(files, whole)}
    except ValueError:  # no files, or files on two drives
        return {file: file.as_posix() for file in files}


def open_video(path: Path) -> Video:
    """Read a video's header; raise InputError where it is no video."""
    capture = _capture(path)
    cv2 = quiet_cv2()
    try:
        fps = capture.get(cv2.CAP_PROP_FPS)
        opened, frame = capture.read()
        if not opened:
            raise InputError(f"{path} has no frame that can be decoded")
        frames = int(max(0, capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        hidden = int(frames * (1 - _visible_share(path)))
        frames -= hidden if hidden > 1 else 0  # edit lists are rounded too
        good = math.isfinite(fps) and 0 < fps <= 1000
        return Video(path, fps if good else _USUAL_FPS, hw=(frame.shape[0], frame.shape[1]), frames=frames)
    finally:
        capture.release()


def read_frames(video: Video) -> Iterator[Image]:
    """Decode one frame after another, uint8 [H, W, 3] RGB; never more than one is held.

    Raises:
        EndsEarlyError: at the end, if clearly fewer frames came than the file says it has, and the last is not of the
            time at which the file says it ends: a varying rate makes files without an index count too many.
    """
    capture = _capture(video.path)
    cv2 = quiet_cv2()
    count, seconds = 0, 0.0
    try:
        while True:
            good, frame = capture.read()
            if not good:
                break
            count += 1
            seconds = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        capture.release()
    margin = max(2, video.frames // 50)  # headers count a frame or two that decoders never give
    length = seconds * count / max(1, count - 1)  # from the first frame to the end of the last
    if max(count, length * video.fps) < video.frames - margin:
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


def _visible_share(path: Path) -> float:
    """Return the part of a video track, 0 to 1, that an MP4 or QuickTime file lets be seen; 1 for all other files.

    Trimming without encoding anew keeps whole groups of frames and hides those before the cut by an edit list, which
    decoders obey, while the number of frames in the header counts them.

    Source: ISO/IEC 14496-12, 8.6.6 (edit list box).
    """
    with path.open("rb") as file, contextlib.suppress(struct.error, ValueError, OSError):
        size = os.fstat(file.fileno()).st_size
        moov = _boxes(file, (0, size), (b"moov",))
        movie = _boxes(file, moov[b"moov"][0], (b"mvhd", b"trak")) if moov else {}
        for track in movie.get(b"trak", ()):
            parts = _boxes(file, track, (b"mdia", b"edts"))
            media = _boxes(file, parts[b"mdia"][0], (b"mdhd", b"hdlr"))
            start, _ = media[b"hdlr"][0]
            file.seek(start + 8)
            if file.read(4) == b"vide" and b"edts" in parts:
                edits = _boxes(file, parts[b"edts"][0], (b"elst",))
                length, scale = _duration(file, media[b"mdhd"][0][0])
                return _shown(
                    file,
                    edits[b"elst"][0][0],
                    length=length,
                    scale=scale,
                    movie_scale=_duration(file, movie[b"mvhd"][0][0])[1],
                )
    return 1.0


def _boxes(file: BinaryIO, place: tuple[int, int], wanted: Sequence[bytes]) -> dict[bytes, list[tuple[int, int]]]:
    """Return where the contents of the wanted boxes begin and end, by kind, of those that lie side by side in a range."""
    start, end = place
    places: dict[bytes, list[tuple[int, int]]] = {}
    while start + 8 <= end:
        file.seek(start)
        size, kind, head = *struct.unpack(">I4s", file.read(8)), 8
        if size == 1:
            size, head = struct.unpack(">Q", file.read(8))[0], 16
        size = size or end - start
        if size < head:
            break
        if kind in wanted:
            places.setdefault(kind, []).append((start + head, min(start + size, end)))
        start += size
    return places


def _duration(file: BinaryIO, start: int) -> tuple[int, int]:
    """Return duration and ticks a second of a movie's or a track's header."""
    file.seek(start)
    long = file.read(4)[:1] == b"\1"
    file.seek(16 if long else 8, os.SEEK_CUR)
    scale, length = struct.unpack(">IQ" if long else ">II", file.read(12 if long else 8))
    return length, scale


def _shown(file: BinaryIO, start: int, *, length: int, scale: int, movie_scale: int) -> float:
    """Return the share of a track of `length` ticks that the edit list at `start` shows."""
    file.seek(start)
    version, count = struct.unpack(">B3xI", file.read(8))
    shown = 0.0
    for _ in range(min(count, _MOST_EDITS)):
        duration, first, _ = struct.unpack(">QqI" if version else ">IiI", file.read(20 if version else 12))
        if first >= 0:  # -1 is a pause
            shown += duration * scale / movie_scale if duration and movie_scale else length - first
    return min(1.0, shown / length) if length and shown else 1.0


_MOST_EDITS = 1000


def _capture(path: Path) -> Any:
    cv2 = quiet_cv2()
    if not path.exists():
        raise InputError(f"{path} does not exist")
    if path.is_file() and path.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes)")
    if path.is_file():  # OpenCV does not say why it cannot open one
        try:
            path.open("rb").close()
        except OSError as error:
            raise InputError(f"cannot read {path}: {reason(error)}") from error
    capture = cv2.VideoCapture(for_opencv(path))
    if not capture.isOpened():
        capture.release()
        raise InputError(f"{path} cannot be read as a video: damaged, cut short, or a codec that OpenCV lacks")
    return capture
