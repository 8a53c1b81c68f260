"""Checkpoints: tensors and plain values in one file, written whole or not at all, and loaded without running code."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from yolo_lite.checkpoints.contents import FORMAT, VERSION, check_fit, check_training, read_contents
from yolo_lite.config.resolve import config_from_dict, config_to_dict
from yolo_lite.config.schema import Config
from yolo_lite.errors import InputError, reason
from yolo_lite.files import check_can_create, flush, write_atomically
from yolo_lite.models.blocks import fuse
from yolo_lite.models.build import outline_detector
from yolo_lite.models.yolo import Yolo

if TYPE_CHECKING:
    from yolo_lite.models.classifiers.build import ClassifierNet

SCORE_THRESHOLD = 0.25  # of detections, if the weights do not name one
_ROOM = 2**20  # values allowed beyond the weights, for normalisations that are folded in afterwards


class Kind(enum.Enum):
    """The kind of network that the weights of a checkpoint belong to."""

    DETECTOR = "detector"
    CLASSIFIER = "classifier"
    DARKNET = "whole network of Darknet"  # detects, but cannot be trained further
    BACKBONE = "trained backbone under an untrained head"


@dataclass(frozen=True)
class Checkpoint:
    """The content of a weights file.

    Attributes:
        config: of the run that made it; detection and evaluation take input size and resizing from here.
        class_names: in the order of the labels.
        category_ids: the id of each class in the annotations it was trained on.
        weights: the network's state, float32 or float16.
        about: where the weights come from (data, fingerprint, epochs, metrics, hardware, versions), as plain values.
        training: the state that `--resume` needs; empty in a file to ship.
    """

    config: Config
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    weights: Mapping[str, torch.Tensor]
    about: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """The kind of network.

        Example:
            >>> Checkpoint(Config(), ("cat",), category_ids=(1,), weights={}).kind
            <Kind.DETECTOR: 'detector'>
        """
        if self.config.task == "classify":
            return Kind.CLASSIFIER
        if self.config.model.head == "darknet":
            return Kind.DARKNET
        return Kind.BACKBONE if "until" in self.about else Kind.DETECTOR

    @property
    def is_classifier(self) -> bool:
        """Whether the network is a classifier, not a detector."""
        return self.kind is Kind.CLASSIFIER

    @property
    def score_threshold(self) -> float:
        """The score above which detections are reported by default: that of the best F1 on validation, if known.

        Example:
            >>> Checkpoint(Config(), ("cat",), category_ids=(1,), weights={}, about={"score_threshold": 0.4}).score_threshold
            0.4
        """
        chosen = self.config.postprocess.score_threshold
        return chosen if chosen >= 0 else float(self.about.get("score_threshold", SCORE_THRESHOLD))


def check_new(out: Path) -> None:
    """Raise InputError unless a checkpoint can be written as a new file of that name.

    Example:
        >>> check_new(Path("photo.jpg"))
        Traceback (most recent call last):
        yolo_lite.errors.InputError: photo.jpg already exists; choose another --out
    """
    if out.exists():
        raise InputError(f"{out} already exists; choose another --out")
    if out.suffix.lower() in _FOREIGN:
        raise InputError(f"--out takes the name of a checkpoint such as {out.stem}.pt, got {out}")
    check_can_create(out.parent)


_FOREIGN = (".onnx", ".xml", ".pt2", ".json")  # every command takes files of these names for something else


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; a reader finds the old file or the new one, never half of it.

    Example:
        >>> from yolo_lite.models.build import build_detector
        >>> weights = build_detector(Config(), 1).state_dict()
        >>> checkpoint = Checkpoint(Config(), ("cat",), category_ids=(17,), weights=weights)
        >>> save_checkpoint(Path("cat.pt"), checkpoint)
        >>> load_checkpoint(Path("cat.pt")).class_names
        ('cat',)
    """
    content = {
        "format": FORMAT,
        "version": VERSION,
        "config": config_to_dict(checkpoint.config),
        "class_names": list(checkpoint.class_names),
        "category_ids": list(checkpoint.category_ids),
        "weights": dict(checkpoint.weights),
        "about": dict(checkpoint.about),
        "training": dict(checkpoint.training),
    }

    def write(part: Path) -> None:
        torch.save(content, part)
        flush(part)  # otherwise a power failure could leave the new name with an empty file

    write_atomically(path, write)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a file that save_checkpoint wrote; only tensors and plain values are ever loaded (weights_only=True).

    Raises:
        InputError: if the file is missing, damaged or something else; no network is built then.

    Example:
        >>> from yolo_lite.shipped import find_weights
        >>> load_checkpoint(find_weights("yolo_lite-pico-voc5")).config.input.image_size
        (320, 320)
    """
    content = read_contents(path)
    config = config_from_dict(content["config"], str(path))
    names, ids = tuple(content["class_names"]), tuple(content["category_ids"])
    checkpoint = Checkpoint(
        config,
        names,
        category_ids=ids,
        weights=content["weights"],
        about=content["about"],
        training=content["training"],
    )
    network = _outline(checkpoint, path)
    check_fit(checkpoint.weights, network, what="weights", source=path)
    if checkpoint.training:
        check_training(checkpoint.training, network, path=path)
    return checkpoint


def build_from_checkpoint(checkpoint: Checkpoint, source: Path) -> Yolo:
    """Build a detector with its weights, in evaluation mode and fused: ready to detect, not to train further.

    Args:
        checkpoint: what the file holds.
        source: the file, for messages.

    Raises:
        InputError: if it is a classifier, or weights and configuration do not fit each other.

    Example:
        >>> from yolo_lite.shipped import find_weights
        >>> path = find_weights("yolo_lite-pico-voc5")
        >>> build_from_checkpoint(load_checkpoint(path), path)(torch.zeros(1, 3, 64, 64)).class_logits.shape
        torch.Size([1, 84, 5])
    """
    if checkpoint.is_classifier:
        raise InputError(
            f"{source} is a classifier ({checkpoint.config.name}), which finds no boxes; use it with classify"
        )
    model = _outline(checkpoint, source)
    assert isinstance(model, Yolo)
    _fill(model, checkpoint, source)
    fuse(model.eval())
    return model


def build_classifier_from_checkpoint(checkpoint: Checkpoint, source: Path) -> ClassifierNet:
    """Build a classifier with its weights, in evaluation mode and fused; arguments as for build_from_checkpoint.

    Raises:
        InputError: if it is a detector, or weights and configuration do not fit each other.

    Example:
        >>> from yolo_lite.config.schema import ClassifierConfig
        >>> from yolo_lite.models.classifiers.build import build_classifier
        >>> config = Config("classify", classifier=ClassifierConfig("mnist_small"))
        >>> weights = build_classifier(config, 2).state_dict()
        >>> checkpoint = Checkpoint(config, ("disc", "square"), category_ids=(1, 2), weights=weights)
        >>> build_classifier_from_checkpoint(checkpoint, Path("best.pt"))(torch.zeros(1, 3, 28, 28)).shape
        torch.Size([1, 2])
    """
    from yolo_lite.models.classifiers.build import ClassifierNet

    if not checkpoint.is_classifier:
        raise InputError(
            f"{source} is a detector ({checkpoint.config.name}), not a classifier; use it with detect and eval"
        )
    model = _outline(checkpoint, source)
    assert isinstance(model, ClassifierNet)
    _fill(model, checkpoint, source)
    fuse(model.eval())
    return model


def network(checkpoint: Checkpoint, source: Path) -> nn.Module:
    """Build a detector or classifier with its weights as they were trained, not fused, to inspect it.

    Example:
        >>> from yolo_lite.shipped import find_weights
        >>> path = find_weights("yolo_lite-pico-voc5")
        >>> any(isinstance(layer, nn.BatchNorm2d) for layer in network(load_checkpoint(path), path).modules())
        True
    """
    model = _outline(checkpoint, source)
    _fill(model, checkpoint, source)
    return model.eval()


def _outline(checkpoint: Checkpoint, source: Path) -> nn.Module:
    """Build the network that the file describes, without values, and not much larger than its weights."""
    config, classes = checkpoint.config, len(checkpoint.class_names)
    held = sum(value.numel() for value in checkpoint.weights.values())
    pixels = config.input.channels * math.prod(config.input.image_size)
    build = _outline_classifier if checkpoint.is_classifier else outline_detector
    try:
        model = build(config, classes, values=_ROOM + 2 * held + pixels)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    except (RuntimeError, TypeError, ValueError, ArithmeticError, LookupError) as error:
        raise InputError(f"{source}: the network that the file describes cannot be built ({reason(error)})") from error
    if isinstance(model, Yolo) and model.head.fixed_classes not in (None, classes):
        raise InputError(f"{source}: its network has {model.head.fixed_classes} classes, but {classes} are named")
    return model


def _outline_classifier(config: Config, classes: int, *, values: int) -> ClassifierNet:
    from yolo_lite.models.classifiers.build import outline_classifier  # not needed for detectors

    return outline_classifier(config, classes, values=values)


def _fill(model: nn.Module, checkpoint: Checkpoint, source: Path) -> None:
    try:
        model.load_state_dict({name: value.float() for name, value in checkpoint.weights.items()}, strict=True)
    except (RuntimeError, AttributeError) as error:
        raise InputError(f"{source}: the weights do not fit the network that the file describes") from error


def half(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return weights to ship, on the CPU: kernels as float16, all else (few biases, norms, mean, deviation) unchanged.

    Example:
        >>> {name: value.dtype for name, value in half(nn.Linear(2, 3).state_dict()).items()}
        {'weight': torch.float16, 'bias': torch.float32}
    """
    kernels = {name for name, value in weights.items() if value.is_floating_point() and value.ndim > 1}
    kernels -= {"mean", "std"}
    return {name: value.cpu().half() if name in kernels else value.cpu() for name, value in weights.items()}
