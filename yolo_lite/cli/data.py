"""`yolo-lite data convert`."""

from __future__ import annotations

import argparse
from pathlib import Path

from yolo_lite.cli import arguments


def add_data(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments."""
    what = parser.add_subparsers(dest="what", metavar="what", required=True)
    convert = what.add_parser("convert", help="from one layout to another", description=_convert.__doc__)
    convert.add_argument("--data", type=arguments.text, required=True, help=arguments.DATA_HELP)
    convert.add_argument("--to", choices=("coco", "yolo", "voc"), required=True)
    convert.add_argument("--out", type=Path, required=True, help="a new folder")
    convert.add_argument("--copy", action="store_true", help="copy pictures; default: hard links where the disk allows")
    convert.set_defaults(run=_convert)


def _convert(args: argparse.Namespace) -> int:
    """Write a data set as COCO JSON, YOLO txt or PASCAL VOC XML, and say what that layout cannot hold."""
    from yolo_lite.data.discover import read_splits
    from yolo_lite.data.write import write_sets

    splits = read_splits(args.data)
    notes = write_sets(splits, args.to, args.out, link=not args.copy)
    for note in notes:
        print(f"note: {note}")
    for split, data in splits.items():
        print(f"{split}: {data.summary()}")
    print(f"written: {args.out}")
    return 0
