"""The section on curves: precision against recall, and F1, precision and recall against the score threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yolo_lite.reporting.charts import HALVES, SMALL, Axis, Caption, Series, figure, legend, line_chart
from yolo_lite.reporting.markup import Html, element, fold, name_text
from yolo_lite.reporting.section import Section, finding, pair, section
from yolo_lite.reporting.tables import Column, table
from yolo_lite.reporting.values import decimal, measured, number, numbers, word

_ENDS = 5  # classes drawn in charts of their own, at either end
_FAINT = 100  # lines behind the curve of all classes


def curves_section(report: Mapping[str, Any]) -> Section | None:
    """Return the precision-recall curves, and F1, precision and recall by score threshold.

    Example:
        >>> curve = {"name": "all classes", "recall": [0, 1], "precision": [1, 0.5]}
        >>> curves_section({"curves": {"precision_recall": [curve]}}).title
        'Curves'
    """
    curves = report.get("curves") or {}
    lines = [curve for curve in curves.get("precision_recall") or [] if measured(numbers(curve.get("precision")))]
    scores = curves.get("scores") or {}
    has_scores = bool(numbers(scores.get("score_threshold")))
    if not lines and not has_scores:
        return None
    return section(
        "curves",
        "Curves",
        _best(report.get("threshold") or {}),
        pair(
            _precision_recall(lines, curves, report) if lines else None,
            _scores(scores, report) if has_scores else None,
        ),
        _classes(lines[1:]),
    )


def _best(threshold: Mapping[str, Any]) -> Html | None:
    at = number(threshold.get("score_threshold"))
    if at is None:
        return None
    return finding(f"F1 of all classes together is highest at a score threshold of {decimal(at, places=2)}.")


def _objects(report: Mapping[str, Any]) -> str:
    return f"n = {decimal((report.get('data') or {}).get('objects'), places=0)} objects"


def _precision_recall(lines: Sequence[Mapping[str, Any]], curves: Mapping[str, Any], report: Mapping[str, Any]) -> Html:
    whole_curve, classes = lines[0], lines[1:]
    iou = decimal(curves.get("iou_threshold"), places=2)
    area = _mean(whole_curve)
    faint = [_series(curve, is_faint=True) for curve in classes[:_FAINT]]
    left_out = "" if len(classes) <= _FAINT else f" Of {len(classes)}, the first {_FAINT} are drawn."
    reading = (
        f"Each point is a score threshold; the area under the line is AP at an IoU of {iou}. "
        "A line that falls early means false alarms with high scores; one that ends early means missed objects."
    )
    names = [("s0", word(whole_curve.get("name")))]
    if classes:
        names.append(("faint", "each class"))
    text = f"Precision of {word(whole_curve.get('name'))} by recall; the area under the line is {decimal(area)}."
    return figure(
        line_chart(
            Caption("precision-recall", "Precision and recall", text),
            [*faint, _series(whole_curve)],
            x=Axis("recall (fraction of the objects)"),
            y=Axis("precision (fraction of the detections)"),
        ),
        title="Precision and recall",
        reading=reading + left_out,
        counts=_objects(report),
        legend=legend(names),
        numbers=_recall_table([whole_curve]),
    )


def _series(curve: Mapping[str, Any], *, is_faint: bool = False) -> Series:
    ys = numbers(curve.get("precision"))
    xs = numbers(curve.get("recall")) or [place / max(len(ys) - 1, 1) for place in range(len(ys))]
    return Series(word(curve.get("name")), xs, ys, is_faint=is_faint)


def _mean(curve: Mapping[str, Any]) -> float | None:
    """Return the area under a curve, as COCO takes it: the mean of its 101 precisions."""
    known = measured(numbers(curve.get("precision")))
    return sum(known) / len(known) if known else None


def _recall_table(lines: Sequence[Mapping[str, Any]]) -> Html:
    """Return the precision at every tenth of recall."""
    rows = []
    for curve in lines:
        series = _series(curve)
        known = {round(x, 2): y for x, y in zip(series.xs, series.ys) if x is not None}
        cells = [decimal(known.get(place / 10)) for place in range(11)]
        rows.append([name_text(series.name), decimal(_mean(curve)), *cells])
    heads = [f"recall {place / 10:.1f}" for place in range(11)]
    return table("Precision by recall", [Column("class", is_text=True), "area", *heads], rows=rows)


def _scores(scores: Mapping[str, Any], report: Mapping[str, Any]) -> Html:
    xs = numbers(scores.get("score_threshold"))
    shown = [(name, numbers(scores.get(key))) for name, key in (("precision", "precision"), ("recall", "recall"))]
    shown.append(("F1", numbers(scores.get("f1"))))
    styles = {"F1": 0, "precision": 1, "recall": 2}
    best = number((report.get("threshold") or {}).get("score_threshold"))
    names = [(f"s{style}", name) for name, style in styles.items()]
    marked = "" if best is None else f" The vertical line is the recommended threshold, {decimal(best, places=2)}."
    rows = [
        [decimal(x, places=2), *(decimal(ys[place] if place < len(ys) else None) for _, ys in reversed(shown))]
        for place, x in enumerate(xs)
        if place % 5 == 4 or len(xs) < 25
    ]
    return figure(
        line_chart(
            Caption("scores", "F1, precision and recall by score threshold", "All three by score threshold." + marked),
            [Series(name, xs, ys, styles[name]) for name, ys in shown],
            x=Axis("score threshold (from 0 to 1)"),
            y=Axis("F1, precision, recall (0 to 1)"),
            mark=best,
        ),
        title="F1, precision and recall by score threshold",
        reading="Move right for fewer false alarms, left for fewer missed objects." + marked,
        counts=_objects(report),
        legend=legend(names if best is None else [*names, ("mark", "recommended")]),
        numbers=table("By score threshold", ["score threshold", "F1", "recall", "precision"], rows=rows),
    )


def _classes(lines: Sequence[Mapping[str, Any]]) -> Html | None:
    """Return small charts of the best and the worst classes, and the numbers of all of them."""
    if not lines:
        return None
    ranked = sorted(lines, key=lambda curve: -(_mean(curve) or 0.0))
    few = len(ranked) <= 2 * _ENDS
    chosen = ranked if few else ranked[:_ENDS] + ranked[-_ENDS:]
    charts = [_small(curve, place) for place, curve in enumerate(chosen)]
    summary = "Curves of the classes" if few else f"Curves of the {_ENDS} best and the {_ENDS} worst classes"
    grid = element("div", charts, class_="multiples")
    return fold(summary, grid, fold("Numbers of all classes", _recall_table(lines)))


def _small(curve: Mapping[str, Any], place: int) -> Html:
    area = decimal(_mean(curve))
    text = f"Precision of {word(curve.get('name'))} by recall; the area under the line is {area}."
    svg = line_chart(
        Caption(f"curve-{place}", f"Precision and recall of {word(curve.get('name'))}", text),
        [_series(curve)],
        x=Axis("recall", ticks=HALVES),
        y=Axis("precision", ticks=HALVES),
        size=SMALL,
    )
    head = element("figcaption", element("strong", name_text(curve.get("name"))), element("span", f"area {area}"))
    return element("figure", head, svg)
