"""Find the image that a name in an annotation file means, where the file's own name is spelled in another way.

Annotations travel: Windows writes back-slashes, web tools %20, macOS takes accents apart (NFD), cameras write .JPG, and
absolute paths are those of another machine. A name that is no file as it stands is read with these habits in mind. It
stands for an image only where exactly one fits, and where no other name means the same one.
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

_MOST_FILES = 300_000  # in a folder that is searched, such as a home folder with an annotation file in it
_MOST_COMPARED = 20_000  # names; more take seconds to compare with one that is not there
_SPLITS = frozenset(("train", "training", "val", "valid", "validation", "test", "testing"))


def find_images(
    names: Sequence[str], folders: Sequence[Path], *, roots: Sequence[Path] = ()
) -> tuple[list[Path], list[str]]:
    """Find the files of images.

    Args:
        names: as annotations have them; "/" or a back-slash between folders, perhaps absolute.
        folders: where names are looked up, the first that has the file wins.
        roots: further folders, searched last; a file that is found there is noted.

    Returns:
        A path for each name: the file, or where it should be; and a note where names were read in another way.
    """
    paths = {name: _exact(name, folders) for name in dict.fromkeys(names)}
    missing = [name for name, path in paths.items() if path is None]
    found = _meant(missing, folders, roots) if missing else {}
    taken = Counter(os.path.normpath(path) for path in (*paths.values(), *found.values()) if path and found)
    found = {name: path for name, path in found.items() if taken[os.path.normpath(path)] == 1}
    notes = []
    if found:
        name, path = next(iter(found.items()))
        what = counted(len(found), "image name differs from its file", plural="image names differ from their files")
        notes = [f"{what}: '{printable(name)}' was taken for {printable(str(path))}"]
    return [paths[name] or found.get(name) or _expected(name, folders) for name in names], notes


def likely_image(path: Path) -> str:
    """Return "; did you mean a/b.jpg?" for an image that is not there, or nothing where no file is like it."""
    folder = path.parent
    for _ in range(3):  # not from far above, which could be the whole disk
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
    """Return what two spellings of one name share: composed accents (NFC), and no difference of case."""
    return composed(name).casefold()


def composed(name: str) -> str:
    """Return a name with accents composed (NFC), as most systems write them; macOS takes them apart (NFD)."""
    return unicodedata.normalize("NFC", name)


def variants(name: str) -> Iterator[list[str]]:
    """Yield the parts of a path as it may have been meant: with back-slashes as separators, without %20 and the like."""
    for text in dict.fromkeys((name.replace("\\", "/"), unquote(name).replace("\\", "/"))):
        yield [part for part in text.split("/") if part not in ("", ".")]


def _exact(name: str, folders: Sequence[Path]) -> Path | None:
    return next((folder / name for folder in folders if is_file(folder / name)), None)


def _meant(names: Sequence[str], folders: Sequence[Path], roots: Sequence[Path]) -> dict[str, Path]:
    """Return, by name, the one file that each name can mean."""
    found = {}
    index: dict[str, list[tuple[Path, tuple[str, ...]]]] = {}
    for folder in dict.fromkeys((*folders, *roots)):
        for path in _files(folder, _MOST_FILES):
            index.setdefault(spelling(path.name), []).append((folder, path.relative_to(folder).parts))
    for name in names:
        for parts in variants(name):
            places = [folder.joinpath(*parts) for folder in (*folders, *roots)] if ".." not in parts else []
            file = next((place for place in places if is_file(place)), None) or _best(parts, index, folders[:1])
            if file:
                found[name] = file
                break
    return found


def _best(
    parts: Sequence[str], index: dict[str, list[tuple[Path, tuple[str, ...]]]], own: Sequence[Path]
) -> Path | None:
    """Return the file whose path shares most with the end of a written path; None where there are several, or none.

    What is written must end in the whole path of the file below its folder, as the path of another machine does. For a
    file below the split's own folder it may be the other way round, as with a bare name.
    """
    fits: list[tuple[tuple[int, bool], Path]] = []  # how much is shared, and whether but for the suffix the names agree
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
    one = len(files) == 1 or len({os.path.realpath(file) for file in files}) == 1  # the folders may lie in one another
    return files[0] if one else None


def _digits(name: str) -> str:
    return "".join(filter(str.isdecimal, name))


def _without_suffix(name: str) -> str:
    return composed(PurePosixPath(name).stem)


def _expected(name: str, folders: Sequence[Path]) -> Path:
    """Return where an image should be that was not found: that of another machine's path would be in the first folder.

    What is there already belongs to another name.
    """
    path, inside = folders[0] / name, folders[0] / PureWindowsPath(name).name
    absolute = PureWindowsPath(name).is_absolute() or PurePosixPath(name).is_absolute()
    return inside if absolute and not _is_folder(path.parent) and not is_file(inside) else path


def _files(folder: Path, most: int) -> list[Path]:
    """Return the files below a folder; none where they are too many to tell which one is meant, or not to be read."""
    try:
        files = walk(folder, most)[0] if _is_folder(folder) else []
    except InputError:
        return []
    return files if len(files) < most else []


def is_file(path: Path) -> bool:
    """Say whether there is a file, also of a path that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long for a file name, or with a zero byte
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
