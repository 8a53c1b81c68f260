"""The detection loss, against a slow loop with formulas of its own."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from yolo_lite.losses.assign import ASSIGNERS, Assignment, Candidates, Targets
from yolo_lite.losses.detection import Assigner, detection_loss, distribution_focal_loss
from yolo_lite.models.heads.anchor_free import AnchorFreeHead, DistributionHead
from yolo_lite.structures.batches import Batch, RawPredictions

PARTS = ("class", "box", "l1")
every_assigner = pytest.mark.parametrize("name", ASSIGNERS)


def given(assignment: Assignment) -> Assigner:
    """Return an assigner that answers with what was prepared."""
    return lambda candidates, targets: assignment


def make_batch(boxes: Tensor, labels: Tensor, hw: tuple[int, int] = (64, 96)) -> Batch:
    """Wrap boxes and labels with blank images."""
    count = len(boxes)
    numbers = torch.arange(count)
    return Batch(torch.zeros(count, 3, *hw, dtype=torch.uint8), boxes, labels=labels, positions=numbers)


def make_raw(seed: int, batch: int = 2, classes: int = 3) -> RawPredictions:
    """Draw predictions on the grids of a 64 x 96 image: 8 x 12, 4 x 6 and 2 x 3 cells."""
    generator = torch.Generator().manual_seed(seed)
    points, strides = [], []
    for stride in (8, 16, 32):
        for row in range(64 // stride):
            for column in range(96 // stride):
                points.append([(column + 0.5) * stride, (row + 0.5) * stride])
                strides.append(float(stride))
    outputs = torch.randn(batch, len(points), 4, generator=generator) + 1
    logits = torch.randn(batch, len(points), classes, generator=generator) * 2 - 1
    return RawPredictions(
        outputs.requires_grad_(), logits.requires_grad_(), points=torch.tensor(points), strides=torch.tensor(strides)
    )


def make_assignment(seed: int, raw: RawPredictions, targets: Targets) -> Assignment:
    """Draw which points answer for which real box, and how much."""
    generator = torch.Generator().manual_seed(seed)
    batch, points = raw.class_logits.shape[:2]
    index = torch.randint(0, targets.boxes.shape[1], (batch, points), generator=generator)
    score = torch.rand(batch, points, generator=generator)
    drop = (torch.rand(batch, points, generator=generator) < 0.7) | (targets.labels.gather(1, index) < 0)
    return Assignment(index.masked_fill(drop, -1), score.masked_fill(drop, 0))


def two_images() -> Targets:
    """Return boxes of two images; the second has one box and two rows of padding."""
    boxes = torch.tensor(
        [
            [[5.0, 5, 40, 30], [30, 20, 90, 60], [60, 3, 70, 50]],
            [[10, 10, 80, 50], [0, 0, 0, 0], [0, 0, 0, 0]],
        ]
    )
    return Targets(boxes, torch.tensor([[2, 0, 1], [1, -1, -1]]))


def slow_overlap(kind: str, a: list[float], b: list[float]) -> float:
    """Work out one pair in double precision."""
    wide = [max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1)]
    hull = [max(a[i + 2], b[i + 2]) - min(a[i], b[i]) for i in (0, 1)]
    (width_a, height_a), (width_b, height_b) = ((box[2] - box[0], box[3] - box[1]) for box in (a, b))
    union = width_a * height_a + width_b * height_b - wide[0] * wide[1]
    iou = wide[0] * wide[1] / union
    if kind == "giou":
        return iou - 1 + union / (hull[0] * hull[1])
    if kind == "iou":
        return iou
    between = math.hypot((a[0] + a[2] - b[0] - b[2]) / 2, (a[1] + a[3] - b[1] - b[3]) / 2)
    diou = iou - (between / math.hypot(*hull)) ** 2
    v = ((math.atan(width_a / height_a) - math.atan(width_b / height_b)) * 2 / math.pi) ** 2
    return diou if kind == "diou" else diou - v**2 / (1 - iou + v)


def slow_loss(raw: RawPredictions, targets: Targets, assignment: Assignment, kind: str = "ciou") -> dict[str, float]:
    """Add the loss up image by image, point by point."""
    logits, outputs = raw.class_logits.tolist(), raw.box_outputs.tolist()
    points, strides = raw.points.tolist(), raw.strides.tolist()
    index, scores = assignment.box_index.tolist(), assignment.target_score.tolist()
    sums = dict.fromkeys(PARTS, 0.0)
    for b in range(len(logits)):
        for a in range(len(points)):
            n, score = index[b][a], scores[b][a]
            for c, x in enumerate(logits[b][a]):
                wanted = score if n >= 0 and c == int(targets.labels[b, n]) else 0.0
                probability = 1 / (1 + math.exp(-x))
                sums["class"] -= wanted * math.log(probability) + (1 - wanted) * math.log(1 - probability)
            if n < 0:
                continue
            left, up, right, down = (math.log1p(math.exp(value)) * strides[a] for value in outputs[b][a])
            x, y = points[a]
            box, wanted_box = [x - left, y - up, x + right, y + down], targets.boxes[b, n].tolist()
            sums["box"] += score * (1 - slow_overlap(kind, box, wanted_box))
            sums["l1"] += score * sum(abs(p - q) for p, q in zip(box, wanted_box)) / 4 / strides[a]
    total = max(1.0, sum(map(sum, scores)))
    return {name: value / total for name, value in sums.items()}


@pytest.mark.parametrize("kind", ["ciou", "giou", "diou", "iou"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_loss_agrees_with_a_slow_loop(kind: str, seed: int) -> None:
    raw, targets = make_raw(seed), two_images()
    assignment = make_assignment(seed, raw, targets)
    assert len(assignment.box_index.unique()) == 4  # background and all three boxes
    found = detection_loss(raw, make_batch(*targets), head=AnchorFreeHead, assign=given(assignment), box_kind=kind)
    wanted = slow_loss(raw, targets, assignment, kind)
    assert set(found) == set(PARTS)
    for name in PARTS:
        assert found[name].shape == ()
        assert found[name].item() == pytest.approx(wanted[name], rel=1e-5), name


def test_the_box_part_is_ciou_unless_told() -> None:
    raw, targets = make_raw(2), two_images()
    assignment = make_assignment(2, raw, targets)
    found = detection_loss(raw, make_batch(*targets), head=AnchorFreeHead, assign=given(assignment))
    assert found["box"].item() == pytest.approx(slow_loss(raw, targets, assignment, "ciou")["box"], rel=1e-5)


@every_assigner
def test_the_loss_with_a_real_assigner_agrees_with_a_slow_loop(name: str) -> None:
    raw, targets = make_raw(3), two_images()
    seen: list[tuple[Tensor, ...]] = []

    def spy(candidates: Candidates, targets: Targets) -> Assignment:
        seen.append((*candidates, *targets))
        return ASSIGNERS[name](candidates, targets)

    found = detection_loss(raw, make_batch(*targets), head=AnchorFreeHead, assign=spy)
    ((scores, boxes, points, strides, *_),) = seen
    torch.testing.assert_close(scores, 1 / (1 + (-raw.class_logits.detach()).exp()))
    distances = (1 + raw.box_outputs.detach().exp()).log() * raw.strides[None, :, None]
    torch.testing.assert_close(boxes[..., :2].detach(), raw.points - distances[..., :2], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(boxes[..., 2:].detach(), raw.points + distances[..., 2:], rtol=1e-5, atol=1e-4)
    wanted = slow_loss(
        raw, targets, ASSIGNERS[name](Candidates(scores, boxes.detach(), points=points, strides=strides), targets)
    )
    for part in PARTS:
        assert found[part].item() == pytest.approx(wanted[part], rel=1e-5), part


def test_a_single_point_worked_by_hand() -> None:
    """Point (16,16) of stride 8, distances softplus(0) * 8 = 8 log 2 each; the box is 16 x 16 about the point.

    Both are squares about one centre, so CIoU = IoU = (log 2)^2, since 8 log 2 < 8. Each side is off by 8 - 8 log 2, in
    strides 1 - log 2. Logits 0 cost log 2 a class whatever the target. The target scores add up to 0.5, below 1: 1 it is.
    """
    raw = RawPredictions(
        torch.zeros(1, 1, 4), torch.zeros(1, 1, 2), points=torch.tensor([[16.0, 16]]), strides=torch.tensor([8.0])
    )
    batch = make_batch(torch.tensor([[[8.0, 8, 24, 24]]]), torch.tensor([[1]]))
    assignment = Assignment(torch.tensor([[0]]), torch.tensor([[0.5]]))
    found = detection_loss(raw, batch, head=AnchorFreeHead, assign=given(assignment))
    log2 = math.log(2)
    assert found["class"].item() == pytest.approx(2 * log2)
    assert found["box"].item() == pytest.approx(0.5 * (1 - log2**2), rel=1e-5)
    assert found["l1"].item() == pytest.approx(0.5 * (1 - log2), rel=1e-5)


@pytest.mark.parametrize(("score", "copies", "total"), [(0.25, 1, 1.0), (0.25, 4, 1.0), (0.5, 6, 3.0)])
def test_parts_are_divided_by_the_sum_of_target_scores_but_at_least_one(
    score: float, copies: int, total: float
) -> None:
    """As above, `copies` points at one place: every part is `copies` times one point's, divided by the total."""
    raw = RawPredictions(
        torch.zeros(1, copies, 4),
        torch.zeros(1, copies, 2),
        points=torch.full((copies, 2), 16.0),
        strides=torch.full((copies,), 8.0),
    )
    batch = make_batch(torch.tensor([[[8.0, 8, 24, 24]]]), torch.tensor([[1]]))
    assignment = Assignment(torch.zeros(1, copies).long(), torch.full((1, copies), score))
    found = detection_loss(raw, batch, head=AnchorFreeHead, assign=given(assignment))
    log2 = math.log(2)
    assert found["class"].item() == pytest.approx(copies * 2 * log2 / total)
    assert found["box"].item() == pytest.approx(copies * score * (1 - log2**2) / total, rel=1e-5)
    assert found["l1"].item() == pytest.approx(copies * score * (1 - log2) / total, rel=1e-5)


@every_assigner
def test_perfect_predictions_cost_nearly_nothing_for_boxes(name: str) -> None:
    """Every point inside a box predicts it: softplus(z) = d for z = log(exp(d) - 1). The others predict anything."""
    raw = make_raw(4)
    boxes = torch.tensor([[[2.0, 2, 30, 60]], [[40, 10, 90, 50]]])
    labels = torch.tensor([[1], [2]])
    x, y = raw.points[:, 0], raw.points[:, 1]
    x1, y1, x2, y2 = boxes.unsqueeze(-1).unbind(2)  # [2, 1, 1], squeezed by broadcasting with [A]
    distances = torch.stack([x - x1, y - y1, x2 - x, y2 - y], -1)[:, 0] / raw.strides[:, None]
    inside = (distances > 0).all(-1)
    exact = torch.where(inside.unsqueeze(-1), distances.clamp(min=1e-3).expm1().log(), 0.0)
    logits = torch.full((2, len(x), 3), -12.0)
    for image, label in enumerate((1, 2)):
        logits[image, inside[image], label] = 12
    perfect = raw._replace(box_outputs=exact, class_logits=logits)
    found = detection_loss(perfect, make_batch(boxes, labels), head=AnchorFreeHead, assign=ASSIGNERS[name])
    assert 0 <= found["box"].item() < 1e-5
    assert 0 <= found["l1"].item() < 1e-5
    poor = detection_loss(raw, make_batch(boxes, labels), head=AnchorFreeHead, assign=ASSIGNERS[name])
    assert poor["box"].item() > 0.1
    assert poor["l1"].item() > 0.1
    if name == "task_aligned":  # all points that have a box now fit it equally, so every target of the ten is 1
        sure = torch.tensor(12.0).sigmoid().log().neg().item()  # what each right answer costs
        missed = int(inside.sum()) - 20  # points inside that are not among the ten are told "background": about 12 each
        assert found["class"].item() == pytest.approx((missed * 12 + 2 * len(x) * 3 * sure) / 20, rel=1e-3)


@every_assigner
@pytest.mark.parametrize("rows", [0, 3], ids=["N = 0", "only padding"])
def test_a_background_batch_has_only_a_class_loss(name: str, rows: int) -> None:
    raw = make_raw(5)
    batch = make_batch(torch.zeros(2, rows, 4), torch.full((2, rows), -1))
    found = detection_loss(raw, batch, head=AnchorFreeHead, assign=ASSIGNERS[name])
    assert found["box"].item() == found["l1"].item() == 0
    # every target is 0 and the divisor 1: the sum of log(1 + exp(logit)), worked out in double precision
    assert found["class"].item() == pytest.approx(raw.class_logits.double().exp().log1p().sum().item(), rel=1e-5)
    torch.stack(list(found.values())).sum().backward()
    assert raw.class_logits.grad is not None
    assert bool((raw.class_logits.grad > 0).all())
    assert raw.box_outputs.grad is None or bool((raw.box_outputs.grad == 0).all())


@every_assigner
@pytest.mark.parametrize("rubbish", [0.0, 30.0, 1e6], ids=["zeros", "boxes in the image", "huge boxes"])
def test_every_row_of_padding_is_ignored(name: str, rubbish: float) -> None:
    targets = two_images()
    more = torch.tensor([-rubbish, -rubbish, rubbish, rubbish]).expand(2, 4, 4)
    boxes, labels = torch.cat([targets.boxes, more], 1), torch.cat([targets.labels, torch.full((2, 4), -1)], 1)
    boxes[1, 1:3] = torch.tensor([-rubbish, -rubbish, rubbish, rubbish])
    found, gradients = [], []
    for batch in (make_batch(*targets), make_batch(boxes, labels)):
        raw = make_raw(6)
        parts = detection_loss(raw, batch, head=AnchorFreeHead, assign=ASSIGNERS[name])
        gradients.append(
            torch.autograd.grad(torch.stack(list(parts.values())).sum(), [raw.box_outputs, raw.class_logits])
        )
        found.append({part: value.item() for part, value in parts.items()})
    assert found[0] == found[1]
    assert all(torch.equal(a, b) for a, b in zip(*gradients))
    assert min(found[0].values()) > 0


@every_assigner
def test_the_order_of_images_does_not_matter(name: str) -> None:
    raw, targets = make_raw(7), two_images()
    turned = raw._replace(box_outputs=raw.box_outputs.flip(0), class_logits=raw.class_logits.flip(0))
    found = detection_loss(raw, make_batch(*targets), head=AnchorFreeHead, assign=ASSIGNERS[name])
    batch = make_batch(targets.boxes.flip(0), targets.labels.flip(0))
    again = detection_loss(turned, batch, head=AnchorFreeHead, assign=ASSIGNERS[name])
    for part in PARTS:
        assert found[part].item() == pytest.approx(again[part].item(), rel=1e-6)


@every_assigner
def test_the_gradient_reaches_every_parameter_of_the_head(name: str) -> None:
    generator = torch.Generator().manual_seed(8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8)
        head = AnchorFreeHead((6, 6, 6), (8, 16, 32), classes=3, width=8, depth=2)
    levels = [torch.randn(2, 6, 128 // stride, 128 // stride, generator=generator) for stride in (8, 16, 32)]
    # one small, one middling, one large box an image, so that all three levels answer for some
    boxes = torch.tensor([[20.0, 20, 36, 36], [60, 30, 124, 94], [2, 2, 126, 126]]).expand(2, 3, 4)
    batch = make_batch(boxes, torch.tensor([[0, 1, 2], [2, 0, 1]]), (128, 128))
    raw = head(levels)
    assignment = ASSIGNERS[name](
        Candidates(
            raw.class_logits.sigmoid(),
            head.decode(raw, torch.arange(336).expand(2, -1)),
            points=raw.points,
            strides=raw.strides,
        ),
        Targets(batch.boxes, batch.labels),
    )
    levels_that_answer = {raw.strides[a].item() for _, a in (assignment.box_index >= 0).nonzero().tolist()}
    assert levels_that_answer == {8, 16, 32}
    torch.stack(list(detection_loss(raw, batch, head=head, assign=ASSIGNERS[name]).values())).sum().backward()
    silent = [key for key, value in head.named_parameters() if value.grad is None or not value.grad.abs().sum() > 0]
    assert silent == []
    assert all(bool(value.grad.isfinite().all()) for value in head.parameters() if value.grad is not None)


@pytest.mark.parametrize("part", ["box", "l1"])
def test_a_step_against_the_gradient_lowers_the_part(part: str) -> None:
    raw, targets = make_raw(9), two_images()
    assignment = make_assignment(9, raw, targets)
    loss = detection_loss(raw, make_batch(*targets), head=AnchorFreeHead, assign=given(assignment))[part]
    (gradient,) = torch.autograd.grad(loss, raw.box_outputs)
    background = assignment.box_index < 0
    assert bool((gradient[background] == 0).all())
    stepped = raw._replace(box_outputs=raw.box_outputs.detach() - 0.01 * gradient / gradient.abs().max())
    again = detection_loss(stepped, make_batch(*targets), head=AnchorFreeHead, assign=given(assignment))[part]
    assert again.item() < loss.item()


def test_the_targets_carry_no_gradient() -> None:
    """BCE's derivative by a logit is sigmoid - target, over the divisor; a gradient through the target would add to it."""
    raw, targets = make_raw(10), two_images()
    assign = ASSIGNERS["task_aligned"]
    loss = detection_loss(raw, make_batch(*targets), head=AnchorFreeHead, assign=assign)["class"]
    logits_gradient, box_gradient = torch.autograd.grad(
        loss, [raw.class_logits, raw.box_outputs], allow_unused=True, materialize_grads=True
    )
    with torch.no_grad():
        every = torch.arange(len(raw.points)).expand(2, -1)
        scores = raw.class_logits.sigmoid()
        assignment = assign(
            Candidates(scores, AnchorFreeHead.decode(raw, every), points=raw.points, strides=raw.strides), targets
        )
    wanted = torch.zeros_like(raw.class_logits)
    for b, a in (assignment.box_index >= 0).nonzero().tolist():
        wanted[b, a, targets.labels[b, assignment.box_index[b, a]]] = assignment.target_score[b, a]
    divisor = max(1.0, assignment.target_score.sum().item())
    torch.testing.assert_close(logits_gradient, (scores - wanted) / divisor)
    assert bool((box_gradient == 0).all())


def test_half_precision_logits_are_summed_in_float32() -> None:
    raw, targets = make_raw(11), two_images()
    half = raw._replace(
        class_logits=raw.class_logits.detach().bfloat16(), box_outputs=raw.box_outputs.detach().bfloat16()
    )
    full = half._replace(class_logits=half.class_logits.float(), box_outputs=half.box_outputs.float())
    for assign in ASSIGNERS.values():
        found, wanted = (
            detection_loss(item, make_batch(*targets), head=AnchorFreeHead, assign=assign) for item in (half, full)
        )
        for part in PARTS:
            assert found[part].dtype == torch.float32
            assert torch.equal(found[part], wanted[part])


def dfl_by_loop(logits: list[float], distance: float) -> float:
    """Equation 6 of Li et al. 2020 for one side: -((y_i+1 - y) log S_i + (y - y_i) log S_i+1)."""
    last = len(logits) - 1
    distance = min(max(distance, 0.0), float(last))
    low = min(int(distance), last - 1)
    total = sum(math.exp(value) for value in logits)
    share = [math.exp(value) / total for value in logits]
    return -((low + 1 - distance) * math.log(share[low]) + (distance - low) * math.log(share[low + 1]))


@pytest.mark.parametrize("distance", [0.0, 0.25, 1.0, 3.7, 6.0, 6.99, 7.0, 9.0, -2.0])
def test_distribution_focal_loss_agrees_with_a_loop(distance: float) -> None:
    logits = torch.randn(5, 8, generator=torch.Generator().manual_seed(3))
    found = distribution_focal_loss(logits, torch.full((5,), distance))
    wanted = [dfl_by_loop(row, distance) for row in logits.tolist()]
    assert found.tolist() == pytest.approx(wanted, rel=1e-5)


def test_distribution_focal_loss_is_least_where_the_mean_is_the_distance() -> None:
    logits = torch.zeros(1, 8, requires_grad=True)
    for _ in range(300):
        loss = distribution_focal_loss(logits, torch.tensor([2.3])).sum()
        (gradient,) = torch.autograd.grad(loss, logits)
        logits = (logits - 2 * gradient).detach().requires_grad_()
    mean = (logits.softmax(-1) * torch.arange(8.0)).sum()
    assert mean.item() == pytest.approx(2.3, abs=0.05)


def make_binned(seed: int) -> RawPredictions:
    """As make_raw, with 8 bins a side."""
    raw = make_raw(seed)
    generator = torch.Generator().manual_seed(seed + 100)
    return raw._replace(box_outputs=torch.randn(2, len(raw.points), 32, generator=generator).requires_grad_())


def test_a_head_with_bins_adds_the_focal_part() -> None:
    raw, targets = make_binned(4), two_images()
    assignment = make_assignment(4, raw, targets)
    batch = make_batch(targets.boxes, targets.labels)
    parts = detection_loss(raw, batch, head=DistributionHead, assign=given(assignment))
    assert set(parts) == {*PARTS, "dfl"}
    total, score = 0.0, 0.0
    for image in range(2):
        for place, index in enumerate(assignment.box_index[image].tolist()):
            if index < 0:
                continue
            weight = float(assignment.target_score[image, place])
            x, y = raw.points[place].tolist()
            stride = float(raw.strides[place])
            x1, y1, x2, y2 = targets.boxes[image, index].tolist()
            sides = raw.box_outputs[image, place].view(4, 8).tolist()
            distances = ((x - x1) / stride, (y - y1) / stride, (x2 - x) / stride, (y2 - y) / stride)
            total += weight * sum(dfl_by_loop(*pair) for pair in zip(sides, distances)) / 4
            score += weight
    assert float(parts["dfl"]) == pytest.approx(total / max(score, 1), rel=1e-4)
    (gradient,) = torch.autograd.grad(parts["dfl"], raw.box_outputs)
    assert (gradient.abs().sum(-1) > 0).equal(assignment.box_index >= 0)


def test_what_an_image_is_not_labelled_for_costs_nothing() -> None:
    raw, targets = make_raw(5), two_images()
    assignment = make_assignment(5, raw, targets)
    own = int(targets.labels[0, 0])
    other = (own + 1) % 3
    batch = make_batch(targets.boxes, targets.labels)
    partly = batch._replace(unlabelled=torch.tensor([[0, own], [0, other]]))
    (asked,) = torch.autograd.grad(
        detection_loss(raw, batch, head=AnchorFreeHead, assign=given(assignment))["class"], raw.class_logits
    )
    (partial,) = torch.autograd.grad(
        detection_loss(raw, partly, head=AnchorFreeHead, assign=given(assignment))["class"], raw.class_logits
    )
    assert asked.abs().min() > 0
    label = targets.labels[0][assignment.box_index[0].clamp(min=0)]
    silent = torch.zeros(partial.shape, dtype=torch.bool)
    for name in (own, other):
        silent[0, :, name] = ~((assignment.target_score[0] > 0) & (label == name))  # given boxes still teach
    assert torch.equal(partial == 0, silent)
    assert torch.equal(partial[~silent], asked[~silent])


def test_quality_focal_loss_agrees_with_equation_5() -> None:
    raw, targets = make_raw(6), two_images()
    assignment = make_assignment(6, raw, targets)
    batch = make_batch(targets.boxes, targets.labels)
    found = detection_loss(raw, batch, head=AnchorFreeHead, assign=given(assignment), gamma=2)["class"]
    total = 0.0
    for image in range(2):
        for place, logits in enumerate(raw.class_logits[image].tolist()):
            index = int(assignment.box_index[image, place])
            for label, logit in enumerate(logits):
                sigma = 1 / (1 + math.exp(-logit))
                hit = index >= 0 and int(targets.labels[image, index]) == label
                y = float(assignment.target_score[image, place]) if hit else 0.0
                total -= abs(y - sigma) ** 2 * ((1 - y) * math.log(1 - sigma) + y * math.log(sigma))
    assert float(found) == pytest.approx(total / max(float(assignment.target_score.sum()), 1), rel=1e-4)
