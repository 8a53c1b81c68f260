"""Tables that scroll inside their own box, with cells that may be shaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from yolo_lite.reporting.markup import Content, Html, element
from yolo_lite.reporting.values import cell_text, number

_TALL = 24  # rows; longer tables scroll
_FEW = 3  # columns; such tables are as wide as their words
_WIDE = 9  # columns; such tables are set more tightly


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: what its head says.
        is_text: whether it holds words, which are set to the left, and not numbers.
        is_prose: whether it holds sentences, which are broken into lines.
        hint: what the head says when it is pointed at.
        is_turned: whether the head is written upwards, for narrow columns.
    """

    title: Content
    is_text: bool = False
    is_prose: bool = False
    hint: str | None = None
    is_turned: bool = False


@dataclass(frozen=True)
class Cell:
    """A cell with a shade.

    Attributes:
        content: what it says.
        shade: depth of the colour, from 0 to 1; None leaves the cell plain.
        tone: heat (more is more), loss (more is worse) or right (the diagonal of a confusion matrix).
        hint: what it says when it is pointed at.
    """

    content: Content
    shade: float | None = None
    tone: str = "heat"
    hint: str | None = None


def table(title: str, columns: Sequence[Column | str], *, rows: Sequence[Sequence[Content | Cell]]) -> Html:
    """Return a table in a box of its own, in which it scrolls if it is too wide or too long.

    Args:
        title: what the table holds, for those who cannot see it.
        columns: its heads. Those given as a text hold numbers.
        rows: cells, as many as columns; the first of a row is its head.

    Example:
        >>> text = table("AP by class", [Column("class", is_text=True), "AP"], rows=[["person", "0.512"], ["car", "–"]])
        >>> text.count("<tr>"), 'title="not measured"' in text
        (3, True)
    """
    heads = [column if isinstance(column, Column) else Column(column) for column in columns]
    top = [
        element(
            "th",
            element("span", column.title) if column.is_turned else column.title,
            scope="col",
            class_=_classes(words=column.is_text, prose=column.is_prose, turned=column.is_turned),
            title=column.hint,
        )
        for column in heads
    ]
    body = [element("tr", [_cell(cell, heads, place) for place, cell in enumerate(row)]) for row in rows]
    inner = element("table", element("thead", element("tr", top)), element("tbody", body))
    classes = (
        f"scroll{' wide' * (len(columns) >= _WIDE)}{' tall' * (len(rows) > _TALL)}{' few' * (len(columns) <= _FEW)}"
    )
    return element("div", inner, class_=classes, role="region", aria_label=title, tabindex=0)


def definitions(pairs: Sequence[tuple[str, Content]]) -> Html:
    """Return names with their values beside them; pairs whose value is None are left out.

    Example:
        >>> definitions([("images", "357"), ("card", None)])
        '<dl><div><dt>images</dt><dd>357</dd></div></dl>'
    """
    rows = [
        element("div", element("dt", name), element("dd", value)) for name, value in pairs if value not in (None, "")
    ]
    return element("dl", rows)


def _cell(cell: Content | Cell, columns: Sequence[Column], place: int) -> Html:
    cell = cell if isinstance(cell, Cell) else Cell(cell)
    content = cell_text(cell.content) if isinstance(cell.content, str) else cell.content
    shade = number(cell.shade)
    column = columns[place]
    tone = {} if shade is None else {"shaded": True, cell.tone: True}
    classes = _classes(words=column.is_text, prose=column.is_prose, **tone)
    style = None if shade is None else f"--shade:{min(max(shade, 0.0), 1.0):.2f}"
    if place == 0:
        return element("th", content, scope="row", class_=classes, style=style, title=cell.hint)
    return element("td", content, class_=classes, style=style, title=cell.hint)


def _classes(**chosen: bool) -> str | None:
    return " ".join(name for name, is_chosen in chosen.items() if is_chosen) or None
