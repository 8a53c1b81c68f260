"""tools/train.py and tools/eval.py under torchrun itself: progress, one line for a failure, and a restart."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import write_coco_set
from yolo_lite.checkpoints.checkpoint import load_checkpoint

ROOT = Path(__file__).parents[2]
TINY = ["--config", "pico", "--image-size", "64", "--batch-size", "8", "--no-preflight", "--device", "cpu"]
TINY += ["--set", "pretrain.crops=0", "--set", "train.workers=1"]

pytestmark = pytest.mark.slow


def torchrun(*arguments: object, processes: int = 2) -> list[str]:
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"),
        *map(str, arguments),
    ]


def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = torchrun(*arguments)
    free = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return subprocess.run(command, cwd=folder, env=free, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    return write_coco_set(tmp_path / "set", {"train": 21, "val": 9})


def test_train_and_eval_print_once(shapes: Path, tmp_path: Path) -> None:
    trained = run(tmp_path, ROOT / "tools/train.py", "--data", "set", "--epochs", 2, "--out", "run", *TINY)
    assert trained.returncode == 0, trained.stderr
    assert len(re.findall(r"^epoch \d+: loss", trained.stdout, re.MULTILINE)) == 2
    assert "2 processes, each on " in trained.stdout
    assert trained.stdout.count("done: best weights in") == 1
    flags = ["--weights", "run/best.pt", "--data", "set", "--batch-size", 2, "--device", "cpu"]
    scored = run(tmp_path, "-m", "yolo_lite", "eval", *flags, "--save-json", "two.json", "--out", "two")
    assert scored.returncode == 0, scored.stderr
    assert scored.stdout.count("best score threshold") == 1
    alone = [sys.executable, ROOT / "tools/eval.py", *flags, "--save-json", "alone.json", "--out", "alone"]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # as torchrun sets it; torch's last bits depend on the threads
    subprocess.run([*map(str, alone)], cwd=tmp_path, env=one_thread, capture_output=True, timeout=300, check=True)
    assert (tmp_path / "two.json").read_bytes() == (tmp_path / "alone.json").read_bytes(), "other rows"
    assert numbers(tmp_path / "two") == numbers(tmp_path / "alone")


def numbers(folder: Path) -> Any:
    import json

    return json.loads((folder / "metrics.json").read_text())["metrics"]


def test_an_unreadable_image_is_one_line_with_its_rank(shapes: Path, tmp_path: Path) -> None:
    for path in sorted((shapes / "images").glob("*.png"))[:21]:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    began = time.monotonic()
    flags = [*TINY, "--cache", "ram"]
    failed = run(tmp_path, ROOT / "tools/train.py", "--data", "set", "--epochs", 2, "--out", "run", *flags)
    assert time.monotonic() - began < 60
    assert failed.returncode != 0
    assert len(re.findall(r"^error: rank [01]: .*\.png", failed.stderr, re.MULTILINE)) == 1


def wait_for_epoch(folder: Path) -> None:
    while not (folder / "last.pt").exists():
        time.sleep(0.05)


def workers(launcher: int) -> Iterator[int]:
    """Yield the process ids of the ranks, which are the launcher's children, by rank."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        rank = next((int(value[5:]) for value in variables if value.startswith(b"RANK=")), None)
        if parent == launcher and rank is not None:
            found[rank] = int(entry.name)
    yield from (found[rank] for rank in sorted(found))


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_is_named_and_the_restarted_run_ends_the_same(
    shapes: Path, tmp_path: Path, victim: int
) -> None:
    command = [ROOT / "tools/train.py", "--data", "set", "--epochs", 6, *TINY]
    whole = run(tmp_path, *command, "--out", "whole")
    assert whole.returncode == 0, whole.stderr
    arguments = torchrun(*command)
    arguments.insert(4, "--max-restarts=1")
    with subprocess.Popen(
        arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as launched:
        wait_for_epoch(tmp_path / "runs" / "train-1")
        os.kill(list(workers(launched.pid))[victim], signal.SIGKILL)
        output, errors = launched.communicate(timeout=300)
    assert launched.returncode == 0, errors
    assert len(re.findall(rf"^error: rank {victim}: ended without a message", errors, re.MULTILINE)) == 1
    assert "resuming runs/train-1 after epoch " in output
    ends = [load_checkpoint(tmp_path / folder / "last.pt").training["rows"] for folder in ("runs/train-1", "whole")]
    assert str(ends[0]) == str(ends[1])
