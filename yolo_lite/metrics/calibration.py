"""Whether scores are probabilities: reliability bins and the expected calibration error."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from yolo_lite.metrics.matching import SetMatches


@dataclass(frozen=True)
class Bin:
    """Predictions with similar scores: from `low` up to, but not including, `high`; the last bin includes it."""

    low: float
    high: float
    count: int
    score: float  # mean; NaN if the bin is empty
    precision: float  # fraction that is correct; NaN if the bin is empty


@dataclass(frozen=True)
class Calibration:
    """How well scores agree with the fraction of predictions that are correct.

    Attributes:
        error: mean distance of precision and mean score over the bins, weighted by count; NaN without predictions.
        count: number of predictions.
        bins: by rising score.
    """

    error: float
    count: int
    bins: tuple[Bin, ...]

    def to_json(self) -> dict[str, Any]:
        """Return all numbers as a dictionary of plain values; unknown ones are None.

        For detections, "iou_threshold" and "lowest_score" complete the section "calibration" of report.json.

        Example:
            >>> measure_calibration([0.9], [True], bins=2).to_json()["bins"][0]
            {'low': 0.0, 'high': 0.5, 'count': 0, 'score': None, 'precision': None}
        """
        bins = [{name: _or_none(value) for name, value in asdict(part).items()} for part in self.bins]
        return {"error": _or_none(self.error), "count": self.count, "bins": bins}


def measure_calibration(scores: npt.ArrayLike, right: npt.ArrayLike, *, bins: int = 10) -> Calibration:
    """Compare scores with the fraction of predictions that are correct, in bins of equal width between 0 and 1.

    Args:
        scores: [N], in 0..1; a score outside is counted in the first or last bin.
        right: bool [N], whether each prediction is correct.
        bins: number of bins.

    Raises:
        ValueError: if scores and right differ in length.

    Source: Guo et al. 2017, equation 3 (for classifiers).

    Example:
        >>> calibration = measure_calibration([0.72, 0.78, 0.74, 0.76], [True, True, True, False])
        >>> calibration.error, calibration.bins[7].precision
        (0.0, 0.75)
    """
    scores, right = np.asarray(scores, np.float64), np.asarray(right, bool)
    if scores.shape != right.shape or scores.ndim != 1:
        raise ValueError(f"scores and right must be [N], got {list(scores.shape)} and {list(right.shape)}")
    edges = np.arange(bins + 1) / bins
    place = np.searchsorted(edges[1:-1], scores, side="right")
    counts = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 is NaN
        means = np.bincount(place, scores, minlength=bins) / counts
        precision = np.bincount(place, right, minlength=bins) / counts
    distances = np.nan_to_num(np.abs(precision - means))
    error = float(distances @ counts / len(scores)) if len(scores) else math.nan
    columns = (edges[:-1], edges[1:], counts, means, precision)
    return Calibration(error, len(scores), tuple(Bin(*row) for row in zip(*(column.tolist() for column in columns))))


def measure_detection_calibration(matches: SetMatches, *, lowest_score: float = 0.05, bins: int = 10) -> Calibration:
    """Compare the scores of detections with the fraction of them that is correct, at the IoU of `matches`.

    Args:
        matches: as `match_set` returns them; ignored detections are left out.
        lowest_score: only detections that score above it count. A detector keeps very many with scores near 0, which
            would hide the error of all others.
        bins: number of bins.

    Source: Küppers et al. 2020, D-ECE of the confidence alone.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> from yolo_lite.metrics.columns import to_columns
        >>> from yolo_lite.metrics.matching import match_set
        >>> data = read_split("my_images", "val")
        >>> rows = [{"image_id": 8, "category_id": 3, "bbox": [0, 0, 2, 2], "score": 0.5}]
        >>> measure_detection_calibration(match_set(data, to_columns(data, rows))).error  # the detection is wrong
        0.5
    """
    judged = ~matches.ignored & (matches.columns.scores > lowest_score)
    return measure_calibration(matches.columns.scores[judged], matches.objects[judged] >= 0, bins=bins)


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
