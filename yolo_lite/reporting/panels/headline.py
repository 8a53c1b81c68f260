"""The first section: the numbers that count, and what exactly was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yolo_lite.reporting.markup import Content, Html, element, fold
from yolo_lite.reporting.section import Section, finding, heading, section
from yolo_lite.reporting.tables import Column, definitions, table
from yolo_lite.reporting.values import DASH, LEVEL, cell_text, counted, decimal, interval, number, whole, word

_STEPS = {"all": "all together", "load": "reading images", "forward": "network", "postprocess": "boxes, NMS"}


def headline_section(report: Mapping[str, Any]) -> Section:
    """Return the big numbers with their intervals, then data, settings, all numbers, speed and the model card.

    Example:
        >>> headline_section({"headline": [{"name": "AP", "value": 0.344}]}).title
        'Result'
    """
    tiles = [_tile(each) for each in report.get("headline") or []]
    return section(
        "result",
        "Result",
        element("div", tiles, class_="tiles") if tiles else finding("No number was measured."),
        _intervals(report),
        _measured(report),
        _settings(report.get("settings")),
        _speed(report.get("speed")),
        _numbers(report.get("numbers")),
        _card(report.get("card")),
    )


def _tile(each: Mapping[str, Any]) -> Html:
    """Return a big number, its interval in words, and both on a scale from 0 to 1."""
    value, low, high = (number(each.get(key)) for key in ("value", "low", "high"))
    scale: Content = None
    if value is not None:
        ends = (value, value) if low is None or high is None else (low, high)
        style = f"--low:{_place(ends[0])};--width:{_place(ends[1] - ends[0])};--at:{_place(value)}"
        scale = element("div", element("i"), element("b"), class_="scale", style=style, aria_hidden="true")
    words = interval(low, high)
    return element(
        "div",
        element("div", word(each.get("name")), class_="tile-name"),
        element("div", cell_text(decimal(value)), class_="tile-value"),
        scale,
        element("div", "no interval" if words == DASH else f"{LEVEL} interval {words}", class_="tile-note"),
        class_="tile",
    )


def _place(value: float) -> str:
    return f"{100 * min(max(value, 0.0), 1.0):.1f}%"


def _intervals(report: Mapping[str, Any]) -> Html | None:
    resamples = number(report.get("resamples"))
    if not resamples:
        return None
    if all(number(each.get("low")) is None for each in report.get("headline") or []):
        return element("p", "Intervals need at least two images with objects.", class_="reading")
    if report.get("task") == "classify":
        text = f"The intervals come from {whole(resamples)} sets drawn from these images with replacement. "
    else:
        text = f"The intervals come from {whole(resamples)} random halves of these images. Small sets make AP look too "
        text += "high, above all with many rare classes; the interval corrects this and may therefore lie lower. "
        text += "For a class with fewer than ten objects it is too narrow. "
    text += "With other images like these, such an interval holds the true value in about 95 of 100 cases."
    return element("p", text, class_="reading")


def _measured(report: Mapping[str, Any]) -> list[Content]:
    """Return what the data is, and how it was evaluated."""
    data = report.get("data") or {}
    fingerprint = data.get("fingerprint")
    counts = [
        counted(data[key], noun, plural=plural)
        for key, noun, plural in (
            ("images", "image", ""),
            ("objects", "object", ""),
            ("crowds", f"{data.get('ignored', 'crowd')} box", f"{data.get('ignored', 'crowd')} boxes"),
            ("classes", "class", "classes"),
        )
        if data.get(key) is not None
    ]
    pairs: list[tuple[str, Content]] = [
        ("Data", data.get("source")),
        ("Size", ", ".join(counts)),
        ("In short", data.get("summary")),
        ("Fingerprint", element("code", str(fingerprint)) if fingerprint else None),
        ("Evaluator", report.get("evaluator")),
    ]
    if not any(value for _, value in pairs):
        return []
    return [heading("What was measured"), definitions(pairs)]


def _settings(settings: Mapping[str, Any] | None) -> list[Content]:
    if not settings:
        return []
    rows: list[tuple[str, Content]] = [(_label(str(name)), _setting(value)) for name, value in settings.items()]
    return [heading("Settings"), element("div", definitions(rows), class_="compact")]


def _label(name: str) -> str:
    words = ["IoU" if word == "iou" else word for word in name.split("_")]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])


def _setting(value: object) -> Content:
    if value is None:
        return None
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {part}" for key, part in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str):
        sign = " × " if all(number(part) is not None for part in value) else ", "
        return sign.join(map(word, value))
    return str(value)


def _speed(speed: Mapping[str, Any] | None) -> list[Content]:
    if not speed:
        return []
    rows = [[_STEPS.get(step, str(step)), decimal(speed[step], places=1)] for step in speed]
    total = number(speed.get("all"))
    line = None if total is None else finding(f"The evaluation ran at {total:,.1f} images per second.")
    columns: list[Column | str] = [Column("step", is_text=True), "images per second"]
    return [heading("Speed"), line, table("Images per second by step", columns, rows=rows)]


def _numbers(numbers: Mapping[str, Any] | None) -> Html | None:
    if not numbers:
        return None
    rows = [[str(name), decimal(value)] for name, value in numbers.items()]
    return fold(
        "All numbers of the evaluator", table("All numbers", [Column("name", is_text=True), "value"], rows=rows)
    )


def _card(card: object) -> Html | None:
    return fold("Model card of the weights", element("pre", str(card))) if card else None
