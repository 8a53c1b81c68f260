"""`yolo-lite inspect convolution|box|patches`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from typing import Any

from yolo_lite.cli import flags, values
from yolo_lite.cli.drawings import add_drawing, check_drawing, save_drawing
from yolo_lite.errors import InputError, counted
from yolo_lite.shipped import DEFAULT_WEIGHTS


def add_lessons(add_parser: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the commands to `yolo-lite inspect`."""
    numbers = add_parser("convolution", help="draw a convolution in numbers", description=_convolution.__doc__)
    add_drawing(numbers, "convolution.png", run=_convolution)
    box = add_parser("box", help="draw how YOLOv1 describes an object", description=_box.__doc__)
    flags.add_flags(box, ["weights", "image"])
    flags.add_flag(box, "box", help="corners x1,y1,x2,y2 of the object, in pixels of the image", required=True)
    add_drawing(box, "box.png", run=_box)
    patches = add_parser("patches", help="draw what the channels of a layer respond to", description=_patches.__doc__)
    flags.add_flag(patches, "weights")
    flags.add_flag(patches, "source", required=True)
    flags.add_flag(patches, "layer", usual="the first convolution")
    flags.add_flag(patches, "images", help="largest number of images", default=500)
    add_drawing(patches, "patches.png", run=_patches)


def _convolution(args: argparse.Namespace) -> int:
    """Draw a convolution worked out in numbers, with stride, padding and max pooling."""
    check_drawing(args.out_file, [])
    from yolo_lite.draw.lessons import draw_matrices
    from yolo_lite.inspect.lessons import convolution_steps

    save_drawing(args.out_file, lambda part: draw_matrices(convolution_steps(), path=part))
    print(f"drawn: {args.out_file}")
    return 0


def _box(args: argparse.Namespace) -> int:
    """Draw how YOLOv1 describes one object, and the IoU between the object and its predicted box."""
    check_drawing(args.out_file, [args.image] if args.image else [])
    box = values.parse_box(args.box)
    from yolo_lite.draw.lessons import draw_box_lesson
    from yolo_lite.inspect.lessons import box_lesson
    from yolo_lite.media.images import read_image
    from yolo_lite.predict.detector import Detector
    from yolo_lite.predict.files import sample_image

    image = read_image(args.image or sample_image())
    detector = Detector(args.weights or DEFAULT_WEIGHTS, "cpu", score_threshold=0.05)
    lesson = box_lesson(detector(image), box, image_hw=(image.shape[0], image.shape[1]))
    if lesson is None:
        raise InputError(f"the detector finds nothing at --box {args.box}, so there is no IoU; choose another object")
    save_drawing(args.out_file, lambda part: draw_box_lesson(image, lesson, path=part))
    row, column = lesson.cell
    x, y, w, h = lesson.targets
    print(f"row {row}, column {column} of {lesson.grid} x {lesson.grid}: x {x:.2f}, y {y:.2f}, w {w:.2f}, h {h:.2f}")
    print(f"IoU with the prediction: {lesson.iou:.2f}")
    print(f"drawn: {args.out_file}")
    return 0


def _patches(args: argparse.Namespace) -> int:
    """Draw the nine image patches to which each of the first 16 channels of a layer responds most."""
    from yolo_lite.cli.progress import counting
    from yolo_lite.draw.networks import draw_patches
    from yolo_lite.inspect.patches import strongest_patches
    from yolo_lite.media.images import read_image
    from yolo_lite.media.sources import find_sources

    paths = find_sources(args.source)
    if not isinstance(paths, list):
        raise InputError("--source must be images or folders of images, got a video")
    check_drawing(args.out_file, paths)
    model, read = _input_maker(args.weights or DEFAULT_WEIGHTS)
    chosen = paths[:: max(1, -(-len(paths) // args.images))]
    skipped = 0

    def inputs() -> Iterator[Any]:
        nonlocal skipped
        for path in counting(chosen, "images", total=len(chosen)):
            try:
                image = read_image(path)
            except InputError as error:
                print(f"skipped: {error}", file=sys.stderr)
                skipped += 1
            else:
                yield read(image)

    result = strongest_patches(model, inputs(), layer=args.layer)
    save_drawing(args.out_file, lambda part: draw_patches(result.layer, result.images, values=result.values, path=part))
    size = f"{result.size[0]} x {result.size[1]} pixels"
    print(f"{result.layer}: patches of {size} from {counted(len(chosen) - skipped, 'image')}: {args.out_file}")
    return 0


def _input_maker(weights: str) -> tuple[Any, Callable[[Any], Any]]:
    """Return the network of the weights, and a function that turns an image into its input."""
    from yolo_lite.checkpoints.checkpoint import load_checkpoint, network
    from yolo_lite.media.inputs import to_input
    from yolo_lite.shipped import find_weights

    source = find_weights(weights)
    checkpoint = load_checkpoint(source)
    shape = checkpoint.config.input

    def read(image: Any) -> Any:
        return to_input(image, shape.image_size, channels=shape.channels, resize=shape.resize)

    return network(checkpoint, source).eval(), read
