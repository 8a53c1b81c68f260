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

Progress = Callable[[int, int], object]  # called with how many are done, and of how many


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
        splits: by name, with the same classes.
        layout: "coco" (annotations/instances_<split>.json, images/<split>), "yolo" (images/<split>, labels/<split>,
            data.yaml) or "voc" (Annotations, JPEGImages, ImageSets/Main).
        out: a folder that is new or empty.
        link: make hard links to the images where the disk allows it, instead of copies.
        on_progress: called after each image.

    Returns:
        Lines that say what the layout cannot hold, and how images were renamed.

    Raises:
        InputError: where the folder is not empty, the layout is none of these, an image is missing, cannot be read or is
            not of the size that its annotations are for, boxes seem to be in another unit or order, or something cannot
            be written; nothing is left of the folder then.
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
    return [*notes, f"{counted(renamed, 'image')} got another name, since two had the same"] if renamed else notes


def check_new(out: Path) -> None:
    """Raise InputError where a folder that is to be written is there already and not empty, or is a file."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; choose another --out")
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty; choose another --out")


def file_names(splits: Mapping[str, DetectionSet], across: bool) -> Names:
    """Return a file name for each image (split, image_id), different within a folder; also stems differ.

    Args:
        splits: by name.
        across: whether names must also differ between splits.
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
        files: the image by its new place, whose folder exists.
        link: make hard links where the disk allows it, instead of copies.
        on_progress: called after each image.

    Raises:
        InputError: naming the first image that does not exist.
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
    except OSError as error:  # of a full disk it names the source
        if is_memory_full(error):
            raise
        failed = f"cannot read {source}" if not os.access(source, os.R_OK) else f"cannot write {target}"
        raise InputError(f"{failed}: {reason(error)}") from error


class Writer(Protocol):
    """Writes the annotations of splits into a folder, and returns lines that say what the layout cannot hold."""

    def __call__(self, splits: Mapping[str, DetectionSet], out: Path, *, names: Names) -> list[str]:
        """Write them; `names` are those of the files of images."""


WRITERS: Mapping[str, Writer] = MappingProxyType({"coco": write_coco, "yolo": write_yolo, "voc": write_voc})
