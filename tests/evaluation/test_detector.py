"""Evaluation: the numbers of training again, classes matched by name, result files of others."""

from __future__ import annotations

import dataclasses
import json
import math
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from yolo_lite.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from yolo_lite.config.resolve import override_config
from yolo_lite.data.splits import read_split
from yolo_lite.errors import InputError
from yolo_lite.evaluation.detector import class_notes, evaluate, evaluate_detections
from yolo_lite.evaluation.images import EvaluationListener
from yolo_lite.predict.detector import Detector
from yolo_lite.structures.rows import to_rows
from yolo_lite.structures.tiles import Tiling

SETTINGS = {"train.workers": 0}


def rename(data: Path, target: Path, names: dict[str, tuple[str, int]]) -> Path:
    """Copy a set's annotations with other names and category ids; the images stay where they are."""
    content = json.loads((data / "annotations" / "instances_val.json").read_text())
    ids = {category["id"]: names[category["name"]][1] for category in content["categories"]}
    content["categories"] = [{"id": i, "name": name} for name, i in names.values()]
    for annotation in content["annotations"]:
        annotation["category_id"] = ids[annotation["category_id"]]
    (target / "annotations").mkdir(parents=True)
    (target / "annotations" / "instances_val.json").write_text(json.dumps(content))
    (target / "images").symlink_to(data / "images")
    return target


def test_evaluation_repeats_what_training_measured(finished_run: tuple[Path, Path]) -> None:
    result = evaluate(finished_run[0] / "best.pt", finished_run[1], device="cpu", settings=SETTINGS)
    measured = load_checkpoint(finished_run[0] / "best.pt").about["metrics"]
    assert result.metrics.numbers["AP50"] == pytest.approx(
        measured["AP50"], abs=0.02
    )  # float16 weights differ a little
    assert result.settings["image_size"] == [96, 128]
    assert result.timing is not None
    assert result.timing.images == 8


def test_rows_carry_the_data_sets_own_category_ids(finished_run: tuple[Path, Path], tmp_path: Path) -> None:
    data = rename(finished_run[1], tmp_path / "other", {"disc": ("disc", 50), "square": ("square", 1)})
    result = evaluate(finished_run[0] / "best.pt", data, device="cpu", settings=SETTINGS)
    assert {row["category_id"] for row in result.rows} == {50, 1}
    assert result.metrics.numbers["AP50"] >= 0.9


def test_classes_of_the_data_that_the_weights_lack_count_as_zero(
    finished_run: tuple[Path, Path], tmp_path: Path
) -> None:
    data = rename(finished_run[1], tmp_path / "other", {"disc": ("disc", 7), "square": ("star", 8)})
    result = evaluate(finished_run[0] / "best.pt", data, device="cpu", settings=SETTINGS)
    assert result.metrics.per_class["star"][0] == 0
    assert result.metrics.per_class["disc"][1] >= 0.9
    assert {row["category_id"] for row in result.rows} == {7}  # square is known to the weights alone: left out
    assert any("with AP 0: star" in note for note in result.notes)
    assert any("ignored: square" in note for note in result.notes)


@pytest.mark.slow
def test_classes_that_are_spelled_differently_are_scored_alike(finished_run: tuple[Path, Path], tmp_path: Path) -> None:
    names = {"disc": ("DISC", 50), "square": ("Square", 1)}
    data = rename(finished_run[1], tmp_path / "other", names)
    weights = finished_run[0] / "best.pt"
    same, result = (evaluate(weights, path, device="cpu", settings=SETTINGS) for path in (finished_run[1], data))
    assert dict(result.metrics.numbers) == pytest.approx(dict(same.metrics.numbers), nan_ok=True)
    assert result.metrics.per_class["Square"] == same.metrics.per_class["square"]
    assert result.notes == (
        "2 classes are spelled differently in data and weights: DISC (known as disc), Square (known as square)",
    )
    assert [row["bbox"] for row in result.rows] == [row["bbox"] for row in same.rows]


def test_a_class_that_could_be_two_of_the_weights_is_refused(finished_run: tuple[Path, Path], tmp_path: Path) -> None:
    stored = load_checkpoint(finished_run[0] / "best.pt")
    save_checkpoint(tmp_path / "twins.pt", dataclasses.replace(stored, class_names=("Disc", "DISC")))
    with pytest.raises(InputError, match="the class 'disc' of the data could be 'Disc' or 'DISC' of the weights"):
        evaluate(tmp_path / "twins.pt", finished_run[1], device="cpu", settings=SETTINGS)


def test_no_class_in_common_is_refused() -> None:
    with pytest.raises(InputError, match="have no class in common: the weights know cat; the data has dog"):
        class_notes(["cat"], ["dog"])


def test_all_that_matters_to_the_numbers_stands_beside_them(finished_run: tuple[Path, Path]) -> None:
    chosen = {"score_threshold": 0.4, "iou_threshold": 0.3, "max_detections": 1}
    settings = {**SETTINGS, "evaluate": {**chosen, "resamples": 2}, "input.image_size": [64, 96]}
    resampled: list[tuple[int, int]] = []
    listener = EvaluationListener(on_resample=lambda done, total: resampled.append((done, total)))
    result = evaluate(finished_run[0] / "best.pt", finished_run[1], device="cpu", settings=settings, listener=listener)
    assert {name: result.settings[name] for name in chosen} == chosen
    assert result.settings["image_size"] == [64, 96]
    assert all(row["score"] > 0.4 for row in result.rows)
    assert len({row["image_id"] for row in result.rows}) == len(result.rows) > 0  # one in an image, at most
    assert resampled[-1] == (2, 2)
    assert set(result.metrics.intervals) == {"AP", "AP50"}


def test_a_listener_hears_of_each_batch_and_its_rows(finished_run: tuple[Path, Path]) -> None:
    batches: list[tuple[int, int]] = []
    images: list[tuple[int, int]] = []
    rows: list[dict[str, Any]] = []

    def on_rows(some: list[dict[str, Any]], done: int, total: int) -> None:
        rows.extend(some)
        images.append((done, total))

    listener = EvaluationListener(lambda done, total: batches.append((done, total)), on_rows=on_rows)
    settings = {**SETTINGS, "train.batch_size": 3}
    result = evaluate(finished_run[0] / "best.pt", finished_run[1], device="cpu", settings=settings, listener=listener)
    assert batches == [(1, 3), (2, 3), (3, 3)]
    assert images == [(3, 8), (6, 8), (8, 8)]
    assert rows == result.rows


def test_data_and_batch_size_of_the_training_are_not_those_of_the_evaluation(
    finished_run: tuple[Path, Path], tmp_path: Path
) -> None:
    stored = load_checkpoint(finished_run[0] / "best.pt")
    trained = override_config(
        stored.config, {"train.batch_size": 3, "data.classes": ["disc"], "data.path": "elsewhere"}
    )
    save_checkpoint(tmp_path / "best.pt", dataclasses.replace(stored, config=trained))
    batches: list[tuple[int, int]] = []
    listener = EvaluationListener(lambda done, total: batches.append((done, total)))
    result = evaluate(tmp_path / "best.pt", finished_run[1], device="cpu", settings=SETTINGS, listener=listener)
    assert batches == [(1, 1)]  # of eight images, where batches of three would be three
    assert set(result.metrics.per_class) == {"disc", "square"}


def test_classes_restrict_the_score(finished_run: tuple[Path, Path]) -> None:
    result = evaluate(
        finished_run[0] / "best.pt", finished_run[1], device="cpu", settings={**SETTINGS, "data.classes": ["square"]}
    )
    assert list(result.metrics.per_class) == ["square"]


def test_saved_rows_score_as_the_model_did(finished_run: tuple[Path, Path], tmp_path: Path) -> None:
    result = evaluate(finished_run[0] / "best.pt", finished_run[1], device="cpu", settings=SETTINGS)
    (tmp_path / "rows.json").write_text(json.dumps(result.rows))
    again = evaluate_detections(tmp_path / "rows.json", finished_run[1])
    assert dict(again.metrics.numbers) == pytest.approx(dict(result.metrics.numbers), nan_ok=True)


def test_metrics_json_holds_no_nan(finished_run: tuple[Path, Path]) -> None:
    result = evaluate(finished_run[0] / "best.pt", finished_run[1], device="cpu", settings=SETTINGS)
    assert math.isnan(result.metrics.numbers["APlarge"])  # no drawn object reaches 96 x 96 pixels
    plain = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert plain["metrics"]["APlarge"] is None
    assert plain["settings"]["score_threshold"] == 0.001


@pytest.mark.slow
def test_metrics_json_holds_no_infinity(finished_run: tuple[Path, Path]) -> None:
    """In tiles and exported files, NMS is part of the forward pass: its own time is 0."""
    settings = {**SETTINGS, "evaluate.tiles": "2x2"}
    result = evaluate(finished_run[0] / "best.pt", finished_run[1], device="cpu", settings=settings)
    rates = json.loads(json.dumps(result.to_json(), allow_nan=False))["images_per_second"]
    assert rates["postprocess"] is None
    assert rates["all"] > 0


@pytest.mark.shared_data
def test_a_result_file_scores_as_pycocotools_recorded_it(shared_data: Path) -> None:
    folder = shared_data / "eval_sample"
    recorded = json.loads((folder / "pycocotools_reference.json").read_text())
    result = evaluate_detections(folder / "detections.json", folder / "ground_truth.json")
    for name, value in result.metrics.numbers.items():
        assert value == pytest.approx(recorded[name], abs=1e-9), name


@pytest.mark.parametrize(("resamples", "count"), [(0, 0), (99, 1), (100, 0)])
def test_few_resamples_are_noted(finished_run: tuple[Path, Path], tmp_path: Path, resamples: int, count: int) -> None:
    settings = {**SETTINGS, "evaluate.resamples": resamples}
    (tmp_path / "rows.json").write_text("[]")
    for result in (
        evaluate(finished_run[0] / "best.pt", finished_run[1], device="cpu", settings=settings),
        evaluate_detections(tmp_path / "rows.json", finished_run[1], settings={"evaluate.resamples": resamples}),
    ):
        assert result.notes.count("intervals from 99 resamples are rough; use at least 100") == count


def test_a_set_of_crowds_has_no_ap_and_a_note_says_why(finished_run: tuple[Path, Path], tmp_path: Path) -> None:
    content = json.loads((finished_run[1] / "annotations" / "instances_val.json").read_text())
    for annotation in content["annotations"]:
        annotation["iscrowd"] = 1
    for image in content["images"]:
        image["file_name"] = str(finished_run[1] / "images" / image["file_name"])
    (tmp_path / "crowds.json").write_text(json.dumps(content))
    result = evaluate(finished_run[0] / "best.pt", tmp_path / "crowds.json", device="cpu", settings=SETTINGS)
    assert math.isnan(result.metrics.numbers["AP"])
    assert sum("no objects to find" in note for note in result.notes) == 1


def test_no_loading_process_outlives_an_evaluation(
    finished_run: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kept alive by a reference to the loader, processes would outlive it if nothing ended them."""
    from yolo_lite.evaluation import detector as module

    loaders = []
    build = module.build_loader
    monkeypatch.setattr(
        module, "build_loader", lambda *args, **options: loaders.append(build(*args, **options)) or loaders[-1]
    )
    evaluate(finished_run[0] / "best.pt", finished_run[1], device="cpu", settings={"train.workers": 2})
    assert loaders[0].processes == 2
    assert not multiprocessing.active_children()


def test_tiles_of_a_single_tile_score_as_no_tiles(finished_run: tuple[Path, Path]) -> None:
    """The tiled evaluation reads images itself; without a second tile it must measure the same."""
    plain = evaluate(finished_run[0] / "best.pt", finished_run[1], device="cpu", settings=SETTINGS)
    settings = {**SETTINGS, "evaluate.tiles": "1x1"}
    tiled = evaluate(finished_run[0] / "best.pt", finished_run[1], device="cpu", settings=settings)
    assert tiled.metrics.numbers == pytest.approx(plain.metrics.numbers, abs=1e-6, nan_ok=True)
    assert tiled.settings["tiles"] == "1x1, overlap 0.2"
    assert tiled.timing is not None
    assert tiled.timing.images == 8


@pytest.mark.slow
def test_rows_of_a_tiled_evaluation_are_those_of_the_tiled_detector(finished_run: tuple[Path, Path]) -> None:
    settings = {**SETTINGS, "evaluate.tile": 64, "evaluate.overlap": 0.3, "train.batch_size": 3}
    rows = evaluate(finished_run[0] / "best.pt", finished_run[1], device="cpu", settings=settings).rows
    limits = {"score_threshold": 0.001, "iou_threshold": 0.7, "batch_size": 3}
    detector = Detector(finished_run[0] / "best.pt", "cpu", tiles=Tiling(64, overlap=0.3), **limits)
    expected = []
    for record in read_split(finished_run[1], "val").records:
        expected += to_rows(detector(record.path), record.image_id, category_ids=detector.category_ids)
    assert len(rows) == len(expected)
    assert [row["bbox"] for row in rows] == [pytest.approx(row["bbox"], abs=1e-2) for row in expected]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"evaluate.tiles": "2"}, "at least 32 pixels"),
        ({"evaluate.tile": 8}, "at least 32 pixels, got 8"),
        ({"evaluate.tiles": "2x2", "evaluate.tile": 64}, "exclude each other"),
        ({"evaluate.tiles": "2x2", "evaluate.overlap": 0.95}, "overlap"),
    ],
)
def test_tiles_without_sense_are_refused(finished_run: tuple[Path, Path], settings: Any, words: str) -> None:
    with pytest.raises(InputError, match=words):
        evaluate(finished_run[0] / "best.pt", finished_run[1], device="cpu", settings=settings)
