"""Decode the image of a request: its header is checked before any pixel is decoded."""

from __future__ import annotations

from collections.abc import Callable

from yolo_lite.errors import InputError, counted
from yolo_lite.media.images import MAX_16BIT, TooLargeError, decode_image, read_header
from yolo_lite.serve.limits import RefusedError
from yolo_lite.structures.geometry import Image

_NAME = "the body"


def decode_checked(
    content: bytes,
    max_pixels: int,
    *,
    max_16bit: int = MAX_16BIT,
    check: Callable[[tuple[int, int]], object] = lambda hw: None,
) -> Image:
    """Return the pixels of an image file, uint8 [H, W, 3] RGB, upright.

    Formats without a signature, and those that other programs would have to open, are refused.

    Args:
        content: the bytes of the file.
        max_pixels: the most pixels that are decoded.
        max_16bit: as for `read_image`.
        check: called with (height, width) before any pixel is decoded; may raise an error.

    Raises:
        RefusedError: if the file is no image (415), too large (413) or damaged (422).

    Example:
        >>> decode_checked(Path("photo.jpg").read_bytes(), 10**6).shape
        (600, 512, 3)
        >>> decode_checked(b"text", 10**6)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        yolo_lite.serve.limits.RefusedError: The body is not an image that can be read (looked for JPEG, ...); send a ... file.
    """
    try:
        header = read_header(content, _NAME)
    except TooLargeError as error:
        raise RefusedError(413, f"The image has too many pixels; scale it down to {_most(max_pixels)}.") from error
    except InputError as error:
        remedy = "; send a JPEG, PNG, WebP or TIFF file" if ";" not in str(error) else ""
        raise RefusedError(415, f"{sentence(error).removesuffix('.')}{remedy}.") from error
    if not header.is_known:
        raise RefusedError(
            415, f"An image of the format {header.format} is not accepted; send JPEG, PNG, WebP or TIFF."
        )
    height, width = header.hw
    if height * width > max_pixels:
        raise RefusedError(
            413, f"The image has {width} x {height} pixels; scale it down to {_most(max_pixels)}, the limit here."
        )
    check(header.hw)
    try:
        return decode_image(content, _NAME, max_16bit=max_16bit)
    except InputError as error:
        raise RefusedError(422, sentence(error)) from error


def sentence(error: BaseException) -> str:
    """Return the message of an error as a sentence.

    Example:
        >>> sentence(ValueError("the body is empty"))
        'The body is empty.'
    """
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}" + ("" if text.endswith((".", "?", "!")) else ".")


def _most(pixels: int) -> str:
    return f"at most {counted(pixels, 'pixel')}"
