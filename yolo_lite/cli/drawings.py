"""What all commands that write a drawing have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from yolo_lite.cli import flags
from yolo_lite.errors import InputError


def add_drawing(parser: argparse.ArgumentParser, name: str, *, run: Callable[[argparse.Namespace], int]) -> None:
    """Add --out to a command, and set the function that runs it."""
    flags.add_flag(parser, "out-file", default=Path(name), help="drawing to write: png, jpg, pdf or svg")
    parser.set_defaults(run=run)


def save_drawing(out: Path, draw: Callable[[Path], None]) -> None:
    """Write a drawing completely or not at all, and create its folder."""
    from yolo_lite.files import make_folder, write_atomically

    make_folder(out.parent)
    write_atomically(out, draw)


def check_drawing(out: Path, inputs: list[Path]) -> None:
    """Refuse an --out of another format, or one that would replace an input."""
    from yolo_lite.files import check_keeps

    check_keeps(inputs, out)
    if out.suffix.lower() not in (".png", ".jpg", ".pdf", ".svg"):
        raise InputError(f"--out must end in .png, .jpg, .pdf or .svg, got {out}")
