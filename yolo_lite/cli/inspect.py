"""`yolo-lite inspect model|filters|activations|cam|grid|why`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from yolo_lite.cli import arguments
from yolo_lite.errors import InputError, counted, is_memory_full

if TYPE_CHECKING:
    from yolo_lite.config.schema import Config
    from yolo_lite.inspect.summary import Field, LayerReport
    from yolo_lite.models.yolo import Yolo


def add_inspect(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments."""
    what = parser.add_subparsers(dest="what", metavar="what", required=True)
    model = what.add_parser("model", help="layers, operations, receptive fields", description=_model.__doc__)
    model.add_argument("--model", type=arguments.text, help="a configuration: nano, shuffle, vgg16 ... or a YAML file")
    model.add_argument(
        "--weights",
        type=arguments.text,
        help=f"or the network of a checkpoint; default: the shipped {arguments.DEFAULT}",
    )
    model.add_argument(
        "--image-size", type=arguments.positive, nargs="+", metavar="N", help="side, or height and width"
    )
    model.add_argument("--classes", type=arguments.positive, default=10, help="with --model; default 10")
    model.add_argument(
        "--data", type=arguments.text, help="of a detector: compare its grids with the boxes of this set"
    )
    model.set_defaults(run=_model)
    filters = what.add_parser("filters", help="classic kernels on a picture", description=_filters.__doc__)
    filters.add_argument("--image", type=Path, help="default: a sample")
    filters.add_argument("--out", type=Path, default=Path("filters.png"), metavar="FILE", help="default filters.png")
    filters.set_defaults(run=_filters)
    maps = what.add_parser("activations", help="a layer's kernels and maps", description=_activations.__doc__)
    maps.add_argument("--weights", type=arguments.text, default=arguments.DEFAULT, help=arguments.DEFAULT_WEIGHTS_HELP)
    maps.add_argument("--image", type=Path, help="default: a sample")
    maps.add_argument("--layer", help="its path, as inspect model names it; default: the first convolution")
    maps.add_argument(
        "--out", type=Path, default=Path("activations.png"), metavar="FILE", help="default activations.png"
    )
    maps.set_defaults(run=_activations)
    cam = what.add_parser("cam", help="where it looked for one class or box", description=_cam.__doc__)
    cam.add_argument("--weights", type=arguments.text, default=arguments.DEFAULT, help=arguments.DEFAULT_WEIGHTS_HELP)
    cam.add_argument("--image", type=Path, help="default: a sample")
    cam.add_argument("--class", dest="name", type=arguments.text, help="default: the one with the highest score")
    cam.add_argument("--box", type=arguments.text, help="of a detector, x1,y1,x2,y2: the best prediction that fits it")
    cam.add_argument(
        "--layer",
        help="its path, as inspect model names it; default: the backbone's last, of a detector at the prediction's stride",
    )
    cam.add_argument("--out", type=Path, default=Path("cam.png"), metavar="FILE", help="default cam.png")
    cam.set_defaults(run=_cam)
    grid = what.add_parser("grid", help="cells, classes, boxes before and after NMS", description=_grid.__doc__)
    grid.add_argument("--weights", type=arguments.text, default=arguments.DEFAULT, help=arguments.DEFAULT_WEIGHTS_HELP)
    grid.add_argument("--image", type=Path, help="default: a sample")
    grid.add_argument("--image-size", type=arguments.positive, nargs="+", metavar="N", help="side, or height and width")
    arguments.add_score_threshold(grid)
    grid.add_argument("--iou-threshold", type=arguments.share, default=0.6, help="of the suppression; default 0.6")
    grid.add_argument("--out", type=Path, default=Path("grid.png"), metavar="FILE", help="default grid.png")
    grid.set_defaults(run=_grid)
    why = what.add_parser("why", help="why an object is found, or is not", description=_why.__doc__)
    why.add_argument("--weights", type=arguments.text, default=arguments.DEFAULT, help=arguments.DEFAULT_WEIGHTS_HELP)
    why.add_argument("--image", type=Path, help="default: a sample")
    why.add_argument(
        "--box", type=arguments.text, required=True, help="the object: x1,y1,x2,y2 in the picture's pixels"
    )
    arguments.add_score_threshold(why)
    why.add_argument("--iou-threshold", type=arguments.share, default=0.6, help="of the suppression; default 0.6")
    why.set_defaults(run=_why)


def _model(args: argparse.Namespace) -> int:
    """Print for each layer its output's shape, parameters, operations, kernel, stride, padding and receptive field."""
    from yolo_lite.inspect.summary import summarise, told_flops

    model, config, name = _build(args)
    detector = config.classifier.model == "none"
    size = arguments.image_size(args.image_size, detector=detector) or config.input.image_size
    try:
        reports = summarise(model, config.input.channels, input_hw=size)
    except (RuntimeError, ValueError) as error:
        if is_memory_full(error):
            raise
        raise InputError(f"{name} does not take {size[0]} x {size[1]}: {error}") from error
    width = max(len(report.name) for report in reports)
    print(f"{name} at {size[0]} x {size[1]}")
    print(
        f"{'layer':<{width}}  {'kind':<15} {'output':>15} {'parameters':>11} {'operations':>12}  kernel stride pad  field  cell"
    )
    for report in reports:
        print(_line(report, width))
    total = sum(parameter.numel() for parameter in model.parameters())
    flops = told_flops(sum(report.flops for report in reports))
    print(f"{counted(total, 'parameter')}, {flops} (two for each multiply-add of convolutions and dense layers)")
    if args.data:
        _print_fit(model, config, size=size, data=args.data)
    return 0


def _line(report: LayerReport, width: int) -> str:
    from yolo_lite.inspect.summary import told_flops

    shape = " x ".join(str(side) for side in report.shape)
    kernel, stride, padding = (_sides(pair) for pair in (report.kernel, report.stride, report.padding))
    field, cell = _field(report.field)
    cells = f"{shape:>15} {report.parameters:>11,} {told_flops(report.flops) if report.flops else '-':>12}"
    head = f"{report.name:<{width}}  {report.kind:<15} {cells}"
    return f"{head}  {kernel:>6} {stride:>6} {padding:>3} {field:>6} {cell:>5}"


def _sides(pair: tuple[int, int] | None) -> str:
    if pair is None:
        return "-"
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"


def _field(fields: tuple[Field, Field] | None) -> tuple[str, str]:
    if fields is None:
        return "-", "-"
    if fields[0].whole:
        return "all", "-"
    y, x = (f"{field.size:.0f}" for field in fields)
    return (y if y == x else f"{y}x{x}"), f"{fields[0].jump:g}"


def _print_fit(model: Yolo, config: Config, *, size: tuple[int, int], data: str) -> None:
    import torch

    from yolo_lite.data.discover import read_train_and_val
    from yolo_lite.inspect.fit import crowded_out, grid_fit

    if config.classifier.model != "none":
        raise InputError("--data is for detectors: a classifier has no grid")
    train, _, _ = read_train_and_val(data)
    with torch.inference_mode():
        raw = model.eval()(torch.zeros(1, 3, *size, dtype=torch.uint8))
    strides = sorted({int(stride) for stride in raw.strides.tolist()})
    fit = grid_fit(train, size, resize=config.input.resize, points=raw.points.numpy(), strides=strides)
    print()
    print(
        f"{counted(fit.boxes, 'box', plural='boxes')} of {data} at {size[0]} x {size[1]}; "
        f"grids with cells of {', '.join(map(str, strides))} pixels"
    )
    edges = [0, *strides, *(2 * strides[-1] * 2**i for i in range(3)), float("inf")]
    for low, high in zip(edges, edges[1:]):
        share = ((fit.sides >= low) & (fit.sides < high)).mean() if fit.boxes else 0.0
        print(
            f"  {f'{low:g} to {high:g} pixels' if high != float('inf') else f'{low:g} pixels and more':<22} {share:6.1%}"
        )
    if fit.below_cell:
        print(f"{fit.below_cell:.0%} of your boxes have a side smaller than one cell at {size[0]} x {size[1]}")
    if model.head.boxes_per_cell:  # whose cells answer for the centres in them
        lost = crowded_out(train, size, resize=config.input.resize, stride=strides[0])
        if lost:
            print(
                f"warning: {lost / fit.boxes:.1%} of your boxes ({lost:,}) share their cell with a larger one, and a cell "
                "learns one object only"
            )
    elif fit.unserved and model.head.fixed_classes is None:
        print(f"warning: in {fit.unserved:.1%} of your boxes lies no point of any grid; a larger --image-size helps")


def _filters(args: argparse.Namespace) -> int:
    """Draw a picture's channels, and what blur, sharpening, Laplacian, edge, Sobel and emboss kernels make of it."""
    from yolo_lite.draw.networks import draw_filters
    from yolo_lite.files import make_folder, write_atomically
    from yolo_lite.inspect.filters import filter_picture
    from yolo_lite.media.images import read_image
    from yolo_lite.predict.files import sample_picture

    _check_png(args.out, args.image)
    image = read_image(args.image or sample_picture())
    made = filter_picture(image)
    make_folder(args.out.parent)
    write_atomically(args.out, lambda part: draw_filters(image, made, path=part))
    print(f"{counted(len(made), 'kernel')} and what they make: {args.out}")
    return 0


def _activations(args: argparse.Namespace) -> int:
    """Draw the kernels of one layer and the maps that it makes of a picture."""
    import torch

    from yolo_lite.data.pipeline.classification import to_input
    from yolo_lite.draw.networks import draw_maps
    from yolo_lite.files import make_folder, write_atomically
    from yolo_lite.inspect.activations import activations
    from yolo_lite.media.images import read_image
    from yolo_lite.predict.files import sample_picture

    _check_png(args.out, args.image)
    model, config, _ = _build(args)
    shape = config.input
    image = read_image(args.image or sample_picture(), shape.max_16bit)
    pixels = to_input(image, shape.image_size, channels=shape.channels, resize=shape.resize)
    found = activations(model.eval(), torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0), layer=args.layer)
    make_folder(args.out.parent)
    write_atomically(args.out, lambda part: draw_maps(found.layer, found.maps, kernels=found.kernels, path=part))
    print(
        f"{found.layer}: {counted(found.maps.shape[0], 'map')} of {found.maps.shape[1]} x {found.maps.shape[2]}: {args.out}"
    )
    return 0


def _cam(args: argparse.Namespace) -> int:
    """Draw where a network looked: the places that speak for one class, or for one box of a detector.

    Each place of a layer's maps counts with gradient times activation (HiResCAM, Draelos and Carin 2020). Needs captum.
    """
    import torch

    from yolo_lite.draw.networks import draw_attention
    from yolo_lite.files import make_folder, write_atomically
    from yolo_lite.inspect.look import look
    from yolo_lite.predict.files import sample_picture

    _check_png(args.out, args.image)
    image = args.image or sample_picture()
    with torch.enable_grad():
        seen = look(args.weights, image, name=args.name, box=_box(args.box) if args.box else None, layer=args.layer)
    make_folder(args.out.parent)
    title = f"what speaks for {seen.said}"
    write_atomically(
        args.out, lambda part: draw_attention(seen.pixels, seen.attention, box=seen.box, title=title, path=part)
    )
    print(f"{seen.said}, layer {seen.layer}, maps of {' x '.join(map(str, seen.attention.shape))}: {args.out}")
    if not seen.attention.any():
        print("nothing in these maps speaks for it; try another --layer")
    elif seen.inside is not None:
        print(f"{seen.inside:.0%} of what speaks for it lies inside its box")
    return 0


def _grid(args: argparse.Namespace) -> int:
    """Draw a detector's grids on a picture: cells that answer, the class of each, boxes before and after suppression."""
    from yolo_lite.draw.networks import draw_grids
    from yolo_lite.files import make_folder, write_atomically
    from yolo_lite.inspect.grid import grids_of
    from yolo_lite.predict.detector import Detector
    from yolo_lite.predict.files import sample_picture

    _check_png(args.out, args.image)
    size = arguments.image_size(args.image_size)
    detector = Detector(
        args.weights, "cpu", image_size=size, score_threshold=args.score_threshold, iou_threshold=args.iou_threshold
    )
    pixels, grids = grids_of(detector, args.image or sample_picture())
    make_folder(args.out.parent)
    write_atomically(args.out, lambda part: draw_grids(pixels, grids, path=part))
    for one in grids:
        rows, columns = one.labels.shape
        print(
            f"{rows} x {columns} cells of {one.stride} pixels: {counted(len(one.before), 'box', plural='boxes')} before suppression, "
            f"{len(one.after)} after, in {counted(int(one.responsible.sum()), 'cell')}"
        )
    print(f"drawn: {args.out}")
    return 0


def _why(args: argparse.Namespace) -> int:
    """Say of one object which cells could see it, what they scored, and what became of the boxes that fit it."""
    from yolo_lite.inspect.why import MIN_IOU, explain_object
    from yolo_lite.predict.detector import Detector
    from yolo_lite.predict.files import sample_picture

    image = args.image or sample_picture()
    box = _box(args.box)
    detector = Detector(args.weights, "cpu", score_threshold=args.score_threshold, iou_threshold=args.iou_threshold)
    levels, found = explain_object(detector, image, box=box)
    names = detector.class_names
    print(f"{image}, {box[0]:g},{box[1]:g},{box[2]:g},{box[3]:g}: which cells lie in it, and the best that they say")
    for level in levels:
        said = (
            f"best score {level.score:.3f} ({names[level.label]}), best IoU {level.iou:.2f}" if level.points else "none"
        )
        print(f"  cells of {level.stride:>2} pixels: {level.points:>4} {said}")
    if not found:
        print(f"no prediction overlaps it with IoU {MIN_IOU:g}: nothing here to score or suppress")
        return 0
    print(f"predictions that overlap it with IoU {MIN_IOU:g} and more, the highest scores first")
    for one in found:
        ends = {
            "kept": "kept",
            "below": f"below the score threshold {detector.score_threshold:g}",
            "suppressed": f"suppressed by one of score {one.by_score:.3f} that it overlaps by {one.by_iou:.2f}",
        }
        place = f"cell of {one.stride} pixels at {one.point[0]:.0f},{one.point[1]:.0f} of the input"
        print(f"  {names[one.label]} {one.score:.3f}, IoU {one.iou:.2f}, {place}: {ends[one.fate]}")
    return 0


def _check_png(out: Path, image: Path | None) -> None:
    from yolo_lite.files import check_keeps

    check_keeps([image] if image else [], out)
    if out.suffix.lower() not in (".png", ".jpg", ".pdf", ".svg"):
        raise InputError(f"--out must end in .png, .jpg, .pdf or .svg, got {out}")


def _box(text: str) -> tuple[float, float, float, float]:
    try:
        x1, y1, x2, y2 = (float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"--box takes x1,y1,x2,y2 such as 10,20,110,220, got {text!r}") from error
    if not (x1 < x2 and y1 < y2):
        raise InputError(f"--box takes the upper left and the lower right corner, got {text!r}")
    return x1, y1, x2, y2


def _build(args: argparse.Namespace) -> tuple[Any, Config, str]:
    """Return the network of --weights, or a new one of --model, with its configuration and name."""
    from yolo_lite.checkpoints.checkpoint import load_checkpoint, network
    from yolo_lite.config.resolve import override_config, read_config
    from yolo_lite.models.build import build_detector
    from yolo_lite.models.classifiers.build import build_classifier
    from yolo_lite.shipped import find_config, find_weights

    chosen = getattr(args, "model", None)
    if chosen and args.weights:
        raise InputError("name --model or --weights, not both")
    if not chosen:
        source = find_weights(args.weights or arguments.DEFAULT)
        checkpoint = load_checkpoint(source)
        return network(checkpoint, source), checkpoint.config, checkpoint.config.name
    config = read_config(find_config(chosen))
    size = arguments.image_size(args.image_size, detector=config.classifier.model == "none")
    if size:
        config = override_config(config, {"input.image_size": list(size)})
    if config.classifier.model == "none":
        return build_detector(config, args.classes), config, config.name
    return build_classifier(config, 2 if config.classifier.loss == "binary" else args.classes), config, config.name
