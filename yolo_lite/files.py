"""Read text files, write files completely or not at all, and create and lock folders."""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from yolo_lite.errors import InputError, is_memory_full, is_text, reason

_FULL = 2**16  # free bytes while the unfinished file still exists
_LARGE = 50_000_000  # bytes; a JSON file of this size takes some six seconds
_LONGEST_PATH = 4096  # characters
_LONGEST = 255  # bytes in a file name, on every common file system


def read_text(path: Path) -> str:
    """Read a text file in UTF-8, with or without a byte-order mark.

    Raises:
        InputError: if the file cannot be read, or is not UTF-8; the message names the first line that is not.

    Example:
        >>> _ = Path("classes.txt").write_text("cat")
        >>> read_text(Path("classes.txt"))
        'cat'
    """
    return decode_text(read_bytes(path), str(path))


def decode_text(content: bytes, name: str) -> str:
    """Decode the bytes of a text file as `read_text` does; error messages refer to the file as `name`.

    Example:
        >>> decode_text(b"cat", "classes.txt")
        'cat'
        >>> decode_text(bytes([0xE9]), "classes.txt")
        Traceback (most recent call last):
        yolo_lite.errors.InputError: classes.txt: line 1 is not UTF-8 text; save the file as UTF-8
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{name}: line {line} is not UTF-8 text; save the file as UTF-8") from error
    if "\0" in text:  # valid UTF-8, but most likely UTF-16 without a byte-order mark
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{name}: line {line} contains a zero byte, so it is not plain text; save the file as UTF-8")
    return text


def read_bytes(path: Path) -> bytes:
    """Read a file; raise InputError with the system's reason if it cannot be read.

    Example:
        >>> read_bytes(Path("photo.jpg"))[:2].hex()  # how every JPEG file begins
        'ffd8'
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {reason(error)}") from error


def check_readable(folder: Path) -> None:
    """Raise InputError with the first folder in a tree that cannot be listed; `Path.rglob` would skip it silently.

    Example:
        >>> check_readable(Path("missing"))
        Traceback (most recent call last):
        yolo_lite.errors.InputError: cannot read the folder missing: No such file or directory
    """

    def refuse(error: OSError) -> None:
        raise InputError(f"cannot read the folder {error.filename}: {reason(error)}") from error

    for _ in os.walk(folder, onerror=refuse):
        pass


def note_large(path: Path) -> None:
    """Log that a file is being read if it is so large that reading takes several seconds.

    Example:
        >>> note_large(Path("photo.jpg"))  # a small file: nothing is logged
    """
    try:
        size = path.stat().st_size
    except OSError:
        return  # reading it will report the reason
    if size >= _LARGE:
        logging.getLogger(__name__).info("reading %s (%s MB)", path, f"{size / 1e6:,.0f}")


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a temporary file beside `path`, then rename it; on any failure no file is left behind.

    Raises:
        InputError: if the file cannot be written.

    Example:
        >>> write_atomically(Path("result.txt"), lambda part: part.write_text("done"))
        >>> Path("result.txt").read_text()
        'done'
    """
    write_together({path: write})


def write_together(writes: Mapping[Path, Callable[[Path], object]]) -> None:
    """Write several files as `write_atomically` does; none is replaced before all of them are written.

    Args:
        writes: by path, what writes the file under the path that it is called with.

    Raises:
        InputError: if a file cannot be written.

    Example:
        >>> texts = {Path("numbers.json"): "{}", Path("page.html"): "<p>"}
        >>> write_together({path: lambda part, text=text: part.write_text(text) for path, text in texts.items()})
        >>> Path("numbers.json").read_text(), Path("page.html").read_text()
        ('{}', '<p>')
    """
    parts = {path: temporary(path) for path in writes}
    try:
        for path, write in writes.items():
            with _explained(path):
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                write(parts[path])
        for path, part in parts.items():
            with _explained(path):
                os.replace(part, path)
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Raise InputError in place of the errors of writing a file."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # torch.save reports a full disk as a RuntimeError
        if is_memory_full(error):
            raise
        words = _why_torch_failed(error, path.parent) if isinstance(error, RuntimeError) else reason(error)
        raise InputError(f"cannot write {path}: {words}") from error


def _why_torch_failed(error: RuntimeError, folder: Path) -> str:
    if shutil.disk_usage(folder).free < _FULL:
        return "no space is left on the disk"
    if "inline_container" in str(error):  # the writing part of torch, which hides the system's reason
        return "there is no space for it: a disk quota or the limit on file sizes is reached"
    return reason(error)


@contextlib.contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yield a hidden folder to fill; at the end its content moves to `out`, and on any failure nothing is left behind.

    `out` must be new or empty. An existing `out` is kept and filled, as it may be the mount point of another disk.

    Raises:
        InputError: if the folder cannot be created.

    Example:
        >>> with whole_folder(Path("export")) as part:
        ...     _ = (part / "labels.txt").write_text("0 0.5 0.5 1 1")
        >>> [file.name for file in Path("export").iterdir()]
        ['labels.txt']
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


@contextlib.contextmanager
def gone_if_empty(folder: Path) -> Iterator[None]:
    """Remove at the end of a `with` block the folders, down to `folder`, that it created and left empty.

    Example:
        >>> with gone_if_empty(Path("seen/today")):
        ...     make_folder(Path("seen/today"))
        >>> Path("seen").exists()
        False
    """
    whole = folder.absolute()
    missing = [each for each in (whole, *whole.parents) if not each.exists()]  # the innermost first
    try:
        yield
    finally:
        _remove_empty(missing)


def _remove_empty(folders: Iterable[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:  # another process has put something there
            return


def flush(path: Path) -> None:
    """Wait until the content of a file is stored on the disk.

    Example:
        >>> _ = Path("stored.txt").write_text("done")
        >>> flush(Path("stored.txt"))
    """
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def temporary(path: Path) -> Path:
    """Return the hidden path, with the same suffix, under which a file is written before it is renamed.

    It differs between processes, and is cut to the length that file systems allow.

    Example:
        >>> hidden = temporary(Path("runs/best.pt"))
        >>> hidden.parent.name, hidden.name.startswith(".best."), hidden.suffix
        ('runs', True, '.pt')
    """
    return path.with_name(file_name(f".{path.stem}", f".{os.getpid()}.part{path.suffix}"))


def file_name(stem: str, ending: str) -> str:
    """Return stem and ending as one name, with the stem cut to the length that file systems allow.

    Example:
        >>> file_name("photo", ".jpg"), len(file_name("x" * 300, ".jpg"))
        ('photo.jpg', 255)
    """
    while stem and len(os.fsencode(stem + ending)) > _LONGEST:
        stem = stem[:-1]
    return stem + ending


def identity(path: Path) -> tuple[int, int] | None:
    """Return a value that identifies a file or folder, whichever links lead to it; None if it does not exist.

    Example:
        >>> identity(Path("photo.jpg")) == identity(Path("my_images/../photo.jpg")), identity(Path("missing"))
        (True, None)
    """
    try:
        return _identity_of(path.stat())
    except (OSError, ValueError):
        return None


def _identity_of(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def is_possible_path(text: str) -> bool:
    """Return whether a text can be a path; looking for any other text would raise an error of the system.

    Example:
        >>> is_possible_path("runs/best.pt"), is_possible_path("x" * 300)
        (True, False)
    """
    if "\0" in text or not is_text(text):
        return False
    return len(text) < _LONGEST_PATH and all(len(os.fsencode(part)) <= _LONGEST for part in Path(text).parts)


def claim_folder(kind: str, parent: Path = Path("runs")) -> Path:
    """Create and return the first new folder of runs/KIND-1, runs/KIND-2 ...; two processes never get the same.

    Raises:
        InputError: if the folder cannot be created.

    Example:
        >>> claim_folder("train", Path("my_runs")).name, claim_folder("train", Path("my_runs")).name
        ('train-1', 'train-2')
    """
    make_folder(parent)
    for number in itertools.count(1):
        folder = parent / f"{kind}-{number}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        except FileNotFoundError:  # another process has removed its folder and the empty one above
            return claim_folder(kind, parent)
        except OSError as error:
            raise InputError(
                f"cannot create the folder {folder}: {reason(error)}; choose another output path"
            ) from error
        return folder
    raise AssertionError("counting never ends")


def give_back(folder: Path) -> None:
    """Remove a claimed folder if it is empty, and then the folder above it if that is empty too.

    Example:
        >>> give_back(claim_folder("detect", Path("my_results")))
        >>> Path("my_results").exists()
        False
    """
    with contextlib.suppress(OSError):  # a folder that is not empty stays
        folder.rmdir()
        folder.parent.rmdir()


@contextlib.contextmanager
def locked(folder: Path, why: str, *, say: Callable[[str], None] = lambda line: None) -> Iterator[None]:
    """Lock a folder for a `with` block, against other processes and other blocks of this process.

    The system releases the lock when the process ends, even after a crash; the lock file is removed.

    Args:
        folder: the folder, which must exist.
        why: the end of the error message.
        say: called with a warning if the system or the disk does not support locks; the block then runs without one.

    Raises:
        InputError: if the folder is locked already, or the lock file cannot be written.

    Example:
        >>> with locked(Path("my_images"), "a training is running"), locked(Path("my_images"), "please wait"):
        ...     pass
        Traceback (most recent call last):
        yolo_lite.errors.InputError: my_images is in use: please wait
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
            if os.name == "nt":  # Windows cannot remove an open file, and has not locked it
                file.close()
            path.unlink(missing_ok=True)  # before the file is closed, so that no other process can have locked it


_locked: set[tuple[int, int] | None] = set()  # a lock does not keep its own process out


def _lock_file(path: Path, refusal: str, say: Callable[[str], None]) -> BinaryIO:
    """Open a file and put a POSIX lock on it, which forked processes do not inherit."""
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
        file.close()  # its owner has removed the file since it was opened here


def make_folder(folder: Path) -> None:
    """Create a folder and those above it; raise InputError if that fails.

    Example:
        >>> make_folder(Path("results/today"))
        >>> Path("results/today").is_dir()
        True
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot create the folder {folder}: {reason(error)}; choose another output path") from error


def check_keeps(sources: Iterable[Path], out: Path) -> None:
    """Raise InputError if the output file is one of the input files, whichever links lead to it.

    Example:
        >>> check_keeps([Path("photo.jpg")], Path("./photo.jpg"))
        Traceback (most recent call last):
        yolo_lite.errors.InputError: photo.jpg is an input file, which would be replaced; choose another --out
    """
    target = identity(out)
    if target and any(identity(source) == target for source in sources):
        raise InputError(f"{out} is an input file, which would be replaced; choose another --out")


def check_can_create(folder: Path) -> None:
    """Raise InputError now, before hours of work, if a folder could not be created or written to later.

    Example:
        >>> check_can_create(Path("photo.jpg/results"))
        Traceback (most recent call last):
        yolo_lite.errors.InputError: cannot create the folder photo.jpg/results: photo.jpg is a file; choose another output path
    """
    above = folder
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        raise InputError(f"cannot create the folder {folder}: {above} is a file; choose another output path")
    if not os.access(above, os.W_OK):
        raise InputError(f"cannot create the folder {folder}: {above} is not writable; choose another output path")
