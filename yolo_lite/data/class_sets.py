"""Recognise and read pictures to classify.

`--data` may be, for a classifier:

- a folder, a tar or a tar.gz with `train/<class>/...` and `val`, `validation` or `test`; or with the classes at its top,
  which are then split by the seed;
- MNIST's idx files (`train-images-idx3-ubyte`, `t10k-labels-idx1-ubyte` ..., also as .gz) in a folder or archive;
- CIFAR-10 in its binary version (`data_batch_1.bin` ...), in a folder or archive;
- a detection set (see discover.py): every box is cut out and classified;
- a YAML file that joins several of these by class name:

      classes: [cat, dog, car]         # optional: only these, in this order
      train: [cats_dogs.tar, {data: voc5, classes: [car]}]      # of each, the split of that name...
      test: {data: voc5, split: val}                            # ...or of another

Archives are read where they lie; nothing is unpacked.
"""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
import math
import re
import tarfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from yolo_lite.config.read import read_yaml
from yolo_lite.data.discover import (
    canonical_split,
    check_names,
    find_splits,
    is_detection_set,
    locate,
    read_train_and_val,
)
from yolo_lite.data.formats.archive import DAMAGED, Unpacked, open_unpacked
from yolo_lite.errors import InputError, are, counted, reason, short, some, suggest
from yolo_lite.files import check_readable, decode_text, note_large, read_bytes, read_text
from yolo_lite.media.folders import DATA_SUFFIXES, is_hidden, left_out, sort_out, walk
from yolo_lite.media.images import IMAGE_SUFFIXES, is_image
from yolo_lite.structures.datasets import ClassificationSet, ClassRecord, DetectionSet

Splits = dict[str, ClassificationSet]
Content = Path | bytes
SPLITS = ("train", "val", "test")
DEFAULT_SHARES = "70/15/15"
MIN_CROP = 8  # pixels; a box of which a side is shorter shows too little
BACKGROUND = "(background)"  # the class of pieces without an object
MOST_COVERED = 0.2  # share of a piece of background that an object may fill
_HELD_OUT = 0.1
_IDX = re.compile(r"(?:.*[-_.])?(train|t10k|test|val)[-_.](images|labels)[-_.]idx[13][-_.]ubyte(?:\.gz)?")
_IDX_SPLITS = {"train": "train", "t10k": "test", "test": "test", "val": "val"}
_CIFAR_BYTES = 1 + 3 * 32 * 32


def read_class_splits(
    data: str | Path, shares: str = DEFAULT_SHARES, *, seed: int = 0, unread: Collection[str] = ()
) -> tuple[Splits, list[str]]:
    """Read every split that the data has.

    Args:
        data: see above.
        shares: how a folder of classes without splits is divided, in percent: train/val, or train/val/test.
        seed: of that division.
        unread: splits that are not wanted; those of YAML files and detection sets are then left alone.

    Returns:
        The splits by canonical name (train, val, test), and lines that say what was done.

    Raises:
        InputError: where nothing is recognised, a class has no picture, or a file is not what its name says.
    """
    path = Path(data)
    if not path.exists():
        raise InputError(f"{path} does not exist; --data takes a folder, a tar file or a YAML file")
    if path.suffix in (".yaml", ".yml") and "names" not in read_yaml(path):
        return _joined(path, shares, seed=seed, unread=unread)
    if path.suffix in (".yaml", ".yml", ".json") or (path.is_dir() and is_detection_set(path)):
        return _crops(path, unread)
    files, folders = _tree(path)
    splits = _idx_splits(path, files) or _cifar_splits(path, files)
    if splits:
        return splits, []
    return _folder_splits(path, files, folders=folders, shares=shares, seed=seed)


def read_classes_to_train(
    data: str | Path,
    classes: Sequence[str] | None = None,
    *,
    fraction: float = 1.0,
    per_class: int = 0,
    shares: str = DEFAULT_SHARES,
    seed: int = 0,
) -> tuple[ClassificationSet, ClassificationSet, list[str]]:
    """Read what training needs; a test split is left alone.

    Without a validation split a tenth of each class is set aside by the seed. Of the rest `fraction` is drawn, and at
    most `per_class` of each class (0: all).

    Returns:
        The training set, the validation set with the same classes, and lines that say what was found and done.
    """
    if not 0 < fraction <= 1:
        raise InputError(f"--fraction must be above 0 and at most 1, got {fraction}")
    if per_class < 0:
        raise InputError(f"--per-class must be at least 1, or 0 for all, got {per_class}")
    splits, notes = read_class_splits(data, shares, seed=seed, unread=("test",))
    if "train" not in splits:
        splits, _ = read_class_splits(data, shares, seed=seed)
        raise InputError(f"{data} has no training split; found {', '.join(splits) or 'none'}")
    train = select_classes(splits["train"], classes) if classes else splits["train"]
    _check_classes(train)
    if "val" in splits:
        val = align_classes(splits["val"], train.class_names, strict=not classes)
    else:
        train, val = _hold_out(splits["train"], classes, seed)
        aside = counted(len(val.records), "training picture")
        notes.append(f"val: no such split, so {aside} {are(len(val.records))} set aside by seed {seed}")
    if fraction < 1 or per_class:
        train = _part(train, fraction, per_class=per_class, seed=seed)
        notes.append(f"train: a part is drawn by seed {seed}")
    if not val.records:
        raise InputError(f"{val.source}: no picture of the classes {some(train.class_names)} to validate on")
    return train, val, [*notes, f"train: {train.summary()} ({train.source})", f"val: {val.summary()} ({val.source})"]


def read_classes_to_score(
    data: str | Path,
    split: str | None = None,
    *,
    classes: Sequence[str] | None = None,
    shares: str = DEFAULT_SHARES,
    seed: int = 0,
) -> tuple[str, ClassificationSet]:
    """Read one split: test where there is one, else val (with the same seed what training validated on), else train.

    Returns:
        The split's name and content, with notes of what was done in reading it.
    """
    wanted, split = split, canonical_split(split) if split else None
    unread = () if split in (None, "test") else ("test",)
    splits, notes = read_class_splits(data, shares, seed=seed, unread=unread)
    splits = {name: dataclasses.replace(one, notes=tuple(notes)) for name, one in splits.items()}
    if "val" not in splits and "train" in splits and (split == "val" or (split is None and "test" not in splits)):
        return "val", _hold_out(splits["train"], classes, seed)[1]
    name = split or next((name for name in ("test", "val") if name in splits), "test")
    if name not in splits:
        raise InputError(f"{data} has no split {wanted or name!r}; found {', '.join(splits) or 'none'}")
    return name, select_classes(splits[name], classes) if classes else splits[name]


def select_classes(data: ClassificationSet, classes: Sequence[str]) -> ClassificationSet:
    """Keep only some classes, in the order given.

    Raises:
        InputError: for a class the set lacks, naming the nearest.
    """
    for name in classes:
        if name not in data.class_names:
            raise InputError(f"{data.source} has no class {name!r}; {suggest(name, data.class_names)}")
    if len(set(classes)) != len(classes):
        raise InputError(f"--classes names a class twice: {', '.join(classes)}")
    return align_classes(data, classes, strict=False)


def align_classes(data: ClassificationSet, class_names: Sequence[str], *, strict: bool = True) -> ClassificationSet:
    """Renumber labels to `class_names`, matched by name.

    Raises:
        InputError: with `strict`, where a class with pictures is not among them.
    """
    if data.class_names == tuple(class_names):
        return data
    new = {name: label for label, name in enumerate(class_names)}
    present = {data.class_names[record.label] for record in data.records}
    unknown = [name for name in data.class_names if name not in new and name in present]
    if strict and unknown:
        raise InputError(
            f"{data.source} has pictures of {some(unknown)}, a class missing from train ({some(class_names)})"
        )
    records = tuple(
        dataclasses.replace(record, label=new[data.class_names[record.label]])
        for record in data.records
        if data.class_names[record.label] in new
    )
    return ClassificationSet(records, tuple(class_names), source=data.source, notes=data.notes)


def crop_records(data: DetectionSet) -> tuple[ClassRecord, ...]:
    """Return a record for each box of a detection set, but crowds and those with a side under MIN_CROP pixels."""
    return tuple(
        ClassRecord(f"{record.path} at {_rounded(box)}", record.path, label=int(label), box=_sides(box))
        for record in data.records
        for box, label, crowd in zip(record.boxes, record.labels, record.crowd)
        if not crowd and min(box[2] - box[0], box[3] - box[1]) >= MIN_CROP
    )


def read_crops_to_train(
    data: str | Path, classes: Sequence[str] | None, *, fraction: float, seed: int, difficult: bool
) -> tuple[ClassificationSet, ClassificationSet, list[str]]:
    """Read what a detector is to be trained on as pictures to classify: its objects, cut out, and pieces of background.

    Arguments as for discover.read_train_and_val, so that no other picture is looked at than in the detector's training.

    Returns:
        The training set, the validation set (the training set again where its own objects are all too small), and a
        line that says what was made.

    Raises:
        InputError: where all objects are too small to be cut out.
    """
    sets = []
    for split in read_train_and_val(data, classes, fraction=fraction, seed=seed, difficult=difficult)[:2]:
        background = background_records(split, len(split.class_names), seed=seed)
        names = (*split.class_names, BACKGROUND)
        sets.append(ClassificationSet((*crop_records(split), *background), names, split.source))
    train, val = sets[0], sets[1] if sets[1].records else sets[0]
    if not any(record.label < len(train.class_names) - 1 for record in train.records):
        raise InputError(
            f"no object of {data} has sides of {MIN_CROP} pixels, too small for a backbone to learn from; leave that out: "
            "--set pretrain.crops=0"
        )
    return train, val, [f"objects cut out, and background: {train.summary()}; to validate: {val.summary()}"]


def background_records(data: DetectionSet, label: int, *, seed: int) -> tuple[ClassRecord, ...]:
    """Return parts of the pictures of a detection set in which there is no object, about as many as there are objects.

    Each has the shape of an object of the whole set, brought to half to one and a half of its size, at a place where no box,
    crowds included, covers more than MOST_COVERED of it or has more than that of its own area in it. A picture where
    too few are found in twenty tries for each of its objects has fewer; one with classes unmarked has none. All is drawn by the seed.
    """
    sides = [box[2:] - box[:2] for record in data.records for box in record.boxes[~record.crowd]]
    found = []
    for number, record in enumerate(data.records):
        generator = np.random.default_rng([seed, number, 5])
        height, width = record.hw
        if record.unlabelled:
            continue  # there may be objects that nobody marked
        wanted = max(1, int((~record.crowd).sum()))
        for _ in range(20 * wanted):
            size = np.minimum(sides[generator.integers(len(sides))] * generator.uniform(0.5, 1.5), (width, height))
            corner = generator.uniform(0, 1, 2) * (np.array([width, height]) - size)
            box = np.concatenate([corner, corner + size])
            if min(size) < MIN_CROP or _covered(box, record.boxes) > MOST_COVERED:
                continue
            found.append(ClassRecord(f"{record.path} at {_rounded(box)}", record.path, label=label, box=_sides(box)))
            wanted -= 1
            if not wanted:
                break
    return tuple(found)


def _covered(box: npt.NDArray[np.float64], boxes: npt.NDArray[np.float64]) -> float:
    """Return the largest share of a box that one of others covers, or of one of these that it covers."""
    if not len(boxes):
        return 0.0
    shared = np.clip(np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2]), 0, None).prod(-1)
    areas = np.minimum((boxes[:, 2:] - boxes[:, :2]).prod(-1), (box[2:] - box[:2]).prod())
    return float((shared / np.maximum(areas, 1e-9)).max())


def fingerprint_classes(data: ClassificationSet) -> str:
    """Return a sha256 of class names, labels and boxes, and of the names and sizes of files or of what is in memory."""
    digest = hashlib.sha256("\n".join(data.class_names).encode())
    for record in data.records:
        content = record.content
        name = "" if isinstance(content, np.ndarray) else Path(record.name).name  # else that of the data's own folder
        digest.update(f"\n{name} {record.label} {record.box} ".encode(errors="surrogateescape"))
        if isinstance(content, Path):
            try:
                digest.update(str(content.stat().st_size).encode())
            except FileNotFoundError as error:
                raise InputError(f"{content} does not exist") from error
        else:
            digest.update(content if isinstance(content, bytes) else content.tobytes())
    return digest.hexdigest()


def _sides(box: npt.NDArray[np.float64]) -> tuple[float, float, float, float]:
    return float(box[0]), float(box[1]), float(box[2]), float(box[3])


def _rounded(box: npt.NDArray[np.float64]) -> str:
    return f"x {box[0]:.0f}-{box[2]:.0f}, y {box[1]:.0f}-{box[3]:.0f}"


def _check_classes(train: ClassificationSet) -> None:
    if len(train.class_names) < 2:
        raise InputError(
            f"{train.source} has one class only ({some(train.class_names)}); to classify takes two or more"
        )
    counts = np.bincount([record.label for record in train.records], minlength=len(train.class_names))
    empty = [name for name, count in zip(train.class_names, counts) if not count]
    if empty:
        raise InputError(f"{train.source} has no picture of the class {some(empty)}")


def _tree(path: Path) -> tuple[dict[PurePosixPath, Content], list[PurePosixPath]]:
    """Return the files of a folder or archive by relative path, and its folders; hidden ones are left out."""
    if path.is_dir():
        check_readable(path)
        below, inner = walk(path)
        files: dict[PurePosixPath, Content] = {PurePosixPath(f.relative_to(path).as_posix()): f for f in below}
        folders = [PurePosixPath(folder.relative_to(path).as_posix()) for folder in inner]
    elif ".tar" in path.suffixes or path.suffix == ".tgz":
        files, folders = _archive_tree(path)
    else:
        raise InputError(f"{path} is neither a folder nor a .tar, .tar.gz or .yaml file; --data takes one of these")
    return {name: content for name, content in files.items() if not _hidden(name)}, [
        f for f in folders if not _hidden(f)
    ]


def _hidden(name: PurePosixPath) -> bool:
    return any(is_hidden(part) for part in name.parts)


def _archive_tree(path: Path) -> tuple[dict[PurePosixPath, Content], list[PurePosixPath]]:
    files: dict[PurePosixPath, Content] = {}
    folders = []
    note_large(path)
    try:
        with open_unpacked(path) as unpacked, tarfile.open(fileobj=unpacked, mode="r:") as archive:
            for member in archive:
                _check_member(member, path)
                name = PurePosixPath(member.name)
                if member.isdir():
                    folders.append(name)
                elif member.isfile():  # links and devices are nobody's pictures
                    file = archive.extractfile(member)
                    assert file is not None
                    files[name] = file.read()
            unpacked.seek(archive.offset)
            if unpacked.read(tarfile.BLOCKSIZE).strip(b"\0"):  # at a damaged header tarfile stops in silence
                raise tarfile.ReadError("a damaged header")
    except InputError:
        raise
    except RecursionError as error:
        raise InputError(f"{path} is no tar file of pictures: one name follows another without an end") from error
    except (*DAMAGED, tarfile.TarError) as error:
        if isinstance(error, OSError) and error.errno:
            raise InputError(f"cannot read {path}: {reason(error)}") from error
        raise InputError(f"{path} is damaged, cut short or no tar file ({reason(error)[:200]})") from error
    return dict(sorted(files.items())), sorted(folders)


def _check_member(member: tarfile.TarInfo, path: Path) -> None:
    name = PurePosixPath(member.name)
    if name.is_absolute() or ".." in name.parts:
        raise InputError(f"{path} holds {short(member.name)}, a path that leads out of the archive; it is not read")
    if member.size < 0 or member.sparse is not None:
        raise InputError(f"{path} holds {short(member.name)} with holes or of no size; unpack it and name the folder")


def _folder_splits(
    path: Path, files: Mapping[PurePosixPath, Content], *, folders: Iterable[PurePosixPath], shares: str, seed: int
) -> tuple[Splits, list[str]]:
    pictures = {name: content for name, content in files.items() if _is_picture(name, content)}
    others = [name for name in files if name not in pictures and name.suffix.lower() not in DATA_SUFFIXES]
    notes = left_out(path, others)
    depth = _wrappers(pictures)
    parts = {PurePosixPath(*name.parts[depth:]): content for name, content in pictures.items()}
    directories = {PurePosixPath(*name.parts[depth:]) for name in folders if len(name.parts) > depth}
    tops = {name.parts[0] for name in (*parts, *directories) if len(name.parts) > 1 or name in directories}
    if not parts:
        raise InputError(
            f"{path} holds no pictures in folders of classes (looked for train/<class>/*.jpg, <class>/*.jpg, "
            "MNIST's idx files and CIFAR-10's data_batch_1.bin)"
        )
    named = {canonical_split(top) for top in tops}
    if "train" not in named and not named <= set(SPLITS):
        whole = _by_class(path, parts, folders=directories, depth=0)
        _check_classes(whole)
        names = SPLITS[: len(parse_shares(shares))]
        order = np.random.default_rng([seed, 1]).permutation(len(whole.records)).tolist()
        sets = _divide(whole, parse_shares(shares), order)
        return dict(zip(names, sets)), [f"{path} has no splits: {shares} of each class by seed {seed}", *notes]
    splits: Splits = {}
    for top in sorted(tops):
        split = canonical_split(top)
        if split not in SPLITS:
            continue
        if split in splits:
            raise InputError(f"{path} has two folders for the split {split!r}: {', '.join(sorted(tops))}")
        own = {name: content for name, content in parts.items() if name.parts[0] == top}
        splits[split] = _by_class(
            path / top, own, folders={name for name in directories if name.parts[0] == top}, depth=1
        )
    return splits, notes


def _is_picture(name: PurePosixPath, content: Content) -> bool:
    if isinstance(content, Path):
        return bool(sort_out([content])[0])
    return bool(sort_out([Path(name)], lambda path: is_image(path, content))[0])


def _wrappers(pictures: Iterable[PurePosixPath]) -> int:
    """Count the folders around everything, as archives often have one."""
    names, depth = list(pictures), 0
    while names and all(len(name.parts) > depth + 2 for name in names):
        tops = {name.parts[depth] for name in names}
        if len(tops) > 1 or canonical_split(min(tops)) in SPLITS:
            break
        depth += 1
    return depth


def _by_class(
    source: Path, pictures: Mapping[PurePosixPath, Content], *, folders: Iterable[PurePosixPath], depth: int
) -> ClassificationSet:
    """Make a set of pictures whose class is the folder at `depth` of their path."""
    stray = [name for name in pictures if len(name.parts) < depth + 2]
    if stray:
        raise InputError(f"{source} has pictures outside the folders of classes: {some([str(name) for name in stray])}")
    with_pictures = {name.parts[depth] for name in pictures}
    named = {name.parts[depth] for name in folders if len(name.parts) == depth + 1} | with_pictures
    empty = sorted(named - with_pictures)
    if empty:
        raise InputError(
            f"{source}: the class folder {some(empty)} holds no picture (looked for {', '.join(IMAGE_SUFFIXES)})"
        )
    class_names = tuple(sorted(named))
    labels = {name: label for label, name in enumerate(class_names)}
    records = tuple(
        ClassRecord(
            str(content) if isinstance(content, Path) else str(source / PurePosixPath(*name.parts[depth:])),
            content,
            labels[name.parts[depth]],
        )
        for name, content in pictures.items()
    )
    return ClassificationSet(records, class_names, str(source))


def parse_shares(text: str) -> tuple[float, ...]:
    """Return shares that sum to 1 from a text such as 70/15/15 or 80/20.

    Raises:
        InputError: where it is none.
    """
    parts = text.split("/") if isinstance(text, str) else []
    if len(parts) in (2, 3) and all(part.strip().isdecimal() for part in parts):
        numbers = [int(part) for part in parts]
        if sum(numbers) == 100 and min(numbers) > 0:
            return tuple(number / 100 for number in numbers)
    raise InputError(f"--split takes percentages of train, val and test such as {DEFAULT_SHARES}, got {text!r}")


def _divide(data: ClassificationSet, shares: Sequence[float], drawn: Sequence[int]) -> tuple[ClassificationSet, ...]:
    """Divide each class by the shares: all but the first are rounded, and get at least one picture."""
    order = np.array(drawn, np.int64)
    chosen: list[list[int]] = [[] for _ in shares]
    labels = np.array([data.records[i].label for i in order])
    for label, name in enumerate(data.class_names):
        own = order[labels == label].tolist()
        if len(own) < len(shares):
            raise InputError(
                f"{data.source}: the class {name} has {counted(len(own), 'picture')}, too few to split in {len(shares)}"
            )
        for part, share in list(enumerate(shares))[:0:-1]:
            count = max(1, round(share * (labels == label).sum()))
            chosen[part] += own[:count]
            own = own[count:]
        if not own:
            raise InputError(f"{data.source}: the class {name} has too few pictures to be split")
        chosen[0] += own
    return tuple(_pick(data, positions) for positions in chosen)


def _hold_out(train: ClassificationSet, classes: Sequence[str] | None, seed: int) -> tuple[ClassificationSet, ...]:
    """Set a tenth aside; which pictures of a class does not depend on the other classes asked for."""
    names = list(classes or train.class_names)
    chosen = select_classes(train, names)
    order = np.random.default_rng([seed, 1]).permutation(len(train.records))
    kept = [i for i, record in enumerate(train.records) if train.class_names[record.label] in names]
    new = {old: position for position, old in enumerate(kept)}
    return _divide(chosen, (1 - _HELD_OUT, _HELD_OUT), [new[i] for i in order.tolist() if i in new])


def _part(train: ClassificationSet, fraction: float, *, per_class: int, seed: int) -> ClassificationSet:
    order = np.random.default_rng([seed, 2]).permutation(len(train.records))
    labels = np.array([train.records[i].label for i in order])
    chosen: list[int] = []
    for label in range(len(train.class_names)):
        own = order[labels == label].tolist()
        count = max(1, round(fraction * len(own)))
        chosen += own[: min(count, per_class) if per_class else count]
    return _pick(train, chosen)


def _pick(data: ClassificationSet, positions: Iterable[int]) -> ClassificationSet:
    return dataclasses.replace(data, records=tuple(data.records[i] for i in sorted(positions)))


def _idx_splits(path: Path, files: Mapping[PurePosixPath, Content]) -> Splits:
    found: dict[str, dict[str, tuple[PurePosixPath, Content]]] = {}
    for name, content in files.items():
        match = _IDX.fullmatch(name.name)
        if match:
            found.setdefault(_IDX_SPLITS[match[1]], {})[match[2]] = (name, content)
    arrays = {}
    for split, parts in found.items():
        for kind in ("images", "labels"):
            if kind not in parts:
                raise InputError(f"{path} has {next(iter(parts.values()))[0]} but no {kind} that go with it")
        images, labels = (
            _read_idx(path, parts[kind], dimensions) for kind, dimensions in (("images", 3), ("labels", 1))
        )
        if len(images) != len(labels):
            raise InputError(
                f"{path}: {parts['images'][0]} has {counted(len(images), 'picture')}, but {counted(len(labels), 'label')}"
            )
        arrays[split] = (images, labels)
    count = max((int(labels.max(initial=0)) for _, labels in arrays.values()), default=0) + 1
    names = tuple(str(label) for label in range(count))
    return {
        split: _from_arrays(path, split, images=images, labels=labels, names=names)
        for split, (images, labels) in arrays.items()
    }


def _read_idx(path: Path, part: tuple[PurePosixPath, Content], dimensions: int) -> npt.NDArray[np.uint8]:
    """Read an idx file of bytes: a zero, a zero, 8, the number of dimensions, each of these (big-endian), the values."""
    name, content = part
    raw = read_bytes(content) if isinstance(content, Path) else content
    if name.suffix == ".gz":
        try:
            with Unpacked(gzip.GzipFile(fileobj=io.BytesIO(raw)), len(raw), source=path / name) as unpacked:
                raw = unpacked.read()
        except DAMAGED as error:
            raise InputError(f"{path / name} is damaged or cut short ({reason(error)})") from error
    head = 4 + 4 * dimensions
    if raw[:4] != bytes((0, 0, 8, dimensions)) or len(raw) < head:
        raise InputError(f"{path / name} is no idx file of bytes in {dimensions} dimensions")
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(dimensions)]
    expected = math.prod(shape)
    if shape[0] and not expected:
        raise InputError(f"{path / name} holds pictures of no size: {shape}")
    if len(raw) - head != expected:
        raise InputError(
            f"{path / name} should hold {counted(expected, 'value')}, but holds {len(raw) - head:,}: cut short?"
        )
    return np.frombuffer(raw, np.uint8, offset=head).reshape(shape)


def _cifar_splits(path: Path, files: Mapping[PurePosixPath, Content]) -> Splits:
    batches = {
        name: content for name, content in files.items() if re.fullmatch(r"(data|test)_batch(_\d)?\.bin", name.name)
    }
    if not batches:
        if any(re.fullmatch(r"data_batch_\d", name.name) for name in files):
            raise InputError(
                f"{path} holds CIFAR-10 as Python pickles, which could run code; get the binary version (.bin)"
            )
        return {}
    names = [f"class {label}" for label in range(10)]
    for name, content in files.items():
        if name.name == "batches.meta.txt":
            text = read_text(content) if isinstance(content, Path) else decode_text(content, str(path / name))
            names = [line.strip() for line in text.splitlines() if line.strip()] or names
    splits: dict[str, list[npt.NDArray[np.uint8]]] = {}
    for name, content in batches.items():
        raw = read_bytes(content) if isinstance(content, Path) else content
        if not raw or len(raw) % _CIFAR_BYTES:
            raise InputError(
                f"{path / name} is no batch of CIFAR-10: {counted(len(raw), 'byte')} are no multiple of {_CIFAR_BYTES:,}"
            )
        split = "test" if name.name.startswith("test") else "train"
        splits.setdefault(split, []).append(np.frombuffer(raw, np.uint8).reshape(-1, _CIFAR_BYTES))
    rows = {split: np.concatenate(parts) for split, parts in splits.items()}
    for split, values in rows.items():
        if values[:, 0].max() >= len(names):
            raise InputError(
                f"{path}: a label of {split} is {values[:, 0].max()}, but there are {counted(len(names), 'class', plural='classes')}"
            )
    return {
        split: _from_arrays(
            path,
            split,
            images=values[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1),
            labels=values[:, 0],
            names=tuple(names),
        )
        for split, values in rows.items()
    }


def _from_arrays(
    path: Path, split: str, *, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], names: tuple[str, ...]
) -> ClassificationSet:
    images = np.ascontiguousarray(images)
    records = tuple(
        ClassRecord(f"{path} {split} {number}", image, label)
        for number, (image, label) in enumerate(zip(images, labels.tolist()))
    )
    return ClassificationSet(records, names, f"{path} {split}")


def _crops(path: Path, unread: Collection[str]) -> tuple[Splits, list[str]]:
    sets = {split: read() for split, read in find_splits(path).items() if split in SPLITS and split not in unread}
    splits = {
        split: ClassificationSet(crop_records(data), data.class_names, data.source) for split, data in sets.items()
    }
    notes = [f"{split}: {note}" for split, data in sets.items() for note in data.notes]
    return splits, [f"{path} is a detection set: each box is cut out", *notes]


def _joined(file: Path, shares: str, *, seed: int, unread: Collection[str]) -> tuple[Splits, list[str]]:
    values = read_yaml(file)
    classes = values.pop("classes", None)
    unknown = [key for key in values if canonical_split(str(key)) not in SPLITS]
    if unknown or not values:
        told = some([key if isinstance(key, str) else short(key) for key in unknown])
        raise InputError(f"{file}: expected train, val, test and classes, got {told or 'nothing'}")
    if classes is not None:
        classes = check_names(classes, file, key="classes")
    splits: Splits = {}
    notes: dict[str, None] = {}  # in order, each once
    for key, entries in values.items():
        split = canonical_split(str(key))
        if split in unread:
            continue
        if split in splits:
            raise InputError(f"{file} has two entries for the split {split!r}: {some([short(key) for key in values])}")
        if entries in (None, []):
            raise InputError(f"{file}: {key!r} names no set")
        sets = [
            _entry(file, split, entry=entry, shares=shares, seed=seed, notes=notes)
            for entry in (entries if isinstance(entries, list) else [entries])
        ]
        names = classes or sorted({name for one in sets for name in one.class_names})
        aligned = [align_classes(one, names, strict=False) for one in sets]
        records = tuple(record for one in aligned for record in one.records)
        splits[split] = ClassificationSet(records, tuple(names), " + ".join(one.source for one in sets))
    return splits, list(notes)


def _entry(file: Path, split: str, *, entry: Any, shares: str, seed: int, notes: dict[str, None]) -> ClassificationSet:
    given = dict(entry) if isinstance(entry, Mapping) else {"data": entry}
    if set(given) - {"data", "classes", "split"} or "data" not in given:
        raise InputError(f"{file}: a set in {split!r} is a path or {{data:, classes:, split:}}, got {short(entry)}")
    chosen = given.get("classes")
    if chosen is not None:
        chosen = check_names(chosen, file, key="classes")
    place = locate(file, str(given["data"]))
    if place.suffix in (".yaml", ".yml") and "names" not in read_yaml(place):
        raise InputError(f"{file}: {given['data']} is itself a list of sets; name folders, archives or JSON files")
    wanted = canonical_split(str(given.get("split", split)))
    splits, said = read_class_splits(place, shares, seed=seed, unread=() if wanted == "test" else ("test",))
    notes.update(dict.fromkeys(said))
    if wanted not in splits:
        raise InputError(f"{file}: {given['data']} has no split {wanted!r}; found {', '.join(splits)}")
    return select_classes(splits[wanted], chosen) if chosen else splits[wanted]
