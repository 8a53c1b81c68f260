"""Which loss a head gets, with which assigner and weights."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from yolo_lite.config.schema import LossConfig
from yolo_lite.errors import InputError
from yolo_lite.losses.assign import static, task_aligned
from yolo_lite.losses.criterion import Criterion, loss_weights
from yolo_lite.losses.detection import detection_loss
from yolo_lite.losses.yolov1 import yolov1_loss
from yolo_lite.models.darknet.head import DarknetHead
from yolo_lite.models.heads.anchor_free import AnchorFreeHead, DistributionHead
from yolo_lite.models.heads.grid import DenseGridHead, GridHead
from yolo_lite.structures.batches import Batch

CFG = "[net]\n[convolutional]\nfilters=8\n[yolo]\nclasses=3\nnum=1\nanchors=10,14\n"
HEADS = {
    "anchor_free": lambda: AnchorFreeHead([8], [16], classes=3, width=8, depth=1),
    "distribution": lambda: DistributionHead([8], [16], classes=3, depth=1),
    "darknet": lambda: DarknetHead(CFG, [8], strides=[16]),
    "grid": lambda: GridHead([8], [16], classes=3, boxes=2),
    "dense_grid": lambda: DenseGridHead([8], [16], classes=3, boxes=2, cells=4),
}
every_head = pytest.mark.parametrize("name", HEADS)


def predictions(name: str):
    """Return a head, what it makes of two random feature maps of 4 x 4 cells, and three boxes to compare that with."""
    torch.manual_seed(0)
    head = HEADS[name]().eval()
    with torch.no_grad():
        raw = head([torch.randn(2, 8, 4, 4)])
    boxes = torch.tensor([[[4.0, 4, 40, 36], [20, 30, 60, 62]], [[8, 2, 30, 50], [0, 0, 0, 0]]])
    labels = torch.tensor([[0, 2], [1, -1]])
    images = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    return head, raw, Batch(images, boxes, labels=labels, positions=torch.arange(2))


@every_head
def test_each_head_gets_the_loss_of_its_family(name):
    head, raw, batch = predictions(name)
    parts = Criterion(head, LossConfig())(raw, batch, progress=0.5)
    expected = {"coord", "object", "no_object", "class"} if "grid" in name else {"class", "box", "l1"}
    assert set(parts) == expected | ({"dfl"} if name == "distribution" else set())
    assert all(value.ndim == 0 and value >= 0 for value in parts.values())


def test_the_grid_heads_get_the_loss_of_yolov1_unchanged():
    head, raw, batch = predictions("grid")
    expected = yolov1_loss(raw, batch, decode=head.decode, boxes_per_cell=2)
    parts = Criterion(head, LossConfig())(raw, batch, progress=0.0)
    assert {name: float(value) for name, value in parts.items()} == {k: float(v) for k, v in expected.items()}


@pytest.mark.parametrize(("progress", "dynamic"), [(0.0, False), (0.299, False), (0.3, True), (1.0, True)])
def test_the_static_assigner_works_for_the_first_share_of_the_steps(progress, dynamic):
    head, raw, batch = predictions("anchor_free")
    settings = LossConfig(static_share=0.3, top_k=3, alpha=0.5, beta=2.0, box="giou", gamma=2.0)

    def assign(candidates, targets):
        if not dynamic:
            return static(candidates, targets)
        return task_aligned(candidates, targets, top_k=3, alpha=0.5, beta=2.0)

    expected = detection_loss(raw, batch, head=head, assign=assign, box_kind="giou", gamma=2.0)
    parts = Criterion(head, settings)(raw, batch, progress=progress)
    assert {name: float(value) for name, value in parts.items()} == {k: float(v) for k, v in expected.items()}
    other = Criterion(head, settings)(raw, batch, progress=0.0 if dynamic else 1.0)
    assert float(other["box"]) != float(parts["box"])  # the two assigners do differ here


def test_the_static_assigner_stays_where_it_is_asked_for():
    head, raw, batch = predictions("anchor_free")
    criterion = Criterion(head, LossConfig(assigner="static"))
    first, last = (criterion(raw, batch, progress=progress) for progress in (0.0, 1.0))
    assert {name: float(value) for name, value in first.items()} == {k: float(v) for k, v in last.items()}


@every_head
def test_every_part_has_its_own_weight(name):
    weights = {f.name: float(2 + i) for i, f in enumerate(dataclasses.fields(LossConfig)) if f.name.endswith("_weight")}
    head, raw, batch = predictions(name)
    criterion = Criterion(head, LossConfig(**weights))
    parts = criterion(raw, batch, progress=0.0)
    weighted = criterion.weighted(parts)
    assert list(weighted) == list(parts)
    for part, value in parts.items():
        assert float(weighted[part]) == pytest.approx(weights[f"{part}_weight"] * float(value))


def test_every_weight_of_the_configuration_belongs_to_a_part():
    named = {f.name.removesuffix("_weight") for f in dataclasses.fields(LossConfig) if f.name.endswith("_weight")}
    assert set(loss_weights(LossConfig())) == named


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"assigner": "nearest"}, "loss.assigner must be one of static, task_aligned, got 'nearest'"),
        ({"box": "wiou"}, "loss.box must be one of .*ciou.*, got 'wiou'"),
    ],
)
def test_settings_that_do_not_exist_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Criterion(HEADS["anchor_free"](), LossConfig(**settings))


class Custom(nn.Module):
    """A head that nobody knows, and that says what it wants."""

    loss, bins, boxes_per_cell = "yolov1", 0, 2
    decode = staticmethod(GridHead.decode)


def test_a_head_is_asked_not_recognised():
    _, raw, batch = predictions("grid")
    assert set(Criterion(Custom(), LossConfig())(raw, batch, progress=0.5)) == {"coord", "object", "no_object", "class"}
