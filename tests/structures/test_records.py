"""Records in a few arrays: what goes in comes out, whatever is chosen, and in little memory."""

from __future__ import annotations

import dataclasses
import gc
import json
import pickle
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from yolo_lite.data.formats.coco import read_coco
from yolo_lite.structures.datasets import Classes, DetectionSet
from yolo_lite.structures.paths import PathPacker, Paths
from yolo_lite.structures.records import ImageRecord, Records

NAMES = ("cat", "dog", "owl")
PATHS = ("a.jpg", "images/b.png", "/data/x/ä ö.jpg", "../c", "/d", "x/.hidden", "x/\udcff.jpg", "x/\ud800.jpg")


def drawn(count: int, boxes: int = 3, seed: int = 0) -> Iterator[ImageRecord]:
    """Yield records with up to twice so many boxes; every fifth without, every fourth labelled for some classes only."""
    generator = np.random.default_rng(seed)
    for number in range(count):
        total = 0 if number % 5 == 4 else int(generator.integers(1, 2 * boxes))
        corners = generator.uniform(0, 50, (total, 2))
        yield ImageRecord(
            Path(f"folder {number % 3}", f"{number:06d}.jpg"),
            1000 + number,
            hw=(60 + number % 7, 80),
            boxes=np.concatenate([corners, corners + generator.uniform(1, 9, (total, 2))], 1),
            labels=generator.integers(0, len(NAMES), total),
            crowd=generator.random(total) < 0.2,
            areas=generator.uniform(1, 81, total),
            unlabelled=(number % 3,) if number % 4 == 3 else (),
            labels_file=None if number % 6 == 5 else Path("labels.json"),
            numbers=np.arange(total) if number % 6 == 3 else np.zeros(0, np.int64),
        )


def drawn_set(count: int, seed: int = 0, names: tuple[str, ...] = NAMES) -> DetectionSet:
    """Return a set of drawn records."""
    classes = Classes.numbered(names, first=10 * seed + 1)
    return DetectionSet(tuple(drawn(count, seed=seed)), names, category_ids=classes.category_ids, source=f"set {seed}")


def test_records_come_out_as_they_went_in() -> None:
    given = list(drawn(40))
    packed = Records.pack(given)
    assert list(packed) == given
    assert [packed[i] for i in range(40)] == given
    for record in packed:
        kinds = [array.dtype for array in (record.boxes, record.labels, record.crowd, record.areas, record.numbers)]
        assert kinds == [np.float64, np.int64, np.bool_, np.float64, np.int64]
        assert record.boxes.shape == (len(record.labels), 4)
        assert type(record.image_id) is type(record.hw[0]) is type(record.hw[1]) is int


def test_a_packed_set_goes_to_another_process_as_it_is() -> None:
    data = drawn_set(20)
    assert pickle.loads(pickle.dumps(data)) == data


@pytest.mark.parametrize("key", [slice(3, 9), slice(None, None, -1), slice(0, 0), slice(5, 100, 4)])
def test_slices_are_those_of_a_tuple(key: slice) -> None:
    given = tuple(drawn(12))
    assert list(Records.pack(given)[key]) == list(given[key])


def test_positions_count_from_the_end_too_and_end_somewhere() -> None:
    given = tuple(drawn(5))
    packed = Records.pack(given)
    assert packed[-1] == given[-1]
    assert packed[-5] == packed[np.int64(0)] == given[0]
    for position in (5, -6):
        with pytest.raises(IndexError, match="among 5"):
            packed[position]


def test_no_records() -> None:
    packed = Records.pack(())
    assert (len(packed), list(packed), packed.objects.boxes.shape) == (0, [], (0, 4))
    assert list(Records.join([packed, Records.pack(drawn(2))])) == list(drawn(2))
    assert len(packed.take(np.zeros(0, np.int64))) == 0


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda record: {"path": Path("other.jpg")}, id="path"),
        pytest.param(lambda record: {"image_id": 7}, id="image id"),
        pytest.param(lambda record: {"hw": (1, 2)}, id="size"),
        pytest.param(lambda record: {"boxes": record.boxes + 1}, id="boxes"),
        pytest.param(lambda record: {"labels": record.labels + 1}, id="labels"),
        pytest.param(lambda record: {"crowd": ~record.crowd}, id="crowd"),
        pytest.param(lambda record: {"areas": record.areas + 1}, id="areas"),
        pytest.param(lambda record: {"unlabelled": (0, 1)}, id="unlabelled"),
        pytest.param(lambda record: {"labels_file": Path("else.json")}, id="labels file"),
        pytest.param(lambda record: {"numbers": np.arange(len(record.boxes)) + 5}, id="numbers"),
    ],
)
def test_sets_that_differ_in_one_record_are_not_equal(change: Callable[[ImageRecord], dict[str, object]]) -> None:
    data = drawn_set(8)
    first = data.records[0]
    changed = [dataclasses.replace(first, **change(first)), *data.records[1:]]
    assert dataclasses.replace(data, records=tuple(data.records)) == data
    assert dataclasses.replace(data, records=tuple(changed)) != data


def test_a_record_of_which_a_label_is_missing_is_refused() -> None:
    record = next(drawn(1))
    with pytest.raises(ValueError, match="5 entries, one for each box"):
        Records.pack([dataclasses.replace(record, labels=record.labels[1:])])


def test_a_record_cannot_be_written_to() -> None:
    """It is a view: the set would change, and every other record of this image."""
    with pytest.raises(ValueError, match="read-only"):
        drawn_set(1).records[0].boxes[:] = 0


def test_picking_keeps_the_order_of_the_set() -> None:
    given = list(drawn(10))
    picked = DetectionSet(Records.pack(given), NAMES, category_ids=(1, 2, 3), source="").pick({7, 2, 9})
    assert list(picked.records) == [given[2], given[7], given[9]]


def test_classes_are_matched_record_by_record() -> None:
    """The oracle goes over every record and every object."""
    classes = Classes(("owl", "cow", "cat"), (5, 6, 7))
    data = drawn_set(40)
    aligned = data.with_classes(classes)
    new = {0: 2, 2: 0}  # cat, owl; dog is left out
    for before, after in zip(data.records, aligned.records, strict=True):
        kept = [i for i, label in enumerate(before.labels.tolist()) if label in new]
        assert after.labels.tolist() == [new[before.labels[i]] for i in kept]
        for name in ("boxes", "crowd", "areas", "numbers"):
            values = getattr(before, name)
            np.testing.assert_array_equal(getattr(after, name), values[kept] if len(values) else values)
        assert after.unlabelled == tuple(new[label] for label in before.unlabelled if label in new)
        assert (after.path, after.hw, after.labels_file) == (before.path, before.hw, before.labels_file)


def test_the_labels_that_count_are_those_that_an_image_is_labelled_for() -> None:
    data = drawn_set(60)
    expected = [
        label
        for record in data.records
        for label, crowd in zip(record.labels.tolist(), record.crowd)
        if not crowd and label not in record.unlabelled
    ]
    assert any(label in record.unlabelled for record in data.records for label in record.labels.tolist())
    assert data.records.asked_labels().tolist() == expected


def test_joined_records_are_those_of_each() -> None:
    parts = [Records.pack(drawn(count, seed=seed)) for seed, count in enumerate((3, 0, 7))]
    assert list(Records.join(parts)) == [record for part in parts for record in part]


def test_paths_are_kept_whatever_their_text() -> None:
    given = [Path(text) for text in PATHS]
    packer = PathPacker()
    for path in (*given, None):
        packer.add(path)
    paths = packer.paths()
    assert [paths.at(i) for i in range(len(paths))] == [*given, None]
    order = np.array([7, 8, 0, 4])
    taken = paths.take(order)
    assert [taken.at(i) for i in range(4)] == [given[7], None, given[0], given[4]]
    assert [Path(folder, name) for folder, name in Paths.join([taken, paths]).parts()][4:] == [*given, Path()]


# Memory


def _traced(call: Callable[[], object]) -> tuple[int, int]:
    """Return how many bytes a call leaves behind, and how many it took at its peak; the lower of two measurements.

    In one of them Python may happen to enlarge its table of texts, which takes megabytes after many tests.
    """
    left, peak = zip(*(_traced_once(call) for _ in range(2)))
    return min(left), min(peak)


def _traced_once(call: Callable[[], object]) -> tuple[int, int]:
    tracemalloc.start()
    try:
        result = call()
        gc.collect()  # when cycles are collected otherwise depends on the tests that ran before
        left, peak = tracemalloc.get_traced_memory()
        del result
    finally:
        tracemalloc.stop()
    return left, peak


@pytest.mark.slow
def test_records_take_no_more_than_their_numbers_and_names() -> None:
    """An object takes 57 bytes, an image some 100; a record by itself takes more than 1,000."""
    count = 4000
    objects = len(Records.pack(drawn(count)).objects.labels)  # the first time Python's table of texts grows as well
    assert objects > 2 * count
    size, _ = _traced(lambda: Records.pack(drawn(count)))
    assert size < 57 * 1.2 * objects + 150 * count
    assert _traced(lambda: list(drawn(count)))[0] > 1000 * count


def test_records_that_were_looked_at_are_not_kept() -> None:
    """Or a set would grow to its full size as records are asked for, and forked processes with it."""
    records = Records.pack(drawn(2000))
    left, _ = _traced(lambda: sum(len(record.labels) for record in records) + len(records[7].labels))
    assert left < 20_000


def _coco(path: Path, images: int, boxes: int) -> Path:
    """Write a file with outlines of 23 points, as COCO has them."""
    entries = [{"id": i, "file_name": f"{i:012d}.jpg", "height": 480, "width": 640} for i in range(images)]
    outline = [[n + 0.25 for n in range(46)]]
    annotations = [
        {
            "id": n,
            "image_id": n % images,
            "category_id": 1,
            "bbox": [1, 2, 3.5, 4],
            "area": 9.5,
            "segmentation": outline,
        }
        for n in range(images * boxes)
    ]
    categories = [{"id": 1, "name": "cat"}]
    path.write_text(json.dumps({"images": entries, "annotations": annotations, "categories": categories}))
    return path


@pytest.mark.slow
def test_reading_coco_takes_little_more_than_its_text(tmp_path: Path) -> None:
    """What is left is what the arrays hold; the peak is below that of parsing the file alone."""
    images, boxes = 2000, 4
    file = _coco(tmp_path / "labels.json", images, boxes)
    left, peak = _traced(lambda: read_coco(file, [tmp_path]))
    _, parsed = _traced(lambda: json.loads(file.read_text()))
    assert peak < parsed
    assert left < 57 * 1.2 * images * boxes + 150 * images
