"""The grid of AP by class and size of the objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yolo_lite.reporting.markup import Content, Html, element, join, name_text
from yolo_lite.reporting.section import Section, finding, section
from yolo_lite.reporting.tables import Cell, Column, table
from yolo_lite.reporting.values import cell_text, counted, decimal, number, numbers, whole, word


def sizes_section(report: Mapping[str, Any]) -> Section | None:
    """Return AP of small, medium and large objects, of all classes and of each.

    Example:
        >>> row = {"name": "all classes", "AP": [0.1, 0.3, 0.5], "objects": [9, 8, 7]}
        >>> sizes = {"names": ["small", "medium", "large"], "limits": [32, 96], "classes": [row]}
        >>> sizes_section({"sizes": sizes}).title
        'Sizes'
    """
    sizes = report.get("sizes") or {}
    names = [word(name) for name in sizes.get("names") or []]
    rows = sizes.get("classes") or []
    if not names or not rows:
        return None
    limits = numbers(sizes.get("limits"))
    heads = [Column(join(name, " ", element("small", _limits(limits, place)))) for place, name in enumerate(names)]
    cells = [[name_text(row.get("name")), *_cells(row, len(names))] for row in rows]
    reading = (
        "AP, and the number of objects; the stronger the colour, the higher. A size is that of the object in the original "
        "image. A class that is good when large and bad when small gains from a larger input size or from tiles."
    )
    grid = table("AP by class and size", [Column("class", is_text=True), *heads], rows=cells)
    return section("sizes", "Sizes", _weakest(names, rows[0]), grid, element("p", reading, class_="reading"))


def _limits(limits: Sequence[float | None], place: int) -> str:
    """Return the area of a size in words: COCO's limits are sides of squares."""
    low = limits[place - 1] if 0 < place <= len(limits) else None
    high = limits[place] if place < len(limits) else None
    if low is None and high is None:
        return ""
    if low is None:
        return f"area < {high:g}² px"
    return f"area ≥ {low:g}² px" if high is None else f"{low:g}² to {high:g}² px"


def _cells(row: Mapping[str, Any], count: int) -> list[Content | Cell]:
    values, objects = numbers(row.get("AP")), numbers(row.get("objects"))
    cells: list[Content | Cell] = []
    for place in range(count):
        value = values[place] if place < len(values) else None
        n = objects[place] if place < len(objects) else None
        words = join(cell_text(decimal(value)), " ", element("small", f"n = {whole(n)}"))
        cells.append(Cell(words, value))
    return cells


def _weakest(names: Sequence[str], row: Mapping[str, Any]) -> Html | None:
    values, objects = numbers(row.get("AP")), numbers(row.get("objects"))
    known = [(value, place) for place, value in enumerate(values[: len(names)]) if number(value) is not None]
    if len(known) < 2:
        return None
    value, place = min(known, key=lambda each: each[0] or 0.0)
    n = objects[place] if place < len(objects) else None
    return finding(f"AP is lowest for {names[place]} objects: {decimal(value)} ({counted(n, 'object')}).")
