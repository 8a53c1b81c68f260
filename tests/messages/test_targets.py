"""Targets as they are written, files and standard output as targets, and what goes wrong with them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.messages.conftest import detected
from yolo_lite.errors import InputError
from yolo_lite.messages.targets import Messages, Report, Target, parse_target, summary


def test_targets_are_parsed() -> None:
    assert parse_target("jsonl:-") == Target("jsonl", "-", "jsonl:-")
    assert parse_target("jsonl:out/a:b.jsonl").place == "out/a:b.jsonl"
    kafka = parse_target("kafka://broker/frames")
    assert (kafka.host, kafka.port, kafka.place, kafka.name) == ("broker", 9092, "frames", "kafka://broker/frames")
    mqtt = parse_target("mqtt://me:p%40ss@[::1]:1884/yard/frames")
    assert (mqtt.host, mqtt.port, mqtt.place, mqtt.user, mqtt.password) == ("::1", 1884, "yard/frames", "me", "p@ss")
    assert mqtt.name == "mqtt://[::1]:1884/yard/frames"


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "jsonl:",
            "jsonl",
            "frames.jsonl",
            "kafka://host",
            "kafka://host/",
            "kafka:///frames",
            "kafka://host:x/frames",
        ),
        *("kafka://host/a/b", "kafka://host/a?b", "kafka://me:secret@host/frames", "mqtt://host/a/#", "mqtt://host/+"),
        *("http://me:secret@host/x", "mqtt://me:secret@host:x/y"),
    ],
)
def test_other_targets_get_a_line(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_target(text)
    assert "secret" not in str(caught.value)
    assert "kafka" in str(caught.value)


def test_a_file_gets_a_line_at_once_for_each_frame_and_is_continued(tmp_path: Path) -> None:
    path = tmp_path / "new" / "frames.jsonl"
    for run in range(2):
        with Messages([parse_target(f"jsonl:{path}")]) as messages:
            for number in range(3):
                messages.send(detected(number))
                assert len(path.read_text().splitlines()) == 3 * run + number + 1
        assert messages.reports == {f"jsonl:{path}": Report(sent=3, delivered=3)}
    assert [json.loads(line)["frame"] for line in path.read_text().splitlines()] == [0, 1, 2] * 2


def test_several_targets_get_the_same(tmp_path: Path) -> None:
    stdout, path = io.StringIO(), tmp_path / "a.jsonl"
    with Messages([parse_target("jsonl:-"), parse_target(f"jsonl:{path}")], stdout=stdout) as messages:
        messages.send(detected(1))
    assert stdout.getvalue() == path.read_text() != ""


def test_a_file_of_another_kind_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(InputError, match=r"notes\.txt exists and does not hold lines of JSON"):
        Messages([parse_target(f"jsonl:{path}")])
    assert path.read_text() == "mine"


def test_a_file_that_cannot_be_written_gets_a_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot write .*: Is a directory"):
        Messages([parse_target(f"jsonl:{tmp_path}")])


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_full_disk_gets_a_line() -> None:
    with Messages([parse_target("jsonl:/dev/full")]) as messages, pytest.raises(InputError) as caught:
        messages.send(detected(1))
    assert str(caught.value) == "cannot write /dev/full: No space left on device"


def test_a_full_disk_leaves_whole_lines(tmp_path: Path) -> None:
    """Limit the size of files of a process: the last line that does not fit is removed."""
    code = (
        "import resource, signal, sys\n"
        "from tests.messages.conftest import detected\n"
        "from yolo_lite.messages.targets import Messages, parse_target\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "with Messages([parse_target('jsonl:small.jsonl')]) as messages:\n"
        "    for number in range(9): messages.send(detected(number))\n"
    )
    path = [str(Path(__file__).parents[2])]
    result = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path}\n{code}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert "InputError: cannot write small.jsonl: File too large" in result.stderr
    lines = (tmp_path / "small.jsonl").read_text().splitlines()
    assert [json.loads(line)["frame"] for line in lines] == list(range(len(lines)))
    assert len(lines) > 1


def test_if_one_target_cannot_be_opened_the_others_are_closed(tmp_path: Path) -> None:
    targets = [parse_target(f"jsonl:{tmp_path / 'a.jsonl'}"), parse_target("mqtt://127.0.0.1:1/frames")]
    with pytest.raises(InputError, match="mqtt://127.0.0.1:1/frames: the broker cannot be reached"):
        Messages(targets)


@pytest.mark.parametrize(("kind", "module"), [("kafka", "confluent_kafka"), ("mqtt", "paho")])
def test_a_missing_library_is_named(kind: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    if module == "paho":
        monkeypatch.setitem(sys.modules, "paho.mqtt", None)
    with pytest.raises(InputError, match=rf"pip install 'yolo_lite\[{kind}\]'"):
        Messages([parse_target(f"{kind}://127.0.0.1:1/frames")])


def test_a_summary_names_what_was_lost() -> None:
    assert (
        summary("x", Report(sent=8, delivered=5, dropped=2, failed=3))
        == "x: 5 of 10 messages delivered, 2 dropped, 3 failed"
    )
    assert summary("x", Report(sent=1, delivered=1)) == "x: 1 of 1 message delivered"
