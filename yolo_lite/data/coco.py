"""Read COCO JSON: the one place where category ids become labels."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yolo_lite.data.images import read_image_size
from yolo_lite.errors import InputError
from yolo_lite.files import note_large
from yolo_lite.structures import DetectionSet, ImageRecord

_FAR = 1e9  # pixels


def read_coco(json_path: Path, image_folders: Sequence[Path]) -> DetectionSet:
    """Read an annotation file.

    Labels follow the order of the file's category list. An image may name its `labelled_classes`: of all others, absence
    means nothing there. A polygon without a box becomes its box. Boxes without area
    are dropped and counted.

    Args:
        json_path: with `images`, `annotations` and `categories`.
        image_folders: where file names are looked up, the first that has the file wins. That every picture is there is
            not asked here: scoring a result file needs none (see data.datasets.check_pictures).

    Raises:
        InputError: naming file and annotation, for anything that cannot be what was meant: NaN or negative sizes,
            unknown ids.
    """
    content = read_json(json_path)
    if not isinstance(content, Mapping) or any(
        not isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise InputError(f"{json_path} is not a COCO annotation file: it needs lists images, annotations, categories")
    labels = _labels(content["categories"], json_path)
    names = tuple(str(category["name"]) for category in content["categories"])
    images = _by_id(content["images"], json_path)
    boxes: dict[int, list[tuple[list[float], int, bool, float]]] = {image_id: [] for image_id in images}
    dropped = 0
    for number, annotation in enumerate(content["annotations"]):
        if not isinstance(annotation, Mapping):
            raise InputError(f"{json_path}: entry {number} of annotations is not a mapping, got {annotation!r}")
        where = f"{json_path}: annotation {annotation.get('id', '(without id)')}"
        image_id, category = annotation.get("image_id"), annotation.get("category_id")
        if not isinstance(image_id, int) or image_id not in boxes:
            raise InputError(f"{where} belongs to image {image_id!r}, which the file does not list")
        if not isinstance(category, int) or category not in labels:
            raise InputError(f"{where} has category {category!r}, which the file does not list")
        box = _box(annotation, where)
        if box[2] <= box[0] or box[3] <= box[1]:
            dropped += 1
            continue
        area = annotation.get("area")
        area = (
            float(area) if area is not None and _is_number(area) and area > 0 else (box[2] - box[0]) * (box[3] - box[1])
        )
        boxes[image_id].append((box, labels[category], bool(annotation.get("iscrowd", 0)), area))
    records = []
    for image_id, image in images.items():
        path = _find_image(str(image["file_name"]), image_folders, json_path)
        unlabelled = _unlabelled(image, names, f"{json_path}: image {image_id}")
        records.append(_record(image_id, image, path, boxes[image_id], unlabelled))
    return DetectionSet(tuple(records), names, tuple(labels), str(json_path), dropped)


def read_json(path: Path) -> Any:
    """Read a JSON file; raise InputError naming it, and the line where it breaks."""
    note_large(path)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not valid JSON (line {error.lineno}: {error.msg})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not valid JSON (not UTF-8 text)") from error


def _labels(categories: Iterable[Any], source: Path) -> dict[int, int]:
    """Map category id to label, in the file's order."""
    labels: dict[int, int] = {}
    names = set()
    for label, category in enumerate(categories):
        if not isinstance(category, Mapping) or not isinstance(category.get("id"), int) or "name" not in category:
            raise InputError(f"{source}: every category needs an integer id and a name, got {category!r}")
        if category["id"] in labels or category["name"] in names:
            raise InputError(f"{source}: two categories share the id {category['id']} or the name {category['name']!r}")
        labels[category["id"]] = label
        names.add(category["name"])
    if not labels:
        raise InputError(f"{source} lists no categories")
    return labels


def _by_id(images: Iterable[Any], source: Path) -> dict[int, Mapping[str, Any]]:
    result: dict[int, Mapping[str, Any]] = {}
    for image in images:
        if not isinstance(image, Mapping) or not isinstance(image.get("id"), int) or "file_name" not in image:
            raise InputError(f"{source}: every image needs an integer id and a file_name, got {image!r}")
        if image["id"] in result:
            raise InputError(f"{source}: two images share the id {image['id']}")
        result[image["id"]] = image
    return result


def _box(annotation: Mapping[str, Any], where: str) -> list[float]:
    """Return the annotation's box as xyxy."""
    box = annotation.get("bbox")
    if not box:
        return _polygon_box(annotation.get("segmentation"), where)
    if not isinstance(box, list) or len(box) != 4 or not all(_is_number(side) for side in box):
        raise InputError(f"{where} has the box {box!r}, expected four finite numbers x, y, width, height")
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


def _is_number(value: Any) -> bool:
    """Tell whether a value is a number that may be a coordinate: finite, and not beyond all pictures."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -_FAR < value < _FAR


def _find_image(name: str, folders: Sequence[Path], source: Path) -> Path:
    """Return the first folder's file of that name; where none has it, the place where it should be."""
    places = [folder / name for folder in folders] or [source.parent / name]
    return next((place for place in places if place.is_file()), places[0])


def _unlabelled(image: Mapping[str, Any], names: Sequence[str], where: str) -> tuple[int, ...]:
    labelled = image.get("labelled_classes")
    if labelled is None:
        return ()
    if not isinstance(labelled, list) or not set(map(str, labelled)) <= set(names):
        raise InputError(f"{where}: labelled_classes must be a list of the file's categories, got {labelled!r}")
    return tuple(label for label, name in enumerate(names) if name not in labelled)


def _record(
    image_id: int,
    image: Mapping[str, Any],
    path: Path,
    boxes: list[tuple[list[float], int, bool, float]],
    unlabelled: tuple[int, ...],
) -> ImageRecord:
    height, width = image.get("height"), image.get("width")
    hw = (height, width) if isinstance(height, int) and isinstance(width, int) else read_image_size(path)
    return ImageRecord(
        path,
        image_id,
        hw,
        np.array([box for box, _, _, _ in boxes], np.float64).reshape(-1, 4),
        np.array([label for _, label, _, _ in boxes], np.int64),
        np.array([crowd for _, _, crowd, _ in boxes], np.bool_),
        np.array([area for _, _, _, area in boxes], np.float64),
        unlabelled,
    )
