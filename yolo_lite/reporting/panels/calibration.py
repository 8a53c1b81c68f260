"""The section on calibration: whether a score of 0.8 is right in eight of ten cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yolo_lite.reporting.charts import Axis, Bin, Caption, figure, legend, reliability_chart
from yolo_lite.reporting.markup import Html
from yolo_lite.reporting.section import Section, finding, section
from yolo_lite.reporting.tables import table
from yolo_lite.reporting.values import counted, decimal, number, whole

_CLOSE = 0.02  # mean scores this near to precision are called right


def calibration_section(report: Mapping[str, Any]) -> Section | None:
    """Return the reliability diagram, with the count of each bin.

    Example:
        >>> bins = [{"low": 0.5, "high": 1.0, "count": 10, "score": 0.8, "precision": 0.7}]
        >>> calibration_section({"calibration": {"error": 0.1, "count": 10, "bins": bins}}).title
        'Calibration'
    """
    calibration = report.get("calibration") or {}
    bins = [_bin(each) for each in calibration.get("bins") or []]
    if not any(each.count for each in bins):
        return None
    is_classifier = report.get("task") == "classify"
    return section(
        "calibration",
        "Calibration",
        finding(_verdict(bins, calibration, is_classifier)),
        _figure(bins, calibration, is_classifier),
    )


def _bin(each: Mapping[str, Any]) -> Bin:
    low, high = number(each.get("low")) or 0.0, number(each.get("high"))
    return Bin(
        low,
        1.0 if high is None else high,
        int(number(each.get("count")) or 0),
        number(each.get("score")),
        number(each.get("precision")),
    )


def _verdict(bins: Sequence[Bin], calibration: Mapping[str, Any], is_classifier: bool) -> str:
    """Return the calibration error, and whether scores are too high or too low on average."""
    name = "calibration error" if is_classifier else "detection calibration error (D-ECE)"
    text = f"The {name} is {decimal(calibration.get('error'))}."
    known = [(each.count, each.score, each.precision) for each in bins]
    gaps = [count * (score - right) for count, score, right in known if score is not None and right is not None]
    total = sum(count for count, score, right in known if score is not None and right is not None)
    if not total:
        return text
    gap = sum(gaps) / total
    if abs(gap) < _CLOSE:
        return f"{text} On average scores are right."
    return f"{text} On average scores are {decimal(abs(gap), places=2)} too {'high' if gap > 0 else 'low'}."


def _figure(bins: Sequence[Bin], calibration: Mapping[str, Any], is_classifier: bool) -> Html:
    noun, right = ("image", "accuracy") if is_classifier else ("detection", "precision")
    count = calibration.get("count")
    counts = counted(sum(each.count for each in bins) if count is None else count, noun)
    lowest, iou = number(calibration.get("lowest_score")), number(calibration.get("iou_threshold"))
    conditions = "" if iou is None else f" A detection is right from an IoU of {decimal(iou, places=2)}."
    if lowest:
        conditions += f" Scores below {decimal(lowest, places=2)} are left out."
    reading = (
        "Dots on the dashed diagonal are calibrated; below it, scores promise more than they keep. "
        f"The strip above counts the {noun}s in each bin: a dot of few means little." + conditions
    )
    rows = [
        [
            f"{decimal(each.low, places=2)} to {decimal(each.high, places=2)}",
            whole(each.count),
            decimal(each.score),
            decimal(each.precision),
        ]
        for each in bins
    ]
    text = f"{right.capitalize()} by score in {len(bins)} bins; the error is {decimal(calibration.get('error'))}."
    return figure(
        reliability_chart(
            Caption("reliability", "Reliability diagram", text),
            bins,
            x=Axis("score (from 0 to 1)"),
            y=Axis(f"{right} (fraction that is right)"),
        ),
        title="Reliability diagram",
        reading=reading,
        counts=f"n = {counts}",
        legend=legend([("s0", right), ("diagonal", "calibrated")]),
        numbers=table("Calibration by bin", ["score", "count", "mean score", right], rows),
    )
