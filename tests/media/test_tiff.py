"""TIFF files whose first image is not the full one, written by hand: a thumbnail before it, pages, masks, raw data."""

from __future__ import annotations

import contextlib
import io
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from yolo_lite.errors import InputError
from yolo_lite.media.images import decode_image, read_image, read_image_shrunk, read_image_size
from yolo_lite.media.tiff import find_full_image

Pixels = npt.NDArray[np.uint8]
KIND, OLD_KIND, COLOURS, ORIENTATION, DNG_VERSION = 254, 255, 262, 274, 50706
CFA, LINEAR_RAW = 32803, 34892


class Page:
    """An image of a file: its pixels, what marks it, and the images that its directory names."""

    def __init__(self, pixels: Pixels, inner: Sequence[Page] = (), **tags: int) -> None:
        self.pixels, self.inner = pixels, inner
        self.tags = {int(name.removeprefix("tag")): value for name, value in tags.items()}


def page(hw: tuple[int, int], seed: int, *, inner: Sequence[Page] = (), **tags: int) -> Page:
    """Return an image of noise; tags by name: kind, old_kind, colours, orientation, dng."""
    names = {"kind": KIND, "old_kind": OLD_KIND, "colours": COLOURS, "orientation": ORIENTATION, "compression": 259}
    pixels = np.random.default_rng(seed).integers(0, 256, (*hw, 3)).astype(np.uint8)
    return Page(pixels, inner, **{f"tag{names[name]}": value for name, value in tags.items()})


def tiff(pages: Sequence[Page], *, order: str = "<", big: bool = False, marks: bytes = b"") -> bytes:
    """Write a chain of images, each with its inner ones, uncompressed."""
    place, entry, width = ("Q", "HHQQ", 8) if big else ("I", "HHII", 4)
    header_size = 16 if big else 8 + len(marks)
    body = bytearray(header_size)

    def value(kind: int, number: int) -> bytes:
        return struct.pack(order + {3: "H", 4: "I", 16: "Q"}[kind], number).ljust(width, b"\0")

    def add(data: bytes) -> int:
        body.extend(b"\0" * (len(body) % 2))
        body.extend(data)
        return len(body) - len(data)

    def directory(image: Page, following: int) -> int:
        inner = [directory(other, 0) for other in image.inner]
        height, breadth = image.pixels.shape[:2]
        address = 16 if big else 4
        entries = {
            256: (4, 1, value(4, breadth)),
            257: (4, 1, value(4, height)),
            258: (3, 3, struct.pack(order + place, add(struct.pack(order + "HHH", 8, 8, 8)))),
            259: (3, 1, value(3, 1)),
            COLOURS: (3, 1, value(3, 2)),
            273: (address, 1, value(address, add(image.pixels.tobytes()))),
            277: (3, 1, value(3, 3)),
            278: (4, 1, value(4, height)),
            279: (4, 1, value(4, image.pixels.nbytes)),
            **{tag: (4 if tag == KIND else 3, 1, value(4 if tag == KIND else 3, n)) for tag, n in image.tags.items()},
        }
        if big:
            entries[258] = (3, 3, struct.pack(order + "HHH", 8, 8, 8).ljust(8, b"\0"))
        if inner:
            packed = struct.pack(f"{order}{len(inner)}{place}", *inner)
            entries[330] = (
                address,
                len(inner),
                packed if len(packed) <= width else struct.pack(order + place, add(packed)),
            )
        text = struct.pack(order + ("Q" if big else "H"), len(entries))
        for tag, (kind, count, field) in sorted(entries.items()):
            text += struct.pack(order + entry[:2] + place, tag, kind, count) + field
        return add(text + struct.pack(order + place, following))

    first = 0
    for image in reversed(pages):
        first = directory(image, first)
    start = b"II" if order == "<" else b"MM"
    numbers = struct.pack(order + "HHHQ", 43, 8, 0, first) if big else struct.pack(order + "HI", 42, first)
    body[:header_size] = start + numbers + marks
    return bytes(body)


THUMB, FULL = page((6, 8), 1, kind=1), page((40, 60), 2, kind=0)


def with_inner(thumb: Page, *inner: Page) -> Page:
    return Page(thumb.pixels, inner, **{f"tag{tag}": value for tag, value in thumb.tags.items()})


def assert_read_as(content: bytes, expected: Pixels, folder: Path) -> None:
    """Through every door: from a file, from memory, reduced, and its size alone."""
    path = folder / "photo.dng"
    path.write_bytes(content)
    np.testing.assert_array_equal(read_image(path), expected)
    np.testing.assert_array_equal(decode_image(content, "photo"), expected)
    image, divisor = read_image_shrunk(path, 8)
    np.testing.assert_array_equal(image, expected)
    assert divisor == 1
    assert read_image_size(path) == expected.shape[:2]


@pytest.mark.parametrize(
    ("order", "big"),  # Pillow reads no BigTIFF of the other order
    [
        pytest.param("<", False, id="little"),
        pytest.param(">", False, id="big endian"),
        pytest.param("<", True, id="BigTIFF"),
    ],
)
@pytest.mark.parametrize(
    ("pages", "wanted"),
    [
        pytest.param([with_inner(THUMB, FULL)], FULL, id="thumbnail, full image inside"),
        pytest.param([with_inner(THUMB, page((20, 30), 3, kind=1), FULL)], FULL, id="preview and full image inside"),
        pytest.param([THUMB, FULL], FULL, id="full image behind the thumbnail"),
        pytest.param([THUMB, page((20, 30), 3, kind=1), FULL], FULL, id="full image at the end"),
        pytest.param([with_inner(THUMB, page((90, 90), 4, kind=4), FULL)], FULL, id="a mask before the full image"),
        pytest.param([with_inner(THUMB, page((40, 60), 5))], page((40, 60), 5), id="full image without a mark"),
        pytest.param([page((6, 8), 1, old_kind=2), FULL], FULL, id="the old mark"),
        pytest.param([page((6, 8), 1, kind=3), FULL], FULL, id="a reduced page"),
        pytest.param([THUMB, page((20, 30), 3, kind=1)], page((20, 30), 3), id="all reduced: the largest"),
        pytest.param([THUMB], THUMB, id="one alone, though marked as reduced"),
        pytest.param([FULL, THUMB], FULL, id="overviews behind the image"),
        pytest.param([with_inner(FULL, THUMB, page((90, 90), 4, kind=1))], FULL, id="overviews inside"),
        pytest.param([page((40, 60), 2), page((90, 90), 4)], FULL, id="pages without marks: the first"),
        pytest.param([page((40, 60), 2, kind=2), page((90, 90), 4, kind=2)], FULL, id="pages: the first"),
        pytest.param([page((40, 60), 2, old_kind=3), page((9, 9), 4, old_kind=1)], FULL, id="pages with the old mark"),
    ],
)
def test_the_full_image_is_read(tmp_path: Path, pages: list[Page], wanted: Page, order: str, big: bool) -> None:
    assert_read_as(tiff(pages, order=order, big=big), wanted.pixels, tmp_path)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("where", ["first", "full", "both"])
def test_the_full_image_is_turned_upright(tmp_path: Path, orientation: int, where: str) -> None:
    """A raw file says its orientation in the first directory (DNG 1.6); the full image's own would go before it."""
    of_first = {"first": orientation, "full": 0, "both": 2}[where]
    of_full = {"first": 0, "full": orientation, "both": orientation}[where]
    full = page((40, 60), 2, kind=0, **({"orientation": of_full} if of_full else {}))
    thumb = page((6, 8), 1, kind=1, inner=[full], **({"orientation": of_first} if of_first else {}))
    turns = {1: 0, 3: 2, 6: -1, 8: 1}
    assert_read_as(tiff([thumb]), np.rot90(full.pixels, turns[orientation]), tmp_path)


RAWS = {
    "raw data inside (DNG, NEF, ARW)": tiff([with_inner(THUMB, page((40, 60), 2, kind=0, colours=CFA))]),
    "linear raw data inside": tiff([with_inner(THUMB, page((40, 60), 2, kind=0, colours=LINEAR_RAW))]),
    "preview and raw data inside": tiff([with_inner(THUMB, FULL, page((40, 60), 2, kind=0, colours=CFA))]),
    "a preview that is not marked": tiff([with_inner(page((6, 8), 1), page((40, 60), 2, colours=CFA))]),
    "raw data alone (PEF)": tiff([page((40, 60), 2, colours=CFA, compression=32767)]),
    "raw data behind the thumbnail": tiff([THUMB, page((40, 60), 2, kind=0, colours=CFA)]),
    "big endian": tiff([with_inner(THUMB, page((40, 60), 2, kind=0, colours=CFA))], order=">"),
}


@pytest.mark.parametrize("read", [read_image, read_image_size, lambda path: read_image_shrunk(path, 8)])
@pytest.mark.parametrize("content", RAWS.values(), ids=RAWS)
def test_raw_data_are_refused_and_not_replaced_by_a_preview(
    tmp_path: Path, read: Callable[[Path], object], content: bytes
) -> None:
    path = tmp_path / "photo.nef"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"photo\.nef is a camera raw file.* convert it to JPEG, PNG or TIFF first$"):
        read(path)


def test_canons_raw_files_are_refused() -> None:
    """Nothing in their directories tells them from pages; their first bytes do, and their directory at byte 16."""
    content = bytearray(tiff([page((20, 30), 1), THUMB]))
    (first,) = struct.unpack_from("<I", content, 4)
    directory = bytes(content[first : first + 2 + 12 * 9 + 4])
    moved = bytearray(b"II*\0\x10\0\0\0CR\2\0\0\0\0\0" + directory)
    with pytest.raises(InputError, match="photo is a camera raw file"):
        decode_image(bytes(moved) + bytes(content), "photo")


def test_an_image_may_begin_with_canons_letters() -> None:
    """Pixels may lie where a raw file says what it is; the directory does not."""
    image = page((20, 30), 1)
    image.pixels[0, 0] = [ord("C"), ord("R"), 2]
    np.testing.assert_array_equal(decode_image(tiff([image]), "photo"), image.pixels)


def test_a_full_image_that_cannot_be_decoded_is_refused_with_the_reason() -> None:
    content = tiff([with_inner(THUMB, page((40, 60), 2, kind=0, compression=52546))])
    with pytest.raises(InputError, match=r"^photo is not an image that can be read \(TIFF: unknown value 52546\)$"):
        decode_image(content, "photo")


def test_directories_that_name_each_other_end() -> None:
    content = bytearray(tiff([with_inner(THUMB, page((7, 9), 3, kind=1))]))
    (first,) = struct.unpack_from("<I", content, 4)
    for start in range(first + 2, first + 2 + 12 * 11, 12):
        if struct.unpack_from("<H", content, start)[0] == 330:
            struct.pack_into("<I", content, start + 8, first)
    assert find_full_image(io.BytesIO(bytes(content))) is None


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged tags
@pytest.mark.parametrize("big", [False, True], ids=["TIFF", "BigTIFF"])
def test_damage_anywhere_ends_in_pixels_or_an_input_error(big: bool) -> None:
    content = tiff([with_inner(page((2, 3), 1, kind=1), page((3, 4), 2, kind=0))], big=big)
    places = range(0, len(content), 2)
    damaged = [content[:position] + bytes([content[position] ^ 0xFF]) + content[position + 1 :] for position in places]
    read = 0
    for data in [*damaged, *(content[:end] for end in places)]:
        with contextlib.suppress(InputError):
            decode_image(data, "photo")
            read += 1
    assert 0 < read < 2 * len(places)


def test_thousands_of_pages_are_not_walked_through() -> None:
    """As from a scanner: ten thousand pages cost no more than one."""

    class Counted(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1, /) -> bytes:
            type(self).reads += 1
            return super().read(size)

    one = tiff([page((2, 3), 1, kind=2)])
    start = time.perf_counter()
    file = Counted(tiff([page((2, 3), 1, kind=2)] * 300))
    assert find_full_image(file) is None
    assert Counted.reads < 10
    assert time.perf_counter() - start < 30
    assert find_full_image(io.BytesIO(one)) is None


def test_files_of_pillow_are_read_as_before(tmp_path: Path) -> None:
    pixels = FULL.pixels
    for compression in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        pages = [Image.fromarray(other) for other in (pixels, pixels[::2])]
        pages[0].save(tmp_path / "a.tif", compression=compression, save_all=True, append_images=pages[1:])
        assert_read_as((tmp_path / "a.tif").read_bytes(), pixels, tmp_path)
