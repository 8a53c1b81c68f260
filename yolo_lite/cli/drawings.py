"""What the commands that draw into a file have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from yolo_lite.cli import flags
from yolo_lite.errors import InputError


def add_drawing(parser: argparse.ArgumentParser, name: str, *, run: Callable[[argparse.Namespace], int]) -> None:
    """Give a command its --out and the function that runs it."""
    flags.add_flag(parser, "out-file", default=Path(name), help="file to draw to: png, jpg, pdf or svg")
    parser.set_defaults(run=run)


def save_drawing(out: Path, draw: Callable[[Path], None]) -> None:
    """Write a drawing completely or not at all; its folder is created."""
    from yolo_lite.files import make_folder, write_atomically

    make_folder(out.parent)
    write_atomically(out, draw)


def check_drawing(out: Path, inputs: list[Path]) -> None:
    """Check the file of --out: its format, and that it replaces none of the inputs."""
    from yolo_lite.files import check_keeps

    check_keeps(inputs, out)
    if out.suffix.lower() not in (".png", ".jpg", ".pdf", ".svg"):
        raise InputError(f"--out must end in .png, .jpg, .pdf or .svg, got {out}")
