"""The confusion matrix, of any number of classes: the largest ones, and the pairs that are confused most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from yolo_lite.reporting.markup import Content, Html, element, name_text
from yolo_lite.reporting.section import Section, finding, heading, pair, section
from yolo_lite.reporting.tables import Cell, Column, table
from yolo_lite.reporting.values import counted, decimal, number, percent, whole, word

_CLASSES = 20
_PAIRS = 20
_BACKGROUND = "(background)"


def confusion_section(report: Mapping[str, Any]) -> Section | None:
    """Return what was taken for what, with the background as a class if it is a detector's.

    Example:
        >>> confusion = {"names": ["cat", "dog"], "counts": [[5, 1], [0, 4]]}
        >>> confusion_section({"task": "classify", "confusion": confusion}).title
        'Confusion matrix'
    """
    confusion = report.get("confusion") or {}
    names = [word(name) for name in confusion.get("names") or []]
    counts = [[int(number(count) or 0) for count in row] for row in confusion.get("counts") or []]
    if not names or len(counts) != len(names) or any(len(row) != len(names) for row in counts):
        return None
    background = len(names) - 1 if names[-1] == _BACKGROUND else None
    shown = _largest(counts, background)
    return section(
        "confusion",
        "Confusion matrix",
        _conditions(confusion, counts, background),
        _matrix(names, counts, shown=shown, background=background),
        _reading(names, shown, background),
        _pairs(names, counts, background),
    )


def _largest(counts: Sequence[Sequence[int]], background: int | None) -> list[int]:
    """Return the classes to show: all that occur if they fit, else the largest first."""
    labels = [label for label in range(len(counts)) if label != background]
    sizes = {label: sum(counts[label]) + sum(row[label] for row in counts) for label in labels}
    used = [label for label in labels if sizes[label]]
    if len(used) <= _CLASSES:
        return used or labels[:_CLASSES]
    return sorted(used, key=lambda label: -sizes[label])[:_CLASSES]


def _conditions(confusion: Mapping[str, Any], counts: Sequence[Sequence[int]], background: int | None) -> Html:
    labels = [label for label in range(len(counts)) if label != background]
    total = sum(sum(counts[label]) for label in labels)
    right = sum(counts[label][label] for label in labels)
    noun = "image" if background is None else "object"
    text = f"{whole(right)} of {counted(total, noun)} ({percent(right / total if total else None)}) "
    if background is None:
        return finding(f"{text}are assigned to their class.")
    at, iou = decimal(confusion.get("score_threshold"), places=2), decimal(confusion.get("iou_threshold"), places=2)
    return finding(f"{text}are detected as their class, at a score threshold of {at} and an IoU of at least {iou}.")


def _matrix(
    names: Sequence[str], counts: Sequence[Sequence[int]], *, shown: Sequence[int], background: int | None
) -> Html:
    """Return the matrix; classes that are not shown are added up in a row and a column of their own."""
    labels = [label for label in range(len(names)) if label != background]
    groups = [(name_text(names[label]), [label]) for label in shown]
    others = [label for label in labels if label not in set(shown)]
    if others and any(counts[a][b] or counts[b][a] for a in others for b in range(len(names))):
        groups.append((element("em", counted(len(others), "other")), others))
    if background is not None:
        groups.append((element("em", "background"), [background]))
    rows = []
    for place, (name, row_labels) in enumerate(groups):
        total = sum(sum(counts[label]) for label in row_labels)
        cells: list[Content | Cell] = [name]
        for column, (_, column_labels) in enumerate(groups):
            count = sum(counts[a][b] for a in row_labels for b in column_labels)
            is_right = place == column and len(row_labels) == 1
            cells.append(_count_cell(count, total, is_right=is_right, is_mixed=place == column and not is_right))
        rows.append([*cells, whole(total)])
    heads = [Column(name, is_turned=True) for name, _ in groups]
    title = "Confusion matrix: rows are the truth, columns what was predicted"
    corner = Column("truth ↓ predicted →", is_text=True)
    return element("div", table(title, [corner, *heads, Column("sum")], rows=rows), class_="matrix")


def _count_cell(count: int, total: int, *, is_right: bool, is_mixed: bool) -> Cell:
    """Return a cell; a mixed one holds right and wrong detections of the classes that are not shown."""
    if not count:
        return Cell(element("span", "·", class_="zero", title="0"))
    fraction = count / total
    return Cell(
        whole(count),
        fraction,
        "right" if is_right else "heat" if is_mixed else "loss",
        f"{percent(fraction)} of the row",
    )


def _reading(names: Sequence[str], shown: Sequence[int], background: int | None) -> Html:
    total = len(names) - (background is not None)
    text = "A row is a true class, a column what was predicted; the stronger the colour, the larger the fraction of the row. "
    if background is not None:
        text += "Rows add up to the objects of a class. The column “background” has the missed objects, "
        text += "the row “background” the detections without an object. "
    if len(shown) < total:
        noun = "images nor predictions" if background is None else "objects nor detections"
        text += (
            f"Shown are the {len(shown)} largest of {total} classes; the others are added up or have neither {noun}."
        )
    return element("p", text.strip(), class_="reading")


def _pairs(names: Sequence[str], counts: Sequence[Sequence[int]], background: int | None) -> Html:
    """Return the confusions of classes, and beside them what is missed or invented, the most frequent first."""
    labels = [label for label in range(len(names)) if label != background]
    pairs = [(counts[a][b], a, b) for a in labels for b in labels if a != b and counts[a][b]]
    confused = element("div", heading("Classes confused"), _pair_table(names, counts, pairs))
    if background is None:
        return confused
    missed = {label: counts[label][background] for label in labels}
    invented = {label: counts[background][label] for label in labels}
    of_objects = {label: sum(counts[label]) for label in labels}
    of_detections = {label: sum(row[label] for row in counts) for label in labels}
    return pair(
        confused,
        element(
            "div",
            heading("Most missed"),
            _class_table(names, missed, of_objects, "of the objects"),
            heading("Most false alarms on the background"),
            _class_table(names, invented, of_detections, "of the detections"),
        ),
    )


def _pair_table(
    names: Sequence[str], counts: Sequence[Sequence[int]], pairs: Sequence[tuple[int, int, int]]
) -> list[Content]:
    if not pairs:
        return [element("p", "No class is taken for another.")]
    ranked = sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2]))
    rows = [
        [name_text(names[a]), name_text(names[b]), whole(count), percent(count / max(sum(counts[a]), 1))]
        for count, a, b in ranked[:_PAIRS]
    ]
    columns: list[Column | str] = [
        Column("truth", is_text=True),
        Column("predicted", is_text=True),
        "count",
        "of truth",
    ]
    left_out = len(ranked) - len(rows)
    note = (
        element("p", f"{counted(left_out, 'more pair')} {'is' if left_out == 1 else 'are'} left out.", class_="reading")
        if left_out
        else None
    )
    return [table("Most frequent confusions", columns, rows=rows), note]


def _class_table(names: Sequence[str], values: Mapping[int, int], totals: Mapping[int, int], title: str) -> Html:
    """Return the classes with the highest counts, and the fraction that these are of a total."""
    ranked = sorted((label for label in values if values[label]), key=lambda label: (-values[label], label))
    if not ranked:
        return element("p", "None.")
    rows = [
        [name_text(names[label]), whole(values[label]), percent(values[label] / max(totals[label], 1))]
        for label in ranked[: _PAIRS // 2]
    ]
    return table(title, [Column("class", is_text=True), "count", title], rows=rows)
