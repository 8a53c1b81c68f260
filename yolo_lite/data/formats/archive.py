"""Read archives and compressed files into memory, up to a limit: a file of a few kilobytes may unpack to terabytes."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO

from yolo_lite.errors import InputError, reason, short
from yolo_lite.files import note_large, read_bytes

Content = Path | bytes  # of a file in a folder or an archive

MOST = 4 << 30  # bytes, unpacked
_SMALL = 256 << 20  # bytes that any file may unpack to
_RATIO = 100  # a larger file may unpack to this many times its size; images hardly compress, MNIST's to a fifth
DAMAGED = (OSError, EOFError, ValueError, LookupError, ArithmeticError, AssertionError, zlib.error, lzma.LZMAError)
_PACKED = {b"\x1f\x8b": gzip.GzipFile, b"BZh": bz2.BZ2File, b"\xfd7zXZ": lzma.LZMAFile}


class Unpacked(io.RawIOBase):
    """A file that can be read up to a limit, in one call or in all.

    Args:
        file: source of the bytes.
        packed: its size on disk, in bytes.
        source: its path, for messages.
    """

    def __init__(
        self, file: IO[bytes] | gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile, packed: int, *, source: Path
    ) -> None:
        super().__init__()
        self.file, self.source = file, source
        self.most = min(MOST, max(_SMALL, _RATIO * packed))

    def read(self, size: int = -1) -> bytes:
        """Return the next `size` bytes, or all the rest if `size` is negative.

        Raises:
            InputError: if that would exceed the limit.
        """
        left = self.most - self.file.tell()
        parts = []
        while size != 0:
            part = self.file.read(min(_PIECE, size) if size > 0 else _PIECE)
            left -= len(part)
            if left < 0:
                raise self._too_much()
            if not part:
                break
            parts.append(part)
            size -= len(part) if size > 0 else 0
        return b"".join(parts)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position, counted from the start."""
        if whence != io.SEEK_SET or offset < 0:
            raise ValueError(f"offset must be 0 or more, counted from the start, got {offset}")
        if offset > self.most:
            raise self._too_much()
        return self.file.seek(offset)

    def tell(self) -> int:
        """Return the position of the next byte."""
        return self.file.tell()

    def close(self) -> None:
        """Close the file."""
        self.file.close()
        super().close()

    def _too_much(self) -> InputError:
        return InputError(f"{self.source} unpacks to more than {self.most >> 20:,} MiB; unpack it and name the folder")


_PIECE = 1 << 20  # bytes read at once, so that a damaged header cannot make us allocate more than the file holds


def open_unpacked(path: Path) -> Unpacked:
    """Open a file for reading; if gzip, bzip2 or xz compressed it, decompress it on the fly.

    Example:
        >>> _ = Path("cat.txt.gz").write_bytes(gzip.compress(b"cat"))
        >>> with open_unpacked(Path("cat.txt.gz")) as file:
        ...     file.read()
        b'cat'
    """
    with path.open("rb") as file:
        start = file.read(6)
    packed = next((kind for magic, kind in _PACKED.items() if start.startswith(magic)), None)
    size = path.stat().st_size
    if packed is None:
        plain = Unpacked(path.open("rb"), size, source=path)
        plain.most = MOST
        return plain
    return Unpacked(packed(path), size, source=path)


def content_bytes(content: Content) -> bytes:
    """Return the bytes of a file in a folder or an archive.

    Example:
        >>> content_bytes(b"cat"), content_bytes(Path("photo.jpg"))[:2].hex()
        (b'cat', 'ffd8')
    """
    return read_bytes(content) if isinstance(content, Path) else content


def read_archive(path: Path) -> tuple[dict[PurePosixPath, bytes], list[PurePosixPath]]:
    """Return the files of a tar by relative path, and its folders, both sorted; links and devices are skipped.

    Raises:
        InputError: if it cannot be read, is damaged, or holds a path that leads out of it.

    Example:
        >>> with tarfile.open("classes.tar", "w") as archive:
        ...     archive.add("my_classes/val/disc", "disc")
        >>> files, folders = read_archive(Path("classes.tar"))
        >>> len(files), folders
        (2, [PurePosixPath('disc')])
    """
    note_large(path)
    try:
        return _members(path)
    except InputError:
        raise
    except RecursionError as error:
        raise InputError(f"{path} is not a tar file of images: its chain of long file names does not end") from error
    except (*DAMAGED, tarfile.TarError) as error:
        if isinstance(error, OSError) and error.errno:
            raise InputError(f"cannot read {path}: {reason(error)}") from error
        raise InputError(f"{path} is damaged, cut short or not a tar file ({reason(error)[:200]})") from error


def _members(path: Path) -> tuple[dict[PurePosixPath, bytes], list[PurePosixPath]]:
    files: dict[PurePosixPath, bytes] = {}
    folders = []
    with open_unpacked(path) as unpacked, tarfile.open(fileobj=unpacked, mode="r:") as archive:
        for member in archive:
            _check_member(member, path)
            name = PurePosixPath(member.name)
            if member.isdir():
                folders.append(name)
            elif member.isfile():
                file = archive.extractfile(member)
                assert file is not None
                files[name] = file.read()
        unpacked.seek(archive.offset)
        if unpacked.read(tarfile.BLOCKSIZE).strip(b"\0"):  # tarfile stops silently at a damaged header
            raise tarfile.ReadError("a damaged header")
    return dict(sorted(files.items())), sorted(folders)


def _check_member(member: tarfile.TarInfo, path: Path) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise InputError(f"{path} holds {short(member.name)}, a path that leads out of the archive; it is not read")
    if member.size < 0 or member.sparse is not None:
        raise InputError(
            f"{path} holds {short(member.name)}, a sparse file or of invalid size; unpack it and name the folder"
        )
