"""The one module that imports ONNX Runtime: opens exported files and runs them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolo_lite.errors import InputError, reason
from yolo_lite.runtime.info import KEY, ExportInfo

OUTPUTS = {"detect": ["boxes", "scores", "labels", "counts"], "classify": ["scores"]}
RAW_OUTPUTS = ["boxes", "scores"]


class Session:
    """An exported file, ready to run on the CPU.

    Args:
        path: the file.
        threads: 0 for as many as ONNX Runtime chooses.

    Raises:
        InputError: if ONNX Runtime is not installed, or the file is missing, damaged, of another program, of a newer
            format, or not what its metadata says.

    Example:
        >>> Session(Path("photo.jpg"))
        Traceback (most recent call last):
        yolo_lite.errors.InputError: photo.jpg is not an ONNX file, or is damaged
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int = 0) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(
                f"{path} does not exist" if not self.path.exists() else f"{path} is a folder, expected a file"
            )
        self._session = _open(self.path, threads)
        text = self._session.get_modelmeta().custom_metadata_map.get(KEY)
        if text is None:
            raise InputError(f"{path} was not exported by yolo_lite: it lacks the metadata {KEY!r}")
        self.info = ExportInfo.from_text(text, str(path))
        self._check_interface()

    def run(self, images: npt.NDArray[np.uint8]) -> list[npt.NDArray[Any]]:
        """Run the network on inputs, uint8 [B, H, W, channels], and return its outputs.

        Raises:
            InputError: if ONNX Runtime refuses, as with more images than a file for one image takes.
        """
        count = len(images)
        if self.batch and count < self.batch:  # a file for a fixed number of images
            images = np.concatenate([images, np.zeros((self.batch - count, *images.shape[1:]), np.uint8)])
        try:
            outputs: list[npt.NDArray[Any]] = self._session.run(None, {"images": np.ascontiguousarray(images)})
        except Exception as error:  # ONNX Runtime's errors have no common type
            raise InputError(f"{self.path} cannot be run on {list(images.shape)}: {_line(error)}") from error
        return [output[:count] for output in outputs]

    @property
    def batch(self) -> int | None:
        """The number of images that the file takes at once; None for any number."""
        size = self._session.get_inputs()[0].shape[0]
        return size if isinstance(size, int) else None

    def _check_interface(self) -> None:
        """Compare inputs and outputs with the metadata."""
        info = self.info
        expected = RAW_OUTPUTS if info.raw else OUTPUTS[info.task]
        inputs, outputs = self._session.get_inputs(), [output.name for output in self._session.get_outputs()]
        shape = [*info.image_size, info.channels]
        if (
            len(inputs) != 1
            or inputs[0].name != "images"
            or inputs[0].type != "tensor(uint8)"
            or list(inputs[0].shape[1:]) != shape
        ):
            raise InputError(f"{self.path}: its input is not uint8 images of {shape}, as its metadata says")
        if outputs != expected:
            raise InputError(f"{self.path}: its outputs are {outputs}, expected {expected}")


def _open(path: Path, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError("exported files need ONNX Runtime: pip install onnxruntime") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # errors are raised
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads sleep
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors have no common type
        if isinstance(error, OSError):
            raise InputError(f"cannot read {path}: {reason(error)}") from error
        raise InputError(f"{path} is not an ONNX file, or is damaged") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
