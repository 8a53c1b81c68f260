"""Flags: one word for one thing in every command, and the spellings of earlier versions."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from yolo_lite.cli import COMMANDS, build_parser, flags
from yolo_lite.cli.flags import FLAGS, FORMER, joined, modern, settings_of
from yolo_lite.errors import InputError

Capture = pytest.CaptureFixture[str]
NEEDED = {  # what each command cannot be parsed without
    "classify train": "--data d",
    "inspect model": "",
    "tune": "--task classify --data d",
    "classify eval": "--weights w --data d",
    "eval": "--data d",
    "bench model": "",
    "bench ops": "",
    "card": "",
}
VALUES = {
    "--config": "lenet",
    "--split": "val",
    "--shares": "60/20/20",
    "--num-classes": "3",
    "--weights": "my run/best.pt",
    "--resamples": "100",
}
SPELLINGS = [(former, command) for former in FORMER for command in former.commands]


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield every command, and every command of a command, with its parser."""
    for command in COMMANDS:
        top = build_parser(command)
        parser = choices_of(top)[command]
        yield command, parser
        for name, inner in choices_of(parser).items():
            yield f"{command} {name}", inner


def choices_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


PARSERS = dict(parsers())


def parse(words: list[str]) -> argparse.Namespace:
    return build_parser(words[0]).parse_args(modern(words))


@pytest.mark.parametrize("glue", [False, True], ids=["apart", "with ="])
@pytest.mark.parametrize(
    ("former", "command"), SPELLINGS, ids=[f"{command} {former.old} as {former.new}" for former, command in SPELLINGS]
)
def test_a_former_spelling_works_and_is_noted(former: flags.Former, command: str, glue: bool, capsys: Capture) -> None:
    value = VALUES[former.new]
    old = [value] if former.old == "FILE" else [f"{former.old}={value}"] if glue else [former.old, value]
    words = [*command.split(), *NEEDED[command].split()]
    told = parse([*words, *old])
    quoted = f"'{value}'" if " " in value else value
    note = f"note: {former.old} is now {former.new}; please write {former.new} {quoted}\n"
    assert capsys.readouterr().err == note
    assert told == parse([*words, former.new, value])
    assert capsys.readouterr().err == ""
    assert value in str(vars(told))


@pytest.mark.parametrize("command", sorted({command for _, command in SPELLINGS}))
def test_former_spellings_are_not_in_the_help(command: str) -> None:
    words = PARSERS[command].format_help().replace("[", " ").replace("]", " ").split()
    today = {flag.spelling for flag in FLAGS.values()}
    old = {former.old for former, name in SPELLINGS if name == command} - {"FILE"}
    assert not old & set(words) - today
    assert "--split" not in words or command in ("classify eval", "eval")


def test_a_split_and_shares_are_told_apart_by_the_value(capsys: Capture) -> None:
    words = ["classify", "eval", "--weights", "w", "--data", "d"]
    assert parse([*words, "--split", "test"]).split == "test"
    assert capsys.readouterr().err == ""
    args = parse([*words, "--split", "test", "--split", "80/20"])
    assert (args.split, args.shares) == ("test", "80/20")


@pytest.mark.parametrize("words", [["card", "--out", "card.md"], ["detect", "--source", "--model"], ["--version"]])
def test_other_words_stay(words: list[str], capsys: Capture) -> None:
    assert modern(words) == words
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("command", PARSERS)
def test_every_flag_of_a_command_is_in_the_table(command: str) -> None:
    """And has the same spelling, so that one thing has one word."""
    known = {flag.spelling: flag for flag in FLAGS.values()}
    for action in PARSERS[command]._actions:
        spellings = [name for name in action.option_strings if name not in ("-h", "--help") and "--no-" not in name]
        assert all(name in known for name in spellings), spellings
        assert action.option_strings or action.dest == "key" or isinstance(action, argparse._SubParsersAction)


@pytest.mark.parametrize("command", PARSERS)
def test_help_says_the_default_at_its_end(command: str) -> None:
    for action in PARSERS[command]._actions:
        if isinstance(action, argparse._SubParsersAction | argparse._HelpAction):
            continue
        words = str(action.help)
        assert words, action.option_strings
        assert not words.endswith("."), words
        assert words.split()[0] not in ("a", "an", "the", "of", "as", "or", "default:", "default"), words
        if action.default not in (None, False, []):
            assert "(default: " in words, words
            assert words.endswith(")"), words
        assert "default" not in words.rpartition("(default: ")[0], words


def test_settings_are_those_of_flags_and_of_set() -> None:
    words = ["train", "--data", "d", "--set", "train.lr=0.01", "--set", "train.epochs=9"]
    args = parse([*words, "--epochs", "3", "--classes", "a,b", "--no-preflight", "--tensorboard"])
    assert settings_of(args) == {
        "train.lr": 0.01,
        "train.epochs": 3,
        "data.classes": ["a", "b"],
        "train.preflight": False,
        "train.tensorboard": True,
    }
    assert settings_of(parse(["detect"])) == {"train.batch_size": 8}
    assert settings_of(parse(["eval", "--data", "d", "--max-detections", "9"])) == {"evaluate.max_detections": 9}
    with pytest.raises(InputError, match="KEY=VALUE"):
        settings_of(parse([*words, "--set", "train.lr"]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("eval --data d --resamples 1000001", "--resamples must be from 0 to 1,000,000, got 1000001"),
        ("train --data d --batch-size 1000001", "--batch-size must be from 0 to 1,000,000, got 1000001"),
    ],
)
def test_a_number_out_of_range_is_blamed_on_its_flag(words: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        settings_of(parse(words.split()))


def test_freezing_is_another_setting_of_a_classifier() -> None:
    assert settings_of(parse(["train", "--freeze", "backbone"])) == {"train.freeze": "backbone"}
    assert settings_of(parse(["classify", "train", "--freeze"])) == {"classifier.freeze": True}


def test_what_a_command_changes_of_a_flag() -> None:
    parser = flags.Parser("x")
    flags.add_flag(parser, "split", default="val")
    flags.add_flag(parser, "data", required=True, usual="never said")
    flags.add_flag(parser, "out-file", help="sheet", default=Path("a.png"))
    words = parser.format_help()
    assert "train, val or test (default: val)" in " ".join(words.split())
    assert "never said" not in words
    assert "sheet (default: a.png)" in words
    assert parser.parse_args(["--data", "d"]).out_file == Path("a.png")


HELPS = {"": build_parser(), **PARSERS}


@pytest.mark.parametrize("command", HELPS)
def test_help_fits_80_columns_and_ends_with_two_examples(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    words = HELPS[command].format_help()
    assert max(map(len, words.splitlines())) <= 80
    examples = words.rpartition("Examples:\n")[2].splitlines()
    assert len(examples) == 2
    assert all(line.startswith(f"  yolo-lite {command}".rstrip()) for line in examples)
    for line in examples:
        assert callable(parse(shlex.split(line)[1:]).run)


@pytest.mark.parametrize(
    ("words", "command"),
    [("eval --data d --nope", "eval"), ("classify eval --weights a --data d --nope", "classify eval"), ("--nope", "")],
)
def test_an_unknown_flag_points_at_the_help_of_its_command(words: str, command: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        parse(words.split())
    line = f"error: unrecognized arguments: --nope; yolo-lite {command} --help lists the options"
    assert capsys.readouterr().err.strip() == line.replace("  ", " ")


def test_coordinates_may_begin_with_a_minus() -> None:
    words = ["detect", "--count-line", "-5,10,1000,10", "--zone", "-.5,0,9,0,9,9", "--track", "--zone", "1,1,2,2,3,1"]
    args = build_parser("detect").parse_args(joined(words))
    assert (args.count_line, args.track) == ([(-5.0, 10.0, 1000.0, 10.0)], True)
    assert args.zone == [(-0.5, 0.0, 9.0, 0.0, 9.0, 9.0), (1.0, 1.0, 2.0, 2.0, 3.0, 1.0)]
