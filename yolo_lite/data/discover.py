"""Recognise what a data folder or YAML file holds, and read its splits.

A folder is, in this order:

- COCO JSON: `annotations/instances_<split>.json`, or `<split>/_annotations.coco.json`;
- YOLO txt: `images/` and `labels/`, class names in `data.yaml`;
- PASCAL VOC XML: `Annotations/*.xml`, pictures in `JPEGImages/`, splits in `ImageSets/Main/<split>.txt`; or
  `<split>/*.xml` beside the pictures.

A YAML file with `names` describes YOLO txt; any other names sets of its own:

    classes: [person, car]            # optional: only these
    train: [voc5, coco_mini]          # folders (their split of that name is meant), JSON files, or {json:, images:}
    val: voc5                         # several sets are merged by class name

An annotation file by itself (JSON) will do too.
Paths are relative to the YAML file, then to the working folder; $VARIABLES in them are expanded.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import numpy as np

from yolo_lite.config.read import read_yaml
from yolo_lite.data.formats.coco import read_coco
from yolo_lite.data.formats.voc import read_voc, voc_class_names, without_xml
from yolo_lite.data.formats.yolo import read_yolo_txt
from yolo_lite.data.names import composed, variants
from yolo_lite.data.repeats import join_repeats, repeats, same_objects
from yolo_lite.errors import InputError, are, counted, is_text, short, some, suggest
from yolo_lite.files import check_readable, is_possible_path, read_text
from yolo_lite.media.folders import images_below, is_hidden, listed, walk
from yolo_lite.media.images import IMAGE_SUFFIXES, read_image_size
from yolo_lite.structures.datasets import DetectionSet, ImageRecord

Splits = dict[str, Callable[[], DetectionSet]]
_SYNONYMS = {"training": "train", "valid": "val", "validation": "val", "testing": "test"}
_LAYOUTS = (
    "annotations/instances_*.json (COCO), <split>/_annotations.coco.json (COCO), images/ and labels/ with class names "
    "in data.yaml (YOLO txt), Annotations/*.xml or <split>/*.xml (PASCAL VOC)"
)
_YOLO_FILES = ("data.yaml", "data.yml", "dataset.yaml")
_HELD_OUT = 0.1
_LONGEST_NAME = 1000  # characters


class MissingError(InputError):
    """A place that a data set names does not exist."""


def read_split(
    data: str | Path, split: str, *, classes: Sequence[str] | None = None, difficult: bool = False
) -> DetectionSet:
    """Read one split of a folder or YAML file; with `difficult` PASCAL VOC's difficult objects count as others do.

    Raises:
        InputError: where nothing is recognised, the split does not exist or is empty, or an annotation is bad.
    """
    splits = find_splits(Path(data), difficult)
    if Path(data).suffix == ".json":
        return _read(splits, "train", classes)  # one annotation file is whatever split is asked for
    if canonical_split(split) not in splits:
        raise InputError(f"{data} has no split {split!r}; found {', '.join(splits)}")
    return _read(splits, canonical_split(split), classes)


def read_split_or_held_out(
    data: str | Path,
    split: str,
    *,
    classes: Sequence[str] | None,
    seed: int,
    trained_on: str = "",
    difficult: bool = False,
) -> tuple[DetectionSet, list[str]]:
    """Read a split, or, where val is asked for and there is none, the pictures that training with this seed sets aside.

    An annotation file by itself is scored whole, unless it is what the weights were trained on.

    Returns:
        The set, and lines that say what was done in reading it, and so in the second case.
    """
    splits = find_splits(Path(data), difficult)
    own = canonical_split(split) != "val" or "val" in splits or "train" not in splits
    if own or (Path(data).suffix == ".json" and str(data) != trained_on):
        whole = read_split(data, split, classes=classes, difficult=difficult)
        return whole, list(whole.notes)
    _, held = _hold_out(_read(splits, "train", classes), seed)
    return held, [
        *held.notes,
        f"{data} has no split 'val': scored on the {counted(len(held.records), 'picture')} set aside by seed {seed}",
    ]


def read_train_and_val(
    data: str | Path,
    classes: Sequence[str] | None = None,
    *,
    fraction: float = 1.0,
    seed: int = 0,
    difficult: bool = False,
) -> tuple[DetectionSet, DetectionSet, list[str]]:
    """Read what training needs.

    Without a validation split a tenth of the training pictures is set aside by the seed. Of the rest, `fraction`
    is drawn by the seed.

    Returns:
        The training set, the validation set with the same classes, and lines that say what was found and done.
    """
    if not 0 < fraction <= 1:
        raise InputError(f"--fraction must be above 0 and at most 1, got {fraction}")
    splits = find_splits(Path(data), difficult)
    if "train" not in splits:
        raise InputError(f"{data} has no training split; found {', '.join(splits)}")
    train = _read(splits, "train", classes)
    _refuse_without_objects(train)
    if "val" in splits:
        notes = _told("train", train)
        val = _read(splits, "val", None)
        other = [name for name in val.class_names if name not in train.class_names and not classes]
        val = align_classes(val, train.class_names, category_ids=train.category_ids)
        notes += _told("val", val)
        if other:
            notes.append(f"val: its classes {some(other)} are not in train and are left out")
        unseen = set(shown_classes(val)) - set(shown_classes(train))
        if unseen:
            names = [name for name in val.class_names if name in unseen]
            notes.append(f"val: no training image shows {some(names)}, so their AP says nothing about the training")
    else:
        train, val = _hold_out(train, seed)
        notes = _told("train", train)
        aside = f"{counted(len(val.records), 'training picture')} {are(len(val.records))} set aside by seed {seed}"
        notes.append(f"val: no such split, so {aside}: {val.summary()}")
    if fraction < 1:
        train = _part(train, max(1, round(fraction * len(train.records))), seed)
        notes.append(f"train: {fraction:g} of it, drawn by seed {seed}: {train.summary()}")
    _refuse_without_objects(train)
    _refuse_without_objects(val)
    return train, val, notes


def _told(split: str, data: DetectionSet) -> list[str]:
    return [f"{split}: {data.summary()} ({data.source})", *(f"{split}: {note}" for note in data.notes)]


def read_splits(data: str | Path, difficult: bool = False) -> dict[str, DetectionSet]:
    """Read every split, with the classes of all of them in each, and every image once; `difficult` as for `read_split`.

    A test split that is named but not there, as in many a data.yaml, is left out, and a note of the first set says so.

    Raises:
        InputError: where nothing is recognised, or an annotation is bad.
    """
    sets: dict[str, DetectionSet] = {}
    notes: list[str] = []
    for split, read in find_splits(Path(data), difficult).items():
        try:
            one = read()
            sets[split] = join_repeats(one, repeats(one))
        except MissingError as error:
            if split != "test":
                raise
            notes.append(f"the split 'test' is left out: {error}")
    if not sets:
        raise MissingError(notes[0])
    together = merge_sets(list(sets.values()))
    ids = together.category_ids
    first = next(iter(sets))
    sets[first] = dataclasses.replace(sets[first], notes=(*sets[first].notes, *notes))
    return {split: align_classes(one, together.class_names, category_ids=ids) for split, one in sets.items()}


def find_splits(data: Path, difficult: bool = False) -> Splits:
    """Return the splits of a folder or YAML file by canonical name (train, val, test), each ready to be read.

    Raises:
        InputError: saying what was looked for and what was found.
    """
    if not data.exists():
        raise InputError(f"{data} does not exist; --data takes a folder or a YAML file")
    if data.is_file():
        if data.suffix == ".json":
            return {"train": _coco_reader(data, _beside(data))}
        if data.suffix not in (".yaml", ".yml"):
            raise InputError(f"{data} is neither a folder nor a YAML or JSON file; --data takes one of these")
        return _yaml_splits(data, difficult)
    check_readable(data)
    splits = _coco_splits(data) or _roboflow_splits(data) or _yolo_splits(data) or _voc_splits(data, difficult)
    if not splits:
        content = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in data.iterdir())
        raise InputError(f"{data} is no data set: looked for {_LAYOUTS}; found {some(content) or 'nothing'}")
    return splits


def is_detection_set(folder: Path) -> bool:
    """Say whether a folder looks like one of the layouts above."""
    return (
        bool(_coco_splits(folder) or _roboflow_splits(folder))
        or ((folder / "images").is_dir() and (folder / "labels").is_dir())
        or any((folder / name).is_file() for name in _YOLO_FILES)
        or _has_voc(folder)
    )


def locate(file: Path, text: str) -> Path:
    """Return what a path in a YAML file means: relative to the file, then to the working folder, $VARIABLES expanded.

    Raises:
        InputError: where neither exists.
    """
    expanded = os.path.expandvars(os.path.expanduser(text))
    if "$" in expanded:
        raise InputError(f"{file}: {text!r} uses a variable that is not set in the environment")
    if not is_possible_path(expanded):
        raise InputError(f"{file}: {short(text)} is no path of a file or folder")
    tried = [file.parent / expanded, Path(expanded)]
    for path in tried:
        if path.exists():
            return path
    raise MissingError(f"{file}: {text!r} does not exist; tried {tried[0]} and {tried[1].absolute()}")


def check_names(names: Any, file: Path, *, key: str) -> list[str]:
    """Return the class names under a key of a YAML file; raise InputError where they are no list of texts."""
    if not isinstance(names, list) or not names:
        raise InputError(f"{file}: {key} must be a list of class names, got {short(names)}")
    for number, name in enumerate(names, 1):
        if not isinstance(name, str) or not name.strip() or not is_text(name) or len(name) > _LONGEST_NAME:
            raise InputError(f"{file}: entry {number} of {key} must be a class name, got {short(name)}")
    return names


def canonical_split(name: str) -> str:
    """Return train, val or test for the many names these go by, such as valid, validation or val2017."""
    plain = re.sub(r"[_-]?\d{4}$", "", name.lower())
    return _SYNONYMS.get(plain, plain)


def select_classes(data: DetectionSet, classes: Sequence[str]) -> DetectionSet:
    """Keep only some classes, in the order given; pictures without them stay as background.

    Raises:
        InputError: for a class the set lacks, naming the nearest.
    """
    for name in classes:
        if name not in data.class_names:
            raise InputError(f"{data.source} has no class {name!r}; {suggest(name, data.class_names)}")
    if len(set(classes)) != len(classes):
        raise InputError(f"--classes names a class twice: {', '.join(classes)}")
    ids = [data.category_ids[data.class_names.index(name)] for name in classes]
    return align_classes(data, tuple(classes), category_ids=tuple(ids))


def align_classes(data: DetectionSet, class_names: Sequence[str], *, category_ids: Sequence[int]) -> DetectionSet:
    """Renumber labels to `class_names`, matched by name; objects of other classes are left out."""
    if data.class_names == tuple(class_names):
        return dataclasses.replace(data, category_ids=tuple(category_ids))
    new = {name: label for label, name in enumerate(class_names)}
    table = np.array([new.get(name, -1) for name in data.class_names], np.int64)
    records = []
    for record in data.records:
        labels = table[record.labels]
        keep = labels >= 0
        records.append(
            dataclasses.replace(
                record,
                boxes=record.boxes[keep],
                labels=labels[keep],
                crowd=record.crowd[keep],
                areas=record.areas[keep],
                unlabelled=tuple(int(table[label]) for label in record.unlabelled if table[label] >= 0),
                numbers=record.numbers[keep] if len(record.numbers) else record.numbers,
            )
        )
    return dataclasses.replace(
        data, records=tuple(records), class_names=tuple(class_names), category_ids=tuple(category_ids)
    )


def shown_classes(data: DetectionSet) -> list[str]:
    """Return the names of the classes of which a set has an object, crowd regions not counted."""
    used = {int(label) for record in data.records for label in record.labels[~record.crowd]}
    return [name for label, name in enumerate(data.class_names) if label in used]


def merge_sets(sets: Sequence[DetectionSet]) -> DetectionSet:
    """Join sets by class name; ids of pictures and categories are kept where no two clash, else counted from 1.

    In the pictures of a set that does not know a class, the absence of that class means nothing.
    """
    if len(sets) == 1:
        return sets[0]
    ids: dict[str, int] = {}
    for data in sets:
        for name, category_id in zip(data.class_names, data.category_ids):
            ids.setdefault(name, category_id)
    if len(set(ids.values())) < len(ids):
        ids = {name: number for number, name in enumerate(ids, 1)}
    names, category_ids = tuple(ids), tuple(ids.values())
    records: list[ImageRecord] = []
    for data in sets:
        unknown = tuple(label for label, name in enumerate(names) if name not in data.class_names)
        for record in align_classes(data, names, category_ids=category_ids).records:
            records.append(dataclasses.replace(record, unlabelled=(*record.unlabelled, *unknown)))
    if len({record.image_id for record in records}) < len(records):
        records = [dataclasses.replace(record, image_id=number) for number, record in enumerate(records, 1)]
    source = " + ".join(data.source for data in sets)
    notes = tuple(dict.fromkeys(note for data in sets for note in data.notes))
    return DetectionSet(
        tuple(records),
        names,
        category_ids=category_ids,
        source=source,
        dropped=sum(data.dropped for data in sets),
        notes=notes,
    )


def add_unlabelled(data: DetectionSet, folder: Path) -> DetectionSet:
    """Add the pictures of a folder and those below it, of which nothing is known: the absence of every class means nothing.

    Raises:
        InputError: where there are none, or one cannot be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; --unlabelled takes a folder of pictures")
    check_readable(folder)
    files, notes = images_below(folder)
    if not files:
        raise InputError(
            "; ".join([f"no pictures in the folder {folder}; looked for {', '.join(IMAGE_SUFFIXES)}", *notes])
        )
    number = max((record.image_id for record in data.records), default=0)
    nothing = (np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, np.bool_), np.zeros(0))
    every = tuple(range(len(data.class_names)))
    more = [ImageRecord(file, number + i, read_image_size(file), *nothing, every) for i, file in enumerate(files, 1)]
    return dataclasses.replace(data, records=(*data.records, *more), notes=(*data.notes, *notes))


def fingerprint(data: DetectionSet) -> str:
    """Return a sha256 of file names, sizes, boxes and class names: equal for equal labels, wherever they lie."""
    digest = hashlib.sha256("\n".join(data.class_names).encode())
    for record in data.records:
        digest.update(
            f"\n{record.path.name} {record.hw} {record.labels.tolist()} {record.boxes.tolist()}".encode(
                errors="surrogateescape"
            )
        )
        if record.unlabelled:
            digest.update(f" {record.unlabelled}".encode())
    return digest.hexdigest()


def _read(splits: Splits, split: str, classes: Sequence[str] | None) -> DetectionSet:
    data = splits[split]()
    if not data.records:
        raise InputError(f"{data.source} lists no pictures")
    parts = [group for group in repeats(data) if not _are_equal(data, group)]  # who lists equal ones wants them so
    data = join_repeats(data, parts)
    return select_classes(data, classes) if classes else data


def _are_equal(data: DetectionSet, group: Sequence[int]) -> bool:
    return all(same_objects(data.records[group[0]], data.records[i]) for i in group[1:])


def _refuse_without_objects(data: DetectionSet) -> None:
    if any((~record.crowd).any() for record in data.records):
        return
    crowd = sum(len(record.boxes) for record in data.records)
    if crowd:
        raise InputError(f"{data.source}: {only_crowd(crowd)}")
    raise InputError(
        f"{data.source}: none of {counted(len(data.records), 'picture')} shows an object of {some(data.class_names)}"
    )


def only_crowd(count: int) -> str:
    """Say that a set has so many boxes and none to learn from, and what to do."""
    return (
        f"{counted(count, 'box', plural='boxes')}, every one a crowd region (COCO's iscrowd: 1, PASCAL VOC's difficult) and so no "
        "target of training; write iscrowd 0 where a box holds a single object, or take difficult objects with --difficult"
    )


def _hold_out(train: DetectionSet, seed: int) -> tuple[DetectionSet, DetectionSet]:
    count = max(1, round(_HELD_OUT * len(train.records)))
    with_objects = [i for i, record in enumerate(train.records) if (~record.crowd).any()]
    if len(train.records) < 2:
        raise InputError(
            f"{train.source} has {len(train.records)} picture and no validation split: nothing to validate on"
        )
    order = np.random.default_rng([seed, 1]).permutation(len(train.records)).tolist()
    held = (
        order[:count]
        if set(order[:count]) & set(with_objects) or not with_objects
        else [*order[: count - 1], with_objects[0]]
    )
    rest = set(range(len(train.records))) - set(held)
    return _pick(train, rest), _pick(train, held)


def _part(train: DetectionSet, count: int, seed: int) -> DetectionSet:
    return _pick(train, np.random.default_rng([seed, 2]).permutation(len(train.records))[:count].tolist())


def _pick(data: DetectionSet, positions: Iterable[int]) -> DetectionSet:
    return dataclasses.replace(data, records=tuple(data.records[i] for i in sorted(positions)))


def _coco_splits(root: Path) -> Splits:
    files = {file.stem.removeprefix("instances_"): file for file in sorted(root.glob("annotations/instances_*.json"))}
    splits: Splits = {}
    for name, file in files.items():
        split = (
            "train"
            if len(files) == 1 and canonical_split(name) not in ("train", "val", "test")
            else canonical_split(name)
        )
        if split in splits:
            raise InputError(f"{root}/annotations has two files for the split {split!r}: {', '.join(files)}")
        splits[split] = _coco_reader(file, _picture_folders(root, name))
    return splits


def _picture_folders(root: Path, name: str) -> list[Path]:
    """Return where a split's pictures may be: folders of its very name, of a synonym, then those for all splits."""
    beside = [folder for parent in (root / "images", root) for folder in sorted(parent.glob("*/"))]
    exact = [folder for folder in beside if folder.name == name]
    synonyms = [folder for folder in beside if canonical_split(folder.name) == canonical_split(name)]
    return [folder for folder in (*exact, *synonyms, root / "images", root) if folder.is_dir()]


def _roboflow_splits(root: Path) -> Splits:
    files = sorted(root.glob("*/_annotations.coco.json"))
    splits = {canonical_split(file.parent.name): file for file in files}
    if len(splits) < len(files):
        names = ", ".join(file.parent.name for file in files)
        raise InputError(f"{root} has two folders for one split: {names}")
    if not files and (root / "_annotations.coco.json").is_file():
        splits = {"train": root / "_annotations.coco.json"}
    return {split: _coco_reader(file, [file.parent]) for split, file in splits.items()}


def _coco_reader(file: Path, folders: Sequence[Path]) -> Callable[[], DetectionSet]:
    return functools.partial(read_coco, file, folders)


def _yolo_splits(root: Path) -> Splits:
    for name in _YOLO_FILES:
        if (root / name).is_file():
            return _yaml_splits(root / name)
    if not (root / "images").is_dir() or not (root / "labels").is_dir():
        return {}
    names_file = root / "classes.txt"
    if not names_file.is_file():
        raise InputError(
            f"{root} holds images/ and labels/ but no class names; write 'names: [first, second]' to {root}/data.yaml"
        )
    names = [line.strip() for line in read_text(names_file).splitlines() if line.strip()]
    return _yolo_folder_splits(root, names)


def _yolo_folder_splits(root: Path, names: Sequence[str], keypoints: tuple[int, int] | None = None) -> Splits:
    folders = {canonical_split(folder.name): folder for folder in sorted((root / "images").glob("*/"))}
    folders = {split: folder for split, folder in folders.items() if split in ("train", "val", "test")}
    folders = folders or {
        canonical_split(folder.parent.name): folder
        for folder in sorted(root.glob("*/images/"))
        if folder.is_dir() and not is_hidden(folder.parent.name)
    }
    folders = folders or {"train": root / "images"}
    return {split: _yolo_reader([folder], names, keypoints) for split, folder in folders.items()}


def _voc_splits(root: Path, difficult: bool) -> Splits:
    folder = next((root / name for name in _VOC_FOLDERS if _xml_below(root / name)), None)
    lists = _voc_lists(root, folder) if folder else {}
    if lists:
        splits = {split: files for split, (_, files) in lists.items()}
    elif folder:
        splits = {"train": _xml_below(folder)}
    else:
        beside = {canonical_split(one.name): one for one in sorted(root.glob("*/")) if not is_hidden(one.name)}
        splits = {split: _xml_below(one) for split, one in beside.items() if split in ("train", "val", "test")}
        loose = [file for file in listed(root) if file.suffix.lower() == ".xml"]
        splits = {split: files for split, files in splits.items() if files} or ({"train": loose} if loose else {})
    names = voc_class_names([file for files in splits.values() for file in files if file.is_file()])
    pictures = [root / name for name in ("JPEGImages", "images", "Images") if (root / name).is_dir()] + [root]

    def read(split: str) -> DetectionSet:
        files = splits[split]
        if split in lists:
            _refuse_missing_xml(*lists[split])
        data = read_voc(
            files, pictures, class_names=names, source=f"{root} {split}", difficult=difficult, annotations=folder
        )
        return data if split in lists else without_xml(data)

    return {split: functools.partial(read, split) for split in splits}


def _xml_below(folder: Path) -> list[Path]:
    """Return the XML files of a folder and of those below it, sorted."""
    return [file for file in walk(folder)[0] if file.suffix.lower() == ".xml"] if folder.is_dir() else []


def _holds_xml(folder: Path) -> bool:
    try:
        return any(name.lower().endswith(".xml") and not is_hidden(name) for name in os.listdir(folder))
    except OSError:  # a folder that may not be read is named when it is
        return False


def _has_voc(root: Path) -> bool:
    folders = [root, *(path for path in listed(root) if path.is_dir())]
    return any(map(_holds_xml, folders)) or any(_xml_below(root / name) for name in _VOC_FOLDERS)


_VOC_FOLDERS = ("Annotations", "annotations", "annotations_xml", "xml")


def _voc_lists(root: Path, folder: Path) -> dict[str, tuple[Path, list[Path]]]:
    """Return each list in ImageSets/Main with its XML files; trainval is taken where there is no train."""
    splits = {}
    there = {composed(file.relative_to(folder).with_suffix("").as_posix()): file for file in _xml_below(folder)}
    for name in ("train", "val", "test", "trainval"):
        file = root / "ImageSets" / "Main" / f"{name}.txt"
        if file.is_file() and (name != "trainval" or "train" not in splits):
            lines = [line.strip() for line in read_text(file).splitlines() if line.strip()]
            splits["train" if name == "trainval" else name] = (
                file,
                [_listed_xml(line, folder, there) for line in lines],
            )
    return splits


def _listed_xml(line: str, folder: Path, there: Mapping[str, Path]) -> Path:
    """Return the XML file of a line: a name without suffix, with that of an image, or with 1 or -1 after it (a class)."""
    tried = [line, re.sub(r"\s+-?[01]$", "", line)]
    tried += [name.rpartition(".")[0] for name in tried if Path(name).suffix.lower() in IMAGE_SUFFIXES]
    xml = next((there[composed(name)] for name in tried if composed(name) in there), None)
    return xml or folder / f"{tried[1]}.xml"


def _refuse_missing_xml(listing: Path, files: Sequence[Path]) -> None:
    missing = [file.stem for file in files if not file.is_file()]
    if missing:
        raise MissingError(f"{listing} lists {some(missing)}, without an XML file in {files[0].parent}")


def _yolo_reader(
    images: Sequence[Path], names: Sequence[str], keypoints: tuple[int, int] | None
) -> Callable[[], DetectionSet]:
    return functools.partial(read_yolo_txt, images, names, keypoints=keypoints)


def _yaml_splits(file: Path, difficult: bool = False) -> Splits:
    values = read_yaml(file)
    if "names" in values:
        return _yolo_yaml_splits(file, values)
    unknown = [key for key in values if canonical_split(str(key)) not in ("train", "val", "test") and key != "classes"]
    if unknown or not values:
        raise InputError(
            f"{file}: unknown key {short(unknown[0])}; expected train, val, test, classes, or names for YOLO txt"
            if unknown
            else f"{file} is empty; expected train:, val: and folders or JSON files"
        )
    classes = values.pop("classes", None)
    if classes is not None and classes != []:
        classes = check_names(classes, file, key="classes")
    splits: Splits = {}
    for key, entries in values.items():
        split = canonical_split(str(key))
        if split in splits:
            raise InputError(f"{file} has two entries for the split {split!r}: {some([short(key) for key in values])}")
        splits[split] = _merged_reader(file, split, entries=entries, classes=classes, difficult=difficult)
    return splits


def _merged_reader(
    file: Path, split: str, *, entries: Any, classes: list[str] | None, difficult: bool
) -> Callable[[], DetectionSet]:
    def read() -> DetectionSet:
        each = entries if isinstance(entries, list) else [entries]
        sets = [_read_entry(file, split, entry=entry, difficult=difficult) for entry in each]
        if classes:
            known = [_only(data, classes) for data in sets]
            return select_classes(merge_sets(known), classes)
        return merge_sets(sets)

    return read


def _only(data: DetectionSet, classes: Sequence[str]) -> DetectionSet:
    kept = [(name, i) for name, i in zip(data.class_names, data.category_ids) if name in classes]
    return align_classes(data, [name for name, _ in kept], category_ids=[i for _, i in kept])


def _read_entry(file: Path, split: str, *, entry: Any, difficult: bool) -> DetectionSet:
    if isinstance(entry, Mapping):
        if set(entry) - {"json", "images"} or "json" not in entry:
            raise InputError(f"{file}: a set in {split!r} is a path or {{json:, images:}}, got {short(dict(entry))}")
        json_path = locate(file, str(entry["json"]))
        folders = [locate(file, str(entry["images"]))] if "images" in entry else _beside(json_path)
        return read_coco(json_path, folders)
    path = locate(file, str(entry))
    if path.suffix == ".json":
        return read_coco(path, _beside(path))
    if path.is_file() and "names" not in read_yaml(path):
        raise InputError(f"{file}: {short(entry)} is itself a list of sets; name folders or JSON files")
    return read_split(path, split, difficult=difficult)


def _beside(json_path: Path) -> list[Path]:
    root = json_path.parent.parent if json_path.parent.name == "annotations" else json_path.parent
    return _picture_folders(root, json_path.stem.removeprefix("instances_"))


def _yolo_yaml_splits(file: Path, values: Mapping[str, Any]) -> Splits:
    names = values["names"]
    if isinstance(names, Mapping):
        if set(names) != set(range(len(names))):
            raise InputError(
                f"{file}: names must be numbered 0..{len(names) - 1} without gaps, got {short(list(names))}"
            )
        names = [names[i] for i in range(len(names))]
    names = check_names(names, file, key="names")
    if len(set(names)) < len(names):
        raise InputError(f"{file}: names must differ, got {some(names)}")
    keypoints = _keypoints(file, values.get("kpt_shape"))
    base, notes = _yolo_base(file, values)
    splits: Splits = {}
    for key in values:
        split = canonical_split(str(key))
        if split in ("train", "val", "test") and values[key]:
            entries = values[key] if isinstance(values[key], list) else [values[key]]
            splits[split] = functools.partial(
                _read_yolo_places, _Places(file, base, entries=entries, notes=notes), names, keypoints
            )
    return splits or _yolo_folder_splits(base, names, keypoints)


def _keypoints(file: Path, shape: Any) -> tuple[int, int] | None:
    """Return kpt_shape: how many keypoints an object has, and of how many numbers each is."""
    if shape is None:
        return None
    whole = isinstance(shape, list) and len(shape) == 2 and all(type(number) is int for number in shape)
    if not whole or shape[0] < 0 or (shape[0] > 0 and shape[1] not in (2, 3)):
        raise InputError(f"{file}: kpt_shape must be [number of keypoints, 2 or 3], got {shape!r:.120}")
    return shape[0], shape[1]


def _yolo_base(file: Path, values: Mapping[str, Any]) -> tuple[Path, tuple[str, ...]]:
    """Return the folder that a data.yaml means by `path`, or its own where that is another machine's; and a note then."""
    if not values.get("path"):
        return file.parent, ()
    try:
        return locate(file, str(values["path"])), ()
    except MissingError:
        entries = [values[key] for key in values if canonical_split(str(key)) in ("train", "val")]
        texts = [str(text) for entry in entries for text in (entry if isinstance(entry, list) else [entry])]
        if not any(_find_place(file.parent, text) for text in texts if text):
            raise
        return file.parent, (f"{file}: path {values['path']} does not exist; its own folder is taken instead",)


class _Places(NamedTuple):
    """Where a split of a data.yaml is: its entries, relative to a folder, and what there is to note."""

    file: Path
    base: Path
    entries: Sequence[Any]
    notes: tuple[str, ...]


def _read_yolo_places(places: _Places, names: Sequence[str], keypoints: tuple[int, int] | None) -> DetectionSet:
    texts = [str(entry) for entry in places.entries]
    paths = [_locate_yolo(places.base, places.file, text) for text in texts]
    data = read_yolo_txt(paths, names, keypoints=keypoints, roots=(places.base, places.file.parent))
    usual = [_on_disk(places.base, text) for text in texts]
    moved = [f"{places.file}: {t!r} was taken for {path}" for t, path, known in zip(texts, paths, usual) if not known]
    return dataclasses.replace(data, notes=(*places.notes, *moved, *data.notes))


def _on_disk(base: Path, text: str) -> Path | None:
    """Find a path of data.yaml; exporters often write ../train/images for train/images, so that is tried too."""
    tried = (base / text, Path(text), base / re.sub(r"^(\.\./)+", "", text))
    return next((path for path in tried if path.exists()), None)


def _find_place(base: Path, text: str) -> Path | None:
    """Find a path of data.yaml, also one with back-slashes or of another machine, of which the last two parts fit."""
    path = _on_disk(base, text)
    for parts in () if path else variants(text):
        absolute = PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()
        least = 1 if parts[-1:] and parts[-1].endswith(".txt") else 2  # every split may end in images
        starts = range(max(1, len(parts) - least + 1)) if absolute else (0,)
        path = path or next((found for start in starts if (found := _on_disk(base, "/".join(parts[start:])))), None)
    return path


def _locate_yolo(base: Path, file: Path, text: str) -> Path:
    path = _find_place(base, text) if is_possible_path(text) else None
    if not path:
        raise MissingError(f"{file}: {short(text)} does not exist; tried {base / text} and {Path(text).absolute()}")
    return path
