"""Draw a small data set from a large one, and keep everything in its annotations."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import IO, Any, NamedTuple

import numpy as np

from yolo_lite.data.care.convert import Progress, check_new, file_names, place_images
from yolo_lite.data.care.repair import coco_fault
from yolo_lite.data.catalog import find_splits
from yolo_lite.data.entries import canonical_split
from yolo_lite.data.formats.coco import CocoSource, coco_content, lost_outlines, read_json
from yolo_lite.data.formats.coco_entries import annotation_place, is_crowd, is_name, without_root
from yolo_lite.data.names import find_images
from yolo_lite.data.splits import read_splits
from yolo_lite.errors import InputError, are, counted, some, suggest
from yolo_lite.files import is_possible_path, make_folder, whole_folder, write_atomically

Content = dict[str, Any]  # of a COCO annotation file


@dataclass(frozen=True)
class Choice:
    """Which images of a split to take, and which of their annotations.

    An image shows a class if an object of it is marked; a crowd region alone does not count.

    Attributes:
        images: maximum number of images, drawn by the seed; a smaller number yields a subset of a larger one.
        classes: only these classes, and only images that show one of them; empty for all.
        per_class: draw images until each class is shown in this many, or in all that show it.
        seed: seed of the draw.
    """

    images: int | None = None
    classes: tuple[str, ...] = ()
    per_class: int | None = None
    seed: int = 0


def write_subset(
    data: str | Path,
    out: Path,
    *,
    choice: Choice,
    splits: Sequence[str] = (),
    link: bool = True,
    on_progress: Progress | None = None,
) -> list[str]:
    """Write a part of a data set into a new folder: annotations/instances_<split>.json and images/<split>.

    Every chosen entry of COCO JSON stays as it is, key by key. Other layouts are converted to COCO JSON first.

    Args:
        data: a folder, a YAML file or a COCO JSON file.
        out: a new or empty folder.
        choice: what to take from each split.
        splits: names of splits; empty for all.
        link: make hard links to the images if the disk allows it, instead of copies.
        on_progress: called after each image.

    Returns:
        Notes about what was taken, and whether there was less than asked for.

    Raises:
        InputError: if the folder is not empty, a split or class does not exist, no image shows any of the classes,
            annotations refer to entries that do not exist, or a chosen image is missing; nothing is written then.

    Example:
        >>> write_subset("my_images", Path("subset"), choice=Choice(images=2), splits=["train"])
        ['train: 2 of 6 images, 4 of 12 annotations, 2 of 2 classes']
    """
    check_new(out)
    parts: dict[str, Content] = {}
    files: dict[Path, Path] = {}
    lines, names = [], []
    for split, whole in _read(Path(data), splits):
        names += [str(category["name"]) for category in whole.content["categories"]]
        part, notes = choose(whole.content, choice)
        lines += [f"{split}: {note}" for note in [*whole.notes, *notes]]
        if not part["images"]:
            lines.append(f"{split}: nothing to take, the split is left out")
            continue
        parts[split] = _with_safe_names(part)
        _add_files(files, out / "images" / split, images=map(whole.find, part["images"]), part=parts[split])
    _refuse_empty(parts, choice, names=names, data=data)
    _refuse_missing(list(files.values()), data)
    with whole_folder(out) as folder:
        placed = {folder / target.relative_to(out): source for target, source in files.items()}
        _write_all(parts, placed, out=folder, link=link, on_progress=on_progress)
    return lines


def _refuse_empty(parts: Mapping[str, Content], choice: Choice, *, names: Sequence[str], data: str | Path) -> None:
    unknown = [name for name in choice.classes if name not in names]
    if unknown:
        raise InputError(f"{data} has no class {unknown[0]!r}; {suggest(unknown[0], dict.fromkeys(names))}")
    if not parts:
        raise InputError(f"{data}: no image shows {some(choice.classes or names)}; nothing is written")


def _refuse_missing(files: Sequence[Path], data: str | Path) -> None:
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise InputError(
            f"{len(missing):,} of {counted(len(files), 'chosen image')} of {data} {are(len(missing))} missing; the first "
            f"was looked for at {missing[0]}"
        )


def _write_all(
    parts: Mapping[str, Content], files: Mapping[Path, Path], *, out: Path, link: bool, on_progress: Progress | None
) -> None:
    for folder in dict.fromkeys(target.parent for target in files):
        make_folder(folder)
    place_images(files, link, on_progress=on_progress)
    make_folder(out / "annotations")
    for split, part in parts.items():
        write_atomically(out / "annotations" / f"instances_{split}.json", partial(_write, content=part))


def choose(content: Content, choice: Choice) -> tuple[Content, list[str]]:
    """Return the chosen part of a COCO annotation file's content, in the file's order, with notes about it.

    Classes that the file does not have are ignored. The input is not modified, but the result shares its entries.

    Raises:
        InputError: if an annotation refers to an image or a category that the file does not list.

    Example:
        >>> content = read_json(Path("my_images/annotations/instances_train.json"))
        >>> part, notes = choose(content, Choice(images=2))
        >>> len(part["images"]), notes
        (2, ['2 of 6 images, 4 of 12 annotations, 2 of 2 classes'])
    """
    categories = content["categories"]
    if choice.classes:
        categories = [entry for entry in categories if str(entry["name"]) in choice.classes]
    wanted = {entry["id"]: str(entry["name"]) for entry in categories}
    shown = _shown(content, wanted)
    pool = [image_id for image_id in shown if shown[image_id] or not choice.classes]
    generator = np.random.default_rng([choice.seed, 3])  # data.divide uses 1 and 2
    drawn = [pool[i] for i in generator.permutation(len(pool)).tolist()]
    if choice.per_class is None:
        kept = set(drawn[: choice.images])
        notes = _too_few(len(pool), choice)
    else:
        kept = _cover(drawn, shown, per_class=choice.per_class, most=choice.images)
        notes = _short(kept, shown, wanted=wanted, choice=choice)
    images = [entry for entry in content["images"] if entry["id"] in kept]
    if choice.classes:
        images = [_labelled(entry, choice.classes) for entry in images]
    annotations = [a for a in content["annotations"] if a["image_id"] in kept and a["category_id"] in wanted]
    notes.append(
        f"{len(images):,} of {counted(len(content['images']), 'image')}, {len(annotations):,} of "
        f"{counted(len(content['annotations']), 'annotation')}, "
        f"{len(categories):,} of {counted(len(content['categories']), 'class', plural='classes')}"
    )
    return {**content, "images": images, "annotations": annotations, "categories": categories}, notes


class _Whole(NamedTuple):
    """A split before the choice."""

    content: Content
    find: Callable[[Mapping[str, Any]], Path]  # the file of an image entry
    notes: Sequence[str]


def _read(data: Path, splits: Sequence[str]) -> Iterator[tuple[str, _Whole]]:
    """Read the splits one after another, so that only one whole annotation file is in memory at a time."""
    sources = find_splits(data)
    for split in splits:
        if canonical_split(split) not in sources:
            raise InputError(f"{data} has no split {split!r}; found {', '.join(sources)}")
    wanted = list(dict.fromkeys(map(canonical_split, splits))) or list(sources)
    files = {split: source for split, source in sources.items() if isinstance(source, CocoSource)}
    if len(files) == len(sources):
        for split in wanted:
            yield split, _coco(files[split].json_path, files[split].image_folders)
        return
    sets = read_splits(data)
    names = file_names(sets, across=False)
    for split in wanted if splits else sets:
        if split not in sets:
            sources[split].read()  # raises: this is a test split that does not exist
        paths = {record.image_id: record.path for record in sets[split].records}
        notes = [*sets[split].notes, *lost_outlines({split: sets[split]})]
        yield split, _Whole(coco_content(split, sets[split], names=names), partial(_path_of, paths), notes)


def _path_of(paths: Mapping[int, Path], entry: Mapping[str, Any]) -> Path:
    return paths[entry["id"]]


def _coco(json_path: Path, folders: Sequence[Path]) -> _Whole:
    content = read_json(json_path)
    fault = coco_fault(content)
    if not fault and not all(is_name(entry.get("name")) for entry in content["categories"]):
        fault = "every category needs a name"
    if not fault and not all(is_possible_path(entry["file_name"]) for entry in content["images"]):
        fault = "every image needs a file_name that a file can have"
    if not fault and len({entry["id"] for entry in content["images"]}) < len(content["images"]):
        fault = "two images share an id"
    if fault:
        raise InputError(f"{json_path} cannot be divided: {fault}; run data check for details")
    categories, notes = without_root(content, json_path)
    ids = {entry["id"] for entry in content["images"]}, {entry["id"] for entry in categories}
    for entry in content["annotations"]:
        where = annotation_place(json_path, entry)
        is_crowd(entry, where)
        for key, known in zip(("image_id", "category_id"), ids):
            if entry.get(key) not in known:
                raise InputError(
                    f"{where} has the {key} {entry.get(key)!r}, which the file does not list; try data check"
                )

    places = folders or [json_path.parent]
    files, spelled = find_images([entry["file_name"] for entry in content["images"]], places)
    paths = {entry["id"]: file for entry, file in zip(content["images"], files)}
    images = [_as_on_disk(entry, file, places) for entry, file in zip(content["images"], files)]
    content, joined = _joined({**content, "categories": categories, "images": images}, paths, json_path)
    return _Whole(content, lambda entry: paths[entry["id"]], [*notes, *spelled, *joined])


def _joined(content: Content, paths: Mapping[Any, Path], json_path: Path) -> tuple[Content, list[str]]:
    """Merge the entries of an image that mark different objects: a draw could otherwise take only one of them.

    Entries that mark the same objects stay, as in training.
    """
    by_file: dict[Path, list[Any]] = {}
    for image_id, path in paths.items():
        by_file.setdefault(path, []).append(image_id)
    several = {image_id for image_ids in by_file.values() if len(image_ids) > 1 for image_id in image_ids}
    marked: dict[Any, set[str]] = {image_id: set() for image_id in several}
    for entry in content["annotations"]:
        if entry["image_id"] in several:
            marked[entry["image_id"]].add(_mark(entry))
    groups = [
        image_ids
        for image_ids in by_file.values()
        if len(image_ids) > 1 and len({frozenset(marked[image_id]) for image_id in image_ids}) > 1
    ]
    if not groups:
        return content, []
    first = {image_id: image_ids[0] for image_ids in groups for image_id in image_ids}
    annotations, seen = [], set()
    for entry in content["annotations"]:
        image_id = entry["image_id"]
        key = (first.get(image_id), _mark(entry)) if image_id in first else None
        if key is None or key not in seen:
            annotations.append({**entry, "image_id": first[image_id]} if key else entry)
            seen.add(key)
    images = [entry for entry in content["images"] if first.get(entry["id"], entry["id"]) == entry["id"]]
    note = (
        f"{counted(len(groups), 'image')} that {json_path} lists more than once {are(len(groups))} taken once, with the "
        f"annotations of all entries; the first is {paths[groups[0][0]]}"
    )
    return {**content, "images": images, "annotations": annotations}, [note]


def _mark(annotation: Mapping[str, Any]) -> str:
    """Return a key that two annotations of one object share."""
    return json.dumps([annotation.get(key) for key in ("category_id", "bbox", "segmentation")])


def _as_on_disk(image: Mapping[str, Any], file: Path, folders: Sequence[Path]) -> Mapping[str, Any]:
    """Return an image's entry with its file's actual name, if it was found under another spelling."""
    if any(folder / image["file_name"] == file for folder in folders):
        return image
    folder = next((folder for folder in folders if file.is_relative_to(folder)), file.parent)
    return {**image, "file_name": file.relative_to(folder).as_posix()}


def _shown(content: Content, wanted: Mapping[int, str]) -> dict[int, set[int]]:
    """Return the wanted categories that each image shows."""
    shown: dict[int, set[int]] = {image["id"]: set() for image in content["images"]}
    for entry in content["annotations"]:
        if entry["category_id"] in wanted and not is_crowd(entry, annotation_place(Path(), entry)):
            shown[entry["image_id"]].add(entry["category_id"])
    return shown


def _too_few(there: int, choice: Choice) -> list[str]:
    if choice.images is None or choice.images <= there:
        return []
    what = counted(there, "image")
    what += f" that {'shows' if there == 1 else 'show'} {some(choice.classes)}" if choice.classes else ""
    return [f"{choice.images:,} {are(choice.images)} asked for, but there {are(there)} only {what}: all are taken"]


def _counts(images: Sequence[int] | set[int], shown: Mapping[int, set[int]]) -> dict[int, int]:
    """Count the images that show each category."""
    counts: dict[int, int] = {}
    for image_id in images:
        for category in shown[image_id]:
            counts[category] = counts.get(category, 0) + 1
    return counts


def _cover(drawn: Sequence[int], shown: Mapping[int, set[int]], *, per_class: int, most: int | None) -> set[int]:
    """Take images in the order drawn until each category is shown in `per_class` images; rare categories choose first."""
    there = _counts(drawn, shown)
    has = dict.fromkeys(there, 0)
    kept: set[int] = set()
    for category in sorted(there, key=lambda category: (there[category], category)):
        for image_id in drawn:
            if has[category] >= per_class or (most is not None and len(kept) >= most):
                break
            if category in shown[image_id] and image_id not in kept:
                kept.add(image_id)
                for other in shown[image_id]:
                    has[other] += 1
    return kept


def _short(kept: set[int], shown: Mapping[int, set[int]], *, wanted: Mapping[int, str], choice: Choice) -> list[str]:
    """Return notes about classes shown in fewer images than --per-class asks for, and why."""
    there, has = _counts(list(shown), shown), _counts(kept, shown)
    per_class = choice.per_class or 0
    rare = [f"{name} ({there.get(i, 0)})" for i, name in wanted.items() if there.get(i, 0) < per_class]
    cut = [f"{name} ({has.get(i, 0)})" for i, name in wanted.items() if has.get(i, 0) < min(per_class, there.get(i, 0))]
    notes = [f"shown in fewer than {counted(per_class, 'image')}: {some(rare)}"] if rare else []
    return [*notes, f"{counted(choice.images or 0, 'image')} are too few for {some(cut)}"] if cut else notes


def _labelled(image: Mapping[str, Any], classes: Sequence[str]) -> Mapping[str, Any]:
    """Remove from an image's `labelled_classes` those that its file will no longer list."""
    labelled = image.get("labelled_classes")
    if not isinstance(labelled, list):
        return image
    return {**image, "labelled_classes": [name for name in labelled if str(name) in classes]}


def _with_safe_names(part: Content) -> Content:
    """Change names that would lead out of the image folder, such as /data/a.jpg or ../a.jpg, so that they stay inside."""
    images = []
    for entry in part["images"]:
        path = PurePath(entry["file_name"])
        if path.anchor or ".." in path.parts:
            inside = PurePath(*(name for name in path.parts if name not in (path.anchor, "..")))
            entry = {**entry, "file_name": inside.as_posix()}
        images.append(entry)
    return {**part, "images": images}


def _add_files(files: dict[Path, Path], folder: Path, *, images: Iterable[Path], part: Content) -> None:
    for source, entry in zip(images, part["images"]):
        target = folder / entry["file_name"]
        first = files.setdefault(target, source)
        if first != source:
            raise InputError(f"{first} and {source} would both become {target}; give one another file_name")


def _write(path: Path, content: Content) -> None:
    """Write JSON with one line per image and annotation, so that the text of a large file is never whole in memory."""
    with path.open("w", encoding="utf-8") as file:
        for number, (key, value) in enumerate(content.items()):
            file.write(("{" if number == 0 else ",\n") + json.dumps(key) + ": ")
            if isinstance(value, list):
                _write_lines(file, value)
            else:
                file.write(json.dumps(value))
        file.write("}\n")


def _write_lines(file: IO[str], entries: Sequence[Any]) -> None:
    file.write("[")
    for number, entry in enumerate(entries):
        file.write(("\n" if number == 0 else ",\n") + json.dumps(entry))
    file.write("]")
