"""Labelled images as their annotations describe them, one split at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from yolo_lite.errors import InputError, counted, suggest
from yolo_lite.structures.records import Records


@dataclass(frozen=True)
class Classes:
    """The classes of a set.

    Attributes:
        names: by label.
        category_ids: the number that the annotations give each class, by label.
    """

    names: tuple[str, ...]
    category_ids: tuple[int, ...]

    @classmethod
    def numbered(cls, names: Iterable[str], *, first: int = 0) -> Classes:
        """Return classes whose category ids count from `first`."""
        names = tuple(names)
        return cls(names, tuple(range(first, first + len(names))))

    @classmethod
    def join(cls, several: Sequence[Classes]) -> Classes:
        """Return the classes of all, matched by name; category ids are kept where no two clash, else counted from 1."""
        ids: dict[str, int] = {}
        for classes in several:
            for name, category_id in zip(classes.names, classes.category_ids):
                ids.setdefault(name, category_id)
        if len(set(ids.values())) < len(ids):
            return cls.numbered(ids, first=1)
        return cls(tuple(ids), tuple(ids.values()))

    def select(self, names: Sequence[str], *, source: str) -> Classes:
        """Return some classes, in the order given; messages call the set `source`.

        Raises:
            InputError: for a class that is not among them, naming the nearest.
        """
        for name in names:
            if name not in self.names:
                raise InputError(f"{source} has no class {name!r}; {suggest(name, self.names)}")
        if len(set(names)) != len(names):
            raise InputError(f"--classes names a class twice: {', '.join(names)}")
        return Classes(tuple(names), tuple(self.category_ids[self.names.index(name)] for name in names))

    def only(self, names: Sequence[str]) -> Classes:
        """Return the classes that are among some names, in their own order."""
        kept = [label for label, name in enumerate(self.names) if name in names]
        return Classes(tuple(self.names[i] for i in kept), tuple(self.category_ids[i] for i in kept))

    def labels_in(self, other: Classes) -> npt.NDArray[np.int64]:
        """Return the label that each class has among others, matched by name: int64 [C], -1 where it is not there."""
        labels = {name: label for label, name in enumerate(other.names)}
        return np.array([labels.get(name, -1) for name in self.names], np.int64)


@dataclass(frozen=True)
class DetectionSet:
    """One split of a data set: records, class names by label, and the category id that each class had originally.

    Records are packed: a sequence of them becomes a `Records`.
    """

    records: Records
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    source: str  # where it was read from
    dropped: int = 0  # annotations without area, left out
    notes: tuple[str, ...] = ()  # what was read in another way than it is written, or left out: one line each

    def __post_init__(self) -> None:
        if not isinstance(self.records, Records):
            object.__setattr__(self, "records", Records.pack(self.records))

    @property
    def classes(self) -> Classes:
        """The classes, by label."""
        return Classes(self.class_names, self.category_ids)

    def pick(self, positions: Iterable[int]) -> DetectionSet:
        """Return the set of some images, in its own order."""
        return dataclasses.replace(self, records=self.records.take(np.array(sorted(positions), np.int64)))

    def with_classes(self, classes: Classes) -> DetectionSet:
        """Renumber labels to other classes, matched by name; objects of classes that are not among these are left out."""
        records = self.records
        if self.class_names != classes.names:
            records = records.relabel(self.classes.labels_in(classes))
        return dataclasses.replace(self, records=records, class_names=classes.names, category_ids=classes.category_ids)

    def summary(self) -> str:
        """Say in one line what was found."""
        boxes, crowd = len(self.records.objects.boxes), int(self.records.objects.crowd.sum())
        without = self.records.counts == 0
        unlabelled = self.records.unlabelled.counts()
        empty, partly = int(without.sum()), int((unlabelled > 0).sum())
        unknown = int((without & (unlabelled == len(self.class_names))).sum())
        text = f"{counted(len(self.records), 'image')}, {counted(boxes, 'box', plural='boxes')}"
        text += f", {counted(len(self.class_names), 'class', plural='classes')}"
        if empty > unknown:
            text += f"; {counted(empty - unknown, 'image')} without objects kept as background"
        if crowd:
            text += f"; {counted(crowd, 'crowd box', plural='crowd boxes')} ignored in training"
        if partly > unknown:
            text += f"; {counted(partly - unknown, 'image')} labelled for some classes only"
        if unknown:
            text += f"; {counted(unknown, 'image')} without labels"
        if self.dropped:
            text += f"; {counted(self.dropped, 'box', plural='boxes')} without area dropped"
        return text


@dataclass(frozen=True)
class ClassRecord:
    """One image, or a part of one, with the class it belongs to.

    Attributes:
        name: what messages call it: its path, or its place in an archive.
        content: an image's file, the bytes of one, or its pixels, uint8 [H, W] grey or [H, W, 3] RGB.
        label: position in the class names.
        box: xyxy, original pixels, of the part that is meant; None for the whole image.
    """

    name: str
    content: Path | bytes | npt.NDArray[np.uint8]
    label: int
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class ClassificationSet:
    """One split of a set of images to classify."""

    records: tuple[ClassRecord, ...]
    class_names: tuple[str, ...]
    source: str
    notes: tuple[str, ...] = ()  # what was done in reading it: one line each

    @classmethod
    def from_arrays(
        cls,
        images: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.uint8],
        *,
        class_names: Sequence[str],
        source: str,
    ) -> ClassificationSet:
        """Make a set of pixels, uint8 [N, H, W] grey or [N, H, W, 3] RGB, and labels [N]; images are numbered from 0."""
        pairs = enumerate(zip(np.ascontiguousarray(images), labels.tolist()))
        records = tuple(ClassRecord(f"{source} {number}", image, label) for number, (image, label) in pairs)
        return cls(records, tuple(class_names), source)

    @property
    def classes(self) -> Classes:
        """The classes, by label; these sets have no category ids but the labels."""
        return Classes.numbered(self.class_names)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """The label of each image: int64 [N]."""
        return np.array([record.label for record in self.records], np.int64)

    def pick(self, positions: Iterable[int]) -> ClassificationSet:
        """Return the set of some images, in its own order."""
        return dataclasses.replace(self, records=tuple(self.records[i] for i in sorted(positions)))

    def with_classes(self, classes: Classes) -> ClassificationSet:
        """Renumber labels to other classes, matched by name; images of classes that are not among these are left out."""
        if self.class_names == classes.names:
            return self
        table = self.classes.labels_in(classes).tolist()
        records = tuple(
            dataclasses.replace(record, label=table[record.label])
            for record in self.records
            if table[record.label] >= 0
        )
        return dataclasses.replace(self, records=records, class_names=classes.names)

    def summary(self) -> str:
        """Say in one line what was found."""
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        listed = ", ".join(f"{name} ({count:,})" for name, count in list(zip(self.class_names, counts))[:12])
        more = f" and {len(self.class_names) - 12} more" if len(self.class_names) > 12 else ""
        return f"{counted(len(self.records), 'image')}, {counted(len(self.class_names), 'class', plural='classes')}: {listed}{more}"
