"""A network is counted while it is built: one that is too large is refused before it takes memory."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from yolo_lite.config.resolve import override_config, read_config
from yolo_lite.config.schema import Config
from yolo_lite.errors import InputError
from yolo_lite.models.build import build_detector, outline_detector
from yolo_lite.models.classifiers.build import build_classifier, outline_classifier
from yolo_lite.models.limits import AtMost
from yolo_lite.shipped import find_config, shipped


def test_the_limit_is_the_number_of_values() -> None:
    with AtMost(3 * 4 + 4):
        nn.Linear(3, 4)
    with pytest.raises(InputError, match="more than 15 values"), AtMost(3 * 4 + 4 - 1):
        nn.Linear(3, 4)


def test_a_layer_of_any_size_is_refused_before_memory_is_asked_for() -> None:
    with pytest.raises(InputError, match="the network is too large"), AtMost():
        nn.Linear(10**12, 10**12)


def test_weights_are_the_same_as_without_a_limit() -> None:
    torch.manual_seed(3)
    expected = nn.Conv2d(3, 4, 3).weight
    torch.manual_seed(3)
    with AtMost():
        assert torch.equal(nn.Conv2d(3, 4, 3).weight, expected)


def test_a_configuration_of_a_huge_network_is_refused() -> None:
    config = override_config(Config(), {"model.widths": [16_384] * 4, "model.depths": [200] * 4})
    with pytest.raises(InputError, match="the network is too large"):
        build_detector(config, 80)


@pytest.mark.parametrize("name", ["nano", "shuffle", "yolov1"])
def test_an_outline_has_the_layers_of_the_detector(name: str) -> None:
    config = read_config(find_config(name))
    network = build_detector(config, 5)
    values = sum(value.numel() for value in network.state_dict().values())
    outline = outline_detector(config, 5, values=values)
    assert _shapes(outline) == _shapes(network)
    with pytest.raises(InputError, match="too large"):
        outline_detector(config, 5, values=values // 2)


@pytest.mark.parametrize("name", ["lenet", "mnist_small", "capsule", "yolo_lite-n-cls"])
def test_an_outline_has_the_layers_of_the_classifier(name: str) -> None:
    config = read_config(shipped("configs/classify", ".yaml")[name])
    assert _shapes(outline_classifier(config, 5, values=2**24)) == _shapes(build_classifier(config, 5))


def test_a_classifier_of_huge_images_is_refused() -> None:
    config = override_config(read_config(find_config("mlp")), {"input.image_size": 2048})
    with pytest.raises(InputError, match="the network is too large"):
        build_classifier(config, 5)
    with pytest.raises(InputError, match="at most 2048 pixels along a side, got 4096"):
        build_classifier(override_config(config, {"input.image_size": 4096}), 5)


def _shapes(network: nn.Module) -> list[tuple[str, torch.Size]]:
    return [(name, value.shape) for name, value in network.state_dict().items()]
