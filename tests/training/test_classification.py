"""Training classifiers: numbers worked by hand, drawn shapes that are finished_run, and weights that go from network to network."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tests.class_images import NARROW, QUICK, write_class_set
from tests.conftest import write_coco_set
from yolo_lite.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from yolo_lite.checkpoints.transfer import transfer_backbone, transfer_classes
from yolo_lite.config.resolve import config_from_dict, config_to_dict, override_config, read_config
from yolo_lite.config.schema import Config, DataConfig
from yolo_lite.data.pipeline.classification import ClassDataset
from yolo_lite.errors import InputError
from yolo_lite.evaluation.classifier import classify_split, evaluate_classifier
from yolo_lite.models.build import build_detector
from yolo_lite.models.classifiers.build import ClassifierNet, build_classifier
from yolo_lite.shipped import DEFAULT_WEIGHTS, find_config
from yolo_lite.structures.batches import ClassBatch
from yolo_lite.structures.datasets import ClassificationSet, ClassRecord
from yolo_lite.training.plan import plan
from yolo_lite.training.recipe import resume, train, train_classifier
from yolo_lite.training.task import Listener
from yolo_lite.training.tasks.classification import ClassificationTask

CPU = torch.device("cpu")
NARROW_DETECTOR = ("model.stem_width=8", "model.widths=[8, 16, 24, 32]", "model.depths=[1, 1, 1, 1]")


def weights_of(path: Path) -> dict[str, Tensor]:
    return dict(load_checkpoint(path).weights)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name].to(a[name].dtype)) for name in a)


def part(weights: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if name.startswith(prefix)}


def classifier_config(model: str = "mnist_small", **settings: object) -> Config:
    return override_config(read_config(find_config(model)), {**QUICK, **settings})


def checkpoint_of(config: Config, names: Sequence[str], seed: int = 1) -> Checkpoint:
    """Return a classifier as its seed drew it; the last layer has biases other than zero."""
    model = build_classifier(config, len(names), seed=seed)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.add_(torch.arange(len(parameter)).view(-1, *[1] * (parameter.ndim - 1)) + 0.5)
    return Checkpoint(config, tuple(names), category_ids=tuple(range(len(names))), weights=model.state_dict())


def detector_checkpoint(seed: int = 3) -> Checkpoint:
    config = override_config(read_config(None), NARROW_DETECTOR)
    return Checkpoint(
        config, ("disc", "square"), category_ids=(1, 2), weights=build_detector(config, 2, seed=seed).state_dict()
    )


def stop_after(epoch: int) -> Listener:
    def stop(row: Any, best: bool) -> None:
        if row["epoch"] == epoch:
            raise KeyboardInterrupt

    return Listener(on_epoch=stop)


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """Return a small set with a validation split."""
    return write_class_set(tmp_path / "set", {"train": {"disc": 12, "square": 12}, "val": {"disc": 4, "square": 4}})


# --- the task, by hand ------------------------------------------------------------------------------------------------


def grey_records(*rows: tuple[int, int]) -> tuple[ClassRecord, ...]:
    """Make images of one grey with a label each."""
    return tuple(ClassRecord(f"grey {g}", np.full((4, 4, 3), g, np.uint8), label) for g, label in rows)


def bright_or_dark() -> ClassifierNet:
    """Make outputs (0, (grey - 100) / 50): label 1 is what is brighter than 100."""
    head = nn.Linear(1, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[0.0], [1.0]]))
        head.bias.zero_()
    mean, std = torch.full((3,), 100.0), torch.full((3,), 50.0)
    net = ClassifierNet(
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), First()), head, mean=mean, std=std, loss="cross_entropy"
    )
    return net.eval()


class First(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[:, :1]


ROWS = ((200, 1), (150, 1), (150, 0), (50, 0), (0, 0))  # the third is wrong
RISES = (2.0, 1.0, 1.0, -1.0, -2.0)  # the second output of each


def task_for(config: Config) -> ClassificationTask:
    records = grey_records(*ROWS)
    data = ClassificationSet(records, ("dark", "bright"), "greys")
    return ClassificationTask(config, data, val=ClassDataset(records, (4, 4), channels=3, resize="stretch"), device=CPU)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_loss_is_the_cross_entropy_with_smoothing(smoothing: float) -> None:
    """With outputs (0, r), -log p is log(1 + e^r) - r of label 1 and log(1 + e^r) of label 0; smoothing spreads 0.2 evenly."""
    costs = [(math.log1p(math.exp(r)), math.log1p(math.exp(r)) - r) for r in RISES]
    hand = [(1 - smoothing) * c[y] + smoothing * sum(c) / 2 for c, (_, y) in zip(costs, ROWS)]
    images = torch.stack([torch.full((3, 4, 4), g, dtype=torch.uint8) for g, _ in ROWS])
    labels = torch.tensor([y for _, y in ROWS])
    task = task_for(classifier_config(**{"classifier.label_smoothing": smoothing}))
    losses = task.loss(bright_or_dark(), ClassBatch(images, labels, torch.arange(5)), progress=0.0)
    assert list(losses) == ["class"]
    assert losses["class"].item() == pytest.approx(sum(hand) / 5, rel=1e-5)


@pytest.mark.parametrize("batch_size", [1, 8])
def test_evaluation_counts_right_answers_without_smoothing(batch_size: int) -> None:
    """Four of five are right. dark: 2 of 3 found, none added, F1 0.8; bright: 2 of 2 found, one added, F1 0.8."""
    config = classifier_config(**{"train.batch_size": batch_size, "classifier.label_smoothing": 0.2})
    numbers = task_for(config).evaluate(bright_or_dark())
    hand = sum(math.log1p(math.exp(r)) - r * y for r, (_, y) in zip(RISES, ROWS)) / 5
    assert numbers["accuracy"] == pytest.approx(0.8)
    assert numbers["F1"] == pytest.approx(0.8)
    assert numbers["val_loss"] == pytest.approx(hand, rel=1e-5)
    assert ClassificationTask.metric in numbers


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_a_split_comes_out_in_its_order(batch_size: int) -> None:
    dataset = ClassDataset(grey_records(*ROWS), (4, 4), channels=3, resize="stretch")
    outputs, labels = classify_split(
        bright_or_dark(), dataset, config=classifier_config(**{"train.batch_size": batch_size}), device=CPU
    )
    assert outputs[:, 1].tolist() == pytest.approx(RISES, abs=1e-5)
    assert labels.tolist() == [1, 1, 0, 0, 0]
    assert outputs.dtype == torch.float32


def test_samples_are_named_by_their_place_in_the_training_set() -> None:
    batch = ClassBatch(torch.zeros(2, 3, 4, 4), torch.zeros(2), torch.tensor([3, 0]))
    assert task_for(classifier_config()).name_samples(batch) == ["grey 50", "grey 200"]


# --- a run ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def learnt_shapes(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[str]]:
    """Learn discs and squares; return (run folder, data folder, lines that were told)."""
    root = tmp_path_factory.mktemp("shapes")
    counts = {"train": {"disc": 100, "square": 100}, "val": {"disc": 20, "square": 20}}
    data, lines = write_class_set(root / "set", counts), list[str]()
    settings = {**QUICK, "train.epochs": 5, "train.lr": 0.01, "train.batch_size": 20}
    listener = Listener(say=lines.append)
    out = train_classifier(
        data, config="mnist_small", settings=settings, out=root / "run", device="cpu", listener=listener
    )
    return out, data, lines


def test_discs_and_squares_are_learnt(learnt_shapes: tuple[Path, Path, list[str]]) -> None:
    best = load_checkpoint(learnt_shapes[0] / "best.pt")
    assert best.about["metrics"]["accuracy"] >= 0.95
    result = evaluate_classifier(
        learnt_shapes[0] / "best.pt", learnt_shapes[1], split="val", device="cpu", settings={"train.workers": 0}
    )
    assert result.report.accuracy == pytest.approx(best.about["metrics"]["accuracy"], abs=1e-5)


def test_a_run_leaves_checkpoints_and_results(learnt_shapes: tuple[Path, Path, list[str]]) -> None:
    folder, data, lines = learnt_shapes
    left = ["best.pt", "config.yaml", "last.pt", "previous.pt", "results.csv", "results.png"]
    left += ["training.jpg", "validation.jpg"]
    assert sorted(file.name for file in folder.iterdir()) == left
    assert all(Image.open(folder / f"{name}.jpg").width > 300 for name in ("training", "validation"))
    assert read_config(folder / "config.yaml") == load_checkpoint(folder / "best.pt").config
    best, last = load_checkpoint(folder / "best.pt"), load_checkpoint(folder / "last.pt")
    assert best.is_classifier
    assert (best.class_names, best.category_ids) == (("disc", "square"), (0, 1))
    assert not best.training
    assert last.training["epoch"] == 5
    assert best.about["data"] == str(data)
    assert best.about["val"] == "40 images, 2 classes: disc (20), square (20)"
    rows = list(csv.DictReader((folder / "results.csv").open()))
    assert {"epoch", "lr", "loss_class", "loss_total", "train_accuracy", "accuracy", "F1", "val_loss"} == set(rows[0])
    assert float(rows[-1]["loss_total"]) < float(rows[0]["loss_total"]) / 3
    assert sum("200 images, 2 classes" in line for line in lines) == 1
    assert lines.count("augmentation: none") == 1
    assert "training mnist_small from scratch" in lines


@pytest.mark.slow
def test_resume_ends_bit_for_bit_as_an_unbroken_run(few: Path, tmp_path: Path) -> None:
    """With dropout, augmentation and norms, whose random numbers and running means must be taken up as well."""
    settings = {
        **QUICK,
        "augment": {"scale": [0.8, 1.2], "off_last": 0.3},
        "classifier.dropout": [0.2, 0.3],
        "classifier.batch_norm": True,
        "train.epochs": 4,
        "train.lr": 0.004,
    }
    whole = train_classifier(few, config="mnist_cnn", settings=settings, out=tmp_path / "whole", device="cpu")
    broken, rest = tmp_path / "broken", {"settings": settings, "out": tmp_path / "broken", "device": "cpu"}
    with pytest.raises(KeyboardInterrupt):
        train_classifier(few, config="mnist_cnn", **rest, listener=stop_after(2))
    assert load_checkpoint(broken / "last.pt").training["epoch"] == 2
    assert not same(weights_of(whole / "last.pt"), weights_of(broken / "last.pt"))
    lines: list[str] = []
    assert resume(broken, device="cpu", listener=Listener(say=lines.append)) == broken
    assert f"resuming {broken} after epoch 2 of 4" in lines
    for name in ("last.pt", "best.pt"):
        assert same(weights_of(whole / name), weights_of(broken / name))
    one, other = (load_checkpoint(folder / "last.pt").training for folder in (whole, broken))
    assert same(one["model"], other["model"])
    assert (whole / "results.csv").read_text() == (broken / "results.csv").read_text()
    with pytest.raises(InputError, match="has finished its 4 epochs; nothing to resume"):
        resume(broken, device="cpu")


def test_resume_takes_up_the_same_part_of_the_data(tmp_path: Path) -> None:
    """Classes, fraction, per class and split are asked for once; another part would be refused as changed data."""
    data = write_class_set(tmp_path / "set", {"": {"bar": 10, "disc": 20, "square": 10}})
    chosen = {"classes": ["square", "disc"], "fraction": 0.8, "per_class": 5, "shares": "60/20/20"}
    settings, out = {**QUICK, "train.epochs": 2, "train.seed": 7, "data": chosen}, tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train_classifier(data, config="lenet", settings=settings, out=out, device="cpu", listener=stop_after(1))
    about = load_checkpoint(out / "last.pt").about
    assert about["train"] == "10 images, 2 classes: square (5), disc (5)"  # of 6 and 12, 0.8 of them 5 and 10
    assert about["val"] == "6 images, 2 classes: square (2), disc (4)"
    resume(out, device="cpu")
    ended = load_checkpoint(out / "last.pt")
    assert ended.training["epoch"] == 2
    assert ended.about["fingerprint"] == about["fingerprint"]
    assert ended.class_names == ("square", "disc")


def test_resume_refuses_data_that_has_changed(few: Path, tmp_path: Path) -> None:
    settings, out = {**QUICK, "train.epochs": 2}, tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        train_classifier(few, config="lenet", settings=settings, out=out, device="cpu", listener=stop_after(1))
    shutil.move(few / "train" / "disc" / "disc-000.png", few / "train" / "square" / "disc-000.png")
    with pytest.raises(InputError, match=r"train was 24 images.*disc \(12\).*, and is .*square \(13\)"):
        resume(out, device="cpu")


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights_and_another_does_not(few: Path, tmp_path: Path) -> None:
    def run(name: str, seed: int) -> dict[str, Tensor]:
        settings = {**QUICK, "train.epochs": 1, "train.seed": seed}
        return weights_of(
            train_classifier(few, config="lenet", settings=settings, out=tmp_path / name, device="cpu") / "last.pt"
        )

    a, b, c = run("a", 1), run("b", 1), run("c", 2)
    assert same(a, b)
    assert not same(a, c)


@pytest.mark.slow
def test_a_run_without_patience_left_stops_and_is_not_resumed(few: Path, tmp_path: Path) -> None:
    """Without a learning rate no epoch is better than the first."""
    settings = {**QUICK, "train.epochs": 9, "train.patience": 2, "train.lr": 0}
    lines: list[str] = []
    rest = {"settings": settings, "out": tmp_path / "run", "device": "cpu"}
    out = train_classifier(few, config="lenet", **rest, listener=Listener(say=lines.append))
    assert lines[-1] == "stopped early after 2 epochs without improvement; the best was epoch 1"
    assert load_checkpoint(out / "last.pt").training["epoch"] == 3
    assert len(list(csv.DictReader((out / "results.csv").open()))) == 3
    before = (out / "last.pt").read_bytes()
    with pytest.raises(InputError, match="stopped early after epoch 3; nothing to resume"):
        resume(out, device="cpu")
    assert (out / "last.pt").read_bytes() == before


@pytest.mark.slow
def test_the_rate_falls_at_the_milestones(few: Path, tmp_path: Path) -> None:
    settings = {**QUICK, "train.epochs": 4, "train.warmup_steps": 0, "train.lr": 0.001, "train.schedule": "steps"}
    settings |= {"train.milestones": [1, 3], "train.step_factor": 0.5, "train.optimizer": "rmsprop"}
    out = train_classifier(few, config="lenet", settings=settings, out=tmp_path / "run", device="cpu")
    rates = [float(row["lr"]) for row in csv.DictReader((out / "results.csv").open())]
    assert rates == pytest.approx([0.001, 0.0005, 0.0005, 0.00025])


def test_training_never_opens_the_test_split(few: Path, tmp_path: Path) -> None:
    write_class_set(few, {"test": {"disc": 2, "square": 2}}, seed=1)
    for file in (few / "test").rglob("*.png"):
        file.write_text("not an image")
    out = train_classifier(
        few, config="lenet", settings={**QUICK, "train.epochs": 1}, out=tmp_path / "run", device="cpu"
    )
    alone = {"train.workers": 0}
    result = evaluate_classifier(out / "best.pt", few, split="val", device="cpu", settings=alone)
    assert result.settings["images"] == 8
    with pytest.raises(InputError, match=r"test/disc/disc-000\.png is not an image"):
        evaluate_classifier(out / "best.pt", few, split="test", device="cpu", settings=alone)


def test_a_truncated_image_stops_the_run_with_one_line(few: Path, tmp_path: Path) -> None:
    file = few / "train" / "square" / "square-003.png"
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"^\S*square-003\.png is damaged or cut short[^\n]*$"):
        train_classifier(few, config="lenet", settings=QUICK, out=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_one_class_is_refused(tmp_path: Path) -> None:
    data = write_class_set(tmp_path / "set", {"train": {"disc": 3}, "val": {"disc": 3}})
    with pytest.raises(InputError, match=r"has one class only \(disc\)"):
        train_classifier(data, config="lenet", settings=QUICK, out=tmp_path / "run", device="cpu")


def test_a_folder_that_holds_a_run_is_refused(learnt_shapes: tuple[Path, Path, list[str]]) -> None:
    with pytest.raises(InputError, match="already holds a run; add --resume"):
        train_classifier(learnt_shapes[1], config="lenet", out=learnt_shapes[0], device="cpu")


# --- what is asked for ------------------------------------------------------------------------------------------------


def plan_classifier(settings: Mapping[str, object] | None = None, **arguments: Any) -> Config:
    """Return the configuration that `train_classifier` trains with."""
    return plan("data", **arguments, settings={"task": "classify", **(settings or {})}).config


def test_the_arguments_are_settings_of_one_configuration() -> None:
    asked = {"data.classes": ["b", "a"], "data.fraction": 0.5, "data.per_class": 7, "data.shares": "60/20/20"}
    config = plan("images", config="lenet", settings={"task": "classify", **asked}).config
    data = DataConfig("images", classes=("b", "a"), fraction=0.5, per_class=7, shares="60/20/20")
    assert (config.task, config.data) == ("classify", data)
    stored = json.loads(json.dumps(config_to_dict(config)))
    assert config_from_dict(stored, "last.pt") == config


def test_training_starts_from_the_shipped_detector_unless_told_otherwise() -> None:
    config = plan_classifier()
    assert config.train.weights == DEFAULT_WEIGHTS
    assert config.classifier.model == "yolo_lite-shuffle-cls"
    assert config.model.norm == "none"  # as in the shipped weights
    scratch = plan_classifier(config="yolo_lite-shuffle-cls")
    assert scratch.train.weights == ""
    assert scratch.model.norm == "batch"
    expected = override_config(read_config(find_config("lenet")), {"data.path": "data"})
    assert plan_classifier(config="lenet") == expected


def test_weights_fix_the_network_and_the_normalisation(tmp_path: Path) -> None:
    theirs = classifier_config("mnist_cnn", **{"input.mean": [9, 9, 9], "classifier.dropout": [0.1, 0.2]})
    frozen = override_config(theirs, {"classifier.freeze": True})
    save_checkpoint(tmp_path / "c.pt", checkpoint_of(frozen, "ab"))
    config = plan_classifier({"train.lr": 0.5}, weights=tmp_path / "c.pt")
    assert (config.train.weights, config.train.lr) == (str(tmp_path / "c.pt"), 0.5)
    assert config.classifier == theirs.classifier  # and whether to freeze is asked anew
    assert config.input.mean == (9, 9, 9)
    assert plan_classifier({"classifier.freeze": True}, weights=tmp_path / "c.pt").classifier.freeze


def test_a_classifiers_weights_bring_their_image_size_unless_it_is_set(few: Path, tmp_path: Path) -> None:
    """The dense layer of mnist_cnn fits images of one size only: 32 here, not the 28 of its configuration."""
    config = classifier_config("mnist_cnn", **{"input.resize": "letterbox"})
    save_checkpoint(tmp_path / "c.pt", checkpoint_of(config, ("disc", "square")))
    shape = plan_classifier(weights=tmp_path / "c.pt").input
    assert (shape.image_size, shape.resize) == ((32, 32), "letterbox")
    small = plan_classifier({"input.image_size": 28}, weights=tmp_path / "c.pt").input
    assert small.image_size == (28, 28)
    settings = {"train.epochs": 1}
    out = train_classifier(few, weights=tmp_path / "c.pt", settings=settings, out=tmp_path / "run", device="cpu")
    assert load_checkpoint(out / "best.pt").config.input.image_size == (32, 32)


def test_a_detectors_weights_choose_the_classifier_with_its_backbone(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "d.pt", detector_checkpoint())
    config = plan_classifier(weights=tmp_path / "d.pt")
    assert config.classifier.model == "yolo_lite-n-cls"
    assert config.model.widths == (8, 16, 24, 32)
    assert config.input.image_size == read_config(find_config(config.name)).input.image_size


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"weights": "none"}, "name a --config to train from scratch"),
        ({"config": "lnet"}, "did you mean 'lenet'"),
        ({"config": Config()}, "is the configuration of a detector"),
        ({"config": "lenet", "settings": {"data.shares": "50/20"}}, "--shares takes percentages"),
        ({"config": "lenet", "settings": {"data.per_class": -1}}, "'data.per_class' must be at least 0, got -1"),
        ({"config": "lenet", "weights": "missing.pt"}, "missing.pt does not exist"),
        ({"config": "lenet", "weights": "det.pt"}, r"det\.pt is a yolo_lite-n, but lenet cannot start from it"),
        (
            {"config": "yolo_lite-shuffle-cls", "weights": "det.pt"},
            r"det\.pt is a yolo_lite-n, but yolo_lite-shuffle",
        ),
        ({"config": "lenet", "weights": "cls.pt"}, r"cls\.pt is a mnist_small, but lenet cannot start from it"),
        ({"weights": "cls.pt", "settings": {"input.channels": 3}}, "input.channels is fixed by --weights cls.pt"),
        ({"weights": "cls.pt", "settings": {"input.mean": [1, 1, 1]}}, "input.mean is fixed by --weights"),
        ({"weights": "det.pt", "settings": {"model.depths": [1, 1, 1, 1]}}, "model.depths is fixed by --weights"),
        ({"config": "lenet", "settings": {"train.momentun": 1}}, "did you mean 'train.momentum'"),
    ],
    ids=lambda value: " ".join(f"{k} {v}" for k, v in value.items())[:50] if isinstance(value, dict) else "",
)
def test_what_cannot_be_trained_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    save_checkpoint(Path("det.pt"), detector_checkpoint())
    save_checkpoint(Path("cls.pt"), checkpoint_of(classifier_config(), "ab"))
    with pytest.raises(InputError, match=message):
        plan_classifier(**given)


def test_a_detector_is_planned_around_a_classifiers_backbone(tmp_path: Path) -> None:
    config = classifier_config("yolo_lite-n-cls", **NARROW, **{"input.mean": [1, 2, 3]})
    save_checkpoint(tmp_path / "c.pt", checkpoint_of(config, "ab"))
    planned = plan("data", weights=tmp_path / "c.pt", settings={"train.lr": 0.5}).config
    assert (planned.task, planned.classifier.model) == ("detect", "none")
    assert planned.model == config.model
    assert planned.input.mean == (1, 2, 3)
    assert planned.input.image_size == (320, 320)  # a detector's, not the classifier's
    assert (planned.train.lr, planned.train.keep_start) == (0.5, 0)
    assert planned.train.weights == str(tmp_path / "c.pt")
    # As its paper has it: first a classifier.
    taught = plan("data", weights=tmp_path / "c.pt", config="yolov1").config.model
    assert (taught.head, taught.neck, taught.widths) == ("grid", "none", (8, 16, 24, 32))


@pytest.mark.parametrize("setting", [{"model.widths": [32, 64, 128, 256]}, {"input.mean": [0, 0, 0]}])
def test_what_a_classifiers_weights_fix_in_a_detector_is_refused(tmp_path: Path, setting: dict[str, object]) -> None:
    """As with a detector's weights: a setting is followed or refused, never dropped in silence."""
    save_checkpoint(tmp_path / "c.pt", checkpoint_of(classifier_config("yolo_lite-n-cls", **NARROW), "ab"))
    with pytest.raises(InputError, match=f"{next(iter(setting))} is fixed by --weights"):
        plan("data", weights=tmp_path / "c.pt", settings=setting)


def test_detectors_and_classifiers_are_not_planned_as_each_other(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "c.pt", checkpoint_of(classifier_config(), "ab"))
    with pytest.raises(InputError, match=r"c\.pt is the classifier mnist_small, but no detector has its layers"):
        plan("data", weights=tmp_path / "c.pt")
    file = find_config("lenet")
    assert (
        plan("data", config=file).config.task == "classify"
    )  # it says what it is of, unless another task is asked for
    message = f"{file} is the configuration of a classifier: use classify train --config {file}, or the configuration of a detector"
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        plan("data", config=file, settings={"task": "detect"})
    with pytest.raises(InputError, match="^nano is the configuration of a detector: use train --config nano"):
        plan_classifier(config="nano")


# --- weights that go from network to network --------------------------------------------------------------------------


@pytest.mark.slow
def test_a_backbone_goes_from_detector_to_classifier_and_back(few: Path, tmp_path: Path) -> None:
    """Without a learning rate every kernel stays as it was, so what arrives is what was sent."""
    sent = detector_checkpoint()
    save_checkpoint(tmp_path / "d.pt", sent)
    still = {**QUICK, "train.epochs": 1, "train.lr": 0}
    lines: list[str] = []
    rest = {"device": "cpu", "listener": Listener(say=lines.append)}
    out = train_classifier(few, weights=tmp_path / "d.pt", settings=still, out=tmp_path / "cls", **rest)
    assert any("took its backbone" in line for line in lines)
    middle = load_checkpoint(out / "last.pt")
    kernels = {n: v for n, v in sent.weights.items() if n.startswith("backbone.") and v.ndim == 4}
    assert len(kernels) > 10
    assert all(torch.equal(middle.weights[name], value) for name, value in kernels.items())
    model = build_detector(sent.config, 5, seed=8)
    neck = {name: value.clone() for name, value in model.state_dict().items() if not name.startswith("backbone.")}
    count = sum(value.numel() for value in part(dict(sent.weights), "backbone.").values())
    assert transfer_backbone(model, middle).summary == f"took its backbone, {count:,} values"
    assert same(part(model.state_dict(), "backbone."), part(dict(middle.weights), "backbone."))
    assert all(torch.equal(model.state_dict()[name], value) for name, value in neck.items())
    boxes = write_coco_set(tmp_path / "boxes", {"train": 4, "val": 2}, hw=(64, 64), objects=1)
    back = train(
        boxes,
        weights=out / "best.pt",
        settings={**still, "input.image_size": 64},
        out=tmp_path / "det",
        device="cpu",
    )
    half = {name: value.half().float() for name, value in kernels.items()}  # best.pt holds kernels in half precision
    arrived = load_checkpoint(back / "last.pt")
    assert not arrived.is_classifier
    assert all(torch.equal(arrived.weights[name], value) for name, value in half.items())


def test_a_frozen_backbone_stays_bit_for_bit_and_the_last_layer_moves(few: Path, tmp_path: Path) -> None:
    start = detector_checkpoint()
    save_checkpoint(tmp_path / "d.pt", start)
    settings = {**QUICK, "train.epochs": 2, "train.lr": 0.01, "classifier.freeze": True, "train.seed": 4}
    out = train_classifier(few, weights=tmp_path / "d.pt", settings=settings, out=tmp_path / "run", device="cpu")
    ended = load_checkpoint(out / "last.pt")
    stayed, before = part(dict(ended.weights), "backbone."), part(dict(start.weights), "backbone.")
    assert same(stayed, before)  # running means of its norms and their counters, too
    assert same(part(dict(ended.training["model"]), "backbone."), before)
    assert any("running_mean" in name for name in stayed)
    drawn = build_classifier(ended.config, 2, seed=4).state_dict()
    assert not same(part(dict(ended.weights), "head."), part(drawn, "head."))


def test_a_backbone_that_does_not_fit_is_refused() -> None:
    wide = build_classifier(classifier_config("yolo_lite-n-cls"), 2)
    with pytest.raises(InputError, match=r"the backbone of these weights \(yolo_lite-n\) does not fit: backbone\."):
        transfer_backbone(wide, detector_checkpoint())


def last_layer(model: nn.Module) -> tuple[Tensor, Tensor]:
    weights = part(dict(model.state_dict()), "head.")
    return next(v for v in weights.values() if v.ndim == 2), next(v for v in weights.values() if v.ndim == 1)


def test_rows_are_kept_by_name(few: Path, tmp_path: Path) -> None:
    """Known: square, disc, star. Wanted: bar, disc, square. Two rows change places, the new one is as drawn."""
    config = classifier_config()
    knows = checkpoint_of(config, ("square", "disc", "star"))
    model = build_classifier(config, 3, seed=6)
    drawn = [value.clone() for value in last_layer(model)]
    taken = transfer_classes(model, ("bar", "disc", "square"), checkpoint=knows)
    assert taken.summary == "kept disc, square; new: bar"
    assert all(rows.tolist() == [0] for rows in taken.fresh.values())
    theirs = (next(v for n, v in knows.weights.items() if n.startswith("head.") and v.ndim == d) for d in (2, 1))
    for mine, before, known in zip(last_layer(model), drawn, theirs):
        assert torch.equal(mine[0], before[0])
        assert torch.equal(mine[1], known[1])
        assert torch.equal(mine[2], known[0])


def test_going_on_with_other_classes_keeps_their_rows(tmp_path: Path) -> None:
    """Without a learning rate the rows of best.pt are those that training began with."""
    data = write_class_set(tmp_path / "set", {"train": {"bar": 8, "disc": 8}, "val": {"bar": 2, "disc": 2}})
    knows = checkpoint_of(classifier_config(), ("square", "disc", "star"))
    save_checkpoint(tmp_path / "c.pt", knows)
    lines: list[str] = []
    still = {**QUICK, "train.epochs": 1, "train.lr": 0}
    rest = {"out": tmp_path / "run", "device": "cpu", "listener": Listener(say=lines.append)}
    out = train_classifier(data, weights=tmp_path / "c.pt", settings=still, **rest)
    assert any("; kept disc; new: bar" in line for line in lines)
    ended = weights_of(out / "last.pt")
    for name, value in part(ended, "head.").items():
        assert torch.equal(value[1], knows.weights[name][1])
        assert len(value) == 2


def scores_by_name(model: ClassifierNet, names: Sequence[str]) -> dict[str, Tensor]:
    images = torch.rand(6, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    with torch.inference_mode():
        return dict(zip(names, model.eval().scores(model(images)).T))


@pytest.mark.parametrize("loss", ["cross_entropy", "binary"])
@pytest.mark.parametrize("names", [["disc", "square"], ["square", "disc"]], ids=["same order", "other order"])
def test_the_same_classes_in_any_order_score_as_before(loss: str, names: list[str]) -> None:
    """A single output of two classes is kept where all are the same, and where it is said to be kept it scores the same."""
    config = classifier_config(**{"classifier.loss": loss})
    knows = checkpoint_of(config, ("disc", "square"))
    before = build_classifier(config, 2)
    before.load_state_dict(dict(knows.weights))
    model = build_classifier(config, 2, seed=9)
    transfer_backbone(model, knows)
    told = transfer_classes(model, names, checkpoint=knows)
    assert told.summary == f"kept {', '.join(names)}"
    one, other = scores_by_name(before, ("disc", "square")), scores_by_name(model, names)
    for name in names:
        torch.testing.assert_close(one[name], other[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize("loss", ["cross_entropy", "binary"])
def test_classes_are_kept_however_their_names_are_written(loss: str) -> None:
    config = classifier_config(**{"classifier.loss": loss})
    knows = checkpoint_of(config, ("disc", "square"))
    same, model = (build_classifier(config, 2, seed=9) for _ in range(2))
    transfer_classes(same, ("square", "disc"), checkpoint=knows)
    start = transfer_classes(model, ("SQUARE", "disc"), checkpoint=knows)
    assert start.summary == "kept SQUARE (known as square), disc"
    assert all(torch.equal(value, same.state_dict()[name]) for name, value in model.state_dict().items())
    assert not any(len(rows) for rows in start.fresh.values())


@pytest.mark.parametrize(("before", "after"), [("binary", "binary"), ("binary", "cross_entropy")])
def test_a_single_output_is_not_kept_for_other_classes_and_not_said_to_be(before: str, after: str) -> None:
    knows = checkpoint_of(classifier_config(**{"classifier.loss": before}), ("disc", "square"))
    model = build_classifier(classifier_config(**{"classifier.loss": after}), 2, seed=9)
    drawn = [value.clone() for value in last_layer(model)]
    assert transfer_classes(model, ("bar", "disc"), checkpoint=knows).summary == "new: bar, disc"
    assert all(torch.equal(mine, then) for mine, then in zip(last_layer(model), drawn))


def test_half_precision_is_read() -> None:
    knows = checkpoint_of(classifier_config(), "ab")
    halves = {name: value.half() if value.ndim > 1 else value for name, value in knows.weights.items()}
    model = build_classifier(classifier_config(), 2, seed=9)
    small = Checkpoint(knows.config, knows.class_names, category_ids=knows.category_ids, weights=halves)
    transfer_backbone(model, small)
    transfer_classes(model, ("a", "b"), checkpoint=small)
    assert all(
        value.dtype == torch.float32 for value in part(dict(model.state_dict()), "backbone.").values() if value.ndim
    )
    assert same(part(dict(model.state_dict()), "head."), part(halves, "head."))


def test_training_accuracy_counts_the_batches_since_the_last_call() -> None:
    """Of the five grey images one is labelled wrongly; nothing new, no number."""
    task = task_for(classifier_config())
    images = torch.stack([torch.full((3, 4, 4), grey, dtype=torch.uint8) for grey, _ in ROWS])
    labels = torch.tensor([label for _, label in ROWS])
    for part in (slice(0, 2), slice(2, 5)):
        task.loss(bright_or_dark(), ClassBatch(images[part], labels[part], torch.arange(5)[part]), progress=0.0)
    assert task.training_numbers() == {"train_accuracy": 0.8}
    assert task.training_numbers() == {}
