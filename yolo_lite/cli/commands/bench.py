"""`yolo-lite bench`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_lite.cli import flags
from yolo_lite.cli.values import is_exported
from yolo_lite.errors import InputError, counted

if TYPE_CHECKING:
    from yolo_lite.bench.model import ModelReport
    from yolo_lite.bench.serve import Load, ServeReport
    from yolo_lite.bench.train import TrainReport
    from yolo_lite.config.schema import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments."""
    what = parser.add_subparsers(dest="what", metavar="what", required=True)
    for add in (_add_model, _add_train, _add_finetune, _add_detect, _add_serve, _add_ops):
        add(what)


def _add_model(what: Any) -> None:
    parser = what.add_parser(
        "model", help="measure size, latency and training speed of a network", description=_bench_model.__doc__
    )
    flags.add_flag(parser, "config", usual="shuffle and nano, one after the other")
    flags.add_flag(parser, "num-classes", default=80)
    flags.add_flag(parser, "device")
    flags.add_flag(parser, "backends")
    flags.add_flag(parser, "weights", help="checkpoint to measure with --backends")
    flags.add_flag(parser, "image-size", usual="that of the weights")
    flags.add_flag(parser, "data", help="data set whose validation split is scored with each backend", usual="none")
    flags.add_flag(parser, "threads")
    parser.set_defaults(run=_bench_model)


def _add_train(what: Any) -> None:
    parser = what.add_parser(
        "train", help="measure where training on your images spends its time", description=_bench_train.__doc__
    )
    flags.add_flag(parser, "data", required=True)
    flags.add_flag(parser, "config", default="nano")
    flags.add_flag(parser, "image-size", usual="the configuration's")
    flags.add_flags(parser, ["batch-size", "device", "cache", "workers", "steps"])
    parser.set_defaults(run=_bench_train)


def _add_finetune(what: Any) -> None:
    parser = what.add_parser(
        "finetune", help="fine-tune on several data sets, one table of their AP", description=_bench_finetune.__doc__
    )
    flags.add_flag(
        parser, "data", help="data sets, as for train; each has its own validation images", nargs="+", required=True
    )
    flags.add_flag(parser, "config", usual="fine-tune the weights; a configuration trains from scratch")
    flags.add_flag(parser, "weights", key="train.weights", usual=flags.SHIPPED)
    flags.add_flags(parser, ["seeds", "epochs", "time", "image-size", "batch-size", "device", "preflight", "set"])
    flags.add_flag(parser, "out", help="folder of the runs and their results", default="runs/finetune")
    parser.set_defaults(run=_bench_finetune)


def _add_detect(what: Any) -> None:
    parser = what.add_parser(
        "detect", help="measure the stages of detect, alone and together", description=_bench_detect.__doc__
    )
    flags.add_flag(parser, "source", help="images, folders, patterns, or one video", required=True)
    flags.add_flags(parser, ["weights", "device"])
    flags.add_flag(parser, "batch-size", default=8)
    flags.add_flag(parser, "threads", usual="as many as torch or ONNX Runtime chooses", default=None)
    parser.set_defaults(run=_bench_detect)


def _add_serve(what: Any) -> None:
    parser = what.add_parser(
        "serve", help="measure requests to serve against direct calls", description=_bench_serve.__doc__
    )
    flags.add_flag(parser, "source", help="images to send, folders or patterns", usual="a sample")
    flags.add_flags(parser, ["weights", "device"])
    flags.add_flag(parser, "batch-size", default=8)
    flags.add_flag(parser, "threads", usual="as many as torch or ONNX Runtime chooses", default=None)
    flags.add_flags(parser, ["clients", "requests", "memory-requests"])
    parser.set_defaults(run=_bench_serve)


def _add_ops(what: Any) -> None:
    parser = what.add_parser(
        "ops", help="compare the ops with torchvision and plain torch", description=_bench_ops.__doc__
    )
    flags.add_flag(parser, "num-classes", default=80, help="number of classes among the boxes")
    flags.add_flag(parser, "device")
    parser.set_defaults(run=_bench_ops)


def _bench_model(args: argparse.Namespace) -> int:
    """Measure networks with random weights on this machine. Every figure is a median after a warm-up.

    With --backends, compare trained weights as a checkpoint (torch) and as exported files (onnx, openvino) in one run.
    """
    if args.backends:
        return _bench_backends(args)
    for name in ("weights", "image_size", "data"):
        if getattr(args, name):
            raise InputError(f"--{name.replace('_', '-')} goes with --backends: bench model --backends torch,onnx")
    configs = [_detector_config(name) for name in ([args.config] if args.config else ["shuffle", "nano"])]
    from yolo_lite.bench.model import bench_model
    from yolo_lite.device import describe_hardware, pick_device

    device = pick_device(args.device)
    for config in configs:
        report = bench_model(config, args.num_classes, device=device)
        _print_model_report(config, args.num_classes, report=report, hardware=describe_hardware(device))
    return 0


def _bench_backends(args: argparse.Namespace) -> int:
    if args.config:
        raise InputError("--backends measures trained weights: name --weights, not --config")
    import torch

    from yolo_lite.bench.backends import bench_backends
    from yolo_lite.cli.screen import note
    from yolo_lite.device import describe_hardware
    from yolo_lite.shipped import DEFAULT_WEIGHTS

    weights = args.weights or DEFAULT_WEIGHTS
    reports = bench_backends(
        weights, args.backends, image_size=args.image_size, threads=args.threads, data=args.data, say=note
    )
    hardware = describe_hardware(torch.device("cpu")).rsplit(",", 1)[0]
    onnx = f", onnxruntime {version('onnxruntime')}" if "onnx" in args.backends else ""
    print(f"{weights}; {hardware}, {counted(args.threads, 'thread')}; torch {torch.__version__}{onnx}")
    print("backend  median ms  95th ms  images/s (8)  start CPU s  start MB  file MB    AP")
    for report in reports:
        ap = "    -" if report.ap is None else f"{report.ap:5.3f}"
        print(
            f"{report.backend:<7} {report.median_ms:>10.1f} {report.p95_ms:>8.1f} {report.images_per_second:>13.1f} "
            f"{report.start_seconds:>12.2f} {report.start_megabytes:>9.0f} {report.file_megabytes:>8.1f} {ap}"
        )
    return 0


def _print_model_report(config: Config, classes: int, *, report: ModelReport, hardware: str) -> None:
    from yolo_lite.inspect.summary import format_flops

    print(
        f"{config.name}, {counted(classes, 'class', plural='classes')}: {counted(report.parameters, 'parameter')}; {hardware}"
    )
    print("input         operations  forward ms  with NMS ms   (one image, fp32)")
    for size in report.sizes:
        side = f"{size.image_size} x {size.image_size}"
        print(f"{side:<11} {format_flops(size.flops):>12} {size.forward_ms:>11.1f} {size.with_nms_ms:>12.1f}")
    height, width = config.input.image_size
    batch = config.train.batch_size
    rate = report.training_images_per_second
    print(f"training, {height} x {width}, batch {batch}, {report.precision}: {rate:.1f} images/s (without loading)")


def _bench_train(args: argparse.Namespace) -> int:
    """Measure training steps on your images, from random weights. Times are medians after a warm-up."""
    from yolo_lite.config.resolve import override_config

    config = override_config(_detector_config(args.config), flags.settings_of(args))
    from yolo_lite.bench.train import bench_train
    from yolo_lite.device import describe_hardware, pick_device

    device = pick_device(args.device)
    report = bench_train(config, args.data, device=device, steps=args.steps, say=print)
    _print_train_report(config, report, steps=args.steps, hardware=describe_hardware(device))
    return 0


def _bench_finetune(args: argparse.Namespace) -> int:
    """Fine-tune, or train with --config, on several data sets, and print the AP of each last epoch and their mean.

    Run the same command again to continue after an interruption. Finished runs are not repeated.
    """
    if args.time is not None and args.epochs is not None:
        raise InputError("--time sets the number of epochs; leave out --epochs")
    settings = flags.settings_of(args)
    from yolo_lite.bench.finetune import bench_finetune
    from yolo_lite.cli.runs import train_progress
    from yolo_lite.training.task import Listener

    with train_progress([]) as (say, on_step, on_epoch):
        listener = Listener(say, on_step, on_epoch=on_epoch)
        reports = bench_finetune(
            args.data,
            Path(args.out),
            config=args.config,
            seeds=args.seeds,
            settings=settings,
            device=args.device,
            listener=listener,
        )
    width = max(len("mean"), *(len(report.name) for report in reports))
    print(f"{'':{width}}  epochs  minutes     AP  spread   AP50   (last epoch, {counted(args.seeds, 'seed')})")
    for report in reports:
        first = report.runs[0]
        minutes, ap50 = (sum(values) / len(report.runs) for values in zip(*((r.minutes, r.ap50) for r in report.runs)))
        print(
            f"{report.name:{width}} {first.epochs:>7} {minutes:>8.1f} {report.ap:>6.3f} {report.spread:>7.3f} {ap50:>6.3f}"
        )
    aps = [report.ap for report in reports]
    print(f"{'mean':{width}} {'':>16} {sum(aps) / len(aps):>6.3f}")
    return 0


def _print_train_report(config: Config, report: TrainReport, *, steps: int, hardware: str) -> None:
    (height, width), train = config.input.image_size, config.train
    if report.fill_seconds:
        print(f"decoding them once took {report.fill_seconds:.1f} s")
    print(f"{config.name}: {counted(report.parameters, 'parameter')}; {report.summary}; {hardware}")
    loading = "1 loading process" if report.processes == 1 else f"{report.processes} loading processes"
    print(f"{height} x {width}, batch {train.batch_size}, {loading}")
    print(f"loader alone: {report.loader_images_per_second:.1f} images/s")
    print(
        f"ms a step   load  forward + loss  backward  optimiser + EMA  images/s   (medians of {counted(steps, 'step')})"
    )
    for step in report.steps:
        parts = f"{step.wait:>6.1f} {step.forward:>15.1f} {step.backward:>9.1f} {step.update:>16.1f}"
        used = f"   {step.device_bytes / 1e9:.2f} GB of the device" if step.device_bytes else ""
        print(f"{step.precision:<9} {parts} {step.images_per_second:>9.1f}{used}")
    own, loading = (f"{peak / 1e9:.2f} GB" for peak in report.peak_bytes)
    if report.peak_bytes[0]:
        print(f"peak memory: {own}" + (f", and {loading} of a loading process" if report.processes else ""))


def _bench_detect(args: argparse.Namespace) -> int:
    """Measure reading, detecting, drawing and writing, each alone, and the whole run, in which they overlap.

    The rates are medians of three turns.
    """
    import torch

    from yolo_lite.bench.detect import bench_detect
    from yolo_lite.cli.screen import note
    from yolo_lite.device import describe_hardware, pick_device
    from yolo_lite.media.sources import find_sources
    from yolo_lite.predict.detector import Detector
    from yolo_lite.runtime import Detector as ExportedDetector
    from yolo_lite.shipped import DEFAULT_WEIGHTS

    source, weights = find_sources(args.source, say=note), args.weights or DEFAULT_WEIGHTS
    if args.threads:
        torch.set_num_threads(args.threads)
    exported = is_exported(weights)
    detector = (
        ExportedDetector(weights, batch_size=args.batch_size, threads=args.threads or 0)
        if exported
        else Detector(weights, args.device, batch_size=args.batch_size)
    )
    report = bench_detect(detector, source)
    hardware = describe_hardware(torch.device("cpu") if exported else pick_device(args.device))
    print(f"{weights}; {counted(report.images, 'image')}, batch {detector.batch_size}; {hardware}")
    for stage, rate in report.alone.items():
        print(f"{stage:<11} {rate:>8.1f} images/s alone")
    print(f"in sequence {report.serial:>8.1f} images/s")
    share = report.whole / report.alone[report.slowest]
    print(f"overlapped  {report.whole:>8.1f} images/s: {share:.0%} of {report.slowest} alone")
    return 0


def _bench_serve(args: argparse.Namespace) -> int:
    """Start a server on a free port of this machine, and compare requests to it with direct calls of the detector.

    A direct call reads, decodes and detects; a request does the same, with HTTP around it. Every answer is compared
    with that of a direct call. Requests and direct calls take turns in five rounds, of which the medians are printed.
    """
    from yolo_lite.bench.serve import EARLY, Load, bench_serve

    if 0 < args.memory_requests <= EARLY:
        raise InputError(
            f"--memory-requests must be above {EARLY}, after which memory is measured first, got {args.memory_requests}"
        )
    import torch

    from yolo_lite.cli.screen import note
    from yolo_lite.device import describe_hardware, pick_device
    from yolo_lite.media.sources import Video, find_sources
    from yolo_lite.predict.files import sample_image
    from yolo_lite.shipped import DEFAULT_WEIGHTS

    weights = args.weights or DEFAULT_WEIGHTS
    load = Load(args.clients, args.requests, memory_requests=args.memory_requests)
    images = find_sources(args.source, say=note) if args.source else [sample_image()]
    if isinstance(images, Video):
        raise InputError(f"bench serve sends images, and {images.path} is a video; name images with --source")
    if args.threads:
        torch.set_num_threads(args.threads)
    report = bench_serve(
        weights,
        images,
        load=load,
        device=args.device,
        batch_size=args.batch_size,
        threads=args.threads or 0,
        say=note,
    )
    device = torch.device("cpu") if is_exported(weights) else pick_device(args.device)
    print(f"{report.server}; {counted(report.images, 'image')}; {describe_hardware(device)}")
    _print_serve_report(report, load)
    return 0


def _print_serve_report(report: ServeReport, load: Load) -> None:
    overhead = f"{report.overhead_ms:+.1f} ms, {report.overhead_ms / report.direct_ms:+.1%}"
    print("                          direct calls  requests")
    print(f"one after the other, ms {report.direct_ms:>14.1f} {report.http_ms:>9.1f}   {overhead}")
    several = f"{counted(load.clients, 'client')}, images/s"
    print(f"{several:<23} {report.direct_rate:>14.1f} {report.http_rate:>9.1f}   ratio {report.ratio:.2f}")
    if not math.isnan(report.cpu_ms[1]):
        direct, http = report.cpu_ms
        print(f"CPU ms an image         {direct:>14.1f} {http:>9.1f}   ratio {direct / http:.2f}")
    print(f"{counted(report.answers, 'answer')}, of which {report.wrong:,} differ from direct calls")
    if report.memory:
        from yolo_lite.bench.serve import EARLY

        early, late = report.memory
        print(
            f"memory of the server: {early / 1e6:.1f} MB after {EARLY} requests, {late / 1e6:.1f} MB after "
            f"{load.memory_requests:,}: ratio {late / early:.3f}"
        )


def _detector_config(name: str) -> Config:
    """Return the configuration of a detector by path or shipped name."""
    from yolo_lite.config.resolve import read_config
    from yolo_lite.shipped import find_config, shipped

    classifier = name.removesuffix(".yaml") in shipped("configs/classify", ".yaml") and not Path(name).exists()
    config = None if classifier else read_config(find_config(name))
    if config is None or config.classifier.model != "none":
        raise InputError(
            f"{name} is the configuration of a classifier, but bench measures detectors: nano, shuffle ..."
        )
    return config


def _bench_ops(args: argparse.Namespace) -> int:
    """Compare non-maximum suppression with torchvision's, in results and in speed.

    On the CPU, also compare box assignment, norm_silu and the gradients of depthwise convolutions with plain torch.
    """
    from yolo_lite.bench.ops import IOU_THRESHOLD, MAX_DETECTIONS, bench_assign, bench_nms
    from yolo_lite.device import describe_hardware, pick_device
    from yolo_lite.ops import warmup

    device = pick_device(args.device)
    used = warmup(device)
    print(
        f"backend {used}; {describe_hardware(device)}; torch {version('torch')}, torchvision {version('torchvision')}"
    )
    classes = counted(args.num_classes, "class", plural="classes")
    print(f"nms_padded, IoU {IOU_THRESHOLD}, {classes}; ms for the batch; K: max_detections; results are equal")
    print(f"{'':10} {'torchvision':>12} {f'K = {MAX_DETECTIONS}':>19} {'K = N, no cap':>20}   graph replay")
    print("   B     N      ms/batch    kept      ms  ratio   kept      ms  ratio      ms  ratio")
    for row in bench_nms(device, args.num_classes):
        capped = f"{row.kept:>7} {row.ours_ms:>7.3f} {row.torchvision_ms / row.ours_ms:>5.1f}x"
        free = f"{row.kept_uncapped:>6} {row.uncapped_ms:>7.3f} {row.torchvision_ms / row.uncapped_ms:>5.1f}x"
        replay = f"{row.graph_ms:>7.3f} {row.torchvision_ms / row.graph_ms:>5.1f}x" if row.graph_ms else "      -"
        print(f"{row.batch:>4} {row.total:>5} {row.torchvision_ms:>13.3f} {capped} {free} {replay}", flush=True)
    if used == "native":
        print()
        print("task-aligned assignment, ms for the batch; results are equal")
        print("   B  objects  side  plain torch  C extension  ratio")
        for report in bench_assign():
            times = f"{report.torch_ms:>12.2f} {report.native_ms:>12.2f} {report.torch_ms / report.native_ms:>5.0f}x"
            print(f"{report.batch:>4} {report.objects:>8} {report.side:>5} {times}", flush=True)
    if used == "native":
        _print_training_ops()
    return 0


def _print_training_ops() -> None:
    """Print the times of the operations of training that run on this processor."""
    from yolo_lite.bench.ops import bench_depthwise, bench_norm
    from yolo_lite.ops.native import depthwise_pays, norm_silu_pays

    if norm_silu_pays():
        print()
        print(
            "batch normalisation and SiLU in training, ms forward and backward; results are equal except for rounding"
        )
        print("   B    C    H    W  type         plain torch  C extension  ratio")
        for norm in bench_norm():
            _print_map(norm.shape, f"{norm.dtype:<11}", torch_ms=norm.torch_ms, native_ms=norm.native_ms)
    if depthwise_pays():
        print()
        print("depthwise convolutions in training, ms backward; results are equal except for rounding")
        print("   B    C    H    W  kernel  stride  type         plain torch  C extension  ratio")
        for layer in bench_depthwise():
            kind = f"{layer.kernel:>6} {layer.stride:>7}  {layer.dtype:<11}"
            _print_map(layer.shape, kind, torch_ms=layer.torch_ms, native_ms=layer.native_ms)


def _print_map(shape: Sequence[int], kind: str, *, torch_ms: float, native_ms: float) -> None:
    sizes = " ".join(f"{size:>4}" for size in shape)
    print(f"{sizes}  {kind} {torch_ms:>12.2f} {native_ms:>12.2f} {torch_ms / native_ms:>5.1f}x", flush=True)
