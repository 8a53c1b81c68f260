"""YOLOv1's loss, against loops over images, cells and predictors that follow equation 3 of the paper."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from yolo_lite.losses.yolov1 import responsible, yolov1_loss
from yolo_lite.models.heads.grid import GridHead, decode_grid
from yolo_lite.structures.batches import Batch, RawPredictions

PARTS = ("coord", "object", "no_object", "class")
ROWS, COLUMNS, STRIDE, BOXES, CLASSES = 4, 6, 16, 2, 3  # an image 64 high and 96 wide


def make_raw(seed: int = 0, batch: int = 2, boxes: int = BOXES) -> RawPredictions:
    """Draw outputs for the grid; the class probabilities of a cell are those of each of its boxes."""
    generator = torch.Generator().manual_seed(seed)
    cells = ROWS * COLUMNS
    values = torch.rand(batch, cells, boxes, 5, generator=generator)
    classes = torch.rand(batch, cells, 1, CLASSES, generator=generator).expand(-1, -1, boxes, -1)
    outputs = torch.cat([values, classes], -1).view(batch, cells * boxes, -1)
    corners = [
        [column * STRIDE, row * STRIDE] for row in range(ROWS) for column in range(COLUMNS) for _ in range(boxes)
    ]
    points = torch.tensor(corners, dtype=torch.float32)
    logits = torch.zeros(batch, cells * boxes, CLASSES)
    return RawPredictions(
        outputs.requires_grad_(), logits, points=points, strides=torch.full((len(points),), float(STRIDE))
    )


def make_batch(*scenes: list[tuple[int, tuple[float, float, float, float]]]) -> Batch:
    """Wrap (label, box) lists as a batch, padded to the longest."""
    most = max(map(len, scenes))
    boxes, labels = torch.zeros(len(scenes), most, 4), torch.full((len(scenes), most), -1)
    for b, image in enumerate(scenes):
        for n, (label, box) in enumerate(image):
            boxes[b, n], labels[b, n] = torch.tensor(box), label
    images = torch.zeros(len(scenes), 3, ROWS * STRIDE, COLUMNS * STRIDE, dtype=torch.uint8)
    return Batch(images, boxes, labels=labels, positions=torch.arange(len(scenes)))


def slow_iou(a: list[float], b: list[float]) -> float:
    wide = [max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1)]
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return wide[0] * wide[1] / (sum(areas) - wide[0] * wide[1])


def slow_box(outputs: list[float], row: int, column: int) -> list[float]:
    """Decode x, y in cells and roots of width and height in images."""
    x, y = (column + outputs[0]) * STRIDE, (row + outputs[1]) * STRIDE
    width, height = outputs[2] ** 2 * COLUMNS * STRIDE, outputs[3] ** 2 * ROWS * STRIDE
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def slow_loss(raw: RawPredictions, batch: Batch, boxes: int = BOXES) -> dict[str, float]:
    """Add up equation 3, for each cell the object that is largest of those with their centre in it."""
    sums = dict.fromkeys(PARTS, 0.0)
    partly = set() if batch.unlabelled is None else {int(pair[0]) for pair in batch.unlabelled}
    for b, image in enumerate(raw.box_outputs.tolist()):
        for row in range(ROWS):
            for column in range(COLUMNS):
                first = (row * COLUMNS + column) * boxes
                predictors = image[first : first + boxes]
                winner, here = -1, None
                for label, box in zip(batch.labels[b].tolist(), batch.boxes[b].tolist()):
                    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
                    mine = min(int(x // STRIDE), COLUMNS - 1) == column and min(int(y // STRIDE), ROWS - 1) == row
                    area = (box[2] - box[0]) * (box[3] - box[1])
                    if label >= 0 and mine and (here is None or area > here[2]):
                        here = (label, box, area)
                if here is not None:
                    label, box, _ = here
                    overlaps = [slow_iou(slow_box(p, row, column), box) for p in predictors]
                    winner = overlaps.index(max(overlaps))
                    if max(overlaps) == 0:
                        far = [_distance(slow_box(p, row, column), box) for p in predictors]
                        winner = far.index(min(far))
                    x, y = (box[0] + box[2]) / 2 / STRIDE - column, (box[1] + box[3]) / 2 / STRIDE - row
                    roots = [(box[2] - box[0]) / COLUMNS / STRIDE, (box[3] - box[1]) / ROWS / STRIDE]
                    wanted = [x, y, *map(math.sqrt, roots)]
                    sums["coord"] += sum((p - q) ** 2 for p, q in zip(predictors[winner][:4], wanted))
                    sums["object"] += (predictors[winner][4] - overlaps[winner]) ** 2
                    sums["class"] += sum((p - (c == label)) ** 2 for c, p in enumerate(predictors[0][5:]))
                for k, outputs in enumerate(predictors):
                    if k != winner and b not in partly:
                        sums["no_object"] += outputs[4] ** 2
    return {name: value / len(raw.box_outputs) for name, value in sums.items()}


def _distance(a: list[float], b: list[float]) -> float:
    def numbers(box: list[float]) -> list[float]:
        return [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]]

    return sum((p - q) ** 2 for p, q in zip(numbers(a), numbers(b)))


def agrees(raw: RawPredictions, batch: Batch, boxes: int = BOXES) -> dict[str, float]:
    """Check the loss against the loops and return these."""
    found = yolov1_loss(raw, batch, decode=GridHead.decode, boxes_per_cell=boxes)
    wanted = slow_loss(raw, batch, boxes)
    assert set(found) == set(PARTS)
    for name in PARTS:
        assert found[name].shape == ()
        assert found[name].item() == pytest.approx(wanted[name], rel=1e-5), name
    return wanted


PLAIN = (
    [(2, (5.0, 5, 40, 30)), (0, (30, 20, 90, 60)), (1, (60, 3, 70, 50))],
    [(1, (10.0, 10, 80, 50))],
)  # centres in the cells (1, 1), (3, 2), (4, 1) and (2, 1), column first; the second image is padded


@pytest.mark.parametrize("boxes", [1, 2, 3])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_loss_agrees_with_slow_loops(seed: int, boxes: int) -> None:
    wanted = agrees(make_raw(seed, boxes=boxes), make_batch(*PLAIN), boxes)
    assert min(wanted.values()) > 0


def test_crowded_images_agree_with_slow_loops() -> None:
    """Draw 40 objects for 24 cells, so that many share one; every other is no label at all."""
    generator = torch.Generator().manual_seed(3)
    centres = torch.rand(2, 40, 2, generator=generator) * torch.tensor([96.0, 64.0])
    sides = torch.rand(2, 40, 2, generator=generator) * 30 + 1
    labels = torch.randint(-1, CLASSES, (2, 40), generator=generator)
    batch = make_batch([], [])._replace(boxes=torch.cat([centres - sides / 2, centres + sides / 2], -1), labels=labels)
    raw = make_raw(4)
    agrees(raw, batch)
    found = responsible(decode_grid(raw, torch.arange(48).expand(2, -1)), raw, batch=batch, boxes_per_cell=BOXES)
    assert 10 < len(found.box) < int((labels >= 0).sum())  # several were left out
    assert len(set(zip(found.image.tolist(), (found.point // BOXES).tolist()))) == len(found.box)


# One image; cells of 16 pixels. Where a centre on a border belongs, worked by hand.
@pytest.mark.parametrize(
    ("box", "column", "row"),
    [
        pytest.param((20, 20, 26, 26), 1, 1, id="inside"),
        pytest.param((28, 20, 36, 26), 2, 1, id="between two columns: right"),
        pytest.param((20, 28, 26, 36), 1, 2, id="between two rows: below"),
        pytest.param((28, 28, 36, 36), 2, 2, id="on a corner: right and below"),
        pytest.param((90, 20, 102, 26), 5, 1, id="on the right end of the image: last column"),
        pytest.param((20, 60, 26, 68), 1, 3, id="on the bottom end: last row"),
        pytest.param((90, 60, 102, 68), 5, 3, id="on both ends: last cell"),
        pytest.param((-4, -4, 4, 4), 0, 0, id="on the upper left end: first cell"),
        pytest.param((-20, 20, -10, 26), 0, 1, id="left of the image: first column"),
    ],
)
def test_an_object_belongs_to_the_cell_of_its_centre(
    box: tuple[float, float, float, float], column: int, row: int
) -> None:
    raw, batch = make_raw(batch=1), make_batch([(0, box)])
    found = responsible(decode_grid(raw, torch.arange(48)[None]), raw, batch=batch, boxes_per_cell=BOXES)
    assert (found.point // BOXES).tolist() == [row * COLUMNS + column]
    assert found.image.tolist() == found.box.tolist() == [0]


def test_a_perfect_prediction_on_the_right_end_costs_nothing() -> None:
    """The centre (96, 64) lies at (1, 1) of the last cell."""
    raw, batch = make_raw(batch=1), make_batch([(1, (84.0, 56, 108, 72))])
    outputs = torch.zeros_like(raw.box_outputs)
    outputs[0, 46] = torch.tensor([1, 1, 0.5, 0.5, 1, 0, 1, 0])  # 24 x 16 pixels are a quarter of 96 x 64 each way
    outputs[0, 47] = torch.tensor([1, 1, 0.1, 0.1, 0, 0, 1, 0])
    found = yolov1_loss(raw._replace(box_outputs=outputs), batch, decode=GridHead.decode, boxes_per_cell=BOXES)
    assert [found[name].item() for name in PARTS] == pytest.approx([0, 0, 0, 0], abs=1e-9)


def test_of_two_centres_in_a_cell_the_larger_stays() -> None:
    small, large = (1, (20.0, 20, 26, 26)), (2, (16.0, 16, 32, 32))
    raw = make_raw(batch=1)
    for pair in ((small, large), (large, small)):
        agrees(raw, make_batch(list(pair)))
    one, other = (
        yolov1_loss(raw, make_batch(objects), decode=GridHead.decode, boxes_per_cell=BOXES)
        for objects in ([small, large], [large])
    )
    assert one == other


def test_of_two_equal_sizes_in_a_cell_the_first_stays() -> None:
    first, second = (1, (20.0, 20, 26, 26)), (2, (18.0, 21, 24, 27))
    raw = make_raw(batch=1)
    for pair in ([first, second], [second, first]):
        agrees(raw, make_batch(pair))
        found = responsible(decode_grid(raw, torch.arange(48)[None]), raw, batch=make_batch(pair), boxes_per_cell=BOXES)
        assert found.box.tolist() == [0]


def test_padding_before_an_object_changes_nothing() -> None:
    raw, batch = make_raw(), make_batch(*PLAIN)
    wanted = yolov1_loss(raw, batch, decode=GridHead.decode, boxes_per_cell=BOXES)
    padded = batch._replace(
        boxes=torch.cat([torch.zeros(2, 2, 4), batch.boxes], 1),
        labels=torch.cat([torch.full((2, 2), -1), batch.labels], 1),
    )
    garbage = padded._replace(boxes=torch.where(padded.labels[..., None] < 0, 37.0, padded.boxes))
    for given in (padded, garbage):
        found = yolov1_loss(raw, given, decode=GridHead.decode, boxes_per_cell=BOXES)
        assert {name: value.item() for name, value in found.items()} == pytest.approx(
            {name: value.item() for name, value in wanted.items()}
        )


def test_the_predictor_with_the_highest_overlap_answers() -> None:
    """The object is 24 x 16 at the middle of cell (2, 1); the second predictor's roots are exact, the first's are not."""
    raw, batch = make_raw(batch=1), make_batch([(0, (28.0, 16, 52, 32))])
    outputs = raw.box_outputs.detach().clone()
    place = (1 * COLUMNS + 2) * BOXES
    outputs[0, place : place + 2, :4] = torch.tensor([[0.5, 0.5, 0.9, 0.9], [0.5, 0.5, 0.5, 0.5]])
    found = responsible(
        decode_grid(raw._replace(box_outputs=outputs), torch.arange(48)[None]), raw, batch=batch, boxes_per_cell=BOXES
    )
    assert found.point.tolist() == [place + 1]
    assert found.iou.tolist() == pytest.approx([1])


# Predictors (x, y, root w, root h) of cell (2, 1), whose corner is (32, 16); the object is 2 x 2 around (40, 24). All of them
# miss it. Distances squared, in pixels, of (x, y, w, h) = (40, 24, 2, 2), worked by hand:
@pytest.mark.parametrize(
    ("predictors", "winner"),
    [
        # (32, 16, 0, 0): 64 + 64 + 4 + 4 = 136; (48, 32, .96, .64): 64 + 64 + 1.0816 + 1.8496 = 130.9
        pytest.param(((0, 0, 0, 0), (1, 1, 0.1, 0.1)), 1, id="the nearer size"),
        # (32, 24) and (48, 32), of the same size: 64 against 64 + 64
        pytest.param(((0, 0.5, 0.1, 0.1), (1, 1, 0.1, 0.1)), 0, id="the nearer centre"),
        pytest.param(((1, 1, 0.1, 0.1), (1, 1, 0.1, 0.1)), 0, id="of equals the first"),
        # (44, 24, 0, 0): 16 + 4 + 4 = 24; (35.2, 24, 1.88, 1.85): 23.04 + 0.014 + 0.023 = 23.08
        pytest.param(((0.75, 0.5, 0, 0), (0.2, 0.5, 0.14, 0.17)), 1, id="centre and size together"),
    ],
)
def test_where_nothing_overlaps_the_nearest_answers(
    predictors: tuple[tuple[float, ...], tuple[float, ...]], winner: int
) -> None:
    raw, batch = make_raw(batch=1), make_batch([(0, (39.0, 23, 41, 25))])
    outputs = raw.box_outputs.detach().clone()
    place = (1 * COLUMNS + 2) * BOXES
    outputs[0, place : place + 2, :4] = torch.tensor(predictors)
    raw = raw._replace(box_outputs=outputs)
    found = responsible(decode_grid(raw, torch.arange(48)[None]), raw, batch=batch, boxes_per_cell=BOXES)
    assert found.iou.tolist() == [0]
    assert found.point.tolist() == [place + winner]
    agrees(raw, batch)


@pytest.mark.parametrize("batch", [make_batch([], []), make_batch([(-1, (0, 0, 0, 0))], [(-1, (9, 9, 20, 20))])])
def test_without_objects_only_confidence_costs(batch: Batch) -> None:
    raw = make_raw()
    wanted = agrees(raw, batch)
    assert (wanted["coord"], wanted["object"], wanted["class"]) == (0, 0, 0)
    assert wanted["no_object"] == pytest.approx(raw.box_outputs[..., 4].square().sum().item() / 2, rel=1e-5)
    sum(yolov1_loss(raw, batch, decode=GridHead.decode, boxes_per_cell=BOXES).values(), torch.zeros(())).backward()
    assert raw.box_outputs.grad is not None
    assert bool(raw.box_outputs.grad.isfinite().all())


@pytest.mark.parametrize(
    ("pairs", "left"),
    [
        pytest.param([[0, 1]], {1}, id="first image"),
        pytest.param([[1, 0], [1, 2]], {0}, id="second image, two classes"),
        pytest.param([[0, 0], [1, 0]], set(), id="both"),
        pytest.param([], {0, 1}, id="none"),
    ],
)
def test_partly_labelled_images_say_nothing_of_empty_cells(pairs: list[list[int]], left: set[int]) -> None:
    raw = make_raw()
    unlabelled = torch.tensor(pairs, dtype=torch.int64).view(-1, 2)
    agrees(raw, make_batch(*PLAIN)._replace(unlabelled=unlabelled))
    yolov1_loss(raw, make_batch(*PLAIN)._replace(unlabelled=unlabelled), decode=GridHead.decode, boxes_per_cell=BOXES)[
        "no_object"
    ].backward()
    assert raw.box_outputs.grad is not None
    assert {b for b in range(2) if bool(raw.box_outputs.grad[b].any())} == left


def test_the_gradient_reaches_only_what_answers() -> None:
    """Coordinates of responsible predictors, classes of their cells, every confidence; nothing through the IoU."""
    raw, batch = make_raw(), make_batch(*PLAIN)
    found = responsible(
        decode_grid(raw, torch.arange(48).expand(2, -1)).detach(), raw, batch=batch, boxes_per_cell=BOXES
    )
    sum(yolov1_loss(raw, batch, decode=GridHead.decode, boxes_per_cell=BOXES).values(), torch.zeros(())).backward()
    gradient = raw.box_outputs.grad
    assert gradient is not None
    mine = torch.zeros(2, 48, dtype=torch.bool)
    mine[found.image, found.point] = True
    assert torch.equal(gradient[..., :4].any(-1), mine)
    assert torch.equal(gradient[..., 5:].any(-1), mine)
    assert bool((gradient[..., 4] != 0).all())
    free = raw.box_outputs.detach()[..., 4][~mine]
    torch.testing.assert_close(gradient[..., 4][~mine], 2 * free / 2)  # d c^2 = 2 c, over two images


@pytest.mark.parametrize("value", [0.0, -3.0, 1e4])
def test_the_gradient_is_finite_for_any_output_and_an_object_without_area(value: float) -> None:
    raw = make_raw(batch=1)
    raw = raw._replace(box_outputs=torch.full_like(raw.box_outputs, value).requires_grad_())
    batch = make_batch([(0, (40.0, 20, 40, 20)), (1, (3, 3, 3, 30))])
    parts = yolov1_loss(raw, batch, decode=GridHead.decode, boxes_per_cell=BOXES)
    sum(parts.values(), torch.zeros(())).backward()
    assert raw.box_outputs.grad is not None
    assert bool(raw.box_outputs.grad.isfinite().all())
    assert all(bool(value.isfinite()) for value in parts.values())


def test_half_precision_outputs_are_summed_in_float32() -> None:
    raw, batch = make_raw(), make_batch(*PLAIN)
    rounded = raw.box_outputs.detach().bfloat16()
    half, full = (
        yolov1_loss(raw._replace(box_outputs=item), batch, decode=GridHead.decode, boxes_per_cell=BOXES)
        for item in (rounded, rounded.float())
    )
    for name in PARTS:
        assert half[name].dtype == torch.float32
        assert torch.equal(half[name], full[name])


def test_each_part_is_an_average_over_images() -> None:
    raw, batch = make_raw(batch=1), make_batch(PLAIN[0])

    def twice(tensor: Tensor) -> Tensor:
        return torch.cat([tensor, tensor])

    doubled = Batch(*(twice(item) for item in batch[:4]))
    one = yolov1_loss(raw, batch, decode=GridHead.decode, boxes_per_cell=BOXES)
    two = yolov1_loss(
        raw._replace(box_outputs=twice(raw.box_outputs)), doubled, decode=GridHead.decode, boxes_per_cell=BOXES
    )
    assert {name: value.item() for name, value in two.items()} == pytest.approx(
        {name: value.item() for name, value in one.items()}
    )


def test_the_targets_are_not_modified() -> None:
    raw, batch = make_raw(), make_batch(*PLAIN)
    before = [raw.box_outputs.detach().clone(), batch.boxes.clone(), batch.labels.clone()]
    yolov1_loss(raw, batch, decode=GridHead.decode, boxes_per_cell=BOXES)
    for old, new in zip(before, (raw.box_outputs.detach(), batch.boxes, batch.labels)):
        assert torch.equal(old, new)
