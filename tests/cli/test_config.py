"""`yolo-lite config`: what a training would use, and where each value comes from."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from yolo_lite.cli import main
from yolo_lite.config.schema import Config, TrainConfig

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let files land in the test's own folder."""
    monkeypatch.chdir(tmp_path)


def test_one_setting_with_its_origin(capsys: Capture) -> None:
    """The last that says something wins: defaults, then a file, then --set."""
    Path("my.yaml").write_text("train: {lr: 0.007}\n")
    default = f"default {TrainConfig().lr:g}; number; at least -1; from: "
    for words, value, origin in (
        ([], f"{TrainConfig().lr:g}", "default"),
        (["--config", "my.yaml"], "0.007", "my.yaml"),
        (["--config", "my.yaml", "--set", "train.lr=0.5"], "0.5", "--set"),
    ):
        assert main(["config", "train.lr", "--weights", "none", *words]) == 0
        first, meaning, facts = capsys.readouterr().out.splitlines()
        assert first == f"train.lr: {value}"
        assert meaning.strip().startswith("highest learning rate")
        assert facts.strip() == f"({default}{origin})"


def test_a_section_and_everything(capsys: Capture) -> None:
    assert main(["config", "train", "--weights", "none"]) == 0
    lines = capsys.readouterr().out.splitlines()
    names = [line.partition(":")[0] for line in lines if not line.startswith(" ")]
    assert names == [f"train.{item.name}" for item in dataclasses.fields(TrainConfig)]
    assert main(["config", "--weights", "none"]) == 0
    every = capsys.readouterr().out.splitlines()
    told = [line.partition(":")[0] for line in every if not line.startswith(" ")]
    assert [name for name in told if name.startswith("train.")] == names
    assert {name.partition(".")[0] for name in told} == {item.name for item in dataclasses.fields(Config)}


def test_weights_say_what_they_fix(capsys: Capture) -> None:
    assert main(["config", "input.image_size", "--weights", "yolo_lite-n-voc5"]) == 0
    assert "from: weights yolo_lite-n-voc5" in capsys.readouterr().out


def test_the_page_of_all_settings(capsys: Capture) -> None:
    assert main(["config", "--markdown"]) == 0
    assert capsys.readouterr().out.startswith("# Settings\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian.lr"], "there is no setting 'trian.lr'; did you mean 'train.lr'?"),
        (["--config", "huge"], "huge does not exist; shipped configs:"),
        (["--set", "train.lr"], "--set expects KEY=VALUE"),
        (["--set", "train.lrr=1"], "unknown key 'train.lrr'; did you mean 'train.lr'?"),
    ],
    ids=["key", "config", "set", "key of set"],
)
def test_refused_in_one_line(words: list[str], message: str, capsys: Capture) -> None:
    assert main(["config", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
