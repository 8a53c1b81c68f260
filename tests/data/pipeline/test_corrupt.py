"""Corruptions and styles: as named, stronger by strength, repeatable, and without moving anything."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image as PillowImage

from yolo_lite.data.pipeline.corrupt import CHANGES, CORRUPTIONS, STRENGTHS, STYLES, Change, change_image
from yolo_lite.predict.files import sample_image
from yolo_lite.structures.geometry import Image


@pytest.fixture(scope="module")
def photo() -> Image:
    """Return the sample photograph, reduced, as pixels that cannot be written to."""
    image = np.array(PillowImage.open(sample_image()).convert("RGB").resize((200, 240)))
    image.flags.writeable = False
    return image


def difference(image: Image, changed: Image) -> float:
    return float(np.abs(changed.astype(float) - image).mean())


def test_there_are_twelve_corruptions_of_three_strengths_and_four_styles() -> None:
    assert (len(CORRUPTIONS), STRENGTHS, len(STYLES), len(CHANGES)) == (12, (1, 2, 3), 4, 40)
    assert len(set(CHANGES)) == 40


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_a_change_is_repeatable_and_leaves_its_input_alone(photo: Image, change: Change) -> None:
    before = photo.copy()
    changed = change_image(photo, change, seed=3, position=5)
    change_image(photo, Change("rain", 2), seed=3, position=5)  # what is drawn in between must not matter
    again = change_image(photo, change, seed=3, position=5)
    assert changed.shape == photo.shape
    assert changed.dtype == np.uint8
    assert np.array_equal(changed, again)
    assert np.array_equal(photo, before)
    assert not np.shares_memory(changed, photo)
    assert difference(photo, changed) > 1


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_a_higher_strength_changes_more(photo: Image, kind: str) -> None:
    changes = [difference(photo, change_image(photo, Change(kind, strength))) for strength in STRENGTHS]
    assert changes[0] * 1.1 < changes[1]
    assert changes[1] * 1.1 < changes[2]


@pytest.mark.parametrize("kind", ["Gaussian noise", "sensor noise", "motion blur", "fog", "rain"])
@pytest.mark.parametrize("other", [{"seed": 1}, {"position": 1}])
def test_each_image_and_seed_has_its_own_random_numbers(photo: Image, kind: str, other: dict[str, int]) -> None:
    assert not np.array_equal(change_image(photo, Change(kind, 2)), change_image(photo, Change(kind, 2), **other))


@pytest.mark.parametrize("hw", [(1, 1), (1, 9), (9, 1), (2, 3), (33, 7)])
@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_tiny_images_keep_their_size(change: Change, hw: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*hw, 3)).astype(np.uint8)
    assert change_image(image, change).shape == image.shape


def test_large_images_are_painted_at_a_smaller_size_and_keep_theirs() -> None:
    rows = np.linspace(0, 255, 1100)[:, None, None]
    image = np.broadcast_to(rows, (1100, 1300, 3)).astype(np.uint8)
    for style in STYLES:
        assert change_image(image, Change(style)).shape == image.shape


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_nothing_moves(change: Change) -> None:
    """The centre of what differs from a plain wall stays where the square is, so boxes stay right."""
    rows, columns = np.mgrid[:160, :200]
    square = (abs(rows - 79.5) < 30) & (abs(columns - 99.5) < 30)  # in the middle: a zoom smears all else outwards
    image = np.where(square[..., None], np.uint8(70), np.uint8(150)).repeat(3, axis=2)
    wall = np.full_like(image, 150)
    changed, plain = (change_image(pixels, change).astype(float) for pixels in (image, wall))
    weights = np.abs(changed - plain).mean(2)
    weights[weights < 0.3 * weights.max()] = 0  # noise, which differs a little everywhere
    centre = (weights * rows).sum() / weights.sum(), (weights * columns).sum() / weights.sum()
    assert centre == pytest.approx((79.5, 99.5), abs=3)


def test_a_zoom_smears_what_is_beside_the_middle_outwards() -> None:
    """Copies of 1 to 1.25 times the size are averaged: an eighth of the distance to the middle, 240 pixels, is 30."""
    rows, columns = np.mgrid[:480, :800]
    square = (abs(rows - 239.5) < 30) & (abs(columns - 159.5) < 30)
    image = np.where(square[..., None], np.uint8(70), np.uint8(150)).repeat(3, axis=2)
    weights = 150 - change_image(image, Change("zoom blur", 3)).astype(float).mean(2)
    assert (weights * columns).sum() / weights.sum() == pytest.approx(159.5 - 30, abs=4)


def test_exposure_multiplies_and_low_contrast_moves_values_to_the_mean(photo: Image) -> None:
    light = photo.astype(float)
    for kind, factors in (("darkness", (0.5, 0.25, 0.1)), ("brightness", (1.5, 2.2, 3.5))):
        for strength, factor in zip(STRENGTHS, factors):
            expected = (light * factor).clip(0, 255)
            assert np.abs(change_image(photo, Change(kind, strength)) - expected).max() <= 1
    for strength, kept in zip(STRENGTHS, (0.55, 0.3, 0.15)):
        grey = change_image(photo, Change("low contrast", strength)).astype(float)
        assert grey.std() == pytest.approx(kept * light.std(), rel=0.02)
        assert grey.mean() == pytest.approx(light.mean(), abs=1)


def test_noise_has_the_named_spread_and_no_drift() -> None:
    image = np.full((200, 200, 3), 128, np.uint8)
    for strength, spread in zip(STRENGTHS, (0.06, 0.14, 0.28)):
        noise = change_image(image, Change("Gaussian noise", strength)).astype(float) - 128
        assert noise.mean() == pytest.approx(0, abs=1.5)
        assert noise.std() == pytest.approx(spread * 255, rel=0.08)  # a little less: values end at 0 and 255


def test_blocks_are_means_and_grow_with_the_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (480, 480, 3)).astype(np.uint8)
    blocks = change_image(image, Change("pixelation", 3))  # blocks of 8 at a shorter side of 480
    means = image.reshape(60, 8, 60, 8, 3).mean((1, 3))
    assert np.abs(blocks.reshape(60, 8, 60, 8, 3) - means[:, None, :, None]).max() <= 1
    assert np.array_equal(blocks[:8, :8], np.broadcast_to(blocks[0, 0], (8, 8, 3)))
    twice = change_image(image.repeat(2, axis=0).repeat(2, axis=1), Change("pixelation", 3))
    assert np.array_equal(twice[:16, :16], np.broadcast_to(twice[0, 0], (16, 16, 3)))


def test_oil_is_the_mean_colour_of_the_commonest_grey_level() -> None:
    """A loop over pixels with a histogram for each, away from the border."""
    image = np.random.default_rng(0).integers(0, 256, (240, 9, 3)).astype(np.uint8)
    image[:, 4:] //= 2
    image = image[:12].repeat(20, axis=0)[:240].repeat(27, axis=1)[:, :240]  # shorter side 240: a radius of 2
    painted = change_image(image, Change("oil painting")).astype(float)
    grey = np.array(PillowImage.fromarray(image).convert("L")).astype(int)
    for row, column in ((50, 60), (100, 27), (39, 81), (120, 120), (180, 53)):
        around = np.s_[row - 2 : row + 3, column - 2 : column + 3]
        colours, levels = image[around].reshape(-1, 3), grey[around].reshape(-1) * 10 // 256
        counts = [(levels == level).sum() for level in range(10)]
        assert painted[row, column] == pytest.approx(colours[levels == np.argmax(counts)].mean(0), abs=1.01)


def test_posters_have_four_values_and_sketches_no_colour(photo: Image) -> None:
    assert np.unique(change_image(photo, Change("posterised"))).tolist() == [0, 85, 170, 255]
    sketch = change_image(photo, Change("pencil sketch"))
    assert (sketch == sketch[..., :1]).all()
    assert sketch.mean() > 180  # mostly paper


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (Change("fogg", 1), "there is no change 'fogg 1'; did you mean 'fog'"),
        (Change("fog"), "strength of fog must be 1, 2 or 3, got None"),
        (Change("fog", 0), "strength of fog must be 1, 2 or 3, got 0"),
        (Change("watercolour", 1), "there is no change 'watercolour 1'"),
    ],
)
def test_unknown_changes_are_refused(photo: Image, change: Change, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        change_image(photo, change)
