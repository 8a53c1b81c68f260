"""Find the directory of a TIFF that describes the full image: camera raw files begin with a thumbnail.

Every image in a TIFF has a directory of tags. The directories form a chain, and each may list more of them (SubIFDs).
Source: TIFF 6.0, sections 2 and 8; TIFF technical note 1 (SubIFDs); BigTIFF; DNG 1.6 (NewSubfileType, raw data).
"""

from __future__ import annotations

import contextlib
import io
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two: BigTIFF
_KIND, _OLD_KIND, _WIDTH, _HEIGHT, _COLOURS, _ORIENTATION, _MORE = 254, 255, 256, 257, 262, 274, 330
_PAGE = 2  # the only bit of _KIND that a full image may set; the others mean reduced, mask or depth map
_OLD_REDUCED = 2
_RAW_COLOURS = (32803, 34892)  # sensor data: one colour per pixel (CFA), or all in the sensor's own colours (LinearRaw)
_CODES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # codes of `struct` for whole numbers, by TIFF type
_MOST_DIRECTORIES, _MOST_VALUES = 64, 64
_MOST_STRIPS = 4_000_000

_Tags = dict[int, tuple[int, ...]]


class CameraRawError(ValueError):
    """The full image is undeveloped sensor data, which only a raw converter can turn into an image."""


class FullImage(NamedTuple):
    """The full image of a file that begins with another image.

    Attributes:
        header: bytes that replace the same number of bytes at the start of the file, to make the full image the first.
        orientation: EXIF orientation of the full image.
    """

    header: bytes
    orientation: int


def find_full_image(file: BinaryIO) -> FullImage | None:
    """Find the full image of a TIFF; return None if it is the first image, as in nearly every file, or no TIFF.

    The full image is the first that is marked neither as reduced nor as a mask, or the largest if all are marked.

    Raises:
        CameraRawError: if the full image is data of a camera's sensor.

    Example:
        >>> find_full_image(io.BytesIO(b"not a TIFF")) is None
        True
    """
    layout = _layout(file)
    if layout is None:
        return None
    order, big, first = layout
    walk = _walk(file, order, big=big, first=first)
    directories = [next(walk, (0, {}))]
    start, tags = directories[0]
    is_canon_raw = start == 16 and _at(file, 8, 2) == b"CR"  # its directories look like those of any TIFF
    if _is_whole(tags) and _MORE not in tags and not is_canon_raw and not _is_raw(tags):
        return None  # without reading the directories of what may be thousands of pages
    directories += walk
    if is_canon_raw or any(_is_raw(other) for _, other in directories):
        raise CameraRawError
    whole = [directory for directory in directories if _is_whole(directory[1])]
    offset, chosen = whole[0] if whole else max(directories, key=lambda directory: _area(directory[1]))
    if offset == start:
        return None
    header = (
        _at(file, 0, 8) + struct.pack(order + "Q", offset)
        if big
        else _at(file, 0, 4) + struct.pack(order + "I", offset)
    )
    return FullImage(header, _first(chosen, _ORIENTATION, _first(tags, _ORIENTATION, 1)))


def read_tags(file: BinaryIO) -> dict[int, tuple[int, ...]] | None:
    """Return the whole numbers of the first directory by tag, with all places of strips; None if the file is no TIFF.

    Example:
        >>> from PIL import Image
        >>> Image.open("photo.jpg").save("photo.tif")
        >>> read_tags(open("photo.tif", "rb"))[_HEIGHT]
        (600,)
    """
    layout = _layout(file)
    if layout is None:
        return None
    order, big, first = layout
    try:
        return _directory(file, order, big=big, offset=first, most=_MOST_STRIPS)[0]
    except struct.error:  # cut short
        return None


def _layout(file: BinaryIO) -> tuple[str, bool, int] | None:
    """Return the byte order, whether the file is a BigTIFF, and the first directory's offset; None if it is no TIFF."""
    header = _at(file, 0, 16)
    if header[:4] not in SIGNATURES:
        return None
    order, big = "<" if header[:1] == b"I" else ">", b"+" in header[2:4]
    try:
        return order, big, struct.unpack_from(order + ("Q" if big else "I"), header, 8 if big else 4)[0]
    except struct.error:
        return None


def _walk(file: BinaryIO, order: str, *, big: bool, first: int) -> Iterator[tuple[int, _Tags]]:
    """Yield the directories with their offsets: each directory of the chain, followed by those that it lists."""
    waiting, seen = [first], {0}
    while waiting and len(seen) <= _MOST_DIRECTORIES:
        offset = waiting.pop(0)
        if offset in seen:
            continue
        seen.add(offset)
        with contextlib.suppress(struct.error):  # cut short, or beyond the end
            tags, following = _directory(file, order, big=big, offset=offset)
            yield offset, tags
            waiting = [*tags.get(_MORE, ()), following, *waiting]


def _directory(file: BinaryIO, order: str, *, big: bool, offset: int, most: int = _MOST_VALUES) -> tuple[_Tags, int]:
    """Read the whole numbers of a directory, and the offset of the next one in the chain."""
    count_code, entry_size, offset_code = ("Q", 20, "Q") if big else ("H", 12, "I")
    width = struct.calcsize("=" + count_code)
    (count,) = struct.unpack(order + count_code, _at(file, offset, width))
    entries = _at(file, offset + width, min(count, 0xFFFF) * entry_size)
    tags: _Tags = {}
    for start in range(0, len(entries), entry_size):
        tag, kind = struct.unpack_from(order + "HH", entries, start)
        (values,) = struct.unpack_from(order + offset_code, entries, start + 4)
        if kind not in _CODES or not 0 < values <= most:
            continue
        code = f"{order}{values}{_CODES[kind]}"
        inline = entries[start + entry_size - struct.calcsize("=" + offset_code) : start + entry_size]
        size = struct.calcsize(code)
        if size > len(inline):
            inline = _at(file, struct.unpack(order + offset_code, inline)[0], size)
        tags[tag] = struct.unpack_from(code, inline)
    end = _at(file, offset + width + count * entry_size, struct.calcsize("=" + offset_code))
    return tags, struct.unpack(order + offset_code, end)[0]


def _at(file: BinaryIO, offset: int, count: int) -> bytes:
    if offset > file.seek(0, io.SEEK_END):  # seeking beyond the end could be an error
        return b""
    file.seek(offset)
    return file.read(count)


def _first(tags: _Tags, tag: int, otherwise: int) -> int:
    return tags.get(tag, (otherwise,))[0]


def _is_whole(tags: _Tags) -> bool:
    """Return whether an image is marked neither as reduced nor as a mask of another."""
    if _KIND in tags:
        return not _first(tags, _KIND, 0) & ~_PAGE
    return _first(tags, _OLD_KIND, 0) != _OLD_REDUCED


def _is_raw(tags: _Tags) -> bool:
    return _first(tags, _COLOURS, 0) in _RAW_COLOURS


def _area(tags: _Tags) -> int:
    return _first(tags, _WIDTH, 0) * _first(tags, _HEIGHT, 0)
