"""The frames of files and of standard input, one by one."""

from __future__ import annotations

import sys
import tarfile
from collections.abc import Callable, Iterator
from io import BufferedReader
from typing import IO, Any, cast

from yolo_lite.errors import InputError
from yolo_lite.media.images import IMAGE_SUFFIXES, decode_image, read_image
from yolo_lite.media.sources import read_frames
from yolo_lite.stream.addresses import ImageFiles, StandardInput, VideoFile
from yolo_lite.stream.clock import Clock
from yolo_lite.structures.frames import Frame

LARGEST = 256_000_000  # bytes of an image file in standard input
_CHUNK = 2**16
_FPS = 25.0  # of JPEG files one after another, which carry no times; FFmpeg assumes as many


def file_frames(
    address: VideoFile | ImageFiles | StandardInput,
    *,
    max_16bit: int,
    clock: Clock,
    say: Callable[[str], object] = lambda line: None,
) -> Iterator[Frame]:
    """Yield every frame of a source that ends. Images that cannot be read are left out.

    Args:
        address: the source.
        max_16bit: as for `read_image`.
        clock: the time at which frames are read.
        say: called with the reason for each image that cannot be read.

    Raises:
        InputError: if there is none that can be read; after the last frame, if a video ends early.

    Example:
        >>> photo = ImageFiles((Path("photo.jpg"),), "photo.jpg")
        >>> [frame.source for frame in file_frames(photo, max_16bit=65535, clock=Clock())]
        ['photo.jpg']
    """
    if isinstance(address, VideoFile):
        for number, image in enumerate(read_frames(address.video)):
            yield Frame(address.name, number, number / address.video.fps, clock.wall(), image=image)
        return
    count = 0
    for name, number, content in _files(address):
        try:
            image = read_image(name, max_16bit) if content is None else decode_image(content, name, max_16bit=max_16bit)
        except InputError as error:
            if isinstance(address, ImageFiles) and len(address.images) == 1:
                raise
            say(f"skipped: {error}")
            continue
        count += 1
        still = name != address.name or isinstance(address, ImageFiles)
        yield Frame(str(name), number, number / _FPS, clock.wall(), image=image, still=still)
    if not count:
        raise InputError(f"{address.name} has no image that can be read; expected image files")


def _files(address: ImageFiles | StandardInput) -> Iterator[tuple[Any, int, bytes | None]]:
    """Yield the name, the number and the content of each image; no content: it is in the file of this name."""
    if isinstance(address, ImageFiles):
        yield from ((path, 0, None) for path in address.images)
        return
    stream = cast(BufferedReader, sys.stdin.buffer)
    head = stream.peek(_TAR_MARK.stop)
    if head[:2] == b"\xff\xd8":
        yield from ((address.name, number, content) for number, content in enumerate(jpeg_files(stream)))
    elif head[_TAR_MARK] == b"ustar" or head[:2] == b"\x1f\x8b":
        yield from ((name, 0, content) for name, content in tar_files(stream))
    elif not head:
        raise InputError("standard input is empty; expected a tar archive of images, or JPEG files one after another")
    else:
        raise InputError("standard input is neither a tar archive of images nor JPEG files one after another")


_TAR_MARK = slice(257, 262)


def tar_files(stream: IO[bytes]) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each image in a tar archive, plain or compressed, that is read once from the front.

    Raises:
        InputError: if the archive is damaged or ends early, or an image is too large.

    Example:
        >>> from io import BytesIO
        >>> archive = BytesIO()
        >>> with tarfile.open(fileobj=archive, mode="w") as tar:
        ...     tar.add("photo.jpg")
        >>> [name for name, _ in tar_files(BytesIO(archive.getvalue()))]
        ['photo.jpg']
    """
    try:
        with tarfile.open(fileobj=stream, mode="r|*") as archive:
            for member in archive:
                if not member.isfile() or not member.name.lower().endswith(IMAGE_SUFFIXES):
                    continue
                if member.size > LARGEST:
                    raise InputError(f"{member.name} in the archive has {member.size:,} bytes; at most {LARGEST:,} fit")
                file = archive.extractfile(member)
                yield member.name, file.read() if file else b""
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(f"the tar archive in standard input cannot be read to its end: {error}") from error


def jpeg_files(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield JPEG files that follow one another without gaps.

    A file is divided by its markers, so that a thumbnail inside it does not end it.

    Raises:
        InputError: if something else is between the files, or the last one is incomplete.

    Source: ITU-T T.81, annex B.

    Example:
        >>> from io import BytesIO
        >>> photo = Path("photo.jpg").read_bytes()
        >>> [len(content) == len(photo) for content in jpeg_files(BytesIO(photo * 2))]
        [True, True]
    """
    source = _Bytes(stream)
    number = 0
    while source.has(1):
        start = source.at
        if source.take(2) != b"\xff\xd8":
            raise InputError(f"standard input: something else follows {number} JPEG files; expected the next JPEG file")
        while (marker := source.marker()) != 0xD9:
            if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # these have no content
                continue
            source.skip_segment()
            if marker == 0xDA:
                source.skip_scan()
        yield source.cut(start)
        number += 1


class _Bytes:
    """Bytes of a stream, read as far as they are needed; those of the current file stay."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._held, self.at = stream, bytearray(), 0

    def has(self, count: int) -> bool:
        """Return whether so many bytes are left."""
        while len(self._held) - self.at < count:
            more = self._stream.read1(_CHUNK) if isinstance(self._stream, BufferedReader) else self._stream.read(_CHUNK)
            if not more:
                return False
            self._held += more
            if len(self._held) > LARGEST + _CHUNK:
                raise InputError(f"standard input: a JPEG file has more than {LARGEST:,} bytes")
        return True

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        if not self.has(count):
            raise InputError("standard input ends within a JPEG file; is the program that writes it complete?")
        self.at += count
        return bytes(self._held[self.at - count : self.at])

    def marker(self) -> int:
        """Return the second byte of the next marker."""
        if self.take(1) != b"\xff":
            raise InputError("standard input has a damaged JPEG file, with no marker where one must be")
        while (byte := self.take(1)[0]) == 0xFF:  # fill bytes
            pass
        return byte

    def skip_segment(self) -> None:
        """Move behind the content of a marker, which begins with its length."""
        self.take(max(0, int.from_bytes(self.take(2), "big") - 2))

    def skip_scan(self) -> None:
        """Move to the next marker behind coded data."""
        while True:
            at = self._held.find(b"\xff", self.at)
            self.at = len(self._held) if at < 0 else at
            if not self.has(2):
                raise InputError("standard input ends within a JPEG file; is the program that writes it complete?")
            if self._held[self.at] != 0xFF:
                continue
            if self._held[self.at + 1] not in (0x00, *range(0xD0, 0xD8)):
                return
            self.at += 2

    def cut(self, start: int) -> bytes:
        """Return the bytes from `start` to here, and forget them."""
        content = bytes(self._held[start : self.at])
        del self._held[: self.at]
        self.at = 0
        return content
