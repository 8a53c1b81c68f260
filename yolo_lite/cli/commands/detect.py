"""`yolo-lite detect`."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_lite.cli import flags, outputs, values
from yolo_lite.cli.commands import manifest
from yolo_lite.cli.commands.live import detect_live, is_live
from yolo_lite.cli.progress import counting
from yolo_lite.cli.screen import note
from yolo_lite.cli.tracks import wanted_tracks
from yolo_lite.cli.values import is_exported
from yolo_lite.errors import InputError, counted

if TYPE_CHECKING:
    from yolo_lite.predict.detector import Detector
    from yolo_lite.predict.files import DetectedImage, Show
    from yolo_lite.runtime import Detector as ExportedDetector
    from yolo_lite.structures.results import Detections
    from yolo_lite.tracking.video import VideoTracks


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments."""
    parser.description = _detect.__doc__
    flags.add_flag(
        parser,
        "source",
        help="images, folders, patterns such as shots/*.jpg, or one video; or streams: camera numbers, rtsp:// or http:// "
        "addresses, a list of these (.txt), - for standard input",
        usual="a sample image",
    )
    flags.add_flags(parser, ["every-frame", "frames", "stream-time", "manifest", "shard-size"])
    flags.add_flags(parser, ["weights", "image-size"])
    flags.add_flag(parser, "batch-size", default=8)
    flags.add_flags(
        parser, ["device", "score-threshold", "iou-threshold", "max-detections", "tta", "tiles", "tile", "overlap"]
    )
    flags.add_flag(parser, "classes", help="names of the classes to report: person,car")
    flags.add_flag(parser, "threads", default=None, usual="all cores, divided among the workers of this machine")
    flags.add_flags(parser, ["worker", "engine", "actors", "track", "count-line", "zone"])
    flags.add_flag(
        parser,
        "out",
        help="folder of the annotated images or video, or of a batch job's shards",
        usual="the next free runs/detect-N",
    )
    flags.add_flag(parser, "rows")
    outputs.add_flags(parser)
    flags.add_flags(parser, ["video-format", "font", "show", "messages", "save-video"])
    parser.set_defaults(run=_detect)


def _detect(args: argparse.Namespace) -> int:
    """Find objects in images or a video, print a line for each, and write annotated copies; or follow live streams.

    With --manifest it writes a row for each image of a batch job instead, in shards that any number of workers divide.

    Images that cannot be read are skipped and reported. Exit status: 0 if at least one image could be read; 1 if a
    video ended early; 2 otherwise. If the command is stopped, it saves what is finished, and ends with 130 or 143.
    """
    from yolo_lite.files import file_name
    from yolo_lite.media.sources import Video, find_sources
    from yolo_lite.predict.files import sample_image
    from yolo_lite.tracking.video import reporting_low_scores

    if manifest.is_batch(args):
        return manifest.detect_batch(partial(_detector, args), args)
    if is_live(args):
        show = _window(hold=False) if args.show else None
        return detect_live(partial(_detector, args), args, show=show)
    say = (lambda line: None) if args.quiet else note
    source = find_sources(args.source, say=say) if args.source else [sample_image()]
    outputs.check(args)
    begin_tracks = wanted_tracks(args, source)
    detector = _detector(args)
    tracks = begin_tracks(detector.score_threshold) if begin_tracks else None
    if not args.quiet:
        values.note_missing_letters(args.classes or detector.class_names, args.font)
    show = _window(hold=not isinstance(source, Video)) if args.show else None
    with (
        nullcontext() if args.no_images else values.output_folder(args.out, "detect") as out,
        outputs.opened(args, category_ids=detector.category_ids) as others,
    ):
        settings: dict[str, Any] = {"outputs": others, "show": show, "font": args.font}
        if isinstance(source, Video):
            target = out / file_name(source.path.stem, f".{args.video_format or 'mp4'}") if out else None
            if tracks:
                detector, settings["tracks"] = reporting_low_scores(detector), tracks
            return _detect_in_video(detector, source, target=target, quiet=args.quiet, settings=settings)
        return _detect_in_images(detector, source, out=out, quiet=args.quiet, settings=settings)


def _detector(args: argparse.Namespace) -> Detector | ExportedDetector:
    return _exported(args) if is_exported(args.weights) else _trained(args)


def _trained(args: argparse.Namespace) -> Detector:
    from yolo_lite.predict.detector import Detector
    from yolo_lite.shipped import DEFAULT_WEIGHTS
    from yolo_lite.structures.tiles import tiling_of

    if args.threads:
        import torch

        torch.set_num_threads(args.threads)
    return Detector(
        args.weights or DEFAULT_WEIGHTS,
        args.device,
        image_size=args.image_size,
        score_threshold=args.score_threshold,
        iou_threshold=args.iou_threshold,
        max_detections=args.max_detections,
        classes=args.classes,
        tta=args.tta,
        tiles=tiling_of(args.tiles, args.tile, overlap=args.overlap),
        batch_size=args.batch_size,
    )


def _exported(args: argparse.Namespace) -> ExportedDetector:
    from yolo_lite.runtime import Detector
    from yolo_lite.structures.tiles import tiling_of

    fixed = {"--image-size": args.image_size, "--iou-threshold": args.iou_threshold, "--tta": args.tta}
    for flag, value in fixed.items():
        if value:
            raise InputError(f"{flag} is fixed in an exported file; leave it out, or use the checkpoint")
    if args.device not in ("auto", "cpu"):
        raise InputError(f"an exported file runs on the CPU; leave out --device {args.device}")
    return Detector(
        args.weights,
        score_threshold=args.score_threshold,
        max_detections=args.max_detections,
        classes=args.classes,
        tiles=tiling_of(args.tiles, args.tile, overlap=args.overlap),
        batch_size=args.batch_size,
        threads=args.threads or 0,
    )


def _detect_in_images(
    detector: Detector | ExportedDetector,
    images: list[Path],
    *,
    out: Path | None,
    quiet: bool,
    settings: dict[str, Any],
) -> int:
    from yolo_lite.predict.files import detect_images

    tally = _Tally(out)
    try:
        with closing(detect_images(detector, images, out=out, **settings)) as results:
            for result in results:
                if result.detections is None and result.error:
                    if len(images) == 1:
                        raise result.error
                    print(f"skipped: {result.error}", file=sys.stderr)
                elif result.detections is not None and not quiet:
                    _print_objects(result.name, result.detections, score_threshold=detector.score_threshold)
                tally.add(result)
    except KeyboardInterrupt:
        print(f"finished {tally.written + tally.skipped:,} of {counted(len(images), 'image')}: {tally.summary()}")
        raise
    if not tally.written:
        raise InputError(f"none of {counted(len(images), 'image')} could be read")
    print(tally.summary())
    return 0


def _print_objects(name: str, detections: Detections, *, score_threshold: float) -> None:
    for detection in detections:
        print(f"{name}: {_object_line(detection)}")
    if not len(detections):
        print(f"{name}: nothing found above score {score_threshold:g}")


class _Tally:
    """Counts of a run over images so far."""

    def __init__(self, out: Path | None) -> None:
        self.out = out
        self.objects = self.written = self.skipped = 0
        self.last: Path | None = None

    def add(self, result: DetectedImage) -> None:
        """Count one more image."""
        if result.detections is None:
            self.skipped += 1
            return
        self.objects += len(result.detections)
        self.written += 1
        self.last = result.annotated or self.last
        if self.out and not result.annotated:
            note(f"{result.name} is too large for an annotated copy")

    def summary(self) -> str:
        """Return a line with the counts and the place of the annotated images."""
        text = f"{counted(self.objects, 'object')} in {counted(self.written, 'image')}"
        place = self.last if self.written == 1 else f"{self.out}{os.sep}"
        where = f"; annotated: {place}" if self.last else ""
        return f"{text}{f', {self.skipped:,} skipped' if self.skipped else ''}{where}"


def _detect_in_video(
    detector: Detector | ExportedDetector, video: Any, *, target: Path | None, quiet: bool, settings: dict[str, Any]
) -> int:
    from yolo_lite.media.sources import EndsEarlyError
    from yolo_lite.predict.files import detect_video

    counts: Counter[str] = Counter()
    frames, name, annotated = 0, video.path.name, f"; annotated: {target}" if target else ""
    early: InputError | None = None
    tracks: VideoTracks | None = settings.get("tracks")
    results = detect_video(detector, video, target=target, **settings)
    try:
        with closing(results):
            for detections in results if quiet else counting(results, "frames", total=video.frames, title=name):
                frames += 1
                counts.update(detections.names)
    except EndsEarlyError as error:
        early = error
    except KeyboardInterrupt:
        if frames:
            done = f"{frames:,} of {counted(video.frames, 'frame')}" if video.frames else counted(frames, "frame")
            _print_tracks(name, tracks)
            print(f"finished {done}{annotated}")
        raise
    for label, count in () if quiet else counts.most_common():
        print(f"{name}: {label} {counted(count, 'time')}, {count / frames:.2f} a frame")
    _print_tracks(name, tracks)
    print(f"{counted(frames, 'frame')}{annotated}")
    if early:
        print(f"error: {early}", file=sys.stderr)
    return 1 if early else 0


def _print_tracks(name: str, tracks: VideoTracks | None) -> None:
    for text in tracks.summary() if tracks else ():
        print(f"{name}: {text}")


def _object_line(detection: Detections) -> str:
    x1, y1, x2, y2 = detection.boxes[0]
    return f"{detection.names[0]} {detection.scores[0]:.2f} at x {x1:.0f}-{x2:.0f}, y {y1:.0f}-{y2:.0f}"


def _window(hold: bool) -> Show:
    """Return a function that shows an image in a window, until a key is pressed or (`hold=False`) the next one comes."""
    from yolo_lite.media.opencv import quiet_cv2

    cv2 = quiet_cv2("--show needs it")

    def show(image: Any) -> None:
        try:
            cv2.imshow("yolo-lite", image[..., ::-1])
            cv2.waitKey(0 if hold else 1)
        except cv2.error as error:
            raise InputError(
                "--show needs an OpenCV with windows: pip uninstall -y opencv-python-headless && pip install opencv-python"
            ) from error

    return show
