"""The results that `yolo-lite detect` writes on request: flags, files, and the lines that name them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from yolo_lite.cli import flags
from yolo_lite.errors import InputError

if TYPE_CHECKING:
    from yolo_lite.media.detections import Output

FLAGS = ("save-json", "save-txt", "txt-scores", "save-csv", "save-crops", "no-images", "quiet")


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that name results."""
    flags.add_flags(parser, FLAGS)


def check(args: argparse.Namespace) -> None:
    """Raise InputError if a result could not be written where its flag says, or flags contradict each other."""
    from yolo_lite.media.detections import check_new_folder, check_table_path
    from yolo_lite.media.writers import check_rows_path

    if args.no_images and args.out:
        raise InputError("--out is the folder of the annotated copies, which --no-images leaves out; leave out one")
    if args.txt_scores and not args.save_txt:
        raise InputError("--txt-scores adds scores to the label files; add --save-txt FOLDER")
    if args.save_txt and args.save_txt == args.save_crops:
        raise InputError(f"--save-txt and --save-crops both name {args.save_txt}; choose two folders")
    for path, fits in (
        (args.save_json, check_rows_path),
        (args.save_csv, check_table_path),
        (args.save_txt, check_new_folder),
        (args.save_crops, check_new_folder),
    ):
        if path:
            fits(path)


@contextmanager
def opened(args: argparse.Namespace, *, category_ids: Sequence[int]) -> Iterator[list[Output]]:
    """Yield what receives each image with its detections; at the end, print where the results are."""
    from yolo_lite.media.detections import CocoRows, Crops, LabelFiles, Table
    from yolo_lite.media.writers import JsonRows

    outputs: list[Output] = []
    rows, table = None, None
    if args.save_txt:
        outputs.append(LabelFiles(args.save_txt, with_scores=args.txt_scores))
    if args.save_crops:
        outputs.append(Crops(args.save_crops))
    try:
        with ExitStack() as files:
            if args.save_csv:
                table = files.enter_context(Table(args.save_csv))
                outputs.append(table)
            if args.save_json:
                rows = files.enter_context(JsonRows(args.save_json))
                outputs.append(CocoRows(rows, category_ids=category_ids))
            yield outputs
    finally:
        for what, path, is_there in (
            ("labels", args.save_txt, args.save_txt and args.save_txt.is_dir()),
            ("crops", args.save_crops, args.save_crops and args.save_crops.is_dir()),
            ("table", args.save_csv, table and table.kept),
            ("rows", args.save_json, rows and rows.kept),
        ):
            if is_there:
                print(f"{what}: {path}")
