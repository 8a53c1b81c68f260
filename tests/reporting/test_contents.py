"""What report.json holds: its numbers agree with each other and with pycocotools, for every kind of set."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.metrics.random_sets import NAMES, perfect_rows, random_set, record, row, set_of
from yolo_lite.errors import InputError
from yolo_lite.evaluation.detector import Evaluation
from yolo_lite.metrics.coco import evaluate_coco
from yolo_lite.metrics.columns import to_columns
from yolo_lite.metrics.matching import match_set
from yolo_lite.reporting.contents import comparison_section, detector_report
from yolo_lite.reporting.page import render_page
from yolo_lite.reporting.worst import Failures, worst_images
from yolo_lite.structures.datasets import DetectionSet


def with_images(data: DetectionSet, folder: Path) -> DetectionSet:
    """Return a set whose images exist: 100 x 100 grey pixels each."""
    records = []
    for each in data.records:
        path = folder / each.path.name
        Image.new("RGB", (100, 100), "grey").save(path)
        records.append(dataclasses.replace(each, path=path))
    return dataclasses.replace(data, records=records)


def evaluation(data: DetectionSet, rows: list[dict[str, Any]], *, resamples: int = 0) -> Evaluation:
    settings: dict[str, Any] = {"data": "drawn", "split": "val", "detections": "some/rows.json"}
    metrics = evaluate_coco(data, rows, resamples=resamples)
    return Evaluation(
        metrics, rows, truth=data, settings={**settings, "resamples": resamples} if resamples else settings
    )


@pytest.mark.parametrize("seed", range(4))
def test_the_panels_agree_with_each_other(tmp_path: Path, seed: int) -> None:
    """The sets have crowds, images labelled for some classes only, equal scores, and a class without objects."""
    data, rows = random_set(seed)
    data = with_images(data, tmp_path)
    result = evaluation(data, rows, resamples=20)
    report = detector_report(result)
    report = json.loads(json.dumps(report, allow_nan=False))
    objects = report["data"]["objects"]
    assert objects == sum(each["objects"] for each in report["per_class"])
    assert report["data"]["crowds"] > 0
    counts = np.array(report["confusion"]["counts"])
    assert report["confusion"]["names"] == [*NAMES, "(background)"]
    assert counts[:-1].sum(1).tolist() == [each["objects"] for each in report["per_class"]]
    assert report["confusion"]["score_threshold"] == report["threshold"]["score_threshold"]
    best = result.metrics.best
    assert best is not None
    assert np.diag(counts)[:-1].sum() == round(best.recall * objects)
    sizes = report["sizes"]["classes"]
    assert sizes[0]["objects"] == np.sum([each["objects"] for each in sizes[1:]], axis=0).tolist()
    assert sum(sizes[0]["objects"]) == objects
    assert report["errors"]["AP50"] == pytest.approx(report["numbers"]["AP50"], abs=1e-9)
    mean = np.mean(report["curves"]["precision_recall"][0]["precision"])
    assert mean == pytest.approx(report["numbers"]["AP50"], abs=1e-9)
    assert report["per_class"][3] == {
        "name": "never there",
        "objects": 0,
        "AP": None,
        "AP_low": None,
        "AP_high": None,
        "AP50": None,
        "detections": report["per_class"][3]["detections"],
        "threshold": None,
    }
    assert report["headline"][0]["low"] <= report["headline"][0]["high"]
    assert "never there" in render_page(report)


def test_ground_truth_as_detections_has_nothing_to_explain(tmp_path: Path) -> None:
    data, _ = random_set(1)
    data = with_images(data, tmp_path)
    report = detector_report(evaluation(data, perfect_rows(data)))
    assert report["numbers"]["AP"] == pytest.approx(1)
    assert [(each["count"], each["lost"]) for each in report["errors"]["kinds"]] == [(0, 0)] * 6
    assert report["worst"]["missed"] == report["worst"]["false_alarms"] == []
    assert report["calibration"]["error"] == 0


def test_a_set_without_objects_has_a_report(tmp_path: Path) -> None:
    data = with_images(set_of(record(1, [], []), record(2, [[0, 0, 50, 50]], [0], crowd=[1])), tmp_path)
    report = detector_report(evaluation(data, [row([10, 10, 20, 20])], resamples=5))
    assert report["numbers"]["AP"] is None
    assert report["threshold"] is None
    page = render_page(json.loads(json.dumps(report, allow_nan=False)))
    assert "nan" not in re.sub('data:image[^"]+', "", page).lower()


def test_objects_at_the_limit_of_two_sizes_are_in_both_as_in_pycocotools(tmp_path: Path) -> None:
    box = [10, 10, 42, 42]
    data = with_images(set_of(record(1, [box], [0])), tmp_path)
    sizes = detector_report(evaluation(data, [row(box)]))["sizes"]["classes"][0]
    assert sizes["objects"] == [1, 1, 0]
    assert sizes["AP"] == [pytest.approx(1), pytest.approx(1), None]


def test_images_of_the_same_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    records = []
    for number, folder in enumerate(("left", "right"), 1):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "1.jpg"
        Image.new("RGB", (100, 100), "grey").save(path)
        records.append(dataclasses.replace(record(number, [[10, 10, 50, 50]], [0]), path=path))
    data = set_of(*records)
    assert [each["image"] for each in _worst(data, [], 0.3)["missed"]] == ["left/1.jpg", "right/1.jpg"]
    section = comparison_section(evaluation(data, []), evaluation(data, perfect_rows(data)), resamples=2)
    assert [each["image"] for each in section["better"]] == ["left/1.jpg", "right/1.jpg"]


def test_the_folder_we_stand_in_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cats").mkdir()
    monkeypatch.chdir(tmp_path / "cats")
    here = dataclasses.replace(evaluation(set_of(record(1, [], [])), []), settings={"data": ".", "split": "val"})
    assert detector_report(here)["title"] == "detections on cats, val"


# Worst images


def _worst(data: DetectionSet, rows: list[dict[str, Any]], threshold: float) -> dict[str, Any]:
    return worst_images(Failures(data, match_set(data, to_columns(data, rows)), score_threshold=threshold))


def test_worst_images_are_those_that_miss_most_and_alarm_most(tmp_path: Path) -> None:
    """Worked by hand: image 1 misses one of two, 2 misses both, 3 has nothing but a crowd and a false alarm."""
    left, right = [10, 10, 40, 40], [50, 50, 90, 90]
    data = with_images(
        set_of(
            record(1, [left, right], [0, 0]),
            record(2, [left, right], [0, 1]),
            record(3, [[0, 0, 100, 100]], [0], crowd=[1]),
        ),
        tmp_path,
    )
    rows = [
        row(left, 0.9),
        row(right, 0.3),  # not above the threshold
        row(left, 0.8, label=2, image_id=2),  # ant taken for a cat
        row([0, 0, 20, 20], 0.95, label=1, image_id=3),
        row([0, 0, 20, 20], 0.97, image_id=3),  # in a crowd of its class: ignored
    ]
    worst = _worst(data, rows, 0.3)
    assert [(each["image"], each["missed"], each["objects"]) for each in worst["missed"]] == [
        ("2.jpg", 2, 2),
        ("1.jpg", 1, 2),
    ]
    assert [(each["image"], each["score"]) for each in worst["false_alarms"]] == [
        ("3.jpg", 0.95),
        ("2.jpg", 0.8),
    ]
    assert worst["false_alarms"][1]["reasons"] == [
        "False alarm cat 0.80 of 30 x 30 pixels at 10,10: the object there is labelled ant (IoU 1.00)."
    ]
    assert worst["false_alarms"][0]["reasons"][0].endswith("no labelled object is there.")
    assert worst["missed"][0]["text"] == "2.jpg: 2 objects missed, 1 false alarm"
    assert worst["missed"][0]["truth"].startswith("data:image/jpeg;base64,")


def test_each_kind_of_false_alarm_has_its_reason(tmp_path: Path) -> None:
    box = [10, 10, 50, 50]
    data = with_images(set_of(record(1, [box], [0])), tmp_path)
    rows = [
        row(box, 0.9),
        row([10, 10, 50, 48], 0.8),  # 0.95 of the object
        row([30, 10, 70, 50], 0.7),  # a third of the union
        row([30, 10, 70, 50], 0.6, label=1),
        row([80, 80, 90, 90], 0.5),
    ]
    [image] = _worst(data, rows, 0.1)["false_alarms"]
    assert [reason.partition(": ")[2] for reason in image["reasons"]] == [
        "the object there has a detection already (IoU 0.95).",
        "its box fits the object badly (IoU 0.33).",
        "it is badly placed on an object of another class, ant (IoU 0.33).",
        "no labelled object is there.",
    ]


def test_objects_of_classes_that_an_image_is_not_labelled_for_are_not_missed(tmp_path: Path) -> None:
    data = with_images(set_of(record(1, [[0, 0, 9, 9], [20, 20, 40, 40]], [1, 0], unlabelled=(1,))), tmp_path)
    [image] = _worst(data, [row([60, 60, 80, 80], label=1)], 0.3)["missed"]
    assert (image["missed"], image["objects"], image["false_alarms"]) == (1, 1, 0)


def test_objects_of_unlabelled_classes_are_not_drawn(tmp_path: Path) -> None:
    here, there = [0, 0, 9, 9], [20, 20, 40, 40]
    partly = with_images(set_of(record(1, [here, there], [1, 0], unlabelled=(1,))), tmp_path)
    without = with_images(set_of(record(1, [there], [0], unlabelled=(1,))), tmp_path)
    [image], [expected] = (_worst(data, [], 0.3)["missed"] for data in (partly, without))
    assert image["truth"] == expected["truth"]


# Comparison


def test_fewer_false_alarms_make_an_image_better() -> None:
    box = [10, 10, 40, 40]
    data = set_of(record(1, [box], [0]))
    alarm = row([60, 60, 80, 80], 0.95)
    section = comparison_section(evaluation(data, [row(box), alarm]), evaluation(data, [row(box)]), resamples=2)
    [image] = section["better"]
    assert (image["a"], image["b"], image["false_a"], image["false_b"]) == (1, 1, 1, 0)
    assert section["worse"] == []


def test_a_detector_that_finds_more_is_better(tmp_path: Path) -> None:
    data, rows = random_set(2, images=30)
    good = evaluation(data, perfect_rows(data))
    section = comparison_section(evaluation(data, rows), good, resamples=200)
    ap = section["overall"][0]
    assert (ap["a"], ap["b"]) == (pytest.approx(evaluate_coco(data, rows).numbers["AP"]), pytest.approx(1))
    assert ap["low"] <= ap["difference"] + 0.1
    assert ap["p"] < 0.02
    assert not section["worse"]
    assert section["better"][0]["b"] == section["better"][0]["objects"]
    assert [each["name"] for each in section["classes"]] == list(NAMES)
    assert section["classes"][3]["p"] is None
    back = comparison_section(good, evaluation(data, rows), resamples=50)
    assert [each["image"] for each in back["worse"]] == [each["image"] for each in section["better"]]


def test_a_detector_does_not_differ_from_itself() -> None:
    data, rows = random_set(3)
    result = evaluation(data, rows)
    section = comparison_section(result, result, resamples=20)
    assert {each["p"] for each in section["overall"]} == {1.0}
    assert section["better"] == section["worse"] == []


def test_two_sets_cannot_be_compared() -> None:
    first, second = (evaluation(*random_set(seed)) for seed in (0, 1))
    with pytest.raises(InputError, match="different images or labels"):
        comparison_section(first, second, resamples=5)


def test_a_run_is_named_after_its_folder() -> None:
    data, rows = random_set(0)
    named = dataclasses.replace(
        evaluation(data, rows), settings={"data": "d", "split": "val", "weights": "runs/a/best.pt"}
    )
    assert comparison_section(named, named, resamples=2)["a"] == "a/best"
    exported = dataclasses.replace(named, settings={**named.settings, "weights": "runs/a/best.onnx"})
    section = comparison_section(named, exported, resamples=2)
    assert (section["a"], section["b"]) == ("runs/a/best.pt", "runs/a/best.onnx")
    assert not math.isnan(named.metrics.numbers["AP"])
