"""From the command line to the loss there are at most six calls, so that a reader gets there."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import yolo_lite
from tests.conftest import write_coco_set
from yolo_lite.cli import main
from yolo_lite.training.tasks.detection import DetectionTask

PACKAGE = str(Path(yolo_lite.__file__).parent)
MOST = 6


def test_the_loss_is_six_calls_from_main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths: list[list[str]] = []

    def loss(self: DetectionTask, *arguments: object, **settings: object) -> None:
        frames = [frame for frame in inspect.stack() if frame.filename.startswith(PACKAGE)]
        paths.append([frame.function for frame in reversed(frames)])
        raise KeyboardInterrupt

    monkeypatch.setattr(DetectionTask, "loss", loss)
    write_coco_set(tmp_path / "set", {"train": 4, "val": 2})
    flags = ["--config", "pico", "--image-size", "64", "--no-preflight", "--set", "pretrain.crops=0"]
    main(["train", "--data", str(tmp_path / "set"), "--out", str(tmp_path / "run"), *flags])
    assert len(paths) == 1
    assert paths[0][0] == "main"
    assert paths[0][-4:] == ["train", "fit", "epochs", "train_step"]
    assert len(paths[0]) <= MOST, " -> ".join(paths[0])  # the functions before the loss: as many calls
