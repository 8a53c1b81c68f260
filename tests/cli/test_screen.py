"""What leaves the command line: escaped names, readers that go away, signals, full memory."""

from __future__ import annotations

import argparse
import errno
import io
import logging
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import yolo_lite.cli as cli
from tests.conftest import SMALL
from yolo_lite.cli import main
from yolo_lite.cli.screen import Screen, screens
from yolo_lite.errors import InputError, Stopped
from yolo_lite.training.recipe import train

Capture = pytest.CaptureFixture[str]
Run = Callable[[argparse.Namespace], int]

HOSTILE = (
    "cat\x1b[2J\x1b]0;owned\x07\nerror: forged\u202e\r\x9b2J"  # clears the screen, renames the window, forges a line
)
SHOWN = "cat\\x1b[2J\\x1b]0;owned\\x07\\nerror: forged\\u202e\\r\\x9b2J"
COMMAND = [sys.executable, "-m", "yolo_lite"]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is written land in the test's own folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Run], None]:
    """Return a function that puts another `yolo-lite card` in the place of the real one."""
    return lambda run: monkeypatch.setattr("yolo_lite.cli.commands.card._card", run)


def raising(error: BaseException) -> Run:
    def run(args: argparse.Namespace) -> int:
        raise error

    return run


def harmless(text: str) -> bool:
    return not any(character < " " and character not in "\n\t" for character in text) and not set(text) & {
        "\u202e",
        "\x9b",
    }


def test_a_screen_shows_what_a_terminal_would_obey() -> None:
    inner = io.StringIO()
    screen = Screen(inner)
    print(f"{HOSTILE}: 3", file=screen)
    print("first", "second", sep="\n", file=screen)
    assert inner.getvalue() == f"{SHOWN}: 3\nfirst\nsecond\n"


def test_the_streams_are_as_before_afterwards() -> None:
    before = sys.stdout, sys.stderr
    with pytest.raises(InputError), screens():
        assert isinstance(sys.stdout, Screen)
        raise InputError("whatever")
    assert (sys.stdout, sys.stderr) == before


def test_a_program_without_standard_output_runs() -> None:
    result = subprocess.run(f"{sys.executable} -m yolo_lite --version >&-", shell=True, stderr=subprocess.PIPE)
    assert (result.returncode, result.stderr) == (0, b"")


@pytest.mark.parametrize("option", ["--version", "--help", "detect --help"])
def test_a_reader_that_has_seen_enough_is_no_error(option: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with os.fdopen(writing, "w") as gone:
        result = subprocess.run([*COMMAND, *option.split()], stdout=gone, stderr=subprocess.PIPE, env=environment)
    assert result.stderr == b""
    assert result.returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_behind_standard_output_is_one_line() -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run([*COMMAND, "--version"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert result.stderr == "error: the output could not be written: No space left on device\n"
    assert result.returncode == 2


def test_the_package_is_the_command() -> None:
    result = subprocess.run([*COMMAND, "data", "check"], capture_output=True, text=True)
    assert result.stderr == (
        "error: the following arguments are required: --data; yolo-lite data check --help lists the options\n"
    )
    assert (result.returncode, result.stdout) == (2, "")


def test_arguments_are_shown_escaped_in_one_line(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["detect", f"--{HOSTILE}"])
    assert stopped.value.code == 2
    text = capsys.readouterr().err
    assert harmless(text)
    assert len(text.splitlines()) == 1
    assert text.startswith("error: unrecognized arguments: --cat\\x1b[2J")


def test_names_of_files_and_classes_are_shown_escaped(
    finished_run: tuple[Path, Path], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(finished_run[1] / "images" / "0001.png", f"{HOSTILE}.png")
    weights = str(finished_run[0] / "best.pt")
    assert main(["detect", "--weights", weights, "--source", f"{HOSTILE}.png", "--out", "out"]) == 0
    text = capsys.readouterr().out
    assert harmless(text)
    assert f"{SHOWN}.png: " in text
    assert "\nerror" not in text
    assert Path("out", f"{HOSTILE}.png").exists()  # the file itself keeps its name
    assert main(["detect", "--weights", weights, "--source", f"missing {HOSTILE}.png"]) == 2
    assert harmless(capsys.readouterr().err)
    assert main(["train", "--data", str(finished_run[1]), "--set", f"train.{HOSTILE}=1"]) == 2
    assert harmless(capsys.readouterr().err)


def test_class_names_of_a_checkpoint_are_shown_escaped(finished_run: tuple[Path, Path], capsys: Capture) -> None:
    from dataclasses import replace

    from yolo_lite.checkpoints.checkpoint import load_checkpoint, save_checkpoint

    checkpoint = load_checkpoint(finished_run[0] / "best.pt")
    about = {**checkpoint.about, "train": HOSTILE}
    save_checkpoint(Path("h.pt"), replace(checkpoint, class_names=(HOSTILE, "square"), about=about))
    image = str(finished_run[1] / "images")
    assert main(["card", "--weights", "h.pt"]) == 0
    text = capsys.readouterr().out
    assert harmless(text)
    assert text.count(SHOWN) == 2
    assert "\nerror" not in text
    assert main(["detect", "--weights", "h.pt", "--source", image, "--out", "out", "--save-json", "rows.json"]) == 0
    text = capsys.readouterr().out
    assert harmless(text)
    assert SHOWN in text
    assert "\nerror" not in text


def test_what_the_library_logs_is_written(capsys: Capture, command: Callable[[Run], None]) -> None:
    def run(args: argparse.Namespace) -> int:
        logging.getLogger("yolo_lite.data").info("reading %s", "a\nb")
        return 0

    command(run)
    assert main(["card"]) == 0
    assert capsys.readouterr().err == "reading a\\nb\n"
    assert not logging.getLogger("yolo_lite").handlers


FULL: list[BaseException] = [
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] . DefaultCPUAllocator: can't allocate memory: you tried ..."),
    RuntimeError("std::bad_alloc"),
    RuntimeError("could not create a primitive"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    RuntimeError("Caught MemoryError in DataLoader worker process 0.\nOriginal Traceback ..."),
    cv2.error("OpenCV(4.11.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 99 bytes"),
]


@pytest.mark.parametrize("error", FULL, ids=lambda error: str(error)[:30] or "MemoryError")
def test_full_memory_is_one_line_with_a_remedy(
    error: BaseException, capsys: Capture, command: Callable[[Run], None]
) -> None:
    command(raising(error))
    assert main(["card"]) == 2
    assert capsys.readouterr().err == "error: main memory is full; close other programs, or use smaller files\n"


def test_the_words_are_those_that_the_libraries_use() -> None:
    """Ask each of them for more than any machine has."""
    from yolo_lite.errors import is_memory_full

    def numpy() -> None:
        np.empty(1 << 60, np.uint8)

    for ask in (numpy, lambda: torch.empty(1 << 60, dtype=torch.uint8), lambda: bytearray(1 << 60)):
        with pytest.raises((MemoryError, RuntimeError)) as raised:
            ask()
        assert is_memory_full(raised.value)
    assert not is_memory_full(RuntimeError("shape mismatch"))
    assert not is_memory_full(InputError("the file MemoryError.jpg does not exist"))


def test_full_memory_in_training_names_its_flags(
    finished_run: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **settings: object) -> None:
        raise MemoryError

    monkeypatch.setattr("yolo_lite.training.loop._backward", full)
    with pytest.raises(InputError, match="main memory is full; use a smaller --batch-size"):
        train(
            finished_run[1], weights="none", settings={"train.epochs": 1, "train.workers": 0}, device="cpu", out="run"
        )


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_a_command(name: str, status: int, capsys: Capture, command: Callable[[Run], None]) -> None:
    usual = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL, signal.SIGHUP: signal.SIG_DFL}
    inherited = {number: signal.signal(number, handler) for number, handler in usual.items()}  # nohup ignores some
    try:
        _check_end(name, status, capsys, command)
        assert {number: signal.getsignal(number) for number in usual} == usual
    finally:
        for number, handler in inherited.items():
            signal.signal(number, handler)


def _check_end(name: str, status: int, capsys: Capture, command: Callable[[Run], None]) -> None:
    def run(args: argparse.Namespace) -> int:
        signal.raise_signal(getattr(signal, name))
        time.sleep(60)
        return 0

    command(run)
    assert main(["card"]) == status
    assert capsys.readouterr().err == ("interrupted\n" if name == "SIGINT" else f"stopped by {name}\n")


def test_a_hang_up_that_is_ignored_stays_ignored(command: Callable[[Run], None]) -> None:
    """As under nohup."""

    def run(args: argparse.Namespace) -> int:
        signal.raise_signal(signal.SIGHUP)
        return 0

    command(run)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert main(["card"]) == 0
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_stopped_training_says_how_to_go_on(
    finished_run: tuple[Path, Path], capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(row: object, best: bool) -> str:
        raise Stopped(signal.SIGTERM)

    monkeypatch.setattr("yolo_lite.cli.runs.epoch_line", stop)
    settings = [part for item in SMALL for part in ("--set", item)]
    arguments = [
        "train",
        "--data",
        str(finished_run[1]),
        "--weights",
        "none",
        "--epochs",
        "2",
        "--out",
        "run",
        *settings,
    ]
    assert main(arguments) == 143
    said = capsys.readouterr()
    assert "finished epochs are saved; continue with: yolo-lite train --resume --out run" in said.out
    assert said.err == "stopped by SIGTERM\n"


def test_a_bug_keeps_its_traceback(command: Callable[[Run], None]) -> None:
    command(raising(RuntimeError("shape mismatch")))
    with pytest.raises(RuntimeError, match="shape mismatch"):
        main(["card"])
    assert not isinstance(sys.stderr, Screen)


def test_main_is_usable_in_a_thread(command: Callable[[Run], None]) -> None:
    """Where no handler of signals may be set."""
    from threading import Thread

    results: list[int] = []
    command(lambda args: 0)
    thread = Thread(target=lambda: results.append(cli.main(["card"])))
    thread.start()
    thread.join()
    assert results == [0]


def test_a_warning_is_one_line_without_code(capsys: Capture, command: Callable[[Run], None]) -> None:
    def run(args: argparse.Namespace) -> int:
        warnings.warn("the kernels of\nCUDA cannot run", stacklevel=1)
        return 0

    command(run)
    before = list(warnings.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert main(["card"]) == 0
    assert capsys.readouterr().err == "warning: the kernels of CUDA cannot run\n"
    assert list(warnings.filters) == before


def test_what_is_explained_anyway_brings_no_warning(
    finished_run: tuple[Path, Path], capsys: Capture, recwarn: pytest.WarningsRecorder
) -> None:
    """Files of which Pillow and torch warn: metadata cut short, a pickle, a TorchScript archive."""
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12\0\x03\0\0\0\xff" + b"\0" * 9
    image = Image.new("RGB", (64, 64), "red")
    image.save("whole.jpg")
    content = Path("whole.jpg").read_bytes()
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    Path("exif.jpg").write_bytes(content[:2] + segment + content[2:])
    Path("pickle.pt").write_bytes(pickle.dumps({"a": 1}, protocol=4))
    with zipfile.ZipFile("script.pt", "w") as archive:
        archive.writestr("script/constants.pkl", b"x")
        archive.writestr("script/data.pkl", b"x")
        archive.writestr("script/version", b"3")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        main(["inspect", "filters", "--image", "exif.jpg"])
        assert capsys.readouterr().err == ""
        for weights in ("pickle.pt", "script.pt"):
            assert main(["detect", "--weights", weights]) == 2
            (line,) = capsys.readouterr().err.splitlines()
            assert line.startswith(f"error: {weights} ")
