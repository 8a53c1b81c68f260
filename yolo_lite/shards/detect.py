"""Detect in the images of a manifest: rows in shards, by any number of workers, with constant memory."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from yolo_lite.checks import check_path, check_whole
from yolo_lite.cores import usable_cores
from yolo_lite.errors import InputError, counted, reason
from yolo_lite.media.ahead import Depth, in_order
from yolo_lite.media.images import decode_image, read_image
from yolo_lite.media.sources import in_lists
from yolo_lite.media.windows import Windows, read_in_parts
from yolo_lite.messages.image import ImageResult
from yolo_lite.shards.folder import ResultFolder
from yolo_lite.shards.manifest import Entry, Manifest, UnreadableShardError, open_manifest
from yolo_lite.shards.workers import Worker, find_worker, parse_worker, workers_here
from yolo_lite.structures.geometry import Image
from yolo_lite.structures.results import Detections
from yolo_lite.structures.tiles import Tiling

OnProgress = Callable[[int, int], object]


class BatchDetector(Protocol):
    """What a batch job asks of a detector: that of a checkpoint, or of an exported file."""

    weights: Path
    class_names: tuple[str, ...]
    classes: tuple[str, ...] | None
    image_size: tuple[int, int]
    score_threshold: float
    iou_threshold: float
    max_detections: int
    max_16bit: int
    batch_size: int
    tiling: Tiling | None

    def __call__(self, images: list[Any]) -> list[Detections]:
        """Return the detections in each image."""


class Counts(NamedTuple):
    """What a shard has: images, those that could not be read among them, and objects."""

    images: int = 0
    errors: int = 0
    objects: int = 0

    def plus(self, result: ImageResult) -> Counts:
        """Return the counts with one more image."""
        objects = 0 if result.detections is None else len(result.detections)
        return Counts(self.images + 1, self.errors + (result.detections is None), self.objects + objects)


@dataclass
class Summary:
    """What a worker has done.

    Attributes:
        worker: which worker.
        shards: how many shards it has written, and `there`, how many of its shards were there already.
        images, errors, objects: in the written shards; an image that could not be read is an image with an error.
        unreadable: how many of its shards it has not written, as none of their images, or not all of a tar, could be read.
        reason: why the first of these could not be read.
        missing: how many shards of the whole job are not there, those of other workers included.
    """

    worker: Worker
    shards: int = 0
    there: int = 0
    images: int = 0
    errors: int = 0
    objects: int = 0
    unreadable: int = 0
    reason: str = ""
    missing: int = 0

    def add(self, counts: Counts) -> None:
        """Count one more written shard."""
        self.shards += 1
        self.images += counts.images
        self.errors += counts.errors
        self.objects += counts.objects

    def __str__(self) -> str:
        images = f"{counted(self.objects, 'object')} in {counted(self.images, 'image')}"
        errors = f", {counted(self.errors, 'error')}" if self.errors else ""
        there = f", {self.there:,} {'was' if self.there == 1 else 'were'} there" if self.there else ""
        return f"{images}{errors}; {counted(self.shards, 'shard')} written{there}"


class Job:
    """The images of a manifest, and the folder of their results.

    Args:
        manifest: as for `open_manifest`.
        out: the folder, which all workers share.
        shard_size: number of images in a shard; None: 1000, or one shard for each tar.
        rows: jsonl or parquet.
        readers: number of threads that read images; None: as many as this worker has CPU cores.

    Raises:
        InputError: if the manifest or the folder cannot be used.

    Example:
        >>> _ = Path("job.txt").write_text("photo.jpg\\n")
        >>> Job("job.txt", Path("job_out")).manifest.shards
        1
    """

    def __init__(
        self,
        manifest: str,
        out: Path,
        *,
        shard_size: int | None = None,
        rows: str = "jsonl",
        readers: int | None = None,
    ) -> None:
        _check_apart(manifest, out)
        self.manifest: Manifest = open_manifest(manifest, out, shard_size=shard_size)
        self.folder = ResultFolder(out, rows)
        self.readers = readers or max(1, usable_cores() // workers_here(os.environ)[1])

    def begin(self, detector: BatchDetector) -> None:
        """Store the settings of the job in its folder, or compare them with those that are there."""
        self.folder.agree({
            "version": 1,
            "rows": self.folder.rows,
            "manifest": self.manifest.describe(),
            "detector": detector_settings(detector),
        })  # fmt: skip

    def run(
        self, detector: BatchDetector, summary: Summary, *, on_progress: OnProgress = lambda done, total: None
    ) -> None:
        """Write those shards of a worker that are missing, in their order; `begin` comes first.

        The worker takes the shards index, index + count, index + 2 count ... A shard none of whose images can be read is
        not written, because most likely a disk is absent; the worker goes on with the next one.

        Args:
            detector: the detector.
            summary: names the worker, and is filled in after each shard.
            on_progress: called with the units (images, or tar files) that are done, and all of this worker.
        """
        finished = self.folder.finished()
        own = range(summary.worker.index, self.manifest.shards, summary.worker.count)
        shards = [shard for shard in own if shard not in finished]
        summary.there = len(own) - len(shards)
        total = sum(map(self.manifest.size, own))
        done = total - sum(map(self.manifest.size, shards))
        for shard in shards:
            if self.folder.path(shard).exists():  # by now: another worker has written it
                summary.there += 1
            else:
                self._attempt(shard, detector, summary, on_images=partial(_advance, on_progress, done, total))
            done += self.manifest.size(shard)
            on_progress(done, total)
        self.end(summary)

    def end(self, summary: Summary) -> None:
        """Tidy up, and count the shards that are missing."""
        self.folder.tidy()
        summary.missing = self.manifest.shards - len(self.folder.finished())

    def _attempt(
        self, shard: int, detector: BatchDetector, summary: Summary, *, on_images: Callable[[int], object]
    ) -> None:
        try:
            summary.add(self.write(shard, detector, on_images=on_images))
        except UnreadableShardError as error:
            summary.unreadable += 1
            summary.reason = summary.reason or str(error)

    def write(
        self, shard: int, detector: BatchDetector, *, on_images: Callable[[int], object] = lambda done: None
    ) -> Counts:
        """Detect in the images of a shard and write its rows, in the order of the manifest.

        Raises:
            UnreadableShardError: if none of its images can be read, or the disk with its tar fails; the shard is not written.
        """
        counts, reason = Counts(), ""
        with (
            self.folder.shard(shard) as write,
            closing(image_results(detector, self.manifest.entries(shard), readers=self.readers)) as results,
        ):
            for result in results:
                write(result)
                counts = counts.plus(result)
                reason = reason or result.error
                if self.manifest.unit == "images" and counts.images % detector.batch_size == 0:
                    on_images(counts.images)
            if counts.images and counts.errors == counts.images:
                raise UnreadableShardError(f"no image of shard {shard} could be read: {reason}")
        return counts


def _advance(on_progress: OnProgress, before: int, total: int, images: int) -> None:
    on_progress(before + images, total)


def detect_manifest(
    detector: BatchDetector,
    manifest: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str],
    shard_size: int | None = None,
    rows: str = "jsonl",
    worker: str | None = None,
) -> Summary:
    """Detect in the images of a manifest and write a row for each, in shards; existing shards are skipped.

    Any number of processes may work on the same job, at the same time or one after another. The files do not depend on
    their number.

    Args:
        detector: a `Detector` of a checkpoint or of an exported file.
        manifest: a text file with one path per line, relative to the file; a folder; a tar file, a list of tar files, or
            tar files as in shard-{0000..0009}.tar.
        out: the folder of the results, for all workers.
        shard_size: number of images in a shard; None: 1000, or one shard for each tar.
        rows: jsonl, or parquet (needs pyarrow).
        worker: which worker this is, such as "3/8" (numbered from 0); None: as torchrun, Slurm or Kubernetes say, or
            the only one.

    Returns:
        What this worker has done. A shard none of whose images can be read is not written, and is counted.

    Raises:
        InputError: if the manifest or the folder cannot be used, or the folder was begun with other settings. An image
            that cannot be read is no error: its row says why.

    Example:
        >>> from yolo_lite import Detector
        >>> _ = Path("list.txt").write_text("photo.jpg\\nmissing.jpg\\n")
        >>> detector = Detector("yolo_lite-pico-voc5", device="cpu", score_threshold=0.5)
        >>> summary = detect_manifest(detector, "list.txt", out="found")
        >>> summary.images, summary.errors, summary.shards
        (2, 1, 1)
        >>> Path("found/shard-000000.jsonl").read_text().splitlines()[1]
        '{"schema_version":1,"source":"missing.jpg","error":"missing.jpg does not exist"}'
    """
    size = None if shard_size is None else check_whole(shard_size, "shard_size")
    this = find_worker(os.environ) if worker is None else parse_worker(worker, "worker")
    job = Job(check_path(manifest, "manifest"), Path(check_path(out, "out")), shard_size=size, rows=rows)
    job.begin(detector)
    summary = Summary(this)
    job.run(detector, summary)
    return summary


def image_results(
    detector: BatchDetector, entries: Iterable[Entry], *, readers: int = 1
) -> Generator[ImageResult, None, None]:
    """Yield the result of each image, in order, while threads read the images of the next batch.

    Example:
        >>> from yolo_lite import Detector
        >>> detector = Detector("yolo_lite-pico-voc5", device="cpu", score_threshold=0.5)
        >>> [result.image_hw for result in image_results(detector, [Entry("photo", Path("photo.jpg"))])]
        [(600, 512)]
    """
    depth = Depth(detector.batch_size)

    def read(entry: Entry) -> tuple[Entry, Image | Windows | str]:
        if entry.error:
            return entry, entry.error
        try:
            image = _read(entry, detector)
        except InputError as error:
            return entry, str(error).replace(str(entry.path), entry.name)  # the same on machines with other mounts
        return entry, depth.fit(image)  # type: ignore[arg-type]

    with closing(in_order(read, entries, depth=depth, threads=readers)) as readable:
        for batch in in_lists(readable, detector.batch_size):
            yield from _batch_results(detector, batch)


def _batch_results(detector: BatchDetector, batch: list[tuple[Entry, Image | Windows | str]]) -> Iterator[ImageResult]:
    images = [image for _, image in batch if not isinstance(image, str)]
    detections = iter(detector(images) if images else [])
    for entry, image in batch:
        if isinstance(image, str):
            yield ImageResult(entry.name, error=image)
        else:
            yield ImageResult(entry.name, (image.shape[0], image.shape[1]), next(detections))


def _read(entry: Entry, detector: BatchDetector) -> Image | Windows:
    if entry.content is not None:
        return decode_image(entry.content, entry.name, max_16bit=detector.max_16bit)
    return (read_in_parts if detector.tiling else read_image)(entry.path, detector.max_16bit)


def detector_settings(detector: BatchDetector) -> dict[str, Any]:
    """Return what decides about the detections of a detector, as plain values.

    Example:
        >>> from yolo_lite import Detector
        >>> detector_settings(Detector("yolo_lite-pico-voc5", device="cpu"))["image_size"]
        [320, 320]
    """
    return {
        "name": detector.weights.name,
        "weights_sha256": _digest(detector.weights),
        "image_size": list(detector.image_size),
        "score_threshold": float(detector.score_threshold),
        "iou_threshold": float(detector.iou_threshold),
        "max_detections": int(detector.max_detections),
        "classes": None if detector.classes is None else list(detector.classes),
        "tiles": None if detector.tiling is None else str(detector.tiling),
        "tta": bool(getattr(detector, "tta", False)),
        "class_names": list(detector.class_names),
    }


def _digest(weights: Path) -> str:
    """Return the SHA-256 of weights: of both files of OpenVINO's format."""
    digest = hashlib.sha256()
    try:
        for path in (weights, weights.with_suffix(".bin")) if weights.suffix == ".xml" else (weights,):
            digest.update(path.read_bytes())
    except OSError as error:
        raise InputError(f"cannot read {weights}: {reason(error)}; a batch job needs weights from a file") from error
    return digest.hexdigest()


def _check_apart(manifest: str, out: Path) -> None:
    """Raise InputError if the results would be written among the images."""
    if os.path.isdir(manifest) and os.path.realpath(manifest) == os.path.realpath(out):
        raise InputError(f"{manifest} is the folder of the images; choose another --out")
