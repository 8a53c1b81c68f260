"""Colours changed by the device: against the standard library's colorsys, and beside albumentations' on the processor."""

from __future__ import annotations

import colorsys

import albumentations as A
import numpy as np
import pytest
import torch
from torch import Tensor

from yolo_lite.config.schema import AugmentConfig
from yolo_lite.data.pipeline.augment import Augmenter, colour_limits
from yolo_lite.data.pipeline.colour import draw_shifts, shift_hsv
from yolo_lite.data.pipeline.labelled import Labelled

SHIFTS = [(0, 0, 0), (40, 0, 0), (-90, 0, 0), (0, 60, 0), (0, -300, 0), (0, 0, 50), (0, 0, -80.5), (7.3, -20, 31)]


def _colours(count: int, seed: int = 0) -> Tensor:
    """Return uint8 [count, 3]: any colours, and many with equal channels, black, white and greys among them."""
    generator = np.random.default_rng(seed)
    coarse = generator.choice([0, 1, 127, 254, 255], (count // 2, 3))
    return torch.from_numpy(
        np.concatenate([coarse, generator.integers(0, 256, (count - count // 2, 3))]).astype(np.uint8)
    )


def _by_colorsys(colour: list[int], shift: tuple[float, float, float]) -> list[float]:
    hue, saturation, value = colorsys.rgb_to_hsv(*colour)  # the value is in 0..255 as the colour is
    saturation = min(1.0, max(0.0, saturation + shift[1] / 255))
    value = min(255.0, max(0.0, value + shift[2]))
    return list(colorsys.hsv_to_rgb((hue + shift[0] / 180) % 1, saturation, value))


@pytest.mark.parametrize("shift", SHIFTS, ids=str)
def test_every_colour_becomes_what_colorsys_says(shift: tuple[float, float, float]) -> None:
    colours = _colours(3000)
    made = shift_hsv(colours.T.reshape(1, 3, 50, 60), torch.tensor([shift]))
    assert made.dtype == torch.uint8
    expected = torch.tensor([_by_colorsys(colour, shift) for colour in colours.tolist()])
    assert float((made.reshape(3, -1).T - expected).abs().max()) <= 0.502


def test_no_shift_changes_nothing() -> None:
    colours = _colours(100_000)
    images = colours.T.reshape(1, 3, 250, 400).contiguous(memory_format=torch.channels_last)
    assert torch.equal(shift_hsv(images, torch.zeros(1, 3)), images)


def test_each_image_has_a_shift_of_its_own() -> None:
    image = _colours(1200).T.reshape(1, 3, 30, 40)
    made = shift_hsv(image.expand(len(SHIFTS), -1, -1, -1), torch.tensor(SHIFTS))
    for one, shift in zip(made, SHIFTS):
        assert torch.equal(one, shift_hsv(image, torch.tensor([shift]))[0])


@pytest.mark.parametrize("shift", [(12.0, 20.0, -15.0), (-25.0, -40.0, 30.0)], ids=str)
def test_albumentations_makes_nearly_the_same(shift: tuple[float, float, float]) -> None:
    """OpenCV rounds the hue to two degrees, which is up to 255 / 60 of a channel, and saturation and value to 255ths."""
    ramp = np.linspace(0, 255, 64)
    image = np.stack(np.broadcast_arrays(ramp[:, None], ramp[None, :], ramp[None, ::-1]), -1).astype(np.uint8)
    theirs = A.HueSaturationValue(*((one, one) for one in shift), p=1)(image=image)["image"]
    mine = shift_hsv(torch.from_numpy(image).permute(2, 0, 1)[None], torch.tensor([shift]))[0].permute(1, 2, 0).numpy()
    apart = np.abs(mine.astype(int) - theirs)
    assert apart.max() <= 6
    assert apart.mean() < 1.5


# What is drawn


def test_shifts_depend_on_seed_step_and_image_alone() -> None:
    positions = torch.tensor([4, 9, 4, 0])
    drawn = draw_shifts((9, 40, 50), 1, progress=0.25, positions=positions)
    assert drawn.shape == (4, 3)
    assert drawn.dtype == torch.float32
    assert torch.equal(drawn[0], drawn[2])
    assert torch.equal(
        drawn[1:3], draw_shifts((9, 40, 50), 1, progress=0.25, positions=positions[1:3])
    )  # as a part of the batch
    others = [
        draw_shifts((9, 40, 50), seed, progress=progress, positions=positions)
        for seed, progress in ((2, 0.25), (1, 0.25 + 1e-6))
    ]
    for other in [*others, drawn.roll(1, 0)]:
        assert not (drawn == other)[[1, 3]].any()


def test_shifts_fill_their_limits_evenly() -> None:
    drawn = draw_shifts((9, 0, 51), 0, progress=0.5, positions=torch.arange(4000))
    assert (drawn.abs() <= torch.tensor([9, 0, 51])).all()
    for column, limit in ((drawn[:, 0], 9), (drawn[:, 2], 51)):
        counts = torch.histc(column, 10, -limit, limit)
        assert int(counts.min()) > 320
        assert int(counts.max()) < 480


def test_the_loader_leaves_colours_alone_where_the_device_changes_them() -> None:
    sample = Labelled(
        np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8), np.zeros((0, 4)), np.zeros(0)
    )
    colourful = AugmentConfig(hue=0.1, saturation=0.5, value=0.5)
    assert colour_limits(colourful) == pytest.approx((18, 127.5, 127.5))
    grey = AugmentConfig(hue=0, saturation=0, value=0)
    for strong in (True, False):
        made = [
            augmenter(lambda index: sample, 0, 1, np.random.default_rng(3), strong).image
            for augmenter in (
                Augmenter(colourful, (64, 64), resize="letterbox", colour=False),
                Augmenter(grey, (64, 64), resize="letterbox"),
                Augmenter(colourful, (64, 64), resize="letterbox"),
            )
        ]
        np.testing.assert_array_equal(made[0], made[1])
        assert (made[0] != made[2]).any()
    assert (
        "hue ±0.1, saturation ±0.5, value ±0.5 (by the device); flip"
        in Augmenter(colourful, (64, 64), resize="letterbox", colour=False).describe()
    )
