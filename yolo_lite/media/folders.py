"""List the contents of folders: links are followed, hidden files are skipped, and all other omissions are reported."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePath

from yolo_lite.errors import InputError, counted, printable, reason, some
from yolo_lite.media.images import RAW_SUFFIXES, is_image

VIDEO_SUFFIXES = (
    *(".mp4", ".webm", ".avi", ".mov", ".mkv", ".m4v", ".mpg", ".mpeg", ".wmv", ".ts", ".mts", ".m2ts", ".3gp", ".flv"),
    *(".ogv", ".asf", ".vob"),
)
DATA_SUFFIXES = frozenset(
    (
        *(".txt", ".xml", ".json", ".yaml", ".yml", ".csv", ".md", ".cache", ".npy", ".npz", ".names", ".html", ".log"),
        *(".py", ".zip", ".tar", ".gz"),
    )
)  # annotations and notes, never mistaken for images
_LITTER = ("__MACOSX", "Thumbs.db", "desktop.ini")


def is_hidden(name: str) -> bool:
    """Return whether a name is that of a dot file (AppleDouble files included) or of a file manager's own file.

    Example:
        >>> is_hidden(".cache"), is_hidden("Thumbs.db"), is_hidden("photo.jpg")
        (True, True, False)
    """
    return name.startswith(".") or name in _LITTER


def is_apple_double(name: str) -> bool:
    """Return whether a name is that of an AppleDouble file.

    macOS stores a file's attributes in one if the disk or archive has no place for them.

    Example:
        >>> is_apple_double("._photo.jpg"), is_apple_double("photo.jpg")
        (True, False)
    """
    return name.startswith("._")


def walk(folder: Path, most: float = math.inf) -> tuple[list[Path], list[Path]]:
    """Return all files and all folders below a folder, both sorted and without hidden ones.

    Links to folders are followed last, and no folder is read twice, so circular links do no harm. A broken link counts
    as a file, so that it is reported when it is read.

    Args:
        folder: the folder to begin with.
        most: the number of files after which the search stops; the last folder is still listed completely.

    Raises:
        InputError: if a folder cannot be read; the message names it.

    Example:
        >>> files, folders = walk(Path("my_classes/val"))
        >>> len(files), [folder.name for folder in folders]
        (4, ['disc', 'square'])
    """
    files: list[Path] = []
    folders: list[Path] = []
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    links: list[Path] = []
    while (waiting or links) and len(files) < most:
        here = waiting.pop() if waiting else links.pop(0)
        if _identity(here) in seen:
            continue
        seen.add(_identity(here))
        if here != folder:
            folders.append(here)
        for entry in _entries(here):
            path = here / entry.name
            if not (path.is_dir() if entry.is_symlink() else entry.is_dir()):
                files.append(path)
            elif entry.is_symlink():
                links.append(path)
            else:
                waiting.append(path)
    return sorted(files), sorted(folders)


def listed(folder: Path) -> list[Path]:
    """Return the files and folders directly in a folder, sorted and without hidden ones.

    Raises:
        InputError: if the folder cannot be read.

    Example:
        >>> [path.name for path in listed(Path("my_images"))]
        ['annotations', 'images']
    """
    return [folder / entry.name for entry in _entries(folder)]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            shown = (entry for entry in entries if not is_hidden(entry.name) and not _is_pipe_or_device(entry))
            return sorted(shown, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {reason(error)}") from error


def _is_pipe_or_device(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is neither a file, a folder nor a broken link: reading it could block for ever."""
    return os.path.exists(entry.path) and not os.path.isfile(entry.path) and not os.path.isdir(entry.path)


def images_below(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the images of a folder and its subfolders, sorted, and a list with a note if other files are left out.

    Annotations and other text files are left out without a note.

    Example:
        >>> images, notes = images_below(Path("my_images"))
        >>> len(images), notes
        (9, [])
    """
    images, others = sort_out(walk(folder)[0])
    return images, left_out(folder, [path for path in others if path.suffix.lower() not in DATA_SUFFIXES])


def sort_out(files: Iterable[Path], by_content: Callable[[Path], bool] = is_image) -> tuple[list[Path], list[Path]]:
    """Divide files into images and others, in their order: by suffix, or `by_content` if the suffix is unknown.

    Example:
        >>> images, others = sort_out([Path("photo.jpg"), Path("labels.txt"), Path("holiday.mp4")])
        >>> [path.name for path in images], [path.name for path in others]
        (['photo.jpg'], ['labels.txt', 'holiday.mp4'])
    """
    images: list[Path] = []
    others: list[Path] = []
    for file in files:
        suffix = file.suffix.lower()
        by_name = suffix in DATA_SUFFIXES or suffix in VIDEO_SUFFIXES or suffix in RAW_SUFFIXES
        (images if not by_name and by_content(file) else others).append(file)
    return images, others


def left_out(where: object, paths: Sequence[PurePath], *, folders: Sequence[PurePath] = ()) -> list[str]:
    """Return a list with one line on how many files and folders are left out, and why; empty if there are none.

    Example:
        >>> left_out("holidays", [Path("a.mp4"), Path("b.mp4"), Path("c.nef")])
        ['left out of holidays: 2 videos (a.mp4, b.mp4), 1 camera raw file (c.nef)']
    """
    kinds: dict[tuple[str, str], list[str]] = {}
    for path in paths:
        kinds.setdefault(_KINDS[_kind(path)], []).append(printable(path.name))
    if folders:
        kinds[_KINDS["folder"]] = [printable(path.name) for path in folders]
    parts = [f"{counted(len(names), noun, plural=plural)} ({some(names)})" for (noun, plural), names in kinds.items()]
    return [f"left out of {where}: {', '.join(parts)}"] if parts else []


def _kind(path: PurePath) -> str:
    suffix = path.suffix.lower()
    if suffix in VIDEO_SUFFIXES:
        return "video"
    return "raw" if suffix in RAW_SUFFIXES else "other"


_KINDS: Mapping[str, tuple[str, str]] = {
    "video": ("video", "videos"),
    "raw": ("camera raw file", "camera raw files"),
    "other": ("file that cannot be read as an image", "files that cannot be read as images"),
    "folder": ("sub-folder", "sub-folders"),
}


def _identity(folder: Path) -> tuple[int, int]:
    try:
        status = folder.stat()
    except OSError as error:
        raise InputError(f"cannot read the folder {folder}: {reason(error)}") from error
    return status.st_dev, status.st_ino
