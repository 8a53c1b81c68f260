"""Following a JPEG to its end mark, against files put together by hand and the segments that Pillow writes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from yolo_lite.media.jpeg import without_pixels

_FRAME, _TABLE = b"\xff\xc0\0\x04ab", b"\xff\xc4\0\x05\xff\xd9c"  # the table's own bytes look like an end mark
_SCAN, _END = b"\xff\xda\0\x03s", b"\xff\xd9"


@pytest.mark.parametrize(
    "pixels",
    [
        pytest.param(b"", id="none"),
        pytest.param(b"123", id="plain"),
        pytest.param(b"1\xff\x002\xff\0", id="stuffed"),
        pytest.param(b"1\xff\xd02\xff\xd7", id="restart marks"),
        pytest.param(b"1\xff\xff\x002", id="filled and stuffed"),
    ],
)
def test_pixels_are_left_out_and_segments_are_kept(pixels: bytes) -> None:
    """Between two scans stands a table, as in a progressive file; bytes after the end mark are another file's."""
    content = b"\xff\xd8" + _FRAME + _TABLE + _SCAN + pixels + _TABLE + _SCAN + pixels + _END + b"more"
    assert without_pixels(content) == b"\xff\xd8" + _FRAME + _TABLE + _SCAN + _TABLE + _SCAN + _END


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x89PNG\r\n\x1a\n", id="PNG"),
        pytest.param(b"\xff\xd8", id="only a start"),
        pytest.param(b"\xff\xd8" + _FRAME + _SCAN + b"12", id="no end mark"),
        pytest.param(b"\xff\xd8" + _FRAME + _SCAN + b"12\xff", id="half an end mark"),
        pytest.param(b"\xff\xd8" + _FRAME + b"\xff\xda\0\x40s", id="cut within the header of a scan"),
        pytest.param(b"\xff\xd8" + _FRAME + _END, id="no scan"),
        pytest.param(b"\xff\xd8" + _FRAME + b"x" + _SCAN + b"1" + _END, id="bytes between segments"),
        pytest.param(b"\xff\xd8\xff\xc9\0\x04ab" + _SCAN + b"1" + _END, id="arithmetic coding"),
        pytest.param(b"\xff\xd8" + _FRAME + _SCAN + b"1\xff\x022" + _END, id="reserved mark among the pixels"),
    ],
)
def test_a_file_of_another_kind_is_left_to_the_decoder(content: bytes) -> None:
    assert without_pixels(content) is None


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("restart", [0, 3])
def test_a_common_file_needs_no_pixels(mode: str, progressive: bool, restart: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 120, 3)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(
        file, "JPEG", progressive=progressive, restart_marker_blocks=restart, quality=90
    )
    segments = without_pixels(file.getvalue())
    assert segments is not None
    assert len(segments) < len(file.getvalue()) / 4
    assert Image.open(io.BytesIO(segments)).size == (120, 90)
