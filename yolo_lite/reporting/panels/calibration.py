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
_ENOUGH = 20  # detections in a bin, before its precision is put into words


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
    """Return the calibration error, and where scores are too high or too low."""
    name = "calibration error" if is_classifier else "detection calibration error (D-ECE)"
    text = f"The {name} is {decimal(calibration.get('error'))}."
    gaps = [
        (each, each.score - each.precision) for each in bins if each.score is not None and each.precision is not None
    ]
    total = sum(each.count for each, _ in gaps)
    if not total:
        return text
    turn = _turn([(each.low, gap) for each, gap in gaps if each.count >= _ENOUGH and abs(gap) >= _CLOSE])
    if turn:
        return f"{text} {turn}"
    mean = sum(each.count * gap for each, gap in gaps) / total
    if abs(mean) < _CLOSE:
        return f"{text} On average scores are right."
    return f"{text} On average scores are {decimal(abs(mean), places=2)} too {'high' if mean > 0 else 'low'}."


def _turn(gaps: Sequence[tuple[float, float]]) -> str:
    """Return where scores change from too high to too low or back, if they do so once; else ""."""
    turns = [place for place in range(1, len(gaps)) if (gaps[place][1] > 0) != (gaps[place - 1][1] > 0)]
    if len(turns) != 1:
        return ""
    at, after = gaps[turns[0]]
    first, last = ("low", "high") if after > 0 else ("high", "low")
    return f"Scores below {decimal(at, places=2)} are too {first}, higher ones too {last}."


def _figure(bins: Sequence[Bin], calibration: Mapping[str, Any], is_classifier: bool) -> Html:
    noun, right = ("image", "accuracy") if is_classifier else ("detection", "precision")
    count = calibration.get("count")
    counts = counted(sum(each.count for each in bins) if count is None else count, noun)
    lowest, iou = number(calibration.get("lowest_score")), number(calibration.get("iou_threshold"))
    conditions = "" if iou is None else f" A detection is right from an IoU of {decimal(iou, places=2)}."
    if lowest:
        conditions += f" Scores below {decimal(lowest, places=2)} are left out."
    reading = (
        "Dots on the dashed diagonal are calibrated; below it, scores are too high. "
        f"The strip above counts the {noun}s in each bin: a dot from few {noun}s means little." + conditions
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
        numbers=table("Calibration by bin", ["score", "count", "mean score", right], rows=rows),
    )
