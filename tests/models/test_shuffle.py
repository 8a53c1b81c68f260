"""yolo_lite-shuffle: its blocks against plain definitions, its levels, points and boxes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from yolo_lite.config.resolve import override_config, read_config
from yolo_lite.errors import InputError
from yolo_lite.models.backbones import ShuffleBackbone
from yolo_lite.models.blocks import GhostBottleneck, ShuffleUnit, fuse, interleave
from yolo_lite.models.build import build_detector
from yolo_lite.models.heads.anchor_free import DistributionHead
from yolo_lite.models.necks import GhostPAN
from yolo_lite.shipped import find_config
from yolo_lite.structures.batches import RawPredictions

CONFIG = read_config(find_config("shuffle"))


def test_interleave_alternates_channels() -> None:
    a, b = torch.arange(24.0).view(1, 2, 3, 4), 100 + torch.arange(24.0).view(1, 2, 3, 4)
    mixed = interleave(a, b)
    assert torch.equal(mixed, torch.stack([a[:, 0], b[:, 0], a[:, 1], b[:, 1]], 1))
    assert mixed.is_contiguous(memory_format=torch.channels_last)


def test_a_shuffle_unit_leaves_every_other_channel_as_it_was() -> None:
    unit = ShuffleUnit(8, 8).eval()
    x = torch.randn(2, 8, 5, 6)
    y = unit(x)
    assert torch.equal(y[:, ::2], x[:, :4])
    assert not torch.equal(y[:, 1::2], x[:, 4:])


@pytest.mark.parametrize(("side", "half"), [(6, 3), (7, 4)])
def test_a_unit_of_stride_two_halves_rounding_up(side: int, half: int) -> None:
    assert ShuffleUnit(4, 10, stride=2)(torch.randn(1, 4, side, side)).shape == (1, 10, half, half)


def test_a_ghost_bottleneck_is_two_ghost_modules_beside_a_short_cut() -> None:
    block = GhostBottleneck(6, 4).eval()
    x = torch.randn(2, 6, 5, 5)
    primary = block.first.primary(x)
    wide = torch.cat([primary, block.first.cheap(primary)], 1)
    second = block.second.primary(wide)
    wanted = torch.cat([second, block.second.cheap(second)], 1) + block.shortcut(x)
    assert torch.equal(block(x), wanted)
    assert not any(isinstance(layer, nn.LeakyReLU) for layer in [*block.second.modules(), *block.shortcut.modules()])


@pytest.mark.parametrize(
    ("hw", "levels"),
    [
        ((320, 320), [(40, 40), (20, 20), (10, 10), (5, 5)]),
        ((416, 416), [(52, 52), (26, 26), (13, 13), (7, 7)]),
        ((96, 160), [(12, 20), (6, 10), (3, 5), (2, 3)]),
        ((32, 32), [(4, 4), (2, 2), (1, 1), (1, 1)]),
    ],
    ids=str,
)
def test_any_multiple_of_32_will_do(hw: tuple[int, int], levels: list[tuple[int, int]]) -> None:
    model = build_detector(CONFIG, 3).eval()
    raw = model(torch.zeros(2, 3, *hw, dtype=torch.uint8))
    points = sum(height * width for height, width in levels)
    assert raw.class_logits.shape == (2, points, 3)
    assert raw.box_outputs.shape == (2, points, 32)
    assert raw.strides.tolist() == [
        8.0 * 2**i for i, (height, width) in enumerate(levels) for _ in range(height * width)
    ]


def test_the_network_is_as_large_as_the_original() -> None:
    model = build_detector(override_config(CONFIG, {"model.norm": "none"}), 80)
    assert sum(parameter.numel() for parameter in model.parameters()) == 1_186_346
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    with_norm = build_detector(CONFIG, 80)
    assert any(isinstance(module, nn.BatchNorm2d) for module in with_norm.modules())


def test_folding_the_norms_changes_nothing_but_rounding() -> None:
    model = build_detector(CONFIG, 2).train()
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for _ in range(5):
        model(images)
    model.eval()
    before = model(images)
    after = fuse(model)(images)
    assert torch.allclose(before.class_logits, after.class_logits, atol=1e-4)
    assert torch.allclose(before.box_outputs, after.box_outputs, atol=1e-4)


def test_a_network_without_norms_is_trainable_as_it_is() -> None:
    model = build_detector(override_config(CONFIG, {"model.norm": "none"}), 2)
    assert model.training
    assert all(module.training for module in model.modules())
    raw = model(torch.zeros(1, 3, 64, 64, dtype=torch.uint8))
    (raw.class_logits.sum() + raw.box_outputs.square().sum()).backward()
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert missing == []


def test_points_are_the_cells_upper_left_corners() -> None:
    head = DistributionHead((2, 2), (8, 16), classes=1, depth=1)
    raw = head([torch.zeros(1, 2, 2, 3), torch.zeros(1, 2, 1, 2)])
    assert raw.points.tolist() == [[0, 0], [8, 0], [16, 0], [0, 8], [8, 8], [16, 8], [0, 0], [16, 0]]


def _raw(outputs: Tensor) -> RawPredictions:
    points = torch.tensor([[16.0, 32], [64, 0]])
    return RawPredictions(outputs, torch.zeros(1, 2, 1), points=points, strides=torch.tensor([8.0, 64]))


def test_a_sure_distribution_decodes_to_its_bins() -> None:
    outputs = torch.full((1, 2, 4, 8), -50.0)
    for side, place in enumerate((1, 0, 7, 3)):
        outputs[0, 0, side, place] = 50
    box = DistributionHead.decode(_raw(outputs.flatten(2)), torch.tensor([[0]]))
    assert box[0, 0].tolist() == pytest.approx([16 - 8, 32, 16 + 7 * 8, 32 + 3 * 8], abs=1e-4)


def test_an_unsure_distribution_decodes_to_its_mean() -> None:
    outputs = torch.zeros(1, 2, 32)
    boxes = DistributionHead.decode(_raw(outputs), torch.tensor([[1, 0]]))
    assert boxes[0, 0].tolist() == pytest.approx([64 - 3.5 * 64, -3.5 * 64, 64 + 3.5 * 64, 3.5 * 64])
    assert boxes[0, 1].tolist() == pytest.approx([16 - 28, 32 - 28, 16 + 28, 32 + 28])


def test_parts_that_do_not_fit_are_named() -> None:
    with pytest.raises(InputError, match="widths and depths must have 3 entries"):
        build_detector(override_config(CONFIG, {"model.widths": [8, 16]}), 2)
    with pytest.raises(InputError, match=r"model\.norm must be one of batch, none"):
        build_detector(override_config(CONFIG, {"model.norm": "group"}), 2)


def test_the_neck_adds_a_level() -> None:
    neck = GhostPAN((6, 8, 10), (8, 16, 32), width=4)
    assert neck.strides == (8, 16, 32, 64)
    levels = neck([torch.randn(1, 6, 12, 8), torch.randn(1, 8, 6, 4), torch.randn(1, 10, 3, 2)])
    assert [tuple(level.shape) for level in levels] == [(1, 4, 12, 8), (1, 4, 6, 4), (1, 4, 3, 2), (1, 4, 2, 1)]


def test_the_backbone_says_what_it_returns() -> None:
    backbone = ShuffleBackbone(6, (8, 12, 16), depths=(2, 1, 1))
    levels = backbone(torch.randn(1, 3, 64, 96))
    for level, channels, stride in zip(levels, backbone.channels, backbone.strides):
        assert level.shape == (1, channels, 64 // stride, 96 // stride)
