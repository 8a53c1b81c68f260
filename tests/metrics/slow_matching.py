"""Matching written with lists and loops: an oracle for errors, confusion, curves and calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.metrics.random_sets import CATEGORY_IDS, box_iou, inside
from yolo_lite.structures.datasets import DetectionSet


@dataclass(eq=False)
class Thing:
    """An object, or a crowd."""

    label: int
    box: list[float]
    crowd: bool
    position: int  # among the objects of all images
    taken: Guess | None = None


@dataclass(eq=False)
class Guess:
    """A detection."""

    image_id: int
    number: int  # the row
    label: int
    box: list[float]
    score: float
    things: list[Thing] = field(default_factory=list)  # in its image, crowds included
    match: Thing | None = None
    ignored: bool = False

    @property
    def rank(self) -> tuple[float, int, int]:
        """Return what detections are sorted by."""
        return -self.score, self.image_id, self.number

    def best(self, *, own: bool) -> tuple[float, Thing | None]:
        """Return the IoU with the object of its own class, or of another, that it overlaps most, and that object."""
        best: tuple[float, Thing | None] = (0.0, None)
        for thing in self.things:
            iou = box_iou(self.box, thing.box)
            if not thing.crowd and (thing.label == self.label) == own and iou > 0 and iou >= best[0]:
                best = iou, thing
        return best


def slow_match(data: DetectionSet, rows: Sequence[Mapping[str, Any]]) -> tuple[list[Guess], list[Thing]]:
    """Return all detections and objects that count, matched at an IoU of 0.5; crowds are left out."""
    guesses, things, position = [], [], 0
    for record in data.records:
        here = []
        for box, label, crowd in zip(record.boxes.tolist(), record.labels.tolist(), record.crowd.tolist()):
            if label not in record.unlabelled:
                here.append(Thing(label, box, crowd, position))
            position += 1
        things += [thing for thing in here if not thing.crowd]
        for label in range(len(CATEGORY_IDS)):
            if label not in record.unlabelled:
                guesses += _match_class(_guesses(record.image_id, label, rows, here))
    return guesses, things


def _guesses(image_id: int, label: int, rows: Sequence[Mapping[str, Any]], things: list[Thing]) -> list[Guess]:
    guesses = []
    for number, row in enumerate(rows):
        if row["image_id"] == image_id and row["category_id"] == CATEGORY_IDS[label]:
            x, y, width, height = row["bbox"]
            box = [x, y, x + width, y + height]
            guesses.append(Guess(image_id, number, label, box=box, score=row["score"], things=things))
    return sorted(guesses, key=lambda guess: guess.rank)[:100]


def _match_class(guesses: list[Guess]) -> list[Guess]:
    for guess in guesses:
        best = 0.5
        for thing in guess.things:
            if thing.label == guess.label and not thing.crowd and not thing.taken:
                iou = box_iou(guess.box, thing.box)
                if iou >= best:
                    best, guess.match = iou, thing
        if guess.match:
            guess.match.taken = guess
        else:
            crowds = [thing for thing in guess.things if thing.crowd and thing.label == guess.label]
            guess.ignored = any(inside(guess.box, crowd.box) >= 0.5 for crowd in crowds)
    return guesses
