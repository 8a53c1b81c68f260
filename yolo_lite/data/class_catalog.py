"""Recognise and read images to classify.

A path may be:

- a folder, .tar or .tar.gz with `train/<class>/...` and `val`, `validation` or `test`; or with the class folders at its
  top, which are then split by the seed;
- MNIST's idx files (`train-images-idx3-ubyte`, `t10k-labels-idx1-ubyte` ..., also as .gz) in a folder or archive;
- CIFAR-10's binary version (`data_batch_1.bin` ...), in a folder or archive;
- a detection set (see catalog.py): every box is cut out and classified;
- a YAML file that joins several of these by class name:

      classes: [cat, dog, car]         # optional: only these, in this order
      train: [cats_dogs.tar, {data: voc5, classes: [car]}]      # each set's split of the same name...
      test: {data: voc5, split: val}                            # ...or another one

Archives are read in place; nothing is unpacked to disk.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from yolo_lite.data.catalog import find_splits, is_detection_set
from yolo_lite.data.classes import select_classes
from yolo_lite.data.crops import cut_objects
from yolo_lite.data.divide import DEFAULT_SHARES
from yolo_lite.data.entries import SPLITS, Joined, canonical_split, check_names, joins_sets, locate, read_joined
from yolo_lite.data.formats.cifar import cifar_splits
from yolo_lite.data.formats.folders import file_tree, folder_splits
from yolo_lite.data.formats.mnist import mnist_splits
from yolo_lite.errors import InputError
from yolo_lite.structures.datasets import Classes, ClassificationSet

ClassSplits = dict[str, ClassificationSet]


def read_class_splits(
    path: str | Path, shares: str = DEFAULT_SHARES, *, seed: int = 0, unread: Collection[str] = ()
) -> tuple[ClassSplits, list[str]]:
    """Read every split of a set of images to classify.

    Args:
        path: see the top of this module.
        shares: how to divide class folders without splits, in percent: train/val, or train/val/test.
        seed: seed of that division.
        unread: splits that are not needed; those of YAML files and detection sets are then not read.

    Returns:
        The splits by canonical name (train, val, test), and notes about what was done.

    Raises:
        InputError: if nothing is recognised, a class has no image, or a file is not what its name promises.

    Example:
        >>> splits, notes = read_class_splits("my_classes")
        >>> {split: len(data.records) for split, data in splits.items()}
        {'train': 8, 'val': 4}
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist; --data takes a folder, a tar file or a YAML file")
    if joins_sets(path):
        return _joined(read_joined(path), shares, seed=seed, unread=unread)
    if path.suffix in (".yaml", ".yml", ".json") or (path.is_dir() and is_detection_set(path)):
        return _crops(path, unread)
    tree = file_tree(path)
    splits = mnist_splits(path, tree.files) or cifar_splits(path, tree.files)
    return (splits, []) if splits else folder_splits(path, tree, shares=shares, seed=seed)


def _crops(path: Path, unread: Collection[str]) -> tuple[ClassSplits, list[str]]:
    wanted = {split: source for split, source in find_splits(path).items() if split in SPLITS and split not in unread}
    sets = {split: source.read() for split, source in wanted.items()}
    notes = [f"{split}: {note}" for split, data in sets.items() for note in data.notes]
    splits = {split: cut_objects(data) for split, data in sets.items()}
    return splits, [f"{path} is a detection set: each box is cut out", *notes]


def _joined(joined: Joined, shares: str, *, seed: int, unread: Collection[str]) -> tuple[ClassSplits, list[str]]:
    splits: ClassSplits = {}
    notes: dict[str, None] = {}  # in order, each once
    for split in joined.splits:
        if split in unread:
            continue
        sets = []
        for entry in joined.sets(split):
            part, part_notes = _entry(joined, split, entry=entry, shares=shares, seed=seed)
            sets.append(part)
            notes.update(dict.fromkeys(part_notes))
        classes = Classes.numbered(joined.classes or sorted({name for part in sets for name in part.class_names}))
        records = tuple(record for part in sets for record in part.with_classes(classes).records)
        splits[split] = ClassificationSet(records, classes.names, " + ".join(part.source for part in sets))
    return splits, list(notes)


def _entry(joined: Joined, split: str, *, entry: Any, shares: str, seed: int) -> tuple[ClassificationSet, list[str]]:
    """Read one of the joined sets, and return its split with notes."""
    file = joined.file
    options = joined.options(split, entry, key="data", others=("classes", "split"))
    classes = options.get("classes")
    if classes is not None:
        classes = check_names(classes, file, key="classes")
    place = locate(file, str(options["data"]))
    if joins_sets(place):
        raise InputError(f"{file}: {options['data']} is itself a list of sets; name folders, archives or JSON files")
    wanted = canonical_split(str(options.get("split", split)))
    splits, notes = read_class_splits(place, shares, seed=seed, unread=() if wanted == "test" else ("test",))
    if wanted not in splits:
        raise InputError(f"{file}: {options['data']} has no split {wanted!r}; found {', '.join(splits)}")
    return select_classes(splits[wanted], classes) if classes else splits[wanted], notes
