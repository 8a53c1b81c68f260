"""Resize images with NumPy, to the very bytes of OpenCV: by area to shrink them, bilinearly to enlarge them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

_Image = npt.NDArray[np.uint8]
_Places = npt.NDArray[np.intp]
_Weights = npt.NDArray[np.float32]
_ROWS = 32  # rows that are resized along x at a time: they stay in the CPU's cache
_VALUES = 40_000  # of narrow images, more rows at a time: as many values
_NEGLIGIBLE = 1e-3  # of a pixel: OpenCV leaves out a part that covers less
_MOST_IN_UINT32 = 2**32 // 255  # pixels whose sum fits in 32 bits
_UNIT = 2048  # 1 in OpenCV's bilinear weights, which have 11 fractional bits


def resize_by_area(image: _Image, hw: tuple[int, int]) -> _Image:
    """Average the pixels that each new pixel covers, as OpenCV's INTER_AREA does; no side may grow.

    Args:
        image: uint8 [H, W, 3].
        hw: new height and width.

    Returns:
        uint8 [height, width, 3]. Weights and sums are float32, along x first; halves are rounded to the even number.

    Example:
        >>> row = np.array([[[0] * 3, [90] * 3, [30] * 3]], np.uint8)
        >>> resize_by_area(row, (1, 2))[..., 0].tolist()  # (0 + 90 / 2) / 1.5 and (90 / 2 + 30) / 1.5
        [[30, 50]]
    """
    if image.shape[0] % hw[0] == 0 and image.shape[1] % hw[1] == 0:
        return _mean_of_blocks(image, hw)
    narrow = _narrowed(image, hw[1])
    result = np.zeros((hw[0], hw[1] * 3), np.float32)
    for rows, weights in _area_taps(image.shape[0], hw[0]):
        for start in range(0, hw[0], _ROWS):
            block = slice(start, start + _ROWS)
            result[block] += narrow[rows[block]] * weights[block, None]
    return np.rint(result, out=result).astype(np.uint8).reshape(*hw, 3)


def _narrowed(image: _Image, width: int) -> npt.NDArray[np.float32]:
    """Average the pixels of an image along x alone: [H, width * 3]."""
    flat = image.reshape(len(image), -1)
    result = np.zeros((len(image), width * 3), np.float32)
    taps: Iterable[tuple[_Places, _Weights]] = (
        (_for_each_channel(columns), weights.repeat(3)) for columns, weights in _area_taps(image.shape[1], width)
    )
    lines = max(_ROWS, _VALUES // (width * 3))
    if len(image) > lines:
        taps = list(taps)
    for start in range(0, len(image), lines):
        part, total = flat[start : start + lines], result[start : start + lines]
        for places, weights in taps:
            total += part.take(places, axis=1) * weights
    return result


def _area_taps(old: int, new: int) -> Iterator[tuple[_Places, _Weights]]:
    """Yield old pixels that the new pixels cover, from left to right, and what fraction of them they are: [new] each.

    A new pixel covers a part of an old one, some whole ones, and a part of another. Where there is none, its weight is 0.
    """
    scale = 1 / (new / old)  # rounded as in OpenCV
    start = np.arange(new) * scale
    width = np.minimum(scale, old - start)
    end = np.minimum(np.floor(start + scale), old - 1)  # of the whole pixels
    begin = np.minimum(np.ceil(start), end)
    before, after = begin - start, np.minimum(start + scale - end, np.minimum(1, width))
    before[before <= _NEGLIGIBLE] = after[after <= _NEGLIGIBLE] = 0
    yield np.maximum(begin - 1, 0).astype(np.intp), (before / width).astype(np.float32)
    for number in range(int((end - begin).max()) + 1):
        places = begin + number
        covered = np.where(places < end, 1, np.where(places == end, after, 0))
        yield np.minimum(places, end).astype(np.intp), (covered / width).astype(np.float32)


def _mean_of_blocks(image: _Image, hw: tuple[int, int]) -> _Image:
    """Average blocks of whole pixels; halves are rounded to the even number, but up in blocks of 2 x 2."""
    high, wide = image.shape[0] // hw[0], image.shape[1] // hw[1]
    kind = np.uint32 if high * wide < _MOST_IN_UINT32 else np.uint64
    lines = image.reshape(hw[0], high, -1)  # [height, lines of a block, W * 3]
    columns = _for_each_channel(np.arange(0, image.shape[1], wide))
    sums = np.zeros((hw[0], hw[1] * 3), kind)
    for start in range(0, hw[0], _ROWS):
        block = slice(start, start + _ROWS)
        total = lines[block].sum(1, dtype=kind)
        for column in range(wide):
            sums[block] += total.take(columns + 3 * column, axis=1)
    if high == wide == 2:
        means = (sums + 2) >> 2
    else:
        means = np.rint(sums.astype(np.float32) * np.float32(1 / (high * wide)))
    return means.astype(np.uint8).reshape(*hw, 3)


def resize_bilinearly(image: _Image, hw: tuple[int, int]) -> _Image:
    """Interpolate between the four nearest pixels, as OpenCV's INTER_LINEAR does.

    Args:
        image: uint8 [H, W, 3].
        hw: new height and width.

    Returns:
        uint8 [height, width, 3]. Weights have 11 fractional bits; sums are cut by 4 bits along x, products by 16 along y.

    Example:
        >>> resize_bilinearly(np.array([[[0] * 3, [80] * 3]], np.uint8), (1, 4))[..., 0].tolist()
        [[0, 20, 60, 80]]
    """
    columns, column_weights = _bilinear_taps(image.shape[1], hw[1])
    rows, row_weights = _bilinear_taps(image.shape[0], hw[0])
    columns, column_weights = _for_each_channel(columns), column_weights.repeat(3, axis=1)
    flat = image.reshape(len(image), -1)
    wide = flat.take(columns[0], axis=1) * column_weights[0]
    wide += flat.take(columns[1], axis=1) * column_weights[1]
    wide >>= 4
    result = np.empty((hw[0], hw[1] * 3), np.uint8)
    for start in range(0, hw[0], _ROWS):
        block = slice(start, start + _ROWS)
        upper, lower = (wide[rows[i][block]] * row_weights[i][block, None] >> 16 for i in (0, 1))
        result[block] = (upper + lower + 2) >> 2
    return result.reshape(*hw, 3)


def _bilinear_taps(old: int, new: int) -> tuple[_Places, npt.NDArray[np.int32]]:
    """Return the two old pixels around the centre of each new one, and their weights in 1 / 2048: arrays [2, new].

    Outside of the centres of the first and the last old pixel, both are that pixel.
    """
    centres = ((np.arange(new) + 0.5) * (1 / (new / old)) - 0.5).astype(np.float32)
    before = np.floor(centres)
    weights = np.rint(np.stack([1 - (centres - before), centres - before]) * np.float32(_UNIT))
    places = np.stack([before, before + 1]).clip(0, old - 1)
    return places.astype(np.intp), weights.astype(np.int32)


def _for_each_channel(columns: _Places) -> _Places:
    """Return the places of pixels [..., W] as places of their channels [..., W * 3]."""
    return columns.repeat(3, axis=-1) * 3 + np.tile(np.arange(3), columns.shape[-1])


def to_grey(image: _Image) -> _Image:
    """Return the brightness of an image, uint8 [H, W], as OpenCV computes it from uint8 [H, W, 3] RGB.

    Source: ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B, here in units of 1 / 32768.

    Example:
        >>> to_grey(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [7, 7, 7]]], np.uint8)).tolist()
        [[76, 150, 29, 7]]
    """
    sums = image.reshape(-1, 3).astype(np.int32) @ np.array([9798, 19235, 3735], np.int32)
    return ((sums + 16384) >> 15).astype(np.uint8).reshape(image.shape[:2])
