"""List what folders hold: links are followed, hidden files passed over, and what is left out is named with the reason."""

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
)  # annotations and notes, which nobody takes for images
_LITTER = ("__MACOSX", "Thumbs.db", "desktop.ini")


def is_hidden(name: str) -> bool:
    """Say whether a file is none of the user's own: a dot file, as AppleDouble files are, or one of a file manager."""
    return name.startswith(".") or name in _LITTER


def is_apple_double(name: str) -> bool:
    """Say whether a file is what macOS puts beside another where a disk or archive has no place for its attributes."""
    return name.startswith("._")


def walk(folder: Path, most: float = math.inf) -> tuple[list[Path], list[Path]]:
    """Return all files and all folders below one, each sorted; hidden ones are passed over.

    Links to folders are followed after everything else, and no folder is read twice, so a link that leads back up ends
    there. A link to nowhere counts as a file, so that reading it names it.

    Args:
        folder: where to begin.
        most: about so many files are enough; then the rest is not looked at.

    Raises:
        InputError: naming a folder that may not be read.
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
    """Return what lies in a folder, sorted, without what is hidden.

    Raises:
        InputError: where it may not be read.
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
    """Say whether an entry is none of file, folder and link to nowhere: reading it could wait for ever."""
    return os.path.exists(entry.path) and not os.path.isfile(entry.path) and not os.path.isdir(entry.path)


def images_below(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the images of a folder and of those below it, sorted, and a note where other files are left out.

    Annotations and other text beside the images are not worth a note.
    """
    images, others = sort_out(walk(folder)[0])
    return images, left_out(folder, [path for path in others if path.suffix.lower() not in DATA_SUFFIXES])


def sort_out(files: Iterable[Path], by_content: Callable[[Path], bool] = is_image) -> tuple[list[Path], list[Path]]:
    """Divide files into images and others, in their order: by suffix, or `by_content` where that says nothing."""
    images: list[Path] = []
    others: list[Path] = []
    for file in files:
        suffix = file.suffix.lower()
        by_name = suffix in DATA_SUFFIXES or suffix in VIDEO_SUFFIXES or suffix in RAW_SUFFIXES
        (images if not by_name and by_content(file) else others).append(file)
    return images, others


def left_out(where: object, paths: Sequence[PurePath], *, folders: Sequence[PurePath] = ()) -> list[str]:
    """Say in a line how many files and folders are left out, and why; nothing where there are none."""
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
