"""YOLOv1's heads and backbone: how outputs are laid out, what boxes they mean, and what is built."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.conftest import SMALL
from yolo_lite import Detector
from yolo_lite.checkpoints.checkpoint import load_checkpoint
from yolo_lite.config.resolve import override_config, read_config
from yolo_lite.config.schema import Config
from yolo_lite.errors import InputError
from yolo_lite.evaluation.detector import evaluate
from yolo_lite.losses.yolov1 import yolov1_loss
from yolo_lite.media.images import read_image
from yolo_lite.models.backbones import YOLOv1Backbone
from yolo_lite.models.build import build_detector
from yolo_lite.models.heads.grid import VALUES, DenseGridHead, GridHead, grid_predictions
from yolo_lite.ops import box_iou
from yolo_lite.predict.postprocess import postprocess
from yolo_lite.shipped import find_config
from yolo_lite.structures.batches import Batch, RawPredictions
from yolo_lite.training.recipe import resume, train
from yolo_lite.training.task import Listener

MakeSet = Callable[..., Path]


def maps(batch: int = 2, boxes: int = 2, classes: int = 3, hw: tuple[int, int] = (2, 3)) -> tuple[torch.Tensor, ...]:
    """Draw a map of boxes and one of classes."""
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(batch, count, *hw, generator=generator) for count in (boxes * VALUES, classes))


def test_predictions_are_laid_out_cell_by_cell_and_box_by_box() -> None:
    """Walk over images, rows, columns and boxes, and read the two maps where each point should have come from."""
    box_map, class_map = maps()
    raw = grid_predictions(box_map, class_map, stride=16, boxes=2)
    assert raw.box_outputs.shape == (2, 12, 8)
    assert raw.class_logits.shape == (2, 12, 3)
    for b in range(2):
        place = 0
        for row in range(2):
            for column in range(3):
                for box in range(2):
                    values = [box_map[b, 5 * box + i, row, column].item() for i in range(5)]
                    classes = [class_map[b, c, row, column].item() for c in range(3)]
                    assert raw.box_outputs[b, place].tolist() == values + classes
                    scores = [values[4] * probability for probability in classes]
                    assert raw.class_logits[b, place].sigmoid().tolist() == pytest.approx(scores, abs=1e-5)
                    assert raw.points[place].tolist() == [16 * column, 16 * row]
                    assert raw.strides[place] == 16
                    place += 1


def test_scores_stay_between_0_and_1_and_logits_finite() -> None:
    """Outputs are linear: of what lies outside 0..1 the nearest end counts, for confidence and probability alike."""
    box_map, class_map = torch.zeros(1, 5, 1, 4), torch.zeros(1, 1, 1, 4)
    box_map[0, 4, 0] = torch.tensor([3.0, -1.0, -2.0, 0.5])
    class_map[0, 0, 0] = torch.tensor([2.0, -1.0, 0.5, 4.0])
    logits = grid_predictions(box_map, class_map, stride=32, boxes=1).class_logits
    assert bool(logits.isfinite().all())
    assert logits.sigmoid().flatten().tolist() == pytest.approx([1, 0, 0, 0.5], abs=2e-6)


# Cells of 16 pixels, 3 across and 2 down, so an image 48 wide and 32 high. Of (x, y, root w, root h) at the cell (column,
# row): the centre is 16 (column + x), 16 (row + y), the sides 48 w^2 and 32 h^2.
@pytest.mark.parametrize(
    ("place", "outputs", "box"),
    [
        pytest.param(0, (0.5, 0.5, 0.5, 0.5), (8 - 6, 8 - 4, 8 + 6, 8 + 4), id="first cell"),
        pytest.param(5, (0.25, 0.75, 1, 1), (36 - 24, 28 - 16, 36 + 24, 28 + 16), id="last cell, not clipped"),
        pytest.param(2, (0, 1, 0.5, 0), (32 - 6, 16, 32 + 6, 16), id="on a corner of its cell, without height"),
        pytest.param(3, (-1, 2, 0.25, 0.5), (-16 - 1.5, 48 - 4, -16 + 1.5, 48 + 4), id="outside its cell"),
        pytest.param(0, (0.5, 0.5, -0.5, 0.5), (8 - 6, 8 - 4, 8 + 6, 8 + 4), id="a negative root is squared"),
    ],
)
def test_decode_worked_by_hand(place: int, outputs: tuple[float, ...], box: tuple[float, ...]) -> None:
    raw = grid_predictions(torch.zeros(1, 5, 2, 3), torch.zeros(1, 1, 2, 3), stride=16, boxes=1)
    raw.box_outputs[0, place, :4] = torch.tensor(outputs)
    for head in (GridHead, DenseGridHead):
        found = head.decode(raw, torch.tensor([[place]]))
        assert found.dtype == torch.float32
        assert found[0, 0].tolist() == pytest.approx(box)


def test_decode_picks_points_for_each_image_by_itself() -> None:
    raw = grid_predictions(*maps(), stride=16, boxes=2)
    every = GridHead.decode(raw, torch.arange(12).expand(2, -1))
    indices = torch.tensor([[5, 11, 5], [0, 3, 7]])
    found = GridHead.decode(raw, indices)
    assert torch.equal(found, torch.stack([every[b, indices[b]] for b in range(2)]))
    assert GridHead.decode(raw, torch.zeros(2, 0, dtype=torch.int64)).shape == (2, 0, 4)


def test_half_precision_outputs_decode_in_float32() -> None:
    box_map, class_map = (item.bfloat16() for item in maps())
    raw = grid_predictions(box_map, class_map, stride=16, boxes=2)
    assert raw.class_logits.dtype == raw.points.dtype == torch.float32
    assert GridHead.decode(raw, torch.zeros(2, 1, dtype=torch.int64)).dtype == torch.float32


def test_the_head_uses_the_coarsest_level_alone() -> None:
    torch.manual_seed(0)
    head = GridHead((4, 6), (16, 32), classes=3, boxes=2)
    levels = [torch.rand(2, 4, 4, 6), torch.rand(2, 6, 2, 3)]
    raw = head(levels)
    assert raw.points.amax(0).tolist() == [64, 32]
    assert raw.strides.unique().tolist() == [32]
    levels[0] += 1
    assert torch.equal(head(levels).box_outputs, raw.box_outputs)


def test_both_heads_begin_with_boxes_in_the_middle_of_their_cells() -> None:
    """With weights of zero only the biases are left: the middle of the cell, 0.4^2 of the image, no confidence."""
    heads = (GridHead((4,), (32,), classes=3, boxes=2), DenseGridHead((4,), (32,), classes=3, boxes=2, cells=2))
    for head in heads:
        for layer in (head.boxes, head.classes):
            nn.init.zeros_(layer.weight)
        raw = head.eval()([torch.rand(1, 4, 2, 2)])
        wanted = torch.tensor([0.5, 0.5, 0.4, 0.4, 0.0]).expand(1, 8, 5)
        assert torch.equal(raw.box_outputs[..., :5], wanted)


def test_the_dense_head_lays_the_same_values_out_as_the_grid_head() -> None:
    """Give the dense layers the maps as biases and no weights, and compare with what the grid head makes of them."""
    box_map, class_map = maps(batch=1, hw=(2, 2))
    head = DenseGridHead((4,), (16,), classes=3, boxes=2, cells=2).eval()
    for layer, values in ((head.boxes, box_map), (head.classes, class_map)):
        nn.init.zeros_(layer.weight)
        layer.bias.data.copy_(values.flatten())
    found = head([torch.rand(1, 4, 2, 2)])
    wanted = grid_predictions(box_map, class_map, stride=16, boxes=2)
    for mine, theirs in zip(found, wanted):
        assert torch.equal(mine, theirs)


def test_a_cell_of_the_dense_head_sees_the_whole_image() -> None:
    torch.manual_seed(0)
    heads: dict[str, nn.Module] = {
        "grid": GridHead((4,), (16,), classes=3, boxes=2),
        "dense": DenseGridHead((4,), (16,), classes=3, boxes=2, cells=3),
    }
    level = torch.rand(1, 4, 3, 3)
    changed = level.clone()
    changed[..., 2, 2] += 1
    moved = {}
    for name, head in heads.items():
        before, after = (head.eval()([item]).box_outputs for item in (level, changed))
        moved[name] = (after - before).abs().sum(-1)[0].nonzero()[:, 0].tolist()
    assert moved == {"grid": [16, 17], "dense": list(range(18))}


@pytest.mark.parametrize("hw", [(3, 2), (2, 3), (4, 4)], ids=str)
def test_the_dense_head_refuses_another_size(hw: tuple[int, int]) -> None:
    """As InputError, since the size is the user's (--image-size): the command line prints it as one line."""
    head = DenseGridHead((4,), (32,), classes=3, boxes=2, cells=2)
    with pytest.raises(InputError, match=f"takes 64 x 64 pixels only, got {hw[0] * 32} x {hw[1] * 32}"):
        head([torch.zeros(1, 4, *hw)])


def test_class_layers_are_those_whose_outputs_are_classes() -> None:
    head = GridHead((4,), (32,), classes=3, boxes=2)
    assert head.class_layers() == [head.classes]
    assert head.classes.out_channels == 3
    dense = DenseGridHead((4,), (32,), classes=3, boxes=2, cells=2)
    assert dense.class_layers() == [dense.classes]
    assert dense.classes.out_features == 3 * 2 * 2


def test_the_small_configuration_is_a_grid_on_the_backbone_of_nano() -> None:
    config = read_config(find_config("yolov1"))
    with torch.device("meta"):
        model = build_detector(config, 20)
        raw = model(torch.empty(1, 3, 320, 320))
    assert raw.box_outputs.shape == (1, 10 * 10 * 2, 5 + 20)
    nano = read_config(find_config("nano")).model
    same = {"backbone", "stem_width", "widths", "depths"}
    assert {name: getattr(config.model, name) for name in same} == {name: getattr(nano, name) for name in same}


def test_the_faithful_configuration_is_the_network_of_the_paper() -> None:
    """Figure 3: 24 convolutions, two fully connected layers, 7 x 7 x 30 values for 20 classes.

    The first of the dense layers alone has 7 * 7 * 1024 * 4096 = 205,520,896 weights, the convolutions have about 60 M.
    """
    config = read_config(find_config("yolov1_faithful"))
    with torch.device("meta"):
        model = build_detector(config, 20).eval()
        raw = model(torch.empty(2, 3, 448, 448))
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    dense = [module for module in model.modules() if isinstance(module, nn.Linear)]
    assert len(convolutions) == 24
    assert [layer.in_features for layer in dense] == [7 * 7 * 1024, 4096, 4096]
    assert sum(layer.out_features for layer in dense[1:]) == 7 * 7 * 30
    assert raw.box_outputs.shape == (2, 7 * 7 * 2, 5 + 20)
    assert raw.class_logits.shape == (2, 98, 20)
    assert 265e6 < sum(parameter.numel() for parameter in model.parameters()) < 280e6


# Figure 3, layer by layer: kernel, output channels, stride; a pool of 2 after the 1st, 2nd, 6th and 16th.
_FIGURE = (
    *((7, 64, 2), (3, 192, 1), (1, 128, 1), (3, 256, 1), (1, 256, 1), (3, 512, 1)),
    *((1, 256, 1), (3, 512, 1)) * 4,
    *((1, 512, 1), (3, 1024, 1)),
    *((1, 512, 1), (3, 1024, 1)) * 2,
    *((3, 1024, 1), (3, 1024, 2), (3, 1024, 1), (3, 1024, 1)),
)


def test_the_backbone_is_figure_3_layer_by_layer() -> None:
    with torch.device("meta"):
        backbone = YOLOv1Backbone()
        (level,) = backbone(torch.empty(1, 3, 128, 192))
    assert level.shape == (1, 1024, 2, 3)
    assert (backbone.channels, backbone.strides) == ((1024,), (64,))
    found, pools = [], []
    for layer in backbone.layers:
        if isinstance(layer, nn.MaxPool2d):
            pools.append(len(found))
            continue
        convolution = layer[0]
        found.append((convolution.kernel_size[0], convolution.out_channels, convolution.stride[0]))
        assert isinstance(layer[-1], nn.LeakyReLU)
        assert layer[-1].negative_slope == 0.1
    assert tuple(found) == _FIGURE
    assert pools == [1, 2, 6, 16]


def tiny(*settings: str) -> Config:
    """Return the configuration yolov1, narrow and at 64 x 64."""
    size = "input.image_size=[64, 64]"
    return override_config(read_config(find_config("yolov1")), [*SMALL[1:], size, *settings])


def test_one_image_is_learnt_and_its_box_found() -> None:
    model = build_detector(tiny("model.norm=none"), 2)
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(90, 150, (1, 3, 64, 64), generator=generator, dtype=torch.uint8)
    images[0, :, 10:34, 24:56] = torch.tensor([220, 40, 40], dtype=torch.uint8)[:, None, None]
    box = torch.tensor([[24.0, 10, 56, 34]])
    batch = Batch(images, box[None], labels=torch.tensor([[1]]), positions=torch.zeros(1, dtype=torch.int64))
    weights = {"coord": 5.0, "object": 1.0, "no_object": 0.5, "class": 1.0}  # the paper's
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    losses = []
    for _ in range(60):
        parts = yolov1_loss(model(images), batch, decode=model.decode, boxes_per_cell=2)
        loss = torch.stack([weights[name] * value for name, value in parts.items()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 20
    with torch.no_grad():
        rows, counts = postprocess(model(images), model.decode, score_threshold=0.5, iou_threshold=0.5)
    assert counts.tolist() == [1]
    assert box_iou(rows[0, :1, :4], box).item() > 0.8
    assert rows[0, 0, 5] == 1


def test_train_evaluate_and_detect_with_the_configuration_by_name(coco_set: MakeSet, tmp_path: Path) -> None:
    data = coco_set({"train": 4, "val": 2})
    settings: dict[str, object] = {
        "input.image_size": [64, 64],
        "model.stem_width": 8,
        "model.widths": [16, 32, 64, 96],
        "train.workers": 0,
        "train.batch_size": 2,
        "train.epochs": 1,
        "train.precision": "fp32",
    }
    run = train(data, config="yolov1", settings=settings, out=tmp_path / "run", device="cpu")
    best = load_checkpoint(run / "best.pt")
    assert (best.config.name, best.config.model.head, best.config.model.boxes_per_cell) == ("yolov1", "grid", 2)
    header = (run / "results.csv").read_text().splitlines()[0]
    assert all(f"loss_{part}" in header for part in ("coord", "object", "no_object", "class"))
    scored = evaluate(run / "best.pt", data, device="cpu", settings={"train.workers": 0})
    assert 0 <= scored.metrics.numbers["AP"] <= 1
    image = sorted((data / "images").iterdir())[0]
    found = Detector(run / "best.pt", device="cpu", score_threshold=0)(read_image(image))
    assert found.class_names == ("disc", "square")
    assert np.isfinite(found.boxes).all()
    with pytest.raises(InputError, match="has finished its 1 epoch;"):
        resume(run, device="cpu")


@pytest.mark.slow
def test_resume_ends_bit_for_bit_as_an_unbroken_run(coco_set: MakeSet, tmp_path: Path) -> None:
    data, config = coco_set({"train": 4, "val": 2}), tiny("train.epochs=2", "train.batch_size=2", "augment={mosaic: 0}")

    def stop(row: dict[str, float], best: bool) -> None:
        if row["epoch"] == 1:
            raise KeyboardInterrupt

    whole = train(data, config=config, out=tmp_path / "whole", device="cpu")
    with pytest.raises(KeyboardInterrupt):
        train(data, config=config, out=tmp_path / "broken", device="cpu", listener=Listener(on_epoch=stop))
    broken = resume(tmp_path / "broken", device="cpu")
    one, other = (load_checkpoint(folder / "last.pt").weights for folder in (whole, broken))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [("disc", "square"), ("square",)], ids=["same classes", "the second alone"])
def test_fine_tuning_the_dense_head_keeps_the_outputs_of_known_classes(
    coco_set: MakeSet, tmp_path: Path, classes: tuple[str, ...]
) -> None:
    """Of 2 x 2 cells a class has four outputs in a row: disc 0 to 3, square 4 to 7."""
    data = coco_set({"train": 2, "val": 1})
    config = tiny("model.head=dense_grid", "model.cells=2", "train.epochs=1", "train.lr=1e-9")
    first = train(data, config=config, out=tmp_path / "first", device="cpu")
    again = train(
        data,
        weights=first / "best.pt",
        config=config,
        out=tmp_path / "again",
        device="cpu",
        settings={"data.classes": classes},
    )
    before, after = (load_checkpoint(folder / "best.pt") for folder in (first, again))
    assert after.class_names == classes
    rows = [4 * before.class_names.index(name) + cell for name in classes for cell in range(4)]
    for name in ("head.classes.weight", "head.classes.bias"):
        kept = before.weights[name][rows]
        torch.testing.assert_close(after.weights[name].float(), kept.float(), rtol=1e-2, atol=1e-4)


def test_the_weights_of_the_loss_come_from_the_configuration(coco_set: MakeSet) -> None:
    from yolo_lite.structures.datasets import DetectionSet
    from yolo_lite.training.tasks.detection import DetectionTask

    nothing = DetectionSet((), ("disc", "square"), category_ids=(7, 3), source="nowhere")
    model = build_detector(tiny(), 2).eval()
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    boxes = torch.tensor([[[8.0, 8, 40, 40]]])
    batch = Batch(images, boxes, labels=torch.tensor([[0]]), positions=torch.zeros(1, dtype=torch.int64))

    def parts(*settings: str) -> dict[str, float]:
        task = DetectionTask(tiny(*settings), nothing, val=nothing, device=torch.device("cpu"))
        return {name: value.item() for name, value in task.loss(model, batch, progress=0.5).items()}

    raw: RawPredictions = model(images)
    plain = {
        name: value.item() for name, value in yolov1_loss(raw, batch, decode=model.decode, boxes_per_cell=2).items()
    }
    paper = {"coord": 5, "object": 1, "no_object": 0.5, "class": 1}
    assert parts() == pytest.approx({name: paper[name] * value for name, value in plain.items()}, rel=1e-5)
    doubled = parts("loss.coord_weight=10", "loss.object_weight=2", "loss.no_object_weight=1", "loss.class_weight=2")
    assert doubled == pytest.approx({name: 2 * paper[name] * value for name, value in plain.items()}, rel=1e-5)


def test_a_run_with_the_dense_head_at_another_size_is_refused_in_one_line(coco_set: MakeSet, tmp_path: Path) -> None:
    config = tiny("model.head=dense_grid", "model.cells=3", "train.epochs=1")
    with pytest.raises(InputError, match="takes 96 x 96 pixels only, got 64 x 64"):
        train(coco_set({"train": 2, "val": 1}), config=config, out=tmp_path / "r", device="cpu")
