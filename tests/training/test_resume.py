"""A resumed run follows its data: fingerprints say whether that is the same, and if not, what differs is said."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.conftest import SMALL, draw_image, write_coco_set
from yolo_lite.checkpoints.checkpoint import load_checkpoint
from yolo_lite.config.describe import every_setting
from yolo_lite.config.resolve import override_config, read_config
from yolo_lite.config.schema import Config
from yolo_lite.errors import InputError
from yolo_lite.training.recipe import resume, train, train_classifier
from yolo_lite.training.resume import MAY_DIFFER
from yolo_lite.training.task import Listener


@pytest.fixture(autouse=True)
def no_drawings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("draw_sheet", "plot_results"):
        monkeypatch.setattr(f"yolo_lite.training.folder.{name}", lambda content, path: path.touch())


def tiny(*overrides: str) -> Config:
    size = ("input.image_size=[32, 32]", "train.batch_size=4", "train.epochs=2", "pretrain.image_size=32")
    return override_config(read_config(None), [*SMALL, *size, "pretrain.crops=0", *overrides])


def begun(begin: Callable[[Listener], object]) -> None:
    """Begin a run that is interrupted after its first epoch."""

    def stop(row: Any, best: bool) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        begin(Listener(on_epoch=stop))


def detector(data: Path, out: Path, *settings: str, **options: Any) -> Path:
    begun(lambda listener: train(data, config=tiny(*settings), out=out, device="cpu", listener=listener, **options))
    return out


def images_of(count: int, seed: int = 0) -> list[tuple[Image.Image, list[Any]]]:
    generator = np.random.default_rng(seed)
    return [draw_image(generator, (64, 64), 1) for _ in range(count)]


def write_yolo_set(root: Path) -> Path:
    for split, count in (("train", 8), ("val", 4)):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for number, (image, ((name, x, y, width, height),)) in enumerate(images_of(count)):
            image.save(root / "images" / split / f"{number}.png")
            label = 0 if name == "disc" else 1
            row = f"{label} {(x + width / 2) / 64} {(y + height / 2) / 64} {width / 64} {height / 64}\n"
            (root / "labels" / split / f"{number}.txt").write_text(row)
    (root / "data.yaml").write_text("names: [disc, square]\ntrain: images/train\nval: images/val\n")
    return root


def write_merged_set(root: Path) -> Path:
    for seed, name in enumerate(("first", "second")):
        write_coco_set(root / name, {"train": 4, "val": 2}, seed=seed, hw=(64, 64), objects=1)
    (root / "both.yaml").write_text("train: [first, second]\nval: [first, second]\n")
    return root / "both.yaml"


def write_coco(root: Path) -> Path:
    return write_coco_set(root, {"train": 8, "val": 4}, hw=(64, 64), objects=1)


def write_without_val(root: Path) -> Path:
    """Write a set of which training sets validation images aside by the seed."""
    return write_coco_set(root, {"train": 12}, hw=(64, 64), objects=1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "write",
    [write_coco, write_yolo_set, write_merged_set, write_without_val],
)
def test_a_detector_goes_on_with_data_that_has_moved(write: Callable[[Path], Path], tmp_path: Path) -> None:
    """The new path is what last.pt and best.pt then say, at once, so that a second resume needs it no more."""
    data = write(tmp_path / "old")
    whole = train(data, config=tiny(), out=tmp_path / "whole", device="cpu")
    out = detector(data, tmp_path / "run")
    shutil.move(tmp_path / "old", tmp_path / "new")
    moved = tmp_path / "new" / data.relative_to(tmp_path / "old")
    with pytest.raises(InputError, match=rf"^{data} does not exist; if the images have moved, use --resume --data"):
        resume(out, device="cpu")

    def stop(report: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resume(out, device="cpu", listener=Listener(on_step=stop), settings={"data.path": moved})
    for name in ("last.pt", "best.pt"):
        assert load_checkpoint(out / name).about["data"] == str(moved)
    assert load_checkpoint(out / "last.pt").config.data.path == str(moved)
    resume(out, device="cpu")
    one, other = (load_checkpoint(folder / "last.pt") for folder in (whole, out))
    assert all(torch.equal(value, other.weights[name]) for name, value in one.weights.items())
    assert (whole / "results.csv").read_bytes() == (out / "results.csv").read_bytes()


def write_classes(root: Path) -> Path:
    """Write folders of classes without splits."""
    for name, colour in (("red", (200, 0, 0)), ("blue", (0, 0, 200))):
        (root / name).mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (28, 28), colour).rotate(number).save(root / name / f"{number}.png")
    return root


def write_archive(root: Path) -> Path:
    write_classes(root / "set")
    shutil.make_archive(str(root / "classes"), "gztar", root / "set")
    return root / "classes.tar.gz"


@pytest.mark.slow
@pytest.mark.parametrize("write", [write_classes, write_archive, write_coco])
def test_a_classifier_goes_on_with_data_that_has_moved(write: Callable[[Path], Path], tmp_path: Path) -> None:
    data, settings = write(tmp_path / "old"), {"train.epochs": 2, "train.workers": 0, "train.precision": "fp32"}
    out = tmp_path / "run"
    begun(
        lambda listener: train_classifier(
            data, config="lenet", weights=None, settings=settings, out=out, device="cpu", listener=listener
        )
    )
    shutil.move(tmp_path / "old", tmp_path / "new")
    moved = tmp_path / "new" / data.relative_to(tmp_path / "old")
    resume(out, device="cpu", settings={"data.path": str(moved)})
    assert load_checkpoint(out / "last.pt").training["epoch"] == 2
    assert load_checkpoint(out / "last.pt").about["data"] == str(moved)


@pytest.mark.slow
@pytest.mark.parametrize("finished_run", [0, 1, 2], ids=["in the crops", "after them", "in the detector"])
def test_a_run_that_learns_crops_first_goes_on_with_data_that_has_moved(finished_run: int, tmp_path: Path) -> None:
    """Its crops come from the same images, so that both runs follow; the change is noticed in the crops as well."""
    data, out, seen = write_coco(tmp_path / "old"), tmp_path / "run", [0]

    def stop(row: Any, best: bool) -> None:
        seen[0] += 1
        if seen[0] == finished_run + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        config = tiny("pretrain.crops=2")
        train(data, config=config, out=out, device="cpu", listener=Listener(on_epoch=stop))
    shutil.move(data, tmp_path / "new")
    other = write_coco_set(tmp_path / "other", {"train": 8, "val": 4}, seed=5, hw=(64, 64), objects=1)
    with pytest.raises(
        InputError, match="is not the data that the run in .*run was started on: train has other file names, siz"
    ):
        resume(out, device="cpu", settings={"data.path": other})
    resume(out, device="cpu", settings={"data.path": tmp_path / "new"})
    assert load_checkpoint(out / "last.pt").training["epoch"] == 2
    assert load_checkpoint(out / "last.pt").config.data.path == str(tmp_path / "new")


@pytest.mark.slow
def test_the_folder_of_unlabelled_images_may_move_too(finished_run: tuple[Path, Path], tmp_path: Path) -> None:
    data = write_coco(tmp_path / "set")
    (tmp_path / "more").mkdir()
    for number, (image, _) in enumerate(images_of(3, seed=8)):
        image.save(tmp_path / "more" / f"{number}.png")
    teacher = f"train.teacher={finished_run[0] / 'best.pt'}"
    out = detector(data, tmp_path / "run", teacher, settings={"data.unlabelled": tmp_path / "more"})
    shutil.move(tmp_path / "more", tmp_path / "others")
    with pytest.raises(InputError, match="more does not exist; .*--resume --unlabelled NEW_PATH"):
        resume(out, device="cpu")
    resume(out, device="cpu", settings={"data.unlabelled": tmp_path / "others"})
    assert load_checkpoint(out / "last.pt").config.data.unlabelled == str(tmp_path / "others")


def edited(root: Path, split: str, edit: Callable[[dict[str, Any]], object]) -> None:
    file = root / "annotations" / f"instances_{split}.json"
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


def lose_an_image(content: dict[str, Any]) -> None:
    gone = content["images"].pop()["id"]
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] != gone]


@pytest.mark.parametrize(
    "splits", [*(pytest.param((split,), marks=pytest.mark.slow) for split in ("train", "val")), ("train", "val")]
)
@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (
            lambda content: content["annotations"][0]["bbox"].__setitem__(0, 0.5),
            "SPLIT has other file names, sizes, box",
        ),
        (
            lambda content: content["annotations"].pop(),
            r"SPLIT was \d images, \d boxes, .*, and is \d images, \d boxes",
        ),
        (lose_an_image, r"SPLIT was \d images, \d boxes, .*, and is \d images?, \d boxes"),
    ],
)
def test_data_that_differs_is_refused_with_the_difference(
    splits: tuple[str, ...], edit: Callable[[dict[str, Any]], object], told: str, tmp_path: Path
) -> None:
    data = write_coco(tmp_path / "old")
    out = detector(data, tmp_path / "run")
    before = (out / "last.pt").read_bytes()
    shutil.copytree(data, tmp_path / "new")
    for split in splits:
        edited(tmp_path / "new", split, edit)
    with pytest.raises(InputError) as caught:
        resume(out, device="cpu", settings={"data.path": tmp_path / "new"})
    for split in splits:
        caught.match(told.replace("SPLIT", split))
    other = {"train": "val", "val": "train"}[splits[0]]
    assert len(splits) == 2 or f"{other} " not in str(caught.value).partition("started on: ")[2]
    assert (out / "last.pt").read_bytes() == before


def test_other_class_names_are_named(tmp_path: Path) -> None:
    data = write_coco(tmp_path / "old")
    out = detector(data, tmp_path / "run")
    for split in ("train", "val"):
        edited(data, split, lambda content: content["categories"][0].update(name="ball"))
    with pytest.raises(InputError, match="its classes were disc, square, and are ball, square"):
        resume(out, device="cpu")


@pytest.mark.slow
def test_other_loading_processes_change_nothing_but_the_time(tmp_path: Path) -> None:
    data = write_coco(tmp_path / "set")
    whole = train(data, config=tiny("augment={}"), out=tmp_path / "whole", device="cpu")
    out = detector(data, tmp_path / "run", "augment={}")
    resume(out, device="cpu", settings={"train.workers": 1})
    one, other = (load_checkpoint(folder / "last.pt") for folder in (whole, out))
    assert all(torch.equal(value, other.weights[name]) for name, value in one.weights.items())
    assert other.config.train.workers == 1


@pytest.mark.parametrize(
    ("key", "value", "stored"),
    [
        ("train.lr", 0.5, "0.001"),
        ("train.batch_size", 3, "4"),
        ("data.fraction", 0.5, "1"),
        ("data.classes", ["disc"], "[]"),
        ("input.image_size", 96, "[32, 32]"),
    ],
)
def test_a_setting_that_changes_the_result_may_not_differ(key: str, value: object, stored: str, tmp_path: Path) -> None:
    out = detector(write_coco(tmp_path / "set"), tmp_path / "run")
    with pytest.raises(InputError, match=rf"^--resume: this run was started with {key} {re.escape(stored)}, not "):
        resume(out, device="cpu", settings={key: value})


def test_settings_that_may_differ_exist() -> None:
    assert {setting.key for setting in every_setting()} >= MAY_DIFFER


@pytest.mark.slow
def test_a_run_on_a_relative_path_goes_on_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_coco(tmp_path / "set")
    monkeypatch.chdir(tmp_path)
    out = detector(Path("set"), tmp_path / "run")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    resume(out, device="cpu")
    assert load_checkpoint(out / "last.pt").training["epoch"] == load_checkpoint(out / "last.pt").config.train.epochs
