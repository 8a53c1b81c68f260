"""What a teacher teaches: cells matched one by one, and the loss by plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from yolo_lite.losses.distill import Lesson, same_cells, teacher_loss
from yolo_lite.ops import box_iou
from yolo_lite.structures.batches import RawPredictions


def points(stride: int, rows: int, columns: int, offset: float, each: int = 1) -> tuple[Tensor, Tensor]:
    places = [((x + offset) * stride, (y + offset) * stride) for y in range(rows) for x in range(columns)]
    found = torch.tensor(places).repeat_interleave(each, 0)
    return found, torch.full((len(found),), float(stride))


def predictions(*grids: tuple[Tensor, Tensor], classes: int = 2) -> RawPredictions:
    where, strides = torch.cat([grid[0] for grid in grids]), torch.cat([grid[1] for grid in grids])
    count = len(where)
    torch.manual_seed(count)
    corner = torch.rand(2, count, 2) * 30
    boxes = torch.cat([corner, corner + 3 + 20 * torch.rand(2, count, 2)], -1)
    return RawPredictions(boxes, torch.randn(2, count, classes), points=where, strides=strides)


def decode(raw: RawPredictions, indices: Tensor) -> Tensor:
    return raw.box_outputs.gather(1, indices.unsqueeze(-1).expand(-1, -1, 4))


def test_cells_of_the_same_grid_belong_together_wherever_their_point_lies() -> None:
    """The student's points lie in the middle of cells, the teacher's at their corner; the student lacks stride 32."""
    student = predictions(points(8, 4, 4, 0.5), points(16, 2, 2, 0.5))
    teacher = predictions(points(32, 1, 1, 0), points(8, 4, 4, 0), points(16, 2, 2, 0))
    assert same_cells(student, teacher).flatten().tolist() == list(range(1, 21))


def test_a_grid_that_the_teacher_lacks_is_left_out_and_anchors_share_a_cell() -> None:
    student = predictions(points(8, 2, 2, 0.5), points(16, 1, 1, 0.5))
    teacher = predictions(points(16, 1, 1, 0, each=3))
    assert same_cells(student, teacher).tolist() == [[-1, -1, -1]] * 4 + [[0, 1, 2]]


@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_the_loss_is_that_of_plain_loops(gamma: float) -> None:
    raw = predictions(points(8, 3, 3, 0.5), points(16, 2, 2, 0.5), classes=3)
    torch.manual_seed(5)
    scores = torch.rand(2, 13, 2) * (torch.rand(2, 13, 2) > 0.5)
    corner = torch.rand(2, 13, 2) * 30
    boxes = torch.cat([corner, corner + 5 + 9 * torch.rand(2, 13, 2)], -1)
    known = torch.arange(13) % 4 != 0
    lesson = Lesson(scores, boxes, classes=torch.tensor([2, 0]), known=known)
    found = teacher_loss(raw, decode, lesson=lesson, gamma=gamma)
    total = classes = sides = 0.0
    for image in range(2):
        for point in range(13):
            if not known[point]:
                continue
            best = max(scores[image, point].tolist())
            total += best
            for at, label in enumerate((2, 0)):
                p = 1 / (1 + math.exp(-float(raw.class_logits[image, point, label])))
                t = float(scores[image, point, at])
                likelihoods = ((t, t / p), (1 - t, (1 - t) / (1 - p)))
                classes += sum(share * math.log(ratio) for share, ratio in likelihoods if share) * abs(p - t) ** gamma
            pair = raw.box_outputs[image, point][None], boxes[image, point][None]
            sides += best * (1 - float(box_iou(*pair, kind="ciou"))) if best > 0.01 else 0.0
    assert float(found["teach_class"]) == pytest.approx(classes / total, rel=1e-4)
    assert float(found["teach_box"]) == pytest.approx(sides / total, rel=1e-4)


def test_a_student_that_says_the_same_has_nothing_to_learn() -> None:
    raw = predictions(points(8, 3, 3, 0.5))
    lesson = Lesson(
        raw.class_logits.sigmoid(), raw.box_outputs, classes=torch.tensor([0, 1]), known=torch.ones(9, dtype=torch.bool)
    )
    assert all(
        float(value) == pytest.approx(0, abs=1e-5) for value in teacher_loss(raw, decode, lesson=lesson).values()
    )


def test_a_teacher_that_sees_nothing_divides_by_one() -> None:
    raw = predictions(points(8, 2, 2, 0.5))
    lesson = Lesson(
        torch.zeros(2, 4, 1), raw.box_outputs, classes=torch.tensor([1]), known=torch.ones(4, dtype=torch.bool)
    )
    found = teacher_loss(raw, decode, lesson=lesson)
    assert float(found["teach_box"]) == 0
    assert math.isfinite(float(found["teach_class"]))
