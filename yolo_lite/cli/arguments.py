"""What several commands share: kinds of arguments, and the flags that choose weights, device and thresholds."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from yolo_lite.errors import InputError
from yolo_lite.files import claim_folder, give_back

DEVICE_HELP = "auto (default: cuda, then mps, then cpu), cpu, cuda, cuda:1 or mps"
DATA_HELP = (
    "a folder (COCO JSON, YOLO txt or PASCAL VOC XML, recognised by what it holds), a YAML file or a COCO JSON file"
)
DIFFICULT_HELP = "take objects that PASCAL VOC marks difficult as others; default: they are ignored"
CACHE_HELP = "keep decoded pictures in memory: auto (default) where half of what is free is enough, ram or stop, none"
DEFAULT = "yolo_lite-shuffle-coco"
WEIGHTS_HELP = "a checkpoint, or the bare name of a shipped one"
DEFAULT_WEIGHTS_HELP = f"{WEIGHTS_HELP}; default: the shipped {DEFAULT}"


def note(line: str) -> None:
    """Print a line that is no result, such as what is left out of a folder."""
    print(f"note: {line}", file=sys.stderr)


class Parser(argparse.ArgumentParser):
    """A parser that refuses in one line, as everything else does."""

    def error(self, message: str) -> NoReturn:
        """End with the message and where help is to be had."""
        self.exit(2, f"error: {' '.join(message.split())}; {self.prog} --help lists what there is\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        stream = file or sys.stderr
        for line in message.splitlines(keepends=True):  # a screen takes a line at a time
            if stream:
                stream.write(line)


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Add --weights."""
    parser.add_argument("--weights", type=text, help=DEFAULT_WEIGHTS_HELP)


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add what every training takes."""
    parser.add_argument("--epochs", type=positive, help="default: what the configuration says")
    parser.add_argument("--image-size", type=positive, nargs="+", metavar="N", help="side, or height and width")
    parser.add_argument("--batch-size", type=positive, help="default: what the configuration says")
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)
    parser.add_argument("--out", type=text, help="folder of the run; default: the next free runs/train-N")
    parser.add_argument("--seed", type=seed, help="of weights, order and augmentation; default 0")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in --out (default: the newest); --data says where its images have moved",
    )
    parser.add_argument(
        "--time", type=text, metavar="20m", help="what the run may take (20m, 1h30m, 90s): sets the epochs to fit"
    )
    parser.add_argument(
        "--accumulate", type=positive, metavar="N", help="send a batch through the network in N parts, to save memory"
    )
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), help="default auto: bf16 where it is fast")
    parser.add_argument(
        "--preflight",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="first see whether it learns eight pictures by heart; default: yes, at most 60 steps",
    )
    parser.add_argument(
        "--deterministic", action="store_true", help="refuse operations that may differ from run to run (CUDA: slower)"
    )
    parser.add_argument(
        "--tensorboard",
        action="store_true",
        help="write the numbers of each epoch for TensorBoard too (pip install it)",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="any setting: train.lr=0.002")


def add_source(parser: argparse.ArgumentParser, videos: str, *, required: bool = False) -> None:
    """Add --source; `videos` ends its help text."""
    parser.add_argument(
        "--source",
        type=text,
        nargs="+",
        required=required,
        help=f"pictures, folders, patterns such as shots/*.jpg{videos}",
    )


def add_font(parser: argparse.ArgumentParser) -> None:
    """Add --font."""
    parser.add_argument(
        "--font",
        type=font_file,
        metavar="FILE",
        help="font file for class names; default: DejaVu Sans, and for letters that it lacks the system's fonts",
    )


def font_file(text: str) -> Path:
    """Return the path of a font that can be read."""
    from yolo_lite.draw.fonts import check_font

    try:
        return check_font(Path(text))
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def note_missing_letters(names: Iterable[str], font: Path | None) -> None:
    """Say which letters of the class names no font has."""
    from yolo_lite.draw.fonts import missing_letters

    note = missing_letters(names, font)
    if note:
        print(f"note: {note}; or name one with --font", file=sys.stderr)


def add_score_threshold(parser: argparse.ArgumentParser, default: float | None = None) -> None:
    """Add --score-threshold; None stands for what the weights say."""
    usual = "what the weights say (where F1 was highest on validation)" if default is None else f"{default:g}"
    parser.add_argument(
        "--score-threshold", type=share, default=default, help=f"detections score above it; default: {usual}"
    )


def add_model_settings(parser: argparse.ArgumentParser, score: float | None, *, iou: float, batch: int) -> None:
    """Add what chooses input, device and detections, with these defaults."""
    size_help = "side, or height and width, multiples of 32; default: what the weights were trained at"
    parser.add_argument("--image-size", type=positive, nargs="+", metavar="N", help=size_help)
    parser.add_argument("--batch-size", type=positive, default=batch, help=f"default {batch}")
    parser.add_argument("--device", default="auto", help=DEVICE_HELP)
    add_score_threshold(parser, score)
    parser.add_argument("--iou-threshold", type=share, default=iou, help=f"of the suppression; default {iou}")
    parser.add_argument("--max-detections", type=positive, default=300, help="the most for one picture; default 300")


def image_size(sides: Sequence[int] | None, *, detector: bool = True) -> tuple[int, int] | None:
    """Return (height, width) from the one or two numbers of --image-size, of a detector multiples of 32."""
    from yolo_lite.config.schema import check_image_size

    if sides is None:
        return None
    if len(sides) > 2:
        raise InputError(f"--image-size takes one side, or height and width, got {len(sides)} numbers")
    if detector:
        check_image_size((sides[0], sides[-1]), name="--image-size")
    return sides[0], sides[-1]


def text(text: str) -> str:
    """Return a text that is not empty."""
    if not text:
        raise argparse.ArgumentTypeError("expected a value, got an empty text (a variable that is not set?)")
    return text


def names(text: str) -> list[str]:
    """Return names from a text such as person,car."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError("expected class names with commas between them")
    return names


def positive(text: str) -> int:
    """Return a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def seed(text: str) -> int:
    """Return a whole number from 0 to 2**53."""
    if not text.isdecimal() or int(text) > 2**53:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 to 2**53, got {text!r}")
    return int(text)


def workers(text: str) -> int:
    """Return a whole number of at least -1."""
    if not text.removeprefix("-").isdecimal() or int(text) < -1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, or -1 for auto, got {text!r}")
    return int(text)


def share(text: str) -> float:
    """Return a number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text!r}")
    return value


@contextmanager
def output_folder(given: str | None, kind: str) -> Iterator[Path]:
    """Yield the folder that was asked for, else runs/KIND-N, claimed for this process; it goes if it stays empty."""
    if given:
        yield Path(given)
        return
    folder = claim_folder(kind)
    try:
        yield folder
    finally:
        give_back(folder)
