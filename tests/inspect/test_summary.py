"""Layer reports: receptive fields worked by hand and found by gradients, counts against torch's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from yolo_lite.config.resolve import read_config
from yolo_lite.config.schema import Config
from yolo_lite.inspect.summary import LayerReport, format_flops, summarise
from yolo_lite.models.build import build_detector
from yolo_lite.models.classifiers.build import build_classifier
from yolo_lite.shipped import find_config


class Pixels(nn.Module):
    """A network on pixels that are made floats first, as those of the package do."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> Any:
        return self.layers(x.float() / 255)


def by_name(reports: list[LayerReport]) -> dict[str, LayerReport]:
    return {report.name: report for report in reports}


@pytest.mark.parametrize(
    ("model", "layer", "size", "jump"),
    [
        pytest.param("alexnet", "backbone.0", 11, 4, id="AlexNet's first"),
        pytest.param("alexnet", "backbone.12", 195, 32, id="AlexNet's last pool: 163 + 2 * 16"),
        pytest.param("lenet", "backbone.0", 5, 1, id="LeNet C1"),
        pytest.param("lenet", "backbone.2", 6, 2, id="LeNet S2: two of 5 next to each other"),
        pytest.param("lenet", "backbone.4.parts.0", 14, 2, id="LeNet C3: 6 + 4 * 2"),
        pytest.param("lenet", "backbone.6", 16, 4, id="LeNet S4"),
        pytest.param("lenet", "backbone.8", 32, 4, id="LeNet C5: 16 + 4 * 4, the whole image"),
    ],
)
def test_receptive_fields_worked_by_hand(model: str, layer: str, size: int, jump: int) -> None:
    """A kernel of k adds (k - 1) times the distance of its inputs; a stride multiplies that distance."""
    config = read_config(find_config(model))
    hw = (32, 32) if model == "lenet" else (224, 224)
    report = by_name(summarise(build_classifier(config, 10), config.input.channels, input_hw=hw))[layer]
    assert report.field is not None
    assert (report.field[0].size, report.field[0].jump) == (size, jump)
    assert report.field[0] == report.field[1]


def test_vgg16_sees_212_pixels_after_its_last_pool() -> None:
    """Blocks of 2, 2, 3, 3, 3 convolutions: 6, 16, 44, 100, 212 after the pools, by adding 2 d for each and d for the pool."""
    widths = (2, 2, 3, 3, 3)
    layers: list[nn.Module] = []
    for depth in widths:
        layers += [nn.Conv2d(1, 1, 3, padding=1) for _ in range(depth)] + [nn.MaxPool2d(2)]
    pools = [report for report in summarise(Pixels(*layers), 1, input_hw=(64, 64)) if report.kind == "MaxPool2d"]
    assert [report.field[0].size for report in pools if report.field] == [6, 16, 44, 100, 212]


def test_uneven_kernels_strides_and_dilation_have_a_field_for_each_side() -> None:
    """Along y: 1 + 4, then 5 + 2 * 2 * 2 = 13 (dilation 2); along x: 1 + 2, then 3 + 0 * 3."""
    net = Pixels(nn.Conv2d(3, 2, (5, 3), (2, 3)), nn.Conv2d(2, 2, (3, 1), dilation=(2, 1)))
    first, second = summarise(net, 3, input_hw=(40, 40))
    assert first.field is not None
    assert second.field is not None
    assert [field.size for field in first.field] == [5, 3]
    assert [field.size for field in second.field] == [13, 3]
    assert [field.jump for field in second.field] == [2, 3]


@pytest.mark.parametrize(
    "layer", ["backbone.stages.0.1.merge.0", "backbone.stages.1.1.merge.0", "backbone.stages.2.0.0"]
)
def test_fields_are_what_gradients_reach(layer: str) -> None:
    """The pixels that change one value in the middle of a map, found by its gradient, span exactly the reported field."""
    model = build_detector(Config(), 2).eval()
    reports = by_name(summarise(model, 3, input_hw=(256, 256)))
    field = reports[layer].field
    assert field is not None
    assert field[0].size < 200, "the field must fit into the image"
    found: list[torch.Tensor] = []
    dict(model.named_modules())[layer].register_forward_hook(lambda module, inputs, output: found.append(output))
    image = (255 * torch.rand(1, 3, 256, 256)).requires_grad_()
    model(image)
    place = found[0].shape[-1] // 2
    found[0][0, :, place, place].sum().backward()  # type: ignore[no-untyped-call]
    assert image.grad is not None
    for axis in (0, 1):
        reached = image.grad[0].abs().sum(0).sum(1 - axis).nonzero().flatten()
        assert (int(reached.min()), int(reached.max())) == (
            place * field[axis].jump + field[axis].low,
            place * field[axis].jump + field[axis].high,
        )


def test_dense_layers_see_everything() -> None:
    reports = summarise(Pixels(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 36, 3)), 1, input_hw=(8, 8))
    assert reports[-1].field is not None
    assert reports[-1].field[0].size == float("inf")


@pytest.mark.parametrize("name", ["nano", "shuffle"])
def test_parameters_and_operations_agree_with_torch(name: str) -> None:
    config = read_config(find_config(name))
    model = build_detector(config, 7)
    reports = summarise(model, 3, input_hw=(64, 96))
    norms = sum(p.numel() for m in model.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters())
    assert sum(report.parameters for report in reports) + norms == sum(p.numel() for p in model.parameters())
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, 3, 64, 96, dtype=torch.uint8))
    assert sum(report.flops for report in reports) == counter.get_total_flops()


def test_every_model_can_be_summarised_and_stays_in_its_mode() -> None:
    config = read_config(find_config("mnist_small"))
    model = build_classifier(config, 10).train()
    reports = summarise(model, 1, input_hw=(28, 28))
    assert model.training
    assert [report.shape for report in reports if report.kind == "Conv2d"][-1] == (16, 7, 7)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    ("flops", "text"),
    [
        (0, "0 FLOPs"),
        (999, "999 FLOPs"),
        (1_000, "1.0 kFLOPs"),
        (999_940, "999.9 kFLOPs"),
        (999_960, "1.0 MFLOPs"),
        (4_200_000, "4.2 MFLOPs"),
        (1_234_000_000, "1.23 GFLOPs"),
    ],
)
def test_operations_are_told_in_a_unit_that_suits_them(flops: int, text: str) -> None:
    assert format_flops(flops) == text
