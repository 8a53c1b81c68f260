"""`yolo-lite data convert|check|subset|stats|show`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_lite.cli import arguments
from yolo_lite.cli.bars import bar
from yolo_lite.errors import InputError, counted

if TYPE_CHECKING:
    from yolo_lite.data.stats import ClassStats, SplitStats
    from yolo_lite.structures import DetectionSet
    from yolo_lite.visualize import SheetPicture


def add_data(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments."""
    what = parser.add_subparsers(dest="what", metavar="what", required=True)
    convert = what.add_parser("convert", help="from one layout to another", description=_convert.__doc__)
    _add_source(convert)
    convert.add_argument("--to", choices=("coco", "yolo", "voc"), required=True)
    convert.add_argument("--out", type=Path, required=True, help="a new folder")
    convert.add_argument("--copy", action="store_true", help=_COPY_HELP)
    convert.set_defaults(run=_convert)
    check = what.add_parser("check", help="find what is wrong with a data set", description=_check.__doc__)
    _add_source(check)
    check.add_argument(
        "--fix", type=Path, metavar="FOLDER", help="write repaired COCO files there; nothing is replaced"
    )
    check.add_argument("--all", action="store_true", help="print every fault, not the first ten of each split")
    check.set_defaults(run=_check)
    _add_subset(what.add_parser("subset", help="a small data set from a large one", description=_subset.__doc__))
    _add_stats(what.add_parser("stats", help="count objects and sizes", description=_stats.__doc__))
    _add_show(what.add_parser("show", help="draw samples with their boxes", description=_show.__doc__))


_COPY_HELP = "copy pictures; default: hard links where the disk allows"


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=arguments.text, required=True, help=arguments.DATA_HELP)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, got {text!r}")
    return int(text)


def _add_subset(parser: argparse.ArgumentParser) -> None:
    _add_source(parser)
    parser.add_argument("--images", type=arguments.positive, metavar="N", help="at most so many pictures of each split")
    parser.add_argument("--classes", type=arguments.names, help="only these, and pictures that show them: person,car")
    parser.add_argument(
        "--per-class", type=arguments.positive, metavar="N", help="pictures until each class is shown in so many"
    )
    parser.add_argument("--seed", type=_seed, default=0, help="of the draw; default 0")
    parser.add_argument("--split", nargs="+", default=[], help="train, val or test, or several; default: all there are")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--copy", action="store_true", help=_COPY_HELP)
    parser.set_defaults(run=_subset)


def _add_stats(parser: argparse.ArgumentParser) -> None:
    _add_source(parser)
    parser.add_argument("--classes", type=arguments.names, help="count these only: person,car")
    parser.add_argument("--split", help="train, val or test; default: all there are")
    parser.add_argument("--out", type=Path, default=Path("stats.png"), metavar="FILE", help="default stats.png")
    arguments.add_font(parser)
    parser.set_defaults(run=_stats)


def _add_show(parser: argparse.ArgumentParser) -> None:
    _add_source(parser)
    parser.add_argument("--split", default="train", help="train (default), val or test")
    parser.add_argument("--images", type=arguments.positive, default=16, metavar="N", help="how many; default 16")
    parser.add_argument("--augment", action="store_true", help="as training sees them, in the first epoch")
    parser.add_argument("--config", type=arguments.text, help="with --augment: whose augmentation; default nano")
    parser.add_argument(
        "--image-size",
        type=arguments.positive,
        nargs="+",
        metavar="N",
        help="with --augment: side, or height and width",
    )
    parser.add_argument("--seed", type=_seed, default=0, help="of the draw and of augmentation; default 0")
    parser.add_argument("--out", type=Path, default=Path("samples.png"), metavar="FILE", help="default samples.png")
    arguments.add_font(parser)
    parser.set_defaults(run=_show)


def _convert(args: argparse.Namespace) -> int:
    """Write a data set as COCO JSON, YOLO txt or PASCAL VOC XML, and say what that layout cannot hold."""
    from yolo_lite.data.discover import read_splits
    from yolo_lite.data.write import write_sets

    splits = read_splits(args.data)
    with bar("pictures") as on_progress:
        notes = write_sets(splits, args.to, args.out, not args.copy, on_progress)
    for note in notes:
        print(f"note: {note}")
    for split, data in splits.items():
        print(f"{split}: {data.summary()}")
    print(f"written: {args.out}")
    return 0


_SHOWN = 10  # faults of a split


def _check(args: argparse.Namespace) -> int:
    """Report faults with file and annotation: bad boxes, pictures that are missing or of another size, doubles ...

    Exits with 1 when training would be harmed.
    """
    from yolo_lite.data.doctor import check_data, repair

    with bar("pictures") as on_progress:
        faults = check_data(args.data, on_progress)
    for split in dict.fromkeys(fault.split for fault in faults):
        mine = sorted((fault for fault in faults if fault.split == split), key=lambda fault: not fault.harms)
        for fault in mine if args.all else mine[:_SHOWN]:
            print(f"{'harm' if fault.harms else 'note'}: {split}: {fault.where}: {fault.what}")
        if len(mine) > _SHOWN and not args.all:
            print(f"... and {len(mine) - _SHOWN:,} more of {split}; --all prints them")
    harmful = sum(fault.harms for fault in faults)
    print(
        f"{counted(harmful, 'fault')} that {'harms' if harmful == 1 else 'harm'} training, {counted(len(faults) - harmful, 'other')}"
    )
    if args.fix:
        with bar("pictures") as on_progress:
            repaired = repair(args.data, args.fix, on_progress)
        for split, count in repaired.items():
            print(f"{split}: {counted(count, 'annotation')} left out or changed; written to {args.fix}")
    return 1 if harmful else 0


def _subset(args: argparse.Namespace) -> int:
    """Write a part of a data set as COCO JSON into a new folder; of COCO JSON every key of what is chosen stays."""
    from yolo_lite.data.subset import Choice, write_subset

    choice = Choice(args.images, tuple(args.classes or ()), args.per_class, args.seed)
    with bar("pictures") as on_progress:
        lines = write_subset(args.data, args.out, choice, args.split, not args.copy, on_progress)
    for line in lines:
        print(line)
    print(f"written: {args.out}")
    return 0


def _stats(args: argparse.Namespace) -> int:
    """Count objects, pictures and sizes of each class, and plot them with the places of objects.

    Crowd boxes (of PASCAL VOC: difficult ones) are counted by themselves. Small is an area below 32 x 32 pixels, large
    one above 96 x 96.
    """
    import numpy as np

    from yolo_lite.data.stats import split_stats
    from yolo_lite.files import check_keeps, make_folder, write_atomically
    from yolo_lite.visualize import plot_stats

    _check_picture_name(args.out)
    sets = _sets(args.data, args.split, args.classes)
    check_keeps((record.path for data in sets.values() for record in data.records), args.out)
    found = {split: split_stats(data) for split, data in sets.items()}
    for split, stats in found.items():
        _print_stats(split, stats)
    names = next(iter(sets.values())).class_names
    counts = {split: [one.objects for one in stats.classes] for split, stats in found.items()}
    sides = {split: stats.sides for split, stats in found.items()}
    centres = np.concatenate([stats.centres for stats in found.values()])
    arguments.note_missing_letters(names, args.font)
    make_folder(args.out.parent)
    write_atomically(args.out, lambda part: plot_stats(counts, names, sides, centres, part, font=args.font))
    print(f"plot: {args.out}")
    return 0


def _sets(data: str, split: str | None, classes: Sequence[str] | None) -> dict[str, DetectionSet]:
    """Read the split that is asked for, or all."""
    from yolo_lite.data.discover import read_split, read_splits, select_classes

    if split:
        return {split: read_split(data, split, classes)}
    sets = read_splits(data)
    return {name: select_classes(one, classes) for name, one in sets.items()} if classes else sets


def _print_stats(split: str, stats: SplitStats) -> None:
    print(f"{split}: {counted(stats.pictures, 'picture')}, {stats.empty:,} of them without objects")
    width = max(len(one.name) for one in (*stats.classes, stats.total))
    print(
        f"  {'class':<{width}}  {'objects':>8} {'share':>6} {'pictures':>8} {'median w x h':>13} "
        f"{'small':>7} {'medium':>7} {'large':>7} {'crowd':>6}"
    )
    for one in (*stats.classes, stats.total):
        print(f"  {one.name:<{width}}  {_stats_cells(one, stats.total.objects)}")


def _stats_cells(one: ClassStats, total: int) -> str:
    share = one.objects / total if total else 0.0
    median = f"{one.median_wh[0]:.0f} x {one.median_wh[1]:.0f}" if one.median_wh else "-"
    return (
        f"{one.objects:>8,} {share:>6.1%} {one.pictures:>8,} {median:>13} "
        f"{one.small:>7,} {one.medium:>7,} {one.large:>7,} {one.crowd:>6,}"
    )


def _show(args: argparse.Namespace) -> int:
    """Draw a sheet of samples with boxes and class names: as they are labelled, or as training sees them."""
    import numpy as np

    from yolo_lite.data.discover import read_split
    from yolo_lite.files import check_keeps, make_folder, write_atomically
    from yolo_lite.visualize import draw_sheet

    _check_picture_name(args.out)
    if not args.augment and (args.config or args.image_size):
        raise InputError("--config and --image-size go with --augment: without it pictures are drawn as they are")
    data = read_split(args.data, args.split)
    check_keeps((record.path for record in data.records), args.out)
    order = np.random.default_rng(args.seed).permutation(len(data.records)).tolist()
    make = _augmented(data, args) if args.augment else _as_labelled(data)
    pictures = [make(index) for index in order[: args.images]]
    make_folder(args.out.parent)
    columns = math.ceil(math.sqrt(len(pictures)))
    arguments.note_missing_letters(data.class_names, args.font)
    write_atomically(args.out, lambda part: draw_sheet(pictures, part, columns, font=args.font))
    print(f"{len(pictures)} of {counted(len(order), 'picture')} of {args.split}: {args.out}")
    return 0


def _as_labelled(data: DetectionSet) -> Callable[[int], SheetPicture]:
    """Return a function that reads a picture by its position, with all its boxes, those of crowds too."""
    from yolo_lite.data.datasets import size_error
    from yolo_lite.data.images import read_image
    from yolo_lite.visualize import SheetPicture

    def make(index: int) -> SheetPicture:
        record = data.records[index]
        image = read_image(record.path)
        if image.shape[:2] != record.hw:
            raise size_error(record, (image.shape[0], image.shape[1]))
        names = [data.class_names[label] for label in record.labels]
        texts = [f"{name} (crowd)" if crowd else name for name, crowd in zip(names, record.crowd)]
        return SheetPicture(image, record.boxes, record.labels.tolist(), texts)

    return make


def _augmented(data: DetectionSet, args: argparse.Namespace) -> Callable[[int], SheetPicture]:
    """Return a function that makes the training input of a position, with its targets."""
    from yolo_lite.config import override_config, read_config
    from yolo_lite.data.augment import Augmenter
    from yolo_lite.data.datasets import DetectionDataset
    from yolo_lite.engine.run import strong_epochs
    from yolo_lite.engine.weights import find_config
    from yolo_lite.visualize import SheetPicture

    config = read_config(find_config(args.config or "nano"))
    size = arguments.image_size(args.image_size)
    if size:
        config = override_config(config, {"input.image_size": list(size)})
    size, resize = config.input.image_size, config.input.resize
    augmenter = Augmenter(config.augment, size, resize)
    dataset = DetectionDataset(data.records, size, resize, augmenter, strong_epochs(config), args.seed)
    print(f"augmentation: {augmenter.describe()}")

    def make(index: int) -> SheetPicture:
        sample = dataset[0, index]
        labels = sample.labels.tolist()
        texts = [data.class_names[label] for label in labels]
        return SheetPicture(sample.image.permute(1, 2, 0).numpy(), sample.boxes.numpy(), labels, texts)

    return make


def _check_picture_name(out: Path) -> None:
    if out.suffix.lower() not in (".png", ".jpg"):
        raise InputError(f"--out must end in .png or .jpg, got {out}")
