"""The confusion matrix of the page adds up, however many classes it leaves out."""

from __future__ import annotations

import numpy as np
import pytest

from tests.reporting.html_tree import Node, parse
from tests.reporting.sample_reports import classification_report, detection_report
from yolo_lite.reporting.panels.confusion import confusion_section


def tables(report: dict[str, object]) -> dict[str, list[list[str]]]:
    section = confusion_section(report)
    assert section is not None
    scrolls: list[Node] = parse(section.body).classed("scroll")
    return {node.attributes["aria-label"].split(":")[0]: node.rows() for node in scrolls}


def count(text: str) -> int:
    return 0 if text == "·" else int(text.replace(",", ""))


@pytest.mark.parametrize("classes", [3, 20, 80])
def test_rows_and_columns_add_up_to_those_of_all_classes(classes: int) -> None:
    report = detection_report(classes)
    counts = np.array(report["confusion"]["counts"])
    head, *rows = tables(report)["Confusion matrix"]
    cells = np.array([[count(cell) for cell in row[1:]] for row in rows])
    assert (cells[:, :-1].sum(1) == cells[:, -1]).all()
    assert cells[:, -1].sum() == counts.sum()
    assert head[1:-1] == [row[0] for row in rows]
    assert len(rows) <= 22  # 20 classes, the others, the background
    names = report["confusion"]["names"]
    for row, line in zip(rows, cells):
        if row[0] in names:
            assert line[-1] == counts[names.index(row[0])].sum()
    assert (cells[-1, -1], cells[-1, -2]) == (counts[-1].sum(), 0)  # background last, and never right


def test_classes_that_occur_nowhere_are_left_out_and_the_others_keep_their_order() -> None:
    confusion = {"names": ["cat", "dog", "owl"], "counts": [[1, 0, 0], [0, 5, 0], [0, 0, 0]]}
    section = confusion_section({"task": "classify", "confusion": confusion})
    assert section is not None
    assert [row[0] for row in tables({"task": "classify", "confusion": confusion})["Confusion matrix"][1:]] == [
        "cat",
        "dog",
    ]
    words = "Shown are the 2 largest of 3 classes; the others are added up or have neither images nor predictions."
    assert words in section.body


def test_of_many_classes_the_largest_are_shown_first() -> None:
    report = detection_report(80)
    counts = np.array(report["confusion"]["counts"])[:-1, :]
    sizes = counts.sum(1) + np.array(report["confusion"]["counts"])[:, :-1].sum(0)
    rows = tables(report)["Confusion matrix"][1:]
    names = report["confusion"]["names"]
    shown = [sizes[names.index(row[0])] for row in rows[:20]]
    assert shown == sorted(sizes, reverse=True)[:20]
    assert rows[20][0] == "60 others"


def test_the_most_frequent_confusions_are_listed_by_count() -> None:
    report = detection_report(80)
    counts, names = np.array(report["confusion"]["counts"]), report["confusion"]["names"]
    found = tables(report)
    pairs = [(counts[a, b], names[a], names[b]) for a in range(80) for b in range(80) if a != b and counts[a, b]]
    listed = [(count(row[2]), row[0], row[1]) for row in found["Most frequent confusions"][1:]]
    assert [pair[0] for pair in listed] == sorted((pair[0] for pair in pairs), reverse=True)[:20]
    assert set(listed) <= set(pairs)
    missed = [count(row[1]) for row in found["of the objects"][1:]]
    assert missed == sorted(counts[:-1, -1], reverse=True)[:10]


def test_a_classifier_has_no_background() -> None:
    report = classification_report(10)
    right = np.trace(np.array(report["confusion"]["counts"]))
    section = confusion_section(report)
    assert section is not None
    assert "ackground" not in section.body
    assert section.body.startswith(f'<p class="finding">{right} of {report["data"]["images"]} images')


@pytest.mark.parametrize("counts", [[[1, 2]], [[1], [2]], [], None])
def test_counts_that_do_not_fit_the_names_are_not_drawn(counts: object) -> None:
    assert confusion_section({"task": "classify", "confusion": {"names": ["a", "b"], "counts": counts}}) is None
