"""`yolo-lite card`."""

from __future__ import annotations

import argparse

from yolo_lite.cli import flags
from yolo_lite.shipped import DEFAULT_WEIGHTS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments."""
    parser.description = _card.__doc__
    flags.add_flag(parser, "weights")
    flags.add_flag(parser, "out-file", help="file to write, such as card.md", usual="standard output")
    parser.set_defaults(run=_card)


def _card(args: argparse.Namespace) -> int:
    """Print the model card of a checkpoint: its classes, data, settings, hardware and accuracy."""
    from yolo_lite.checkpoints.card import model_card
    from yolo_lite.files import make_folder, write_atomically

    text = model_card(args.weights or DEFAULT_WEIGHTS)
    if args.out_file is None:
        for line in text.splitlines():
            print(line)
        return 0
    make_folder(args.out_file.parent)
    write_atomically(args.out_file, lambda part: part.write_text(text, encoding="utf-8"))
    print(f"written: {args.out_file}")
    return 0
