"""The command line `yolo-lite`: train, detect, eval, bench. The only part of the package that prints."""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yolo_lite
from yolo_lite.errors import InputError

if TYPE_CHECKING:
    from tqdm import tqdm

    from yolo_lite.config import Config
    from yolo_lite.engine.bench import ModelReport
    from yolo_lite.engine.detect import Show
    from yolo_lite.engine.evaluate import Evaluation
    from yolo_lite.engine.loop import StepReport
    from yolo_lite.engine.predict import Detector
    from yolo_lite.engine.train import Run
    from yolo_lite.structures import Detections

_DEVICE_HELP = "auto (default: cuda, then mps, then cpu), cpu, cuda, cuda:1 or mps"
_DATA_HELP = "a folder (COCO JSON or YOLO txt, recognised by what it holds), a YAML file or a COCO JSON file"
_DEFAULT = "yolo_lite-shuffle-coco"
_WEIGHTS_HELP = "a checkpoint, or the bare name of a shipped one"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 a video ended early, 2 refused with a line, 130 interrupted."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # file names may hold what the terminal cannot show
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


def build_parser() -> argparse.ArgumentParser:
    """Build the parser of every command."""
    parser = argparse.ArgumentParser(
        "yolo-lite", description="Object detection: train, detect, evaluate. Works offline."
    )
    parser.add_argument("--version", action="store_true", help="print the version and those of what it runs on")
    commands = parser.add_subparsers(dest="command", metavar="command")
    _add_train(commands.add_parser("train", help="train a detector on labelled pictures", description=_train.__doc__))
    _add_detect(commands.add_parser("detect", help="find objects in pictures or a video", description=_detect.__doc__))
    _add_eval(commands.add_parser("eval", help="score a checkpoint or a result file", description=_eval.__doc__))
    _add_convert(commands.add_parser("convert", help="turn other projects' weights into checkpoints"))
    _add_bench(commands.add_parser("bench", help="measure speed on this machine"))
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


def _add_train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=_text, help=_DATA_HELP)
    parser.add_argument(
        "--config", type=_text, help="a YAML file or shipped name (nano): what differs from the defaults"
    )
    parser.add_argument(
        "--weights",
        type=_text,
        help=f"start from {_WEIGHTS_HELP}, which fixes the network; default: the shipped {_DEFAULT}, or, where "
        "--config is given, none: from scratch",
    )
    parser.add_argument("--classes", type=_names, help="train on these classes only: person,car")
    parser.add_argument(
        "--fraction", type=float, help="train on this part of the pictures, drawn by the seed; default 1"
    )
    parser.add_argument("--epochs", type=int, help="default 30 from weights, 100 from scratch")
    parser.add_argument(
        "--image-size", type=int, nargs="+", metavar="N", help="side, or height and width; multiples of 32"
    )
    parser.add_argument("--batch-size", type=int, help="default 16")
    parser.add_argument("--device", default="auto", help=_DEVICE_HELP)
    parser.add_argument("--out", type=_text, help="folder of the run; default: the next free runs/train-N")
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
        settings["input.image_size"] = _image_size(args.image_size)
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


def _add_detect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--source", type=_text, help="picture, folder, pattern such as 'shots/*.jpg', or video; default: a sample"
    )
    _add_weights(parser)
    _add_model_settings(parser, score=0.25, iou=0.6, batch=8)
    parser.add_argument("--classes", type=_names, help="report these classes only: person,car")
    parser.add_argument(
        "--out", type=_text, help="folder of the annotated pictures or video; default: the next free runs/detect-N"
    )
    parser.add_argument("--video-format", choices=("mp4", "webm"), default="mp4", help="webm (VP9) plays in browsers")
    parser.add_argument("--save-json", type=Path, metavar="FILE", help="write COCO result rows in original pixels")
    parser.add_argument("--show", action="store_true", help="also open a window (needs opencv-python, see README)")
    parser.set_defaults(run=_detect)


def _detect(args: argparse.Namespace) -> int:
    """Find objects, print a line for each, and write annotated pictures or an annotated video."""
    from yolo_lite.data.sources import Video, find_source
    from yolo_lite.engine.detect import JsonRows, sample_picture
    from yolo_lite.engine.predict import Detector
    from yolo_lite.engine.weights import DEFAULT_WEIGHTS

    source = find_source(args.source) if args.source else [sample_picture()]
    detector = Detector(
        args.weights or DEFAULT_WEIGHTS,
        args.device,
        _image_size(args.image_size),
        args.score_threshold,
        args.iou_threshold,
        args.max_detections,
        args.classes,
        args.batch_size,
    )
    show = _window(hold=not isinstance(source, Video)) if args.show else None
    out = Path(args.out) if args.out else _next_free("detect")
    with JsonRows(args.save_json) if args.save_json else nullcontext() as json_file:
        if isinstance(source, Video):
            target = out / f"{source.path.stem}.{args.video_format}"
            status = _detect_in_video(detector, source, target, json_file, show)
        else:
            status = _detect_in_pictures(detector, source, out, json_file, show)
    if args.save_json:
        print(f"rows: {args.save_json}")
    return status


def _detect_in_pictures(detector: Detector, pictures: list[Path], out: Path, json_file: Any, show: Show | None) -> int:
    from yolo_lite.engine.detect import detect_pictures

    objects = written = skipped = 0
    last = None
    for path, detections, annotated, error in detect_pictures(detector, pictures, out, json_file, show):
        if detections is None:
            if error and len(pictures) == 1:
                raise error
            print(f"skipped: {error}", file=sys.stderr)
            skipped += 1
            continue
        for one in detections:
            print(f"{path.name}: {_object_line(one)}")
        if not len(detections):
            print(f"{path.name}: nothing found above score {detector.score_threshold:g}")
        objects, written, last = objects + len(detections), written + 1, annotated
    if not written:
        raise InputError(f"none of {len(pictures)} pictures could be read")
    where = str(last) if written == 1 else f"{out}{os.sep}"
    text = f"{objects} object{'s' * (objects != 1)} in {written} picture{'s' * (written != 1)}"
    print(f"{text}{f', {skipped} skipped' if skipped else ''}; annotated: {where}")
    return 0


def _detect_in_video(detector: Detector, video: Any, target: Path, json_file: Any, show: Show | None) -> int:
    from tqdm import tqdm

    from yolo_lite.data.sources import EndsEarlyError
    from yolo_lite.engine.detect import detect_video

    found: dict[str, int] = {}
    frames = 0
    early: InputError | None = None
    results = detect_video(detector, video, target, json_file, show)
    try:
        for detections in tqdm(
            results, total=video.frames or None, unit="frame", disable=None, desc=video.path.name, leave=False
        ):
            frames += 1
            for name in detections.names:
                found[name] = found.get(name, 0) + 1
    except EndsEarlyError as error:
        early = error
    for name, count in sorted(found.items(), key=lambda item: -item[1]):
        print(f"{video.path.name}: {name} {count} times, {count / frames:.2f} a frame")
    print(f"{frames} frames; annotated: {target}")
    if early:
        print(f"error: {early}", file=sys.stderr)
    return 1 if early else 0


def _object_line(one: Detections) -> str:
    x1, y1, x2, y2 = one.boxes[0]
    return f"{one.names[0]} {one.scores[0]:.2f} at x {x1:.0f}-{x2:.0f}, y {y1:.0f}-{y2:.0f}"


def _window(hold: bool) -> Show:
    """Return what shows a picture in a window: until a key is pressed, or, for frames of a video, until the next."""
    import cv2

    def show(image: Any) -> None:
        try:
            cv2.imshow("yolo-lite", image[..., ::-1])
            cv2.waitKey(0 if hold else 1)
        except cv2.error as error:
            raise InputError(
                "--show needs an OpenCV with windows: pip uninstall -y opencv-python-headless && pip install opencv-python"
            ) from error

    return show


def _next_free(kind: str) -> Path:
    number = 1
    while (Path("runs") / f"{kind}-{number}").exists():
        number += 1
    return Path("runs") / f"{kind}-{number}"


def _add_eval(parser: argparse.ArgumentParser) -> None:
    _add_weights(parser)
    parser.add_argument(
        "--detections", type=Path, metavar="FILE", help="score this COCO result file, no weights needed"
    )
    parser.add_argument("--data", type=_text, required=True, help=_DATA_HELP)
    parser.add_argument("--split", default="val", help="val (default), train or test")
    parser.add_argument("--classes", type=_names, help="score these classes of the data only: person,car")
    _add_model_settings(parser, score=0.001, iou=0.7, batch=16)
    parser.add_argument("--save-json", type=Path, metavar="FILE", help="write the detections as COCO result rows")
    parser.add_argument("--out", type=_text, help="folder of metrics.json; default: the next free runs/eval-N")
    parser.set_defaults(run=_eval)


def _eval(args: argparse.Namespace) -> int:
    """Score a checkpoint, or a COCO result file of any detector, with pycocotools."""
    from tqdm import tqdm

    from yolo_lite.engine.detect import JsonRows, check_rows_path
    from yolo_lite.engine.evaluate import EvaluationSettings, evaluate, evaluate_detections
    from yolo_lite.engine.weights import DEFAULT_WEIGHTS
    from yolo_lite.files import check_can_create, make_folder, write_atomically

    out = Path(args.out) if args.out else _next_free("eval")
    check_can_create(out)
    if args.save_json:
        check_rows_path(args.save_json)
    if args.detections:
        if args.weights:
            raise InputError("eval takes --weights or --detections, not both")
        result = evaluate_detections(args.detections, args.data, args.split, args.classes)
    else:
        settings = EvaluationSettings(args.score_threshold, args.iou_threshold, args.max_detections, args.batch_size)
        with tqdm(unit="batch", leave=False, desc="eval", disable=None) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            weights = args.weights or DEFAULT_WEIGHTS
            size = _image_size(args.image_size)
            result = evaluate(weights, args.data, args.split, size, args.device, args.classes, settings, progress)
    _print_evaluation(result)
    make_folder(out)
    text = json.dumps(result.to_json(), indent=1)
    write_atomically(out / "metrics.json", lambda part: part.write_text(text + "\n", encoding="utf-8"))
    print(f"metrics: {out / 'metrics.json'}")
    if args.save_json:
        with JsonRows(args.save_json) as json_file:
            json_file.write(result.rows)
        print(f"rows: {args.save_json}")
    return 0


def _print_evaluation(result: Evaluation) -> None:
    for note in result.notes:
        print(f"note: {note}")
    print(", ".join(f"{key.replace('_', ' ')} {value}" for key, value in result.settings.items()))
    names = list(result.metrics.per_class)
    width = max(map(len, [*names, "class"]))
    print(f"\n{'class':<{width}}  {'boxes':>7}  {'AP':>6}  {'AP50':>6}")
    for name, (ap, ap50, boxes) in result.metrics.per_class.items():
        print(f"{name:<{width}}  {boxes:>7,}  {_figure(ap)}  {_figure(ap50)}")
    print()
    for name, value in result.metrics.numbers.items():
        print(f"{name:<9} {_figure(value)}")
    if result.timing:
        rates = result.timing.rates()
        parts = ", ".join(f"{name} {rates[name]:.1f}" for name in ("load", "forward", "postprocess"))
        print(f"\nimages/s: {rates['all']:.1f} ({parts})")


def _figure(value: float) -> str:
    return "     -" if math.isnan(value) else f"{value:6.3f}"


def _add_convert(parser: argparse.ArgumentParser) -> None:
    what = parser.add_subparsers(dest="what", metavar="what", required=True)
    nanodet = what.add_parser("nanodet", help="NanoDet-Plus-m in ncnn's format", description=_convert_nanodet.__doc__)
    nanodet.add_argument("--param", type=Path, required=True, metavar="FILE", help="the .param file")
    nanodet.add_argument("--bin", type=Path, required=True, metavar="FILE", help="the .bin file")
    nanodet.add_argument("--out", type=Path, required=True, metavar="FILE", help="the checkpoint to write")
    nanodet.add_argument("--image-size", type=_positive, default=416, help="side that the weights are for; default 416")
    nanodet.add_argument("--resize", default="stretch", choices=("stretch", "letterbox"), help="default stretch")
    nanodet.set_defaults(run=_convert_nanodet)


def _convert_nanodet(args: argparse.Namespace) -> int:
    """Write NanoDet-Plus-m, as ncnn's two files hold it, as a checkpoint of yolo_lite-shuffle: same weights, our names."""
    from yolo_lite.engine.convert import convert_nanodet

    checkpoint = convert_nanodet(args.param, args.bin, args.out, args.image_size, args.resize)
    parameters = sum(tensor.numel() for name, tensor in checkpoint.weights.items() if name not in ("mean", "std"))
    print(f"{args.out}: {checkpoint.config.name}, {parameters:,} parameters, {len(checkpoint.class_names)} classes")
    return 0


def _add_bench(parser: argparse.ArgumentParser) -> None:
    what = parser.add_subparsers(dest="what", metavar="what", required=True)
    model = what.add_parser(
        "model", help="parameters, GFLOPs, latency and training speed", description=_bench_model.__doc__
    )
    model.add_argument("--config", help="a YAML file or shipped name; default: shuffle and nano, one after the other")
    model.add_argument("--classes", type=int, default=80, help="how many classes; default 80")
    model.add_argument("--device", default="auto", help=_DEVICE_HELP)
    model.set_defaults(run=_bench_model)
    ops = what.add_parser("ops", help="suppression beside torchvision's", description=_bench_ops.__doc__)
    ops.add_argument("--classes", type=_positive, default=80, help="classes among the boxes; default 80")
    ops.add_argument("--device", default="auto", help=_DEVICE_HELP)
    ops.set_defaults(run=_bench_ops)


def _bench_model(args: argparse.Namespace) -> int:
    """Measure a network on this machine with random weights; every figure is a median after a warm-up."""
    from yolo_lite.config import read_config
    from yolo_lite.engine.bench import bench_model
    from yolo_lite.engine.device import describe_hardware, pick_device
    from yolo_lite.engine.weights import find_config

    device = pick_device(args.device)
    for name in [args.config] if args.config else ["shuffle", "nano"]:
        config = read_config(find_config(name))
        _print_model_report(config, args.classes, bench_model(config, args.classes, device), describe_hardware(device))
    return 0


def _print_model_report(config: Config, classes: int, report: ModelReport, hardware: str) -> None:
    print(f"{config.name}, {classes} classes: {report.parameters:,} parameters; {hardware}")
    print("input       GFLOPs  forward ms  with NMS ms   (one picture, fp32)")
    for size in report.sizes:
        side = f"{size.image_size} x {size.image_size}"
        print(f"{side:<10} {size.gflops:>7.2f} {size.forward_ms:>11.1f} {size.with_nms_ms:>12.1f}")
    height, width = config.input.image_size
    batch = config.train.batch_size
    rate = report.training_images_per_second
    print(f"training, {height} x {width}, batch {batch}, {report.precision}: {rate:.1f} images/s (without loading)")


def _bench_ops(args: argparse.Namespace) -> int:
    """Check suppression against torchvision's and time both by turns; on the CPU also assignment against plain torch."""
    from yolo_lite.engine.bench_ops import IOU_THRESHOLD, MAX_DETECTIONS, bench_assign, bench_nms
    from yolo_lite.engine.device import describe_hardware, pick_device
    from yolo_lite.ops import warmup

    device = pick_device(args.device)
    used = warmup(device)
    print(
        f"backend {used}; {describe_hardware(device)}; torch {version('torch')}, torchvision {version('torchvision')}"
    )
    print(
        f"nms_padded, IoU {IOU_THRESHOLD}, {args.classes} classes; ms for the batch; K: max_detections; answers equal"
    )
    print(f"{'':10} {'torchvision':>12} {f'K = {MAX_DETECTIONS}':>19} {'K = N, no cap':>20}   graph replay")
    print("   B     N      ms/batch    kept      ms  ratio   kept      ms  ratio      ms  ratio")
    for row in bench_nms(device, args.classes):
        capped = f"{row.kept:>7} {row.ours_ms:>7.3f} {row.torchvision_ms / row.ours_ms:>5.1f}x"
        free = f"{row.kept_uncapped:>6} {row.uncapped_ms:>7.3f} {row.torchvision_ms / row.uncapped_ms:>5.1f}x"
        replay = f"{row.graph_ms:>7.3f} {row.torchvision_ms / row.graph_ms:>5.1f}x" if row.graph_ms else "      -"
        print(f"{row.batch:>4} {row.total:>5} {row.torchvision_ms:>13.3f} {capped} {free} {replay}", flush=True)
    if used == "native":
        print("\ntask-aligned assignment, ms for the batch; answers equal")
        print("   B  objects  side  plain torch  C extension  ratio")
        for one in bench_assign():
            times = f"{one.torch_ms:>12.2f} {one.native_ms:>12.2f} {one.torch_ms / one.native_ms:>5.0f}x"
            print(f"{one.batch:>4} {one.objects:>8} {one.side:>5} {times}", flush=True)
    return 0


def _add_weights(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--weights", type=_text, help=f"{_WEIGHTS_HELP}; default: the shipped {_DEFAULT}")


def _add_model_settings(parser: argparse.ArgumentParser, score: float, iou: float, batch: int) -> None:
    size_help = "side, or height and width, multiples of 32; default: what the weights were trained at"
    parser.add_argument("--image-size", type=int, nargs="+", metavar="N", help=size_help)
    parser.add_argument("--batch-size", type=_positive, default=batch, help=f"default {batch}")
    parser.add_argument("--device", default="auto", help=_DEVICE_HELP)
    parser.add_argument(
        "--score-threshold", type=_share, default=score, help=f"detections score above it; default {score}"
    )
    parser.add_argument("--iou-threshold", type=_share, default=iou, help=f"of the suppression; default {iou}")
    parser.add_argument("--max-detections", type=_positive, default=300, help="the most for one picture; default 300")


def _image_size(sides: Sequence[int] | None) -> tuple[int, int] | None:
    """Return (height, width) from the one or two numbers of --image-size."""
    if sides is None:
        return None
    if len(sides) > 2:
        raise InputError(f"--image-size takes one side, or height and width, got {len(sides)} numbers")
    return sides[0], sides[-1]


def _text(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("expected a value, got an empty text (a variable that is not set?)")
    return text


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError("expected class names with commas between them")
    return names


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 1, got {text!r}")
    return value


def _fail(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
