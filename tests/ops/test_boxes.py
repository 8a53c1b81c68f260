"""Box formats, areas and points inside boxes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from yolo_lite.ops import box_area, cxcywh_to_xyxy, points_in_boxes, xywh_to_xyxy, xyxy_to_cxcywh, xyxy_to_xywh

Convert = Callable[[Tensor], Tensor]
ALL: list[Convert] = [box_area, xyxy_to_xywh, xywh_to_xyxy, xyxy_to_cxcywh, cxcywh_to_xyxy]
FORMATS = [pytest.param(convert, id=convert.__name__) for convert in ALL[1:]]
FUNCTIONS = [pytest.param(convert, id=convert.__name__) for convert in ALL]


def quarters(count: int, seed: int = 0) -> Tensor:
    """Return xyxy boxes [count, 4] of quarter pixels, some of them negative, so that every sum below is exact."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.randint(-400, 400, (count, 2), generator=generator)
    size = torch.randint(0, 200, (count, 2), generator=generator)
    return torch.cat([corner, corner + size], -1) / 4


# A box from (-1, 2) to (3, 8) is 4 wide and 6 high, its centre is (1, 5), its area 24.
@pytest.mark.parametrize(
    ("convert", "given", "wanted"),
    [
        pytest.param(box_area, (-1, 2, 3, 8), 24, id="area"),
        pytest.param(box_area, (5, 5, 5, 9), 0, id="area of a line"),
        pytest.param(xyxy_to_xywh, (-1, 2, 3, 8), (-1, 2, 4, 6), id="xyxy to xywh"),
        pytest.param(xywh_to_xyxy, (-1, 2, 4, 6), (-1, 2, 3, 8), id="xywh to xyxy"),
        pytest.param(xyxy_to_cxcywh, (-1, 2, 3, 8), (1, 5, 4, 6), id="xyxy to cxcywh"),
        pytest.param(cxcywh_to_xyxy, (1, 5, 4, 6), (-1, 2, 3, 8), id="cxcywh to xyxy"),
    ],
)
def test_a_box_worked_by_hand(convert: Convert, given: tuple[float, ...], wanted: object) -> None:
    assert torch.equal(convert(torch.tensor(given, dtype=torch.float32)), torch.tensor(wanted, dtype=torch.float32))


def test_box_area_agrees_with_counting_cells() -> None:
    generator = torch.Generator().manual_seed(1)
    corner = torch.randint(0, 20, (30, 2), generator=generator)
    boxes = torch.cat([corner, corner + torch.randint(0, 12, (30, 2), generator=generator)], -1)
    counted = []
    for x1, y1, x2, y2 in boxes.tolist():
        grid = torch.zeros(32, 32, dtype=torch.bool)
        grid[y1:y2, x1:x2] = True
        counted.append(float(grid.sum()))
    assert min(counted) == 0 < max(counted)  # some have no area
    assert box_area(boxes.float()).tolist() == counted


@pytest.mark.parametrize(("there", "format_name"), [(xyxy_to_xywh, "xywh"), (xyxy_to_cxcywh, "cxcywh")])
def test_formats_agree_with_torchvision(there: Convert, format_name: str) -> None:
    torchvision_ops = pytest.importorskip("torchvision.ops")
    boxes = quarters(50)
    assert torch.equal(there(boxes), torchvision_ops.box_convert(boxes, "xyxy", format_name))


@pytest.mark.parametrize(
    ("there", "back"),
    [
        pytest.param(xyxy_to_xywh, xywh_to_xyxy, id="xywh"),
        pytest.param(xyxy_to_cxcywh, cxcywh_to_xyxy, id="cxcywh"),
    ],
)
def test_there_and_back_is_the_same_box(there: Convert, back: Convert) -> None:
    boxes = quarters(50)
    assert bool((boxes < 0).any())
    assert torch.equal(back(there(boxes)), boxes)


@pytest.mark.parametrize("convert", FUNCTIONS)
def test_the_input_is_not_modified(convert: Convert) -> None:
    boxes = quarters(5)
    before = boxes.clone()
    convert(boxes)
    assert torch.equal(boxes, before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("convert", FUNCTIONS)
def test_the_dtype_is_kept(convert: Convert, dtype: torch.dtype) -> None:
    assert convert(quarters(3).to(dtype)).dtype == dtype


@pytest.mark.parametrize("convert", FORMATS)
@pytest.mark.parametrize("shape", [(0, 4), (2, 0, 4), (4,), (2, 3, 4)], ids=str)
def test_formats_keep_the_shape(convert: Convert, shape: tuple[int, ...]) -> None:
    assert convert(torch.zeros(shape)).shape == shape


@pytest.mark.parametrize("shape", [(0, 4), (2, 0, 4), (4,), (2, 3, 4)], ids=str)
def test_box_area_drops_the_last_dimension(shape: tuple[int, ...]) -> None:
    assert box_area(torch.zeros(shape)).shape == shape[:-1]


@pytest.mark.parametrize("shape", [(), (3,), (2, 5), (4, 0)], ids=str)
@pytest.mark.parametrize("convert", FUNCTIONS)
def test_a_wrong_shape_names_the_argument(convert: Convert, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"boxes must be \[\.\.\., 4\], got \["):
        convert(torch.zeros(shape))


def test_points_in_boxes_agrees_with_a_loop() -> None:
    generator = torch.Generator().manual_seed(2)
    boxes = quarters(24, seed=3).view(2, 12, 4).round()  # whole pixels, so that points do fall on sides
    points = torch.randint(-110, 110, (60, 2), generator=generator).float()
    points[:12] = boxes[0, :, :2] + torch.tensor([0.0, 1.0])  # on the left side, where the box is high enough
    inside = points_in_boxes(points, boxes)
    assert inside.shape == (2, 12, 60)
    on_a_side = 0
    for b in range(2):
        for n in range(12):
            x1, y1, x2, y2 = boxes[b, n].tolist()
            for a, (x, y) in enumerate(points.tolist()):
                assert bool(inside[b, n, a]) == (x1 < x < x2 and y1 < y < y2)
                on_a_side += x == x1 and y1 < y < y2
    assert on_a_side > 0
    assert 0 < int(inside.sum()) < inside.numel()


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        pytest.param((1, 1), True, id="middle"),
        pytest.param((0, 1), False, id="left side"),
        pytest.param((2, 1), False, id="right side"),
        pytest.param((1, 0), False, id="upper side"),
        pytest.param((1, 2), False, id="lower side"),
        pytest.param((0, 0), False, id="corner"),
        pytest.param((float("nan"), 1), False, id="NaN"),
    ],
)
def test_a_point_on_a_side_is_not_inside(point: tuple[float, float], expected: bool) -> None:
    inside = points_in_boxes(torch.tensor([point], dtype=torch.float32), torch.tensor([[0.0, 0, 2, 2]]))
    assert inside.tolist() == [[expected]]


def test_a_box_without_area_holds_no_point() -> None:
    assert not points_in_boxes(torch.tensor([[1.0, 1]]), torch.tensor([[1.0, 0, 1, 2], [1, 1, 1, 1]])).any()


@pytest.mark.parametrize(
    ("points", "boxes"), [((0, 2), (3, 4)), ((5, 2), (0, 4)), ((5, 2), (2, 0, 4))], ids=["no points", "no boxes", "B"]
)
def test_no_points_or_no_boxes_is_empty(points: tuple[int, ...], boxes: tuple[int, ...]) -> None:
    inside = points_in_boxes(torch.zeros(points), torch.zeros(boxes))
    assert inside.shape == (*boxes[:-1], points[0])
    assert inside.dtype == torch.bool


def test_points_in_boxes_names_the_argument_of_a_wrong_shape() -> None:
    with pytest.raises(ValueError, match="boxes must be"):
        points_in_boxes(torch.zeros(5, 2), torch.zeros(2, 5))
