"""A classifier (it normalises pixels, extracts features, applies the last layer), and the function that builds one."""

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
_LARGEST = 2048  # pixels along a side, for networks whose features are computed once on an image while they are built


class ClassifierNet(nn.Module):
    """A classifier: features and a last layer, applied to pixels.

    Args:
        backbone: turns an image into a vector. A detector's backbone returns several maps; the coarsest is used.
        head: turns the vector or map into outputs.
        mean: of the channels in 0..255, subtracted from the pixels.
        std: of the channels; the pixels are then divided by it.
        loss: the loss that trains the outputs; it decides how they become scores.
        frozen: do not train the backbone.
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
        """Switch to training or evaluation mode; a frozen backbone, with its statistics, stays in evaluation mode."""
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
        """Turn outputs into scores of the classes: float32 [B, classes], from 0 to 1, with a sum of 1.

        Example:
            >>> nothing, one = nn.Identity(), torch.ones(1)
            >>> ClassifierNet(nothing, nothing, mean=one, std=one, loss="binary").scores(torch.zeros(1, 1))
            tensor([[0.5000, 0.5000]])
        """
        outputs = outputs.float()
        if self.loss == "binary":
            second = outputs.sigmoid()
            return torch.cat([1 - second, second], 1)
        if self.loss == "margin":
            return outputs / outputs.sum(1, keepdim=True)
        return outputs.softmax(1)


def build_classifier(config: Config, classes: int, *, seed: int = 0) -> ClassifierNet:
    """Build the classifier that a configuration describes, with random weights that depend on the seed alone.

    The global random state does not change.

    Raises:
        InputError: if a name or setting does not exist, the input is too small for the network, or the network is too
            large.

    Example:
        >>> config = Config(classifier=ClassifierConfig(model="mnist_small"))
        >>> build_classifier(config, classes=10)(torch.zeros(1, 3, 28, 28)).shape
        torch.Size([1, 10])
    """
    if config.classifier.model in DETECTORS:
        outline_classifier(config, classes)
    with torch.random.fork_rng(devices=[]), AtMost():
        torch.manual_seed(seed)
        return _assemble(config, classes, INITS.get(config.classifier.init))


def outline_classifier(config: Config, classes: int, *, values: int = MOST_VALUES) -> ClassifierNet:
    """Build the classifier without setting its weights, for example to fill them from a file.

    Args:
        config: describes the network.
        classes: how many it distinguishes.
        values: the most values (weights, biases and statistics) that the network may have.

    Raises:
        InputError: as in build_classifier.

    Example:
        >>> outline_classifier(Config(classifier=ClassifierConfig(model="mlp")), 10, values=1000)
        Traceback (most recent call last):
        yolo_lite.errors.InputError: the network is too large: it has more than 1,000 values
    """
    with AtMost(values, draw=False):
        return _assemble(config, classes, None)


def _assemble(config: Config, classes: int, init: Callable[[nn.Module], None] | None) -> ClassifierNet:
    """Check the settings and put the parts together; `init` draws their weights, None leaves them as they are."""
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
        raise InputError(f"classifier.loss binary is for two classes, but the data has {classes}; use cross_entropy")
    if (settings.loss == "margin") != (settings.model == "capsule"):
        raise InputError(
            f"classifier.loss margin and the model capsule go together, got {settings.loss} and {settings.model}"
        )
    outputs = 1 if settings.loss == "binary" else classes
    task = Task(config.input.channels, config.input.image_size, outputs)
    backbone, head = _detector_parts(config, task) if settings.model in DETECTORS else _course_parts(settings, task)
    pretrained = imagenet_weights(settings.model) is not None and task.channels == 3
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
    except TooSmall as error:  # a kernel or pool is larger than what is left of the image
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
