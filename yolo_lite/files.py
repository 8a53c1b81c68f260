"""Read text, write files whole or not at all, and create the folder of a run."""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from yolo_lite.errors import InputError, is_memory_full, is_text, reason

_FULL = 2**16  # free bytes, with the unfinished file still there
_LARGE = 50_000_000  # bytes; a JSON file of this size takes some six seconds
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
        words = _why_torch_failed(error, path.parent) if isinstance(error, RuntimeError) else reason(error)
        raise InputError(f"cannot write {path}: {words}") from error
    finally:
        part.unlink(missing_ok=True)


def _why_torch_failed(error: RuntimeError, folder: Path) -> str:
    if shutil.disk_usage(folder).free < _FULL:
        return "no space is left on the disk"
    if "inline_container" in str(error):  # the part of torch that writes; it keeps the system's reason to itself
        return "no space is left for it: a quota or a limit of the size of files is reached"
    return reason(error)


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
    return path.with_name(file_name(f".{path.stem}", f".{os.getpid()}.part{path.suffix}"))


def file_name(stem: str, ending: str) -> str:
    """Return stem and ending in one name, with as much of the stem as file systems allow."""
    while stem and len(os.fsencode(stem + ending)) > _LONGEST:
        stem = stem[:-1]
    return stem + ending


def identity(path: Path) -> tuple[int, int] | None:
    """Return what a file or folder shares with no other, whichever links lead to it; None where there is none."""
    try:
        return _identity_of(path.stat())
    except (OSError, ValueError):
        return None


def _identity_of(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


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
        except FileNotFoundError:  # another process gave its folder back, and with it the empty one above
            return claim_folder(kind, parent)
        except OSError as error:
            raise InputError(
                f"cannot create the folder {folder}: {reason(error)}; choose another output path"
            ) from error
        return folder
    raise AssertionError("counting never ends")


def give_back(folder: Path) -> None:
    """Remove a claimed folder in which nothing was written, and the folder above it if that is empty as well."""
    with contextlib.suppress(OSError):  # what is not empty stays
        folder.rmdir()
        folder.parent.rmdir()


@contextlib.contextmanager
def locked(folder: Path, why: str, *, say: Callable[[str], None] = lambda line: None) -> Iterator[None]:
    """Keep a folder to this `with` block, against other processes and other blocks of this one.

    The system drops the lock when the process ends, however that comes about; the file that carries it is removed.

    Args:
        folder: must exist.
        why: ends the message of the error.
        say: is told where the system or the disk knows no locks, so that nothing is kept out.

    Raises:
        InputError: where it is locked already, or the file cannot be written.
    """
    path = folder / ".lock"
    key = identity(folder)
    if key in _locked:
        raise InputError(f"{folder} is in use: {why}")
    with _lock_file(path, f"{folder} is in use: {why}", say) as file:
        _locked.add(key)
        try:
            yield
        finally:
            _locked.discard(key)
            if os.name == "nt":  # which removes no open file, and has not locked it
                file.close()
            path.unlink(missing_ok=True)  # before it is closed: nobody else can have locked it


_locked: set[tuple[int, int] | None] = set()  # a process is not kept out by its own locks


def _lock_file(path: Path, refusal: str, say: Callable[[str], None]) -> BinaryIO:
    """Open a file and lock it as POSIX says, which processes that are forked from this one do not inherit."""
    while True:
        try:
            file = path.open("ab")
        except OSError as error:
            raise InputError(f"cannot write {path}: {reason(error)}") from error
        try:
            import fcntl

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (ImportError, OSError) as error:
            if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EAGAIN):
                file.close()
                raise InputError(refusal) from error
            say(f"{path.parent} cannot be locked here ({reason(error)}): start no other run in it")
            return file
        if identity(path) == _identity_of(os.fstat(file.fileno())):
            return file
        file.close()  # the one who had it has removed it since it was opened


def make_folder(folder: Path) -> None:
    """Create a folder and those above it; raise InputError where that cannot be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create the folder {folder}: {reason(error)}; choose another output path") from error


def check_keeps(sources: Iterable[Path], out: Path) -> None:
    """Raise InputError where a file to be written is one of those that are read, whichever links lead to it."""
    target = identity(out)
    if target and any(identity(source) == target for source in sources):
        raise InputError(f"{out} is a file that is read, and would be replaced; choose another --out")


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
