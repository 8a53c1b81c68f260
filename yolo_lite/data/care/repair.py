"""Write repaired copies of COCO annotation files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from yolo_lite.data.care.boxes import leaves, lies_outside, unit_faults
from yolo_lite.data.care.convert import Progress
from yolo_lite.data.catalog import find_splits
from yolo_lite.data.classes import shown_classes
from yolo_lite.data.faults import collecting, only_crowd
from yolo_lite.data.formats.coco import CocoSource, parse_coco, read_json
from yolo_lite.data.formats.coco_entries import (
    annotation_box,
    annotation_place,
    is_crowd,
    without_root,
    written_size,
)
from yolo_lite.data.formats.writing import write_text
from yolo_lite.data.names import find_images
from yolo_lite.errors import InputError
from yolo_lite.files import make_folder
from yolo_lite.media.images import read_image

_LISTS = ("images", "annotations", "categories")


def repair(data: str | Path, out: Path, *, on_progress: Progress | None = None) -> dict[str, int]:
    """Write repaired copies of a COCO set's annotation files into a new folder; images stay where they are.

    - An annotation is left out if it has no valid box or a bad `iscrowd`, is a duplicate, lies wholly outside its image, or
      has an unknown image or category. The others are renumbered.
    - Boxes are clipped to their image; masks stay as they are.
    - Images that are unreadable or of another size are left out. Duplicate entries are merged; sizes of 0 are filled in.
    - A root category is left out, and so is an unused category with the name of another.

    Args:
        data: a folder, a YAML file or a COCO JSON file.
        out: the folder for instances_<split>.json.
        on_progress: as for `check_data`.

    Returns:
        For each split, the number of images, annotations and categories left out or changed.

    Raises:
        InputError: if the data is not COCO JSON, a file would be overwritten, or harm would remain, such as boxes in
            another unit; nothing is written then.

    Example:
        >>> repair("my_images", Path("repaired"))  # nothing to repair
        {'train': 0, 'val': 0}
    """
    files = {}
    for split, source in find_splits(Path(data)).items():
        if not isinstance(source, CocoSource):
            raise InputError(f"--fix repairs COCO JSON only; convert {data} with data convert --to coco")
        if (out / f"instances_{split}.json").exists():
            raise InputError(f"{out / f'instances_{split}.json'} exists already; choose another folder")
        files[split] = source
    contents = {
        split: _repaired(source.json_path, source.image_folders, on_progress) for split, source in files.items()
    }
    make_folder(out)
    for split, (content, _) in contents.items():
        write_text(out / f"instances_{split}.json", json.dumps(content))
    return {split: changed for split, (_, changed) in contents.items()}


def coco_fault(content: Any) -> str | None:
    """Return the reason why a file's content is not a COCO annotation file at all, or None if it is one.

    Example:
        >>> coco_fault({"images": []})
        'needs a list of mappings named annotations'
    """
    for key in _LISTS:
        entries = content.get(key) if isinstance(content, Mapping) else None
        if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
            return f"needs a list of mappings named {key}"
        for entry in entries:
            ids = [entry.get(name) for name in ("id", "image_id", "category_id") if name in entry]
            if any(not isinstance(value, int) for value in ids) or (key != "annotations" and "id" not in entry):
                return f"{key}: ids must be whole numbers, got {entry!r:.120}"
            if key == "images" and not isinstance(entry.get("file_name"), str):
                return f"image {entry['id']} has no file_name"
    return None


def _repaired(path: Path, folders: Sequence[Path], on_progress: Progress | None) -> tuple[dict[str, Any], int]:
    """Return the repaired content of an annotation file, and the number of entries left out or changed."""
    content = read_json(path)
    broken = coco_fault(content)
    if broken:
        raise InputError(f"{path} cannot be repaired: {broken}")
    with collecting():
        before = parse_coco({**content, "categories": _used_categories(content, path)}, path, image_folders=folders)
    for _, what in unit_faults(before):
        raise InputError(f"{path} cannot be repaired: {what}")
    categories = _used_categories(content, path)
    images, same = _good_images(content, path, folders=folders, on_progress=on_progress)
    annotations, changed = _good_annotations(
        content, path, images=images, same=same, known={entry["id"] for entry in categories}
    )
    changed += len(content["images"]) - len(images) + len(content["categories"]) - len(categories)
    repaired = {**content, "images": list(images.values()), "annotations": annotations, "categories": categories}
    with collecting() as findings:
        after = parse_coco(repaired, path, image_folders=folders)
    left = [text for text, finding in findings.items() if finding.harms]
    crowd = len(after.records.objects.boxes)
    if not left and not shown_classes(after):
        left = [only_crowd(crowd) if crowd else "no image with an object would be left"]
    if left:
        raise InputError(f"{path} cannot be repaired: {left[0].removeprefix(f'{path}: ')}")
    return repaired, changed


def _used_categories(content: Mapping[str, Any], path: Path) -> list[dict[str, Any]]:
    """Return the categories without a root, and without duplicates."""
    kept: list[dict[str, Any]] = []
    for entry in without_root(content, path)[0]:
        if not any(other["id"] == entry["id"] and other.get("name") == entry.get("name") for other in kept):
            kept.append(entry)
    return kept


def _good_images(
    content: Mapping[str, Any], path: Path, *, folders: Sequence[Path], on_progress: Progress | None
) -> tuple[dict[Any, dict[str, Any]], dict[Any, Any]]:
    """Return the entries of readable images of the right size by id, and for each id the id that is kept."""
    images: dict[Any, dict[str, Any]] = {}
    same: dict[Any, Any] = {}
    by_file: dict[Path, Any] = {}
    files, _ = find_images([entry["file_name"] for entry in content["images"]], folders or [path.parent])
    for number, (entry, file) in enumerate(zip(content["images"], files)):
        if on_progress:
            on_progress(number, len(content["images"]))
        try:
            height, width = read_image(file).shape[:2]
        except InputError:
            continue
        if written_size(entry) in (None, (height, width)) and entry["id"] not in same:
            same[entry["id"]] = by_file.setdefault(file, entry["id"])
            if same[entry["id"]] == entry["id"]:
                images[entry["id"]] = {**entry, "height": height, "width": width}
    return images, same


def _good_annotations(
    content: Mapping[str, Any],
    path: Path,
    *,
    images: Mapping[Any, dict[str, Any]],
    same: Mapping[Any, Any],
    known: set[Any],
) -> tuple[list[dict[str, Any]], int]:
    """Return the annotations to keep, clipped and renumbered, and the number left out or changed."""
    kept: list[dict[str, Any]] = []
    seen: set[tuple[Any, ...]] = set()
    changed = 0
    for entry in content["annotations"]:
        image_id = same.get(entry.get("image_id"))
        box = _good_box(entry, images.get(image_id), path) if entry.get("category_id") in known else None
        key = (image_id, entry.get("category_id"), *(round(side, 2) for side in box or ()))
        if box is None or key in seen:
            changed += 1
            continue
        seen.add(key)
        hw = (images[image_id]["height"], images[image_id]["width"])
        clipped = {}
        if entry.get("bbox") and leaves(box, hw):
            left, top, right, bottom = max(0, box[0]), max(0, box[1]), min(hw[1], box[2]), min(hw[0], box[3])
            clipped = {"bbox": [left, top, right - left, bottom - top]}
        changed += bool(clipped) or image_id != entry["image_id"]
        kept.append({**entry, **clipped, "image_id": image_id, "id": len(kept) + 1})
    return kept, changed


def _good_box(annotation: Mapping[str, Any], image: Mapping[str, Any] | None, path: Path) -> list[float] | None:
    """Return an annotation's box as xyxy; None if it has no valid one."""
    if image is None:
        return None
    where = annotation_place(path, annotation)
    try:
        is_crowd(annotation, where)
        box = annotation_box(annotation, image, where=where)
    except InputError:
        return None
    empty = box[2] <= box[0] or box[3] <= box[1]
    return None if empty or lies_outside(box, (image["height"], image["width"])) else box
