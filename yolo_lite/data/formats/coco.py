"""Read COCO JSON: the one place where category ids become labels."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from yolo_lite.data.faults import mention, report
from yolo_lite.data.formats.rle import rle_box
from yolo_lite.data.names import find_images
from yolo_lite.errors import InputError, is_text, short
from yolo_lite.files import is_possible_path, note_large, read_text
from yolo_lite.media.images import read_image_size
from yolo_lite.structures.datasets import DetectionSet, ImageRecord

_FAR = 1e9  # pixels
_LONGEST_NAME = 1000  # characters


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
            unlabelled = _unlabelled(image, names, f"{json_path}: image {image_id}")
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


def annotation_place(source: Path, annotation: Mapping[str, Any]) -> str:
    """Say where an annotation is."""
    return f"{source}: annotation {short(annotation['id']) if 'id' in annotation else '(without id)'}"


def without_root(content: Mapping[str, Any], source: Path) -> tuple[list[Any], tuple[str, ...]]:
    """Return a file's categories without a root or a namesake that no annotation uses, and a line for each left out.

    A root is what Roboflow writes as category 0: others have it as their supercategory. In a file without any annotation
    only a root with the name of another category is left out.
    """
    categories: list[Any] = content["categories"]
    entries = [one for one in categories if _has_id(one, "id")]
    used = {one["category_id"] for one in content["annotations"] if _has_id(one, "category_id")}
    names = Counter(str(one.get("name")) for one in entries)
    taken = {str(one.get("name")) for one in entries if one["id"] in used}
    parents = {str(one.get("supercategory")) for one in entries}
    left_out = {}
    for one in entries:
        name = str(one.get("name"))
        is_root = name in parents and name != str(one.get("supercategory"))  # a class may be its own supercategory
        reason = ""
        if is_root and (used or names[name] > 1):
            reason = "others have it as their supercategory"
        elif name in taken:
            reason = "another has its name"
        if reason and one["id"] not in used:
            left_out[one["id"]] = f"{name!r} (id {one['id']}) is left out: no annotation uses it, and {reason}"
    kept = [one for one in categories if not _has_id(one, "id") or one["id"] not in left_out]
    return kept, tuple(f"{source}: the category {what}" for what in left_out.values())


def is_crowd(annotation: Mapping[str, Any], where: str) -> bool:
    """Tell whether an annotation marks a region of uncounted objects.

    Raises:
        InputError: where `iscrowd` is none of 0, 1, true, false, "0" and "1".
    """
    value = annotation.get("iscrowd", 0)
    if isinstance(value, int | float | str) and value in _CROWD:
        return _CROWD[value]
    raise InputError(f"{where} has iscrowd {value!r:.60}, expected 0 or 1")


_CROWD: dict[int | float | str, bool] = {0: False, 1: True, "0": False, "1": True}


def is_name(value: Any) -> bool:
    """Tell whether a category can be called so: text, or a number as some tools write it."""
    if isinstance(value, str):
        return len(value) <= _LONGEST_NAME and is_text(value)
    return isinstance(value, float) or _is_id(value)


def _is_file_name(value: Any) -> bool:
    return isinstance(value, str) and is_possible_path(value)


def _has_id(entry: Any, key: str) -> bool:
    return isinstance(entry, Mapping) and _is_id(entry.get(key))


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and value.bit_length() < 64


def _labels(categories: Iterable[Any], source: Path) -> tuple[dict[int, int], dict[str, int]]:
    """Map category id to label, in the file's order, and name to category id."""
    labels: dict[int, int] = {}
    ids: dict[str, int] = {}
    by_name: dict[str, int] = {}
    for category in categories:
        if not _has_id(category, "id") or not is_name(category.get("name")):
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
        if not _has_id(image, "id") or not _is_file_name(image.get("file_name")):
            report(InputError(f"{source}: every image needs an integer id and a file_name, got {short(image)}"))
        elif image["id"] in result:
            report(InputError(f"{source}: two images share the id {image['id']}"))
        else:
            result[image["id"]] = image
    return result


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
    if area is None or not _is_number(area) or area <= 0:
        area = (box[2] - box[0]) * (box[3] - box[1])
    own = annotation.get("id")
    number = own if isinstance(own, int) and 0 <= own < 2**63 else -1
    return image_id, _Object(box, labels[category], crowd=is_crowd(annotation, where), area=float(area), number=number)


def annotation_box(annotation: Mapping[str, Any], image: Mapping[str, Any], *, where: str) -> list[float]:
    """Return an annotation's box as xyxy: the one that is written, or that of its polygons or mask.

    Raises:
        InputError: naming `where`, for what is none.
    """
    box = annotation.get("bbox")
    if not box:
        segmentation = annotation.get("segmentation")
        if isinstance(segmentation, Mapping):
            return _mask_box(segmentation, image, where)
        return _polygon_box(segmentation, where)
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(side) for side in box):
        raise InputError(f"{where} has the box {short(box)}, expected four finite numbers x, y, width, height")
    x, y, width, height = (float(side) for side in box)
    if width < 0 or height < 0:
        raise InputError(f"{where} has a box of negative size: width {width:g}, height {height:g}")
    return [x, y, x + width, y + height]


def _polygon_box(segmentation: Any, where: str) -> list[float]:
    polygons = segmentation if isinstance(segmentation, list) else []
    numbers = [value for polygon in polygons for value in (polygon if isinstance(polygon, list) else [polygon])]
    if len(numbers) < 6 or len(numbers) % 2 or not all(_is_number(value) for value in numbers):
        raise InputError(f"{where} has neither a box nor a polygon of finite numbers")
    return [min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])]


def _mask_box(mask: Mapping[str, Any], image: Mapping[str, Any], where: str) -> list[float]:
    try:
        box = rle_box(mask)
    except ValueError as error:
        raise InputError(f"{where} has no box, and its run-length encoded mask cannot be read: {error}") from None
    size = written_size(image)
    if size and list(size) != mask["size"]:
        raise InputError(
            f"{where} has no box, and a mask of {mask['size'][1]} x {mask['size'][0]} pixels for an image of "
            f"{size[1]} x {size[0]}"
        )
    return box


def _is_number(value: Any) -> bool:
    """Tell whether a value is a number that may be a coordinate: finite, and not beyond all pictures."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -_FAR < value < _FAR


def _unlabelled(image: Mapping[str, Any], names: Sequence[str], where: str) -> tuple[int, ...]:
    labelled = image.get("labelled_classes")
    if labelled is None:
        return ()
    if not isinstance(labelled, list) or not set(map(str, labelled)) <= set(names):
        raise InputError(f"{where}: labelled_classes must be a list of the file's categories, got {short(labelled)}")
    return tuple(label for label, name in enumerate(names) if name not in labelled)


def written_size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return (height, width) as an image's entry says; None where it does not, or says 0."""
    height, width = image.get("height"), image.get("width")
    if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0:
        return height, width
    return None


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
    if max(hw) >= _FAR:
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
