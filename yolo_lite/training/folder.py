"""The files of a run, written in an order that lets it resume from any moment at which it stops.

last.pt holds the whole state and is written first: once it is there, an epoch is finished. The one before it is kept as
previous.pt. All other files follow from last.pt, and a resumed run writes any that are missing or outdated.
"""

from __future__ import annotations

import copy
import csv
import dataclasses
import io
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from yolo_lite.checkpoints.checkpoint import Checkpoint, half, load_checkpoint, save_checkpoint
from yolo_lite.config.resolve import config_to_dict
from yolo_lite.config.schema import Config
from yolo_lite.draw.plots import plot_results
from yolo_lite.draw.sheets import draw_sheet
from yolo_lite.errors import InputError, reason
from yolo_lite.files import temporary, write_atomically
from yolo_lite.training.board import open_board
from yolo_lite.training.state import State
from yolo_lite.training.task import Task

LAST, PREVIOUS, BEST = "last.pt", "previous.pt", "best.pt"
REHEARSAL = ".rehearsal-"  # begins the name of a temporary folder in which budget.py writes the files of an epoch


def holds_run(folder: Path) -> bool:
    """Return whether a folder holds a run that can be resumed.

    Example:
        >>> holds_run(Path("my_images"))
        False
    """
    return (folder / LAST).exists() or (folder / PREVIOUS).exists()


def is_whole(path: Path) -> bool:
    """Return whether a checkpoint's checksums match its bytes.

    Example:
        >>> from yolo_lite.shipped import find_weights
        >>> is_whole(find_weights("yolo_lite-pico-voc5")), is_whole(Path("photo.jpg"))
        (True, False)
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError):
        return False


def load_last(folder: Path, say: Callable[[str], None] = lambda line: None) -> Checkpoint:
    """Read last.pt. If it is missing or damaged, read previous.pt instead and report that.

    Args:
        folder: of the run.
        say: takes the report.

    Raises:
        InputError: if neither can be used, or last.pt is undamaged but no checkpoint of yolo_lite.

    Example:
        >>> from yolo_lite.checkpoints.checkpoint import load_checkpoint
        >>> from yolo_lite.shipped import find_weights
        >>> checkpoint = load_checkpoint(find_weights("yolo_lite-pico-voc5"))
        >>> run = Path("run_to_load")
        >>> run.mkdir()
        >>> save_last(run, checkpoint)
        >>> load_last(run).class_names
        ('person', 'car', 'cat', 'bus', 'train')
    """
    last, previous = folder / LAST, folder / PREVIOUS
    if is_whole(last):
        return load_checkpoint(last)
    if is_whole(previous):
        checkpoint = load_checkpoint(previous)
        state = "damaged" if last.exists() else "missing"
        say(f"{last} is {state}; resuming from {previous}, after epoch {checkpoint.training.get('epoch', 0)}")
        return checkpoint
    also = f", as is {previous}" if previous.exists() else ""
    way = f"train again with another --out; --weights {folder / BEST} starts from its best epoch"
    if last.is_file():
        raise InputError(f"{last} is not a yolo_lite checkpoint, or is damaged{also}; {way}")
    if (folder / BEST).exists():
        raise InputError(f"{last} does not exist{also}, so the run in {folder} cannot be resumed; {way}")
    raise InputError(f"{last} does not exist" if not last.exists() else f"{last} is a folder, expected a weights file")


def save_last(folder: Path, checkpoint: Checkpoint) -> None:
    """Write last.pt, and keep the one before as previous.pt.

    After the first save, previous.pt is a copy. One of the two is therefore always complete.

    Raises:
        InputError: if last.pt cannot be written, or its new bytes cannot be read back. It is then unchanged.

    Example:
        >>> from yolo_lite.checkpoints.checkpoint import load_checkpoint
        >>> from yolo_lite.shipped import find_weights
        >>> checkpoint = load_checkpoint(find_weights("yolo_lite-pico-voc5"))
        >>> run = Path("run_to_save")
        >>> run.mkdir()
        >>> save_last(run, checkpoint)
        >>> sorted(path.name for path in run.iterdir())
        ['last.pt', 'previous.pt']
    """
    last, previous = folder / LAST, folder / PREVIOUS
    new = temporary(last)
    try:
        _save_as(last, new, checkpoint)
        if not is_whole(new):
            raise InputError(f"cannot write {last}: the bytes on the disk differ from those written")
        if last.exists():
            os.replace(last, previous)
            os.replace(new, last)
        else:
            os.replace(new, last)
            write_atomically(previous, lambda part: part.write_bytes(last.read_bytes()))
    except OSError as error:
        raise InputError(f"cannot write {last}: {reason(error)}") from error
    finally:
        new.unlink(missing_ok=True)


def _save_as(last: Path, new: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint under a temporary name, which no error message mentions."""
    try:
        save_checkpoint(new, checkpoint)
    except InputError as error:
        raise InputError(str(error).replace(str(new), str(last))) from error


def outdated(folder: Path, training: Mapping[str, Any]) -> list[str]:
    """Return the names of a run's files that are missing, damaged, or older than the last epoch.

    Args:
        folder: of the run.
        training: the state in last.pt.

    Example:
        >>> outdated(Path("my_images"), {"epoch": 1, "rows": [{"epoch": 1}]})
        ['config.yaml', 'results.csv']
    """
    names = [] if (folder / "config.yaml").is_file() else ["config.yaml"]
    best = training.get("best_checkpoint")
    if best is not None and not _holds(folder / BEST, best):  # runs of older versions lack it
        names.append(BEST)
    rows = training.get("rows") or []
    table = folder / "results.csv"
    if (table.read_bytes() if table.is_file() else b"") != (_table(rows) if rows else b""):
        names.append("results.csv")
    return names


class RunFolder:
    """The folder of a run. Nothing else writes into it.

    Args:
        path: an existing folder.
        config: of the run.
        task: of the run.
        about: provenance, stored in every checkpoint.
    """

    def __init__(self, path: Path, config: Config, *, task: Task, about: Mapping[str, Any]) -> None:
        self.path, self.config, self.task, self.about = path, config, task, about
        self._board = open_board(path) if config.train.tensorboard else None

    def record(self, state: State, *, best: bool) -> None:
        """Save a finished epoch; `best` says whether it is the best so far.

        last.pt is written first. Once it is there, the epoch counts, wherever training stops.
        """
        about = {**self.about, "epoch": state.epoch, "metrics": dict(state.rows[-1])}
        thresholds = [row["score_threshold"] for row in state.rows if "score_threshold" in row]
        if thresholds:
            about["score_threshold"] = thresholds[-1]
        if best:
            weights = {name: value.clone() for name, value in half(state.ema.model.state_dict()).items()}
            state.best_checkpoint = {"weights": weights, "about": about}
        save_last(
            self.path,
            self._checkpoint(state.ema.model.state_dict(), about, config=with_absolute_paths(self.config), state=state),
        )

    def write_others(self, state: State, *, best: bool) -> None:
        """Write the files that follow from the last.pt just written."""
        first = [] if (self.path / "config.yaml").exists() else ["config.yaml"]
        is_scored = self.task.metric in state.rows[-1]
        self.complete(state, [*first, *([BEST] if best else []), *(["results.csv"] if is_scored else [])])
        if not is_scored:  # the curves end with the last evaluation
            self._write_table(state)
        if self._board:
            self._board(state.rows[-1])

    def complete(self, state: State, names: Sequence[str]) -> None:
        """Write the files that `outdated` names, from what last.pt holds.

        Each file is written after those that belong to it. After a stop in the middle, `outdated` names it again.
        """
        path, task = self.path, self.task
        if "config.yaml" in names:
            text = yaml.safe_dump(config_to_dict(self.config), sort_keys=False)
            write_atomically(path / "training.jpg", lambda part: draw_sheet(task.samples(), part))
            write_atomically(path / "config.yaml", lambda part: part.write_text(text, encoding="utf-8"))
        if BEST in names and state.best_checkpoint:
            self._write_best(state, state.best_checkpoint)
        elif BEST in names:
            for name in ("validation.jpg", BEST):  # left over from an epoch that is no longer kept
                (path / name).unlink(missing_ok=True)
        if "results.csv" in names and state.rows:
            scored = [number for number, row in enumerate(state.rows, 1) if task.metric in row]
            if scored:
                write_atomically(path / "results.png", lambda part: plot_results(state.rows[: scored[-1]], part))
            self._write_table(state)
        elif "results.csv" in names:
            for name in ("results.png", "results.csv"):
                (path / name).unlink(missing_ok=True)

    def _write_table(self, state: State) -> None:
        write_atomically(self.path / "results.csv", lambda part: part.write_bytes(_table(state.rows)))

    def record_start(self) -> None:
        """Save the untrained network with zero epochs done, so that --resume knows what was asked for."""
        checkpoint = self._checkpoint(
            half(self.task.model.state_dict()), self.about, config=with_absolute_paths(self.config)
        )
        save_last(self.path, dataclasses.replace(checkpoint, training={"epoch": 0}))

    def _write_best(self, state: State, best: Mapping[str, Any]) -> None:
        """Write best.pt and validation.jpg. A resumed run draws with the half-precision weights that are kept of that epoch."""
        model = state.ema.model
        if best["about"]["epoch"] != state.epoch:
            model = copy.deepcopy(model)
            model.load_state_dict({name: value.float() for name, value in best["weights"].items()})
        write_atomically(self.path / "validation.jpg", lambda part: draw_sheet(self.task.predictions(model), part))
        save_checkpoint(self.path / BEST, self._checkpoint(best["weights"], best["about"], config=self.config))

    def _checkpoint(
        self, weights: Mapping[str, Tensor], about: Mapping[str, Any], *, config: Config, state: State | None = None
    ) -> Checkpoint:
        return Checkpoint(
            config,
            self.task.class_names,
            category_ids=self.task.category_ids,
            weights=weights,
            about=about,
            training=state.to_plain() if state else {},
        )


def with_absolute_paths(config: Config) -> Config:
    """Return a configuration whose paths are valid from any current folder.

    Example:
        >>> from yolo_lite.config.schema import DataConfig
        >>> config = with_absolute_paths(Config(data=DataConfig(path="my_images")))
        >>> Path(config.data.path) == Path("my_images").resolve()
        True
    """
    data = config.data
    whole = dataclasses.replace(data, path=_absolute(data.path), unlabelled=_absolute(data.unlabelled))
    return dataclasses.replace(config, data=whole)


def _absolute(path: str) -> str:
    return str(Path(path).resolve()) if path else ""


def remove_leftovers(folder: Path) -> None:
    """Remove the unfinished files of a run that was killed while it wrote.

    Example:
        >>> _ = Path(".last.pt.part1").write_bytes(b"half")
        >>> remove_leftovers(Path("."))
        >>> Path(".last.pt.part1").exists()
        False
    """
    for part in folder.glob(".*.part*"):
        part.unlink(missing_ok=True)
    for scratch in folder.glob(f"{REHEARSAL}*"):
        shutil.rmtree(scratch, ignore_errors=True)


def _holds(path: Path, best: Mapping[str, Any]) -> bool:
    """Return whether best.pt holds the best epoch of a state, or is absent if the state has none."""
    if not best:
        return not path.exists()
    if not is_whole(path):
        return False
    try:
        stored = load_checkpoint(path)
    except InputError:
        return False
    weights = best["weights"]
    same = all(stored.about.get(name) == best["about"].get(name) for name in ("epoch", "data"))
    return (
        same
        and stored.weights.keys() == weights.keys()
        and all(torch.equal(value, stored.weights[name]) for name, value in weights.items())
    )


def _table(rows: Sequence[Mapping[str, float]]) -> bytes:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in rows)
    return text.getvalue().encode()
