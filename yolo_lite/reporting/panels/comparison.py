"""The section that compares two networks: the difference with its interval, by class and by image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yolo_lite.reporting.charts import Caption, Row, figure, fitted_axis, interval_chart
from yolo_lite.reporting.markup import Content, Html, element, name_text
from yolo_lite.reporting.section import Section, finding, heading, section
from yolo_lite.reporting.tables import Column, definitions, table
from yolo_lite.reporting.values import LEVEL, counted, decimal, interval, number, probability, whole, word
from yolo_lite.structures.verdicts import LEAST_RESAMPLES, SIGNIFICANT

_SHOWN = 24  # classes in the chart
_NAME = Column("name", is_text=True)
_VERDICT = Column("what it says", is_text=True)


def comparison_section(report: Mapping[str, Any]) -> Section | None:
    """Return the difference of two networks on the same images.

    Example:
        >>> row = {"name": "AP", "a": 0.3, "b": 0.35, "difference": 0.05, "low": 0.02, "high": 0.08, "p": 0.001}
        >>> section = comparison_section({"comparison": {"a": "old", "b": "new", "overall": [row]}})
        >>> "B is better" in section.body
        True
    """
    comparison = report.get("comparison") or {}
    overall, classes = comparison.get("overall") or [], comparison.get("classes") or []
    if not overall and not classes:
        return None
    sides: list[tuple[str, Content]] = [("A", word(comparison.get("a"))), ("B", word(comparison.get("b")))]
    counts = f"n = {counted(comparison.get('images'), 'image')}, {counted(comparison.get('resamples'), 'resample')}"
    is_classifier = report.get("task") == "classify"
    resamples = number(comparison.get("resamples"))
    is_rough = resamples is not None and resamples < LEAST_RESAMPLES
    overall, classes = ([{**each, "is_rough": is_rough} for each in rows] for rows in (overall, classes))
    return section(
        "comparison",
        "Comparison",
        [finding(_sentence(each)) for each in overall[:1]],
        definitions(sides),
        _overall(overall),
        _classes(classes, counts, "F1" if is_classifier else "AP"),
        _images(comparison.get("better") or [], "Images that got better", is_classifier),
        _images(comparison.get("worse") or [], "Images that got worse", is_classifier),
    )


def _sentence(each: Mapping[str, Any]) -> str:
    name = word(each.get("name"))
    words = f"{name[:1].upper()}{name[1:]} of B minus A is {decimal(each.get('difference'), signed=True)}"
    ends = interval(each.get("low"), each.get("high"), signed=True)
    return f"{words} ({LEVEL} interval {ends}, {probability(each.get('p'))}): {_verdict(each)}."


def _verdict(each: Mapping[str, Any]) -> str:
    difference, p = number(each.get("difference")), number(each.get("p"))
    if difference is None or p is None:
        return "not enough data"
    if each.get("is_rough"):
        return f"fewer than {LEAST_RESAMPLES} resamples are too few to say"
    if p > SIGNIFICANT:
        return "the difference may be chance"
    return "B is better" if difference > 0 else "A is better"


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> Html:
    cells = [
        [
            name_text(each.get("name")),
            decimal(each.get("a")),
            decimal(each.get("b")),
            decimal(each.get("difference"), signed=True),
            interval(each.get("low"), each.get("high"), signed=True),
            probability(each.get("p")).removeprefix("p = ").removeprefix("p ").replace("not measured", "–"),
            _verdict(each),
        ]
        for each in rows
    ]
    return table(title, [_NAME, "A", "B", "B − A", f"{LEVEL} interval", "p", _VERDICT], rows=cells)


def _overall(rows: Sequence[Mapping[str, Any]]) -> list[Content]:
    if not rows:
        return []
    text = (
        f"p says how often two equally good networks would differ as much on these images. Up to {SIGNIFICANT:g} it is "
        "usual to call the difference real. Of 20 classes, one falls below that by chance alone."
    )
    return [_table("Difference of B and A", rows), element("p", text, class_="reading")]


def _classes(rows: Sequence[Mapping[str, Any]], counts: str, metric: str) -> list[Content]:
    """Return a chart of the classes whose difference is largest, and the table of all."""
    if not rows:
        return []
    known = [each for each in rows if number(each.get("difference")) is not None]
    chosen = sorted(known, key=lambda each: -abs(each["difference"]))[:_SHOWN]
    chosen.sort(key=lambda each: -each["difference"])
    bars = [
        Row(
            word(each.get("name")),
            each["difference"],
            number(each.get("low")),
            number(each.get("high")),
            decimal(each["difference"], signed=True),
        )
        for each in chosen
    ]
    left_out = f" Shown are the {len(chosen)} largest of {len(known)}." if len(chosen) < len(known) else ""
    unknown = len(rows) - len(known)
    left_out += f" {counted(unknown, 'class', plural='classes')} could not be measured." if unknown else ""
    axis = fitted_axis(f"{metric} of B minus A", [end for bar in bars for end in (bar.value, bar.low, bar.high)])
    text = f"Difference of {counted(len(chosen), 'class', plural='classes')} with {LEVEL} intervals; the table has the numbers."
    chart = figure(
        interval_chart(Caption("differences", "Difference by class", text), bars, axis=axis, reference=0.0),
        title=f"Difference of {metric} by class",
        reading="Right of zero B is better. A line that crosses zero may be chance; with many classes some will look "
        "better or worse by chance alone." + left_out,
        counts=counts,
        numbers=_table("Difference by class", rows),
    )
    return [heading("Classes"), chart]


def _images(rows: Sequence[Mapping[str, Any]], title: str, is_classifier: bool) -> list[Content]:
    if not rows:
        return []
    image = Column("image", is_text=True)
    cells: list[list[Content]]
    if is_classifier:
        columns: list[Column | str] = [image, *(Column(name, is_text=True) for name in ("truth", "A", "B"))]
        cells = [
            [name_text(each.get("image")), *(name_text(each.get(key)) for key in ("truth", "a", "b"))] for each in rows
        ]
    else:
        columns = [image, "objects", "detected by A", "detected by B", "false alarms of A", "false alarms of B"]
        keys = ("objects", "a", "b", "false_a", "false_b")
        cells = [[name_text(each.get("image")), *(whole(each.get(key)) for key in keys)] for each in rows]
    return [heading(title), table(title, columns, rows=cells)]
