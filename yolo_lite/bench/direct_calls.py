"""Direct calls of a detector in a process of their own, to compare `yolo-lite serve` with."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yolo_lite.bench.clients import comparable
from yolo_lite.bench.peers import answer_calls
from yolo_lite.media.images import read_image
from yolo_lite.messages.frame import encode_frame
from yolo_lite.structures.frames import DetectedFrame


class DirectCalls:
    """A detector and images: what a program does that calls the detector itself.

    Args:
        detector: of a checkpoint or an exported file.
        files: images.
    """

    def __init__(self, detector: Any, files: Sequence[str]) -> None:
        self._detector, self._files = detector, [Path(file) for file in files]

    def answers(self) -> list[str]:
        """Return for each image what `comparable` returns of the server's answer."""
        texts = []
        for file in self._files:
            image = self._read(file)
            frame = DetectedFrame("", 0, 0.0, 0.0, self._detector(image), image_hw=image.shape[:2])
            texts.append(comparable(encode_frame(frame)))
        return texts

    def single(self) -> list[float]:
        """Read, decode and detect in each image, one after the other; return the milliseconds of each."""
        milliseconds = []
        for file in self._files:
            started = time.perf_counter()
            self._detector(self._read(file))
            milliseconds.append((time.perf_counter() - started) * 1e3)
        return milliseconds

    def batched(self, images: Sequence[int]) -> dict[str, float]:
        """Read, decode and detect in images, a batch at a time; return the seconds, and those of the CPU."""
        size = self._detector.batch_size
        started, cpu = time.perf_counter(), time.process_time()
        for first in range(0, len(images), size):
            self._detector([self._read(self._files[number]) for number in images[first : first + size]])
        return {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}

    def _read(self, file: Path) -> Any:
        return read_image(file, self._detector.max_16bit)


def open_detector(weights: str, device: str, *, batch_size: int, threads: int) -> Any:
    """Open a detector as `yolo-lite serve` does.

    Args:
        weights: a checkpoint, an exported file, or the name of a shipped checkpoint.
        device: as for `Detector`; an exported file runs on the CPU.
        batch_size: number of images in a batch.
        threads: of the CPU; 0 for as many as torch or ONNX Runtime chooses.

    Raises:
        InputError: if it cannot be opened.

    Example:
        >>> open_detector("yolo_lite-pico-voc5", "cpu", batch_size=4, threads=0).batch_size
        4
    """
    if weights.lower().endswith((".onnx", ".xml")):
        from yolo_lite.runtime import Detector as ExportedDetector

        return ExportedDetector(weights, batch_size=batch_size, threads=threads)
    import torch

    from yolo_lite.predict.detector import Detector

    if threads:
        torch.set_num_threads(threads)
    return Detector(weights, device, batch_size=batch_size)


def main() -> None:
    """Answer the calls of `bench serve`.

    Example:
        >>> main()  # doctest: +SKIP
    """
    opened: list[DirectCalls] = []

    def open(files: list[str], **settings: Any) -> list[str]:
        opened[:] = [DirectCalls(open_detector(**settings), files)]
        return opened[0].answers()

    answer_calls(
        {
            "open": open,
            "single": lambda: opened[0].single(),
            "batched": lambda images: opened[0].batched(images),
        }
    )


if __name__ == "__main__":
    main()
