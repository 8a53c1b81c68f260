"""Tests of exports need the packages that write and run them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import torch

from yolo_lite import export
from yolo_lite.checkpoints.checkpoint import Checkpoint, save_checkpoint
from yolo_lite.checkpoints.convert.darknet import convert_darknet
from yolo_lite.checkpoints.convert.yolox import convert_yolox_ncnn
from yolo_lite.config.resolve import read_config
from yolo_lite.exporting.export import SUFFIXES
from yolo_lite.models.build import build_detector
from yolo_lite.models.classifiers.build import build_classifier
from yolo_lite.shipped import find_config, find_weights

SHIPPED = ["yolo_lite-shuffle-coco", "yolo_lite-shuffle-1.5x-coco", "yolo_lite-n-voc5", "yolo_lite-pico-voc5"]
RANDOM = ["yolov1", "yolov1_faithful"]
CONVERTED = ["darknet", "yolox"]
CLASSIFIERS = ["lenet", "mnist_small", "resnet50", "inception", "capsule", "yolo_lite-n-cls"]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that exports weights to a format, once for all tests, unless they ask for other options."""
    folder = tmp_path_factory.mktemp("formats")
    files: dict[str, Path] = {}

    def file(weights: str | Path, format: str, **options: Any) -> Path:
        key = repr((str(weights), format, sorted(options.items())))
        if key not in files:
            out = folder / f"{len(files)}{SUFFIXES[format]}"
            files[key] = export(weights, out, format=format, check=False, **options)
        return files[key]

    return file


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """Return a function that gives the checkpoint of a network by its name here, made once."""
    folder = tmp_path_factory.mktemp("networks")

    def checkpoint(name: str) -> Path:
        path = folder / f"{name}.pt"
        if name in SHIPPED:
            return find_weights(name)
        if not path.exists():
            if name in CONVERTED:
                _convert(name, path, request.getfixturevalue("shared_data"))
            else:
                _invent(name, path)
        return path

    return checkpoint


def _convert(name: str, path: Path, shared_data: Path) -> None:
    if name == "yolox":
        source = shared_data / "yolox" / "yolox-nano"
        convert_yolox_ncnn(source.with_suffix(".param"), source.with_suffix(".bin"), out=path)
    else:
        cfg = sorted((shared_data / "darknet").rglob("*.cfg"))[0]
        convert_darknet(cfg, cfg.with_suffix(".weights"), out=path)


def _invent(name: str, path: Path) -> None:
    """Save a network with random weights."""
    config, names = read_config(find_config(name)), ("a", "b", "c")
    if name not in RANDOM:
        network: torch.nn.Module = build_classifier(config, 3, seed=3)
    else:
        network = build_detector(config, 3, seed=1)
        with torch.no_grad():  # no sigmoid bounds random outputs; unscaled, rounding would reach the gate's tolerance
            for parameter in network.head.parameters():
                parameter.mul_(0.5)
    save_checkpoint(path, Checkpoint(config, names, (1, 2, 3), weights=network.state_dict(), about={}, training={}))
