"""Training end to end on drawn images: it learns, stops and resumes bit for bit, and refuses what it cannot use."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.conftest import SMALL
from yolo_lite.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from yolo_lite.config.resolve import override_config, read_config
from yolo_lite.config.schema import Config
from yolo_lite.data.pipeline.augment import colour_limits
from yolo_lite.data.pipeline.colour import draw_shifts, shift_hsv
from yolo_lite.data.pipeline.loader import collate_boxes
from yolo_lite.data.splits import read_split
from yolo_lite.errors import InputError
from yolo_lite.evaluation.detector import evaluate
from yolo_lite.losses.distill import Lesson
from yolo_lite.models.build import build_detector
from yolo_lite.ranks import Ranks
from yolo_lite.shipped import DEFAULT_WEIGHTS, find_config, find_weights
from yolo_lite.structures.batches import Batch
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.training import loop
from yolo_lite.training.plan import plan
from yolo_lite.training.recipe import resume, train
from yolo_lite.training.runs import check_run_folder, new_run_folder
from yolo_lite.training.task import Listener
from yolo_lite.training.tasks import detection as detection_task
from yolo_lite.training.tasks.detection import DetectionTask, training_inputs

MakeSet = Callable[..., Path]


def config_with(*overrides: str) -> Config:
    return override_config(read_config(None), [*SMALL, "train.epochs=3", *overrides])


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return dict(load_checkpoint(path).weights)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_eight_images_are_learnt_by_heart(finished_run: tuple[Path, Path]) -> None:
    metrics = load_checkpoint(finished_run[0] / "best.pt").about["metrics"]
    assert metrics["AP50"] >= 0.9


def test_a_run_leaves_checkpoints_and_results(finished_run: tuple[Path, Path]) -> None:
    folder, data = finished_run
    left = ["best.pt", "config.yaml", "last.pt", "previous.pt", "results.csv", "results.png"]
    left += ["training.jpg", "validation.jpg"]
    assert sorted(file.name for file in folder.iterdir()) == left
    assert all(Image.open(folder / f"{name}.jpg").width > 300 for name in ("training", "validation"))
    assert read_config(folder / "config.yaml") == load_checkpoint(folder / "best.pt").config
    best, last = load_checkpoint(folder / "best.pt"), load_checkpoint(folder / "last.pt")
    assert best.class_names == ("disc", "square")
    assert best.category_ids == (7, 3)
    assert not best.training
    assert last.training["epoch"] == 60
    assert best.weights["backbone.stem.0.weight"].dtype == torch.float16
    assert best.weights["mean"].dtype == torch.float32
    assert best.about["data"] == str(data)
    assert "8 images, 16 boxes, 2 classes" in best.about["train"]
    rows = list(csv.DictReader((folder / "results.csv").open()))
    assert len(rows) == 60
    assert float(rows[-1]["loss_total"]) < float(rows[0]["loss_total"]) / 3
    assert rows[0]["AP"] == ""
    assert float(rows[-1]["AP50"]) == pytest.approx(best.about["metrics"]["AP50"], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "by_device"),
    [
        pytest.param(0, False, id="alone"),
        pytest.param(2, False, marks=pytest.mark.slow, id="two workers"),
        pytest.param(0, True, marks=pytest.mark.slow, id="colours by the device"),
    ],
)
def test_resume_ends_bit_for_bit_as_an_unbroken_run(
    coco_set: MakeSet, tmp_path: Path, workers: int, by_device: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detection_task, "_shifts_colours", lambda device: by_device)
    augmented = [
        "augment={}",
        f"train.workers={workers}",
        "train.epochs=4",
        "train.batch_size=4",
        "train.precision=auto",
    ]
    data, config = coco_set(), config_with(*augmented)

    def stop(row: object, best: bool) -> None:
        if row["epoch"] == 2:  # type: ignore[index]
            raise KeyboardInterrupt

    whole = train(data, config=config, out=tmp_path / "whole", device="cpu")
    with pytest.raises(KeyboardInterrupt):
        train(data, config=config, out=tmp_path / "broken", device="cpu", listener=Listener(on_epoch=stop))
    assert load_checkpoint(tmp_path / "broken" / "last.pt").training["epoch"] == 2
    synchronised: list[object] = []
    synchronise = Ranks.synchronise
    monkeypatch.setattr(
        Ranks, "synchronise", lambda ranks, model: synchronised.append(model) or synchronise(ranks, model)
    )
    broken = resume(tmp_path / "broken", device="cpu")
    assert len(synchronised) == 1  # a resumed run, too, normalises over all GPUs
    for name in ("last.pt", "best.pt"):
        assert same(weights_of(whole / name), weights_of(broken / name))
    assert (whole / "results.csv").read_text() == (broken / "results.csv").read_text()
    one, other = (load_checkpoint(folder / "last.pt").training for folder in (whole, broken))
    assert same(one["model"], other["model"])
    assert one["optimizer"]["state"].keys() == other["optimizer"]["state"].keys()


def test_a_run_tells_of_each_image_that_it_reads_into_memory(coco_set: MakeSet, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    listener = Listener(on_image=lambda done, total: told.append((done, total)))
    config = config_with("train.epochs=1", "pretrain.crops=1", "pretrain.image_size=32", "train.cache=ram")
    train(coco_set({"train": 4, "val": 2}), config=config, out=tmp_path / "run", device="cpu", listener=listener)
    assert told[:4] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert len(told) > 4  # and of the objects that are cut out


def test_memory_that_runs_out_before_the_first_step_is_told(
    coco_set: MakeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: object, **settings: object) -> str:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("yolo_lite.training.recipe.check_it_learns", full)
    with pytest.raises(InputError, match="the device ran out of memory; use a smaller --batch-size"):
        train(coco_set({"train": 4, "val": 2}), config=config_with(), out=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def test_the_same_seed_gives_the_same_weights_and_another_does_not(coco_set: MakeSet, tmp_path: Path) -> None:
    data = str(coco_set())
    runs = [
        train(data, config=config_with("train.epochs=1", f"train.seed={seed}"), out=tmp_path / name, device="cpu")
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    a, b, c = (weights_of(folder / "last.pt") for folder in runs)
    assert same(a, b)
    assert not same(a, c)


@pytest.mark.slow
def test_kept_images_change_nothing_but_the_time(coco_set: MakeSet, tmp_path: Path) -> None:
    data, lines = coco_set({"train": 8, "val": 2}, hw=(250, 333)), {"ram": [], "none": []}
    for cache, said in lines.items():
        config = config_with("augment={}", "train.epochs=2", "train.batch_size=4", f"train.cache={cache}")
        train(data, config=config, out=tmp_path / cache, device="cpu", listener=Listener(say=said.append))
    assert same(weights_of(tmp_path / "ram" / "last.pt"), weights_of(tmp_path / "none" / "last.pt"))
    told = [[line for line in lines[cache] if "RAM" in line] for cache in ("ram", "none")]
    assert told == [["images cached in RAM: 8, 0.7 MB"], []]  # of 144 x 192: the input, 96 x 128, times 1.5


@pytest.mark.slow
def test_kill_leaves_checkpoints_that_load_and_resume(coco_set: MakeSet, tmp_path: Path) -> None:
    data, out = coco_set(), tmp_path / "run"
    settings = [part for item in (*SMALL, "train.epochs=400") for part in ("--set", item)]
    command = [sys.executable, "-m", "yolo_lite", "train", "--data", str(data), "--out", str(out)]
    command += ["--weights", "none", *settings]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (out / "last.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    epoch = load_checkpoint(out / "last.pt").training["epoch"]
    load_checkpoint(out / "best.pt")
    assert 1 <= epoch < 400

    def stop(row: object, best: bool) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resume(out, device="cpu", listener=Listener(on_epoch=stop))
    assert load_checkpoint(out / "last.pt").training["epoch"] == epoch + 1


def test_fine_tuning_starts_where_the_weights_ended(finished_run: tuple[Path, Path], tmp_path: Path) -> None:
    folder, data = finished_run
    lines: list[str] = []
    config = config_with("train.epochs=1", "train.lr=1e-9", "model.neck_width=64")
    listener = Listener(say=lines.append)
    out = train(
        data, weights=folder / "best.pt", config=config, out=tmp_path / "tuned", device="cpu", listener=listener
    )
    tuned = load_checkpoint(out / "best.pt")
    assert tuned.about["metrics"]["AP50"] >= 0.9  # with hardly any learning rate it knows what it knew
    assert tuned.config.model.neck_width == 48  # the weights fix the network
    assert any("kept disc, square" in line for line in lines)


def test_a_folder_that_holds_a_run_is_refused(finished_run: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="already holds a run; add --resume"):
        check_run_folder(finished_run[0])


def test_runs_are_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "train-7").mkdir(parents=True)
    assert new_run_folder(None) == Path("runs/train-8")
    assert new_run_folder(None) == Path("runs/train-9")  # taken at once, so that two runs never share one


def test_a_run_stopped_before_its_first_epoch_leaves_no_folder(coco_set: MakeSet, tmp_path: Path) -> None:
    def stop(report: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(coco_set(), config=config_with(), out=tmp_path / "run", device="cpu", listener=Listener(on_step=stop))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_no_two_runs_share_a_folder(coco_set: MakeSet, tmp_path: Path) -> None:
    """A second run, and one that is resumed, are refused from the first step to the last epoch."""
    data, refusals = coco_set(), []

    def start_another(*news: object) -> None:
        for start in (
            lambda: train(data, config=config_with(), out=tmp_path / "run"),
            lambda: resume(tmp_path / "run"),
        ):
            try:
                start()
            except InputError as error:
                refusals.append(str(error))

    config = config_with("train.epochs=1")
    train(data, config=config, out=tmp_path / "run", device="cpu", listener=Listener(on_step=start_another))
    assert refusals[0] == (
        f"{tmp_path / 'run'} is in use: a training run is still writing to it; wait until it ends, or choose another --out"
    )
    assert "last.pt does not exist" in refusals[1]
    refusals.clear()

    def stop(row: object, best: bool) -> None:
        start_another()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(data, config=config_with(), out=tmp_path / "other", device="cpu", listener=Listener(on_epoch=stop))
    assert refusals == [
        f"{tmp_path / 'run'} already holds a run; add --resume to continue it, or choose another --out",
        f"the run in {tmp_path / 'run'} has finished its 1 epoch; nothing to resume",
    ]
    refusals.clear()

    def resume_again(row: object, best: bool) -> None:
        with pytest.raises(InputError, match="other is in use: a training run is still writing to it"):
            resume(tmp_path / "other")
        refusals.append("once")

    resume(tmp_path / "other", device="cpu", listener=Listener(on_epoch=resume_again))
    assert refusals
    assert not (tmp_path / "other" / ".lock").exists()


def test_a_run_claims_its_folder_at_the_start(
    coco_set: MakeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading and looking at the data may take minutes."""
    monkeypatch.chdir(tmp_path)
    claimed: list[bool] = []

    def say(line: str) -> None:
        claimed.append(Path("runs/train-1").is_dir())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(coco_set(), config=config_with(), device="cpu", listener=Listener(say=say))
    assert claimed == [True]
    assert not Path("runs").exists()


def test_a_truncated_image_stops_the_run_with_one_line(coco_set: MakeSet, tmp_path: Path) -> None:
    """Its header is whole, so it is found out only by a loading process."""
    data = coco_set()
    file = data / "images" / "0003.png"
    file.write_bytes(file.read_bytes()[:-3000])
    with pytest.raises(InputError, match=r"^\S*0003.png is damaged or cut short[^\n]*$"):
        train(data, config=config_with("train.workers=2"), out=tmp_path / "run", device="cpu")


def test_a_setting_that_the_weights_fix_is_refused(finished_run: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="model.neck_width is fixed by --weights"):
        plan("data", weights=finished_run[0] / "best.pt", settings={"model.neck_width": 64})


def test_a_gradient_that_is_not_finite_spoils_nothing(
    coco_set: MakeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poison(module: torch.nn.Module, *others: object) -> None:
        for parameter in module.parameters():
            parameter.register_hook(lambda gradient: gradient * float("nan"))

    monkeypatch.setattr("yolo_lite.training.recipe.place", lambda model, device: (poison(model), model)[1])
    with pytest.raises(InputError, match=r"gradient is not finite on the images .*000\d\.png"):
        train(coco_set(), config=config_with(), out=tmp_path / "run", device="cpu")


def test_an_output_path_under_a_file_is_refused(coco_set: MakeSet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot create the folder .*file/run: .*file is a file"):
        train(coco_set(), config=config_with(), out=tmp_path / "file" / "run", device="cpu")


def test_resume_refuses_a_finished_run_and_shipped_weights(finished_run: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has finished its 60 epochs"):
        resume(finished_run[0])
    shutil.copy(finished_run[0] / "best.pt", tmp_path / "last.pt")
    with pytest.raises(InputError, match="holds weights only"):
        resume(tmp_path)


@pytest.mark.slow
def test_resume_refuses_data_that_has_changed(coco_set: MakeSet, tmp_path: Path) -> None:
    data = coco_set()

    def stop(row: object, best: bool) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(data, config=config_with(), out=tmp_path / "run", device="cpu", listener=Listener(on_epoch=stop))
    file = data / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"][0] += 1
    file.write_text(json.dumps(content))
    with pytest.raises(
        InputError,
        match="is not the data that the run in .* was started on: train has other file names, sizes, boxes or labels",
    ):
        resume(tmp_path / "run", device="cpu")


def test_a_loss_that_is_not_finite_names_the_images(coco_set: MakeSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"(loss|gradient) is not finite.*000\d\.png.*lower the learning rate"):
        train(coco_set(), config=config_with("train.epochs=30", "train.lr=1e30"), out=tmp_path / "run", device="cpu")


def test_full_memory_says_what_to_do(coco_set: MakeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(loop, "train_step", full)
    with pytest.raises(InputError, match=r"ran out of memory; use a smaller --batch-size \(now 8\)"):
        train(coco_set(), config=config_with(), out=tmp_path / "run", device="cpu")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.assigner=simota", "loss.assigner must be one of static, task_aligned"),
        ("loss.box=siou", "loss.box must be one of iou, giou, diou, ciou"),
        ("train.precision=int8", "train.precision must be auto, fp32 or bf16"),
        ("model.backbone=vgg", "model.backbone must be one of csp"),
        ("train.schedule=step", "train.schedule must be one of"),
    ],
)
def test_an_unknown_choice_names_those_that_exist(
    coco_set: MakeSet, tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        train(coco_set(), config=config_with(override), out=tmp_path / "run", device="cpu")


def test_the_pipeline_and_the_data_are_told_once(coco_set: MakeSet, tmp_path: Path) -> None:
    lines: list[str] = []
    data, config, listener = coco_set({"train": 20}), config_with("train.epochs=1"), Listener(say=lines.append)
    train(data, config=config, out=tmp_path / "run", device="cpu", listener=listener, settings={"data.fraction": 0.5})
    text = "\n".join(lines)
    assert "2 training images are set aside by seed 0" in text
    assert "9 images" in text  # half of the eighteen that are left
    assert text.count("augmentation: none (letterbox to 96 x 128)") == 1


def test_weights_bring_their_image_size_unless_it_is_set(finished_run: tuple[Path, Path]) -> None:
    best = finished_run[0] / "best.pt"
    assert plan("data", weights=best).config.input.image_size == (96, 128)
    assert plan("data", weights=best, settings={"input.image_size": 64}).config.input.image_size == (64, 64)
    assert plan("data", weights="none").config.input.image_size == (320, 320)
    assert plan("data", weights=best, config="nano").config.model.neck_width == 48  # of the weights, not of nano.yaml


def test_training_starts_from_the_shipped_weights_unless_told_otherwise() -> None:
    run = plan("data")
    assert run.config.train.weights == DEFAULT_WEIGHTS
    assert run.config.name == "yolo_lite-shuffle-1.5x"
    assert run.config.model.norm == "none"
    finetune = read_config(find_config("finetune")).train
    assert run.config.train == dataclasses.replace(finetune, weights=DEFAULT_WEIGHTS)
    assert not plan("data", weights="none").config.train.weights
    assert (
        plan("data", weights="none", config="finetune").config.train.keep_start == 0
    )  # random weights are not worth keeping
    assert plan("data", weights="none").config.name == "yolo_lite-n"
    assert not plan("data", config="shuffle").config.train.weights
    assert plan("data", config="shuffle").config.model.norm == "batch"
    both = plan("data", weights=DEFAULT_WEIGHTS, config="nano", settings={"train.lr": 0.5})
    assert (both.config.name, both.config.train.epochs, both.config.train.lr) == ("yolo_lite-shuffle-1.5x", 100, 0.5)


def test_naming_the_recipe_changes_nothing() -> None:
    """`--config finetune` names what is taken by default: the image size stays that of the weights."""
    assert plan("data", config="finetune", weights=DEFAULT_WEIGHTS).config == plan("data").config
    assert plan("data").config.input.image_size == (416, 416)


def test_each_value_knows_where_it_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("train: {lr: 0.5}\ninput: {image_size: 64}\n")
    origins = plan("data", config=file, weights=DEFAULT_WEIGHTS, settings={"train.epochs": 3}).origins
    assert origins["train.lr"] == origins["input.image_size"] == str(file)
    assert origins["train.epochs"] == origins["data.path"] == "--set"
    assert origins["model.backbone"] == origins["input.mean"] == f"weights {DEFAULT_WEIGHTS}"
    assert "train.momentum" not in origins  # its default
    assert plan("data").origins["train.lr"] == "recipe finetune"


@pytest.mark.slow
def test_a_config_may_say_everything(coco_set: MakeSet, tmp_path: Path) -> None:
    """Data and start too, so that config.yaml of a run starts the same run again."""
    settings = {"data.classes": ["disc"], "data.fraction": 0.5}
    first = train(
        coco_set({"train": 8, "val": 4}), config=config_with(), settings=settings, out=tmp_path / "a", device="cpu"
    )
    again = train(config=first / "config.yaml", out=tmp_path / "b", device="cpu")
    assert (first / "results.csv").read_bytes() == (again / "results.csv").read_bytes()
    with pytest.raises(InputError, match="there is no data to train on"):
        train(config=config_with(), out=tmp_path / "c", device="cpu")


def test_a_config_with_the_name_of_a_classifier_trains_one(tmp_path: Path) -> None:
    assert plan("data", config="lenet").config.task == "classify"
    with pytest.raises(InputError, match=r"^lenet is the configuration of a classifier: use classify train"):
        plan("data", config="lenet", settings={"task": "detect"})


@pytest.mark.slow
def test_the_default_is_fine_tuned_on_a_new_class(coco_set: MakeSet, tmp_path: Path) -> None:
    data = coco_set({"train": 8, "val": 4}, hw=(128, 128))
    lines: list[str] = []
    settings = {"input.image_size": 128, "train.epochs": 2, "train.workers": 0, "train.batch_size": 4}
    out = train(data, settings=settings, out=tmp_path / "run", device="cpu", listener=Listener(say=lines.append))
    told = next(line for line in lines if line.startswith("starting from"))
    assert told.startswith("starting from yolo_lite-shuffle-1.5x-coco: new: disc")
    assert told.endswith("from scratch: --config nano --weights none")
    checkpoint = load_checkpoint(out / "best.pt")
    assert checkpoint.class_names == ("disc", "square")
    assert checkpoint.config.model.norm == "none"
    before = load_checkpoint(find_weights(DEFAULT_WEIGHTS)).weights
    moved = [name for name, value in checkpoint.weights.items() if not torch.equal(value, before[name].to(value.dtype))]
    assert len(moved) > 200  # biases as well: nothing but mean and deviation stands still
    assert not {"mean", "std"} & set(moved)


@pytest.mark.slow
def test_the_shuffle_network_learns_eight_images_by_heart(coco_set: MakeSet, tmp_path: Path) -> None:
    data = coco_set({"train": 8}, hw=(128, 128))
    annotations = data / "annotations"
    (annotations / "instances_val.json").write_text((annotations / "instances_train.json").read_text())
    settings = {
        "input.image_size": 128,
        "train.epochs": 25,
        "train.evaluate_every": 25,
        "train.workers": 0,
        "train.batch_size": 8,
        "train.precision": "fp32",
        "train.lr": 2e-3,
        "augment": "none",
    }
    out = train(data, settings=settings, out=tmp_path / "run", device="cpu")
    assert load_checkpoint(out / "best.pt").about["metrics"]["AP50"] > 0.9


def test_colours_that_the_device_changes_reach_network_teacher_and_sheet(
    coco_set: MakeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detection_task, "_shifts_colours", lambda device: True)
    config, cpu = config_with("augment={}", "train.seed=7"), torch.device("cpu")
    training_set = read_split(coco_set({"train": 3, "val": 1}), "train")
    dataset = training_inputs(config, training_set, device=cpu)
    batch = collate_boxes([dataset[0, index] for index in (2, 0)])
    limits = colour_limits(config.augment)
    expected = shift_hsv(batch.images, draw_shifts(limits, 7, progress=0.5, positions=torch.tensor([2, 0])))
    assert not torch.equal(expected, batch.images)

    network, seen = build_detector(config, 2).train(), []
    network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))

    def teacher(images: torch.Tensor, raw: object) -> Lesson:
        seen.append(images)
        raise StopIteration

    task = DetectionTask(config, training_set, val=training_set, device=cpu, teacher=teacher)  # type: ignore[arg-type]
    with pytest.raises(StopIteration):
        task.loss(network, batch, progress=0.5)
    assert len(seen) == 2
    assert all(torch.equal(images, expected) for images in seen)

    drawn = draw_shifts(limits, 7, progress=0.0, positions=torch.arange(3))
    shown = torch.stack([torch.from_numpy(one.image).permute(2, 0, 1) for one in task.samples()])
    assert torch.equal(shown, shift_hsv(torch.stack([dataset[0, index].image for index in range(3)]), drawn))


@pytest.mark.parametrize(("setting", "part"), [("loss.gamma", "class"), ("loss.dfl_weight", "dfl")])
def test_the_loss_heeds_its_settings(setting: str, part: str) -> None:
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    boxes, labels = torch.tensor([[[4.0, 4, 40, 40]]]), torch.tensor([[1]])
    batch = Batch(images, boxes, labels=labels, positions=torch.tensor([0]))
    nothing = DetectionSet((), ("a", "b"), category_ids=(1, 2), source="nothing")
    found = []
    for value in (0.0, 2.0):
        config = override_config(read_config(find_config("shuffle")), {setting: value, "model.norm": "none"})
        task = DetectionTask(config, nothing, val=nothing, device=torch.device("cpu"))
        found.append(float(task.loss(build_detector(config, 2), batch, progress=0.5)[part].detach()))
    assert found[1] > 0
    assert found[1] < 0.95 * found[0] if part == "class" else found[0] == 0


def test_the_threshold_of_the_best_f1_is_stored(finished_run: tuple[Path, Path]) -> None:
    """The oracle is an evaluation of best.pt as training evaluates."""
    for name in ("best.pt", "last.pt"):
        about = load_checkpoint(finished_run[0] / name).about
        best = evaluate(finished_run[0] / name, finished_run[1], device="cpu").metrics.best
        assert best is not None
        assert about["score_threshold"] == pytest.approx(best.score_threshold, abs=0.02)  # best.pt is rounded
        assert about["metrics"]["F1"] == pytest.approx(best.f1, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("known", "kept"), [(True, 0.4), (False, 0.0)])
def test_how_much_of_the_start_is_kept_follows_from_what_it_knows(
    finished_run: tuple[Path, Path], coco_set: MakeSet, tmp_path: Path, known: bool, kept: float
) -> None:
    start = load_checkpoint(finished_run[0] / "best.pt")
    if not known:
        start = dataclasses.replace(start, class_names=("ball", "box"))
    save_checkpoint(tmp_path / "start.pt", start)
    lines: list[str] = []
    settings = {"train.epochs": 1, "train.workers": 0, "input.image_size": [96, 128]}
    folder = train(
        coco_set(),
        weights=tmp_path / "start.pt",
        settings=settings,
        out=tmp_path / "run",
        listener=Listener(say=lines.append),
    )
    assert load_checkpoint(folder / "last.pt").config.train.keep_start == kept
    assert sum("mixed back in" in line for line in lines) == 1
    asked = train(
        tmp_path / "set",
        weights=tmp_path / "start.pt",
        settings={**settings, "train.keep_start": 0.2},
        out=tmp_path / "other",
    )
    assert load_checkpoint(asked / "last.pt").config.train.keep_start == 0.2


def test_a_negative_fraction_of_the_start_is_refused(coco_set: MakeSet, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"train.keep_start must not be negative, but for -1"):
        train(coco_set(), settings={"train.keep_start": -0.5, "train.epochs": 1}, out=tmp_path / "run")
