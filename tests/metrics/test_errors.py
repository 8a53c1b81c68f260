"""Errors by kind, against cases worked by hand and an implementation with lists and loops."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from tests.metrics.random_sets import perfect_rows, random_set, record, row, set_of
from tests.metrics.slow_matching import Guess, Thing, slow_match
from yolo_lite.metrics.coco import evaluate_coco
from yolo_lite.metrics.columns import to_columns
from yolo_lite.metrics.errors import KINDS, Errors, error_kinds, measure_errors
from yolo_lite.metrics.matching import match_set
from yolo_lite.structures.datasets import DetectionSet

BOX, FAR = [0.0, 0, 10, 10], [50.0, 50, 60, 60]


def errors_of(data: DetectionSet, rows: list[dict[str, Any]]) -> Errors:
    return measure_errors(match_set(data, to_columns(data, rows)))


def only(**lost: float) -> Any:
    """Return the lost AP of all kinds, 0 unless given."""
    return pytest.approx({kind: lost.get(kind, 0.0) for kind in KINDS}, abs=1e-12)


# An implementation that shares no code


def slow_errors(data: DetectionSet, rows: list[dict[str, Any]]) -> tuple[float, dict[str, int], dict[str, float]]:
    guesses, things = slow_match(data, rows)
    guesses = [guess for guess in guesses if not guess.ignored]
    kinds: dict[str, list[tuple[Guess, Thing | None]]] = {kind: [] for kind in KINDS[:-1]}
    for guess in guesses:
        if not guess.match:
            kind, target = slow_kind(guess)
            kinds[kind].append((guess, target))
    targets = {id(target) for kind in ("classification", "localisation") for _, target in kinds[kind]}
    missed = [thing for thing in things if not thing.taken and id(thing) not in targets]
    normal = {guess: (guess.label, guess.match is not None) for guess in guesses}
    plain = slow_ap(normal, things, [])
    lost = {}
    for kind, errors in kinds.items():
        fixed = {guess: verdict for guess, verdict in normal.items() if guess not in dict(errors)}
        if kind in ("classification", "localisation"):
            for thing in things:
                rivals = [guess for guess, target in errors if target is thing]
                if rivals:
                    rivals += [thing.taken] if thing.taken else []
                    for rival in rivals:
                        fixed.pop(rival, None)
                    fixed[min(rivals, key=lambda rival: (-rival.score, rival.number))] = (thing.label, True)
        lost[kind] = slow_ap(fixed, things, []) - plain
    lost["missed"] = slow_ap(normal, things, missed) - plain
    return plain, {**{kind: len(errors) for kind, errors in kinds.items()}, "missed": len(missed)}, lost


def slow_kind(guess: Guess) -> tuple[str, Thing | None]:
    (own, own_thing), (other, other_thing) = guess.best(own=True), guess.best(own=False)
    if own >= 0.5:
        return "duplicate", None
    if other >= 0.5:
        return "classification", other_thing
    if own >= 0.1:
        return "localisation", own_thing
    return ("both" if other >= 0.1 else "background"), None


def slow_ap(verdicts: dict[Guess, tuple[int, bool]], things: list[Thing], gone: list[Thing]) -> float:
    values = []
    for label in sorted({thing.label for thing in things}):
        count = sum(thing.label == label for thing in things) - sum(thing.label == label for thing in gone)
        ranked = sorted((guess.rank, right) for guess, (called, right) in verdicts.items() if called == label)
        points, hits = [], 0
        for number, (_, right) in enumerate(ranked, 1):
            hits += right
            points.append((hits, hits / number))
        if count:
            best = [
                max((precision for hits, precision in points if hits / count >= recall), default=0.0)
                for recall in np.linspace(0, 1, 101)
            ]
            values.append(sum(best) / 101)
        else:
            values.append(0.0 if ranked else 1.0)
    return sum(values) / len(values) if values else math.nan


@pytest.mark.parametrize("seed", range(12))
def test_errors_are_those_of_an_implementation_with_loops(seed: int) -> None:
    data, rows = random_set(seed)
    plain, counts, lost = slow_errors(data, rows)
    errors = errors_of(data, rows)
    assert errors.average_precision == pytest.approx(plain, abs=1e-12)
    assert errors.counts == counts
    assert errors.lost == pytest.approx(lost, abs=1e-12)


def test_the_random_sets_hold_every_kind_and_corrections_of_objects_that_are_already_detected() -> None:
    counts, lost, stolen = dict.fromkeys(KINDS, 0), dict.fromkeys(KINDS, 0.0), 0
    for seed in range(12):
        data, rows = random_set(seed)
        errors = errors_of(data, rows)
        for kind in KINDS:
            counts[kind] += errors.counts[kind]
            lost[kind] += errors.lost[kind]
        for guess in slow_match(data, rows)[0]:
            thing = guess.best(own=False)[1]
            if slow_kind(guess)[0] == "classification" and thing and thing.taken:
                stolen += thing.taken.rank > guess.rank
    assert min(counts.values()) > 20
    assert min(lost.values()) > 0.02
    assert stolen > 5


@pytest.mark.parametrize("seed", range(12))
def test_average_precision_is_that_of_pycocotools(seed: int) -> None:
    data, rows = random_set(seed, images=20)
    assert errors_of(data, rows).average_precision == pytest.approx(evaluate_coco(data, rows).numbers["AP50"], abs=1e-9)


def test_overlaps_that_are_rounded_to_about_a_half_are_judged_as_by_pycocotools() -> None:
    """Half of a box with two decimals: whether its IoU is 0.5 or a little less depends on each rounding."""
    generator = np.random.default_rng(0)
    for _ in range(10):
        records, rows = [], []
        for image_id in range(1, 31):
            x, y, width, height = generator.uniform(1, 100, 4).round(2).tolist()
            records.append(record(image_id, [[x, y, x + width, y + height]], [0]))
            part = [x, y, width / 2, height] if generator.random() < 0.5 else [x, y, width, height * 2]
            bbox = [round(value, 3) for value in part]
            rows.append({"image_id": image_id, "category_id": 44, "bbox": bbox, "score": generator.random()})
        data = set_of(*records)
        expected = evaluate_coco(data, rows).numbers["AP50"]
        assert 0.01 < expected < 0.99
        assert errors_of(data, rows).average_precision == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_no_correction_lowers_average_precision(seed: int) -> None:
    data, rows = random_set(seed + 100, images=12)
    assert min(errors_of(data, rows).lost.values()) >= -1e-12


# Ground truth as predictions


@pytest.mark.parametrize("seed", range(6))
def test_the_ground_truth_as_predictions_has_no_errors(seed: int) -> None:
    data, _ = random_set(seed, objects=14)
    rows = perfect_rows(data)
    errors = errors_of(data, [rows[i] for i in np.random.default_rng(seed).permutation(len(rows))])
    assert errors.average_precision == 1
    assert errors.counts == dict.fromkeys(KINDS, 0)
    assert errors.lost == dict.fromkeys(KINDS, 0.0)


def test_the_ground_truth_has_no_errors_where_objects_overlap_or_are_equal() -> None:
    near = [1.0, 0, 10, 10]  # IoU 0.9
    data = set_of(record(1, [BOX, near, BOX, near, BOX, [0, 0, 90, 90]], [0, 0, 0, 1, 1, 0], crowd=[0, 0, 0, 0, 0, 1]))
    errors = errors_of(data, perfect_rows(data))
    assert errors.lost == dict.fromkeys(KINDS, 0.0)
    assert errors.counts == dict.fromkeys(KINDS, 0)


# Worked by hand. Objects: an ant at BOX, if not said otherwise; AP50 is the mean over the classes with objects.


def test_a_wrong_class_costs_the_object_and_a_false_positive() -> None:
    """A bee is called ant with a score of 0.95, and the real ant has 0.9.

    Ants: right after wrong, precision 1/2 at every recall. Bees: nothing. AP 1/4; with the class corrected, both are 1.
    """
    data = set_of(record(1, [BOX, FAR], [0, 1]))
    errors = errors_of(data, [row(BOX), row(FAR, 0.95)])
    assert errors.average_precision == pytest.approx(1 / 4)
    assert errors.counts == {**dict.fromkeys(KINDS, 0), "classification": 1}  # the bee is not missed as well
    assert errors.lost == only(classification=3 / 4)


def test_a_badly_placed_box_costs_the_object() -> None:
    """IoU 4/10 with the second ant: of two ants one is found, which has the lower score.

    Precision is 1/2 at the 51 recalls from 0 to 0.5. Corrected, everything is found.
    """
    data = set_of(record(1, [BOX, FAR], [0, 0]))
    errors = errors_of(data, [row(BOX, 0.5), row([50, 50, 60, 54])])
    assert errors.average_precision == pytest.approx(51 / 101 / 2)
    assert errors.counts == {**dict.fromkeys(KINDS, 0), "localisation": 1}
    assert errors.lost == only(localisation=1 - 51 / 101 / 2)


def test_wrong_class_and_place_is_left_out() -> None:
    """IoU 4/10 with a bee, called ant: without it, ants have an AP of 1 in place of 1/2, bees 0. The bee is missed.

    Without the bee, no bee is left, and no detection either: 1 in place of 0.
    """
    data = set_of(record(1, [BOX, FAR], [0, 1]))
    errors = errors_of(data, [row(BOX, 0.5), row([50, 50, 60, 54])])
    assert errors.average_precision == pytest.approx(1 / 4)
    assert errors.counts == {**dict.fromkeys(KINDS, 0), "both": 1, "missed": 1}
    assert errors.lost == only(both=1 / 4, missed=1 / 2)


def test_a_duplicate_is_left_out() -> None:
    """Right, duplicate, right: precision 1 up to a recall of 1/2, then 2/3: (51 + 50 * 2/3) / 101."""
    data = set_of(record(1, [BOX, FAR], [0, 0]))
    errors = errors_of(data, [row(BOX, 0.9), row([0, 0, 10, 8], 0.8), row(FAR, 0.7)])
    assert errors.average_precision == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert errors.counts == {**dict.fromkeys(KINDS, 0), "duplicate": 1}
    assert errors.lost == only(duplicate=50 / 3 / 101)


def test_a_detection_of_background_is_left_out() -> None:
    errors = errors_of(set_of(record(1, [BOX], [0])), [row(BOX, 0.5), row(FAR)])
    assert errors.counts == {**dict.fromkeys(KINDS, 0), "background": 1}
    assert errors.lost == only(background=1 / 2)


def test_a_false_positive_in_an_image_without_objects_is_background() -> None:
    data = set_of(record(1, [BOX], [0]), record(2, [], []))
    errors = errors_of(data, [row(BOX, 0.5), row(BOX, image_id=2)])
    assert errors.counts["background"] == 1
    assert errors.lost == only(background=1 / 2)


def test_missed_objects_are_no_longer_counted() -> None:
    """One of two ants is found: precision 1 at 51 of 101 recalls. Without the other, 1 at all."""
    errors = errors_of(set_of(record(1, [BOX, FAR], [0, 0])), [row(BOX)])
    assert errors.counts == {**dict.fromkeys(KINDS, 0), "missed": 1}
    assert errors.lost == only(missed=50 / 101)


def test_a_class_whose_objects_are_all_missed_has_1_without_detections_and_0_with_them() -> None:
    data = set_of(record(1, [BOX, FAR], [0, 1]))
    assert errors_of(data, [row(BOX)]).lost == only(missed=1 / 2)
    assert errors_of(data, [row(BOX), row([80, 0, 90, 10], 0.1, label=1)]).lost == only()


@pytest.mark.parametrize("score", [0.8, 0.95])
def test_a_corrected_class_leaves_an_object_with_one_detection(score: float) -> None:
    """The ant is found (0.9) and called a bee as well. Ants have an AP of 1/2, because of a false positive of 0.99.

    Bees: one object, found with 0.5, behind the ant: 1/2. Corrected, bees have 1. The ants keep one right detection
    behind one wrong one, whichever of the two that is.
    """
    data = set_of(record(1, [BOX, FAR], [0, 1]))
    rows = [row(BOX), row([80, 0, 90, 10], 0.99), row(FAR, 0.5, label=1), row(BOX, score, label=1)]
    errors = errors_of(data, rows)
    assert errors.average_precision == pytest.approx(1 / 2)
    assert errors.lost["classification"] == pytest.approx(1 / 4)


def test_the_higher_score_of_a_corrected_detection_counts() -> None:
    """The ant is found with 0.3, behind a false positive of 0.6. Its badly placed detection has 0.8 and would be first.

    As it is: wrong, wrong, right, so 1/3. Corrected: right (0.8), wrong, and the detection with 0.3 is left out: 1.
    """
    rows = [row(BOX, 0.3), row(FAR, 0.6), row([0, 0, 10, 4], 0.8)]
    errors = errors_of(set_of(record(1, [BOX], [0])), rows)
    assert errors.average_precision == pytest.approx(1 / 3)
    assert errors.lost["localisation"] == pytest.approx(2 / 3)
    lower = errors_of(set_of(record(1, [BOX], [0])), [row(BOX, 0.7), row(FAR, 0.8), row([0, 0, 10, 4], 0.75)])
    assert lower.average_precision == pytest.approx(1 / 3)
    assert lower.lost["localisation"] == pytest.approx(1 / 2 - 1 / 3)  # 0.75 stays behind 0.8


def test_of_several_corrected_detections_of_an_object_the_first_is_kept() -> None:
    """Two badly placed detections of one ant: one becomes right, the other is left out."""
    rows = [row([0, 0, 10, 4], 0.8), row([0, 0, 10, 3], 0.7)]
    errors = errors_of(set_of(record(1, [BOX], [0])), rows)
    assert errors.counts["localisation"] == 2
    assert errors.lost == only(localisation=1)


def kind_of(rows: list[dict[str, Any]], *boxes_and_labels: tuple[list[float], int]) -> str:
    """Return the kind of the detection with the lowest score."""
    boxes, labels = zip(*boxes_and_labels)
    data = set_of(record(1, boxes, list(labels)))
    return KINDS[error_kinds(match_set(data, to_columns(data, rows)))[-1]]


def test_the_first_kind_that_fits_is_chosen() -> None:
    ant, part = row(BOX), [0.0, 0, 10, 4]
    # It covers the ant, which is taken, and a bee as well
    assert kind_of([ant, row(BOX, 0.5)], (BOX, 0), (BOX, 1)) == "duplicate"
    # It covers the bee (IoU 1), and touches the ant (IoU 0.4)
    assert kind_of([ant, row(part, 0.5)], (BOX, 0), (part, 1)) == "classification"
    # It touches the ant (IoU 0.4) and the bee (IoU 4/9)
    assert kind_of([ant, row(part, 0.5)], (BOX, 0), ([0.0, 0, 10, 9], 1)) == "localisation"
    assert kind_of([ant, row(part, 0.5)], (FAR, 0), ([0.0, 0, 10, 9], 1)) == "both"


@pytest.mark.parametrize(
    ("box", "own", "other"),
    [
        ([0, 0, 10, 5], "duplicate", "classification"),  # IoU exactly 0.5
        ([0, 0, 10, 4], "localisation", "both"),
        ([0, 0, 10, 1], "localisation", "both"),  # IoU exactly 0.1
        ([0, 0, 9, 1], "background", "background"),
    ],
)
def test_limits_belong_to_the_better_kind(box: list[int], own: str, other: str) -> None:
    assert kind_of([row(BOX), row(box, 0.5)], (BOX, 0)) == own
    assert kind_of([row(BOX), row(box, 0.5, label=1)], (BOX, 0)) == other


def test_other_limits() -> None:
    data = set_of(record(1, [BOX], [0]))
    columns = to_columns(data, [row([0, 0, 10, 6], label=0)])
    assert measure_errors(match_set(data, columns, iou_threshold=0.7)).counts["localisation"] == 1
    errors = measure_errors(match_set(data, columns, iou_threshold=0.7), background_iou=0.65)
    assert errors.counts["background"] == 1
    assert (errors.iou_threshold, errors.background_iou) == (0.7, 0.65)


# What does not count


def test_crowds_are_no_targets_and_their_detections_no_errors() -> None:
    crowd = [40.0, 40, 90, 90]
    data = set_of(record(1, [BOX, crowd], [0, 0], crowd=[0, 1]))
    errors = errors_of(data, [row(BOX, 0.5), row(FAR), row(crowd)])
    assert errors.counts == dict.fromkeys(KINDS, 0)
    assert errors.lost == only()
    assert errors_of(data, [row(crowd, label=1)]).counts["background"] == 1  # a bee is no part of a crowd of ants


def test_classes_that_an_image_is_not_labelled_for_are_left_out() -> None:
    data = set_of(record(1, [BOX], [0]), record(2, [BOX, FAR], [0, 1], unlabelled=(0,)))
    rows = [row(BOX, 0.5), row(BOX, image_id=2), row(FAR, image_id=2), row([50, 50, 60, 54], image_id=2, label=1)]
    errors = errors_of(data, rows)
    assert errors.counts == {**dict.fromkeys(KINDS, 0), "localisation": 1}
    called_bee = errors_of(data, [row(BOX, image_id=2, label=1)])
    assert called_bee.counts["background"] == 1  # the ant there is no target


def test_only_the_first_100_detections_of_a_class_in_an_image_count() -> None:
    data = set_of(record(1, [BOX, FAR], [0, 1]))
    bee = row(FAR, 0.1, label=1)
    rows = [row([80, 80, 90, 90], 0.9 - i / 1000) for i in range(100)]
    errors = errors_of(data, [*rows, row(BOX, 0.1), bee])
    assert errors.counts == {**dict.fromkeys(KINDS, 0), "background": 100, "missed": 1}
    assert errors.average_precision == pytest.approx(1 / 2)
    assert errors_of(data, [*rows[1:], row(BOX, 0.1), bee]).counts["missed"] == 0


# Nothing to measure


def test_without_detections_everything_is_missed() -> None:
    errors = errors_of(random_set(0)[0], [])
    assert errors.average_precision == 0
    assert errors.lost == only(missed=1)


@pytest.mark.parametrize("rows", [[], [row(BOX)]], ids=["no detections", "a detection"])
def test_without_objects_nothing_is_lost_or_known(rows: list[dict[str, Any]]) -> None:
    errors = errors_of(set_of(record(1, [], [])), rows)
    assert math.isnan(errors.average_precision)
    assert all(math.isnan(value) for value in errors.lost.values())
    assert errors.counts["background"] == len(rows)
    values = errors.to_json()
    assert values["AP50"] is None
    assert [kind["lost"] for kind in values["kinds"]] == [None] * 6


def test_plain_values_have_all_kinds_in_order_and_survive_json() -> None:
    values = errors_of(*random_set(1)).to_json()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert set(values) == {"iou_threshold", "background_iou", "AP50", "kinds"}
    assert [kind["kind"] for kind in values["kinds"]] == list(KINDS)
