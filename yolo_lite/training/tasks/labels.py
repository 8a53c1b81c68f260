"""Labels that are surely wrong: wrong units, boxes that are all the same, one class for everything."""

from __future__ import annotations

import numpy as np

from yolo_lite.data.care.boxes import many_leave, unit_faults
from yolo_lite.errors import InputError, counted, some
from yolo_lite.structures.datasets import DetectionSet

OFF = " (--no-preflight trains anyway)"
_TINY = 2.0  # input pixels
_FEW = 8  # images: in so small a set all boxes may be the same


def check_labels(data: DetectionSet, input_hw: tuple[int, int]) -> None:
    """Check for labels that are surely wrong, before the first step.

    Args:
        data: the training set.
        input_hw: height and width of the input.

    Raises:
        InputError: naming the boxes and the remedy.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> check_labels(read_split("my_images", "train"), (320, 320))
    """
    objects, targets = data.records.objects, ~data.records.objects.crowd
    every = objects.boxes[targets]
    if not len(every):
        return
    for where, what in unit_faults(data):
        raise InputError(f"{where}: {what}{OFF}")
    leaving = many_leave(data)
    if leaving:
        raise InputError(f"{data.source}: {leaving}; data check names them{OFF}")
    scales = max(input_hw) / data.records.sizes_hw.max(1)[data.records.image_of_objects[targets]]
    tiny = ((every[:, 2:] - every[:, :2]).min(1) * scales < _TINY).mean()
    if tiny > 0.5:
        raise InputError(
            f"{data.source}: {tiny:.0%} of its boxes have a side of less than {_TINY:g} pixels in an input of "
            f"{input_hw[0]} x {input_hw[1]}: wrong units, or a larger --image-size is needed{OFF}"
        )
    if len(data.records) > _FEW - 1 and len(np.unique(every.round(1), axis=0)) == 1:
        raise InputError(
            f"{data.source}: all {counted(len(every), 'box', plural='boxes')} are the same, {every[0].tolist()}{OFF}"
        )
    labels = objects.labels[targets]
    used = np.unique(labels)
    if len(data.class_names) > 1 and len(used) == 1 and len(data.class_names) - len(used) > 1:
        unused = [name for label, name in enumerate(data.class_names) if label not in used]
        raise InputError(
            f"{data.source}: all {counted(len(labels), 'box', plural='boxes')} are of class {data.class_names[used[0]]}, none of "
            f"{some(unused)}: "
            f"are the class ids right? (--classes {data.class_names[used[0]]} if so){OFF}"
        )
