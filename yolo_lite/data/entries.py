"""Interpret the entries of a data set's own files: paths, class names, split names, and lists of sets to join."""

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
    """A file or folder that a data set refers to does not exist."""


def canonical_split(name: str) -> str:
    """Return train, val or test for any of the usual names of a split, such as valid, validation or val2017.

    Example:
        >>> canonical_split("val2017"), canonical_split("valid"), canonical_split("training")
        ('val', 'val', 'train')
    """
    plain = re.sub(r"[_-]?\d{4}$", "", name.lower())
    return _SYNONYMS.get(plain, plain)


def locate(file: Path, text: str) -> Path:
    """Return the file or folder that a path in a YAML file refers to.

    The path is looked up relative to the YAML file, then to the working folder; `~` and $VARIABLES are expanded.

    Args:
        file: the YAML file.
        text: the path as written there.

    Raises:
        InputError: if neither exists, or a variable is not set.

    Example:
        >>> locate(Path("sets.yaml"), "my_images").name
        'my_images'
    """
    expanded = os.path.expandvars(os.path.expanduser(text))
    if "$" in expanded:
        raise InputError(
            f"{file}: {text!r} uses a variable that is not set in the environment; set it or write the path"
        )
    if not is_possible_path(expanded):
        raise InputError(f"{file}: {short(text)} cannot be the path of a file or folder")
    tried = [file.parent / expanded, Path(expanded)]
    for path in tried:
        if path.exists():
            return path
    raise MissingError(f"{file}: {text!r} does not exist; tried {tried[0]} and {tried[1].absolute()}")


def check_names(names: Any, file: Path, *, key: str) -> list[str]:
    """Return the class names under a key of a YAML file; raise InputError if they are not a list of texts.

    Example:
        >>> check_names(["cat", "dog"], Path("data.yaml"), key="names")
        ['cat', 'dog']
    """
    if not isinstance(names, list) or not names:
        raise InputError(f"{file}: {key} must be a list of class names, got {short(names)}")
    for number, name in enumerate(names, 1):
        if not isinstance(name, str) or not name.strip() or not is_text(name) or len(name) > _LONGEST_NAME:
            raise InputError(f"{file}: entry {number} of {key} must be a class name, got {short(name)}")
    return names


class Joined(NamedTuple):
    """The content of a YAML file that joins sets by class name.

    Attributes:
        file: the YAML file.
        classes: the classes to keep, in this order; None for all.
        splits: the entries of each split as written, each a path or a mapping of options.
    """

    file: Path
    classes: Sequence[str] | None
    splits: Mapping[str, Sequence[Any]]

    def sets(self, split: str) -> Sequence[Any]:
        """Return the entries of a split as written; raise InputError if there are none."""
        if not self.splits[split]:
            raise InputError(f"{self.file}: {split!r} names no set")
        return self.splits[split]

    def options(self, split: str, entry: Any, *, key: str, others: Sequence[str]) -> dict[str, Any]:
        """Return the options of one entry; a path alone is short for the mapping {key: path}.

        Raises:
            InputError: if the option `key` is missing, or there is an option besides it and `others`.

        Example:
            >>> joined = Joined(Path("sets.yaml"), None, {"train": ["my_images"]})
            >>> joined.options("train", "my_images", key="data", others=["split"])
            {'data': 'my_images'}
        """
        options = dict(entry) if isinstance(entry, Mapping) else {key: entry}
        if set(options) - {key, *others} or key not in options:
            known = ", ".join(f"{name}:" for name in (key, *others))
            raise InputError(f"{self.file}: a set in {split!r} is a path or {{{known}}}, got {short(entry)}")
        return options


def joins_sets(path: Path) -> bool:
    """Return whether a path is a YAML file that joins sets; one with `names` describes a single set.

    Example:
        >>> _ = Path("sets.yaml").write_text("train: my_images")
        >>> joins_sets(Path("sets.yaml")), joins_sets(Path("my_images"))
        (True, False)
    """
    return path.suffix in (".yaml", ".yml") and "names" not in read_yaml(path)


def read_joined(file: Path) -> Joined:
    """Read a YAML file that joins sets.

    Raises:
        InputError: if a key is neither `classes` nor a split, if two keys mean the same split, or if there is no split.

    Example:
        >>> _ = Path("joined.yaml").write_text("{classes: [disc], train: my_images}")
        >>> joined = read_joined(Path("joined.yaml"))
        >>> joined.classes, joined.sets("train")
        (['disc'], ['my_images'])
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
