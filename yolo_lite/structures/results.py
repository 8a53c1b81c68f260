"""The results that users receive: detections, a classification, and the view of one grid of cells."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from yolo_lite.checks import check_whole, shown
from yolo_lite.errors import InputError, counted

if TYPE_CHECKING:
    import pandas as pd
    import supervision as sv

    from yolo_lite.media.images import ImageInput
    from yolo_lite.structures.geometry import Image


@dataclass(frozen=True, eq=False)
class Detections:
    """The objects detected in one image, the highest score first.

    Without objects the arrays have length 0; they are never None. Iteration yields Detections of one box each. Index
    by a number, a slice, a boolean array or a list of positions; positions must keep the order of the scores.

    Attributes:
        boxes: float32 [N, 4] xyxy in original pixels, unless the function that returns them documents input pixels.
        scores: float32 [N] in 0..1, descending.
        labels: int64 [N], positions in `class_names`.
        class_names: every class name, by label.
        track_ids: int64 [N], the number of each object's track; None if objects are not tracked.

    Raises:
        ValueError: if shapes, order or ranges are not as above.

    Example:
        >>> boxes = [[0, 0, 10, 20], [5, 5, 9, 9]]
        >>> found = Detections(boxes, scores=[0.9, 0.4], labels=[1, 0], class_names=["cat", "dog"])
        >>> len(found), found.names
        (2, ['dog', 'cat'])
        >>> found[found.scores > 0.5].boxes.tolist()
        [[0.0, 0.0, 10.0, 20.0]]
    """

    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    class_names: tuple[str, ...] = field(repr=False)
    track_ids: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        boxes = _floats(self.boxes, "boxes")
        object.__setattr__(self, "boxes", boxes.reshape(0, 4) if boxes.size == 0 else boxes)
        object.__setattr__(self, "scores", _floats(self.scores, "scores"))
        labels = np.asarray(self.labels)
        if labels.size and not (np.issubdtype(labels.dtype, np.number) and (labels == np.round(labels)).all()):
            raise InputError(f"labels must be whole numbers, positions in class_names, got {shown(self.labels)}")
        object.__setattr__(self, "labels", labels.astype(np.int64))
        object.__setattr__(self, "class_names", _names(self.class_names))
        object.__setattr__(self, "track_ids", _ids(self.track_ids, len(self.boxes)))
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
            self.boxes[chosen],
            self.scores[chosen],
            labels=self.labels[chosen],
            class_names=self.class_names,
            track_ids=None if self.track_ids is None else self.track_ids[chosen],
        )

    @property
    def names(self) -> list[str]:
        """The class name of every detection."""
        return [self.class_names[label] for label in self.labels]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON: under "detections" the class_name, label, score and box (xyxy) of each.

        Tracked objects have their track_id as well.

        Example:
            >>> Detections([[0, 0, 10, 20]], scores=[0.5], labels=[0], class_names=["cat"]).to_dict()
            {'detections': [{'class_name': 'cat', 'label': 0, 'score': 0.5, 'box': [0.0, 0.0, 10.0, 20.0]}]}
        """
        rows: list[dict[str, Any]] = [
            {"class_name": name, "label": int(label), "score": float(score), "box": [float(side) for side in box]}
            for name, label, score, box in zip(self.names, self.labels, self.scores, self.boxes)
        ]
        ids = [] if self.track_ids is None else self.track_ids.tolist()
        return {"detections": [{**row, "track_id": number} for row, number in zip(rows, ids)] if ids else rows}

    def to_json(self) -> list[dict[str, Any]]:
        """Return the list inside `to_dict`: the former name, which still works in this version."""
        warnings.warn('please write to_dict()["detections"] instead of to_json()', DeprecationWarning, stacklevel=2)
        rows: list[dict[str, Any]] = self.to_dict()["detections"]
        return rows

    def to_pandas(self) -> pd.DataFrame:
        """Return a DataFrame with a row for each detection: class_name, label, score, x1, y1, x2, y2.

        Raises:
            InputError: if pandas is not installed.
        """
        from yolo_lite.structures.conversions import to_pandas

        return to_pandas(self)

    def to_supervision(self) -> sv.Detections:
        """Return the `Detections` of supervision, with the class names in its `data`.

        Raises:
            InputError: if supervision is not installed.
        """
        from yolo_lite.structures.conversions import to_supervision

        return to_supervision(self)

    def draw(self, image: ImageInput, *, font: Path | None = None) -> Image:
        """Return a copy of the image, uint8 [H, W, 3] RGB, with a box, name and score for each detection.

        Args:
            image: what was detected in: a path, an RGB array or a PIL image.
            font: a font file to try first for class names.

        Example:
            >>> cat = Detections([[0, 0, 10, 20]], scores=[0.5], labels=[0], class_names=["cat"])
            >>> cat.draw("photo.jpg").shape
            (600, 512, 3)
        """
        from yolo_lite.draw.boxes import draw_on

        return draw_on(image, self, font=font)

    def save(self, path: str | os.PathLike[str], image: ImageInput, *, font: Path | None = None) -> None:
        """Write what `draw` returns to an image file; its suffix chooses the format.

        Raises:
            InputError: if the file cannot be written, or would replace the image.

        Example:
            >>> cat = Detections([[0, 0, 10, 20]], scores=[0.5], labels=[0], class_names=["cat"])
            >>> cat.save("annotated.png", "photo.jpg")
        """
        from yolo_lite.draw.boxes import save_drawing

        save_drawing(path, image, detections=self, font=font)


def with_area(detections: Detections) -> Detections:
    """Leave out boxes without area, such as those that lay outside the image before they were clipped to it.

    Example:
        >>> found = Detections([[0, 0, 9, 9], [5, 0, 5, 9]], [0.9, 0.8], labels=[0, 0], class_names=("cat",))
        >>> len(with_area(found))
        1
    """
    sizes = detections.boxes[:, 2:] - detections.boxes[:, :2]
    return detections[np.flatnonzero((sizes > 0).all(1))]


def _floats(values: Any, name: str) -> npt.NDArray[np.float32]:
    try:
        return np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be numbers, got {shown(values)}") from error


def _ids(values: Any, count: int) -> npt.NDArray[np.int64] | None:
    """Return the track ids of `count` detections, or None."""
    if values is None:
        return None
    ids = np.asarray(values)
    if ids.shape != (count,) or (count and not np.issubdtype(ids.dtype, np.integer)):
        raise InputError(f"track_ids must be {count} whole numbers like boxes, got {shown(values)}")
    return ids.astype(np.int64)


def _names(names: Any) -> tuple[str, ...]:
    if isinstance(names, str) or not all(isinstance(name, str) for name in names):
        raise InputError(f"class_names must be a list of names, got {shown(names)}")
    return tuple(names)


def _chosen(index: Any, count: int) -> slice | npt.NDArray[Any]:
    """Return an index of `count` detections as a slice, an array of positions, or a mask.

    Raises:
        IndexError: if a position is out of range.
        InputError: if the index is of another type, or a mask has another length.
    """
    if isinstance(index, slice):
        try:
            index.indices(count)
        except TypeError as error:
            raise InputError(f"a slice of detections must have whole numbers, got {index}") from error
        return index
    array = np.asarray(index)
    if array.dtype == np.bool_ and array.ndim == 1 and len(array) != count:
        raise InputError(f"a mask of {counted(count, 'detection')} must have {count} values, got {len(array)}")
    if array.size == 0 and array.ndim == 1:
        array = array.astype(np.int64) if array.dtype != np.bool_ else array
    is_mask = array.dtype == np.bool_ and array.ndim == 1
    if not is_mask and (array.ndim > 1 or not np.issubdtype(array.dtype, np.integer)):
        raise InputError(
            "the index of detections must be a number, a slice, a list of positions or a mask such as found.scores > 0.5, "
            f"got {shown(index)}"
        )
    outside = [] if is_mask else [at for at in array.reshape(-1).tolist() if not -count <= at < count]
    if outside:
        raise IndexError(f"detection {outside[0]} of {count}")
    return array if is_mask else array.reshape(-1) % max(count, 1)


class GridView(NamedTuple):
    """One grid of rows x columns cells and its predictions for an image, all in input pixels.

    Attributes:
        stride: side of a cell.
        labels: int64 [rows, columns], the most likely class of each cell.
        scores: float32 [rows, columns], how likely that class is: the cell's class probability if the head predicts
            one (YOLOv1), otherwise the highest score of the cell's boxes.
        responsible: bool [rows, columns], True for a cell with a box that is among the detections.
        before: the grid's boxes before suppression that score above a fifth of the score threshold.
        after: the grid's boxes that are detections.
    """

    stride: int
    labels: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]
    responsible: npt.NDArray[np.bool_]
    before: Detections
    after: Detections


@dataclass(frozen=True, eq=False)
class Classification:
    """The scores of one image for a fixed list of classes.

    Attributes:
        scores: float32 [C], by label, summing to 1.
        class_names: every class name, by label.

    Raises:
        InputError: if the number of scores differs from the number of classes.

    Example:
        >>> result = Classification([0.25, 0.75], class_names=["cat", "dog"])
        >>> result.name, result.score
        ('dog', 0.75)
        >>> str(result)
        'dog 75%, cat 25%'
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
        """The label with the highest score; ties: the lowest label."""
        return int(self.scores.argmax())

    @property
    def name(self) -> str:
        """The class name with the highest score."""
        return self.class_names[self.label]

    @property
    def score(self) -> float:
        """The highest score."""
        return float(self.scores[self.label])

    def top(self, count: int = 5) -> list[tuple[str, float]]:
        """Return the `count` best class names with their scores, the highest score first.

        Example:
            >>> Classification([0.25, 0.5, 0.25], class_names=["cat", "dog", "bird"]).top(2)
            [('dog', 0.5), ('cat', 0.25)]
        """
        order = np.argsort(-self.scores, kind="stable")[: check_whole(count, "count", minimum=0)]
        return [(self.class_names[label], float(self.scores[label])) for label in order]

    def __str__(self) -> str:
        visible = [f"{name} {score:.0%}" for name, score in self.top() if round(score, 2) > 0]
        return ", ".join(visible or [f"{self.name} {self.score:.0%}"])
