"""`yolo-lite train`."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_lite.cli import arguments
from yolo_lite.cli.bars import Progress, bar
from yolo_lite.errors import InputError

if TYPE_CHECKING:
    from yolo_lite.training.task import Listener, StepReport


def add_train(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments."""
    parser.description = _train.__doc__
    parser.add_argument("--data", type=arguments.text, help=arguments.DATA_HELP)
    parser.add_argument(
        "--config", type=arguments.text, help="a YAML file or shipped name (nano, pico): what differs from the defaults"
    )
    parser.add_argument(
        "--weights",
        type=arguments.text,
        help=f"start from {arguments.WEIGHTS_HELP}, which fixes the network; default: the shipped {arguments.DEFAULT}, or, where "
        "--config is given, none: from scratch",
    )
    parser.add_argument("--classes", type=arguments.names, help="train on these classes only: person,car")
    parser.add_argument(
        "--fraction", type=float, help="train on this part of the pictures, drawn by the seed; default 1"
    )
    parser.add_argument("--difficult", action="store_true", help=arguments.DIFFICULT_HELP)
    parser.add_argument(
        "--teacher",
        type=arguments.text,
        help=f"a detector that helps: {arguments.WEIGHTS_HELP}; classes matched by name",
    )
    parser.add_argument(
        "--unlabelled", type=arguments.text, metavar="FOLDER", help="more pictures, of which only the teacher tells"
    )
    parser.add_argument("--freeze", choices=("none", "backbone"), help="leave this part of the weights as it is")
    parser.add_argument("--cache", choices=("auto", "ram", "none"), help=arguments.CACHE_HELP)
    arguments.add_run(parser)
    parser.set_defaults(run=_train)


def _train(args: argparse.Namespace) -> int:
    """Train a detector. Leaves in its folder best.pt (to use), last.pt (to resume), results.csv, results.png, config.yaml, and the
    sheets training.jpg (samples with their targets) and validation.jpg (pictures with what the best epoch finds).

    Without --config and --weights it goes on from the shipped weights with the settings of configs/finetune.yaml.
    """
    from yolo_lite.checkpoints.checkpoint import load_checkpoint
    from yolo_lite.training.recipe import train

    def start(listener: Listener) -> Path:
        return train(
            args.data,
            config=args.config,
            weights=args.weights,
            settings=run_settings(args),
            out=args.out,
            device=args.device,
            listener=listener,
        )

    folder = train_or_resume(args, "train", start=start)
    best = load_checkpoint(folder / "best.pt")
    where = shlex.quote(str(folder / "best.pt"))
    only = f" --classes {shlex.quote(','.join(best.about['classes']))}" if best.about["classes"] else ""
    print()
    print(f"done: {folder / 'best.pt'} holds the best weights, {folder / 'results.png'} the curves. Next:")
    only += " --difficult" if best.about.get("difficult") else ""
    print(f"  yolo-lite eval --weights {where} --data {shlex.quote(best.about['data'])}{only}")
    print(f"  yolo-lite detect --weights {where} --source your_picture.jpg")
    return 0


def train_or_resume(args: argparse.Namespace, command: str, *, start: Callable[[Listener], Path]) -> Path:
    """Show the progress of a new run, or with --resume of one that goes on; return its folder.

    Args:
        args: of the command.
        command: its words, "train" or "classify train".
        start: trains with a listener.
    """
    from yolo_lite.training.resume import stored_run
    from yolo_lite.training.task import Listener

    if args.resume:
        folder, checkpoint, _ = stored_run(args.out)
        if checkpoint.is_classifier != (command == "classify train"):
            other = "classify train" if checkpoint.is_classifier else "train"
            raise InputError(f"{folder} is a run of {other}; go on with it with yolo-lite {other} --resume")
        if args.config:
            raise InputError("--resume goes on with the configuration of the run; leave out --config")
        if args.time:
            raise InputError("--resume goes on with the epochs and steps that --time worked out; leave it out")
    elif not args.data:
        raise InputError(f"{command} needs --data: a folder of labelled pictures or a YAML file (or --resume)")
    finished: list[float] = []
    with _train_progress(finished) as (say, on_step, on_epoch), bar("pictures") as on_picture:
        listener = Listener(say, on_step, on_epoch=on_epoch, on_picture=on_picture)
        try:
            return _resume(args, listener) if args.resume else start(listener)
        except KeyboardInterrupt:
            same = f" --out {shlex.quote(args.out)}" if args.out else ""
            saved = f"finished epochs are saved; go on with: yolo-lite {command} --resume{same}"
            say(saved if finished or args.resume else "no epoch was finished, nothing is kept")
            raise


def _resume(args: argparse.Namespace, listener: Listener) -> Path:
    """Go on with a run, whose data may have moved."""
    from yolo_lite.training.recipe import resume

    settings = run_settings(args)
    if args.data:
        settings["data.path"] = args.data
    if args.weights:
        settings["train.weights"] = "" if args.weights == "none" else args.weights
    return resume(args.out, settings=settings, device=args.device, listener=listener)


def run_settings(args: argparse.Namespace, *, detector: bool = True) -> dict[str, object]:
    """Return what --set and the flags of `arguments.add_run` say, of a detector or a classifier, by key; a flag wins."""
    from yolo_lite.config.read import parse_setting

    settings = dict(parse_setting(text) for text in args.set)
    flags = {
        "train.epochs": args.epochs,
        "train.batch_size": args.batch_size,
        "train.seed": args.seed,
        "train.accumulate": getattr(args, "accumulate", None),  # tune lacks this and what follows
        "train.precision": getattr(args, "precision", None),
        "train.tensorboard": getattr(args, "tensorboard", None) or None,
        "train.deterministic": getattr(args, "deterministic", None) or None,
        "train.cache": getattr(args, "cache", None),
        "train.minutes": run_minutes(args) or None,
        "train.preflight": None if getattr(args, "preflight", True) else False,
        "data.classes": getattr(args, "classes", None),
        "data.fraction": getattr(args, "fraction", None),
        "data.per_class": getattr(args, "per_class", None),
        "data.shares": getattr(args, "split", None),
        "data.difficult": getattr(args, "difficult", None) or None,
        "data.unlabelled": getattr(args, "unlabelled", None),
    }
    settings.update({key: value for key, value in flags.items() if value is not None})
    if getattr(args, "teacher", None):
        settings["train.teacher"] = args.teacher
    if getattr(args, "freeze", None):
        settings.update({"classifier.freeze": True} if args.freeze is True else {"train.freeze": args.freeze})
    if args.image_size:
        settings["input.image_size"] = arguments.image_size(args.image_size, detector=detector)
    return settings


def run_minutes(args: argparse.Namespace) -> float:
    """Return what --time says, in minutes; 0 where it is not given."""
    from yolo_lite.training.budget import parse_minutes

    if isinstance(args.time, float):  # of tune, in minutes
        return args.time
    if args.time is None:
        return 0.0
    if args.epochs is not None:
        raise InputError("--time works the number of epochs out; leave out --epochs")
    return parse_minutes(args.time)


@contextmanager
def _train_progress(finished: list[float]) -> Iterator[tuple[Any, Any, Any]]:
    """Show a bar for the run, and a line for each epoch that is finished, whose number goes into the list."""

    def on_epoch(row: Mapping[str, float], best: bool) -> None:
        finished.append(row["epoch"])
        print(_epoch_line(row, best))

    with steps_bar() as on_step:
        yield print, on_step, on_epoch


@contextmanager
def steps_bar() -> Iterator[Callable[[StepReport], None]]:
    """Yield what shows, called after each step, a bar for the whole run."""
    bars: list[Progress] = []

    def on_step(report: StepReport) -> None:
        done = report.steps * report.epoch + report.step
        if bars and bars[0].done != done - 1:  # another run has begun: after its backbone's that of the detector
            bars.pop().close()
        if not bars:  # one bar for the whole run, so that the time left is that of the run
            bars.append(Progress("steps", report.steps * report.epochs, done=done - 1))
        losses = " ".join(f"{name} {value:.3f}" for name, value in report.losses.items())
        title, rate = f"epoch {report.epoch + 1}/{report.epochs}", f"{report.images_per_second:.0f} images/s"
        bars[0].update(done, title, details=f"{losses}, {rate}")

    try:
        yield on_step
    finally:
        while bars:
            bars.pop().close()


_SHOWN = ("AP", "AP50", "accuracy", "F1", "val_loss")


def _epoch_line(row: Mapping[str, float], best: bool) -> str:
    losses = " ".join(f"{name.removeprefix('loss_')} {row[name]:.3f}" for name in row if name.startswith("loss_"))
    scores = " ".join(f"{name} {row[name]:.3f}" for name in _SHOWN if name in row)
    return f"epoch {row['epoch']:.0f}: loss {losses}" + (f" | {scores}" if scores else "") + (" (best)" if best else "")
