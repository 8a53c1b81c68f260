"""A detector's confusion matrix, with a row and a column for the background."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from yolo_lite.metrics.classification import confusion_matrix
from yolo_lite.metrics.matching import SetMatches, choose_objects


def detector_confusion(matches: SetMatches, *, score_threshold: float) -> npt.NDArray[np.int64]:
    """Count objects and detections by true class (row) and detected class (column); the last of each is the background.

    Correct detections are matched first. Then the other detections choose, by falling score, the free object of another
    class that overlaps them most, if the IoU reaches the threshold of `matches` (ties: the later object). Objects
    without a detection are counted in the last column, detections without an object in the last row.

    Crowds, ignored detections, and classes that are unlabelled in an image are not counted.

    Args:
        matches: as `match_set` returns them.
        score_threshold: only detections that score above it count.

    Returns:
        int64 [C + 1, C + 1]. Each row but the last adds up to the number of objects of its class, each column but the
        last to the number of detections. `tolist()` gives "counts" in the section "confusion" of report.json.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> from yolo_lite.metrics.columns import to_columns
        >>> from yolo_lite.metrics.matching import match_set
        >>> data = read_split("my_images", "val")
        >>> matches = match_set(data, to_columns(data, []))  # nothing is detected: all objects are in the last column
        >>> detector_confusion(matches, score_threshold=0.3)[:, -1].tolist()
        [2, 4, 0]
    """
    columns, background = matches.columns, matches.class_count
    kept = (columns.scores > score_threshold) & ~matches.ignored
    objects = np.where(kept, matches.objects, -1)
    free = _without(matches.counted, objects)
    pairs = matches.other_pairs.take((kept & (objects < 0))[matches.other_pairs.detections])
    objects = np.maximum(objects, choose_objects(pairs, groups=columns.images, free=free))
    missed = matches.object_labels[_without(free, objects)]
    classes = np.append(matches.object_labels, background)  # position -1 is the background
    truth = np.concatenate([classes[objects[kept]], missed])
    called = np.concatenate([columns.labels[kept], np.full(len(missed), background)])
    return confusion_matrix(truth, called, classes=background + 1)


def _without(mask: npt.NDArray[np.bool_], objects: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return a mask [N] without the objects of detections."""
    mask = mask.copy()
    mask[objects[objects >= 0]] = False
    return mask
