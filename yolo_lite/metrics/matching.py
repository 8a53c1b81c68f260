"""Which detection belongs to which object of one image."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from yolo_lite.structures.results import Detections


class Matches(NamedTuple):
    """What became of the detections and the objects of one image.

    Attributes:
        objects: int64 [N], for each detection the position of its object, or -1.
        ignored: bool [N], detections without an object that lie in a crowd: neither right nor wrong.
        missed: bool [M], objects without a detection, apart from crowds.
    """

    objects: npt.NDArray[np.int64]
    ignored: npt.NDArray[np.bool_]
    missed: npt.NDArray[np.bool_]

    @property
    def wrong(self) -> npt.NDArray[np.bool_]:
        """Return which detections [N] belong to no object."""
        return (self.objects < 0) & ~self.ignored


def match_detections(
    detections: Detections,
    boxes: npt.ArrayLike,
    *,
    labels: npt.ArrayLike,
    crowd: npt.ArrayLike,
    iou_threshold: float = 0.5,
) -> Matches:
    """Match the detections of one image with its objects, as COCO's evaluation does at one IoU.

    The detection with the highest score chooses first. It takes the object of its class that overlaps it most, if that
    is still free and the IoU reaches the threshold. Ties go to the later object.

    Args:
        detections: boxes in the pixels of `boxes`.
        boxes: [M, 4] xyxy, the ground truth.
        labels: [M].
        crowd: [M], whether a box marks a region of uncounted objects.
        iou_threshold: the least overlap. With a crowd, the overlap is the fraction of the detection inside it.

    Example:
        >>> found = Detections([[0, 0, 10, 10], [0, 0, 9, 10]], [0.9, 0.8], labels=[0, 0], class_names=("cat",))
        >>> match_detections(found, [[0, 0, 10, 10]], labels=[0], crowd=[False]).wrong.tolist()  # a duplicate is wrong
        [False, True]
    """
    truth = np.asarray(boxes, np.float64).reshape(-1, 4)
    classes, crowds = np.asarray(labels, np.int64).reshape(-1), np.asarray(crowd, bool).reshape(-1)
    overlap = _overlap(np.asarray(detections.boxes, np.float64), truth, crowds)
    overlap[detections.labels[:, None] != classes] = -1
    objects, ignored = np.full(len(detections), -1), np.zeros(len(detections), bool)
    free = ~crowds
    for i, row in enumerate(overlap):
        candidates = np.flatnonzero(free & (row >= iou_threshold))
        if candidates.size:
            objects[i] = candidates[::-1][row[candidates[::-1]].argmax()]
            free[objects[i]] = False
        else:
            ignored[i] = (row[crowds] >= iou_threshold).any()
    return Matches(objects, ignored, free)


def _overlap(
    detections: npt.NDArray[np.float64], truth: npt.NDArray[np.float64], crowds: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Return the IoU [N, M]; for a crowd, the intersection over the area of the detection."""
    low = np.maximum(detections[:, None, :2], truth[None, :, :2])
    high = np.minimum(detections[:, None, 2:], truth[None, :, 2:])
    common = (high - low).clip(0).prod(2)
    own = (detections[:, 2:] - detections[:, :2]).prod(1)[:, None]
    union = np.where(crowds, own, own + (truth[:, 2:] - truth[:, :2]).prod(1) - common)
    overlap: npt.NDArray[np.float64] = np.divide(common, union, out=np.zeros_like(common), where=union > 0)
    return overlap
