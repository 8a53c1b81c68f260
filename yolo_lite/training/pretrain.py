"""Pretrain the backbone of a detector that starts from scratch, as a classifier of its cut-out objects."""

from __future__ import annotations

import dataclasses

from yolo_lite.config.resolve import override_config, read_config
from yolo_lite.config.schema import Config
from yolo_lite.errors import InputError
from yolo_lite.models.classifiers.build import DETECTORS
from yolo_lite.shipped import find_config

FOLDER = "crops"  # inside the folder of the run
_TIME = 0.15  # fraction of train.minutes
_SHARED = (
    *("data.path", "data.classes", "data.fraction", "data.difficult", "input.mean", "input.std", "input.max_16bit"),
    *("train.seed", "train.workers", "train.cache", "train.deterministic", "train.precision"),
)  # settings taken from the detector


def pretraining_of(config: Config) -> Config:
    """Return the configuration that trains a detector's backbone as a classifier of its objects, on the same images.

    Network, normalisation, precision, caching and seed are the detector's. Everything else comes from configs/classify
    and the section `pretrain`.

    Raises:
        InputError: if no classifier has this backbone.

    Example:
        >>> pretraining = pretraining_of(override_config(Config(), {"pretrain.crops": 12, "train.seed": 3}))
        >>> pretraining.name, pretraining.train.epochs, pretraining.train.seed
        ('yolo_lite-n-cls', 12, 3)
    """
    names = [name for name, backbone in DETECTORS.items() if backbone == config.model.backbone]
    if not names:
        raise InputError(
            f"pretrain.crops needs one of the backbones {', '.join(sorted(DETECTORS.values()))}, got {config.model.backbone}"
        )
    own = config.pretrain
    settings = {
        "data.crops": True,
        "input.image_size": own.image_size,
        "train.epochs": own.crops,
        "train.batch_size": own.batch_size,
        "train.lr": own.lr,
        "train.evaluate_every": own.crops,
        "train.minutes": _TIME * config.train.minutes,
        "train.preflight": False,
    }
    for key in _SHARED:
        section, name = key.split(".")
        settings[key] = getattr(getattr(config, section), name)
    return dataclasses.replace(override_config(read_config(find_config(names[0])), settings), model=config.model)
