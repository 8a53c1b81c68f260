"""The section on errors: how much AP each kind of error costs, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from yolo_lite.reporting.charts import Caption, Row, bar_chart, figure, fitted_axis
from yolo_lite.reporting.markup import Html
from yolo_lite.reporting.section import Section, finding, section
from yolo_lite.reporting.tables import Column, table
from yolo_lite.reporting.values import counted, decimal, number, whole, word

# Kinds of errors as Bolya et al. 2020 (TIDE) define them: a word for each, what it is, and what helps.
_KINDS = {
    "classification": (
        "wrong classes",
        "The box is right and the class is wrong.",
        "Look at the confused pairs below: add examples of both classes, or merge classes that people confuse as well.",
    ),
    "localisation": (
        "loose boxes",
        "The class is right and the box overlaps its object too little.",
        "Check that boxes are drawn tightly and in the same way everywhere; try a larger input size.",
    ),
    "both": (
        "loose boxes of a wrong class",
        "The class is wrong and the box overlaps its object too little.",
        "Check the labels of these classes first, then add examples.",
    ),
    "duplicate": (
        "duplicates",
        "A second detection of an object that has a better one.",
        "Lower the IoU threshold of NMS.",
    ),
    "background": (
        "false alarms on the background",
        "A detection where no object is.",
        "Add images without objects, and check the data for objects that nobody labelled.",
    ),
    "missed": (
        "missed objects",
        "An object that no detection comes near.",
        "Add examples of the missed classes; if small objects are missed, use a larger input size or tiles.",
    ),
}


def errors_section(report: Mapping[str, Any]) -> Section | None:
    """Return how much AP is lost to each kind of error, and a sentence on what to do about each.

    Example:
        >>> errors = {"AP50": 0.5, "kinds": [{"kind": "missed", "count": 3, "lost": 0.1}]}
        >>> errors_section({"errors": errors}).title, errors_section({"errors": None})
        ('Errors', None)
    """
    errors = report.get("errors") or {}
    kinds = errors.get("kinds") or []
    if not kinds:
        return None
    return section("errors", "Errors", _largest(kinds, errors), _figure(kinds, errors), _advice(kinds))


def _metric(errors: Mapping[str, Any]) -> str:
    iou = number(errors.get("iou_threshold"))
    return "AP" if iou is None else f"AP{round(100 * iou)}"


def _largest(kinds: list[Mapping[str, Any]], errors: Mapping[str, Any]) -> Html:
    known = [each for each in kinds if number(each.get("lost")) is not None]
    if not known:
        return finding("What the errors cost was not measured.")
    worst = max(known, key=lambda each: each["lost"])
    if worst["lost"] <= 0:
        return finding("No AP is lost to any kind of error.")
    kind = word(worst.get("kind"))
    text = f"Most AP is lost to {_KINDS[kind][0] if kind in _KINDS else kind}: without them {_metric(errors)} would be "
    base = number(errors.get("AP50"))
    if base is None:
        return finding(f"{text}{decimal(worst['lost'])} higher.")
    return finding(f"{text}{decimal(base + worst['lost'])} instead of {decimal(base)}.")


def _figure(kinds: list[Mapping[str, Any]], errors: Mapping[str, Any]) -> Html:
    metric = _metric(errors)
    rows = [Row(word(each.get("kind")), number(each.get("lost"))) for each in kinds]
    iou, background = decimal(errors.get("iou_threshold"), places=2), decimal(errors.get("background_iou"), places=2)
    total = sum(number(each.get("count")) or 0 for each in kinds)
    drawing = bar_chart(
        Caption("errors-lost", f"{metric} lost to each kind of error", _spoken(rows, metric)),
        rows,
        axis=fitted_axis(f"{metric} lost (from 0 to 1)", [row.value for row in rows]),
        style=1,
    )
    reading = (
        f"A bar is what {metric} would gain if only this kind of error were repaired, so the bars do not add up. "
        f"A box is right from an IoU of {iou}; below {background} it lies on the background."
    )
    numbers = table(
        "Errors by kind",
        [Column("kind", is_text=True), "errors", f"{metric} lost"],
        rows=[[word(each.get("kind")), whole(each.get("count")), decimal(each.get("lost"))] for each in kinds],
    )
    title = f"{metric} lost to each kind of error"
    return figure(drawing, title=title, reading=reading, counts=f"n = {counted(total, 'error')}", numbers=numbers)


def _spoken(rows: list[Row], metric: str) -> str:
    return f"{metric} lost: " + ", ".join(f"{row.name} {decimal(row.value)}" for row in rows) + "."


def _advice(kinds: list[Mapping[str, Any]]) -> Html:
    """Return a table with what each kind is and what to do, the most expensive first."""
    ranked = sorted(kinds, key=lambda each: -(number(each.get("lost")) or 0.0))
    rows = []
    for each in ranked:
        _, meaning, action = _KINDS.get(word(each.get("kind")), ("", "", ""))
        rows.append([word(each.get("kind")), whole(each.get("count")), decimal(each.get("lost")), meaning, action])
    columns: list[Column | str] = [
        Column("kind", is_text=True),
        "errors",
        "lost",
        Column("what it is", is_prose=True),
        Column("what to do", is_prose=True),
    ]
    return table("What to do about each kind of error", columns, rows=rows)
