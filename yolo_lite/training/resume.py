"""Resume a run: what was asked for, what may differ now, and whether the data is still the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

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
)  # settings that change nothing in the result


def stored_run(
    out: str | Path | None, say: Callable[[str], None] = lambda line: None
) -> tuple[Path, Checkpoint, Config]:
    """Return the folder of a run (None: the newest runs/train-N), its last.pt, and what was asked for.

    `say` takes a line where last.pt is damaged and the one before it is returned.

    Raises:
        InputError: where there is no such run.
    """
    folder = Path(out) if out else newest_run()
    checkpoint = load_last(folder, say)
    last = folder / LAST
    if not checkpoint.training:
        raise InputError(f"{last} holds weights only and cannot be resumed; fine-tune it with --weights")
    lacking = [name for name in ("data", "fingerprint", "val_fingerprint") if name not in checkpoint.about]
    if lacking and checkpoint.training["epoch"]:
        raise InputError(f"{last} cannot be resumed: it does not say {lacking[0]} of the run")
    config = checkpoint.config
    if "run" in checkpoint.training:
        config = _of_version_01(checkpoint.training["run"], config, last)
    if not config.data.path:
        raise InputError(f"{last} cannot be resumed: it does not say data.path of the run")
    return folder, checkpoint, config


def with_changes(config: Config, settings: Mapping[str, object]) -> Config:
    """Return the configuration of a run with settings that may differ when it is resumed.

    Raises:
        InputError: for another setting that differs from that of the run, and where the data is no longer in its place.
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
            raise InputError(f"{path} does not exist; if the images have moved, say where: --resume --{flag} PATH")
    return config


def go_on(folder: RunFolder, state: State, *, stored: Checkpoint, listener: Listener) -> None:
    """Bring state and folder back to those of a checkpoint, where the data is still the same and work is left."""
    stored = follow(stored, folder.config, task=folder.task, folder=folder.path)
    last = folder.path / LAST
    check_optimizer(stored.training["optimizer"], state.optimizer, source=str(last))
    state.restore(stored.training)
    remove_leftovers(folder.path)
    names = outdated(folder.path, stored.training)
    if names:
        folder.complete(state, names)
        listener.say(f"made anew from {LAST}: {', '.join(names)}")
    elif state.finished():
        raise InputError(f"the run in {folder.path} has stopped early after epoch {state.epoch}; nothing to resume")
    listener.say(f"going on in {folder.path} after epoch {state.epoch} of {state.config.epochs}")


def follow(stored: Checkpoint, config: Config, *, task: Task, folder: Path) -> Checkpoint:
    """Return last.pt with the present paths of its data; it is written at once where they are new.

    Raises:
        InputError: where the data is not the same, saying what differs.
    """
    found = differences(stored, task)
    if found:
        raise InputError(f"{config.data.path} is not what the run in {folder} was started on: {'; '.join(found)}")
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


def differences(stored: Checkpoint, task: Task) -> list[str]:
    """Say in what the data differs from that which a run was started on, by the fingerprints of both splits."""
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
    """Return the configuration of a run of version 0.1, which kept what was asked for beside it."""
    unknown = [key for key in run if key not in _KEYS_01]
    if unknown:
        raise InputError(f"{last}: the run has a setting that is unknown: {unknown[0]!r}")
    settings = {_KEYS_01[key]: value for key, value in run.items() if value is not None}
    return resolve([Layer(str(last), config_to_dict(config)), settings_layer(settings, f"{last}: the run's")]).config
