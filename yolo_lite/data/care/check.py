"""Find every fault of a detection set, not only the first, each with its file, image and annotation."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from yolo_lite.cores import usable_cores
from yolo_lite.data.care.boxes import box_faults, unit_faults
from yolo_lite.data.care.convert import Progress
from yolo_lite.data.catalog import NoDataSetError, find_splits
from yolo_lite.data.classes import shown_classes, spell_as_in_training
from yolo_lite.data.entries import MissingError
from yolo_lite.data.faults import Fault, Finding, Findings, collecting, only_crowd
from yolo_lite.data.names import is_file, likely_image
from yolo_lite.data.repeats import repeats, same_objects
from yolo_lite.errors import InputError, counted, some
from yolo_lite.media.ahead import Depth, in_order
from yolo_lite.media.images import Looked, look_at_image
from yolo_lite.structures.datasets import DetectionSet
from yolo_lite.structures.records import ImageRecord

_ALIKE = 3  # this many faults of a kind become one sentence, if more than half of the entries have it


def check_data(data: str | Path, on_progress: Progress | None = None) -> list[Fault]:
    """Check every split of a data set in any layout, and return its faults; an empty list means that none was found.

    Every line, object and annotation is checked by itself, then every box that could be read. Every image is read as
    far as it takes to know that it can be decoded, and its size compared. Images that are in two splits are recognised by
    the bytes of their files.

    Args:
        data: a folder, a YAML file or a COCO JSON file.
        on_progress: called before each image with the number done and the total of its split.

    Raises:
        InputError: if no data set is recognised.

    Example:
        >>> check_data("my_images")
        []
    """
    with collecting() as general:
        try:
            splits = find_splits(Path(data))
        except NoDataSetError:
            raise
        except InputError as error:
            general[str(error)] = Finding("", harms=True)
            splits = {}
    faults: list[Fault] = []
    sets: dict[str, DetectionSet] = {}
    contents: dict[str, _Seen] = {}
    partly_read: set[str] = set()
    for split, source in splits.items():
        with collecting() as findings:
            try:
                sets[split] = source.read()
            except InputError as error:
                needed = split != "test" or not isinstance(error, MissingError)  # training needs no test split
                findings[str(error)] = Finding("", harms=needed)
        for text in findings:
            general.pop(text, None)
        if any(finding.harms for finding in findings.values()):
            partly_read.add(split)
        boxes = len(sets[split].records.objects.boxes) if split in sets else 0
        faults += _read_faults(split, findings, boxes)
        if split in sets:
            sizes: dict[Path, tuple[int, int]] = {}
            of_images = list(_check_images(split, sets[split], contents=contents, sizes=sizes, on_progress=on_progress))
            faults += [*_check_set(split, _with_room(sets[split], sizes)), *of_images]
    faults += _check_classes({split: data for split, data in sets.items() if split not in partly_read})
    firsts = {(fault.where, fault.what): fault for fault in reversed(faults)}  # of faults in two splits, the first
    return [*_read_faults("all", general, 0), *(fault for fault in faults if firsts[fault.where, fault.what] is fault)]


def summarise(faults: Sequence[Fault]) -> list[list[Fault]]:
    """Group faults by split and kind, harmful ones first; see `sentence` for a summary of a group.

    Example:
        >>> faults = [Fault("train", f"a.txt: line {n}", what="is tiny", harms=False, kind="tiny") for n in (1, 2, 3)]
        >>> [len(group) for group in summarise(faults)]
        [3]
    """
    groups: dict[tuple[str, bool, str], list[Fault]] = {}
    for fault in faults:
        groups.setdefault((fault.split, fault.harms, fault.kind or fault.what), []).append(fault)
    splits = list(dict.fromkeys(fault.split for fault in faults))
    return sorted(groups.values(), key=lambda group: (splits.index(group[0].split), not group[0].harms))


def sentence(group: Sequence[Fault]) -> str | None:
    """Return a summary of a group that covers most of a split; None if the group is smaller than that.

    Example:
        >>> tiny = {"what": "is tiny", "harms": False, "kind": "tiny", "of": 4}
        >>> sentence([Fault("train", f"a.txt: line {n}", **tiny) for n in (1, 2, 3)])
        '3 of 4 have this fault; the first: a.txt: line 1: is tiny'
    """
    first, count = group[0], len(group)
    if count < _ALIKE or 2 * count <= first.of:
        return None
    share = f"all {count:,}" if count == first.of else f"{count:,} of {first.of:,}"
    if first.also_in:
        return f"{share} images of {first.split} are also in {first.also_in}; the first: {first}"
    return f"{share} have this fault; the first: {first}"


_NUMBERS = re.compile(r"'[^']*'|\"[^\"]*\"|\S*/\S*|-?\d[\d.,]*(?:e[-+]?\d+)?")


def _read_faults(split: str, findings: Findings, boxes: int) -> list[Fault]:
    """Return the faults that reading found; those that differ only in numbers and names are of one kind."""
    faults = []
    for text, (where, harms) in findings.items():
        what = text.removeprefix(where).removeprefix(":").lstrip()
        kind = _NUMBERS.sub("#", what.split(", got ")[0])
        faults.append(Fault(split, where, what=what, harms=harms, kind=kind))
    counts = Counter((fault.kind, fault.harms) for fault in faults)
    return [fault._replace(of=boxes + counts[fault.kind, fault.harms]) for fault in faults]


def _check_set(split: str, data: DetectionSet) -> Iterator[Fault]:
    """Check the boxes of a split, and look for entries that it lists twice."""
    for note in data.notes:
        yield Fault(split, data.source, what=note.removeprefix(f"{data.source}: "), harms=False)
    wrong_units = list(unit_faults(data))
    for where, what in wrong_units:
        yield Fault(split, where, what=what, harms=True)
    blamed = tuple("" if where == data.source else f"{where}: " for where, _ in wrong_units)
    for fault in box_faults(split, data):
        if fault.kind == "twice" or not fault.where.startswith(blamed):  # other faults follow from the unit
            yield fault
    yield from _same_ids(split, data)
    for group in repeats(data):
        first, *others = (data.records[i] for i in group)
        what = f"is listed {len(group)} times"
        if all(same_objects(first, other) for other in others):
            yield Fault(split, str(first.path), what=what, harms=False, kind=what, of=len(data.records))
        else:
            ids = "" if first.labels_file is None else f" ({some(_sources([first, *others]))})"
            what += f" with different boxes{ids}: each entry lacks the boxes of the others"
            yield Fault(split, str(first.path), what=what, harms=True, kind="listed in parts", of=len(data.records))


def _sources(records: Sequence[ImageRecord]) -> list[str]:
    """Return the places of the entries of one image: their files, or the image ids within one file."""
    files = list(dict.fromkeys(str(record.labels_file) for record in records))
    return files if len(files) > 1 else [f"image {record.image_id}" for record in records]


def _same_ids(split: str, data: DetectionSet) -> Iterator[Fault]:
    seen: set[tuple[Path, int]] = set()
    for record in data.records:
        file = record.labels_file
        if file is None or file.suffix.lower() != ".json":
            continue
        for number in record.numbers.tolist():
            if number >= 0 and (file, number) in seen:
                yield Fault(
                    split, f"{file}: annotations", what=f"two have the id {number}", harms=True, kind="ids", of=0
                )
            seen.add((file, number))


class _Seen(NamedTuple):
    """Where the bytes of an image were first seen."""

    split: str
    record: ImageRecord


def _check_images(
    split: str,
    data: DetectionSet,
    *,
    contents: dict[str, _Seen],
    sizes: dict[Path, tuple[int, int]],
    on_progress: Progress | None,
) -> Iterator[Fault]:
    """Look at every image, and record its size in `sizes`."""
    total = len(data.records)
    met: set[Path] = set()
    deep: list[tuple[Path, int]] = []
    missing = next((record.path for record in data.records if not is_file(record.path)), None)
    for number, (record, looked) in enumerate(_look_at_all(data)):
        if on_progress:
            on_progress(number, total)
        if record.path in met:
            continue
        met.add(record.path)
        if isinstance(looked, InputError):
            kind = str(looked).replace(str(record.path), "")
            hint = likely_image(missing) if record.path == missing else ""
            yield Fault(split, "", what=f"{looked}{hint}", harms=True, kind=kind, of=total)
            continue
        if looked.largest is not None:
            deep.append((record.path, looked.largest))
        hw = sizes[record.path] = looked.hw
        if hw != record.hw:
            what = f"is {hw[1]} x {hw[0]}, its annotations are for {record.hw[1]} x {record.hw[0]}"
            turned = "; width and height are swapped: does EXIF rotate it?" if hw == record.hw[::-1] else ""
            yield Fault(split, str(record.path), what=what + turned, harms=True, kind=f"size {turned}", of=total)
        first = contents.setdefault(looked.digest, _Seen(split, record))
        if first.record is not record:
            yield _same_image(split, record, first=first, total=total)
    yield from _dark(split, deep)


def _look_at_all(data: DetectionSet) -> Iterator[tuple[ImageRecord, Looked | InputError]]:
    """Look at the image of every record, in order, with a thread for each core."""

    def look(record: ImageRecord) -> tuple[ImageRecord, Looked | InputError]:
        try:
            return record, look_at_image(record.path)
        except InputError as error:
            return record, error

    threads = usable_cores()
    with closing(in_order(look, data.records, depth=Depth(4 * threads), threads=threads)) as looked:
        yield from looked


def _with_room(data: DetectionSet, sizes: Mapping[Path, tuple[int, int]]) -> DetectionSet:
    """Give images of wrong annotated size the larger sides of both, so that their boxes are not reported as well."""
    read_hw = [sizes.get(record.path, record.hw) for record in data.records]
    sizes_hw = np.maximum(data.records.sizes_hw, np.array(read_hw, np.int64).reshape(-1, 2))
    return dataclasses.replace(data, records=dataclasses.replace(data.records, sizes_hw=sizes_hw))


def _same_image(split: str, record: ImageRecord, *, first: _Seen, total: int) -> Fault:
    again = f"is the same image as {first.record.path}"
    if first.split != split:
        what, kind = f"{again} in {first.split}", f"also in {first.split}"
        return Fault(split, str(record.path), what=what, harms=True, kind=kind, of=total, also_in=first.split)
    if same_objects(record, first.record):
        return Fault(split, str(record.path), what=again, harms=False, kind="same image", of=total)
    return Fault(
        split,
        str(record.path),
        what=f"{again}, with other boxes",
        harms=True,
        kind="same image, other boxes",
        of=total,
    )


def _dark(split: str, deep: Sequence[tuple[Path, int]]) -> Iterator[Fault]:
    """Report 16-bit images that use only the lower part of their range: little of it is left in 8 bits."""
    largest = max((value for _, value in deep), default=0)
    bits = max(8, largest.bit_length())
    if deep and bits < 16:
        what = (
            f"{counted(len(deep), 'image')} of 16 bits with no value above {largest:,} would become almost black; train with "
            f"--set input.max_16bit={2**bits - 1}"
        )
        yield Fault(split, str(deep[0][0].parent), what=what, harms=False)


def _check_classes(sets: Mapping[str, DetectionSet]) -> Iterator[Fault]:
    shown = {split: shown_classes(data) for split, data in sets.items()}
    elsewhere = {name for split, names in shown.items() if split != "train" for name in names}
    for split, data in sets.items():
        if not data.records:
            yield Fault(split, data.source, what="lists no images", harms=True)
        boxes = len(data.records.objects.boxes)
        if not shown[split]:
            if boxes:
                yield Fault(split, data.source, what=only_crowd(boxes), harms=split != "test")
            elif data.records:
                what = f"none of its {counted(len(data.records), 'image')} shows an object"
                yield Fault(split, data.source, what=what, harms=split != "test")
            continue
        if split != "train" and shown.get("train"):
            yield from _compare_classes(split, data, sets["train"])
        known = elsewhere if split == "train" else set()
        unused = [name for name in data.class_names if name not in shown[split] and name not in known]
        if unused:
            yield Fault(split, data.source, what=f"no object of {some(unused)}", harms=False)


def _compare_classes(split: str, data: DetectionSet, train: DetectionSet) -> Iterator[Fault]:
    """Yield what training or evaluation would say about the classes of another split."""
    try:
        spelled, notes = spell_as_in_training(data, train.class_names, split=split)
    except InputError as error:
        yield Fault(split, data.source, what=str(error), harms=split == "val")
        return
    for line in notes:
        yield Fault(split, data.source, what=line, harms=False)
    unseen = [name for name in shown_classes(spelled) if name not in shown_classes(train)]
    if unseen:
        yield Fault(split, data.source, what=f"shows {some(unseen)}, but no image of train does", harms=False)
