"""OpenCV, if it is installed: quiet, and safe for any file name."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from yolo_lite.errors import InputError


def for_opencv(path: Path) -> str | bytes:
    """Return a path in the form that OpenCV accepts: an absolute path as text, or as bytes if it is not UTF-8.

    Python represents a name that is not UTF-8 as text with lone surrogates, which makes OpenCV end the process.

    Example:
        >>> for_opencv(Path("/videos/a.mp4"))
        '/videos/a.mp4'
    """
    text = os.path.abspath(path)  # or FFmpeg would take "a:b.mp4" for a URL
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text)
    return text


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Discard everything that is written to stderr in a `with` block, by native code too.

    Example:
        >>> with silent_stderr():
        ...     written = os.write(2, b"a remark of a C library")
        >>> written
        23
    """
    sys.stderr.flush()
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def quiet_cv2(need: str = "videos need it") -> Any:
    """Import OpenCV and return it with its log switched off: the package reports errors itself.

    Args:
        need: what needs it, for the message if it is not installed.

    Raises:
        InputError: if it is not installed.

    Example:
        >>> quiet_cv2().resize(np.zeros((4, 4, 3), np.uint8), (2, 2)).shape
        (2, 2, 3)
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        import cv2
    except ImportError as error:
        raise InputError(f"OpenCV is not installed, and {need}: pip install opencv-python-headless") from error
    cv2.utils.logging.setLogLevel(0)
    return cv2
