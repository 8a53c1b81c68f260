"""The two parts of a run beside its configuration: a task, and a listener that receives its reports."""

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
from yolo_lite.ranks import Ranks


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
    """Receives the reports of a run.

    Attributes:
        say: takes a line of text.
        on_step: takes a report after each step.
        on_epoch: takes the numbers of each finished epoch, and whether it is the best so far.
        on_image: takes the number of images read before the first epoch, and their total.
        began: when the command began, by time.perf_counter: a time limit counts from there. None: when training is called.
    """

    say: Callable[[str], None] = lambda line: None
    on_step: Callable[[StepReport], None] = lambda report: None
    on_epoch: Callable[[Mapping[str, float], bool], None] = lambda row, best: None
    on_image: Callable[[int, int], None] = lambda done, total: None
    began: float | None = None


class Objective(Protocol):
    """What the loop needs of a task."""

    metric: str  # the number of `evaluate` that chooses the best epoch: higher is better

    def loss(self, model: nn.Module, batch: Any, *, progress: float) -> dict[str, Tensor]:
        """Return the weighted parts of the loss, whose sum is minimised. `progress` is the fraction of steps done."""

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Return named numbers for a model in evaluation mode."""

    def training_numbers(self) -> dict[str, float]:
        """Return named numbers over the batches that `loss` took since the last call, and reset them."""

    def name_samples(self, batch: Any) -> list[str]:
        """Return names of the samples of a batch, for error messages."""


class Task(Objective, Protocol):
    """Data, network and starting weights of a training. The entries of recipe.TASKS build one from a configuration."""

    config: Config  # of the run, with what the task has chosen
    model: nn.Module
    collate: Callable[[Sequence[Any]], Any] | None  # turns samples into a batch; None: into a Batch
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    about: dict[str, Any]  # summaries and fingerprints of the data, for the checkpoint
    repeats: npt.NDArray[np.float64] | None  # how often each sample appears in an epoch; None: once
    start: Start | None  # what the network took over from the starting weights
    val_images: int  # number of validation images
    ranks: Ranks  # the processes that train together

    @property
    def dataset(self) -> Dataset[Any]:
        """Training samples, indexed by (epoch, index)."""

    def advice(self, rows: Sequence[Mapping[str, float]]) -> str:
        """Return a sentence that says what would help most after these epochs; empty if nothing stands out."""

    def adopt(self, config: Config) -> None:
        """Take over a configuration in which values of the training were chosen, such as the number of epochs."""

    def check(self) -> None:
        """Raise InputError for labels that are surely wrong."""

    def overfit_batch(self, count: int) -> Any:
        """Return a batch of `count` training images without augmentation, images with objects first."""

    def plain(self) -> Objective:
        """Return the task without random changes to a batch, for this process alone."""

    def samples(self) -> list[SheetImage]:
        """Return training inputs with their targets, for a sheet."""

    def predictions(self, model: nn.Module) -> list[SheetImage]:
        """Return validation images with the predictions of a model in evaluation mode, for a sheet."""


def spread(total: int, most: int) -> list[int]:
    """Return at most `most` positions of `total`, evenly spread.

    Example:
        >>> spread(10, 4), spread(2, 4)
        ([0, 2, 5, 7], [0, 1])
    """
    count = min(most, total)
    return [i * total // count for i in range(count)]


def scored_positions(config: Config, total: int) -> list[int] | None:
    """Return which of `total` validation images evaluations during the run score; None for all.

    Example:
        >>> from yolo_lite.config.schema import TrainConfig
        >>> scored_positions(Config(train=TrainConfig(evaluate_images=3)), 10), scored_positions(Config(), 10)
        ([2, 4, 6], None)
    """
    count = config.train.evaluate_images
    if not 0 < count < total:
        return None
    return sorted(np.random.default_rng(config.train.seed).permutation(total)[:count].tolist())


def strong_epochs(config: Config) -> int:
    """Return the number of epochs, from the start, with full augmentation.

    Example:
        >>> from yolo_lite.config.schema import AugmentConfig, TrainConfig
        >>> strong_epochs(Config(augment=AugmentConfig(off_last=0.2), train=TrainConfig(epochs=10)))
        8
    """
    return round(config.train.epochs * (1 - config.augment.off_last))
