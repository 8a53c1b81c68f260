"""Write a detection set in one of the three layouts, with its images."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

from yolo_lite.data.care.boxes import unit_faults
from yolo_lite.data.formats.coco import write_coco
from yolo_lite.data.formats.voc import write_voc
from yolo_lite.data.formats.writing import Names
from yolo_lite.data.formats.yolo import write_yolo
from yolo_lite.data.sizes import check_images
from yolo_lite.errors import InputError, counted, is_memory_full, reason
from yolo_lite.files import make_folder, whole_folder
from yolo_lite.structures.datasets import DetectionSet

Progress = Callable[[int, int], object]  # called with the number done and the total


def write_sets(
    splits: Mapping[str, DetectionSet],
    layout: str,
    *,
    out: Path,
    link: bool = True,
    on_progress: Progress | None = None,
) -> list[str]:
    """Write splits (train, val, test) into a new folder.

    Args:
        splits: sets by name, with the same classes.
        layout: "coco" (annotations/instances_<split>.json, images/<split>), "yolo" (images/<split>, labels/<split>,
            data.yaml) or "voc" (Annotations, JPEGImages, ImageSets/Main).
        out: a new or empty folder.
        link: make hard links to the images if the disk allows it, instead of copies.
        on_progress: called after each image.

    Returns:
        Notes about what the layout cannot store, and renamed images.

    Raises:
        InputError: if the folder is not empty, the layout is unknown, an image is missing, unreadable or not of its
            annotated size, boxes seem to be in another unit or order, or writing fails; nothing is left of the folder then.

    Example:
        >>> from yolo_lite.data.splits import read_splits
        >>> write_sets(read_splits("my_images"), "coco", out=Path("coco_set"))
        []
        >>> sorted(path.name for path in Path("coco_set").iterdir())
        ['annotations', 'images']
    """
    if layout not in WRITERS:
        raise InputError(f"the layout must be one of {', '.join(WRITERS)}, got {layout!r}")
    check_new(out)
    for data in splits.values():
        check_images(data)
        for where, what in unit_faults(data):
            raise InputError(f"{where}: {what}; correct the file first: the boxes would be wrong")
    with whole_folder(out) as part:
        return _write_all(splits, layout, out=part, link=link, on_progress=on_progress)


def _write_all(
    splits: Mapping[str, DetectionSet], layout: str, *, out: Path, link: bool, on_progress: Progress | None
) -> list[str]:
    names = file_names(splits, across=layout == "voc")
    folders = {split: out / ("JPEGImages" if layout == "voc" else f"images/{split}") for split in splits}
    files = {
        folders[split] / names[split, record.image_id]: record.path
        for split, data in splits.items()
        for record in data.records
    }
    for folder in folders.values():
        make_folder(folder)
    place_images(files, link, on_progress=on_progress)
    notes = WRITERS[layout](splits, out, names=names)
    renamed = sum(
        names[split, record.image_id] != record.path.name for split, data in splits.items() for record in data.records
    )
    return [*notes, f"{counted(renamed, 'image')} renamed, because two had the same name"] if renamed else notes


def check_new(out: Path) -> None:
    """Raise InputError if a folder that is to be written is a file, or exists and is not empty.

    Example:
        >>> check_new(Path("my_images"))
        Traceback (most recent call last):
        ...
        yolo_lite.errors.InputError: my_images is not empty; choose another --out
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; choose another --out")
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty; choose another --out")


def file_names(splits: Mapping[str, DetectionSet], across: bool) -> Names:
    """Return a file name for each image (split, image_id). Within a folder, names differ, even without their suffix.

    Args:
        splits: sets by name.
        across: whether names must also differ between splits.

    Example:
        >>> from yolo_lite.data.splits import read_splits
        >>> file_names(read_splits("my_images"), across=False)["val", 7]
        '0007.png'
    """
    taken: set[str] = set()
    names: dict[tuple[str, int], str] = {}
    for split, data in splits.items():
        if not across:
            taken = set()
        for record in data.records:
            stem, number = record.path.stem, 1
            while stem.lower() in taken:
                number += 1
                stem = f"{record.path.stem}-{number}"
            taken.add(stem.lower())
            names[split, record.image_id] = stem + record.path.suffix
    return names


def place_images(files: Mapping[Path, Path], link: bool, *, on_progress: Progress | None = None) -> None:
    """Link or copy images.

    Args:
        files: the original image for each new path, whose folder exists.
        link: make hard links if the disk allows it, instead of copies.
        on_progress: called after each image.

    Raises:
        InputError: if an image does not exist; the message names it.

    Example:
        >>> place_images({Path("copy.jpg"): Path("photo.jpg")}, link=False)
        >>> Path("copy.jpg").read_bytes() == Path("photo.jpg").read_bytes()
        True
    """
    for done, (target, source) in enumerate(files.items(), 1):
        _place(source, target, link)
        if on_progress:
            on_progress(done, len(files))


def _place(source: Path, target: Path, link: bool) -> None:
    if not source.is_file():
        raise InputError(f"{source} does not exist")
    if link:
        try:
            os.link(source.resolve(), target)
            return
        except OSError:
            pass  # another disk, or a file system without links
    try:
        shutil.copyfile(source, target)
    except OSError as error:  # if the disk is full, it names the source
        if is_memory_full(error):
            raise
        failed = f"cannot read {source}" if not os.access(source, os.R_OK) else f"cannot write {target}"
        raise InputError(f"{failed}: {reason(error)}") from error


class Writer(Protocol):
    """A function that writes the annotations of splits into a folder, and returns notes about what the layout cannot store."""

    def __call__(self, splits: Mapping[str, DetectionSet], out: Path, *, names: Names) -> list[str]:
        """Write them; `names` are the file names of the images."""


WRITERS: Mapping[str, Writer] = MappingProxyType({"coco": write_coco, "yolo": write_yolo, "voc": write_voc})
