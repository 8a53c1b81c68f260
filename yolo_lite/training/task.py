"""What a run consists of besides its configuration: a task, and a listener who hears of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn
from torch.utils.data import Dataset

from yolo_lite.checkpoints.transfer import Start
from yolo_lite.config.schema import Config
from yolo_lite.draw.sheets import SheetImage


@dataclass(frozen=True)
class StepReport:
    """What a progress bar shows after each step; epochs are counted from 0."""

    epoch: int
    epochs: int
    step: int
    steps: int  # of an epoch
    losses: Mapping[str, float]  # means over the epoch so far
    images_per_second: float
    parts: int  # micro-batches of a batch


@dataclass(frozen=True)
class Listener:
    """How a run tells of itself.

    Attributes:
        say: takes a line of text.
        on_step: takes a report after each step.
        on_epoch: takes the numbers of each finished epoch, and whether it is the best so far.
        on_image: takes how many images are read before the first epoch, and of how many.
    """

    say: Callable[[str], None] = lambda line: None
    on_step: Callable[[StepReport], None] = lambda report: None
    on_epoch: Callable[[Mapping[str, float], bool], None] = lambda row, best: None
    on_image: Callable[[int, int], None] = lambda done, total: None


class Objective(Protocol):
    """What the loop asks of a task."""

    metric: str  # the name, among those that `evaluate` returns, by which the best epoch is chosen: higher is better

    def loss(self, model: nn.Module, batch: Any, *, progress: float) -> dict[str, Tensor]:
        """Return the weighted parts of the loss, whose sum is minimised; progress is the fraction of steps done."""

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return named numbers of a model in evaluation mode."""

    def training_numbers(self) -> dict[str, float]:
        """Return named numbers over the batches that `loss` took since the last call, and start anew."""

    def name_samples(self, batch: Any) -> list[str]:
        """Name the samples of a batch, for error messages."""


class Task(Objective, Protocol):
    """What is trained: data, network and start; the entries of recipe.TASKS make one from a configuration."""

    model: nn.Module
    collate: Callable[[Sequence[Any]], Any] | None  # makes a batch of samples; None: a Batch
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    about: dict[str, Any]  # of the data, for the checkpoint: summaries and fingerprints
    repeats: npt.NDArray[np.float64] | None  # how often each sample is to be shown in an epoch; None: once
    start: Start | None  # what the network took from the weights that training starts from

    @property
    def dataset(self) -> Dataset[Any]:
        """Training samples by (epoch, index)."""

    def plan_epochs(self, config: Config) -> None:
        """Augment as a configuration with another number of epochs asks for."""

    def check(self) -> None:
        """Raise InputError for labels that cannot be meant as they are."""

    def overfit_batch(self, count: int) -> Any:
        """Return a batch of so many training images without augmentation, those with objects first."""

    def plain(self) -> Objective:
        """Return the task without random changes to a batch."""

    def samples(self) -> list[SheetImage]:
        """Return training inputs with their targets, to be looked at."""

    def predictions(self, model: nn.Module) -> list[SheetImage]:
        """Return validation inputs with what a model in evaluation mode says of them."""


def spread(total: int, most: int) -> list[int]:
    """Return at most `most` positions of `total`, evenly spread.

    Example:
        >>> spread(10, 4), spread(2, 4)
        ([0, 2, 5, 7], [0, 1])
    """
    count = min(most, total)
    return [i * total // count for i in range(count)]


def strong_epochs(config: Config) -> int:
    """Return how many epochs, from the start, are augmented in full."""
    return round(config.train.epochs * (1 - config.augment.off_last))
