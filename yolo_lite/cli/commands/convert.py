"""`yolo-lite convert`."""

from __future__ import annotations

import argparse

from yolo_lite.cli import flags
from yolo_lite.errors import InputError, counted


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments."""
    what = parser.add_subparsers(dest="what", metavar="what", required=True)
    nanodet = what.add_parser("nanodet", help="NanoDet-Plus-m from ncnn's files", description=_convert_nanodet.__doc__)
    flags.add_flag(nanodet, "param", required=True)
    flags.add_flag(nanodet, "bin", required=True)
    flags.add_flag(nanodet, "out-file", help="checkpoint to write", required=True)
    flags.add_flag(
        nanodet,
        "image-size",
        help="side of the input that the weights were trained at",
        default=[416],
        nargs=1,
        usual="416",
    )
    flags.add_flag(nanodet, "resize")
    nanodet.set_defaults(run=_convert_nanodet)
    yolox = what.add_parser("yolox", help="YOLOX from its .pth files", description=_convert_yolox.__doc__)
    flags.add_flags(yolox, ["pth", "param", "bin"])
    flags.add_flag(yolox, "out-file", help="checkpoint to write", required=True)
    flags.add_flag(yolox, "image-size", help="side of the input", nargs=1, usual="416 for nano and tiny, else 640")
    flags.add_flag(yolox, "legacy")
    yolox.set_defaults(run=_convert_yolox)
    darknet = what.add_parser(
        "darknet", help="networks from Darknet's .cfg and .weights files", description=_convert_darknet.__doc__
    )
    flags.add_flag(darknet, "cfg", required=True)
    flags.add_flag(darknet, "darknet-weights", required=True)
    flags.add_flag(darknet, "names")
    flags.add_flag(darknet, "out-file", help="checkpoint to write", required=True)
    flags.add_flags(darknet, ["resize", "until"])
    darknet.set_defaults(run=_convert_darknet)


def _convert_darknet(args: argparse.Namespace) -> int:
    """Convert a Darknet network (.cfg and .weights) to a checkpoint for detect and eval, or with --until for train."""
    from yolo_lite.checkpoints.convert.darknet import convert_darknet

    checkpoint = convert_darknet(
        args.cfg, args.darknet_weights, out=args.out_file, names=args.names, resize=args.resize, until=args.until
    )
    parameters = sum(tensor.numel() for name, tensor in checkpoint.weights.items() if name not in ("mean", "std"))
    height, width = checkpoint.config.input.image_size
    classes = counted(len(checkpoint.class_names), "class", plural="classes")
    print(f"{args.out_file}: {checkpoint.config.name}, {counted(parameters, 'value')}, {height} x {width}, {classes}")
    if args.until is not None:
        print("Next:")
        print(f"  yolo-lite train --config nano --weights {args.out_file} --data your_data")
    return 0


def _convert_yolox(args: argparse.Namespace) -> int:
    """Convert a network of YOLOX (nano, tiny, s, m, l or x) to a checkpoint.

    The source is a .pth file of the YOLOX project, or the nano network in ncnn's two files (.param and .bin).
    """
    from pathlib import Path

    from yolo_lite.checkpoints.convert.yolox import convert_yolox, convert_yolox_ncnn

    ncnn = args.param and args.bin
    if bool(args.pth) == bool(ncnn) or bool(args.param) != bool(args.bin):
        raise InputError("name either --weights (a .pth file) or both --param and --bin (ncnn's files)")
    side = args.image_size[0] if args.image_size else None
    if args.pth:
        checkpoint = convert_yolox(Path(args.pth), out=args.out_file, image_size=side, legacy=args.legacy)
    else:
        checkpoint = convert_yolox_ncnn(args.param, args.bin, out=args.out_file, image_size=side or 416)
    parameters = sum(tensor.numel() for name, tensor in checkpoint.weights.items() if name not in ("mean", "std"))
    classes = counted(len(checkpoint.class_names), "class", plural="classes")
    height, width = checkpoint.config.input.image_size
    print(f"{args.out_file}: {checkpoint.config.name}, {counted(parameters, 'value')}, {height} x {width}, {classes}")
    return 0


def _convert_nanodet(args: argparse.Namespace) -> int:
    """Convert NanoDet-Plus-m from ncnn's two files (.param and .bin) to a checkpoint of yolo_lite-shuffle.

    The weights stay the same; only their names change.
    """
    from yolo_lite.checkpoints.convert.nanodet import convert_nanodet

    checkpoint = convert_nanodet(
        args.param, args.bin, out=args.out_file, image_size=args.image_size[0], resize=args.resize
    )
    parameters = sum(tensor.numel() for name, tensor in checkpoint.weights.items() if name not in ("mean", "std"))
    classes = counted(len(checkpoint.class_names), "class", plural="classes")
    print(f"{args.out_file}: {checkpoint.config.name}, {counted(parameters, 'parameter')}, {classes}")
    return 0
