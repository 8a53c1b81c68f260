"""Detections as columns, and as the types of other libraries, which are imported when they are asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from yolo_lite.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import supervision as sv

    from yolo_lite.structures.results import Detections

COLUMNS = ("class_name", "label", "score", "x1", "y1", "x2", "y2")


def to_columns(detections: Detections) -> dict[str, list[Any]]:
    """Return plain values by column (see COLUMNS), a row for each detection.

    Scores and boxes have the shortest decimal form that gives their float32 again.

    Example:
        >>> from yolo_lite import Detections
        >>> cat = Detections([[0, 0, 10, 20.1]], scores=[0.9], labels=[0], class_names=["cat"])
        >>> list(to_columns(cat).values())
        [['cat'], [0], [0.9], [0.0], [0.0], [10.0], [20.1]]
    """
    numbers = np.column_stack([detections.scores, detections.boxes])
    short = [[float(str(value)) for value in column] for column in numbers.T]
    return dict(zip(COLUMNS, [detections.names, detections.labels.tolist(), *short]))


def to_pandas(detections: Detections) -> pd.DataFrame:
    """Return a DataFrame of pandas with a row for each detection.

    Raises:
        InputError: if pandas is not installed.

    Example:
        >>> from yolo_lite import Detections
        >>> cat = Detections([[0, 0, 10, 20]], scores=[0.5], labels=[0], class_names=["cat"])
        >>> to_pandas(cat).x2.tolist()  # doctest: +SKIP
        [10.0]
    """
    try:
        import pandas
    except ImportError as error:
        raise InputError("to_pandas needs pandas, which is not installed: pip install pandas") from error
    columns = dict(zip(COLUMNS, [detections.names, detections.labels, detections.scores, *detections.boxes.T]))
    return pandas.DataFrame(columns)


def to_supervision(detections: Detections) -> sv.Detections:
    """Return the `Detections` of supervision, with the class names in its `data`.

    Raises:
        InputError: if supervision is not installed.

    Example:
        >>> from yolo_lite import Detections
        >>> cat = Detections([[0, 0, 10, 20]], scores=[0.5], labels=[0], class_names=["cat"])
        >>> to_supervision(cat).data["class_name"].tolist()  # doctest: +SKIP
        ['cat']
    """
    try:
        import supervision
    except ImportError as error:
        raise InputError("to_supervision needs supervision, which is not installed: pip install supervision") from error
    return supervision.Detections(
        xyxy=detections.boxes.copy(),
        confidence=detections.scores.copy(),
        class_id=detections.labels.copy(),
        data={"class_name": np.array(detections.names, dtype=np.str_)},
    )
