"""Settings: what is read, what is refused with which words, and that nothing is evaluated."""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from yolo_lite.config.read import read_yaml
from yolo_lite.config.resolve import config_from_dict, config_to_dict, override_config, read_config
from yolo_lite.config.schema import Config, check_image_size
from yolo_lite.errors import InputError

ROOT = Path(__file__).parents[2]


def _write(folder: Path, text: str, name: str = "run.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


# What is read


def test_values_of_a_file_replace_the_defaults_and_the_rest_stays(tmp_path: Path) -> None:
    config = read_config(_write(tmp_path, "train: {epochs: 3, lr: 0.01}\ninput: {resize: stretch}\n"))
    assert config.train == dataclasses.replace(Config().train, epochs=3, lr=0.01)
    assert config.input == dataclasses.replace(Config().input, resize="stretch")
    assert (config.model, config.augment, config.loss) == (Config().model, Config().augment, Config().loss)


def test_no_file_and_an_empty_file_give_the_defaults(tmp_path: Path) -> None:
    assert read_config(None) == Config()
    assert read_config(_write(tmp_path, "")) == Config()
    assert read_config(_write(tmp_path, "# nothing but a comment\n")) == Config()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("1e-3", 0.001, id="1e-3, which YAML reads as text"),
        pytest.param("'2e-4'", 0.0002, id="quoted"),
        pytest.param("1", 1.0, id="whole number"),
        pytest.param("0.5", 0.5, id="decimal"),
        pytest.param("0", 0.0, id="the lower end"),
    ],
)
def test_a_number_is_read_as_float(tmp_path: Path, text: str, expected: float) -> None:
    lr = read_config(_write(tmp_path, f"train:\n  lr: {text}\n")).train.lr
    assert type(lr) is float
    assert lr == expected
    assert override_config(Config(), [f"train.lr={text}"]).train.lr == expected


def test_a_whole_float_is_read_as_int() -> None:
    epochs = config_from_dict({"train": {"epochs": 3.0}}, "test").train.epochs
    assert type(epochs) is int
    assert epochs == 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(416, (416, 416), id="one number"),
        pytest.param([320, 416], (320, 416), id="height and width"),
        pytest.param((32, 64), (32, 64), id="tuple"),
    ],
)
def test_image_size_is_a_number_or_a_pair(value: Any, expected: tuple[int, int]) -> None:
    assert config_from_dict({"input": {"image_size": value}}, "test").input.image_size == expected


@pytest.mark.parametrize("text", ["augment: none", "augment:", "augment: null", "augment: 'none'"])
def test_augment_none_switches_every_change_off(tmp_path: Path, text: str) -> None:
    augment = read_config(_write(tmp_path, text + "\n")).augment
    for name in ("mosaic", "translate", "flip", "hue", "saturation", "value"):
        assert getattr(augment, name) == 0, name
    assert augment.scale == (1, 1)
    assert override_config(Config(), ["augment=none"]).augment == augment


@pytest.mark.parametrize("preset", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_can_be_read(preset: Path) -> None:
    assert isinstance(read_config(preset), Config)


# Overrides


def test_overrides_come_after_the_file_and_the_last_one_wins(tmp_path: Path) -> None:
    path = _write(tmp_path, "train: {epochs: 3, lr: 0.01}\n")
    overrides = ["train.epochs=5", "name=mine", "train.epochs=7", "model.widths=[8, 16, 32, 64]"]
    config = override_config(read_config(path), overrides)
    assert (config.train.epochs, config.train.lr, config.name) == (7, 0.01, "mine")
    assert config.model.widths == (8, 16, 32, 64)


def test_an_override_of_a_value_may_hold_an_equals_sign() -> None:
    assert override_config(Config(), ["name=a=b"]).name == "a=b"


def test_overrides_may_be_a_mapping() -> None:
    texts = ["train.lr=0.5", "name=mine", "input.image_size=64"]
    settings = {"train.lr": 0.5, "name": "mine", "input.image_size": 64}
    assert override_config(Config(), settings) == override_config(Config(), texts)
    assert settings == {"train.lr": 0.5, "name": "mine", "input.image_size": 64}


def test_override_does_not_modify_the_configuration_it_is_given() -> None:
    config = Config()
    override_config(config, ["train.lr=0.5", "augment=none"])
    assert config == Config()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        pytest.param("train.lr", "KEY=VALUE such as train.lr=0.002, got 'train.lr'", id="no equals sign"),
        pytest.param("train.lrr=1", "unknown key 'train.lrr'; did you mean 'train.lr'?", id="unknown key"),
        pytest.param("lr=1", "unknown key 'lr'; did you mean 'train.lr'?", id="section forgotten"),
        pytest.param("trian.lr=1", "unknown key 'trian'; did you mean 'train'?", id="unknown section"),
        pytest.param("train.lr.x=1", "'train.lr' is a single value, not a section", id="too deep"),
        pytest.param("train=5", "'train' must be a section of keys, got 5", id="a section set to a value"),
        pytest.param("train.lr=fast", "'train.lr' must be a number, got 'fast'", id="text for a number"),
        pytest.param("train.lr=[1", "is not a YAML value", id="not YAML"),
        pytest.param("train.epochs=2024-13-45", "train.epochs", id="an impossible date"),
        pytest.param(
            "train.epochs=1.5", "'train.epochs' must be a whole number, got 1.5", id="a fraction for a whole number"
        ),
        pytest.param("=5", "unknown key ''", id="no key"),
    ],
)
def test_an_override_is_refused(override: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        override_config(Config(), [override])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# What is refused


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param({"train": {"lrr": 1}}, "unknown key 'train.lrr'; did you mean 'train.lr'?", id="misspelt"),
        pytest.param({"trian": {}}, "unknown key 'trian'; did you mean 'train'?", id="misspelt section"),
        pytest.param(
            {"image_size": 320}, "unknown key 'image_size'; did you mean 'input.image_size'?", id="no section"
        ),
        pytest.param({"loss": {"zzzzqq": 1}}, "unknown key 'loss.zzzzqq'; known: loss.assigner", id="nothing near"),
        pytest.param({1: 2}, "unknown key '1'", id="number as key"),
        pytest.param({"train": 5}, "'train' must be a section of keys, got 5", id="value for a section"),
        pytest.param({"train": None}, "'train' must be a section of keys", id="empty section"),
        pytest.param({"augment": "strong"}, "'augment' must be a section of keys, got 'strong'", id="unknown augment"),
        pytest.param({"train": {"lr": "fast"}}, "'train.lr' must be a number, got 'fast'", id="text for float"),
        pytest.param({"train": {"lr": True}}, "'train.lr' must be a number, got True", id="truth for float"),
        pytest.param({"train": {"lr": None}}, "'train.lr' must be a number, got None", id="nothing for float"),
        pytest.param(
            {"train": {"epochs": True}}, "'train.epochs' must be a whole number, got True", id="truth for int"
        ),
        pytest.param(
            {"train": {"epochs": "ten"}}, "'train.epochs' must be a whole number, got 'ten'", id="text for int"
        ),
        pytest.param(
            {"train": {"epochs": 1.5}}, "'train.epochs' must be a whole number, got 1.5", id="fraction for int"
        ),
        pytest.param({"name": 5}, "'name' must be a text, got 5", id="number for text"),
        pytest.param({"model": {"widths": 32}}, "'model.widths' must be a list of whole numbers, got 32", id="no list"),
        pytest.param(
            {"model": {"widths": [8, "x"]}}, "'model.widths' must be a whole number, got 'x'", id="text in a list"
        ),
        pytest.param({"augment": {"scale": [1]}}, "'augment.scale' must be a list of 2 numbers", id="too short"),
        pytest.param({"input": {"mean": [1, 2]}}, "'input.mean' must be a list of 3 numbers", id="two of three"),
        pytest.param({"train": {"epochs": -1}}, "'train.epochs' must be at least 0, got -1", id="too small"),
        pytest.param({"train": {"lr": -2}}, "'train.lr' must be at least -1, got -2", id="negative"),
        pytest.param({"augment": {"flip": 1.5}}, "'augment.flip' must be from 0 to 1, got 1.5", id="above 1"),
        pytest.param({"augment": {"hue": 0.6}}, "'augment.hue' must be from 0 to 0.5, got 0.6", id="hue"),
        pytest.param({"train": {"lr": float("nan")}}, "'train.lr' must be at least -1, got nan", id="NaN"),
        pytest.param({"train": {"lr": float("inf")}}, "'train.lr'", id="infinite"),
        pytest.param({"input": {"mean": [float("nan")] * 3}}, "'input.mean'", id="NaN in the mean"),
        pytest.param({"input": {"std": [0, 1, 1]}}, "'input.std' must be at least 1e-06, got 0", id="zero deviation"),
        pytest.param({"augment": {"scale": [1.5, 0.5]}}, "'augment.scale'", id="range upside down"),
        pytest.param({"input": {"image_size": [320, 300]}}, "must be multiples of 32, got 320 x 300", id="not of 32"),
        pytest.param(
            {"input": {"resize": "crop"}},
            "'input.resize' must be one of letterbox, corner, stretch, got 'crop'",
            id="resize",
        ),
        pytest.param(
            {"input": {"image_size": [320]}}, "'input.image_size' must be a list of 2 whole numbers", id="one side"
        ),
        pytest.param({"input": {"image_size": True}}, "'input.image_size'", id="truth for a size"),
        pytest.param({"input": {"image_size": 0}}, "'input.image_size' must be at least 1, got 0", id="no size"),
    ],
)
def test_a_value_is_refused_with_its_key_and_its_source(values: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        config_from_dict(values, "my.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    if "multiples" not in message:
        assert str(caught.value).startswith("my.yaml: ")


@pytest.mark.parametrize(
    ("size", "near"),
    [
        # 300 / 32 = 9.4, so 9 * 32 = 288; 330 / 32 = 10.3, so 320; 10 / 32 = 0.3, raised to 1
        pytest.param((300, 330), "288 320", id="between"),
        pytest.param((10, 32), "32 32", id="too small"),
        pytest.param((-32, 64), "32 64", id="negative"),
    ],
)
def test_check_image_size_names_the_nearest(size: tuple[int, int], near: str) -> None:
    with pytest.raises(InputError, match=f"try {near}$"):
        check_image_size(size)


def test_check_image_size_accepts_multiples_of_32() -> None:
    for side in range(32, 1400, 32):
        check_image_size((side, 320))


# Files


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("train:\n  lr: 1\n bad\n", 3, id="indentation"),
        pytest.param("train: {lr: 1\n", 2, id="bracket left open"),
        pytest.param("a: 1\nb: 'open\n", 3, id="quote left open"),
        pytest.param("train:\n\tlr: 1\n", 2, id="tab"),
    ],
)
def test_bad_yaml_names_file_and_line(tmp_path: Path, text: str, line: int) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_yaml(path)
    assert str(caught.value) == f"{path} is not valid YAML (line {line})"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("name: 2024-13-45\n", id="an impossible date"),
        pytest.param("name: " + "[" * 3000 + "\n", id="nested too deep"),
        pytest.param("? [1, 2]\n: 3\n", id="a list as key"),
    ],
)
def test_yaml_that_cannot_be_built_names_the_file(tmp_path: Path, text: str) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_config(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_no_text_names_itself(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xff\xfe\x00\x9f")
    with pytest.raises(InputError) as caught:
        read_yaml(path)
    assert str(caught.value) == f"{path}: line 1 is not UTF-8 text; save the file as UTF-8"


def test_a_missing_file_and_a_folder_name_themselves(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(InputError) as caught:
            read_config(path)
        assert f"cannot read {path}: " in str(caught.value)


@pytest.mark.parametrize("key", ["names", "classes"])
@pytest.mark.parametrize(
    "written",
    ["no, yes", "on, off", "010, 1_000", "12:30, 1:2:3", "null, ~", "1e3, 1.50", ".inf, .nan", "2024-05-01, 0x1F"],
)
def test_names_are_the_text_that_is_written(tmp_path: Path, key: str, written: str) -> None:
    """YAML 1.1 takes each of these for something else: False, 8, 750, None, 1.5, a date ..."""
    first, second = written.split(", ")
    for text in (
        f"[{written}]",
        f"\n  - {first}\n  - {second}",
        f"[{first}, '{second}']",
        f"['{first}', !!str {second}]",
    ):
        values = read_yaml(_write(tmp_path, f"sets:\n  - {{{key}: [{written}]}}\n{key}: {text}\nnc: 010\n"))
        assert values == {"sets": [{key: [first, second]}], key: [first, second], "nc": 8}
    assert read_yaml(_write(tmp_path, f"{key}: {{0: {first}, 1: {second}}}\n")) == {key: {0: first, 1: second}}


def test_names_that_are_not_given_stay_none(tmp_path: Path) -> None:
    assert read_yaml(_write(tmp_path, "classes:\nnames: ~\n")) == {"classes": None, "names": None}


def test_names_may_be_aliases_but_not_hold_themselves(tmp_path: Path) -> None:
    assert read_yaml(_write(tmp_path, "classes: &all [no, 010]\nnames: *all\n"))["names"] == ["no", "010"]
    with pytest.raises(InputError, match="refer to each other too often"):
        read_yaml(_write(tmp_path, "names: &all [no, *all]\n"))


@pytest.mark.parametrize(("text", "kind"), [("- a\n- b\n", "list"), ("hello\n", "str"), ("5\n", "int")])
def test_yaml_that_holds_no_mapping_is_refused(tmp_path: Path, text: str, kind: str) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        read_yaml(path)
    assert str(caught.value) == f"{path} must hold 'key: value' lines, got {kind}"


def test_an_unknown_key_in_a_file_names_the_file(tmp_path: Path) -> None:
    path = _write(tmp_path, "train: {lrr: 1}\n")
    with pytest.raises(InputError) as caught:
        read_config(path)
    assert str(caught.value) == f"{path}: unknown key 'train.lrr'; did you mean 'train.lr'?"


# Nothing is evaluated


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("!!python/object/apply:os.system ['touch TRAP']", id="a YAML tag that calls"),
        pytest.param("!!python/object/new:os.system ['touch TRAP']", id="a YAML tag that builds"),
        pytest.param("__import__('os').system('touch TRAP')", id="Python"),
        pytest.param("2 ** 3", id="arithmetic"),
    ],
)
def test_nothing_is_ever_evaluated(tmp_path: Path, value: str) -> None:
    trap = tmp_path / "sprung"
    text = value.replace("TRAP", str(trap))
    with pytest.raises(InputError):
        override_config(Config(), [f"train.epochs={text}"])
    with pytest.raises(InputError):
        read_config(_write(tmp_path, f"train:\n  epochs: {text}\n"))
    assert not trap.exists()


# Round trip


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param([], id="defaults"),
        pytest.param(["augment=none"], id="no augmentation"),
        pytest.param(["input.image_size=[320, 416]", "train.lr=1e-3", "model.widths=[8, 8]"], id="lists"),
        pytest.param(["name=x y", "train.seed=7", "loss.alpha=0.25", "augment.scale=[0.5, 2]"], id="several"),
    ],
)
def test_a_configuration_comes_back_from_its_dictionary_and_from_yaml(tmp_path: Path, overrides: list[str]) -> None:
    config = override_config(Config(), overrides)
    values = config_to_dict(config)
    assert config_from_dict(values, "test") == config
    assert config_from_dict(yaml.safe_load(yaml.safe_dump(values)), "test") == config
    assert read_config(_write(tmp_path, yaml.safe_dump(values))) == config


def test_config_to_dict_holds_every_setting() -> None:
    values = config_to_dict(Config())
    for section in dataclasses.fields(Config):
        if section.name not in ("task", "name"):
            expected = [item.name for item in dataclasses.fields(type(getattr(Config(), section.name)))]
            assert list(values[section.name]) == expected


def test_config_from_dict_does_not_modify_its_values() -> None:
    values = {"augment": "none", "train": {"lr": "1e-3"}}
    config_from_dict(values, "test")
    assert values == {"augment": "none", "train": {"lr": "1e-3"}}


def test_a_configuration_cannot_be_changed_in_place() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().train.lr = 1.0  # type: ignore[misc]


_BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)
_MERGED = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [*a{i - 1}{f', *a{i - 1}' * 9}], y{i}: 1}}\n" for i in range(1, 12)
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param(_BOMB, "its aliases refer to each other too often", id="aliases of aliases"),
        pytest.param("a: &a [*a]\n", "", id="a list in itself"),
        pytest.param("a: " + "[" * 5000, "it is nested too deeply", id="deep lists"),
        pytest.param("a: " + "{a: " * 1000, "it is nested too deeply", id="deep mappings"),
        pytest.param("a: " + "9" * 5000, "", id="a number of 5,000 digits"),
        pytest.param("a: 2020-13-45\n", "", id="no such day"),
        pytest.param("a: 0x_\n", "", id="a number without digits"),
        pytest.param("a: !!int x\n", "", id="no number"),
    ],
)
def test_a_yaml_file_that_is_a_bomb_is_refused_in_one_line(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(InputError, match=r"a.yaml is not valid YAML") as caught:
        read_yaml(tmp_path / "a.yaml")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_merges_of_merges_have_an_end(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(_MERGED)
    with contextlib.suppress(InputError):  # newer versions of PyYAML merge each key once
        assert len(read_yaml(tmp_path / "a.yaml")["a11"]) == 12


def test_aliases_and_merges_of_ordinary_size_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: &base {epochs: 3, lr: 0.1}\ntrain: {<<: *base, lr: 0.2}\nagain: *base\n")
    values = read_yaml(tmp_path / "a.yaml")
    assert values["train"] == {"epochs": 3, "lr": 0.2}
    assert values["again"] == {"epochs": 3, "lr": 0.1}


def test_a_yaml_file_of_many_megabytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"#" * (2**22 + 1))
    with pytest.raises(InputError, match="larger than any configuration"):
        read_yaml(tmp_path / "a.yaml")


@pytest.mark.parametrize("value", [10**400, -(10**400), "x" * 10**5, [1] * 10**5, {"a": 1}, float("nan"), None, [[1]]])
@pytest.mark.parametrize(
    "key", ["name", "model.widths", "model.head_depth", "train.lr", "train.epochs", "augment.scale"]
)
def test_no_value_makes_a_message_long(key: str, value: object) -> None:
    if (key, value) == ("name", None):
        return  # which is the text "none"
    with pytest.raises(InputError) as caught:
        override_config(Config(), {key: value})
    assert key in str(caught.value)
    assert len(str(caught.value)) < 400
