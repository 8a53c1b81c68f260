"""The section on robustness: AP on corrupted and stylised images, relative to clean ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yolo_lite.reporting.charts import Caption, Row, figure, fitted_axis, interval_chart
from yolo_lite.reporting.markup import Content, Html, element, image, join, name_text
from yolo_lite.reporting.section import Section, finding, heading, section
from yolo_lite.reporting.tables import Cell, Column, table
from yolo_lite.reporting.values import DASH, cell_text, counted, decimal, measured, number, percent, word

_KIND = Column("kind", is_text=True)


def robustness_section(report: Mapping[str, Any]) -> Section | None:
    """Return what is left of AP under each kind of corruption and style, and examples.

    Example:
        >>> fog = {"kind": "fog", "strength": 1, "AP": 0.3, "relative": 0.9}
        >>> robustness_section({"robustness": {"strengths": [1], "corruptions": [fog]}}).title
        'Robustness'
    """
    robustness = report.get("robustness") or {}
    corruptions, styles = robustness.get("corruptions") or [], robustness.get("styles") or []
    if not corruptions and not styles:
        return None
    clean = robustness.get("clean") or {}
    counts = f"n = {counted(robustness.get('images'), 'image')}; AP of clean images {decimal(clean.get('AP'))}"
    return section(
        "robustness",
        "Robustness",
        _weakest(corruptions),
        _chart(corruptions, counts) if corruptions else None,
        _corruptions(corruptions, robustness),
        _styles(styles, counts),
        _examples(robustness.get("examples") or []),
        [element("p", str(note), class_="reading") for note in robustness.get("notes") or [] if note],
    )


def _by_kind(corruptions: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for each in corruptions:
        kinds.setdefault(word(each.get("kind")), []).append(each)
    return kinds


def _weakest(corruptions: Sequence[Mapping[str, Any]]) -> Html | None:
    known = [each for each in corruptions if number(each.get("relative")) is not None]
    if not known:
        return None
    worst = min(known, key=lambda each: each["relative"])
    strength = worst.get("strength")
    at = "" if strength is None else f" at strength {decimal(strength, places=0)}"
    kind = word(worst.get("kind"))
    text = f"{kind[:1].upper()}{kind[1:]}{at} does most harm: {percent(worst['relative'])} of the clean AP is left."
    return finding(text)


def _chart(corruptions: Sequence[Mapping[str, Any]], counts: str) -> Html:
    """Return the mean fraction of AP that is left under each kind, with the range of its strengths."""
    rows = []
    for kind, each in _by_kind(corruptions).items():
        left = measured(number(entry.get("relative")) for entry in each)
        mean = sum(left) / len(left) if left else None
        rows.append(Row(kind, mean, min(left, default=None), max(left, default=None), percent(mean)))
    rows.sort(key=lambda row: 2.0 if row.value is None else row.value)
    spoken = ", ".join(f"{row.name} {row.note}" for row in rows)
    axis = fitted_axis("AP relative to clean images (fraction)", [row.high for row in rows], include=(0.0, 1.0))
    return figure(
        interval_chart(Caption("corruptions", "AP under corruption", f"What is left: {spoken}."), rows, axis=axis),
        title="AP that is left under corruption",
        reading="A dot is the mean of all strengths, its line reaches from the worst strength to the best. "
        "Add training images like those at the top, if such images occur where you use the network.",
        counts=counts,
        numbers=table(
            "AP by kind and strength", [_KIND, "strength", "AP", "AP50", "of clean"], rows=_rows(corruptions)
        ),
    )


def _rows(entries: Sequence[Mapping[str, Any]]) -> list[list[Content | Cell]]:
    return [
        [
            word(each.get("kind")),
            decimal(each.get("strength"), places=0),
            decimal(each.get("AP")),
            decimal(each.get("AP50")),
            percent(each.get("relative")),
        ]
        for each in entries
    ]


def _corruptions(corruptions: Sequence[Mapping[str, Any]], robustness: Mapping[str, Any]) -> list[Content]:
    """Return the grid of kinds and strengths."""
    strengths = list(robustness.get("strengths") or sorted({each.get("strength") or 0 for each in corruptions}))
    if not corruptions:
        return []
    rows = []
    for kind, entries in _by_kind(corruptions).items():
        by_strength = {each.get("strength"): each for each in entries}
        cells: list[Content | Cell] = [kind]
        cells += [_left(by_strength.get(strength) or {}) for strength in strengths]
        rows.append(cells)
    heads = [f"strength {word(strength)}" for strength in strengths]
    reading = "AP relative to clean images, and AP itself; the stronger the colour, the more is lost."
    return [
        heading("Kinds and strengths"),
        table("AP under corruption", [_KIND, *heads], rows=rows),
        element("p", reading, class_="reading"),
    ]


def _left(each: Mapping[str, Any]) -> Cell:
    relative = number(each.get("relative"))
    words = join(cell_text(percent(relative)), " ", element("small", f"AP {decimal(each.get('AP'))}"))
    return Cell(words, None if relative is None else 1 - relative, "loss")


def _styles(styles: Sequence[Mapping[str, Any]], counts: str) -> list[Content]:
    if not styles:
        return []
    rows: list[list[Content | Cell]] = [
        [
            word(each.get("kind")),
            decimal(each.get("AP")),
            decimal(each.get("AP50")),
            Cell(percent(each.get("relative")), _lost(each), "loss"),
        ]
        for each in styles
    ]
    reading = (
        "Photographs that were made to look painted: a proxy for paintings, which tells whether shapes alone are enough. "
        "Real paintings are a better test; evaluate on them if you have some."
    )
    return [
        heading("Styles: a proxy for paintings"),
        table("AP on stylised images", [_KIND, "AP", "AP50", "of clean"], rows=rows),
        element("p", f"{counts}. {reading}", class_="reading"),
    ]


def _lost(each: Mapping[str, Any]) -> float | None:
    relative = number(each.get("relative"))
    return None if relative is None else 1 - relative


def _examples(examples: Sequence[Mapping[str, Any]]) -> list[Content]:
    if not examples:
        return []
    return [heading("Images that changed most"), element("div", [_example(each) for each in examples], class_="cards")]


def _example(each: Mapping[str, Any]) -> Html:
    kind, name = word(each.get("kind")), str(each.get("image") or "image")
    strength = decimal(each.get("strength"), places=0)
    title = kind if strength == DASH else f"{kind}, strength {strength}"
    lost = number(each.get("lost"))
    text = str(each.get("text") or name)
    words = "" if lost is None else f": {counted(lost, 'fewer object')} detected"
    return element(
        "article",
        element("header", element("strong", title), element("span", name_text(name), words)),
        element(
            "div",
            _half(each.get("clean"), "clean", f"Clean: {text}"),
            _half(each.get("changed"), title, f"{title}: {text}"),
            class_="sides",
        ),
        class_="card",
    )


def _half(source: object, label: str, text: str) -> Html:
    return element("div", image(source, text=text), element("span", label, class_="side"), class_="half")
