"""EfficientNet-Lite: padding as TensorFlow pads, and ImageNet weights that know what the sample photographs show."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from yolo_lite.config.resolve import read_config
from yolo_lite.errors import InputError
from yolo_lite.media.images import read_image
from yolo_lite.models.classifiers.build import build_classifier
from yolo_lite.models.classifiers.course import imagenet_weights
from yolo_lite.models.classifiers.efficientnet_lite import (
    SCALES,
    EfficientNetLite,
    pad_same,
    read_package,
    scaled_stages,
)
from yolo_lite.predict.files import sample_image
from yolo_lite.shipped import find_config
from yolo_lite.structures.geometry import resize_image

STORED = [name for name in SCALES if imagenet_weights(name)]


@pytest.mark.parametrize(
    ("side", "kernel", "stride", "before", "after"),
    [
        pytest.param(224, 3, 2, 0, 1, id="even side: one pixel, at the end"),
        pytest.param(5, 3, 2, 1, 1, id="odd side: both ends"),
        pytest.param(8, 5, 2, 1, 2, id="kernel 5"),
        pytest.param(7, 3, 1, 1, 1, id="stride 1"),
    ],
)
def test_padding_is_that_of_tensorflow(side: int, kernel: int, stride: int, before: int, after: int) -> None:
    """Worked by hand from ceil(side / stride) outputs, whose kernels need (outputs - 1) stride + kernel pixels."""
    padded = pad_same(torch.ones(1, 1, side, side), kernel, stride=stride)[0, 0]
    assert padded.shape == (side + before + after,) * 2
    assert (padded[:before] == 0).all()
    assert (padded[before : before + side, before : before + side] == 1).all()
    assert (padded.shape[0] - kernel) // stride + 1 == -(-side // stride)


def test_widths_and_depths_are_scaled_as_published() -> None:
    """Lite2: factors 1.1 on width and 1.2 on depth; the first and the last stage keep their one block."""
    stages = scaled_stages("efficientnet_lite2")
    assert [stage.blocks for stage in stages] == [1, 3, 3, 4, 4, 5, 1]
    assert [stage.outputs for stage in stages] == [16, 24, 48, 88, 120, 208, 352]


@pytest.mark.parametrize("name", STORED)
def test_imagenet_weights_know_the_sample_photograph(name: str) -> None:
    """Grace Hopper in the uniform of the navy: class 652, military uniform."""
    config = read_config(find_config(name))
    stored = imagenet_weights(name)
    assert stored
    weights = read_package(stored)
    network = build_classifier(config, 1000).eval()
    assert isinstance(network.backbone, EfficientNetLite)
    assert isinstance(network.head, nn.Linear)
    assert torch.equal(network.backbone.stem[0].weight, weights["stem.0.weight"])  # type: ignore[union-attr]
    network.head.load_state_dict({"weight": weights["fc.weight"], "bias": weights["fc.bias"]})
    image = resize_image(read_image(sample_image()), config.input.image_size)
    with torch.inference_mode():
        outputs = network(torch.from_numpy(image).permute(2, 0, 1).unsqueeze(0))
    assert int(outputs.argmax()) == 652


def test_without_the_package_weights_are_random(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    config = read_config(find_config("efficientnet_lite0"))
    assert imagenet_weights("efficientnet_lite0") is None
    first, second = (build_classifier(config, 5, seed=seed).state_dict() for seed in (0, 1))
    assert not torch.equal(first["backbone.stem.0.weight"], second["backbone.stem.0.weight"])


def test_a_damaged_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "efficientnet-lite0.pth").write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"efficientnet-lite0.pth cannot be read .*install its package again"):
        read_package(tmp_path / "efficientnet-lite0.pth")
