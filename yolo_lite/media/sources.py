"""Find images and videos, and read the frames of a video."""

from __future__ import annotations

import contextlib
import glob
import math
import os
import struct
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from yolo_lite.errors import InputError, counted, reason
from yolo_lite.media.ahead import Depth, read_ahead
from yolo_lite.media.folders import VIDEO_SUFFIXES, is_apple_double, left_out, listed, sort_out, walk
from yolo_lite.media.images import IMAGE_SUFFIXES, RAW_SUFFIXES, count_frames, is_image
from yolo_lite.media.opencv import for_opencv, quiet_cv2
from yolo_lite.structures.geometry import Image

Item = TypeVar("Item")

_USUAL_FPS = 25.0


@dataclass(frozen=True)
class Video:
    """A video file that could be opened.

    Attributes:
        fps: frames a second; 25 if the file does not specify it.
        hw: height and width of the upright frames.
        frames: number of visible frames according to the file; 0 if the file does not specify it.
    """

    path: Path
    fps: float
    hw: tuple[int, int]
    frames: int


def find_source(source: str, *, say: Callable[[str], object] = lambda line: None) -> list[Path] | Video:
    """Return the sorted images of a file, folder (without its subfolders) or pattern, or else the video.

    A file with an unknown suffix is recognised by its content. An animated GIF passed by itself is a video; in a
    folder it counts as an image, its first frame.

    Args:
        source: a path, or a pattern with *, ? or [.
        say: called with a line about the files of a folder that are left out, if there are any.

    Raises:
        InputError: if no image or video is there; the message lists the suffixes that were looked for.

    Example:
        >>> find_source("photo.jp*") == [Path("photo.jpg")]
        True
        >>> len(find_source("my_images/images"))
        9
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
    """Raise InputError for a file with an unknown suffix that is not an image; an empty file is reported when read."""
    known = path.suffix.lower() in (*IMAGE_SUFFIXES, *RAW_SUFFIXES)
    if not known and path.is_file() and os.access(path, os.R_OK) and path.stat().st_size and not is_image(path):
        raise InputError(
            f"{path} is neither an image nor a video that can be read; looked for {', '.join(IMAGE_SUFFIXES)} and others "
            f"that Pillow reads, and for {', '.join(VIDEO_SUFFIXES)}"
        )


def is_video(path: Path) -> bool:
    """Return whether a file is a video, judged by its suffix, or by its first bytes if the suffix is unknown.

    Example:
        >>> is_video(Path("holiday.mp4")), is_video(Path("photo.jpg"))
        (True, False)
    """
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
    """Return the images that match; an image that links make match twice is returned once."""
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
    """Return what a recursive `glob` returns, but visit no folder twice: glob follows circular links without end."""
    if pattern == "**" or pattern.endswith("/**"):
        pattern += "/*"
    above, stars, below = pattern.partition("**/")
    if not stars or (above and not above.endswith("/")):
        return glob.glob(pattern)
    tops = [Path(name) for name in glob.glob(above)] if above else [Path()]
    folders = [folder for top in tops if top.is_dir() for folder in (top, *walk(top)[1])]
    return [name for folder in folders for name in _matches(os.path.join(glob.escape(str(folder)), below))]


_LOOKED_FOR = f"looked for {', '.join(IMAGE_SUFFIXES)} and others that Pillow reads (a video must be given by itself)"


def find_sources(sources: Sequence[str], *, say: Callable[[str], object] = lambda line: None) -> list[Path] | Video:
    """Return the images of several files, folders and patterns, each once and in the order given, or the only video.

    When a shell expands a pattern, its list may contain folders without images, broken links and other files. They
    are returned like images, so that each of them is reported when it cannot be read. An animation among other
    sources counts as an image, its first frame.

    Args:
        sources: each as for `find_source`.
        say: as for `find_source`.

    Raises:
        InputError: if a file does not exist, or a video is not the only source.

    Example:
        >>> find_sources(["photo.jpg", "my_images/images/0001.png", "photo.jpg"]) == [
        ...     Path("photo.jpg"), Path("my_images/images/0001.png")
        ... ]
        True
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
                f"{source} is a video, which must be the only source; pass it alone, or leave it out of --source"
            )
        for image in files:
            images.setdefault(os.path.abspath(image), image)
    return list(images.values())


def relative_names(files: Sequence[Path]) -> dict[Path, str]:
    """Return each file's path, with forward slashes, relative to the deepest folder that contains all of them.

    Example:
        >>> list(relative_names([Path("set/a/1.jpg"), Path("set/b/1.jpg")]).values())
        ['a/1.jpg', 'b/1.jpg']
    """
    whole = [os.path.abspath(file) for file in files]
    try:
        root = os.path.commonpath([os.path.dirname(path) for path in whole])
        return {file: Path(os.path.relpath(path, root)).as_posix() for file, path in zip(files, whole)}
    except ValueError:  # no files, or files on two drives
        return {file: file.as_posix() for file in files}


def open_video(path: Path) -> Video:
    """Read the header and the first frame of a video.

    Raises:
        InputError: if the file is missing, or cannot be read as a video.

    Example:
        >>> from yolo_lite.media.writers import VideoWriter
        >>> with VideoWriter(Path("grey.mp4"), 10, hw=(48, 64)) as writer:
        ...     writer.write(np.full((48, 64, 3), 128, np.uint8))
        >>> open_video(Path("grey.mp4")).hw
        (48, 64)
    """
    capture = _capture(path)
    cv2 = quiet_cv2()
    try:
        fps = capture.get(cv2.CAP_PROP_FPS)
        opened, frame = capture.read()
        if not opened:
            raise InputError(f"{path} has no frame that can be decoded")
        frames = int(max(0, capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        hidden = int(frames * (1 - _visible_fraction(path)))
        frames -= hidden if hidden > 1 else 0  # one frame may be due to rounding in the edit list
        good = math.isfinite(fps) and 0 < fps <= 1000
        return Video(path, fps if good else _USUAL_FPS, hw=(frame.shape[0], frame.shape[1]), frames=frames)
    finally:
        capture.release()


def read_frames(video: Video) -> Iterator[Image]:
    """Yield the frames of a video one by one as uint8 [H, W, 3] RGB, with never more than one in memory.

    Raises:
        EndsEarlyError: after the last frame, if the file is clearly incomplete. Both the number of frames and the time
            of the last one must then fall short of the header: at a varying frame rate, the number alone can be wrong.

    Example:
        >>> from yolo_lite.media.writers import VideoWriter
        >>> with VideoWriter(Path("three.mp4"), 10, hw=(48, 64)) as writer:
        ...     for level in (0, 100, 200):
        ...         writer.write(np.full((48, 64, 3), level, np.uint8))
        >>> len(list(read_frames(open_video(Path("three.mp4")))))
        3
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
    margin = max(2, video.frames // 50)  # headers count a frame or two that decoders never return
    length = seconds * count / max(1, count - 1)  # seconds from the first frame to the end of the last one
    if max(count, length * video.fps) < video.frames - margin:
        raise EndsEarlyError(
            f"{video.path} ends early: {count} of {counted(video.frames, 'frame')} could be read; is the file complete?"
        )


class EndsEarlyError(InputError):
    """A video has fewer frames than its header states; all that it has were read."""


def batches(frames: Iterator[Image], size: int) -> Iterator[list[Image]]:
    """Yield lists of `size` frames; the last list may be shorter, and comes before the error of an incomplete video.

    A thread reads the frames of the next list ahead, as far as `Depth` allows.

    Example:
        >>> frame = np.zeros((1, 1, 3), np.uint8)
        >>> [len(batch) for batch in batches(iter([frame] * 5), 2)]
        [2, 2, 1]
    """
    with contextlib.closing(read_ahead(frames, depth=Depth(size))) as ahead:
        yield from in_lists(ahead, size)


def in_lists(items: Iterator[Item], size: int) -> Generator[list[Item], None, None]:
    """Yield lists of `size` items; the last may be shorter, and comes before an InputError of `items`.

    Example:
        >>> list(in_lists(iter("abcde"), 2))
        [['a', 'b'], ['c', 'd'], ['e']]
    """
    gathered: list[Item] = []
    try:
        for item in items:
            gathered.append(item)
            if len(gathered) == size:
                yield gathered
                gathered = []
    except InputError:
        if gathered:
            yield gathered
        raise
    if gathered:
        yield gathered


def _visible_fraction(path: Path) -> float:
    """Return the fraction of a video track that an MP4 or QuickTime file shows, 0 to 1; 1 for all other files.

    A video that is trimmed without re-encoding keeps whole groups of frames. An edit list hides the frames before the
    cut: decoders skip them, but the header still counts them.

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
                return _edited_fraction(
                    file,
                    edits[b"elst"][0][0],
                    length=length,
                    scale=scale,
                    movie_scale=_duration(file, movie[b"mvhd"][0][0])[1],
                )
    return 1.0


def _boxes(file: BinaryIO, place: tuple[int, int], wanted: Sequence[bytes]) -> dict[bytes, list[tuple[int, int]]]:
    """Return, by kind, where the contents of the wanted boxes begin and end, among the boxes at the top of a range."""
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
    """Return the duration, and the ticks per second, from the header of a movie or a track."""
    file.seek(start)
    long = file.read(4)[:1] == b"\1"
    file.seek(16 if long else 8, os.SEEK_CUR)
    scale, length = struct.unpack(">IQ" if long else ">II", file.read(12 if long else 8))
    return length, scale


def _edited_fraction(file: BinaryIO, start: int, *, length: int, scale: int, movie_scale: int) -> float:
    """Return the fraction of a track of `length` ticks that the edit list at `start` shows."""
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
    if path.is_file():  # OpenCV does not report why it cannot open a file
        try:
            path.open("rb").close()
        except OSError as error:
            raise InputError(f"cannot read {path}: {reason(error)}") from error
    capture = cv2.VideoCapture(for_opencv(path))
    if not capture.isOpened():
        capture.release()
        raise InputError(
            f"{path} cannot be read as a video: it is damaged, cut short, or needs a codec that OpenCV lacks"
        )
    return capture
