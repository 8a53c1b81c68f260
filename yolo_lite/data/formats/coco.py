"""Read and write COCO JSON. Only this module turns category ids into labels, and labels into category ids."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolo_lite.data.faults import mention, report
from yolo_lite.data.formats.coco_entries import (
    FAR,
    annotation_box,
    annotation_place,
    has_id,
    is_crowd,
    is_name,
    is_number,
    unlabelled_classes,
    without_root,
    written_size,
)
from yolo_lite.data.formats.writing import Names, count_masks, write_text
from yolo_lite.data.names import find_images
from yolo_lite.errors import InputError, short
from yolo_lite.files import is_possible_path, make_folder, note_large, read_text
from yolo_lite.media.images import read_image_size
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.paths import PathPacker
from yolo_lite.structures.records import Objects, Records, Unlabelled


@dataclass(frozen=True)
class CocoSource:
    """An annotation file, and the folders that may hold its images."""

    json_path: Path
    image_folders: tuple[Path, ...]

    def read(self) -> DetectionSet:
        """Read the file as `read_coco` does."""
        return read_coco(self.json_path, self.image_folders)


def read_coco(json_path: Path, image_folders: Sequence[Path]) -> DetectionSet:
    """Read an annotation file.

    Labels follow the order of the file's category list, without a root category (see `without_root`). An image may list its
    `labelled_classes`; the absence of any other class from it means nothing. A polygon or mask without a box becomes its
    box. Boxes without area are dropped and counted. An image size that is missing or 0 is read from the image.

    Args:
        json_path: file with `images`, `annotations` and `categories`.
        image_folders: where to look for the images, see `find_images`. Images need not exist, since scoring a result file
            needs none; data.sizes.check_images looks for them.

    Raises:
        InputError: if an entry cannot be meant as written, such as a NaN, a negative size or an unknown id; the message
            names the file and the annotation.

    Example:
        >>> data = read_coco(Path("my_images/annotations/instances_val.json"), [Path("my_images/images")])
        >>> len(data.records), data.class_names, data.category_ids
        (3, ('disc', 'square'), (7, 3))
    """
    return _parse(_checked(read_json(json_path, _without_outline), json_path), json_path, image_folders)


def _without_outline(entry: dict[str, Any]) -> dict[str, Any]:
    """Drop the outline of an object with a box: outlines take most of a file's memory and are not used."""
    if entry.get("bbox"):
        entry.pop("segmentation", None)
    return entry


def parse_coco(content: Any, json_path: Path, *, image_folders: Sequence[Path]) -> DetectionSet:
    """Return the set that the content of an annotation file describes; for arguments and errors see `read_coco`.

    Example:
        >>> images = [{"id": 5, "file_name": "a.jpg", "height": 9, "width": 9}]
        >>> annotations = [{"id": 1, "image_id": 5, "category_id": 3, "bbox": [1, 2, 3, 4]}]
        >>> content = {"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "cat"}]}
        >>> parse_coco(content, Path("a.json"), image_folders=[]).records[0].boxes
        array([[1., 2., 4., 6.]])
    """
    return _parse(_checked(content, json_path), json_path, image_folders)


def _checked(content: Any, json_path: Path) -> dict[str, list[Any]]:
    """Return copies of the three lists of an annotation file."""
    lists = ("images", "annotations", "categories")
    if not isinstance(content, Mapping) or any(not isinstance(content.get(key), list) for key in lists):
        raise InputError(
            f"{json_path} is not a COCO annotation file: it needs the lists images, annotations and categories"
        )
    return {key: list(content[key]) for key in lists}


def _parse(content: dict[str, list[Any]], json_path: Path, image_folders: Sequence[Path]) -> DetectionSet:
    """Return the set that an annotation file describes. This empties its list of annotations, to free their memory."""
    categories, notes = without_root(content, json_path)
    labels, ids = _labels(categories, json_path)
    images = _by_id(content["images"], json_path)
    whole = len(images) == len(content["images"]) and len(labels) == len(categories)
    objects = _Objects(images, labels, annotations=content["annotations"], source=json_path)
    for number, annotation in enumerate(_used_up(content["annotations"])):
        if not whole and not _belongs_to(annotation, images, labels):
            continue  # its image or category has already been reported
        try:
            objects.add(annotation, number)
        except InputError as error:
            report(error, annotation_place(json_path, annotation) if isinstance(annotation, Mapping) else "")
    written = [str(image["file_name"]) for image in images.values()]
    paths, spelled = find_images(written, image_folders or [json_path.parent])
    return DetectionSet(
        _records(images, paths, objects=objects, names=tuple(ids)),
        tuple(ids),
        category_ids=tuple(ids.values()),
        source=str(json_path),
        dropped=objects.dropped,
        notes=(*notes, *spelled),
    )


def _used_up(entries: list[Any]) -> Iterator[Any]:
    """Yield the entries of a list in order, and remove each from the list."""
    entries.reverse()
    while entries:
        yield entries.pop()


def read_json(path: Path, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Read a JSON file; raise InputError with the file, and the line of a syntax error.

    Args:
        path: the file.
        object_hook: called on every JSON object as soon as it is read; its result replaces the object.

    Example:
        >>> read_json(Path("my_images/annotations/instances_val.json"))["categories"]
        [{'id': 7, 'name': 'disc'}, {'id': 3, 'name': 'square'}]
    """
    note_large(path)
    try:
        return json.loads(read_text(path), object_hook=object_hook)
    except RecursionError as error:
        raise InputError(f"{path} is not valid JSON of a data set: it is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not valid JSON (line {error.lineno}: {error.msg})") from error
    except InputError:
        raise
    except ValueError as error:  # Python refuses whole numbers with thousands of digits
        raise InputError(f"{path} is not valid JSON of a data set: it holds a number with too many digits") from error


def _labels(categories: Iterable[Any], source: Path) -> tuple[dict[int, int], dict[str, int]]:
    """Map category ids to labels, in the file's order, and names to category ids."""
    labels: dict[int, int] = {}
    ids: dict[str, int] = {}
    by_name: dict[str, int] = {}
    for category in categories:
        if not has_id(category, "id") or not is_name(category.get("name")):
            report(
                InputError(f"{source}: every category needs an integer id and a name, got {short(category)}"),
                str(source),
            )
            continue
        category_id, name = category["id"], str(category["name"])
        if category_id in labels or name in ids:
            report(
                InputError(f"{source}: two categories share the id {category_id} or the name {short(name)}"),
                str(source),
            )
        ids.setdefault(name, category_id)
        labels.setdefault(category_id, by_name.setdefault(name, len(by_name)))
    if not labels:
        raise InputError(f"{source} lists no categories")
    return labels, ids


def _by_id(images: Iterable[Any], source: Path) -> dict[int, Mapping[str, Any]]:
    result: dict[int, Mapping[str, Any]] = {}
    for image in images:
        if not has_id(image, "id") or not _is_file_name(image.get("file_name")):
            report(
                InputError(f"{source}: every image needs an integer id and a file_name, got {short(image)}"),
                str(source),
            )
        elif image["id"] in result:
            report(InputError(f"{source}: two images share the id {image['id']}"), str(source))
        else:
            result[image["id"]] = image
    return result


def _is_file_name(value: Any) -> bool:
    return isinstance(value, str) and is_possible_path(value)


def _belongs_to(annotation: Any, images: Mapping[int, Any], labels: Mapping[int, int]) -> bool:
    """Return whether an annotation's image and category are known; also True if it is not an annotation at all."""
    if not isinstance(annotation, Mapping):
        return True
    return annotation.get("image_id") in images and annotation.get("category_id") in labels


class _Objects:
    """The objects of an annotation file, grouped by image, each image's in the file's order.

    Each object is written to its place at once, so that a large file's memory is allocated only once, in one piece.

    Args:
        images: image entries by id.
        labels: labels by category id.
        annotations: all annotations that will be added.
        source: the file.
    """

    def __init__(
        self,
        images: Mapping[int, Mapping[str, Any]],
        labels: Mapping[int, int],
        *,
        annotations: Sequence[Any],
        source: Path,
    ) -> None:
        self.images, self.labels, self.source = images, labels, source
        self.dropped = 0  # boxes without area
        self._positions = {image_id: position for position, image_id in enumerate(images)}
        image = np.fromiter(map(self._position, annotations), np.int64, len(annotations))
        counts = np.bincount(image[image >= 0], minlength=len(images))
        self._starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        self._ends = self._starts[:-1].copy()  # ends of the objects added so far
        total = int(self._starts[-1])
        self._objects = Objects(
            np.zeros((total, 4)),
            np.zeros(total, np.int64),
            np.zeros(total, np.bool_),
            areas=np.zeros(total),
            numbers=np.zeros(total, np.int64),
        )

    def add(self, annotation: Any, number: int) -> None:
        """Add the annotation at position `number` of the file; raise InputError if it cannot be meant as written."""
        if not isinstance(annotation, Mapping):
            raise InputError(f"{self.source}: entry {number} of annotations is not a mapping, got {short(annotation)}")
        where = annotation_place(self.source, annotation)
        position, image_id, category = (
            self._position(annotation),
            annotation.get("image_id"),
            annotation.get("category_id"),
        )
        if position < 0:
            raise InputError(f"{where} belongs to image {short(image_id)}, which the file does not list")
        if not isinstance(category, int) or category not in self.labels:
            raise InputError(f"{where} has category {short(category)}, which the file does not list")
        box = annotation_box(annotation, self.images[annotation["image_id"]], where=where)
        crowd = is_crowd(annotation, where)
        width, height = box[2] - box[0], box[3] - box[1]
        if width <= 0 or height <= 0:
            mention(f"{where} has a box without area: {width:g} x {height:g}", where)
            self.dropped += 1
            return
        area, own = annotation.get("area", 0), annotation.get("id")
        place = self._ends[position]
        self._ends[position] += 1
        boxes, labels, crowds, areas, numbers = self._objects
        boxes[place], labels[place], crowds[place] = box, self.labels[category], crowd
        areas[place] = float(area) if is_number(area) and area > 0 else width * height
        numbers[place] = own if isinstance(own, int) and 0 <= own < 2**63 else -1

    def by_image(self) -> tuple[Objects, npt.NDArray[np.int64]]:
        """Return the objects, and where those of each image begin."""
        counts = self._ends - self._starts[:-1]
        if counts.sum() == self._starts[-1]:
            return self._objects, self._starts
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        kept = np.repeat(self._starts[:-1] - starts[:-1], counts) + np.arange(starts[-1])
        return self._objects.take(kept), starts

    def _position(self, annotation: Any) -> int:
        """Return the position of an annotation's image; -1 if the file does not list it."""
        image_id = annotation.get("image_id") if isinstance(annotation, Mapping) else None
        return self._positions.get(image_id, -1) if isinstance(image_id, int) else -1


def _records(
    images: Mapping[int, Mapping[str, Any]], paths: Sequence[Path], *, objects: _Objects, names: Sequence[str]
) -> Records:
    """Return the records of the images; images with a bad entry are reported and left out."""
    kept, sizes_hw, unlabelled = [], [], []
    packed_paths, labels_files = PathPacker(), PathPacker()
    for position, (image, path) in enumerate(zip(images.values(), paths)):
        try:
            classes, hw = _image(image, path, names=names, source=objects.source)
        except InputError as error:
            report(error, f"{objects.source}: image {image['id']}")
            classes, hw = (), (0, 0)
        else:
            kept.append(position)
        sizes_hw.append(hw)
        unlabelled.append(classes)
        packed_paths.add(path)
        labels_files.add(objects.source)
    by_image, starts = objects.by_image()
    records = Records(
        packed_paths.paths(),
        np.array(list(images), np.int64),
        sizes_hw=np.array(sizes_hw, np.int64).reshape(-1, 2),
        starts=starts,
        objects=by_image,
        numbered=np.ones(len(images), np.bool_),
        unlabelled=Unlabelled.pack(unlabelled),
        labels_files=labels_files.paths(),
    )
    return records if len(kept) == len(images) else records.take(np.array(kept, np.int64))


def _image(
    image: Mapping[str, Any], path: Path, *, names: Sequence[str], source: Path
) -> tuple[tuple[int, ...], tuple[int, int]]:
    """Return the labels of the classes that an image is not labelled for, and its height and width."""
    where = f"{source}: image {image['id']}"
    unlabelled = unlabelled_classes(image, names, where=where)
    hw = written_size(image) or read_image_size(path)
    if max(hw) >= FAR:
        raise InputError(f"{where} is {short(hw[1])} x {short(hw[0])} pixels, larger than any image; correct its entry")
    return unlabelled, hw


def write_coco(splits: Mapping[str, DetectionSet], out: Path, *, names: Names) -> list[str]:
    """Write annotations/instances_<split>.json, and return notes about what is lost.

    Example:
        >>> from yolo_lite.data.care.convert import file_names
        >>> sets = {"val": read_coco(Path("my_images/annotations/instances_val.json"), [Path("my_images/images")])}
        >>> write_coco(sets, Path("coco_out"), names=file_names(sets, across=False))
        []
        >>> len(read_json(Path("coco_out/annotations/instances_val.json"))["images"])
        3
    """
    make_folder(out / "annotations")
    first = 1
    for split, data in splits.items():
        content = coco_content(split, data, names=names, first=first)
        first += len(content["annotations"])
        write_text(out / "annotations" / f"instances_{split}.json", json.dumps(content))
    return lost_outlines(splits)


def coco_content(split: str, data: DetectionSet, *, names: Names, first: int = 1) -> dict[str, Any]:
    """Return the content of a split's COCO annotation file; annotations are numbered from `first`.

    Example:
        >>> from yolo_lite.data.care.convert import file_names
        >>> data = read_coco(Path("my_images/annotations/instances_val.json"), [Path("my_images/images")])
        >>> coco_content("val", data, names=file_names({"val": data}, across=False))["images"][0]
        {'id': 7, 'file_name': '0007.png', 'height': 96, 'width': 128}
    """
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
    """Return a note that outlines are lost, if any object seems to have had one: records keep boxes and areas only.

    Example:
        >>> data = read_coco(Path("my_images/annotations/instances_val.json"), [Path("my_images/images")])
        >>> lost_outlines({"val": data})  # every area is that of the box
        []
    """
    return (
        ["outlines of objects (masks, polygons) are not carried over; their areas are"]
        if count_masks(splits.values())
        else []
    )
