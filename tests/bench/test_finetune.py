"""Judging a recipe: each data set is trained once with each seed, whatever interrupts it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import write_coco_set
from yolo_lite.bench import finetune
from yolo_lite.bench.finetune import FineTuned, SetReport, bench_finetune
from yolo_lite.cli import main
from yolo_lite.config.resolve import read_config
from yolo_lite.errors import InputError
from yolo_lite.training.task import Listener

FAST = {
    "train.weights": "yolo_lite-pico-voc5",
    "input.image_size": [64, 64],
    "train.epochs": 2,
    "train.workers": 0,
}


@pytest.fixture
def sets(tmp_path: Path) -> list[str]:
    sizes = {"train": 4, "val": 3}
    return [str(write_coco_set(tmp_path / name, sizes, seed)) for seed, name in enumerate(("cards", "fish"))]


@pytest.mark.slow
def test_the_result_is_the_last_epochs_and_finished_runs_are_not_repeated(
    sets: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    stops: list[str] = []

    def stop(row: Any, best: bool) -> None:
        stops.append(str(row["epoch"]))
        if len(stops) == 3:  # in the second set, after its first epoch
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench_finetune(sets, out, settings=FAST, device="cpu", listener=Listener(on_epoch=stop))
    trained: list[str] = []
    monkeypatch.setattr(finetune, "train", lambda *args, **options: pytest.fail("a run was repeated"))
    resumed = finetune.resume
    monkeypatch.setattr(
        finetune, "resume", lambda folder, **options: trained.append(folder.name) or resumed(folder, **options)
    )
    reports = bench_finetune(sets, out, settings=FAST, device="cpu")
    assert trained == ["fish-seed0"]
    for report in reports:
        with (out / f"{report.name}-seed0" / "results.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["epoch"] for row in rows] == ["1", "2"]
        assert f"{report.ap:.6g}" == rows[-1]["AP"]
        assert f"{report.runs[0].ap50:.6g}" == rows[-1]["AP50"]
    assert bench_finetune(sets, out, settings=FAST, device="cpu") == reports
    for changes in ({"settings": {**FAST, "train.lr": 0.5}}, {"config": "pico", "settings": FAST}):
        with pytest.raises(InputError, match="other data or with other settings; choose another --out"):
            bench_finetune(sets, out, **changes, device="cpu")  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("stops_early", [True, False])
def test_a_run_that_ended_before_its_result_was_noted_is_read_from_last_pt(
    stops_early: bool, sets: list[str], tmp_path: Path
) -> None:
    """One that stopped early leaves nothing to resume; the other was killed before it wrote its last row."""
    early = {"train.epochs": 30, "train.patience": 1} if stops_early else {}
    out, settings = tmp_path / "out", {**FAST, "train.evaluate_every": 1, **early}
    (report,) = bench_finetune(sets[:1], out, settings=settings, device="cpu")
    assert 1 < report.runs[0].epochs < 30
    noted = json.loads((out / "finetune.json").read_text())
    (out / "finetune.json").write_text(json.dumps({**noted, "runs": []}))
    if not stops_early:
        table = out / "cards-seed0" / "results.csv"
        table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    (again,) = bench_finetune(sets[:1], out, settings=settings, device="cpu")
    assert (again.ap, again.runs[0].epochs) == (report.ap, report.runs[0].epochs)


def test_every_set_is_read_before_the_first_run_and_a_wrong_name_leaves_nothing(
    sets: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(InputError, match="nowhere does not exist"):
        bench_finetune([*sets, "nowhere"], out, settings=FAST, device="cpu")
    assert not out.exists()


def test_other_settings_are_accepted_while_no_run_has_begun(
    sets: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "finetune.json").write_text('{"asked": {"data": {}, "settings": {}}, "runs": []}')
    begun: list[str] = []
    monkeypatch.setattr(finetune, "train", lambda data, **options: begun.append(data) or out)
    monkeypatch.setattr(finetune, "_read", lambda folder, name, **options: FineTuned(name, 0, 1, 0.5, 0.5, 1.0))
    assert [report.ap for report in bench_finetune(sets, out, settings=FAST, device="cpu")] == [0.5, 0.5]
    assert begun == sets


def test_mean_and_spread_of_seeds() -> None:
    runs = [FineTuned("cards", seed, epochs=1, ap=ap, ap50=0.5, minutes=1.0) for seed, ap in enumerate((0.2, 0.3, 0.4))]
    report = SetReport("cards", tuple(runs))
    assert report.ap == pytest.approx(0.3)
    assert report.spread == pytest.approx(0.1)  # the deviations are -0.1, 0, 0.1; two degrees of freedom


def test_two_sets_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two data sets are named cards"):
        bench_finetune(["a/cards", "b/cards"], tmp_path / "out")


@pytest.mark.slow
def test_a_configuration_is_trained_from_scratch(sets: list[str], tmp_path: Path) -> None:
    settings = {"train.weights": "", "input.image_size": [64, 64], "train.epochs": 1, "train.workers": 0}
    settings |= {"pretrain.crops": 0, "train.preflight": False}
    bench_finetune(sets[:1], tmp_path / "out", config="pico", settings=settings, device="cpu")
    config = read_config(tmp_path / "out" / "cards-seed0" / "config.yaml")
    assert (config.name, config.train.weights) == ("yolo_lite-pico", "")


@pytest.mark.slow
def test_the_command_prints_a_table(sets: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--weights", "yolo_lite-pico-voc5", "--image-size", "64", "--epochs", "1", "--set", "train.workers=0"]
    assert main(["bench", "finetune", "--data", *sets, *flags, "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()[-4:]
    assert lines[0].split() == ["epochs", "minutes", "AP", "spread", "AP50", "(last", "epoch,", "1", "seed)"]
    assert [line.split()[0] for line in lines[1:]] == ["cards", "fish", "mean"]
    aps = [float(line.split()[3]) for line in lines[1:3]]
    assert float(lines[3].split()[1]) == pytest.approx(sum(aps) / 2, abs=0.001)
