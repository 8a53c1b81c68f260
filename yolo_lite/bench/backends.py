"""Measure trained weights as a checkpoint and as an exported file, side by side in one run."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from yolo_lite.errors import InputError
from yolo_lite.evaluation.detector import evaluate
from yolo_lite.evaluation.exported import evaluate_exported
from yolo_lite.exporting.export import SUFFIXES, export
from yolo_lite.media.images import read_image
from yolo_lite.predict.detector import Detector
from yolo_lite.predict.files import sample_image
from yolo_lite.runtime import Detector as ExportedDetector
from yolo_lite.shipped import find_weights
from yolo_lite.structures.geometry import resize_image

BACKENDS = ("torch", "onnx", "openvino")
_BATCH = 8
_START = {
    "torch": "import torch; torch.set_num_threads({threads}); from yolo_lite import Detector; "
    "find = Detector({path!r}, 'cpu', image_size={size})",
    "file": "from yolo_lite.runtime import Detector; find = Detector({path!r}, threads={threads})",
}
# VmHWM is the peak of this program alone; getrusage would count the process that started it, too.
_MEASURE = (
    "import numpy as np, time; find(np.zeros(({h}, {w}, 3), np.uint8)); "
    "peak = [line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')]; "
    "print(time.process_time(), int(peak[0]) / 1000)"
)


@dataclass(frozen=True)
class BackendReport:
    """The figures of one backend.

    Attributes:
        backend: torch, onnx or openvino.
        median_ms: of one image, from input pixels to detections.
        p95_ms: the 95th percentile.
        images_per_second: in batches of 8.
        start_seconds: CPU time of a new process up to its first detection.
        start_megabytes: the most memory that this process used.
        file_megabytes: size of the file.
        ap: on the validation split, at scores above 0.05 and the weights' IoU threshold; None without data.
    """

    backend: str
    median_ms: float
    p95_ms: float
    images_per_second: float
    start_seconds: float
    start_megabytes: float
    file_megabytes: float
    ap: float | None


def bench_backends(
    weights: str,
    backends: Sequence[str] = BACKENDS,
    *,
    image_size: tuple[int, int] | None = None,
    threads: int = 1,
    data: str | None = None,
    rounds: int = 5,
    say: Callable[[str], None] = lambda line: None,
) -> list[BackendReport]:
    """Measure a detector with several backends by turns, after a warm-up.

    Args:
        weights: a checkpoint or the bare name of a shipped one.
        backends: of BACKENDS.
        image_size: (height, width) of the input; None: that of the weights.
        threads: of the CPU.
        data: a data set whose validation split is scored; None: no AP.
        rounds: turns of each backend, of 10 images and 2 batches.
        say: receives progress.

    Raises:
        InputError: for an unknown backend, or weights that cannot be used.

    Example:
        >>> (report,) = bench_backends("yolo_lite-pico-voc5", ["torch"], image_size=(64, 64), rounds=1)
        >>> report.median_ms <= report.p95_ms, round(report.file_megabytes, 1)
        (True, 1.6)
    """
    for name in backends:
        if name not in BACKENDS:
            raise InputError(f"--backends must be some of {', '.join(BACKENDS)}, got {name!r}")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with TemporaryDirectory() as folder:
            return _measure(
                _opened(weights, backends, image_size=image_size, threads=threads, folder=Path(folder), say=say),
                threads=threads,
                data=data,
                rounds=rounds,
                say=say,
            )
    finally:
        torch.set_num_threads(before)


Opened = dict[str, tuple[Path, Any]]  # by backend the file and the detector


def _opened(
    weights: str,
    backends: Sequence[str],
    *,
    image_size: tuple[int, int] | None,
    threads: int,
    folder: Path,
    say: Callable[[str], None],
) -> Opened:
    source = find_weights(weights)
    opened: Opened = {}
    for name in backends:
        if name == "torch":
            opened[name] = (source, Detector(source, "cpu", image_size=image_size, score_threshold=0.05))
        else:
            say(f"exporting to {name}")
            file = export(source, folder / f"exported{SUFFIXES[name]}", format=name, image_size=image_size)
            opened[name] = (file, ExportedDetector(file, score_threshold=0.05, threads=threads))
    return opened


def _measure(
    opened: Opened, *, threads: int, data: str | None, rounds: int, say: Callable[[str], None]
) -> list[BackendReport]:
    times: dict[str, list[float]] = {name: [] for name in opened}
    batches: dict[str, list[float]] = {name: [] for name in opened}
    for number in range(rounds + 1):
        for name, (_, detector) in opened.items():
            image = resize_image(read_image(sample_image()), detector.image_size)
            repeats = 3 if number == 0 else 10
            single = [_seconds(detector, image) for _ in range(repeats)]
            several = [_seconds(detector, [image] * _BATCH) for _ in range(1 if number == 0 else 2)]
            if number:  # the first round warms up
                times[name] += single
                batches[name] += several
    reports = []
    for name, (file, detector) in opened.items():
        say(f"starting {name} anew")
        seconds, megabytes = _start(name, file, image_size=detector.image_size, threads=threads)
        reports.append(
            BackendReport(
                name,
                median_ms=statistics.median(times[name]) * 1e3,
                p95_ms=float(np.percentile(times[name], 95)) * 1e3,
                images_per_second=_BATCH / statistics.median(batches[name]),
                start_seconds=seconds,
                start_megabytes=megabytes,
                file_megabytes=_size(file) / 1e6,
                ap=None if data is None else _score(name, file, detector, data=data),
            )
        )
    return reports


def _size(file: Path) -> int:
    """Return the bytes of a file, with those of OpenVINO's weights beside it."""
    weights = [file.with_suffix(".bin")] if file.suffix == ".xml" else []
    return sum(part.stat().st_size for part in [file, *weights])


def _seconds(detector: Any, images: Any) -> float:
    start = time.perf_counter()
    detector(images)
    return time.perf_counter() - start


def _start(name: str, file: Path, *, image_size: tuple[int, int], threads: int) -> tuple[float, float]:
    """Return CPU seconds and megabytes of a new process up to its first detection."""
    height, width = image_size
    code = _START["torch" if name == "torch" else "file"].format(path=str(file), threads=threads, size=image_size)
    result = subprocess.run(
        [sys.executable, "-c", f"{code}; {_MEASURE.format(h=height, w=width)}"],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise InputError(f"a new process could not detect with {name}: {result.stderr.strip()[-300:]}")
    seconds, megabytes = result.stdout.split()
    return float(seconds), float(megabytes)


def _score(name: str, file: Path, detector: Any, *, data: str) -> float:
    if name != "torch":
        return evaluate_exported(file, data).metrics.numbers["AP"]
    settings = {
        "input.image_size": list(detector.image_size),
        "evaluate.score_threshold": 0.05,
        "evaluate.iou_threshold": detector.iou_threshold,
    }
    return evaluate(file, data, settings=settings, device="cpu").metrics.numbers["AP"]
