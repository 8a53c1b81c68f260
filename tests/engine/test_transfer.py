"""Starting from other weights: which rows are copied, and from which class a new one starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from yolo_lite.data.discover import read_split
from yolo_lite.engine.checkpoint import Checkpoint, load_checkpoint
from yolo_lite.engine.transfer import most_alike, transfer
from yolo_lite.models.build import build_detector


def test_fine_tuning_keeps_known_classes_by_name(learnt: tuple[Path, Path]) -> None:
    checkpoint = load_checkpoint(learnt[0] / "best.pt")
    model = build_detector(checkpoint.config, 3, seed=9)
    random = {name: value.clone() for name, value in model.state_dict().items()}
    told = transfer(model, ["square", "star", "disc"], checkpoint)
    assert told == "kept square, disc; new: star"
    for level in range(3):
        name = f"head.class_branches.{level}.2.weight"
        mine, theirs = model.state_dict()[name], checkpoint.weights[name].float()
        assert torch.equal(mine[0], theirs[1])
        assert torch.equal(mine[2], theirs[0])
        assert torch.equal(mine[1], random[name][1])
    assert torch.equal(
        model.state_dict()["neck.lateral.0.0.weight"], checkpoint.weights["neck.lateral.0.0.weight"].float()
    )


def test_transfer_reads_half_precision(learnt: tuple[Path, Path]) -> None:
    checkpoint: Checkpoint = load_checkpoint(learnt[0] / "best.pt")
    model = build_detector(checkpoint.config, 2)
    assert transfer(model, list(checkpoint.class_names), checkpoint) == "kept disc, square"
    assert all(torch.equal(v, checkpoint.weights[k].to(v.dtype)) for k, v in model.state_dict().items())


def _renamed(checkpoint: Checkpoint, *names: str) -> Checkpoint:
    return Checkpoint(checkpoint.config, names, checkpoint.category_ids, checkpoint.weights)


def test_a_new_class_starts_from_the_class_it_is_taken_for(learnt: tuple[Path, Path]) -> None:
    folder, data = learnt
    knows = _renamed(load_checkpoint(folder / "best.pt"), "ball", "box")
    found = read_split(data, "train")
    assert found.class_names == ("disc", "square")
    likeness = most_alike(knows, found, knows.config.input)
    assert likeness == {"disc": "ball", "square": "box"}
    model = build_detector(knows.config, 2, seed=5)
    assert transfer(model, found.class_names, knows, likeness) == "new: disc (from ball), square (from box)"
    assert all(torch.equal(v, knows.weights[k].to(v.dtype)) for k, v in model.state_dict().items())


def test_known_classes_are_not_asked_about(learnt: tuple[Path, Path]) -> None:
    folder, data = learnt
    knows = _renamed(load_checkpoint(folder / "best.pt"), "disc", "box")
    assert most_alike(knows, read_split(data, "train"), knows.config.input) == {"square": "box"}
    same = load_checkpoint(folder / "best.pt")
    assert most_alike(same, read_split(data, "train"), same.config.input) == {}


def test_where_nothing_known_is_seen_a_class_starts_at_random(
    learnt: tuple[Path, Path], coco_set: Callable[..., Path]
) -> None:
    checkpoint = load_checkpoint(learnt[0] / "best.pt")
    blind: dict[str, Tensor] = {
        name: value - 30 if name.startswith("head.class_branches") and name.endswith("2.bias") else value
        for name, value in checkpoint.weights.items()
    }
    knows = Checkpoint(checkpoint.config, ("ball", "box"), checkpoint.category_ids, blind)
    assert most_alike(knows, read_split(coco_set(), "train"), knows.config.input) == {}


@pytest.mark.shared_data
def test_a_raccoon_is_taken_for_a_known_animal(shared_data: Path) -> None:
    from yolo_lite.engine.weights import DEFAULT_WEIGHTS, find_weights

    checkpoint = load_checkpoint(find_weights(DEFAULT_WEIGHTS))
    likeness = most_alike(checkpoint, read_split(shared_data / "raccoon", "train"), checkpoint.config.input)
    assert likeness["raccoon"] in ("bear", "cat", "dog")
