"""The programs that run exported files: ONNX Runtime and OpenVINO. No other module imports them, and these only when used."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from yolo_lite.cores import core_limit
from yolo_lite.errors import InputError, reason
from yolo_lite.runtime.info import KEY

Shape = list[int | None]  # None for a side of any length


class Engine(Protocol):
    """An opened file.

    Attributes:
        text: its description, or None if it has none.
        inputs: name and shape of each uint8 input; the shape of another type is empty.
        outputs: their names.
    """

    text: str | None
    inputs: list[tuple[str, Shape]]
    outputs: list[str]

    def run(self, images: npt.NDArray[np.uint8]) -> list[npt.NDArray[Any]]:
        """Return the outputs for inputs."""


def open_engine(path: Path, threads: int) -> Engine:
    """Open a file with the program for its suffix; 0 threads stand for as many as the container has cores.

    Without a container's limit, the program chooses.

    Raises:
        InputError: if the suffix is unknown, the program is not installed, or the file is damaged.

    Example:
        >>> open_engine(Path("photo.jpg"), 1)
        Traceback (most recent call last):
        yolo_lite.errors.InputError: photo.jpg is not an exported file: expected .onnx or .xml
    """
    threads = threads or core_limit()
    if path.suffix.lower() == ".onnx":
        return _OnnxRuntime(path, threads)
    if path.suffix.lower() == ".xml":
        return _OpenVino(path, threads)
    raise InputError(f"{path} is not an exported file: expected .onnx or .xml")


def import_onnxruntime() -> Any:
    """Return the module onnxruntime, imported with its telemetry switched off.

    Since 1.29, its wheels send usage data to Microsoft and keep an identifier of the machine, unless ORT_DISABLE_TELEMETRY
    is set before the import. A value that you have set yourself is kept.

    Raises:
        InputError: if ONNX Runtime is not installed.

    Example:
        >>> import_onnxruntime().__name__  # doctest: +SKIP
        'onnxruntime'
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise InputError("exported files need ONNX Runtime: pip install onnxruntime") from error
    return onnxruntime


def import_openvino() -> Any:
    """Return the module openvino, imported without the telemetry package that it would import otherwise.

    Raises:
        InputError: if OpenVINO is not installed.

    Example:
        >>> import_openvino().__name__  # doctest: +SKIP
        'openvino'
    """
    blocked = "openvino_telemetry" not in sys.modules
    if blocked:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # OpenVINO has a stand-in for it
    try:
        import openvino
    except ImportError as error:
        raise InputError("an OpenVINO file needs OpenVINO: pip install openvino") from error
    finally:
        if blocked:
            del sys.modules["openvino_telemetry"]
    return openvino


class _OnnxRuntime:
    """An .onnx file in ONNX Runtime."""

    def __init__(self, path: Path, threads: int) -> None:
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4  # errors are raised
        options.enable_mem_pattern = False  # one more block of memory for each size of batch, and no faster
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # waiting threads sleep
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime's errors have no common type
            if isinstance(error, OSError):
                raise InputError(f"cannot read {path}: {reason(error)}") from error
            if "IR version" in str(error):
                raise InputError(
                    f"{path} needs a newer ONNX Runtime than {onnxruntime.__version__}: pip install 'onnxruntime>=1.18'"
                ) from error
            raise InputError(f"{path} is not an ONNX file, or is damaged") from error
        self.text = self._session.get_modelmeta().custom_metadata_map.get(KEY)
        self.inputs = [
            (node.name, _sides(node.shape, node.type == "tensor(uint8)")) for node in self._session.get_inputs()
        ]
        self.outputs = [node.name for node in self._session.get_outputs()]

    def run(self, images: npt.NDArray[np.uint8]) -> list[npt.NDArray[Any]]:
        outputs: list[npt.NDArray[Any]] = self._session.run(None, {"images": images})
        return outputs


class _OpenVino:
    """An .xml file, with its .bin beside it, in OpenVINO; it computes in float32 on every CPU."""

    def __init__(self, path: Path, threads: int) -> None:
        openvino = import_openvino()
        core, settings = openvino.Core(), {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if threads:
            settings["INFERENCE_NUM_THREADS"] = str(threads)
        if not path.with_suffix(".bin").is_file():
            raise InputError(f"{path} needs its weights {path.with_suffix('.bin').name} beside it, which do not exist")
        try:
            model = core.read_model(str(path))
            self._model = core.compile_model(model, "CPU", settings)
        except Exception as error:  # OpenVINO's errors have no common type
            raise InputError(f"{path} is not an OpenVINO file, or is damaged") from error
        self.text = str(model.get_rt_info([KEY]).value) if model.has_rt_info([KEY]) else None
        self.inputs = [
            (
                node.get_any_name(),
                _sides(
                    [side.get_length() if side.is_static else None for side in node.partial_shape],
                    node.get_element_type() == openvino.Type.u8,
                ),
            )
            for node in model.inputs
        ]
        self.outputs = [node.get_any_name() for node in model.outputs]

    def run(self, images: npt.NDArray[np.uint8]) -> list[npt.NDArray[Any]]:
        results = self._model({"images": images})
        return [np.array(results[node]) for node in self._model.outputs]


def _sides(shape: Any, is_uint8: bool) -> Shape:
    return [side if isinstance(side, int) else None for side in shape] if is_uint8 else []
