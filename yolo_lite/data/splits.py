"""Read the splits that training, evaluation and the data tools need, of detection sets and of images to classify."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from yolo_lite.config.schema import DataConfig
from yolo_lite.data.catalog import Source, find_splits, read_whole, source_of
from yolo_lite.data.class_catalog import read_class_splits
from yolo_lite.data.classes import (
    refuse_empty_classes,
    refuse_unknown_classes,
    select_classes,
    shown_classes,
    spell_as_in_training,
)
from yolo_lite.data.crops import MIN_CROP, with_background
from yolo_lite.data.divide import draw, draw_classes, hold_out, hold_out_classes
from yolo_lite.data.entries import MissingError, canonical_split
from yolo_lite.data.faults import only_crowd
from yolo_lite.data.repeats import join_repeats, repeats
from yolo_lite.errors import InputError, are, counted, some
from yolo_lite.files import check_readable
from yolo_lite.media.folders import images_below
from yolo_lite.media.images import IMAGE_SUFFIXES, read_image_size
from yolo_lite.structures.datasets import Classes, ClassificationSet, DetectionSet
from yolo_lite.structures.records import ImageRecord, Records


def read_split(
    path: str | Path, split: str, *, classes: Sequence[str] | None = None, difficult: bool = False
) -> DetectionSet:
    """Read one split of a folder, YAML file or JSON file.

    Args:
        path: the folder or file.
        split: its name, such as train, val or test.
        classes: only these classes, in this order; None for all.
        difficult: treat the objects that PASCAL VOC marks difficult like any others.

    Raises:
        InputError: if nothing is recognised, the split does not exist or is empty, or an annotation is bad.

    Example:
        >>> data = read_split("my_images", "train", classes=["disc"])
        >>> len(data.records), data.class_names
        (6, ('disc',))
    """
    path = Path(path)
    return _read(source_of(find_splits(path, difficult=difficult), split, path=path), classes)


def read_splits(path: str | Path) -> dict[str, DetectionSet]:
    """Read every split, each image once. Every split gets the classes of all splits.

    If the data names a test split that does not exist, as many a data.yaml does, it is left out, and a note in the first
    set reports it.

    Raises:
        InputError: if nothing is recognised, or an annotation is bad.

    Example:
        >>> {split: len(data.records) for split, data in read_splits("my_images").items()}
        {'train': 6, 'val': 3}
    """
    sets: dict[str, DetectionSet] = {}
    notes: list[str] = []
    for split, source in find_splits(Path(path)).items():
        try:
            data = source.read()
            sets[split] = join_repeats(data, repeats(data))
        except MissingError as error:
            if split != "test":
                raise
            notes.append(f"the split 'test' is left out: {error}")
    if not sets:
        raise MissingError(notes[0])
    classes = Classes.join([data.classes for data in sets.values()])
    first = next(iter(sets))
    sets[first] = dataclasses.replace(sets[first], notes=(*sets[first].notes, *notes))
    return {split: data.with_classes(classes) for split, data in sets.items()}


def read_split_or_held_out(
    data: DataConfig, split: str, *, seed: int, trained_on: str = ""
) -> tuple[DetectionSet, list[str]]:
    """Read a split. If val is asked for but missing, return the images that training with this seed sets aside.

    An annotation file by itself is scored whole, unless the weights were trained on it.

    Returns:
        The set, and notes about how it was read.

    Example:
        >>> data, notes = read_split_or_held_out(DataConfig(path="my_images"), "val", seed=0)
        >>> len(data.records), notes
        (3, [])
    """
    path = Path(data.path)
    sources = find_splits(path, difficult=data.difficult)
    own = canonical_split(split) != "val" or "val" in sources or "train" not in sources
    if own or (path.suffix == ".json" and data.path != trained_on):
        whole = _read(source_of(sources, split, path=path), data.classes)
        return whole, list(whole.notes)
    _, aside = hold_out(_read(sources["train"], data.classes), seed)
    images = counted(len(aside.records), "image")
    return aside, [*aside.notes, f"{data.path} has no split 'val': scored on the {images} set aside by seed {seed}"]


def read_train_and_val(data: DataConfig, *, seed: int) -> tuple[DetectionSet, DetectionSet, list[str]]:
    """Read the training and validation sets of a detector.

    If there is no validation split, the seed sets a tenth of the training images aside. From the remaining training
    images, the seed draws the configured fraction.

    Returns:
        The training set, the validation set with the same classes, and notes about what was found and done. The names
        of the classes are those of the training split; validation may spell them differently (`names_in_data`).

    Raises:
        InputError: if a split is missing, faulty or shows nothing, or a class of validation could be several of training.

    Example:
        >>> train, val, notes = read_train_and_val(DataConfig(path="my_images", fraction=0.5), seed=0)
        >>> len(train.records), len(val.records)
        (3, 3)
    """
    _check_amounts(data)
    sources = find_splits(Path(data.path), difficult=data.difficult)
    if "train" not in sources:
        raise InputError(f"{data.path} has no training split; found {', '.join(sources)}")
    whole = read_whole(sources["train"])
    train = select_classes(whole, data.classes) if data.classes else whole
    _refuse_without_objects(train)
    if "val" in sources:
        val, val_notes = _validation(sources["val"], train, known=whole.class_names, chosen=data.classes)
    else:
        train, val = hold_out(train, seed)
        val_notes = [f"{_aside_note(len(val.records), seed)}: {val.summary()}"]
    notes = [*_notes("train", train), *val_notes]
    if data.fraction < 1:
        train = draw(train, data.fraction, seed=seed)
        notes.append(f"train: {data.fraction:g} of it, drawn by seed {seed}: {train.summary()}")
    _refuse_without_objects(train)
    _refuse_without_objects(val)
    return train, val, notes


def read_classes_to_train(data: DataConfig, *, seed: int) -> tuple[ClassificationSet, ClassificationSet, list[str]]:
    """Read the training and validation sets of a classifier; a test split is not touched.

    If there is no validation split, the seed sets a tenth of each class aside. From the remaining training images, the
    seed draws the configured fraction of each class, and at most `per_class` images of it (0: all).

    Returns:
        The training set, the validation set with the same classes, and notes about what was found and done. The names
        of the classes are those of the training split; validation may spell them differently (`names_in_data`).

    Raises:
        InputError: if a split is missing, faulty or shows nothing, or a class of validation could be several of training.

    Example:
        >>> train, val, notes = read_classes_to_train(DataConfig(path="my_classes", per_class=3), seed=0)
        >>> len(train.records), len(val.records)
        (6, 4)
    """
    _check_amounts(data)
    splits, notes = read_class_splits(data.path, data.shares, seed=seed, unread=("test",))
    if "train" not in splits:
        splits, _ = read_class_splits(data.path, data.shares, seed=seed)
        raise InputError(f"{data.path} has no training split; found {', '.join(splits) or 'none'}")
    train = select_classes(splits["train"], data.classes) if data.classes else splits["train"]
    refuse_empty_classes(train)
    if "val" in splits:
        val, spelling = spell_as_in_training(splits["val"], splits["train"].class_names, chosen=data.classes)
        if not data.classes:
            refuse_unknown_classes(val, train.class_names)
        val = val.with_classes(train.classes)
        notes = [*notes, *spelling]
    else:
        train, val = hold_out_classes(splits["train"], data.classes, seed=seed)
        notes.append(_aside_note(len(val.records), seed))
    if data.fraction < 1 or data.per_class:
        train = draw_classes(train, data.fraction, per_class=data.per_class, seed=seed)
        notes.append(f"train: a part is drawn by seed {seed}")
    if not val.records:
        raise InputError(f"{val.source}: no image of the classes {some(train.class_names)} to validate on")
    return train, val, [*notes, f"train: {train.summary()} ({train.source})", f"val: {val.summary()} ({val.source})"]


def read_crops_to_train(data: DataConfig, *, seed: int) -> tuple[ClassificationSet, ClassificationSet, list[str]]:
    """Read a detector's training data as images to classify: its objects, cut out, and pieces of background.

    It uses only the images that the detector's own training uses.

    Returns:
        The training set, the validation set (the training set again if all validation objects are too small), and a note
        about what was made.

    Raises:
        InputError: if all objects are too small to be cut out.

    Example:
        >>> train, val, notes = read_crops_to_train(DataConfig(path="my_images"), seed=0)
        >>> train.class_names
        ('disc', 'square', '(background)')
    """
    train, val = (with_background(split, seed=seed) for split in read_train_and_val(data, seed=seed)[:2])
    val = val if val.records else train
    if not (train.labels < len(train.class_names) - 1).any():
        raise InputError(
            f"every object of {data.path} has a side under {MIN_CROP} pixels, too small for a backbone to learn from; skip "
            "this step: --set pretrain.crops=0"
        )
    return train, val, [f"objects cut out, and background: {train.summary()}; to validate: {val.summary()}"]


def read_classes_to_score(data: DataConfig, split: str | None = None, *, seed: int) -> tuple[str, ClassificationSet]:
    """Read one split to score; by default test if there is one, else val.

    If there is no val split, val means the images that training with the same seed sets aside.

    Returns:
        The split's name and its content, whose notes report how it was read.

    Example:
        >>> name, data = read_classes_to_score(DataConfig(path="my_classes"), seed=0)
        >>> name, len(data.records)
        ('val', 4)
    """
    asked, split = split, canonical_split(split) if split else None
    unread = () if split in (None, "test") else ("test",)
    splits, notes = read_class_splits(data.path, data.shares, seed=seed, unread=unread)
    splits = {name: dataclasses.replace(part, notes=tuple(notes)) for name, part in splits.items()}
    if "val" not in splits and "train" in splits and (split == "val" or (split is None and "test" not in splits)):
        return "val", hold_out_classes(splits["train"], data.classes, seed=seed)[1]
    name = split or next((name for name in ("test", "val") if name in splits), "test")
    if name not in splits:
        raise InputError(f"{data.path} has no split {asked or name!r}; found {', '.join(splits) or 'none'}")
    return name, select_classes(splits[name], data.classes) if data.classes else splits[name]


def add_unlabelled(data: DetectionSet, folder: Path) -> DetectionSet:
    """Add all images below a folder as unlabelled: the absence of any class from them means nothing.

    Raises:
        InputError: if the folder holds no images, or one cannot be read.

    Example:
        >>> data = add_unlabelled(read_split("my_images", "train"), Path("my_classes/val"))
        >>> len(data.records), data.records[-1].unlabelled
        (10, (0, 1))
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; --unlabelled takes a folder of images")
    check_readable(folder)
    files, notes = images_below(folder)
    if not files:
        raise InputError(
            "; ".join([f"no images in the folder {folder}; looked for {', '.join(IMAGE_SUFFIXES)}", *notes])
        )
    number = max(data.records.image_ids.tolist(), default=0)
    every = tuple(range(len(data.class_names)))
    more = Records.pack(
        ImageRecord(
            file,
            number + i,
            hw=read_image_size(file),
            boxes=np.zeros((0, 4)),
            labels=np.zeros(0, np.int64),
            crowd=np.zeros(0, np.bool_),
            areas=np.zeros(0),
            unlabelled=every,
        )
        for i, file in enumerate(files, 1)
    )
    return dataclasses.replace(data, records=Records.join([data.records, more]), notes=(*data.notes, *notes))


def _read(source: Source, classes: Sequence[str] | None) -> DetectionSet:
    data = read_whole(source)
    return select_classes(data, classes) if classes else data


def _validation(
    source: Source, train: DetectionSet, *, known: Sequence[str], chosen: Sequence[str]
) -> tuple[DetectionSet, list[str]]:
    """Read a validation split with the classes of a training set, whose split has all `known` ones.

    A note lists classes left out, unless the user chose some.
    """
    whole, spelling = spell_as_in_training(read_whole(source), known, chosen=chosen)
    val = whole.with_classes(train.classes)
    notes = [*_notes("val", val), *spelling]
    others = [name for name in whole.class_names if name not in train.class_names and not chosen]
    if others:
        notes.append(f"val: the classes {some(others)} are not in train and are left out")
    unseen = set(shown_classes(val)) - set(shown_classes(train))
    if unseen:
        names = [name for name in val.class_names if name in unseen]
        notes.append(f"val: no training image shows {some(names)}, so their AP says nothing about the training")
    return val, notes


def _notes(split: str, data: DetectionSet) -> list[str]:
    return [f"{split}: {data.summary()} ({data.source})", *(f"{split}: {note}" for note in data.notes)]


def _aside_note(count: int, seed: int) -> str:
    return f"val: no such split, so {counted(count, 'training image')} {are(count)} set aside by seed {seed}"


def _check_amounts(data: DataConfig) -> None:
    if not 0 < data.fraction <= 1:
        raise InputError(f"--fraction must be above 0 and at most 1, got {data.fraction}")
    if data.per_class < 0:
        raise InputError(f"--per-class must be at least 1, or 0 for all, got {data.per_class}")


def _refuse_without_objects(data: DetectionSet) -> None:
    crowd = data.records.objects.crowd
    if not crowd.all():
        return
    if len(crowd):
        raise InputError(f"{data.source}: {only_crowd(len(crowd))}")
    raise InputError(
        f"{data.source}: none of {counted(len(data.records), 'image')} shows an object of {some(data.class_names)}"
    )
