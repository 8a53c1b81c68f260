"""`yolo-lite eval --corrupt`: the detector on corrupted and painted copies of the images."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

from yolo_lite.cli import flags
from yolo_lite.cli.progress import bar
from yolo_lite.errors import InputError

if TYPE_CHECKING:
    from yolo_lite.evaluation.robustness import Robustness


def check_corrupt(args: argparse.Namespace) -> None:
    """Raise InputError if --corrupt comes without a detector."""
    if args.corrupt and args.detections:
        raise InputError("--corrupt runs a detector on changed images; pass --weights instead of --detections")


def corrupted(args: argparse.Namespace) -> dict[str, Any]:
    """Score the detector of the flags on changed images, print a table, and return the section for metrics.json."""
    from yolo_lite.evaluation.robustness import evaluate_robustness
    from yolo_lite.shipped import DEFAULT_WEIGHTS

    with bar("batches") as on_batch:
        result = evaluate_robustness(
            args.weights or DEFAULT_WEIGHTS,
            args.data,
            split=args.split,
            settings=flags.settings_of(args),
            device=args.device,
            on_batch=on_batch,
        )
    print()
    for line in (*(f"note: {note}" for note in result.notes), *robustness_table(result)):
        print(line)
    return result.to_json()


def robustness_table(result: Robustness) -> list[str]:
    """Return the lines of a table of AP relative to clean images: a row for each kind, a column for each strength."""
    rows: dict[str, list[str]] = {}
    for score in result.scores:
        figure = "    -" if math.isnan(score.relative) else f"{score.relative:5.2f}"
        rows.setdefault(score.change.kind, []).append(figure)
    width = max(map(len, [*rows, "strength"]))
    clean = "-" if math.isnan(result.ap) else f"{result.ap:.3f}"
    lines = [f"AP relative to that of the images as they are ({clean})", f"{'strength':<{width}}      1      2      3"]
    return [*lines, *(f"{kind:<{width}}  {'  '.join(figures)}" for kind, figures in rows.items())]
