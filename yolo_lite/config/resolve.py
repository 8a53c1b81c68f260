"""Merge layers of plain values, and build a configuration from them."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_lite.checks import check_tiles
from yolo_lite.config.read import parse_setting, read_yaml
from yolo_lite.config.schema import MOST_ENTRIES, NO_AUGMENTATION, RESIZES, TASK_NAMES, Config, check_image_size
from yolo_lite.errors import InputError, short, some

_MOST_TEXT, _MOST_CFG = 4096, 2**20  # characters in a setting, and in a .cfg file of Darknet


def read_config(path: Path | None) -> Config:
    """Return the defaults, overridden by a YAML file if one is given.

    Raises:
        InputError: if the file is missing or not YAML, a key is unknown (the message names the most similar one), or a
            value has the wrong type or range.

    Example:
        >>> _ = Path("slow.yaml").write_text("train: {lr: 0.0001}")
        >>> read_config(Path("slow.yaml")).train.lr
        0.0001
    """
    return Config() if path is None else config_from_dict(read_yaml(path), str(path))


def override_config(config: Config, settings: Mapping[str, object] | Iterable[str]) -> Config:
    """Return the configuration with changed settings, such as {"train.lr": 0.002} or ["train.lr=0.002"].

    Raises:
        InputError: if a key is unknown, or a value has the wrong type or range.

    Example:
        >>> override_config(Config(), {"train.epochs": 5}).train.epochs
        5
    """
    return resolve([Layer("configuration", config_to_dict(config)), settings_layer(settings)]).config


@dataclass(frozen=True)
class Layer:
    """Settings from one place.

    Attributes:
        origin: the name of the place in messages and in `yolo-lite config`, such as a file or "--set".
        values: nested plain values; absent keys are not set by this layer.
    """

    origin: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Resolved:
    """A configuration, and the origin of each value by key; a key without an origin has its default."""

    config: Config
    origins: Mapping[str, str]


def resolve(layers: Sequence[Layer]) -> Resolved:
    """Apply layers of settings to the defaults, in order, so that the last layer wins.

    Raises:
        InputError: if a key is unknown, or a value has the wrong type or range; the message names origin and key.

    Example:
        >>> resolve([Layer("a.yaml", {"train": {"lr": 0.1}}), Layer("--set", {"train": {"lr": 0.2}})]).origins
        {'train.lr': '--set'}
    """
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        values = dict(layer.values)
        if "augment" in values and values["augment"] in ("none", None):
            values["augment"] = NO_AUGMENTATION
        _build(Config, values, prefix="", source=layer.origin)
        for key, value in _flat(values):
            section, _, name = key.rpartition(".")
            (merged.setdefault(section, {}) if section else merged)[name] = value
            origins[key] = layer.origin
    classifier = merged.get("classifier", {}).get("model", "none") != "none"
    merged.setdefault("task", "classify" if classifier else "detect")  # configurations of version 0.1 have no task
    config: Config = _build(Config, merged, prefix="", source="configuration")
    _check_together(config, layers[-1].origin if layers else "configuration")
    return Resolved(config, origins)


def settings_layer(settings: Mapping[str, object] | Iterable[str], origin: str = "--set") -> Layer:
    """Return settings as a layer; they are given by key, {"train.lr": 0.002}, or as texts, ["train.lr=0.002"].

    Raises:
        InputError: if a text is not KEY=VALUE, or a key treats a single value as a section.

    Example:
        >>> settings_layer(["train.lr=0.002"]).values
        {'train': {'lr': 0.002}}
    """
    pairs = settings.items() if isinstance(settings, Mapping) else [parse_setting(text) for text in settings]
    values: dict[str, Any] = {}
    for key, value in pairs:
        *sections, last = key.split(".")
        target = values
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise InputError(f"{origin} {key}: {section!r} is a single value, not a section")
        if isinstance(value, Mapping) and isinstance(target.get(last), dict):
            target[last].update(value)
        else:
            target[last] = dict(value) if isinstance(value, Mapping) else value
    return Layer(origin, values)


def check_settings(settings: Mapping[str, object] | None, keys: Sequence[str] = ()) -> dict[str, Any]:
    """Return settings by key as a new dictionary.

    Args:
        settings: values by key, or None.
        keys: the keys, or names of sections, that are allowed here; empty: all.

    Raises:
        InputError: if the settings are not a dictionary with text keys, or a key is not allowed.

    Example:
        >>> check_settings({"train.epochs": 50}, keys=["train"])
        {'train.epochs': 50}
    """
    if settings is not None and not isinstance(settings, Mapping):
        raise InputError(f"settings must be a dictionary such as {{'train.epochs': 50}}, got {short(settings)}")
    for key in settings or ():
        if not isinstance(key, str):
            raise InputError(f"settings must have keys such as 'train.epochs', got {key!r}")
        if keys and key not in keys and key.partition(".")[0] not in keys:
            raise InputError(f"the setting {key} has no effect here; known: {some(keys)}")
    return dict(settings or {})


def config_from_dict(values: Mapping[str, Any], source: str) -> Config:
    """Build a configuration from nested plain values; absent keys take their defaults.

    Raises:
        InputError: if a key is unknown, or a value has the wrong type or range; the message names `source` and the key.

    Example:
        >>> config_from_dict({"train": {"epoch": 5}}, "my.yaml")
        Traceback (most recent call last):
        yolo_lite.errors.InputError: my.yaml: unknown key 'train.epoch'; did you mean 'train.epochs'?
    """
    return resolve([Layer(source, values)]).config


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value by its key, such as train.lr."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _check_together(config: Config, source: str) -> None:
    """Raise InputError for values that are valid by themselves but not in combination."""
    if config.task not in TASK_NAMES:
        raise InputError(f"{source}: 'task' must be {' or '.join(TASK_NAMES)}, got {short(config.task)}")
    if (config.task == "classify") != (config.classifier.model != "none"):
        need = "a network in 'classifier.model'" if config.task == "classify" else "'task: classify'"
        raise InputError(
            f"{source}: task {config.task} with 'classifier.model: {config.classifier.model}' needs {need}"
        )
    if config.task == "detect":
        check_image_size(config.input.image_size)
        if config.input.channels != 3:
            raise InputError(f"{source}: 'input.channels' of a detector must be 3, got {config.input.channels}")
    if config.input.channels == 2:
        raise InputError(f"{source}: 'input.channels' must be 1 or 3, got 2")
    if config.input.resize not in RESIZES:
        raise InputError(f"{source}: 'input.resize' must be one of {', '.join(RESIZES)}, got {config.input.resize!r}")
    for tiles in filter(None, (config.evaluate.tiles, config.evaluate.tile)):
        check_tiles(tiles)
    if config.evaluate.tiles and config.evaluate.tile:
        raise InputError(f"{source}: 'evaluate.tiles' and 'evaluate.tile' exclude each other; leave one out")
    low, high = config.augment.scale
    if low > high:
        raise InputError(
            f"{source}: 'augment.scale' must be the lowest and the highest factor, got {low:g} and {high:g}"
        )


def config_to_dict(config: Config) -> dict[str, Any]:
    """Return nested dictionaries of plain values that `config_from_dict` turns back into the same configuration.

    Example:
        >>> config_to_dict(Config())["pretrain"]
        {'crops': 0, 'image_size': [96, 96], 'batch_size': 64, 'lr': 0.002}
    """
    return _plain(dataclasses.asdict(config))  # type: ignore[no-any-return]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _build(cls: type, values: Any, *, prefix: str, source: str) -> Any:
    if not isinstance(values, Mapping):
        raise InputError(
            f"{source}: {prefix.rstrip('.') or 'the file'!r} must be a section of keys, got {short(values)}"
        )
    fields = {item.name: item for item in dataclasses.fields(cls)}
    types = typing.get_type_hints(cls)
    arguments = {}
    for key, value in values.items():
        if key not in fields:
            name = key if isinstance(key, str) and len(key) <= 80 else short(key)
            raise InputError(f"{source}: unknown key '{prefix}{name}'{_suggestion(name, prefix)}")
        if dataclasses.is_dataclass(types[key]):
            arguments[key] = _build(typing.cast(type, types[key]), value, prefix=f"{prefix}{key}.", source=source)
        else:
            arguments[key] = _convert(value, types[key], key=f"{prefix}{key}", source=source)
            _check_range(arguments[key], fields[key], key=f"{prefix}{key}", source=source)
    return cls(**arguments)


def _suggestion(key: str, prefix: str) -> str:
    names = [f"{item.name}" for item in dataclasses.fields(Config)]
    for section in dataclasses.fields(Config):
        if dataclasses.is_dataclass(section.default_factory):
            names += [f"{section.name}.{item.name}" for item in dataclasses.fields(section.default_factory)]
    near = difflib.get_close_matches(f"{prefix}{key}", names, n=1, cutoff=0.6)
    near = near or [name for name in names if name.split(".")[-1] == key][:1]
    siblings = [name for name in names if name.rpartition(".")[0] == prefix.rstrip(".")]
    return f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(siblings)}"


def _convert(value: Any, expected: Any, *, key: str, source: str) -> Any:
    origin, inner = typing.get_origin(expected), typing.get_args(expected)
    if isinstance(value, Mapping):
        raise InputError(f"{source}: {key!r} is a single value, not a section")
    if hasattr(value, "tolist"):  # a number or an array of NumPy or torch
        value = value.tolist()
    if expected is str and isinstance(value, os.PathLike):
        value = os.fspath(value)
    if origin is tuple:
        if key.endswith(".image_size") and isinstance(value, int):
            value = (value, value)
        if isinstance(value, set | frozenset):
            value = sorted(value)  # their own order differs from run to run
        if not isinstance(value, list | tuple) or (inner[-1] is not ... and len(value) != len(inner)):
            count = "" if inner[-1] is ... else f"{len(inner)} "
            raise InputError(f"{source}: '{key}' must be a list of {count}{_PLURALS[inner[0]]}, got {short(value)}")
        if len(value) > MOST_ENTRIES:
            raise InputError(f"{source}: '{key}' has {len(value):,} entries, more than {MOST_ENTRIES:,}")
        if None in value:
            raise InputError(f"{source}: '{key}' must be a list of {_PLURALS[inner[0]]}, got {short(value)}")
        return tuple(_convert(item, inner[0], key=key, source=source) for item in value)
    if expected is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-3 as text
        except (ValueError, OverflowError):
            pass
    if expected is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if expected is str and value is None:
        return "none"
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        raise InputError(f"{source}: '{key}' must be {_NOUNS[expected]}, got {short(value)}")
    most = _MOST_CFG if key == "model.darknet" else _MOST_TEXT
    if isinstance(value, str) and len(value) > most:
        raise InputError(f"{source}: '{key}' has {len(value):,} characters, more than {most:,}")
    return value


_NOUNS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
_PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}


def _check_range(value: Any, item: dataclasses.Field[Any], *, key: str, source: str) -> None:
    low, high = item.metadata.get("minimum", -math.inf), item.metadata.get("maximum", math.inf)
    for number in value if isinstance(value, tuple) else (value,):
        if not isinstance(number, int | float):
            continue
        if not low <= number <= high:
            large = high > MOST_ENTRIES  # a limit that only a mistake exceeds
            bounds = f"at least {low:g}" if large and number < low else f"from {low:g} to {high:,}"
            bounds = f"at least {low:g}" if high == math.inf else bounds
            bounds = "a number" if low == -math.inf else bounds
            raise InputError(f"{source}: '{key}' must be {bounds}, got {short(number)}")
        if math.isinf(number):
            raise InputError(f"{source}: '{key}' must be finite, got {number}")
