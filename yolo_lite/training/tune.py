"""Search for settings with Optuna: many short trainings, the poor ones stopped early, the best written as a configuration."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from yolo_lite.config.resolve import config_to_dict, override_config
from yolo_lite.errors import DivergedError, InputError, counted
from yolo_lite.files import make_folder, write_atomically
from yolo_lite.training.loop import StepReport
from yolo_lite.training.plan import plan, plan_classifier
from yolo_lite.training.recipe import run_planned
from yolo_lite.training.task import Listener, Run

if TYPE_CHECKING:
    import optuna

_STARTUP = 5  # trials before any is stopped early, and before the sampler leaves chance behind
METRICS = {"detect": "AP", "classify": "accuracy"}


@dataclass(frozen=True)
class TrialReport:
    """What became of one trial.

    Attributes:
        number: counted from 0.
        value: its best AP or accuracy on the validation set.
        stopped: it was worse than half of the others at the same epoch, or time was up.
        settings: what it tried.
    """

    number: int
    value: float
    stopped: bool
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class TuneResult:
    """What a search found: its best trial, how many there are, and the configuration written."""

    best: TrialReport
    trials: int
    config: Path


def tune(
    task: str,
    data: str | Path,
    *,
    trials: int,
    out: Path,
    model: str | None = None,
    weights: str | None = None,
    settings: Mapping[str, object] | None = None,
    minutes: float | None = None,
    device: str = "auto",
    say: Callable[[str], None] = lambda line: None,
    on_trial: Callable[[TrialReport], None] = lambda report: None,
    on_step: Callable[[StepReport], None] = lambda report: None,
) -> TuneResult:
    """Search for the settings that give the best AP or accuracy on the validation set.

    Tree-structured Parzen estimator (Bergstra et al. 2011) with the median rule for stopping. Trials are kept in
    `out`/study.db, so that the same call goes on where an earlier one ended.

    Args:
        task: "detect" or "classify".
        data: as for `train` or `train_classifier`.
        trials: how many to finish in all, those of earlier calls included.
        out: folder of the study, of best.yaml, and of each trial's run.
        model: the configuration to start from (a name or file), as `config` or `model` there.
        weights: to start each trial from, as there.
        settings: fixed in all trials, such as {"train.epochs": 5}; what is named here is not searched.
        minutes: no trial is begun after these, and the running one ends after its epoch.
        device: auto, cpu, cuda or mps.
        say: called with lines for a person.
        on_trial: called after each trial.
        on_step: called after each step of a trial.

    Raises:
        InputError: where Optuna is not installed, anything given cannot be used, or no trial was finished.
    """
    optuna = _optuna()
    run = _plan(task, data, model=model, weights=weights, settings=settings)
    make_folder(out)
    _check_store(out / "study.db")
    study = optuna.create_study(
        storage=f"sqlite:///{out / 'study.db'}",
        study_name=f"yolo_lite {task}",
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(_STARTUP, max(1, run.config.train.epochs // 4)),
    )
    _check_same(study, task, run)
    done = _finished(study)
    study.sampler = optuna.samplers.TPESampler(
        n_startup_trials=_STARTUP, seed=run.config.train.seed + len(study.trials)
    )
    if done:
        say(f"{out / 'study.db'} holds {counted(len(done), 'trial')}; going on")
    started = time.monotonic()
    metric = METRICS[task]
    while len(_finished(study)) < trials and not _over(started, minutes):
        trial = study.ask()
        chosen = suggest(trial, run, fixed=settings or {})
        best = [0.0]

        def on_epoch(row: Mapping[str, float], is_best: bool, trial: Any = trial, best: list[float] = best) -> None:
            if metric in row:
                best[0] = max(best[0], row[metric])
                trial.report(row[metric], int(row["epoch"]))
                last = row["epoch"] >= run.config.train.epochs
                if not last and (trial.should_prune() or _over(started, minutes)):
                    raise optuna.TrialPruned

        folder = out / f"trial-{trial.number}"
        stopped = False
        try:
            run_planned(
                _with(run, chosen),
                folder,
                device=device,
                listener=Listener(on_step=on_step, on_epoch=on_epoch),
                preflight=False,
            )
        except (optuna.TrialPruned, DivergedError):
            stopped = True
        except BaseException:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)  # is not counted, and tried anew by the next call
            raise
        study.tell(trial, None if stopped else best[0], state=_state(optuna, stopped))
        on_trial(TrialReport(trial.number, best[0], stopped=stopped, settings=chosen))
    complete = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    if not complete:
        raise InputError(f"no trial was finished{' in the time given' if minutes else ''}; the study is in {out}")
    found = study.best_trial
    target = out / "best.yaml"
    text = yaml.safe_dump(config_to_dict(_with(run, _settings_of(found)).config), sort_keys=False)
    note = (
        f"# {metric} {found.value:.4f} on the validation set of {data}: trial {found.number} of {len(study.trials)}\n"
    )
    write_atomically(target, lambda part: part.write_text(note + text, encoding="utf-8"))
    report = TrialReport(found.number, float(found.value or 0.0), stopped=False, settings=_settings_of(found))
    return TuneResult(report, len(_finished(study)), target)


def suggest(trial: optuna.Trial, run: Run, *, fixed: Mapping[str, object]) -> dict[str, Any]:
    """Draw what a trial tries: settings by key, the rate within a factor of five; the fixed ones are left out."""
    base = run.config
    if base.train.lr <= 0:
        raise InputError("tune searches around the learning rate, so train.lr must be above 0")
    spread = trial.suggest_float("spread of scale", 0.0, 0.6)
    drawn: dict[str, Any] = {
        "train.lr": trial.suggest_float("train.lr", base.train.lr / 5, base.train.lr * 5, log=True),
        "train.weight_decay": trial.suggest_float("train.weight_decay", 1e-3, 0.2, log=True),
        "augment.scale": [1 - spread, 1 + spread],
        "augment.translate": trial.suggest_float("augment.translate", 0.0, 0.2),
        "augment.saturation": trial.suggest_float("augment.saturation", 0.0, 0.4),
        "augment.value": trial.suggest_float("augment.value", 0.0, 0.3),
    }
    if base.classifier.model == "none":
        drawn["augment.mosaic"] = trial.suggest_float("augment.mosaic", 0.0, 0.8)
        drawn["loss.box_weight"] = trial.suggest_float("loss.box_weight", 1.0, 8.0)
    elif base.classifier.loss == "cross_entropy":
        drawn["classifier.label_smoothing"] = trial.suggest_float("classifier.label_smoothing", 0.0, 0.2)
    if run.weights:
        drawn["train.keep_start"] = trial.suggest_float("train.keep_start", 0.0, 0.6)
    kept = {key: value for key, value in drawn.items() if key not in fixed and key.split(".")[0] not in fixed}
    trial.set_user_attr("settings", kept)
    return kept


def _check_store(path: Path) -> None:
    if path.exists() and path.stat().st_size:
        with path.open("rb") as file:
            if file.read(16) != b"SQLite format 3\0":
                raise InputError(f"{path} is not a study of an earlier search (no SQLite file); choose another --out")


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise InputError("tune needs Optuna, which is not installed: pip install optuna") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _plan(
    task: str, data: str | Path, *, model: str | None, weights: str | None, settings: Mapping[str, object] | None
) -> Run:
    if task == "detect":
        return plan(data, weights, config=model, settings=settings)
    if task == "classify":
        return plan_classifier(data, model, weights=weights, settings=settings)
    raise InputError(f"--task must be detect or classify, got {task!r}")


def _with(run: Run, chosen: Mapping[str, Any]) -> Run:
    return Run(**{**vars(run), "config": override_config(run.config, chosen)})


def _check_same(study: optuna.Study, task: str, run: Run) -> None:
    """Refuse to mix trials of another data set or other fixed settings."""
    mine = {"data": str(Path(run.data).resolve()), "weights": run.weights, "config": config_to_dict(run.config)}
    theirs = study.user_attrs
    for key, value in mine.items():
        if _finished(study) and theirs.get(key) != value:
            raise InputError(f"the study holds trials of {task} with another {key}; choose another --out")
        study.set_user_attr(key, value)


def _finished(study: optuna.Study) -> Sequence[Any]:
    return [trial for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]


def _settings_of(trial: Any) -> dict[str, Any]:
    return dict(trial.user_attrs["settings"])


def _over(started: float, minutes: float | None) -> bool:
    return minutes is not None and time.monotonic() - started > 60 * minutes


def _state(optuna: Any, stopped: bool) -> Any:
    return optuna.trial.TrialState.PRUNED if stopped else optuna.trial.TrialState.COMPLETE
