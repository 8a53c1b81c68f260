"""The recipe of a training, from what is asked for to the last epoch. Read `fit` first."""

from __future__ import annotations

import dataclasses
import functools
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
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
from yolo_lite.shipped import find_weights
from yolo_lite.training.board import check_board
from yolo_lite.training.budget import fit_time, measure_pace
from yolo_lite.training.checks import check_batch_norm, check_it_learns
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
from yolo_lite.training.resume import follow, go_on, stored_run, with_changes
from yolo_lite.training.runs import IN_USE, check_run_folder, new_run
from yolo_lite.training.state import State
from yolo_lite.training.task import Listener, StepReport, Task
from yolo_lite.training.tasks.classification import ClassificationTask
from yolo_lite.training.tasks.detection import DetectionTask
from yolo_lite.version import VERSION

TASKS: dict[str, Callable[..., Task]] = {"detect": DetectionTask.prepare, "classify": ClassificationTask.prepare}
KEPT_OF_KNOWN = 0.4  # train.keep_start where the start knows classes of the data


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
    """Train a detector, or what else the config says, and return its folder.

    The folder holds last.pt, best.pt, results, settings, and sheets of samples. From then on the process keeps the memory
    that it frees (`device.keep_freed_memory`).

    Args:
        data: a folder, a YAML file, an annotation file or, for classifiers, an archive; see data/catalog.py. None for
            `data.path` of the config.
        config: a YAML file, the bare name of a shipped one, or a Config; None for configs/finetune.yaml (for a
            classifier: the config that fits the weights).
        weights: start from these (a file or the bare name of a shipped one), which fixes the network and, unless it is
            set, the image size; "none" starts from scratch; None starts from the shipped yolo_lite-shuffle-coco, or,
            where a config is named, from what it says.
        settings: on top of all, by key, such as {"train.epochs": 50, "input.image_size": [320, 416], "data.classes":
            ["person"]}; docs/settings.md lists them.
        out: a folder that holds no run yet; None for the next free runs/train-N.
        device: auto, cpu, cuda or mps.
        listener: what to call with news of the run.

    Raises:
        InputError: where anything given cannot be used, or the loss is no longer finite.
    """
    asked = plan(data, config=config, weights=weights, settings=settings).config
    if not asked.data.path:
        raise InputError("there is no data to train on: name a folder or a YAML file, or say data.path in the config")
    target = Path(check_path(out, "out")) if out else None
    check_run_folder(target or Path("runs") / "new")
    chosen = pick_device(device)
    with new_run(target, listener) as folder:
        return fit(asked, folder, device=chosen, listener=listener)


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
    """Train a classifier and return its folder; arguments as for `train`."""
    settings = {**check_settings(settings), "task": "classify"}
    return train(data, config=config, weights=weights, settings=settings, out=out, device=device, listener=listener)


def resume(
    out: str | Path | None = None,
    *,
    settings: Mapping[str, object] | None = None,
    device: str | torch.device = "auto",
    listener: Listener = Listener(),
) -> Path:
    """Go on with a run from its last finished epoch, and return its folder.

    On the same CPU with as many threads the end is bit for bit that of a run which was never stopped.

    Args:
        out: folder of the run; None means the newest runs/train-N.
        settings: by key; those of `resume.MAY_DIFFER` may differ from the run's, such as data.path where images have
            moved, or train.workers.
        device: auto, cpu, cuda or mps.
        listener: what to call with news of the run.

    Raises:
        InputError: where there is no such run, it still goes on, it is finished, or its data is no longer the same.
    """
    folder, _, _ = stored_run(out)
    with locked(folder, IN_USE, say=listener.say):
        _, checkpoint, config = stored_run(folder, listener.say)  # anew, since the run may have gone on until now
        config = with_changes(config, check_settings(settings))
        done = checkpoint.training["epoch"] >= config.train.epochs
        if done and not outdated(folder, checkpoint.training):
            raise InputError(
                f"the run in {folder} has finished its {counted(config.train.epochs, 'epoch')}; nothing to resume"
            )
        begun = checkpoint.training["epoch"] > 0  # or else it was stopped while the backbone learnt
        chosen = pick_device(device)
        return fit(config, folder, device=chosen, listener=listener, resumed=checkpoint if begun else None)


def fit(
    config: Config, path: Path, *, device: torch.device, listener: Listener, resumed: Checkpoint | None = None
) -> Path:
    """Train in a folder that is this run's own: the whole story.

    Args:
        config: of the run.
        path: of its folder.
        device: that computes.
        listener: what to call with news.
        resumed: where an earlier run has stopped; None at the beginning.
    """
    began = time.perf_counter()
    listener = dataclasses.replace(listener, say=functools.cache(listener.say))  # what each pass may say is said once
    with _remedies(config):
        _prepare_process(config)
        task = _build_task(config, device=device, listener=listener, resumed=resumed)
        config = _with_kept_start(config, task, listener)
        precision = pick_precision(config.train.precision, device)
        place(task.model, device)
        check_batch_norm(task, config)
        if not resumed and not holds_run(path) and config.train.preflight:
            listener.say(check_it_learns(task, config, precision=precision))
        if not resumed and config.pretrain.crops and not config.train.weights:
            _pretrain(config, task, path=path, device=device, listener=listener)
        if not resumed and config.train.minutes:
            config = _fit_time(config, task, precision=precision, began=began, listener=listener)
        folder = RunFolder(
            path, config, task=task, about=_certificate(config, task, device=device, precision=precision)
        )
        loader = _loader(config, task, device=device, listener=listener)
        state = State.new(
            task.model,
            config.train,
            steps=len(loader.sampler) * config.train.epochs,
            precision=precision,
            fresh=task.start.fresh if task.start else None,
        )
        if resumed:
            go_on(folder, state, stored=resumed, listener=listener)
        _announce(folder, state, listener)
        for best in epochs(task, state, loader=loader, on_step=_watch_parts(state, listener)):
            folder.record(state, best=best)
            try:
                folder.write_others(state, best=best)
            finally:  # stopped in between, the epoch is finished all the same
                listener.on_epoch(state.rows[-1], best)
        if state.epoch < config.train.epochs:
            listener.say(f"stopped early: no better epoch than {state.best_epoch} in the last {config.train.patience}")
    return path


@contextmanager
def _remedies(config: Config) -> Iterator[None]:
    """Say what to do where memory runs out or torch.compile fails."""
    size = " x ".join(str(side) for side in config.input.image_size)
    remedy = f"use a smaller --batch-size (now {config.train.batch_size}) or --image-size (now {size})"
    with explain_out_of_memory(remedy), explain_compiler():
        yield


def _prepare_process(config: Config) -> None:
    keep_freed_memory()
    if config.train.deterministic:
        be_deterministic()
    if config.train.tensorboard:
        check_board()


def _build_task(config: Config, *, device: torch.device, listener: Listener, resumed: Checkpoint | None) -> Task:
    """Read data, build the network and give it the weights it starts from."""
    weights = config.train.weights
    start = load_checkpoint(find_weights(weights)) if weights and not resumed else None
    if not weights and not resumed and config.classifier.model != "resnet50":  # which may have weights of ImageNet
        listener.say(f"training {config.name} from scratch")
    task = TASKS[config.task](config, start=start, device=device, listener=listener)
    missing = missing_letters(task.class_names)
    if missing and not config.data.crops:
        listener.say(f"note: {missing}")
    return task


def _with_kept_start(config: Config, task: Task, listener: Listener) -> Config:
    """Return the configuration with `train.keep_start` worked out where it is left open (-1), and say so."""
    asked, start = config.train.keep_start, task.start
    if asked >= 0:
        return config
    if asked != -1:
        raise InputError(f"train.keep_start must be from 0 to 0.99, or -1 for the default, got {asked:g}")
    keep = KEPT_OF_KNOWN if start and start.known else 0.0
    if start:
        why = "the weights know some of the classes" if keep else "all classes are new to the weights"
        listener.say(
            f"fraction of the starting weights that is mixed back in: {keep:g}, since {why} (train.keep_start)"
        )
    return dataclasses.replace(config, train=dataclasses.replace(config.train, keep_start=keep))


def _pretrain(config: Config, task: Task, *, path: Path, device: torch.device, listener: Listener) -> None:
    """Train the backbone on cut-out objects, or go on with that, give it to the network, and say so."""
    build_optimizer(task.model, config.train)  # or else what is wrong with its name is found minutes later
    inner = path / FOLDER
    before = _begun(inner, listener)
    remove_leftovers(path)
    if holds_run(path):
        follow(load_last(path), config, task=task, folder=path)
    else:  # so that --resume knows what was asked for
        RunFolder(path, config, task=task, about=task.about).record_start()
    listener.say(f"first the backbone learns to tell the objects, cut out, from each other; writing to {inner}")
    if before is None:
        try:
            with new_run(inner, listener):
                fit(pretraining_of(config), inner, device=device, listener=listener)
        finally:
            if not inner.exists():  # stopped before an epoch was done: as if it had not been begun
                for name in (LAST, PREVIOUS):
                    (path / name).unlink(missing_ok=True)
    elif before.training["epoch"] < config.pretrain.crops or outdated(inner, before.training):
        _, _, again = stored_run(inner)
        again = with_changes(again, {"data.path": config.data.path, "train.workers": config.train.workers})
        fit(again, inner, device=device, listener=listener, resumed=before)
    learnt = load_last(inner)
    summary = transfer_backbone(task.model, learnt).summary
    listener.say(f"the backbone is that of {inner / LAST}: {summary}")


def _begun(inner: Path, listener: Listener) -> Checkpoint | None:
    """Return where the backbone's own run stands; None where it is to begin, as where nothing of it is whole."""
    if holds_run(inner) and not any(is_whole(inner / name) for name in (LAST, PREVIOUS)):
        listener.say(f"{inner / LAST} is damaged; the backbone learns from the beginning")
        for name in (LAST, PREVIOUS, BEST):
            (inner / name).unlink(missing_ok=True)
    return load_last(inner, listener.say) if holds_run(inner) else None


def _fit_time(config: Config, task: Task, *, precision: str, began: float, listener: Listener) -> Config:
    """Measure a few steps, work out epochs and steps for what is left of the run's minutes, and say so."""
    minutes = config.train.minutes
    plain = dataclasses.replace(config, train=dataclasses.replace(config.train, steps_per_epoch=0))
    pace = measure_pace(task, config, precision=precision)
    left = 60 * minutes - (time.perf_counter() - began)
    fitted = fit_time(config, pace, steps=len(_sampler(plain, task)), seconds=left)
    if config.data.crops and fitted.train.epochs >= config.train.epochs:
        return config  # a backbone learns no longer than it was to
    task.plan_epochs(fitted)
    listener.say(
        f"{minutes:g} min: a step takes {pace.step:.2f} s, an evaluation {pace.evaluation:.1f} s, which makes "
        f"{counted(fitted.train.epochs, 'epoch')} of {counted(len(_sampler(fitted, task)), 'step')}"
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


def _sampler(config: Config, task: Task) -> EpochSampler:
    train = config.train
    return EpochSampler(
        len(task.dataset),  # type: ignore[arg-type]
        train.batch_size,
        shuffle=True,
        seed=train.seed,
        steps=train.steps_per_epoch,
        repeats=task.repeats,
    )


def _announce(folder: RunFolder, state: State, listener: Listener) -> None:
    """Compile where it is asked for, and say what is trained, where."""
    if state.config.compile:
        state.model.compile()
        listener.say("torch.compile: the first step takes minutes")
    parameters = counted(sum(parameter.numel() for parameter in state.model.parameters()), "parameter")
    hardware = describe_hardware(state.device)
    listener.say(f"{folder.config.name}: {parameters}, {hardware}, {state.precision}; writing to {folder.path}")


def _watch_parts(state: State, listener: Listener) -> Callable[[StepReport], None]:
    """Return what passes reports of steps on, and says when memory made a batch go through in more micro-batches."""
    most = [state.parts]

    def on_step(report: StepReport) -> None:
        if report.parts > most[-1]:
            most.append(report.parts)
            smaller = -(-state.config.batch_size // report.parts)
            listener.say(
                f"the device ran out of memory: batches now go through it {counted(smaller, 'image')} at a time"
            )
        listener.on_step(report)

    return on_step


def _certificate(config: Config, task: Task, *, device: torch.device, precision: str) -> dict[str, Any]:
    """Return what checkpoints say of their making."""
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
        "hardware": describe_hardware(device),
        "precision": precision,
        "versions": {"yolo_lite": VERSION, "torch": str(torch.__version__), "python": platform.python_version()},
    }
