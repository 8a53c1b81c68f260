"""`yolo-lite data convert|check`."""

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
    check = what.add_parser("check", help="find what is wrong with a data set", description=_check.__doc__)
    check.add_argument("--data", type=arguments.text, required=True, help=arguments.DATA_HELP)
    check.add_argument(
        "--fix", type=Path, metavar="FOLDER", help="write repaired COCO files there; nothing is replaced"
    )
    check.add_argument("--all", action="store_true", help="print every fault, not the first ten of each split")
    check.set_defaults(run=_check)


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


_SHOWN = 10  # faults of a split


def _check(args: argparse.Namespace) -> int:
    """Report faults with file and annotation: bad boxes, pictures that are missing or of another size, doubles ...

    Exits with 1 when training would be harmed.
    """
    from yolo_lite.data.doctor import check_data, repair

    faults = check_data(args.data)
    for split in dict.fromkeys(fault.split for fault in faults):
        mine = sorted((fault for fault in faults if fault.split == split), key=lambda fault: not fault.harms)
        for fault in mine if args.all else mine[:_SHOWN]:
            print(f"{'harm' if fault.harms else 'note'}: {split}: {fault.where}: {fault.what}")
        if len(mine) > _SHOWN and not args.all:
            print(f"... and {len(mine) - _SHOWN:,} more of {split}; --all prints them")
    harmful = sum(fault.harms for fault in faults)
    print(f"{harmful:,} faults that harm training, {len(faults) - harmful:,} others")
    if args.fix:
        for split, count in repair(args.data, args.fix).items():
            print(f"{split}: {count:,} annotations left out or changed; written to {args.fix}")
    return 1 if harmful else 0
