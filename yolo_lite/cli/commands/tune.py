"""`yolo-lite tune`."""

from __future__ import annotations

import argparse
import shlex
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_lite.cli import flags, runs, values
from yolo_lite.errors import counted
from yolo_lite.files import locked, make_folder
from yolo_lite.shipped import DEFAULT_WEIGHTS, find_config

if TYPE_CHECKING:
    from yolo_lite.training.tune import TrialReport, TuneResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments."""
    parser.description = _tune.__doc__
    flags.add_flag(parser, "task", required=True)
    flags.add_flag(parser, "data", help="data set, as for train or classify train", required=True)
    flags.add_flags(parser, ["trials"])
    flags.add_flag(parser, "time", help="time after which no new trial starts: 20m, 1h30m, 90s or a number of minutes")
    flags.add_flag(parser, "config", help="configuration to start from", usual="as in training")
    flags.add_flag(parser, "weights", help="checkpoint that every trial starts from", usual="as in training")
    flags.add_flag(parser, "epochs", help="number of epochs of each trial")
    flags.add_flags(parser, ["image-size", "batch-size", "device"])
    flags.add_flag(parser, "seed", help="seed of the search and of every trial")
    flags.add_flag(parser, "out", help="folder of the study", usual="runs/tune-TASK")
    flags.add_flag(parser, "set", help="setting to keep fixed in every trial, such as train.lr=0.002; may be repeated")
    parser.set_defaults(run=_tune, any_size=True)


def _tune(args: argparse.Namespace) -> int:
    """Search for better settings with Optuna (pip install optuna).

    Every trial is a short training; trials that do worse than half of the others are stopped early. The settings of the
    best trial are written to best.yaml. To continue a search, run the same command again.
    """
    detector = args.task == "detect"
    if detector:
        values.check_sides(args.image_size)
    if args.config:
        find_config(args.config)
    flags.settings_of(args)
    out = Path(args.out or Path("runs") / f"tune-{args.task}")
    make_folder(out)
    try:
        result = _search(args, out)
    finally:
        with suppress(OSError):  # a folder that is not empty stays
            out.rmdir()
    command = "train" if detector else "classify train"
    start = f" --weights {shlex.quote(args.weights or DEFAULT_WEIGHTS)}" if args.weights or not args.config else ""
    best, metric = result.best, "AP" if detector else "accuracy"
    print()
    print(
        f"best of {counted(result.trials, 'trial')}: trial {best.number} with {metric} {best.value:.3f}, saved in "
        f"{result.config}. Next:"
    )
    print(f"  yolo-lite {command} --config {shlex.quote(str(result.config))}{start} --data {shlex.quote(args.data)}")
    return 0


def _search(args: argparse.Namespace, out: Path) -> TuneResult:
    from yolo_lite.training.plan import plan
    from yolo_lite.training.tune import METRICS, TuneListener, tune

    def on_trial(report: TrialReport) -> None:
        tried = ", ".join(f"{key} {_short(value)}" for key, value in report.settings.items())
        score = f"{METRICS[args.task]} {report.value:.3f}{' (stopped)' if report.stopped else ''}"
        print(f"trial {report.number}: {score}; {tried}")

    settings = {**flags.settings_of(args), "task": args.task}
    busy = "a search is still writing to it; wait until it ends, or choose another --out"
    with locked(out, busy, say=print), runs.steps_bar() as on_step:
        return tune(
            plan(args.data, config=args.config, weights=args.weights, settings=settings).config,
            trials=args.trials,
            out=out,
            fixed=settings,
            device=args.device,
            listener=TuneListener(print, on_trial, on_step),
        )


def _short(value: object) -> str:
    if isinstance(value, list):
        return "-".join(f"{item:.3g}" for item in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)
