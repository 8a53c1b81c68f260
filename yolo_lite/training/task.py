"""What a training run is: what was asked for, who is told of it, and what a task brings to the loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt
from torch import nn
from torch.utils.data import Dataset

from yolo_lite.checkpoints.transfer import Start
from yolo_lite.config.schema import Config, DataConfig
from yolo_lite.draw.boxes import SheetPicture
from yolo_lite.errors import InputError, short
from yolo_lite.training import loop


@dataclass(frozen=True)
class Run:
    """A training run with every setting worked out; kept in last.pt, so that `--resume` needs nothing more.

    Attributes:
        data: where the pictures are.
        config: every setting.
        weights: what it starts from; None: from scratch.
        classes: only these of the data.
        fraction: this part of the training pictures.
        per_class: so many pictures of each class at most, of a classifier; 0: all.
        split: how a folder without splits is divided, of a classifier.
        difficult: PASCAL VOC's difficult objects count as others do.
        unlabelled: a folder of pictures of which only a teacher says what they show.
        crops: the classes are those of a detection set's objects, cut out, and its background, for a backbone to learn.
        minutes: that it was to take, by which `train.epochs` and `train.steps_per_epoch` were worked out; 0: none given.
    """

    data: str
    config: Config = Config()  # noqa: RUF009 - frozen
    weights: str | None = None
    classes: tuple[str, ...] | None = None
    fraction: float = 1.0
    per_class: int = 0
    split: str = "70/15/15"
    difficult: bool = False
    minutes: float = 0.0
    unlabelled: str | None = None
    crops: bool = False

    def images(self) -> DataConfig:
        """Return which images it is to use."""
        return DataConfig(
            path=str(self.data),
            classes=tuple(self.classes or ()),
            fraction=self.fraction,
            per_class=self.per_class,
            shares=self.split,
            difficult=self.difficult,
        )

    def to_plain(self) -> dict[str, Any]:
        """Return all but the configuration as plain values."""
        plain = {**asdict(self), "classes": list(self.classes or ())}
        del plain["config"]
        return plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any], config: Config) -> Run:
        """Build what `to_plain` took apart.

        Raises:
            InputError: for a setting that is unknown or of the wrong type.
        """
        classes = plain.get("classes")
        if not isinstance(classes, list | tuple):
            raise InputError(f"the run that is to be resumed has the setting classes: {short(classes)}")
        values = {**plain, "config": config, "classes": tuple(classes) or None}
        types = get_type_hints(cls)
        for name, value in values.items():
            if name not in types or not _is_of(value, types[name]):
                raise InputError(f"the run that is to be resumed has the setting {short(name)}: {short(value)}")
        if "data" not in values:
            raise InputError("the run that is to be resumed names no data")
        return cls(**values)


def _is_of(value: Any, kind: Any) -> bool:
    """Say whether a value is of a type such as str, int | None or tuple[str, ...]."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is tuple:
        return isinstance(value, tuple) and all(isinstance(one, inner[0]) for one in value)
    if inner:
        return any(_is_of(value, one) for one in inner)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return isinstance(value, kind) and isinstance(value, bool) == (kind is bool)


@dataclass(frozen=True)
class Listener:
    """How a run tells of itself: lines of text, a report after each step and each epoch, and of each picture that is read
    into memory before the first: how many are, of how many."""

    say: Callable[[str], None] = lambda line: None
    on_step: Callable[[loop.StepReport], None] = lambda report: None
    on_epoch: Callable[[Mapping[str, float], bool], None] = lambda row, best: None
    on_picture: Callable[[int, int], None] = lambda done, total: None


class Task(loop.Task, Protocol):
    """What a run asks of a task besides what the loop does."""

    def samples(self, dataset: Dataset[Any]) -> list[SheetPicture]:
        """Return training inputs with their targets, to be looked at."""

    def predictions(self, model: nn.Module) -> list[SheetPicture]:
        """Return validation inputs with what a model in evaluation mode says of them."""


class Prepared(NamedTuple):
    """Everything of a run that depends on its task."""

    task: Task
    model: nn.Module
    dataset: Dataset[Any]
    collate: Callable[[Sequence[Any]], Any] | None
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    about: dict[str, Any]  # of the data, for the checkpoint: summaries and fingerprints
    repeats: npt.NDArray[np.float64] | None  # how often each sample is to be shown in an epoch; None: once
    start: Start | None  # what the network took from the weights that training starts from


_SHEET = 16  # pictures


def spread(total: int) -> list[int]:
    """Return positions of at most 16 among so many, evenly spread: the pictures of a sheet."""
    return [i * total // min(_SHEET, total) for i in range(min(_SHEET, total))]


def strong_epochs(config: Config) -> int:
    """Return how many epochs, from the start, are augmented in full."""
    return round(config.train.epochs * (1 - config.augment.off_last))
