"""Batches: their order, their padding, and that processes change nothing."""

from __future__ import annotations

import errno
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from yolo_lite.config.schema import AugmentConfig
from yolo_lite.data.pipeline.augment import Augmenter
from yolo_lite.data.pipeline.detection import DetectionDataset
from yolo_lite.data.pipeline.loader import (
    EpochSampler,
    build_loader,
    collate_boxes,
    loading_processes,
    reading_threads,
    stack_images,
)
from yolo_lite.data.splits import read_split
from yolo_lite.errors import InputError
from yolo_lite.structures.batches import Batch, Sample

CocoSet = Callable[..., Path]
CPU = torch.device("cpu")


def _sample(boxes: int, position: int = 0) -> Sample:
    image = torch.full((3, 4, 6), position, dtype=torch.uint8)
    numbers = torch.arange(4.0 * boxes).reshape(boxes, 4) + 1
    return Sample(image, numbers, labels=torch.arange(boxes) + 5, position=position)


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


def test_collated_images_are_channels_last_in_memory_and_the_same_numbers() -> None:
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


def test_collate_lists_what_images_are_not_labelled_for() -> None:
    batch = collate_boxes(
        [_sample(1, 0), _sample(1, 1)._replace(unlabelled=(0, 2)), _sample(0, 2)._replace(unlabelled=(1,))]
    )
    assert batch.unlabelled is not None
    assert batch.unlabelled.tolist() == [[1, 0], [1, 2], [2, 1]]
    nothing = collate_boxes([_sample(1)]).unlabelled
    assert nothing is not None
    assert nothing.shape == (0, 2)


def test_collate_of_images_without_objects_pads_to_nothing() -> None:
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
    sampler = EpochSampler(total, batch_size, shuffle=shuffle)
    assert [len(batch) for batch in sampler] == sizes
    assert len(sampler) == len(sizes)
    seen = Counter(index for batch in sampler for _, index in batch)
    assert max(seen.values()) == 1
    assert set(seen) <= set(range(total))


def test_without_shuffling_the_order_is_that_of_the_set() -> None:
    sampler = EpochSampler(5, 2, shuffle=False, seed=9)
    sampler.epoch = 3
    assert list(sampler) == [[(3, 0), (3, 1)], [(3, 2), (3, 3)], [(3, 4)]]


def _order(seed: int, epoch: int, total: int = 50) -> list[int]:
    sampler = EpochSampler(total, 5, shuffle=True, seed=seed)
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
    assert all(len(indices) == 2 for indices in left)  # 7 images in batches of 5
    assert len(left) > 3


# Processes


def test_samples_are_the_same_with_and_without_processes_and_kept_images(coco_set: CocoSet) -> None:
    """Spawned processes, as on Windows and macOS, get a copy of the data set; here its images are larger than needed."""
    records = read_split(coco_set({"train": 7}, hw=(192, 256)), "train").records

    def passes(workers: int, cache: str, start: str = "fork") -> list[Batch]:
        augmenter = Augmenter(AugmentConfig(), (64, 64), resize="letterbox")
        dataset = DetectionDataset(records, (64, 64), resize="letterbox", augmenter=augmenter, strong_epochs=1, seed=4)
        dataset.keep(cache, lambda line: None)
        sampler = EpochSampler(len(dataset), 3, shuffle=True, seed=4)
        loader = build_loader(dataset, sampler, workers=workers, device=CPU)
        before = multiprocessing.get_start_method()
        multiprocessing.set_start_method(start, force=True)
        batches = []
        for sampler.epoch in range(2):
            batches += list(loader)
        multiprocessing.set_start_method(before, force=True)
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
                assert a.stride() == b.stride(), (name, how)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_a_process_comes_out_as_its_own_line(coco_set: CocoSet, workers: int) -> None:
    records = read_split(coco_set({"train": 3}), "train").records
    records[1].path.write_bytes(b"")
    dataset = DetectionDataset(records, (64, 64), resize="letterbox")
    loader = build_loader(dataset, EpochSampler(3, 1, shuffle=False), workers=workers, device=CPU)
    with pytest.raises(InputError) as caught:
        list(loader)
    assert str(caught.value) == f"{records[1].path} is empty (0 bytes)"


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_where_processes_lack_handles_the_main_one_goes_on_with_the_same_samples(
    coco_set: CocoSet, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No process can be started, so that every batch is loaded here; it is said once, in the first of two passes."""
    records = read_split(coco_set({"train": 8}), "train").records
    dataset = DetectionDataset(
        records,
        (64, 64),
        resize="letterbox",
        augmenter=Augmenter(AugmentConfig(), (64, 64), resize="letterbox"),
        strong_epochs=1,
    )
    said: list[str] = []

    def passes(workers: int) -> list[Batch]:
        sampler = EpochSampler(8, 2, shuffle=True)
        loader = build_loader(dataset, sampler, workers=workers, device=CPU, say=said.append)
        return [batch for sampler.epoch in range(2) for batch in loader]

    expected = passes(0)
    assert said == []
    monkeypatch.setattr(multiprocessing, "get_context", lambda: _NoHandles(start))
    found = passes(2)
    assert len(said) == 1
    assert said[0].startswith("loading in the main process, because loading processes ran out of resources")
    assert said[0].endswith("Too many open files")
    assert all(torch.equal(a, b) for one, other in zip(expected, found, strict=True) for a, b in zip(one, other))


class _NoHandles:
    """A context of multiprocessing in a process that has as many files open as it may."""

    def __init__(self, start: str) -> None:
        self.get_start_method = lambda: start

    def Pipe(self) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="handles are counted as Linux lists them")
def test_few_handles_allow_few_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening one file more than the limit says is refused, so threads are counted by what is left of it."""
    resource = pytest.importorskip("resource")
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(64)), raising=False)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert reading_threads() == 32
    used = len(os.listdir("/proc/self/fd"))
    try:
        for most, threads in ((used + 9, 2), (used + 4, 1), (used, 1)):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
            assert threads <= reading_threads() <= threads + 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_no_more_processes_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3}, raising=False)
    sampler = EpochSampler(4, 2, shuffle=False)
    assert build_loader(list(range(4)), sampler, workers=8, device=torch.device("cpu")).processes == 1
    assert build_loader(list(range(4)), sampler, workers=0, device=torch.device("cpu")).processes == 0


@pytest.mark.parametrize(("cores", "beside_cpu", "beside_gpu"), [(1, 1, 1), (4, 2, 4), (64, 2, 8)])
def test_left_to_itself_a_gpu_gets_more_processes(
    cores: int, beside_cpu: int, beside_gpu: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(cores)), raising=False)
    assert loading_processes(-1, CPU) == beside_cpu
    assert loading_processes(-1, torch.device("cuda")) == loading_processes(-1, torch.device("mps")) == beside_gpu
    assert [loading_processes(asked, torch.device("cuda")) for asked in (0, 3)] == [0, min(3, cores)]


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_uses_up_no_random_number(coco_set: CocoSet, workers: int) -> None:
    """Or dropout would differ between a run that was resumed and one that was not."""
    dataset = DetectionDataset(read_split(coco_set({"train": 2}), "train").records, (64, 64), resize="letterbox")
    torch.manual_seed(5)
    list(build_loader(dataset, EpochSampler(2, 1, shuffle=True), workers=workers, device=CPU))
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))
