"""A run with a time limit ends when the limit does: its clock here moves only when the test says so."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from yolo_lite.config.resolve import config_from_dict, override_config
from yolo_lite.config.schema import Config
from yolo_lite.errors import InputError
from yolo_lite.training import budget, checks, folder, loop, recipe
from yolo_lite.training.budget import Pace, Saving, duration, fit_time
from yolo_lite.training.folder import remove_leftovers
from yolo_lite.training.recipe import train
from yolo_lite.training.task import Listener
from yolo_lite.training.tasks.detection import DetectionTask

SMALL = {
    "model": {"stem_width": 4, "widths": [4, 8, 8, 8], "depths": [1, 1, 1, 1], "neck_width": 8, "head_width": 8},
    "input": {"image_size": [64, 64]},
    "train": {"batch_size": 8, "workers": 0, "precision": "fp32", "preflight": False},
}
MakeSet = Callable[..., Path]


class Clock:
    """Seconds that pass only while some functions run, as many as each is said to take."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.counts: dict[str, int] = {}
        self._patch = monkeypatch
        monkeypatch.setattr("time.perf_counter", lambda: self.now)

    def takes(self, seconds: float, owner: Any, *names: str) -> None:
        for name in names:
            self._patch.setattr(owner, name, self._slowed(getattr(owner, name), name, seconds))

    def _slowed(self, work: Callable[..., Any], name: str, seconds: float) -> Callable[..., Any]:
        def slow(*arguments: Any, **settings: Any) -> Any:
            self.now += seconds
            self.counts[name] = self.counts.get(name, 0) + 1
            return work(*arguments, **settings)

        return slow


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Reading takes 3 s, a step 1 s, an evaluation 0.5 s, last.pt 0.5 s, a sheet 0.7 s, and the curves 0.8 s."""
    clock = Clock(monkeypatch)
    monkeypatch.setattr(DetectionTask, "evaluate", lambda self, model: {"AP": 0.0})  # so that every epoch is the best
    clock.takes(3.0, recipe, "_build_task")
    for module in (budget, loop, checks):
        clock.takes(1.0, module, "train_step")
    clock.takes(0.5, DetectionTask, "evaluate")
    clock.takes(0.5, folder, "save_last")
    clock.takes(0.7, folder, "draw_sheet")
    clock.takes(0.8, folder, "plot_results")
    return clock


def small(**train: object) -> Config:
    return config_from_dict({**SMALL, "train": {**SMALL["train"], **train}}, "test")


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "images"), [(20, 6), (60, 12), (60, 20)])
def test_a_run_on_few_images_ends_with_its_time(
    seconds: int, images: int, clock: Clock, coco_set: MakeSet, tmp_path: Path
) -> None:
    """Also what is written counts, which on so few images takes longer than the steps."""
    began = clock.now
    train(
        coco_set({"train": images, "val": 2}),
        config=small(minutes=seconds / 60, evaluate_every=0),
        out=tmp_path / "run",
        device="cpu",
        listener=Listener(began=began),
    )
    assert 0.9 * seconds <= clock.now - began <= seconds


@pytest.mark.slow
def test_the_time_counts_from_the_beginning_of_the_command(clock: Clock, coco_set: MakeSet, tmp_path: Path) -> None:
    """Importing torch takes seconds before `train` is called."""
    data, began = coco_set({"train": 6, "val": 2}), clock.now
    clock.now += 40
    train(data, config=small(minutes=1), out=tmp_path / "run", device="cpu", listener=Listener(began=began))
    assert 54 <= clock.now - began <= 60


@pytest.mark.slow
def test_curves_are_drawn_once_for_each_evaluation(clock: Clock, coco_set: MakeSet, tmp_path: Path) -> None:
    config = small(epochs=5, evaluate_every=2)
    out = train(coco_set({"train": 6, "val": 2}), config=config, out=tmp_path / "run", device="cpu")
    assert clock.counts["evaluate"] == clock.counts["plot_results"] == 3  # after epochs 2, 4 and 5
    assert len((out / "results.csv").read_text().splitlines()) == 1 + 5


def test_images_are_augmented_while_the_pace_is_measured(
    coco_set: MakeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe of fine-tuning leaves the number of epochs open: of none, none has strong augmentation."""
    seen: list[int] = []

    def measured(task: DetectionTask, config: Config, **settings: Any) -> Pace:
        seen.append(task.dataset.strong_epochs)
        raise KeyboardInterrupt

    monkeypatch.setattr(recipe, "measure_pace", measured)
    with pytest.raises(KeyboardInterrupt):
        train(coco_set({"train": 6, "val": 2}), config=small(epochs=0, minutes=1), out=tmp_path / "run", device="cpu")
    assert seen == [1]


def test_a_time_too_short_for_the_preflight_is_refused_as_soon_as_that_is_known(
    clock: Clock, coco_set: MakeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """3 s are over when it begins. The third step of 1 s shows that at least nine of them do not fit into 10 s."""
    monkeypatch.setattr(recipe, "check_it_learns", checks.check_it_learns)  # which other tests leave out
    config = small(minutes=10 / 60, preflight=True)
    expected = "--time 10s is too short: 3.0 s had passed before the preflight, which takes at least 9 s here"
    began = clock.now
    with pytest.raises(InputError, match=re.escape(expected)):
        train(coco_set({"train": 6, "val": 2}), config=config, out=tmp_path / "run", device="cpu")
    assert clock.now - began == 3 + 3
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_time_too_short_for_an_epoch_is_refused_before_it(clock: Clock, coco_set: MakeSet, tmp_path: Path) -> None:
    data, began = coco_set({"train": 6, "val": 2}), clock.now
    with pytest.raises(InputError, match=r"--time 9s is too short: .* allow \d+s or more") as caught:
        train(data, config=small(minutes=9 / 60), out=tmp_path / "run", device="cpu")
    assert clock.now - began <= 9
    assert not (tmp_path / "run").exists()
    enough = int(re.findall(r"allow (\d+)s", str(caught.value))[0])
    train(data, config=small(minutes=enough / 60), out=tmp_path / "run", device="cpu")


PACES = [Pace(1.0, 0.0), Pace(1.0, 3.0), Pace(0.3, 0.5, Saving(2.0, 0.4, evaluation=1.1)), Pace(0.1, 20.0)]


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("steps", [1, 2, 5, 40])
@pytest.mark.parametrize("every", [0, 1, 4])
def test_hardly_any_number_of_epochs_leaves_time_for_more_steps(pace: Pace, steps: int, every: int) -> None:
    """Trying them all is the oracle."""
    config = override_config(Config(), {"train.evaluate_every": every})
    for seconds in (45.0, 100.0, 333.0):
        fitted = fit_time(config, pace, steps=steps, seconds=seconds).train
        epochs, count = fitted.epochs, fitted.steps_per_epoch
        assert taken(epochs, count, pace, between=fitted.evaluate_every) <= seconds + 1e-9
        most = max(
            epochs * count
            for epochs in range(1, 700)
            for count in range(1, steps + 1)
            if taken(epochs, count, pace, between=every or between(epochs, pace, steps)) <= seconds
        )
        assert fitted.epochs * fitted.steps_per_epoch >= 0.9 * most


def taken(epochs: int, count: int, pace: Pace, *, between: int) -> float:
    """Return the seconds of so many epochs of `count` steps."""
    evaluations, saving = -(-epochs // between), pace.saving
    after_all = epochs * (count * pace.step + saving.epoch) + evaluations * (pace.evaluation + saving.evaluation)
    return saving.start + after_all


def between(epochs: int, pace: Pace, steps: int) -> int:
    return budget.epochs_between(epochs, pace.evaluation / (steps * pace.step))


@pytest.mark.parametrize(("seconds", "text"), [(6, "6s"), (60, "1m"), (90, "1.5m"), (5400, "1.5h")])
def test_a_duration_is_written_as_the_flag_takes_it(seconds: float, text: str) -> None:
    from yolo_lite.cli.values import parse_minutes

    assert duration(seconds) == text
    assert 60 * parse_minutes(text) == pytest.approx(seconds)


def test_what_a_killed_run_left_of_its_rehearsal_is_removed(tmp_path: Path) -> None:
    left = tmp_path / f"{folder.REHEARSAL}x"
    left.mkdir()
    (left / "last.pt").touch()
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []
