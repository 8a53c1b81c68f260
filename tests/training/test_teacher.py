"""Training with a teacher: who teaches what, that it helps, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from yolo_lite.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from yolo_lite.config.resolve import config_from_dict
from yolo_lite.config.schema import Config
from yolo_lite.data.splits import add_unlabelled, read_split
from yolo_lite.errors import InputError
from yolo_lite.models.build import build_detector
from yolo_lite.models.yolo import Yolo
from yolo_lite.training.recipe import resume, train
from yolo_lite.training.task import Listener
from yolo_lite.training.tasks.teacher import Teacher, cost, describe

SMALL = {
    "model": {"stem_width": 4, "widths": [4, 8, 8, 8], "depths": [1, 1, 1, 1], "neck_width": 8, "head_width": 8},
    "input": {"image_size": [64, 64]},
}
CPU = torch.device("cpu")
Sets = Callable[..., Path]


def config(**train: object) -> Config:
    settings = {"epochs": 1, "batch_size": 4, "workers": 0, "precision": "fp32", **train}
    return config_from_dict({**SMALL, "train": settings}, "test")


def stored(path: Path, names: tuple[str, ...], seed: int = 3) -> tuple[Path, Yolo]:
    torch.manual_seed(seed)
    model = build_detector(config(), len(names), seed=seed).eval()
    save_checkpoint(
        path,
        Checkpoint(
            config(), names, category_ids=tuple(range(len(names))), weights=model.state_dict(), about={}, training={}
        ),
    )
    return path, model


def test_a_lesson_is_what_the_teacher_says_of_common_classes(tmp_path: Path) -> None:
    """Classes are matched by name, whatever their order; of the same network the cells are the same."""
    path, model = stored(tmp_path / "t.pt", ("square", "moon", "disc"))
    teacher = Teacher(str(path), ("disc", "star", "square"), device=CPU)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        raw = model(images)
        lesson = teacher(images, raw)
    assert lesson.classes.tolist() == [0, 2]
    assert lesson.known.all()
    torch.testing.assert_close(lesson.scores, raw.class_logits.sigmoid()[..., [2, 0]], atol=1e-4, rtol=1e-3)
    boxes = model.decode(raw, torch.arange(len(raw.points)).expand(2, -1))
    torch.testing.assert_close(lesson.boxes, boxes, atol=1e-2, rtol=1e-3)
    assert not lesson.scores.requires_grad


def test_a_class_is_taught_however_its_name_is_written() -> None:
    teacher = Teacher("yolo_lite-pico-voc5", ["dog", "Cat"], device=torch.device("cpu"))
    assert (teacher.mine.tolist(), teacher.theirs.tolist()) == ([1], [2])  # of person, car, cat, bus, train
    line = describe(teacher, "yolo_lite-pico-voc5", class_names=["dog", "Cat"])
    assert line == "taught by yolo_lite-pico-voc5: Cat (known as cat); it does not know dog"


def test_what_a_teacher_costs_is_told_once(tmp_path: Path) -> None:
    path, model = stored(tmp_path / "t.pt", ("square",))
    said: list[str] = []
    teacher = Teacher(str(path), ("square",), device=CPU, say=said.append)
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    with torch.no_grad():
        raw = model(images)
    for count in range(1, 40):
        teacher(images, raw)
        assert len(said) == (count >= 26)
    assert said[0].startswith("the teacher takes ")
    # of steps of 4, 5, 4 and 10 seconds the lessons take 1, 1, 1 and 9: shares of 0.25, 0.2, 0.25, 0.9
    times = [(0.0, 1.0), (4.0, 5.0), (9.0, 10.0), (13.0, 22.0), (23.0, 24.0)]
    assert cost(times) == "the teacher takes 25% of the time: a step takes 1.33 times as long as without it"


def test_the_shipped_detector_teaches_cells_of_three_grids() -> None:
    teacher = Teacher("yolo_lite-shuffle-coco", ("car", "tractor"), device=CPU)
    student = build_detector(config(), 2).eval()
    images = torch.zeros(1, 3, 96, 64, dtype=torch.uint8)
    with torch.no_grad():
        lesson = teacher(images, student(images))
    assert lesson.known.all()
    assert lesson.scores.shape == (1, 12 * 8 + 6 * 4 + 3 * 2, 1)
    with pytest.raises(InputError, match="knows none of the classes tractor, but person"):
        Teacher("yolo_lite-shuffle-coco", ("tractor",), device=CPU)


@pytest.mark.slow
def test_training_with_a_teacher_tells_and_resumes_bit_for_bit(coco_set: Sets, tmp_path: Path) -> None:
    path, _ = stored(tmp_path / "t.pt", ("disc", "square"))
    root = coco_set({"train": 8, "val": 4})
    images = tmp_path / "more" / "deeper"
    images.mkdir(parents=True)
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 256, (50, 70, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(images / f"{number}.png")
    said: list[str] = []
    rows: list[dict[str, float]] = []
    settings = config(epochs=2, teacher=str(path))
    more = tmp_path / "more"
    whole = train(root, config=settings, out=tmp_path / "whole", device="cpu", settings={"data.unlabelled": more})

    class Stop(Exception):
        pass

    def stop(row: dict[str, float], best: bool) -> None:
        rows.append(dict(row))
        raise Stop

    with pytest.raises(Stop):
        listener = Listener(said.append, on_epoch=stop)  # type: ignore[arg-type]
        train(
            root,
            config=settings,
            out=tmp_path / "cut",
            device="cpu",
            listener=listener,
            settings={"data.unlabelled": more},
        )
    assert any(line == "taught by t.pt: disc, square" for line in said)
    assert any(
        "12 images" in line and "background" not in line and line.count("4 images without labels") == 1 for line in said
    )
    assert rows[0]["loss_teach_class"] > 0
    assert rows[0]["loss_teach_box"] > 0
    first, second = (
        load_checkpoint(run / "last.pt").weights for run in (whole, resume(tmp_path / "cut", device="cpu"))
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_a_teacher_brings_the_student_nearer(coco_set: Sets, tmp_path: Path) -> None:
    """With its own labels switched off the student comes to agree with the teacher."""
    path, teacher = stored(tmp_path / "t.pt", ("disc", "square"))
    for layer in teacher.head.class_layers():  # type: ignore[operator]
        layer.bias.data += 4  # so that it has something to say
    save_checkpoint(
        path,
        Checkpoint(
            config(), ("disc", "square"), category_ids=(0, 1), weights=teacher.state_dict(), about={}, training={}
        ),
    )
    root = coco_set({"train": 8, "val": 4})
    quiet = {"class_weight": 0, "box_weight": 0, "l1_weight": 0}
    settings = {"epochs": 40, "batch_size": 4, "workers": 0, "precision": "fp32", "teacher": str(path), "lr": 0.01}
    settings["evaluate_every"] = 40
    chosen = config_from_dict({**SMALL, "loss": quiet, "train": settings, "augment": "none"}, "test")
    rows: list[dict[str, float]] = []
    listener = Listener(on_epoch=lambda row, best: rows.append(dict(row)))
    train(root, config=chosen, out=tmp_path / "run", device="cpu", listener=listener)
    assert rows[-1]["loss_teach_class"] < 0.5 * rows[0]["loss_teach_class"]
    assert rows[-1]["loss_teach_box"] < rows[0]["loss_teach_box"]


def test_images_without_labels_ask_for_nothing(coco_set: Sets, tmp_path: Path) -> None:
    data = read_split(coco_set({"train": 3}), "train")
    (tmp_path / "more").mkdir()
    Image.new("RGB", (30, 20)).save(tmp_path / "more" / "a.JPG", format="JPEG")
    (tmp_path / "more" / "notes.txt").write_text("no image")
    more = add_unlabelled(data, tmp_path / "more")
    assert len(more.records) == 4
    assert more.records[3].hw == (20, 30)
    assert more.records[3].unlabelled == (0, 1)
    assert len({record.image_id for record in more.records}) == 4
    with pytest.raises(InputError, match="is not a folder; --unlabelled takes a folder"):
        add_unlabelled(data, tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images in the folder"):
        add_unlabelled(data, tmp_path / "empty")


def test_unlabelled_images_need_a_teacher(coco_set: Sets, tmp_path: Path) -> None:
    root = coco_set({"train": 4, "val": 2})
    with pytest.raises(InputError, match="--unlabelled images need a --teacher"):
        train(root, config=config(), out=tmp_path / "run", device="cpu", settings={"data.unlabelled": root / "images"})
