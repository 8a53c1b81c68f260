"""Find boxes that cannot be meant as written: single boxes, and whole files in another unit or order."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from yolo_lite.data.faults import Fault
from yolo_lite.data.repeats import box_keys
from yolo_lite.errors import counted
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.records import ImageRecord, Records

_TOLERANCE = 1.0  # pixels by which a box may leave its image, because of rounding
_TINY = 2.0  # pixels
_ROUNDING = 0.01  # fraction of the image's side by which boxes may leave it if the set was scaled
_LARGEST_FRACTION = 2.0  # largest coordinate of boxes in fractions of the image: x + width of corners
_SMALL = 16  # pixels; in an image this small, real boxes may have no coordinate above _LARGEST_FRACTION
_FEW = 3  # boxes
_MANY = 0.25  # fraction of the boxes
_NEARLY_ALL = 0.95


def box_faults(split: str, data: DetectionSet) -> Iterator[Fault]:
    """Yield at most one fault for each box: it is a duplicate, outside its image, partly outside, or tiny.

    A box that is partly outside is harmful only if many are.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> list(box_faults("val", read_split("my_images", "val")))  # all boxes are fine
        []
    """
    total = len(data.records.objects.boxes)
    many = bool(many_leave(data))
    for record in data.records:
        seen: dict[tuple[float, ...], int] = {}
        for index, (key, box) in enumerate(zip(box_keys(record), record.boxes.tolist())):
            kind, what, harms = "", "", True
            if key in seen:
                first = record.place(seen[key]).rpartition(": ")[2]
                kind, what = "twice", f"the same box of the same class as {first}, in {record.path.name}"
            elif lies_outside(box, record.hw):
                kind, what = "outside", f"lies wholly outside its image {_described(record, box)}"
            elif leaves(box, record.hw):
                kind, what, harms = "leaves", f"leaves its image {_described(record, box)}", many
            elif min(box[2] - box[0], box[3] - box[1]) <= _TINY:
                size = f"{box[2] - box[0]:.3g} x {box[3] - box[1]:.3g}"
                kind, what, harms = "tiny", f"is tiny: {size} pixels, in {record.path.name}", False
            if kind:
                yield Fault(split, record.place(index), what=what, harms=harms, kind=kind, of=total)
            seen.setdefault(key, index)


def lies_outside(box: Sequence[float], hw: tuple[int, int]) -> bool:
    """Return whether no part of an xyxy box is inside its image of (height, width), all in pixels.

    Example:
        >>> lies_outside([10, 0, 20, 5], (8, 10)), lies_outside([9, 0, 20, 5], (8, 10))
        (True, False)
    """
    return box[0] >= hw[1] or box[1] >= hw[0] or box[2] <= 0 or box[3] <= 0


def leaves(box: Sequence[float], hw: tuple[int, int]) -> bool:
    """Return whether an xyxy box leaves its image of (height, width) by more than a pixel, which rounding can cause.

    Example:
        >>> leaves([5, 0, 15, 5], (8, 10)), leaves([5, 0, 11, 5], (8, 10))
        (True, False)
    """
    return min(box[0], box[1]) < -_TOLERANCE or box[2] > hw[1] + _TOLERANCE or box[3] > hw[0] + _TOLERANCE


def unit_faults(data: DetectionSet) -> Iterator[tuple[str, str]]:
    """Yield each file whose boxes seem to be in another unit or order than its layout expects, and the reason.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> list(unit_faults(read_split("my_images", "val")))  # pixels, as expected
        []
    """
    files: dict[str, list[int]] = {}
    layout = ""
    for position, (folder, name) in enumerate(data.records.labels_files.parts()):
        suffix = os.path.splitext(name)[1].lower()
        if suffix == ".json":
            files.setdefault(os.path.join(folder, name), []).append(position)
        else:
            layout = layout or suffix
            files.setdefault("", []).append(position)
    for file, positions in files.items():
        boxes, sizes_wh = _boxes_and_sizes(data.records.take(np.array(positions)))
        what = (
            (_fractions(boxes, sizes_wh) or _corners(boxes, sizes_wh, ".json" if file else layout))
            if len(boxes)
            else ""
        )
        if what:
            yield file or data.source, what


def many_leave(data: DetectionSet) -> str:
    """Return a message if many boxes of a set leave their images by more than rounding, else "".

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> many_leave(read_split("my_images", "val"))
        ''
    """
    boxes, sizes_wh = _boxes_and_sizes(data.records)
    leaving = _leaving(boxes, sizes_wh)
    if not _are_many(leaving):
        return ""
    first = int(leaving.argmax())
    image = int(data.records.image_of_objects[first])
    place = data.records[image].place(first - int(data.records.starts[image]))
    what = counted(len(boxes), "box", plural="boxes")
    return f"{leaving.sum():,} of its {what} leave their image by more than rounding, the first: {place}"


def _boxes_and_sizes(records: Records) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return all boxes [N, 4] and the width and height of each box's image [N, 2]."""
    return records.objects.boxes, records.sizes_hw[records.image_of_objects, ::-1].astype(np.float64)


def _leaving(boxes: npt.NDArray[np.float64], sizes_wh: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    slack = _slack(sizes_wh)
    leaving: npt.NDArray[np.bool_] = np.any((boxes[:, :2] < -slack) | (boxes[:, 2:] > sizes_wh + slack), axis=1)
    return leaving


def _slack(sizes_wh: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.maximum(_TOLERANCE, _ROUNDING * sizes_wh)


def _are_many(leaving: npt.NDArray[np.bool_]) -> bool:
    return bool(leaving.sum() >= _FEW and leaving.mean() > _MANY)


def _fractions(boxes: npt.NDArray[np.float64], sizes_wh: npt.NDArray[np.float64]) -> str:
    if boxes.max() > _LARGEST_FRACTION or np.median(sizes_wh) <= _SMALL:
        return ""
    return (
        f"no coordinate of its {counted(len(boxes), 'box', plural='boxes')} is larger than {max(1.0, boxes.max()):.3g}: they look "
        "like fractions of the image where pixels are expected"
    )


def _corners(boxes: npt.NDArray[np.float64], sizes_wh: npt.NDArray[np.float64], layout: str) -> str:
    """Return a message if boxes look like corners in a layout that expects a width and a height, else ""."""
    leaving = _leaving(boxes, sizes_wh)
    if layout not in (".json", ".txt") or not _are_many(leaving):
        return ""
    widths = boxes[:, 2:] - boxes[:, :2]
    first = (boxes[:, :2] + boxes[:, 2:]) / 2 if layout == ".txt" else boxes[:, :2]  # the two numbers before the widths
    if ((widths > first) & (widths <= sizes_wh + _slack(sizes_wh))).all(1).mean() < _NEARLY_ALL:
        return ""
    expected = "centre, width and height are" if layout == ".txt" else "x, y, width, height are"
    return (
        f"{leaving.sum():,} of its {counted(len(boxes), 'box', plural='boxes')} leave their image by more than rounding: they "
        f"look like x1, y1, x2, y2 where {expected} expected"
    )


def _described(record: ImageRecord, box: Sequence[float]) -> str:
    x1, y1, x2, y2 = (f"{side:g}" for side in box)
    return f"{record.path.name} of {record.hw[1]} x {record.hw[0]} pixels: x {x1} to {x2}, y {y1} to {y2}"
