"""Read data.yaml, which gives the image folders and class names of YOLO labels."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from yolo_lite.config.read import read_yaml
from yolo_lite.data.entries import SPLITS, MissingError, canonical_split, check_names, locate
from yolo_lite.data.formats.yolo import YoloSource, read_yolo_txt
from yolo_lite.data.names import variants
from yolo_lite.errors import InputError, short, some
from yolo_lite.files import is_possible_path, read_text
from yolo_lite.media.folders import is_hidden
from yolo_lite.structures.datasets import DetectionSet

YAML_FILES = ("data.yaml", "data.yml", "dataset.yaml")


@dataclass(frozen=True)
class YoloYamlSource:
    """A split of a data.yaml, whose paths are looked up when it is read.

    Attributes:
        file: the data.yaml.
        base: the folder that its paths are relative to.
        entries: the split's paths as written.
        class_names: names by label.
        keypoints: as for `read_yolo_txt`.
        notes: notes about the whole file.
    """

    file: Path
    base: Path
    entries: tuple[str, ...]
    class_names: tuple[str, ...]
    keypoints: tuple[int, int] | None
    notes: tuple[str, ...]

    def read(self) -> DetectionSet:
        """Read the labels of the images; raise InputError if a path does not exist, or as `read_yolo_txt` does."""
        paths = [self._locate(text) for text in self.entries]
        data = read_yolo_txt(paths, self.class_names, keypoints=self.keypoints, roots=(self.base, self.file.parent))
        moved = [
            f"{self.file}: {text!r} was taken for {path}"
            for text, path in zip(self.entries, paths)
            if not _on_disk(self.base, text)
        ]
        return dataclasses.replace(data, notes=(*self.notes, *moved, *data.notes))

    def _locate(self, text: str) -> Path:
        path = _find_place(self.base, text) if is_possible_path(text) else None
        if not path:
            tried = f"{self.base / text} and {Path(text).absolute()}"
            raise MissingError(f"{self.file}: {short(text)} does not exist; tried {tried}")
        return path


def yolo_sources(root: Path) -> Mapping[str, YoloSource | YoloYamlSource]:
    """Return the splits of a folder with a data.yaml, or with images/, labels/ and classes.txt; none if it has neither.

    Raises:
        InputError: if class names are missing, or data.yaml is faulty.

    Example:
        >>> from yolo_lite.data.care.convert import write_sets
        >>> from yolo_lite.data.splits import read_splits
        >>> _ = write_sets(read_splits("my_images"), "yolo", out=Path("yolo_set"))
        >>> sorted(yolo_sources(Path("yolo_set")))
        ['train', 'val']
    """
    for name in YAML_FILES:
        if (root / name).is_file():
            return yolo_yaml_sources(root / name)
    if not (root / "images").is_dir() or not (root / "labels").is_dir():
        return {}
    names_file = root / "classes.txt"
    if not names_file.is_file():
        raise InputError(
            f"{root} holds images/ and labels/ but no class names; write 'names: [first, second]' to {root}/data.yaml"
        )
    names = [line.strip() for line in read_text(names_file).splitlines() if line.strip()]
    return _folder_sources(root, names, None)


def yolo_yaml_sources(file: Path) -> Mapping[str, YoloSource | YoloYamlSource]:
    """Return the splits that a data.yaml names; if it names none, those of the folders beside it.

    Raises:
        InputError: if its names, `kpt_shape` or `path` are faulty.

    Example:
        >>> _ = Path("dogs.yaml").write_text("{train: my_images/images, names: [dog]}")
        >>> yolo_yaml_sources(Path("dogs.yaml"))["train"].class_names
        ('dog',)
    """
    values = read_yaml(file)
    names = _class_names(file, values["names"])
    keypoints = _keypoints(file, values.get("kpt_shape"))
    base, notes = _base(file, values)
    sources = {}
    for key in values:
        split = canonical_split(str(key))
        if split in SPLITS and values[key]:
            entries = values[key] if isinstance(values[key], list) else [values[key]]
            texts = tuple(str(entry) for entry in entries)
            sources[split] = YoloYamlSource(
                file, base, entries=texts, class_names=names, keypoints=keypoints, notes=notes
            )
    return sources or _folder_sources(base, names, keypoints)


def _folder_sources(root: Path, names: Sequence[str], keypoints: tuple[int, int] | None) -> dict[str, YoloSource]:
    folders = {canonical_split(folder.name): folder for folder in sorted((root / "images").glob("*/"))}
    folders = {split: folder for split, folder in folders.items() if split in SPLITS}
    folders = folders or {
        canonical_split(folder.parent.name): folder
        for folder in sorted(root.glob("*/images/"))
        if folder.is_dir() and not is_hidden(folder.parent.name)
    }
    folders = folders or {"train": root / "images"}
    return {split: YoloSource((folder,), tuple(names), keypoints) for split, folder in folders.items()}


def _class_names(file: Path, names: Any) -> tuple[str, ...]:
    if isinstance(names, Mapping):
        if set(names) != set(range(len(names))):
            raise InputError(
                f"{file}: names must be numbered 0..{len(names) - 1} without gaps, got {short(list(names))}"
            )
        names = [names[i] for i in range(len(names))]
    names = check_names(names, file, key="names")
    if len(set(names)) < len(names):
        raise InputError(f"{file}: names must differ, got {some(names)}")
    return tuple(names)


def _keypoints(file: Path, shape: Any) -> tuple[int, int] | None:
    """Return kpt_shape: the number of keypoints per object, and of numbers per keypoint."""
    if shape is None:
        return None
    whole = isinstance(shape, list) and len(shape) == 2 and all(type(number) is int for number in shape)
    if not whole or shape[0] < 0 or (shape[0] > 0 and shape[1] not in (2, 3)):
        raise InputError(f"{file}: kpt_shape must be [number of keypoints, 2 or 3], got {shape!r:.120}")
    return shape[0], shape[1]


def _base(file: Path, values: Mapping[str, Any]) -> tuple[Path, tuple[str, ...]]:
    """Return the folder that `path` in a data.yaml refers to, with notes; its own folder if `path` is from another machine."""
    if not values.get("path"):
        return file.parent, ()
    try:
        return locate(file, str(values["path"])), ()
    except MissingError:
        entries = [values[key] for key in values if canonical_split(str(key)) in ("train", "val")]
        texts = [str(text) for entry in entries for text in (entry if isinstance(entry, list) else [entry])]
        if not any(_find_place(file.parent, text) for text in texts if text):
            raise
        return file.parent, (f"{file}: path {values['path']} does not exist; using the file's own folder instead",)


def _on_disk(base: Path, text: str) -> Path | None:
    """Find a path of data.yaml. Exporters often write ../train/images for train/images, so that is tried too."""
    tried = (base / text, Path(text), base / re.sub(r"^(\.\./)+", "", text))
    return next((path for path in tried if path.exists()), None)


def _find_place(base: Path, text: str) -> Path | None:
    """Find a path of data.yaml, even with back-slashes, or from another machine if its last two parts match."""
    path = _on_disk(base, text)
    for parts in () if path else variants(text):
        absolute = PurePosixPath(text).is_absolute() or PureWindowsPath(text).is_absolute()
        least = 1 if parts[-1:] and parts[-1].endswith(".txt") else 2  # every split may end in images
        starts = range(max(1, len(parts) - least + 1)) if absolute else (0,)
        tried = (_on_disk(base, "/".join(parts[start:])) for start in starts)
        path = path or next((place for place in tried if place), None)
    return path
