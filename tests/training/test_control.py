"""Control of a run: parts of a batch, memory, time, frozen backbones, rare classes, and the flight before the flight."""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from yolo_lite.checkpoints.checkpoint import load_checkpoint
from yolo_lite.config.resolve import config_from_dict, override_config
from yolo_lite.config.schema import Config, TrainConfig
from yolo_lite.data.pipeline.loader import EpochSampler, repeat_factors
from yolo_lite.data.splits import read_split
from yolo_lite.errors import InputError
from yolo_lite.structures.batches import Batch, ClassBatch
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.training import loop
from yolo_lite.training.budget import Pace, Saving, fit_time, limit_evaluation, measure_pace
from yolo_lite.training.checks import check_it_learns
from yolo_lite.training.recipe import train
from yolo_lite.training.state import State
from yolo_lite.training.task import Listener
from yolo_lite.training.tasks.detection import DetectionTask
from yolo_lite.training.tasks.labels import check_labels
from yolo_lite.training.tasks.multi_scale import another_size

CPU = torch.device("cpu")
SMALL = {
    "model": {"stem_width": 4, "widths": [4, 8, 8, 8], "depths": [1, 1, 1, 1], "neck_width": 8, "head_width": 8},
    "input": {"image_size": [64, 64]},
    "train": {"epochs": 1, "batch_size": 4, "workers": 0, "precision": "fp32"},
}


def small(**train: object) -> Config:
    return config_from_dict({**SMALL, "train": {**SMALL["train"], **train}}, "test")


class Line:
    """A task whose loss is the mean square error of a line; `limit`: more samples at once do not fit into memory."""

    metric = "score"

    def __init__(self, limit: int = 10**9, error: Exception | None = None) -> None:
        self.limit, self.sizes = limit, []
        self.error = error or torch.OutOfMemoryError("drawn")

    def loss(self, model: nn.Module, batch: ClassBatch, progress: float) -> dict[str, Tensor]:
        self.sizes.append(len(batch.images))
        if len(batch.images) > self.limit:
            raise self.error
        return {"error": (model(batch.images).flatten() - batch.labels).square().mean()}

    def training_numbers(self) -> dict[str, float]:
        return {}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        return {"score": 0.0}

    def name_samples(self, batch: Any) -> list[str]:
        return [str(index) for index in batch.positions.tolist()]


def state_and_batch(accumulate: int = 1, count: int = 6) -> tuple[State, ClassBatch]:
    torch.manual_seed(0)
    train = TrainConfig(optimizer="sgd", momentum=0, lr=0.1, weight_decay=0, clip_norm=0, accumulate=accumulate)
    batch = ClassBatch(torch.randn(count, 3), torch.arange(count), torch.arange(count))
    return State.new(nn.Linear(3, 1), train, steps=10), batch


@pytest.mark.parametrize("parts", [2, 3, 4, 6])
def test_parts_of_a_batch_add_up_to_the_same_step(parts: int) -> None:
    """A mean over samples has the same gradient however the samples are split, even unevenly."""
    results = []
    for accumulate in (1, parts):
        state, batch = state_and_batch(accumulate)
        losses = loop.train_step(Line(), state, batch=batch, progress=0.0)
        results.append([losses["error"], losses["total"], *state.model.weight.flatten().tolist()])
    assert results[0] == pytest.approx(results[1], rel=1e-5)


def test_more_parts_than_samples_are_samples() -> None:
    state, batch = state_and_batch(accumulate=16, count=2)
    task = Line()
    loop.train_step(task, state, batch=batch, progress=0.0)
    assert task.sizes == [1, 1]


def test_where_memory_runs_out_the_batch_is_halved_until_it_fits() -> None:
    """8 do not fit, nor do 4, but 2 do; the step is that of the whole batch, and the next one does not try again."""
    state, batch = state_and_batch(count=8)
    whole = copy.deepcopy(state)
    task = Line(limit=2)
    losses = loop.train_step(task, state, batch=batch, progress=0.0)
    assert task.sizes == [8, 4, 2, 2, 2, 2]
    assert state.parts == 4
    expected = loop.train_step(Line(), whole, batch=batch, progress=0.0)
    assert losses["error"] == pytest.approx(expected["error"], rel=1e-5)
    torch.testing.assert_close(state.model.weight, whole.model.weight)
    loop.train_step(task, state, batch=batch, progress=0.0)
    assert task.sizes[6:] == [2, 2, 2, 2]


def test_an_attempt_that_failed_leaves_no_trace_in_the_statistics() -> None:
    """Memory runs out after the forward pass, which has updated the running mean of batch normalisation by then."""

    class Late(Line):
        def loss(self, model: nn.Module, batch: ClassBatch, progress: float) -> dict[str, Tensor]:
            losses = {"error": (model(batch.images).flatten() - batch.labels).square().mean()}
            if len(batch.images) > self.limit:
                raise self.error
            return losses

    states = []
    for limit, accumulate in ((2, 1), (8, 2)):
        state, batch = state_and_batch(accumulate, count=4)
        torch.manual_seed(0)
        norm = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1))
        state = State.new(norm, state.config, steps=10)
        loop.train_step(Late(limit), state, batch=batch, progress=0.0)
        states.append(norm.state_dict())
    assert int(states[0]["0.num_batches_tracked"]) == 2
    torch.testing.assert_close(states[0], states[1], rtol=0, atol=0)


def test_memory_that_cudnn_found_full_halves_the_batch_too() -> None:
    state, batch = state_and_batch(count=4)
    task = Line(2, RuntimeError("GET was unable to find an engine to execute this computation"))
    loop.train_step(task, state, batch=batch, progress=0.0)
    assert task.sizes == [4, 2, 2]


def test_another_error_is_not_taken_for_full_memory() -> None:
    task = Line(2, RuntimeError("a bug"))
    state, batch = state_and_batch(count=4)
    with pytest.raises(RuntimeError, match="a bug"):
        loop.train_step(task, state, batch=batch, progress=0.0)
    assert task.sizes == [4]


def test_what_does_not_fit_at_all_is_refused() -> None:
    state, batch = state_and_batch(count=4)
    with pytest.raises(torch.OutOfMemoryError):
        loop.train_step(Line(limit=0), state, batch=batch, progress=0.0)


def test_the_parts_are_kept_for_resuming() -> None:
    state, batch = state_and_batch(count=8)
    loop.train_step(Line(limit=2), state, batch=batch, progress=0.0)
    fresh, _ = state_and_batch(count=8)
    fresh.restore(state.to_plain())
    assert fresh.parts == 4


def test_a_part_keeps_the_pairs_of_its_images() -> None:
    pairs = torch.tensor([[0, 7], [2, 1], [2, 3], [3, 0]])
    batch = Batch(
        torch.arange(4), torch.zeros(4, 1, 4), labels=torch.zeros(4, 1), positions=torch.arange(4), unlabelled=pairs
    )
    part = batch.part(2, 4)
    assert part.images.tolist() == [2, 3]
    assert part.unlabelled is not None
    assert part.unlabelled.tolist() == [[0, 1], [0, 3], [1, 0]]
    assert batch._replace(unlabelled=None).part(0, 1).unlabelled is None


def test_rare_classes_ask_for_their_images() -> None:
    """Class 0 is in 3 of 4 images, class 1 in 1 of 4: with the threshold 0.5 the factor of class 1 is sqrt(2)."""
    factors = repeat_factors([[0], [0, 0], [0, 1], []], 0.5)
    np.testing.assert_allclose(factors, [1, 1, np.sqrt(2), 1])
    np.testing.assert_allclose(repeat_factors([[0], [1]], 0.1), [1, 1])


def test_repeated_images_come_as_often_as_they_should() -> None:
    repeats = np.array([1, 1, 2.5, 1, 1.3, 1, 1, 1])
    sampler = EpochSampler(8, 2, shuffle=True, repeats=repeats)
    assert len(sampler) == 5  # 9.8, rounded, in batches of two
    counts = np.zeros(8)
    for epoch in range(400):
        sampler.epoch = epoch
        order = [index for batch in sampler for _, index in batch]
        assert len(order) == 10
        seen = np.bincount(order, minlength=8)
        assert (seen >= np.floor(repeats)).all()
        assert (seen <= np.ceil(repeats * 10 / 9.8)).all()
        counts += seen
    np.testing.assert_allclose(counts / 400, repeats * 10 / 9.8, atol=0.06)


def test_the_steps_of_an_epoch_can_be_fewer() -> None:
    sampler = EpochSampler(100, 4, shuffle=True, steps=3)
    assert len(sampler) == len(list(sampler)) == 3
    assert len(EpochSampler(100, 4, shuffle=True, steps=99)) == 25


@pytest.mark.parametrize("seconds", [5, 60, 119, 121, 600, 1234])
def test_the_time_is_filled_and_not_exceeded(seconds: float) -> None:
    """Steps of 1 s, 100 to show every image, an evaluation of 3 s."""
    config = fit_time(Config(), Pace(1.0, 3.0), steps=100, seconds=seconds)
    train = config.train
    taken = train.epochs * (train.steps_per_epoch * 1.0 + 3.0)
    assert taken <= seconds
    assert taken > seconds - train.epochs - 1e-9  # less than one step of each epoch is left over
    assert 1 <= train.steps_per_epoch <= 100


@pytest.mark.parametrize("steps", [1, 2, 3])
@pytest.mark.parametrize("seconds", [4.5, 5.1, 8.1, 31.9, 1000])
def test_a_set_of_one_batch_can_be_trained_for_a_time(steps: int, seconds: float) -> None:
    train = fit_time(Config(), Pace(1.0, 3.0), steps=steps, seconds=seconds).train
    taken = train.epochs * (train.steps_per_epoch * 1.0 + 3.0)
    assert 1 <= train.steps_per_epoch <= steps
    assert 0.5 * seconds < taken <= seconds


@pytest.mark.parametrize("every", [0, 1, 3, 50])
@pytest.mark.parametrize("seconds", [30, 300, 3000])
def test_evaluations_that_are_further_apart_leave_more_time(every: int, seconds: float) -> None:
    """An evaluation takes as long as an epoch of 10 steps."""
    config = override_config(Config(), {"train.evaluate_every": every})
    train = fit_time(config, Pace(1.0, 10.0), steps=10, seconds=seconds).train
    evaluations = -(-train.epochs // train.evaluate_every)
    taken = train.epochs * train.steps_per_epoch + evaluations * 10
    assert seconds - train.epochs - 10 <= taken <= seconds
    assert train.evaluate_every == every or not every
    if not every and seconds == 3000:
        assert 10 <= evaluations <= 11


def test_too_little_time_is_refused() -> None:
    """Of 60 s, 25 have passed; a step, an evaluation and the files take 40 s. 1.1 times 65 s is 72 s, rounded up."""
    config = override_config(Config(), {"train.minutes": 1.0})
    expected = (
        "--time 1m is too short: 25.0 s have passed, and one step, one evaluation and the files of the run take 40.0 s; "
        "allow 72s or more"
    )
    with pytest.raises(InputError, match=re.escape(expected)):
        fit_time(config, Pace(10.0, 26.0, Saving(1.0, 2.0, evaluation=1.0)), steps=100, seconds=35)


def prepared(root: Path, config: Config) -> DetectionTask:
    torch.manual_seed(0)
    asked = override_config(config, {"data.path": root})
    return DetectionTask.prepare(asked, start=None, device=CPU, listener=Listener())


def test_measured_steps_are_of_the_whole_run(
    coco_set: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or `--time` would count on the first size of multi-scale training and the assigner of the first steps."""
    seen: list[float] = []

    def step(task: object, state: object, batch: object, *, progress: float, total: int | None = None) -> None:
        seen.append(progress)

    config = small(batch_size=1)
    task = prepared(coco_set({"train": 30, "val": 1}), config)
    monkeypatch.setattr("yolo_lite.training.budget.train_step", step)
    measure_pace(task, config, precision="fp32", folder=tmp_path)
    assert seen == sorted(seen)
    assert 0 < seen[0] < 0.1
    assert 0.9 < seen[-1] < 1


@pytest.mark.parametrize(
    ("seconds", "evaluation", "asked", "expected"),
    [
        (1000.0, 50.0, 0, (0, 50.0)),  # all of them take 5 % of the time
        (1000.0, 100.0, 0, (2500, 50.0)),
        (10.0, 100.0, 0, (100, 2.0)),  # not fewer than 100
        (-5.0, 100.0, 0, (100, 2.0)),
        (10.0, 100.0, 40, (40, 100.0)),  # what was asked for stays
    ],
)
def test_a_large_validation_set_is_scored_in_part(
    seconds: float, evaluation: float, asked: int, expected: tuple[int, float]
) -> None:
    config = override_config(Config(), {"train.evaluate_images": asked})
    limited, pace = limit_evaluation(config, Pace(1.0, evaluation), images=5000, seconds=seconds)
    assert (limited.train.evaluate_images, pace.evaluation) == expected
    few, _ = limit_evaluation(Config(), Pace(1.0, 100.0), images=30, seconds=10)
    assert few.train.evaluate_images == 30


@pytest.mark.slow
def test_only_a_part_is_scored_to_measure_the_pace(
    coco_set: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small()
    task = prepared(coco_set({"train": 12, "val": 6}), config)
    scored: list[int] = []

    def evaluate(model: object) -> dict[str, float]:
        scored.append(len(task.scored.records))
        return {}

    monkeypatch.setattr(task, "evaluate", evaluate)
    monkeypatch.setattr("yolo_lite.training.budget._PROBED", 2)
    measure_pace(task, config, precision="fp32", folder=tmp_path)
    assert scored == [2]
    assert len(task.scored.records) == 6


def test_the_time_of_a_part_is_extended_to_all_images(
    coco_set: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small()
    task = prepared(coco_set({"train": 12, "val": 6}), config)
    clock = [0.0]

    def evaluate(model: object) -> dict[str, float]:
        clock[0] += 2.0
        return {}

    monkeypatch.setattr(task, "evaluate", evaluate)
    monkeypatch.setattr("yolo_lite.training.budget._PROBED", 2)
    monkeypatch.setattr("yolo_lite.training.budget.time.perf_counter", lambda: clock[0])
    assert measure_pace(task, config, precision="fp32", folder=tmp_path).evaluation == 6.0


def test_evaluations_score_the_images_that_were_drawn(coco_set: Callable[..., Path]) -> None:
    """The same images in every evaluation; an evaluation of them alone is the oracle."""
    config = small()
    root = coco_set({"train": 6, "val": 8})
    task = prepared(root, config)
    task.adopt(override_config(task.config, {"train.evaluate_images": 3}))
    drawn = task.scored.records.image_ids.tolist()
    assert len(drawn) == 3
    assert drawn == sorted(drawn)
    other = prepared(root, override_config(config, {"train.evaluate_images": 3, "train.seed": 1}))
    assert other.scored.records.image_ids.tolist() != drawn
    alone = prepared(root, config)
    alone.val = alone.val.pick([alone.val.records.image_ids.tolist().index(image) for image in drawn])
    alone.adopt(alone.config)
    model = task.model.eval()
    assert task.evaluate(model) == pytest.approx(alone.evaluate(model), nan_ok=True)


def test_measuring_changes_nothing(coco_set: Callable[..., Path], tmp_path: Path) -> None:
    config = small()
    task = prepared(coco_set({"train": 12, "val": 4}), config)
    before = copy.deepcopy(task.model.state_dict())
    torch.manual_seed(5)
    pace = measure_pace(task, config, precision="fp32", folder=tmp_path)
    assert pace.step > 0
    assert pace.evaluation > 0
    assert min(pace.saving) > 0
    assert list(tmp_path.glob(".rehearsal*")) == []
    after = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(3))
    assert all(torch.equal(value, before[name]) for name, value in task.model.state_dict().items())


@pytest.mark.slow
def test_a_run_with_a_time_says_and_keeps_what_was_worked_out(coco_set: Callable[..., Path], tmp_path: Path) -> None:
    said: list[str] = []
    rows: list[Any] = []
    listener = Listener(said.append, on_epoch=lambda row, best: rows.append(row))
    root = coco_set({"train": 12, "val": 4})
    folder = train(
        root, config=small(), out=tmp_path / "run", device="cpu", listener=listener, settings={"train.minutes": 0.3}
    )
    line = next(text for text in said if text.startswith("time limit 18s: "))
    best = load_checkpoint(folder / "last.pt")
    assert f"{best.config.train.epochs} epochs of {best.config.train.steps_per_epoch} steps" in line
    assert len(rows) == best.config.train.epochs > 1
    assert best.about["minutes"] == 0.3


@pytest.mark.slow
def test_a_frozen_backbone_stays_and_the_rest_learns(coco_set: Callable[..., Path], tmp_path: Path) -> None:
    root = coco_set({"train": 12, "val": 4})
    first = train(root, config=small(), out=tmp_path / "first", device="cpu")
    weights = str(first / "best.pt")
    settings = {**{f"train.{key}": value for key, value in SMALL["train"].items()}, "train.freeze": "backbone"}
    second = train(root, weights=weights, settings=settings, out=tmp_path / "second", device="cpu")
    before = load_checkpoint(first / "best.pt").weights
    after = load_checkpoint(second / "last.pt").training["model"]
    moved = {name for name in after if not torch.equal(after[name].half(), before[name].half())}
    assert not any(name.startswith("backbone.") for name in moved)
    assert any(name.startswith("head.") for name in moved)
    assert any(name.endswith("running_mean") for name in moved)
    with pytest.raises(InputError, match="needs weights to start from"):
        train(root, config=small(freeze="backbone"), out=tmp_path / "third", device="cpu")
    with pytest.raises(InputError, match=r"train.freeze must be none or backbone, got 'neck'"):
        train(root, config=small(freeze="neck"), out=tmp_path / "third", device="cpu")


@pytest.mark.slow
def test_deterministic_runs_are_equal(coco_set: Callable[..., Path], tmp_path: Path) -> None:
    root = coco_set({"train": 8, "val": 4})
    try:
        runs = [train(root, config=small(deterministic=True), out=tmp_path / name, device="cpu") for name in "ab"]
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    first, second = (load_checkpoint(folder / "last.pt").weights for folder in runs)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_preflight_lets_a_good_run_start_and_touches_nothing(
    coco_set: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = small(lr=0.005)
    task = prepared(coco_set({"train": 12, "val": 4}), config)
    before = copy.deepcopy(task.model.state_dict())
    torch.manual_seed(5)
    task.colour = True
    with monkeypatch.context() as patched:
        patched.setattr(
            "yolo_lite.training.tasks.detection.shift_hsv", None
        )  # of images as they are no colour is changed
        line = check_it_learns(task, config, precision="fp32")
    assert line.startswith("preflight: the loss on 8 images fell from")
    assert task.colour
    after = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(3))
    assert all(torch.equal(value, before[name]) for name, value in task.model.state_dict().items())
    assert task.dataset.augmenter is not None  # type: ignore[attr-defined]


@pytest.mark.parametrize(("rate", "word"), [(50.0, "too high"), pytest.param(1e-9, "too low", marks=pytest.mark.slow)])
def test_preflight_names_the_learning_rate(coco_set: Callable[..., Path], rate: float, word: str) -> None:
    config = small(lr=rate)
    with pytest.raises(InputError, match=f"train.lr is {word}.*--no-preflight"):
        check_it_learns(prepared(coco_set({"train": 12, "val": 4}), config), config, precision="fp32")


@pytest.mark.slow
def test_preflight_names_the_part_of_the_loss(coco_set: Callable[..., Path]) -> None:
    nothing = {"class_weight": 0, "box_weight": 0, "l1_weight": 0}
    config = config_from_dict({**SMALL, "loss": nothing}, "test")
    with pytest.raises(InputError, match="every part of it is 0: no weight of the loss is above 0"):
        check_it_learns(prepared(coco_set({"train": 12, "val": 4}), config), config, precision="fp32")


def changed(root: Path, change: Callable[[Any], dict[str, Any]]) -> DetectionSet:
    data = read_split(root, "train")
    return dataclasses.replace(data, records=tuple(dataclasses.replace(one, **change(one)) for one in data.records))


def test_preflight_names_boxes_in_wrong_units(coco_set: Callable[..., Path]) -> None:
    root = coco_set({"train": 12, "val": 4})
    shares = changed(root, lambda one: {"boxes": one.boxes / max(one.hw)})
    with pytest.raises(InputError, match="no coordinate of its .* boxes is larger than 1: they look like fractions"):
        check_labels(shares, (64, 64))
    tiny = changed(root, lambda one: {"boxes": np.concatenate([one.boxes[:, :2], one.boxes[:, :2] + 0.5], 1)})
    with pytest.raises(InputError, match="100% of its boxes have a side of less than 2 pixels in an input of 64 x 64"):
        check_labels(tiny, (64, 64))
    same = changed(root, lambda one: {"boxes": np.tile([[1.0, 2, 30, 40]], (len(one.boxes), 1))})
    with pytest.raises(InputError, match=r"boxes are the same, \[1.0, 2.0, 30.0, 40.0\]"):
        check_labels(same, (64, 64))
    check_labels(read_split(root, "train"), (64, 64))


def test_preflight_names_corners_where_sizes_are_expected(coco_set: Callable[..., Path]) -> None:
    """Read as x, y, width, height, corners x1, y1, x2, y2 become x1, y1, x1 + x2, y1 + y2."""
    root = coco_set({"train": 12, "val": 4})
    twice = changed(
        root, lambda one: {"boxes": one.boxes + np.concatenate([0 * one.boxes[:, :2], one.boxes[:, :2]], 1)}
    )
    with pytest.raises(
        InputError, match=r"leave their image by more than rounding: they look like x1, y1, x2, y2.*no-pre"
    ):
        check_labels(twice, (64, 64))
    moved = changed(root, lambda one: {"boxes": one.boxes + np.array([40.0, 0, 40, 0])})
    with pytest.raises(InputError, match=r"leave their image by more than rounding, the first: .*annotation .*no-pre"):
        check_labels(moved, (64, 64))


def test_preflight_looks_at_the_units_of_validation_too(coco_set: Callable[..., Path]) -> None:
    root = coco_set({"train": 12, "val": 4})
    file = root / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    for one in content["annotations"]:
        one["bbox"] = [side / 128 for side in one["bbox"]]
    file.write_text(json.dumps(content))
    config = small(epochs=1)
    with pytest.raises(InputError, match="instances_val.json: no coordinate of its .* look like fractions"):
        check_it_learns(prepared(root, config), config, precision="fp32")


def test_preflight_names_class_ids_that_all_agree(coco_set: Callable[..., Path]) -> None:
    data = changed(coco_set({"train": 12, "val": 4}), lambda one: {"labels": np.zeros_like(one.labels)})
    with pytest.raises(InputError, match=r"all .* boxes are of class disc, none of square, and more"):
        check_labels(dataclasses.replace(data, class_names=("disc", "square", "and more")), (64, 64))
    check_labels(data, (64, 64))  # one of two may well be missing


def test_another_size_moves_boxes_with_pixels() -> None:
    """A white object on black keeps its box at every size; sizes are multiples of 32, and depend on the progress alone."""
    images = torch.zeros(1, 3, 96, 128, dtype=torch.uint8)
    images[..., 24:48, 32:96] = 255
    batch = Batch(images, torch.tensor([[[32.0, 24, 96, 48]]]), labels=torch.zeros(1, 1), positions=torch.zeros(1))
    sizes = set()
    for step in range(40):
        made = another_size(batch, 0.5, seed=0, progress=step / 40)
        height, width = made.images.shape[-2:]
        sizes.add((height, width))
        assert height % 32 == width % 32 == 0
        bright = made.images[0, 0] > 127
        x = bright.any(0).nonzero().flatten()
        y = bright.any(1).nonzero().flatten()
        seen = [int(x[0]), int(y[0]), int(x[-1]) + 1, int(y[-1]) + 1]
        assert made.boxes[0, 0].tolist() == pytest.approx(seen, abs=1)
        again = another_size(batch, 0.5, seed=0, progress=step / 40)
        assert torch.equal(made.images, again.images)
    assert len(sizes) > 3
    assert {height for height, _ in sizes} <= {64, 96, 128, 160}


@pytest.mark.slow
def test_a_run_may_change_its_input_size_at_each_step(coco_set: Callable[..., Path], tmp_path: Path) -> None:
    config = config_from_dict({**SMALL, "augment": {"multi_scale": 0.5}}, "test")
    said: list[str] = []
    listener = Listener(said.append)
    folder = train(
        coco_set({"train": 8, "val": 4}), config=config, out=tmp_path / "run", device="cpu", listener=listener
    )
    assert (folder / "best.pt").exists()
    assert any("input size ±50%, another at each step" in line for line in said)


def test_tensorboard_is_asked_for_before_anything_is_done(
    coco_set: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match="--tensorboard needs TensorBoard: pip install tensorboard"):
        train(coco_set({"train": 4}), config=small(tensorboard=True), out=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_tensorboard_gets_every_epoch(
    coco_set: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for TensorBoard's writer, which is no dependency of the tests."""
    written: list[tuple[str, float, int]] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            assert folder == str(tmp_path / "run")

        def __enter__(self) -> Writer:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

    stand_in = types.ModuleType("tensorboard")
    stand_in.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", stand_in)
    config = small(tensorboard=True, epochs=2)
    train(coco_set({"train": 8, "val": 4}), config=config, out=tmp_path / "run", device="cpu")
    assert {step for _, _, step in written} == {1, 2}
    assert {"AP", "lr", "loss/total", "loss/box"} <= {name for name, _, _ in written}


@pytest.mark.slow
def test_preflight_lets_a_small_learning_rate_pass(coco_set: Callable[..., Path]) -> None:
    """It may be meant so: the loss falls a little, which is said."""
    config = small(lr=2e-4)
    line = check_it_learns(prepared(coco_set({"train": 12, "val": 4}), config), config, precision="fp32")
    assert line.startswith("preflight: the loss on 8 images fell slowly, from")


@pytest.mark.slow
def test_a_compiled_network_learns_the_same(
    coco_set: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By torch's backend "eager", which follows the network as every backend does, and spares the test a C++ compiler."""
    called = []

    def compiled(self: nn.Module) -> None:
        called.append(type(self).__name__)
        real(self, backend="eager")

    real = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", compiled)
    root = coco_set({"train": 8, "val": 4})
    rows: list[dict[str, float]] = []
    for name in ("as-is", "compiled"):
        listener = Listener(on_epoch=lambda row, best: rows.append(dict(row)))
        train(root, config=small(compile=name == "compiled"), out=tmp_path / name, device="cpu", listener=listener)
    assert called == ["Yolo"]
    assert rows[1]["loss_total"] == pytest.approx(rows[0]["loss_total"], rel=1e-3)
    first, second = (load_checkpoint(tmp_path / name / "last.pt").weights for name in ("as-is", "compiled"))
    assert first.keys() == second.keys()


@pytest.mark.slow
def test_what_the_compiler_says_becomes_one_line(
    coco_set: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(graph: object, inputs: object) -> None:
        raise RuntimeError("no working C++ compiler found")

    real = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda self: real(self, backend=broken))
    root = coco_set({"train": 4, "val": 2})
    with pytest.raises(InputError, match=r"torch.compile failed \(.*no working.*\); leave train.compile out"):
        train(root, config=small(compile=True), out=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()
