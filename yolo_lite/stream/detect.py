"""Detect in a stream: frames of any sources in, small results out, with constant memory."""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Any, Protocol

from yolo_lite.checks import check_path, check_whole
from yolo_lite.errors import InputError
from yolo_lite.media.sources import Video, batches, in_lists, read_frames
from yolo_lite.stream.addresses import (
    Address,
    Camera,
    ImageFiles,
    Network,
    StandardInput,
    VideoFile,
    find_addresses,
    image_paths,
)
from yolo_lite.stream.capture import Limits
from yolo_lite.stream.clock import Clock
from yolo_lite.stream.files import file_frames
from yolo_lite.stream.readers import FileReader, LiveReader, Reader, Say, Shared, take_turns
from yolo_lite.structures.frames import DetectedFrame, Frame
from yolo_lite.structures.results import Detections

Source = str | os.PathLike[str] | int | Video | Address
USUAL = Limits()


class ImageDetector(Protocol):
    """What a stream asks of a detector."""

    batch_size: int
    max_16bit: int

    def __call__(self, images: list[Any]) -> list[Detections]:
        """Return the detections in each image."""


def stream_detections(
    detector: ImageDetector,
    source: Source | Sequence[Source],
    *,
    images: bool = False,
    every_frame: bool = False,
    limits: Limits = USUAL,
    say: Say = lambda line: None,
) -> Generator[DetectedFrame, None, None]:
    """Yield the detections in each frame of a source, or of several sources in turn.

    Files and recordings are read completely, and frames of a video are processed in batches. Of a live source the newest
    frame is taken, and those that came while the detector was busy are dropped.

    Args:
        detector: the detector.
        source: a path or pattern, a camera number, a URL, a list of sources (.txt), - for standard input, what
            `find_addresses` returns, or several of these.
        images: whether the results keep the frames.
        every_frame: whether to process every frame of a live source too; its lag then grows if the detector is slower.
        limits: time limits.
        say: called with a line when a source is lost and when it is back, and for each file that is skipped.

    Raises:
        InputError: if a source does not exist, or cannot be opened; after the last frame, if a video ends early.

    Example:
        >>> from yolo_lite import Detector
        >>> detector = Detector("yolo_lite-shuffle-coco", device="cpu", score_threshold=0.6)
        >>> [(result.source, result.detections.names) for result in stream_detections(detector, "photo.jpg")]
        [('photo.jpg', ['person'])]
    """
    addresses = _with_images_together(_addresses(source, say))
    if len(addresses) == 1 and not isinstance(addresses[0], Camera | Network):
        yield from _of_files(detector, addresses[0], images=images, limit=limits.total, say=say)
        return
    shared = Shared(say=say)
    readers: list[Reader] = []
    for address in addresses:
        if isinstance(address, Camera | Network):
            patient = len(addresses) > 1
            readers.append(LiveReader(address, shared, limits=limits, every_frame=every_frame, patient=patient))
        else:
            frames = file_frames(address, max_16bit=detector.max_16bit, clock=shared.clock, say=say)
            readers.append(FileReader(address.name, frames, shared=shared))
    with closing(take_turns(readers, shared, limit=limits.total)) as turns:
        for frame in turns:
            (detections,) = detector([frame.image])
            lag = shared.clock.monotonic() - frame.time if frame.live else 0.0
            yield _result(frame, detections, images=images, lag=lag)


def _addresses(source: Source | Sequence[Source], say: Say) -> list[Address]:
    sources = source if isinstance(source, list | tuple) else [source]
    if not sources:
        raise InputError("source is empty; pass a path, a camera number, a URL, or a list of these")
    addresses: list[Address] = []
    texts: list[str] = []
    for item in sources:
        if isinstance(item, Video):
            addresses.append(VideoFile(item, str(item.path)))
        elif isinstance(item, Address):
            addresses.append(item)
        elif isinstance(item, str | os.PathLike):
            texts.append(check_path(item, "source"))
        else:
            texts.append(str(check_whole(item, "source", minimum=0)))
    return [*addresses, *find_addresses(texts, say=say)]


def _with_images_together(addresses: Sequence[Address]) -> list[Address]:
    """Return the addresses with all image files in one, in the place of the first: they fail only if none can be read."""
    groups = [address for address in addresses if isinstance(address, ImageFiles)]
    if len(groups) < 2:
        return list(addresses)
    first = groups[0]
    together = ImageFiles(tuple(image_paths(addresses)), f"{first.name} and {len(groups) - 1} more")
    return [
        together if address is first else address
        for address in addresses
        if address is first or not isinstance(address, ImageFiles)
    ]


def _of_files(
    detector: ImageDetector,
    address: VideoFile | ImageFiles | StandardInput,
    *,
    images: bool,
    limit: float,
    say: Say,
) -> Generator[DetectedFrame, None, None]:
    """Yield the results of a source that ends, whose frames are processed in batches of a fixed size."""
    clock = Clock()
    end = clock.monotonic() + limit
    # Whatever writes to standard input may be live, and must not wait for a batch.
    size = 1 if isinstance(address, StandardInput) else detector.batch_size
    frames = file_frames(address, max_16bit=detector.max_16bit, clock=clock, say=say)
    grouped = _video_batches(address, size, clock) if isinstance(address, VideoFile) else in_lists(frames, size)
    with closing(grouped) as groups:
        for group in groups:
            for frame, detections in zip(group, detector([frame.image for frame in group])):
                yield _result(frame, detections, images=images)
            if clock.monotonic() >= end:
                return


def _video_batches(address: VideoFile, size: int, clock: Clock) -> Generator[list[Frame], None, None]:
    """Yield batches of the frames of a video, which a thread reads ahead."""
    count, fps = 0, address.video.fps
    for images in batches(read_frames(address.video), size):
        now = clock.wall()
        yield [
            Frame(address.name, number, number / fps, now, image=image) for number, image in enumerate(images, count)
        ]
        count += len(images)


def _result(frame: Frame, detections: Detections, *, images: bool, lag: float = 0.0) -> DetectedFrame:
    return DetectedFrame(
        frame.source,
        frame.number,
        frame.time,
        frame.captured_at,
        detections,
        image_hw=(frame.image.shape[0], frame.image.shape[1]),
        image=frame.image if images else None,
        dropped=frame.dropped,
        reconnects=frame.reconnects,
        live=frame.live,
        still=frame.still,
        lag=lag,
    )
