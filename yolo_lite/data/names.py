"""Find the image that a name in an annotation file refers to, even if the file's own name is spelled differently.

Annotations travel: Windows writes back-slashes, web tools %20, macOS decomposes accents (NFD), cameras write .JPG, and
absolute paths are those of another machine. A name that is not a file as it stands is read with these habits in mind.
It refers to an image only if exactly one fits, and no other name refers to the same one.
"""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import unquote

from yolo_lite.errors import InputError, counted, printable
from yolo_lite.media.folders import walk

_MOST_FILES = 300_000  # in a folder to search, which may be a home folder with an annotation file in it
_MOST_COMPARED = 20_000  # names; comparing a missing name with more takes seconds
_SPLITS = frozenset(("train", "training", "val", "valid", "validation", "test", "testing"))


def find_images(
    names: Sequence[str], folders: Sequence[Path], *, roots: Sequence[Path] = ()
) -> tuple[list[Path], list[str]]:
    """Find the files of images.

    Args:
        names: names as written in annotations, with "/" or back-slashes between folders, perhaps absolute.
        folders: where to look names up; the first folder that has the file wins.
        roots: further folders, searched last; a note reports a file found there.

    Returns:
        A path for each name (the file, or where it should be), and a note if names had to be interpreted.

    Example:
        >>> paths, notes = find_images(["C:/cats/0001.PNG"], [Path("my_images/images")])
        >>> paths[0].as_posix()
        'my_images/images/0001.png'
        >>> notes
        ["1 image name differs from its file: 'C:/cats/0001.PNG' was taken for my_images/images/0001.png"]
    """
    paths = {name: _exact(name, folders) for name in dict.fromkeys(names)}
    missing = [name for name, path in paths.items() if path is None]
    matches = _meant(missing, folders, roots) if missing else {}
    taken = Counter(os.path.normpath(path) for path in (*paths.values(), *matches.values()) if path and matches)
    matches = {name: path for name, path in matches.items() if taken[os.path.normpath(path)] == 1}
    notes = []
    if matches:
        name, path = next(iter(matches.items()))
        what = counted(len(matches), "image name differs from its file", plural="image names differ from their files")
        notes = [f"{what}: '{printable(name)}' was taken for {printable(str(path))}"]
    return [paths[name] or matches.get(name) or _expected(name, folders) for name in names], notes


def likely_image(path: Path) -> str:
    """Return "; did you mean a/b.jpg?" for a missing image, or "" if no file has a similar name.

    Example:
        >>> likely_image(Path("my_images/images/0001.jpg"))
        '; did you mean my_images/images/0001.png?'
    """
    folder = path.parent
    for _ in range(3):  # no further up: that could be the whole disk
        if _is_folder(folder):
            break
        folder = folder.parent
    files = [] if folder == folder.parent else _files(folder, _MOST_FILES)
    name = PurePosixPath(PureWindowsPath(unquote(path.name)).name)
    same = [file for file in files if spelling(file.name) == spelling(name.name)]
    same = same or [file for file in files if spelling(file.stem) == spelling(name.stem)]
    if not same:
        by_name = {file.name: file for file in files if _digits(file.name) == _digits(name.name)}  # 7.jpg is not 8.jpg
        close = difflib.get_close_matches(name.name, list(by_name)[:_MOST_COMPARED], 1, 0.8)
        same = [by_name[other] for other in close]
    return f"; did you mean {' or '.join(printable(str(file)) for file in same[:3])}?" if same else ""


def spelling(name: str) -> str:
    """Return a form that is equal for all spellings of a name: accents composed (NFC), case folded.

    Example:
        >>> spelling("Café.JPG") == spelling("CAFÉ.jpg")
        True
    """
    return composed(name).casefold()


def composed(name: str) -> str:
    """Return a name with accents composed (NFC), as most systems write them; macOS decomposes them (NFD).

    Example:
        >>> composed("e" + chr(0x301)) == "é"
        True
    """
    return unicodedata.normalize("NFC", name)


def variants(name: str) -> Iterator[list[str]]:
    """Yield the parts of a path as it may have been meant: back-slashes as separators, then %20 and the like decoded.

    Example:
        >>> list(variants("cats/a%20b.jpg"))
        [['cats', 'a%20b.jpg'], ['cats', 'a b.jpg']]
    """
    for text in dict.fromkeys((name.replace("\\", "/"), unquote(name).replace("\\", "/"))):
        yield [part for part in text.split("/") if part not in ("", ".")]


def _exact(name: str, folders: Sequence[Path]) -> Path | None:
    return next((folder / name for folder in folders if is_file(folder / name)), None)


def _meant(names: Sequence[str], folders: Sequence[Path], roots: Sequence[Path]) -> dict[str, Path]:
    """Return, by name, the one file that each name can refer to."""
    matches = {}
    index: dict[str, list[tuple[Path, tuple[str, ...]]]] = {}
    for folder in dict.fromkeys((*folders, *roots)):
        for path in _files(folder, _MOST_FILES):
            index.setdefault(spelling(path.name), []).append((folder, path.relative_to(folder).parts))
    for name in names:
        for parts in variants(name):
            places = [folder.joinpath(*parts) for folder in (*folders, *roots)] if ".." not in parts else []
            file = next((place for place in places if is_file(place)), None) or _best(parts, index, folders[:1])
            if file:
                matches[name] = file
                break
    return matches


def _best(
    parts: Sequence[str], index: dict[str, list[tuple[Path, tuple[str, ...]]]], own: Sequence[Path]
) -> Path | None:
    """Return the file whose path shares most with the end of a written path; None if there is no best one.

    The written path must end in the file's whole path below its folder, as a path from another machine does. Below the
    split's own folder it may be shorter than the file's path, as a bare name is.
    """
    fits: list[tuple[tuple[int, bool], Path]] = []  # number of shared parts, whether names agree but for the suffix
    written = [spelling(part) for part in parts]
    for folder, relative in index.get(written[-1] if written else "", ()):
        ends = [spelling(part) for part in relative]
        count = min(len(ends), len(written))
        deeper = folder in own and not _SPLITS & set(ends[:-1])
        if ends[-count:] != written[-count:] or (count < len(ends) and not deeper):
            continue
        alike = (count, _without_suffix(relative[-1]) == _without_suffix(parts[-1]))
        fits.append((alike, folder.joinpath(*relative)))
    best = max((alike for alike, _ in fits), default=None)
    files = [file for alike, file in fits if alike == best]
    unique = len(files) == 1 or len({os.path.realpath(file) for file in files}) == 1  # one folder may lie in another
    return files[0] if unique else None


def _digits(name: str) -> str:
    return "".join(filter(str.isdecimal, name))


def _without_suffix(name: str) -> str:
    return composed(PurePosixPath(name).stem)


def _expected(name: str, folders: Sequence[Path]) -> Path:
    """Return where a missing image should be; for a path from another machine, in the first folder.

    A file already there belongs to another name.
    """
    path, inside = folders[0] / name, folders[0] / PureWindowsPath(name).name
    absolute = PureWindowsPath(name).is_absolute() or PurePosixPath(name).is_absolute()
    return inside if absolute and not _is_folder(path.parent) and not is_file(inside) else path


def _files(folder: Path, most: int) -> list[Path]:
    """Return the files below a folder; none if they cannot be read, or are too many to search."""
    try:
        files = walk(folder, most)[0] if _is_folder(folder) else []
    except InputError:
        return []
    return files if len(files) < most else []


def is_file(path: Path) -> bool:
    """Return whether a path is a file; False also for a path that no file can have.

    Example:
        >>> is_file(Path("photo.jpg")), is_file(Path("a" * 5000))
        (True, False)
    """
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long for a file name, or with a zero byte
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
