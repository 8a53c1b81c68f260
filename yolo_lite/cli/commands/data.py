"""`yolo-lite data convert|check|subset|stats|show`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from yolo_lite.cli import flags, values
from yolo_lite.cli.progress import bar
from yolo_lite.errors import InputError, counted

if TYPE_CHECKING:
    from yolo_lite.data.care.stats import ClassStats, SplitStats
    from yolo_lite.data.faults import Fault
    from yolo_lite.draw.sheets import SheetImage
    from yolo_lite.structures.datasets import DetectionSet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Give the parser its arguments."""
    what = parser.add_subparsers(dest="what", metavar="what", required=True)
    convert = what.add_parser("convert", help="convert a data set to another layout", description=_convert.__doc__)
    flags.add_flag(convert, "data", required=True)
    flags.add_flag(convert, "to", required=True)
    flags.add_flag(convert, "out", help="new folder to write", required=True)
    flags.add_flag(convert, "copy")
    convert.set_defaults(run=_convert)
    check = what.add_parser("check", help="find faults in a data set", description=_check.__doc__)
    flags.add_flag(check, "data", required=True)
    flags.add_flags(check, ["fix", "all"])
    check.set_defaults(run=_check)
    _add_subset(what.add_parser("subset", help="make a small data set from a large one", description=_subset.__doc__))
    _add_stats(what.add_parser("stats", help="count objects and sizes", description=_stats.__doc__))
    _add_show(what.add_parser("show", help="draw images with their boxes", description=_show.__doc__))


def _add_subset(parser: argparse.ArgumentParser) -> None:
    flags.add_flag(parser, "data", required=True)
    flags.add_flag(parser, "images", help="largest number of images in each split", usual="all")
    flags.add_flag(parser, "classes", help="names of the classes to keep, with their images: person,car")
    flags.add_flag(parser, "per-class", help="smallest number of images with each class; fewer if the data has fewer")
    flags.add_flag(parser, "seed", help="seed of the draw", default=0)
    flags.add_flag(parser, "splits")
    flags.add_flag(parser, "out", help="new folder to write", required=True)
    flags.add_flag(parser, "copy")
    parser.set_defaults(run=_subset)


def _add_stats(parser: argparse.ArgumentParser) -> None:
    flags.add_flag(parser, "data", required=True)
    flags.add_flag(parser, "classes", help="names of the classes to count: person,car")
    flags.add_flag(parser, "split", usual="all")
    flags.add_flag(
        parser,
        "image-size",
        help="side, or height and width, of the input for the advice about tiles",
        usual="416, that of the default weights",
    )
    flags.add_flag(parser, "out-file", help="plot to write: png or jpg", default=Path("stats.png"))
    flags.add_flag(parser, "font")
    parser.set_defaults(run=_stats)


def _add_show(parser: argparse.ArgumentParser) -> None:
    flags.add_flag(parser, "data", required=True)
    flags.add_flag(parser, "split", default="train")
    flags.add_flag(parser, "images", default=16)
    flags.add_flag(parser, "augment")
    flags.add_flag(parser, "weights", help="checkpoint that the training would start from, with --augment", usual="")
    flags.add_flag(parser, "config", help="configuration of the training, with --augment")
    flags.add_flag(parser, "set", help="setting of the training, with --augment; may be repeated")
    flags.add_flag(parser, "image-size", help="side, or height and width, of the input, with --augment")
    flags.add_flag(parser, "seed", help="seed of the draw and of the training")
    flags.add_flag(parser, "out-file", help="drawing to write: png or jpg", default=Path("samples.png"))
    flags.add_flag(parser, "font")
    parser.set_defaults(run=_show)


def _convert(args: argparse.Namespace) -> int:
    """Convert a data set to COCO JSON, YOLO txt or PASCAL VOC XML, and list what that layout cannot hold."""
    from yolo_lite.data.care.convert import write_sets
    from yolo_lite.data.splits import read_splits

    out = Path(args.out)
    splits = read_splits(args.data)
    with bar("images") as on_progress:
        notes = write_sets(splits, args.to, out=out, link=not args.copy, on_progress=on_progress)
    _print_notes(splits)
    for note in notes:
        print(f"note: {note}")
    for split, data in splits.items():
        print(f"{split}: {data.summary()}")
    print(f"written: {out}")
    return 0


def _print_notes(sets: Mapping[str, DetectionSet]) -> None:
    """Print the notes from reading the splits, each once."""
    notes: dict[str, str] = {}
    for split, data in sets.items():
        for note in data.notes:
            notes.setdefault(note, split)
    for note, split in notes.items():
        print(f"note: {split}: {note}")


_SHOWN = 5  # faults of one kind


def _check(args: argparse.Namespace) -> int:
    """Report faults in a data set, with file and annotation: bad boxes, missing images, wrong sizes, duplicates ...

    All layouts get the same checks. The exit status is 1 if any fault would harm training.
    """
    from yolo_lite.data.care.check import check_data
    from yolo_lite.data.care.repair import repair

    with bar("images") as on_progress:
        faults = check_data(args.data, on_progress)
    _print_faults(faults, args.all)
    harmful = sum(fault.harms for fault in faults)
    others = counted(len(faults) - harmful, "other")
    print(f"{counted(harmful, 'fault')} that {'harms' if harmful == 1 else 'harm'} training, {others}")
    if args.fix:
        with bar("images") as on_progress:
            repaired = repair(args.data, args.fix, on_progress=on_progress)
        for split, count in repaired.items():
            entries = counted(count, "entry", plural="entries")
            print(f"{split}: {entries} (images, annotations, categories) removed or changed; written to {args.fix}")
        shared = sum(bool(fault.harms and fault.also_in) for fault in faults)
        if shared:
            print(f"not repaired: {counted(shared, 'image')} in two splits; choose the split to remove them from")
    return 1 if harmful else 0


def _print_faults(faults: Sequence[Fault], every: bool) -> None:
    """Print faults by kind: one line for a fault that most of a split has, otherwise the first few, or all."""
    from yolo_lite.data.care.check import sentence, summarise

    for group in summarise(faults):
        head = f"{'harm' if group[0].harms else 'note'}: {group[0].split}:"
        common = None if every else sentence(group)
        if common:
            print(f"{head} {common} (--all prints them)")
            continue
        for fault in group if every else group[:_SHOWN]:
            print(f"{head} {fault}")
        if len(group) > _SHOWN and not every:
            print(f"{head} ... and {counted(len(group) - _SHOWN, 'more fault')} like that; --all prints them")


def _subset(args: argparse.Namespace) -> int:
    """Write part of a data set to a new folder, as COCO JSON. Extra keys of a COCO JSON file are kept."""
    from yolo_lite.data.care.subset import Choice, write_subset

    choice = Choice(args.images, tuple(args.classes or ()), per_class=args.per_class, seed=args.seed)
    with bar("images") as on_progress:
        lines = write_subset(
            args.data, Path(args.out), choice=choice, splits=args.split, link=not args.copy, on_progress=on_progress
        )
    for line in lines:
        print(line)
    print(f"written: {args.out}")
    return 0


def _stats(args: argparse.Namespace) -> int:
    """Count the objects, images and sizes of each class, and plot them with the positions of the objects.

    Crowd boxes (in PASCAL VOC: difficult objects) are counted separately. Small objects have an area below 32 x 32
    pixels, large ones above 96 x 96. A line says whether objects are so small that tiles or a larger input would help.
    """
    _check_image_name(args.out_file)
    import numpy as np

    from yolo_lite.data.care.small import INPUT_HW, advise_tiles
    from yolo_lite.data.care.stats import split_stats
    from yolo_lite.draw.plots import plot_stats
    from yolo_lite.files import check_keeps, make_folder, write_atomically

    sets = _sets(args.data, args.split, classes=args.classes)
    _print_notes(sets)
    check_keeps((record.path for data in sets.values() for record in data.records), args.out_file)
    found = {split: split_stats(data) for split, data in sets.items()}
    for split, stats in found.items():
        _print_stats(split, stats)
        advice = advise_tiles(sets[split], args.image_size or INPUT_HW)
        if advice:
            print(f"{split}: {advice.line(args.image_size or INPUT_HW)}")
    names = next(iter(sets.values())).class_names
    counts = {split: [one.objects for one in stats.classes] for split, stats in found.items()}
    sides = {split: stats.sides for split, stats in found.items()}
    centres = np.concatenate([stats.centres for stats in found.values()])
    values.note_missing_letters(names, args.font)
    make_folder(args.out_file.parent)
    write_atomically(
        args.out_file, lambda part: plot_stats(counts, names, sides=sides, centres=centres, path=part, font=args.font)
    )
    print(f"plot: {args.out_file}")
    return 0


def _sets(data: str, split: str | None, *, classes: Sequence[str] | None) -> dict[str, DetectionSet]:
    """Read one split, or all of them."""
    from yolo_lite.data.classes import select_classes
    from yolo_lite.data.splits import read_split, read_splits

    if split:
        return {split: read_split(data, split, classes=classes)}
    sets = read_splits(data)
    return {name: select_classes(one, classes) for name, one in sets.items()} if classes else sets


def _print_stats(split: str, stats: SplitStats) -> None:
    print(f"{split}: {counted(stats.images, 'image')}, {stats.empty:,} of them without objects")
    width = max(len(one.name) for one in (*stats.classes, stats.total))
    print(
        f"  {'class':<{width}}  {'objects':>8} {'fraction':>8} {'images':>8} {'median w x h':>13} "
        f"{'small':>7} {'medium':>7} {'large':>7} {'crowd':>6}"
    )
    for one in (*stats.classes, stats.total):
        print(f"  {one.name:<{width}}  {_stats_cells(one, stats.total.objects)}")


def _stats_cells(one: ClassStats, total: int) -> str:
    fraction = one.objects / total if total else 0.0
    median = f"{one.median_wh[0]:.0f} x {one.median_wh[1]:.0f}" if one.median_wh else "-"
    return (
        f"{one.objects:>8,} {fraction:>8.1%} {one.images:>8,} {median:>13} "
        f"{one.small:>7,} {one.medium:>7,} {one.large:>7,} {one.crowd:>6,}"
    )


def _show(args: argparse.Namespace) -> int:
    """Draw a sheet of images with boxes and class names: as labelled, or with --augment as training sees them."""
    _check_image_name(args.out_file)
    if not args.augment and (args.config or args.image_size or args.weights or args.set):
        raise InputError(
            "--weights, --config, --set and --image-size go with --augment; without it, images are drawn as they are"
        )
    import numpy as np

    from yolo_lite.data.splits import read_split
    from yolo_lite.draw.sheets import draw_sheet
    from yolo_lite.files import check_keeps, make_folder, write_atomically

    if args.augment:
        data, make = _augmented(args)
    else:
        data = read_split(args.data, args.split)
        _print_notes({args.split: data})
        make = _as_labelled(data)
    check_keeps((record.path for record in data.records), args.out_file)
    order = np.random.default_rng(args.seed or 0).permutation(len(data.records)).tolist()
    cells = [make(index) for index in order[: args.images]]
    make_folder(args.out_file.parent)
    columns = math.ceil(math.sqrt(len(cells)))
    values.note_missing_letters(data.class_names, args.font)
    write_atomically(args.out_file, lambda part: draw_sheet(cells, part, columns=columns, font=args.font))
    print(f"{len(cells)} of {counted(len(order), 'image')} of {args.split}: {args.out_file}")
    return 0


def _as_labelled(data: DetectionSet) -> Callable[[int], SheetImage]:
    """Return a function that reads an image by its position, with all its boxes, crowds included."""
    from yolo_lite.data.sizes import size_error
    from yolo_lite.draw.sheets import SheetImage
    from yolo_lite.media.images import read_image

    def make(index: int) -> SheetImage:
        record = data.records[index]
        image = read_image(record.path)
        if image.shape[:2] != record.hw:
            raise size_error(record, (image.shape[0], image.shape[1]))
        names = [data.class_names[label] for label in record.labels]
        texts = [f"{name} ({data.ignored})" if crowd else name for name, crowd in zip(names, record.crowd)]
        return SheetImage(image, record.boxes, labels=record.labels.tolist(), texts=texts)

    return make


def _augmented(args: argparse.Namespace) -> tuple[DetectionSet, Callable[[int], SheetImage]]:
    """Return the training set, and a function that makes the training input at a position, with its targets."""
    import torch

    from yolo_lite.data.entries import canonical_split
    from yolo_lite.data.splits import read_train_and_val
    from yolo_lite.training.plan import plan
    from yolo_lite.training.tasks.detection import training_inputs
    from yolo_lite.training.tasks.sheets import sample_on_sheet

    if canonical_split(args.split) != "train":
        raise InputError(
            f"--augment shows what training sees, but training does not use {args.split}; leave out --split"
        )
    config = plan(args.data, config=args.config, weights=args.weights, settings=flags.settings_of(args)).config
    data, _, _ = read_train_and_val(config.data, seed=config.train.seed)  # without the images set aside for validation
    dataset = training_inputs(config, data, device=torch.device("cpu"))
    assert dataset.augmenter
    start = config.train.weights or "scratch"
    print(f"as training from {start} sees them; augmentation: {dataset.augmenter.describe()}")

    def make(index: int) -> SheetImage:
        return sample_on_sheet(dataset[0, index], data, resize=config.input.resize, index=index)

    return data, make


def _check_image_name(out: Path) -> None:
    if out.suffix.lower() not in (".png", ".jpg"):
        raise InputError(f"--out must end in .png or .jpg, got {out}")
