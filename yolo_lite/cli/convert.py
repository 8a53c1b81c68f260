"""`yolo-lite convert`."""

from __future__ import annotations

import argparse
from pathlib import Path

from yolo_lite.cli import arguments


def add_convert(parser: argparse.ArgumentParser) -> None:
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


def _convert_nanodet(args: argparse.Namespace) -> int:
    """Write NanoDet-Plus-m, as ncnn's two files hold it, as a checkpoint of yolo_lite-shuffle: same weights, our names."""
    from yolo_lite.engine.convert import convert_nanodet

    checkpoint = convert_nanodet(args.param, args.bin, args.out, args.image_size, args.resize)
    parameters = sum(tensor.numel() for name, tensor in checkpoint.weights.items() if name not in ("mean", "std"))
    print(f"{args.out}: {checkpoint.config.name}, {parameters:,} parameters, {len(checkpoint.class_names)} classes")
    return 0
