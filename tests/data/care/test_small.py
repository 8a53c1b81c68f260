"""Advice about tiles: counted by hand, and as the command prints it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import write_coco_set
from yolo_lite.checkpoints.checkpoint import load_checkpoint
from yolo_lite.cli import main
from yolo_lite.data.care.small import INPUT_HW, advise_tiles
from yolo_lite.data.splits import read_split
from yolo_lite.shipped import DEFAULT_WEIGHTS, find_weights
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.records import Records


def scaled(data: DetectionSet, factor: float) -> DetectionSet:
    """Let the images be larger, and the objects not."""
    records = [
        dataclasses.replace(record, hw=(round(record.hw[0] * factor), round(record.hw[1] * factor)))
        for record in data.records
    ]
    return dataclasses.replace(data, records=Records.pack(records))


@pytest.fixture
def data(tmp_path: Path) -> DetectionSet:
    return read_split(write_coco_set(tmp_path / "set", {"train": 8}), "train")


def test_the_input_is_that_of_the_default_weights() -> None:
    assert load_checkpoint(find_weights(DEFAULT_WEIGHTS)).config.input.image_size == INPUT_HW


def test_few_short_objects_need_no_tiles(data: DetectionSet) -> None:
    advice = advise_tiles(data)
    assert advice is not None
    assert (advice.short, advice.grid, advice.image_hw) == (0, 1, (416, 416))


@pytest.mark.parametrize("factor", [3, 5, 8, 12, 20, 60])
def test_the_grid_is_the_smallest_that_leaves_a_tenth(data: DetectionSet, factor: float) -> None:
    """An oracle that goes through the objects one by one; a tile of an n x n grid is 1 / (1 + 0.8 (n - 1)) of a side."""
    large = scaled(data, factor)
    fractions = []
    for grid in (1, 2, 3, 4):
        short = []
        for record in large.records:
            scale = min(416 / side for side in record.hw) * (1 + 0.8 * (grid - 1))
            short += [min(x2 - x1, y2 - y1) * scale < 16 for x1, y1, x2, y2 in record.boxes]
        fractions.append(np.mean(short))
    advice = advise_tiles(large)
    assert advice is not None
    assert advice.short == pytest.approx(fractions[0])
    assert advice.grid == next((grid for grid in (1, 2, 3, 4) if fractions[grid - 1] <= 0.1), 4)
    assert advice.short_in_tiles == pytest.approx(fractions[advice.grid - 1])


def test_a_set_without_objects_gets_no_advice(data: DetectionSet) -> None:
    empty = [
        dataclasses.replace(record, boxes=record.boxes[:0], labels=record.labels[:0], crowd=record.crowd[:0])
        for record in data.records
    ]
    empty = [dataclasses.replace(record, areas=record.areas[:0], numbers=record.numbers[:0]) for record in empty]
    assert advise_tiles(dataclasses.replace(data, records=Records.pack(empty))) is None


def test_stats_prints_the_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_coco_set(tmp_path / "set", {"train": 8})
    command = ["data", "stats", "--data", str(data), "--out", str(tmp_path / "stats.png")]
    assert main(command) == 0
    line = "0% of the objects have a side below 16 pixels in an input of 416x416: tiles are not needed"
    assert f"train: {line}" in capsys.readouterr().out.splitlines()
    assert main([*command, "--image-size", "32", "64"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "32x64" in line)
    assert "; " in line
    assert "--tiles" in line
    assert "--image-size" in line
