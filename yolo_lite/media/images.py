"""Read image files of every common format as 8-bit RGB."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from yolo_lite.errors import InputError, is_memory_full, reason
from yolo_lite.media.jpeg import without_pixels
from yolo_lite.media.opencv import quiet_cv2
from yolo_lite.media.tiff import CameraRawError, find_full_image
from yolo_lite.structures.geometry import Image

if TYPE_CHECKING:
    ImageInput = str | os.PathLike[str] | Image | PillowImage.Image

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"),
    *(".jfif", ".jpe", ".tga", ".pbm", ".pnm", ".apng"),
)
RAW_SUFFIXES = (".dng", ".nef", ".cr2", ".cr3", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw")  # camera raw files
_FORMATS = frozenset(  # Pillow formats with a signature in their first bytes, so not TGA
    ("JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF", "QOI", "SGI", "PCX", "DDS")
)
MAX_PIXELS = 178_956_970  # 512 MiB of RGB: more than any camera produces; Pillow's own limit as well
MAX_16BIT = 65535
_DECODER_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, ArithmeticError, AssertionError),
    *(struct.error, zlib.error, RuntimeError),  # RuntimeError: AVIF
)
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_TEXTS = (b"iCCP", b"tEXt", b"zTXt", b"iTXt")
_TURNING_TEXTS = (b"XML:com.adobe.xmp\0", b"Raw profile type exif\0")  # these may hold an orientation
_SWAPPED = (5, 6, 7, 8)  # EXIF orientations that swap the sides
T = TypeVar("T")


class TooLargeError(InputError):
    """An image has more than MAX_PIXELS pixels."""


def read_image(path: Path, max_16bit: int = MAX_16BIT) -> Image:
    """Read an image as uint8 [H, W, 3] RGB, rotated upright by its EXIF orientation.

    - A grey image gets three equal channels. CMYK and palette colours are converted to RGB.
    - Transparency is dropped, not blended with a background.
    - An animation is read as its first frame, a TIFF that begins with a thumbnail as its full image.

    Args:
        path: the image file.
        max_16bit: the value that becomes white in an image with 16 bits a channel. Pass 4095 for a 12-bit camera,
            whose images would otherwise be almost black.

    Raises:
        InputError: if the file is missing, empty, truncated, not an image, larger than MAX_PIXELS, or a camera raw
            file. The message names the file and, if the system refused to read it, the system's reason.

    Example:
        >>> image = read_image(Path("photo.jpg"))
        >>> image.shape, image.dtype
        ((600, 512, 3), dtype('uint8'))
    """
    return _read(path, lambda image: _decoded(image, str(path), max_16bit))


def read_image_shrunk(path: Path, most: int, *, max_16bit: int = MAX_16BIT) -> tuple[Image, int]:
    """Read an image as `read_image` does, but decode a JPEG at 1/2, 1/4 or 1/8 of its size if possible.

    Decoding at a smaller size is much faster. The decoder skips fine detail instead of averaging it. In photographs
    that are then resized to half of the decoded size, pixels differ by less than 1 grey level on average.

    Args:
        path: the image file.
        most: the largest divisor allowed; a value below 2 keeps the full size. A divisor is used only if both sides
            are multiples of it.
        max_16bit: as for `read_image`.

    Returns:
        The image, and the divisor that its height and width were divided by (1 for the full size).

    Raises:
        InputError: as `read_image` does.

    Example:
        >>> image, divisor = read_image_shrunk(Path("photo.jpg"), 4)  # the full image is 512 x 600
        >>> image.shape, divisor
        ((150, 128, 3), 4)
    """

    def shrunk(image: PillowImage.Image) -> tuple[Image, int]:
        full = image.size
        for divisor in (8, 4, 2):
            if divisor <= most and full[0] % divisor == full[1] % divisor == 0:
                image.draft(None, (full[0] // divisor, full[1] // divisor))  # has an effect on JPEG files only
                break
        divisor = full[0] // image.width
        return _decoded(image, str(path), max_16bit), divisor

    return _read(path, shrunk)


def decode_image(content: bytes, name: str, *, max_16bit: int = MAX_16BIT) -> Image:
    """Decode the bytes of an image file by the rules of `read_image`; error messages refer to the file as `name`.

    Example:
        >>> decode_image(Path("photo.jpg").read_bytes(), "photo").shape
        (600, 512, 3)
    """
    return _read(Path(name), lambda image: _decoded(image, name, max_16bit), content)


def read_image_size(path: Path) -> tuple[int, int]:
    """Read the (height, width) of the upright image from the file's header; raise as `read_image` does.

    Example:
        >>> read_image_size(Path("photo.jpg"))
        (600, 512)
    """
    return _read(path, lambda image: _upright_size(image, path))


class Header(NamedTuple):
    """What the header of an image file says.

    Attributes:
        format: Pillow's name of the format, such as JPEG.
        hw: height and width of the upright image.
        is_known: whether the format has a signature in its first bytes, and is one that this package documents.
    """

    format: str
    hw: tuple[int, int]
    is_known: bool


def read_header(content: bytes, name: str) -> Header:
    """Read the header of an image file from its bytes; no pixel is decoded.

    Raises:
        InputError: as `read_image` does; the message refers to the file as `name`.

    Example:
        >>> read_header(Path("photo.jpg").read_bytes(), "photo")
        Header(format='JPEG', hw=(600, 512), is_known=True)
    """

    def header(image: PillowImage.Image) -> Header:
        kind = image.format or ""
        return Header(kind, _upright_size(image, Path(name)), kind in _FORMATS)

    return _read(Path(name), header, content)


class Looked(NamedTuple):
    """What a look at an image file found.

    Attributes:
        hw: height and width of the upright image.
        largest: the largest value of an image with 16 bits a channel; None for any other image.
        digest: sha256 of the file.
    """

    hw: tuple[int, int]
    largest: int | None
    digest: str


def look_at_image(path: Path) -> Looked:
    """Find out whether `read_image` would read an image, without decoding more than that takes.

    The file is read once. A JPEG is followed to its end mark; its pixels are decoded only if a part of it is unusual.

    Raises:
        InputError: for every file that `read_image` refuses, with the same message.

    Example:
        >>> look_at_image(Path("photo.jpg")).hw
        (600, 512)
    """
    try:
        with _open(path, None) as file:
            content = file.read()
    except OSError as error:
        raise InputError(f"cannot read {path}: {reason(error)}") from error

    def look(image: PillowImage.Image) -> tuple[tuple[int, int], bool]:
        if image.format not in ("JPEG", "MPO"):
            height, width = _decoded(image, str(path), MAX_16BIT).shape[:2]
            return (height, width), True
        width, height = image.size
        image.draft(None, (max(1, width // 8), max(1, height // 8)))
        _decoded(image, str(path), MAX_16BIT)
        turned = image.getexif().get(0x0112, 1) in _SWAPPED
        return (width, height) if turned else (height, width), False

    digest = hashlib.sha256(content).hexdigest()
    segments = without_pixels(content)
    if segments is not None:
        with contextlib.suppress(InputError):  # the whole file gives the message
            return Looked(_read(path, look, segments)[0], None, digest)
    hw, may_be_deep = _read(path, look, content)
    largest = _read(path, lambda image: _largest(image, path), content) if may_be_deep else None
    return Looked(hw, largest, digest)


def _largest(image: PillowImage.Image, path: Path) -> int | None:
    try:
        deep = np.asarray(image) if image.mode.startswith("I") else _deep_colours(image)
    except _DECODER_ERRORS as error:
        raise InputError(f"{path} is damaged or cut short and cannot be decoded ({reason(error)})") from error
    return None if deep is None else int(deep.max())


def is_image(path: Path, content: bytes | None = None) -> bool:
    """Return whether a file is an image, judged by its suffix, or by its content if IMAGE_SUFFIXES lacks the suffix.

    Args:
        path: the file, or the name of a file in an archive.
        content: the bytes of the file, if they are in memory already.

    Example:
        >>> is_image(Path("photo.jpg")), is_image(Path("labels"), b"0 0.5 0.5 0.1 0.1")
        (True, False)
    """
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return True
    if content is None and not path.is_file():
        return False
    try:
        return _read(path, lambda image: image.format in _FORMATS, content)
    except InputError:
        return False


def count_frames(path: Path) -> int:
    """Return the number of frames of an image: 1 unless it is an animation; raise as `read_image` does.

    Example:
        >>> count_frames(Path("photo.jpg"))
        1
    """

    def count(image: PillowImage.Image) -> int:
        try:
            return int(getattr(image, "n_frames", 1))
        except _DECODER_ERRORS:
            return 1  # decoding the image will report the fault

    return _read(path, count)


def pillow_to_rgb(image: PillowImage.Image, name: str = "the image", *, max_16bit: int = MAX_16BIT) -> Image:
    """Convert an open Pillow image to uint8 [H, W, 3] RGB by the rules of `read_image`.

    Raises:
        InputError: if the pixels are floating-point numbers; the message refers to the image as `name`. Also if
            `max_16bit` is given for an image with 16 bits a channel in colour, and OpenCV is not installed.

    Example:
        >>> pillow_to_rgb(PillowImage.new("L", (1, 1), color=7)).tolist()  # one grey pixel
        [[[7, 7, 7]]]
    """
    deep = _deep_colours(image) if max_16bit != MAX_16BIT else None
    if deep is not None:
        orientation = image.getexif().get(0x0112, 1)
        image = PillowImage.fromarray(_to_8bit(deep, max_16bit))
        image.getexif()[0x0112] = orientation
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow also hands out as 32-bit integers
        grey = _to_8bit(np.asarray(image), max_16bit)
        return np.repeat(grey[..., None], 3, -1)
    if image.mode == "F":
        raise InputError(f"{name} holds floating-point pixels; save it with 8 or 16 bits a channel")
    if image.mode == "P":
        image = image.convert("RGBA")
    return np.array(image.convert("RGB"))


def _to_8bit(values: npt.NDArray[Any], max_16bit: int) -> npt.NDArray[np.uint8]:
    return (values.astype(np.int64).clip(0, max_16bit) * 256 // (max_16bit + 1)).astype(np.uint8)


def _deep_colours(image: PillowImage.Image) -> npt.NDArray[np.uint16] | None:
    """Return the colours of a file with 16 bits a channel, [H, W, 3] RGB, as stored; None for any other file.

    Pillow itself keeps only the upper 8 bits.
    """
    file = getattr(image, "fp", None)
    tiles = getattr(image, "tile", None)
    arguments = tiles[0][3] if tiles else ""  # "RGB;16B" or ("RGB;16L", 0, 1)
    raw_mode = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
    if file is None or ";16" not in str(raw_mode) or image.mode.startswith("I"):
        return None
    cv2 = quiet_cv2("colours of 16 bits need it")
    position = file.tell()
    file.seek(0)
    content = np.frombuffer(file.read(), np.uint8)
    file.seek(position)
    colours = cv2.imdecode(content, cv2.IMREAD_UNCHANGED)
    return colours[..., 2::-1] if colours is not None and colours.dtype == np.uint16 and colours.ndim == 3 else None


def _read(path: Path, take: Callable[[PillowImage.Image], T], content: bytes | None = None) -> T:
    """Open an image, read no more than its header, and return the result of `take` for it."""
    try:
        with _open(path, content) as file:
            further_tries = [_TURNING_TEXTS, ()] if _starts_with(file, _PNG) else []
            while True:
                try:
                    return take(_identify(file, path))
                except InputError as error:
                    if not further_tries or type(error.__cause__) is not ValueError:  # Pillow's error for long texts
                        raise
                file = _without_texts(file, further_tries.pop(0))
    except OSError as error:
        if is_memory_full(error):
            raise
        raise InputError(f"cannot read {path}: {reason(error)}") from error


@contextlib.contextmanager
def _open(path: Path, content: bytes | None) -> Iterator[BinaryIO]:
    """Open a file, or its content if given, for the length of a `with` block."""
    try:
        opened = path.open("rb") if content is None else io.BytesIO(content)
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        if content is None and path.is_dir():
            raise InputError(f"{path} is a folder, expected an image") from error
        raise InputError(f"cannot read {path}: {reason(error)}") from error
    with opened as file:
        yield file if file.seekable() else io.BytesIO(file.read())


def _identify(file: BinaryIO, path: Path) -> PillowImage.Image:
    """Return the image in a file, not decoded yet.

    This replaces `PillowImage.open`, whose warning about large images cannot be switched off for a single thread.
    """
    try:
        full = find_full_image(file)
    except CameraRawError as error:
        raise InputError(
            f"{path} is a camera raw file, and only its preview could be read; convert it to JPEG, PNG or TIFF first"
        ) from error
    if full is not None:
        file.seek(0)
        file = io.BytesIO(full.header + file.read()[len(full.header) :])
    image = _first_that_fits(file, path)
    if image.width * image.height > MAX_PIXELS:
        raise _too_large(path)
    if full is not None:
        image.getexif()[0x0112] = full.orientation
    return image


def _first_that_fits(file: BinaryIO, path: Path) -> PillowImage.Image:
    """Return the image, opened by the first format that recognises the beginning of the file and can parse it."""
    file.seek(0)
    beginning = file.read(16)
    if not beginning:
        raise InputError(f"{path} is empty (0 bytes)")
    failures: list[tuple[str, BaseException]] = []
    tried: set[str] = set()
    for load_formats in (PillowImage.preinit, PillowImage.init):  # the common formats first, then all
        load_formats()
        for kind in [kind for kind in PillowImage.ID if kind not in tried]:
            tried.add(kind)
            factory, accepts = PillowImage.OPEN[kind]
            try:
                known = not accepts or accepts(beginning)
                if isinstance(known, str):  # the format is recognised, but Pillow was built without it
                    raise SyntaxError(known)
                if not known:
                    continue
                file.seek(0)
                return factory(file, "")
            except PillowImage.DecompressionBombError as error:
                raise _too_large(path) from error
            except _DECODER_ERRORS as error:
                if isinstance(error, OSError) and error.errno:
                    raise
                if accepts:  # formats without a signature fail on nearly every file
                    failures.append((kind, error))
    message = f"{path} is not an image that can be read"
    if not failures:
        raise InputError(f"{message} (looked for JPEG, PNG, WebP, TIFF ...)")
    kind, cause = failures[0]
    is_unknown = isinstance(cause.__cause__ or cause, KeyError)  # such as an unknown compression
    words = f"unknown value {cause}" if is_unknown else reason(cause)
    raise InputError(f"{message} ({kind}: {words})") from cause


def _decoded(image: PillowImage.Image, name: str, max_16bit: int) -> Image:
    try:
        return pillow_to_rgb(image, name, max_16bit=max_16bit)
    except PillowImage.DecompressionBombError as error:
        raise _too_large(Path(name)) from error
    except _DECODER_ERRORS as error:
        if isinstance(error, InputError) or (isinstance(error, OSError) and error.errno) or is_memory_full(error):
            raise
        raise InputError(f"{name} is damaged or cut short and cannot be decoded ({reason(error)})") from error


def _upright_size(image: PillowImage.Image, path: Path) -> tuple[int, int]:
    width, height = image.size
    if isinstance(image, TiffImageFile):  # whether Pillow has swapped the sides by now depends on Pillow's version
        width, height = image.tag_v2[256], image.tag_v2[257]  # the tags ImageWidth and ImageLength
    try:
        exif = PillowImage.Image.getexif(
            image
        )  # reads the header only: PNG's own getexif would decode all pixels first
        turned = exif.get(0x0112, 1) in _SWAPPED
    except _DECODER_ERRORS as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise InputError(f"{path} has damaged EXIF data ({reason(error)})") from error
    return (width, height) if turned else (height, width)


def _without_texts(file: BinaryIO, keep: tuple[bytes, ...]) -> BinaryIO:
    """Copy a PNG without its colour profile and its texts, which affect no pixel; texts that begin with `keep` stay."""
    file.seek(0)
    content = file.read()
    copy, place = io.BytesIO(), len(_PNG)
    copy.write(_PNG)
    while place + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        if kind not in _PNG_TEXTS or content.startswith(keep, place + 8):
            copy.write(content[place : place + 12 + length])  # with length, kind and checksum
        place += 12 + length
    return copy


def _starts_with(file: BinaryIO, beginning: bytes) -> bool:
    file.seek(0)
    return file.read(len(beginning)) == beginning


def _too_large(path: Path) -> InputError:
    return TooLargeError(
        f"{path} has more than {MAX_PIXELS:,} pixels according to its header; it was not opened, because a small file "
        "can unpack to fill all memory; scale the image down first, or detect in tiles, which reads a TIFF in parts"
    )


def to_rgb(image: Any, max_16bit: int = MAX_16BIT) -> Image:
    """Return an image of any accepted type as uint8 [H, W, 3] RGB.

    Args:
        image: a path, a NumPy array that is uint8 [H, W, 3] RGB already, or a PIL image.
        max_16bit: as for `read_image`.

    Raises:
        InputError: if the image is anything else, or cannot be read; the message says what is expected.

    Example:
        >>> to_rgb("photo.jpg").shape
        (600, 512, 3)
    """
    if isinstance(image, str | os.PathLike):
        return read_image(Path(image), max_16bit)
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
            raise InputError(
                f"an array must be uint8 [height, width, 3] in RGB order, got {image.dtype} {list(image.shape)}"
            )
        return image
    if hasattr(image, "convert") and hasattr(image, "getexif"):
        return pillow_to_rgb(image, max_16bit=max_16bit)
    raise InputError(f"an image must be a path, a NumPy array or a PIL image, got {type(image).__name__}")
