"""What a backbone learns before its detector is trained from scratch: to tell the objects, cut out, from each other."""

from __future__ import annotations

import dataclasses

from yolo_lite.config.resolve import read_config
from yolo_lite.config.schema import Config, TrainConfig
from yolo_lite.errors import InputError
from yolo_lite.models.classifiers.build import DETECTORS
from yolo_lite.shipped import find_config
from yolo_lite.training.task import Run

FOLDER = "crops"  # of the run's own
_TIME = 0.15  # share of a run whose minutes are given


def pretraining_of(run: Run) -> Run:
    """Return the run that trains a detector's backbone as a classifier of its objects, on the same pictures.

    Everything that the detector's configuration says of network, normalisation, precision, memory and chance holds here
    too; the rest is that of configs/classify and of the section `pretrain`.

    Raises:
        InputError: where no classifier has that backbone.
    """
    config, settings = run.config, run.config.pretrain
    kinds = [name for name, backbone in DETECTORS.items() if backbone == config.model.backbone]
    if not kinds:
        raise InputError(
            f"pretrain.crops needs a backbone of {', '.join(sorted(DETECTORS.values()))}, got {config.model.backbone}"
        )
    base = read_config(find_config(kinds[0], "configs/classify"))
    shared = ("seed", "workers", "cache", "deterministic", "precision")
    train: TrainConfig = dataclasses.replace(
        base.train,
        epochs=settings.crops,
        batch_size=settings.batch_size,
        lr=settings.lr,
        evaluate_every=settings.crops,
        **{name: getattr(config.train, name) for name in shared},
    )
    same = {name: getattr(config.input, name) for name in ("mean", "std", "max_16bit")}
    size = dataclasses.replace(base.input, image_size=settings.image_size, **same)
    mine: Config = dataclasses.replace(base, model=config.model, input=size, train=train)
    return dataclasses.replace(run, config=mine, crops=True, unlabelled=None, minutes=_TIME * run.minutes)
