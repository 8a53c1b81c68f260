"""Recognise the layout of a detection set, and find its splits.

A folder has the first of these layouts that fits:

- COCO JSON: `annotations/instances_<split>.json`, or `<split>/_annotations.coco.json`;
- YOLO txt: `images/` and `labels/`, with the class names in `data.yaml`;
- PASCAL VOC XML: `Annotations/*.xml`, images in `JPEGImages/`, splits in `ImageSets/Main/<split>.txt`; or
  `<split>/*.xml` beside the images;
- Label Studio's COCO export: `result.json` beside `images/`, and no other JSON file there.

A YAML file with `names` describes a YOLO txt set. Any other YAML file joins sets:

    classes: [person, car]            # optional: only these
    train: [voc5, coco_mini]          # folders (their split of the same name is read), JSON files, or {json:, images:}
    val: voc5                         # several sets are merged by class name

An annotation file (JSON) by itself is accepted too.
Paths are relative to the YAML file, then to the working folder; $VARIABLES in them are expanded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_lite.config.read import read_yaml
from yolo_lite.data.classes import merge_sets, select_classes
from yolo_lite.data.entries import SPLITS, Joined, canonical_split, joins_sets, locate, read_joined
from yolo_lite.data.formats.coco import CocoSource
from yolo_lite.data.formats.voc import VocSource
from yolo_lite.data.formats.voc_folder import has_voc, voc_sources
from yolo_lite.data.formats.yolo import YoloSource
from yolo_lite.data.formats.yolo_yaml import YAML_FILES, YoloYamlSource, yolo_sources, yolo_yaml_sources
from yolo_lite.data.repeats import join_repeats, repeats, same_objects
from yolo_lite.errors import InputError, short, some
from yolo_lite.files import check_readable
from yolo_lite.media.folders import listed
from yolo_lite.structures.datasets import DetectionSet

_LAYOUTS = (
    "annotations/instances_*.json (COCO), <split>/_annotations.coco.json (COCO), images/ and labels/ with class names "
    "in data.yaml (YOLO txt), Annotations/*.xml or <split>/*.xml (PASCAL VOC), result.json and images/ (Label Studio)"
)


class NoDataSetError(InputError):
    """A path holds nothing that looks like a data set."""


@dataclass(frozen=True)
class JoinedSource:
    """One split of a YAML file that joins sets by class name."""

    joined: Joined
    split: str
    difficult: bool

    def read(self) -> DetectionSet:
        """Read the sets and join them."""
        sets = [self._read(entry) for entry in self.joined.sets(self.split)]
        classes = self.joined.classes
        if classes is None:
            return merge_sets(sets)
        return select_classes(merge_sets([data.with_classes(data.classes.only(classes)) for data in sets]), classes)

    def _read(self, entry: Any) -> DetectionSet:
        file = self.joined.file
        if isinstance(entry, Mapping):
            options = self.joined.options(self.split, entry, key="json", others=("images",))
            json_path = locate(file, str(options["json"]))
            if "images" not in options:
                return _beside(json_path).read()
            return CocoSource(json_path, (locate(file, str(options["images"])),)).read()
        path = locate(file, str(entry))
        if path.suffix == ".json":
            return _beside(path).read()
        if path.is_file() and "names" not in read_yaml(path):
            raise InputError(f"{file}: {short(entry)} is itself a list of sets; name folders or JSON files")
        return read_whole(source_of(find_splits(path, difficult=self.difficult), self.split, path=path))


Source = CocoSource | YoloSource | YoloYamlSource | VocSource | JoinedSource
Sources = Mapping[str, Source]  # by canonical name: train, val, test, or another split of a folder


def find_splits(path: Path, *, difficult: bool = False) -> Sources:
    """Return the splits of a folder, YAML file or JSON file, each ready to be read.

    Args:
        path: the folder or file.
        difficult: treat the objects that PASCAL VOC marks difficult like any others; otherwise they become crowd boxes.

    Raises:
        NoDataSetError: if nothing there looks like a data set; the message lists what was looked for and what was found.
        InputError: if there is a data set, but it is faulty.

    Example:
        >>> sorted(find_splits(Path("my_images")))
        ['train', 'val']
    """
    if not path.exists():
        raise NoDataSetError(f"{path} does not exist; --data takes a folder, a YAML file or a JSON file")
    if path.is_file():
        if path.suffix == ".json":
            return {"train": _beside(path)}
        if path.suffix not in (".yaml", ".yml"):
            raise InputError(f"{path} is neither a folder nor a YAML or JSON file; --data takes one of these")
        if not joins_sets(path):
            return yolo_yaml_sources(path)
        joined = read_joined(path)
        return {split: JoinedSource(joined, split, difficult) for split in joined.splits}
    check_readable(path)
    sources: Sources = _coco_sources(path) or _roboflow_sources(path) or yolo_sources(path)
    sources = sources or {
        split: dataclasses.replace(source, difficult=difficult) for split, source in voc_sources(path).items()
    }
    sources = sources or _label_studio_sources(path)
    if not sources:
        content = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in path.iterdir())
        raise NoDataSetError(f"{path} is not a data set: looked for {_LAYOUTS}; found {some(content) or 'nothing'}")
    return sources


def is_detection_set(folder: Path) -> bool:
    """Return whether a folder looks like one of the layouts above.

    Example:
        >>> is_detection_set(Path("my_images")), is_detection_set(Path("my_classes"))
        (True, False)
    """
    return (
        bool(_coco_sources(folder) or _roboflow_sources(folder))
        or ((folder / "images").is_dir() and (folder / "labels").is_dir())
        or any((folder / name).is_file() for name in YAML_FILES)
        or has_voc(folder)
        or bool(_label_studio_sources(folder))
    )


def source_of(sources: Sources, split: str, *, path: Path) -> Source:
    """Return the source of a split; an annotation file by itself serves as any split.

    Raises:
        InputError: if there is no such split.

    Example:
        >>> folder = Path("my_images")
        >>> source_of(find_splits(folder), "validation", path=folder).json_path.name
        'instances_val.json'
    """
    if path.suffix == ".json":
        return sources["train"]
    if canonical_split(split) not in sources:
        raise InputError(f"{path} has no split {split!r}; found {', '.join(sources)}")
    return sources[canonical_split(split)]


def read_whole(source: Source) -> DetectionSet:
    """Read a split with all its classes; entries that mark different objects of one image are merged.

    Entries that mark the same objects stay: whoever lists an image twice may want it twice.

    Raises:
        InputError: if the split has no images, or an annotation is bad.

    Example:
        >>> data = read_whole(find_splits(Path("my_images"))["train"])
        >>> len(data.records), data.class_names
        (6, ('disc', 'square'))
    """
    data = source.read()
    if not data.records:
        raise InputError(f"{data.source} lists no images")
    return join_repeats(data, [group for group in repeats(data) if not _mark_the_same(data, group)])


def _mark_the_same(data: DetectionSet, group: Sequence[int]) -> bool:
    first, *others = (data.records[i] for i in group)
    return all(same_objects(first, other) for other in others)


def _coco_sources(root: Path) -> dict[str, CocoSource]:
    files = {file.stem.removeprefix("instances_"): file for file in sorted(root.glob("annotations/instances_*.json"))}
    sources: dict[str, CocoSource] = {}
    for name, file in files.items():
        split = canonical_split(name)
        if len(files) == 1 and split not in SPLITS:
            split = "train"
        if split in sources:
            raise InputError(f"{root}/annotations has two files for the split {split!r}: {', '.join(files)}")
        sources[split] = CocoSource(file, _image_folders(root, name))
    return sources


def _image_folders(root: Path, name: str) -> tuple[Path, ...]:
    """Return the folders that may hold a split's images: those of its exact name, of a synonym, then those for all splits."""
    beside = [folder for parent in (root / "images", root) for folder in sorted(parent.glob("*/"))]
    exact = [folder for folder in beside if folder.name == name]
    synonyms = [folder for folder in beside if canonical_split(folder.name) == canonical_split(name)]
    return tuple(folder for folder in (*exact, *synonyms, root / "images", root) if folder.is_dir())


def _beside(json_path: Path) -> CocoSource:
    root = json_path.parent.parent if json_path.parent.name == "annotations" else json_path.parent
    return CocoSource(json_path, _image_folders(root, json_path.stem.removeprefix("instances_")))


def _roboflow_sources(root: Path) -> dict[str, CocoSource]:
    files = sorted(root.glob("*/_annotations.coco.json"))
    splits = {canonical_split(file.parent.name): file for file in files}
    if len(splits) < len(files):
        names = ", ".join(file.parent.name for file in files)
        raise InputError(f"{root} has two folders for one split: {names}")
    if not files and (root / "_annotations.coco.json").is_file():
        splits = {"train": root / "_annotations.coco.json"}
    return {split: CocoSource(file, (file.parent,)) for split, file in splits.items()}


def _label_studio_sources(root: Path) -> dict[str, CocoSource]:
    """Return the one split of a COCO export from Label Studio; none if another JSON file makes its meaning unclear."""
    file = root / "result.json"
    if not (root / "images").is_dir() or [path for path in listed(root) if path.suffix.lower() == ".json"] != [file]:
        return {}
    return {"train": _beside(file)}
