"""`yolo-lite train`."""

from __future__ import annotations

import argparse

from yolo_lite.cli import flags, runs


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments."""
    parser.description = _train.__doc__
    flags.add_flags(parser, ["data", "config"])
    flags.add_flag(
        parser,
        "weights",
        help='checkpoint to start from, which fixes the network: a file, the name of a shipped one, or "none"',
        usual=f"{flags.SHIPPED}; none if --config is given",
    )
    flags.add_flags(parser, ["classes", "fraction", "difficult", "teacher", "unlabelled", "freeze", "cache"])
    runs.add_run_flags(parser)
    parser.set_defaults(run=_train)


def _train(args: argparse.Namespace) -> int:
    """Train a detector on labelled images.

    Without --config and --weights, it fine-tunes the shipped weights with the settings of configs/finetune.yaml.

    The folder of the run holds best.pt (to use), last.pt (to resume), results.csv, results.png and config.yaml. Two
    sheets of images show training samples with their targets (training.jpg) and the detections of the best epoch
    (validation.jpg).
    """
    runs.check_run(args, "train")
    from yolo_lite.training.recipe import resume, train

    with runs.shown(args, "train") as listener:
        if args.resume:
            settings = runs.resume_settings(args, "train")
            folder = resume(args.out, settings=settings, device=args.device, listener=listener)
        else:
            folder = train(
                args.data,
                config=args.config,
                weights=args.weights,
                settings={**flags.settings_of(args), "task": "detect"},
                out=args.out,
                device=args.device,
                listener=listener,
            )
    runs.print_next(folder, score="eval", use="detect")
    return 0
