"""`bench detect`: every stage is measured, and what it runs is what `detect` runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from yolo_lite.cli import main
from yolo_lite.media.writers import VideoWriter, write_image


@pytest.mark.parametrize("source", ["images", "film.mp4"])
def test_every_stage_and_the_whole_run_are_measured(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    black = np.zeros((48, 64, 3), np.uint8)
    with VideoWriter(Path("film.mp4"), 10, hw=(48, 64)) as writer:
        for name in ("a.png", "b.jpg", "c.jpg"):
            write_image(Path("images") / name, black)
            writer.write(black)
    words = ["--source", source, "--weights", "yolo_lite-pico-voc5", "--batch-size", "2", "--threads", "1"]
    assert main(["bench", "detect", *words]) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.startswith("yolo_lite-pico-voc5; 3 images, batch 2; ")
    assert head.endswith(", 1 thread")
    rates = {row[:12].strip(): float(row[12:].split()[0]) for row in rows}
    assert list(rates) == ["read", "detect", "draw", "write", "in sequence", "overlapped"]
    alone = list(rates.values())[:4]
    assert rates["in sequence"] <= min(alone)
    assert rows[-1].endswith(f" of {list(rates)[alone.index(min(alone))]} alone")
    assert sorted(path.name for path in Path().iterdir()) == ["film.mp4", "images"]
