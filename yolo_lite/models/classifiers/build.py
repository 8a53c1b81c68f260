"""A classifier: pixels are normalised, then features, then the last layer; and how one is built by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from yolo_lite.config.schema import ClassifierConfig, Config, ModelConfig
from yolo_lite.errors import InputError, counted, reason, suggest
from yolo_lite.models.blocks import fuse
from yolo_lite.models.build import BACKBONES, NORMS
from yolo_lite.models.classifiers.course import COURSE, Task, TooSmall, imagenet_weights, shape_after
from yolo_lite.models.limits import MOST_VALUES, AtMost

LOSSES = ("cross_entropy", "mse", "binary", "margin")
DETECTORS = {"yolo_lite-n-cls": "csp", "yolo_lite-shuffle-cls": "shuffle"}  # the detectors' own backbones
CLASSIFIERS = (*COURSE, *DETECTORS)
_LARGEST = 2048  # pixels along a side, for the networks that are tried on one image while they are built


class ClassifierNet(nn.Module):
    """Features and a last layer, fed with pixels.

    Args:
        backbone: makes a vector of an image; a detector's makes maps of several levels, of which the coarsest is taken.
        head: makes outputs of it.
        mean: of the channels in 0..255, subtracted from the pixels.
        std: of the channels; the pixels are then divided by it.
        loss: what the outputs are trained with, which says how they become scores.
        frozen: leave the backbone as it is.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, backbone: nn.Module, head: nn.Module, *, mean: Tensor, std: Tensor, loss: str, frozen: bool = False
    ) -> None:
        super().__init__()
        self.backbone, self.head, self.loss, self.frozen = backbone, head, loss, frozen
        self.register_buffer("mean", mean.view(1, -1, 1, 1))
        self.register_buffer("std", std.view(1, -1, 1, 1))
        if frozen:
            backbone.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> ClassifierNet:
        """As every module; a frozen backbone stays in evaluation mode, so that its norms do not move either."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Map uint8 or float [B, channels, H, W], 0..255, to outputs [B, classes], or [B, 1] with the loss "binary"."""
        features = self.backbone((images.to(self.mean.dtype) - self.mean) / self.std)
        outputs: Tensor = self.head(features[-1] if isinstance(features, list) else features)
        return outputs

    def scores(self, outputs: Tensor) -> Tensor:
        """Return what the outputs say of each class: float32 [B, classes], from 0 to 1, summing to 1."""
        outputs = outputs.float()
        if self.loss == "binary":
            second = outputs.sigmoid()
            return torch.cat([1 - second, second], 1)
        if self.loss == "margin":
            return outputs / outputs.sum(1, keepdim=True)
        return outputs.softmax(1)


def build_classifier(config: Config, classes: int, *, seed: int = 0) -> ClassifierNet:
    """Build the network that the configuration names, with weights drawn by the seed.

    The global random state is left as it was.

    Raises:
        InputError: for a name or setting that does not exist, an input that is too small for the network, or a network
            that is too large.
    """
    if config.classifier.model in DETECTORS:
        outline_classifier(config, classes)
    with torch.random.fork_rng(devices=[]), AtMost():
        torch.manual_seed(seed)
        return _assemble(config, classes, INITS.get(config.classifier.init))


def outline_classifier(config: Config, classes: int, *, values: int = MOST_VALUES) -> ClassifierNet:
    """Build the network with at most so many values, which are whatever lies in memory, to be filled from a file.

    Raises:
        InputError: as build_classifier does.
    """
    with AtMost(values, draw=False):
        return _assemble(config, classes, None)


def _assemble(config: Config, classes: int, init: Callable[[nn.Module], None] | None) -> ClassifierNet:
    """Put the parts together, after a look at the settings; `init` draws their weights, None leaves them."""
    settings = config.classifier
    if settings.model not in CLASSIFIERS:
        raise InputError(
            f"classifier.model must be one of {', '.join(CLASSIFIERS)}, got {settings.model!r}; "
            f"{suggest(settings.model, CLASSIFIERS)}"
        )
    if settings.loss not in LOSSES:
        raise InputError(f"classifier.loss must be one of {', '.join(LOSSES)}, got {settings.loss!r}")
    if settings.init not in INITS:
        raise InputError(f"classifier.init must be one of {', '.join(INITS)}, got {settings.init!r}")
    if settings.loss == "binary" and classes != 2:
        raise InputError(f"classifier.loss binary is for two classes, the data has {classes}; use cross_entropy")
    if (settings.loss == "margin") != (settings.model == "capsule"):
        raise InputError(
            f"classifier.loss margin and the model capsule go together, got {settings.loss} and {settings.model}"
        )
    outputs = 1 if settings.loss == "binary" else classes
    task = Task(config.input.channels, config.input.image_size, outputs)
    backbone, head = _detector_parts(config, task) if settings.model in DETECTORS else _course_parts(settings, task)
    pretrained = settings.model == "resnet50" and imagenet_weights() is not None and task.channels == 3
    if init:
        for part in (head,) if pretrained else (backbone, head):
            part.apply(init)
    if settings.model in DETECTORS and config.model.norm == "none":
        fuse(backbone)
    channels = slice(0, task.channels)
    mean, std = torch.tensor(config.input.mean)[channels], torch.tensor(config.input.std)[channels]
    return ClassifierNet(backbone, head, mean=mean, std=std, loss=settings.loss, frozen=settings.freeze)


def _course_parts(settings: ClassifierConfig, task: Task) -> tuple[nn.Module, nn.Module]:
    build = COURSE[settings.model]
    known = inspect.signature(build).parameters
    chosen: dict[str, object] = {}
    if settings.dropout:
        chosen["dropout"] = settings.dropout
    if settings.batch_norm:
        chosen["batch_norm"] = True
    for name in chosen:
        if name not in known:
            raise InputError(f"classifier.{name} cannot be chosen for {settings.model}")
    places = len(known["dropout"].default) if "dropout" in known else 0
    if settings.dropout and len(settings.dropout) != places:
        raise InputError(
            f"classifier.dropout of {settings.model} has {counted(places, 'place')}, got {list(settings.dropout)}"
        )
    if max(task.hw) > _LARGEST:
        raise InputError(f"{settings.model} takes images of at most {_LARGEST} pixels along a side, got {max(task.hw)}")
    try:
        features, last = build(task, **chosen)
        shape_after(features, task)
        return features, last
    except TooSmall as error:  # a kernel or pool that is larger than what is left of the image
        raise InputError(
            f"{task.hw[0]} x {task.hw[1]} is too small for {settings.model}; use a larger --image-size"
        ) from error


def _detector_parts(config: Config, task: Task) -> tuple[nn.Module, nn.Module]:
    settings = config.classifier
    if config.model.norm not in NORMS:
        raise InputError(f"model.norm must be one of {', '.join(NORMS)}, got {config.model.norm!r}")
    if settings.batch_norm or len(settings.dropout) > 1:
        raise InputError(f"{settings.model} has batch normalisation already, and one place for dropout")
    if config.model.backbone != DETECTORS[settings.model]:
        raise InputError(
            f"{settings.model} has the backbone {DETECTORS[settings.model]!r}, got model.backbone {config.model.backbone!r}"
        )
    if task.channels != 3:
        raise InputError(f"{settings.model} takes colour images: input.channels must be 3, got {task.channels}")
    backbone = _backbone(config.model)
    dropout = nn.Dropout(settings.dropout[0] if settings.dropout else 0.0)
    return backbone, nn.Sequential(
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        dropout,
        nn.Linear(backbone.channels[-1], task.outputs),
    )


def _backbone(model: ModelConfig) -> Any:
    try:
        return BACKBONES[model.backbone](model)
    except ValueError as error:
        raise InputError(f"model.{reason(error)}") from error


def _he(module: nn.Module) -> None:
    _initialise(module, lambda weight: nn.init.kaiming_normal_(weight, nonlinearity="relu"))


def _glorot(module: nn.Module) -> None:
    _initialise(module, nn.init.xavier_uniform_)


def _uniform(module: nn.Module) -> None:
    _initialise(module, lambda weight: nn.init.uniform_(weight, -0.05, 0.05))


def _initialise(module: nn.Module, draw: Callable[[Tensor], object]) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        draw(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


INITS: dict[str, Callable[[nn.Module], None]] = {
    "he": _he,  # normal, variance 2 / inputs (He et al. 2015)
    "glorot": _glorot,  # uniform, variance 2 / (inputs + outputs) (Glorot and Bengio 2010)
    "uniform": _uniform,  # from -0.05 to 0.05
    "torch": lambda module: None,  # as torch's layers draw them
}
