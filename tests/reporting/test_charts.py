"""Charts draw what they are given: places worked out by hand, and properties of axes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.reporting.html_tree import Node, parse
from yolo_lite.errors import shortened, text_width
from yolo_lite.reporting.charts import (
    Axis,
    Bin,
    Caption,
    Row,
    Series,
    bar_chart,
    fitted_axis,
    interval_chart,
    line_chart,
    reliability_chart,
)

NAMED = Caption("key", "A chart", "It shows something.")


def drawn(svg: str, tag: str, name: str) -> list[Node]:
    return [node for node in parse(svg).classed(name) if node.tag == tag]


def test_a_line_goes_through_the_corners_of_its_axes() -> None:
    """The drawing is 480 x 330 with margins of 64, 18, 12 and 58 units: corners at (64, 272) and (462, 12)."""
    svg = line_chart(NAMED, [Series("a", [0, 1], [0, 1])], x=Axis("x"), y=Axis("y"))
    assert drawn(svg, "polyline", "line")[0].attributes["points"] == "64,272 462,12"


def test_a_line_is_broken_where_nothing_was_measured() -> None:
    line = Series("a", [0, 0.5, 1, 1], [0, None, 1, 0.5])
    points = [
        node.attributes["points"]
        for node in drawn(line_chart(NAMED, [line], x=Axis("x"), y=Axis("y")), "polyline", "line")
    ]
    assert points == ["64,272", "462,12 462,142"]


def test_values_beyond_an_axis_stay_inside_the_drawing() -> None:
    svg = line_chart(NAMED, [Series("a", [-1, 2], [2, -1])], x=Axis("x"), y=Axis("y"))
    assert drawn(svg, "polyline", "line")[0].attributes["points"] == "64,12 462,272"


def test_bars_start_at_zero_also_when_negative() -> None:
    """The area reaches from 146 to 412, so that zero of -1 to 1 is at 279."""
    axis = Axis("difference", -1.0, 1.0, (-1.0, 0.0, 1.0))
    bars = drawn(bar_chart(NAMED, [Row("a", 0.5), Row("b", -0.5), Row("c", None)], axis=axis), "rect", "bar")
    assert [(bar.attributes["x"], bar.attributes["width"]) for bar in bars] == [("279", "66.5"), ("212.5", "66.5")]


def test_an_interval_lies_around_its_value() -> None:
    svg = interval_chart(NAMED, [Row("a", 0.5, 0.25, 0.75), Row("b", 0.5), Row("c", None)], axis=Axis("AP"))
    (whisker,), dots = drawn(svg, "line", "whisker"), drawn(svg, "circle", "dot")
    assert [dot.attributes["cx"] for dot in dots] == ["279", "279"]
    assert (whisker.attributes["x1"], whisker.attributes["x2"]) == ("212.5", "345.5")
    assert [node.text() for node in drawn(svg, "text", "note")] == ["0.500", "0.500", "–"]


def test_a_reliability_diagram_has_a_dot_for_each_bin_with_detections() -> None:
    bins = [Bin(0, 0.5, 10, 0.25, 0.5), Bin(0.5, 1, 0, None, None)]
    svg = reliability_chart(NAMED, bins, x=Axis("score"), y=Axis("precision"))
    (dot,) = drawn(svg, "circle", "dot")
    assert (dot.attributes["cx"], dot.attributes["cy"]) == ("163.5", "218")  # 64 + 398 / 4; halfway from 352 to 84
    assert len(drawn(svg, "rect", "count")) == 1


@pytest.mark.parametrize("seed", range(20))
def test_axes_hold_their_values_and_have_round_ticks(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = (rng.normal(0, 1, 5) * 10.0 ** rng.integers(-4, 6)).tolist()
    axis = fitted_axis("x", [*values, None])
    assert axis.low <= min([0, *values])
    assert axis.high >= max([0, *values])
    assert 3 <= len(axis.ticks) <= 8
    steps = np.diff(axis.ticks)
    np.testing.assert_allclose(steps, steps[0])
    assert round(float(f"{steps[0]:.3g}") / 10.0 ** np.floor(np.log10(steps[0]) + 1e-9), 6) in (1, 2, 5)
    assert len({f"{tick:.{axis.places}f}" for tick in axis.ticks}) == len(axis.ticks)  # no two read alike


def test_an_axis_of_nothing_has_ticks() -> None:
    assert fitted_axis("x", [None]).ticks[0] == 0
    assert fitted_axis("x", [0.0, 0.0]).high > 0


def test_names_are_cut_by_their_width() -> None:
    assert shortened("消防栓と自転車", width=14) == "消防栓と自転車"
    assert shortened("消防栓と自転車", width=8) == "消防栓…"
    assert shortened("e\N{COMBINING ACUTE ACCENT}" * 5, width=5) == "e\N{COMBINING ACUTE ACCENT}" * 5


@pytest.mark.parametrize("name", ["a class whose name is far too long", "\u732b" * 20])
def test_a_long_name_beside_a_row_is_cut_and_its_tooltip_is_whole(name: str) -> None:
    """146 units at the left hold 16 letters, or 8 of twice the width."""
    svg = interval_chart(NAMED, [Row(name, 0.5)], axis=Axis("AP"))
    (label,) = drawn(svg, "text", "name")
    assert label.text().endswith("\N{HORIZONTAL ELLIPSIS}")
    assert text_width(label.text()) <= 16
    assert f"<title>{name}: 0.500</title>" in svg
