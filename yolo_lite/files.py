"""Write files whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from yolo_lite.errors import InputError

_FULL = 2**16  # free bytes, with the unfinished file still there


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it; on any failure nothing is left.

    Raises:
        InputError: where the folder cannot be written to.
    """
    part = temporary(path)
    try:
        write(part)
        os.replace(part, path)
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as RuntimeError, in words of its own
        full = isinstance(error, RuntimeError) and shutil.disk_usage(path.parent).free < _FULL
        raise InputError(f"cannot write {path}: {'no space is left on the disk' if full else error}") from error
    finally:
        part.unlink(missing_ok=True)


def temporary(path: Path) -> Path:
    """Return the hidden name, with the same suffix, under which a file is written before it gets its own."""
    return path.with_name(f".{path.stem}.part{path.suffix}")


def make_folder(folder: Path) -> None:
    """Create a folder and those above it; raise InputError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create the folder {folder}: {error.strerror}; choose another output path") from error


def check_can_create(folder: Path) -> None:
    """Raise InputError now, before hours of work, where a folder could not be created or written to later."""
    above = folder
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        raise InputError(f"cannot create the folder {folder}: {above} is a file; choose another output path")
    if not os.access(above, os.W_OK):
        raise InputError(
            f"cannot create the folder {folder}: {above} may not be written to; choose another output path"
        )
