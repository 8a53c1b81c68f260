"""The page of a report: whole, readable without its charts, harmless, and true to its numbers."""

from __future__ import annotations

import copy
import functools
import operator
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.reporting.html_tree import Node, parse
from tests.reporting.sample_reports import (
    ODD_NAMES,
    classification_report,
    detection_report,
    emptied,
    unmeasured,
    without_numbers,
    without_values,
)
from yolo_lite.errors import InputError
from yolo_lite.reporting.page import LIMIT, render_page

REPORTS: dict[str, Callable[[], dict[str, Any]]] = {
    "3 classes": lambda: detection_report(3),
    "20 classes": lambda: detection_report(20),
    "80 classes": lambda: detection_report(80),
    "no numbers": lambda: without_numbers(detection_report(20)),
    "no values": lambda: without_values(detection_report(20)),
    "empty lists": lambda: emptied(detection_report(20)),
    "all null": lambda: unmeasured(detection_report(3)),
    "classifier of 3": lambda: classification_report(3),
    "classifier of 20": lambda: classification_report(20),
    "classifier of 80": lambda: classification_report(80),
    "classifier, no numbers": lambda: without_numbers(classification_report(20)),
    "classifier, no values": lambda: without_values(classification_report(20)),
    "classifier, empty lists": lambda: emptied(classification_report(20)),
    "classifier, all null": lambda: unmeasured(classification_report(3)),
}
DETECTION = ["result", "classes", "errors", "curves", "confusion", "sizes", "calibration", "worst", "robustness"]
DETECTION += ["comparison", "notes"]


@functools.cache
def page_of(name: str) -> str:
    return render_page(REPORTS[name]())


@functools.cache
def tree_of(name: str) -> Node:
    return parse(page_of(name))


@pytest.fixture(params=REPORTS)
def tree(request: pytest.FixtureRequest) -> Node:
    return tree_of(request.param)


def sections(root: Node) -> list[str]:
    return [node.attributes["id"] for node in root.all("section")]


def table_named(root: Node, title: str) -> Node:
    return next(node for node in root.classed("scroll") if node.attributes["aria-label"].startswith(title))


def test_a_file_name_that_is_no_text_does_not_break_the_page() -> None:
    report = detection_report(3)
    report["worst"]["missed"][0]["image"] = "caf\udce9.jpg"  # Latin-1 bytes, as Python reads them from a folder
    assert "caf?.jpg" in render_page(report)


def test_sections_come_in_order_and_the_contents_lead_to_them() -> None:
    root = tree_of("20 classes")
    assert sections(root) == DETECTION
    assert [link.attributes["href"] for link in root.all("nav")[0].all("a")] == [f"#{key}" for key in DETECTION]


def test_a_classifier_has_the_sections_that_apply() -> None:
    expected = ["result", "classes", "confusion", "calibration", "worst", "comparison"]
    assert sections(tree_of("classifier of 20")) == expected


def test_parts_that_are_null_are_left_out() -> None:
    assert sections(tree_of("all null")) == ["result"]
    for key in ("errors", "confusion", "sizes", "calibration", "worst", "robustness", "comparison", "notes"):
        assert key not in sections(parse(render_page({**detection_report(3), key: None})))


def test_ids_are_unique_and_references_lead_somewhere(tree: Node) -> None:
    ids = [node.attributes["id"] for node in tree.elements() if "id" in node.attributes]
    assert len(set(ids)) == len(ids)
    for node in tree.elements():
        assert set(node.attributes.get("aria-labelledby", "").split()) <= set(ids)
        if node.tag == "a":
            assert node.attributes["href"].removeprefix("#") in ids


def test_headings_descend_one_by_one(tree: Node) -> None:
    levels = [int(node.tag[1]) for node in tree.all("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:]))


def test_every_chart_says_in_words_what_it_shows(tree: Node) -> None:
    for svg in tree.all("svg"):
        assert svg.attributes["role"] == "img"
        title, text = (node for node in svg.children[:2] if isinstance(node, Node))
        assert (title.tag, text.tag) == ("title", "desc")
        assert title.text()
        assert text.text()
        assert svg.attributes["aria-labelledby"].split() == [title.attributes["id"], text.attributes["id"]]


def test_every_chart_has_titled_axes_counts_a_reading_and_its_numbers(tree: Node) -> None:
    for figure in tree.all("figure"):
        assert figure.all("figcaption")
        assert [node for node in figure.classed("title") if node.tag == "text" and node.text()]
        if "small" in figure.all("svg")[0].attributes["class"]:
            continue  # one of many, whose numbers are in the table below them
        assert figure.classed("counts")[0].text().startswith("n = ")
        assert figure.classed("reading")[0].text().endswith(".")
        assert figure.all("details")[0].all("table")


def test_every_image_is_in_the_page_and_has_a_text(tree: Node) -> None:
    for image in tree.all("img"):
        assert image.attributes["alt"]
        assert image.attributes["src"].startswith("data:image/jpeg;base64,")


def test_rows_of_a_table_are_as_long_as_its_head(tree: Node) -> None:
    for table in tree.all("table"):
        assert len({len(row) for row in table.rows()}) == 1


def test_the_page_asks_for_nothing_and_runs_nothing(tree: Node) -> None:
    policies = [node.attributes["content"] for node in tree.all("meta") if "http-equiv" in node.attributes]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert not tree.all("script", "link", "iframe", "object", "embed", "base", "form", "image", "use", "foreignobject")
    for node in tree.elements():
        assert not [name for name in node.attributes if name.startswith("on") or ("href" in name and node.tag != "a")]
        assert not re.search(r"https?:|javascript:|//|url\(", "".join(_without_image(node)))
    assert not re.search(r"@import|url\(|https?:", tree.all("style")[0].text())


def _without_image(node: Node) -> list[str]:
    return [value for name, value in node.attributes.items() if not (node.tag == "img" and name == "src")]


def test_names_and_notes_from_the_data_stay_text() -> None:
    root = tree_of("20 classes")
    names = {node.text() for node in root.all("bdi")}
    assert set(ODD_NAMES) <= names
    assert ODD_NAMES[3] in {node.text() for node in root.by_id("notes").all("li")}
    assert "<i>car</i> at" in root.by_id("worst").text()
    assert not root.all("i", "b")[2:][4:]  # the bars of the two big numbers, and nothing else
    assert "<b>drawn</b>" in root.all("pre")[0].text()


@pytest.mark.parametrize(
    "path",
    [
        ("title",),
        ("evaluator",),
        ("card",),
        ("data", "source"),
        ("settings", "weights"),
        ("worst", "missed", 0, "text"),
    ],
)
def test_text_of_any_kind_is_escaped(path: tuple[Any, ...]) -> None:
    attack = "</style></title><script>alert(1)</script><img src=x onerror='alert(1)'>\""
    report: Any = detection_report(3)
    entry: Any = functools.reduce(operator.getitem, path[:-1], report)
    entry[path[-1]] = attack
    root = parse(render_page(report))
    assert not root.all("script")
    assert attack in root.text() + "".join(node.attributes["alt"] for node in root.all("img"))
    assert all(node.attributes["src"].startswith("data:") for node in root.all("img"))


@pytest.mark.parametrize(
    "source",
    [
        "https://example.org/a.png",
        "data:image/svg+xml;base64,AAAA",
        'data:image/png;base64,A" onerror="x',
        "javascript:1",
        7,
    ],
)
def test_an_image_that_is_not_base64_is_left_out_in_words(source: object) -> None:
    report = detection_report(3)
    report["robustness"] = None
    report["worst"] = {"score_threshold": 0.3, "missed": [{"image": "a.jpg", "truth": source, "found": source}]}
    root = parse(render_page(report))
    assert not root.all("img")
    assert len(root.classed("no-image")) == 2


def test_unknown_numbers_read_as_not_measured() -> None:
    for name in ("no numbers", "no values", "classifier, no numbers", "classifier, no values"):
        root = tree_of(name)
        text = root.all("main")[0].text()
        assert not re.search(r"\b(None|nan|NaN|null|inf)\b", text)
        dashes = root.classed("none")
        assert len(dashes) > 60
        assert {node.attributes["title"] for node in dashes} == {"not measured"}


def test_infinity_and_nan_read_as_not_measured() -> None:
    headline = [{"name": "AP", "value": float("nan"), "low": float("-inf"), "high": 1.0}]
    root = parse(render_page({**unmeasured(detection_report(3)), "headline": headline}))
    assert root.classed("tile-value")[0].text() == "–"
    assert root.classed("tile-note")[0].text() == "no interval"


def test_big_numbers_have_three_decimals_and_intervals() -> None:
    root = tree_of("20 classes")
    assert [node.text() for node in root.classed("tile-value")] == ["0.344", "0.512"]
    assert root.classed("tile-note")[0].text() == "95\N{NO-BREAK SPACE}% interval 0.320 to 0.370"


def test_unknown_intervals_promise_nothing() -> None:
    report = detection_report(3)
    for each in report["headline"]:
        each["low"] = each["high"] = None
    page = render_page(report)
    assert "Intervals need at least two images with objects." in page
    assert "holds the true value" not in page


def test_the_table_of_classes_is_in_the_given_order_and_complete() -> None:
    report = detection_report(80)
    rows = table_named(tree_of("80 classes").by_id("classes"), "Classes").rows()[1:]
    assert [row[0] for row in rows] == [row["name"] for row in report["per_class"]]
    for row, given in zip(rows, report["per_class"]):
        assert row[1] == str(given["objects"])
        assert row[3] == ("–" if given["AP"] is None else f"{given['AP']:.3f}")


def test_errors_come_with_what_to_do_the_most_expensive_first() -> None:
    table = table_named(tree_of("20 classes").by_id("errors"), "What to do")
    rows = table.rows()[1:]
    assert [row[0] for row in rows] == ["missed", "background", "localisation", "classification", "both", "duplicate"]
    assert all(row[3].endswith(".") and row[4].endswith(".") for row in rows)
    assert "images without objects" in rows[1][4]


def test_the_comparison_says_which_differences_may_be_chance() -> None:
    rows = table_named(tree_of("20 classes").by_id("comparison"), "Difference of B and A").rows()[1:]
    assert [row[-1] for row in rows] == ["B is better", "the difference may be chance"]
    worse = {"name": "AP", "a": 0.4, "b": 0.3, "difference": -0.1, "low": -0.15, "high": -0.05, "p": 0.0001}
    report = {**unmeasured(detection_report(3)), "comparison": {"a": "x", "b": "y", "overall": [worse]}}
    rows = table_named(parse(render_page(report)), "Difference of B and A").rows()[1:]
    assert rows == [["AP", "0.400", "0.300", "−0.100", "−0.150 to −0.050", "< 0.001", "A is better"]]


def test_styles_are_called_a_proxy_and_the_test_has_its_notes() -> None:
    text = tree_of("20 classes").by_id("robustness").text()
    assert "Styles: a proxy for paintings" in text
    assert "357 of 5,000 images were drawn for this test." in text


def test_the_page_depends_on_its_report_alone_and_leaves_it_as_it_was() -> None:
    report = detection_report(20)
    before = copy.deepcopy(report)
    assert render_page(report) == page_of("20 classes")
    assert report == before


def test_unknown_entries_are_ignored() -> None:
    report = detection_report(3)
    assert render_page({**report, "later": {"a": [1]}, "errors": {**report["errors"], "later": 1}}) == page_of(
        "3 classes"
    )


def test_images_that_do_not_fit_are_left_out_and_counted() -> None:
    report = detection_report(3)
    filler = "data:image/jpeg;base64," + "A" * 600_000
    report["worst"]["missed"] = [{**report["worst"]["missed"][0], "truth": filler, "found": filler} for _ in range(6)]
    page = render_page(report)
    assert len(page.encode()) <= LIMIT
    root = parse(page)
    notes = root.by_id("notes").text()
    left_out = int(re.search(r"(\d+) images left out", notes)[1])  # type: ignore[index]
    assert len(root.by_id("worst").all("img")) == 2 * 4  # 5 MB hold eight images of 0.6 MB
    assert left_out == len(root.classed("no-image"))


@pytest.mark.slow
def test_a_thousand_classes_fit() -> None:
    assert len(render_page(detection_report(1200)).encode()) < LIMIT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "pytest"}, "format must be 'yolo_lite report', got 'pytest'"),
        ({"task": "segment"}, "must be detect or classify, got 'segment'"),
        ({"version": 2}, "version of the report must be 1, got 2"),
    ],
)
def test_another_file_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        render_page({**detection_report(3), **change})
