"""The panel that compares two networks: which words stand beside a difference."""

from __future__ import annotations

import pytest

from yolo_lite.reporting.panels.comparison import comparison_section


@pytest.mark.parametrize(
    ("resamples", "verdict"),
    [(99, "fewer than 100 resamples are too few to say"), (100, "B is better"), (None, "B is better")],
)
def test_few_resamples_give_no_verdict(resamples: int | None, verdict: str) -> None:
    row = {"name": "AP", "a": 0.3, "b": 0.35, "difference": 0.05, "low": 0.02, "high": 0.08, "p": 0.04}
    classes = [{**row, "name": "cat"}]
    section = comparison_section({"comparison": {"overall": [row], "classes": classes, "resamples": resamples}})
    assert section
    text = str(section.body).replace("Right of zero B is better", "")  # how to read the chart
    assert text.count(verdict) == 3  # the sentence and both tables
    assert text.count("is better") == (3 if verdict == "B is better" else 0)
