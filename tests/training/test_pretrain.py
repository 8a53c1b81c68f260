"""The backbone learns cut-out objects first: from which pieces, what the detector takes over, and stopping in the middle."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import SMALL
from tests.data.layouts import images_of
from yolo_lite.checkpoints.checkpoint import load_checkpoint
from yolo_lite.config.resolve import override_config, read_config
from yolo_lite.config.schema import Config
from yolo_lite.data.crops import BACKGROUND, MIN_CROP, MOST_COVERED, background_pieces, cut_objects
from yolo_lite.data.splits import read_crops_to_train, read_train_and_val
from yolo_lite.errors import InputError
from yolo_lite.models.build import build_detector
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.records import ImageRecord
from yolo_lite.training.budget import Pace
from yolo_lite.training.plan import plan
from yolo_lite.training.pretrain import pretraining_of
from yolo_lite.training.recipe import resume, train
from yolo_lite.training.task import Listener

MakeSet = Callable[..., Path]


def config_with(*overrides: str) -> Config:
    crops = ["pretrain.crops=2", "pretrain.image_size=32", "pretrain.batch_size=8", "train.epochs=2"]
    return override_config(read_config(None), [*SMALL, *crops, *overrides])


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return dict(load_checkpoint(path).weights)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# The pieces


def scene(count: int = 40) -> DetectionSet:
    """Return records of images with one to four boxes, some of which are crowds."""
    generator, records = np.random.default_rng(0), []
    for number in range(count):
        corner = generator.uniform(0, 150, (generator.integers(1, 5), 2))
        boxes = np.concatenate([corner, corner + generator.uniform(10, 60, corner.shape)], 1).clip(0, [200, 160] * 2)
        crowd = generator.random(len(boxes)) < 0.2
        labels, areas = np.zeros(len(boxes), np.int64), np.ones(len(boxes))
        records.append(
            ImageRecord(
                Path(f"{number}.jpg"), number, hw=(160, 200), boxes=boxes, labels=labels, crowd=crowd, areas=areas
            )
        )
    return DetectionSet(tuple(records), ("thing",), category_ids=(1,), source="drawn")


def test_background_lies_in_its_image_and_shows_no_object() -> None:
    data = scene()
    found = background_pieces(data, 1, seed=0)
    objects = sum(int((~record.crowd).sum()) for record in data.records)
    assert 0.7 * objects < len(found) <= objects + len(data.records)
    by_path = {record.path: record for record in data.records}
    for piece in found:
        assert piece.label == 1
        assert piece.box is not None
        left, top, right, bottom = piece.box
        assert 0 <= left < right <= 200
        assert 0 <= top < bottom <= 160
        assert min(right - left, bottom - top) >= MIN_CROP
        for box in by_path[piece.content].boxes:  # type: ignore[index]
            wide = min(right, box[2]) - max(left, box[0])
            high = min(bottom, box[3]) - max(top, box[1])
            smaller = min((right - left) * (bottom - top), (box[2] - box[0]) * (box[3] - box[1]))
            assert max(wide, 0) * max(high, 0) <= MOST_COVERED * smaller + 1e-9


def test_background_is_drawn_by_the_seed_and_each_image_by_itself() -> None:
    data = scene()
    assert background_pieces(data, 1, seed=0) == background_pieces(data, 1, seed=0)
    assert background_pieces(data, 1, seed=0) != background_pieces(data, 1, seed=1)


def test_an_image_full_of_objects_or_with_unmarked_ones_gives_no_background() -> None:
    data = scene(3)
    whole = {"boxes": np.array([[0.0, 0, 200, 160]]), "labels": np.array([0]), "areas": np.array([32_000.0])}
    full = dataclasses.replace(data.records[0], **whole, crowd=np.array([True]))
    unmarked = dataclasses.replace(data.records[1], unlabelled=(0,))
    records = (full, unmarked, data.records[2])
    found = background_pieces(dataclasses.replace(data, records=records), 1, seed=0)
    assert {piece.content for piece in found} == {data.records[2].path}


def test_the_pieces_come_from_the_images_of_the_detectors_training_alone(coco_set: MakeSet) -> None:
    data = coco_set({"train": 8, "val": 4})
    detected = read_train_and_val(images_of(str(data), fraction=0.5), seed=0)[:2]
    pieces = read_crops_to_train(images_of(str(data), fraction=0.5), seed=0)[:2]
    for split, cut in zip(detected, pieces):
        assert cut.class_names == (*split.class_names, BACKGROUND)
        assert {piece.content for piece in cut.records} <= {record.path for record in split.records}
        objects = [piece for piece in cut.records if piece.label < len(split.class_names)]
        assert objects == list(cut_objects(split).records)
    assert len({piece.content for piece in pieces[0].records}) == 4


def test_objects_that_are_all_too_small_are_said_and_leave_no_folder(coco_set: MakeSet, tmp_path: Path) -> None:
    data = coco_set()
    for file in (data / "annotations").glob("*.json"):
        content = json.loads(file.read_text())
        for row in content["annotations"]:
            row["bbox"] = [*row["bbox"][:2], 5, 5]
        file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"every object of .* has a side under 8 pixels.*--set pretrain.crops=0"):
        train(data, config=config_with(), out=tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


# The run


def stop_at(accuracy: bool, epoch: int) -> Listener:
    def stop(row: object, best: bool) -> None:
        if row["epoch"] == epoch and ("lr" in row) and (("loss_box" not in row) == accuracy):  # type: ignore[index, operator]
            raise KeyboardInterrupt

    return Listener(on_epoch=stop)


def test_the_detector_starts_with_what_the_backbone_learnt(coco_set: MakeSet, tmp_path: Path) -> None:
    lines: list[str] = []
    config = config_with("train.lr=1e-12", "train.epochs=1", "pretrain.lr=0.01")
    folder = train(coco_set(), config=config, out=tmp_path / "run", device="cpu", listener=Listener(say=lines.append))
    finished_run, detector = weights_of(folder / "crops" / "last.pt"), weights_of(folder / "last.pt")
    random = build_detector(config, 2, seed=config.train.seed).state_dict()
    kernels = [name for name in finished_run if name.startswith("backbone.") and finished_run[name].ndim == 4]
    assert len(kernels) > 10
    for name in kernels:
        torch.testing.assert_close(detector[name], finished_run[name], rtol=1e-4, atol=1e-6)
        assert not torch.allclose(detector[name], random[name], rtol=1e-2), name
    other = [name for name in random if name.startswith("neck.") and random[name].ndim == 4]
    assert all(torch.allclose(detector[name], random[name], rtol=1e-4, atol=1e-6) for name in other)
    about = load_checkpoint(folder / "crops" / "last.pt")
    assert about.class_names == ("disc", "square", BACKGROUND)
    assert any("cut out" in line and "background" in line for line in lines)
    assert any(line.startswith("pretraining finished; starting from") for line in lines)
    assert load_checkpoint(folder / "best.pt").config.pretrain.crops == 2


@pytest.mark.parametrize(
    ("accuracy", "epoch"),
    [
        pytest.param(True, 1, marks=pytest.mark.slow, id="in the crops"),
        pytest.param(True, 2, marks=pytest.mark.slow, id="after them"),
        pytest.param(False, 1, marks=pytest.mark.slow, id="in the detector"),
    ],
)
def test_resume_ends_bit_for_bit_as_an_unbroken_run(
    accuracy: bool, epoch: int, coco_set: MakeSet, tmp_path: Path
) -> None:
    data, config = coco_set(), config_with("augment={}", "train.batch_size=4")
    whole = train(data, config=config, out=tmp_path / "whole", device="cpu")
    with pytest.raises(KeyboardInterrupt):
        train(data, config=config, out=tmp_path / "broken", device="cpu", listener=stop_at(accuracy, epoch))
    broken = resume(tmp_path / "broken", device="cpu")
    for name in ("last.pt", "best.pt", "crops/last.pt"):
        assert same(weights_of(whole / name), weights_of(broken / name)), name
    assert (whole / "results.csv").read_text() == (broken / "results.csv").read_text()


def test_a_run_stopped_before_the_first_epoch_of_the_crops_leaves_no_folder(coco_set: MakeSet, tmp_path: Path) -> None:
    def stop(report: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(coco_set(), config=config_with(), out=tmp_path / "run", device="cpu", listener=Listener(on_step=stop))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_single_class_is_told_from_background(coco_set: MakeSet, tmp_path: Path) -> None:
    config = config_with("train.epochs=1")
    folder = train(coco_set(), config=config, out=tmp_path / "run", device="cpu", settings={"data.classes": ["disc"]})
    assert load_checkpoint(folder / "crops" / "last.pt").class_names == ("disc", BACKGROUND)
    assert load_checkpoint(folder / "last.pt").class_names == ("disc",)


@pytest.mark.slow
def test_minutes_bound_the_pretraining_too(coco_set: MakeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a pace that is told, not measured, however slow the machine: 27 s for the crops, 25 for an epoch of them."""
    monkeypatch.setattr("yolo_lite.training.recipe.measure_pace", lambda *arguments, **settings: Pace(5.0, 5.0))
    config = config_with("pretrain.crops=500")
    data = coco_set()
    folder = train(data, config=config, out=tmp_path / "run", device="cpu", settings={"train.minutes": 3.0})
    assert 1 <= load_checkpoint(folder / "crops" / "last.pt").training["epoch"] <= 4
    few = train(
        data,
        config=config_with("pretrain.crops=1"),
        out=tmp_path / "few",
        device="cpu",
        settings={"train.minutes": 3.0},
    )
    assert load_checkpoint(few / "crops" / "last.pt").training["epoch"] == 1


def test_weights_that_are_given_need_no_pretraining(finished_run: tuple[Path, Path], tmp_path: Path) -> None:
    folder, data = finished_run
    out = train(
        data, weights=folder / "best.pt", config=config_with("train.epochs=1"), out=tmp_path / "run", device="cpu"
    )
    assert not (out / "crops").exists()


def test_the_inner_run_is_that_of_the_same_network_and_machine() -> None:
    data = {"path": "data", "classes": ["disc"], "fraction": 0.5, "difficult": True}
    same = {"seed": 5, "precision": "fp32", "cache": "none", "workers": 3, "deterministic": True}
    colours = {"mean": [1, 2, 3], "std": [4, 5, 6], "max_16bit": 4095}
    own = {"minutes": 20, "weights": "other.pt", "accumulate": 2, "freeze": "backbone"}
    sections = {"data": data, "train": {**same, **own}, "input": colours}
    asked = override_config(config_with(), sections)
    inner = pretraining_of(asked)
    assert inner.task == "classify"
    assert inner.model == asked.model
    assert inner.data == dataclasses.replace(asked.data, crops=True)
    assert all(getattr(inner.train, name) == value for name, value in same.items())
    assert all(getattr(inner.input, name) == getattr(asked.input, name) for name in colours)
    assert inner.train.minutes == pytest.approx(3.0)
    assert (inner.train.weights, inner.train.accumulate, inner.train.freeze) == ("", 1, "none")
    assert (inner.input.image_size, inner.train.epochs, inner.train.batch_size) == ((32, 32), 2, 8)


def test_a_backbone_that_no_classifier_has_is_refused_before_anything_is_done(
    coco_set: MakeSet, tmp_path: Path
) -> None:
    settings = {"model.backbone": "yolov1", "model.neck": "none", "model.head": "grid"}
    with pytest.raises(InputError, match=r"pretrain.crops needs one of the backbones csp, shuffle, got yolov1"):
        plan(coco_set(), config=config_with(), settings=settings)
