"""Interpret single entries of a COCO annotation file: a category, an image or an annotation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yolo_lite.data.formats.rle import rle_box
from yolo_lite.errors import InputError, is_text, short

FAR = 1e9  # pixels, beyond all images
_LONGEST_NAME = 1000  # characters


def has_id(entry: Any, key: str) -> bool:
    """Return whether an entry has a whole number of at most 63 bits under a key.

    Example:
        >>> has_id({"id": 3}, "id"), has_id({"id": "3"}, "id")
        (True, False)
    """
    return isinstance(entry, Mapping) and _is_id(entry.get(key))


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and value.bit_length() < 64


def is_name(value: Any) -> bool:
    """Return whether a value can name a category: text, or a number as some tools write it.

    Example:
        >>> is_name("cat"), is_name(7), is_name(["cat"])
        (True, True, False)
    """
    if isinstance(value, str):
        return len(value) <= _LONGEST_NAME and is_text(value)
    return isinstance(value, float) or _is_id(value)


def without_root(content: Mapping[str, Any], source: Path) -> tuple[list[Any], tuple[str, ...]]:
    """Return a file's categories without unused roots and unused namesakes, and a note about each one left out.

    Roboflow writes a root as category 0; the other categories name it as their supercategory. In a file without
    annotations, a root is left out only if another category has its name.

    Example:
        >>> pets, cat = {"id": 0, "name": "pets", "supercategory": "none"}, {"id": 1, "name": "cat", "supercategory": "pets"}
        >>> kept, notes = without_root({"categories": [pets, cat], "annotations": [{"category_id": 1}]}, Path("a.json"))
        >>> [category["name"] for category in kept]
        ['cat']
    """
    categories: list[Any] = content["categories"]
    entries = [category for category in categories if has_id(category, "id")]
    used = {entry["category_id"] for entry in content["annotations"] if has_id(entry, "category_id")}
    names = Counter(str(category.get("name")) for category in entries)
    taken = {str(category.get("name")) for category in entries if category["id"] in used}
    parents = {str(category.get("supercategory")) for category in entries}
    left_out = {}
    for category in entries:
        name = str(category.get("name"))
        is_root = name in parents and name != str(category.get("supercategory"))  # a class may be its own supercategory
        reason = ""
        if is_root and (used or names[name] > 1):
            reason = "others have it as their supercategory"
        elif name in taken:
            reason = "another has its name"
        if reason and category["id"] not in used:
            left_out[category["id"]] = (
                f"{name!r} (id {category['id']}) is left out: no annotation uses it, and {reason}"
            )
    kept = [category for category in categories if not has_id(category, "id") or category["id"] not in left_out]
    return kept, tuple(f"{source}: the category {what}" for what in left_out.values())


def annotation_place(source: Path, annotation: Mapping[str, Any]) -> str:
    """Return the place of an annotation, for messages.

    Example:
        >>> annotation_place(Path("a.json"), {"id": 3})
        'a.json: annotation 3'
    """
    return f"{source}: annotation {short(annotation['id']) if 'id' in annotation else '(without id)'}"


def is_crowd(annotation: Mapping[str, Any], where: str) -> bool:
    """Return whether an annotation marks a region of uncounted objects.

    Raises:
        InputError: if `iscrowd` is none of 0, 1, true, false, "0" and "1".

    Example:
        >>> is_crowd({"iscrowd": 1}, "annotation 3"), is_crowd({}, "annotation 4")
        (True, False)
    """
    value = annotation.get("iscrowd", 0)
    if isinstance(value, int | float | str) and value in _CROWD:
        return _CROWD[value]
    raise InputError(f"{where} has iscrowd {value!r:.60}, expected 0 or 1")


_CROWD: dict[int | float | str, bool] = {0: False, 1: True, "0": False, "1": True}


def annotation_box(annotation: Mapping[str, Any], image: Mapping[str, Any], *, where: str) -> list[float]:
    """Return an annotation's box as xyxy in pixels: the box as written, else the box of its polygons or mask.

    Raises:
        InputError: if there is no valid box; the message begins with `where`.

    Example:
        >>> annotation_box({"bbox": [1, 2, 3, 4]}, {}, where="annotation 3")
        [1.0, 2.0, 4.0, 6.0]
    """
    box = annotation.get("bbox")
    if not box:
        segmentation = annotation.get("segmentation")
        if isinstance(segmentation, Mapping):
            return _mask_box(segmentation, image, where)
        return _polygon_box(segmentation, where)
    if not isinstance(box, list) or len(box) != 4 or not all(is_number(side) for side in box):
        raise InputError(f"{where} has the box {short(box)}, expected four finite numbers x, y, width, height")
    x, y, width, height = (float(side) for side in box)
    if width < 0 or height < 0:
        raise InputError(f"{where} has a box of negative size: width {width:g}, height {height:g}")
    return [x, y, x + width, y + height]


def _polygon_box(segmentation: Any, where: str) -> list[float]:
    polygons = segmentation if isinstance(segmentation, list) else []
    numbers = [value for polygon in polygons for value in (polygon if isinstance(polygon, list) else [polygon])]
    if len(numbers) < 6 or len(numbers) % 2 or not all(is_number(value) for value in numbers):
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


def is_number(value: Any) -> bool:
    """Return whether a value can be a coordinate: a finite number, not far beyond any image.

    Example:
        >>> is_number(1.5), is_number(float("nan")), is_number("1")
        (True, False, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and -FAR < value < FAR


def unlabelled_classes(image: Mapping[str, Any], names: Sequence[str], *, where: str) -> tuple[int, ...]:
    """Return the labels of all classes but an image's `labelled_classes`: the absence of these means nothing.

    Raises:
        InputError: if `labelled_classes` is not a list of the file's categories; the message begins with `where`.

    Example:
        >>> unlabelled_classes({"labelled_classes": ["cat"]}, ["cat", "dog"], where="image 1")
        (1,)
    """
    labelled = image.get("labelled_classes")
    if labelled is None:
        return ()
    if not isinstance(labelled, list) or not set(map(str, labelled)) <= set(names):
        raise InputError(f"{where}: labelled_classes must be a list of the file's categories, got {short(labelled)}")
    return tuple(label for label, name in enumerate(names) if name not in labelled)


def written_size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return (height, width) as an image's entry gives it; None if either is missing or 0.

    Example:
        >>> written_size({"height": 4, "width": 6}), written_size({"height": 0, "width": 6})
        ((4, 6), None)
    """
    height, width = image.get("height"), image.get("width")
    if isinstance(height, int) and isinstance(width, int) and min(height, width) > 0:
        return height, width
    return None
