"""The section on classes: how good each is, how sure that is, and what a score threshold costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yolo_lite.reporting.charts import Axis, Caption, Row, bar_chart, figure, fitted_axis, interval_chart
from yolo_lite.reporting.markup import Content, Html, element, name_text
from yolo_lite.reporting.section import Section, finding, heading, pair, section
from yolo_lite.reporting.tables import Cell, Column, table
from yolo_lite.reporting.values import DASH, LEVEL, counted, decimal, interval, number, percent, whole, word

_SHOWN = 12  # classes at either end, where not all fit into a chart
_MANY = 30
_CLASS = Column("class", is_text=True)


def classes_section(report: Mapping[str, Any]) -> Section | None:
    """Return AP and the best threshold of each class, or a classifier's precision, recall and F1.

    Example:
        >>> classes_section({"per_class": []}) is None
        True
    """
    rows = report.get("per_class") or []
    threshold = report.get("threshold") or {}
    if report.get("task") == "classify":
        if not rows:
            return None
        return section("classes", "Classes", _extremes(rows, "f1", "F1"), _classify_charts(rows), _classify_table(rows))
    if not rows and not threshold:
        return None
    return section(
        "classes",
        "Classes",
        _extremes(rows, "AP", "AP"),
        _unmeasured(rows),
        _overall_threshold(threshold),
        _detect_charts(rows, report) if rows else None,
        _detect_table(rows, threshold) if rows else None,
    )


def _extremes(rows: Sequence[Mapping[str, Any]], key: str, metric: str) -> Html | None:
    known = [row for row in rows if number(row.get(key)) is not None]
    if len(known) < 2:
        return None
    best, worst = max(known, key=lambda row: row[key]), min(known, key=lambda row: row[key])
    return finding(
        f"{metric} is highest for ",
        name_text(best.get("name")),
        f" ({decimal(best[key])}) and lowest for ",
        name_text(worst.get("name")),
        f" ({decimal(worst[key])}).",
    )


def _unmeasured(rows: Sequence[Mapping[str, Any]]) -> Html | None:
    count = sum(row.get("objects") == 0 for row in rows)
    if not count:
        return None
    verb = "has" if count == 1 else "have"
    text = f"{counted(count, 'class', plural='classes')} {verb} no object in this data; AP cannot be measured there."
    return element("p", text, class_="reading")


def _overall_threshold(threshold: Mapping[str, Any]) -> Html | None:
    """Return the recommended threshold of all classes and what it costs."""
    value = number(threshold.get("score_threshold"))
    if value is None:
        return None
    stored: Content = None  # there is no checkpoint that could hold it
    if threshold.get("stored") is True:
        stored = element("p", "It is stored in the checkpoint.")
    elif threshold.get("stored") is False:
        command = element("code", "--store-threshold")
        stored = element("p", "It is not stored in the checkpoint: ", command, " stores it.")
    return element(
        "div",
        element("p", element("strong", f"Recommended score threshold: {decimal(value, places=2)}. "), _cost(threshold)),
        element("p", f"It gives the highest F1 of all classes together ({decimal(threshold.get('f1'))}). "),
        stored,
        class_="callout",
    )


def _cost(threshold: Mapping[str, Any]) -> str:
    words = _shares(threshold)
    return f"At this threshold {words}." if words else "What it costs was not measured."


def _chosen(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[list[Mapping[str, Any]], str]:
    """Return the classes that fit into a chart, and a sentence about those left out."""
    known = [row for row in rows if number(row.get(key)) is not None]
    if len(rows) <= _MANY or len(known) <= 2 * _SHOWN:
        return list(rows if len(rows) <= _MANY else known), ""
    ranked = sorted(known, key=lambda row: -row[key])
    text = f" The chart shows the {_SHOWN} highest and the {_SHOWN} lowest of {len(known)} measured classes."
    return ranked[:_SHOWN] + ranked[-_SHOWN:], text


def _detect_charts(rows: Sequence[Mapping[str, Any]], report: Mapping[str, Any]) -> Html:
    chosen, left_out = _chosen(rows, "AP")
    images = (report.get("data") or {}).get("images")
    total = sum(number(row.get("objects")) or 0 for row in rows)
    counts = f"n = {counted(total, 'object')}" + (f" in {counted(images, 'image')}" if images is not None else "")
    intervals = [
        Row(word(row.get("name")), number(row.get("AP")), number(row.get("AP_low")), number(row.get("AP_high")))
        for row in chosen
    ]
    text = (
        f"AP of {counted(len(chosen), 'class', plural='classes')} with {LEVEL} intervals. The table has every number."
    )
    drawing = interval_chart(Caption("class-ap", "AP by class", text), intervals, axis=Axis("AP (from 0 to 1)"))
    reading = "Higher is better. Where two intervals overlap widely, the order of the classes may be chance." + left_out
    return pair(
        figure(drawing, title="AP by class", reading=reading, counts=counts, numbers=_interval_table(chosen)),
        _count_figure(chosen, key="objects", counts=counts),
    )


def _interval_table(rows: Sequence[Mapping[str, Any]]) -> Html:
    cells = [
        [name_text(row.get("name")), decimal(row.get("AP")), interval(row.get("AP_low"), row.get("AP_high"))]
        for row in rows
    ]
    return table("AP by class", [_CLASS, "AP", f"{LEVEL} interval"], rows=cells)


def _count_figure(rows: Sequence[Mapping[str, Any]], *, key: str, counts: str) -> Html:
    """Return a chart of the objects or images of each class."""
    bars = [Row(word(row.get("name")), number(row.get(key)), note=whole(row.get(key))) for row in rows]
    axis = fitted_axis(f"{key} (count)", [bar.value for bar in bars])
    caption = Caption(
        "class-counts", f"{key.capitalize()} by class", f"Number of {key} of each class, as in the table."
    )
    cells = [[name_text(row.get("name")), whole(row.get(key))] for row in rows]
    reading = f"A class with few {key} is measured with little certainty: add {key} of it before you trust its value."
    return figure(
        bar_chart(caption, bars, axis=axis, style=2),
        title=f"{key.capitalize()} by class",
        reading=reading,
        counts=counts,
        numbers=table(f"{key} by class", [_CLASS, key], rows=cells),
    )


def _detect_table(rows: Sequence[Mapping[str, Any]], threshold: Mapping[str, Any]) -> list[Content]:
    at = decimal(threshold.get("score_threshold"), places=2)
    columns: list[Column | str] = [
        _CLASS,
        "objects",
        "detections" if at == DASH else f"detections (score\N{NO-BREAK SPACE}>\N{NO-BREAK SPACE}{at})",
        "AP",
        f"{LEVEL} interval",
        "AP50",
        Column("best threshold", hint="the score threshold with the highest F1 of the class"),
        "F1",
        "precision",
        "recall",
    ]
    text = "The best threshold of a class has its highest F1. A lower one misses fewer objects and raises more false alarms."
    reading = element("p", text, _example(rows), class_="reading")
    return [heading("All classes"), reading, table("Classes", columns, rows=[_detect_row(row) for row in rows])]


def _example(rows: Sequence[Mapping[str, Any]]) -> list[Content]:
    """Return what the best threshold of the first class costs: how the columns are to be read."""
    for row in rows:
        best = row.get("threshold") or {}
        at, words = decimal(best.get("score_threshold"), places=2), _shares(best)
        if at != DASH and words:
            return [" For ", name_text(row.get("name")), f", {at} costs this: {words}."]
    return []


def _shares(threshold: Mapping[str, Any]) -> str:
    """Return how many objects are missed and how many detections are wrong at a threshold; "" if unknown."""
    precision, recall = number(threshold.get("precision")), number(threshold.get("recall"))
    if precision is None or recall is None:
        return ""
    return f"{percent(1 - recall)} of the objects are missed, and {percent(1 - precision)} of the detections are false alarms"


def _detect_row(row: Mapping[str, Any]) -> list[Content | Cell]:
    best = row.get("threshold") or {}
    return [
        name_text(row.get("name")),
        whole(row.get("objects")),
        whole(row.get("detections")),
        decimal(row.get("AP")),
        interval(row.get("AP_low"), row.get("AP_high")),
        decimal(row.get("AP50")),
        Cell(decimal(best.get("score_threshold"), places=2), hint=_shares(best) or None),
        *(decimal(best.get(key)) for key in ("f1", "precision", "recall")),
    ]


def _classify_charts(rows: Sequence[Mapping[str, Any]]) -> Html:
    chosen, left_out = _chosen(rows, "f1")
    counts = f"n = {counted(sum(number(row.get('images')) or 0 for row in rows), 'image')}"
    bars = [Row(word(row.get("name")), number(row.get("f1"))) for row in chosen]
    text = f"F1 of {counted(len(chosen), 'class', plural='classes')}. The table has every number."
    return pair(
        figure(
            bar_chart(Caption("class-f1", "F1 by class", text), bars, axis=Axis("F1 (from 0 to 1)")),
            title="F1 by class",
            reading="Longer is better: F1 is high only if precision and recall both are." + left_out,
            counts=counts,
            numbers=table(
                "F1 by class",
                [_CLASS, "F1"],
                rows=[[name_text(row.get("name")), decimal(row.get("f1"))] for row in chosen],
            ),
        ),
        _count_figure(chosen, key="images", counts=counts),
    )


def _classify_table(rows: Sequence[Mapping[str, Any]]) -> list[Content]:
    cells = [
        [
            name_text(row.get("name")),
            whole(row.get("images")),
            *(decimal(row.get(key)) for key in ("precision", "recall", "f1")),
        ]
        for row in rows
    ]
    text = "Precision: how many of the images assigned to the class belong to it. Recall: how many of its images are assigned to it."
    columns: list[Column | str] = [_CLASS, "images", "precision", "recall", "F1"]
    return [heading("All classes"), element("p", text, class_="reading"), table("Classes", columns, rows=cells)]
