"""`yolo-lite inspect model|filters|activations|cam|grid|why`, and the commands of lessons.py."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from yolo_lite.cli import flags, values
from yolo_lite.cli.commands.lessons import add_lessons
from yolo_lite.cli.drawings import add_drawing, check_drawing, save_drawing
from yolo_lite.errors import InputError, counted, is_memory_full
from yolo_lite.shipped import DEFAULT_WEIGHTS, find_config, find_weights

if TYPE_CHECKING:
    from yolo_lite.config.schema import Config
    from yolo_lite.inspect.summary import Field, LayerReport
    from yolo_lite.models.yolo import Yolo


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments."""
    what = parser.add_subparsers(dest="what", metavar="what", required=True)
    _add_model(what.add_parser("model", help="list the layers of a network", description=_model.__doc__))
    filters = what.add_parser("filters", help="apply classic kernels to an image", description=_filters.__doc__)
    flags.add_flag(filters, "image")
    add_drawing(filters, "filters.png", run=_filters)
    maps = what.add_parser("activations", help="draw the kernels and maps of a layer", description=_activations.__doc__)
    flags.add_flags(maps, ["weights", "image"])
    flags.add_flag(maps, "layer", usual="the first convolution")
    add_drawing(maps, "activations.png", run=_activations)
    cam = what.add_parser("cam", help="draw which places support a class or box", description=_cam.__doc__)
    flags.add_flags(cam, ["weights", "image", "class"])
    flags.add_flag(
        cam, "box", help="explain the best prediction that fits the box x1,y1,x2,y2", usual="the highest score"
    )
    flags.add_flag(cam, "layer", usual="the last of the backbone; for a detector, at the prediction's stride")
    add_drawing(cam, "cam.png", run=_cam)
    grid = what.add_parser("grid", help="draw the grids of a detector on an image", description=_grid.__doc__)
    flags.add_flags(grid, ["weights", "image", "image-size", "score-threshold", "iou-threshold"])
    add_drawing(grid, "grid.png", run=_grid)
    why = what.add_parser("why", help="explain why an object is found or missed", description=_why.__doc__)
    flags.add_flags(why, ["weights", "image"])
    flags.add_flag(why, "box", help="corners x1,y1,x2,y2 of the object, in pixels of the image", required=True)
    flags.add_flags(why, ["score-threshold", "iou-threshold"])
    why.set_defaults(run=_why)
    add_lessons(what.add_parser)


def _add_model(parser: argparse.ArgumentParser) -> None:
    flags.add_flag(
        parser,
        "config",
        help="configuration to build: nano, shuffle, vgg16 ... or a YAML file",
        usual="that of --weights",
    )
    flags.add_flags(parser, ["weights", "image-size"])
    flags.add_flag(parser, "num-classes", help="number of classes, with --config", default=10)
    flags.add_flag(parser, "data", help="data set whose boxes are compared with the grids of a detector", usual="none")
    parser.set_defaults(run=_model, any_size=True)


def _model(args: argparse.Namespace) -> int:
    """Print the layers of a network, each with the shape of its output, parameters, operations and receptive field."""
    model, config, name = _build(args)
    from yolo_lite.inspect.summary import format_flops, summarise

    if config.classifier.model == "none":
        values.check_sides(args.image_size)
    size = args.image_size or config.input.image_size
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
    flops = format_flops(sum(report.flops for report in reports))
    print(f"{counted(total, 'parameter')}, {flops} (two for each multiply-add of convolutions and dense layers)")
    if args.data:
        _print_fit(model, config, size=size, data=args.data)
    return 0


def _line(report: LayerReport, width: int) -> str:
    from yolo_lite.inspect.summary import format_flops

    shape = " x ".join(str(side) for side in report.shape)
    kernel, stride, padding = (_sides(pair) for pair in (report.kernel, report.stride, report.padding))
    field, cell = _field(report.field)
    cells = f"{shape:>15} {report.parameters:>11,} {format_flops(report.flops) if report.flops else '-':>12}"
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

    from yolo_lite.config.schema import DataConfig
    from yolo_lite.data.splits import read_train_and_val
    from yolo_lite.inspect.fit import crowded_out, grid_fit

    if config.classifier.model != "none":
        raise InputError("--data is for detectors: a classifier has no grid")
    train, _, _ = read_train_and_val(DataConfig(path=data), seed=0)
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
        fraction = ((fit.sides >= low) & (fit.sides < high)).mean() if fit.boxes else 0.0
        print(
            f"  {f'{low:g} to {high:g} pixels' if high != float('inf') else f'{low:g} pixels and more':<22} {fraction:6.1%}"
        )
    if fit.below_cell:
        print(f"{fit.below_cell:.0%} of your boxes have a side smaller than one cell at {size[0]} x {size[1]}")
    if model.head.boxes_per_cell:  # a cell is responsible for the centres inside it
        lost = crowded_out(train, size, resize=config.input.resize, stride=strides[0])
        if lost:
            print(
                f"warning: {lost / fit.boxes:.1%} of your boxes ({lost:,}) share their cell with a larger one, but a cell "
                "learns only one object"
            )
    elif fit.unserved and model.head.fixed_classes is None:
        print(f"warning: {fit.unserved:.1%} of your boxes contain no point of any grid; a larger --image-size helps")


def _filters(args: argparse.Namespace) -> int:
    """Draw the channels of an image, and the results of blur, sharpen, Laplacian, edge, Sobel and emboss kernels."""
    check_drawing(args.out_file, [args.image] if args.image else [])
    from yolo_lite.draw.networks import draw_filters
    from yolo_lite.inspect.filters import filter_image
    from yolo_lite.media.images import read_image
    from yolo_lite.predict.files import sample_image

    image = read_image(args.image or sample_image())
    made = filter_image(image)
    save_drawing(args.out_file, lambda part: draw_filters(image, made, path=part))
    print(f"{counted(len(made), 'kernel')} and their results: {args.out_file}")
    return 0


def _activations(args: argparse.Namespace) -> int:
    """Draw the kernels of one layer, and its activation maps for an image."""
    check_drawing(args.out_file, [args.image] if args.image else [])
    import torch

    from yolo_lite.draw.networks import draw_maps
    from yolo_lite.inspect.activations import activations
    from yolo_lite.media.images import read_image
    from yolo_lite.media.inputs import to_input
    from yolo_lite.predict.files import sample_image

    model, config, _ = _build(args)
    shape = config.input
    image = read_image(args.image or sample_image(), shape.max_16bit)
    pixels = to_input(image, shape.image_size, channels=shape.channels, resize=shape.resize)
    result = activations(model.eval(), torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0), layer=args.layer)
    save_drawing(args.out_file, lambda part: draw_maps(result.layer, result.maps, kernels=result.kernels, path=part))
    print(
        f"{result.layer}: {counted(result.maps.shape[0], 'map')} of {result.maps.shape[1]} x {result.maps.shape[2]}: {args.out_file}"
    )
    return 0


def _cam(args: argparse.Namespace) -> int:
    """Draw which places of an image support one class, or one box of a detector.

    The weight of a place is gradient times activation (HiResCAM, Draelos and Carin 2020). Needs captum.
    """
    check_drawing(args.out_file, [args.image] if args.image else [])
    box = values.parse_box(args.box) if args.box else None
    import torch

    from yolo_lite.draw.networks import draw_attention
    from yolo_lite.inspect.look import look
    from yolo_lite.predict.files import sample_image

    image = args.image or sample_image()
    with torch.enable_grad():
        seen = look(args.weights or DEFAULT_WEIGHTS, image, name=args.name, box=box, layer=args.layer)
    title = f"evidence for {seen.said}"
    save_drawing(
        args.out_file, lambda part: draw_attention(seen.pixels, seen.attention, box=seen.box, title=title, path=part)
    )
    print(f"{seen.said}, layer {seen.layer}, maps of {' x '.join(map(str, seen.attention.shape))}: {args.out_file}")
    if not seen.attention.any():
        print("no place in these maps supports it; try another --layer")
    elif seen.inside is not None:
        print(f"{seen.inside:.0%} of the evidence for it lies inside its box")
    return 0


def _grid(args: argparse.Namespace) -> int:
    """Draw a detector's grids on an image: the cells that detect, their classes, and the boxes before and after NMS."""
    check_drawing(args.out_file, [args.image] if args.image else [])
    from yolo_lite.draw.networks import draw_grids
    from yolo_lite.inspect.grid import grids_of
    from yolo_lite.predict.detector import Detector
    from yolo_lite.predict.files import sample_image

    detector = Detector(
        args.weights or DEFAULT_WEIGHTS,
        "cpu",
        image_size=args.image_size,
        score_threshold=args.score_threshold,
        iou_threshold=args.iou_threshold,
    )
    pixels, grids = grids_of(detector, args.image or sample_image())
    save_drawing(args.out_file, lambda part: draw_grids(pixels, grids, path=part))
    for grid in grids:
        rows, columns = grid.labels.shape
        print(
            f"{rows} x {columns} cells of {grid.stride} pixels: {counted(len(grid.before), 'box', plural='boxes')} before suppression, "
            f"{len(grid.after)} after, in {counted(int(grid.responsible.sum()), 'cell')}"
        )
    print(f"drawn: {args.out_file}")
    return 0


def _why(args: argparse.Namespace) -> int:
    """Explain one object: which cells could see it, how they scored, and what happened to the boxes that fit it."""
    box = values.parse_box(args.box)
    from yolo_lite.inspect.why import MIN_IOU, explain_object
    from yolo_lite.predict.detector import Detector
    from yolo_lite.predict.files import sample_image

    image = args.image or sample_image()
    weights = args.weights or DEFAULT_WEIGHTS
    detector = Detector(weights, "cpu", score_threshold=args.score_threshold, iou_threshold=args.iou_threshold)
    levels, predictions = explain_object(detector, image, box=box)
    names = detector.class_names
    print(f"{image}, {box[0]:g},{box[1]:g},{box[2]:g},{box[3]:g}: cells inside the box, and their best predictions")
    for level in levels:
        said = (
            f"best score {level.score:.3f} ({names[level.label]}), best IoU {level.iou:.2f}" if level.points else "none"
        )
        print(f"  cells of {level.stride:>2} pixels: {level.points:>4} {said}")
    if not predictions:
        print(f"no prediction overlaps it with IoU {MIN_IOU:g} or more, so there is nothing to score or suppress")
        return 0
    print(f"predictions that overlap it with IoU {MIN_IOU:g} or more, the highest scores first")
    for prediction in predictions:
        ends = {
            "kept": "kept",
            "below": f"below the score threshold {detector.score_threshold:g}",
            "suppressed": f"suppressed by one with score {prediction.by_score:.3f} and IoU {prediction.by_iou:.2f} to it",
        }
        place = (
            f"cell of {prediction.stride} pixels at {prediction.point[0]:.0f},{prediction.point[1]:.0f} of the input"
        )
        print(
            f"  {names[prediction.label]} {prediction.score:.3f}, IoU {prediction.iou:.2f}, {place}: {ends[prediction.fate]}"
        )
    return 0


def _build(args: argparse.Namespace) -> tuple[Any, Config, str]:
    """Return the network of --weights, or a new one from --config, with its configuration and name."""
    name = getattr(args, "config", None)
    if name and args.weights:
        raise InputError("name --config or --weights, not both")
    config = _config(name, args.image_size) if name else None
    from yolo_lite.checkpoints.checkpoint import load_checkpoint, network
    from yolo_lite.models.build import build_detector
    from yolo_lite.models.classifiers.build import build_classifier

    if config is None:
        source = find_weights(args.weights or DEFAULT_WEIGHTS)
        checkpoint = load_checkpoint(source)
        return network(checkpoint, source), checkpoint.config, checkpoint.config.name
    if config.classifier.model == "none":
        return build_detector(config, args.num_classes), config, config.name
    return build_classifier(config, 2 if config.classifier.loss == "binary" else args.num_classes), config, config.name


def _config(name: str, size: tuple[int, int] | None) -> Config:
    """Read the configuration of a detector or classifier; a given size replaces that of the input."""
    from yolo_lite.config.resolve import override_config, read_config

    config = read_config(find_config(name))
    if config.classifier.model == "none":
        values.check_sides(size)
    return override_config(config, {"input.image_size": list(size)}) if size else config
