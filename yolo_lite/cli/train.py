"""`yolo-lite train`."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_lite.cli import arguments
from yolo_lite.cli.progress import Progress, bar
from yolo_lite.errors import InputError

if TYPE_CHECKING:
    from yolo_lite.training.loop import StepReport
    from yolo_lite.training.task import Listener, Run


def add_arguments(parser: argparse.ArgumentParser) -> None:
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
            args.weights,
            config=args.config,
            settings=run_settings(args),
            classes=args.classes,
            fraction=1.0 if args.fraction is None else args.fraction,
            out=args.out,
            device=args.device,
            listener=listener,
            difficult=args.difficult,
            minutes=run_minutes(args),
            preflight=args.preflight,
            unlabelled=args.unlabelled,
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
    from yolo_lite.training.recipe import stored_run
    from yolo_lite.training.task import Listener

    if args.resume:
        folder, checkpoint, run = stored_run(args.out)
        if checkpoint.is_classifier != (command == "classify train"):
            other = "classify train" if checkpoint.is_classifier else "train"
            raise InputError(f"{folder} is a run of {other}; go on with it with yolo-lite {other} --resume")
        _check_resumed(args, run, detector=not checkpoint.is_classifier)
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

    workers: Any = run_settings(args).get("train.workers")
    more = getattr(args, "unlabelled", None)
    return resume(args.out, args.device, listener=listener, data=args.data, unlabelled=more, workers=workers)


def _check_resumed(args: argparse.Namespace, run: Run, *, detector: bool) -> None:
    """Refuse flags that ask for something else than the run that is resumed."""
    from yolo_lite.config.resolve import override_config, read_config
    from yolo_lite.shipped import find_config

    asked = {
        "weights": (args.weights, run.weights or "none"),
        "classes": (args.classes and tuple(args.classes), run.classes),
        "fraction": (args.fraction, run.fraction),
        "per-class": (getattr(args, "per_class", None), run.per_class),
        "split": (getattr(args, "split", None), run.split),
        "difficult": (getattr(args, "difficult", None) or None, run.difficult),
    }
    if getattr(args, "config", None):
        raise InputError("--resume goes on with the configuration of the run; leave out --config")
    if args.time:
        raise InputError("--resume goes on with the epochs and steps that --time worked out; leave it out")
    for name, (given, stored) in asked.items():
        if given is not None and given != stored:
            raise InputError(f"--resume: this run was started with --{name} {stored}, not {given}")
    model = getattr(args, "model", None)
    if model and read_config(find_config(model, "configs/classify")).name != run.config.name:
        raise InputError(f"--resume: this run was started with --model {run.config.classifier.model}, not {model}")
    settings = run_settings(args, detector=detector)
    for key in settings.keys() - {"train.workers"}:  # which changes nothing but the time
        if override_config(run.config, {key: settings[key]}) != run.config:
            raise InputError(f"--resume: this run was started with another {key} than {settings[key]}; leave it out")


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
