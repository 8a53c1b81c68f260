"""Read any picture file as 8-bit RGB, by one rule for each kind."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from yolo_lite.errors import InputError
from yolo_lite.structures import Image

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"),
    *(".jfif", ".jpe", ".tga", ".pbm", ".pnm", ".apng"),
)
RAW_SUFFIXES = (".dng", ".nef", ".cr2", ".cr3", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw")  # of cameras
_FORMATS = frozenset(  # of Pillow, which are told by their first bytes: TGA is not
    ("JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF", "QOI", "SGI", "PCX", "DDS")
)
MAX_PIXELS = 178_956_970  # 512 MiB of RGB; more than any camera gives, and where Pillow too refuses
_DECODER_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error)


def read_image(path: Path) -> Image:
    """Read a picture as uint8 [H, W, 3] RGB, turned upright as its EXIF orientation says.

    Grey is repeated three times; of 16 bits the upper 8 are kept; transparency is dropped, not blended; CMYK and
    palettes are converted; of an animation the first frame is taken.

    Raises:
        InputError: naming the file, where it is missing, empty, truncated, no picture, or larger than MAX_PIXELS.
    """
    with _open(path) as picture:
        return _decoded(picture, str(path))


def read_image_shrunk(path: Path, most: int) -> tuple[Image, int]:
    """Read a picture as `read_image` does, a JPEG perhaps at 1/2, 1/4 or 1/8 of its size, which is much faster.

    The decoder then leaves out fine detail instead of averaging over it: of photographs that are shrunk to half that
    size afterwards pixels differ by less than 1 grey level in the mean.

    Args:
        path: the picture.
        most: by which it may be shrunk at most; below 2 it never is, nor is a side that is no multiple of the divisor.

    Returns:
        The picture, and the divisor: the full picture has so many times its sides.

    Raises:
        InputError: as read_image does.
    """
    with _open(path) as picture:
        full = picture.size
        for divisor in (8, 4, 2):
            if divisor <= most and full[0] % divisor == full[1] % divisor == 0:
                picture.draft(None, (full[0] // divisor, full[1] // divisor))  # does nothing but to a JPEG
                break
        divisor = full[0] // picture.width
        return _decoded(picture, str(path)), divisor


def decode_image(content: bytes, name: str) -> Image:
    """Read the bytes of a picture file as `read_image` reads the file; messages call it `name`."""
    with _open(Path(name), content) as picture:
        return _decoded(picture, name)


def read_image_size(path: Path) -> tuple[int, int]:
    """Read (height, width) of the upright picture from the file's header; raises as read_image does."""
    with _open(path) as picture:
        width, height = picture.size
        if isinstance(picture, TiffImageFile):  # whether Pillow has swapped its sides by now depends on its version
            width, height = picture.tag_v2[256], picture.tag_v2[257]  # the tags ImageWidth and ImageLength
        try:
            exif = PillowImage.Image.getexif(picture)  # of the header: PNG's own getexif would decode all pixels first
            turned = exif.get(0x0112, 1) in (5, 6, 7, 8)  # these EXIF orientations swap the sides
        except _DECODER_ERRORS as error:
            raise InputError(f"{path} has damaged EXIF data ({_one_line(error)})") from error
    return (width, height) if turned else (height, width)


def is_image(path: Path, content: bytes | None = None) -> bool:
    """Say whether a file is an image: by its suffix, or by its content where the suffix is none of IMAGE_SUFFIXES.

    Args:
        path: the file, or the name of one in an archive.
        content: what it holds, where that is in memory.
    """
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return True
    if content is None and not path.is_file():
        return False
    try:
        with _open(path, content) as picture:
            return picture.format in _FORMATS
    except InputError:
        return False


def count_frames(path: Path) -> int:
    """Return how many frames an image has, 1 but for animations; raises as read_image does."""
    with _open(path) as picture:
        try:
            return int(getattr(picture, "n_frames", 1))
        except _DECODER_ERRORS:
            return 1  # decoding it will say what is wrong


def pillow_to_rgb(picture: PillowImage.Image, name: str = "the picture") -> Image:
    """Convert an open Pillow image by the same rules."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I"):  # 16-bit grey, which Pillow also hands out as 32-bit integers
        grey = (np.asarray(picture).astype(np.int64).clip(0, 65535) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, -1)
    if picture.mode == "F":
        raise InputError(f"{name} holds floating-point pixels; save it with 8 or 16 bits a channel")
    if picture.mode == "P":
        picture = picture.convert("RGBA")
    return np.array(picture.convert("RGB"))


def _decoded(picture: PillowImage.Image, name: str) -> Image:
    try:
        return pillow_to_rgb(picture, name)
    except _DECODER_ERRORS as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{name} is damaged or cut short and cannot be decoded ({_one_line(error)})") from error


def _open(path: Path, content: bytes | None = None) -> PillowImage.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PillowImage.DecompressionBombWarning)
            picture = PillowImage.open(path if content is None else io.BytesIO(content))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder, expected a picture") from error
    except PillowImage.DecompressionBombError as error:
        raise _too_large(path) from error
    except (UnidentifiedImageError, *_DECODER_ERRORS) as error:
        if content == b"" or (content is None and path.is_file() and path.stat().st_size == 0):
            raise InputError(f"{path} is empty (0 bytes)") from error
        raise InputError(f"{path} is not a picture that can be read (looked for JPEG, PNG, WebP, TIFF ...)") from error
    if picture.width * picture.height > MAX_PIXELS:
        picture.close()
        raise _too_large(path)
    return picture


def _too_large(path: Path) -> InputError:
    return InputError(
        f"{path} says it has more than {MAX_PIXELS:,} pixels and is not opened, since small files can unpack to fill "
        "the memory; scale the picture down first"
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
