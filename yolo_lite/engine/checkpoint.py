"""Checkpoints: tensors and plain values in one file, written whole or not at all, loaded without running anything."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yolo_lite.config import Config, config_from_dict, config_to_dict
from yolo_lite.errors import InputError, is_memory_full
from yolo_lite.files import write_atomically
from yolo_lite.models.blocks import fuse
from yolo_lite.models.build import build_detector
from yolo_lite.models.classifier import ClassifierNet, build_classifier
from yolo_lite.models.yolo import Yolo

FORMAT = "yolo_lite checkpoint"
VERSION = 1
_UNREADABLE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)  # what torch.load raises, depending on where a foreign file ceases to make sense


@dataclass(frozen=True)
class Checkpoint:
    """What a weights file says.

    Attributes:
        config: of the run that made it; detection and evaluation take input size and resizing from here.
        class_names: by label.
        category_ids: what each class was called in the annotations it was trained on.
        weights: the network's state, float32 or float16.
        about: the birth certificate: data, fingerprint, epochs, metrics, hardware, versions; plain values.
        training: what `--resume` needs; empty in a file to ship.
    """

    config: Config
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    weights: Mapping[str, torch.Tensor]
    about: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_classifier(self) -> bool:
        """Whether it is one, not a detector."""
        return self.config.classifier.model != "none"


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file under a temporary name, then rename it: a reader finds the old one or the new one, never half."""
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
    write_atomically(path, lambda part: torch.save(content, part))


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a file that save_checkpoint wrote; only tensors and plain values are ever loaded (weights_only=True).

    Raises:
        InputError: where it is missing, damaged or something else.
    """
    if not path.is_file():
        raise InputError(
            f"{path} does not exist" if not path.exists() else f"{path} is a folder, expected a weights file"
        )
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        if is_memory_full(error):
            raise
        raise InputError(
            f"{path} is not a yolo_lite checkpoint, or is damaged (files that could run code are never loaded)"
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise InputError(f"{path} holds weights, but not of yolo_lite; train with yolo_lite or use a shipped file")
    version = content.get("version")
    if isinstance(version, int) and version > VERSION:
        raise InputError(f"{path} was written by a newer yolo_lite (format {version}); this one reads {VERSION}")
    parts = {
        "config": dict,
        "class_names": list,
        "category_ids": list,
        "weights": dict,
        "about": dict,
        "training": dict,
    }
    for name, kind in parts.items():
        if not isinstance(content.get(name), kind):
            raise InputError(f"{path} lacks a part of a yolo_lite checkpoint: {name}")
    config = config_from_dict(content["config"], str(path))
    names, ids = tuple(content["class_names"]), tuple(content["category_ids"])
    return Checkpoint(config, names, ids, content["weights"], content["about"], content["training"])


def build_from_checkpoint(checkpoint: Checkpoint, source: Path) -> Yolo:
    """Build the network with its weights, in evaluation mode and fused: to look with, not to train further.

    Raises:
        InputError: where weights and configuration do not fit each other.
    """
    if checkpoint.is_classifier:
        raise InputError(
            f"{source} is a classifier ({checkpoint.config.name}), which finds no boxes; use it with classify"
        )
    model = build_detector(checkpoint.config, len(checkpoint.class_names))
    _fill(model, checkpoint, source)
    fuse(model.eval())
    return model


def build_classifier_from_checkpoint(checkpoint: Checkpoint, source: Path) -> ClassifierNet:
    """Build a classifier in the same way; raises as build_from_checkpoint does."""
    if not checkpoint.is_classifier:
        raise InputError(
            f"{source} is a detector ({checkpoint.config.name}), not a classifier; use it with detect and eval"
        )
    model = build_classifier(checkpoint.config, len(checkpoint.class_names))
    _fill(model, checkpoint, source)
    fuse(model.eval())
    return model


def network(checkpoint: Checkpoint, source: Path) -> nn.Module:
    """Build a detector or classifier with its weights as they were trained, not fused, to look into."""
    build = build_classifier if checkpoint.is_classifier else build_detector
    model = build(checkpoint.config, len(checkpoint.class_names))
    _fill(model, checkpoint, source)
    return model.eval()


def _fill(model: nn.Module, checkpoint: Checkpoint, source: Path) -> None:
    try:
        model.load_state_dict({name: value.float() for name, value in checkpoint.weights.items()}, strict=True)
    except (RuntimeError, AttributeError) as error:
        raise InputError(f"{source}: the weights do not fit the network that the file describes") from error


def half(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the weights to ship, on the CPU: kernels as float16; biases, norms, mean and deviation, which are few, as they are."""
    kernels = {name for name, value in weights.items() if value.is_floating_point() and value.ndim > 1}
    kernels -= {"mean", "std"}
    return {name: value.cpu().half() if name in kernels else value.cpu() for name, value in weights.items()}
