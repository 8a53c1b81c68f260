"""Every type that crosses a module border.

Two coordinate frames exist, and no third: **original pixels** (of the picture as a person sees it, EXIF rotation
applied) and **input pixels** (of the resized, padded array that enters the network). Coordinates are continuous: a
picture of width W spans 0..W, and boxes are x1, y1, x2, y2 ("xyxy") unless a name says otherwise.

Nothing here imports torch: what a person holds works without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from yolo_lite.checks import check_whole, shown
from yolo_lite.errors import InputError, counted

if TYPE_CHECKING:
    from torch import Tensor

Image = npt.NDArray[np.uint8]  # [H, W, 3] RGB
PAD_VALUE = 114  # grey of the letterbox's border, and of what an augmentation uncovers


@dataclass(frozen=True)
class Letterbox:
    """The mapping between one picture's original pixels and its input pixels.

    `fit` works it out, `apply` resizes the picture by it, `boxes_to_input` and `boxes_to_original` carry boxes across.
    It is the only place where either is done: training, evaluation, detection and exports all use this one rule.

    - "letterbox" keeps the shape: one factor for both sides, the rest of the input is a grey border (114, 114, 114)
      shared between both ends, the odd pixel going to the right or bottom.
    - "stretch" fills the input, with a factor for each side.
    - Pixels are interpolated by area where the picture shrinks and bilinearly where it grows (OpenCV INTER_AREA and
      INTER_LINEAR, half-pixel centres).
    """

    original_hw: tuple[int, int]
    input_hw: tuple[int, int]
    content_hw: tuple[int, int]  # of the resized picture inside the input
    offset_xy: tuple[int, int]  # of its upper left corner, input pixels

    @classmethod
    def fit(cls, original_hw: tuple[int, int], input_hw: tuple[int, int], *, resize: str = "letterbox") -> Letterbox:
        """Fit a picture of size (height, width) into an input of size (height, width).

        Raises:
            ValueError: if resize is neither "letterbox" nor "stretch", or a size is not positive.
        """
        if min(*original_hw, *input_hw) <= 0:
            raise ValueError(f"sizes must be positive, got {original_hw} and {input_hw} (height, width)")
        if resize == "stretch":
            return cls(original_hw, input_hw, content_hw=input_hw, offset_xy=(0, 0))
        if resize != "letterbox":
            raise ValueError(f"resize must be 'letterbox' or 'stretch', got {resize!r}")
        scale = min(input_hw[0] / original_hw[0], input_hw[1] / original_hw[1])
        height, width = (max(1, min(side, round(scale * old))) for side, old in zip(input_hw, original_hw))
        return cls(
            original_hw,
            input_hw,
            content_hw=(height, width),
            offset_xy=((input_hw[1] - width) // 2, (input_hw[0] - height) // 2),
        )

    @property
    def scale_xy(self) -> tuple[float, float]:
        """Input pixels per original pixel along x and y (they differ by rounding even where the shape is kept)."""
        return self.content_hw[1] / self.original_hw[1], self.content_hw[0] / self.original_hw[0]

    def apply(self, image: Image) -> Image:
        """Return the input picture, uint8 [H, W, 3], of an original picture of size `original_hw`."""
        if image.shape[:2] != self.original_hw:
            raise ValueError(f"image must be {self.original_hw} (height, width), got {image.shape[:2]}")
        content = resize_image(image, self.content_hw)
        if self.content_hw == self.input_hw:
            return content
        result: Image = np.full((*self.input_hw, 3), PAD_VALUE, np.uint8)
        x, y = self.offset_xy
        result[y : y + self.content_hw[0], x : x + self.content_hw[1]] = content
        return result

    def boxes_to_input(self, boxes: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Map xyxy boxes [N, 4] from original pixels to input pixels, float32."""
        return (np.asarray(boxes, np.float64).reshape(-1, 4) * self._scale4 + self._offset4).astype(np.float32)

    def boxes_to_original(self, boxes: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Map xyxy boxes [N, 4] from input pixels to original pixels, float32, clipped to the picture."""
        mapped = (np.asarray(boxes, np.float64).reshape(-1, 4) - self._offset4) / self._scale4
        height, width = self.original_hw
        return np.clip(mapped, 0, [width, height, width, height]).astype(np.float32)

    def undo(self, detections: Detections) -> Detections:
        """Return detections in original pixels from detections in input pixels."""
        return Detections(
            self.boxes_to_original(detections.boxes),
            detections.scores,
            labels=detections.labels,
            class_names=detections.class_names,
        )

    @property
    def _scale4(self) -> npt.NDArray[np.float64]:
        return np.array(self.scale_xy * 2)

    @property
    def _offset4(self) -> npt.NDArray[np.float64]:
        return np.array(self.offset_xy * 2, np.float64)


def resize_image(image: Image, hw: tuple[int, int]) -> Image:
    """Return a new picture of size (height, width): by area where it shrinks, bilinearly where it grows."""
    import cv2

    if image.shape[:2] == hw:
        return np.array(image)
    shrinks = hw[0] <= image.shape[0] and hw[1] <= image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (hw[1], hw[0]), interpolation=method)  # type: ignore[no-any-return]


@dataclass(frozen=True, eq=False)
class Detections:
    """What was found in one picture, the highest score first.

    Attributes:
        boxes: float32 [N, 4] xyxy, original pixels unless the function that returns it says input pixels.
        scores: float32 [N] in 0..1, descending.
        labels: int64 [N], positions in `class_names`.
        class_names: the names that the labels stand for.

    No objects are arrays of length 0, never None. `len`, iteration (one-box Detections), and indexing by a number,
    a slice, a boolean array or an array of positions work; an index of positions must keep the order of scores.

    Raises:
        ValueError: if shapes, order or ranges are not as above.
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    class_names: tuple[str, ...] = field(repr=False)

    def __post_init__(self) -> None:
        boxes = _floats(self.boxes, "boxes")
        object.__setattr__(self, "boxes", boxes.reshape(0, 4) if boxes.size == 0 else boxes)
        object.__setattr__(self, "scores", _floats(self.scores, "scores"))
        labels = np.asarray(self.labels)
        if labels.size and not (np.issubdtype(labels.dtype, np.number) and (labels == np.round(labels)).all()):
            raise InputError(f"labels must be whole numbers, positions in class_names, got {shown(self.labels)}")
        object.__setattr__(self, "labels", labels.astype(np.int64))
        object.__setattr__(self, "class_names", _names(self.class_names))
        count = len(self.boxes)
        if self.boxes.shape != (count, 4):
            raise ValueError(f"boxes must be [N, 4], got {list(self.boxes.shape)}")
        if self.scores.shape != (count,) or self.labels.shape != (count,):
            raise ValueError(
                f"scores and labels must be [{count}] like boxes, got {list(self.scores.shape)} and "
                f"{list(self.labels.shape)}"
            )
        if not (np.isfinite(self.boxes).all() and np.isfinite(self.scores).all()):
            raise ValueError("boxes and scores must be finite")
        if count and not (self.scores.min() >= 0 and self.scores.max() <= 1):
            raise ValueError(f"scores must be from 0 to 1, got {self.scores.min():g}..{self.scores.max():g}")
        if (np.diff(self.scores) > 0).any():
            raise ValueError("scores must be descending: sort boxes, scores and labels by score first")
        if count and not (self.labels.min() >= 0 and self.labels.max() < len(self.class_names)):
            raise ValueError(
                f"labels must be in 0..{len(self.class_names) - 1}, got {self.labels.min()}..{self.labels.max()}"
            )

    def __len__(self) -> int:
        return len(self.boxes)

    def __iter__(self) -> Iterator[Detections]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int | slice | npt.NDArray[Any] | list[int]) -> Detections:
        chosen = _chosen(index, len(self))
        return Detections(
            self.boxes[chosen], self.scores[chosen], labels=self.labels[chosen], class_names=self.class_names
        )

    @property
    def names(self) -> list[str]:
        """The class name of every detection."""
        return [self.class_names[label] for label in self.labels]

    def to_json(self) -> list[dict[str, Any]]:
        """Return one plain dictionary per detection: class_name, label, score, box (xyxy)."""
        return [
            {"class_name": name, "label": int(label), "score": float(score), "box": [float(side) for side in box]}
            for name, label, score, box in zip(self.names, self.labels, self.scores, self.boxes)
        ]


def _floats(values: Any, name: str) -> npt.NDArray[np.float32]:
    try:
        return np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be numbers, got {shown(values)}") from error


def _names(names: Any) -> tuple[str, ...]:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise InputError(f"class_names must be a list of names, got {shown(names)}")
    return tuple(names)


def _chosen(index: Any, count: int) -> slice | npt.NDArray[Any]:
    """Return an index of so many detections as a slice, positions or one truth value for each.

    Raises:
        IndexError: for a position outside.
        InputError: for anything that chooses no detections.
    """
    if isinstance(index, slice):
        try:
            index.indices(count)
        except TypeError as error:
            raise InputError(f"a slice of detections takes whole numbers, got {index}") from error
        return index
    array = np.asarray(index)
    if array.dtype == np.bool_ and array.ndim == 1 and len(array) != count:
        raise InputError(f"a mask of {counted(count, 'detection')} must have as many values, got {len(array)}")
    if array.size == 0 and array.ndim == 1:
        array = array.astype(np.int64) if array.dtype != np.bool_ else array
    is_mask = array.dtype == np.bool_ and array.ndim == 1
    if not is_mask and (array.ndim > 1 or not np.issubdtype(array.dtype, np.integer)):
        raise InputError(
            f"detections are chosen by a number, a slice, a list of positions or a mask such as found.scores > 0.5, got {shown(index)}"
        )
    outside = [] if is_mask else [at for at in array.reshape(-1).tolist() if not -count <= at < count]
    if outside:
        raise IndexError(f"detection {outside[0]} of {count}")
    return array if is_mask else array.reshape(-1) % max(count, 1)


class GridView(NamedTuple):
    """One grid of S x S cells (or rows x columns) and what it says of a picture, all in input pixels.

    Attributes:
        stride: side of a cell.
        labels: int64 [rows, columns], the class that each cell holds for likeliest.
        shares: float32 [rows, columns], how likely: the cell's class probability where the head has one (YOLOv1), else
            the best score of any of its boxes.
        responsible: bool [rows, columns], cells with a box that is among the detections.
        before: boxes of this grid before suppression, those below the score threshold too, down to a fifth of it.
        after: those of them that are detections.
    """

    stride: int
    labels: npt.NDArray[np.int64]
    shares: npt.NDArray[np.float32]
    responsible: npt.NDArray[np.bool_]
    before: Detections
    after: Detections


@dataclass(frozen=True)
class ImageRecord:
    """One labelled picture as its annotations describe it.

    Attributes:
        path: the picture's file.
        image_id: the data set's own number for it, unique in the set.
        hw: (height, width) in original pixels.
        boxes: float64 [N, 4] xyxy, original pixels.
        labels: int64 [N].
        crowd: bool [N]; a crowd box marks a region of uncounted objects: no training target, ignored in evaluation.
        areas: float64 [N], the annotated areas (of the mask, where there is one), by which COCO sorts sizes.
        unlabelled: classes whose objects are not all marked, so that absence means nothing: training asks nothing of them
            here beyond the boxes given, evaluation leaves them out.
        labels_file: where the boxes are written; None where nobody wrote them.
        numbers: int64 [N], the line of each box in a text file, its object in an XML file, or its annotation's id in a
            JSON file (-1 where it has none); empty where that is not known.
    """

    path: Path
    image_id: int
    hw: tuple[int, int]
    boxes: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    crowd: npt.NDArray[np.bool_]
    areas: npt.NDArray[np.float64]
    unlabelled: tuple[int, ...] = ()
    labels_file: Path | None = None
    numbers: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def place(self, index: int) -> str:
        """Say where a box is written: its file, and the line, object or annotation there."""
        if self.labels_file is None or index >= len(self.numbers):
            return f"{self.path}: box {index + 1}"
        noun = {".txt": "line", ".xml": "object"}.get(self.labels_file.suffix.lower(), "annotation")
        number = int(self.numbers[index])
        return f"{self.labels_file}: {noun} {number if number >= 0 else '(without id)'}"


@dataclass(frozen=True)
class DetectionSet:
    """One split of a data set: records, class names by label, and the category id that each class had originally."""

    records: tuple[ImageRecord, ...]
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    source: str  # where it was read from
    dropped: int = 0  # annotations without area, left out
    notes: tuple[str, ...] = ()  # what was read in another way than it is written, or left out: one line each

    def summary(self) -> str:
        """Say in one line what was found."""
        boxes = sum(len(record.boxes) for record in self.records)
        empty = sum(not len(record.boxes) for record in self.records)
        crowd = sum(int(record.crowd.sum()) for record in self.records)
        partly = sum(bool(record.unlabelled) for record in self.records)
        unknown = sum(
            len(record.unlabelled) == len(self.class_names) and not len(record.boxes) for record in self.records
        )
        text = f"{counted(len(self.records), 'image')}, {counted(boxes, 'box', plural='boxes')}"
        text += f", {counted(len(self.class_names), 'class', plural='classes')}"
        if empty > unknown:
            text += f"; {counted(empty - unknown, 'image')} without objects kept as background"
        if crowd:
            text += f"; {counted(crowd, 'crowd box', plural='crowd boxes')} ignored in training"
        if partly > unknown:
            text += f"; {counted(partly - unknown, 'image')} labelled for some classes only"
        if unknown:
            text += f"; {counted(unknown, 'image')} without labels"
        if self.dropped:
            text += f"; {counted(self.dropped, 'box', plural='boxes')} without area dropped"
        return text


@dataclass(frozen=True)
class ClassRecord:
    """One picture, or a part of one, with the class it belongs to.

    Attributes:
        name: what messages call it: its path, or its place in an archive.
        content: a picture's file, the bytes of one, or its pixels, uint8 [H, W] grey or [H, W, 3] RGB.
        label: position in the class names.
        box: xyxy, original pixels, of the part that is meant; None for the whole picture.
    """

    name: str
    content: Path | bytes | npt.NDArray[np.uint8]
    label: int
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class ClassificationSet:
    """One split of a set of pictures to classify."""

    records: tuple[ClassRecord, ...]
    class_names: tuple[str, ...]
    source: str
    notes: tuple[str, ...] = ()  # what was done in reading it: one line each

    def summary(self) -> str:
        """Say in one line what was found."""
        counts = np.bincount([record.label for record in self.records], minlength=len(self.class_names))
        told = ", ".join(f"{name} ({count:,})" for name, count in list(zip(self.class_names, counts))[:12])
        more = f" and {len(self.class_names) - 12} more" if len(self.class_names) > 12 else ""
        return f"{counted(len(self.records), 'picture')}, {counted(len(self.class_names), 'class', plural='classes')}: {told}{more}"


@dataclass(frozen=True, eq=False)
class Classification:
    """What one picture shows, of a fixed list of classes.

    Attributes:
        scores: float32 [C], by label, summing to 1.
        class_names: the names that the labels stand for.

    Raises:
        InputError: where there is not one score for each class.
    """

    scores: npt.NDArray[np.float32]
    class_names: tuple[str, ...] = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scores", _floats(self.scores, "scores"))
        object.__setattr__(self, "class_names", _names(self.class_names))
        if not self.class_names or self.scores.shape != (len(self.class_names),):
            expected = f"one for each of {counted(len(self.class_names), 'class', plural='classes')}"
            raise InputError(f"scores must be {expected}, got shape {list(self.scores.shape)}")

    @property
    def label(self) -> int:
        """The class with the highest score; of equals the first."""
        return int(self.scores.argmax())

    @property
    def name(self) -> str:
        """The name of that class."""
        return self.class_names[self.label]

    @property
    def score(self) -> float:
        """Its score."""
        return float(self.scores[self.label])

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """Return the classes of the highest scores with these, best first."""
        order = np.argsort(-self.scores, kind="stable")[: check_whole(count, "count", minimum=0)]
        return [(self.class_names[label], float(self.scores[label])) for label in order]

    def __str__(self) -> str:
        told = [f"{name} {score:.0%}" for name, score in self.top() if round(score, 2) > 0]
        return ", ".join(told or [f"{self.name} {self.score:.0%}"])


class ClassSample(NamedTuple):
    """One picture ready for a classifier."""

    image: Tensor  # uint8 [channels, H, W]
    label: int
    position: int  # in the data set


class ClassBatch(NamedTuple):
    """Such samples stacked."""

    images: Tensor  # uint8 [B, channels, H, W], channels last in memory
    labels: Tensor  # int64 [B]
    positions: Tensor  # int64 [B], in the data set

    def part(self, start: int, stop: int) -> ClassBatch:
        """Return the samples from start to stop."""
        return ClassBatch(*(whole[start:stop] for whole in self))


class Sample(NamedTuple):
    """One picture ready for the network, in input pixels."""

    image: Tensor  # uint8 [3, H, W] RGB
    boxes: Tensor  # float32 [N, 4] xyxy
    labels: Tensor  # int64 [N]
    position: int  # in the data set
    unlabelled: tuple[int, ...] = ()  # classes whose absence means nothing here


class Batch(NamedTuple):
    """Samples stacked, in input pixels; each picture's boxes are padded to the same count N."""

    images: Tensor  # uint8 [B, 3, H, W] RGB, channels last in memory
    boxes: Tensor  # float32 [B, N, 4] xyxy, zeros in the padding
    labels: Tensor  # int64 [B, N], -1 in the padding
    positions: Tensor  # int64 [B], in the data set
    unlabelled: Tensor | None = None  # int64 [K, 2]: (picture, class) pairs where absence means nothing

    def part(self, start: int, stop: int) -> Batch:
        """Return the samples from start to stop."""
        pairs = self.unlabelled
        if pairs is not None:
            pairs = pairs[(pairs[:, 0] >= start) & (pairs[:, 0] < stop)]
            pairs = pairs - pairs.new_tensor([start, 0])
        images, boxes, labels, positions = (whole[start:stop] for whole in self[:4])
        return Batch(images, boxes, labels=labels, positions=positions, unlabelled=pairs)


class RawPredictions(NamedTuple):
    """What every detection head returns for its A points, before anything is chosen; points in input pixels."""

    box_outputs: Tensor  # [B, A, D], the head's own; its `decode` turns them into boxes
    class_logits: Tensor  # [B, A, C]; the sigmoid is the final score
    points: Tensor  # float32 [A, 2] x, y
    strides: Tensor  # float32 [A], input pixels between neighbouring points
