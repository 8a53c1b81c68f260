"""Fit a run into a time limit: how many epochs, of how many steps each."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from typing import NamedTuple

import torch

from yolo_lite.config.schema import Config
from yolo_lite.data.pipeline.loader import EpochSampler, build_loader
from yolo_lite.errors import InputError
from yolo_lite.training.choices import epochs_between
from yolo_lite.training.loop import to_device, train_step
from yolo_lite.training.state import State
from yolo_lite.training.task import Task

_WARM_UP, _MEASURED = 2, 8  # steps
_PROBED = 128  # validation images that are scored to measure an evaluation
_FEWEST = 100  # images of an evaluation, if there are as many
SHARE = 0.05  # of the time, that one evaluation may take


class Pace(NamedTuple):
    """Seconds that one step (loading included) and one evaluation of all validation images take."""

    step: float
    evaluation: float


def measure_pace(task: Task, config: Config, *, precision: str) -> Pace:
    """Time a few steps and one evaluation of a copy of the network; the run's random numbers are not touched.

    Example:
        >>> from yolo_lite.training.recipe import TASKS, plan
        >>> from yolo_lite.training.task import Listener
        >>> config = plan("my_classes", config="mnist_small").config
        >>> task = TASKS["classify"](config, start=None, device=torch.device("cpu"), listener=Listener())
        >>> pace = measure_pace(task, config, precision="fp32")
        >>> pace.step > 0 and pace.evaluation > 0
        True
    """
    train = config.train
    total = len(task.dataset)  # type: ignore[arg-type]
    sampler = EpochSampler(total, train.batch_size, shuffle=True, seed=train.seed, ranks=task.ranks)
    state = State.new(copy.deepcopy(task.model), train, steps=len(sampler), precision=precision, ranks=task.ranks)
    loader = build_loader(task.dataset, sampler, workers=train.workers, device=state.device, collate=task.collate)
    marks = [time.perf_counter()]
    with torch.random.fork_rng(devices=[]):
        state.model.train()
        for batch in loader:
            # Assigner and input size may change during a run, so the steps are spread over all of it.
            progress = (len(marks) - 0.5) / (_WARM_UP + _MEASURED)
            train_step(task, state, batch=to_device(batch, state.device), progress=progress, total=sampler.in_batch)
            marks.append(time.perf_counter())
            if len(marks) > _WARM_UP + _MEASURED:
                break
        evaluation = _time_evaluation(task, state)
    first = min(_WARM_UP, len(marks) - 2)  # a tiny set has no steps to spare for a warm-up
    return Pace((marks[-1] - marks[first]) / (len(marks) - 1 - first), evaluation)


def _time_evaluation(task: Task, state: State) -> float:
    """Score a part of the validation images, and return the seconds that all that are asked for would take."""
    given = task.config
    asked = min(given.train.evaluate_images or task.val_images, task.val_images)
    probed = min(asked, _PROBED)
    task.adopt(_with_images(given, probed))
    began = time.perf_counter()
    try:
        task.evaluate(state.ema.model)
    finally:
        task.adopt(given)
    return (time.perf_counter() - began) * asked / max(1, probed)


def _with_images(config: Config, images: int) -> Config:
    return dataclasses.replace(config, train=dataclasses.replace(config.train, evaluate_images=images))


def limit_evaluation(config: Config, pace: Pace, *, images: int, seconds: float) -> tuple[Config, Pace]:
    """Let evaluations score a part of the validation images if all of them would take more than SHARE of the time.

    Args:
        config: its `train.evaluate_images` is replaced, unless it is set.
        pace: speed of this machine.
        images: number of validation images.
        seconds: time left.

    Returns:
        The configuration, and the pace with evaluations of that part.

    Example:
        >>> config, pace = limit_evaluation(Config(), Pace(step=1.0, evaluation=100.0), images=5000, seconds=400.0)
        >>> config.train.evaluate_images, pace.evaluation
        (1000, 20.0)
    """
    if config.train.evaluate_images or pace.evaluation <= SHARE * seconds:
        return config, pace
    fitting = max(min(images, _FEWEST), int(images * SHARE * max(0.0, seconds) / pace.evaluation))
    return _with_images(config, fitting), pace._replace(evaluation=pace.evaluation * fitting / images)


def fit_time(config: Config, pace: Pace, *, steps: int, seconds: float) -> Config:
    """Return the configuration with the number of epochs, and steps in each, that fits into the time.

    All epochs have the same length. There are so many that none shows an image twice.

    Args:
        config: its `train.epochs` and `train.steps_per_epoch` are replaced, and `train.evaluate_every` if it is 0.
        pace: speed of this machine.
        steps: steps of an epoch that shows every image.
        seconds: time left.

    Raises:
        InputError: if not even one step fits.

    Example:
        >>> fitted = fit_time(Config(), Pace(step=1.0, evaluation=10.0), steps=50, seconds=120.0)
        >>> fitted.train.epochs, fitted.train.steps_per_epoch  # 2 x (50 x 1 s + 10 s)
        (2, 50)
    """
    epochs = max(1, int(seconds / (steps * pace.step + pace.evaluation)))
    most, between = _most_steps(epochs, config, pace, steps=steps, seconds=seconds)
    while most > steps:
        epochs += 1
        most, between = _most_steps(epochs, config, pace, steps=steps, seconds=seconds)
    if most < 1 and epochs > 1:  # no step fits into so many epochs: try one epoch fewer
        epochs -= 1
        most, between = _most_steps(epochs, config, pace, steps=steps, seconds=seconds)
    if most < 1:
        raise InputError(
            f"--time leaves {max(0.0, seconds):.1f} s for training, but a step and an evaluation take "
            f"{pace.step + pace.evaluation:.1f} s; allow more time"
        )
    train = dataclasses.replace(config.train, epochs=epochs, steps_per_epoch=min(most, steps), evaluate_every=between)
    return dataclasses.replace(config, train=train)


def _most_steps(epochs: int, config: Config, pace: Pace, *, steps: int, seconds: float) -> tuple[int, int]:
    """Return how many steps an epoch may have, and after how many epochs an evaluation comes."""
    between = config.train.evaluate_every or epochs_between(epochs, pace.evaluation / (steps * pace.step))
    evaluations = math.ceil(epochs / between)
    return int((seconds - evaluations * pace.evaluation) / (epochs * pace.step)), between
