"""Read and write COCO JSON: the one place where category ids become labels, and labels category ids."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

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
from yolo_lite.structures.datasets import DetectionSet, ImageRecord


@dataclass(frozen=True)
class CocoSource:
    """An annotation file, and the folders in which its images are looked up."""

    json_path: Path
    image_folders: tuple[Path, ...]

    def read(self) -> DetectionSet:
        """Read it as `read_coco` does."""
        return read_coco(self.json_path, self.image_folders)


def read_coco(json_path: Path, image_folders: Sequence[Path]) -> DetectionSet:
    """Read an annotation file.

    Labels follow the order of the file's category list, without a root category (see `without_root`). An image may name
    its `labelled_classes`: of all others, absence means nothing there. A polygon or mask without a box becomes its box.
    Boxes without area are dropped and counted. A size that the file lacks, or gives as 0, is read from the image.

    Args:
        json_path: with `images`, `annotations` and `categories`.
        image_folders: where file names are looked up, see `find_images`. That every picture is there is
            not asked here: scoring a result file needs none (see data.datasets.check_pictures).

    Raises:
        InputError: naming file and annotation, for anything that cannot be what was meant: NaN or negative sizes,
            unknown ids.
    """
    return parse_coco(read_json(json_path), json_path, image_folders=image_folders)


def parse_coco(content: Any, json_path: Path, *, image_folders: Sequence[Path]) -> DetectionSet:
    """Return the set that the content of an annotation file describes; arguments and errors are those of `read_coco`."""
    if not isinstance(content, Mapping) or any(
        not isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise InputError(f"{json_path} is not a COCO annotation file: it needs lists images, annotations, categories")
    categories, notes = without_root(content, json_path)
    labels, ids = _labels(categories, json_path)
    names = tuple(ids)
    images = _by_id(content["images"], json_path)
    objects: dict[int, list[_Object]] = {image_id: [] for image_id in images}
    dropped = 0
    whole = len(images) == len(content["images"]) and len(labels) == len(categories)
    for number, annotation in enumerate(content["annotations"]):
        if not whole and not _belongs_to(annotation, images, labels):
            continue  # what it belongs to has been reported
        try:
            image_id, one = _object(annotation, number, images=images, labels=labels, source=json_path)
        except InputError as error:
            report(error)
            continue
        width, height = one.box[2] - one.box[0], one.box[3] - one.box[1]
        if width <= 0 or height <= 0:
            mention(f"{annotation_place(json_path, annotation)} has a box without area: {width:g} x {height:g}")
            dropped += 1
            continue
        objects[image_id].append(one)
    records = []
    written = [str(image["file_name"]) for image in images.values()]
    paths, spelled = find_images(written, image_folders or [json_path.parent])
    for (image_id, image), path in zip(images.items(), paths):
        try:
            unlabelled = unlabelled_classes(image, names, where=f"{json_path}: image {image_id}")
            records.append(
                _record(image_id, image, path=path, objects=objects[image_id], unlabelled=unlabelled, source=json_path)
            )
        except InputError as error:
            report(error)
    return DetectionSet(
        tuple(records),
        names,
        category_ids=tuple(ids.values()),
        source=str(json_path),
        dropped=dropped,
        notes=(*notes, *spelled),
    )


def read_json(path: Path) -> Any:
    """Read a JSON file; raise InputError naming it, and the line where it breaks."""
    note_large(path)
    try:
        return json.loads(read_text(path))
    except RecursionError as error:
        raise InputError(f"{path} is not valid JSON of a data set: it is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not valid JSON (line {error.lineno}: {error.msg})") from error
    except InputError:
        raise
    except ValueError as error:  # Python reads no whole number of thousands of digits
        raise InputError(f"{path} is not valid JSON of a data set: it holds a number of too many digits") from error


def _labels(categories: Iterable[Any], source: Path) -> tuple[dict[int, int], dict[str, int]]:
    """Map category id to label, in the file's order, and name to category id."""
    labels: dict[int, int] = {}
    ids: dict[str, int] = {}
    by_name: dict[str, int] = {}
    for category in categories:
        if not has_id(category, "id") or not is_name(category.get("name")):
            report(InputError(f"{source}: every category needs an integer id and a name, got {short(category)}"))
            continue
        category_id, name = category["id"], str(category["name"])
        if category_id in labels or name in ids:
            report(InputError(f"{source}: two categories share the id {category_id} or the name {short(name)}"))
        ids.setdefault(name, category_id)
        labels.setdefault(category_id, by_name.setdefault(name, len(by_name)))
    if not labels:
        raise InputError(f"{source} lists no categories")
    return labels, ids


def _by_id(images: Iterable[Any], source: Path) -> dict[int, Mapping[str, Any]]:
    result: dict[int, Mapping[str, Any]] = {}
    for image in images:
        if not has_id(image, "id") or not _is_file_name(image.get("file_name")):
            report(InputError(f"{source}: every image needs an integer id and a file_name, got {short(image)}"))
        elif image["id"] in result:
            report(InputError(f"{source}: two images share the id {image['id']}"))
        else:
            result[image["id"]] = image
    return result


def _is_file_name(value: Any) -> bool:
    return isinstance(value, str) and is_possible_path(value)


def _belongs_to(annotation: Any, images: Mapping[int, Any], labels: Mapping[int, int]) -> bool:
    """Tell whether an annotation's image and category are among these; True as well where it is no annotation at all."""
    if not isinstance(annotation, Mapping):
        return True
    return annotation.get("image_id") in images and annotation.get("category_id") in labels


class _Object(NamedTuple):
    box: list[float]  # xyxy
    label: int
    crowd: bool
    area: float
    number: int


def _object(
    annotation: Any, number: int, *, images: Mapping[int, Mapping[str, Any]], labels: Mapping[int, int], source: Path
) -> tuple[int, _Object]:
    """Return the image's id and the object of an annotation."""
    if not isinstance(annotation, Mapping):
        raise InputError(f"{source}: entry {number} of annotations is not a mapping, got {short(annotation)}")
    where = annotation_place(source, annotation)
    image_id, category = annotation.get("image_id"), annotation.get("category_id")
    if not isinstance(image_id, int) or image_id not in images:
        raise InputError(f"{where} belongs to image {short(image_id)}, which the file does not list")
    if not isinstance(category, int) or category not in labels:
        raise InputError(f"{where} has category {short(category)}, which the file does not list")
    box = annotation_box(annotation, images[image_id], where=where)
    area = annotation.get("area")
    if area is None or not is_number(area) or area <= 0:
        area = (box[2] - box[0]) * (box[3] - box[1])
    own = annotation.get("id")
    number = own if isinstance(own, int) and 0 <= own < 2**63 else -1
    return image_id, _Object(box, labels[category], crowd=is_crowd(annotation, where), area=float(area), number=number)


def _record(
    image_id: int,
    image: Mapping[str, Any],
    *,
    path: Path,
    objects: Sequence[_Object],
    unlabelled: tuple[int, ...],
    source: Path,
) -> ImageRecord:
    hw = written_size(image) or read_image_size(path)
    if max(hw) >= FAR:
        raise InputError(f"{source}: image {image_id} has {short(hw[1])} x {short(hw[0])} pixels by its annotations")
    return ImageRecord(
        path,
        image_id,
        hw=hw,
        boxes=np.array([one.box for one in objects], np.float64).reshape(-1, 4),
        labels=np.array([one.label for one in objects], np.int64),
        crowd=np.array([one.crowd for one in objects], np.bool_),
        areas=np.array([one.area for one in objects], np.float64),
        unlabelled=unlabelled,
        labels_file=source,
        numbers=np.array([one.number for one in objects], np.int64),
    )


def write_coco(splits: Mapping[str, DetectionSet], out: Path, *, names: Names) -> list[str]:
    """Write annotations/instances_<split>.json; return lines that say what is lost."""
    make_folder(out / "annotations")
    first = 1
    for split, data in splits.items():
        content = coco_content(split, data, names=names, first=first)
        first += len(content["annotations"])
        write_text(out / "annotations" / f"instances_{split}.json", json.dumps(content))
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
        ["outlines of objects (masks, polygons) are not carried over; their areas are"]
        if count_masks(splits.values())
        else []
    )
