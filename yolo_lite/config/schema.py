"""Every setting of a run: its default (given only here), its range and its meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from yolo_lite.errors import InputError, short

TASK_NAMES = ("detect", "classify")
MOST_ENTRIES = 1000  # in a list
RESIZES = ("letterbox", "corner", "stretch")
MOST_PIXELS = 16_384  # on each side of the network's input
_WIDEST = 16_384  # channels
_LONGEST = 1_000_000  # epochs, or images in a batch


def _setting(default: Any, low: float | None = None, high: float | None = None, *, help: str) -> Any:
    """Return a field of a section with its default, its lowest and highest value, and its help text."""
    bounds = {} if low is None else {"minimum": low, "maximum": float("inf") if high is None else high}
    return field(default=default, metadata={**bounds, "help": help})


@dataclass(frozen=True)
class DataConfig:
    """The images: their location, and which of them are used."""

    path: str = _setting("", help="folder, YAML file, annotation file or archive with the labelled images")
    classes: tuple[str, ...] = _setting((), help="names of the only classes to use; empty: all classes of the data")
    fraction: float = _setting(1.0, 0, 1, help="fraction of the training images to use, drawn at random by the seed")
    per_class: int = _setting(
        0, 0, _LONGEST, help="classifiers: largest number of training images of each class; 0: all"
    )
    shares: str = _setting(
        "70/15/15", help="classifiers: how a folder without splits is divided, in percent, into train/val/test"
    )
    difficult: bool = _setting(
        False, help="use the objects that PASCAL VOC marks as difficult like all others; otherwise they are ignored"
    )
    unlabelled: str = _setting("", help="folder of unlabelled images; the teacher supplies their labels")
    crops: bool = _setting(
        False, help="classifiers: train on cut-out objects of a detection set, and on pieces of its background"
    )


@dataclass(frozen=True)
class ModelConfig:
    """The detection network: a backbone, a neck and a head, each chosen by name (see models/build.py)."""

    backbone: str = _setting("csp", help="csp, shuffle, yolox, yolov1 or darknet")
    stem_width: int = _setting(16, 1, _WIDEST, help="channels of the first layer")
    widths: tuple[int, ...] = _setting(
        (32, 64, 128, 256), 2, _WIDEST, help="channels of the stages at strides 4 (if there are four), 8, 16 and 32"
    )
    depths: tuple[int, ...] = _setting((1, 2, 2, 1), 1, 200, help="number of bottlenecks or units in each stage")
    neck: str = _setting("pan", help="pan, ghost_pan, yolox or none")
    neck_width: int = _setting(64, 2, _WIDEST, help="channels of the neck")
    head: str = _setting(
        "anchor_free",
        help="anchor_free, distribution, yolox, grid (YOLOv1), dense_grid (YOLOv1, fully connected) or darknet",
    )
    head_width: int = _setting(
        64,
        1,
        _WIDEST,
        help="channels of the heads anchor_free and yolox; the head distribution keeps those of the neck",
    )
    head_depth: int = _setting(2, 1, 100, help="number of layers in each branch of the head")
    darknet: str = _setting("", help="backbone darknet: the text of its .cfg file")
    darknet_levels: tuple[int, ...] = _setting(
        (),
        0,
        10_000,
        help="backbone darknet: numbers of the layers whose feature maps it returns; empty: the inputs of its own output layers",
    )
    boxes_per_cell: int = _setting(2, 1, 100, help="YOLOv1: number of boxes that each cell predicts")
    depthwise: bool = _setting(False, help="YOLOX: depthwise-separable 3x3 convolutions")
    cells: int = _setting(7, 1, 512, help="head dense_grid: number of cells on each side")
    norm: str = _setting("batch", help="batch (batch normalisation), or none: folded into convolutions with biases")


@dataclass(frozen=True)
class ClassifierConfig:
    """The classification network (see models/classifiers)."""

    model: str = _setting("none", help="name of the network")
    dropout: tuple[float, ...] = _setting(
        (), 0, 0.95, help="probability of each dropout layer of the network; empty: the network's own values"
    )
    batch_norm: bool = _setting(False, help="batch normalisation after each layer, in networks where it is optional")
    init: str = _setting("he", help="initialisation of the weights: he, glorot, uniform or torch")
    loss: str = _setting(
        "cross_entropy", help="cross_entropy, mse (one-hot), margin (one-hot) or binary (one output for two classes)"
    )
    label_smoothing: float = _setting(0.0, 0, 0.99, help="label smoothing of the loss cross_entropy")
    freeze: bool = _setting(False, help="train only the last layer")


@dataclass(frozen=True)
class InputConfig:
    """How an image is turned into the input of the network."""

    image_size: tuple[int, int] = _setting(
        (320, 320), 1, MOST_PIXELS, help="height and width of the input; for detectors, multiples of 32"
    )
    channels: int = _setting(3, 1, 3, help="3 (RGB), or 1 for a classifier of grey images")
    resize: str = _setting(
        "letterbox",
        help="letterbox (keeps the aspect ratio), corner (so does YOLOX, image at the upper left) or stretch",
    )
    max_16bit: int = _setting(
        65535, 1, 65535, help="value that becomes white in a 16-bit image, such as 4095 for a 12-bit camera"
    )
    mean: tuple[float, float, float] = _setting(
        (123.675, 116.28, 103.53),
        help="mean of R, G and B (0 to 255) that is subtracted from the pixels; default: ImageNet's",
    )
    std: tuple[float, float, float] = _setting(
        (58.395, 57.12, 57.375),
        1e-6,
        help="standard deviation of R, G and B that the pixels are then divided by; default: ImageNet's",
    )


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes to training images; `augment: none` switches all of them off."""

    mosaic: float = _setting(0.5, 0, 1, help="probability of joining four images into one")
    scale: tuple[float, float] = _setting(
        (0.5, 1.5), 0.01, help="lowest and highest factor by which an image is scaled"
    )
    translate: float = _setting(0.1, 0, 1, help="largest shift, as a fraction of the image size")
    flip: float = _setting(0.5, 0, 1, help="probability of a horizontal flip")
    hue: float = _setting(0.015, 0, 0.5, help="largest shift of hue, as a fraction of the colour circle")
    saturation: float = _setting(0.25, 0, 1, help="largest shift of saturation, as a fraction of the full range")
    value: float = _setting(0.2, 0, 1, help="largest shift of brightness, as a fraction of the full range")
    min_visibility: float = _setting(0.15, 0, 1, help="smallest visible fraction of a box; boxes with less are dropped")
    multi_scale: float = _setting(
        0.0, 0, 0.9, help="detectors: largest random change of the input size in a step, as a fraction of it"
    )
    off_last: float = _setting(
        0.1, 0, 1, help="fraction of the epochs, at the end, that have no mosaic and weaker scaling"
    )


@dataclass(frozen=True)
class LossConfig:
    """Which points are assigned to which box, and how their errors are weighted."""

    assigner: str = _setting("task_aligned", help="task_aligned or static")
    static_share: float = _setting(0.1, 0, 1, help="fraction of the steps, at the start, that use the static assigner")
    top_k: int = _setting(10, 1, 10_000, help="largest number of points that are assigned to a box")
    alpha: float = _setting(1.0, 0, help="exponent of the class score in the alignment of task_aligned")
    beta: float = _setting(6.0, 0, help="exponent of the IoU in the alignment of task_aligned")
    box: str = _setting("ciou", help="IoU of the box loss: ciou, giou, diou or iou")
    class_weight: float = _setting(1.0, 0, help="weight of the class loss")
    gamma: float = _setting(0.0, 0, help="exponent of the class loss: 0 is cross-entropy, 2 is quality focal loss")
    box_weight: float = _setting(5.0, 0, help="weight of the IoU loss")
    l1_weight: float = _setting(1.0, 0, help="weight of the L1 loss of the distances, which are in strides")
    coord_weight: float = _setting(5.0, 0, help="YOLOv1: weight of the coordinates")
    object_weight: float = _setting(1.0, 0, help="YOLOv1: weight of the confidence of cells with an object")
    no_object_weight: float = _setting(0.5, 0, help="YOLOv1: weight of the confidence of all other cells")
    dfl_weight: float = _setting(
        0.25, 0, help="weight of the distribution focal loss, for a head that predicts distributions"
    )
    teach_class_weight: float = _setting(1.0, 0, help="weight of the loss against the teacher's classes")
    teach_box_weight: float = _setting(2.0, 0, help="weight of the loss against the teacher's boxes")


@dataclass(frozen=True)
class PretrainConfig:
    """Pretraining of a new detector's backbone: it first learns to classify the cut-out objects of the training images.

    YOLOv1 was trained in two such stages (Redmon et al. 2016, section 2.2), but its first stage used other images.
    """

    crops: int = _setting(
        0,
        0,
        _LONGEST,
        help="number of epochs over the objects and an equal number of background pieces; 0: no pretraining",
    )
    image_size: tuple[int, int] = _setting(
        (96, 96), 32, MOST_PIXELS, help="height and width that cut-out objects are resized to"
    )
    batch_size: int = _setting(64, 1, _LONGEST, help="number of cut-out objects in a batch")
    lr: float = _setting(0.002, 0, help="learning rate")


@dataclass(frozen=True)
class TrainConfig:
    """The training loop."""

    weights: str = _setting("", help="checkpoint that training starts from; empty: random weights")
    epochs: int = _setting(
        100,
        0,
        _LONGEST,
        help="number of passes over the training images; 0: 10, or up to 60 for few images of unfamiliar objects",
    )
    minutes: float = _setting(
        0.0, 0, help="time for the whole run, from which epochs and steps are computed; 0: no limit"
    )
    batch_size: int = _setting(
        16, 0, _LONGEST, help="number of images in a step; 0: 16, or 8 for up to 640 images of unfamiliar objects"
    )
    optimizer: str = _setting("adamw", help="adamw, sgd, rmsprop, adam or muon")
    enlarge: bool = _setting(
        False, help="train at a larger input.image_size than that of the weights if most objects are small"
    )
    momentum: float = _setting(0.9, 0, 0.9999, help="momentum of sgd and rmsprop")
    lr: float = _setting(
        0.001, -1, help="highest learning rate; -1: 0.0002 if the starting weights know the objects, otherwise 0.001"
    )
    weight_decay: float = _setting(0.05, 0, help="weight decay of the weights of convolutions and linear layers")
    schedule: str = _setting("flat_cosine", help="flat_cosine, cosine, steps or constant")
    milestones: tuple[int, ...] = _setting(
        (), 1, _LONGEST, help="schedule steps: epochs after which the learning rate falls"
    )
    step_factor: float = _setting(0.1, 1e-6, 1, help="schedule steps: factor on the learning rate at each milestone")
    warmup_steps: int = _setting(500, 0, 2**53, help="largest number of warm-up steps")
    warmup_share: float = _setting(0.05, 0, 1, help="largest fraction of all steps that are warm-up")
    flat_share: float = _setting(
        0.4, 0, 1, help="schedule flat_cosine: fraction of all steps, warm-up included, before the cosine begins"
    )
    final_lr: float = _setting(0.05, 0, 1, help="learning rate at the end of the cosine, as a fraction of lr")
    clip_norm: float = _setting(10.0, 0, help="norm to which a larger gradient is clipped; 0: no clipping")
    ema_decay: float = _setting(0.9998, 0, 1, help="decay of the exponential moving average of the weights")
    ema_share: float = _setting(0.02, 0, 1, help="largest horizon of that average, as a fraction of all steps")
    keep_start: float = _setting(
        0.0,
        -1,
        0.99,
        help="fraction of the starting weights in the final weights, except for new classes; -1: 0.4 if the starting "
        "weights know the objects and some of the classes, otherwise 0",
    )
    precision: str = _setting(
        "auto", help="fp32, bf16, or auto: bf16 if the hardware supports it natively, otherwise fp32"
    )
    accumulate: int = _setting(
        1, 1, _LONGEST, help="number of micro-batches that a batch is divided into, to save memory"
    )
    teacher: str = _setting("", help="weights of a detector whose predictions are additional training targets")
    freeze: str = _setting("none", help="detectors: none, or backbone to keep the weights of the backbone fixed")
    repeat_threshold: float = _setting(
        0.0, 0, 1, help="images of classes that appear in a smaller fraction of the images are repeated; 0: none"
    )
    steps_per_epoch: int = _setting(0, 0, 2**53, help="largest number of steps in an epoch; 0: no limit")
    preflight: bool = _setting(True, help="check first that the network can overfit eight images, in at most 60 steps")
    tensorboard: bool = _setting(False, help="also write the metrics of every epoch for TensorBoard")
    compile: bool = _setting(False, help="compile the network with torch.compile, which can be faster on a GPU")
    deterministic: bool = _setting(False, help="refuse operations whose results may differ from run to run")
    evaluate_every: int = _setting(
        1,
        0,
        _LONGEST,
        help="number of epochs between evaluations; 0: chosen to take about 5 % of the time, at most ten of them",
    )
    evaluate_images: int = _setting(
        0,
        0,
        _LONGEST,
        help="number of validation images, drawn with the seed, that evaluations during the run score; 0: all, or with "
        "--time as many as take 5 % of it",
    )
    patience: int = _setting(
        0, 0, _LONGEST, help="number of epochs without improvement after which training stops; 0: never"
    )
    workers: int = _setting(
        -1, -1, 4096, help="number of processes that load images; -1: 2 when training on a CPU, up to 8 on a GPU"
    )
    cache: str = _setting(
        "auto",
        help="keep decoded images in RAM: auto (if they fit in half of the free memory), ram (stop if they do not fit) or none",
    )
    seed: int = _setting(0, 0, 2**53, help="seed of the initial weights, the order of images and the augmentation")


@dataclass(frozen=True)
class PostprocessConfig:
    """How detections are chosen from the predictions of a network."""

    score_threshold: float = _setting(
        -1.0,
        -1,
        1,
        help="score above which detections are reported; -1: where F1 was highest on the validation images, or 0.25",
    )
    iou_threshold: float = _setting(
        0.6, 0, 1, help="IoU of two detections of one class above which the lower score is dropped"
    )
    max_detections: int = _setting(300, 1, help="largest number of detections in an image")


@dataclass(frozen=True)
class EvaluateConfig:
    """How detections are chosen for evaluation; AP needs detections with low scores too."""

    score_threshold: float = _setting(0.001, 0, 1, help="score above which detections are evaluated")
    iou_threshold: float = _setting(
        0.7, 0, 1, help="IoU of two detections of one class above which the lower score is dropped"
    )
    max_detections: int = _setting(300, 1, help="largest number of detections in an image")
    tta: bool = _setting(False, help="look at each image mirrored as well (test-time augmentation)")
    tiles: str = _setting(
        "", help="rows and columns of tiles to look at as well, such as 2x2, for small objects; empty: no tiles"
    )
    tile: int = _setting(
        0, 0, MOST_PIXELS, help="side in pixels of the image of square tiles to look at as well; 0: no tiles"
    )
    overlap: float = _setting(0.2, 0, 0.9, help="overlap of neighbouring tiles, as a fraction of their side")
    resamples: int = _setting(
        0,
        0,
        _LONGEST,
        help="number of random halves of the images for the 95% intervals of AP and AP50; 0: no intervals",
    )


@dataclass(frozen=True)
class Config:
    """All settings of a run."""

    task: str = _setting("detect", help="detect or classify")
    name: str = _setting("yolo_lite-n", help="name of the network, used in file names and model cards")
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    input: InputConfig = field(default_factory=InputConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)


NO_AUGMENTATION: Mapping[str, Any] = MappingProxyType(
    {"mosaic": 0, "scale": (1, 1), "translate": 0, "flip": 0, "hue": 0, "saturation": 0, "value": 0, "off_last": 0}
)


def check_image_size(image_size: tuple[int, int], *, name: str = "image size") -> None:
    """Raise InputError unless height and width are positive multiples of 32, the largest stride.

    Example:
        >>> check_image_size((100, 320))
        Traceback (most recent call last):
        yolo_lite.errors.InputError: image size must be multiples of 32, got 100 x 320 (height x width); try 96 320
    """
    if max(image_size) > MOST_PIXELS:
        raise InputError(f"{name} must be at most {MOST_PIXELS:,} pixels on each side, got {short(max(image_size))}")
    if any(side <= 0 or side % 32 for side in image_size):
        near = " ".join(str(max(32, round(side / 32) * 32)) for side in image_size)
        raise InputError(
            f"{name} must be multiples of 32, got {image_size[0]} x {image_size[1]} (height x width); try {near}"
        )
