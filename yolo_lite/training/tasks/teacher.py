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

_WARM, _TIMED = 5, 20  # steps before its share of the time is measured, and while it is


class Teacher:
    """A detector with its weights, asked for the classes that the student knows as well.

    It looks at the very inputs of the student, augmented as they are, so nothing of it can be kept from epoch to epoch.

    Args:
        weights: a file or the bare name of a shipped one.
        class_names: of the student, matched by name.
        device: where both compute.
        say: is told once how much longer steps take with it.

    Raises:
        InputError: where it knows no class of the student.
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
        self.known = [name for name in class_names if name in checkpoint.class_names]
        if not self.known:
            raise InputError(
                f"the teacher {source.name} knows none of the classes {some(list(class_names))}, but "
                f"{some(list(checkpoint.class_names))}"
            )
        self.mine = torch.tensor([class_names.index(name) for name in self.known], device=device)
        self.theirs = torch.tensor([checkpoint.class_names.index(name) for name in self.known], device=device)
        self._cells: dict[tuple[int, ...], Tensor] = {}
        self._say = say
        self._times: list[tuple[float, float]] = []  # begin and end of the first lessons, in seconds

    def __call__(self, images: Tensor, student: RawPredictions) -> Lesson:
        """Look at inputs, uint8 [B, 3, H, W], and say what there is at each of the student's points."""
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
    """Say how much longer steps take with lessons that began and ended at these times, one in each step."""
    shares = [(ended - began) / (following - began) for (began, ended), (following, _) in zip(times, times[1:])]
    share = statistics.median(shares)
    return f"the teacher takes {share:.0%} of the time: a step is {1 / (1 - share):.2f} times as long as without it"


def describe(teacher: Teacher, weights: str, *, class_names: Sequence[str]) -> str:
    """Say who teaches what."""
    left = [name for name in class_names if name not in teacher.known]
    silent = f"; it does not know {some(left)}" if left else ""
    return f"taught by {Path(weights).name}: {some(teacher.known)}{silent}"
