"""Judge a recipe of training by the accuracy it reaches on several data sets."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from yolo_lite.data.splits import read_train_and_val
from yolo_lite.errors import InputError
from yolo_lite.files import make_folder, write_atomically
from yolo_lite.training.folder import holds_run
from yolo_lite.training.plan import plan
from yolo_lite.training.recipe import resume, train
from yolo_lite.training.resume import stored_run
from yolo_lite.training.state import is_over
from yolo_lite.training.task import Listener

RESULTS = "finetune.json"


@dataclass(frozen=True)
class FineTuned:
    """The result of one run.

    Attributes:
        name: of the data set.
        seed: of the run.
        epochs: how many it took.
        ap: AP of the last epoch on the validation images.
        ap50: the same at IoU 0.5.
        minutes: time of the run; of the last part, if it was interrupted.
    """

    name: str
    seed: int
    epochs: int
    ap: float
    ap50: float
    minutes: float


@dataclass(frozen=True)
class SetReport:
    """The runs on one data set, one for each seed.

    Attributes:
        name: of the data set.
        runs: in the order of the seeds.
    """

    name: str
    runs: tuple[FineTuned, ...]

    @property
    def ap(self) -> float:
        """Mean AP over the seeds.

        Example:
            >>> SetReport("cards", (FineTuned("cards", 0, epochs=10, ap=0.5, ap50=0.7, minutes=2.0),)).ap
            0.5
        """
        return statistics.fmean(run.ap for run in self.runs)

    @property
    def spread(self) -> float:
        """Standard deviation of AP over the seeds; 0 for one seed.

        Example:
            >>> SetReport("cards", (FineTuned("cards", 0, epochs=10, ap=0.5, ap50=0.7, minutes=2.0),)).spread
            0.0
        """
        return statistics.stdev(run.ap for run in self.runs) if len(self.runs) > 1 else 0.0


def bench_finetune(
    data: Sequence[str],
    out: Path,
    *,
    config: str | None = None,
    seeds: int = 1,
    settings: Mapping[str, object] | None = None,
    device: str = "auto",
    listener: Listener = Listener(),
) -> list[SetReport]:
    """Train on each data set with each seed, and return the accuracy of the last epochs.

    Finished runs in `out` are not repeated, and a run that was interrupted is resumed.

    Args:
        data: folders or files, as for `train`.
        out: folder of the runs and of their results.
        config: name or file of a configuration, as for `train`; None fine-tunes the default weights.
        seeds: how many: 0, 1 and so on.
        settings: of every run, by key, as for `train`.
        device: auto, cpu, cuda or mps.
        listener: receives the news of the runs.

    Raises:
        InputError: if a data set cannot be read, or `out` holds runs with other data or settings.

    Example:
        >>> settings = {"train.epochs": 1, "train.preflight": False, "train.workers": 0, "input.image_size": [64, 64]}
        >>> (report,) = bench_finetune(["my_images"], Path("judged"), settings=settings, device="cpu")
        >>> report.name, len(report.runs), report.runs[0].epochs
        ('my_images', 1, 1)
    """
    names = _names(data)
    chosen = dict(settings or {})
    for source in data:  # so that a wrong name is refused now, not hours later
        read_train_and_val(plan(source, config=config, settings=chosen).config.data, seed=0)
    make_folder(out)
    asked = {"data": dict(zip(names, map(str, data))), "settings": chosen} | ({"config": config} if config else {})
    results = _Results(out / RESULTS, asked=asked)
    for seed in range(seeds):  # all sets with the first seed first, so that a stopped bench has something to say
        for name, source in zip(names, data):
            if not results.has(name, seed):
                listener.say(f"{name}, seed {seed}")
                began = time.perf_counter()
                folder, of_run = out / f"{name}-seed{seed}", {**chosen, "train.seed": seed}
                if not holds_run(folder):
                    train(source, config=config, settings=of_run, out=folder, device=device, listener=listener)
                elif _is_unfinished(folder, listener):
                    resume(folder, device=device, listener=listener)
                results.add(_read(folder, name, seed=seed, minutes=(time.perf_counter() - began) / 60))
    return [SetReport(name, tuple(results.of(name, seeds))) for name in names]


def _is_unfinished(folder: Path, listener: Listener) -> bool:
    _, checkpoint, config = stored_run(folder, listener.say)
    epoch, best_epoch = (checkpoint.training[name] for name in ("epoch", "best_epoch"))
    return not epoch or not is_over(config.train, epoch=epoch, best_epoch=best_epoch)


def _read(folder: Path, name: str, *, seed: int, minutes: float) -> FineTuned:
    last = stored_run(folder)[1].training["rows"][-1]  # results.csv may be older, if the run was killed
    return FineTuned(name, seed, epochs=int(last["epoch"]), ap=last["AP"], ap50=last["AP50"], minutes=minutes)


def _names(data: Sequence[str]) -> list[str]:
    """Return the name of each data set's folder or file; refuse two of one name."""
    names = [Path(source).resolve().stem for source in data]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(f"two data sets are named {twice}; rename one, since their runs are told apart by name")
    return names


class _Results:
    """The results so far, in a JSON file beside the runs."""

    def __init__(self, path: Path, *, asked: Mapping[str, Any]) -> None:
        self._path, self._asked = path, json.loads(json.dumps(asked))
        self._runs: list[FineTuned] = []
        if path.exists():
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
                before, self._runs = content["asked"], [FineTuned(**run) for run in content["runs"]]
            except (ValueError, KeyError, TypeError) as error:
                raise InputError(f"{path} is damaged; choose another --out") from error
            has_begun = bool(self._runs) or any(holds_run(folder) for folder in path.parent.iterdir())
            if before != self._asked and has_begun:
                raise InputError(f"{path.parent} holds runs on other data or with other settings; choose another --out")
        self._write()

    def has(self, name: str, seed: int) -> bool:
        return any((run.name, run.seed) == (name, seed) for run in self._runs)

    def of(self, name: str, seeds: int) -> list[FineTuned]:
        return sorted((run for run in self._runs if run.name == name and run.seed < seeds), key=lambda run: run.seed)

    def add(self, run: FineTuned) -> None:
        self._runs.append(run)
        self._write()

    def _write(self) -> None:
        text = json.dumps({"asked": self._asked, "runs": [asdict(run) for run in self._runs]}, indent=1)
        write_atomically(self._path, lambda part: part.write_text(text, encoding="utf-8"))
