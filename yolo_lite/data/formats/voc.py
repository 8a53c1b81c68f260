"""Read and write PASCAL VOC annotations: one XML file per image."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from xml.etree import ElementTree

import numpy as np

from yolo_lite.data.entries import MissingError
from yolo_lite.data.faults import mention, report
from yolo_lite.data.formats.writing import Names, lost_in_text, write_text
from yolo_lite.data.names import composed, find_images
from yolo_lite.errors import InputError, counted, printable, reason, short, some
from yolo_lite.files import is_possible_path, make_folder
from yolo_lite.media.folders import listed, sort_out
from yolo_lite.media.images import read_image_size
from yolo_lite.structures.datasets import Classes, DetectionSet
from yolo_lite.structures.records import ImageRecord, Packer

_FAR = 1e9  # pixels
_LONGEST_NAME = 1000  # characters
_MOST_BYTES = 2**24  # of a file


@dataclass(frozen=True)
class VocSource:
    """XML files, and how to read them.

    Attributes:
        files: the annotations, one per image.
        images: folders that may hold the images; the annotation's own folder is tried last.
        class_names: names by label; see `voc_class_names`.
        source: the set's name in messages.
        difficult: treat objects marked difficult like any others.
        annotations: the folder that holds all files, perhaps in sub-folders; images may be in sub-folders of the same names.
        listing: the file that lists them; None if they are all the files of a folder.
    """

    files: tuple[Path, ...]
    images: tuple[Path, ...]
    class_names: tuple[str, ...]
    source: str
    difficult: bool = False
    annotations: Path | None = None
    listing: Path | None = None

    def read(self) -> DetectionSet:
        """Read the XML files.

        Corners are in pixels, as written. Files of PASCAL VOC itself (their <folder> or <database> gives VOC and a year) count
        pixels from 1 and include the last, so 1 is subtracted from xmin and ymin. The corners may come in any order. Objects
        marked difficult become crowd boxes (not trained on, ignored in evaluation) unless `difficult` is set. Image ids are the
        file names if these are numbers, else they count from 1.

        The image of an annotation has the same name, whatever its suffix; if there is none, it is the one in <filename>. A note
        reports images without an XML file.

        Raises:
            MissingError: if the list names a file that does not exist.
            InputError: if a file is not such XML, an image is missing, a box is invalid, or two files are for one image.
        """
        if self.listing is None:
            return _without_xml(_read_voc(self))
        missing = [file.stem for file in self.files if not file.is_file()]
        if missing:
            raise MissingError(f"{self.listing} lists {some(missing)}, without an XML file in {self.files[0].parent}")
        return _read_voc(self)


def _read_voc(source: VocSource) -> DetectionSet:
    paths, notes = _images(source.files, source.images, source.annotations)
    _refuse_two_files(source.files, paths, source.source)
    records, dropped, swapped = Packer(), 0, []
    for number, file, path in zip(_numbers(source.files), source.files, paths):
        try:
            record, without_area, turned = _record(file, path, class_names=source.class_names, number=number)
        except InputError as error:
            report(error)
            continue
        if source.difficult:
            record = dataclasses.replace(record, crowd=np.zeros_like(record.crowd))
        records.add(record)
        dropped += without_area
        swapped += turned
    if swapped:
        what = counted(len(swapped), "object has its", plural="objects have their")
        notes.append(f"{what} corners swapped; they are put in order; the first is {swapped[0]}")
    classes = Classes.numbered(source.class_names, first=1)
    return DetectionSet(
        records.records(),
        classes.names,
        category_ids=classes.category_ids,
        source=source.source,
        dropped=dropped,
        notes=tuple(notes),
        ignored="difficult",
    )


def _numbers(files: Sequence[Path]) -> Sequence[int]:
    """Return the numbers in the file names, if all names are different numbers of at most 63 bits; else 1, 2, 3 ..."""
    names = [file.stem for file in files]
    numbers = [int(name) for name in names if name.isdecimal()]
    good = len(set(numbers)) == len(files) and max(numbers, default=0) < 2**63
    return numbers if good else range(1, len(files) + 1)


def _without_xml(data: DetectionSet) -> DetectionSet:
    """Add a note about images that lie beside those of a set but have no XML file."""
    used = {record.path for record in data.records}
    folders = dict.fromkeys(path.parent for path in used if path.parent.is_dir())
    left = [path for folder in folders for path in sort_out(listed(folder))[0] if path not in used]
    if not left:
        return data
    what = counted(len(left), "image has no XML file and is", plural="images have no XML file and are")
    note = f"{what} left out: {some([printable(path.name) for path in left])}"
    return dataclasses.replace(data, notes=(*data.notes, note))


def voc_class_names(files: Sequence[Path]) -> tuple[str, ...]:
    """Return the names of all objects in some XML files, sorted.

    Example:
        >>> _ = Path("cat.xml").write_text("<annotation><object><name>cat</name></object></annotation>")
        >>> voc_class_names([Path("cat.xml")])
        ('cat',)
    """
    names: set[str] = set()
    for file in files:
        try:
            names |= {(element.findtext("name") or "").strip() for element in _root(file).iter("object")}
        except InputError as error:
            report(error)
    names.discard("")  # reading the file reports it
    return tuple(sorted(names))


def _record(file: Path, image: Path, *, class_names: Sequence[str], number: int) -> tuple[ImageRecord, int, list[str]]:
    """Return an image's record, the number of its boxes without area, and the places of swapped corners."""
    root = _root(file)
    hw = _size(root, file) or read_image_size(image)
    first = 1.0 if _is_voc(root) else 0.0
    boxes, labels, difficult, numbers, swapped = [], [], [], [], []
    for position, element in enumerate(root.iter("object"), 1):
        where = f"{file}: object {position}"
        try:
            (x1, y1, x2, y2), label, is_difficult = _object(element, where, class_names)
        except InputError as error:
            report(error, where)
            continue
        if x1 > x2 or y1 > y2:
            swapped.append(where)
        boxes.append([min(x1, x2) - first, min(y1, y2) - first, max(x1, x2), max(y1, y2)])
        labels.append(label)
        difficult.append(is_difficult)
        numbers.append(position)
    array = np.array(boxes, np.float64).reshape(-1, 4)
    sizes = array[:, 2:] - array[:, :2]
    good = (sizes > 0).all(1)
    for i in np.flatnonzero(~good):
        where = f"{file}: object {numbers[i]}"
        mention(f"{where} has a box without area: {sizes[i, 0]:g} x {sizes[i, 1]:g}", where)
    record = ImageRecord(
        image,
        number,
        hw=hw,
        boxes=array[good],
        labels=np.array(labels, np.int64)[good],
        crowd=np.array(difficult, np.bool_)[good],
        areas=sizes[good].prod(1),
        labels_file=file,
        numbers=np.array(numbers, np.int64)[good],
    )
    return record, int((~good).sum()), swapped


def _object(element: ElementTree.Element, where: str, class_names: Sequence[str]) -> tuple[list[float], int, bool]:
    """Return an object's corners as written, its label, and whether it is difficult."""
    name = _text(element, "name", where)
    if name not in class_names:
        raise InputError(f"{where} has the class {short(name)}, which is not among {some(list(class_names))}")
    sides = element.find("bndbox")
    if sides is None:
        raise InputError(f"{where} has no <bndbox>")
    box = [_number(sides, key, where) for key in ("xmin", "ymin", "xmax", "ymax")]
    difficult = (element.findtext("difficult") or "0").strip().lower()
    if difficult not in ("0", "1", "false", "true"):
        raise InputError(f"{where}: <difficult> must be 0 or 1, got {difficult!r:.60}")
    return box, class_names.index(name), difficult in ("1", "true")


def _root(file: Path) -> ElementTree.Element:
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise InputError(
                f"{file} is too large for the annotation of one image: it has {counted(file.stat().st_size, 'byte')}"
            )
        root = ElementTree.fromstring(file.read_bytes())
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last two: an unknown encoding
        raise InputError(f"{file} is not XML: {reason(error)[:200]}") from error
    if root.tag != "annotation":
        raise InputError(
            f"{file} is not a PASCAL VOC annotation: it begins with <{short(root.tag)[1:-1]}>, expected <annotation>"
        )
    return root


def _images(files: Sequence[Path], folders: Sequence[Path], annotations: Path | None) -> tuple[list[Path], list[str]]:
    """Return the image of each annotation, with notes about those that are not the one in <filename>."""
    there: dict[Path, dict[str, list[Path]]] = {}
    paths: list[Path] = []
    stale: list[tuple[Path, Path]] = []  # an annotation, and the image in its <filename>
    for file in files:
        inside = file.parent.relative_to(annotations) if annotations else Path()
        places = list(dict.fromkeys((*(folder / inside for folder in folders), *folders, file.parent)))
        written = _written_name(file)
        named = next((place / written for place in places if written and (place / written).is_file()), None)
        own = _own_image(file, named, places=places, there=there)
        if own and named and composed(named.stem) != composed(file.stem):
            stale.append((file, named))
        paths.append(own or named or places[0] / (written or f"{file.stem}.jpg"))
    missing = [i for i, path in enumerate(paths) if not path.is_file()]
    others, notes = find_images([paths[i].name for i in missing], [*folders, *dict.fromkeys(f.parent for f in files)])
    for i, path in zip(missing, others):
        paths[i] = path
    if stale:
        what = counted(len(stale), "XML file names", plural="XML files name")
        notes.append(
            f"{what} another image in <filename>; each is used for the image with its own name. The first is "
            f"{stale[0][0]}, which names {printable(stale[0][1].name)}"
        )
    return paths, notes


def _written_name(file: Path) -> str:
    """Return the file name that an annotation gives, without folders; "" if it gives none."""
    try:
        text = _root(file).findtext("filename") or ""
    except InputError as error:
        report(error)
        return ""
    name = PureWindowsPath(text.strip()).name  # takes both kinds of slashes
    return name if is_possible_path(name) else ""


def _own_image(
    file: Path, named: Path | None, *, places: Sequence[Path], there: dict[Path, dict[str, list[Path]]]
) -> Path | None:
    """Return the image with an annotation's own name; if several differ only in suffix, `named` is preferred."""
    for place in places:
        if place not in there:
            there[place] = {}
            for image in sort_out(listed(place))[0] if place.is_dir() else ():
                there[place].setdefault(composed(image.stem), []).append(image)
        own = there[place].get(composed(file.stem))
        if own:
            exact = [image for image in own if image.stem == file.stem] or own
            return named if named in exact else exact[0]
    return None


def _refuse_two_files(files: Sequence[Path], images: Sequence[Path], source: str) -> None:
    by_image: dict[Path, list[Path]] = {}
    for file, image in zip(files, images):
        by_image.setdefault(image, []).append(file)
    twice = {image: group for image, group in by_image.items() if len(group) > 1 and image.is_file()}
    for image, group in list(twice.items())[:1]:
        report(
            InputError(
                f"{source}: {counted(len(twice), 'image has', plural='images have')} more than one XML file; the first is "
                f"{image}: {some([str(file) for file in group])}; merge them or remove all but one"
            )
        )


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


def _text(parent: ElementTree.Element, key: str, where: str) -> str:
    text = (parent.findtext(key) or "").strip()
    if not text:
        raise InputError(f"{where} has no <{key}>")
    if len(text) > _LONGEST_NAME:
        raise InputError(f"{where}: its <{key}> has {len(text):,} characters")
    return text


def write_voc(splits: Mapping[str, DetectionSet], out: Path, *, names: Names) -> list[str]:
    """Write Annotations/*.xml and ImageSets/Main/<split>.txt, and return notes about what is lost.

    Example:
        >>> from yolo_lite.data.care.convert import file_names
        >>> from yolo_lite.data.splits import read_splits
        >>> sets = read_splits("my_images")
        >>> notes = write_voc(sets, Path("voc_out"), names=file_names(sets, across=True))
        >>> Path("voc_out/ImageSets/Main/val.txt").read_text().split()
        ['0007', '0008', '0009']
    """
    make_folder(out / "Annotations")
    make_folder(out / "ImageSets" / "Main")
    for split, data in splits.items():
        stems = []
        for record in data.records:
            name = names[split, record.image_id]
            stems.append(Path(name).stem)
            write_text(out / "Annotations" / f"{stems[-1]}.xml", _voc_xml(record, name, data.class_names))
        write_text(out / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{stem}\n" for stem in stems))
    notes = lost_in_text(splits.values(), "PASCAL VOC")
    used = {data.class_names[label] for data in splits.values() for record in data.records for label in record.labels}
    unused = [name for name in next(iter(splits.values())).class_names if name not in used]
    return (
        [*notes, f"PASCAL VOC has no list of classes: those without objects are lost ({', '.join(unused)})"]
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
        element = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(element, "name").text = class_names[label]
        ElementTree.SubElement(element, "difficult").text = str(int(crowd))
        sides = ElementTree.SubElement(element, "bndbox")
        for key, side in zip(("xmin", "ymin", "xmax", "ymax"), box):
            ElementTree.SubElement(sides, key).text = f"{side:.10g}"
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"
