"""The command line `yolo-lite`, a module for each command. The only part of the package that prints."""

from __future__ import annotations

import argparse
import io
import os
import sys
import warnings
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import yolo_lite
from yolo_lite.cli import bench, card, classify, convert, data, detect, eval, inspect, train, tune
from yolo_lite.errors import InputError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    0 done, 1 a video ended early or data has faults, 2 refused with a line, 130 interrupted.
    """
    _let_threads_sleep()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may hold what the terminal cannot show
    warnings.filterwarnings("ignore", "Image size .* exceeds limit", RuntimeWarning)  # what is too large is refused
    parser = build_parser()
    args = parser.parse_args(arguments)
    if args.version:
        print(environment())
        return 0
    if args.command is None:
        parser.print_help()
        return 2
    try:
        status: int = args.run(args)
        return status
    except InputError as error:
        return _fail(str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone: nothing more to say
        return 1
    except OSError as error:
        return _fail(f"{error.filename or args.command}: {error.strerror or error}")
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _let_threads_sleep() -> None:
    """Let threads that wait for each other sleep, unless the user has chosen: otherwise they take cores from other programs.

    The library of threads reads this when torch is imported, which commands do later.
    """
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of every command."""
    parser = argparse.ArgumentParser(
        "yolo-lite", description="Object detection and classification: train, detect, evaluate. Works offline."
    )
    parser.add_argument("--version", action="store_true", help="print the version and those of what it runs on")
    commands = parser.add_subparsers(dest="command", metavar="command")
    train.add_train(commands.add_parser("train", help="train a detector on labelled pictures"))
    detect.add_detect(commands.add_parser("detect", help="find objects in pictures or a video"))
    eval.add_eval(commands.add_parser("eval", help="score a checkpoint or a result file"))
    classify.add_classify(commands.add_parser("classify", help="train, score and use a classifier of whole pictures"))
    card.add_card(commands.add_parser("card", help="print what a checkpoint says of itself"))
    convert.add_convert(commands.add_parser("convert", help="turn other projects' weights into checkpoints"))
    data.add_data(
        commands.add_parser("data", help="look at data sets, check them, cut them down, turn one layout into another")
    )
    inspect.add_inspect(commands.add_parser("inspect", help="look into networks, pictures and what layers see"))
    tune.add_tune(commands.add_parser("tune", help="search for better settings"))
    bench.add_bench(commands.add_parser("bench", help="measure speed on this machine"))
    return parser


def environment() -> str:
    """Return the versions that matter in a bug report, without importing any of the packages."""
    names = (
        "torch",
        "torchvision",
        "numpy",
        "opencv-python-headless",
        "opencv-python",
        "albumentations",
        "pycocotools",
    )
    lines = [f"yolo-lite {yolo_lite.__version__}", f"python {sys.version.split()[0]} on {sys.platform}"]
    for name in names:
        try:
            lines.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            if name != "opencv-python":
                lines.append(f"{name} is not installed")
    built = any(Path(yolo_lite.__file__).parent.glob("ops/_native*.*[od]"))  # .so or .pyd
    lines.append(f"C extension of the ops {'built' if built else 'not built: no compiler at installation?'}")
    return "\n".join(lines)


def _fail(message: str) -> int:
    line = " ".join(message.split())
    print(f"error: {line if len(line) < 1200 else f'{line[:800]} ... {line[-300:]}'}", file=sys.stderr)
    return 2
