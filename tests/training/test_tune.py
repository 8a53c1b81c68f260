"""The search for settings: what it draws, that it goes on where it ended, and that its result can be trained with."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest

from tests.class_images import write_class_set
from yolo_lite.cli import main
from yolo_lite.config.resolve import read_config
from yolo_lite.config.schema import Config
from yolo_lite.errors import DivergedError, InputError
from yolo_lite.files import locked
from yolo_lite.training import tune as tune_module
from yolo_lite.training.plan import plan
from yolo_lite.training.recipe import train_classifier
from yolo_lite.training.task import Listener, StepReport
from yolo_lite.training.tune import TrialReport, TuneListener, TuneResult, tune

SMALL = {"train.epochs": 1, "train.batch_size": 8, "train.workers": 0, "input.image_size": 32}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {"disc": 12, "square": 12}
    return write_class_set(tmp_path_factory.mktemp("images"), {"train": counts, "val": {"disc": 4, "square": 4}})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Replace training by a stand-in whose accuracy is highest at a rate of 1e-3; return the configurations it was given."""
    configs: list[Config] = []

    def stand_in(*, config: Config, out: Path, device: str, listener: Listener) -> Path:
        configs.append(config)
        for epoch in range(1, config.train.epochs + 1):
            value = 1 / (1 + abs(config.train.lr - 1e-3) * 1000) * epoch / config.train.epochs
            listener.on_epoch({"epoch": float(epoch), "accuracy": value, "AP": value}, True)
        return out

    monkeypatch.setattr(tune_module, "train", stand_in)
    return configs


def search(
    data: Path,
    *,
    trials: int,
    out: Path,
    config: str | None = "mnist_cnn",
    settings: Mapping[str, object] | None = None,
    listener: TuneListener | None = None,
) -> TuneResult:
    """Plan as the command does, then search; what is set is fixed."""
    given = {"task": "classify", **(settings or {})}
    asked = plan(data, config=config, settings=given).config
    return tune(asked, trials=trials, out=out, fixed=given, listener=listener or TuneListener())


@pytest.mark.slow
def test_a_search_trains_and_writes_a_configuration_that_trains(images: Path, tmp_path: Path) -> None:
    reports: list[TrialReport] = []
    steps: list[StepReport] = []
    listener = TuneListener(on_trial=reports.append, on_step=steps.append)
    result = search(images, trials=2, out=tmp_path / "study", config="mnist_small", settings=SMALL, listener=listener)
    assert result.trials == len(reports) == 2
    assert len(steps) == 2 * 3  # 24 images in batches of 8, in each trial
    assert result.best.value == max(report.value for report in reports)
    assert (tmp_path / "study" / "trial-0" / "best.pt").is_file()
    folder = train_classifier(images, config=result.config, settings={"train.epochs": 1}, out=tmp_path / "again")
    assert (folder / "best.pt").is_file()
    assert read_config(result.config).train.lr == pytest.approx(result.best.settings["train.lr"])


@pytest.mark.slow
def test_the_best_trial_is_found_near_the_best_rate(quick: list[Config], images: Path, tmp_path: Path) -> None:
    result = search(images, trials=25, out=tmp_path)
    assert len(quick) == 25
    assert result.best.settings["train.lr"] == pytest.approx(1e-3, rel=0.2)


def test_the_same_call_goes_on_where_it_ended(quick: list[Config], images: Path, tmp_path: Path) -> None:
    search(images, trials=3, out=tmp_path)
    lines: list[str] = []
    result = search(images, trials=5, out=tmp_path, listener=TuneListener(say=lines.append))
    assert len(quick) == 5
    assert result.trials == 5
    assert any("holds 3 trials" in line for line in lines)
    assert len({config.train.lr for config in quick}) == 5  # the second call does not draw the first one's again
    search(images, trials=5, out=tmp_path)
    assert len(quick) == 5


def test_a_failed_trial_is_not_counted(monkeypatch: pytest.MonkeyPatch, images: Path, tmp_path: Path) -> None:
    def fail(**arguments: Any) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tune_module, "train", fail)
        search(images, trials=2, out=tmp_path)
    study = optuna.load_study(study_name="yolo_lite classify", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert [trial.state.name for trial in study.trials] == ["FAIL"]


def test_a_trial_that_diverges_ends_alone(
    quick: list[Config], monkeypatch: pytest.MonkeyPatch, images: Path, tmp_path: Path
) -> None:
    stand_in = tune_module.train

    def diverge_at_first(*, config: Config, **arguments: Any) -> Path:
        if not quick:
            quick.append(config)
            raise DivergedError("the loss is not finite")
        return stand_in(config=config, **arguments)

    monkeypatch.setattr(tune_module, "train", diverge_at_first)
    reports: list[TrialReport] = []
    result = search(images, trials=3, out=tmp_path, listener=TuneListener(on_trial=reports.append))
    assert [report.stopped for report in reports] == [True, False, False]
    assert (result.trials, result.best.number > 0) == (3, True)


def test_a_study_that_is_none_is_refused(images: Path, tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("no database at all")
    with pytest.raises(InputError, match=r"study.db is not the study of an earlier search"):
        search(images, trials=1, out=tmp_path)


def test_poor_trials_are_stopped(quick: list[Config], images: Path, tmp_path: Path) -> None:
    reports: list[TrialReport] = []
    listener = TuneListener(on_trial=reports.append)
    search(images, trials=20, out=tmp_path, settings={"train.epochs": 8}, listener=listener)
    assert any(report.stopped for report in reports)
    assert not any(report.stopped for report in reports[:5])


def test_what_is_fixed_is_not_searched(quick: list[Config], images: Path, tmp_path: Path) -> None:
    search(images, trials=3, out=tmp_path, settings={"train.lr": 0.004, "augment.scale": [1, 1]})
    assert {config.train.lr for config in quick} == {0.004}
    assert {config.augment.scale for config in quick} == {(1.0, 1.0)}


def test_another_data_set_or_configuration_is_not_mixed_in(
    quick: list[Config], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search(images, trials=1, out=tmp_path / "study")
    with pytest.raises(InputError, match="another config; choose another --out"):
        search(images, trials=1, out=tmp_path / "study", settings={"train.epochs": 3})
    with pytest.raises(InputError, match="another data; choose another --out"):
        search(tmp_path, trials=1, out=tmp_path / "study")
    monkeypatch.chdir(images.parent)
    assert search(Path(images.name), trials=2, out=tmp_path / "study").trials == 2  # the same place, written otherwise


def test_no_trial_begins_after_the_time(
    quick: list[Config], monkeypatch: pytest.MonkeyPatch, images: Path, tmp_path: Path
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def later(report: TrialReport) -> None:
        now[0] += 40

    listener = TuneListener(on_trial=later)
    result = search(images, trials=9, out=tmp_path, settings={"train.minutes": 1}, listener=listener)
    assert result.trials == 2
    assert {config.train.minutes for config in quick} == {0}  # or each trial would be fitted into them


def test_detection_is_searched_by_its_own_settings(quick: list[Config], tmp_path: Path) -> None:
    search(tmp_path, trials=1, out=tmp_path / "study", config=None, settings={"task": "detect"})
    (config,) = quick
    assert (config.train.weights, config.data.path) == ("yolo_lite-shuffle-1.5x-coco", str(tmp_path))
    assert 0 < config.augment.mosaic <= 0.8
    assert config.loss.box_weight != plan("data").config.loss.box_weight
    assert not config.train.preflight  # a poor rate is an answer of the search, not a fault


def test_without_optuna_a_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(InputError, match=r"pip install optuna"):
        search(tmp_path, trials=1, out=tmp_path)


def test_the_command_tells_of_trials_and_what_to_do_next(
    quick: list[Config], images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["tune", "--task", "classify", "--data", str(images), "--config", "mnist_cnn", "--trials", "2"]
    assert main([*arguments, "--out", str(tmp_path / "study")]) == 0
    printed = capsys.readouterr().out
    assert "trial 0: accuracy" in printed
    assert f"classify train --config {tmp_path / 'study' / 'best.yaml'} --data {images}" in printed
    assert main([*arguments, "--time", "0"]) == 2
    assert (
        plan(images, config=tmp_path / "study" / "best.yaml", settings={"task": "classify"}).config.classifier.model
        == "mnist_cnn"
    )


def test_the_best_configuration_is_one_for_a_long_training(quick: list[Config], images: Path, tmp_path: Path) -> None:
    """A search on a part of the images, without preflight, is no reason to train on a part, without one."""
    settings = {"data.fraction": 0.5, "train.minutes": 5}
    best = read_config(search(images, trials=1, out=tmp_path, settings=settings).config)
    assert all(trial.data.fraction == 0.5 and not trial.train.preflight for trial in quick)
    assert best.data == Config().data
    assert best.train.preflight
    assert best.train.minutes == 0


def test_two_searches_never_share_a_study(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "study"
    arguments = ["tune", "--task", "classify", "--data", str(images), "--config", "mnist_cnn", "--out", str(out)]
    out.mkdir()
    with locked(out, "of the test"):
        assert main(arguments) == 2
        assert f"error: {out} is in use: " in capsys.readouterr().err
    assert main([*arguments, "--set", "train.nothing=1"]) == 2  # refused before anything is written
    assert not out.exists()
