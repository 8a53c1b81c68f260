"""How often 95 % intervals hold the true AP in simulation: random halves beside the bootstrap's percentiles.

python -m tests.metrics.measure_intervals IMAGES CLASSES OBJECTS_OF_A_CLASS_IN_AN_IMAGE SETS
"""

from __future__ import annotations

import sys

import numpy as np

from tests.metrics.simulated import simulate, whole_ap
from yolo_lite.metrics.resampling import draw_halves, images_with_objects, interval, resample

_POPULATION = 40_000  # images, whose AP counts as the truth
_RESAMPLES = 200


def main(images: int, classes: int, rate: float, sets: int) -> None:
    """Print the two fractions."""
    [population] = simulate(10**6, images=_POPULATION, classes=classes, rate=rate, detectors=1)
    truth = whole_ap(population, _POPULATION)
    generator = np.random.default_rng(0)
    drawn = generator.multinomial(images, np.full(images, 1 / images), _RESAMPLES).T  # with replacement
    halves, held, known = draw_halves(images, _RESAMPLES), np.zeros(2, int), 0
    for seed in range(sets):
        [ranked] = simulate(seed, images=images, classes=classes, rate=rate, detectors=1)
        if images_with_objects(ranked) < 2:
            continue  # such a set has no interval
        known += 1
        low, high = interval(whole_ap(ranked, images), resample(ranked, halves).overall()["AP"], images=images)
        percentiles = np.percentile(resample(ranked, drawn).overall()["AP"], [2.5, 97.5])
        held += [low <= truth <= high, percentiles[0] <= truth <= percentiles[1]]
    fractions = held / known
    print(f"{known} sets of {images} images, {classes} classes, {rate:g} objects of each in an image, AP {truth:.3f}:")
    print(f"the interval from halves holds the truth in {fractions[0]:.1%}, the bootstrap's in {fractions[1]:.1%}")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
