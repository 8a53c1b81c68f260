"""What the page says about scores, in words."""

from __future__ import annotations

import pytest

from yolo_lite.reporting.panels.calibration import calibration_section


@pytest.mark.parametrize(
    ("precisions", "words"),
    [
        ((0.1, 0.3, 0.5, 0.7), "On average scores are right."),
        ((0.0, 0.2, 0.4, 0.6), "On average scores are 0.10 too high."),
        ((0.2, 0.4, 0.6, 0.8), "On average scores are 0.10 too low."),
        ((0.0, 0.2, 0.6, 0.8), "Scores below 0.40 are too high, higher ones too low."),
        ((0.2, 0.4, 0.6, 0.6), "Scores below 0.60 are too low, higher ones too high."),
        ((0.0, 0.4, 0.4, 0.8), "On average scores are right."),
    ],
)
def test_the_verdict_says_where_scores_are_wrong(precisions: tuple[float, ...], words: str) -> None:
    bins = [
        {"low": place / 5, "high": (place + 1) / 5, "count": 100, "score": 0.1 + place / 5, "precision": precision}
        for place, precision in enumerate(precisions)
    ]
    bins.append({"low": 0.8, "high": 1.0, "count": 3, "score": 0.9, "precision": 0.9})
    section = calibration_section({"task": "detect", "calibration": {"error": 0.1, "count": 403, "bins": bins}})
    assert section is not None
    assert f"The detection calibration error (D-ECE) is 0.100. {words}</p>" in section.body
