"""Run a detector over the images of a split, and pass on what happens: rows, progress and times."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

from yolo_lite.media.ahead import Depth, in_order
from yolo_lite.media.images import read_image
from yolo_lite.structures.geometry import Image
from yolo_lite.structures.records import ImageRecord
from yolo_lite.structures.results import Detections
from yolo_lite.structures.rows import to_rows

Progress = Callable[[int, int], None]  # (done, total)
OnRows = Callable[[list[dict[str, Any]], int, int], None]  # (result rows of a batch, images done, images in total)


@dataclass(frozen=True)
class EvaluationListener:
    """Functions that receive the news of an evaluation.

    Attributes:
        on_batch: takes the number of batches done and their total.
        on_resample: takes the number of resampled sets done and their total.
        on_rows: takes the COCO result rows of a batch, the number of images done and their total.
        say: takes a line of text if images have to be loaded without extra processes.
    """

    on_batch: Progress = lambda done, total: None
    on_resample: Progress = lambda done, total: None
    on_rows: OnRows = lambda rows, done, total: None
    say: Callable[[str], None] = lambda line: None


SILENT = EvaluationListener()


@dataclass
class Timing:
    """Seconds spent on each part of an evaluation."""

    images: int = 0
    load: float = 0.0
    forward: float = 0.0
    postprocess: float = 0.0

    def rates(self) -> dict[str, float]:
        """Return images per second, for each part alone and for all parts together.

        Example:
            >>> Timing(images=10, load=1.0, forward=2.0, postprocess=1.0).rates()
            {'load': 10.0, 'forward': 5.0, 'postprocess': 10.0, 'all': 2.5}
        """
        parts = {"load": self.load, "forward": self.forward, "postprocess": self.postprocess}
        parts["all"] = sum(parts.values())
        return {name: self.images / seconds if seconds else math.inf for name, seconds in parts.items()}


def detect_records(
    detect: Callable[[list[Any]], list[Detections]],
    records: Sequence[ImageRecord],
    *,
    ids: Sequence[int],
    batch_size: int,
    max_16bit: int,
    listener: EvaluationListener,
) -> tuple[list[dict[str, Any]], Timing]:
    """Detect in the images of records, in batches; return COCO rows, and the time of each part.

    A thread reads the next images meanwhile, so the time for loading is what the detector had to wait.

    Args:
        detect: returns the detections in each image of a list, uint8 [H, W, 3] RGB, in original pixels.
        records: the images.
        ids: the category id in the data of each label.
        batch_size: the most images that `detect` gets at once.
        max_16bit: as for `read_image`.
        listener: receives the news.

    Example:
        >>> from yolo_lite.data.splits import read_split
        >>> from yolo_lite.predict.detector import Detector
        >>> detector, records = Detector("yolo_lite-pico-voc5", device="cpu"), read_split("my_images", "val").records
        >>> settings = {"ids": detector.category_ids, "batch_size": 2, "max_16bit": 65535}
        >>> detect_records(detector, records, listener=EvaluationListener(), **settings)[1].images
        3
    """
    timing, total = Timing(), len(records)
    rows: list[dict[str, Any]] = []
    depth = Depth(batch_size)
    read = _reader(max_16bit, depth)
    with closing(in_order(read, (records[index] for index in range(total)), depth=depth)) as images:
        for number, start in enumerate(range(0, total, batch_size), 1):
            began = time.perf_counter()
            batch = list(islice(images, batch_size))
            loaded = time.perf_counter()
            detected = detect(batch)
            timing.load += loaded - began
            timing.forward += time.perf_counter() - loaded
            timing.images += len(batch)
            before = len(rows)
            for offset, detections in enumerate(detected):
                rows += to_rows(detections, records[start + offset].image_id, category_ids=ids)
            listener.on_rows(rows[before:], timing.images, total)
            listener.on_batch(number, math.ceil(total / batch_size))
    return rows, timing


def _reader(max_16bit: int, depth: Depth) -> Callable[[ImageRecord], Image]:
    return lambda record: depth.fit(read_image(record.path, max_16bit))
