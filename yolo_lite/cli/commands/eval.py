"""`yolo-lite eval`."""

from __future__ import annotations

import argparse
import json
import math
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_lite.cli import flags, values
from yolo_lite.cli.comparison import print_comparison
from yolo_lite.cli.progress import bar
from yolo_lite.cli.robustness import check_corrupt, corrupted
from yolo_lite.cli.screen import name_column
from yolo_lite.errors import InputError, counted
from yolo_lite.ranks import is_first

if TYPE_CHECKING:
    from yolo_lite.evaluation.detector import Evaluation
    from yolo_lite.media.writers import JsonRows


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments."""
    parser.description = _eval.__doc__
    flags.add_flags(parser, ["weights", "detections"])
    flags.add_flag(parser, "data", required=True)
    flags.add_flag(parser, "split", default="val")
    flags.add_flag(parser, "classes", help="names of the classes of the data to score: person,car")
    flags.add_flags(parser, ["difficult", "image-size"])
    flags.add_flag(parser, "batch-size", usual="")
    flags.add_flag(parser, "device")
    for name in ("score-threshold", "iou-threshold", "max-detections"):
        flags.add_flag(parser, name, usual="", key=f"evaluate.{name.replace('-', '_')}")
    flags.add_flag(parser, "tta", key="evaluate.tta", default=None)
    for name in ("tiles", "tile", "overlap"):
        flags.add_flag(parser, name, key=f"evaluate.{name}")
    flags.add_flag(
        parser,
        "resamples",
        help="number of random halves of the images for the 95%% intervals of AP and AP50, and for --against",
        usual="no intervals; 1000 with --report, and for --against",
    )
    flags.add_flags(parser, ["against", "corrupt", "store-threshold", "save-json", "report"])
    flags.add_flag(parser, "out", help="folder for metrics.json", usual="the next free runs/eval-N")
    parser.set_defaults(run=_eval)


def _eval(args: argparse.Namespace) -> int:
    """Score a checkpoint, or the COCO result file of any detector, with pycocotools.

    --report explains the numbers in a page; --against compares two detectors. If the command is stopped, the rows
    written to --save-json so far are kept, and the exit status is 130 or 143.
    """
    _check_kind(args)
    check_corrupt(args)
    _check_threshold(args)
    from yolo_lite.files import make_folder
    from yolo_lite.media.writers import JsonRows, check_rows_path
    from yolo_lite.reporting.report import check_source

    if args.save_json:
        check_rows_path(args.save_json)
    if args.against:
        check_source(args.against, args.data, split=args.split, settings=flags.settings_of(args))
    if not is_first():
        return _take_part(args)
    with values.output_folder(args.out, "eval") as out:
        with JsonRows(args.save_json) if args.save_json else nullcontext() as json_file:
            result = _score(args, args.detections or args.weights, json_file)
        _print_evaluation(result)
        make_folder(out)
        content = result.to_json()
        _write(out / "metrics.json", content)  # what follows may take long
        explained = _explain(args, result)
        content |= {name: explained[name] for name in ("comparison", "robustness") if explained.get(name)}
        _write(out / "metrics.json", content)
    print(f"metrics: {out / 'metrics.json'}")
    if args.report:
        print(f"report: {args.report / 'report.html'}")
    if args.save_json:
        print(f"rows: {args.save_json}")
    return 0


def _check_kind(args: argparse.Namespace) -> None:
    """Raise InputError if weights and result file are given together or in place of each other, or a flag has no use."""
    if args.detections and args.weights:
        raise InputError("eval takes --weights or --detections, not both")
    if args.weights and args.weights.lower().endswith(".json"):
        raise InputError(f"{args.weights} holds no weights; pass a COCO result file with --detections")
    if args.detections is None:
        return
    if args.detections.suffix.lower() != ".json":
        raise InputError(
            f"--detections takes a COCO result file that ends in .json, got {args.detections}; pass weights with --weights"
        )
    idle = [name for name in _OF_DETECTORS if getattr(args, name.replace("-", "_")) not in (None, False)]
    if idle and not args.against:
        raise InputError(f"--{idle[0]} changes how a detector runs, so it has no use with --detections; leave it out")


_OF_DETECTORS = (
    *("image-size", "score-threshold", "iou-threshold", "max-detections"),
    *("tta", "tiles", "tile", "overlap"),
)


def _take_part(args: argparse.Namespace) -> int:
    """Evaluate this process's part of the images of each checkpoint; rank 0 does everything else."""
    from yolo_lite.reporting.report import is_checkpoint

    for source in [args.detections or args.weights, *([args.against] if args.against else [])]:
        if source is None or is_checkpoint(source):
            _score(args, source)
    return 0


def _write(path: Path, content: dict[str, Any]) -> None:
    from yolo_lite.files import write_atomically

    text = json.dumps(content, indent=1, allow_nan=False)
    write_atomically(path, lambda part: part.write_text(text + "\n", encoding="utf-8"))


def _check_threshold(args: argparse.Namespace) -> None:
    """Raise InputError if --store-threshold has no checkpoint to store into."""
    if not args.store_threshold:
        return
    if not args.weights:
        raise InputError("--store-threshold needs a checkpoint of yours; pass it with --weights")
    from yolo_lite.reporting.report import check_storable

    check_storable(args.weights)


def _score(args: argparse.Namespace, source: str | Path | None, json_file: JsonRows | None = None) -> Evaluation:
    """Score a detector or a result file; the rows of each batch are written at once, so that a stop keeps them."""
    from yolo_lite.evaluation.images import EvaluationListener
    from yolo_lite.reporting.report import RESAMPLES, score
    from yolo_lite.shipped import DEFAULT_WEIGHTS

    images = (0, 0)

    def on_rows(rows: list[dict[str, Any]], done: int, total: int) -> None:
        nonlocal images
        if json_file:
            json_file.write(rows)
        images = (done, total)

    settings = flags.settings_of(args)
    if args.report:
        settings = {"evaluate.resamples": RESAMPLES, **settings}
    try:
        with bar("batches") as on_batch, bar("resamples") as on_resample:
            result = score(
                source or DEFAULT_WEIGHTS,
                args.data,
                split=args.split,
                settings=settings,
                device=args.device,
                listener=EvaluationListener(on_batch, on_resample, on_rows),
            )
    except KeyboardInterrupt:
        done, total = images
        kept = f"; rows: {args.save_json}{', incomplete' if done < total else ''}" if json_file else ""
        if total:
            print(f"finished {done:,} of {counted(total, 'image')}{kept}")
        raise
    if json_file and not images[1]:  # a result file has no batches
        json_file.write(result.rows)
    return result


def _explain(args: argparse.Namespace, result: Evaluation) -> dict[str, Any]:
    """Do what --against, --corrupt, --report and --store-threshold ask for; return the parts that belong to metrics.json."""
    from yolo_lite.reporting.contents import comparison_section
    from yolo_lite.reporting.report import RESAMPLES, build_report, store_threshold, write_report

    content: dict[str, Any] = {}
    if args.against:
        print()
        print(f"scoring {args.against}")
        rival = _score(args, args.against)
        resamples = int(result.settings.get("resamples") or RESAMPLES)
        with bar("resamples") as on_resample:
            content["comparison"] = comparison_section(result, rival, resamples=resamples, on_resample=on_resample)
        print_comparison(content["comparison"])
    if args.corrupt and result.metrics.numbers["AP"] > 0:
        content["robustness"] = corrupted(args)
    elif args.corrupt:  # all changes would be scored, and nothing learnt
        print("note: --corrupt is left out, because there is no AP above 0 that changes could lower")
    best = result.metrics.best
    if args.store_threshold and best:
        store_threshold(args.weights, best.score_threshold)
        print(f"score threshold {best.score_threshold:g} stored in {args.weights}")
    elif args.store_threshold:
        print("no correct detection scores above 0.01, so no score threshold was stored")
    if args.report:
        with bar("example images") as on_image:
            report = build_report(result, device=args.device, on_image=on_image) | content
        if best and args.store_threshold:
            report["threshold"]["stored"] = True
        write_report(report, args.report)
    return content


def _print_evaluation(result: Evaluation) -> None:
    for note in result.notes:
        print(f"note: {note}")
    print(", ".join(f"{key.replace('_', ' ')} {value}" for key, value in result.settings.items()))
    title, *names = name_column(["class", *result.metrics.per_class])
    print()
    print(f"{title}  {'boxes':>7}  {'AP':>6}  {'AP50':>6}")
    for name, (ap, ap50, boxes) in zip(names, result.metrics.per_class.values()):
        print(f"{name}  {boxes:>7,}  {_figure(ap)}  {_figure(ap50)}")
    print()
    for name, value in result.metrics.numbers.items():
        ends = result.metrics.intervals.get(name)
        known = ends is not None and not math.isnan(ends.low)
        print(f"{name:<9} {_figure(value)}" + (f"  ({ends.low:.3f} to {ends.high:.3f})" if ends and known else ""))
    if result.metrics.best:
        threshold, f1, precision, recall = result.metrics.best
        scores = f"F1 {f1:.3f} (precision {precision:.3f}, recall {recall:.3f})"
        print()
        print(f"best score threshold {threshold:g}: {scores}, all classes together at IoU 0.5")
    if result.timing:
        rates = result.timing.rates()
        measured = [name for name in ("load", "forward", "postprocess") if math.isfinite(rates[name])]
        parts = ", ".join(f"{name} {rates[name]:.1f}" for name in measured)
        print()
        print(f"images/s: {rates['all']:.1f} ({parts})")


def _figure(value: float) -> str:
    return "     -" if math.isnan(value) else f"{value:6.3f}"
