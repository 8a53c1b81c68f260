"""What the drawings of the course show: a convolution in numbers, and one object as YOLOv1 describes it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn import functional as F

from yolo_lite.draw.lessons import BoxLesson, Matrix
from yolo_lite.ops import box_iou, convolve
from yolo_lite.structures.results import Detections

IMAGE = ((95, 242, 186, 152, 39), (39, 14, 220, 153, 180), (5, 247, 212, 54, 46))
LAPLACIAN = ((0, 1, 0), (1, -4, 1), (0, 1, 0))


def convolution_steps() -> list[list[Matrix]]:
    """Return a convolution with stride, padding and pooling, worked out in numbers.

    Example:
        >>> [matrix.values.tolist() for matrix in convolution_steps()[0][2:]]  # stride 1, then stride 2
        [[[692, -315, -6]], [[692, -6]]]
    """
    image, kernel = torch.tensor(IMAGE), torch.tensor(LAPLACIAN)
    plain, strided = convolve(image, kernel), convolve(image, kernel, stride=2)
    padded, same = F.pad(image, (1, 1, 1, 1)), convolve(image, kernel, padding=1)
    pooled = F.max_pool2d(same[None].float(), 2)[0].long()
    return [
        [
            Matrix("the image, 3 x 5, and the first place", image.numpy(), [(0, 0, 3, 3)]),
            Matrix("the kernel, 3 x 3", kernel.numpy()),
            Matrix("stride 1: 1 x 3 results", plain.numpy(), [(0, 0, 1, 1)]),
            Matrix("stride 2: every other result", strided.numpy(), [(0, 0, 1, 1)]),
        ],
        [
            Matrix("padding 1: a border of zeros, 5 x 7", padded.numpy(), [(0, 0, 3, 3)]),
            Matrix("results, as many as the image: 3 x 5", same.numpy(), [(0, 0, 1, 1)]),
            Matrix("max pooling 2 x 2 looks at these", same.numpy(), [(0, 0, 2, 2), (0, 2, 2, 2)]),
            Matrix("and keeps the largest of each", pooled.numpy(), [(0, 0, 1, 1), (0, 1, 1, 1)]),
        ],
    ]


def box_lesson(
    detections: Detections, box: Sequence[float], *, image_hw: tuple[int, int], grid: int = 7
) -> BoxLesson | None:
    """Describe an object as YOLOv1 does, and compare it with the detection that overlaps it most.

    The cell that holds the centre of the object answers for it. The network is asked for x and y, the place of the
    centre in that cell, and for w and h, the sides as fractions of the image.

    Args:
        detections: in original pixels.
        box: xyxy of the object, original pixels.
        image_hw: height and width of the image.
        grid: cells along a side.

    Returns:
        None if no detection overlaps the object.

    Source: Redmon et al. 2016, section 2.

    Example:
        >>> found = Detections([[0, 0, 20, 10]], [0.9], labels=[0], class_names=("cat",))
        >>> lesson = box_lesson(found, (0, 0, 20, 20), image_hw=(70, 70))
        >>> lesson.cell, lesson.iou
        ((1, 1), 0.5)
        >>> [round(value, 3) for value in lesson.targets]  # the centre (10, 10) is at the corner of cell (1, 1)
        [0.0, 0.0, 0.286, 0.286]
    """
    x1, y1, x2, y2 = (float(value) for value in box)
    height, width = image_hw
    across, down = (x1 + x2) / 2 / width * grid, (y1 + y2) / 2 / height * grid
    column, row = (min(math.floor(value), grid - 1) for value in (across, down))
    if not len(detections):
        return None
    ious = box_iou(torch.tensor([[x1, y1, x2, y2]]), torch.from_numpy(detections.boxes))[0]
    best = int(ious.argmax())
    if ious[best] == 0:
        return None
    px1, py1, px2, py2 = (float(value) for value in detections.boxes[best])
    return BoxLesson(
        (x1, y1, x2, y2),
        grid,
        cell=(row, column),
        targets=(across - column, down - row, (x2 - x1) / width, (y2 - y1) / height),
        prediction=(px1, py1, px2, py2),
        intersection=(max(x1, px1), max(y1, py1), min(x2, px2), min(y2, py2)),
        iou=float(ious[best]),
    )
