"""Every setting of a run, with its only default; YAML files and overrides say just what differs."""

from __future__ import annotations

import dataclasses
import difflib
import math
import os
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from yolo_lite.errors import InputError, reason, short
from yolo_lite.files import read_text

MOST_PIXELS = 16_384  # along a side of the network's input
_WIDEST = 16_384  # channels
_LONGEST = 1_000_000  # epochs, or pictures in a batch
_MOST_ENTRIES = 1000  # of a list
_MOST_TEXT, _MOST_CFG = 4096, 2**20  # characters: of a setting, and of a whole .cfg file of Darknet
_MOST_YAML = 2**22  # characters of a file, and of what its aliases make of it


def _between(default: Any, minimum: float, maximum: float = float("inf")) -> Any:
    return field(default=default, metadata={"minimum": minimum, "maximum": maximum})


@dataclass(frozen=True)
class ModelConfig:
    """The network: one backbone, neck and head, each chosen by name (see models/build.py)."""

    backbone: str = "csp"  # or shuffle, yolov1, darknet
    stem_width: int = _between(16, 1, _WIDEST)
    widths: tuple[int, ...] = _between(
        (32, 64, 128, 256), 2, _WIDEST
    )  # channels of the stages at stride (4,) 8, 16, 32
    depths: tuple[int, ...] = _between((1, 2, 2, 1), 1, 200)  # bottlenecks or units in each stage
    neck: str = "pan"  # or ghost_pan, none
    neck_width: int = _between(64, 2, _WIDEST)
    head: str = "anchor_free"  # or distribution; of YOLOv1: grid, dense_grid; darknet
    head_width: int = _between(64, 1, _WIDEST)  # of anchor_free; the other keeps the neck's
    head_depth: int = _between(2, 1, 100)  # layers in each branch
    darknet: str = ""  # of the backbone darknet: the text of its .cfg file
    darknet_levels: tuple[int, ...] = _between(
        (), 0, 10_000
    )  # layers whose maps leave it; none: those its own outputs read
    boxes_per_cell: int = _between(2, 1, 100)  # of YOLOv1's heads
    cells: int = _between(7, 1, 512)  # along each side, of dense_grid
    norm: str = "batch"  # or none: folded into the convolutions, which then have biases


@dataclass(frozen=True)
class ClassifierConfig:
    """A classifier instead of a detector, where a model is named (see models/course.py)."""

    model: str = "none"
    dropout: tuple[float, ...] = _between(
        (), 0, 0.95
    )  # one for each place where the model has it; none: the model's own
    batch_norm: bool = False  # after each layer of the models that leave the choice
    init: str = "he"  # or glorot, uniform, torch
    loss: str = "cross_entropy"  # or mse (one-hot), margin (one-hot), binary (one output, two classes)
    label_smoothing: float = _between(0.0, 0, 0.99)  # of the cross-entropy
    freeze: bool = False  # train the last layer only


@dataclass(frozen=True)
class InputConfig:
    """How a picture becomes the network's input."""

    image_size: tuple[int, int] = _between((320, 320), 1, MOST_PIXELS)  # height, width; of a detector multiples of 32
    channels: int = _between(3, 1, 3)  # 1: a classifier of grey pictures
    resize: str = "letterbox"  # or stretch
    max_16bit: int = _between(
        65535, 1, 65535
    )  # value of a picture of 16 bits that becomes white: 4095 for 12-bit cameras
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)  # R, G, B, of pixels 0..255 (ImageNet)
    std: tuple[float, float, float] = _between((58.395, 57.12, 57.375), 1e-6)


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes to training pictures; `augment: none` switches every one of them off."""

    mosaic: float = _between(0.5, 0, 1)  # probability of four pictures in one
    scale: tuple[float, float] = _between((0.5, 1.5), 0.01)  # factor on the size of everything in the picture
    translate: float = _between(0.1, 0, 1)  # largest shift, as a share of the picture
    flip: float = _between(0.5, 0, 1)  # probability of left and right swapped
    hue: float = _between(0.015, 0, 0.5)  # largest shift, as a share of the colour circle
    saturation: float = _between(0.25, 0, 1)  # largest shift, as a share of the full range
    value: float = _between(0.2, 0, 1)  # largest shift of brightness, as a share of the full range
    min_visibility: float = _between(0.15, 0, 1)  # a box of which less stays in the picture is dropped
    multi_scale: float = _between(0.0, 0, 0.9)  # of a detector: largest change of a step's input size, as a share
    off_last: float = _between(0.1, 0, 1)  # share of the epochs, at the end, without mosaic and strong scaling


@dataclass(frozen=True)
class LossConfig:
    """Which points answer for which box, and what their error costs."""

    assigner: str = "task_aligned"  # or static
    static_share: float = _between(0.1, 0, 1)  # share of the steps, at the start, with the static assigner
    top_k: int = _between(10, 1, 10_000)
    alpha: float = _between(1.0, 0)  # exponent of the class score in the alignment
    beta: float = _between(6.0, 0)  # exponent of the IoU in the alignment
    box: str = "ciou"  # or giou, diou, iou
    class_weight: float = _between(1.0, 0)
    gamma: float = _between(0.0, 0)  # of the class part: 0 is cross-entropy, 2 quality focal loss
    box_weight: float = _between(5.0, 0)
    l1_weight: float = _between(1.0, 0)  # on distances in strides
    coord_weight: float = _between(5.0, 0)  # of YOLOv1's heads, as are the next two
    object_weight: float = _between(1.0, 0)
    no_object_weight: float = _between(0.5, 0)
    dfl_weight: float = _between(0.25, 0)  # distribution focal loss, where the head has distance bins
    teach_class_weight: float = _between(1.0, 0)  # of what a teacher says, where there is one, as is the next
    teach_box_weight: float = _between(2.0, 0)


@dataclass(frozen=True)
class PretrainConfig:
    """Before a detector is trained from scratch: its backbone learns to tell the objects, cut out, from each other.

    So was YOLOv1 trained (Redmon et al. 2016, section 2.2), though on other pictures. These are the run's own.
    """

    crops: int = _between(0, 0, _LONGEST)  # epochs over the objects and as much background; 0 for none
    image_size: tuple[int, int] = _between((96, 96), 32, MOST_PIXELS)  # height, width of a cut-out object
    batch_size: int = _between(64, 1, _LONGEST)
    lr: float = _between(0.002, 0)


@dataclass(frozen=True)
class TrainConfig:
    """The training loop."""

    epochs: int = _between(100, 1, _LONGEST)
    batch_size: int = _between(16, 1, _LONGEST)
    optimizer: str = "adamw"  # or sgd, rmsprop, adam, muon
    momentum: float = _between(0.9, 0, 0.9999)  # of sgd and rmsprop
    lr: float = _between(0.001, 0)
    weight_decay: float = _between(0.05, 0)  # on convolution and linear weights only
    schedule: str = "flat_cosine"  # or cosine, steps, constant
    milestones: tuple[int, ...] = _between((), 1, _LONGEST)  # of steps: after each of these epochs...
    step_factor: float = _between(0.1, 1e-6, 1)  # ...the rate is multiplied by this
    warmup_steps: int = _between(500, 0, 2**53)  # at most...
    warmup_share: float = _between(0.05, 0, 1)  # ...this share of all steps
    flat_share: float = _between(0.4, 0, 1)  # share of the steps, warm-up included, before the cosine begins
    final_lr: float = _between(0.05, 0, 1)  # the cosine's end, as a share of lr
    clip_norm: float = _between(10.0, 0)  # 0 means no clipping
    ema_decay: float = _between(0.9998, 0, 1)
    ema_share: float = _between(0.02, 0, 1)  # the average's horizon is at most this share of all steps
    # Fraction of the weights it started from in what is evaluated and shipped, but for rows of new classes; -1: 0.4
    # where the start knows classes of the data, else 0.
    keep_start: float = _between(0.0, -1, 0.99)
    precision: str = "auto"  # bf16 where the machine computes in it, else fp32; or fp32, bf16
    accumulate: int = _between(1, 1, _LONGEST)  # a batch goes through the network in so many parts, and makes one step
    teacher: str = ""  # weights of a detector that helps this one learn: a file or the bare name of a shipped one
    freeze: str = "none"  # or backbone: its weights stay as they are, of a detector
    repeat_threshold: float = _between(0.0, 0, 1)  # classes in a smaller share of the pictures are shown more often
    steps_per_epoch: int = _between(0, 0, 2**53)  # at most; 0 means as many as there are batches
    tensorboard: bool = False  # write every epoch's numbers for TensorBoard as well
    compile: bool = False  # torch.compile the network, of which GPUs may be faster
    deterministic: bool = False  # refuse operations that may differ from run to run
    evaluate_every: int = _between(1, 1, _LONGEST)  # epochs
    patience: int = _between(0, 0, _LONGEST)  # stop after so many epochs without a better one; 0 means never
    workers: int = _between(
        -1, -1, 4096
    )  # processes that load pictures; -1: 2 where a CPU computes, beside a GPU up to 8
    cache: str = "auto"  # decoded pictures stay in memory where they fit; or ram (or else stop), none
    seed: int = _between(0, 0, 2**53)


@dataclass(frozen=True)
class Config:
    """A whole run. `name` is what the network is called in file names and cards."""

    name: str = "yolo_lite-n"
    model: ModelConfig = field(default_factory=ModelConfig)
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    input: InputConfig = field(default_factory=InputConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)


NO_AUGMENTATION: Mapping[str, Any] = MappingProxyType(
    {"mosaic": 0, "scale": (1, 1), "translate": 0, "flip": 0, "hue": 0, "saturation": 0, "value": 0, "off_last": 0}
)


def read_config(path: Path | None) -> Config:
    """Read a YAML file over the defaults; None gives these.

    Raises:
        InputError: for a file that is missing or not YAML, a key that does not exist (the nearest one is named) or a
            value of the wrong type or range.
    """
    return Config() if path is None else config_from_dict(read_yaml(path), str(path))


def override_config(config: Config, settings: Mapping[str, object] | Iterable[str]) -> Config:
    """Return the configuration with other values: {"train.lr": 0.002}, or texts such as "train.lr=0.002".

    Raises:
        InputError: as read_config does.
    """
    pairs = settings.items() if isinstance(settings, Mapping) else [parse_setting(text) for text in settings]
    values = config_to_dict(config)
    for key, value in pairs:
        *sections, last = key.split(".")
        target = values
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise InputError(f"--set {key}: {section!r} is a single value, not a section")
        target[last] = value
    return config_from_dict(values, "--set")


def parse_setting(text: str) -> tuple[str, object]:
    """Split a text such as "train.lr=0.002" into a key and a value, which is read as YAML."""
    key, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--set expects KEY=VALUE such as train.lr=0.002, got {text!r}")
    try:
        return key.strip(), _load(value)
    except _NOT_YAML as error:
        raise InputError(f"--set {short(text)[1:-1]}: {short(value)} is not a YAML value") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file that holds a mapping; an empty file is an empty mapping.

    What stands under `names` and `classes`, at any depth, is read as the text that it is: YAML 1.1 would turn the names
    no, 010 and 12:30 into False, 8 and 750.

    Raises:
        InputError: where the file is missing, is not YAML or holds something else.
    """
    if path.is_file() and path.stat().st_size > _MOST_YAML:
        raise InputError(f"{path} is larger than any configuration or list of names ({_MOST_YAML >> 20} MiB)")
    text = read_text(path)
    try:
        values = _load(text)
    except _NOT_YAML as error:
        mark = getattr(error, "problem_mark", None)
        why = "it is nested too deeply" if isinstance(error, RecursionError) else reason(error)[:100]
        raise InputError(f"{path} is not valid YAML ({f'line {mark.line + 1}' if mark else why})") from error
    if values is not None and not isinstance(values, dict):
        raise InputError(f"{path} must hold 'key: value' lines, got {type(values).__name__}")
    return values or {}


_TEXT_KEYS = ("names", "classes")
_NOT_YAML = (  # what PyYAML raises, besides its own error, for dates as 2020-13-45, numbers such as 0x_ and deep nesting
    yaml.YAMLError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)


class _Loader(yaml.SafeLoader):
    """PyYAML's own, with an end to what "<<" merges: a few lines could make it endless."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Merge what "<<" names into a mapping."""
        merged = [value for key, value in node.value if key.tag == "tag:yaml.org,2002:merge"]
        if any(len(value.value) > _MOST_ENTRIES for value in merged):
            raise yaml.YAMLError("too much is merged")
        super().flatten_mapping(node)
        if merged and len(node.value) > _MOST_ENTRIES:
            raise yaml.YAMLError("too much is merged")


def _load(text: str) -> Any:
    """Read YAML, class names as text; raise one of _NOT_YAML, also where aliases make much more of it than a file holds."""
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _keep_names_as_text(root, set())
        values = loader.construct_document(root)
    finally:
        loader.dispose()
    if _written_out(values, {}) > _MOST_YAML:
        raise ValueError("its aliases refer to each other too often")
    return values


def _keep_names_as_text(node: yaml.Node, seen: set[int]) -> None:
    """Give every plain value in the lists and mappings under `_TEXT_KEYS` the tag of text."""
    if id(node) in seen:  # an alias, perhaps of a node around it
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _keep_names_as_text(item, seen)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value in _TEXT_KEYS and not isinstance(value, yaml.ScalarNode):
                for item in value.value:
                    name = item[1] if isinstance(item, tuple) else item
                    if isinstance(name, yaml.ScalarNode):
                        name.tag = "tag:yaml.org,2002:str"
            _keep_names_as_text(value, seen)


def _written_out(value: Any, sizes: dict[int, float]) -> float:
    """Return about how many characters a value has where all its aliases are written out; one inside itself has no end."""
    if id(value) in sizes:
        return sizes[id(value)]
    if isinstance(value, Mapping | list | tuple | set):
        sizes[id(value)] = math.inf  # met again before it is known: it contains itself
        parts = (part for pair in value.items() for part in pair) if isinstance(value, Mapping) else iter(value)
        sizes[id(value)] = 1 + sum(_written_out(part, sizes) for part in parts)
        return sizes[id(value)]
    return 1 + len(value) if isinstance(value, str | bytes) else 1


def config_from_dict(values: Mapping[str, Any], source: str) -> Config:
    """Build a configuration from nested plain values; what is absent takes its default.

    Raises:
        InputError: naming `source` and the key, for an unknown key or a value of the wrong type or range.
    """
    values = dict(values)
    if values.get("augment") in ("none", None) and "augment" in values:
        values["augment"] = NO_AUGMENTATION
    config = _build(Config, values, prefix="", source=source)
    assert isinstance(config, Config)
    if config.classifier.model == "none":
        check_image_size(config.input.image_size)
        if config.input.channels != 3:
            raise InputError(f"{source}: 'input.channels' of a detector must be 3, got {config.input.channels}")
    if config.input.channels == 2:
        raise InputError(f"{source}: 'input.channels' must be 1 or 3, got 2")
    if config.input.resize not in ("letterbox", "stretch"):
        raise InputError(f"{source}: 'input.resize' must be letterbox or stretch, got {config.input.resize!r}")
    low, high = config.augment.scale
    if low > high:
        raise InputError(f"{source}: 'augment.scale' must be lowest and highest factor, got {low:g} and {high:g}")
    return config


def config_to_dict(config: Config) -> dict[str, Any]:
    """Return nested dictionaries of plain values that config_from_dict turns back into the same configuration."""
    return _plain(dataclasses.asdict(config))  # type: ignore[no-any-return]


def check_image_size(image_size: tuple[int, int], *, name: str = "image size") -> None:
    """Raise InputError unless height and width are positive multiples of 32, the coarsest stride."""
    if max(image_size) > MOST_PIXELS:
        raise InputError(
            f"image size must be at most {MOST_PIXELS:,} pixels along a side, got {short(max(image_size))}"
        )
    if any(side <= 0 or side % 32 for side in image_size):
        near = " ".join(str(max(32, round(side / 32) * 32)) for side in image_size)
        raise InputError(
            f"{name} must be multiples of 32, got {image_size[0]} x {image_size[1]} (height x width); try {near}"
        )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _build(cls: type, values: Any, *, prefix: str, source: str) -> Any:
    if not isinstance(values, Mapping):
        raise InputError(
            f"{source}: {prefix.rstrip('.') or 'the file'!r} must be a section of keys, got {short(values)}"
        )
    fields = {item.name: item for item in dataclasses.fields(cls)}
    types = typing.get_type_hints(cls)
    arguments = {}
    for key, value in values.items():
        if key not in fields:
            name = key if isinstance(key, str) and len(key) <= 80 else short(key)
            raise InputError(f"{source}: unknown key '{prefix}{name}'{_suggestion(name, prefix)}")
        if dataclasses.is_dataclass(types[key]):
            arguments[key] = _build(typing.cast(type, types[key]), value, prefix=f"{prefix}{key}.", source=source)
        else:
            arguments[key] = _convert(value, types[key], key=f"{prefix}{key}", source=source)
            _check_range(arguments[key], fields[key], key=f"{prefix}{key}", source=source)
    return cls(**arguments)


def _suggestion(key: str, prefix: str) -> str:
    names = [f"{item.name}" for item in dataclasses.fields(Config)]
    for section in dataclasses.fields(Config):
        if dataclasses.is_dataclass(section.default_factory):
            names += [f"{section.name}.{item.name}" for item in dataclasses.fields(section.default_factory)]
    near = difflib.get_close_matches(f"{prefix}{key}", names, n=1, cutoff=0.6)
    near = near or [name for name in names if name.split(".")[-1] == key][:1]
    siblings = [name for name in names if name.rpartition(".")[0] == prefix.rstrip(".")]
    return f"; did you mean '{near[0]}'?" if near else f"; it knows {', '.join(siblings)}"


def _convert(value: Any, expected: Any, *, key: str, source: str) -> Any:
    origin, inner = typing.get_origin(expected), typing.get_args(expected)
    if hasattr(value, "tolist"):  # a number or an array of NumPy's or torch's
        value = value.tolist()
    if expected is str and isinstance(value, os.PathLike):
        value = os.fspath(value)
    if origin is tuple:
        if key.endswith(".image_size") and isinstance(value, int):
            value = (value, value)
        if not isinstance(value, list | tuple) or (inner[-1] is not ... and len(value) != len(inner)):
            count = "several" if inner[-1] is ... else str(len(inner))
            raise InputError(f"{source}: '{key}' must be a list of {count} {inner[0].__name__}s, got {short(value)}")
        if len(value) > _MOST_ENTRIES:
            raise InputError(f"{source}: '{key}' has {len(value):,} entries, more than {_MOST_ENTRIES:,}")
        return tuple(_convert(item, inner[0], key=key, source=source) for item in value)
    if expected is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-3 as text
        except (ValueError, OverflowError):
            pass
    if expected is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if expected is str and value is None:
        return "none"
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        raise InputError(f"{source}: '{key}' must be {expected.__name__}, got {short(value)}")
    most = _MOST_CFG if key == "model.darknet" else _MOST_TEXT
    if isinstance(value, str) and len(value) > most:
        raise InputError(f"{source}: '{key}' has {len(value):,} characters, more than {most:,}")
    return value


def _check_range(value: Any, item: dataclasses.Field[Any], *, key: str, source: str) -> None:
    low, high = item.metadata.get("minimum", -math.inf), item.metadata.get("maximum", math.inf)
    for number in value if isinstance(value, tuple) else (value,):
        if not isinstance(number, int | float):
            continue
        if not low <= number <= high:
            large = high > _MOST_ENTRIES  # a limit that only a mistake goes beyond
            bounds = f"at least {low:g}" if large and number < low else f"from {low:g} to {high:,}"
            bounds = f"at least {low:g}" if high == math.inf else bounds
            bounds = "a number" if low == -math.inf else bounds
            raise InputError(f"{source}: '{key}' must be {bounds}, got {short(number)}")
        if math.isinf(number):
            raise InputError(f"{source}: '{key}' must be finite, got {number}")
