"""Scores of tracks, worked by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from yolo_lite.errors import InputError
from yolo_lite.metrics.tracking import score_tracks
from yolo_lite.structures.results import Detections

NAMES = ("person", "car")


def frame(**places: float) -> Detections:
    """Return boxes 10 x 10 at x; the keyword a7 is track 7, and b7 a car's track."""
    return Detections(
        np.array([(x, 0, x + 10, 10) for x in places.values()]).reshape(-1, 4),
        [1.0] * len(places),
        labels=["ab".index(name[0]) for name in places],
        class_names=NAMES,
        track_ids=np.array([int(name[1:]) for name in places], int),
    )


def test_the_truth_against_itself_is_perfect() -> None:
    video = [frame(a1=10 * t, a2=300 - 10 * t, b3=500) for t in range(9)]
    assert score_tracks(video, video) == (1.0, 1.0, 0, 0, 0, 27, 3, 3)


def test_other_numbers_for_the_same_tracks_change_nothing() -> None:
    truth = [frame(a1=10 * t, a2=300 - 10 * t) for t in range(9)]
    tracked = [frame(a70=10 * t + 2, a5=300 - 10 * t) for t in range(4)] + [frame(a70=10 * t) for t in range(4, 9)]
    again = [frame(a1=10 * t + 2, a2=300 - 10 * t) for t in range(4)] + [frame(a1=10 * t) for t in range(4, 9)]
    assert score_tracks(truth, tracked) == score_tracks(truth, again)


def test_a_switch_worked_by_hand() -> None:
    """One object in 10 frames, tracked as 1 in 6 and as 2 in 4: one switch.

    MOTA = 1 - 1 / 10. Track 1 is the object's own: IDF1 = 2 x 6 / (10 + 10). It covers 6 of 10 frames.
    """
    truth = [frame(a1=50)] * 10
    tracked = [frame(a1=50)] * 6 + [frame(a2=50)] * 4
    scores = score_tracks(truth, tracked)
    assert scores == (pytest.approx(0.9), pytest.approx(0.6), 1, 0, 0, 10, 1, 1)


def test_misses_and_false_positives_worked_by_hand() -> None:
    """Two objects in 4 frames; the second is never found, and a ghost is tracked in 3 frames.

    MOTA = 1 - (4 + 3) / 8. IDF1 = 2 x 4 / (8 + 7). One track of two is correct.
    """
    truth = [frame(a1=0, a2=200)] * 4
    tracked = [frame(a1=0, a9=400)] * 3 + [frame(a1=0)]
    scores = score_tracks(truth, tracked)
    assert scores == (pytest.approx(1 / 8), pytest.approx(8 / 15), 0, 3, 4, 8, 1, 2)


def test_two_objects_that_swap_numbers_are_two_switches() -> None:
    truth = [frame(a1=0, a2=100)] * 8
    tracked = [frame(a1=0, a2=100)] * 5 + [frame(a2=0, a1=100)] * 3
    scores = score_tracks(truth, tracked)
    assert scores.switches == 2
    assert scores.idf1 == pytest.approx(10 / 16)  # 5 of 8 frames each
    assert scores.correct == 2


def test_a_gap_is_no_switch_and_a_new_number_after_it_is() -> None:
    truth = [frame(a1=0)] * 6
    assert score_tracks(truth, [frame(a1=0)] * 2 + [frame()] * 2 + [frame(a1=0)] * 2).switches == 0
    assert score_tracks(truth, [frame(a1=0)] * 2 + [frame()] * 2 + [frame(a2=0)] * 2).switches == 1


def test_pairs_of_the_frame_before_stay_although_another_box_overlaps_more() -> None:
    """Track 2 covers the object better in the second frame (Bernardin: correspondences are kept while valid)."""
    scores = score_tracks([frame(a1=0)] * 2, [frame(a1=0), frame(a1=3, a2=0)])
    assert (scores.switches, scores.false_positives) == (0, 1)


def test_as_many_pairs_as_possible_are_made() -> None:
    """Boxes 3.3 apart overlap by 6.7 / 13.3 = 0.504. Two pairs could be perfect, but three pairs are possible."""
    scores = score_tracks([frame(a1=0, a2=3.3, a3=6.6)], [frame(a1=3.3, a2=6.6, a3=9.9)])
    assert (scores.misses, scores.false_positives) == (0, 0)


def test_classes_must_agree() -> None:
    scores = score_tracks([frame(a1=0)] * 2, [frame(b1=0)] * 2)
    assert scores == (-1.0, 0.0, 0, 2, 2, 2, 0, 1)


def test_idf1_is_the_best_of_all_ways_to_pair_tracks() -> None:
    """Brute force over all assignments of three tracked to three true tracks."""
    generator = np.random.default_rng(0)
    for _ in range(10):
        truth, tracked, together = [], [], np.zeros((3, 3))
        for _ in range(12):
            order = generator.permutation(3)
            truth.append(frame(a1=0, a2=100, a3=200))
            tracked.append(frame(**{f"a{number + 1}": 100 * int(place) for number, place in enumerate(order)}))
            together[order, np.arange(3)] += 1
        best = max(
            sum(together[row, column] for row, column in enumerate(way)) for way in itertools.permutations(range(3))
        )
        assert score_tracks(truth, tracked).idf1 == pytest.approx(2 * best / 72)


def test_without_objects_and_tracks_scores_are_perfect() -> None:
    assert score_tracks([frame()] * 3, [frame()] * 3) == (1.0, 1.0, 0, 0, 0, 0, 0, 0)
    assert score_tracks([], []).mota == 1.0
    assert score_tracks([frame()], [frame(a1=0)]).idf1 == 0.0


def test_wrong_input_is_refused() -> None:
    with pytest.raises(InputError, match="tracks must have 2 frames like the truth, got 1"):
        score_tracks([frame(), frame()], [frame()])
    untracked = Detections([[0, 0, 1, 1]], [1.0], labels=[0], class_names=NAMES)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="every frame of tracked must have track_ids"):
        score_tracks([frame()], [untracked])
