"""`yolo-lite classify train|eval|predict`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_lite.cli import arguments
from yolo_lite.cli.bars import bar, counting
from yolo_lite.cli.train import run_settings, train_or_resume
from yolo_lite.errors import InputError, counted, one_line

if TYPE_CHECKING:
    from yolo_lite.evaluation.classifier import ClassEvaluation
    from yolo_lite.metrics.classification import ClassificationReport
    from yolo_lite.predict.classifier import Classifier
    from yolo_lite.structures.results import Classification

_DATA_HELP = (
    "pictures in folders of classes, a .tar or .tar.gz of these, MNIST's idx files, CIFAR-10's binary files, a detection "
    "set (its boxes are cut out), or a YAML file that joins several"
)
_SPLIT_HELP = "how a folder of classes without splits is divided, percent of train/val/test; default 70/15/15"
_EXAMPLES = 24
_MODELS = (
    "mlp",
    "lenet",
    "mnist_cnn",
    "mnist_small",
    "cifar_cnn",
    "conv_net",
    "binary_cnn",
    "alexnet",
    "vgg16",
    "inception",
    "resnet50",
    "capsule",
    "yolo_lite-n-cls",
    "yolo_lite-shuffle-cls",
)  # a test compares them with configs/classify: reading that would import torch for a help text


def add_classify(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments."""
    what = parser.add_subparsers(dest="what", metavar="what", required=True)
    _add_train(what.add_parser("train", help="train a classifier", description=_train.__doc__))
    _add_eval(what.add_parser("eval", help="precision, recall, F1, confusion matrix", description=_eval.__doc__))
    _add_predict(what.add_parser("predict", help="say what pictures show", description=_predict.__doc__))


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", "--model", type=arguments.text, help=f"a YAML file or one of: {', '.join(_MODELS)}")
    parser.add_argument("--data", type=arguments.text, help=_DATA_HELP)
    parser.add_argument(
        "--weights",
        type=arguments.text,
        help="start from these: a classifier, or a detector with the same backbone; default: the shipped "
        f"{arguments.DEFAULT}, or, where --model is given, none: from scratch",
    )
    parser.add_argument("--freeze", action="store_true", help="train the last layer only (transfer learning)")
    parser.add_argument("--split", help=_SPLIT_HELP)
    parser.add_argument("--classes", type=arguments.names, help="only these classes: cat,dog")
    parser.add_argument("--per-class", type=arguments.positive, help="at most so many training pictures of each class")
    parser.add_argument(
        "--fraction", type=float, help="train on this part of the pictures, drawn by the seed; default 1"
    )
    arguments.add_run(parser)
    parser.set_defaults(run=_train)


def _train(args: argparse.Namespace) -> int:
    """Train a classifier. Leaves in its folder best.pt (to use), last.pt (to resume), results.csv, results.png, config.yaml, and the
    sheets training.jpg (samples with their targets) and validation.jpg (pictures with what the best epoch finds).

    Without --model and --weights it goes on from the backbone of the shipped detector.
    """
    from yolo_lite.checkpoints.checkpoint import load_checkpoint
    from yolo_lite.training.recipe import train_classifier
    from yolo_lite.training.task import Listener

    def start(listener: Listener) -> Path:
        return train_classifier(
            args.data,
            config=args.config,
            weights=args.weights,
            settings=run_settings(args, detector=False),
            out=args.out,
            device=args.device,
            listener=listener,
        )

    folder = train_or_resume(args, "classify train", start=start)
    about = load_checkpoint(folder / "best.pt").about
    where = shlex.quote(str(folder / "best.pt"))
    only = f" --classes {shlex.quote(','.join(about['classes']))}" if about["classes"] else ""
    print()
    print(f"done: {folder / 'best.pt'} holds the best weights, {folder / 'results.png'} the curves. Next:")
    print(f"  yolo-lite classify eval --weights {where} --data {shlex.quote(about['data'])}{only}")
    print(f"  yolo-lite classify predict --weights {where} --source your_picture.jpg")
    return 0


def _add_eval(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", type=arguments.text, required=True, help=arguments.WEIGHTS_HELP)
    parser.add_argument("--data", type=arguments.text, required=True, help=_DATA_HELP)
    parser.add_argument("--on", metavar="SPLIT", help="train, val or test; default: test where there is one, else val")
    parser.add_argument("--split", help=f"{_SPLIT_HELP}, or what the weights were trained with")
    parser.add_argument("--classes", type=arguments.names, help="score pictures of these classes only: cat,dog")
    parser.add_argument("--batch-size", type=arguments.positive, default=64, help="default 64")
    parser.add_argument("--device", default="auto", help=arguments.DEVICE_HELP)
    parser.add_argument("--out", type=arguments.text, help="folder of the results; default: the next free runs/eval-N")
    arguments.add_font(parser)
    parser.set_defaults(run=_eval)


def _eval(args: argparse.Namespace) -> int:
    """Score a classifier: a report for each class, metrics.json, confusion.png, and examples.png with right and wrong answers."""
    from yolo_lite.evaluation.classifier import evaluate_classifier
    from yolo_lite.files import check_can_create

    if args.out:
        check_can_create(Path(args.out))
    with arguments.output_folder(args.out, "eval") as out:
        with bar("batches") as on_progress:
            settings = {
                "data.classes": args.classes,
                "data.shares": args.split,
                "train.batch_size": args.batch_size,
            }
            result = evaluate_classifier(
                args.weights,
                args.data,
                split=args.on,
                settings={key: value for key, value in settings.items() if value is not None},
                device=args.device,
                on_batch=on_progress,
            )
        for note in result.notes:
            print(f"note: {note}")
        print(", ".join(f"{key} {value}" for key, value in result.settings.items()))
        print("", *report_table(result.report).split("\n"), sep="\n")
        arguments.note_missing_letters(result.class_names, args.font)
        _write_evaluation(result, out, args.font)
    return 0


def _write_evaluation(result: ClassEvaluation, out: Path, font: Path | None) -> None:
    from yolo_lite.draw.plots import draw_classifications, plot_confusion
    from yolo_lite.files import make_folder, write_atomically

    make_folder(out)
    text = json.dumps(result.to_json(), indent=1)
    write_atomically(out / "metrics.json", lambda part: part.write_text(text + "\n", encoding="utf-8"))
    confusion, names, examples = result.report.confusion, result.class_names, result.examples(_EXAMPLES)
    write_atomically(out / "confusion.png", lambda part: plot_confusion(confusion, names, path=part, font=font))
    write_atomically(out / "examples.png", lambda part: draw_classifications(examples, part, font=font))
    print()
    print(
        f"metrics: {out / 'metrics.json'}, confusion matrix: {out / 'confusion.png'}, examples: {out / 'examples.png'}"
    )


def report_table(report: ClassificationReport) -> str:
    """Return precision, recall, F1 and support of each class, then accuracy and both averages, as text."""
    names = {name: one_line(name) for name in report.per_class}
    width = max(map(len, [*names.values(), "weighted average"]))
    lines = [f"{'class':<{width}}  precision  recall     F1  support"]
    for name, one in report.per_class.items():
        lines.append(
            f"{names[name]:<{width}}  {one.precision:9.3f}  {one.recall:6.3f}  {one.f1:5.3f}  {one.support:7,}"
        )
    lines.append(f"\n{'accuracy':<{width}}  {'':9}  {'':6}  {report.accuracy:5.3f}  {report.macro.support:7,}")
    for name, one in (("macro average", report.macro), ("weighted average", report.weighted)):
        lines.append(f"{name:<{width}}  {one.precision:9.3f}  {one.recall:6.3f}  {one.f1:5.3f}  {one.support:7,}")
    return "\n".join(lines)


def _add_predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", type=arguments.text, required=True, help=arguments.WEIGHTS_HELP)
    arguments.add_source(parser, "", required=True)
    parser.add_argument("--batch-size", type=arguments.positive, default=64, help="default 64")
    parser.add_argument("--device", default="auto", help=arguments.DEVICE_HELP)
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="CSV file of many pictures; default: runs/predict-N/predictions.csv"
    )
    parser.set_defaults(run=_predict)


def _predict(args: argparse.Namespace) -> int:
    """Say what one picture shows, such as "dog 98%, cat 2%"; for several write a CSV file with every class's score.

    A picture that cannot be read is skipped with a line. The exit status is 0 if any picture could be read, else 2; 130
    or 143 where the run was stopped, which keeps what is finished.
    """
    from yolo_lite.files import check_can_create
    from yolo_lite.media.sources import Video, find_sources
    from yolo_lite.predict.classifier import Classifier

    source = find_sources(args.source, say=arguments.note)
    if isinstance(source, Video) and source.path.suffix.lower() == ".gif":
        source = [source.path]  # of an animation, the first frame
    if isinstance(source, Video):
        raise InputError(f"{source.path} is a video; classify takes pictures")
    if args.out and (args.out.suffix.lower() != ".csv" or args.out.is_dir()):
        raise InputError(f"--out takes a file name that ends in .csv, got {args.out}")
    if args.out:
        check_can_create(args.out.parent)
    classifier = Classifier(args.weights, args.device, batch_size=args.batch_size)
    if len(source) == 1 and args.out is None:
        print(classifier(source[0]))
        return 0
    with arguments.output_folder(args.out and str(args.out.parent), "predict") as folder:
        _predict_many(classifier, source, folder / (args.out.name if args.out else "predictions.csv"))
    return 0


def _predict_many(classifier: Classifier, pictures: list[Path], out: Path) -> None:
    """Write what pictures show into a CSV file; after Ctrl-C what those show that are done."""
    rows: list[tuple[str, Classification]] = []
    try:
        for row in _each(classifier, pictures):
            rows.append(row)
    except KeyboardInterrupt:
        told = _write_table(classifier, rows, out=out) if rows else "nothing is written"
        print(f"finished {len(rows):,} of {counted(len(pictures), 'image')}: {told}")
        raise
    if not rows:
        raise InputError(f"none of {counted(len(pictures), 'picture')} could be read")
    told = _write_table(classifier, rows, out=out, skipped=len(pictures) - len(rows))
    print(f"{counted(len(rows), 'picture')}: {told}")


def _write_table(
    classifier: Classifier, rows: Sequence[tuple[str, Classification]], *, out: Path, skipped: int = 0
) -> str:
    """Write the CSV file; return how many pictures of each class it holds, how many it lacks, and its name."""
    from yolo_lite.evaluation.classifier import write_predictions
    from yolo_lite.files import make_folder, write_atomically

    make_folder(out.parent)
    write_atomically(out, lambda part: write_predictions(part, rows, class_names=classifier.class_names))
    counts = Counter(one.name for _, one in rows)
    told = ", ".join(f"{name} {counts[name]:,}" for name in classifier.class_names if name in counts)
    return f"{told}{f'; {skipped:,} skipped' if skipped else ''}; scores: {out}"


def _each(classifier: Classifier, pictures: list[Path]) -> Iterator[tuple[str, Classification]]:
    """Yield file names with what they show; what cannot be read is told and left out."""
    from yolo_lite.media.images import read_image

    starts = range(0, len(pictures), classifier.batch_size)
    for start in counting(starts, "batches", total=len(starts)):
        names: list[str] = []
        images: list[Any] = []
        for path in pictures[start : start + classifier.batch_size]:
            try:
                images.append(read_image(path, classifier.input.max_16bit))
                names.append(str(path))
            except InputError as error:
                print(f"skipped: {error}", file=sys.stderr)
        yield from zip(names, classifier(images))
