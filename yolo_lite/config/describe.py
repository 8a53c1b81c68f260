"""Describe each setting: its value, default, range, meaning and origin. The page docs/settings.md is generated here."""

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
_LONG = 1e5  # a limit above this only catches mistakes, and is not mentioned


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        key: the name with its section, such as train.lr.
        kind: the type of its value, in words.
        default: the value if nothing else sets it.
        low, high: the range of its numbers; infinite if there is no limit.
        help: its meaning.
    """

    key: str
    kind: str
    default: Any
    low: float
    high: float
    help: str

    @property
    def range(self) -> str:
        """The range in words, such as "from 0 to 1"; empty if there is none."""
        if math.isinf(self.low):
            return ""
        return f"at least {self.low:g}" if self.high > _LONG else f"from {self.low:g} to {self.high:g}"


def every_setting() -> list[Setting]:
    """Return all settings in the order of the sections.

    Example:
        >>> [setting.key for setting in every_setting()][:3]
        ['task', 'name', 'data.path']
    """
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
    """Return the setting with a key, or the settings of a section, or all settings if the key is empty.

    Raises:
        InputError: if there is no such key; the message names the most similar one.

    Example:
        >>> [setting.key for setting in choose("pretrain")]
        ['pretrain.crops', 'pretrain.image_size', 'pretrain.batch_size', 'pretrain.lr']
    """
    every = every_setting()
    chosen = [item for item in every if not key or item.key == key or item.key.startswith(f"{key}.")]
    if not chosen:
        sections = dict.fromkeys(item.key.partition(".")[0] for item in every)
        raise InputError(f"there is no setting {key!r}; {suggest(key, [*sections, *(item.key for item in every)])}")
    return chosen


def value_of(config: Config, key: str) -> Any:
    """Return the value of the setting with a key.

    Example:
        >>> value_of(Config(), "train.batch_size")
        16
    """
    value: Any = config
    for name in key.split("."):
        value = getattr(value, name)
    return value


def describe(resolved: Resolved, key: str = "") -> list[str]:
    """Return three lines for each setting that `choose` finds: value, help, and default, type, range and origin.

    Raises:
        InputError: if there is no such key.

    Example:
        >>> print(*describe(Resolved(Config(), {}), "train.weight_decay"), sep=chr(10))
        train.weight_decay: 0.05
            weight decay of the weights of convolutions and linear layers
            (default 0.05; number; at least 0; from: default)
    """
    lines = []
    for setting in choose(key):
        origin = resolved.origins.get(setting.key, "default")
        facts = [f"default {written(setting.default)}", setting.kind, setting.range, f"from: {origin}"]
        lines.append(f"{setting.key}: {written(value_of(resolved.config, setting.key))}")
        lines.append(f"    {setting.help}")
        lines.append(f"    ({'; '.join(fact for fact in facts if fact)})")
    return lines


def written(value: Any) -> str:
    """Return a value as it is written in a YAML file; a long text is cut.

    Example:
        >>> written((320, 320)), written(False), written("")
        ('[320, 320]', 'false', '""')
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(written, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
    text = str(value)
    return (text if len(text) <= 60 else f"{text[:57]}...") or '""'


def settings_page() -> str:
    """Return the text of docs/settings.md, with a table of settings for each section.

    Example:
        >>> settings_page().splitlines()[0]
        '# Settings'
    """
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
    for setting in every_setting():
        head, _, name = setting.key.rpartition(".")
        if head != section:
            section = head
            lines += ["", f"## {head or 'the run'}", "", *_section_doc(head), *_TABLE_HEAD]
        kind = setting.kind + (f", {setting.range}" if setting.range else "")
        lines.append(f"| `{name}` | {_cell(written(setting.default))} | {kind} | {_cell(setting.help)} |")
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
