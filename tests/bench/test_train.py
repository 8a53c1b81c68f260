"""Measuring training: each part of a step is timed as itself, shown by slowing it down."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import SMALL
from yolo_lite.bench import train as bench
from yolo_lite.bench.train import TrainReport, bench_train
from yolo_lite.config.resolve import override_config, read_config
from yolo_lite.config.schema import Config
from yolo_lite.data.pipeline.detection import DetectionDataset
from yolo_lite.errors import InputError
from yolo_lite.training.optim.ema import EMA
from yolo_lite.training.tasks.detection import DetectionTask

MakeSet = Callable[..., Path]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "WARM_UP", 1)


def _config(*settings: str) -> Config:
    return override_config(read_config(None), [*SMALL, "input.image_size=32", "train.batch_size=2", *settings])


def _measure(data: Path, *settings: str, say: Callable[[str], None] = lambda line: None) -> TrainReport:
    return bench_train(_config(*settings), data, device=CPU, steps=3, say=say)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "owner", "name"),
    [
        ("wait", DetectionDataset, "__getitem__"),
        ("forward", DetectionTask, "loss"),
        ("backward", torch.nn.utils, "clip_grad_norm_"),
        ("update", EMA, "update"),
    ],
)
def test_what_is_slow_shows_in_its_own_part(
    coco_set: MakeSet, monkeypatch: pytest.MonkeyPatch, part: str, owner: Any, name: str
) -> None:
    """By a clock of its own, which stands still but for what is slow, so that a busy machine does not matter."""
    real = getattr(owner, name)
    now = [0.0]

    def read_clock() -> float:
        now[0] += 1e-6
        return now[0]

    def slow(*arguments: Any, **options: Any) -> Any:
        now[0] += 0.2
        return real(*arguments, **options)

    monkeypatch.setattr(bench, "now", lambda device: read_clock())

    monkeypatch.setattr(owner, name, slow)
    step = _measure(coco_set({"train": 4, "val": 2})).steps[0]
    times = {name: getattr(step, name) for name in ("wait", "forward", "backward", "update")}
    assert {name for name, median in times.items() if median >= 200} == {part}
    rate = 1000 * 2 / sum(times.values())  # of batches of two
    assert step.images_per_second == pytest.approx(rate, rel=1e-3)


def test_bf16_is_measured_where_the_machine_chooses_it(coco_set: MakeSet, monkeypatch: pytest.MonkeyPatch) -> None:
    data = coco_set({"train": 4, "val": 2})
    for chosen, expected in (("bf16", ["fp32", "bf16"]), ("fp32", ["fp32"])):
        monkeypatch.setattr(bench, "pick_precision", lambda name, device, chosen=chosen: chosen)
        assert [step.precision for step in _measure(data).steps] == expected


def test_the_report_says_what_was_measured(coco_set: MakeSet) -> None:
    data = coco_set({"train": 5, "val": 2})
    lines: list[str] = []
    report = _measure(data, "train.workers=1", say=lines.append)
    assert lines == ["images cached in RAM: 5, 0.0 MB"]  # of 32 x 32 pixels
    assert report.fill_seconds > 0
    assert report.summary == "5 images, 10 boxes, 2 classes"
    assert report.loader_images_per_second > 0
    assert all(peak > 50e6 for peak in report.peak_bytes)  # torch alone takes more
    assert report.steps[0].device_bytes == 0
    lines.clear()
    assert _measure(data, "train.cache=none", say=lines.append).fill_seconds == 0
    assert lines == []


def test_it_refuses_what_training_refuses(coco_set: MakeSet) -> None:
    data = coco_set({"train": 3, "val": 2})
    next((data / "images").iterdir()).unlink()
    with pytest.raises(InputError, match="missing"):
        _measure(data)
