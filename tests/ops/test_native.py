"""The C extension: bit for bit what plain torch gives, whatever it is called with, and no way to crash it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.ops.test_nms import INF, MAKERS, NAN, THRESHOLDS, Case, batch_of, every_maker, random_case
from yolo_lite.losses import assign
from yolo_lite.losses.assign import Assignment, Candidates, Targets, task_aligned
from yolo_lite.ops import native, nms_padded

pytestmark = pytest.mark.skipif(bool(native.MISSING), reason=native.MISSING)
FOLDER = Path(native.__file__).parent / "kernels"
SOURCES = {
    name: (FOLDER / name).read_text()
    for name in ("native.c", "suppress.c", "suppress_wide.c", "norm_silu.c", "depthwise.c")
}
LIMITS = np.iinfo(np.int64)


# Suppression, against plain torch


def suppressed(boxes: Tensor, scores: Tensor, labels: Tensor | None, iou: float, *more: Any) -> tuple[Tensor, Tensor]:
    """Call nms_padded with its arguments in a row: after the IoU threshold that of the score, and max_detections."""
    settings = dict(zip(("score_threshold", "max_detections"), more))
    return nms_padded(boxes, scores, labels=labels, iou_threshold=iou, **settings)


def both(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Call nms_padded with the extension and with plain torch."""
    results = []
    for name in ("native", "torch"):
        monkeypatch.setenv("YOLO_LITE_OPS", name)
        results.append(suppressed(*arguments))
    return results[0], results[1]


def assert_same(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> tuple[Tensor, Tensor]:
    """Compare the two to the bit; return the result."""
    found, wanted = both(monkeypatch, *arguments)
    described = ([None if part is None else tuple(part.shape) for part in arguments[:3]], arguments[3:])
    assert torch.equal(found[0], wanted[0]), described
    assert torch.equal(found[1], wanted[1]), described
    assert (found[0].dtype, found[1].dtype) == (torch.int64, torch.int32)
    return found


@every_maker
def test_native_equals_torch_on_300_drawn_inputs(
    make: Callable[[int, torch.Generator], Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(MAKERS.index(make))

    def one_of(options: list[Any]) -> Any:
        return options[int(torch.randint(0, len(options), (1,), generator=generator))]

    shapes = set()
    for number in range(300):
        count = 1 + int(600 * float(torch.rand(1, generator=generator)) ** 3)  # small ones are where corners are
        batch = 1 + number % 3
        case = batch_of(make, batch, count, generator)
        most = one_of([0, 1, 2, 15, 16, 17, 64, count - 1, count, count + 5, one_of(list(range(count + 6)))])
        iou_threshold = one_of([0.0, *THRESHOLDS, 1.0])
        score_threshold = one_of([-INF, -INF, -0.2, 0.0, 0.1, 0.25, 0.5, 0.999, INF])
        labels = one_of([case.labels, case.labels, None])
        boxes = one_of([case.boxes, case.boxes, case.boxes.double(), case.boxes.double() * 1.1 + 2.0**40])
        assert_same(monkeypatch, boxes, case.scores, labels, iou_threshold, score_threshold, most)
        shapes.add((count, most))
    assert len({count for count, _ in shapes}) > 100
    assert sum(most >= count > 100 for count, most in shapes) > 10


@pytest.mark.parametrize("make", [random_case, *MAKERS[1:3], MAKERS[8]], ids=lambda make: make.__name__)
@pytest.mark.parametrize("count", [2500, 4096])
def test_native_equals_torch_on_thousands_of_boxes(
    make: Callable[[int, torch.Generator], Case], count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = batch_of(make, 2, count, torch.Generator().manual_seed(count))
    for iou_threshold, most in ((0.6, 300), (0.3, count)):
        assert_same(monkeypatch, case.boxes, case.scores, case.labels, iou_threshold, 0.01, most)


def _in_one_place(count: int, top: int) -> Tensor:
    """Labels whose product with the table's multiplier, modulo 2^64, is top, top - 1 ...: neighbours in the table."""
    inverse = pow(0x9E3779B97F4A7C15, -1, 2**64)
    words = [(top - i) * inverse % 2**64 for i in range(count)]
    return torch.tensor([word - 2**64 if word >= 2**63 else word for word in words])


@pytest.mark.parametrize(
    "labels",
    [
        pytest.param(torch.arange(200), id="all different"),
        pytest.param(torch.arange(200) % 100 - 50, id="negative"),
        pytest.param(torch.arange(200) % 40 * 2**32 + 7, id="equal in the low 32 bits"),
        pytest.param((torch.arange(200) % 40) << 56, id="equal in the low 56 bits"),
        pytest.param(LIMITS.max - torch.arange(200) % 60, id="the highest int64"),
        pytest.param(LIMITS.min + torch.arange(200) % 60, id="the lowest int64"),
        pytest.param(torch.tensor([LIMITS.min, LIMITS.max, 0, -1]).repeat(50), id="lowest, highest, 0 and -1"),
        pytest.param(_in_one_place(200, 2**63), id="all in one slot"),
        pytest.param(_in_one_place(50, 2**64 - 1).repeat(4), id="all in the last slot"),
    ],
)
@pytest.mark.parametrize("most", [1, 3, 30, 200, 300])
def test_any_labels_do_even_more_than_are_kept(labels: Tensor, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        case = batch_of(random_case, 3, 200, generator)
        shuffled = torch.stack([labels[torch.randperm(200, generator=generator)] for _ in range(3)])
        _, counts = assert_same(monkeypatch, case.boxes, case.scores, shuffled, 0.3, -INF, most)
        if len(labels.unique()) >= most:
            assert counts.tolist() == [most] * 3


def test_many_kept_boxes_of_one_label_are_all_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy of every kept box is suppressed, whichever of the chunks of 16 holds the kept one."""
    x = 20.0 * torch.arange(100)
    apart = torch.stack([x, x, x + 10, x + 10], -1)
    for place in range(100):
        boxes = torch.cat([apart, apart[place : place + 1]])[None]
        indices, counts = assert_same(monkeypatch, boxes, torch.linspace(1, 0.5, 101)[None], None, 0.5, -INF, 101)
        assert counts.tolist() == [100]
        assert indices[0].tolist() == [*range(100), -1]


def test_overlaps_next_to_the_threshold_are_decided_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs whose overlap is one of the float32 numbers about the threshold, or the threshold itself."""
    generator = torch.Generator().manual_seed(20)
    near = 0
    for iou_threshold in (*THRESHOLDS, 0.45, 0.65, 1e-3, 0.999):
        height = torch.rand(4000, generator=generator) * 500 + 1
        shorter = height * iou_threshold
        boxes = torch.zeros(4000, 2, 4)
        boxes[:, :, 2] = 1 + torch.rand(4000, 1, generator=generator)
        boxes[:, 0, 3], boxes[:, 1, 3] = height, shorter
        ratio = (boxes[:, 1, 2] * shorter) / (boxes[:, 0, 2] * height)
        near += int(((ratio - iou_threshold).abs() < 2e-7 * iou_threshold).sum())
        scores = torch.tensor([0.9, 0.8]).expand(4000, 2)
        _, counts = assert_same(monkeypatch, boxes, scores, None, iou_threshold, -INF, 2)
        assert 1 in counts.tolist()
        assert 2 in counts.tolist() or iou_threshold == 0.999
    assert near > 10_000


@pytest.mark.parametrize("scale", [1e-45, 1e-40, 1e-23, 1e-19, 1e18, 1e19, 3e38])
def test_areas_that_underflow_or_overflow_are_decided_alike(scale: float, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed, iou_threshold in enumerate((0.0, 0.3, 0.5, 1.0)):
        case = batch_of(random_case, 2, 150, torch.Generator().manual_seed(seed))
        boxes = (case.boxes.double() / 150 * scale).float()
        assert_same(monkeypatch, boxes, case.scores, None, iou_threshold, -INF, 150)


@pytest.mark.parametrize("scale", [5e-324, 1e-310, 1e-170, 1e-160, 1e150, 1e160, 1.7e308])
def test_areas_that_underflow_or_overflow_in_float64_are_decided_alike(
    scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, iou_threshold in enumerate((0.0, 0.3, 0.5, 1.0)):
        case = batch_of(random_case, 2, 150, torch.Generator().manual_seed(seed))
        boxes = case.boxes.double() / 150 * scale
        assert_same(monkeypatch, boxes, case.scores, None, iou_threshold, -INF, 150)


def test_memory_of_any_layout_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    case = batch_of(random_case, 2, 90, torch.Generator().manual_seed(21))
    plain = assert_same(monkeypatch, case.boxes, case.scores, case.labels, 0.4, 0.1, 50)
    wide = torch.full((2, 90, 8), NAN)
    wide[..., ::2] = case.boxes
    layouts = [
        (wide[..., ::2], case.scores, case.labels),
        (case.boxes.permute(2, 1, 0).contiguous().permute(2, 1, 0), case.scores.t().contiguous().t(), case.labels),
        (case.boxes, torch.stack([case.scores] * 3, -1)[..., 1], torch.cat([case.labels, case.labels], 1)[:, 90:]),
        (case.boxes.double(), case.scores.double(), case.labels),
        (wide.double()[..., ::2], case.scores, case.labels),
        (case.boxes.clone().requires_grad_(), case.scores.clone().requires_grad_(), case.labels.to(torch.int16)),
        (torch.cat([torch.zeros(1), case.boxes.flatten()])[1:].view(2, 90, 4), case.scores, case.labels.to(torch.int8)),
    ]
    for layout in layouts:
        found = assert_same(monkeypatch, *layout, 0.4, 0.1, 50)
        assert torch.equal(found[0], plain[0])
    same = assert_same(monkeypatch, case.boxes[:1].expand(4, -1, -1), case.scores[:1].expand(4, -1), None, 0.4, 0.1, 50)
    assert bool((same[0] == same[0][0]).all())


# Assignment, against plain torch


def aligned(
    scores: Tensor, boxes: Tensor, points: Tensor, strides: Tensor, targets: Targets, **options: float
) -> Assignment:
    """Call task_aligned with a scene in a row."""
    return task_aligned(Candidates(scores, boxes, points=points, strides=strides), targets, **options)  # type: ignore[arg-type]


def assigned(monkeypatch: pytest.MonkeyPatch, *arguments: Any, **options: float) -> tuple[Assignment, Assignment]:
    """Call task_aligned with the extension and with plain torch."""
    results = []
    for name in ("native", "torch"):
        monkeypatch.setenv("YOLO_LITE_OPS", name)
        results.append(aligned(*arguments, **options))
    return results[0], results[1]


def assert_assigned_alike(monkeypatch: pytest.MonkeyPatch, *arguments: Any, **options: float) -> Assignment:
    """Compare the two: every number equal, NaN where the other has NaN; return the result."""
    found, wanted = assigned(monkeypatch, *arguments, **options)
    described = ([tuple(part.shape) for part in arguments[:3]], arguments[0].dtype, options)
    assert (found.box_index.dtype, found.target_score.dtype) == (torch.int64, torch.float32)
    assert torch.equal(found.box_index, wanted.box_index), described
    torch.testing.assert_close(found.target_score, wanted.target_score, rtol=0, atol=0, equal_nan=True)
    return found


Scene = tuple[Tensor, Tensor, Tensor, Tensor, Targets]


def draw_scene(generator: torch.Generator, wild: bool) -> Scene:
    """Draw a small crowded batch: padding anywhere, ties by rounding, boxes that are no boxes; `wild` adds NaN, inf."""

    def below(limit: int) -> int:
        return int(torch.randint(0, limit, (1,), generator=generator))

    def boxes(count: int) -> Tensor:
        corner = torch.rand(batch, count, 2, generator=generator) * 50
        found = torch.cat([corner, corner + torch.rand(batch, count, 2, generator=generator) * 40], -1)
        return found.round() if whole else found

    def spoil(values: Tensor) -> Tensor:
        draw = torch.rand(values.shape, generator=generator)
        values = torch.where(draw < 0.03, NAN, values)
        return torch.where((draw > 0.97) & (draw < 0.98), -INF, torch.where(draw > 0.98, INF, values))

    batch, points, classes, count, whole = 1 + below(3), 1 + below(70), 1 + below(3), 1 + below(6), below(2)
    places = torch.rand(points, 2, generator=generator) * 64
    places = places.round() if whole else places  # some on borders
    strides = torch.tensor([8.0, 16, 32])[torch.randint(0, 3, (points,), generator=generator)]
    wanted, labels = boxes(count), torch.randint(-1, classes, (batch, count), generator=generator)
    own = torch.randint(0, count, (batch, points, 1), generator=generator).expand(-1, -1, 4)
    near = wanted.gather(1, own) + (torch.randn(batch, points, 4, generator=generator) * 3).round()
    predicted = torch.where(torch.rand(batch, points, 1, generator=generator) < 0.6, near, boxes(points))
    scores = torch.rand(batch, points, classes, generator=generator)
    scores = [scores, (scores * 4).round() / 4, scores * 1e-20][below(3)]
    if below(4) == 0:
        wanted = torch.where(torch.rand(batch, count, 1, generator=generator) < 0.4, wanted[..., [2, 1, 0, 3]], wanted)
        predicted[:, ::3] = predicted[:, ::3][..., [2, 3, 0, 1]]
    if wild:
        wanted, predicted, scores, places = map(spoil, (wanted, predicted, scores, places))
    return scores, predicted, places, strides, Targets(wanted, labels)


@pytest.mark.parametrize("wild", [False, True], ids=["finite", "NaN and inf"])
@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5, 5.0, 6.0])
def test_native_assigns_as_torch_does(beta: float, wild: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(int(beta) + 100 * wild)
    answering = 0
    for number in range(200):
        arguments = draw_scene(generator, wild)
        options = {"top_k": (1, 2, 3, 10, 1000)[number % 5], "alpha": (1.0, 0.0, 0.5, 7.0)[number % 4], "beta": beta}
        found = assert_assigned_alike(monkeypatch, *arguments, **options)
        answering += int((found.box_index >= 0).sum())
    assert answering > 300


@pytest.mark.parametrize("points", [1, 15, 16, 17, 31, 32, 33, 8400])
def test_any_number_of_points_will_do(points: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All points lie inside the box, the last one with the best prediction."""
    generator = torch.Generator().manual_seed(points)
    places = torch.rand(points, 2, generator=generator) * 60 + 2
    wanted = torch.tensor([[[0.0, 0, 64, 64], [200, 200, 264, 264]]]).expand(2, -1, -1)
    predicted = wanted[:, :1] + torch.rand(2, points, 4, generator=generator) * 9
    predicted[:, -1] = wanted[:, 0]
    scores = torch.rand(2, points, 1, generator=generator) * 0.1
    scores[:, -1] = 1
    arguments = scores, predicted, places, torch.full((points,), 8.0), Targets(wanted, torch.zeros(2, 2).long())
    found = assert_assigned_alike(monkeypatch, *arguments)
    assert found.box_index[:, -1].tolist() == [0, 0]
    assert (found.box_index >= 0).sum(1).tolist() == [min(points, 10)] * 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("alpha", [0.0, 1.0, 2.0])
def test_scores_as_autocast_gives_them_are_assigned_alike(
    dtype: torch.dtype, alpha: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(22)
    for _ in range(60):
        scores, *rest = draw_scene(generator, False)
        assert_assigned_alike(monkeypatch, scores.to(dtype), *rest, alpha=alpha)


def test_exponents_that_are_not_in_halves_are_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = draw_scene(torch.Generator().manual_seed(23), False)

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the extension was called")

    monkeypatch.setattr(assign, "task_aligned_native", refuse)
    for alpha, beta in ((0.3, 6.0), (1.0, 2.7), (0.1, 0.9)):
        assert_assigned_alike(monkeypatch, *arguments, alpha=alpha, beta=beta)
    monkeypatch.setenv("YOLO_LITE_OPS", "native")
    with pytest.raises(AssertionError, match="the extension was called"):
        aligned(*arguments)


def test_tensors_of_any_layout_are_assigned_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, predicted, places, strides, targets = draw_scene(torch.Generator().manual_seed(24), False)
    plain = assert_assigned_alike(monkeypatch, scores, predicted, places, strides, targets)
    assert bool((plain.box_index >= 0).any())
    turned = Targets(targets.boxes.transpose(1, 2).contiguous().transpose(1, 2), targets.labels.t().contiguous().t())
    again = assert_assigned_alike(
        monkeypatch,
        scores.transpose(1, 2).contiguous().transpose(1, 2).requires_grad_(),
        torch.cat([predicted, predicted], -1)[..., 4:],
        places.t().contiguous().t(),
        strides,
        turned,
    )
    assert torch.equal(plain.box_index, again.box_index)


@pytest.mark.parametrize("shape", [(2, 0, 3, 4), (2, 5, 3, 0), (0, 5, 3, 4), (2, 5, 0, 0)], ids=["A", "N", "B", "C"])
def test_a_dimension_may_be_empty(shape: tuple[int, int, int, int]) -> None:
    batch, points, classes, count = shape
    box_index, target_score = native.task_aligned_native(
        torch.zeros(batch, points, classes),
        torch.zeros(batch, points, 4),
        points=torch.zeros(points, 2),
        objects=native.Objects(
            torch.zeros(batch, count, 4),
            torch.zeros(batch, count, dtype=torch.int64),
            grown=torch.zeros(batch, count, 4),
        ),
        top_k=10,
        exponents=(1, 6),
    )
    assert torch.equal(box_index, torch.full((batch, points), -1))
    assert torch.equal(target_score, torch.zeros(batch, points))


def test_torchs_defaults_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A default dtype or device that a caller has set is for new tensors, not for those at hand."""
    case = batch_of(random_case, 2, 40, torch.Generator().manual_seed(25))
    scene = draw_scene(torch.Generator().manual_seed(26), False)
    wanted = assert_same(monkeypatch, *case, 0.41, 0.11, 30), assert_assigned_alike(monkeypatch, *scene)
    monkeypatch.setenv("YOLO_LITE_OPS", "native")
    with torch.device("meta"):
        found = (
            nms_padded(*case[:2], labels=case[2], iou_threshold=0.41, score_threshold=0.12, max_detections=30),
            aligned(*scene),
        )
    for mine, theirs in zip((*found[0], *found[1]), (*wanted[0], *wanted[1])):
        assert torch.equal(mine, theirs)
    torch.set_default_dtype(torch.float64)
    try:
        found = (
            nms_padded(*case[:2], labels=case[2], iou_threshold=0.41, score_threshold=0.11, max_detections=30),
            aligned(*scene),
        )
    finally:
        torch.set_default_dtype(torch.float32)
    for mine, theirs in zip((*found[0], *found[1]), (*wanted[0], *wanted[1])):
        assert torch.equal(mine, theirs)


# Misuse of the module itself


def nms_arguments() -> dict[str, Any]:
    """Return good arguments for 2 images of 5 boxes, 3 to keep, in order."""
    generator = np.random.default_rng(0)
    corner = generator.random((2, 5, 2), np.float32)
    return {
        "boxes": np.concatenate([corner, corner + 1], -1),
        "scores": generator.random((2, 5), np.float32),
        "labels": np.zeros((2, 5), np.int64),
        "iou_threshold": 0.5,
        "score_threshold": 0.0,
        "indices": np.full((2, 3), -9),
        "counts": np.full(2, -9, np.int32),
    }


def assign_arguments() -> dict[str, Any]:
    """Return good arguments for 2 images of 6 points, 3 classes and 4 objects, in order."""
    generator = np.random.default_rng(0)
    boxes = np.tile(np.array([0, 0, 1, 1], np.float32), (2, 4, 1))
    return {
        "scores": generator.random((2, 6, 3), np.float32),
        "boxes": np.tile(np.array([0, 0, 1, 1], np.float32), (2, 6, 1)),
        "points": generator.random((6, 2), np.float32),
        "grown": boxes,
        "targets": boxes.copy(),
        "labels": np.array([[0, 1, 2, -1]] * 2),
        "top_k": 3,
        "alpha": 1,
        "beta": 6,
        "box_index": np.full((2, 6), -9),
        "target_score": np.full((2, 6), -9, np.float32),
    }


FUNCTIONS = {"nms_padded": nms_arguments, "task_aligned": assign_arguments}
ACCEPTED = {("nms_padded", "boxes"): ["float32", "float64"]}  # where it is not the dtype of the good argument alone
OUTPUTS = {"indices", "counts", "box_index", "target_score"}
every_function = pytest.mark.parametrize("name", FUNCTIONS)
every_array = pytest.mark.parametrize(
    ("name", "argument"),
    [(name, key) for name, make in FUNCTIONS.items() for key, value in make().items() if isinstance(value, np.ndarray)],
)


def call(name: str, arguments: dict[str, Any]) -> None:
    getattr(native._native, name)(*arguments.values())


def refused(name: str, changed: dict[str, Any], message: str) -> None:
    """Check that a call is refused with words, and that nothing was written."""
    arguments = {**FUNCTIONS[name](), **changed}
    with pytest.raises(ValueError, match=message):
        call(name, arguments)
    for key in OUTPUTS & arguments.keys() - changed.keys():
        assert bool((arguments[key] == -9).all())


@every_function
def test_the_good_arguments_are_good(name: str) -> None:
    arguments = FUNCTIONS[name]()
    before = {key: value.copy() for key, value in arguments.items() if isinstance(value, np.ndarray)}
    call(name, arguments)
    for key, value in before.items():
        assert np.array_equal(value, arguments[key]) == (key not in OUTPUTS)
        assert key not in OUTPUTS or -9 not in arguments[key]


@every_array
def test_another_dtype_is_refused(name: str, argument: str) -> None:
    good = FUNCTIONS[name]()[argument]
    accepted = ACCEPTED.get((name, argument), [str(good.dtype)])
    wanted = " or ".join(accepted)
    for dtype in ("f4", "f8", "f2", "i4", "u4", "i8", "u8", "i1", "?", "c8", ">f4", ">i4", ">i8", "S4", "V4", "V8"):
        if str(np.dtype(dtype)) not in accepted:
            other = np.zeros(good.shape, dtype)
            refused(name, {argument: other}, f"^{argument} must be {wanted}, got format '")
    structured = np.zeros(good.shape, [("value", good.dtype)])
    refused(name, {argument: structured}, f"^{argument} must be {wanted}, got format '")


@every_array
def test_memory_with_gaps_is_refused(name: str, argument: str) -> None:
    good = FUNCTIONS[name]()[argument]
    gaps = np.repeat(good, 2, axis=-1)[..., ::2]
    assert np.array_equal(gaps, good)
    refused(name, {argument: gaps}, f"^{argument} must be a C-contiguous")
    refused(name, {argument: good[::-1]}, f"^{argument} must be a C-contiguous")
    if good.ndim > 1:
        refused(name, {argument: np.asfortranarray(good)}, f"^{argument} must be a C-contiguous")
        broadcast = np.broadcast_to(good[:1], good.shape)
        refused(name, {argument: broadcast}, f"^{argument} must be a C-contiguous")


# The lengths of these arguments are what the others are measured by: a change there is told of the next one.
LEADERS = {
    ("nms_padded", "scores", 0): "boxes",
    ("nms_padded", "scores", 1): "boxes",
    ("nms_padded", "indices", 1): None,
    ("task_aligned", "scores", 0): "boxes",
    ("task_aligned", "scores", 1): "boxes",
    ("task_aligned", "scores", 2): None,
    ("task_aligned", "labels", 1): "grown",
}


@every_array
@pytest.mark.parametrize("change", [1, -1], ids=["longer", "shorter"])
def test_another_length_is_refused(name: str, argument: str, change: int) -> None:
    good = FUNCTIONS[name]()[argument]
    for axis, length in enumerate(good.shape):
        named = LEADERS.get((name, argument, axis), argument)
        other = np.zeros([size + change * (i == axis) for i, size in enumerate(good.shape)], good.dtype)
        if named == argument:
            message = rf"^{named} must have length {length} in dimension {axis}, got {length + change}$"
            refused(name, {argument: other}, message)
        elif named:
            refused(name, {argument: other}, f"^{named} must have length")


@every_array
def test_another_number_of_dimensions_is_refused(name: str, argument: str) -> None:
    good = FUNCTIONS[name]()[argument]
    for other in (good[None].copy(), np.array(good[0]), np.zeros((), good.dtype), good.reshape([1] * 20 + [-1])):
        if other.ndim != good.ndim:
            message = f"^{argument} must have {good.ndim} dimensions, got {other.ndim}$"
            refused(name, {argument: other}, message)


@every_array
def test_what_is_no_array_is_refused(name: str, argument: str) -> None:
    good = FUNCTIONS[name]()[argument]
    for other in (good.tolist(), object(), "text", 3.0, torch.from_numpy(good), np.ndarray, None):
        if other is not None or argument != "labels" or name != "nms_padded":
            refused(name, {argument: other}, f"^{argument} must be a C-contiguous")
    wanted = " or ".join(ACCEPTED.get((name, argument), [str(good.dtype)]))
    refused(name, {argument: bytearray(good.nbytes)}, f"^{argument} must be {wanted}, got format 'B'$")
    refused(name, {argument: memoryview(bytearray(good.nbytes)).cast("c")}, f"^{argument} must be {wanted}")


@every_array
def test_an_output_must_be_writable_and_an_input_need_not(name: str, argument: str) -> None:
    locked = FUNCTIONS[name]()[argument]
    locked.flags.writeable = False
    if argument in OUTPUTS:
        refused(name, {argument: locked}, f"^{argument} must be a C-contiguous, writable array$")
        refused(name, {argument: locked.tobytes()}, f"^{argument} must be a C-contiguous, writable array$")
        assert bool((locked == -9).all())
    else:
        call(name, {**FUNCTIONS[name](), argument: locked})


@pytest.mark.parametrize("label", [3, 4, 2**32, LIMITS.max])
@pytest.mark.parametrize("place", [(0, 0), (1, 3)], ids=str)
def test_a_label_without_a_class_is_refused(label: int, place: tuple[int, int]) -> None:
    labels = assign_arguments()["labels"]
    labels[place] = label
    refused("task_aligned", {"labels": labels}, f"^labels must be below 3, got {label}$")


def test_every_negative_label_is_padding() -> None:
    arguments = assign_arguments()
    arguments["labels"][:] = [LIMITS.min, -1, -2, -(2**32)]
    call("task_aligned", arguments)
    assert bool((arguments["box_index"] == -1).all())


@pytest.mark.parametrize(
    "changed", [{"top_k": 0}, {"top_k": -1}, {"alpha": -1}, {"beta": -1}, {"top_k": -(2**62)}], ids=str
)
def test_numbers_out_of_range_are_refused(changed: dict[str, int]) -> None:
    refused("task_aligned", changed, "^top_k must be at least 1, alpha and beta at least 0$")


def test_huge_numbers_are_taken_or_refused() -> None:
    arguments = {**assign_arguments(), "top_k": sys.maxsize, "alpha": 2**31 - 1, "beta": 2**31 - 1}
    call("task_aligned", arguments)
    assert bool((arguments["box_index"] == -1).all() | (arguments["target_score"] >= 0).all())
    for key in ("top_k", "alpha", "beta"):
        with pytest.raises(OverflowError):
            call("task_aligned", {**assign_arguments(), key: 2**80})


@every_function
def test_the_number_of_arguments_is_checked(name: str) -> None:
    values = list(FUNCTIONS[name]().values())
    function = getattr(native._native, name)
    for wrong in ([], values[:-1], [*values, None]):
        with pytest.raises(
            TypeError, match=rf"{name}\(\) takes exactly {len(values)} arguments \({len(wrong)} given\)"
        ):
            function(*wrong)
    with pytest.raises(TypeError, match="takes no keyword arguments"):
        function(*values[:-1], counts=values[-1])


@pytest.mark.parametrize(
    ("name", "argument"),
    [(name, key) for name, make in FUNCTIONS.items() for key, value in make().items() if not hasattr(value, "shape")],
)
def test_a_number_must_be_a_number(name: str, argument: str) -> None:
    for wrong in ("0.5", None, [1], 1j):
        with pytest.raises(TypeError):
            call(name, {**FUNCTIONS[name](), argument: wrong})


@every_array
def test_no_reference_is_kept_or_lost(name: str, argument: str) -> None:
    arguments = FUNCTIONS[name]()
    watched = [value for value in arguments.values() if isinstance(value, np.ndarray)]
    bad = np.zeros((1, 1, 1, 1), arguments[argument].dtype)
    before = [sys.getrefcount(value) for value in (*watched, bad, None)]
    for _ in range(200):
        call(name, arguments)
        with pytest.raises(ValueError, match=f"^{argument} must have"):
            call(name, {**arguments, argument: bad})
        with pytest.raises(ValueError, match=f"^{argument} must be"):
            call(name, {**arguments, argument: 1.5})
    after = [sys.getrefcount(value) for value in (*watched, bad, None)]
    assert after[:-1] == before[:-1]
    assert abs(after[-1] - before[-1]) < 100  # None is counted everywhere; a lost or kept one would be 600


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are those of Linux")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_lack_of_memory_is_an_exception(name: str) -> None:
    code = f"""
import importlib.machinery, importlib.util, resource
import numpy as np
loader = importlib.machinery.ExtensionFileLoader("_native", {native._native.__file__!r})
module = importlib.util.module_from_spec(importlib.util.spec_from_loader("_native", loader))
count = 2_000_000
boxes, scores = np.zeros((1, count, 4), np.float32), np.zeros((1, count), np.float32)
places, points = np.zeros((1, count), np.int64), np.zeros((count, 2), np.float32)
counts, labels, one = np.zeros(1, np.int32), np.zeros((1, 1), np.int64), np.zeros((1, 1, 4), np.float32)
if {name!r} == "nms_padded":
    arguments = boxes, scores, None, 0.5, 0.5, places, counts
else:
    arguments = scores[..., None], boxes, points, one, one, labels, count, 1, 6, places, scores.copy()
pages = int(open("/proc/self/statm").read().split()[0])
for room in range(0, 120, 6):
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + room * 2**20, resource.RLIM_INFINITY))
    try:
        getattr(module, {name!r})(*arguments)
    except MemoryError:
        print("MemoryError")
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
getattr(module, {name!r})(*arguments)
print("enough")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split().count("MemoryError") > 5
    assert result.stdout.split()[-1] == "enough"


# Threads


@every_function
def test_other_threads_run_meanwhile(name: str) -> None:
    """Only while the interpreter's lock is free can a thread see the first image done and the last one not yet."""
    arguments = FUNCTIONS[name]()
    output = "counts" if name == "nms_padded" else "target_score"
    repeats = 20_000  # images; one call takes some hundredths of a second, and is repeated until it is seen
    whole = ("points", *(key for key, value in arguments.items() if not isinstance(value, np.ndarray)))
    arguments = {
        key: value if key in whole else np.ascontiguousarray(np.tile(value, [repeats // 2] + [1] * (value.ndim - 1)))
        for key, value in arguments.items()
    }
    done = arguments[output].reshape(repeats, -1)
    seen = False
    for _ in range(2000):
        done[:] = -9
        thread = threading.Thread(target=call, args=(name, arguments))
        thread.start()
        while thread.is_alive() and not seen:
            first, last = bool(done[0, 0] != -9), bool(done[-1, 0] != -9)  # in this order
            seen = first and not last
        thread.join()
        assert -9 not in done
        if seen:
            break
    assert seen


def test_two_threads_at_once_get_what_one_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOLO_LITE_OPS", "native")
    generator = torch.Generator().manual_seed(27)
    cases = [batch_of(make, 4, 300, generator) for make in MAKERS]
    scenes = [draw_scene(generator, False) for _ in range(40)]
    wanted_kept = [
        nms_padded(*case[:2], labels=case[2], iou_threshold=0.5, score_threshold=-INF, max_detections=300)[0]
        for case in cases
    ]
    wanted_index = [aligned(*scene).box_index for scene in scenes]
    start, wrong = threading.Barrier(3), []

    def work(turn: int) -> None:
        start.wait()
        for number in range(15):
            for case, wanted in list(zip(cases, wanted_kept))[:: turn or 1]:
                if not torch.equal(
                    nms_padded(*case[:2], labels=case[2], iou_threshold=0.5, score_threshold=-INF, max_detections=300)[
                        0
                    ],
                    wanted,
                ):
                    wrong.append(("nms", turn, number))
            for scene, wanted in list(zip(scenes, wanted_index))[:: turn or 1]:
                if not torch.equal(aligned(*scene).box_index, wanted):
                    wrong.append(("assign", turn, number))

    threads = [threading.Thread(target=work, args=(turn,)) for turn in (1, -1, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# Sanitizers

EXERCISE = """
import hashlib
import numpy as np

def boxes(generator, *shape):
    corner = generator.random((*shape, 2)) * 50
    found = np.concatenate([corner, corner + generator.random((*shape, 2)) * 40], -1).astype(np.float32)
    return spoilt(generator, found.round() if generator.random() < 0.5 else found)

def spoilt(generator, values):
    if generator.random() < 0.3:
        where = generator.random(values.shape) < 0.1
        values[where] = generator.choice(np.array([np.nan, np.inf, -np.inf, -0.0, 1e-45, 3e38], np.float32), where.sum())
    return values

def nms_arguments(generator):
    batch, most = generator.integers(0, 4), generator.integers(0, 90)
    count = generator.choice([0, 1, 15, 16, 17, 64, generator.integers(0, 300)])
    words = generator.integers(-2**63, 2**63 - 1, generator.integers(1, 60))
    labels = generator.choice(words, (batch, count)) if generator.random() < 0.7 else None
    scores = spoilt(generator, generator.random((batch, count), np.float32).round(generator.integers(1, 7)))
    thresholds = [float(generator.choice([0, 0.3, 0.5, 1])), float(generator.choice([-np.inf, 0, 0.5]))]
    if generator.random() < 0.05:
        thresholds[generator.integers(2)] = float(generator.choice([np.nan, np.inf, -np.inf, -1, 1e300]))
    outputs = np.full((batch, most), -9), np.full(batch, -9, np.int32)
    wide = np.float64 if generator.random() < 0.4 else np.float32
    return [boxes(generator, batch, count).astype(wide), scores, labels, *thresholds, *outputs]

def assign_arguments(generator):
    batch, count, classes = generator.integers(0, 4), generator.integers(0, 12), generator.integers(1, 5)
    points = generator.choice([0, 1, 15, 16, 17, 32, generator.integers(0, 80)])
    scores = spoilt(generator, generator.random((batch, points, classes), np.float32).round(2))
    places = spoilt(generator, generator.random((points, 2), np.float32) * 64)
    targets, labels = boxes(generator, batch, count), generator.integers(-1, classes, (batch, count))
    predicted = boxes(generator, batch, points)
    if count:
        near = targets[:, generator.integers(0, count, points)] + generator.normal(0, 3, predicted.shape)
        predicted[:, ::2] = near[:, ::2]
    numbers = [int(generator.choice([1, 2, 10, 10**6])), int(generator.integers(0, 4)), int(generator.integers(0, 8))]
    outputs = np.full((batch, points), -9), np.full((batch, points), -9, np.float32)
    return [scores, predicted, places, targets, targets.copy(), labels, *numbers, *outputs]

def wrong(generator, value):
    shape = np.shape(value)
    choices = [None, 0, -1, 2**70, 1e40, "text", [1.0], b"bytes", bytearray(64), memoryview(bytearray(64)).cast("q")]
    if shape:
        choices += [value.astype(kind) for kind in ("f2", "f4", "f8", "i4", "i8", ">f4", ">i8", "?", "c8")]
        choices += [value[..., ::-1], value[1:], value[..., :1].copy(), np.asfortranarray(value), value[None], value[0]]
        longer = np.ones([size + 1 for size in shape], value.dtype)
        choices += [longer, np.ones([*shape, 1], value.dtype), np.ones(0, value.dtype), value.tobytes()]
        choices += [np.full(shape, 2**62), np.frombuffer(bytearray(value.nbytes + 1), value.dtype, offset=1, count=0)]
        if value.size:
            raw = np.frombuffer(bytearray(value.nbytes + 1), np.uint8)
            choices.append(raw[1:].view(value.dtype).reshape(shape))  # not aligned
    return choices[generator.integers(len(choices))]

@np.errstate(all="ignore")
def exercise(module):
    sums = hashlib.sha256()
    refused = answers = 0
    for seed in range(300):
        generator = np.random.default_rng(seed)
        for function, make in ((module.nms_padded, nms_arguments), (module.task_aligned, assign_arguments)):
            arguments = make(generator)
            assert function(*arguments) is None
            for output in arguments[-2:]:
                assert -9 not in output
                sums.update(np.where(output == output, output + 0, 7).tobytes())  # NaN is NaN, -0 is 0
            spoiling = make(generator)
            if all(np.size(value) for value in spoiling):
                for place in generator.choice(len(spoiling), generator.integers(1, 3), replace=False):
                    spoiling[place] = wrong(generator, spoiling[place])
                try:
                    function(*spoiling)
                except (ValueError, TypeError, OverflowError):
                    refused += 1
        answers += int((arguments[-2] >= 0).sum())
    assert refused > 200 and answers > 500, (refused, answers)
    return sums.hexdigest()
"""
RUN = """
import importlib.machinery, importlib.util, sys
loader = importlib.machinery.ExtensionFileLoader("_native", sys.argv[1])
module = importlib.util.module_from_spec(importlib.util.spec_from_loader("_native", loader))
print(exercise(module))
"""
SANITIZE = ("-O1", "-g", "-ffp-contract=off", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
OVERFLOW, LEAK = "AddressSanitizer: heap-buffer-overflow", "Direct leak of"


def gcc(*arguments: str) -> str:
    compiler = shutil.which("gcc")
    if compiler is None or not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        pytest.skip("no gcc, or no Python.h")
    result = subprocess.run([compiler, *arguments], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def exercised(
    folder: Path,
    sources: dict[str, str],
    *flags: str,
    environment: dict[str, str] | None = None,
    exercise: str = EXERCISE,
) -> subprocess.CompletedProcess[str]:
    """Compile a version of the sources and exercise it in a process of its own, which prints a sum of all results."""
    for name, text in sources.items():
        (folder / name).write_text(text)
    headers = ["-I" + sysconfig.get_paths()["include"], f"-I{FOLDER}"]
    fixed = ["-shared", "-fPIC", "-DNO_CLONES", "-Wall", "-Wextra", "-Werror"]
    gcc(*fixed, *flags, *headers, *(str(folder / name) for name in sources), "-lm", "-o", str(folder / "_native.so"))
    return subprocess.run(
        [sys.executable, "-c", exercise + RUN, str(folder / "_native.so")],
        capture_output=True,
        text=True,
        env={**os.environ, **(environment or {})},
    )


def sanitized(folder: Path, sources: dict[str, str], exercise: str = EXERCISE) -> subprocess.CompletedProcess[str]:
    library = gcc("-print-file-name=libasan.so")
    if not Path(library).is_absolute():
        pytest.skip("no libasan")
    options = {"LD_PRELOAD": library, "PYTHONMALLOC": "malloc"}
    flags: dict[str, Any] = {"environment": {**options, "ASAN_OPTIONS": "detect_leaks=1"}, "exercise": exercise}
    result = exercised(folder, sources, *SANITIZE, **flags)
    if "LeakSanitizer has encountered a fatal error" in result.stderr:  # it needs ptrace
        flags["environment"] = {**options, "ASAN_OPTIONS": "detect_leaks=0"}
        result = exercised(folder, sources, *SANITIZE, **flags)
    return result


@cache
def installed_sum() -> str:
    names: dict[str, Any] = {}
    exec(EXERCISE, names)
    return str(names["exercise"](native._native))


@pytest.mark.slow
def test_the_sanitizers_find_nothing_and_the_result_is_the_installed_ones(tmp_path: Path) -> None:
    """They see access out of bounds or after free, undefined arithmetic, bad alignment, leaks.

    The interpreter leaks a little itself, so that the exit status says nothing.
    """
    result = sanitized(tmp_path, SOURCES)
    assert result.stdout.strip() == installed_sum(), result.stderr
    assert not any(name in result.stderr for name in SOURCES)
    assert "runtime error" not in result.stderr


@pytest.mark.parametrize("processor", ["avx2", "avx512f"])
def test_every_instruction_set_gives_the_same(processor: str, tmp_path: Path) -> None:
    """The installed build chooses one when it is loaded."""
    known = Path("/proc/cpuinfo").read_text().split() if sys.platform == "linux" else []
    if not {processor, "fma"} <= set(known):
        pytest.skip(f"a processor without {processor}")
    result = exercised(tmp_path, SOURCES, "-O3", f"-m{processor}", "-mfma", "-ffp-contract=off")
    assert result.stdout.strip() == installed_sum(), result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("good", "bad", "complaint"),
    [
        pytest.param("kept.slots = malloc(slots *", "kept.slots = malloc((slots - 1) *", OVERFLOW, id="slots"),
        pytest.param("malloc((room + 1) *", "malloc((room / 2 + 1) *", OVERFLOW, id="chunks"),
        pytest.param("malloc(padded / WIDTH)", "malloc(count / WIDTH)", OVERFLOW, id="marks"),
        pytest.param(
            "(size_t)(scene.top_k + 1) *",
            "(size_t)(scene.top_k / 2 + 1) *",
            OVERFLOW,
            id="claims",
        ),
        pytest.param("    free(claims);\n", "", LEAK, id="leak of the claims"),
    ],
)
def test_the_sanitizers_see_a_planted_mistake(good: str, bad: str, complaint: str, tmp_path: Path) -> None:
    assert "".join(SOURCES.values()).count(good) == 1
    result = sanitized(tmp_path, {name: text.replace(good, bad) for name, text in SOURCES.items()})
    if complaint == LEAK and "LeakSanitizer" not in result.stderr:
        pytest.skip("LeakSanitizer cannot run here")
    assert complaint in result.stderr
    assert any(f"{name}:" in result.stderr for name in SOURCES)


def test_buffers_that_are_not_aligned_are_refused() -> None:
    crooked = memoryview(bytearray(161))[1:].cast("f", shape=[2, 5, 4])
    scores, indices = np.zeros((2, 5), np.float32), np.zeros((2, 3), np.int64)
    with pytest.raises(ValueError, match="boxes must be aligned to 4 bytes"):
        native._native.nms_padded(crooked, scores, None, 0.5, 0.0, indices, np.zeros(2, np.int32))


def test_labels_that_the_result_overwrites_do_no_harm() -> None:
    flat = np.zeros(2 * 6, np.int64)
    labels, box_index = flat[:2].reshape(1, 2), flat[1:6].reshape(1, 5)
    scores, boxes = np.ones((1, 5, 1), np.float32), np.tile(np.array([0, 0, 9, 9], np.float32), (1, 5, 1))
    points, targets = np.full((5, 2), 4, np.float32), np.tile(np.array([0, 0, 9, 9], np.float32), (1, 2, 1))
    target_score = np.zeros((1, 5), np.float32)
    native._native.task_aligned(scores, boxes, points, targets, targets, labels, 3, 2, 12, box_index, target_score)
