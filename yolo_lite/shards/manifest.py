"""Manifests: the images of a batch job, in shards of a fixed order, whatever their number never all in memory."""

from __future__ import annotations

import glob
import hashlib
import itertools
import os
import re
import tarfile
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from yolo_lite.errors import InputError, printable, reason
from yolo_lite.files import identity, make_folder
from yolo_lite.media.folders import is_hidden, sort_out
from yolo_lite.media.images import IMAGE_SUFFIXES
from yolo_lite.shards.folder import write_once

SHARD_SIZE = 1000
LIST_OF_FOLDER = "images.txt"
_TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
_LARGEST = 2**30  # bytes of an image file in a tar, which is read at once
_BLOCK = 2**16  # bytes that are read at once
_BOM = b"\xef\xbb\xbf"


class Entry(NamedTuple):
    """An image of a manifest.

    Attributes:
        name: the image as the manifest names it, or tar/member.
        path: where it is.
        content: its bytes, if it comes from a tar.
        error: why it, or its tar, could not be read.
    """

    name: str
    path: Path
    content: bytes | None = None
    error: str = ""


class UnreadableShardError(InputError):
    """The images of a shard cannot be read, most likely because of a disk; the shard is not written."""


class Manifest(Protocol):
    """The images of a job, in shards.

    Attributes:
        shards: how many there are.
        unit: what `size` counts, in the plural.
    """

    @property
    def shards(self) -> int: ...

    @property
    def unit(self) -> str: ...

    def size(self, shard: int) -> int:
        """Return how many units a shard has."""

    def entries(self, shard: int) -> Iterator[Entry]:
        """Yield the images of a shard."""

    def describe(self) -> dict[str, object]:
        """Return what tells this manifest from others: plain values."""


def open_manifest(source: str, out: Path, *, shard_size: int | None = None) -> Manifest:
    """Return the images that a manifest names.

    Args:
        source: a text file with one path per line, relative to the file; or one with tar files; a folder, whose list is
            written to `out`; a tar file; or tar files as in shard-{0000..0009}.tar or shard-*.tar.
        out: the folder of the results, which is created.
        shard_size: number of images in a shard; None: 1000. Each tar is a shard of its own.

    Raises:
        InputError: if the manifest is missing, empty or no text, or `shard_size` is given for tars.

    Example:
        >>> _ = Path("three.txt").write_text("photo.jpg\\nmy_images/images/0001.png\\nmissing.jpg\\n")
        >>> manifest = open_manifest("three.txt", Path("found"), shard_size=2)
        >>> manifest.shards, [entry.name for entry in manifest.entries(1)]
        (2, ['missing.jpg'])
    """
    path = Path(source)
    if path.is_dir():
        tars = _tars_of_folder(path)
        if tars is None:
            return _list_of_folder(path, out, shard_size or SHARD_SIZE)
    elif _is_tar(source):
        tars = _tars_of_pattern(source)
    else:
        tars = _tars_of_list(path)
    if tars is None:
        return read_list(path, base=path.parent, shard_size=shard_size or SHARD_SIZE)
    if shard_size is not None:
        raise InputError(f"each tar of {source} is one shard; leave out --shard-size {shard_size}")
    return tars


@dataclass(frozen=True)
class ImageList:
    """A text file with one path per line, of which only the places where shards begin are in memory.

    Attributes:
        path, base: the file, and the folder that its lines are relative to.
        shard_size, lines: number of lines in a shard, and in all.
        starts: where shards begin, in bytes.
        digest: SHA-256 of the file.
        is_exact: blanks at the ends of a line belong to its path.
    """

    path: Path
    base: Path
    shard_size: int
    lines: int
    starts: array[int] = field(repr=False)
    digest: str
    is_exact: bool = False
    unit: str = "images"

    @property
    def shards(self) -> int:
        return len(self.starts)

    def size(self, shard: int) -> int:
        return min(self.shard_size, self.lines - shard * self.shard_size)

    def entries(self, shard: int) -> Iterator[Entry]:
        try:
            with self.path.open("rb") as file:
                file.seek(self.starts[shard])
                for line in itertools.islice(file, self.shard_size):
                    name = os.fsdecode(line.removesuffix(b"\n")) if self.is_exact else _name(line)
                    if name:
                        yield Entry(name, self.base / name)
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {reason(error)}") from error

    def describe(self) -> dict[str, object]:
        return {
            "name": printable(self.path.name),
            "lines": self.lines,
            "shards": self.shards,
            "shard_size": self.shard_size,
            "sha256": self.digest,
        }


@dataclass(frozen=True)
class TarShards:
    """Tar files in the layout of WebDataset; each is a shard, read from its beginning to its end.

    Attributes:
        names: the files as the manifest names them.
        base: the folder that these are relative to.
        name: name of the manifest.
    """

    names: tuple[str, ...]
    base: Path
    name: str
    unit: str = "tar files"

    @property
    def shards(self) -> int:
        return len(self.names)

    def size(self, shard: int) -> int:
        return 1

    def entries(self, shard: int) -> Iterator[Entry]:
        name = self.names[shard]
        path = self.base / name
        try:
            with tarfile.open(path, "r|*") as tar:
                for member in tar:
                    if member.isfile() and _is_image_name(member.name):
                        yield _of_member(tar, member, Entry(f"{name}/{member.name}", path / member.name))
                    tar.members.clear()  # type: ignore[attr-defined]  # or the memory would grow with the number of members
        except FileNotFoundError:
            yield Entry(name, path, error=f"{name} does not exist")
        except OSError as error:  # of the disk, not of the content
            raise UnreadableShardError(f"cannot read {name}: {reason(error)}") from error
        except (tarfile.TarError, EOFError, ValueError) as error:
            yield Entry(name, path, error=f"{name} is not a whole tar file ({reason(error)})")

    def describe(self) -> dict[str, object]:
        digest = hashlib.sha256("\n".join(self.names).encode("utf-8", "surrogateescape")).hexdigest()
        return {"name": printable(self.name), "tars": len(self.names), "shards": len(self.names), "sha256": digest}


def _of_member(tar: tarfile.TarFile, member: tarfile.TarInfo, entry: Entry) -> Entry:
    if member.size > _LARGEST:
        return entry._replace(error=f"{entry.name} has {member.size:,} bytes, more than {_LARGEST:,}")
    file = tar.extractfile(member)
    return entry._replace(content=file.read() if file else b"")


def _is_image_name(name: str) -> bool:
    base = name.rpartition("/")[2]
    return base.lower().endswith(IMAGE_SUFFIXES) and not is_hidden(base)


def read_list(path: Path, *, base: Path, shard_size: int, is_exact: bool = False) -> ImageList:
    """Read a text file with one path per line once, and return it with the places where its shards begin.

    Blank lines belong to shards, but name no image. Blanks at the ends of a line are dropped, unless `is_exact`.

    Raises:
        InputError: if the file cannot be read, is no text, or names no image.

    Example:
        >>> _ = Path("five.txt").write_text("a.jpg\\n" * 5)
        >>> read_list(Path("five.txt"), base=Path(), shard_size=2).starts.tolist()
        [0, 12, 24]
    """
    starts, lines, place, digest, is_empty = array("Q"), 0, 0, hashlib.sha256(), True
    try:
        with path.open("rb") as file:
            for block in iter(lambda: file.readlines(_BLOCK), []):
                text = b"".join(block)
                if b"\0" in text:
                    raise InputError(f"{path} is not a text file; --manifest takes a list with one path per line")
                digest.update(text)
                is_empty = is_empty and not text.strip()
                for line in block:
                    if lines % shard_size == 0:
                        starts.append(place)
                    lines += 1
                    place += len(line)
    except OSError as error:
        raise InputError(f"cannot read {path}: {reason(error)}") from error
    if is_empty:
        raise InputError(f"{path} names no image; expected one path per line")
    return ImageList(
        path, base, shard_size=shard_size, lines=lines, starts=starts, digest=digest.hexdigest(), is_exact=is_exact
    )


def _name(line: bytes) -> str:
    return os.fsdecode(line.removeprefix(_BOM).strip())


def _is_tar(name: str) -> bool:
    return name.lower().endswith(_TAR_SUFFIXES)


def _tars_of_list(path: Path) -> TarShards | None:
    """Return the tars that a text file lists, or None if its first line names none."""
    try:
        with path.open("rb") as file:
            head = file.read(_BLOCK)
            first = next((name for name in map(_name, head.splitlines()) if name), "")
            if b"\0" in head or not _is_tar(first):
                return None
            named = [name for name in map(_name, (head + file.read()).splitlines()) if name]
    except FileNotFoundError as error:
        raise InputError(
            f"{path} does not exist; --manifest takes a list of images (.txt), a folder, or tar files such as "
            "shard-{0000..0009}.tar"
        ) from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {reason(error)}") from error
    for name in named:
        if not _is_tar(name):
            raise InputError(f"{path} lists tar files, and {name}, which is not one; use a list for each kind")
    names = [tar for name in named for tar in expand_braces(name)]
    return TarShards(tuple(names), path.parent, path.name)


def _tars_of_pattern(source: str) -> TarShards:
    """Return the tars that a pattern with {0000..0009} or * stands for, or the only one."""
    if os.path.isfile(source):
        return TarShards((os.path.basename(source),), Path(source).parent, Path(source).name)
    names = expand_braces(source)
    if any(letter in source for letter in "*?["):
        names = sorted(match for name in names for match in glob.glob(name))
    if not any(os.path.exists(name) for name in names):
        raise InputError(f"{source} does not exist" if names == [source] else f"no tar file matches {source}")
    base = os.path.dirname(re.split(r"[{*?[]", source, maxsplit=1)[0])
    return TarShards(
        tuple(os.path.relpath(name, base or ".").replace(os.sep, "/") for name in names), Path(base), Path(source).name
    )


def expand_braces(pattern: str) -> list[str]:
    """Return what a shell makes of number ranges such as {0000..0009}: the zeros at the front are kept.

    Raises:
        InputError: if the pattern stands for more than a million names.

    Example:
        >>> expand_braces("train-{08..10}.tar")
        ['train-08.tar', 'train-09.tar', 'train-10.tar']
    """
    match = re.search(r"\{([0-9]{1,9})\.\.([0-9]{1,9})\}", pattern)
    if not match:
        return [pattern]
    first, last, width = int(match[1]), int(match[2]), len(match[1])
    if not 0 <= last - first < 10**6:
        raise InputError(f"{pattern}: expected a range such as {{0000..0009}}, of at most a million tar files")
    before, after = pattern[: match.start()], pattern[match.end() :]
    return [name for n in range(first, last + 1) for name in expand_braces(f"{before}{n:0{width}d}{after}")]


def _tars_of_folder(folder: Path) -> TarShards | None:
    """Return the tars of a folder, or None if it holds none, or images or folders as well."""
    names, folders = _listed(folder)
    tars = [name for name in names if _is_tar(name)]
    if not tars or folders or any(map(_is_image_name, names)):
        return None
    return TarShards(tuple(tars), folder, folder.name)


def _list_of_folder(folder: Path, out: Path, shard_size: int) -> ImageList:
    """Write the list of a folder's images to `out`, unless it is there, and return it.

    Raises:
        InputError: if the folder has no images, or other ones than when the list was written.
    """
    make_folder(out)
    there, digest = out / LIST_OF_FOLDER, hashlib.sha256()

    def write(file: BinaryIO) -> None:
        for name in images_below(folder):
            line = os.fsencode(name) + b"\n"
            digest.update(line)
            file.write(line)
        if not file.tell():
            raise InputError(f"no images in the folder {folder} or below it; looked for {', '.join(IMAGE_SUFFIXES)}")

    write_once(there, write)
    images = read_list(there, base=folder, shard_size=shard_size, is_exact=True)
    if images.digest != digest.hexdigest():
        raise InputError(
            f"{folder} has other images than those that {there} lists, with which {out} was begun; choose another --out, or "
            f"copy {there} into that folder, and pass the copy as --manifest"
        )
    return images


def images_below(folder: Path) -> Iterator[str]:
    """Yield the images of a folder and its subfolders, relative to it: those of each folder sorted, then its subfolders.

    The names of one folder at a time are in memory. No folder is read twice, so circular links do no harm.

    Raises:
        InputError: if a folder cannot be read, or the name of an image has a line break.

    Example:
        >>> list(images_below(Path("my_images")))[:2]
        ['images/0001.png', 'images/0002.png']
    """
    seen: set[tuple[int, int] | None] = set()
    waiting = [""]
    while waiting:
        here = waiting.pop()
        where = identity(folder / here)
        if where in seen:
            continue
        seen.add(where)
        names, folders = _listed(folder / here)
        for name in names:
            if name.lower().endswith(IMAGE_SUFFIXES) or sort_out([folder / here / name])[0]:
                if "\n" in name:
                    raise InputError(f"{folder / here / name}: its name has a line break; rename it")
                yield f"{here}{name}"
        waiting += [f"{here}{name}/" for name in reversed(folders)]


def _listed(folder: Path) -> tuple[list[str], list[str]]:
    """Return the sorted names of the files and of the folders in a folder, without hidden ones, pipes and devices."""
    names: list[str] = []
    folders: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_hidden(entry.name):
                    continue
                if entry.is_dir():
                    folders.append(entry.name)
                elif entry.is_file() or entry.is_symlink():  # a broken link is reported when it is read
                    names.append(entry.name)
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {reason(error)}") from error
    return sorted(names), sorted(folders)
