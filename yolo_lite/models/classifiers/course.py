"""The networks of a course on convolutions, from a multilayer perceptron to ResNet, each in a few lines.

Every function returns (features, last). The first module turns images [B, channels, H, W] of normalised pixels into
vectors or maps, the second turns these into class outputs. `build.py` puts the two together.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from yolo_lite.errors import InputError, is_memory_full, reason
from yolo_lite.models.classifiers.capsule import Capsules, PrimaryCapsules
from yolo_lite.models.classifiers.efficientnet_lite import SCALES, EfficientNetLite, package_weights, read_package

Parts = tuple[nn.Module, nn.Module]


class Task(NamedTuple):
    """The images and outputs that a network is built for."""

    channels: int  # of the image
    hw: tuple[int, int]  # height and width of the image
    outputs: int  # one for each class, or a single one for two classes


class TooSmall(Exception):
    """Raised for an image that is too small for a network."""


def mlp(task: Task, dropout: Sequence[float] = (0.0,), *, batch_norm: bool = False) -> Parts:
    """Multilayer perceptron with two hidden layers of 512; it does not know which pixels are neighbours.

    Example:
        >>> parts = mlp(Task(1, (28, 28), 10))
        >>> sum(parameter.numel() for part in parts for parameter in part.parameters())
        669706
    """
    inputs = task.channels * task.hw[0] * task.hw[1]
    layers: list[nn.Module] = [nn.Flatten()]
    for before, width in ((inputs, 512), (512, 512)):
        layers += [
            nn.Linear(before, width),
            *_norm(nn.BatchNorm1d, width, batch_norm),
            nn.ReLU(),
            nn.Dropout(dropout[0]),
        ]
    return nn.Sequential(*layers), nn.Linear(512, task.outputs)


def lenet(task: Task) -> Parts:
    """LeNet-5 (LeCun et al. 1998), with its trained pooling, its table of connections and its scaled tanh.

    The last layer is linear. In the paper it compares features with drawings of the digits; other classes have none.

    Example:
        >>> features, _ = lenet(Task(1, (32, 32), 10))
        >>> sum(parameter.numel() for parameter in features.parameters())  # as in the paper
        60000
    """
    features = nn.Sequential(
        nn.Conv2d(task.channels, 6, 5),
        ScaledTanh(),
        TrainedPool(6),
        ScaledTanh(),
        TableConv2d(LENET_TABLE, 5),
        ScaledTanh(),
        TrainedPool(16),
        ScaledTanh(),
        nn.Conv2d(16, 120, 5),
        ScaledTanh(),
        nn.Flatten(),
    )
    features.extend([nn.Linear(_length(features, task), 84), ScaledTanh()])
    return features, nn.Linear(84, task.outputs)


def mnist_cnn(task: Task, dropout: Sequence[float] = (0.0, 0.0), *, batch_norm: bool = False) -> Parts:
    """Two 3x3 convolutions, each followed by pooling, and a dense layer of 64.

    Example:
        >>> features, last = mnist_cnn(Task(1, (28, 28), 10))
        >>> features[-3]  # 64 maps of 7 x 7
        Linear(in_features=3136, out_features=64, bias=True)
    """
    features = nn.Sequential(
        *_convolutions((task.channels, 32, 64), 3, padding=1, batch_norm=batch_norm),
        nn.Dropout(dropout[0]),
        nn.Flatten(),
    )
    features.extend([nn.Linear(_length(features, task), 64), nn.ReLU(), nn.Dropout(dropout[1])])
    return features, nn.Linear(64, task.outputs)


def mnist_small(task: Task, dropout: Sequence[float] = (0.0,)) -> Parts:
    """Five 3x3 convolutions with batch normalisation, then averaging: fewer than 10,000 parameters.

    Example:
        >>> parts = mnist_small(Task(1, (28, 28), 10))
        >>> sum(parameter.numel() for part in parts for parameter in part.parameters())
        9920
    """
    layers: list[nn.Module] = []
    widths = (task.channels, 10, 16, 16, 20, 16)
    for number, (before, width) in enumerate(pairwise(widths), 1):
        layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        if number in (2, 4):
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, *_pooled(), nn.Dropout(dropout[0])), nn.Linear(16, task.outputs)


def cifar_cnn(task: Task, dropout: Sequence[float] = (0.3, 0.4), *, batch_norm: bool = False) -> Parts:
    """Three 2x2 convolutions that keep the size, each followed by pooling, and a dense layer of 500.

    Example:
        >>> features, last = cifar_cnn(Task(3, (32, 32), 10))
        >>> features[-3]  # 64 maps of 4 x 4
        Linear(in_features=1024, out_features=500, bias=True)
    """
    features = nn.Sequential(
        *_convolutions((task.channels, 16, 32, 64), 2, padding=0, batch_norm=batch_norm, border=(0, 1, 0, 1)),
        nn.Dropout(dropout[0]),
        nn.Flatten(),
    )
    features.extend([nn.Linear(_length(features, task), 500), nn.ReLU(), nn.Dropout(dropout[1])])
    return features, nn.Linear(500, task.outputs)


def conv_net(task: Task, dropout: Sequence[float] = (0.0,), *, batch_norm: bool = False) -> Parts:
    """Three 3x3 convolutions without padding, pooling after the first two, one dense layer.

    Example:
        >>> features, last = conv_net(Task(1, (28, 28), 10))
        >>> last  # 128 maps of 3 x 3
        Linear(in_features=1152, out_features=10, bias=True)
    """
    layers = _convolutions((task.channels, 32, 64, 128), 3, padding=0, batch_norm=batch_norm)[:-1]
    features = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(dropout[0]))
    return features, nn.Linear(_length(features, task), task.outputs)


def binary_cnn(task: Task, dropout: Sequence[float] = (0.5,), *, batch_norm: bool = False) -> Parts:
    """Five 3x3 convolutions without padding, pooling after the first four, one dense layer: for cats and dogs at 180.

    Example:
        >>> features, last = binary_cnn(Task(3, (180, 180), 1))
        >>> last  # 256 maps of 7 x 7
        Linear(in_features=12544, out_features=1, bias=True)
    """
    layers = _convolutions((task.channels, 32, 64, 128, 256, 256), 3, padding=0, batch_norm=batch_norm)[:-1]
    features = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(dropout[0]))
    return features, nn.Linear(_length(features, task), task.outputs)


def alexnet(task: Task, dropout: Sequence[float] = (0.5, 0.5)) -> Parts:
    """AlexNet in its single-GPU form (Krizhevsky 2014); pooling to 6x6 allows sizes other than 224.

    Example:
        >>> with torch.device("meta"):  # no memory for the weights
        ...     parts = alexnet(Task(3, (224, 224), 1000))
        >>> sum(parameter.numel() for part in parts for parameter in part.parameters())
        61100840
    """
    features = nn.Sequential(
        nn.Conv2d(task.channels, 64, 11, stride=4, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 192, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2),
    )
    for before, width in pairwise((192, 384, 256, 256)):
        features.extend([nn.Conv2d(before, width, 3, padding=1), nn.ReLU(inplace=True)])
    features.extend([nn.MaxPool2d(3, 2), nn.AdaptiveAvgPool2d(6), nn.Flatten()])
    for before, fraction in ((256 * 36, dropout[0]), (4096, dropout[1])):
        features.extend([nn.Dropout(fraction), nn.Linear(before, 4096), nn.ReLU(inplace=True)])
    return features, nn.Linear(4096, task.outputs)


def vgg16(task: Task, dropout: Sequence[float] = (0.5, 0.5), *, batch_norm: bool = False) -> Parts:
    """VGG, configuration D (Simonyan and Zisserman 2014): thirteen 3x3 convolutions; pooling to 7x7 allows other sizes.

    Example:
        >>> with torch.device("meta"):  # no memory for the weights
        ...     parts = vgg16(Task(3, (224, 224), 1000))
        >>> sum(parameter.numel() for part in parts for parameter in part.parameters())
        138357544
    """
    features = nn.Sequential()
    before = task.channels
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            features.append(nn.Conv2d(before, width, 3, padding=1))
            features.extend([*_norm(nn.BatchNorm2d, width, batch_norm), nn.ReLU(inplace=True)])
            before = width
        features.append(nn.MaxPool2d(2))
    features.extend([nn.AdaptiveAvgPool2d(7), nn.Flatten()])
    for before, fraction in ((512 * 49, dropout[0]), (4096, dropout[1])):
        features.extend([nn.Linear(before, 4096), nn.ReLU(inplace=True), nn.Dropout(fraction)])
    return features, nn.Linear(4096, task.outputs)


def inception(task: Task, dropout: Sequence[float] = (0.2,)) -> Parts:
    """A small Inception-v3 (Szegedy et al. 2016): a stem to stride 4, two blocks of 3x3, two of 1x7 and 7x1.

    Example:
        >>> features, last = inception(Task(3, (64, 64), 10))
        >>> shape_after(features[:-3], Task(3, (64, 64), 10))  # before the average
        (256, 4, 4)
    """
    features = nn.Sequential(
        _conv(task.channels, 32, kernel=3, stride=2),
        _conv(32, 64, kernel=3),
        nn.MaxPool2d(3, 2, 1),
        _square_block(64, 32),
        nn.MaxPool2d(3, 2, 1),
        _square_block(128, 48),
        nn.MaxPool2d(3, 2, 1),
        _factorised_block(192, 64),
        _factorised_block(256, 64),
    )
    return features.extend([*_pooled(), nn.Dropout(dropout[0])]), nn.Linear(256, task.outputs)


def resnet50(task: Task) -> Parts:
    """ResNet-50 (He et al. 2016) as torchvision builds it, with its ImageNet weights if they are on this disk.

    Raises:
        InputError: if the stored weights cannot be read.

    Example:
        >>> parts = resnet50(Task(3, (224, 224), 1000))
        >>> sum(parameter.numel() for part in parts for parameter in part.parameters())
        25557032
    """
    import torchvision

    model = torchvision.models.resnet50()
    stored = imagenet_weights("resnet50")
    if stored and task.channels == 3:
        try:
            model.load_state_dict(torch.load(stored, map_location="cpu", weights_only=True))
        except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
            if isinstance(error, OSError) and error.errno:
                raise InputError(f"cannot read {stored}: {reason(error)}") from error
            raise InputError(
                f"{stored} cannot be read as ResNet-50 weights; delete it, or download it again"
            ) from error
    if task.channels != 3:
        model.conv1 = nn.Conv2d(task.channels, 64, 7, stride=2, padding=3, bias=False)
    model.fc = nn.Identity()
    return model, nn.Linear(2048, task.outputs)


def efficientnet_lite(name: str, task: Task, *, dropout: Sequence[float]) -> Parts:
    """EfficientNet-Lite, with its ImageNet weights if their package is installed.

    Example:
        >>> features, last = efficientnet_lite("efficientnet_lite0", Task(3, (224, 224), 1000), dropout=(0.2,))
        >>> sum(parameter.numel() for part in (features, last) for parameter in part.parameters())
        4652008
    """
    features = EfficientNetLite(name, task.channels, dropout=dropout[0])
    stored = imagenet_weights(name)
    if stored and task.channels == 3 and not next(features.parameters()).is_meta:
        weights = read_package(stored)
        features.load_state_dict({key: value for key, value in weights.items() if not key.startswith("fc.")})
    return features, nn.Linear(1280, task.outputs)


def efficientnet_lite0(task: Task, dropout: Sequence[float] = (0.2,)) -> Parts:
    """EfficientNet-Lite0, for 224 x 224.

    Example:
        >>> shape_after(efficientnet_lite0(Task(3, (224, 224), 10))[0], Task(3, (224, 224), 10))
        (1280,)
    """
    return efficientnet_lite("efficientnet_lite0", task, dropout=dropout)


def efficientnet_lite1(task: Task, dropout: Sequence[float] = (0.2,)) -> Parts:
    """EfficientNet-Lite1, for 240 x 240.

    Example:
        >>> shape_after(efficientnet_lite1(Task(3, (240, 240), 10))[0], Task(3, (240, 240), 10))
        (1280,)
    """
    return efficientnet_lite("efficientnet_lite1", task, dropout=dropout)


def efficientnet_lite2(task: Task, dropout: Sequence[float] = (0.3,)) -> Parts:
    """EfficientNet-Lite2, for 260 x 260.

    Example:
        >>> shape_after(efficientnet_lite2(Task(3, (260, 260), 10))[0], Task(3, (260, 260), 10))
        (1280,)
    """
    return efficientnet_lite("efficientnet_lite2", task, dropout=dropout)


PRETRAINED = ("resnet50", *SCALES)  # networks that start from ImageNet weights if these are on this disk


def imagenet_weights(model: str) -> Path | None:
    """Return the file of a network's ImageNet weights, or None if this disk lacks it; this fetches nothing.

    Example:
        >>> imagenet_weights("lenet") is None
        True
    """
    if model in SCALES:
        return package_weights(model)
    if model != "resnet50":
        return None
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return max(folder.glob("resnet50-*.pth"), default=None)


def capsule(task: Task) -> Parts:
    """Capsules with routing by agreement (Sabour et al. 2017, section 4), without the network that reconstructs the image.

    Example:
        >>> features, last = capsule(Task(1, (28, 28), 10))
        >>> shape_after(features, Task(1, (28, 28), 10))  # 32 capsules at each of 6 x 6 places, vectors of 8
        (1152, 8)
    """
    features = nn.Sequential(
        nn.Conv2d(task.channels, 256, 9), nn.ReLU(), PrimaryCapsules(256, 32, length=8, kernel=9, stride=2)
    )
    return features, Capsules(shape_after(features, task)[0], 8, outputs=task.outputs, output_length=16)


class ScaledTanh(nn.Module):
    """1.7159 tanh(2 x / 3): it maps 1 to 1 and -1 to -1, with a slope near 1 at 0 (LeCun et al. 1998, appendix A)."""

    def forward(self, x: Tensor) -> Tensor:
        """Keep the shape."""
        return 1.7159 * torch.tanh(2 / 3 * x)


class TrainedPool(nn.Module):
    """The mean of each 2x2 cell times a trained factor plus a trained bias; each channel has its own pair."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C, H // 2, W // 2]."""
        return nn.functional.avg_pool2d(x, 2) * self.factor + self.bias


LENET_TABLE = (
    *[tuple((i + k) % 6 for k in range(3)) for i in range(6)],
    *[tuple((i + k) % 6 for k in range(4)) for i in range(6)],
    *[tuple((i + k) % 6 for k in (0, 1, 3, 4)) for i in range(3)],
    tuple(range(6)),
)  # the maps, of six, that each of the sixteen outputs sees (LeCun et al. 1998, table I)


class TableConv2d(nn.Module):
    """A convolution in which each output channel sees only the input channels that a table lists for it."""

    def __init__(self, table: Sequence[Sequence[int]], kernel: int) -> None:
        super().__init__()
        self.table = [sorted(inputs) for inputs in table]
        self.parts = nn.ModuleList(nn.Conv2d(len(inputs), 1, kernel) for inputs in self.table)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, outputs, H - kernel + 1, W - kernel + 1]."""
        return torch.cat([part(x[:, inputs]) for part, inputs in zip(self.parts, self.table)], 1)


class Parallel(nn.Module):
    """Several branches from one input, whose outputs are concatenated."""

    def __init__(self, *ways: nn.Module) -> None:
        super().__init__()
        self.ways = nn.ModuleList(ways)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, sum of the branches' channels, H, W]."""
        return torch.cat([way(x) for way in self.ways], 1)


def _square_block(inputs: int, width: int) -> nn.Module:
    """1x1; 1x1, 3x3; 1x1, 3x3, 3x3; pooling, 1x1: each branch ends with `width` channels."""
    return Parallel(
        _conv(inputs, width, kernel=1),
        nn.Sequential(_conv(inputs, width // 2, kernel=1), _conv(width // 2, width, kernel=3)),
        nn.Sequential(
            _conv(inputs, width // 2, kernel=1), _conv(width // 2, width, kernel=3), _conv(width, width, kernel=3)
        ),
        nn.Sequential(nn.AvgPool2d(3, 1, 1), _conv(inputs, width, kernel=1)),
    )


def _factorised_block(inputs: int, width: int) -> nn.Module:
    """1x1; 1x1, 1x7, 7x1; 1x1, 7x1, 1x7, 7x1, 1x7; pooling, 1x1: a 7x7 field of view for 14 weights instead of 49."""
    row, column, narrow = (1, 7), (7, 1), width // 2
    return Parallel(
        _conv(inputs, width, kernel=1),
        nn.Sequential(
            _conv(inputs, narrow, kernel=1), _conv(narrow, narrow, kernel=row), _conv(narrow, width, kernel=column)
        ),
        nn.Sequential(
            _conv(inputs, narrow, kernel=1),
            _conv(narrow, narrow, kernel=column),
            _conv(narrow, narrow, kernel=row),
            _conv(narrow, narrow, kernel=column),
            _conv(narrow, width, kernel=row),
        ),
        nn.Sequential(nn.AvgPool2d(3, 1, 1), _conv(inputs, width, kernel=1)),
    )


def _conv(inputs: int, outputs: int, *, kernel: int | tuple[int, int], stride: int = 1) -> nn.Sequential:
    """Convolution that keeps the size (at stride 1), batch normalisation, ReLU."""
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (sides[0] // 2, sides[1] // 2)
    convolution = nn.Conv2d(inputs, outputs, sides, stride=stride, padding=padding, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _convolutions(
    widths: Sequence[int],
    kernel: int,
    *,
    padding: int,
    batch_norm: bool,
    border: tuple[int, int, int, int] | None = None,
) -> list[nn.Module]:
    """Return convolution, normalisation (if wanted), ReLU and 2x2 pooling for each step from one width to the next.

    `border` is the padding on the left, right, top and bottom before each convolution: an even kernel needs it uneven.
    """
    layers: list[nn.Module] = []
    for before, width in pairwise(widths):
        if border is not None:
            layers.append(nn.ZeroPad2d(border))
        convolution = nn.Conv2d(before, width, kernel, padding=padding)
        layers += [convolution, *_norm(nn.BatchNorm2d, width, batch_norm), nn.ReLU(), nn.MaxPool2d(2)]
    return layers


def _norm(kind: Callable[[int], nn.Module], width: int, wanted: bool) -> list[nn.Module]:
    return [kind(width)] if wanted else []


def _pooled() -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten()]


@torch.no_grad()
def shape_after(features: nn.Module, task: Task) -> tuple[int, ...]:
    """Return the shape, without the batch, that features have for the task's images, by computing them for one.

    Raises:
        TooSmall: if a kernel or pool is larger than what is left of the image.

    Example:
        >>> shape_after(nn.Conv2d(1, 6, 5), Task(1, (28, 28), 10))
        (6, 24, 24)
    """
    training = features.training
    try:
        return tuple(features.eval()(torch.zeros(1, task.channels, *task.hw)).shape[1:])
    except RuntimeError as error:  # a kernel or pool is larger than what is left of the image
        if is_memory_full(error):
            raise
        raise TooSmall from error
    finally:
        features.train(training)


def _length(features: nn.Module, task: Task) -> int:
    return shape_after(features, task)[0]


COURSE: dict[str, Callable[..., Parts]] = {
    "mlp": mlp,
    "lenet": lenet,
    "mnist_cnn": mnist_cnn,
    "mnist_small": mnist_small,
    "cifar_cnn": cifar_cnn,
    "conv_net": conv_net,
    "binary_cnn": binary_cnn,
    "alexnet": alexnet,
    "vgg16": vgg16,
    "inception": inception,
    "resnet50": resnet50,
    "efficientnet_lite0": efficientnet_lite0,
    "efficientnet_lite1": efficientnet_lite1,
    "efficientnet_lite2": efficientnet_lite2,
    "capsule": capsule,
}
