"""What the entries of a data set's own files mean: paths, class names, names of splits, sets that are joined."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from yolo_lite.config.read import read_yaml
from yolo_lite.errors import InputError, is_text, short, some
from yolo_lite.files import is_possible_path

SPLITS = ("train", "val", "test")
_SYNONYMS = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
_LONGEST_NAME = 1000  # characters


class MissingError(InputError):
    """A place that a data set names does not exist."""


def canonical_split(name: str) -> str:
    """Return train, val or test for the many names these go by, such as valid, validation or val2017."""
    plain = re.sub(r"[_-]?\d{4}$", "", name.lower())
    return _SYNONYMS.get(plain, plain)


def locate(file: Path, text: str) -> Path:
    """Return what a path in a YAML file means: relative to the file, then to the working folder, $VARIABLES expanded.

    Raises:
        InputError: where neither exists.
    """
    expanded = os.path.expandvars(os.path.expanduser(text))
    if "$" in expanded:
        raise InputError(f"{file}: {text!r} uses a variable that is not set in the environment")
    if not is_possible_path(expanded):
        raise InputError(f"{file}: {short(text)} is no path of a file or folder")
    tried = [file.parent / expanded, Path(expanded)]
    for path in tried:
        if path.exists():
            return path
    raise MissingError(f"{file}: {text!r} does not exist; tried {tried[0]} and {tried[1].absolute()}")


def check_names(names: Any, file: Path, *, key: str) -> list[str]:
    """Return the class names under a key of a YAML file; raise InputError where they are no list of texts."""
    if not isinstance(names, list) or not names:
        raise InputError(f"{file}: {key} must be a list of class names, got {short(names)}")
    for number, name in enumerate(names, 1):
        if not isinstance(name, str) or not name.strip() or not is_text(name) or len(name) > _LONGEST_NAME:
            raise InputError(f"{file}: entry {number} of {key} must be a class name, got {short(name)}")
    return names


class Joined(NamedTuple):
    """A YAML file that joins sets by class name.

    Attributes:
        file: itself.
        classes: only these, in this order; None: all.
        splits: the sets of each split as they are written: a path, or a mapping of options.
    """

    file: Path
    classes: Sequence[str] | None
    splits: Mapping[str, Sequence[Any]]

    def sets(self, split: str) -> Sequence[Any]:
        """Return the sets of a split as they are written; raise InputError where there are none."""
        if not self.splits[split]:
            raise InputError(f"{self.file}: {split!r} names no set")
        return self.splits[split]

    def options(self, split: str, entry: Any, *, key: str, others: Sequence[str]) -> dict[str, Any]:
        """Return the options of a set, of which a path alone is the one called `key`.

        Raises:
            InputError: where that one is missing, or there are others than these.
        """
        options = dict(entry) if isinstance(entry, Mapping) else {key: entry}
        if set(options) - {key, *others} or key not in options:
            known = ", ".join(f"{name}:" for name in (key, *others))
            raise InputError(f"{self.file}: a set in {split!r} is a path or {{{known}}}, got {short(entry)}")
        return options


def joins_sets(path: Path) -> bool:
    """Say whether a path is a YAML file that joins sets; one with `names` describes a set of its own."""
    return path.suffix in (".yaml", ".yml") and "names" not in read_yaml(path)


def read_joined(file: Path) -> Joined:
    """Read a YAML file that joins sets.

    Raises:
        InputError: where it has other keys than `classes` and names of splits, two for one split, or no split.
    """
    values = read_yaml(file)
    unknown = [key for key in values if canonical_split(str(key)) not in SPLITS and key != "classes"]
    if unknown:
        raise InputError(
            f"{file}: unknown key {short(unknown[0])}; expected train, val, test, classes, or names for YOLO txt"
        )
    classes = values.pop("classes", None)
    if not values:
        raise InputError(f"{file} names no set; expected train:, val: or test: and folders, archives or JSON files")
    if classes is not None and classes != []:
        classes = check_names(classes, file, key="classes")
    splits: dict[str, Sequence[Any]] = {}
    for key, entries in values.items():
        split = canonical_split(str(key))
        if split in splits:
            raise InputError(f"{file} has two entries for the split {split!r}: {some([short(key) for key in values])}")
        splits[split] = entries if isinstance(entries, list) else [] if entries is None else [entries]
    return Joined(file, classes or None, splits)
