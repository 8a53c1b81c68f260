"""Every setting of a run: its only default, its range, and what it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from yolo_lite.errors import InputError, short

TASK_NAMES = ("detect", "classify")
MOST_ENTRIES = 1000  # of a list
RESIZES = ("letterbox", "corner", "stretch")
MOST_PIXELS = 16_384  # along a side of the network's input
_WIDEST = 16_384  # channels
_LONGEST = 1_000_000  # epochs, or images in a batch


def _setting(default: Any, low: float | None = None, high: float | None = None, *, help: str) -> Any:
    """Return a field of a section: its default, its lowest and highest value, and a sentence about it."""
    bounds = {} if low is None else {"minimum": low, "maximum": float("inf") if high is None else high}
    return field(default=default, metadata={**bounds, "help": help})


@dataclass(frozen=True)
class DataConfig:
    """The images: where they are, and which of them are used."""

    path: str = _setting("", help="folder, YAML file, annotation file or archive with the labelled images")
    classes: tuple[str, ...] = _setting((), help="only these classes of the data; empty: all")
    fraction: float = _setting(1.0, 0, 1, help="part of the training images that is used, drawn by the seed")
    per_class: int = _setting(
        0, 0, _LONGEST, help="classifiers: at most this many training images of each class; 0: all"
    )
    shares: str = _setting(
        "70/15/15", help="classifiers: division of a folder without splits, in percent of train/val/test"
    )
    difficult: bool = _setting(
        False, help="treat objects that PASCAL VOC marks difficult as all others; otherwise they are ignored"
    )
    unlabelled: str = _setting("", help="folder of unlabelled images; the teacher supplies their labels")
    crops: bool = _setting(
        False, help="classifiers: the images are the objects of a detection set, cut out, and pieces of its background"
    )


@dataclass(frozen=True)
class ModelConfig:
    """The network: one backbone, neck and head, each chosen by name (see models/build.py)."""

    backbone: str = _setting("csp", help="csp, shuffle, yolox, yolov1 or darknet")
    stem_width: int = _setting(16, 1, _WIDEST, help="channels of the first layer")
    widths: tuple[int, ...] = _setting(
        (32, 64, 128, 256), 2, _WIDEST, help="channels of the stages at stride (4,) 8, 16 and 32"
    )
    depths: tuple[int, ...] = _setting((1, 2, 2, 1), 1, 200, help="bottlenecks or units in each stage")
    neck: str = _setting("pan", help="pan, ghost_pan, yolox or none")
    neck_width: int = _setting(64, 2, _WIDEST, help="channels of the neck")
    head: str = _setting("anchor_free", help="anchor_free, distribution or yolox; YOLOv1's grid or dense_grid; darknet")
    head_width: int = _setting(
        64, 1, _WIDEST, help="channels of the heads anchor_free and yolox; distribution keeps the neck's"
    )
    head_depth: int = _setting(2, 1, 100, help="layers in each branch of the head")
    darknet: str = _setting("", help="backbone darknet: text of its .cfg file")
    darknet_levels: tuple[int, ...] = _setting(
        (), 0, 10_000, help="backbone darknet: layers whose maps leave it; empty: those that its own outputs read"
    )
    boxes_per_cell: int = _setting(2, 1, 100, help="boxes that a cell of YOLOv1's heads predicts")
    depthwise: bool = _setting(False, help="depthwise-separable 3x3 convolutions in a network of YOLOX")
    cells: int = _setting(7, 1, 512, help="cells along each side of the head dense_grid")
    norm: str = _setting("batch", help="batch, or none: folded into the convolutions, which then have biases")


@dataclass(frozen=True)
class ClassifierConfig:
    """The network of the task classify (see models/classifiers)."""

    model: str = _setting("none", help="name of the network")
    dropout: tuple[float, ...] = _setting(
        (), 0, 0.95, help="dropout at each place where the network has it; empty: the network's own"
    )
    batch_norm: bool = _setting(False, help="normalise after each layer, in networks that leave the choice")
    init: str = _setting("he", help="first weights: he, glorot, uniform or torch")
    loss: str = _setting(
        "cross_entropy", help="cross_entropy, mse (one-hot), margin (one-hot) or binary (one output for two classes)"
    )
    label_smoothing: float = _setting(0.0, 0, 0.99, help="label smoothing of the cross-entropy")
    freeze: bool = _setting(False, help="train the last layer only")


@dataclass(frozen=True)
class InputConfig:
    """How an image becomes the network's input."""

    image_size: tuple[int, int] = _setting(
        (320, 320), 1, MOST_PIXELS, help="height and width of the input; detectors: multiples of 32"
    )
    channels: int = _setting(3, 1, 3, help="3, or 1 for a classifier of grey images")
    resize: str = _setting(
        "letterbox",
        help="letterbox (keeps the shape), corner (the same, the image at the upper left) or stretch",
    )
    max_16bit: int = _setting(
        65535, 1, 65535, help="value of a 16-bit image that becomes white, such as 4095 for 12-bit cameras"
    )
    mean: tuple[float, float, float] = _setting(
        (123.675, 116.28, 103.53), help="mean of R, G and B that is subtracted (pixels 0..255; ImageNet's)"
    )
    std: tuple[float, float, float] = _setting(
        (58.395, 57.12, 57.375), 1e-6, help="standard deviation of R, G and B that pixels are divided by"
    )


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes to training images; `augment: none` switches every one of them off."""

    mosaic: float = _setting(0.5, 0, 1, help="probability of joining four images into one")
    scale: tuple[float, float] = _setting(
        (0.5, 1.5), 0.01, help="lowest and highest factor on the size of everything in the image"
    )
    translate: float = _setting(0.1, 0, 1, help="largest shift, as a fraction of the image")
    flip: float = _setting(0.5, 0, 1, help="probability of swapping left and right")
    hue: float = _setting(0.015, 0, 0.5, help="largest shift of hue, as a fraction of the colour circle")
    saturation: float = _setting(0.25, 0, 1, help="largest shift of saturation, as a fraction of the full range")
    value: float = _setting(0.2, 0, 1, help="largest shift of brightness, as a fraction of the full range")
    min_visibility: float = _setting(
        0.15, 0, 1, help="smallest fraction of a box that must stay in the image; boxes with less are dropped"
    )
    multi_scale: float = _setting(
        0.0, 0, 0.9, help="detectors: largest change of the input size from step to step, as a fraction"
    )
    off_last: float = _setting(
        0.1, 0, 1, help="fraction of the epochs, at the end, without mosaic and with weaker scaling"
    )


@dataclass(frozen=True)
class LossConfig:
    """Which points answer for which box, and what their error costs."""

    assigner: str = _setting("task_aligned", help="task_aligned or static")
    static_share: float = _setting(0.1, 0, 1, help="fraction of the steps, at the start, with the static assigner")
    top_k: int = _setting(10, 1, 10_000, help="points that a box may claim")
    alpha: float = _setting(1.0, 0, help="exponent of the class score in the alignment")
    beta: float = _setting(6.0, 0, help="exponent of the IoU in the alignment")
    box: str = _setting("ciou", help="ciou, giou, diou or iou")
    class_weight: float = _setting(1.0, 0, help="weight of the class part")
    gamma: float = _setting(0.0, 0, help="exponent in the class part: 0 is cross-entropy, 2 quality focal loss")
    box_weight: float = _setting(5.0, 0, help="weight of the IoU part")
    l1_weight: float = _setting(1.0, 0, help="weight of the distances, in strides")
    coord_weight: float = _setting(5.0, 0, help="YOLOv1: weight of coordinates")
    object_weight: float = _setting(1.0, 0, help="YOLOv1: weight of the confidence of cells with an object")
    no_object_weight: float = _setting(0.5, 0, help="YOLOv1: weight of the confidence of all other cells")
    dfl_weight: float = _setting(0.25, 0, help="weight of the distribution focal loss, where the head has bins")
    teach_class_weight: float = _setting(1.0, 0, help="weight of the teacher's classes")
    teach_box_weight: float = _setting(2.0, 0, help="weight of the teacher's boxes")


@dataclass(frozen=True)
class PretrainConfig:
    """Before a detector is trained from scratch, its backbone can learn to tell its objects, cut out, from each other.

    YOLOv1 was trained in two such stages (Redmon et al. 2016, section 2.2), though on other images.
    """

    crops: int = _setting(0, 0, _LONGEST, help="epochs over the objects and as many pieces of background; 0: none")
    image_size: tuple[int, int] = _setting((96, 96), 32, MOST_PIXELS, help="height and width of a cut-out object")
    batch_size: int = _setting(64, 1, _LONGEST, help="cut-out objects in a batch")
    lr: float = _setting(0.002, 0, help="learning rate")


@dataclass(frozen=True)
class TrainConfig:
    """The training loop."""

    weights: str = _setting("", help="checkpoint that training starts from; empty: from scratch")
    epochs: int = _setting(100, 1, _LONGEST, help="passes over the training images")
    minutes: float = _setting(0.0, 0, help="time the run may take, by which epochs and steps are set; 0: no limit")
    batch_size: int = _setting(16, 1, _LONGEST, help="images in a step")
    optimizer: str = _setting("adamw", help="adamw, sgd, rmsprop, adam or muon")
    momentum: float = _setting(0.9, 0, 0.9999, help="momentum of sgd and rmsprop")
    lr: float = _setting(0.001, 0, help="highest learning rate")
    weight_decay: float = _setting(0.05, 0, help="weight decay of convolution and linear weights")
    schedule: str = _setting("flat_cosine", help="flat_cosine, cosine, steps or constant")
    milestones: tuple[int, ...] = _setting((), 1, _LONGEST, help="schedule steps: epochs after which the rate falls")
    step_factor: float = _setting(0.1, 1e-6, 1, help="schedule steps: factor on the rate at each milestone")
    warmup_steps: int = _setting(500, 0, 2**53, help="steps of warm-up, at most")
    warmup_share: float = _setting(0.05, 0, 1, help="fraction of all steps that warm-up may take")
    flat_share: float = _setting(0.4, 0, 1, help="fraction of all steps, warm-up included, before the cosine begins")
    final_lr: float = _setting(0.05, 0, 1, help="end of the cosine, as a fraction of lr")
    clip_norm: float = _setting(10.0, 0, help="largest norm of the gradient; 0: no clipping")
    ema_decay: float = _setting(0.9998, 0, 1, help="decay of the exponential moving average of the weights")
    ema_share: float = _setting(0.02, 0, 1, help="horizon of that average, at most this fraction of all steps")
    keep_start: float = _setting(
        0.0,
        -1,
        0.99,
        help="fraction of the starting weights that is mixed back in, except for new classes; -1: 0.4 where the weights "
        "know classes of the data, otherwise 0",
    )
    precision: str = _setting("auto", help="fp32, bf16, or auto: bf16 where the machine computes in it")
    accumulate: int = _setting(1, 1, _LONGEST, help="micro-batches that a batch is divided into, to save memory")
    teacher: str = _setting("", help="weights of a detector that helps this one learn")
    freeze: str = _setting("none", help="detectors: backbone keeps the weights of the backbone as they are")
    repeat_threshold: float = _setting(
        0.0, 0, 1, help="classes in a smaller fraction of the images are shown more often; 0: none"
    )
    steps_per_epoch: int = _setting(0, 0, 2**53, help="steps of an epoch, at most; 0: as many as there are batches")
    preflight: bool = _setting(True, help="first check that the network can overfit eight images, in at most 60 steps")
    tensorboard: bool = _setting(False, help="write the numbers of every epoch for TensorBoard as well")
    compile: bool = _setting(False, help="torch.compile the network, which can be faster on a GPU")
    deterministic: bool = _setting(False, help="refuse operations that may differ from run to run")
    evaluate_every: int = _setting(1, 1, _LONGEST, help="epochs from one evaluation to the next")
    patience: int = _setting(0, 0, _LONGEST, help="epochs without a better one after which training stops; 0: never")
    workers: int = _setting(
        -1, -1, 4096, help="processes that load images; -1: 2 where a CPU computes, up to 8 beside a GPU"
    )
    cache: str = _setting(
        "auto", help="decoded images in RAM: auto (if they fit in half of the free memory), ram (or else stop) or none"
    )
    seed: int = _setting(0, 0, 2**53, help="seed of first weights, order and augmentation")


@dataclass(frozen=True)
class PostprocessConfig:
    """How detections are chosen from predictions."""

    score_threshold: float = _setting(
        -1.0, -1, 1, help="score above which detections are reported; -1: where F1 was highest on validation, or 0.25"
    )
    iou_threshold: float = _setting(
        0.6, 0, 1, help="IoU of two detections of one class above which the lower score is dropped"
    )
    max_detections: int = _setting(300, 1, help="detections in an image, at most")


@dataclass(frozen=True)
class EvaluateConfig:
    """How detections are chosen to be scored: AP asks for those of low scores too."""

    score_threshold: float = _setting(0.001, 0, 1, help="score above which detections are scored")
    iou_threshold: float = _setting(
        0.7, 0, 1, help="IoU of two detections of one class above which the lower score is dropped"
    )
    max_detections: int = _setting(300, 1, help="detections in an image, at most")
    resamples: int = _setting(
        0, 0, _LONGEST, help="sets of images drawn for the 95% intervals of AP and AP50; 0: no intervals"
    )


@dataclass(frozen=True)
class Config:
    """A whole run: everything that is asked for."""

    task: str = _setting("detect", help="detect or classify")
    name: str = _setting("yolo_lite-n", help="name of the network, in file names and cards")
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
