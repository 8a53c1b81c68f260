"""Find the splits of a folder with PASCAL VOC annotations."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from yolo_lite.data.entries import SPLITS, canonical_split
from yolo_lite.data.formats.voc import VocSource, voc_class_names
from yolo_lite.data.names import composed
from yolo_lite.files import read_text
from yolo_lite.media.folders import is_hidden, listed, walk
from yolo_lite.media.images import IMAGE_SUFFIXES

_ANNOTATIONS = ("Annotations", "annotations", "annotations_xml", "xml")
_IMAGES = ("JPEGImages", "images", "Images")


def voc_sources(root: Path) -> dict[str, VocSource]:
    """Return the splits of a folder: the lists in ImageSets/Main, else all annotations, else <split>/*.xml beside the images.

    Example:
        >>> from yolo_lite.data.care.convert import write_sets
        >>> from yolo_lite.data.splits import read_splits
        >>> _ = write_sets(read_splits("my_images"), "voc", out=Path("voc_set"))
        >>> sorted(voc_sources(Path("voc_set")))
        ['train', 'val']
    """
    folder = next((root / name for name in _ANNOTATIONS if _xml_below(root / name)), None)
    lists = _lists(root, folder) if folder else {}
    if lists:
        splits = {split: files for split, (_, files) in lists.items()}
    else:
        splits = {"train": _xml_below(folder)} if folder else _beside_images(root)
    names = voc_class_names([file for files in splits.values() for file in files if file.is_file()])
    return {
        split: VocSource(
            tuple(files),
            (*(root / name for name in _IMAGES if (root / name).is_dir()), root),
            class_names=names,
            source=f"{root} {split}",
            annotations=folder,
            listing=lists[split][0] if lists else None,
        )
        for split, files in splits.items()
    }


def has_voc(root: Path) -> bool:
    """Return whether a folder looks like one with PASCAL VOC annotations.

    Example:
        >>> has_voc(Path("my_images")), has_voc(Path("my_classes"))
        (False, False)
    """
    folders = [root, *(path for path in listed(root) if path.is_dir())]
    return any(map(_holds_xml, folders)) or any(_xml_below(root / name) for name in _ANNOTATIONS)


def _beside_images(root: Path) -> dict[str, list[Path]]:
    folders = {canonical_split(folder.name): folder for folder in sorted(root.glob("*/")) if not is_hidden(folder.name)}
    splits = {split: files for split, folder in folders.items() if split in SPLITS and (files := _xml_below(folder))}
    loose = [file for file in listed(root) if file.suffix.lower() == ".xml"]
    return splits or ({"train": loose} if loose else {})


def _xml_below(folder: Path) -> list[Path]:
    """Return all XML files below a folder, sorted."""
    return [file for file in walk(folder)[0] if file.suffix.lower() == ".xml"] if folder.is_dir() else []


def _holds_xml(folder: Path) -> bool:
    try:
        return any(name.lower().endswith(".xml") and not is_hidden(name) for name in os.listdir(folder))
    except OSError:  # reading the folder reports it
        return False


def _lists(root: Path, folder: Path) -> dict[str, tuple[Path, list[Path]]]:
    """Return each list in ImageSets/Main with its XML files; trainval serves as train if there is no train."""
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
    """Return the XML file of a line: a name without suffix or with that of an image, perhaps followed by 1 or -1 (a class)."""
    tried = [line, re.sub(r"\s+-?[01]$", "", line)]
    tried += [name.rpartition(".")[0] for name in tried if Path(name).suffix.lower() in IMAGE_SUFFIXES]
    xml = next((there[composed(name)] for name in tried if composed(name) in there), None)
    return xml or folder / f"{tried[1]}.xml"
