"""Turn an ONNX file into OpenVINO's two files."""

from __future__ import annotations

from pathlib import Path

from yolo_lite.runtime.engines import import_openvino
from yolo_lite.runtime.info import KEY


def write_openvino(onnx_file: Path, path: Path, *, text: str) -> None:
    """Write an ONNX file as an .xml file for OpenVINO, and its weights as a .bin file beside it.

    Weights keep the precision that they are stored in.

    Args:
        onnx_file: from `write_onnx`.
        path: the .xml file.
        text: the description that goes into the file.

    Raises:
        InputError: if OpenVINO is not installed.

    Example:
        >>> from yolo_lite.exporting.onnx import write_onnx
        >>> import torch
        >>> class Double(torch.nn.Module):
        ...     def forward(self, images):
        ...         return images.float() * 2
        >>> write_onnx(Double(), Path("two.onnx"), shape=(2, 2, 1), outputs=["twice"], batch=None, text="{}")
        >>> write_openvino(Path("two.onnx"), Path("two.xml"), text="{}")  # doctest: +SKIP
        >>> Path("two.bin").exists()  # doctest: +SKIP
        True
    """
    openvino = import_openvino()
    model = openvino.Core().read_model(str(onnx_file))
    model.set_rt_info(text, [KEY])
    openvino.save_model(model, str(path), compress_to_fp16=False)
