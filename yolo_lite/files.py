"""Read text, write files whole or not at all, and create the folder of a run."""

from __future__ import annotations

import itertools
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from yolo_lite.errors import InputError, is_memory_full, reason

_FULL = 2**16  # free bytes, with the unfinished file still there
_LARGE = 50_000_000  # bytes; a JSON file of this size takes some six seconds
_LONGEST = 255  # bytes of a file name on every common file system


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, with or without a byte-order mark.

    Raises:
        InputError: where the file cannot be read, or is not UTF-8, naming the first line that is not.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {reason(error)}") from error
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}: line {line} is not UTF-8 text; save the file as UTF-8") from error


def note_large(path: Path) -> None:
    """Log that a file is being read where that takes more than some seconds."""
    try:
        size = path.stat().st_size
    except OSError:
        return  # whoever reads it will say why
    if size >= _LARGE:
        logging.getLogger(__name__).info("reading %s (%s MB)", path, f"{size / 1e6:,.0f}")


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
        if is_memory_full(error):
            raise
        full = isinstance(error, RuntimeError) and shutil.disk_usage(path.parent).free < _FULL
        raise InputError(f"cannot write {path}: {'no space is left on the disk' if full else reason(error)}") from error
    finally:
        part.unlink(missing_ok=True)


def temporary(path: Path) -> Path:
    """Return the hidden name, with the same suffix, under which a file is written before it gets its own.

    No other process uses the same one, and it is no longer than file systems allow where the name itself is not.
    """
    mark = f".{os.getpid()}.part"
    stem = os.fsencode(path.stem)[: _LONGEST - len(os.fsencode(f".{mark}{path.suffix}"))]
    return path.with_name(f".{os.fsdecode(stem)}{mark}{path.suffix}")


def claim_folder(kind: str, parent: Path = Path("runs")) -> Path:
    """Create and return the first of runs/KIND-1, runs/KIND-2 ... that does not exist; no other process gets the same."""
    make_folder(parent)
    for number in itertools.count(1):
        folder = parent / f"{kind}-{number}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise InputError(
                f"cannot create the folder {folder}: {reason(error)}; choose another output path"
            ) from error
        return folder
    raise AssertionError("counting never ends")


def make_folder(folder: Path) -> None:
    """Create a folder and those above it; raise InputError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create the folder {folder}: {reason(error)}; choose another output path") from error


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
