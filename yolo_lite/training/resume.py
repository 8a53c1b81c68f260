"""Resume a run: its configuration, the settings that may differ now, and whether the data is still the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from yolo_lite.checkpoints.checkpoint import Checkpoint
from yolo_lite.checkpoints.contents import check_optimizer
from yolo_lite.config.describe import value_of, written
from yolo_lite.config.resolve import Layer, config_to_dict, override_config, resolve, settings_layer
from yolo_lite.config.schema import Config
from yolo_lite.errors import InputError, some
from yolo_lite.training.folder import (
    LAST,
    RunFolder,
    load_last,
    outdated,
    remove_leftovers,
    save_last,
    with_absolute_paths,
)
from yolo_lite.training.runs import newest_run
from yolo_lite.training.state import State
from yolo_lite.training.task import Listener, Task

MAY_DIFFER = frozenset(
    {
        "data.path",
        "data.unlabelled",
        "train.cache",
        "train.compile",
        "train.preflight",
        "train.tensorboard",
        "train.workers",
    }
)  # settings that do not change the result


def stored_run(
    out: str | Path | None, say: Callable[[str], None] = lambda line: None
) -> tuple[Path, Checkpoint, Config]:
    """Return the folder of a run (None: the newest runs/train-N), its last checkpoint, and its configuration.

    If last.pt is damaged, previous.pt is returned and `say` is called with a line about it.

    Raises:
        InputError: if there is no such run.

    Example:
        >>> from yolo_lite.training.recipe import train_classifier
        >>> settings = {"train.epochs": 1, "train.preflight": False}
        >>> run = train_classifier("my_classes", config="mnist_small", settings=settings, out="stored", device="cpu")
        >>> folder, checkpoint, config = stored_run(run)
        >>> folder.name, checkpoint.training["epoch"], config.name
        ('stored', 1, 'mnist_small')
    """
    folder = Path(out) if out else newest_run()
    checkpoint = load_last(folder, say)
    last = folder / LAST
    if not checkpoint.training:
        raise InputError(f"{last} holds weights only and cannot be resumed; fine-tune it with --weights")
    lacking = [name for name in ("data", "fingerprint", "val_fingerprint") if name not in checkpoint.about]
    if lacking and checkpoint.training["epoch"]:
        raise InputError(f"{last} cannot be resumed: it lacks {lacking[0]} of the run; train again")
    config = checkpoint.config
    if "run" in checkpoint.training:
        config = _of_version_01(checkpoint.training["run"], config, last)
    if not config.data.path:
        raise InputError(f"{last} cannot be resumed: it lacks data.path of the run; train again")
    return folder, checkpoint, config


def with_changes(config: Config, settings: Mapping[str, object]) -> Config:
    """Return the configuration of a run with changed settings, as far as these may change on resuming.

    Raises:
        InputError: if a setting that must not change differs from the run's, or the data is no longer in its place.

    Example:
        >>> with_changes(Config(), {"train.workers": 0}).train.workers
        0
        >>> with_changes(Config(), {"train.lr": 0.5})
        Traceback (most recent call last):
            ...
        yolo_lite.errors.InputError: --resume: this run was started with train.lr 0.001, not 0.5; leave it out
    """
    for key, value in settings.items():
        other = override_config(config, {key: value})
        if other != config and key not in MAY_DIFFER:
            raise InputError(
                f"--resume: this run was started with {key} {written(value_of(config, key))}, not "
                f"{written(value_of(other, key))}; leave it out"
            )
    config = override_config(config, settings)
    for flag, path in (("data", config.data.path), ("unlabelled", config.data.unlabelled)):
        if path and not Path(path).exists():
            raise InputError(f"{path} does not exist; if the images have moved, use --resume --{flag} NEW_PATH")
    return config


def go_on(folder: RunFolder, state: State, *, stored: Checkpoint, listener: Listener) -> None:
    """Restore state and folder from a checkpoint, and rebuild files of the run that are missing or out of date.

    Raises:
        InputError: if the data has changed, or there is nothing left to do.

    Example:
        >>> from yolo_lite.training.recipe import TASKS, train_classifier
        >>> settings = {"train.epochs": 1, "train.preflight": False}
        >>> run = train_classifier("my_classes", config="mnist_small", settings=settings, out="restored", device="cpu")
        >>> _, stored, config = stored_run(run)
        >>> task = TASKS["classify"](config, start=None, device=torch.device("cpu"), listener=Listener())
        >>> folder = RunFolder(run, config, task=task, about=stored.about)
        >>> (run / "results.csv").unlink()
        >>> go_on(folder, State.new(task.model, config.train, steps=1), stored=stored, listener=Listener(say=print))
        rebuilt from last.pt: results.csv
        resuming restored after epoch 1 of 1
    """
    stored = follow(stored, folder.config, task=folder.task, folder=folder.path)
    last = folder.path / LAST
    check_optimizer(stored.training["optimizer"], state.optimizer, source=str(last))
    state.restore(stored.training)
    remove_leftovers(folder.path)
    names = outdated(folder.path, stored.training)
    if names:
        folder.complete(state, names)
        listener.say(f"rebuilt from {LAST}: {', '.join(names)}")
    elif state.finished():
        raise InputError(f"the run in {folder.path} stopped early after epoch {state.epoch}; nothing to resume")
    listener.say(f"resuming {folder.path} after epoch {state.epoch} of {state.config.epochs}")


def follow(stored: Checkpoint, config: Config, *, task: Task, folder: Path) -> Checkpoint:
    """Return the last checkpoint with the present paths of the data; if these are new, last.pt is rewritten at once.

    Raises:
        InputError: if the data has changed; the message names the differences.

    Example:
        >>> from yolo_lite.training.recipe import TASKS, train_classifier
        >>> settings = {"train.epochs": 1, "train.preflight": False}
        >>> run = train_classifier("my_classes", config="mnist_small", settings=settings, out="followed", device="cpu")
        >>> _, stored, config = stored_run(run)
        >>> task = TASKS["classify"](config, start=None, device=torch.device("cpu"), listener=Listener())
        >>> follow(stored, config, task=task, folder=run) is stored  # the data has not moved
        True
    """
    found = differences(stored, task)
    if found:
        raise InputError(
            f"{config.data.path} is not the data that the run in {folder} was started on: {'; '.join(found)}"
        )
    config = with_absolute_paths(config)
    if stored.config.data == config.data and "run" not in stored.training:
        return stored
    paths = {"data": config.data.path, "unlabelled": config.data.unlabelled or None}
    training = {name: value for name, value in stored.training.items() if name != "run"}
    if training.get("best_checkpoint"):
        best = training["best_checkpoint"]
        training["best_checkpoint"] = {**best, "about": {**best["about"], **paths}}
    moved = dataclasses.replace(stored, config=config, about={**stored.about, **paths}, training=training)
    save_last(folder, moved)
    return moved


class Described(Protocol):
    """What checkpoints and tasks know of the data: the class names, and summaries and fingerprints by name."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Class names by label."""

    @property
    def about(self) -> Mapping[str, Any]:
        """The summaries `train` and `val`, and their fingerprints."""


def differences(stored: Described, task: Described) -> list[str]:
    """Return a line for each difference between the data of a run and the present data, by their fingerprints.

    Example:
        >>> from types import SimpleNamespace
        >>> about = {"train": "8 images", "fingerprint": "a", "val": "4 images", "val_fingerprint": "b"}
        >>> stored = SimpleNamespace(class_names=("disc", "square"), about=about)
        >>> changed = {**about, "train": "9 images", "fingerprint": "c"}
        >>> differences(stored, SimpleNamespace(class_names=("disc", "square"), about=changed))
        ['train was 8 images, and is 9 images']
    """
    lines = []
    if stored.class_names != task.class_names:
        lines.append(f"its classes were {some(stored.class_names)}, and are {some(task.class_names)}")
    for split, name in (("train", "fingerprint"), ("val", "val_fingerprint")):
        before, now = stored.about[split], task.about[split]
        if stored.about[name] == task.about[name]:
            continue
        same = f"{split} has other file names, sizes, boxes or labels, or another order, though it still has {now}"
        lines.append(same if before == now else f"{split} was {before}, and is {now}")
    return lines


_KEYS_01 = {
    "data": "data.path",
    "weights": "train.weights",
    "classes": "data.classes",
    "fraction": "data.fraction",
    "per_class": "data.per_class",
    "split": "data.shares",
    "difficult": "data.difficult",
    "minutes": "train.minutes",
    "unlabelled": "data.unlabelled",
    "crops": "data.crops",
}


def _of_version_01(run: Mapping[str, Any], config: Config, last: Path) -> Config:
    """Return the configuration of a run of version 0.1, which stored some settings apart from it."""
    unknown = [key for key in run if key not in _KEYS_01]
    if unknown:
        raise InputError(f"{last}: the run has an unknown setting: {unknown[0]!r}")
    settings = {_KEYS_01[key]: value for key, value in run.items() if value is not None}
    return resolve([Layer(str(last), config_to_dict(config)), settings_layer(settings, f"{last}: the run's")]).config
