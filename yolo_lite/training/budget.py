"""A run that is to fit into a given time: how many epochs, of how many steps."""

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
from yolo_lite.training.loop import to_device, train_step
from yolo_lite.training.state import State
from yolo_lite.training.task import Task

_WARM_UP, _MEASURED = 2, 8  # steps


class Pace(NamedTuple):
    """Seconds of one step, with loading, and of one evaluation."""

    step: float
    evaluation: float


def measure_pace(task: Task, config: Config, *, precision: str) -> Pace:
    """Take a few steps and evaluate once, all on a copy; no random number of the run is used up."""
    train = config.train
    total = len(task.dataset)  # type: ignore[arg-type]
    sampler = EpochSampler(total, train.batch_size, shuffle=True, seed=train.seed)
    state = State.new(copy.deepcopy(task.model), train, steps=len(sampler), precision=precision)
    loader = build_loader(task.dataset, sampler, workers=train.workers, device=state.device, collate=task.collate)
    marks = [time.perf_counter()]
    with torch.random.fork_rng(devices=[]):
        state.model.train()
        for batch in loader:
            # Assignment and input size may change on the way.
            progress = (len(marks) - 0.5) / (_WARM_UP + _MEASURED)
            train_step(task, state, batch=to_device(batch, state.device), progress=progress)
            marks.append(time.perf_counter())
            if len(marks) > _WARM_UP + _MEASURED:
                break
        began = time.perf_counter()
        task.evaluate(state.ema.model)
    first = min(_WARM_UP, len(marks) - 2)  # of a tiny set even the first step counts
    return Pace((marks[-1] - marks[first]) / (len(marks) - 1 - first), time.perf_counter() - began)


def fit_time(config: Config, pace: Pace, *, steps: int, seconds: float) -> Config:
    """Return the configuration with as many epochs, and steps of an epoch, as fit.

    All epochs are equally long, each with one evaluation: as many as it takes for none to go over the images more
    than once.

    Args:
        config: whose `train.epochs` and `train.steps_per_epoch` are replaced.
        pace: of this machine.
        steps: of an epoch that shows every image.
        seconds: that are left.

    Raises:
        InputError: where not even one step fits.
    """
    epochs = max(1, math.ceil(seconds / (steps * pace.step + pace.evaluation)))
    most = int((seconds / epochs - pace.evaluation) / pace.step)
    if most < 1 and epochs > 1:  # of so few steps that none is left of one: rather one epoch fewer
        epochs -= 1
        most = int((seconds / epochs - pace.evaluation) / pace.step)
    if most < 1:
        needed = (pace.step + pace.evaluation) / 60
        raise InputError(
            f"--time leaves {max(0.0, seconds) / 60:.1f} minutes, but one step and an evaluation take {needed:.1f}; give more"
        )
    changed = dataclasses.replace(config.train, epochs=epochs, steps_per_epoch=min(most, steps))
    return dataclasses.replace(config, train=changed)
