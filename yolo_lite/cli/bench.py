"""`yolo-lite bench`."""

from __future__ import annotations

import argparse
from importlib.metadata import version
from typing import TYPE_CHECKING

from yolo_lite.cli import arguments

if TYPE_CHECKING:
    from yolo_lite.config import Config
    from yolo_lite.engine.bench import ModelReport


def add_bench(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments."""
    what = parser.add_subparsers(dest="what", metavar="what", required=True)
    model = what.add_parser(
        "model", help="parameters, GFLOPs, latency and training speed", description=_bench_model.__doc__
    )
    model.add_argument("--config", help="a YAML file or shipped name; default: shuffle and nano, one after the other")
    model.add_argument("--classes", type=int, default=80, help="how many classes; default 80")
    model.add_argument("--device", default="auto", help=arguments.DEVICE_HELP)
    model.set_defaults(run=_bench_model)
    ops = what.add_parser("ops", help="suppression beside torchvision's", description=_bench_ops.__doc__)
    ops.add_argument("--classes", type=arguments.positive, default=80, help="classes among the boxes; default 80")
    ops.add_argument("--device", default="auto", help=arguments.DEVICE_HELP)
    ops.set_defaults(run=_bench_ops)


def _bench_model(args: argparse.Namespace) -> int:
    """Measure a network on this machine with random weights; every figure is a median after a warm-up."""
    from yolo_lite.config import read_config
    from yolo_lite.engine.bench import bench_model
    from yolo_lite.engine.device import describe_hardware, pick_device
    from yolo_lite.engine.weights import find_config

    device = pick_device(args.device)
    for name in [args.config] if args.config else ["shuffle", "nano"]:
        config = read_config(find_config(name))
        _print_model_report(config, args.classes, bench_model(config, args.classes, device), describe_hardware(device))
    return 0


def _print_model_report(config: Config, classes: int, report: ModelReport, hardware: str) -> None:
    print(f"{config.name}, {classes} classes: {report.parameters:,} parameters; {hardware}")
    print("input       GFLOPs  forward ms  with NMS ms   (one picture, fp32)")
    for size in report.sizes:
        side = f"{size.image_size} x {size.image_size}"
        print(f"{side:<10} {size.gflops:>7.2f} {size.forward_ms:>11.1f} {size.with_nms_ms:>12.1f}")
    height, width = config.input.image_size
    batch = config.train.batch_size
    rate = report.training_images_per_second
    print(f"training, {height} x {width}, batch {batch}, {report.precision}: {rate:.1f} images/s (without loading)")


def _bench_ops(args: argparse.Namespace) -> int:
    """Check suppression against torchvision's and time both by turns; on the CPU also assignment against plain torch."""
    from yolo_lite.engine.bench_ops import IOU_THRESHOLD, MAX_DETECTIONS, bench_assign, bench_nms
    from yolo_lite.engine.device import describe_hardware, pick_device
    from yolo_lite.ops import warmup

    device = pick_device(args.device)
    used = warmup(device)
    print(
        f"backend {used}; {describe_hardware(device)}; torch {version('torch')}, torchvision {version('torchvision')}"
    )
    print(
        f"nms_padded, IoU {IOU_THRESHOLD}, {args.classes} classes; ms for the batch; K: max_detections; answers equal"
    )
    print(f"{'':10} {'torchvision':>12} {f'K = {MAX_DETECTIONS}':>19} {'K = N, no cap':>20}   graph replay")
    print("   B     N      ms/batch    kept      ms  ratio   kept      ms  ratio      ms  ratio")
    for row in bench_nms(device, args.classes):
        capped = f"{row.kept:>7} {row.ours_ms:>7.3f} {row.torchvision_ms / row.ours_ms:>5.1f}x"
        free = f"{row.kept_uncapped:>6} {row.uncapped_ms:>7.3f} {row.torchvision_ms / row.uncapped_ms:>5.1f}x"
        replay = f"{row.graph_ms:>7.3f} {row.torchvision_ms / row.graph_ms:>5.1f}x" if row.graph_ms else "      -"
        print(f"{row.batch:>4} {row.total:>5} {row.torchvision_ms:>13.3f} {capped} {free} {replay}", flush=True)
    if used == "native":
        print("\ntask-aligned assignment, ms for the batch; answers equal")
        print("   B  objects  side  plain torch  C extension  ratio")
        for one in bench_assign():
            times = f"{one.torch_ms:>12.2f} {one.native_ms:>12.2f} {one.torch_ms / one.native_ms:>5.0f}x"
            print(f"{one.batch:>4} {one.objects:>8} {one.side:>5} {times}", flush=True)
    return 0
