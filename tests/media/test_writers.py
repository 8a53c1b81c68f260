"""Tables of answers; images, videos and result rows are tested where detections are written (tests/predict)."""

from __future__ import annotations

import csv
from pathlib import Path

from yolo_lite.media.writers import write_predictions
from yolo_lite.structures.results import Classification


def test_predictions_are_written_as_a_table(tmp_path: Path) -> None:
    rows = [
        ("one, two.png", Classification([0.25, 0.75], ("disc", "a, b"))),
        ('"x"\udcff.png', Classification([0.5, 0.5], ("disc", "a, b"))),
    ]
    write_predictions(tmp_path / "rows.csv", rows, class_names=("disc", "a, b"))
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        assert list(csv.reader(file)) == [
            ["file", "class", "score", "disc", "a, b"],
            ["one, two.png", "a, b", "0.7500", "0.2500", "0.7500"],
            ['"x"\udcff.png', "disc", "0.5000", "0.5000", "0.5000"],
        ]
