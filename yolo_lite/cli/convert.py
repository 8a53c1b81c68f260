"""`yolo-lite convert`."""

from __future__ import annotations

import argparse
from pathlib import Path

from yolo_lite.cli import arguments
from yolo_lite.errors import counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments."""
    what = parser.add_subparsers(dest="what", metavar="what", required=True)
    nanodet = what.add_parser("nanodet", help="NanoDet-Plus-m in ncnn's format", description=_convert_nanodet.__doc__)
    nanodet.add_argument("--param", type=Path, required=True, metavar="FILE", help="the .param file")
    nanodet.add_argument("--bin", type=Path, required=True, metavar="FILE", help="the .bin file")
    nanodet.add_argument("--out", type=Path, required=True, metavar="FILE", help="the checkpoint to write")
    nanodet.add_argument(
        "--image-size", type=arguments.positive, default=416, help="side that the weights are for; default 416"
    )
    nanodet.add_argument("--resize", default="stretch", choices=("stretch", "letterbox"), help="default stretch")
    nanodet.set_defaults(run=_convert_nanodet)
    _add_darknet(what.add_parser("darknet", help="Darknet's .cfg and .weights", description=_convert_darknet.__doc__))


def _add_darknet(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cfg", type=Path, required=True, metavar="FILE", help="the .cfg file")
    parser.add_argument("--weights", type=Path, required=True, metavar="FILE", help="the .weights file")
    parser.add_argument("--names", type=Path, metavar="FILE", help="class names, one on each line")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the checkpoint to write")
    parser.add_argument("--resize", default="stretch", choices=("stretch", "letterbox"), help="default stretch")
    parser.add_argument(
        "--until",
        type=int,
        metavar="LAYER",
        help="only the layers up to this (the first is 0), as the backbone of a detector to train: train --config nano "
        "--weights OUT",
    )
    parser.set_defaults(run=_convert_darknet)


def _convert_darknet(args: argparse.Namespace) -> int:
    """Write a network of Darknet (.cfg and .weights) as a checkpoint, for detect and eval, or with --until for training."""
    from yolo_lite.checkpoints.convert.darknet import convert_darknet

    checkpoint = convert_darknet(
        args.cfg, args.weights, out=args.out, names=args.names, resize=args.resize, until=args.until
    )
    parameters = sum(tensor.numel() for name, tensor in checkpoint.weights.items() if name not in ("mean", "std"))
    height, width = checkpoint.config.input.image_size
    classes = counted(len(checkpoint.class_names), "class", plural="classes")
    print(f"{args.out}: {checkpoint.config.name}, {counted(parameters, 'value')}, {height} x {width}, {classes}")
    if args.until is not None:
        print("Next:")
        print(f"  yolo-lite train --config nano --weights {args.out} --data your_data")
    return 0


def _convert_nanodet(args: argparse.Namespace) -> int:
    """Write NanoDet-Plus-m, as ncnn's two files hold it, as a checkpoint of yolo_lite-shuffle: same weights, our names."""
    from yolo_lite.checkpoints.convert.nanodet import convert_nanodet

    arguments.image_size([args.image_size])
    checkpoint = convert_nanodet(args.param, args.bin, out=args.out, image_size=args.image_size, resize=args.resize)
    parameters = sum(tensor.numel() for name, tensor in checkpoint.weights.items() if name not in ("mean", "std"))
    classes = counted(len(checkpoint.class_names), "class", plural="classes")
    print(f"{args.out}: {checkpoint.config.name}, {counted(parameters, 'parameter')}, {classes}")
    return 0
