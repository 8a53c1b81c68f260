"""The model card of a checkpoint."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from typing import Any

from yolo_lite.checkpoints.checkpoint import Checkpoint, load_checkpoint, network
from yolo_lite.config.resolve import config_to_dict
from yolo_lite.errors import counted, one_line
from yolo_lite.shipped import find_weights

_SHOWN = {
    "source": "made by",
    "licence": "licence",
    "changed": "changed",
    "converted_from": "converted from",
    "data": "data",
    "train": "trained on",
    "val": "validated on",
    "classes": "classes chosen",
    "fraction": "fraction of the training images",
    "started_from": "started from",
    "epoch": "epoch",
    "seed": "seed",
    "minutes": "time limit in minutes",
    "hardware": "hardware",
    "precision": "precision",
    "fingerprint": "fingerprint of the training labels",
    "val_fingerprint": "fingerprint of the validation labels",
    "param_sha256": "sha256 of the source's .param",
    "bin_sha256": "sha256 of the source's .bin",
}
_METRICS = ("AP", "AP50", "AP75", "APsmall", "APmedium", "APlarge", "accuracy", "F1", "val_loss")
_ORDINARY = {"fraction": 1.0, "classes": [], "minutes": 0.0, "difficult": False}  # not worth a line


def model_card(weights: str | os.PathLike[str]) -> str:
    """Return a model card in Markdown: the classes of a network, its origin and training, and its quality.

    Args:
        weights: a file, or the bare name of a shipped one.

    Raises:
        InputError: if the file is not a checkpoint.

    Example:
        >>> print(model_card("yolo_lite-pico-voc5").splitlines()[2])
        - detector of 5 classes: person, car, cat, bus, train
    """
    path = find_weights(os.fspath(weights))
    checkpoint = load_checkpoint(path)
    config, about = checkpoint.config, checkpoint.about
    parameters = sum(parameter.numel() for parameter in network(checkpoint, path).parameters())
    kind = "classifier" if checkpoint.is_classifier else "detector"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    size = " x ".join(str(side) for side in config.input.image_size)
    classes = counted(len(checkpoint.class_names), "class", plural="classes")
    lines = [
        f"# {one_line(config.name)}",
        "",
        f"- {kind} of {classes}: {', '.join(map(one_line, checkpoint.class_names))}",
        f"- parameters: {parameters:,}",
        f"- input: {size}, {counted(config.input.channels, 'channel')}, {config.input.resize}",
        *([] if checkpoint.is_classifier else [f"- score threshold of detections: {checkpoint.score_threshold:g}"]),
        f"- file: {path.name}, {counted(path.stat().st_size, 'byte')}, sha256 {digest}",
        "",
        "## Where it comes from",
        "",
        *(f"- {word}: {_plain(about[key])}" for key, word in _SHOWN.items() if _worth(about, key)),
    ]
    if about.get("versions"):
        lines.append(f"- versions: {_plain([f'{name} {value}' for name, value in about['versions'].items()])}")
    if config.train.epochs and "epoch" in about:
        lines += ["", "## How it was trained", "", "```yaml", *_changed(config_to_dict(config)), "```"]
    metrics = about.get("metrics", {})
    shown = [name for name in _METRICS if name in metrics]
    if shown:
        lines += ["", "## How good it is", "", "On the validation images, which this epoch was also chosen by:", ""]
        lines += ["| " + " | ".join(shown) + " |", "|" + "---|" * len(shown)]
        lines.append("| " + " | ".join(f"{metrics[name]:.3f}" for name in shown) + " |")
    return "\n".join(lines) + "\n"


def card_values(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what a checkpoint says about itself, by the words of a model card, without the path of its data.

    Example:
        >>> from yolo_lite.checkpoints.checkpoint import load_checkpoint
        >>> card_values(load_checkpoint(find_weights("yolo_lite-shuffle-coco")))["licence"]
        'Apache-2.0'
    """
    about = checkpoint.about
    worth = {word: about[key] for key, word in _SHOWN.items() if key != "data" and _worth(about, key)}
    values = {word: value if _is_plain(value) else _plain(value) for word, value in worth.items()}
    metrics = about.get("metrics", {})
    shown = {name: float(metrics[name]) for name in _METRICS if name in metrics}
    return {"name": checkpoint.config.name, **values, **({"metrics": shown} if shown else {})}


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | bool) or (isinstance(value, float) and math.isfinite(value))


def _worth(about: Mapping[str, Any], key: str) -> bool:
    return key in about and (key not in _ORDINARY or about[key] != _ORDINARY[key])


def _plain(value: Any) -> str:
    if value is None:
        return "nothing: from scratch"
    return one_line(", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))


def _changed(values: Mapping[str, Any]) -> list[str]:
    """Return the settings of training, loss and augmentation, a line for each section."""
    import yaml

    sections = {name: values[name] for name in ("train", "loss", "augment")}
    return yaml.safe_dump(sections, sort_keys=False, default_flow_style=None, width=110).splitlines()
