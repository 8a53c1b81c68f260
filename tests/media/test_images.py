"""Reading every kind of image file, against arrays turned by hand and against OpenCV."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import random
import struct
import sys
import threading
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageFile

from yolo_lite.errors import InputError
from yolo_lite.media.images import (
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    decode_image,
    look_at_image,
    pillow_to_rgb,
    read_image,
    read_image_shrunk,
    read_image_size,
)

Pixels = npt.NDArray[np.uint8]


def _noise(hw: tuple[int, int] = (9, 14), seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3)).astype(np.uint8)


def _blocks() -> Pixels:
    """Return [32, 48, 3]: six blocks of different colours, which no turn or flip maps to itself."""
    colours = np.array([[[250, 0, 0], [0, 250, 0], [0, 0, 250]], [[250, 250, 0], [0, 250, 250], [120, 120, 120]]])
    return colours.astype(np.uint8).repeat(16, 0).repeat(16, 1)


def _check(path: Path, expected: Pixels, tolerance: int = 0) -> None:
    made = read_image(path)
    assert made.dtype == np.uint8
    assert made.shape == expected.shape
    assert np.abs(made.astype(int) - expected.astype(int)).max() <= tolerance
    assert read_image_size(path) == look_at_image(path).hw == expected.shape[:2]


# Kinds of images


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".ppm", ".tif", ".tiff", ".PNG"])
def test_lossless_files_return_the_pixels_that_were_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(_noise()).save(path)
    _check(path, _noise())


def test_lossless_webp_returns_the_pixels_that_were_written(tmp_path: Path) -> None:
    Image.fromarray(_noise()).save(tmp_path / "a.webp", lossless=True)
    _check(tmp_path / "a.webp", _noise())


def test_a_jpeg_is_decoded_as_opencv_decodes_it(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(_blocks()).save(path, quality=90)
    _check(path, cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1], tolerance=3)  # two decoders round differently


@pytest.mark.parametrize("suffix", [".png", ".pgm", ".tif", ".bmp"])
def test_grey_is_repeated_three_times(tmp_path: Path, suffix: str) -> None:
    grey = _noise()[..., 0]
    Image.fromarray(grey).save(tmp_path / f"a{suffix}")
    _check(tmp_path / f"a{suffix}", np.stack([grey] * 3, -1))


def test_black_and_white_becomes_0_and_255(tmp_path: Path) -> None:
    bits = _noise()[..., 0] > 127
    Image.fromarray(bits).save(tmp_path / "a.png")
    _check(tmp_path / "a.png", np.stack([np.where(bits, 255, 0)] * 3, -1).astype(np.uint8))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_of_16_bit_grey_the_upper_8_bits_are_kept(tmp_path: Path, suffix: str) -> None:
    """0x12FF keeps 0x12: cut off, neither rounded nor scaled."""
    grey = np.array([[0x0000, 0x00FF, 0x0100, 0x12FF], [0x7FFF, 0x8000, 0xFF00, 0xFFFF]], np.uint16)
    upper = np.array([[0x00, 0x00, 0x01, 0x12], [0x7F, 0x80, 0xFF, 0xFF]], np.uint8)
    cv2.imwrite(str(tmp_path / f"a{suffix}"), grey)
    _check(tmp_path / f"a{suffix}", np.stack([upper] * 3, -1))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("largest", [4095, 1023, 1000, 65535])
def test_of_16_bits_the_largest_value_given_becomes_white(tmp_path: Path, suffix: str, largest: int) -> None:
    """Oracle: shares of largest + 1, rounded down to 256 steps; what is above stays white."""
    wide = np.linspace(0, min(2 * largest, 65535), 60).astype(np.uint16).reshape(6, 10)
    cv2.imwrite(str(tmp_path / f"a{suffix}"), wide)
    expected = np.floor(np.minimum(wide, largest) / (largest + 1) * 256).astype(np.uint8)
    for image in (
        read_image(tmp_path / f"a{suffix}", largest),
        read_image_shrunk(tmp_path / f"a{suffix}", 1, max_16bit=largest)[0],
    ):
        assert (image == expected[..., None]).all()
    assert (pillow_to_rgb(Image.open(tmp_path / f"a{suffix}"), max_16bit=largest) == expected[..., None]).all()
    content = (tmp_path / f"a{suffix}").read_bytes()
    assert (decode_image(content, "a", max_16bit=largest) == expected[..., None]).all()
    assert look_at_image(tmp_path / f"a{suffix}").largest == wide.max()


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_of_16_bit_colour_the_largest_value_given_becomes_white(tmp_path: Path, alpha: bool, orientation: int) -> None:
    wide = np.random.default_rng(0).integers(0, 4096, (9, 14, 3)).astype(np.uint16)
    opaque = np.concatenate([wide, np.full((9, 14, 1), 65535, np.uint16)], 2)
    cv2.imwrite(str(tmp_path / "a.png"), opaque[..., [2, 1, 0, 3]] if alpha else wide[..., ::-1])
    if orientation != 1:
        _add_png_orientation(tmp_path / "a.png", orientation)
    turned = np.rot90(wide, {1: 0, 3: 2, 6: 3}[orientation])
    assert (read_image(tmp_path / "a.png", 4095) == turned // 16).all()
    assert (read_image(tmp_path / "a.png") == turned // 256).all()
    assert look_at_image(tmp_path / "a.png").largest == wide.max()


def test_8_bits_stay_as_they_are_whatever_becomes_white_of_16(tmp_path: Path) -> None:
    grey = np.arange(60, dtype=np.uint8).reshape(6, 10)
    for name in ("a.png", "a.tif", "a.bmp"):
        cv2.imwrite(str(tmp_path / name), grey)
        assert (read_image(tmp_path / name, 4095) == grey[..., None]).all()
        assert look_at_image(tmp_path / name).largest is None


def _add_png_orientation(path: Path, orientation: int) -> None:
    """Put an eXIf chunk with an orientation behind the header of a PNG."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    block = exif.tobytes().removeprefix(b"Exif\x00\x00")
    chunk = len(block).to_bytes(4, "big") + b"eXIf" + block
    chunk += zlib.crc32(chunk[4:]).to_bytes(4, "big")
    content = path.read_bytes()
    path.write_bytes(content[:33] + chunk + content[33:])  # signature and IHDR have 33 bytes


def test_of_16_bit_colour_the_upper_8_bits_are_kept(tmp_path: Path) -> None:
    wide = np.random.default_rng(0).integers(0, 65536, (9, 14, 3)).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), wide[..., ::-1])
    _check(tmp_path / "a.png", (wide // 256).astype(np.uint8))


def test_alpha_is_dropped_and_not_blended(tmp_path: Path) -> None:
    alpha = np.random.default_rng(1).integers(0, 256, (9, 14, 1)).astype(np.uint8)
    alpha[0] = 0
    Image.fromarray(np.concatenate([_noise(), alpha], 2)).save(tmp_path / "a.png")
    _check(tmp_path / "a.png", _noise())


def test_alpha_of_a_grey_image_is_dropped(tmp_path: Path) -> None:
    grey = _noise()[..., 0]
    Image.fromarray(np.stack([grey, np.zeros_like(grey)], -1), "LA").save(tmp_path / "a.png")
    _check(tmp_path / "a.png", np.stack([grey] * 3, -1))


@pytest.mark.parametrize("transparency", [None, 1, bytes([0, 128, 255])], ids=["none", "one colour", "table"])
def test_a_palette_gives_its_colours_whatever_is_transparent(tmp_path: Path, transparency: int | bytes | None) -> None:
    palette = np.array([[10, 20, 30], [200, 100, 50], [0, 255, 127]], np.uint8)
    indices = np.array([[0, 1, 2, 1], [2, 2, 0, 1]], np.uint8)
    image = Image.fromarray(indices, "L")
    image.putpalette(palette.tobytes())
    assert image.mode == "P"
    options = {} if transparency is None else {"transparency": transparency}
    image.save(tmp_path / "a.png", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _check(tmp_path / "a.png", palette[indices])


def test_a_cmyk_jpeg_is_converted(tmp_path: Path) -> None:
    """Without cyan and with full magenta and yellow a print is red; with half black it is darker by half."""
    for ink, colour in (((0, 255, 255, 0), (255, 0, 0)), ((255, 0, 255, 0), (0, 255, 0)), ((0, 0, 0, 128), (127,) * 3)):
        Image.new("CMYK", (16, 8), ink).save(tmp_path / "a.jpg", quality=100)
        _check(tmp_path / "a.jpg", np.full((8, 16, 3), colour, np.uint8), tolerance=4)


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (10, 6), colour) for colour in ("red", "blue", "lime")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    _check(tmp_path / "a.gif", np.full((6, 10, 3), (255, 0, 0), np.uint8))


def test_floating_point_pixels_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a\.tif holds floating-point pixels"):
        read_image(tmp_path / "a.tif")


def test_pillow_to_rgb_does_not_modify_the_image() -> None:
    image = Image.fromarray(_blocks())
    image.getexif()[0x0112] = 6
    before = np.asarray(image).copy()
    made = pillow_to_rgb(image)
    made[:] = 0
    np.testing.assert_array_equal(np.asarray(image), before)


def test_read_image_returns_memory_that_can_be_written_to(tmp_path: Path) -> None:
    Image.fromarray(_noise()).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.flags.writeable
    assert image.flags.c_contiguous


def test_names_with_spaces_and_other_alphabets_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "ein Bild с котом 猫.png"
    Image.fromarray(_noise()).save(path)
    _check(path, _noise())


# EXIF orientation


TURNS: dict[int, Callable[[Pixels], Pixels]] = {  # from the stored pixels to the upright image, EXIF 2.3 table 6
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: np.rot90(stored, 2),
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),  # a quarter clockwise
    7: lambda stored: np.rot90(stored, 2).transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored, 1),
}


def _with_orientation(path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {".jpg": {"quality": 95, "subsampling": 0}, ".webp": {"lossless": True}}.get(path.suffix, {})
    Image.fromarray(_blocks()).save(path, exif=exif, **options)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    _with_orientation(path, orientation)
    _check(path, TURNS[orientation](_blocks()), tolerance=12 if suffix == ".jpg" else 0)


@pytest.mark.parametrize("orientation", TURNS)
def test_exif_orientation_agrees_with_opencv(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.jpg"
    _with_orientation(path, orientation)
    _check(path, cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1], tolerance=3)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_turns_nothing(tmp_path: Path, orientation: int) -> None:
    _with_orientation(tmp_path / "a.jpg", orientation)
    _check(tmp_path / "a.jpg", _blocks(), tolerance=12)


def _exif_entry(kind: int, count: int, value: bytes) -> bytes:
    """Return an EXIF block whose only entry is the orientation, of another type than the 16-bit number it should be."""
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">HHHI", 1, 0x0112, kind, count) + value + b"\0\0\0\0"


@pytest.mark.parametrize(
    "exif",
    [
        pytest.param(b"Exif\0\0", id="nothing after the name"),
        pytest.param(b"Exif\0\0MM\0*\0\0", id="header cut"),
        pytest.param(b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12", id="entries cut"),
        pytest.param(b"Exif\0\0XXXXXXXXXXXXXXXX", id="noise"),
        pytest.param(_exif_entry(2, 2, b"6\0\0\0"), id="orientation as text"),
        pytest.param(_exif_entry(5, 1, b"\0\0\xff\xff"), id="a fraction that lies nowhere"),
    ],
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_block_is_treated_alike_by_both_readers(tmp_path: Path, exif: bytes) -> None:
    """An image that opens must not stop a run because of what a camera wrote beside it."""
    path = tmp_path / "a.jpg"
    Image.fromarray(_blocks()).save(path, quality=95, subsampling=0, exif=exif)
    _check(path, _blocks(), tolerance=12)


# Files that are no images


def _png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _png_that_claims(hw: tuple[int, int]) -> bytes:
    header = struct.pack(">IIBBBBB", hw[1], hw[0], 8, 2, 0, 0, 0)
    content = _png_chunk(b"IDAT", zlib.compress(b"\0" * 100))
    return b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", header) + content + _png_chunk(b"IEND", b"")


def _cut(suffix: str, share: float, folder: Path) -> bytes:
    whole = folder / f"whole{suffix}"
    Image.fromarray(_noise((200, 300))).save(whole)
    data = whole.read_bytes()
    return data[: int(share * len(data))]


def _message(read: Callable[[Path], object], path: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError) as caught:
            read(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("read", [read_image, read_image_size, look_at_image])
@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        pytest.param("absent.jpg", None, "does not exist", id="missing"),
        pytest.param("empty.jpg", b"", "is empty (0 bytes)", id="zero bytes"),
        pytest.param("text.jpg", b"these are only words\n" * 50, "is not an image that can be read", id="text"),
        pytest.param("one.png", b"\x89", "is not an image that can be read", id="one byte"),
        pytest.param("cut.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF", "is not an image that can be read", id="JPEG header"),
        pytest.param("cut.png", b"\x89PNG\r\n\x1a\n", "is not an image that can be read", id="PNG header"),
        pytest.param("bomb.png", _png_that_claims((60000, 60000)), "more than 178,956,970 pixels", id="bomb"),
        pytest.param("large.png", _png_that_claims((15000, 15000)), "more than 178,956,970 pixels", id="small bomb"),
    ],
)
def test_a_file_that_is_no_image_is_named_in_one_line(
    tmp_path: Path, read: Callable[[Path], object], name: str, content: bytes | None, expected: str
) -> None:
    """15000 x 15000 is 225 million pixels, just more than the limit of 179 million."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert expected in _message(read, tmp_path / name)


@pytest.mark.parametrize("read", [read_image, read_image_size, look_at_image])
def test_a_folder_is_named_as_a_folder(tmp_path: Path, read: Callable[[Path], object]) -> None:
    (tmp_path / "photo.jpg").mkdir()
    assert "is a folder, expected an image" in _message(read, tmp_path / "photo.jpg")


@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".gif", ".bmp"])
def test_a_truncated_image_is_refused(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(_cut(suffix, share, tmp_path))
    message = _message(read_image, path)
    assert "damaged or cut short" in message or "is not an image that can be read" in message
    assert _message(look_at_image, path) == message


@pytest.mark.parametrize("hw", [(1, 1), (3, 20), (201, 333)])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_look_at_a_jpeg_sees_its_size_and_each_missing_byte(tmp_path: Path, hw: tuple[int, int], mode: str) -> None:
    """Decoded at an eighth of its size, a JPEG is refused where the full one is, with the same words."""
    path = tmp_path / "a.jpg"
    for orientation in (1, 6):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(_noise(hw)).convert(mode).save(path, exif=exif, quality=90)
        looked = look_at_image(path)
        assert looked.hw == read_image(path).shape[:2]
        assert looked.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    content = path.read_bytes()
    for length in np.linspace(100, len(content) - 3, 12).astype(int).tolist():
        path.write_bytes(content[:length])
        try:
            expected = str(read_image(path).shape[:2])
        except InputError as error:
            expected = str(error)
        try:
            made = str(look_at_image(path).hw)
        except InputError as error:
            made = str(error)
        assert made == expected


def _verdict(read: Callable[[Path], object], path: Path) -> str:
    """Return the shape of an image, or the message that refuses it."""
    try:
        seen = read(path)
    except InputError as error:
        return str(error)
    return str(seen.shape[:2] if isinstance(seen, np.ndarray) else getattr(seen, "hw", None))


def _damaged(content: bytes, rng: random.Random) -> bytes:
    """Change a byte, cut the end, drop or double some bytes, or plant a mark: mostly before the pixels, where it matters."""
    head = content.index(b"\xff\xda") + 20
    place = rng.randrange(2, head if rng.random() < 0.7 else len(content))
    beyond = min(len(content), place + rng.randrange(1, 40))
    return rng.choice(
        (
            content[:place] + bytes([rng.randrange(256)]) + content[place + 1 :],
            content[:place] + bytes([0xFF, rng.randrange(0xC0, 0xFF)]) + content[place + 2 :],
            content[: max(place, len(content) - rng.randrange(1, 6))],
            content[:place] + content[beyond:],
            content[:beyond] + content[place:],
        )
    )


@pytest.mark.parametrize("restart", [0, 3])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_look_at_a_damaged_jpeg_finds_what_decoding_it_finds(
    tmp_path: Path, mode: str, progressive: bool, restart: int
) -> None:
    """The look leaves the pixels out; `read_image` decodes all of them."""
    rng, path = random.Random(f"{mode} {progressive} {restart}"), tmp_path / "a.jpg"
    options = {"progressive": progressive, "restart_marker_blocks": restart}
    Image.fromarray(_noise((33, 50))).convert(mode).save(path, **options)
    content = path.read_bytes()
    refused = accepted = 0
    for _ in range(150):
        path.write_bytes(_damaged(content, rng))
        expected = _verdict(read_image, path)
        assert _verdict(look_at_image, path) == expected
        refused, accepted = refused + (str(path) in expected), accepted + (str(path) not in expected)
    assert min(refused, accepted) > 20


def test_the_message_about_a_damaged_jpeg_is_that_of_the_whole_file(tmp_path: Path) -> None:
    """A scan whose header claims no bytes: without the pixels the file would be called cut short."""
    path = tmp_path / "a.jpg"
    Image.fromarray(_noise((33, 50))).save(path)
    content = path.read_bytes()
    length = content.index(b"\xff\xda") + 2
    path.write_bytes(content[:length] + bytes(2) + content[length + 2 :])
    message = _message(read_image, path)
    assert "broken data stream" in message
    assert _message(look_at_image, path) == message


def test_a_damaged_avif_is_refused(tmp_path: Path) -> None:
    """Its decoder has an error of its own, which no other one raises."""
    if ".avif" not in Image.registered_extensions():
        pytest.skip("this Pillow reads no AVIF")
    path = tmp_path / "a.avif"
    Image.fromarray(_noise((40, 50))).save(path)
    assert read_image(path).shape == (40, 50, 3)
    content = path.read_bytes()
    for place in range(0, len(content), max(1, len(content) // 60)):
        path.write_bytes(content[:place] + bytes(4) + content[place + 4 :])
        with contextlib.suppress(InputError):
            read_image(path)
    path.write_bytes(content[:-20])
    assert "is damaged or cut short" in _message(read_image, path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".gif", ".bmp"])
def test_the_size_of_a_truncated_image_is_right_or_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    for share in (0.01, 0.1, 0.3, 0.6, 0.95):
        path.write_bytes(_cut(suffix, share, tmp_path))
        with contextlib.suppress(InputError):
            assert read_image_size(path) == (200, 300)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".gif", ".bmp"])
def test_the_size_is_read_without_decoding_the_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Every image of a data set is asked for its size before a run; to decode them all would take minutes."""
    path = tmp_path / f"a{suffix}"
    Image.fromarray(_noise()).save(path)
    decoded = []
    monkeypatch.setattr(ImageFile.ImageFile, "load_prepare", lambda image: decoded.append(image))
    read_image_size(path)
    assert decoded == []


def test_a_png_with_a_flipped_byte_is_refused_or_read(tmp_path: Path) -> None:
    """Damage anywhere ends in pixels or in an InputError, never in another exception."""
    Image.fromarray(_noise((20, 30))).save(tmp_path / "whole.png")
    data = (tmp_path / "whole.png").read_bytes()
    refused = 0
    for position in range(0, len(data), 7):
        path = tmp_path / "damaged.png"
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x55]) + data[position + 1 :])
        try:
            read_image(path)
        except InputError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize("read", [read_image, read_image_size, look_at_image])
def test_the_limit_holds_where_a_program_has_switched_pillows_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object]
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    (tmp_path / "large.png").write_bytes(_png_that_claims((15000, 15000)))
    assert "more than 178,956,970 pixels" in _message(read, tmp_path / "large.png")


def test_a_large_image_below_the_limit_is_no_warning(tmp_path: Path) -> None:
    """11000 x 11000 is 121 million pixels: Pillow warns from 89 million on, half of where it refuses."""
    (tmp_path / "large.png").write_bytes(_png_that_claims((11000, 11000)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image_size(tmp_path / "large.png") == (11000, 11000)


def test_the_limit_of_pixels_is_half_a_gibibyte_of_rgb() -> None:
    assert MAX_PIXELS == 2**29 // 3


def test_every_suffix_is_one_that_pillow_knows() -> None:
    assert set(IMAGE_SUFFIXES) <= set(Image.registered_extensions())


@pytest.mark.shared_data
def test_real_images_agree_with_opencv(shared_data: Path) -> None:
    files = sorted((shared_data / "coco_mini" / "val2017").glob("*.jpg"))[::60]
    assert len(files) > 3
    for path in files:
        _check(path, cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1], tolerance=6)


# PNG files with long texts

MIB = 1 << 20
XMP = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'


def _png(*chunks: tuple[bytes, bytes], behind: bool = False) -> bytes:
    """Write `_blocks()` as a PNG with chunks before its pixels, or behind them."""
    file = io.BytesIO()
    Image.fromarray(_blocks()).save(file, "PNG")
    whole = file.getvalue()
    place = whole.index(b"IEND") - 4 if behind else whole.index(b"IDAT") - 4
    return whole[:place] + b"".join(_png_chunk(*chunk) for chunk in chunks) + whole[place:]


def _text(kind: bytes, text: bytes, keyword: bytes = b"Comment") -> tuple[bytes, bytes]:
    """Return a chunk of text, compressed where its kind allows."""
    before = {b"tEXt": b"", b"zTXt": b"\0", b"iTXt": b"\1\0\0\0", b"iCCP": b"\0"}[kind]
    return kind, keyword + b"\0" + before + (text if kind == b"tEXt" else zlib.compress(text))


LONG = np.random.default_rng(3).integers(32, 127, 2 * MIB).astype(np.uint8).tobytes()


@pytest.mark.parametrize("behind", [False, True], ids=["before the pixels", "behind them"])
@pytest.mark.parametrize(
    "chunks",
    [
        pytest.param([_text(b"tEXt", LONG)], id="text"),
        pytest.param([_text(b"zTXt", LONG)], id="compressed text"),
        pytest.param([_text(b"iTXt", LONG)], id="international text"),
        pytest.param([_text(b"zTXt", LONG), _text(b"iTXt", LONG), _text(b"tEXt", LONG)], id="all of them"),
        pytest.param([_text(b"tEXt", b"x" * MIB, b"Comment %d" % i) for i in range(70)], id="many texts"),
        pytest.param([_text(b"iCCP", LONG)], id="colour profile"),
    ],
)
def test_a_png_with_long_texts_is_read(tmp_path: Path, chunks: list[tuple[bytes, bytes]], behind: bool) -> None:
    """Pillow stops at 1 MiB of compressed text, and at 64 MiB of all texts."""
    path = tmp_path / "a.png"
    path.write_bytes(_png(*chunks, behind=behind))
    _check(path, _blocks())
    np.testing.assert_array_equal(decode_image(path.read_bytes(), "a"), _blocks())


@pytest.mark.parametrize(
    "turning",
    [
        pytest.param((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP), id="XMP"),
        pytest.param(_text(b"iTXt", XMP, b"XML:com.adobe.xmp"), id="compressed XMP"),
        pytest.param((b"eXIf", b"MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"), id="EXIF"),
    ],
)
def test_a_png_with_long_texts_is_turned_upright(tmp_path: Path, turning: tuple[bytes, bytes]) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(_png(_text(b"zTXt", LONG), turning))
    _check(path, TURNS[6](_blocks()))


@pytest.mark.slow
@pytest.mark.parametrize("keyword", [b"Comment", b"XML:com.adobe.xmp", b"Raw profile type exif"])
@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_a_text_that_unpacks_to_fill_the_memory_is_not_unpacked(tmp_path: Path, kind: bytes, keyword: bytes) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(_png(_text(kind, bytes(64 * MIB), keyword)))
    assert path.stat().st_size < MIB
    tracemalloc.start()
    try:
        _check(path, _blocks())
        assert tracemalloc.get_traced_memory()[1] < 20 * MIB
    finally:
        tracemalloc.stop()


def test_a_png_with_long_texts_and_damaged_pixels_is_refused(tmp_path: Path) -> None:
    whole = _png(_text(b"zTXt", LONG))
    place = whole.index(b"IDAT") + 20
    (tmp_path / "a.png").write_bytes(whole[:place] + b"\0" * 20 + whole[place + 20 :])
    assert "damaged or cut short" in _message(read_image, tmp_path / "a.png")


def test_a_file_that_begins_like_an_image_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(_png_that_claims((0, 10)))
    assert "is not an image that can be read (PNG: " in _message(read_image, tmp_path / "a.png")


# What the system refuses


@pytest.mark.parametrize("read", [read_image, read_image_size, lambda path: read_image_shrunk(path, 4)])
@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.EIO, errno.ESTALE])
def test_a_file_that_cannot_be_opened_is_reported_in_the_systems_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Callable[[Path], object], number: int
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(_png())

    def refuse(self: Path, *arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number), str(self))

    monkeypatch.setattr(Path, "open", refuse)
    assert _message(read, path) == f"cannot read {path}: {os.strerror(number)}"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp", ".gif", ".bmp"])
def test_a_disk_that_fails_while_reading_is_not_a_damaged_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Wherever in the file it fails."""
    path = tmp_path / f"a{suffix}"
    Image.fromarray(_noise((200, 300))).save(path)
    content, limits, failures = path.read_bytes(), [0], [0]

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            if self.tell() > limits[0]:
                failures[0] += 1
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return data

    monkeypatch.setattr(Path, "open", lambda self, *arguments, **options: Failing(content))
    for limits[0] in (0, 4, 16, 100, len(content) // 2):
        assert _message(read_image, path) == f"cannot read {path}: {os.strerror(errno.EIO)}"
    assert failures[0] >= 5


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links")
def test_a_link_to_itself_is_reported_in_the_systems_words(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.symlink_to(path)
    assert _message(read_image, path) == f"cannot read {path}: {os.strerror(errno.ELOOP)}"


def test_a_name_that_no_system_has_is_refused(tmp_path: Path) -> None:
    assert "cannot read" in _message(read_image, tmp_path / ("a" * 300))
    with pytest.raises(InputError, match="cannot read"):
        read_image(tmp_path / "a\0b")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with a name")
def test_an_image_comes_through_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(_png(),))
    writer.start()
    np.testing.assert_array_equal(read_image(path), _blocks())
    writer.join()


# Threads


def test_reading_leaves_the_warning_filters_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`warnings.catch_warnings` swaps the filters of the whole process, so threads that overlap leave wrong ones."""
    path = tmp_path / "a.png"
    path.write_bytes(_png())
    before = list(warnings.filters)

    with monkeypatch.context() as patch:  # pytest uses it too
        patch.setattr(warnings, "catch_warnings", lambda *_, **__: pytest.fail("the filters are swapped"))
        with ThreadPoolExecutor(8) as threads:
            images = list(threads.map(read_image, [path] * 40))
    assert all(np.array_equal(image, _blocks()) for image in images)
    assert list(warnings.filters) == before


# JPEG decoded smaller


@pytest.mark.parametrize(
    ("name", "size", "most", "divisor"),
    [
        ("eighth.jpg", (64, 48), 8, 8),
        ("more than an eighth.jpg", (64, 48), 50, 8),
        ("not quite.jpg", (64, 48), 7, 4),
        ("full.jpg", (64, 48), 1, 1),
        ("nothing asked.jpg", (64, 48), 0, 1),
        ("multiples of two.jpg", (66, 48), 8, 2),
        ("odd.jpg", (65, 48), 8, 1),
        ("another kind.png", (64, 48), 8, 1),
    ],
)
def test_a_jpeg_is_decoded_smaller_where_its_sides_divide(
    tmp_path: Path, name: str, size: tuple[int, int], most: int, divisor: int
) -> None:
    Image.new("RGB", size, (200, 100, 50)).save(tmp_path / name)
    image, found = read_image_shrunk(tmp_path / name, most)
    assert found == divisor
    assert image.shape == (size[1] // divisor, size[0] // divisor, 3)
    assert np.abs(image.astype(int) - (200, 100, 50)).max() <= 2
    if divisor == 1:
        np.testing.assert_array_equal(image, read_image(tmp_path / name))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_a_jpeg_of_another_mode_is_converted_when_decoded_smaller(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (64, 48), (90, 90, 90)).convert(mode).save(tmp_path / "a.jpg")
    image, divisor = read_image_shrunk(tmp_path / "a.jpg", 2)
    assert (image.shape, divisor) == ((24, 32, 3), 2)
    assert np.abs(image.astype(int) - 90).max() <= 2


def test_a_damaged_jpeg_is_named_when_decoded_smaller(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(InputError, match="is damaged or cut short"):
        read_image_shrunk(path, 4)


@pytest.mark.parametrize(
    "error", [OSError("out of memory error when reading image file"), OSError(12, "Cannot allocate memory")]
)
def test_full_memory_is_no_fault_of_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path)

    def full(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("yolo_lite.media.images.pillow_to_rgb", full)
    with pytest.raises(OSError, match="memory") as caught:
        read_image(path)
    assert caught.value is error


def test_without_opencv_colours_of_16_bits_are_refused_only_where_their_white_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deep.png"
    cv2.imwrite(str(path), np.full((2, 3, 3), 4095, np.uint16))
    assert read_image(path, 4095).max() == 255
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert read_image(path).shape == (2, 3, 3)
    with pytest.raises(InputError, match="OpenCV is not installed, and colours of 16 bits need it: pip install opencv"):
        read_image(path, 4095)
    Image.fromarray(np.array([[0, 4095]], np.uint16)).save(tmp_path / "grey.png")
    assert read_image(tmp_path / "grey.png", 4095)[0, :, 0].tolist() == [0, 255]
