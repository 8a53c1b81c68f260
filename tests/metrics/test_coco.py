"""COCO scores, against pycocotools on files, its recorded numbers, and cases worked by hand."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from yolo_lite.data.formats.coco import read_coco
from yolo_lite.errors import InputError
from yolo_lite.metrics.coco import NAMES, check_rows, evaluate_coco
from yolo_lite.metrics.resampling import draw_halves
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.records import ImageRecord

# The order of pycocotools' `stats`, from the documentation of COCOeval.summarize
STATS = [
    "AP",
    "AP50",
    "AP75",
    "APsmall",
    "APmedium",
    "APlarge",
    "AR1",
    "AR10",
    "AR100",
    "ARsmall",
    "ARmedium",
    "ARlarge",
]


def _record(image_id: int, boxes: list[list[float]], labels: list[int], crowd: list[int] | None = None) -> ImageRecord:
    array = np.array(boxes, np.float64).reshape(-1, 4)
    marks = np.array(crowd or [0] * len(boxes), bool)
    areas = (array[:, 2] - array[:, 0]) * (array[:, 3] - array[:, 1])
    return ImageRecord(
        Path(f"{image_id}.jpg"),
        image_id,
        hw=(200, 200),
        boxes=array,
        labels=np.array(labels, np.int64),
        crowd=marks,
        areas=areas,
    )


def _set(*records: ImageRecord) -> DetectionSet:
    return DetectionSet(records, ("cat", "dog"), category_ids=(18, 3), source="truth.json")


def _row(box: list[float], score: float = 0.9, image_id: int = 1, category_id: int = 18) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    return {"image_id": image_id, "category_id": category_id, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}


def _by_pycocotools(truth: Path, rows: Path) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(truth))
        evaluation = COCOeval(coco, coco.loadRes(str(rows)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(STATS, evaluation.stats.tolist()))


def _random_files(folder: Path, seed: int) -> tuple[Path, Path, list[dict[str, Any]]]:
    """Write truth with crowds, areas unlike the boxes and gappy ids, and rows near it, elsewhere and in doubt."""
    generator = np.random.default_rng(seed)
    images = [
        {"id": int(i), "file_name": f"{i}.jpg", "height": 480, "width": 640} for i in generator.permutation(12) * 7 + 1
    ]
    categories = [{"id": i, "name": name} for i, name in ((44, "a"), (2, "b"), (90, "c"), (5, "never there"))]
    annotations, rows = [], []
    for image in images[:-1]:
        for _ in range(generator.integers(0, 8)):
            width, height = generator.uniform(5, 200, 2).round(2).tolist()
            x, y = (generator.uniform(0, 1, 2) * [640 - width, 480 - height]).round(2).tolist()
            category = int(generator.choice([44, 2, 90]))
            crowd = int(generator.random() < 0.15)
            row = {"id": len(annotations) + 1, "image_id": image["id"], "category_id": category, "iscrowd": crowd}
            annotations.append({**row, "bbox": [x, y, width, height], "area": round(width * height * 0.7, 2)})
            for _ in range(generator.integers(0, 3)):
                moved = (np.array([x, y, width, height]) * generator.normal(1, 0.06, 4)).round(3).tolist()
                found = category if generator.random() < 0.8 else 44
                score = round(float(generator.random()), 2)  # two digits, so that some are equal
                rows.append({"image_id": image["id"], "category_id": found, "bbox": moved, "score": score})
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(content))
    (folder / "rows.json").write_text(json.dumps(rows))
    assert any(row["iscrowd"] for row in annotations)
    assert len({row["score"] for row in rows}) < len(rows)
    return folder / "truth.json", folder / "rows.json", rows


# Oracles


def test_names_are_in_the_order_of_pycocotools() -> None:
    assert list(NAMES) == STATS


@pytest.mark.parametrize("seed", range(4))
def test_evaluate_coco_equals_pycocotools_on_files(tmp_path: Path, seed: int) -> None:
    truth, file, rows = _random_files(tmp_path, seed)
    expected = _by_pycocotools(truth, file)
    made = evaluate_coco(read_coco(truth, []), rows).numbers
    assert list(made) == STATS
    for name in STATS:
        assert made[name] == pytest.approx(expected[name], abs=1e-12) or (
            expected[name] == -1 and math.isnan(made[name])
        )
    assert 0.1 < made["AP"] < 0.9  # not a case in which every rule gives the same


def test_scores_by_class_equal_pycocotools_on_that_class_alone(tmp_path: Path) -> None:
    truth, _, rows = _random_files(tmp_path, 7)
    made = evaluate_coco(read_coco(truth, []), rows).per_class
    content = json.loads(truth.read_text())
    assert list(made) == ["a", "b", "c", "never there"]
    for category in content["categories"][:3]:
        mine = {**content, "categories": [category]}
        mine["annotations"] = [row for row in content["annotations"] if row["category_id"] == category["id"]]
        (tmp_path / "one.json").write_text(json.dumps(mine))
        found = [row for row in rows if row["category_id"] == category["id"]]
        (tmp_path / "found.json").write_text(json.dumps(found))
        expected = _by_pycocotools(tmp_path / "one.json", tmp_path / "found.json")
        count = sum(not row["iscrowd"] for row in mine["annotations"])
        assert made[category["name"]] == pytest.approx((expected["AP"], expected["AP50"], count), abs=1e-12)


@pytest.mark.shared_data
def test_recorded_numbers_of_pycocotools_are_reproduced(shared_data: Path) -> None:
    folder = shared_data / "eval_sample"
    data = read_coco(folder / "ground_truth.json", [])
    rows = check_rows(json.loads((folder / "detections.json").read_text()), data, source=folder / "detections.json")
    expected = json.loads((folder / "pycocotools_reference.json").read_text())
    made = evaluate_coco(data, rows).numbers
    assert len(rows) == 734  # as $YOLO_LITE_DATA/README.md counts them
    for name in STATS:
        assert abs(made[name] - expected[name]) <= 1e-9, name


# Worked by hand


BOX = [10.0, 20.0, 60.0, 90.0]  # 50 x 70 = 3500: between 32**2 = 1024 and 96**2 = 9216, so "medium"


def test_one_perfect_detection_gives_1() -> None:
    made = evaluate_coco(_set(_record(1, [BOX], [0])), [_row(BOX)])
    for name in ("AP", "AP50", "AP75", "APmedium", "AR1", "AR10", "AR100", "ARmedium"):
        assert made.numbers[name] == pytest.approx(1), name
    for name in ("APsmall", "APlarge", "ARsmall", "ARlarge"):
        assert math.isnan(made.numbers[name]), name
    assert made.per_class["cat"] == pytest.approx((1, 1, 1))


@pytest.mark.parametrize(
    ("found", "ap", "ap50", "ap75"),
    [
        # half of the box: IoU 0.5 passes the first of ten thresholds 0.50, 0.55 .. 0.95, so AP is 1 / 10
        pytest.param([10, 20, 60, 55], 0.1, 1, 0, id="half of the box"),
        # 0.8 of the box: IoU 0.8 passes 0.50 .. 0.80, seven of ten
        pytest.param([10, 20, 50, 90], 0.7, 1, 1, id="four fifths of the box"),
        pytest.param([10, 20, 30, 90], 0, 0, 0, id="two fifths of the box"),
        pytest.param([110, 120, 160, 190], 0, 0, 0, id="elsewhere"),
    ],
)
def test_a_box_that_is_partly_right_passes_some_thresholds(
    found: list[float], ap: float, ap50: float, ap75: float
) -> None:
    made = evaluate_coco(_set(_record(1, [BOX], [0])), [_row(found)]).numbers
    assert (made["AP"], made["AP50"], made["AP75"]) == pytest.approx((ap, ap50, ap75))


def test_a_better_scored_mistake_halves_precision() -> None:
    """One of two rows is right, and comes second: precision is 1/2 at every recall, so AP is 1/2."""
    rows = [_row([100, 100, 150, 150], 0.9), _row(BOX, 0.8)]
    assert evaluate_coco(_set(_record(1, [BOX], [0])), rows).numbers["AP"] == pytest.approx(0.5)


def test_one_of_two_objects_found_gives_half_of_the_recalls() -> None:
    """Recall reaches 0.5: of COCO's 101 recalls 0, 0.01 .. 1.00 the first 51 have precision 1, so AP is 51 / 101."""
    data = _set(_record(1, [BOX, [100, 100, 150, 150]], [0, 0]))
    made = evaluate_coco(data, [_row(BOX)]).numbers
    assert made["AP"] == pytest.approx(51 / 101)
    assert made["AR100"] == pytest.approx(0.5)


def test_a_detection_in_a_crowd_is_ignored() -> None:
    """It is better scored than the right one; were it a mistake, AP would be 1/2."""
    data = _set(_record(1, [BOX, [100, 100, 200, 200]], [0, 0], [0, 1]))
    rows = [_row([110, 110, 150, 150], 0.95), _row([120, 110, 160, 150], 0.94), _row(BOX, 0.5)]
    made = evaluate_coco(data, rows)
    assert made.numbers["AP"] == pytest.approx(1)
    assert made.per_class["cat"] == pytest.approx((1, 1, 1))  # the crowd is not counted as an object


def test_a_crowd_that_nobody_finds_costs_nothing() -> None:
    data = _set(_record(1, [BOX, [100, 100, 200, 200]], [0, 0], [0, 1]))
    assert evaluate_coco(data, [_row(BOX)]).numbers["AP"] == pytest.approx(1)


def test_no_rows_give_0() -> None:
    made = evaluate_coco(_set(_record(1, [BOX], [0])), [])
    for name in ("AP", "AP50", "AP75", "APmedium", "AR100"):
        assert made.numbers[name] == 0, name
    assert made.per_class["cat"] == (0, 0, 1)


@pytest.mark.parametrize("rows", [[], [_row(BOX)], [_row(BOX, category_id=3)]], ids=["none", "cat", "dog"])
def test_a_class_without_ground_truth_is_nan(rows: list[dict[str, Any]]) -> None:
    ap, ap50, count = evaluate_coco(_set(_record(1, [BOX], [0])), rows).per_class["dog"]
    assert math.isnan(ap)
    assert math.isnan(ap50)
    assert count == 0


def test_images_without_objects_give_nan_and_no_error() -> None:
    made = evaluate_coco(_set(_record(1, [], [])), [_row(BOX)])
    assert all(math.isnan(value) for value in made.numbers.values())


def test_the_annotated_area_decides_the_size() -> None:
    record = _record(1, [BOX], [0])
    small = ImageRecord(
        record.path,
        1,
        hw=record.hw,
        boxes=record.boxes,
        labels=record.labels,
        crowd=record.crowd,
        areas=np.array([500.0]),
    )
    made = evaluate_coco(_set(small), [_row(BOX)]).numbers
    assert made["APsmall"] == pytest.approx(1)  # 500 is below 32**2 = 1024, whatever the box
    assert math.isnan(made["APmedium"])


def test_categories_are_matched_by_id_and_not_by_order() -> None:
    """The set lists 18 before 3, pycocotools sorts them: 1 for the dog that was found, 0 for the cat that was not."""
    data = _set(_record(1, [BOX, [100, 100, 150, 150]], [0, 1]))
    made = evaluate_coco(data, [_row([100, 100, 150, 150], category_id=3)]).per_class
    assert made["cat"] == pytest.approx((0, 0, 1))
    assert made["dog"] == pytest.approx((1, 1, 1))


def test_evaluate_coco_prints_nothing_and_modifies_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    data, rows = _set(_record(1, [BOX], [0])), [_row(BOX)]
    before = copy.deepcopy(rows)
    evaluate_coco(data, rows)
    assert capsys.readouterr() == ("", "")
    assert rows == before
    assert data.records[0].boxes.tolist() == [BOX]


# Rows


def test_check_rows_returns_good_rows() -> None:
    rows = [_row(BOX), {**_row(BOX, 1), "extra": "kept"}]
    assert check_rows(rows, _set(_record(1, [], [])), source=Path("rows.json")) == rows
    assert check_rows([], _set(_record(1, [], [])), source=Path("rows.json")) == []


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param({"image_id": 1}, "needs image_id, category_id, bbox and score", id="keys missing"),
        pytest.param([1, 2], "needs image_id, category_id, bbox and score", id="list"),
        pytest.param("text", "needs image_id, category_id, bbox and score", id="text"),
        pytest.param({**_row(BOX), "image_id": 2}, "is for image 2, which truth.json does not list", id="image"),
        pytest.param({**_row(BOX), "image_id": [1]}, "is for image [1]", id="image as list"),
        pytest.param({**_row(BOX), "category_id": 4}, "has category 4, which truth.json does not list", id="category"),
        pytest.param({**_row(BOX), "category_id": {}}, "has category {}", id="category as mapping"),
        pytest.param({**_row(BOX), "bbox": [1, 2, NAN, 4]}, "must have a box of four finite numbers", id="NaN"),
        pytest.param({**_row(BOX), "bbox": [1, 2, 3, INF]}, "must have a box of four finite numbers", id="infinite"),
        pytest.param({**_row(BOX), "bbox": [1, 2, 3]}, "must have a box of four finite numbers", id="three"),
        pytest.param({**_row(BOX), "bbox": [1, 2, "3", 4]}, "must have a box of four finite numbers", id="text in it"),
        pytest.param({**_row(BOX), "bbox": None}, "must have a box of four finite numbers", id="null"),
        pytest.param({**_row(BOX), "bbox": [1, 2, -3, 4]}, "must have a box of four finite numbers", id="negative"),
        pytest.param({**_row(BOX), "bbox": [1, 2, 10**400, 4]}, "must have a box of four finite numbers", id="huge"),
        pytest.param({**_row(BOX), "score": NAN}, "and a score, got", id="NaN score"),
        pytest.param({**_row(BOX), "score": "0.5"}, "and a score, got", id="score as text"),
        pytest.param({**_row(BOX), "score": None}, "and a score, got", id="no score"),
    ],
)
def test_check_rows_names_file_and_row(row: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        check_rows([_row(BOX), row], _set(_record(1, [], [])), source=Path("rows.json"))
    assert str(caught.value).startswith("rows.json: row 1 ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("scores", "message"),
    [([0.5, 71], "from 0.5 to 71"), ([-0.5, 0.5], "from -0.5 to 0.5"), ([1.0001], "from 1.0001 to 1.0001")],
)
def test_check_rows_refuses_scores_that_no_threshold_divides(scores: list[float], message: str) -> None:
    rows = [{**_row(BOX), "score": score} for score in scores]
    with pytest.raises(InputError, match=f"rows.json has scores {message}; scores must lie between 0 and 1"):
        check_rows(rows, _set(_record(1, [], [])), source=Path("rows.json"))


def test_check_rows_takes_the_lowest_and_the_highest_score() -> None:
    rows = [{**_row(BOX), "score": score} for score in (0, 1, 0.0, 1.0)]
    assert check_rows(rows, _set(_record(1, [], [])), source=Path("rows.json")) == rows


@pytest.mark.parametrize("content", [{}, {"annotations": []}, None, "text", 5], ids=str)
def test_check_rows_refuses_what_is_no_list(content: Any) -> None:
    with pytest.raises(InputError, match=r"rows\.json is not a COCO result file: expected a list"):
        check_rows(content, _set(_record(1, [], [])), source=Path("rows.json"))


def test_a_class_that_an_image_is_not_labelled_for_is_left_out_there() -> None:
    here, there = [10.0, 10, 50, 50], [60.0, 60, 90, 90]
    whole = _record(1, [here, there], [0, 1])
    rows = [_row(here), _row(there, category_id=3), _row([100, 100, 150, 150], 0.95, category_id=3)]
    assert evaluate_coco(_set(whole), rows).per_class["dog"][0] == pytest.approx(0.5)
    blind = dataclasses.replace(whole, image_id=2, boxes=whole.boxes[:1], labels=whole.labels[:1], unlabelled=(1,))
    blind = dataclasses.replace(blind, crowd=whole.crowd[:1], areas=whole.areas[:1])
    more = [_row(here, image_id=2), _row([100, 100, 150, 150], 0.99, 2, 3)]
    both = evaluate_coco(_set(whole, blind), [*rows, *more])
    assert both.per_class["dog"] == evaluate_coco(_set(whole), rows).per_class["dog"]
    assert both.per_class["cat"] == (pytest.approx(1.0), pytest.approx(1.0), 2)
    given = dataclasses.replace(whole, image_id=2, unlabelled=(1,))  # some of its dogs are marked, but not all
    assert evaluate_coco(_set(whole, given), [*rows, *more]).per_class == both.per_class


@pytest.mark.parametrize("seed", range(4))
def test_a_second_evaluator_agrees(tmp_path: Path, seed: int) -> None:
    """faster-coco-eval is another implementation, in C++."""
    from faster_coco_eval import COCO as FasterCOCO
    from faster_coco_eval import COCOeval_faster

    truth, file, rows = _random_files(tmp_path, seed)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = FasterCOCO(str(truth))
        evaluation = COCOeval_faster(coco, coco.loadRes(str(file)), "bbox")
        evaluation.run()
    made = evaluate_coco(read_coco(truth, []), rows).numbers
    for name, expected in zip(STATS, np.asarray(evaluation.stats)[: len(STATS)].tolist()):
        assert made[name] == pytest.approx(expected, abs=1e-9) or (expected == -1 and math.isnan(made[name]))


# Intervals


def test_intervals_are_those_of_halves_that_are_evaluated_alone(tmp_path: Path) -> None:
    truth, _, rows = _random_files(tmp_path, 1)
    data = read_coco(truth, [])
    by_id = sorted(data.records, key=lambda record: record.image_id)
    halves = []
    for drawn in draw_halves(len(by_id), 30).T:
        records = tuple(record for record, count in zip(by_id, drawn) if count)
        kept = {record.image_id for record in records}
        half = dataclasses.replace(data, records=records)
        halves.append(evaluate_coco(half, [row for row in rows if row["image_id"] in kept]))
    made = evaluate_coco(data, rows, resamples=30)
    for name in ("AP", "AP50"):
        values = np.array([half.numbers[name] for half in halves])
        middle = 2 * made.numbers[name] - np.nanmean(values)  # 12 images: the bias of a half is twice that of the whole
        ends = middle + 1.96 * np.nanstd(values, ddof=1) * np.array([-1, 1])
        assert made.intervals[name] == pytest.approx(ends.clip(0, 1), abs=1e-12)
    of_class = np.array([half.per_class["a"][0] for half in halves])
    middle = 2 * made.per_class["a"][0] - np.nanmean(of_class)
    assert made.class_intervals["a"]["AP"].low == pytest.approx(max(0, middle - 1.96 * np.nanstd(of_class, ddof=1)))
    assert np.isnan(made.class_intervals["never there"]["AP"]).all()
    assert made.numbers == pytest.approx(evaluate_coco(data, rows).numbers, nan_ok=True)
    assert not evaluate_coco(data, rows).intervals


def test_a_perfect_detector_has_no_spread() -> None:
    records = [_record(i, [[10, 10, 90, 80]], [0]) for i in range(1, 6)]
    rows = [_row([10, 10, 90, 80], image_id=i) for i in range(1, 6)]
    told: list[tuple[int, int]] = []
    made = evaluate_coco(_set(*records), rows, resamples=20, on_resample=lambda done, total: told.append((done, total)))
    assert made.intervals["AP"] == pytest.approx((1, 1))
    assert told[-1] == (20, 20)


def test_a_class_whose_objects_lie_in_one_image_has_no_interval() -> None:
    """Every half with that image gives the same AP, which says nothing about other images."""
    box = [10.0, 10, 90, 80]
    records = [_record(i, [box, box], [0, int(i == 4)]) for i in range(1, 7)]
    rows = [_row(box, image_id=i) for i in range(1, 6)] + [_row(box, category_id=3, image_id=4)]
    made = evaluate_coco(_set(*records), rows, resamples=40)
    assert made.per_class["dog"] == (pytest.approx(1), pytest.approx(1), 1)
    assert all(np.isnan(ends).all() for ends in made.class_intervals["dog"].values())
    assert not np.isnan(made.class_intervals["cat"]["AP"]).any()
    assert not np.isnan(made.intervals["AP"]).any()
    alone = evaluate_coco(_set(*(_record(i, [box] * (i == 1), [0] * (i == 1)) for i in range(1, 7))), [], resamples=40)
    assert np.isnan(alone.intervals["AP"]).all()


def test_without_objects_intervals_are_nan_and_no_error() -> None:
    ends = evaluate_coco(_set(_record(1, [], [])), [], resamples=5).intervals["AP"]
    assert all(math.isnan(end) for end in ends)


# The best score threshold


def _f1_above(data: DetectionSet, rows: list[dict[str, Any]], threshold: float) -> float:
    """Count by hand, detection by detection, at IoU 0.5: an oracle without pycocotools."""
    right = wrong = objects = 0
    for record in data.records:
        for label, category_id in enumerate(data.category_ids):
            mine = [i for i in range(len(record.labels)) if record.labels[i] == label]
            objects += sum(not record.crowd[i] for i in mine)
            taken: set[int] = set()
            found = [r for r in rows if r["image_id"] == record.image_id and r["category_id"] == category_id]
            for row in sorted(found, key=lambda r: -r["score"]):
                if row["score"] <= threshold:
                    continue
                x, y, w, h = row["bbox"]
                best, at = 0.5, -1
                for i in mine:
                    x1, y1, x2, y2 = record.boxes[i]
                    inter = max(0, min(x + w, x2) - max(x, x1)) * max(0, min(y + h, y2) - max(y, y1))
                    union = w * h if record.crowd[i] else w * h + (x2 - x1) * (y2 - y1) - inter
                    if not record.crowd[i] and i not in taken and inter / union >= best:
                        best, at = inter / union, i
                crowds = [i for i in mine if record.crowd[i]]
                in_crowd = any(_inside_crowd(row["bbox"], record.boxes[i]) >= 0.5 for i in crowds)
                if at >= 0:
                    taken.add(at)
                    right += 1
                elif not in_crowd:
                    wrong += 1
    return 2 * right / (right + wrong + objects)


def _inside_crowd(bbox: list[float], crowd: Any) -> float:
    x, y, w, h = bbox
    x1, y1, x2, y2 = crowd
    return max(0, min(x + w, x2) - max(x, x1)) * max(0, min(y + h, y2) - max(y, y1)) / (w * h)


@pytest.mark.parametrize("seed", range(3))
def test_no_score_threshold_gives_a_higher_f1_than_the_best(tmp_path: Path, seed: int) -> None:
    truth, _, rows = _random_files(tmp_path, seed)
    data = read_coco(truth, [])
    best = evaluate_coco(data, rows).best
    assert best is not None
    every = [_f1_above(data, rows, number / 100) for number in range(1, 100)]
    assert best.f1 == pytest.approx(max(every))
    assert _f1_above(data, rows, best.score_threshold) == pytest.approx(max(every))
    assert best.f1 == pytest.approx(2 * best.precision * best.recall / (best.precision + best.recall))
    assert min(every) < max(every)


def test_the_best_threshold_lies_midway_between_right_and_wrong() -> None:
    data = _set(_record(1, [[0, 0, 50, 50], [100, 100, 150, 150]], [0, 0]))
    rows = [_row([0, 0, 50, 50], 0.8), _row([100, 100, 150, 150], 0.6), _row([0, 120, 30, 150], 0.34)]
    best = evaluate_coco(data, rows).best
    assert best is not None
    assert (best.score_threshold, best.f1, best.precision, best.recall) == (0.47, 1, 1, 1)  # 0.34 to 0.59 are as good


def test_equal_scores_are_not_divided() -> None:
    data = _set(_record(1, [[0, 0, 50, 50]], [0]))
    best = evaluate_coco(data, [_row([0, 0, 50, 50], 0.7), _row([100, 100, 150, 150], 0.7)]).best
    assert best is not None
    assert (best.f1, best.precision, best.recall) == (pytest.approx(2 / 3), 0.5, 1)
    assert best.score_threshold < 0.7


def test_where_nothing_is_found_no_threshold_is_best() -> None:
    data = _set(_record(1, [[0, 0, 50, 50]], [0]))
    assert evaluate_coco(data, []).best is None
    assert evaluate_coco(data, [_row([100, 100, 150, 150])]).best is None
    assert evaluate_coco(_set(_record(1, [], [])), [_row([0, 0, 9, 9])]).best is None
