"""Read YAML files and KEY=VALUE settings as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from yolo_lite.config.schema import MOST_ENTRIES
from yolo_lite.errors import InputError, reason, short
from yolo_lite.files import read_text

_MOST_YAML = 2**22  # characters in a file, and in its content once all aliases are written out


def parse_setting(text: str) -> tuple[str, object]:
    """Split a text such as "train.lr=0.002" into a key and a value, which is read as YAML.

    Raises:
        InputError: if there is no "=", or the value is not YAML.

    Example:
        >>> parse_setting("train.milestones=[60, 80]")
        ('train.milestones', [60, 80])
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--set expects KEY=VALUE such as train.lr=0.002, got {text!r}")
    try:
        return key.strip(), _load(value)
    except _NOT_YAML as error:
        raise InputError(f"--set {short(text)[1:-1]}: {short(value)} is not a YAML value") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that contains a mapping; an empty file gives an empty mapping.

    Values under `names` and `classes`, at any depth, are read as text. YAML 1.1 would turn the class names no, 010 and
    12:30 into False, 8 and 750.

    Raises:
        InputError: if the file is missing, too large, not YAML, or contains no mapping.

    Example:
        >>> _ = Path("classes.yaml").write_text("names: [yes, no]")
        >>> read_yaml(Path("classes.yaml"))
        {'names': ['yes', 'no']}
    """
    if path.is_file() and path.stat().st_size > _MOST_YAML:
        raise InputError(f"{path} is larger than any configuration or list of names ({_MOST_YAML >> 20} MiB)")
    text = read_text(path)
    try:
        values = _load(text)
    except _NOT_YAML as error:
        mark = getattr(error, "problem_mark", None)
        why = "it is nested too deeply" if isinstance(error, RecursionError) else reason(error)[:100]
        raise InputError(f"{path} is not valid YAML ({f'line {mark.line + 1}' if mark else why})") from error
    if values is not None and not isinstance(values, dict):
        raise InputError(f"{path} must hold 'key: value' lines, got {type(values).__name__}")
    return values or {}


_TEXT_KEYS = ("names", "classes")
_NOT_YAML = (  # PyYAML raises more than its own error: for dates such as 2020-13-45, numbers such as 0x_, deep nesting
    yaml.YAMLError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with a limit on "<<" merges, which could grow exponentially from a few lines."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge the mappings that "<<" names into a mapping."""
        merged = [value for key, value in node.value if key.tag == "tag:yaml.org,2002:merge"]
        if any(len(value.value) > MOST_ENTRIES for value in merged):
            raise yaml.YAMLError("too much is merged")
        super().flatten_mapping(node)
        if merged and len(node.value) > MOST_ENTRIES:
            raise yaml.YAMLError("too much is merged")


def _load(text: str) -> Any:
    """Read YAML with class names as text; raise an error of _NOT_YAML, also if aliases make the content too large."""
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _keep_names_as_text(root, set())
        values = loader.construct_document(root)
    finally:
        loader.dispose()
    if _written_out(values, {}) > _MOST_YAML:
        raise ValueError("its aliases refer to each other too often")
    return values


def _keep_names_as_text(node: yaml.Node, seen: set[int]) -> None:
    """Give every plain value in the lists and mappings under `_TEXT_KEYS` the tag of text."""
    if id(node) in seen:  # an alias, perhaps of an enclosing node
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _keep_names_as_text(item, seen)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value in _TEXT_KEYS and not isinstance(value, yaml.ScalarNode):
                for item in value.value:
                    name = item[1] if isinstance(item, tuple) else item
                    if isinstance(name, yaml.ScalarNode):
                        name.tag = "tag:yaml.org,2002:str"
            _keep_names_as_text(value, seen)


def _written_out(value: Any, sizes: dict[int, float]) -> float:
    """Return the approximate number of characters with all aliases written out; infinite if a value contains itself."""
    if id(value) in sizes:
        return sizes[id(value)]
    if isinstance(value, Mapping | list | tuple | set):
        sizes[id(value)] = math.inf  # if it is met again before its size is known, it contains itself
        parts = (part for pair in value.items() for part in pair) if isinstance(value, Mapping) else iter(value)
        sizes[id(value)] = 1 + sum(_written_out(part, sizes) for part in parts)
        return sizes[id(value)]
    return 1 + len(value) if isinstance(value, str | bytes) else 1
