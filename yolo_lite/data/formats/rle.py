"""Compute the boxes of run-length encoded masks (RLE), which COCO JSON stores column by column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_MOST_PIXELS = 2**40  # of a mask: more than any image has, and few enough for sums in int64
_MOST_BITS = 60  # of a run


def rle_box(mask: Mapping[str, Any]) -> list[float]:
    """Return the box of a mask as xyxy in pixels; zeros if the mask is empty.

    Args:
        mask: `size` as [height, width], and `counts`: a list of run lengths, background first, or COCO's text.

    Raises:
        ValueError: if this is not a mask; the message tells why.

    Example:
        >>> rle_box({"size": [4, 5], "counts": [5, 2, 13]})  # rows 1 and 2 of column 1
        [1.0, 1.0, 2.0, 3.0]
    """
    size = mask.get("size")
    if not isinstance(size, list) or len(size) != 2 or not all(_is_count(side) and side > 0 for side in size):
        raise ValueError(f"its size must be [height, width], got {size!r:.60}")
    height, pixels = size[0], size[0] * size[1]
    counts = mask.get("counts")
    runs = _unpacked(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(_is_count(run) for run in runs):
        raise ValueError("its counts must be run lengths or COCO's text for them")
    if pixels > _MOST_PIXELS or sum(runs) != pixels:
        raise ValueError(f"its runs cover {sum(runs):,} pixels, its size is {size[1]:,} x {height:,}")
    edges = np.cumsum([0, *runs], dtype=np.int64)
    starts, stops = edges[1:-1:2], edges[2::2]
    starts, lasts = starts[stops > starts], stops[stops > starts] - 1
    if not len(starts):
        return [0.0, 0.0, 0.0, 0.0]
    turns = starts // height != lasts // height  # a run into the next column touches the bottom and the top
    top, bottom = np.where(turns, 0, starts % height), np.where(turns, height - 1, lasts % height)
    sides = (starts[0] // height, top.min(), lasts[-1] // height + 1, bottom.max() + 1)
    return [float(side) for side in sides]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _unpacked(text: str) -> list[int]:
    """Return the run lengths that COCO's text encodes.

    Each character holds five bits of a number, lowest first, and a flag for more to come. From the fourth number on, each
    is the difference from the last but one.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > _MOST_BITS:
            raise ValueError("its counts are not COCO's text for run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            signed = value - (1 << shift if bits & 16 else 0)
            runs.append(signed + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("its counts end in the middle of a number")
    return runs
