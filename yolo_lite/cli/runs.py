"""What train, classify train and tune have in common: flags, the progress of a run, and resuming it."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_lite.cli import flags
from yolo_lite.cli.progress import Progress, bar
from yolo_lite.errors import InputError
from yolo_lite.ranks import is_first
from yolo_lite.shipped import find_config

if TYPE_CHECKING:
    from yolo_lite.training.task import Listener, StepReport


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that every training takes."""
    flags.add_flags(parser, ["epochs", "time"])
    flags.add_flag(
        parser,
        "image-size",
        usual="from the weights or the configuration; fine-tuning enlarges it if most objects are small",
    )
    flags.add_flags(parser, ["batch-size", "device", "seed"])
    flags.add_flag(parser, "out", help="folder of the run", usual="the next free runs/train-N")
    flags.add_flags(parser, ["resume", "accumulate", "precision", "preflight", "deterministic", "tensorboard", "set"])


def check_run(args: argparse.Namespace, command: str) -> None:
    """Refuse flags of a training that contradict each other, before anything slow is imported.

    Raises:
        InputError: if they do; the message names the flags.
    """
    if args.time is not None and args.epochs is not None:
        raise InputError("--time sets the number of epochs; leave out --epochs")
    if args.resume and args.config:
        raise InputError("--resume uses the configuration of the run; leave out --config")
    if args.resume and args.time is not None:
        raise InputError("--resume keeps the epochs and steps of the run; leave out --time")
    if not args.resume and not args.data and not _names_data(args.config):
        raise InputError(f"{command} needs --data: a folder of labelled images or a YAML file (or --resume)")
    if args.config:
        find_config(args.config)
    flags.settings_of(args)


def _names_data(config: str | None) -> bool:
    """Return whether a config names its data, as the config.yaml of a run does."""
    from yolo_lite.config.resolve import read_config
    from yolo_lite.shipped import find_config

    return config is not None and bool(read_config(find_config(config)).data.path)


@contextmanager
def shown(args: argparse.Namespace, command: str) -> Iterator[Listener]:
    """Yield a listener that shows the progress of a run; if the run is stopped, print how to continue it.

    Args:
        args: parsed arguments of the command.
        command: "train" or "classify train".
    """
    from yolo_lite.training.task import Listener

    finished: list[float] = []
    with train_progress(finished) as (say, on_step, on_epoch), bar("images") as on_image:
        try:
            yield Listener(say, on_step, on_epoch=on_epoch, on_image=on_image, began=getattr(args, "began", None))
        except KeyboardInterrupt:
            same = f" --out {shlex.quote(args.out)}" if args.out else ""
            saved = f"all finished epochs are saved; continue with: yolo-lite {command} --resume{same}"
            say(saved if finished or args.resume else "no epoch was finished, so nothing was saved")
            raise


def resume_settings(args: argparse.Namespace, command: str) -> dict[str, object]:
    """Return the settings that the flags beside --resume ask for.

    Raises:
        InputError: if another command started the run.
    """
    if is_first():
        _check_command(args.out, command)
    settings = flags.settings_of(args)
    if args.data:
        settings["data.path"] = args.data
    if args.weights:
        settings["train.weights"] = "" if args.weights == "none" else args.weights
    return settings


def _check_command(out: str | None, command: str) -> None:
    from yolo_lite.training.resume import stored_run

    folder, checkpoint, _ = stored_run(out)
    if checkpoint.is_classifier != (command == "classify train"):
        other = "classify train" if checkpoint.is_classifier else "train"
        raise InputError(f"{folder} is a run of {other}; continue it with: yolo-lite {other} --resume")


@contextmanager
def train_progress(finished: list[float]) -> Iterator[tuple[Any, Any, Any]]:
    """Show a bar for the run and a line for each finished epoch, and append its number to the list."""

    def on_epoch(row: Mapping[str, float], best: bool) -> None:
        finished.append(row["epoch"])
        print(epoch_line(row, best))

    with steps_bar() as on_step:
        yield print, on_step, on_epoch


@contextmanager
def steps_bar() -> Iterator[Callable[[StepReport], None]]:
    """Yield a function that shows one bar for the whole run, to be called after each step."""
    bars: list[Progress] = []

    def on_step(report: StepReport) -> None:
        done = report.steps * report.epoch + report.step
        if bars and bars[0].done != done - 1:  # another run has begun: the detector's, after its pretraining
            bars.pop().close()
        if not bars:  # one bar for all epochs, so that it shows the time left of the run
            bars.append(Progress("steps", report.steps * report.epochs, done=done - 1))
        losses = " ".join(f"{name} {value:.3f}" for name, value in report.losses.items())
        title, rate = f"epoch {report.epoch + 1}/{report.epochs}", f"{report.images_per_second:.0f} images/s"
        bars[0].update(done, title, details=f"{losses}, {rate}")

    try:
        yield on_step
    finally:
        while bars:
            bars.pop().close()


_SHOWN = ("AP", "AP50", "train_accuracy", "accuracy", "F1", "val_loss")


def epoch_line(row: Mapping[str, float], best: bool) -> str:
    """Return a line with the losses and scores of an epoch."""
    losses = " ".join(f"{name.removeprefix('loss_')} {row[name]:.3f}" for name in row if name.startswith("loss_"))
    scores = " ".join(f"{name} {row[name]:.3f}" for name in _SHOWN if name in row)
    return f"epoch {row['epoch']:.0f}: loss {losses}" + (f" | {scores}" if scores else "") + (" (best)" if best else "")


def print_next(folder: Path, *, score: str, use: str) -> None:
    """Print where the results of a run are, and which commands come next.

    Args:
        folder: folder of the run.
        score: command that scores its weights, such as "eval".
        use: command that uses its weights, such as "detect".
    """
    if not is_first():  # the folder may be on another machine
        return
    from yolo_lite.checkpoints.checkpoint import load_checkpoint

    about = load_checkpoint(folder / "best.pt").about
    weights = shlex.quote(str(folder / "best.pt"))
    same = f" --classes {shlex.quote(','.join(about['classes']))}" if about["classes"] else ""
    same += " --difficult" if about.get("difficult") and score == "eval" else ""
    print()
    print(f"done: best weights in {folder / 'best.pt'}, curves in {folder / 'results.png'}. Next:")
    print(f"  yolo-lite {score} --weights {weights} --data {shlex.quote(about['data'])}{same}")
    print(f"  yolo-lite {use} --weights {weights} --source your_image.jpg")
