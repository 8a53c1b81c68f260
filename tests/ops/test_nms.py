"""Non-maximum suppression, against a plain greedy loop, torchvision class by class, and hand-worked cases.

Every test runs with each implementation for the CPU: plain torch and, where it was built, the C extension.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from yolo_lite.ops import backend, batched_nms, native, nms, nms_padded

NAN, INF = float("nan"), float("inf")


@pytest.fixture(autouse=True, params=["torch", "native"])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "native" and native.MISSING:
        pytest.skip(native.MISSING)
    monkeypatch.setenv("YOLO_LITE_OPS", request.param)
    assert backend("cpu") == request.param


class Case(NamedTuple):
    """One image's input to the suppression."""

    boxes: Tensor  # float32 or float64 [N, 4]
    scores: Tensor  # float32 [N]
    labels: Tensor  # int64 [N]


def greedy(
    case: Case, iou_threshold: float, score_threshold: float = -INF, most: int = 300, use_labels: bool = True
) -> list[int]:
    """Walk the boxes by descending score; the overlap has their dtype and is compared with a real number."""
    with np.errstate(all="ignore"):
        boxes, scores, labels = case.boxes.numpy(), [float(score) for score in case.scores], case.labels.tolist()
        candidates = [i for i, score in enumerate(scores) if score > score_threshold]
        kept: list[int] = []
        for j in sorted(candidates, key=lambda i: (-scores[i], i)):
            if len(kept) == most:
                break
            rivals = [i for i in kept if not use_labels or labels[i] == labels[j]]
            if not (overlap(boxes[rivals], boxes[j]) > iou_threshold).any():
                kept.append(j)
        return kept


def overlap(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return the intersection over union, in the boxes' own dtype, as real numbers: [...] of [..., 4] and [..., 4]."""
    size = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    size = np.where(size < 0, np.float32(0), size)
    both = size[..., 0] * size[..., 1]
    area_a, area_b = ((box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1]) for box in (a, b))
    return np.asarray(both / (area_a + area_b - both), np.float64)


def by_torchvision(case: Case, iou_threshold: float, score_threshold: float, most: int, use_labels: bool) -> list[int]:
    """Suppress each class by itself with torchvision and merge by (descending score, index)."""
    reference = pytest.importorskip("torchvision.ops").nms
    kept: list[int] = []
    for label in case.labels.unique().tolist() if use_labels else [None]:
        mine = case.scores.double() > score_threshold  # torch would round the threshold to float32
        if label is not None:
            mine &= case.labels == label
        index = mine.nonzero()[:, 0]
        kept += index[reference(case.boxes[index], case.scores[index], iou_threshold)].tolist()
    return sorted(kept, key=lambda i: (-float(case.scores[i]), i))[:most]


def ours(
    case: Case, iou_threshold: float, score_threshold: float = -INF, most: int = 300, use_labels: bool = True
) -> list[int]:
    """Run nms_padded on one image, check the padding, and return the kept positions."""
    labels = case.labels[None] if use_labels else None
    indices, counts = nms_padded(
        case.boxes[None],
        case.scores[None],
        labels=labels,
        iou_threshold=iou_threshold,
        score_threshold=score_threshold,
        max_detections=most,
    )
    assert indices.shape == (1, most)
    assert indices.dtype == torch.int64
    assert counts.shape == (1,)
    assert counts.dtype == torch.int32
    count = int(counts)
    assert bool((indices[0, count:] == -1).all())
    return indices[0, :count].tolist()


def _uniform(count: int, generator: torch.Generator, extent: float = 100, size: float = 50) -> Tensor:
    corner = torch.rand(count, 2, generator=generator) * extent
    return torch.cat([corner, corner + torch.rand(count, 2, generator=generator) * size + 1], -1)


def _case(boxes: Tensor, generator: torch.Generator, classes: int = 3) -> Case:
    scores = torch.rand(len(boxes), generator=generator)
    return Case(boxes, scores, torch.randint(0, classes, (len(boxes),), generator=generator))


def random_case(count: int, generator: torch.Generator) -> Case:
    return _case(_uniform(count, generator), generator)


def clustered(count: int, generator: torch.Generator) -> Case:
    centres = _uniform(-(-count // 12), generator, 400)
    return _case(centres.repeat(12, 1)[:count] + torch.randn(count, 4, generator=generator), generator)


def tied(count: int, generator: torch.Generator) -> Case:
    case = random_case(count, generator)
    return case._replace(scores=(case.scores * 4).floor() / 4)


def all_tied(count: int, generator: torch.Generator) -> Case:
    case = random_case(count, generator)
    return case._replace(scores=torch.full_like(case.scores, 0.5))


def identical(count: int, generator: torch.Generator) -> Case:
    return _case(torch.tensor([[3.0, 4, 9, 11]]).repeat(count, 1), generator)


def degenerate(count: int, generator: torch.Generator) -> Case:
    boxes = _uniform(count, generator, 30, 30).round()
    boxes[::4, 2] = boxes[::4, 0]
    boxes[1::4] = boxes[1::4][:, [2, 1, 0, 3]]
    boxes[2::8] = boxes[2::8][:, [2, 3, 0, 1]]
    return _case(boxes, generator)


def whole_pixels(count: int, generator: torch.Generator) -> Case:
    """Boxes of small integers, so that many overlaps are exactly 3/10, 1/3, 1/2, 3/5 or 7/10."""
    corner = torch.randint(0, 4, (count, 2), generator=generator)
    return _case(
        torch.cat([corner, corner + torch.randint(1, 11, (count, 2), generator=generator)], -1).float(), generator
    )


def not_finite(count: int, generator: torch.Generator) -> Case:
    case = random_case(count, generator)
    spoilt = torch.rand(count, 4, generator=generator)
    boxes = case.boxes.clone()
    boxes[spoilt < 0.05] = NAN
    boxes[(spoilt > 0.05) & (spoilt < 0.1)] = INF
    boxes[(spoilt > 0.1) & (spoilt < 0.15)] = -INF
    return case._replace(boxes=boxes)


def odd_scores(count: int, generator: torch.Generator) -> Case:
    case = random_case(count, generator)
    scores = case.scores - 0.5  # negative scores are scores too
    scores[::5], scores[1::5], scores[2::10], scores[7::20] = NAN, -INF, INF, -0.0
    return case._replace(scores=scores)


def chain(count: int, generator: torch.Generator) -> Case:
    """Each box overlaps the next by 6 / 14 and no other by more than 2 / 18; all of one class, in order of score."""
    x = 4.0 * torch.arange(count)
    boxes = torch.stack([x, torch.zeros(count), x + 10, torch.full((count,), 10.0)], -1)
    return Case(boxes, torch.linspace(1, 0.1, count), torch.zeros(count, dtype=torch.int64))


def negative(count: int, generator: torch.Generator) -> Case:
    case = random_case(count, generator)
    return case._replace(boxes=case.boxes - 300)


def batch_of(make: Callable[[int, torch.Generator], Case], batch: int, count: int, generator: torch.Generator) -> Case:
    """Make several images of one kind: [B, N, 4], [B, N] and [B, N]."""
    made = [make(count, generator) for _ in range(batch)]
    return Case(*(torch.stack(list(part)) for part in zip(*made)))


MAKERS: list[Callable[[int, torch.Generator], Case]] = [
    random_case,
    clustered,
    tied,
    all_tied,
    identical,
    degenerate,
    whole_pixels,
    not_finite,
    odd_scores,
    chain,
    negative,
]
COUNTS = (1, 2, 9, 64, 65, 140, 300)
THRESHOLDS = (0.3, 0.6, 0.7, 1 / 3, 0.5)
# (score_threshold, max_detections, with labels)
SETTINGS = [
    (-INF, 300, True),
    (-INF, 300, False),
    (0.4, 300, True),
    (-INF, 5, True),
    (0.25, 70, False),
    (0.9999, 3, True),
]


# a case, (iou_threshold, score_threshold, max_detections, with labels), and what is to be kept
Answer = tuple[Case, tuple[float, float, int, bool], list[int]]


@cache
def by_loop(make: Callable[[int, torch.Generator], Case]) -> list[Answer]:
    """Answer every size with settings that rotate, seeded by the size."""
    found = []
    for number, count in enumerate(COUNTS):
        case = make(count, torch.Generator().manual_seed(count))
        for turn in range(3):
            place = 3 * number + turn
            settings = (THRESHOLDS[place % 5], *SETTINGS[place % 6])
            found.append((case, settings, greedy(case, *settings)))
    return found


@cache
def class_by_class(make: Callable[[int, torch.Generator], Case]) -> list[Answer]:
    """Answer every size and threshold with two settings each."""
    found = []
    for count in COUNTS:
        case = make(count, torch.Generator().manual_seed(1000 + count))
        for turn, iou_threshold in enumerate((*THRESHOLDS, 0.0, 1.0)):
            for setting in (SETTINGS[turn % 6], SETTINGS[(turn + count) % 6]):
                settings = (iou_threshold, *setting)
                found.append((case, settings, by_torchvision(case, *settings)))
    return found


every_maker = pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)


@every_maker
def test_nms_agrees_with_a_greedy_loop(make: Callable[[int, torch.Generator], Case]) -> None:
    for case, settings, wanted in by_loop(make):
        assert ours(case, *settings) == wanted, (len(case.scores), settings)


@every_maker
def test_nms_agrees_with_torchvision_class_by_class(make: Callable[[int, torch.Generator], Case]) -> None:
    for case, settings, wanted in class_by_class(make):
        assert ours(case, *settings) == wanted, (len(case.scores), settings)


def test_the_cases_are_hard() -> None:
    """Say what the makers promise: suppression across blocks of 64, ties, exact ratios, wild boxes."""
    made = {make.__name__: make(300, torch.Generator().manual_seed(300)) for make in MAKERS}
    for name in ("random_case", "clustered", "tied", "negative"):
        kept = greedy(made[name], 0.5)
        assert 64 < len(kept) < 300 or (name == "clustered" and len(kept) < 300), name
    assert len(made["tied"].scores.unique()) == 4
    assert made["not_finite"].boxes.isnan().any()
    assert made["not_finite"].boxes.isinf().any()
    assert made["odd_scores"].scores.isnan().any()
    assert bool((made["degenerate"].boxes[:, 2] < made["degenerate"].boxes[:, 0]).any())
    whole = made["whole_pixels"].boxes.numpy()
    ratios = set(overlap(whole[:, None], whole).flatten().tolist())
    for numerator, denominator in ((3, 10), (6, 10), (1, 3), (1, 2), (7, 10)):
        assert float(np.float32(numerator) / np.float32(denominator)) in ratios, (numerator, denominator)


# Boxes (0,0)-(q,1) and (0,0)-(p,1) overlap by exactly p/q. The nearest float32 of p/q is compared with the threshold as
# a double: fl32(3/10) = 0.3000000119 and fl32(3/5) = 0.6000000238 and fl32(1/3) = 0.3333333433 lie above theirs,
# fl32(7/10) = 0.6999999881 below, 1/2 is exact.
@pytest.mark.parametrize(
    ("shorter", "longer", "iou_threshold", "kept"),
    [
        pytest.param(3, 10, 0.3, [0], id="3/10 at 0.3"),
        pytest.param(3, 5, 0.6, [0], id="3/5 at 0.6"),
        pytest.param(1, 3, 1 / 3, [0], id="1/3 at 1/3"),
        pytest.param(7, 10, 0.7, [0, 1], id="7/10 at 0.7"),
        pytest.param(1, 2, 0.5, [0, 1], id="1/2 at 0.5"),
        pytest.param(1, 2, 0.49, [0], id="1/2 at 0.49"),
        pytest.param(1, 1, 1.0, [0, 1], id="1 at 1"),
        pytest.param(0, 5, 0.0, [0, 1], id="0 at 0"),
        pytest.param(1, 1000, 0.0, [0], id="1/1000 at 0"),
    ],
)
def test_exact_ratios_at_the_threshold(shorter: int, longer: int, iou_threshold: float, kept: list[int]) -> None:
    boxes = torch.tensor([[0.0, 0, longer, 1], [0, 0, shorter, 1]])
    assert nms(boxes, torch.tensor([0.9, 0.8]), iou_threshold=iou_threshold).tolist() == kept
    torchvision_ops = pytest.importorskip("torchvision.ops")
    assert torchvision_ops.nms(boxes, torch.tensor([0.9, 0.8]), iou_threshold).tolist() == kept


def test_nms_keeps_the_higher_score() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9]])  # overlap 9/10
    assert nms(boxes, torch.tensor([0.4, 0.6]), iou_threshold=0.5).tolist() == [1]
    assert nms(boxes, torch.tensor([0.6, 0.4]), iou_threshold=0.5).tolist() == [0]


def test_a_suppressed_box_suppresses_nothing() -> None:
    """The second falls to the first; the third overlaps only the second (6/14) and so must stay."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])
    assert nms(boxes, torch.tensor([0.9, 0.8, 0.7]), iou_threshold=0.3).tolist() == [0, 2]


def test_a_chain_longer_than_a_block_keeps_every_second_box() -> None:
    case = chain(201, torch.Generator())
    assert ours(case, 0.3) == list(range(0, 201, 2))
    shuffled = torch.randperm(201, generator=torch.Generator().manual_seed(0))
    found = ours(Case(case.boxes[shuffled], case.scores[shuffled], case.labels), 0.3)
    assert shuffled[found].tolist() == list(range(0, 201, 2))


def test_equal_scores_are_taken_by_index() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [50, 0, 60, 10], [0, 0, 10, 9], [50, 0, 60, 9]])
    assert nms(boxes, torch.full((4,), 0.5), iou_threshold=0.5).tolist() == [0, 1]


@pytest.mark.parametrize("zeros", [(-0.0, 0.0), (0.0, -0.0)], ids=["-0 first", "+0 first"])
def test_minus_zero_ties_with_zero(zeros: tuple[float, float]) -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9]])
    assert nms(boxes, torch.tensor(zeros), iou_threshold=0.5).tolist() == [0]


@pytest.mark.parametrize(
    ("score", "threshold", "kept"),
    [
        pytest.param(0.5, 0.5, False, id="equal"),
        pytest.param(0.5, 0.4999, True, id="above"),
        pytest.param(-0.0, 0.0, False, id="minus zero at zero"),
        # the nearest float32 of 0.1 is 0.100000001..., above the real 0.1; that of 0.7 is 0.69999998..., below
        pytest.param(0.1, 0.1, True, id="float32 of 0.1 at 0.1"),
        pytest.param(0.7, 0.7, False, id="float32 of 0.7 at 0.7"),
        pytest.param(-5.0, -INF, True, id="negative score, no threshold"),
        pytest.param(-INF, -INF, False, id="-inf"),
        pytest.param(NAN, -INF, False, id="NaN"),
        pytest.param(INF, 0.9, True, id="inf"),
        pytest.param(1.0, INF, False, id="threshold inf"),
    ],
)
def test_only_scores_above_the_threshold_take_part(score: float, threshold: float, kept: bool) -> None:
    indices, counts = nms_padded(
        torch.tensor([[[0.0, 0, 1, 1]]]),
        torch.tensor([[score]]),
        labels=None,
        iou_threshold=0.5,
        score_threshold=threshold,
        max_detections=1,
    )
    assert (counts.tolist(), indices.tolist()) == (([1], [[0]]) if kept else ([0], [[-1]]))


@pytest.mark.parametrize(
    "wild",
    [
        (NAN, 0, 50, 50),
        (0, 0, 100, NAN),
        (NAN, NAN, NAN, NAN),
        (0, 0, INF, INF),
        (-INF, -INF, INF, INF),
        (INF, 0, 5, 10),
        (-INF, 0, 40, 40),
    ],
    ids=str,
)
@pytest.mark.parametrize("score", [2.0, 0.5], ids=["best score", "middling score"])
def test_a_wild_box_is_kept_and_harms_no_other(wild: tuple[float, ...], score: float) -> None:
    case = random_case(100, torch.Generator().manual_seed(5))
    plain = ours(case, 0.4)
    assert len(plain) < 100
    place = 40
    boxes = torch.cat([case.boxes[:place], torch.tensor([wild], dtype=torch.float32), case.boxes[place:]])
    scores = torch.cat([case.scores[:place], torch.tensor([score]), case.scores[place:]])
    labels = torch.cat([case.labels[:place], torch.tensor([1]), case.labels[place:]])
    found = ours(Case(boxes, scores, labels), 0.4)
    assert place in found
    assert [i - (i > place) for i in found if i != place] == plain


def test_permuting_the_input_permutes_the_output() -> None:
    case = random_case(200, torch.Generator().manual_seed(6))
    assert len(case.scores.unique()) == 200
    order = torch.randperm(200, generator=torch.Generator().manual_seed(7))
    found = ours(Case(case.boxes[order], case.scores[order], case.labels[order]), 0.4)
    assert order[found].tolist() == ours(case, 0.4)


def test_a_box_of_a_new_class_changes_nothing_else() -> None:
    case = random_case(150, torch.Generator().manual_seed(8))
    more = Case(
        torch.cat([case.boxes, case.boxes[:1]]),
        torch.cat([case.scores, torch.tensor([1.5])]),
        torch.cat([case.labels, torch.tensor([99])]),
    )
    assert ours(more, 0.4) == [150, *ours(case, 0.4)]


def test_classes_do_not_compete_even_at_negative_coordinates() -> None:
    """Offsetting each class by its number times the largest coordinate, a common trick, fails here."""
    boxes = torch.tensor([[-10.0, -10, -1, -1], [-10, -10, -1, -1]])
    scores = torch.tensor([0.9, 0.8])
    assert batched_nms(boxes, scores, idxs=torch.tensor([0, 1]), iou_threshold=0.5).tolist() == [0, 1]
    assert batched_nms(boxes, scores, idxs=torch.tensor([1, 1]), iou_threshold=0.5).tolist() == [0]


def test_labels_matter_only_by_equality() -> None:
    case = random_case(120, torch.Generator().manual_seed(9))
    renamed = torch.tensor([-7, 2**40, 0])[case.labels]
    assert ours(case._replace(labels=renamed), 0.4) == ours(case, 0.4)


@every_maker
def test_each_image_of_a_batch_is_as_if_alone(make: Callable[[int, torch.Generator], Case]) -> None:
    made = [make(130, torch.Generator().manual_seed(seed)) for seed in (10, 11)]
    made.append(chain(130, torch.Generator()))  # its blocks need many more rounds than the others'
    boxes, scores, labels = (torch.stack(list(part)) for part in zip(*made))
    for most in (130, 12):
        indices, counts = nms_padded(
            boxes, scores, labels=labels, iou_threshold=0.35, score_threshold=0.2, max_detections=most
        )
        assert indices.shape == (3, most)
        for row, count, case in zip(indices, counts.tolist(), made):
            assert row[:count].tolist() == ours(case, 0.35, 0.2, most)
            assert bool((row[count:] == -1).all())


def test_an_image_that_is_full_does_not_stop_the_others() -> None:
    """The first image has its five after five boxes; the second has 150 copies of one box before its other four."""
    x = 20.0 * torch.arange(154)
    apart = torch.stack([x, x, x + 10, x + 10], -1)
    copies = torch.cat([torch.tensor([[-50.0, -50, -40, -40]]).repeat(150, 1), apart[:4]])
    scores = torch.linspace(1, 0.1, 154).repeat(2, 1)
    indices, counts = nms_padded(
        torch.stack([apart, copies]), scores, labels=None, iou_threshold=0.5, score_threshold=-INF, max_detections=5
    )
    assert indices.tolist() == [[0, 1, 2, 3, 4], [0, 150, 151, 152, 153]]
    assert counts.tolist() == [5, 5]


@pytest.mark.parametrize("shift", [(1, 1), (-1000, 77), (2**20 - 1, -(2**20) + 1)], ids=str)
def test_whole_pixel_boxes_may_be_moved_together(shift: tuple[int, int]) -> None:
    case = whole_pixels(200, torch.Generator().manual_seed(12))
    moved = case._replace(boxes=case.boxes + torch.tensor([*shift, *shift]))
    for iou_threshold in THRESHOLDS:
        assert ours(moved, iou_threshold) == ours(case, iou_threshold)


@every_maker
def test_kept_boxes_do_not_overlap_and_dropped_ones_have_a_suppressor(
    make: Callable[[int, torch.Generator], Case],
) -> None:
    case = make(90, torch.Generator().manual_seed(13))
    kept = ours(case, 0.4)
    boxes, scores = case.boxes.numpy(), case.scores.tolist()
    with np.errstate(all="ignore"):
        over = {
            (i, j): bool(case.labels[i] == case.labels[j]) and overlap(boxes[i], boxes[j]) > 0.4
            for i in kept
            for j in range(90)
            if i != j
        }
    assert [i for i in kept if not scores[i] > -INF] == []
    assert kept == sorted(kept, key=lambda i: (-scores[i], i))
    for j in range(90):
        earlier = [i for i in kept if i != j and (-scores[i], i) < (-scores[j], j)]
        if j in kept:
            assert not any(over[i, j] for i in earlier)
        elif scores[j] > -INF:
            assert any(over[i, j] for i in earlier)


@every_maker
def test_fewer_detections_are_a_prefix_of_more(make: Callable[[int, torch.Generator], Case]) -> None:
    case = make(200, torch.Generator().manual_seed(14))
    everything = ours(case, 0.5, most=200)
    for most in (0, 1, 2, 63, 64, 65, 199, 200, 250):
        assert ours(case, 0.5, most=most) == everything[:most]


def test_max_detections_reached_inside_a_block_stops_there() -> None:
    """Twenty boxes apart from each other, all of them in the first block of 64."""
    x = 20.0 * torch.arange(20)
    boxes = torch.stack([x, x, x + 10, x + 10], -1)
    assert ours(Case(boxes, torch.linspace(1, 0, 20), torch.zeros(20, dtype=torch.int64)), 0.5, most=7) == list(
        range(7)
    )


# Boxes that need more digits than float32 has: an oracle in float64, or the same boxes near zero

ORIGINS = {
    "origin": (0.0, 0.0),
    "UTM": (388096.0, 3948996.0),  # metres
    "Web Mercator": (15558000.0, 4257000.0),
    "centimetres": (1555800012.0, -425700034.0),
    "far out": (2.0**45, -(2.0**46)),
}


@pytest.mark.parametrize("origin", ORIGINS.values(), ids=ORIGINS)
def test_boxes_on_a_map_are_suppressed_as_at_the_origin(origin: tuple[float, float]) -> None:
    """Boxes (0,0)-(1,1) and (0.6,0)-(1.6,1) overlap by 0.4 / 1.6; the third overlaps the first by 0.98^2 / 1.0396."""
    boxes = torch.tensor([[0, 0, 1, 1], [0.6, 0, 1.6, 1], [0.02, 0.02, 1.02, 1.02]], dtype=torch.float64)
    boxes, scores = boxes + torch.tensor([*origin, *origin], dtype=torch.float64), torch.tensor([0.9, 0.8, 0.7])
    assert nms(boxes, scores, iou_threshold=0.3).tolist() == [0, 1]
    assert nms(boxes, scores, iou_threshold=0.2).tolist() == [0]
    assert batched_nms(boxes, scores, idxs=torch.tensor([0, 0, 1]), iou_threshold=0.3).tolist() == [0, 1, 2]


def test_boxes_in_degrees_are_suppressed() -> None:
    """A metre is some 0.00001 degrees, less than float32's step at 139 degrees. 8 x 8 of 10 x 10 are 64 / 136."""
    corner = torch.tensor([139.763416, 35.678513] * 2, dtype=torch.float64)
    boxes = corner + torch.tensor([[0, 0, 10, 10], [2, 2, 12, 12]], dtype=torch.float64) * 1e-6
    assert nms(boxes, torch.tensor([0.9, 0.8]), iou_threshold=0.46).tolist() == [0]
    assert nms(boxes, torch.tensor([0.9, 0.8]), iou_threshold=0.48).tolist() == [0, 1]


@every_maker
@pytest.mark.parametrize("origin", ORIGINS.values(), ids=ORIGINS)
def test_float64_boxes_agree_with_a_greedy_loop_in_float64(
    make: Callable[[int, torch.Generator], Case], origin: tuple[float, float]
) -> None:
    for number, count in enumerate((2, 65, 140)):
        case = make(count, torch.Generator().manual_seed(count))
        far = case._replace(boxes=case.boxes.double() + torch.tensor([*origin, *origin], dtype=torch.float64))
        settings = (THRESHOLDS[number], *SETTINGS[number])
        assert ours(far, *settings) == greedy(far, *settings), (count, settings)


@every_maker
def test_float64_boxes_agree_with_torchvision(make: Callable[[int, torch.Generator], Case]) -> None:
    """Which computes in the dtype of the boxes."""
    case = make(140, torch.Generator().manual_seed(3))
    far = case._replace(boxes=case.boxes.double() * 1e-6 + 139, scores=case.scores.double())
    for iou_threshold in THRESHOLDS:
        assert ours(far, iou_threshold) == by_torchvision(far, iou_threshold, -INF, 300, True)


def test_boxes_all_over_a_map_are_suppressed_each_in_its_place() -> None:
    """Two hundred towns 67 million units apart: one origin for all of them would leave float32 no digits."""
    towns, kept = [], []
    for number in range(200):
        town = whole_pixels(6, torch.Generator().manual_seed(number))
        kept += [6 * number + place for place in greedy(town._replace(boxes=town.boxes.double()), 0.4)]
        towns.append(town._replace(boxes=town.boxes.double() + number * 2.0**26))
    boxes, scores, labels = (torch.cat(list(part)) for part in zip(*towns))
    order = scores.argsort(descending=True, stable=True).tolist()
    for dtype in (torch.float64, torch.int64):
        found = batched_nms(boxes.to(dtype), scores, idxs=labels, iou_threshold=0.4).tolist()
        assert found == [place for place in order if place in kept]
    assert 200 < len(kept) < 1200


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_whole_numbers_that_float32_cannot_hold_are_told_apart(dtype: torch.dtype) -> None:
    high = 2**30
    boxes = torch.tensor([[high, high, high + 3, high + 3], [high + 3, high, high + 6, high + 3]], dtype=dtype)
    assert nms(boxes, torch.tensor([0.9, 0.8]), iou_threshold=0.1).tolist() == [0, 1]  # they touch
    assert nms(boxes[[0, 0]], torch.tensor([0.9, 0.8]), iou_threshold=0.1).tolist() == [0]


@pytest.mark.parametrize("wild", [(NAN, 0, 50, 50), (0, 0, INF, INF), (-INF, -INF, INF, INF), (1e300, 0, 1.1e300, 9)])
def test_a_wild_box_harms_no_other_on_a_map(wild: tuple[float, ...]) -> None:
    case = random_case(100, torch.Generator().manual_seed(5))
    case = case._replace(boxes=case.boxes.double() + 2.0**40)
    boxes = torch.cat([case.boxes, torch.tensor([wild], dtype=torch.float64)])
    more = Case(boxes, torch.cat([case.scores, torch.tensor([2.0])]), torch.cat([case.labels, case.labels[:1]]))
    plain = ours(case, 0.4)
    assert ours(more, 0.4) == [100, *plain]
    assert plain == greedy(case, 0.4)


def test_another_image_of_the_batch_does_not_matter_on_a_map() -> None:
    cases = [whole_pixels(80, torch.Generator().manual_seed(seed)) for seed in (0, 1)]
    boxes = torch.stack([cases[0].boxes.double() - 2.0**47, cases[1].boxes.double() + 2.0**47])
    scores, labels = (torch.stack([part, other]) for part, other in list(zip(*cases))[1:])
    indices, counts = nms_padded(boxes, scores, labels=labels, iou_threshold=0.4)
    for row, count, case in zip(indices, counts.tolist(), cases):
        assert row[:count].tolist() == greedy(case._replace(boxes=case.boxes.double()), 0.4)


def test_scores_of_float64_keep_their_digits() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 9]])
    close = torch.tensor([0.5, 0.5 + 1e-12], dtype=torch.float64)
    assert nms(boxes, close, iou_threshold=0.5).tolist() == [1]
    assert nms(boxes.double(), close.flip(0), iou_threshold=0.5).tolist() == [0]
    _, counts = nms_padded(
        boxes[None, :1], close[None, 1:], labels=None, iou_threshold=0.5, score_threshold=0.5, max_detections=1
    )
    assert counts.tolist() == [1]
    _, counts = nms_padded(
        boxes[None, :1], close[None, :1], labels=None, iou_threshold=0.5, score_threshold=0.5, max_detections=1
    )
    assert counts.tolist() == [0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.int64], ids=str)
def test_scores_of_any_width_order_the_boxes_alike(dtype: torch.dtype) -> None:
    for seed in range(3):
        case = odd_scores(150, torch.Generator().manual_seed(seed))
        if dtype == torch.int64:
            case = case._replace(scores=(case.scores.nan_to_num(0, 2, -2) * 10).round())
        for score_threshold in (-INF, 0.0, 0.3):
            wanted = greedy(case, 0.4, score_threshold)
            assert ours(case._replace(scores=case.scores.to(dtype)), 0.4, score_threshold) == wanted
            assert len(wanted) > 5


@pytest.mark.parametrize("dtype", [torch.float64, torch.int32, torch.int64], ids=str)
def test_no_boxes_of_a_wide_dtype_give_an_empty_result(dtype: torch.dtype) -> None:
    assert nms(torch.zeros(0, 4, dtype=dtype), torch.zeros(0, dtype=torch.float64), iou_threshold=0.5).tolist() == []
    indices, counts = nms_padded(
        torch.zeros(2, 0, 4, dtype=dtype), torch.zeros(2, 0), labels=None, iou_threshold=0.5, max_detections=3
    )
    assert (indices.tolist(), counts.tolist()) == ([[-1] * 3] * 2, [0, 0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int16], ids=str)
def test_narrow_dtypes_are_computed_in_float32(dtype: torch.dtype) -> None:
    case = random_case(150, torch.Generator().manual_seed(15))
    scores = case.scores.to(dtype) if dtype.is_floating_point else case.scores
    boxes = (case.boxes * 6).to(dtype)
    area = (boxes[:, 2] - boxes[:, 0]).float() * (boxes[:, 3] - boxes[:, 1]).float()
    assert float(area.max()) > torch.finfo(torch.float16).max  # would be infinite in float16
    wanted = greedy(Case(boxes.float(), scores.float(), case.labels), 0.4)
    assert 10 < len(wanted) < 150
    assert batched_nms(boxes, scores, idxs=case.labels, iou_threshold=0.4).tolist() == wanted


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64], ids=str)
def test_every_integer_dtype_of_labels_will_do(dtype: torch.dtype) -> None:
    case = random_case(80, torch.Generator().manual_seed(16))
    assert ours(case._replace(labels=case.labels.to(dtype)), 0.4) == greedy(case, 0.4)


def test_the_input_is_not_modified() -> None:
    case = odd_scores(100, torch.Generator().manual_seed(17))
    before = [part.clone() for part in case]
    ours(case, 0.4, 0.1)
    for part, copy in zip(case, before):
        assert torch.equal(part.nan_to_num(), copy.nan_to_num())
    assert bool((torch.signbit(case.scores) == torch.signbit(before[1])).all())


@pytest.mark.parametrize(
    ("batch", "count", "most"), [(0, 5, 4), (2, 0, 4), (2, 5, 0), (0, 0, 0)], ids=["B = 0", "N = 0", "K = 0", "all 0"]
)
def test_nothing_gives_only_padding(batch: int, count: int, most: int) -> None:
    labels = torch.zeros(batch, count, dtype=torch.int64)
    indices, counts = nms_padded(
        torch.zeros(batch, count, 4),
        torch.zeros(batch, count),
        labels=labels,
        iou_threshold=0.5,
        score_threshold=-INF,
        max_detections=most,
    )
    assert torch.equal(indices, torch.full((batch, most), -1))
    assert torch.equal(counts, torch.zeros(batch, dtype=torch.int32))


def test_no_boxes_give_an_empty_result() -> None:
    empty = torch.zeros(0, dtype=torch.int64)
    assert torch.equal(nms(torch.zeros(0, 4), torch.zeros(0), iou_threshold=0.5), empty)
    assert torch.equal(batched_nms(torch.zeros(0, 4), torch.zeros(0), idxs=empty, iou_threshold=0.5), empty)


def test_nms_and_batched_nms_have_no_cap_on_detections() -> None:
    x = 20.0 * torch.arange(400)
    boxes, scores = torch.stack([x, x, x + 10, x + 10], -1), torch.linspace(1, 0, 400)
    assert nms(boxes, scores, iou_threshold=0.5).tolist() == list(range(400))
    assert batched_nms(boxes, scores, idxs=torch.zeros(400, dtype=torch.int64), iou_threshold=0.5).tolist() == list(
        range(400)
    )


def test_nms_padded_keeps_300_unless_told() -> None:
    x = 20.0 * torch.arange(400)
    indices, counts = nms_padded(
        torch.stack([x, x, x + 10, x + 10], -1)[None], torch.ones(1, 400), labels=None, iou_threshold=0.5
    )
    assert indices.tolist() == [list(range(300))]
    assert counts.tolist() == [300]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        pytest.param({"boxes": torch.zeros(2, 5, 5)}, r"boxes must be \[B, N, 4\], got \[2, 5, 5\]", id="boxes of 5"),
        pytest.param({"boxes": torch.zeros(5, 4)}, r"boxes must be \[B, N, 4\], got \[5, 4\]", id="boxes without B"),
        pytest.param({"scores": torch.zeros(2, 6)}, r"scores must be \[2, 5\] like boxes, got \[2, 6\]", id="scores"),
        pytest.param({"scores": torch.zeros(2, 5, 1)}, r"scores must be \[2, 5\]", id="scores of 3 dimensions"),
        pytest.param({"labels": torch.zeros(5).long()}, r"labels must be \[2, 5\] like boxes, got \[5\]", id="labels"),
        pytest.param({"labels": torch.zeros(2, 5)}, "labels must be integers, got torch.float32", id="float labels"),
        pytest.param({"labels": torch.zeros(2, 5).bool()}, "labels must be integers", id="bool labels"),
        pytest.param({"labels": torch.zeros(2, 5, device="meta").long()}, "labels must be on cpu", id="device"),
        pytest.param({"iou_threshold": 1.5}, "iou_threshold must be from 0 to 1, got 1.5", id="iou above 1"),
        pytest.param({"iou_threshold": -0.1}, "iou_threshold must be from 0 to 1, got -0.1", id="iou below 0"),
        pytest.param({"iou_threshold": NAN}, "iou_threshold must be from 0 to 1, got nan", id="iou NaN"),
        pytest.param({"score_threshold": NAN}, "score_threshold must be a number, got nan", id="score NaN"),
        pytest.param({"max_detections": -1}, "max_detections must not be negative, got -1", id="max_detections"),
    ],
)
def test_a_wrong_argument_is_named(changed: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "boxes": torch.zeros(2, 5, 4),
        "scores": torch.zeros(2, 5),
        "labels": torch.zeros(2, 5, dtype=torch.int64),
        "iou_threshold": 0.5,
    }
    with pytest.raises(ValueError, match=message):
        nms_padded(**{**arguments, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("boxes", "scores", "labels"),
    [
        pytest.param((1, 5, 4), (5,), (5,), id="boxes of 3 dimensions"),
        pytest.param((5, 4), (1, 5), (5,), id="scores of 2 dimensions"),
        pytest.param((5, 4), (5,), (5, 1), id="idxs of 2 dimensions"),
    ],
)
def test_batched_nms_names_the_shapes_it_needs(
    boxes: tuple[int, ...], scores: tuple[int, ...], labels: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"boxes, scores and idxs must be \[N, 4\], \[N\] and \[N\], got "):
        batched_nms(
            torch.zeros(boxes), torch.zeros(scores), idxs=torch.zeros(labels, dtype=torch.int64), iou_threshold=0.5
        )


def test_nms_names_the_argument_of_a_wrong_length() -> None:
    with pytest.raises(ValueError, match="scores must be"):
        nms(torch.zeros(5, 4), torch.zeros(6), iou_threshold=0.5)
