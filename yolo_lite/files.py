"""Read text, write files whole or not at all, and create the folder of a run."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from yolo_lite.errors import InputError, is_text, reason

_FULL = 2**16  # free bytes, with the unfinished file still there
_LONGEST_PATH = 4096  # characters
_LONGEST = 255  # bytes of a file name on every common file system


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, with or without a byte-order mark.

    Raises:
        InputError: where the file cannot be read, or is not UTF-8, naming the first line that is not.
    """
    return decode_text(read_bytes(path), str(path))


def decode_text(content: bytes, name: str) -> str:
    """Decode the bytes of a text file as `read_text` does; messages call it `name`."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{name}: line {line} is not UTF-8 text; save the file as UTF-8") from error
    if "\0" in text:  # which is valid UTF-8, but what UTF-16 without a mark looks like
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{name}: line {line} holds a zero byte, which no text does; save the file as UTF-8")
    return text


def read_bytes(path: Path) -> bytes:
    """Read a file; raise InputError with the system's reason where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {reason(error)}") from error


def check_readable(folder: Path) -> None:
    """Raise InputError naming the first folder in a tree that cannot be listed: `Path.rglob` leaves it out in silence."""

    def refuse(error: OSError) -> None:
        raise InputError(f"cannot read the folder {error.filename}: {reason(error)}") from error

    for _ in os.walk(folder, onerror=refuse):
        pass


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
        raise InputError(f"cannot write {path}: {'no space is left on the disk' if full else reason(error)}") from error
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yield a hidden folder to fill; at the end its content is moved to `out`, and on any failure nothing is left.

    `out` is new or empty. Where it is there already it stays what it is, such as the mount point of another disk.

    Raises:
        InputError: where the folder cannot be created.
    """
    there = out.is_dir()
    created = [folder for folder in out.absolute().parents if not folder.is_dir()]  # the innermost first
    part = temporary(out / "content") if there else temporary(out)
    make_folder(part)
    try:
        yield part
        if there:
            for entry in sorted(part.iterdir()):
                os.rename(entry, out / entry.name)
            part.rmdir()
        else:
            os.rename(part, out)
    except InputError as error:
        raise InputError(str(error).replace(str(part), str(out))) from error
    finally:
        if part.is_dir():
            shutil.rmtree(part, ignore_errors=True)
            _remove_empty(created)


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:  # another process uses it by now
            return


def flush(path: Path) -> None:
    """Wait until a file is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def temporary(path: Path) -> Path:
    """Return the hidden name, with the same suffix, under which a file is written before it gets its own.

    No other process uses the same one, and it is no longer than file systems allow where the name itself is not.
    """
    mark = f".{os.getpid()}.part"
    stem = os.fsencode(path.stem)[: _LONGEST - len(os.fsencode(f".{mark}{path.suffix}"))]
    return path.with_name(f".{os.fsdecode(stem)}{mark}{path.suffix}")


def is_possible_path(text: str) -> bool:
    """Say whether a text can be the path of a file; the system raises an error of its own when it looks for another."""
    if "\0" in text or not is_text(text):
        return False
    return len(text) < _LONGEST_PATH and all(len(os.fsencode(part)) <= _LONGEST for part in Path(text).parts)


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
