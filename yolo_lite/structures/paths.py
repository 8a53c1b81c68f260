"""Store many paths in little memory: each folder once, and all names in one array of bytes."""

from __future__ import annotations

import functools
import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Paths:
    """A sequence of paths, some of them perhaps None; a Path is created only on access.

    Attributes:
        folders: every folder once.
        folder: int32 [M], the position of each path's folder in `folders`; -1 for None.
        names: uint8, the file names in UTF-8, one after another.
        starts: int64 [M + 1], where each name begins in `names`; the last entry is the end of the last name.

    Example:
        >>> packer = PathPacker()
        >>> for path in (Path("set/1.jpg"), None, Path("set/2.jpg")):
        ...     packer.add(path)
        >>> paths = packer.paths()
        >>> len(paths), paths.at(1), paths.folders
        (3, None, ('set',))
    """

    folders: tuple[str, ...]
    folder: npt.NDArray[np.int32]
    names: npt.NDArray[np.uint8]
    starts: Positions

    def __len__(self) -> int:
        return len(self.folder)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Paths):
            return NotImplemented
        same = np.array_equal(self.starts, other.starts) and np.array_equal(self.names, other.names)
        return same and [*self._folders()] == [*other._folders()]

    def at(self, position: int) -> Path | None:
        """Return the path at a position, or None."""
        folder = int(self.folder[position])
        return None if folder < 0 else _path(self.folders[folder], self._name(position))

    def parts(self) -> Iterator[tuple[str, str]]:
        """Yield the folder and the name of each path as texts; both are empty for None."""
        for position, folder in enumerate(self.folder.tolist()):
            yield ("", "") if folder < 0 else (self.folders[folder], self._name(position))

    def take(self, positions: Positions) -> Paths:
        """Return the paths at the given positions, in the given order."""
        index, starts = ranges(self.starts, positions)
        return Paths(self.folders, self.folder[positions], self.names[index], starts)

    @classmethod
    def join(cls, several: Sequence[Paths]) -> Paths:
        """Return all paths of several sequences, one after another."""
        folders: dict[str, int] = {}
        parts = []
        for paths in several:
            table = [folders.setdefault(text, len(folders)) for text in paths.folders]
            parts.append(np.array([*table, -1], np.int32)[paths.folder])
        return cls(
            tuple(folders),
            np.concatenate(parts),
            np.concatenate([paths.names for paths in several]),
            join_starts([paths.starts for paths in several]),
        )

    def _folders(self) -> Iterator[str | None]:
        return (None if folder < 0 else self.folders[folder] for folder in self.folder.tolist())

    def _name(self, position: int) -> str:
        start, end = self.starts[position], self.starts[position + 1]
        return self.names[start:end].tobytes().decode("utf-8", "surrogatepass")


@functools.lru_cache(maxsize=16)  # the labels of a whole set are often in a single file
def _path(folder: str, name: str) -> Path:
    return Path(folder, name)


class PathPacker:
    """Collect paths one by one, without keeping the Path objects."""

    def __init__(self) -> None:
        self._folders: dict[str, int] = {}
        self._folder = array("i")
        self._names = bytearray()
        self._ends = array("q", [0])

    def add(self, path: Path | None) -> None:
        """Add a path or None."""
        if path is None:
            self._folder.append(-1)
        else:
            parent, name = os.path.split(path)
            self._folder.append(self._folders.setdefault(parent, len(self._folders)))
            self._names += name.encode("utf-8", "surrogatepass")  # this encodes any text that an annotation may contain
        self._ends.append(len(self._names))

    def paths(self) -> Paths:
        """Return the paths that were added."""
        return Paths(
            tuple(self._folders),
            np.array(self._folder, np.int32),
            names=np.frombuffer(bytes(self._names), np.uint8),
            starts=np.array(self._ends, np.int64),
        )


def ranges(starts: Positions, positions: Positions) -> tuple[Positions, Positions]:
    """Return the positions of all entries of the chosen groups, and where each of these groups then begins.

    Args:
        starts: int64 [M + 1], where each group of entries begins; the last is the end of the last group.
        positions: int64 [K], the chosen groups.

    Returns:
        The positions of the entries, int64, and the new starts, int64 [K + 1].

    Example:
        >>> index, starts = ranges(np.array([0, 2, 3, 6]), np.array([2, 0]))  # groups of 2, 1 and 3 entries
        >>> index.tolist(), starts.tolist()
        ([3, 4, 5, 0, 1], [0, 3, 5])
    """
    counts = (starts[1:] - starts[:-1])[positions]
    new = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return np.repeat(starts[positions] - new[:-1], counts) + np.arange(new[-1]), new


def join_starts(several: Sequence[Positions]) -> Positions:
    """Return where each group begins once the entries of several packs are concatenated.

    Example:
        >>> join_starts([np.array([0, 2, 3]), np.array([0, 4])]).tolist()
        [0, 2, 3, 7]
    """
    counts = np.concatenate([np.zeros(1, np.int64), *(starts[1:] - starts[:-1] for starts in several)])
    return np.cumsum(counts)
