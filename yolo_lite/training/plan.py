"""Which run is asked for: data, configuration and weights brought together, and what does not fit refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yolo_lite.checkpoints.checkpoint import Checkpoint, load_checkpoint
from yolo_lite.checks import check_class_names, check_number, check_path, check_whole
from yolo_lite.config.resolve import override_config, read_config
from yolo_lite.config.schema import Config
from yolo_lite.data.divide import DEFAULT_SHARES, parse_shares
from yolo_lite.errors import InputError
from yolo_lite.models.classifiers.build import DETECTORS
from yolo_lite.shipped import DEFAULT_WEIGHTS, find_config, find_weights
from yolo_lite.training.pretrain import pretraining_of
from yolo_lite.training.task import Run


def plan(
    data: str | Path,
    weights: str | Path | None = None,
    *,
    config: str | Path | Config | None = None,
    settings: Mapping[str, object] | None = None,
    classes: Sequence[str] | None = None,
    fraction: float = 1.0,
) -> Run:
    """Work out the run that the arguments of `train` ask for.

    Raises:
        InputError: for a setting that the weights fix, besides what `train` raises.
    """
    if weights is None:
        weights = DEFAULT_WEIGHTS if config is None else "none"
    weights, data = check_path(weights, "weights"), check_path(data, "data")
    chosen = check_settings(settings)
    _refuse_other_kind(chosen)
    names, fraction = check_class_names(classes), check_number(fraction, "fraction")
    if weights == "none":
        if chosen.get("train.keep_start"):
            raise InputError("train.keep_start keeps a share of the weights that training starts from: name --weights")
        chosen["train.keep_start"] = 0  # whatever the configuration says, of random weights nothing is worth keeping
        run = Run(
            str(data), override_config(_named(config, None), chosen), weights=None, classes=names, fraction=fraction
        )
        if run.config.pretrain.crops:
            pretraining_of(run)  # or else what is wrong with it is found only later
        return run
    start = load_checkpoint(find_weights(str(weights)))
    theirs = start.config
    if start.is_classifier:
        return Run(
            str(data),
            _around_backbone(start, weights, config=config, chosen=chosen),
            weights=str(weights),
            classes=names,
            fraction=fraction,
        )
    if theirs.model.head == "darknet":
        raise InputError(
            f"{weights} is a whole network of Darknet, for detect and eval; to train, convert it with --until"
        )
    if "until" in start.about and config is None:
        raise InputError(f"{weights} is a backbone under a head that has learnt nothing; train it with --config nano")
    for key in chosen:
        if key.startswith("model.") or key in ("input.mean", "input.std", "input.resize"):
            raise InputError(f"{key} is fixed by --weights {weights}; leave it out, or train from scratch")
    base = _named(config, "finetune")
    if config is None:
        base = dataclasses.replace(base, input=theirs.input)
    base = override_config(base, chosen)
    mine = dataclasses.replace(base.input, mean=theirs.input.mean, std=theirs.input.std, resize=theirs.input.resize)
    fixed = dataclasses.replace(base, name=theirs.name, model=theirs.model, input=mine)
    return Run(str(data), fixed, weights=str(weights), classes=names, fraction=fraction)


def _around_backbone(
    start: Checkpoint, weights: str | Path, *, config: str | Path | Config | None, chosen: dict[str, object]
) -> Config:
    """Return the configuration of a detector whose backbone is that of a classifier, everything else as from scratch."""
    backbone = start.config.classifier.model
    for key in chosen:
        if key.startswith("model.") or key in ("input.mean", "input.std"):
            raise InputError(f"{key} is fixed by --weights {weights}; leave it out, or train from scratch")
    if backbone not in DETECTORS:
        raise InputError(
            f"{weights} is the classifier {backbone}, whose layers no detector has; {', '.join(DETECTORS)} fit"
        )
    chosen["train.keep_start"] = 0
    base = override_config(_named(config, "shuffle" if DETECTORS[backbone] == "shuffle" else "nano"), chosen)
    mean, std = start.config.input.mean, start.config.input.std
    theirs = start.config.model
    same = {name: getattr(theirs, name) for name in ("backbone", "stem_width", "widths", "depths", "norm")}
    model = dataclasses.replace(base.model, **same)
    return dataclasses.replace(base, model=model, input=dataclasses.replace(base.input, mean=mean, std=std))


def plan_classifier(
    data: str | Path,
    model: str | Path | Config | None = None,
    *,
    weights: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
    classes: Sequence[str] | None = None,
    fraction: float = 1.0,
    per_class: int = 0,
    split: str = DEFAULT_SHARES,
) -> Run:
    """Work out the run that the arguments of `train_classifier` ask for; raises as that does."""
    if weights is None:
        weights = DEFAULT_WEIGHTS if model is None else "none"
    weights, data = check_path(weights, "weights"), check_path(data, "data")
    start = None if weights == "none" else load_checkpoint(find_weights(str(weights)))
    unnamed = model is None
    if model is None:
        model = _model_for(start, weights)
    parse_shares(split)
    per_class = check_whole(per_class, "per_class", minimum=0)
    base = model if isinstance(model, Config) else read_config(find_config(str(model), "configs/classify"))
    if base.classifier.model == "none":
        raise InputError(f"{model} is the configuration of a detector; name one of configs/classify")
    chosen = check_settings(settings)
    _refuse_other_kind(chosen)
    run = Run(
        str(data),
        base,
        classes=check_class_names(classes),
        fraction=check_number(fraction, "fraction"),
        per_class=per_class,
        split=split,
    )
    if start is None:
        return dataclasses.replace(run, config=override_config(base, {**chosen, "train.keep_start": 0}))
    fixed = ["model.", "input.channels", "input.mean", "input.std"]
    for key in chosen:
        if key.startswith(tuple(fixed)):
            raise InputError(f"{key} is fixed by --weights {weights}; leave it out, or train from scratch")
    theirs = start.config
    own = DETECTORS.get(base.classifier.model)
    if theirs.classifier.model != base.classifier.model and (start.is_classifier or own != theirs.model.backbone):
        raise InputError(f"{weights} is a {theirs.name}, which {base.classifier.model} cannot start from")
    base = dataclasses.replace(base, model=theirs.model)
    channels, mean, std = theirs.input.channels, theirs.input.mean, theirs.input.std
    base = dataclasses.replace(base, input=dataclasses.replace(base.input, channels=channels, mean=mean, std=std))
    if start.is_classifier:
        same: dict[str, Any] = {"batch_norm": theirs.classifier.batch_norm, "loss": theirs.classifier.loss}
        mine = theirs.classifier if unnamed else dataclasses.replace(base.classifier, **same)
        mine = dataclasses.replace(mine, freeze=base.classifier.freeze)
        base = dataclasses.replace(base, classifier=mine, input=theirs.input if unnamed else base.input)
    return dataclasses.replace(run, config=override_config(base, chosen), weights=str(weights))


def check_settings(settings: Mapping[str, object] | None) -> dict[str, object]:
    """Return settings by key as a new dictionary; raise InputError where they are something else."""
    if settings is not None and not isinstance(settings, Mapping):
        raise InputError(f"settings must be a dictionary such as {{'train.epochs': 50}}, got {settings!r}")
    for key in settings or ():
        if not isinstance(key, str):
            raise InputError(f"settings must have keys such as 'train.epochs', got {key!r}")
    return dict(settings or {})


def _refuse_other_kind(settings: Mapping[str, object]) -> None:
    if "classifier.model" in settings or "classifier" in settings:
        raise InputError("the kind of network is chosen by --config or --model, not by the setting classifier.model")


def _model_for(start: Checkpoint | None, weights: str | Path) -> str:
    """Return the configuration to train with where only weights are named."""
    if start is None:
        raise InputError("name a --model to train from scratch")
    if start.is_classifier:
        return start.config.classifier.model
    fitting = [name for name, backbone in DETECTORS.items() if backbone == start.config.model.backbone]
    if not fitting:
        raise InputError(f"no classifier has the backbone of {weights}")
    return fitting[0]


def _named(config: str | Path | Config | None, default: str | None) -> Config:
    if isinstance(config, Config):
        return config
    name = str(config) if config else default
    read = read_config(find_config(name) if name else None)
    if read.classifier.model != "none":
        raise InputError(f"{name} is the configuration of a classifier: use classify train --model {name}")
    return read
