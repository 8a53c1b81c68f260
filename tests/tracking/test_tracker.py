"""The tracker on drawn motions whose identities are known."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest

from yolo_lite import Tracker
from yolo_lite.errors import InputError
from yolo_lite.structures.results import Detections

NAMES = ("person", "car")
Box = tuple[float, float, float, float]
Row = tuple[Box, float, int]  # box, score, label


def frame(*rows: Row) -> Detections:
    """Return detections in the order of their scores."""
    rows = tuple(sorted(rows, key=lambda row: -row[1]))
    boxes = np.array([row[0] for row in rows]).reshape(-1, 4)
    return Detections(boxes, [row[1] for row in rows], labels=[row[2] for row in rows], class_names=NAMES)


def box_at(x: float, y: float, *, width: float = 40, height: float = 80) -> Box:
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def run(frames: Iterator[tuple[float, Detections]], **settings: float) -> list[Detections]:
    tracker = Tracker(**{"score_threshold": 0.4, **settings})
    return [tracker.update(detections, time=time) for time, detections in frames]


def ids(results: list[Detections]) -> list[list[int]]:
    return [[] if result.track_ids is None else sorted(result.track_ids.tolist()) for result in results]


def ids_of(result: Detections) -> list[int]:
    assert result.track_ids is not None
    return [int(number) for number in result.track_ids]


def places_at(time: float) -> npt.NDArray[np.float64]:
    """Return the centres of the three people."""
    return np.array([(60 + 60 * time, 100), (300 - 60 * time, 150), (200 + 15 * time, 300 - 20 * time)])


def walkers(
    fps: float, *, seconds: float = 4.0, jitter: float = 0.0, seed: int = 0
) -> Iterator[tuple[float, Detections]]:
    """Three people of 40 x 80 pixels; two pass each other at 60 pixels a second, 50 apart; 3 % of noise, 10 % missed."""
    generator = np.random.default_rng(seed)
    times = np.arange(0, seconds, 1 / fps) + generator.uniform(0, jitter / fps, int(np.ceil(seconds * fps)))
    for time in times.tolist():
        rows: list[Row] = []
        for x, y in places_at(time).tolist():
            noisy = np.array(box_at(x, y)) + generator.normal(0, 0.03, 4) * (40, 80, 40, 80)
            if generator.random() > 0.1:
                rows.append((tuple(noisy.tolist()), float(generator.uniform(0.5, 0.9)), 0))  # type: ignore[arg-type]
        yield time, frame(*rows)


@pytest.mark.parametrize("fps", [5, 10, 25, 60])
@pytest.mark.parametrize("jitter", [0.0, 0.8], ids=["even", "uneven"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_three_people_keep_their_numbers_at_every_frame_rate(fps: float, jitter: float, seed: int) -> None:
    frames = list(walkers(fps, jitter=jitter, seed=seed))
    results = run(iter(frames))
    assert {number for numbers in ids(results) for number in numbers} == {1, 2, 3}
    owners: dict[int, set[int]] = {1: set(), 2: set(), 3: set()}
    for (time, _), result in zip(frames, results):
        centres = (result.boxes[:, :2] + result.boxes[:, 2:]) / 2
        for number, centre in zip(ids_of(result), centres):
            owners[number].add(int(np.linalg.norm(places_at(time) - centre, axis=1).argmin()))
    assert sorted(map(tuple, owners.values())) == [(0,), (1,), (2,)]


def test_a_number_is_given_at_the_third_detection_and_kept() -> None:
    results = run((number / 10, frame((box_at(100 + 5 * number, 100), 0.8, 0))) for number in range(5))
    assert ids(results) == [[], [], [1], [1], [1]]


def test_weak_detections_count_half_towards_a_number() -> None:
    """One strong and four weak ones are three."""
    scores = [0.8, 0.2, 0.2, 0.2, 0.2, 0.2]
    results = run((number / 10, frame((box_at(100, 100), score, 0))) for number, score in enumerate(scores))
    assert ids(results) == [[], [], [], [], [1], [1]]


def test_two_frames_a_second_are_enough_for_an_object_at_rest() -> None:
    """A track on trial may always wait for the next frame, also if that is more than 0.3 seconds away."""
    assert ids(run((number / 2, frame((box_at(100, 100), 0.8, 0))) for number in range(4))) == [[], [], [1], [1]]


def test_at_60_frames_a_second_a_number_takes_a_tenth_of_a_second() -> None:
    results = run((number / 60, frame((box_at(100, 100), 0.8, 0))) for number in range(10))
    assert [len(numbers) for numbers in ids(results)] == [0] * 6 + [1] * 4


def test_false_alarms_use_up_no_numbers() -> None:
    """One false alarm in each frame, somewhere else every time; the person that comes later is number 1."""
    generator = np.random.default_rng(0)

    def frames() -> Iterator[tuple[float, Detections]]:
        for number in range(60):
            place = generator.uniform((0, 0), (2000, 2000))
            rows: list[Row] = [(box_at(*place, width=20, height=20), 0.5, 0)]
            if number >= 50:
                rows.append((box_at(3000, 100), 0.9, 0))
            yield number / 10, frame(*rows)

    results = run(frames())
    assert ids(results[:52]) == [[]] * 52
    assert ids(results[52:]) == [[1]] * 8


def test_weak_detections_continue_a_track_and_never_begin_one() -> None:
    scores = [0.8, 0.8, 0.8, 0.2, 0.2, 0.2, 0.8]
    tracked = run((number / 10, frame((box_at(100, 100), score, 0))) for number, score in enumerate(scores))
    assert ids(tracked) == [[], [], [1], [1], [1], [1], [1]]
    assert ids(run((number / 10, frame((box_at(100, 100), 0.2, 0))) for number in range(9))) == [[]] * 9


def test_thresholds_are_relative_to_that_of_the_detector() -> None:
    """A detector whose scores are a tenth as high, with a threshold a tenth as high, gives the same tracks."""
    scores = [0.8, 0.5, 0.45, 0.2, 0.3, 0.17, 0.15, 0.8]
    normal = run((number / 10, frame((box_at(100, 100), score, 0))) for number, score in enumerate(scores))
    low = run(
        ((number / 10, frame((box_at(100, 100), score / 10, 0))) for number, score in enumerate(scores)),
        score_threshold=0.04,
    )
    assert ids(normal) == ids(low)
    assert ids(normal)[-3:] == [[1], [], [1]]  # 0.15 is below 0.4 x 0.4


def test_strong_detections_choose_before_weak_ones() -> None:
    """The weak box fits the track better, but the strong one of the same object comes first."""

    def frames() -> Iterator[tuple[float, Detections]]:
        for number in range(3):
            yield number / 10, frame((box_at(100, 100), 0.8, 0))
        yield 0.3, frame((box_at(100, 100), 0.2, 0), (box_at(106, 104), 0.8, 0))

    last = run(frames())[-1]
    assert last.scores.tolist() == pytest.approx([0.8])


def test_classes_are_never_mixed() -> None:
    """A car and a person in the same place have two numbers; a track does not go on with the other class."""
    both = run((number / 10, frame((box_at(99, 99), 0.9, 1), (box_at(100, 100), 0.8, 0))) for number in range(4))
    assert ids(both)[-1] == [1, 2]
    change = run((number / 10, frame((box_at(100, 100), 0.9, int(number > 4)))) for number in range(9))
    assert ids(change) == [[], [], [1], [1], [1], [], [], [2], [2]]


@pytest.mark.parametrize("fps", [5, 30])
@pytest.mark.parametrize(("gap", "same"), [(1.2, True), (1.9, False)])
def test_the_buffer_counts_seconds(fps: int, gap: float, same: bool) -> None:
    """The number survives a gap shorter than 1.5 s and not a longer one, at any frame rate."""
    end = 3.0 + gap
    frames = (
        (number / fps, frame((box_at(100, 100), 0.8, 0)) if number / fps < 3 or number / fps >= end else frame())
        for number in range(int(6 * fps))
    )
    assert ids(run(frames))[-1] == ([1] if same else [2])


def test_a_moving_object_is_found_again_behind_an_obstacle() -> None:
    """It moves 96 pixels, more than twice its width, in the 0.8 s without a detection."""
    frames = (
        (number / 10, frame() if 20 <= number < 28 else frame((box_at(50 + 12 * number, 100), 0.8, 0)))
        for number in range(36)
    )
    assert ids(run(frames))[-1] == [1]


@pytest.mark.parametrize("fps", [5, 10, 30])
def test_the_gate_widens_with_the_time_between_frames(fps: int) -> None:
    """A new object's velocity is unknown: 45 pixels between two frames are fine at 5 and 10 frames/s, not at 30."""
    frames = ((number / fps, frame((box_at(100 + 45 * number, 100), 0.8, 0))) for number in range(12))
    assert ids(run(frames))[-1] == ([] if fps == 30 else [1])


def test_objects_that_cross_keep_their_numbers() -> None:
    """They pass each other on the same height; the one behind is weak, then missed, while it is hidden."""

    def frames() -> Iterator[tuple[float, Detections]]:
        for number in range(50):
            left, right = 100 + 8 * number, 500 - 8 * number
            apart = abs(left - right)
            rows: list[Row] = [(box_at(left, 100), 0.8, 0)]
            if apart > 25:
                rows.append((box_at(right, 104), 0.8 if apart > 50 else 0.25, 0))
            yield number / 10, frame(*rows)

    results = run(frames())
    places: dict[int, list[float]] = {}
    for result in results[-3:]:
        for number, box in zip(ids_of(result), result.boxes):
            places.setdefault(number, []).append(float(box[0]))
    assert set(places) == {1, 2}
    starts = dict(zip(ids_of(results[2]), results[2].boxes[:, 0].tolist()))
    assert all((starts[number] < 300) == (min(places[number]) > 300) for number in (1, 2))


def test_results_keep_order_and_content_of_the_detections() -> None:
    tracker = Tracker(score_threshold=0.4)
    detections = frame((box_at(300, 100), 0.9, 1), (box_at(100, 100), 0.7, 0), (box_at(500, 100), 0.5, 0))
    for number in range(4):
        result = tracker.update(detections, time=number / 10)
    np.testing.assert_array_equal(result.boxes, detections.boxes)
    np.testing.assert_array_equal(result.scores, detections.scores)
    assert result.names == ["car", "person", "person"]
    assert result.track_ids is not None
    assert result.track_ids.tolist() == [1, 2, 3]
    assert detections.track_ids is None


def test_a_run_can_be_repeated_bit_for_bit() -> None:
    runs = [run(walkers(10, seed=3)) for _ in range(2)]
    assert ids(runs[0]) == ids(runs[1])


def test_a_long_video_needs_no_more_memory() -> None:
    """Objects that come and go leave nothing behind; `_tracks` holds only those of the last 1.5 seconds."""
    tracker = Tracker(score_threshold=0.4)
    for number in range(600):
        tracker.update(frame((box_at(100 * (number // 20), 100), 0.8, 0)), time=number / 10)
    assert len(tracker._tracks) <= 3


@pytest.mark.parametrize("times", [(0.0, 0.0), (1.0, 0.5), (0.0, float("nan"))], ids=["equal", "back", "nan"])
def test_time_must_grow(times: tuple[float, float]) -> None:
    tracker = Tracker(score_threshold=0.4)
    tracker.update(frame(), time=times[0])
    with pytest.raises(InputError, match="time must be"):
        tracker.update(frame(), time=times[1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"score_threshold": 1.5}, "score_threshold must be from 0 to 1"),
        ({"score_threshold": 0.5, "buffer": -1}, "buffer must be at least 0 seconds"),
        ({"score_threshold": 0.5, "buffer": "long"}, "buffer must be a number"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Tracker(**settings)


def test_frames_without_objects_have_ids_of_length_0() -> None:
    result = Tracker(score_threshold=0.4).update(frame(), time=0)
    assert result.track_ids is not None
    assert result.track_ids.shape == (0,)
