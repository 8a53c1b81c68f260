"""What a COCO annotation file says of one category, image or annotation."""

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
    """Tell whether an entry has a whole number of at most 63 bits under a key."""
    return isinstance(entry, Mapping) and _is_id(entry.get(key))


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and value.bit_length() < 64


def is_name(value: Any) -> bool:
    """Tell whether a category can be called so: text, or a number as some tools write it."""
    if isinstance(value, str):
        return len(value) <= _LONGEST_NAME and is_text(value)
    return isinstance(value, float) or _is_id(value)


def without_root(content: Mapping[str, Any], source: Path) -> tuple[list[Any], tuple[str, ...]]:
    """Return a file's categories without a root or a namesake that no annotation uses, and a line for each left out.

    A root is what Roboflow writes as category 0: others have it as their supercategory. In a file without any annotation
    only a root with the name of another category is left out.
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
    """Say where an annotation is."""
    return f"{source}: annotation {short(annotation['id']) if 'id' in annotation else '(without id)'}"


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
    """Tell whether a value is a number that may be a coordinate: finite, and not beyond all images."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -FAR < value < FAR


def unlabelled_classes(image: Mapping[str, Any], names: Sequence[str], *, where: str) -> tuple[int, ...]:
    """Return the labels of the classes whose absence means nothing in an image: all but its `labelled_classes`.

    Raises:
        InputError: naming `where`, where these are not among the file's names of categories.
    """
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
