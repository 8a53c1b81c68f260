"""The steps of check_gpu.py: each compares with the CPU or another library first, and then measures."""

from __future__ import annotations

import contextlib
import gc
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import check_ops
import numpy as np
import torch
from PIL import Image, ImageDraw
from runner import Session, Skipped, Step
from torch import Tensor, nn

from yolo_lite import Detector, export, ranks, train, train_classifier
from yolo_lite.bench import ops as bench
from yolo_lite.checkpoints.checkpoint import load_checkpoint
from yolo_lite.data.pipeline.colour import shift_hsv
from yolo_lite.data.pipeline.loader import loading_processes
from yolo_lite.device import describe_hardware, pick_device, pick_precision, place
from yolo_lite.errors import InputError
from yolo_lite.media.images import read_image
from yolo_lite.ops import backend, batched_nms, box_iou, nms, warmup
from yolo_lite.predict.files import sample_image
from yolo_lite.predict.postprocess import postprocess
from yolo_lite.shipped import DEFAULT_WEIGHTS
from yolo_lite.structures.results import Detections
from yolo_lite.training.loop import autocast, to_device, train_step
from yolo_lite.training.recipe import TASKS, fit, plan, resume
from yolo_lite.training.state import State
from yolo_lite.training.task import Listener, StepReport
from yolo_lite.training.tasks import detection

CLASSES = {"red": (210, 50, 40), "green": (60, 180, 70), "blue": (50, 80, 210)}


@dataclass(frozen=True)
class Sizes:
    """How much a step does."""

    config: str  # a network that is trained from scratch
    image_size: int
    batch: int  # of a training step
    steps: int  # in an epoch
    repeats: int  # of a measurement
    weights: str  # a network that detects
    side: int | None  # of its input; None: that of the weights
    many: int  # images that are detected in at once
    totals: tuple[int, ...]  # boxes in an image
    cases: int  # random cases of suppression
    settings: Mapping[str, object] = field(default_factory=dict)  # of a training


ON_GPU = Sizes(
    "nano",
    image_size=320,
    batch=64,
    steps=12,
    repeats=9,
    weights=DEFAULT_WEIGHTS,
    side=None,
    many=32,
    totals=(300, 1000, 8400),
    cases=1000,
)
ON_CPU = Sizes(
    "pico",
    image_size=64,
    batch=4,
    steps=2,
    repeats=1,
    weights="yolo_lite-pico-voc5",
    side=160,
    many=2,
    totals=(100,),
    cases=10,
    settings={
        "model.stem_width": 8,
        "model.widths": [16, 32, 64, 96],
        "model.neck_width": 32,
        "model.head_width": 32,
        "train.optimizer": "adamw",
        "train.workers": 0,
    },
)


def sizes(session: Session) -> Sizes:
    return ON_GPU if session.device == "cuda" else ON_CPU


def other_device(session: Session) -> torch.device:
    """Return the device to check; kernels and cuBLAS are set up before anything is timed."""
    device = pick_device(session.device)
    torch.ones(8, 8, device=device).matmul(torch.ones(8, 8, device=device)).sum().item()
    return device


@contextlib.contextmanager
def forced(name: str) -> Iterator[None]:
    """Force a backend of the ops for a while."""
    with mock.patch.dict(os.environ, {"YOLO_LITE_OPS": name}):
        yield


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Compute convolutions and products in float32 instead of TF32."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


# What device, and which precision


def device(session: Session) -> str:
    """auto takes the GPU, bf16 is chosen where it is native, and a GPU that is not there is refused in one line."""
    chosen = pick_device("auto" if session.device == "cuda" else "cpu")
    assert chosen.type == session.device, f"--device auto gave {chosen}"
    precision, hardware = pick_precision("auto", chosen), describe_hardware(chosen)
    workers = loading_processes(-1, chosen)
    session.note(hardware=hardware, precision=precision, loading_processes=workers, backend=backend(chosen))
    if chosen.type == "cuda":
        properties = torch.cuda.get_device_properties(chosen)
        session.note(capability=f"{properties.major}.{properties.minor}", memory_bytes=properties.total_memory)
        native = torch.cuda.is_bf16_supported(including_emulation=False)
        assert precision == ("bf16" if native else "fp32"), precision
    absent = f"cuda:{torch.cuda.device_count()}"
    assert absent in refusal(lambda: pick_device(absent)), f"{absent} was accepted"
    return f"{hardware}; {precision}, {workers} loading processes"


def refusal(work: Callable[[], object]) -> str:
    """Return the line with which some work is refused; empty if it is not."""
    try:
        work()
    except InputError as error:
        return str(error)
    return ""


# The ops


def ops_exact(session: Session) -> str:
    """Every check of check_ops.py but the sanitizers, with the CUDA kernels."""
    os.environ["YOLO_LITE_OPS"] = "cuda"
    warmup("cuda")
    wrong = []
    checks = check_ops.checks(sizes(session).cases)
    for name, check in checks:
        try:
            session.note(**{name: check()})
        except Exception as error:
            session.note(**{name: f"FAILED: {error}"})
            wrong.append(
                f"{name} ({str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__})"
            )
    assert not wrong, f"{len(wrong)} of {len(checks)} checks: {'; '.join(wrong)}"
    return f"{len(checks)} checks equal to the CPU"


def ops_timed(session: Session) -> str:
    """nms, batched_nms, box_iou and nms_padded beside torchvision, in ratios; nms_padded also as a CUDA graph."""
    size, on = sizes(session), other_device(session)
    names = ("cuda", "torch") if on.type == "cuda" else (backend(on), "torch")
    summary = []
    for name in names:
        with forced(name), mock.patch.object(bench, "TOTALS", size.totals):
            assert warmup(on) == name
            rows = [padded_row(report) for report in bench.bench_nms(on, repeats=size.repeats)]
            single = [single_row(total, on, repeats=size.repeats) for total in size.totals]
        session.note(**{f"nms_padded_{name}": rows, f"single_{name}": single})
        last = next(row for row in reversed(rows) if row["batch"] == 1), rows[-1]
        told = [f"B={row['batch']}: {row['speed']:.2f}" for row in last]
        told += [f"graph {last[1]['graph_speed']:.2f}"] if last[1]["graph_speed"] else []
        told += [f"nms {single[-1]['nms']:.2f}", f"batched_nms {single[-1]['batched_nms']:.2f}"]
        told += [f"box_iou {single[-1]['box_iou']:.2f}"]
        summary.append(f"{name} " + ", ".join(told))
    return f"{size.totals[-1]:,} boxes, times as fast as torchvision: " + "; ".join(summary)


def padded_row(report: bench.NmsReport) -> dict[str, Any]:
    """Return the milliseconds of nms_padded, and how many times as fast as torchvision's loop it is."""
    graph = report.graph_ms and report.torchvision_ms / report.graph_ms
    milliseconds = {"torchvision_ms": report.torchvision_ms, "ours_ms": report.ours_ms, "graph_ms": report.graph_ms}
    speed = report.torchvision_ms / report.ours_ms
    return {"batch": report.batch, "boxes": report.total, **milliseconds, "speed": speed, "graph_speed": graph}


def single_row(total: int, on: torch.device, *, repeats: int) -> dict[str, Any]:
    """Return how many times as fast as torchvision's the drop-ins are, for one image."""
    from torchvision import ops as torchvision

    boxes, scores, labels = (tensor[0].to(on) for tensor in bench._scene(1, total, 80))
    some = boxes[:1000]
    with forced(""):  # torchvision's batched_nms moves the boxes of each class, which rounds them: not an oracle
        right = batched_nms(boxes.cpu(), scores.cpu(), labels.cpu(), 0.5)
    wanted = {"nms": torchvision.nms(boxes.cpu(), scores.cpu(), 0.5), "batched_nms": right}
    wanted["box_iou"] = torchvision.box_iou(some.cpu(), some.cpu())
    pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "nms": (lambda: torchvision.nms(boxes, scores, 0.5), lambda: nms(boxes, scores, 0.5)),
        "batched_nms": (
            lambda: torchvision.batched_nms(boxes, scores, labels, 0.5),
            lambda: batched_nms(boxes, scores, labels, 0.5),
        ),
        "box_iou": (lambda: torchvision.box_iou(some, some), lambda: box_iou(some, some)),
    }
    row: dict[str, Any] = {"boxes": total}
    for name, (theirs, ours) in pairs.items():
        torch.testing.assert_close(ours().cpu(), wanted[name], atol=1e-5, rtol=0, msg=f"{name} differs from the CPU's")
        theirs_ms, ours_ms = bench._medians_ms((theirs, ours), on, repeats=repeats)
        row |= {name: theirs_ms / ours_ms, f"{name}_ms": ours_ms, f"{name}_torchvision_ms": theirs_ms}
    return row


# Detection


def detection_agrees(session: Session) -> str:
    """The default network finds on this device what it finds on the CPU, with TF32 off and with torch's defaults."""
    on = other_device(session)
    image = read_image(sample_image(), 65535)
    images = [image, image[:, ::-1].copy(), image[: image.shape[0] // 2].copy(), image[::4, ::4].copy()]
    size = sizes(session)
    wanted = Detector(size.weights, device="cpu", image_size=size.side, score_threshold=0.1)(images)
    there = Detector(size.weights, device=on, image_size=size.side, score_threshold=0.1)
    assert sum(map(len, wanted)) >= len(images), "too few detections to compare"
    with full_precision():
        exact = compare(wanted, there(images), score_gap=1e-3, overlap=0.999)
    usual = compare(wanted, there(images), score_gap=0.02, overlap=0.95)
    session.note(detections=sum(map(len, wanted)), float32=exact, defaults=usual)
    assert not exact["alone"], f"in float32, {exact['alone']} detections have no like"
    assert usual["alone"] <= 0.05 * sum(map(len, wanted)), f"by default, {usual['alone']} detections have no like"
    return (
        f"{sum(map(len, wanted))} detections; scores within {exact['scores']:.1e} in float32, {usual['scores']:.1e} by "
        f"default; boxes within {exact['pixels']:.3f} and {usual['pixels']:.3f} px"
    )


def compare(wanted: list[Detections], found: list[Detections], *, score_gap: float, overlap: float) -> dict[str, float]:
    """Return the largest differences, and how many detections of either side have no like on the other.

    A detection whose score lies within score_gap of the threshold of 0.1 may be absent.
    """
    gaps = {"scores": 0.0, "pixels": 0.0, "alone": 0}
    for one, other in [*zip(wanted, found), *zip(found, wanted)]:
        for box, score, label in zip(one.boxes, one.scores, one.labels):
            same = np.flatnonzero((other.labels == label) & (np.abs(other.scores - score) <= score_gap))
            ious = box_iou(torch.tensor(box[None]), torch.tensor(other.boxes[same]).reshape(-1, 4))[0].numpy()
            best = int(ious.argmax()) if len(ious) else -1
            if best >= 0 and ious[best] >= overlap:
                gaps["scores"] = max(gaps["scores"], float(abs(other.scores[same[best]] - score)))
                gaps["pixels"] = max(gaps["pixels"], float(np.abs(other.boxes[same[best]] - box).max()))
            elif score > 0.1 + score_gap:
                gaps["alone"] += 1
    return gaps


def detection_timed(session: Session) -> str:
    """Images per second of the default network with NMS, for one image and many, and of Detector with its resizing."""
    size, on = sizes(session), other_device(session)
    detector = Detector(size.weights, device=on, image_size=size.side, batch_size=size.many)
    images = [read_image(sample_image(), 65535)] * size.many
    (milliseconds,) = bench._medians_ms([lambda: detector(images)], on, repeats=min(3, size.repeats))
    session.note(detector=1000 * size.many / milliseconds)
    rates = {batch: network_rates(detector, batch, on, repeats=size.repeats) for batch in (1, size.many)}
    session.note(batches=rates)
    if on.type == "cuda":  # last, since a graph that cannot be captured spoils the stream
        for batch, row in rates.items():
            row |= graph_rates(detector, batch, on, repeats=size.repeats)
        session.note(batches=rates)
    told = [
        f"batch {batch}: " + ", ".join(f"{k} {rate:.0f}" for k, rate in row.items()) for batch, row in rates.items()
    ]
    return f"images/s: {'; '.join(told)}; Detector {1000 * size.many / milliseconds:.0f}"


@torch.inference_mode()
def network_rates(detector: Detector, batch: int, on: torch.device, *, repeats: int) -> dict[str, float]:
    """Return images per second of network and NMS with the usual ops, in fp32 and in bf16."""
    images = random_images(detector, batch, on)
    calls = [lambda name=name: detect(detector, images, precision=name) for name in ("fp32", "bf16")]
    medians = bench._medians_ms(calls, on, repeats=repeats)
    return {name: 1000 * batch / each for name, each in zip(("fp32", "bf16"), medians)}


@torch.inference_mode()
def graph_rates(detector: Detector, batch: int, on: torch.device, *, repeats: int) -> dict[str, float]:
    """Return images per second of network and NMS with the CUDA kernels, in fp32: step by step, and as a CUDA graph."""
    images = random_images(detector, batch, on)
    with forced("cuda"):
        assert warmup(on) == "cuda"
        work = lambda: detect(detector, images, precision="fp32")  # noqa: E731
        medians = bench._medians_ms([work, bench._captured(work).replay], on, repeats=repeats)
    return {name: 1000 * batch / each for name, each in zip(("kernels", "graph"), medians)}


def random_images(detector: Detector, batch: int, on: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, 3, *detector.image_size), dtype=torch.uint8, generator=generator)
    return images.to(on).contiguous(memory_format=torch.channels_last)


def detect(detector: Detector, images: Tensor, *, precision: str) -> Tensor:
    with autocast(images.device, precision):
        raw = detector.model(images)
        return postprocess(raw, detector.model.decode, score_threshold=0.25, iou_threshold=0.6)[0]


# Training


def write_images(root: Path, *, train: int, val: int, side: int) -> Path:
    """Draw images with one to three coloured rectangles on a smooth ground, with annotations in COCO's format."""
    generator = np.random.default_rng(0)
    (root / "images").mkdir(parents=True)
    (root / "annotations").mkdir()
    number = 0
    for split, count in (("train", train), ("val", val)):
        images, annotations = [], []
        for _ in range(count):
            number += 1
            image, boxes = draw(generator, side)
            image.save(root / "images" / f"{number:05d}.jpg", quality=90)
            images.append({"id": number, "file_name": f"{number:05d}.jpg", "height": side, "width": side})
            for label, (x, y, width, height) in boxes:
                row = {"id": len(annotations) + 1, "image_id": number, "category_id": label + 1, "iscrowd": 0}
                annotations.append({**row, "bbox": [x, y, width, height], "area": width * height})
        categories = [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES)]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content), encoding="utf-8")
    return root


def draw(generator: np.random.Generator, side: int) -> tuple[Image.Image, list[tuple[int, tuple[int, ...]]]]:
    """Return an image, and label and xywh of each rectangle in it."""
    ground = generator.integers(60, 200, (4, 4, 3)).astype(np.uint8)
    image = Image.fromarray(ground).resize((side, side), Image.Resampling.BILINEAR)
    pen, boxes = ImageDraw.Draw(image), []
    for left in range(int(generator.integers(1, 4))):
        label = int(generator.integers(len(CLASSES)))
        width, height = (int(value) for value in generator.integers(side // 6, side // 3, 2))
        x = left * side // 3
        y = int(generator.integers(0, side - height))
        pen.rectangle((x, y, x + width - 1, y + height - 1), fill=list(CLASSES.values())[label])
        boxes.append((label, (x, y, width, height)))
    return image, boxes


@dataclass
class Watch:
    """Hears of a run, and remembers when each step ended."""

    began: float = field(default_factory=time.perf_counter)
    steps: list[tuple[float, StepReport]] = field(default_factory=list)
    rows: list[Mapping[str, float]] = field(default_factory=list)

    def listener(self, stop_after: int = 0) -> Listener:
        """Return the listener; it interrupts the run as Ctrl-C would, after so many epochs."""

        def on_epoch(row: Mapping[str, float], best: bool) -> None:
            self.rows.append(dict(row))
            if len(self.rows) == stop_after:
                raise KeyboardInterrupt

        return Listener(
            on_step=lambda report: self.steps.append((time.perf_counter(), report)),
            on_epoch=on_epoch,
        )

    def first_seconds(self) -> float:
        return self.steps[0][0] - self.began

    def rate(self, batch: int) -> float:
        """Return images per second in the last epoch: the median time between two steps, without the first three."""
        last = [moment for moment, report in self.steps if report.epoch == self.steps[-1][1].epoch]
        gaps = [after - before for before, after in zip(last, last[1:])]
        return batch / statistics.mean(gaps[min(2, len(gaps) - 1) :])

    def loss(self) -> float:
        return self.rows[-1]["loss_total"]


def settings(size: Sizes, **changes: object) -> dict[str, object]:
    """Return the settings of a short run from scratch."""
    usual: dict[str, object] = {
        "input.image_size": [size.image_size] * 2,
        "train.batch_size": size.batch,
        "train.epochs": 2,
        "train.evaluate_every": 2,
        "train.preflight": False,
        "train.precision": "bf16",
        "pretrain.crops": 0,
    }
    return {**usual, **size.settings, **{name.replace("__", "."): value for name, value in changes.items()}}


def run(size: Sizes, data: Path, *, out: str, on: torch.device, **changes: object) -> tuple[Watch, Path]:
    """Train, and return what was heard of the run, and its folder."""
    watch = Watch()
    given = settings(size, **changes)
    folder = train(
        data, config=size.config, weights="none", settings=given, out=out, device=on, listener=watch.listener()
    )
    assert math.isfinite(watch.loss()), watch.rows
    return watch, folder


def one_step(session: Session) -> str:
    """Loss and gradient of one step agree with the CPU's, in float32; shifted colours are within one level of 255."""
    on = other_device(session)
    data = write_images(Path("set"), train=16, val=4, side=128)
    given = settings(ON_CPU, input__image_size=[128, 128], train__batch_size=8, train__precision="fp32")
    results = []
    with full_precision():
        for each in (torch.device("cpu"), on):
            config = plan(data, config=ON_CPU.config, weights="none", settings=given).config
            task = TASKS["detect"](config, start=None, device=each, listener=Listener())
            model = place(task.model.train(), each)
            state = State.new(model, config.train, steps=10)
            losses = train_step(task.plain(), state, batch=to_device(task.overfit_batch(8), each), progress=0.0)
            gradient = torch.cat([each.grad.flatten().cpu() for each in model.parameters() if each.grad is not None])
            results.append((losses, gradient))
    (wanted, gradient), (found, other) = results
    loss_gap = max(abs(found[name] - value) / max(abs(value), 1e-3) for name, value in wanted.items())
    gradient_gap = float((gradient - other).norm() / gradient.norm())
    images = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    shifts = torch.tensor([[9.0, -20, 30], [-90, 60, -60], [0, 0, 0], [45, 12, 7]])
    colour_gap = int(
        (shift_hsv(images, shifts).int() - shift_hsv(images.to(on), shifts.to(on)).cpu().int()).abs().max()
    )
    session.note(loss_gap=loss_gap, gradient_gap=gradient_gap, colour_levels=colour_gap)
    assert loss_gap <= 1e-3, f"the losses differ by {loss_gap:.1e}: {wanted} on the CPU, {found}"
    assert gradient_gap <= 1e-2, f"the gradients differ by {gradient_gap:.1e} of their norm"
    assert colour_gap <= 1, f"colours differ by {colour_gap} levels"
    return f"loss within {loss_gap:.1e}, gradient within {gradient_gap:.1e} of the CPU's; colours within {colour_gap}"


def training_timed(session: Session) -> str:
    """Images per second of real runs in bf16: colours changed on the device, by the loader, and not at all."""
    size, on = sizes(session), other_device(session)
    data = write_images(Path("set"), train=size.batch * size.steps, val=size.batch, side=size.image_size)
    no_colour = {"augment__hue": 0, "augment__saturation": 0, "augment__value": 0}
    rates = {}
    for name, moved, changes in (("device", True, {}), ("loader", False, {}), ("none", True, no_colour)):
        choice = mock.patch.object(detection, "_shifts_colours", lambda each, moved=moved: moved)
        with choice:
            watch, _ = run(size, data, out=f"colour_{name}", on=on, **changes)
        rates[name] = watch.rate(size.batch)
        session.note(**{f"colour_{name}": rates[name], f"loss_{name}": watch.loss()})
    if on.type == "cuda":
        session.note(peak_bytes=torch.cuda.max_memory_allocated(on))
    told = ", ".join(f"{rate:.0f} ({name})" for name, rate in rates.items())
    return f"{size.config}, {size.image_size} px, batch {size.batch}, bf16, images/s by where colours change: {told}"


def compile_timed(session: Session) -> str:
    """Images per second with and without train.compile; the losses of both runs agree."""
    size, on = sizes(session), other_device(session)
    data = write_images(Path("set"), train=size.batch * size.steps, val=size.batch, side=size.image_size)
    watches = {}
    for name in ("off", "on"):
        watches[name], _ = run(size, data, out=name, on=on, train__compile=name == "on")
        rate = watches[name].rate(size.batch)
        session.note(**{name: rate, f"first_step_{name}": watches[name].first_seconds()})
    off, on_ = watches["off"], watches["on"]
    gap = abs(on_.loss() - off.loss()) / off.loss()
    session.note(loss_gap=gap)
    assert gap <= 0.05, f"the loss is {on_.loss():.4f} with train.compile and {off.loss():.4f} without"
    rates = off.rate(size.batch), on_.rate(size.batch)
    return (
        f"{rates[0]:.0f} images/s without, {rates[1]:.0f} with ({rates[1] / rates[0]:.2f} times); first step after "
        f"{off.first_seconds():.0f} and {on_.first_seconds():.0f} s; losses within {gap:.1%}"
    )


def classifier(session: Session) -> str:
    """A classifier learns to tell three colours."""
    size, on = sizes(session), other_device(session)
    generator = np.random.default_rng(0)
    for split, count in (("train", 16), ("val", 8)):
        for name, colour in CLASSES.items():
            folder = Path("classes") / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                noise = generator.integers(-30, 31, (32, 32, 3))
                Image.fromarray(np.clip(noise + colour, 0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    watch = Watch()
    given = {"train.epochs": 4, "train.preflight": False, "train.workers": 0, "train.batch_size": 16}
    train_classifier("classes", config="mnist_small", settings=given, device=on, listener=watch.listener())
    first, last = watch.rows[0]["loss_total"], watch.loss()
    session.note(first_loss=first, last_loss=last, sizes=size.config)
    assert last < first, f"the loss went from {first:.3f} to {last:.3f}"
    return f"loss from {first:.2f} to {last:.2f} in {len(watch.rows)} epochs"


# Memory


def out_of_memory(session: Session) -> str:
    """A batch that does not fit is halved, the run ends with the loss of --accumulate, and a hopeless one in a line."""
    size, on = sizes(session), other_device(session)
    data = write_images(Path("set"), train=size.batch * 2, val=size.batch, side=size.image_size)
    usual: dict[str, Any] = {"train__precision": "fp32", "train__epochs": 1, "train__evaluate_every": 1}
    whole, _ = run(size, data, out="whole", on=on, **usual)
    peak = torch.cuda.max_memory_allocated(on) if on.type == "cuda" else 0
    with limited(on, 0.7 * peak, images=size.batch // 2):
        short, folder = run(size, data, out="short", on=on, **usual)
    parts = short.steps[-1][1].parts
    assert parts > 1, "the memory was limited, and yet the batch was not divided"
    same, other = run(size, data, out="same", on=on, train__accumulate=parts, **usual)
    gap = abs(short.loss() - same.loss()) / same.loss()
    weights = largest_gap(folder, other)
    session.note(peak_bytes=peak, parts=parts, loss_gap=gap, weight_gap=weights, loss_undivided=whole.loss())
    assert gap <= 0.01, f"the loss is {short.loss():.4f}, but {same.loss():.4f} with --accumulate {parts}"
    with limited(on, 0.005 * peak, images=0):
        message = refusal(lambda: run(size, data, out="hopeless", on=on, **usual))
    session.note(message=message)
    assert "ran out of memory; " in message, f"no line that says what to do, but {message!r}"
    how = "limited" if on.type == "cuda" else "limit simulated"
    return f"{how}: {parts} micro-batches, loss within {gap:.1e} of --accumulate {parts}; hopeless: {message!r}"


@contextlib.contextmanager
def limited(on: torch.device, most: float, *, images: int) -> Iterator[None]:
    """Let tensors on a GPU take at most so many bytes. On a CPU, refuse batches of more than so many images."""
    if on.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(on).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, most / total), on)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, on)
        return
    loss = detection.DetectionTask.loss

    def refusing(task: Any, model: nn.Module, batch: Any, *, progress: float) -> dict[str, Tensor]:
        if len(batch.images) > images:
            raise torch.OutOfMemoryError("simulated")
        return loss(task, model, batch, progress=progress)

    with mock.patch.object(detection.DetectionTask, "loss", refusing):
        yield


# Resuming, and one rank


def content(folder: Path) -> dict[str, Tensor]:
    """Return the weights and the statistics in last.pt, and their average."""
    state = load_checkpoint(folder / "last.pt").training
    return {f"{part}.{name}": value for part in ("model", "ema") for name, value in state[part].items()}


def largest_gap(folder: Path, other: Path) -> float:
    """Return the largest difference of any number in two last.pt; 0.0 if they are equal bit for bit."""
    a, b = content(folder), content(other)
    assert a.keys() == b.keys()
    return max(
        0.0 if torch.equal(a[name], b[name]) else float((a[name].double() - b[name].double()).abs().max()) for name in a
    )


def resumed(session: Session) -> str:
    """With train.deterministic, a run that was stopped and resumed ends bit for bit as one that was not."""
    size, on = sizes(session), other_device(session)
    data = write_images(Path("set"), train=size.batch * 2, val=4, side=size.image_size)
    usual: dict[str, Any] = {"train__deterministic": True}
    _, whole = run(size, data, out="whole", on=on, **usual)
    given = settings(size, **usual)
    with contextlib.suppress(KeyboardInterrupt):
        train(
            data,
            config=size.config,
            weights="none",
            settings=given,
            out="stopped",
            device=on,
            listener=Watch().listener(stop_after=1),
        )
    watch = Watch()
    folder = resume("stopped", device=on, listener=watch.listener())
    assert [row["epoch"] for row in watch.rows] == [2], watch.rows
    gap = largest_gap(whole, folder)
    session.note(weight_gap=gap)
    assert gap == 0, f"weights differ by up to {gap:.1e}"
    return "2 epochs, stopped after the first: all weights, statistics and their averages equal bit for bit"


class OneOfOne(ranks.Ranks):
    """The only rank, which nevertheless makes every exchange that several make, so that its connection is used."""

    def decide(self, work: Callable[[], Any]) -> Any:
        return ranks._broadcast(work(), is_source=True)

    def gather(self, value: Any) -> list[Any]:
        return ranks._gather(value, self)

    def sum(self, values: Any) -> list[float]:
        return ranks._sum(values)

    def divisor(self, total: Tensor) -> Tensor:
        return ranks._total(total).clamp(min=1)

    def add_gradients(self, parameters: Any, numbers: Any) -> dict[str, float]:
        return ranks._add_gradients(list(parameters), numbers)

    def align(self, *modules: nn.Module) -> None:
        for module in modules:
            ranks._align(module)

    def synchronise(self, model: nn.Module) -> nn.Module:
        self.align(model)
        on_gpu = next(model.parameters()).device.type == "cuda"
        return nn.SyncBatchNorm.convert_sync_batchnorm(model) if on_gpu else model


def one_rank(session: Session) -> str:
    """Under torchrun, every exchange over nccl (gloo on a CPU) returns what it got, and a run equals one without."""
    size, on = sizes(session), other_device(session)
    assert ranks.launch_id(), "torchrun did not start this process"
    group = ranks._Group.join()
    backends = torch.distributed.get_backend_config()
    assert on.type == "cpu" or "cuda:nccl" in str(backends), backends
    session.note(backends=str(backends), exact=exchanges(on))
    data = write_images(Path("set"), train=size.batch * 2, val=4, side=size.image_size)
    usual: dict[str, Any] = {"train__deterministic": True, "train__precision": "fp32"}
    with mock.patch.dict(os.environ):
        for name in ranks._NAMES:
            del os.environ[name]
        _, alone = run(size, data, out="alone", on=on, **usual)
    _, launched = run(size, data, out="launched", on=on, **usual)
    config = plan(data, config=size.config, weights="none", settings=settings(size, **usual)).config
    Path("exchanged").mkdir()
    exchanged = fit(config, Path("exchanged"), device=on, listener=Listener(), ranks=OneOfOne(group.rank, group.count))
    torch.distributed.destroy_process_group()
    gaps = {"launched": largest_gap(alone, launched), "exchanged": largest_gap(alone, exchanged)}
    session.note(**gaps)
    assert not any(gaps.values()), f"last.pt differs: {gaps}"
    return f"{backends}: {exchanges.__doc__.split(':')[0].lower()}; last.pt equal bit for bit with and without torchrun"


def exchanges(on: torch.device) -> list[str]:
    """Exchanges exact: sums, gradients, weights and objects come back from a group of one as they were."""
    only, generator = OneOfOne(), torch.Generator().manual_seed(0)
    values = torch.randn(100_000, generator=generator).to(on)
    parameter, unused = nn.Parameter(torch.zeros_like(values)), nn.Parameter(torch.zeros(3, device=on))
    parameter.grad = values.clone()
    assert only.add_gradients([parameter, unused], {"total": 2.5}) == {"total": 2.5}
    assert parameter.grad is not None
    assert torch.equal(parameter.grad, values)
    assert unused.grad is None
    total = torch.tensor(37.25, device=on)
    assert torch.equal(only.divisor(total), total)
    module = nn.BatchNorm1d(7).to(on)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    only.align(module)
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert only.decide(lambda: {"an": ["object"]}) == {"an": ["object"]}
    assert only.gather("rows") == ["rows"]
    assert only.sum([1.5, 2]) == [1.5, 2]
    return ["add_gradients", "divisor", "align", "decide", "gather", "sum"]


# ONNX Runtime


def onnx_runtime(session: Session) -> str:
    """An exported file finds the same with ONNX Runtime's CUDA provider as with its CPU provider."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise Skipped(f"{error.name} is not installed") from error
    provider = "CUDAExecutionProvider" if session.device == "cuda" else "CPUExecutionProvider"
    if provider not in onnxruntime.get_available_providers():
        raise Skipped(f"no {provider} in ONNX Runtime {onnxruntime.__version__}; pip install onnxruntime-gpu")
    size = sizes(session)
    path = export(size.weights, "default.onnx", image_size=size.side, check=False)
    both = [onnxruntime.InferenceSession(str(path), providers=[name]) for name in ("CPUExecutionProvider", provider)]
    assert both[1].get_providers()[0] == provider, f"it uses {both[1].get_providers()[0]} instead of {provider}"
    from yolo_lite.structures.geometry import Letterbox

    image, detector = read_image(sample_image(), 65535), Detector(size.weights, device="cpu", image_size=size.side)
    letterbox = Letterbox.fit(image.shape[:2], detector.image_size, resize=detector.resize)
    inputs = np.stack([letterbox.apply(image), letterbox.apply(image[:, ::-1].copy())])
    results = []
    for each in both:
        boxes, scores, labels, counts = each.run(["boxes", "scores", "labels", "counts"], {"images": inputs})
        kept = [(scores[i] > 0.1) & (np.arange(len(scores[i])) < counts[i]) for i in range(2)]
        names = detector.class_names
        results.append(
            [Detections(boxes[i][k], scores[i][k], labels=labels[i][k], class_names=names) for i, k in enumerate(kept)]
        )
    gaps = compare(results[0], results[1], score_gap=0.02, overlap=0.95)
    ms = bench._medians_ms([lambda e=e: e.run(None, {"images": inputs}) for e in both], torch.device("cpu"), repeats=3)
    count = sum(map(len, results[0]))
    session.note(detections=count, **gaps, cpu_ms=ms[0], provider_ms=ms[1])
    assert count, "nothing was detected"
    assert gaps["alone"] <= 0.05 * count, f"{gaps['alone']} of {count} detections have no like"
    return f"{provider}: {count} detections, scores within {gaps['scores']:.1e}; {ms[0] / ms[1]:.1f} times as fast as the CPU's"


TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=1")
STEPS = (
    Step("device", device, 20),
    Step("ops exact", ops_exact, 60, cuda_only="the kernels run in tests/ops/test_kernels.py there"),
    Step("ops timed", ops_timed, 40),
    Step("detection", detection_agrees, 30),
    Step("detection timed", detection_timed, 40),
    Step("one step", one_step, 30),
    Step("training timed", training_timed, 60),
    Step("out of memory", out_of_memory, 50),
    Step("one rank", one_rank, 50, launcher=TORCHRUN),
    Step("resumed", resumed, 40),
    Step("classifier", classifier, 30),
    Step("ONNX Runtime", onnx_runtime, 40),
    Step("train.compile", compile_timed, 110),
)
