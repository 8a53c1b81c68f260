"""Read Darknet's .cfg files: a list of sections, each a layer whose input is usually the layer before it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from yolo_lite.errors import InputError, short

OUTPUTS = ("detection", "region", "yolo")  # sections that explain the output of the layer before them
_MOST_NUMBER = 1_000_000  # the largest number allowed in a .cfg file
_MOST_SECTIONS = 2000


class CfgError(InputError):
    """A fault in a .cfg file. The network sees only the file's text; a caller that knows the path puts it in front."""


@dataclass(frozen=True)
class Section:
    """A section [name] of a .cfg file with its options.

    Attributes:
        name: in lower case.
        line: number of its first line, counted from 1.
        options: by key, as written.
    """

    name: str
    line: int
    options: Mapping[str, str] = field(default_factory=dict)

    def number(
        self, key: str, default: int | None = None, *, minimum: int = -_MOST_NUMBER, maximum: int = _MOST_NUMBER
    ) -> int:
        """Return an option as a whole number; raise CfgError if it is missing without a default, no such number, or out of bounds.

        Example:
            >>> Section("net", line=1, options={"width": "416"}).number("width")
            416
        """
        text = self.options.get(key)
        if text is None and default is not None:
            return default
        try:
            value = int(text or "")
        except ValueError as error:
            raise self.error(f"{key} must be a whole number, got {short(text)}") from error
        if value < minimum:
            raise self.error(f"{key} must be at least {minimum:,}, got {short(value)}")
        if value > maximum:
            raise self.error(f"{key} must be at most {maximum:,}, got {short(value)}")
        return value

    def real(self, key: str, default: float) -> float:
        """Return an option as a number; raise CfgError if it is not one or out of bounds.

        Example:
            >>> Section("yolo", line=9, options={}).real("scale_x_y", default=1.0)
            1.0
        """
        text = self.options.get(key, str(default))
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not abs(value) <= _MOST_NUMBER:
            raise self.error(f"{key} must be a number, got {short(text)}")
        return value

    def numbers(self, key: str) -> list[float]:
        """Return an option as a list of numbers, which commas separate; empty if the key is missing.

        Example:
            >>> Section("yolo", line=9, options={"anchors": "10,14, 23,27"}).numbers("anchors")
            [10.0, 14.0, 23.0, 27.0]
        """
        text = self.options.get(key, "")
        try:
            values = [float(part) for part in text.split(",") if part.strip()]
        except ValueError as error:
            raise self.error(f"{key} must be numbers with commas between them, got {short(text)}") from error
        if not all(abs(value) <= _MOST_NUMBER for value in values):
            raise self.error(f"{key} must be numbers of at most {_MOST_NUMBER:,}, got {short(text)}")
        if len(values) > _MOST_NUMBER:
            raise self.error(f"{key} has {len(values):,} numbers")
        return values

    def error(self, what: str) -> CfgError:
        """Return an error that names the section and its line."""
        return CfgError(f"the cfg's [{short(self.name)[1:-1]}] at line {self.line}: {what}")


def parse_cfg(text: str) -> list[Section]:
    """Split a .cfg file into sections, the first of which is [net].

    Raises:
        CfgError: if a line is neither a [section], key=value, a comment (# or ;) nor empty; it names the line.

    Example:
        >>> [section.name for section in parse_cfg("[net]\\nwidth=416\\n[convolutional]\\nfilters=16")]
        ['net', 'convolutional']
    """
    sections: list[Section] = []
    options: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#")[0].split(";")[0].strip()
        if not line:
            continue
        if line.startswith("[") and line.endswith("]"):
            options = {}
            sections.append(Section(line[1:-1].strip().lower(), number, options))
        elif "=" in line and sections:
            key, value = line.split("=", 1)
            options[key.strip()] = value.strip()
        else:
            raise CfgError(f"the cfg's line {number} is neither a [section] nor key=value: {line[:60]!r}")
    if not sections or sections[0].name not in ("net", "network"):
        raise CfgError("the cfg does not begin with a [net] section; is it a Darknet file?")
    if len(sections) > _MOST_SECTIONS:
        raise CfgError(f"the cfg has {len(sections):,} sections, more than {_MOST_SECTIONS:,}")
    return sections
