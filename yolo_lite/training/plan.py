"""Work out the configuration of a run from its layers, and refuse what does not fit together."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from yolo_lite.checkpoints.checkpoint import Checkpoint, Kind, load_checkpoint
from yolo_lite.checks import check_path
from yolo_lite.config.read import read_yaml
from yolo_lite.config.resolve import Layer, Resolved, check_settings, config_to_dict, resolve, settings_layer
from yolo_lite.config.schema import Config
from yolo_lite.data.divide import parse_shares
from yolo_lite.errors import InputError
from yolo_lite.models.classifiers.build import DETECTORS
from yolo_lite.shipped import DEFAULT_WEIGHTS, find_config, find_weights
from yolo_lite.training.pretrain import pretraining_of

_NETWORK = ("backbone", "stem_width", "widths", "depths", "norm")  # settings that describe the backbone


def plan(
    data: str | Path | None = None,
    *,
    config: str | Path | Config | None = None,
    weights: str | Path | None = None,
    settings: Mapping[str, object] | None = None,
) -> Resolved:
    """Return the configuration that the arguments of `train` ask for, and the origin of each of its values.

    The layers are, from lowest to highest: the defaults; the recipe of the task, if no config is named; the weights;
    the config; what the weights fix; the settings.

    Raises:
        InputError: for a setting that the weights fix, and for whatever `train` refuses.

    Example:
        >>> resolved = plan("my_images", settings={"train.epochs": 3})
        >>> resolved.config.train.epochs, resolved.config.train.weights
        (3, 'yolo_lite-shuffle-1.5x-coco')
        >>> resolved.origins["train.lr"]
        'recipe finetune'
    """
    chosen = check_settings(settings)
    if "classifier.model" in chosen or "classifier" in chosen:
        raise InputError("the kind of network is chosen by --config, not by the setting classifier.model")
    if data is not None:
        chosen.setdefault("data.path", check_path(data, "data"))
    file = _file_layer(config)
    given = check_path(weights, "weights") if weights is not None else _text(chosen, file, "train.weights")
    given = given or ("none" if file else DEFAULT_WEIGHTS)
    chosen["train.weights"] = "" if given == "none" else given
    start = None if given == "none" else load_checkpoint(find_weights(given))
    task = _task(chosen, file, config)
    layers = _classifier_layers if task == "classify" else _detector_layers
    resolved = resolve([Layer("task", {"task": task}), *layers(start, given, file=file, chosen=chosen)])
    parse_shares(resolved.config.data.shares)
    if resolved.config.pretrain.crops and not start and task == "detect":
        pretraining_of(resolved.config)  # refuses now what would fail only later
    return resolved


def _detector_layers(
    start: Checkpoint | None, weights: str, *, file: Layer | None, chosen: dict[str, Any]
) -> list[Layer]:
    flags = settings_layer(chosen)
    if start is None:
        if chosen.get("train.keep_start"):
            raise InputError(
                "train.keep_start keeps a fraction of the starting weights, but there are none; name --weights"
            )
        return [*([file] if file else []), flags, _NOTHING_TO_KEEP]
    if start.kind is Kind.CLASSIFIER:
        return _around_backbone(start, weights, file=file, chosen=chosen)
    if start.kind is Kind.DARKNET:
        raise InputError(
            f"{weights} is a whole Darknet network, for detect and eval only; to train, convert it with --until"
        )
    if start.kind is Kind.BACKBONE and file is None:
        raise InputError(f"{weights} is a backbone with an untrained head; train it with --config nano")
    _refuse_fixed(chosen, weights, ("model.", "input.mean", "input.std", "input.resize"))
    stored = config_to_dict(start.config)
    if "input.image_size" in chosen:
        flags = settings_layer({"train.enlarge": False, **chosen})
    origin = f"weights {weights}"
    input_ = Layer(origin, {"input": stored["input"]})
    fixed = {name: stored["input"][name] for name in ("mean", "std", "resize")}
    network = Layer(origin, {"name": stored["name"], "model": stored["model"], "input": fixed})
    below = [input_, file] if file else [_shipped_layer("finetune"), input_]
    return [*below, network, flags]


def _around_backbone(start: Checkpoint, weights: str, *, file: Layer | None, chosen: dict[str, Any]) -> list[Layer]:
    """Return the layers of a detector that starts from the backbone of a classifier, and otherwise from scratch."""
    backbone = start.config.classifier.model
    _refuse_fixed(chosen, weights, ("model.", "input.mean", "input.std"))
    if backbone not in DETECTORS:
        raise InputError(
            f"{weights} is the classifier {backbone}, but no detector has its layers; use one of {', '.join(DETECTORS)}"
        )
    stored = config_to_dict(start.config)
    network = {
        "model": {name: stored["model"][name] for name in _NETWORK},
        "input": {name: stored["input"][name] for name in ("mean", "std")},
    }
    recipe = file or _shipped_layer("shuffle" if DETECTORS[backbone] == "shuffle" else "nano")
    return [recipe, Layer(f"weights {weights}", network), settings_layer(chosen), _NOTHING_TO_KEEP]


def _classifier_layers(
    start: Checkpoint | None, weights: str, *, file: Layer | None, chosen: dict[str, Any]
) -> list[Layer]:
    recipe = file or _shipped_layer(_network_for(start, weights))
    flags = settings_layer(chosen)
    if start is None:
        return [recipe, flags, _NOTHING_TO_KEEP]
    _refuse_fixed(chosen, weights, ("model.", "input.channels", "input.mean", "input.std"))
    name = recipe.values["classifier"]["model"]
    is_classifier = start.kind is Kind.CLASSIFIER
    if start.config.classifier.model != name and (is_classifier or DETECTORS.get(name) != start.config.model.backbone):
        raise InputError(f"{weights} is a {start.config.name}, but {name} cannot start from it")
    stored = config_to_dict(start.config)
    network: dict[str, Any] = {
        "model": stored["model"],
        "input": {key: stored["input"][key] for key in ("channels", "mean", "std")},
    }
    if is_classifier and file is None:
        network["input"] = stored["input"]
        network["classifier"] = {key: value for key, value in stored["classifier"].items() if key != "freeze"}
    elif is_classifier:
        network["classifier"] = {key: stored["classifier"][key] for key in ("batch_norm", "loss")}
    return [recipe, Layer(f"weights {weights}", network), flags]


_NOTHING_TO_KEEP = Layer("no weights to start from", {"train": {"keep_start": 0}})


def _refuse_fixed(chosen: Mapping[str, object], weights: str, fixed: tuple[str, ...]) -> None:
    for key in chosen:
        if key.startswith(fixed):
            raise InputError(f"{key} is fixed by --weights {weights}; leave it out, or train from scratch")


def _file_layer(config: str | Path | Config | None) -> Layer | None:
    """Return the layer of a config; None without one."""
    if config is None:
        return None
    if isinstance(config, Config):
        return Layer(f"configuration {config.name}", config_to_dict(config))
    path = find_config(check_path(config, "config"))
    layer = Layer(str(config), read_yaml(path))
    resolve([Layer(str(path), layer.values)])  # so that errors in the file name the file
    return layer


def _shipped_layer(name: str) -> Layer:
    return Layer(f"recipe {name}", read_yaml(find_config(name)))


def _text(chosen: Mapping[str, Any], file: Layer | None, key: str) -> str:
    """Return a value that is needed before the layers are resolved, from the settings or the file."""
    section, _, name = key.rpartition(".")
    below = file.values if file else {}
    value = chosen.get(key) or (below.get(section) or {} if section else below).get(name) or ""
    return str(value)


def _task(chosen: Mapping[str, Any], file: Layer | None, config: object) -> str:
    """Return the task of the settings or the file; raise InputError if the two differ."""
    of_file = resolve([file]).config.task if file else ""
    task = str(chosen.get("task") or of_file or "detect")
    if of_file and task != of_file:
        verb = {"detect": "train", "classify": "classify train"}[of_file]
        name = config.name if isinstance(config, Config) else config
        raise InputError(
            f"{name} is the configuration of a {_NOUNS[of_file]}: use {verb} --config {name}, or the configuration of "
            f"a {_NOUNS[task]}"
        )
    return task


_NOUNS = {"detect": "detector", "classify": "classifier"}


def _network_for(start: Checkpoint | None, weights: str) -> str:
    """Return the name of the configuration that fits the weights of a classifier or detector."""
    if start is None:
        raise InputError("name a --config to train from scratch")
    if start.config.task == "classify":
        return start.config.classifier.model
    fitting = [name for name, backbone in DETECTORS.items() if backbone == start.config.model.backbone]
    if not fitting:
        raise InputError(f"no classifier has the backbone of {weights}")
    return fitting[0]
