"""`yolo-lite card`."""

from __future__ import annotations

import argparse
from pathlib import Path

from yolo_lite.cli import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments."""
    parser.description = _card.__doc__
    parser.add_argument("weights", nargs="?", default=arguments.DEFAULT, help=arguments.DEFAULT_WEIGHTS_HELP)
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it there instead, such as card.md")
    parser.set_defaults(run=_card)


def _card(args: argparse.Namespace) -> int:
    """Print what a checkpoint says of itself as a model card: classes, data, settings, hardware, accuracy."""
    from yolo_lite.checkpoints.card import model_card
    from yolo_lite.files import make_folder, write_atomically

    text = model_card(args.weights)
    if args.out is None:
        print(*text.splitlines(), sep="\n")
        return 0
    make_folder(args.out.parent)
    write_atomically(args.out, lambda part: part.write_text(text, encoding="utf-8"))
    print(f"written: {args.out}")
    return 0
