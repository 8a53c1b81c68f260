"""`yolo-lite export`."""

from __future__ import annotations

import argparse
from pathlib import Path

from yolo_lite.cli import flags
from yolo_lite.shipped import DEFAULT_WEIGHTS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments."""
    parser.description = _export.__doc__
    flags.add_flags(parser, ["weights", "format", "image-size"])
    flags.add_flag(parser, "batch")
    flags.add_flag(
        parser, "score-threshold", help="score above which the file returns detections", default=0.05, usual=""
    )
    flags.add_flags(parser, ["raw", "fp16"])
    flags.add_flag(
        parser,
        "data",
        help="data set whose validation images are compared (or scored, with --fp16)",
        usual="a sample photograph",
    )
    flags.add_flag(
        parser, "out-file", help="file to write: NAME.onnx, NAME.xml or NAME.pt2", usual="the name of the weights"
    )
    parser.set_defaults(run=_export)


def _export(args: argparse.Namespace) -> int:
    """Export a checkpoint to a file for another runtime, with the network, NMS and class names in it.

    ONNX and OpenVINO files run without torch. The results of the file are compared with those of the checkpoint. If they
    differ, nothing is written.
    """
    from yolo_lite.cli.progress import bar
    from yolo_lite.exporting.export import export

    lines: list[str] = []
    with bar("images") as on_image:
        out = export(
            args.weights or DEFAULT_WEIGHTS,
            args.out_file,
            format=args.format,
            precision="fp16" if args.fp16 else "fp32",
            image_size=args.image_size,
            batch=None if args.batch == "dynamic" else int(args.batch),
            score_threshold=args.score_threshold,
            raw=args.raw,
            data=args.data,
            say=lines.append,
            on_image=on_image,
        )
    print(*lines, sep="\n")
    if args.format == "torch-export":
        print("Next, in Python:")
        print(f'  torch.export.load("{out}").module()  # docs/export.md shows what it takes and returns')
    elif not args.raw:
        print("Next:")
        print(f"  yolo-lite {'detect' if _is_detector(out) else 'classify predict'} --weights {out} --source photo.jpg")
    return 0


def _is_detector(path: Path) -> bool:
    from yolo_lite.runtime.session import Session

    return Session(path).info.task == "detect"
