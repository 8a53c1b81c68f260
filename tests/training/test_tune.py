"""The search for settings: what it draws, that it goes on where it ended, and that its result can be trained with."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import optuna
import pytest

from tests.class_pictures import write_class_set
from yolo_lite.cli import main
from yolo_lite.config.resolve import read_config
from yolo_lite.errors import DivergedError, InputError
from yolo_lite.files import locked
from yolo_lite.training import tune as tune_module
from yolo_lite.training.plan import plan
from yolo_lite.training.recipe import train_classifier
from yolo_lite.training.tune import TrialReport, tune

SMALL = {"train.epochs": 1, "train.batch_size": 8, "train.workers": 0, "input.image_size": 32}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {"disc": 12, "square": 12}
    return write_class_set(tmp_path_factory.mktemp("pictures"), {"train": counts, "val": {"disc": 4, "square": 4}})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replace training by a stand-in whose accuracy is highest at a rate of 1e-3; return the runs it was given."""
    runs: list[Any] = []

    def stand_in(run: Any, out: Path, device: str, listener: Any, preflight: bool = True) -> Path:
        runs.append(run)
        for epoch in range(1, run.config.train.epochs + 1):
            value = 1 / (1 + abs(run.config.train.lr - 1e-3) * 1000) * epoch / run.config.train.epochs
            listener.on_epoch({"epoch": float(epoch), "accuracy": value, "AP": value}, True)
        return out

    monkeypatch.setattr(tune_module, "run_planned", stand_in)
    return runs


def test_a_search_trains_and_writes_a_configuration_that_trains(pictures: Path, tmp_path: Path) -> None:
    told: list[TrialReport] = []
    result = tune(
        "classify",
        pictures,
        trials=2,
        out=tmp_path / "study",
        model="mnist_small",
        weights=None,
        settings=SMALL,
        on_trial=told.append,
    )
    assert result.trials == len(told) == 2
    assert result.best.value == max(report.value for report in told)
    assert (tmp_path / "study" / "trial-0" / "best.pt").is_file()
    folder = train_classifier(pictures, config=result.config, settings={"train.epochs": 1}, out=tmp_path / "again")
    assert (folder / "best.pt").is_file()
    assert read_config(result.config).train.lr == pytest.approx(result.best.settings["train.lr"])


def test_the_best_trial_is_found_near_the_best_rate(quick: list[Any], pictures: Path, tmp_path: Path) -> None:
    result = tune("classify", pictures, trials=25, out=tmp_path, model="mnist_cnn")
    assert len(quick) == 25
    assert result.best.settings["train.lr"] == pytest.approx(1e-3, rel=0.2)


def test_the_same_call_goes_on_where_it_ended(quick: list[Any], pictures: Path, tmp_path: Path) -> None:
    tune("classify", pictures, trials=3, out=tmp_path, model="mnist_cnn")
    lines: list[str] = []
    result = tune("classify", pictures, trials=5, out=tmp_path, model="mnist_cnn", say=lines.append)
    assert len(quick) == 5
    assert result.trials == 5
    assert any("holds 3 trials" in line for line in lines)
    assert len({run.config.train.lr for run in quick}) == 5  # the second call does not draw the first one's again
    tune("classify", pictures, trials=5, out=tmp_path, model="mnist_cnn")
    assert len(quick) == 5


def test_a_failed_trial_is_not_counted(monkeypatch: pytest.MonkeyPatch, pictures: Path, tmp_path: Path) -> None:
    def fail(*args: Any, **how: Any) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tune_module, "run_planned", fail)
        tune("classify", pictures, trials=2, out=tmp_path, model="mnist_cnn")
    study = optuna.load_study(study_name="yolo_lite classify", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert [trial.state.name for trial in study.trials] == ["FAIL"]


def test_a_trial_that_diverges_ends_alone(
    quick: list[Any], monkeypatch: pytest.MonkeyPatch, pictures: Path, tmp_path: Path
) -> None:
    stand_in = tune_module.run_planned

    def diverge_at_first(run: Any, *rest: Any, **how: Any) -> Path:
        if not quick:
            quick.append(run)
            raise DivergedError("the loss is not finite")
        return stand_in(run, *rest, **how)

    monkeypatch.setattr(tune_module, "run_planned", diverge_at_first)
    told: list[TrialReport] = []
    result = tune("classify", pictures, trials=3, out=tmp_path, model="mnist_cnn", on_trial=told.append)
    assert [report.stopped for report in told] == [True, False, False]
    assert (result.trials, result.best.number > 0) == (3, True)


def test_a_study_that_is_none_is_refused(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("no database at all")
    with pytest.raises(InputError, match=r"study.db is not a study of an earlier search"):
        tune("classify", pictures, trials=1, out=tmp_path, model="mnist_cnn")


def test_poor_trials_are_stopped(quick: list[Any], pictures: Path, tmp_path: Path) -> None:
    told: list[TrialReport] = []
    tune(
        "classify",
        pictures,
        trials=20,
        out=tmp_path,
        model="mnist_cnn",
        settings={"train.epochs": 8},
        on_trial=told.append,
    )
    assert any(report.stopped for report in told)
    assert not any(report.stopped for report in told[:5])


def test_what_is_fixed_is_not_searched(quick: list[Any], pictures: Path, tmp_path: Path) -> None:
    tune(
        "classify",
        pictures,
        trials=3,
        out=tmp_path,
        model="mnist_cnn",
        settings={"train.lr": 0.004, "augment.scale": [1, 1]},
    )
    assert {run.config.train.lr for run in quick} == {0.004}
    assert {run.config.augment.scale for run in quick} == {(1.0, 1.0)}


def test_another_data_set_is_not_mixed_in(quick: list[Any], pictures: Path, tmp_path: Path) -> None:
    tune("classify", pictures, trials=1, out=tmp_path / "study", model="mnist_cnn")
    with pytest.raises(InputError, match="another config; choose another --out"):
        tune("classify", pictures, trials=1, out=tmp_path / "study", model="mnist_cnn", settings={"train.epochs": 3})


def test_no_trial_begins_after_the_time(
    quick: list[Any], monkeypatch: pytest.MonkeyPatch, pictures: Path, tmp_path: Path
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def later(report: TrialReport) -> None:
        now[0] += 40

    result = tune("classify", pictures, trials=9, out=tmp_path, model="mnist_cnn", minutes=1, on_trial=later)
    assert result.trials == 2


def test_detection_is_searched_by_its_own_settings(quick: list[Any], tmp_path: Path) -> None:
    tune("detect", tmp_path, trials=1, out=tmp_path / "study")
    run = quick[0]
    assert run.weights == "yolo_lite-shuffle-coco"
    assert 0 < run.config.augment.mosaic <= 0.8
    assert run.config.loss.box_weight != plan("data").config.loss.box_weight


def test_without_optuna_a_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(InputError, match=r"pip install optuna"):
        tune("classify", tmp_path, trials=1, out=tmp_path)


def test_the_command_tells_of_trials_and_what_to_do_next(
    quick: list[Any], pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["tune", "--task", "classify", "--data", str(pictures), "--model", "mnist_cnn", "--trials", "2"]
    assert main([*arguments, "--out", str(tmp_path / "study")]) == 0
    printed = capsys.readouterr().out
    assert "trial 0: accuracy" in printed
    assert f"classify train --model {tmp_path / 'study' / 'best.yaml'} --data {pictures}" in printed
    assert main([*arguments, "--time", "0"]) == 2
    assert (
        plan(pictures, config=tmp_path / "study" / "best.yaml", settings={"task": "classify"}).config.classifier.model
        == "mnist_cnn"
    )


def test_two_searches_never_share_a_study(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "study"
    arguments = ["tune", "--task", "classify", "--data", str(pictures), "--model", "mnist_cnn", "--out", str(out)]
    out.mkdir()
    with locked(out, "of the test"):
        assert main(arguments) == 2
        assert f"error: {out} is in use: " in capsys.readouterr().err
    assert main([*arguments, "--set", "train.nothing=1"]) == 2  # refused before anything is written
    assert not out.exists()
