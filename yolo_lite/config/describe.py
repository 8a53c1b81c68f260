"""Say what each setting is: its value, default, range, meaning and origin; the page docs/settings.md is made of it."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from yolo_lite.config.resolve import Resolved
from yolo_lite.config.schema import Config
from yolo_lite.errors import InputError, suggest

_KINDS = {int: "whole number", float: "number", str: "text", bool: "true or false"}
_LONG = 1e5  # a highest value above it is there to catch mistakes, and is not worth a word


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        key: such as train.lr.
        kind: the type of its value, in words.
        default: its only default.
        low, high: the range of its numbers; infinite where there is no limit.
        help: what it does.
    """

    key: str
    kind: str
    default: Any
    low: float
    high: float
    help: str

    @property
    def range(self) -> str:
        """The range in words, such as "from 0 to 1"; empty where there is none."""
        if math.isinf(self.low):
            return ""
        return f"at least {self.low:g}" if self.high > _LONG else f"from {self.low:g} to {self.high:g}"


def every_setting() -> list[Setting]:
    """Return all settings in the order of the sections."""
    types = typing.get_type_hints(Config)
    settings = []
    for item in dataclasses.fields(Config):
        if not dataclasses.is_dataclass(types[item.name]):
            settings.append(_setting(item, types[item.name], ""))
            continue
        section = types[item.name]
        kinds = typing.get_type_hints(section)
        settings += [_setting(part, kinds[part.name], f"{item.name}.") for part in dataclasses.fields(section)]
    return settings


def choose(key: str = "") -> list[Setting]:
    """Return the settings that a key names: all, those of a section, or one.

    Raises:
        InputError: where there is no such key, naming the nearest.
    """
    every = every_setting()
    chosen = [one for one in every if not key or one.key == key or one.key.startswith(f"{key}.")]
    if not chosen:
        sections = dict.fromkeys(one.key.partition(".")[0] for one in every)
        raise InputError(f"there is no setting {key!r}; {suggest(key, [*sections, *(one.key for one in every)])}")
    return chosen


def value_of(config: Config, key: str) -> Any:
    """Return the value of a setting by its key."""
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name)
    return value


def describe(resolved: Resolved, key: str = "") -> list[str]:
    """Return lines about the settings that a key names, each with its value, default, range, help and origin.

    Raises:
        InputError: where there is no such key.
    """
    lines = []
    for one in choose(key):
        origin = resolved.origins.get(one.key, "default")
        facts = [f"default {written(one.default)}", one.kind, one.range, f"from: {origin}"]
        lines.append(f"{one.key}: {written(value_of(resolved.config, one.key))}")
        lines.append(f"    {one.help}")
        lines.append(f"    ({'; '.join(fact for fact in facts if fact)})")
    return lines


def written(value: Any) -> str:
    """Return a value as one writes it in a YAML file, a long text cut."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    return (text if len(text) <= 60 else f"{text[:57]}...") or '""'


def settings_page() -> str:
    """Return docs/settings.md: every setting in a table for each section."""
    lines = [
        "# Settings",
        "",
        "This page lists every setting of a run with its default. Set one with `--set train.lr=0.002`, or several in a "
        "YAML file that you pass to `--config`. `yolo-lite config` prints the value of each setting and where it comes "
        "from. A setting can come from five places; the later ones win: the defaults, the recipe of the task, the weights, "
        "the file, and the flags.",
        "",
        "This page is printed by `yolo-lite config --markdown`.",
    ]
    section = None
    for one in every_setting():
        head, _, name = one.key.rpartition(".")
        if head != section:
            section = head
            lines += ["", f"## {head or 'the run'}", "", *_section_doc(head), *_TABLE_HEAD]
        kind = one.kind + (f", {one.range}" if one.range else "")
        lines.append(f"| `{name}` | {_cell(written(one.default))} | {kind} | {_cell(one.help)} |")
    return "\n".join(lines) + "\n"


_TABLE_HEAD = ("| setting | default | value | meaning |", "|---|---|---|---|")


def _section_doc(name: str) -> list[str]:
    section = typing.get_type_hints(Config).get(name)
    first = (section.__doc__ or "").strip().splitlines()[0] if section else ""
    return [first, ""] if first else []


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _setting(item: dataclasses.Field[Any], kind: Any, prefix: str) -> Setting:
    return Setting(
        f"{prefix}{item.name}",
        _kind_in_words(kind),
        default=item.default,
        low=item.metadata.get("minimum", -math.inf),
        high=item.metadata.get("maximum", math.inf),
        help=item.metadata["help"],
    )


def _kind_in_words(kind: Any) -> str:
    inner: Sequence[Any] = typing.get_args(kind)
    if not inner:
        return _KINDS[kind]
    plural = "true or false" if inner[0] is bool else f"{_KINDS[inner[0]]}s"
    return f"list of {plural}" if inner[-1] is ... else f"{len(inner)} {plural}"
