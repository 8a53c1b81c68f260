"""Find what is wrong with a detection set: every fault with its file, picture and annotation, not the first alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from yolo_lite.data.coco import read_coco, read_json
from yolo_lite.data.discover import find_splits
from yolo_lite.data.images import read_image
from yolo_lite.data.write import Progress
from yolo_lite.errors import InputError, counted, some
from yolo_lite.files import make_folder, write_atomically
from yolo_lite.structures import DetectionSet

_LISTS = ("images", "annotations", "categories")
_TOLERANCE = 1.0  # pixels by which a box may leave its picture, as rounding does


class Fault(NamedTuple):
    """One thing that is wrong."""

    split: str
    where: str  # file, picture, annotation
    what: str
    harms: bool  # training would stop at it, or learn something wrong


def check_data(data: str | Path, on_progress: Progress | None = None) -> list[Fault]:
    """Look at every split of a data set.

    Of COCO files every annotation is looked at by itself; of other layouts reading stops at the first line that cannot be
    read, which is reported. Then every picture is decoded, boxes are compared with it, and pictures that are in two
    splits are found by the bytes of their files.

    Args:
        data: a folder, a YAML file or a COCO JSON file.
        on_progress: called before each picture, and counts anew for each split.

    Raises:
        InputError: where nothing is recognised.
    """
    faults: list[Fault] = []
    contents: dict[str, tuple[str, Path]] = {}  # by sha256: the split and file where it was first
    try:
        splits = find_splits(Path(data))
    except InputError as error:
        if not Path(data).exists() or "is no data set" in str(error):
            raise
        return [Fault("all", str(data), str(error), True)]
    for split, read in splits.items():
        source = coco_source(read)
        if source:
            faults += _check_coco(split, source[0])
        try:
            loaded: DetectionSet = read()
        except InputError as error:
            if not any(fault.harms and fault.split == split for fault in faults):
                faults.append(Fault(split, str(error).split(":")[0], str(error), True))
            continue
        faults += _check_pictures(split, loaded, contents, on_progress)
        faults += _check_classes(split, loaded)
    return faults


def repair(data: str | Path, out: Path, on_progress: Progress | None = None) -> dict[str, int]:
    """Write repaired copies of a COCO set's annotation files into a new folder; pictures stay where they are.

    Annotations without a good box, of unknown pictures or categories, twice the same, or wholly outside their picture are
    left out, boxes are clipped to their picture (masks stay as they are), pictures that cannot be read or are of another
    size are left out. Annotations are numbered anew. The files are called instances_<split>.json. `on_progress` is that of
    `check_data`.

    Returns:
        For each split how many annotations were left out or changed.

    Raises:
        InputError: where the data is not COCO JSON, or a file would be replaced.
    """
    counts = {}
    files = {}
    for split, read in find_splits(Path(data)).items():
        source = coco_source(read)
        if not source:
            raise InputError(f"--fix repairs COCO JSON only; turn {data} into it with data convert --to coco")
        if (out / f"instances_{split}.json").exists():
            raise InputError(f"{out / f'instances_{split}.json'} exists already; choose another folder")
        files[split] = source
    for split, (json_path, folders) in files.items():
        target = out / f"instances_{split}.json"
        content, changed = _repaired(json_path, folders, on_progress)
        make_folder(out)
        text = json.dumps(content)
        write_atomically(target, lambda part, text=text: part.write_text(text, encoding="utf-8"))  # type: ignore[misc]
        counts[split] = changed
    return counts


def coco_source(read: Callable[[], DetectionSet]) -> tuple[Path, Sequence[Path]] | None:
    """Return the annotation file and the folders of pictures of a split of `find_splits`; None where it is not COCO JSON."""
    if isinstance(read, partial) and read.func is read_coco:
        json_path, folders = read.args
        return json_path, folders
    return None


def _check_coco(split: str, path: Path) -> Iterator[Fault]:
    content = read_json(path)
    broken = coco_fault(content)
    if broken:
        yield Fault(split, str(path), broken, True)
        return
    images, annotations, categories = (content[key] for key in _LISTS)
    for key in _LISTS:
        yield from _twice(split, path, key, [one.get("id") for one in content[key]])
    sizes = {one.get("id"): (one.get("width"), one.get("height")) for one in images}
    known = {one.get("id") for one in categories}
    seen: set[tuple[Any, ...]] = set()
    for one in annotations:
        what = _annotation_fault(one, sizes, known)
        if what:
            yield Fault(split, _where(path, one), *what)
            continue
        box = tuple(one.get("bbox") or ())
        same = (one["image_id"], one["category_id"], *box)
        if box and same in seen:
            yield Fault(
                split, _where(path, one), f"the same box of the same category in image {one['image_id']} twice", True
            )
        seen.add(same)


def _where(path: Path, annotation: Mapping[str, Any]) -> str:
    return f"{path}: annotation {annotation.get('id', '(without id)')}"


def coco_fault(content: Any) -> str | None:
    """Return what keeps a file from being a COCO annotation file at all."""
    for key in _LISTS:
        entries = content.get(key) if isinstance(content, Mapping) else None
        if not isinstance(entries, list) or not all(isinstance(one, Mapping) for one in entries):
            return f"needs a list of mappings named {key}"
        for one in entries:
            ids = [one.get(name) for name in ("id", "image_id", "category_id") if name in one]
            if any(not isinstance(value, int) for value in ids) or (key != "annotations" and "id" not in one):
                return f"{key}: ids must be whole numbers, got {one!r:.120}"
            if key == "images" and not isinstance(one.get("file_name"), str):
                return f"image {one['id']} has no file_name"
    return None


def _annotation_fault(
    one: Mapping[str, Any], sizes: Mapping[Any, tuple[Any, Any]], known: set[Any]
) -> tuple[str, bool] | None:
    """Return what is wrong with an annotation, and whether it harms; None for a good one."""
    if one.get("image_id") not in sizes:
        return f"belongs to image {one.get('image_id')!r}, which the file does not list", True
    if one.get("category_id") not in known:
        return f"has category {one.get('category_id')!r}, which the file does not list", True
    box = one.get("bbox")
    if not box:
        return None if one.get("segmentation") else ("has neither a box nor a polygon", True)
    numbers = isinstance(box, list) and len(box) == 4 and all(isinstance(side, int | float) for side in box)
    if not numbers or any(side != side or abs(side) > 1e9 for side in box):
        return f"has the box {box!r}, expected four finite numbers x, y, width, height", True
    x, y, width, height = box
    if width <= 0 or height <= 0:
        return f"has a box without area: {width:g} x {height:g}", width < 0 or height < 0
    right, bottom = sizes[one["image_id"]]
    if not isinstance(right, int) or not isinstance(bottom, int):
        return None
    if x >= right or y >= bottom or x + width <= 0 or y + height <= 0:
        return f"lies wholly outside its picture of {right} x {bottom} pixels: {box}", True
    if min(x, y) < -_TOLERANCE or x + width > right + _TOLERANCE or y + height > bottom + _TOLERANCE:
        return f"leaves its picture of {right} x {bottom} pixels: {box}", False
    return None


def _twice(split: str, path: Path, kind: str, ids: Sequence[Any]) -> Iterator[Fault]:
    seen: set[Any] = set()
    for one in ids:
        if one in seen and one is not None:
            yield Fault(split, f"{path}: {kind}", f"two have the id {one}", True)
        seen.add(one)


def _check_pictures(
    split: str, data: DetectionSet, contents: dict[str, tuple[str, Path]], on_progress: Progress | None
) -> Iterator[Fault]:
    for number, record in enumerate(data.records):
        if on_progress:
            on_progress(number, len(data.records))
        where = str(record.path)
        try:
            hw = read_image(record.path).shape[:2]
        except InputError as error:
            yield Fault(split, where, str(error), True)
            continue
        if hw != record.hw:
            told = f"is {hw[1]} x {hw[0]}, its annotations are for {record.hw[1]} x {record.hw[0]}"
            turned = "; width and height are swapped: does EXIF turn it?" if hw == record.hw[::-1] else ""
            yield Fault(split, where, told + turned, True)
        digest = hashlib.sha256(record.path.read_bytes()).hexdigest()
        first = contents.setdefault(digest, (split, record.path))
        if first != (split, record.path):
            again = f"is the same picture as {first[1]}"
            yield Fault(split, where, f"{again} in {first[0]}" if first[0] != split else again, first[0] != split)
    if data.dropped:
        yield Fault(split, data.source, f"{counted(data.dropped, 'box', 'boxes')} without area left out", False)


def _check_classes(split: str, data: DetectionSet) -> Iterator[Fault]:
    used = {int(label) for record in data.records for label in record.labels}
    unused = [name for label, name in enumerate(data.class_names) if label not in used]
    if unused:
        yield Fault(split, data.source, f"no object of {some(unused)}", False)


def _repaired(path: Path, folders: Sequence[Path], on_progress: Progress | None) -> tuple[dict[str, Any], int]:
    content = read_json(path)
    broken = coco_fault(content)
    if broken:
        raise InputError(f"{path} cannot be repaired: {broken}")
    images: dict[Any, dict[str, Any]] = {}
    for number, one in enumerate(content["images"]):
        if on_progress:
            on_progress(number, len(content["images"]))
        file = next((folder / one["file_name"] for folder in folders if (folder / one["file_name"]).is_file()), None)
        try:
            hw = read_image(file).shape[:2] if file else None
        except InputError:
            hw = None
        written = (one.get("height"), one.get("width"))
        if hw and (hw == written or None in written):
            images.setdefault(one["id"], {**one, "height": hw[0], "width": hw[1]})
    sizes = {image_id: (one["width"], one["height"]) for image_id, one in images.items()}
    known = {one["id"] for one in content["categories"]}
    kept: list[dict[str, Any]] = []
    seen: set[tuple[Any, ...]] = set()
    changed = 0
    for one in content["annotations"]:
        fault = _annotation_fault(one, sizes, known)
        key = (one.get("image_id"), one.get("category_id"), *(one.get("bbox") or (one.get("id"),)))
        if (fault and not fault[0].startswith("leaves")) or key in seen:
            changed += 1
            continue
        seen.add(key)
        if fault:
            changed += 1
            width, height = sizes[one["image_id"]]
            x, y, w, h = one["bbox"]
            left, top, right, bottom = max(0, x), max(0, y), min(width, x + w), min(height, y + h)
            one = {**one, "bbox": [left, top, right - left, bottom - top]}
        kept.append({**one, "id": len(kept) + 1})
    return {**content, "images": list(images.values()), "annotations": kept}, changed
