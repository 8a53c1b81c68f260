"""Every setting is described once, and docs/settings.md says the same."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest

import yolo_lite
from yolo_lite.config.describe import choose, describe, every_setting, settings_page, value_of, written
from yolo_lite.config.resolve import Layer, config_to_dict, resolve, settings_layer
from yolo_lite.config.schema import Config
from yolo_lite.errors import InputError

PAGE = Path(yolo_lite.__file__).parents[1] / "docs" / "settings.md"


def test_the_page_is_current() -> None:
    """If this fails: yolo-lite config --markdown > docs/settings.md."""
    assert PAGE.read_text(encoding="utf-8") == settings_page()


def test_every_value_of_a_configuration_is_a_setting_with_help() -> None:
    plain = config_to_dict(Config())
    keys = [f"{head}.{name}" for head, part in plain.items() if isinstance(part, dict) for name in part]
    keys = [head for head, part in plain.items() if not isinstance(part, dict)] + keys
    assert sorted(keys) == sorted(setting.key for setting in every_setting())
    for setting in every_setting():
        assert setting.help, setting.key
        assert not setting.help.endswith("."), setting.key
        assert value_of(Config(), setting.key) == setting.default


def test_every_default_is_in_its_range() -> None:
    for setting in every_setting():
        values = setting.default if isinstance(setting.default, tuple) else (setting.default,)
        assert all(isinstance(value, str) or setting.low <= value <= setting.high for value in values), setting.key


def test_a_description_tells_value_default_range_help_and_origin() -> None:
    resolved = resolve([Layer("mine.yaml", {"train": {"weight_decay": 0.5}}), settings_layer({"augment.flip": 0})])
    assert describe(resolved, "train.weight_decay") == [
        "train.weight_decay: 0.5",
        "    weight decay of the weights of convolutions and linear layers",
        "    (default 0.05; number; at least 0; from: mine.yaml)",
    ]
    assert "from: --set" in describe(resolved, "augment.flip")[2]
    assert "from 0 to 1" in describe(resolved, "augment.flip")[2]
    assert "from: default" in describe(resolved, "train.epochs")[2]


def test_a_key_names_all_settings_a_section_or_one() -> None:
    assert len(choose()) == len(every_setting())
    assert {setting.key.partition(".")[0] for setting in choose("train")} == {"train"}
    assert [setting.key for setting in choose("train.lr")] == ["train.lr"]
    assert [setting.key for setting in choose("name")] == ["name"]


@pytest.mark.parametrize(("key", "near"), [("train.lrr", "train.lr"), ("trian", "train")])
def test_an_unknown_key_names_the_nearest(key: str, near: str) -> None:
    with pytest.raises(InputError, match=f"there is no setting '{key}'; did you mean '{near}'"):
        choose(key)


def test_values_are_written_as_in_a_file() -> None:
    assert [written(value) for value in (True, (1, 2), 0.25, "", "x" * 90)] == [
        "true",
        "[1, 2]",
        "0.25",
        '""',
        "x" * 57 + "...",
    ]


def test_ranges_are_said_only_where_there_are_any() -> None:
    ranges = {setting.key: setting.range for setting in every_setting()}
    assert ranges["train.optimizer"] == ""
    assert ranges["train.epochs"] == "at least 0"
    assert ranges["train.ema_decay"] == "from 0 to 1"
    assert all(math.isfinite(setting.low) for setting in every_setting() if setting.range)


def test_a_configuration_survives_the_way_through_a_file() -> None:
    changed = dataclasses.replace(Config(), name="other")
    assert resolve([Layer("x", config_to_dict(changed))]).config == changed
