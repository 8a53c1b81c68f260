"""The detection head: its points, its boxes, its first scores."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from yolo_lite.models.heads.anchor_free import AnchorFreeHead, grid_points
from yolo_lite.structures.batches import RawPredictions


def make_head(classes: int = 3) -> AnchorFreeHead:
    torch.manual_seed(0)
    return AnchorFreeHead((4, 6, 8), (8, 16, 32), classes=classes, width=5, depth=1)


def features(hw: tuple[int, int], batch: int = 2) -> list[Tensor]:
    """Return feature maps of an image for the head above."""
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(batch, channels, hw[0] // stride, hw[1] // stride, generator=generator)
        for channels, stride in ((4, 8), (6, 16), (8, 32))
    ]


# An image 64 high and 96 wide has 8 x 12 = 96, 4 x 6 = 24 and 2 x 3 = 6 cells, 126 in all. The first cell of stride 8
# spans 0..8, so its centre is (4, 4); the second is to the right; the 13th begins the second row; the last of each level
# ends at (96, 64).
@pytest.mark.parametrize(
    ("place", "point", "stride"),
    [
        pytest.param(0, (4, 4), 8, id="first of stride 8"),
        pytest.param(1, (12, 4), 8, id="its right neighbour"),
        pytest.param(11, (92, 4), 8, id="end of the first row"),
        pytest.param(12, (4, 12), 8, id="start of the second row"),
        pytest.param(95, (92, 60), 8, id="last of stride 8"),
        pytest.param(96, (8, 8), 16, id="first of stride 16"),
        pytest.param(102, (8, 24), 16, id="second row of stride 16"),
        pytest.param(119, (88, 56), 16, id="last of stride 16"),
        pytest.param(120, (16, 16), 32, id="first of stride 32"),
        pytest.param(122, (80, 16), 32, id="end of the first row of stride 32"),
        pytest.param(125, (80, 48), 32, id="last of all"),
    ],
)
def test_points_lie_at_cell_centres_row_by_row(place: int, point: tuple[int, int], stride: int) -> None:
    raw = make_head()(features((64, 96)))
    assert raw.points.shape == (126, 2)
    assert raw.strides.shape == (126,)
    assert raw.points.dtype == raw.strides.dtype == torch.float32
    assert tuple(raw.points[place].tolist()) == point
    assert raw.strides[place].item() == stride


@pytest.mark.parametrize("hw", [(64, 64), (64, 96), (96, 64)], ids=str)
def test_the_head_answers_once_a_cell(hw: tuple[int, int]) -> None:
    raw = make_head()(features(hw))
    cells = sum((hw[0] // stride) * (hw[1] // stride) for stride in (8, 16, 32))
    assert raw.box_outputs.shape == (2, cells, 4)
    assert raw.class_logits.shape == (2, cells, 3)
    assert len(raw.points) == len(raw.strides) == cells


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_grid_points_agrees_with_a_loop(offset: float) -> None:
    wanted = [[(column + offset) * 4, (row + offset) * 4] for row in range(3) for column in range(5)]
    assert grid_points(torch.zeros(1, 2, 3, 5), 4, offset=offset).tolist() == wanted
    assert grid_points(torch.zeros(1, 2, 0, 5), 4, offset=offset).shape == (0, 2)


def test_an_answer_belongs_to_its_own_cell() -> None:
    """Disturb one cell: without depth (1x1 only) just the answer at that cell's place may change."""
    torch.manual_seed(0)
    head = AnchorFreeHead((4, 6, 8), (8, 16, 32), classes=3, width=4, depth=1).eval()
    for branch in (*head.class_branches, *head.box_branches):
        kernel = branch[0][0].weight
        kernel.data[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0  # a 3x3 that sees its own cell alone
    plain = features((64, 96), batch=1)
    before = head(plain)
    # row 3, column 7 of stride 8 is place 3 * 12 + 7; row 2, column 1 of stride 16 is 96 + 2 * 6 + 1; row 1, column 2 of
    # stride 32 is 120 + 1 * 3 + 2
    for level, row, column, place in ((0, 3, 7, 43), (1, 2, 1, 109), (2, 1, 2, 125)):
        changed = [item.clone() for item in plain]
        changed[level][:, :, row, column] += 1
        after = head(changed)
        for name in ("class_logits", "box_outputs"):
            difference = (getattr(after, name) - getattr(before, name)).abs().sum(-1)[0]
            assert difference.nonzero()[:, 0].tolist() == [place], name


# softplus(0) = log 2, softplus(log(e - 1)) = 1, softplus(log(e^2 - 1)) = 2, softplus(-100) = 0, softplus(100) = 100.
_ONE, _TWO, _LOG2 = math.log(math.e - 1), math.log(math.e**2 - 1), math.log(2)


@pytest.mark.parametrize(
    ("outputs", "point", "stride", "box"),
    [
        pytest.param((_ONE, _ONE, _ONE, _ONE), (20, 12), 8, (12, 4, 28, 20), id="one stride each way"),
        pytest.param((_ONE, _TWO, _TWO, _ONE), (40, 48), 16, (24, 16, 72, 64), id="left, up, right, down"),
        pytest.param((0, 0, 0, 0), (4, 4), 8, (4 - 8 * _LOG2,) * 2 + (4 + 8 * _LOG2,) * 2, id="zeros"),
        pytest.param((-100, -100, -100, -100), (16, 16), 32, (16, 16, 16, 16), id="no distance"),
        pytest.param((100, 0, -100, -100), (16, 16), 32, (-3184, 16 - 32 * _LOG2, 16, 16), id="not clipped"),
    ],
)
def test_decode_worked_by_hand(
    outputs: tuple[float, ...], point: tuple[float, ...], stride: float, box: tuple[float, ...]
) -> None:
    raw = RawPredictions(
        torch.tensor([[outputs]], dtype=torch.float32),
        torch.zeros(1, 1, 1),
        points=torch.tensor([point], dtype=torch.float32),
        strides=torch.tensor([stride], dtype=torch.float32),
    )
    found = AnchorFreeHead.decode(raw, torch.tensor([[0]]))
    torch.testing.assert_close(found, torch.tensor([[box]], dtype=torch.float32), rtol=1e-5, atol=1e-4)


def test_decode_picks_points_for_each_image_by_itself() -> None:
    raw = make_head()(features((64, 96)))
    indices = torch.tensor([[5, 100, 5], [125, 0, 60]])
    found = AnchorFreeHead.decode(raw, indices)
    assert found.shape == (2, 3, 4)
    assert found.dtype == torch.float32
    for b in range(2):
        for k in range(3):
            a = int(indices[b, k])
            left, up, right, down = (
                math.log1p(math.exp(value)) * raw.strides[a].item() for value in raw.box_outputs[b, a].tolist()
            )
            x, y = raw.points[a].tolist()
            assert found[b, k].tolist() == pytest.approx([x - left, y - up, x + right, y + down], rel=1e-5, abs=1e-4)


def test_decode_of_no_points_is_empty() -> None:
    raw = make_head()(features((64, 96)))
    assert AnchorFreeHead.decode(raw, torch.zeros(2, 0, dtype=torch.int64)).shape == (2, 0, 4)


def test_decoded_boxes_always_hold_their_point() -> None:
    raw = make_head()(features((64, 96)))
    boxes = AnchorFreeHead.decode(raw, torch.arange(126).expand(2, -1))
    assert bool((boxes[..., :2] < raw.points).all())
    assert bool((boxes[..., 2:] > raw.points).all())


def test_half_precision_outputs_decode_in_float32() -> None:
    raw = make_head()(features((64, 96)))
    half = raw._replace(box_outputs=raw.box_outputs.bfloat16())
    indices = torch.arange(126).expand(2, -1)
    found = AnchorFreeHead.decode(half, indices)
    assert found.dtype == torch.float32
    assert torch.equal(found, AnchorFreeHead.decode(half._replace(box_outputs=half.box_outputs.float()), indices))


def test_an_untrained_head_gives_every_class_one_in_a_hundred() -> None:
    """On features of zero, fresh normalisation gives zero and the last bias alone decides: sigmoid(bias) = 0.01."""
    head = make_head().eval()
    raw = head([torch.zeros_like(level) for level in features((64, 96))])
    torch.testing.assert_close(raw.class_logits.sigmoid(), torch.full((2, 126, 3), 0.01))


def test_class_layers_are_the_last_layers_in_the_order_of_levels() -> None:
    head = make_head(classes=7).eval()
    layers = head.class_layers()
    assert [layer.out_channels for layer in layers] == [7, 7, 7]
    with torch.no_grad():
        for number, layer in enumerate(layers):
            layer.weight.zero_()
            assert layer.bias is not None
            layer.bias.copy_(torch.arange(7) + 10 * number)
    logits = head(features((64, 96))).class_logits
    for start, end, number in ((0, 96, 0), (96, 120, 1), (120, 126, 2)):
        assert torch.equal(logits[:, start:end], (torch.arange(7.0) + 10 * number).expand(2, end - start, 7))
