"""The Kalman filter against the textbook's matrices."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from yolo_lite.tracking.kalman import Motion, correct, predict, start

Matrix = npt.NDArray[np.float64]
BOXES = np.array([[100.0, 50, 140, 150], [300, 200, 420, 260]])


class Textbook:
    """One box with eight states (four values, then their velocities) and whole matrices.

    Its noise is what the module promises: standard deviations of 0.05, 2 and 3 sides, the side being the square root of
    the area. The noise of acceleration is integrated numerically.
    """

    def __init__(self, box: Matrix) -> None:
        self.side = float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))
        self.state = np.concatenate([self.measured(box), np.zeros(4)])
        self.covariance = np.diag([(0.05 * self.side) ** 2] * 4 + [(2 * self.side) ** 2] * 4)

    @staticmethod
    def measured(box: Matrix) -> Matrix:
        return np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]])

    @staticmethod
    def transition(seconds: float) -> Matrix:
        step = np.eye(8)
        step[:4, 4:] = seconds * np.eye(4)
        return step

    def predict(self, seconds: float) -> None:
        parts = 2_000
        noise = np.zeros((8, 8))
        for ago in (np.arange(parts) + 0.5) * seconds / parts:  # of an acceleration so many seconds before the end
            effect = np.array([ago, 1.0])
            noise += np.kron(np.outer(effect, effect), np.eye(4)) * (3 * self.side) ** 2 * seconds / parts
        step = self.transition(seconds)
        self.state, self.covariance = step @ self.state, step @ self.covariance @ step.T + noise

    def correct(self, box: Matrix) -> None:
        self.side = float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))
        seen = np.eye(4, 8)
        total = seen @ self.covariance @ seen.T + (0.05 * self.side) ** 2 * np.eye(4)
        gain = self.covariance @ seen.T @ np.linalg.inv(total)
        self.state = self.state + gain @ (self.measured(box) - seen @ self.state)
        self.covariance = (np.eye(8) - gain @ seen) @ self.covariance


def check(motion: Motion, books: list[Textbook]) -> None:
    for row, book in enumerate(books):
        np.testing.assert_allclose([*motion.values[row], *motion.speeds[row]], book.state, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(motion.value_variances[row], np.diag(book.covariance)[:4], rtol=1e-6)
        np.testing.assert_allclose(motion.covariances[row], np.diag(book.covariance[:4, 4:]), rtol=1e-6)
        np.testing.assert_allclose(motion.speed_variances[row], np.diag(book.covariance)[4:], rtol=1e-6)


def test_the_filter_is_that_of_the_textbook() -> None:
    generator = np.random.default_rng(0)
    motion, books = start(BOXES), [Textbook(box) for box in BOXES]
    check(motion, books)
    for seconds in (0.1, 0.02, 0.7):
        motion = predict(motion, seconds)
        seen = BOXES + generator.normal(0, 10, BOXES.shape)
        for book in books:
            book.predict(seconds)
        check(motion, books)
        motion = correct(motion, seen)
        for book, box in zip(books, seen):
            book.correct(box)
        check(motion, books)


@pytest.mark.parametrize("seconds", [1 / 60, 0.2, 1.5])
def test_one_prediction_over_twice_the_time_equals_two(seconds: float) -> None:
    motion = correct(predict(start(BOXES), 0.1), BOXES + 5)
    for once, twice in zip(predict(motion, 2 * seconds), predict(predict(motion, seconds), seconds)):
        np.testing.assert_allclose(once, twice, rtol=1e-12)


@pytest.mark.parametrize("fps", [5, 10, 25, 60])
def test_the_velocity_of_an_even_motion_is_found(fps: int) -> None:
    """60 pixels a second to the right, 30 down, growing by 12 in width."""
    motion = start(BOXES[:1])
    for number in range(1, 2 * fps + 1):
        time = number / fps
        half = 6 * time
        motion = correct(predict(motion, 1 / fps), BOXES[:1] + np.array([60 - 6, 30, 60 + 6, 30]) * time)
        assert half >= 0
    np.testing.assert_allclose(motion.speeds[0], [60, 30, 12, 0], atol=1.5)


def test_uncertainty_grows_with_time_and_shrinks_with_a_detection() -> None:
    later = predict(start(BOXES), 0.5)
    assert (later.value_variances > start(BOXES).value_variances).all()
    assert (predict(later, 0.5).value_variances > later.value_variances).all()
    assert (correct(later, BOXES).value_variances < later.value_variances).all()


def test_boxes_are_never_turned_inside_out() -> None:
    shrinking = start(BOXES)._replace(speeds=np.array([[0, 0, -500.0, -500.0]] * 2))
    boxes = predict(shrinking, 3.0).boxes()
    np.testing.assert_allclose(boxes[:, 2:] - boxes[:, :2], 1.0)


def test_no_boxes_and_boxes_without_area_are_fine() -> None:
    assert predict(start(np.zeros((0, 4))), 0.1).boxes().shape == (0, 4)
    flat = correct(predict(start([[5, 5, 5, 9]]), 0.1), [[5, 5, 5, 9]])
    assert all(np.isfinite(part).all() for part in flat)
