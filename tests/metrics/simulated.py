"""Detectors that exist only as rankings: equally good, on images of varying difficulty."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from yolo_lite.metrics.resampling import RankedClass, resample

IOUS = np.arange(10) * 0.05 + 0.5


def simulate(seed: int, *, images: int, classes: int, rate: float, detectors: int) -> list[list[RankedClass]]:
    """Draw images of varying difficulty, and the detections of several equally good detectors in them."""
    generator = np.random.default_rng(seed)
    difficulty = generator.normal(0, 1, images)
    found: list[list[RankedClass]] = [[] for _ in range(detectors)]
    for label in range(classes):
        counts = generator.poisson(rate * np.exp(generator.normal(0, 0.7, images) - 0.245))
        image_of = np.repeat(np.arange(images), counts)
        clear = generator.normal(0, 1, len(image_of)) + 0.6 * difficulty[image_of] + 0.1 * label
        for ranked in found:
            strength = clear + generator.normal(0, 0.7, len(clear))
            hit = generator.random(len(clear)) < 1 / (1 + np.exp(-strength - 1))
            ious = 0.75 + 0.08 * strength + generator.normal(0, 0.1, len(clear))
            scores = strength + generator.normal(0, 0.7, len(clear))
            alarms = np.repeat(np.arange(images), generator.poisson(rate + 0.02, images))
            false_scores = generator.normal(-1.2, 1, len(alarms)) + 0.3 * difficulty[alarms]
            where = np.concatenate([image_of[hit], alarms])
            all_scores = np.concatenate([scores[hit], false_scores])
            overlap = np.concatenate([ious[hit], np.zeros(len(alarms))])
            order = np.argsort(-all_scores, kind="stable")
            right = overlap[order] >= IOUS[:, None]
            counted = np.ones_like(right)
            ranked.append(RankedClass(where[order], all_scores[order], right=right, counted=counted, objects=counts))
    return found


def whole_ap(classes: Sequence[RankedClass], images: int) -> float:
    return float(resample(classes, np.ones((images, 1), np.int64)).overall()["AP"][0])
