"""Measure `detect`: each of its stages alone, and all of them at work together."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from yolo_lite.draw.boxes import draw_detections
from yolo_lite.media.images import read_image
from yolo_lite.media.sources import Video, read_frames
from yolo_lite.media.writers import VideoWriter, write_image
from yolo_lite.predict.files import AnyDetector, detect_images, detect_video
from yolo_lite.structures.geometry import Image

STAGES = ("read", "detect", "draw", "write")


@dataclass(frozen=True)
class DetectReport:
    """Images or frames a second, as medians.

    Attributes:
        images: the number of images or frames.
        alone: of each of STAGES, when it works alone: read (and decode), detect (resizing and NMS included), draw,
            write (and encode).
        serial: of the stages one after the other.
        whole: of the whole run, in which they overlap.
    """

    images: int
    alone: dict[str, float]
    serial: float
    whole: float

    @property
    def slowest(self) -> str:
        """The stage with the lowest rate."""
        return min(self.alone, key=lambda stage: self.alone[stage])


def bench_detect(detector: AnyDetector, source: Sequence[Path] | Video, *, rounds: int = 3) -> DetectReport:
    """Measure detection in images or a video: by turns the stages alone and the whole run, after a warm-up.

    Args:
        detector: the detector to use.
        source: images that can be read, or a video.
        rounds: number of turns.

    Raises:
        InputError: if an image cannot be read.

    Example:
        >>> from yolo_lite.predict.detector import Detector
        >>> report = bench_detect(Detector("yolo_lite-pico-voc5", device="cpu"), [Path("photo.jpg")], rounds=1)
        >>> report.images, sorted(report.alone)
        (1, ['detect', 'draw', 'read', 'write'])
    """
    detector(list(islice(_images(detector, source), detector.batch_size)))
    turns: list[dict[str, float]] = []
    images = 0
    with TemporaryDirectory() as folder:
        for number in range(rounds):
            images, seconds = _stages(detector, source, Path(folder) / f"alone-{number}")
            started = time.perf_counter()
            _run(detector, source, Path(folder) / f"whole-{number}")
            turns.append({**seconds, "whole": time.perf_counter() - started, "serial": sum(seconds.values())})
    rates = {name: images / statistics.median(turn[name] for turn in turns) for name in turns[0]}
    return DetectReport(images, {stage: rates[stage] for stage in STAGES}, serial=rates["serial"], whole=rates["whole"])


def _stages(detector: AnyDetector, source: Sequence[Path] | Video, out: Path) -> tuple[int, dict[str, float]]:
    """Return the number of images, and the seconds that each stage takes for all of them."""
    seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def timed(stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        seconds[stage] += time.perf_counter() - started

    images, total = _images(detector, source), 0
    with _writing(source, out) as write:
        while True:
            with timed("read"):
                batch = list(islice(images, detector.batch_size))
            if not batch:
                return total, seconds
            with timed("detect"):
                found = detector(batch)
            with timed("draw"):
                copies = [draw_detections(image, detections) for image, detections in zip(batch, found)]
            with timed("write"):
                for copy in copies:
                    write(copy)
            total += len(batch)


def _images(detector: AnyDetector, source: Sequence[Path] | Video) -> Iterator[Image]:
    if isinstance(source, Video):
        return read_frames(source)
    return (read_image(path, detector.max_16bit) for path in source)


@contextmanager
def _writing(source: Sequence[Path] | Video, out: Path) -> Iterator[Callable[[Image], None]]:
    """Yield a function that writes the next annotated copy in the format that `detect` gives it."""
    out.mkdir()
    if isinstance(source, Video):
        with VideoWriter(out / "copy.mp4", source.fps, hw=source.hw) as writer:
            yield writer.write
    else:
        suffixes = (".png" if path.suffix.lower() == ".png" else ".jpg" for path in source)
        names = (out / f"{number}{suffix}" for number, suffix in zip(count(), suffixes))
        yield lambda image: write_image(next(names), image)


def _run(detector: AnyDetector, source: Sequence[Path] | Video, out: Path) -> None:
    if isinstance(source, Video):
        for _ in detect_video(detector, source, target=out / "copy.mp4"):
            pass
    else:
        for _ in detect_images(detector, source, out=out):
            pass
