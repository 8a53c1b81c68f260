"""OpenCV's video functions: quiet, and with any file name."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def for_opencv(path: Path) -> str | bytes:
    """Return a path as OpenCV takes it: its absolute text, or, where that is not UTF-8, its bytes.

    A text with lone surrogates, which is how Python shows such a name, makes OpenCV end the process.
    """
    text = os.path.abspath(path)  # or FFmpeg would take "a:b.mp4" for an address
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text)
    return text


@contextlib.contextmanager
def silent_stderr() -> Iterator[None]:
    """Send what native code writes to stderr to nowhere, for a moment."""
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


def quiet_cv2() -> Any:
    """Import OpenCV so that it does not add lines of its own to an error that is explained anyway."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    import cv2

    cv2.utils.logging.setLogLevel(0)
    return cv2
