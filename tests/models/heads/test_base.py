"""What the package asks of every head."""

from __future__ import annotations

import pytest
import torch

from tests.losses.test_criterion import HEADS, predictions

every_head = pytest.mark.parametrize("name", HEADS)


@every_head
def test_a_head_keeps_to_the_protocol(name):
    head, raw, _ = predictions(name)
    assert head.strides == (16,)
    assert head.loss in ("assigned", "yolov1")
    assert head.bins == {"distribution": 8}.get(name, 0)
    assert head.boxes_per_cell == (2 if "grid" in name else 0)
    assert head.fixed_classes == (3 if name == "darknet" else None)
    boxes = head.decode(raw, torch.zeros(2, 5, dtype=torch.int64))
    assert (boxes.shape, boxes.dtype) == ((2, 5, 4), torch.float32)
    for layer in head.class_layers():
        assert layer.weight.shape[0] % 3 == 0


@every_head
def test_cell_probabilities_are_those_of_the_classes_whatever_the_boxes_score(name):
    head, raw, _ = predictions(name)
    probabilities = head.cell_probabilities(raw)
    assert probabilities.shape == raw.class_logits.shape
    assert probabilities.dtype == torch.float32
    assert probabilities.min() >= 0
    assert probabilities.max() <= 1
    if "grid" in name:  # whose outputs after the five of the box are the cell's class probabilities
        assert torch.equal(probabilities, raw.box_outputs[..., 5:].clamp(0, 1))
        assert torch.equal(probabilities[:, 0::2], probabilities[:, 1::2])  # shared by the two boxes of a cell
    else:
        assert torch.equal(probabilities, torch.sigmoid(raw.class_logits))
