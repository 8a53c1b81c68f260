"""Assigners, against slow loops in plain Python and hand-worked images.

Every test of task_aligned runs with each implementation for the CPU: plain torch and, where it was built, the C extension.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from yolo_lite.losses.assign import ASSIGNERS, Assignment, Candidates, Targets, static, task_aligned
from yolo_lite.ops import backend, native

Row = list[float]
ImageInput = tuple[list[int], list[float]]  # box index and target score of every point
Assign = Callable[..., Assignment]
both = pytest.mark.parametrize("assign", [task_aligned, static], ids=["task_aligned", "static"])


@pytest.fixture(autouse=True, params=["torch", "native"])
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "native" and native.MISSING:
        pytest.skip(native.MISSING)
    monkeypatch.setenv("YOLO_LITE_OPS", request.param)
    assert backend("cpu") == request.param


def grid(height: int, width: int, strides: tuple[int, ...] = (8, 16, 32)) -> tuple[Tensor, Tensor]:
    """Return points [A, 2] and strides [A] of an image, cell by cell."""
    points, levels = [], []
    for stride in strides:
        for row in range(height // stride):
            for column in range(width // stride):
                points.append([(column + 0.5) * stride, (row + 0.5) * stride])
                levels.append(float(stride))
    return torch.tensor(points), torch.tensor(levels)


def overlap(a: Row, b: Row) -> float:
    """Return the intersection over union of two boxes."""
    width, height = (max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    area = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    either = area[0] + area[1] - width * height
    return width * height / either if either else 0.0


def holds(box: Row, point: Row, strides: list[float]) -> bool:
    """Tell whether a point is inside a box whose sides are first made at least the second smallest stride."""
    levels = sorted(set(strides))
    least = levels[1] if len(levels) > 1 else levels[0]
    for axis in (0, 1):
        low, high = box[axis], box[axis + 2]
        if high - low < least:
            low, high = (low + high) / 2 - least / 2, (low + high) / 2 + least / 2
        if not low < point[axis] < high:
            return False
    return True


def settle(claims: list[dict[int, float]], values: list[dict[int, float]], points: int) -> ImageInput:
    """Give every point to the claiming box of highest overlap, the first of equals, with that box's value."""
    index, target = [-1] * points, [0.0] * points
    for point in range(points):
        best = -1.0
        for n, overlaps in enumerate(claims):
            if point in overlaps and overlaps[point] > best:
                best, index[point], target[point] = overlaps[point], n, values[n][point]
    return index, target


def slow_task_aligned(
    scores: Tensor, boxes: Tensor, points: Tensor, strides: Tensor, targets: Targets, **options: float
) -> ImageInput:
    """Assign one image by the words of TOOD, box after box, point after point."""
    top_k, alpha, beta = int(options.get("top_k", 10)), options.get("alpha", 1.0), options.get("beta", 6.0)
    claims: list[dict[int, float]] = []
    values: list[dict[int, float]] = []
    for wanted, label in zip(targets.boxes.tolist(), targets.labels.tolist()):
        ranking = []
        for a, (point, predicted) in enumerate(zip(points.tolist(), boxes.tolist())):
            if label >= 0 and holds(wanted, point, strides.tolist()):
                shared = overlap(wanted, predicted)
                ranking.append((-(float(scores[a, label]) ** alpha) * shared**beta, a, shared))
        ranking = [entry for entry in sorted(ranking)[:top_k] if entry[0] < 0]
        claims.append({a: shared for _, a, shared in ranking})
        best = max((shared for _, _, shared in ranking), default=0.0)
        values.append({a: negative / ranking[0][0] * best for negative, a, _ in ranking})
    return settle(claims, values, len(points))


def slow_static(
    scores: Tensor, boxes: Tensor, points: Tensor, strides: Tensor, targets: Targets, **options: float
) -> ImageInput:
    """Assign one image by the words of ATSS, with a square of five strides at every point."""
    top_k = int(options.get("top_k", 9))
    levels, places = strides.tolist(), points.tolist()
    claims: list[dict[int, float]] = []
    values: list[dict[int, float]] = []
    for wanted, label in zip(targets.boxes.tolist(), targets.labels.tolist()):
        centre = [(wanted[0] + wanted[2]) / 2, (wanted[1] + wanted[3]) / 2]
        candidates: dict[int, float] = {}
        for level in sorted(set(levels)):
            mine = [a for a in range(len(places)) if levels[a] == level]
            mine.sort(key=lambda a: ((places[a][0] - centre[0]) ** 2 + (places[a][1] - centre[1]) ** 2, a))
            for a in mine[:top_k]:
                x, y = places[a]
                half = 2.5 * level
                candidates[a] = overlap(wanted, [x - half, y - half, x + half, y + half])
        mean = sum(candidates.values()) / len(candidates)
        spread = sum((value - mean) ** 2 for value in candidates.values()) / max(1, len(candidates) - 1)
        threshold = mean + math.sqrt(spread)
        claimed = {
            a: value
            for a, value in candidates.items()
            if label >= 0 and value > 0 and value >= threshold and holds(wanted, places[a], levels)
        }
        if label >= 0 and not claimed:  # the point inside whose square overlaps most
            half = [2.5 * level for level in levels]
            squares = [[x - h, y - h, x + h, y + h] for (x, y), h in zip(places, half)]
            everywhere = {
                a: overlap(wanted, square) for a, square in enumerate(squares) if holds(wanted, places[a], levels)
            }
            best = max(everywhere, key=lambda a: (everywhere[a], -a), default=None)
            if best is not None and everywhere[best] > 0:
                claimed = {best: everywhere[best]}
        claims.append(claimed)
        values.append({a: value / max(claimed.values()) for a, value in claimed.items()})
    return settle(claims, values, len(points))


SLOW: dict[Assign, Callable[..., ImageInput]] = {task_aligned: slow_task_aligned, static: slow_static}


def scene(
    seed: int, batch: int = 3, count: int = 7, classes: int = 4, hw: tuple[int, int] = (96, 128)
) -> tuple[Tensor, Tensor, Tensor, Tensor, Targets]:
    """Draw a crowded batch: boxes that overlap, some tiny, some past the border; predictions near some of the boxes."""
    generator = torch.Generator().manual_seed(seed)
    points, strides = grid(*hw)
    size = torch.rand(batch, count, 2, generator=generator) * 60 + 6
    size[:, 0] = torch.rand(batch, 2, generator=generator) * 6 + 1  # tiny
    size[:, 1, 0] = 3  # thin
    corner = torch.rand(batch, count, 2, generator=generator) * torch.tensor([hw[1], hw[0]]) - size / 2
    wanted = torch.cat([corner, corner + size], -1)
    labels = torch.randint(0, classes, (batch, count), generator=generator)
    labels[0, count - 2 :] = -1
    wanted[0, count - 2 :] = 0
    total = len(points)
    chosen = torch.randint(0, count, (batch, total), generator=generator)
    near = wanted.gather(1, chosen.unsqueeze(-1).expand(-1, -1, 4))
    predicted = near + torch.randn(batch, total, 4, generator=generator) * 4
    low, high = (
        torch.minimum(predicted[..., :2], predicted[..., 2:]),
        torch.maximum(predicted[..., :2], predicted[..., 2:]),
    )
    scores = torch.rand(batch, total, classes, generator=generator)
    return scores, torch.cat([low, high + 0.5], -1), points, strides, Targets(wanted, labels)


def check(found: Assignment, wanted: list[ImageInput]) -> None:
    """Compare an assignment with what a slow loop found for each image."""
    assert found.box_index.dtype == torch.int64
    assert found.target_score.dtype == torch.float32
    assert found.box_index.tolist() == [index for index, _ in wanted]
    torch.testing.assert_close(found.target_score, torch.tensor([target for _, target in wanted]), rtol=1e-4, atol=1e-6)


def one(targets: Targets, image: int, rows: slice = slice(None)) -> Targets:
    """Return one image's targets without the batch."""
    return Targets(targets.boxes[image, rows], targets.labels[image, rows])


OPTIONS = [
    pytest.param({}, id="defaults"),
    pytest.param({"top_k": 1}, id="top 1"),
    pytest.param({"top_k": 3, "alpha": 0.5, "beta": 2.0}, id="top 3, other exponents"),
    pytest.param({"top_k": 5, "alpha": 3.0, "beta": 5.0}, id="top 5, other whole exponents"),
    pytest.param({"alpha": 0.0, "beta": 1.0}, id="place alone"),
    pytest.param({"alpha": 2.0, "beta": 0.0}, id="class alone"),
    pytest.param({"top_k": 1000}, id="top_k above the points"),
]


@both
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_assigner_agrees_with_a_slow_loop(assign: Assign, options: dict[str, float], seed: int) -> None:
    scores, boxes, points, strides, targets = scene(seed)
    if assign is static:
        options = {name: value for name, value in options.items() if name == "top_k"}
    found = assign(Candidates(scores, boxes, points=points, strides=strides), targets, **options)
    wanted = [SLOW[assign](scores[b], boxes[b], points, strides, one(targets, b), **options) for b in range(3)]
    check(found, wanted)
    assert 0 < int((found.box_index >= 0).sum()) < found.box_index.numel()


@both
def test_the_scene_is_hard(assign: Assign) -> None:
    """Some points are claimed by several boxes, some claims go to a later box, tiny boxes have points."""
    scores, boxes, points, strides, targets = scene(0)
    contested, later = 0, 0
    together = [SLOW[assign](scores[b], boxes[b], points, strides, one(targets, b))[0] for b in range(3)]
    for b in range(3):
        alone = [
            SLOW[assign](scores[b], boxes[b], points, strides, one(targets, b, slice(n, n + 1)))[0] for n in range(7)
        ]
        for a in range(len(points)):
            claiming = [n for n in range(7) if alone[n][a] == 0]
            contested += len(claiming) > 1
            later += len(claiming) > 1 and together[b][a] != claiming[0]
    assert contested > 5
    assert later > 0
    assert any(0 in index for index in together)  # box 0 is tiny
    if assign is task_aligned:  # and some box of higher overlap did not claim: the rule is about claiming boxes only
        others = 0
        for b in range(3):
            for a, n in enumerate(together[b]):
                shared = [
                    overlap(box, boxes[b, a].tolist()) * (label >= 0)
                    for box, label in zip(targets.boxes[b].tolist(), targets.labels[b].tolist())
                ]
                others += n >= 0 and max(shared) > shared[n]
        assert others > 0


@both
def test_a_batch_is_its_images(assign: Assign) -> None:
    scores, boxes, points, strides, targets = scene(2, batch=4)
    found = assign(Candidates(scores, boxes, points=points, strides=strides), targets)
    for b in range(4):
        item = slice(b, b + 1)
        alone = assign(
            Candidates(scores[item], boxes[item], points=points, strides=strides),
            Targets(targets.boxes[item], targets.labels[item]),
        )
        assert torch.equal(found.box_index[item], alone.box_index)
        assert torch.equal(found.target_score[item], alone.target_score)


@both
@pytest.mark.parametrize("rubbish", [0.0, 50.0, 1e6], ids=["zeros", "boxes in the image", "huge boxes"])
def test_padding_changes_nothing(assign: Assign, rubbish: float) -> None:
    scores, boxes, points, strides, targets = scene(3)
    found = assign(Candidates(scores, boxes, points=points, strides=strides), targets)
    more = torch.tensor([-rubbish, -rubbish, rubbish, rubbish]).expand(3, 5, 4)
    padded = Targets(torch.cat([targets.boxes, more], 1), torch.cat([targets.labels, torch.full((3, 5), -1)], 1))
    again = assign(Candidates(scores, boxes, points=points, strides=strides), padded)
    assert torch.equal(found.box_index, again.box_index)
    assert torch.equal(found.target_score, again.target_score)


@both
def test_padding_in_front_only_shifts_the_index(assign: Assign) -> None:
    scores, boxes, points, strides, targets = scene(3)
    found = assign(Candidates(scores, boxes, points=points, strides=strides), targets)
    padded = Targets(
        torch.cat([torch.tensor([0.0, 0, 128, 96]).expand(3, 2, 4), targets.boxes], 1),
        torch.cat([torch.full((3, 2), -1), targets.labels], 1),
    )
    again = assign(Candidates(scores, boxes, points=points, strides=strides), padded)
    assert torch.equal(torch.where(found.box_index >= 0, found.box_index + 2, -1), again.box_index)
    assert torch.equal(found.target_score, again.target_score)


@both
@pytest.mark.parametrize("count", [0, 3], ids=["N = 0", "only padding"])
def test_without_boxes_everything_is_background(assign: Assign, count: int) -> None:
    scores, boxes, points, strides, _ = scene(4)
    targets = Targets(torch.zeros(3, count, 4), torch.full((3, count), -1))
    found = assign(Candidates(scores, boxes, points=points, strides=strides), targets)
    assert torch.equal(found.box_index, torch.full((3, len(points)), -1))
    assert torch.equal(found.target_score, torch.zeros(3, len(points)))


@both
def test_the_arguments_are_not_modified(assign: Assign) -> None:
    scores, boxes, points, strides, targets = scene(5)
    before = [part.clone() for part in (scores, boxes, points, strides, *targets)]
    assign(Candidates(scores, boxes, points=points, strides=strides), targets)
    for part, copy in zip((scores, boxes, points, strides, *targets), before):
        assert torch.equal(part, copy)


@both
@pytest.mark.parametrize(
    "box",
    [
        pytest.param((60, 40, 60, 40), id="no area"),
        pytest.param((500, 500, 540, 540), id="off the image"),
        pytest.param((20, 20, 10, 10), id="inverted"),
    ],
)
def test_a_hopeless_box_gives_finite_targets_and_harms_no_other(assign: Assign, box: tuple[float, ...]) -> None:
    scores, boxes, points, strides, targets = scene(6)
    found = assign(Candidates(scores, boxes, points=points, strides=strides), targets)
    more = torch.tensor(box, dtype=torch.float32).expand(3, 1, 4)
    hopeless = Targets(torch.cat([targets.boxes, more], 1), torch.cat([targets.labels, torch.zeros(3, 1).long()], 1))
    again = assign(Candidates(scores, boxes, points=points, strides=strides), hopeless)
    assert torch.equal(found.box_index, again.box_index)
    assert torch.equal(found.target_score, again.target_score)


@both
def test_target_scores_lie_in_0_to_1_and_belong_to_boxes(assign: Assign) -> None:
    scores, boxes, points, strides, targets = scene(7)
    found = assign(Candidates(scores, boxes, points=points, strides=strides), targets)
    mine = found.box_index >= 0
    assert bool((found.target_score[~mine] == 0).all())
    assert 0 < float(found.target_score[mine].min()) <= float(found.target_score.max()) <= 1
    labels = targets.labels.gather(1, found.box_index.clamp(min=0))
    assert bool((labels[mine] >= 0).all())


# One box from (0,0) to (32,32): inside lie the 16 points of stride 8 (rows of 4, indices 0-3, 8-11, 16-19, 24-27 in a
# image 64 wide), 4 of stride 16 and 1 of stride 32.
def test_equal_alignments_are_claimed_by_index() -> None:
    points, strides = grid(64, 64)
    wanted = torch.tensor([[[0.0, 0, 32, 32]]])
    boxes, scores = wanted.expand(1, len(points), 4), torch.full((1, len(points), 1), 0.25)
    targets = Targets(wanted, torch.zeros(1, 1, dtype=torch.int64))
    found = task_aligned(Candidates(scores, boxes, points=points, strides=strides), targets, top_k=6)
    assert found.box_index[0].nonzero().numel() == len(points) - 6  # 0 is the box, -1 the background
    assert (found.box_index[0] == 0).nonzero()[:, 0].tolist() == [0, 1, 2, 3, 8, 9]
    assert found.target_score[0, [0, 1, 2, 3, 8, 9]].tolist() == [1.0] * 6  # all equal to the best, whose IoU is 1


def test_a_tie_at_the_last_place_goes_to_the_lower_index_after_the_better_points() -> None:
    points, strides = grid(64, 64)
    wanted = torch.tensor([[[0.0, 0, 32, 32]]])
    scores = torch.full((1, len(points), 1), 0.25)
    scores[0, [19, 26], 0] = 0.5  # inside, better, of high index
    found = task_aligned(
        Candidates(scores, wanted.expand(1, len(points), 4), points=points, strides=strides),
        Targets(wanted, torch.zeros(1, 1).long()),
        top_k=4,
    )
    assert (found.box_index[0] == 0).nonzero()[:, 0].tolist() == [0, 1, 19, 26]
    assert found.target_score[0, [0, 1, 19, 26]].tolist() == [0.5, 0.5, 1.0, 1.0]


def test_points_nearest_to_the_centre_are_claimed_by_index_on_ties() -> None:
    """Centre (16,16) in a 32 x 32 image of stride 8: four points equally near, of which top_k = 2 takes the first."""
    points, strides = grid(32, 32, (8,))
    targets = Targets(torch.tensor([[[4.0, 4, 28, 28]]]), torch.zeros(1, 1, dtype=torch.int64))
    found = static(
        Candidates(torch.zeros(1, 16, 1), torch.zeros(1, 16, 4), points=points, strides=strides), targets, top_k=2
    )
    # rows of 4: the points about the centre are 5, 6, 9, 10; both overlaps equal, so both reach mean + deviation 0
    assert (found.box_index[0] == 0).nonzero()[:, 0].tolist() == [5, 6]
    assert found.target_score[0, [5, 6]].tolist() == [1.0, 1.0]


@both
def test_a_point_that_two_equal_boxes_claim_goes_to_the_lower_index(assign: Assign) -> None:
    scores, boxes, points, strides, targets = scene(8)
    doubled = Targets(targets.boxes.repeat(1, 2, 1), targets.labels.repeat(1, 2))
    single, double = (
        assign(Candidates(scores, boxes, points=points, strides=strides), choice) for choice in (targets, doubled)
    )
    assert bool((single.box_index >= 0).any())
    assert torch.equal(single.box_index, double.box_index)
    assert torch.equal(single.target_score, double.target_score)


def test_a_contested_point_goes_to_the_claiming_box_of_highest_iou() -> None:
    """Two boxes share point 0; every prediction equals the second, so that one has the point whatever the order."""
    points, strides = grid(64, 64)
    first, second = [0.0, 0, 32, 32], [0.0, 0, 32, 24]
    boxes = torch.tensor(second).expand(1, len(points), 4)
    scores = torch.tensor([0.9, 0.1]).expand(1, len(points), 2)  # the class of the first is far surer
    for order, winner in ((0, 1), (1, 0)):
        wanted = [first, second][:: -1 if order else 1]
        labels = [0, 1][:: -1 if order else 1]
        found = task_aligned(
            Candidates(scores, boxes, points=points, strides=strides),
            Targets(torch.tensor([wanted]), torch.tensor([labels])),
        )
        assert int(found.box_index[0, 0]) == winner
        assert float(found.target_score[0, 0]) == 1  # the second box's best, whose IoU is 1


def test_a_box_that_does_not_claim_a_point_has_no_say_over_it() -> None:
    """The second box overlaps point 9's prediction more, but its single claim goes elsewhere: the first gets it."""
    points, strides = grid(64, 64)
    first, second = [0.0, 0, 32, 32], [0.0, 0, 28, 32]
    boxes = torch.zeros(1, len(points), 4)
    boxes[0, 9] = torch.tensor([0.0, 0, 29, 32])  # IoU 29/32 with the first, 28/29 with the second
    boxes[0, 0] = torch.tensor(second)  # IoU 1 with the second, 28/32 with the first
    scores = torch.zeros(1, len(points), 2)
    scores[0, 9] = torch.tensor([0.9, 0.9])
    scores[0, 0] = torch.tensor([0.1, 0.9])
    found = task_aligned(
        Candidates(scores, boxes, points=points, strides=strides),
        Targets(torch.tensor([[first, second]]), torch.tensor([[0, 1]])),
        top_k=1,
    )
    assert (int(found.box_index[0, 9]), int(found.box_index[0, 0])) == (0, 1)
    assert int((found.box_index >= 0).sum()) == 2


def test_target_scores_are_scaled_to_the_best_iou_of_the_box() -> None:
    """Worked by hand: box 32 x 32; point 0 sees half of it (IoU .5) with score .8, point 1 a quarter with score .4.

    With alpha = beta = 1 the alignments are .4 and .1; the highest IoU is .5, so the targets are .5 and .125. The
    highest alignment and the highest IoU are at one point here; in the second image point 1 has score 0.01 at IoU 1:
    alignments .4 and .01, highest IoU 1, targets 1 and .025.
    """
    points, strides = grid(64, 64)
    scores, boxes = torch.zeros(2, len(points), 1), torch.zeros(2, len(points), 4)
    boxes[:, 0] = torch.tensor([0.0, 0, 32, 16])
    boxes[0, 1], boxes[1, 1] = torch.tensor([0.0, 0, 16, 16]), torch.tensor([0.0, 0, 32, 32])
    scores[:, 0, 0], scores[0, 1, 0], scores[1, 1, 0] = 0.8, 0.4, 0.01
    targets = Targets(torch.tensor([[[0.0, 0, 32, 32]]]).repeat(2, 1, 1), torch.zeros(2, 1, dtype=torch.int64))
    found = task_aligned(Candidates(scores, boxes, points=points, strides=strides), targets, alpha=1.0, beta=1.0)
    assert found.target_score[0, :2].tolist() == pytest.approx([0.5, 0.125])
    assert found.target_score[1, :2].tolist() == pytest.approx([1.0, 0.025])
    assert (found.box_index >= 0).sum(1).tolist() == [2, 2]  # the others have alignment 0


def test_only_the_class_of_the_box_counts() -> None:
    points, strides = grid(64, 64)
    wanted = torch.tensor([[[0.0, 0, 32, 32]]])
    scores = torch.zeros(1, len(points), 3)
    scores[0, 0] = torch.tensor([1.0, 0.0, 1.0])
    scores[0, 1] = torch.tensor([0.0, 0.3, 0.0])
    found = task_aligned(
        Candidates(scores, wanted.expand(1, len(points), 4), points=points, strides=strides),
        Targets(wanted, torch.tensor([[1]])),
    )
    assert (found.box_index[0] == 0).nonzero()[:, 0].tolist() == [1]


@pytest.mark.parametrize(
    ("box", "inside"),
    [
        # grown to 16 x 16 about (32, 32): x and y from 24 to 40, the four points at 28 and 36
        pytest.param((31, 31, 33, 33), [(28, 28), (36, 28), (28, 36), (36, 36), (24, 24)][:4], id="a 2 x 2 box"),
        # only the height grows: x from 8 to 32, y from 24 to 40; of stride 16 (24, 24) and (24, 40) lie on the border
        pytest.param((8, 31, 32, 33), [(12, 28), (20, 28), (28, 28), (12, 36), (20, 36), (28, 36)], id="a flat box"),
        # 16 x 16 exactly: not grown
        pytest.param((0, 0, 16, 16), [(4, 4), (12, 4), (4, 12), (12, 12), (8, 8)], id="a box of the second stride"),
    ],
)
def test_a_small_box_is_grown_to_the_second_stride(box: tuple[float, ...], inside: list[tuple[int, int]]) -> None:
    points, strides = grid(64, 64)
    wanted = torch.tensor([[box]], dtype=torch.float32)
    targets = Targets(wanted, torch.zeros(1, 1, dtype=torch.int64))
    scores = torch.full((1, len(points), 1), 0.5)
    found = task_aligned(
        Candidates(scores, wanted.expand(1, len(points), 4), points=points, strides=strides), targets, top_k=1000
    )
    claimed = points[found.box_index[0] == 0].int().tolist()
    assert sorted(map(tuple, claimed)) == sorted(inside)


@both
def test_every_point_that_answers_lies_inside_its_grown_box(assign: Assign) -> None:
    scores, boxes, points, strides, targets = scene(9)
    found = assign(Candidates(scores, boxes, points=points, strides=strides), targets)
    outside_the_box_itself = 0
    for b, a in (found.box_index >= 0).nonzero().tolist():
        box = targets.boxes[b, found.box_index[b, a]].tolist()
        x, y = points[a].tolist()
        assert holds(box, [x, y], strides.tolist())
        outside_the_box_itself += not (box[0] < x < box[2] and box[1] < y < box[3])
    assert outside_the_box_itself > 0  # growing mattered


def test_static_looks_at_geometry_alone() -> None:
    scores, boxes, points, strides, targets = scene(10)
    found = static(Candidates(scores, boxes, points=points, strides=strides), targets)
    again = static(Candidates(scores.flip(1) * 0, boxes.flip(1) + 9, points=points, strides=strides), targets)
    assert torch.equal(found.box_index, again.box_index)
    assert torch.equal(found.target_score, again.target_score)


def test_static_finds_the_square_of_five_strides_itself() -> None:
    """A 40 x 40 box about the point (60, 60) of stride 8 is that point's own square: overlap 1, target 1."""
    points, strides = grid(128, 128)
    targets = Targets(torch.tensor([[[40.0, 40, 80, 80]]]), torch.zeros(1, 1, dtype=torch.int64))
    found = static(
        Candidates(torch.zeros(1, len(points), 1), torch.zeros(1, len(points), 4), points=points, strides=strides),
        targets,
    )
    place = 7 * 16 + 7  # row 7, column 7 of 16: (60, 60)
    assert points[place].tolist() == [60, 60]
    assert int(found.box_index[0, place]) == 0
    assert float(found.target_score[0, place]) == 1
    assert float(found.target_score.max()) == 1


@pytest.mark.parametrize("top_k", [1, 2, 9])
def test_static_accepts_levels_with_fewer_points_than_top_k(top_k: int) -> None:
    points, strides = grid(32, 32)
    targets = Targets(torch.tensor([[[2.0, 2, 30, 30]]]), torch.zeros(1, 1, dtype=torch.int64))
    none = torch.zeros(1, len(points), 1), torch.zeros(1, len(points), 4)
    check(
        static(Candidates(*none, points=points, strides=strides), targets, top_k=top_k),
        [slow_static(none[0][0], none[1][0], points, strides, one(targets, 0), top_k=top_k)],
    )


@pytest.mark.parametrize(
    "box",
    [
        pytest.param((100, 100, 104, 104), id="tiny"),
        pytest.param((100, 100, 160, 160), id="square"),
        pytest.param((10, 10, 310, 310), id="nearly the whole image"),
        pytest.param((144, 146, 176, 246), id="three times as high as wide"),
    ],
)
def test_static_gives_a_lonely_box_a_point(box: tuple[float, ...]) -> None:
    """The docstring says that a network learns from every box."""
    points, strides = grid(320, 320)
    targets = Targets(torch.tensor([[box]], dtype=torch.float32), torch.zeros(1, 1, dtype=torch.int64))
    found = static(
        Candidates(torch.zeros(1, len(points), 1), torch.zeros(1, len(points), 4), points=points, strides=strides),
        targets,
    )
    assert int((found.box_index == 0).sum()) > 0


def test_assigners_are_named() -> None:
    assert {"static": static, "task_aligned": task_aligned} == ASSIGNERS


@pytest.mark.parametrize("exponent", [-1.0, math.inf, math.nan], ids=str)
@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_an_exponent_that_makes_no_sense_is_refused(name: str, exponent: float) -> None:
    targets = Targets(torch.zeros(1, 1, 4), torch.zeros(1, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match="alpha and beta must be at least 0 and finite"):
        task_aligned(
            Candidates(torch.zeros(1, 2, 1), torch.zeros(1, 2, 4), points=torch.zeros(2, 2), strides=torch.ones(2)),
            targets,
            **{name: exponent},
        )
