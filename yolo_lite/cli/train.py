"""`yolo-lite train`."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_lite.cli import arguments
from yolo_lite.errors import InputError

if TYPE_CHECKING:
    from tqdm import tqdm

    from yolo_lite.engine.loop import StepReport
    from yolo_lite.engine.train import Run


def add_train(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments."""
    parser.description = _train.__doc__
    parser.add_argument("--data", type=arguments.text, help=arguments.DATA_HELP)
    parser.add_argument(
        "--config", type=arguments.text, help="a YAML file or shipped name (nano): what differs from the defaults"
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
    parser.add_argument("--epochs", type=int, help="default 30 from weights, 100 from scratch")
    parser.add_argument(
        "--image-size", type=int, nargs="+", metavar="N", help="side, or height and width; multiples of 32"
    )
    parser.add_argument("--batch-size", type=int, help="default 16")
    parser.add_argument("--device", default="auto", help=arguments.DEVICE_HELP)
    parser.add_argument("--out", type=arguments.text, help="folder of the run; default: the next free runs/train-N")
    parser.add_argument("--seed", type=int, help="of weights, order and augmentation; default 0")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --out (default: the newest)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting: train.lr=0.002")
    parser.set_defaults(run=_train)


def _train(args: argparse.Namespace) -> int:
    """Train a detector. Leaves last.pt (to resume), best.pt (to use), results.csv and results.png in its folder.

    Without --config and --weights it goes on from the shipped weights with the settings of configs/finetune.yaml.
    """
    from yolo_lite.engine.checkpoint import load_checkpoint
    from yolo_lite.engine.train import Listener, resume, stored_run, train

    if args.resume:
        _check_resumed(args, stored_run(args.out)[2])
    elif not args.data:
        raise InputError("train needs --data: a folder of labelled pictures or a YAML file (or --resume)")
    finished: list[float] = []
    with _train_progress(finished) as (say, on_step, on_epoch):
        listener = Listener(say, on_step, on_epoch)
        try:
            if args.resume:
                folder = resume(args.out, args.device, listener)
            else:
                chosen = (args.config, _settings(args), args.classes, 1.0 if args.fraction is None else args.fraction)
                folder = train(args.data, args.weights, *chosen, args.out, args.device, listener)
        except KeyboardInterrupt:
            same = f" --out {shlex.quote(args.out)}" if args.out else ""
            saved = f"finished epochs are saved; go on with: yolo-lite train --resume{same}"
            say("\ninterrupted; " + (saved if finished or args.resume else "no epoch was finished, nothing is kept"))
            return 130
    best = load_checkpoint(folder / "best.pt")
    where = shlex.quote(str(folder / "best.pt"))
    only = f" --classes {shlex.quote(','.join(best.about['classes']))}" if best.about["classes"] else ""
    print(f"\ndone: {folder / 'best.pt'} holds the best weights, {folder / 'results.png'} the curves. Next:")
    print(f"  yolo-lite eval --weights {where} --data {shlex.quote(best.about['data'])}{only}")
    print(f"  yolo-lite detect --weights {where} --source your_picture.jpg")
    return 0


def _check_resumed(args: argparse.Namespace, run: Run) -> None:
    """Refuse flags that ask for something else than the run that is resumed."""
    from yolo_lite.config import override_config

    if args.data and Path(args.data).resolve() != Path(run.data).resolve():
        raise InputError(f"--resume: this run was started with --data {run.data}, not {args.data}")
    for name, given, stored in (
        ("weights", args.weights, run.weights or "none"),
        ("classes", args.classes and tuple(args.classes), run.classes),
        ("fraction", args.fraction, run.fraction),
    ):
        if given is not None and given != stored:
            raise InputError(f"--resume: this run was started with --{name} {stored}, not {given}")
    settings = _settings(args)
    for key in settings:
        if override_config(run.config, {key: settings[key]}) != run.config:
            raise InputError(f"--resume: this run was started with another {key} than {settings[key]}; leave it out")


def _settings(args: argparse.Namespace) -> dict[str, object]:
    """Return what --set and the flags say, by key; a flag wins."""
    from yolo_lite.config import parse_setting

    settings = dict(parse_setting(text) for text in args.set)
    flags = {"train.epochs": args.epochs, "train.batch_size": args.batch_size, "train.seed": args.seed}
    settings.update({key: value for key, value in flags.items() if value is not None})
    if args.image_size:
        settings["input.image_size"] = arguments.image_size(args.image_size)
    return settings


@contextmanager
def _train_progress(finished: list[float]) -> Iterator[tuple[Any, Any, Any]]:
    """Show a bar for the run, and a line for each epoch that is finished, whose number goes into the list."""
    from tqdm import tqdm

    bars: list[tqdm[Any]] = []

    def say(line: str) -> None:
        tqdm.write(line)

    def on_step(report: StepReport) -> None:
        if not bars:  # one bar for the whole run, so that the time left is that of the run
            total, done = report.steps * report.epochs, report.steps * report.epoch
            bars.append(tqdm(total=total, initial=done, leave=False, unit="step", disable=None))
        losses = " ".join(f"{name} {value:.3f}" for name, value in report.losses.items())
        bars[0].set_description(f"epoch {report.epoch + 1}/{report.epochs}", refresh=False)
        bars[0].set_postfix_str(f"{losses}, {report.images_per_second:.0f} images/s", refresh=False)
        bars[0].update()

    def on_epoch(row: Mapping[str, float], best: bool) -> None:
        finished.append(row["epoch"])
        tqdm.write(_epoch_line(row, best))

    try:
        yield say, on_step, on_epoch
    finally:
        while bars:
            bars.pop().close()


def _epoch_line(row: Mapping[str, float], best: bool) -> str:
    losses = " ".join(f"{name.removeprefix('loss_')} {row[name]:.3f}" for name in row if name.startswith("loss_"))
    scores = " ".join(f"{name} {row[name]:.3f}" for name in ("AP", "AP50") if name in row)
    return f"epoch {row['epoch']:.0f}: loss {losses}" + (f" | {scores}" if scores else "") + (" (best)" if best else "")
