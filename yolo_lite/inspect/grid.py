"""A detector's grids on one image, as lectures on YOLO draw them: cells, classes, boxes before and after NMS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from yolo_lite.models.yolo import Yolo
from yolo_lite.ops import batched_nms
from yolo_lite.predict.detector import Detector
from yolo_lite.structures.batches import RawPredictions
from yolo_lite.structures.geometry import Image
from yolo_lite.structures.results import Detections, GridView

if TYPE_CHECKING:
    from yolo_lite.media.images import ImageInput

_FEWEST = 0.2  # fraction of the score threshold above which boxes are drawn as "before NMS"


@torch.inference_mode()
def grids_of(detector: Detector, image: ImageInput) -> tuple[Image, list[GridView]]:
    """Return what each cell of a detector's grids predicts for an image.

    Args:
        detector: its thresholds decide which boxes are drawn.
        image: as for a call of the detector.

    Returns:
        The network's input, uint8 [H, W, 3], and the grids in input pixels, the finest first.

    Example:
        >>> pixels, grids = grids_of(Detector(device="cpu"), "photo.jpg")
        >>> [grid.stride for grid in grids]
        [8, 16, 32, 64]
    """
    pixels, _, raw = detector.raw(image)
    return pixels, view_grids(
        detector.model,
        raw,
        class_names=detector.class_names,
        score_threshold=detector.score_threshold,
        iou_threshold=detector.iou_threshold,
    )


def view_grids(
    model: Yolo, raw: RawPredictions, *, class_names: tuple[str, ...], score_threshold: float, iou_threshold: float
) -> list[GridView]:
    """Arrange the predictions for one image by grid, the finest first.

    Args:
        model: the network that made the predictions.
        raw: predictions for one image, on the CPU.
        class_names: by label.
        score_threshold: of detections.
        iou_threshold: of NMS, which compares the boxes of all grids within each class.

    Example:
        >>> detector = Detector(device="cpu")
        >>> _, _, raw = detector.raw("photo.jpg")
        >>> views = view_grids(
        ...     detector.model, raw, class_names=detector.class_names, score_threshold=0.4, iou_threshold=0.6
        ... )
        >>> sum(len(view.after) for view in views) == len(Detector(device="cpu", score_threshold=0.4)("photo.jpg"))
        True
    """
    boxes = model.decode(raw, torch.arange(len(raw.points)).unsqueeze(0))[0].float()
    scores = raw.class_logits[0].float().sigmoid()
    point, label = (scores > score_threshold).nonzero(as_tuple=True)
    kept = batched_nms(boxes[point], scores[point, label], idxs=label, iou_threshold=iou_threshold)
    after = torch.zeros_like(scores, dtype=torch.bool)
    after[point[kept], label[kept]] = True
    probabilities = model.head.cell_probabilities(raw)[0]
    views = []
    for stride in sorted({int(stride) for stride in raw.strides.tolist()}):
        of_grid = raw.strides == stride
        cells = (raw.points[of_grid] / stride).floor().long()
        best, responsible = _by_cell(cells, probabilities[of_grid], after[of_grid].any(1))
        views.append(
            GridView(
                stride,
                best.argmax(2).numpy(),
                scores=best.amax(2).numpy(),
                responsible=responsible.numpy(),
                before=_detections(
                    boxes,
                    scores,
                    chosen=of_grid.unsqueeze(1) & (scores > _FEWEST * score_threshold),
                    class_names=class_names,
                ),
                after=_detections(boxes, scores, chosen=of_grid.unsqueeze(1) & after, class_names=class_names),
            )
        )
    return views


def _by_cell(cells: Tensor, probabilities: Tensor, is_chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the points of each cell say together.

    Args:
        cells: column and row of each point's cell, int64 [A, 2].
        probabilities: of the classes, float32 [A, C].
        is_chosen: whether a detection comes from the point, bool [A].

    Returns:
        The highest probability of each class, [rows, columns, C], and whether a detection comes from the cell.
    """
    columns, rows = (int(side) + 1 for side in cells.amax(0))
    place = cells[:, 1] * columns + cells[:, 0]
    best = torch.zeros(rows * columns, probabilities.shape[1])
    best.scatter_reduce_(0, place.unsqueeze(1).expand_as(probabilities), probabilities, "amax")
    marked = torch.zeros(rows * columns).index_add_(0, place, is_chosen.float())
    return best.view(rows, columns, -1), marked.view(rows, columns) > 0


def _detections(boxes: Tensor, scores: Tensor, *, chosen: Tensor, class_names: tuple[str, ...]) -> Detections:
    point, label = chosen.nonzero(as_tuple=True)
    order = scores[point, label].argsort(descending=True, stable=True)
    point, label = point[order], label[order]
    return Detections(boxes[point].numpy(), scores[point, label].numpy(), labels=label.numpy(), class_names=class_names)
