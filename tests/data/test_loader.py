"""Batches: their order, their padding, and that processes change nothing."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from yolo_lite.config import AugmentConfig
from yolo_lite.data.augment import Augmenter
from yolo_lite.data.datasets import DetectionDataset
from yolo_lite.data.discover import read_split
from yolo_lite.data.loader import (
    EpochSampler,
    build_loader,
    collate_boxes,
    each_batch,
    loading_processes,
    shared_memory,
    stack_images,
)
from yolo_lite.errors import InputError
from yolo_lite.structures import Batch, Sample

CocoSet = Callable[..., Path]
CPU = torch.device("cpu")


def _sample(boxes: int, position: int = 0) -> Sample:
    image = torch.full((3, 4, 6), position, dtype=torch.uint8)
    numbers = torch.arange(4.0 * boxes).reshape(boxes, 4) + 1
    return Sample(image, numbers, torch.arange(boxes) + 5, position)


# Padding


def test_collate_pads_boxes_with_zeros_and_labels_with_minus_one() -> None:
    batch = collate_boxes([_sample(1, 0), _sample(3, 1), _sample(0, 2)])
    assert batch.boxes.shape == (3, 3, 4)
    assert batch.labels.tolist() == [[5, -1, -1], [5, 6, 7], [-1, -1, -1]]
    assert batch.boxes[0].tolist() == [[1, 2, 3, 4], [0] * 4, [0] * 4]
    assert batch.boxes[1].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]
    assert batch.boxes[2].tolist() == [[0] * 4] * 3
    assert batch.positions.tolist() == [0, 1, 2]
    assert [int(image.unique()) for image in batch.images] == [0, 1, 2]
    assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_collated_pictures_are_channels_last_in_memory_and_the_same_numbers() -> None:
    pixels = torch.randint(0, 256, (3, 4, 6, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = stack_images([one.permute(2, 0, 1) for one in pixels])
    assert images.shape == (3, 3, 4, 6)
    assert images.is_contiguous(memory_format=torch.channels_last)
    for row, one in zip(images, pixels):
        assert torch.equal(row[2], one[..., 2])


def test_collate_keeps_dtypes() -> None:
    batch = collate_boxes([_sample(1)])
    dtypes = [part.dtype for part in batch]
    assert dtypes == [torch.uint8, torch.float32, torch.int64, torch.int64, torch.int64]
    assert isinstance(batch, Batch)


def test_collate_lists_what_pictures_are_not_labelled_for() -> None:
    batch = collate_boxes(
        [_sample(1, 0), _sample(1, 1)._replace(unlabelled=(0, 2)), _sample(0, 2)._replace(unlabelled=(1,))]
    )
    assert batch.unlabelled is not None
    assert batch.unlabelled.tolist() == [[1, 0], [1, 2], [2, 1]]
    nothing = collate_boxes([_sample(1)]).unlabelled
    assert nothing is not None
    assert nothing.shape == (0, 2)


def test_collate_of_pictures_without_objects_pads_to_nothing() -> None:
    batch = collate_boxes([_sample(0, 0), _sample(0, 1)])
    assert batch.images.shape == (2, 3, 4, 6)
    assert batch.boxes.shape == (2, 0, 4)
    assert batch.labels.shape == (2, 0)


# Order


@pytest.mark.parametrize(
    ("total", "batch_size", "shuffle", "sizes"),
    [
        pytest.param(10, 4, True, [4, 4], id="an incomplete last batch is left out"),
        pytest.param(8, 4, True, [4, 4], id="nothing is left over"),
        pytest.param(3, 4, True, [3], id="unless it is the only one"),
        pytest.param(4, 4, True, [4], id="exactly one"),
        pytest.param(10, 4, False, [4, 4, 2], id="in order nothing is left out"),
        pytest.param(3, 4, False, [3], id="in order, fewer than a batch"),
        pytest.param(1, 1, True, [1], id="one"),
    ],
)
def test_batches_have_these_sizes(total: int, batch_size: int, shuffle: bool, sizes: list[int]) -> None:
    sampler = EpochSampler(total, batch_size, shuffle)
    assert [len(batch) for batch in sampler] == sizes
    assert len(sampler) == len(sizes)
    seen = Counter(index for batch in sampler for _, index in batch)
    assert max(seen.values()) == 1
    assert set(seen) <= set(range(total))


def test_without_shuffling_the_order_is_that_of_the_set() -> None:
    sampler = EpochSampler(5, 2, False, seed=9)
    sampler.epoch = 3
    assert list(sampler) == [[(3, 0), (3, 1)], [(3, 2), (3, 3)], [(3, 4)]]


def _order(seed: int, epoch: int, total: int = 50) -> list[int]:
    sampler = EpochSampler(total, 5, True, seed)
    sampler.epoch = epoch
    batches = list(sampler)
    assert batches == list(sampler)
    assert {number for batch in batches for number, _ in batch} == {epoch}
    return [index for batch in batches for _, index in batch]


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    orders = [_order(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert orders == [_order(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 9
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert list(range(50)) not in orders


def test_what_is_left_out_differs_from_epoch_to_epoch() -> None:
    left = {frozenset(set(range(7)) - set(_order(0, epoch, total=7))) for epoch in range(10)}
    assert all(len(indices) == 2 for indices in left)  # 7 pictures in batches of 5
    assert len(left) > 3


# Processes


def test_samples_are_the_same_with_and_without_processes_and_kept_pictures(coco_set: CocoSet) -> None:
    """Spawned processes, as on Windows and macOS, get a copy of the data set; here its pictures are larger than needed."""
    records = read_split(coco_set({"train": 7}, hw=(192, 256)), "train").records

    def passes(workers: int, cache: str, start: str = "fork") -> list[Batch]:
        augmenter = Augmenter(AugmentConfig(), (64, 64), "letterbox")
        dataset = DetectionDataset(records, (64, 64), "letterbox", augmenter, strong_epochs=1, seed=4)
        dataset.keep(cache, lambda line: None)
        sampler = EpochSampler(len(dataset), 3, True, seed=4)
        loader = build_loader(dataset, sampler, workers, CPU)
        if workers:
            loader.multiprocessing_context = start
        batches = []
        for sampler.epoch in range(2):
            batches += list(loader)
        if dataset.kept and start == "spawn":
            assert dataset.kept.pixels.is_shared()  # it was handed over without a copy for each process
        return batches

    alone = passes(0, "none")
    assert len(alone) == 4  # two of three in each of two epochs
    assert not torch.equal(alone[0].images, alone[2].images)
    for how in ((2, "none"), (0, "ram"), (2, "ram"), (1, "ram", "spawn")):
        for one, other in zip(alone, passes(*how), strict=True):
            for name, a, b in zip(Batch._fields, one, other):
                assert torch.equal(a, b), (name, how)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_process_comes_out_as_its_own_line(coco_set: CocoSet, workers: int) -> None:
    """torch stops a process only five seconds after an error in it, so one process is enough here."""
    records = read_split(coco_set({"train": 3}), "train").records
    records[1].path.write_bytes(b"")
    dataset = DetectionDataset(records, (64, 64), "letterbox")
    loader = build_loader(dataset, EpochSampler(3, 1, False), workers, CPU)
    with pytest.raises(InputError) as caught:
        list(each_batch(loader))
    assert str(caught.value) == f"{records[1].path} is empty (0 bytes)"


def test_shared_memory_is_what_the_system_says(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    assert shared_memory(str(tmp_path)) == pytest.approx(free, rel=0.05)
    assert shared_memory(str(tmp_path / "none")) is None


@pytest.mark.parametrize(
    "text",
    [
        "DataLoader worker (pid 17) is killed by signal: Bus error. It is possible that dataloader's workers are out of "
        "shared memory.",
        "unable to allocate shared memory(shm) for file </torch_17_2>: No space left on device (28)\nmore",
    ],
)
def test_a_process_that_dies_is_told_with_the_way_out(text: str) -> None:
    def loader() -> Iterator[int]:
        yield 1
        raise RuntimeError(text)

    batches = each_batch(loader())  # type: ignore[arg-type]
    assert next(batches) == 1
    with pytest.raises(InputError, match="--shm-size=2g.*train.workers=1") as caught:
        next(batches)
    assert "\n" not in str(caught.value)


def test_no_more_processes_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3}, raising=False)
    sampler = EpochSampler(4, 2, shuffle=False)
    assert build_loader(list(range(4)), sampler, 8, torch.device("cpu")).num_workers == 1
    assert build_loader(list(range(4)), sampler, 0, torch.device("cpu")).num_workers == 0


@pytest.mark.parametrize(
    ("cores", "shared", "beside_cpu", "beside_gpu"),
    [
        pytest.param(1, None, 1, 1, id="one core"),
        pytest.param(4, 1 << 40, 2, 4, id="four cores"),
        pytest.param(64, None, 2, 8, id="many cores"),
        pytest.param(64, 64 << 20, 2, 2, id="as little shared memory as a container of Docker's has"),
        pytest.param(64, 300 << 20, 2, 4, id="room for four"),
    ],
)
def test_left_to_itself_a_gpu_gets_more_processes(
    cores: int, shared: int | None, beside_cpu: int, beside_gpu: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yolo_lite.data.loader.shared_memory", lambda: shared)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(cores)), raising=False)
    assert loading_processes(-1, CPU) == beside_cpu
    assert loading_processes(-1, torch.device("cuda")) == loading_processes(-1, torch.device("mps")) == beside_gpu
    assert [loading_processes(asked, torch.device("cuda")) for asked in (0, 3)] == [0, min(3, cores)]
