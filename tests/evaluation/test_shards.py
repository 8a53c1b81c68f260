"""Evaluations that several processes divide: all of them must score the same weights and data."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.class_images import write_class_set
from tests.conftest import write_coco_set
from tests.processes import run_ranks
from yolo_lite.errors import InputError
from yolo_lite.evaluation.classifier import evaluate_classifier
from yolo_lite.evaluation.detector import evaluate
from yolo_lite.training.recipe import train_classifier


def in_own_folder(work: Any) -> Any:
    """Let each rank see a folder of its own under the same name, as machines do."""

    def run() -> Any:
        os.chdir(os.environ["RANK"])
        return work()

    return run


SHORT = {"train.batch_size": 2, "train.workers": 0}


def test_other_data_or_weights_on_another_machine_are_refused(
    finished_run: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for rank, images in (("0", 4), ("1", 5)):
        write_coco_set(Path(rank) / "set", {"val": images})
        shutil.copy(finished_run[0] / "best.pt", Path(rank) / "best.pt")
    score = in_own_folder(lambda: evaluate("best.pt", "set", settings=SHORT, device="cpu").metrics.numbers["AP50"])
    for result in run_ranks(2, score):
        assert isinstance(result, InputError)
        assert str(result).startswith("rank 1: set")
        assert "on this machine is not that of rank 0; give every machine the same weights and data" in str(result)
    shutil.rmtree("1/set")
    shutil.copytree("0/set", "1/set")
    shutil.copy(finished_run[0] / "last.pt", "1/best.pt")
    assert [str(result)[:32] for result in run_ranks(2, score)] == ["rank 1: best.pt on this machine "] * 2


def test_other_images_to_classify_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for rank, bars in (("0", 2), ("1", 3)):
        write_class_set(Path(rank) / "set", {"train": {"disc": 4, "bar": 4}, "val": {"disc": 2, "bar": bars}})
    settings = {"train.epochs": 1, "train.preflight": False, "train.workers": 0}
    run = train_classifier("0/set", config="mnist_small", settings=settings, out="run", device="cpu")
    weights = str((run / "best.pt").absolute())
    for result in run_ranks(2, in_own_folder(lambda: evaluate_classifier(weights, "set", split="val", device="cpu"))):
        assert isinstance(result, InputError)
        assert str(result).startswith("rank 1: set")
