"""Read PASCAL VOC annotations: an XML file for each picture."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from yolo_lite.data.faults import mention, report
from yolo_lite.data.images import IMAGE_SUFFIXES, read_image_size
from yolo_lite.errors import InputError, some
from yolo_lite.structures import DetectionSet, ImageRecord


def read_voc(
    files: Sequence[Path],
    pictures: Sequence[Path],
    class_names: Sequence[str],
    source: str,
    difficult: bool = False,
) -> DetectionSet:
    """Read XML files.

    Corners are taken as written, in pixels; in files of PASCAL VOC itself (whose <folder> or <database> says VOC and a
    year) the first pixel is 1 and the last is inside, so 1 is subtracted from xmin and ymin. Objects marked difficult
    become crowd boxes (no targets of training, ignored in evaluation) unless `difficult` is set. Pictures are numbered by
    their name where that is a number, else from 1.

    Args:
        files: the annotations, one for each picture.
        pictures: folders where pictures may lie; the annotation's own folder is tried last.
        class_names: by label; see `voc_class_names`.
        source: what messages call the set.
        difficult: take objects marked difficult as ordinary ones.

    Raises:
        InputError: naming file and object, for what is no such XML, a picture that is missing, or a box that is none.
    """
    stems = [file.stem for file in files]
    numbered = all(stem.isdecimal() for stem in stems) and len({int(stem) for stem in stems}) == len(stems)
    records, dropped = [], 0
    for number, file in enumerate(files, 1):
        try:
            record, without_area = _record(file, pictures, class_names, int(file.stem) if numbered else number)
        except InputError as error:
            report(error)
            continue
        records.append(dataclasses.replace(record, crowd=np.zeros_like(record.crowd)) if difficult else record)
        dropped += without_area
    return DetectionSet(tuple(records), tuple(class_names), tuple(range(1, len(class_names) + 1)), source, dropped)


def voc_class_names(files: Sequence[Path]) -> tuple[str, ...]:
    """Return the names of all objects in some XML files, sorted."""
    names: set[str] = set()
    for file in files:
        try:
            names |= {(one.findtext("name") or "").strip() for one in _root(file).iter("object")}
        except InputError as error:
            report(error)
    names.discard("")  # which reading refuses
    return tuple(sorted(names))


def _record(file: Path, pictures: Sequence[Path], class_names: Sequence[str], number: int) -> tuple[ImageRecord, int]:
    root = _root(file)
    picture = _picture(root, file, pictures)
    hw = _size(root, file) or read_image_size(picture)
    first = 1.0 if _is_voc(root) else 0.0
    boxes, labels, difficult, numbers = [], [], [], []
    for position, one in enumerate(root.iter("object"), 1):
        try:
            box, label, is_difficult = _object(one, f"{file}: object {position}", class_names)
        except InputError as error:
            report(error)
            continue
        boxes.append([box[0] - first, box[1] - first, box[2], box[3]])
        labels.append(label)
        difficult.append(is_difficult)
        numbers.append(position)
    array = np.array(boxes, np.float64).reshape(-1, 4)
    sizes = array[:, 2:] - array[:, :2]
    good = (sizes > 0).all(1)
    for i in np.flatnonzero(~good):
        mention(f"{file}: object {numbers[i]} has a box without area: {sizes[i, 0]:g} x {sizes[i, 1]:g}")
    record = ImageRecord(
        picture,
        number,
        hw,
        array[good],
        np.array(labels, np.int64)[good],
        np.array(difficult, np.bool_)[good],
        sizes[good].prod(1),
        labels_file=file,
        numbers=np.array(numbers, np.int64)[good],
    )
    return record, int((~good).sum())


def _object(one: ElementTree.Element, where: str, class_names: Sequence[str]) -> tuple[list[float], int, bool]:
    """Return an object's corners as they are written, its label, and whether it is difficult."""
    name = _text(one, "name", where)
    if name not in class_names:
        raise InputError(f"{where} is of the class {name!r}, which is not among {some(list(class_names))}")
    sides = one.find("bndbox")
    if sides is None:
        raise InputError(f"{where} has no <bndbox>")
    box = [_number(sides, key, where) for key in ("xmin", "ymin", "xmax", "ymax")]
    difficult = (one.findtext("difficult") or "0").strip().lower()
    if difficult not in ("0", "1", "false", "true"):
        raise InputError(f"{where}: <difficult> must be 0 or 1, got {difficult!r:.60}")
    return box, class_names.index(name), difficult in ("1", "true")


def _root(file: Path) -> ElementTree.Element:
    try:
        root = ElementTree.fromstring(file.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last two: an unknown encoding
        raise InputError(f"{file} is not XML: {error}") from error
    if root.tag != "annotation":
        raise InputError(f"{file} is no PASCAL VOC annotation: it begins with <{root.tag}>, expected <annotation>")
    return root


def _picture(root: ElementTree.Element, file: Path, folders: Sequence[Path]) -> Path:
    """Return the picture: by the <filename> that is written, else by the name of the XML file."""
    written = Path((root.findtext("filename") or "").strip().replace("\\", "/")).name
    names = [written] if written else []
    names += [file.stem + suffix for suffix in IMAGE_SUFFIXES]
    places = [folder / name for folder in (*folders, file.parent) for name in names]
    found = next((place for place in places if place.is_file()), None)
    return found or places[0]


def _size(root: ElementTree.Element, file: Path) -> tuple[int, int] | None:
    size = root.find("size")
    if size is None:
        return None
    width, height = (_number(size, key, f"{file}: size") for key in ("width", "height"))
    return (int(height), int(width)) if min(width, height) > 0 else None


def _is_voc(root: ElementTree.Element) -> bool:
    texts = (root.findtext("folder") or "", root.findtext("source/database") or "")
    return any(text.strip().removeprefix("The ").startswith("VOC20") for text in texts)


def _number(parent: ElementTree.Element, key: str, where: str) -> float:
    text = parent.findtext(key)
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: <{key}> must be a number, got {text!r}")
    return value


def _text(parent: ElementTree.Element, key: str, where: str) -> str:
    text = (parent.findtext(key) or "").strip()
    if not text:
        raise InputError(f"{where} has no <{key}>")
    return text
