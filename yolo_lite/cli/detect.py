"""`yolo-lite detect`."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_lite.cli import arguments
from yolo_lite.cli.bars import counting
from yolo_lite.errors import InputError, counted

if TYPE_CHECKING:
    from yolo_lite.engine.detect import Show
    from yolo_lite.engine.predict import Detector
    from yolo_lite.structures import Detections


def add_detect(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments."""
    parser.description = _detect.__doc__
    parser.add_argument(
        "--source",
        type=arguments.text,
        help="picture, folder, pattern such as 'shots/*.jpg', or video; default: a sample",
    )
    arguments.add_weights(parser)
    arguments.add_model_settings(parser, score=0.25, iou=0.6, batch=8)
    parser.add_argument("--classes", type=arguments.names, help="report these classes only: person,car")
    parser.add_argument(
        "--out",
        type=arguments.text,
        help="folder of the annotated pictures or video; default: the next free runs/detect-N",
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
        arguments.image_size(args.image_size),
        args.score_threshold,
        args.iou_threshold,
        args.max_detections,
        args.classes,
        args.batch_size,
    )
    show = _window(hold=not isinstance(source, Video)) if args.show else None
    out = Path(args.out) if args.out else arguments.next_free("detect")
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
        raise InputError(f"none of {counted(len(pictures), 'picture')} could be read")
    where = str(last) if written == 1 else f"{out}{os.sep}"
    text = f"{counted(objects, 'object')} in {counted(written, 'picture')}"
    print(f"{text}{f', {skipped} skipped' if skipped else ''}; annotated: {where}")
    return 0


def _detect_in_video(detector: Detector, video: Any, target: Path, json_file: Any, show: Show | None) -> int:
    from yolo_lite.data.sources import EndsEarlyError
    from yolo_lite.engine.detect import detect_video

    found: dict[str, int] = {}
    frames = 0
    early: InputError | None = None
    results = detect_video(detector, video, target, json_file, show)
    try:
        for detections in counting(results, "frames", video.frames, video.path.name):
            frames += 1
            for name in detections.names:
                found[name] = found.get(name, 0) + 1
    except EndsEarlyError as error:
        early = error
    for name, count in sorted(found.items(), key=lambda item: -item[1]):
        print(f"{video.path.name}: {name} {counted(count, 'time')}, {count / frames:.2f} a frame")
    print(f"{counted(frames, 'frame')}; annotated: {target}")
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
