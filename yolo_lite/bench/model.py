"""Measure a network on this machine: parameters, operations, latency and training speed."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from yolo_lite.config.schema import Config
from yolo_lite.data.pipeline.loader import collate_boxes
from yolo_lite.device import keep_freed_memory, now, pick_precision, place
from yolo_lite.models.blocks import fuse
from yolo_lite.models.build import build_detector
from yolo_lite.models.yolo import Yolo
from yolo_lite.predict.postprocess import postprocess
from yolo_lite.structures.batches import Sample
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.records import Records
from yolo_lite.training.loop import to_device, train_step
from yolo_lite.training.state import State
from yolo_lite.training.tasks.detection import DetectionTask

_SIZES = (320, 416, 640)


@dataclass(frozen=True)
class SizeReport:
    """Measurements at one input size, for one image.

    Attributes:
        image_size: height and width of the input.
        flops: operations; a multiply-add counts as two.
        forward_ms: median milliseconds of the network alone.
        with_nms_ms: median milliseconds with postprocessing.
    """

    image_size: int
    flops: int
    forward_ms: float
    with_nms_ms: float


@dataclass(frozen=True)
class ModelReport:
    """The figures that `bench model` prints."""

    parameters: int
    sizes: tuple[SizeReport, ...]
    training_images_per_second: float
    precision: str


def bench_model(
    config: Config, classes: int, *, device: torch.device, sizes: Sequence[int] = (), repeats: int = 20
) -> ModelReport:
    """Measure a network with random weights on random images; each time is a median after a warm-up.

    Args:
        config: the settings of the network and its training.
        classes: number of classes.
        device: the device to measure.
        sizes: sides of the square inputs; empty: 320, 416 and 640, or the only size of a fully connected head.
        repeats: number of measurements for each median.

    Example:
        >>> from yolo_lite.config.resolve import override_config
        >>> config = override_config(Config(), {"input.image_size": 64, "train.batch_size": 1})
        >>> report = bench_model(config, 2, device=torch.device("cpu"), sizes=[64], repeats=1)
        >>> report.parameters == sum(part.numel() for part in build_detector(config, 2).parameters())
        True
    """
    sizes = sizes or ((config.input.image_size[0],) if config.model.head == "dense_grid" else _SIZES)
    model = build_detector(config, classes).eval()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    model = place(model, device)
    fuse(model)
    reports = tuple(_bench_size(model, size, device=device, repeats=repeats) for size in sizes)
    precision = pick_precision(config.train.precision, device)
    return ModelReport(
        parameters,
        reports,
        training_images_per_second=_training_rate(config, classes, device=device, precision=precision),
        precision=precision,
    )


@torch.inference_mode()
def _bench_size(model: Yolo, size: int, *, device: torch.device, repeats: int) -> SizeReport:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8, generator=generator).to(device)
    with FlopCounterMode(display=False) as counter:
        model(image)
    forward = _median_ms(lambda: model(image), device, repeats)
    whole = _median_ms(
        lambda: postprocess(model(image), model.decode, score_threshold=0.25, iou_threshold=0.6), device, repeats
    )
    return SizeReport(size, counter.get_total_flops(), forward_ms=forward, with_nms_ms=whole)


def _training_rate(config: Config, classes: int, *, device: torch.device, precision: str, steps: int = 8) -> float:
    """Return the images per second of training steps, without loading, on images with six boxes each."""
    keep_freed_memory()
    generator = torch.Generator().manual_seed(0)
    height, width = config.input.image_size
    samples = []
    for index in range(config.train.batch_size):
        image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
        corners = torch.rand(6, 2, generator=generator) * torch.tensor([width * 0.7, height * 0.7])
        sizes = (0.1 + 0.2 * torch.rand(6, 2, generator=generator)) * torch.tensor([width, height])
        labels = torch.randint(0, classes, (6,), generator=generator)
        samples.append(Sample(image, torch.cat([corners, corners + sizes], 1), labels=labels, position=index))
    batch = to_device(collate_boxes(samples), device)
    model = place(build_detector(config, classes).train(), device)
    nothing = DetectionSet(Records.pack(()), (), category_ids=(), source="random images")
    task = DetectionTask(config, nothing, val=nothing, device=device)
    state = State.new(model, config.train, steps=1000, precision=precision)
    milliseconds = _median_ms(
        lambda: train_step(task, state, batch=batch, progress=0.5),
        device,
        steps,
    )
    return 1000 * len(samples) / milliseconds


def _median_ms(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    times = []
    for _ in range(repeats + 3):  # the first three warm up
        started = now(device)
        work()
        times.append(1000 * (now(device) - started))
    return statistics.median(times[3:])
