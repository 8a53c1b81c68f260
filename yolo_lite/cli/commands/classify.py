"""`yolo-lite classify train|eval|predict`."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_lite.cli import flags, runs, values
from yolo_lite.cli.comparison import print_comparison
from yolo_lite.cli.progress import bar, counting
from yolo_lite.cli.screen import name_column, note
from yolo_lite.errors import InputError, counted
from yolo_lite.ranks import is_first
from yolo_lite.shipped import shipped

if TYPE_CHECKING:
    from yolo_lite.evaluation.classifier import ClassEvaluation
    from yolo_lite.metrics.classification import ClassificationReport, ClassScores
    from yolo_lite.predict.classifier import Classifier
    from yolo_lite.runtime import Classifier as ExportedClassifier
    from yolo_lite.structures.results import Classification

_DATA_HELP = (
    "data set: a folder of images for each class, a .tar or .tar.gz of these, MNIST's idx files, CIFAR-10's binary "
    "files, a detection set (its objects are cut out), or a YAML file that joins several"
)
_CONFIGS = "configs/classify"
_EXAMPLES = 24


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments."""
    what = parser.add_subparsers(dest="what", metavar="what", required=True)
    _add_train(what.add_parser("train", help="train a classifier", description=_train.__doc__))
    _add_eval(what.add_parser("eval", help="score a classifier", description=_eval.__doc__))
    _add_predict(what.add_parser("predict", help="classify images", description=_predict.__doc__))


def _add_train(parser: argparse.ArgumentParser) -> None:
    flags.add_flag(parser, "data", help=_DATA_HELP)
    flags.add_flag(
        parser, "config", help=f"network to build: a YAML file or one of {', '.join(shipped(_CONFIGS, '.yaml'))}"
    )
    flags.add_flag(
        parser,
        "weights",
        help='weights to start from: a classifier, a detector with the same backbone, or "none"',
        usual=f"{flags.SHIPPED}; none if --config is given",
    )
    flags.add_flags(parser, ["freeze-layers", "shares", "classes", "per-class", "fraction"])
    runs.add_run_flags(parser)
    parser.set_defaults(run=_train, any_size=True)


def _train(args: argparse.Namespace) -> int:
    """Train a classifier of whole images.

    Without --config and --weights, it starts from the backbone of the shipped detector.

    The folder of the run holds best.pt (to use), last.pt (to resume), results.csv, results.png and config.yaml. Two
    sheets of images show training samples with their classes (training.jpg) and the answers of the best epoch
    (validation.jpg).
    """
    runs.check_run(args, "classify train")
    from yolo_lite.training.recipe import resume, train_classifier

    with runs.shown(args, "classify train") as listener:
        if args.resume:
            settings = runs.resume_settings(args, "classify train")
            folder = resume(args.out, settings=settings, device=args.device, listener=listener)
        else:
            folder = train_classifier(
                args.data,
                config=args.config,
                weights=args.weights,
                settings=flags.settings_of(args),
                out=args.out,
                device=args.device,
                listener=listener,
            )
    runs.print_next(folder, score="classify eval", use="classify predict")
    return 0


def _add_eval(parser: argparse.ArgumentParser) -> None:
    flags.add_flag(parser, "weights", usual="", required=True)
    flags.add_flag(parser, "data", help=_DATA_HELP, required=True)
    flags.add_flag(parser, "split", usual="test if there is one, otherwise val")
    flags.add_flag(parser, "shares", usual="as in training")
    flags.add_flag(parser, "classes", help="names of the classes to score: cat,dog")
    flags.add_flag(parser, "batch-size", default=64)
    flags.add_flag(parser, "device")
    flags.add_flag(parser, "against", help="second classifier to compare with on the same images")
    flags.add_flag(parser, "report")
    flags.add_flag(parser, "out", usual="the next free runs/eval-N")
    flags.add_flag(parser, "font")
    parser.set_defaults(run=_eval)


def _eval(args: argparse.Namespace) -> int:
    """Score a classifier: print precision, recall and F1 of each class, and write metrics.json.

    Also draw the confusion matrix (confusion.png), and images with right and wrong answers (examples.png). --against
    compares a second classifier with the first, and --report writes a page.
    """
    if args.against:
        from yolo_lite.reporting.classifier import check_comparable

        check_comparable(args.weights, args.against)  # now, and not after the first has been scored
    if not is_first():  # it takes part; rank 0 prints and writes
        for weights in filter(None, (args.weights, args.against)):
            _score(args, weights)
        return 0
    with values.output_folder(args.out, "eval") as out:
        result = _score(args, args.weights)
        for line in result.notes:
            print(f"note: {line}")
        print(", ".join(f"{key} {value}" for key, value in result.settings.items()))
        print()
        for line in report_table(result.report).split("\n"):
            print(line)
        values.note_missing_letters(result.class_names, args.font)
        comparison = _compare(args, result) if args.against else None
        _write_evaluation(result, out, comparison=comparison, font=args.font)
    if args.report:
        from yolo_lite.reporting.classifier import classifier_report
        from yolo_lite.reporting.report import write_report

        write_report({**classifier_report(result), "comparison": comparison}, args.report)
        print(f"report: {args.report / 'report.html'}")
    return 0


def _score(args: argparse.Namespace, weights: str) -> ClassEvaluation:
    from yolo_lite.evaluation.classifier import evaluate_classifier

    with bar("batches") as on_batch:
        return evaluate_classifier(
            weights,
            args.data,
            split=args.split,
            settings=flags.settings_of(args),
            device=args.device,
            on_batch=on_batch,
        )


def _compare(args: argparse.Namespace, result: ClassEvaluation) -> dict[str, Any]:
    """Score the weights of --against on the same images, and print the differences."""
    from yolo_lite.reporting.classifier import compare_classifiers

    comparison = compare_classifiers(result, _score(args, args.against))
    print_comparison(comparison)
    return comparison


def _write_evaluation(
    result: ClassEvaluation, out: Path, *, comparison: Mapping[str, Any] | None, font: Path | None
) -> None:
    from yolo_lite.draw.plots import draw_classifications, plot_confusion
    from yolo_lite.files import make_folder, write_atomically

    make_folder(out)
    content = {**result.to_json(), **({"comparison": comparison} if comparison else {})}
    text = json.dumps(content, indent=1)
    write_atomically(out / "metrics.json", lambda part: part.write_text(text + "\n", encoding="utf-8"))
    confusion, names, examples = result.report.confusion, result.class_names, result.examples(_EXAMPLES)
    write_atomically(out / "confusion.png", lambda part: plot_confusion(confusion, names, path=part, font=font))
    write_atomically(out / "examples.png", lambda part: draw_classifications(examples, part, font=font))
    print()
    print(
        f"metrics: {out / 'metrics.json'}, confusion matrix: {out / 'confusion.png'}, examples: {out / 'examples.png'}"
    )


def report_table(report: ClassificationReport) -> str:
    """Return a table of precision, recall, F1 and support of each class, accuracy, and both averages."""
    rows = ["class", *report.per_class, "accuracy", "macro average", "weighted average"]
    title, *names, accuracy, macro, weighted = name_column(rows)
    lines = [f"{title}  precision  recall     F1  support"]
    for name, figures in zip(names, report.per_class.values()):
        lines.append(f"{name}  {_figures(figures)}")
    lines.append(f"\n{accuracy}  {'':9}  {'':6}  {report.accuracy:5.3f}  {report.macro.support:7,}")
    lines += [f"{macro}  {_figures(report.macro)}", f"{weighted}  {_figures(report.weighted)}"]
    return "\n".join(lines)


def _figures(figures: ClassScores) -> str:
    return f"{figures.precision:9.3f}  {figures.recall:6.3f}  {figures.f1:5.3f}  {figures.support:7,}"


def _add_predict(parser: argparse.ArgumentParser) -> None:
    flags.add_flag(parser, "weights", usual="", required=True)
    flags.add_flag(parser, "source", required=True)
    flags.add_flag(parser, "batch-size", default=64)
    flags.add_flag(parser, "device")
    flags.add_flag(
        parser, "out-file", help="CSV file for the scores", usual="predictions.csv in the next free runs/predict-N"
    )
    parser.set_defaults(run=_predict)


def _predict(args: argparse.Namespace) -> int:
    """Classify images. For one image print its classes, such as "dog 98%, cat 2%"; for several write a CSV file.

    Images that cannot be read are skipped and reported. Exit status: 0 if at least one image could be read; 2
    otherwise; 130 or 143 if the command was stopped, after saving what was finished.
    """
    out: Path | None = args.out_file
    if out and (out.suffix.lower() != ".csv" or out.is_dir()):
        raise InputError(f"--out takes a file name that ends in .csv, got {out}")
    from yolo_lite.media.sources import Video, find_sources

    source = find_sources(args.source, say=note)
    if isinstance(source, Video) and source.path.suffix.lower() == ".gif":
        source = [source.path]  # the first frame of an animation
    if isinstance(source, Video):
        raise InputError(f"{source.path} is a video; classify takes images")
    classifier = _classifier(args)
    if len(source) == 1 and out is None:
        print(classifier(source[0]))
        return 0
    with values.output_folder(str(out.parent) if out else None, "predict") as folder:
        _predict_many(classifier, source, out=folder / (out.name if out else "predictions.csv"))
    return 0


def _classifier(args: argparse.Namespace) -> Classifier | ExportedClassifier:
    if values.is_exported(args.weights):
        from yolo_lite.runtime import Classifier as ExportedClassifier

        return ExportedClassifier(args.weights, batch_size=args.batch_size)
    from yolo_lite.predict.classifier import Classifier

    return Classifier(args.weights, args.device, batch_size=args.batch_size)


def _predict_many(classifier: Classifier | ExportedClassifier, images: list[Path], *, out: Path) -> None:
    """Write the scores of images to a CSV file; after Ctrl-C, those of the images that are done."""
    rows: list[tuple[str, Classification]] = []
    try:
        for row in _each(classifier, images):
            rows.append(row)
    except KeyboardInterrupt:
        summary = _write_table(classifier, rows, out=out) if rows else "nothing was written"
        print(f"finished {len(rows):,} of {counted(len(images), 'image')}: {summary}")
        raise
    if not rows:
        raise InputError(f"none of {counted(len(images), 'image')} could be read")
    summary = _write_table(classifier, rows, out=out, skipped=len(images) - len(rows))
    print(f"{counted(len(rows), 'image')}: {summary}")


def _write_table(
    classifier: Classifier | ExportedClassifier,
    rows: Sequence[tuple[str, Classification]],
    *,
    out: Path,
    skipped: int = 0,
) -> str:
    """Write the CSV file; return a line with the images of each class, those skipped, and the name of the file."""
    from yolo_lite.files import make_folder, write_atomically
    from yolo_lite.media.writers import write_predictions

    make_folder(out.parent)
    write_atomically(out, lambda part: write_predictions(part, rows, class_names=classifier.class_names))
    counts = Counter(answer.name for _, answer in rows)
    classes = ", ".join(f"{name} {counts[name]:,}" for name in classifier.class_names if name in counts)
    return f"{classes}{f'; {skipped:,} skipped' if skipped else ''}; scores: {out}"


def _each(classifier: Classifier | ExportedClassifier, paths: list[Path]) -> Iterator[tuple[str, Classification]]:
    """Yield the names of files with their scores; files that cannot be read are skipped and reported."""
    from yolo_lite.media.images import read_image

    starts = range(0, len(paths), classifier.batch_size)
    for start in counting(starts, "batches", total=len(starts)):
        names: list[str] = []
        images: list[Any] = []
        for path in paths[start : start + classifier.batch_size]:
            try:
                images.append(read_image(path, classifier.max_16bit))
                names.append(str(path))
            except InputError as error:
                print(f"skipped: {error}", file=sys.stderr)
        yield from zip(names, classifier(images))
