"""Every setting of a run, with its only default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from yolo_lite.errors import InputError, short

MOST_ENTRIES = 1000  # of a list
MOST_PIXELS = 16_384  # along a side of the network's input
_WIDEST = 16_384  # channels
_LONGEST = 1_000_000  # epochs, or pictures in a batch


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
    """A classifier instead of a detector, where a model is named (see models/classifiers/course.py)."""

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
class DataConfig:
    """The images: where they are, and which of them are used."""

    path: str = ""  # a folder, a YAML file, an annotation file or an archive
    classes: tuple[str, ...] = ()  # only these; none: all
    fraction: float = _between(1.0, 0, 1)  # part of the training images, drawn by the seed
    per_class: int = _between(0, 0, _LONGEST)  # of a classifier: at most so many training images of each class; 0: all
    shares: str = "70/15/15"  # of a classifier: how a folder without splits is divided, percent of train/val/test
    difficult: bool = False  # PASCAL VOC's difficult objects count as others do, instead of being ignored
    unlabelled: str = ""  # a folder of unlabelled images; the teacher supplies their labels


@dataclass(frozen=True)
class PostprocessConfig:
    """How detections are chosen from predictions."""

    score_threshold: float = _between(0.25, 0, 1)  # detections score above it
    iou_threshold: float = _between(0.6, 0, 1)  # of two detections of a class that overlap more, the lower score goes
    max_detections: int = _between(300, 1, 100_000)  # the most for one image


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
