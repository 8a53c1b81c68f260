"""Exports that several tests share, since each takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="package")
def pico(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return yolo_lite-pico-voc5 as an ONNX file for 96 x 96."""
    from yolo_lite import export

    return export("yolo_lite-pico-voc5", tmp_path_factory.mktemp("exported") / "pico.onnx", image_size=96)
