"""A Kalman filter for moving boxes: constant velocity, time in seconds, all boxes at once."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# Standard deviations in sides of the box, a side being the square root of its area.
_MEASURED = 0.05  # of a detected coordinate; the value of DeepSORT (Wojke et al. 2017)
_FIRST_SPEED = 2.0  # of the unknown velocity of a new box, a second; DeepSORT has 1.9 at 30 frames/s
_ACCELERATION = 3.0  # by which a velocity changes within a second; DeepSORT has 1.03 at 30 frames/s


class Motion(NamedTuple):
    """What is known about T moving boxes at one time.

    Centre x, centre y, width and height do not depend on each other, so each has a filter with two states.

    Attributes:
        values: [T, 4] centre x, centre y, width and height, pixels.
        speeds: [T, 4] their velocities, pixels a second.
        value_variances: [T, 4].
        covariances: [T, 4], of each value with its velocity.
        speed_variances: [T, 4].
        sides: [T], the square root of the area of the last detected box, pixels; all uncertainty is in units of it.
    """

    values: Floats
    speeds: Floats
    value_variances: Floats
    covariances: Floats
    speed_variances: Floats
    sides: Floats

    def boxes(self) -> Floats:
        """Return the expected boxes, [T, 4] xyxy in pixels, at least one pixel wide and high."""
        half = np.maximum(self.values[:, 2:], 1.0) / 2
        return np.concatenate([self.values[:, :2] - half, self.values[:, :2] + half], 1)

    def pick(self, index: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Motion:
        """Return some of the boxes."""
        return Motion(*(part[index] for part in self))


def start(boxes: npt.ArrayLike) -> Motion:
    """Return what the first detection of each box tells: its place, and that its velocity is unknown.

    Args:
        boxes: [T, 4] xyxy, pixels.

    Example:
        >>> start([[10, 10, 30, 50]]).values.tolist()
        [[20.0, 30.0, 20.0, 40.0]]
    """
    values, sides = _measured(boxes)
    spread = np.broadcast_to(sides[:, None], values.shape)
    zeros = np.zeros_like(values)
    return Motion(values, zeros, (_MEASURED * spread) ** 2, zeros, (_FIRST_SPEED * spread) ** 2, sides)


def predict(motion: Motion, seconds: float) -> Motion:
    """Return what is known some seconds later; one long step gives the same as several short ones.

    Example:
        >>> moving = start([[0, 0, 20, 20]])._replace(speeds=np.array([[50.0, 0, 0, 0]]))
        >>> predict(moving, 0.5).boxes().tolist()
        [[25.0, 0.0, 45.0, 20.0]]

    Source: Bar-Shalom et al. 2001, "Estimation with Applications to Tracking and Navigation", 6.2.2 (continuous white
    noise acceleration).
    """
    noise = (_ACCELERATION * motion.sides[:, None]) ** 2
    return motion._replace(
        values=motion.values + seconds * motion.speeds,
        value_variances=motion.value_variances
        + 2 * seconds * motion.covariances
        + seconds**2 * motion.speed_variances
        + noise * seconds**3 / 3,
        covariances=motion.covariances + seconds * motion.speed_variances + noise * seconds**2 / 2,
        speed_variances=motion.speed_variances + noise * seconds,
    )


def correct(motion: Motion, boxes: npt.ArrayLike) -> Motion:
    """Return what is known after each box was detected, [T, 4] xyxy in pixels.

    Example:
        >>> seen = correct(predict(start([[0, 0, 20, 20]]), 0.1), [[4, 0, 24, 20]])
        >>> bool(seen.speeds[0, 0] > 30)  # pixels a second
        True
    """
    measured, sides = _measured(boxes)
    total = motion.value_variances + (_MEASURED * sides[:, None]) ** 2
    gain, speed_gain = motion.value_variances / total, motion.covariances / total
    surprise = measured - motion.values
    return Motion(
        motion.values + gain * surprise,
        motion.speeds + speed_gain * surprise,
        value_variances=(1 - gain) * motion.value_variances,
        covariances=(1 - gain) * motion.covariances,
        speed_variances=motion.speed_variances - speed_gain * motion.covariances,
        sides=sides,
    )


def _measured(boxes: npt.ArrayLike) -> tuple[Floats, Floats]:
    """Return centres and sizes [T, 4] of xyxy boxes, and the square roots of their areas [T], at least one pixel."""
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)
    sizes = corners[:, 2:] - corners[:, :2]
    values = np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, sizes], 1)
    return values, np.sqrt(np.maximum(sizes.prod(1), 1.0))
