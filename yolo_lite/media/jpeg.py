"""Leave the compressed pixels out of a JPEG, to learn quickly whether a decoder would accept the file.

A decoder refuses a JPEG for one of two reasons: a bad segment (sizes, tables, the order of scans), or an end that comes
too soon. Damage among the compressed pixels only changes colours. A file that is followed to its end mark is therefore
accepted exactly if its segments are, and these decode several times faster without the pixels between them.
Source: ITU-T T.81, annex B (markers and segments).
"""

from __future__ import annotations

import re

_START, _END = b"\xff\xd8", b"\xff\xd9"
_SCAN = 0xDA
_OTHERS = frozenset((0xC0, 0xC1, 0xC2, 0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)))  # frames by Huffman, tables, texts
_AFTER_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # no stuffed 0xFF, no restart mark


def without_pixels(content: bytes) -> bytes | None:
    """Return a JPEG file without the compressed pixels of its scans, up to its end mark.

    Args:
        content: the bytes of any file.

    Returns:
        All segments of the JPEG and its end mark; None if the file is no JPEG, has no end mark, or has a part that other
        files lack. None says nothing about damage: such a file has to be decoded as a whole.

    Example:
        >>> content = Path("photo.jpg").read_bytes()
        >>> len(without_pixels(content)) < len(content) / 4, without_pixels(content[:-2])
        (True, None)
    """
    if not content.startswith(_START):
        return None
    kept, begin, place = [_START], 2, 2
    while place + 4 <= len(content) and content[place] == 0xFF:
        marker = content[place + 1]
        end = place + 2 + int.from_bytes(content[place + 2 : place + 4], "big")
        if marker == _SCAN:
            kept.append(content[begin:end])
            following = _AFTER_SCAN.search(content, end)
            if following is None:
                return None
            if following.group() == _END:
                return b"".join((*kept, _END))
            begin = end = following.start()
        elif marker not in _OTHERS:
            return None
        place = end
    return None
