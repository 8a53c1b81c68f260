"""The whole detector: building it by name, feeding it pixels, exporting it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from yolo_lite.config.resolve import config_from_dict
from yolo_lite.config.schema import Config
from yolo_lite.errors import InputError
from yolo_lite.models.build import BACKBONES, HEADS, NECKS, build_detector
from yolo_lite.models.yolo import Yolo
from yolo_lite.structures.batches import RawPredictions

TINY: dict[str, Any] = {
    "stem_width": 4,
    "widths": [4, 6, 8, 8],
    "depths": [1, 1, 1, 1],
    "neck_width": 8,
    "head_width": 8,
    "head_depth": 1,
}


def tiny(**model: Any) -> Config:
    """Return a configuration of a very small network."""
    return config_from_dict({"model": {**TINY, **model}}, "test")


def random_images(hw: tuple[int, int] = (64, 96), batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (batch, 3, *hw), dtype=torch.uint8, generator=generator)


# 64 x 64: 64 + 16 + 4 cells; 64 x 96: 96 + 24 + 6; 96 x 32: 48 + 12 + 3; 32 x 32: 16 + 4 + 1.
@pytest.mark.parametrize(("hw", "points"), [((64, 64), 84), ((64, 96), 126), ((96, 32), 63), ((32, 32), 21)], ids=str)
def test_the_detector_answers_once_a_cell(hw: tuple[int, int], points: int) -> None:
    raw = build_detector(tiny(), 5).eval()(random_images(hw))
    assert isinstance(raw, RawPredictions)
    assert raw.box_outputs.shape == (2, points, 4)
    assert raw.class_logits.shape == (2, points, 5)
    assert raw.points.shape == (points, 2)
    assert raw.strides.shape == (points,)
    assert bool(raw.points.amax(0).le(torch.tensor([hw[1], hw[0]])).all())  # x first
    assert all(bool(part.isfinite().all()) for part in raw)


def test_a_320_image_has_2100_points() -> None:
    """40 x 40 + 20 x 20 + 10 x 10, as the module's text says."""
    with torch.no_grad():
        assert len(build_detector(tiny(), 2).eval()(random_images((320, 320), 1)).points) == 2100


def test_decode_is_the_heads() -> None:
    detector = build_detector(tiny(), 5).eval()
    raw = detector(random_images())
    indices = torch.tensor([[3, 120], [99, 0]])
    assert torch.equal(detector.decode(raw, indices), detector.head.decode(raw, indices))  # type: ignore[operator]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64], ids=str)
def test_whole_pixels_of_any_dtype_agree(dtype: torch.dtype) -> None:
    detector = build_detector(tiny(), 5).eval()
    images = random_images()
    for found, wanted in zip(detector(images.to(dtype)), detector(images)):
        assert torch.equal(found, wanted)


def test_pixels_are_normalised_by_mean_and_std() -> None:
    """Mean gives 0 and mean + std gives 1 in each channel; black and white worked out as (p - mean) / std."""
    detector = Yolo(nn.Identity(), nn.Identity(), head=nn.Identity(), mean=(10, 20, 30), std=(2, 4, 5))
    pixels = torch.tensor([[10.0, 12, 0], [20, 24, 0], [30, 35, 255]]).view(1, 3, 1, 3)
    wanted = torch.tensor([[0.0, 1, -5], [0, 1, -5], [0, 1, 45]])
    assert torch.equal(detector(pixels).view(3, 3), wanted)


def test_the_configuration_decides_the_normalisation() -> None:
    config = config_from_dict({"model": TINY, "input": {"mean": [1, 2, 3], "std": [4, 5, 6]}}, "test")
    state = build_detector(config, 2).state_dict()
    assert state["mean"].flatten().tolist() == [1, 2, 3]
    assert state["std"].flatten().tolist() == [4, 5, 6]


def test_mean_and_std_travel_in_the_state_dict_but_are_not_trained() -> None:
    detector = build_detector(tiny(), 2)
    other = build_detector(config_from_dict({"model": TINY, "input": {"mean": [1, 2, 3]}}, "test"), 2)
    other.load_state_dict(detector.state_dict())
    assert torch.equal(other.mean, detector.mean)
    assert not {"mean", "std"} & {name for name, _ in detector.named_parameters()}


def test_the_images_are_not_modified() -> None:
    detector = build_detector(tiny(), 2).eval()
    for images in (random_images(), random_images().float()):
        before = images.clone()
        detector(images)
        assert torch.equal(images, before)


def test_an_image_of_a_batch_is_as_if_alone() -> None:
    detector = build_detector(tiny(), 5).eval()
    images = random_images(batch=3)
    together = detector(images)
    for b in range(3):
        alone = detector(images[b : b + 1])
        torch.testing.assert_close(alone.class_logits[0], together.class_logits[b], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone.box_outputs[0], together.box_outputs[b], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(together.class_logits[0], together.class_logits[1])  # the images do differ


def test_the_default_network_is_nano() -> None:
    count = sum(parameter.numel() for parameter in build_detector(Config(), 80).parameters())
    assert 1_900_000 < count < 2_100_000


@pytest.mark.parametrize("classes", [1, 2, 20])
def test_the_number_of_classes_changes_only_the_class_layers(classes: int) -> None:
    few, many = build_detector(tiny(), classes).state_dict(), build_detector(tiny(), classes + 1).state_dict()
    different = {name for name in many if few[name].shape != many[name].shape}
    assert different == {f"head.class_branches.{i}.1.{part}" for i in range(3) for part in ("weight", "bias")}


def test_a_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, again, other = (build_detector(tiny(), 3, seed=seed).state_dict() for seed in (7, 7, 8))
    assert all(torch.equal(first[name], again[name]) for name in first)
    weights = [name for name in first if name.endswith("weight") and first[name].ndim == 4]
    assert len(weights) > 20
    assert all(not torch.equal(first[name], other[name]) for name in weights)


def test_building_leaves_the_global_random_state_alone() -> None:
    torch.manual_seed(123)
    before = torch.get_rng_state()
    first = build_detector(tiny(), 3).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(456)  # nor does the global state reach the weights
    again = build_detector(tiny(), 3).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_a_fresh_network_neither_explodes_nor_dies() -> None:
    """In training mode, where every layer normalises, outputs of noise stay in a range that a loss can start from."""
    raw = build_detector(Config(), 80)(random_images())
    scores = raw.class_logits.detach().sigmoid()
    assert 0.002 < float(scores.mean()) < 0.05  # the prior is 0.01
    assert 0.1 < float(raw.box_outputs.detach().std()) < 5


@pytest.mark.parametrize(
    ("kind", "choices"), [("backbone", BACKBONES), ("neck", NECKS), ("head", HEADS)], ids=["backbone", "neck", "head"]
)
def test_an_unknown_part_is_refused_with_the_choices(kind: str, choices: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=rf"model\.{kind} must be one of .*, got 'transformer'") as caught:
        build_detector(tiny(**{kind: "transformer"}), 3)
    assert all(name in str(caught.value) for name in choices)


@pytest.mark.parametrize("key", ["widths", "depths"])
def test_a_wrong_number_of_stages_is_refused(key: str) -> None:
    with pytest.raises(InputError, match="model.widths and depths must have 4 entries"):
        build_detector(tiny(**{key: [2, 2, 2]}), 3)


def test_every_parameter_gets_a_gradient() -> None:
    detector = build_detector(tiny(), 3)
    raw = detector(random_images())
    (raw.class_logits.square().sum() + raw.box_outputs.square().sum()).backward()
    assert [name for name, value in detector.named_parameters() if value.grad is None] == []


def test_torch_export_gives_the_same_answers() -> None:
    detector = build_detector(tiny(), 3).eval()
    images = random_images(batch=1)
    exported = torch.export.export(detector, (images,)).module()
    for found, wanted in zip(exported(images.flip(3)), detector(images.flip(3))):
        torch.testing.assert_close(found, wanted)
