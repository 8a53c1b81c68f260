"""Search for settings with Optuna: many short trainings; poor ones stop early, the best becomes a configuration."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from yolo_lite.config.resolve import config_to_dict, override_config
from yolo_lite.config.schema import Config, DataConfig
from yolo_lite.errors import DivergedError, InputError, counted
from yolo_lite.files import make_folder, write_atomically
from yolo_lite.ranks import process_count
from yolo_lite.training.recipe import train
from yolo_lite.training.task import Listener, StepReport

if TYPE_CHECKING:
    import optuna

_STARTUP = 5  # first trials, which are drawn at random and not stopped early
METRICS = {"detect": "AP", "classify": "accuracy"}


@dataclass(frozen=True)
class TrialReport:
    """The result of one trial.

    Attributes:
        number: number of the trial, counted from 0.
        value: best AP or accuracy on the validation set.
        stopped: whether it ended early: worse than half of the others at the same epoch, or out of time.
        settings: the settings that it tried, by key.
    """

    number: int
    value: float
    stopped: bool
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class TuneResult:
    """The result of a search: the best trial, the number of trials, and the path of best.yaml."""

    best: TrialReport
    trials: int
    config: Path


@dataclass(frozen=True)
class TuneListener:
    """Functions that receive the news of a search: lines of text, a report after each trial and after each step."""

    say: Callable[[str], None] = lambda line: None
    on_trial: Callable[[TrialReport], None] = lambda report: None
    on_step: Callable[[StepReport], None] = lambda report: None


def tune(
    config: Config,
    *,
    trials: int,
    out: Path,
    fixed: Collection[str] = (),
    device: str = "auto",
    listener: TuneListener = TuneListener(),
) -> TuneResult:
    """Search for the settings that give the best AP or accuracy on the validation set.

    The search uses a tree-structured Parzen estimator (Bergstra et al. 2011) and the median rule for stopping. Trials
    are stored in `out`/study.db, so that the same call continues an earlier search.

    Args:
        config: configuration of every trial, as `plan` returns it. After `train.minutes` no trial starts, and the
            running one ends after its epoch.
        trials: total number of trials to finish, those of earlier calls included.
        out: folder for the study, best.yaml and the run of each trial.
        fixed: keys or sections that are not searched.
        device: auto, cpu, cuda or mps.
        listener: receives the news of the search.

    Raises:
        InputError: if Optuna is not installed, an argument cannot be used, or no trial was finished.

    Example:
        >>> from yolo_lite.training.plan import plan
        >>> short = {"train.epochs": 1, "train.preflight": False}
        >>> config = plan("my_classes", config="mnist_small", settings=short).config
        >>> result = tune(config, trials=1, out=Path("search"), device="cpu")
        >>> result.trials, result.config.name
        (1, 'best.yaml')
    """
    if process_count() > 1:
        raise InputError("a search runs in one process: start it without torchrun")
    search = _Search(config, out, fixed=fixed, device=device, listener=listener)
    while len(search.finished()) < trials and not search.time_is_up():
        search.run_trial()
    return search.result()


class _Search:
    """A study, and the trials that it adds."""

    def __init__(
        self, config: Config, out: Path, *, fixed: Collection[str], device: str, listener: TuneListener
    ) -> None:
        self.optuna = _optuna()
        train = dataclasses.replace(config.train, epochs=config.train.epochs or _EPOCHS)
        self.minutes = train.minutes
        quick = dataclasses.replace(train, minutes=0.0, preflight=False)  # for a trial
        self.config, self.preflight = dataclasses.replace(config, train=quick), train.preflight
        self.out, self.fixed, self.device, self.listener = out, fixed, device, listener
        make_folder(out)
        _check_store(out / "study.db")
        self.study = self.optuna.create_study(
            storage=f"sqlite:///{out / 'study.db'}",
            study_name=f"yolo_lite {config.task}",
            direction="maximize",
            load_if_exists=True,
            pruner=self.optuna.pruners.MedianPruner(_STARTUP, max(1, train.epochs // 4)),
        )
        self._check_same()
        done = self.finished()
        self.study.sampler = self.optuna.samplers.TPESampler(
            n_startup_trials=_STARTUP, seed=train.seed + len(self.study.trials)
        )
        if done:
            listener.say(f"{out / 'study.db'} holds {counted(len(done), 'trial')}; continuing the search")
        self.started = time.monotonic()

    def finished(self) -> Sequence[Any]:
        """Return the finished trials, including those stopped early."""
        return [trial for trial in self.study.trials if trial.state.name in ("COMPLETE", "PRUNED")]

    def time_is_up(self) -> bool:
        """Return whether the time limit has passed."""
        return bool(self.minutes) and time.monotonic() - self.started > 60 * self.minutes

    def run_trial(self) -> None:
        """Draw settings, train with them, and record the result."""
        trial = self.study.ask()
        chosen = suggest(trial, self.config, fixed=self.fixed)
        metric, best = METRICS[self.config.task], 0.0

        def on_epoch(row: Mapping[str, float], is_best: bool) -> None:
            nonlocal best
            if metric in row:
                best = max(best, row[metric])
                trial.report(row[metric], int(row["epoch"]))
                last = row["epoch"] >= self.config.train.epochs
                if not last and (trial.should_prune() or self.time_is_up()):
                    raise self.optuna.TrialPruned

        states, stopped = self.optuna.trial.TrialState, False
        try:
            train(
                config=override_config(self.config, chosen),
                out=self.out / f"trial-{trial.number}",
                device=self.device,
                listener=Listener(on_step=self.listener.on_step, on_epoch=on_epoch),
            )
        except (self.optuna.TrialPruned, DivergedError):
            stopped = True
        except BaseException:
            self.study.tell(trial, state=states.FAIL)  # it does not count, and the next call tries again
            raise
        self.study.tell(trial, None if stopped else best, state=states.PRUNED if stopped else states.COMPLETE)
        self.listener.on_trial(TrialReport(trial.number, best, stopped=stopped, settings=chosen))

    def result(self) -> TuneResult:
        """Write the configuration of the best trial and return the result."""
        states = self.optuna.trial.TrialState
        if not any(trial.state == states.COMPLETE for trial in self.study.trials):
            given = " in the time given" if self.minutes else ""
            raise InputError(f"no trial was finished{given}; the study is in {self.out}")
        best = self.study.best_trial
        settings = dict(best.user_attrs["settings"])
        # best.yaml names no data, because the real training may use more of it, and runs the preflight again.
        best_config = dataclasses.replace(
            override_config(self.config, {**settings, "train.preflight": self.preflight}), data=DataConfig()
        )
        plain = config_to_dict(best_config)
        text = yaml.safe_dump(plain, sort_keys=False)
        note = (
            f"# {METRICS[self.config.task]} {best.value:.4f} on the validation set of {self.config.data.path}: trial "
            f"{best.number} of {len(self.study.trials)}\n"
        )
        target = self.out / "best.yaml"
        write_atomically(target, lambda part: part.write_text(note + text, encoding="utf-8"))
        report = TrialReport(best.number, float(best.value or 0.0), stopped=False, settings=settings)
        return TuneResult(report, len(self.finished()), config=target)

    def _check_same(self) -> None:
        """Refuse to mix trials with different data sets or fixed settings."""
        data = dataclasses.replace(self.config.data, path=str(Path(self.config.data.path).resolve()))
        plain = config_to_dict(dataclasses.replace(self.config, data=data))
        attributes = self.study.user_attrs
        for key in ("data", "config"):
            value = plain["data"] if key == "data" else plain
            if self.finished() and attributes.get(key) != value:
                raise InputError(f"the study holds {self.config.task} trials with another {key}; choose another --out")
            self.study.set_user_attr(key, value)


_EPOCHS = 10  # of a trial, if the recipe leaves the choice
_BETWEEN = 5e-4  # the middle of the rates that fine-tuning chooses between


def suggest(trial: optuna.Trial, base: Config, *, fixed: Collection[str]) -> dict[str, Any]:
    """Draw the settings of a trial, by key, except the fixed ones; the learning rate varies by a factor of five.

    Raises:
        InputError: if the learning rate of the configuration is not above 0.

    Example:
        >>> import optuna
        >>> trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
        >>> drawn = suggest(trial, Config(), fixed=["augment", "loss"])
        >>> sorted(drawn)
        ['train.lr', 'train.weight_decay']
        >>> 0.001 / 5 <= drawn["train.lr"] <= 0.001 * 5
        True
    """
    lr = _BETWEEN if base.train.lr == -1 else base.train.lr
    if lr <= 0:
        raise InputError("tune searches around the learning rate, so train.lr must be above 0")
    spread = trial.suggest_float("spread of scale", 0.0, 0.6)
    drawn: dict[str, Any] = {
        "train.lr": trial.suggest_float("train.lr", lr / 5, lr * 5, log=True),
        "train.weight_decay": trial.suggest_float("train.weight_decay", 1e-3, 0.2, log=True),
        "augment.scale": [1 - spread, 1 + spread],
        "augment.translate": trial.suggest_float("augment.translate", 0.0, 0.2),
        "augment.saturation": trial.suggest_float("augment.saturation", 0.0, 0.4),
        "augment.value": trial.suggest_float("augment.value", 0.0, 0.3),
    }
    if base.task == "detect":
        drawn["augment.mosaic"] = trial.suggest_float("augment.mosaic", 0.0, 0.8)
        drawn["loss.box_weight"] = trial.suggest_float("loss.box_weight", 1.0, 8.0)
    elif base.classifier.loss == "cross_entropy":
        drawn["classifier.label_smoothing"] = trial.suggest_float("classifier.label_smoothing", 0.0, 0.2)
    if base.train.weights:
        drawn["train.keep_start"] = trial.suggest_float("train.keep_start", 0.0, 0.6)
    kept = {key: value for key, value in drawn.items() if key not in fixed and key.split(".")[0] not in fixed}
    trial.set_user_attr("settings", kept)
    return kept


def _check_store(path: Path) -> None:
    if path.exists() and path.stat().st_size:
        with path.open("rb") as file:
            if file.read(16) != b"SQLite format 3\0":
                raise InputError(
                    f"{path} is not the study of an earlier search (not an SQLite file); choose another --out"
                )


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise InputError("tune needs Optuna, which is not installed: pip install optuna") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
