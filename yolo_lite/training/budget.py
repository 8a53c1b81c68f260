"""Fit a run into a time limit: how many epochs, of how many steps each."""

from __future__ import annotations

import copy
import dataclasses
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from yolo_lite.config.schema import Config
from yolo_lite.data.pipeline.loader import BatchLoader, EpochSampler, build_loader
from yolo_lite.errors import InputError
from yolo_lite.training.choices import epochs_between
from yolo_lite.training.folder import REHEARSAL, RunFolder
from yolo_lite.training.loop import to_device, train_step
from yolo_lite.training.state import State
from yolo_lite.training.task import Task

_WARM_UP, _MEASURED = 2, 8  # steps
_FEWEST_STEPS = 2  # that are taken to measure one
_PROBED = 128  # validation images that are scored to measure an evaluation
_FEWEST = 100  # images of an evaluation, if there are as many
_LOOK_AHEAD = 20  # epochs: with more of them evaluations can be further apart, so that more may fit where fewer do not
SHARE = 0.05  # of the time, that one evaluation may take


class Saving(NamedTuple):
    """Seconds that a run spends on its files.

    Attributes:
        start: once, for those that come with the first epoch.
        epoch: after each epoch.
        evaluation: besides, after each evaluation.
    """

    start: float = 0.0
    epoch: float = 0.0
    evaluation: float = 0.0


class Pace(NamedTuple):
    """Seconds that the parts of a run take.

    Attributes:
        step: one step, loading included.
        evaluation: one evaluation of all validation images.
        saving: the files of the run.
    """

    step: float
    evaluation: float
    saving: Saving = Saving()


def measure_pace(task: Task, config: Config, *, precision: str, folder: Path) -> Pace:
    """Time a few steps, one evaluation and the files of an epoch; the run itself and its random numbers are not touched.

    Args:
        task: of the run; its network is copied.
        config: of the run.
        precision: fp32 or bf16.
        folder: of the run; its files are written into a temporary folder inside, which is removed again.

    Example:
        >>> from yolo_lite.training.recipe import TASKS, plan
        >>> from yolo_lite.training.task import Listener
        >>> config = plan("my_classes", config="mnist_small").config
        >>> task = TASKS["classify"](config, start=None, device=torch.device("cpu"), listener=Listener())
        >>> pace = measure_pace(task, config, precision="fp32", folder=Path("."))
        >>> min(pace.step, pace.evaluation, *pace.saving) > 0
        True
    """
    train = config.train
    total = len(task.dataset)  # type: ignore[arg-type]
    sampler = EpochSampler(total, train.batch_size, shuffle=True, seed=train.seed, ranks=task.ranks)
    state = State.new(copy.deepcopy(task.model), train, steps=len(sampler), precision=precision, ranks=task.ranks)
    loader = build_loader(task.dataset, sampler, workers=train.workers, device=state.device, collate=task.collate)
    with torch.random.fork_rng(devices=[]):
        step = _time_steps(task, state, loader)
        evaluation = _time_evaluation(task, state)
        saving = _time_files(task, state, folder=folder) if task.ranks.is_first else Saving()
    return Pace(step, evaluation, saving)


def _time_steps(task: Task, state: State, loader: BatchLoader) -> float:
    """Take a few steps, and return the seconds that each took once the first ones were over."""
    state.model.train()
    marks = [time.perf_counter()]
    while len(marks) <= _FEWEST_STEPS:  # a set of one batch is shown twice, since the first step takes longer
        for batch in loader:
            # Assigner and input size may change during a run, so the steps are spread over all of it.
            progress = (len(marks) - 0.5) / (_WARM_UP + _MEASURED)
            count = loader.sampler.in_batch
            train_step(task, state, batch=to_device(batch, state.device), progress=progress, total=count)
            marks.append(time.perf_counter())
            if len(marks) > _WARM_UP + _MEASURED:
                break
    first = min(_WARM_UP, len(marks) - 2)  # a tiny set has few steps to spare for a warm-up
    return (marks[-1] - marks[first]) / (len(marks) - 1 - first)


def _time_files(task: Task, state: State, *, folder: Path) -> Saving:
    """Write the files of an epoch, and return how long the parts took."""
    numbers = {"loss_total": 1.0, task.metric: 0.5}  # for the curves
    state.epoch, state.rows = 1, [{"epoch": 1.0, "lr": state.config.lr, **numbers}]
    with tempfile.TemporaryDirectory(prefix=REHEARSAL, dir=folder) as scratch:
        run = RunFolder(Path(scratch), task.config, task=task, about=task.about)
        run.complete(state, ["results.csv"])  # not timed: the first drawing loads a library
        start = _seconds(lambda: run.complete(state, ["config.yaml"]))
        epoch = _seconds(lambda: run.record(state, best=True))
        return Saving(start, epoch, _seconds(lambda: run.write_others(state, best=True)))


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


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

    All epochs have the same length, and none shows an image twice. Their number is the one that leaves time for most steps.

    Args:
        config: its `train.epochs` and `train.steps_per_epoch` are replaced, and `train.evaluate_every` if it is 0.
        pace: speed of this machine.
        steps: steps of an epoch that shows every image.
        seconds: time left of `train.minutes`.

    Raises:
        InputError: if not even one step fits.

    Example:
        >>> fitted = fit_time(Config(), Pace(step=1.0, evaluation=10.0), steps=50, seconds=120.0)
        >>> fitted.train.epochs, fitted.train.steps_per_epoch  # 2 x (50 x 1 s + 10 s)
        (2, 50)
    """
    budget = _Budget(config, pace, steps=steps, seconds=seconds - pace.saving.start)
    whole = budget.whole_epochs()
    shorter = whole + 1  # epochs, each of fewer steps
    epochs = whole if whole and whole * steps > shorter * budget.most_steps(shorter) else shorter
    most = min(steps, budget.most_steps(epochs))
    if most < 1:
        raise InputError(_too_short(config, pace, seconds=seconds))
    between = budget.between(epochs)
    train = dataclasses.replace(config.train, epochs=epochs, steps_per_epoch=most, evaluate_every=between)
    return dataclasses.replace(config, train=train)


class _Budget:
    """The seconds of a run, and how many steps fit into them."""

    def __init__(self, config: Config, pace: Pace, *, steps: int, seconds: float) -> None:
        self._every, self._pace, self._steps, self._seconds = config.train.evaluate_every, pace, steps, seconds

    def between(self, epochs: int) -> int:
        """Return after how many epochs an evaluation comes."""
        return self._every or epochs_between(epochs, self._pace.evaluation / (self._steps * self._pace.step))

    def most_steps(self, epochs: int) -> int:
        """Return how many steps each of so many epochs may have; below 1 if none fits."""
        pace, evaluations = self._pace, math.ceil(epochs / self.between(epochs))
        other = epochs * pace.saving.epoch + evaluations * (pace.evaluation + pace.saving.evaluation)
        return int((self._seconds - other) / (epochs * pace.step))

    def whole_epochs(self) -> int:
        """Return how many epochs of all steps fit."""
        fits, too_many = 0, max(1, int(self._seconds / (self._steps * self._pace.step))) + 1
        while too_many - fits > 1:
            epochs = (fits + too_many) // 2
            fits, too_many = (epochs, too_many) if self._fits(epochs) else (fits, epochs)
        while further := [epochs for epochs in range(fits + 1, fits + _LOOK_AHEAD) if self._fits(epochs)]:
            fits = further[-1]
        return fits

    def _fits(self, epochs: int) -> bool:
        return self.most_steps(epochs) >= self._steps


def _too_short(config: Config, pace: Pace, *, seconds: float) -> str:
    """Return the error for a time in which not even one step fits, with a time that is enough."""
    asked = 60 * config.train.minutes
    needed = pace.step + pace.evaluation + sum(pace.saving)
    return (
        f"--time {duration(asked)} is too short: {asked - seconds:.1f} s have passed, and one step, one evaluation and the "
        f"files of the run take {needed:.1f} s; allow {math.ceil(1.1 * (asked - seconds + needed))}s or more"
    )


def duration(seconds: float) -> str:
    """Return a time limit as --time takes it.

    Example:
        >>> duration(20), duration(90), duration(7200)
        ('20s', '1.5m', '2h')
    """
    size, unit = next((pair for pair in ((3600, "h"), (60, "m")) if seconds >= pair[0]), (1, "s"))
    return f"{seconds / size:.3g}{unit}"
