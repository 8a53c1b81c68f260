"""A trained detector that helps another one learn (knowledge distillation, Hinton et al. 2015)."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from yolo_lite.checkpoints.checkpoint import build_from_checkpoint, load_checkpoint
from yolo_lite.device import now, place
from yolo_lite.errors import InputError, some
from yolo_lite.losses.distill import Lesson, same_cells
from yolo_lite.shipped import find_weights
from yolo_lite.structures.batches import RawPredictions
from yolo_lite.structures.class_names import describe_matches, match_names

_WARM, _TIMED = 5, 20  # steps before its fraction of the time is measured, and while it is


class Teacher:
    """A detector whose predictions a student learns from, for the classes that both know.

    It sees the student's own augmented inputs, so its answers cannot be cached from epoch to epoch.

    Args:
        weights: a file or the bare name of a shipped one.
        class_names: of the student, matched by name (see `match_names`).
        device: where both compute.
        say: receives one line: how much longer steps take with the teacher.

    Raises:
        InputError: if it knows no class of the student.
    """

    def __init__(
        self,
        weights: str,
        class_names: Sequence[str],
        *,
        device: torch.device,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        source = find_weights(weights)
        checkpoint = load_checkpoint(source)
        self.model = place(build_from_checkpoint(checkpoint, source), device).requires_grad_(False)
        self.matches = match_names(class_names, checkpoint.class_names)
        self.known = list(self.matches)
        if not self.known:
            raise InputError(
                f"the teacher {source.name} knows none of the classes {some(list(class_names))}, but "
                f"{some(list(checkpoint.class_names))}"
            )
        self.mine = torch.tensor([class_names.index(name) for name in self.known], device=device)
        self.theirs = torch.tensor(
            [checkpoint.class_names.index(self.matches[name]) for name in self.known], device=device
        )
        self._cells: dict[tuple[int, ...], Tensor] = {}
        self._say = say
        self._times: list[tuple[float, float]] = []  # begin and end of the first lessons, in seconds

    def __call__(self, images: Tensor, student: RawPredictions) -> Lesson:
        """Return the teacher's answer for inputs, uint8 [B, 3, H, W], at each of the student's points."""
        if len(self._times) > _WARM + _TIMED:
            return self._teach(images, student)
        began = now(images.device)
        lesson = self._teach(images, student)
        self._times.append((began, now(images.device)))
        if len(self._times) > _WARM + _TIMED:
            self._say(cost(self._times[_WARM:]))
        return lesson

    @torch.no_grad()
    def _teach(self, images: Tensor, student: RawPredictions) -> Lesson:
        raw: RawPredictions = self.model(images)
        size = (images.shape[-2], images.shape[-1])
        if size not in self._cells:
            self._cells[size] = same_cells(student, raw).to(images.device)
        cells = self._cells[size]  # [A, most]
        scores = raw.class_logits.float().sigmoid()[..., self.theirs]  # [B, their A, K]
        best = scores.amax(-1)[:, cells.clamp(min=0)].masked_fill(cells < 0, -1)  # [B, A, most]
        chosen = cells.clamp(min=0).expand_as(best).gather(-1, best.argmax(-1, keepdim=True)).squeeze(-1)  # [B, A]
        at = chosen.unsqueeze(-1).expand(-1, -1, len(self.known))
        return Lesson(
            scores.gather(1, at), self.model.decode(raw, chosen).float(), classes=self.mine, known=cells[:, 0] >= 0
        )


def cost(times: Sequence[tuple[float, float]]) -> str:
    """Return a line on how much longer steps take with a teacher.

    Args:
        times: begin and end of one lesson in each step, seconds.

    Example:
        >>> cost([(0.0, 0.25), (1.0, 1.25), (2.0, 2.25)])
        'the teacher takes 25% of the time: a step takes 1.33 times as long as without it'
    """
    fractions = [(ended - began) / (following - began) for (began, ended), (following, _) in zip(times, times[1:])]
    fraction = statistics.median(fractions)
    return f"the teacher takes {fraction:.0%} of the time: a step takes {1 / (1 - fraction):.2f} times as long as without it"


def describe(teacher: Teacher, weights: str, *, class_names: Sequence[str]) -> str:
    """Return a line that names the teacher and the classes it teaches.

    Args:
        teacher: the teacher.
        weights: its file or shipped name.
        class_names: of the student.

    Example:
        >>> teacher = Teacher("yolo_lite-pico-voc5", ["cat", "dog"], device=torch.device("cpu"))
        >>> describe(teacher, "yolo_lite-pico-voc5", class_names=["cat", "dog"])
        'taught by yolo_lite-pico-voc5: cat; it does not know dog'
    """
    left = [name for name in class_names if name not in teacher.known]
    silent = f"; it does not know {some(left)}" if left else ""
    return f"taught by {Path(weights).name}: {some(describe_matches(teacher.matches))}{silent}"
