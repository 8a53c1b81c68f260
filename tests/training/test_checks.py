"""Before training: no part of a batch may leave batch normalisation with a single value per channel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.class_images import write_class_set
from tests.conftest import SMALL, write_coco_set
from yolo_lite.cli import main
from yolo_lite.config.resolve import override_config, read_config
from yolo_lite.errors import InputError
from yolo_lite.training.checks import check_it_learns, smallest_part
from yolo_lite.training.recipe import train, train_classifier

SINGLE = "batch normalisation cannot learn from a single value per channel"


@pytest.mark.parametrize(
    ("batch", "parts", "expected"), [(1, 1, 1), (4, 4, 1), (8, 4, 2), (7, 4, 1), (3, 8, 1), (16, 1, 16), (9, 2, 4)]
)
def test_the_smallest_part_is_that_of_the_loop(batch: int, parts: int, expected: int) -> None:
    edges = [round(batch * i / parts) for i in range(parts + 1)]
    assert smallest_part(batch, parts) == min(b - a for a, b in zip(edges, edges[1:]) if b > a) == expected


def _train(root: Path, **settings: Any) -> None:
    config = override_config(read_config(None), (*SMALL, "train.epochs=1", "input.image_size=32"))
    train(root, config=config, settings=settings, out=root / "run", device="cpu")


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        pytest.param({"train.batch_size": 1}, "use --batch-size 2 or more (now 1), or a larger", id="a batch of one"),
        pytest.param(
            {"train.batch_size": 4, "train.accumulate": 4},
            "use --batch-size 8 or more (now 4, with --accumulate 4), or a larger image size",
            id="parts of one",
        ),
        pytest.param(
            {"train.batch_size": 1, "input.image_size": 64, "augment.multi_scale": 0.5},
            "one image of 32 x 32 pixels (the smallest size that augment.multi_scale draws)",
            id="a small size at some step",
        ),
    ],
)
def test_a_detector_says_so_before_it_trains(
    settings: dict[str, Any], remedy: str, coco_set: Callable[..., Path]
) -> None:
    root = coco_set({"train": 4, "val": 2})
    with pytest.raises(InputError, match=SINGLE) as caught:
        _train(root, **settings)
    assert remedy in str(caught.value)
    assert not (root / "run").exists()


def test_one_training_image_asks_for_more(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"{SINGLE}.* add training images, or a larger image size"):
        _train(write_coco_set(tmp_path / "set", {"train": 1, "val": 1}))


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"train.batch_size": 2}, {"train.batch_size": 1, "input.image_size": 64}])
def test_two_values_are_enough(settings: dict[str, Any], coco_set: Callable[..., Path]) -> None:
    _train(coco_set({"train": 3, "val": 1}), **settings)


@pytest.mark.slow
def test_the_check_before_training_takes_parts_as_large_as_the_run(
    coco_set: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolo_lite.training.recipe.check_it_learns", check_it_learns)
    _train(coco_set({"train": 16, "val": 2}), **{"train.batch_size": 16, "train.accumulate": 8})


@pytest.mark.parametrize(
    ("model", "settings", "larger"),
    [("mlp", {"classifier.batch_norm": True}, False), ("yolo_lite-n-cls", {"input.image_size": 32}, True)],
)
def test_a_classifier_says_so_before_it_trains(
    model: str, settings: dict[str, Any], larger: bool, tmp_path: Path
) -> None:
    write_class_set(tmp_path / "set", {"train": {"disc": 3, "square": 3}, "val": {"disc": 1, "square": 1}})
    more = {"train.batch_size": 1, "train.epochs": 1, "train.workers": 0, **settings}
    with pytest.raises(InputError, match=SINGLE) as caught:
        train_classifier(
            tmp_path / "set", config=model, weights="none", settings=more, out=tmp_path / "run", device="cpu"
        )
    assert ("larger image size" in str(caught.value)) == larger
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("flag", ["--preflight", "--no-preflight"])
def test_the_command_exits_with_2(flag: str, coco_set: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    root = coco_set({"train": 4, "val": 2})
    given = ["--config", "nano", "--weights", "none", "--set", "pretrain.crops=0", "--set", "train.workers=0"]
    small = ["--image-size", "32", "--batch-size", "1", "--epochs", "1", "--device", "cpu", "--out", str(root / "run")]
    assert main(["train", "--data", str(root), *given, *small, flag]) == 2
    assert SINGLE in capsys.readouterr().err
