"""Intersection over union and its relatives, against counted cells, hand-worked cases and torchvision."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from yolo_lite.ops import box_iou, paired_iou

KINDS = ("iou", "giou", "diou", "ciou")


def random_boxes(count: int, seed: int, extent: int = 24) -> Tensor:
    """Return whole-pixel boxes inside an extent, many overlapping, some without area."""
    generator = torch.Generator().manual_seed(seed)
    ends = torch.randint(0, extent + 1, (count, 2, 2), generator=generator).sort(1).values
    return ends.flatten(1).float()


def real_boxes(count: int, seed: int) -> Tensor:
    """Return boxes of positive area with arbitrary, partly negative coordinates."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 100 - 40
    return torch.cat([corner, corner + torch.rand(count, 2, generator=generator) * 60 + 0.5], -1)


def relative(kind: str, a: list[float], b: list[float], alpha: float | None = None, eps: float = 1e-7) -> float:
    """Work out one pair in double precision from the papers' definitions; alpha may be given from outside."""
    overlaps = [max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1)]
    hull = [max(a[i + 2], b[i + 2]) - min(a[i], b[i]) for i in (0, 1)]
    sizes_a, sizes_b = [a[2] - a[0], a[3] - a[1]], [b[2] - b[0], b[3] - b[1]]
    intersection = overlaps[0] * overlaps[1]
    union = sizes_a[0] * sizes_a[1] + sizes_b[0] * sizes_b[1] - intersection
    iou = intersection / union
    if kind == "iou":
        return iou
    if kind == "giou":
        return iou - (hull[0] * hull[1] - union) / (hull[0] * hull[1])
    squared = sum(((a[i] + a[i + 2] - b[i] - b[i + 2]) / 2) ** 2 for i in (0, 1))
    diou = iou - squared / (hull[0] ** 2 + hull[1] ** 2 + eps)
    if kind == "diou":
        return diou
    v = 4 / math.pi**2 * (math.atan(sizes_a[0] / sizes_a[1]) - math.atan(sizes_b[0] / sizes_b[1])) ** 2
    return diou - (aspect_weight(iou, v, eps) if alpha is None else alpha) * v


def aspect_weight(iou: float, v: float, eps: float = 1e-7) -> float:
    """Return alpha of CIoU (Zheng et al. 2020, equation 11)."""
    return v / (1 - iou + v + eps)


def test_box_iou_agrees_with_counting_cells() -> None:
    """Paint integer boxes on a grid and count cells: an oracle with no IoU formula in it."""
    boxes1, boxes2 = random_boxes(30, 0), random_boxes(25, 1)
    painted = []
    for boxes in (boxes1, boxes2):
        grids = torch.zeros(len(boxes), 24, 24, dtype=torch.bool)
        for grid, (x1, y1, x2, y2) in zip(grids, boxes.int().tolist()):
            grid[y1:y2, x1:x2] = True
        painted.append(grids)
    found = box_iou(boxes1, boxes2)
    kinds_of_pair = set()
    for i, first in enumerate(painted[0]):
        for j, second in enumerate(painted[1]):
            both, either = int((first & second).sum()), int((first | second).sum())
            wanted = both / either if either else 0.0
            assert float(found[i, j]) == pytest.approx(wanted, abs=1e-7)
            kinds_of_pair.add("none" if not either else "apart" if not both else "overlap")
    assert kinds_of_pair == {"none", "apart", "overlap"}


# Boxes (0,0)-(2,2) and (1,1)-(3,3): both 1, either 4 + 4 - 1 = 7, hull 3 x 3 = 9, its diagonal squared 18, centres
# (1,1) and (2,2) with squared distance 2, aspects equal, so ciou = diou.
# Boxes (0,0)-(2,1) and (0,0)-(1,2): both 1, either 3, hull 2 x 2 with diagonal squared 8, centres (1, .5), (.5, 1)
# with squared distance .5; v = 4/pi^2 (atan 2 - atan .5)^2 and alpha = v / (1 - 1/3 + v).
# Boxes (0,0)-(1,1) and (3,0)-(4,1): apart; either 2, hull 4 x 1, diagonal squared 17, squared distance 9.
_V = 4 / math.pi**2 * (math.atan(2) - math.atan(0.5)) ** 2


@pytest.mark.parametrize(
    ("a", "b", "wanted"),
    [
        pytest.param(
            (0, 0, 2, 2), (1, 1, 3, 3), (1 / 7, 1 / 7 - 2 / 9, 1 / 7 - 2 / 18, 1 / 7 - 2 / 18), id="overlapping corners"
        ),
        pytest.param(
            (0, 0, 2, 1),
            (0, 0, 1, 2),
            (1 / 3, 1 / 3 - 1 / 4, 1 / 3 - 1 / 16, 1 / 3 - 1 / 16 - _V**2 / (2 / 3 + _V)),
            id="other aspect",
        ),
        pytest.param((0, 0, 1, 1), (3, 0, 4, 1), (0, -2 / 4, -9 / 17, -9 / 17), id="apart"),
        pytest.param((-3, -3, -1, -1), (-3, -3, -1, -1), (1, 1, 1, 1), id="the same, negative coordinates"),
        pytest.param((0, 0, 4, 4), (1, 1, 3, 3), (1 / 4, 1 / 4, 1 / 4, 1 / 4), id="concentric"),
    ],
)
def test_pairs_worked_by_hand(a: tuple[float, ...], b: tuple[float, ...], wanted: tuple[float, ...]) -> None:
    first, second = torch.tensor([a], dtype=torch.float32), torch.tensor([b], dtype=torch.float32)
    for kind, value in zip(KINDS, wanted):
        assert float(box_iou(first, second, kind=kind)) == pytest.approx(value, abs=2e-7), kind


@pytest.mark.parametrize("kind", KINDS)
def test_box_iou_agrees_with_the_definition_in_double_precision(kind: str) -> None:
    boxes1, boxes2 = real_boxes(20, 2), real_boxes(15, 3)
    found = box_iou(boxes1, boxes2, kind=kind)
    for i, a in enumerate(boxes1.tolist()):
        for j, b in enumerate(boxes2.tolist()):
            assert float(found[i, j]) == pytest.approx(relative(kind, a, b), abs=2e-6)


@pytest.mark.parametrize(
    ("kind", "name", "tolerance"),
    [
        ("iou", "box_iou", 0),
        ("giou", "generalized_box_iou", 0),
        ("diou", "distance_box_iou", 0),
        ("ciou", "complete_box_iou", 2e-7),
    ],
    ids=KINDS,
)
@pytest.mark.parametrize("make", [random_boxes, real_boxes])
def test_box_iou_agrees_with_torchvision(
    kind: str, name: str, tolerance: float, make: Callable[[int, int], Tensor]
) -> None:
    reference = getattr(pytest.importorskip("torchvision.ops"), name)
    boxes1, boxes2 = make(120, 4), make(100, 5)
    if kind == "ciou":  # torchvision divides by the height
        boxes1, boxes2 = boxes1[boxes1[:, 3] > boxes1[:, 1]], boxes2[boxes2[:, 3] > boxes2[:, 1]]
    area1 = (boxes1[:, 2] - boxes1[:, 0]) * (boxes1[:, 3] - boxes1[:, 1])
    area2 = (boxes2[:, 2] - boxes2[:, 0]) * (boxes2[:, 3] - boxes2[:, 1])
    real = (area1[:, None] + area2) > 0  # a union is empty where both areas are; torchvision answers NaN there
    assert int(real.sum()) > 5000
    assert int((box_iou(boxes1, boxes2)[real] > 0).sum()) > 1000
    found, wanted = box_iou(boxes1, boxes2, kind=kind)[real], reference(boxes1, boxes2)[real]
    assert float((found - wanted).abs().max()) <= tolerance


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [random_boxes, real_boxes])
def test_paired_iou_is_the_diagonal_of_box_iou(kind: str, make: Callable[[int, int], Tensor]) -> None:
    boxes1, boxes2 = make(60, 6), make(60, 7)
    assert torch.equal(paired_iou(boxes1, boxes2, kind=kind), box_iou(boxes1, boxes2, kind=kind).diagonal())


@pytest.mark.parametrize("kind", KINDS)
def test_box_iou_is_symmetric(kind: str) -> None:
    boxes1, boxes2 = real_boxes(20, 8), real_boxes(20, 9)
    assert torch.equal(box_iou(boxes1, boxes2, kind=kind), box_iou(boxes2, boxes1, kind=kind).T)


@pytest.mark.parametrize(
    ("kind", "low"), [("iou", 0.0), ("giou", -1.0), ("diou", -1.0), ("ciou", -2.0)], ids=lambda value: str(value)
)
def test_values_stay_in_range_and_below_iou(kind: str, low: float) -> None:
    boxes1, boxes2 = random_boxes(80, 10), random_boxes(80, 11)
    found = box_iou(boxes1, boxes2, kind=kind)
    assert bool(found.isfinite().all())
    assert low <= float(found.min()) <= float(found.max()) <= 1
    assert bool((found <= box_iou(boxes1, boxes2)).all())


def test_a_box_overlaps_itself_fully() -> None:
    boxes = real_boxes(50, 12)
    for kind in KINDS:
        assert torch.equal(paired_iou(boxes, boxes, kind=kind), torch.ones(50))


def test_a_batch_is_its_items() -> None:
    boxes1, boxes2 = real_boxes(24, 13).view(3, 8, 4), real_boxes(15, 14).view(3, 5, 4)
    for kind in KINDS:
        found = box_iou(boxes1, boxes2, kind=kind)
        assert found.shape == (3, 8, 5)
        for item, a, b in zip(found, boxes1, boxes2):
            assert torch.equal(item, box_iou(a, b, kind=kind))


@pytest.mark.parametrize(
    "pair",
    [
        pytest.param([(3, 3, 3, 3), (3, 3, 3, 3)], id="the same point"),
        pytest.param([(0, 0, 0, 0), (5, 5, 5, 5)], id="two points"),
        pytest.param([(0, 0, 4, 0), (0, 0, 0, 4)], id="two lines"),
        pytest.param([(1, 1, 1, 6), (1, 1, 1, 6)], id="the same line"),
    ],
)
def test_an_empty_union_is_zero_and_never_nan(pair: list[tuple[int, ...]]) -> None:
    a, b = torch.tensor(pair, dtype=torch.float32).unsqueeze(1)
    assert float(box_iou(a, b)) == 0
    for kind in KINDS:
        assert bool(box_iou(a, b, kind=kind).isfinite().all()), kind


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("counts", [(0, 3), (3, 0), (0, 0)], ids=str)
def test_no_boxes_give_an_empty_matrix(kind: str, counts: tuple[int, int]) -> None:
    found = box_iou(torch.zeros(counts[0], 4), torch.zeros(counts[1], 4), kind=kind)
    assert found.shape == counts
    assert paired_iou(torch.zeros(0, 4), torch.zeros(0, 4), kind=kind).shape == (0,)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int16], ids=str)
def test_narrow_dtypes_are_computed_in_float32(kind: str, dtype: torch.dtype) -> None:
    # Sides of 300: an area of 90,000 is above the largest float16, 65,504.
    boxes = (random_boxes(20, 15) * 16).to(dtype)
    found = box_iou(boxes, boxes, kind=kind)
    assert found.dtype == torch.float32
    assert torch.equal(found, box_iou(boxes.float(), boxes.float(), kind=kind))
    area = (boxes[:, 2] - boxes[:, 0]).float() * (boxes[:, 3] - boxes[:, 1]).float()
    assert float(area.max()) > torch.finfo(torch.float16).max


ORIGINS = [(0, 0), (388096, 3948996), (15558000, -4257000), (2**45, -(2**46))]


@pytest.mark.parametrize("origin", ORIGINS, ids=["origin", "UTM", "Web Mercator", "far out"])
@pytest.mark.parametrize("kind", KINDS)
def test_boxes_on_a_map_have_the_overlap_they_have_at_the_origin(kind: str, origin: tuple[int, int]) -> None:
    """Steps of 1/32 are exact in float64 even at 2^46; the oracle works near zero, in double precision."""
    generator = torch.Generator().manual_seed(22)
    corner = torch.randint(0, 40, (30, 2), generator=generator)
    near = torch.cat([corner, corner + torch.randint(1, 60, (30, 2), generator=generator)], -1) / 32
    boxes = near.double() + torch.tensor([*origin, *origin], dtype=torch.float64)
    found, paired = box_iou(boxes, boxes, kind=kind), paired_iou(boxes, boxes.flip(0), kind=kind)
    assert found.dtype == paired.dtype == torch.float32
    for i, a in enumerate(near.tolist()):
        assert float(paired[i]) == float(found[i, 29 - i])
        for j, b in enumerate(near.tolist()):
            assert float(found[i, j]) == pytest.approx(relative(kind, a, b), abs=2e-7)
    assert int((box_iou(near, near) > 0.1).sum()) > 200


def exact_iou(a: list[float], b: list[float]) -> Fraction:
    """Work the overlap out in fractions, in which every float is exact."""
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = (map(Fraction, box) for box in (a, b))
    both = max(Fraction(0), min(ax2, bx2) - max(ax1, bx1)) * max(Fraction(0), min(ay2, by2) - max(ay1, by1))
    either = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - both
    return both / either if either else Fraction(0)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6], ids=["degrees", "metres", "countries"])
def test_overlaps_of_float64_boxes_agree_with_fractions(size: float) -> None:
    """Boxes of one size all over a map; beside each lies another, so that half of them overlap."""
    generator = torch.Generator().manual_seed(23)
    places = (torch.rand(150, 2, generator=generator, dtype=torch.float64) - 0.5) * size * 1e8
    first = torch.cat([places, places + size * (0.2 + torch.rand(150, 2, generator=generator))], -1)
    second = first + size * torch.rand(150, 1, generator=generator) * 0.7
    found = paired_iou(first, second)
    for value, a, b in zip(found.tolist(), first.tolist(), second.tolist()):
        assert value == pytest.approx(float(exact_iou(a, b)), abs=1e-7)
    assert int((found > 0.1).sum()) > 50
    assert torch.equal(box_iou(first, second).diagonal(), found)


def test_boxes_in_degrees_overlap() -> None:
    """8 x 8 of twice 10 x 10: 64 / 136. The degrees themselves are known to 3e-14, a 300-millionth of a side."""
    corner = torch.tensor([139.763416, 35.678513] * 2, dtype=torch.float64)
    boxes = corner + torch.tensor([[0, 0, 10, 10], [2, 2, 12, 12]], dtype=torch.float64) * 1e-6
    assert float(box_iou(boxes, boxes)[0, 1]) == pytest.approx(64 / 136, abs=1e-7)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_whole_numbers_that_float32_cannot_hold_overlap_exactly(dtype: torch.dtype) -> None:
    boxes = torch.tensor([[0, 0, 4, 4], [1, 1, 5, 5], [4, 0, 8, 4]], dtype=dtype) + 2**30  # 9 / 23, and touching
    assert box_iou(boxes, boxes)[0].tolist() == pytest.approx([1, 9 / 23, 0], abs=1e-7)
    assert float(box_iou(boxes[:1], boxes[1:2].double())) == pytest.approx(9 / 23, abs=1e-7)


@pytest.mark.parametrize("kind", KINDS)
def test_float64_boxes_have_a_gradient_in_float64(kind: str) -> None:
    near = torch.tensor([[10.25, 10.5, 40, 50], [20, 5, 45, 42.75]], dtype=torch.float64)
    gradients = []
    for shift in (0.0, 2.0**40):
        a = (near[:1] + shift).requires_grad_()
        (gradient,) = torch.autograd.grad(paired_iou(a, near[1:] + shift, kind=kind).sum(), a)
        gradients.append(gradient)
    assert gradients[1].dtype == torch.float64
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-6)  # 2^40 leaves steps of 0.0002
    assert float(gradients[0].abs().max()) > 1e-4


# Boxes without width or height, of zeros of either sign

LOW = {"iou": 0.0, "giou": -1.0, "diou": -1.0, "ciou": -2.0}


def boxes_of_few_numbers(dtype: torch.dtype) -> Tensor:
    """Return every box whose sides are among a few numbers: points, lines and boxes, with 0.0 and -0.0 for zero."""
    numbers = (-3.0, -0.0, 0.0, 1e-30, 2.0, 3.0)
    spans = [(low, high) for low in numbers for high in numbers if low <= high]
    corners = [(x1, y1, x2, y2) for x1, x2 in spans for y1, y2 in spans]
    return torch.tensor(corners, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_every_kind_stays_within_its_range(kind: str, dtype: torch.dtype) -> None:
    boxes = boxes_of_few_numbers(dtype)
    assert int(((boxes[:, 3] - boxes[:, 1] == 0) & (boxes[:, 3] - boxes[:, 1]).signbit()).sum()) > 20
    found = box_iou(boxes, boxes, kind=kind)
    assert LOW[kind] <= float(found.min()) <= float(found.max()) <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_of_either_sign_are_the_same(kind: str) -> None:
    boxes = boxes_of_few_numbers(torch.float32)
    assert torch.equal(
        box_iou(boxes, boxes, kind=kind), box_iou(boxes + 0.0, boxes + 0.0, kind=kind)
    )  # -0.0 + 0.0 is 0.0


def test_a_nan_box_harms_no_other() -> None:
    boxes = real_boxes(4, 16)
    spoilt = boxes.clone()
    spoilt[1, 2] = float("nan")
    for kind in KINDS:
        found, wanted = box_iou(spoilt, boxes, kind=kind), box_iou(boxes, boxes, kind=kind)
        assert torch.equal(found[[0, 2, 3]], wanted[[0, 2, 3]])


def test_the_input_is_not_modified() -> None:
    boxes1, boxes2 = real_boxes(5, 17), real_boxes(5, 18)
    before1, before2 = boxes1.clone(), boxes2.clone()
    for kind in KINDS:
        box_iou(boxes1, boxes2, kind=kind)
        paired_iou(boxes1, boxes2, kind=kind)
    assert torch.equal(boxes1, before1)
    assert torch.equal(boxes2, before2)


@pytest.mark.parametrize("function", [box_iou, paired_iou])
@pytest.mark.parametrize(("wrong", "name"), [(0, "boxes1"), (1, "boxes2")])
@pytest.mark.parametrize("shape", [(4, 5), (3,), ()], ids=str)
def test_a_wrong_shape_names_the_argument(
    function: Callable[[Tensor, Tensor], Tensor], wrong: int, name: str, shape: tuple[int, ...]
) -> None:
    arguments = [torch.zeros(2, 4), torch.zeros(2, 4)]
    arguments[wrong] = torch.zeros(shape)
    with pytest.raises(ValueError, match=rf"{name} must be \[\.\.\., 4\], got \["):
        function(*arguments)


@pytest.mark.parametrize("function", [box_iou, paired_iou])
def test_an_unknown_kind_names_those_that_exist(function: Callable[..., Tensor]) -> None:
    with pytest.raises(ValueError, match="kind must be one of iou, giou, diou, ciou, got 'siou'"):
        function(torch.zeros(2, 4), torch.zeros(2, 4), kind="siou")


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_agree_with_finite_differences(kind: str) -> None:
    """Differences are taken on the definition in double precision, with CIoU's alpha held fixed as its paper says."""
    predicted, wanted = real_boxes(40, 19), real_boxes(40, 20)
    predicted = (predicted + wanted) / 2  # most pairs overlap, and aspects differ
    predicted.requires_grad_()
    found = paired_iou(predicted, wanted, kind=kind)
    (gradient,) = torch.autograd.grad(found.sum(), predicted)
    overlapping = 0
    for row, a, b in zip(gradient.tolist(), predicted.tolist(), wanted.tolist()):
        iou = relative("iou", a, b)
        overlapping += iou > 0
        angles = [math.atan((box[2] - box[0]) / (box[3] - box[1])) for box in (a, b)]
        alpha = aspect_weight(iou, 4 / math.pi**2 * (angles[0] - angles[1]) ** 2)
        for side in range(4):
            shifted = [list(a), list(a)]
            shifted[0][side] += 1e-5
            shifted[1][side] -= 1e-5
            high, low = (relative(kind, box, b, alpha) for box in shifted)
            assert row[side] == pytest.approx((high - low) / 2e-5, rel=1e-3, abs=1e-5)
    assert overlapping > 20


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("a", "b"),
    [
        pytest.param((5, 5, 5, 5), (0, 0, 9, 9), id="point in a box"),
        pytest.param((5, 5, 5, 5), (5, 5, 5, 5), id="the same point"),
        pytest.param((5, 5, 5, 5), (7, 7, 7, 7), id="two points"),
        pytest.param((2, 5, 8, 5), (0, 0, 9, 9), id="no height"),
        pytest.param((5, 2, 5, 8), (0, 0, 9, 9), id="no width"),
        pytest.param((0, 0, 9, 9), (5, 5, 5, 5), id="target without area"),
        pytest.param((0, 0, 9, 9), (0, 0, 9, 9), id="perfect"),
        pytest.param((0, 0, 4, 4), (4, 0, 8, 4), id="touching"),
    ],
)
def test_gradients_are_finite_without_area(kind: str, a: tuple[float, ...], b: tuple[float, ...]) -> None:
    predicted = torch.tensor([a], dtype=torch.float32, requires_grad=True)
    wanted = torch.tensor([b], dtype=torch.float32, requires_grad=True)
    value = paired_iou(predicted, wanted, kind=kind)
    value.sum().backward()
    assert bool(value.isfinite().all())
    for tensor in (predicted, wanted):
        assert tensor.grad is not None
        assert bool(tensor.grad.isfinite().all())


@pytest.mark.parametrize(
    ("kind", "box"),
    [
        pytest.param("iou", (4, 5, 14, 15), id="iou, overlapping"),
        *(pytest.param(kind, (4, 5, 14, 15), id=f"{kind}, overlapping") for kind in KINDS[1:]),
        *(pytest.param(kind, (40, 30, 50, 40), id=f"{kind}, apart") for kind in KINDS[1:]),
    ],
)
def test_a_step_against_the_gradient_moves_the_box_closer(kind: str, box: tuple[float, ...]) -> None:
    predicted = torch.tensor([box], dtype=torch.float32, requires_grad=True)
    wanted = torch.tensor([[0.0, 0, 10, 10]])
    loss = (1 - paired_iou(predicted, wanted, kind=kind)).sum()
    (gradient,) = torch.autograd.grad(loss, predicted)
    nearer = predicted.detach() - 0.5 * gradient / gradient.abs().max()
    assert float((1 - paired_iou(nearer, wanted, kind=kind)).sum()) < float(loss.detach())
    # moved as a whole: the target lies to the upper left, so shifting right or down must cost more
    assert float(gradient[0, 0] + gradient[0, 2]) > 0
    assert float(gradient[0, 1] + gradient[0, 3]) > 0


@pytest.mark.parametrize("kind", KINDS[1:])
def test_the_loss_falls_as_a_box_comes_closer_from_afar(kind: str) -> None:
    wanted = torch.tensor([0.0, 0, 10, 10])
    shifts = torch.arange(60, -1, -2).float().unsqueeze(1)
    values = paired_iou(wanted + shifts, wanted.expand(len(shifts), 4), kind=kind)
    assert float(paired_iou(wanted + shifts, wanted.expand(len(shifts), 4))[0]) == 0  # iou itself sees nothing there
    assert bool((values.diff() > 0).all())


def test_ciou_prefers_the_right_aspect() -> None:
    wanted = torch.tensor([[0.0, 0, 20, 10]])
    right, wrong = torch.tensor([[5.0, 2.5, 15, 7.5]]), torch.tensor([[7.5, 0, 12.5, 10]])  # both centred, area 50
    assert torch.equal(paired_iou(right, wanted, kind="diou"), paired_iou(wrong, wanted, kind="diou"))
    assert float(paired_iou(right, wanted, kind="ciou")) > float(paired_iou(wrong, wanted, kind="ciou"))
