"""Augmentation, against painted rectangles: what the pixels show is what the boxes must say."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import yolo_lite
from yolo_lite.config.resolve import config_from_dict
from yolo_lite.config.schema import AugmentConfig
from yolo_lite.data.pipeline.augment import Augmenter, mosaic
from yolo_lite.data.pipeline.labelled import Labelled, fit
from yolo_lite.structures.geometry import Letterbox

INPUT = (96, 128)
COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]], np.uint8)
OFF = {"mosaic": 0, "scale": [1, 1], "translate": 0, "flip": 0, "hue": 0, "saturation": 0, "value": 0}
GEOMETRY = {**OFF, "scale": [0.5, 1.5], "translate": 0.1, "flip": 0.5}


def _config(**changes: object) -> AugmentConfig:
    return config_from_dict({"augment": {**OFF, **changes}}, "test").augment


def _painted(
    hw: tuple[int, int], box: tuple[int, int, int, int], colour: npt.ArrayLike = 255, label: int = 0
) -> Labelled:
    """Draw one bright rectangle on black."""
    image = np.zeros((*hw, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = colour
    return Labelled(image, np.array([box], np.float32), np.array([label], np.int64))


def _random(generator: np.random.Generator, colour: npt.ArrayLike = 255, label: int = 0) -> Labelled:
    """Draw a rectangle of at least a third of each side in an image of any shape."""
    height, width = generator.integers(60, 200, 2).tolist()
    x1, y1 = int(generator.integers(0, width // 2)), int(generator.integers(0, height // 2))
    x2, y2 = int(generator.integers(x1 + width // 3, width + 1)), int(generator.integers(y1 + height // 3, height + 1))
    return _painted((height, width), (x1, y1, min(x2, width), min(y2, height)), colour, label)


def _coloured(image: npt.NDArray[np.uint8], colour: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return which pixels are nearer to the colour than half of the way to black or grey."""
    far = np.abs(image.astype(int) - np.asarray(colour)).max(2)
    return far < 70  # 255 - 114 = 141 to the grey, of which half


def _box_of(mask: npt.NDArray[np.bool_]) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def test_colours_alone_change_no_box_and_give_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    warnings.simplefilter("error")
    with monkeypatch.context() as patch:  # pytest uses it too
        patch.setattr(warnings, "catch_warnings", lambda *_, **__: pytest.fail("the filters are swapped"))
        augmenter = Augmenter(_config(hue=0.1, value=0.5), INPUT, resize="stretch")
    sample = _painted(INPUT, (10, 20, 70, 60))
    made = augmenter(lambda _: sample, 0, 1, np.random.default_rng(0), True)
    np.testing.assert_allclose(made.boxes, sample.boxes, atol=1e-4)
    assert (made.image != sample.image).any()


def _check_ranges(made: Labelled) -> None:
    assert made.image.shape == (*INPUT, 3)
    assert (made.image.dtype, made.boxes.dtype, made.labels.dtype) == (np.uint8, np.float32, np.int64)
    assert made.boxes.shape == (len(made.labels), 4)
    assert (made.boxes >= 0).all()
    assert (made.boxes <= [INPUT[1], INPUT[0], INPUT[1], INPUT[0]]).all()
    assert (made.boxes[:, 2:] > made.boxes[:, :2]).all()


# Nothing


@pytest.mark.parametrize("strong", [True, False])
@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@pytest.mark.parametrize("hw", [(96, 128), (50, 170), (333, 100)], ids=str)
def test_augment_none_is_exactly_the_letterbox(hw: tuple[int, int], resize: str, strong: bool) -> None:
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (*hw, 3)).astype(np.uint8)
    boxes = np.array([[3, 4, 30, 40], [0, 0, hw[1], hw[0]], [10.25, 20.5, 11.5, 22]], np.float32)
    sample = Labelled(image, boxes, np.array([2, 0, 1]))
    augmenter = Augmenter(config_from_dict({"augment": "none"}, "test").augment, INPUT, resize=resize)
    made = augmenter(lambda index: sample, 0, 1, generator, strong)
    letterbox = Letterbox.fit(hw, INPUT, resize=resize)
    np.testing.assert_array_equal(made.image, letterbox.apply(image))
    np.testing.assert_array_equal(made.boxes, letterbox.boxes_to_input(boxes))
    np.testing.assert_array_equal(made.labels, [2, 0, 1])


def test_fit_clips_boxes_to_the_image_and_keeps_all_of_them() -> None:
    """Factor 128 / 100 = 1.28, content 64 x 128, offset (96 - 64) / 2 = 16."""
    boxes = np.array([[-10, -10, 50, 25], [90, 40, 120, 60], [0, 0, 100, 50]], np.float32)
    sample = Labelled(np.zeros((50, 100, 3), np.uint8), boxes, np.array([0, 1, 2]))
    made = fit(sample, INPUT, resize="letterbox")
    np.testing.assert_allclose(made.boxes, [[0, 16, 64, 48], [115.2, 67.2, 128, 80], [0, 16, 128, 80]], atol=1e-4)
    assert made.labels.tolist() == [0, 1, 2]
    assert boxes[0].tolist() == [-10, -10, 50, 25]


# One image


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@pytest.mark.parametrize("strong", [True, False])
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"flip": 1}, id="flip"),
        pytest.param({"scale": [0.5, 1.5]}, id="scale"),
        pytest.param({"translate": 0.3}, id="translate"),
        pytest.param({"scale": [0.5, 1.5], "translate": 0.3, "flip": 0.5}, id="all"),
    ],
)
def test_the_box_encloses_the_painted_rectangle(changes: dict[str, object], strong: bool, resize: str) -> None:
    augmenter = Augmenter(_config(**changes, min_visibility=0), INPUT, resize=resize)
    kept = 0
    for seed in range(30):
        generator = np.random.default_rng(seed)
        sample = _random(generator)
        made = augmenter(lambda index, sample=sample: sample, 0, 1, generator, strong)
        _check_ranges(made)
        bright = _coloured(made.image, 255)
        if len(made.boxes):
            np.testing.assert_allclose(made.boxes[0], _box_of(bright), atol=2, err_msg=f"seed {seed}")
            kept += 1
        else:
            assert bright.sum() < 0.02 * bright.size
    assert kept >= 28


def test_flip_mirrors_left_and_right_only() -> None:
    """In an input as large as the image, x becomes 128 - x."""
    sample = _painted(INPUT, (10, 20, 50, 70))
    augmenter = Augmenter(_config(flip=1), INPUT, resize="letterbox")
    made = augmenter(lambda index: sample, 0, 1, np.random.default_rng(0), True)
    np.testing.assert_array_equal(made.image, sample.image[:, ::-1])
    np.testing.assert_allclose(made.boxes, [[78, 20, 118, 70]], atol=1e-3)


def test_flip_happens_as_often_as_it_should() -> None:
    """Of 200 draws with probability 0.25, 50 are expected, give or take four deviations of sqrt(200 / 4 * 3 / 4) = 6."""
    sample = _painted(INPUT, (10, 20, 50, 70))
    augmenter = Augmenter(_config(flip=0.25), INPUT, resize="letterbox")
    made = [augmenter(lambda index: sample, 0, 1, np.random.default_rng(seed), True) for seed in range(200)]
    assert 26 <= sum(one.boxes[0, 0] > 50 for one in made) <= 74


def test_scale_and_shift_stay_in_their_ranges_and_use_them() -> None:
    sample = _painted(INPUT, (48, 36, 80, 60))  # 32 x 24 around the middle: never cut
    augmenter = Augmenter(_config(scale=[0.5, 1.5], translate=0.1), INPUT, resize="letterbox")
    made = [augmenter(lambda index: sample, 0, 1, np.random.default_rng(seed), True).boxes[0] for seed in range(100)]
    widths = np.array([box[2] - box[0] for box in made]) / 32
    shifts = np.array([(box[0] + box[2]) / 2 - 64 for box in made]) / 128
    assert widths.min() >= 0.5 - 0.05
    assert widths.max() <= 1.5 + 0.05
    assert widths.min() < 0.6
    assert widths.max() > 1.4
    assert np.abs(shifts).max() <= 0.1 + 0.01
    assert shifts.min() < -0.05
    assert shifts.max() > 0.05


def test_scale_is_one_factor_for_both_sides() -> None:
    """The rectangle is 32 wide and 24 high; one pixel of error on 12, the smallest height, is a twelfth."""
    sample = _painted(INPUT, (48, 36, 80, 60))
    augmenter = Augmenter(_config(scale=[0.5, 1.5]), INPUT, resize="letterbox")
    for seed in range(30):
        x1, y1, x2, y2 = augmenter(lambda index: sample, 0, 1, np.random.default_rng(seed), True).boxes[0]
        assert (x2 - x1) / (y2 - y1) == pytest.approx(32 / 24, rel=1 / 12)


def test_the_last_epochs_scale_little() -> None:
    sample = _painted(INPUT, (48, 36, 80, 60))
    augmenter = Augmenter(_config(scale=[0.5, 1.5], mosaic=1), INPUT, resize="letterbox")
    for seed in range(30):
        box = augmenter(lambda index: sample, 0, 1, np.random.default_rng(seed), False).boxes[0]
        assert 0.9 - 0.04 <= (box[2] - box[0]) / 32 <= 1.1 + 0.04  # one pixel in 32 is 0.03


def test_a_scale_range_that_excludes_little_scaling_is_kept_in_the_last_epochs() -> None:
    sample = _painted(INPUT, (48, 36, 80, 60))
    augmenter = Augmenter(_config(scale=[1.3, 1.5]), INPUT, resize="letterbox")
    for seed in range(10):
        box = augmenter(lambda index: sample, 0, 1, np.random.default_rng(seed), False).boxes[0]
        assert 1.3 - 0.04 <= (box[2] - box[0]) / 32 <= 1.5 + 0.04


def test_a_box_of_which_too_little_stays_is_dropped() -> None:
    """Twice as large, the image's middle half stays: of a box 0..40 of 128 wide, only 32..40, a fifth, is left."""
    sample = _painted(INPUT, (0, 24, 40, 72))
    for min_visibility, count in ((0.1, 1), (0.3, 0)):
        augmenter = Augmenter(_config(scale=[2, 2], min_visibility=min_visibility), INPUT, resize="letterbox")
        made = augmenter(lambda index: sample, 0, 1, np.random.default_rng(0), True)
        assert len(made.boxes) == len(made.labels) == count
        if count:
            np.testing.assert_allclose(made.boxes, [[0, 0, 16, 96]], atol=2)  # (40 - 32) * 2 wide


@pytest.mark.parametrize("changes", [{"scale": [0.5, 0.5]}, {"translate": 0.4}], ids=["scale", "translate"])
def test_what_is_uncovered_is_grey(changes: dict[str, object]) -> None:
    """A white image: every pixel is white, 114, or on the line between them."""
    sample = _painted(INPUT, (0, 0, 128, 96))
    augmenter = Augmenter(_config(**changes), INPUT, resize="letterbox")
    for seed in range(5):
        image = augmenter(lambda index: sample, 0, 1, np.random.default_rng(seed), True).image
        assert (image.min(), image.max()) == (114, 255)
        assert ((image == 114) | (image == 255)).mean() > 0.95
        assert (image[[0, 0, -1, -1], [0, -1, 0, -1]] == 114).all(1).any()  # a corner


def test_labels_stay_with_their_boxes() -> None:
    """Four rectangles of four colours in one image: each label must find its colour under its box."""
    augmenter = Augmenter(_config(scale=[0.5, 1.5], translate=0.3, flip=0.5), INPUT, resize="letterbox")
    image = np.zeros((*INPUT, 3), np.uint8)
    boxes = [(5, 5, 40, 35), (70, 10, 120, 40), (10, 55, 50, 90), (80, 60, 110, 80)]
    for colour, (x1, y1, x2, y2) in zip(COLOURS, boxes):
        image[y1:y2, x1:x2] = colour
    sample = Labelled(image, np.array(boxes, np.float32), np.arange(4))
    dropped = 0
    for seed in range(30):
        made = augmenter(lambda index: sample, 0, 1, np.random.default_rng(seed), True)
        _check_ranges(made)
        dropped += 4 - len(made.labels)
        for box, label in zip(made.boxes, made.labels):
            np.testing.assert_allclose(box, _box_of(_coloured(made.image, COLOURS[label])), atol=2)
    assert dropped > 0  # or the hard case is not in the data


# Mosaic


def _check_mosaic(made: Labelled) -> int:
    _check_ranges(made)
    assert len(set(made.labels.tolist())) == len(made.labels)
    for box, label in zip(made.boxes, made.labels):
        np.testing.assert_allclose(box, _box_of(_coloured(made.image, COLOURS[label])), atol=2)
    return len(made.labels)


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@pytest.mark.parametrize("scale", [(0.5, 1.5), (1, 1), (0.25, 0.3)], ids=str)
def test_mosaic_boxes_enclose_the_painted_rectangles(scale: tuple[float, float], resize: str) -> None:
    kept = 0
    for seed in range(40):
        generator = np.random.default_rng(seed)
        samples = [_random(generator, colour, label) for label, colour in enumerate(COLOURS)]
        kept += _check_mosaic(mosaic(samples, INPUT, scale=scale, generator=generator, resize=resize))
    assert kept > 0.6 * 40 * 4


def test_mosaic_drops_only_boxes_of_which_less_than_a_tenth_is_left() -> None:
    dropped = 0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        samples = [_painted((100, 100), (2, 2, 30, 30), colour, label) for label, colour in enumerate(COLOURS)]
        made = mosaic(samples, INPUT, scale=(1, 1), generator=generator)
        for label in set(range(4)) - set(made.labels.tolist()):
            dropped += 1
            # 28 * 0.96 = 26.9 wide in the input, where the side of 100 becomes 96: 723 pixels, of which a tenth is 72
            assert _coloured(made.image, COLOURS[label]).sum() <= 72 + 27
        for box in made.boxes:
            assert (box[2] - box[0]) * (box[3] - box[1]) > 72
    assert dropped > 0


def test_mosaic_lays_its_images_around_a_point_of_the_middle_half() -> None:
    """Where images of four colours fill their quarters, the corner in which they meet can be read off."""
    samples = [_painted(INPUT, (0, 0, 128, 96), colour) for colour in COLOURS]
    points = set()
    for seed in range(40):
        made = mosaic(samples, INPUT, scale=(1, 1), generator=np.random.default_rng(seed))
        *corner, x2, y2 = _box_of(_coloured(made.image, COLOURS[0]))
        assert corner == [0, 0]
        for label, box in ((1, [x2, 0, 128, y2]), (2, [0, y2, x2, 96]), (3, [x2, y2, 128, 96])):
            assert _box_of(_coloured(made.image, COLOURS[label])) == box
        assert 32 <= x2 <= 96
        assert 24 <= y2 <= 72
        boxes = [[0, 0, x2, y2], [x2, 0, 128, y2], [0, y2, x2, 96], [x2, y2, 128, 96]]
        large = [(c - a) * (d - b) > 0.1 * 128 * 96 for a, b, c, d in boxes]  # of the whole image's box
        np.testing.assert_array_equal(made.boxes, [box for box, good in zip(boxes, large) if good])
        points.add((x2, y2))
    assert len(points) > 30


@pytest.mark.parametrize(("resize", "hw"), [("letterbox", (32, 32)), ("stretch", (32, 64))])
def test_mosaic_resizes_its_images_as_single_ones_are(resize: str, hw: tuple[int, int]) -> None:
    """A square of 50 in an input of 64 x 128, halved: 32 x 32 where the shape is kept, 32 x 64 where it is not."""
    samples = [_painted((50, 50), (0, 0, 50, 50), colour) for colour in COLOURS]
    for seed in range(10):
        made = mosaic(samples, (64, 128), scale=(0.5, 0.5), generator=np.random.default_rng(seed), resize=resize)
        sizes = [_box_of(_coloured(made.image, colour)) for colour in COLOURS]
        assert max(y2 - y1 for _, y1, _, y2 in sizes) == hw[0]
        assert max(x2 - x1 for x1, _, x2, _ in sizes) == hw[1]


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
@pytest.mark.parametrize("scale", [(0.4, 0.9), (1.2, 2)], ids=str)
def test_mosaic_shows_of_each_image_what_a_whole_resized_one_would(scale: tuple[float, float], resize: str) -> None:
    """An image is cut before it is resized, which moves what it shows by half a pixel at most."""
    for seed in range(20):
        samples = [_slope(np.random.default_rng([seed, i]), i) for i in range(4)]
        made = mosaic(samples, INPUT, scale=scale, generator=np.random.default_rng(seed), resize=resize)
        image, boxes, shares = _whole_mosaic(samples, scale, np.random.default_rng(seed), resize)
        steepest = 2 * 255 / min(sample.image.shape[0] for sample in samples) / scale[0]
        assert np.abs(made.image.astype(int) - image).max() <= steepest + 2
        np.testing.assert_allclose(made.boxes, boxes[made.labels], atol=0.51)
        assert set(np.flatnonzero(shares > 0.11)) <= set(made.labels.tolist()) <= set(np.flatnonzero(shares > 0.09))


def _slope(generator: np.random.Generator, label: int) -> Labelled:
    """Draw an image that gets brighter to the right in red and downwards in green; its box is all of it."""
    height, width = generator.integers(90, 200, 2).tolist()
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0] = np.linspace(0, 255, width)
    image[..., 1] = np.linspace(0, 255, height)[:, None]
    return Labelled(image, np.array([[0, 0, width, height]], np.float32), np.array([label]))


def _whole_mosaic(
    samples: list[Labelled], scale: tuple[float, float], generator: np.random.Generator, resize: str
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Lay whole images out, of which the canvas is then cut out; also return their boxes, and how much is left of each."""
    x, y = (int(generator.uniform(0.25, 0.75) * side) for side in (INPUT[1], INPUT[0]))
    image = np.full((*INPUT, 3), 114, np.uint8)
    boxes, shares = [], []
    for i, sample in enumerate(samples):
        right, below, factor = bool(i % 2), i >= 2, generator.uniform(*scale)
        content = Letterbox.fit(sample.image.shape[:2], INPUT, resize=resize).content_hw
        h, w = round(content[0] * factor), round(content[1] * factor)
        large = np.full((5 * INPUT[0], 5 * INPUT[1], 3), 114, np.uint8)
        top, left = 2 * INPUT[0] + y - (0 if below else h), 2 * INPUT[1] + x - (0 if right else w)
        large[top : top + h, left : left + w] = Letterbox(
            sample.image.shape[:2], (h, w), content_hw=(h, w), offset_xy=(0, 0)
        ).apply(sample.image)
        canvas = large[2 * INPUT[0] : 3 * INPUT[0], 2 * INPUT[1] : 3 * INPUT[1]]
        quarter = (slice(y, None) if below else slice(0, y), slice(x, None) if right else slice(0, x))
        image[quarter] = canvas[quarter]
        box = [x, y, min(x + w, INPUT[1]), min(y + h, INPUT[0])]
        box[0::2] = box[0::2] if right else [max(0, x - w), x]
        box[1::2] = box[1::2] if below else [max(0, y - h), y]
        boxes.append(box)
        shares.append((box[2] - box[0]) * (box[3] - box[1]) / (w * h))
    return image, np.array(boxes, np.float64), np.array(shares)


def test_mosaic_leaves_grey_where_no_image_reaches() -> None:
    """Images of a quarter of either side around a point of the middle half do not all reach the rim."""
    samples = [_painted(INPUT, (0, 0, 128, 96), colour) for colour in COLOURS]
    made = mosaic(samples, INPUT, scale=(0.25, 0.25), generator=np.random.default_rng(0))
    covered = np.zeros(INPUT, bool)
    for colour in COLOURS:
        mask = _coloured(made.image, colour)
        assert mask.sum() == 24 * 32  # a quarter of either side
        covered |= mask
    assert (made.image[~covered] == 114).all()
    assert covered[0].sum() == covered[:, 0].sum() == 0


def test_mosaic_does_not_modify_its_images_and_accepts_images_without_objects() -> None:
    generator = np.random.default_rng(0)
    samples = [_random(generator, colour, label) for label, colour in enumerate(COLOURS)]
    samples[2] = Labelled(samples[2].image, np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    before = [Labelled(*(part.copy() for part in sample[:3])) for sample in samples]
    made = mosaic(samples, INPUT, scale=(1, 1), generator=generator)
    assert 2 not in made.labels
    for sample, copy in zip(samples, before):
        for part, old in zip(sample, copy):
            np.testing.assert_array_equal(part, old)
    nothing = mosaic([samples[2]] * 4, INPUT, scale=(1, 1), generator=generator)
    assert nothing.boxes.shape == (0, 4)
    assert nothing.labels.shape == (0,)


def test_an_augmented_mosaic_encloses_its_four_colours() -> None:
    augmenter = Augmenter(_config(mosaic=1, scale=[0.5, 1.5], translate=0.3, flip=0.5), INPUT, resize="letterbox")
    kept = flipped = 0
    for seed in range(40):
        generator = np.random.default_rng(seed)
        drawn = [_random(generator, colour, label) for label, colour in enumerate(COLOURS)]
        queue = iter(drawn)
        made = augmenter(lambda index, queue=queue: next(queue), 0, 50, generator, True)
        kept += _check_mosaic(made)
        first = made.boxes[made.labels == 0]
        flipped += bool(len(first) and first[0, 0] > 96)  # the first image, upper left, is on the right
    assert kept > 0.6 * 40 * 4
    assert flipped > 0


def test_a_mosaic_starts_with_its_own_image_and_draws_three_from_the_set() -> None:
    asked: list[list[int]] = []

    def load(index: int) -> Labelled:
        asked[-1].append(index)
        return _painted((50, 60), (10, 10, 40, 40))

    augmenter = Augmenter(_config(mosaic=1), INPUT, resize="letterbox")
    for seed in range(100):
        asked.append([])
        augmenter(load, 3, 5, np.random.default_rng(seed), True)
    assert all(len(indices) == 4 and indices[0] == 3 for indices in asked)
    assert {index for indices in asked for index in indices[1:]} == set(range(5))


@pytest.mark.parametrize(("probability", "strong", "loads"), [(1, True, 4), (1, False, 1), (0, True, 1)])
def test_mosaic_belongs_to_the_strong_epochs(probability: float, strong: bool, loads: int) -> None:
    asked: list[int] = []

    def load(index: int) -> Labelled:
        asked.append(index)
        return _painted((50, 60), (10, 10, 40, 40))

    Augmenter(_config(mosaic=probability), INPUT, resize="letterbox")(load, 3, 5, np.random.default_rng(0), strong)
    assert len(asked) == loads


# Colour


def test_colour_changes_leave_boxes_and_grey_alone() -> None:
    """Hue and saturation do nothing to pure grey; only `value` moves it, by at most 0.2 of 255 = 51."""
    sample = Labelled(np.full((*INPUT, 3), 120, np.uint8), np.array([[10, 20, 50, 70]], np.float32), np.array([0]))
    moved = []
    for seed in range(30):
        generator = np.random.default_rng(seed)
        augmenter = Augmenter(_config(hue=0.1, saturation=0.0, value=0.2), INPUT, resize="letterbox")
        made = augmenter(lambda index: sample, 0, 1, generator, True)
        np.testing.assert_allclose(made.boxes, sample.boxes, atol=1e-3)
        moved.append(int(made.image[0, 0, 0]) - 120)
        assert (made.image == made.image[0, 0, 0]).all()
    assert -52 <= min(moved) < -20
    assert 20 < max(moved) <= 52


def test_a_hue_shift_of_half_the_circle_can_turn_red_to_cyan() -> None:
    sample = _painted(INPUT, (0, 0, 128, 96), COLOURS[0])
    augmenter = Augmenter(_config(hue=0.5), INPUT, resize="letterbox")
    seen = np.array(
        [augmenter(lambda index: sample, 0, 1, np.random.default_rng(seed), True).image[0, 0] for seed in range(60)]
    )
    # a sixth of the circle is from one primary or secondary colour to the next; each kind appears among 60
    dominant = set(seen.argmax(1).tolist())
    assert dominant == {0, 1, 2}
    assert (seen[:, 0] < 50).any()  # no red left
    assert (seen.max(1) > 250).all()  # as bright as before


def test_a_small_hue_shift_keeps_red_red() -> None:
    """0.015 of the circle is 5.4 degrees; 60 degrees lead from red to yellow, so green rises to 255 * 5.4 / 60 = 23."""
    sample = _painted(INPUT, (0, 0, 128, 96), COLOURS[0])
    augmenter = Augmenter(_config(hue=0.015), INPUT, resize="letterbox")
    for seed in range(20):
        pixel = augmenter(lambda index: sample, 0, 1, np.random.default_rng(seed), True).image[0, 0]
        assert pixel[0] > 250
        assert pixel[1:].max() <= 23 + 9  # OpenCV's hue has steps of 2 degrees


# Chance


def _make(augmenter: Augmenter, seed: list[int]) -> Labelled:
    samples = [_random(np.random.default_rng(number), 200) for number in range(6)]
    return augmenter(lambda index: samples[index], seed[-1] % 6, 6, np.random.default_rng(seed), True)


def test_samples_are_equal_for_equal_seed_epoch_and_index_and_differ_otherwise() -> None:
    config = AugmentConfig()
    one, other = Augmenter(config, INPUT, resize="letterbox"), Augmenter(config, INPUT, resize="letterbox")
    keys = [[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [7, 3, 5]]
    first = [_make(one, key) for key in keys]
    again = [_make(other, key) for key in reversed(keys)][::-1]  # another augmenter, in another order
    for a, b in zip(first, again):
        for part, same in zip(a, b):
            np.testing.assert_array_equal(part, same)
    for i, a in enumerate(first):
        for b in first[i + 1 :]:
            assert not np.array_equal(a.image, b.image)


def test_global_chance_plays_no_part() -> None:
    import random

    augmenter = Augmenter(AugmentConfig(), INPUT, resize="letterbox")
    made = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        made.append(_make(augmenter, [0, 0, 0]))
    np.testing.assert_array_equal(made[0].image, made[1].image)
    np.testing.assert_array_equal(made[0].boxes, made[1].boxes)


def test_augmentation_does_not_modify_the_image_it_is_given() -> None:
    sample = _random(np.random.default_rng(0), 200)
    before = Labelled(*(part.copy() for part in sample[:3]))
    resized = Labelled(np.full((*INPUT, 3), 99, np.uint8), sample.boxes / 4, sample.labels)  # needs no resizing
    augmenter = Augmenter(AugmentConfig(), INPUT, resize="letterbox")
    for seed in range(10):
        augmenter(lambda index: sample, 0, 1, np.random.default_rng(seed), True)
        augmenter(lambda index: resized, 0, 1, np.random.default_rng(seed), False)
    for part, old in zip(sample, before):
        np.testing.assert_array_equal(part, old)
    assert (resized.image == 99).all()


@pytest.mark.parametrize("mosaics", [0, 1])
def test_an_image_without_objects_stays_without(mosaics: int) -> None:
    sample = Labelled(np.zeros((50, 70, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    made = Augmenter(_config(**{**GEOMETRY, "mosaic": mosaics}), INPUT, resize="letterbox")(
        lambda index: sample, 0, 1, np.random.default_rng(0), True
    )
    _check_ranges(made)
    assert made.boxes.shape == (0, 4)


# What it says, and what its import does


@pytest.mark.parametrize(
    ("values", "text"),
    [
        pytest.param("none", "none (letterbox to 96 x 128)", id="none"),
        pytest.param({**OFF, "flip": 0.5}, "letterbox to 96 x 128; flip (p 0.5)", id="flip"),
        pytest.param(
            {**OFF, "mosaic": 0.25, "off_last": 0.2},
            "mosaic of four (p 0.25); letterbox to 96 x 128; no mosaic and little scaling in the last 20% of epochs",
            id="mosaic",
        ),
        pytest.param(
            {**GEOMETRY, "hue": 0.1, "off_last": 0},
            "letterbox to 96 x 128; scale 0.5 to 1.5, shift up to 0.1; hue ±0.1, saturation ±0, value ±0; flip (p 0.5)",
            id="no mosaic",
        ),
    ],
)
def test_describe_says_the_whole_pipeline(values: object, text: str) -> None:
    config = config_from_dict({"augment": values}, "test").augment
    assert Augmenter(config, INPUT, resize="letterbox").describe() == text


@pytest.mark.slow
def test_importing_augment_asks_albumentations_not_to_look_for_updates_and_opens_no_socket() -> None:
    code = """
import socket, sys, os
opened = []
class Spy(socket.socket):
    def __init__(self, *arguments, **options):
        opened.append(arguments)
        super().__init__(*arguments, **options)
socket.socket = Spy
socket.getaddrinfo = lambda *arguments, **options: opened.append(arguments) or []
import yolo_lite.data.pipeline.augment
print(os.environ["NO_ALBUMENTATIONS_UPDATE"], "albumentations" in sys.modules, opened)
"""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("NO_ALBUMENTATIONS")}
    root = Path(yolo_lite.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "1 True []", done.stderr
    assert done.stderr == ""


def test_a_mosaic_is_unlabelled_for_what_any_of_its_images_is() -> None:
    generator = np.random.default_rng(0)
    samples = [_random(generator)._replace(unlabelled=labels) for labels in ((), (2,), (0, 2), ())]
    assert mosaic(samples, INPUT, scale=(1, 1), generator=generator).unlabelled == (0, 2)


@pytest.mark.parametrize("strong", [False, True])
def test_what_an_image_is_not_labelled_for_stays_with_it(strong: bool) -> None:
    sample = _random(np.random.default_rng(1))._replace(unlabelled=(1,))
    augmenter = Augmenter(_config(), INPUT, resize="letterbox")
    made = augmenter(lambda index: sample, 0, 1, np.random.default_rng(2), strong)
    assert made.unlabelled == (1,)
