"""Write a detection set in one of the three layouts, and say what a layout cannot hold."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import yaml

from yolo_lite.data.care.boxes import unit_faults
from yolo_lite.data.sizes import check_pictures
from yolo_lite.errors import InputError, are, counted, is_memory_full, reason
from yolo_lite.files import make_folder, whole_folder, write_atomically
from yolo_lite.structures.datasets import DetectionSet, ImageRecord

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
        link: make hard links to the pictures where the disk allows it, instead of copies.
        on_progress: called after each picture.

    Returns:
        Lines that say what the layout cannot hold, and how pictures were renamed.

    Raises:
        InputError: where the folder is not empty, the layout is none of these, a picture is missing, cannot be read or is
            not of the size that its annotations are for, boxes seem to be in another unit or order, or something cannot
            be written; nothing is left of the folder then.
    """
    if layout not in WRITERS:
        raise InputError(f"the layout must be one of {', '.join(WRITERS)}, got {layout!r}")
    check_new(out)
    for data in splits.values():
        check_pictures(data)
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
    place_pictures(files, link, on_progress=on_progress)
    notes = WRITERS[layout](splits, out, names)
    renamed = sum(
        names[split, record.image_id] != record.path.name for split, data in splits.items() for record in data.records
    )
    return [*notes, f"{counted(renamed, 'picture')} got another name, since two had the same"] if renamed else notes


def check_new(out: Path) -> None:
    """Raise InputError where a folder that is to be written is there already and not empty, or is a file."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; choose another --out")
    if out.exists() and any(out.iterdir()):
        raise InputError(f"{out} is not empty; choose another --out")


Names = Mapping[tuple[str, int], str]


def file_names(splits: Mapping[str, DetectionSet], across: bool) -> Names:
    """Return a file name for each picture (split, image_id), different within a folder; also stems differ.

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


def place_pictures(files: Mapping[Path, Path], link: bool, *, on_progress: Progress | None = None) -> None:
    """Link or copy pictures.

    Args:
        files: the picture by its new place, whose folder exists.
        link: make hard links where the disk allows it, instead of copies.
        on_progress: called after each picture.

    Raises:
        InputError: naming the first picture that does not exist.
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


def _write_coco(splits: Mapping[str, DetectionSet], out: Path, names: Names) -> list[str]:
    make_folder(out / "annotations")
    first = 1
    for split, data in splits.items():
        content = coco_content(split, data, names=names, first=first)
        first += len(content["annotations"])
        _write(out / "annotations" / f"instances_{split}.json", json.dumps(content))
    return lost_outlines(splits)


def coco_content(split: str, data: DetectionSet, *, names: Names, first: int = 1) -> dict[str, Any]:
    """Return what a COCO annotation file says of a split; annotations are numbered from `first`."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for record in data.records:
        height, width = record.hw
        name = names[split, record.image_id]
        image = {"id": record.image_id, "file_name": name, "height": height, "width": width}
        if record.unlabelled:
            image["labelled_classes"] = [n for i, n in enumerate(data.class_names) if i not in record.unlabelled]
        images.append(image)
        for box, label, crowd, area in zip(record.boxes.tolist(), record.labels, record.crowd, record.areas.tolist()):
            annotations.append(
                {
                    "id": first + len(annotations),
                    "image_id": record.image_id,
                    "category_id": data.category_ids[label],
                    "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
                    "area": area,
                    "iscrowd": int(crowd),
                }
            )
    categories = [{"id": i, "name": name} for i, name in zip(data.category_ids, data.class_names)]
    return {"images": images, "annotations": annotations, "categories": categories}


def lost_outlines(splits: Mapping[str, DetectionSet]) -> list[str]:
    """Say that the outlines of objects, which records have not, are lost, where there seem to be any."""
    return (
        ["outlines of objects (masks, polygons) are not carried over; their areas are"] if _with_masks(splits) else []
    )


def _write_yolo(splits: Mapping[str, DetectionSet], out: Path, names: Names) -> list[str]:
    crowd = 0
    for split, data in splits.items():
        make_folder(out / "labels" / split)
        for record in data.records:
            height, width = record.hw
            lines = []
            for (x1, y1, x2, y2), label, is_crowd in zip(record.boxes.tolist(), record.labels, record.crowd):
                crowd += bool(is_crowd)
                if not is_crowd:
                    shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
                    lines.append(" ".join([str(label), *(f"{share:.10g}" for share in shares)]))
            text = "".join(f"{line}\n" for line in lines)
            _write((out / "labels" / split / names[split, record.image_id]).with_suffix(".txt"), text)
    first = next(iter(splits.values()))
    content = {**{split: f"images/{split}" for split in splits}, "names": list(first.class_names)}
    _write(out / "data.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    notes = _lost(splits, "YOLO txt")
    return (
        [*notes, f"YOLO txt cannot mark crowd or difficult boxes: {crowd:,} {are(crowd)} left out"] if crowd else notes
    )


def _write_voc(splits: Mapping[str, DetectionSet], out: Path, names: Names) -> list[str]:
    make_folder(out / "Annotations")
    make_folder(out / "ImageSets" / "Main")
    for split, data in splits.items():
        stems = []
        for record in data.records:
            name = names[split, record.image_id]
            stems.append(Path(name).stem)
            _write(out / "Annotations" / f"{stems[-1]}.xml", _voc_xml(record, name, data.class_names))
        _write(out / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{stem}\n" for stem in stems))
    notes = _lost(splits, "PASCAL VOC")
    used = {data.class_names[label] for data in splits.values() for record in data.records for label in record.labels}
    unused = [name for name in next(iter(splits.values())).class_names if name not in used]
    return (
        [*notes, f"PASCAL VOC has no list of classes: {', '.join(unused)} without objects are lost"]
        if unused
        else notes
    )


def _voc_xml(record: ImageRecord, name: str, class_names: tuple[str, ...]) -> str:
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = name
    size = ElementTree.SubElement(root, "size")
    for key, value in (("width", record.hw[1]), ("height", record.hw[0]), ("depth", 3)):
        ElementTree.SubElement(size, key).text = str(value)
    for box, label, crowd in zip(record.boxes.tolist(), record.labels, record.crowd):
        one = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(one, "name").text = class_names[label]
        ElementTree.SubElement(one, "difficult").text = str(int(crowd))
        sides = ElementTree.SubElement(one, "bndbox")
        for key, side in zip(("xmin", "ymin", "xmax", "ymax"), box):
            ElementTree.SubElement(sides, key).text = f"{side:.10g}"
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _lost(splits: Mapping[str, DetectionSet], layout: str) -> list[str]:
    """Say what of the sets a layout has no place for."""
    records = [record for data in splits.values() for record in data.records]
    notes = []
    masks = _with_masks(splits)
    if masks:
        notes.append(
            f"{layout} has no areas: those of {counted(masks, 'object')}, of their masks, become width times height"
        )
    if any(data.category_ids != tuple(range(len(data.category_ids))) for data in splits.values()):
        notes.append(f"{layout} has no category ids of its own: classes are numbered anew")
    partly = sum(bool(record.unlabelled) for record in records)
    if partly:
        notes.append(
            f"{layout} cannot say that a picture is labelled for some classes only: {counted(partly, 'picture')} without that"
        )
    return notes


def _with_masks(splits: Mapping[str, DetectionSet]) -> int:
    """Count objects whose area is not that of their box."""
    records = [record for data in splits.values() for record in data.records]
    sizes = ((record.areas, (record.boxes[:, 2:] - record.boxes[:, :2]).prod(1)) for record in records)
    return sum(int((~np.isclose(area, size, rtol=1e-6)).sum()) for area, size in sizes)


def _write(path: Path, text: str) -> None:
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


WRITERS: dict[str, Callable[[Mapping[str, DetectionSet], Path, Names], list[str]]] = {
    "coco": _write_coco,
    "yolo": _write_yolo,
    "voc": _write_voc,
}
