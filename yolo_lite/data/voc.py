"""Read PASCAL VOC annotations: an XML file for each picture."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from yolo_lite.data.images import IMAGE_SUFFIXES, read_image_size
from yolo_lite.errors import InputError, reason, short, some
from yolo_lite.files import is_possible_path
from yolo_lite.structures import DetectionSet, ImageRecord

_FAR = 1e9  # pixels
_LONGEST_NAME = 1000  # characters
_MOST_BYTES = 2**24  # of a file


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
        record, without_area = _record(file, pictures, class_names, int(file.stem) if numbered else number)
        records.append(dataclasses.replace(record, crowd=np.zeros_like(record.crowd)) if difficult else record)
        dropped += without_area
    return DetectionSet(tuple(records), tuple(class_names), tuple(range(1, len(class_names) + 1)), source, dropped)


def voc_class_names(files: Sequence[Path]) -> tuple[str, ...]:
    """Return the names of all objects in some XML files, sorted."""
    return tuple(sorted({_text(one, "name", file) for file in files for one in _root(file).iter("object")}))


def _record(file: Path, pictures: Sequence[Path], class_names: Sequence[str], number: int) -> tuple[ImageRecord, int]:
    root = _root(file)
    picture = _picture(root, file, pictures)
    hw = _size(root, file) or read_image_size(picture)
    first = 1.0 if _is_voc(root) else 0.0
    boxes, labels, difficult = [], [], []
    for position, one in enumerate(root.iter("object"), 1):
        where = f"{file}: object {position}"
        name = _text(one, "name", file)
        if name not in class_names:
            raise InputError(f"{where} is of the class {short(name)}, which is not among {some(list(class_names))}")
        sides = one.find("bndbox")
        if sides is None:
            raise InputError(f"{where} has no <bndbox>")
        x1, y1, x2, y2 = (_number(sides, key, where) for key in ("xmin", "ymin", "xmax", "ymax"))
        boxes.append([x1 - first, y1 - first, x2, y2])
        labels.append(class_names.index(name))
        difficult.append((one.findtext("difficult") or "0").strip() == "1")
    array = np.array(boxes, np.float64).reshape(-1, 4)
    sizes = array[:, 2:] - array[:, :2]
    good = (sizes > 0).all(1)
    record = ImageRecord(
        picture,
        number,
        hw,
        array[good],
        np.array(labels, np.int64)[good],
        np.array(difficult, np.bool_)[good],
        sizes[good].prod(1),
    )
    return record, int((~good).sum())


def _root(file: Path) -> ElementTree.Element:
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise InputError(f"{file} is no annotation of one picture: it has {file.stat().st_size:,} bytes")
        root = ElementTree.fromstring(file.read_bytes())
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last two: an unknown encoding
        raise InputError(f"{file} is not XML: {reason(error)[:200]}") from error
    if root.tag != "annotation":
        raise InputError(
            f"{file} is no PASCAL VOC annotation: it begins with <{short(root.tag)[1:-1]}>, expected <annotation>"
        )
    return root


def _picture(root: ElementTree.Element, file: Path, folders: Sequence[Path]) -> Path:
    """Return the picture: by the <filename> that is written, else by the name of the XML file."""
    written = Path((root.findtext("filename") or "").strip().replace("\\", "/")).name
    names = [written] if written and is_possible_path(written) else []
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
    if not abs(value) < _FAR:
        raise InputError(f"{where}: <{key}> must be a number, got {short(text)}")
    return value


def _text(parent: ElementTree.Element, key: str, file: Path) -> str:
    text = (parent.findtext(key) or "").strip()
    if not text:
        raise InputError(f"{file}: an object has no <{key}>")
    if len(text) > _LONGEST_NAME:
        raise InputError(f"{file}: the <{key}> of an object has {len(text):,} characters")
    return text
