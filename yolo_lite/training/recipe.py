"""The recipe of a training run, from its arguments to the last epoch. Read `fit` first."""

from __future__ import annotations

import dataclasses
import functools
import math
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from yolo_lite.checkpoints.checkpoint import Checkpoint, load_checkpoint
from yolo_lite.checkpoints.transfer import transfer_backbone
from yolo_lite.checks import check_path
from yolo_lite.config.resolve import check_settings
from yolo_lite.config.schema import Config
from yolo_lite.data.pipeline.loader import BatchLoader, EpochSampler, build_loader
from yolo_lite.device import (
    be_deterministic,
    describe_hardware,
    explain_compiler,
    explain_out_of_memory,
    keep_freed_memory,
    pick_device,
    pick_precision,
    place,
)
from yolo_lite.draw.fonts import missing_letters
from yolo_lite.errors import InputError, counted
from yolo_lite.files import locked
from yolo_lite.models.classifiers.course import PRETRAINED
from yolo_lite.ranks import ALONE, Ranks, is_restarted, together
from yolo_lite.shipped import find_weights
from yolo_lite.training.board import check_board
from yolo_lite.training.budget import Pace, duration, fit_time, limit_evaluation, measure_pace
from yolo_lite.training.checks import check_batch_norm, check_it_learns
from yolo_lite.training.choices import Counts, choose
from yolo_lite.training.folder import (
    BEST,
    LAST,
    PREVIOUS,
    RunFolder,
    holds_run,
    is_whole,
    load_last,
    outdated,
    remove_leftovers,
)
from yolo_lite.training.loop import epochs
from yolo_lite.training.optim.schedule import build_optimizer
from yolo_lite.training.plan import plan
from yolo_lite.training.pretrain import FOLDER, pretraining_of
from yolo_lite.training.resume import differences, follow, go_on, stored_run, with_changes
from yolo_lite.training.runs import IN_USE, check_run_folder, forget_launch, interrupted_run, new_run
from yolo_lite.training.state import State
from yolo_lite.training.task import Listener, StepReport, Task
from yolo_lite.training.tasks.classification import ClassificationTask
from yolo_lite.training.tasks.detection import DetectionTask
from yolo_lite.version import VERSION

TASKS: dict[str, Callable[..., Task]] = {"detect": DetectionTask.prepare, "classify": ClassificationTask.prepare}


def train(
    data: str | Path | None = None,
    *,
    config: str | Path | Config | None = None,
    weights: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
    out: str | Path | None = None,
    device: str | torch.device = "auto",
    listener: Listener = Listener(),
) -> Path:
    """Train a detector, or whatever the config describes, and return the folder of the run.

    The folder holds last.pt, best.pt, results, settings and sheets of samples. From then on the process keeps freed
    memory for reuse (`device.keep_freed_memory`). Processes that torchrun started train together, and go on with the run
    when torchrun restarts them: see docs/distributed.md.

    Args:
        data: folder, YAML file, annotation file or (classifiers only) archive, see data/catalog.py; None: the config's
            `data.path`.
        config: YAML file, bare name of a shipped one, or Config; None: configs/finetune.yaml, or the config that fits
            a classifier's weights.
        weights: checkpoint to start from, a file or the bare name of a shipped one. It fixes the network and, unless
            set, the image size. "none": from scratch. None: the config's, or yolo_lite-shuffle-1.5x-coco without a config.
        settings: override everything else, by key: {"train.epochs": 50, "data.classes": ["person"]}; see
            docs/settings.md.
        out: folder that holds no run yet; None: the next free runs/train-N.
        device: auto, cpu, cuda or mps.
        listener: receives the news of the run.

    Raises:
        InputError: if an argument cannot be used, or the loss is no longer finite.

    Example:
        >>> settings = {"train.epochs": 1, "train.preflight": False, "train.workers": 0, "input.image_size": [64, 64]}
        >>> folder = train("my_images", settings=settings, out="first_detector", device="cpu")
        >>> [(folder / name).exists() for name in ("best.pt", "last.pt", "results.csv", "training.jpg")]
        [True, True, True, True]
    """
    with together() as ranks:
        began = time.perf_counter() if listener.began is None else listener.began
        listener = dataclasses.replace(listener if ranks.is_first else Listener(), began=began)
        target = Path(check_path(out, "out")) if out else None
        interrupted = ranks.decide(lambda: interrupted_run(target))
        if interrupted:
            return _go_on(interrupted, {}, device=device, listener=listener, ranks=ranks)
        asked = ranks.decide(
            lambda: _asked(plan(data, config=config, weights=weights, settings=settings).config, target)
        )
        chosen = pick_device(device)
        with ranks.enter(lambda: new_run(target, listener)) as folder:
            return fit(asked, folder, device=chosen, listener=listener, ranks=ranks)


def _asked(config: Config, out: Path | None) -> Config:
    """Return the configuration; raise InputError if it lacks data, or the folder cannot be used."""
    if not config.data.path:
        raise InputError("there is no data to train on: name a folder or a YAML file, or set data.path in the config")
    check_run_folder(out or Path("runs") / "new")
    return config


def train_classifier(
    data: str | Path | None = None,
    *,
    config: str | Path | Config | None = None,
    weights: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
    out: str | Path | None = None,
    device: str | torch.device = "auto",
    listener: Listener = Listener(),
) -> Path:
    """Train a classifier and return the folder of the run; the arguments are those of `train`.

    Example:
        >>> settings = {"train.epochs": 1, "train.preflight": False}
        >>> folder = train_classifier(
        ...     "my_classes", config="mnist_small", settings=settings, out="first_classifier", device="cpu"
        ... )
        >>> len((folder / "results.csv").read_text().splitlines())  # a header, and a row for each epoch
        2
    """
    settings = {**check_settings(settings), "task": "classify"}
    return train(data, config=config, weights=weights, settings=settings, out=out, device=device, listener=listener)


def resume(
    out: str | Path | None = None,
    *,
    settings: Mapping[str, object] | None = None,
    device: str | torch.device = "auto",
    listener: Listener = Listener(),
) -> Path:
    """Resume a run after its last finished epoch, and return its folder.

    On the same CPU with the same number of threads and processes, the result equals that of an uninterrupted run bit for
    bit. The number of processes may differ.

    Args:
        out: folder of the run; None: the newest runs/train-N.
        settings: by key. Only those of `resume.MAY_DIFFER` may differ from the run's: train.workers, or data.path if
            the images have moved.
        device: auto, cpu, cuda or mps.
        listener: receives the news of the run.

    Raises:
        InputError: if there is no such run, it is still running, it is finished, or its data has changed.

    Example:
        >>> from contextlib import suppress
        >>> def stop(row, best): raise KeyboardInterrupt  # as Ctrl-C after the first epoch
        >>> given = {"config": "mnist_small", "settings": {"train.epochs": 2, "train.preflight": False}}
        >>> with suppress(KeyboardInterrupt):
        ...     train_classifier("my_classes", **given, out="stopped", device="cpu", listener=Listener(on_epoch=stop))
        >>> resume("stopped", device="cpu", listener=Listener(on_epoch=lambda row, best: print(row["epoch"]))).name
        2.0
        'stopped'
    """
    with together() as ranks:
        listener = listener if ranks.is_first else Listener()
        folder = ranks.decide(lambda: stored_run(out)[0])
        return _go_on(folder, check_settings(settings), device=device, listener=listener, ranks=ranks)


def _go_on(
    folder: Path, settings: Mapping[str, object], *, device: str | torch.device, listener: Listener, ranks: Ranks
) -> Path:
    """Resume the run in a folder; a finished one is left as it is if torchrun has restarted the processes."""
    with ranks.enter(lambda: locked(folder, IN_USE, say=listener.say)):
        # Read here, since the run may have ended only now.
        _, checkpoint, config = ranks.decide(lambda: stored_run(folder, listener.say))
        config = ranks.decide(lambda: with_changes(config, settings))
        done = checkpoint.training["epoch"] >= config.train.epochs
        if done and ranks.decide(lambda: not outdated(folder, checkpoint.training)):
            if is_restarted():
                return folder
            raise InputError(
                f"the run in {folder} has finished its {counted(config.train.epochs, 'epoch')}; nothing to resume"
            )
        begun = checkpoint.training["epoch"] > 0  # otherwise it was stopped during pretraining
        resumed = checkpoint if begun else None
        fit(config, folder, device=pick_device(device), listener=listener, resumed=resumed, ranks=ranks)
        if ranks.is_first:
            forget_launch(folder)
        return folder


def fit(
    config: Config,
    path: Path,
    *,
    device: torch.device,
    listener: Listener,
    resumed: Checkpoint | None = None,
    ranks: Ranks = ALONE,
) -> Path:
    """Train in the folder of this run, from reading the data to the last epoch.

    Args:
        config: configuration of the run.
        path: its folder, which exists and is locked by the caller.
        device: device that computes.
        listener: receives the news of the run.
        resumed: last checkpoint of a run to resume; None: start from the beginning.
        ranks: processes that train together; rank 0 alone uses the folder.

    Example:
        >>> settings = {"train.epochs": 1, "train.preflight": False}
        >>> config = plan("my_classes", config="mnist_small", settings=settings).config
        >>> Path("fitted").mkdir()
        >>> (fit(config, Path("fitted"), device=torch.device("cpu"), listener=Listener()) / "best.pt").exists()
        True
    """
    listener = _for_a_run(listener)
    with _remedies(config):
        _prepare_process(config)
        task = _build_task(config, device=device, listener=listener, resumed=resumed, ranks=ranks)
        config = _with_choices(task, listener)
        precision = ranks.decide(lambda: pick_precision(config.train.precision, device))
        place(task.model, device)
        check_batch_norm(task, config)
        ends = _end_of(config, listener)
        if not resumed:
            _prepare_network(config, task, path=path, precision=precision, ends=ends, listener=listener)
        task.model = ranks.synchronise(task.model)
        if not resumed and config.train.minutes:
            config = _fit_time(config, task, path=path, precision=precision, ends=ends, listener=listener)
        folder, state, loader = _open_run(config, task, path=path, precision=precision, listener=listener)
        _begin_epochs(folder, state, resumed=resumed, listener=listener)
        for best in epochs(task, state, loader=loader, on_step=_watch_parts(state, listener)):
            _record(folder, state, best=best, listener=listener)
        _conclude(state, task, listener)
    return path


def _for_a_run(listener: Listener) -> Listener:
    """Return a listener that is given no line twice, and knows when the run began."""
    began = time.perf_counter() if listener.began is None else listener.began
    return dataclasses.replace(listener, say=functools.cache(listener.say), began=began)


def _end_of(config: Config, listener: Listener) -> float:
    """Return when the time limit is over, by `time.perf_counter`."""
    assert listener.began is not None
    return listener.began + 60 * config.train.minutes if config.train.minutes else math.inf


def _prepare_network(
    config: Config, task: Task, *, path: Path, precision: str, ends: float, listener: Listener
) -> None:
    """Check that the network can learn, and pretrain its backbone where that is asked for."""
    ranks = task.ranks
    if config.train.preflight and ranks.decide(lambda: not holds_run(path)):
        listener.say(ranks.decide(lambda: check_it_learns(task, config, precision=precision, ends=ends)))
    if config.pretrain.crops and not config.train.weights:
        _pretrain(config, task, path=path, listener=listener)


def _open_run(
    config: Config, task: Task, *, path: Path, precision: str, listener: Listener
) -> tuple[RunFolder, State, BatchLoader]:
    """Return what the epochs need: the folder, the state before the first step, and the batches."""
    device = _device_of(task)
    about = _certificate(config, task, device=device, precision=precision)
    folder = RunFolder(path, config, task=task, about=about)
    loader = _loader(config, task, device=device, listener=listener)
    state = _new_state(config, task, steps=len(loader.sampler) * config.train.epochs, precision=precision)
    return folder, state, loader


def _device_of(task: Task) -> torch.device:
    return next(task.model.parameters()).device


def _begin_epochs(folder: RunFolder, state: State, *, resumed: Checkpoint | None, listener: Listener) -> None:
    """Restore the state of a resumed run on all processes, and its folder on rank 0; report what is trained."""
    if resumed and state.ranks.is_first:
        go_on(folder, state, stored=resumed, listener=listener)
    elif resumed:
        state.restore(resumed.training)
    state.share()
    _announce(folder, state, listener)


def _record(folder: RunFolder, state: State, *, best: bool, listener: Listener) -> None:
    """Save a finished epoch and report it, on rank 0 alone."""
    if not state.ranks.is_first:
        return
    folder.record(state, best=best)
    try:
        folder.write_others(state, best=best)
    finally:  # even if the run is stopped here, the epoch counts as finished
        listener.on_epoch(state.rows[-1], best)


def _conclude(state: State, task: Task, listener: Listener) -> None:
    """Report that the run stopped early, and what would help most."""
    if state.epoch < state.config.epochs:
        waited = counted(state.config.patience, "epoch")
        listener.say(f"stopped early after {waited} without improvement; the best was epoch {state.best_epoch}")
    line = task.advice(state.rows)
    if line:
        listener.say(line)


@contextmanager
def _remedies(config: Config) -> Iterator[None]:
    """Add what to do to the error if memory runs out or torch.compile fails."""
    size = " x ".join(str(side) for side in config.input.image_size)
    now = f" (now {config.train.batch_size})" if config.train.batch_size else ""
    remedy = f"use a smaller --batch-size{now} or --image-size (now {size})"
    with explain_out_of_memory(remedy), explain_compiler():
        yield


def _prepare_process(config: Config) -> None:
    keep_freed_memory()
    if config.train.deterministic:
        be_deterministic()
    if config.train.tensorboard:
        check_board()


def _build_task(
    config: Config, *, device: torch.device, listener: Listener, resumed: Checkpoint | None, ranks: Ranks
) -> Task:
    """Read the data, build the network and load the weights that it starts from."""
    weights = config.train.weights
    start = load_checkpoint(find_weights(weights)) if weights and not resumed else None
    if not weights and not resumed and config.classifier.model not in PRETRAINED:  # it may start from ImageNet weights
        listener.say(f"training {config.name} from scratch")
    task = TASKS[config.task](config, start=start, device=device, listener=listener, ranks=ranks)
    _check_same_data(task)
    missing = missing_letters(task.class_names)
    if missing and not config.data.crops:
        listener.say(f"note: {missing}")
    return task


def _check_same_data(task: Task) -> None:
    """Raise InputError if this process has read other images or labels than rank 0."""
    ranks = task.ranks
    class_names, about = ranks.decide(lambda: (task.class_names, task.about))
    first = SimpleNamespace(class_names=class_names, about=about)
    found = differences(first, task) if ranks.count > 1 else []
    if found:
        raise InputError(
            f"{task.config.data.path} on this machine is not the data of rank 0: {'; '.join(found)}; give every machine the "
            "same data under the same path"
        )


def _with_choices(task: Task, listener: Listener) -> Config:
    """Return the configuration with what the recipe leaves open, and report it."""
    counts = Counts(len(task.dataset), task.val_images, classes=len(task.class_names))  # type: ignore[arg-type]
    config, line = task.ranks.decide(lambda: choose(task.config, task.start, counts=counts))
    if line:
        listener.say(line)
    task.adopt(config)
    return config


def _pretrain(config: Config, task: Task, *, path: Path, listener: Listener) -> None:
    """Pretrain the backbone on cut-out objects, or resume that, and load it into the network."""
    device, listener = _device_of(task), dataclasses.replace(listener, began=None)  # it has a time limit of its own
    build_optimizer(task.model, config.train)  # so that a wrong name is refused now, not minutes later
    inner, ranks = path / FOLDER, task.ranks
    before = ranks.decide(lambda: _begin_pretraining(config, task, path=path, listener=listener))
    listener.say(f"pretraining: the backbone first learns to classify the objects, cut out; writing to {inner}")
    if before is None:
        try:
            with ranks.enter(lambda: new_run(inner, listener)):
                fit(pretraining_of(config), inner, device=device, listener=listener, ranks=ranks)
        finally:
            if ranks.is_first and not inner.exists():  # stopped before its first epoch was finished: nothing to resume
                for name in (LAST, PREVIOUS):
                    (path / name).unlink(missing_ok=True)
    else:
        stored, unfinished = before, before.training["epoch"] < config.pretrain.crops
        if ranks.decide(lambda: unfinished or bool(outdated(inner, stored.training))):
            changes = {"data.path": config.data.path, "train.workers": config.train.workers}
            again = ranks.decide(lambda: with_changes(stored_run(inner)[2], changes))
            fit(again, inner, device=device, listener=listener, resumed=before, ranks=ranks)
    summary = transfer_backbone(task.model, ranks.decide(lambda: load_last(inner))).summary
    listener.say(f"pretraining finished; starting from {inner / LAST}: {summary}")


def _begin_pretraining(config: Config, task: Task, *, path: Path, listener: Listener) -> Checkpoint | None:
    """Record what was asked for, and return the last checkpoint of a pretraining that has begun."""
    before = _begun(path / FOLDER, listener)
    remove_leftovers(path)
    if holds_run(path):
        follow(load_last(path), config, task=task, folder=path)
    else:  # so that --resume knows the settings
        RunFolder(path, config, task=task, about=task.about).record_start()
    return before


def _begun(inner: Path, listener: Listener) -> Checkpoint | None:
    """Return the last checkpoint of the pretraining; None if there is none, or none that is undamaged."""
    if holds_run(inner) and not any(is_whole(inner / name) for name in (LAST, PREVIOUS)):
        listener.say(f"{inner / LAST} is damaged; pretraining starts from the beginning")
        for name in (LAST, PREVIOUS, BEST):
            (inner / name).unlink(missing_ok=True)
    return load_last(inner, listener.say) if holds_run(inner) else None


def _fit_time(config: Config, task: Task, *, path: Path, precision: str, ends: float, listener: Listener) -> Config:
    """Measure a few steps and set the epochs and steps that fit into the rest of `train.minutes`."""
    plain = dataclasses.replace(config, train=dataclasses.replace(config.train, steps_per_epoch=0))
    if not config.train.epochs:  # without any, the images would not be augmented
        task.adopt(dataclasses.replace(config, train=dataclasses.replace(config.train, epochs=1)))
    pace = measure_pace(task, config, precision=precision, folder=path)
    task.adopt(config)
    steps = len(_sampler(plain, task))
    left = ends - time.perf_counter()

    def fitted_run() -> tuple[Config, Pace]:
        limited, slower = limit_evaluation(config, pace, images=task.val_images, seconds=left)
        return fit_time(limited, slower, steps=steps, seconds=left), slower

    fitted, pace = task.ranks.decide(fitted_run)
    if config.data.crops and fitted.train.epochs >= config.train.epochs:
        return config  # pretraining takes no more epochs than configured
    task.adopt(fitted)
    listener.say(
        f"time limit {duration(60 * config.train.minutes)}: {counted(fitted.train.epochs, 'epoch')} of "
        f"{counted(len(_sampler(fitted, task)), 'step')} fit, at {pace.step:.2f} s a step, {pace.evaluation:.1f} s an "
        f"evaluation and {pace.saving.epoch + pace.saving.evaluation:.1f} s to save it"
    )
    part = fitted.train.evaluate_images
    if 0 < part < task.val_images:
        listener.say(
            f"evaluations during the run score {part:,} of {counted(task.val_images, 'validation image')}, drawn with the "
            "seed; eval scores all of them"
        )
    return fitted


def _loader(config: Config, task: Task, *, device: torch.device, listener: Listener) -> BatchLoader:
    return build_loader(
        task.dataset,
        _sampler(config, task),
        workers=config.train.workers,
        device=device,
        collate=task.collate,
        say=listener.say,
    )


def _new_state(config: Config, task: Task, *, steps: int, precision: str) -> State:
    fresh = task.start.fresh if task.start else None
    return State.new(task.model, config.train, steps=steps, precision=precision, fresh=fresh, ranks=task.ranks)


def _sampler(config: Config, task: Task) -> EpochSampler:
    train = config.train
    return EpochSampler(
        len(task.dataset),  # type: ignore[arg-type]
        train.batch_size,
        shuffle=True,
        seed=train.seed,
        steps=train.steps_per_epoch,
        repeats=task.repeats,
        ranks=task.ranks,
    )


def _announce(folder: RunFolder, state: State, listener: Listener) -> None:
    """Compile the network if asked to, and report what is trained on which hardware."""
    if state.config.compile:
        state.model.compile()
        listener.say("torch.compile is on: the first step takes minutes")
    parameters = counted(sum(parameter.numel() for parameter in state.model.parameters()), "parameter")
    hardware = _hardware(state.device, state.ranks)
    listener.say(
        f"training {folder.config.name} ({parameters}) on {hardware}, {state.precision}; writing to {folder.path}"
    )


def _hardware(device: torch.device, ranks: Ranks) -> str:
    processes = f"{ranks.count} processes, each on " if ranks.count > 1 else ""
    return processes + describe_hardware(device)


def _watch_parts(state: State, listener: Listener) -> Callable[[StepReport], None]:
    """Return a function that passes reports of steps on, and reports when memory made the micro-batches smaller."""
    most = [state.parts]

    def on_step(report: StepReport) -> None:
        if report.parts > most[-1]:
            most.append(report.parts)
            smaller = -(-state.config.batch_size // report.parts)
            listener.say(
                f"the device ran out of memory: batches are now processed {counted(smaller, 'image')} at a time"
            )
        listener.on_step(report)

    return on_step


def _certificate(config: Config, task: Task, *, device: torch.device, precision: str) -> dict[str, Any]:
    """Return what checkpoints record about how they were made."""
    data = config.data
    return {
        **task.about,
        "data": data.path,
        "seed": config.train.seed,
        "classes": list(data.classes),
        "fraction": data.fraction,
        "per_class": data.per_class,
        "split": data.shares,
        "difficult": data.difficult,
        "minutes": config.train.minutes,
        "unlabelled": data.unlabelled or None,
        "started_from": config.train.weights or None,
        "hardware": _hardware(device, task.ranks),
        "precision": precision,
        "versions": {"yolo_lite": VERSION, "torch": str(torch.__version__), "python": platform.python_version()},
    }
