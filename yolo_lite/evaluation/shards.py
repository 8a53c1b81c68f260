"""Divide the images of an evaluation among processes, and put their results together again.

Each process gets whole batches: those that a single process would make. Every image is therefore predicted once, in the same
company, and the numbers do not depend on the number of processes.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from yolo_lite.data.fingerprint import fingerprint
from yolo_lite.data.pipeline.classification import ClassDataset
from yolo_lite.errors import InputError
from yolo_lite.evaluation.images import Timing
from yolo_lite.files import read_bytes
from yolo_lite.ranks import Ranks
from yolo_lite.structures.batches import ClassSample
from yolo_lite.structures.datasets import ClassificationSet, DetectionSet

Rows = list[dict[str, Any]]


def own_positions(total: int, batch_size: int, *, ranks: Ranks) -> npt.NDArray[np.int64]:
    """Return the positions of the images that a process evaluates: every `ranks.count`-th batch.

    Returns:
        int64, rising; empty if there are fewer batches than processes.

    Example:
        >>> [own_positions(7, 2, ranks=Ranks(rank, 3)).tolist() for rank in range(3)]
        [[0, 1, 6], [2, 3], [4, 5]]
    """
    positions: npt.NDArray[np.int64] = np.arange(total, dtype=np.int64)
    own: npt.NDArray[np.int64] = positions[positions // batch_size % ranks.count == ranks.rank]
    return own


def check_same(weights: Path, data: DetectionSet | ClassificationSet, *, ranks: Ranks) -> None:
    """Check that this process scores the weights and the data of rank 0, which may be on another machine.

    Raises:
        InputError: if a file or the data differs.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> check_same(Path("best.pt"), read_split("my_images", "val"), ranks=Ranks())  # alone: nothing is read
    """
    if ranks.count == 1:
        return
    own = {str(weights): hashlib.sha256(read_bytes(weights)).hexdigest(), data.source: fingerprint(data)}
    first = ranks.decide(lambda: tuple(own.values()))
    for (name, value), expected in zip(own.items(), first):
        if value != expected:
            raise InputError(
                f"{name} on this machine is not that of rank 0; give every machine the same weights and data under the same path"
            )


def detect_together(
    detect: Callable[[DetectionSet], tuple[Rows, Timing]], truth: DetectionSet, *, batch_size: int, ranks: Ranks
) -> tuple[Rows, Timing]:
    """Detect in a split on all processes; return the rows of all images, in their order, on rank 0 alone.

    Args:
        detect: returns result rows and times for a set, in batches of `batch_size`.
        truth: the split.
        batch_size: images in a batch.
        ranks: the processes.

    Returns:
        The rows, and the time that the slowest process needed; no rows in other processes than rank 0.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> rows = [{"image_id": 1, "score": 0.5}]
        >>> detect_together(lambda part: (rows, Timing(3)), read_split("my_images", "val"), batch_size=2, ranks=Ranks())[0]
        [{'image_id': 1, 'score': 0.5}]
    """
    if ranks.count == 1:
        return detect(truth)
    own = truth.records.take(own_positions(len(truth.records), batch_size, ranks=ranks))
    result = detect(dataclasses.replace(truth, records=own)) if len(own) else ([], Timing())
    results = ranks.gather(result)
    place = {record.image_id: position for position, record in enumerate(truth.records)} if results else {}
    rows = [row for part, _ in results for row in part]
    return sorted(rows, key=lambda row: place[row["image_id"]]), _slowest([timing for _, timing in results])


def _slowest(timings: list[Timing]) -> Timing:
    """Return the images of all processes, and the longest time of each part."""
    if not timings:
        return Timing()
    longest = {name: max(getattr(timing, name) for timing in timings) for name in ("load", "forward", "postprocess")}
    return Timing(sum(timing.images for timing in timings), **longest)


class Part(Dataset[ClassSample]):
    """Some samples of a data set, in a given order.

    Example:
        >>> from yolo_lite.config.schema import InputConfig, DataConfig
        >>> from yolo_lite.data.splits import read_classes_to_score
        >>> from yolo_lite.evaluation.classifier import inputs_of
        >>> _, data = read_classes_to_score(DataConfig(path="my_classes"), "val", seed=0)  # 2 discs, 2 squares
        >>> part = Part(inputs_of(data, InputConfig(image_size=(32, 32))), np.array([1, 3]))
        >>> len(part), part[0, 1].label
        (2, 1)
    """

    def __init__(self, whole: Inputs, positions: npt.NDArray[np.int64]) -> None:
        self.whole, self.positions = whole, positions
        self.kept: npt.NDArray[np.uint8] | None = whole.kept

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, key: tuple[int, int]) -> ClassSample:
        return self.whole[key[0], int(self.positions[key[1]])]


Inputs = ClassDataset | Part


def classify_together(
    classify: Callable[[Inputs], tuple[Tensor, Tensor]], inputs: Inputs, *, batch_size: int, ranks: Ranks
) -> tuple[Tensor, Tensor]:
    """Classify a set on all processes; return the outputs and labels of all images, in their order, on rank 0 alone.

    Args:
        classify: returns outputs and labels for inputs, in batches of `batch_size`.
        inputs: the set.
        batch_size: images in a batch.
        ranks: the processes.

    Returns:
        Outputs float32 [N, C] and labels int64 [N]; nothing of use in other processes than rank 0.

    Example:
        >>> from yolo_lite.config.schema import InputConfig, DataConfig
        >>> from yolo_lite.data.splits import read_classes_to_score
        >>> from yolo_lite.evaluation.classifier import inputs_of
        >>> _, data = read_classes_to_score(DataConfig(path="my_classes"), "val", seed=0)
        >>> inputs = inputs_of(data, InputConfig(image_size=(32, 32)))
        >>> outputs = torch.zeros(4, 2), torch.tensor([0, 0, 1, 1])
        >>> classify_together(lambda part: outputs, inputs, batch_size=2, ranks=Ranks())[1].tolist()
        [0, 0, 1, 1]
    """
    if ranks.count == 1:
        return classify(inputs)
    positions = own_positions(len(inputs), batch_size, ranks=ranks)
    result = classify(Part(inputs, positions)) if len(positions) else None
    results = [part for part in ranks.gather(result) if part]
    if not results:
        return torch.zeros(0, 0), torch.zeros(0, dtype=torch.int64)
    others = [Ranks(rank, ranks.count) for rank in range(ranks.count)]
    order = np.concatenate([own_positions(len(inputs), batch_size, ranks=other) for other in others]).argsort()
    return torch.cat([outputs for outputs, _ in results])[order], torch.cat([labels for _, labels in results])[order]
