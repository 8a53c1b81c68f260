"""Open an exported file, check that it is what it says, and run it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolo_lite.errors import InputError
from yolo_lite.runtime.engines import Engine, open_engine
from yolo_lite.runtime.info import KEY, ExportInfo

OUTPUTS = {"detect": ["boxes", "scores", "labels", "counts"], "classify": ["scores"]}
RAW_OUTPUTS = ["boxes", "scores"]


class Session:
    """An exported file, ready to run on the CPU.

    Args:
        path: an .onnx file, or an .xml file of OpenVINO.
        threads: 0 for as many as the program that runs it chooses.
        engine: the opened file; None: the file is opened with the program for its suffix.

    Attributes:
        info: what the file says about itself.
        batch: the number of images that it takes at once; None for any number.

    Raises:
        InputError: if the program is not installed, or the file is missing, damaged, of another program, of a newer
            format, or not what its metadata says.

    Example:
        >>> Session(Path("photo.jpg"))
        Traceback (most recent call last):
        yolo_lite.errors.InputError: photo.jpg is not an exported file: expected .onnx or .xml
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 0, engine: Engine | None = None) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(
                f"{path} does not exist" if not self.path.exists() else f"{path} is a folder, expected a file"
            )
        self._engine = engine or open_engine(self.path, threads)
        if self._engine.text is None:
            raise InputError(f"{path} was not exported by yolo_lite: it lacks the metadata {KEY!r}")
        self.info = ExportInfo.from_text(self._engine.text, str(path))
        self._check_interface()
        self.batch = self._engine.inputs[0][1][0]

    def run(self, images: npt.NDArray[np.uint8]) -> list[npt.NDArray[Any]]:
        """Run the network on inputs, uint8 [B, H, W, channels], and return its outputs.

        Raises:
            InputError: if the file cannot be run on them, as with more images than it takes.
        """
        count = len(images)
        if self.batch and count < self.batch:  # a file for a fixed number of images
            images = np.concatenate([images, np.zeros((self.batch - count, *images.shape[1:]), np.uint8)])
        try:
            outputs = self._engine.run(np.ascontiguousarray(images))
        except Exception as error:  # the errors of these programs have no common type
            raise InputError(f"{self.path} cannot be run on {list(images.shape)}: {_line(error)}") from error
        return [output[:count] for output in outputs]

    def _check_interface(self) -> None:
        """Compare inputs and outputs with the metadata."""
        info, inputs, outputs = self.info, self._engine.inputs, self._engine.outputs
        expected = RAW_OUTPUTS if info.raw else OUTPUTS[info.task]
        shape = [*info.image_size, info.channels]
        if len(inputs) != 1 or inputs[0][0] != "images" or inputs[0][1][1:] != shape:
            raise InputError(f"{self.path}: its input is not uint8 images of {shape}, as its metadata says")
        if outputs != expected:
            raise InputError(f"{self.path}: its outputs are {outputs}, expected {expected}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
