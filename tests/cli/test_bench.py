"""`yolo-lite bench` on detectors only, and `bench train` as a table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import SMALL
from yolo_lite.cli import main
from yolo_lite.config.resolve import config_to_dict, override_config, read_config


def test_bench_train_prints_a_table(
    coco_set: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, config = coco_set({"train": 6, "val": 2}), tmp_path / "tiny.yaml"
    config.write_text(json.dumps(config_to_dict(override_config(read_config(None), [*SMALL]))))  # JSON is YAML
    asked = ["--image-size", "64", "32", "--batch-size", "3", "--workers", "1", "--cache", "ram", "--steps", "2"]
    assert main(["bench", "train", "--data", str(data), "--config", str(config), "--device", "cpu", *asked]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "images cached in RAM: 6, 0.0 MB"
    assert "6 images, 12 boxes, 2 classes" in lines[2]
    assert lines[3] == "64 x 32, batch 3, 1 loading process"
    assert lines[4].startswith("loader alone: ")
    assert lines[5].split()[:4] == ["ms", "a", "step", "load"]
    assert lines[6].split()[0] == "fp32"
    assert len(lines[6].split()) == 6
    assert lines[-1].startswith("peak memory: ")


@pytest.mark.parametrize("config", ["lenet", "lenet.yaml", "written.yaml"])
@pytest.mark.parametrize("what", ["model", "train"])
def test_bench_refuses_classifiers(
    what: str, config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("written.yaml").write_text("classifier: {model: lenet}\n")
    data = ["--data", "nowhere"] if what == "train" else []
    assert main(["bench", what, "--config", config, *data]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {config} is the configuration of a classifier, but bench measures detectors")
    assert error.count("\n") == 1


def test_bench_model_measures_a_head_for_one_size_at_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A fully connected head on 2 x 2 cells of 32 pixels takes 64 x 64 and no other."""
    settings = ["model.head=dense_grid", "model.cells=2", "model.neck=none", "model.widths=[8, 8, 16, 16]"]
    config = override_config(read_config(None), [*settings, "input.image_size=64", "train.batch_size=2"])
    (tmp_path / "dense.yaml").write_text(json.dumps(config_to_dict(config)))
    command = ["bench", "model", "--config", str(tmp_path / "dense.yaml"), "--num-classes", "2", "--device", "cpu"]
    assert main(command) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line[:1].isdigit()]
    assert [row.split()[:3] for row in rows] == [["64", "x", "64"]]
