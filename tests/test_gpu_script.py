"""tests/gpu/check_gpu.py: steps that fail, crash, hang or find no time, and the whole script on a CPU."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from yolo_lite.structures.results import Detections

FOLDER = Path(__file__).parent / "gpu"

# A script with steps of every kind, which needs no torch. {limit} stands for the limit of the step that hangs.
SCRIPT = """
import os, subprocess, sys, time
from runner import Skipped, Step, main

def good(session):
    session.note(speed=2.5, device=session.device)
    open("left_behind", "w").close()
    return "fine"

def wrong(session):
    assert os.listdir(".") == [], "the folder of another step"
    session.note(gap=0.25)
    raise ValueError("two boxes differ\\nby much")

def crash(session):
    os.abort()

def leave(session):
    os._exit(3)

def hang(session):
    session.note(half="done")
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    session.note(child=child.pid)
    time.sleep(60)

def absent(session):
    raise Skipped("no such library")

STEPS = [
    Step("good", good, 60), Step("wrong", wrong, 60), Step("crash", crash, 60), Step("leave", leave, 60),
    Step("hang", hang, {limit}), Step("absent", absent, 60), Step("kernels", good, 60, cuda_only="needs them"),
    Step("last", good, 60),
]
if __name__ == "__main__":
    raise SystemExit(main(STEPS, script=__file__, describe=lambda device: dict(GPU="none")))
"""


def run(script: Path, *arguments: str, seconds: float = 60) -> tuple[subprocess.CompletedProcess[str], Any]:
    """Run a script on the CPU; return what it printed, and its JSON without the machine."""
    target = script.parent / "gpu.json" if script.parent != FOLDER else Path.cwd() / "gpu.json"
    command = [sys.executable, str(script), "--device", "cpu", "--json", str(target), *arguments]
    settings = {**os.environ, "PYTHONPATH": str(FOLDER), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False, env=settings)
    return ended, json.loads(target.read_text()) if target.exists() else None


def write_script(folder: Path, limit: float) -> Path:
    path = folder / "drawn.py"
    path.write_text(SCRIPT.replace("{limit}", str(limit)))
    return path


@pytest.mark.slow
def test_a_step_that_fails_crashes_or_hangs_stops_no_other(tmp_path: Path) -> None:
    ended, report = run(write_script(tmp_path, limit=1))
    assert ended.returncode == 1
    rows = {step["name"]: (step["result"], step["summary"]) for step in report["steps"]}
    assert rows == {
        "good": ("passed", "fine"),
        "wrong": ("FAILED", "ValueError: two boxes differ"),
        "crash": ("FAILED", "killed by SIGABRT"),
        "leave": ("FAILED", "ended with status 3 without a result"),
        "hang": ("FAILED", "stopped after 1 s, its limit"),
        "absent": ("skipped", "no such library"),
        "kernels": ("skipped", "only on CUDA: needs them"),
        "last": ("passed", "fine"),
    }
    figures = {step["name"]: step["figures"] for step in report["steps"]}
    assert figures["good"] == {"speed": 2.5, "device": "cpu"}
    assert figures["wrong"] == {"gap": 0.25}
    assert figures["hang"]["half"] == "done"
    assert not is_running(figures["hang"]["child"])
    assert "by much" in ended.stdout  # the end of the output of a failed step
    for name, (result, summary) in rows.items():
        assert any(line.split()[:2] == [name, result] and summary in line for line in ended.stdout.splitlines())
    assert "2 passed, 4 FAILED, 2 skipped, 0 not run" in ended.stdout
    assert report["GPU"] == "none"


def is_running(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
def test_a_step_without_time_is_not_run_and_the_status_says_so(tmp_path: Path) -> None:
    """0.02 minutes are 1.2 s. The step that hangs may take 600 s of 6 minutes, 2 s of these: it gets all that is left."""
    ended, report = run(write_script(tmp_path, limit=600), "--minutes", "0.02", "--only", "hang", "last", "absent")
    results = {step["name"]: step["result"] for step in report["steps"]}
    assert results == {"hang": "FAILED", "absent": "not run", "last": "not run"}
    assert report["seconds"] < 60
    assert "no time left" in ended.stdout
    assert ended.returncode == 1


def test_skipped_steps_do_not_spoil_the_status(tmp_path: Path) -> None:
    ended, report = run(write_script(tmp_path, limit=1), "--only", "good", "absent", "kernels")
    assert ended.returncode == 0, ended.stdout
    assert [step["result"] for step in report["steps"]] == ["passed", "skipped", "skipped"]


def test_an_unknown_step_is_refused_by_name(tmp_path: Path) -> None:
    ended, report = run(write_script(tmp_path, limit=1), "--only", "god")
    assert ended.returncode == 2
    assert report is None
    assert "--only takes good, wrong" in ended.stderr
    assert "god" in ended.stderr


@pytest.mark.slow
def test_the_script_itself_runs_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All steps but train.compile, whose compiler takes minutes on a CPU; limits are wide, as the machine may be busy."""
    monkeypatch.chdir(tmp_path)
    names = re.findall(r'^    Step\("([^"]+)"', (FOLDER / "steps.py").read_text(), re.MULTILINE)
    assert len(names) == 13
    names.remove("train.compile")
    ended, report = run(FOLDER / "check_gpu.py", "--minutes", "60", "--only", *names, seconds=900)
    assert ended.returncode == 0, ended.stdout
    steps = {step["name"]: step for step in report["steps"]}
    assert list(steps) == names
    assert {name for name, step in steps.items() if step["result"] != "passed"} <= {"ops exact", "ONNX Runtime"}
    assert "only on CUDA" in steps["ops exact"]["summary"]
    assert report["torch"] == torch.__version__
    for row in steps["ops timed"]["figures"]["nms_padded_torch"]:
        assert row["speed"] == pytest.approx(row["torchvision_ms"] / row["ours_ms"])
    memory = steps["out of memory"]["figures"]
    assert memory["parts"] == 2  # batches of 4, of which 2 images fit
    assert memory["weight_gap"] == 0
    assert memory["loss_undivided"] != pytest.approx(0)
    assert steps["one rank"]["figures"]["exact"] == ["add_gradients", "divisor", "align", "decide", "gather", "sum"]
    assert steps["one step"]["figures"]["gradient_gap"] == 0


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Import the steps, which find each other by their folder, and work in an empty folder."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.chdir(tmp_path)
    names = ("steps", "runner", "check_ops")
    yield importlib.import_module("steps")
    for name in names:
        sys.modules.pop(name, None)


def found(boxes: list[list[float]], scores: list[float]) -> Detections:
    return Detections(boxes, scores, labels=[0] * len(scores), class_names=("cat",))


@pytest.mark.parametrize(
    ("boxes", "scores", "alone"),
    [
        ([[0, 0, 10, 10], [20, 0, 30, 10]], [0.9, 0.5], 0),
        ([[0, 0, 10, 10.01], [20, 0, 30, 10]], [0.9, 0.5005], 0),
        ([[0, 0, 10, 12], [20, 0, 30, 10]], [0.9, 0.5], 2),  # IoU 10/12: the detection of either side is alone
        ([[0, 0, 10, 10], [20, 0, 30, 10]], [0.9, 0.6], 2),
        ([[0, 0, 10, 10]], [0.9], 1),
        ([[0, 0, 10, 10], [20, 0, 30, 10], [0, 20, 9, 30]], [0.9, 0.5, 0.1005], 0),  # at the threshold
        ([], [], 2),
    ],
)
def test_detections_without_their_like_are_counted(
    steps: Any, boxes: list[list[float]], scores: list[float], alone: int
) -> None:
    wanted = found([[0, 0, 10, 10], [20, 0, 30, 10]], [0.9, 0.5])
    gaps = steps.compare([wanted], [found(boxes, scores)], score_gap=1e-3, overlap=0.995)
    assert gaps["alone"] == alone


def test_a_gradient_that_the_exchange_changes_is_found(steps: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def halved(parameters: list[Any], numbers: dict[str, float]) -> dict[str, float]:
        for each in parameters:
            each.grad = each.grad / 2 if each.grad is not None else None
        return numbers

    monkeypatch.setattr(steps.ranks, "_add_gradients", halved)
    with pytest.raises(AssertionError):
        steps.exchanges(torch.device("cpu"))


def test_any_different_number_in_last_pt_is_found(steps: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def state(value: float) -> Any:
        weights = {"w": torch.tensor([0.5, value]), "steps": torch.tensor(3)}
        return SimpleNamespace(training={"model": weights, "ema": weights})

    states = {"a": state(2.0), "b": state(2.0), "c": state(2.0000002)}
    monkeypatch.setattr(steps, "load_checkpoint", lambda path: states[path.parent.name])
    assert steps.largest_gap(Path("a"), Path("b")) == 0
    assert 0 < steps.largest_gap(Path("a"), Path("c")) < 1e-6
