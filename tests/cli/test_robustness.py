"""`yolo-lite eval --corrupt`: a table, a section of metrics.json, and what it cannot be combined with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from yolo_lite.cli import main
from yolo_lite.data.pipeline.corrupt import Change
from yolo_lite.evaluation import robustness


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let results land in the test's own folder."""
    monkeypatch.chdir(tmp_path)


def test_corrupt_prints_a_table_and_extends_the_metrics(
    finished_run: tuple[Path, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = (*(Change("darkness", strength) for strength in (1, 2, 3)), Change("posterised"))
    monkeypatch.setattr(robustness, "CHANGES", changes)
    weights, data = str(finished_run[0] / "best.pt"), str(finished_run[1])
    assert main(["eval", "--weights", weights, "--data", data, "--corrupt", "--out", "e"]) == 0
    lines = capsys.readouterr().out.splitlines()
    metrics = json.loads(Path("e/metrics.json").read_text())
    section = metrics["robustness"]
    assert section["clean"] == {name: metrics["metrics"][name] for name in ("AP", "AP50")}
    start = lines.index(f"AP relative to that of the images as they are ({section['clean']['AP']:.3f})")
    assert lines[start + 1].split() == ["strength", "1", "2", "3"]
    assert lines[start + 2].split() == ["darkness", *(f"{row['relative']:.2f}" for row in section["corruptions"])]
    assert lines[start + 3].split() == ["posterised", f"{section['styles'][0]['relative']:.2f}"]
    assert len({len(line) for line in lines[start + 1 : start + 3]}) == 1  # columns end below each other


def test_metrics_are_stored_before_the_corruptions_begin(
    finished_run: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(robustness, "score_changes", stop)
    weights, data = str(finished_run[0] / "best.pt"), str(finished_run[1])
    assert main(["eval", "--weights", weights, "--data", data, "--corrupt", "--out", "e"]) == 130
    assert json.loads(Path("e/metrics.json").read_text())["metrics"]["AP"] > 0.5


def test_corrupt_needs_a_detector(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", "--detections", "rows.json", "--data", "set", "--corrupt"]) == 2
    line = capsys.readouterr().err.strip()
    assert line.endswith("--corrupt runs a detector on changed images; pass --weights instead of --detections")
    assert not Path("runs").exists()


def test_a_set_without_objects_is_evaluated_and_not_changed(
    finished_run: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = json.loads((finished_run[1] / "annotations" / "instances_val.json").read_text())
    for image in content["images"]:
        image["file_name"] = str(finished_run[1] / "images" / image["file_name"])
    Path("bare.json").write_text(json.dumps({**content, "annotations": []}))
    monkeypatch.setattr(robustness, "score_changes", None)
    weights = str(finished_run[0] / "best.pt")
    assert main(["eval", "--weights", weights, "--data", "bare.json", "--corrupt", "--out", "e"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "note: --corrupt is left out, because there is no AP above 0 that changes could lower" in lines
    metrics = json.loads(Path("e/metrics.json").read_text())
    assert metrics["metrics"]["AP"] is None
    assert "robustness" not in metrics
