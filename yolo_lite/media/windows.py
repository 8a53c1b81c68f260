"""Read parts of images that are too large for memory: TIFF files in strips or tiles.

Source: TIFF 6.0, sections 3 (strips), 14 (differencing predictor) and 15 (tiles); TIFF technical note 2 (Deflate).
"""

from __future__ import annotations

import math
import os
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from yolo_lite.errors import InputError, reason
from yolo_lite.media.images import MAX_16BIT, TooLargeError, read_image, to_rgb
from yolo_lite.media.tiff import read_tags
from yolo_lite.structures.geometry import Image
from yolo_lite.structures.resize import resize_by_area

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOURS, _ORIENTATION, _SAMPLES = 256, 257, 258, 259, 262, 274, 277
_STRIPS, _ROWS, _STRIP_BYTES, _PLANES, _PREDICTOR = 273, 278, 279, 284, 317
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _KIND_OF_SAMPLE = 322, 323, 324, 325, 339
_PLAIN, _DEFLATE = 1, (8, 32946)
_CACHE = 256_000_000  # bytes of decoded blocks that are kept; no block may be larger
_BAND = 64_000_000  # bytes of a band that is shrunk at once, or the rows that make one row
_PIECE = 4_000_000  # bytes of an uncompressed strip that are read at once
_MOST_SIDE = 1_000_000  # pixels

Tags = Mapping[int, tuple[int, ...]]


class _Blocks(NamedTuple):
    """Where the strips or tiles of a file are, row by row; all are of one size but the last strip."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]  # bytes in the file
    hw: tuple[int, int]
    across: int


class Windows:
    """An image file whose parts are read when they are asked for, by slices of rows and columns.

    Attributes:
        shape: height, width and 3.
        nbytes: bytes of the whole image in memory.

    Raises:
        InputError: if the file is not a TIFF with 8 bits a channel, grey or RGB, uncompressed or Deflate.

    Example:
        >>> from PIL import Image as PillowImage
        >>> PillowImage.open("photo.jpg").save("photo.tif")
        >>> part = Windows(Path("photo.tif"))[100:110, 50:90]
        >>> np.array_equal(part, read_image(Path("photo.tif"))[100:110, 50:90])
        True
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                tags = read_tags(file)
        except OSError as error:
            raise InputError(f"cannot read {path}: {reason(error)}") from error
        self._tags = _supported(tags, path)
        self._samples = _first(self._tags, _SAMPLES, 1)
        self.shape = (self._tags[_HEIGHT][0], self._tags[_WIDTH][0], 3)
        self.nbytes = math.prod(self.shape)
        self._blocks = _blocks(self._tags, self.shape[:2], path=path)
        self._cache: OrderedDict[int, Image] = OrderedDict()
        self._kept = 0  # bytes in it

    def __getitem__(self, index: tuple[slice, slice]) -> Image:
        """Return a part of the image, uint8 [H, W, 3] RGB, clipped to it."""
        (top, bottom, _), (left, right, _) = (each.indices(side) for each, side in zip(index, self.shape))
        height, width = self._blocks.hw
        result: Image = np.empty((max(0, bottom - top), max(0, right - left), 3), np.uint8)
        for row in range(top // height, -(-bottom // height)):
            for column in range(left // width, -(-right // width)):
                y, x = row * height, column * width
                block = self._block(row * self._blocks.across + column)
                ys, xs = slice(max(top, y), min(bottom, y + height)), slice(max(left, x), min(right, x + width))
                part = block[ys.start - y : ys.stop - y, xs.start - x : xs.stop - x]
                result[ys.start - top : ys.stop - top, xs.start - left : xs.stop - left] = part
        return result

    def reduced(self, most: int) -> Image:
        """Return the image, averaged by area so that its longer side has at most so many pixels, band by band.

        Example:
            >>> from PIL import Image as PillowImage
            >>> PillowImage.open("photo.jpg").save("photo.tif")
            >>> Windows(Path("photo.tif")).reduced(150).shape  # 600 x 512 pixels, by four
            (150, 128, 3)
        """
        height, width = self.shape[:2]
        factor = max(1, -(-max(height, width) // most))
        rows = factor * max(1, _BAND // (width * 3 * factor))
        columns = -(-width // factor)
        shrunk = []
        for top in range(0, height, rows):
            band = self[top : min(top + rows, height), 0:width]
            shrunk.append(resize_by_area(band, (-(-len(band) // factor), columns)))
        return np.concatenate(shrunk)

    def _block(self, number: int) -> Image:
        """Return a strip or tile, uint8 [H, W, 1 or 3], from the cache or the file."""
        if number in self._cache:
            self._cache.move_to_end(number)
            return self._cache[number]
        block = self._cache[number] = self._decoded(number)
        self._kept += block.nbytes
        while len(self._cache) > 1 and self._kept > _CACHE:
            self._kept -= self._cache.popitem(last=False)[1].nbytes
        return block

    def _decoded(self, number: int) -> Image:
        height, width = self._blocks.hw
        if _TILES not in self._tags:  # the last strip may be shorter
            height = min(height, self.shape[0] - number * height)
        size = height * width * self._samples
        try:
            with self.path.open("rb") as file:
                file.seek(self._blocks.offsets[number])
                content = file.read(self._blocks.sizes[number])
            if _first(self._tags, _COMPRESSION, _PLAIN) in _DEFLATE:
                content = zlib.decompressobj().decompress(content, size)
        except (OSError, zlib.error) as error:
            raise InputError(f"cannot read {self.path}: {reason(error)}") from error
        if len(content) < size:
            raise InputError(f"{self.path} is damaged or cut short and cannot be decoded (strip or tile {number + 1})")
        block = np.frombuffer(content, np.uint8, size).reshape(height, width, self._samples)
        if _first(self._tags, _PREDICTOR, 1) == 2:
            block = np.cumsum(block, axis=1, dtype=np.uint8)
        if self._samples < 3 and _first(self._tags, _COLOURS, 1) == 0:  # white is zero
            block = 255 - block
        return block[..., :3] if self._samples >= 3 else block[..., :1]


def read_in_parts(path: Path, max_16bit: int = MAX_16BIT) -> Image | Windows:
    """Read an image as `read_image` does, or open it for reading in parts if it is too large for that.

    Raises:
        InputError: as `read_image` does; for an image that is too large, also if its format cannot be read in parts.

    Example:
        >>> read_in_parts(Path("photo.jpg")).shape
        (600, 512, 3)
    """
    try:
        return read_image(path, max_16bit)
    except TooLargeError:
        return Windows(path)


def to_rgb_in_parts(image: Any, max_16bit: int = MAX_16BIT) -> Any:
    """Return an image of any accepted type as `to_rgb` does; a file that is too large is opened for reading in parts.

    Example:
        >>> to_rgb_in_parts("photo.jpg").shape
        (600, 512, 3)
    """
    if isinstance(image, Windows):
        return image
    return read_in_parts(Path(image), max_16bit) if isinstance(image, str | os.PathLike) else to_rgb(image, max_16bit)


def _supported(tags: Tags | None, path: Path) -> Tags:
    """Return the tags of a TIFF that can be read in parts."""
    fault = "it is not a TIFF file" if tags is None else next((words for words, is_so in _faults(tags) if is_so), None)
    if tags is None or fault:
        raise InputError(
            f"{path} is too large to be read as a whole, and cannot be read in parts: {fault}; parts are read of TIFF "
            "files with 8 bits a channel, grey or RGB, uncompressed or Deflate"
        )
    return tags


def _faults(tags: Tags) -> list[tuple[str, bool]]:
    samples, planes = _first(tags, _SAMPLES, 1), _first(tags, _PLANES, 1)
    sides = (_first(tags, _WIDTH, 0), _first(tags, _HEIGHT, 0))
    return [
        ("it has no size, or one that makes no sense", not all(0 < side <= _MOST_SIDE for side in sides)),
        (f"its compression has the number {_first(tags, _COMPRESSION, 1)}", not _is_known(tags)),
        ("it has not 8 bits a channel", set(tags.get(_BITS, (1,))) != {8} or _first(tags, _KIND_OF_SAMPLE, 1) != 1),
        ("its colours are neither grey nor RGB", _first(tags, _COLOURS, 1) not in ((0, 1) if samples < 3 else (2,))),
        ("its channels are stored one after another", planes != 1 and samples > 1),
        ("it is stored turned or mirrored", _first(tags, _ORIENTATION, 1) != 1),
        (f"its predictor has the number {_first(tags, _PREDICTOR, 1)}", _first(tags, _PREDICTOR, 1) not in (1, 2)),
    ]


def _is_known(tags: Tags) -> bool:
    return _first(tags, _COMPRESSION, _PLAIN) in (_PLAIN, *_DEFLATE)


def _first(tags: Tags, tag: int, otherwise: int) -> int:
    return tags.get(tag, (otherwise,))[0]


def _blocks(tags: Tags, hw: tuple[int, int], *, path: Path) -> _Blocks:
    """Return the blocks of a file; long uncompressed strips are divided."""
    if _TILES in tags:
        size = (_first(tags, _TILE_HEIGHT, 0), _first(tags, _TILE_WIDTH, 0))
        offsets, sizes = tags[_TILES], tags.get(_TILE_BYTES, ())
    else:
        size = (min(hw[0], _first(tags, _ROWS, hw[0])), hw[1])
        offsets, sizes = tags.get(_STRIPS, ()), tags.get(_STRIP_BYTES, ())
    across = -(-hw[1] // size[1]) if min(size) > 0 else 0
    if not across or min(len(offsets), len(sizes)) < across * -(-hw[0] // size[0]):
        raise InputError(f"{path} is damaged: its strips or tiles do not cover the image")
    samples = _first(tags, _SAMPLES, 1)
    if _TILES not in tags and _first(tags, _COMPRESSION, _PLAIN) == _PLAIN:
        return _divided(_Blocks(offsets, sizes, size, across), hw, row_bytes=hw[1] * samples)
    if math.prod(size) * samples > _CACHE:
        raise InputError(
            f"{path} cannot be read in parts: its strips or tiles have {math.prod(size):,} pixels; write it with smaller ones"
        )
    return _Blocks(offsets, sizes, size, across)


def _divided(strips: _Blocks, hw: tuple[int, int], *, row_bytes: int) -> _Blocks:
    """Return strips of fewer rows: of an uncompressed strip, any rows can be read by themselves."""
    longest = min(strips.hw[0], max(1, _PIECE // row_bytes))
    rows = next(rows for rows in range(longest, 0, -1) if strips.hw[0] % rows == 0)
    starts = range(0, hw[0], rows)
    offsets = tuple(strips.offsets[row // strips.hw[0]] + row % strips.hw[0] * row_bytes for row in starts)
    return _Blocks(offsets, (rows * row_bytes,) * len(starts), (rows, hw[1]), 1)
