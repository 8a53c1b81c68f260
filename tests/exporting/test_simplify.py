"""A simplified network gives the results of the original."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from yolo_lite import Detector, export
from yolo_lite.config.schema import Config, InputConfig, ModelConfig
from yolo_lite.exporting.simplify import ShuffleStage, simplify
from yolo_lite.models.build import build_detector
from yolo_lite.models.yolo import Yolo
from yolo_lite.predict.files import sample_image
from yolo_lite.runtime import Detector as ExportedDetector


def network(backbone: str, widths: list[int]) -> Yolo:
    """Return an untrained detector with statistics as training leaves them, and pixels that are scaled unevenly."""
    torch.manual_seed(0)
    model = ModelConfig(backbone=backbone, stem_width=12, widths=widths, depths=[2, 3, 2], neck="none")
    if backbone == "csp":
        model = ModelConfig(stem_width=8, widths=[8, *widths], depths=[1, 1, 1, 1])
    config = Config(model=model, input=InputConfig(mean=[103.0, 116.0, 123.0], std=[57.0, 58.0, 61.0]))
    built = build_detector(config, 3).eval()
    for layer in built.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
            layer.weight.data.uniform_(0.5, 1.5)
            layer.bias.data.normal_()
    return built


@pytest.mark.parametrize(
    ("backbone", "widths"), [("shuffle", [20, 36, 72]), ("shuffle", [32, 64, 96]), ("csp", [16, 24, 32])]
)
def test_every_prediction_stays_the_same_up_to_rounding(backbone: str, widths: list[int]) -> None:
    model = network(backbone, widths)
    simple = simplify(copy.deepcopy(model))
    images = torch.randint(0, 256, (2, 3, 64, 96), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    for before, after in zip(model(images), simple(images)):
        scale = float(before.detach().abs().max())
        assert float((before - after).abs().max()) < 1e-5 * scale


def test_convolutions_of_a_shuffle_network_fill_whole_blocks_of_channels() -> None:
    backbone = simplify(network("shuffle", [20, 36, 72])).backbone
    stages = [module for module in backbone.modules() if isinstance(module, ShuffleStage)]
    assert len(stages) == 3
    depthwise = [layer for layer in backbone.modules() if isinstance(layer, nn.Conv2d) and layer.groups > 1]
    assert len(depthwise) == 2 + 3 + 2 + 3  # a branch in each unit, and the other branch of each first unit
    assert [layer.out_channels % 16 for layer in depthwise[:3]] == [0, 0, 0]


@pytest.mark.slow
@pytest.mark.parametrize(("threshold", "fewest"), [(0.0, 100), (0.999, 0)])
def test_extreme_thresholds(tmp_path: Path, threshold: float, fewest: int) -> None:
    """At 0 every point is a candidate; at 0.999 none is, and an empty result comes back."""
    file = export("yolo_lite-pico-voc5", tmp_path / "pico.onnx", image_size=64, score_threshold=threshold, check=False)
    detector = ExportedDetector(file, score_threshold=threshold)
    expected = Detector("yolo_lite-pico-voc5", "cpu", image_size=64, score_threshold=threshold)(sample_image())
    detections = detector([sample_image(), np.zeros((50, 40, 3), np.uint8)])[0]
    assert len(detections) == len(expected) >= fewest
    assert fewest or not len(expected)
    np.testing.assert_allclose(np.sort(detections.scores), np.sort(expected.scores), atol=1e-6)
