"""Choose what the recipe of fine-tuning leaves open, once the data and the starting weights are known.

A network that already finds the objects, under whatever name, loses by large steps what it knows. One that has never
seen anything like them needs large steps, and many, to learn enough in a few epochs. So the familiarity of the objects
decides (checkpoints/transfer.py), which is measured before the first step.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import numpy as np

from yolo_lite.checkpoints.transfer import Start
from yolo_lite.config.schema import Config, InputConfig
from yolo_lite.errors import InputError, counted
from yolo_lite.structures.geometry import Letterbox
from yolo_lite.structures.records import Records

# Familiarity above which the starting weights know the objects; docs/results.md has that of seven sets.
FAMILIAR = 0.25
FAMILIAR_ALONE = 0.1  # the same for a set of one class, whose objects cannot be taken for another class of the set
UNKNOWN = 0.03  # familiarity below which the starting weights may help no more than random ones
KEPT_OF_KNOWN = 0.4  # train.keep_start if they do, and know some of the classes by name
RATES = {True: 2e-4, False: 1e-3}  # learning rates for objects that they know, and for others
BATCH_SIZE, SMALL_BATCH_SIZE = 16, 8
FEW_IMAGES = 640  # the most images that make a small set, which otherwise has too few steps
EPOCHS, MOST_EPOCHS, STEPS = 10, 60, 700  # for unfamiliar objects so many epochs that there are about STEPS steps
EVALUATIONS = 10  # the most of a run
EVALUATED = 0.75  # cost of an image in evaluation by that in training: 1.5x network, 320 x 320, one profile on a CPU
SHARE_OF_EVALUATION = 0.05  # of the time of a run

USUAL_SIDE = 40  # input pixels: an enlarged input gives half of the objects at least this side
LARGEST, MULTIPLE = 544, 32  # input pixels: the largest side of an enlarged input, and what its sides are multiples of

OPEN = {"lr": -1, "batch_size": 0, "keep_start": -1, "epochs": 0, "evaluate_every": 0}  # the values that leave a choice


class Counts(NamedTuple):
    """Numbers of training images, validation images and classes."""

    images: int
    val_images: int
    classes: int


def choose(config: Config, start: Start | None, *, counts: Counts) -> tuple[Config, str]:
    """Replace the values of `train` that leave a choice by values for these images.

    Those are -1 of `lr` and `keep_start`, and 0 of `batch_size`, `epochs` and `evaluate_every`.

    Args:
        config: of the run.
        start: what the network took from the starting weights; None: nothing.
        counts: of the data.

    Returns:
        The configuration, and a line with the choices and their reason; it is empty if nothing was open.

    Raises:
        InputError: for other negative values.

    Example:
        >>> from yolo_lite.config.schema import TrainConfig
        >>> counts = Counts(images=150, val_images=50, classes=6)
        >>> config = Config(train=TrainConfig(lr=-1, batch_size=0, keep_start=-1, epochs=0))
        >>> chosen, line = choose(config, Start("", {}, known=0, familiarity=0.02), counts=counts)
        >>> chosen.train.lr, chosen.train.batch_size, chosen.train.keep_start, chosen.train.epochs
        (0.001, 8, 0.0, 37)
        >>> line[:45]
        'the starting weights hardly know these object'
    """
    train, (images, val_images, classes) = config.train, counts
    for name, value in (("lr", train.lr), ("keep_start", train.keep_start)):
        if value < 0 and value != -1:
            raise InputError(f"train.{name} must not be negative, but for -1, which leaves the choice; got {value:g}")
    familiarity = start.familiarity if start else 0.0
    is_familiar = familiarity > (FAMILIAR if classes > 1 else FAMILIAR_ALONE)
    batch_size = train.batch_size or (SMALL_BATCH_SIZE if not is_familiar and images <= FEW_IMAGES else BATCH_SIZE)
    enough = round(STEPS * batch_size / max(1, images))
    epochs = train.epochs or (EPOCHS if is_familiar else min(max(enough, EPOCHS), MOST_EPOCHS))
    if train.minutes:  # these decide about the epochs, a little later
        epochs = 0
    values: dict[str, Any] = {
        "lr": RATES[is_familiar],
        "batch_size": batch_size,
        "keep_start": KEPT_OF_KNOWN if start and start.known and is_familiar else 0.0,
        "epochs": epochs,
        "evaluate_every": 0 if train.minutes else epochs_between(epochs, EVALUATED * val_images / max(1, images)),
    }
    chosen = {name: value for name, value in values.items() if getattr(train, name) == OPEN[name] != value}
    config = dataclasses.replace(config, train=dataclasses.replace(train, **chosen))
    return config, _line(chosen, start.familiarity, is_familiar=is_familiar) if start and chosen.keys() - {
        "evaluate_every"
    } else ""


def enlarge(config: Config, records: Records) -> tuple[Config, str]:
    """Enlarge the input if `train.enlarge` asks for it and most objects are small.

    The new size makes the median side of the objects USUAL_SIDE input pixels, or is LARGEST.

    Args:
        config: of the run.
        records: the training images.

    Returns:
        The configuration, whose `train.enlarge` is False from now on, and a line with the choice; it is empty if the
        size stays.

    Example:
        >>> from yolo_lite.config.schema import InputConfig, TrainConfig
        >>> from yolo_lite.data.splits import read_split
        >>> config = Config(input=InputConfig(image_size=(96, 96)), train=TrainConfig(enlarge=True))
        >>> config, line = enlarge(config, read_split("my_images", "train").records)
        >>> config.input.image_size, line[:53]
        ((160, 160), 'half of the objects are smaller than 25 x 25 input pi')
    """
    if not config.train.enlarge:
        return config, ""
    input_ = config.input
    side = median_side(records, input_)
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, enlarge=False))
    longest = max(input_.image_size)
    wanted = min(LARGEST, longest * USUAL_SIDE / side) if side else 0
    if wanted <= longest:
        return config, ""
    height, width = (MULTIPLE * math.ceil(each * wanted / longest / MULTIPLE - 1e-9) for each in input_.image_size)
    line = (
        f"half of the objects are smaller than {side:.0f} x {side:.0f} input pixels, so the input is enlarged from "
        f"{input_.image_size[0]} x {input_.image_size[1]} to {height} x {width} (--image-size overrides it)"
    )
    return dataclasses.replace(config, input=dataclasses.replace(input_, image_size=(height, width))), line


def median_side(records: Records, settings: InputConfig) -> float:
    """Return the median side of the objects (the square root of a box's area) in input pixels; 0 without objects.

    Example:
        >>> from yolo_lite.config.schema import InputConfig
        >>> from yolo_lite.data.splits import read_split
        >>> round(median_side(read_split("my_images", "val").records, InputConfig(image_size=(96, 96))))
        25
    """
    boxes, crowd = records.objects.boxes, records.objects.crowd
    scales = np.array(
        [
            Letterbox.fit((height, width), settings.image_size, resize=settings.resize).scale_xy
            for height, width in records.sizes_hw.tolist()
        ]
    ).reshape(-1, 2)
    sizes = (boxes[:, 2:] - boxes[:, :2]) * scales[records.image_of_objects]
    sides = np.sqrt(np.maximum(0, sizes[~crowd].prod(1)))
    return float(np.median(sides)) if len(sides) else 0.0


def epochs_between(epochs: int, evaluation: float) -> int:
    """Return after how many epochs to evaluate, so that evaluations take SHARE_OF_EVALUATION of the time of training.

    There are at most EVALUATIONS, and at least two if there are two epochs.

    Args:
        epochs: of the run.
        evaluation: the time of an evaluation, measured in epochs.

    Example:
        >>> epochs_between(10, 0.01), epochs_between(10, 0.1), epochs_between(40, 0.1), epochs_between(3, 0.1)
        (1, 2, 4, 1)
    """
    cheap = math.ceil(evaluation / SHARE_OF_EVALUATION - 1e-9)
    return max(1, math.ceil(epochs / EVALUATIONS), min(cheap, epochs // 2))


def _line(chosen: dict[str, Any], familiarity: float, *, is_familiar: bool) -> str:
    words = {
        "lr": lambda value: f"learning rate {value:g}",
        "batch_size": lambda value: f"{counted(int(value), 'image')} a step",
        "keep_start": lambda value: f"{value:.0%} of them mixed back in" if value else "none of them mixed back in",
        "epochs": lambda value: counted(int(value), "epoch"),
    }
    know = "know" if is_familiar else "hardly know"
    named = [name for name in words if name in chosen]
    choices = ", ".join(words[name](chosen[name]) for name in named)
    keys = ", ".join(f"train.{name}" for name in named)
    line = f"the starting weights {know} these objects (score {familiarity:.2f}), so: {choices} ({keys})"
    return f"{line}; compare with --config nano, which starts from scratch" if familiarity < UNKNOWN else line
