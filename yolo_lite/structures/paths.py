"""Many paths in little memory: folders once, names one after the other as bytes."""

from __future__ import annotations

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
    """Paths by position, some perhaps None; a Path is made when it is asked for.

    Attributes:
        folders: every folder once.
        folder: int32 [M], position of each path's folder among them; -1 for None.
        names: uint8, the names of all files, in UTF-8.
        starts: int64 [M + 1], where in `names` each begins, and the end.
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
        """Return the path at a position."""
        folder = int(self.folder[position])
        return None if folder < 0 else Path(self.folders[folder], self._name(position))

    def parts(self) -> Iterator[tuple[str, str]]:
        """Yield the folder and the name of each path as texts, two empty ones for None."""
        for position, folder in enumerate(self.folder.tolist()):
            yield ("", "") if folder < 0 else (self.folders[folder], self._name(position))

    def take(self, positions: Positions) -> Paths:
        """Return the paths at some positions, in that order."""
        index, starts = ranges(self.starts, positions)
        return Paths(self.folders, self.folder[positions], self.names[index], starts)

    @classmethod
    def join(cls, several: Sequence[Paths]) -> Paths:
        """Return the paths of all, one after the other."""
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


class PathPacker:
    """Takes paths one by one, and keeps none of them."""

    def __init__(self) -> None:
        self._folders: dict[str, int] = {}
        self._folder = array("i")
        self._names = bytearray()
        self._ends = array("q", [0])

    def add(self, path: Path | None) -> None:
        """Take in a path."""
        if path is None:
            self._folder.append(-1)
        else:
            parent, name = os.path.split(path)
            self._folder.append(self._folders.setdefault(parent, len(self._folders)))
            self._names += name.encode("utf-8", "surrogatepass")  # which takes whatever text an annotation holds
        self._ends.append(len(self._names))

    def paths(self) -> Paths:
        """Return what was taken in."""
        return Paths(
            tuple(self._folders),
            np.array(self._folder, np.int32),
            names=np.frombuffer(bytes(self._names), np.uint8),
            starts=np.array(self._ends, np.int64),
        )


def ranges(starts: Positions, positions: Positions) -> tuple[Positions, Positions]:
    """Return the positions of the entries of some groups, and where each of these groups begins among them.

    Args:
        starts: int64 [M + 1], where each group of entries begins, and the end.
        positions: int64 [K], of groups.
    """
    counts = (starts[1:] - starts[:-1])[positions]
    new = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return np.repeat(starts[positions] - new[:-1], counts) + np.arange(new[-1]), new


def join_starts(several: Sequence[Positions]) -> Positions:
    """Return where the groups of several packs begin once their entries lie one after the other."""
    counts = np.concatenate([np.zeros(1, np.int64), *(starts[1:] - starts[:-1] for starts in several)])
    return np.cumsum(counts)
