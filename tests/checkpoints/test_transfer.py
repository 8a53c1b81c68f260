"""Starting from other weights: which rows are copied, and from which class a new one starts."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from yolo_lite.checkpoints.checkpoint import Checkpoint, load_checkpoint
from yolo_lite.checkpoints.transfer import Likeness, most_alike, one_to_one, transfer, transfer_backbone
from yolo_lite.data.splits import read_split
from yolo_lite.models.build import build_detector
from yolo_lite.shipped import DEFAULT_WEIGHTS, find_weights


def test_fine_tuning_keeps_known_classes_by_name(finished_run: tuple[Path, Path]) -> None:
    checkpoint = load_checkpoint(finished_run[0] / "best.pt")
    model = build_detector(checkpoint.config, 3, seed=9)
    random = {name: value.clone() for name, value in model.state_dict().items()}
    told = transfer(model, ["square", "star", "disc"], checkpoint=checkpoint)
    assert told.summary == "kept square, disc; new: star"
    for level in range(3):
        name = f"head.class_branches.{level}.2.weight"
        mine, theirs = model.state_dict()[name], checkpoint.weights[name].float()
        assert torch.equal(mine[0], theirs[1])
        assert torch.equal(mine[2], theirs[0])
        assert torch.equal(mine[1], random[name][1])
    assert torch.equal(
        model.state_dict()["neck.lateral.0.0.weight"], checkpoint.weights["neck.lateral.0.0.weight"].float()
    )


def test_transfer_reads_half_precision(finished_run: tuple[Path, Path]) -> None:
    checkpoint: Checkpoint = load_checkpoint(finished_run[0] / "best.pt")
    model = build_detector(checkpoint.config, 2)
    assert transfer(model, list(checkpoint.class_names), checkpoint=checkpoint).summary == "kept disc, square"
    assert all(torch.equal(v, checkpoint.weights[k].to(v.dtype)) for k, v in model.state_dict().items())


def _renamed(checkpoint: Checkpoint, *names: str) -> Checkpoint:
    return Checkpoint(checkpoint.config, names, category_ids=checkpoint.category_ids, weights=checkpoint.weights)


def test_a_new_class_starts_from_the_class_it_is_taken_for(finished_run: tuple[Path, Path]) -> None:
    folder, data = finished_run
    knows = _renamed(load_checkpoint(folder / "best.pt"), "ball", "box")
    found = read_split(data, "train")
    assert found.class_names == ("disc", "square")
    likeness = most_alike(knows, found, settings=knows.config.input)
    assert likeness.starts == {"disc": "ball", "square": "box"}
    model = build_detector(knows.config, 2, seed=5)
    assert (
        transfer(model, found.class_names, checkpoint=knows, likeness=likeness).summary
        == "new: disc (from ball), square (from box)"
    )
    assert all(torch.equal(v, knows.weights[k].to(v.dtype)) for k, v in model.state_dict().items())


def test_known_classes_are_not_asked_about(finished_run: tuple[Path, Path]) -> None:
    folder, data = finished_run
    knows = _renamed(load_checkpoint(folder / "best.pt"), "disc", "box")
    assert most_alike(knows, read_split(data, "train"), settings=knows.config.input).starts == {"square": "box"}
    same = load_checkpoint(folder / "best.pt")
    assert most_alike(same, read_split(data, "train"), settings=same.config.input).starts == {}


def test_where_nothing_known_is_seen_a_class_starts_at_random(
    finished_run: tuple[Path, Path], coco_set: Callable[..., Path]
) -> None:
    checkpoint = load_checkpoint(finished_run[0] / "best.pt")
    blind: dict[str, Tensor] = {
        name: value - 30 if name.startswith("head.class_branches") and name.endswith("2.bias") else value
        for name, value in checkpoint.weights.items()
    }
    knows = Checkpoint(checkpoint.config, ("ball", "box"), category_ids=checkpoint.category_ids, weights=blind)
    assert most_alike(knows, read_split(coco_set(), "train"), settings=knows.config.input) == ({}, 0)


def test_familiarity_is_the_mean_score_of_the_classes_that_objects_start_from(finished_run: tuple[Path, Path]) -> None:
    """The same network knows its own classes as well as renamed ones, and half as well if one class has no start."""
    folder, data = finished_run
    found, own = read_split(data, "train"), load_checkpoint(folder / "best.pt")

    def familiarity(checkpoint: Checkpoint) -> float:
        return most_alike(checkpoint, found, settings=checkpoint.config.input).familiarity

    assert familiarity(own) > 0.5  # it was trained until it knew them
    assert familiarity(_renamed(own, "ball", "box")) == pytest.approx(familiarity(own))
    scores = [familiarity(_only_class(own, label)) for label in (0, 1)]
    assert sum(scores) == pytest.approx(familiarity(own), abs=0.02)
    # With new names the other class has no start; it still counts as a class.
    renamed = [familiarity(_renamed(_only_class(own, label), "ball", "box")) for label in (0, 1)]
    assert renamed == pytest.approx(scores, abs=0.01)


def _only_class(checkpoint: Checkpoint, label: int) -> Checkpoint:
    """Return the checkpoint without one class: its rows never give a score."""
    weights = dict(checkpoint.weights)
    for name, value in checkpoint.weights.items():
        if name.startswith("head.class_branches") and name.endswith("2.bias"):
            weights[name] = value.clone()
            weights[name][1 - label] = -30
    return dataclasses.replace(checkpoint, weights=weights)


@pytest.mark.slow
@pytest.mark.shared_data
def test_a_raccoon_is_taken_for_a_known_animal(shared_data: Path) -> None:
    checkpoint = load_checkpoint(find_weights(DEFAULT_WEIGHTS))
    likeness = most_alike(checkpoint, read_split(shared_data / "raccoon", "train"), settings=checkpoint.config.input)
    assert likeness.starts["raccoon"] in ("bear", "cat", "dog")


def test_pairs_are_made_from_the_highest_score_down() -> None:
    """Against trying every order of taking pairs: the one that is always the best of those left."""
    generator = torch.Generator().manual_seed(0)
    for rows, columns in ((1, 3), (3, 3), (4, 2), (5, 7)):
        scores = torch.rand(rows, columns, generator=generator)
        expected, left = {}, set(itertools.product(range(rows), range(columns)))
        while left:
            row, column = max(left, key=lambda pair: float(scores[pair]))
            if scores[row, column] >= 0.3:
                expected[row] = column
            left = {(r, c) for r, c in left if r != row and c != column}
        assert one_to_one(scores, 0.3) == expected


def test_of_equal_scores_the_first_class_chooses_first() -> None:
    assert one_to_one(torch.tensor([[0.5, 0.5], [0.5, 0.5]]), 0.05) == {0: 0, 1: 1}


def test_more_new_classes_than_known_ones_leave_some_without_a_pair() -> None:
    assert one_to_one(torch.tensor([[0.6], [0.9], [0.7]]), 0.05) == {1: 0}
    assert one_to_one(torch.zeros(3, 0), 0.05) == {}


def _draw_look_alikes(root: Path) -> Path:
    """Draw rings and ten-cornered nuts, which a detector of everyday things takes for the same kind of thing."""
    generator = np.random.default_rng(3)
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    images, annotations = [], []
    for number in range(1, 13):
        ground = generator.integers(70, 110, (192, 192, 3)).astype(np.uint8)
        image = Image.fromarray(ground)
        draw, left = ImageDraw.Draw(image), 12
        for category in (1, 2):
            r = int(generator.integers(30, 38))
            x, y = left + r, int(generator.integers(50, 140))
            corners = [(x + r * math.cos(k * math.pi / 5), y + r * math.sin(k * math.pi / 5)) for k in range(10)]
            if category == 1:
                draw.ellipse((x - r, y - r, x + r, y + r), fill=(205, 205, 210))
            else:
                draw.polygon(corners, fill=(205, 205, 210))
            draw.ellipse((x - r // 2, y - r // 2, x + r // 2, y + r // 2), fill=(50, 45, 40))
            box = [x - r, y - r, 2 * r, 2 * r]
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": category, "bbox": box})
            left += 92
        image.save(root / "images" / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "height": 192, "width": 192})
    categories = [{"id": 1, "name": "washer"}, {"id": 2, "name": "nut"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / "instances_train.json").write_text(json.dumps(content))
    return root


def test_two_new_classes_that_look_alike_never_start_from_the_same_known_one(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(find_weights("yolo_lite-shuffle-coco"))
    data = read_split(_draw_look_alikes(tmp_path / "set"), "train")
    settings = dataclasses.replace(checkpoint.config.input, image_size=(192, 192))
    alone = [_only(data, name) for name in data.class_names]
    favourites = [set(most_alike(checkpoint, one, settings=settings).starts.values()) for one in alone]
    assert favourites[0] == favourites[1] != set()  # the hard case is really there
    likeness = most_alike(checkpoint, data, settings=settings)
    assert len(likeness.starts) == 2
    assert len(set(likeness.starts.values())) == 2
    model = build_detector(checkpoint.config, 2)
    transfer(model, data.class_names, checkpoint=checkpoint, likeness=likeness)
    for layer in model.head.class_layers():
        assert not torch.equal(layer.weight[0], layer.weight[1])


def _only(data, name: str):  # type: ignore[no-untyped-def]
    from yolo_lite.data.classes import select_classes

    return select_classes(data, [name])


def test_a_known_class_that_the_data_has_is_not_given_away(finished_run: tuple[Path, Path]) -> None:
    """A new class that looks like a known one of the same set would be reported together with it."""
    folder, data = finished_run
    knows = _renamed(load_checkpoint(folder / "best.pt"), "disc", "box")
    found = read_split(data, "train")
    both = dataclasses.replace(found, class_names=("ball", "disc"))  # what is called disc here looks like a box
    assert most_alike(knows, found, settings=knows.config.input).starts == {"square": "box"}
    assert "disc" not in most_alike(knows, both, settings=knows.config.input).starts.values()


def test_images_are_counted_while_likeness_is_looked_for(finished_run: tuple[Path, Path]) -> None:
    folder, data = finished_run
    knows = _renamed(load_checkpoint(folder / "best.pt"), "ball", "box")
    counts: list[tuple[int, int]] = []
    most_alike(
        knows, read_split(data, "train"), settings=knows.config.input, on_image=lambda *count: counts.append(count)
    )
    assert counts == [(number, 8) for number in range(9)]


def test_the_rows_of_new_classes_are_fresh_and_no_others(finished_run: tuple[Path, Path]) -> None:
    checkpoint = load_checkpoint(finished_run[0] / "best.pt")
    model = build_detector(checkpoint.config, 3)
    taken = transfer(
        model, ["square", "star", "disc"], checkpoint=checkpoint, likeness=Likeness({"star": "square"}, 0.5)
    )
    layers = {f"head.class_branches.{level}.2.{kind}" for level in range(3) for kind in ("weight", "bias")}
    assert taken.fresh.keys() == layers
    assert all(rows.tolist() == [1] for rows in taken.fresh.values())
    assert taken.known == 2


def test_of_a_backbone_alone_everything_else_is_fresh(finished_run: tuple[Path, Path]) -> None:
    checkpoint = load_checkpoint(finished_run[0] / "best.pt")
    model = build_detector(checkpoint.config, 2)
    taken = transfer_backbone(model, checkpoint)
    assert not any(name.startswith("backbone.") for name in taken.fresh)
    weights = model.state_dict()
    assert all(rows.tolist() == list(range(len(weights[name]))) for name, rows in taken.fresh.items())
    parameters = {name for name, _ in model.named_parameters() if not name.startswith("backbone.")}
    assert parameters <= taken.fresh.keys()


def test_a_known_class_is_kept_however_its_name_is_written(finished_run: tuple[Path, Path]) -> None:
    folder, data = finished_run
    knows = _renamed(load_checkpoint(folder / "best.pt"), "DISC", "box")
    found = read_split(data, "train")
    likeness = most_alike(knows, found, settings=knows.config.input)
    assert likeness.starts == {"square": "box"}
    model = build_detector(knows.config, 2, seed=5)
    start = transfer(model, found.class_names, checkpoint=knows, likeness=likeness)
    assert start.summary == "kept disc (known as DISC); new: square (from box)"
    assert start.known == 1
    assert all(torch.equal(v, knows.weights[k].to(v.dtype)) for k, v in model.state_dict().items())
    assert all(rows.tolist() == [1] for rows in start.fresh.values())


def test_classes_without_objects_do_not_make_a_set_less_familiar(finished_run: tuple[Path, Path]) -> None:
    """A YAML file may name all classes of COCO for images of two."""
    folder, data = finished_run
    knows, found = load_checkpoint(folder / "best.pt"), read_split(data, "train")
    names = (*found.class_names, *(f"unused {number}" for number in range(8)))
    more = dataclasses.replace(found, class_names=names, category_ids=tuple(range(10)))
    assert most_alike(knows, more, settings=knows.config.input) == most_alike(knows, found, settings=knows.config.input)
