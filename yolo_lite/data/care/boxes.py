"""Find boxes that cannot be meant as they are written: one by one, and where a whole file has another unit or order."""

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

_TOLERANCE = 1.0  # pixels by which a box may leave its image, as rounding does
_TINY = 2.0  # pixels
_ROUNDING = 0.01  # share of the image's side by which boxes may leave it, where the set was scaled
_SHARES = 2.0  # the largest coordinate that shares of an image may have: x + width of a box as corners
_SMALL = 16  # pixels of an image, in which real boxes may have no coordinate above _SHARES
_FEW = 3  # boxes
_MANY = 0.25  # share of the boxes
_NEARLY_ALL = 0.95


def box_faults(split: str, data: DetectionSet) -> Iterator[Fault]:
    """Yield for each box at most one fault: it is there twice, outside its image, partly outside, or tiny.

    A box that is partly outside harms where many are.
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
    """Tell whether no part of an xyxy box is inside its image."""
    return box[0] >= hw[1] or box[1] >= hw[0] or box[2] <= 0 or box[3] <= 0


def leaves(box: Sequence[float], hw: tuple[int, int]) -> bool:
    """Tell whether a part of an xyxy box is outside its image, beyond rounding."""
    return min(box[0], box[1]) < -_TOLERANCE or box[2] > hw[1] + _TOLERANCE or box[3] > hw[0] + _TOLERANCE


def unit_faults(data: DetectionSet) -> Iterator[tuple[str, str]]:
    """Yield where and why boxes seem to be in another unit or order than their layout asks for, once for each file."""
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
            (_shares(boxes, sizes_wh) or _corners(boxes, sizes_wh, ".json" if file else layout)) if len(boxes) else ""
        )
        if what:
            yield file or data.source, what


def many_leave(data: DetectionSet) -> str:
    """Say that many boxes of a set leave their images by more than rounding, and where the first is; else nothing."""
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
    """Return all boxes [N, 4] and, for each, width and height of its image [N, 2]."""
    return records.objects.boxes, records.sizes_hw[records.image_of_objects, ::-1].astype(np.float64)


def _leaving(boxes: npt.NDArray[np.float64], sizes_wh: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    slack = _slack(sizes_wh)
    leaving: npt.NDArray[np.bool_] = np.any((boxes[:, :2] < -slack) | (boxes[:, 2:] > sizes_wh + slack), axis=1)
    return leaving


def _slack(sizes_wh: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.maximum(_TOLERANCE, _ROUNDING * sizes_wh)


def _are_many(leaving: npt.NDArray[np.bool_]) -> bool:
    return bool(leaving.sum() >= _FEW and leaving.mean() > _MANY)


def _shares(boxes: npt.NDArray[np.float64], sizes_wh: npt.NDArray[np.float64]) -> str:
    if boxes.max() > _SHARES or np.median(sizes_wh) <= _SMALL:
        return ""
    return (
        f"no coordinate of its {counted(len(boxes), 'box', plural='boxes')} is larger than {max(1.0, boxes.max()):.3g}: they look "
        "like fractions of the image where pixels are expected"
    )


def _corners(boxes: npt.NDArray[np.float64], sizes_wh: npt.NDArray[np.float64], layout: str) -> str:
    """Say that boxes look like corners in a layout that asks for a width and a height."""
    leaving = _leaving(boxes, sizes_wh)
    if layout not in (".json", ".txt") or not _are_many(leaving):
        return ""
    widths = boxes[:, 2:] - boxes[:, :2]
    first = (boxes[:, :2] + boxes[:, 2:]) / 2 if layout == ".txt" else boxes[:, :2]  # what is written before the widths
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
