"""Splits of data sets: labelled images for detection and for classification."""

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
    """The classes of a data set.

    Attributes:
        names: the class names, by label.
        category_ids: the number that the annotations give each class, by label.

    Example:
        >>> Classes.numbered(["cat", "dog"], first=1)
        Classes(names=('cat', 'dog'), category_ids=(1, 2))
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
        """Return the classes of several sets, matched by name; category ids are kept, or count from 1 if they clash.

        Example:
            >>> Classes.join([Classes(("cat",), (7,)), Classes(("dog", "cat"), (7, 3))])
            Classes(names=('cat', 'dog'), category_ids=(1, 2))
        """
        ids: dict[str, int] = {}
        for classes in several:
            for name, category_id in zip(classes.names, classes.category_ids):
                ids.setdefault(name, category_id)
        if len(set(ids.values())) < len(ids):
            return cls.numbered(ids, first=1)
        return cls(tuple(ids), tuple(ids.values()))

    def select(self, names: Sequence[str], *, source: str) -> Classes:
        """Return the classes with the given names, in the given order; error messages call the set `source`.

        Raises:
            InputError: if a name is given twice, or is unknown; the message names the most similar one.

        Example:
            >>> Classes(("cat", "dog"), (7, 3)).select(["dog"], source="my_set")
            Classes(names=('dog',), category_ids=(3,))
        """
        for name in names:
            if name not in self.names:
                raise InputError(f"{source} has no class {name!r}; {suggest(name, self.names)}")
        if len(set(names)) != len(names):
            raise InputError(f"--classes names a class twice: {', '.join(names)}")
        return Classes(tuple(names), tuple(self.category_ids[self.names.index(name)] for name in names))

    def only(self, names: Sequence[str]) -> Classes:
        """Return the classes whose names are given, in the order of this object; unknown names are ignored."""
        kept = [label for label, name in enumerate(self.names) if name in names]
        return Classes(tuple(self.names[i] for i in kept), tuple(self.category_ids[i] for i in kept))

    def labels_in(self, other: Classes) -> npt.NDArray[np.int64]:
        """Return the label of each class in another list of classes, matched by name: int64 [C], -1 if it is absent.

        Example:
            >>> Classes.numbered(["cat", "dog"]).labels_in(Classes.numbered(["dog", "bird"])).tolist()
            [-1, 0]
        """
        labels = {name: label for label, name in enumerate(other.names)}
        return np.array([labels.get(name, -1) for name in self.names], np.int64)


@dataclass(frozen=True)
class DetectionSet:
    """One split of a detection data set.

    Attributes:
        records: the labelled images; any sequence of `ImageRecord` is packed into a `Records`.
        class_names: by label.
        category_ids: the number that the annotations give each class, by label.
        source: where the split was read from.
        dropped: number of annotations without area, which are left out.
        notes: one line for each kind of annotation that was corrected or left out.
        ignored: what the annotations call the objects with a crowd mark: "crowd" or "difficult", or both with " or ".

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> read_split("my_images", "val").summary()
        '3 images, 6 boxes, 2 classes'
    """

    records: Records
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]
    source: str
    dropped: int = 0
    notes: tuple[str, ...] = ()
    ignored: str = "crowd"

    def __post_init__(self) -> None:
        if not isinstance(self.records, Records):
            object.__setattr__(self, "records", Records.pack(self.records))

    @property
    def classes(self) -> Classes:
        """The classes, by label."""
        return Classes(self.class_names, self.category_ids)

    def pick(self, positions: Iterable[int]) -> DetectionSet:
        """Return a set of the images at the given positions, sorted by position.

        Example:
            >>> from yolo_lite.data.splits import read_split
            >>> read_split("my_images", "val").pick([2, 0]).records.image_ids.tolist()
            [7, 9]
        """
        return dataclasses.replace(self, records=self.records.take(np.array(sorted(positions), np.int64)))

    def with_classes(self, classes: Classes) -> DetectionSet:
        """Return the set with the labels of `classes`, matched by name; objects of all other classes are left out.

        Example:
            >>> from yolo_lite.data.splits import read_split
            >>> discs = read_split("my_images", "val").with_classes(Classes(("disc",), (1,)))
            >>> discs.class_names, set(discs.records.objects.labels.tolist())
            (('disc',), {0})
        """
        records = self.records
        if self.class_names != classes.names:
            records = records.relabel(self.classes.labels_in(classes))
        return dataclasses.replace(self, records=records, class_names=classes.names, category_ids=classes.category_ids)

    def summary(self) -> str:
        """Return one line on the number of images, boxes and classes."""
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
            text += f"; {counted(crowd, f'{self.ignored} box', plural=f'{self.ignored} boxes')} ignored in training"
        if partly > unknown:
            text += f"; {counted(partly - unknown, 'image')} labelled for some classes only"
        if unknown:
            text += f"; {counted(unknown, 'image')} without labels"
        if self.dropped:
            text += f"; {counted(self.dropped, 'box', plural='boxes')} without area dropped"
        return text


@dataclass(frozen=True)
class ClassRecord:
    """One image, or a part of one, with its class.

    Attributes:
        name: the name of the image in messages: its path, or its place in an archive.
        content: an image file, the bytes of one, or pixels, uint8 [H, W] grey or [H, W, 3] RGB.
        label: position in the class names.
        box: the part of the image that is used, xyxy in original pixels; None for the whole image.
    """

    name: str
    content: Path | bytes | npt.NDArray[np.uint8]
    label: int
    box: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class ClassificationSet:
    """One split of a classification data set.

    Attributes:
        records: the images with their labels.
        class_names: by label.
        source: where the split was read from.
        notes: one line for each change that was made while reading.

    Example:
        >>> pixels = np.zeros((2, 4, 4), np.uint8)
        >>> labels = np.array([1, 1], np.uint8)
        >>> ClassificationSet.from_arrays(pixels, labels, class_names=["cat", "dog"], source="drawn").summary()
        '2 images, 2 classes: cat (0), dog (2)'
    """

    records: tuple[ClassRecord, ...]
    class_names: tuple[str, ...]
    source: str
    notes: tuple[str, ...] = ()

    @classmethod
    def from_arrays(
        cls,
        images: npt.NDArray[np.uint8],
        labels: npt.NDArray[np.uint8],
        *,
        class_names: Sequence[str],
        source: str,
    ) -> ClassificationSet:
        """Return a set made from pixels, uint8 [N, H, W] grey or [N, H, W, 3] RGB, and labels [N].

        Each image's name is the source and the image's position, counted from 0.
        """
        pairs = enumerate(zip(np.ascontiguousarray(images), labels.tolist()))
        records = tuple(ClassRecord(f"{source} {number}", image, label) for number, (image, label) in pairs)
        return cls(records, tuple(class_names), source)

    @property
    def classes(self) -> Classes:
        """The classes, by label; their category ids are the labels."""
        return Classes.numbered(self.class_names)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """The label of each image: int64 [N]."""
        return np.array([record.label for record in self.records], np.int64)

    def pick(self, positions: Iterable[int]) -> ClassificationSet:
        """Return a set of the images at the given positions, sorted by position."""
        return dataclasses.replace(self, records=tuple(self.records[i] for i in sorted(positions)))

    def with_classes(self, classes: Classes) -> ClassificationSet:
        """Return the set with the labels of `classes`, matched by name; images of all other classes are left out.

        Example:
            >>> names = ["cat", "dog"]
            >>> pixels, labels = np.zeros((3, 4, 4), np.uint8), np.array([0, 1, 1])
            >>> data = ClassificationSet.from_arrays(pixels, labels, class_names=names, source="drawn")
            >>> data.with_classes(Classes.numbered(["dog"])).labels.tolist()
            [0, 0]
        """
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
        """Return one line on the number of images and classes."""
        counts = np.bincount(self.labels, minlength=len(self.class_names))
        listed = ", ".join(f"{name} ({count:,})" for name, count in list(zip(self.class_names, counts))[:12])
        more = f" and {len(self.class_names) - 12} more" if len(self.class_names) > 12 else ""
        return f"{counted(len(self.records), 'image')}, {counted(len(self.class_names), 'class', plural='classes')}: {listed}{more}"
