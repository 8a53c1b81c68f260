"""Records of labelled images: a single record, and the records of a whole set packed into a few arrays."""

from __future__ import annotations

import operator
import os
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt

from yolo_lite.structures.paths import PathPacker, Paths, Positions, join_starts, ranges


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """One labelled image as its annotations describe it.

    Attributes:
        path: the image file.
        image_id: the number that the data set gives the image, unique in the set.
        hw: (height, width) in original pixels.
        boxes: float64 [N, 4] xyxy, original pixels.
        labels: int64 [N].
        crowd: bool [N]; a crowd box marks a region of uncounted objects, ignored in training and evaluation.
        areas: float64 [N], the annotated areas (of the masks, if there are any), by which COCO groups objects by size.
        unlabelled: labels of classes whose objects are not all marked in this image. Training does not penalise
            predictions of them outside the given boxes; evaluation leaves them out.
        labels_file: the file that the boxes come from; None if they come from no file.
        numbers: int64 [N], the line of each box in a text file, its object in an XML file, or its annotation id in a
            JSON file (-1 if it has no id); empty if the numbers are unknown.
    """

    path: Path
    image_id: int
    hw: tuple[int, int]
    boxes: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    crowd: npt.NDArray[np.bool_]
    areas: npt.NDArray[np.float64]
    unlabelled: tuple[int, ...] = ()
    labels_file: Path | None = None
    numbers: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))

    def place(self, index: int) -> str:
        """Return where a box is annotated, for messages: the file, and the line, object or annotation in it.

        Example:
            >>> from yolo_lite.data.splits import read_split
            >>> read_split("my_images", "val").records[0].place(1)
            'my_images/annotations/instances_val.json: annotation 2'
        """
        if self.labels_file is None or index >= len(self.numbers):
            return f"{self.path}: box {index + 1}"
        noun = {".txt": "line", ".xml": "object"}.get(self.labels_file.suffix.lower(), "annotation")
        number = int(self.numbers[index])
        return f"{self.labels_file}: {noun} {number if number >= 0 else '(without id)'}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ImageRecord):
            return NotImplemented
        pairs = ((getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__)
        return all(np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b for a, b in pairs)


class Objects(NamedTuple):
    """The objects of many images, in the order of the images; the fields are those of `ImageRecord`."""

    boxes: npt.NDArray[np.float64]  # [N, 4]
    labels: npt.NDArray[np.int64]  # [N]
    crowd: npt.NDArray[np.bool_]  # [N]
    areas: npt.NDArray[np.float64]  # [N]
    numbers: npt.NDArray[np.int64]  # [N]; -1 for an unknown number

    def take(self, index: npt.NDArray[np.int64] | npt.NDArray[np.bool_] | slice) -> Objects:
        """Return the objects that an index chooses."""
        return Objects(
            self.boxes[index],
            self.labels[index],
            self.crowd[index],
            areas=self.areas[index],
            numbers=self.numbers[index],
        )

    @classmethod
    def join(cls, several: Sequence[Objects]) -> Objects:
        """Return all objects of several packs, one after another."""
        return cls(
            np.concatenate([objects.boxes for objects in several]),
            np.concatenate([objects.labels for objects in several]),
            np.concatenate([objects.crowd for objects in several]),
            areas=np.concatenate([objects.areas for objects in several]),
            numbers=np.concatenate([objects.numbers for objects in several]),
        )


class Unlabelled(NamedTuple):
    """The classes, for each image, whose objects are not all marked; few different choices occur in a set."""

    choices: tuple[tuple[int, ...], ...]
    choice: npt.NDArray[np.int32]  # [M], position in `choices`

    @classmethod
    def pack(cls, values: Iterable[tuple[int, ...]]) -> Unlabelled:
        """Pack the classes of every image."""
        choices: dict[tuple[int, ...], int] = {}
        choice = [choices.setdefault(value, len(choices)) for value in values]
        return cls(tuple(choices), np.array(choice, np.int32))

    def at(self, position: int) -> tuple[int, ...]:
        """Return the classes of one image."""
        return self.choices[self.choice[position]]

    def counts(self) -> npt.NDArray[np.int64]:
        """Return the number of classes for which each image is not labelled: int64 [M]."""
        return np.array([len(choice) for choice in self.choices], np.int64)[self.choice]

    @classmethod
    def join(cls, several: Sequence[Unlabelled]) -> Unlabelled:
        """Return the classes of all images of several packs, one after another."""
        return cls.pack(unlabelled.at(i) for unlabelled in several for i in range(len(unlabelled.choice)))


@dataclass(frozen=True, eq=False)
class Records(Sequence[ImageRecord]):
    """The records of a set in a few arrays; a record is created only on access, and forked processes share the memory.

    Attributes:
        paths: the files of the M images.
        image_ids: int64 [M].
        sizes_hw: int64 [M, 2], (height, width) in original pixels.
        starts: int64 [M + 1], where the objects of each image begin; the last is the end of the last image's objects.
        objects: the objects of all images.
        numbered: bool [M], whether the numbers of an image's objects are known.
        unlabelled: the classes, for each image, whose objects are not all marked.
        labels_files: the files that the objects come from.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> records = read_split("my_images", "val").records
        >>> len(records), records.counts.tolist(), records[0].hw
        (3, [2, 2, 2], (96, 128))
    """

    paths: Paths
    image_ids: npt.NDArray[np.int64]
    sizes_hw: npt.NDArray[np.int64]
    starts: Positions
    objects: Objects
    numbered: npt.NDArray[np.bool_]
    unlabelled: Unlabelled
    labels_files: Paths

    def __post_init__(self) -> None:
        for column in self.objects:
            column.flags.writeable = False  # a record is a view: writing to it would change the set

    @classmethod
    def pack(cls, records: Iterable[ImageRecord]) -> Records:
        """Pack records; an iterator will do, as each record is needed only once.

        Raises:
            ValueError: as `Packer.add` does.
        """
        packer = Packer()
        for record in records:
            packer.add(record)
        return packer.records()

    def __len__(self) -> int:
        return len(self.image_ids)

    @overload
    def __getitem__(self, key: int) -> ImageRecord: ...

    @overload
    def __getitem__(self, key: slice) -> Records: ...

    def __getitem__(self, key: int | slice) -> ImageRecord | Records:
        if isinstance(key, slice):
            return self.take(np.arange(len(self))[key])
        position = operator.index(key)
        if not -len(self) <= position < len(self):
            raise IndexError(f"no record {position} among {len(self)}")
        return self._record(position % len(self))

    def __iter__(self) -> Iterator[ImageRecord]:
        return map(self._record, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Records):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """The number of objects in each image, crowds included: int64 [M]."""
        return self.starts[1:] - self.starts[:-1]

    @property
    def image_of_objects(self) -> Positions:
        """The position of each object's image: int64 [N]."""
        return np.repeat(np.arange(len(self)), self.counts)

    def asked(self) -> npt.NDArray[np.bool_]:
        """Return which objects evaluation counts: no crowds, and no unlabelled classes. bool [N]."""
        asked = ~self.objects.crowd
        choice = self.unlabelled.choice[self.image_of_objects]
        for number, labels in enumerate(self.unlabelled.choices):
            if labels:
                asked &= (choice != number) | ~np.isin(self.objects.labels, labels)
        return asked

    def asked_labels(self) -> npt.NDArray[np.int64]:
        """Return the labels of all objects that evaluation counts, as `asked` chooses them."""
        return self.objects.labels[self.asked()]

    def short_names(self) -> list[str]:
        """Return the name of each image's file; its folder or its whole path stands in front where others have the name.

        Example:
            >>> from yolo_lite.data.splits import read_split
            >>> read_split("my_images", "val").records.short_names()
            ['0007.png', '0008.png', '0009.png']
        """
        parts = [(folder, os.path.basename(folder), name) for folder, name in self.paths.parts()]
        names = Counter(name for _, _, name in parts)
        pairs = Counter((inner, name) for _, inner, name in parts)
        short = []
        for folder, inner, name in parts:
            if names[name] == 1:
                short.append(name)
            else:
                short.append(f"{inner}/{name}" if pairs[inner, name] == 1 else os.path.join(folder, name))
        return short

    def take(self, positions: Positions) -> Records:
        """Return the records at the given positions, in the given order.

        Example:
            >>> from yolo_lite.data.splits import read_split
            >>> read_split("my_images", "val").records.take(np.array([2, 0])).image_ids.tolist()
            [9, 7]
        """
        index, starts = ranges(self.starts, positions)
        return Records(
            self.paths.take(positions),
            self.image_ids[positions],
            sizes_hw=self.sizes_hw[positions],
            starts=starts,
            objects=self.objects.take(index),
            numbered=self.numbered[positions],
            unlabelled=Unlabelled(self.unlabelled.choices, self.unlabelled.choice[positions]),
            labels_files=self.labels_files.take(positions),
        )

    def relabel(self, table: npt.NDArray[np.int64]) -> Records:
        """Return records with new labels, `table[label]`; objects whose new label is -1 are left out.

        Example:
            >>> from yolo_lite.data.splits import read_split
            >>> records = read_split("my_images", "val").records
            >>> set(records.relabel(np.array([-1, 0])).objects.labels.tolist())
            {0}
        """
        labels = table[self.objects.labels]
        keep = labels >= 0
        new = table.tolist()
        choices = tuple(tuple(new[i] for i in choice if new[i] >= 0) for choice in self.unlabelled.choices)
        return replace(
            self,
            starts=np.concatenate([[0], np.cumsum(keep)]).astype(np.int64)[self.starts],
            objects=self.objects._replace(labels=labels).take(keep),
            unlabelled=Unlabelled(choices, self.unlabelled.choice),
        )

    def without_classes(self, labels: tuple[int, ...]) -> Records:
        """Return records in which `labels` count as unlabelled classes too."""
        choices = tuple((*choice, *labels) for choice in self.unlabelled.choices)
        return replace(self, unlabelled=Unlabelled(choices, self.unlabelled.choice))

    @classmethod
    def join(cls, several: Sequence[Records]) -> Records:
        """Return all records of several sets, one after another."""
        return cls(
            Paths.join([records.paths for records in several]),
            np.concatenate([records.image_ids for records in several]),
            sizes_hw=np.concatenate([records.sizes_hw for records in several]),
            starts=join_starts([records.starts for records in several]),
            objects=Objects.join([records.objects for records in several]),
            numbered=np.concatenate([records.numbered for records in several]),
            unlabelled=Unlabelled.join([records.unlabelled for records in several]),
            labels_files=Paths.join([records.labels_files for records in several]),
        )

    def _record(self, position: int) -> ImageRecord:
        path = self.paths.at(position)
        assert path is not None
        objects = self.objects.take(slice(self.starts[position], self.starts[position + 1]))
        height, width = self.sizes_hw[position].tolist()
        return ImageRecord(
            path,
            int(self.image_ids[position]),
            hw=(height, width),
            boxes=objects.boxes,
            labels=objects.labels,
            crowd=objects.crowd,
            areas=objects.areas,
            unlabelled=self.unlabelled.at(position),
            labels_file=self.labels_files.at(position),
            numbers=objects.numbers if self.numbered[position] else objects.numbers[:0],
        )


class Packer:
    """Collect records one by one, without keeping the ImageRecord objects."""

    def __init__(self) -> None:
        self._images = array("q")  # the id, height and width of each image
        self._numbered = bytearray()
        self._unlabelled: list[tuple[int, ...]] = []
        self._paths, self._labels_files = PathPacker(), PathPacker()
        self._ends = array("q", [0])
        self._columns = tuple(bytearray() for _ in Objects._fields)

    def add(self, record: ImageRecord) -> None:
        """Add a record.

        Raises:
            ValueError: unless each box has one label, crowd mark and area, and either all boxes have a number or none.
        """
        count = len(record.boxes)
        numbered = len(record.numbers) == count
        lengths = {len(record.labels), len(record.crowd), len(record.areas)}
        if lengths != {count} or not (numbered or not len(record.numbers)):
            raise ValueError(
                f"{record.path}: labels, crowd and areas must have {count} entries, one for each box, and numbers {count} "
                f"or none, got {len(record.labels)}, {len(record.crowd)}, {len(record.areas)} and {len(record.numbers)}"
            )
        numbers = record.numbers if numbered else np.full(count, -1)
        values = (record.boxes, record.labels, record.crowd, record.areas, numbers)
        for column, kind, value in zip(self._columns, _TYPES, values):
            column += np.ascontiguousarray(value, kind).tobytes()
        self._ends.append(self._ends[-1] + count)
        self._images.extend((record.image_id, *record.hw))
        self._numbered.append(numbered)
        self._unlabelled.append(record.unlabelled)
        self._paths.add(record.path)
        self._labels_files.add(record.labels_file)

    def __len__(self) -> int:
        return len(self._numbered)

    def records(self) -> Records:
        """Return the records that were added."""
        images = np.array(self._images, np.int64).reshape(-1, 3)
        boxes, labels, crowd, areas, numbers = self._columns
        return Records(
            self._paths.paths(),
            images[:, 0],
            sizes_hw=images[:, 1:],
            starts=np.array(self._ends, np.int64),
            objects=Objects(
                np.frombuffer(boxes, np.float64).reshape(-1, 4),
                np.frombuffer(labels, np.int64),
                np.frombuffer(crowd, np.bool_),
                areas=np.frombuffer(areas, np.float64),
                numbers=np.frombuffer(numbers, np.int64),
            ),
            numbered=np.frombuffer(self._numbered, np.bool_),
            unlabelled=Unlabelled.pack(self._unlabelled),
            labels_files=self._labels_files.paths(),
        )


_TYPES = (np.float64, np.int64, np.bool_, np.float64, np.int64)  # dtypes of the fields of Objects
