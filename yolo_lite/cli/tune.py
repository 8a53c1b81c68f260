"""`yolo-lite tune`."""

from __future__ import annotations

import argparse
import shlex
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_lite.cli import arguments
from yolo_lite.cli.train import run_settings, steps_bar
from yolo_lite.errors import InputError, counted

if TYPE_CHECKING:
    from yolo_lite.training.tune import TrialReport


def add_tune(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments."""
    parser.description = _tune.__doc__
    parser.add_argument("--task", choices=("detect", "classify"), required=True)
    parser.add_argument("--data", type=arguments.text, required=True, help="as for train or classify train")
    parser.add_argument("--trials", type=arguments.positive, default=20, help="finished ones in all; default 20")
    parser.add_argument("--time", type=float, metavar="MINUTES", help="begin no trial after so many minutes")
    parser.add_argument(
        "--config", "--model", type=arguments.text, help="start from this configuration, as in training"
    )
    parser.add_argument("--weights", type=arguments.text, help="start every trial from these, as in training")
    parser.add_argument("--epochs", type=arguments.positive, help="of each trial; default: what the configuration says")
    parser.add_argument(
        "--image-size", type=arguments.positive, nargs="+", metavar="N", help="side, or height and width"
    )
    parser.add_argument("--batch-size", type=arguments.positive, help="default: what the configuration says")
    parser.add_argument("--device", default="auto", help=arguments.DEVICE_HELP)
    parser.add_argument("--seed", type=arguments.seed, help="of every trial and of the search; default 0")
    parser.add_argument("--out", type=Path, help="folder of the study; default runs/tune-TASK")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="fix a setting: train.lr=0.002")
    parser.set_defaults(run=_tune)


def _tune(args: argparse.Namespace) -> int:
    """Search for better settings with Optuna (pip install optuna); the same command goes on where it ended.

    Every trial is a training; those worse than half of the others are stopped. The best is written to best.yaml.
    """
    from yolo_lite.files import locked, make_folder
    from yolo_lite.training.plan import plan
    from yolo_lite.training.tune import METRICS, TuneListener, tune

    if args.time is not None and not args.time > 0:
        raise InputError(f"--time takes minutes above 0, got {args.time:g}")
    metric = METRICS[args.task]

    def on_trial(report: TrialReport) -> None:
        told = ", ".join(f"{key} {_short(value)}" for key, value in report.settings.items())
        print(
            f"trial {report.number}: {metric} {report.value:.3f}{' (stopped)' if report.stopped else ''}; {told}",
            flush=True,
        )

    settings = run_settings(args, detector=args.task == "detect")
    out = args.out or Path("runs") / f"tune-{args.task}"
    make_folder(out)
    try:
        busy = "a search that still runs writes to it; wait for its end, or choose another --out"
        with locked(out, busy, say=print), steps_bar() as on_step:
            asked = plan(
                args.data, config=args.config, weights=args.weights, settings={**settings, "task": args.task}
            ).config
            result = tune(
                asked,
                trials=args.trials,
                out=out,
                fixed=settings,
                device=args.device,
                listener=TuneListener(print, on_trial, on_step),
            )
    finally:
        with suppress(OSError):  # what is not empty stays
            out.rmdir()
    command = "train --config" if args.task == "detect" else "classify train --model"
    start = f" --weights {shlex.quote(args.weights or arguments.DEFAULT)}" if args.weights or not args.config else ""
    print()
    print(
        f"best of {counted(result.trials, 'trial')}: {metric} {result.best.value:.3f}, trial {result.best.number}; {result.config}. Next:"
    )
    print(f"  yolo-lite {command} {shlex.quote(str(result.config))}{start} --data {shlex.quote(args.data)}")
    return 0


def _short(value: object) -> str:
    if isinstance(value, list):
        return "-".join(f"{item:.3g}" for item in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)
