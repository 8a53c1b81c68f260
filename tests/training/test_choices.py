"""What fine-tuning leaves open is chosen by how well the starting weights know the objects."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from yolo_lite.checkpoints.transfer import Start
from yolo_lite.config.schema import Config, InputConfig, TrainConfig
from yolo_lite.errors import InputError
from yolo_lite.structures.records import ImageRecord, Records
from yolo_lite.training.choices import Counts, choose, enlarge, epochs_between, median_side
from yolo_lite.training.plan import plan

ASKED = Config(train=TrainConfig(lr=-1, batch_size=0, keep_start=-1, epochs=0, evaluate_every=0))


@pytest.mark.parametrize(
    ("known", "familiarity", "images", "expected"),
    [
        pytest.param(5, 0.6, 1500, (2e-4, 16, 0.4), id="known classes"),
        pytest.param(5, 0.6, 100, (2e-4, 16, 0.4), id="few images of known classes"),
        pytest.param(0, 0.4, 160, (2e-4, 16, 0.0), id="new names for familiar objects"),
        pytest.param(0, 0.02, 150, (1e-3, 8, 0.0), id="unfamiliar"),
        pytest.param(0, 0.02, 640, (1e-3, 8, 0.0), id="unfamiliar, the last small set"),
        pytest.param(0, 0.02, 641, (1e-3, 16, 0.0), id="unfamiliar, many images"),
        pytest.param(2, 0.1, 150, (1e-3, 8, 0.0), id="known names for unfamiliar objects"),
        pytest.param(0, 0.25, 150, (1e-3, 8, 0.0), id="at the limit"),
    ],
)
def test_the_choice(known: int, familiarity: float, images: int, expected: tuple[float, int, float]) -> None:
    config, line = choose(
        ASKED, Start("", {}, known=known, familiarity=familiarity), counts=Counts(images, images // 10, classes=3)
    )
    assert (config.train.lr, config.train.batch_size, config.train.keep_start) == expected
    assert f"(score {familiarity:.2f})" in line
    assert ("hardly" in line) == (expected[0] == 1e-3)


@pytest.mark.parametrize(
    ("familiarity", "images", "epochs", "every"),
    [
        pytest.param(0.6, 100, 10, 2, id="familiar"),
        pytest.param(0.1, 56, 60, 6, id="very few images: the most epochs"),
        pytest.param(0.1, 140, 40, 4, id="700 steps of 8 images are 40 epochs of 140"),
        pytest.param(0.1, 560, 10, 2, id="700 steps of 8 images are 10 epochs of 560"),
        pytest.param(0.1, 10_000, 10, 2, id="many images"),
    ],
)
def test_unfamiliar_objects_get_about_700_steps(familiarity: float, images: int, epochs: int, every: int) -> None:
    config, line = choose(
        ASKED, Start("", {}, known=0, familiarity=familiarity), counts=Counts(images, images // 10, classes=3)
    )
    assert (config.train.epochs, config.train.evaluate_every) == (epochs, every)
    assert f"{epochs} epochs" in line
    assert "evaluate" not in line


@pytest.mark.parametrize(("classes", "rate"), [(1, 2e-4), (2, 1e-3)])
def test_a_single_class_needs_less_familiarity(classes: int, rate: float) -> None:
    start = Start("", {}, known=0, familiarity=0.13)
    assert choose(ASKED, start, counts=Counts(100, 5, classes=classes))[0].train.lr == rate
    unknown = Start("", {}, known=0, familiarity=0.1)
    assert choose(ASKED, unknown, counts=Counts(100, 5, classes=classes))[0].train.lr == 1e-3


def test_a_time_limit_decides_about_the_epochs() -> None:
    asked = dataclasses.replace(ASKED, train=dataclasses.replace(ASKED.train, minutes=10))
    config, line = choose(asked, Start("", {}, known=0, familiarity=0.1), counts=Counts(140, 7, classes=3))
    assert (config.train.epochs, config.train.evaluate_every) == (0, 0)
    assert "epochs" not in line


def test_evaluations_follow_the_epochs_that_were_asked_for() -> None:
    asked = Config(train=TrainConfig(epochs=50, evaluate_every=0))
    assert choose(asked, None, counts=Counts(10, 0, classes=3))[0].train.evaluate_every == 5


@pytest.mark.parametrize(
    ("epochs", "evaluation", "expected"),
    [
        (10, 0.0, 1),
        (10, 0.05, 1),
        (10, 0.051, 2),
        (10, 0.2, 4),  # 2 evaluations of 0.2 epochs, and one after the last epoch
        (10, 9.0, 5),  # but always one in the middle
        (19, 0.0, 2),  # never more than ten
        (100, 0.05, 10),
        (100, 0.9, 18),
        (1, 9.0, 1),
        (3, 9.0, 1),
    ],
)
def test_evaluations_take_a_twentieth_of_the_time(epochs: int, evaluation: float, expected: int) -> None:
    between = epochs_between(epochs, evaluation)
    assert between == expected
    if 1 < between < epochs // 2:
        assert epochs // between * evaluation <= 0.05 * epochs * 1.0001


def test_what_was_asked_for_stays() -> None:
    asked = Config(train=TrainConfig(lr=0.5, batch_size=3, keep_start=0.2))
    assert choose(asked, Start("", {}, known=0, familiarity=0.0), counts=Counts(10, 0, classes=3)) == (asked, "")
    half = Config(train=TrainConfig(lr=-1, batch_size=3, keep_start=0.2))
    config, line = choose(half, Start("", {}, known=0, familiarity=0.0), counts=Counts(10, 0, classes=3))
    assert (config.train.lr, config.train.batch_size, config.train.keep_start) == (1e-3, 3, 0.2)
    assert line.endswith("so: learning rate 0.001 (train.lr); compare with --config nano, which starts from scratch")
    seen = choose(half, Start("", {}, known=0, familiarity=0.03), counts=Counts(10, 0, classes=3))[1]
    assert seen.endswith("so: learning rate 0.001 (train.lr)")


def test_without_starting_weights_nothing_is_said() -> None:
    config, line = choose(ASKED, None, counts=Counts(10, 0, classes=3))
    assert line == ""
    assert (config.train.lr, config.train.batch_size, config.train.keep_start) == (1e-3, 8, 0.0)


@pytest.mark.parametrize("name", ["lr", "keep_start"])
def test_other_negative_values_are_refused(name: str) -> None:
    config = Config(train=TrainConfig(**{name: -0.5}))
    with pytest.raises(InputError, match=rf"train.{name} must not be negative, but for -1"):
        choose(config, None, counts=Counts(10, 0, classes=3))


def test_the_shipped_recipe_leaves_the_choice_and_flags_make_it() -> None:
    assert plan("my_images").config.train.lr == -1
    assert plan("my_images", settings={"train.lr": 0.01}).config.train.lr == 0.01


def _records(sides: list[float], hw: tuple[int, int] = (100, 200), crowd: bool = False) -> Records:
    boxes = np.array([[0.0, 0.0, side, side] for side in sides]).reshape(-1, 4)
    count = len(sides)
    record = ImageRecord(
        Path("scene.jpg"),
        image_id=1,
        hw=hw,
        boxes=boxes,
        labels=np.zeros(count, np.int64),
        crowd=np.full(count, crowd),
        areas=np.ones(count),
    )
    return Records.pack([record])


@pytest.mark.parametrize(
    ("sides", "size", "expected"),
    [
        pytest.param([20, 20, 20], (416, 416), (416, 416), id="41.6 input pixels are enough"),
        pytest.param([16, 16, 90], (416, 416), (512, 512), id="33.3 of 40: 500, rounded up"),
        pytest.param([3, 3, 3], (416, 416), (544, 544), id="tiny: the largest"),
        pytest.param([3, 3, 3], (640, 640), (640, 640), id="large already"),
        pytest.param([3, 3, 3], (800, 800), (800, 800), id="never smaller"),
        pytest.param([3, 3, 3], (320, 416), (448, 544), id="both sides by the same factor"),
        pytest.param([], (416, 416), (416, 416), id="no objects"),
    ],
)
def test_small_objects_enlarge_the_input(sides: list[float], size: tuple[int, int], expected: tuple[int, int]) -> None:
    """The images are 200 pixels wide."""
    config = Config(input=InputConfig(image_size=size), train=TrainConfig(enlarge=True))
    chosen, line = enlarge(config, _records(sides))
    assert chosen.input.image_size == expected
    assert not chosen.train.enlarge
    assert bool(line) == (expected != size)
    stays = dataclasses.replace(config, train=TrainConfig(enlarge=False))
    assert enlarge(stays, _records(sides)) == (stays, "")


def test_crowds_are_not_objects() -> None:
    assert median_side(_records([3, 3], crowd=True), InputConfig()) == 0


def test_sides_are_those_in_the_input() -> None:
    """An image of 200 x 100, stretched to 400 x 400: factors of 2 and 4."""
    stretched = InputConfig(image_size=(400, 400), resize="stretch")
    assert median_side(_records([10.0]), stretched) == pytest.approx(10 * math.sqrt(8))
    assert median_side(_records([10.0]), InputConfig(image_size=(400, 400))) == pytest.approx(20)


def test_a_size_that_was_asked_for_stays() -> None:
    assert plan("my_images").config.train.enlarge
    assert not plan("my_images", settings={"input.image_size": 320}).config.train.enlarge
    assert plan("my_images", settings={"input.image_size": 320, "train.enlarge": True}).config.train.enlarge
    assert not plan("my_images", config="nano").config.train.enlarge
